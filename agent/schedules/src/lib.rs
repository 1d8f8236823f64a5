//! The schedules of checks and metadata plugins: each runs a program or a component at its own interval.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod checks;
pub mod metadata;
pub mod routines;
pub mod statuses;
