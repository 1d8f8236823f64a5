//! The id file: `<root>/id`, the id of this machine's host on Mackerel.
//!
//! Byte for byte the official agent's file. It is written atomically. An empty or garbled file is invalid rather than
//! missing: to take it for missing would register the machine a second time.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wasaba_core::paths::named;
use wasaba_core::paths::own::Folder;

use super::FatalError;

/// A host's id on Mackerel: letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub(super) fn read(root: &Path) -> Result<IdFile, FatalError> {
    // Longer than any id.
    match named::read(&path(root), 4_096) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(IdFile::Missing),
        Err(error) => Err(FatalError(format!("cannot read `{}`: {error}", path(root).display()))),
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
    earlier: Option<Earlier>,
}

/// The name of a file that is not complete yet.
const DRAFT: &str = ".id.new";

/// The file that says since when this machine is being registered, in seconds since 1970, and under which name. It stays until the id
/// file is written, so that a host whose id never arrived is found again instead of registered twice.
const SINCE: &str = ".id.since";

/// An earlier registration of which no id arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    /// When it began by this machine's clock, in seconds since 1970.
    pub(super) since: i64,
    /// The name of the host.
    pub(super) name: String,
}

impl Earlier {
    /// A damaged file is as old as can be.
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (since, name) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        since.parse().map(|since| Self { since, name: name.to_owned() }).unwrap_or_default()
    }
}

impl Draft {
    /// A draft at `now`, in seconds since 1970, of a host with this name.
    pub(super) fn new(root: &Path, now: i64, name: &str) -> Result<Self, FatalError> {
        let create = || {
            let root = Folder::create(root, 0o750)?;
            let mut file = root.create_file(DRAFT.as_ref(), 0o644)?;
            // A full disk lets files be created but not written.
            file.write_all(&[0; 64])?;
            file.sync_all()?;
            let earlier = match root.read_only(SINCE) {
                Ok(opened) => Some(Earlier::parse(&opened.read(4_096)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    root.write(SINCE.as_ref(), format!("{now} {name}\n").as_bytes(), 0o644)?;
                    root.sync()?;
                    None
                }
                Err(error) => return Err(error),
            };
            Ok(Self { root, file, earlier })
        };
        create().map_err(|error| cannot_write(root, &error))
    }

    /// The earlier registration of which no id arrived.
    pub(super) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_ref()
    }

    pub(super) fn write(self, id: &HostId) -> Result<(), FatalError> {
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

fn cannot_write(root: &Path, error: &io::Error) -> FatalError {
    FatalError(format!(
        "cannot write `{}`: {error}; make the folder writable, since without this file every start would register another host",
        path(root).display()
    ))
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
    fn a_line_break_after_the_id_is_ignored() {
        for text in ["4Hkc5RVYYB4", "4Hkc5RVYYB4\n", "4Hkc5RVYYB4\r\n"] {
            assert_eq!(parse(text.as_bytes()), IdFile::Id(HostId("4Hkc5RVYYB4".to_owned())));
        }
    }

    #[test]
    fn the_file_equals_the_official_agents() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new");
        Draft::new(&root, 0, "web").unwrap().write(&HostId::new("4Hkc5RVYYB4").unwrap()).unwrap();
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
        let root = folder.path();
        let earlier = |now, name: &str| Draft::new(root, now, name).unwrap().earlier().cloned();
        assert_eq!(earlier(100, "my web"), None);
        assert_eq!(earlier(200, "other"), Some(Earlier { since: 100, name: "my web".to_owned() }));
        for (text, expected) in [("100\n", 100), ("1\0 web", 0), ("", 0)] {
            fs::write(root.join(SINCE), text).unwrap();
            assert_eq!(earlier(300, "web"), Some(Earlier { since: expected, name: String::new() }), "{text:?}");
        }
        Draft::new(root, 300, "web").unwrap().write(&HostId::new("A").unwrap()).unwrap();
        assert_eq!(earlier(400, "web"), None);
        tidy(root);
        assert_eq!(earlier(500, "web"), None);
    }

    #[test]
    fn a_draft_fails_where_nothing_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Draft::new(&file, 0, "web").err().unwrap().to_string();
        assert!(error.contains("make the folder writable"), "{error}");
    }
}
