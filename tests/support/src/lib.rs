//! Helpers for the unit tests of several crates. They are not shipped.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test panics with the reason")]

pub mod authority;
pub mod golden;
pub mod name_server;
