//! The reports of checks that wait to be delivered, a queue for each host, and the reports that were dropped from it.
//!
//! The queues outlive the output, so that another key or server takes them over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wasaba_core::report::Report;

use super::answer::ApiError;
use super::lanes::Lane;

/// Dropped reports are logged this often.
const LOGGED_AGAIN: Duration = Duration::from_hours(1);

/// Mackerel ignores older reports.
pub(super) const OLDEST_HOURS: i64 = 6;

/// A host's queue is limited to this; the oldest reports are dropped first.
const MOST_QUEUED: usize = 10_000;

/// The queued reports, by the custom identifier of their host; `None` is this host.
#[derive(Debug, Default)]
pub(super) struct Queues(BTreeMap<Option<Arc<str>>, Arc<Queue>>);

/// The queued reports of one host.
#[derive(Debug, Default)]
pub(super) struct Queue {
    queued: Mutex<Queued>,
    /// Something urgent was queued.
    pub(super) urgent: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    /// The oldest first.
    reports: VecDeque<Arc<Report>>,
    dropped: Dropped,
}

/// Why reports are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Old,
    Overflowed,
    Refused,
    /// They were refused until a later one of their check was delivered.
    Superseded,
    /// They were found about this machine when it was another host.
    OfAnotherHost,
}

/// How many reports were dropped.
type Counts = BTreeMap<Reason, usize>;

/// The reports that were dropped.
#[derive(Debug, Default)]
struct Dropped {
    all: Counts,
    /// Those that the log has mentioned.
    logged: Counts,
    logged_at: Option<Instant>,
    /// Those that the board of lanes has.
    noted: Counts,
    /// A check whose report was refused, and Mackerel's reason.
    example: Option<(Arc<str>, String)>,
}

impl Reason {
    /// For the board.
    fn word(self) -> &'static str {
        match self {
            Self::Old => "too old",
            Self::Overflowed => "too many were queued",
            Self::Refused => "refused",
            Self::Superseded => "refused until a later one was delivered",
            Self::OfAnotherHost => "of another host",
        }
    }

    /// What becomes of the next results of their checks, for the log.
    fn next(self) -> Option<&'static str> {
        match self {
            Self::Old | Self::Overflowed | Self::OfAnotherHost => Some("each check's next result is reported again"),
            Self::Refused => Some("a refused check's results are tried once an hour, and when its status changes"),
            Self::Superseded => None,
        }
    }

    /// For the log, after how many they are.
    fn text(self, example: Option<(Arc<str>, String)>) -> String {
        match self {
            Self::Old => format!("older than {OLDEST_HOURS} h"),
            Self::Overflowed => format!("since more than {MOST_QUEUED} were queued for one host"),
            Self::Refused => {
                let example = example.map(|(name, why)| format!(", such as that of check {name} ({why})"));
                format!("that Mackerel refuses{}", example.unwrap_or_default())
            }
            Self::Superseded => "that were refused until a later one of the same check was delivered".to_owned(),
            Self::OfAnotherHost => "that belong to the host that this machine was on Mackerel before".to_owned(),
        }
    }
}

impl Dropped {
    fn count(&mut self, reason: Reason, reports: usize) {
        if reports > 0 {
            *self.all.entry(reason).or_default() += reports;
        }
    }

    /// The line for the log, at most once an hour.
    fn line(&mut self, now: Instant) -> Option<String> {
        let is_soon = self.logged_at.is_some_and(|at| now.saturating_duration_since(at) < LOGGED_AGAIN);
        if is_soon || self.all == self.logged {
            return None;
        }
        let (mut reasons, mut next) = (Vec::new(), BTreeSet::new());
        for (reason, count) in since(&self.all, &self.logged) {
            let example = self.example.take_if(|_| reason == Reason::Refused);
            reasons.push(format!("{count} {}", reason.text(example)));
            next.extend(reason.next());
        }
        (self.logged, self.logged_at) = (self.all.clone(), Some(now));
        let next = next.into_iter().map(|next| format!("; {next}")).collect::<String>();
        Some(format!("dropped check reports: {}{next}", reasons.join(", ")))
    }

    /// Notes on the board what it does not have yet.
    fn note(&mut self, lane: &mut Lane) {
        since(&self.all, &self.noted).for_each(|(reason, count)| lane.dropped(reason.word(), count));
        self.noted = self.all.clone();
    }
}

/// How many were dropped since `before`, for each reason of any.
fn since(all: &Counts, before: &Counts) -> impl Iterator<Item = (Reason, usize)> {
    let count = |(reason, count): (&Reason, &usize)| (*reason, count - before.get(reason).unwrap_or(&0));
    all.iter().map(count).filter(|(_, count)| *count > 0)
}

impl Queues {
    /// Queues a report; from a full queue, the oldest is dropped.
    pub(super) fn push(&mut self, report: Report) {
        self.0.entry(report.host.clone()).or_default().push(report);
    }

    pub(super) fn reports(&self) -> Vec<Arc<Report>> {
        self.0.values().flat_map(|queue| queue.lock().reports.iter().map(Arc::clone).collect::<Vec<_>>()).collect()
    }

    /// Queues reports of an earlier run before those of this one.
    pub(super) fn restore(&mut self, reports: Vec<Report>) {
        for report in reports.into_iter().rev() {
            let queue = self.0.entry(report.host.clone()).or_default();
            queue.lock().reports.push_front(Arc::new(report));
        }
    }

    /// Counts `others` that were dropped before they were queued, since this machine is another host now, and if `all`, drops all that are
    /// queued for this host.
    pub(super) fn drop_of_another_host(&mut self, all: bool, others: usize) {
        let mut queued = self.0.entry(None).or_default().lock();
        let dropped = if all { std::mem::take(&mut queued.reports) } else { VecDeque::new() };
        dropped.iter().for_each(|report| report.lost.set());
        queued.dropped.count(Reason::OfAnotherHost, dropped.len() + others);
    }

    /// Each host with its queue.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Option<Arc<str>>, &Arc<Queue>)> {
        self.0.iter()
    }
}

impl Queue {
    pub(super) fn push(&self, report: Report) {
        let is_urgent = report.is_urgent;
        let mut queued = self.lock();
        queued.reports.push_back(Arc::new(report));
        if queued.reports.len() > MOST_QUEUED
            && let Some(oldest) = queued.reports.pop_front()
        {
            oldest.lost.set();
            queued.dropped.count(Reason::Overflowed, 1);
        }
        drop(queued);
        if is_urgent {
            self.urgent.notify_one();
        }
    }

    /// How many are queued.
    pub(super) fn len(&self) -> usize {
        self.lock().reports.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest report of a check.
    pub(super) fn newest(&self, check: &str) -> Option<Arc<Report>> {
        self.lock().reports.iter().rev().find(|report| &*report.name == check).map(Arc::clone)
    }

    /// The reports of each check, in their order; the check of the oldest report first. They stay queued.
    pub(super) fn groups(&self) -> Vec<Vec<Arc<Report>>> {
        let queued = self.lock();
        let (mut places, mut groups) = (BTreeMap::<&str, usize>::new(), Vec::<Vec<_>>::new());
        for report in &queued.reports {
            let place = *places.entry(&report.name).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(Arc::clone(report)),
                None => groups.push(vec![Arc::clone(report)]),
            }
        }
        groups
    }

    /// Removes reports that were delivered.
    pub(super) fn remove(&self, reports: &[Arc<Report>]) {
        let removed = reports.iter().map(Arc::as_ptr).collect::<BTreeSet<_>>();
        self.lock().reports.retain(|queued| !removed.contains(&Arc::as_ptr(queued)));
    }

    /// Drops a report that Mackerel refuses.
    pub(super) fn refuse(&self, report: &Arc<Report>, why: &ApiError) {
        self.remove(std::slice::from_ref(report));
        report.lost.set();
        let dropped = &mut self.lock().dropped;
        dropped.count(Reason::Refused, 1);
        dropped.example.get_or_insert_with(|| (Arc::clone(&report.name), why.to_string()));
    }

    /// Drops reports after which a later one of their check was delivered.
    pub(super) fn supersede(&self, reports: &[Arc<Report>]) {
        self.remove(reports);
        self.lock().dropped.count(Reason::Superseded, reports.len());
    }

    /// Drops reports that are too old by `age`, in seconds.
    pub(super) fn drop_old(&self, age: impl Fn(&Report) -> i64) {
        let is_old = |report: &Arc<Report>| age(report) >= OLDEST_HOURS * 60 * 60;
        let mut queued = self.lock();
        let old = queued.reports.iter().take_while(|report| is_old(report)).count();
        queued.reports.drain(..old).for_each(|report| report.lost.set());
        queued.dropped.count(Reason::Old, old);
    }

    /// Logs what was dropped, at most once an hour, and notes it on the board.
    pub(super) fn account(&self, lane: &mut Lane, now: Instant) {
        let mut queued = self.lock();
        let line = queued.dropped.line(now);
        queued.dropped.note(lane);
        drop(queued);
        if let Some(line) = line {
            tracing::warn!("{line}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        // No report is half queued.
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::report::Status;

    use super::super::simulation::report;
    use super::*;

    #[test]
    fn dropped_reports_are_logged_once_an_hour_by_reason() {
        let (start, queue) = (Instant::now(), Queue::default());
        for _ in 0..MOST_QUEUED + 2 {
            queue.push(report("c", Status::Critical, 0));
        }
        let expected = "dropped check reports: 2 since more than 10000 were queued for one host; each check's next result is \
                        reported again";
        assert_eq!(queue.lock().dropped.line(start).as_deref(), Some(expected));
        queue.drop_old(|_| OLDEST_HOURS * 3_600);
        assert_eq!(queue.lock().dropped.line(start + LOGGED_AGAIN / 2), None);
        let line = queue.lock().dropped.line(start + LOGGED_AGAIN).unwrap();
        assert!(line.starts_with("dropped check reports: 10000 older than 6 h; "), "{line}");
        assert_eq!(queue.lock().dropped.line(start + LOGGED_AGAIN * 3), None, "nothing is new");
    }

    #[test]
    fn nothing_is_logged_of_a_queue_that_nothing_was_dropped_from() {
        let queue = Queue::default();
        queue.push(report("c", Status::Critical, 0));
        queue.drop_old(|_| 0);
        queue.supersede(&[]);
        assert_eq!(queue.lock().dropped.line(Instant::now()), None);
    }

    #[test]
    fn a_refused_report_is_named_with_the_reason() {
        let queue = Queue::default();
        queue.push(report("disk", Status::Critical, 0));
        queue.refuse(&queue.groups()[0][0], &ApiError::NoAnswer("bad name".to_owned()));
        let line = queue.lock().dropped.line(Instant::now()).unwrap();
        let expected = "dropped check reports: 1 that Mackerel refuses, such as that of check disk (bad name); a refused check's \
                        results are tried once an hour, and when its status changes";
        assert_eq!(line, expected);
    }
}
