//! The postgres plugin against real servers: every way to log in, every TLS mode, and every value compared with psql.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasaba_e2e::SOON;
use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::certificates::Authority;
use wasaba_e2e::hostile;
use wasaba_e2e::postgres::Postgres;

/// No message may contain it.
const PASSWORD: &str = "hunter2 'geheim\\ é";

/// A role for each way to log in; all but `blind` are in pg_monitor.
const ACCESS: &str = "host all trusty 127.0.0.1/32 trust\nhost all plain 127.0.0.1/32 password\n\
     host all md5 127.0.0.1/32 md5\nhost all scram 127.0.0.1/32 scram-sha-256\nhost all blind 127.0.0.1/32 trust\n\
     hostssl all encrypted 127.0.0.1/32 scram-sha-256\nhostnossl all encrypted 127.0.0.1/32 reject\n\
     hostssl all certified 127.0.0.1/32 cert\nhost all rejected 127.0.0.1/32 reject\nlocal all peer scram-sha-256";

fn add_roles(server: &Postgres) {
    let password = PASSWORD.replace('\'', "''");
    for role in ["trusty", "plain", "scram", "encrypted", "certified", "peer", "rejected"] {
        server.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT pg_monitor TO {role}"));
    }
    server.run(&format!(
        "SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD '{password}'; GRANT pg_monitor TO md5; \
         CREATE ROLE blind LOGIN"
    ));
}

fn server() -> Postgres {
    let server = Postgres::start("track_io_timing = on\npassword_encryption = 'scram-sha-256'", ACCESS);
    add_roles(&server);
    server
}

/// `plugin run postgres` on this server as `role`.
fn run(home: &Home, server: &Postgres, role: &str, more: &[&str]) -> std::process::Output {
    let port = server.port.to_string();
    let flags = ["postgres", "-hostname=127.0.0.1", "-port", &port, "-user", role, "-database=postgres"];
    let output = home.command(&["plugin", "run"], &[&flags, more].concat());
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert!(!said.contains("hunter2") && !said.contains("geheim"), "the password is in: {said}");
    output
}

/// The printed values by name, without the prefix.
fn values(output: &std::process::Output) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let [name, value, _] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        (name.strip_prefix("postgres.").unwrap().to_owned(), value.parse().unwrap())
    };
    stdout(output).lines().map(line).collect()
}

/// The stored counters, from which rates are computed.
fn readings(state: &std::path::Path) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(state).unwrap();
    let readings = serde_json::from_str::<Vec<(String, serde_json::Value)>>(&text).unwrap();
    let reading = |(name, reading): (String, serde_json::Value)| {
        (name.strip_prefix("postgres.").unwrap().to_owned(), reading["value"].as_f64().unwrap())
    };
    readings.into_iter().map(reading).collect()
}

#[test]
fn each_way_to_log_in_works_and_a_wrong_or_missing_password_names_the_setting() {
    let (home, server) = (Home::with(""), server());
    assert!(values(&run(&home, &server, "trusty", &[])).contains_key("connections.active"));
    for role in ["plain", "md5", "scram"] {
        assert!(
            values(&run(&home, &server, role, &["-password", PASSWORD])).contains_key("connections.active"),
            "{role}"
        );
        let wrong = stderr(&run(&home, &server, role, &["-password", "hunter2"]));
        assert!(wrong.contains("misconfigured") && wrong.contains("check `user` and `password`"), "{role}: {wrong}");
        let none = stderr(&run(&home, &server, role, &[]));
        assert!(none.contains("misconfigured") && none.contains("set `password`"), "{role}: {none}");
    }
    let rejected = stderr(&run(&home, &server, "rejected", &[]));
    assert!(rejected.contains("misconfigured") && rejected.contains("pg_hba.conf"), "{rejected}");
    let unknown = stderr(&run(&home, &server, "trusty", &["-database=nosuch"]));
    assert!(unknown.contains("misconfigured") && unknown.contains("set `database`"), "{unknown}");
}

#[test]
fn a_password_is_read_from_a_file_and_a_missing_file_or_variable_is_reported_at_its_line() {
    let server = server();
    let home = Home::with("");
    std::fs::write(home.path("password"), format!("{PASSWORD}\n")).unwrap();
    let table = |password: &str| {
        let port = server.port;
        home.configure(&format!(
            "[plugin.metrics.db]\nwasm = \"postgres\"\n[plugin.metrics.db.settings]\nhostname = \"127.0.0.1\"\nport = {port}\n\
             user = \"scram\"\ndatabase = \"postgres\"\npassword = {password}\n"
        ));
        home.command(&["once"], &[])
    };
    let file = home.path("password").display().to_string();
    let output = table(&format!("{{ file = {file:?} }}"));
    assert!(stdout(&output).contains("custom.postgres.size.total_size"), "{}", String::from_utf8_lossy(&output.stderr));
    for (password, why) in [
        ("{ file = \"/no/such/file\" }", "cannot read `/no/such/file`"),
        (
            "{ env = \"WASABA_NO_SUCH_NAME\" }",
            "the environment variable `WASABA_NO_SUCH_NAME` for `password` is not set",
        ),
    ] {
        let log = String::from_utf8(table(password).stderr).unwrap();
        assert!(log.contains(&format!("agent.conf:10:1: skipped [plugin.metrics.db]: {why}")), "{log}");
    }
}

#[test]
fn each_sslmode_works_as_postgresql_documents_it_with_a_private_authority() {
    let (authority, other) = (Authority::default(), Authority::default());
    let server = Postgres::start_with_tls(&authority, "password_encryption = 'scram-sha-256'", ACCESS);
    add_roles(&server);
    let certified = authority.issue("certified", &[]);
    let home = Home::with("");
    let attempt = |role: &str, host: &str, mode: &str, tls: &str| {
        home.configure(&format!("[plugin.metrics.db]\nwasm = \"postgres\"\nsettings = {{ user = \"x\" }}\n{tls}\n"));
        let port = server.port.to_string();
        let flags = ["db", "-hostname", host, "-port", &port, "-user", role, "-database=postgres", "-sslmode", mode];
        home.command(&["plugin", "run"], &[&flags, &["-password", PASSWORD] as &[&str]].concat())
    };
    let trust = |authority: &Authority| format!("tls = {{ authority = {:?} }}", authority.file());
    let ok = |output: &std::process::Output| values(output).contains_key("connections.active");
    // `encrypted` may log in only with TLS.
    for mode in ["allow", "prefer", "require"] {
        assert!(ok(&attempt("encrypted", "127.0.0.1", mode, "")), "{mode} verifies no certificate");
    }
    let plain = stderr(&attempt("encrypted", "127.0.0.1", "disable", ""));
    assert!(plain.contains("misconfigured") && plain.contains("`sslmode`"), "{plain}");
    assert!(ok(&attempt("encrypted", "localhost", "verify-full", &trust(&authority))));
    assert!(ok(&attempt("encrypted", "127.0.0.1", "verify-ca", &trust(&authority))), "verify-ca ignores the name");
    assert!(ok(&attempt("encrypted", "127.0.0.1", "require", &trust(&authority))));
    for (host, mode, tls) in [
        ("127.0.0.1", "verify-full", trust(&authority)),
        ("localhost", "verify-full", trust(&other)),
        ("localhost", "verify-full", String::new()),
        ("localhost", "verify-ca", trust(&other)),
        ("localhost", "require", trust(&other)),
    ] {
        let refused = stderr(&attempt("encrypted", host, mode, &tls));
        assert!(
            refused.contains("misconfigured: TLS with") && refused.contains("`authority`"),
            "{host} {mode}: {refused}"
        );
    }
    // A client's certificate.
    let identity = format!(
        "tls = {{ authority = {:?}, certificate = {:?}, key = {:?} }}",
        authority.file(),
        certified.certificate,
        certified.key
    );
    assert!(ok(&attempt("certified", "localhost", "verify-full", &identity)));
    let without = stderr(&attempt("certified", "localhost", "verify-full", &trust(&authority)));
    assert!(without.contains("misconfigured") && without.contains("pg_hba.conf"), "{without}");
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required_and_accepted_where_it_is_preferred() {
    let (home, server) = (Home::with(""), server());
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = stderr(&run(&home, &server, "trusty", &["-sslmode", mode]));
        assert!(refused.contains("the server does not speak TLS: set `sslmode` to disable"), "{mode}: {refused}");
    }
    for mode in ["disable", "allow", "prefer"] {
        assert!(run(&home, &server, "trusty", &["-sslmode", mode]).status.success(), "{mode}");
    }
}

#[test]
fn the_unix_socket_is_reached_by_its_setting_and_by_its_folder_as_hostname() {
    let (home, server) = (Home::with(""), server());
    let run = |flags: &[&str]| {
        let all = ["postgres", "-user=peer", "-database=postgres", "-password", PASSWORD];
        home.command(&["plugin", "run"], &[&all, flags].concat())
    };
    let socket = server.socket().display().to_string();
    assert!(values(&run(&["-socket", &socket])).contains_key("connections.active"));
    let (folder, port) = (server.socket_folder().display().to_string(), server.port.to_string());
    assert!(values(&run(&["-hostname", &folder, "-port", &port])).contains_key("connections.active"));
    let none = stderr(&run(&["-socket", "/no/such/socket"]));
    assert!(none.contains("unix:/no/such/socket: No such file"), "{none}");
}

#[test]
fn every_value_is_the_one_that_psql_shows() {
    let (home, server) = (Home::with(""), server());
    server.run("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)");
    server.run("CREATE DATABASE second");
    // One session in each state, beside the plugin's own.
    let _idle = server.session(&["SELECT 1;"], "");
    let _in_transaction = server.session(&["BEGIN;", "SELECT 1;"], "");
    let _aborted = server.session(&["BEGIN;", "SELECT 1/0;"], "");
    let _waiting = server.session(&[], "SELECT pg_sleep(1000);");
    let states = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event IS NOT NULL";
    let begin = Instant::now();
    while server.number(states) < 1.0 {
        assert!(begin.elapsed() < SOON, "no session waits");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let state = home.path("state").display().to_string();
    let found = values(&run(&home, &server, "trusty", &["-tempfile", &state]));
    let counters = readings(&home.path("state"));
    let expected = [
        ("connections.active", 1.0),
        ("connections.active_waiting", 1.0),
        ("connections.idle", 1.0),
        ("connections.idle_in_transaction", 1.0),
        ("connections.idle_in_transaction_aborted_", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(found[name], value, "{name}");
    }
    // Files may grow by a few pages between the two queries.
    let size = server.number("SELECT sum(pg_database_size(datname)) FROM pg_database");
    assert!((found["size.total_size"] - size).abs() <= 65_536.0, "{} beside {size}", found["size.total_size"]);
    // The official plugin's zeros.
    let upstream = values(&run(&home, &server, "trusty", &["-compat=upstream"]));
    assert_eq!((upstream["connections.idle"], upstream["connections.idle_in_transaction"]), (0.0, 0.0));
    assert!(!upstream.contains_key("connections.idle_in_transaction_aborted_"));
    // Only this test increases these counters; psql's own transactions affect only those further below.
    let sums = |column: &str| server.number(&format!("SELECT sum({column}) FROM pg_stat_database"));
    for column in ["tup_inserted", "tup_updated", "tup_deleted", "deadlocks", "temp_bytes"] {
        let name = counters.keys().find(|name| name.ends_with(&format!(".{column}"))).unwrap();
        assert_eq!(counters[name], sums(column), "{column}");
    }
    for column in
        ["xact_commit", "xact_rollback", "blks_read", "blks_hit", "tup_returned", "tup_fetched", "blk_read_time"]
    {
        let name = counters.keys().find(|name| name.ends_with(&format!(".{column}"))).unwrap();
        let later = sums(column);
        assert!(counters[name] > 0.0 || later == 0.0 || column == "blk_read_time", "{column}");
        assert!(counters[name] <= later, "{column}: {} is more than {later} afterwards", counters[name]);
    }
}

#[test]
fn the_rates_match_a_known_load() {
    let (home, server) = (Home::with(""), server());
    server.run("CREATE TABLE t (n int primary key, v int)");
    let state = home.path("state");
    let flags = ["-tempfile", state.to_str().unwrap()];
    run(&home, &server, "trusty", &flags);
    let before = readings(&state);
    // Statistics are written at a session's end at the latest, and psql waits for it.
    server.run("INSERT INTO t SELECT n, 0 FROM generate_series(1, 500) n");
    server.run("UPDATE t SET v = 1 WHERE n <= 200");
    server.run("DELETE FROM t WHERE n <= 50");
    server.run("CREATE SEQUENCE s");
    let script = home.path("script.sql");
    std::fs::write(&script, "INSERT INTO t VALUES (1000 + nextval('s'), 0);\n").unwrap();
    let mut pgbench = server.client("pgbench");
    let pgbench = pgbench.args(["-n", "-t", "100", "-c", "2", "-f"]).arg(script).arg("postgres").output().unwrap();
    assert!(pgbench.status.success(), "{}", String::from_utf8_lossy(&pgbench.stderr));
    // A rate needs at least a second.
    std::thread::park_timeout(Duration::from_millis(1_100));
    let rates = values(&run(&home, &server, "trusty", &flags));
    let after = readings(&state);
    let grown = |name: &str| after[name] - before[name];
    let (inserted, updated, deleted) =
        (grown("rows.tup_inserted"), grown("rows.tup_updated"), grown("rows.tup_deleted"));
    // Creating the sequence also changes rows of the catalogue.
    assert!((700.0..750.0).contains(&inserted), "{inserted} inserted");
    assert!((200.0..210.0).contains(&updated), "{updated} updated");
    assert!((50.0..60.0).contains(&deleted), "{deleted} deleted");
    assert!((200.0..260.0).contains(&grown("commits.xact_commit")), "{} commits", grown("commits.xact_commit"));
    // Every counter has a rate, which is its growth per minute between the two readings.
    let seconds = inserted * 60.0 / rates["rows.tup_inserted"];
    assert!(seconds > 0.0, "{seconds}");
    for name in after.keys().filter(|name| grown(name) > 0.0) {
        let expected = grown(name) * 60.0 / seconds;
        assert!(
            (rates[name] - expected).abs() <= expected * 0.001 + 0.001,
            "{name}: {} beside {expected}",
            rates[name]
        );
    }
    assert_eq!(rates.keys().filter(|name| after.contains_key(*name)).count(), after.len(), "each counter has a rate");
}

#[test]
fn a_role_without_pg_monitor_gets_values_and_a_warning_with_the_missing_grant() {
    let (home, server) = (Home::with(""), server());
    let _session = server.session(&["BEGIN;"], "");
    let output = run(&home, &server, "blind", &[]);
    assert_eq!(values(&output)["connections.idle_in_transaction"], 0.0);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("WARNING") && log.contains("GRANT pg_monitor TO \"blind\""), "{log}");
    server.run("GRANT pg_monitor TO blind");
    let output = run(&home, &server, "blind", &[]);
    assert_eq!(values(&output)["connections.idle_in_transaction"], 1.0);
    assert!(!String::from_utf8(output.stderr).unwrap().contains("GRANT"));
}

#[test]
fn the_location_in_the_write_ahead_log_is_counted_on_a_primary_and_its_standby() {
    let primary = Postgres::start("wal_level = logical\nmax_wal_senders = 4", ACCESS);
    add_roles(&primary);
    let replica = primary.replica("standby");
    let home = Home::with("");
    let state = |name: &str| home.path(name).display().to_string();
    let (first, second) = (state("primary"), state("replica"));
    let here = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')";
    let upstream = ["-compat=upstream", "-tempfile"];
    let before = primary.number(here);
    run(&home, &primary, "trusty", &[&upstream[..], &[&first]].concat());
    let counted = readings(&home.path("primary"))["xlog_location.xlog_location_bytes"];
    assert!((before..=primary.number(here)).contains(&counted), "{counted} after {before}");
    // Waits until the standby has replayed everything up to here.
    let written = primary.number(here);
    primary.run("CREATE TABLE t AS SELECT generate_series(1, 1000)");
    while replica.number("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')") < written {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let extra = ["-extra=replication", "-extra=slots", "-tempfile", &second];
    let found = values(&run(&home, &replica, "trusty", &extra));
    assert!(readings(&home.path("replica"))["xlog_location.xlog_location_bytes"] >= written);
    assert_eq!(found["replication.is_replica"], 1.0);
    assert!(found["replication_lag.seconds"] >= 0.0);
    run(&home, &replica, "trusty", &[&upstream[..], &[&second]].concat());
    assert_eq!(readings(&home.path("replica"))["xlog_location.xlog_location_bytes"], 0.0, "the official plugin's zero");

    let found = values(&run(&home, &primary, "trusty", &["-extra=replication", "-extra=slots"]));
    assert_eq!(found["replication.is_replica"], 0.0);
    assert_eq!((found["slot_active.standby"], found["slot_wal_status.standby"]), (1.0, 0.0));
    assert!(found["replica_delay.walreceiver"] >= 0.0, "{found:?}");
    let retained = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots";
    drop(replica);
    while primary.ask("SELECT active FROM pg_replication_slots") == "t" {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    primary.run("INSERT INTO t SELECT generate_series(1, 10000)");
    let found = values(&run(&home, &primary, "trusty", &["-extra=slots"]));
    assert_eq!(found["slot_active.standby"], 0.0);
    assert!(found["slot_retained.standby"] > 100_000.0 && found["slot_retained.standby"] <= primary.number(retained));
}

#[test]
fn each_extra_value_is_the_one_that_psql_shows() {
    let (home, server) = (Home::with(""), server());
    server.run("CREATE DATABASE \"my shop\"");
    server.run("CREATE TABLE t (n int)");
    let _holder = server.session(&["BEGIN;", "LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE;"], "");
    let _waiter = server.session(&["BEGIN;"], "LOCK TABLE t IN EXCLUSIVE MODE;");
    while server.number("SELECT count(*) FROM pg_locks WHERE NOT granted") < 1.0 {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let names = [
        "up",
        "max-connections",
        "replication",
        "slots",
        "transactions",
        "locks",
        "cache",
        "checkpoints",
        "databases",
        "xid-age",
    ];
    let state = home.path("state").display().to_string();
    let mut flags = vec!["-tempfile", &state];
    flags.extend(names.iter().flat_map(|name| ["-extra", name]));
    let found = values(&run(&home, &server, "trusty", &flags));
    assert_eq!(found["up.up"], 1.0);
    assert_eq!(found["max_connections.max_connections"], server.number("SHOW max_connections"));
    // The plugin's own connection, and the two open sessions.
    assert_eq!(found["max_connections.used"], 3.0);
    assert_eq!(found["max_connections_ratio.used"], 3.0 * 100.0 / found["max_connections.max_connections"]);
    assert_eq!((found["locks.share_row_exclusive"], found["locks_waiting.waiting"]), (1.0, 1.0));
    assert_eq!((found["locks.access_exclusive"], found["replication.is_replica"]), (0.0, 0.0));
    assert!(found["longest_transaction.idle_in_transaction"] > 0.0 && found["longest_transaction.active"] > 0.0);
    assert_eq!(
        found["xid_age.my_shop"],
        server.number("SELECT age(datfrozenxid) FROM pg_database WHERE datname = 'my shop'")
    );
    let size = server.number("SELECT pg_database_size('my shop')");
    assert_eq!(found["database_size.my_shop.size"], size);
    assert_eq!(found["database_connections.my_shop.numbackends"], 0.0);
    assert!(!found.contains_key("cache_hit.ratio"), "the first call has nothing to compare with");
    let counted = readings(&home.path("state"));
    assert_eq!(counted["checkpoints.requested"], server.number("SELECT checkpoints_req FROM pg_stat_bgwriter"));
    assert_eq!(counted["buffers.checkpoint"], server.number("SELECT buffers_checkpoint FROM pg_stat_bgwriter"));
    assert!(counted.contains_key("database_commits.my_shop.xact_commit"));
}

#[test]
fn a_query_that_times_out_or_is_forbidden_loses_only_its_own_values() {
    let (home, server) = (Home::with(""), server());
    // Only the owner may read pg_locks, and reading pg_stat_bgwriter waits for a held lock.
    server.run("REVOKE SELECT ON pg_locks FROM PUBLIC");
    let _holder = server.session(&["BEGIN;", "LOCK TABLE pg_catalog.pg_stat_bgwriter IN ACCESS EXCLUSIVE MODE;"], "");
    let flags = ["-extra=locks", "-extra=checkpoints", "-extra=xid-age", "-statement-timeout=500ms"];
    let output = run(&home, &server, "trusty", &flags);
    let found = values(&output);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("cannot read \"locks\": ") && log.contains("permission denied"), "{log}");
    assert!(log.contains("cannot read \"checkpoints\": ") && log.contains("`statement-timeout`"), "{log}");
    assert!(found.contains_key("connections.active") && found.contains_key("xid_age.postgres"), "{found:?}");
    assert!(!found.contains_key("locks.share"));
}

#[test]
fn two_queries_that_time_out_in_one_call_lose_only_their_own_values() {
    let (home, server) = (Home::with(""), server());
    let lock = "LOCK TABLE pg_catalog.pg_stat_bgwriter, pg_catalog.pg_locks IN ACCESS EXCLUSIVE MODE;";
    let _holder = server.session(&["BEGIN;", lock], "");
    let extra = ["-extra=up", "-extra=locks", "-extra=checkpoints", "-extra=xid-age", "-connect_timeout=0"];
    let output = run(&home, &server, "trusty", &extra);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["locks", "checkpoints"] {
        assert!(log.contains(&format!("cannot read \"{part}\": canceling")), "{log}");
    }
    let found = values(&output);
    assert!(found.contains_key("connections.active") && found.contains_key("xid_age.postgres"), "{found:?}");
    assert_eq!(found["up.up"], 1.0);
}

#[test]
fn values_received_before_a_query_outlasts_the_call_are_kept() {
    let (home, server) = (Home::with(""), server());
    let _holder = server.session(&["BEGIN;", "LOCK TABLE pg_catalog.pg_stat_bgwriter IN ACCESS EXCLUSIVE MODE;"], "");
    for timeout in ["-statement-timeout=20s", "-statement-timeout=0s"] {
        let output = run(&home, &server, "trusty", &["-extra=up", "-extra=checkpoints", timeout]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let late = format!(
            "cannot read \"checkpoints\": 127.0.0.1:{}: timed out: no answer within the call's 10 s",
            server.port
        );
        assert!(log.contains(&late), "{log}");
        assert!(log.contains("reduce `statement-timeout`"), "{log}");
        let found = values(&output);
        assert!(found.contains_key("connections.active") && found.contains_key("size.total_size"), "{found:?}");
    }
}

#[test]
fn databases_whose_names_map_to_the_same_metric_name_are_kept_apart() {
    let (home, server) = (Home::with(""), server());
    for name in ["a.b", "a_b"] {
        server.run(&format!("CREATE DATABASE \"{name}\""));
    }
    let _session = server.session(&["\\c a_b"], "");
    let output = run(&home, &server, "trusty", &["-extra=databases", "-extra=xid-age"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let oid = server.ask("SELECT oid FROM pg_database WHERE datname = 'a_b'");
    let found = values(&output);
    let connections = |name: &str| found[&format!("database_connections.{name}.numbackends")];
    assert_eq!((connections("a_b"), connections(&format!("a_b_{oid}"))), (0.0, 1.0), "{log}");
    assert!(found.contains_key(&format!("xid_age.a_b_{oid}")), "{found:?}");
    assert!(log.contains("\"a_b\" has the same metric name as another, \"a_b\", using \"a_b_"), "{log}");
}

#[test]
fn servers_that_are_down_silent_foreign_or_endless_are_distinguished_and_affect_no_other_instance() {
    let (home, server) = (Home::with(""), server());
    let table = |name: &str, port: u16| {
        format!(
            "[plugin.metrics.{name}]\nwasm = \"postgres\"\nkey_prefix = {name:?}\ntimeout_seconds = 30\nlimits = {{ compute_ms = 30000 }}\nsettings = {{ hostname = \
             \"127.0.0.1\", port = {port}, user = \"trusty\", database = \"postgres\", connect-timeout = \"1s\" }}\n"
        )
    };
    let down = wasaba_e2e::free_port();
    let (silent, web) = (hostile::silent(), hostile::answering("HTTP/1.1 400 Bad Request\r\n\r\n".into(), Vec::new()));
    let endless = hostile::flooding(b"N\x00\x00\x00\x05\x00");
    let truncated = hostile::answering("R\0\0\0\u{8}\0\0".into(), Vec::new());
    let mut config = table("good", server.port);
    for (name, port) in [
        ("down", down),
        ("silent", silent.port),
        ("web", web.port),
        ("endless", endless.port),
        ("truncated", truncated.port),
    ] {
        config.push_str(&table(name, port));
    }
    home.configure(&config);
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stdout(&output).contains("custom.good.connections.active"), "{log}");
    for (name, expected) in [
        ("down", "unreachable: 127.0.0.1:"),
        ("down", "Connection refused: check `hostname` and `port`"),
        ("silent", ": timed out: no answer within 1 s: check `hostname` and `port`"),
        ("web", " does not speak PostgreSQL's protocol, it sent \"HTTP/1.1 400"),
        ("endless", "failed: the answers are longer than"),
        ("truncated", " closed the connection in the middle of an answer: check `hostname` and `port`"),
    ] {
        let lines = log.lines().filter(|line| line.contains(&format!("plugin {name}: "))).collect::<Vec<_>>();
        assert!(lines.iter().any(|line| line.contains(expected)), "{name}: {expected} in {lines:?}\n{log}");
    }
}

#[test]
fn a_target_that_is_down_is_0_for_up_and_is_logged() {
    let home = Home::with("");
    let down = wasaba_e2e::free_port().to_string();
    let flags = ["postgres", "-hostname=127.0.0.1", "-port", &down, "-user=x", "-extra=up"];
    let output = home.command(&["plugin", "run"], &flags);
    assert_eq!(values(&output), BTreeMap::from([("up.up".to_owned(), 0.0)]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the target is down: 127.0.0.1:"));
}
