//! The files that configure this machine for every program: `/etc/hosts`, `/etc/resolv.conf`, and the certificate authorities.
//!
//! Every program on the machine follows them wherever they lead, and whoever may change them decides over names and trust anyway. They lead
//! into a folder of systemd-resolved's user, or into a store whose files have several names. So neither owners nor links are looked at.

use std::io::Result;
use std::path::{Path, PathBuf};

use super::Opened;
use super::walk::{list_anywhere, open_anywhere};

/// Opens the regular file at `path` for reading. Does not wait for the other end of a pipe.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> Result<Opened> {
    open_anywhere(path)
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// As [`open`]; it cannot be read, or is larger than `most_bytes`.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    open(path)?.read(most_bytes)
}

/// The paths of all that is in the folder at `path`.
///
/// # Errors
/// It cannot be read, or is not a folder.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(list_anywhere(path)?.into_iter().map(|name| path.join(name)).collect())
}
