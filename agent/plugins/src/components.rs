//! The components of checks and metadata, for their schedules. The keeper loads and replaces them, like those of metrics.

use std::sync::Arc;

use config::table::PluginTable;
use wasaba_core::collect::StoredValues;
use wasaba_core::collect::memory::{Forgetful, Memory};

use crate::instance::{Checked, Gathered, Instance};
use crate::key::Key;
use crate::register::Register;

/// Where schedules find their components. Clones share them.
#[derive(Clone)]
pub struct Components {
    register: Register,
    memory: Arc<dyn Memory>,
}

/// No components, and no memory.
impl Default for Components {
    fn default() -> Self {
        Self { register: Register::default(), memory: Arc::new(Forgetful) }
    }
}

impl Components {
    /// The components in the `register`; the values that they store go to the `memory`.
    #[must_use]
    pub fn new(register: Register, memory: Arc<dyn Memory>) -> Self {
        Self { register, memory }
    }

    /// Runs the check once. Waits until the component that `table` describes is loaded.
    ///
    /// # Errors
    /// It cannot be loaded, or the call failed.
    pub async fn check(&self, name: &Arc<str>, table: &PluginTable) -> Result<Checked, String> {
        let key = Key::check(name);
        let instance = self.loaded(&key, table).await?;
        let (checked, kept) = instance.check().await.map_err(|failure| failure.to_string())?;
        self.keep(&key, kept).await;
        Ok(checked)
    }

    /// Reads the metadata once. Waits until the component that `table` describes is loaded.
    ///
    /// # Errors
    /// As [`Components::check`].
    pub async fn metadata(&self, name: &Arc<str>, table: &PluginTable) -> Result<Gathered, String> {
        let key = Key::metadata(name);
        let instance = self.loaded(&key, table).await?;
        let (gathered, kept) = instance.metadata().await.map_err(|failure| failure.to_string())?;
        self.keep(&key, kept).await;
        Ok(gathered)
    }

    async fn loaded(&self, key: &Key, table: &PluginTable) -> Result<Arc<Instance>, String> {
        self.register.loaded(key, table).await.map_err(|problems| problems.join("; "))
    }

    async fn keep(&self, key: &Key, kept: Option<Arc<StoredValues>>) {
        if let Some(kept) = kept {
            let (memory, key) = (Arc::clone(&self.memory), key.to_string());
            // The memory logs its own failures.
            tokio::task::spawn_blocking(move || memory.keep_values(&key, kept)).await.ok();
        }
    }
}
