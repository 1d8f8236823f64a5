//! The engine's configuration: how components are compiled and run, as native code or interpreted.
//!
//! Pulley, wasmtime's interpreter, is the default: a call a minute does not need native code, and the agent then needs no
//! executable memory, so it runs under `MemoryDenyWriteExecute`.

use wasaba_core::limits::Engine;
use wasmtime::{Config, Result};

/// An engine that runs what [`for_compiling`] has compiled, with this much stack for each plugin. It cannot compile.
///
/// # Errors
/// wasmtime does not support this machine.
pub(crate) fn for_running(kind: Engine, stack_bytes: usize) -> Result<wasmtime::Engine> {
    let mut config = config(kind)?;
    config.enable_compiler(false);
    // The rest of the stack is for the host's functions.
    config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes.saturating_add(256 << 10));
    wasmtime::Engine::new(&config)
}

/// An engine that compiles, for the child process that does nothing else.
///
/// # Errors
/// As [`for_running`].
pub(crate) fn for_compiling(kind: Engine) -> Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config(kind)?)
}

/// What both engines must agree on: everything that affects the code.
fn config(kind: Engine) -> Result<Config> {
    let mut config = Config::new();
    if kind == Engine::Pulley {
        config.target(if cfg!(target_pointer_width = "64") { "pulley64" } else { "pulley32" })?;
    }
    // An endless loop is interrupted by the epoch; see `thread`.
    config.epoch_interruption(true);
    // Plugins are small: 4 GiB of address space for each memory would only exceed `ulimit -v` and small machines. A memory
    // grows in place up to 64 MiB.
    config.memory_reservation(64 << 20).memory_guard_size(0).memory_reservation_for_growth(1 << 20);
    // Traps are reported without line numbers; their tables would be half of the compiled file.
    config.generate_address_map(false).wasm_backtrace_max_frames(None).native_unwind_info(false);
    // Proposals that no plugin needs are off: each adds attack surface. JavaScript needs tail calls, which stay on.
    config.wasm_relaxed_simd(false).wasm_memory64(false).wasm_wide_arithmetic(false);
    config.concurrency_support(false);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_runs_cannot_compile() {
        for engine in Engine::ALL {
            assert!(
                for_running(*engine, 256 << 10).unwrap().precompile_component(b"\0asm\x0d\0\x01\0").is_err(),
                "{engine}"
            );
            assert!(for_compiling(*engine).unwrap().precompile_component(b"\0asm\x0d\0\x01\0").is_ok(), "{engine}");
        }
    }
}
