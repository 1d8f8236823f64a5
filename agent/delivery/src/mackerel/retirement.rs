//! The retirement: Mackerel is told that this host is no more.

use std::path::Path;
use std::time::Duration;

use wasaba_core::document;

use super::client::{ApiError, Client};
use super::id_file::{self, HostId, Written};

/// How often it is tried while Mackerel does not answer, and how long between two tries; as the official agent does it.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(3);

/// The id of the host that this machine is.
///
/// # Errors
/// It was never registered, or its id file cannot be read.
pub fn own_id(root: &Path) -> Result<HostId, String> {
    let path = id_file::path(root);
    match id_file::read(root).map_err(|error| error.to_string())? {
        Written::Id(id) => Ok(id),
        Written::Nothing => Err(format!("this machine is no host on Mackerel: there is no `{}`", path.display())),
        Written::Damaged => Err(format!("`{}` holds no host id", path.display())),
    }
}

/// Retires the host and deletes the id file, so that the next start registers another one; and what this one was told of
/// metadata, which that one was not.
///
/// # Errors
/// Mackerel refuses, or does not answer; the id file then stays.
pub async fn retire(client: &Client, root: &Path, id: &HostId) -> Result<(), String> {
    let mut tries = 1;
    while let Err(error) = client.post(&format!("/api/v0/hosts/{id}/retire"), b"{}".to_vec()).await {
        let may_pass = matches!(error, ApiError::Busy { .. } | ApiError::Unreachable(_));
        if !may_pass || tries == TRIES {
            return Err(format!("host `{id}` could not be retired: {error}"));
        }
        tracing::warn!("host `{id}` cannot be retired yet: {error}");
        tries += 1;
        tokio::time::sleep(PAUSE.max(error.retry_after().unwrap_or_default().min(PAUSE * 10))).await;
    }
    let path = id_file::path(root);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!("host `{id}` is retired, but `{}` cannot be deleted: {error}; delete it", path.display());
    }
    let told = document::folder(root);
    match std::fs::remove_dir_all(&told) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(
            "`{}` cannot be deleted: {error}; delete it, else the next host may not be told its metadata",
            told.display()
        ),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasaba_core::secret::Secret;

    use super::*;
    use crate::mackerel::client::Agent;
    use crate::mackerel::testing::{Server, answer};

    #[tokio::test]
    async fn a_retired_host_leaves_neither_its_id_nor_what_it_told_of_metadata() {
        let root = tempfile::tempdir().unwrap();
        let told = document::folder(root.path());
        std::fs::create_dir(&told).unwrap();
        std::fs::write(told.join("md.json"), "{}").unwrap();
        std::fs::write(id_file::path(root.path()), "HOST1").unwrap();
        let server = Server::start(|_| answer(200, "{}")).await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let client = Client::new(&server.base, Secret::new("key"), &agent, &Default::default()).unwrap();
        retire(&client, root.path(), &HostId::new("HOST1").unwrap()).await.unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        assert_eq!(server.requests().remove(0).line, "POST /api/v0/hosts/HOST1/retire");
    }
}
