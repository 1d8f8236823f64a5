//! Compares the plugins with the official programs: both query the same server at the same time, and their values and graph
//! definitions are compared.
//!
//! ```sh
//! git clone https://github.com/mackerelio/mackerel-agent-plugins && cd mackerel-agent-plugins
//! for name in nginx postgres redis; do go build -o /tmp/official/ ./mackerel-plugin-$name; done
//! cargo run --release -p wasaba-e2e --bin compare -- /tmp/official
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a comparison that cannot run panics with the reason"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;
use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::postgres::Postgres;
use wasaba_e2e::redis::Redis;
use wasaba_e2e::wasaba;

/// The time between the two runs of both programs; the official ones count in whole seconds.
const BETWEEN: Duration = Duration::from_secs(3);

/// Every comparison.
const COMPARISONS: &[Comparison] = &[
    Comparison { name: "nginx", plugin: "nginx", own_flags: &[], start: || Box::new(LiveNginx::start()) },
    Comparison { name: "redis", plugin: "redis", own_flags: &[], start: || Box::new(LiveRedis::alone()) },
    Comparison {
        name: "redis with a replica",
        plugin: "redis",
        own_flags: &[],
        start: || Box::new(LiveRedis::with_replica()),
    },
    Comparison {
        name: "redis as a cluster",
        plugin: "redis",
        own_flags: &[],
        start: || Box::new(LiveRedis::cluster()),
    },
    Comparison { name: "postgres", plugin: "postgres", own_flags: &[], start: || Box::new(LivePostgres::start()) },
    Comparison {
        name: "postgres, compat = upstream",
        plugin: "postgres",
        own_flags: &["-compat=upstream"],
        start: || Box::new(LivePostgres::start()),
    },
];

/// The deliberate differences. Any other is a defect of ours, or new in the official program.
const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        comparison: "redis",
        name: "redis.lag",
        kind: Kind::Graph,
        reason: "also defined without a replica, so that one that is added later has a label",
    },
    Deliberate {
        comparison: "redis",
        name: "redis.lag.*",
        kind: Kind::Graph,
        reason: "one pattern, instead of a metric for each replica that exists at the start",
    },
    Deliberate { comparison: "redis", name: "redis.offset_delay", kind: Kind::Graph, reason: "like redis.lag" },
    Deliberate { comparison: "redis", name: "redis.offset_delay.*", kind: Kind::Graph, reason: "like redis.lag.*" },
    Deliberate {
        comparison: "redis as a cluster",
        name: "redis.lag",
        kind: Kind::Graph,
        reason: "also defined without a replica, so that one that is added later has a label",
    },
    Deliberate {
        comparison: "redis as a cluster",
        name: "redis.lag.*",
        kind: Kind::Graph,
        reason: "one pattern, instead of a metric for each replica that exists at the start",
    },
    Deliberate {
        comparison: "redis as a cluster",
        name: "redis.offset_delay",
        kind: Kind::Graph,
        reason: "like redis.lag",
    },
    Deliberate {
        comparison: "redis as a cluster",
        name: "redis.offset_delay.*",
        kind: Kind::Graph,
        reason: "like redis.lag.*",
    },
    Deliberate {
        comparison: "redis with a replica",
        name: "redis.lag.*",
        kind: Kind::Graph,
        reason: "one pattern, instead of a metric for each replica that exists at the start",
    },
    Deliberate {
        comparison: "redis with a replica",
        name: "redis.lag.slave0_lag",
        kind: Kind::Graph,
        reason: "like redis.lag.*",
    },
    Deliberate {
        comparison: "redis with a replica",
        name: "redis.offset_delay.*",
        kind: Kind::Graph,
        reason: "like redis.lag.*",
    },
    Deliberate {
        comparison: "redis with a replica",
        name: "redis.offset_delay.slave0_offset_delay",
        kind: Kind::Graph,
        reason: "like redis.lag.*",
    },
    Deliberate {
        comparison: "postgres",
        name: "postgres.connections.idle",
        kind: Kind::Value,
        reason: "the official one counts a session that waits for its client as idle_waiting, which is in no graph",
    },
    Deliberate {
        comparison: "postgres",
        name: "postgres.connections.idle_in_transaction",
        kind: Kind::Value,
        reason: "like idle",
    },
    Deliberate {
        comparison: "postgres",
        name: "postgres.connections.idle_in_transaction_aborted_",
        kind: Kind::OnlyOurs,
        reason: "the official one defines it, but stores its value without the last `_` and never posts it",
    },
    Deliberate {
        comparison: "postgres",
        name: "postgres.xlog_location.xlog_location_bytes",
        kind: Kind::Growth,
        reason: "the official one posts 0 unless wal_level is logical",
    },
];

/// Values that change between the queries of the two programs, by time or by the queries. `name` is a prefix. All other values must
/// be equal to the last of the six decimals.
const TOLERANCES: &[Tolerance] = &[
    Tolerance {
        name: "nginx.connections.connections",
        absolute: 1.0,
        relative: 0.0,
        reason: "a query's closing connection",
    },
    Tolerance { name: "nginx.queue.waiting", absolute: 1.0, relative: 0.0, reason: "a query's closing connection" },
    Tolerance { name: "redis.memory", absolute: 2e5, relative: 0.05, reason: "memory of the query's connection" },
    Tolerance {
        name: "redis.capacity.percentage_of_memory",
        absolute: 0.5,
        relative: 0.0,
        reason: "like redis.memory",
    },
    Tolerance { name: "redis.uptime", absolute: 3.0, relative: 0.0, reason: "time passes" },
    Tolerance {
        name: "redis.clients.connected_clients",
        absolute: 1.0,
        relative: 0.0,
        reason: "a query's closing connection",
    },
    Tolerance {
        name: "redis.capacity.percentage_of_clients",
        absolute: 0.1,
        relative: 0.0,
        reason: "like redis.clients",
    },
    Tolerance { name: "redis.queries", absolute: 4.0, relative: 0.0, reason: "reported once a second" },
    Tolerance { name: "redis.lag", absolute: 1.0, relative: 0.0, reason: "reported once a second" },
    Tolerance { name: "redis.offset_delay", absolute: 300.0, relative: 0.0, reason: "reported once a second" },
    Tolerance { name: "postgres.commits", absolute: 4.0, relative: 0.0, reason: "the queries' own" },
    Tolerance { name: "postgres.blocks", absolute: 500.0, relative: 0.0, reason: "read by the queries" },
    Tolerance { name: "postgres.rows", absolute: 50.0, relative: 0.0, reason: "read by the queries" },
    Tolerance { name: "postgres.size", absolute: 0.0, relative: 0.01, reason: "the server's own files" },
    Tolerance { name: "postgres.xlog_location", absolute: 2e4, relative: 0.0, reason: "the server's own records" },
];

/// A plugin, and the server that it monitors.
struct Comparison {
    name: &'static str,
    plugin: &'static str,
    /// Flags that the official program does not have.
    own_flags: &'static [&'static str],
    start: fn() -> Box<dyn Live>,
}

/// A monitored server.
trait Live {
    /// The flags of both programs for this server.
    fn flags(&self) -> Vec<String>;

    /// Does some work that increases counters.
    fn work(&self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OnlyOurs,
    OnlyOfficial,
    Value,
    /// The growth of a counter between the two runs.
    Growth,
    /// The definition of a graph, or of a metric in it.
    Graph,
}

struct Deliberate {
    comparison: &'static str,
    name: &'static str,
    kind: Kind,
    reason: &'static str,
}

struct Tolerance {
    name: &'static str,
    absolute: f64,
    relative: f64,
    reason: &'static str,
}

struct Difference {
    kind: Kind,
    name: String,
    official: String,
    ours: String,
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: compare FOLDER, with the programs mackerel-plugin-nginx, -postgres and -redis");
        return ExitCode::from(2);
    };
    let missing = COMPARISONS.iter().map(|comparison| program(&folder, comparison.plugin)).find(|file| !file.is_file());
    if let Some(file) = missing {
        eprintln!("`{}` is missing: build it with Go, see the comment at the top of compare.rs", file.display());
        return ExitCode::from(2);
    }
    let mut unexpected = 0;
    for comparison in COMPARISONS {
        unexpected += compare(&folder, comparison);
    }
    println!("\n{unexpected} unexpected differences");
    if unexpected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn program(folder: &Path, plugin: &str) -> PathBuf {
    folder.join(format!("mackerel-plugin-{plugin}"))
}

/// Compares, prints the differences, and returns the number of unexpected ones.
fn compare(folder: &Path, comparison: &Comparison) -> usize {
    let (server, home) = ((comparison.start)(), Home::with(""));
    let state = home.path("official");
    let official = || {
        let mut command = Command::new(program(folder, comparison.plugin));
        command.args(server.flags()).arg("-tempfile").arg(&state);
        command
    };
    let own_state = home.path("ours");
    let ours = || {
        let mut command = Command::new(wasaba());
        command.args(["plugin", "run", "-conf"]).arg(home.config()).arg(comparison.plugin);
        command.args(server.flags()).args(comparison.own_flags).arg("-tempfile").arg(&own_state);
        command
    };
    // First, so that our component is compiled before values are read.
    let graphs = [graphs(ours()), graphs(official())];
    let mut differences = different_graphs(&graphs[1], &graphs[0]);

    let mut times = Vec::new();
    for round in 0..2 {
        if round > 0 {
            server.work();
            std::thread::park_timeout(BETWEEN);
        }
        let official = Printed { values: values(official()), readings: official_readings(&state) };
        let ours = Printed { values: values(ours()), readings: own_readings(&own_state) };
        times.push((official, ours));
    }
    let [(official_before, ours_before), (official, ours)] = &times[..] else { panic!("two times") };
    differences.extend(different_values(official_before, ours_before, None));
    differences.extend(different_values(official, ours, Some((official_before, ours_before))));
    differences.sort_by(|one, other| (&one.name, one.kind as u8).cmp(&(&other.name, other.kind as u8)));
    differences.dedup_by(|one, other| (&one.name, one.kind) == (&other.name, other.kind));

    let rates = ours.readings.keys().filter(|name| official.values.contains_key(*name)).count();
    println!("\n{}: {} values, {rates} of them rates, {} graphs", comparison.name, ours.values.len(), graphs[0].len());
    report(comparison, &differences)
}

fn report(comparison: &Comparison, differences: &[Difference]) -> usize {
    let mut unexpected = 0;
    let deliberate = || DELIBERATE.iter().filter(|deliberate| deliberate.comparison == comparison.name);
    if differences.is_empty() {
        println!("  no difference");
    }
    for Difference { kind, name, official, ours } in differences {
        let expected = deliberate().find(|deliberate| (deliberate.name, deliberate.kind) == (name.as_str(), *kind));
        unexpected += usize::from(expected.is_none());
        let excess = tolerance(name).filter(|_| matches!(kind, Kind::Value | Kind::Growth));
        let excess =
            excess.map_or(String::new(), |tolerance| format!(", beyond the tolerance for: {}", tolerance.reason));
        let verdict =
            expected.map_or(format!("UNEXPECTED{excess}"), |deliberate| format!("deliberate: {}", deliberate.reason));
        println!("  {name:<52} {:<12} official {official:>16}  ours {ours:>16}  {verdict}", format!("{kind:?}"));
    }
    for Deliberate { name, kind, .. } in deliberate() {
        if !differences.iter().any(|difference| (difference.name.as_str(), difference.kind) == (*name, *kind)) {
            println!("  {name:<52} {:<12} listed as deliberate, but equal", format!("{kind:?}"));
        }
    }
    unexpected
}

/// The values that a program printed, and the times at which it read its counters, in milliseconds since 1970.
struct Printed {
    values: BTreeMap<String, f64>,
    readings: BTreeMap<String, f64>,
}

/// Runs a program with an empty environment, except for `PATH`, and returns its output.
fn run(mut command: Command, graphs: bool) -> String {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    if graphs {
        command.env("MACKEREL_AGENT_PLUGIN_META", "1");
    }
    stdout(&command.output().unwrap())
}

/// The lines `name TAB value TAB epoch`.
fn values(command: Command) -> BTreeMap<String, f64> {
    let text = run(command, false);
    let line = |line: &str| {
        let [name, value, _] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?} is not a value") };
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().map(line).collect()
}

/// The time at which each of our counters was read.
fn own_readings(state: &Path) -> BTreeMap<String, f64> {
    let Ok(text) = std::fs::read_to_string(state) else { return BTreeMap::new() };
    let readings = serde_json::from_str::<Vec<(String, Value)>>(&text).unwrap();
    readings.into_iter().map(|(name, reading)| (name, reading["unix_millis"].as_f64().unwrap())).collect()
}

/// The time at which the official program read all of its counters.
fn official_readings(state: &Path) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(state).unwrap();
    let state = serde_json::from_str::<Value>(&text).unwrap();
    BTreeMap::from([("_lastTime".to_owned(), state["_lastTime"].as_f64().unwrap() * 1_000.0)])
}

/// The differences between the values of two programs; `before` has their previous run, which rates need.
fn different_values(official: &Printed, ours: &Printed, before: Option<(&Printed, &Printed)>) -> Vec<Difference> {
    let mut differences = Vec::new();
    let names = official.values.keys().chain(ours.values.keys()).collect::<BTreeSet<_>>();
    for name in names {
        let mut differ = |kind, official: Option<f64>, ours: Option<f64>| {
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            differences.push(Difference { kind, name: name.clone(), official: shown(official), ours: shown(ours) });
        };
        let (theirs, own) = match (official.values.get(name), ours.values.get(name)) {
            (Some(theirs), Some(own)) => (*theirs, *own),
            (None, own) => {
                differ(Kind::OnlyOurs, None, own.copied());
                continue;
            }
            (theirs, None) => {
                differ(Kind::OnlyOfficial, theirs.copied(), None);
                continue;
            }
        };
        // A rate is compared as the growth of its counter, since each program divides by its own time, the official one by whole seconds.
        let since = |now: &Printed, before: &Printed, key: &str| {
            Some((now.readings.get(key)? - before.readings.get(key)?) / 60_000.0)
        };
        let minutes = before.and_then(|(official_before, ours_before)| {
            Some((since(official, official_before, "_lastTime")?, since(ours, ours_before, name)?))
        });
        let (kind, theirs, own) = match minutes {
            Some((their_minutes, own_minutes)) => (Kind::Growth, theirs * their_minutes, own * own_minutes),
            None => (Kind::Value, theirs, own),
        };
        if !same(name, theirs, own) {
            differ(kind, Some(theirs), Some(own));
        }
    }
    differences
}

fn tolerance(name: &str) -> Option<&'static Tolerance> {
    TOLERANCES.iter().find(|tolerance| name.starts_with(tolerance.name))
}

/// Whether two values are equal within the tolerance. Six decimals are printed; those of a rate have been multiplied by minutes.
fn same(name: &str, official: f64, ours: f64) -> bool {
    let allowed = tolerance(name).map_or(0.0, |tolerance| tolerance.absolute + tolerance.relative * official.abs());
    (official - ours).abs() <= allowed + 1e-5
}

/// The graph definitions by name: label, unit and metrics.
fn graphs(command: Command) -> BTreeMap<String, Value> {
    let text = run(command, true);
    let (head, json) = text.split_once('\n').unwrap();
    assert_eq!(head, "# mackerel-agent-plugin");
    let json = serde_json::from_str::<Value>(json).unwrap();
    json["graphs"].as_object().unwrap().clone().into_iter().collect()
}

fn different_graphs(official: &BTreeMap<String, Value>, ours: &BTreeMap<String, Value>) -> Vec<Difference> {
    let official = official.iter().flat_map(facts).collect::<BTreeMap<_, _>>();
    let ours = ours.iter().flat_map(facts).collect::<BTreeMap<_, _>>();
    let names = official.keys().chain(ours.keys()).collect::<BTreeSet<_>>();
    let shown = |fact: Option<&String>| fact.cloned().unwrap_or("-".to_owned());
    let difference = |name: &String| {
        let (official, ours) = (shown(official.get(name)), shown(ours.get(name)));
        (official != ours).then(|| Difference { kind: Kind::Graph, name: name.clone(), official, ours })
    };
    names.into_iter().filter_map(difference).collect()
}

/// The definition of a graph and of each of its metrics, by name; a metric's includes its position in the graph.
fn facts((name, graph): (&String, &Value)) -> Vec<(String, String)> {
    let metrics = graph["metrics"].as_array().unwrap().iter().enumerate();
    let metric = |(position, metric): (usize, &Value)| {
        let full = format!("{name}.{}", metric["name"].as_str().unwrap());
        (full, format!("{position}. {} stacked: {}", metric["label"], metric["stacked"]))
    };
    let own = (name.clone(), format!("{} {}", graph["label"], graph["unit"]));
    [own].into_iter().chain(metrics.map(metric)).collect()
}

fn target(host: &str, port: u16) -> Vec<String> {
    vec![format!("-{host}=127.0.0.1"), format!("-port={port}")]
}

struct LiveNginx {
    nginx: Nginx,
    _waiting: [std::net::TcpStream; 2],
}

impl LiveNginx {
    fn start() -> Self {
        let nginx = Nginx::start();
        let _waiting = [nginx.waiting(), nginx.waiting()];
        Self { nginx, _waiting }
    }
}

impl Live for LiveNginx {
    fn flags(&self) -> Vec<String> {
        target("host", self.nginx.port)
    }

    fn work(&self) {
        for _ in 0..25 {
            assert_eq!(self.nginx.get("/"), "hello\n");
        }
    }
}

struct LiveRedis {
    redis: Redis,
    _replica: Option<Redis>,
}

impl LiveRedis {
    fn alone() -> Self {
        Self { redis: Redis::start("maxmemory 100mb\nrequirepass hunter2", &["-a", "hunter2"]), _replica: None }
    }

    fn with_replica() -> Self {
        let redis = Redis::start("requirepass hunter2", &["-a", "hunter2"]);
        let replica = Redis::start(&format!("replicaof 127.0.0.1 {}\nmasterauth hunter2", redis.port), &[]);
        replica.wait_until("master_link_status", "up");
        redis.wait_until("connected_slaves", "1");
        Self { redis, _replica: Some(replica) }
    }

    fn cluster() -> Self {
        let redis = Redis::start("cluster-enabled yes\nrequirepass hunter2", &["-a", "hunter2"]);
        assert_eq!(redis.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
        redis.wait_until("cluster_state", "ok");
        Self { redis, _replica: None }
    }
}

impl Live for LiveRedis {
    fn flags(&self) -> Vec<String> {
        [target("host", self.redis.port), vec!["-password=hunter2".to_owned()]].concat()
    }

    fn work(&self) {
        for index in 0..10 {
            let key = format!("key{index}");
            assert_eq!(self.redis.cli(&["SET", &key, "value"]), "OK");
            assert_eq!(self.redis.cli(&["SET", &format!("{key}-short"), "value", "PX", "1"]), "OK");
            assert_eq!(self.redis.cli(&["GET", &key]), "value");
            assert_eq!(self.redis.cli(&["GET", "none"]), "");
        }
    }
}

struct LivePostgres {
    postgres: Postgres,
    _sessions: [wasaba_e2e::postgres::Session; 3],
}

impl LivePostgres {
    fn start() -> Self {
        let postgres = Postgres::start("", "host all monitor 127.0.0.1/32 scram-sha-256");
        postgres
            .run("CREATE ROLE monitor LOGIN PASSWORD 'hunter2'; GRANT pg_monitor TO monitor; CREATE TABLE t (a int)");
        let _sessions = [
            postgres.session(&["SELECT 1;"], ""),
            postgres.session(&["BEGIN;"], ""),
            postgres.session(&["BEGIN;", "SELECT 1/0;"], ""),
        ];
        Self { postgres, _sessions }
    }
}

impl Live for LivePostgres {
    fn flags(&self) -> Vec<String> {
        let login = ["-user=monitor", "-password=hunter2", "-database=postgres"].map(str::to_owned);
        [target("hostname", self.postgres.port), login.to_vec()].concat()
    }

    fn work(&self) {
        self.postgres.run("INSERT INTO t SELECT generate_series(1, 20000); UPDATE t SET a = 0 WHERE a < 5000");
        self.postgres.run("DELETE FROM t WHERE a > 15000");
        self.postgres.run("BEGIN; INSERT INTO t VALUES (1); ROLLBACK");
    }
}
