//! The agent itself: `wasaba` without a command. This file has the signals; what the agent does is in [`crate::run`].

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::Config;
use config::document::{Level, Problem};
use show::top::Tail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wasaba_core::lines::LinesAnHour;
use wasaba_core::{clock, tls};

use super::configuration::{texts, way_to_mackerel};
use super::flags::AgentFlags;
use crate::process::log::Destination;
use crate::process::pidfile::Pidfile;
use crate::process::{confinement, ending, log};
use crate::run;
use crate::run::{Signals, View};

/// How often the program's file is checked with `-private-autoshutdown`, as in the official agent.
const REPLACEMENT_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Why the agent has ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It needs what it gave up at its start.
    ToRestart,
}

/// An agent does not end for a restart earlier than this after its start, however often its plugins change.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);

/// Runs until a signal stops it, or it needs a restart and something restarts it.
///
/// # Errors
/// Why it cannot start, or, after a second signal, that it was forced to stop.
pub fn run(flags: &AgentFlags) -> Result<Ended, String> {
    if flags.child {
        stop_with_the_supervisor();
    }
    let (config, problems) = flags.config().map_err(|problems| texts(&problems))?;
    let manner = super::top::manner().filter(|_| config.api_key.is_none());
    let view = manner.map(|manner| View { tail: Tail::default(), manner });
    // Two agents must not post for one host. A local one posts nothing, and should not need write access to /var/run.
    let mut pidfile =
        (config.api_key.is_some() && !flags.child).then(|| Pidfile::claim(&config.pidfile)).transpose()?;
    // Before the first thread, since each confines itself alone.
    confinement::apply(&config, flags.child);
    let destination = view.as_ref().map_or(Destination::Stderr, |view| Destination::Tail(view.tail.clone()));
    log::start(config.log_level, destination, config.machine.host.as_deref())?;
    log::bound();
    log::problems(&problems);
    confinement::log();
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (configs, config) = watch::channel(Arc::new(config));
        let (refresh, hangup) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let restart = Arc::new(Notify::new());
        let signals =
            Signals { stop: stopped, refresh: Arc::clone(&refresh), configs: config, restart: Arc::clone(&restart) };
        let (autoshutdown, stop) = (flags.private_autoshutdown, Arc::new(stop));
        let forced = listen(Arc::clone(&stop), Arc::clone(&hangup));
        let forced = forced.map_err(|error| format!("cannot listen for signals: {error}"))?;
        let stop_when_replaced = async {
            replaced().await;
            tracing::info!("the program's file has changed: stopping");
            ending::begins();
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        let restarts = AtomicBool::new(false);
        let stop_to_restart = async {
            let earliest = Instant::now() + SHORTEST_LIFE;
            restart.notified().await;
            tokio::time::sleep_until(earliest).await;
            restarts.store(true, Ordering::Relaxed);
            ending::begins();
            stop.send_replace(true);
            std::future::pending::<Infallible>().await
        };
        let ended = || if restarts.load(Ordering::Relaxed) { Ended::ToRestart } else { Ended::Stopped };
        tokio::select! {
            () = stop_when_replaced, if autoshutdown => Ok(Ended::Stopped),
            never = stop_to_restart => match never {},
            result = run::run(signals, view) => result.map(|()| ended()),
            () = forced => Err("forced to stop by a second signal".to_owned()),
            never = reload(flags, &hangup, &configs, &refresh, &restart) => match never {},
            never = kept(&mut pidfile) => match never {},
        }
    });
    // A hung file system may block a thread for ever; the process exits all the same.
    runtime.shutdown_background();
    result
}

async fn kept(pidfile: &mut Option<Pidfile>) -> Infallible {
    match pidfile {
        Some(pidfile) => pidfile.keep().await,
        None => std::future::pending().await,
    }
}

/// Otherwise a killed supervisor would leave behind an agent without a supervisor, which blocks the next one.
fn stop_with_the_supervisor() {
    // Best effort: where the kernel refuses, the agent outlives its supervisor.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).ok();
}

/// As many reloads that succeeded are logged in an hour; each that failed is.
const MOST_RELOADS: u32 = 60;

/// Reloads the configuration after each `hangup`. The host's description is sent again even if the reload fails.
async fn reload(
    flags: &AgentFlags,
    hangup: &Notify,
    configs: &watch::Sender<Arc<Config>>,
    refresh: &Notify,
    restart: &Notify,
) -> Infallible {
    let mut lines = LinesAnHour::new(MOST_RELOADS, clock::instant());
    loop {
        hangup.notified().await;
        let flags = flags.clone();
        let read = tokio::task::spawn_blocking(move || {
            tls::read_again();
            flags.config()
        });
        let read = read.await;
        let bug =
            |_| Err(vec![Problem::of_flag(Level::Error, "the reload panicked; this is a bug in wasaba".to_owned())]);
        let read = read.unwrap_or_else(bug).and_then(|(config, problems)| match refusal(&configs.borrow(), &config) {
            Some(why) => Err(vec![why]),
            None => Ok((config, problems)),
        });
        match read {
            Ok((config, problems)) => {
                log::problems(&problems);
                let (config, later) = reloadable(&configs.borrow(), config);
                for key in later {
                    tracing::warn!("the new `{key}` takes effect after a restart");
                }
                log::set_level(config.log_level);
                configs.send_replace(Arc::new(config));
                if let Some(line) = lines.admitted("reloaded the configuration".to_owned(), clock::instant()) {
                    tracing::info!("{line}");
                }
            }
            Err(problems) => {
                let problems = texts(&problems);
                tracing::error!("cannot reload the configuration, keeping the previous one:\n{problems}");
            }
        }
        if tokio::task::spawn_blocking(confinement::is_outdated).await.unwrap_or(false) {
            restart.notify_one();
        }
        refresh.notify_one();
    }
}

/// Why a running agent cannot change to a `new` configuration, though a start could: it would end, or post nothing any more.
fn refusal(running: &Config, new: &Config) -> Option<Problem> {
    if running.api_key.is_some() && new.api_key.is_none() {
        let cure = "write it again, or restart the agent if its values are to stay on this machine";
        let why = format!("`apikey` is missing, without which nothing would be posted any more: {cure}");
        return Some(Problem::of_flag(Level::Error, why));
    }
    new.api_key.as_ref().and_then(|_| way_to_mackerel(new))
}

/// The part of a `new` configuration that a running agent can apply, and the changed keys that need a restart.
fn reloadable(running: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let has_key = |config: &Config| config.api_key.is_some();
    let same = [
        ("root", running.root == new.root),
        // Switching between posting and local mode needs a restart; a different key does not.
        ("apikey", has_key(running) == has_key(&new)),
        ("pidfile", running.pidfile == new.pidfile),
        ("host_root", running.machine.host == new.machine.host),
        ("machine", running.machine == new.machine || running.machine.host != new.machine.host),
        ("self_metrics", running.self_metrics == new.self_metrics),
        // What was dropped is asked for by the confinement itself.
        ("confinement", running.confinement || !new.confinement),
    ];
    let api_key = if has_key(running) == has_key(&new) { new.api_key.clone() } else { running.api_key.clone() };
    let Config { root, pidfile, machine, self_metrics, .. } = running.clone();
    let config = Config { root, api_key, pidfile, machine, self_metrics, ..new };
    (config, same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect())
}

/// Passes signals on to the agent. The returned future ends with the second signal to stop.
fn listen(stop: Arc<watch::Sender<bool>>, reload: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    reload.notify_one();
                    continue;
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = quit.recv() => {}
            }
            ending::begins();
            if stop.send_replace(true) {
                return;
            }
        }
    })
}

/// Returns when this program's file has been replaced or deleted.
async fn replaced() {
    let Ok(program) = std::env::current_exe() else { return std::future::pending().await };
    let stamp = || fs::metadata(&program).and_then(|about| about.modified()).ok();
    let first = stamp();
    while stamp() == first {
        tokio::time::sleep(REPLACEMENT_CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_applies_what_it_can_and_names_the_keys_that_need_a_restart() {
        let running = Config::default();
        let new = Config {
            roles: vec!["Service:role".into()],
            display_name: Some("web".into()),
            diagnostic: true,
            root: "/elsewhere".into(),
            api_key: Some(wasaba_core::secret::Secret::new("hunter2")),
            ..Config::default()
        };
        let (config, later) = reloadable(&running, new);
        assert_eq!(later, ["root", "apikey"]);
        assert_eq!((config.roles.len(), config.display_name.as_deref()), (1, Some("web")));
        assert_eq!((config.root, config.api_key), (running.root.clone(), None));
        assert!(config.diagnostic && reloadable(&running, Config::default()).1.is_empty());
        let keyed = |key: &str| Config { api_key: Some(wasaba_core::secret::Secret::new(key)), ..Config::default() };
        let (config, later) = reloadable(&keyed("old"), keyed("new"));
        assert!(
            later.is_empty()
                && !config.reaches_mackerel_like(&keyed("old"))
                && config.reaches_mackerel_like(&keyed("new"))
        );
    }

    #[tokio::test]
    async fn an_unusable_configuration_changes_nothing_but_the_description_is_sent_again() {
        let temp = tempfile::tempdir().unwrap();
        let conf = temp.path().join("agent.conf");
        let flags = AgentFlags { conf: Some(conf.clone()), ..AgentFlags::default() };
        let running = Config { api_key: Some(wasaba_core::secret::Secret::new("key")), ..Config::default() };
        let (configs, config) = watch::channel(Arc::new(running));
        let (hangup, refresh, restart) = (Notify::new(), Notify::new(), Notify::new());
        let reloading = reload(&flags, &hangup, &configs, &refresh, &restart);
        let signals = async {
            for (text, changes) in [
                ("roles = [", false),
                ("", false),
                ("display_name = \"web\"", false),
                ("apikey = \"\"\"\nkey\nkey\"\"\"", false),
                ("apikey = \"key\\u0000\"", false),
                ("apikey = \"key\"\nhttp_proxy = \"ftp://proxy\"", false),
                ("apikey = \"key\"\ndisplay_name = \"web\"", true),
            ] {
                fs::write(&conf, text).unwrap();
                hangup.notify_one();
                refresh.notified().await;
                assert_eq!(config.has_changed().unwrap(), changes, "{text}");
            }
        };
        tokio::select! {
            never = reloading => match never {},
            () = signals => {}
        }
        assert_eq!(config.borrow().display_name.as_deref(), Some("web"));
    }
}
