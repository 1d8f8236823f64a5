//! The size of the next request: what a slow link, a proxy or Mackerel itself refuses of a large request, it may take of a small
//! one.
//!
//! Pure: time is a parameter, and it sends nothing.

use std::time::{Duration, Instant};

/// A size that was too large is tried again after this time: the limit may have been another server's, or raised.
const LIMITED: Duration = Duration::from_hours(1);

/// About 500 kB of JSON. Mackerel documents no limit; a day of a small host takes nine such requests.
pub(super) const MOST_POINTS: usize = 5_000;

/// About 5 kB of JSON: a request of this size fails for another reason.
const FEWEST_POINTS: usize = 50;

/// How many points the next request may have. It begins with the newest minute alone, since that is what people look at, grows
/// with each success, and shrinks with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    most: usize,
    is_newest_minute_alone: bool,
    /// What is known not to be too large, and since when.
    limit: Option<(usize, Instant)>,
}

impl Default for Size {
    fn default() -> Self {
        Self { most: MOST_POINTS, is_newest_minute_alone: true, limit: None }
    }
}

impl Size {
    /// Whole minutes of up to this many points are sent together, but at least one minute.
    pub(super) fn minutes_up_to(self) -> usize {
        if self.is_newest_minute_alone { 1 } else { self.most }
    }

    /// A longer minute takes several requests.
    pub(super) fn points(self) -> usize {
        self.most
    }

    /// Records that a request with so many points was accepted.
    pub(super) fn grow(&mut self, points: usize, now: Instant) {
        let limit = match self.limit {
            Some((limit, since)) if now.saturating_duration_since(since) < LIMITED => limit,
            _ => MOST_POINTS,
        };
        let basis = if self.is_newest_minute_alone { points } else { self.most };
        self.most = (basis * 2).clamp(FEWEST_POINTS.min(limit), limit);
        self.is_newest_minute_alone = false;
    }

    /// Records that a request with so many points failed.
    pub(super) fn shrink(&mut self, points: usize) {
        let fewest = FEWEST_POINTS.min(self.most);
        self.most = (points / 2).clamp(fewest, self.most.max(fewest));
        self.is_newest_minute_alone = true;
    }

    /// Records that a request with so many points is too large, so that none of that size is made again soon. Returns whether smaller ones
    /// can be.
    pub(super) fn is_limited_by(&mut self, points: usize, now: Instant) -> bool {
        (self.most, self.is_newest_minute_alone) = ((points / 2).max(1), true);
        self.limit = Some((self.most, now));
        points > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_the_newest_minute_and_doubles_up_to_the_largest_request() {
        let (now, mut size) = (Instant::now(), Size::default());
        let mut sizes = Vec::new();
        for _ in 0..7 {
            sizes.push(size.minutes_up_to());
            size.grow(200, now);
        }
        assert_eq!(sizes, [1, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }

    #[test]
    fn after_a_failure_it_begins_again_with_half_down_to_a_few_points() {
        let (now, mut size) = (Instant::now(), Size::default());
        (0..10).for_each(|_| size.grow(200, now));
        let mut failed = 5_000;
        let mut sizes = Vec::new();
        for _ in 0..8 {
            size.shrink(failed);
            assert_eq!(size.minutes_up_to(), 1);
            failed = size.points();
            sizes.push(failed);
        }
        assert_eq!(sizes, [2_500, 1_250, 625, 312, 156, 78, 50, 50]);
        size.grow(50, now);
        assert_eq!((size.minutes_up_to(), size.points()), (100, 100));
    }

    #[test]
    fn what_was_too_large_once_is_tried_again_only_an_hour_later_however_small_it_was() {
        let (now, mut size) = (Instant::now(), Size::default());
        let post = |size: &mut Size, now| {
            let is_too_large = size.points() > 20;
            if is_too_large {
                assert!(size.is_limited_by(size.points(), now))
            } else {
                size.grow(size.points(), now)
            }
            is_too_large
        };
        let refused = (0..40).filter(|_| post(&mut size, now)).count();
        assert_eq!((refused, size.points()), (8, 19));
        let refused = (0..40).filter(|_| post(&mut size, now + LIMITED)).count();
        assert_eq!((refused, size.points()), (2, 12));
        assert!(!size.is_limited_by(1, now), "that was not the size");
    }

    #[test]
    fn the_failure_of_a_small_request_does_not_make_the_next_one_larger() {
        let mut size = Size::default();
        size.shrink(60);
        size.shrink(4_000);
        assert_eq!(size.points(), 50);
    }
}
