//! Components that are asked on a schedule of their own, for checks and metadata; those of metrics are the keeper's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use config::table::PluginTable;
use delivery::spool::Spool;
use sandbox::answer::Report;
use sandbox::thread::Sandbox;
use tokio::sync::{Mutex, OnceCell};
use wasaba_core::collect::Kept;

use crate::folder::{Folders, Stamp};
use crate::instance::Instance;
use crate::loader::Loader;

/// Where components are found, compiled, and keep what they keep.
#[derive(Clone)]
pub struct Place {
    /// The agent's root, for compiled ones.
    pub root: PathBuf,
    /// Where they are looked for now.
    pub folders: Arc<dyn Fn() -> Folders + Send + Sync>,
    /// Where their values are.
    pub spool: Arc<Spool>,
}

/// A component that was loaded for a check or metadata.
struct Loaded {
    table: PluginTable,
    /// Of its file.
    stamp: Option<Stamp>,
    instance: Arc<Instance>,
}

/// Components that are asked on a schedule of their own, for checks and metadata: each loaded when it is first asked, and again
/// when its file has changed.
#[derive(Default)]
pub struct Components {
    place: Option<Place>,
    loader: OnceCell<Arc<Loader>>,
    instances: Mutex<Vec<Loaded>>,
}

impl Components {
    /// Components that are found, compiled and kept at this place.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place: Some(place), ..Self::default() }
    }

    /// Checks once.
    ///
    /// # Errors
    /// It cannot be loaded, or how the call ended.
    pub async fn check(&self, table: &PluginTable) -> Result<Report, String> {
        let (instance, sandbox) = self.instance(table).await.map_err(|problems| problems.join("; "))?;
        let (report, kept) = instance.check(&sandbox).await.map_err(|failure| failure.to_string())?;
        self.keep(table, kept).await;
        Ok(report)
    }

    /// Reads the metadata once.
    ///
    /// # Errors
    /// As [`Components::check`].
    pub async fn metadata(&self, table: &PluginTable) -> Result<serde_json::Value, String> {
        let (instance, sandbox) = self.instance(table).await.map_err(|problems| problems.join("; "))?;
        let (value, kept) = instance.metadata(&sandbox).await.map_err(|failure| failure.to_string())?;
        self.keep(table, kept).await;
        Ok(value)
    }

    /// Under the name of its table: a check and a plugin of metrics may have the same name.
    async fn keep(&self, table: &PluginTable, kept: Option<Kept>) {
        if let (Some(place), Some(kept)) = (&self.place, kept) {
            let (source, spool) = (table.raw.place.clone(), Arc::clone(&place.spool));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let now = i64::try_from(now).unwrap_or_default();
            // A failure is the spool's to tell.
            tokio::task::spawn_blocking(move || spool.keep_values(&source, kept, now)).await.ok();
        }
    }

    /// The instance that `table` describes, and where it runs.
    ///
    /// # Errors
    /// Every problem, a line each.
    async fn instance(&self, table: &PluginTable) -> Result<(Arc<Instance>, Arc<Sandbox>), Vec<String>> {
        let place = self.place.clone().ok_or_else(|| vec!["there are no components here".to_owned()])?;
        let first = place.clone();
        let made = async {
            let loader = tokio::task::spawn_blocking(move || Loader::new(&first.root, (first.folders)())).await;
            loader.unwrap_or_else(|_| Err("the loader failed; this is a bug of wasaba".to_owned())).map(Arc::new)
        };
        let loader = self.loader.get_or_try_init(|| made).await.map_err(|why| vec![why])?;
        let (wanted, folders) = (table.clone(), Arc::clone(&place.folders));
        let found = tokio::task::spawn_blocking(move || {
            let file = folders().find(&wanted.wasm).map_err(|problem| vec![wanted.raw.problem(&problem)])?;
            let stamp = Stamp::of(&file);
            Ok((file, stamp))
        });
        let (file, stamp) =
            found.await.unwrap_or_else(|_| Err(vec!["looking for it failed; a bug of wasaba".to_owned()]))?;
        let is_known = |known: &&Loaded| known.table == *table && known.stamp == stamp;
        if let Some(known) = self.instances.lock().await.iter().find(is_known) {
            return Ok((Arc::clone(&known.instance), Arc::clone(&loader.sandbox)));
        }
        // Without the lock: one that takes long to compile holds up no other.
        let instance = Arc::new(loader.instance(table, &file).await?);
        let source = table.raw.place.clone();
        let values = tokio::task::spawn_blocking(move || place.spool.values(&source)).await;
        instance.keep(Arc::new(values.unwrap_or_default()));
        let mut instances = self.instances.lock().await;
        instances.retain(|known| known.table != *table);
        instances.push(Loaded { table: table.clone(), stamp, instance: Arc::clone(&instance) });
        Ok((instance, Arc::clone(&loader.sandbox)))
    }
}
