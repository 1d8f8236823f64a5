//! The agent as a process: its log, its memory, its notifications to systemd, and the socket that reports the state of its plugins.

pub mod allocator;
pub mod control;
pub mod footprint;
pub mod log;
pub mod service;
