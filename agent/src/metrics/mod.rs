//! The host's metrics: one family per file, with the names and formulas of the official agent.
//!
//! To add a family, add its file and its line to [`ALL`]. A family only reads and computes; when it is asked, how long it
//! may take and where its values go is the frame's business (`collect`).

pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod interface;
pub mod loadavg;
pub mod memory;
mod throughput;

use crate::collect::Collector;
use crate::roots::Roots;

/// Every family there is.
pub const ALL: &[Family] = &[
    Family { name: "loadavg", open: |roots| Box::new(loadavg::Loadavg::open(roots)) },
    Family { name: "cpu", open: |roots| Box::new(cpu::Cpu::open(roots)) },
    Family { name: "memory", open: |roots| Box::new(memory::Memory::open(roots)) },
    Family { name: "interface", open: |roots| Box::new(interface::Interface::open(roots)) },
    Family { name: "disk", open: |roots| Box::new(disk::Disk::open(roots)) },
    Family { name: "filesystem", open: |roots| Box::new(filesystem::Filesystem::open(roots)) },
];

/// Metrics that come from one place and share the first segment of their names.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The first segment of its metrics' names, and what the log calls it.
    pub name: &'static str,
    /// Makes its collector, which reads below these roots. Nothing is read yet.
    pub open: fn(&Roots) -> Box<dyn Collector>,
}

#[cfg(test)]
mod tests;
