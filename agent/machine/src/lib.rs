//! The machine that the agent runs on: its metrics, and what it is.
//!
//! Everything is read below [`roots`], so that a test can point them at a frozen machine. Parsing stands apart from reading.

pub mod diagnostic;
pub mod host;
pub mod metrics;
pub mod mounts;
pub mod roots;
