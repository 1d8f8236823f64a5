//! Compiling: from a `.wasm` file's bytes to code that the agent can run, in a child process under limits, once.
//!
//! Compiling takes a hundred times the memory of running, so the agent itself never does it. What comes out is kept in a
//! folder of the agent's own. Precompiled code is never taken from anywhere else: it is trusted like the agent's own.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, setrlimit};
use sha2::{Digest, Sha256};
use wasaba_core::limits::{Engine, Limits};
use wasmtime::component::Component;

use crate::engine;

/// A component that compiles to more code than this is refused; a Python interpreter's is 32 MB.
const LARGEST_CODE_BYTES: u64 = 256 << 20;

/// An entry that was not loaded for this long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many compilers may be at work at once. More than one, so that one that takes long does not hold up the others.
const COMPILERS: usize = 2;

/// The folder of compiled components, and the compilers that fill it.
#[derive(Debug)]
pub struct Cache {
    /// Our own, or why there is none.
    folder: Result<PathBuf, String>,
    /// Where compiled components lie that came with the program.
    shipped: Vec<PathBuf>,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Cache {
    /// The cache in `<root>/compiled`. What came with the program is looked for in `shipped`, and never written to; it is loaded also
    /// where there can be no folder of our own.
    #[must_use]
    pub fn open(root: &Path, shipped: Vec<PathBuf>) -> Self {
        Self { folder: own_folder(root), shipped, free: Mutex::new(COMPILERS), freed: Condvar::new() }
    }

    /// The component of these bytes, from the cache or freshly compiled. Blocks while the child works.
    ///
    /// # Errors
    /// What is wrong with the bytes, or with the child.
    pub fn component(
        &self,
        kind: Engine,
        engine: &wasmtime::Engine,
        wasm: &[u8],
        limits: &Limits,
    ) -> Result<Component, String> {
        let key = key(kind, engine, wasm);
        if let Some(entry) = self.find(&key)
            && let Ok(component) = load(engine, &entry)
        {
            // Says that it is still wanted; see `prune`. Where that fails, it is compiled anew in a month.
            File::options().append(true).open(&entry).and_then(|file| file.set_modified(SystemTime::now())).ok();
            return Ok(component);
        }
        if let Some(component) = self.shipped(&key).find_map(|entry| load(engine, &entry).ok()) {
            return Ok(component);
        }
        // Without a place for it nothing is compiled: it would be so again at each start.
        self.folder.as_ref().map_err(Clone::clone)?;
        self.prune(SystemTime::now());
        let code = {
            let _compiler = self.compiler();
            compile_in_child(kind, wasm, limits)?
        };
        let entry = self.store(&key, &code)?;
        load(engine, &entry)
    }

    /// Waits for a compiler to be free.
    fn compiler(&self) -> Compiler<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Compiler(self)
    }

    fn find(&self, key: &str) -> Option<PathBuf> {
        self.entries(key).next()
    }

    /// What came with the program under this key, where nobody but root and the agent's user can have put it: who can replace what
    /// lies there can replace the program.
    fn shipped(&self, key: &str) -> impl Iterator<Item = PathBuf> {
        self.shipped
            .iter()
            .filter(|folder| is_trusted(folder))
            .flat_map(|folder| entries(folder, key))
            .filter(|entry| is_trusted(entry))
    }

    /// What has this key. An entry's file name is its key and the hash of its content, so that a damaged one is found out.
    fn entries(&self, key: &str) -> impl Iterator<Item = PathBuf> {
        self.folder.iter().flat_map(move |folder| entries(folder, key))
    }

    /// Removes what nobody has loaded for [`UNUSED`]: plugins come and go, and a Python component's code is 32 MB.
    fn prune(&self, now: SystemTime) {
        let Some(entries) = self.folder.as_ref().ok().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for entry in entries.flatten() {
            let loaded = entry.metadata().and_then(|about| about.modified());
            if loaded.is_ok_and(|loaded| loaded + UNUSED < now) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// Puts the code in its place and only then removes what else has this key. Another agent or command may be at the same
    /// work with the same folder: what both compiled has the same name, and is there for both at every moment.
    fn store(&self, key: &str, code: &[u8]) -> Result<PathBuf, String> {
        static STORED: AtomicU64 = AtomicU64::new(0);
        let folder = self.folder.as_ref().map_err(Clone::clone)?;
        let entry = folder.join(format!("{key}-{}.cwasm", sha256(code)));
        let serial = STORED.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder.join(format!(".{key}.{}.{serial}", std::process::id()));
        let written = fs::write(&unfinished, code).and_then(|()| fs::rename(&unfinished, &entry));
        written.map_err(|error| format!("cannot write `{}`: {error}", entry.display()))?;
        for bad in self.entries(key).filter(|path| *path != entry) {
            fs::remove_file(&bad)
                .or_else(absent)
                .map_err(|error| format!("cannot remove `{}`: {error}", bad.display()))?;
        }
        Ok(entry)
    }
}

fn entries(folder: &Path, key: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(move |path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(key)))
}

/// Whether `path` is root's or the agent's own user's, and nobody else can write to it.
fn is_trusted(path: &Path) -> bool {
    let owners = [0, rustix::process::geteuid().as_raw()];
    fs::symlink_metadata(path).is_ok_and(|about| {
        !about.is_symlink() && owners.contains(&about.uid()) && about.permissions().mode() & 0o022 == 0
    })
}

/// Whoever else removed it did what was wanted.
fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The folder `compiled` in `root`, made if it is not there, with access for the agent's user alone.
///
/// # Errors
/// It cannot be made, or somebody else could write to it: what lies there would run as the agent.
fn own_folder(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("compiled");
    let shown = folder.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| format!("cannot make the folder `{shown}`: {error}"))?;
    let about = fs::symlink_metadata(&folder).map_err(|error| format!("cannot look at `{shown}`: {error}"))?;
    if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("`{shown}` is not a folder of the agent's own user: remove it"));
    }
    if about.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))
            .map_err(|error| format!("cannot take others' access from `{shown}`: {error}"))?;
    }
    Ok(folder)
}

/// A compiler at work; free again when it is dropped.
struct Compiler<'a>(&'a Cache);

impl Drop for Compiler<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn key(kind: Engine, engine: &wasmtime::Engine, wasm: &[u8]) -> String {
    let mut settings = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut settings);
    let settings = std::hash::Hasher::finish(&settings);
    format!("{}-{kind}-{settings:016x}", sha256(wasm))
}

/// Maps an entry's file, so that code which does not run takes no memory.
fn load(engine: &wasmtime::Engine, entry: &Path) -> Result<Component, String> {
    let describe = |error: &dyn std::fmt::Display| format!("cannot load `{}`: {error}", entry.display());
    let content = fs::read(entry).map_err(|error| describe(&error))?;
    let named = entry.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit('-').next());
    if named != Some(sha256(&content).as_str()) {
        return Err(describe(&"its content is not what was written"));
    }
    drop(content);
    #[expect(unsafe_code, reason = "loading precompiled code is unsafe by its nature; see SAFETY")]
    // SAFETY: the folder is the agent's own (0700, owner checked in `open`), the file was written there by `store` from what
    // our own compiler gave, its hash was just found unchanged, and entries are never written to, only renamed into place.
    let component = unsafe { Component::deserialize_file(engine, entry) };
    component.map_err(|error| describe(&error))
}

/// The SHA-256 of `bytes` in hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compile_in_child(kind: Engine, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, String> {
    let seconds = limits.compile.as_secs().to_string();
    let bytes = limits.compile_bytes.to_string();
    let child = Command::new("/proc/self/exe")
        .args(["plugin", "compiler", "--engine", kind.name(), "--cpu-seconds", &seconds, "--memory-bytes", &bytes])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("cannot start the compiler: {error}"))?;
    let code = converse(&mut child, wasm);
    if code.is_err() {
        child.kill().ok();
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_string(&mut complaint).ok();
    }
    let status = child.wait().map_err(|error| format!("cannot wait for the compiler: {error}"))?;
    match complaint.trim() {
        _ if status.success() => code.map_err(|error| format!("cannot talk to the compiler: {error}")),
        "" if status.signal() == Some(libc::SIGXCPU) || status.signal() == Some(libc::SIGKILL) => {
            Err(format!("it takes longer than {seconds} s to compile (limit `compile_seconds`)"))
        }
        "" => {
            Err(format!("the compiler was ended ({status}): it takes too much memory to compile (limit `compile_mib`)"))
        }
        said if said.contains("memory allocation of") || said.contains("out of memory") => {
            let most = limits.compile_bytes >> 20;
            Err(format!("it takes more than {most} MiB to compile (limit `compile_mib`)"))
        }
        complaint => Err(complaint.to_owned()),
    }
}

/// The child reads all before it writes anything, so neither side waits for the other.
fn converse(child: &mut Child, wasm: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(stdin) = &mut stdin {
        stdin.write_all(wasm)?;
    }
    drop(stdin);
    let mut code = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(LARGEST_CODE_BYTES).read_to_end(&mut code)?;
    }
    Ok(code)
}

/// What the child does: bytes in, code out. The file may be hostile, so the limits come first.
///
/// # Errors
/// What is wrong with the component, for the child's standard error.
pub fn compile(
    kind: Engine,
    cpu_seconds: u64,
    memory_bytes: u64,
    mut wasm: impl Read,
    mut code: impl Write,
) -> Result<(), String> {
    // What is asked for in the minute comes first; a compiler may wait.
    rustix::process::nice(10).map_err(|error| format!("cannot step back: {error}"))?;
    for (resource, limit) in
        [(Resource::Cpu, cpu_seconds), (Resource::As, memory_bytes), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| format!("cannot limit the compiler: {error}"))?;
    }
    let mut bytes = Vec::new();
    wasm.read_to_end(&mut bytes).map_err(|error| format!("cannot read the component: {error}"))?;
    let compiled = engine::for_compiling(kind).and_then(|engine| engine.precompile_component(&bytes));
    let compiled = compiled.map_err(|error| first_lines(&format!("{error:#}")))?;
    code.write_all(&compiled).map_err(|error| format!("cannot hand over the code: {error}"))
}

/// wasmtime's validation errors go on for pages; their beginning says what is wrong.
fn first_lines(text: &str) -> String {
    text.lines().take(3).collect::<Vec<_>>().join(" ")
}

/// Opens `path` once and reads it whole, so that what was hashed is what is compiled.
///
/// # Errors
/// It cannot be read or is larger than `limit` bytes.
pub fn read_component(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(length) if length as u64 > limit => {
            Err(format!("is larger than {} MiB (limit `component_mib`)", limit >> 20))
        }
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A cache with the empty component's code in it, and the path of its entry.
    fn filled(root: &Path, engine: &wasmtime::Engine) -> (Cache, String, PathBuf) {
        let cache = Cache::open(root, Vec::new());
        let key = key(Engine::Pulley, engine, EMPTY_COMPONENT);
        let code = engine::for_compiling(Engine::Pulley).unwrap().precompile_component(EMPTY_COMPONENT).unwrap();
        let entry = cache.store(&key, &code).unwrap();
        (cache, key, entry)
    }

    #[test]
    fn code_that_was_stored_is_found_and_runs_without_a_compiler() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        assert_eq!(cache.find(&key).as_ref(), Some(&entry));
        assert!(cache.component(Engine::Pulley, &engine, EMPTY_COMPONENT, &Limits::default()).is_ok());
    }

    #[test]
    fn code_that_several_store_at_once_is_there_for_each_of_them() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (_, key, entry) = filled(root.path(), &engine);
        let code = fs::read(&entry).unwrap();
        let damaged = entry.with_file_name(format!("{key}-{}.cwasm", sha256(b"another")));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let cache = Cache::open(root.path(), Vec::new());
                    for _ in 0..50 {
                        fs::write(&damaged, "not its content").unwrap();
                        let stored = cache.store(&key, &code).unwrap();
                        load(&engine, &stored).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(root.path().join("compiled")).unwrap().count(), 1, "and nothing else is left");
    }

    #[test]
    fn no_more_than_two_compilers_are_at_work_at_once() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path(), Vec::new());
        let (one, two) = (cache.compiler(), cache.compiler());
        assert_eq!(*cache.free.lock().unwrap(), 0);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| drop(cache.compiler()));
            drop(one);
            third.join().unwrap();
        });
        drop(two);
        assert_eq!(*cache.free.lock().unwrap(), COMPILERS);
    }

    #[test]
    fn an_entry_that_nobody_loads_is_removed_after_a_month() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        let month_ago = SystemTime::now() - UNUSED;
        File::options().append(true).open(&entry).unwrap().set_modified(month_ago).unwrap();
        assert!(cache.component(Engine::Pulley, &engine, EMPTY_COMPONENT, &Limits::default()).is_ok());
        cache.prune(SystemTime::now() + UNUSED / 2);
        assert_eq!(cache.find(&key), Some(entry), "it was loaded just now");
        cache.prune(SystemTime::now() + UNUSED * 2);
        assert_eq!(cache.find(&key), None);
    }

    #[test]
    fn code_that_came_with_the_program_runs_without_a_compiler_unless_others_can_write_there() {
        let (ours, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (_, key, entry) = filled(ours.path(), &engine);
        let folder = ours.path().join("compiled");
        let cache = Cache::open(root.path(), vec!["/nowhere".into(), folder.clone()]);
        assert!(cache.component(Engine::Pulley, &engine, EMPTY_COMPONENT, &Limits::default()).is_ok());
        assert_eq!(cache.find(&key), None, "it was not compiled anew");
        let unwritable = Cache::open(Path::new("/proc/nowhere"), vec![folder.clone()]);
        assert!(unwritable.component(Engine::Pulley, &engine, EMPTY_COMPONENT, &Limits::default()).is_ok());
        for (path, mode) in [(&entry, 0o666), (&folder, 0o777)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(cache.shipped(&key).next(), None, "{}", path.display());
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(cache.shipped(&key).collect::<Vec<_>>(), [entry]);
    }

    #[test]
    fn a_changed_entry_is_not_loaded() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (_, _, entry) = filled(root.path(), &engine);
        let mut content = fs::read(&entry).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(&entry, content).unwrap();
        assert!(load(&engine, &entry).is_err_and(|text| text.contains("not what was written")));
    }

    #[test]
    fn code_for_another_engine_is_a_miss() {
        let root = tempfile::tempdir().unwrap();
        let (cache, _, entry) = filled(root.path(), &engine::for_running(Engine::Pulley, 256 << 10).unwrap());
        let native = engine::for_running(Engine::Native, 256 << 10).unwrap();
        assert_eq!(cache.find(&key(Engine::Native, &native, EMPTY_COMPONENT)), None);
        assert!(load(&native, &entry).is_err(), "and would be refused");
    }

    #[test]
    fn the_folder_is_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("compiled")).unwrap();
        fs::set_permissions(root.path().join("compiled"), Permissions::from_mode(0o777)).unwrap();
        own_folder(root.path()).unwrap();
        assert_eq!(fs::metadata(root.path().join("compiled")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", root.path().join("compiled")).unwrap();
        assert!(own_folder(root.path()).is_err_and(|text| text.contains("remove it")));
    }
}
