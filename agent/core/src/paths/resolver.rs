//! The files that configure this machine's resolver: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Every program on the machine follows them wherever they lead, and whoever may change them decides over names anyway. They lead into a
//! folder of systemd-resolved's user, or into a store whose files have several names. So neither owners nor links are looked at.

use std::io::Result;
use std::path::Path;

use super::Opened;
use super::walk::open_anywhere;

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
