//! What the operator names: granted files and sockets, the configuration, the secrets and certificates that it refers to.
//!
//! It may belong to any user. A link on the way is followed only where no other user could have placed it; a file with further names
//! is opened only where no other user could have added them; and a link never leads into the kernel's file systems.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;
use tokio::net::UnixStream;

use super::Opened;
use super::walk::{Last, open_file, walk};

/// Opens the regular file at `path` for reading. Does not wait for the other end of a pipe.
///
/// # Errors
/// It cannot be opened, is not a regular file, or another user could have made the path lead to it.
pub fn open(path: &Path) -> Result<Opened> {
    open_file::<Error>(path, Last::Followed, |_| Ok(()))
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// As [`open`]; it cannot be read, or is larger than `most_bytes`.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    open(path)?.read(most_bytes)
}

/// A unix socket that was found, and is what will be connected to, even if its path leads elsewhere by then.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// Finds the unix socket at `path`; nothing is connected yet. The path may be longer than the 107 bytes of a socket's address.
///
/// # Errors
/// It is missing, is not a socket, or another user could have made the path lead to it.
pub fn socket(path: &Path) -> Result<Socket> {
    let found = walk(path, Last::Followed)?;
    match found.entry()?.kind() {
        FileType::Socket => {
            found.entry.map(|entry| Socket(entry.descriptor)).ok_or_else(|| Error::other("not a socket"))
        }
        _ => Err(Error::other("not a socket")),
    }
}

impl Socket {
    /// Connects to it.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(&self) -> Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.0.as_raw_fd())).await
    }

    /// Connects to it, for a command.
    ///
    /// # Errors
    /// The system's.
    pub fn connect_blocking(&self) -> Result<std::os::unix::net::UnixStream> {
        std::os::unix::net::UnixStream::connect(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}
