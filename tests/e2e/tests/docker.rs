//! The metrics of the containers of a real Docker engine: under known load, beside what the engine's own client shows, and while
//! containers come, go and fail.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::docker::Engine;
use wasaba_e2e::unix_seconds;

const SOON: Duration = Duration::from_secs(10);
const TWO_MINUTES: Duration = Duration::from_secs(130);

/// What `wasaba once` finds with this table, by name without `custom.docker.`.
fn once(engine: &Engine, table: &str) -> BTreeMap<String, f64> {
    let home = Home::with(&format!("[docker]\nhost = {:?}\n{table}", engine.host()));
    let printed = stdout(&home.command(&["once"], &[]));
    let printed = serde_json::from_str::<serde_json::Value>(&printed).unwrap();
    let values = printed["metrics"]["Values"][0]["Values"].as_object().unwrap();
    let own = |(name, value): (&String, &serde_json::Value)| {
        Some((name.strip_prefix("custom.docker.")?.to_owned(), value["Value"].as_f64().unwrap()))
    };
    values.iter().filter_map(own).collect()
}

/// A container with this name that runs this line of shell, removed when dropped.
struct Container<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl<'a> Container<'a> {
    fn run(engine: &'a Engine, name: &'a str, flags: &[&str], line: &str) -> Self {
        let words = [&["run", "--detach", "--name", name][..], flags, &["busybox", "/bin/sh", "-c", line]].concat();
        engine.docker(&words);
        Self { engine, name }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        drop(self.engine.command(&["rm", "--force", "--volumes", self.name]));
    }
}

/// Within five percent of each other, or what they are.
fn near(what: &str, one: f64, other: f64) -> Result<(), String> {
    let is_near = (one - other).abs() <= other.abs() * 0.05;
    is_near.then_some(()).ok_or_else(|| format!("{what}: {one} is not within 5 % of {other}"))
}

/// What the client shows of a container, `{{.NetIO}}` or the like.
fn shown(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["stats", "--no-stream", "--format", format, name])
}

/// A number as the client shows it: `12.3MB`, `50.02%`, `64MiB`.
fn number(text: &str) -> f64 {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap();
    let (number, unit) = text.split_at(digits);
    let units = [("%", 1.0), ("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("KiB", 1024.0), ("MiB", 1_048_576.0)];
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).unwrap_or_else(|| panic!("{text}"));
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn cpu_and_memory_are_what_the_load_is_and_what_the_client_shows() {
    let engine = Engine::shared();
    engine.busybox();
    // Of two cores: half of one, in slices that are short beside the second that is looked at. 64 MiB in memory.
    let half = ["--cpu-period", "10000", "--cpu-quota", "5000"];
    let _cpu = Container::run(&engine, "load-cpu", &half, "while :; do :; done");
    let memory = "head -c 67108864 /dev/zero >/memory/file; sleep 1000";
    let _memory = Container::run(&engine, "load-memory", &["--tmpfs", "/memory", "--memory", "256m"], memory);
    std::thread::park_timeout(Duration::from_secs(3));

    let look = || once(&engine, "extra = [\"memory\", \"pids\"]\ninclude = { name = \"^load-\" }\n");
    let of = |values: &BTreeMap<String, f64>, name: &str| {
        *values.get(name).unwrap_or_else(|| panic!("{name} is not in {values:#?}"))
    };
    // Whoever else is at work here may take some of it for a second, but not in most of five.
    let both = |values: &BTreeMap<String, f64>| {
        ["user", "system"].iter().map(|mode| of(values, &format!("cpuacct_percentage.load-cpu.{mode}"))).sum::<f64>()
    };
    let mut looks = (0..5).map(|_| both(&look())).collect::<Vec<_>>();
    looks.sort_by(f64::total_cmp);
    near("half a core", looks[2], 50.0).unwrap_or_else(|why| panic!("{why}: {looks:?}"));

    let values = look();
    let of = |name: &str| of(&values, name);
    assert_eq!(of("memory_usage.load-memory.limit"), f64::from(256 << 20));
    // Pages of a tmpfs are cache to the kernel.
    near("what lies in memory", of("memory.load-memory.cache"), f64::from(64 << 20)).unwrap();
    let (usage, percent) =
        (shown(&engine, "load-memory", "{{.MemUsage}}"), shown(&engine, "load-memory", "{{.MemPerc}}"));
    let usage = number(usage.strip_suffix(" / 256MiB").unwrap());
    near("used", of("memory_usage.load-memory.used"), usage).unwrap();
    near("percent", of("memory_percentage.load-memory.used"), number(&percent)).unwrap();
    assert_eq!(of("pids.load-cpu.current"), shown(&engine, "load-cpu", "{{.PIDs}}").parse::<f64>().unwrap());
}

/// The block device on which Docker's volumes lie, as a container may name it.
fn root_device() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of =
        |point: &str| fields.clone().filter(|fields| fields[1] == point).map(|fields| fields[0].to_owned()).next_back();
    of("/tmp").filter(|device| device.starts_with("/dev/")).or_else(|| of("/")).unwrap()
}

/// Nanoseconds that other machines on the same hardware took of this one's CPU (proc(5), `steal`, in ticks of 10 ms).
fn stolen() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.split_ascii_whitespace().nth(8).unwrap().parse::<f64>().unwrap() * 1e7
}

/// Where a container's counters stand.
struct Standing {
    at: Instant,
    /// Nanoseconds of CPU.
    cpu: f64,
    /// Nanoseconds of CPU that all cores of the machine had, with what other machines took of it, and how many these are. The
    /// engine leaves out what was taken, which makes the client show too much then.
    machine: (f64, f64),
    /// Bytes received, as the client shows them.
    received: f64,
    /// Bytes written, as the client shows them.
    written: f64,
}

impl Standing {
    fn of(engine: &Engine, cpu: &str, network: &str, disk: &str) -> Self {
        // The client's second reading is the one that it shows.
        let received = shown(engine, network, "{{.NetIO}}");
        let at = Instant::now();
        let written = shown(engine, disk, "{{.BlockIO}}");
        let told = Command::new("curl")
            .args(["--silent", "--unix-socket"])
            .arg(engine.socket())
            .arg(format!("http://engine/containers/{cpu}/stats?stream=false"))
            .output()
            .unwrap();
        let told = serde_json::from_slice::<serde_json::Value>(&told.stdout).unwrap()["cpu_stats"].take();
        let of = |value: &serde_json::Value| value.as_f64().unwrap();
        let machine = (of(&told["system_cpu_usage"]) + stolen(), of(&told["online_cpus"]));
        let cpu = of(&told["cpu_usage"]["total_usage"]);
        let (received, _) = received.split_once(" / ").unwrap();
        let (_, written) = written.split_once(" / ").unwrap();
        Self { at, cpu, machine, received: number(received), written: number(written) }
    }

    /// The rates that are compared.
    const RATES: [&str; 5] = [
        "cpuacct_percentage.minute-cpu.user",
        "cpuacct_percentage.minute-cpu.system",
        "network.minute-client.rx",
        "blkio.io_service_bytes.minute-disk.write",
        "blkio.io_serviced.minute-disk.write",
    ];

    /// Compares what was posted with the growth since `before`.
    fn since(&self, before: &Self, posted: impl Fn(&str) -> f64) -> Result<(), String> {
        let [user, system, received, written, writes] = Self::RATES.map(posted);
        let seconds = (self.at - before.at).as_secs_f64();
        // The client's formula; what it shows itself is of a single second.
        let cpu = (self.cpu - before.cpu) / (self.machine.0 - before.machine.0) * self.machine.1 * 100.0;
        near("percent of a core, as the client reckons", user + system, cpu)?;
        near("a fifth of a core", user + system, 20.0)?;
        near("bytes received a second", received, (self.received - before.received) / seconds)?;
        let bytes_a_second = (self.written - before.written) / seconds;
        near("bytes written a minute", written, bytes_a_second * 60.0)?;
        near("writes of 64 KiB a second", writes, bytes_a_second / 65_536.0)
    }
}

#[tokio::test]
async fn the_rates_of_a_whole_minute_are_those_of_the_load_and_of_what_the_client_shows() {
    let engine = Engine::shared();
    engine.busybox();
    let standin = Standin::start("key").await.unwrap();
    // A fifth of a core. A megabyte at a time over the network, half of one to the disk; pauses are long beside the work.
    let _cpu = Container::run(&engine, "minute-cpu", &["--cpus", "0.2"], "while :; do :; done");
    drop(engine.command(&["network", "create", "minute"]));
    let serve = "mkdir /www; head -c 1048576 /dev/zero >/www/file; exec httpd -f -p 7000 -h /www";
    let fetch = "while :; do wget -q -O /dev/null http://minute-server:7000/file; usleep 500000; done";
    let _server = Container::run(&engine, "minute-server", &["--network", "minute"], serve);
    let _client = Container::run(&engine, "minute-client", &["--network", "minute"], fetch);
    // Some kernels count only where there is a limit.
    let limit = format!("{}:4gb", root_device());
    let write =
        "while :; do dd if=/dev/zero of=/data/file bs=65536 count=8 oflag=direct 2>/dev/null; usleep 500000; done";
    let _disk = Container::run(&engine, "minute-disk", &["--volume", "/data", "--device-write-bps", &limit], write);
    let home = Home::with(&format!(
        "apikey = \"key\"\napibase = {:?}\n[docker]\nhost = {:?}\nextra = [\"network\"]\ninclude = {{ name = \"^minute-\" }}\n",
        standin.url(),
        engine.host()
    ));
    wasaba_e2e::not_at_the_end_of_a_minute().await;
    let standing = || Standing::of(&engine, "minute-cpu", "minute-client", "minute-disk");
    let agent = home.start(&[]);
    let mut before = standing();
    // Whoever else is at work here may spoil a minute, but not each of three.
    let mut spoiled = Vec::new();
    loop {
        let end = (unix_seconds() / 60.0).ceil() * 60.0;
        tokio::time::sleep(Duration::from_secs_f64((end - unix_seconds() - 1.0).max(0.0))).await;
        let after = standing();
        let rate = |memory: &Memory, name: &str| {
            let name = format!("custom.docker.{name}");
            memory.points().iter().find(|point| point.name == name && point.time == end as i64).map(|point| point.value)
        };
        let there = |memory: &Memory| Standing::RATES.iter().all(|name| rate(memory, name).is_some());
        standin.wait_until(TWO_MINUTES, "the rates of a minute", there).await.unwrap();
        let memory = standin.memory();
        match after.since(&before, |name| rate(&memory, name).unwrap()) {
            Ok(()) => break,
            Err(why) => spoiled.push(why),
        }
        assert!(spoiled.len() < 3, "{spoiled:#?}");
        before = after;
    }
    let memory = standin.memory();
    let graphs = memory.graph_definitions();
    assert_eq!(graphs["custom.docker.cpuacct_percentage.#"]["unit"], "percentage");
    assert_eq!(graphs["custom.docker.network.#"]["unit"], "bytes/sec");
    assert_eq!(memory.refusals(), []);
    drop(agent);
}

#[test]
fn what_happens_to_one_container_during_a_collection_costs_no_other_ones_sample() {
    let engine = Engine::shared();
    engine.busybox();
    let steady = (0..4).map(|number| format!("calm-{number}")).collect::<Vec<_>>();
    let _steady = steady.iter().map(|name| Container::run(&engine, name, &[], "sleep 1000")).collect::<Vec<_>>();
    let restless = ["calm-killed", "calm-stopped", "calm-removed", "calm-paused", "calm-renamed", "calm-restarted"];
    let _restless = restless
        .iter()
        .map(|name| Container::run(&engine, name, &[], "trap exit TERM; sleep 1000 & wait"))
        .collect::<Vec<_>>();
    let _hungry = Container::run(
        &engine,
        "calm-hungry",
        &["--memory", "16m", "--restart", "always"],
        "sleep 0.3; tail /dev/zero",
    );
    let done = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for words in [
                    &["kill", "calm-killed"][..],
                    &["stop", "calm-stopped"],
                    &["start", "calm-killed"],
                    &["pause", "calm-paused"],
                    &["rename", "calm-renamed", "calm-other"],
                    &["restart", "--time", "0", "calm-restarted"],
                    &["unpause", "calm-paused"],
                    &["start", "calm-stopped"],
                    &["rename", "calm-other", "calm-renamed"],
                    &["rm", "--force", "calm-removed"],
                    &["run", "--detach", "--name", "calm-removed", "busybox", "/bin/sleep", "1000"],
                ] {
                    // Some come at the wrong moment, and that is meant.
                    drop(engine.command(words));
                }
            }
        });
        let rounds = (0..4)
            .map(|_| once(&engine, "extra = [\"oom\", \"restarts\", \"state\"]\ninclude = { name = \"^calm-\" }\n"));
        let rounds = rounds.collect::<Vec<_>>();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        rounds
    });
    drop(engine.command(&["rm", "--force", "calm-other"]));
    for values in &rounds {
        for name in &steady {
            for metric in ["memory", "cpuacct_percentage"] {
                let has = values.keys().any(|key| key.starts_with(&format!("{metric}.{name}.")));
                assert!(has, "{metric} of {name} is not in {values:#?}");
            }
        }
        assert!(values["containers.running"] >= 4.0);
    }
    assert!(
        rounds.iter().any(|values| values.get("oom_kills.calm-hungry.kills").is_some_and(|kills| *kills > 0.0)),
        "{rounds:#?}"
    );
}

#[tokio::test]
async fn an_engine_that_hangs_or_starts_again_costs_only_its_own_values_and_is_told_once() {
    let engine = Engine::start(&[]);
    engine.busybox();
    engine.docker(&["run", "--detach", "--name", "steady", "--restart", "always", "busybox", "/bin/sleep", "1000"]);
    let standin = Standin::start("key").await.unwrap();
    let home = Home::with(&format!(
        "apikey = \"key\"\napibase = {:?}\n[docker]\nhost = {:?}\nextra = [\"up\"]\n",
        standin.url(),
        engine.host()
    ));
    engine.signal(Signal::STOP);
    let mut agent = home.start(&[]);
    let value = |memory: &Memory, name: &str| {
        memory.points().iter().rev().find(|point| point.name == name).map(|point| point.value)
    };
    standin.wait_until(SOON, "the host's values", move |memory| value(memory, "loadavg5").is_some()).await.unwrap();
    let hung = agent.line_with("no answer within", Duration::from_secs(20));
    assert!(hung.contains("docker: cannot ask the engine at `unix://") && hung.contains("WARNING"), "{hung}");
    standin
        .wait_until(Duration::from_secs(40), "up is 0", move |memory| {
            value(memory, "custom.docker.engine.up") == Some(0.0)
        })
        .await
        .unwrap();
    engine.restart();
    agent.line_with("docker: well again", TWO_MINUTES);
    let well = move |memory: &Memory| {
        value(memory, "custom.docker.memory.steady.rss").is_some()
            && value(memory, "custom.docker.engine.up") == Some(1.0)
    };
    standin.wait_until(Duration::from_secs(40), "the container's values", well).await.unwrap();
    // An engine that is just starting refuses in other words, which are news.
    let lines = agent.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("no answer within")).count(), 1, "{lines:#?}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert_eq!(standin.memory().refusals(), []);
}

#[test]
fn an_engine_behind_tls_is_asked_with_the_certificates_that_are_named() {
    let authority = wasaba_e2e::certificates::Authority::default();
    let (server, client) = (authority.issue("localhost", &[]), authority.issue("agent", &[]));
    let port = wasaba_e2e::free_port();
    let ca = authority.file().display().to_string();
    let shown = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (shown(&server.certificate), shown(&server.key));
    let host = format!("--host=tcp://127.0.0.1:{port}");
    let engine =
        Engine::start(&[&host, "--tlsverify", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key]);
    engine.busybox();
    engine.docker(&["run", "--detach", "--name", "behind-tls", "busybox", "/bin/sleep", "1000"]);
    let once = |tls: &str| {
        let home = Home::with(&format!("[docker]\nhost = \"tcp://localhost:{port}\"\n{tls}\n"));
        let mut command = engine.inside(&wasaba_e2e::wasaba());
        let output = command.args(["once", "-conf"]).arg(home.config()).output().unwrap();
        (stdout(&output), String::from_utf8(output.stderr).unwrap())
    };
    let (certificate, key) = (shown(&client.certificate), shown(&client.key));
    let (values, errors) =
        once(&format!("tls = {{ authority = {ca:?}, certificate = {certificate:?}, key = {key:?} }}"));
    assert!(values.contains("custom.docker.memory.behind-tls.rss"), "{values} {errors}");
    let (values, errors) = once(&format!("tls = {{ authority = {ca:?} }}"));
    assert!(
        !values.contains("custom.docker") && errors.contains("ertificate") && errors.contains("look at `tls`"),
        "{errors}"
    );
    let (_, errors) = once("tls = { authority = \"/nowhere/ca.pem\" }");
    assert!(errors.contains("/nowhere/ca.pem"), "{errors}");
}
