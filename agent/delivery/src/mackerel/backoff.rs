//! The backoff: how long to wait after a call to Mackerel failed, and which failures to log.
//!
//! Pure: chance and time are parameters; it neither waits nor logs.

use std::hash::{BuildHasher, RandomState};
use std::mem::{Discriminant, discriminant};
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

/// A lasting failure is logged again after this time.
const LOGGED_AGAIN: Duration = Duration::from_hours(1);

/// A series of failures of one kind of call.
///
/// Waits are exponential with full jitter, so that a thousand hosts do not come back at once. A failure is due for the log
/// once, again when it becomes another one, and hourly while it lasts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    logged: Option<(Discriminant<ApiError>, Instant)>,
}

impl Backoff {
    /// The wait after `error`; `random` is from 0 to 1.
    pub(super) fn wait(&mut self, error: &ApiError, random: f64) -> Duration {
        let wait = match error {
            ApiError::Auth(_) | ApiError::NotFound(_) => HOLD,
            ApiError::Busy(_) | ApiError::Refused(_) | ApiError::NoAnswer(_) => self.jittered(random),
        };
        wait.max(error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER))
    }

    /// Whether `error` is due for the log; if so, it counts as logged.
    pub(super) fn is_news(&mut self, error: &ApiError, now: Instant) -> bool {
        let is_news = self
            .logged
            .is_none_or(|(kind, at)| kind != discriminant(error) || now.saturating_duration_since(at) >= LOGGED_AGAIN);
        if is_news {
            self.logged = Some((discriminant(error), now));
        }
        is_news
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

/// A number from 0 to 1 that differs from host to host and call to call. Not for secrets.
pub(super) fn chance() -> f64 {
    // Each `RandomState` has new keys; this spares a dependency.
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
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
        let waits: Vec<u64> = (0..9).map(|_| backoff.wait(&unreachable(), 1.0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        for _ in 0..100 {
            assert_eq!(backoff.wait(&unreachable(), 1.0), LONGEST);
        }
        backoff.reset();
        assert_eq!(backoff.wait(&unreachable(), 0.5), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_a_minimum_of_at_most_an_hour() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(&busy(90), 0.0), Duration::from_secs(90));
        assert_eq!(backoff.wait(&busy(1), 1.0), Duration::from_secs(4));
        assert_eq!(backoff.wait(&busy(86_400), 1.0), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_wrong_key_is_retried_every_five_minutes() {
        let (by, message) = (Author::Mackerel, String::new());
        let wrong = ApiError::of(ErrorResponse { status: 403, by, message, retry_after: None });
        let mut backoff = Backoff::default();
        assert!((0..10).all(|_| backoff.wait(&wrong, 0.0) == HOLD));
    }

    #[test]
    fn a_lasting_failure_is_logged_once_an_hour_and_another_failure_at_once() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let mut backoff = Backoff::default();
        let logged: Vec<bool> = [0, 1, 59, 60, 61].map(|minutes| backoff.is_news(&unreachable(), at(minutes))).to_vec();
        assert_eq!(logged, [true, false, false, true, false]);
        assert!(backoff.is_news(&busy(1), at(62)));
        backoff.reset();
        assert!(backoff.is_news(&busy(1), at(62)));
    }

    #[test]
    fn chance_is_between_0_and_1_and_not_constant() {
        let numbers: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
