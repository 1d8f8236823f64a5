//! The history: every value of the last 24 hours, delivered or not, for those who look at this machine.
//!
//! A file of its own, `wasaba.history`, that may be lost: a ring of one row a minute, in which each metric has a column. A minute is
//! one write of one row and one read, wherever it is; nothing is read, or held in memory but a number for each metric, until someone
//! asks. It follows the queue: what the queue's file has taken, it takes. Writing is not durable at once, and a row that a power cut has
//! torn is a gap.
//!
//! ```text
//! head     magic, version, columns, CRC-32                                             4,096 bytes
//! names    a column each: the minute before which it was another's, length, `name` or
//!          `name @host`, CRC-32                                                            512 bytes each
//! rows     minute of 1,440 each: its number, CRC-32, a double for each column (NaN: none)
//! ```

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use wasaba_core::sample::Sample;

use super::disk::{Access, Disk, File, Identity, read_all, write_all};

/// The file's name.
pub(super) const NAME: &str = "wasaba.history";

/// What a larger file is called until it is complete.
const LARGER: &str = "wasaba.history.larger";

/// How many minutes it holds.
pub const HISTORY_MINUTES: i64 = 24 * 60;

/// The most metrics that it holds; further ones have no history. A file of as many has 46 MiB.
pub const MOST_METRICS: usize = 4_000;

/// The longest name with its host, in bytes; a longer one has no history.
pub const LONGEST_KEY_BYTES: usize = NAME_BYTES - 10;

const MAGIC: &[u8; 8] = b"wasaba h";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 4_096;
const NAME_BYTES: usize = 512;
const ROW_HEAD_BYTES: usize = 8;
const VALUE_BYTES: usize = 8;

/// Columns are added by so many.
const COLUMNS: usize = 32;

/// The values of some metrics in one stretch of time: a value a minute, from the first to the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The first minute, in seconds since 1970; a multiple of 60.
    pub start: i64,
    /// How many minutes there are.
    pub minutes: usize,
    /// By name, or `name @host` for another host's: `minutes` values each, `None` where there is none.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

/// How a metric of another host, or of this one, is called in the history.
#[must_use]
pub fn key(host: Option<&str>, name: &str) -> String {
    host.map_or_else(|| name.to_owned(), |host| format!("{name} @{host}"))
}

/// The file, which is opened when it is needed first.
pub(super) struct History {
    disk: Arc<dyn Disk>,
    ring: Option<Ring>,
    hasher: RandomState,
    is_failing: bool,
    is_full: bool,
}

/// The open file.
struct Ring {
    file: Box<dyn File>,
    identity: Identity,
    /// The minute of the last value of each column, as far as it is known; 0 for a column without a name.
    last: Vec<u32>,
    /// The column of each name, by the name's hash: the names themselves are on the disk alone.
    columns: HashMap<u64, u32>,
    /// Whether `last` is also known of columns that were not written since the start.
    is_scanned: bool,
}

/// A column's name, as it is on the disk.
struct Named {
    since: u32,
    key: String,
}

enum NameSlot {
    Empty,
    Of(Named),
    Damaged,
}

impl History {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, ring: None, hasher: RandomState::new(), is_failing: false, is_full: false }
    }

    /// Adds the samples of one time. What fails is a gap, and said in `lines` once.
    pub(super) fn put(&mut self, time: i64, samples: &[Sample], lines: &mut Vec<String>) {
        let Ok(minute) = u32::try_from(time.div_euclid(60)) else { return };
        let put = self.try_put(minute, samples, lines);
        if let Err(error) = &put {
            self.ring = None;
            if !self.is_failing {
                let path = self.disk.path().join(NAME);
                lines.push(format!(
                    "cannot write `{}`: {error}; all values are delivered as usual, but `wasaba top` and the page have a gap until that \
                     succeeds: check its disk",
                    path.display()
                ));
            }
        }
        self.is_failing = put.is_err();
    }

    fn try_put(&mut self, minute: u32, samples: &[Sample], lines: &mut Vec<String>) -> io::Result<()> {
        let keys = samples.iter().map(|sample| key(sample.host().map(|host| &**host), sample.name().as_str()));
        let keyed = keys.zip(samples).filter(|(key, _)| key.len() <= LONGEST_KEY_BYTES);
        let keyed = keyed.map(|(key, sample)| (self.hasher.hash_one(&key), key, sample.value())).collect::<Vec<_>>();
        let mut ring = self.open(lines)?;
        let is_new = |ring: &Ring, hash: u64| !ring.columns.contains_key(&hash);
        let count = keyed.iter().filter(|(hash, ..)| is_new(&ring, *hash)).count();
        let mut free = ring.free(minute);
        if free.len() < count && !ring.is_scanned {
            ring.scan()?;
            free = ring.free(minute);
        }
        if free.len() < count && ring.last.len() < MOST_METRICS {
            let needed = ring.last.len() + count - free.len();
            let wanted = (needed + needed / 8).next_multiple_of(COLUMNS).min(MOST_METRICS);
            ring = ring.with_columns(wanted, &*self.disk, &self.hasher)?;
            free = ring.free(minute);
        }
        let mut free = free.into_iter();
        let mut values = Vec::with_capacity(keyed.len());
        for (hash, key, value) in keyed {
            let column = match ring.columns.get(&hash) {
                Some(column) => Some(*column),
                None => free.next(),
            };
            let Some(column) = column else {
                if !std::mem::replace(&mut self.is_full, true) {
                    lines.push(format!(
                        "the history holds {MOST_METRICS} metrics a day, and there are more: `{key}` and others are delivered, and have \
                         no plot here"
                    ));
                }
                continue;
            };
            if is_new(&ring, hash) {
                let is_used = ring.last.get(column as usize).is_some_and(|last| *last > 0);
                ring.name(column, if is_used { minute } else { 0 }, &key, hash)?;
            }
            values.push((column, value));
        }
        ring.write(minute, &values)?;
        self.ring = Some(ring);
        Ok(())
    }

    /// The names of all metrics that had a value within the 24 hours before `now`.
    pub(super) fn keys(&mut self, now: i64) -> io::Result<Vec<String>> {
        let Some(mut ring) = self.existing()? else { return Ok(Vec::new()) };
        let newest = u32::try_from(now.div_euclid(60)).unwrap_or_default();
        if !ring.is_scanned {
            ring.scan()?;
        }
        let mut keys = Vec::new();
        for (column, last) in ring.last.iter().enumerate() {
            if *last > 0 && i64::from(*last) + HISTORY_MINUTES > i64::from(newest) {
                keys.extend(ring.named(column as u32)?.map(|named| named.key));
            }
        }
        self.ring = Some(ring);
        Ok(keys)
    }

    /// The values of these metrics from the minute of `from` to that of `to`, of which there are at most [`HISTORY_MINUTES`].
    pub(super) fn series(&mut self, keys: &[String], from: i64, to: i64) -> io::Result<Series> {
        let (last, first) = (to.div_euclid(60), from.div_euclid(60));
        let first = first.max(last.saturating_sub(HISTORY_MINUTES - 1));
        let minutes = usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or_default();
        let mut series = Series { start: first.saturating_mul(60), minutes, values: BTreeMap::new() };
        series.values.extend(keys.iter().map(|key| (key.clone(), vec![None; minutes])));
        let Some(ring) = self.existing()? else { return Ok(series) };
        let mut columns = Vec::new();
        for (key, values) in &mut series.values {
            let Some(column) = ring.columns.get(&self.hasher.hash_one(key)) else { continue };
            let Some(named) = ring.named(*column)?.filter(|named| named.key == *key) else { continue };
            columns.push((*column as usize, named.since, values));
        }
        for (index, minute) in (first..=last).enumerate() {
            let Some(row) = u32::try_from(minute).ok().map(|minute| ring.row(minute)).transpose()?.flatten() else {
                continue;
            };
            for (column, since, values) in &mut columns {
                if minute < i64::from(*since) {
                    continue;
                }
                if let (Some(value), Some(slot)) = (row.get(*column), values.get_mut(index)) {
                    *slot = Some(*value).filter(|value| value.is_finite());
                }
            }
        }
        self.ring = Some(ring);
        Ok(series)
    }

    /// The file, if it has been written; another one in its place is not read.
    fn existing(&mut self) -> io::Result<Option<Ring>> {
        if let Some(ring) = self.ring.take() {
            return Ok(Some(ring));
        }
        if self.disk.identity(NAME)?.is_none() {
            return Ok(None);
        }
        Ring::read(self.disk.open(NAME, Access::Write)?, &self.hasher)
    }

    /// The file, made again if it is missing, replaced or damaged.
    fn open(&mut self, lines: &mut Vec<String>) -> io::Result<Ring> {
        let there = self.disk.identity(NAME)?;
        if let Some(ring) = self.ring.take().filter(|ring| there == Some(ring.identity)) {
            return Ok(ring);
        }
        if there.is_some_and(|there| there.is_regular) {
            let file = self.disk.open(NAME, Access::Write)?;
            if let Some(ring) = Ring::read(file, &self.hasher)? {
                return Ok(ring);
            }
            let path = self.disk.path().join(NAME);
            lines.push(format!(
                "`{}` is damaged, or of another version: the history begins with this minute",
                path.display()
            ));
        }
        Ring::create(self.disk.open(NAME, Access::New)?, COLUMNS)
    }
}

impl Ring {
    fn create(file: Box<dyn File>, columns: usize) -> io::Result<Self> {
        let mut head = Vec::with_capacity(24);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(columns as u32).to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        write_all(&*file, &head, 0)?;
        let identity = file.identity()?;
        Ok(Self { file, identity, last: vec![0; columns], columns: HashMap::new(), is_scanned: true })
    }

    /// Reads the head and the names; none if they are not this version's.
    fn read(file: Box<dyn File>, hasher: &RandomState) -> io::Result<Option<Self>> {
        let mut head = [0; 20];
        if read_all(&*file, &mut head, 0)? < head.len() {
            return Ok(None);
        }
        let (told, crc) = head.split_at(16);
        let columns = number(told, 12) as usize;
        let is_ours = told.starts_with(MAGIC) && number(told, 8) == VERSION && number(crc, 0) == crc32fast::hash(told);
        if !is_ours || columns > MOST_METRICS {
            return Ok(None);
        }
        let identity = file.identity()?;
        let mut ring = Self { file, identity, last: vec![0; columns], columns: HashMap::new(), is_scanned: false };
        for column in 0..columns as u32 {
            match ring.slot_of_name(column)? {
                NameSlot::Empty => {}
                NameSlot::Of(named) => {
                    ring.columns.insert(hasher.hash_one(&named.key), column);
                    ring.touch(column, named.since.max(1));
                }
                // Its values are no one's, so it is free only once it has none.
                NameSlot::Damaged => ring.touch(column, 1),
            }
        }
        Ok(Some(ring))
    }

    /// A copy with more columns, in place of this one.
    fn with_columns(self, columns: usize, disk: &dyn Disk, hasher: &RandomState) -> io::Result<Self> {
        let mut larger = Self::create(disk.open(LARGER, Access::New)?, columns)?;
        for column in 0..self.last.len() as u32 {
            if let Some(named) = self.named(column)? {
                larger.name(column, named.since, &named.key, hasher.hash_one(&named.key))?;
            }
        }
        for slot in 0..HISTORY_MINUTES as u32 {
            if let Some((minute, row)) = self.slot(slot)? {
                let values = row.iter().enumerate().filter(|(_, value)| value.is_finite());
                larger.write(minute, &values.map(|(column, value)| (column as u32, *value)).collect::<Vec<_>>())?;
            }
        }
        larger.file.sync()?;
        disk.rename(LARGER, NAME)?;
        larger.is_scanned = true;
        Ok(larger)
    }

    /// The columns that may be named, in the order in which they should be: those that never were, and those without a value for a day.
    fn free(&self, minute: u32) -> Vec<u32> {
        let is_free = |last: u32| last == 0 || i64::from(last) + HISTORY_MINUTES < i64::from(minute);
        // Until it is known which columns have no values, only those without a name are free.
        let columns =
            self.last.iter().enumerate().filter(|(_, last)| **last == 0 || (self.is_scanned && is_free(**last)));
        columns.map(|(column, _)| column as u32).collect()
    }

    fn touch(&mut self, column: u32, minute: u32) {
        if let Some(last) = self.last.get_mut(column as usize) {
            *last = (*last).max(minute);
        }
    }

    fn name(&mut self, column: u32, since: u32, key: &str, hash: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(key.len() + 10);
        bytes.extend_from_slice(&since.to_le_bytes());
        bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        write_all(&*self.file, &bytes, name_at(column))?;
        if since > 0 {
            // The one that had the column before.
            self.columns.retain(|_, known| *known != column);
        }
        self.columns.insert(hash, column);
        self.touch(column, since.max(1));
        Ok(())
    }

    fn named(&self, column: u32) -> io::Result<Option<Named>> {
        Ok(match self.slot_of_name(column)? {
            NameSlot::Of(named) => Some(named),
            NameSlot::Empty | NameSlot::Damaged => None,
        })
    }

    fn slot_of_name(&self, column: u32) -> io::Result<NameSlot> {
        let mut bytes = [0; NAME_BYTES];
        read_all(&*self.file, &mut bytes, name_at(column))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(NameSlot::Empty);
        }
        let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let (Some(told), Some(key)) = (bytes.get(..6 + length), bytes.get(6..6 + length)) else {
            return Ok(NameSlot::Damaged);
        };
        let is_whole =
            length > 0 && bytes.get(6 + length..10 + length).map(|crc| number(crc, 0)) == Some(crc32fast::hash(told));
        let key = std::str::from_utf8(key).ok().filter(|_| is_whole);
        Ok(key.map_or(NameSlot::Damaged, |key| NameSlot::Of(Named { since: number(&bytes, 0), key: key.to_owned() })))
    }

    /// The values of the last 24 hours are read once, to know which columns have none.
    fn scan(&mut self) -> io::Result<()> {
        for slot in 0..HISTORY_MINUTES as u32 {
            let Some((minute, row)) = self.slot(slot)? else { continue };
            for (column, _) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                self.touch(column as u32, minute);
            }
        }
        self.is_scanned = true;
        Ok(())
    }

    fn row(&self, minute: u32) -> io::Result<Option<Vec<f64>>> {
        let found = self.slot(minute % HISTORY_MINUTES as u32)?;
        Ok(found.filter(|(of, _)| *of == minute).map(|(_, row)| row))
    }

    /// The minute that a slot has, and its values.
    fn slot(&self, slot: u32) -> io::Result<Option<(u32, Vec<f64>)>> {
        let mut bytes = vec![0; self.row_bytes()];
        if read_all(&*self.file, &mut bytes, self.row_at(slot))? < bytes.len() {
            return Ok(None);
        }
        let (head, values) = bytes.split_at(ROW_HEAD_BYTES);
        let minute = number(head, 0);
        if minute == 0 || number(head, 4) != checksum(minute, values) {
            return Ok(None);
        }
        let row =
            values.chunks_exact(VALUE_BYTES).map(|value| f64::from_le_bytes(value.try_into().unwrap_or_default()));
        Ok(Some((minute, row.collect())))
    }

    /// Adds values to the row of a minute.
    fn write(&mut self, minute: u32, values: &[(u32, f64)]) -> io::Result<()> {
        let row = self.row(minute)?;
        let mut row = row.unwrap_or_else(|| vec![f64::NAN; self.last.len()]);
        for (column, value) in values {
            if let Some(slot) = row.get_mut(*column as usize) {
                *slot = *value;
            }
            self.touch(*column, minute);
        }
        let values = row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let mut bytes = Vec::with_capacity(self.row_bytes());
        bytes.extend_from_slice(&minute.to_le_bytes());
        bytes.extend_from_slice(&checksum(minute, &values).to_le_bytes());
        bytes.extend_from_slice(&values);
        write_all(&*self.file, &bytes, self.row_at(minute % HISTORY_MINUTES as u32))
    }

    fn row_bytes(&self) -> usize {
        ROW_HEAD_BYTES + self.last.len() * VALUE_BYTES
    }

    fn row_at(&self, slot: u32) -> u64 {
        (HEAD_BYTES + self.last.len() * NAME_BYTES) as u64 + u64::from(slot) * self.row_bytes() as u64
    }
}

fn name_at(column: u32) -> u64 {
    HEAD_BYTES as u64 + u64::from(column) * NAME_BYTES as u64
}

fn checksum(minute: u32, values: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&minute.to_le_bytes());
    hasher.update(values);
    hasher.finalize()
}

/// The number at this place, of four bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
