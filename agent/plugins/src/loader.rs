//! The loader: makes an instance from a table of the configuration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::table::PluginTable;
use sandbox::compile::Cache;
use sandbox::component::{Demands, Place, Plugin};
use sandbox::thread::Sandbox;
use tokio::sync::Semaphore;
use wasaba_core::paths::patient::{self, LOOK};
use wasaba_core::text::printable;

use crate::folder::{Folders, Stamp};
use crate::instance::Instance;
use crate::key::Kind;
use crate::settings::{lacks_only_settings, resolve};
use crate::unloaded::Unloaded;

/// How many plugins are loaded at once: enough that a few slow ones do not block the others, and few enough that a thousand
/// do not take a thread each, which stays in the pool afterwards. Even fewer are compiled at once, see [`Cache`]; those that wait for a compiler have no place here.
const LOADED_AT_ONCE: usize = 4;

/// How many instances ask their plugins for their graph definitions at once: each takes the memory of a call, and one that
/// hangs keeps its permit until it times out.
const ASKED_AT_ONCE: usize = 64;

/// Loads plugins. Instances of one component share the loaded plugin, as long as one of them exists.
pub struct Loader {
    /// Where plugins run.
    pub sandbox: Arc<Sandbox>,
    /// Where they are looked up.
    pub folders: Folders,
    cache: Arc<Cache>,
    loaded: Shared<Plugin>,
    asking: Semaphore,
}

impl Loader {
    /// A loader that caches compiled plugins in `root`.
    ///
    /// # Errors
    /// The thread that runs them cannot be started.
    pub fn new(root: &Path, folders: Folders) -> Result<Self, String> {
        let cache = Arc::new(Cache::open(root, folders.compiled()));
        let sandbox = Sandbox::start().map_err(|error| format!("cannot start the plugins' thread: {error}"))?;
        Ok(Self {
            sandbox: Arc::new(sandbox),
            folders,
            cache,
            loaded: Shared::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
        })
    }

    /// The plugin in `file`; loads it if it is not loaded yet or has changed since.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn plugin(&self, demands: &Demands, file: &Path) -> Result<Arc<Plugin>, String> {
        self.component(demands, file).await.map_err(|unloaded| unloaded.problems.join("; "))
    }

    async fn component(&self, demands: &Demands, file: &Path) -> Result<Arc<Plugin>, Unloaded> {
        let (sandbox, cache, file) = (Arc::clone(&self.sandbox), Arc::clone(&self.cache), file.to_owned());
        let (key, demanded) = ((file.clone(), demands.clone()), demands.clone());
        let load = move |place| async move {
            Plugin::load(&sandbox, cache, &demanded, &file, place).await.map_err(Unloaded::from)
        };
        self.loaded.get(key, load).await
    }

    /// The instance that `table` describes, of the component in `file`, to be asked as a plugin of this `kind`.
    ///
    /// # Errors
    /// Every problem, a line each, with the table that must be corrected.
    pub async fn instance(&self, kind: Kind, table: &PluginTable, file: &Path) -> Result<Instance, Unloaded> {
        // The file beside a dropped component may not exist.
        let located = |problem: String| match table.raw.line.is_known() {
            true => table.raw.problem(&problem),
            false => problem,
        };
        let plugin = self.component(&demands(table), file).await.map_err(|unloaded| unloaded.in_words(located))?;
        let (does, export) = (plugin.does(), kind.export());
        if !does.contains(&export) {
            let (file, does) = (printable(&file.to_string_lossy(), 400), does.join(", "));
            return Err(located(format!(
                "`{file}` does not export `{export}`, which {kind} needs; it exports: {does}"
            ))
            .into());
        }
        let permit = self.asking.acquire().await;
        let instance = Instance::new(&self.sandbox, plugin, table).await;
        drop(permit);
        instance
    }
}

impl Loader {
    /// Whether nothing is wrong with a table but that settings are missing which the plugin requires.
    pub async fn lacks_only_settings(&self, table: &PluginTable, file: &Path) -> bool {
        let Ok(plugin) = self.plugin(&demands(table), file).await else { return false };
        let (declared, reach) = (&plugin.description.settings, plugin.description.reach);
        let resolved = resolve(&table.raw, &table.wasm, declared);
        resolved.is_ok_and(|resolved| lacks_only_settings(declared, reach, &resolved))
    }
}

/// How the component of `table` must be loaded.
#[must_use]
pub fn demands(table: &PluginTable) -> Demands {
    Demands { engine: table.engine, limits: Arc::clone(&table.limits), digest: table.digest.clone(), is_typed: false }
}

/// Instances with the same demands of the same file share its plugin.
type Key = (PathBuf, Demands);

/// The slot of one file, locked while it is loaded, so that two instances do not load it twice and others do not wait.
type Slot<T> = Arc<tokio::sync::Mutex<Option<(Stamp, Weak<T>)>>>;

/// The values loaded from files, as long as they are used and the files are unchanged.
struct Shared<T> {
    slots: Mutex<HashMap<Key, Slot<T>>>,
    places: Arc<Semaphore>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { slots: Mutex::default(), places: Arc::new(Semaphore::new(LOADED_AT_ONCE)) }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    async fn get<L: Future<Output = Result<Arc<T>, Unloaded>> + Send + 'static>(
        &self,
        key: Key,
        load: impl FnOnce(Place) -> L,
    ) -> Result<Arc<T>, Unloaded> {
        let file = key.0.clone();
        let slot = self.slot(key);
        let mut known = slot.lock().await;
        let place = Place::of(Arc::clone(&self.places)).await;
        // Before the file is read: if it changes meanwhile, the stamp is too old, and it is loaded again.
        let stamp = tokio::task::spawn_blocking(move || patient::ask(&file, LOOK, Stamp::of).ok().flatten());
        let stamp = stamp.await.ok().flatten();
        let same = known.as_ref().filter(|(known, _)| Some(*known) == stamp);
        if let Some(plugin) = same.and_then(|(_, plugin)| plugin.upgrade()) {
            return Ok(plugin);
        }
        // In its own task: what loads keeps running if this future is dropped, and keeps its place until it ends.
        let loaded = tokio::spawn(load(place))
            .await
            .map_err(|_| Unloaded::from("the loader failed; this is a bug in wasaba".to_owned()))??;
        *known = stamp.map(|stamp| (stamp, Arc::downgrade(&loaded)));
        Ok(loaded)
    }

    fn slot(&self, key: Key) -> Slot<T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = |slot: &Slot<T>| {
            let plugin =
                slot.try_lock().map(|known| known.as_ref().is_some_and(|(_, plugin)| plugin.strong_count() > 0));
            Arc::strong_count(slot) > 1 || plugin.unwrap_or(true)
        };
        slots.retain(|_, slot| is_used(slot));
        Arc::clone(slots.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(file: &Path) -> Key {
        (file.to_owned(), Demands::default())
    }

    /// A new file with its name as its content.
    fn file(folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        std::fs::write(&file, name).unwrap();
        file
    }

    type Loaded = std::pin::Pin<Box<dyn Future<Output = Result<Arc<usize>, Unloaded>> + Send>>;

    /// Counts how often it is loaded, and returns the count before.
    fn counted(count: &Arc<AtomicUsize>) -> impl FnOnce(Place) -> Loaded {
        let count = Arc::clone(count);
        move |place| {
            Box::pin(async move {
                let _place = place;
                Ok(Arc::new(count.fetch_add(1, Ordering::SeqCst)))
            })
        }
    }

    #[tokio::test]
    async fn a_file_is_loaded_once_as_long_as_it_is_used_and_unchanged() {
        let (temp, shared, count) = (tempfile::tempdir().unwrap(), Shared::default(), Arc::default());
        let file = file(temp.path(), "a.wasm");
        let (one, two) = tokio::join!(shared.get(key(&file), counted(&count)), shared.get(key(&file), counted(&count)));
        assert_eq!((one, two), (Ok(Arc::new(0)), Ok(Arc::new(0))));
        let used = shared.get(key(&file), counted(&count)).await.unwrap();
        assert_eq!(*used, 1, "the first was no longer used");
        std::fs::write(&file, "changed").unwrap();
        assert_eq!(*shared.get(key(&file), counted(&count)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn files_that_hang_do_not_block_another_until_the_most_that_are_loaded_at_once() {
        let (temp, shared, count) = (tempfile::tempdir().unwrap(), Arc::new(Shared::default()), Arc::default());
        let started = Arc::new(Semaphore::new(0));
        let hang = |number: usize| {
            let (shared, key) = (Arc::clone(&shared), key(&file(temp.path(), &format!("{number}.wasm"))));
            let started = Arc::clone(&started);
            let load = move |place: Place| -> Loaded {
                Box::pin(async move {
                    let _place = place;
                    started.add_permits(1);
                    std::future::pending().await
                })
            };
            tokio::spawn(async move { shared.get(key, load).await.is_ok() })
        };
        let loading = async |count| {
            while started.available_permits() != count {
                tokio::task::yield_now().await;
            }
        };
        let _hanging = (1..LOADED_AT_ONCE).map(hang).collect::<Vec<_>>();
        loading(LOADED_AT_ONCE - 1).await;
        let good = file(temp.path(), "good.wasm");
        assert!(shared.get(key(&good), counted(&count)).await.is_ok());
        let last = hang(LOADED_AT_ONCE);
        loading(LOADED_AT_ONCE).await;
        // Dropping the future does not stop a compiler.
        last.abort();
        assert!(last.await.unwrap_err().is_cancelled());
        assert_eq!(shared.places.available_permits(), 0);
    }

    #[tokio::test]
    async fn unused_slots_are_removed() {
        let (temp, shared, count) = (tempfile::tempdir().unwrap(), Shared::default(), Arc::default());
        for name in ["a.wasm", "b.wasm", "c.wasm"] {
            shared.get(key(&file(temp.path(), name)), counted(&count)).await.unwrap();
        }
        assert_eq!(shared.slots.lock().unwrap().len(), 1, "only the last one's slot");
    }
}
