//! The minutes of which nothing was accepted.
//!
//! Pure: time is a parameter, and it sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::answer::ApiError;

/// How long a minute waits that Mackerel may not have refused itself.
const PARKED: Duration = Duration::from_hours(1);

/// How long one waits whose time may not have come by Mackerel's clock.
const PARKED_EARLY: Duration = Duration::from_mins(1);

/// They are tried again after another minute was accepted: only then their times are at fault.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    times: BTreeSet<i64>,
    /// Whether another minute was accepted since.
    others_are_accepted: bool,
    /// Whether the oldest was tried again when there was none that is older still.
    was_oldest_tried: bool,
    /// Those that are left alone until then, and why.
    parked: BTreeMap<i64, (Instant, ApiError)>,
}

impl Suspects {
    pub(super) fn others_are_accepted(&self) -> bool {
        self.others_are_accepted
    }

    pub(super) fn add(&mut self, time: Option<i64>) {
        self.times.extend(time);
    }

    /// Records that something was accepted.
    pub(super) fn accept(&mut self) {
        self.others_are_accepted = !self.times.is_empty();
    }

    /// The next minute to try again after another was accepted; without one, the comparison is over.
    pub(super) fn next(&mut self) -> Option<i64> {
        let next = self.others_are_accepted.then(|| self.times.pop_last()).flatten();
        self.others_are_accepted &= next.is_some();
        next
    }

    /// Leaves a minute alone for a while.
    pub(super) fn park(&mut self, time: i64, why: &ApiError, now: Instant) {
        self.parked.insert(time, (now + PARKED, why.clone()));
    }

    /// Leaves a minute alone whose time may not have come by Mackerel's clock.
    pub(super) fn park_early(&mut self, time: i64, why: &ApiError, now: Instant) {
        self.parked.insert(time, (now + PARKED_EARLY, why.clone()));
    }

    /// When the first of the minutes ends to be left alone, and why it is.
    pub(super) fn parked(&self) -> Option<&(Instant, ApiError)> {
        self.parked.values().min_by_key(|(until, _)| *until)
    }

    /// Whether there are minutes to compare others with.
    pub(super) fn are_open(&self) -> bool {
        !self.times.is_empty() && !self.others_are_accepted
    }

    /// Takes the oldest out of them, every other time: its time may have come by Mackerel's clock since.
    pub(super) fn take_oldest(&mut self) -> Option<i64> {
        self.was_oldest_tried = !self.was_oldest_tried;
        self.was_oldest_tried.then(|| self.times.pop_first()).flatten()
    }

    /// Compares with no minute any more.
    pub(super) fn clear(&mut self) {
        self.times.clear();
    }

    /// The latest time of the minute to try next, if there is such an old one: if many minutes are refused, the clock was wrong
    /// for a while, so the steps back become longer. They go back from the newest, since time makes good what is dated ahead.
    pub(super) fn before(&self) -> i64 {
        match self.times.last() {
            Some(newest) if !self.others_are_accepted => newest - (60 << (self.times.len() - 1).min(11)),
            _ => i64::MAX,
        }
    }

    /// The times that are not sent now.
    pub(super) fn held(&mut self, now: Instant) -> BTreeSet<i64> {
        self.parked.retain(|_, (until, _)| now < *until);
        self.times.iter().chain(self.parked.keys()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_minute_is_left_alone_for_an_hour_and_compared_with_no_other() {
        let (now, mut suspects) = (Instant::now(), Suspects::default());
        let why = ApiError::NoAnswer("no".to_owned());
        suspects.park(60, &why, now);
        assert_eq!(suspects.before(), i64::MAX);
        assert_eq!(suspects.held(now), BTreeSet::from([60]));
        assert_eq!(suspects.parked(), Some(&(now + PARKED, why)));
        assert_eq!(suspects.held(now + PARKED), BTreeSet::new());
    }

    #[test]
    fn suspects_are_tried_again_the_newest_first_only_after_another_was_accepted() {
        let mut suspects = Suspects::default();
        suspects.accept();
        suspects.add(Some(600));
        suspects.add(Some(540));
        assert_eq!((suspects.next(), suspects.before()), (None, 600 - 120));
        suspects.accept();
        assert_eq!((suspects.next(), suspects.next(), suspects.next()), (Some(600), Some(540), None));
        assert!(!suspects.others_are_accepted());
    }

    #[test]
    fn where_no_minute_is_older_than_the_suspects_the_oldest_and_the_others_take_turns() {
        let mut suspects = Suspects::default();
        [60, 120, 180].into_iter().for_each(|time| suspects.add(Some(time)));
        let mut turn = || suspects.take_oldest();
        assert_eq!([turn(), turn(), turn(), turn()], [Some(60), None, Some(120), None]);
    }
}
