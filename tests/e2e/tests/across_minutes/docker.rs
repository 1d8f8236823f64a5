//! Metrics of the containers of a real Docker engine over full minutes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::Home;
use wasaba_e2e::docker::Engine;
use wasaba_e2e::{SOON, unix_seconds};

use crate::docker::{Container, near, number, shown};

/// Two real minutes, with slack for a busy machine.
const TWO_MINUTES: Duration = Duration::from_secs(240);

/// The block device with Docker's volumes, as a container may name it.
fn root_device() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of =
        |point: &str| fields.clone().filter(|fields| fields[1] == point).map(|fields| fields[0].to_owned()).next_back();
    of("/tmp").filter(|device| device.starts_with("/dev/")).or_else(|| of("/")).unwrap()
}

/// Nanoseconds of CPU stolen by other virtual machines (proc(5), `steal`, in ticks of 10 ms).
fn stolen() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.split_ascii_whitespace().nth(8).unwrap().parse::<f64>().unwrap() * 1e7
}

/// The counters of the containers.
struct Counters {
    at: Instant,
    /// Nanoseconds of CPU.
    cpu: f64,
    /// Nanoseconds of CPU time of all cores, including stolen time, and the number of cores. The engine ignores stolen time, so that
    /// its client shows too much on such a machine.
    machine: (f64, f64),
    /// Bytes received, as the client shows them.
    received: f64,
    /// Bytes written, as the client shows them.
    written: f64,
}

impl Counters {
    fn of(engine: &Engine, cpu: &str, network: &str, disk: &str) -> Self {
        // The client shows its second reading, so the time is taken afterwards.
        let received = shown(engine, network, "{{.NetIO}}");
        let at = Instant::now();
        let written = shown(engine, disk, "{{.BlockIO}}");
        let stats = Command::new("curl")
            .args(["--silent", "--unix-socket"])
            .arg(engine.socket())
            .arg(format!("http://engine/containers/{cpu}/stats?stream=false"))
            .output()
            .unwrap();
        let stats = serde_json::from_slice::<serde_json::Value>(&stats.stdout).unwrap()["cpu_stats"].take();
        let of = |value: &serde_json::Value| value.as_f64().unwrap();
        let machine = (of(&stats["system_cpu_usage"]) + stolen(), of(&stats["online_cpus"]));
        let cpu = of(&stats["cpu_usage"]["total_usage"]);
        let (received, _) = received.split_once(" / ").unwrap();
        let (_, written) = written.split_once(" / ").unwrap();
        Self { at, cpu, machine, received: number(received), written: number(written) }
    }

    /// The compared rates.
    const RATES: [&str; 5] = [
        "cpuacct_percentage.minute-cpu.user",
        "cpuacct_percentage.minute-cpu.system",
        "network.minute-client.rx",
        "blkio.io_service_bytes.minute-disk.write",
        "blkio.io_serviced.minute-disk.write",
    ];

    /// Compares the posted rates with the growth since `before`.
    fn since(&self, before: &Self, posted: impl Fn(&str) -> f64) -> Result<(), String> {
        let [user, system, received, written, writes] = Self::RATES.map(posted);
        let seconds = (self.at - before.at).as_secs_f64();
        // The client's formula, over a minute; the client itself shows a single second.
        let cpu = (self.cpu - before.cpu) / (self.machine.0 - before.machine.0) * self.machine.1 * 100.0;
        near("percent of a core, by the client's formula", user + system, cpu)?;
        near("a fifth of a core", user + system, 20.0)?;
        near("bytes received a second", received, (self.received - before.received) / seconds)?;
        let bytes_a_second = (self.written - before.written) / seconds;
        near("bytes written a minute", written, bytes_a_second * 60.0)?;
        near("writes of 64 KiB a second", writes, bytes_a_second / 65_536.0)
    }
}

#[tokio::test]
async fn the_rates_of_a_full_minute_match_the_load_and_the_docker_client() {
    let engine = Engine::shared();
    engine.busybox();
    let standin = Standin::start("key").await.unwrap();
    // A fifth of a core; 1 MiB at a time over the network, and 512 KiB to the disk, with pauses much longer than the transfers.
    let _cpu = Container::run(&engine, "minute-cpu", &["--cpus", "0.2"], "while :; do :; done");
    drop(engine.command(&["network", "create", "minute"]));
    let serve = "mkdir /www; head -c 1048576 /dev/zero >/www/file; exec httpd -f -p 7000 -h /www";
    let fetch = "while :; do wget -q -O /dev/null http://minute-server:7000/file; usleep 500000; done";
    let _server = Container::run(&engine, "minute-server", &["--network", "minute"], serve);
    let _client = Container::run(&engine, "minute-client", &["--network", "minute"], fetch);
    // Some kernels count I/O only if there is a limit.
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
    let counters = || Counters::of(&engine, "minute-cpu", "minute-client", "minute-disk");
    let agent = home.start(&[]);
    let mut before = counters();
    // Other work on this machine may distort a minute, but not three in a row.
    let mut distorted = Vec::new();
    loop {
        let end = (unix_seconds() / 60.0).ceil() * 60.0;
        tokio::time::sleep(Duration::from_secs_f64((end - unix_seconds() - 1.0).max(0.0))).await;
        let after = counters();
        let rate = |memory: &Memory, name: &str| {
            let name = format!("custom.docker.{name}");
            memory.points().iter().find(|point| point.name == name && point.time == end as i64).map(|point| point.value)
        };
        let there = |memory: &Memory| Counters::RATES.iter().all(|name| rate(memory, name).is_some());
        standin.wait_until(TWO_MINUTES, "the rates of a minute", there).await.unwrap();
        let memory = standin.memory();
        match after.since(&before, |name| rate(&memory, name).unwrap()) {
            Ok(()) => break,
            Err(why) => distorted.push(why),
        }
        assert!(distorted.len() < 3, "{distorted:#?}");
        before = after;
    }
    let memory = standin.memory();
    let graphs = memory.graph_definitions();
    assert_eq!(graphs["custom.docker.cpuacct_percentage.#"]["unit"], "percentage");
    assert_eq!(graphs["custom.docker.network.#"]["unit"], "bytes/sec");
    assert_eq!(memory.refusals(), []);
    drop(agent);
}

#[tokio::test]
async fn an_engine_that_hangs_or_restarts_loses_only_its_own_values_and_is_logged_once() {
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
    let hung = agent.line_with("timed out after 8 s", SOON);
    assert!(hung.contains("docker: cannot query the engine at `unix://") && hung.contains("WARNING"), "{hung}");
    standin
        .wait_until(TWO_MINUTES, "up is 0", move |memory| value(memory, "custom.docker.engine.up") == Some(0.0))
        .await
        .unwrap();
    engine.restart();
    agent.line_with("docker: recovered", TWO_MINUTES);
    let has_recovered = move |memory: &Memory| {
        value(memory, "custom.docker.memory.steady.rss").is_some()
            && value(memory, "custom.docker.engine.up") == Some(1.0)
    };
    standin.wait_until(TWO_MINUTES, "the container's values", has_recovered).await.unwrap();
    // An engine that is starting fails with another error, which is also logged.
    let lines = agent.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("timed out after 8 s")).count(), 1, "{lines:#?}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert_eq!(standin.memory().refusals(), []);
}
