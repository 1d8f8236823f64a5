//! wasaba, a host agent for Mackerel: it collects the host's metrics, runs sandboxed plugins, and loses nothing.
//!
//! One value passes four rooms: a collector reads it (`machine`, `containers`, `plugins`, `programs`), the collecting loop takes
//! it (`wasaba_core::collect`), the spool keeps it on disk and an output posts it (`delivery`). Only [`run`] knows all of them;
//! see ARCHITECTURE.md.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod cli;
pub mod process;
pub mod run;

/// This release, `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, seven hexadecimal digits, or `unknown`.
pub const REVISION: &str = match option_env!("WASABA_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The agent's name in its requests to Mackerel.
#[must_use]
pub fn user_agent() -> String {
    format!("wasaba/{VERSION} (Revision {REVISION})")
}
