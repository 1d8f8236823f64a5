//! The sandbox: WebAssembly components run here, within limits and grants. Only this crate names wasmtime.
//!
//! [`compile`] makes code of a file in a child process, [`engine`] configures how, [`component`] links it and calls it, and
//! [`thread`] runs the calls. [`capabilities`] are all that a call can reach, [`answer`] is what it returns, and [`failure`] how
//! it fails.

pub mod answer;
pub mod capabilities;
pub mod compile;
pub mod component;
mod contract;
mod engine;
pub mod failure;
pub mod thread;
