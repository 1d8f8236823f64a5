//! What the official plugin does not collect: each part only if the setting `extra` names it.

use std::ops::Add;

use wasaba_plugin::{Error, Graph, Metric, Part, Prefix, Unit, Values, kv, log, segment};

use crate::query::{Query, Server, Version, part};
use crate::rows::{Row, Rows};

/// Each part, with the name that the operator writes.
pub(crate) const ALL: &[Part<Query>] = &[
    part("max-connections", max_connections_graphs, max_connections_query, |rows, _| Ok(max_connections(rows))),
    part("replication", replication_graphs, replication_query, |rows, _| Ok(replication(rows))),
    part("slots", slots_graphs, slots_query, |rows, _| Ok(slots(rows))),
    part("transactions", transactions_graphs, |_| TRANSACTIONS.into(), |rows, _| Ok(transactions(rows))),
    part("locks", locks_graphs, |_| LOCKS.into(), |rows, _| Ok(locks(rows))),
    part("cache", cache_graphs, |_| CACHE.into(), |rows, _| cache(rows)),
    part("checkpoints", checkpoints_graphs, checkpoints_query, |rows, _| Ok(checkpoints(rows))),
    part("databases", databases_graphs, |_| DATABASES.into(), |rows, _| Ok(databases(rows))),
    part("xid-age", xid_age_graphs, |_| XID_AGE.into(), |rows, _| Ok(xid_age(rows))),
];

/// The rows with the name in `column` as a segment of metric names, which is unique. If two names differ only in characters that a
/// metric name cannot have, the second gets its `oid` as a suffix, if it has one, or else no values. Both are logged.
fn named<'a>(rows: &'a Rows, column: &str) -> Vec<(String, Row<'a>)> {
    let (named, clashes) = unique(rows, column);
    for (name, segment, instead) in clashes {
        let instead = instead.map_or("skipping it".to_owned(), |instead| format!("using {instead:?}"));
        let text = format!("{name:?} has the same metric name as another, {segment:?}, {instead}: rename one of them");
        log::warning_daily(&format!("{column} {name}"), text);
    }
    named
}

/// A name, its segment, and the one that is used instead.
type Clash<'a> = (&'a str, String, Option<String>);

fn unique<'a>(rows: &'a Rows, column: &str) -> (Vec<(String, Row<'a>)>, Vec<Clash<'a>>) {
    let (mut named, mut clashes) = (Vec::<(String, Row<'a>)>::new(), Vec::new());
    for row in rows.iter() {
        let Some(name) = row.text(column) else { continue };
        let is_free = |segment: &String| named.iter().all(|(taken, _)| taken != segment);
        let plain = segment(name);
        if is_free(&plain) {
            named.push((plain, row));
            continue;
        }
        let instead = row.text("oid").map(|oid| format!("{plain}_{oid}")).filter(is_free);
        named.extend(instead.clone().map(|segment| (segment, row)));
        clashes.push((name, plain, instead));
    }
    (named, clashes)
}

/// The value of `column` under `name`, if there is one.
fn value(row: Row<'_>, column: &str, name: impl Into<String>) -> Option<(String, f64)> {
    Some((name.into(), row.number(column)?))
}

fn max_connections_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("max_connections", "Max Connections", Unit::Integer)
            .metric(Metric::gauge("max_connections", "Max connections"))
            .metric(Metric::gauge("used", "Used")),
        prefix
            .graph("max_connections_ratio", "Used Connections", Unit::Percentage)
            .metric(Metric::gauge("used", "Used")),
    ]
}

fn max_connections_query(Server { version, .. }: Server) -> String {
    let clients = if version < Version(10, 0) { "" } else { " WHERE backend_type = 'client backend'" };
    format!(
        "SELECT current_setting('max_connections') AS max, (SELECT count(*) FROM pg_stat_activity{clients}) AS used"
    )
}

fn max_connections(rows: &Rows) -> Values {
    let Some(row) = rows.first() else { return Values::new() };
    let ratio =
        row.number("max").filter(|max| *max > 0.0).zip(row.number("used")).map(|(max, used)| 100.0 * used / max);
    let values = [value(row, "max", "max_connections.max_connections"), value(row, "used", "max_connections.used")];
    values.into_iter().flatten().chain(ratio.map(|ratio| ("max_connections_ratio.used".to_owned(), ratio))).collect()
}

fn replication_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("replication", "Replication", Unit::Integer)
            .metric(Metric::gauge("is_replica", "Is a replica (1: yes, 0: no)")),
        prefix
            .graph("replication_lag", "Replication Lag", Unit::Seconds)
            .metric(Metric::gauge("seconds", "Lag of this replica")),
        prefix.graph("replica_delay", "Delay of Replicas", Unit::Bytes).metric(Metric::gauge("*", "%1")),
    ]
}

/// A row for this server, and one for each of its replicas. A replica that has replayed everything has no lag, however long ago the
/// last transaction was.
fn replication_query(Server { version, .. }: Server) -> String {
    let (wal, replay) = (version.wal(), if version < Version(10, 0) { "replay_location" } else { "replay_lsn" });
    let (received, replayed, here, diff) = (&wal.received, &wal.replayed, &wal.here, &wal.bytes_between);
    format!(
        "SELECT NULL AS replica, pg_is_in_recovery()::int AS is_replica, CASE WHEN NOT pg_is_in_recovery() THEN NULL \
         WHEN {received} = {replayed} THEN 0 ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS lag, \
         NULL AS delay UNION ALL SELECT application_name, NULL, NULL, max({diff}({here}, {replay})) FROM pg_stat_replication \
         GROUP BY application_name ORDER BY replica NULLS FIRST"
    )
}

fn replication(rows: &Rows) -> Values {
    let own = rows.iter().filter(|row| row.text("replica").is_none()).flat_map(|row| {
        [value(row, "is_replica", "replication.is_replica"), value(row, "lag", "replication_lag.seconds")]
    });
    let replicas = named(rows, "replica").into_iter();
    own.chain(replicas.map(|(name, row)| value(row, "delay", format!("replica_delay.{name}")))).flatten().collect()
}

fn slots_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graph = |key, label, unit| prefix.graph(key, label, unit).metric(Metric::gauge("*", "%1"));
    vec![
        graph("slot_active", "Replication Slots (1: active, 0: inactive)", Unit::Integer),
        graph("slot_retained", "WAL retained by Slots", Unit::Bytes),
        graph("slot_wal_status", "WAL of Slots (0: reserved, 1: extended, 2: unreserved, 3: lost)", Unit::Integer),
    ]
}

fn slots_query(Server { version, .. }: Server) -> String {
    let wal = version.wal();
    let status = if version < Version(13, 0) { "NULL" } else { "wal_status" };
    format!(
        "SELECT slot_name, active::int AS active, {}({}, restart_lsn) AS retained, {status} AS wal_status \
         FROM pg_replication_slots ORDER BY slot_name",
        wal.bytes_between, wal.here
    )
}

fn slots(rows: &Rows) -> Values {
    let mut values = Values::new();
    for (name, row) in named(rows, "slot_name") {
        values.extend(value(row, "active", format!("slot_active.{name}")));
        values.extend(value(row, "retained", format!("slot_retained.{name}")));
        let status = match row.text("wal_status") {
            Some("reserved") => 0.0,
            Some("extended") => 1.0,
            Some("unreserved") => 2.0,
            Some("lost") => 3.0,
            _ => continue,
        };
        values.push((format!("slot_wal_status.{name}"), status));
    }
    values
}

fn transactions_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("longest_transaction", "Longest Transaction", Unit::Seconds)
            .metric(Metric::gauge("active", "Active"))
            .metric(Metric::gauge("idle_in_transaction", "Idle in transaction"))
            .metric(Metric::gauge("idle_in_transaction_aborted", "Idle in transaction (aborted)")),
    ]
}

const TRANSACTIONS: &str = "SELECT state, extract(epoch FROM max(now() - xact_start)) AS seconds FROM pg_stat_activity \
     WHERE state IS NOT NULL AND xact_start IS NOT NULL AND pid <> pg_backend_pid() GROUP BY state";

/// A state without a transaction is 0 seconds, so that an alert is closed.
fn transactions(rows: &Rows) -> Values {
    let longest = |state: &str| {
        let row = rows.iter().find(|row| row.text("state") == Some(state));
        row.and_then(|row| row.number("seconds")).unwrap_or(0.0).max(0.0)
    };
    let states = [
        ("active", "active"),
        ("idle_in_transaction", "idle in transaction"),
        ("idle_in_transaction_aborted", "idle in transaction (aborted)"),
    ];
    states.map(|(name, state)| (format!("longest_transaction.{name}"), longest(state))).into()
}

/// Modes of locks, from the weakest to the strongest: PostgreSQL's name, the metric's name, its label.
const LOCK_MODES: &[(&str, &str, &str)] = &[
    ("AccessShareLock", "access_share", "Access share"),
    ("RowShareLock", "row_share", "Row share"),
    ("RowExclusiveLock", "row_exclusive", "Row exclusive"),
    ("ShareUpdateExclusiveLock", "share_update_exclusive", "Share update exclusive"),
    ("ShareLock", "share", "Share"),
    ("ShareRowExclusiveLock", "share_row_exclusive", "Share row exclusive"),
    ("ExclusiveLock", "exclusive", "Exclusive"),
    ("AccessExclusiveLock", "access_exclusive", "Access exclusive"),
    ("SIReadLock", "si_read", "Serializable read"),
];

fn locks_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graph = prefix.graph("locks", "Locks", Unit::Integer);
    let modes =
        LOCK_MODES.iter().fold(graph, |graph, (_, name, label)| graph.metric(Metric::gauge(name, label).stacked()));
    let waiting = prefix.graph("locks_waiting", "Locks waited for", Unit::Integer);
    vec![modes, waiting.metric(Metric::gauge("waiting", "Waiting"))]
}

/// Without the locks of this query itself.
const LOCKS: &str =
    "SELECT mode, granted, count(*) AS count FROM pg_locks WHERE pid IS DISTINCT FROM pg_backend_pid() GROUP BY 1, 2";

fn locks(rows: &Rows) -> Values {
    let sum = |wanted: &dyn Fn(Row<'_>) -> bool| {
        rows.iter().filter(|row| wanted(*row)).filter_map(|row| row.number("count")).fold(0.0, Add::add)
    };
    let mode = |(mode, name, _): &(&str, &str, &str)| {
        let held = sum(&|row| row.text("mode") == Some(mode) && row.boolean("granted") == Some(true));
        (format!("locks.{name}"), held)
    };
    let waiting = sum(&|row| row.boolean("granted") == Some(false));
    LOCK_MODES.iter().map(mode).chain([("locks_waiting.waiting".to_owned(), waiting)]).collect()
}

fn cache_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![prefix.graph("cache_hit", "Cache Hits", Unit::Percentage).metric(Metric::gauge("ratio", "Hit ratio"))]
}

const CACHE: &str = "SELECT sum(blks_hit) AS hit, sum(blks_read) AS read FROM pg_stat_database";

/// How many of the blocks that were read since the previous minute were in PostgreSQL's shared buffers.
fn cache(rows: &Rows) -> Result<Values, Error> {
    let counter = |column| rows.first().and_then(|row| row.text(column)?.parse::<u64>().ok());
    let (Some(hit), Some(read)) = (counter("hit"), counter("read")) else { return Ok(Values::new()) };
    let ratio = kv::growth("cache", [hit, read])?.and_then(|[hit, read]| hit_ratio(hit, read));
    Ok(ratio.map(|ratio| ("cache_hit.ratio".to_owned(), ratio)).into_iter().collect())
}

/// In percent; `None` if nothing was read.
fn hit_ratio(hit: u64, read: u64) -> Option<f64> {
    let all = hit.checked_add(read).filter(|all| *all > 0)?;
    Some(100.0 * hit as f64 / all as f64)
}

fn checkpoints_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("checkpoints", "Checkpoints", Unit::Float)
            .metric(Metric::per_minute("timed", "By time").stacked())
            .metric(Metric::per_minute("requested", "Requested").stacked()),
        prefix
            .graph("checkpoint_time", "Checkpoint Time", Unit::Milliseconds)
            .metric(Metric::per_minute("write", "Write").stacked())
            .metric(Metric::per_minute("sync", "Sync").stacked()),
        prefix
            .graph("buffers", "Buffers written", Unit::Integer)
            .metric(Metric::per_minute("checkpoint", "By checkpoints").stacked())
            .metric(Metric::per_minute("clean", "By the background writer").stacked())
            .metric(Metric::per_minute("backend", "By sessions (until PostgreSQL 16)").stacked()),
    ]
}

/// PostgreSQL 17 moved checkpoints to their own view, and removed the buffers that sessions write.
fn checkpoints_query(Server { version, .. }: Server) -> String {
    if version < Version(17, 0) {
        "SELECT checkpoints_timed AS timed, checkpoints_req AS requested, checkpoint_write_time AS write, checkpoint_sync_time AS \
         sync, buffers_checkpoint AS checkpoint, buffers_clean AS clean, buffers_backend AS backend FROM pg_stat_bgwriter"
    } else {
        "SELECT num_timed AS timed, num_requested AS requested, write_time AS write, sync_time AS sync, buffers_written AS \
         checkpoint, buffers_clean AS clean FROM pg_stat_checkpointer, pg_stat_bgwriter"
    }
    .into()
}

fn checkpoints(rows: &Rows) -> Values {
    let Some(row) = rows.first() else { return Values::new() };
    let columns = [
        ("checkpoints", "timed"),
        ("checkpoints", "requested"),
        ("checkpoint_time", "write"),
        ("checkpoint_time", "sync"),
        ("buffers", "checkpoint"),
        ("buffers", "clean"),
        ("buffers", "backend"),
    ];
    columns.iter().filter_map(|(graph, column)| value(row, column, format!("{graph}.{column}"))).collect()
}

/// The columns of `pg_stat_database` for each database: graph, column, label, whether it is a counter.
const DATABASE_COLUMNS: &[(&str, &str, &str, bool)] = &[
    ("database_connections", "numbackends", "Connections", false),
    ("database_size", "size", "Size", false),
    ("database_commits", "xact_commit", "Xact Commit", true),
    ("database_commits", "xact_rollback", "Xact Rollback", true),
    ("database_blocks", "blks_read", "Blocks Read", true),
    ("database_blocks", "blks_hit", "Blocks Hit", true),
    ("database_rows", "tup_returned", "Returned Rows", true),
    ("database_rows", "tup_fetched", "Fetched Rows", true),
    ("database_rows", "tup_inserted", "Inserted Rows", true),
    ("database_rows", "tup_updated", "Updated Rows", true),
    ("database_rows", "tup_deleted", "Deleted Rows", true),
    ("database_conflicts", "conflicts", "Conflicts with recovery", true),
    ("database_conflicts", "deadlocks", "Deadlocks", true),
    ("database_tempfiles", "temp_files", "Temporary files", true),
    ("database_tempbytes", "temp_bytes", "Temporary file size", true),
    ("database_iotime", "blk_read_time", "Block Read Time", true),
    ("database_iotime", "blk_write_time", "Block Write Time", true),
];

const DATABASES: &str = "SELECT datid AS oid, datname, numbackends, CASE WHEN has_database_privilege(datid, 'CONNECT') \
     THEN pg_database_size(datid) END AS size, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, tup_fetched, \
     tup_inserted, tup_updated, tup_deleted, conflicts, deadlocks, temp_files, temp_bytes, blk_read_time, blk_write_time \
     FROM pg_stat_database WHERE datname IS NOT NULL ORDER BY datid";

fn databases_graphs(prefix: &Prefix) -> Vec<Graph> {
    let graphs = [
        ("database_connections", "Connections of Databases", Unit::Integer),
        ("database_size", "Size of Databases", Unit::Bytes),
        ("database_commits", "Commits of Databases", Unit::Integer),
        ("database_blocks", "Blocks of Databases", Unit::Integer),
        ("database_rows", "Rows of Databases", Unit::Integer),
        ("database_conflicts", "Conflicts and Dead Locks of Databases", Unit::Integer),
        ("database_tempfiles", "Temporary files of Databases", Unit::Integer),
        ("database_tempbytes", "Temporary file sizes of Databases", Unit::Bytes),
        ("database_iotime", "Block I/O time of Databases", Unit::Milliseconds),
    ];
    let graph = |(key, label, unit)| {
        let metrics = DATABASE_COLUMNS.iter().filter(|(graph, ..)| *graph == key);
        metrics.fold(prefix.graph(&format!("{key}.#"), label, unit), |graph, (_, column, label, counts)| {
            graph.metric(if *counts { Metric::per_minute(column, label) } else { Metric::gauge(column, label) })
        })
    };
    graphs.map(graph).into()
}

fn databases(rows: &Rows) -> Values {
    let of_database = |(name, row): (String, _)| {
        let value =
            move |(graph, column, ..): &(&str, &str, _, _)| value(row, column, format!("{graph}.{name}.{column}"));
        DATABASE_COLUMNS.iter().filter_map(value)
    };
    named(rows, "datname").into_iter().flat_map(of_database).collect()
}

fn xid_age_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix.graph("xid_age", "Age of oldest Transaction ID", Unit::Integer).metric(Metric::gauge("*", "%1")),
        prefix
            .graph("xid_used", "Progress to Transaction ID Wraparound", Unit::Percentage)
            .metric(Metric::gauge("oldest", "Oldest")),
    ]
}

const XID_AGE: &str = "SELECT oid, datname, age(datfrozenxid) AS age FROM pg_database ORDER BY oid";

/// Transaction IDs wrap around at 2^31; PostgreSQL refuses writes shortly before.
fn xid_age(rows: &Rows) -> Values {
    let age = |(name, row): (String, _)| value(row, "age", format!("xid_age.{name}"));
    let mut values = named(rows, "datname").into_iter().filter_map(age).collect::<Values>();
    if let Some(oldest) = values.iter().map(|(_, age)| *age).reduce(f64::max) {
        values.push(("xid_used.oldest".to_owned(), 100.0 * oldest / f64::from(1_u32 << 31)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::rows;

    fn server(version: Version) -> Server {
        Server { version, upstream: false }
    }

    fn named(values: &Values) -> Vec<(&str, f64)> {
        values.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    #[test]
    fn the_ratio_of_used_connections_is_in_percent() {
        let values = max_connections(&rows(&["max", "used"], &[&["200", "50"]]));
        let expected = [
            ("max_connections.max_connections", 200.0),
            ("max_connections.used", 50.0),
            ("max_connections_ratio.used", 25.0),
        ];
        assert_eq!(named(&values), expected);
        assert!(!max_connections_query(server(Version(9, 6))).contains("backend_type"));
    }

    #[test]
    fn a_primary_has_the_delay_of_its_replicas_and_a_replica_its_own_lag() {
        let columns = ["replica", "is_replica", "lag", "delay"];
        let primary = rows(&columns, &[&["NULL", "0", "NULL", "NULL"], &["walreceiver", "NULL", "NULL", "4096"]]);
        assert_eq!(
            named(&replication(&primary)),
            [("replication.is_replica", 0.0), ("replica_delay.walreceiver", 4096.0)]
        );
        let replica = rows(&columns, &[&["NULL", "1", "2.5", "NULL"]]);
        assert_eq!(named(&replication(&replica)), [("replication.is_replica", 1.0), ("replication_lag.seconds", 2.5)]);
    }

    #[test]
    fn a_slot_without_a_restart_lsn_has_no_value_for_what_it_retains() {
        let answer = rows(
            &["slot_name", "active", "retained", "wal_status"],
            &[&["one", "1", "1024", "extended"], &["two", "0", "NULL", "lost"], &["old", "0", "5", "NULL"]],
        );
        let expected = [
            ("slot_active.one", 1.0),
            ("slot_retained.one", 1024.0),
            ("slot_wal_status.one", 1.0),
            ("slot_active.two", 0.0),
            ("slot_wal_status.two", 3.0),
            ("slot_active.old", 0.0),
            ("slot_retained.old", 5.0),
        ];
        assert_eq!(named(&slots(&answer)), expected);
        assert!(
            !slots_query(server(Version(12, 0))).contains("wal_status AS")
                || slots_query(server(Version(12, 0))).contains("NULL AS wal_status")
        );
    }

    #[test]
    fn the_longest_transaction_is_0_if_there_is_none() {
        let values = transactions(&rows(&["state", "seconds"], &[&["idle in transaction", "61.5"]]));
        let expected = [
            ("longest_transaction.active", 0.0),
            ("longest_transaction.idle_in_transaction", 61.5),
            ("longest_transaction.idle_in_transaction_aborted", 0.0),
        ];
        assert_eq!(named(&values), expected);
    }

    #[test]
    fn locks_that_are_waited_for_are_not_held() {
        let columns = ["mode", "granted", "count"];
        let answer =
            rows(&columns, &[&["AccessShareLock", "t", "3"], &["AccessExclusiveLock", "f", "2"], &["New", "f", "1"]]);
        let values = locks(&answer);
        let get = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        assert_eq!((get("locks.access_share"), get("locks.access_exclusive")), (Some(3.0), Some(0.0)));
        assert_eq!((get("locks_waiting.waiting"), values.len()), (Some(3.0), LOCK_MODES.len() + 1));
    }

    #[test]
    fn the_hit_ratio_is_missing_if_nothing_was_read() {
        assert_eq!((hit_ratio(3, 1), hit_ratio(0, 5), hit_ratio(0, 0)), (Some(75.0), Some(0.0), None));
    }

    #[test]
    fn checkpoints_are_queried_from_the_view_of_the_version() {
        assert!(checkpoints_query(server(Version(16, 0))).contains("buffers_backend"));
        let new = checkpoints_query(server(Version(17, 0)));
        assert!(new.contains("pg_stat_checkpointer") && !new.contains("backend"));
        let values = checkpoints(&rows(&["timed", "requested", "clean"], &[&["1", "2", "3"]]));
        assert_eq!(
            named(&values),
            [("checkpoints.timed", 1.0), ("checkpoints.requested", 2.0), ("buffers.clean", 3.0)]
        );
    }

    #[test]
    fn each_database_has_values_under_a_name_that_mackerel_accepts() {
        let answer = rows(&["datname", "numbackends", "size"], &[&["my db", "2", "NULL"], &["b", "0", "10"]]);
        let expected = [
            ("database_connections.my_db.numbackends", 2.0),
            ("database_connections.b.numbackends", 0.0),
            ("database_size.b.size", 10.0),
        ];
        assert_eq!(named(&databases(&answer)), expected);
        for (_, column, ..) in DATABASE_COLUMNS {
            assert!(DATABASES.contains(column), "{column}");
        }
    }

    #[test]
    fn two_names_never_share_a_metric() {
        let answer = rows(
            &["oid", "datname"],
            &[
                &["5", "a.b"],
                &["7", "a_b"],
                &["8", "a b"],
                &["9", "a_b_10"],
                &["10", "a-b"],
                &["11", "日本"],
                &["NULL", "東京"],
            ],
        );
        let (named, clashes) = unique(&answer, "datname");
        let names = named.iter().map(|(name, row)| (name.as_str(), row.text("datname").unwrap())).collect::<Vec<_>>();
        let expected =
            [("a_b", "a.b"), ("a_b_7", "a_b"), ("a_b_8", "a b"), ("a_b_10", "a_b_10"), ("a-b", "a-b"), ("__", "日本")];
        assert_eq!(names, expected);
        let clashes = clashes.iter().map(|(name, _, instead)| (*name, instead.as_deref())).collect::<Vec<_>>();
        assert_eq!(clashes, [("a_b", Some("a_b_7")), ("a b", Some("a_b_8")), ("東京", None)]);
    }

    #[test]
    fn the_oldest_transaction_id_is_in_percent_of_2_to_the_31() {
        let values = xid_age(&rows(&["datname", "age"], &[&["a", "1073741824"], &["b", "5"]]));
        assert_eq!(named(&values), [("xid_age.a", 1_073_741_824.0), ("xid_age.b", 5.0), ("xid_used.oldest", 50.0)]);
    }
}
