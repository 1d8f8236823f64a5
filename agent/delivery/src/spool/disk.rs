//! The spool's file: a redb database with four tables, and the one transaction in which everything is written.
//!
//! It reports what is wrong with the file ([`FileError`]); the spool decides what to do about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use redb::backends::FileBackend;
use redb::{
    CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition,
    TableError, TransactionError,
};
use serde::{Deserialize, Serialize};
use wasaba_core::paths::own::{self, Folder};
use wasaba_core::sample::Sample;
use wasaba_core::text::counted;

use super::encoding::{
    PRESENT, absent_since, decode, decode_readings, decode_values, encode, encode_readings, encode_values, with_absence,
};
use super::pending::{Pending, merge};
use super::readings::{OfSource, Readings};
use super::{Ledger, MOST_BYTES, Minute, Settlement, StoredValues, UnwrittenValues, VALUES_STAY_SECONDS};

/// Increased when a version that knows only the previous format would misread the file.
const FORMAT: u32 = 1;

/// The agent's whole budget is 4 MB. A day's queue is read once, at the end of an outage; a single minute needs five pages.
const CACHE_BYTES: usize = 256 * 1024;

/// Unix time to [`encode`]d samples.
const MINUTES: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("minutes");

/// `totals` and `host-id`, each in its own encoding.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// Names of sources to [`encode_readings`]d readings of their counters.
const READINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("readings");

/// Instance names to [`encode_values`]d values.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kept_values");

pub(super) struct Disk {
    database: Database,
    totals: Totals,
}

/// Written with every commit, in the same transaction as the minutes that they sum up.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Totals {
    format: u32,
    ledger: Ledger,
    /// Of all encoded minutes.
    bytes: u64,
}

/// The contents of a file that was just opened, without its minutes.
pub(super) struct Contents {
    /// `None` in a new file.
    pub(super) ledger: Option<Ledger>,
    pub(super) readings: BTreeMap<String, OfSource>,
    pub(super) host_id: Option<String>,
}

/// What a commit writes beside the minutes.
pub(super) struct Facts<'a> {
    /// If it has changed.
    pub(super) host_id: Option<&'a str>,
    /// Of these, what has changed.
    pub(super) readings: &'a Readings,
    /// Those that have changed.
    pub(super) values: &'a UnwrittenValues,
}

impl Disk {
    /// Opens the file, creates it if there is none, and checks it from end to end (4 ms for a full day of a small host).
    pub(super) fn open(path: &Path) -> Result<(Self, Contents), FileError> {
        if let Some(root) = path.parent() {
            Folder::create(root, 0o750)?;
        }
        let file = own::open_or_create(path, 0o600)?;
        let backend = FileBackend::new(file)?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            // Without it, redb may panic at any later time if the file was altered while closed.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)?;
        let (totals, contents) = read_contents(&database)?;
        Ok((Self { database, totals }, contents))
    }

    /// Continues the ledger of an earlier file.
    pub(super) fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.totals.ledger = ledger;
        self
    }

    /// Writes everything that is pending, drops minutes older than `horizon` or beyond [`MOST_BYTES`], and returns the new
    /// ledger.
    pub(super) fn commit(
        &mut self,
        pending: &Pending,
        facts: &Facts<'_>,
        horizon: Option<i64>,
    ) -> Result<Ledger, FileError> {
        let transaction = self.database.begin_write()?;
        let mut totals = self.totals;
        {
            let mut queue = Queue { table: transaction.open_table(MINUTES)?, totals: &mut totals };
            queue.add(pending)?;
            pending.settlements.iter().try_for_each(|settlement| queue.settle(settlement.clone()))?;
            queue.expire(horizon)?;
            let mut table = transaction.open_table(FACTS)?;
            if let Some(host_id) = facts.host_id {
                table.insert("host-id", host_id.as_bytes())?;
                // Of an earlier version, which wrote all of them with each commit.
                table.remove("readings")?;
            }
            table.insert("totals", serde_json::to_vec(&totals).unwrap_or_default().as_slice())?;
            if facts.readings.changed().next().is_some() {
                let mut table = transaction.open_table(READINGS)?;
                for (source, readings) in facts.readings.changed() {
                    match readings {
                        Some(readings) => table.insert(source, encode_readings(readings).as_slice())?,
                        None => table.remove(source)?,
                    };
                }
            }
            if !facts.values.is_empty() {
                let mut table = transaction.open_table(VALUES)?;
                for (instance, values) in facts.values {
                    table.insert(instance.as_str(), encode_values(values).as_slice())?;
                }
            }
        }
        transaction.commit()?;
        self.totals = totals;
        Ok(totals.ledger)
    }

    /// The values of an instance.
    pub(super) fn values(&self, instance: &str) -> Result<Option<StoredValues>, FileError> {
        let table = match self.database.begin_read()?.open_table(VALUES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        let Some(bytes) = table.get(instance)? else { return Ok(None) };
        let values = decode_values(bytes.value());
        values.map(Some).ok_or_else(|| FileError::Damaged(format!("invalid values of {instance}")))
    }

    /// Notes that the `known` instances are present and the others absent, from `now` on if they were present before. Drops the
    /// values of those that are absent for longer than [`VALUES_STAY_SECONDS`].
    pub(super) fn forget_values(&self, known: &[Arc<str>], now: i64) -> Result<(), FileError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(VALUES)?;
            let mut noted = Vec::new();
            table.retain(|instance, bytes| {
                let Some(since) = absent_since(bytes) else { return false };
                let is_known = known.iter().any(|known| **known == *instance);
                if is_known == (since != PRESENT) {
                    noted.push((instance.to_owned(), with_absence(bytes, if is_known { PRESENT } else { now })));
                    return true;
                }
                is_known || now.saturating_sub(since) <= VALUES_STAY_SECONDS
            })?;
            for (instance, bytes) in noted {
                table.insert(instance.as_str(), bytes.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The newest minutes, newest first: at least one, and no more once they exceed `max_points`.
    pub(super) fn newest(
        &self,
        max_points: usize,
        filter: &impl Fn(i64, &Sample) -> bool,
    ) -> Result<Vec<Minute>, FileError> {
        if self.totals.ledger.queued == 0 {
            return Ok(Vec::new());
        }
        let table = self.database.begin_read()?.open_table(MINUTES)?;
        let (mut minutes, mut points) = (Vec::new(), 0);
        for row in table.iter()?.rev() {
            let Some(minute) = minute(row?)?.filtered(filter) else { continue };
            points += minute.samples.len();
            if points > max_points && !minutes.is_empty() {
                break;
            }
            minutes.push(minute);
        }
        Ok(minutes)
    }

    /// The minutes from `unix_seconds` on, oldest first.
    pub(super) fn since(&self, unix_seconds: i64) -> Result<Vec<Minute>, FileError> {
        let table = self.database.begin_read()?.open_table(MINUTES)?;
        table.range(unix_seconds..)?.map(|row| minute(row?)).collect()
    }
}

fn minute(
    (time, bytes): (redb::AccessGuard<'_, i64>, redb::AccessGuard<'_, &'static [u8]>),
) -> Result<Minute, FileError> {
    let time = time.value();
    let samples =
        decode(bytes.value()).ok_or_else(|| FileError::Damaged(format!("invalid samples of minute {time}")))?;
    Ok(Minute { time, samples })
}

/// Reads everything but the minutes, once the format is known to be one that this version understands.
fn read_contents(database: &Database) -> Result<(Totals, Contents), FileError> {
    let new = Totals { format: FORMAT, ledger: Ledger::default(), bytes: 0 };
    let table = match database.begin_read()?.open_table(FACTS) {
        Err(TableError::TableDoesNotExist(_)) => {
            return Ok((new, Contents { ledger: None, readings: BTreeMap::new(), host_id: None }));
        }
        table => table?,
    };
    let damaged = |fact: &str| FileError::Damaged(format!("invalid `{fact}`"));
    let bytes = table.get("totals")?.ok_or_else(|| damaged("totals"))?;
    // The format alone first: the rest of a newer file may look different.
    let format = serde_json::from_slice::<Format>(bytes.value()).map_err(|_| damaged("totals"))?.format;
    if format > FORMAT {
        return Err(FileError::Newer);
    }
    let totals: Totals = serde_json::from_slice(bytes.value()).map_err(|_| damaged("totals"))?;
    let mut readings = BTreeMap::new();
    match database.begin_read()?.open_table(READINGS) {
        Err(TableError::TableDoesNotExist(_)) => {}
        rows => {
            for row in rows?.iter()? {
                let (source, bytes) = row?;
                let of_source = decode_readings(bytes.value()).ok_or_else(|| damaged("readings"))?;
                readings.insert(source.value().to_owned(), of_source);
            }
        }
    }
    let host_id = table.get("host-id")?.and_then(|bytes| String::from_utf8(bytes.value().to_vec()).ok());
    Ok((totals, Contents { ledger: Some(totals.ledger), readings, host_id }))
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The minutes inside a transaction; each change also updates the totals.
struct Queue<'t, 'totals> {
    table: Table<'t, i64, &'static [u8]>,
    totals: &'totals mut Totals,
}

impl Queue<'_, '_> {
    fn add(&mut self, pending: &Pending) -> Result<(), FileError> {
        self.totals.ledger = self.totals.ledger.plus(pending.ledger);
        for (&time, samples) in &pending.minutes {
            let mut known = self.take(time)?;
            let added = merge(&mut known, samples.clone());
            // Points that the file had already, for instance from a commit that reported a failure but was written.
            let duplicates = samples.len() as u64 - added;
            self.totals.ledger.collected -= duplicates;
            self.totals.ledger.queued -= duplicates;
            self.put(time, &known)?;
        }
        Ok(())
    }

    fn settle(&mut self, mut settlement: Settlement) -> Result<(), FileError> {
        let mut samples = self.take(settlement.time)?;
        settlement.apply(&mut samples, &mut self.totals.ledger);
        self.put(settlement.time, &samples)
    }

    /// Every commit enforces [`MOST_BYTES`], but only one with a `horizon` drops by age.
    fn expire(&mut self, horizon: Option<i64>) -> Result<(), FileError> {
        let (mut minutes, mut points) = (0_u64, 0_u64);
        loop {
            let oldest = self.table.first()?.map(|(time, _)| time.value());
            let Some(oldest) = oldest else { break };
            if horizon.is_none_or(|horizon| oldest >= horizon) && self.totals.bytes <= MOST_BYTES {
                break;
            }
            minutes += 1;
            points += self.take(oldest)?.len() as u64;
        }
        self.totals.ledger.expire(points);
        if points > 0 {
            tracing::warn!(
                "dropped {} of {}: older than 24 h, or the queue exceeded {} MiB",
                counted(points, "undelivered point"),
                counted(minutes, "minute"),
                MOST_BYTES / 1024 / 1024
            );
        }
        Ok(())
    }

    fn take(&mut self, time: i64) -> Result<Vec<Sample>, FileError> {
        let Some(bytes) = self.table.remove(time)? else { return Ok(Vec::new()) };
        self.totals.bytes = self.totals.bytes.saturating_sub(bytes.value().len() as u64);
        decode(bytes.value()).ok_or_else(|| FileError::Damaged(format!("invalid samples of minute {time}")))
    }

    fn put(&mut self, time: i64, samples: &[Sample]) -> Result<(), FileError> {
        if !samples.is_empty() {
            let bytes = encode(samples);
            self.totals.bytes += bytes.len() as u64;
            self.table.insert(time, bytes.as_slice())?;
        }
        Ok(())
    }
}

/// Renames a damaged file to `wasaba.db.damaged-<time>`, so that it can be inspected.
#[expect(clippy::disallowed_methods, reason = "a name in the agent's own folder")]
pub(super) fn set_aside(path: &Path, now: i64, why: &str) -> Result<(), FileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{now}"));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside)?;
    if let Some(root) = path.parent() {
        Folder::open(root)?.sync()?;
    }
    tracing::warn!(
        "`{}` is damaged ({why}): renamed it to `{}` and started a new one; the values queued in it are lost",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(super) enum FileError {
    InUse,
    Newer,
    Damaged(String),
    Unusable(String),
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => formatter.write_str("in use by another process"),
            Self::Newer => formatter.write_str("written by a newer wasaba"),
            Self::Damaged(why) => write!(formatter, "damaged: {why}"),
            Self::Unusable(why) => formatter.write_str(why),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // How redb reports that the bytes are not a redb database.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
            _ => Self::Unusable(error.to_string()),
        }
    }
}

impl From<StorageError> for FileError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(why) => Self::Damaged(why),
            StorageError::Io(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<DatabaseError> for FileError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::UpgradeRequired(_) => Self::Newer,
            DatabaseError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<TransactionError> for FileError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<CommitError> for FileError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<TableError> for FileError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            // Our tables never change their types without a new `FORMAT`.
            other => Self::Damaged(other.to_string()),
        }
    }
}
