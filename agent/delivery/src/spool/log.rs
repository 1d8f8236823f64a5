//! The log: a file that only grows, by one frame a commit, until it is rewritten without what is not needed any more.
//!
//! A frame counts once the disk has confirmed it. Until then the next one is written at the same place, so that a failed or
//! interrupted write leaves nothing behind. What the frames mean is their owner's business ([`Contents`](super::durable::Contents)).

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasaba_core::clock;

use super::disk::{Access, Disk, File, Identity, write_all};
use super::frames::{self, HEADER, Header, Magic, Scan};
use super::trouble::Trouble;

/// A file that is being written to replace another is synced after so many bytes, so that no sync takes long.
const SYNCED_AFTER: usize = 1024 * 1024;

/// How often the lock of a file is tried again while another process may be ending.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The place of a frame that was damaged, of which only the next one says what it had.
pub(super) const LOST: u64 = 0;

static ZEROS: [u8; 4096] = [0; 4096];

/// Which file it is.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) magic: Magic,
}

pub(super) struct Log {
    disk: Arc<dyn Disk>,
    kind: &'static Kind,
    file: Box<dyn File>,
    identity: Identity,
    access: Access,
    nonce: u32,
    /// Where the next frame goes; 0 as long as there is no header.
    end: u64,
    /// A frame that an earlier process wrote last, but of which the disk may not have said that it is durable.
    unconfirmed: Option<u64>,
    /// Whether a frame that counts as not written may be in the file.
    has_leftover: bool,
    /// Up to here there may be bytes that are of no frame.
    dirty: u64,
    /// Whether the file keeps its name when the power is cut.
    has_durable_name: bool,
    /// The frame that was read last: several rows of one are mostly read one after the other.
    last: RefCell<Option<(u64, Arc<[u8]>)>>,
}

/// Whether the file is still where it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Same,
    Deleted,
    Replaced {
        /// By a file that another process may use, not by a link, a pipe or a folder.
        is_regular: bool,
    },
    /// Something else has shortened it or written into it.
    Altered,
}

/// What there is at the path.
pub(super) enum Opened {
    Log(Box<Log>, Scan),
    /// Nothing of it can be read.
    Unreadable(Unreadable),
}

/// Why nothing of a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Damaged,
    Redb,
}

impl Log {
    /// Opens the file, or makes it, and hands every frame to `visit` with its place. If it cannot be written, it is opened for
    /// reading. Another process that has it open is waited for as long as `patience`.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        kind: &'static Kind,
        patience: Duration,
        visit: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<Opened, Trouble> {
        let (file, access) = Self::locked(&**disk, kind, patience)?;
        Self::of_file(disk, kind, file, access, visit)
    }

    /// Opens a file for reading beside the process that writes it.
    pub(super) fn view(
        disk: &Arc<dyn Disk>,
        kind: &'static Kind,
        file: Box<dyn File>,
        visit: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<Opened, Trouble> {
        Self::of_file(disk, kind, file, Access::Read, visit)
    }

    fn of_file(
        disk: &Arc<dyn Disk>,
        kind: &'static Kind,
        file: Box<dyn File>,
        access: Access,
        visit: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<Opened, Trouble> {
        let (identity, size) = (file.identity()?, file.size()?);
        let (nonce, is_invalid) = match frames::read_header(&*file, kind.magic, size)? {
            Header::Newer => return Err(Trouble::Newer),
            Header::Redb => return Ok(Opened::Unreadable(Unreadable::Redb)),
            Header::Valid(nonce) => (Some(nonce), false),
            Header::Missing => (None, false),
            Header::Invalid => match frames::number_of_frames(&*file, size)? {
                None => return Ok(Opened::Unreadable(Unreadable::Damaged)),
                nonce => (nonce, true),
            },
        };
        let mut scan = match nonce {
            Some(nonce) => frames::scan(&*file, nonce, size, visit)?,
            None => Scan::default(),
        };
        if is_invalid {
            scan.damaged.insert(0, 0..HEADER);
        }
        let mut log = Self {
            disk: Arc::clone(disk),
            kind,
            file,
            identity,
            access,
            nonce: nonce.unwrap_or_else(random),
            end: scan.end,
            unconfirmed: scan.last,
            has_leftover: false,
            dirty: scan.end + scan.tail.bytes,
            has_durable_name: false,
            last: RefCell::default(),
        };
        if access == Access::Write {
            // Else the next frame tries it again.
            log.confirm().ok();
        }
        Ok(Opened::Log(Box::new(log), scan))
    }

    fn locked(disk: &dyn Disk, kind: &Kind, patience: Duration) -> Result<(Box<dyn File>, Access), Trouble> {
        let since = clock::instant();
        loop {
            let (file, access) = match disk.open(kind.name, Access::Write) {
                Ok(file) => (file, Access::Write),
                // Read-only, without permission or space: what is in it can perhaps be read.
                Err(error) => match disk.open(kind.name, Access::Read) {
                    Ok(file) => (file, Access::Read),
                    Err(_) => return Err(error.into()),
                },
            };
            if file.lock()? {
                // Its last owner may have replaced it meanwhile.
                if disk.identity(kind.name)? == Some(file.identity()?) {
                    return Ok((file, access));
                }
            } else if clock::since(since) >= patience {
                return Err(Trouble::InUse);
            } else {
                std::thread::park_timeout(LOCK_RETRY);
            }
        }
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.disk.path().join(self.kind.name)
    }

    /// Its bytes up to the end of the last frame.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether a frame must be written, even an empty one, so that no earlier one is found in its place after a restart.
    pub(super) fn has_leftover(&self) -> bool {
        self.has_leftover
    }

    pub(super) fn is_writable(&self) -> bool {
        self.access == Access::Write
    }

    /// Opens a file again that could only be read.
    pub(super) fn open_for_writing(&mut self) -> Result<(), Trouble> {
        let file = self.disk.open(self.kind.name, Access::Write)?;
        if file.identity()? != self.identity {
            return Err(Error::other("it was replaced by another file").into());
        }
        // The lock belongs to the opening, and closing the old one gives it up.
        self.file = file;
        if !self.file.lock()? {
            return Err(Trouble::InUse);
        }
        self.access = Access::Write;
        Ok(())
    }

    pub(super) fn place(&self) -> io::Result<Place> {
        if self.end > 0 {
            let size = self.file.size()?;
            if size < self.end || frames::read_header(&*self.file, self.kind.magic, size)? != Header::Valid(self.nonce)
            {
                return Ok(Place::Altered);
            }
        }
        Ok(match self.disk.identity(self.kind.name)? {
            Some(identity) if identity == self.identity => Place::Same,
            Some(Identity { is_regular, .. }) => Place::Replaced { is_regular },
            None => Place::Deleted,
        })
    }

    /// Makes durable what was found in the file: its last writer may have been killed before the disk had.
    fn confirm(&mut self) -> io::Result<()> {
        if let Some(at) = self.unconfirmed {
            // Written again, since a failed sync makes the system forget that it is not.
            if let Some(payload) = frames::frame(&*self.file, self.nonce, at, self.end)? {
                write_all(&*self.file, &frames::sealed(self.nonce, at, &payload), at)?;
                self.file.sync()?;
            }
            self.unconfirmed = None;
        }
        if !self.has_durable_name {
            self.disk.sync_names()?;
            self.has_durable_name = true;
        }
        Ok(())
    }

    /// Adds a frame, and returns its place once it is durable. After an error it counts as not written, and the next one is
    /// written in its place.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<u64> {
        if self.end == 0 {
            write_all(&*self.file, &frames::header(self.kind.magic, self.nonce), 0)?;
            self.file.sync()?;
            self.end = HEADER;
        }
        self.confirm()?;
        let (at, frame) = (self.end, frames::sealed(self.nonce, self.end, payload));
        let end = at + frame.len() as u64;
        self.has_leftover = true;
        // What an interrupted write left behind would look like another one after the next start.
        let mut clean = end;
        while clean < self.dirty {
            let count = (self.dirty - clean).min(ZEROS.len() as u64);
            write_all(&*self.file, ZEROS.get(..count as usize).unwrap_or_default(), clean)?;
            clean += count;
        }
        self.dirty = self.dirty.max(end);
        write_all(&*self.file, &frame, at)?;
        self.file.sync()?;
        self.has_leftover = false;
        (self.end, self.dirty) = (end, end);
        Ok(at)
    }

    /// The payload of the frame at this place; `None` if it is damaged.
    pub(super) fn read(&self, at: u64) -> io::Result<Option<Arc<[u8]>>> {
        if let Some((_, payload)) = self.last.borrow().as_ref().filter(|(last, _)| *last == at) {
            return Ok(Some(Arc::clone(payload)));
        }
        if at == LOST {
            return Ok(None);
        }
        let payload = frames::frame(&*self.file, self.nonce, at, self.end)?.map(Arc::<[u8]>::from);
        self.last.replace(payload.clone().map(|payload| (at, payload)));
        Ok(payload)
    }

    /// Gives back the memory of the frame that was read last.
    pub(super) fn forget(&self) {
        self.last.replace(None);
    }

    /// Puts a new file in place of this one, with the frames that `fill` writes. After an error this one is still in use.
    pub(super) fn replace<T>(&mut self, fill: impl FnOnce(&Self, &mut Draft) -> io::Result<T>) -> io::Result<T> {
        let name = format!("{}.new", self.kind.name);
        let disk = Arc::clone(&self.disk);
        let write = || {
            let mut draft =
                Draft { file: disk.open(&name, Access::New)?, nonce: random(), end: 0, unwritten: Vec::new() };
            if !draft.file.lock()? {
                return Err(ErrorKind::WouldBlock.into());
            }
            draft.unwritten = frames::header(self.kind.magic, draft.nonce);
            let result = fill(self, &mut draft)?;
            draft.write()?;
            let identity = draft.file.identity()?;
            disk.rename(&name, self.kind.name)?;
            Ok((draft, identity, result))
        };
        let (draft, identity, result) = write().inspect_err(|_: &Error| {
            disk.remove(&name).ok();
        })?;
        let Draft { file, nonce, end, .. } = draft;
        *self = Self {
            disk,
            kind: self.kind,
            file,
            identity,
            access: Access::Write,
            nonce,
            end,
            unconfirmed: None,
            has_leftover: false,
            dirty: end,
            // Until this is confirmed, a power cut brings back the old file, which has the same in it.
            has_durable_name: self.disk.sync_names().is_ok(),
            last: RefCell::default(),
        };
        Ok(result)
    }

    /// Whether the file that has the name now is one that another process uses.
    pub(super) fn is_taken(&self) -> io::Result<bool> {
        Ok(!self.disk.open(self.kind.name, Access::Write)?.lock()?)
    }

    /// Gives another name to what has the name now.
    pub(super) fn set_aside(&self, why: &str) -> io::Result<PathBuf> {
        set_aside(&*self.disk, self.kind, why)
    }

    /// Copies the file as it is.
    pub(super) fn copy_aside(&self, why: &str) -> io::Result<PathBuf> {
        let draft = format!("{}.{why}.new", self.kind.name);
        let copy = || {
            let copy = self.disk.open(&draft, Access::New)?;
            let (mut at, mut bytes) = (0, vec![0; 64 * 1024]);
            loop {
                let length = self.file.read_at(&mut bytes, at)?;
                if length == 0 {
                    return copy.sync();
                }
                write_all(&*copy, bytes.get(..length).unwrap_or_default(), at)?;
                at += length as u64;
            }
        };
        let aside = copy().and_then(|()| keep_aside(&*self.disk, self.kind, why, &draft));
        aside.inspect_err(|_| {
            // On a full disk, half a copy only takes space.
            self.disk.remove(&draft).ok();
        })
    }

    /// Removes the copy again.
    pub(super) fn remove_aside(&self, why: &str) {
        self.disk.remove(&aside(self.kind, why)).ok();
    }

    /// Hands every frame to `visit` again, as [`Log::open`] did.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
        frames::scan(&*self.file, self.nonce, self.end, visit).map(drop)
    }
}

fn aside(kind: &Kind, why: &str) -> String {
    format!("{}.{why}", kind.name)
}

/// Renames what has the name of this kind to `<name>.<why>`, so that it can be inspected.
pub(super) fn set_aside(disk: &dyn Disk, kind: &Kind, why: &str) -> io::Result<PathBuf> {
    keep_aside(disk, kind, why, kind.name)
}

/// Of what is set aside for one reason, the last two are kept, so that they never fill the disk.
fn keep_aside(disk: &dyn Disk, kind: &Kind, why: &str, name: &str) -> io::Result<PathBuf> {
    let aside = aside(kind, why);
    let rename = |from: &str, to: &str| {
        let explain = |error| {
            Error::other(format!(
                "cannot rename `{from}` to `{to}`: {error}: remove `{}`",
                disk.path().join(to).display()
            ))
        };
        disk.rename(from, to).map_err(explain)
    };
    if disk.identity(&aside)?.is_some() {
        rename(&aside, &format!("{aside}.before"))?;
    }
    rename(name, &aside)?;
    disk.sync_names()?;
    Ok(disk.path().join(aside))
}

/// A file that is being written in full, to replace another.
pub(super) struct Draft {
    file: Box<dyn File>,
    nonce: u32,
    /// What is in the file.
    end: u64,
    unwritten: Vec<u8>,
}

impl Draft {
    /// Adds a frame, and returns its place.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<u64> {
        let at = self.end + self.unwritten.len() as u64;
        self.unwritten.extend_from_slice(&frames::sealed(self.nonce, at, payload));
        if self.unwritten.len() >= SYNCED_AFTER {
            self.write()?;
        }
        Ok(at)
    }

    fn write(&mut self) -> io::Result<()> {
        write_all(&*self.file, &self.unwritten, self.end)?;
        self.file.sync()?;
        self.end += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }
}

/// A number that other files do not have. Never 0, which is in any file that was not written completely.
fn random() -> u32 {
    RandomState::new().hash_one(0) as u32 | 1
}
