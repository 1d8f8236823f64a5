//! The spool: the durable queue between collecting and delivering, in one file `wasaba.db` under the root folder.
//!
//! A [`Minute`] counts as collected once [`Spool::keep`] has stored it, and leaves the queue when it is delivered, when
//! Mackerel refuses it for good, or when it is older than [`HORIZON_SECONDS`]; the [`Ledger`] accounts for every point. The
//! file also holds the last readings of counters, the values that plugins keep, and a copy of the host id. Neither a failing
//! disk nor a damaged file stops the agent. The spool sends nothing itself and does not archive delivered values.

mod disk;
mod encoding;
mod ledger;
mod memory;
mod pending;
mod readings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::{Disk, FileError};
pub use ledger::{Ledger, Settlement};
use pending::Pending;
use readings::Readings;
use wasaba_core::collect::StoredValues;
use wasaba_core::collect::rate::Reading;
use wasaba_core::sample::Sample;
use wasaba_core::text::counted;

/// Mackerel answers 200 to points older than this but does not store them, so sending them is pointless.
pub const HORIZON_SECONDS: i64 = 24 * 60 * 60;

/// The limit for all samples in the file; beyond it the oldest are dropped. A day of 30 metrics takes 1.4 MB.
pub const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// The queued samples of one point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// Seconds since 1970.
    pub time: i64,
    /// Once in the spool, at most one for each host and name.
    pub samples: Vec<Sample>,
}

impl Minute {
    /// The same minute with only the samples that pass the filter; `None` if none does.
    fn filtered(mut self, filter: &impl Fn(i64, &Sample) -> bool) -> Option<Self> {
        let time = self.time;
        self.samples.retain(|sample| filter(time, sample));
        (!self.samples.is_empty()).then_some(self)
    }
}

/// Values that are not in the file yet, by instance.
type UnwrittenValues = BTreeMap<String, Arc<StoredValues>>;

/// The values of an instance stay for this long after the first start without the instance.
pub const VALUES_STAY_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The durable queue. Every method may wait for the disk, so async code calls them on a blocking thread.
pub struct Spool {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// `None` while the file is unusable.
    disk: Option<Disk>,
    /// The ledger of the last commit.
    in_file: Ledger,
    pending: Pending,
    readings: Readings,
    host_id: Option<String>,
    /// Written with the next commit; in memory as long as the disk fails.
    values: UnwrittenValues,
    /// Whether the host id differs from the one in the file.
    host_id_changed: bool,
    /// `Some` since the file became unusable, which was logged once; counts the points that memory could not hold.
    dropped_while_failing: Option<u64>,
    /// Why the file is damaged; it is set aside before it is opened again.
    damaged: Option<String>,
}

impl Spool {
    /// Opens or creates `wasaba.db` in `root`. Reads the whole file once to check it.
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
            readings: Readings::default(),
            host_id: None,
            values: UnwrittenValues::new(),
            host_id_changed: false,
            dropped_while_failing: None,
            damaged: None,
        };
        match state.reopen(&path, now) {
            Ok(()) => {}
            Err(FileError::InUse) => return Err(OpenError::InUse(path)),
            Err(FileError::Newer) => return Err(OpenError::Newer(path)),
            Err(error) => state.close_file(&path, error),
        }
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Stores a minute and the readings that belong to it, and drops minutes that are too old, in one durable commit.
    ///
    /// Never fails: while the disk does, the newest hour stays in memory. Returns whether everything is on disk.
    pub fn keep(&self, minute: Minute, readings: &[(String, Reading)], now: i64) -> bool {
        let mut state = self.lock();
        state.pending.keep(minute);
        state.readings.keep(readings, now);
        state.commit_reopening(&self.path, now)
    }

    /// The newest minutes, newest first, with at most `max_points` points, but at least one minute if there is any. Only the
    /// points that pass the filter, which is given the time of each.
    #[must_use]
    pub fn newest(&self, max_points: usize, filter: &impl Fn(i64, &Sample) -> bool) -> Vec<Minute> {
        let mut state = self.lock();
        let mut minutes = state.read_file(&self.path, |disk| disk.newest(max_points, filter));
        minutes.extend(state.pending.minutes().filter_map(|minute| minute.filtered(filter)));
        minutes.sort_by_key(|minute| std::cmp::Reverse(minute.time));
        let mut points = 0;
        minutes.retain(|minute| {
            let first = points == 0;
            points += minute.samples.len();
            first || points <= max_points
        });
        minutes
    }

    /// The queued minutes from `unix_seconds` on, oldest first, without what was delivered already.
    #[must_use]
    pub fn since(&self, unix_seconds: i64) -> Vec<Minute> {
        let mut state = self.lock();
        let mut minutes = state.read_file(&self.path, |disk| disk.since(unix_seconds));
        minutes.extend(state.pending.minutes().filter(|minute| minute.time >= unix_seconds));
        minutes.sort_by_key(|minute| minute.time);
        minutes
    }

    /// Removes delivered and rejected samples from the queue, in one commit that is durable on return.
    ///
    /// If the disk fails, the next [`Spool::keep`] that can write makes up for it.
    pub fn settle(&self, settlements: Vec<Settlement>) {
        let mut state = self.lock();
        for settlement in settlements {
            state.pending.settle(settlement);
        }
        state.commit(&self.path, None);
    }

    /// Drops minutes older than [`HORIZON_SECONDS`] or beyond [`MOST_BYTES`]. [`Spool::keep`] does so too, in its own commit.
    pub fn expire(&self, now: i64) {
        self.lock().commit_reopening(&self.path, now);
    }

    /// Where every point went.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        state.in_file.plus(state.pending.ledger)
    }

    /// The last reading of each counter of a source, as long as a rate needs it.
    #[must_use]
    pub fn readings(&self, source: &str) -> BTreeMap<String, Reading> {
        self.lock().readings.of(source)
    }

    /// The copy of the host id, in case the id file is empty or damaged.
    #[must_use]
    pub fn host_id(&self) -> Option<String> {
        self.lock().host_id.clone()
    }

    /// Stores a copy of the host id. Costs nothing if it has not changed.
    pub fn keep_host_id(&self, host_id: &str) {
        let mut state = self.lock();
        if state.host_id.as_deref() != Some(host_id) {
            state.host_id = Some(host_id.to_owned());
            state.host_id_changed = true;
            state.commit(&self.path, None);
        }
    }

    /// The values of the instance of this name.
    #[must_use]
    pub fn values(&self, instance: &str) -> StoredValues {
        let mut state = self.lock();
        if let Some(values) = state.values.get(instance) {
            return StoredValues::clone(values);
        }
        let found = state.disk.as_ref().map(|disk| disk.values(instance));
        match found {
            Some(Ok(Some(values))) => values,
            Some(Err(error)) => {
                state.close_file(&self.path, error);
                StoredValues::new()
            }
            Some(Ok(None)) | None => StoredValues::new(),
        }
    }

    /// Replaces all values of an instance. They become durable with the next [`Spool::keep`], so that they belong to the
    /// minute in which they were set.
    pub fn keep_values(&self, instance: &str, values: Arc<StoredValues>) {
        self.lock().values.insert(instance.to_owned(), values);
    }

    /// Drops the values of instances that are not among the `known`, and were not at any start for [`VALUES_STAY_SECONDS`]. Called
    /// once at each start; how long an instance has stored nothing does not matter.
    pub fn forget_values(&self, known: &[Arc<str>], now: i64) {
        let mut state = self.lock();
        let result = state.disk.as_ref().map(|disk| disk.forget_values(known, now));
        if let Some(Err(error)) = result {
            state.close_file(&self.path, error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside redb leaves our own ledger unchanged since before the commit.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit_reopening(&mut self, path: &Path, now: i64) -> bool {
        if self.disk.is_none()
            && let Err(error) = self.reopen(path, now)
        {
            self.close_file(path, error);
        }
        let minutes = self.pending.minutes.len();
        if !self.commit(path, Some(now)) {
            self.drop_beyond_memory_limit(now);
            return false;
        }
        if let Some(dropped) = self.dropped_while_failing.take() {
            tracing::info!(
                "`{}` recovered: moved {} from memory to it; dropped {} meanwhile",
                path.display(),
                counted(minutes as u64, "minute"),
                counted(dropped, "point")
            );
        }
        true
    }

    /// Writes everything that is pending, if the file is open. With `now`, also drops what is too old.
    fn commit(&mut self, path: &Path, now: Option<i64>) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        let host_id = self.host_id.as_deref().filter(|_| self.host_id_changed);
        let facts = disk::Facts { host_id, readings: &self.readings, values: &self.values };
        match disk.commit(&self.pending, &facts, now.map(|now| now - HORIZON_SECONDS)) {
            Ok(ledger) => {
                self.in_file = ledger;
                self.pending = Pending::default();
                self.values.clear();
                self.readings.are_written();
                self.host_id_changed = false;
                true
            }
            Err(error) => {
                self.close_file(path, error);
                false
            }
        }
    }

    /// Opens the file and takes over its contents; a damaged one is replaced.
    fn reopen(&mut self, path: &Path, now: i64) -> Result<(), FileError> {
        if let Some(why) = &self.damaged {
            disk::set_aside(path, now, why)?;
            self.damaged = None;
        }
        let (disk, contents) = match Disk::open(path) {
            Err(FileError::Damaged(why)) => {
                disk::set_aside(path, now, &why)?;
                Disk::open(path)?
            }
            opened => opened?,
        };
        if contents.ledger.is_none() {
            // The points queued in the previous file are lost, but still accounted for.
            self.in_file.expire(self.in_file.queued);
        }
        self.in_file = contents.ledger.unwrap_or(self.in_file);
        self.disk = Some(disk.with_ledger(self.in_file));
        for (source, readings) in contents.readings {
            self.readings.restore(source, readings, now);
        }
        self.readings.are_unwritten();
        self.host_id = self.host_id.take().or(contents.host_id);
        self.host_id_changed = true;
        Ok(())
    }

    fn read_file(&mut self, path: &Path, read: impl FnOnce(&Disk) -> Result<Vec<Minute>, FileError>) -> Vec<Minute> {
        let Some(disk) = &self.disk else { return Vec::new() };
        read(disk).unwrap_or_else(|error| {
            self.close_file(path, error);
            Vec::new()
        })
    }

    /// redb refuses everything after an I/O error, so the file is closed here, and the next `keep` opens it again.
    fn close_file(&mut self, path: &Path, error: FileError) {
        self.disk = None;
        if self.dropped_while_failing.is_none() {
            self.dropped_while_failing = Some(0);
            tracing::warn!(
                "cannot use `{}`: {error}; keeping up to {} minutes in memory until it is usable: check its permissions \
                 and the free disk space",
                path.display(),
                pending::MOST_MINUTES
            );
        }
        if let FileError::Damaged(why) = error {
            self.damaged = Some(why);
        }
    }

    fn drop_beyond_memory_limit(&mut self, now: i64) {
        let dropped = self.pending.expire(now - HORIZON_SECONDS);
        let total = self.dropped_while_failing.get_or_insert(0);
        if dropped > 0 && *total == 0 {
            tracing::warn!(
                "the queue in memory is full: dropped {}, and each new minute drops more",
                counted(dropped, "point")
            );
        }
        *total += dropped;
    }
}

/// Why the spool cannot be opened. To continue without it would send a host's values twice, or destroy a queue.
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
                "`{}` is in use by another wasaba: stop that one, or set another `root` for this one",
                path.display()
            ),
            Self::Newer(path) => write!(
                formatter,
                "`{}` was written by a newer wasaba: install that version again, or move the file away, which loses the \
                 values queued in it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests;
