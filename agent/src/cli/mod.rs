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
pub mod support;
pub mod top;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use flags::{AgentFlags, Command, Line, PluginCommand, QueueCommand};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use wasaba_core::text::safe_lines;

use crate::process::look::{self, Ended};
use crate::process::{confinement, log, privacy};

/// How long a file system may take to answer a command that only looks.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// The same for `wasaba health`: shorter than the timeout of a container's health check.
const HEALTH_PATIENCE: Duration = Duration::from_secs(4);

/// Runs the program.
///
/// Exit codes as with the official agent: 0 success, 1 error, 2 invalid command line. `wasaba status` has its own.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    crate::process::footprint::prepare();
    privacy::conceal_environment();
    let line = match parse::parse(arguments.clone()) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is not an error; clap knows which is which. A closed pipe is not a failure.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // The compiler has no secrets, and confines itself.
    if !matches!(line.command, Some(Command::Plugin(PluginCommand::Compiler { .. }))) {
        privacy::hide_memory();
    }
    if let Some(code) = line.command.as_ref().and_then(|command| look(&arguments, command)) {
        return ExitCode::from(code);
    }
    let code = run(line);
    look::done(code);
    ExitCode::from(code)
}

/// Runs a command that only looks in a child process. `None` if it is another one, if this is that child, or if there can be none.
fn look(arguments: &[OsString], command: &Command) -> Option<u8> {
    let (flags, words, patience) = match command {
        Command::Health(flags) => (flags, 1, HEALTH_PATIENCE),
        Command::Status { agent, .. } | Command::Configtest(agent) => (agent, 1, LOOK_PATIENCE),
        Command::Queue(QueueCommand::Show(flags) | QueueCommand::Verify(flags) | QueueCommand::Export(flags)) => {
            (flags, 2, LOOK_PATIENCE)
        }
        Command::Plugin(PluginCommand::List { agent, .. }) => (agent, 2, LOOK_PATIENCE),
        _ => return None,
    };
    if flags.look {
        look::is_child();
        return None;
    }
    let (mut output, mut errors) = (std::io::stdout(), std::io::stderr());
    let ended = look::watch(look::again(arguments, words), patience, &mut output, &mut errors);
    Some(match (ended.ok()?, command) {
        (Ended::With(code), _) => code,
        (Ended::Abandoned(why) | Ended::Failed(why), Command::Status { json, .. }) => {
            status::unanswered(&why, *json, 1)
        }
        (Ended::Abandoned(why) | Ended::Failed(why), _) => {
            log::print(&format!("{why}\n"));
            1
        }
    })
}

/// Runs the command, or the agent. Returns the exit code.
fn run(line: Line) -> u8 {
    let _last_lines = log::LastLines;
    let result = match line.command {
        None => return run_agent(&line.agent),
        Some(Command::Run(agent)) => return run_agent(&agent),
        Some(Command::Configtest(agent)) => configtest::run(&agent),
        Some(Command::Init { conf, apikey, apibase }) => {
            init::run(&conf, apikey.as_deref().unwrap_or_default(), apibase.as_deref())
        }
        Some(Command::Once(agent)) => once::run(&agent),
        Some(Command::Retire { agent, force }) => retire::run(&agent, force),
        Some(Command::Container(agent)) => container::run(&agent),
        Some(Command::Health(agent)) => health::run(&agent),
        Some(Command::Queue(command)) => queue::run(&command),
        Some(Command::Status { agent, json }) => return status::run(&agent, json),
        Some(Command::Top { agent, once }) => return top::run(&agent, once),
        Some(Command::Supervise(agent)) => supervise::run(&agent),
        Some(Command::Support { agent, output }) => support::run(&agent, output.as_deref()),
        Some(Command::Completion { shell }) => print(&shell.script()),
        Some(Command::Plugin(command)) => plugin::run(command),
        Some(Command::Version) => print(&version()),
    };
    code(result.map(|()| 0))
}

fn run_agent(flags: &AgentFlags) -> u8 {
    code(agent::run(flags).map(|ended| match ended {
        agent::Ended::Stopped => 0,
        agent::Ended::ToRestart => confinement::RESTART,
    }))
}

/// The exit code of a result, whose error is printed.
fn code(result: Result<u8, String>) -> u8 {
    match result {
        Ok(code) => code,
        Err(text) => {
            log::print(&format!("{text}\n"));
            1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_of_a_file_that_may_not_grow_does_not_end_the_process() {
        let _runtime = runtime().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), Signal::XFSZ).unwrap();
    }
}
