//! The spool: the durable queue between collecting and delivering, in its files under the root folder.
//!
//! A [`Minute`] counts as collected once [`Spool::keep`] has taken it, and leaves the queue when it is delivered, when
//! Mackerel refuses it for good, or when it is older than [`HORIZON_SECONDS`]; the [`Ledger`] accounts for every point. The
//! queue is `wasaba.db`; beside it, `wasaba.state` has what is replaced often: the last readings of counters, the values that plugins
//! keep, and a copy of the host id. A third, `wasaba.history`, has the last 24 hours for those who look. Neither a failing or hanging
//! disk nor a damaged file stops the agent. The spool sends nothing itself.
//!
//! A file is a `log` of `frames`, `durable` keeps its contents, `queue` and `store` are the two kinds of contents, and `plan` is what
//! a commit changes. What a damaged frame had is in the file again (`echo`), except for its values. One thread (`writer`) has the
//! `files`; callers share the `front` with it.

mod batch;
mod bytes;
mod disk;
mod durable;
mod echo;
mod files;
mod frames;
mod front;
mod history;
mod ledger;
mod log;
mod memory;
mod names;
mod numbers;
mod plan;
mod queue;
mod readings;
mod row;
mod snapshot;
mod store;
mod trouble;
mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasaba_core::collect::StoredValues;
use wasaba_core::collect::rate::Reading;
use wasaba_core::sample::Sample;
use wasaba_core::text::counted;

use disk::{Disk, Root};
use front::kind;
pub use history::{HISTORY_MINUTES, LONGEST_KEY_BYTES, MOST_METRICS, Series, key};
pub use ledger::{Ledger, Settlement};
use plan::outdated;
pub use snapshot::{Snapshot, Verification, read};
use writer::Shared;

/// Mackerel answers 200 to points older than this but does not store them, so sending them is pointless.
pub const HORIZON_SECONDS: i64 = 24 * 60 * 60;

/// Points that are dated further ahead of Mackerel's time than this are wrong.
pub const AHEAD_SECONDS: i64 = 10 * 60;

/// Whether points of this time are neither too old for Mackerel nor dated ahead of it.
#[must_use]
pub fn is_in_time(time: i64, mackerel_time: i64) -> bool {
    outdated(time, mackerel_time).is_none()
}

/// The limit for what is queued in the file; beyond it the oldest are dropped. A day of 3,000 metrics fits.
pub const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// The limit for one value of [`Spool::put`].
pub const MOST_VALUE_BYTES: usize = 1024 * 1024;

/// The values of an instance stay for this long after the first start without the instance.
pub const VALUES_STAY_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Why new values stay in memory while a call of the disk does not return.
const HANGS: &str = "its disk does not answer";

/// About so many points of the file are in memory at once.
const READ_POINTS: usize = 5_000;

/// The queued samples of one point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// Seconds since 1970.
    pub time: i64,
    /// Once in the spool, at most one for each host and name.
    pub samples: Vec<Sample>,
}

/// Whose points are read.
#[derive(Clone, Debug)]
enum Whose {
    Any,
    /// Those of this host (`None`), or of another.
    Host(Option<Arc<str>>),
}

/// How long the spool waits for others, and how much it holds.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// For a call of the disk, before it continues from memory.
    patience: Duration,
    /// For the lock of a file, when it is opened: another agent may be ending.
    lock: Duration,
    /// [`MOST_BYTES`]
    bytes: u64,
    /// So many dead bytes in a file are never worth a rewrite.
    dead_bytes: u64,
}

const BOUNDS: Bounds = Bounds {
    patience: Duration::from_secs(2),
    lock: Duration::from_secs(1),
    bytes: MOST_BYTES,
    dead_bytes: 256 * 1024,
};

/// What is queued and where it is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How many minutes are queued.
    pub minutes: u64,
    /// The time of the oldest queued points, in seconds since 1970.
    pub oldest: Option<i64>,
    /// The size of the queue's file; `None` if it could not be opened yet, or may not be used.
    pub bytes: Option<u64>,
    /// For how many hours the queue has room at the present rate; `None` before anything was collected.
    pub hours: Option<f64>,
    /// Where new values go.
    pub place: Place,
    /// Where every point went; `queued` is how many points are queued.
    pub ledger: Ledger,
}

/// Where new values go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into the file.
    Disk,
    /// Into memory, which holds the newest 60 minutes, or 16 MiB of them.
    Memory {
        /// Since when, in seconds since 1970.
        since: i64,
        /// What is wrong with the file or its disk.
        why: String,
    },
}

/// The durable queue. Its methods wait for the disk for two seconds at most, so async code calls them on a blocking thread.
pub struct Spool {
    shared: Arc<Shared>,
}

impl Spool {
    /// Opens or creates the files in `root`. Reads them once to check them.
    ///
    /// A damaged file is set aside, and what can be read of it used. If there can be none (full, no permission), or the disk does
    /// not answer, the spool works in memory and tries again with each [`Spool::keep`].
    ///
    /// # Errors
    /// Only what going on would make worse: see [`OpenError`].
    pub fn open(root: &Path, now: i64) -> Result<Self, OpenError> {
        Self::on(Arc::new(Root(root.to_owned())), BOUNDS, now)
    }

    fn on(disk: Arc<dyn Disk>, bounds: Bounds, now: i64) -> Result<Self, OpenError> {
        let shared = Shared::start(disk, bounds, now).map_err(|error| OpenError::Thread(error.to_string()))?;
        let spool = Self { shared };
        let (front, _) = spool.shared.wait(spool.shared.lock(), |front| front.opened.is_some());
        let opened = front.opened.clone();
        drop(front);
        opened.unwrap_or(Ok(())).map(|()| spool)
    }

    /// Stores minutes and the readings that belong to them, in one durable commit.
    ///
    /// Never fails: while the disk does, the newest 60 minutes stay in memory, or 16 MiB of them. Returns whether everything is on
    /// disk.
    pub fn keep(&self, minutes: Vec<Minute>, readings: &[(String, Reading)], now: i64) -> bool {
        let mut front = self.shared.lock();
        front.keep(minutes, readings, now);
        let ticket = self.shared.ask(&mut front);
        let (mut front, is_answered) = self.shared.wait(front, |front| front.answered >= ticket);
        let is_written = is_answered && front.is_written;
        let dropped = if is_written { None } else { front.bound() };
        drop(front);
        if let Some(dropped) = dropped {
            tracing::warn!(
                "the queue in memory is full: dropped {}, and each new minute drops more; it holds {}",
                counted(dropped, "point"),
                batch::bound_in_words()
            );
        }
        is_written
    }

    /// The newest minutes of a host, newest first, with at most `max_points` points, but at least one minute if there is any. Only the
    /// points that pass the filter, which is given the time of each. `None` is this host; another has its custom identifier. What is
    /// queued of other hosts costs almost nothing.
    #[must_use]
    pub fn newest_of(
        &self,
        host: Option<&Arc<str>>,
        max_points: usize,
        filter: &impl Fn(i64, &Sample) -> bool,
    ) -> Vec<Minute> {
        let is_next = |time: i64, sample: &Sample| sample.host() == host && filter(time, sample);
        self.newest_where(&Whose::Host(host.cloned()), max_points, &is_next)
    }

    fn newest_where(&self, whose: &Whose, max_points: usize, filter: &impl Fn(i64, &Sample) -> bool) -> Vec<Minute> {
        let front = self.shared.lock();
        let mut pending = front.minutes();
        let settled = front.batches().map(batch::Batch::without_minutes).collect::<Vec<_>>();
        drop(front);
        let hides_own = settled.iter().any(|batch| batch.is_of_another_host);
        let (mut found, mut points, mut before) = (Vec::new(), 0, i64::MAX);
        loop {
            let most = READ_POINTS.min(max_points);
            let whose = whose.clone();
            let read = self.shared.answer(move |files| files.minutes(before, most, &whose));
            let (mut minutes, has_more) = read.unwrap_or_default();
            for Minute { time, samples } in &mut minutes {
                samples.retain(|sample| !hides_own || sample.host().is_some());
                settled.iter().for_each(|batch| batch.hide_settled(*time, samples));
            }
            let lowest = minutes.last().filter(|_| has_more).map_or(i64::MIN, |minute| minute.time);
            for (time, samples) in pending.split_off(&lowest) {
                match minutes.iter_mut().find(|minute| minute.time == time) {
                    Some(minute) => _ = batch::merge(&mut minute.samples, samples),
                    None => minutes.push(Minute { time, samples }),
                }
            }
            minutes.sort_by_key(|minute| std::cmp::Reverse(minute.time));
            for mut minute in minutes {
                minute.samples.retain(|sample| filter(minute.time, sample));
                if minute.samples.is_empty() {
                    continue;
                }
                points += minute.samples.len();
                if points > max_points && !found.is_empty() {
                    return found;
                }
                found.push(minute);
            }
            if !has_more {
                return found;
            }
            before = lowest;
        }
    }

    /// Whether the file was read when that was tried last. If not, what is in it stays queued though [`Spool::newest_of`] has none of it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.shared.answer(|files| files.fails_to_read()) == Some(false)
    }

    /// The other hosts, by their custom identifiers, of which values are queued or were lately.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<Arc<str>> {
        let front = self.shared.lock();
        let waiting = front.batches().flat_map(|batch| batch.minutes.values().flatten());
        waiting.filter_map(|sample| sample.host()).chain(&front.picture.hosts).map(Arc::clone).collect()
    }

    /// Removes delivered and rejected samples from the queue, in one commit that is durable on return.
    ///
    /// If the disk fails, the next commit that succeeds makes up for it.
    pub fn settle(&self, settlements: Vec<Settlement>) {
        let mut front = self.shared.lock();
        settlements.into_iter().for_each(|settlement| front.settle(settlement));
        let ticket = self.shared.ask(&mut front);
        drop(self.shared.wait(front, |front| front.answered >= ticket));
    }

    /// Drops minutes that are older than [`HORIZON_SECONDS`] or dated further ahead than [`AHEAD_SECONDS`] by Mackerel's clock, which
    /// is the only one that can be trusted: this machine's may be wrong. Costs nothing if there are none.
    pub fn expire(&self, mackerel_time: i64) {
        let mut front = self.shared.lock();
        let queued = front.picture.oldest().into_iter().chain(front.picture.newest());
        let waiting = front.batches().flat_map(|batch| batch.minutes.keys().copied());
        if !queued.chain(waiting).any(|time| outdated(time, mackerel_time).is_some()) {
            return;
        }
        let dropped = front.waiting.expire(mackerel_time);
        let ticket = self.shared.ask(&mut front);
        drop(self.shared.wait(front, |front| front.answered >= ticket));
        let points = dropped.values().sum::<u64>();
        if points > 0 {
            tracing::warn!(
                "dropped {} from memory: too old for Mackerel, or dated in the future",
                counted(points, "point")
            );
        }
    }

    /// Where every point went.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.lock().ledger()
    }

    /// What is queued and where.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let front = self.shared.lock();
        let (picture, queued) = (&front.picture, front.queued());
        let minutes = queued.keys().map(|time| time.div_euclid(60)).collect::<BTreeSet<_>>();
        let unread =
            if picture.is_open { "" } else { "; what the file may hold is not counted or delivered until then" };
        let memory = |since, why: &str| Place::Memory { since, why: format!("{why}{unread}") };
        let place = match (&front.fault, &front.hang) {
            (Some(fault), _) => memory(fault.since, &fault.why),
            (None, Some(hang)) => memory(hang.since, HANGS),
            (None, None) => Place::Disk,
        };
        Facts {
            minutes: minutes.len() as u64,
            oldest: queued.keys().next().copied(),
            bytes: picture.is_open.then_some(picture.bytes),
            hours: picture.hours,
            place,
            ledger: front.ledger(),
        }
    }

    /// Writes what is still in memory, and returns the ledger for the end. Waits so long for the disk, also for one that hung before. What
    /// cannot be written is lost, which is logged.
    pub fn close(&self, patience: Duration) -> Ledger {
        let mut front = self.shared.lock();
        let ticket = self.shared.ask(&mut front);
        let front = self.shared.outwait(front, patience, |front| front.answered >= ticket);
        let (mut ledger, counts, overflowed) = (front.ledger(), front.counts(), front.overflowed());
        let (lost, minutes) = (counts.values().sum::<u64>(), counts.len());
        let why = front.fault.as_ref().map_or(HANGS, |fault| &fault.why).to_owned();
        drop(front);
        for line in self.shared.answer(|files| files.take_lines(true)).unwrap_or_default() {
            tracing::warn!("{line}");
        }
        if overflowed > 0 {
            tracing::warn!("dropped {} in all from the queue in memory, which was full", counted(overflowed, "point"));
        }
        if lost > 0 {
            ledger.lose(lost, ledger::Loss::Lost);
            tracing::error!(
                "lost {} of {} that were only in memory, since `{}` cannot be written: {why}",
                counted(lost, "point"),
                counted(minutes as u64, "minute"),
                self.shared.path()
            );
        }
        ledger
    }

    /// The last reading of each counter of a source, as long as a rate needs it.
    #[must_use]
    pub fn readings(&self, source: &str) -> BTreeMap<String, Reading> {
        self.shared.lock().readings.of(source)
    }

    /// How often something else has deleted the queue's file since it was opened; `None` while the disk does not answer.
    #[must_use]
    pub fn times_deleted(&self) -> Option<u64> {
        self.shared.answer(|files| files.times_deleted()).flatten()
    }

    /// The copy of the host id, in case the id file is empty or damaged.
    #[must_use]
    pub fn host_id(&self) -> Option<String> {
        let front = self.shared.lock();
        front.host_id.clone().or_else(|| front.owner().map(str::to_owned))
    }

    /// Stores a copy of the host id. Costs nothing if it has not changed. What is queued for this host under another id is dropped.
    pub fn keep_host_id(&self, host_id: &str) {
        let mut front = self.shared.lock();
        if front.host_id.as_deref() == Some(host_id) && front.owner() == Some(host_id) {
            return;
        }
        front.host_id = Some(host_id.to_owned());
        front.puts.insert((kind::HOST.to_owned(), "id".to_owned()), Some(host_id.as_bytes().into()));
        let dropped = front.change_owner(host_id);
        let ticket = self.shared.ask(&mut front);
        drop(self.shared.wait(front, |front| front.answered >= ticket));
        if dropped > 0 {
            tracing::warn!(
                "dropped {} from memory that belong to another host: this machine is host `{host_id}` on Mackerel now",
                counted(dropped, "point")
            );
        }
    }

    /// The names of all metrics of the last 24 hours, delivered or not, in the form of [`key`]; `None` while they cannot be read.
    #[must_use]
    pub fn history_keys(&self, now: i64) -> Option<Vec<String>> {
        self.shared.answer(move |files| files.history_keys(now)).and_then(Result::ok)
    }

    /// The values of these metrics between two times, in seconds since 1970, at most those of [`HISTORY_MINUTES`] up to the second;
    /// `None` while they cannot be read.
    #[must_use]
    pub fn history(&self, keys: Vec<String>, from: i64, to: i64) -> Option<Series> {
        self.shared.answer(move |files| files.history(&keys, from, to)).and_then(Result::ok)
    }

    /// The values of the instance of this name.
    #[must_use]
    pub fn values(&self, instance: &str) -> StoredValues {
        if let Some(values) = self.shared.lock().values.get(instance) {
            return StoredValues::clone(values);
        }
        self.get(kind::VALUES, instance).and_then(|bytes| memory::decoded(&bytes)).unwrap_or_default()
    }

    /// Replaces all values of an instance. They become durable with the next [`Spool::keep`], so that they belong to the
    /// minute in which they were set.
    pub fn keep_values(&self, instance: &str, values: Arc<StoredValues>) {
        self.shared.lock().values.insert(instance.to_owned(), values);
    }

    /// Drops the values of instances that are not among the `known`, and were not at any start for [`VALUES_STAY_SECONDS`]. Called
    /// once at each start; how long an instance has stored nothing does not matter.
    pub fn forget_values(&self, known: &[Arc<str>], now: i64) {
        let absent = self.all(kind::ABSENT);
        let stored = self.shared.answer(|files| files.keys(kind::VALUES)).unwrap_or_default();
        let mut front = self.shared.lock();
        for instance in stored {
            let (values, absence) =
                ((kind::VALUES.to_owned(), instance.clone()), (kind::ABSENT.to_owned(), instance.clone()));
            let since =
                absent.get(&instance).and_then(|bytes| Some(i64::from_le_bytes(bytes.as_slice().try_into().ok()?)));
            match (known.iter().any(|known| **known == *instance), since) {
                (true, None) => {}
                (true, Some(_)) => _ = front.puts.insert(absence, None),
                (false, None) => _ = front.puts.insert(absence, Some(now.to_le_bytes().as_slice().into())),
                (false, Some(since)) if now.saturating_sub(since) > VALUES_STAY_SECONDS => {
                    front.puts.insert(absence, None);
                    front.puts.insert(values, None);
                }
                (false, Some(_)) => {}
            }
        }
        if !front.puts.is_empty() {
            let ticket = self.shared.ask(&mut front);
            drop(self.shared.wait(front, |front| front.answered >= ticket));
        }
    }

    /// Stores bytes that a restart must not lose, under a kind and a key of the caller's. They become durable soon; it does not wait
    /// for that. Returns `false`, and stores nothing, if they are larger than [`MOST_VALUE_BYTES`].
    pub fn put(&self, kind: &str, key: &str, bytes: &[u8]) -> bool {
        if bytes.len() > MOST_VALUE_BYTES {
            return false;
        }
        self.put_or_remove(kind, key, Some(bytes.into()));
        true
    }

    /// Removes what [`Spool::put`] has stored.
    pub fn remove(&self, kind: &str, key: &str) {
        self.put_or_remove(kind, key, None);
    }

    fn put_or_remove(&self, kind: &str, key: &str, bytes: Option<Arc<[u8]>>) {
        let mut front = self.shared.lock();
        front.puts.insert((kind.to_owned(), key.to_owned()), bytes);
        self.shared.ask(&mut front);
    }

    /// Everything of a kind that [`Spool::put`] has stored, by its key.
    #[must_use]
    pub fn all(&self, kind: &str) -> BTreeMap<String, Vec<u8>> {
        let front = self.shared.lock();
        let later = front.puts_of(kind);
        drop(front);
        let owned = kind.to_owned();
        let mut all = self.shared.answer(move |files| files.all(&owned)).unwrap_or_default();
        for (key, bytes) in later {
            match bytes {
                Some(bytes) => _ = all.insert(key, bytes.to_vec()),
                None => _ = all.remove(&key),
            }
        }
        all
    }

    fn get(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        let later = self.shared.lock().puts_of(kind).remove(key);
        if let Some(later) = later {
            return later.map(|bytes| bytes.to_vec());
        }
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.shared.answer(move |files| files.get(&kind, &key)).flatten()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Why the spool cannot be opened. To continue without it would send a host's values twice, or destroy a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has the file open.
    InUse(PathBuf),
    /// The file is in a format that this version does not know.
    Newer(PathBuf),
    /// The system gives no thread for the file.
    Thread(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                formatter,
                "`{}` is in use by another wasaba: stop that one, or set another `root` for this one",
                path.display()
            ),
            Self::Newer(path) => write!(
                formatter,
                "`{}` was written by a newer wasaba: install that version again, or move the file away, which loses the \
                 values queued in it",
                path.display()
            ),
            Self::Thread(error) => write!(formatter, "cannot start a thread for the queue: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}
