//! `wasaba supervise`: the agent as a child process, which is started again when it dies. Where systemd does this, it is not
//! needed.
//!
//! SIGHUP goes on to the child, which reads its configuration again by itself; the signals to stop go on to it too, and its end is
//! then ours. What is started is the program at the path that this one had when it began: an upgrade puts another one there.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::agent::Pidfile;
use super::flags::{AgentFlags, texts};
use crate::process::log;
use crate::process::log::Destination;

/// A child that lives shorter has not started well.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// How long after its death a child is started again, if it lived long enough.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

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
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let _pidfile = Pidfile::claim(&config.pidfile)?;
    super::runtime()?.block_on(supervise(program))
}

async fn supervise(program: PathBuf) -> Result<(), String> {
    let listening = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
    let mut hangup = listening(SignalKind::hangup())?;
    let mut interrupt = listening(SignalKind::interrupt())?;
    let mut terminate = listening(SignalKind::terminate())?;
    let mut quit = listening(SignalKind::quit())?;
    let mut pauses = Pauses::default();
    let mut child = Some(start(&program)?);
    let (mut started, mut stopping) = (Instant::now(), false);
    loop {
        let word = tokio::select! {
            ended = ended(&mut child) => {
                let ended = ended.map_err(|error| format!("cannot wait for the agent: {error}"))?;
                if stopping {
                    return if ended.success() { Ok(()) } else { Err(shown(ended)) };
                }
                let pause = pauses.after(started.elapsed());
                let pause = pause.ok_or_else(|| format!("the agent did not start well: {}", shown(ended)))?;
                tracing::warn!("the agent died ({}); it is started again in {pause:?}", shown(ended));
                pauses.end = Some(Instant::now() + pause);
                continue;
            }
            () = pauses.over() => {
                (child, started) = (again(&program, &mut pauses), Instant::now());
                continue;
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = quit.recv() => Signal::QUIT,
        };
        match &child {
            Some(child) => tell(child, word),
            // Whoever starts next reads the configuration anyway.
            None if word == Signal::HUP => {}
            None => return Ok(()),
        }
        stopping |= word != Signal::HUP;
    }
}

/// Waits for the end of the child, which then is none any more; for ever if there is none.
async fn ended(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    let Some(running) = child else { return std::future::pending().await };
    let ended = running.wait().await;
    *child = None;
    ended
}

/// The same program with the same arguments, and one more.
fn start(program: &PathBuf) -> Result<Child, String> {
    // `supervise` is the first word: flags stand behind the command. What stands behind a word that is no flag is passed over.
    let mut command = Command::new(program);
    command.arg("--child").args(std::env::args_os().skip(2)).stdin(Stdio::inherit());
    command.spawn().map_err(|error| format!("cannot start the agent: {error}"))
}

/// As [`start`], where one has run before: what keeps it from starting now may pass, like a program that is just replaced.
fn again(program: &PathBuf, pauses: &mut Pauses) -> Option<Child> {
    pauses.end = None;
    let child = start(program);
    if let Err(why) = &child {
        let pause = pauses.longer();
        tracing::error!("{why}; it is tried again in {pause:?}");
        pauses.end = Some(Instant::now() + pause);
    }
    child.ok()
}

/// How long it is waited until the next child.
#[derive(Default)]
struct Pauses {
    last: Option<Duration>,
    /// Whether one has lived long enough to be worth another.
    has_lived: bool,
    /// When the one that is now is over.
    end: Option<Instant>,
}

impl Pauses {
    /// The pause after a child that `lived` so long; none if it makes no sense to start another.
    fn after(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= SHORT_LIFE {
            (self.has_lived, self.last) = (true, None);
        }
        self.has_lived.then(|| self.longer())
    }

    fn longer(&mut self) -> Duration {
        let pause = self.last.map_or(SHORTEST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.last = Some(pause);
        pause
    }

    /// Waits for its end; for ever if there is none.
    async fn over(&self) {
        match self.end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute_and_begin_anew_after_a_long_life() {
        let mut pauses = Pauses::default();
        let mut after = |seconds| pauses.after(Duration::from_secs(seconds)).map(|pause| pause.as_secs());
        assert_eq!(after(29), None, "the first one did not start well");
        assert_eq!(after(30), Some(1));
        let short = [1; 8].map(|seconds| after(seconds).unwrap());
        assert_eq!(short, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!([after(3_600), after(0)], [Some(1), Some(2)]);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_tried_again_after_ever_longer_pauses() {
        let (program, mut pauses) =
            (PathBuf::from("/no/such/program"), Pauses { has_lived: true, ..Pauses::default() });
        for seconds in [1, 2, 4] {
            assert!(again(&program, &mut pauses).is_none() && pauses.end.is_some());
            assert_eq!(pauses.last, Some(Duration::from_secs(seconds)));
        }
    }
}
