//! Plugins: WebAssembly components that collect what the agent itself does not know.
//!
//! From outside to inside: [`folder`] finds a file, [`compile`] makes code of it in a child process, [`component`] links it
//! and holds it to the contract, [`settings`] checks what the operator wrote, [`command_line`] what stands in a
//! `command` of old, [`instance`] is the two together;
//! [`loader`] does all that for the [`table`]s of a configuration; [`sandbox`] runs its calls within
//! [`limits`](crate::capabilities::limits), [`readings`] makes values of what it read, and [`failure`] is what else comes of
//! it. [`watch`] hears of files that come and go, [`roster`] says what is to be loaded then, [`register`] what became of it,
//! and [`graphs`] knows the graphs of all.

pub mod command_line;
pub mod compile;
pub mod component;
pub mod engine;
pub mod failure;
pub mod folder;
pub mod graphs;
pub mod instance;
pub mod loader;
pub mod readings;
pub mod register;
pub mod roster;
pub mod sandbox;
pub mod self_metrics;
pub mod settings;
pub mod table;
pub mod watch;
