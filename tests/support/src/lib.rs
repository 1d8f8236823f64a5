//! Helpers for the unit tests of several crates. They are not shipped.

#![expect(clippy::unwrap_used, reason = "a failed test panics with the reason")]

pub mod authority;
pub mod golden;
