//! The control socket, where a running agent reports the state of its plugins. `wasaba plugin list` and `wasaba health` read it.
//!
//! A unix socket in the agent's root, open to the agent's user and root only. Each connection is sent one JSON document, and nothing is
//! read from it. Plugins cannot connect to it, whatever they were granted: see `capabilities::connect`.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use plugins::instance::{Instance, Status};
use plugins::key::{Key, Kind};
use plugins::register::{Entry, Register};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use wasaba_core::collect::outcomes::{CollectionResult, Outcome, Outcomes};
use wasaba_core::paths::named;
use wasaba_core::text::printable;

/// The wait after a connection could not be accepted.
const ACCEPTED_AGAIN: Duration = Duration::from_secs(1);

/// How long a reader may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the agent may take to answer; shorter than the timeout of a container's health check.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The document that the agent sends.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    /// The agent's release.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// When it last collected, or else started, in seconds since 1970.
    pub collected: i64,
    /// Every configured plugin instance, by name.
    pub plugins: Vec<PluginReport>,
    /// The last collection of every source of metrics, in the order in which they were added.
    #[serde(default)]
    pub collectors: Vec<CollectorReport>,
}

/// What the report is made of. Clones show the same.
#[derive(Clone)]
pub struct Tables {
    /// What became of each component.
    pub register: Register,
    /// How each source's last collection went.
    pub outcomes: Outcomes,
    /// When the agent last collected.
    pub pulse: Pulse,
}

/// The report on one source of metrics: a family of the host's, a plugin, a program, an engine.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectorReport {
    /// The source's name: `cpu`, `plugin web`.
    pub name: String,
    /// When it was asked last, in seconds since 1970.
    pub asked: i64,
    /// How long its last collection took, in milliseconds.
    pub took_ms: f64,
    /// `values`, `no data`, `failed` or `timed out`.
    pub result: String,
    /// How many values it gave.
    pub values: usize,
    /// Why it failed, or what it had to skip.
    pub problems: Vec<String>,
    /// Collections since it was added.
    pub collections: u64,
    /// Of these, how many failed or timed out.
    pub failed: u64,
}

impl From<Outcome> for CollectorReport {
    fn from(outcome: Outcome) -> Self {
        let Outcome { source, unix_seconds, took, result, collections, failed } = outcome;
        let (word, values, problems) = match result {
            CollectionResult::Values { count, warnings } => ("values", count, warnings),
            CollectionResult::NoData => ("no data", 0, Vec::new()),
            CollectionResult::Failed(why) => ("failed", 0, vec![why]),
            CollectionResult::TimedOut => ("timed out", 0, Vec::new()),
        };
        Self {
            name: printable(&source, 100),
            asked: unix_seconds,
            took_ms: took.as_secs_f64() * 1e3,
            result: word.to_owned(),
            values,
            problems: problems.iter().map(|problem| printable(problem, 1_024)).collect(),
            collections,
            failed,
        }
    }
}

/// When the agent last collected, which shows that it is working.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulse {
    /// The pulse of an agent that starts now, in seconds since 1970.
    #[must_use]
    pub fn since(unix_seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(unix_seconds)))
    }

    /// Records that the agent has collected now.
    pub fn beat(&self, unix_seconds: i64) {
        self.0.store(unix_seconds, Ordering::Relaxed);
    }
}

/// Whether a plugin instance is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs, and its last call succeeded.
    #[default]
    Running,
    /// It runs, but its last call failed.
    Failing,
    /// It could not be loaded.
    Skipped,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Skipped => "skipped",
        })
    }
}

/// The report on one plugin instance.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// The instance's name.
    pub name: String,
    /// Whether it is running.
    pub state: State,
    /// Why it is failing or skipped, a line each.
    pub problems: Vec<String>,
    /// The component's file, if it could be loaded.
    pub file: Option<String>,
    /// The component's own name and version.
    pub component: Option<String>,
    /// The SHA-256 of the file.
    pub sha256: Option<String>,
    /// Calls since it was loaded.
    pub calls: u64,
    /// How many calls failed, by kind, without the kinds that never occurred.
    pub failures: Vec<(String, u64)>,
    /// How long the last call took, in milliseconds.
    pub last_ms: f64,
    /// The peak memory of a call, in bytes.
    pub memory_bytes: u64,
    /// How much its connections have sent, in bytes.
    pub sent_bytes: u64,
    /// How much its connections have received, in bytes.
    pub received_bytes: u64,
    /// How many requests were refused for want of a grant.
    pub refusals: u64,
    /// The last distinct refusals; the newest is the last.
    pub refused: Vec<String>,
    /// Whether the newest of them made the last call fail, so that it is among the problems.
    #[serde(default)]
    pub denied: bool,
    /// How many samples, reports and documents were dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// The path of the socket of the agent with this root.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("wasaba.sock")
}

/// Answers every connection until it is dropped. The spool's lock guarantees that no other agent has this root, so an existing socket
/// was left behind by a dead one.
///
/// # Errors
/// The socket cannot be created.
#[expect(clippy::disallowed_methods, reason = "the one socket on which the agent listens, in its own folder")]
pub async fn serve(root: &Path, tables: Tables) -> io::Result<()> {
    let path = path(root);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let _removed = Removed(path.clone());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Too many open files, for instance; the next one may succeed.
            Err(error) => {
                tracing::debug!("cannot accept a connection at `{}`: {error}", path.display());
                tokio::time::sleep(ACCEPTED_AGAIN).await;
                continue;
            }
        };
        let document = serde_json::to_vec(&report(&tables)).unwrap_or_default();
        // One connection at a time, so a reader that does not read is cut off. One that has disconnected is not an error.
        tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&document)).await.ok();
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    #[expect(clippy::disallowed_methods, reason = "the agent's own socket, in its own folder")]
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// The current report of the agent with this root.
///
/// # Errors
/// No agent is running, or this user may not connect to it.
pub fn ask(root: &Path) -> Result<AgentState, String> {
    let path = path(root);
    let shown = path.display();
    let stream =
        named::socket(&path).and_then(|socket| socket.connect_blocking()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!(
                    "no agent is running with this root (`{shown}`: {error}); name another root with -root or -conf"
                )
            }
            _ => format!("cannot connect to the agent at `{shown}`: {error}; only its own user and root may"),
        })?;
    let mut document = Vec::new();
    let read = stream.set_read_timeout(Some(READ_TIMEOUT)).and_then(|()| (&stream).read_to_end(&mut document));
    read.map_err(|error| format!("the agent at `{shown}` does not answer: {error}"))?;
    serde_json::from_slice(&document).map_err(|error| {
        format!("the agent at `{shown}` is from a different release than this program: {error}; restart the agent")
    })
}

fn report(tables: &Tables) -> AgentState {
    let plugins = tables.register.all().into_iter().map(|(key, entry)| match entry {
        Entry::Running(instance, newer) => running(&key, &instance, newer),
        Entry::Skipped(why) => {
            PluginReport { name: name_of(&key), state: State::Skipped, problems: why, ..PluginReport::default() }
        }
    });
    AgentState {
        version: crate::VERSION.to_owned(),
        process: std::process::id(),
        collected: tables.pulse.0.load(Ordering::Relaxed),
        plugins: plugins.collect(),
        collectors: tables.outcomes.all().into_iter().map(CollectorReport::from).collect(),
    }
}

/// A metrics plugin is called by its name, others by what they are, too.
fn name_of(key: &Key) -> String {
    let name = if key.kind == Kind::Metrics { key.name.to_string() } else { key.to_string() };
    printable(&name, 100)
}

fn running(key: &Key, instance: &Instance, newer: Vec<String>) -> PluginReport {
    let newer = newer.into_iter().map(|problem| format!("keeps running unchanged: {}", printable(&problem, 1_024)));
    let Status {
        calls,
        failures,
        last_ms,
        memory_bytes,
        sent_bytes,
        received_bytes,
        refusals,
        failure,
        is_denied,
        dropped,
        ..
    } = instance.status();
    let plugin = instance.plugin();
    let about = &plugin.description;
    PluginReport {
        name: name_of(key),
        state: if failure.is_some() { State::Failing } else { State::Running },
        problems: failure.into_iter().chain(newer).collect(),
        file: Some(printable(&plugin.file.to_string_lossy(), 400)),
        component: Some(format!("{} {}", about.name, printable(&about.version, 40))),
        sha256: Some(plugin.sha256.clone()),
        calls,
        failures: failures.into_iter().filter(|(_, count)| *count > 0).map(|(kind, n)| (kind.to_owned(), n)).collect(),
        last_ms,
        memory_bytes,
        sent_bytes,
        received_bytes,
        refusals,
        refused: instance.meter().refused().iter().map(|why| printable(why, 1_024)).collect(),
        denied: is_denied,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_on_a_collector_has_its_duration_and_its_result_in_words() {
        let outcome = |result| Outcome {
            source: "cpu".into(),
            unix_seconds: 60,
            took: Duration::from_micros(1_500),
            result,
            collections: 2,
            failed: 1,
        };
        let report = |result| {
            let report = CollectorReport::from(outcome(result));
            (report.result, report.values, report.problems)
        };
        let warnings = vec!["skipped one".to_owned()];
        assert_eq!(
            report(CollectionResult::Values { count: 3, warnings: warnings.clone() }),
            ("values".to_owned(), 3, warnings)
        );
        assert_eq!(report(CollectionResult::NoData), ("no data".to_owned(), 0, Vec::new()));
        let failed = report(CollectionResult::Failed("no\u{1b}file".into()));
        assert_eq!(failed, ("failed".to_owned(), 0, vec!["no\\u{1b}file".to_owned()]));
        assert_eq!(report(CollectionResult::TimedOut).0, "timed out");
        assert!((CollectorReport::from(outcome(CollectionResult::NoData)).took_ms - 1.5).abs() < 1e-9);
    }

    #[tokio::test]
    async fn the_report_is_sent_on_a_socket_that_only_its_owner_may_use() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        let register = Register::default();
        register.skip(Key::metrics("web"), None, vec!["unknown plugin `ngnix`".into()]);
        std::fs::write(path(&root), "left behind by a dead agent").unwrap();
        let server = tokio::spawn({
            let root = root.clone();
            async move {
                let pulse = Pulse::since(1);
                pulse.beat(7);
                let outcomes = Outcomes::default();
                serve(&root, Tables { register, outcomes, pulse }).await
            }
        });
        let asked = tokio::task::spawn_blocking(move || {
            loop {
                match ask(&root) {
                    Ok(report) => return (report, std::fs::metadata(path(&root)).unwrap().permissions().mode()),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        let (report, mode) = asked.await.unwrap();
        assert_eq!((report.plugins[0].state, report.collected, mode & 0o777), (State::Skipped, 7, 0o600));
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path(temp.path()).exists());
        let error = ask(temp.path()).unwrap_err();
        assert!(error.contains("no agent is running") && error.contains("-root"), "{error}");
    }
}
