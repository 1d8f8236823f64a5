//! The agent itself: `wasaba` without a command. Here are the process's matters, the log, the pid file and the signals; what
//! the agent does is in [`crate::run`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::flags::AgentFlags;
use crate::log::{self, Destination, Tail};
use crate::run::{self, Signals};

/// Runs until a signal ends it.
///
/// # Errors
/// What keeps it from starting, or, after a second signal, that it was forced.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let (config, warnings) = flags.config()?;
    let table = config.api_key.is_none() && super::stdout_is_terminal();
    let tail = Tail::default();
    log::start(config.log_level, if table { Destination::Tail(tail.clone()) } else { Destination::Stderr });
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Two agents that post for one host are a mistake; a local one bothers nobody and needs no right to /var/run.
    let _pidfile = config.api_key.is_some().then(|| Pidfile::claim(&config.pidfile)).transpose()?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let refresh = Arc::new(Notify::new());
        let signals = Signals { stop: stopped, refresh: Arc::clone(&refresh) };
        let forced = listen(stop, refresh).map_err(|error| format!("cannot listen to signals: {error}"))?;
        tokio::select! {
            result = run::run(config, signals, table.then_some(tail)) => result,
            () = forced => Err("forced to stop by a second signal".to_owned()),
        }
    });
    // A hung file system may hold a thread for ever; the process ends all the same.
    runtime.shutdown_background();
    result
}

/// Turns signals into words for the agent. The future that is returned ends with the second one to stop.
fn listen(stop: watch::Sender<bool>, refresh: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    refresh.notify_one();
                    continue;
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = quit.recv() => {}
            }
            if stop.send_replace(true) {
                return;
            }
        }
    })
}

/// The pid file, removed when the agent ends.
struct Pidfile(PathBuf);

impl Pidfile {
    fn claim(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let own = std::process::id();
        if let Some(other) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u32>().ok())
            && other != own
            && program(other).is_some_and(|name| Some(name) == program(own))
        {
            return Err(format!("wasaba runs already, as process {other} (`{shown}`)"));
        }
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder of `{shown}`: {error}"))?;
        }
        fs::write(file, own.to_string())
            .map_err(|error| format!("cannot write the pid file `{shown}`: {error}; name another with -pidfile"))?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Only our own: another agent may have claimed the file since.
        if fs::read_to_string(&self.0).is_ok_and(|text| text == std::process::id().to_string()) {
            fs::remove_file(&self.0).ok();
        }
    }
}

/// The file name of the program that runs as `process`.
fn program(process: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let path = line.split(|byte| *byte == 0).next()?;
    let path = String::from_utf8_lossy(path).into_owned();
    path.rsplit('/').next().map(str::to_owned).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_a_dead_or_foreign_process_is_taken_over() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("run/agent.pid");
        for content in ["", "junk", "1", "4294967295"] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            let claimed = Pidfile::claim(&file).unwrap_or_else(|error| panic!("{content:?}: {error}"));
            assert_eq!(fs::read_to_string(&file).unwrap(), std::process::id().to_string());
            drop(claimed);
            assert!(!file.exists());
        }
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_named_with_the_cure() {
        let temp = tempfile::tempdir().unwrap();
        let error = Pidfile::claim(temp.path()).err().unwrap();
        assert!(error.contains("-pidfile") && error.contains(&temp.path().display().to_string()), "{error}");
    }
}
