//! The ledger: where every point went, and the settlements that record it. A point is a sample together with its time.
//!
//! Pure bookkeeping: it reads and writes no file.

use std::fmt;

use serde::{Deserialize, Serialize};
use wasaba_core::sample::Sample;

/// Where every point went, since the file was made. Always `collected = delivered + queued + expired + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Points that [`Spool::keep`](super::Spool::keep) took; the same name of the same host twice in a minute is one point.
    pub collected: u64,
    /// Points that Mackerel accepted.
    pub delivered: u64,
    /// Points still to be delivered, in the file or in memory.
    pub queued: u64,
    /// Points dropped because they were too old, the queue was full, or the file was damaged.
    pub expired: u64,
    /// Points dropped because Mackerel refused them.
    pub rejected: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collected, delivered, queued, expired, rejected } = self;
        write!(
            formatter,
            "{collected} collected = {delivered} delivered + {queued} queued + {expired} expired + {rejected} rejected"
        )
    }
}

impl Ledger {
    pub(super) fn expire(&mut self, points: u64) {
        self.queued -= points;
        self.expired += points;
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            collected: self.collected + other.collected,
            delivered: self.delivered + other.delivered,
            queued: self.queued + other.queued,
            expired: self.expired + other.expired,
            rejected: self.rejected + other.rejected,
        }
    }
}

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
        ledger.delivered += delivered;
        ledger.rejected += rejected;
        ledger.queued -= delivered + rejected;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.rejected.is_empty()
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
