//! The timing of posts: each host has its own second of the minute, and the first values do not wait for it.
//!
//! The time is a parameter.

use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::id_file::HostId;

/// Hosts spread their posts over this part of the minute, so that not all of them post at second 0.
const SPREAD: Duration = Duration::from_secs(20);

/// For this long after the first values, later ones do not wait for the host's second: whoever starts the agent watches the
/// first values arrive, and those of a plugin that must be compiled first come a moment after the host's own.
const EAGER: Duration = Duration::from_secs(10);

const MINUTE: Duration = Duration::from_secs(60);

/// Word of queued values, from whoever queues them to whoever posts them. It counts those that are posted at once.
#[derive(Clone, Debug, Default)]
pub struct Queued(watch::Sender<u64>);

impl Queued {
    /// Values of a full minute were queued: they wait for the host's second.
    pub fn minute(&self) {
        self.0.send_modify(|_| {});
    }

    /// The first values of a source were queued: somebody waits for them. Whatever is queued is posted with them.
    pub fn first_values(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// For one who posts, and looks once more after the first time: what was queued before counts as queued now.
    pub(super) fn seen(&self) -> Seen {
        let mut receiver = self.0.subscribe();
        receiver.mark_changed();
        let posted = *receiver.borrow();
        Seen { receiver, posted }
    }
}

/// What one of those who post has seen of [`Queued`].
pub(super) struct Seen {
    receiver: watch::Receiver<u64>,
    posted: u64,
}

impl Seen {
    /// Waits until anything is queued.
    pub(super) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // Nothing will be queued any more.
            std::future::pending::<()>().await;
        }
    }

    /// Waits as long as values wait at the time of `now`, or until first values are queued.
    pub(super) async fn wait(&mut self, timing: &Timing, now: fn() -> SystemTime) {
        loop {
            let first_values = *self.receiver.borrow_and_update();
            if std::mem::replace(&mut self.posted, first_values) != first_values {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(timing.wait(now())) => return,
                () = self.changed() => {}
            }
        }
    }
}

/// When queued values are posted.
pub(super) struct Timing {
    /// This host's second of the minute.
    offset: Duration,
    /// Values are posted at once until then; `None` before the first delivery.
    eager_until: Option<SystemTime>,
}

impl Timing {
    pub(super) fn of(host_id: &HostId) -> Self {
        Self { offset: offset(host_id), eager_until: None }
    }

    /// Records a delivery.
    pub(super) fn delivered(&mut self, now: SystemTime) {
        // The values of the next minute come from many hosts at once.
        self.eager_until.get_or_insert(now + EAGER.min(MINUTE - in_minute(now)));
    }

    /// How long values that come `now` wait: until the host's second of this minute, or not at all if that has passed.
    pub(super) fn wait(&self, now: SystemTime) -> Duration {
        // A clock that was set back must not extend it.
        let is_soon = |until: SystemTime| until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= EAGER);
        if self.eager_until.is_none_or(is_soon) { Duration::ZERO } else { self.offset.saturating_sub(in_minute(now)) }
    }
}

/// This host's second of the minute.
fn offset(host_id: &HostId) -> Duration {
    let hash = Sha256::digest(host_id.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % SPREAD.as_millis() as u64)
}

/// The time since the beginning of the minute.
fn in_minute(now: SystemTime) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis((since_1970.as_millis() % MINUTE.as_millis()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_second_never_changes_and_hosts_spread_over_twenty_seconds() {
        let of = |text: &str| offset(&HostId::new(text).unwrap());
        assert_eq!(of("4Hkc5RVYYB4"), Duration::from_millis(4_095));
        let all: Vec<Duration> = (0..200).map(|n| of(&format!("host{n}"))).collect();
        assert!(all.iter().all(|offset| *offset < SPREAD));
        assert!((0..4).all(|part| all.iter().any(|offset| offset.as_secs() / 5 == part)));
    }

    /// Half a second into a minute.
    fn early() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_500)
    }

    #[tokio::test(start_paused = true)]
    async fn first_values_of_a_source_are_posted_at_once_with_what_waits_and_the_next_minute_waits_again() {
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        timing.delivered(early() - MINUTE);
        let queued = Queued::default();
        let (mut own, mut other) = (queued.seen(), queued.seen());
        let waited = async |seen: &mut Seen| {
            let before = tokio::time::Instant::now();
            seen.changed().await;
            seen.wait(&timing, early).await;
            before.elapsed()
        };
        queued.minute();
        let later = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            queued.first_values();
        };
        let ((), own_wait, other_wait) = tokio::join!(later, waited(&mut own), waited(&mut other));
        assert_eq!([own_wait, other_wait], [Duration::from_secs(3); 2]);
        queued.minute();
        assert_eq!(waited(&mut own).await, Duration::from_millis(14_500));
    }

    #[test]
    fn a_late_minute_is_posted_at_once_and_an_early_one_at_the_hosts_second() {
        let at = |milliseconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + milliseconds);
        let mut timing = Timing { offset: Duration::from_millis(7_500), eager_until: None };
        timing.delivered(at(0) - EAGER);
        assert_eq!(timing.wait(at(250)), Duration::from_millis(7_250));
        assert_eq!(timing.wait(at(7_500)), Duration::ZERO);
        assert_eq!(timing.wait(at(59_999)), Duration::ZERO);
    }

    #[test]
    fn values_soon_after_the_first_ones_are_posted_at_once() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        assert_eq!(timing.wait(at(1)), Duration::ZERO, "the first ones");
        timing.delivered(at(1));
        assert_eq!(timing.wait(at(3)), Duration::ZERO, "a plugin's");
        timing.delivered(at(3));
        assert_eq!(timing.wait(at(61)), Duration::from_secs(14), "the next minute's");
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        timing.delivered(at(58));
        assert_eq!(timing.wait(at(60)), Duration::from_secs(15), "the next minute is soon");
        assert_eq!(timing.wait(at(58) - Duration::from_secs(7_197)), Duration::from_secs(14), "the clock was set back");
    }
}
