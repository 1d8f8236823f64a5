//! The memory limit of one call: what it may still take, over all its memories and all its tables together.

use std::sync::Arc;

use wasaba_core::limits::Limits;
use wasmtime::{ResourceLimiter, Result};

use super::meter::Meter;

/// The memory of one call.
pub(super) struct Memory {
    limit_bytes: usize,
    left_bytes: usize,
    left_table_elements: usize,
    instances: usize,
    /// The limit that the call ran into.
    exceeded: Option<&'static str>,
    meter: Arc<Meter>,
}

impl Memory {
    pub(super) fn new(limits: &Limits, meter: Arc<Meter>) -> Self {
        Self {
            limit_bytes: limits.memory_bytes,
            left_bytes: limits.memory_bytes,
            left_table_elements: limits.table_elements,
            instances: limits.instances,
            exceeded: None,
            meter,
        }
    }

    /// The name of the limit that the call ran into, if it did.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let granted = take(&mut self.left_bytes, current, desired);
        if !granted {
            self.exceeded = Some("memory_mib");
        }
        self.meter.memory(self.limit_bytes.saturating_sub(self.left_bytes));
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let granted = take(&mut self.left_table_elements, current, desired);
        if !granted {
            self.exceeded = Some("table_elements");
        }
        Ok(granted)
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

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    let fits = desired.checked_sub(current).and_then(|growth| left.checked_sub(growth));
    if let Some(rest) = fits {
        *left = rest;
    }
    fits.is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories() {
        let limits = Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() };
        let mut memory = Memory::new(&limits, Arc::default());
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap(), "a second memory has only 40 left");
        assert_eq!(memory.exceeded(), Some("memory_mib"));
        assert!(memory.memory_growing(60, 100, None).unwrap());
        assert_eq!(memory.meter.memory_bytes.load(Ordering::Relaxed), 100);
        assert!(!memory.table_growing(0, 11, None).unwrap());
        assert_eq!(memory.exceeded(), Some("table_elements"));
    }
}
