//! What the tests of hours and days share: a Mackerel whose endpoints misbehave, and time that passes as fast as it can be computed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use wasaba_core::document::Document;
use wasaba_core::graph::{Defined, GraphDefinition};
use wasaba_core::report::{Lost, Report, Status};
use wasaba_core::sample::Sample;
use wasaba_core::secret::Secret;

use super::client::{Agent, Route};
use super::testing::{Request, answer, read};
use super::timing::Queued;
use super::{Description, FatalError, Inbox, Lanes, MachineIds, Pace, Settings, Signals, run_at};
use crate::spool::{Minute, Spool};

/// When each simulation begins, in seconds since 1970; the beginning of a minute.
pub(super) const BEGIN: i64 = 1_800_000_000;

/// How many minutes all is well in the end: an hour, since a lane that made all its requests of an hour waits for the next.
pub(super) const WELL: u32 = 70;

/// The most requests to an endpoint in an hour in which it only fails.
pub(super) const MOST_REQUESTS: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Values,
    Reports,
    Definitions,
    Metadata,
    Description,
    Registration,
    LookUp,
    Status,
    OtherHost,
    OtherValues,
    OtherReports,
    HostsOfName,
}

impl Endpoint {
    /// Those that each agent uses; the hosts of a name are only asked for in doubt.
    pub(super) const USED: [Self; 11] = [
        Self::Values,
        Self::Reports,
        Self::Definitions,
        Self::Metadata,
        Self::Description,
        Self::Registration,
        Self::LookUp,
        Self::Status,
        Self::OtherHost,
        Self::OtherValues,
        Self::OtherReports,
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
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
            Self::OtherValues => "another host's values",
            Self::OtherReports => "another host's check reports",
            Self::HostsOfName => "hosts of a name",
        }
    }

    fn of(request: &Request) -> Self {
        let is_other = request.body.contains("HOST9");
        match &*request.line {
            "POST /api/v0/tsdb" if is_other => Self::OtherValues,
            "POST /api/v0/monitoring/checks/report" if is_other => Self::OtherReports,
            "POST /api/v0/tsdb" => Self::Values,
            "POST /api/v0/monitoring/checks/report" => Self::Reports,
            "POST /api/v0/graph-defs/create" => Self::Definitions,
            "POST /api/v0/hosts" => Self::Registration,
            "GET /api/v0/hosts/HOST1" => Self::LookUp,
            "PUT /api/v0/hosts/HOST1" => Self::Description,
            "POST /api/v0/hosts/HOST1/status" => Self::Status,
            line if line.starts_with("PUT /api/v0/hosts/HOST1/metadata/") => Self::Metadata,
            line if line.starts_with("GET /api/v0/hosts?") && line.contains("customIdentifier") => Self::OtherHost,
            line if line.starts_with("GET /api/v0/hosts?") => Self::HostsOfName,
            line => panic!("unknown request {line}"),
        }
    }
}

/// What an endpoint does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misbehaviour {
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
    /// It answers 400 to every other request, as a gateway may, and works otherwise.
    Flaps,
    /// It does this to requests with something that a firewall does not let pass, or Mackerel fails over, and works otherwise.
    Blocks(&'static Misbehaviour),
}

/// What is blocked: a value, a check and a graph definition.
const BLOCKED: [&str; 3] = ["custom.m.07", r#""name":"db""#, "custom.second"];

pub(super) use Misbehaviour::{
    Answers, Babbles, Blocks, Chokes, Closes, Flaps, Floods, Forgets, Hangs, Resets, Trickles, Truncates,
};

pub(super) const ERROR: &str = r#"{"error":{"message":"no"}}"#;
const PAGE: &str = "<html>no</html>";

/// Each as the table names it.
pub(super) const MISBEHAVIOURS: [(&str, Misbehaviour); 40] = [
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
pub(super) const AMBIGUOUS: [(&str, Misbehaviour); 9] = [
    ("works, but does not answer", Forgets),
    ("504 to requests over 1 kB", Chokes),
    ("400 of a proxy to every other request", Flaps),
    ("400 of a proxy to what has a certain word", Blocks(&Answers(400, "", PAGE))),
    ("403 of a firewall to what has a certain word", Blocks(&Answers(403, "", PAGE))),
    ("500 to what has a certain word", Blocks(&Answers(500, "", ERROR))),
    ("200 with a page to what has a certain word", Blocks(&Answers(200, "", PAGE))),
    ("resets what has a certain word", Blocks(&Resets)),
    ("never answers to what has a certain word", Blocks(&Hangs)),
];

/// Mackerel, of which some endpoints misbehave.
#[derive(Default)]
pub(super) struct Mackerel {
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    /// What misbehaves now.
    pub(super) misbehaving: BTreeMap<Endpoint, Misbehaviour>,
    /// When an endpoint was tried while it misbehaved.
    pub(super) tries: Vec<(Endpoint, Instant)>,
    /// When each value was accepted first: its host, name and time.
    pub(super) values: BTreeMap<(String, String, i64), Instant>,
    /// Values that were accepted again.
    pub(super) repeated: usize,
    pub(super) reports: Vec<String>,
    /// When the reports occurred.
    pub(super) occurred: Vec<i64>,
    pub(super) other_reports: usize,
    pub(super) definitions: BTreeSet<String>,
    pub(super) documents: BTreeMap<String, String>,
    pub(super) descriptions: usize,
    pub(super) hosts: usize,
    /// When the last host was registered, and how long its list does not have it.
    registered: Option<Instant>,
    pub(super) lists_late: Duration,
    pub(super) status: Option<String>,
    /// Its answers have a `Date` that is so many seconds ahead.
    pub(super) date_ahead: Option<i64>,
    /// It refuses values that are dated ahead of its time.
    pub(super) refuses_early: bool,
    /// How many requests with values it refused for that.
    pub(super) early: usize,
}

impl Seen {
    /// What an endpoint does that is tried now.
    fn misbehaviour(&mut self, endpoint: Endpoint, request: &Request) -> Option<Misbehaviour> {
        let misbehaviour = match *self.misbehaving.get(&endpoint)? {
            Blocks(how) => BLOCKED.iter().any(|word| request.body.contains(word)).then_some(*how)?,
            other => other,
        };
        self.tries.push((endpoint, Instant::now()));
        let is_even = self.tries.len().is_multiple_of(2);
        (misbehaviour != Flaps || is_even).then_some(misbehaviour)
    }
}

impl Mackerel {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn listen(self: Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served();
                tokio::spawn(Arc::clone(&self).serve(stream));
            }
        });
        address
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read(&mut stream, &mut buffer).await {
            served();
            let endpoint = Endpoint::of(&request);
            let misbehaviour = self.seen().misbehaviour(endpoint, &request);
            let Some(misbehaviour) = misbehaviour else {
                let worked = self.work(endpoint, &request);
                let date = self.seen().date_ahead.map(|ahead| format!("\r\ndate: {}\r\n", dated(time() + ahead)));
                let worked = date.map_or_else(|| worked.clone(), |date| worked.replacen("\r\n", &date, 1));
                if stream.write_all(worked.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            };
            let written = match misbehaviour {
                Answers(status, headers, body) => {
                    let headers = headers.replace("location: ?", &format!("location: {}", path(&request)));
                    stream
                        .write_all(answer(status, body).replacen("\r\n", &format!("\r\n{headers}"), 1).as_bytes())
                        .await
                }
                // What blocks was replaced by how it does.
                Flaps | Blocks(_) => stream.write_all(answer(400, PAGE).as_bytes()).await,
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
                Hangs => {
                    let _held = UnderWay::held();
                    return stream.read(&mut [0]).await.map_or((), drop);
                }
                Trickles => {
                    let _held = UnderWay::held();
                    for byte in answer(200, r#"{"success":true}"#).bytes() {
                        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
                        if ended.is_ok() || stream.write_all(&[byte]).await.is_err() {
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
                    while stream.write_all(chunk.as_bytes()).await.is_ok() {
                        served();
                    }
                    return;
                }
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// Does what an endpoint is for, and answers as Mackerel does.
    fn work(&self, endpoint: Endpoint, request: &Request) -> String {
        let mut seen = self.seen();
        let body = || serde_json::from_str::<Value>(&request.body).unwrap();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
        let host = json!({"id": "HOST1", "name": "web1", "createdAt": BEGIN, "status": "standby", "interfaces": []});
        match endpoint {
            Endpoint::HostsOfName => {
                let is_listed = seen.registered.is_none_or(|at| at.elapsed() >= seen.lists_late);
                let hosts = if is_listed { seen.hosts } else { 0 };
                return answer(200, &json!({"hosts": vec![host; hosts]}).to_string());
            }
            Endpoint::Values | Endpoint::OtherValues => {
                let all = body();
                assert!(!all.as_array().unwrap().is_empty(), "no values");
                let is_early = |point: &Value| point["time"].as_i64().unwrap() > time();
                if seen.refuses_early && all.as_array().unwrap().iter().any(is_early) {
                    seen.early += 1;
                    return answer(400, ERROR);
                }
                for point in all.as_array().unwrap() {
                    let key = (text(point, "hostId"), text(point, "name"), point["time"].as_i64().unwrap());
                    if seen.values.contains_key(&key) {
                        seen.repeated += 1;
                    }
                    seen.values.entry(key).or_insert_with(Instant::now);
                }
            }
            Endpoint::OtherReports => seen.other_reports += body()["reports"].as_array().unwrap().len(),
            Endpoint::Reports => {
                for report in body()["reports"].as_array().unwrap() {
                    seen.occurred.push(report["occurredAt"].as_i64().unwrap());
                    seen.reports.push(format!("{} {}", text(report, "name"), text(report, "status")));
                }
            }
            Endpoint::Definitions => {
                seen.definitions.extend(body().as_array().unwrap().iter().map(|graph| text(graph, "name")));
            }
            Endpoint::Metadata => {
                let namespace = path(request).rsplit('/').next().unwrap_or_default().to_owned();
                seen.documents.insert(namespace, request.body.clone());
            }
            Endpoint::Description => {
                seen.descriptions += 1;
                return answer(200, r#"{"id":"HOST1"}"#);
            }
            Endpoint::Registration => {
                seen.hosts += 1;
                seen.registered = Some(Instant::now());
                return answer(200, r#"{"id":"HOST1"}"#);
            }
            Endpoint::LookUp => return answer(200, &json!({"host": host}).to_string()),
            Endpoint::Status => seen.status = Some(text(&body(), "status")),
            Endpoint::OtherHost => return answer(200, r#"{"hosts":[{"id":"HOST9"}]}"#),
        }
        answer(200, r#"{"success":true}"#)
    }
}

/// The right time, in seconds since 1970.
pub(super) fn time() -> i64 {
    BEGIN + elapsed().as_secs().cast_signed()
}

/// A time within some days of [`BEGIN`] as Mackerel writes it.
fn dated(time: i64) -> String {
    let (day, second) = ((time - BEGIN + 8 * 3_600).div_euclid(86_400), (time - BEGIN + 8 * 3_600).rem_euclid(86_400));
    let weekday = ["Fri", "Sat", "Sun", "Mon", "Tue", "Wed", "Thu"][day.rem_euclid(7).unsigned_abs() as usize];
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} Jan 2027 {hours:02}:{minutes:02}:{seconds:02} GMT", 15 + day)
}

fn path(request: &Request) -> &str {
    request.line.split(' ').nth(1).unwrap_or_default()
}

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static AGENT_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How often a server of this thread did something.
    static SERVED: Cell<u64> = const { Cell::new(0) };
    /// How much is under way in this thread that ends without time passing.
    static UNDER_WAY: Cell<i64> = const { Cell::new(0) };
    /// By how many seconds the machine's clock is ahead.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

/// Something is under way for as long as this lives: a request, or what the queue's thread does.
pub(super) struct UnderWay(i64);

impl UnderWay {
    pub(super) fn begin() -> Self {
        Self::counted(1)
    }

    /// A request that the server leaves without an answer: only time ends it.
    fn held() -> Self {
        Self::counted(-1)
    }

    fn counted(change: i64) -> Self {
        UNDER_WAY.set(UNDER_WAY.get() + change);
        Self(change)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.set(UNDER_WAY.get() - self.0);
    }
}

/// How often [`pass`] looks at most, while no server does anything, whether what is under way has ended.
const MOST_LOOKS: u32 = 5_000;

fn served() {
    SERVED.set(SERVED.get() + 1);
}

/// When the simulation of this thread began.
pub(super) fn started() -> Instant {
    STARTED.get().unwrap()
}

/// The simulated time since the simulation began.
fn elapsed() -> Duration {
    STARTED.get().map(|started| started.elapsed()).unwrap_or_default()
}

/// How long the machine has been running.
pub(super) fn running() -> Duration {
    Duration::from_hours(1) + elapsed()
}

/// Sets the machine's clock so many seconds ahead of the right time.
pub(super) fn set_clock(ahead: i64) {
    AHEAD.set(ahead);
}

const PACE: Pace = Pace {
    now: || SystemTime::UNIX_EPOCH + Duration::from_secs((BEGIN + AHEAD.get()).unsigned_abs()) + elapsed(),
    instant: || Instant::now().into_std(),
    running,
    random: || 0.5,
    pause: super::PAUSE,
    settled: super::SETTLED,
};

/// Runs `simulation` with a clock that stands still unless [`pass`] moves it.
pub(super) fn simulated<T>(simulation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        STARTED.set(Some(Instant::now()));
        // As long as it runs, the runtime does not move the clock by itself: it would, since requests under way are no timers.
        let (_end, ended) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv());
        simulation.await
    })
}

/// Lets time pass in small steps, between which everything that can happen does, however busy the machine is.
pub(super) async fn pass(time: Duration) {
    let end = Instant::now() + time;
    loop {
        // At first much happens, of which the server sees nothing.
        let since_begin = AGENT_BEGAN.get().map(|began| began.elapsed()).unwrap_or_default();
        let quiet = if since_begin.is_zero() { 100 } else { 3 };
        let (mut left, mut looks) = (quiet, 0);
        while left > 0 {
            let before = SERVED.get();
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_micros(100))).await.unwrap();
            let is_served = SERVED.get() != before;
            looks = if is_served { 0 } else { looks + 1 };
            assert!(looks < MOST_LOOKS, "{} under way do not end", UNDER_WAY.get());
            left = if is_served || UNDER_WAY.get() != 0 { quiet } else { left - 1 };
        }
        let left = end - Instant::now();
        if left.is_zero() {
            return;
        }
        let step = match since_begin {
            _ if time < Duration::from_secs(10) => Duration::from_millis(100),
            since if since < Duration::from_secs(10) => Duration::from_secs(1),
            since if since < Duration::from_mins(10) => Duration::from_secs(5),
            _ => Duration::from_secs(10),
        };
        tokio::time::advance(left.min(step)).await;
    }
}

pub(super) fn report(name: &str, status: Status, occurred_at: i64) -> Report {
    Report {
        name: name.into(),
        host: None,
        status,
        message: String::new(),
        occurred_at,
        taken: None,
        notification_interval_minutes: None,
        max_check_attempts: None,
        is_urgent: true,
        lost: Lost::default(),
    }
}

pub(super) fn definitions(names: &[&str]) -> Arc<Vec<Defined>> {
    let defined =
        |name: &&str| Defined { owner: "web".into(), graph: GraphDefinition::new(name, "", "float").unwrap() };
    Arc::new(names.iter().map(defined).collect())
}

/// The output of an agent, as the rest of the agent has it.
pub(super) struct Output {
    pub(super) spool: Arc<Spool>,
    pub(super) reports: mpsc::Sender<Report>,
    documents: mpsc::Sender<Document>,
    pub(super) defined: watch::Sender<Arc<Vec<Defined>>>,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) lanes: Lanes,
    queued: Queued,
}

impl Output {
    /// How many values of this host [`Output::keep`] keeps.
    pub(super) const VALUES: usize = 20;

    /// The output of an agent with this root at this time, and what runs it.
    pub(super) fn of(
        root: &Path,
        address: SocketAddr,
        now: i64,
    ) -> (Self, impl Future<Output = Result<(), FatalError>> + use<>) {
        AGENT_BEGAN.set(Some(Instant::now()));
        let settings = Settings {
            apibase: format!("http://{address}"),
            apikey: Secret::new("key"),
            root: root.to_owned(),
            agent: Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() },
            status_on_start: Some("working".to_owned()),
            status_on_stop: None,
            asks_cloud: false,
            machine: MachineIds::default(),
            route: Route::default(),
        };
        let describe: Description =
            Arc::new(|| Box::pin(std::future::ready(json!({"name": "web1", "interfaces": []}))));
        let spool = Arc::new(Spool::open(root, now).unwrap());
        let (defined, definitions) = watch::channel(definitions(&["first", "second"]));
        let (shutdown, shutdown_seen) = watch::channel(false);
        let queued = Queued::default();
        let signals = Signals { queued: queued.clone(), refresh: Arc::default(), definitions, shutdown: shutdown_seen };
        let (reports, report_inbox) = mpsc::channel(10);
        let (documents, document_inbox) = mpsc::channel(10);
        let mut inbox = Inbox::new(report_inbox, document_inbox);
        let lanes = inbox.lanes();
        let output = Self { spool: Arc::clone(&spool), reports, documents, defined, shutdown, lanes, queued };
        let run = async move { run_at(settings, spool, describe, signals, &mut inbox, PACE).await };
        (output, run)
    }

    /// Keeps the values of a minute: those of this host, and one of another.
    pub(super) fn keep(&self, minute: u32) {
        self.keep_at(BEGIN + i64::from(minute) * 60);
    }

    /// As [`Output::keep`], dated at any time.
    pub(super) fn keep_at(&self, time: i64) {
        let value = (time - BEGIN) as f64;
        let own = (0..Self::VALUES).map(|number| Sample::new(format!("custom.m.{number:02}"), value).unwrap());
        let other = Sample::new("loadavg1", value).unwrap().of_host(&"db1".into());
        assert!(self.spool.keep(vec![Minute { time, samples: own.chain([other]).collect() }], &[], time));
        self.queued.minute();
    }

    pub(super) fn document(&self, namespace: &str, json: &str) {
        let document = Document { namespace: namespace.into(), json: json.to_owned(), delivered: oneshot::channel().0 };
        self.documents.try_send(document).unwrap();
    }
}

/// The lines that were logged as a warning or an error.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(super) fn take(&self) -> Vec<String> {
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
