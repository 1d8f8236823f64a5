//! Metadata: JSON documents about the host that change seldom. Each comes from a program or a component, and is posted when it
//! has changed.
//!
//! The document that was delivered last, and its host, are kept in `<root>/metadata`, so that a restart does not post it again.
//! The official agent keeps it in the folder for temporary files, under a predictable name, which other users could plant.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use config::check::{Metadata, Runner};
use delivery::spool::Spool;
use official::programs::process::End;
use official::programs::{Program, process};
use plugins::components::Components;
use plugins::instance::{Gathered, MOST_DOCUMENTS};
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use wasaba_core::clock;
use wasaba_core::document::{self, Document, LONGEST_BYTES};
use wasaba_core::lines::{ABOUT_PLUGINS, LinesAnHour};
use wasaba_core::paths::own::{self, Folder};
use wasaba_core::secret::Secrets;
use wasaba_core::text::Dropped;

use crate::checks::Taken;

/// A record is a document and the id of its host.
const LARGEST_RECORD_BYTES: u64 = 2 * LONGEST_BYTES as u64;

/// How many lines about the metadata of one table are logged in an hour.
const MOST_LINES: u32 = 10;

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

/// A namespace that is filled: where its delivery is recorded, what was delivered last, and what is queued.
struct Namespace {
    file: PathBuf,
    last: Option<Delivered>,
    pending: Option<Pending>,
}

impl Namespace {
    async fn new(root: &Path, name: &str) -> Self {
        let file = document::folder(root).join(format!("{name}.json"));
        Self { last: read(&file).await, file, pending: None }
    }

    /// Records a delivery: the host that it is for, or `None` if it failed.
    async fn delivered(&mut self, host: Option<Arc<str>>) {
        if let (Some(Pending { value, json, .. }), Some(host)) = (self.pending.take(), host) {
            self.last = Some(Delivered { host: host.to_string(), value });
            keep_file(&self.file, format!("{{\"host\":{},\"document\":{json}}}", Value::from(&*host))).await;
        }
    }
}

/// Reads the metadata for ever, and queues each document that differs from the one before in its namespace. Records what was delivered.
/// A plugin's own namespaces are not posted where another table has that name: `taken`.
pub async fn keep(
    metadata: Arc<Metadata>,
    components: Components,
    cache: Cache,
    documents: Sender<Document>,
    taken: Taken,
) {
    let mut namespaces = HashMap::<Arc<str>, Namespace>::new();
    let mut ticks = tokio::time::interval(metadata.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last_problems = Vec::new();
    let mut lines = LinesAnHour::new(MOST_LINES, clock::instant());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            (name, host) = delivery(&mut namespaces) => {
                if let Some(namespace) = namespaces.get_mut(&name) {
                    namespace.delivered(host).await;
                }
                continue;
            }
        }
        let Read { documents: read, mut problems } = ask(&metadata, &components).await;
        let mut dropped = Dropped::hiding(&Secrets::default());
        for (name, json, value) in read {
            if name != metadata.name && taken(&name) {
                dropped.add("another table has this name", &name);
                continue;
            }
            if !namespaces.contains_key(&name) {
                let namespace = Namespace::new(&cache.root, &name).await;
                if namespace.last.is_none() && !has_room(filled(&cache.root, &namespaces).await, &mut problems) {
                    continue;
                }
                namespaces.insert(Arc::clone(&name), namespace);
            }
            let Some(namespace) = namespaces.get_mut(&name) else { continue };
            let host = cache.host().await;
            // A document of another host was not delivered for this one.
            let last = namespace.last.as_ref().filter(|last| Some(&last.host) == host.as_ref()).map(|last| &last.value);
            if namespace.pending.as_ref().map(|pending| &pending.value).or(last) == Some(&value) {
                continue;
            }
            let (sender, delivered) = oneshot::channel();
            let document = Document { namespace: name, json: json.clone(), delivered: sender };
            // Without an API key the queue is closed. If it is full, the document is queued again at the next tick.
            documents.try_send(document).ok();
            namespace.pending = Some(Pending { value, json, delivered });
        }
        problems.extend(dropped.lines_of("document"));
        // The same problem is logged once.
        for problem in problems.iter().filter(|problem| !last_problems.contains(*problem)) {
            if let Some(problem) = lines.admitted(problem.clone(), clock::instant()) {
                tracing::warn!(target: ABOUT_PLUGINS, "metadata {}: {problem}", metadata.name);
            }
        }
        last_problems = problems;
    }
}

/// How many namespaces of the host are filled: those of which a delivery is recorded, by any table and before a restart too, and
/// those that wait for their first.
async fn filled(root: &Path, namespaces: &HashMap<Arc<str>, Namespace>) -> usize {
    let folder = document::folder(root);
    let recorded = tokio::task::spawn_blocking(move || Folder::open(&folder).and_then(|folder| folder.names()));
    let recorded = recorded.await.ok().and_then(Result::ok).map_or(0, |names| names.len());
    recorded.saturating_add(namespaces.values().filter(|namespace| namespace.last.is_none()).count())
}

/// Whether a document may fill another namespace beside as many; else the reason is in `problems`, once. Each is kept in memory and in
/// a file, Mackerel takes no more, and a plugin could think of new ones for ever.
fn has_room(filled: usize, problems: &mut Vec<String>) -> bool {
    let has_room = filled < MOST_DOCUMENTS;
    let why = format!(
        "dropped documents: {MOST_DOCUMENTS} namespaces of this host are filled, as many as Mackerel accepts; delete those that are \
         not needed any more, on Mackerel and in `metadata` of the agent's root"
    );
    if !has_room && !problems.contains(&why) {
        problems.push(why);
    }
    has_room
}

/// A namespace whose document was delivered, and for which host; `None` if its delivery failed. Waits for ever if none is pending.
async fn delivery(namespaces: &mut HashMap<Arc<str>, Namespace>) -> (Arc<str>, Option<Arc<str>>) {
    std::future::poll_fn(|context| {
        for (name, namespace) in &mut *namespaces {
            if let Some(pending) = &mut namespace.pending
                && let Poll::Ready(host) = Pin::new(&mut pending.delivered).poll(context)
            {
                return Poll::Ready((Arc::clone(name), host.ok()));
            }
        }
        Poll::Pending
    })
    .await
}

/// What one run read: documents by their namespaces, as text and parsed, and what is wrong with others.
#[derive(Default)]
struct Read {
    documents: Vec<(Arc<str>, String, Value)>,
    problems: Vec<String>,
}

async fn ask(metadata: &Metadata, components: &Components) -> Read {
    let program = match &metadata.runner {
        Runner::Program(program) => program,
        Runner::Component(table) => {
            let Gathered { documents, warnings } = match components.metadata(&metadata.name, table).await {
                Ok(gathered) => gathered,
                Err(problem) => return Read { problems: vec![problem], ..Read::default() },
            };
            let mut read = Read { problems: warnings, ..Read::default() };
            for (name, value) in documents {
                match within_limit(value.to_string()) {
                    Ok(json) => read.documents.push((name, json, value)),
                    Err(problem) => read.problems.push(format!("{name}: {problem}")),
                }
            }
            return read;
        }
    };
    match of_program(&metadata.name, program).await {
        Ok((json, value)) => Read { documents: vec![(Arc::clone(&metadata.name), json, value)], ..Read::default() },
        Err(problem) => Read { problems: vec![problem], ..Read::default() },
    }
}

async fn of_program(name: &str, program: &Program) -> Result<(String, Value), String> {
    let run = process::run(program, &[]).await;
    if let Some(line) = run.stderr_line() {
        tracing::warn!("metadata {name}: {line}");
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

    use official::programs::Command;
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

    #[test]
    fn documents_fill_fifty_namespaces_and_the_others_are_reported_once() {
        let mut problems = Vec::new();
        assert!((0..MOST_DOCUMENTS).all(|filled| has_room(filled, &mut problems)) && problems.is_empty());
        assert!(!has_room(MOST_DOCUMENTS, &mut problems) && !has_room(MOST_DOCUMENTS, &mut problems));
        assert!(problems.len() == 1 && problems[0].contains("50 namespaces of this host are filled"), "{problems:?}");
    }

    #[tokio::test]
    async fn namespaces_that_were_filled_before_a_restart_or_by_another_table_count_and_so_do_those_that_wait() {
        let temp = tempfile::tempdir().unwrap();
        let mut namespaces = HashMap::new();
        assert_eq!(filled(temp.path(), &namespaces).await, 0);
        for name in ["other", "md-a"] {
            let record = "{\"host\":\"h\",\"document\":1}".to_owned();
            keep_file(&document::folder(temp.path()).join(format!("{name}.json")), record).await;
        }
        for name in ["md-a", "md-b"] {
            namespaces.insert(name.into(), Namespace::new(temp.path(), name).await);
        }
        assert_eq!(filled(temp.path(), &namespaces).await, 3, "md-a is recorded, md-b waits");
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
            let Read { documents, problems } = ask(&metadata(line), &Components::default()).await;
            let documents = documents.iter().map(|(_, json, _)| json.as_str()).collect::<Vec<_>>();
            match expected {
                Ok(expected) => assert_eq!((documents, problems.len()), (vec![expected], 0), "{line}"),
                Err(expected) => assert!(documents.is_empty() && problems.concat().contains(expected), "{line}"),
            }
        }
    }

    /// Waits until something is so.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("not yet: {what}"));
    }

    #[tokio::test]
    async fn a_document_is_queued_once_and_again_when_it_changes_but_not_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, "{\"a\":1}").unwrap();
        let runs = folder.path().join("runs");
        let plugin = Arc::new(metadata(&format!("echo run >>{}; cat {}", runs.display(), source.display())));
        let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
        spool.keep_host_id("HOST1");
        let start = || {
            let (sender, documents) = mpsc::channel(10);
            let cache = Cache { root: folder.path().into(), spool: Arc::clone(&spool) };
            (
                tokio::spawn(keep(Arc::clone(&plugin), Components::default(), cache, sender, Arc::new(|_| false))),
                documents,
            )
        };
        let (running, mut documents) = start();
        let first = documents.recv().await.unwrap();
        assert_eq!((&*first.namespace, first.json.as_str()), ("md", "{\"a\":1}"));
        first.delivered.send("HOST1".into()).unwrap();
        // Other white space is not a change; a document whose delivery failed is queued again.
        std::fs::write(&source, "{ \"a\" : 1 }").unwrap();
        let kept = folder.path().join("metadata/md.json");
        until("the document is kept", || kept.exists()).await;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
        std::fs::write(&source, "{\"a\":2}").unwrap();
        let refused = documents.recv().await.unwrap();
        assert_eq!(refused.json, "{\"a\":2}");
        drop(refused.delivered);
        let again = documents.recv().await.unwrap();
        assert_eq!(again.json, "{\"a\":2}");
        again.delivered.send("HOST1".into()).unwrap();
        let is_kept = |text: &str| std::fs::read_to_string(&kept).unwrap() == text;
        until("the second is kept", || is_kept("{\"host\":\"HOST1\",\"document\":{\"a\":2}}")).await;
        running.abort();
        let (running, mut documents) = start();
        // What a run has read is looked at before the next run begins.
        let count = || std::fs::metadata(&runs).map_or(0, |about| about.len() / 4);
        let before = count();
        until("it ran twice more", || count() >= before + 2).await;
        std::fs::write(&source, "3").unwrap();
        let third = documents.recv().await.unwrap();
        assert_eq!(third.json, "3", "the delivered document was queued again");
        third.delivered.send("HOST1".into()).unwrap();
        until("the third is kept", || is_kept("{\"host\":\"HOST1\",\"document\":3}")).await;
        // It was not delivered for another host.
        spool.keep_host_id("HOST2");
        assert_eq!(documents.recv().await.unwrap().json, "3");
        running.abort();
    }
}
