//! wasaba, a host agent for Mackerel: it collects the host's metrics, runs sandboxed plugins, and loses nothing.
//!
//! One value passes four rooms: a collector reads it ([`metrics`], [`plugins`]), the minute takes it in ([`collect`]), the
//! spool keeps it on disk ([`spool`]), an output hands it on ([`outputs`]). Only [`run`] knows all of them; see
//! ARCHITECTURE.md.

pub mod allocator;
pub mod capabilities;
pub mod checks;
pub mod cli;
pub mod collect;
pub mod components;
pub mod config;
pub mod container;
pub mod control;
pub mod diagnostic;
pub mod docker;
pub mod footprint;
pub mod graph;
pub mod host;
pub mod keeper;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod mounts;
pub mod outputs;
pub mod plugins;
pub mod programs;
pub mod regular_file;
pub mod roots;
pub mod routines;
pub mod run;
pub mod sample;
pub mod secret;
pub mod service;
pub mod shell;
pub mod spool;
pub mod tls;

/// This release, `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, seven hexadecimal digits, or `unknown`.
pub const REVISION: &str = match option_env!("WASABA_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// How the agent names itself to Mackerel.
#[must_use]
pub fn user_agent() -> String {
    format!("wasaba/{VERSION} (Revision {REVISION})")
}
