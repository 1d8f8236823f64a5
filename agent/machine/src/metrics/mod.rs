//! The host's metrics: one family per file, with the names and formulas of the official agent.
//!
//! To add a family, add its file and its line to [`ALL`]. A family only reads and computes; its schedule, its time limit and where
//! its values go are the frame's business (`collect`).

pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod interface;
pub mod loadavg;
pub mod memory;
pub mod selection;
mod throughput;

use selection::Current;
use wasaba_core::collect::Collector;

use crate::roots::Roots;

/// Every family.
pub const ALL: &[Family] = &[
    Family { name: "loadavg", open: |roots, _| Box::new(loadavg::Loadavg::open(roots)) },
    Family { name: "cpu", open: |roots, _| Box::new(cpu::Cpu::open(roots)) },
    Family { name: "memory", open: |roots, _| Box::new(memory::Memory::open(roots)) },
    Family { name: "interface", open: |roots, selection| Box::new(interface::Interface::open(roots, selection)) },
    Family { name: "disk", open: |roots, selection| Box::new(disk::Disk::open(roots, selection)) },
    Family { name: "filesystem", open: |roots, selection| Box::new(filesystem::Filesystem::open(roots, selection)) },
];

/// Metrics of one origin that share the first segment of their names.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The first segment of its metrics' names, and what the log calls it.
    pub name: &'static str,
    /// Makes its collector, which reads the selected part below these roots. Nothing is read yet.
    pub open: fn(&Roots, &Current) -> Box<dyn Collector>,
}

#[cfg(test)]
mod tests;
