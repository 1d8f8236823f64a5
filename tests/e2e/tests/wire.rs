//! Compares the agent's requests with those of the official agent, recorded in `tests/fixtures/official/requests.jsonl` with the
//! configuration below. Each difference is named where it is removed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use serde_json::{Value, json};
use wasaba_e2e::SOON;
use wasaba_e2e::agent::Home;

/// The ids of the host and of the other host in the recording.
const HOST: &str = "HOSTID12345";
const OTHER: &str = "CIHOST";

/// The recorded requests: method, path, body.
fn recorded() -> Vec<(String, String, Value)> {
    let lines = include_str!("../../fixtures/official/requests.jsonl").lines();
    let parsed = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |request: &Value, key: &str| request[key].as_str().unwrap().to_owned();
    let body = |request: &Value| serde_json::from_str(request["body"].as_str().unwrap()).unwrap_or_default();
    parsed.map(|request| (text(&request, "method"), text(&request, "path"), body(&request))).collect()
}

/// The bodies of the recorded requests to paths that end with `end`, in their order.
fn bodies(recorded: &[(String, String, Value)], method: &str, end: &str) -> Vec<Value> {
    let to_it = recorded.iter().filter(|(known, path, _)| known == method && path.trim_end_matches('?').ends_with(end));
    to_it.map(|(_, _, body)| body.clone()).collect()
}

/// The bodies that the agent sent to paths that end with `end`, in their order.
fn sent(memory: &Memory, method: &str, end: &str) -> Vec<Value> {
    let requests = memory.requests().iter().filter(|request| request.method == method && request.path.ends_with(end));
    requests.filter_map(|request| request.body.clone()).collect()
}

/// Reproduces the files of the recorded machine in `folder`.
fn machine(folder: &Path, host: &Value, points: &Value) {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/machine");
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    for name in ["proc/self/mountinfo", "proc/net/dev", "proc/diskstats", "proc/stat"] {
        write(name, &std::fs::read_to_string(frozen.join(name)).unwrap());
    }
    let value = |name: &str| {
        let point = points.as_array().unwrap().iter().find(|point| point["name"] == name);
        point.unwrap()["value"].as_f64().unwrap()
    };
    let load = ["loadavg1", "loadavg5", "loadavg15"].map(|name| value(name).to_string()).join(" ");
    write("proc/loadavg", &format!("{load} 1/100 1000\n"));
    let meta = &host["meta"];
    let cpu_lines = [
        ("vendor_id", "vendor_id"),
        ("family", "cpu family"),
        ("model", "model"),
        ("model_name", "model name"),
        ("stepping", "stepping"),
        ("mhz", "cpu MHz"),
        ("cache_size", "cache size"),
        ("physical_id", "physical id"),
        ("core_id", "core id"),
    ];
    let mut cpuinfo = String::new();
    for (number, cpu) in meta["cpu"].as_array().unwrap().iter().enumerate() {
        cpuinfo.push_str(&format!("processor\t: {number}\n"));
        for (key, line) in cpu_lines {
            cpuinfo.push_str(&format!("{line}\t: {}\n", cpu[key].as_str().unwrap()));
        }
        cpuinfo.push('\n');
    }
    write("proc/cpuinfo", &cpuinfo);
    let memory_lines = [
        ("total", "MemTotal"),
        ("free", "MemFree"),
        ("slab_reclaimable", "SReclaimable"),
        ("slab_unreclaim", "SUnreclaim"),
        ("nfs_unstable", "NFS_Unstable"),
        ("committed_as", "Committed_AS"),
    ];
    let mut meminfo = format!("MemAvailable: {} kB\n", value("memory.mem_available") / 1024.0);
    for (key, value) in meta["memory"].as_object().unwrap() {
        let words = key.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>();
        let line = memory_lines.iter().find(|(known, _)| known == key).map_or(words.as_str(), |(_, line)| line);
        meminfo.push_str(&format!("{line}: {} kB\n", value.as_str().unwrap().trim_end_matches("kB")));
    }
    write("proc/meminfo", &meminfo);
    for (device, about) in meta["block_device"].as_object().unwrap() {
        for (key, value) in about.as_object().unwrap() {
            let inside = if ["size", "removable"].contains(&key.as_str()) { "" } else { "device/" };
            write(&format!("sys/block/{device}/{inside}{key}"), value.as_str().unwrap());
        }
    }
    write("etc/debian_version", meta["kernel"]["platform_version"].as_str().unwrap());
}

/// Registers a host with this custom identifier, like another agent.
async fn register(standin: &Standin, custom_identifier: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({"name": "other", "meta": {}, "customIdentifier": custom_identifier}).to_string();
    let mut stream = tokio::net::TcpStream::connect(standin.address()).await.unwrap();
    let head = format!(
        "POST /api/v0/hosts HTTP/1.1\r\nhost: x\r\nuser-agent: test\r\nx-api-key: key\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The configuration of the recording.
fn configure(home: &Home, standin: &Standin) {
    let dice = home.path("dice.sh");
    let meta = json!({"graphs": {
        "super.dice": {"label": "My <Dice> & co", "unit": "integer", "metrics": [
            {"name": "d6", "label": "D6", "stacked": true}, {"name": "%1", "label": ""}]},
        "wild.#": {"metrics": [{"name": "*"}]},
        "empty": {"label": "E"},
    }});
    let script = format!(
        "#!/bin/sh\n[ \"$MACKEREL_AGENT_PLUGIN_META\" ] && {{ echo '# mackerel-agent-plugin'; echo '{meta}'; exit; }}\n\
         echo super.dice.d6 3 0; echo super.dice.big 1e21 0; echo super.dice.neg -0.5 0; echo 日本.語 5 0; echo super.dice.nan NaN 0\n"
    );
    std::fs::write(&dice, script).unwrap();
    let machine = home.path("machine");
    home.configure(&format!(
        "apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n\
         display_name = \"disp\"\nroles = [\"Svc:role\", \"Svc: spaced\", \"bad\"]\ndiagnostic = true\n\
         [machine]\nproc = \"{machine}/proc\"\nsys = \"{machine}/sys\"\netc = \"{machine}/etc\"\n\
         [host_status]\non_start = \"standby\"\non_stop = \"poweroff\"\n\
         [plugin.metrics.dice]\ncommand = \"sh {}\"\n\
         [plugin.metrics.ci]\ncommand = \"echo ci.a 1 0\"\ncustom_identifier = \"known\"\n\
         [plugin.metrics.unk]\ncommand = \"echo unk.a 1 0\"\ncustom_identifier = \"unk\"\n\
         [plugin.checks.ok]\ncommand = \"exit 2\"\nnotification_interval = 5\nmemo = \"memo ok\"\n\
         [plugin.checks.crit]\ncommand = \"printf 'bad\\nline2'; exit 2\"\nmax_check_attempts = 3\n\
         [plugin.checks.weird]\ncommand = \"exit 77\"\n\
         [plugin.checks.nf]\ncommand = [\"/no/such/cmd\"]\n\
         [plugin.checks.to]\ncommand = \"sleep 60\"\ntimeout_seconds = 1\n\
         [plugin.checks.cichk]\ncommand = \"exit 1\"\ncustom_identifier = \"known\"\n\
         [plugin.metadata.md]\ncommand = \"echo '{{\\\"a\\\": 12345678901234567890, \\\"b\\\": 1, \\\"c\\\": \\\"<x>\\\"}}'\"\n",
        standin.url(),
        dice.display(),
        machine = machine.display(),
    ));
}

#[tokio::test]
async fn requests_equal_those_of_the_official_agent_except_for_the_differences_named_here() {
    let (standin, home, recorded) = (Standin::start("key").await.unwrap(), Home::with(""), recorded());
    let official_host = bodies(&recorded, "POST", "/hosts").remove(0);
    let official_points = bodies(&recorded, "POST", "/tsdb").remove(0);
    machine(&home.path("machine"), &official_host, &official_points);
    register(&standin, "known").await;
    configure(&home, &standin);
    let mut agent = home.start(&[]);
    let all = |memory: &Memory| {
        let names = memory.reports().iter().map(|report| report.name.as_str()).collect::<BTreeSet<_>>();
        let points = memory.points().iter().filter(|point| point.name.starts_with("custom.")).count();
        let is_described = memory.hosts().iter().any(|host| host.puts > 0);
        names.len() == 6
            && is_described
            && points >= 4
            && memory.graph_definitions().len() >= 4
            && !memory.metadata().is_empty()
    };
    standin.wait_until(SOON, "everything", all).await.unwrap();
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert!(home.command(&["retire"], &["-force"]).status.success());
    let memory = standin.memory();
    assert_eq!(memory.refusals(), []);
    let own = memory.hosts().iter().find(|host| host.body["name"] != "other").unwrap().id.clone();
    let other = memory.hosts().iter().find(|host| host.body["name"] == "other").unwrap().id.clone();

    compare_order(&memory, &recorded, &own);
    compare_host(&memory, &official_host);
    compare_graphs(&memory, bodies(&recorded, "POST", "/graph-defs/create").remove(0));
    compare_reports(&memory, &bodies(&recorded, "POST", "/checks/report"), &own, &other);
    compare_points(&memory, &official_points, &own, &other);

    // Metadata. Better: numbers are not rounded.
    let mut metadata = sent(&memory, "PUT", "/metadata/md").remove(0);
    assert_eq!(metadata["a"], json!(12_345_678_901_234_567_890_u64));
    let official = bodies(&recorded, "PUT", "/metadata/md").remove(0);
    metadata["a"] = official["a"].clone();
    assert_eq!(metadata, official);

    // Statuses at start and stop, and the retirement, whose body is `{}`, as documented, instead of `null`. The status at start is
    // set only if the host has another one, so it is not the recorded one here.
    let mut statuses = bodies(&recorded, "POST", "/status");
    assert_eq!(statuses[0], json!({"status": "working"}));
    statuses[0]["status"] = "standby".into();
    assert_eq!(sent(&memory, "POST", "/status"), statuses);
    assert_eq!(sent(&memory, "POST", "/retire"), [json!({})]);
    assert_eq!(bodies(&recorded, "POST", "/retire"), [Value::Null]);
}

/// The same requests: first the registration and the status, last the other status, in between in any order.
fn compare_order(memory: &Memory, recorded: &[(String, String, Value)], own: &str) {
    let shown =
        |method: &str, path: &str, id: &str| format!("{method} {}", path.trim_end_matches('?').replace(id, "<ID>"));
    let official = recorded.iter().map(|(method, path, _)| shown(method, path, HOST)).collect::<Vec<_>>();
    let ours = memory.requests().iter().map(|request| shown(&request.method, &request.path, own));
    // The first is the registration of the other host, the last the retirement.
    let ours = ours.skip(1).collect::<Vec<_>>();
    assert_eq!(ours[..3], official[..3]);
    let last = |requests: &[String]| requests.iter().rposition(|request| !request.ends_with("/retire")).unwrap();
    assert_eq!(ours[last(&ours)], official[last(&official)]);
    for request in &ours {
        let is_retirement = request == "POST /api/v0/hosts/<ID>/retire";
        assert!(official.contains(request) || is_retirement, "{request} is not sent by the official agent");
    }
    for request in official.iter().filter(|request| !request.ends_with("/retire")) {
        assert!(ours.contains(request), "{request} is not sent by this agent");
    }
}

/// The host at its registration and later: exactly what is read from files, and only the shape of the rest, since system calls,
/// the network and file systems cannot be reproduced.
fn compare_host(memory: &Memory, official: &Value) {
    let later = format!("/hosts/{}", memory.hosts().iter().find(|host| host.body["name"] != "other").unwrap().id);
    let hosts = [sent(memory, "POST", "/api/v0/hosts").remove(1), sent(memory, "PUT", &later).remove(0)];
    for mut host in hosts {
        for key in ["displayName", "roleFullnames", "checks"] {
            assert_eq!(host[key], official[key], "{key}");
        }
        for key in ["cpu", "memory", "block_device"] {
            assert_eq!(host["meta"][key], official["meta"][key], "{key}");
        }
        for key in ["os", "platform_name", "platform_version"] {
            assert_eq!(host["meta"]["kernel"][key], official["meta"]["kernel"][key], "{key}");
        }
        // The addresses differ too; their format is in a golden file of the unit tests.
        host["interfaces"] = official["interfaces"].clone();
        assert_eq!(shape(&host), shape(official), "the host");
    }
}

/// Graph definitions. Omitted: `%1`, which Mackerel would refuse, and the graphs of the agent's memory, which have Go's metrics.
fn compare_graphs(memory: &Memory, mut official: Value) {
    let graphs = official.as_array_mut().unwrap();
    graphs.retain(|graph| !graph["name"].as_str().unwrap().starts_with("custom.agent."));
    for graph in graphs {
        if let Some(metrics) = graph["metrics"].as_array_mut() {
            metrics.retain(|metric| !metric["name"].as_str().unwrap().contains('%'));
        }
        let name = graph["name"].as_str().unwrap();
        assert_eq!(&memory.graph_definitions()[name], graph, "{name}");
    }
    assert!(memory.graph_definitions().contains_key("custom.agent.memory"));
}

/// Check reports, except for their order and times. The wording of why a program cannot be started differs.
fn compare_reports(memory: &Memory, official: &[Value], own: &str, other: &str) {
    let reports = |bodies: &[Value]| {
        bodies.iter().flat_map(|body| body["reports"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let ours = reports(&sent(memory, "POST", "/checks/report"));
    let mut names = BTreeSet::new();
    for mut expected in reports(official) {
        let name = expected["name"].as_str().unwrap().to_owned();
        if !names.insert(name.clone()) {
            continue;
        }
        let report = ours.iter().find(|report| report["name"] == name).unwrap_or_else(|| panic!("no report of {name}"));
        let host = if expected["source"]["hostId"] == OTHER { other } else { own };
        expected["source"]["hostId"] = host.into();
        assert!(report["occurredAt"].is_i64());
        expected["occurredAt"] = report["occurredAt"].clone();
        if name == "nf" {
            let message = report["message"].as_str().unwrap();
            assert!(message.starts_with("exit code: 127, ") && message.contains("/no/such/cmd"), "{message}");
            expected["message"] = report["message"].clone();
        }
        assert_eq!(report, &expected, "{name}");
    }
    assert_eq!(names.len(), 6);
}

/// Points of both hosts, each with the same keys. The other host's values come in a request of their own, since its id is looked up
/// while the first ones are posted. Omitted: a name that Mackerel would refuse, and Go's metrics. Ours in
/// addition: `custom.wasaba.*`. Rates need a second minute; golden files have their names.
fn compare_points(memory: &Memory, official: &Value, own: &str, other: &str) {
    let requests = sent(memory, "POST", "/tsdb");
    let points = requests.iter().flat_map(|body| body.as_array().unwrap()).collect::<Vec<_>>();
    let value_of = |name: &str, host: &str| {
        let point = points.iter().find(|point| point["name"] == name && point["hostId"] == host);
        point.map(|point| point["value"].clone())
    };
    for point in &points {
        assert_eq!(shape(point), shape(&official[0]), "a point");
        assert!(point["time"].is_i64());
    }
    let is_rate = |name: &str| ["cpu.", "disk.", "interface."].iter().any(|family| name.starts_with(family));
    let only_of_go =
        ["custom.agent.runtime.goroutine_num", "custom.agent.memory.heapAlloc", "custom.agent.memory.heapSys"];
    let mut names = BTreeSet::new();
    for point in official.as_array().unwrap() {
        let name = point["name"].as_str().unwrap();
        if is_rate(name) || name.starts_with("filesystem.") || only_of_go.contains(&name) || !name.is_ascii() {
            assert!(!only_of_go.contains(&name) || value_of(name, own).is_none(), "{name}");
            continue;
        }
        let found = value_of(name, if point["hostId"] == OTHER { other } else { own });
        let found = found.unwrap_or_else(|| panic!("{name} was not sent"));
        // The agent's own resource usage cannot be equal.
        if !name.starts_with("custom.agent.") {
            assert_eq!(found, point["value"], "{name}");
        }
        names.insert(name);
    }
    for point in &points {
        let name = point["name"].as_str().unwrap();
        let is_ours = is_rate(name) || name.starts_with("filesystem.") || name.starts_with("custom.wasaba.");
        assert!(is_ours || names.contains(name), "{name} is not sent by the official agent");
    }
}

/// The keys of objects and the types of values. The number and the names of disks, file systems and the like differ between
/// machines, so only the first of them counts.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let named_by_machine = ["block_device", "filesystem", "memory"];
            let member = |(key, value): (&String, &Value)| {
                let shape = match value {
                    Value::Object(inner) if named_by_machine.contains(&key.as_str()) => {
                        inner.values().next().map(named_shape).unwrap_or_default()
                    }
                    _ => shape(value),
                };
                (key.clone(), shape)
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => items.first().map(shape).into_iter().collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("boolean"),
        Value::Null => Value::Null,
    }
}

/// The shape of a disk or a file system, without the keys that depend on the kind of disk.
fn named_shape(value: &Value) -> Value {
    let mut shape = shape(value);
    if let Some(members) = shape.as_object_mut() {
        members.retain(|key, _| !["device", "model", "rev", "state", "timeout", "vendor"].contains(&key.as_str()));
    }
    shape
}
