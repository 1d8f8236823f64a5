//! What the official `mackerel-plugin-redis` collects.

use std::ops::Add;

use wasaba_plugin::{Graph, Metric, Part, Prefix, Unit, Values};

use crate::read::{Read, Report, known, part};

/// Each part.
pub(crate) const ALL: &[Part<Read>] = &[
    part("info", None, info_graphs, |report| Ok(plain(report, INFO))),
    part("keys", None, keys_graphs, |report| Ok(keys(report))),
    part("capacity", None, capacity_graphs, |report| Ok(capacity(report))),
    part("cluster", None, cluster_graphs, |report| Ok(cluster(report))),
    part("replicas", None, replicas_graphs, |report| Ok(replicas(report))),
];

/// A metric that is a field of the same name: its graph, its name, its label, and its kind.
pub(crate) type Field = (&'static str, &'static str, &'static str, Kind);

/// How a field becomes a value, and whether it is stacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gauge,
    StackedGauge,
    PerMinute,
    StackedPerMinute,
}

impl Kind {
    pub(crate) fn metric(self, name: &str, label: &str) -> Metric {
        match self {
            Self::Gauge => Metric::gauge(name, label),
            Self::StackedGauge => Metric::gauge(name, label).stacked(),
            Self::PerMinute => Metric::per_minute(name, label),
            Self::StackedPerMinute => Metric::per_minute(name, label).stacked(),
        }
    }
}

/// The graph `key` with its metrics out of `fields`.
pub(crate) fn graph(prefix: &Prefix, (key, label, unit): (&str, &str, Unit), fields: &[Field]) -> Graph {
    let fields = fields.iter().filter(|(graph, ..)| *graph == key);
    fields.fold(prefix.graph(key, label, unit), |graph, (_, name, label, kind)| graph.metric(kind.metric(name, label)))
}

const INFO: &[Field] = &[
    ("queries", "total_commands_processed", "Queries", Kind::PerMinute),
    ("connections", "total_connections_received", "Connections", Kind::StackedPerMinute),
    ("connections", "rejected_connections", "Rejected Connections", Kind::StackedPerMinute),
    ("clients", "connected_clients", "Connected Clients", Kind::StackedGauge),
    ("clients", "blocked_clients", "Blocked Clients", Kind::StackedGauge),
    ("clients", "connected_slaves", "Connected Slaves", Kind::StackedGauge),
    ("keyspace", "keyspace_hits", "Keyspace Hits", Kind::PerMinute),
    ("keyspace", "keyspace_misses", "Keyspace Missed", Kind::PerMinute),
    ("memory", "used_memory", "Used Memory", Kind::Gauge),
    ("memory", "used_memory_rss", "Used Memory RSS", Kind::Gauge),
    ("memory", "used_memory_peak", "Used Memory Peak", Kind::Gauge),
    ("memory", "used_memory_lua", "Used Memory Lua engine", Kind::Gauge),
    ("uptime", "uptime_in_seconds", "Uptime In Seconds", Kind::Gauge),
];

fn info_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graphs = [
        ("queries", "Queries", Unit::Integer),
        ("connections", "Connections", Unit::Integer),
        ("clients", "Clients", Unit::Integer),
        ("keyspace", "Keyspace", Unit::Integer),
        ("memory", "Memory", Unit::Integer),
        ("uptime", "Uptime", Unit::Integer),
    ];
    graphs.map(|about| graph(prefix, about, INFO)).into()
}

/// The values of plain fields.
pub(crate) fn plain(report: &Report<'_>, fields: &[Field]) -> Values {
    let value = |(graph, name, ..): &Field| Some(([graph, ".", name].concat(), report.info.number(name)?));
    fields.iter().filter_map(value).collect()
}

const KEYS: &[Field] = &[
    ("keys", "keys", "Keys", Kind::Gauge),
    ("keys", "expires", "Keys with expiration", Kind::Gauge),
    ("keys", "expired", "Expired Keys", Kind::PerMinute),
    ("keys", "evicted_keys", "Evicted Keys", Kind::PerMinute),
];

fn keys_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![graph(prefix, ("keys", "Keys", Unit::Integer), KEYS)]
}

/// Sums over all databases; a server without keys lists none.
fn keys(report: &Report<'_>) -> Values {
    let info = &report.info;
    let sum = |field| info.databases().filter_map(|(_, fields)| fields.number(field)).fold(0.0, Add::add);
    known([
        ("keys.keys", Some(sum("keys"))),
        ("keys.expires", Some(sum("expires"))),
        ("keys.expired", info.number("expired_keys")),
        ("keys.evicted_keys", info.number("evicted_keys")),
    ])
}

const CAPACITY: &[Field] = &[
    ("capacity", "percentage_of_memory", "Percentage of memory", Kind::Gauge),
    ("capacity", "percentage_of_clients", "Percentage of clients", Kind::Gauge),
];

fn capacity_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![graph(prefix, ("capacity", "Capacity", Unit::Percentage), CAPACITY)]
}

/// 0 % of an unlimited memory is used.
fn capacity(report: &Report<'_>) -> Values {
    let used = |field, most: Option<f64>| {
        let used = report.info.number(field)?;
        most.map(|most| if most > 0.0 { 100.0 * used / most } else { 0.0 })
    };
    known([
        ("capacity.percentage_of_memory", used("used_memory", report.max_memory)),
        ("capacity.percentage_of_clients", used("connected_clients", report.max_clients.filter(|most| *most > 0.0))),
    ])
}

const CLUSTER: &[Field] = &[
    ("cluster", "cluster_known_nodes", "Known Nodes", Kind::Gauge),
    ("cluster", "cluster_size", "Size", Kind::Gauge),
    ("cluster_state", "cluster_state", "State (1: ok, 0: fail)", Kind::Gauge),
    ("cluster_slots", "cluster_slots_assigned", "Slots Assigned", Kind::Gauge),
    ("cluster_slots", "cluster_slots_ok", "Slots OK", Kind::Gauge),
    ("cluster_slots", "cluster_slots_pfail", "Slots PFAIL", Kind::Gauge),
    ("cluster_slots", "cluster_slots_fail", "Slots FAIL", Kind::Gauge),
    ("cluster_stats", "cluster_stats_messages_ping_sent", "Messages PING Sent", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_pong_sent", "Messages PONG Sent", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_fail_sent", "Messages FAIL Sent", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_sent", "Messages Sent", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_ping_received", "Messages PING Received", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_pong_received", "Messages PONG Received", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_fail_received", "Messages FAIL Received", Kind::PerMinute),
    ("cluster_stats", "cluster_stats_messages_received", "Messages Received", Kind::PerMinute),
];

fn cluster_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graphs = [
        ("cluster", "Cluster", Unit::Integer),
        ("cluster_state", "Cluster State", Unit::Integer),
        ("cluster_slots", "Cluster Slots", Unit::Integer),
        ("cluster_stats", "Cluster Stats", Unit::Integer),
    ];
    graphs.map(|about| graph(prefix, about, CLUSTER)).into()
}

fn cluster(report: &Report<'_>) -> Values {
    let value = |(graph, name, ..): &Field| {
        let value = match *name {
            "cluster_state" => report.cluster.text(name).map(|state| if state == "ok" { 1.0 } else { 0.0 }),
            _ => report.cluster.number(name),
        };
        Some((format!("{graph}.{name}"), value?))
    };
    CLUSTER.iter().filter_map(value).collect()
}

/// The official plugin defines graphs for the replicas that exist when the agent starts; here a wildcard covers each.
fn replicas_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix.graph("lag", "Slave Lag", Unit::Seconds).metric(Metric::gauge("*", "Replication lag to %1")),
        prefix
            .graph("offset_delay", "Slave Offset Delay", Unit::Integer)
            .metric(Metric::gauge("*", "Offset delay to %1")),
    ]
}

fn replicas(report: &Report<'_>) -> Values {
    let here = report.info.number("master_repl_offset");
    let of_replica = |(number, fields): (&str, crate::info::Fields<'_>)| {
        let delay = here.zip(fields.number("offset")).map(|(here, there)| here - there);
        let lag = fields.number("lag").map(|lag| (format!("lag.slave{number}_lag"), lag));
        [lag, delay.map(|delay| (format!("offset_delay.slave{number}_offset_delay"), delay))]
    };
    report.info.replicas().flat_map(of_replica).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::Info;

    fn report(text: &str) -> Report<'_> {
        Report { info: Info::parse(text), ..Report::default() }
    }

    fn named(values: &Values) -> Vec<(&str, f64)> {
        values.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    #[test]
    fn a_missing_field_has_no_value_rather_than_0() {
        assert_eq!(plain(&report("used_memory:5\nblocked_clients:x"), INFO), [("memory.used_memory".to_owned(), 5.0)]);
        assert_eq!(cluster(&report("used_memory:5")), []);
    }

    #[test]
    fn keys_are_summed_over_databases_and_are_0_without_any() {
        let text = "db0:keys=3,expires=2,avg_ttl=1\ndb1:keys=1,expires=1\ndb0_distrib_lists_items:1=5\nexpired_keys:2\nevicted_keys:0";
        let expected = [("keys.keys", 4.0), ("keys.expires", 3.0), ("keys.expired", 2.0), ("keys.evicted_keys", 0.0)];
        assert_eq!(named(&keys(&report(text))), expected);
        assert_eq!(named(&keys(&report(""))), [("keys.keys", 0.0), ("keys.expires", 0.0)]);
    }

    #[test]
    fn the_capacity_is_0_without_a_limit_and_missing_if_the_limit_is_unknown() {
        let with = |max_memory, max_clients| Report {
            max_memory,
            max_clients,
            ..report("used_memory:1048576\nconnected_clients:5")
        };
        let full = capacity(&with(Some(1_048_576.0), Some(50.0)));
        assert_eq!(named(&full), [("capacity.percentage_of_memory", 100.0), ("capacity.percentage_of_clients", 10.0)]);
        assert_eq!(named(&capacity(&with(Some(0.0), None))), [("capacity.percentage_of_memory", 0.0)]);
    }

    #[test]
    fn a_cluster_that_is_not_ok_is_0() {
        let with = |text| Report { cluster: Info::parse(text), ..Report::default() };
        assert_eq!(
            named(&cluster(&with("cluster_state:ok\ncluster_size:3"))),
            [("cluster.cluster_size", 3.0), ("cluster_state.cluster_state", 1.0)]
        );
        assert_eq!(named(&cluster(&with("cluster_state:fail"))), [("cluster_state.cluster_state", 0.0)]);
    }

    #[test]
    fn each_replica_has_its_lag_and_its_delay() {
        let text = "slave0:ip=10.0.0.2,port=6379,state=online,offset=90,lag=1\nslave1:ip=::1,port=6380,state=send_bulk,offset=0,lag=0,extra=1\n\
                    slave2:ip=a,port=1,state=wait_bgsave\nmaster_repl_offset:100";
        let expected = [
            ("lag.slave0_lag", 1.0),
            ("offset_delay.slave0_offset_delay", 10.0),
            ("lag.slave1_lag", 0.0),
            ("offset_delay.slave1_offset_delay", 100.0),
        ];
        assert_eq!(named(&replicas(&report(text))), expected);
        assert_eq!(
            named(&replicas(&report("slave0:lag=1,offset=5"))),
            [("lag.slave0_lag", 1.0)],
            "the primary's offset is unknown"
        );
    }
}
