//! Contents with their log: read when it is opened, changed by committed frames alone, and rewritten when much of the file is dead,
//! or when something else has deleted, replaced or altered the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use wasaba_core::text::counted;

use super::disk::Disk;
use super::frames::{Tail, TailState};
use super::log::{self, Draft, Kind, Log, Opened, Place, Unreadable};
use super::trouble::Trouble;

/// The word in the name of a damaged file that is kept.
const DAMAGED: &str = "damaged";

/// So many dead bytes always are, however many are alive.
const MOST_DEAD_BYTES: u64 = 8 * 1024 * 1024;

/// What is in a file.
pub(super) trait Contents: Default {
    const KIND: &'static Kind;

    /// Takes over a frame, with its place; `false` if it is not one.
    fn replay(&mut self, at: u64, payload: &[u8]) -> bool;

    /// How many bytes a rewritten file would have, about.
    fn live_bytes(&self) -> u64;

    /// Writes everything into a new file. What cannot be read any more is lost.
    fn rewrite(&self, log: &Log, draft: &mut Draft) -> io::Result<Self>;

    /// What a second reading of a damaged file begins with: what is said again further on, for what comes before it.
    fn hindsight(self) -> Self {
        Self::default()
    }

    /// What frames that are missing had, if it has points.
    fn missing(&self) -> Option<Missing> {
        None
    }

    /// Makes the books fit what is there.
    fn mend(&mut self) {}

    /// How many points were lost by damage, ever.
    fn damaged_points(&self) -> u64 {
        0
    }
}

/// What is missing of a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Points that cannot be read any more.
    pub(super) lost: u64,
    /// Points that are queued again, since it is not known that they were delivered.
    pub(super) again: u64,
    /// Whether that is all.
    pub(super) is_exact: bool,
}

impl Missing {
    fn is_any(&self) -> bool {
        self.lost > 0 || self.again > 0
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, again, is_exact } = self;
        let limit = if *is_exact { "" } else { ", as far as it is known" };
        write!(formatter, "lost {}{limit}", counted(*lost, "point"))?;
        match again {
            0 => Ok(()),
            _ => write!(
                formatter,
                "; {} are delivered again, since it is not known that they were",
                counted(*again, "point")
            ),
        }
    }
}

/// Opens a log with the contents of all its frames. If some are damaged, the others are read twice: what a damaged frame had may
/// be said again after those that need it.
pub(super) fn read<C: Contents>(
    open: impl FnOnce(&mut dyn FnMut(u64, &[u8]) -> bool) -> Result<Opened, Trouble>,
) -> Result<(Opened, C), Trouble> {
    let mut contents = C::default();
    let opened = open(&mut |at, payload| contents.replay(at, payload))?;
    if let Opened::Log(log, scan) = &opened
        && !scan.damaged.is_empty()
    {
        contents = contents.hindsight();
        log.visit(&mut |at, payload| contents.replay(at, payload))?;
    }
    Ok((opened, contents))
}

pub(super) struct Durable<C> {
    log: Log,
    contents: C,
    /// So many dead bytes are never worth a rewrite.
    few_dead_bytes: u64,
    /// After a failed rewrite, the next is not tried before the file has grown to this.
    next_rewrite: u64,
    /// How often something else has deleted the file.
    deletions: u64,
}

impl<C: Contents> Durable<C> {
    /// Opens the file, or makes it. What is damaged in it is set aside. What the log should have about it is added to `lines`.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        patience: Duration,
        few_dead_bytes: u64,
        lines: &mut Vec<String>,
    ) -> Result<Self, Trouble> {
        let open = || read(|visit| Log::open(disk, C::KIND, patience, visit));
        let (log, scan, contents) = match open()? {
            (Opened::Log(log, scan), contents) => (log, scan, contents),
            (Opened::Unreadable(why), _) => {
                lines.push(set_aside(&**disk, C::KIND, why)?);
                match open()? {
                    (Opened::Log(log, scan), contents) => (log, scan, contents),
                    (Opened::Unreadable(_), _) => return Err(io::Error::other("it keeps being replaced").into()),
                }
            }
        };
        let mut durable = Self { log: *log, contents, few_dead_bytes, next_rewrite: 0, deletions: 0 };
        let damaged = scan.damaged.iter().map(|range| range.end - range.start).sum::<u64>();
        lines.extend(durable.about_tail(&scan.tail));
        if damaged > 0 || durable.contents.missing().is_some_and(|missing| missing.is_any()) {
            lines.push(durable.mend(damaged));
        }
        Ok(durable)
    }

    /// Keeps a copy of a damaged file, and continues with what can be read of it. Returns the line about it.
    fn mend(&mut self, damaged: u64) -> String {
        let missing = self.contents.missing().map(|missing| format!("; {missing}")).unwrap_or_default();
        self.contents.mend();
        let copied = if self.log.is_writable() {
            self.log.copy_aside(DAMAGED)
        } else {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        };
        // Without a new file the damaged one stays where it is, and needs no copy.
        let rewritten = copied.and_then(|copy| {
            let rewritten = self.rewrite().inspect_err(|_| self.log.remove_aside(DAMAGED));
            rewritten.map(|()| copy)
        });
        let copy = match rewritten {
            Ok(copy) => format!("a copy is `{}`", copy.display()),
            Err(error) => format!("it stays as it is, since it cannot be written again: {error}"),
        };
        format!(
            "`{}` is damaged ({} cannot be read): keeping everything else{missing}; {copy}",
            self.log.path().display(),
            counted(damaged, "byte"),
        )
    }

    /// The line about what follows the last commit.
    fn about_tail(&self, tail: &Tail) -> Option<String> {
        let path = self.log.path();
        let (path, bytes) = (path.display(), counted(tail.bytes, "byte"));
        match tail {
            Tail { bytes: 0, .. } => None,
            Tail { state: TailState::Unfinished, .. } => Some(format!(
                "the last commit of `{path}` is not finished, as after a power cut or on a full disk: continuing without its {bytes}; what \
                 it had was not confirmed yet, and is not counted"
            )),
            Tail { state: TailState::Doubtful, .. } => Some(format!(
                "the last commit of `{path}` cannot be read: its {bytes} are damaged, or were not finished before a power \
                 cut; continuing with the books of the commit before; how many points it had is not known"
            )),
        }
    }

    pub(super) fn contents(&self) -> &C {
        &self.contents
    }

    /// How often something else has deleted the file, even if it was not made again yet.
    pub(super) fn times_deleted(&self) -> u64 {
        self.deletions + u64::from(matches!(self.log.place(), Ok(Place::Deleted)))
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Writes the frame that `plan` makes of the contents, unless it is empty. On an error nothing has changed.
    pub(super) fn commit(
        &mut self,
        lines: &mut Vec<String>,
        plan: impl FnOnce(&C, &Log) -> Vec<u8>,
    ) -> Result<(), Trouble> {
        lines.extend(self.stay()?);
        if !self.log.is_writable() {
            self.log.open_for_writing()?;
        }
        let payload = plan(&self.contents, &self.log);
        if payload.is_empty() && !self.log.has_leftover() {
            return Ok(());
        }
        let at = self.log.append(&payload)?;
        self.contents.replay(at, &payload);
        self.log.forget();
        let (end, live) = (self.log.end(), self.contents.live_bytes());
        if end.saturating_sub(live) > live.min(MOST_DEAD_BYTES) + self.few_dead_bytes
            && end >= self.next_rewrite
            && let Err(error) = self.rewrite()
        {
            tracing::debug!("cannot rewrite `{}` yet: {error}", self.log.path().display());
            self.next_rewrite = end + self.few_dead_bytes;
        }
        Ok(())
    }

    /// Makes the file again if something else has deleted, replaced or altered it. Returns the line about it.
    fn stay(&mut self) -> Result<Option<String>, Trouble> {
        let path = self.log.path();
        let path = path.display();
        Ok(match self.log.place()? {
            Place::Same => None,
            Place::Deleted => {
                self.rewrite()?;
                self.deletions += 1;
                Some(format!("`{path}` was deleted: made it again, with everything that was in it"))
            }
            Place::Replaced { is_regular } => {
                if is_regular && self.log.is_taken()? {
                    return Err(Trouble::InUse);
                }
                let aside = self.log.set_aside("replaced")?;
                self.rewrite()?;
                Some(format!(
                    "`{path}` was replaced by {}: renamed that to `{}`, and made it again with everything that was in it",
                    if is_regular { "another file" } else { "what is not a file" },
                    aside.display()
                ))
            }
            Place::Altered => {
                let before = self.contents.damaged_points();
                self.rewrite()?;
                Some(format!(
                    "`{path}` was emptied or altered by something else: made it again with what could still be read; lost {}",
                    counted(self.contents.damaged_points() - before, "point")
                ))
            }
        })
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.contents = self.log.replace(|log, draft| self.contents.rewrite(log, draft))?;
        self.next_rewrite = 0;
        Ok(())
    }
}

/// Sets a file aside of which nothing can be read. Returns the line about it.
fn set_aside(disk: &dyn Disk, kind: &'static Kind, why: Unreadable) -> Result<String, Trouble> {
    let path = disk.path().join(kind.name);
    let (word, why) = match why {
        Unreadable::Damaged => {
            (DAMAGED, "is damaged from its beginning; what was in it is lost, and how much that was is not known")
        }
        Unreadable::Redb => ("redb", "is of an earlier version, whose format is not read any more"),
    };
    let aside = log::set_aside(disk, kind, word)?;
    Ok(format!("`{}` {why}: renamed it to `{}` and started a new one", path.display(), aside.display()))
}

/// How a path is named in a message about its file.
pub(super) fn shown(disk: &dyn Disk, kind: &Kind) -> String {
    let path: &Path = disk.path();
    path.join(kind.name).display().to_string()
}
