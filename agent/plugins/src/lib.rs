//! Which plugins run: WebAssembly components that collect what the agent itself does not know.
//!
//! [`folder`] finds a file, [`settings`] validates the operator's settings against those that the plugin declares, [`instance`]
//! is a plugin with its settings, [`loader`] makes it from a table of the configuration, and [`readings`] turns its samples into
//! values. [`watch`] notices files that appear, change and disappear, [`roster`] decides what must be loaded, [`keeper`] loads
//! it, [`register`] records the result, and [`components`] runs those of checks and metadata.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod cases;
pub mod components;
pub mod folder;
pub mod instance;
pub mod keeper;
pub mod key;
pub mod loader;
pub mod readings;
pub mod register;
pub mod roster;
pub mod self_metrics;
pub mod settings;
pub mod unloaded;
pub mod watch;
