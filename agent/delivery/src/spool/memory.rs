//! The queue's file as the memory of sources: the readings of counters, and what plugins keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasaba_core::clock::{self, Stamp};
use wasaba_core::collect::StoredValues;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::rate::Reading;

use super::Spool;

impl Memory for Spool {
    fn readings(&self, source: &str) -> BTreeMap<String, Reading> {
        let step = Stamp::now().step_millis();
        self.readings(source).into_iter().map(|(name, reading)| (name, reading.ahead_by(-step))).collect()
    }

    fn values(&self, instance: &str) -> StoredValues {
        self.values(instance)
    }

    fn keep_values(&self, instance: &str, values: Arc<StoredValues>) {
        self.keep_values(instance, values);
    }

    fn forget_values(&self, known: &[Arc<str>]) {
        self.forget_values(known, clock::unix_seconds());
    }
}
