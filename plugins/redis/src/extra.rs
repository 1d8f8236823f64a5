//! What the official plugin does not collect: each part only if the setting `extra` names it.

use wasaba_plugin::{Error, Graph, Metric, Part, Prefix, Unit, Values, kv, segment};

use crate::info::Fields;
use crate::official::{Field, Kind, graph, plain};
use crate::read::{Read, Report, known, part};

/// Each part, with the name that the operator writes.
pub(crate) const ALL: &[Part<Read>] = &[
    part("commands", Some("commandstats"), commands_graphs, |report| Ok(commands(report))),
    part("latency", Some("latencystats"), latency_graphs, |report| Ok(latency(report))),
    part("hit-ratio", None, hit_ratio_graphs, hit_ratio),
    part("memory", None, memory_graphs, |report| Ok(plain(report, MEMORY))),
    part("databases", None, databases_graphs, |report| Ok(databases(report))),
    part("persistence", None, persistence_graphs, |report| Ok(persistence(report))),
    part("network", None, network_graphs, |report| Ok(network(report))),
    part("replica", None, replica_graphs, |report| Ok(replica(report))),
];

fn commands_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graph = |key, label, unit, metric: Metric| prefix.graph(key, label, unit).metric(metric);
    vec![
        graph("command_calls", "Commands", Unit::Integer, Metric::per_minute("*", "%1").stacked()),
        // In microseconds on the server.
        graph("command_time", "Command Time", Unit::Milliseconds, Metric::per_minute("*", "%1").stacked().scale(0.001)),
        graph("command_failures", "Failed Commands", Unit::Integer, Metric::per_minute("*", "%1").stacked()),
    ]
}

fn commands(report: &Report<'_>) -> Values {
    let of_command = |(command, fields): (&str, Fields<'_>)| {
        let command = segment(command);
        // From Redis 6.2 on.
        let failures = fields
            .number("failed_calls")
            .zip(fields.number("rejected_calls"))
            .map(|(failed, rejected)| failed + rejected);
        [("calls", fields.number("calls")), ("time", fields.number("usec")), ("failures", failures)]
            .map(|(graph, value)| Some((format!("command_{graph}.{command}"), value?)))
    };
    report.info.with_prefix("cmdstat_").flat_map(of_command).flatten().collect()
}

fn latency_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![prefix.graph("latency.#", "Latency", Unit::Milliseconds).metric(Metric::gauge("*", "%1 %2").scale(0.001))]
}

/// From Redis 7 on. The server's `latency-tracking-info-percentiles` says which percentiles there are.
fn latency(report: &Report<'_>) -> Values {
    let commands = report.info.with_prefix("latency_percentiles_usec_");
    let of_command = |(command, fields): (&str, Fields<'_>)| {
        let command = segment(command);
        let percentiles =
            fields.iter().filter_map(|(percentile, micros)| Some((segment(percentile), micros.parse().ok()?)));
        percentiles.map(|(percentile, micros)| (format!("latency.{command}.{percentile}"), micros)).collect::<Values>()
    };
    commands.flat_map(of_command).collect()
}

fn hit_ratio_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![prefix.graph("hit_ratio", "Hit Ratio", Unit::Percentage).metric(Metric::gauge("ratio", "Hit ratio"))]
}

/// How many of the keys that were looked up since the previous minute existed.
fn hit_ratio(report: &Report<'_>) -> Result<Values, Error> {
    let (hits, misses) = (report.info.count("keyspace_hits"), report.info.count("keyspace_misses"));
    let (Some(hits), Some(misses)) = (hits, misses) else { return Ok(Values::new()) };
    let ratio = kv::growth("hits", [hits, misses])?.and_then(|[hits, misses]| ratio(hits, misses));
    Ok(ratio.map(|ratio| ("hit_ratio.ratio".to_owned(), ratio)).into_iter().collect())
}

/// In percent; `None` if nothing was looked up.
fn ratio(hits: u64, misses: u64) -> Option<f64> {
    let all = hits.checked_add(misses).filter(|all| *all > 0)?;
    Some(100.0 * hits as f64 / all as f64)
}

const MEMORY: &[Field] = &[
    ("fragmentation", "mem_fragmentation_ratio", "RSS / used memory", Kind::Gauge),
    ("memory_use", "used_memory_dataset", "Data", Kind::StackedGauge),
    ("memory_use", "used_memory_overhead", "Overhead", Kind::StackedGauge),
];

fn memory_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graphs = [("fragmentation", "Memory Fragmentation", Unit::Float), ("memory_use", "Memory Use", Unit::Bytes)];
    graphs.map(|about| graph(prefix, about, MEMORY)).into()
}

fn databases_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("database_keys.#", "Keys of Databases", Unit::Integer)
            .metric(Metric::gauge("keys", "Keys"))
            .metric(Metric::gauge("expires", "Keys with expiration")),
        // In milliseconds on the server.
        prefix
            .graph("database_ttl", "Average Time to Live", Unit::Seconds)
            .metric(Metric::gauge("*", "%1").scale(0.001)),
    ]
}

fn databases(report: &Report<'_>) -> Values {
    let of_database = |(number, fields): (&str, Fields<'_>)| {
        let values = [
            (format!("database_keys.db{number}.keys"), fields.number("keys")),
            (format!("database_keys.db{number}.expires"), fields.number("expires")),
            (format!("database_ttl.db{number}"), fields.number("avg_ttl")),
        ];
        values.map(|(name, value)| Some((name, value?)))
    };
    report.info.databases().flat_map(of_database).flatten().collect()
}

fn persistence_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("persistence", "Persistence (1: ok, 0: failed)", Unit::Integer)
            .metric(Metric::gauge("rdb_last_bgsave", "Last RDB save"))
            .metric(Metric::gauge("aof_last_write", "Last AOF write"))
            .metric(Metric::gauge("aof_last_bgrewrite", "Last AOF rewrite")),
        prefix.graph("rdb_age", "Age of RDB", Unit::Seconds).metric(Metric::gauge("seconds", "Since the last save")),
        prefix
            .graph("rdb_changes", "Changes since RDB", Unit::Integer)
            .metric(Metric::gauge("changes", "Changes since the last save")),
        prefix.graph("fork", "Fork", Unit::Milliseconds).metric(Metric::gauge("latest", "Latest fork").scale(0.001)),
        prefix
            .graph("persisting", "Persisting (1: yes, 0: no)", Unit::Integer)
            .metric(Metric::gauge("rdb", "RDB save"))
            .metric(Metric::gauge("aof", "AOF rewrite"))
            .metric(Metric::gauge("loading", "Loading")),
    ]
}

/// The age is by the server's own clock, which INFO has from Redis 6.2 on.
fn persistence(report: &Report<'_>) -> Values {
    let info = &report.info;
    let ok = |key| info.text(key).map(|status| if status == "ok" { 1.0 } else { 0.0 });
    let now = info.number("server_time_usec").map(|micros| micros / 1e6);
    let age = now.zip(info.number("rdb_last_save_time")).map(|(now, saved)| (now - saved).max(0.0));
    known([
        ("persistence.rdb_last_bgsave", ok("rdb_last_bgsave_status")),
        ("persistence.aof_last_write", ok("aof_last_write_status")),
        ("persistence.aof_last_bgrewrite", ok("aof_last_bgrewrite_status")),
        ("rdb_age.seconds", age),
        ("rdb_changes.changes", info.number("rdb_changes_since_last_save")),
        ("fork.latest", info.number("latest_fork_usec")),
        ("persisting.rdb", info.number("rdb_bgsave_in_progress")),
        ("persisting.aof", info.number("aof_rewrite_in_progress")),
        ("persisting.loading", info.number("loading")),
    ])
}

fn network_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("network", "Network", Unit::BytesPerSecond)
            .metric(Metric::per_second("input", "Input"))
            .metric(Metric::per_second("output", "Output")),
    ]
}

fn network(report: &Report<'_>) -> Values {
    let info = &report.info;
    known([
        ("network.input", info.number("total_net_input_bytes")),
        ("network.output", info.number("total_net_output_bytes")),
    ])
}

fn replica_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("replica", "Replica", Unit::Integer)
            .metric(Metric::gauge("is_replica", "Is a replica (1: yes, 0: no)"))
            .metric(Metric::gauge("link_up", "Replication link (1: up, 0: down)")),
        prefix
            .graph("replica_link", "Replication link times", Unit::Seconds)
            .metric(Metric::gauge("silent", "Since last contact with the primary"))
            .metric(Metric::gauge("down", "Since the link went down")),
    ]
}

/// The link of a replica to its primary; for a primary only that it is one.
fn replica(report: &Report<'_>) -> Values {
    let info = &report.info;
    known([
        ("replica.is_replica", info.text("role").map(|role| if role == "slave" { 1.0 } else { 0.0 })),
        ("replica.link_up", info.text("master_link_status").map(|status| if status == "up" { 1.0 } else { 0.0 })),
        // -1 is never.
        ("replica_link.silent", info.number("master_last_io_seconds_ago")),
        ("replica_link.down", info.number("master_link_down_since_seconds")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::Info;

    fn values(part: fn(&Report<'_>) -> Values, text: &str) -> Vec<(String, f64)> {
        part(&Report { info: Info::parse(text), ..Report::default() })
    }

    fn assert(part: fn(&Report<'_>) -> Values, text: &str, expected: &[(&str, f64)]) {
        let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>();
        assert_eq!(values(part, text), expected, "{text}");
    }

    #[test]
    fn each_command_has_calls_and_time_and_from_redis_6_2_on_failures() {
        let new = "cmdstat_config|get:calls=2,usec=7,usec_per_call=3.50,rejected_calls=1,failed_calls=2";
        let expected =
            [("command_calls.config_get", 2.0), ("command_time.config_get", 7.0), ("command_failures.config_get", 3.0)];
        assert(commands, new, &expected);
        let old = "cmdstat_get:calls=2,usec=7,usec_per_call=3.50";
        assert(commands, old, &[("command_calls.get", 2.0), ("command_time.get", 7.0)]);
    }

    #[test]
    fn percentiles_are_those_that_the_server_reports() {
        let text = "latency_percentiles_usec_get:p50=2.007,p99=5.023,p99.9=5.5";
        assert(latency, text, &[("latency.get.p50", 2.007), ("latency.get.p99", 5.023), ("latency.get.p99_9", 5.5)]);
    }

    #[test]
    fn the_hit_ratio_is_missing_if_nothing_was_looked_up() {
        assert_eq!((ratio(1, 3), ratio(0, 0)), (Some(25.0), None));
    }

    #[test]
    fn each_database_has_its_keys_and_their_average_time_to_live() {
        let expected =
            [("database_keys.db3.keys", 2.0), ("database_keys.db3.expires", 1.0), ("database_ttl.db3", 1500.0)];
        assert(databases, "db3:keys=2,expires=1,avg_ttl=1500,subexpiry=0\ndb3_distrib_strings_sizes:0=1", &expected);
    }

    #[test]
    fn a_failed_save_is_0_and_its_age_needs_the_servers_clock() {
        let text =
            "rdb_last_bgsave_status:err\naof_last_write_status:ok\nserver_time_usec:100500000\nrdb_last_save_time:40";
        assert(
            persistence,
            text,
            &[("persistence.rdb_last_bgsave", 0.0), ("persistence.aof_last_write", 1.0), ("rdb_age.seconds", 60.5)],
        );
        assert(persistence, "rdb_last_save_time:40", &[]);
    }

    #[test]
    fn a_replica_has_the_state_of_its_link_and_a_primary_only_its_role() {
        let down =
            "role:slave\nmaster_link_status:down\nmaster_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:9";
        assert(replica, down, &[("replica.is_replica", 1.0), ("replica.link_up", 0.0), ("replica_link.down", 9.0)]);
        assert(replica, "role:master", &[("replica.is_replica", 0.0)]);
    }
}
