//! The sieve: after a request failed, whatever the reason, the next one has another part of what waits.
//!
//! Something in the request may be what a server fails over or a firewall does not let pass, with any status or none. As long as
//! everything fails, parts cost no request more; once one is accepted, the rest is worth a search ([`halving`](super::halving)).
//!
//! Pure: it sends nothing.

use super::halving::GOLDEN_RATIO;

/// Which part is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sieve {
    /// Requests that failed since everything was accepted.
    failures: u32,
    /// A part was accepted since.
    is_accepting: bool,
}

/// The smallest parts are a 64th.
const MOST_HALVINGS: u32 = 6;

impl Sieve {
    /// Records that a request failed, of which a part may be accepted.
    pub(super) fn fail(&mut self) {
        *self = Self { failures: self.failures.saturating_add(1), is_accepting: false };
    }

    /// Records that a request was accepted.
    pub(super) fn accept(&mut self) {
        self.is_accepting = self.is_open();
    }

    /// Records that everything was accepted but what is known to be refused.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether something failed since everything was accepted.
    pub(super) fn is_open(self) -> bool {
        self.failures > 0
    }

    /// Whether a part was accepted of what failed as a whole.
    pub(super) fn is_accepting(self) -> bool {
        self.is_accepting
    }

    /// Of so many things in a fixed order, those of the next part, of which each is in one; `None` for all. A part is a row of neighbours,
    /// which have more in common than others; every other part is a single thing, since of many bad ones one is in every large part.
    pub(super) fn part(self, things: usize) -> Option<impl Fn(usize) -> bool> {
        if !self.is_open() || self.is_accepting || things < 2 {
            return None;
        }
        let singles = if self.failures < 3 { 0 } else { (self.failures - 1) / 2 };
        // The halves, then the quarters, and so on.
        let number = self.failures - singles + 1;
        let halvings = number.ilog2().min(MOST_HALVINGS);
        let (index, parts) = if singles > 0 && !self.failures.is_multiple_of(2) {
            (((f64::from(singles) * GOLDEN_RATIO).fract() * things as f64) as usize, things)
        } else {
            ((number - (1 << halvings)) as usize, (1 << halvings).min(things))
        };
        Some(move |place| place * parts / things == index % parts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn part(sieve: Sieve, things: usize) -> Vec<usize> {
        (0..things).filter(|place| sieve.part(things).is_none_or(|part| part(*place))).collect()
    }

    #[test]
    fn after_failures_come_the_halves_then_the_quarters_and_in_between_single_things() {
        let mut sieve = Sieve::default();
        assert_eq!(part(sieve, 4), [0, 1, 2, 3]);
        let mut parts = Vec::new();
        for _ in 0..10 {
            sieve.fail();
            parts.push(part(sieve, 8));
        }
        let expected = [
            vec![0, 1, 2, 3],
            vec![4, 5, 6, 7],
            vec![4],
            vec![0, 1],
            vec![1],
            vec![2, 3],
            vec![6],
            vec![4, 5],
            vec![3],
            vec![6, 7],
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_few_good_things_among_many_bad_ones_are_found_after_some_tries() {
        let rows = [(12, 4), (44, 36), (60, 30), (336, 36)].map(|(things, good)| (things, good, true));
        let mixed = [(12, 4), (24, 6), (60, 30), (300, 100)].map(|(things, good)| (things, good, false));
        for (things, good, is_row) in rows.into_iter().chain(mixed) {
            let mut sieve = Sieve::default();
            let is_good = |place: &usize| if is_row { *place < good } else { place % (things / good) == 1 };
            let tries = (1..100).find(|_| {
                sieve.fail();
                part(sieve, things).iter().all(is_good)
            });
            assert!(tries.unwrap() <= 12, "{good} of {things} after {tries:?}");
        }
    }

    #[test]
    fn no_part_is_empty_and_every_thing_has_its_turn_however_long_everything_fails() {
        for things in [1, 2, 3, 5, 64, 65, 1_000] {
            let (mut sieve, mut seen) = (Sieve::default(), BTreeSet::new());
            for _ in 0..1_000 {
                sieve.fail();
                let part = part(sieve, things);
                assert!(!part.is_empty(), "{things}");
                if sieve.failures > 500 {
                    seen.extend(part);
                }
            }
            assert_eq!(seen.len(), things);
        }
    }

    #[test]
    fn once_a_part_is_accepted_everything_is_next() {
        let mut sieve = Sieve::default();
        sieve.accept();
        assert!(!sieve.is_accepting(), "nothing had failed");
        sieve.fail();
        sieve.accept();
        assert!(sieve.is_accepting() && sieve.part(10).is_none());
        sieve.fail();
        assert_eq!(part(sieve, 2), [1], "the next part, not the same again");
        sieve.clear();
        assert_eq!(sieve, Sieve::default());
    }
}
