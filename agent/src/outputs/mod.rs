//! Where values go. Exactly one output runs: Mackerel with an API key, this terminal without one.

pub mod local;
pub mod mackerel;
