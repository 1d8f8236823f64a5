//! The ledger: where every point went, and the settlements that record it. A point is a sample together with its time.
//!
//! Pure bookkeeping: it reads and writes no file.

use std::fmt;

use wasaba_core::sample::Sample;

/// Where every point went, since the file was made. Always `collected = delivered + queued +` the sum of all losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Points that [`Spool::keep`](super::Spool::keep) took; the same name of the same host and time twice in one call is one point.
    pub collected: u64,
    /// Points that Mackerel accepted.
    pub delivered: u64,
    /// Points still to be delivered, in the file or in memory.
    pub queued: u64,
    /// Points dropped because they were too old.
    pub expired: u64,
    /// Points dropped because Mackerel refused them.
    pub rejected: u64,
    /// Points dropped because the queue, in the file or in memory, was full.
    pub overflowed: u64,
    /// Points that were in a part of the file that was damaged.
    pub damaged: u64,
    /// Points of this host that were queued when it became another host on Mackerel.
    pub of_another_host: u64,
    /// Points that were only in memory when the agent stopped.
    pub lost: u64,
    /// Points dropped because they were dated ahead of Mackerel's time.
    pub misdated: u64,
    /// Points dropped because their name and time were collected twice, as after this machine's clock is set back.
    pub repeated: u64,
}

/// Why points are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    Expired,
    Overflowed,
    Damaged,
    OfAnotherHost,
    Lost,
    Misdated,
    Repeated,
}

impl fmt::Display for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collected, delivered, queued, expired, rejected, .. } = self;
        write!(
            formatter,
            "{collected} collected = {delivered} delivered + {queued} queued + {expired} expired + {rejected} rejected"
        )?;
        let rest = [
            (self.overflowed, "dropped from a full queue"),
            (self.damaged, "in a damaged file"),
            (self.of_another_host, "of another host"),
            (self.lost, "lost in memory"),
            (self.misdated, "misdated"),
            (self.repeated, "collected twice"),
        ];
        rest.iter()
            .filter(|(points, _)| *points > 0)
            .try_for_each(|(points, why)| write!(formatter, " + {points} {why}"))
    }
}

impl Ledger {
    /// The points that were dropped, each with the reason.
    #[must_use]
    pub fn losses(&self) -> [(&'static str, u64); 8] {
        [
            ("expired", self.expired),
            ("rejected", self.rejected),
            ("overflowed", self.overflowed),
            ("damaged", self.damaged),
            ("of_another_host", self.of_another_host),
            ("lost", self.lost),
            ("misdated", self.misdated),
            ("repeated", self.repeated),
        ]
    }

    /// Whether every point is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.collected == self.delivered + self.queued + self.losses().iter().map(|(_, points)| points).sum::<u64>()
    }

    /// Queued points are dropped.
    pub(super) fn lose(&mut self, points: u64, why: Loss) {
        let lost = match why {
            Loss::Expired => &mut self.expired,
            Loss::Overflowed => &mut self.overflowed,
            Loss::Damaged => &mut self.damaged,
            Loss::OfAnotherHost => &mut self.of_another_host,
            Loss::Lost => &mut self.lost,
            Loss::Misdated => &mut self.misdated,
            Loss::Repeated => &mut self.repeated,
        };
        *lost += points;
        self.queued = self.queued.saturating_sub(points);
    }

    pub(super) fn collect(&mut self, points: u64) {
        self.collected += points;
        self.queued += points;
    }

    pub(super) fn settle(&mut self, delivered: u64, rejected: u64) {
        self.delivered += delivered;
        self.rejected += rejected;
        self.queued = self.queued.saturating_sub(delivered + rejected);
    }

    /// Points are queued again of which it is not known any more that they were settled.
    pub(super) fn requeue(&mut self, points: u64) {
        self.queued += points;
        self.delivered = self.delivered.saturating_sub(points);
        let losses = self.losses().iter().map(|(_, points)| points).sum::<u64>();
        self.collected = self.delivered + self.queued + losses;
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let (ours, others) = (self.numbers(), other.numbers());
        let mut sums = [0; FIELDS];
        for ((sum, ours), others) in sums.iter_mut().zip(ours).zip(others) {
            *sum = ours.saturating_add(others);
        }
        Self::of_numbers(sums)
    }

    /// In the order in which they are stored; new ones come last.
    fn fields(&mut self) -> [&mut u64; FIELDS] {
        let Self {
            collected,
            delivered,
            queued,
            expired,
            rejected,
            overflowed,
            damaged,
            of_another_host,
            lost,
            misdated,
            repeated,
        } = self;
        [
            collected,
            delivered,
            queued,
            expired,
            rejected,
            overflowed,
            damaged,
            of_another_host,
            lost,
            misdated,
            repeated,
        ]
    }

    pub(super) fn numbers(mut self) -> [u64; FIELDS] {
        self.fields().map(|field| *field)
    }

    pub(super) fn of_numbers(numbers: [u64; FIELDS]) -> Self {
        let mut ledger = Self::default();
        ledger.fields().into_iter().zip(numbers).for_each(|(field, number)| *field = number);
        ledger
    }
}

pub(super) const FIELDS: usize = 11;

/// Which samples of the minute at `time` leave the queue, and why. A sample whose value has changed since (the minute was
/// kept again meanwhile) stays queued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settlement {
    /// The minute that they belong to, in seconds since 1970.
    pub time: i64,
    /// Mackerel accepted them.
    pub delivered: Vec<Sample>,
    /// Mackerel refused them for good.
    pub rejected: Vec<Sample>,
}

impl Settlement {
    /// Removes its own samples from `samples`, updates the ledger, and keeps those that it did not find.
    pub(super) fn apply(&mut self, samples: &mut Vec<Sample>, ledger: &mut Ledger) {
        let delivered = remove(samples, &mut self.delivered);
        let rejected = remove(samples, &mut self.rejected);
        ledger.settle(delivered, rejected);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.rejected.is_empty()
    }

    pub(super) fn points(&self) -> u64 {
        (self.delivered.len() + self.rejected.len()) as u64
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.delivered.iter().chain(&self.rejected)
    }
}

/// Removes the samples that both lists have in common from both; `samples` is sorted by host and name. Returns how many.
fn remove(samples: &mut Vec<Sample>, settled: &mut Vec<Sample>) -> u64 {
    let before = samples.len();
    settled.sort_by(|a, b| a.key().cmp(&b.key()));
    let find = |list: &[Sample], sample: &Sample| {
        list.binary_search_by(|other| other.key().cmp(&sample.key())).ok().and_then(|at| list.get(at)) == Some(sample)
    };
    let missing: Vec<Sample> = settled.extract_if(.., |sample| !find(samples, sample)).collect();
    samples.retain(|sample| !find(settled, sample));
    *settled = missing;
    (before - samples.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_names_only_the_rarer_losses_that_there_were_and_comes_back_from_its_numbers() {
        let mut ledger = Ledger::default();
        ledger.collect(10);
        ledger.settle(3, 1);
        assert_eq!(ledger.to_string(), "10 collected = 3 delivered + 6 queued + 0 expired + 1 rejected");
        let dropped = [Loss::Expired, Loss::Overflowed, Loss::Damaged, Loss::OfAnotherHost, Loss::Lost];
        let all = [dropped.as_slice(), &[Loss::Misdated]].concat();
        all.iter().for_each(|why| ledger.lose(1, *why));
        assert_eq!(
            ledger.to_string(),
            "10 collected = 3 delivered + 0 queued + 1 expired + 1 rejected + 1 dropped from a full queue + 1 in a damaged file + \
             1 of another host + 1 lost in memory + 1 misdated"
        );
        assert!(ledger.is_balanced());
        assert_eq!(Ledger::of_numbers(ledger.numbers()), ledger);
        assert_eq!(ledger.plus(ledger).numbers(), ledger.numbers().map(|number| 2 * number));
        ledger.collected += 1;
        assert!(!ledger.is_balanced());
    }
}
