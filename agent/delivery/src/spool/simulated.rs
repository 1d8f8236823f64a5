//! A disk for tests, in memory. Any call can fail, write only a part, or hang; and a power cut leaves what was synced, with a random
//! part of the sectors that were written since.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{Access, Disk, File, Identity};

const SECTOR: usize = 512;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// `EIO`
    Input,
    /// `ENOSPC`, for what takes space.
    Full,
    /// A write stops in the middle, and the rest fails.
    Partial,
    /// `EROFS`, for what changes something.
    ReadOnly,
}

/// What each call is asked before it does anything: its name, and how many there were before.
pub(super) type Script = Box<dyn FnMut(&'static str, u64) -> Option<Wrong> + Send>;

#[derive(Default)]
struct State {
    /// The names as programs see them, and as they are after a power cut.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Inode>,
    locks: BTreeMap<u64, u64>,
    /// What is not a file: a link, a pipe, a folder.
    irregular: BTreeSet<u64>,
    next: u64,
    calls: u64,
    script: Option<Script>,
    is_frozen: bool,
    written_pages: u64,
    refused_locks: u64,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct Simulated {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to each call from now on.
    pub(super) fn script(&self, script: impl FnMut(&'static str, u64) -> Option<Wrong> + Send + 'static) {
        self.lock().script = Some(Box::new(script));
    }

    /// From now on every call succeeds.
    pub(super) fn heal(&self) {
        self.lock().script = None;
    }

    /// From now on no call returns, until it is thawed.
    pub(super) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    pub(super) fn thaw(&self) {
        self.lock().is_frozen = false;
        self.state.1.notify_all();
    }

    /// What is left after a power cut, on another disk. `random` is asked for numbers below its argument.
    pub(super) fn after_power_cut(&self, random: &mut dyn FnMut(u64) -> u64) -> Self {
        let state = self.lock();
        let mut files = BTreeMap::new();
        for (inode, Inode { bytes, durable }) in &state.files {
            let mut left = durable.clone();
            // The file system may have written its length, and any of the sectors.
            let length = if random(2) == 0 { bytes.len().max(durable.len()) } else { durable.len() };
            left.resize(length, 0);
            for (sector, left) in left.chunks_mut(SECTOR).enumerate() {
                let written = bytes.get(sector * SECTOR..).unwrap_or_default();
                let count = written.len().min(left.len());
                if random(2) == 0 {
                    left[..count].copy_from_slice(&written[..count]);
                }
            }
            files.insert(*inode, Inode { durable: left.clone(), bytes: left });
        }
        // Names are changed in order, and a file system may have done some of it.
        let names = if random(2) == 0 { state.names.clone() } else { state.durable_names.clone() };
        let names = names.into_iter().filter(|(_, inode)| files.contains_key(inode)).collect::<BTreeMap<_, _>>();
        let next = State { names: names.clone(), durable_names: names, files, next: state.next, ..State::default() };
        Self { state: Arc::new((Mutex::new(next), Condvar::new())) }
    }

    /// What is left after kill -9, on another disk.
    pub(super) fn after_kill(&self) -> Self {
        let state = self.lock();
        let (names, files) = (state.names.clone(), state.files.clone());
        let next =
            State { names, durable_names: state.durable_names.clone(), files, next: state.next, ..State::default() };
        Self { state: Arc::new((Mutex::new(next), Condvar::new())) }
    }

    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.files.get(state.names.get(name)?).map(|inode| inode.bytes.clone())
    }

    /// Makes or overwrites a file from outside, with the same inode if there is one.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = match state.names.get(name) {
            Some(inode) => *inode,
            None => state.add(name),
        };
        state.files.insert(inode, Inode { bytes: bytes.to_vec(), durable: bytes.to_vec() });
        let names = state.names.clone();
        state.durable_names = names;
    }

    /// Removes a file from outside; whoever has it open can still use it.
    pub(super) fn unlink(&self, name: &str) {
        let mut state = self.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    /// Puts a link, a pipe or a folder in place of a file from outside.
    pub(super) fn replace_by_irregular(&self, name: &str) {
        self.unlink(name);
        let mut state = self.lock();
        let inode = state.add(name);
        state.irregular.insert(inode);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// How many pages of 4 KiB were written, if each sync writes those that were touched since the one before.
    pub(super) fn written_pages(&self) -> u64 {
        self.lock().written_pages
    }

    /// How often a file was locked by another.
    pub(super) fn refused_locks(&self) -> u64 {
        self.lock().refused_locks
    }

    fn call(&self, what: &'static str) -> (MutexGuard<'_, State>, Option<Wrong>) {
        let mut state = self.lock();
        while state.is_frozen {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.calls += 1;
        let calls = state.calls;
        let wrong = state.script.as_mut().and_then(|script| script(what, calls));
        (state, wrong)
    }

    fn attempt(&self, what: &'static str) -> io::Result<MutexGuard<'_, State>> {
        match self.call(what) {
            (state, None) => Ok(state),
            (_, Some(wrong)) => Err(wrong.error()),
        }
    }
}

impl Wrong {
    fn error(self) -> io::Error {
        match self {
            Self::Input => io::Error::from_raw_os_error(5),
            Self::Full | Self::Partial => ErrorKind::StorageFull.into(),
            Self::ReadOnly => ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

impl State {
    fn add(&mut self, name: &str) -> u64 {
        self.next += 1;
        self.files.insert(self.next, Inode::default());
        self.names.insert(name.to_owned(), self.next);
        self.next
    }
}

impl Disk for Simulated {
    fn path(&self) -> &Path {
        Path::new("/simulated")
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>> {
        let what = match access {
            Access::Write => "open",
            Access::Read => "open to read",
            Access::New => "make",
        };
        let mut state = self.attempt(what)?;
        let inode = match (state.names.get(name).copied(), access) {
            (Some(inode), _) if state.irregular.contains(&inode) => {
                return Err(io::Error::other("not a regular file: remove it"));
            }
            (Some(inode), Access::Write | Access::Read) => inode,
            (None, Access::Read) => return Err(ErrorKind::NotFound.into()),
            (None, Access::Write) | (_, Access::New) => state.add(name),
        };
        state.next += 1;
        let handle = state.next;
        Ok(Box::new(Handle { disk: self.clone(), inode, handle, access }))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        let state = self.attempt("stat")?;
        let identity =
            |inode: &u64| Identity { device: 1, inode: *inode, is_regular: !state.irregular.contains(inode) };
        Ok(state.names.get(name).map(identity))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.attempt("rename")?;
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.attempt("remove")?.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.attempt("sync names")?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct Handle {
    disk: Simulated,
    inode: u64,
    handle: u64,
    access: Access,
}

impl File for Handle {
    fn identity(&self) -> io::Result<Identity> {
        drop(self.disk.attempt("fstat")?);
        Ok(Identity { device: 1, inode: self.inode, is_regular: true })
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.attempt("fstat")?.files[&self.inode].bytes.len() as u64)
    }

    fn lock(&self) -> io::Result<bool> {
        let mut state = self.disk.attempt("lock")?;
        let is_ours = *state.locks.entry(self.inode).or_insert(self.handle) == self.handle;
        state.refused_locks += u64::from(!is_ours);
        Ok(is_ours)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.attempt("read")?;
        let found = state.files[&self.inode].bytes.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let count = found.len().min(bytes.len());
        bytes[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        assert_ne!(self.access, Access::Read, "a file that was opened for reading is written");
        let (mut state, wrong) = self.disk.call("write");
        let count = match wrong {
            None => bytes.len(),
            Some(Wrong::Partial) if bytes.len() > 1 => bytes.len() / 2,
            Some(wrong) => return Err(wrong.error()),
        };
        let file = &mut state.files.get_mut(&self.inode).unwrap().bytes;
        let at = usize::try_from(at).unwrap();
        file.resize(file.len().max(at + count), 0);
        file[at..at + count].copy_from_slice(&bytes[..count]);
        state.written_pages += ((at + count).div_ceil(4096) - at / 4096) as u64;
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.attempt("sync")?;
        let file = state.files.get_mut(&self.inode).unwrap();
        file.durable.clone_from(&file.bytes);
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.locks.get(&self.inode) == Some(&self.handle) {
            state.locks.remove(&self.inode);
        }
    }
}
