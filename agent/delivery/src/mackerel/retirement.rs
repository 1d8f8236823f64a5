//! The retirement: this host is retired in Mackerel, and its traces in `root` are deleted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasaba_core::document;

use super::answer::ApiError;
use super::backoff::retrying;
use super::client::Client;
use super::id_file::{self, FileError, HostId, IdFile};

/// How often the request is sent while Mackerel does not answer, and the pause in between; as in the official agent.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(3);

/// The id of this machine's host.
///
/// # Errors
/// See [`NoHostId`].
pub fn own_id(root: &Path) -> Result<HostId, NoHostId> {
    match id_file::read(root).map_err(NoHostId::Unreadable)? {
        IdFile::Id(id) => Ok(id),
        IdFile::Missing => Err(NoHostId::Missing(id_file::path(root))),
        IdFile::Invalid => Err(NoHostId::Invalid(id_file::path(root))),
    }
}

/// Why the id of this machine's host is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHostId {
    /// There is no id file: the machine was never registered.
    Missing(PathBuf),
    /// The id file does not contain a host id.
    Invalid(PathBuf),
    /// The id file cannot be read.
    Unreadable(FileError),
}

impl fmt::Display for NoHostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => {
                write!(formatter, "this machine is not registered with Mackerel: there is no `{}`", path.display())
            }
            Self::Invalid(path) => write!(formatter, "`{}` does not contain a valid host id", path.display()),
            Self::Unreadable(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for NoHostId {}

/// Retires the host and deletes the id file, so that the next start registers another host. Also deletes the record of
/// delivered metadata, since the next host has none yet.
///
/// # Errors
/// Mackerel's last answer, if it refuses or keeps failing; the id file then stays.
pub async fn retire(client: &Client, root: &Path, id: &HostId) -> Result<(), ApiError> {
    let mut tries = 1;
    while let Err(error) = client.post_retire(id).await {
        let is_temporary = matches!(error, ApiError::Busy(_) | ApiError::NoAnswer(_) | ApiError::Unsent(_));
        if !is_temporary || tries == TRIES {
            return Err(error);
        }
        let pause = PAUSE.max(error.retry_after().unwrap_or_default().min(PAUSE * 10));
        tracing::warn!("cannot retire host `{id}`: {error}; {}", retrying(pause));
        tries += 1;
        tokio::time::sleep(pause).await;
    }
    let path = id_file::path(root);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!("retired host `{id}`, but cannot delete `{}`: {error}; delete it", path.display());
    }
    let delivered = document::folder(root);
    match std::fs::remove_dir_all(&delivered) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(
            "cannot delete `{}`: {error}; delete it, or metadata of the next host may not be posted",
            delivered.display()
        ),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::testing::{Server, answer, client};

    #[tokio::test]
    async fn a_retired_host_leaves_neither_its_id_nor_a_record_of_metadata() {
        let root = tempfile::tempdir().unwrap();
        let delivered = document::folder(root.path());
        std::fs::create_dir(&delivered).unwrap();
        std::fs::write(delivered.join("md.json"), "{}").unwrap();
        std::fs::write(id_file::path(root.path()), "HOST1").unwrap();
        let server = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        retire(&client(&server.base), root.path(), &HostId::new("HOST1").unwrap()).await.unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        assert_eq!(server.requests().remove(0).line, "POST /api/v0/hosts/HOST1/retire");
    }
}
