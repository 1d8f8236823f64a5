//! The keeper of the id file: what it does while the agent runs, if something else removes that file.

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::id_file::{self, Draft, FileError, HostId, IdFile};
use crate::spool::Spool;

/// How often it looks.
const EVERY: Duration = Duration::from_mins(1);

/// Writes the id file again where the whole folder was replaced or emptied. A file that was deleted alone stays deleted: so a machine
/// becomes a new host at the next start.
pub(super) struct IdKeeper {
    root: PathBuf,
    host_id: HostId,
    spool: Arc<Spool>,
    /// Only what was seen can be missed.
    seen: Cell<Option<Seen>>,
}

/// What the folder was like when the id file was there last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    folder: Option<(u64, u64)>,
    /// How often the queue's file had been deleted; `None` if that does not count, or its disk does not answer.
    deletions: Option<u64>,
    /// Whether the id file was missing at the last look: whoever empties a folder may not be finished yet.
    is_missing: bool,
}

impl Seen {
    /// Whether more than the id file is gone now.
    fn is_gone(self, now: Self) -> bool {
        let is_emptied = self.deletions.zip(now.deletions).is_some_and(|(before, now)| now > before);
        is_emptied || now.folder != self.folder
    }

    /// What to compare with from now on, if the id file alone is missing. What is deleted more than a look later was not deleted with it.
    fn missing(self) -> Self {
        Self { is_missing: true, deletions: self.deletions.filter(|_| !self.is_missing), ..self }
    }
}

impl IdKeeper {
    pub(super) fn new(root: PathBuf, host_id: HostId, spool: Arc<Spool>) -> Self {
        Self { root, host_id, spool, seen: Cell::new(None) }
    }

    /// Looks every minute.
    pub(super) async fn run(&self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look().await;
        }
    }

    /// Writes the id file again if it is gone with the rest of its folder.
    pub(super) async fn look(&self) {
        let (root, id, spool, before) = (self.root.clone(), self.host_id.clone(), self.spool.clone(), self.seen.get());
        let looked = tokio::task::spawn_blocking(move || {
            let deletions = spool.times_deleted();
            id_file::with_patience(&root, move |root| {
                let now = || Seen { folder: id_file::place(root), deletions, is_missing: false };
                if id_file::read(root)? != IdFile::Missing {
                    return Ok(Some(now()));
                }
                let Some(before) = before else { return Ok(None) };
                if !before.is_gone(now()) {
                    return Ok(Some(before.missing()));
                }
                Draft::new(root)?.write(&id)?;
                tracing::warn!("`{}` was replaced or emptied: wrote the host id there again", root.display());
                Ok(Some(now()))
            })
        });
        match looked.await {
            Ok(Ok(seen)) => {
                if seen.is_some_and(|seen| seen.is_missing) && !before.is_some_and(|before| before.is_missing) {
                    tracing::warn!(
                        "`{}` is gone: this agent continues as host `{}`, but the next start registers a new host, unless that id is \
                         written there again",
                        id_file::path(&self.root).display(),
                        self.host_id
                    );
                }
                self.seen.set(seen);
            }
            Ok(Err(FileError { what, .. })) => tracing::debug!("{what}"),
            Err(error) => tracing::error!("a bug in wasaba: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::mackerel::testing::log;

    /// What is done to a folder while the agent runs.
    type Deed = fn(&Path);

    fn empty(root: &Path) {
        fs::read_dir(root).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    }

    fn delete_id(root: &Path) {
        fs::remove_file(id_file::path(root)).unwrap();
    }

    fn delete_queue(root: &Path) {
        fs::remove_file(root.join("wasaba.db")).unwrap();
    }

    fn keep(root: &Path, spool: &Spool) {
        // Another commit, with which the spool makes its files again.
        let time = fs::read_dir(root).unwrap().count() as i64;
        spool.put("test", &time.to_string(), b"1");
        spool.settle(Vec::new());
    }

    #[tokio::test]
    async fn the_id_comes_back_in_a_folder_that_was_emptied_and_not_if_it_was_deleted_alone() {
        let cases: [(&str, &[Deed], bool); 5] = [
            ("emptied", &[empty], true),
            ("emptied slowly", &[delete_id, delete_queue], true),
            ("deleted alone", &[delete_id], false),
            ("deleted alone, and the queue long after it", &[delete_id, |_| {}, |_| {}, delete_queue], false),
            ("nothing", &[|_| {}], true),
        ];
        for (what, deeds, expected) in cases {
            for is_made_again in [false, true] {
                let folder = TempDir::new().unwrap();
                let root = folder.path();
                let spool = Arc::new(Spool::open(root, 0).unwrap());
                let host_id = HostId::new("HOST1").unwrap();
                fs::write(id_file::path(root), "HOST1").unwrap();
                spool.keep_host_id("HOST1");
                let keeper = IdKeeper::new(root.to_owned(), host_id, Arc::clone(&spool));
                let _log = log::start();
                keeper.look().await;
                for deed in deeds {
                    deed(root);
                    if is_made_again {
                        keep(root, &spool);
                    }
                    keeper.look().await;
                }
                assert_eq!(id_file::path(root).exists(), expected, "{what}, {is_made_again}");
                let lines = log::take();
                let said = lines.iter().filter(|line| line.contains("continues as host `HOST1`")).count();
                assert_eq!(said, usize::from(!expected || what == "emptied slowly"), "{what}: {lines:?}");
            }
        }
    }
}
