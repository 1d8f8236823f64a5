//! What the official `mackerel-plugin-postgres` collects.

use wasaba_plugin::{Graph, Metric, Part, Prefix, Unit, Values};

use crate::query::{Query, Server, Version, part};
use crate::rows::Rows;

/// Each part, in the order of its query.
pub(crate) const ALL: &[Part<Query>] = &[
    part("connections", connections_graphs, connections_query, |rows, server| Ok(connections(rows, server))),
    part("statistics", statistics_graphs, |_| STATISTICS.into(), |rows, _| Ok(statistics(rows))),
    part("size", size_graphs, |_| SIZE.into(), |rows, _| Ok(size(rows))),
    part("wal", wal_graphs, wal_query, |rows, server| Ok(wal(rows, server))),
];

fn connections_graphs(prefix: &Prefix) -> Vec<Graph> {
    let metrics = [
        ("active", "Active"),
        ("active_waiting", "Active waiting"),
        ("idle", "Idle"),
        ("idle_in_transaction", "Idle in transaction"),
        ("idle_in_transaction_aborted_", "Idle in transaction (aborted)"),
        ("fastpath_function_call", "fast-path function call"),
        ("disabled", "Disabled"),
    ];
    let graph = prefix.graph("connections", "Connections", Unit::Integer);
    vec![metrics.into_iter().fold(graph, |graph, (name, label)| graph.metric(Metric::gauge(name, label).stacked()))]
}

/// Since 9.6 a waiting session has a `wait_event`; before, there was the column `waiting`.
fn connections_query(_: Server) -> String {
    "SELECT state, wait_event IS NOT NULL AS waiting, count(*) AS count FROM pg_stat_activity WHERE state IS NOT NULL GROUP BY 1, 2"
        .into()
}

/// Since PostgreSQL 10 an idle session has a wait event, too: it waits for its client. The official plugin counts it as
/// `idle_waiting`, which it does not post, so that its `idle` is always 0; `upstream` reproduces that.
fn connections(rows: &Rows, server: Server) -> Values {
    let mut counts =
        ["active", "active_waiting", "idle", "idle_in_transaction"].map(|name| (name.to_owned(), 0.0)).to_vec();
    if !server.upstream {
        counts.push(("idle_in_transaction_aborted_".to_owned(), 0.0));
    }
    for row in rows.iter() {
        let (Some(state), Some(count)) = (row.text("state"), row.number("count")) else { continue };
        let waits = row.boolean("waiting") == Some(true);
        let name = match (state, waits) {
            ("active", true) => "active_waiting",
            (_, true) if server.upstream => continue,
            ("active", false) => "active",
            ("idle", _) => "idle",
            ("idle in transaction", _) => "idle_in_transaction",
            ("idle in transaction (aborted)", _) if !server.upstream => "idle_in_transaction_aborted_",
            ("fastpath function call", _) => "fastpath_function_call",
            ("disabled", _) => "disabled",
            _ => continue,
        };
        match counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += count,
            None => counts.push((name.to_owned(), count)),
        }
    }
    counts.into_iter().map(|(name, count)| (format!("connections.{name}"), count)).collect()
}

/// Counters of `pg_stat_database`, summed over all databases: graph, column, label, whether it is stacked.
const COUNTERS: &[(&str, &str, &str, bool)] = &[
    ("commits", "xact_commit", "Xact Commit", false),
    ("commits", "xact_rollback", "Xact Rollback", false),
    ("blocks", "blks_read", "Blocks Read", false),
    ("blocks", "blks_hit", "Blocks Hit", false),
    ("rows", "tup_returned", "Returned Rows", false),
    ("rows", "tup_fetched", "Fetched Rows", true),
    ("rows", "tup_inserted", "Inserted Rows", true),
    ("rows", "tup_updated", "Updated Rows", true),
    ("rows", "tup_deleted", "Deleted Rows", true),
    ("deadlocks", "deadlocks", "Deadlocks", false),
    ("iotime", "blk_read_time", "Block Read Time (ms)", false),
    ("iotime", "blk_write_time", "Block Write Time (ms)", false),
    ("tempfile", "temp_bytes", "Temporary file size (byte)", false),
];

const STATISTICS: &str = "SELECT sum(xact_commit) AS xact_commit, sum(xact_rollback) AS xact_rollback, \
     sum(blks_read) AS blks_read, sum(blks_hit) AS blks_hit, sum(tup_returned) AS tup_returned, \
     sum(tup_fetched) AS tup_fetched, sum(tup_inserted) AS tup_inserted, sum(tup_updated) AS tup_updated, \
     sum(tup_deleted) AS tup_deleted, sum(deadlocks) AS deadlocks, sum(blk_read_time) AS blk_read_time, \
     sum(blk_write_time) AS blk_write_time, sum(temp_bytes) AS temp_bytes FROM pg_stat_database";

fn statistics_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graphs = [
        ("commits", "Commits", Unit::Integer),
        ("blocks", "Blocks", Unit::Integer),
        ("rows", "Rows", Unit::Integer),
        ("deadlocks", "Dead Locks", Unit::Integer),
        ("iotime", "Block I/O time", Unit::Float),
        ("tempfile", "Temporary file", Unit::Integer),
    ];
    let graph = |(key, label, unit)| {
        let counters = COUNTERS.iter().filter(|(graph, ..)| *graph == key);
        counters.fold(prefix.graph(key, label, unit), |graph, (_, column, label, stacked)| {
            let metric = Metric::per_minute(column, label);
            graph.metric(if *stacked { metric.stacked() } else { metric })
        })
    };
    graphs.map(graph).into()
}

fn statistics(rows: &Rows) -> Values {
    let Some(row) = rows.first() else { return Values::new() };
    let value = |(graph, column, ..): &(&str, &str, _, _)| Some(([graph, ".", column].concat(), row.number(column)?));
    COUNTERS.iter().filter_map(value).collect()
}

/// Only databases that the role may connect to, as in the official plugin. By oid, since a database may be dropped meanwhile.
const SIZE: &str =
    "SELECT sum(pg_database_size(oid)) AS total_size FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')";

fn size_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![prefix.graph("size", "Data Size", Unit::Integer).metric(Metric::gauge("total_size", "Total Size"))]
}

fn size(rows: &Rows) -> Values {
    let size = rows.first().and_then(|row| row.number("total_size"));
    size.map(|size| ("size.total_size".to_owned(), size)).into_iter().collect()
}

fn wal_graphs(prefix: &Prefix) -> Vec<Graph> {
    let metric = Metric::per_minute("xlog_location_bytes", "Amount of Transaction location change (byte)");
    vec![prefix.graph("xlog_location", "Amount of Transaction location change", Unit::Bytes).metric(metric)]
}

fn wal_query(Server { version, .. }: Server) -> String {
    let wal = version.wal();
    let sees_all = if version < Version(10, 0) { "true" } else { "pg_has_role('pg_read_all_stats', 'USAGE')" };
    format!(
        "SELECT pg_is_in_recovery() AS standby, current_setting('wal_level') AS wal_level, {}({}, '0/0') AS bytes, \
         {sees_all} AS sees_all",
        wal.bytes_between, wal.here
    )
}

/// The official plugin reads the position only on a primary with `wal_level = logical`, and posts 0 elsewhere.
fn wal(rows: &Rows, server: Server) -> Values {
    let Some(row) = rows.first() else { return Values::new() };
    let is_official = row.boolean("standby") == Some(false) && row.text("wal_level") == Some("logical");
    let bytes = if server.upstream && !is_official { Some(0.0) } else { row.number("bytes") };
    bytes.map(|bytes| ("xlog_location.xlog_location_bytes".to_owned(), bytes)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::rows;

    const FIXED: Server = Server { version: Version(15, 0), upstream: false };
    const UPSTREAM: Server = Server { version: Version(15, 0), upstream: true };

    fn values(values: &Values) -> Vec<(&str, f64)> {
        values.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    /// As PostgreSQL 15.18 gave them, with one session in each state.
    fn states() -> Rows {
        rows(
            &["state", "waiting", "count"],
            &[
                &["active", "f", "1"],
                &["active", "t", "1"],
                &["idle", "t", "1"],
                &["idle in transaction", "t", "1"],
                &["idle in transaction (aborted)", "t", "1"],
                &["fastpath function call", "f", "2"],
            ],
        )
    }

    #[test]
    fn sessions_that_wait_for_their_clients_are_idle() {
        let expected = [
            ("connections.active", 1.0),
            ("connections.active_waiting", 1.0),
            ("connections.idle", 1.0),
            ("connections.idle_in_transaction", 1.0),
            ("connections.idle_in_transaction_aborted_", 1.0),
            ("connections.fastpath_function_call", 2.0),
        ];
        assert_eq!(values(&connections(&states(), FIXED)), expected);
    }

    #[test]
    fn upstream_counts_no_idle_session_and_posts_no_aborted_one() {
        let expected = [
            ("connections.active", 1.0),
            ("connections.active_waiting", 1.0),
            ("connections.idle", 0.0),
            ("connections.idle_in_transaction", 0.0),
            ("connections.fastpath_function_call", 2.0),
        ];
        assert_eq!(values(&connections(&states(), UPSTREAM)), expected);
    }

    #[test]
    fn a_counter_that_is_not_there_is_missing_and_not_0() {
        let answer = rows(&["xact_commit", "blks_read", "blk_read_time"], &[&["12", "NULL", "1.5"]]);
        assert_eq!(values(&statistics(&answer)), [("commits.xact_commit", 12.0), ("iotime.blk_read_time", 1.5)]);
        assert_eq!(size(&rows(&["total_size"], &[&["NULL"]])), []);
        assert_eq!(statistics(&Rows::default()), []);
    }

    #[test]
    fn every_counter_is_asked_for() {
        for (_, column, ..) in COUNTERS {
            assert!(STATISTICS.contains(&format!("sum({column}) AS {column}")), "{column}");
        }
    }

    #[test]
    fn the_log_counts_on_every_server_but_with_upstream_only_on_a_logical_primary() {
        let answer = |standby, level| rows(&["standby", "wal_level", "bytes"], &[&[standby, level, "4096"]]);
        for (standby, level, upstream, expected) in [
            ("f", "replica", false, 4096.0),
            ("t", "logical", false, 4096.0),
            ("f", "logical", true, 4096.0),
            ("f", "replica", true, 0.0),
            ("t", "logical", true, 0.0),
        ] {
            let server = if upstream { UPSTREAM } else { FIXED };
            let found = wal(&answer(standby, level), server);
            assert_eq!(
                values(&found),
                [("xlog_location.xlog_location_bytes", expected)],
                "{standby} {level} {upstream}"
            );
        }
        assert_eq!(wal(&rows(&["standby", "wal_level", "bytes"], &[&["t", "replica", "NULL"]]), FIXED), []);
    }

    #[test]
    fn the_functions_of_the_log_are_those_of_the_version() {
        let query = |version| wal_query(Server { version, upstream: false });
        let (old, new) = (query(Version(9, 6)), query(Version(18, 0)));
        assert!(
            old.contains("pg_xlog_location_diff") && old.contains("pg_current_xlog_location()") && !old.contains("lsn")
        );
        assert!(new.contains("pg_wal_lsn_diff") && new.contains("pg_last_wal_replay_lsn()") && !new.contains("xlog"));
    }
}
