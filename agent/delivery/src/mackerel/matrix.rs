//! The matrix: every endpoint of Mackerel times every way in which it, or what stands before it, misbehaves. In each cell one endpoint
//! misbehaves for an hour while all others are well, and then all are. Whatever the cell, the same promises must hold.
//!
//! The hours pass in simulated time: the runtime's clock is paused and moved by [`pass`], so that a cell takes seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use wasaba_core::document::Document;
use wasaba_core::graph::{Defined, GraphDefinition};
use wasaba_core::report::{Lost, Report, Status};
use wasaba_core::sample::Sample;
use wasaba_core::secret::Secret;

use super::client::{Agent, Route};
use super::testing::{Request, answer, read};
use super::{Description, Inbox, Pace, Settings, Signals, run_at};
use crate::spool::{Ledger, Minute, Spool};

/// When each simulation begins, in seconds since 1970; the beginning of a minute.
const BEGIN: i64 = 1_800_000_000;

/// How long an endpoint misbehaves.
const MISBEHAVING: u32 = 60;

/// How long all is well after that: an hour, since a lane that made all its requests of an hour waits for the next.
const WELL: u32 = 70;

/// The most requests to an endpoint in an hour in which it only fails.
const MOST_REQUESTS: usize = 30;

/// The most lines about it in that hour.
const MOST_LINES: usize = 8;

/// The minutes within which a value of an endpoint that is well must arrive.
const ON_TIME: i64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Endpoint {
    Values,
    Reports,
    Definitions,
    Metadata,
    Description,
    Registration,
    LookUp,
    Status,
    OtherHost,
}

impl Endpoint {
    const ALL: [Self; 9] = [
        Self::Values,
        Self::Reports,
        Self::Definitions,
        Self::Metadata,
        Self::Description,
        Self::Registration,
        Self::LookUp,
        Self::Status,
        Self::OtherHost,
    ];

    /// Its name in the table.
    fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Reports => "check reports",
            Self::Definitions => "graph definitions",
            Self::Metadata => "metadata",
            Self::Description => "host description",
            Self::Registration => "registration",
            Self::LookUp => "own host",
            Self::Status => "host status",
            Self::OtherHost => "another host's id",
        }
    }

    /// The endpoint of a request; `None` for the list of hosts of a name, which is always well.
    fn of(line: &str) -> Option<Self> {
        Some(match line {
            "POST /api/v0/tsdb" => Self::Values,
            "POST /api/v0/monitoring/checks/report" => Self::Reports,
            "POST /api/v0/graph-defs/create" => Self::Definitions,
            "POST /api/v0/hosts" => Self::Registration,
            "GET /api/v0/hosts/HOST1" => Self::LookUp,
            "PUT /api/v0/hosts/HOST1" => Self::Description,
            "POST /api/v0/hosts/HOST1/status" => Self::Status,
            line if line.starts_with("PUT /api/v0/hosts/HOST1/metadata/") => Self::Metadata,
            line if line.starts_with("GET /api/v0/hosts?") && line.contains("customIdentifier") => Self::OtherHost,
            line if line.starts_with("GET /api/v0/hosts?") => return None,
            line => panic!("unknown request {line}"),
        })
    }
}

/// What an endpoint does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misbehaviour {
    /// It answers this: status, headers, body.
    Answers(u16, &'static str, &'static str),
    /// It closes the connection after the request.
    Closes,
    /// It resets the connection after the request.
    Resets,
    /// It never answers.
    Hangs,
    /// It sends a byte every ten seconds.
    Trickles,
    /// Its answer ends early.
    Truncates,
    /// Its answer is not HTTP.
    Babbles,
    /// Its answer does not end.
    Floods,
    /// It does its work and closes the connection without an answer.
    Forgets,
    /// It answers 504 to what is larger than 1 kB, and nothing to the rest.
    Chokes,
}

use Misbehaviour::{Answers, Babbles, Chokes, Closes, Floods, Forgets, Hangs, Resets, Trickles, Truncates};

const ERROR: &str = r#"{"error":{"message":"no"}}"#;
const PAGE: &str = "<html>no</html>";

/// Each as the table names it.
const MISBEHAVIOURS: [(&str, Misbehaviour); 40] = [
    ("400", Answers(400, "", ERROR)),
    ("400 of a proxy", Answers(400, "", PAGE)),
    ("401", Answers(401, "", ERROR)),
    ("401 of a proxy", Answers(401, "", PAGE)),
    ("403", Answers(403, "", ERROR)),
    ("403 of a proxy", Answers(403, "", PAGE)),
    ("404", Answers(404, "", ERROR)),
    ("404 of a proxy", Answers(404, "", PAGE)),
    ("405 of a proxy", Answers(405, "", PAGE)),
    ("407 of a proxy", Answers(407, "proxy-authenticate: Basic\r\n", PAGE)),
    ("408", Answers(408, "", "")),
    ("409", Answers(409, "", ERROR)),
    ("411 of a proxy", Answers(411, "", PAGE)),
    ("413", Answers(413, "", ERROR)),
    ("413 of a proxy", Answers(413, "", PAGE)),
    ("422", Answers(422, "", ERROR)),
    ("429", Answers(429, "", ERROR)),
    ("429, `Retry-After: 1200`", Answers(429, "retry-after: 1200\r\n", ERROR)),
    ("500", Answers(500, "", ERROR)),
    ("500, empty", Answers(500, "", "")),
    ("502 of a proxy", Answers(502, "", PAGE)),
    ("503, `Retry-After: 600`", Answers(503, "retry-after: 600\r\n", PAGE)),
    ("504 of a proxy", Answers(504, "", PAGE)),
    ("302 to a login page", Answers(302, "location: /login\r\n", PAGE)),
    ("301 to itself", Answers(301, "location: /api/v0/tsdb\r\n", "")),
    ("307 in a circle", Answers(307, "location: ?\r\n", "")),
    ("204", Answers(204, "", "")),
    ("200, empty", Answers(200, "", "")),
    ("200 with a page", Answers(200, "", PAGE)),
    ("200 with `{}`", Answers(200, "", "{}")),
    ("200 with `null`", Answers(200, "", "null")),
    ("200 with `{\"success\":false}`", Answers(200, "", r#"{"success":false}"#)),
    ("200 with an error", Answers(200, "", r#"{"success":true,"error":"no"}"#)),
    ("closes the connection", Closes),
    ("resets the connection", Resets),
    ("never answers", Hangs),
    ("a byte every ten seconds", Trickles),
    ("an answer that ends early", Truncates),
    ("an answer that is not HTTP", Babbles),
    ("an answer without an end", Floods),
];

/// Those in which the request may have been carried out, or which only some requests meet.
const AMBIGUOUS: [(&str, Misbehaviour); 2] =
    [("works, but does not answer", Forgets), ("504 to requests over 1 kB", Chokes)];

/// Mackerel, of which one endpoint misbehaves.
struct Mackerel {
    endpoint: Endpoint,
    misbehaviour: Misbehaviour,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    is_well: bool,
    /// When the endpoint was tried while it misbehaved.
    tries: Vec<Instant>,
    /// When each value was accepted first: its host, name and time.
    values: BTreeMap<(String, String, i64), Instant>,
    /// Values that were accepted again.
    repeated: usize,
    reports: Vec<String>,
    definitions: BTreeSet<String>,
    documents: BTreeMap<String, String>,
    descriptions: usize,
    hosts: usize,
    status: Option<String>,
}

impl Mackerel {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).serve(stream));
            }
        });
        address
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read(&mut stream, &mut buffer).await {
            let endpoint = Endpoint::of(&request.line);
            let misbehaves = endpoint == Some(self.endpoint) && !self.seen().is_well;
            if misbehaves {
                self.seen().tries.push(Instant::now());
            }
            let written = match self.misbehaviour {
                _ if !misbehaves => stream.write_all(self.work(endpoint, &request).as_bytes()).await,
                Answers(status, headers, body) => {
                    let headers = headers.replace("location: ?", &format!("location: {}", path(&request)));
                    stream
                        .write_all(answer(status, body).replacen("\r\n", &format!("\r\n{headers}"), 1).as_bytes())
                        .await
                }
                Chokes if request.body.len() > 1_024 => stream.write_all(answer(504, PAGE).as_bytes()).await,
                Chokes => stream.write_all(self.work(endpoint, &request).as_bytes()).await,
                Closes => return,
                Forgets => {
                    self.work(endpoint, &request);
                    return;
                }
                Resets => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
                Hangs => std::future::pending().await,
                Trickles => {
                    for byte in answer(200, r#"{"success":true}"#).bytes() {
                        tokio::time::sleep(Duration::from_secs(10)).await;
                        if stream.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                    return;
                }
                Truncates => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\":true}").await.ok();
                    return;
                }
                Babbles => {
                    stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.ok();
                    return;
                }
                Floods => {
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    if stream.write_all(head.as_bytes()).await.is_err() {
                        return;
                    }
                    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
                    while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                    return;
                }
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// Does what an endpoint is for, and answers as Mackerel does.
    fn work(&self, endpoint: Option<Endpoint>, request: &Request) -> String {
        let mut seen = self.seen();
        let body = || serde_json::from_str::<Value>(&request.body).unwrap();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
        let host = json!({"id": "HOST1", "name": "web1", "createdAt": BEGIN, "status": "standby", "interfaces": []});
        match endpoint {
            None => return answer(200, &json!({"hosts": vec![host; seen.hosts]}).to_string()),
            Some(Endpoint::Values) => {
                let all = body();
                assert!(!all.as_array().unwrap().is_empty(), "no values");
                for point in all.as_array().unwrap() {
                    let key = (text(point, "hostId"), text(point, "name"), point["time"].as_i64().unwrap());
                    if seen.values.contains_key(&key) {
                        seen.repeated += 1;
                    }
                    seen.values.entry(key).or_insert_with(Instant::now);
                }
            }
            Some(Endpoint::Reports) => {
                for report in body()["reports"].as_array().unwrap() {
                    seen.reports.push(format!("{} {}", text(report, "name"), text(report, "status")));
                }
            }
            Some(Endpoint::Definitions) => {
                seen.definitions.extend(body().as_array().unwrap().iter().map(|graph| text(graph, "name")));
            }
            Some(Endpoint::Metadata) => {
                let namespace = path(request).rsplit('/').next().unwrap_or_default().to_owned();
                seen.documents.insert(namespace, request.body.clone());
            }
            Some(Endpoint::Description) => {
                seen.descriptions += 1;
                return answer(200, r#"{"id":"HOST1"}"#);
            }
            Some(Endpoint::Registration) => {
                seen.hosts += 1;
                return answer(200, r#"{"id":"HOST1"}"#);
            }
            Some(Endpoint::LookUp) => return answer(200, &json!({"host": host}).to_string()),
            Some(Endpoint::Status) => seen.status = Some(text(&body(), "status")),
            Some(Endpoint::OtherHost) => return answer(200, r#"{"hosts":[{"id":"HOST9"}]}"#),
        }
        answer(200, r#"{"success":true}"#)
    }
}

fn path(request: &Request) -> &str {
    request.line.split(' ').nth(1).unwrap_or_default()
}

thread_local! {
    static STARTED: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// The simulated time since the simulation began.
fn elapsed() -> Duration {
    STARTED.get().map(|started| started.elapsed()).unwrap_or_default()
}

const PACE: Pace = Pace {
    now: || SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN.unsigned_abs()) + elapsed(),
    instant: || Instant::now().into_std(),
    random: || 0.5,
    pause: super::PAUSE,
};

/// Runs `simulation` with a clock that stands still unless [`pass`] moves it.
fn simulated<T>(simulation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        STARTED.set(Some(Instant::now()));
        // As long as it runs, the runtime does not move the clock by itself: it would, since requests under way are no timers.
        let (_end, ended) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv());
        simulation.await
    })
}

/// Lets time pass in small steps, between which everything that can happen does.
async fn pass(time: Duration) {
    let end = Instant::now() + time;
    loop {
        for _ in 0..if elapsed().is_zero() { 100 } else { 3 } {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_micros(100))).await.unwrap();
        }
        let left = end - Instant::now();
        if left.is_zero() {
            return;
        }
        // At first much happens.
        let step = if elapsed() < Duration::from_secs(10) { 1 } else { 5 };
        tokio::time::advance(left.min(Duration::from_secs(step))).await;
    }
}

/// What became of one cell.
struct Cell {
    tries: usize,
    /// Whether the values of each minute arrived on time while the endpoint misbehaved.
    is_on_time: bool,
    lines: Vec<String>,
    /// The promises that do not hold.
    broken: Vec<String>,
}

fn report(name: &str, status: Status, occurred_at: i64) -> Report {
    Report {
        name: name.into(),
        host: None,
        status,
        message: String::new(),
        occurred_at,
        notification_interval_minutes: None,
        max_check_attempts: None,
        is_urgent: true,
        lost: Lost::default(),
    }
}

fn definitions(names: &[&str]) -> Arc<Vec<Defined>> {
    let defined =
        |name: &&str| Defined { owner: "web".into(), graph: GraphDefinition::new(name, "", "float").unwrap() };
    Arc::new(names.iter().map(defined).collect())
}

/// Whether values are collected in a minute: once all is well, a few are enough.
fn is_kept(minute: u32) -> bool {
    minute < MISBEHAVING || minute.is_multiple_of(10)
}

async fn cell(endpoint: Endpoint, misbehaviour: Misbehaviour, folder: &Path, lines: &Lines) -> Cell {
    let mackerel = Arc::new(Mackerel { endpoint, misbehaviour, seen: Mutex::default() });
    let address = Arc::clone(&mackerel).listen().await;
    let is_new = endpoint == Endpoint::Registration;
    if !is_new {
        std::fs::write(folder.join("id"), "HOST1").unwrap();
        mackerel.seen().hosts = 1;
    }
    let spool = Arc::new(Spool::open(folder, BEGIN).unwrap());
    let settings = Settings {
        apibase: format!("http://{address}"),
        apikey: Secret::new("key"),
        root: folder.to_owned(),
        agent: Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() },
        status_on_start: Some("working".to_owned()),
        status_on_stop: None,
        asks_cloud: false,
        route: Route::default(),
    };
    let describe: Description = Arc::new(|| Box::pin(std::future::ready(json!({"name": "web1", "interfaces": []}))));
    let (defined, definitions_seen) = watch::channel(definitions(&["first", "second"]));
    let (shutdown, shutdown_seen) = watch::channel(false);
    let wake = Arc::new(Notify::new());
    let signals = Signals {
        wake: Arc::clone(&wake),
        refresh: Arc::default(),
        definitions: definitions_seen,
        shutdown: shutdown_seen,
    };
    let (reports, report_inbox) = mpsc::channel(10);
    let (documents, document_inbox) = mpsc::channel(10);
    let mut inbox = Inbox::new(report_inbox, document_inbox);
    let other_host = "db1".into();
    let document = |namespace: &str, json: &str| {
        let document = Document { namespace: namespace.into(), json: json.to_owned(), delivered: oneshot::channel().0 };
        documents.try_send(document).unwrap();
    };
    let script = async {
        for minute in 0..MISBEHAVING + WELL {
            let time = BEGIN + i64::from(minute) * 60;
            if minute == MISBEHAVING {
                mackerel.seen().is_well = true;
            }
            if !is_kept(minute) {
                pass(Duration::from_secs(60)).await;
                continue;
            }
            let own = (0..20).map(|number| Sample::new(format!("custom.m.{number:02}"), f64::from(minute)).unwrap());
            let other = Sample::new("loadavg1", f64::from(minute)).unwrap().of_host(&other_host);
            spool.keep(vec![Minute { time, samples: own.chain([other]).collect() }], &[], time);
            wake.notify_one();
            match minute {
                0 => {
                    reports.try_send(report("db", Status::Critical, time)).unwrap();
                    reports.try_send(report("web", Status::Warning, time)).unwrap();
                    document("a", "1");
                    document("b", "1");
                }
                30 => {
                    reports.try_send(report("db", Status::Ok, time)).unwrap();
                    document("a", "2");
                    defined.send(definitions(&["first", "second", "third"])).unwrap();
                }
                _ => {}
            }
            pass(Duration::from_secs(60)).await;
        }
        shutdown.send(true).unwrap();
    };
    let output = run_at(settings, Arc::clone(&spool), describe, signals, &mut inbox, PACE);
    // The output stops by itself only if it fails.
    let (result, ()) = tokio::join!(output, script);
    let mut broken = Vec::new();
    if let Err(error) = result {
        broken.push(format!("it ended: {error}"));
    }
    mackerel.judge(&spool.ledger(), lines.take(), broken)
}

impl Mackerel {
    fn judge(&self, ledger: &Ledger, lines: Vec<String>, mut broken: Vec<String>) -> Cell {
        let Self { endpoint, misbehaviour, .. } = *self;
        let seen = self.seen();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        let minutes = (0..MISBEHAVING + WELL).filter(|minute| is_kept(*minute)).count();
        let of = |host: &str| seen.values.keys().filter(|(of, ..)| of == host).count();
        promise(of("HOST1") == 20 * minutes, format!("{} of {} values arrived", of("HOST1"), 20 * minutes));
        promise(of("HOST9") == minutes, format!("{} of {minutes} values of another host arrived", of("HOST9")));
        promise(seen.repeated == 0 || misbehaviour == Forgets, format!("{} values arrived twice", seen.repeated));
        let all = 21 * minutes as u64;
        let books = Ledger { collected: all, delivered: all, ..Ledger::default() };
        promise(*ledger == books, format!("the books say {ledger}"));
        let mut reports = seen.reports.clone();
        reports.dedup();
        let is_repeated = reports.len() < seen.reports.len();
        let expected = ["db CRITICAL", "web WARNING", "db OK"];
        // Repeated ones arrive as a whole batch.
        promise(reports.ends_with(&expected.map(String::from)), format!("reports: {reports:?}"));
        promise(
            seen.reports.len() == 3 || misbehaviour == Forgets,
            format!("reports, {is_repeated}: {:?}", seen.reports),
        );
        let documents =
            seen.documents.iter().map(|(namespace, json)| format!("{namespace}={json}")).collect::<Vec<_>>();
        promise(documents == ["a=2", "b=1"], format!("documents: {documents:?}"));
        let graphs = seen.definitions.iter().map(String::as_str).collect::<Vec<_>>();
        promise(graphs == ["custom.first", "custom.second", "custom.third"], format!("definitions: {graphs:?}"));
        promise(seen.descriptions > 0, "the host is not described".to_owned());
        promise(seen.status.as_deref() == Some("working"), format!("status: {:?}", seen.status));
        promise(seen.hosts == 1, format!("{} hosts", seen.hosts));

        let started = STARTED.get().unwrap();
        let tries = seen.tries.iter().filter(|at| **at - started < Duration::from_mins(59)).count();
        let only_fails = misbehaviour != Chokes;
        promise(tries > 0, "the endpoint was not tried".to_owned());
        promise(!only_fails || tries <= MOST_REQUESTS, format!("{tries} requests in an hour"));
        promise(!only_fails || !lines.is_empty(), "nothing was logged".to_owned());
        promise(lines.len() <= MOST_LINES, format!("{} lines in the log", lines.len()));
        if let Answers(_, headers, _) = misbehaviour
            && let Some(seconds) = headers.strip_prefix("retry-after: ").and_then(|rest| rest.trim().parse().ok())
        {
            let is_early = |pair: &[Instant]| pair[1] - pair[0] < Duration::from_secs(seconds);
            // Each host, document and so on has its own request.
            let mut early = seen.tries.windows(2).filter(|pair| is_early(pair));
            promise(early.next().is_none(), format!("requests within Retry-After: {tries}"));
        }
        let is_on_time = (0..MISBEHAVING).all(|minute| {
            let time = BEGIN + i64::from(minute) * 60;
            let arrived = seen.values.get(&("HOST1".to_owned(), "custom.m.00".to_owned(), time));
            arrived.is_some_and(|at| (*at - started).as_secs() as i64 <= (i64::from(minute) + ON_TIME) * 60)
        });
        // Nothing can be posted for a host that Mackerel does not have, and nothing must be for one that may be another.
        let host_is_known = match (endpoint, misbehaviour) {
            (Endpoint::Registration, _) => false,
            (Endpoint::LookUp, Answers(404, _, body)) => body != ERROR,
            _ => true,
        };
        promise(is_on_time || endpoint == Endpoint::Values || !host_is_known, "values are not on time".to_owned());
        Cell { tries, is_on_time, lines, broken }
    }
}

/// The lines that were logged as a warning or an error.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for Lines {
    /// Tests with other subscribers run beside it: none must decide for all.
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("wasaba")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(format!("{:>5} min ", elapsed().as_secs() / 60));
        event.record(&mut text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn no_misbehaviour_of_any_endpoint_loses_anything_or_holds_up_another() {
    let cells = MISBEHAVIOURS.iter().chain(&AMBIGUOUS);
    let cells = cells.flat_map(|(name, misbehaviour)| Endpoint::ALL.map(|endpoint| (*name, *misbehaviour, endpoint)));
    // All of them take minutes of CPU.
    let (all, only) = (std::env::var_os("ALL").is_some(), std::env::var("ONLY").unwrap_or_default());
    let is_run = |(number, (name, _, endpoint)): &(usize, (&str, Misbehaviour, Endpoint))| match &*only {
        "" => all || *endpoint == Endpoint::Values || number.is_multiple_of(2),
        only => format!("{name} {}", endpoint.name()).contains(only),
    };
    let cells = cells.enumerate().filter(is_run).map(|(_, cell)| cell);
    let todo = Mutex::new(cells.collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((name, misbehaviour, endpoint)) = todo.lock().unwrap().pop() else { return };
                    let folder =
                        if Path::new("/dev/shm").is_dir() { TempDir::new_in("/dev/shm") } else { TempDir::new() };
                    let (folder, lines) = (folder.unwrap(), Lines::default());
                    let guard = tracing::subscriber::set_default(lines.clone());
                    let cell = simulated(cell(endpoint, misbehaviour, folder.path(), &lines));
                    drop(guard);
                    results.lock().unwrap().push((name, endpoint, cell));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut broken = String::new();
    for (name, endpoint, cell) in &results {
        let (endpoint, lines) = (endpoint.name(), cell.lines.join("\n    "));
        if !cell.broken.is_empty() {
            writeln!(broken, "{endpoint}: {name}: {}\n    {lines}", cell.broken.join("; ")).unwrap();
        }
        if !only.is_empty() {
            eprintln!("{endpoint}: {name}: {} requests, on time: {}\n    {lines}", cell.tries, cell.is_on_time);
        }
    }
    assert!(broken.is_empty(), "{broken}");
    if only.is_empty() {
        document(&results);
    }
}

/// Compares the table in the documentation, or writes it with `UPDATE=1`.
fn document(results: &[(&str, Endpoint, Cell)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/delivery.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- matrix -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let mut table = "\n| what happens to posted values for an hour | what the log says of it |\n|---|---|\n".to_owned();
    for (name, _) in MISBEHAVIOURS.iter().chain(&AMBIGUOUS) {
        let own = results.iter().find(|(of, endpoint, _)| of == name && *endpoint == Endpoint::Values).unwrap();
        let line = own.2.lines.first().map_or("nothing", |line| line.split_once("min ").unwrap().1);
        // Not the port, nor the wait, which chance changes.
        let line = line.rsplit_once("; ").map_or(line, |(line, _)| line).split("127.0.0.1:");
        let line = line.map(|part| part.trim_start_matches(|char: char| char.is_ascii_digit())).collect::<Vec<_>>();
        let line = line.join("api.mackerelio.com").replace('|', "\\|");
        writeln!(table, "| {name} | {line} |").unwrap();
    }
    table.push('\n');
    let page_now = format!("{before}<!-- matrix -->\n{table}<!-- end -->\n{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page_now).unwrap();
    } else {
        assert!(page == page_now, "docs/delivery.md is not up to date: run this test with UPDATE=1\n{table}");
    }
}
