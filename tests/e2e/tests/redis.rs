//! The redis plugin against real servers: every way to log in, and every value compared with redis-cli.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use wasaba_e2e::SOON;
use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::certificates::Authority;
use wasaba_e2e::hostile;
use wasaba_e2e::redis::Redis;

/// No message may contain it.
const PASSWORD: &str = "hunter2";

const EXTRA: [&str; 9] =
    ["up", "commands", "latency", "hit-ratio", "memory", "databases", "persistence", "network", "replica"];

fn run(home: &Home, flags: &[&str]) -> Output {
    let output = home.command(&["plugin", "run"], &[&["redis"], flags].concat());
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert!(!said.contains(PASSWORD), "the password is in: {said}");
    output
}

/// `plugin run redis` on this server.
fn run_on(home: &Home, server: &Redis, more: &[&str]) -> Output {
    let port = server.port.to_string();
    run(home, &[&["-host=127.0.0.1", "-port", &port], more].concat())
}

/// The printed values by name, without the prefix.
fn values(output: &Output) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let [name, value, _] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        (name.strip_prefix("redis.").unwrap().to_owned(), value.parse().unwrap())
    };
    stdout(output).lines().map(line).collect()
}

/// The stored counters, from which rates are computed.
fn readings(state: &Path) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(state).unwrap();
    let readings = serde_json::from_str::<Vec<(String, serde_json::Value)>>(&text).unwrap();
    let reading = |(name, reading): (String, serde_json::Value)| {
        (name.strip_prefix("redis.").unwrap().to_owned(), reading["value"].as_f64().unwrap())
    };
    readings.into_iter().map(reading).collect()
}

#[test]
fn every_value_is_the_one_that_redis_cli_shows() {
    let (home, server) = (Home::with(""), Redis::start("maxmemory 100mb\nmaxclients 200\ndatabases 4", &[]));
    for (database, key, life) in [("0", "a", "1000"), ("0", "b", "0"), ("3", "c", "0")] {
        assert_eq!(server.cli(&["-n", database, "SET", key, "1"]), "OK");
        if life != "0" {
            assert_eq!(server.cli(&["-n", database, "EXPIRE", key, life]), "1");
        }
    }
    server.cli(&["GET", "a"]);
    server.cli(&["GET", "none"]);
    let state = home.path("state");
    let found = values(&run_on(&home, &server, &["-tempfile", state.to_str().unwrap()]));
    let counted = readings(&state);
    assert_eq!((found["keys.keys"], found["keys.expires"]), (3.0, 1.0));
    assert_eq!(found["capacity.percentage_of_clients"], 0.5, "the plugin's own connection, of 200");
    // Six decimals are printed.
    let used = 100.0 * found["memory.used_memory"] / (100.0 * 1_048_576.0);
    assert!((found["capacity.percentage_of_memory"] - used).abs() < 1e-6, "{used}");
    for (name, key) in [
        ("clients.connected_clients", "connected_clients"),
        ("clients.blocked_clients", "blocked_clients"),
        ("clients.connected_slaves", "connected_slaves"),
        ("memory.used_memory_lua", "used_memory_lua"),
    ] {
        assert_eq!(found[name], server.number(key), "{name}");
    }
    for key in ["used_memory", "used_memory_rss", "used_memory_peak"] {
        let (value, beside) = (found[&format!("memory.{key}")], server.number(key));
        assert!((value - beside).abs() < beside / 2.0, "{key}: {value} beside {beside}");
    }
    assert!(server.number("uptime_in_seconds") - found["uptime.uptime_in_seconds"] < 60.0);
    for (name, key) in [
        ("keys.expired", "expired_keys"),
        ("keys.evicted_keys", "evicted_keys"),
        ("keyspace.keyspace_hits", "keyspace_hits"),
        ("keyspace.keyspace_misses", "keyspace_misses"),
        ("connections.rejected_connections", "rejected_connections"),
    ] {
        assert_eq!(counted[name], server.number(key), "{name}");
    }
    assert_eq!(found.len() + counted.len(), 19, "all values that need no second run, no replica and no cluster");
}

#[test]
fn the_rates_match_a_known_load() {
    let (home, server) = (Home::with(""), Redis::start("", &[]));
    let state = home.path("state");
    let flags = ["-tempfile", state.to_str().unwrap(), "-extra=commands", "-extra=network"];
    run_on(&home, &server, &flags);
    let before = readings(&state);
    let mut load = Command::new("redis-benchmark");
    load.args(["-p", &server.port.to_string(), "-n", "1000", "-c", "5", "-q", "-t", "set,get"]);
    assert!(load.output().unwrap().status.success());
    server.cli(&["SET", "key", "1"]);
    (0..10).for_each(|_| assert_eq!(server.cli(&["GET", "key"]), "1"));
    // A rate needs at least a second.
    std::thread::park_timeout(Duration::from_millis(1_100));
    let rates = values(&run_on(&home, &server, &flags));
    let after = readings(&state);
    let grown = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    assert_eq!(grown("command_calls.get"), 1_010.0);
    assert_eq!(grown("command_calls.set"), 1_001.0);
    let lookups = grown("keyspace.keyspace_hits") + grown("keyspace.keyspace_misses");
    assert_eq!(lookups, 1_010.0);
    // redis-benchmark also reads the configuration, and redis-cli also sends commands on connecting.
    let commands = grown("queries.total_commands_processed");
    assert!((2_011.0..2_060.0).contains(&commands), "{commands} commands");
    assert!((21.0..50.0).contains(&grown("connections.total_connections_received")), "connections");
    let seconds = commands * 60.0 / rates["queries.total_commands_processed"];
    for name in
        before.keys().filter(|name| grown(name) > 0.0 && !name.starts_with("network.") && !name.starts_with("command_"))
    {
        let expected = grown(name) * 60.0 / seconds;
        assert!(
            (rates[name] - expected).abs() <= expected * 0.001 + 0.001,
            "{name}: {} beside {expected}",
            rates[name]
        );
    }
    let input = grown("network.input") / seconds;
    assert!((rates["network.input"] - input).abs() <= input * 0.001 + 0.001, "bytes are per second");
}

#[test]
fn each_way_to_log_in_works_in_both_protocols_and_each_refusal_names_the_setting() {
    let home = Home::with("");
    let plain = Redis::start("", &[]);
    let guarded = Redis::start(&format!("requirepass {PASSWORD}"), &["-a", PASSWORD]);
    let rights = "+info +config|get +cluster|info";
    let users = Redis::start(&format!("user monitor on >{PASSWORD} {rights}\nuser poor on >{PASSWORD} +ping"), &[]);
    for resp in ["-resp=2", "-resp=3"] {
        assert!(run_on(&home, &plain, &[resp]).status.success());
        assert!(run_on(&home, &guarded, &[resp, "-password", PASSWORD]).status.success());
        assert!(run_on(&home, &guarded, &[resp, "-username=", "-password", PASSWORD]).status.success());
        assert!(run_on(&home, &users, &[resp, "-username=monitor", "-password", PASSWORD]).status.success());
        let refused = |server: &Redis, flags: &[&str]| {
            let text = stderr(&run_on(&home, server, &[&[resp], flags].concat()));
            assert!(text.contains("redis: misconfigured: "), "{text}");
            text
        };
        assert!(refused(&guarded, &["-password=wrong"]).contains("check `username` and `password`"));
        assert!(refused(&guarded, &[]).contains("set `password`"));
        assert!(refused(&users, &["-username=poor", "-password", PASSWORD]).contains("the user needs +info"));
        assert!(refused(&users, &["-username=unknown", "-password", PASSWORD]).contains("check `username`"));
    }
    let needless = stderr(&run_on(&home, &plain, &["-password", PASSWORD]));
    assert!(needless.contains("remove `password`"), "{needless}");
    // From the environment, like the official plugin.
    let mut command = Command::new(wasaba_e2e::wasaba());
    command.args(["plugin", "run", "redis", "-host=127.0.0.1", "-port", &guarded.port.to_string()]);
    command.env("REDIS_PASSWORD", PASSWORD).env("MACKEREL_PLUGIN_WORKDIR", home.path(""));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn the_unix_socket_and_tls_accept_the_same_login() {
    let (authority, other) = (Authority::default(), Authority::default());
    let login = ["-a", PASSWORD];
    let server = Redis::start_with_tls(&authority, &format!("requirepass {PASSWORD}"), &login);
    let home = Home::with("");
    let with = |tls: &str, flags: &[&str]| {
        home.configure(&format!("[plugin.metrics.redis]\nwasm = \"redis\"\n{tls}\n"));
        let port = server.port.to_string();
        run(&home, &[&["-port", &port, "-password", PASSWORD], flags].concat())
    };
    let trust = |authority: &Authority| format!("tls = {{ authority = {:?} }}", authority.file());
    assert!(with(&trust(&authority), &["-host=localhost", "-tls"]).status.success());
    assert!(with("", &["-host=localhost", "-tls", "-tls-skip-verify"]).status.success());
    for (tls, host) in [(trust(&other), "localhost"), (String::new(), "localhost"), (trust(&authority), "127.0.0.1")] {
        let refused = stderr(&with(&tls, &["-host", host, "-tls"]));
        assert!(refused.contains("misconfigured: TLS with") && refused.contains("`authority`"), "{refused}");
    }
    let plain_to_tls = stderr(&with("", &["-host=localhost"]));
    assert!(plain_to_tls.contains("`tls`"), "{plain_to_tls}");
    let socket = server.socket().display().to_string();
    assert!(with("", &["-socket", &socket]).status.success());
    let none = stderr(&with("", &["-socket", "/no/such.sock"]));
    assert!(none.contains("unix:/no/such.sock: No such file"), "{none}");

    let plain = Redis::start("", &[]);
    let port = plain.port.to_string();
    let tls_to_plain = stderr(&run(&home, &["-host=localhost", "-port", &port, "-tls", "-timeout=1"]));
    assert!(
        tls_to_plain.contains(": timed out: no answer within 1 s, in the TLS handshake: check `tls`"),
        "{tls_to_plain}"
    );
}

#[test]
fn a_missing_client_certificate_is_reported_and_is_not_a_target_that_is_down() {
    let authority = Authority::default();
    let own = authority.issue("client", &[]);
    let (certificate, key) = (own.certificate.display().to_string(), own.key.display().to_string());
    let login = ["--cert", &certificate, "--key", &key];
    let server = Redis::start_with_tls(&authority, "tls-auth-clients yes", &login);
    let home = Home::with("");
    let with = |identity: &str| {
        let trust = format!("authority = {:?}{identity}", authority.file());
        home.configure(&format!("[plugin.metrics.redis]\nwasm = \"redis\"\ntls = {{ {trust} }}\n"));
        run(&home, &["-host=localhost", "-port", &server.port.to_string(), "-tls", "-extra=up"])
    };
    assert_eq!(values(&with(&format!(", certificate = {certificate:?}, key = {key:?}")))["up.up"], 1.0);
    let refused = stderr(&with(""));
    assert!(refused.contains("misconfigured: ") && refused.contains("check `tls`, and `certificate`"), "{refused}");
}

#[test]
fn a_renamed_or_forbidden_config_command_loses_no_value_that_info_has() {
    let home = Home::with("");
    for (config, flags) in [
        ("rename-command CONFIG \"\"\nmaxmemory 50mb", &[] as &[&str]),
        ("rename-command CONFIG geheim\nmaxmemory 50mb", &["-config-command=geheim"]),
        ("maxmemory 50mb", &["-config-command="]),
    ] {
        let found = values(&run_on(&home, &Redis::start(config, &[]), flags));
        assert!(found["capacity.percentage_of_memory"] > 0.0, "{config}");
        assert!(found["capacity.percentage_of_clients"] > 0.0, "{config}");
    }
}

#[test]
fn a_primary_reports_the_lag_of_each_replica_and_a_replica_its_link() {
    let home = Home::with("");
    let primary = Redis::start("repl-diskless-sync-delay 0", &[]);
    let replica = Redis::start(&format!("replicaof 127.0.0.1 {}", primary.port), &[]);
    replica.wait_until("master_link_status", "up");
    primary.cli(&["SET", "a", "1"]);
    let offset = |server: &Redis| server.number("master_repl_offset");
    let begin = Instant::now();
    while offset(&replica) < offset(&primary) {
        assert!(begin.elapsed() < SOON, "the replica has not caught up");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let found = values(&run_on(&home, &primary, &["-extra=replica"]));
    let field = |name: &str| {
        let line = primary.info("slave0");
        let value = line.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
        value.unwrap().parse::<f64>().unwrap()
    };
    assert_eq!((found["clients.connected_slaves"], found["replica.is_replica"]), (1.0, 0.0));
    assert!((found["lag.slave0_lag"] - field("lag")).abs() <= 1.0);
    // The primary pings its replicas, which acknowledge within the next second.
    assert!((0.0..=200.0).contains(&found["offset_delay.slave0_offset_delay"]), "{found:?}");
    let found = values(&run_on(&home, &replica, &["-extra=replica"]));
    assert_eq!((found["replica.is_replica"], found["replica.link_up"]), (1.0, 1.0));
    assert!((found["replica_link.silent"] - replica.number("master_last_io_seconds_ago")).abs() <= 2.0);
    drop(primary);
    replica.wait_until("master_link_status", "down");
    let found = values(&run_on(&home, &replica, &["-extra=replica"]));
    assert_eq!(found["replica.link_up"], 0.0);
    assert!(found["replica_link.down"] >= 0.0 && !found.contains_key("replica_link.silent"), "{found:?}");
}

#[test]
fn a_cluster_node_reports_the_values_of_cluster_info() {
    let home = Home::with("");
    // On a busy machine, no node must suspect another one of having failed.
    let config = "cluster-enabled yes\ncluster-node-timeout 60000";
    let nodes = [Redis::start(config, &[]), Redis::start(config, &[]), Redis::start(config, &[])];
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses).args(["--cluster-yes", "--cluster-replicas", "0"]);
    let output = create.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    nodes.iter().for_each(|node| node.wait_until("cluster_state", "ok"));
    let state = home.path("state");
    let found = values(&run_on(&home, &nodes[0], &["-tempfile", state.to_str().unwrap()]));
    assert_eq!(found["cluster_state.cluster_state"], 1.0);
    for name in [
        "cluster.cluster_known_nodes",
        "cluster.cluster_size",
        "cluster_slots.cluster_slots_assigned",
        "cluster_slots.cluster_slots_ok",
        "cluster_slots.cluster_slots_pfail",
        "cluster_slots.cluster_slots_fail",
    ] {
        assert_eq!(found[name], nodes[0].number(name.split_once('.').unwrap().1), "{name}");
    }
    assert_eq!((found["cluster.cluster_known_nodes"], found["cluster_slots.cluster_slots_assigned"]), (3.0, 16_384.0));
    let counted = readings(&state);
    for kind in ["ping_sent", "pong_sent", "sent", "ping_received", "pong_received", "received"] {
        let key = format!("cluster_stats_messages_{kind}");
        let (value, later) = (counted[&format!("cluster_stats.{key}")], nodes[0].number(&key));
        assert!(value > 0.0 && value <= later, "{key}: {value}, then {later}");
    }
    drop(nodes.into_iter().skip(1).collect::<Vec<_>>());
}

#[test]
fn each_extra_value_is_the_one_that_redis_cli_shows() {
    let (home, server) = (Home::with(""), Redis::start("databases 4\nappendonly yes", &[]));
    server.cli(&["-n", "2", "SET", "a", "1", "EX", "1000"]);
    server.cli(&["HGET", "none"]);
    server.cli(&["BGSAVE"]);
    server.wait_until("rdb_bgsave_in_progress", "0");
    let state = home.path("state");
    let mut flags = vec!["-tempfile", state.to_str().unwrap()];
    flags.extend(EXTRA.iter().flat_map(|name| ["-extra", name]));
    let found = values(&run_on(&home, &server, &flags));
    let counted = readings(&state);
    assert_eq!((found["up.up"], found["replica.is_replica"]), (1.0, 0.0));
    assert_eq!((found["database_keys.db2.keys"], found["database_keys.db2.expires"]), (1.0, 1.0));
    assert!((900.0..=1_000.0).contains(&found["database_ttl.db2"]), "seconds: {}", found["database_ttl.db2"]);
    assert_eq!((counted["command_calls.set"], counted["command_failures.hget"]), (1.0, 1.0));
    assert!(counted["command_time.set"] > 0.0 && found["latency.set.p50"] > 0.0 && found["latency.set.p99_9"] > 0.0);
    let micros = server.info("latency_percentiles_usec_set");
    assert!(micros.starts_with(&format!("p50={:.3}", found["latency.set.p50"] * 1e3)), "{micros}: {found:?}");
    assert_eq!((found["persistence.rdb_last_bgsave"], found["persistence.aof_last_write"]), (1.0, 1.0));
    assert!((0.0..60.0).contains(&found["rdb_age.seconds"]) && found["persisting.rdb"] == 0.0);
    assert_eq!(found["rdb_changes.changes"], server.number("rdb_changes_since_last_save"));
    assert!((found["fork.latest"] * 1e3 - server.number("latest_fork_usec")).abs() < 1.0);
    assert!(found["fragmentation.mem_fragmentation_ratio"] > 0.0 && found["memory_use.used_memory_dataset"] > 0.0);
    assert!(counted["network.input"] > 0.0 && counted["network.output"] > 0.0);
    assert!(!found.contains_key("hit_ratio.ratio"), "the first call has nothing to compare with");
}

#[test]
fn servers_that_are_down_silent_foreign_or_endless_are_distinguished_and_affect_no_other_instance() {
    let (home, server) = (Home::with(""), Redis::start("", &[]));
    let table = |name: &str, port: u16| {
        format!(
            "[plugin.metrics.{name}]\nwasm = \"redis\"\nkey_prefix = {name:?}\ntimeout_seconds = 30\n\
             settings = {{ host = \"127.0.0.1\", port = {port}, timeout = \"1s\" }}\n"
        )
    };
    let down = wasaba_e2e::free_port();
    let (silent, web) = (hostile::silent(), hostile::answering("HTTP/1.1 400 Bad Request\r\n\r\n".into(), Vec::new()));
    let endless = hostile::answering("$104857600\r\n".into(), vec![b'x'; 104_857_600]);
    let truncated = hostile::answering("$5000\r\nredis_version:".into(), Vec::new());
    let busy = hostile::answering("-ERR max number of clients reached\r\n".into(), Vec::new());
    let mut config = table("good", server.port);
    for (name, port) in [
        ("down", down),
        ("silent", silent.port),
        ("web", web.port),
        ("endless", endless.port),
        ("truncated", truncated.port),
        ("busy", busy.port),
    ] {
        config.push_str(&table(name, port));
    }
    home.configure(&config);
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stdout(&output).contains("custom.good.clients.connected_clients"), "{log}");
    for (name, expected) in [
        ("down", "unreachable: 127.0.0.1:"),
        ("silent", ": timed out: no answer within 1 s, before any reply: check `host` and `port`"),
        ("web", " is not Redis, it sent \"HTTP/1.1 400"),
        ("endless", " sent more than 4 MiB"),
        ("truncated", ": the server closed the connection in the middle of a reply: check `host` and `port`"),
        ("busy", "failed: error from the server: ERR max number of clients reached"),
    ] {
        let lines = log.lines().filter(|line| line.contains(&format!("plugin {name}: "))).collect::<Vec<_>>();
        assert!(lines.iter().any(|line| line.contains(expected)), "{name}: {expected} in {lines:?}\n{log}");
    }
}

#[test]
fn a_target_that_is_down_is_0_for_up_but_a_wrong_password_is_not() {
    let (home, server) = (Home::with(""), Redis::start(&format!("requirepass {PASSWORD}"), &["-a", PASSWORD]));
    let down = wasaba_e2e::free_port().to_string();
    let output = run(&home, &["-host=127.0.0.1", "-port", &down, "-extra=up"]);
    assert_eq!(values(&output), BTreeMap::from([("up.up".to_owned(), 0.0)]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the target is down: 127.0.0.1:"));
    assert!(stderr(&run_on(&home, &server, &["-extra=up", "-password=wrong"])).contains("misconfigured"));
}
