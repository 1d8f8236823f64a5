//! The core: the types that all crates of the agent share, and the frame around everything that is collected.
//!
//! A [`sample::Sample`] cannot hold a name that Mackerel refuses; a [`secret::Secret`] does not show in `Debug`. Nothing here
//! depends on wasmtime, the queue or Mackerel's API.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod allowance;
pub mod clock;
pub mod collect;
pub mod confinement;
pub mod container;
pub mod document;
pub mod environment;
pub mod graph;
pub mod limits;
pub mod lines;
pub mod names;
pub mod nearest;
pub mod outlet;
pub mod paths;
pub mod posting;
pub mod report;
pub mod sample;
pub mod secret;
pub mod setting;
pub mod text;
pub mod tls;
pub mod wildcard;

/// The stack of a worker thread, in bytes. Without optimization the same functions need several times as much.
pub const WORKER_STACK_BYTES: usize = if cfg!(debug_assertions) { 2 << 20 } else { 256 << 10 };
