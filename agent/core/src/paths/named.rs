//! What the operator names: granted files and sockets, the configuration, the secrets and certificates that it refers to.
//!
//! It may belong to any user. A link on the way is followed only where no other user could have placed it; a file with further names
//! is opened only where no other user could have added them; and a link never leads into the kernel's file systems.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
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

/// Where the kernel has a link to what each descriptor of this process leads to.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A unix socket that was found, and is what will be connected to, even if its path leads elsewhere by then.
#[derive(Debug)]
pub struct Socket {
    found: OwnedFd,
    path: PathBuf,
}

/// Finds the unix socket at `path`; nothing is connected yet. The path may be longer than the 107 bytes of a socket's address.
///
/// # Errors
/// It is missing, is not a socket, or another user could have made the path lead to it.
pub fn socket(path: &Path) -> Result<Socket> {
    let walked = walk(path, Last::Followed)?;
    match walked.entry()?.kind() {
        FileType::Socket => {
            let found = walked.entry.map(|entry| entry.descriptor).ok_or_else(|| Error::other("not a socket"))?;
            Ok(Socket { found, path: path.to_owned() })
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
        UnixStream::connect(self.link(DESCRIPTORS)).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => no_link(),
            _ => error,
        })
    }

    /// Connects to it, for a command about the agent's own. Where there is no /proc, by its path, which then is as it was found unless
    /// someone has replaced it since. Waits so long for a place in its queue of connections.
    ///
    /// # Errors
    /// The system's; [`ErrorKind::WouldBlock`] if its queue stayed full.
    pub fn connect_blocking(&self, patience: Duration) -> Result<std::os::unix::net::UnixStream> {
        self.connect_through(DESCRIPTORS, patience)
    }

    pub(super) fn connect_through(&self, links: &str, patience: Duration) -> Result<std::os::unix::net::UnixStream> {
        match connect(&self.link(links), patience) {
            Err(Errno::NOENT) => match connect(&self.path, patience) {
                Err(Errno::NAMETOOLONG) => Err(no_link()),
                connected => Ok(connected?),
            },
            connected => Ok(connected?),
        }
    }

    fn link(&self, links: &str) -> PathBuf {
        Path::new(links).join(self.found.as_raw_fd().to_string())
    }
}

fn connect(path: &Path, patience: Duration) -> rustix::io::Result<std::os::unix::net::UnixStream> {
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // It counts for `connect`, too.
    net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Send, Some(patience))?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// Why a socket that was found cannot be reached.
fn no_link() -> Error {
    Error::other("sockets are reached through /proc, which is not mounted here: mount it")
}
