//! What is read of an engine's answers: of the list of containers, and of a container's statistics.
//!
//! Only what a metric is made of: the library's own models hold every field, and refuse all of an answer for one word in it that
//! they do not know. The formats are those of the Engine API 1.24 to 1.56 (`GET /containers/json`, `GET /containers/{id}/stats`)
//! and of Podman's API for Docker's clients. Any part may be missing.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// An entry of the list of containers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// The container's id, of 64 digits.
    pub id: String,
    /// Its names, each behind a slash.
    pub names: Option<Vec<String>>,
    /// What it was started from, as it was named then.
    pub image: Option<String>,
    /// Its labels.
    pub labels: Option<HashMap<String, String>>,
    /// `running`, `paused` and so on.
    pub state: Option<String>,
    status: Option<String>,
    health: Option<Health>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: Option<String>,
}

impl Summary {
    /// Engines since 29 have it in a field of its own, those before in the text for people, `Up 5 minutes (healthy)`.
    #[must_use]
    pub fn healthy(&self) -> Option<bool> {
        let status = self.status.as_deref().unwrap_or_default();
        match self.health.as_ref().and_then(|health| health.status.as_deref()) {
            Some("healthy") => Some(true),
            Some("unhealthy") => Some(false),
            _ if status.ends_with("(healthy)") => Some(true),
            _ if status.ends_with("(unhealthy)") => Some(false),
            _ => None,
        }
    }

    /// Whether it is counted under this word; Podman has one more for those that have exited.
    #[must_use]
    pub fn is_in(&self, state: &str) -> bool {
        let own = self.state.as_deref().map(|own| if own == "stopped" { "exited" } else { own });
        own == Some(state)
    }
}

/// A container's statistics.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    /// When they were read, by the engine's clock; long before 1970 if they were not.
    pub read: Option<String>,
    /// CPU time.
    pub cpu_stats: Option<Cpu>,
    /// Memory.
    pub memory_stats: Option<Memory>,
    /// Block I/O.
    pub blkio_stats: Option<Blkio>,
    /// Processes and threads.
    pub pids_stats: Option<Pids>,
    /// The interfaces of its network, by name.
    pub networks: Option<BTreeMap<String, Link>>,
}

/// CPU time.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cpu {
    /// What it had.
    pub cpu_usage: Option<CpuUsage>,
    /// What it did not get.
    pub throttling_data: Option<Throttling>,
}

/// CPU time, in nanoseconds since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CpuUsage {
    /// In programs.
    pub usage_in_usermode: Option<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: Option<u64>,
}

/// What a limit of CPU does, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Throttling {
    /// Periods in which it wanted CPU.
    pub periods: Option<u64>,
    /// Those in which it had to wait.
    pub throttled_periods: Option<u64>,
    /// Nanoseconds that it waited.
    pub throttled_time: Option<u64>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Memory {
    /// Everything that is counted for it.
    pub usage: Option<u64>,
    /// The most that it may have.
    pub limit: Option<u64>,
    /// The kernel's own numbers.
    pub stats: Option<MemoryStats>,
}

/// Of the file `memory.stat` (the kernel's documentation of control groups), under its names in the first and in the second version.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MemoryStats {
    /// Pages of files, first version.
    pub total_cache: Option<u64>,
    /// Pages of files, second version.
    pub file: Option<u64>,
    /// Pages of programs, first version.
    pub total_rss: Option<u64>,
    /// Pages of programs, second version.
    pub anon: Option<u64>,
    /// Pages of files that nobody has looked at lately, first version.
    pub total_inactive_file: Option<u64>,
    /// The same in the second version; in the first the container's own ones without those of groups below it.
    pub inactive_file: Option<u64>,
}

/// Block I/O, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Blkio {
    /// Requests that wait now.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Requests.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

/// A count of one operation of one device.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BlkioEntry {
    /// `Read` in the first version of control groups, `read` in the second.
    pub op: Option<String>,
    /// How many.
    pub value: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pids {
    /// How many there are.
    pub current: Option<u64>,
    /// How many there may be.
    pub limit: Option<u64>,
}

/// An interface, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Link {
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Bytes sent.
    pub tx_bytes: Option<u64>,
    /// Packets that came broken.
    pub rx_errors: Option<u64>,
    /// Packets that could not be sent.
    pub tx_errors: Option<u64>,
    /// Packets that came and were dropped.
    pub rx_dropped: Option<u64>,
    /// Packets that were to be sent and were dropped.
    pub tx_dropped: Option<u64>,
}
