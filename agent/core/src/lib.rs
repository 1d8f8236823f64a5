//! The words that all rooms of the agent speak, and the frame around everything that is collected.
//!
//! A [`sample::Sample`] cannot hold a name that Mackerel refuses; a [`secret::Secret`] has no `Debug`. What is here knows
//! neither wasmtime nor the queue nor Mackerel's API.

pub mod collect;
pub mod container;
pub mod document;
pub mod graph;
pub mod limits;
pub mod nearest;
pub mod posting;
pub mod regular_file;
pub mod report;
pub mod sample;
pub mod secret;
pub mod setting;
pub mod text;
pub mod tls;
pub mod wildcard;
