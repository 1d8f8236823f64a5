//! The sandbox: WebAssembly components run here, within limits and grants. Only this crate names wasmtime.
//!
//! [`load`] checks a file, [`compile`] makes code of it, [`component`] links it and calls it, and [`thread`] runs the calls.
//! [`foreground`] says whether someone waits for the code. [`capabilities`] are all that a call can reach, [`answer`] is what it returns, and [`failure`] how it fails.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod answer;
mod call;
pub mod capabilities;
pub mod compile;
mod compiler;
pub mod component;
mod confinement;
mod contract;
mod engine;
pub mod failure;
pub mod foreground;
pub mod load;
pub mod needs;
pub mod thread;
pub mod turn;
