//! What one commit changes in the queue, as the entries of a frame: a pure function of the queue and of what waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wasaba_core::sample::{MetricName, Sample};

use super::batch::Batch;
use super::bytes::Bits;
use super::ledger::{Ledger, Loss};
use super::log::Log;
use super::names::{encoded, put_name, put_set};
use super::numbers::pack;
use super::queue::{Id, Queue, word};
use super::row::Row;
use super::{AHEAD_SECONDS, HORIZON_SECONDS};

/// What a commit drops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops(pub(super) BTreeMap<Loss, Dropped>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) points: u64,
    pub(super) times: BTreeSet<i64>,
    /// The name of one that was collected twice.
    pub(super) example: Option<MetricName>,
}

impl Drops {
    #[cfg(test)]
    pub(super) fn of(why: Loss, points: u64, time: i64) -> Self {
        let mut drops = Self::default();
        drops.add(why, time, points);
        drops
    }

    fn add(&mut self, why: Loss, time: i64, points: u64) {
        if points > 0 {
            let dropped = self.0.entry(why).or_default();
            dropped.points += points;
            dropped.times.insert(time);
        }
    }

    /// Names one of those that were collected twice.
    fn exemplify(&mut self, example: Option<&MetricName>) {
        if let Some(dropped) = self.0.get_mut(&Loss::Repeated).filter(|dropped| dropped.example.is_none()) {
            dropped.example = example.cloned();
        }
    }
}

pub(super) struct Plan<'q> {
    queue: &'q Queue,
    log: &'q Log,
    ledger: Ledger,
    /// What leaves the queue, of the rows that it has.
    cleared: BTreeMap<Id, Cleared>,
    drops: Drops,
    /// The new names, sets and rows.
    added: Vec<u8>,
    names: BTreeMap<(Option<Arc<str>>, MetricName), u32>,
    sets: BTreeMap<Vec<u8>, u32>,
    next_row: u64,
}

#[derive(Default)]
struct Cleared {
    bits: Bits,
    points: u32,
}

impl<'q> Plan<'q> {
    /// The payload for everything in `batch`, and what is dropped. `unreadable` are rows whose frames are damaged.
    pub(super) fn of(
        queue: &'q Queue,
        log: &'q Log,
        batch: &Batch,
        unreadable: &[Id],
        most_bytes: u64,
    ) -> (Vec<u8>, Drops) {
        let mut plan = Self {
            queue,
            log,
            ledger: queue.ledger.plus(batch.ledger),
            cleared: BTreeMap::new(),
            drops: Drops::default(),
            added: Vec::new(),
            names: BTreeMap::new(),
            sets: BTreeMap::new(),
            next_row: queue.next_row,
        };
        unreadable.iter().for_each(|id| plan.drop_row(*id, Loss::Damaged));
        let owner = batch.owner.as_deref().filter(|owner| queue.owner.as_deref() != Some(owner));
        let is_another = owner.is_some() && queue.owner.is_some();
        if is_another {
            plan.drop_own_rows();
        }
        if let Some(now) = batch.mackerel_time {
            let is_outdated = |time: i64| outdated(time, now);
            let rows = queue.rows.iter().filter(|(_, row)| row.points > 0);
            let outdated = rows.filter_map(|((time, number), _)| Some(((*time, *number), is_outdated(*time)?)));
            outdated.collect::<Vec<_>>().into_iter().for_each(|(id, why)| plan.drop_row(id, why));
        }
        for (time, samples) in &batch.minutes {
            match batch.mackerel_time.and_then(|now| outdated(*time, now)) {
                Some(why) => plan.lose(why, *time, samples.len() as u64),
                None => plan.add_row(*time, samples, is_another),
            }
        }
        for (time, points) in &batch.repeated {
            plan.drops.add(Loss::Repeated, *time, *points);
        }
        plan.drops.exemplify(batch.example.as_ref());
        for (time, samples) in &batch.done {
            plan.add_done(*time, samples);
        }
        for settlement in &batch.settlements {
            let delivered = plan.clear_samples(settlement.time, &settlement.delivered);
            let rejected = plan.clear_samples(settlement.time, &settlement.rejected);
            plan.ledger.settle(delivered, rejected);
        }
        plan.make_room(most_bytes);
        plan.payload(owner)
    }

    fn payload(self, owner: Option<&str>) -> (Vec<u8>, Drops) {
        let mut own = Vec::with_capacity(self.added.len() + 64);
        if let Some(owner) = owner {
            // Until the first id is known, the rows belong to whatever it will be.
            let first = if self.queue.owner.is_some() { self.queue.next_row } else { 0 };
            Queue::put_owner(owner, first, &mut own);
        }
        for (id, cleared) in &self.cleared {
            let is_all = self.queue.rows.get(id).is_some_and(|row| row.points == cleared.points);
            Queue::put_settled(*id, (!is_all).then_some(&cleared.bits), &mut own);
        }
        own.extend_from_slice(&self.added);
        if own.is_empty() && self.ledger == self.queue.ledger {
            return (own, self.drops);
        }
        Queue::put_ledger(self.ledger, &mut own);
        let mut out = Vec::with_capacity(own.len() + 64);
        self.queue.put_repetitions(self.log.end(), &mut out);
        out.append(&mut own);
        (out, self.drops)
    }

    fn lose(&mut self, why: Loss, time: i64, points: u64) {
        self.ledger.lose(points, why);
        self.drops.add(why, time, points);
    }

    /// Takes one point of a row out of the queue; `false` if it is not in it any more.
    fn clear(&mut self, id: Id, at: usize) -> bool {
        let Some(row) = self.queue.rows.get(&id).filter(|row| row.is_live(at)) else { return false };
        let count = self.queue.names.count(row.set).unwrap_or_default();
        let cleared = self.cleared.entry(id).or_insert_with(|| Cleared { bits: Bits::all(count, false), points: 0 });
        let is_new = !cleared.bits.get(at);
        if is_new {
            cleared.bits.set(at, true);
            cleared.points += 1;
        }
        is_new
    }

    fn is_queued(&self, id: Id, row: &Row, at: usize) -> bool {
        row.is_live(at) && self.cleared.get(&id).is_none_or(|cleared| !cleared.bits.get(at))
    }

    fn clear_where(&mut self, id: Id, is_it: impl Fn(u32) -> bool) -> u64 {
        let numbers = self.queue.rows.get(&id).and_then(|row| self.queue.names.numbers(row.set)).unwrap_or_default();
        let places = numbers.into_iter().enumerate().filter(|(_, number)| is_it(*number));
        places.filter(|(at, _)| self.clear(id, *at)).count() as u64
    }

    fn drop_row(&mut self, id: Id, why: Loss) {
        let points = self.clear_where(id, |_| true);
        self.lose(why, id.0, points);
    }

    fn drop_own_rows(&mut self) {
        let queue = self.queue;
        for (id, _) in queue.rows.iter().filter(|(_, row)| row.points > 0) {
            let points = self.clear_where(*id, |number| queue.names.is_own(number));
            self.lose(Loss::OfAnotherHost, id.0, points);
        }
    }

    /// Takes these samples out of the rows of this time, unless their values have changed since.
    fn clear_samples(&mut self, time: i64, samples: &[Sample]) -> u64 {
        let (queue, log) = (self.queue, self.log);
        let mut count = 0;
        for (id, row) in queue.rows_at(time).filter(|(_, row)| row.points > 0) {
            let numbers = queue.names.numbers(row.set).unwrap_or_default();
            // What cannot be read now has hardly changed.
            let values =
                queue.values(log, row).ok().flatten().map(|values| values.into_iter().collect::<BTreeMap<_, _>>());
            for sample in samples {
                let Some(number) = queue.names.number(sample) else { continue };
                let Ok(at) = numbers.binary_search(&number) else { continue };
                let is_same = values.as_ref().is_none_or(|values| values.get(&at) == Some(&sample.value()));
                count += u64::from(is_same && self.clear(id, at));
            }
        }
        count
    }

    /// Adds a minute, without the points that were delivered already. Of two values of a point the later wins.
    fn add_row(&mut self, time: i64, samples: &[Sample], is_new_owner: bool) {
        let queue = self.queue;
        let rows = queue.rows_at(time).map(|(id, row)| (id, row, queue.names.numbers(row.set).unwrap_or_default()));
        let rows = rows.collect::<Vec<_>>();
        let mut kept = Vec::with_capacity(samples.len());
        for sample in samples {
            let known = queue.names.number(sample);
            let places = rows.iter().filter_map(|(id, row, numbers)| {
                let at = numbers.binary_search(&known?).ok().filter(|at| row.has(*at))?;
                // What was settled for another host was not settled for this one.
                let is_former = sample.host().is_none() && (is_new_owner || !queue.counts_for(*id, known?));
                (!is_former || self.is_queued(*id, row, at)).then_some((*id, at))
            });
            let places = places.collect::<Vec<_>>();
            let replaced = places.iter().filter(|(id, at)| self.clear(*id, *at)).count();
            if !places.is_empty() {
                self.lose(Loss::Repeated, time, 1);
                self.drops.exemplify(Some(sample.name()));
            }
            if places.is_empty() || replaced > 0 {
                kept.push((self.number(sample), sample.value()));
            }
        }
        if !kept.is_empty() {
            self.put_row(time, kept);
        }
    }

    /// Remembers points that were settled before they were written. What the file has of them is settled, too.
    fn add_done(&mut self, time: i64, samples: &[Sample]) {
        let queue = self.queue;
        let rows = queue.rows_at(time).filter(|(_, row)| row.points > 0);
        for (id, row) in rows {
            let numbers = queue.names.numbers(row.set).unwrap_or_default();
            let place = |sample: &Sample| numbers.binary_search(&queue.names.number(sample)?).ok();
            let cleared = samples.iter().filter(|sample| place(sample).is_some_and(|at| self.clear(id, at)));
            let cleared = cleared.collect::<Vec<_>>();
            self.lose(Loss::Repeated, time, cleared.len() as u64);
            self.drops.exemplify(cleared.first().map(|sample| sample.name()));
        }
        if !samples.is_empty() {
            let points = samples.iter().map(|sample| (self.number(sample), sample.value())).collect();
            let id = self.put_row(time, points);
            Queue::put_settled(id, None, &mut self.added);
        }
    }

    /// Adds a row with these names and values.
    fn put_row(&mut self, time: i64, mut kept: Vec<(u32, f64)>) -> Id {
        kept.sort_by_key(|(number, _)| *number);
        let numbers = kept.iter().map(|(number, _)| *number).collect::<Vec<_>>();
        let (set, present) = self.set(&numbers);
        let mut values = Vec::new();
        pack(kept.iter().map(|(_, value)| *value), &mut values);
        let id = (time, self.next_row);
        Queue::put_row(id, set, present.as_ref(), &values, &mut self.added);
        self.next_row += 1;
        id
    }

    /// The number of a sample's name, which is new if it is not known.
    fn number(&mut self, sample: &Sample) -> u32 {
        if let Some(number) = self.queue.names.number(sample) {
            return number;
        }
        let next = self.queue.names.next_name() + self.names.len() as u32;
        let number = *self.names.entry((sample.host().cloned(), sample.name().clone())).or_insert(next);
        if number == next {
            self.added.push(word::NAME);
            put_name(&mut self.added, number, sample.key());
        }
        number
    }

    /// A set with these numbers, and which of its names they are if it has more.
    fn set(&mut self, numbers: &[u32]) -> (u32, Option<Bits>) {
        let bytes = encoded(numbers);
        let names = &self.queue.names;
        if let Some(set) = names.set_of(&bytes).or_else(|| self.sets.get(&bytes).copied()) {
            return (set, None);
        }
        if let Some((set, all)) = names.set_around(numbers) {
            let mut present = Bits::all(all.len(), false);
            numbers.iter().filter_map(|number| all.binary_search(number).ok()).for_each(|at| present.set(at, true));
            return (set, Some(present));
        }
        let number = names.next_set() + self.sets.len() as u32;
        self.added.push(word::SET);
        put_set(&mut self.added, number, &bytes);
        self.sets.insert(bytes, number);
        (number, None)
    }

    /// Drops the oldest rows beyond the bound.
    fn make_room(&mut self, most_bytes: u64) {
        use super::durable::Contents;
        let queue = self.queue;
        let is_gone = |cleared: &BTreeMap<Id, Cleared>, id: &Id, points: u32| {
            cleared.get(id).is_some_and(|cleared| cleared.points == points)
        };
        let freed = self.cleared.keys().filter_map(|id| {
            let row = queue.rows.get(id)?;
            is_gone(&self.cleared, id, row.points).then(|| row.bytes())
        });
        let mut bytes = (queue.live_bytes() + self.added.len() as u64).saturating_sub(freed.sum());
        for (id, row) in queue.rows.iter().filter(|(_, row)| row.points > 0) {
            if bytes <= most_bytes {
                break;
            }
            if !is_gone(&self.cleared, id, row.points) {
                self.drop_row(*id, Loss::Overflowed);
                bytes = bytes.saturating_sub(row.bytes());
            }
        }
    }
}

/// Why points of this time are dropped by Mackerel's clock.
pub(super) fn outdated(time: i64, mackerel_time: i64) -> Option<Loss> {
    if time < mackerel_time - HORIZON_SECONDS {
        Some(Loss::Expired)
    } else if time > mackerel_time + AHEAD_SECONDS {
        Some(Loss::Misdated)
    } else {
        None
    }
}
