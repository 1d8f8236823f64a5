//! The control socket, where a running agent reports its state. `wasaba status`, `wasaba health` and `wasaba plugin list` read it.
//!
//! A unix socket in the agent's root, open to the agent's user and root only. Each connection is sent one JSON document
//! ([`AgentState`]), and nothing is read from it. Plugins cannot connect to it, whatever they were granted: see `capabilities::connect`.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use wasaba_core::clock::Moment;
use wasaba_core::paths::named;

use super::state::{AgentState, Tables};

/// The wait after a connection could not be accepted.
const ACCEPTED_AGAIN: Duration = Duration::from_secs(1);

/// How long a reader may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many readers are served at once; one more cuts off the oldest, which does not read.
const MOST_READERS: usize = 8;

/// How long the agent may take to answer; shorter than the timeout of a container's health check.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The path of the socket of the agent with this root.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("wasaba.sock")
}

/// Answers every connection until it is dropped. The spool's lock guarantees that no other agent has this root, so an existing socket
/// was left behind by a dead one.
///
/// # Errors
/// The socket cannot be created.
#[expect(clippy::disallowed_methods, reason = "the one socket on which the agent listens, in its own folder")]
pub async fn serve(root: &Path, tables: Tables) -> io::Result<()> {
    let path = path(root);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let _removed = Removed(path.clone());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let mut readers = Readers::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => readers.serve(stream, tables.clone()),
            // Too many open files, for instance; the next one may succeed.
            Err(error) => {
                tracing::debug!("cannot accept a connection at `{}`: {error}", path.display());
                tokio::time::sleep(ACCEPTED_AGAIN).await;
            }
        }
    }
}

/// Those that are being served. A reader that does not read holds up no other.
#[derive(Default)]
struct Readers {
    tasks: JoinSet<()>,
    /// The oldest first.
    handles: VecDeque<AbortHandle>,
}

impl Readers {
    fn serve(&mut self, mut stream: UnixStream, tables: Tables) {
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MOST_READERS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(async move {
            let document = AgentState::of(&tables, Moment::now()).await;
            let document = serde_json::to_vec(&document).unwrap_or_default();
            // One that has disconnected is not an error.
            tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&document)).await.ok();
        }));
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    #[expect(clippy::disallowed_methods, reason = "the agent's own socket, in its own folder")]
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// The current report of the agent with this root.
///
/// # Errors
/// No agent is running, or this user may not connect to it.
pub fn ask(root: &Path) -> Result<AgentState, String> {
    let path = path(root);
    let shown = path.display();
    let stream =
        named::socket(&path).and_then(|socket| socket.connect_blocking()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!(
                    "no agent is running with this root (`{shown}`: {error}); start it, or name another root with -root or -conf"
                )
            }
            _ => format!("cannot connect to the agent at `{shown}`: {error}; only its own user and root may"),
        })?;
    let mut document = Vec::new();
    let read = stream.set_read_timeout(Some(READ_TIMEOUT)).and_then(|()| (&stream).read_to_end(&mut document));
    read.map_err(|error| format!("the agent at `{shown}` does not answer: {error}"))?;
    serde_json::from_slice(&document).map_err(|error| {
        format!("the agent at `{shown}` is from a different release than this program: {error}; restart the agent")
    })
}

#[cfg(test)]
mod tests {
    use plugins::key::Key;

    use super::*;
    use crate::process::state::State;
    use crate::process::state::tests::tables;

    /// The answer of the agent that serves `root`, as soon as it does.
    async fn answer(root: &Path) -> AgentState {
        let root = root.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            loop {
                match ask(&root) {
                    Ok(state) => return state,
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        asked.await.unwrap()
    }

    #[tokio::test]
    async fn the_report_is_sent_on_a_socket_that_only_its_owner_may_use() {
        let temp = tempfile::tempdir().unwrap();
        let (root, tables) = (temp.path().to_owned(), tables(temp.path()));
        tables.register.skip(Key::metrics("web"), None, vec!["unknown plugin `ngnix`".into()]);
        std::fs::write(path(&root), "left behind by a dead agent").unwrap();
        let server = tokio::spawn(async move { serve(&root, tables).await });
        let state = answer(temp.path()).await;
        let mode = std::fs::metadata(path(temp.path())).unwrap().permissions().mode();
        assert_eq!((state.plugins[0].state, mode & 0o777), (State::Skipped, 0o600));
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path(temp.path()).exists());
        let error = ask(temp.path()).unwrap_err();
        assert!(error.contains("no agent is running") && error.contains("-root"), "{error}");
    }

    #[tokio::test]
    async fn readers_that_do_not_read_hold_up_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let (root, tables) = (temp.path().to_owned(), tables(temp.path()));
        // More than a socket's buffers hold.
        (0..2_000)
            .for_each(|number| tables.register.skip(Key::metrics(&format!("p{number}")), None, vec!["x".repeat(500)]));
        let server = tokio::spawn(async move { serve(&root, tables).await });
        assert_eq!(answer(temp.path()).await.plugins.len(), 2_000);
        let mut stuck = Vec::new();
        for _ in 0..3 * MOST_READERS {
            stuck.push(UnixStream::connect(path(temp.path())).await.unwrap());
        }
        assert_eq!(answer(temp.path()).await.plugins.len(), 2_000);
        server.abort();
    }
}
