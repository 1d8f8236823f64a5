//! Contents with their log: read when it is opened, changed by committed frames alone, and rewritten when much of the file is dead,
//! or when something else has deleted, replaced or altered the file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasaba_core::text::counted;

use super::disk::Disk;
use super::log::{self, Draft, Kind, Log, Opened, Place, Unreadable};
use super::trouble::Trouble;

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

    /// Makes good for frames that are missing.
    fn mend(&mut self) {}

    /// How many points were lost by damage, ever.
    fn damaged_points(&self) -> u64 {
        0
    }
}

pub(super) struct Durable<C> {
    log: Log,
    contents: C,
    /// So many dead bytes are never worth a rewrite.
    few_dead_bytes: u64,
    /// After a failed rewrite, the next is not tried before the file has grown to this.
    next_rewrite: u64,
}

impl<C: Contents> Durable<C> {
    /// Opens the file, or makes it. What is damaged in it is set aside.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        now: i64,
        patience: Duration,
        few_dead_bytes: u64,
    ) -> Result<Self, Trouble> {
        let mut contents = C::default();
        let mut visit = |at: u64, payload: &[u8]| contents.replay(at, payload);
        let (log, scan) = match Log::open(disk, C::KIND, patience, &mut visit)? {
            Opened::Log(log, scan) => (log, scan),
            Opened::Unreadable(why) => {
                set_aside(&**disk, C::KIND, why, now)?;
                match Log::open(disk, C::KIND, patience, &mut visit)? {
                    Opened::Log(log, scan) => (log, scan),
                    Opened::Unreadable(_) => return Err(io::Error::other("it keeps being replaced").into()),
                }
            }
        };
        let mut durable = Self { log, contents, few_dead_bytes, next_rewrite: 0 };
        let damaged = scan.damaged.iter().map(|range| range.end - range.start).sum::<u64>();
        if damaged > 0 {
            durable.mend(damaged, now);
        }
        Ok(durable)
    }

    /// Keeps a copy of a damaged file, and continues with what can be read of it.
    fn mend(&mut self, damaged: u64, now: i64) {
        let before = self.contents.damaged_points();
        self.contents.mend();
        let copied = if self.log.is_writable() {
            self.log.copy_aside("damaged", now)
        } else {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        };
        let rewritten = copied.and_then(|copy| self.rewrite().map(|()| copy));
        let copy = match rewritten {
            Ok(copy) => format!("a copy is `{}`", copy.display()),
            Err(error) => format!("cannot copy it: {error}"),
        };
        tracing::warn!(
            "`{}` is damaged ({} cannot be read): keeping everything else; lost {} for which it is known; {copy}",
            self.log.path().display(),
            counted(damaged, "byte"),
            counted(self.contents.damaged_points() - before, "point")
        );
    }

    pub(super) fn contents(&self) -> &C {
        &self.contents
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Writes the frame that `plan` makes of the contents, unless it is empty. On an error nothing has changed.
    pub(super) fn commit(&mut self, now: i64, plan: impl FnOnce(&C, &Log) -> Vec<u8>) -> Result<(), Trouble> {
        if !self.log.is_writable() {
            self.log.open_for_writing()?;
        }
        self.stay(now)?;
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

    /// Makes the file again if something else has deleted, replaced or altered it.
    fn stay(&mut self, now: i64) -> Result<(), Trouble> {
        let path = self.log.path();
        let path = path.display();
        match self.log.place()? {
            Place::Same => {}
            Place::Deleted => {
                self.rewrite()?;
                tracing::warn!("`{path}` was deleted: made it again, with everything that was in it");
            }
            Place::Replaced => {
                if self.log.is_taken()? {
                    return Err(Trouble::InUse);
                }
                let aside = self.log.set_aside("replaced", now)?;
                self.rewrite()?;
                tracing::warn!(
                    "`{path}` was replaced by another file: renamed that to `{}`, and made it again with everything that was \
                     in it",
                    aside.display()
                );
            }
            Place::Altered => {
                let before = self.contents.damaged_points();
                self.rewrite()?;
                tracing::warn!(
                    "`{path}` was emptied or altered by something else: made it again with what could still be read; lost {}",
                    counted(self.contents.damaged_points() - before, "point")
                );
            }
        }
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.contents = self.log.replace(|log, draft| self.contents.rewrite(log, draft))?;
        self.next_rewrite = 0;
        Ok(())
    }
}

fn set_aside(disk: &dyn Disk, kind: &'static Kind, why: Unreadable, now: i64) -> Result<(), Trouble> {
    let path = disk.path().join(kind.name);
    let (word, why) = match why {
        Unreadable::Damaged => ("damaged", "is damaged from its beginning; what was in it is lost"),
        Unreadable::Redb => ("redb", "is of an earlier version, whose format is not read any more"),
    };
    let aside = log::set_aside(disk, kind, word, now)?;
    tracing::warn!("`{}` {why}: renamed it to `{}` and started a new one", path.display(), aside.display());
    Ok(())
}

/// How a path is named in a message about its file.
pub(super) fn shown(disk: &dyn Disk, kind: &Kind) -> String {
    let path: &Path = disk.path();
    path.join(kind.name).display().to_string()
}
