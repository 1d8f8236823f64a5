//! The zoo: plugins that misbehave, and what is measured of an agent that runs all of them at once. `make zoo` runs it for as long as
//! one likes, the end-to-end tests for two minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;

use crate::agent::{Agent, Home};
use crate::hostile::{self, Server};
use crate::{component, unix_seconds, wasaba};

/// What the plugin `naughty` does wrong, in a table of its own.
#[derive(Clone, Copy)]
pub struct Animal {
    /// Its setting `do`, and its name.
    pub what: &'static str,
    /// Its other settings. `SILENT` and the like stand for the address of such a server.
    settings: &'static str,
    timeout_seconds: u32,
    memory_mib: u32,
    /// Its other limits.
    limits: &'static str,
    /// Further lines of its table.
    table: &'static str,
    /// What is said of it when it runs alone.
    pub said: &'static str,
}

impl Animal {
    const fn of(what: &'static str, said: &'static str) -> Self {
        Self { what, settings: "", timeout_seconds: 2, memory_mib: 16, limits: "", table: "", said }
    }

    const fn settings(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }

    const fn timeout_seconds(self, timeout_seconds: u32) -> Self {
        Self { timeout_seconds, ..self }
    }

    const fn memory_mib(self, memory_mib: u32) -> Self {
        Self { memory_mib, ..self }
    }

    const fn limits(self, limits: &'static str) -> Self {
        Self { limits, ..self }
    }

    const fn table(self, table: &'static str) -> Self {
        Self { table, ..self }
    }

    fn in_toml(&self, name: &str, timeout_seconds: u32, compute_ms: u32) -> String {
        let Self { what, settings, memory_mib, limits, table, .. } = self;
        let listed = |first: String, more: &str| if more.is_empty() { first } else { format!("{first}, {more}") };
        let settings = listed(format!("do = {what:?}"), settings);
        let compute =
            if limits.contains("compute_ms") { String::new() } else { format!("compute_ms = {compute_ms}, ") };
        let limits = listed(format!("{compute}memory_mib = {memory_mib}"), limits);
        format!(
            "[plugin.metrics.{name}]\nwasm = {:?}\nsettings = {{ {settings} }}\ntimeout_seconds = {timeout_seconds}\n\
             limits = {{ {limits} }}\nkey_prefix = {name:?}\n{table}\n",
            component("naughty")
        )
    }

    /// Its table, with plenty of time, so that on a busy machine it meets no other limit first.
    #[must_use]
    pub fn alone(&self) -> String {
        self.in_toml(self.what, if self.what == "sleep" { 2 } else { 50 }, 40_000)
    }
}

/// What `naughty` does wrong without a server. What it did to an agent without the limit is noted where it is not obvious.
pub const ANIMALS: &[Animal] = &[
    Animal::of("loop", "limit `compute_ms`").limits("compute_ms = 300"),
    Animal::of("sleep", "timed out after 2 s and was stopped (limit `timeout_seconds`)"),
    Animal::of("abort", "crashed ("),
    Animal::of("trap", "attempt to divide by zero"),
    Animal::of("recursion", "limit `stack_kib`"),
    Animal::of("memory", "more memory than the 64 MiB allowed (limit `memory_mib`)").memory_mib(64),
    Animal::of("many-samples", "20000 samples, more than 1000 (limit `samples`)"),
    Animal::of("million-samples", "limit `handover_kib`").memory_mib(1_024),
    Animal::of("long-name", "limit `handover_kib`").memory_mib(64),
    Animal::of("long-error", "failed: xxx").memory_mib(32),
    Animal::of("bad-samples", "is not a finite number"),
    Animal::of("flood", "dropped 984 more log lines of this call (limit `log_lines`)"),
    Animal::of("flood-stderr", "line 9999)"),
    Animal::of("hoard-values", "limit `kv_kib`"),
    Animal::of("derive", "limit `pbkdf2_iterations`").settings("token = \"any\""),
    Animal::of("scan", "no grant for 127.0.0.1:1024"),
    // Each found metric was looked for among all, on the agent's own thread: with 1,000 samples 144 s a minute.
    Animal::of("many-metrics", "60001 metrics, more than 2000 (limit `metrics`)")
        .memory_mib(64)
        .limits("handover_kib = 65536"),
    Animal::of("many-graphs", "10001 graphs, more than 200 (limit `graphs`)"),
    // The same where the operator allows it.
    Animal::of("most-metrics", "most-metrics.m0\t1")
        .timeout_seconds(45)
        .memory_mib(128)
        .limits("handover_kib = 65536, metrics = 100000, samples = 100000, compute_ms = 40000")
        .table("exclude_pattern = 'm[1-9]'"),
    // Matched on the agent's own thread: 32.7 s.
    Animal::of("long-names", "").table("include_pattern = '(a?){60}(a{60}){3}b'"),
    // Readings were stored before their names were looked at, for a day, and all were written each minute: 71 MB of memory
    // a minute, 1.88 GB on the disk after six.
    Animal::of("new-counters", ""),
    Animal::of("new-long-counters", "").memory_mib(64).limits("handover_kib = 65536"),
    // Each refusal was logged in the plugin's words: 3,000 lines a minute.
    Animal::of("odd-methods", "invalid method \"CONNECT\"")
        .settings("url = \"http://SILENT/\"")
        .table("allow = [\"http://SILENT\"]"),
    // It panicked in the host's code.
    Animal::of("many-headers", "more than 100 headers")
        .settings("url = \"http://SILENT/\"")
        .table("allow = [\"http://SILENT\"]"),
    // Each secret was looked for in what stood for the others: with 180 of them the text doubled 180 times, and the agent aborted.
    Animal::of("many-secrets", "failed: [redacted]")
        .memory_mib(64)
        .settings("token = \"redacted\"")
        .table("reveal = true"),
    // What the agent computed for a plugin was not counted as the plugin's time.
    Animal::of("derive-often", "limit `pbkdf2_iterations`").settings("token = \"any\""),
    // A changed reason is logged; one that changes each minute, or comes and goes, had a line a minute.
    Animal::of("new-error", "failed: it failed in minute"),
    Animal::of("now-and-then", ""),
];

/// Those that need a server, or that are refused something.
const VISITORS: &[Animal] = &[
    Animal::of("fetch-body", "").settings("url = \"http://SILENT/\"").table("allow = [\"http://SILENT\"]"),
    Animal::of("fetch-body", "").settings("url = \"http://SLOW/\"").table("allow = [\"http://SLOW\"]"),
    Animal::of("fetch-body", "").settings("url = \"http://ENDLESS/\"").table("allow = [\"http://ENDLESS\"]"),
    Animal::of("follow", "").settings("url = \"http://REDIRECTING/\"").table("allow = [\"http://REDIRECTING\"]"),
    Animal::of("fetch", "").settings("url = \"http://2852039166/\""),
    Animal::of("connect", "").settings("url = \"169.254.169.254:80\""),
    Animal::of("connect-unix", "").settings("url = \"/var/run/docker.sock\""),
    Animal::of("read-file", "").settings("url = \"/etc/shadow\""),
    Animal::of("wasi", "").settings("url = \"SILENT\""),
    Animal::of("exit", ""),
    Animal::of("blame-secret", ""),
];

/// As many instances connect to a silent server as often as they may.
const HOARDERS: u32 = 10;

const HOARDER: Animal = Animal::of("hoard-connections", "").settings("url = \"SILENT\"").table("allow = [\"SILENT\"]");

/// As many instances compute without end, each up to its limit.
const COMPUTING: u32 = 3;

/// A table with `naughty` that does `what`, with further `settings` and lines.
#[must_use]
pub fn naughty(what: &str, settings: &str, table: &str) -> String {
    let wasm = component("naughty");
    format!(
        "[plugin.metrics.{what}]\nwasm = {wasm:?}\nsettings = {{ do = {what:?}{settings} }}\ntimeout_seconds = 2\n\
         {table}\n"
    )
}

/// A component whose core module has `fields`; it has the names of the contract's exports, but not their types.
fn shell(fields: &str) -> Vec<u8> {
    let text = format!(
        "(component
           (core module $m {fields} (func (export \"f\")))
           (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i \"f\")))
           (instance $plugin (export \"describe\" (func $f)))
           (instance $metrics (export \"graphs\" (func $f)) (export \"collect\" (func $f)))
           (export \"wasaba:plugin/about@0.2.0\" (instance $plugin))
           (export \"wasaba:plugin/metrics@0.2.0\" (instance $metrics)))"
    );
    wat::parse_str(text).unwrap()
}

/// A component with as many core instances of a module with `fields`.
fn instances(fields: &str, count: usize) -> Vec<u8> {
    let component = wat::parse_str(format!(
        "(component (core module $g {fields}) {} (core module $m (func (export \"f\"))) (core instance (instantiate $m)))",
        "(core instance (instantiate $g))".repeat(count)
    ));
    component.unwrap()
}

/// A component that imports a function of this name, whose type it does not say right: the compiler quotes it.
fn imports(name: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (import \"{name}\" (func)) (import \"{name}\" (func)))")).unwrap()
}

/// A component with 300 exports whose names have 16,000 bytes each.
fn exports_of_long_names() -> Vec<u8> {
    let exports = (0..300).map(|number| format!("(export \"a{number}-{}\" (core module $m))", "b".repeat(16_000)));
    wat::parse_str(format!("(component (core module $m) {})", exports.collect::<String>())).unwrap()
}

/// A component with 100 instances of a module whose 20 segments of 50 kB are copied to the same place.
fn overlaid() -> Vec<u8> {
    let segment = format!("(data (i32.const 0) \"{}\")", "x".repeat(50_000));
    instances(&format!("(memory 1) {}", segment.repeat(20)), 100)
}

/// Files that are not valid plugins: name, content, and the expected error.
pub fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let foreign = "(component (import \"evil:corp/everything@1.0.0\" (instance)))";
    let foreign = [foreign, &foreign.replace("evil:corp/everything@1.0.0", "wasi:sockets/tcp@0.3.0")];
    let [corp, wasi] = foreign.map(|import| {
        // With the contract's exports, so that only the import is wrong.
        let shell = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i \"f\"))) (instance $p (export \"describe\" (func $f)))
            (instance $q (export \"graphs\" (func $f)) (export \"collect\" (func $f)))
            (export \"wasaba:plugin/about@0.2.0\" (instance $p)) (export \"wasaba:plugin/metrics@0.2.0\" (instance $q)))";
        wat::parse_str(format!("{}{shell}", import.strip_suffix(')').unwrap())).unwrap()
    });
    vec![
        (
            "tables",
            shell("(table 10000000 funcref)"),
            "table elements to start, more than 100000 (limit `table_elements`)",
        ),
        (
            "two-tables",
            shell("(table 60000 funcref) (table 60000 funcref)"),
            "table elements to start, more than 100000 (limit `table_elements`)",
        ),
        ("memory", shell("(memory 65536)"), "MiB of memory to start, more than 64 (limit `memory_mib`)"),
        ("memories", shell("(memory 600) (memory 600)"), "MiB of memory to start, more than 64 (limit `memory_mib`)"),
        ("globals", instances(&"(global i32 (i32.const 0))".repeat(20_000), 150), "MiB of memory to start, more than"),
        ("instances", instances("", 201), "has 202 core instances, more than 200 (limit `instances`)"),
        ("long-name", imports(&"x".repeat(99_000)), "a name of 99000 bytes, more than 16384"),
        ("quoted-name", imports(&"x".repeat(16_000)), "xxx"),
        ("names", exports_of_long_names(), "more than 4 MiB of names"),
        (
            "passive",
            instances(&format!("(elem funcref {})", "(ref.null func) ".repeat(100_000)), 150),
            "MiB of memory to start, more than 64 (limit `memory_mib`)",
        ),
        ("overlaid", overlaid(), "MiB of data to start, more than 64 (limit `memory_mib`)"),
        ("start", shell("(func $s (loop br 0)) (start $s)"), "cannot describe itself: "),
        ("types", shell(""), "does not match the contract wasaba:plugin@0.2.0"),
        ("corp", corp, "imports `evil:corp/everything@1.0.0`, which this agent does not have"),
        ("wasi", wasi, "imports `wasi:sockets/tcp@0.3.0`, which this agent does not have"),
        ("loops", std::fs::read(component("loops")).unwrap(), "cannot describe itself: "),
        ("evil", machine_code(), "is machine code"),
    ]
}

/// The native code that the agent compiles a component to, which it trusts only in its own folder.
fn machine_code() -> Vec<u8> {
    let mut child = compiler(&[]);
    child.stdin.take().unwrap().write_all(&std::fs::read(component("everything")).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    // What the component needs comes first.
    let (_, code) = output.stdout.split_at_checked(32).unwrap();
    assert!(output.status.success() && !code.is_empty());
    code.to_vec()
}

/// The agent's compiler, which waits for a component.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn compiler(flags: &[&str]) -> Child {
    let mut command = Command::new(wasaba());
    command.args(["plugin", "compiler", "--engine=pulley", "--cpu-seconds=60", "--memory-bytes=2147483648"]);
    command.args(["--instances=200", "--start-bytes=67108864", "--table-elements=100000"]).args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The servers that animals talk to.
struct Servers {
    silent: Server,
    slow: Server,
    endless: Server,
    redirecting: Server,
}

impl Servers {
    fn start() -> Self {
        Self {
            silent: hostile::silent(),
            slow: hostile::slow(),
            endless: hostile::endless(),
            redirecting: hostile::redirecting("http://169.254.169.254/latest/meta-data/"),
        }
    }

    /// The table with the servers' addresses.
    fn put_into(&self, table: &str) -> String {
        let address = |server: &Server| format!("127.0.0.1:{}", server.port);
        let servers = [
            ("SILENT", &self.silent),
            ("SLOW", &self.slow),
            ("ENDLESS", &self.endless),
            ("REDIRECTING", &self.redirecting),
        ];
        servers.iter().fold(table.to_owned(), |table, (word, server)| table.replace(word, &address(server)))
    }
}

/// [`Animal::alone`], with the address of a server.
#[must_use]
pub fn alone(animal: &Animal) -> String {
    Servers::start().put_into(&animal.alone())
}

/// A zoo with one agent, which posts to a stand-in.
pub struct Zoo {
    standin: Standin,
    home: Home,
    servers: Servers,
    base: String,
}

/// So many threads more than before may be left: of the pool, and one for plugins that compute.
pub const MOST_MORE_THREADS: f64 = 8.0;

/// How long the zoo waits for anything, even on a busy machine.
const LONG: Duration = Duration::from_secs(240);

/// What was found in a zoo that was watched.
#[derive(Clone, Debug)]
pub struct Findings {
    /// What is missing of the host's metrics, by the minute.
    pub gaps: Vec<String>,
    /// How long after its beginning the last host metric of each minute had arrived, in seconds.
    pub arrivals_seconds: Vec<f64>,
    /// The same in a minute without animals.
    pub quiet_arrival_seconds: f64,
    /// The most memory of the agent, in megabytes (10^6 bytes).
    pub most_pss_mb: f64,
    /// The most anonymous memory, in the same unit.
    pub most_anonymous_mb: f64,
    /// The sum of the animals' `memory_mib`, in the same unit.
    pub limits_mb: f64,
    /// The sum of what a call of each has had at most, in the same unit: what all have that are called at once.
    pub peaks_mb: f64,
    /// The size of the queue's file, in the same unit.
    pub database_mb: f64,
    /// The size of all else under the agent's root, without compiled components.
    pub other_files_mb: f64,
    /// What the agent has logged.
    pub log: Vec<String>,
    /// The CPU time of child processes in the last minute, in seconds: what is compiled again and again.
    pub compiling_seconds: f64,
    /// Threads, file descriptors, and megabytes of anonymous memory before the animals came, and when they were gone.
    pub before: [f64; 3],
    /// See `before`.
    pub after: [f64; 3],
    /// The same when all have come and gone once more, if they have.
    pub again: Option<[f64; 3]>,
    /// The descriptors that are open and the threads that run when they are gone and did not before, and the largest anonymous mappings.
    pub left: Vec<String>,
    /// What the stand-in refused.
    pub refusals: Vec<String>,
}

impl Zoo {
    /// A zoo with one plugin that behaves.
    ///
    /// # Panics
    /// The stand-in cannot be started.
    pub async fn open() -> Self {
        let standin = Standin::start("key").await.unwrap();
        // A frozen machine, so that mounts of other processes do not change the set of metrics.
        let frozen = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/machine");
        let base = format!(
            "apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n\
             [machine]\nproc = \"{frozen}/proc\"\nsys = \"{frozen}/sys\"\netc = \"{frozen}/etc\"\n{}",
            standin.url(),
            naughty("nothing", "", "")
        );
        let home = Home::with(&base);
        Self { standin, home, servers: Servers::start(), base }
    }

    /// Starts the agent.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.home.start(&[])
    }

    /// The tables of all animals, and the sum of their limits of memory in MiB.
    fn animals(&self) -> (String, u32) {
        let (mut tables, mut memory_mib) = (String::new(), 0);
        let mut add = |animal: &Animal, name: &str| {
            tables.push_str(&self.servers.put_into(&animal.in_toml(name, animal.timeout_seconds, 1_500)));
            memory_mib += animal.memory_mib;
        };
        for animal in ANIMALS {
            add(animal, animal.what);
        }
        for (number, visitor) in VISITORS.iter().enumerate() {
            add(visitor, &format!("visitor{number}"));
        }
        (0..HOARDERS).for_each(|number| add(&HOARDER, &format!("hoard{number}")));
        let computing = Animal::of("loop", "").timeout_seconds(10).limits("compute_ms = 5000");
        (0..COMPUTING).for_each(|number| add(&computing, &format!("computing{number}")));
        for limit in ["component_mib", "compile_seconds", "compile_mib"] {
            let wasm = component("python");
            writeln!(tables, "[plugin.metrics.{limit}]\nwasm = {wasm:?}\nlimits = {{ {limit} = 1 }}").unwrap();
        }
        let wasm = component("naughty");
        // Reports and documents under new names each minute were kept for ever, the documents in files too.
        for (kind, what) in [("checks", "new-reports"), ("metadata", "new-documents")] {
            writeln!(
                tables,
                "[plugin.{kind}.{what}]\nwasm = {wasm:?}\nsettings = {{ do = {what:?}, url = {what:?} }}\n\
                 limits = {{ handover_kib = 65536 }}"
            )
            .unwrap();
            memory_mib += 64;
        }
        // It was compiled again at every tick.
        let broken = self.home.path("broken.wasm");
        std::fs::write(&broken, shell("")).unwrap();
        writeln!(tables, "[plugin.checks.broken]\nwasm = {broken:?}").unwrap();
        (tables, memory_mib)
    }

    /// Lets all animals in; a running agent notices those with a table when it reads the configuration again.
    ///
    /// # Panics
    /// A file cannot be written.
    pub fn fill(&self) {
        self.home.configure(&format!("{}{}", self.base, self.animals().0));
        for (name, bytes, _) in bad_files() {
            self.home.drop_in(&format!("bad-{name}.wasm"), &bytes);
        }
        let naughty = std::fs::read(component("naughty")).unwrap();
        // 60,000 unknown keys were 17 MB of log.
        for (name, settings) in [("keys", ""), ("settings", "[settings]\n")] {
            let keys = (0..60_000).fold(settings.to_owned(), |keys, number| format!("{keys}key{number} = 1\n"));
            self.home.drop_in(&format!("{name}.toml"), keys.as_bytes());
            self.home.drop_in(&format!("{name}.wasm"), &naughty);
        }
        self.home.drop_in("hangs.toml", b"settings = { do = \"sleep\" }\ntimeout_seconds = 30\n");
        self.home.drop_in("hangs.wasm", &naughty);
    }

    /// Watches an agent for as many full minutes with all animals in it, and lets them in `again` when they are gone.
    ///
    /// # Panics
    /// Nothing happens for minutes.
    pub async fn watch(&self, minutes: i64, again: bool) -> Findings {
        let agent = self.agent();
        self.until("the first values", "custom.naughty.good", 0).await;
        let (before, descriptors) = (resources(&agent), descriptors(&agent));
        self.fill();
        agent.signal(Signal::HUP);
        self.until_called("loop").await;
        // Replaced during a call, by the same component with an additional custom section.
        let naughty = std::fs::read(component("naughty")).unwrap();
        self.home.drop_in("hangs.wasm", &[naughty.as_slice(), &[0, 2, 1, b'x']].concat());
        let first = (unix_seconds() as i64).div_euclid(60) * 60 + 60;
        let last = first + (minutes - 1) * 60;
        let meter = Meter::start(agent.pid());
        let mut compiled = compiling_seconds(&agent);
        for minute in (first..=last).step_by(60) {
            compiled = compiling_seconds(&agent);
            self.until("a full minute", "memory.total", minute).await;
            self.until("the plugin that behaves", "custom.naughty.good", minute).await;
        }
        // Until the last of its values have arrived.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let compiling_seconds = compiling_seconds(&agent) - compiled;
        let (most_pss_mb, most_anonymous_mb) = meter.most();
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0.0, |about| about.len() as f64 / 1e6);
        let database_mb = size(&self.home.root().join("wasaba.db"));
        let metadata = std::fs::read_dir(self.home.root().join("metadata")).into_iter().flatten().flatten();
        let other_files_mb = metadata.map(|entry| size(&entry.path())).sum();
        let (log, peaks_mb) = (agent.lines(), self.peaks_mb());

        let quiet = self.empty(&agent).await;
        idle_ended(&agent, before).await;
        let (after, left) = (resources(&agent), left(&agent, descriptors));
        let again = if again {
            self.fill();
            agent.signal(Signal::HUP);
            self.until_called("loop").await;
            self.until("a full minute", "memory.total", (unix_seconds() as i64).div_euclid(60) * 60 + 60).await;
            self.empty(&agent).await;
            Some(resources(&agent))
        } else {
            None
        };
        let arrivals = self.arrivals(first, last);
        let all = arrivals.values().flat_map(|(_, names)| names).collect::<BTreeSet<_>>();
        let missing = |minute: i64| {
            let names =
                arrivals.get(&minute).map(|(_, names)| names.iter().collect::<BTreeSet<_>>()).unwrap_or_default();
            all.difference(&names).map(|name| format!("{name} of {minute}")).collect::<Vec<_>>()
        };
        let mut gaps = (first..=last).step_by(60).flat_map(missing).collect::<Vec<_>>();
        gaps.extend(
            ["memory.total", "loadavg1"]
                .iter()
                .filter(|name| !all.contains(&(**name).to_owned()))
                .map(|name| format!("{name} of all")),
        );
        Findings {
            gaps,
            arrivals_seconds: arrivals.values().map(|(seconds, _)| *seconds).collect(),
            quiet_arrival_seconds: self.arrivals(quiet, quiet).values().map(|(seconds, _)| *seconds).sum(),
            most_pss_mb,
            most_anonymous_mb,
            limits_mb: f64::from(self.animals().1) * 1.048_576,
            peaks_mb,
            database_mb,
            other_files_mb,
            log,
            compiling_seconds,
            before,
            after,
            again,
            left,
            refusals: self.standin.memory().refusals().iter().map(ToString::to_string).collect(),
        }
    }

    /// Removes all animals, and waits for the end of a minute without them; returns that minute.
    async fn empty(&self, agent: &Agent) -> i64 {
        std::fs::remove_dir_all(self.home.root().join("plugins")).unwrap();
        self.home.configure(&self.base);
        agent.signal(Signal::HUP);
        let end = Instant::now() + LONG;
        while self.plugins().len() > 1 {
            assert!(Instant::now() < end, "the animals are still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let quiet = (unix_seconds() as i64).div_euclid(60) * 60 + 60;
        self.until("a quiet minute", "memory.total", quiet).await;
        self.until("a quiet minute", "custom.naughty.good", quiet).await;
        quiet
    }

    /// What `wasaba plugin list` says of each plugin.
    fn plugins(&self) -> Vec<serde_json::Value> {
        let output = self.home.command(&["plugin", "list"], &["-json"]);
        let report = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        report["plugins"].as_array().unwrap().clone()
    }

    /// What a call of each plugin has had at most, in all, in megabytes.
    fn peaks_mb(&self) -> f64 {
        self.plugins().iter().map(|plugin| plugin["memory_bytes"].as_f64().unwrap()).sum::<f64>() / 1e6
    }

    /// Waits for the first call of this plugin.
    async fn until_called(&self, name: &str) {
        let end = Instant::now() + LONG;
        while !self.plugins().iter().any(|plugin| plugin["name"] == name && plugin["calls"] != 0) {
            assert!(Instant::now() < end, "{name} was not called");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn until(&self, what: &str, name: &str, minute: i64) {
        let has = |memory: &Memory| memory.points().iter().any(|point| point.name == name && point.time >= minute);
        self.standin.wait_until(LONG, &format!("{what}: {name}"), has).await.unwrap();
    }

    /// When the last host metric of each of these minutes had arrived, in seconds since it began, and the names of all.
    fn arrivals(&self, first: i64, last: i64) -> BTreeMap<i64, (f64, BTreeSet<String>)> {
        let mut arrivals = BTreeMap::<i64, (f64, BTreeSet<String>)>::new();
        for point in self.standin.memory().points() {
            if point.name.starts_with("custom.") || !(first..=last).contains(&point.time) {
                continue;
            }
            let received = point.received_at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            let (latest, names) = arrivals.entry(point.time).or_default();
            *latest = latest.max(received - point.time as f64);
            names.insert(point.name.clone());
        }
        arrivals
    }
}

/// Waits until idle threads and connections have ended. On a busy machine the last call of an animal may end late, and requests of several
/// lanes may be under way at once, each with a connection of its own, which is kept for the next ones for a while.
async fn idle_ended(agent: &Agent, [threads, descriptors, _]: [f64; 3]) {
    let end = Instant::now() + LONG;
    let is_more = |[now, open, _]: [f64; 3]| now > threads + MOST_MORE_THREADS || open > descriptors + 6.0;
    while is_more(resources(agent)) && Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Threads, file descriptors, and megabytes of anonymous memory.
fn resources(agent: &Agent) -> [f64; 3] {
    let count = |folder: &str| std::fs::read_dir(format!("/proc/{}/{folder}", agent.pid())).unwrap().count() as f64;
    [count("task"), count("fd"), memory_mb(agent.pid(), "Anonymous:").unwrap()]
}

/// What is open, and the names of the threads, and how often.
fn descriptors(agent: &Agent) -> BTreeMap<String, i64> {
    let mut descriptors = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        *descriptors.entry(format!("threads {}", name.trim_end())).or_default() += 1;
    }
    for entry in std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().flatten() {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            // Without the number of a socket or pipe.
            let kind = target.to_string_lossy().split(":[").next().unwrap_or_default().to_owned();
            *descriptors.entry(kind).or_default() += 1;
        }
    }
    descriptors
}

fn left(agent: &Agent, before: BTreeMap<String, i64>) -> Vec<String> {
    let more = descriptors(agent).into_iter().map(|(kind, count)| {
        let more = count - before.get(&kind).copied().unwrap_or_default();
        (kind, more)
    });
    let mut left =
        more.filter(|(_, more)| *more != 0).map(|(kind, more)| format!("{more:+} {kind}")).collect::<Vec<_>>();
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", agent.pid())).unwrap();
    let (mut mappings, mut mapping) = (Vec::new(), "");
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(size) => mappings.push((size.trim_end_matches("kB").trim().parse::<u64>().unwrap(), mapping)),
            None if !line.split(' ').next().unwrap_or_default().ends_with(':') => mapping = line,
            None => {}
        }
    }
    mappings.sort_unstable();
    left.extend(mappings.iter().rev().take(10).map(|(kib, mapping)| format!("{kib} KiB of {mapping}")));
    left
}

/// CPU time of children that have exited.
fn compiling_seconds(agent: &Agent) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    // Fields 16 and 17 (proc(5)), in ticks of 10 ms.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').collect::<Vec<_>>();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(13) + ticks(14)) / 100.0
}

/// A value of /proc/PID/smaps_rollup, in megabytes, or nothing if the process has exited.
#[must_use]
pub fn memory_mb(pid: u32, key: &str) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// Reads the memory of a process until it is dropped.
struct Meter {
    most: Arc<Mutex<(f64, f64)>>,
    stop: Arc<AtomicBool>,
}

impl Meter {
    fn start(pid: u32) -> Self {
        let meter = Self { most: Arc::default(), stop: Arc::default() };
        let (most, stop) = (Arc::clone(&meter.most), Arc::clone(&meter.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let [pss, anonymous] = ["Pss:", "Anonymous:"].map(|key| memory_mb(pid, key).unwrap_or_default());
                let mut most = most.lock().unwrap();
                *most = (most.0.max(pss), most.1.max(anonymous));
                drop(most);
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        meter
    }

    /// The most so far: PSS, and anonymous memory.
    fn most(&self) -> (f64, f64) {
        *self.most.lock().unwrap()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
