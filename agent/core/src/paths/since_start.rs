//! The border between the start of the agent and the rest of its life: what it has read until then it may read later, too.

use std::collections::BTreeSet;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::confinement::files;

/// A start reads some files in a few folders.
const MOST_FOLDERS: usize = 1_000;

/// The folders of all files that were opened, until they are asked for.
static FOLDERS: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// Notes that a file in this folder, or the folder itself, was opened.
pub(super) fn note(folder: &Path) {
    if let Some(folders) = &mut *FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
        && folders.len() < MOST_FOLDERS
        && !folders.contains(folder)
    {
        folders.insert(folder.to_owned());
    }
}

/// The folders of all files that this process has opened for reading so far, without links. From now on none is noted.
#[must_use]
pub fn read_so_far() -> BTreeSet<PathBuf> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}

/// Why the file or folder at `path`, which has no links, was not opened for reading.
pub(super) fn unopened(error: Errno, path: &Path) -> Error {
    match error {
        Errno::ACCESS if files::is_closed(path) => super::walk::refused(
            "the agent dropped the right to read there at its start, when nothing needed it: restart the agent",
        ),
        error => error.into(),
    }
}
