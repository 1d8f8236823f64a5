//! How much one call of a plugin may take before it is ended.

use std::time::Duration;

/// The longest that a call may be configured to take: the next minute's question comes after 60 s.
pub const LONGEST_CALL: Duration = Duration::from_secs(50);

/// The limits of one call. The contract's manual (`wit/`) names the same figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock for the whole call, waiting included. `timeout_seconds` in the configuration.
    pub time: Duration,
    /// Memory, summed over all of the component's memories.
    pub memory_bytes: usize,
    /// Table elements, summed over all tables; each costs the host 8 bytes.
    pub table_elements: usize,
    /// Bytes that the plugin may hand over to the agent in one call of either direction: strings, lists, results.
    pub handover_bytes: usize,
    /// Handles to host resources open at once.
    pub handles: usize,
    /// Samples in one answer.
    pub samples: usize,
    /// Lines in the log.
    pub log_lines: u32,
    /// Length of a line in the log.
    pub log_line_bytes: usize,
    /// Length of an HTTP answer's body.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            handover_bytes: 8 << 20,
            handles: 1_024,
            samples: 1_000,
            log_lines: 16,
            log_line_bytes: 1_024,
            body_bytes: 4 << 20,
        }
    }
}
