//! What the unit tests of several rooms share. Nothing of it is shipped.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking, with the reason")]

pub mod authority;
pub mod golden;
