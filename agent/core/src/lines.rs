//! How many lines the log has about one thing: what changes each minute, or at somebody's will, must not fill it.

use std::time::{Duration, Instant};

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
    fn an_exhausted_hour_ends_too() {
        let start = Instant::now();
        let mut lines = LinesAnHour::new(3, start);
        lines.exhaust();
        assert_eq!(lines.admitted("a".into(), start), None);
        assert_eq!(lines.admitted("b".into(), start + HOUR).as_deref(), Some("b"));
    }
}
