//! The control socket, where a running agent shows itself. `wasaba status`, `health`, `plugin list`, `top` and `page` read it.
//!
//! A unix socket in the agent's root, open to the agent's user and root only. Each connection asks once, in a line of JSON
//! ([`Request`]), and is sent one JSON document. Nothing can be changed through it. Plugins cannot connect to it, whatever they were
//! granted: see `capabilities::connect`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use show::feed::{MOST_REQUEST_BYTES, Request};
use show::state::AgentState;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};
use wasaba_core::clock;
use wasaba_core::paths::own::Folder;
use wasaba_core::paths::{named, passing, patient};

use super::state::Tables;
use super::{ending, feed, look, pidfile};

/// How often it is checked that the socket is still there, and tried again to make it.
const LOOKED_AGAIN: Duration = Duration::from_secs(60);

/// The wait after a connection could not be accepted.
const ACCEPTED_AGAIN: Duration = Duration::from_secs(1);

/// How long a reader may take to say what it asks for; one that says nothing is sent the state.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a reader may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many readers are served at once; one more waits until one of them has read.
const MOST_READERS: usize = 8;

/// How long the oldest of so many may take while another one waits; then it is cut off, as it does not read.
const READ_WITHIN: Duration = Duration::from_millis(500);

/// How long the agent may take to answer; shorter than the timeout of a container's health check.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The name of the socket.
const NAME: &str = "wasaba.sock";

/// What a folder in its place is renamed to.
const ASIDE: &str = "wasaba.sock.replaced";

/// The most that the address of a socket holds.
const LONGEST_ADDRESS_BYTES: usize = 107;

/// The path of the socket of the agent with this root.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join(NAME)
}

/// Answers every connection until it is dropped. A socket that cannot be made, or that something else removes, is made later.
pub async fn serve(root: PathBuf, tables: Tables) {
    match serve_looking_every(LOOKED_AGAIN, root, tables).await {}
}

async fn serve_looking_every(pause: Duration, root: PathBuf, tables: Tables) -> Infallible {
    let path = path(&root);
    let shown = path.display();
    let mut readers = Readers::default();
    let mut is_failing = false;
    loop {
        match listen(&root).await {
            Ok((listener, mut bound)) => {
                if std::mem::take(&mut is_failing) {
                    tracing::info!("listening at `{shown}` now");
                }
                tokio::select! {
                    never = accept(&listener, &path, &mut readers, &tables) => match never {},
                    () = bound.gone(pause) => tracing::warn!("`{shown}` was removed or replaced: making it again"),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    let cure = passing::cure(&error).map(|cure| format!(": {cure}")).unwrap_or_default();
                    tracing::warn!(
                        "cannot listen at `{shown}`: {error}; `wasaba status`, `top`, `health` and `plugin list` will not \
                         work until that succeeds, which is tried every minute{cure}"
                    );
                }
                sleep(pause).await;
            }
        }
    }
}

/// Waits for the disk, apart from everything else.
async fn listen(root: &Path) -> io::Result<(UnixListener, Bound)> {
    let root = root.to_owned();
    let (listener, bound) = spawn_blocking(move || bind(&root)).await.map_err(io::Error::other)??;
    Ok((UnixListener::from_std(listener)?, bound))
}

/// The spool's lock keeps a second agent from this root, unless the file with the lock was removed: a socket at which one answers stays.
#[expect(clippy::disallowed_methods, reason = "the one socket on which the agent listens, in its own folder")]
fn bind(root: &Path) -> io::Result<(std::os::unix::net::UnixListener, Bound)> {
    let folder = Folder::create(root, 0o750)?;
    let path = path(root);
    let other = named::socket(&path).and_then(|socket| socket.connect_blocking(READ_TIMEOUT));
    // The queue of one that hangs may be full.
    if other.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::WouldBlock) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there: stop one of the two"));
    }
    match std::fs::remove_file(&path) {
        // The file of the queue is made again in the same way.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            folder.rename(NAME.as_ref(), ASIDE.as_ref())?;
            tracing::warn!("renamed the folder `{}` to `{ASIDE}`", path.display());
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let is_long = path.as_os_str().len() > LONGEST_ADDRESS_BYTES;
    let listener =
        std::os::unix::net::UnixListener::bind(if is_long { folder.short_path(NAME) } else { path.clone() })?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let identity = identity(&path)?;
    Ok((listener, Bound { path, identity, is_gone: false }))
}

async fn accept(listener: &UnixListener, path: &Path, readers: &mut Readers, tables: &Tables) -> Infallible {
    loop {
        readers.room().await;
        match listener.accept().await {
            Ok((stream, _)) => readers.serve(stream, tables.clone()),
            // Too many open files, for instance; the next one may succeed.
            Err(error) => {
                tracing::debug!("cannot accept a connection at `{}`: {error}", path.display());
                sleep(ACCEPTED_AGAIN).await;
            }
        }
    }
}

/// Those that are being served.
#[derive(Default)]
struct Readers {
    tasks: JoinSet<()>,
    /// The oldest first, each with the time until which it is not cut off.
    served: VecDeque<(AbortHandle, Instant)>,
}

impl Readers {
    /// Waits until one more can be served. A reader that does not read holds up others for [`READ_WITHIN`].
    async fn room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.served.retain(|(handle, _)| !handle.is_finished());
            if self.served.len() < MOST_READERS {
                return;
            }
            let Some((oldest, until)) = self.served.front() else { return };
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(*until) => {
                    oldest.abort();
                    self.served.pop_front();
                }
            }
        }
    }

    fn serve(&mut self, mut stream: UnixStream, tables: Tables) {
        let handle = self.tasks.spawn(async move {
            let answer = match request(&mut stream).await {
                Ok(request) => feed::answer(&tables, request).await,
                Err(why) => Err(why),
            };
            // An error is a document, too.
            let document = answer.unwrap_or_else(|error| serde_json::to_vec(&Failed { error }).unwrap_or_default());
            // One that has disconnected is not an error.
            tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&document)).await.ok();
        });
        self.served.push_back((handle, Instant::now() + READ_WITHIN));
    }
}

/// What is sent in place of an answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    /// Why, with the cure.
    error: String,
}

/// Reads what is asked for.
async fn request(stream: &mut UnixStream) -> Result<Request, String> {
    let (reader, _) = stream.split();
    let mut reader = BufReader::new(reader).take(MOST_REQUEST_BYTES as u64);
    let mut line = Vec::new();
    let read = tokio::time::timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await;
    if line.is_empty() {
        return Ok(Request::State);
    }
    let is_whole = matches!(read, Ok(Ok(_))) && line.last() == Some(&b'\n');
    let request = serde_json::from_slice(&line).ok().filter(|_| is_whole);
    request.ok_or_else(|| {
        format!("invalid request: it must be one line of JSON of at most {MOST_REQUEST_BYTES} bytes that this release of wasaba knows")
    })
}

/// The socket that was bound, removed when the agent exits.
struct Bound {
    path: PathBuf,
    identity: (u64, u64),
    is_gone: bool,
}

impl Bound {
    /// Returns when its path leads elsewhere.
    async fn gone(&mut self, pause: Duration) {
        while !self.is_gone {
            sleep(pause).await;
            let path = self.path.clone();
            self.is_gone = match spawn_blocking(move || identity(&path)).await {
                Ok(Ok(found)) => found != self.identity,
                Ok(Err(error)) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
                Err(_) => false,
            };
        }
    }
}

/// The device and the number of what is at `path`.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        let own = self.identity;
        #[expect(clippy::disallowed_methods, reason = "the agent's own socket, in its own folder")]
        let remove = move |path: &Path| {
            if identity(path).is_ok_and(|found| found == own) {
                std::fs::remove_file(path).ok();
            }
        };
        // A disk that does not answer must not hold up the end.
        patient::ask(&self.path, ending::patience(patient::LOOK), remove).ok();
    }
}

/// The current report of the agent with this root, and this pid file.
///
/// # Errors
/// No agent is running, it does not answer, or this user may not connect to it.
pub fn ask(root: &Path, pidfile: &Path) -> Result<AgentState, String> {
    let document = ask_for(&Request::State, root, pidfile)?;
    serde_json::from_slice(&document).map_err(|error| of_another_release(root, &error))
}

/// The error of a document that is not as this release writes it.
pub fn of_another_release(root: &Path, error: &serde_json::Error) -> String {
    let path = path(root);
    format!(
        "the agent at `{}` is from a different release than this program: {error}; restart the agent",
        path.display()
    )
}

/// The answer of the agent with this root, and this pid file, as JSON.
///
/// # Errors
/// No agent is running, it does not answer, or refuses; or this user may not connect to it.
pub fn ask_for(request: &Request, root: &Path, pidfile: &Path) -> Result<Vec<u8>, String> {
    look::at(format_args!("`{}`", root.display()));
    let path = path(root);
    let shown = path.display();
    let hangs = || {
        let within = READ_TIMEOUT.as_secs();
        format!("the agent at `{shown}` does not answer within {within} s: it hangs or was stopped; restart it")
    };
    let found = named::socket(&path);
    // The file system has answered.
    look::at(format_args!("`{}`", root.display()));
    let since = clock::instant();
    let connected = found.and_then(|socket| socket.connect_blocking(READ_TIMEOUT));
    let stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot connect to the agent at `{shown}`: {error}; only its own user and root may")
        }
        // It takes no connection from its queue, which is full.
        io::ErrorKind::WouldBlock => hangs(),
        _ => {
            let running = pidfile::running(pidfile).map(|process| (process, pidfile));
            silence(&format!("`{shown}`: {error}"), running, obstacle(root).as_deref())
        }
    })?;
    // It has a patience of its own.
    look::away();
    let mut document = Vec::new();
    // Zero would be for ever.
    let left = READ_TIMEOUT.saturating_sub(clock::since(since)).max(Duration::from_millis(1));
    let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let timeouts = stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)));
    let asked = timeouts.and_then(|()| (&stream).write_all(&line));
    // An agent that has closed the connection says more by its answer than this does.
    let asked = asked.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) });
    let read = asked.and_then(|()| (&stream).read_to_end(&mut document));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => hangs(),
        _ => format!("the agent at `{shown}` does not answer: {error}"),
    })?;
    if document.is_empty() {
        return Err(format!("the agent at `{shown}` has closed the connection: it is ending; ask again"));
    }
    match serde_json::from_slice::<Failed>(&document) {
        Ok(failed) => Err(failed.error),
        Err(_) => Ok(document),
    }
}

/// What it means that no socket can be connected to: an agent that runs by its pid file has none, or there is no agent.
fn silence(failed: &str, running: Option<(u32, &Path)>, obstacle: Option<&str>) -> String {
    match (running, obstacle) {
        (Some((process, pidfile)), obstacle) => format!(
            "an agent seems to run as process {process} (pid file `{}`), but has no socket with this root ({failed}): {}",
            pidfile.display(),
            obstacle.unwrap_or("its log says why, and it is tried again every minute; if its root is another, name that with -root or -conf")
        ),
        (None, Some(obstacle)) => format!("no agent can be asked with this root ({failed}): {obstacle}"),
        (None, None) => {
            format!("no agent is running with this root ({failed}); start it, or name another root with -root or -conf")
        }
    }
}

/// Why no agent can have a socket in this root now, with the cure.
fn obstacle(root: &Path) -> Option<String> {
    look::at(format_args!("`{}`", root.display()));
    let is_read_only =
        rustix::fs::statvfs(root).is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    if is_read_only {
        return Some(
            "its file system is read-only, where no socket can be made: make it writable, or set another root"
                .to_owned(),
        );
    }
    let about = std::fs::symlink_metadata(path(root)).ok()?;
    (!about.file_type().is_socket()).then(|| "something else is in the place of the socket: remove it".to_owned())
}

#[cfg(test)]
mod tests {
    use plugins::key::Key;

    use super::*;
    use crate::process::state::tests::tables;
    use show::state::State;

    fn ask_at(root: &Path) -> Result<AgentState, String> {
        ask(root, &root.join("no.pid"))
    }

    /// The answer of the agent that serves `root`, as soon as it does.
    async fn answer(root: &Path) -> AgentState {
        let root = root.to_owned();
        let asked = spawn_blocking(move || {
            loop {
                match ask_at(&root) {
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
        let server = tokio::spawn(serve(root, tables));
        let state = answer(temp.path()).await;
        let mode = std::fs::metadata(path(temp.path())).unwrap().permissions().mode();
        assert_eq!((state.plugins[0].state, mode & 0o777), (State::Skipped, 0o600));
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path(temp.path()).exists());
        let error = ask_at(temp.path()).unwrap_err();
        assert!(error.contains("no agent is running") && error.contains("-root"), "{error}");
    }

    #[tokio::test]
    async fn readers_that_do_not_read_hold_up_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let (root, tables) = (temp.path().to_owned(), tables(temp.path()));
        // More than a socket's buffers hold.
        (0..2_000)
            .for_each(|number| tables.register.skip(Key::metrics(&format!("p{number}")), None, vec!["x".repeat(500)]));
        let server = tokio::spawn(serve(root, tables));
        assert_eq!(answer(temp.path()).await.plugins.len(), 2_000);
        let mut stuck = Vec::new();
        for _ in 0..=MOST_READERS {
            stuck.push(UnixStream::connect(path(temp.path())).await.unwrap());
        }
        assert_eq!(answer(temp.path()).await.plugins.len(), 2_000);
        server.abort();
    }

    #[tokio::test]
    async fn many_who_ask_at_once_are_all_answered() {
        let temp = tempfile::tempdir().unwrap();
        let server = tokio::spawn(serve(temp.path().to_owned(), tables(temp.path())));
        answer(temp.path()).await;
        let mut asked = JoinSet::new();
        for _ in 0..8 * MOST_READERS {
            let root = temp.path().to_owned();
            asked.spawn_blocking(move || ask_at(&root).map(|state| state.process));
        }
        for answered in asked.join_all().await {
            assert_eq!(answered, Ok(std::process::id()));
        }
        server.abort();
    }

    #[tokio::test]
    async fn a_socket_that_is_removed_is_made_again_also_with_its_folder_and_one_of_another_agent_stays() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        let server = tokio::spawn(serve_looking_every(Duration::from_millis(1), root.clone(), tables(temp.path())));
        answer(&root).await;
        std::fs::remove_file(path(&root)).unwrap();
        answer(&root).await;
        std::fs::rename(&root, temp.path().join("elsewhere")).unwrap();
        answer(&root).await;
        let error = bind(&root).err().unwrap();
        assert!(error.to_string().contains("another agent listens there"), "{error}");
        answer(&root).await;
        server.abort();
    }

    #[tokio::test]
    async fn a_folder_in_place_of_the_socket_is_renamed_and_the_socket_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        let server = tokio::spawn(serve_looking_every(Duration::from_millis(1), root.clone(), tables(temp.path())));
        answer(&root).await;
        // Whichever comes first, the agent or the folder.
        while !root.join(ASIDE).exists() {
            std::fs::remove_file(path(&root)).ok();
            std::fs::create_dir(path(&root)).ok();
            tokio::task::yield_now().await;
        }
        answer(&root).await;
        server.abort();
    }

    #[tokio::test]
    async fn a_root_of_any_length_has_a_socket() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("r".repeat(200));
        let server = tokio::spawn(serve(root.clone(), tables(temp.path())));
        answer(&root).await;
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path(&root).exists());
    }

    #[test]
    fn an_agent_without_a_socket_is_not_taken_for_none_and_what_is_in_its_place_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let pidfile = temp.path().join("agent.pid");
        std::fs::write(&pidfile, std::process::id().to_string()).unwrap();
        let error = ask(temp.path(), &pidfile).unwrap_err();
        let running = format!("an agent seems to run as process {} (pid file `", std::process::id());
        assert!(error.starts_with(&running) && error.contains("its log says why"), "{error}");
        std::fs::create_dir(path(temp.path())).unwrap();
        let error = ask(temp.path(), &pidfile).unwrap_err();
        assert!(error.ends_with(": something else is in the place of the socket: remove it"), "{error}");
        let error = ask_at(temp.path()).unwrap_err();
        assert!(error.starts_with("no agent can be asked with this root (`"), "{error}");
    }

    #[test]
    fn an_agent_that_was_stopped_is_said_not_to_answer_also_once_its_queue_of_connections_is_full() {
        let temp = tempfile::tempdir().unwrap();
        let stopped = std::os::unix::net::UnixListener::bind(path(temp.path())).unwrap();
        // One connection fits, even if it is closed.
        rustix::net::listen(&stopped, 0).unwrap();
        for _ in 0..2 {
            let error = ask_at(temp.path()).unwrap_err();
            assert!(error.contains("does not answer within 3 s") && error.contains("restart it"), "{error}");
        }
        let error = bind(temp.path()).err().unwrap();
        assert!(error.to_string().contains("another agent listens there"), "{error}");
    }
}
