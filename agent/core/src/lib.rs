//! The core: the types that all crates of the agent share, and the frame around everything that is collected.
//!
//! A [`sample::Sample`] cannot hold a name that Mackerel refuses; a [`secret::Secret`] does not show in `Debug`. Nothing here
//! depends on wasmtime, the queue or Mackerel's API.

pub mod clock;
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
