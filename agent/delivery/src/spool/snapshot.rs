//! A look into the queue's file beside the agent that writes it: without a lock, and without changing anything.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use wasaba_core::paths::named;

use super::disk::{Disk, File, Root};
use super::durable::{self, Contents};
use super::frames::{Scan, TailState};
use super::log::{Log, Opened, Unreadable};
use super::queue::Queue;
use super::trouble::Trouble;
use super::{Ledger, MOST_BYTES, Minute, Whose};

/// The queue as it was when it was read.
pub struct Snapshot {
    queue: Queue,
    log: Log,
    scan: Scan,
}

/// Whether a file is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How many commits it has since it was rewritten.
    pub frames: u64,
    /// Its size up to the end of the last of them.
    pub bytes: u64,
    /// Bytes after that: of a commit that is being written, or was interrupted. That is not damage.
    pub torn_bytes: u64,
    /// Whether these bytes may as well be those of a commit that is damaged: as many as it needs, but not what was written.
    pub is_tail_doubtful: bool,
    /// What is damaged, by its place in bytes.
    pub damaged: Vec<Range<u64>>,
    /// What is missing because of that, in words.
    pub missing: String,
    /// Whether every point is accounted for.
    pub is_balanced: bool,
}

/// Why the queue cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot read `{}`: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for ReadError {}

/// Reads the queue below `root`, while an agent may be running there. Calls `progress` with each commit that was read.
///
/// # Errors
/// There is no queue, it cannot be opened, or it is of a newer version.
pub fn read(root: &Path, progress: impl FnMut()) -> Result<Snapshot, ReadError> {
    // It may be another user's, as the one who asks is often root.
    let file = named::open(&root.join(Queue::KIND.name)).map(|opened| Box::new(opened.file) as Box<dyn File>);
    read_on(&(Arc::new(Root(root.to_owned())) as Arc<dyn Disk>), file, progress)
}

pub(super) fn read_on(
    disk: &Arc<dyn Disk>,
    file: io::Result<Box<dyn File>>,
    mut progress: impl FnMut(),
) -> Result<Snapshot, ReadError> {
    let opened = file.map_err(Trouble::from).and_then(|file| {
        durable::read::<Queue>(|visit| {
            let mut visit = |at, payload: &[u8]| {
                progress();
                visit(at, payload)
            };
            Log::view(disk, Queue::KIND, file, &mut visit)
        })
    });
    let why = match opened {
        Ok((Opened::Log(log, scan), queue)) => return Ok(Snapshot { queue, log: *log, scan }),
        Ok((Opened::Unreadable(Unreadable::Damaged), _)) => "it is damaged from its beginning".to_owned(),
        Ok((Opened::Unreadable(Unreadable::Redb), _)) => "it is of an earlier version".to_owned(),
        Err(Trouble::Newer) => "it was written by a newer wasaba: use that version".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ReadError { path: disk.path().join(Queue::KIND.name), why })
}

impl Snapshot {
    /// Where every point went.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.queue.ledger
    }

    /// The id of the host that the values belong to, if it is known.
    #[must_use]
    pub fn host_id(&self) -> Option<&str> {
        self.queue.owner.as_deref()
    }

    /// For how many hours the queue has room, at the rate of its last hour.
    #[must_use]
    pub fn hours(&self) -> Option<f64> {
        self.queue.hours(MOST_BYTES)
    }

    /// Whether the file is whole.
    #[must_use]
    pub fn verification(&self) -> Verification {
        let Scan { frames, tail, damaged, .. } = self.scan.clone();
        let queued = self.queue.rows.values().map(|row| u64::from(row.points)).sum::<u64>();
        let is_balanced = self.queue.ledger.is_balanced() && self.queue.ledger.queued == queued;
        Verification {
            frames,
            bytes: self.log.end(),
            torn_bytes: tail.bytes,
            is_tail_doubtful: tail.state == TailState::Doubtful,
            damaged,
            missing: self.queue.missing().map(|missing| missing.to_string()).unwrap_or_default(),
            is_balanced,
        }
    }

    /// The queued minutes, the newest first, each read when it is asked for. One that cannot be read is an error with its time, in
    /// seconds since 1970.
    pub fn minutes(&self) -> impl Iterator<Item = Result<Minute, i64>> {
        self.queue.times(i64::MAX).map(|time| {
            let mut unreadable = Vec::new();
            let samples = self.queue.minute(&self.log, time, &Whose::Any, &mut unreadable).map_err(|_| time)?;
            if unreadable.is_empty() { Ok(Minute { time, samples }) } else { Err(time) }
        })
    }
}
