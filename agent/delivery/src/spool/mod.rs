//! The spool: the durable queue between collecting and delivering, in one file `wasaba.db` under the root folder.
//!
//! A [`Minute`] counts as collected when [`Spool::keep`] has put it there and leaves when it was delivered, when Mackerel
//! refused it for good, or when it is older than [`HORIZON_SECONDS`]; the [`Ledger`] accounts for every point. The file
//! also holds the last readings of counters, what plugins keep, and a copy of the host id. A disk that cannot be written, or a damaged file,
//! never stops the agent. The spool sends nothing itself, and what was delivered is not kept.

mod disk;
mod encoding;
mod memory;
mod pending;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::{Disk, Trouble};
use pending::Pending;
use serde::{Deserialize, Serialize};
use wasaba_core::collect::rate::Reading;
use wasaba_core::sample::Sample;

/// Mackerel answers 200 to points older than this but does not store them, so they are not worth sending.
pub const HORIZON_SECONDS: i64 = 24 * 60 * 60;

/// The samples in the file take at most this much; beyond it the oldest go. A day of 30 metrics takes 1.4 MB.
pub const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// All samples of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// Seconds since 1970.
    pub time: i64,
    /// At most one for each host's name once it is in the spool.
    pub samples: Vec<Sample>,
}

impl Minute {
    /// What of it is wanted, if anything is.
    fn only(mut self, is_wanted: &impl Fn(&Sample) -> bool) -> Option<Self> {
        self.samples.retain(is_wanted);
        (!self.samples.is_empty()).then_some(self)
    }
}

/// What became of some samples of the minute at `time`. A sample that has another value by now (the minute was kept
/// again meanwhile) stays queued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settlement {
    /// The minute they are from.
    pub time: i64,
    /// Mackerel has them.
    pub delivered: Vec<Sample>,
    /// Mackerel will never take them.
    pub rejected: Vec<Sample>,
}

/// What one plugin instance keeps, by key.
pub type Values = BTreeMap<String, Vec<u8>>;

/// What instances keep that is not in the file yet, by their names, with when they were last known to be wanted.
type Kept = BTreeMap<String, (Arc<Values>, i64)>;

/// What an instance keeps stays for this long after the instance was last there.
pub const VALUES_STAY_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Where every point went, since the file was made. Always `collected = delivered + queued + expired + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Points that were handed to [`Spool::keep`]; a host's name twice in a minute is one point.
    pub collected: u64,
    /// Points that Mackerel has.
    pub delivered: u64,
    /// Points that wait, in the file or in memory.
    pub queued: u64,
    /// Points that were dropped because they were too old, the queue too long, or their file damaged.
    pub expired: u64,
    /// Points that Mackerel refused for good.
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

/// The durable queue. Every method may wait for the disk, so async callers put it on a blocking thread.
pub struct Spool {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// `None` while the file cannot be used.
    disk: Option<Disk>,
    /// What the file says, or last said.
    in_file: Ledger,
    pending: Pending,
    readings: BTreeMap<String, Reading>,
    host_id: Option<String>,
    /// Written with the next commit; in memory as long as the disk fails.
    values: Kept,
    /// Readings or host id differ from those in the file.
    facts_changed: bool,
    /// Since when it cannot be written, that was said once, and this counts the points that memory could not hold.
    failing: Option<u64>,
    /// What is wrong with the file; it is set aside before it is opened again.
    damaged: Option<String>,
}

impl Spool {
    /// Opens or makes `wasaba.db` in `root`. Reads the whole file once to check it.
    ///
    /// A damaged file is set aside and a new one made. If there can be none (read-only, full, no permission), the spool
    /// works in memory and tries again with each [`Spool::keep`].
    ///
    /// # Errors
    /// Only what going on would make worse: see [`OpenError`].
    pub fn open(root: &Path, now: i64) -> Result<Self, OpenError> {
        let path = root.join("wasaba.db");
        let mut state = State {
            disk: None,
            in_file: Ledger::default(),
            pending: Pending::default(),
            readings: BTreeMap::new(),
            host_id: None,
            values: Kept::new(),
            facts_changed: false,
            failing: None,
            damaged: None,
        };
        match state.reopen(&path, now) {
            Ok(()) => {}
            Err(Trouble::InUse) => return Err(OpenError::InUse(path)),
            Err(Trouble::Newer) => return Err(OpenError::Newer(path)),
            Err(trouble) => state.give_up_file(&path, trouble),
        }
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Takes a minute and the readings that belong to it, and drops what is too old, in one durable commit.
    ///
    /// Never fails: while the disk does, the newest hour stays in memory. Returns whether everything is on disk.
    pub fn keep(&self, minute: Minute, readings: &[(String, Reading)], now: i64) -> bool {
        let mut state = self.lock();
        state.pending.keep(minute);
        if !readings.is_empty() {
            state.facts_changed = true;
            state.readings.retain(|_, reading| reading.unix_millis >= (now - HORIZON_SECONDS) * 1_000);
            state.readings.extend(readings.iter().cloned());
        }
        state.commit_reopening(&self.path, now)
    }

    /// The newest minutes, newest first, with `max_points` points at most, but at least one minute if there is any. Points of
    /// the hosts that are `absent`, which are given by their custom identifiers, are left where they are.
    #[must_use]
    pub fn newest(&self, max_points: usize, absent: &BTreeSet<Arc<str>>) -> Vec<Minute> {
        let mut state = self.lock();
        let is_wanted = |sample: &Sample| sample.host().is_none_or(|host| !absent.contains(host));
        let mut minutes = state.read_file(&self.path, |disk| disk.newest(max_points, &is_wanted));
        minutes.extend(state.pending.minutes().filter_map(|minute| minute.only(&is_wanted)));
        minutes.sort_by_key(|minute| std::cmp::Reverse(minute.time));
        let mut points = 0;
        minutes.retain(|minute| {
            let first = points == 0;
            points += minute.samples.len();
            first || points <= max_points
        });
        minutes
    }

    /// The queued minutes from `unix_seconds` on, oldest first. What was delivered is gone.
    #[must_use]
    pub fn since(&self, unix_seconds: i64) -> Vec<Minute> {
        let mut state = self.lock();
        let mut minutes = state.read_file(&self.path, |disk| disk.since(unix_seconds));
        minutes.extend(state.pending.minutes().filter(|minute| minute.time >= unix_seconds));
        minutes.sort_by_key(|minute| minute.time);
        minutes
    }

    /// Takes what was delivered or rejected out of the queue, in one commit that is durable on return.
    ///
    /// If the disk fails, that is caught up on with the next [`Spool::keep`] that can write.
    pub fn settle(&self, settlements: Vec<Settlement>) {
        let mut state = self.lock();
        for settlement in settlements {
            state.pending.settle(settlement);
        }
        state.commit(&self.path, None);
    }

    /// Drops what is older than [`HORIZON_SECONDS`] or too much. [`Spool::keep`] does it too, in its own commit.
    pub fn expire(&self, now: i64) {
        self.lock().commit_reopening(&self.path, now);
    }

    /// Where every point went.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        state.in_file.plus(state.pending.ledger)
    }

    /// The last reading of each counter.
    #[must_use]
    pub fn readings(&self) -> BTreeMap<String, Reading> {
        self.lock().readings.clone()
    }

    /// The copy of the host id, for when the id file is empty or damaged.
    #[must_use]
    pub fn host_id(&self) -> Option<String> {
        self.lock().host_id.clone()
    }

    /// Keeps a copy of the host id. Costs nothing if it is the same.
    pub fn keep_host_id(&self, host_id: &str) {
        let mut state = self.lock();
        if state.host_id.as_deref() != Some(host_id) {
            state.host_id = Some(host_id.to_owned());
            state.facts_changed = true;
            state.commit(&self.path, None);
        }
    }

    /// What the instance of this name keeps.
    #[must_use]
    pub fn values(&self, instance: &str) -> Values {
        let mut state = self.lock();
        if let Some((values, _)) = state.values.get(instance) {
            return Values::clone(values);
        }
        let found = state.disk.as_ref().map(|disk| disk.values(instance));
        match found {
            Some(Ok(Some((values, _)))) => values,
            Some(Err(trouble)) => {
                state.give_up_file(&self.path, trouble);
                Values::new()
            }
            Some(Ok(None)) | None => Values::new(),
        }
    }

    /// Keeps all of an instance's values in place of what it kept before. Durable with the next [`Spool::keep`], so that
    /// they belong to the minute in which they were set.
    pub fn keep_values(&self, instance: &str, values: Arc<Values>, now: i64) {
        self.lock().values.insert(instance.to_owned(), (values, now));
    }

    /// Drops what was kept by instances that are not among the `known` and were not there for [`VALUES_STAY_SECONDS`].
    pub fn forget_values(&self, known: &[Arc<str>], now: i64) {
        let mut state = self.lock();
        let forgotten = state.disk.as_ref().map(|disk| disk.forget_values(known, now - VALUES_STAY_SECONDS));
        if let Some(Err(trouble)) = forgotten {
            state.give_up_file(&self.path, trouble);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside redb leaves our own books as they were before the commit.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit_reopening(&mut self, path: &Path, now: i64) -> bool {
        if self.disk.is_none()
            && let Err(trouble) = self.reopen(path, now)
        {
            self.give_up_file(path, trouble);
        }
        let waited = self.pending.minutes.len();
        if !self.commit(path, Some(now)) {
            self.drop_what_memory_cannot_hold(now);
            return false;
        }
        if let Some(lost) = self.failing.take() {
            tracing::info!(
                "`{}` can be written again: {waited} minutes moved to it, {lost} points lost",
                path.display()
            );
        }
        true
    }

    /// Writes everything that is pending, if the file is open. With `now`, also expires.
    fn commit(&mut self, path: &Path, now: Option<i64>) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        let facts =
            self.facts_changed.then_some(disk::Facts { readings: &self.readings, host_id: self.host_id.as_deref() });
        match disk.commit(&self.pending, facts, &self.values, now.map(|now| now - HORIZON_SECONDS)) {
            Ok(ledger) => {
                self.in_file = ledger;
                self.pending = Pending::default();
                self.values.clear();
                self.facts_changed = false;
                true
            }
            Err(trouble) => {
                self.give_up_file(path, trouble);
                false
            }
        }
    }

    /// Opens the file and takes over what it knows; a damaged one is replaced.
    fn reopen(&mut self, path: &Path, now: i64) -> Result<(), Trouble> {
        if let Some(why) = &self.damaged {
            disk::set_aside(path, now, why)?;
            self.damaged = None;
        }
        let (disk, contents) = match Disk::open(path) {
            Err(Trouble::Damaged(why)) => {
                disk::set_aside(path, now, &why)?;
                Disk::open(path)?
            }
            opened => opened?,
        };
        if contents.ledger.is_none() {
            // What was queued in the file before this one is lost, but not forgotten.
            self.in_file.expire(self.in_file.queued);
        }
        self.in_file = contents.ledger.unwrap_or(self.in_file);
        self.disk = Some(disk.with_ledger(self.in_file));
        for (name, reading) in contents.readings {
            self.readings.entry(name).or_insert(reading);
        }
        self.host_id = self.host_id.take().or(contents.host_id);
        self.facts_changed = true;
        Ok(())
    }

    fn read_file(&mut self, path: &Path, read: impl FnOnce(&Disk) -> Result<Vec<Minute>, Trouble>) -> Vec<Minute> {
        let Some(disk) = &self.disk else { return Vec::new() };
        read(disk).unwrap_or_else(|trouble| {
            self.give_up_file(path, trouble);
            Vec::new()
        })
    }

    /// redb refuses everything after an I/O error, so the file is closed here and opened anew by the next `keep`.
    fn give_up_file(&mut self, path: &Path, trouble: Trouble) {
        self.disk = None;
        if self.failing.is_none() {
            self.failing = Some(0);
            tracing::warn!(
                "cannot use `{}`: {trouble}; up to {} minutes are kept in memory until it can be written, see its \
                 permissions and the free space",
                path.display(),
                pending::MOST_MINUTES
            );
        }
        if let Trouble::Damaged(why) = trouble {
            self.damaged = Some(why);
        }
    }

    fn drop_what_memory_cannot_hold(&mut self, now: i64) {
        let dropped = self.pending.expire(now - HORIZON_SECONDS);
        let lost = self.failing.get_or_insert(0);
        if dropped > 0 && *lost == 0 {
            tracing::warn!(
                "the queue in memory is full: {dropped} points dropped, and more with each minute from now on"
            );
        }
        *lost += dropped;
    }
}

impl Settlement {
    /// Takes out of `samples` what it names, tells the ledger, and keeps what it did not find.
    fn apply(&mut self, samples: &mut Vec<Sample>, ledger: &mut Ledger) {
        let delivered = remove(samples, &mut self.delivered);
        let rejected = remove(samples, &mut self.rejected);
        ledger.delivered += delivered;
        ledger.rejected += rejected;
        ledger.queued -= delivered + rejected;
    }

    fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.rejected.is_empty()
    }
}

/// Removes from both lists what is in both; `samples` is sorted by host and name. Returns how many.
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

impl Ledger {
    fn expire(&mut self, points: u64) {
        self.queued -= points;
        self.expired += points;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            collected: self.collected + other.collected,
            delivered: self.delivered + other.delivered,
            queued: self.queued + other.queued,
            expired: self.expired + other.expired,
            rejected: self.rejected + other.rejected,
        }
    }
}

/// Why there is no spool; going on without would send a host's values twice, or destroy a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has the file open.
    InUse(PathBuf),
    /// The file is in a format that this version does not know.
    Newer(PathBuf),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                formatter,
                "`{}` is used by another wasaba: stop that one, or give this one another `root`",
                path.display()
            ),
            Self::Newer(path) => write!(
                formatter,
                "`{}` was written by a newer wasaba: install that version again, or move the file away and lose what is \
                 queued in it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests;
