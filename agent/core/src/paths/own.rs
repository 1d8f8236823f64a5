//! The agent's own files: its root and what is in it, the pid file, files that a command writes.
//!
//! A link in the place of one is never followed, a pipe never waited for, and a file that another user made is not used. New content
//! is written beside the old one and takes its place in one step, so that no one ever sees half of it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::Opened;
use super::walk::{self, Found, Hold, Last, walk};

/// An open folder. What is done with names in it stays in it, even if its path leads elsewhere by then.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`; creates it, and those above it, with `mode` if it is missing. If it belongs to the agent's user and
    /// other users may write to it, they may no longer; folders for everybody, such as /tmp, stay as they are.
    ///
    /// # Errors
    /// It cannot be created or opened, or is not a folder.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        // On a file system that is frozen, making what is there already hangs.
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    Error::other(format!("`{}` is not a folder: rename or remove what is there", path.display()))
                }
                _ => error,
            })?;
        }
        let folder = Self::open(path)?;
        let stat = rustix::fs::fstat(&folder.descriptor)?;
        let is_open = stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0;
        if is_open && stat.st_uid == rustix::process::geteuid().as_raw() {
            rustix::fs::fchmod(&folder.descriptor, Mode::from_raw_mode(stat.st_mode & 0o7755))?;
            tracing::warn!("other users could write to `{}`: chmod go-w was applied", path.display());
        }
        Ok(folder)
    }

    /// Whether [`Folder::create`] would succeed, as far as can be seen without making anything.
    ///
    /// # Errors
    /// It would not.
    pub fn would_create(path: &Path) -> Result<()> {
        let path = std::path::absolute(path)?;
        let missing = |error: &Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let exists = |path: &&Path| std::fs::symlink_metadata(path).map_or_else(|error| !missing(&error), |_| true);
        // The folder itself, or the one in which those that are missing would be made.
        let nearest = path.ancestors().find(exists).unwrap_or(Path::new("/"));
        let folder = Self::open(nearest).map_err(|error| at(nearest, &path, error))?;
        if walk::is_kernels(&folder.descriptor)? {
            return Err(at(
                nearest,
                &path,
                Error::other("it is in a file system of the kernel, where no files are kept"),
            ));
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let writable = rustix::fs::accessat(&folder.descriptor, ".", access, AtFlags::EACCESS);
        writable.map_err(|error| at(nearest, &path, error.into()))
    }

    /// As [`Folder::create`], for what no other user may even read: it must belong to the agent's user, and has the mode 0700 then. Its
    /// last name is not followed if it is a link.
    ///
    /// # Errors
    /// As [`Folder::create`], or it belongs to another user.
    pub fn create_private(path: &Path) -> Result<Self> {
        // What is in its place is reported below. On a file system that is frozen, making what is there already hangs.
        if path.symlink_metadata().is_err() {
            match DirBuilder::new().recursive(true).mode(0o700).create(path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let found = walk(path, Last::Kept)?;
        if found.entry()?.kind() != FileType::Directory {
            return Err(Error::other("it is not a folder: remove it"));
        }
        let folder = Self::at(path, &found)?;
        let stat = rustix::fs::fstat(&folder.descriptor)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(walk::refused("it belongs to another user: remove it"));
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&folder.descriptor, Mode::RWXU)?;
        }
        Ok(folder)
    }

    /// Opens the folder at `path` if no other user can write to it or to those above it.
    ///
    /// # Errors
    /// It cannot be opened, is not a folder, or is open to other users.
    pub fn trusted(path: &Path) -> Result<Self> {
        let found = walk(path, Last::Kept)?;
        let entry = found.entry()?;
        let hold = Hold::of(&entry.descriptor, &entry.stat);
        if let Some(why) = &found.way.untrusted {
            return Err(walk::refused(why.clone()));
        }
        if !hold.is_trusted() {
            return Err(walk::refused(hold.why(&found.path())));
        }
        Self::at(path, &found)
    }

    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is not a folder.
    pub fn open(path: &Path) -> Result<Self> {
        Self::at(path, &walk(path, Last::Followed)?)
    }

    fn at(path: &Path, found: &Found) -> Result<Self> {
        let descriptor = found.open(FileType::Directory, OFlags::RDONLY)?;
        let descriptor = descriptor.ok_or_else(|| Error::other("it was replaced while it was opened"))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Why other users can change what is in the folder at `path`, with what to type; `None` if they cannot, or there is none.
    #[must_use]
    pub fn warning(path: &Path) -> Option<String> {
        let found = walk(path, Last::Followed).ok()?;
        let entry = found.entry().ok()?;
        let hold = Hold::of(&entry.descriptor, &entry.stat);
        found.way.untrusted.clone().or_else(|| (!hold.is_trusted()).then(|| hold.why(&found.path())))
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A short path of what has this name in it, for this process while the folder is open: the address of a socket holds 107 bytes.
    #[must_use]
    pub fn short_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.descriptor.as_raw_fd()))
    }

    /// Which folder it is, whatever its path: its device and its number there.
    ///
    /// # Errors
    /// Its file system does not say.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.descriptor)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The names in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> Result<Vec<OsString>> {
        walk::names(&self.descriptor)
    }

    /// Opens a regular file in it for reading: one with a single name, that root or the agent's user owns and no one else may write to.
    ///
    /// # Errors
    /// There is none.
    pub fn read_only(&self, name: &str) -> Result<Opened> {
        let name = OsStr::new(name);
        let before = walk::stat_in(&self.descriptor, name)?;
        check(&before)?;
        let (open, stat) = walk::open_in(&self.descriptor, name, OFlags::RDONLY)?;
        check(&stat)?;
        let file = File::from(open);
        let about = file.metadata()?;
        Ok(Opened { file, about })
    }

    /// Creates a file with this mode in it; one of this name is removed before.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File> {
        self.remove(name)?;
        create_in(&self.descriptor, name, mode)
    }

    /// Gives a file in it another name in it, in place of the file that has that name.
    ///
    /// # Errors
    /// The system's.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        Ok(rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to)?)
    }

    /// Removes a file from it; that it is gone already is as good.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        // Removing it hangs on a file system that is frozen, also if it is not there.
        if rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_err_and(|error| error == Errno::NOENT)
        {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// When a file in it was changed last.
    ///
    /// # Errors
    /// The system's.
    pub fn modified(&self, name: &OsStr) -> Result<SystemTime> {
        let seconds = walk::stat_in(&self.descriptor, name)?.st_mtime;
        let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        Ok(SystemTime::UNIX_EPOCH + since)
    }

    /// The size of a file in it, in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn size(&self, name: &OsStr) -> Result<u64> {
        Ok(u64::try_from(walk::stat_in(&self.descriptor, name)?.st_size).unwrap_or_default())
    }

    /// Waits until its names are on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }

    /// Writes a file of this name and mode in one step, in place of what has this name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &OsStr, content: &[u8], mode: u32) -> Result<()> {
        write_in(&self.descriptor, name, content, mode, None)
    }
}

/// Reads a file that only the agent writes.
///
/// # Errors
/// It cannot be read, is larger than `most_bytes`, or belongs to another user.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let opened = walk::open_file::<Error>(path, Last::Kept, |found| check(&found.entry()?.stat))?;
    opened.read(most_bytes)
}

/// Writes the file at `path` in one step. If there is one already, the new one has its owner and mode; else, this mode. A link is
/// followed only where no other user could have placed it.
///
/// # Errors
/// It cannot be written, or something else than a regular file is there.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let found = walk(path, Last::Followed)?;
    let before = found.entry.as_ref().map(|entry| entry.stat);
    match before.map(|before| FileType::from_raw_mode(before.st_mode)) {
        None | Some(FileType::RegularFile) => write_in(&found.folder, &found.name, content, mode, before),
        Some(kind) => Err(not_regular(kind)),
    }
}

/// Writes the file at `path` with this mode in one step, in place of what is there; a link is replaced and not followed.
///
/// # Errors
/// It cannot be written, or there is a device, a pipe, a socket or a folder.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let found = walk(path, Last::Kept)?;
    match found.entry.as_ref().map(|entry| FileType::from_raw_mode(entry.stat.st_mode)) {
        None | Some(FileType::RegularFile | FileType::Symlink) => {}
        Some(kind) => return Err(not_regular(kind)),
    }
    write_in(&found.folder, &found.name, content, mode, None)
}

/// Opens the regular file at `path` for reading and writing, and creates it with this mode if it is missing.
///
/// # Errors
/// It cannot be opened; is not a regular file, or has further names; or belongs to another user.
pub fn open_or_create(path: &Path, mode: u32) -> Result<File> {
    let found = walk(path, Last::Kept)?;
    if let Some(entry) = &found.entry {
        check(&entry.stat)?;
        let flags = OFlags::RDWR;
        let open = found.open(FileType::RegularFile, flags)?;
        return open.map(File::from).ok_or_else(|| Error::other("it was replaced while it was opened"));
    }
    create_in(&found.folder, &found.name, mode)
}

/// Whether [`open_or_create`] would succeed once the folders above it are made, as far as can be seen without making anything.
///
/// # Errors
/// It would not.
pub fn would_open_or_create(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Folder::would_create(folder)?;
    match walk(path, Last::Kept) {
        Ok(found) => found.entry.as_ref().map_or(Ok(()), |entry| check(&entry.stat)),
        // A folder above it is missing.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// `error`, which names `nearest` if that is not the path that was asked about.
fn at(nearest: &Path, path: &Path, error: Error) -> Error {
    if nearest == path { error } else { Error::new(error.kind(), format!("`{}`: {error}", nearest.display())) }
}

/// Creates a file that does not exist yet, with this mode, and writes it.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let found = walk(path, Last::Kept)?;
    create_in(&found.folder, &found.name, mode)?.write_all(content)
}

/// Refuses what is not a regular file with a single name that only root or the agent's user can write to.
fn check(stat: &Stat) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(walk::refused("it is a link: remove it")),
        kind => return Err(not_regular(kind)),
    }
    if stat.st_nlink > 1 {
        return Err(walk::refused(format!("it has {} names (hard links): remove it", stat.st_nlink)));
    }
    if !walk::is_own(stat.st_uid) {
        let (other, own) = (stat.st_uid, rustix::process::geteuid().as_raw());
        return Err(walk::refused(format!("it belongs to another user (id {other}): chown {own} it, or remove it")));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(walk::refused("other users can write to it: chmod go-w it, or remove it"));
    }
    Ok(())
}

/// A device, like `/dev/null`, is needed by others.
fn not_regular(kind: FileType) -> Error {
    Error::other(match kind {
        FileType::CharacterDevice | FileType::BlockDevice => "it is a device: name another file",
        _ => "not a regular file: remove it",
    })
}

fn create_in(folder: impl AsFd, name: &OsStr, mode: u32) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode))?))
}

/// `before` is the file whose owner and mode are kept.
fn write_in(folder: &impl AsFd, name: &OsStr, content: &[u8], mode: u32, before: Option<Stat>) -> Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut unfinished = OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(".{}.{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let remove = || rustix::fs::unlinkat(folder, &unfinished, AtFlags::empty());
    // Of a process that was killed while it wrote.
    remove().ok();
    // For no one but the agent, until it has the owner and the mode of the file that it replaces.
    let mut file = create_in(folder, &unfinished, mode & 0o600)?;
    let mut write = || {
        file.write_all(content)?;
        if let Some(before) = before {
            rustix::fs::fchown(&file, Some(Uid::from_raw(before.st_uid)), Some(Gid::from_raw(before.st_gid)))?;
        }
        file.set_permissions(Permissions::from_mode(before.map_or(mode, |before| before.st_mode & 0o7777)))?;
        file.sync_all()?;
        Ok(rustix::fs::renameat(folder, &unfinished, folder, name)?)
    };
    write().inspect_err(|_| {
        remove().ok();
    })
}
