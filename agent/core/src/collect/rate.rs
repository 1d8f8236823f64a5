//! The rate of a counter, computed from two readings of it.
//!
//! A first reading, a counter that went backwards, and two readings too close together or too far apart give no value; nothing
//! is ever invented. The host's metrics use rates per second, plugins also per minute.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Two readings closer than this give no rate: the quotient of two small numbers is mostly noise.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// Two readings further apart than this give no rate, as with the official plugins (exactly 600 s is still accepted):
/// the mean over a long sleep or outage, drawn as one minute, would be a lie.
pub const LONGEST: Duration = Duration::from_secs(600);

/// The growth of a counter per second between `before` and `now`, which were read `elapsed` apart.
#[must_use]
pub fn per_second(before: u64, now: u64, elapsed: Duration) -> Option<f64> {
    if !(SHORTEST..=LONGEST).contains(&elapsed) {
        return None;
    }
    // A difference of counters stays below 2^53 in practice; f64 is what Mackerel takes.
    now.checked_sub(before).map(|growth| growth as f64 / elapsed.as_secs_f64())
}

/// A counter's value at a time: kept by the agent for plugins, across restarts too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The counter's value.
    pub value: f64,
    /// Wall clock, milliseconds since 1970. The monotonic clock would not survive a restart.
    pub unix_millis: i64,
}

impl Reading {
    /// Whether a reading at `unix_millis` can still give a rate with it.
    #[must_use]
    pub fn is_fresh(self, unix_millis: i64) -> bool {
        let age = unix_millis.checked_sub(self.unix_millis).and_then(|age| u64::try_from(age).ok());
        age.is_some_and(|age| Duration::from_millis(age) <= LONGEST)
    }
}

/// The growth per `unit` of time from one reading to a later one, under the rules of [`per_second`]. Multiplies before it
/// divides, as the official plugins do, so that whole numbers stay whole.
#[must_use]
pub fn growth(before: Reading, now: Reading, unit: Duration) -> Option<f64> {
    let elapsed = Duration::from_millis(u64::try_from(now.unix_millis.checked_sub(before.unix_millis)?).ok()?);
    let growth = now.value - before.value;
    let countable = (SHORTEST..=LONGEST).contains(&elapsed) && growth >= 0.0;
    countable.then(|| growth * unit.as_secs_f64() / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_reading_is_fresh_for_as_long_as_a_rate_can_be_computed_from_it() {
        let reading = Reading { value: 1.0, unix_millis: 5_000 };
        assert!(reading.is_fresh(5_000) && reading.is_fresh(605_000));
        assert!(!reading.is_fresh(605_001) && !reading.is_fresh(4_999));
    }

    #[test]
    fn a_counter_that_went_backwards_gives_no_rate() {
        assert_eq!(per_second(500, 499, MINUTE), None);
        assert_eq!(per_second(500, 500, MINUTE), Some(0.0));
    }

    #[test]
    fn the_rate_is_the_growth_over_the_elapsed_time() {
        assert_eq!(per_second(100, 700, MINUTE), Some(10.0));
        assert_eq!(per_second(0, 10, Duration::from_secs(10)), Some(1.0));
    }

    #[test]
    fn readings_too_close_or_too_far_apart_give_no_rate() {
        assert_eq!(per_second(0, 10, Duration::from_millis(999)), None);
        assert_eq!(per_second(0, 10, Duration::from_secs(600)), Some(10.0 / 600.0));
        assert_eq!(per_second(0, 10, Duration::from_millis(600_001)), None);
    }

    fn reading(value: f64, unix_millis: i64) -> Reading {
        Reading { value, unix_millis }
    }

    #[test]
    fn a_clock_set_back_gives_no_rate() {
        assert_eq!(growth(reading(0.0, 60_000), reading(10.0, 0), MINUTE), None);
        assert_eq!(growth(reading(0.0, i64::MIN), reading(10.0, i64::MAX), MINUTE), None);
    }

    #[test]
    fn the_conformance_values_of_the_official_plugins_hold() {
        let per_minute = |last, now, seconds: i64| growth(reading(last, 0), reading(now, seconds * 1000), MINUTE);
        assert_eq!(per_minute(0.0, 10.0, 10), Some(60.0));
        assert_eq!(per_minute(500.0, 1000.0, 60), Some(500.0));
        assert_eq!(per_minute(500.0, 10.0, 60), None);
        assert_eq!(per_minute(0.0, 600.0, 600), Some(60.0));
        assert_eq!(per_minute(0.0, 600.0, 601), None);
    }
}
