//! Delivery: the queue on disk, and the two ways out of it. Only this crate names redb, and only it knows Mackerel's API.
//!
//! Exactly one output runs: Mackerel with an API key, this terminal without one.

pub mod local;
pub mod mackerel;
pub mod spool;
