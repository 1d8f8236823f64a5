//! Tests of the agent's state, and the state that other tests start from.

use std::collections::BTreeMap;
use std::path::Path;

use show::state::QueueReport;
use wasaba_core::collect::outcomes::{CollectionResult, Outcome};

use super::*;

const NOW: i64 = 1_800_000_000;

/// The tables of an agent that has just started.
pub(crate) fn tables(root: &Path) -> Tables {
    let spool = Arc::new(Spool::open(root, NOW).unwrap());
    Tables {
        register: Register::default(),
        outcomes: Outcomes::default(),
        pulse: Pulse::since(Moment::now().instant),
        lanes: Lanes::default(),
        books: Books::of(Arc::clone(&spool)),
        spool,
        engine: containers::look::Current::default(),
        defined: watch::channel(Arc::default()).1,
        statuses: Statuses::default(),
        whereabouts: Whereabouts::default(),
    }
}

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
async fn ages_do_not_follow_the_wall_clock_and_times_are_those_of_the_reader() {
    let temp = tempfile::tempdir().unwrap();
    let tables = tables(temp.path());
    let start = tables.pulse.started;
    tables.pulse.beat(start + Duration::from_secs(10));
    for unix_seconds in [NOW, NOW - 100_000, NOW + 100_000] {
        let now = Moment { unix_seconds, instant: start + Duration::from_secs(40) };
        let state = super::now(&tables, now).await;
        assert_eq!((state.now, state.uptime_seconds, state.collected_seconds_ago), (unix_seconds, 40, 30));
    }
    let facts = LaneFacts {
        kind: mackerel::Kind::Values,
        host: None,
        succeeded_ago: Some(Duration::from_secs(90)),
        delivered: 7,
        failures: 3,
        failures_in_hour: 2,
        fault: Some(mackerel::Fault {
            lasts: Duration::from_secs(60),
            error: "refused".into(),
            at_fault: mackerel::AtFault::Network,
            cure: "check it".into(),
            next_try_in: Duration::from_secs(5),
        }),
        dropped: BTreeMap::from([("refused", 1)]),
    };
    let report = lane_report(facts, NOW);
    let fault = report.fault.unwrap();
    assert_eq!((report.last_success, report.failures_in_hour), (Some(NOW - 90), 2));
    assert_eq!((fault.since, fault.next_try, fault.at_fault.as_str()), (NOW - 60, NOW + 5, "network"));
}

/// An agent that posts, and has been running for an hour.
pub(crate) fn posting() -> AgentState {
    AgentState {
        uptime_seconds: 3_600,
        collected_seconds_ago: 12,
        delivered_seconds_ago: Some(20),
        server: Some(ServerReport { apibase: "https://api.mackerelio.com".into(), proxy: None }),
        queue: Some(QueueReport { points: 30, ..QueueReport::default() }),
        ..AgentState::default()
    }
}

fn lane(lane: &str, fault: Option<&str>) -> LaneReport {
    let fault = fault.map(|error| FaultReport {
        error: error.into(),
        at_fault: "network".into(),
        cure: "check it".into(),
        ..FaultReport::default()
    });
    LaneReport { lane: lane.into(), fault, ..LaneReport::default() }
}

#[test]
fn an_agent_works_until_nothing_was_delivered_for_five_minutes_also_right_after_its_start() {
    let judged = |delivered, uptime| {
        AgentState { delivered_seconds_ago: delivered, uptime_seconds: uptime, ..posting() }.judge()
    };
    assert!(judged(Some(300), 3_600).unwrap().ends_with("12 s ago, and values were delivered 5 min ago"));
    assert!(judged(Some(301), 3_600).is_err());
    assert!(judged(None, 300).unwrap().ends_with("; nothing was delivered yet"));
    let why = judged(None, 301).unwrap_err();
    assert!(why.starts_with("nothing was delivered for 5 min, although no request has failed: "), "{why}");
}

#[test]
fn an_agent_that_delivers_nothing_names_the_first_fault_with_whose_it_is_and_the_cure() {
    let lanes = vec![lane("values", None), lane("metadata", Some("refused")), lane("host status", Some("late"))];
    let state = AgentState { delivered_seconds_ago: Some(720), lanes, ..posting() };
    let expected =
        "nothing was delivered for 12 min: metadata: refused; the fault is between this machine and Mackerel: check it";
    assert_eq!(state.judge().unwrap_err(), expected);
}

#[test]
fn an_agent_whose_queue_is_empty_has_nothing_to_deliver_but_not_if_it_cannot_register() {
    let queue = Some(QueueReport::default());
    let state = AgentState { delivered_seconds_ago: Some(720), queue: queue.clone(), ..posting() };
    assert!(state.judge().is_ok());
    let lanes = vec![lane("host description", Some("refused"))];
    assert!(AgentState { delivered_seconds_ago: None, queue, lanes, ..posting() }.judge().is_err());
    assert!(AgentState { delivered_seconds_ago: Some(720), queue: None, ..posting() }.judge().is_err(), "unknown");
}

#[test]
fn an_agent_that_drops_every_value_for_its_time_is_not_working_although_its_queue_is_empty() {
    let lanes = vec![lane("values", Some("they are dated by this machine's clock"))];
    let state = AgentState { delivered_seconds_ago: None, queue: Some(QueueReport::default()), lanes, ..posting() };
    assert!(state.judge().is_err_and(|why| why.contains("by this machine's clock")));
}

#[test]
fn an_agent_that_has_missed_two_minutes_is_not_working_whatever_was_delivered() {
    let judged = |seconds| AgentState { collected_seconds_ago: seconds, ..posting() }.judge();
    assert!(judged(150).is_ok_and(|text| text.contains("150 s ago")));
    assert!(judged(151).is_err_and(|why| why.contains("151 s")));
}

#[test]
fn without_an_api_key_an_agent_works_if_it_collects() {
    let state = AgentState { server: None, delivered_seconds_ago: None, ..posting() };
    assert!(state.judge().unwrap().contains("without an API key"));
}
