//! The plots: which metrics are drawn together, in which unit and under which title, as Mackerel does it.
//!
//! Mackerel knows the graphs of a host's own metrics by itself, so they are in a table here; those of plugins are in their definitions. What
//! is in no definition is drawn with its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wasaba_core::graph::{Defined, GraphDefinition};
use wasaba_core::wildcard;

/// Metrics that are drawn together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plot {
    /// `cpu`, `custom.nginx.requests`, `custom.a.b @host`.
    pub id: String,
    /// What a person reads above it.
    pub title: String,
    /// One of Mackerel's: `float`, `integer`, `percentage`, `seconds`, `milliseconds`, `bytes`, `bytes/sec`, `bits/sec`, `iops`.
    pub unit: String,
    /// What it is a plot of: `host`, `containers`, `wasaba`, or what collects it: `plugin web`.
    pub group: String,
    /// The custom identifier of the host, if it is another one.
    pub host: Option<String>,
    /// What is drawn in it.
    pub lines: Vec<Line>,
}

/// One metric in a plot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How it is called in the history.
    pub key: String,
    /// What a person reads in the legend.
    pub label: String,
    /// Whether it is drawn on top of those before it.
    pub is_stacked: bool,
}

/// A graph of a host's own metrics.
struct OfHost {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Patterns of names, each with the label; `%1` is what the wildcard stands for. In the order in which they are drawn.
    metrics: &'static [(&'static str, &'static str)],
    is_stacked: bool,
}

const OF_HOST: [OfHost; 8] = [
    OfHost {
        id: "loadavg",
        title: "Load average",
        unit: "float",
        metrics: &[("loadavg1", "1 min"), ("loadavg5", "5 min"), ("loadavg15", "15 min")],
        is_stacked: false,
    },
    OfHost {
        id: "cpu",
        title: "CPU",
        unit: "percentage",
        metrics: &[
            ("cpu.user.percentage", "user"),
            ("cpu.nice.percentage", "nice"),
            ("cpu.system.percentage", "system"),
            ("cpu.irq.percentage", "irq"),
            ("cpu.softirq.percentage", "softirq"),
            ("cpu.iowait.percentage", "iowait"),
            ("cpu.steal.percentage", "steal"),
            ("cpu.guest.percentage", "guest"),
            ("cpu.guest_nice.percentage", "guest nice"),
            ("cpu.idle.percentage", "idle"),
        ],
        is_stacked: true,
    },
    OfHost {
        id: "memory",
        title: "Memory",
        unit: "bytes",
        metrics: &[
            ("memory.used", "used"),
            ("memory.buffers", "buffers"),
            ("memory.cached", "cached"),
            ("memory.free", "free"),
            ("memory.total", "total"),
            ("memory.mem_available", "available"),
        ],
        is_stacked: false,
    },
    OfHost {
        id: "swap",
        title: "Swap",
        unit: "bytes",
        metrics: &[("memory.swap_total", "total"), ("memory.swap_free", "free"), ("memory.swap_cached", "cached")],
        is_stacked: false,
    },
    OfHost {
        id: "disk",
        title: "Disk operations",
        unit: "iops",
        metrics: &[("disk.*.reads.delta", "%1 reads"), ("disk.*.writes.delta", "%1 writes")],
        is_stacked: false,
    },
    OfHost {
        id: "interface",
        title: "Network",
        unit: "bytes/sec",
        metrics: &[("interface.*.rxBytes.delta", "%1 received"), ("interface.*.txBytes.delta", "%1 sent")],
        is_stacked: false,
    },
    OfHost {
        id: "filesystem.used",
        title: "File systems, used",
        unit: "bytes",
        metrics: &[("filesystem.*.used", "%1")],
        is_stacked: false,
    },
    OfHost {
        id: "filesystem.size",
        title: "File systems, size",
        unit: "bytes",
        metrics: &[("filesystem.*.size", "%1")],
        is_stacked: false,
    },
];

/// The plots of these metrics, which are called as in the history, in the order in which they are shown: the host's own, containers', plugins'
/// by their names, the agent's own, and those of other hosts.
#[must_use]
pub fn plots(keys: &[String], defined: &[Defined]) -> Vec<Plot> {
    let mut by_host = BTreeMap::<Option<&str>, BTreeSet<&str>>::new();
    for key in keys {
        let (name, host) = match key.split_once(" @") {
            Some((name, host)) => (name, Some(host)),
            None => (key.as_str(), None),
        };
        by_host.entry(host).or_default().insert(name);
    }
    by_host.into_iter().flat_map(|(host, names)| of_one_host(host, names, defined)).collect()
}

fn of_one_host(host: Option<&str>, mut names: BTreeSet<&str>, defined: &[Defined]) -> Vec<Plot> {
    let mut plots = Vec::new();
    for OfHost { id, title, unit, metrics, is_stacked } in OF_HOST {
        let lines = metrics.iter().flat_map(|(pattern, label)| take(&mut names, host, pattern, label, is_stacked));
        plots.push(plot(host, id, title, unit, "host", lines.collect()));
    }
    // Of two definitions of a name the one with fewer wildcards has it.
    let mut definitions = defined.iter().collect::<Vec<_>>();
    definitions.sort_by_key(|defined| wildcards(defined.graph.name()));
    let mut of_plugins = Vec::new();
    for Defined { owner, graph } in definitions {
        let (mut lines, mut metrics) = (Vec::new(), graph.lines().collect::<Vec<_>>());
        metrics.sort_by_key(|metric| wildcards(metric.name));
        for metric in metrics {
            lines.extend(take(&mut names, host, metric.name, metric.label.unwrap_or_default(), metric.is_stacked));
        }
        let order = graph.lines().map(|metric| metric.name).collect::<Vec<_>>();
        lines.sort_by_key(|line| {
            let name = name_of(&line.key);
            order.iter().position(|pattern| wildcard::matches(pattern, name))
        });
        of_plugins.push(plot(host, graph.name(), title(graph), graph.unit(), group(owner, graph.name()), lines));
    }
    let mut rest = BTreeMap::<&str, Vec<Line>>::new();
    for name in names {
        let (graph, metric) = name.rsplit_once('.').unwrap_or((name, name));
        rest.entry(graph).or_default().push(line(name, host, metric.to_owned(), false));
    }
    for (graph, lines) in rest {
        let group = if graph.starts_with("custom.") { "other" } else { "host" };
        let title = graph.strip_prefix("custom.").unwrap_or(graph);
        of_plugins.push(plot(host, graph, title, "float", group, lines));
    }
    of_plugins.sort_by(|a, b| (place(&a.group), &a.group, &a.id).cmp(&(place(&b.group), &b.group, &b.id)));
    plots.extend(of_plugins);
    plots.retain(|plot| !plot.lines.is_empty());
    plots
}

fn plot(host: Option<&str>, id: &str, title: &str, unit: &str, group: &str, lines: Vec<Line>) -> Plot {
    Plot {
        id: key(host, id),
        title: title.to_owned(),
        unit: unit.to_owned(),
        group: group.to_owned(),
        host: host.map(str::to_owned),
        lines,
    }
}

fn line(name: &str, host: Option<&str>, label: String, is_stacked: bool) -> Line {
    Line { key: key(host, name), label, is_stacked }
}

fn key(host: Option<&str>, name: &str) -> String {
    delivery::spool::key(host, name)
}

fn name_of(key: &str) -> &str {
    key.split_once(" @").map_or(key, |(name, _)| name)
}

/// Takes out of `names` those that match the pattern, as lines.
fn take(names: &mut BTreeSet<&str>, host: Option<&str>, pattern: &str, label: &str, is_stacked: bool) -> Vec<Line> {
    let matching = names.iter().copied().filter(|name| wildcard::matches(pattern, name)).collect::<Vec<_>>();
    let lines = matching.iter().map(|name| {
        names.remove(name);
        line(name, host, labelled(label, pattern, name), is_stacked)
    });
    lines.collect()
}

/// The label with what the wildcards stand for in place of `%1`, `%2`, or before it; without a label, the last part of the name.
fn labelled(label: &str, pattern: &str, name: &str) -> String {
    let parts = pattern.split('.').zip(name.split('.'));
    let found = parts.filter(|(part, _)| matches!(*part, "*" | "#")).map(|(_, found)| found).collect::<Vec<_>>();
    if label.is_empty() {
        let last = name.rsplit('.').next().unwrap_or(name);
        return match found.first().filter(|first| **first != last) {
            Some(first) => format!("{first} {last}"),
            None => last.to_owned(),
        };
    }
    let mut text = label.to_owned();
    let mut is_named = false;
    for (index, found) in found.iter().enumerate() {
        let place = format!("%{}", index + 1);
        is_named |= text.contains(&place);
        text = text.replace(&place, found);
    }
    match found.as_slice() {
        [first, ..] if !is_named => format!("{first} {text}"),
        _ => text,
    }
}

fn title(graph: &GraphDefinition) -> &str {
    graph.label().unwrap_or_else(|| graph.name().strip_prefix("custom.").unwrap_or(graph.name()))
}

fn group<'a>(owner: &'a str, name: &str) -> &'a str {
    if name.starts_with("custom.docker.") {
        "containers"
    } else if name.starts_with("custom.wasaba.") {
        "wasaba"
    } else {
        owner
    }
}

fn place(group: &str) -> usize {
    match group {
        "host" => 0,
        "containers" => 1,
        "other" => 3,
        "wasaba" => 4,
        _ => 2,
    }
}

fn wildcards(pattern: &str) -> usize {
    pattern.split('.').filter(|part| matches!(*part, "*" | "#")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each plot's id, group and lines; each line's key and label.
    type Drawn = Vec<(String, String, Vec<(String, String)>)>;

    fn of(keys: &[&str], defined: &[Defined]) -> Drawn {
        let keys = keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        let lines = |plot: &Plot| plot.lines.iter().map(|line| (line.key.clone(), line.label.clone())).collect();
        plots(&keys, defined).iter().map(|plot| (plot.id.clone(), plot.group.clone(), lines(plot))).collect()
    }

    fn graph(owner: &str, name: &str, metrics: &[(&str, &str)]) -> Defined {
        let graph = GraphDefinition::new(name, "", "bytes").unwrap();
        let graph = metrics.iter().fold(graph, |graph, (name, label)| graph.with_metric(name, label, true).unwrap());
        Defined { owner: owner.into(), graph }
    }

    fn lines(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        lines.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect()
    }

    #[test]
    fn the_hosts_own_metrics_are_grouped_as_mackerel_does_and_in_its_order() {
        let keys = ["cpu.user.percentage", "loadavg5", "loadavg1", "disk.sda.writes.delta", "disk.sda.reads.delta"];
        let found = of(&keys, &[]);
        let expected = [
            ("loadavg", lines(&[("loadavg1", "1 min"), ("loadavg5", "5 min")])),
            ("cpu", lines(&[("cpu.user.percentage", "user")])),
            ("disk", lines(&[("disk.sda.reads.delta", "sda reads"), ("disk.sda.writes.delta", "sda writes")])),
        ];
        let expected = expected.map(|(id, lines)| (id.to_owned(), "host".to_owned(), lines));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_plugins_metrics_are_drawn_by_its_definitions_and_wildcards_are_in_the_labels() {
        let defined = [
            graph("plugin web", "nginx.requests", &[("requests", "")]),
            graph("[docker]", "docker.cpu.#", &[("user", "User"), ("system", "System")]),
            graph("plugin db", "pg.size", &[("*", "db %1")]),
        ];
        let keys = [
            "custom.nginx.requests.requests",
            "custom.docker.cpu.web.user",
            "custom.docker.cpu.web.system",
            "custom.docker.cpu.db.user",
            "custom.pg.size.shop",
        ];
        let found = of(&keys, &defined);
        let docker = [
            ("custom.docker.cpu.db.user", "db User"),
            ("custom.docker.cpu.web.user", "web User"),
            ("custom.docker.cpu.web.system", "web System"),
        ];
        let expected = [
            ("custom.docker.cpu.#", "containers", lines(&docker)),
            ("custom.pg.size", "plugin db", lines(&[("custom.pg.size.shop", "db shop")])),
            ("custom.nginx.requests", "plugin web", lines(&[("custom.nginx.requests.requests", "requests")])),
        ];
        let expected = expected.map(|(id, group, lines)| (id.to_owned(), group.to_owned(), lines));
        assert_eq!(found, expected);
    }

    #[test]
    fn of_two_definitions_the_one_with_fewer_wildcards_has_a_metric_and_none_is_drawn_twice() {
        let defined = [graph("a", "x.*", &[("*", "")]), graph("b", "x.y", &[("z", "")])];
        let found = of(&["custom.x.y.z", "custom.x.y.w"], &defined);
        let ids = found.iter().map(|(id, _, lines)| (id.as_str(), lines.len())).collect::<Vec<_>>();
        assert_eq!(ids, [("custom.x.*", 1), ("custom.x.y", 1)]);
    }

    #[test]
    fn what_is_in_no_definition_is_drawn_with_its_neighbours_and_another_hosts_metrics_apart() {
        let found = of(&["custom.a.b.c", "custom.a.b.d", "custom.a.b.c @db1", "loadavg1 @db1"], &[]);
        let ids = found.iter().map(|(id, group, lines)| (id.as_str(), group.as_str(), lines.len())).collect::<Vec<_>>();
        assert_eq!(ids, [("custom.a.b", "other", 2), ("loadavg @db1", "host", 1), ("custom.a.b @db1", "other", 1)]);
    }

    #[test]
    fn no_metric_is_left_without_a_plot() {
        let keys = ["odd", "memory.active", "custom.x", "cpu.idle.percentage", "custom.docker.cpu.a.b.c"];
        let found = of(&keys, &[graph("plugin a", "docker.cpu.#", &[("user", "")])]);
        let drawn =
            found.iter().flat_map(|(_, _, lines)| lines.iter().map(|(key, _)| key.as_str())).collect::<BTreeSet<_>>();
        assert_eq!(drawn, keys.into_iter().collect());
    }
}
