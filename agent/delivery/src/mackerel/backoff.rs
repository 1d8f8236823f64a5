//! The backoff: how long to wait after a call to Mackerel failed.
//!
//! Pure: chance and time are parameters; it neither waits nor logs.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::answer::ApiError;

/// The upper limit of the first wait. Short, since most failures are a single lost connection.
const FIRST: Duration = Duration::from_secs(2);

/// The longest wait of our own choice: the end of an outage is noticed within this time.
const LONGEST: Duration = Duration::from_mins(5);

/// The wait after a failure that only the operator can fix (a wrong key, a missing host).
const HOLD: Duration = Duration::from_mins(5);

/// A longer `Retry-After` is taken for a mistake.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// While calls only fail, at most this many are made within [`WINDOW`].
const MOST_FAILURES: usize = 28;
const WINDOW: Duration = Duration::from_hours(1);

/// A series of failures of one kind of call.
///
/// Waits are exponential with full jitter, so that a thousand hosts do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// The failures within the last [`WINDOW`] since the last success, the oldest first.
    recent: VecDeque<Instant>,
}

impl Backoff {
    /// The wait after a call that failed at `now` with `error` and was counted; `random` is from 0 to 1.
    pub(super) fn wait(&mut self, error: &ApiError, now: Instant, random: f64) -> Duration {
        let allowed = match self.recent.front() {
            // All hosts began to fail at the same time, and must not come back at the same time.
            Some(oldest) if self.is_exhausted(now) => {
                (*oldest + WINDOW).saturating_duration_since(now) + LONGEST.mul_f64(random.clamp(0.0, 1.0))
            }
            _ => Duration::ZERO,
        };
        let wait = if error.is_for_the_operator() { HOLD } else { self.jittered(random) };
        wait.max(Self::asked(error).unwrap_or_default()).max(allowed)
    }

    /// How long the server asks clients to wait.
    pub(super) fn asked(error: &ApiError) -> Option<Duration> {
        Some(error.retry_after()?.min(LONGEST_RETRY_AFTER))
    }

    /// Counts a call that failed.
    pub(super) fn count(&mut self, now: Instant) {
        self.recent.push_back(now);
        if self.recent.len() > MOST_FAILURES {
            self.recent.pop_front();
        }
    }

    /// Whether no further call may be made at `now`, since too many only failed.
    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        let recent = self.recent.iter().filter(|at| now.saturating_duration_since(**at) < WINDOW);
        recent.count() >= MOST_FAILURES
    }

    /// Ends the series, after a call that succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    fn jittered(&mut self, random: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// The end of a message about a failure.
pub(super) fn retrying(wait: Duration) -> String {
    match wait.as_secs() {
        0 => "retrying now".to_owned(),
        seconds => format!("retrying in {seconds} s"),
    }
}

/// A number from 0 to 1 that differs from host to host and call to call. Not for secrets.
pub(super) fn chance() -> f64 {
    // Each `RandomState` has new keys; this spares a dependency.
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

/// Sixteen letters and digits that no other attempt has. Not for secrets.
pub(super) fn token() -> String {
    format!("{:016x}", RandomState::new().hash_one(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};

    fn unreachable() -> ApiError {
        ApiError::NoAnswer("connection refused".to_owned())
    }

    fn busy(seconds: u64) -> ApiError {
        let retry_after = Some(Duration::from_secs(seconds));
        ApiError::of(ErrorResponse { status: 429, by: Author::Mackerel, message: String::new(), retry_after })
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes_and_starts_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut wait = |backoff: &mut Backoff, random| {
            backoff.count(now);
            let wait = backoff.wait(&unreachable(), now, random);
            now += wait;
            wait
        };
        let waits: Vec<u64> = (0..9).map(|_| wait(&mut backoff, 1.0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        for _ in 0..100 {
            assert_eq!(wait(&mut backoff, 1.0), LONGEST);
        }
        backoff.reset();
        assert_eq!(wait(&mut backoff, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn while_calls_only_fail_there_are_at_most_28_in_any_hour_however_short_the_waits() {
        for random in [0.0, 0.1, 0.5, 1.0] {
            let (start, mut backoff, mut calls) = (Instant::now(), Backoff::default(), Vec::new());
            let mut now = start;
            while now < start + Duration::from_hours(24) {
                calls.push(now);
                backoff.count(now);
                now += backoff.wait(&unreachable(), now, random);
            }
            let most = calls.windows(MOST_FAILURES + 1).all(|calls| calls[MOST_FAILURES] - calls[0] >= WINDOW);
            assert!(most, "{random}");
            assert!(calls.len() > 24 * 10, "{} calls in a day with {random}", calls.len());
        }
    }

    /// When each of a thousand hosts calls first after an outage of all of them, in seconds after it.
    fn returns(outage: Duration, error: &ApiError) -> Vec<u64> {
        let start = Instant::now();
        // A generator of the usual constants: other chances each time would make this test fail now and then.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut first_call = || {
            let (mut backoff, mut now) = (Backoff::default(), start + Duration::from_secs_f64(random() * 20.0));
            while now < start + outage {
                backoff.count(now);
                now += backoff.wait(error, now, random());
            }
            (now - start - outage).as_secs()
        };
        (0..1_000).map(|_| first_call()).collect()
    }

    #[test]
    fn a_thousand_hosts_that_fail_together_come_back_one_by_one_within_minutes() {
        for minutes in [1, 10, 55, 59, 60, 61, 119, 600] {
            let returns = returns(Duration::from_mins(minutes), &unreachable());
            let within_ten_seconds = |begin: u64| returns.iter().filter(|at| (begin..begin + 10).contains(at)).count();
            let most = (0..700).map(within_ten_seconds).max().unwrap();
            // After a minute, the waits are still short.
            assert!(most <= if minutes == 1 { 300 } else { 80 }, "{minutes} min: {most} within ten seconds");
            let last = returns.iter().max().unwrap();
            assert!(*last <= 900, "{minutes} min: the last comes after {last} s");
        }
    }

    #[test]
    fn a_success_allows_further_calls() {
        let (now, mut backoff) = (Instant::now(), Backoff::default());
        (0..MOST_FAILURES).for_each(|_| backoff.count(now));
        assert!(backoff.is_exhausted(now) && !backoff.is_exhausted(now + WINDOW));
        backoff.reset();
        assert!(!backoff.is_exhausted(now));
    }

    #[test]
    fn retry_after_is_a_minimum_of_at_most_an_hour() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(&busy(90), Instant::now(), 0.0), Duration::from_secs(90));
        assert_eq!(backoff.wait(&busy(1), Instant::now(), 1.0), Duration::from_secs(4));
        assert_eq!(backoff.wait(&busy(86_400), Instant::now(), 1.0), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_wrong_key_is_retried_every_five_minutes() {
        let (by, message) = (Author::Mackerel, String::new());
        let wrong = ApiError::of(ErrorResponse { status: 403, by, message, retry_after: None });
        let mut backoff = Backoff::default();
        assert!((0..10).all(|_| backoff.wait(&wrong, Instant::now(), 0.0) == HOLD));
    }

    #[test]
    fn a_wait_of_less_than_a_second_is_not_called_0_s() {
        assert_eq!(
            [0, 999, 1_000].map(|millis| retrying(Duration::from_millis(millis))),
            ["retrying now", "retrying now", "retrying in 1 s"]
        );
    }

    #[test]
    fn chance_is_between_0_and_1_and_not_constant() {
        let numbers: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
