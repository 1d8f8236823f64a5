//! The agent itself: `wasaba` without a command. This file has the log, the pid file and the signals; what the agent does is in
//! [`crate::run`].

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::document::{Level, Problem};
use delivery::local::Tail;
use machine::roots;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use wasaba_core::paths::own;
use wasaba_core::tls;

use super::configuration::{texts, way_to_mackerel};
use super::flags::AgentFlags;
use crate::process::log::Destination;
use crate::process::{ending, log};
use crate::run;
use crate::run::Signals;

/// How often the program's file is checked with `-private-autoshutdown`, as in the official agent.
const REPLACEMENT_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until a signal stops it.
///
/// # Errors
/// Why it cannot start, or, after a second signal, that it was forced to stop.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    if flags.child {
        stop_with_the_supervisor();
    }
    let (config, problems) = flags.config().map_err(|problems| texts(&problems))?;
    let table = config.api_key.is_none() && super::stdout_is_terminal();
    let tail = Tail::default();
    let destination = if table { Destination::Tail(tail.clone()) } else { Destination::Stderr };
    log::start(config.log_level, destination, config.machine.host.as_deref())?;
    log::problems(&problems);
    // Two agents must not post for one host. A local one posts nothing, and should not need write access to /var/run.
    let _pidfile = (config.api_key.is_some() && !flags.child).then(|| Pidfile::claim(&config.pidfile)).transpose()?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (configs, config) = watch::channel(Arc::new(config));
        let (refresh, hangup) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let signals = Signals { stop: stopped, refresh: Arc::clone(&refresh), configs: config };
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
        tokio::select! {
            () = stop_when_replaced, if autoshutdown => Ok(()),
            result = run::run(signals, table.then_some(tail)) => result,
            () = forced => Err("forced to stop by a second signal".to_owned()),
            never = reload(flags, &hangup, &configs, &refresh) => match never {},
        }
    });
    // A hung file system may block a thread for ever; the process exits all the same.
    runtime.shutdown_background();
    result
}

/// Otherwise a killed supervisor would leave behind an agent without a supervisor, which blocks the next one.
fn stop_with_the_supervisor() {
    // Best effort: where the kernel refuses, the agent outlives its supervisor.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).ok();
}

/// Reloads the configuration after each `hangup`. The host's description is sent again even if the reload fails.
async fn reload(
    flags: &AgentFlags,
    hangup: &Notify,
    configs: &watch::Sender<Arc<Config>>,
    refresh: &Notify,
) -> Infallible {
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
                tracing::info!("reloaded the configuration");
            }
            Err(problems) => {
                let problems = texts(&problems);
                tracing::error!("cannot reload the configuration, keeping the previous one:\n{problems}");
            }
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

/// More than any process id, with a line break.
const LONGEST_PID_BYTES: usize = 64;

/// The pid file, removed when the agent exits.
pub(super) struct Pidfile(PathBuf);

impl Pidfile {
    #[expect(clippy::disallowed_methods, reason = "the operator names the folder, as for the official agent")]
    pub(super) fn claim(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let own = std::process::id();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("cannot create the folder of `{shown}`: {error}"))?;
        }
        let cannot = |error| format!("cannot write the pid file `{shown}`: {error}; name another one with -pidfile");
        let open = own::open_or_create(file, 0o644).map_err(cannot)?;
        let mut text = [0; LONGEST_PID_BYTES];
        let length = open.read_at(&mut text, 0).map_err(cannot)?;
        let other = str::from_utf8(text.get(..length).unwrap_or_default()).ok();
        if let Some(other) = other.and_then(|text| text.trim().parse::<u32>().ok())
            && other != own
            && program(other).is_some_and(|name| Some(name) == program(own))
        {
            return Err(format!("wasaba is already running, as process {other} (pid file `{shown}`)"));
        }
        open.set_len(0).and_then(|()| open.write_all_at(own.to_string().as_bytes(), 0)).map_err(cannot)?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for Pidfile {
    #[expect(clippy::disallowed_methods, reason = "only the name goes, and the file was just read as our own")]
    fn drop(&mut self) {
        // Only our own: another agent may have claimed the file since.
        if own::read(&self.0, LONGEST_PID_BYTES as u64)
            .is_ok_and(|text| text == std::process::id().to_string().as_bytes())
        {
            fs::remove_file(&self.0).ok();
        }
    }
}

/// The file name of the program that runs as `process`.
fn program(process: u32) -> Option<String> {
    let line = roots::read(format!("/proc/{process}/cmdline").as_ref()).ok()?;
    let path = line.split('\0').next()?;
    path.rsplit('/').next().map(str::to_owned).filter(|name| !name.is_empty())
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
        let (hangup, refresh) = (Notify::new(), Notify::new());
        let reloading = reload(&flags, &hangup, &configs, &refresh);
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
    fn a_pid_file_is_written_neither_through_a_link_nor_into_a_pipe_nor_under_a_second_name() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, file) = (temp.path().join("victim"), temp.path().join("agent.pid"));
        fs::write(&victim, "precious").unwrap();
        let plant: [&dyn Fn(); 4] = [
            &|| std::os::unix::fs::symlink(&victim, &file).unwrap(),
            &|| std::os::unix::fs::symlink(temp.path().join("dangling"), &file).unwrap(),
            &|| fs::hard_link(&victim, &file).unwrap(),
            &|| rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap(),
        ];
        for plant in plant {
            plant();
            let error = Pidfile::claim(&file).err().unwrap();
            assert!(error.contains("remove it") && error.contains("-pidfile"), "{error}");
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!temp.path().join("dangling").exists());
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_reported_with_its_path_and_the_flag() {
        let temp = tempfile::tempdir().unwrap();
        let error = Pidfile::claim(temp.path()).err().unwrap();
        assert!(error.contains("-pidfile") && error.contains(&temp.path().display().to_string()), "{error}");
    }
}
