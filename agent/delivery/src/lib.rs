//! Delivery: the queue on disk and its two outputs. No other crate knows Mackerel's API.
//!
//! Exactly one output runs: Mackerel with an API key, the terminal without one.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod local;
#[expect(clippy::disallowed_methods, reason = "its back-off and its retirement still ask the system itself")]
pub mod mackerel;
pub mod spool;
