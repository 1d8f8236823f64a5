//! The names in the queue's file: each is stored once and has a number from then on, and so has each set of names that was collected
//! together, since most minutes have the same.
//!
//! It counts how many bytes of the file belong to names and sets that some row still needs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use wasaba_core::sample::{MetricName, Sample};

use super::bytes::{Cursor, put_bytes, put_number};

/// The newest sets, in which a minute is looked for that has not all of their names.
const RECENT: usize = 4;

#[derive(Default)]
pub(super) struct Names {
    names: BTreeMap<u32, Name>,
    /// The number of a name by a hash of host and name.
    by_hash: HashMap<u64, u32>,
    /// The numbers of names whose hash another has.
    collisions: Vec<u32>,
    sets: BTreeMap<u32, Set>,
    by_numbers: BTreeMap<Arc<[u8]>, u32>,
    recent: VecDeque<u32>,
    hosts: BTreeSet<Arc<str>>,
    next_name: u32,
    next_set: u32,
    /// The bytes of names and sets that are in use.
    live_bytes: u64,
}

struct Name {
    host: Option<Arc<str>>,
    name: MetricName,
    /// How many sets that are in use have it.
    uses: u32,
    bytes: u32,
}

impl Name {
    fn key(&self) -> (Option<&str>, &MetricName) {
        (self.host.as_deref(), &self.name)
    }
}

struct Set {
    /// The numbers of the names, as differences.
    numbers: Arc<[u8]>,
    count: usize,
    /// The places of the names of each host; `None` is this one.
    of_hosts: Vec<(Option<Arc<str>>, Vec<u32>)>,
    /// How many rows have it.
    uses: u32,
    bytes: u32,
}

impl Names {
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn next_name(&self) -> u32 {
        self.next_name
    }

    pub(super) fn next_set(&self) -> u32 {
        self.next_set
    }

    /// The number of the name of a sample.
    pub(super) fn number(&self, sample: &Sample) -> Option<u32> {
        let is_it = |number: &u32| self.names.get(number).is_some_and(|name| name.key() == sample.key());
        let first = self.by_hash.get(&hash(sample.key())).copied()?;
        if is_it(&first) { Some(first) } else { self.collisions.iter().copied().find(is_it) }
    }

    /// The sample with this number and value.
    pub(super) fn sample(&self, number: u32, value: f64) -> Option<Sample> {
        let name = self.names.get(&number)?;
        let sample = Sample::of(name.name.clone(), value).ok()?;
        Some(match &name.host {
            Some(host) => sample.of_host(host),
            None => sample,
        })
    }

    /// The hash of the name with this number.
    pub(super) fn hash(&self, number: u32) -> Option<u64> {
        self.names.get(&number).map(|name| hash(name.key()))
    }

    /// The other hosts that names are of.
    pub(super) fn hosts(&self) -> &BTreeSet<Arc<str>> {
        &self.hosts
    }

    /// Whether the name with this number is of this host.
    pub(super) fn is_own(&self, number: u32) -> bool {
        self.names.get(&number).is_some_and(|name| name.host.is_none())
    }

    /// The numbers of the names in a set, in ascending order.
    pub(super) fn numbers(&self, set: u32) -> Option<Vec<u32>> {
        decoded(&self.sets.get(&set)?.numbers)
    }

    /// How many names a set has.
    pub(super) fn count(&self, set: u32) -> Option<usize> {
        Some(self.sets.get(&set)?.count)
    }

    /// The set of just these numbers.
    pub(super) fn set_of(&self, numbers: &[u8]) -> Option<u32> {
        self.by_numbers.get(numbers).copied()
    }

    /// A set that has all of these numbers and not many more.
    pub(super) fn set_around(&self, numbers: &[u32]) -> Option<(u32, Vec<u32>)> {
        self.recent.iter().rev().find_map(|set| {
            let all = self.numbers(*set).filter(|all| all.len() <= 2 * numbers.len())?;
            numbers.iter().all(|number| all.binary_search(number).is_ok()).then_some((*set, all))
        })
    }

    /// A row needs this set.
    pub(super) fn take_up(&mut self, set: u32) {
        self.count_uses(set, 1);
        if !self.recent.contains(&set) {
            self.recent.push_back(set);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
    }

    /// A row does not need this set any more.
    pub(super) fn give_up(&mut self, set: u32) {
        self.count_uses(set, -1);
    }

    fn count_uses(&mut self, number: u32, change: i32) {
        let Some(set) = self.sets.get_mut(&number) else { return };
        let was_used = set.uses > 0;
        set.uses = set.uses.saturating_add_signed(change);
        let is_used = set.uses > 0;
        if is_used == was_used {
            return;
        }
        let (mut changed, names) = (u64::from(set.bytes), decoded(&set.numbers).unwrap_or_default());
        for name in names {
            let Some(name) = self.names.get_mut(&name) else { continue };
            let was_used = name.uses > 0;
            name.uses = name.uses.saturating_add_signed(if is_used { 1 } else { -1 });
            if was_used != (name.uses > 0) {
                changed += u64::from(name.bytes);
            }
        }
        self.live_bytes = if is_used { self.live_bytes + changed } else { self.live_bytes.saturating_sub(changed) };
    }

    /// Takes over a name that [`put_name`] wrote.
    pub(super) fn add_name(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let before = cursor.0.len();
        let number = cursor.small::<u32>()?;
        let host = match cursor.byte()? {
            0 => None,
            _ => Some(self.host(cursor.text()?)),
        };
        let name = MetricName::new(cursor.text()?).ok()?;
        if let Some(known) = self.names.get(&number) {
            // It is written more than once.
            return (known.name == name && known.host == host).then_some(());
        }
        let bytes = u32::try_from(before - cursor.0.len()).ok()?;
        let name = Name { host, name, uses: 0, bytes };
        match self.by_hash.entry(hash(name.key())) {
            Entry::Vacant(vacant) => _ = vacant.insert(number),
            Entry::Occupied(_) => self.collisions.push(number),
        }
        self.names.insert(number, name);
        self.next_name = self.next_name.max(number.checked_add(1)?);
        Some(())
    }

    fn host(&mut self, host: &str) -> Arc<str> {
        if let Some(known) = self.hosts.get(host) {
            return Arc::clone(known);
        }
        let host = Arc::<str>::from(host);
        self.hosts.insert(Arc::clone(&host));
        host
    }

    /// Takes over a set that [`put_set`] wrote.
    pub(super) fn add_set(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let before = cursor.0.len();
        let number = cursor.small::<u32>()?;
        let numbers = Arc::<[u8]>::from(cursor.bytes()?);
        if let Some(known) = self.sets.get(&number) {
            return (known.numbers == numbers).then_some(());
        }
        let bytes = u32::try_from(before - cursor.0.len()).ok()?;
        let names = decoded(&numbers)?;
        self.reserve_set(number);
        if names.iter().any(|name| !self.names.contains_key(name)) {
            // They were in frames that are damaged.
            self.next_name = self.next_name.max(names.last().map_or(0, |last| last.saturating_add(1)));
            return Some(());
        }
        self.by_numbers.insert(Arc::clone(&numbers), number);
        let of_hosts = self.of_hosts(&names);
        self.sets.insert(number, Set { numbers, count: names.len(), of_hosts, uses: 0, bytes });
        Some(())
    }

    fn of_hosts(&self, names: &[u32]) -> Vec<(Option<Arc<str>>, Vec<u32>)> {
        let mut of_hosts = BTreeMap::<Option<Arc<str>>, Vec<u32>>::new();
        for (place, name) in (0..).zip(names) {
            let host = self.names.get(name).and_then(|name| name.host.clone());
            of_hosts.entry(host).or_default().push(place);
        }
        of_hosts.into_iter().collect()
    }

    /// The places in a set of the names of this host, or another.
    pub(super) fn places(&self, set: u32, host: Option<&Arc<str>>) -> &[u32] {
        let of_hosts = self.sets.get(&set).map(|set| &*set.of_hosts).unwrap_or_default();
        of_hosts.iter().find(|(of, _)| of.as_ref() == host).map(|(_, places)| &**places).unwrap_or_default()
    }

    /// No other set may have this number, even if this one is not known: a copy of it may turn up.
    pub(super) fn reserve_set(&mut self, number: u32) {
        self.next_set = self.next_set.max(number.saturating_add(1));
    }

    /// The same names and sets, of which no row is known yet.
    pub(super) fn unused(mut self) -> Self {
        self.names.values_mut().for_each(|name| name.uses = 0);
        self.sets.values_mut().for_each(|set| set.uses = 0);
        Self { recent: VecDeque::new(), live_bytes: 0, ..self }
    }

    /// Writes the names and sets that are in use, after their words.
    pub(super) fn put_used(&self, name_word: u8, set_word: u8, out: &mut Vec<u8>) {
        for (number, name) in self.names.iter().filter(|(_, name)| name.uses > 0) {
            out.push(name_word);
            put_name(out, *number, name.key());
        }
        for (number, set) in self.sets.iter().filter(|(_, set)| set.uses > 0) {
            out.push(set_word);
            put_set(out, *number, &set.numbers);
        }
    }
}

/// A number for a host and name, the same in every process.
pub(super) fn hash(key: (Option<&str>, &MetricName)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn put_name(out: &mut Vec<u8>, number: u32, (host, name): (Option<&str>, &MetricName)) {
    put_number(out, u64::from(number));
    out.push(u8::from(host.is_some()));
    if let Some(host) = host {
        put_bytes(out, host.as_bytes());
    }
    put_bytes(out, name.as_str().as_bytes());
}

pub(super) fn put_set(out: &mut Vec<u8>, number: u32, numbers: &[u8]) {
    put_number(out, u64::from(number));
    put_bytes(out, numbers);
}

/// Ascending numbers as differences, which mostly take a byte each.
pub(super) fn encoded(numbers: &[u32]) -> Vec<u8> {
    let (mut out, mut last) = (Vec::with_capacity(numbers.len()), 0);
    for number in numbers {
        put_number(&mut out, u64::from(number - last));
        last = *number;
    }
    out
}

fn decoded(bytes: &[u8]) -> Option<Vec<u32>> {
    let (mut cursor, mut numbers, mut last) = (Cursor(bytes), Vec::with_capacity(bytes.len()), 0_u32);
    while !cursor.is_at_end() {
        let difference = cursor.small::<u32>()?;
        if difference == 0 && !numbers.is_empty() {
            return None;
        }
        last = last.checked_add(difference)?;
        numbers.push(last);
    }
    Some(numbers)
}
