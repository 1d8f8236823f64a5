//! The agent as a process: its log and the time zone of that, its pid file, its memory, its notifications to systemd, the socket that reports its state,
//! and its requests to a cloud's metadata service.

pub mod allocator;
pub mod books;
pub mod confinement;
pub mod control;
pub mod ending;
pub mod feed;
pub mod footprint;
pub mod log;
pub mod look;
pub mod metadata_service;
pub mod owner;
pub mod pidfile;
pub mod privacy;
pub mod service;
pub mod state;
mod time_zone;
