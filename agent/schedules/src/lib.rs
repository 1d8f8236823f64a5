//! The schedules of checks and metadata plugins: each runs a program or a component at its own interval.

pub mod checks;
pub mod metadata;
pub mod routines;
