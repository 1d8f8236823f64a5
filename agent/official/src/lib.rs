//! mackerel-agent and Go as they are: what users of the official agent wrote means the same here.
//!
//! Only [`programs`] runs anything; elsewhere it is only looked up whether a program is installed.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod command;
pub mod command_line;
pub mod duration;
pub mod flags;
pub mod glob;
pub mod no_proxy;
pub mod pattern;
pub mod programs;
pub mod proxy;
pub mod shell;
mod table;
