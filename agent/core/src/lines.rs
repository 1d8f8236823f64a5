//! How many lines the log has about one thing: what changes each minute, or at somebody's will, must not fill it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The target of lines that plugins write themselves, all of which share a [`Budget`].
pub const OF_PLUGINS: &str = "wasaba::of_plugins";

/// The target of lines in which the agent says how plugins are doing. They have a budget of their own, so that no plugin can fill it with
/// what it writes.
pub const ABOUT_PLUGINS: &str = "wasaba::about_plugins";

const HOUR: Duration = Duration::from_secs(3_600);

/// Counts the lines about one thing, and admits a fixed number of them in an hour.
#[derive(Clone, Copy, Debug)]
pub struct LinesAnHour {
    most: u32,
    began: Instant,
    count: u32,
}

impl LinesAnHour {
    /// Admits `most` lines in each hour, of which the first begins `now`.
    #[must_use]
    pub fn new(most: u32, now: Instant) -> Self {
        Self { most, began: now, count: 0 }
    }

    /// The line as it is logged; the last one of an hour says that it is. `None` if the hour has had as many.
    #[must_use]
    pub fn admitted(&mut self, line: String, now: Instant) -> Option<String> {
        if now.saturating_duration_since(self.began) >= HOUR {
            *self = Self::new(self.most, now);
        }
        self.count = self.count.saturating_add(1);
        match self.most.checked_sub(self.count)? {
            0 => Some(format!(
                "{line} (the last of {} lines about it in an hour; further ones are not logged)",
                self.most
            )),
            _ => Some(line),
        }
    }

    /// Admits no more lines in this hour.
    pub fn exhaust(&mut self) {
        self.count = self.most;
    }
}

/// Admits a fixed number of lines in any ten minutes. After the last one, none is admitted for ten minutes.
#[derive(Clone, Debug)]
pub struct Budget {
    most: usize,
    /// When the lines of the last ten minutes were admitted; all, once there are as many as may be.
    admitted: VecDeque<Instant>,
}

/// Whether a line is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Logged,
    /// It is, as the last one for ten minutes.
    Last,
    /// It is not.
    Dropped,
}

impl Budget {
    const TIME: Duration = Duration::from_secs(600);

    /// Admits `most` lines in any ten minutes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, admitted: VecDeque::new() }
    }

    /// Whether one more line is logged `now`.
    pub fn admit(&mut self, now: Instant) -> Admission {
        let is_over = |then: &Instant| now.saturating_duration_since(*then) >= Self::TIME;
        if self.admitted.len() >= self.most {
            if !self.admitted.back().is_some_and(is_over) {
                return Admission::Dropped;
            }
            self.admitted.clear();
        }
        while self.admitted.front().is_some_and(is_over) {
            self.admitted.pop_front();
        }
        self.admitted.push_back(now);
        if self.admitted.len() == self.most { Admission::Last } else { Admission::Logged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_as_many_lines_as_said_and_the_last_says_so() {
        let start = Instant::now();
        let mut lines = LinesAnHour::new(3, start);
        let mut logged = Vec::new();
        for minute in 0..120 {
            logged.extend(lines.admitted(minute.to_string(), start + Duration::from_secs(minute * 60)));
        }
        let last =
            |minute: u32| format!("{minute} (the last of 3 lines about it in an hour; further ones are not logged)");
        let expected = ["0".to_owned(), "1".to_owned(), last(2), "60".to_owned(), "61".to_owned(), last(62)];
        assert_eq!(logged, expected);
    }

    #[test]
    fn any_ten_minutes_have_as_many_lines_as_the_budget_says_however_they_come() {
        let start = Instant::now();
        for pause in [1, 100, 999, 7_000, 40_000] {
            let mut budget = Budget::new(90);
            let times = (0..20_000).map(|number| Duration::from_millis(number * pause));
            let logged = times.filter(|time| budget.admit(start + *time) != Admission::Dropped).collect::<Vec<_>>();
            let is_over = |few: &[Duration]| few[90] - few[0] >= Budget::TIME;
            assert!(logged.windows(91).all(is_over), "one in {pause} ms");
            assert!(logged.len() > 89, "one in {pause} ms");
        }
    }

    #[test]
    fn the_last_line_of_a_budget_is_known_and_there_are_others_ten_minutes_later() {
        let (mut budget, start) = (Budget::new(2), Instant::now());
        let mut admit = |seconds| budget.admit(start + Duration::from_secs(seconds));
        assert_eq!(
            [0, 599, 600, 1_198].map(&mut admit),
            [Admission::Logged, Admission::Last, Admission::Dropped, Admission::Dropped]
        );
        assert_eq!([1_199, 1_800].map(&mut admit), [Admission::Logged, Admission::Logged]);
    }

    #[test]
    fn an_exhausted_hour_ends_too() {
        let start = Instant::now();
        let mut lines = LinesAnHour::new(3, start);
        lines.exhaust();
        assert_eq!(lines.admitted("a".into(), start), None);
        assert_eq!(lines.admitted("b".into(), start + HOUR).as_deref(), Some("b"));
    }
}
