//! The engine: how components are compiled and run, with native code or without.
//!
//! Pulley, wasmtime's interpreter, is the default: a call a minute does not need native code, and the agent then needs no
//! executable memory, so it runs under `MemoryDenyWriteExecute`.

use std::fmt;

use wasmtime::{Config, Result};

/// What runs a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The interpreter.
    #[default]
    Pulley,
    /// Native code; for plugins that compute much. Needs executable memory.
    Native,
}

impl Engine {
    /// Each engine, for lists of what is valid.
    pub const ALL: &[Self] = &[Self::Pulley, Self::Native];

    /// The engine of this name, as in `engine = "native"`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|engine| engine.name() == name)
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pulley => "pulley",
            Self::Native => "native",
        }
    }

    /// An engine that runs what [`Engine::for_compiling`] made, with this much stack for each plugin, and cannot compile
    /// itself.
    ///
    /// # Errors
    /// A machine on which wasmtime cannot run.
    pub fn for_running(self, stack_bytes: usize) -> Result<wasmtime::Engine> {
        let mut config = self.config()?;
        config.enable_compiler(false);
        // The rest of the stack is for the host's functions.
        config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes.saturating_add(256 << 10));
        wasmtime::Engine::new(&config)
    }

    /// An engine that compiles. Only for the child process that does nothing else.
    ///
    /// # Errors
    /// As [`Engine::for_running`].
    pub fn for_compiling(self) -> Result<wasmtime::Engine> {
        wasmtime::Engine::new(&self.config()?)
    }

    /// Both engines must agree on everything that is compiled into the code.
    fn config(self) -> Result<Config> {
        let mut config = Config::new();
        if self == Self::Pulley {
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
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_runs_cannot_compile() {
        for engine in Engine::ALL {
            assert!(
                engine.for_running(256 << 10).unwrap().precompile_component(b"\0asm\x0d\0\x01\0").is_err(),
                "{engine}"
            );
            assert!(engine.for_compiling().unwrap().precompile_component(b"\0asm\x0d\0\x01\0").is_ok(), "{engine}");
        }
    }
}
