//! The clock: the one place that asks the system for the time.
//!
//! Everything else takes the time as a parameter, so that a test can choose it, or asks here. Only tokio's `Instant`, with which async
//! code waits, is asked for elsewhere: it is the runtime's, which a test can stop.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// When a reading is taken, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall clock, in seconds since 1970: what Mackerel is sent.
    pub unix_seconds: i64,
    /// Monotonic clock: rates are computed from it, since the wall clock may jump.
    pub instant: Instant,
}

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { unix_seconds: unix_seconds(), instant: instant() }
    }
}

/// The wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The monotonic clock, which no one sets.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn instant() -> Instant {
    Instant::now()
}

/// How long ago `instant` was.
#[must_use]
pub fn since(then: Instant) -> Duration {
    instant().saturating_duration_since(then)
}

/// The monotonic clock as the time since a fixed moment.
#[must_use]
pub fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

/// Both clocks in milliseconds, when counters were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The wall clock since 1970, which may be set at any time.
    pub unix_millis: i64,
    /// [`steady_millis`].
    pub steady_millis: i64,
}

impl Stamp {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { unix_millis: unix_millis(), steady_millis: steady_millis() }
    }

    /// The time that a clock shows which was not set.
    #[must_use]
    pub fn of(unix_millis: i64) -> Self {
        Self { unix_millis, steady_millis: unix_millis }
    }

    /// By how much the wall clock was set since this process asked first.
    #[must_use]
    pub fn step_millis(self) -> i64 {
        self.unix_millis.saturating_sub(self.steady_millis)
    }
}

/// A clock that no one sets, in milliseconds: what the wall clock would show if it had not been set since this process asked first. It
/// counts the time in which the machine is suspended.
#[must_use]
pub fn steady_millis() -> i64 {
    static BEGIN: OnceLock<i64> = OnceLock::new();
    let since_boot = || i64::try_from(running().as_millis()).unwrap_or(i64::MAX);
    let begin = BEGIN.get_or_init(|| unix_millis().saturating_sub(since_boot()));
    begin.saturating_add(since_boot())
}

/// How long this machine has been running, with the time that it was suspended.
#[must_use]
pub fn running() -> Duration {
    read(ClockId::Boottime)
}

/// How long this process has computed, in all its threads.
#[must_use]
pub fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// How long the thread that asks has computed.
#[must_use]
pub fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn read(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// The wall clock in seconds since 1970; 0 before that.
#[must_use]
pub fn unix_seconds() -> i64 {
    seconds_of(wall())
}

/// The wall clock in milliseconds since 1970; 0 before that.
#[must_use]
pub fn unix_millis() -> i64 {
    millis_of(wall())
}

/// `time` in seconds since 1970; 0 before that.
#[must_use]
pub fn seconds_of(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// `time` in milliseconds since 1970; 0 before that.
#[must_use]
pub fn millis_of(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// How long it takes until the wall clock shows `unix_seconds`; zero if it is past that.
#[must_use]
pub fn until(unix_seconds: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default());
    then.duration_since(wall()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_a_thread_that_computes_uses_it() {
        let (then, before, computed) = (instant(), monotonic(), thread_cpu());
        while thread_cpu() == computed {}
        assert!(monotonic() > before && since(then) > Duration::ZERO && running() >= before);
        assert_eq!(since(then + Duration::from_secs(1_000)), Duration::ZERO, "what is to come is no time ago");
    }

    #[test]
    fn the_steady_clock_shows_the_wall_clocks_time_until_that_is_set() {
        let stamp = Stamp::now();
        // Both are rounded, and the clock of the machine that tests may be corrected meanwhile; since boot it would be hours or days.
        assert!(stamp.step_millis().abs() < 60_000, "{stamp:?}");
        assert_eq!(Stamp { unix_millis: 40_000, steady_millis: 10_000 }.step_millis(), 30_000);
        let before = steady_millis();
        assert!(steady_millis() >= before);
    }

    #[test]
    fn a_time_before_1970_is_zero_and_a_full_second_is_reached_at_once() {
        assert_eq!((seconds_of(UNIX_EPOCH - Duration::from_secs(1)), millis_of(UNIX_EPOCH)), (0, 0));
        assert_eq!(millis_of(UNIX_EPOCH + Duration::from_millis(1_500)), 1_500);
        assert_eq!(until(1), Duration::ZERO);
        assert!(until(unix_seconds() + 100) > Duration::from_secs(90));
    }
}
