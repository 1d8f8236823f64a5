//! Paths: the only code that opens what has a path. No other code of the agent calls `open` or `connect`; clippy's
//! `disallowed-methods` say so. Only files of the kernel are opened elsewhere, in `machine::roots`.
//!
//! A path is text, and whoever may write to a folder on the way decides what it leads to. So each path is walked one name after
//! the other, from one open folder to the next (`walk`), and what is opened is checked by its descriptor. There are four kinds:
//!
//! - [`named`]: what the operator names, such as a granted file or socket, or a certificate. It may belong to anybody, but no other
//!   user can make the path lead elsewhere.
//! - [`trusted`]: what decides over the agent, such as plugins and included files. Only root and the agent's user may write it.
//! - [`own`]: the agent's own files.
//! - [`system`]: the files by which every program finds names and certificate authorities, wherever they lead.
//!
//! [`patient`] asks about paths that may be on a file system which does not answer; [`passing`] has the errors that are no mistake in a path.

#[expect(
    clippy::disallowed_methods,
    reason = "the only module that connects to sockets: to the descriptor that was checked"
)]
pub mod named;
#[expect(clippy::disallowed_methods, reason = "the only module that opens files")]
pub mod own;
pub mod passing;
pub mod patient;
mod since_start;
pub mod system;
#[cfg(test)]
mod tests;
pub mod trusted;
#[expect(clippy::disallowed_methods, reason = "the only module that opens files")]
mod walk;

use std::fs::{File, Metadata};
use std::io::{Error, Read, Result};
use std::path::Path;

pub use since_start::read_so_far;

/// A regular file that is open for reading, and what its descriptor says about it.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Its size, times, device and inode when it was opened.
    pub about: Metadata,
}

impl Opened {
    /// All of its bytes.
    ///
    /// # Errors
    /// It cannot be read, or is larger than `most_bytes`.
    pub fn read(self, most_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most_bytes {
            return Err(Error::other(format!("larger than {} KiB", most_bytes >> 10)));
        }
        Ok(bytes)
    }
}

/// Whether something is at `path`; not if its file system does not answer in time.
#[must_use]
pub fn exists_in_time(path: &Path) -> bool {
    patient::ask(path, patient::LOOK, Path::exists).unwrap_or_default()
}
