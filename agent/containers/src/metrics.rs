//! The metrics: one visible list, [`ALL`], of every graph with its lines, and how each value is computed from the engine's responses.
//!
//! The first six are the official plugin's, under its names, correct on both versions of cgroups. The others are posted for their
//! word in `extra`.

use std::collections::BTreeMap;

use wasaba_core::graph::GraphDefinition;

use super::answers::{Blkio, BlkioEntry, Link, Memory, MemoryStats, Stats, Throttling};

/// As many letters of an interface's name tell it from others; Linux has 15.
const LONGEST_INTERFACE: usize = 32;

/// A graph with the lines of each container, whose name replaces `#`.
pub struct Family {
    /// The word in `extra` that selects it; `None` for the official ones, which are always posted.
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
    pub conversion: Conversion,
    /// How the values of containers with the same name are combined.
    pub combine: fn(f64, f64) -> f64,
    /// Its reading.
    pub read: Read,
}

/// How a reading is found.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// It is a single number.
    One(fn(&Facts) -> Option<f64>),
    /// It is a sum over parts.
    Sum(fn(&Facts) -> Option<Parts>),
}

/// The numbers of a container's devices, or of its interfaces, by their names.
pub type Parts = BTreeMap<String, f64>;

impl Metric {
    /// Its reading, by its parts; one that has no parts is its only one, without a name.
    #[must_use]
    pub fn parts(&self, facts: &Facts) -> Option<Parts> {
        match self.read {
            Read::One(read) => read(facts).map(|number| Parts::from([(String::new(), number)])),
            Read::Sum(read) => read(facts),
        }
    }
}

/// How readings become values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The reading itself.
    Gauge,
    /// The growth of a counter per minute, the unit of the official plugins.
    PerMinute,
    /// The growth of a counter per second.
    PerSecond,
    /// The growth of CPU time in nanoseconds, as a percentage of one core.
    PercentOfCore,
}

/// What is known of one container in one minute.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The response to `/containers/ID/stats`.
    pub stats: Stats,
    /// The result of its health check; `None` while it starts, and without a health check.
    pub healthy: Option<bool>,
    /// How often its restart policy restarted it.
    pub restarts: Option<f64>,
    /// Whether its CPU time is posted in nanoseconds instead of percent.
    pub in_nanoseconds: bool,
    /// Whether it runs, and its statistics were read.
    pub is_read: bool,
    /// The answers that were asked for in vain. One of a container that does not run is not among them.
    pub lacking: Vec<Origin>,
}

/// Where the engine says what a metric is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a container's statistics.
    Stats,
    /// In what it says of a container.
    Container,
    /// In the list of containers.
    List,
    /// In its events.
    Events,
}

const fn line(
    name: &'static str,
    label: &'static str,
    conversion: Conversion,
    read: fn(&Facts) -> Option<f64>,
) -> Metric {
    Metric { name, label, stacked: false, conversion, combine: sum, read: Read::One(read) }
}

const fn of_parts(
    name: &'static str,
    label: &'static str,
    conversion: Conversion,
    read: fn(&Facts) -> Option<Parts>,
) -> Metric {
    Metric { name, label, stacked: false, conversion, combine: sum, read: Read::Sum(read) }
}

const fn stacked(
    name: &'static str,
    label: &'static str,
    conversion: Conversion,
    read: fn(&Facts) -> Option<f64>,
) -> Metric {
    Metric { stacked: true, ..line(name, label, conversion, read) }
}

/// A graph of block I/O, with the four operations summed over all devices.
macro_rules! blkio {
    ($graph:literal, $label:literal, $unit:literal, $conversion:expr, $entries:ident) => {
        Family {
            extra: None,
            graph: $graph,
            label: $label,
            unit: $unit,
            metrics: &[
                Metric {
                    stacked: true,
                    ..of_parts("read", "Read", $conversion, |facts| facts.blkio(|blkio| &blkio.$entries, "read"))
                },
                Metric {
                    stacked: true,
                    ..of_parts("write", "Write", $conversion, |facts| facts.blkio(|blkio| &blkio.$entries, "write"))
                },
                Metric {
                    stacked: true,
                    ..of_parts("sync", "Sync", $conversion, |facts| facts.blkio(|blkio| &blkio.$entries, "sync"))
                },
                Metric {
                    stacked: true,
                    ..of_parts("async", "Async", $conversion, |facts| facts.blkio(|blkio| &blkio.$entries, "async"))
                },
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
            stacked("user", "User", Conversion::PerMinute, |facts| user(facts).filter(|_| facts.in_nanoseconds)),
            stacked("system", "System", Conversion::PerMinute, |facts| system(facts).filter(|_| facts.in_nanoseconds)),
        ],
    },
    Family {
        extra: None,
        graph: "docker.cpuacct_percentage.#",
        label: "Docker CPU Percentage",
        unit: "percentage",
        metrics: &[
            stacked("user", "User", Conversion::PercentOfCore, |facts| user(facts).filter(|_| !facts.in_nanoseconds)),
            stacked("system", "System", Conversion::PercentOfCore, |facts| {
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
            stacked("cache", "Cache", Conversion::Gauge, |facts| {
                either(facts, |stats| stats.total_cache, |stats| stats.file)
            }),
            stacked("rss", "RSS", Conversion::Gauge, |facts| {
                either(facts, |stats| stats.total_rss, |stats| stats.anon)
            }),
        ],
    },
    blkio!("docker.blkio.io_queued.#", "Docker BlkIO Queued", "integer", Conversion::Gauge, io_queue_recursive),
    blkio!("docker.blkio.io_serviced.#", "Docker BlkIO IOPS", "iops", Conversion::PerSecond, io_serviced_recursive),
    blkio!(
        "docker.blkio.io_service_bytes.#",
        "Docker BlkIO Bytes",
        "bytes",
        Conversion::PerMinute,
        io_service_bytes_recursive
    ),
    Family {
        extra: Some("memory"),
        graph: "docker.memory_usage.#",
        label: "Docker Memory Usage",
        unit: "bytes",
        metrics: &[
            line("used", "Used", Conversion::Gauge, used),
            line("limit", "Limit", Conversion::Gauge, |facts| facts.memory()?.limit.map(number)),
        ],
    },
    Family {
        extra: Some("memory"),
        graph: "docker.memory_percentage.#",
        label: "Docker Memory Percentage",
        unit: "percentage",
        metrics: &[Metric { combine: f64::max, ..line("used", "Used", Conversion::Gauge, used_percent) }],
    },
    Family {
        extra: Some("network"),
        graph: "docker.network.#",
        label: "Docker Network",
        unit: "bytes/sec",
        metrics: &[
            of_parts("rx", "Received", Conversion::PerSecond, |facts| network(facts, |link| link.rx_bytes)),
            of_parts("tx", "Sent", Conversion::PerSecond, |facts| network(facts, |link| link.tx_bytes)),
        ],
    },
    Family {
        extra: Some("network"),
        graph: "docker.network_errors.#",
        label: "Docker Network Errors",
        unit: "float",
        metrics: &[
            of_parts("rx_errors", "Received with errors", Conversion::PerMinute, |facts| {
                network(facts, |link| link.rx_errors)
            }),
            of_parts("tx_errors", "Not sent for errors", Conversion::PerMinute, |facts| {
                network(facts, |link| link.tx_errors)
            }),
            of_parts("rx_dropped", "Dropped at receiving", Conversion::PerMinute, |facts| {
                network(facts, |link| link.rx_dropped)
            }),
            of_parts("tx_dropped", "Dropped at sending", Conversion::PerMinute, |facts| {
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
            line("current", "Current", Conversion::Gauge, |facts| facts.stats.pids_stats.as_ref()?.current.map(number)),
            line("limit", "Limit", Conversion::Gauge, |facts| limit(facts.stats.pids_stats.as_ref()?.limit?)),
        ],
    },
    Family {
        extra: Some("throttling"),
        graph: "docker.cpu_throttling.#",
        label: "Docker CPU Throttling",
        unit: "float",
        metrics: &[
            line("periods", "Periods", Conversion::PerMinute, |facts| facts.throttling()?.periods.map(number)),
            line("throttled", "Throttled Periods", Conversion::PerMinute, |facts| {
                facts.throttling()?.throttled_periods.map(number)
            }),
        ],
    },
    Family {
        extra: Some("throttling"),
        graph: "docker.cpu_throttled_time.#",
        label: "Docker CPU Throttled Time",
        unit: "milliseconds",
        metrics: &[line("time", "Time", Conversion::PerMinute, |facts| {
            facts.throttling()?.throttled_time.map(|nanoseconds| number(nanoseconds) / 1e6)
        })],
    },
    Family {
        extra: Some("restarts"),
        graph: "docker.restarts.#",
        label: "Docker Restarts",
        unit: "integer",
        metrics: &[line("count", "Count", Conversion::Gauge, |facts| facts.restarts)],
    },
    Family {
        extra: Some("health"),
        graph: "docker.health.#",
        label: "Docker Health",
        unit: "integer",
        metrics: &[Metric {
            combine: f64::min,
            ..line("healthy", "Healthy", Conversion::Gauge, |facts| facts.healthy.map(f64::from))
        }],
    },
    Family {
        extra: Some("oom"),
        graph: "docker.oom_kills.#",
        label: "Docker OOM Kills",
        unit: "integer",
        // They are counted in the engine's events.
        metrics: &[line("kills", "Kills", Conversion::Gauge, |_| None)],
    },
];

/// Each metric with its graph and its place in [`ALL`], of which there are fewer than 64.
pub fn places() -> impl Iterator<Item = (u32, &'static Family, &'static Metric)> {
    let all = ALL.iter().flat_map(|family| family.metrics.iter().map(move |metric| (family, metric)));
    (0..).zip(all).map(|(place, (family, metric))| (place, family, metric))
}

/// The engine's words for the states of containers, whose counts are one graph, for `extra = ["state"]`.
pub const STATES: [&str; 8] = ["running", "paused", "restarting", "created", "exited", "dead", "removing", "stopping"];

/// The words of `extra`.
pub const EXTRA: [&str; 9] = ["memory", "network", "pids", "throttling", "restarts", "health", "oom", "state", "up"];

/// The graph definitions for these words in `extra`, with names after `renamed`.
///
/// # Errors
/// A name that Mackerel would refuse, which only `renamed` can cause.
pub fn graphs(extra: &[&str], renamed: impl Fn(&str) -> String) -> Result<Vec<GraphDefinition>, String> {
    let families = ALL.iter().filter(|family| family.is_selected(extra)).map(|family| {
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
    /// The name of a metric of the containers that are called `key`.
    #[must_use]
    pub fn line(&self, key: &str, metric: &Metric) -> String {
        format!("{}.{}", self.graph.replace('#', key), metric.name)
    }

    /// Where its values come from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.extra {
            Some("restarts") => Origin::Container,
            Some("health") => Origin::List,
            Some("oom") => Origin::Events,
            _ => Origin::Stats,
        }
    }

    /// Whether it is posted for these words in `extra`.
    #[must_use]
    pub fn is_selected(&self, extra: &[&str]) -> bool {
        self.extra.is_none_or(|word| extra.contains(&word))
    }
}

impl Facts {
    fn memory(&self) -> Option<&Memory> {
        self.stats.memory_stats.as_ref()
    }

    fn blkio(&self, entries: fn(&Blkio) -> &Entries, operation: &str) -> Option<Parts> {
        devices(entries(self.stats.blkio_stats.as_ref()?), operation)
    }

    fn throttling(&self) -> Option<&Throttling> {
        self.stats.cpu_stats.as_ref()?.throttling_data.as_ref()
    }
}

/// Counters stay below 2^53 in practice, so f64, which Mackerel takes, is exact.
fn number(count: u64) -> f64 {
    count as f64
}

/// Without a limit, engines write 0 or a number near the largest possible.
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

/// A number of the kernel's, by its names in cgroup v1 and v2.
fn either(facts: &Facts, v1: OfMemory, v2: OfMemory) -> Option<f64> {
    let stats = facts.memory()?.stats.as_ref()?;
    v1(stats).or_else(|| v2(stats)).map(number)
}

/// Usage without file pages that were not used recently, as `docker stats` counts it.
fn used(facts: &Facts) -> Option<f64> {
    let usage = number(facts.memory()?.usage?);
    let cache = either(facts, |stats| stats.total_inactive_file, |stats| stats.inactive_file).unwrap_or(0.0);
    Some(if cache < usage { usage - cache } else { usage })
}

fn used_percent(facts: &Facts) -> Option<f64> {
    let limit = limit(facts.memory()?.limit?)?;
    Some(used(facts)? / limit * 100.0)
}

/// Each of its networks; `None` without any, as where the host's network is used.
fn network(facts: &Facts, count: fn(&Link) -> Option<u64>) -> Option<Parts> {
    let links = facts.stats.networks.as_ref().filter(|links| !links.is_empty())?;
    summed(links.iter().map(|(name, link)| (name.chars().take(LONGEST_INTERFACE).collect(), count(link))))
}

type Entries = Option<Vec<BlkioEntry>>;

/// One operation, written `Read` or `read`, on each device.
fn devices(entries: &Entries, operation: &str) -> Option<Parts> {
    let entries = entries.as_ref()?.iter();
    let own = entries.filter(|entry| entry.op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(operation)));
    let number = |number: Option<u64>| number.unwrap_or_default();
    let parts = own.map(|entry| (format!("{}:{}", number(entry.major), number(entry.minor)), entry.value));
    summed(parts).filter(|parts| !parts.is_empty())
}

/// The sums by name; `None` if a number is missing.
fn summed(parts: impl Iterator<Item = (String, Option<u64>)>) -> Option<Parts> {
    let mut sums = BTreeMap::<String, u64>::new();
    for (name, count) in parts {
        let sum = sums.entry(name).or_default();
        *sum = sum.checked_add(count?)?;
    }
    Some(sums.into_iter().map(|(name, sum)| (name, number(sum))).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_place_has_a_bit() {
        assert!(places().count() <= 64);
    }

    #[test]
    fn each_word_of_extra_has_a_graph() {
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
    fn the_official_graphs_equal_those_of_the_official_plugin() {
        let graphs = graphs(&[], str::to_owned).unwrap();
        let printed = wasaba_core::graph::in_official_form(&graphs);
        wasaba_testing::golden::assert_golden(
            "../docker/graphs.json",
            &serde_json::from_str::<serde_json::Value>(printed.strip_prefix("# mackerel-agent-plugin\n").unwrap())
                .unwrap(),
        );
    }

    fn entries(list: &[(&str, u64)]) -> Entries {
        let entry = |(op, value): &(&str, u64)| BlkioEntry {
            op: Some((*op).to_owned()),
            value: Some(*value),
            ..BlkioEntry::default()
        };
        Some(list.iter().map(entry).collect())
    }

    fn total(entries: &Entries, operation: &str) -> Option<f64> {
        Some(devices(entries, operation)?.values().sum())
    }

    #[test]
    fn devices_are_summed_and_the_case_of_an_operation_is_ignored() {
        let both = entries(&[("Read", 5), ("Read", 7), ("write", 1), ("Total", 99)]);
        assert_eq!(["read", "write", "sync"].map(|op| total(&both, op)), [Some(12.0), Some(1.0), None]);
        // An empty list is not zero: cgroup v1 often does not count.
        assert_eq!([total(&entries(&[]), "read"), total(&None, "read")], [None, None]);
        assert_eq!(total(&entries(&[("Read", u64::MAX), ("Read", 1)]), "read"), None);
    }

    #[test]
    fn memory_is_read_by_the_names_of_its_cgroup_version_even_where_it_is_zero() {
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
        assert_eq!(used(&second), Some(100.0), "a cache above the usage is not subtracted");
        assert_eq!(rss(&facts(MemoryStats::default())), None);
        assert_eq!((limit(u64::MAX), limit(0), limit(512)), (None, None, Some(512.0)));
    }
}
