//! The state as the memory of sources: the readings of counters, and what plugins keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasaba_core::clock::{self, Stamp};
use wasaba_core::collect::StoredValues;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::rate::Reading;

use super::Spool;
use super::bytes::{Cursor, put_bytes};

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

/// The bytes of the values of an instance: each key with its value.
pub(super) fn encoded(values: &StoredValues) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in values {
        put_bytes(&mut out, key.as_bytes());
        put_bytes(&mut out, value);
    }
    out
}

/// The values, or `None` if `bytes` were not made by [`encoded`].
pub(super) fn decoded(bytes: &[u8]) -> Option<StoredValues> {
    let (mut cursor, mut values) = (Cursor(bytes), StoredValues::new());
    while !cursor.is_at_end() {
        values.insert(cursor.text()?.to_owned(), cursor.bytes()?.to_vec());
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instances_values_come_back_byte_for_byte_and_truncated_bytes_are_refused() {
        let values = StoredValues::from([("k".repeat(255), vec![0, 255, 10]), ("empty".into(), Vec::new())]);
        let bytes = encoded(&values);
        assert_eq!(decoded(&bytes), Some(values));
        let unnoticed = (0..bytes.len()).filter(|end| decoded(&bytes[..*end]).is_some()).collect::<Vec<_>>();
        // A cut between two entries goes unnoticed here, but not by the frame's checksum.
        assert_eq!(unnoticed, [0, 7]);
    }
}
