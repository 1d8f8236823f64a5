//! The command line: one file per command. Errors are printed once, here.

pub mod agent;
pub mod completion;
pub mod configtest;
pub mod configuration;
pub mod container;
pub mod flags;
pub mod health;
pub mod init;
pub mod once;
pub mod parse;
pub mod plugin;
pub mod queue;
pub mod retire;
pub mod status;
pub mod supervise;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use flags::Command;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use wasaba_core::text::safe_lines;

use crate::process::{log, privacy};

/// Runs the program.
///
/// Exit codes as with the official agent: 0 success, 1 error, 2 invalid command line. `wasaba status` has its own.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    crate::process::footprint::prepare();
    privacy::conceal_environment();
    let line = match parse::parse(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is not an error; clap knows which is which. A closed pipe is not a failure.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // The compiler has no secrets, and confines itself.
    if !matches!(line.command, Some(Command::Plugin(flags::PluginCommand::Compiler { .. }))) {
        privacy::hide_memory();
    }
    let _last_lines = log::LastLines;
    let result = match line.command {
        None => agent::run(&line.agent),
        Some(Command::Run(agent)) => agent::run(&agent),
        Some(Command::Configtest(agent)) => configtest::run(&agent),
        Some(Command::Init { conf, apikey, apibase }) => {
            init::run(&conf, apikey.as_deref().unwrap_or_default(), apibase.as_deref())
        }
        Some(Command::Once(agent)) => once::run(&agent),
        Some(Command::Retire { agent, force }) => retire::run(&agent, force),
        Some(Command::Container(agent)) => container::run(&agent),
        Some(Command::Health(agent)) => health::run(&agent),
        Some(Command::Queue(command)) => queue::run(&command),
        Some(Command::Status { agent, json }) => return ExitCode::from(status::run(&agent, json)),
        Some(Command::Supervise(agent)) => supervise::run(&agent),
        Some(Command::Completion { shell }) => print(&shell.script()),
        Some(Command::Plugin(command)) => plugin::run(command),
        Some(Command::Version) => print(&version()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            log::print(&format!("{text}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Why a command that posts cannot run.
const NO_API_KEY: &str = "no API key: set `apikey` in the configuration, or pass -apikey";

fn version() -> String {
    format!("wasaba {} (rev {}) [linux {}]\n", crate::VERSION, crate::REVISION, std::env::consts::ARCH)
}

/// Prints a command's result, with control characters escaped, since a plugin's text may be in it. A reader that has closed the
/// pipe is not an error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(safe_lines(text).as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// The runtime of every command: one thread, and more for blocking work. Idle ones are kept for more than a minute: creating them
/// again each minute would be a third of the agent's CPU time.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let cannot = |error| format!("cannot start: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(75))
        .thread_stack_size(wasaba_core::WORKER_STACK_BYTES)
        .max_blocking_threads(64) // a hung file system holds one
        .build()
        .map_err(cannot)?;
    {
        let _inside = runtime.enter();
        survive_limit_of_file_sizes().map_err(cannot)?;
    }
    Ok(runtime)
}

/// From now on a write beyond the limit of file sizes (RLIMIT_FSIZE) fails, as on a full disk, and does not kill the process. By a handler,
/// which stays; were the signal ignored, so would it be in each program that is started.
fn survive_limit_of_file_sizes() -> std::io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_of_a_file_that_may_not_grow_does_not_end_the_process() {
        let _runtime = runtime().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), Signal::XFSZ).unwrap();
    }
}
