//! What the callers of a spool share with its writer: everything that is not in the files yet, and how they are. It is behind one lock,
//! which no one holds while the disk works.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use wasaba_core::collect::StoredValues;
use wasaba_core::collect::rate::Reading;
use wasaba_core::sample::Sample;

use super::batch::{Batch, merge};
use super::files::Files;
use super::readings::{self, Readings};
use super::store::Puts;
use super::{Ledger, Minute, OpenError, Settlement, memory, names, queue};

/// The kinds of entries in the state that are the spool's own.
pub(super) mod kind {
    pub(crate) const HOST: &str = "host";
    pub(crate) const READINGS: &str = "readings";
    pub(crate) const VALUES: &str = "values";
    pub(crate) const ABSENT: &str = "absent";
}

/// By time, hashes of names, and whether they are this host's own.
pub(super) type Recent = BTreeMap<i64, BTreeSet<(bool, u64)>>;

fn mark(sample: &Sample) -> (bool, u64) {
    (sample.host().is_none(), names::hash(sample.key()))
}

/// A question to the files.
pub(super) type Job = Box<dyn FnOnce(&mut Files) + Send>;

#[derive(Default)]
pub(super) struct Front {
    pub(super) waiting: Batch,
    /// What the writer is writing.
    pub(super) flying: Option<Arc<Batch>>,
    pub(super) puts: Puts,
    pub(super) flying_puts: Option<Arc<Puts>>,
    /// What plugins store with the next minute.
    pub(super) values: BTreeMap<String, Arc<StoredValues>>,
    pub(super) readings: Readings,
    pub(super) host_id: Option<String>,
    pub(super) picture: Picture,
    /// The wall clock when something was kept last, in seconds since 1970.
    pub(super) now: i64,
    /// How many commits were asked for, and how many of these were tried.
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// Whether the last one succeeded.
    pub(super) is_written: bool,
    pub(super) jobs: VecDeque<Job>,
    pub(super) fault: Option<Fault>,
    pub(super) state_fault: Option<Fault>,
    pub(super) hang: Option<Hang>,
    /// How opening ended; `None` as long as it has not.
    pub(super) opened: Option<Result<(), OpenError>>,
    pub(super) is_stopping: bool,
    pub(super) is_ended: bool,
    /// The hashes of the names of points that were settled lately, by their time.
    recent: Recent,
}

/// What the queue's file looked like after the last commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) ledger: Ledger,
    pub(super) owner: Option<String>,
    /// How many points of each time are queued in it.
    pub(super) points: BTreeMap<i64, u64>,
    pub(super) bytes: u64,
    pub(super) hours: Option<f64>,
    /// The other hosts of which it has values, or had some.
    pub(super) hosts: BTreeSet<Arc<str>>,
    /// Whether it can be read.
    pub(super) is_open: bool,
}

impl Picture {
    pub(super) fn oldest(&self) -> Option<i64> {
        self.points.keys().next().copied()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.points.keys().next_back().copied()
    }
}

/// Why a file cannot be written.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Since when, in seconds since 1970.
    pub(super) since: i64,
    pub(super) why: String,
    /// Points that memory could not hold.
    pub(super) dropped: u64,
}

/// Since when the disk does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hang {
    pub(super) since: i64,
    pub(super) instant: Instant,
    pub(super) dropped: u64,
}

impl Front {
    pub(super) fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    pub(super) fn keep(&mut self, minutes: Vec<Minute>, readings: &[(String, Reading)], now: i64) {
        self.now = now;
        let mut collected = BTreeMap::<i64, Vec<Sample>>::new();
        for Minute { time, samples } in minutes {
            merge(collected.entry(time).or_default(), samples);
        }
        for (time, mut samples) in collected {
            let settled = samples.extract_if(.., |sample| self.is_settled(time, sample)).collect::<Vec<_>>();
            let example = settled.first().map(|sample| sample.name().clone());
            self.waiting.repeat(time, settled.len() as u64, example);
            self.waiting.keep(time, samples);
        }
        self.readings.keep(readings, now);
        for (source, readings) in self.readings.changed() {
            let bytes = readings.map(|readings| readings::encoded(readings).into());
            self.puts.insert((kind::READINGS.to_owned(), source), bytes);
        }
        for (instance, values) in std::mem::take(&mut self.values) {
            self.puts.insert((kind::VALUES.to_owned(), instance), Some(memory::encoded(&values).into()));
        }
    }

    /// Settled points are not taken again.
    fn is_settled(&self, time: i64, sample: &Sample) -> bool {
        self.recent.get(&time).is_some_and(|recent| recent.contains(&mark(sample)))
    }

    pub(super) fn settle(&mut self, settlement: Settlement) {
        self.remember(Recent::from([(settlement.time, settlement.samples().map(mark).collect())]));
        self.waiting.settle(settlement);
    }

    /// Remembers settled points, as long as the file does.
    pub(super) fn remember(&mut self, settled: Recent) {
        for (time, hashes) in settled {
            self.recent.entry(time).or_default().extend(hashes);
        }
        let newest = self.recent.keys().next_back().copied().unwrap_or_default();
        self.recent = self.recent.split_off(&(newest - queue::RECENT));
        let in_flight = self.flying.as_ref().and_then(|batch| batch.minutes.keys().next_back().copied());
        self.waiting.forget_done(newest - queue::RECENT, in_flight.max(self.picture.newest()));
    }

    /// What is not in the file, the older first.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.flying.as_deref().into_iter().chain([&self.waiting])
    }

    /// The minutes that are only in memory.
    pub(super) fn minutes(&self) -> BTreeMap<i64, Vec<Sample>> {
        let mut minutes = BTreeMap::<i64, Vec<Sample>>::new();
        let hides_own = self.waiting.is_of_another_host;
        for batch in self.batches() {
            let is_flying = !std::ptr::eq(batch, &raw const self.waiting);
            for (time, samples) in &batch.minutes {
                let mut samples = samples.clone();
                if is_flying {
                    samples.retain(|sample| !hides_own || sample.host().is_some());
                    self.waiting.hide_settled(*time, &mut samples);
                }
                merge(minutes.entry(*time).or_default(), samples);
            }
        }
        minutes.retain(|_, samples| !samples.is_empty());
        minutes
    }

    /// How many points of each time are only in memory.
    pub(super) fn counts(&self) -> BTreeMap<i64, u64> {
        let count = |(time, samples): (&i64, &Vec<Sample>)| (*time, samples.len() as u64);
        match self.flying {
            Some(_) => self.minutes().iter().map(count).collect(),
            None => self.waiting.minutes.iter().map(count).collect(),
        }
    }

    /// How many points of each time are queued, as if what waits were written.
    pub(super) fn queued(&self) -> BTreeMap<i64, u64> {
        let mut queued = self.picture.points.clone();
        for (time, samples) in self.batches().flat_map(|batch| &batch.minutes) {
            *queued.entry(*time).or_default() += samples.len() as u64;
        }
        for settlement in self.batches().flat_map(|batch| &batch.settlements) {
            queued.entry(settlement.time).and_modify(|points| *points = points.saturating_sub(settlement.points()));
        }
        queued.retain(|_, points| *points > 0);
        queued
    }

    /// Where every point went, as if what waits were written.
    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = self.batches().fold(self.picture.ledger, |ledger, batch| ledger.plus(batch.ledger));
        for batch in self.batches() {
            let settled = batch.settlements.iter().fold((0, 0), |(delivered, rejected), settlement| {
                (delivered + settlement.delivered.len() as u64, rejected + settlement.rejected.len() as u64)
            });
            ledger.settle(settled.0, settled.1);
        }
        ledger
    }

    /// Whose the rows are, or will be.
    pub(super) fn owner(&self) -> Option<&str> {
        let flying = self.flying.as_ref().and_then(|batch| batch.owner.as_deref());
        self.waiting.owner.as_deref().or(flying).or(self.picture.owner.as_deref())
    }

    /// From now on this is the host of this id. Returns how many points in memory were of another one.
    pub(super) fn change_owner(&mut self, host_id: &str) -> u64 {
        let owner = self.owner().map(str::to_owned);
        if owner.as_deref() == Some(host_id) {
            return 0;
        }
        if owner.is_some() {
            // What was delivered for another host was not delivered for this one.
            self.recent.values_mut().for_each(|recent| recent.retain(|(is_own, _)| !is_own));
        }
        self.waiting.change_owner(host_id, owner.is_some())
    }

    /// The entries of a kind that are not in the file yet.
    pub(super) fn puts_of(&self, kind: &str) -> BTreeMap<String, Option<Arc<[u8]>>> {
        let puts = self.flying_puts.as_deref().into_iter().chain([&self.puts]);
        let of_kind = puts.flatten().filter(|((other, _), _)| other == kind);
        of_kind.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    /// How many points were dropped since memory was full, in the fault or hang that is now.
    pub(super) fn overflowed(&self) -> u64 {
        self.fault.as_ref().map_or(0, |fault| fault.dropped) + self.hang.map_or(0, |hang| hang.dropped)
    }

    /// Counts the points that are dropped since memory is full, and returns the line about the first of them.
    pub(super) fn bound(&mut self) -> Option<u64> {
        let dropped = self.waiting.bound();
        let total = match (&mut self.fault, &mut self.hang) {
            (Some(fault), _) => &mut fault.dropped,
            (None, Some(hang)) => &mut hang.dropped,
            (None, None) => return None,
        };
        let is_first = *total == 0;
        *total += dropped;
        (dropped > 0 && is_first).then_some(dropped)
    }
}
