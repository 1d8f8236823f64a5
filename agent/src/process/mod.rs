//! The agent as a process: its log and the time zone of that, its memory, its notifications to systemd, the socket that reports the state of its plugins,
//! and its requests to a cloud's metadata service.

pub mod allocator;
pub mod control;
pub mod footprint;
pub mod log;
pub mod metadata_service;
pub mod privacy;
pub mod service;
mod time_zone;
