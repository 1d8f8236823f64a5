//! Values whose time, or this machine's or one of Mackerel's clocks, is wrong.

use super::*;

const THREE_DAYS: i64 = 3 * 86_400;

/// [`NOW`] as Mackerel writes it.
const TODAY: &str = "Fri, 15 Jan 2027 08:00:00 GMT";

/// This machine's clock is three days ahead.
const AHEAD: Pace =
    Pace { now: || SystemTime::UNIX_EPOCH + Duration::from_secs((NOW + THREE_DAYS).unsigned_abs() + 59), ..PACE };

/// A successful answer with this `Date`.
fn dated(answer: String, date: &str) -> String {
    answer.replace("HTTP/1.1 200 Status\r\n", &format!("HTTP/1.1 200 Status\r\ndate: {date}\r\n"))
}

/// The times of the points in all requests, the failed ones too.
fn posted_times(requests: &[Request]) -> Vec<i64> {
    let posts = requests.iter().filter(|request| request.line == TSDB);
    let bodies = posts.map(|request| serde_json::from_str::<Value>(&request.body).unwrap());
    bodies
        .flat_map(|body| {
            body.as_array().unwrap().iter().map(|point| point["time"].as_i64().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn what_is_too_old_or_ahead_by_mackerels_clock_is_dropped_and_not_posted() {
    let machine = Machine::registered();
    // This machine's clock was a day ahead when it booted.
    for time in [NOW - 86_401, NOW - 86_399, NOW, NOW + 601] {
        machine.keep(time, 1);
    }
    let server = Server::start(|request| dated(mackerel(request, accept), TODAY)).await;
    let requests = machine.run_until(&server, |seen| points(seen.iter().filter(|seen| seen.line == TSDB)) == 2).await;
    assert_eq!(points(requests.iter().filter(|request| request.line == TSDB)), 2);
    let expected = Ledger { collected: 4, delivered: 2, expired: 1, misdated: 1, ..Ledger::default() };
    assert_eq!(machine.spool.ledger(), expected);
}

#[tokio::test]
async fn nothing_that_is_kept_at_any_moment_is_posted_three_days_ahead_of_mackerels_time() {
    let machine = Machine::registered();
    let server = Server::start(|request| dated(mackerel(request, accept), TODAY)).await;
    let (spool, queued) = (Arc::clone(&machine.spool), machine.signals.queued.clone());
    let keep = async move {
        // Whenever the delivery looks at its queue, something was kept a moment ago.
        tokio::task::spawn_blocking(move || {
            for n in 0..300 {
                let samples = vec![Sample::new("a", 1.0).unwrap()];
                spool.keep(vec![Minute { time: NOW + THREE_DAYS + n, samples }], &[], NOW);
                queued.minute();
            }
        })
        .await
        .unwrap();
    };
    let (result, ()) = machine.run_at_pace(&server, AHEAD, keep).await;
    assert_eq!(result, Ok(()));
    assert_eq!(posted_times(&server.requests()), [0; 0]);
    let ledger = machine.spool.ledger();
    assert_eq!((ledger.delivered, ledger.queued + ledger.misdated), (0, 300));
}

#[tokio::test]
async fn the_first_values_wait_for_the_first_answer_if_the_host_could_not_be_looked_up() {
    let machine = Machine::registered();
    machine.keep(NOW + THREE_DAYS, 3);
    let server = Server::start(|request| match request.line.as_str() {
        "GET /api/v0/hosts/HOST1" => answer(503, "oops"),
        _ => dated(mackerel(request, accept), TODAY),
    })
    .await;
    let asked = server.until(|seen| count(seen, "GET /api/v0/hosts/HOST1") >= 2);
    let (result, requests) = machine.run_at_pace(&server, AHEAD, asked).await;
    assert_eq!(result, Ok(()));
    assert_eq!(posted_times(&requests), [0; 0]);
    machine.assert_ledger(0, 3, 0);
}

#[tokio::test]
async fn what_was_queued_while_the_clock_was_ahead_is_not_posted_before_mackerels_time_is_known_and_dropped_then() {
    let machine = Machine::registered();
    for time in [NOW - 60, NOW, NOW + THREE_DAYS, NOW + THREE_DAYS + 60] {
        machine.keep(time, 2);
    }
    let requests_before = AtomicUsize::new(0);
    let server = Server::start(move |request| match requests_before.fetch_add(1, Ordering::Relaxed) {
        0..10 => answer(503, "oops"),
        _ => dated(mackerel(request, accept), TODAY),
    })
    .await;
    let dropped = async {
        while machine.spool.ledger().misdated < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (result, ()) = machine.run_during(&server, dropped).await;
    assert_eq!(result, Ok(()));
    let times = posted_times(&server.requests());
    assert!(times.iter().all(|time| *time <= NOW), "{times:?}");
    let expected = Ledger { collected: 8, delivered: 4, misdated: 4, ..Ledger::default() };
    assert_eq!(machine.spool.ledger(), expected);
}

#[tokio::test]
async fn nothing_is_dropped_or_held_back_where_every_other_answer_has_a_wrong_date() {
    for wrong in ["Tue, 12 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 02:00:00 GMT", "Mon, 18 Jan 2027 08:00:00 GMT"] {
        let machine = Machine::registered();
        (0..20).for_each(|n| machine.keep(NOW - n * 60, 10));
        let answers = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            let is_wrong = answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            dated(mackerel(request, accept), if is_wrong { wrong } else { TODAY })
        })
        .await;
        machine.run_until(&server, |seen| posted_times(seen).len() == 200).await;
        machine.assert_ledger(200, 0, 0);
    }
}

#[tokio::test]
async fn what_is_ahead_stays_queued_and_is_a_fault_where_mackerels_answers_have_no_date() {
    let machine = Machine::registered();
    machine.keep(NOW, 1);
    machine.keep(NOW + THREE_DAYS, 1);
    let server = Server::start(|request| mackerel(request, accept)).await;
    let (_reports, _documents, mut inbox) = inbox();
    let lanes = inbox.lanes();
    let noted = async {
        let fault = || lanes.facts(Instant::now()).into_iter().find_map(|facts| facts.fault);
        let fault = loop {
            match fault() {
                Some(fault) => break fault,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        machine.shutdown.send(true).unwrap();
        fault
    };
    let running = machine.run_with(&server, "key");
    let (result, fault) = tokio::join!(running(&mut inbox), noted);
    assert_eq!(result, Ok(()));
    let expected = "cannot deliver some values: they are dated more than a day before Mackerel's time or more than 10 minutes ahead \
                    of it";
    assert_eq!((fault.error.as_str(), fault.at_fault), (expected, AtFault::Content));
    assert!(count(&server.requests(), "GET /api/v0/hosts/HOST1") <= 3, "Mackerel is asked too often");
    machine.assert_ledger(1, 1, 0);
}
