//! The parts of an engine's responses that are read: of the list of containers, and of a container's statistics.
//!
//! Only the fields that metrics need: the library's own models have every field, and refuse a whole response for one unknown word in
//! it. The formats are those of the Engine API 1.24 to 1.56 (`GET /containers/json`, `GET /containers/{id}/stats`) and of Podman's
//! API for Docker's clients. Any part may be missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use wasaba_core::text::printable;

use super::warnings::Warnings;

/// The most containers of an engine. The largest machines have some thousand.
const MOST_CONTAINERS: usize = 50_000;

/// The longest entry of the list, in bytes; one has some kilobytes.
const LONGEST_ENTRY: usize = 256 << 10;

/// The most names and labels in all entries together, each of which takes more memory than it has text.
const MOST_NAMES_AND_LABELS: usize = 500_000;

/// The most devices or interfaces of one container, each operation counted.
const MOST_PARTS: usize = 4_096;

/// The list of containers. Each entry is read for itself, so that one that is invalid costs only itself.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The valid entries.
    pub containers: Vec<Summary>,
    /// What is wrong with the others.
    pub warnings: Warnings,
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_seq(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = List;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of containers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<List, A::Error> {
        let (mut list, mut count, mut parts) = (List::default(), 0, 0);
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            count += 1;
            if count > MOST_CONTAINERS {
                return Err(A::Error::custom(format!("more than {MOST_CONTAINERS} containers")));
            }
            match Summary::of(entry.get()) {
                Ok(container) => {
                    parts += container.names.as_ref().map_or(0, Vec::len);
                    parts += container.labels.as_ref().map_or(0, HashMap::len);
                    list.containers.push(container);
                }
                Err(why) => list.warnings.add(format!("invalid entry in the list of containers: {why}")),
            }
            if parts > MOST_NAMES_AND_LABELS {
                return Err(A::Error::custom(format!("more than {MOST_NAMES_AND_LABELS} names and labels")));
            }
        }
        Ok(list)
    }
}

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
    fn of(entry: &str) -> Result<Self, String> {
        if entry.len() > LONGEST_ENTRY {
            return Err(format!("it is longer than {} KiB", LONGEST_ENTRY >> 10));
        }
        serde_json::from_str(entry).map_err(|error| printable(&error.to_string(), 200))
    }

    /// The result of its health check. Engines since 29 have a field for it, older ones only the text for people,
    /// `Up 5 minutes (healthy)`.
    #[must_use]
    pub fn healthy(&self) -> Option<bool> {
        match self.health()? {
            "healthy" => Some(true),
            "unhealthy" => Some(false),
            _ => None,
        }
    }

    /// The same in the engine's words: `healthy`, `unhealthy` or `starting`.
    #[must_use]
    pub fn health(&self) -> Option<&'static str> {
        let status = self.status.as_deref().unwrap_or_default();
        match self.health.as_ref().and_then(|health| health.status.as_deref()) {
            Some("healthy") => Some("healthy"),
            Some("unhealthy") => Some("unhealthy"),
            Some("starting") => Some("starting"),
            _ if status.ends_with("(healthy)") => Some("healthy"),
            _ if status.ends_with("(unhealthy)") => Some("unhealthy"),
            _ if status.ends_with("(health: starting)") => Some("starting"),
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

/// The part that is read of what an engine says about one container (`GET /containers/{id}/json`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// How often its restart policy restarted it.
    pub restart_count: Option<i64>,
    /// How it is now.
    pub state: Option<InspectedState>,
    /// How it was configured.
    pub host_config: Option<HostConfig>,
}

/// How a container is now.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectedState {
    /// When it was started, as the engine writes it: in RFC 3339.
    pub started_at: Option<String>,
}

/// How a container was configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// The most memory that it may use, in bytes; 0 is no limit.
    pub memory: Option<u64>,
}

/// At most [`MOST_PARTS`] devices, if there is a list.
fn devices<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<BlkioEntry>>, D::Error> {
    Option::<Devices>::deserialize(source).map(|found| found.map(|Devices(entries)| entries))
}

/// At most [`MOST_PARTS`] interfaces, if there is a table.
fn interfaces<'de, D: Deserializer<'de>>(source: D) -> Result<Option<BTreeMap<String, Link>>, D::Error> {
    Option::<Interfaces>::deserialize(source).map(|found| found.map(|Interfaces(links)| links))
}

struct Devices(Vec<BlkioEntry>);

struct Interfaces(BTreeMap<String, Link>);

fn few<E: Error>(count: usize) -> Result<(), E> {
    if count > MOST_PARTS { Err(E::custom(format!("more than {MOST_PARTS} devices or interfaces"))) } else { Ok(()) }
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Devices;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of devices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Devices, A::Error> {
                let mut found = Vec::new();
                while let Some(entry) = entries.next_element()? {
                    found.push(entry);
                    few(found.len())?;
                }
                Ok(Devices(found))
            }
        }
        source.deserialize_seq(Entries)
    }
}

impl<'de> Deserialize<'de> for Interfaces {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Links;
        impl<'de> Visitor<'de> for Links {
            type Value = Interfaces;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table of interfaces")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Interfaces, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((name, link)) = entries.next_entry()? {
                    found.insert(name, link);
                    few(found.len())?;
                }
                Ok(Interfaces(found))
            }
        }
        source.deserialize_map(Links)
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
    #[serde(default, deserialize_with = "interfaces")]
    pub networks: Option<BTreeMap<String, Link>>,
}

/// CPU time.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cpu {
    /// The time used.
    pub cpu_usage: Option<CpuUsage>,
    /// The effect of a CPU limit.
    pub throttling_data: Option<Throttling>,
    /// How many CPUs the container can use.
    pub online_cpus: Option<u32>,
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
    #[serde(default, deserialize_with = "devices")]
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Completed requests.
    #[serde(default, deserialize_with = "devices")]
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Bytes.
    #[serde(default, deserialize_with = "devices")]
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

/// The count of one operation on one device.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BlkioEntry {
    /// The numbers of the device.
    pub major: Option<u64>,
    /// The second of them.
    pub minor: Option<u64>,
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
