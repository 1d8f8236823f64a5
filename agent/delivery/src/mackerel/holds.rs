//! Holds: what is refused, though other things are accepted, is left alone for a while.
//!
//! Pure: time is a parameter, and it sends nothing. What Mackerel itself refuses is tried once an hour. What something on the way does
//! not let pass may have had bad luck at first: it is tried soon, and later with longer and longer waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::answer::ApiError;

const FIRST: Duration = Duration::from_mins(2);
const LONGEST: Duration = Duration::from_hours(1);
/// The longest wait of what may only have failed with everything else.
const LONGEST_UNPROVEN: Duration = Duration::from_mins(5);

/// What is held, by its name or whatever else tells it apart.
#[derive(Clone, Debug)]
pub(super) struct Holds<K>(BTreeMap<K, Hold>);

#[derive(Clone, Debug)]
struct Hold {
    until: Instant,
    wait: Duration,
    why: ApiError,
    /// Something else was accepted when it was refused last.
    is_proven: bool,
    /// How often it was refused since it was held first.
    tries: u32,
}

impl<K> Default for Holds<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Holds<K> {
    /// Holds this, which was refused at `now`. Returns whether it was not held.
    pub(super) fn hold(&mut self, key: K, why: &ApiError, now: Instant) -> bool {
        self.insert(key, why, now, true)
    }

    /// As [`Holds::hold`], if nothing else was accepted: it is tried again as soon as something is.
    pub(super) fn hold_unproven(&mut self, key: K, why: &ApiError, now: Instant) {
        self.insert(key, why, now, false);
    }

    fn insert(&mut self, key: K, why: &ApiError, now: Instant, is_proven: bool) -> bool {
        let earlier = self.0.get(&key).filter(|hold| !hold.why.is_final());
        let tries = earlier.map_or(0, |hold| hold.tries) + 1;
        let wait = match earlier {
            _ if why.is_final() && is_proven => LONGEST,
            Some(hold) => (hold.wait * 2).min(if is_proven { LONGEST } else { LONGEST_UNPROVEN }),
            None => FIRST,
        };
        self.0.insert(key, Hold { until: now + wait, wait, why: why.clone(), is_proven, tries }).is_none()
    }

    pub(super) fn release(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Releases everything else. What Mackerel itself refuses and is not due may be waited for.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&K, bool) -> bool, now: Instant) {
        self.0.retain(|key, hold| is_kept(key, hold.why.is_final() && now < hold.until));
    }

    /// Releases what may only have failed with everything else.
    pub(super) fn release_unproven(&mut self) {
        self.0.retain(|_, hold| hold.is_proven);
    }

    /// Whether of everything that is held something else was accepted when it was refused.
    pub(super) fn are_proven(&self) -> bool {
        self.0.values().all(|hold| hold.is_proven)
    }

    /// Whether it is held after at least so many tries.
    pub(super) fn has_failed(&self, key: &K, tries: u32) -> bool {
        self.0.get(key).is_some_and(|hold| hold.tries >= tries)
    }

    /// Releases this, unless Mackerel itself refuses it.
    pub(super) fn release_open(&mut self, key: &K) {
        self.0.retain(|held, hold| hold.why.is_final() || held != key);
    }

    /// Releases what is due, unless it is waiting: it may not exist any more.
    pub(super) fn release_due(&mut self, is_waiting: impl Fn(&K) -> bool, now: Instant) {
        self.0.retain(|key, hold| now < hold.until || is_waiting(key));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Whether it is held and to be tried again.
    pub(super) fn is_due(&self, key: &K, now: Instant) -> bool {
        self.0.get(key).is_some_and(|hold| hold.until <= now)
    }

    /// As [`Holds::is_due`], after something else was accepted.
    pub(super) fn is_due_beside_accepted(&self, key: &K, now: Instant) -> bool {
        self.0.get(key).is_some_and(|hold| hold.until <= now || !hold.is_proven)
    }

    /// When the next is due, if any is held.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|hold| hold.until).min()
    }

    /// Holds what is due for as long again.
    pub(super) fn extend_due(&mut self, now: Instant) {
        self.0.values_mut().filter(|hold| hold.until <= now).for_each(|hold| hold.until = now + hold.wait);
    }

    /// What stays queued, since it may not be Mackerel that refuses it: each with the reason, and when it is tried again.
    pub(super) fn queued(&self) -> impl Iterator<Item = (&K, &ApiError, Instant)> {
        self.all().filter(|(_, why, _)| !why.is_final())
    }

    /// What Mackerel itself refuses, as [`Holds::queued`].
    pub(super) fn refused(&self) -> impl Iterator<Item = (&K, &ApiError, Instant)> {
        self.all().filter(|(_, why, _)| why.is_final())
    }

    /// Everything that is held: each with the reason, and when it is tried again.
    pub(super) fn all(&self) -> impl Iterator<Item = (&K, &ApiError, Instant)> {
        self.0.iter().map(|(key, hold)| (key, &hold.why, hold.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};

    fn refused(by: Author) -> ApiError {
        ApiError::of(ErrorResponse { status: 400, by, message: "no".to_owned(), retry_after: None })
    }

    fn gateway() -> ApiError {
        refused(Author::Unknown("gateway".to_owned()))
    }

    #[test]
    fn what_mackerel_refuses_is_held_for_an_hour_each_time() {
        let (mut now, mut holds) = (Instant::now(), Holds::default());
        for is_new in [true, false, false] {
            assert_eq!(holds.hold("a", &refused(Author::Mackerel), now), is_new);
            assert_eq!(holds.next(), Some(now + LONGEST));
            assert!(!holds.is_due(&"a", now) && holds.is_due(&"a", now + LONGEST));
            now += LONGEST;
        }
        holds.release_open(&"a");
        holds.release_due(|_| true, now + LONGEST);
        assert!(holds.contains(&"a") && holds.queued().next().is_none() && holds.refused().count() == 1);
        holds.release_due(|_| false, now.checked_sub(FIRST).unwrap());
        assert!(holds.contains(&"a"), "it is not due");
        holds.release_due(|_| false, now + LONGEST);
        assert!(!holds.contains(&"a"));
    }

    #[test]
    fn what_something_on_the_way_refuses_is_held_longer_each_time_up_to_an_hour() {
        let (mut now, mut holds) = (Instant::now(), Holds::default());
        let mut waits = Vec::new();
        for _ in 0..7 {
            holds.hold("a", &gateway(), now);
            let wait = holds.next().unwrap() - now;
            waits.push(wait.as_secs() / 60);
            now += wait;
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        holds.extend_due(now);
        assert_eq!(holds.next(), Some(now + LONGEST));
        assert_eq!(holds.queued().count(), 1);
        holds.release_open(&"b");
        holds.release_due(|_| false, now);
        assert!(holds.contains(&"a"));
        holds.release_open(&"a");
        assert!(!holds.contains(&"a"));
        holds.hold("a", &gateway(), now);
        assert_eq!(holds.next(), Some(now + FIRST), "it begins again");
        holds.release_due(|_| false, now + FIRST);
        assert!(!holds.contains(&"a"));
    }

    #[test]
    fn what_fails_with_everything_else_is_held_for_five_minutes_at_most_and_only_until_something_is_accepted() {
        let (mut now, mut holds) = (Instant::now(), Holds::default());
        let mut waits = Vec::new();
        for _ in 0..5 {
            holds.hold_unproven("a", &gateway(), now);
            assert!(!holds.is_due(&"a", now) && holds.is_due_beside_accepted(&"a", now));
            let wait = holds.next().unwrap() - now;
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [120, 240, 300, 300, 300]);
        holds.hold("a", &gateway(), now);
        assert!(
            !holds.is_due_beside_accepted(&"a", now) && holds.is_due_beside_accepted(&"a", now + 2 * LONGEST_UNPROVEN)
        );
    }
}
