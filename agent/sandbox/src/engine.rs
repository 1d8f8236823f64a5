//! The engine: how components are compiled and run, with native code or without.
//!
//! Pulley, wasmtime's interpreter, is the default: a call a minute does not need native code, and the agent then needs no
//! executable memory, so it runs under `MemoryDenyWriteExecute`.

use wasaba_core::limits::Engine;
use wasmtime::{Config, Result};

/// An engine that runs what [`for_compiling`] made, with this much stack for each plugin, and cannot compile
/// itself.
///
/// # Errors
/// A machine on which wasmtime cannot run.
pub fn for_running(kind: Engine, stack_bytes: usize) -> Result<wasmtime::Engine> {
    let mut config = config(kind)?;
    config.enable_compiler(false);
    // The rest of the stack is for the host's functions.
    config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes.saturating_add(256 << 10));
    wasmtime::Engine::new(&config)
}

/// An engine that compiles. Only for the child process that does nothing else.
///
/// # Errors
/// As [`for_running`].
pub fn for_compiling(kind: Engine) -> Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config(kind)?)
}

/// Both engines must agree on everything that is compiled into the code.
fn config(kind: Engine) -> Result<Config> {
    let mut config = Config::new();
    if kind == Engine::Pulley {
        config.target(if cfg!(target_pointer_width = "64") { "pulley64" } else { "pulley32" })?;
    }
    // A loop that never ends is interrupted by the epoch; see `sandbox`.
    config.epoch_interruption(true);
    // Plugins are small: 4 GiB of address space for each memory would only trip `ulimit -v` and small machines. What
    // fits these 64 MiB grows in place.
    config.memory_reservation(64 << 20).memory_guard_size(0).memory_reservation_for_growth(1 << 20);
    // The texts of traps need no line numbers, and these tables would be half of the compiled file.
    config.generate_address_map(false).wasm_backtrace_max_frames(None).native_unwind_info(false);
    // The proposals that no plugin needs stay closed: each is a way to be attacked. JavaScript needs tail calls.
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
