//! The tests of the whole output against a server on loopback: which requests it sends, and what stays in the spool.

use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use wasaba_core::report::Status;
use wasaba_core::sample::Sample;

use super::testing::{Request, Server, answer};
use super::*;
use crate::spool::{Ledger, Minute};

mod registration;
mod time;

const NOW: i64 = 1_800_000_000;
const TSDB: &str = "POST /api/v0/tsdb";
const REPORT: &str = "POST /api/v0/monitoring/checks/report";

/// The last second of a minute, which is past every host's second, so that no test waits; backoffs do not wait either.
const PACE: Pace = Pace {
    now: || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs() + 59),
    instant: Instant::now,
    running: clock::running,
    random: || 0.0,
    pause: Duration::ZERO,
    settled: Duration::ZERO,
};

struct Machine {
    folder: TempDir,
    spool: Arc<Spool>,
    signals: Signals,
    definitions: watch::Sender<Arc<Vec<Defined>>>,
    shutdown: watch::Sender<bool>,
    description: Value,
    status: Option<String>,
    status_on_stop: Option<String>,
    asks_cloud: bool,
    ids: MachineIds,
}

/// Shutdown takes longer only if no deadline cuts it short and a request waits for its own timeout of 30 s.
const HANG: Duration = Duration::from_secs(15);

/// An inbox and its senders.
fn inbox() -> (mpsc::Sender<Report>, mpsc::Sender<Document>, Inbox) {
    let ((reports, report_inbox), (documents, document_inbox)) = (mpsc::channel(2), mpsc::channel(2));
    (reports, documents, Inbox::new(report_inbox, document_inbox))
}

/// The checks and statuses in those report requests that pass the filter.
fn reported(requests: &[Request], filter: impl Fn(&Request) -> bool) -> Vec<String> {
    let requests = requests.iter().filter(|request| request.line == REPORT && filter(request));
    let bodies = requests.map(|request| serde_json::from_str::<Value>(&request.body).unwrap());
    let reports = bodies.flat_map(|body| body["reports"].as_array().unwrap().clone());
    reports
        .map(|report| format!("{} {}", report["name"].as_str().unwrap(), report["status"].as_str().unwrap()))
        .collect()
}

fn report(name: &str, status: Status, is_urgent: bool) -> Report {
    Report {
        name: name.into(),
        host: None,
        status,
        message: String::new(),
        occurred_at: NOW,
        taken: None,
        notification_interval_minutes: None,
        max_check_attempts: None,
        is_urgent,
        lost: wasaba_core::report::Lost::default(),
    }
}

impl Machine {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), NOW).unwrap());
        let (definitions, definitions_seen) = watch::channel(Arc::new(Vec::new()));
        let (shutdown, shutdown_seen) = watch::channel(false);
        let signals = Signals {
            queued: Queued::default(),
            refresh: Arc::new(Notify::new()),
            definitions: definitions_seen,
            shutdown: shutdown_seen,
        };
        Self {
            folder,
            spool,
            signals,
            definitions,
            shutdown,
            description: json!({"name": "web1"}),
            status: None,
            status_on_stop: None,
            asks_cloud: false,
            ids: MachineIds::default(),
        }
    }

    fn registered() -> Self {
        let machine = Self::new();
        fs::write(machine.folder.path().join("id"), "HOST1").unwrap();
        machine
    }

    fn keep(&self, time: i64, points: usize) {
        let samples = (0..points).map(|n| Sample::new(format!("m{n}"), n as f64).unwrap()).collect();
        self.spool.keep(vec![Minute { time, samples }], &[], NOW);
        self.signals.queued.minute();
    }

    fn run(&self, server: &Server) -> impl Future<Output = Result<(), FatalError>> {
        let running = self.run_with(server, "key");
        async move { running(&mut inbox().2).await }
    }

    /// The output with this key, and an inbox that outlives it.
    fn run_with(&self, server: &Server, key: &str) -> impl AsyncFnOnce(&mut Inbox) -> Result<(), FatalError> + use<> {
        self.run_with_pace(server, key, PACE)
    }

    fn run_with_pace(
        &self,
        server: &Server,
        key: &str,
        pace: Pace,
    ) -> impl AsyncFnOnce(&mut Inbox) -> Result<(), FatalError> + use<> {
        let settings = Settings {
            apibase: server.base.clone(),
            apikey: Secret::new(key),
            root: self.folder.path().to_owned(),
            agent: Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() },
            status_on_start: self.status.clone(),
            status_on_stop: self.status_on_stop.clone(),
            asks_cloud: self.asks_cloud,
            machine: self.ids.clone(),
            route: Route::default(),
        };
        let description = self.description.clone();
        let describe: Description = Arc::new(move || Box::pin(std::future::ready(description.clone())));
        let (spool, signals) = (self.spool.clone(), self.signals.clone());
        async move |inbox| run_at(settings, spool, describe, signals, inbox, pace).await
    }

    /// Runs the output beside `script`, and stops it at the script's end.
    async fn run_during<T>(&self, server: &Server, script: impl Future<Output = T>) -> (Result<(), FatalError>, T) {
        // It may run a second time.
        self.shutdown.send_replace(false);
        let script = async {
            let result = script.await;
            self.shutdown.send(true).unwrap();
            result
        };
        tokio::join!(self.run(server), script)
    }

    /// Runs the output until `enough` is true for the requests, and returns them all.
    async fn run_until(&self, server: &Server, enough: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let (result, _) = self.run_during(server, server.until(enough)).await;
        assert_eq!(result, Ok(()));
        server.requests()
    }

    /// As [`Machine::run_during`], at another pace.
    async fn run_at_pace<T>(
        &self,
        server: &Server,
        pace: Pace,
        script: impl Future<Output = T>,
    ) -> (Result<(), FatalError>, T) {
        let script = async {
            let result = script.await;
            self.shutdown.send(true).unwrap();
            result
        };
        let running = self.run_with_pace(server, "key", pace);
        tokio::join!(async move { running(&mut inbox().2).await }, script)
    }

    async fn fatal(&self, server: &Server) -> String {
        self.run(server).await.unwrap_err().to_string()
    }

    #[track_caller]
    fn assert_ledger(&self, delivered: u64, queued: u64, rejected: u64) {
        let collected = delivered + queued + rejected;
        assert_eq!(self.spool.ledger(), Ledger { collected, delivered, queued, rejected, ..Ledger::default() });
    }
}

/// A Mackerel where everything works; `tsdb` answers posts of values.
fn mackerel(request: &Request, tsdb: impl FnOnce(&Request) -> String) -> String {
    match request.line.as_str() {
        TSDB => tsdb(request),
        "POST /api/v0/hosts" => answer(200, r#"{"id":"HOST1"}"#),
        "GET /api/v0/hosts/HOST1" => answer(200, r#"{"host":{"id":"HOST1","status":"standby"}}"#),
        "PUT /api/v0/hosts/HOST1" => answer(200, r#"{"id":"HOST1"}"#),
        line if line.starts_with("GET /api/v0/hosts?") => answer(200, r#"{"hosts":[]}"#),
        _ => answer(200, r#"{"success":true}"#),
    }
}

fn accept(_: &Request) -> String {
    answer(200, r#"{"success":true}"#)
}

fn lines(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.line.as_str()).collect()
}

fn count(requests: &[Request], line: &str) -> usize {
    requests.iter().filter(|request| request.line == line).count()
}

fn names(request: &Request) -> Vec<String> {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    body.as_array().unwrap().iter().map(|point| point["name"].as_str().unwrap().to_owned()).collect()
}

/// How many points these requests have.
fn points<'a>(requests: impl Iterator<Item = &'a Request>) -> usize {
    requests.map(|request| names(request).len()).sum()
}

#[tokio::test]
async fn another_host_is_looked_up_only_while_something_of_it_is_queued() {
    let machine = Machine::registered();
    let other = Sample::new("a", 1.0).unwrap().of_host(&"db".into());
    machine.spool.keep(vec![Minute { time: NOW, samples: vec![other] }], &[], NOW);
    for (lookups, keeps) in [(1, 0), (0, 1)] {
        let server = Server::start(|request| match request.line.contains("customIdentifier=db") {
            true => answer(200, r#"{"hosts":[{"id":"DB"}]}"#),
            false => mackerel(request, accept),
        })
        .await;
        (0..keeps).for_each(|_| machine.keep(NOW + 60, 1));
        let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        let looked_up = requests.iter().filter(|request| request.line.contains("customIdentifier=")).count();
        assert_eq!(looked_up, lookups);
    }
}

#[tokio::test]
async fn nothing_is_lost_or_sent_twice_when_mackerel_is_down_for_a_while() {
    let machine = Machine::registered();
    (0..10).for_each(|n| machine.keep(NOW - n * 60, 30));
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        mackerel(request, |_| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => answer(429, "slow down"),
            1 => String::new(),
            2 => answer(500, "oops"),
            _ => accept(request),
        })
    })
    .await;
    machine.run_until(&server, |seen| points(seen.iter().filter(|seen| seen.line == TSDB).skip(3)) == 300).await;
    machine.assert_ledger(300, 0, 0);
}

#[tokio::test]
async fn a_long_queue_is_delivered_newest_first_in_requests_that_grow() {
    let machine = Machine::registered();
    (0..12).for_each(|n| machine.keep(NOW - n * 60, 1000));
    let server = Server::start(|request| mackerel(request, accept)).await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 4).await;
    let posts: Vec<Value> = requests
        .iter()
        .filter(|request| request.line == TSDB)
        .map(|request| serde_json::from_str(&request.body).unwrap())
        .collect();
    assert_eq!(posts.iter().map(|post| post.as_array().unwrap().len()).collect::<Vec<_>>(), [1000, 2000, 4000, 5000]);
    assert_eq!(posts[0][0], json!({"hostId": "HOST1", "name": "m0", "time": NOW, "value": 0}));
    machine.assert_ledger(12_000, 0, 0);
}

#[tokio::test]
async fn a_bad_point_is_dropped_alone() {
    let machine = Machine::registered();
    (0..3).for_each(|n| machine.keep(NOW - n * 60, 20));
    let bad = |request: &Request| names(request).iter().any(|name| name == "m7" || name == "m8");
    let server = Server::start(move |request| {
        mackerel(request, |_| if bad(request) { answer(400, r#"{"error":"bad name"}"#) } else { accept(request) })
    })
    .await;
    let accepted = move |seen: &[Request]| {
        let accepted = seen.iter().filter(|request| request.line == TSDB && !bad(request));
        accepted.map(|request| names(request).len()).sum::<usize>() == 54
    };
    let requests = machine.run_until(&server, accepted).await;
    assert!(count(&requests, TSDB) <= 20, "{}", count(&requests, TSDB));
    // The values of the other minutes are tried within the hour.
    machine.assert_ledger(54, 4, 2);
}

#[tokio::test]
async fn points_accepted_before_a_failure_are_not_sent_again() {
    let machine = Machine::registered();
    machine.keep(NOW, 4);
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        mackerel(request, |_| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => answer(413, "too large"),
            2 => answer(503, "down"),
            _ => accept(request),
        })
    })
    .await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 5).await;
    let posts: Vec<String> = requests.iter().filter(|r| r.line == TSDB).map(|post| names(post).join(" ")).collect();
    // After the failure, the halves apart.
    assert_eq!(posts, ["m0 m1 m2 m3", "m0 m1", "m2 m3", "m2", "m3"]);
    machine.assert_ledger(4, 0, 0);
}

#[tokio::test]
async fn nothing_is_dropped_when_everything_is_refused() {
    let machine = Machine::registered();
    machine.keep(NOW, 5);
    let server = Server::start(|request| mackerel(request, |_| answer(400, r#"{"error":"host is retired"}"#))).await;
    machine.run_until(&server, |seen| count(seen, TSDB) > 20).await;
    machine.assert_ledger(0, 5, 0);
}

#[tokio::test]
async fn fifty_refused_names_of_two_hundred_delay_no_other_value_and_cost_few_requests() {
    let machine = Machine::registered();
    (0..10).for_each(|n| machine.keep(NOW - n * 60, 200));
    let is_bad = |name: &String| name[1..].parse::<u32>().unwrap() % 4 == 3;
    let bad = move |request: &Request| names(request).iter().any(is_bad);
    let server = Server::start(move |request| {
        mackerel(request, |_| {
            if bad(request) { answer(400, r#"{"error":"metric limit exceeded"}"#) } else { accept(request) }
        })
    })
    .await;
    let accepted = move |seen: &[Request]| points(seen.iter().filter(|seen| seen.line == TSDB && !bad(seen))) == 1_500;
    let requests = machine.run_until(&server, accepted).await;
    assert!(count(&requests, TSDB) < 400, "{}", count(&requests, TSDB));
    machine.assert_ledger(1_500, 450, 50);
}

static HOURS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn a_refused_name_is_tried_alone_an_hour_later_and_again_with_the_others_once_it_is_accepted() {
    let machine = Machine::registered();
    (0..3).for_each(|n| machine.keep(NOW - n * 60, 20));
    let is_bad = |request: &Request| request.line == TSDB && names(request).iter().any(|name| name == "m7");
    let server = Server::start(move |request| {
        let is_bad = is_bad(request) && HOURS.load(Ordering::SeqCst) < 2;
        mackerel(request, |_| if is_bad { answer(400, r#"{"error":"no"}"#) } else { accept(request) })
    })
    .await;
    let pace = Pace {
        instant: || {
            static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
            let hours = HOURS.load(Ordering::SeqCst) as u64;
            *START.get_or_init(Instant::now) + Duration::from_secs(3_601 * hours)
        },
        ..PACE
    };
    let alone = |seen: &[Request]| {
        let own = seen.iter().filter(|seen| seen.line == TSDB && names(seen).iter().all(|name| name == "m7"));
        own.count()
    };
    let script = async {
        server.until(|seen| points(seen.iter().filter(|seen| seen.line == TSDB && !is_bad(seen))) == 57).await;
        let isolated = alone(&server.requests());
        machine.signals.queued.minute();
        HOURS.store(1, Ordering::SeqCst);
        machine.keep(NOW + 60, 20);
        // Refused again, and what was queued is dropped.
        server.until(|seen| alone(seen) == isolated + 1).await;
        while machine.spool.ledger().rejected < 4 {
            tokio::task::yield_now().await;
        }
        HOURS.store(2, Ordering::SeqCst);
        machine.keep(NOW + 120, 20);
        server.until(|seen| alone(seen) == isolated + 2).await;
        machine.keep(NOW + 180, 20);
        server
            .until(|seen| {
                seen.iter().any(|seen| {
                    seen.line == TSDB
                        && names(seen).len() == 20
                        && is_bad(seen)
                        && seen.body.contains(&(NOW + 180).to_string())
                })
            })
            .await;
    };
    let (result, ()) = machine.run_at_pace(&server, pace, script).await;
    assert_eq!(result, Ok(()));
    machine.assert_ledger(120 - 4, 0, 4);
}

#[tokio::test]
async fn a_single_value_that_is_refused_is_not_dropped_while_nothing_else_is_accepted() {
    let machine = Machine::registered();
    machine.keep(NOW, 1);
    let server = Server::start(|request| {
        mackerel(request, |_| if request.body == "[]" { accept(request) } else { answer(400, r#"{"error":"no"}"#) })
    })
    .await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) > 5).await;
    assert!(requests.iter().all(|request| request.body != "[]"), "its acceptance proves nothing");
    machine.assert_ledger(0, 1, 0);
}

#[tokio::test]
async fn a_held_value_that_is_due_is_not_dropped_while_everything_is_refused() {
    static HOURS: AtomicU64 = AtomicU64::new(0);
    let machine = Machine::registered();
    (0..3).for_each(|n| machine.keep(NOW - n * 60, 20));
    let is_bad = |request: &Request| names(request).iter().any(|name| name == "m7");
    let server = Server::start(move |request| {
        let is_refused = || HOURS.load(Ordering::SeqCst) > 0 || is_bad(request);
        mackerel(request, |_| if is_refused() { answer(400, r#"{"error":"no"}"#) } else { accept(request) })
    })
    .await;
    let instant = || {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(3_601 * HOURS.load(Ordering::SeqCst))
    };
    let script = async {
        server.until(|seen| points(seen.iter().filter(|seen| seen.line == TSDB && !is_bad(seen))) == 57).await;
        HOURS.store(1, Ordering::SeqCst);
        machine.keep(NOW + 60, 20);
        let posts = count(&server.requests(), TSDB);
        server.until(|seen| count(seen, TSDB) > posts + 20).await;
    };
    machine.run_at_pace(&server, Pace { instant, ..PACE }, script).await.0.unwrap();
    machine.assert_ledger(57, 22, 1);
}

#[tokio::test]
async fn what_only_large_requests_fail_of_is_delivered_in_small_ones() {
    // What a proxy or a firewall does to a large request: it closes the connection, or answers by itself.
    let responses = [413, 504, 403, 404, 400, 302, 200].map(|status| answer(status, "<html>"));
    for response in [String::new()].into_iter().chain(responses) {
        let machine = Machine::registered();
        (0..30).for_each(|n| machine.keep(NOW - n * 60, 100));
        let server = Server::start(move |request| match request.line == TSDB && request.body.len() > 20_000 {
            true => response.clone(),
            false => mackerel(request, accept),
        })
        .await;
        let is_small = |seen: &&Request| seen.line == TSDB && seen.body.len() <= 20_000;
        machine.run_until(&server, |seen| points(seen.iter().filter(is_small)) == 3_000).await;
        machine.assert_ledger(3_000, 0, 0);
    }
}

#[tokio::test]
async fn what_mackerel_refuses_is_dropped_and_what_a_gateway_refuses_stays_queued_in_the_same_minute() {
    let machine = Machine::registered();
    (0..3).for_each(|n| machine.keep(NOW - n * 60, 20));
    let server = Server::start(|request| {
        mackerel(request, |_| match names(request) {
            names if names.iter().any(|name| name == "m3") => answer(400, "<html>"),
            names if names.iter().any(|name| name == "m4") => answer(400, r#"{"error":"no"}"#),
            names if names.iter().any(|name| name == "m5") => answer(403, "<html>"),
            _ => accept(request),
        })
    })
    .await;
    let is_accepted = |seen: &&Request| !names(seen).iter().any(|name| matches!(name.as_str(), "m3" | "m4" | "m5"));
    let is_done = |seen: &[Request]| points(seen.iter().filter(|seen| seen.line == TSDB).filter(is_accepted)) == 51;
    machine.run_until(&server, is_done).await;
    let Ledger { delivered, queued, rejected, .. } = machine.spool.ledger();
    assert_eq!((delivered, queued + rejected), (51, 9));
    assert!((1..=3).contains(&rejected), "only those of m4: {rejected}");
}

#[tokio::test]
async fn a_long_row_of_bad_points_does_not_hide_the_good_ones_behind_it() {
    let machine = Machine::registered();
    (0..4).for_each(|n| machine.keep(NOW - n * 60, 100));
    let bad =
        |request: &Request| !request.body.contains(&format!("\"time\":{},", NOW - 180)) || names(request).len() > 100;
    let server = Server::start(move |request| {
        mackerel(request, |_| {
            if bad(request) { answer(400, r#"{"error":"time is in the future"}"#) } else { accept(request) }
        })
    })
    .await;
    machine.run_until(&server, |seen| seen.iter().any(|request| request.line == TSDB && !bad(request))).await;
    assert_eq!(machine.spool.ledger().delivered, 100);
}

#[tokio::test]
async fn a_wrong_key_loses_nothing_and_new_values_do_not_shorten_the_wait() {
    let machine = Machine::registered();
    machine.keep(NOW, 5);
    let server = Server::start(|request| mackerel(request, |_| answer(403, r#"{"error":"no"}"#))).await;
    let put = "PUT /api/v0/hosts/HOST1";
    let script = async {
        server.until(|seen| count(seen, TSDB) == 1 && count(seen, put) == 1).await;
        for n in 1..5 {
            machine.keep(NOW + n * 60, 5);
            // A whole round trip, in which the values would be posted.
            machine.signals.refresh.notify_one();
            server.until(|seen| count(seen, put) > n as usize).await;
        }
        count(&server.requests(), TSDB)
    };
    let (result, posts) = machine.run_during(&server, script).await;
    assert_eq!((result, posts), (Ok(()), 1));
    machine.assert_ledger(0, 25, 0);
}

#[tokio::test]
async fn each_new_minute_is_delivered_at_once() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let script = async {
        for n in 0..3 {
            machine.keep(NOW + i64::from(n) * 60, 1);
            server.until(|seen| count(seen, TSDB) > n as usize).await;
        }
    };
    machine.run_during(&server, script).await.0.unwrap();
    machine.assert_ledger(3, 0, 0);
}

#[tokio::test]
async fn values_queued_at_shutdown_are_still_delivered() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let script = async {
        server.until(|seen| count(seen, "PUT /api/v0/hosts/HOST1") == 1).await;
        let samples = vec![Sample::new("last", 1.0).unwrap()];
        machine.spool.keep(vec![Minute { time: NOW, samples }], &[], NOW);
    };
    machine.run_during(&server, script).await.0.unwrap();
    machine.assert_ledger(1, 0, 0);
}

#[tokio::test]
async fn a_server_that_does_not_answer_does_not_hold_up_shutdown() {
    let machine = Machine::registered();
    machine.keep(NOW, 1);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut server = Server::start(|_| String::new()).await;
    server.base = format!("http://{}", silent.local_addr().unwrap());
    let begun = Instant::now();
    machine.run_during(&server, async { silent.accept().await }).await.0.unwrap();
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
    machine.assert_ledger(0, 1, 0);
}

#[tokio::test]
async fn a_server_that_falls_silent_holds_up_neither_the_last_delivery_nor_the_last_status() {
    let mut machine = Machine::registered();
    machine.status_on_stop = Some("poweroff".to_owned());
    let is_silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    let server =
        Server::start_pending(
            move |request| {
                if silent.load(Ordering::SeqCst) { None } else { Some(mackerel(request, accept)) }
            },
        )
        .await;
    let put = "PUT /api/v0/hosts/HOST1";
    let script = async {
        server.until(|seen| count(seen, put) == 1).await;
        is_silent.store(true, Ordering::SeqCst);
        machine.keep(NOW, 1);
        server.until(|seen| count(seen, TSDB) == 1).await;
        Instant::now()
    };
    let (result, stopped_at) = machine.run_during(&server, script).await;
    assert_eq!(result, Ok(()));
    assert!(stopped_at.elapsed() < HANG, "{:?}", stopped_at.elapsed());
    assert_eq!(count(&server.requests(), "POST /api/v0/hosts/HOST1/status"), 1, "the last status was sent");
}

#[tokio::test]
async fn a_report_that_waits_for_its_minute_survives_a_restart_of_the_output() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let (reports, _documents, mut inbox) = inbox();
    let queued = async {
        server.until(|seen| count(seen, "PUT /api/v0/hosts/HOST1") == 1).await;
        reports.send(report("fine", Status::Ok, false)).await.unwrap();
        while reports.capacity() < reports.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = machine.run_with(&server, "key")(&mut inbox) => panic!("{result:?}"),
        () = queued => {}
    }
    assert_eq!(count(&server.requests(), REPORT), 0, "it is not urgent");
    tokio::select! {
        result = machine.run_with(&server, "key")(&mut inbox) => panic!("{result:?}"),
        requests = server.until(|seen| count(seen, REPORT) == 1) => {
            assert_eq!(reported(&requests, |_| true), ["fine OK"]);
        }
    }
}

#[tokio::test]
async fn reports_and_metadata_queued_under_a_wrong_key_are_delivered_with_another() {
    let machine = Machine::registered();
    let has_good_key = |request: &Request| request.head.contains("x-api-key: good");
    let server = Server::start(move |request| match request.line.as_str() {
        REPORT | "PUT /api/v0/hosts/HOST1/metadata/md" if !has_good_key(request) => answer(403, "no"),
        _ => mackerel(request, accept),
    })
    .await;
    let (reports, documents, mut inbox) = inbox();
    reports.send(report("db", Status::Critical, true)).await.unwrap();
    let (delivered, arrived) = tokio::sync::oneshot::channel();
    documents.send(Document { namespace: "md".into(), json: "1".to_owned(), delivered }).await.unwrap();
    let refused = async {
        server.until(|seen| count(seen, REPORT) > 0 && seen.iter().any(|seen| seen.line.ends_with("/md"))).await;
        reports.send(report("db", Status::Ok, true)).await.unwrap();
    };
    tokio::select! {
        result = machine.run_with(&server, "bad")(&mut inbox) => panic!("{result:?}"),
        () = refused => {}
    }
    let all = |seen: &[Request]| reported(seen, has_good_key).len() == 2;
    tokio::select! {
        result = machine.run_with(&server, "good")(&mut inbox) => panic!("{result:?}"),
        (requests, host) = async { (server.until(all).await, arrived.await) } => {
            assert_eq!(reported(&requests, has_good_key), ["db CRITICAL", "db OK"]);
            assert_eq!(host.as_deref(), Ok("HOST1"));
        }
    }
}

#[tokio::test]
async fn reports_during_a_long_registration_are_queued_and_not_dropped() {
    static HOURS: AtomicU64 = AtomicU64::new(0);
    let machine = Machine::new();
    let (reports, _documents, mut inbox) = inbox();
    let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let server =
        Server::start(
            move |request| {
                if down.load(Ordering::SeqCst) { answer(503, "down") } else { mackerel(request, accept) }
            },
        )
        .await;
    // However long this takes on a busy machine, it retries.
    let instant = || Instant::now() + Duration::from_hours(HOURS.fetch_add(1, Ordering::Relaxed));
    let pace = Pace { instant, ..PACE };
    let script = async {
        // More than the channel holds.
        for number in 0..20 {
            reports.send(report(&format!("c{number}"), Status::Critical, true)).await.unwrap();
        }
        is_down.store(false, Ordering::SeqCst);
        server.until(|seen| reported(seen, |_| true).len() == 20).await
    };
    let script = timeout(Duration::from_secs(30), script);
    tokio::select! {
        result = machine.run_with_pace(&server, "key", pace)(&mut inbox) => panic!("{result:?}"),
        requests = script => {
            let names = reported(&requests.expect("the reports are not queued"), |_| true);
            assert_eq!((names[0].as_str(), names[19].as_str()), ("c0 CRITICAL", "c19 CRITICAL"));
        }
    }
}

#[tokio::test]
async fn a_minute_with_more_points_than_a_request_takes_several() {
    let machine = Machine::registered();
    machine.keep(NOW, 12_000);
    let server = Server::start(|request| mackerel(request, accept)).await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 3).await;
    let posts = requests.iter().filter(|request| request.line == TSDB).map(|request| names(request).len());
    assert_eq!(posts.collect::<Vec<_>>(), [5000, 5000, 2000]);
    machine.assert_ledger(12_000, 0, 0);
}

#[tokio::test]
async fn the_description_is_sent_again_after_a_refresh() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let put = "PUT /api/v0/hosts/HOST1";
    let script = async {
        server.until(|seen| count(seen, put) == 1).await;
        machine.signals.refresh.notify_one();
        server.until(|seen| count(seen, put) == 2).await;
    };
    machine.run_during(&server, script).await.0.unwrap();
}

fn defined(owner: &str, name: &str) -> Defined {
    Defined { owner: owner.into(), graph: wasaba_core::graph::GraphDefinition::new(name, "", "float").unwrap() }
}

#[tokio::test]
async fn one_refused_graph_definition_costs_no_other_plugin_its_graphs_and_is_not_posted_again() {
    for status in [400, 413] {
        let machine = Machine::registered();
        let create = "POST /api/v0/graph-defs/create";
        let server = Server::start(move |request| match request.line.as_str() {
            line if line == create && request.body.contains("bad") => answer(status, r#"{"error":"bad"}"#),
            _ => mackerel(request, accept),
        })
        .await;
        let names = ["a", "b", "bad", "c", "d"];
        let mut all = names.map(|name| defined(&format!("plugin {name}"), name)).to_vec();
        let accepted = |seen: &[Request]| {
            let good = seen.iter().filter(|request| request.line == create && !request.body.contains("bad"));
            good.map(|request| request.body.matches(r#""name":"custom."#).count()).sum::<usize>()
        };
        let bad = |seen: &[Request]| seen.iter().filter(|request| request.body.contains("bad")).count();
        let script = async {
            machine.definitions.send(Arc::new(all.clone())).unwrap();
            // [a, b, bad, c, d], [a, b], [bad, c, d], [bad], [c, d]
            let seen = server.until(|seen| accepted(seen) == 4 && bad(seen) == 3).await;
            let before = bad(&seen);
            all.push(defined("plugin e", "e"));
            machine.definitions.send(Arc::new(all)).unwrap();
            let seen = server.until(|seen| accepted(seen) == 4 + 5).await;
            (before, bad(&seen))
        };
        let (result, (before, after)) = machine.run_during(&server, script).await;
        result.unwrap();
        assert_eq!(after, before, "{status}: it was posted again");
    }
}

#[tokio::test]
async fn a_loop_of_refreshes_sends_the_description_five_times_a_minute() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let put = "PUT /api/v0/hosts/HOST1";
    let script = async {
        for n in 0..30 {
            machine.signals.refresh.notify_one();
            // A whole round trip, in which the description would be sent.
            machine.keep(NOW - n * 60, 1);
            server.until(|seen| count(seen, TSDB) > n as usize).await;
        }
        count(&server.requests(), put)
    };
    let (result, puts) = machine.run_during(&server, script).await;
    assert_eq!((result, puts), (Ok(()), 5));
}

#[tokio::test]
async fn a_refresh_makes_no_request_before_a_failed_one_may_be_repeated() {
    let machine = Machine::registered();
    let put = "PUT /api/v0/hosts/HOST1";
    let server = Server::start(move |request| match request.line == put {
        true => "HTTP/1.1 503 Busy\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n".to_owned(),
        false => mackerel(request, accept),
    })
    .await;
    let script = async {
        server.until(|seen| count(seen, put) > 0).await;
        for n in 0..10 {
            machine.signals.refresh.notify_one();
            // A whole round trip, in which the description would be sent.
            machine.keep(NOW + n * 60, 1);
            server.until(|seen| count(seen, TSDB) > n as usize).await;
        }
        count(&server.requests(), put)
    };
    let (result, puts) = machine.run_during(&server, script).await;
    assert_eq!((result, puts), (Ok(()), 1));
}

#[tokio::test]
async fn graph_definitions_are_posted_when_they_change_and_not_again_when_refused() {
    let machine = Machine::registered();
    let create = "POST /api/v0/graph-defs/create";
    let server = Server::start(move |request| match request.line.as_str() {
        line if line == create && request.body.contains("bad") => answer(400, r#"{"error":"bad unit"}"#),
        _ => mackerel(request, accept),
    })
    .await;
    let graph = |name: &str| defined("plugin web", name);
    let script = async {
        for (n, name) in ["a", "bad", "b"].into_iter().enumerate() {
            machine.definitions.send(Arc::new(vec![graph(name)])).unwrap();
            server.until(|seen| count(seen, create) > n).await;
        }
    };
    machine.run_during(&server, script).await.0.unwrap();
    let bodies: Vec<String> = server.requests().into_iter().filter(|r| r.line == create).map(|r| r.body).collect();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[0], r#"[{"name":"custom.a","unit":"float","metrics":null}]"#);
}

#[tokio::test]
async fn values_of_another_host_are_posted_for_it_and_stay_queued_while_it_is_absent() {
    let machine = Machine::registered();
    let sample = |name: &str| Sample::new(name, 1.0).unwrap();
    let (present, absent) = (sample("present").of_host(&"db 1".into()), sample("absent").of_host(&"db2".into()));
    let samples = vec![sample("own"), present, absent];
    machine.spool.keep(vec![Minute { time: NOW, samples }], &[], NOW);
    let server = Server::start(|request| {
        let hosts = if request.line.contains("customIdentifier=db+1&") { r#"[{"id":"DB"}]"# } else { "[]" };
        match request.line.starts_with("GET /api/v0/hosts?") {
            true => answer(200, &format!(r#"{{"hosts":{hosts}}}"#)),
            false => mackerel(request, accept),
        }
    })
    .await;
    let requests = machine.run_until(&server, |requests| count(requests, TSDB) == 2).await;
    let bodies = requests.iter().filter(|request| request.line == TSDB).map(|request| request.body.as_str());
    let points = bodies.flat_map(|body| serde_json::from_str::<Vec<Value>>(body).unwrap());
    let points = points.map(|point| (point["hostId"].clone(), point["name"].clone())).collect::<Vec<_>>();
    // Without waiting for the look-up.
    assert_eq!(points, [(json!("HOST1"), json!("own")), (json!("DB"), json!("present"))]);
    let lookup =
        "GET /api/v0/hosts?customIdentifier=db2&status=working&status=standby&status=maintenance&status=poweroff";
    assert_eq!(count(&requests, lookup), 1, "{:?}", lines(&requests));
    machine.assert_ledger(2, 1, 0);
}

#[tokio::test]
async fn a_retired_other_host_does_not_hold_up_this_hosts_values() {
    let machine = Machine::registered();
    let samples = vec![Sample::new("own", 1.0).unwrap(), Sample::new("other", 1.0).unwrap().of_host(&"db".into())];
    machine.spool.keep(vec![Minute { time: NOW, samples }], &[], NOW);
    let server = Server::start(|request| match request.line.starts_with("GET /api/v0/hosts?") {
        true => answer(200, r#"{"hosts":[{"id":"DB"}]}"#),
        false => mackerel(request, |request| match request.body.contains("DB") {
            true => answer(404, r#"{"error":"Host Not Found."}"#),
            false => accept(request),
        }),
    })
    .await;
    let is_refused = |request: &Request| request.line == TSDB && request.body.contains("DB");
    machine.run_until(&server, |requests| requests.iter().any(is_refused)).await;
    machine.assert_ledger(1, 1, 0);
}

/// The recorded requests of the official agent: method and path, and the headers by name.
fn recorded() -> Vec<(String, Value)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/official/requests.jsonl");
    let text = fs::read_to_string(file).unwrap();
    let parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // Go's client leaves a bare `?` at the end.
    let line = |request: &Value| {
        format!("{} {}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap().trim_end_matches('?'))
    };
    parsed.map(|request| (line(&request), request["headers"].clone())).collect()
}

#[tokio::test]
async fn requests_have_the_lines_the_order_and_the_headers_of_the_official_agents() {
    let mut machine = Machine::new();
    machine.status = Some("working".to_owned());
    machine.status_on_stop = Some("poweroff".to_owned());
    let sample = |name: &str| Sample::new(name, 1.0).unwrap();
    let samples = vec![sample("own"), sample("a").of_host(&"known".into()), sample("b").of_host(&"unk".into())];
    machine.spool.keep(vec![Minute { time: NOW, samples }], &[], NOW);
    let server = Server::start(|request| match request.line.as_str() {
        "POST /api/v0/hosts" => answer(200, r#"{"id":"HOSTID12345"}"#),
        "GET /api/v0/hosts/HOSTID12345" => answer(200, r#"{"host":{"id":"HOSTID12345","status":"standby"}}"#),
        line if line.starts_with("GET /api/v0/hosts?customIdentifier=known&") => {
            answer(200, r#"{"hosts":[{"id":"CIHOST"}]}"#)
        }
        line if line.starts_with("GET /api/v0/hosts?") => answer(200, r#"{"hosts":[]}"#),
        "PUT /api/v0/hosts/HOSTID12345" => answer(200, r#"{"id":"HOSTID12345"}"#),
        _ => answer(200, r#"{"success":true}"#),
    })
    .await;
    let enough = |seen: &[Request]| count(seen, TSDB) == 2 && count(seen, "PUT /api/v0/hosts/HOSTID12345") == 1;
    let requests = machine.run_until(&server, enough).await;
    let recorded = recorded();
    let official = |line: &str| recorded.iter().find(|(known, _)| known == line).map(|(_, headers)| headers);
    let begin = recorded.iter().map(|(line, _)| line.as_str()).take(3).collect::<Vec<_>>();
    assert_eq!(lines(&requests)[..3], begin);
    assert_eq!(lines(&requests).last(), Some(&"POST /api/v0/hosts/HOSTID12345/status"));
    assert_eq!(lines(&requests).iter().filter(|line| line.contains("customIdentifier=")).count(), 2);
    for request in &requests {
        let headers =
            official(&request.line).unwrap_or_else(|| panic!("the official agent does not send {}", request.line));
        let names = headers
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_lowercase())
            .collect::<std::collections::BTreeSet<_>>();
        let own = request.head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect::<Vec<_>>();
        // This client sends `accept` in place of `accept-encoding`, since it does not decompress.
        let own_names = own.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "accept");
        let mut own_names = own_names.collect::<std::collections::BTreeSet<_>>();
        own_names.insert("accept-encoding".to_owned());
        assert_eq!(own_names, names, "{}", request.line);
        let kind = own.iter().find(|(name, _)| *name == "content-type").map(|(_, value)| *value);
        assert_eq!(kind, headers["Content-Type"].as_str(), "{}", request.line);
    }
}
