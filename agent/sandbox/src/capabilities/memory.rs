//! The memory limit of one call: what it may still take, over all its memories together and what the agent holds for it; and the same
//! for its tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wasaba_core::limits::Limits;
use wasmtime::{ResourceLimiter, Result};

use super::meter::Meter;

/// What a call may still take of its memory limit. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit_bytes: usize,
    left_bytes: AtomicUsize,
    is_exceeded: AtomicBool,
    meter: Arc<Meter>,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize, meter: Arc<Meter>) -> Self {
        Self(Arc::new(Inner {
            limit_bytes,
            left_bytes: AtomicUsize::new(limit_bytes),
            is_exceeded: AtomicBool::new(false),
            meter,
        }))
    }

    /// Takes so many bytes until the end of the call, unless there are too few.
    fn take(&self, bytes: usize) -> bool {
        let Inner { limit_bytes, left_bytes, is_exceeded, meter } = &*self.0;
        let taken = left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        is_exceeded.fetch_or(taken.is_err(), Ordering::Relaxed);
        meter.memory(limit_bytes.saturating_sub(left_bytes.load(Ordering::Relaxed)));
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.left_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes so many bytes for what the agent holds for the plugin, until that is dropped.
    ///
    /// # Errors
    /// There are too few, which ends the call as if its own memory were used up.
    pub(super) fn hold(&self, bytes: usize) -> Result<Share> {
        let mut share = Share { budget: self.clone(), bytes: 0 };
        share.resize(bytes)?;
        Ok(share)
    }
}

/// A share of the budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// Makes it a share of so many bytes.
    ///
    /// # Errors
    /// As [`Budget::hold`]; it stays as it is.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<()> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => wasmtime::ensure!(self.budget.take(more), "the call exceeded the limit `memory_mib`"),
            None => self.budget.give_back(self.bytes.saturating_sub(bytes)),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Adds so many bytes to it.
    ///
    /// # Errors
    /// As [`Budget::hold`]; it stays as it is.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.resize(self.bytes.saturating_add(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The memory of one call.
pub(super) struct Memory {
    budget: Budget,
    left_table_elements: usize,
    instances: usize,
    is_table_exceeded: bool,
}

impl Memory {
    pub(super) fn new(limits: &Limits, budget: Budget) -> Self {
        Self {
            budget,
            left_table_elements: limits.table_elements,
            instances: limits.instances,
            is_table_exceeded: false,
        }
    }

    /// The name of the limit that the call ran into, if it did.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        if self.budget.0.is_exceeded.load(Ordering::Relaxed) {
            return Some("memory_mib");
        }
        self.is_table_exceeded.then_some("table_elements")
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(desired.checked_sub(current).is_some_and(|growth| self.budget.take(growth)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let left = desired.checked_sub(current).and_then(|growth| self.left_table_elements.checked_sub(growth));
        self.is_table_exceeded |= left.is_none();
        self.left_table_elements = left.unwrap_or(self.left_table_elements);
        Ok(left.is_some())
    }

    // The compiler has counted them already; these are the engine's own counts.
    fn instances(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories() {
        let limits = Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() };
        let meter = Arc::<Meter>::default();
        let memory = || Memory::new(&limits, Budget::new(limits.memory_bytes, Arc::clone(&meter)));
        let mut first = memory();
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!first.memory_growing(0, 60, None).unwrap(), "a second memory has only 40 left");
        assert_eq!(first.exceeded(), Some("memory_mib"));
        assert!(first.memory_growing(60, 100, None).unwrap());
        assert_eq!(meter.memory_bytes.load(Ordering::Relaxed), 100);
        let mut second = memory();
        assert!(second.table_growing(0, 10, None).unwrap() && second.exceeded().is_none());
        assert!(!second.table_growing(10, 11, None).unwrap());
        assert_eq!(second.exceeded(), Some("table_elements"));
    }

    #[test]
    fn what_the_agent_holds_for_a_plugin_counts_as_its_memory_until_it_is_dropped() {
        let limits = Limits { memory_bytes: 100, ..Limits::default() };
        let budget = Budget::new(limits.memory_bytes, Arc::default());
        let mut memory = Memory::new(&limits, budget.clone());
        let held = budget.hold(70).unwrap();
        assert!(!memory.memory_growing(0, 31, None).unwrap());
        assert!(budget.hold(31).is_err() && memory.exceeded() == Some("memory_mib"));
        drop(held);
        let mut held = budget.hold(60).unwrap();
        assert!(held.grow(41).is_err() && held.grow(40).is_ok(), "a share grows within the limit");
        held.resize(0).unwrap();
        assert!(memory.memory_growing(0, 100, None).unwrap() && budget.hold(1).is_err());
    }
}
