//! The tests of the check reports against a server on loopback.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use wasaba_core::clock;
use wasaba_core::report::{Lost, Status};

use super::*;
use crate::mackerel::board::LaneFacts;
use crate::mackerel::halving::MOST_REFUSED_REQUESTS;
use crate::mackerel::testing::{PACE, Server, answer, client, read};
use crate::spool::Spool;

fn report(name: &str, host: Option<&str>) -> Report {
    Report {
        name: name.into(),
        host: host.map(Into::into),
        status: Status::Critical,
        message: "bad\nline2".to_owned(),
        occurred_at: clock::unix_seconds(),
        taken: None,
        notification_interval_minutes: None,
        max_check_attempts: Some(3),
        is_urgent: true,
        lost: Lost::default(),
    }
}

/// The reporter of this host or another, which is known.
async fn reporter(server: &Server, host: Option<&str>, queued: Vec<Report>) -> Reporter {
    let (board, mut queues) = (Lanes::default(), Queues::default());
    let (hosts, host) = (Arc::new(Hosts::new(board.clone())), host.map(Arc::from));
    queued.into_iter().for_each(|report| queues.push(report));
    let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
    let (own, pace) = (HostId::new("OWN").unwrap(), Pace { random: || 1.0, ..PACE });
    let queue = queues.iter().next().map(|(_, queue)| Arc::clone(queue)).unwrap_or_default();
    if let Some(host) = &host {
        let (mut found, client) = (hosts.found(), client(&server.base));
        hosts.id(host, (pace.instant)());
        tokio::select! {
            never = hosts.keep_looked_up(&client, pace) => match never {},
            found = found.changed() => found.unwrap(),
        }
    }
    let mut former = None;
    let saved = Saved::new(spool, Some(own.clone()), &mut former);
    let reports = CheckReports::new(client(&server.base), own, hosts, board, pace, &mut queues, saved);
    reports.reporter(host.as_ref(), &queue)
}

fn facts(reporter: &Reporter) -> LaneFacts {
    let facts = reporter.lane.board().facts((PACE.instant)()).into_iter();
    let is_it = |facts: &LaneFacts| facts.kind == Kind::CheckReports && facts.host == reporter.host;
    facts.into_iter().find(is_it).unwrap()
}

fn bodies(server: &Server) -> Vec<String> {
    server
        .requests()
        .into_iter()
        .filter(|request| request.line.contains("/checks/report"))
        .map(|request| request.body)
        .collect()
}

#[test]
fn a_report_is_written_like_the_official_agents() {
    let reports = [Report { occurred_at: 1_795_417_744, ..report("crit", None) }];
    let expected = r#"{"reports":[{"source":{"type":"host","hostId":"HOSTID12345"},"name":"crit","status":"CRITICAL","message":"bad\nline2","occurredAt":1795417744,"maxCheckAttempts":3}]}"#;
    assert_eq!(
        String::from_utf8(body(&reports.map(Arc::new), "HOSTID12345", client("http://127.0.0.1").present())).unwrap(),
        expected
    );
}

#[tokio::test]
async fn a_refused_report_is_dropped_alone_and_its_check_learns_of_it() {
    for order in [["poison", "a", "b"], ["a", "poison", "b"], ["a", "b", "poison"]] {
        let server = Server::start(|request| match request.body.contains("poison") {
            true => answer(400, r#"{"error":"no"}"#),
            false => answer(200, r#"{"success":true}"#),
        })
        .await;
        let queued = order.map(|name| report(name, None));
        let lost = queued.clone().map(|report| (report.name == "poison".into(), report.lost));
        let mut reporter = reporter(&server, None, queued.into()).await;
        assert_eq!(reporter.flush().await, None);
        assert_eq!(reporter.queue.len(), 0, "{order:?}");
        let accepted = bodies(&server).into_iter().filter(|body| !body.contains("poison"));
        assert_eq!(accepted.map(|body| body.matches("\"name\"").count()).sum::<usize>(), 2);
        assert!(lost.iter().all(|(is_poison, lost)| lost.is_set() == *is_poison), "{order:?}");
        let facts = facts(&reporter);
        assert_eq!((facts.delivered, facts.dropped.get("refused")), (2, Some(&1)), "{order:?}");
        let fault = facts.fault.unwrap().error;
        assert_eq!(fault, "cannot post reports of the check `poison`: Mackerel answered 400: no");
    }
}

#[tokio::test]
async fn a_report_that_only_a_gateway_refuses_stays_queued_and_holds_up_no_other() {
    let server = Server::start(|request| match request.body.contains("poison") {
        true => answer(400, "<html>"),
        false => answer(200, r#"{"success":true}"#),
    })
    .await;
    let queued = ["a", "poison", "b"].map(|name| report(name, None));
    let lost = queued.clone().map(|report| report.lost);
    let mut reporter = reporter(&server, None, queued.into()).await;
    assert_eq!(reporter.flush().await, None);
    let left = reporter.queue.groups().iter().flatten().map(|report| report.name.to_string()).collect::<Vec<_>>();
    assert_eq!((left, facts(&reporter).delivered), (vec!["poison".to_owned()], 2));
    assert!(lost.iter().all(|lost| !lost.is_set()));
    let fault = facts(&reporter).fault.unwrap();
    assert!(fault.error.starts_with("cannot post reports of the check `poison`: a request to "), "{}", fault.error);
}

/// A server that answers this to whatever contains `poison`.
async fn firewall(status: u16, body: &'static str) -> Server {
    Server::start(move |request| match request.body.contains("poison") {
        true => answer(status, body),
        false => answer(200, r#"{"success":true}"#),
    })
    .await
}

fn queued(reporter: &Reporter) -> Vec<String> {
    let groups = reporter.queue.groups();
    groups.iter().flatten().map(|report| format!("{} {}", report.name, report.status.word())).collect()
}

#[tokio::test]
async fn a_report_that_a_firewall_does_not_let_pass_holds_up_no_other_whatever_it_answers() {
    for (status, body) in [(403, "<html>"), (404, "<html>"), (500, r#"{"error":"no"}"#), (200, "<html>"), (302, "")] {
        let server = firewall(status, body).await;
        let names = ["a", "poison", "b", "c"];
        let mut reporter = reporter(&server, None, names.map(|name| report(name, None)).into()).await;
        let mut tries = 0;
        while reporter.flush().await.is_some() {
            tries += 1;
            assert!(tries < 5, "{status}: {:?}", queued(&reporter));
        }
        assert_eq!(queued(&reporter), ["poison CRITICAL"], "{status}");
        assert!(facts(&reporter).fault.is_some(), "{status}");
        // Another report does not wait for it.
        reporter.queue.push(report("d", None));
        assert_eq!((reporter.flush().await, queued(&reporter)), (None, vec!["poison CRITICAL".to_owned()]), "{status}");
    }
}

#[tokio::test]
async fn a_report_that_is_refused_until_a_later_one_of_its_check_is_delivered_is_dropped_and_counted() {
    let server = firewall(403, "<html>").await;
    let refused = Report { message: "poison".to_owned(), ..report("db", None) };
    let mut reporter = reporter(&server, None, vec![report("a", None), refused]).await;
    while reporter.flush().await.is_some() {}
    assert_eq!(queued(&reporter), ["db CRITICAL"]);
    reporter.queue.push(Report { status: Status::Ok, ..report("db", None) });
    assert_eq!((reporter.flush().await, queued(&reporter).len()), (None, 0));
    let facts = facts(&reporter);
    assert_eq!(facts.dropped.get("refused until a later one was delivered"), Some(&1));
    assert_eq!((facts.delivered, facts.fault), (2, None));
}

#[tokio::test]
async fn the_reports_of_a_check_arrive_in_their_order_whatever_fails_on_the_way() {
    for seed in 0..20_u64 {
        let (requests, arrived) = (AtomicU64::new(seed), Arc::new(Mutex::new(Vec::new())));
        let accepted = Arc::clone(&arrived);
        // A load balancer of which a backend is broken, and a check that a firewall does not let pass.
        let server = Server::start(move |request| {
            let number = requests.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            let is_broken = (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 62 == 0;
            if request.body.contains("poison") {
                return answer(if seed.is_multiple_of(2) { 403 } else { 400 }, "<html>");
            }
            if is_broken {
                return answer(502, "<html>");
            }
            let body = serde_json::from_str::<serde_json::Value>(&request.body).unwrap();
            let reports = body["reports"].as_array().unwrap().iter();
            let reports = reports.map(|report| (report["name"].to_string(), report["occurredAt"].as_i64().unwrap()));
            accepted.lock().unwrap().extend(reports);
            answer(200, r#"{"success":true}"#)
        })
        .await;
        let now = clock::unix_seconds();
        let report = |number: i64| {
            let name = if number % 9 == 8 { "poison".to_owned() } else { format!("c{}", number % 9) };
            let status = if number / 9 % 2 == 0 { Status::Critical } else { Status::Ok };
            Report { occurred_at: now + number, status, ..report(&name, None) }
        };
        let mut reporter = reporter(&server, None, (0..90).map(report).collect()).await;
        for _ in 0..20 {
            reporter.flush().await;
        }
        let arrived = arrived.lock().unwrap();
        let mut last = BTreeMap::new();
        for (name, occurred_at) in &*arrived {
            let before = last.insert(name, occurred_at);
            assert!(before < Some(occurred_at), "{seed}: {name} {occurred_at} after {before:?}");
        }
        assert!(arrived.len() > 60, "{seed}: {}", arrived.len());
    }
}

/// Reports of one check, the oldest first, with a status that changes each time.
fn flapping(name: &str, reports: i64) -> Vec<Report> {
    let report = |number| Report {
        status: if number % 2 == 0 { Status::Critical } else { Status::Ok },
        occurred_at: clock::unix_seconds() - reports + number,
        ..report(name, None)
    };
    (0..reports).map(report).collect()
}

#[tokio::test]
async fn a_check_that_flaps_and_does_not_pass_costs_few_requests_however_many_of_its_reports_wait() {
    for (status, body) in [(400, "<html>"), (400, r#"{"error":"no"}"#), (403, "<html>"), (500, r#"{"error":"no"}"#)] {
        let server = firewall(status, body).await;
        let first = flapping("poison", 150).into_iter().chain([report("good", None)]).collect();
        let mut reporter = reporter(&server, None, first).await;
        for report in flapping("poison", 40) {
            reporter.flush().await;
            reporter.queue.push(report);
        }
        let requests = bodies(&server).len();
        // Of what Mackerel itself refuses, each report with another message is asked for once.
        assert!(requests <= 40, "{status} {body}: {requests}");
        assert!(!queued(&reporter).contains(&"good CRITICAL".to_owned()), "{status} {body}");
        reporter.queue.push(report("good", None));
        reporter.flush().await;
        assert!(!queued(&reporter).contains(&"good CRITICAL".to_owned()), "{status} {body}");
    }
}

#[tokio::test]
async fn the_reports_of_a_refused_check_that_have_piled_up_cost_few_requests_however_their_messages_differ() {
    thread_local! {
        static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }
    let server = firewall(400, r#"{"error":"no"}"#).await;
    let mut reporter = reporter(&server, None, vec![report("good", None), report("poison", None)]).await;
    reporter.pace.instant = || clock::instant() + LATER.get();
    reporter.flush().await;
    let fault = facts(&reporter).fault.unwrap().error;
    assert_eq!(fault, "cannot post reports of the check `poison`: Mackerel answered 400: no");
    for number in 0..62 {
        reporter.queue.push(Report { message: format!("{number}"), ..report("poison", None) });
    }
    let before = bodies(&server).len();
    reporter.flush().await;
    assert_eq!(bodies(&server).len(), before, "they wait");
    LATER.set(Duration::from_hours(1));
    reporter.flush().await;
    let requests = bodies(&server).len() - before;
    assert!((1..=MOST_REFUSED + 4).contains(&requests), "{requests}");
    // The next result after it is corrected ends the fault.
    let corrected = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
    reporter.client = client(&corrected.base);
    LATER.set(Duration::from_hours(2));
    reporter.flush().await;
    assert_eq!((queued(&reporter).len(), facts(&reporter).fault), (0, None));
}

#[tokio::test]
async fn a_check_that_fails_alone_delays_no_other() {
    for (status, body) in [(400, r#"{"error":"no"}"#), (403, "<html>"), (500, r#"{"error":"no"}"#), (200, "<html>")] {
        let server = firewall(status, body).await;
        let mut reporter = reporter(&server, None, vec![report("good", None)]).await;
        assert_eq!(reporter.flush().await, None);
        for _ in 0..5 {
            reporter.queue.push(report("poison", None));
            assert_eq!(reporter.flush().await, None, "{status} {body}: the lane does not wait");
            reporter.queue.push(report("good", None));
            assert_eq!(reporter.flush().await, None, "{status} {body}");
            assert!(!queued(&reporter).contains(&"good CRITICAL".to_owned()), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn many_reports_of_one_check_arrive_in_their_order_where_only_small_requests_pass() {
    for (status, body) in [(504, "<html>"), (413, "<html>"), (403, "<html>")] {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&arrived);
        let server = Server::start(move |request| {
            if request.body.len() > 1_000 {
                return answer(status, body);
            }
            let body = serde_json::from_str::<serde_json::Value>(&request.body).unwrap();
            let times = body["reports"].as_array().unwrap().iter().map(|report| report["occurredAt"].as_i64().unwrap());
            accepted.lock().unwrap().extend(times);
            answer(200, r#"{"success":true}"#)
        })
        .await;
        let waiting = flapping("db", 60);
        let expected = waiting.iter().map(|report| report.occurred_at).collect::<Vec<_>>();
        let mut reporter = reporter(&server, None, waiting).await;
        for _ in 0..12 {
            reporter.flush().await;
        }
        assert_eq!(*arrived.lock().unwrap(), expected, "{status}");
        assert!(facts(&reporter).dropped.is_empty(), "{status}: {:?}", facts(&reporter).dropped);
    }
}

#[tokio::test]
async fn nothing_is_dropped_behind_a_server_that_fails_by_chance() {
    for seed in 0..10_u64 {
        let requests = AtomicU64::new(seed);
        let server = Server::start(move |_| {
            let number = requests.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            let is_broken = (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 63 == 0;
            if is_broken { answer(502, "<html>") } else { answer(200, r#"{"success":true}"#) }
        })
        .await;
        let mut reporter = reporter(&server, None, flapping("a", 5)).await;
        for (a, b) in flapping("a", 30).into_iter().zip(flapping("b", 30)) {
            reporter.queue.push(a);
            reporter.queue.push(b);
            reporter.flush().await;
        }
        assert!(facts(&reporter).dropped.is_empty(), "{seed}: {:?}", facts(&reporter).dropped);
    }
}

#[tokio::test]
async fn reports_are_too_old_by_mackerels_clock_and_not_by_one_that_is_set_ahead_for_a_while() {
    let server = Server::start(|_| {
        let now = jiff::Timestamp::from_second(clock::unix_seconds()).unwrap();
        let date = now.strftime("%a, %d %b %Y %T GMT");
        answer(200, r#"{"success":true}"#).replacen("\r\n", &format!("\r\ndate: {date}\r\n"), 1)
    })
    .await;
    let mut reporter = reporter(&server, None, vec![report("a", None)]).await;
    assert_eq!(reporter.flush().await, None);
    reporter.pace.now = || clock::wall() + Duration::from_hours(7);
    reporter.queue.push(report("b", None));
    reporter.flush().await;
    assert_eq!((facts(&reporter).delivered, facts(&reporter).dropped.len()), (2, 0));
}

#[tokio::test]
async fn a_search_through_many_refused_reports_ends_before_it_makes_too_many_requests() {
    let server = Server::start(|request| match request.body.contains("poison") {
        true => answer(400, "<html>"),
        false => answer(200, r#"{"success":true}"#),
    })
    .await;
    let names = (0..100).map(|number| if number == 50 { "good".to_owned() } else { format!("poison{number}") });
    let mut reporter = reporter(&server, None, names.map(|name| report(&name, None)).collect()).await;
    for _ in 0..3 {
        reporter.flush().await;
    }
    assert!(bodies(&server).len() <= 3 * 64, "{}", bodies(&server).len());
    assert!(queued(&reporter).len() >= 99);
}

#[tokio::test]
async fn the_good_ones_of_many_checks_are_delivered_within_minutes_however_many_are_refused_and_wherever() {
    let refusal = (400, r#"{"error":"no"}"#);
    for ((status, body), bad) in
        [(refusal, 17), (refusal, 25), (refusal, 40), ((403, "<html>"), 17), ((403, "<html>"), 25)]
    {
        let server = firewall(status, body).await;
        // The same numbers each time.
        let is_bad = |number: usize| number * 37 % 100 < bad;
        let name = |number: usize| format!("{}{number}", if is_bad(number) { "poison" } else { "good" });
        let queue = [report("first", None)].into_iter().chain((0..100).map(|number| report(&name(number), None)));
        let mut reporter = reporter(&server, None, queue.collect()).await;
        let mut waits = Vec::new();
        while queued(&reporter).iter().any(|report| report.starts_with("good")) {
            waits.push(reporter.flush().await.unwrap_or_default());
            assert!(waits.len() < 30, "{status}, {bad} bad: {:?}", queued(&reporter).len());
        }
        let waited = waits.iter().sum::<Duration>();
        assert!(waited < Duration::from_mins(25), "{status}, {bad} bad: {waits:?}");
    }
}

#[tokio::test]
async fn who_asks_for_a_pause_gets_no_further_request_whatever_the_status() {
    for status in [400, 413, 422, 403, 500, 503] {
        let server =
            Server::start(move |_| answer(status, r#"{"error":"no"}"#).replacen("\r\n", "\r\nretry-after: 600\r\n", 1))
                .await;
        let mut reporter = reporter(&server, None, vec![report("a", None), report("b", None)]).await;
        let wait = reporter.flush().await.unwrap();
        assert_eq!((bodies(&server).len(), wait), (1, Duration::from_secs(600)), "{status}");
    }
}

#[tokio::test]
async fn each_refused_report_has_its_own_reason() {
    let server = Server::start(|request| match &request.body {
        body if body.contains("poison") => answer(400, "<html>"),
        body if body.contains("invalid") => answer(400, r#"{"error":"no"}"#),
        _ => answer(200, r#"{"success":true}"#),
    })
    .await;
    let names = ["a", "poison", "b", "invalid", "c"];
    let mut reporter = reporter(&server, None, names.map(|name| report(name, None)).into()).await;
    assert_eq!(reporter.flush().await, None);
    assert_eq!(queued(&reporter), ["poison CRITICAL"]);
    assert_eq!((facts(&reporter).delivered, facts(&reporter).dropped.get("refused")), (3, Some(&1)));
}

#[tokio::test]
async fn nothing_is_dropped_and_few_requests_are_made_while_everything_is_refused() {
    for reason in ["<html>", r#"{"error":"no"}"#] {
        let server = Server::start(move |_| answer(400, reason)).await;
        let queued = (0..300).map(|number| report(&format!("c{number}"), None)).collect();
        let mut reporter = reporter(&server, None, queued).await;
        assert!(reporter.flush().await.is_some());
        assert_eq!(reporter.queue.len(), 300);
        assert!(bodies(&server).len() <= MOST_REFUSED_REQUESTS, "{}", bodies(&server).len());
    }
}

#[tokio::test]
async fn what_waits_is_posted_after_a_restart_once_and_for_the_same_host_only() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |own: &str, pushed: Vec<Report>, status: u16| {
        let server = Server::start(move |_| answer(status, r#"{"success":true}"#)).await;
        let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
        let pace = Pace { random: || 1.0, ..PACE };
        let (own, mut queues) = (HostId::new(own).unwrap(), Queues::default());
        for report in pushed {
            queues.push(report);
        }
        let ((_keep, mut inbox), (_, stop)) = (mpsc::channel(1), watch::channel(true));
        let (board, client) = (Lanes::default(), client(&server.base));
        let hosts = Arc::new(Hosts::new(board.clone()));
        let mut former = None;
        let saved = Saved::new(spool, Some(own.clone()), &mut former);
        let reports = CheckReports::new(client, own, hosts, board, pace, &mut queues, saved);
        reports.run(&mut inbox, stop).await;
        let names = bodies(&server).into_iter().flat_map(|body| {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            body["reports"].as_array().unwrap().iter().map(|report| report["name"].to_string()).collect::<Vec<_>>()
        });
        names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let waiting = || vec![report("a", None), report("b", None)];
    assert_eq!(run("OWN", waiting(), 503).await, r#""a" "b""#);
    assert_eq!(run("OWN", vec![report("c", None)], 200).await, r#""a" "b" "c""#);
    assert_eq!(run("OWN", Vec::new(), 200).await, "", "they were posted");
    assert_eq!(run("OWN", waiting(), 503).await, r#""a" "b""#);
    assert_eq!(run("ANOTHER", Vec::new(), 200).await, "");
}

#[tokio::test]
async fn a_host_that_is_found_during_the_first_request_gets_its_reports_without_a_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (board, mut queues) = (Lanes::default(), Queues::default());
    let hosts = Arc::new(Hosts::new(board.clone()));
    let delivered = Arc::new(Notify::new());
    let (found, told) = (hosts.found(), Arc::clone(&delivered));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut found, told) = (found.clone(), Arc::clone(&told));
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while let Some(request) = read(&mut stream, &mut buffer).await {
                    let body = match request.line.starts_with("GET") {
                        true => r#"{"hosts":[{"id":"OTHER"}]}"#,
                        false => r#"{"success":true}"#,
                    };
                    if request.body.contains("OWN") {
                        // The answer to the first request comes after the look-up.
                        found.changed().await.unwrap();
                    }
                    stream.write_all(answer(200, body).as_bytes()).await.unwrap();
                    if request.body.contains("OTHER") {
                        told.notify_one();
                    }
                }
            });
        }
    });
    for host in [None, Some("db")] {
        queues.push(report("disk", host));
    }
    let (client, own) = (client(&base), HostId::new("OWN").unwrap());
    let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
    let mut former = None;
    let saved = Saved::new(spool, Some(own.clone()), &mut former);
    let reports = CheckReports::new(client.clone(), own, Arc::clone(&hosts), board, PACE, &mut queues, saved);
    let ((_reports, mut inbox), (_stop, stop)) = (mpsc::channel(1), watch::channel(false));
    tokio::select! {
        () = reports.run(&mut inbox, stop) => panic!("it stopped"),
        never = hosts.keep_looked_up(&client, PACE) => match never {},
        () = delivered.notified() => {}
        () = tokio::time::sleep(GATHERED / 2) => panic!("the report of the other host waits"),
    }
}

#[tokio::test]
async fn a_host_whose_requests_hang_delays_no_other() {
    let server = Server::start_pending(|request| match request.line.starts_with("GET") {
        true => Some(answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#)),
        false => (!request.body.contains("OTHER")).then(|| answer(200, r#"{"success":true}"#)),
    })
    .await;
    let (board, mut queues, client) = (Lanes::default(), Queues::default(), client(&server.base));
    let hosts = Arc::new(Hosts::new(board.clone()));
    let (send, mut inbox) = mpsc::channel(9);
    let (own, (_stop, stop)) = (HostId::new("OWN").unwrap(), watch::channel(false));
    let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
    let mut former = None;
    let saved = Saved::new(spool, Some(own.clone()), &mut former);
    let reports = CheckReports::new(client.clone(), own, Arc::clone(&hosts), board, PACE, &mut queues, saved);
    let script = async {
        send.send(report("a", Some("db"))).await.unwrap();
        server.until(|seen| seen.iter().any(|request| request.body.contains("OTHER"))).await;
        send.send(report("b", None)).await.unwrap();
        server.until(|seen| seen.iter().any(|request| request.body.contains("OWN"))).await;
    };
    tokio::select! {
        () = reports.run(&mut inbox, stop) => panic!("it stopped"),
        never = hosts.keep_looked_up(&client, PACE) => match never {},
        () = script => {}
    }
}

#[tokio::test]
async fn reports_of_a_host_that_is_gone_stay_queued_and_say_so() {
    let server = Server::start(|request| match request.line.starts_with("GET") {
        true => answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#),
        false => answer(404, r#"{"error":{"message":"Host Not Found."}}"#),
    })
    .await;
    let mut reporter = reporter(&server, Some("db"), vec![report("a", Some("db"))]).await;
    assert!(reporter.flush().await.is_some_and(|wait| wait >= Duration::from_mins(5)));
    assert_eq!(reporter.queue.len(), 1);
    let fault = facts(&reporter).fault.unwrap();
    assert!(fault.error.contains("Host Not Found.") && fault.cure.contains("`custom_identifier`"), "{fault:?}");
}

#[tokio::test]
async fn more_than_a_hundred_reports_take_several_requests_and_old_ones_are_dropped() {
    let server = Server::start(|_| {
        let date = jiff::Timestamp::from_second(clock::unix_seconds()).unwrap();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        answer(200, r#"{"success":true}"#).replace("\r\n\r\n", &format!("\r\ndate: {date}\r\n\r\n"))
    })
    .await;
    let mut reporter = reporter(&server, None, vec![report("first", None)]).await;
    reporter.flush().await;
    reporter.queue.push(Report { occurred_at: 0, ..report("old", None) });
    (0..150).for_each(|number| reporter.queue.push(report(&format!("c{number}"), None)));
    reporter.flush().await;
    let counts = bodies(&server).iter().map(|body| body.matches("\"name\"").count()).collect::<Vec<_>>();
    assert_eq!(counts, [1, 100, 50]);
}
