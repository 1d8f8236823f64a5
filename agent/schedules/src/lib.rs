//! Checks and metadata: each asked on a schedule of its own, by a program or a component.

pub mod checks;
pub mod metadata;
pub mod routines;
