//! The control socket: where a running agent tells its operator how its plugins are doing. `wasaba plugin list` reads it.
//!
//! A unix socket in the agent's own folder, for the agent's own user and root alone. Who connects is sent one JSON document;
//! nothing is read from anybody. Plugins are refused there, whatever they were granted: see `capabilities::connect`.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
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
use wasaba_core::text::printable;

/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the agent may take to answer; shorter than what a container's health check may take.
const ANSWER: Duration = Duration::from_secs(3);

/// What the agent tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The agent's release.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// When it last collected, or started, in seconds since 1970.
    pub collected: i64,
    /// Every plugin instance that is wanted, by name.
    pub plugins: Vec<PluginReport>,
}

/// When the agent last collected: what it is alive by.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulse {
    /// Of an agent that starts now, in seconds since 1970.
    #[must_use]
    pub fn since(unix_seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(unix_seconds)))
    }

    /// It has collected now.
    pub fn beat(&self, unix_seconds: i64) {
        self.0.store(unix_seconds, Ordering::Relaxed);
    }
}

/// How one plugin instance is doing.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// The instance's name.
    pub name: String,
    /// `running`, `in trouble` or `left out`.
    pub state: String,
    /// What is wrong, a line each.
    pub trouble: Vec<String>,
    /// The component's file, if it could be loaded.
    pub file: Option<String>,
    /// The component's own name and version.
    pub component: Option<String>,
    /// The SHA-256 of the file.
    pub sha256: Option<String>,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Failed calls by kind, those that there were.
    pub failures: Vec<(String, u64)>,
    /// The last call, in milliseconds.
    pub last_ms: f64,
    /// The most memory of a call, in bytes.
    pub memory_bytes: u64,
    /// What its connections have sent, in bytes.
    pub sent_bytes: u64,
    /// What its connections have received, in bytes.
    pub received_bytes: u64,
    /// Wishes that were refused.
    pub refusals: u64,
    /// The last different refusals.
    pub refused: Vec<String>,
}

/// The socket of the agent with this root.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("wasaba.sock")
}

/// Tells everybody who connects, until it is dropped. The spool's lock has made sure that no other agent has this root, so
/// an old socket is a dead one's.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(root: &Path, register: Register, pulse: Pulse) -> io::Result<()> {
    let path = path(root);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let _removed = Removed(path.clone());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let document = serde_json::to_vec(&report(&register, &pulse)).unwrap_or_default();
        // One after the other: who does not read is cut off. A reader that has gone away is no error.
        tokio::time::timeout(PATIENCE, stream.write_all(&document)).await.ok();
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// What the agent with this root tells now.
///
/// # Errors
/// There is none that runs, or it may not be asked.
pub fn ask(root: &Path) -> Result<Report, String> {
    let path = path(root);
    let shown = path.display();
    let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no agent runs with this root (`{shown}`: {error}); name another with -root or -conf")
        }
        _ => format!("cannot ask the agent at `{shown}`: {error}; only its own user and root may"),
    })?;
    let mut document = Vec::new();
    let read = stream.set_read_timeout(Some(ANSWER)).and_then(|()| (&stream).read_to_end(&mut document));
    read.map_err(|error| format!("the agent at `{shown}` does not answer: {error}"))?;
    serde_json::from_slice(&document)
        .map_err(|error| format!("the agent at `{shown}` is of another release than this program: {error}"))
}

fn report(register: &Register, pulse: &Pulse) -> Report {
    let plugins = register.all().into_iter().map(|(key, entry)| match entry {
        Entry::Running(instance) => running(&key, &instance),
        Entry::Skipped(why) => {
            PluginReport { name: name_of(&key), state: "left out".into(), trouble: why, ..PluginReport::default() }
        }
    });
    Report {
        version: crate::VERSION.to_owned(),
        process: std::process::id(),
        collected: pulse.0.load(Ordering::Relaxed),
        plugins: plugins.collect(),
    }
}

/// A metrics plugin is called by its name, others by what they are, too.
fn name_of(key: &Key) -> String {
    let name = if key.kind == Kind::Metrics { key.name.to_string() } else { key.to_string() };
    printable(&name, 100)
}

fn running(key: &Key, instance: &Instance) -> PluginReport {
    let Status { calls, failures, last_ms, memory_bytes, sent_bytes, received_bytes, refusals, trouble, .. } =
        instance.status();
    let plugin = instance.plugin();
    let about = &plugin.description;
    PluginReport {
        name: name_of(key),
        state: if trouble.is_some() { "in trouble" } else { "running" }.into(),
        trouble: trouble.into_iter().collect(),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_is_told_and_nobody_else_may_ask() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        let register = Register::default();
        register.skip(Key::metrics("web"), None, vec!["there is no plugin `ngnix`".into()]);
        std::fs::write(path(&root), "left behind by a dead agent").unwrap();
        let server = tokio::spawn({
            let root = root.clone();
            async move {
                let pulse = Pulse::since(1);
                pulse.beat(7);
                serve(&root, register, pulse).await
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
        assert_eq!((report.plugins[0].state.as_str(), report.collected, mode & 0o777), ("left out", 7, 0o600));
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path(temp.path()).exists());
        let error = ask(temp.path()).unwrap_err();
        assert!(error.contains("no agent runs") && error.contains("-root"), "{error}");
    }
}
