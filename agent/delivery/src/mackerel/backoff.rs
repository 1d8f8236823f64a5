//! How long to wait after a call to Mackerel failed, and how often to say so. Pure: chance and time are handed in.
//!
//! It neither waits nor logs itself.

use std::hash::{BuildHasher, RandomState};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::client::ApiError;

/// The first wait is up to this long. Short, since most failures are a single lost connection.
const FIRST: Duration = Duration::from_secs(2);

/// No wait between two tries of our own choosing is longer: an outage that has ended is noticed within this time.
const LONGEST: Duration = Duration::from_mins(5);

/// After a refusal that only the operator can mend (a wrong key, a host that is gone).
const HOLD: Duration = Duration::from_mins(5);

/// A longer Retry-After is taken for a mistake.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A fault that goes on is told again after this time.
const TOLD_AGAIN: Duration = Duration::from_hours(1);

/// The waits of one series of failures: exponential with full jitter, so that a thousand hosts do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after `error`; `random` is from 0 to 1.
    pub(super) fn after(&mut self, error: &ApiError, random: f64) -> Duration {
        let wait = match error {
            ApiError::Auth { .. } | ApiError::NotFound { .. } => HOLD,
            ApiError::Busy { .. } | ApiError::Refused { .. } | ApiError::Unreachable(_) => self.jittered(random),
        };
        wait.max(error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER))
    }

    /// To be called when a call went through.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
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

/// Tells a fault once, again when it becomes another one, and hourly while it lasts.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told: Option<(Discriminant<ApiError>, Instant)>,
}

impl Complaint {
    /// Whether `error` is to be told now.
    pub(super) fn is_due(&mut self, error: &ApiError, now: Instant) -> bool {
        let due = self
            .told
            .is_none_or(|(kind, at)| kind != discriminant(error) || now.saturating_duration_since(at) >= TOLD_AGAIN);
        if due {
            self.told = Some((discriminant(error), now));
        }
        due
    }

    /// To be called when a call went through.
    pub(super) fn reset(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> ApiError {
        ApiError::Unreachable("connection refused".to_owned())
    }

    fn busy(seconds: u64) -> ApiError {
        ApiError::Busy { status: 429, message: String::new(), retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.after(&unreachable(), 1.0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        for _ in 0..100 {
            assert_eq!(backoff.after(&unreachable(), 1.0), LONGEST);
        }
        backoff.reset();
        assert_eq!(backoff.after(&unreachable(), 0.5), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_a_minimum_of_at_most_an_hour() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(&busy(90), 0.0), Duration::from_secs(90));
        assert_eq!(backoff.after(&busy(1), 1.0), Duration::from_secs(4));
        assert_eq!(backoff.after(&busy(86_400), 1.0), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_wrong_key_is_tried_again_every_five_minutes() {
        let wrong = ApiError::Auth { status: 403, message: String::new(), retry_after: None };
        let mut backoff = Backoff::default();
        assert!((0..10).all(|_| backoff.after(&wrong, 0.0) == HOLD));
    }

    #[test]
    fn a_lasting_fault_is_told_once_an_hour_and_another_fault_at_once() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let mut complaint = Complaint::default();
        let told: Vec<bool> = [0, 1, 59, 60, 61].map(|minutes| complaint.is_due(&unreachable(), at(minutes))).to_vec();
        assert_eq!(told, [true, false, false, true, false]);
        assert!(complaint.is_due(&busy(1), at(62)));
        complaint.reset();
        assert!(complaint.is_due(&busy(1), at(62)));
    }

    #[test]
    fn chance_is_between_0_and_1_and_not_constant() {
        let drawn: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(drawn.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(drawn.iter().any(|number| *number != drawn[0]));
    }
}
