//! The loader: from a table of the configuration to an instance that can be asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::compile::Cache;
use super::component::{Demands, Plugin};
use super::engine::Engine;
use super::folder::Folders;
use super::instance::Instance;
use super::sandbox::Sandbox;
use super::table::PluginTable;

/// What is needed to load plugins. Two instances of one component share what was loaded.
pub struct Loader {
    /// Where plugins run.
    pub sandbox: Arc<Sandbox>,
    /// Where they are looked for.
    pub folders: Folders,
    cache: Arc<Cache>,
    loaded: Mutex<HashMap<(PathBuf, Engine), Arc<Plugin>>>,
}

impl Loader {
    /// A loader that keeps compiled plugins under `root`.
    ///
    /// # Errors
    /// The folder for them, or the thread to run them on, cannot be had.
    pub fn new(root: &Path, folders: Folders) -> Result<Self, String> {
        let cache = Arc::new(Cache::open(root)?);
        let sandbox = Sandbox::start().map_err(|error| format!("cannot start the plugins' thread: {error}"))?;
        Ok(Self { sandbox: Arc::new(sandbox), folders, cache, loaded: Mutex::default() })
    }

    /// The plugin in `file`, loaded if it is not yet.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn plugin(&self, demands: &Demands, file: &Path) -> Result<Arc<Plugin>, String> {
        let key = (file.to_owned(), demands.engine);
        // Held while loading, so that two instances of one component do not compile it twice.
        let mut loaded = self.loaded.lock().await;
        if let Some(plugin) = loaded.get(&key) {
            return Ok(Arc::clone(plugin));
        }
        let plugin = Plugin::load(&self.sandbox, Arc::clone(&self.cache), demands, file).await?;
        loaded.insert(key, Arc::clone(&plugin));
        Ok(plugin)
    }

    /// The instance that `table` describes.
    ///
    /// # Errors
    /// Every problem, a line each, with the place to mend it.
    pub async fn instance(&self, table: &PluginTable) -> Result<Instance, Vec<String>> {
        let at_place = |problem: String| format!("{}: {problem}", table.written.place);
        let file = self.folders.find(&table.wasm).map_err(|problem| vec![at_place(problem)])?;
        let plugin = self.plugin(&table.demands(), &file).await.map_err(|problem| vec![problem])?;
        let instance = Instance::new(&self.sandbox, plugin, table).await;
        instance.map_err(|problems| problems.into_iter().map(at_place).collect())
    }
}
