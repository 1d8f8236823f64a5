//! The lanes: what is delivered apart from each other, each with its own back-off.
//!
//! Whoever makes a request does it in a [`Lane`]: [`Lane::request`] and [`Lane::record`] note how it went, and only [`Lane::wait`] and
//! [`Lane::fault`] say when to try again. So no failure is retried without a pause, is missing in `wasaba status`, or fills the log: a
//! fault is logged once an hour while it lasts, with whose it is, the cure and since when, and once when it is over.
//! The [`board`](super::board) shows how each is doing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasaba_core::text::{lasting, printable};

use super::Pace;
use super::answer::{ApiError, AtFault};
use super::backoff::{Backoff, retrying};
use super::board::{Doing, HOUR, Key, Kind, Lanes, OpenFault, State};

/// More failures within an hour are not counted: a lane that only fails makes far fewer requests.
const MOST_COUNTED: usize = 1_000;

impl Lanes {
    /// A lane with a back-off of its own that starts without a fault: another key or server may not have the earlier one.
    pub(super) fn lane(&self, kind: Kind, host: Option<&Arc<str>>, pace: Pace) -> Lane {
        let key = (kind, host.cloned());
        let mut lanes = self.lock();
        let state = lanes.entry(key.clone()).or_default();
        (state.fault, state.doing, state.held_until) = (None, Doing::Idle, None);
        drop(lanes);
        Lane { board: self.clone(), key, pace, backoff: Backoff::default(), logged: Vec::new() }
    }
}

/// One lane: what it has learned of its requests.
#[derive(Debug)]
pub(super) struct Lane {
    board: Lanes,
    key: Key,
    pace: Pace,
    backoff: Backoff,
    /// The faults that the log has had, by their kind and whose they are.
    logged: Vec<(FaultKind, Instant)>,
}

/// Faults of one kind are one fault for the log: the error, whose it is, and what fails if it is only a part.
type FaultKind = (std::mem::Discriminant<ApiError>, AtFault, Option<String>);

/// As many faults of parts are logged in an hour.
const MOST_OF_PARTS: usize = 4;

/// What a message about a fault says besides the error.
pub(super) struct Words<'a> {
    /// What failed, after "cannot".
    pub(super) task: &'a str,
    /// What becomes of what was not delivered.
    pub(super) waits: &'a str,
    /// Whose fault it is and the cure, where this lane knows better than the error.
    pub(super) cure: Option<(AtFault, String)>,
    /// Whether all other things are delivered.
    pub(super) is_of_a_part: bool,
    /// Whether the log has a line of its own about it, so that only the board shows it.
    pub(super) is_said: bool,
}

/// The cure where a host does not exist that a plugin or check reports about.
pub(super) fn cure_of_missing_host() -> (AtFault, String) {
    let cure = "register that host, or correct `custom_identifier` in the table of the plugin or check";
    (AtFault::Configuration, cure.to_owned())
}

impl<'a> Words<'a> {
    /// Nothing is delivered, and the cure is the error's.
    pub(super) fn new(task: &'a str, waits: &'a str) -> Self {
        Self { task, waits, cure: None, is_of_a_part: false, is_said: false }
    }
}

impl Lane {
    /// Makes a request that delivers so many things, and notes how it went. One that only asks for something delivers none.
    ///
    /// # Errors
    /// The request's; a [`Lane::wait`] follows, or another try with something else.
    pub(super) async fn request<T>(
        &mut self,
        things: usize,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let now = self.now();
        self.note(|state| state.doing = Doing::Working(now));
        let result = request.await;
        self.record(things, &result);
        result
    }

    /// Notes how a request went that was made elsewhere.
    pub(super) fn record<T>(&mut self, things: usize, result: &Result<T, ApiError>) {
        let now = self.now();
        if result.is_ok() {
            self.backoff.reset();
            self.note(|state| {
                if things > 0 {
                    state.success = Some(now);
                }
                state.delivered += things as u64;
                if let Some(fault) = &mut state.fault {
                    fault.delivered += things as u64;
                }
            });
        } else {
            self.backoff.count(now);
            self.note(|state| {
                state.failures += 1;
                state.recent.retain(|at| now.saturating_duration_since(*at) < HOUR);
                state.recent.push_back(now);
                if state.recent.len() > MOST_COUNTED {
                    state.recent.pop_front();
                }
            });
        }
    }

    /// How long the server still wants no request of this lane. What it wants of this host is a limit for the others too: it comes
    /// first, and they do not hold it up.
    pub(super) fn held_back(&self) -> Option<Duration> {
        let now = self.now();
        let board = self.board.lock();
        let until = [&self.key, &(self.key.0, None)].into_iter().filter_map(|key| board.get(key)?.held_until).max()?;
        (now < until).then(|| until - now)
    }

    /// Whether no further request may be made now, since too many only failed.
    pub(super) fn is_exhausted(&self) -> bool {
        self.backoff.is_exhausted(self.now())
    }

    /// How long to wait after a request that failed with `error` and was noted, which also is the lane's fault from now on.
    pub(super) fn wait(&mut self, error: &ApiError, words: &Words<'_>) -> Duration {
        self.wait_at_least(Duration::ZERO, error, words)
    }

    /// As [`Lane::wait`], but not shorter than `least`.
    pub(super) fn wait_at_least(&mut self, least: Duration, error: &ApiError, words: &Words<'_>) -> Duration {
        let now = self.now();
        let wait = self.backoff.wait(error, now, (self.pace.random)()).max(least);
        if let Some(asked) = Backoff::asked(error) {
            self.note(|state| state.held_until = Some(now + asked));
        }
        self.fault(wait, error, words);
        wait
    }

    /// As [`Lane::fault`], where other things are accepted, so that it has a pause, but no failures behind it.
    pub(super) fn part_fault(&mut self, pause: Duration, error: &ApiError, words: &Words<'_>) {
        self.backoff.reset();
        self.fault(pause, error, words);
    }

    /// Notes a fault that is tried again after `wait`, and logs it if the log has not had one of its kind for an hour.
    pub(super) fn fault(&mut self, wait: Duration, error: &ApiError, words: &Words<'_>) {
        let now = self.now();
        let (at_fault, cure) = words.cure.clone().unwrap_or_else(|| (error.at_fault(), error.cure()));
        let part = words.is_of_a_part.then(|| words.task.to_owned());
        let kind = (std::mem::discriminant(error), at_fault, part);
        self.logged.retain(|(_, at)| now.saturating_duration_since(*at) < HOUR);
        let of_parts = self.logged.iter().filter(|((.., part), _)| part.is_some()).count();
        let is_known =
            self.logged.iter().any(|(known, _)| *known == kind) || words.is_of_a_part && of_parts >= MOST_OF_PARTS;
        if !is_known && !words.is_said {
            self.logged.push((kind, now));
        }
        let is_news = !is_known && !words.is_said && !self.is_also_this_hosts(error);
        let what = error.what();
        let shown = if words.is_of_a_part { format!("cannot {}: {what}", words.task) } else { what.clone() };
        let mut lasts = Duration::ZERO;
        self.note(|state| {
            let earlier = state.fault.take();
            let since = earlier.as_ref().map_or(now, |fault| fault.since);
            lasts = now.saturating_duration_since(since);
            state.doing = Doing::Waiting(now + wait);
            state.fault = Some(OpenFault {
                since,
                error: printable(&shown, 1_024),
                at_fault,
                cure: cure.clone(),
                next_try: now + wait,
                delivered: earlier.as_ref().map_or(0, |fault| fault.delivered),
                is_logged: is_news || earlier.is_some_and(|fault| fault.is_logged),
            });
        });
        let Words { task, waits, .. } = words;
        let since = if lasts < HOUR { String::new() } else { format!(" for {}", lasting(lasts)) };
        let line = format!(
            "cannot {task}{since}: {what}; the fault is {}: {cure}; {waits}, {}",
            at_fault.place(),
            retrying(wait)
        );
        match (is_news, at_fault) {
            (false, _) => tracing::debug!("{line}"),
            // It does not end by itself.
            (true, AtFault::Configuration | AtFault::Content) => tracing::error!("{line}"),
            (true, AtFault::Mackerel | AtFault::Network) => tracing::warn!("{line}"),
        }
    }

    /// Whether the same fault of this host's lane, which is in the log, is likely to be that of each other host's.
    fn is_also_this_hosts(&self, error: &ApiError) -> bool {
        let board = self.board.lock();
        let own = self.key.1.as_ref().and_then(|_| board.get(&(self.key.0, None))?.fault.as_ref());
        own.is_some_and(|own| own.is_logged && own.error == printable(&error.what(), 1_024))
    }

    /// Notes that everything is delivered. Ends the fault, if there is one, and says how long it lasted.
    pub(super) fn is_well(&mut self) {
        let now = self.now();
        self.backoff.reset();
        let mut ended = None;
        self.note(|state| {
            state.doing = Doing::Idle;
            ended = state.fault.take();
        });
        if let Some(OpenFault { since, delivered, is_logged: true, .. }) = ended {
            let host = self.key.1.as_ref().map(|host| format!(" {}", printable(host, 200))).unwrap_or_default();
            let lasted = lasting(now.saturating_duration_since(since));
            let name = self.key.0.name();
            let since =
                if delivered == 0 { String::new() } else { format!("; {delivered} delivered since the fault began") };
            tracing::info!("{name}{host}: recovered after {lasted}{since}");
        }
    }

    /// Notes that it pauses of its own accord.
    pub(super) fn pauses(&mut self, pause: Duration) {
        let until = self.now() + pause;
        self.note(|state| state.doing = Doing::Waiting(until));
    }

    /// Notes that things were dropped.
    pub(super) fn dropped(&mut self, reason: &'static str, things: usize) {
        if things > 0 {
            self.note(|state| *state.dropped.entry(reason).or_default() += things as u64);
        }
    }

    #[cfg(test)]
    pub(super) fn board(&self) -> &Lanes {
        &self.board
    }

    fn now(&self) -> Instant {
        (self.pace.instant)()
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.board.lock().get_mut(&self.key) {
            change(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};
    use crate::mackerel::board::LaneFacts;
    use crate::mackerel::testing::PACE;

    thread_local! {
        static NOW: Cell<Instant> = Cell::new((PACE.instant)());
    }

    /// A clock that stands still until [`pass`].
    const STILL: Pace = Pace { instant: || NOW.get(), random: || 1.0, ..PACE };

    fn pass(seconds: u64) {
        NOW.set(NOW.get() + Duration::from_secs(seconds));
    }

    fn unreachable() -> ApiError {
        ApiError::NoAnswer("cannot reach Mackerel: refused".to_owned())
    }

    fn answered(status: u16) -> ApiError {
        let message = "no".to_owned();
        ApiError::of(ErrorResponse { status, by: Author::Mackerel, message, retry_after: None })
    }

    fn failed(lane: &mut Lane, error: &ApiError) -> Duration {
        lane.record::<()>(0, &Err(error.clone()));
        lane.wait(error, &Words::new("deliver values", "they stay queued"))
    }

    fn facts(lanes: &Lanes, kind: Kind) -> LaneFacts {
        lanes.facts(NOW.get()).into_iter().find(|facts| facts.kind == kind).unwrap()
    }

    /// Whether the log has had a line since [`captured`] was called last, and which.
    fn captured() -> Vec<String> {
        crate::mackerel::testing::log::take()
    }

    #[test]
    fn every_agent_has_its_six_lanes_before_anything_was_delivered() {
        let lanes = Lanes::default();
        let names = lanes.facts(NOW.get()).iter().map(|facts| facts.kind.name()).collect::<Vec<_>>();
        assert_eq!(
            names,
            ["values", "check reports", "graph definitions", "metadata", "host description", "host status"]
        );
        assert!(lanes.facts(NOW.get()).iter().all(|facts| facts.succeeded_ago.is_none() && facts.fault.is_none()));
    }

    #[test]
    fn a_fault_has_its_beginning_its_owner_its_cure_and_its_next_try_until_everything_is_delivered() {
        let lanes = Lanes::default();
        let mut lane = lanes.lane(Kind::Values, None, STILL);
        lane.record(5, &Ok(()));
        pass(60);
        assert_eq!(failed(&mut lane, &unreachable()), Duration::from_secs(2));
        pass(2);
        failed(&mut lane, &answered(503));
        pass(1);
        let now = facts(&lanes, Kind::Values);
        let fault = now.fault.unwrap();
        assert_eq!((now.succeeded_ago, now.delivered, now.failures), (Some(Duration::from_secs(63)), 5, 2));
        assert_eq!((fault.lasts, fault.next_try_in), (Duration::from_secs(3), Duration::from_secs(3)));
        assert_eq!((fault.error.as_str(), fault.at_fault), ("Mackerel answered 503: no", AtFault::Mackerel));
        lane.record(3, &Ok(()));
        assert!(facts(&lanes, Kind::Values).fault.is_some(), "the rest may still fail");
        lane.is_well();
        let now = facts(&lanes, Kind::Values);
        assert_eq!((now.fault, now.succeeded_ago, now.delivered), (None, Some(Duration::ZERO), 8));
    }

    #[test]
    fn a_limit_for_this_host_is_one_for_the_others_too_and_not_the_other_way_round_nor_for_other_endpoints() {
        let lanes = Lanes::default();
        let mut own = lanes.lane(Kind::Values, None, STILL);
        let mut other = lanes.lane(Kind::Values, Some(&"db".into()), STILL);
        let reports = lanes.lane(Kind::CheckReports, None, STILL);
        let (status, by) = (429, Author::Mackerel);
        let limited =
            ErrorResponse { status, by, message: "no".to_owned(), retry_after: Some(Duration::from_secs(90)) };
        let words = Words::new("deliver values", "they stay queued");
        other.wait(&ApiError::of(limited.clone()), &words);
        assert_eq!((own.held_back(), other.held_back()), (None, Some(Duration::from_secs(90))));
        pass(90);
        assert_eq!(other.held_back(), None);
        own.wait_at_least(Duration::from_secs(3_600), &ApiError::of(limited), &words);
        assert_eq!(other.held_back(), Some(Duration::from_secs(90)), "the rest is this lane's own choice");
        assert_eq!(reports.held_back(), None);
        pass(90);
        assert_eq!(other.held_back(), None);
    }

    #[test]
    fn failures_are_counted_for_an_hour_and_in_all() {
        let lanes = Lanes::default();
        let mut lane = lanes.lane(Kind::Metadata, None, STILL);
        for _ in 0..3 {
            failed(&mut lane, &unreachable());
            pass(1_500);
        }
        let now = facts(&lanes, Kind::Metadata);
        assert_eq!((now.failures, now.failures_in_hour), (3, 2));
    }

    #[test]
    fn a_fault_is_logged_once_an_hour_however_often_it_changes_its_kind_and_once_when_it_is_over() {
        let _log = crate::mackerel::testing::log::start();
        let lanes = Lanes::default();
        let mut lane = lanes.lane(Kind::Values, None, STILL);
        for _ in 0..30 {
            failed(&mut lane, &unreachable());
            failed(&mut lane, &answered(503));
            pass(100);
        }
        let lines = captured();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let expected = "cannot deliver values: cannot reach Mackerel: refused; the fault is between this machine and Mackerel: \
                        check the network, the name server, the proxy and `apibase`; they stay queued, retrying in 2 s";
        assert_eq!(lines[0], expected);
        pass(3_600);
        failed(&mut lane, &unreachable());
        assert!(captured()[0].starts_with("cannot deliver values for 1 h 50 min: cannot reach Mackerel"));
        lane.record(7, &Ok(()));
        lane.is_well();
        assert_eq!(captured(), ["values: recovered after 1 h 50 min; 7 delivered since the fault began"]);
        // It comes and goes.
        failed(&mut lane, &unreachable());
        lane.is_well();
        assert_eq!(captured(), [] as [&str; 0]);
        pass(3_600);
        failed(&mut lane, &unreachable());
        pass(60);
        lane.is_well();
        assert_eq!(captured()[1], "values: recovered after 1 min");
    }

    #[test]
    fn what_this_host_and_many_others_cannot_reach_is_one_fault_for_the_log() {
        let _log = crate::mackerel::testing::log::start();
        let lanes = Lanes::default();
        let mut own = lanes.lane(Kind::Values, None, STILL);
        let mut others = ["a", "b", "c"]
            .map(|host| lanes.lane(Kind::Values, Some(&host.into()), STILL))
            .into_iter()
            .collect::<Vec<_>>();
        failed(&mut own, &unreachable());
        for other in &mut others {
            failed(other, &unreachable());
        }
        assert_eq!(captured().len(), 1);
        failed(&mut others[0], &answered(503));
        assert_eq!(captured().len(), 1, "that is another fault");
        own.is_well();
        others.iter_mut().for_each(Lane::is_well);
        let lines = captured();
        assert_eq!(lines, ["values: recovered after 0 s", "values a: recovered after 0 s"]);
        failed(&mut others[1], &unreachable());
        assert_eq!(captured().len(), 0, "once an hour");
    }

    #[test]
    fn that_only_some_things_fail_is_another_fault_for_the_log() {
        let _log = crate::mackerel::testing::log::start();
        let lanes = Lanes::default();
        let mut lane = lanes.lane(Kind::Values, None, STILL);
        failed(&mut lane, &unreachable());
        let words = || Words { is_of_a_part: true, ..Words::new("deliver values of `a`", "they stay queued") };
        (0..3).for_each(|_| lane.fault(Duration::from_secs(120), &unreachable(), &words()));
        let lines = captured();
        assert!(lines.len() == 2 && lines[1].starts_with("cannot deliver values of `a`: "), "{lines:#?}");
        let fault = facts(&lanes, Kind::Values).fault.unwrap();
        assert_eq!(fault.error, "cannot deliver values of `a`: cannot reach Mackerel: refused");
        for name in ["b", "c", "d", "e", "f"] {
            let task = format!("deliver values of `a`, `{name}`");
            lane.fault(Duration::from_secs(120), &unreachable(), &Words { task: &task, ..words() });
        }
        assert_eq!(captured().len(), MOST_OF_PARTS - 1, "however often they change");
    }

    #[test]
    fn each_error_says_whose_fault_it_is_and_what_to_do() {
        let of = |status: u16, by: Author| {
            ApiError::of(ErrorResponse { status, by, message: "no".to_owned(), retry_after: None })
        };
        let gateway = || Author::Unknown("mackerel:443".to_owned());
        for (error, at_fault, cure) in [
            (of(401, Author::Mackerel), AtFault::Configuration, "`apikey`"),
            (of(404, Author::Mackerel), AtFault::Configuration, "`id`"),
            (of(429, Author::Mackerel), AtFault::Mackerel, "tried again"),
            (of(400, Author::Mackerel), AtFault::Content, "clock"),
            (of(403, gateway()), AtFault::Network, "`apikey` and `apibase`"),
            (of(404, gateway()), AtFault::Network, "gateway"),
            (of(407, gateway()), AtFault::Network, "`https_proxy`"),
            (of(503, gateway()), AtFault::Network, "gateway"),
            (unreachable(), AtFault::Network, "name server"),
        ] {
            assert_eq!(error.at_fault(), at_fault, "{error}");
            assert!(error.cure().contains(cure), "{error}: {}", error.cure());
        }
    }

    #[test]
    fn the_delivery_is_alive_while_it_waits_for_its_next_try_and_not_when_it_hangs_or_misses_that() {
        let (lanes, patience) = (Lanes::default(), Duration::from_secs(150));
        let mut lane = lanes.lane(Kind::Values, None, STILL);
        let is_alive = || lanes.is_delivery_alive(NOW.get(), patience);
        pass(100_000);
        assert!(is_alive(), "nothing is queued");
        lane.pauses(Duration::from_secs(3_600));
        pass(3_750);
        assert!(is_alive());
        pass(1);
        assert!(!is_alive(), "it has missed its next try");
        let mut request = std::pin::pin!(lane.request(1, std::future::pending::<Result<(), ApiError>>()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(request.as_mut().poll(&mut context).is_pending());
        pass(150);
        assert!(is_alive());
        pass(1);
        assert!(!is_alive(), "a request hangs");
    }
}
