//! What decides over the agent: plugins, their settings, included files of the configuration. Whoever writes these decides what the
//! agent reads and runs, as its own user, so only root and the agent's user may.
//!
//! Every folder on the way must be theirs too, and writable for no one else; one like /tmp, where others can only add names, will do
//! further up. In our container image, a read-only mount is trusted whoever owns its files: the operator mounted it.

use std::ffi::OsString;
use std::fmt;
use std::io::Error;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::Opened;
use super::walk::{Found, Hold, Last, names as names_in, open_file, walk};

/// Why a file or folder was not opened.
#[derive(Debug)]
pub enum Unopened {
    /// Another user could have written it: why, with what to type.
    Untrusted(String),
    /// It cannot be opened.
    Unreadable(Error),
}

impl fmt::Display for Unopened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted(why) => formatter.write_str(why),
            Self::Unreadable(error) => error.fmt(formatter),
        }
    }
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Unopened {
    /// Whether there is no such file or folder.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// It cannot be opened, is not a regular file, or another user could have written it.
pub fn open(path: &Path) -> Result<Opened, Unopened> {
    open_file(path, Last::Followed, check)
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// As [`open`]; it cannot be read, or is larger than `most_bytes`.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>, Unopened> {
    Ok(open(path)?.read(most_bytes)?)
}

/// The names in the folder at `path`.
///
/// # Errors
/// It cannot be read, is not a folder, or another user could have added to it.
pub fn names(path: &Path) -> Result<Vec<OsString>, Unopened> {
    let found = walk(path, Last::Followed)?;
    let entry = found.entry()?;
    if let Some(why) = &found.way.untrusted {
        return Err(Unopened::Untrusted(why.clone()));
    }
    let hold = Hold::of(&entry.descriptor, &entry.stat);
    if entry.kind() == FileType::Directory && !hold.is_trusted() {
        return Err(Unopened::Untrusted(hold.why(&found.path())));
    }
    let folder = found.open(FileType::Directory, OFlags::RDONLY)?;
    let folder = folder.ok_or_else(|| Error::other("it was replaced while it was opened"))?;
    Ok(names_in(folder)?)
}

fn check(found: &Found) -> Result<(), Unopened> {
    let entry = found.entry()?;
    // Other kinds are refused for what they are.
    if entry.kind() != FileType::RegularFile {
        return Ok(());
    }
    if let Some(why) = &found.way.untrusted {
        return Err(Unopened::Untrusted(why.clone()));
    }
    if !found.way.folder.is_trusted() {
        return Err(Unopened::Untrusted(found.way.folder.why(&found.way.shown)));
    }
    let hold = Hold::of(&entry.descriptor, &entry.stat);
    if hold.is_trusted() { Ok(()) } else { Err(Unopened::Untrusted(hold.why(&found.path()))) }
}
