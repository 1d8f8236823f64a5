//! `wasaba supervise`: the agent as a child process, which is started again when it dies. Where systemd does this, it is not
//! needed.
//!
//! SIGHUP goes on to the child, which reads its configuration again by itself; the signals to stop go on to it too, and its end is
//! then ours.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::agent::Pidfile;
use super::flags::{AgentFlags, texts};
use crate::log::{self, Destination};

/// A child that lives shorter has not started well.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// How long after a short life it is started again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs the agent until a signal ends it.
///
/// # Errors
/// The configuration cannot be used, the first child dies within 30 s, or the last one did not end well.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let (config, problems) = flags.config().map_err(|problems| texts(&problems))?;
    log::start(config.log_level, Destination::Stderr);
    log::tell(&problems);
    if config.api_key.is_none() {
        return Err("there is no `apikey` in the configuration, and none was given by -apikey".to_owned());
    }
    let _pidfile = Pidfile::claim(&config.pidfile)?;
    super::runtime()?.block_on(supervise())
}

async fn supervise() -> Result<(), String> {
    let listening = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
    let mut hangup = listening(SignalKind::hangup())?;
    let mut interrupt = listening(SignalKind::interrupt())?;
    let mut terminate = listening(SignalKind::terminate())?;
    let mut quit = listening(SignalKind::quit())?;
    let mut pause = Duration::from_secs(1);
    let (mut child, mut stopping, mut has_lived) = (start()?, false, false);
    let mut started = Instant::now();
    loop {
        let word = tokio::select! {
            ended = child.wait() => {
                let ended = ended.map_err(|error| format!("cannot wait for the agent: {error}"))?;
                let lived = started.elapsed();
                if stopping {
                    return if ended.success() { Ok(()) } else { Err(shown(ended)) };
                }
                has_lived |= lived >= SHORT_LIFE;
                if !has_lived {
                    return Err(format!("the agent did not start well: {}", shown(ended)));
                }
                pause = if lived >= SHORT_LIFE { Duration::from_secs(1) } else { (pause * 2).min(LONGEST_PAUSE) };
                tracing::warn!("the agent died ({}); it is started again in {pause:?}", shown(ended));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    _ = quit.recv() => return Ok(()),
                }
                child = start()?;
                started = Instant::now();
                continue;
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = quit.recv() => Signal::QUIT,
        };
        stopping |= word != Signal::HUP;
        tell(&child, word);
    }
}

/// The same program with the same arguments, and one more.
fn start() -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let words = std::env::args_os().skip(1).collect::<Vec<_>>();
    // `supervise` is the first word: flags stand behind the command.
    let mut command = Command::new(program);
    command.args(words.iter().skip(1)).arg("--child").stdin(Stdio::inherit());
    command.spawn().map_err(|error| format!("cannot start the agent: {error}"))
}

fn tell(child: &Child, word: Signal) {
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(process) = process {
        // If it has just died, that is seen next.
        kill_process(process, word).ok();
    }
}

fn shown(ended: ExitStatus) -> String {
    ended.to_string()
}
