//! The agent itself: `wasaba` without a command. Here are the process's matters, the log, the pid file and the signals; what
//! the agent does is in [`crate::run`].

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::document::{Level, Problem};
use delivery::local::Tail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::flags::{AgentFlags, texts};
use crate::process::log::Destination;
use crate::process::{log, service};
use crate::run;
use crate::run::Signals;

/// How often the program's file is looked at, if its replacement ends the agent; as the official agent does it.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
///
/// # Errors
/// What keeps it from starting, or, after a second signal, that it was forced.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    if flags.child {
        end_with_the_supervisor();
    }
    let (config, problems) = flags.config().map_err(|problems| texts(&problems))?;
    let table = config.api_key.is_none() && super::stdout_is_terminal();
    let tail = Tail::default();
    log::start(config.log_level, if table { Destination::Tail(tail.clone()) } else { Destination::Stderr });
    log::tell(&problems);
    // Two agents that post for one host are a mistake; a local one bothers nobody and needs no right to /var/run.
    let _pidfile = (config.api_key.is_some() && !flags.child).then(|| Pidfile::claim(&config.pidfile)).transpose()?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (configs, config) = watch::channel(Arc::new(config));
        let (refresh, hangup) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let signals = Signals { stop: stopped, refresh: Arc::clone(&refresh), configs: config };
        let (autoshutdown, stop) = (flags.private_autoshutdown, Arc::new(stop));
        let forced = listen(Arc::clone(&stop), Arc::clone(&hangup));
        let forced = forced.map_err(|error| format!("cannot listen to signals: {error}"))?;
        let _supervised = service::Supervised::tell_ready();
        let ends_when_replaced = async {
            replaced().await;
            tracing::info!("the program's file has changed: stopping");
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ends_when_replaced, if autoshutdown => Ok(()),
            result = run::run(signals, table.then_some(tail)) => result,
            () = forced => Err("forced to stop by a second signal".to_owned()),
            never = read_again(flags, &hangup, &configs, &refresh) => match never {},
        }
    });
    // A hung file system may hold a thread for ever; the process ends all the same.
    runtime.shutdown_background();
    result
}

/// A supervisor that is killed would leave an agent behind that nobody looks after, and that holds up the next one.
fn end_with_the_supervisor() {
    // Where the system cannot do it, it is as it was.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).ok();
}

/// Reads the configuration again after each `hangup`, and has the host's description sent in any case.
async fn read_again(
    flags: &AgentFlags,
    hangup: &Notify,
    configs: &watch::Sender<Arc<Config>>,
    refresh: &Notify,
) -> Infallible {
    loop {
        hangup.notified().await;
        let flags = flags.clone();
        let read = tokio::task::spawn_blocking(move || flags.config()).await;
        let bug =
            |_| Err(vec![Problem::of_flag(Level::Error, "reading it failed; this is a bug of wasaba".to_owned())]);
        match read.unwrap_or_else(bug) {
            Ok((config, problems)) => {
                log::tell(&problems);
                let (config, later) = taken_over(&configs.borrow(), config);
                for key in later {
                    tracing::warn!("the new `{key}` takes effect after a restart");
                }
                log::set_level(config.log_level);
                configs.send_replace(Arc::new(config));
                tracing::info!("the configuration was read again");
            }
            Err(problems) => {
                let problems = texts(&problems);
                tracing::error!("the configuration cannot be used, the agent goes on with the last one:\n{problems}");
            }
        }
        refresh.notify_one();
    }
}

/// What a running agent takes over of a `new` configuration; and the keys that are different in it but need a restart.
fn taken_over(running: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let has_key = |config: &Config| config.api_key.is_some();
    let same = [
        ("root", running.root == new.root),
        // Between posting and showing here; another key is taken over.
        ("apikey", has_key(running) == has_key(&new)),
        ("pidfile", running.pidfile == new.pidfile),
        ("host_root", running.machine.host == new.machine.host),
        ("machine", running.machine == new.machine || running.machine.host != new.machine.host),
        ("self_metrics", running.self_metrics == new.self_metrics),
    ];
    let api_key = if has_key(running) == has_key(&new) { new.api_key.clone() } else { running.api_key.clone() };
    let Config { root, pidfile, machine, self_metrics, .. } = running.clone();
    let config = Config { root, api_key, pidfile, machine, self_metrics, ..new };
    (config, same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect())
}

/// Turns signals into words for the agent. The future that is returned ends with the second one to stop.
fn listen(stop: Arc<watch::Sender<bool>>, hung_up: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    hung_up.notify_one();
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

/// Returns when the file of this program has been replaced or deleted.
async fn replaced() {
    let Ok(program) = std::env::current_exe() else { return std::future::pending().await };
    let stamp = || fs::metadata(&program).and_then(|about| about.modified()).ok();
    let first = stamp();
    while stamp() == first {
        tokio::time::sleep(LOOKED_AT_EVERY).await;
    }
}

/// The pid file, removed when the agent ends.
pub(super) struct Pidfile(PathBuf);

impl Pidfile {
    pub(super) fn claim(file: &Path) -> Result<Self, String> {
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
    fn a_running_agent_takes_over_what_it_can_and_names_what_needs_a_restart() {
        let running = Config::default();
        let new = Config {
            roles: vec!["Service:role".into()],
            display_name: Some("web".into()),
            diagnostic: true,
            root: "/elsewhere".into(),
            api_key: Some(wasaba_core::secret::Secret::new("hunter2")),
            ..Config::default()
        };
        let (config, later) = taken_over(&running, new);
        assert_eq!(later, ["root", "apikey"]);
        assert_eq!((config.roles.len(), config.display_name.as_deref()), (1, Some("web")));
        assert_eq!((config.root, config.api_key), (running.root.clone(), None));
        assert!(config.diagnostic && taken_over(&running, Config::default()).1.is_empty());
        let keyed = |key: &str| Config { api_key: Some(wasaba_core::secret::Secret::new(key)), ..Config::default() };
        let (config, later) = taken_over(&keyed("old"), keyed("new"));
        assert!(
            later.is_empty()
                && !config.reaches_mackerel_like(&keyed("old"))
                && config.reaches_mackerel_like(&keyed("new"))
        );
    }

    #[tokio::test]
    async fn a_broken_configuration_changes_nothing_but_the_description_is_sent() {
        let temp = tempfile::tempdir().unwrap();
        let conf = temp.path().join("agent.conf");
        let flags = AgentFlags { conf: Some(conf.clone()), ..AgentFlags::default() };
        let (configs, config) = watch::channel(Arc::new(Config::default()));
        let (hangup, refresh) = (Notify::new(), Notify::new());
        let reading = read_again(&flags, &hangup, &configs, &refresh);
        let signals = async {
            for (text, changes) in [("roles = [", false), ("display_name = \"web\"", true)] {
                fs::write(&conf, text).unwrap();
                hangup.notify_one();
                refresh.notified().await;
                assert_eq!(config.has_changed().unwrap(), changes, "{text}");
            }
        };
        tokio::select! {
            never = reading => match never {},
            () = signals => {}
        }
        assert_eq!(config.borrow().display_name.as_deref(), Some("web"));
    }

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
