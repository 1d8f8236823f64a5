//! A batch: what waits for the next commit. That is what arrived since the last one, or up to an hour while the disk fails.
//!
//! Everything enters the spool through here, so a failing disk takes the same path with a longer stay. It is bounded, and
//! has its own [`Ledger`], which the commit adds to the one in the file.

use std::collections::{BTreeMap, BTreeSet};

use wasaba_core::sample::{MetricName, Sample};

use super::ledger::Loss;
use super::plan::outdated;
use super::{Ledger, Settlement};

/// How many minutes stay in memory while nothing can be written: an hour, by when an operator will have looked.
pub(super) const MOST_MINUTES: usize = 60;

/// The second bound, for hosts with many metrics: an hour of 3,000, whose names are of usual length.
pub(super) const MOST_BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// What the heap needs around a name.
const AROUND_NAME: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// By time, each sorted by host and name.
    pub(super) minutes: BTreeMap<i64, Vec<Sample>>,
    /// For samples that are in the file, or in the batch before this one.
    pub(super) settlements: Vec<Settlement>,
    /// What was settled before it was written. The file remembers it for a while, as all that was settled lately.
    pub(super) done: BTreeMap<i64, Vec<Sample>>,
    /// How many points of each time were dropped since they were collected twice. The ledger has them.
    pub(super) repeated: BTreeMap<i64, u64>,
    /// The name of one of them, for the log.
    pub(super) example: Option<MetricName>,
    pub(super) ledger: Ledger,
    /// The id of the host that these minutes belong to, if it is news.
    pub(super) owner: Option<String>,
    /// Whether what was kept before these minutes belongs to another host.
    pub(super) is_of_another_host: bool,
    /// The newest time that Mackerel has told, in seconds since 1970, if something is outdated by it.
    pub(super) mackerel_time: Option<i64>,
}

impl Batch {
    /// Takes what was collected at once. An earlier value of one host, name and time is dropped.
    pub(super) fn keep(&mut self, time: i64, samples: Vec<Sample>) {
        let known = self.minutes.entry(time).or_default();
        let count = samples.len() as u64;
        let Merged { added, repeated } = merge(known, samples);
        if known.is_empty() {
            self.minutes.remove(&time);
        }
        self.ledger.collect(added);
        self.repeat(time, count - added, repeated);
    }

    /// Counts points that were collected twice, of which one value is dropped; `example` is the name of one of them.
    pub(super) fn repeat(&mut self, time: i64, points: u64, example: Option<MetricName>) {
        self.ledger.collect(points);
        self.drop_repeated(time, points, example);
    }

    fn drop_repeated(&mut self, time: i64, points: u64, example: Option<MetricName>) {
        self.example = self.example.take().or(example);
        if points > 0 {
            self.ledger.lose(points, Loss::Repeated);
            *self.repeated.entry(time).or_default() += points;
        }
    }

    /// Settles the samples that are in this batch; the rest waits with it.
    pub(super) fn settle(&mut self, mut settlement: Settlement) {
        if let Some(samples) = self.minutes.get_mut(&settlement.time) {
            let before = settlement.clone();
            settlement.apply(samples, &mut self.ledger);
            let done = before.samples().filter(|sample| !settlement.samples().any(|rest| rest == *sample));
            merge(self.done.entry(settlement.time).or_default(), done.cloned().collect());
            if samples.is_empty() {
                self.minutes.remove(&settlement.time);
            }
        }
        if !settlement.is_empty() {
            self.settlements.push(settlement);
        }
    }

    /// What it says of points that are elsewhere.
    pub(super) fn without_minutes(&self) -> Self {
        Self {
            settlements: self.settlements.clone(),
            done: self.done.clone(),
            is_of_another_host: self.is_of_another_host,
            ..Self::default()
        }
    }

    /// From now on this is another host: drops what waits of this host.
    pub(super) fn change_owner(&mut self, owner: &str, is_another: bool) -> u64 {
        self.owner = Some(owner.to_owned());
        self.is_of_another_host |= is_another;
        if is_another { self.drop_own() } else { 0 }
    }

    fn drop_own(&mut self) -> u64 {
        let mut dropped = 0;
        self.done.clear();
        self.minutes.retain(|_, samples| {
            let before = samples.len();
            samples.retain(|sample| sample.host().is_some());
            dropped += (before - samples.len()) as u64;
            !samples.is_empty()
        });
        self.ledger.lose(dropped, Loss::OfAnotherHost);
        dropped
    }

    /// Drops what is outdated by Mackerel's clock. What is in the file follows with the commit.
    pub(super) fn expire(&mut self, mackerel_time: i64) -> BTreeMap<Loss, u64> {
        self.mackerel_time = Some(mackerel_time);
        let mut dropped = BTreeMap::new();
        self.minutes.retain(|time, samples| match outdated(*time, mackerel_time) {
            Some(why) => {
                *dropped.entry(why).or_default() += samples.len() as u64;
                false
            }
            None => true,
        });
        dropped.iter().for_each(|(why, points)| self.ledger.lose(*points, *why));
        dropped
    }

    /// Puts back a batch that could not be written, in front of this one.
    pub(super) fn put_back(&mut self, earlier: Self) {
        let later = std::mem::replace(self, earlier);
        if later.is_of_another_host {
            self.drop_own();
        }
        self.ledger = self.ledger.plus(later.ledger);
        for (time, samples) in later.minutes {
            let count = samples.len() as u64;
            let Merged { added, repeated } = merge(self.minutes.entry(time).or_default(), samples);
            self.drop_repeated(time, count - added, repeated);
        }
        for (time, samples) in later.done {
            merge(self.done.entry(time).or_default(), samples);
        }
        later.repeated.into_iter().for_each(|(time, points)| *self.repeated.entry(time).or_default() += points);
        self.example = self.example.take().or(later.example);
        later.settlements.into_iter().for_each(|settlement| self.settle(settlement));
        self.owner = later.owner.or(self.owner.take());
        self.is_of_another_host |= later.is_of_another_host;
        self.mackerel_time = later.mackerel_time.or(self.mackerel_time);
    }

    /// Drops the oldest minutes beyond the bounds. Returns the number of points.
    pub(super) fn bound(&mut self) -> u64 {
        let mut dropped = 0;
        let mut minutes = self.minutes.keys().map(|time| time.div_euclid(60)).collect::<BTreeSet<_>>();
        let mut bytes = self.minutes.values().map(|samples| held(samples)).sum::<u64>();
        while minutes.len() > MOST_MINUTES || bytes > MOST_BATCH_BYTES {
            let Some((time, samples)) = self.minutes.pop_first() else { break };
            let minute = time.div_euclid(60);
            if self.minutes.keys().next().is_none_or(|next| next.div_euclid(60) != minute) {
                minutes.remove(&minute);
            }
            bytes = bytes.saturating_sub(held(&samples));
            dropped += samples.len() as u64;
        }
        self.ledger.lose(dropped, Loss::Overflowed);
        dropped
    }

    /// Takes out of `samples`, which are of this time, what is settled here.
    pub(super) fn hide_settled(&self, time: i64, samples: &mut Vec<Sample>) {
        for settlement in self.settlements.iter().filter(|settlement| settlement.time == time) {
            settlement.clone().apply(samples, &mut Ledger::default());
        }
        if let Some(done) = self.done.get(&time) {
            samples.retain(|sample| done.binary_search_by(|done| done.key().cmp(&sample.key())).is_err());
        }
    }

    /// Forgets what was settled before this time, unless the file, whose rows end at `newest`, may have an earlier value of it.
    pub(super) fn forget_done(&mut self, before: i64, newest: Option<i64>) {
        self.done.retain(|time, _| *time >= before || Some(*time) <= newest);
    }
}

/// What these take in memory, in bytes.
fn held(samples: &[Sample]) -> u64 {
    let names = samples.iter().map(|sample| sample.name().as_str().len() + AROUND_NAME).sum::<usize>();
    (names + size_of_val(samples)) as u64
}

/// How much stays in memory, in words.
pub(super) fn bound_in_words() -> String {
    format!("the newest {MOST_MINUTES} minutes, or {} MiB of them, in memory", MOST_BATCH_BYTES >> 20)
}

/// What came of samples that were added to others.
pub(super) struct Merged {
    /// How many are new.
    added: u64,
    /// The name of one that is not.
    repeated: Option<MetricName>,
}

/// Adds `samples` to those of the same minute; of two values of one host and name the later wins.
pub(super) fn merge(known: &mut Vec<Sample>, samples: Vec<Sample>) -> Merged {
    let before = known.len();
    known.extend(samples);
    // The later of two must stay, and a stable sort of the reversed list puts it first.
    known.reverse();
    known.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut repeated = None;
    known.dedup_by(|later, first| {
        let is_same = later.key() == first.key();
        if is_same && repeated.is_none() {
            repeated = Some(first.name().clone());
        }
        is_same
    });
    Merged { added: known.len().saturating_sub(before) as u64, repeated }
}
