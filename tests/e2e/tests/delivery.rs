//! Delivery of the metrics of this machine and of a real nginx to Mackerel: in normal operation, in outages, and across SIGKILL.
//!
//! The agent works in real minutes, so each of these tests takes up to two of them, in parallel.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mackerel_standin::{Memory, Misbehaviour, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{SOON, component, not_at_the_end_of_a_minute, unix_seconds};

const KEY: &str = "the-key-of-the-tests";
/// The time until the next full minute and the 20 s over which posts are spread, with slack for a busy machine.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(240);

fn config(standin: &Standin, rest: &str) -> String {
    format!("apikey = {KEY:?}\napibase = {:?}\n{rest}", standin.url())
}

fn nginx_table(nginx: &Nginx) -> String {
    format!("[plugin.metrics.web]\nwasm = \"nginx\"\nsettings = {{ host = \"127.0.0.1\", port = {} }}\n", nginx.port)
}

/// The posted values by name and time.
fn values(memory: &Memory) -> BTreeMap<(String, i64), f64> {
    memory.points().iter().map(|point| ((point.name.clone(), point.time), point.value)).collect()
}

fn times(memory: &Memory) -> BTreeSet<i64> {
    memory.points().iter().map(|point| point.time).collect()
}

fn times_of(memory: &Memory, name: &str) -> Vec<i64> {
    memory.points().iter().filter(|point| point.name == name).map(|point| point.time).collect()
}

fn assert_nothing_was_refused(standin: &Standin) {
    assert_eq!(standin.memory().refusals(), [], "the strict checks refused a request");
}

#[tokio::test]
async fn every_host_metric_and_nginx_arrives_with_the_right_numbers() {
    let standin = Standin::start(KEY).await.unwrap();
    let nginx = Nginx::start();
    let home = Home::with(&config(&standin, &format!("roles = [\"Shop: web\"]\n{}", nginx_table(&nginx))));
    not_at_the_end_of_a_minute().await;

    let before = nginx.counters();
    let mut agent = home.start(&[]);
    let gauges = ["loadavg1", "memory.total", "custom.nginx.connections.connections", "custom.nginx.queue.writing"];
    let arrived = |name: &str| {
        let name = name.to_owned();
        move |memory: &Memory| memory.points().iter().any(|point| point.name == name)
    };
    for gauge in gauges {
        standin.wait_until(SOON, gauge, arrived(gauge)).await.unwrap();
    }
    // The plugin may be compiled first, so its values may be of a later second than the host's.
    let first = times_of(&standin.memory(), "custom.nginx.queue.writing")[0];

    const REQUESTS: u64 = 120;
    for _ in 0..REQUESTS {
        assert_eq!(nginx.get("/"), "hello\n");
    }
    let next = move |memory: &Memory| times(memory).last().is_some_and(|time| *time > first);
    standin.wait_until(A_MINUTE_AND_MORE, "the second minute", next).await.unwrap();
    for name in ["custom.nginx.requests.requests", "cpu.user.percentage", "disk."] {
        let has = |memory: &Memory| memory.points().iter().any(|point| point.name.starts_with(name));
        standin.wait_until(SOON, name, has).await.unwrap();
    }
    let after = nginx.counters();
    let memory = standin.memory();
    let second = *times(&memory).last().unwrap();
    let values = values(&memory);
    assert_eq!(second % 60, 0, "all minutes after the first are full");

    // The known requests and the agent's second reading; the growth since the first reading does not include that one.
    let minutes = (second - first) as f64 / 60.0;
    let posted = |name: &str| values[&(format!("custom.nginx.{name}"), second)];
    let grown = posted("requests.requests") * minutes;
    // The time of the first reading is known only to the second.
    let tolerance = posted("requests.requests") * 2.0 / 60.0;
    let expected = REQUESTS as f64 + 1.0;
    assert!((grown - expected).abs() <= tolerance, "{grown} requests posted, {expected} sent, within {tolerance}");
    assert!(
        posted("requests.requests") <= (after[2] - before[2]) as f64 / minutes + tolerance,
        "more requests than nginx counts"
    );
    for name in ["requests.accepts", "requests.handled"] {
        assert!((posted(name) * minutes - expected).abs() <= tolerance, "{name}: each request had its own connection");
    }
    // The only active connection is the agent's own request, to which nginx is writing.
    for (name, value) in
        [("connections.connections", 1.0), ("queue.writing", 1.0), ("queue.reading", 0.0), ("queue.waiting", 0.0)]
    {
        assert_eq!(posted(name), value, "{name}");
    }

    assert_host_metrics(&values, second);
    let definitions = memory.graph_definitions();
    assert_eq!(
        definitions.keys().collect::<Vec<_>>(),
        ["custom.nginx.connections", "custom.nginx.queue", "custom.nginx.requests"]
    );
    assert_eq!(definitions["custom.nginx.requests"]["unit"], "float");

    let host = &memory.hosts()[0];
    assert_eq!((memory.hosts().len(), host.posts, host.puts), (1, 1, 1), "POST, then PUT, as the official agent does");
    assert_eq!(host.body["roleFullnames"], serde_json::json!(["Shop: web"]));
    for part in ["kernel", "cpu", "memory", "block_device", "filesystem"] {
        assert!(!host.body["meta"][part].is_null(), "{part} is missing in the host description");
    }
    assert_eq!(std::fs::read_to_string(home.root().join("id")).unwrap(), host.id);

    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert!(agent.line_with("stopped", SOON).contains("0 queued"), "not everything was posted: {:?}", agent.lines());
    assert_nothing_was_refused(&standin);
}

/// Every metric that this machine must have is there, and some equal what the kernel shows.
fn assert_host_metrics(values: &BTreeMap<(String, i64), f64>, time: i64) {
    let of_minute = values.iter().filter(|((_, at), _)| *at == time);
    let names = of_minute.map(|((name, _), value)| (name.as_str(), *value)).collect::<BTreeMap<_, _>>();
    let fixed = ["loadavg1", "loadavg5", "loadavg15"].map(str::to_owned).into_iter();
    let modes = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest"];
    let cpu = modes.map(|mode| format!("cpu.{mode}.percentage"));
    let memory = ["total", "used", "mem_available", "swap_total", "swap_free", "swap_cached"];
    for name in fixed.chain(memory.map(|name| format!("memory.{name}"))).chain(cpu.clone()) {
        assert!(names.contains_key(name.as_str()), "{name} is missing in {names:?}");
    }
    let kernel = std::fs::read_to_string("/proc/stat").unwrap();
    let processors = kernel.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    let sum = cpu.iter().map(|name| names[name.as_str()]).sum::<f64>();
    assert!(
        (sum - processors as f64 * 100.0).abs() < 1.0,
        "all modes together are {processors} times 100 %, not {sum}"
    );
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = total.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse::<f64>().unwrap();
    assert_eq!(names["memory.total"], total * 1024.0);

    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
    let interfaces = interfaces.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim);
    for interface in interfaces.filter(|name| *name != "lo" && !name.starts_with("veth")) {
        let segment = interface.replace(|char: char| !char.is_ascii_alphanumeric() && char != '-', "_");
        assert!(names.contains_key(format!("interface.{segment}.rxBytes.delta").as_str()), "{interface}");
    }
    for family in ["disk.", "filesystem."] {
        assert!(names.keys().any(|name| name.starts_with(family)), "no {family}* in {names:?}");
    }
}

/// The minutes that the agent has logged as kept on disk, with their numbers of values.
fn collected(agent: &Agent) -> BTreeMap<i64, usize> {
    let lines = agent.lines();
    let kept = lines.iter().filter_map(|line| line.split_once("DEBUG kept ")?.1.split_once(" values of "));
    let mut minutes = BTreeMap::new();
    for (values, time) in kept {
        *minutes.entry(time.parse().unwrap()).or_default() += values.parse::<usize>().unwrap();
    }
    minutes
}

#[tokio::test]
async fn minutes_collected_in_an_outage_survive_kill_9_and_arrive_once_for_the_same_host() {
    let standin = Standin::start(KEY).await.unwrap();
    let (address, home) = (standin.address(), Home::with(&config(&standin, "")));
    let agent = home.start(&["-v"]);
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    let mut kept = collected(&agent);
    let memory = standin.stop();
    let outage = unix_seconds();

    // A full minute is collected in the outage; then the agent is killed and started again, still in the outage.
    let next_minute = (outage as i64 / 60 + 1) * 60;
    let line = format!("values of {next_minute}");
    agent.line_with(&line, A_MINUTE_AND_MORE);
    kept.extend(collected(&agent));
    agent.kill();
    // Values of the same second overwrite each other in Mackerel, which would make counting hard.
    let last = (unix_seconds() as i64).max(next_minute);
    while unix_seconds() as i64 <= last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let agent = home.start(&["-v"]);
    agent.line_with("DEBUG kept ", SOON);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for (time, count) in collected(&agent) {
        *kept.entry(time).or_default() += count;
    }
    assert!(kept.len() >= 3, "minutes before, in and after the outage: {kept:?}");

    let standin = Standin::start_again(address, KEY, memory).await.unwrap();
    let expected = kept.clone();
    let all_there = move |memory: &Memory| expected.keys().all(|time| times(memory).contains(time));
    standin.wait_until(A_MINUTE_AND_MORE, "every minute that was collected", all_there).await.unwrap();
    let memory = standin.memory();
    let mut arrived = BTreeMap::<i64, usize>::new();
    for point in memory.points() {
        *arrived.entry(point.time).or_default() += 1;
    }
    for (time, count) in &kept {
        assert_eq!(arrived.get(time), Some(count), "points of {time}: each once");
    }
    let distinct = memory.points().iter().map(|point| (&point.name, point.time)).collect::<BTreeSet<_>>();
    assert_eq!(distinct.len(), memory.points().len(), "no point came twice");
    assert_eq!(memory.hosts().len(), 1, "the host is still the same");
    assert_nothing_was_refused(&standin);
}

#[tokio::test]
async fn with_a_refused_key_values_stay_queued_and_no_message_contains_the_key() {
    let standin = Standin::start("another-key").await.unwrap();
    let home = Home::with(&config(&standin, ""));
    let mut agent = home.start(&["-v"]);
    agent.line_with("DEBUG kept ", SOON);
    let line = agent.line_with("refuses the API key", SOON);
    assert!(line.contains("ERROR") && line.contains("`apikey`"), "{line}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    let end = agent.line_with("stopped", SOON);
    assert!(!end.contains(" 0 queued"), "the collected values are not queued: {end}");
    assert!(agent.lines().iter().all(|line| !line.contains(KEY)), "the log contains the key");
    assert!(standin.memory().points().is_empty());
}

#[tokio::test]
async fn one_refused_point_is_dropped_alone_and_named() {
    let standin = Standin::start(KEY).await.unwrap();
    standin.misbehave(Misbehaviour::RefuseMetric("loadavg5".into()));
    let home = Home::with(&config(&standin, ""));
    let mut agent = home.start(&[]);
    let others = |memory: &Memory| {
        ["loadavg1", "loadavg15", "memory.total"]
            .iter()
            .all(|name| memory.points().iter().any(|point| point.name == *name))
    };
    standin.wait_until(SOON, "the other values", others).await.unwrap();
    let line = agent.line_with("loadavg5", SOON);
    assert!(line.contains("WARNING") || line.contains("ERROR"), "{line}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert!(agent.line_with("stopped", SOON).contains("0 queued + 0 expired + 1 rejected"), "{:?}", agent.lines());
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hold_up_the_stop() {
    let standin = Standin::start(KEY).await.unwrap();
    standin.misbehave(Misbehaviour::NeverAnswer.at("/api/v0/tsdb"));
    let home = Home::with(&config(&standin, ""));
    let mut agent = home.start(&[]);
    standin
        .wait_until(SOON, "a post", |memory| memory.requests().iter().any(|request| request.path.ends_with("/tsdb")))
        .await
        .unwrap();
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
}

#[tokio::test]
async fn an_empty_id_file_is_repaired_and_registers_no_second_host() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin, ""));
    for round in 1..=2 {
        let mut agent = home.start(&[]);
        let posted = move |memory: &Memory| memory.hosts().iter().any(|host| host.puts >= round);
        standin.wait_until(SOON, "the host description", posted).await.unwrap();
        agent.signal(Signal::TERM);
        assert!(agent.ended(SOON).success());
        std::fs::write(home.root().join("id"), "").unwrap();
    }
    assert_eq!(standin.memory().hosts().len(), 1);
}

#[tokio::test]
async fn sighup_sends_the_host_description_again() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin, ""));
    let agent = home.start(&[]);
    let puts = |count| move |memory: &Memory| memory.hosts().first().is_some_and(|host| host.puts == count);
    standin.wait_until(SOON, "the first PUT", puts(1)).await.unwrap();
    agent.signal(Signal::HUP);
    standin.wait_until(SOON, "the second PUT", puts(2)).await.unwrap();
    assert_nothing_was_refused(&standin);
}

/// Registers a host like another agent.
fn register(standin: &Standin, host: &str) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(standin.address()).unwrap();
    let head = "POST /api/v0/hosts HTTP/1.1\r\nhost: mackerel\r\nuser-agent: another-agent/1.0\r\ncontent-type: application/json";
    let rest = format!("x-api-key: {KEY}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{host}", host.len());
    stream.write_all(format!("{head}\r\n{rest}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_same_graph_of_two_hosts_is_posted_for_each_of_them() {
    let standin = Standin::start(KEY).await.unwrap();
    let host = r#"{"name":"db1","meta":{},"customIdentifier":"db 1"}"#.to_owned();
    let standin = tokio::task::spawn_blocking(move || {
        register(&standin, &host);
        standin
    });
    let standin = standin.await.unwrap();
    let table = |name: &str, more: &str| {
        let wasm = component("naughty");
        format!("[plugin.metrics.{name}]\nwasm = {wasm:?}\nsettings = {{ do = \"nothing\" }}\n{more}\n")
    };
    let tables =
        [table("own", ""), table("other", "custom_identifier = \"db 1\""), table("away", "custom_identifier = \"x\"")];
    let home = Home::with(&config(&standin, &tables.concat()));
    let agent = home.start(&[]);
    let hosts = |memory: &Memory| {
        let good = memory.points().iter().filter(|point| point.name == "custom.naughty.good");
        good.map(|point| point.host_id.clone()).collect::<BTreeSet<_>>()
    };
    standin.wait_until(A_MINUTE_AND_MORE, "both hosts' values", |memory| hosts(memory).len() == 2).await.unwrap();
    let known = standin.memory().hosts().iter().map(|host| host.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(hosts(&standin.memory()), known);
    agent.line_with("no host has the custom identifier `x`", A_MINUTE_AND_MORE);
    assert!(!agent.lines().iter().any(|line| line.contains("same graph")), "{:?}", agent.lines());
    assert_nothing_was_refused(&standin);
}
