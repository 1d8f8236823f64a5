//! Hours in which this machine's clock or that of a server of Mackerel's is wrong.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::time::Instant;
use wasaba_core::report::{Report, Status};

use super::board::{Kind, LaneFacts};
use super::simulation::{Closes, Endpoint, Lines, Mackerel, Output, WELL, report, running, set_clock, simulated, time};
use super::weather::Running;

/// An agent of a host that is registered.
struct Agent {
    mackerel: Arc<Mackerel>,
    running: Running,
    /// How many values were collected.
    collected: u64,
    _folder: TempDir,
}

impl Agent {
    /// An agent that starts now, on a machine whose clock is so many seconds ahead.
    async fn start(date_ahead: Option<i64>, clock_ahead: i64) -> Self {
        set_clock(clock_ahead);
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("id"), "HOST1").unwrap();
        let mackerel = Arc::new(Mackerel::default());
        mackerel.seen().date_ahead = date_ahead;
        mackerel.seen().refuses_early = true;
        let address = Arc::clone(&mackerel).listen().await;
        let running = Running::of(folder.path(), address, time() + clock_ahead);
        Self { mackerel, running, collected: 0, _folder: folder }
    }

    /// So many minutes, with values that are dated so many seconds ahead of the right time.
    async fn collect(&mut self, minutes: u32, clock_ahead: i64) {
        set_clock(clock_ahead);
        for _ in 0..minutes {
            self.running.output.keep_at(time() + clock_ahead);
            self.collected += Output::VALUES as u64 + 1;
            self.running.minute().await.unwrap();
        }
    }

    async fn wait(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.running.minute().await.unwrap();
        }
    }

    /// How this host's values are delivered.
    fn values(&self) -> LaneFacts {
        let facts = self.running.output.lanes.facts(Instant::now().into_std());
        facts.into_iter().find(|facts| facts.kind == Kind::Values && facts.host.is_none()).unwrap()
    }

    /// What was delivered, and what was dropped.
    fn books(&self) -> (u64, u64) {
        let ledger = self.running.output.spool.ledger();
        (ledger.delivered, ledger.losses().iter().map(|(_, points)| points).sum())
    }
}

#[test]
fn a_clock_that_is_minutes_ahead_delays_each_minute_until_its_time_has_come_and_costs_no_value_or_request() {
    for (ahead, right_minutes) in [(90, 0), (300, 0), (90, 15), (300, 15)] {
        simulated(async {
            let mut agent = Agent::start(Some(0), if right_minutes > 0 { 0 } else { ahead }).await;
            agent.collect(right_minutes, 0).await;
            agent.collect(20, ahead).await;
            assert!(agent.books().0 + 7 * (Output::VALUES as u64 + 1) >= agent.collected);
            agent.wait(u32::try_from(ahead).unwrap() / 60 + 2).await;
            let case = format!("{ahead} s after {right_minutes} minutes");
            assert_eq!(agent.books(), (agent.collected, 0), "{case}");
            assert_eq!(agent.mackerel.seen().early, 0, "{case}");
        });
    }
}

#[test]
fn where_mackerels_answers_have_no_date_a_clock_that_is_minutes_ahead_costs_no_value_and_no_hour() {
    for (ahead, right_minutes) in [(90, 0), (300, 0), (90, 15)] {
        simulated(async {
            let mut agent = Agent::start(None, if right_minutes > 0 { 0 } else { ahead }).await;
            agent.collect(right_minutes, 0).await;
            agent.collect(60, ahead).await;
            let (delivered, dropped) = agent.books();
            let case = format!("{delivered} of {} after {ahead} s and {right_minutes} minutes", agent.collected);
            assert!(dropped == 0 && delivered >= agent.collected / 2, "{case}");
        });
    }
}

#[test]
fn a_server_whose_clock_is_wrong_after_an_outage_costs_nothing_if_this_machines_clock_was_right_all_the_time() {
    const TWO_DAYS: i64 = 2 * 86_400;
    for wrong in [TWO_DAYS, -TWO_DAYS] {
        simulated(async {
            let mut agent = Agent::start(Some(0), 0).await;
            agent.collect(5, 0).await;
            agent.mackerel.seen().misbehaving = Endpoint::USED.map(|endpoint| (endpoint, Closes)).into();
            agent.collect(75, 0).await;
            agent.mackerel.seen().misbehaving.clear();
            agent.mackerel.seen().date_ahead = Some(wrong);
            agent.collect(30, 0).await;
            assert_eq!(agent.books().1, 0, "{wrong}");
            agent.mackerel.seen().date_ahead = Some(0);
            // A lane that made all its requests of an hour waits for the next.
            agent.wait(WELL).await;
            assert_eq!(agent.books(), (agent.collected, 0), "{wrong}");
        });
    }
}

#[test]
fn a_report_says_when_it_was_taken_by_mackerels_clock_however_wrong_this_machines_is_and_however_long_it_waits() {
    for ahead in [0, -7 * 3_600, 2 * 86_400, -300] {
        for waits in [0, 20] {
            simulated(async {
                let mut agent = Agent::start(Some(0), ahead).await;
                agent.wait(2).await;
                if waits > 0 {
                    agent.mackerel.seen().misbehaving = [(Endpoint::Reports, Closes)].into();
                }
                let (taken, occurred_at) = (Some(running()), time() + ahead);
                let expected = time();
                let ok = Report { taken, ..report("db", Status::Ok, occurred_at) };
                agent.running.output.reports.try_send(ok).unwrap();
                agent.wait(waits).await;
                agent.mackerel.seen().misbehaving.clear();
                agent.wait(6).await;
                let occurred = agent.mackerel.seen().occurred.clone();
                let is_right = matches!(occurred.as_slice(), [time] if (time - expected).abs() <= 5);
                assert!(is_right, "{ahead} {waits}: {occurred:?} instead of {expected}");
            });
        }
    }
}

#[test]
fn a_wrong_clock_is_a_fault_with_the_cure_for_as_long_as_it_costs_values_and_no_delivery() {
    for (ahead, words) in [(3 * 86_400, "3 d ahead of Mackerel's"), (-2 * 86_400, "2 d behind Mackerel's")] {
        let lines = Lines::default();
        let _guard = super::testing::log::to(lines.clone());
        simulated(async {
            let mut agent = Agent::start(Some(0), ahead).await;
            agent.collect(2, ahead).await;
            for minute in 2..85 {
                let facts = agent.values();
                let fault = facts.fault.unwrap_or_else(|| panic!("{ahead}: no fault in minute {minute}"));
                let expected = format!("they are dated by this machine's clock, which is {words}");
                assert!(
                    fault.error.ends_with(&expected) && fault.cure.contains("set this machine's clock"),
                    "{fault:?}"
                );
                assert_eq!(facts.succeeded_ago, None, "{ahead}: nothing was delivered");
                agent.collect(1, ahead).await;
            }
            let (delivered, dropped) = agent.books();
            assert!(delivered == 0 && dropped > agent.collected / 2, "{delivered} {dropped}");
            let said =
                lines.take().into_iter().filter(|line| line.contains("cannot deliver values")).collect::<Vec<_>>();
            assert_eq!(said.len(), 2, "{ahead}: once an hour: {said:#?}");
            agent.collect(6, 0).await;
            assert_eq!(agent.values().fault, None);
        });
    }
}

#[test]
fn a_clock_that_is_hours_behind_costs_no_value_but_is_a_fault_with_the_cure_until_it_is_set() {
    for (ahead, words) in [(-3 * 3_600, "3 h behind Mackerel's"), (-20 * 60, "20 min behind Mackerel's")] {
        let lines = Lines::default();
        let _guard = super::testing::log::to(lines.clone());
        simulated(async {
            let mut agent = Agent::start(Some(0), ahead).await;
            agent.collect(70, ahead).await;
            let fault = agent.values().fault.unwrap_or_else(|| panic!("{ahead}: no fault"));
            let expected = format!(
                "cannot deliver values with their right time: they are dated by this machine's clock, which is {words}"
            );
            assert_eq!(fault.error, expected);
            assert!(fault.cure.contains("set this machine's clock"), "{fault:?}");
            let said = lines.take();
            let faults = said.iter().filter(|line| line.contains("cannot deliver")).count();
            assert!(matches!(faults, 1 | 2), "once an hour: {said:#?}");
            agent.collect(5, 0).await;
            assert_eq!((agent.values().fault, agent.books()), (None, (agent.collected, 0)));
        });
    }
}

#[test]
fn a_single_server_of_mackerels_whose_clock_is_wrong_makes_no_fault_of_this_machines() {
    simulated(async {
        let mut agent = Agent::start(Some(0), 0).await;
        agent.collect(15, 0).await;
        agent.mackerel.seen().date_ahead = Some(3 * 3_600);
        agent.collect(2, 0).await;
        assert_eq!(agent.values().fault, None);
    });
}
