//! Which plugins run: WebAssembly components that collect what the agent itself does not know.
//!
//! [`folder`] finds a file, [`settings`] holds what the operator wrote against what the plugin declares, [`instance`] is
//! the two together, [`loader`] makes it of a table of the configuration, and [`readings`] makes values of what it read.
//! [`watch`] notices files that come and go, [`roster`] says what is to be loaded then, [`keeper`] does it, [`register`] knows
//! what became of it, and [`components`] are those of checks and metadata.

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
pub mod watch;
