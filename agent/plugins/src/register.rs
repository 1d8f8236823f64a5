//! The register: every plugin instance that is wanted, whether it runs or was left out, for whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::instance::Instance;

/// What became of an instance that is wanted.
#[derive(Clone)]
pub enum Entry {
    /// It is asked.
    Running(Arc<Instance>),
    /// It could not be loaded; why, a line each.
    LeftOut(Vec<String>),
}

/// The entries by the instances' names. Clones are the same register.
#[derive(Clone, Default)]
pub struct Register(Arc<Mutex<BTreeMap<Arc<str>, Entry>>>);

impl Register {
    /// Puts an entry in the place of the one that the instance had.
    pub fn put(&self, name: Arc<str>, entry: Entry) {
        self.lock().insert(name, entry);
    }

    /// Notes why an instance cannot be loaded. One that runs goes on running, and its entry stays.
    pub fn leave_out(&self, name: Arc<str>, why: Vec<String>) {
        let mut entries = self.lock();
        if !matches!(entries.get(&name), Some(Entry::Running(_))) {
            entries.insert(name, Entry::LeftOut(why));
        }
    }

    /// Forgets an instance that is no longer wanted.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Entry)> {
        self.lock().iter().map(|(name, entry)| (Arc::clone(name), entry.clone())).collect()
    }

    /// Those that run.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Instance>> {
        let running = |entry: &Entry| match entry {
            Entry::Running(instance) => Some(Arc::clone(instance)),
            Entry::LeftOut(_) => None,
        };
        self.lock().values().filter_map(running).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
