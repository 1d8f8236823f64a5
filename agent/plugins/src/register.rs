//! The register: every component instance of the configuration and the drop-in folders, whether it runs or was skipped. Checks
//! and metadata find theirs here, and `wasaba plugin list` shows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::table::PluginTable;
use tokio::sync::Notify;

use crate::instance::Instance;
use crate::key::Key;

/// The state of an instance.
#[derive(Clone)]
pub enum Entry {
    /// It runs; the problems are those of a newer version of it that could not be loaded.
    Running(Arc<Instance>, Vec<String>),
    /// It could not be loaded, for these reasons, a line each.
    Skipped(Vec<String>),
}

/// The entries by their keys. Clones are the same register.
#[derive(Clone, Default)]
pub struct Register(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Default)]
struct Entries {
    by_key: BTreeMap<Key, (Option<PluginTable>, Entry)>,
    /// Why no plugin can be loaded at all.
    broken: Option<String>,
}

impl Register {
    /// Records that the instance that `table` describes runs.
    pub fn run(&self, key: Key, table: PluginTable, instance: Arc<Instance>) {
        self.lock().by_key.insert(key, (Some(table), Entry::Running(instance, Vec::new())));
        self.0.changed.notify_waiters();
    }

    /// Records why the instance that `table` describes cannot be loaded. If an older one runs, it keeps running and its entry
    /// stays.
    pub fn skip(&self, key: Key, table: Option<PluginTable>, why: Vec<String>) {
        let mut entries = self.lock();
        let entry = match entries.by_key.remove(&key) {
            Some((_, Entry::Running(instance, _))) => Entry::Running(instance, why),
            _ => Entry::Skipped(why),
        };
        entries.by_key.insert(key, (table, entry));
        drop(entries);
        self.0.changed.notify_waiters();
    }

    /// Removes an instance.
    pub fn remove(&self, key: &Key) {
        self.lock().by_key.remove(key);
        self.0.changed.notify_waiters();
    }

    /// Records why no plugin can be loaded.
    pub fn fail(&self, why: String) {
        self.lock().broken = Some(why);
        self.0.changed.notify_waiters();
    }

    /// All of them, by key.
    #[must_use]
    pub fn all(&self) -> Vec<(Key, Entry)> {
        self.lock().by_key.iter().map(|(key, (_, entry))| (key.clone(), entry.clone())).collect()
    }

    /// Those that run.
    #[must_use]
    pub fn running(&self) -> Vec<(Key, Arc<Instance>)> {
        let entries = self.all().into_iter();
        let running = |(key, entry)| match entry {
            Entry::Running(instance, _) => Some((key, instance)),
            Entry::Skipped(_) => None,
        };
        entries.filter_map(running).collect()
    }

    /// The instance of this key that runs, if one does.
    #[must_use]
    pub fn instance(&self, key: &Key) -> Option<Arc<Instance>> {
        match self.lock().by_key.get(key) {
            Some((_, Entry::Running(instance, _))) => Some(Arc::clone(instance)),
            _ => None,
        }
    }

    /// Waits until the instance that `table` describes is loaded, or cannot be.
    ///
    /// # Errors
    /// Why it cannot be loaded, a line each.
    pub async fn loaded(&self, key: &Key, table: &PluginTable) -> Result<Arc<Instance>, Vec<String>> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(result) = self.outcome(key, table) {
                return result;
            }
            changed.await;
        }
    }

    fn outcome(&self, key: &Key, table: &PluginTable) -> Option<Result<Arc<Instance>, Vec<String>>> {
        let entries = self.lock();
        if let Some(why) = &entries.broken {
            return Some(Err(vec![why.clone()]));
        }
        match entries.by_key.get(key)? {
            (tried, _) if tried.as_ref() != Some(table) => None,
            (_, Entry::Running(instance, _)) => Some(Ok(Arc::clone(instance))),
            (_, Entry::Skipped(why)) => Some(Err(why.clone())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_waits_until_its_own_table_was_tried_and_gets_the_reason() {
        let (register, key) = (Register::default(), Key::check(&"web".into()));
        let table = |wasm: &str| PluginTable { wasm: wasm.into(), ..PluginTable::default() };
        let (waiting, asked) = (register.clone(), key.clone());
        let waiting = tokio::spawn(async move { waiting.loaded(&asked, &table("new")).await.err() });
        tokio::task::yield_now().await;
        register.skip(key.clone(), Some(table("old")), vec!["an older table".into()]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        register.skip(key, Some(table("new")), vec!["no such file".into()]);
        assert_eq!(waiting.await.unwrap(), Some(vec!["no such file".to_owned()]));
    }
}
