//! What a user sees, tested on the built program against real servers: all end-to-end tests, in one program.

mod across_minutes;
mod author;
mod commands;
mod contract;
mod delivery;
mod docker;
mod drop_in;
mod image;
mod languages;
mod life_cycle;
mod nginx;
mod official_plugins;
mod old_command_line;
mod plugins;
mod postgres;
mod programs;
mod redis;
mod service_files;
mod wire;
mod zoo;
