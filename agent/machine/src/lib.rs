//! The machine that the agent runs on: its metrics, and the description of the host.
//!
//! Everything is read below [`roots`], so that a test can point them at a frozen machine. Parsing is separate from reading.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod diagnostic;
pub mod host;
pub mod metrics;
pub mod mounts;
pub mod roots;
