//! The memory: what a source needs from before this process started.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StoredValues;
use super::rate::Reading;

/// What survives a restart: the readings of counters, and the values that plugins store. It is in the queue's file; its methods
/// may block.
pub trait Memory: Send + Sync {
    /// The last readings of a source's counters, by the source's own names for them, and by the clock of this process.
    fn readings(&self, source: &str) -> BTreeMap<String, Reading>;

    /// The values that an instance has stored.
    fn values(&self, instance: &str) -> StoredValues;

    /// Replaces everything that an instance has stored.
    fn keep_values(&self, instance: &str, values: Arc<StoredValues>);

    /// Drops the values of instances that are not among the `known` and have not been for a while.
    fn forget_values(&self, known: &[Arc<str>]);
}

/// Stores nothing: for commands that run once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Memory for Forgetful {
    fn readings(&self, _: &str) -> BTreeMap<String, Reading> {
        BTreeMap::new()
    }

    fn values(&self, _: &str) -> StoredValues {
        StoredValues::new()
    }

    fn keep_values(&self, _: &str, _: Arc<StoredValues>) {}

    fn forget_values(&self, _: &[Arc<str>]) {}
}
