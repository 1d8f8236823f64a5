//! The command line: one file a command. An error is printed once, here.

pub mod agent;
pub mod flags;
pub mod once;
pub mod plugin_inspect;
pub mod plugin_run;
pub mod plugin_time;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::plugins::loader::Loader;
use flags::{Command, PluginCommand};

/// Runs the program.
///
/// Exit codes as with the official agent: 0 well, 1 an error, 2 a wrong command line.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let line = match flags::parse(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is no error; clap knows which is which. A closed pipe is no reason to fail.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match line.command {
        None => agent::run(&line.agent),
        Some(Command::Once(agent)) => once::run(&agent),
        Some(Command::Plugin(PluginCommand::Run { agent, plugin, settings })) => {
            plugin_run::run(&agent, &plugin, &settings)
        }
        Some(Command::Plugin(PluginCommand::Inspect { agent, plugin })) => plugin_inspect::run(&agent, &plugin),
        Some(Command::Plugin(PluginCommand::Time { agent, engine, calls, plugin, settings })) => {
            plugin_time::run(&agent, &engine, calls, &plugin, &settings)
        }
        Some(Command::Plugin(PluginCommand::Compile { engine })) => compile(&engine),
        Some(Command::Version) => print(&version()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            writeln!(std::io::stderr(), "{text}").ok();
            ExitCode::FAILURE
        }
    }
}

fn version() -> String {
    format!("wasaba {} (rev {}) [linux {}]\n", crate::VERSION, crate::REVISION, std::env::consts::ARCH)
}

fn compile(engine: &str) -> Result<(), String> {
    let engine = crate::plugins::engine::Engine::named(engine).ok_or("no such engine")?;
    crate::plugins::compile::compile(engine, std::io::stdin().lock(), std::io::stdout().lock())
}

/// Prints a command's result. A reader that has gone away is no error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// The runtime of every command: one thread, and more for what blocks. Those wait a minute for more to do: making them anew
/// would be a third of the CPU time that the agent takes.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(75))
        .thread_stack_size(256 << 10)
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

/// The plugin that the command line calls `wanted`: a file that is there, or a name as the configuration has it.
fn plugin_file(loader: &Loader, wanted: &str) -> Result<PathBuf, String> {
    if wanted.ends_with(".wasm") && Path::new(wanted).is_file() {
        return Ok(wanted.into());
    }
    loader.folders.find(wanted)
}

fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
