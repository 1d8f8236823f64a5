//! The pending part of the queue, which is not in the file yet: one minute between two commits, or up to an hour while the
//! disk fails.
//!
//! Everything enters the spool through here, so a failing disk takes the same path with a longer stay. It is bounded, and
//! has its own [`Ledger`], which the next commit adds to the one in the file.

use std::collections::BTreeMap;

use wasaba_core::sample::Sample;

use super::{Ledger, Minute, Settlement};

/// How many minutes stay in memory while nothing can be written: an hour, by when an operator will have looked.
pub(super) const MOST_MINUTES: usize = 60;

/// The second bound, for hosts with many metrics: about 1.5 MB at 75 bytes a point.
pub(super) const MOST_POINTS: u64 = 20_000;

#[derive(Default)]
pub(super) struct Pending {
    pub(super) minutes: BTreeMap<i64, Vec<Sample>>,
    /// For minutes that are in the file.
    pub(super) settlements: Vec<Settlement>,
    pub(super) ledger: Ledger,
}

impl Pending {
    pub(super) fn keep(&mut self, minute: Minute) {
        let known = self.minutes.entry(minute.time).or_default();
        let added = merge(known, minute.samples);
        self.ledger.collected += added;
        self.ledger.queued += added;
    }

    /// Settles the samples that are pending; the rest waits for the next commit.
    pub(super) fn settle(&mut self, mut settlement: Settlement) {
        if let Some(samples) = self.minutes.get_mut(&settlement.time) {
            settlement.apply(samples, &mut self.ledger);
            if samples.is_empty() {
                self.minutes.remove(&settlement.time);
            }
        }
        if !settlement.is_empty() {
            self.settlements.push(settlement);
        }
    }

    pub(super) fn minutes(&self) -> impl Iterator<Item = Minute> {
        self.minutes.iter().map(|(&time, samples)| Minute { time, samples: samples.clone() })
    }

    /// Drops minutes older than `horizon` and, oldest first, those beyond the bounds. Returns the number of points.
    pub(super) fn expire(&mut self, horizon: i64) -> u64 {
        let mut dropped = 0;
        loop {
            let over = self.minutes.len() > MOST_MINUTES || self.ledger.queued > MOST_POINTS;
            let Some(oldest) = self.minutes.first_entry().filter(|oldest| over || *oldest.key() < horizon) else {
                break;
            };
            let points = oldest.remove().len() as u64;
            self.ledger.expire(points);
            dropped += points;
        }
        dropped
    }
}

/// Adds `samples` to those of the same minute; of two values of one host and name the later wins. Returns how many are new.
pub(super) fn merge(known: &mut Vec<Sample>, samples: Vec<Sample>) -> u64 {
    let before = known.len();
    known.extend(samples);
    // The later of two must stay, and a stable sort of the reversed list puts it first.
    known.reverse();
    known.sort_by(|a, b| a.key().cmp(&b.key()));
    known.dedup_by(|later, first| later.key() == first.key());
    known.len().saturating_sub(before) as u64
}
