//! Mackerel's time, by the `Date` of its answers.
//!
//! One answer proves little: behind a load balancer may be a server whose clock is wrong. So a single `Date` holds values back, and only
//! several that agree, and that no other contradicts, drop some. Between two answers the time is measured by this machine's running time,
//! which no one sets.
//!
//! This machine's clock is a witness, too: once several answers agreed with it, and as long as no one sets it, answers that contradict it
//! drop nothing until no other came for hours.
//!
//! Pure: time is a parameter.

use std::time::Duration;

use super::report_queue::OLDEST_HOURS;
use crate::spool::{AHEAD_SECONDS, is_in_time};

/// Answers whose clocks differ by no more than this agree: an answer may be long on its way.
const AGREEMENT_SECONDS: i64 = 180;

/// So long a clock that answered contradicts others.
const REMEMBERED: Duration = Duration::from_hours(1);

/// So long after an answer its time may be relied on: a machine that is halted from outside does not count that time.
const RECENT: Duration = Duration::from_mins(5);

/// What is dated no further ahead of Mackerel's time is posted: that is known to about a second.
const EARLY_SECONDS: i64 = 1;

/// The time of a report is corrected if it is wrong by more than this.
const DIFFERENT_SECONDS: i64 = 60;

/// While values are held back, Mackerel is asked if it has not answered for so long.
const ASKED_EVERY: Duration = Duration::from_mins(1);

/// So many answers must agree before anything is dropped, if this machine's clock agrees with them, too.
const ENOUGH: u32 = 3;

/// And so many if it does not: half of the answers may be wrong, and the first few may happen to be those.
const ENOUGH_AGAINST_OURS: u32 = 12;

/// So long only answers that agree with each other must have come before they drop anything against this machine's clock, if earlier ones
/// agreed with that.
const OVERRULES: Duration = Duration::from_hours(6);

/// So many clocks that contradict each other are remembered.
const MOST_CLOCKS: usize = 8;

/// What Mackerel's answers have said of its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Dates {
    /// How many there were, with and without a `Date`, and when the last came.
    answers: u32,
    last: Option<Duration>,
    /// The clocks of the last hour, or the last one before that; the one that answered last is at the end.
    clocks: Vec<Clock>,
    /// Since when only the clock that answered last has answered, without a pause of an hour.
    alone_since: Option<Duration>,
    /// What this machine's clock would have shown when the machine began to run, as it was when it agreed with answers last.
    confirmed: Option<i64>,
}

/// A clock by which answers were dated.
#[derive(Clone, Debug)]
struct Clock {
    /// What it showed when this machine began to run, in seconds since 1970.
    at_boot: i64,
    answers: u32,
    /// When it answered last, by this machine's running time.
    last: Duration,
}

impl Clock {
    fn shows(&self, running: Duration) -> i64 {
        self.at_boot.saturating_add(seconds(running))
    }

    fn is_recent(&self, running: Duration) -> bool {
        running.saturating_sub(self.last) <= RECENT
    }
}

fn seconds(running: Duration) -> i64 {
    i64::try_from(running.as_secs()).unwrap_or(i64::MAX)
}

impl Dates {
    /// Records an answer of Mackerel's own, and its `Date` if it has one. `ours` is this machine's clock.
    pub(super) fn record(&mut self, date: Option<i64>, running: Duration, ours: i64) {
        self.answers = self.answers.saturating_add(1);
        self.last = Some(running);
        let Some(date) = date else { return };
        let at_boot = date.saturating_sub(seconds(running));
        let agrees = |clock: &Clock| clock.at_boot.saturating_sub(at_boot).saturating_abs() <= AGREEMENT_SECONDS;
        let known = self.clocks.iter().position(agrees).map(|place| self.clocks.remove(place));
        self.clocks.retain(|clock| running.saturating_sub(clock.last) < REMEMBERED);
        if self.clocks.len() == MOST_CLOCKS {
            self.clocks.remove(0);
        }
        let is_going_on = known.as_ref().is_some_and(|clock| running.saturating_sub(clock.last) < REMEMBERED);
        self.alone_since = match (self.alone_since, self.clocks.is_empty()) {
            (_, false) => None,
            (Some(since), true) if is_going_on => Some(since),
            (_, true) => Some(running),
        };
        let answers = known.map_or(0, |clock| clock.answers).saturating_add(1);
        if answers >= ENOUGH && is_ours(date, ours) {
            self.confirmed = Some(ours.saturating_sub(seconds(running)));
        }
        self.clocks.push(Clock { at_boot, answers, last: running });
    }

    /// Whether there was any answer.
    pub(super) fn are_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Whether Mackerel must be asked before what is held back can be posted or dropped.
    pub(super) fn are_lacking(&self, running: Duration) -> bool {
        self.answers < ENOUGH || self.last.is_none_or(|last| running.saturating_sub(last) >= ASKED_EVERY)
    }

    /// Whether Mackerel must be asked before it is known whether the time has come of what is held back until then.
    pub(super) fn are_old(&self, running: Duration) -> bool {
        self.last.is_none_or(|last| running.saturating_sub(last) >= 2 * ASKED_EVERY)
    }

    /// The time by the last answer, if that is recent.
    pub(super) fn last(&self, running: Duration) -> Option<i64> {
        self.clocks.last().filter(|clock| clock.is_recent(running)).map(|clock| clock.shows(running))
    }

    /// The present time for check reports. `ours` is this machine's clock.
    pub(super) fn present(&self, running: Duration, ours: i64) -> Present {
        let time = match self.clocks.as_slice() {
            [clock] => {
                let theirs = clock.shows(running);
                let is_theirs = theirs.saturating_sub(ours).saturating_abs() > DIFFERENT_SECONDS
                    && (is_ours(theirs, ours) || !self.confirm(running, ours));
                if is_theirs { theirs } else { ours }
            }
            // They contradict each other.
            _ => ours,
        };
        Present { running, time, ours, is_known: !self.clocks.is_empty() }
    }

    /// Whether Mackerel's answers have agreed with this machine's clock, and no one has set it since.
    fn confirm(&self, running: Duration, ours: i64) -> bool {
        let at_boot = ours.saturating_sub(seconds(running));
        self.confirmed.is_some_and(|confirmed| confirmed.saturating_sub(at_boot).saturating_abs() <= AGREEMENT_SECONDS)
    }

    /// What they mean for values. `ours` is this machine's clock.
    pub(super) fn verdict(&self, running: Duration, ours: i64) -> Verdict {
        let theirs = self.clocks.iter().map(|clock| clock.shows(running)).collect();
        let certain = match self.clocks.as_slice() {
            [clock] if clock.is_recent(running) => {
                let time = clock.shows(running);
                let is_enough = if is_ours(time, ours) {
                    clock.answers >= ENOUGH
                } else {
                    let lasts = self.alone_since.map(|since| running.saturating_sub(since)).unwrap_or_default();
                    clock.answers >= ENOUGH_AGAINST_OURS && (lasts >= OVERRULES || !self.confirm(running, ours))
                };
                is_enough.then_some(time)
            }
            _ => None,
        };
        Verdict { theirs, certain, ours }
    }
}

/// The present time, by which it is known when something was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    running: Duration,
    /// By Mackerel's clock, if that shows that this machine's is wrong, else by this machine's.
    time: i64,
    ours: i64,
    /// Whether Mackerel has told any time.
    is_known: bool,
}

impl Present {
    /// When that was which was found at `found` by the clock that this machine had then, and after it had been running for so long. What
    /// an earlier process has found was found before now, and if Mackerel would ignore it for its time, with the clock of now.
    pub(super) fn of(self, found: i64, running: Option<Duration>) -> i64 {
        let (time, oldest) = (self.time, self.time.saturating_sub(OLDEST_HOURS * 3_600));
        let right = match running {
            Some(running) => time.saturating_sub(seconds(self.running.saturating_sub(running))),
            None if !self.is_known => found,
            None if found <= oldest => found.saturating_add(time.saturating_sub(self.ours)).min(time),
            None => found.min(time),
        };
        let differs = right.saturating_sub(found).saturating_abs() > DIFFERENT_SECONDS;
        if differs { right } else { found }
    }

    /// How many seconds ago that was, at least: of what an earlier process has found that is not known before Mackerel has told its time,
    /// since this machine's clock may be set wrong until then.
    pub(super) fn age(self, found: i64, running: Option<Duration>) -> i64 {
        match running {
            None if !self.is_known => 0,
            _ => self.time.saturating_sub(self.of(found, running)),
        }
    }
}

/// What is posted, held back and dropped by its time.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    theirs: Vec<i64>,
    certain: Option<i64>,
    ours: i64,
}

impl Verdict {
    /// Whether values of this time are posted: those that are in time by any of Mackerel's clocks, and whose time has come by it: it may
    /// refuse what is dated ahead. As long as it has told none, those that are not dated ahead of this machine's, which may be wrong, as it
    /// may have been when they were collected.
    pub(super) fn posts(&self, time: i64) -> bool {
        match self.theirs.as_slice() {
            [] => time <= self.ours.saturating_add(AHEAD_SECONDS),
            theirs => theirs.iter().any(|theirs| is_in_time(time, *theirs) && !is_early(time, *theirs)),
        }
    }

    /// Whether values of this time are held back only until it has come by one of Mackerel's clocks.
    pub(super) fn awaits(&self, time: i64) -> bool {
        !self.posts(time) && self.theirs.iter().any(|theirs| is_in_time(time, *theirs) && is_early(time, *theirs))
    }

    /// Whether Mackerel may have refused values of this time only since it has not come: by any of its clocks, or if it has told none, if
    /// this machine's may be ahead of it by so much.
    pub(super) fn may_be_early(&self, time: i64) -> bool {
        match self.theirs.as_slice() {
            [] => time > self.ours.saturating_sub(AHEAD_SECONDS),
            _ => self.is_early(time),
        }
    }

    /// Whether this time is ahead of any of Mackerel's clocks.
    pub(super) fn is_early(&self, time: i64) -> bool {
        self.theirs.iter().any(|theirs| time > *theirs)
    }

    /// By how many seconds this machine's clock is ahead of that of Mackerel's that differs least; negative if it is behind.
    pub(super) fn ahead(&self) -> Option<i64> {
        self.theirs.iter().map(|theirs| self.ours.saturating_sub(*theirs)).min_by_key(|ahead| ahead.saturating_abs())
    }

    /// How long it is until the next minute begins by Mackerel's clock: values are dated at the beginning of one.
    pub(super) fn until_next_minute(&self) -> Option<Duration> {
        let newest = self.theirs.iter().max()?;
        let until = 60 + EARLY_SECONDS - newest.rem_euclid(60);
        Some(Duration::from_secs(until.unsigned_abs()))
    }

    /// Mackerel's time, if it is certain enough to drop values by it.
    pub(super) fn certain(&self) -> Option<i64> {
        self.certain
    }
}

/// Whether a clock of Mackerel's agrees with this machine's.
fn is_ours(theirs: i64, ours: i64) -> bool {
    theirs.saturating_sub(ours).saturating_abs() <= AHEAD_SECONDS
}

fn is_early(time: i64, theirs: i64) -> bool {
    time > theirs.saturating_add(EARLY_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    /// So many seconds after the first answer.
    fn at(seconds: u64) -> Duration {
        Duration::from_secs(5_000 + seconds)
    }

    /// Answers at these seconds, by clocks that are this far ahead.
    fn dates(answers: impl IntoIterator<Item = (u64, i64)>) -> Dates {
        let mut dates = Dates::default();
        for (second, ahead) in answers {
            let now = NOW + second.cast_signed();
            dates.record(Some(now + ahead), at(second), now);
        }
        dates
    }

    fn certain(dates: &Dates, second: u64, ours_ahead: i64) -> Option<i64> {
        let now = NOW + second.cast_signed();
        dates.verdict(at(second), now + ours_ahead).certain().map(|time| time - now)
    }

    #[test]
    fn three_answers_that_agree_with_each_other_and_this_machine_make_mackerels_time_certain() {
        let two = dates([(0, 0), (60, 30)]);
        assert_eq!(certain(&two, 60, 0), None);
        let three = dates([(0, 0), (60, 30), (120, -60)]);
        assert_eq!(certain(&three, 180, AHEAD_SECONDS - 60), Some(-60));
        assert_eq!(certain(&three, 180, 3 * DAY), None, "this machine's clock contradicts");
        assert_eq!(certain(&three, 120 + 301, 0), None, "it is too long ago");
        assert_eq!(certain(&dates((0..12).map(|n| (n, 0))), 12, 3 * DAY), Some(0));
    }

    #[test]
    fn a_contradiction_makes_no_time_certain_until_an_hour_after_it() {
        let answers = |until: u64| (0..=until).map(|minute| (minute * 60, if minute == 20 { -3 * DAY } else { 0 }));
        for (minutes, expected) in [(19, Some(0)), (20, None), (21, None), (79, None), (80, Some(0)), (90, Some(0))] {
            assert_eq!(certain(&dates(answers(minutes)), minutes * 60, 0), expected, "{minutes}");
        }
    }

    #[test]
    fn a_date_that_contradicts_another_neither_holds_back_nor_drops_what_that_allows() {
        for wrong in [-3 * DAY, -7_200, 7_200, 3 * DAY] {
            let dates = dates((0..100).map(|n| (n * 60, if n % 2 == 0 { wrong } else { 0 })));
            let verdict = dates.verdict(at(99 * 60), NOW + 99 * 60);
            assert!(verdict.certain().is_none() && verdict.posts(NOW) && verdict.posts(NOW + 99 * 60), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_mackerel_confirmed_and_no_one_set_is_contradicted_only_by_hours_of_answers_that_agree() {
        const HOUR: u64 = 3_600;
        let confirmed = |answers: u64, until: u64| {
            let right = (0..answers).map(|n| (n, 0));
            dates(right.chain((0..=until / 60).map(|minute| (2 * HOUR + minute * 60, 2 * DAY))))
        };
        for (answers, lasts, ours, expected) in [
            (3, HOUR, 0, None),
            (3, 6 * HOUR - 60, 0, None),
            (3, 6 * HOUR, 0, Some(2 * DAY)),
            // It was not confirmed, or was set since.
            (2, HOUR, 0, Some(2 * DAY)),
            (3, HOUR, -DAY, Some(2 * DAY)),
        ] {
            let dates = confirmed(answers, lasts);
            assert_eq!(certain(&dates, 2 * HOUR + lasts, ours), expected, "{answers} {lasts} {ours}");
        }
        // There was a pause.
        let with_pause =
            dates((0..3).map(|n| (n, 0)).chain((0..20).map(|n| (2 * HOUR + n, DAY))).chain([(9 * HOUR, DAY)]));
        assert_eq!(certain(&with_pause, 9 * HOUR, 0), None);
    }

    #[test]
    fn a_report_has_mackerels_time_if_this_machines_clock_is_wrong_and_was_not_confirmed() {
        const HOUR: i64 = 3_600;
        let (found, later) = (Some(at(0)), NOW + 1_200);
        // What the report of this process, and that of an earlier one, says that was found 20 minutes ago.
        let of = |dates: &Dates, ahead: i64| {
            let present = dates.present(at(1_200), later + ahead);
            [present.of(NOW + ahead, found), present.of(NOW + ahead, None)].map(|time| time - NOW)
        };
        let wrong = |ahead: i64| {
            let mut dates = Dates::default();
            dates.record(Some(NOW), at(0), NOW + ahead);
            dates
        };
        assert_eq!(of(&wrong(0), 0), [0, 0]);
        assert_eq!(of(&wrong(30), 30), [30, 30]);
        assert_eq!(of(&wrong(-7 * HOUR), -7 * HOUR), [0, 0]);
        assert_eq!(of(&wrong(2 * DAY), 2 * DAY), [0, 1_200]);
        assert_eq!(of(&wrong(300), 300), [0, 300]);
        assert_eq!(of(&Dates::default(), 2 * DAY), [2 * DAY, 2 * DAY], "Mackerel has not answered");
        // The clock was set meanwhile.
        assert_eq!(wrong(0).present(at(1_200), later).of(NOW - 7 * HOUR, found), NOW);
        let confirmed = dates((0..3).map(|n| (n, 0)).chain((0..20).map(|n| (3_700 + n, 2 * DAY))));
        let present = confirmed.present(at(4_000), NOW + 4_000);
        assert_eq!(present.of(NOW + 3_900, Some(at(3_900))), NOW + 3_900);
    }

    #[test]
    fn what_an_earlier_process_has_found_is_not_old_before_mackerel_has_told_its_time() {
        let mut dates = Dates::default();
        let age = |dates: &Dates, running| dates.present(at(60), NOW + 3 * DAY).age(NOW, running);
        assert_eq!([age(&dates, None), age(&dates, Some(at(0)))], [0, 60]);
        dates.record(Some(NOW + 60), at(60), NOW + 3 * DAY);
        assert!(age(&dates, None) <= 60);
        let mut right = Dates::default();
        right.record(Some(NOW + 3 * DAY), at(60), NOW + 3 * DAY);
        assert_eq!(age(&right, None), 3 * DAY, "it really is old");
    }

    #[test]
    fn what_the_only_date_contradicts_is_held_back_however_long_ago_that_was() {
        let dates = dates([(0, 0)]);
        let verdict = dates.verdict(at(100_000), NOW + 3 * DAY);
        assert!(!verdict.posts(NOW + 3 * DAY) && verdict.posts(NOW + 100_000) && !verdict.posts(NOW));
        assert_eq!((dates.last(at(300)), dates.last(at(301))), (Some(NOW + 300), None));
    }

    #[test]
    fn before_mackerels_time_is_known_what_is_ahead_of_this_machine_is_held_back_and_what_is_old_is_not() {
        let mut dates = Dates::default();
        let posts = |dates: &Dates, time| dates.verdict(at(0), NOW).posts(time);
        assert!(posts(&dates, NOW + 600) && posts(&dates, NOW - 30 * DAY) && !posts(&dates, NOW + 601));
        dates.record(None, at(0), NOW);
        assert!(dates.are_begun() && !posts(&dates, NOW + 601), "the answer has no `Date`");
        dates.record(Some(NOW + DAY), at(0), NOW);
        assert!(posts(&dates, NOW + DAY + 1) && !posts(&dates, NOW + DAY + 2) && !posts(&dates, NOW - 1));
    }

    #[test]
    fn what_is_dated_minutes_ahead_of_every_clock_of_mackerels_waits_until_its_time_has_come() {
        let verdict = dates([(0, 0), (1, -3 * DAY)]).verdict(at(10), NOW + 310);
        let of = |ahead: i64| (verdict.posts(NOW + 10 + ahead), verdict.awaits(NOW + 10 + ahead));
        assert_eq!([1, 2, 600, 601].map(of), [(true, false), (false, true), (false, true), (false, false)]);
        assert!(verdict.may_be_early(NOW + 11) && verdict.ahead() == Some(300));
        // `NOW` is the beginning of a minute.
        assert_eq!(verdict.until_next_minute(), Some(Duration::from_secs(51)));
    }

    #[test]
    fn mackerel_is_asked_until_three_answers_came_and_then_once_a_minute() {
        let mut dates = dates([(0, 0), (1, 0)]);
        assert!(dates.are_lacking(at(1)));
        dates.record(None, at(2), NOW);
        assert!(!dates.are_lacking(at(61)) && dates.are_lacking(at(62)));
    }

    #[test]
    fn a_hundred_clocks_take_no_more_room_than_eight() {
        let dates = dates((0..100_u64).map(|n| (n, n.cast_signed() * 1_000)));
        assert_eq!(dates.clocks.len(), MOST_CLOCKS);
    }
}
