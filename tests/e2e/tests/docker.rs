//! The metrics of the containers of a real Docker engine: under known load, beside what the engine's own client shows, and while
//! containers come, go and fail.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::docker::Engine;

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

/// Within so many percent of each other.
#[track_caller]
fn assert_near(one: f64, other: f64, percent: f64, what: &str) {
    assert!((one - other).abs() <= other.abs() * percent / 100.0, "{what}: {one} is not within {percent} % of {other}");
}

#[test]
fn cpu_memory_network_and_disk_are_what_the_load_is_and_what_the_client_shows() {
    let engine = Engine::shared();
    engine.busybox();
    let device = root_device();
    let limit = format!("{device}:4gb");
    // Of two cores: half of one. 64 MiB in memory. 256 KiB at a time over the network, and to the disk.
    let _cpu = Container::run(&engine, "load-cpu", &["--cpus", "0.5"], "while :; do :; done");
    let memory = "head -c 67108864 /dev/zero >/memory/file; sleep 1000";
    let _memory = Container::run(&engine, "load-memory", &["--tmpfs", "/memory", "--memory", "256m"], memory);
    let _traffic = traffic(&engine, "load-server", "load-client");
    let disk =
        "while :; do dd if=/dev/zero of=/data/file bs=65536 count=4 oflag=direct 2>/dev/null; usleep 200000; done";
    let _disk = Container::run(&engine, "load-disk", &["--volume", "/data", "--device-write-bps", &limit], disk);
    std::thread::park_timeout(Duration::from_secs(3));

    let stat = |name: &str, format: &str| engine.docker(&["stats", "--no-stream", "--format", format, name]);
    let values = once(&engine, "extra = [\"memory\", \"network\", \"pids\"]\ninclude = { name = \"^load-\" }\n");
    let of = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name} is not in {values:#?}"));

    let both = of("cpuacct_percentage.load-cpu.user") + of("cpuacct_percentage.load-cpu.system");
    assert_near(both, 50.0, 10.0, "half a core, within a second");
    assert_near(of("memory_usage.load-memory.limit"), f64::from(256 << 20), 0.0, "the limit");
    // Pages of a tmpfs are cache to the kernel.
    assert_near(of("memory.load-memory.cache"), f64::from(64 << 20), 5.0, "what lies in memory");
    let shown = stat("load-memory", "{{.MemUsage}} {{.MemPerc}}");
    let (usage, percent) = shown.split_once(" / 256MiB ").unwrap();
    assert_near(
        of("memory_usage.load-memory.used"),
        usage.strip_suffix("MiB").unwrap().parse::<f64>().unwrap() * 1_048_576.0,
        5.0,
        "used",
    );
    assert_near(
        of("memory_percentage.load-memory.used"),
        percent.strip_suffix('%').unwrap().parse().unwrap(),
        5.0,
        "percent",
    );
    assert_eq!(of("pids.load-cpu.current"), stat("load-cpu", "{{.PIDs}}").parse::<f64>().unwrap());
    assert!(of("network.load-client.rx") > 200_000.0 && of("network.load-server.tx") > 200_000.0, "{values:#?}");
    assert!(of("blkio.io_service_bytes.load-disk.write") > 10_000_000.0, "{values:#?}");
    let bytes = of("blkio.io_serviced.load-disk.write") * 65_536.0 * 60.0;
    assert_near(of("blkio.io_service_bytes.load-disk.write"), bytes, 5.0, "64 KiB at a time");
    assert!(of("blkio.io_serviced.load-disk.write") > 3.0, "operations a second are not 0: {values:#?}");
}

/// The block device on which Docker's volumes lie, as a container may name it.
fn root_device() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of =
        |point: &str| fields.clone().filter(|fields| fields[1] == point).map(|fields| fields[0].to_owned()).next_back();
    of("/tmp").filter(|device| device.starts_with("/dev/")).or_else(|| of("/")).unwrap()
}

/// What a container's network has received, in bytes, as the kernel tells it there.
fn received(engine: &Engine, name: &str) -> (f64, Instant) {
    let shown = engine.docker(&["exec", name, "cat", "/sys/class/net/eth0/statistics/rx_bytes"]);
    (shown.parse().unwrap(), Instant::now())
}

/// A container that serves a file of 256 KiB, and one that fetches it some times a second, in a network of their own.
fn traffic<'a>(engine: &'a Engine, server: &'a str, client: &'a str) -> [Container<'a>; 2] {
    drop(engine.command(&["network", "create", server]));
    let serve = "mkdir /www; head -c 262144 /dev/zero >/www/file; exec httpd -f -p 7000 -h /www";
    let fetch = format!("while :; do wget -q -O /dev/null http://{server}:7000/file; usleep 100000; done");
    let network = ["--network", server];
    [Container::run(engine, server, &network, serve), Container::run(engine, client, &network, &fetch)]
}

#[tokio::test]
async fn the_rates_of_a_whole_minute_are_the_growth_of_the_containers_own_counters() {
    let engine = Engine::shared();
    engine.busybox();
    let standin = Standin::start("key").await.unwrap();
    let _traffic = traffic(&engine, "minute-server", "minute-client");
    let _cpu = Container::run(&engine, "minute-cpu", &["--cpus", "0.3"], "while :; do :; done");
    let home = Home::with(&format!(
        "apikey = \"key\"\napibase = {:?}\n[docker]\nhost = {:?}\nextra = [\"network\"]\ninclude = {{ name = \"^minute-\" }}\n",
        standin.url(),
        engine.host()
    ));
    let before = received(&engine, "minute-client");
    let agent = home.start(&[]);
    let rate = |memory: &Memory, name: &str| {
        let mut values = memory.points().iter().filter(|point| point.name == format!("custom.docker.{name}"));
        values.next_back().map(|point| point.value)
    };
    let there = |memory: &Memory| {
        rate(memory, "network.minute-client.rx").is_some()
            && rate(memory, "cpuacct_percentage.minute-cpu.user").is_some()
    };
    standin.wait_until(TWO_MINUTES, "the rates of a minute", there).await.unwrap();
    let after = received(&engine, "minute-client");
    let memory = standin.memory();
    let grown = (after.0 - before.0) / (after.1 - before.1).as_secs_f64();
    assert_near(rate(&memory, "network.minute-client.rx").unwrap(), grown, 5.0, "bytes received a second");
    let cpu = ["user", "system"].map(|mode| rate(&memory, &format!("cpuacct_percentage.minute-cpu.{mode}")).unwrap());
    assert_near(cpu.iter().sum(), 30.0, 5.0, "three tenths of a core");
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
    let restless = ["calm-killed", "calm-removed", "calm-paused", "calm-renamed", "calm-restarted"];
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
                    &["start", "calm-killed"],
                    &["pause", "calm-paused"],
                    &["rename", "calm-renamed", "calm-other"],
                    &["restart", "--time", "0", "calm-restarted"],
                    &["unpause", "calm-paused"],
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
    assert_eq!(agent.lines().iter().filter(|line| line.contains("docker: cannot ask")).count(), 1);
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).0.success());
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
