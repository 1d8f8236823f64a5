//! The sandbox: WebAssembly components run here, within limits and grants. Only this crate names wasmtime.
//!
//! [`compile`] makes code of a file in a child process, [`engine`] says how, [`component`] links it and holds it to the
//! contract, [`thread`] runs its calls, [`capabilities`] are all that a call can reach, and [`failure`] is what else comes of
//! one.

pub mod capabilities;
pub mod compile;
pub mod component;
pub mod engine;
pub mod failure;
pub mod thread;
