//! The meter: what one instance has used, and what it was refused, since it was loaded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many different refusals are remembered.
const REMEMBERED: usize = 8;

/// The counters of one instance, written by its calls and shown to the operator.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes that its connections have sent, including HTTP bodies.
    pub sent_bytes: AtomicU64,
    /// Bytes that its connections have received, including HTTP bodies.
    pub received_bytes: AtomicU64,
    /// The most memory that one of its calls has had, in bytes.
    pub memory_bytes: AtomicU64,
    /// Log lines that were dropped, since the call had used up its `log_lines`.
    pub dropped_lines: AtomicU64,
    refusals: AtomicU64,
    refused: Mutex<VecDeque<String>>,
}

impl Meter {
    /// Counts a refusal and returns its text.
    pub fn refuse(&self, why: String) -> String {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|known| *known != why);
        refused.push_back(why.clone());
        if refused.len() > REMEMBERED {
            refused.pop_front();
        }
        why
    }

    /// How often something was refused.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// The last different refusals; the newest is the last.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Records that a call has had this much memory.
    pub fn memory(&self, bytes: usize) {
        self.memory_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_counted_but_each_text_is_remembered_once() {
        let meter = Meter::default();
        for _ in 0..3 {
            meter.refuse("no grant for a".into());
        }
        (0..REMEMBERED).for_each(|number| drop(meter.refuse(format!("no grant for {number}"))));
        assert_eq!((meter.refusals(), meter.refused().len()), (3 + REMEMBERED as u64, REMEMBERED));
        assert_eq!(meter.refused().last().map(String::as_str), Some("no grant for 7"));
        meter.refuse("no grant for 3".into());
        assert_eq!(meter.refused().last().map(String::as_str), Some("no grant for 3"), "it is the newest again");
        assert_eq!(meter.refused().len(), REMEMBERED);
    }
}
