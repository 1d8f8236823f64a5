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

/// Where a counter stands. Whole numbers are subtracted exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Count {
    /// A whole number, up to 2^64.
    Whole(u64),
    /// Any number.
    Float(f64),
}

impl Count {
    /// The number, rounded if it does not fit exactly.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// How much has been counted since `before`; `None` after a reset.
    fn growth_since(self, before: Self) -> Option<f64> {
        match (before, self) {
            (Self::Whole(before), Self::Whole(now)) => now.checked_sub(before).map(|growth| growth as f64),
            (before, now) => Some(now.as_f64() - before.as_f64()).filter(|growth| *growth >= 0.0),
        }
    }
}

impl From<f64> for Count {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// A counter's value at a time: kept by the agent for plugins, across restarts too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The counter's value.
    pub value: Count,
    /// When it was read, in milliseconds since 1970: by [`clock::steady_millis`](crate::clock::steady_millis), so that a rate is right
    /// although the wall clock was set; by the wall clock where it is stored, since the other does not survive a restart.
    pub unix_millis: i64,
}

impl Reading {
    /// The same reading by a clock that is ahead by this.
    #[must_use]
    pub fn ahead_by(self, millis: i64) -> Self {
        Self { unix_millis: self.unix_millis.saturating_add(millis), ..self }
    }

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
    let elapsed = elapsed(before, now)?;
    Some(now.value.growth_since(before.value)? * unit.as_secs_f64() / elapsed.as_secs_f64())
}

/// The growth from one reading to a later one, whatever the time between them, under the rules of [`per_second`].
#[must_use]
pub fn delta(before: Reading, now: Reading) -> Option<f64> {
    elapsed(before, now)?;
    now.value.growth_since(before.value)
}

/// As [`growth`], of a counter that wraps at 2^32: a smaller reading is a wrap if the growth is then less than 2^31, and a reset
/// if it is not.
#[must_use]
pub fn growth_of_32_bits(before: Reading, now: Reading, unit: Duration) -> Option<f64> {
    const WRAP: f64 = 4_294_967_296.0;
    let elapsed = elapsed(before, now)?;
    let (last, next) = (before.value.as_f64(), now.value.as_f64());
    let growth =
        if next < last { Some(next + WRAP - last).filter(|growth| *growth < WRAP / 2.0) } else { Some(next - last) };
    growth.map(|growth| growth * unit.as_secs_f64() / elapsed.as_secs_f64())
}

/// The time between two readings, if a rate can be computed from them.
fn elapsed(before: Reading, now: Reading) -> Option<Duration> {
    let elapsed = Duration::from_millis(u64::try_from(now.unix_millis.checked_sub(before.unix_millis)?).ok()?);
    (SHORTEST..=LONGEST).contains(&elapsed).then_some(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_reading_is_fresh_for_as_long_as_a_rate_can_be_computed_from_it() {
        let reading = Reading { value: 1.0.into(), unix_millis: 5_000 };
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
        Reading { value: value.into(), unix_millis }
    }

    fn whole(value: u64, unix_millis: i64) -> Reading {
        Reading { value: Count::Whole(value), unix_millis }
    }

    #[test]
    fn whole_numbers_lose_no_growth_up_to_the_largest() {
        let before = whole(u64::MAX - 3, 0);
        assert_eq!(growth(before, whole(u64::MAX, 60_000), MINUTE), Some(3.0));
        assert_eq!(delta(before, whole(u64::MAX - 2, 30_000)), Some(1.0));
        assert_eq!(growth(whole(5, 0), whole(4, 60_000), MINUTE), None, "a reset");
        assert_eq!(delta(whole(5, 0), reading(7.5, 60_000)), Some(2.5));
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), before);
        let float = reading(1.0, 0);
        assert_eq!(serde_json::from_str::<Reading>(&serde_json::to_string(&float).unwrap()).unwrap(), float);
    }

    #[test]
    fn a_delta_does_not_depend_on_the_time_but_an_old_reading_has_none() {
        assert_eq!([1_000, 600_000].map(|now| delta(whole(1, 0), whole(4, now))), [Some(3.0); 2]);
        assert_eq!([999, 600_001].map(|now| delta(whole(1, 0), whole(4, now))), [None; 2]);
    }

    #[test]
    fn a_counter_of_32_bits_wraps_and_a_restart_is_not_a_wrap() {
        let rate = |before, now| growth_of_32_bits(whole(before, 0), whole(now, 60_000), MINUTE);
        assert_eq!(rate(4_294_967_290, 4), Some(10.0));
        assert_eq!(rate(10, 30), Some(20.0));
        assert_eq!(rate(2_000_000_000, 4), None, "a growth of more than 2^31");
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
