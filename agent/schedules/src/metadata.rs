//! Metadata: JSON documents about the host that change seldom. Each comes from a program or a component, and is posted when it
//! has changed.
//!
//! The document that was delivered last, and its host, are kept in `<root>/metadata`, so that a restart does not post it again.
//! The official agent keeps it in the folder for temporary files, under a predictable name, which other users could plant.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::check::{Metadata, Runner};
use delivery::spool::Spool;
use plugins::components::Components;
use programs::process;
use programs::process::End;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use wasaba_core::document::{self, Document};
use wasaba_core::paths::own::{self, Folder};

/// The longest document that Mackerel accepts.
const LONGEST_BYTES: usize = 100_000;

/// A record is a document and the id of its host.
const LARGEST_RECORD_BYTES: u64 = 2 * LONGEST_BYTES as u64;

/// Where delivered documents are recorded.
#[derive(Clone)]
pub struct Cache {
    /// The agent's root.
    pub root: PathBuf,
    /// Has the host's id.
    pub spool: Arc<Spool>,
}

impl Cache {
    /// The id of the host that documents are delivered for; `None` before it is registered.
    async fn host(&self) -> Option<String> {
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || spool.host_id()).await.unwrap_or_default()
    }
}

/// A document that was delivered, and its host.
struct Delivered {
    host: String,
    value: Value,
}

/// A document that was queued, and a receiver of the host that it is delivered for.
struct Pending {
    value: Value,
    json: String,
    delivered: oneshot::Receiver<Arc<str>>,
}

/// Reads the metadata for ever, and queues each document that differs from the one before. Records what was delivered.
pub async fn keep(metadata: Arc<Metadata>, components: Components, cache: Cache, documents: Sender<Document>) {
    let file = document::folder(&cache.root).join(format!("{}.json", metadata.name));
    let mut last = read(&file).await;
    let mut pending: Option<Pending> = None;
    let mut ticks = tokio::time::interval(metadata.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last_problem = String::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            host = delivery(&mut pending) => {
                if let (Some(Pending { value, json, .. }), Some(host)) = (pending.take(), host) {
                    last = Some(Delivered { host: host.to_string(), value });
                    keep_file(&file, format!("{{\"host\":{},\"document\":{json}}}", Value::from(&*host))).await;
                }
                continue;
            }
        }
        let (json, value) = match ask(&metadata, &components).await {
            Ok(document) => document,
            Err(problem) => {
                // The same problem is logged once.
                if problem != last_problem {
                    tracing::warn!("metadata {}: {problem}", metadata.name);
                }
                last_problem = problem;
                continue;
            }
        };
        last_problem.clear();
        let host = cache.host().await;
        // A document of another host was not delivered for this one.
        let last = last.as_ref().filter(|last| Some(&last.host) == host.as_ref()).map(|last| &last.value);
        if pending.as_ref().map(|pending| &pending.value).or(last) == Some(&value) {
            continue;
        }
        let (sender, delivered) = oneshot::channel();
        let document = Document { namespace: Arc::clone(&metadata.name), json: json.clone(), delivered: sender };
        // Without an API key the queue is closed. If it is full, the document is queued again at the next tick.
        documents.try_send(document).ok();
        pending = Some(Pending { value, json, delivered });
    }
}

/// The host that the pending document was delivered for; `None` if its delivery failed. Waits for ever if none is pending.
async fn delivery(pending: &mut Option<Pending>) -> Option<Arc<str>> {
    match pending {
        Some(pending) => (&mut pending.delivered).await.ok(),
        None => std::future::pending().await,
    }
}

async fn ask(metadata: &Metadata, components: &Components) -> Result<(String, Value), String> {
    let program = match &metadata.runner {
        Runner::Program(program) => program,
        Runner::Component(table) => {
            let value = components.metadata(&metadata.name, table).await?;
            return within_limit(value.to_string()).map(|json| (json, value));
        }
    };
    let run = process::run(program, &[]).await;
    if let Some(line) = run.stderr_line() {
        tracing::warn!("metadata {}: {line}", metadata.name);
    }
    if run.end != End::Exited(0) {
        return Err(program.failure(&run.end));
    }
    let json = String::from_utf8(run.stdout).map_err(|_| "invalid UTF-8 in its output".to_owned())?;
    let value =
        serde_json::from_str(&json).map_err(|error| format!("its output is not a single JSON value: {error}"))?;
    within_limit(json.trim().to_owned()).map(|json| (json, value))
}

/// `json`, unless it is too long for Mackerel.
fn within_limit(json: String) -> Result<String, String> {
    if json.len() <= LONGEST_BYTES {
        return Ok(json);
    }
    Err(format!("its document has {} bytes, more than the {LONGEST_BYTES} that Mackerel accepts", json.len()))
}

async fn read(file: &Path) -> Option<Delivered> {
    let text = tokio::task::spawn_blocking({
        let file = file.to_owned();
        move || own::read(&file, LARGEST_RECORD_BYTES).ok()
    });
    let mut kept = serde_json::from_slice::<Value>(&text.await.ok()??).ok()?;
    let host = kept.get("host")?.as_str()?.to_owned();
    Some(Delivered { host, value: kept.get_mut("document")?.take() })
}

async fn keep_file(file: &Path, json: String) {
    let kept = tokio::task::spawn_blocking({
        let file = file.to_owned();
        move || {
            let folder = Folder::create_private(file.parent().unwrap_or(Path::new(".")))?;
            folder.write(file.file_name().unwrap_or_default(), json.as_bytes(), 0o600)
        }
    });
    if let Ok(Err(error)) = kept.await {
        tracing::warn!("cannot write `{}`: {error}; the metadata will be posted again after a restart", file.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::time::Duration;

    use programs::{Command, Program};
    use tokio::sync::mpsc;

    use super::*;

    fn metadata(line: &str) -> Metadata {
        let program = Program {
            command: Command::Shell(line.to_owned()),
            user: None,
            environment: Vec::new(),
            timeout: Duration::from_secs(20),
        };
        Metadata { name: "md".into(), runner: Runner::Program(program), every: Duration::from_millis(20) }
    }

    #[tokio::test]
    async fn only_a_single_json_value_of_any_kind_is_accepted() {
        for (line, expected) in [
            (
                "echo '{\"b\": 12345678901234567890123, \"a\":\"<x>\"}'",
                Ok("{\"b\": 12345678901234567890123, \"a\":\"<x>\"}"),
            ),
            ("echo 'null'", Ok("null")),
            ("echo ' [1] '", Ok("[1]")),
            ("echo '1 2'", Err("not a single JSON value")),
            ("true", Err("not a single JSON value")),
            ("echo 1; exit 1", Err("exited with code 1")),
            ("printf '\"\\377\"'", Err("UTF-8")),
            ("printf '\"%0100000d\"' 0", Err("has 100002 bytes")),
        ] {
            let document = ask(&metadata(line), &Components::default()).await.map(|(json, _)| json);
            match expected {
                Ok(expected) => assert_eq!(document.as_deref(), Ok(expected), "{line}"),
                Err(expected) => assert!(document.unwrap_err().contains(expected), "{line}"),
            }
        }
    }

    #[tokio::test]
    async fn a_document_is_queued_once_and_again_when_it_changes_but_not_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, "{\"a\":1}").unwrap();
        let plugin = Arc::new(metadata(&format!("cat {}", source.display())));
        let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
        spool.keep_host_id("HOST1");
        let start = || {
            let (sender, documents) = mpsc::channel(10);
            let cache = Cache { root: folder.path().into(), spool: Arc::clone(&spool) };
            (tokio::spawn(keep(Arc::clone(&plugin), Components::default(), cache, sender)), documents)
        };
        let (running, mut documents) = start();
        let first = documents.recv().await.unwrap();
        assert_eq!((&*first.namespace, first.json.as_str()), ("md", "{\"a\":1}"));
        first.delivered.send("HOST1".into()).unwrap();
        // Other white space is not a change; a document whose delivery failed is queued again.
        std::fs::write(&source, "{ \"a\" : 1 }").unwrap();
        let kept = folder.path().join("metadata/md.json");
        while !kept.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
        std::fs::write(&source, "{\"a\":2}").unwrap();
        let refused = documents.recv().await.unwrap();
        assert_eq!(refused.json, "{\"a\":2}");
        drop(refused.delivered);
        let again = documents.recv().await.unwrap();
        assert_eq!(again.json, "{\"a\":2}");
        again.delivered.send("HOST1".into()).unwrap();
        while std::fs::read_to_string(&kept).unwrap() != "{\"host\":\"HOST1\",\"document\":{\"a\":2}}" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.abort();
        let (running, mut documents) = start();
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::write(&source, "3").unwrap();
        let third = documents.recv().await.unwrap();
        assert_eq!(third.json, "3", "the delivered document was queued again");
        third.delivered.send("HOST1".into()).unwrap();
        while std::fs::read_to_string(&kept).unwrap() != "{\"host\":\"HOST1\",\"document\":3}" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It was not delivered for another host.
        spool.keep_host_id("HOST2");
        assert_eq!(documents.recv().await.unwrap().json, "3");
        running.abort();
    }
}
