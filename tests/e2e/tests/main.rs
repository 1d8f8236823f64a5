//! The end-to-end tests: the built program against real servers, all in one test program but for `new_plugins`.

mod across_minutes;
mod author;
mod commands;
mod confinement;
mod contract;
mod delivery;
mod docker;
mod drop_in;
mod image;
mod languages;
mod life_cycle;
mod names;
mod nginx;
mod official_plugins;
mod old_command_line;
mod paths;
mod plugins;
mod postgres;
mod programs;
mod redis;
mod secrets;
mod service_files;
mod status;
mod stuck;
mod wire;
mod zoo;
