//! The cache of compiled components: from a `.wasm` file's bytes to code that the agent can run, compiled once.
//!
//! The code is kept in a folder that only the agent's user can write to, or was installed with the agent. Precompiled code from
//! anywhere else is never run: it is trusted like the agent itself.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasaba_core::clock;
use wasaba_core::limits::{Engine, Limits};
use wasaba_core::paths::Opened;
use wasaba_core::paths::own::Folder;
use wasmtime::component::Component;

pub use crate::compiler::{CompileError, Order, compile};
use crate::compiler::{Compiled, compile_in_child};
use crate::needs::Needs;

/// An entry that was not loaded for this long is removed from the cache.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What the cache keeps at most; what was loaded longest ago is removed first. Twenty Python components, or a thousand others.
const MOST_BYTES: u64 = 1 << 30;
const MOST_ENTRIES: usize = 1_000;

/// How many compilers may run at once. More than one, so that a slow one does not hold up the others.
const COMPILERS: usize = 2;

/// The folder of compiled components, and the compilers that fill it.
#[derive(Debug)]
pub struct Cache {
    /// The agent's own folder, or why there is none.
    folder: Result<Folder, String>,
    /// The folders of compiled components that were installed with the agent.
    shipped: Vec<PathBuf>,
    /// One for each compiler that may run.
    compilers: Arc<Semaphore>,
}

impl Cache {
    /// The cache in `<root>/compiled`. The folders in `shipped` are only read, and used even where `<root>/compiled` cannot be
    /// created.
    #[must_use]
    pub fn open(root: &Path, shipped: Vec<PathBuf>) -> Self {
        Self { folder: own_folder(root), shipped, compilers: Arc::new(Semaphore::new(COMPILERS)) }
    }

    /// What `accept` makes of the component of these bytes, if the cache has it.
    ///
    /// # Errors
    /// It exceeds the limits, or is not accepted.
    pub(crate) fn cached<T, E: From<CompileError>>(
        &self,
        kind: Engine,
        engine: &wasmtime::Engine,
        wasm: &[u8],
        limits: &Limits,
        accept: impl FnOnce(&Component) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let key = key(kind, engine, wasm);
        if let Some((component, needs, file)) = self.found(engine, &key) {
            needs.check(limits).map_err(CompileError::Excess)?;
            let accepted = accept(&component)?;
            // Marks it as used; see `prune`. Where that fails, it is compiled again in a month.
            file.set_modified(clock::wall()).ok();
            return Ok(Some(accepted));
        }
        if let Some((component, needs)) = self.shipped(engine, &key) {
            needs.check(limits).map_err(CompileError::Excess)?;
            return accept(&component).map(Some);
        }
        // Nothing is compiled that cannot be cached: it would be compiled again at each start.
        self.folder.as_ref().map_err(|why| CompileError::Cache(why.clone()))?;
        Ok(None)
    }

    /// What `accept` makes of the component of these bytes, freshly compiled. What it refuses is not kept. Blocks while the child runs.
    ///
    /// # Errors
    /// Why it was not compiled, or not accepted.
    pub(crate) fn compiled<T, E: From<CompileError>>(
        &self,
        _: &Compiler,
        kind: Engine,
        engine: &wasmtime::Engine,
        wasm: &[u8],
        limits: &Limits,
        accept: impl FnOnce(&Component) -> Result<T, E>,
    ) -> Result<T, E> {
        self.prune(clock::wall());
        let compiled = compile_in_child(kind, wasm, limits)?;
        self.accepted(engine, &key(kind, engine, wasm), &compiled, accept)
    }

    /// Stores the code, and removes it again unless it is accepted: only plugins take room in the folder.
    fn accepted<T, E: From<CompileError>>(
        &self,
        engine: &wasmtime::Engine,
        key: &str,
        compiled: &Compiled,
        accept: impl FnOnce(&Component) -> Result<T, E>,
    ) -> Result<T, E> {
        let entry = self.store(key, compiled).map_err(CompileError::Cache)?;
        let folder = self.folder.as_ref().map_err(|why| CompileError::Cache(why.clone()))?;
        let (component, _) = load(engine, folder, &entry).map_err(CompileError::Cache)?;
        let accepted = accept(&component);
        if accepted.is_ok() {
            bound(folder, &entry, MOST_BYTES, MOST_ENTRIES);
        } else {
            // If that fails, it is refused again when it is found.
            folder.remove(entry.as_ref()).ok();
        }
        accepted
    }

    /// Waits for a compiler to be free.
    pub(crate) async fn compiler(&self) -> Compiler {
        Compiler { _permit: Arc::clone(&self.compilers).acquire_owned().await.ok() }
    }

    /// The component of this key in the agent's own folder, what it needs, and its file.
    fn found(&self, engine: &wasmtime::Engine, key: &str) -> Option<(Component, Needs, File)> {
        let folder = self.folder.as_ref().ok()?;
        entries(folder, key).find_map(|entry| {
            let (component, file) = load(engine, folder, &entry).ok()?;
            Some((component, needs(&entry)?, file))
        })
    }

    /// The shipped component of this key, of a folder to which only root and the agent's user can write: either could also replace
    /// the program itself.
    fn shipped(&self, engine: &wasmtime::Engine, key: &str) -> Option<(Component, Needs)> {
        let mut folders = self.shipped.iter().filter_map(|folder| Folder::trusted(folder).ok());
        folders.find_map(|folder| {
            entries(&folder, key).find_map(|entry| {
                let (component, _) = load(engine, &folder, &entry).ok()?;
                Some((component, needs(&entry)?))
            })
        })
    }

    /// Removes entries that were not loaded for [`UNUSED`]: plugins come and go, and a Python component's code is 32 MB.
    fn prune(&self, now: SystemTime) {
        let Ok(folder) = &self.folder else { return };
        for entry in folder.names().into_iter().flatten() {
            if folder.modified(&entry).is_ok_and(|loaded| loaded + UNUSED < now) {
                folder.remove(&entry).ok();
            }
        }
    }

    /// Stores the code and only then removes the other entries of this key. Another agent or command may be storing the same
    /// component in the same folder: both use the same file name, and the entry exists for both at every moment.
    fn store(&self, key: &str, compiled: &Compiled) -> Result<String, String> {
        let folder = self.folder.as_ref().map_err(Clone::clone)?;
        let Compiled { needs, code } = compiled;
        let (needs, hash) = (needs.numbers().map(|number| format!("{number:x}")).join("."), sha256(code));
        let entry = format!("{key}-{needs}-{hash}.cwasm");
        let shown = |name: &str| folder.path().join(name).display().to_string();
        folder
            .write(entry.as_ref(), code, 0o600)
            .map_err(|error| format!("cannot write `{}`: {error}", shown(&entry)))?;
        for bad in entries(folder, key).filter(|name| *name != entry) {
            folder.remove(bad.as_ref()).map_err(|error| format!("cannot remove `{}`: {error}", shown(&bad)))?;
        }
        Ok(entry)
    }
}

/// The entries of this key. An entry's file name is its key and the hash of its content, so that a damaged one is detected.
fn entries(folder: &Folder, key: &str) -> impl Iterator<Item = String> {
    let names = folder.names().into_iter().flatten().filter_map(|name| name.into_string().ok());
    names.filter(move |name| name.starts_with(key))
}

/// What an instance of the entry's component needs, which is in its file name.
fn needs(entry: &str) -> Option<Needs> {
    let mut parts = entry.strip_suffix(".cwasm")?.rsplit('-').nth(1)?.split('.');
    let needs = Needs::of(&mut parts.by_ref().map_while(|part| u64::from_str_radix(part, 16).ok()))?;
    parts.next().is_none().then_some(needs)
}

/// Removes the entries that were loaded longest ago until `most_bytes` and `most_entries` are kept; never `newest`.
fn bound(folder: &Folder, newest: &str, most_bytes: u64, most_entries: usize) {
    let names = folder.names().into_iter().flatten().filter(|name| name != newest);
    let mut others = names
        .filter_map(|name| Some((folder.modified(&name).ok()?, folder.size(&name).ok()?, name)))
        .collect::<Vec<_>>();
    others.sort_by(|one, other| other.cmp(one));
    let mut kept_bytes = folder.size(newest.as_ref()).unwrap_or_default();
    for (number, (_, bytes, name)) in others.into_iter().enumerate() {
        kept_bytes = kept_bytes.saturating_add(bytes);
        if kept_bytes > most_bytes || number.saturating_add(1) >= most_entries {
            folder.remove(&name).ok();
        }
    }
}

/// The folder `compiled` in `root`, created if it is missing, accessible to the agent's user only. It stays open, so that no other
/// folder can take its place while the agent runs.
///
/// # Errors
/// It cannot be created, or belongs to another user: the code in it runs as the agent.
fn own_folder(root: &Path) -> Result<Folder, String> {
    let folder = root.join("compiled");
    Folder::create_private(&folder)
        .map_err(|error| format!("cannot use `{}` for compiled plugins: {error}", folder.display()))
}

/// A compiler that may run; another may when it is dropped.
pub(crate) struct Compiler {
    /// `None` if the semaphore were closed, which it never is.
    _permit: Option<OwnedSemaphorePermit>,
}

fn key(kind: Engine, engine: &wasmtime::Engine, wasm: &[u8]) -> String {
    let mut settings = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut settings);
    let settings = std::hash::Hasher::finish(&settings);
    format!("{}-{kind}-{settings:016x}", sha256(wasm))
}

/// Maps an entry's file into memory, so that code which does not run takes none. Also returns the file.
fn load(engine: &wasmtime::Engine, folder: &Folder, entry: &str) -> Result<(Component, File), String> {
    let describe = |error: &dyn fmt::Display| format!("cannot load `{}`: {error}", folder.path().join(entry).display());
    let Opened { mut file, .. } = folder.read_only(entry).map_err(|error| describe(&error))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(|error| describe(&error))?;
    let named = entry.strip_suffix(".cwasm").and_then(|stem| stem.rsplit('-').next());
    if named != Some(sha256(&content).as_str()) {
        return Err(describe(&"its content does not match the hash in its name"));
    }
    drop(content);
    // The very file that was hashed, whatever has its name by now.
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "loading precompiled code is unsafe by its nature; see SAFETY")]
    // SAFETY: only root and the agent's user can have written the file, which was checked by its descriptor; its hash was just
    // found unchanged; what they wrote there is what our own compiler gave, and is never written to, only renamed into place.
    let component = unsafe { Component::deserialize_file(engine, open) };
    component.map(|component| (component, file)).map_err(|error| describe(&error))
}

/// The SHA-256 of `bytes` in hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine;

    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A cache with the empty component's code in it, its key, and the path of its entry.
    fn filled(root: &Path, engine: &wasmtime::Engine) -> (Cache, String, PathBuf) {
        let cache = Cache::open(root, Vec::new());
        let key = key(Engine::Pulley, engine, EMPTY_COMPONENT);
        let code = engine::for_compiling(Engine::Pulley).unwrap().precompile_component(EMPTY_COMPONENT).unwrap();
        let needs = Needs { instances: 3, ..Needs::default() };
        let entry = root.join("compiled").join(cache.store(&key, &Compiled { needs, code }).unwrap());
        (cache, key, entry)
    }

    fn accept(_: &Component) -> Result<(), CompileError> {
        Ok(())
    }

    fn is_cached(cache: &Cache, engine: &wasmtime::Engine) -> bool {
        let found = cache.cached(Engine::Pulley, engine, EMPTY_COMPONENT, &Limits::default(), accept);
        found.unwrap().is_some()
    }

    /// The paths of the entries of this key in the agent's own folder.
    fn found(cache: &Cache, key: &str) -> Vec<PathBuf> {
        let folder = cache.folder.as_ref().unwrap();
        entries(folder, key).map(|name| folder.path().join(name)).collect()
    }

    /// Why an entry is not loaded.
    fn refusal(cache: &Cache, engine: &wasmtime::Engine, entry: &Path) -> String {
        load(engine, cache.folder.as_ref().unwrap(), entry.file_name().unwrap().to_str().unwrap()).err().unwrap()
    }

    #[test]
    fn what_is_compiled_and_refused_is_not_kept_and_pushes_nothing_out() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        let other = key.replacen(|digit: char| digit.is_ascii_hexdigit(), "x", 1);
        let compiled = Compiled { needs: Needs::default(), code: fs::read(&entry).unwrap() };
        let refuse = |_: &Component| Err::<(), _>(CompileError::Invalid("not a plugin".into()));
        let refused = cache.accepted(&engine, &other, &compiled, refuse);
        assert_eq!(refused, Err(CompileError::Invalid("not a plugin".into())));
        assert_eq!(fs::read_dir(root.path().join("compiled")).unwrap().count(), 1, "the one before");
        assert_eq!(cache.accepted(&engine, &other, &compiled, accept), Ok(()));
        assert_eq!((found(&cache, &other).len(), found(&cache, &key).len()), (1, 1));
    }

    #[test]
    fn code_in_the_cache_is_held_against_the_limits_of_now() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, ..) = filled(root.path(), &engine);
        let component = |instances| {
            let limits = Limits { instances, ..Limits::default() };
            cache.cached(Engine::Pulley, &engine, EMPTY_COMPONENT, &limits, accept)
        };
        assert_eq!(component(3), Ok(Some(())));
        assert!(matches!(component(2), Err(CompileError::Excess(text)) if text.contains("`instances`")));
    }

    #[test]
    fn the_cache_keeps_what_was_loaded_last_up_to_its_bytes_and_its_number() {
        let left = |most_bytes, most_entries| {
            let root = tempfile::tempdir().unwrap();
            let cache = Cache::open(root.path(), Vec::new());
            let path = |number: u32| root.path().join(format!("compiled/{number}"));
            for number in 0..5 {
                fs::write(path(number), [0; 100]).unwrap();
                let time = clock::wall() - Duration::from_secs(100 - u64::from(number));
                File::options().append(true).open(path(number)).unwrap().set_modified(time).unwrap();
            }
            bound(cache.folder.as_ref().unwrap(), "0", most_bytes, most_entries);
            (0..5).filter(|number| path(*number).exists()).collect::<Vec<_>>()
        };
        assert_eq!(left(1_000, 100), [0, 1, 2, 3, 4]);
        assert_eq!(left(300, 100), [0, 3, 4], "the one just stored, and the last loaded");
        assert_eq!(left(1_000, 2), [0, 4]);
    }

    #[test]
    fn stored_code_is_found_and_loaded_without_a_compiler() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        assert_eq!(found(&cache, &key), [entry]);
        assert!(is_cached(&cache, &engine));
    }

    #[test]
    fn code_that_several_processes_store_at_once_exists_for_each_of_them() {
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
                        let compiled = Compiled { needs: Needs::default(), code: code.clone() };
                        let stored = cache.store(&key, &compiled).unwrap();
                        load(&engine, cache.folder.as_ref().unwrap(), &stored).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(root.path().join("compiled")).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn no_more_than_two_compilers_run_at_once() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path(), Vec::new());
        let (one, two) = (cache.compiler().await, cache.compiler().await);
        assert_eq!(cache.compilers.available_permits(), 0);
        let third = async { drop(cache.compiler().await) };
        let free = async { drop(one) };
        tokio::join!(third, free);
        drop(two);
        assert_eq!(cache.compilers.available_permits(), COMPILERS);
    }

    #[test]
    fn an_entry_that_is_not_loaded_is_removed_after_a_month() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        let month_ago = clock::wall() - UNUSED;
        File::options().append(true).open(&entry).unwrap().set_modified(month_ago).unwrap();
        assert!(is_cached(&cache, &engine));
        cache.prune(clock::wall() + UNUSED / 2);
        assert_eq!(found(&cache, &key), [entry], "it was just loaded");
        cache.prune(clock::wall() + UNUSED * 2);
        assert!(found(&cache, &key).is_empty());
    }

    #[test]
    fn shipped_code_is_loaded_without_a_compiler_unless_others_can_write_to_it() {
        let (ours, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (_, key, entry) = filled(ours.path(), &engine);
        let folder = ours.path().join("compiled");
        let cache = Cache::open(root.path(), vec!["/nowhere".into(), folder.clone()]);
        assert!(is_cached(&cache, &engine));
        assert!(found(&cache, &key).is_empty(), "it was not compiled again");
        let unwritable = Cache::open(Path::new("/proc/nowhere"), vec![folder.clone()]);
        assert!(is_cached(&unwritable, &engine));
        for (path, mode) in [(&entry, 0o666), (&folder, 0o777)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            assert!(cache.shipped(&engine, &key).is_none(), "{}", path.display());
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        assert!(cache.shipped(&engine, &key).is_some());
    }

    #[test]
    fn a_changed_entry_is_not_loaded() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, _, entry) = filled(root.path(), &engine);
        let mut content = fs::read(&entry).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(&entry, content).unwrap();
        assert!(refusal(&cache, &engine, &entry).contains("does not match the hash"));
    }

    #[test]
    fn code_for_another_engine_is_a_miss() {
        let root = tempfile::tempdir().unwrap();
        let (cache, _, entry) = filled(root.path(), &engine::for_running(Engine::Pulley, 256 << 10).unwrap());
        let native = engine::for_running(Engine::Native, 256 << 10).unwrap();
        assert!(found(&cache, &key(Engine::Native, &native, EMPTY_COMPONENT)).is_empty());
        refusal(&cache, &native, &entry);
    }

    #[test]
    fn the_folder_is_accessible_to_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("compiled")).unwrap();
        fs::set_permissions(root.path().join("compiled"), Permissions::from_mode(0o777)).unwrap();
        own_folder(root.path()).unwrap();
        assert_eq!(fs::metadata(root.path().join("compiled")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn code_that_another_user_planted_is_not_loaded_although_it_is_valid() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        assert!(cache.found(&engine, &key).is_some());
        fs::set_permissions(&entry, Permissions::from_mode(0o666)).unwrap();
        assert!(refusal(&cache, &engine, &entry).contains("other users can write to it"));
        fs::set_permissions(&entry, Permissions::from_mode(0o600)).unwrap();
        let elsewhere = root.path().join("elsewhere");
        fs::hard_link(&entry, &elsewhere).unwrap();
        assert!(refusal(&cache, &engine, &entry).contains("2 names"));
        fs::remove_file(&entry).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &entry).unwrap();
        assert!(refusal(&cache, &engine, &entry).contains("it is a link"));
        fs::rename(&elsewhere, &entry).unwrap();
        assert!(cache.found(&engine, &key).is_some());
        // Only root can make a file of another user's.
        if std::os::unix::fs::chown(&entry, Some(12_345), None).is_ok() {
            assert!(refusal(&cache, &engine, &entry).contains("belongs to another user"));
            assert!(cache.found(&engine, &key).is_none());
        }
    }

    #[test]
    fn a_folder_that_takes_the_place_of_the_agents_own_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine::for_running(Engine::Pulley, 256 << 10).unwrap();
        let (cache, key, entry) = filled(root.path(), &engine);
        let folder = entry.parent().unwrap();
        fs::rename(folder, root.path().join("moved")).unwrap();
        let (_, _, planted) = filled(root.path(), &engine);
        fs::write(&planted, "planted").unwrap();
        assert!(cache.found(&engine, &key).is_some(), "the one in the folder that was opened");
        cache.store(&key, &Compiled { needs: Needs::default(), code: b"new".to_vec() }).unwrap();
        assert_eq!(fs::read(&planted).unwrap(), b"planted");
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", root.path().join("compiled")).unwrap();
        assert!(own_folder(root.path()).is_err_and(|text| text.contains("remove it")));
    }
}
