//! Collections from canned engines: recorded responses with golden values, and engines that misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use wasaba_core::collect::memory::{Forgetful, Memory};
use wasaba_core::collect::registry::Registered;
use wasaba_core::collect::rounds::Rounds;
use wasaba_core::collect::{Answer, Fault, Moment};
use wasaba_core::tls::Trust;
use wasaba_testing::authority::{Authority, SelfSigned, Validity};
use wasaba_testing::golden;

use super::Docker;
use super::collection::{State, collect};
use super::endpoint::Endpoint;
use super::metrics::EXTRA;
use super::naming::Naming;

/// The response to a path: a status and a body; `None` is silence.
type Responses = Box<dyn Fn(&str) -> Option<(u16, String)> + Send + Sync>;

/// An engine with a canned response for each path. By its clock a minute passes between two lists.
struct Canned {
    folder: TempDir,
    responses: Arc<Mutex<Responses>>,
    requests: Arc<Mutex<Vec<String>>>,
    /// What its clock shows next.
    minutes: Arc<AtomicI64>,
}

impl Canned {
    fn start(responses: Responses) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let (responses, requests) = (Arc::new(Mutex::new(responses)), Arc::default());
        let minutes = Arc::new(AtomicI64::new(0));
        let (shown, recorded) = (Arc::clone(&minutes), Arc::clone(&requests));
        let canned = Self { folder, responses: Arc::clone(&responses), requests: recorded, minutes: shown };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (responses, requests) = (Arc::clone(&responses), Arc::clone(&requests));
                let minutes = Arc::clone(&minutes);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let request = String::from_utf8(request).unwrap();
                    let target = request.split(' ').nth(1).unwrap().to_owned();
                    requests.lock().unwrap().push(target.clone());
                    let response = responses.lock().unwrap()(target.split('?').next().unwrap());
                    let Some((status, body)) = response else { return std::future::pending().await };
                    let passed = i64::from(target.starts_with("/containers/json"));
                    let minute = minutes.fetch_add(passed, Ordering::Relaxed);
                    let date = jiff::Timestamp::from_second(minute * 60).unwrap();
                    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    // The client may be gone.
                    stream.write_all((head + &body).as_bytes()).await.ok();
                });
            }
        });
        canned
    }

    fn respond_with(&self, responses: Responses) {
        *self.responses.lock().unwrap() = responses;
    }

    fn docker(&self) -> Docker {
        Docker { endpoint: Endpoint::Unix(self.folder.path().join("engine.sock")), ..Docker::default() }
    }
}

/// The responses in a folder: `containers.json`, `events.json`, `stats/ID.json` and `inspect/ID.json`, where `ID` has 12 digits.
fn recorded(folder: &Path) -> Responses {
    let folder = folder.to_owned();
    Box::new(move |path| {
        let words = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
        let file = match *words {
            ["events"] => "events.json".to_owned(),
            ["containers", "json"] => "containers.json".to_owned(),
            ["containers", id, "stats"] => format!("stats/{}.json", &id[..12]),
            ["containers", id, "json"] => format!("inspect/{}.json", &id[..12]),
            _ => panic!("unexpected request {path}"),
        };
        match std::fs::read_to_string(folder.join(&file)) {
            // An engine writes its response in one line, events in one line each.
            Ok(body) if file == "events.json" => Some((200, body)),
            Ok(body) => Some((200, serde_json::from_str::<Value>(&body).unwrap().to_string())),
            Err(_) => Some((404, json!({ "message": format!("{file} is missing") }).to_string())),
        }
    })
}

/// A moment, by two clocks of which none is set.
fn at(unix_seconds: i64) -> Moment {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    Moment {
        unix_seconds,
        instant: *BEGIN.get_or_init(Instant::now) + Duration::from_secs(unix_seconds.unsigned_abs()),
    }
}

fn values(answer: &Answer) -> BTreeMap<String, f64> {
    answer.samples.iter().map(|sample| (sample.name().to_string(), sample.value())).collect()
}

/// The values of an engine whose responses of two minutes are in this folder.
async fn two_minutes(folder: &str, docker: Docker) -> (Canned, Answer) {
    let folder = golden::file("../docker").join(folder);
    let canned = Canned::start(recorded(&folder.join("1")));
    let docker = Docker { endpoint: canned.docker().endpoint, ..docker };
    let mut state = State::default();
    let first = collect(&docker, &mut state, at(1_764_000_000)).await.unwrap();
    assert_eq!(first.warnings, Vec::<String>::new());
    canned.respond_with(recorded(&folder.join("2")));
    let second = collect(&docker, &mut state, at(1_764_000_060)).await.unwrap();
    (canned, second)
}

#[tokio::test]
async fn the_responses_of_each_kind_of_engine_give_the_golden_values() {
    for kind in ["engine-20-cgroup-1", "engine-29-cgroup-2", "podman-5"] {
        let docker = Docker { extra: EXTRA.to_vec(), ..Docker::default() };
        let (canned, second) = two_minutes(kind, docker).await;
        assert_eq!(second.warnings, Vec::<String>::new(), "{kind}");
        golden::assert_golden(&format!("../docker/{kind}/metrics.json"), &values(&second));
        for request in canned.requests.lock().unwrap().iter() {
            assert!(
                !request.starts_with("/v1"),
                "an engine of any age responds to a path without a version: {request}"
            );
            assert!(!request.contains("/stats") || request.ends_with("?stream=false&one-shot=true"), "{request}");
        }
    }
}

#[tokio::test]
async fn without_extra_only_the_official_values_are_posted() {
    let docker = Docker { naming: Naming::NameId, ..Docker::default() };
    let (_canned, second) = two_minutes("engine-20-cgroup-1", docker).await;
    let official = ["custom.docker.cpuacct_percentage.", "custom.docker.memory.", "custom.docker.blkio.io_"];
    let values = values(&second);
    assert!(!values.is_empty());
    for name in values.keys() {
        assert!(official.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

/// A list of running containers: their names, and the beginning of their ids.
fn list(containers: &[(&str, &str)]) -> String {
    let container = |(name, id): &(&str, &str)| {
        json!({ "Id": format!("{id:0<64}"), "Names": [format!("/{name}")], "Image": "app:1", "State": "running",
                "Labels": { "team": "a" }, "Status": "Up 2 minutes (unhealthy)" })
    };
    containers.iter().map(container).collect::<Value>().to_string()
}

/// Statistics at this second, with this CPU time of the container, in seconds.
fn stats(second: i64, user: u64) -> String {
    let read = jiff::Timestamp::from_second(second).unwrap().to_string();
    json!({
        "read": read,
        "cpu_stats": {
            "cpu_usage": { "usage_in_usermode": user * 1_000_000_000, "usage_in_kernelmode": 0 },
            "online_cpus": 2,
        },
        "memory_stats": { "usage": 500, "limit": 1_000, "stats": { "anon": 100, "file": 50, "inactive_file": 20 } },
        "networks": { "eth0": { "rx_bytes": user * 60, "tx_bytes": 0, "rx_errors": 0, "tx_errors": 0, "rx_dropped": 0, "tx_dropped": 0 } },
    })
    .to_string()
}

/// An engine with these containers; `stats` responds for the first digits of an id.
fn engine(list: String, stats: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Responses {
    Box::new(move |path| match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["containers", "json"] => Some((200, list.clone())),
        ["containers", id, "stats"] => stats(id.trim_end_matches('0')),
        _ => Some((404, json!({ "message": "page not found" }).to_string())),
    })
}

#[tokio::test]
async fn a_container_that_fails_hangs_or_is_removed_costs_only_itself() {
    let all = [("good", "a1"), ("broken", "b1"), ("gone", "c1"), ("hangs", "d1"), ("other", "e1")];
    let responses = engine(list(&all), |id| match id {
        "b1" => Some((500, json!({ "message": "cgroups: cgroup deleted" }).to_string())),
        "c1" => Some((404, json!({ "message": "No such container" }).to_string())),
        "d1" => None,
        _ => Some((200, stats(0, 10))),
    });
    let canned = Canned::start(responses);
    let docker = Docker { timeout: Duration::from_secs(5), ..canned.docker() };
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    let values = values(&answer);
    for name in ["good", "other"] {
        assert_eq!(values.get(&format!("custom.docker.memory.{name}.rss")), Some(&100.0), "{values:?}");
    }
    assert_eq!(values.len(), 4);
    assert_eq!(
        answer.warnings,
        [
            "container `broken`: status 500: cgroups: cgroup deleted",
            "container `hangs`: timed out after 5 s (limit `timeout_seconds`)"
        ]
    );
}

#[tokio::test]
async fn an_endless_response_costs_only_its_container() {
    let responses = engine(list(&[("good", "a1"), ("flood", "b1")]), |id| {
        let flood = || " ".repeat(4 << 20) + "{}";
        Some((200, if id == "b1" { flood() } else { stats(0, 10) }))
    });
    let canned = Canned::start(responses);
    let answer = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    assert!(values(&answer).keys().all(|name| name.contains(".good.")) && !answer.samples.is_empty(), "{answer:?}");
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(warning.starts_with("container `flood`: "), "{warning}");
}

#[tokio::test]
async fn an_invalid_entry_of_the_list_costs_only_itself() {
    let all = json!([
        { "Id": "a".repeat(64), "Names": ["/good"], "State": "running", "Ports": [{ "Type": "carrier-pigeon" }] },
        { "Id": 7, "Names": ["/bad"] },
        { "Id": "b".repeat(64), "Names": ["/odd"], "State": "levitating" },
        { "Id": "c".repeat(64), "Names": ["/gone"], "State": "stopped" },
    ]);
    let canned = Canned::start(engine(all.to_string(), |_| Some((200, stats(0, 10)))));
    let docker = Docker { extra: vec!["state"], ..canned.docker() };
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    let values = values(&answer);
    assert_eq!(values.get("custom.docker.memory.good.rss"), Some(&100.0));
    let count = |state: &str| values[&format!("custom.docker.containers.{state}")];
    assert_eq!(
        [count("running"), count("exited"), count("paused")],
        [1.0, 1.0, 0.0],
        "stopped is Podman's word for exited"
    );
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(warning.starts_with("invalid entry in the list of containers: "), "{warning}");
}

#[tokio::test]
async fn a_list_without_end_is_a_fault_and_few_of_its_warnings_are_kept() {
    let canned = Canned::start(engine(format!("[0{}]", ",0".repeat(10_000)), |_| None));
    let answer = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    assert_eq!((answer.warnings.len(), answer.warnings.last().unwrap().as_str()), (6, "and 9996 more"));
    let entry = |labels: usize| {
        let labels = (0..labels).map(|number| format!("\"{number:x}\":\"\"")).collect::<Vec<_>>().join(",");
        format!("{{\"Id\":\"a\",\"Labels\":{{{labels}}}}}")
    };
    for (all, expected) in [
        (format!("[0{}]", ",0".repeat(2_000_000)), "more than 50000 containers"),
        (format!("[{}]", vec![entry(10_000); 60].join(",")), "more than 500000 names and labels"),
        (format!("[{}]", " ".repeat(40 << 20)), ": its response is longer than 32 MiB"),
    ] {
        canned.respond_with(engine(all, |_| None));
        let Err(Fault { text, .. }) = collect(&canned.docker(), &mut State::default(), at(60)).await else {
            panic!("{expected}")
        };
        assert!(text.contains(expected), "{text}");
    }
    canned.respond_with(engine(format!("[{}]", entry(100_000)), |_| None));
    let answer = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    assert_eq!(answer.warnings, ["invalid entry in the list of containers: it is longer than 256 KiB"]);
}

#[tokio::test]
async fn what_is_said_of_a_container_without_end_costs_only_that_container() {
    let all = list(&[("good", "a1"), ("inspected", "b1"), ("devices", "c1"), ("links", "d1")]);
    let answers = engine(all, |id| {
        let many = |part: &str| vec![part; 5_000].join(",");
        let links = (0..5_000).map(|number| format!("\"{number}\":{{}}")).collect::<Vec<_>>().join(",");
        Some((
            200,
            match id {
                "c1" => format!("{{\"blkio_stats\":{{\"io_serviced_recursive\":[{}]}}}}", many("{}")),
                "d1" => format!("{{\"networks\":{{{links}}}}}"),
                _ => stats(0, 10),
            },
        ))
    });
    let canned = Canned::start(Box::new(move |path| match path.ends_with("/json") && path != "/containers/json" {
        true if path.contains("/b1") => Some((200, " ".repeat(2 << 20) + "{}")),
        true => Some((200, json!({ "RestartCount": 3 }).to_string())),
        false => answers(path),
    }));
    let docker = Docker { extra: vec!["restarts"], ..canned.docker() };
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    let values = values(&answer);
    let restarts = |name: &str| values.get(&format!("custom.docker.restarts.{name}.count")).copied();
    assert_eq!((restarts("good"), restarts("inspected")), (Some(3.0), None), "{values:?}");
    assert!(values.contains_key("custom.docker.memory.good.rss"));
    let [devices, inspected, links] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(devices.contains("`devices`: ") && devices.contains("more than 4096 devices or interfaces"), "{devices}");
    assert!(inspected.contains("`inspected`: its response is longer than 1 MiB"), "{inspected}");
    assert!(links.contains("`links`: "), "{links}");
}

#[tokio::test]
async fn more_large_answers_than_may_be_in_memory_at_once_are_read_one_after_the_other() {
    let names = (0..60).map(|number| (format!("c{number}"), format!("{number:02x}f"))).collect::<Vec<_>>();
    let names = names.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect::<Vec<_>>();
    let canned = Canned::start(engine(list(&names), |_| Some((200, " ".repeat(900 << 10) + &stats(0, 10)))));
    let answer = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    assert_eq!((values(&answer).len(), answer.warnings), (120, Vec::new()));
}

#[tokio::test]
async fn a_thousand_failing_containers_give_few_warnings() {
    let names = (0..1_000).map(|number| (format!("c{number}"), format!("{number:03x}f"))).collect::<Vec<_>>();
    let names = names.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect::<Vec<_>>();
    let canned = Canned::start(engine(list(&names), |_| Some((500, String::new()))));
    let answer = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    assert_eq!((answer.warnings.len(), answer.warnings.last().unwrap().as_str()), (6, "and 995 more"));
}

#[tokio::test]
async fn a_missing_engine_is_a_fault_that_names_its_address() {
    let canned = Canned::start(engine(list(&[]), |_| None));
    let absent = Docker { endpoint: Endpoint::Unix("/nowhere/docker.sock".into()), ..canned.docker() };
    let Err(Fault { text: why, .. }) = collect(&absent, &mut State::default(), at(60)).await else {
        panic!("it responded")
    };
    assert!(why.starts_with("cannot query the engine at `unix:///nowhere/docker.sock`: No such file"), "{why}");
    let with_up = Docker { extra: vec!["up"], ..absent };
    let answer = collect(&with_up, &mut State::default(), at(60)).await.unwrap();
    assert_eq!(values(&answer), BTreeMap::from([("custom.docker.engine.up".to_owned(), 0.0)]));
    assert_eq!(answer.warnings.len(), 1, "and there is a warning, too");
    let with_up = Docker { extra: vec!["up"], ..canned.docker() };
    let answer = collect(&with_up, &mut State::default(), at(60)).await.unwrap();
    assert_eq!(values(&answer), BTreeMap::from([("custom.docker.engine.up".to_owned(), 1.0)]));
}

#[tokio::test]
async fn a_certificate_that_either_side_does_not_accept_is_a_fault_that_points_to_the_table() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (server, why) in [
        (authority.server("localhost", true), "received fatal alert: CertificateRequired"),
        (other.server("localhost", false), "invalid peer certificate: "),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let docker = Docker {
            endpoint: Endpoint::Tcp { host: "localhost".into(), port, tls: true },
            trust: Trust { authority: Some(authority.file()), ..Trust::default() },
            ..Docker::default()
        };
        // The stream stays open, or its end could overtake the alert.
        let refuse = async {
            let (stream, _) = listener.accept().await.unwrap();
            server.accept(stream).into_fallible().await.map(drop).unwrap_err()
        };
        let mut state = State::default();
        let (collected, _) = tokio::join!(collect(&docker, &mut state, at(60)), refuse);
        let Err(Fault { text, .. }) = collected else { panic!("it is accepted") };
        assert!(text.contains(why) && text.ends_with("; check `tls` in [docker]"), "{text}");
        assert_eq!(text.contains("has neither its authority nor"), why.starts_with("invalid"), "{text}");
    }
}

#[tokio::test]
async fn an_engine_over_tls_with_its_own_certificate_answers_many_requests_over_few_connections() {
    let own = SelfSigned::new("localhost", true, Validity::Now);
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), own.server());
    let port = listener.local_addr().unwrap().port();
    let ids = (0..60).map(|number| format!("a{number}f")).collect::<Vec<_>>();
    let names = ids.iter().map(|id| (id.as_str(), id.as_str())).collect::<Vec<_>>();
    let responses = Arc::new(engine(list(&names), |_| Some((200, stats(60, 1)))));
    let counts = Arc::new([AtomicI64::new(0), AtomicI64::new(0)]);
    let counted = Arc::clone(&counts);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (server, responses, counted) = (server.clone(), Arc::clone(&responses), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut stream = server.accept(stream).await.unwrap();
                counted[0].fetch_add(1, Ordering::Relaxed);
                let mut request = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    request.push(byte);
                    if request.ends_with(b"\r\n\r\n") {
                        counted[1].fetch_add(1, Ordering::Relaxed);
                        let head = String::from_utf8(std::mem::take(&mut request)).unwrap();
                        let target = head.split([' ', '?']).nth(1).unwrap();
                        let (status, body) = responses(target).unwrap();
                        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                        stream.write_all((head + &body).as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            });
        }
    });
    let docker = Docker {
        endpoint: Endpoint::Tcp { host: "localhost".into(), port, tls: true },
        trust: Trust { authority: Some(own.file()), ..Trust::default() },
        ..Docker::default()
    };
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    assert_eq!(answer.warnings, Vec::<String>::new());
    let [connections, requests] = [0, 1].map(|number: usize| counts[number].load(Ordering::Relaxed));
    assert!(requests == 61 && connections <= 30, "{connections} connections for {requests} requests");
}

#[tokio::test]
async fn an_invalid_response_and_a_refusal_are_faults_with_the_reason() {
    for (status, body, expected) in [
        (200, "<html>", "invalid response"),
        (403, r#"{"message":"Forbidden"}"#, "status 403: Forbidden"),
        (403, "Forbidden by administrative rules", "status 403: Forbidden by administrative rules"),
    ] {
        let canned = Canned::start(Box::new(move |_| Some((status, body.to_owned()))));
        let Err(Fault { text: why, .. }) = collect(&canned.docker(), &mut State::default(), at(60)).await else {
            panic!("{body}")
        };
        assert!(why.contains(expected), "{why}");
    }
}

/// The values of the second of two minutes with these containers, each with its CPU time in seconds.
async fn user_after(
    first: &[(&str, &str, u64)],
    second: &[(&str, &str, u64)],
    docker: Docker,
) -> BTreeMap<String, f64> {
    let minute = |containers: &[(&str, &str, u64)], time: i64| {
        let names = containers.iter().map(|(name, id, _)| (*name, *id)).collect::<Vec<_>>();
        let times = containers.iter().map(|(_, id, user)| ((*id).to_owned(), *user)).collect::<BTreeMap<_, _>>();
        engine(list(&names), move |id| Some((200, stats(time, times[id]))))
    };
    let canned = Canned::start(minute(first, 60));
    let docker = Docker { endpoint: canned.docker().endpoint, ..docker };
    let mut state = State::default();
    collect(&docker, &mut state, at(60)).await.unwrap();
    canned.respond_with(minute(second, 120));
    let values = values(&collect(&docker, &mut state, at(120)).await.unwrap());
    let user = |(name, value): (String, f64)| {
        Some((name.strip_prefix("custom.docker.cpuacct_percentage.")?.strip_suffix(".user")?.to_owned(), value))
    };
    values.into_iter().filter_map(user).collect()
}

#[tokio::test]
async fn a_renamed_container_keeps_its_counters_and_a_successor_of_the_same_name_has_others() {
    let plain = Docker::default;
    let values = user_after(&[("a", "a1", 10)], &[("b", "a1", 40)], plain()).await;
    assert_eq!(values, BTreeMap::from([("b".to_owned(), 50.0)]), "30 s of CPU in a minute, of one core");
    assert_eq!(user_after(&[("a", "a1", 10)], &[("a", "b1", 40)], plain()).await, BTreeMap::new());
    let values = user_after(&[("a", "a1", 100)], &[("a", "a1", 6)], plain()).await;
    assert_eq!(values, BTreeMap::from([("a".to_owned(), 10.0)]), "restarted, it counts from zero");
}

#[tokio::test]
async fn cpu_time_that_decreases_without_a_restart_gives_no_value() {
    for (before, now, why) in [(10_000, 9_999, "corrected"), (10_000, 1_000, "more than two CPUs have in a minute")] {
        let values = user_after(&[("a", "a1", before)], &[("a", "a1", now)], Docker::default()).await;
        assert_eq!(values, BTreeMap::new(), "{why}");
    }
}

#[tokio::test]
async fn a_minute_in_which_the_date_of_a_containers_answers_jumps_has_no_rate() {
    let second_minute = async |read: i64| {
        let canned = Canned::start(engine(list(&[("a", "a1")]), |_| Some((200, stats(60, 0)))));
        let (docker, mut state) = (canned.docker(), State::default());
        collect(&docker, &mut state, at(60)).await.unwrap();
        canned.respond_with(engine(list(&[("a", "a1")]), move |_| Some((200, stats(read, 30)))));
        let second = values(&collect(&docker, &mut state, at(120)).await.unwrap());
        canned.respond_with(engine(list(&[("a", "a1")]), |_| Some((200, stats(180, 60)))));
        let third = values(&collect(&docker, &mut state, at(180)).await.unwrap());
        [second, third].map(|values| values.get("custom.docker.cpuacct_percentage.a.user").copied())
    };
    assert_eq!(second_minute(120).await, [Some(50.0), Some(50.0)]);
    for read in [70, 90, 140, 170] {
        assert_eq!(second_minute(read).await, [None, None], "{read}");
    }
}

#[tokio::test]
async fn containers_whose_ids_begin_alike_count_apart_and_one_that_is_listed_twice_counts_once() {
    let [one, other] = ["aaaaaaaaaaaa1", "aaaaaaaaaaaa2"];
    let (first, second) = ([("a", one, 0), ("b", other, 1_000)], [("a", one, 30), ("b", other, 1_006)]);
    let values = user_after(&first, &second, Docker::default()).await;
    assert_eq!(values, BTreeMap::from([("a".to_owned(), 50.0), ("b".to_owned(), 10.0)]));
    let docker = Docker { naming: Naming::Image, ..Docker::default() };
    let values = user_after(&[("a", "a1", 0), ("a", "a1", 0)], &[("a", "a1", 30), ("a", "a1", 30)], docker).await;
    assert_eq!(values, BTreeMap::from([("app_1".to_owned(), 50.0)]));
}

#[tokio::test]
async fn containers_with_the_same_name_are_combined() {
    let docker = Docker { naming: Naming::Image, ..Docker::default() };
    let values = user_after(&[("a", "a1", 0), ("b", "b1", 0)], &[("a", "a1", 30), ("b", "b1", 6)], docker).await;
    assert_eq!(values, BTreeMap::from([("app_1".to_owned(), 60.0)]));
}

#[tokio::test]
async fn of_containers_with_the_same_name_there_is_no_sum_without_one_of_them_and_the_log_says_which() {
    const USER: &str = "custom.docker.cpuacct_percentage.app_1.user";
    const RSS: &str = "custom.docker.memory.app_1.rss";
    let all = [("one", "a1"), ("two", "b1")];
    let canned = Canned::start(engine(list(&all), |_| None));
    let docker = Docker { naming: Naming::Image, timeout: Duration::from_secs(3), ..canned.docker() };
    let mut state = State::default();
    let mut minute = async |time: i64, all: &[(&str, &str)], second: Option<(u16, String)>| {
        let whole = stats(time, time.unsigned_abs());
        canned.respond_with(engine(
            list(all),
            move |id| if id == "b1" { second.clone() } else { Some((200, whole.clone())) },
        ));
        let answer = collect(&docker, &mut state, at(time)).await.unwrap();
        let values = values(&answer);
        ([USER, RSS].map(|name| values.get(name).copied()), answer.warnings.join("\n"))
    };
    let good = |time: i64| Some((200, stats(time, time.unsigned_abs())));
    let (rates, none) = ([Some(200.0), Some(200.0)], [None, None]);
    assert_eq!(minute(60, &all, good(60)).await, ([None, Some(200.0)], String::new()));
    assert_eq!(minute(120, &all, good(120)).await, (rates, String::new()));
    let broken = Some((500, json!({ "message": "broken" }).to_string()));
    for (time, fails) in [(180, None), (240, broken)] {
        let (values, why) = minute(time, &all, fails).await;
        assert_eq!(values, none, "{why}");
        assert!(why.contains("container `two`: ") && why.contains("of the 2 containers `app_1` together"), "{why}");
    }
    assert_eq!(minute(300, &all, good(300)).await, (rates, String::new()), "over three minutes");
    // An answer without a part of it.
    let mut partial = serde_json::from_str::<Value>(&stats(360, 360)).unwrap();
    partial.as_object_mut().unwrap().remove("memory_stats");
    let (values, why) = minute(360, &all, Some((200, partial.to_string()))).await;
    assert_eq!(values, [Some(200.0), None]);
    assert!(why.contains("container `two`: 2 values of the 2 containers"), "{why}");
    // One that is removed, or new, does not count as missing.
    let gone = Some((404, json!({ "message": "No such container" }).to_string()));
    assert_eq!(minute(420, &all, gone).await, ([Some(100.0), Some(100.0)], String::new()));
    let more = [("one", "a1"), ("three", "c1")];
    assert_eq!(minute(480, &more, None).await, ([Some(100.0), Some(200.0)], String::new()));
    assert_eq!(minute(540, &more, None).await, (rates, String::new()));
}

#[tokio::test]
async fn the_events_of_each_second_of_the_engines_clock_are_requested_once_and_none_of_the_future() {
    let responses = || engine(list(&[]), |_| None);
    let canned = Canned::start(responses());
    let docker = Docker { extra: vec!["oom"], ..canned.docker() };
    let mut state = State::default();
    let windows = || {
        let requests = std::mem::take(&mut *canned.requests.lock().unwrap());
        let events = requests.into_iter().filter(|request| request.starts_with("/events?"));
        let pairs = events.flat_map(|request| {
            let query = request.split_once('?').unwrap().1.to_owned();
            query.split('&').filter(|pair| !pair.starts_with("filters")).map(str::to_owned).collect::<Vec<_>>()
        });
        pairs.collect::<Vec<_>>()
    };
    collect(&docker, &mut state, at(1_000_000)).await.unwrap();
    assert_eq!(windows(), Vec::<String>::new(), "the first collection has no window");
    // The request failed, so the next window begins at the same second.
    collect(&docker, &mut state, at(1_000_060)).await.unwrap();
    assert_eq!(windows(), ["since=0", "until=59.999999999"]);
    canned.respond_with(Box::new(
        move |path| if path == "/events" { Some((200, String::new())) } else { responses()(path) },
    ));
    collect(&docker, &mut state, at(1_000_120)).await.unwrap();
    assert_eq!(windows(), ["since=0", "until=119.999999999"]);
    collect(&docker, &mut state, at(1_000_180)).await.unwrap();
    assert_eq!(windows(), ["since=120", "until=179.999999999"]);
}

/// The responses of an engine with one container, that of an id that begins with `a1`: `stats` and `events` are its own.
fn with_kills(
    stats: impl Fn() -> Option<(u16, String)> + Send + Sync + 'static,
    events: impl Fn() -> Option<(u16, String)> + Send + Sync + 'static,
) -> Responses {
    let others = engine(list(&[("web", "a1")]), move |_| stats());
    Box::new(move |path| if path == "/events" { events() } else { others(path) })
}

/// So many kills in that container.
fn kills(count: usize) -> Option<(u16, String)> {
    let actor =
        json!({ "ID": format!("{:0<64}", "a1"), "Attributes": { "name": "web", "image": "app:1", "team": "a" } });
    let event = json!({ "Type": "container", "Action": "oom", "Actor": actor }).to_string();
    Some((200, (event + "\n").repeat(count)))
}

#[tokio::test]
async fn kills_are_counted_once_although_the_engine_is_slow_or_the_agent_restarts() {
    const NAME: &str = "custom.docker.oom_kills.web.kills";
    let quick = || Some((200, stats(0, 10)));
    let canned = Canned::start(with_kills(quick, || None));
    let docker = Docker { extra: vec!["oom"], timeout: Duration::from_secs(2), ..canned.docker() };
    let mut state = State::default();
    let first = collect(&docker, &mut state, at(60)).await.unwrap();
    assert_eq!(values(&first).get(NAME), None, "no window yet");
    // Its events do not come in time: nothing is known, and nothing is lost.
    let silent = collect(&docker, &mut state, at(120)).await.unwrap();
    assert_eq!(values(&silent).get(NAME), None);
    let [why] = &silent.warnings[..] else { panic!("{:?}", silent.warnings) };
    assert!(why.ends_with("events: timed out after 2 s; they are read again in the next minute"), "{why}");
    // The statistics of a container that is out of memory do not come in time: its kills are counted all the same.
    canned.respond_with(with_kills(|| None, || kills(3)));
    let late = collect(&docker, &mut state, at(180)).await.unwrap();
    assert_eq!(values(&late), BTreeMap::from([(NAME.to_owned(), 3.0)]), "{:?}", late.warnings);
    // A restart of the agent opens the window where the last one was closed.
    canned.respond_with(with_kills(quick, || kills(2)));
    let mut restarted = State::from(late.readings.into_iter().collect::<std::collections::HashMap<_, _>>());
    let next = collect(&docker, &mut restarted, at(240)).await.unwrap();
    assert_eq!(values(&next).get(NAME), Some(&2.0));
    let requests = canned.requests.lock().unwrap();
    let windows = requests.iter().filter(|request| request.starts_with("/events?"));
    let since = windows.filter_map(|request| request.split_once("since=")?.1.split('&').next()).collect::<Vec<_>>();
    assert_eq!(since, ["0", "0", "120"]);
}

#[tokio::test]
async fn a_container_of_several_names_is_found_by_any_of_them() {
    let regex = |text| Some(official::pattern::compile(text).unwrap());
    for (names, pattern, expected) in [
        // timdaman/check_docker#31: `docker ps` shows `mariadb` alone, which is not the first.
        (&["/hylotox/mysql", "/mantis-test/mysql", "/mariadb", "/vtiger/mysql"] as &[&str], "^mariadb$", true),
        (&["/hylotox/mysql", "/mariadb"], "^hylotox/", true),
        (&["/hylotox/mysql", "/mariadb"], "^mysql$", false),
        // kiyoto/fluent-plugin-docker-metrics#11
        (&["/fluentd/norikra", "/norikra"], "^norikra$", true),
        // influxdata/telegraf#8703: docker-compose renames the old container for a moment.
        (&["/689a5b5f3679_influxdb"], "^influxdb$", false),
        (&[], "web", false),
    ] {
        let container = json!([{ "Id": "a".repeat(64), "Names": names, "Image": "app:1", "State": "running" }]);
        let canned = Canned::start(engine(container.to_string(), |_| Some((200, stats(0, 1)))));
        let mut docker = Docker { naming: Naming::Id, ..canned.docker() };
        docker.include.name = regex(pattern);
        let included = collect(&docker, &mut State::default(), at(60)).await.unwrap();
        docker.exclude.name = docker.include.name.take();
        let excluded = collect(&docker, &mut State::default(), at(60)).await.unwrap();
        let found = (!included.samples.is_empty(), excluded.samples.is_empty());
        assert_eq!(found, (expected, expected), "{names:?} {pattern}");
    }
}

#[tokio::test]
async fn an_engine_with_a_wrong_clock_has_the_same_rates() {
    for apart in [-86_400, 86_400] {
        let minute =
            |time: i64, user: u64| engine(list(&[("a", "a1")]), move |_| Some((200, stats(apart + time, user))));
        let canned = Canned::start(minute(60, 10));
        let mut state = State::default();
        collect(&canned.docker(), &mut state, at(1_000_060)).await.unwrap();
        canned.respond_with(minute(120, 40));
        let values = values(&collect(&canned.docker(), &mut state, at(1_000_120)).await.unwrap());
        assert_eq!(values.get("custom.docker.cpuacct_percentage.a.user"), Some(&50.0), "{apart} s");
    }
}

/// The values of this name in as many minutes as there are answers about one container: what differs in its statistics.
async fn minutes(name: &str, answers: impl IntoIterator<Item = Value>) -> Vec<Option<f64>> {
    let canned = Canned::start(engine(list(&[("a", "a1")]), |_| None));
    let docker = Docker { extra: vec!["network"], ..canned.docker() };
    let (mut state, mut found) = (State::default(), Vec::new());
    for (time, answer) in (1..).map(|minute| minute * 60).zip(answers) {
        let mut whole = answer;
        whole["read"] = json!(jiff::Timestamp::from_second(time).unwrap().to_string());
        canned.respond_with(engine(list(&[("a", "a1")]), move |_| Some((200, whole.to_string()))));
        let answer = collect(&docker, &mut state, at(time)).await.unwrap();
        assert_eq!(answer.warnings, Vec::<String>::new());
        found.push(values(&answer).get(name).copied());
    }
    found
}

#[tokio::test]
async fn what_is_missing_or_zero_in_one_answer_makes_no_peak_in_the_next_one() {
    let cpu = |seconds: Option<u64>| {
        let user = seconds.map(|seconds| seconds * 1_000_000_000);
        json!({ "cpu_stats": { "cpu_usage": { "usage_in_usermode": user, "usage_in_kernelmode": 1 } } })
    };
    let user = "custom.docker.cpuacct_percentage.a.user";
    let some = Some(50.0);
    let lost = minutes(user, [Some(1_000), Some(1_030), Some(0), Some(1_090), Some(1_120)].map(cpu)).await;
    assert_eq!(lost, [None, some, None, None, some]);
    let lost = minutes(user, [Some(1_000), Some(1_030), None, Some(1_090), Some(1_120)].map(cpu)).await;
    assert_eq!(lost, [None, some, None, None, some]);
    // The same of one device, or one interface, among others.
    let disks = |counts: [Option<u64>; 2]| {
        let entry = |(minor, value): (usize, Option<u64>)| {
            value.map(|value| json!({ "major": 8, "minor": minor, "op": "read", "value": value }))
        };
        let entries = counts.into_iter().enumerate().filter_map(entry).collect::<Vec<_>>();
        json!({ "blkio_stats": { "io_service_bytes_recursive": entries } })
    };
    let read = "custom.docker.blkio.io_service_bytes.a.read";
    let counts = [[Some(5), Some(9_000)], [Some(10), Some(9_060)], [Some(15), None], [Some(20), Some(9_180)]];
    let counts = counts.into_iter().chain([[Some(25), Some(9_240)]]);
    assert_eq!(minutes(read, counts.map(disks)).await, [None, Some(65.0), None, None, Some(65.0)]);
    let links = |counts: [Option<u64>; 2]| {
        let link = |(number, count): (usize, Option<u64>)| {
            let all = |rx: u64| json!({ "rx_bytes": rx, "tx_bytes": 0 });
            count.map(|count| (format!("eth{number}"), all(count)))
        };
        json!({ "networks": counts.into_iter().enumerate().filter_map(link).collect::<serde_json::Map<_, _>>() })
    };
    let received = "custom.docker.network.a.rx";
    let counts = [[Some(60), Some(90_000)], [Some(120), Some(90_060)], [None, Some(90_120)], [Some(240), Some(90_180)]];
    let counts = counts.into_iter().chain([[Some(300), Some(90_240)]]);
    assert_eq!(minutes(received, counts.map(links)).await, [None, Some(2.0), None, None, Some(2.0)]);
    // Of a container that has started again.
    let counts = [60, 120, 0, 0, 0, 60].map(|count| links([Some(count), Some(0)]));
    assert_eq!(minutes(received, counts).await, [None, Some(1.0), None, None, Some(0.0), Some(1.0)]);
    // An interface that counts from the beginning again hides behind one that counts much.
    let counts = [[Some(60), Some(500)], [Some(90_000), Some(20)], [Some(90_060), Some(80)]];
    assert_eq!(minutes(received, counts.map(links)).await, [None, None, Some(2.0)]);
}

#[tokio::test]
async fn a_container_with_a_wrong_date_takes_no_rate_from_another_and_has_one_again_after_two_right_ones() {
    let minute = |time: i64, user: u64, ahead: i64| {
        engine(list(&[("a", "a1"), ("b", "b1")]), move |id| {
            Some((200, stats(time + if id == "b1" { ahead } else { 0 }, user)))
        })
    };
    let canned = Canned::start(minute(60, 10, 0));
    let mut state = State::default();
    let mut rates = Vec::new();
    for (time, user, ahead) in [(60, 10, 0), (120, 40, 2_300_000_000), (180, 70, 0), (240, 100, 0)] {
        canned.respond_with(minute(time, user, ahead));
        let values = values(&collect(&canned.docker(), &mut state, at(time)).await.unwrap());
        let rate = |name| values.get(&format!("custom.docker.cpuacct_percentage.{name}.user")).copied();
        rates.push((rate("a"), rate("b")));
    }
    assert_eq!(rates, [(None, None), (Some(50.0), None), (Some(50.0), None), (Some(50.0), Some(50.0))]);
}

#[tokio::test]
async fn an_engine_whose_clock_is_set_has_the_same_rates() {
    for step_minutes in [-1_440, -1, 1, 60] {
        let minute = |time: i64, user: u64| engine(list(&[("a", "a1")]), move |_| Some((200, stats(time, user))));
        let canned = Canned::start(minute(100_000, 10));
        let mut state = State::default();
        collect(&canned.docker(), &mut state, at(1_000_060)).await.unwrap();
        canned.minutes.fetch_add(step_minutes, Ordering::Relaxed);
        for (time, user) in [(60, 40), (120, 70)] {
            canned.respond_with(minute(100_000 + time + step_minutes * 60, user));
            let values = values(&collect(&canned.docker(), &mut state, at(1_000_060 + time)).await.unwrap());
            let rate = values.get("custom.docker.cpuacct_percentage.a.user");
            assert_eq!(rate, Some(&50.0), "{time} s, set by {step_minutes} minutes");
        }
    }
}

#[tokio::test]
async fn only_selected_containers_are_queried() {
    let regex = |text| Some(official::pattern::compile(text).unwrap());
    let canned =
        Canned::start(engine(list(&[("web", "a1"), ("web-old", "b1"), ("db", "c1")]), |_| Some((200, stats(0, 1)))));
    let mut docker = canned.docker();
    docker.include.name = regex("^web");
    docker.include.label = regex("^team=a$");
    docker.exclude.name = regex("old");
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    let queried = canned.requests.lock().unwrap().iter().filter(|target| target.contains("/stats")).count();
    assert!(queried == 1 && values(&answer).keys().all(|name| name.contains(".web.")), "{answer:?}");
    docker.exclude.image = regex("app");
    assert!(collect(&docker, &mut State::default(), at(60)).await.unwrap().samples.is_empty());
}

#[tokio::test]
async fn values_are_renamed_filtered_and_given_to_another_host_as_for_any_plugin() {
    let canned = Canned::start(engine(list(&[("web", "a1")]), |_| Some((200, stats(0, 1)))));
    let mut docker = canned.docker();
    docker.posting.key_prefix = Some("engine1".into());
    docker.posting.exclude = Some(official::pattern::compile("cache").unwrap());
    docker.posting.custom_identifier = Some("node1".into());
    let answer = collect(&docker, &mut State::default(), at(60)).await.unwrap();
    assert_eq!(values(&answer), BTreeMap::from([("custom.engine1.memory.web.rss".to_owned(), 100.0)]));
    assert_eq!(answer.samples[0].host().map(|host| &**host), Some("node1"));
    assert_eq!(docker.graphs().unwrap()[2].name(), "custom.engine1.memory.#");
}

#[tokio::test]
async fn counters_of_an_earlier_process_continue() {
    let canned = Canned::start(engine(list(&[("web", "a1")]), |_| Some((200, stats(60, 10)))));
    let first = collect(&canned.docker(), &mut State::default(), at(60)).await.unwrap();
    canned.respond_with(engine(list(&[("web", "a1")]), |_| Some((200, stats(120, 40)))));
    let mut state = State::from(first.readings.into_iter().collect::<std::collections::HashMap<_, _>>());
    let second = collect(&canned.docker(), &mut state, at(120)).await.unwrap();
    assert_eq!(values(&second).get("custom.docker.cpuacct_percentage.web.user"), Some(&50.0));
}

#[tokio::test]
async fn only_an_engine_that_is_new_or_other_than_before_is_started_again() {
    let (rounds, _defined) = Rounds::new();
    let (registry, mut engines) = (rounds.registry(), super::Engines::default());
    let memory: Arc<dyn Memory> = Arc::new(Forgetful);
    let docker = |naming| Some(Docker { naming, ..Docker::default() });
    let mut sources = Vec::new();
    for wanted in [docker(Naming::Name), docker(Naming::Name), docker(Naming::Id), None] {
        engines.follow(wanted.as_ref(), &registry, &memory).await;
        let registered = engines.running.as_ref().and_then(|(_, registered)| registered.as_ref());
        sources.push(registered.map(Registered::id));
    }
    let [first, reloaded, other, removed] = sources[..] else { panic!("four") };
    assert!(first.is_some() && first == reloaded, "a reload without a change");
    assert!(other.is_some() && other != first);
    assert_eq!(removed, None);
}

#[tokio::test]
async fn a_look_shows_each_selected_container_and_what_cannot_be_read_of_one_is_missing_of_it_alone() {
    let entry = |id: &str, name: &str, state: &str, status: &str| json!({ "Id": id.repeat(64), "Names": [format!("/{name}")], "Image": "nginx:1.27", "State": state, "Status": status });
    let list = json!([
        entry("a", "web.1", "running", "Up 5 minutes (health: starting)"),
        entry("b", "old", "exited", "Exited (0) 2 days ago"),
        entry("c", "broken", "running", "Up 1 second (unhealthy)"),
        entry("d", "skipped", "running", "Up 1 second"),
    ]);
    let about = |started: &str| {
        let memory = if started.starts_with("2026") { 1 << 20 } else { 0 };
        json!({ "RestartCount": 3, "State": { "StartedAt": started }, "HostConfig": { "Memory": memory } }).to_string()
    };
    let canned = Canned::start(Box::new(move |path| match path.get(..13).map(|_| path.split('/').nth(2).unwrap()) {
        Some("json") => Some((200, list.to_string())),
        Some(id) if id.starts_with('a') => Some((200, about("2026-12-01T00:00:00.5Z"))),
        Some(id) if id.starts_with('b') => Some((200, about("2025-12-01T00:00:00Z"))),
        _ => Some((500, json!({ "message": "no" }).to_string())),
    }));
    let mut docker = canned.docker();
    docker.exclude.name = Some(regex_lite::Regex::new("^skipped$").unwrap());
    let current = super::look::Current::default();
    assert_eq!(current.look().await, Ok(Vec::new()), "without an engine");
    current.set(Some(&docker));
    let looks = current.look().await.unwrap();
    let shown = |name: &str| looks.iter().find(|look| look.name == name).unwrap();
    assert_eq!(looks.iter().map(|look| &*look.name).collect::<Vec<_>>(), ["broken", "old", "web.1"]);
    let web = shown("web.1");
    assert_eq!((web.health, web.started, web.restarts), (Some("starting"), Some(1_796_083_200), Some(3)));
    assert_eq!((web.memory_limit_bytes, &*web.segment, &*web.image), (Some(1 << 20), "web_1", "nginx:1.27"));
    assert_eq!((shown("old").started, shown("old").memory_limit_bytes, &*shown("old").state), (None, None, "exited"));
    assert_eq!((shown("broken").health, shown("broken").restarts), (Some("unhealthy"), None));
    current.look().await.unwrap();
    let lists = canned.requests.lock().unwrap().iter().filter(|path| path.starts_with("/containers/json")).count();
    assert_eq!(lists, 1, "who looks again at once sees the same");
}

#[tokio::test]
async fn a_look_at_an_engine_that_is_not_there_says_where_it_was_searched() {
    let folder = tempfile::tempdir().unwrap();
    let docker = Docker { endpoint: Endpoint::Unix(folder.path().join("none.sock")), ..Docker::default() };
    let current = super::look::Current::default();
    current.set(Some(&docker));
    let error = current.look().await.unwrap_err();
    assert!(error.contains("none.sock"), "{error}");
}
