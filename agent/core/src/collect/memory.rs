//! The memory: what a source needs of the time before this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Kept;
use super::rate::Reading;

/// What outlives a restart: the readings of counters, and what plugins keep. The queue's file holds it; its methods may block.
pub trait Memory: Send + Sync {
    /// The last readings of a source's counters, under the source's own names for them.
    fn readings(&self, source: &str) -> BTreeMap<String, Reading>;

    /// What an instance keeps.
    fn values(&self, instance: &str) -> BTreeMap<String, Vec<u8>>;

    /// Keeps all of an instance's values in place of what it kept before.
    fn keep_values(&self, instance: &str, values: Kept);

    /// Drops what was kept by instances that are not among the `known` and have not been for a while.
    fn forget_values(&self, known: &[Arc<str>]);
}

/// Remembers nothing: for commands that run once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Memory for Forgetful {
    fn readings(&self, _: &str) -> BTreeMap<String, Reading> {
        BTreeMap::new()
    }

    fn values(&self, _: &str) -> BTreeMap<String, Vec<u8>> {
        BTreeMap::new()
    }

    fn keep_values(&self, _: &str, _: Kept) {}

    fn forget_values(&self, _: &[Arc<str>]) {}
}
