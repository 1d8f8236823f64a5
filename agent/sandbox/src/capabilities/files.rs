//! `files`: reading granted files, nothing else.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use ring::digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasaba_core::paths::named;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::blocking::Blocking;
use super::connect::descriptor;
use super::gate::{Gate, MOST_PATH_BYTES, bounded};
use super::script::Script;
use crate::contract::wire::files::{self as contract, Error, FileStat};
use crate::failure::{Failure, Kind};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Which files an instance may read, and how much of one at once.
pub(super) struct OfInstance {
    gate: Gate,
    blocking: Blocking,
    file_bytes: usize,
}

impl OfInstance {
    pub(super) fn new(gate: Gate, blocking: Blocking, file_bytes: usize) -> Self {
        Self { gate, blocking, file_bytes }
    }
}

/// How many files a call may have open at once.
const MOST_OPEN: usize = 16;

/// How many more files a call may open.
pub(super) struct OfCall {
    free: Arc<Semaphore>,
}

impl Default for OfCall {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MOST_OPEN)) }
    }
}

/// An open file's share of the descriptors of its call and of all plugins.
type Slot = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl OfCall {
    /// A slot for one more file.
    ///
    /// # Errors
    /// This call, or all plugins together, have too many open.
    fn slot(&self) -> Result<Slot, Failure> {
        let full = |why: String| Failure::new(Kind::TooCostly, why);
        let of_call = Arc::clone(&self.free).try_acquire_owned();
        let of_call = of_call.map_err(|_| full(format!("more than {MOST_OPEN} files open at once")))?;
        let of_agent = descriptor().ok_or_else(|| full("the agent's plugins have too many files open".to_owned()))?;
        Ok((of_call, of_agent))
    }
}

/// An open file; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct OpenFile {
    path: Arc<str>,
    content: Content,
    _slot: Slot,
}

/// What is read.
#[derive(Clone)]
enum Content {
    /// One file, whatever its path leads to meanwhile.
    Opened(Arc<File>),
    /// Of a script.
    Canned(Arc<[u8]>),
}

/// All that this capability sees of a call.
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) call: &'a OfCall,
    /// The call's open files are in it.
    pub(super) table: &'a mut ResourceTable,
    pub(super) script: Option<&'a Script>,
}

impl View<'_> {
    async fn opened(&mut self, path: String) -> Result<OpenFile, Failure> {
        bounded("path", &path, MOST_PATH_BYTES)?;
        self.instance.gate.check(|grants| grants.check_file(&path))?;
        let (path, slot) = (Arc::<str>::from(path), self.call.slot()?);
        if let Some(script) = self.script {
            let content = script.file(&path).map_err(|why| Failure::new(Kind::Failed, why))?;
            return Ok(OpenFile { path, content: Content::Canned(content.into()), _slot: slot });
        }
        let opened = Arc::clone(&path);
        let opened = self.instance.blocking.run(move || named::open(opened.as_ref().as_ref())).await;
        let opened = opened.ok_or_else(crashed)?.map_err(|error| unreadable(&path, &error))?;
        Ok(OpenFile { path, content: Content::Opened(Arc::new(opened.file)), _slot: slot })
    }

    /// Does `work` with the open file on a thread that may block.
    async fn with_file<T: Send + 'static>(
        &mut self,
        file: &Resource<OpenFile>,
        work: impl FnOnce(&Content) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Result<T, Failure>> {
        let OpenFile { path, content, .. } = self.table.get(file)?;
        let (path, content) = (Arc::clone(path), content.clone());
        let done = self.instance.blocking.run(move || work(&content)).await;
        Ok(done.ok_or_else(crashed).and_then(|done| done.map_err(|error| unreadable(&path, &error))))
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot read `{path}`: {error}"))
}

fn crashed() -> Failure {
    Failure::new(Kind::Failed, "the agent crashed while reading it; this is a bug in wasaba")
}

impl Content {
    fn stat(&self) -> std::io::Result<FileStat> {
        Ok(match self {
            Self::Opened(file) => {
                let about = file.metadata()?;
                let millis = about.mtime().saturating_mul(1_000).saturating_add(about.mtime_nsec() / 1_000_000);
                FileStat {
                    size: about.len(),
                    modified_ms: u64::try_from(millis).unwrap_or(0),
                    id: id(about.dev(), about.ino()),
                    attributes: Vec::new(),
                }
            }
            Self::Canned(content) => {
                FileStat { size: content.len() as u64, modified_ms: 0, id: 1, attributes: Vec::new() }
            }
        })
    }

    fn read_at(&self, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
        let file = match self {
            Self::Opened(file) => file,
            Self::Canned(content) => {
                let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
                return Ok(rest.get(..most.min(rest.len())).unwrap_or_default().to_vec());
            }
        };
        // No more memory than the file can fill, unless it grows or is one of those without a length, as in /proc.
        let length = file.metadata()?.len();
        let left = if length == 0 { most } else { usize::try_from(length.saturating_sub(offset)).unwrap_or(most) };
        let mut bytes = vec![0; most.min(left)];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match file.read_at(room, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A number for a file system's device and a file's number on it.
fn id(device: u64, number: u64) -> u64 {
    let digest = digest::digest(&digest::SHA256, &[device.to_le_bytes(), number.to_le_bytes()].concat());
    digest.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl contract::Host for View<'_> {}

impl contract::HostFile for View<'_> {
    async fn open(&mut self, path: String) -> Result<Result<Resource<OpenFile>, Error>> {
        Ok(match self.opened(path).await {
            Ok(file) => Ok(self.table.push(file)?),
            Err(failure) => Err(failure.into()),
        })
    }

    async fn stat(&mut self, file: Resource<OpenFile>) -> Result<Result<FileStat, Error>> {
        Ok(self.with_file(&file, Content::stat).await?.map_err(Error::from))
    }

    async fn read_at(
        &mut self,
        file: Resource<OpenFile>,
        offset: u64,
        max_bytes: u32,
    ) -> Result<Result<Vec<u8>, Error>> {
        let most = self.instance.file_bytes.min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        Ok(self.with_file(&file, move |content| content.read_at(offset, most)).await?.map_err(Error::from))
    }

    async fn drop(&mut self, file: Resource<OpenFile>) -> Result<()> {
        self.table.delete(file)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::setting::Reach;

    use super::contract::HostFile;
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::meter::Meter;

    /// What a view looks at; it may read `path`, eight bytes at once.
    struct State {
        instance: OfInstance,
        meter: Arc<Meter>,
        call: OfCall,
        table: ResourceTable,
        script: Option<Script>,
    }

    impl State {
        fn reading(path: &str) -> Self {
            let mut grants = Grants { place: "[plugin.metrics.log]".into(), reach: Reach::ALL, ..Grants::default() };
            grants.allow(&format!("file:{path}")).unwrap();
            let meter = Arc::<Meter>::default();
            let gate = Gate::new(Arc::new(grants), Arc::clone(&meter));
            let instance = OfInstance::new(gate, Blocking::default(), 8);
            Self { instance, meter, call: OfCall::default(), table: ResourceTable::new(), script: None }
        }

        fn view(&mut self) -> View<'_> {
            View { instance: &self.instance, call: &self.call, table: &mut self.table, script: self.script.as_ref() }
        }

        async fn open(&mut self, path: &str) -> Result<u32, Error> {
            self.view().open(path.to_owned()).await.unwrap().map(|file| file.rep())
        }

        async fn read(&mut self, file: u32, offset: u64, most: u32) -> Vec<u8> {
            self.view().read_at(Resource::new_borrow(file), offset, most).await.unwrap().unwrap()
        }

        async fn stat(&mut self, file: u32) -> FileStat {
            self.view().stat(Resource::new_borrow(file)).await.unwrap().unwrap()
        }
    }

    fn file(content: &str) -> (tempfile::TempDir, String) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("app.log");
        std::fs::write(&path, content).unwrap();
        (temp, path.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_has_sixteen_files_open_at_most_and_more_once_it_drops_some() {
        let (_temp, path) = file("x");
        let mut state = State::reading(&path);
        let mut open = Vec::new();
        for _ in 0..MOST_OPEN {
            open.push(state.open(&path).await.unwrap());
        }
        let refused = state.open(&path).await.unwrap_err();
        assert!(refused.kind == "too-costly" && refused.message.contains("16 files"), "{refused:?}");
        state.view().drop(Resource::new_own(open.remove(0))).await.unwrap();
        state.open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_is_refused_by_its_length_before_it_is_read() {
        let mut state = State::reading("/etc/hostname");
        let refused = state.open(&"/a".repeat(4_000_000)).await.unwrap_err();
        assert_eq!(refused.message, "a path of 8000000 bytes, more than 4096");
        assert_eq!(state.meter.refusals(), 0, "no grant was asked");
    }

    #[tokio::test]
    async fn a_file_that_was_not_granted_is_denied_and_counted() {
        let (_temp, path) = file("secret");
        let mut state = State::reading("/etc/hostname");
        let denied = state.open(&path).await.unwrap_err();
        assert!(
            denied.kind == "denied" && denied.message.contains(&format!("allow = [\"file:{path}\"]")),
            "{denied:?}"
        );
        assert_eq!(state.meter.refusals(), 1);
    }

    #[tokio::test]
    async fn a_granted_file_is_read_in_parts_none_of_which_is_larger_than_the_limit() {
        let (_temp, path) = file("123456789");
        let mut state = State::reading(&path);
        let file = state.open(&path).await.unwrap();
        assert_eq!(state.read(file, 0, u32::MAX).await, b"12345678");
        assert_eq!(state.read(file, 6, 2).await, b"78");
        assert_eq!(state.read(file, 8, 100).await, b"9");
        assert_eq!(state.read(file, 9, 100).await, b"");
        assert_eq!(state.read(file, u64::MAX, 100).await, b"");
        assert_eq!(state.stat(file).await.size, 9);
    }

    #[tokio::test]
    async fn an_open_file_stays_the_same_when_its_log_is_rotated_and_the_new_one_has_another_id() {
        let (_temp, path) = file("old");
        let mut state = State::reading(&path);
        let old = state.open(&path).await.unwrap();
        let before = state.stat(old).await;
        std::fs::rename(&path, format!("{path}.1")).unwrap();
        std::fs::write(&path, "newer").unwrap();
        let new = state.open(&path).await.unwrap();
        assert_eq!((state.read(old, 0, 9).await, state.read(new, 0, 9).await), (b"old".to_vec(), b"newer".to_vec()));
        let (old, new) = (state.stat(old).await, state.stat(new).await);
        assert!(old.id == before.id && old.id != new.id && new.size == 5);
        // In this century.
        assert!((946_684_800_000..4_102_444_800_000).contains(&old.modified_ms), "{}", old.modified_ms);
    }

    #[tokio::test]
    async fn a_pipe_a_device_and_a_folder_are_refused_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let pipe = temp.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.to_str().unwrap(), "/dev/zero", "/tmp"] {
            let refused = State::reading(path).open(path).await.unwrap_err();
            assert!(refused.kind == "failed" && refused.message.contains(path), "{path}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_granted_path_leads_nowhere_else_at_the_will_of_who_owns_a_folder_on_it() {
        use std::os::unix::fs::PermissionsExt;
        let (temp, path) = file("secret");
        let others = temp.path().join("others");
        std::fs::create_dir(&others).unwrap();
        std::fs::set_permissions(&others, std::fs::Permissions::from_mode(0o777)).unwrap();
        let log = others.join("app.log");
        let granted = log.to_str().unwrap();
        for target in [&path, "/proc/self/environ", "/proc/self/mem", "/dev/fd/0", "/proc/self/root/etc/passwd"] {
            std::os::unix::fs::symlink(target, &log).unwrap();
            let refused = State::reading(granted).open(granted).await.unwrap_err();
            let expected = "is a symbolic link that is not followed: other users can write";
            assert!(refused.message.contains(expected), "{target}: {refused:?}");
            std::fs::remove_file(&log).unwrap();
        }
        std::fs::hard_link(&path, &log).unwrap();
        let refused = State::reading(granted).open(granted).await.unwrap_err();
        assert!(refused.message.contains("(hard links)"), "{refused:?}");
    }

    #[tokio::test]
    async fn a_script_stands_in_for_the_files_but_not_for_the_grants() {
        let mut state = State::reading("/var/log/app.log");
        let files = ["/var/log/app.log", "/etc/shadow"].map(|path| (path.to_owned(), Ok(b"line".to_vec())));
        let mut script = Script::default();
        script.files.extend(files);
        state.script = Some(script);
        let file = state.open("/var/log/app.log").await.unwrap();
        assert_eq!((state.read(file, 1, 2).await, state.stat(file).await.size), (b"in".to_vec(), 4));
        assert_eq!(state.open("/etc/shadow").await.unwrap_err().kind, "denied");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_in_a_script_is_reported_like_one_that_is_missing() {
        let mut state = State::reading("/var/log/app.log");
        let missing = state.open("/var/log/app.log").await.unwrap_err();
        let why = std::io::Error::from_raw_os_error(2).to_string();
        let mut script = Script::default();
        script.files.insert("/var/log/app.log".into(), Err(why));
        state.script = Some(script);
        let canned = state.open("/var/log/app.log").await.unwrap_err();
        assert_eq!((&canned.kind, &canned.message), (&missing.kind, &missing.message));
        assert_eq!(state.script.unwrap().deviations(), Vec::<String>::new(), "it was read");
    }
}
