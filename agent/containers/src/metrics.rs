//! The metrics: one visible list, [`ALL`], of every graph with its lines, and how each value comes out of what an engine says.
//!
//! The first six are the official plugin's, under its names, right on both versions of control groups. The others are told for
//! their word in `extra`.

use wasaba_core::graph::GraphDefinition;

use super::answers::{Blkio, BlkioEntry, Link, Memory, MemoryStats, Stats, Throttling};

/// A graph with the lines of each container, `#` in its name.
pub struct Family {
    /// The word in `extra` that it is told for; the official ones always are.
    pub extra: Option<&'static str>,
    /// Its name, without `custom.`.
    pub graph: &'static str,
    label: &'static str,
    unit: &'static str,
    /// Its lines.
    pub metrics: &'static [Metric],
}

/// A line in a graph.
pub struct Metric {
    /// The last segment of its name.
    pub name: &'static str,
    label: &'static str,
    stacked: bool,
    /// How its readings become values.
    pub reading: Reading,
    /// What becomes of the values of containers that are called the same.
    pub together: fn(f64, f64) -> f64,
    /// Its reading.
    pub read: fn(&Facts) -> Option<f64>,
}

/// How readings become values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As it is.
    Gauge,
    /// The growth of a counter a minute, as the official plugins tell it.
    PerMinute,
    /// The growth of a counter a second.
    PerSecond,
    /// The growth of nanoseconds of CPU, in percent of one core.
    PercentOfCore,
}

/// What an engine says of one container in one minute.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The answer to `/containers/ID/stats`.
    pub stats: Stats,
    /// Whether its health check says so; none while it starts, and without one.
    pub healthy: Option<bool>,
    /// How often its restart policy has started it again.
    pub restarts: Option<f64>,
    /// How often the kernel killed in it for want of memory, since the last collection.
    pub oom_kills: Option<f64>,
    /// Whether its CPU time is wanted as such, not as a share.
    pub in_nanoseconds: bool,
}

const fn line(name: &'static str, label: &'static str, reading: Reading, read: fn(&Facts) -> Option<f64>) -> Metric {
    Metric { name, label, stacked: false, reading, together: sum, read }
}

const fn stacked(name: &'static str, label: &'static str, reading: Reading, read: fn(&Facts) -> Option<f64>) -> Metric {
    Metric { stacked: true, ..line(name, label, reading, read) }
}

/// A graph of block I/O, with the four operations of all devices.
macro_rules! blkio {
    ($graph:literal, $label:literal, $unit:literal, $reading:expr, $entries:ident) => {
        Family {
            extra: None,
            graph: $graph,
            label: $label,
            unit: $unit,
            metrics: &[
                stacked("read", "Read", $reading, |facts| facts.blkio(|blkio| &blkio.$entries, "read")),
                stacked("write", "Write", $reading, |facts| facts.blkio(|blkio| &blkio.$entries, "write")),
                stacked("sync", "Sync", $reading, |facts| facts.blkio(|blkio| &blkio.$entries, "sync")),
                stacked("async", "Async", $reading, |facts| facts.blkio(|blkio| &blkio.$entries, "async")),
            ],
        }
    };
}

fn sum(one: f64, other: f64) -> f64 {
    one + other
}

/// Every graph of containers.
pub const ALL: &[Family] = &[
    Family {
        extra: None,
        graph: "docker.cpuacct.#",
        label: "Docker CPU",
        unit: "integer",
        metrics: &[
            stacked("user", "User", Reading::PerMinute, |facts| user(facts).filter(|_| facts.in_nanoseconds)),
            stacked("system", "System", Reading::PerMinute, |facts| system(facts).filter(|_| facts.in_nanoseconds)),
        ],
    },
    Family {
        extra: None,
        graph: "docker.cpuacct_percentage.#",
        label: "Docker CPU Percentage",
        unit: "percentage",
        metrics: &[
            stacked("user", "User", Reading::PercentOfCore, |facts| user(facts).filter(|_| !facts.in_nanoseconds)),
            stacked("system", "System", Reading::PercentOfCore, |facts| {
                system(facts).filter(|_| !facts.in_nanoseconds)
            }),
        ],
    },
    Family {
        extra: None,
        graph: "docker.memory.#",
        label: "Docker Memory",
        unit: "bytes",
        metrics: &[
            stacked("cache", "Cache", Reading::Gauge, |facts| {
                either(facts, |stats| stats.total_cache, |stats| stats.file)
            }),
            stacked("rss", "RSS", Reading::Gauge, |facts| either(facts, |stats| stats.total_rss, |stats| stats.anon)),
        ],
    },
    blkio!("docker.blkio.io_queued.#", "Docker BlkIO Queued", "integer", Reading::Gauge, io_queue_recursive),
    blkio!("docker.blkio.io_serviced.#", "Docker BlkIO IOPS", "iops", Reading::PerSecond, io_serviced_recursive),
    blkio!(
        "docker.blkio.io_service_bytes.#",
        "Docker BlkIO Bytes",
        "bytes",
        Reading::PerMinute,
        io_service_bytes_recursive
    ),
    Family {
        extra: Some("memory"),
        graph: "docker.memory_usage.#",
        label: "Docker Memory Usage",
        unit: "bytes",
        metrics: &[
            line("used", "Used", Reading::Gauge, used),
            line("limit", "Limit", Reading::Gauge, |facts| facts.memory()?.limit.map(number)),
        ],
    },
    Family {
        extra: Some("memory"),
        graph: "docker.memory_percentage.#",
        label: "Docker Memory Percentage",
        unit: "percentage",
        metrics: &[Metric { together: f64::max, ..line("used", "Used", Reading::Gauge, used_percent) }],
    },
    Family {
        extra: Some("network"),
        graph: "docker.network.#",
        label: "Docker Network",
        unit: "bytes/sec",
        metrics: &[
            line("rx", "Received", Reading::PerSecond, |facts| network(facts, |link| link.rx_bytes)),
            line("tx", "Sent", Reading::PerSecond, |facts| network(facts, |link| link.tx_bytes)),
        ],
    },
    Family {
        extra: Some("network"),
        graph: "docker.network_errors.#",
        label: "Docker Network Errors",
        unit: "float",
        metrics: &[
            line("rx_errors", "Received with errors", Reading::PerMinute, |facts| {
                network(facts, |link| link.rx_errors)
            }),
            line("tx_errors", "Not sent for errors", Reading::PerMinute, |facts| network(facts, |link| link.tx_errors)),
            line("rx_dropped", "Dropped at receiving", Reading::PerMinute, |facts| {
                network(facts, |link| link.rx_dropped)
            }),
            line("tx_dropped", "Dropped at sending", Reading::PerMinute, |facts| {
                network(facts, |link| link.tx_dropped)
            }),
        ],
    },
    Family {
        extra: Some("pids"),
        graph: "docker.pids.#",
        label: "Docker Processes",
        unit: "integer",
        metrics: &[
            line("current", "Current", Reading::Gauge, |facts| facts.stats.pids_stats.as_ref()?.current.map(number)),
            line("limit", "Limit", Reading::Gauge, |facts| limit(facts.stats.pids_stats.as_ref()?.limit?)),
        ],
    },
    Family {
        extra: Some("throttling"),
        graph: "docker.cpu_throttling.#",
        label: "Docker CPU Throttling",
        unit: "float",
        metrics: &[
            line("periods", "Periods", Reading::PerMinute, |facts| facts.throttling()?.periods.map(number)),
            line("throttled", "Throttled Periods", Reading::PerMinute, |facts| {
                facts.throttling()?.throttled_periods.map(number)
            }),
        ],
    },
    Family {
        extra: Some("throttling"),
        graph: "docker.cpu_throttled_time.#",
        label: "Docker CPU Throttled Time",
        unit: "milliseconds",
        metrics: &[line("time", "Time", Reading::PerMinute, |facts| {
            facts.throttling()?.throttled_time.map(|nanoseconds| number(nanoseconds) / 1e6)
        })],
    },
    Family {
        extra: Some("restarts"),
        graph: "docker.restarts.#",
        label: "Docker Restarts",
        unit: "integer",
        metrics: &[line("count", "Count", Reading::Gauge, |facts| facts.restarts)],
    },
    Family {
        extra: Some("health"),
        graph: "docker.health.#",
        label: "Docker Health",
        unit: "integer",
        metrics: &[Metric {
            together: f64::min,
            ..line("healthy", "Healthy", Reading::Gauge, |facts| facts.healthy.map(f64::from))
        }],
    },
    Family {
        extra: Some("oom"),
        graph: "docker.oom_kills.#",
        label: "Docker OOM Kills",
        unit: "integer",
        metrics: &[line("kills", "Kills", Reading::Gauge, |facts| facts.oom_kills)],
    },
];

/// How many containers are in each state: these words of the engine's, in one graph, for `extra = ["state"]`.
pub const STATES: [&str; 8] = ["running", "paused", "restarting", "created", "exited", "dead", "removing", "stopping"];

/// The words of `extra`.
pub const EXTRA: [&str; 9] = ["memory", "network", "pids", "throttling", "restarts", "health", "oom", "state", "up"];

/// How everything that is told with these words in `extra` is drawn; names as they are `renamed`.
///
/// # Errors
/// A name that Mackerel would refuse, which only a renaming can make.
pub fn graphs(extra: &[&str], renamed: impl Fn(&str) -> String) -> Result<Vec<GraphDefinition>, String> {
    let families = ALL.iter().filter(|family| family.is_told(extra)).map(|family| {
        let graph = GraphDefinition::new(&renamed(family.graph), family.label, family.unit)?;
        family
            .metrics
            .iter()
            .try_fold(graph, |graph, metric| graph.with_metric(metric.name, metric.label, metric.stacked))
    });
    let state = extra.contains(&"state").then(|| {
        let graph = GraphDefinition::new(&renamed("docker.containers"), "Docker Containers", "integer")?;
        STATES.iter().try_fold(graph, |graph, state| graph.with_metric(state, state, true))
    });
    let up = extra.contains(&"up").then(|| {
        GraphDefinition::new(&renamed("docker.engine"), "Docker Engine", "integer")?.with_metric("up", "Up", false)
    });
    families.chain(state).chain(up).collect()
}

impl Family {
    /// Whether it is told with these words in `extra`.
    #[must_use]
    pub fn is_told(&self, extra: &[&str]) -> bool {
        self.extra.is_none_or(|word| extra.contains(&word))
    }
}

impl Facts {
    fn memory(&self) -> Option<&Memory> {
        self.stats.memory_stats.as_ref()
    }

    fn blkio(&self, entries: fn(&Blkio) -> &Entries, operation: &str) -> Option<f64> {
        total(entries(self.stats.blkio_stats.as_ref()?), operation)
    }

    fn throttling(&self) -> Option<&Throttling> {
        self.stats.cpu_stats.as_ref()?.throttling_data.as_ref()
    }
}

/// A counter stays below 2^53 in practice; f64 is what Mackerel takes.
fn number(count: u64) -> f64 {
    count as f64
}

/// No limit is written as the largest number that there is.
fn limit(count: u64) -> Option<f64> {
    (count > 0 && count < u64::MAX / 2).then_some(number(count))
}

fn user(facts: &Facts) -> Option<f64> {
    facts.stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.usage_in_usermode.map(number)
}

fn system(facts: &Facts) -> Option<f64> {
    facts.stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.usage_in_kernelmode.map(number)
}

type OfMemory = fn(&MemoryStats) -> Option<u64>;

/// A number of the kernel's, by its names in the first and the second version of control groups.
fn either(facts: &Facts, first: OfMemory, second: OfMemory) -> Option<f64> {
    let stats = facts.memory()?.stats.as_ref()?;
    first(stats).or_else(|| second(stats)).map(number)
}

/// What is used without the pages of files that nobody has looked at lately, as `docker stats` counts it.
fn used(facts: &Facts) -> Option<f64> {
    let usage = number(facts.memory()?.usage?);
    let cache = either(facts, |stats| stats.total_inactive_file, |stats| stats.inactive_file).unwrap_or(0.0);
    Some(if cache < usage { usage - cache } else { usage })
}

fn used_percent(facts: &Facts) -> Option<f64> {
    let limit = limit(facts.memory()?.limit?)?;
    Some(used(facts)? / limit * 100.0)
}

/// The sum over all networks. One without any (it uses the host's) has none of its own.
fn network(facts: &Facts, count: fn(&Link) -> Option<u64>) -> Option<f64> {
    let links = facts.stats.networks.as_ref().filter(|links| !links.is_empty())?;
    links.values().map(count).sum::<Option<u64>>().map(number)
}

type Entries = Option<Vec<BlkioEntry>>;

/// The sum over all devices, whose operations are written `Read` or `read`.
fn total(entries: &Entries, operation: &str) -> Option<f64> {
    let entries = entries.as_ref()?.iter();
    let own = entries.filter(|entry| entry.op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(operation)));
    own.map(|entry| entry.value).reduce(|one, other| one?.checked_add(other?)).flatten().map(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_of_extra_has_a_graph_and_each_graph_a_word() {
        let words = ALL.iter().filter_map(|family| family.extra).chain(["state", "up"]).collect::<BTreeSet<_>>();
        assert_eq!(words, EXTRA.into_iter().collect());
        let all = graphs(&EXTRA, str::to_owned).unwrap();
        assert_eq!(all.iter().map(GraphDefinition::name).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_pages_on_docker_name_each_graph_each_line_and_each_word() {
        for page in [include_str!("../../../docs/docker.md"), include_str!("../../../docs/docker.ja.md")] {
            for family in ALL {
                let row = page.lines().find(|line| line.contains(&format!("`{}`", family.graph)));
                let row = row.unwrap_or_else(|| panic!("{} is missing", family.graph));
                assert!(family.metrics.iter().all(|metric| row.contains(metric.name)), "{row}");
                assert!(family.extra.is_none_or(|word| row.starts_with(&format!("| `{word}` |"))), "{row}");
            }
            assert!(STATES.iter().all(|state| page.contains(state)) && page.contains("`docker.engine`"));
        }
    }

    #[test]
    fn the_official_graphs_are_told_as_the_official_plugin_does() {
        let graphs = graphs(&[], str::to_owned).unwrap();
        let told = wasaba_core::graph::as_official_plugins_tell(&graphs);
        wasaba_testing::golden::assert_golden(
            "../docker/graphs.json",
            &serde_json::from_str::<serde_json::Value>(told.strip_prefix("# mackerel-agent-plugin\n").unwrap())
                .unwrap(),
        );
    }

    fn entries(list: &[(&str, u64)]) -> Entries {
        let entry = |(op, value): &(&str, u64)| BlkioEntry { op: Some((*op).to_owned()), value: Some(*value) };
        Some(list.iter().map(entry).collect())
    }

    #[test]
    fn devices_are_summed_and_operations_written_either_way_count() {
        let both = entries(&[("Read", 5), ("Read", 7), ("write", 1), ("Total", 99)]);
        assert_eq!(["read", "write", "sync"].map(|op| total(&both, op)), [Some(12.0), Some(1.0), None]);
        // An empty list is not zero: the first version of control groups often does not count.
        assert_eq!([total(&entries(&[]), "read"), total(&None, "read")], [None, None]);
        assert_eq!(total(&entries(&[("Read", u64::MAX), ("Read", 1)]), "read"), None);
    }

    #[test]
    fn memory_is_told_apart_by_the_kernels_names_even_where_it_is_zero() {
        let facts = |stats: MemoryStats| {
            let memory = Memory { stats: Some(stats), usage: Some(100), limit: Some(200) };
            Facts { stats: Stats { memory_stats: Some(memory), ..Stats::default() }, ..Facts::default() }
        };
        let rss = |facts: &Facts| either(facts, |stats| stats.total_rss, |stats| stats.anon);
        let first = facts(MemoryStats {
            total_rss: Some(0),
            anon: Some(3),
            total_inactive_file: Some(30),
            ..MemoryStats::default()
        });
        assert_eq!(rss(&first), Some(0.0));
        assert_eq!((used(&first), used_percent(&first)), (Some(70.0), Some(35.0)));
        let second = facts(MemoryStats { anon: Some(60), inactive_file: Some(400), ..MemoryStats::default() });
        assert_eq!(rss(&second), Some(60.0));
        assert_eq!(used(&second), Some(100.0), "more than there is cannot be taken away");
        assert_eq!(rss(&facts(MemoryStats::default())), None);
        assert_eq!((limit(u64::MAX), limit(0), limit(512)), (None, None, Some(512.0)));
    }
}
