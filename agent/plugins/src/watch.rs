//! The watch: notices files that appear, change and disappear in the drop-in folders, and knows which are still being written.
//!
//! It uses inotify, so that waiting costs nothing. For a missing folder it watches the folder above; where inotify is not
//! available, the folders are polled every ten seconds.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Files often come in pairs, a component and its settings: events within this time lead to one look.
const BURST: Duration = Duration::from_millis(50);

/// A file that was not closed counts as complete when it was not written to for this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A file without events may be incomplete if it is younger than this.
const YOUNG: Duration = Duration::from_millis(500);

/// How often folders without inotify are polled.
const POLL: Duration = Duration::from_secs(10);

/// Watches folders for changes.
pub struct Watch {
    /// `None` where inotify is not available.
    inotify: Option<AsyncFd<Arc<OwnedFd>>>,
    watched: Watched,
    writing: HashMap<PathBuf, OpenFile>,
    complete: HashSet<PathBuf>,
    look_at: Option<Instant>,
}

/// A file that was created or written to, and not closed yet.
#[derive(Clone, Copy)]
struct OpenFile {
    last: Instant,
    /// Something was written to it, so it is not a link.
    written: bool,
}

/// What inotify watches, by watch descriptor.
#[derive(Debug, Default)]
pub struct Watched {
    targets: HashMap<i32, Target>,
    /// Some folder can only be polled.
    polled: bool,
}

#[derive(Debug, Default)]
struct Target {
    /// The drop-in folder, if it is one.
    folder: Option<PathBuf>,
    /// The names of the drop-in folders that are missing in it.
    awaited: Vec<OsString>,
}

/// Which files are complete, as far as is known.
#[derive(Debug, Default)]
pub struct Files {
    /// The files that are being written, and whether something was written to them.
    writing: HashMap<PathBuf, bool>,
    complete: HashSet<PathBuf>,
    /// The time from which a file's age is measured; `None` counts every file as complete.
    now: Option<SystemTime>,
}

/// How far the writing of a file has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It can be read.
    Complete,
    /// It is being written, and an inotify event will follow.
    Writing,
    /// It may be incomplete, and no inotify event will follow.
    Young,
}

impl Files {
    /// Files without inotify events, as they are at `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self { now: Some(now), ..Self::default() }
    }

    /// The progress of the file at `path`.
    #[must_use]
    pub fn progress(&self, path: &Path) -> Progress {
        match self.writing.get(path) {
            // A link is created and never closed.
            Some(false) if is_link(path) => Progress::Complete,
            Some(_) => Progress::Writing,
            None if self.complete.contains(path) => Progress::Complete,
            None => {
                let modified = std::fs::metadata(path).and_then(|about| about.modified()).ok();
                let age = modified.zip(self.now).and_then(|(modified, now)| now.duration_since(modified).ok());
                if age.is_some_and(|age| age < YOUNG) { Progress::Young } else { Progress::Complete }
            }
        }
    }
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink() || about.nlink() > 1)
}

/// The inotify descriptor of a watch, for [`attach`]; `None` where inotify is not available.
pub type Descriptor = Option<Arc<OwnedFd>>;

/// Adds inotify watches for `folders`; existing ones stay. Asks file systems, so it may block.
#[must_use]
pub fn attach(descriptor: &Descriptor, folders: &[PathBuf]) -> Watched {
    let Some(inotify) = descriptor else { return Watched { polled: true, ..Watched::default() } };
    let inside = WatchFlags::CREATE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    let above = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let add = |folder: &Path, flags| {
        inotify::add_watch(inotify, folder, flags | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD).ok()
    };
    let mut watched = Watched::default();
    for folder in folders {
        let parent = folder.parent().zip(folder.file_name());
        if let Some(number) = add(folder, inside) {
            watched.targets.entry(number).or_default().folder = Some(folder.clone());
        } else if let Some((parent, name)) = parent
            && let Some(number) = add(parent, above)
        {
            watched.targets.entry(number).or_default().awaited.push(name.to_owned());
            // It may have been created in between.
            watched.polled |= folder.exists();
        } else {
            watched.polled = true;
        }
    }
    watched
}

impl Watch {
    /// A watch of no folders yet. Must be called within a runtime.
    #[must_use]
    pub fn new() -> Self {
        let inotify = open()
            .inspect_err(|error| tracing::warn!("polling the plugin folders every {POLL:?}: no inotify: {error}"));
        Self {
            inotify: inotify.ok(),
            watched: Watched::default(),
            writing: HashMap::new(),
            complete: HashSet::new(),
            look_at: None,
        }
    }

    /// The descriptor for [`attach`].
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.inotify.as_ref().map(|inotify| Arc::clone(inotify.get_ref()))
    }

    /// The files' progress at `now`, for one look at them.
    pub fn files(&mut self, now: SystemTime) -> Files {
        let instant = Instant::now();
        self.writing.retain(|_, writing| instant.duration_since(writing.last) < LONGEST_PAUSE);
        self.look_at = None;
        let writing = self.writing.iter().map(|(path, writing)| (path.clone(), writing.written)).collect();
        Files { writing, complete: std::mem::take(&mut self.complete), now: Some(now) }
    }

    /// Stores what is watched now. With `again`, some files were too young, and another look follows soon.
    pub fn looked(&mut self, watched: Watched, again: bool) {
        if let Some(inotify) = &self.inotify {
            for number in self.watched.targets.keys().filter(|number| !watched.targets.contains_key(number)) {
                // It fails for a deleted folder, whose watch the kernel has removed.
                inotify::remove_watch(inotify.get_ref(), *number).ok();
            }
        }
        let pause = if again { Some(YOUNG) } else { watched.polled.then_some(POLL) };
        self.watched = watched;
        if let Some(pause) = pause {
            self.look_within(pause);
        }
    }

    /// Waits until another look is due, possibly forever; dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            let complete_at = self.writing.values().map(|writing| writing.last + LONGEST_PAUSE).min();
            let look_at = self.look_at.into_iter().chain(complete_at).min();
            tokio::select! {
                () = tokio::time::sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => return,
                events = events(self.inotify.as_ref()) => match events {
                    Ok(events) => {
                        for event in events {
                            self.take(event);
                        }
                    }
                    Err(error) => {
                        tracing::warn!("polling the plugin folders every {POLL:?} from now on: inotify: {error}");
                        self.inotify = None;
                        self.look_within(BURST);
                    }
                }
            }
        }
    }

    fn look_within(&mut self, pause: Duration) {
        let then = Instant::now() + pause;
        self.look_at = Some(self.look_at.map_or(then, |earlier| earlier.min(then)));
    }

    fn take(&mut self, event: Event) {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.writing.clear();
            return self.look_within(BURST);
        }
        let Some(target) = self.watched.targets.get(&event.target) else { return };
        let folder_is_gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT;
        if event.flags.intersects(folder_is_gone) || target.awaited.contains(&event.name) {
            return self.look_within(BURST);
        }
        // Its owner or mode, which decide whether it is used; it may still be being written.
        if event.flags.contains(ReadFlags::ATTRIB) {
            return self.look_within(BURST);
        }
        let is_file = is_plugin_file(&event.name) && !event.flags.contains(ReadFlags::ISDIR);
        let Some(path) = target.folder.as_ref().filter(|_| is_file).map(|folder| folder.join(&event.name)) else {
            return;
        };
        let last = Instant::now();
        if event.flags.contains(ReadFlags::MODIFY) {
            self.complete.remove(&path);
            self.writing.insert(path, OpenFile { last, written: true });
            return;
        }
        self.writing.remove(&path);
        if event.flags.contains(ReadFlags::CREATE) {
            self.complete.remove(&path);
            self.writing.insert(path, OpenFile { last, written: false });
        } else if event.flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            self.complete.insert(path);
        } else {
            self.complete.remove(&path);
        }
        self.look_within(BURST);
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

fn open() -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    let descriptor = Arc::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
    #[expect(unsafe_code, reason = "the runtime has no safe function for a foreign descriptor; see SAFETY")]
    // SAFETY: the descriptor is open and owned by the `Arc`, which is not replaced, so it stays the same until it is dropped.
    let inotify = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
    Ok(inotify)
}

/// Whether a file of this name matters; hidden files are unfinished.
fn is_plugin_file(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    !name.as_bytes().starts_with(b".") && extension.is_some_and(|extension| extension == "wasm" || extension == "toml")
}

/// An inotify event.
struct Event {
    target: i32,
    flags: ReadFlags,
    name: OsString,
}

/// Waits for inotify events; forever without inotify.
async fn events(inotify: Option<&AsyncFd<Arc<OwnedFd>>>) -> std::io::Result<Vec<Event>> {
    let Some(inotify) = inotify else { return std::future::pending().await };
    let mut ready = inotify.readable().await?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify.get_ref(), &mut buffer);
    let mut events = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                events.push(Event { target: event.wd(), flags: event.events(), name: name.unwrap_or_default() });
            }
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ready.clear_ready();
    Ok(events)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use Progress::{Complete, Writing, Young};
    use wasaba_core::clock;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A watch of `<temp>/plugins` and its folder.
    fn watch(temp: &Path) -> (Watch, PathBuf) {
        let (mut watch, folder) = (Watch::new(), temp.join("plugins"));
        attach_to(&mut watch, &folder);
        (watch, folder)
    }

    fn attach_to(watch: &mut Watch, folder: &Path) {
        let watched = attach(&watch.descriptor(), &[folder.to_owned()]);
        watch.looked(watched, false);
    }

    /// Waits for the next look and returns the progress of `path`.
    async fn next(watch: &mut Watch, path: &Path) -> Progress {
        tokio::time::timeout(SOON, watch.changed()).await.expect("an event");
        watch.files(clock::wall()).progress(path)
    }

    async fn is_silent(watch: &mut Watch) -> bool {
        tokio::time::timeout(BURST * 4, watch.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_file_is_being_written_until_it_is_closed() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("plugins")).unwrap();
        let (mut watch, folder) = watch(temp.path());
        let path = folder.join("a.wasm");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"first half").unwrap();
        assert_eq!(next(&mut watch, &path).await, Writing);
        file.write_all(b"second half").unwrap();
        assert!(is_silent(&mut watch).await, "a look was due before the file was complete");
        drop(file);
        assert_eq!(next(&mut watch, &path).await, Complete);
    }

    #[tokio::test]
    async fn a_file_that_is_never_closed_is_complete_when_it_was_not_written_to_for_a_minute() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.wasm");
        let mut watch = Watch::new();
        let now = Instant::now();
        let almost = now.checked_sub(LONGEST_PAUSE - BURST).unwrap();
        watch.writing.insert(path.clone(), OpenFile { last: almost, written: true });
        assert_eq!(watch.files(clock::wall()).progress(&path), Writing);
        assert_eq!(next(&mut watch, &path).await, Complete);
    }

    #[tokio::test]
    async fn a_file_that_is_moved_in_or_linked_is_complete_at_once() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("plugins")).unwrap();
        fs::write(temp.path().join("new"), "").unwrap();
        let (mut watch, folder) = watch(temp.path());
        std::os::unix::fs::symlink(temp.path().join("new"), folder.join("link.wasm")).unwrap();
        assert_eq!(next(&mut watch, &folder.join("link.wasm")).await, Complete);
        fs::rename(temp.path().join("new"), folder.join("moved.wasm")).unwrap();
        assert_eq!(next(&mut watch, &folder.join("moved.wasm")).await, Complete);
        fs::remove_file(folder.join("moved.wasm")).unwrap();
        tokio::time::timeout(SOON, watch.changed()).await.expect("an event of the removal");
    }

    #[tokio::test]
    async fn hidden_files_folders_and_other_files_are_ignored() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("plugins")).unwrap();
        let (mut watch, folder) = watch(temp.path());
        fs::write(folder.join(".a.wasm"), "").unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        fs::create_dir(folder.join("folder.wasm")).unwrap();
        assert!(is_silent(&mut watch).await);
        fs::write(folder.join("a.toml"), "").unwrap();
        assert_eq!(next(&mut watch, &folder.join("a.toml")).await, Complete);
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_watched_and_a_removed_one_is_awaited_again() {
        let temp = tempfile::tempdir().unwrap();
        let (mut watch, folder) = watch(temp.path());
        assert!(!watch.watched.polled && is_silent(&mut watch).await, "the folder above is watched");
        for _ in 0..2 {
            fs::create_dir(&folder).unwrap();
            tokio::time::timeout(SOON, watch.changed()).await.expect("an event of the new folder");
            watch.files(clock::wall());
            attach_to(&mut watch, &folder);
            fs::write(folder.join("a.wasm"), "").unwrap();
            assert_eq!(next(&mut watch, &folder.join("a.wasm")).await, Complete);
            fs::remove_dir_all(&folder).unwrap();
            tokio::time::timeout(SOON, watch.changed()).await.expect("an event of the removal of the folder");
            tokio::time::sleep(BURST).await;
            watch.files(clock::wall());
            attach_to(&mut watch, &folder);
            watch.files(clock::wall());
        }
    }

    #[tokio::test]
    async fn without_inotify_and_without_a_folder_above_the_folders_are_polled() {
        let temp = tempfile::tempdir().unwrap();
        assert!(attach(&None, &[temp.path().to_owned()]).polled);
        let watch = Watch::new();
        assert!(attach(&watch.descriptor(), &[temp.path().join("none/plugins")]).polled);
        assert!(!attach(&watch.descriptor(), &[temp.path().to_owned()]).polled);
    }

    #[test]
    fn a_file_without_events_may_be_incomplete_while_it_is_young() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.wasm");
        fs::write(&path, "").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let at = |now| Files { now, ..Files::default() }.progress(&path);
        assert_eq!(at(Some(modified + YOUNG / 2)), Young);
        assert_eq!(at(Some(modified + YOUNG)), Complete);
        assert_eq!(at(Some(modified - YOUNG)), Complete, "a clock set back makes no file young");
        assert_eq!(at(None), Complete);
    }
}
