//! `wasaba supervise`: runs the agent as a child process and restarts it when it dies. Not needed under systemd.
//!
//! SIGHUP is forwarded to the child, which reloads its configuration. A signal to stop is forwarded too, and the supervisor then exits
//! with the child. A restart runs the program at the path that this one was started from, where an upgrade may have put a new one.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wasaba_core::environment;
use wasaba_core::text::duration;

use super::configuration::texts;
use super::flags::AgentFlags;
use crate::process::log::Destination;
use crate::process::pidfile::Pidfile;
use crate::process::{confinement, log};

/// A child that exits earlier has failed during startup.
const STARTUP: Duration = Duration::from_secs(30);

/// The pause before a restart of a child that survived its startup.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after children that failed during startup.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs the agent until a signal stops it.
///
/// # Errors
/// The configuration cannot be used, the first child exits during startup, or the last one with a failure.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let (config, problems) = flags.config().map_err(|problems| texts(&problems))?;
    log::start(config.log_level, Destination::Stderr, config.machine.host.as_deref())?;
    log::problems(&problems);
    if config.api_key.is_none() {
        return Err(super::NO_API_KEY.to_owned());
    }
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let runtime = super::runtime()?;
    let mut pidfile = Pidfile::claim(&config.pidfile)?;
    runtime.block_on(async {
        tokio::select! {
            result = supervise(program) => result,
            never = pidfile.keep() => match never {},
        }
    })
}

async fn supervise(program: PathBuf) -> Result<(), String> {
    let listening = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut hangup = listening(SignalKind::hangup())?;
    let mut interrupt = listening(SignalKind::interrupt())?;
    let mut terminate = listening(SignalKind::terminate())?;
    let mut quit = listening(SignalKind::quit())?;
    let mut pauses = Pauses::default();
    let mut child = Some(start(&program)?);
    let (mut started, mut stopping) = (Instant::now(), false);
    loop {
        let signal = tokio::select! {
            status = exited(&mut child) => {
                let status = status.map_err(|error| format!("cannot wait for the agent: {error}"))?;
                if stopping {
                    return if status.success() { Ok(()) } else { Err(format!("the agent failed: {}", shown(status))) };
                }
                if asks_for_restart(status) {
                    (child, started) = (restart(&program, &mut pauses), Instant::now());
                    continue;
                }
                let pause = pauses.after(started.elapsed());
                let pause = pause.ok_or_else(|| {
                    format!("the agent exited during startup (within {}): {}", duration(STARTUP), shown(status))
                })?;
                tracing::warn!("the agent died ({}); restarting it in {}", shown(status), duration(pause));
                pauses.end = Some(Instant::now() + pause);
                continue;
            }
            () = pauses.over() => {
                (child, started) = (restart(&program, &mut pauses), Instant::now());
                continue;
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = quit.recv() => Signal::QUIT,
        };
        match &child {
            Some(child) => forward(signal, child),
            // The next child reads the configuration anyway.
            None if signal == Signal::HUP => {}
            None => return Ok(()),
        }
        stopping |= signal != Signal::HUP;
    }
}

/// Waits until the child exits, and clears it; waits for ever if there is none.
async fn exited(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    let Some(running) = child else { return std::future::pending().await };
    let status = running.wait().await;
    *child = None;
    status
}

/// Whether the agent ended only to be started again.
pub(super) fn asks_for_restart(status: ExitStatus) -> bool {
    status.code() == Some(confinement::RESTART.into())
}

/// Starts `program` with the arguments of this process and `--child`.
fn start(program: &PathBuf) -> Result<Child, String> {
    // `supervise` is the first argument, since flags go after the command.
    let mut command = Command::from(environment::own_program(program));
    command.arg("--child").args(std::env::args_os().skip(2)).stdin(Stdio::inherit());
    command.spawn().map_err(|error| format!("cannot start the agent: {error}"))
}

/// As [`start`], after a first child. A failure is retried: it may be temporary, like a program that is just being replaced.
fn restart(program: &PathBuf, pauses: &mut Pauses) -> Option<Child> {
    pauses.end = None;
    let child = start(program);
    if let Err(why) = &child {
        let pause = pauses.longer();
        tracing::error!("{why}; retrying in {}", duration(pause));
        pauses.end = Some(Instant::now() + pause);
    }
    child.ok()
}

/// The pauses before restarts.
#[derive(Default)]
struct Pauses {
    last: Option<Duration>,
    /// Whether a child has survived its startup.
    has_started: bool,
    /// The end of the current pause.
    end: Option<Instant>,
}

impl Pauses {
    /// The pause after a child that `lived` so long; none if it must not be restarted.
    fn after(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= STARTUP {
            (self.has_started, self.last) = (true, None);
        }
        self.has_started.then(|| self.longer())
    }

    fn longer(&mut self) -> Duration {
        let pause = self.last.map_or(SHORTEST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.last = Some(pause);
        pause
    }

    /// Waits until the current pause is over; for ever if there is none.
    async fn over(&self) {
        match self.end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
}

fn forward(signal: Signal, child: &Child) {
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(process) = process {
        // An error means that it has just died, which is noticed next.
        kill_process(process, signal).ok();
    }
}

/// `exit status 1`, `signal 9 (SIGKILL)`.
pub(super) fn shown(status: ExitStatus) -> String {
    status.to_string().replacen(": ", " ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute_and_start_over_after_a_long_life() {
        let mut pauses = Pauses::default();
        let mut after = |seconds| pauses.after(Duration::from_secs(seconds)).map(|pause| pause.as_secs());
        assert_eq!(after(29), None, "the first one failed during startup");
        assert_eq!(after(30), Some(1));
        let short = [1; 8].map(|seconds| after(seconds).unwrap());
        assert_eq!(short, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!([after(3_600), after(0)], [Some(1), Some(2)]);
    }

    #[tokio::test]
    async fn a_missing_program_is_retried_after_ever_longer_pauses() {
        let (program, mut pauses) =
            (PathBuf::from("/no/such/program"), Pauses { has_started: true, ..Pauses::default() });
        for seconds in [1, 2, 4] {
            assert!(restart(&program, &mut pauses).is_none() && pauses.end.is_some());
            assert_eq!(pauses.last, Some(Duration::from_secs(seconds)));
        }
    }
}
