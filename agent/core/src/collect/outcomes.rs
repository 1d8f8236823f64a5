//! The outcomes: how long each collection took and how it ended, for whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::source::SourceId;

/// How a source is doing, and how its last collection went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The source's name.
    pub source: Arc<str>,
    /// When it was last asked, in seconds since 1970.
    pub unix_seconds: i64,
    /// How long the last collection took, from question to answer; until the deadline if no answer came in time.
    pub took: Duration,
    /// How the last collection ended.
    pub result: CollectionResult,
    /// Collections since the source was added.
    pub collections: u64,
    /// How many of these failed or timed out.
    pub failed: u64,
}

/// How a collection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectionResult {
    /// It returned values.
    Values {
        /// How many.
        count: usize,
        /// What it had to skip.
        warnings: Vec<String>,
    },
    /// It returned nothing, and nothing is wrong: no such device, or the first reading of a counter.
    NoData,
    /// It failed, for this reason, as in the log.
    Failed(String),
    /// It did not answer before its deadline.
    TimedOut,
}

impl CollectionResult {
    /// Whether it counts as a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Values { .. } | Self::NoData)
    }
}

/// The last outcome of every source. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Arc<Mutex<BTreeMap<SourceId, Outcome>>>);

impl Outcomes {
    /// A table of these.
    #[must_use]
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        let outcomes = outcomes.into_iter().map(|outcome| (SourceId::unique(), outcome));
        Self(Arc::new(Mutex::new(outcomes.collect())))
    }

    /// All of them, in the order in which the sources were added. A source that has not been asked yet has none.
    #[must_use]
    pub fn all(&self) -> Vec<Outcome> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn note(&self, id: SourceId, source: &Arc<str>, asked: i64, took: Duration, result: CollectionResult) {
        let failed = u64::from(!result.is_success());
        let mut outcomes = self.lock();
        let before = outcomes.get(&id).map_or((0, 0), |before| (before.collections, before.failed));
        let (collections, failed) = (before.0.saturating_add(1), before.1.saturating_add(failed));
        let source = Arc::clone(source);
        outcomes.insert(id, Outcome { source, unix_seconds: asked, took, result, collections, failed });
    }

    pub(super) fn remove(&self, id: SourceId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SourceId, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
