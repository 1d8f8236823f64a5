//! The agent as a process: its log, its memory, what systemd is told, and the socket that tells how its plugins are doing.

pub mod allocator;
pub mod control;
pub mod footprint;
pub mod log;
pub mod service;
