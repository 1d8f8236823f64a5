//! What the spool needs of the system: one trait between its files and the disk, so that a test can fail any call, let it hang,
//! or cut the power.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasaba_core::paths::own::{self, Folder};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// For reading and writing; made if it is missing.
    Write,
    /// For reading.
    Read,
    /// For reading and writing, in place of one of this name.
    New,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Whether it is a file, not a link, a pipe or a folder.
    pub(super) is_regular: bool,
}

impl From<std::fs::Metadata> for Identity {
    fn from(about: std::fs::Metadata) -> Self {
        Self { device: about.dev(), inode: about.ino(), is_regular: about.is_file() }
    }
}

/// A folder with the files of a spool.
pub(super) trait Disk: Send + Sync {
    /// Its path, for messages.
    fn path(&self) -> &Path;
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>>;
    /// The file that has this name now, if one has.
    fn identity(&self, name: &str) -> io::Result<Option<Identity>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once the names are durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file. Neither reading nor writing has a position; both may do less than was asked for.
pub(super) trait File: Send {
    fn identity(&self) -> io::Result<Identity>;
    /// In bytes.
    fn size(&self) -> io::Result<u64>;
    /// Whether this opening has the lock of the file now.
    fn lock(&self) -> io::Result<bool>;
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Returns once what was written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// Reads until `bytes` is full or the file ends, and returns how many there were.
pub(super) fn read_all(file: &dyn File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`.
pub(super) fn write_all(file: &dyn File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The system's own files below a root.
pub(super) struct Root(pub(super) PathBuf);

impl Root {
    fn folder(&self) -> io::Result<Folder> {
        Folder::create(&self.0, 0o750)
    }
}

impl Disk for Root {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>> {
        let file = match access {
            Access::Write => {
                self.folder()?;
                own::open_or_create(&self.0.join(name), 0o600)?
            }
            Access::Read => Folder::open(&self.0)?.read_only(name)?.file,
            Access::New => self.folder()?.create_file(name.as_ref(), 0o600)?,
        };
        Ok(Box::new(file))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        match std::fs::symlink_metadata(self.0.join(name)) {
            Ok(about) => Ok(Some(about.into())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder()?.rename(from.as_ref(), to.as_ref())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder()?.remove(name.as_ref())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder()?.sync()
    }
}

impl File for std::fs::File {
    fn identity(&self) -> io::Result<Identity> {
        Ok(self.metadata()?.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn lock(&self) -> io::Result<bool> {
        match self.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A disk whose progress can be watched: a call that does not return for long shows that the disk hangs, many calls only that
/// there is much to do.
pub(super) struct Watched {
    disk: Arc<dyn Disk>,
    calls: Arc<AtomicU64>,
}

impl Watched {
    pub(super) fn new(disk: Arc<dyn Disk>, calls: Arc<AtomicU64>) -> Self {
        Self { disk, calls }
    }

    fn count<T>(&self, result: T) -> T {
        self.calls.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl Disk for Watched {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.count(self.disk.open(name, access))?;
        Ok(Box::new(WatchedFile { file, calls: Arc::clone(&self.calls) }))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        self.count(self.disk.identity(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.count(self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.count(self.disk.remove(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.count(self.disk.sync_names())
    }
}

struct WatchedFile {
    file: Box<dyn File>,
    calls: Arc<AtomicU64>,
}

impl WatchedFile {
    fn count<T>(&self, result: T) -> T {
        self.calls.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl File for WatchedFile {
    fn identity(&self) -> io::Result<Identity> {
        self.count(self.file.identity())
    }

    fn size(&self) -> io::Result<u64> {
        self.count(self.file.size())
    }

    fn lock(&self) -> io::Result<bool> {
        self.count(self.file.lock())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.count(self.file.read_at(bytes, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.count(self.file.write_at(bytes, at))
    }

    fn sync(&self) -> io::Result<()> {
        self.count(self.file.sync())
    }
}
