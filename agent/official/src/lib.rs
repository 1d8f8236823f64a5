//! mackerel-agent and Go, as they are: what the official agent's users wrote is read here as it was meant.
//!
//! Nothing here runs anything; whether a program is installed is only looked at.

pub mod command_line;
pub mod duration;
pub mod glob;
pub mod no_proxy;
pub mod pattern;
pub mod shell;
