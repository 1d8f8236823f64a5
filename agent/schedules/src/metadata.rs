//! Metadata: JSON documents about the host that change seldom, each told when it has changed, by a program or a component.
//!
//! What was delivered last, and for which host, is kept in `<root>/metadata`, so that a restart tells nothing again. The official
//! agent keeps it in the folder for temporary files, under a name that anybody can guess and lay a trap at.

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

/// Mackerel takes no more.
const LONGEST_BYTES: usize = 100_000;

/// Where is kept what was delivered.
#[derive(Clone)]
pub struct Cache {
    /// The agent's root.
    pub root: PathBuf,
    /// Which knows which host this is.
    pub spool: Arc<Spool>,
}

impl Cache {
    /// The host that documents are delivered for now; none before it is registered.
    async fn host(&self) -> Option<String> {
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || spool.host_id()).await.unwrap_or_default()
    }
}

/// A document that was delivered, and for which host.
struct Known {
    host: String,
    value: Value,
}

/// A document that was handed on: what it says, and who tells that it has arrived.
struct Pending {
    value: Value,
    json: String,
    arrived: oneshot::Receiver<Arc<str>>,
}

/// Asks for ever, and hands on each document that is not the one before. What was delivered is kept in the cache.
pub async fn keep(metadata: Arc<Metadata>, components: Components, cache: Cache, documents: Sender<Document>) {
    let file = document::folder(&cache.root).join(format!("{}.json", metadata.name));
    let mut known = read(&file).await;
    let mut pending: Option<Pending> = None;
    let mut ticks = tokio::time::interval(metadata.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last_problem = String::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            arrived = arrival(&mut pending) => {
                if let (Some(Pending { value, json, .. }), Some(host)) = (pending.take(), arrived) {
                    known = Some(Known { host: host.to_string(), value });
                    keep_file(&file, format!("{{\"host\":{},\"document\":{json}}}", Value::from(&*host))).await;
                }
                continue;
            }
        }
        let (json, value) = match ask(&metadata, &components).await {
            Ok(told) => told,
            Err(problem) => {
                // The same again is no news.
                if problem != last_problem {
                    tracing::warn!("metadata {}: {problem}", metadata.name);
                }
                last_problem = problem;
                continue;
            }
        };
        last_problem.clear();
        let host = cache.host().await;
        // What another host was told, this one was not.
        let known = known.as_ref().filter(|known| Some(&known.host) == host.as_ref()).map(|known| &known.value);
        if pending.as_ref().map(|pending| &pending.value).or(known) == Some(&value) {
            continue;
        }
        let (delivered, arrived) = oneshot::channel();
        let document = Document { namespace: Arc::clone(&metadata.name), json: json.clone(), delivered };
        // Without an API key nobody is to be told. What does not fit is told again.
        documents.try_send(document).ok();
        pending = Some(Pending { value, json, arrived });
    }
}

/// The host for which what was handed on has arrived, none if it never will; waits for ever if nothing was.
async fn arrival(pending: &mut Option<Pending>) -> Option<Arc<str>> {
    match pending {
        Some(pending) => (&mut pending.arrived).await.ok(),
        None => std::future::pending().await,
    }
}

async fn ask(metadata: &Metadata, components: &Components) -> Result<(String, Value), String> {
    let program = match &metadata.runner {
        Runner::Program(program) => program,
        Runner::Component(table) => {
            let value = components.metadata(&metadata.name, table).await?;
            return short(value.to_string()).map(|json| (json, value));
        }
    };
    let run = process::run(program, &[]).await;
    if let Some(complaint) = run.complaint() {
        tracing::warn!("metadata {}: {complaint}", metadata.name);
    }
    match run.end {
        End::Exited(0) => {}
        End::Exited(code) => return Err(format!("it ended with code {code}")),
        End::TimedOut => return Err(format!("it took longer than {:?} and was ended", program.timeout)),
        End::Flooded => return Err("it printed more than 1 MiB and was ended".to_owned()),
        End::NotStarted(_, why) => return Err(format!("it cannot be started: {why}")),
    }
    let json = String::from_utf8(run.stdout).map_err(|_| "what it printed is no UTF-8".to_owned())?;
    let value =
        serde_json::from_str(&json).map_err(|error| format!("what it printed is not one JSON value: {error}"))?;
    short(json.trim().to_owned()).map(|json| (json, value))
}

/// What is not too long for Mackerel.
fn short(json: String) -> Result<String, String> {
    if json.len() <= LONGEST_BYTES {
        return Ok(json);
    }
    Err(format!("it is {} bytes long, and Mackerel takes no more than {LONGEST_BYTES}", json.len()))
}

async fn read(file: &Path) -> Option<Known> {
    let text = tokio::task::spawn_blocking({
        let file = file.to_owned();
        move || std::fs::read(file).ok()
    });
    let mut kept = serde_json::from_slice::<Value>(&text.await.ok()??).ok()?;
    let host = kept.get("host")?.as_str()?.to_owned();
    Some(Known { host, value: kept.get_mut("document")?.take() })
}

async fn keep_file(file: &Path, json: String) {
    let kept = tokio::task::spawn_blocking({
        let file = file.to_owned();
        move || {
            let folder = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let temporary = file.with_extension("new");
            std::fs::write(&temporary, json)?;
            std::fs::rename(temporary, file)
        }
    });
    if let Ok(Err(error)) = kept.await {
        tracing::warn!("cannot write `{}`: {error}; the metadata is told again after a restart", file.display());
    }
}

#[cfg(test)]
mod tests {
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
    async fn one_json_value_of_any_kind_is_taken_and_nothing_else() {
        for (line, expected) in [
            (
                "echo '{\"b\": 12345678901234567890123, \"a\":\"<x>\"}'",
                Ok("{\"b\": 12345678901234567890123, \"a\":\"<x>\"}"),
            ),
            ("echo 'null'", Ok("null")),
            ("echo ' [1] '", Ok("[1]")),
            ("echo '1 2'", Err("not one JSON value")),
            ("true", Err("not one JSON value")),
            ("echo 1; exit 1", Err("code 1")),
            ("printf '\"\\377\"'", Err("UTF-8")),
            ("printf '\"%0100000d\"' 0", Err("100002 bytes long")),
        ] {
            let told = ask(&metadata(line), &Components::default()).await.map(|(json, _)| json);
            match expected {
                Ok(expected) => assert_eq!(told.as_deref(), Ok(expected), "{line}"),
                Err(expected) => assert!(told.unwrap_err().contains(expected), "{line}"),
            }
        }
    }

    #[tokio::test]
    async fn a_document_is_told_once_again_when_it_changes_and_not_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, "{\"a\":1}").unwrap();
        let wanted = Arc::new(metadata(&format!("cat {}", source.display())));
        let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
        spool.keep_host_id("HOST1");
        let start = || {
            let (sender, documents) = mpsc::channel(10);
            let cache = Cache { root: folder.path().into(), spool: Arc::clone(&spool) };
            (tokio::spawn(keep(Arc::clone(&wanted), Components::default(), cache, sender)), documents)
        };
        let (running, mut documents) = start();
        let first = documents.recv().await.unwrap();
        assert_eq!((&*first.namespace, first.json.as_str()), ("md", "{\"a\":1}"));
        first.delivered.send("HOST1".into()).unwrap();
        // The same in other words is no change; what was refused is told again.
        std::fs::write(&source, "{ \"a\" : 1 }").unwrap();
        let kept = folder.path().join("metadata/md.json");
        while !kept.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
        assert_eq!(third.json, "3", "what had been delivered was told again");
        third.delivered.send("HOST1".into()).unwrap();
        while std::fs::read_to_string(&kept).unwrap() != "{\"host\":\"HOST1\",\"document\":3}" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What one host was told, another was not.
        spool.keep_host_id("HOST2");
        assert_eq!(documents.recv().await.unwrap().json, "3");
        running.abort();
    }
}
