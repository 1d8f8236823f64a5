//! The parts of an engine's responses that are read: of the list of containers, and of a container's statistics.
//!
//! Only the fields that metrics need: the library's own models have every field, and refuse a whole response for one unknown word in
//! it. The formats are those of the Engine API 1.24 to 1.56 (`GET /containers/json`, `GET /containers/{id}/stats`) and of Podman's
//! API for Docker's clients. Any part may be missing.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// An entry of the list of containers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// The container's id, 64 hexadecimal digits.
    pub id: String,
    /// Its names, each with a leading slash.
    pub names: Option<Vec<String>>,
    /// Its image, by the name that it was started with.
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
    /// The result of its health check. Engines since 29 have a field for it, older ones only the text for people,
    /// `Up 5 minutes (healthy)`.
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

    /// Whether it counts as `state`. Podman also calls exited containers `stopped`.
    #[must_use]
    pub fn is_in(&self, state: &str) -> bool {
        let own = self.state.as_deref().map(|own| if own == "stopped" { "exited" } else { own });
        own == Some(state)
    }
}

/// A container's statistics.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    /// When they were read, by the engine's clock; the year 1 if they were not.
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
    /// The time used.
    pub cpu_usage: Option<CpuUsage>,
    /// The effect of a CPU limit.
    pub throttling_data: Option<Throttling>,
}

/// CPU time, in nanoseconds since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CpuUsage {
    /// In user mode.
    pub usage_in_usermode: Option<u64>,
    /// In kernel mode.
    pub usage_in_kernelmode: Option<u64>,
}

/// The effect of a CPU limit, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Throttling {
    /// Periods in which it was runnable.
    pub periods: Option<u64>,
    /// Periods in which it was throttled.
    pub throttled_periods: Option<u64>,
    /// How long it was throttled, in nanoseconds.
    pub throttled_time: Option<u64>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Memory {
    /// All memory that is charged to it.
    pub usage: Option<u64>,
    /// Its limit, or the machine's memory.
    pub limit: Option<u64>,
    /// The kernel's statistics.
    pub stats: Option<MemoryStats>,
}

/// Fields of `memory.stat` (see the kernel's documentation of control groups), by their names in cgroup v1 and v2.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MemoryStats {
    /// File pages, v1.
    pub total_cache: Option<u64>,
    /// File pages, v2.
    pub file: Option<u64>,
    /// Anonymous memory, v1.
    pub total_rss: Option<u64>,
    /// Anonymous memory, v2.
    pub anon: Option<u64>,
    /// File pages not used recently, v1.
    pub total_inactive_file: Option<u64>,
    /// The same in v2; in v1 the container's own pages, without those of child groups.
    pub inactive_file: Option<u64>,
}

/// Block I/O, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Blkio {
    /// Requests in the queue now.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Completed requests.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

/// The count of one operation on one device.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BlkioEntry {
    /// `Read` in cgroup v1, `read` in v2.
    pub op: Option<String>,
    /// The count.
    pub value: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pids {
    /// The number now.
    pub current: Option<u64>,
    /// The limit.
    pub limit: Option<u64>,
}

/// An interface, counted since the container started.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Link {
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Bytes sent.
    pub tx_bytes: Option<u64>,
    /// Packets received with errors.
    pub rx_errors: Option<u64>,
    /// Packets not sent because of errors.
    pub tx_errors: Option<u64>,
    /// Received packets that were dropped.
    pub rx_dropped: Option<u64>,
    /// Outgoing packets that were dropped.
    pub tx_dropped: Option<u64>,
}
