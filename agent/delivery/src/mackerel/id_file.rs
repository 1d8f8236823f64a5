//! The id file: `<root>/id`, the id of this machine's host on Mackerel.
//!
//! Byte for byte the official agent's file. It is written atomically. An empty or garbled file is invalid rather than
//! missing: to take it for missing would register the machine a second time.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use wasaba_core::paths::own::Folder;
use wasaba_core::paths::{named, passing, patient};

use super::attempt::Attempt;

/// How long the file system of the id file may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a file system that hung answers again.
const LOOKED_AGAIN: Duration = Duration::from_secs(1);

/// A host's id on Mackerel: letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(String);

impl HostId {
    /// `None` if `text` is not a valid host id.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why the id file cannot be read or written. It is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What failed.
    pub(super) what: String,
    /// What to do about it.
    pub(super) cure: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.cure)
    }
}

impl std::error::Error for FileError {}

/// What helps if the id file cannot be read or written.
fn cure(root: &Path, error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let (root, path) = (root.display(), path(root));
    match (passing::cure(error), error.kind()) {
        (Some(cure), _) => cure.to_owned(),
        (None, Kind::PermissionDenied) => {
            format!("make the folder `{root}` readable and writable for the agent's user")
        }
        (None, Kind::IsADirectory | Kind::NotADirectory | Kind::AlreadyExists | Kind::InvalidInput) => {
            format!("`{root}` must be a folder and `{}` a file: move away what is there instead", path.display())
        }
        (None, _) => format!("check what is at `{}`", path.display()),
    }
}

/// The contents of the id file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdFile {
    /// There is no file: this machine was never registered, or the operator deleted it to register it again.
    Missing,
    /// It does not contain a host id.
    Invalid,
    /// The id of this machine's host.
    Id(HostId),
}

/// The path of the id file.
pub(super) fn path(root: &Path) -> PathBuf {
    root.join("id")
}

/// Reads the id file.
///
/// # Errors
/// It exists but cannot be read.
pub(super) fn read(root: &Path) -> Result<IdFile, FileError> {
    // Longer than any id.
    match named::read(&path(root), 4_096) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(&path(root)) => Ok(IdFile::Missing),
        Err(error) => Err(FileError {
            what: format!("cannot read `{}`: {error}", path(root).display()),
            cure: cure(root, &error),
        }),
    }
}

/// Whether there is a link, whose target may only be away for now.
fn is_link(path: &Path) -> bool {
    rustix::fs::readlink(path, Vec::new()).is_ok()
}

/// Does `work` with the id file, on a thread of its own, and waits ten seconds at most for its file system.
///
/// # Errors
/// The work's, or there was no answer in time.
pub(super) fn with_patience<T: Send + 'static>(
    root: &Path,
    work: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let folder = root.to_owned();
    patient::ask(&path(root), PATIENCE, move |_| work(&folder)).unwrap_or_else(|error| {
        Err(FileError { what: format!("cannot use `{}`: {error}", path(root).display()), cure: cure(root, &error) })
    })
}

/// Returns after `wait`, or as soon as the file system of the id file answers again if it does not now.
pub(super) async fn wait(root: &Path, wait: Duration) {
    let path = path(root);
    let answers = async {
        if !patient::hangs(&path) {
            std::future::pending::<()>().await;
        }
        while patient::hangs(&path) {
            sleep(LOOKED_AGAIN).await;
        }
    };
    tokio::select! {
        () = sleep(wait) => {}
        () = answers => {}
    }
}

fn parse(bytes: &[u8]) -> IdFile {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    HostId::new(text.trim_end_matches(['\r', '\n'])).map_or(IdFile::Invalid, IdFile::Id)
}

/// A new id file, created before the host is registered to make sure that it can be written: an id that is lost would
/// register another host with every start.
pub(super) struct Draft {
    root: Folder,
    file: File,
    attempt: Option<Attempt>,
}

/// The name of a file that is not complete yet.
const DRAFT: &str = ".id.new";

/// The file of the [`Attempt`] to register this machine. It stays until the id file is written, so that a host whose id never arrived is
/// found again instead of registered twice.
const SINCE: &str = ".id.since";

impl Draft {
    pub(super) fn new(root: &Path) -> Result<Self, FileError> {
        let create = || {
            let root = Folder::create(root, 0o750)?;
            let mut file = root.create_file(DRAFT.as_ref(), 0o644)?;
            // A full disk lets files be created but not written.
            file.write_all(&[0; 64])?;
            file.sync_all()?;
            let attempt = match root.read_only(SINCE) {
                Ok(opened) => Some(Attempt::parse(&opened.read(65_536)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            Ok(Self { root, file, attempt })
        };
        create().map_err(|error| cannot_write(root, &error))
    }

    /// An earlier registration of which no id arrived.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// Remembers an attempt, which may be made then.
    pub(super) fn remember(&self, attempt: &Attempt) -> Result<(), FileError> {
        // What identifies the hardware is not for every user.
        let written = self.root.write(SINCE.as_ref(), attempt.text().as_bytes(), 0o600);
        written.and_then(|()| self.root.sync()).map_err(|error| cannot_write(self.root.path(), &error))
    }

    /// Forgets the attempt, which made nothing.
    pub(super) fn forget(&self) {
        // The next attempt looks for a host then, which costs a request.
        self.root.remove(SINCE.as_ref()).ok();
    }

    pub(super) fn write(&self, id: &HostId) -> Result<(), FileError> {
        let write = || {
            use std::os::unix::fs::FileExt;
            self.file.write_all_at(id.as_str().as_bytes(), 0)?;
            self.file.set_len(id.as_str().len() as u64)?;
            self.file.set_permissions(Permissions::from_mode(0o644))?;
            self.file.sync_all()?;
            self.root.rename(DRAFT.as_ref(), "id".as_ref())?;
            self.root.sync()?;
            self.root.remove(SINCE.as_ref())
        };
        write().map_err(|error| cannot_write(self.root.path(), &error))
    }
}

/// Removes what a registration left that ended right after it had written the id file.
pub(super) fn tidy(root: &Path) {
    if let Ok(root) = Folder::open(root) {
        // Hardly ever there.
        root.remove(SINCE.as_ref()).ok();
    }
}

/// Which folder `root` is: its device and its number there. `None` if there is none.
pub(super) fn place(root: &Path) -> Option<(u64, u64)> {
    Folder::open(root).and_then(|root| root.identity()).ok()
}

fn cannot_write(root: &Path, error: &io::Error) -> FileError {
    let cure = cure(root, error);
    FileError {
        what: format!("cannot write `{}`: {error}", path(root).display()),
        cure: format!("{cure}; without this file every start would register another host"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_empty_or_garbled_file_is_invalid_and_not_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), IdFile::Missing);
        for invalid in ["", "\n", "two words", "../x", "\0\0\0\0", " 4Hkc5RVYYB4"] {
            fs::write(path(folder.path()), invalid).unwrap();
            assert_eq!(read(folder.path()).unwrap(), IdFile::Invalid, "{invalid:?}");
        }
    }

    #[test]
    fn a_link_to_a_file_that_is_away_is_an_error_and_not_a_machine_that_was_never_registered() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/volume/that/is/not/mounted", path(folder.path())).unwrap();
        assert!(read(folder.path()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_answers_again_ends_the_wait_for_the_next_try() {
        let folder = tempfile::tempdir().unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hang = move |_: &Path| released.recv().is_ok();
        patient::ask(&path(folder.path()), Duration::ZERO, hang).unwrap_err();
        let begin = tokio::time::Instant::now();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let answers = async {
            sleep(minute).await;
            release.send(()).unwrap();
            while patient::hangs(&path(folder.path())) {
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(wait(folder.path(), hour), answers);
        let waited = begin.elapsed();
        assert!(waited >= minute && waited <= minute + LOOKED_AGAIN, "{waited:?}");
        wait(folder.path(), hour).await;
        assert!(begin.elapsed() >= hour, "it answered before");
    }

    #[test]
    fn a_line_break_after_the_id_is_ignored() {
        for text in ["4Hkc5RVYYB4", "4Hkc5RVYYB4\n", "4Hkc5RVYYB4\r\n"] {
            assert_eq!(parse(text.as_bytes()), IdFile::Id(HostId("4Hkc5RVYYB4".to_owned())));
        }
    }

    #[test]
    fn the_file_equals_the_official_agents() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new");
        Draft::new(&root).unwrap().write(&HostId::new("4Hkc5RVYYB4").unwrap()).unwrap();
        assert_eq!(fs::read(path(&root)).unwrap(), b"4Hkc5RVYYB4");
        assert_eq!(fs::metadata(path(&root)).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    }

    #[test]
    fn a_pipe_in_place_of_the_file_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path(folder.path()), rustix::fs::Mode::RUSR).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_registration_without_an_id_is_remembered_until_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (root, attempt) = (folder.path(), Attempt::first(100));
        let earlier = || Draft::new(root).unwrap().attempt().cloned();
        assert_eq!(earlier(), None);
        Draft::new(root).unwrap().remember(&attempt).unwrap();
        assert_eq!(earlier().as_ref(), Some(&attempt));
        Draft::new(root).unwrap().write(&HostId::new("A").unwrap()).unwrap();
        assert_eq!(earlier(), None);
        let draft = Draft::new(root).unwrap();
        draft.remember(&attempt).unwrap();
        assert!(earlier().is_some());
        draft.forget();
        assert_eq!(earlier(), None);
        draft.remember(&attempt).unwrap();
        tidy(root);
        assert_eq!(earlier(), None);
    }

    #[test]
    fn a_draft_fails_where_nothing_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Draft::new(&file).err().unwrap().to_string();
        assert!(error.contains("is not a folder"), "{error}");
    }
}
