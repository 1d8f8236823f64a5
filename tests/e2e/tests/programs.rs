//! Plugins that are programs: metrics, checks and metadata, and their failures.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Report, Standin};
use rustix::process::Signal;
use serde_json::json;
use wasaba_e2e::agent::{Agent, Home};
use wasaba_e2e::{SOON, component};

/// The time until the next full minute, with slack for a busy machine.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(240);

async fn standin() -> Standin {
    Standin::start("key").await.unwrap()
}

fn base(standin: &Standin) -> String {
    format!("apikey = \"key\"\napibase = {:?}\n", standin.url())
}

/// An executable script in the home.
fn script(home: &Home, name: &str, text: &str) -> PathBuf {
    let file = home.path(name);
    wasaba_e2e::write_program(&file, text);
    file
}

fn has(name: &'static str) -> impl Fn(&Memory) -> bool {
    move |memory| memory.points().iter().any(|point| point.name == name)
}

fn value(standin: &Standin, name: &str) -> Option<f64> {
    standin.memory().points().iter().rfind(|point| point.name == name).map(|point| point.value)
}

/// The processes whose command line contains `mark`.
fn processes(mark: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_marked = |process: &u32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    all.filter(is_marked).collect()
}

/// How many children of a process are zombies.
fn zombies_of(parent: u32) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let is_zombie = |child: &&str| {
        let text = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    };
    children.split_whitespace().filter(is_zombie).count()
}

fn wait_for_none(mark: &str) {
    let end = Instant::now() + SOON;
    while !processes(mark).is_empty() {
        assert!(Instant::now() < end, "{mark} still runs: {:?}", processes(mark));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn kill_marked(mark: &str) {
    for process in processes(mark) {
        let process = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
        rustix::process::kill_process(process, Signal::KILL).ok();
    }
}

#[tokio::test]
async fn values_and_graphs_of_a_shell_and_a_python_script_arrive_with_their_time() {
    let (standin, home) = (standin().await, Home::with(""));
    let dice = script(
        &home,
        "dice.sh",
        "#!/bin/sh\nif [ \"$MACKEREL_AGENT_PLUGIN_META\" = 1 ]; then\n  echo '# mackerel-agent-plugin version=1'\n  echo '{\"graphs\":{\"super.dice\":{\"label\":\"My <Dice>\",\"unit\":\"integer\",\"metrics\":[{\"name\":\"d6\",\"label\":\"D6\",\"stacked\":true}]}}}'\n  exit 0\nfi\nprintf 'super.dice.d6\\t%s\\t0\\n' \"$FACE\"; echo 'super.dice.d20 1e3 0 more words'; echo 'noise'; exit 1\n",
    );
    let python = script(
        &home,
        "own_time.py",
        "#!/usr/bin/env python3\nimport time, os\nnow = int(time.time())\nprint('own.time', 7, now - 300)\nprint('own.too-old', 7, now - 901)\nprint('own.meta-is-empty', int(os.environ['MACKEREL_AGENT_PLUGIN_META'] == ''), now)\n",
    );
    home.configure(&format!(
        "{}[plugin.metrics.dice]\ncommand = \"FACE=4 {} | cat\"\nexclude_pattern = \"d20$\"\n\
         [plugin.metrics.python]\ncommand = [{python:?}]\nuse_plugin_timestamp = true\n",
        base(&standin),
        dice.display()
    ));
    let begin = wasaba_e2e::unix_seconds();
    let agent = home.start(&[]);
    standin.wait_until(SOON, "the host", has("memory.total")).await.unwrap();
    standin.wait_until(SOON, "the dice", has("custom.super.dice.d6")).await.unwrap();
    // Values of different times may arrive in different requests.
    standin.wait_until(SOON, "the python script", has("custom.own.time")).await.unwrap();
    standin.wait_until(SOON, "the python script", has("custom.own.meta-is-empty")).await.unwrap();
    standin.wait_until(SOON, "graphs", |memory| !memory.graph_definitions().is_empty()).await.unwrap();
    assert_eq!(value(&standin, "custom.super.dice.d6"), Some(4.0));
    assert_eq!(value(&standin, "custom.super.dice.d20"), None, "it is excluded");
    assert_eq!(value(&standin, "custom.own.meta-is-empty"), Some(1.0));
    let memory = standin.memory();
    let time = |name: &str| memory.points().iter().find(|point| point.name == name).unwrap().time as f64;
    assert!((time("custom.own.time") - (begin - 300.0)).abs() < 60.0);
    assert_eq!(
        time("custom.super.dice.d6"),
        time("memory.total"),
        "the program's own time counts only with use_plugin_timestamp"
    );
    let graph = &memory.graph_definitions()["custom.super.dice"];
    assert_eq!(graph["metrics"], json!([{"name": "custom.super.dice.d6", "displayName": "D6", "isStacked": true}]));
    agent.line_with("plugin python: skipped `own.too-old`: its time", SOON);
    assert_eq!(memory.refusals(), []);
}

#[tokio::test]
async fn a_grandchild_that_holds_standard_output_open_holds_up_neither_values_nor_the_stop() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!(
        "{}[plugin.metrics.leak]\ncommand = \"setsid sleep 86421 & echo leak.a 1 1\"\ntimeout_seconds = 2\n\
         [plugin.checks.leak]\ncommand = \"setsid sleep 86422 & echo fine\"\n",
        base(&standin)
    ));
    let mut agent = home.start(&[]);
    standin.wait_until(SOON, "its value", has("custom.leak.a")).await.unwrap();
    standin.wait_until(SOON, "other values", has("memory.total")).await.unwrap();
    // The next minute comes too.
    let minutes = |memory: &Memory| {
        let times = memory.points().iter().filter(|point| point.name == "custom.leak.a").map(|point| point.time);
        times.collect::<std::collections::BTreeSet<_>>().len() > 1
    };
    standin.wait_until(A_MINUTE_AND_MORE, "its second minute", minutes).await.unwrap();
    assert_eq!(zombies_of(agent.pid()), 0);
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert_eq!(standin.memory().reports()[0].message, "fine\n");
    // The agent cannot reach processes that have left the process group.
    for mark in ["86421", "86422"] {
        kill_marked(mark);
    }
}

#[tokio::test]
async fn programs_that_time_out_trap_the_signal_or_flood_affect_only_themselves() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!(
        "{}[plugin.metrics.hangs]\ncommand = \"sleep 86431 & echo early 1 0; sleep 86431\"\ntimeout_seconds = 2\n\
         [plugin.metrics.traps]\ncommand = \"trap 'echo trapped 1 0; exit 0' TERM; while :; do sleep 0.1; done\"\ntimeout_seconds = 2\n\
         [plugin.metrics.floods]\ncommand = \"yes 'flood 1 0'\"\n\
         [plugin.metrics.bytes]\ncommand = \"printf '\\\\377\\\\376 1 0\\\\nbytes.good 1 0\\\\n'\"\n\
         [plugin.metrics.missing]\ncommand = [\"/no/such/program\"]\n\
         [plugin.metrics.stubborn]\ncommand = \"trap '' TERM; while :; do sleep 86432 & wait; done\"\ntimeout_seconds = 1\n\
         [plugin.metrics.slow]\ncommand = \"sleep 86433\"\ntimeout_seconds = 50\n",
        base(&standin)
    ));
    let mut agent = home.start(&[]);
    // The host's values wait for none of them: the slow one has a longer timeout.
    standin.wait_until(Duration::from_secs(40), "other values", has("memory.total")).await.unwrap();
    standin.wait_until(SOON, "the value of the signal handler", has("custom.trapped")).await.unwrap();
    standin.wait_until(SOON, "the good line", has("custom.bytes.good")).await.unwrap();
    for line in [
        "plugin hangs: timed out after 2 s and was killed (limit `timeout_seconds`)",
        "plugin floods: printed more than 1 MiB and was killed",
        "plugin bytes: skipped `\u{fffd}\u{fffd}`: invalid metric name \"custom.\u{fffd}\u{fffd}\"",
        "plugin missing: cannot be started: exit code: 127, /no/such/program",
        "plugin stubborn: timed out after 1 s",
    ] {
        agent.line_with(line, SOON);
    }
    assert_eq!(value(&standin, "custom.early"), None);
    wait_for_none("86431");
    agent.signal(Signal::TERM);
    agent.ended(SOON);
    wait_for_none("86432");
    wait_for_none("86433");
}

fn reports_of<'a>(memory: &'a Memory, name: &str) -> Vec<&'a Report> {
    memory.reports().iter().filter(|report| report.name == name).collect()
}

#[tokio::test]
async fn checks_report_what_they_found_and_the_host_lists_them() {
    let (standin, home) = (standin().await, Home::with(""));
    let log = home.path("action.log");
    home.configure(&format!(
        "{}[plugin.checks.crit]\ncommand = \"printf 'bad\\nline2'; exit 2\"\nmax_check_attempts = 3\nmemo = \"call me\"\n\
         [plugin.checks.crit.action]\ncommand = \"echo \\\"<$MACKEREL_PREVIOUS_STATUS>$MACKEREL_STATUS\\\" > {}\"\n\
         [plugin.checks.weird]\ncommand = [\"sh\", \"-c\", \"exit 77\"]\nnotification_interval = 1\n\
         [plugin.checks.slow]\ncommand = \"sleep 100\"\ntimeout_seconds = 1\n\
         [plugin.checks.component]\nwasm = {:?}\nsettings = {{ url = \"http://127.0.0.1:1/\", socket = \"/nowhere\", file = \"/nowhere\" }}\n\
         [plugin.checks.fine]\ncommand = \"echo fine\"\n",
        base(&standin),
        log.display(),
        component("everything"),
    ));
    let mut agent = home.start(&[]);
    let all = |memory: &Memory| {
        ["crit", "weird", "slow", "component"].iter().all(|name| !reports_of(memory, name).is_empty())
    };
    standin.wait_until(SOON, "four reports", all).await.unwrap();
    let memory = standin.memory();
    let crit = reports_of(&memory, "crit")[0];
    assert_eq!(
        (crit.status.as_str(), crit.message.as_str(), crit.max_check_attempts),
        ("CRITICAL", "bad\nline2", Some(3))
    );
    let weird = reports_of(&memory, "weird")[0];
    assert_eq!((weird.status.as_str(), weird.notification_interval), ("UNKNOWN", Some(10)));
    let slow = reports_of(&memory, "slow")[0];
    assert_eq!((slow.status.as_str(), slow.message.as_str()), ("UNKNOWN", "command timed out"));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "<>CRITICAL\n");
    let listed = &memory.hosts()[0].body["checks"];
    assert_eq!(listed[0], json!({"name": "crit", "memo": "call me"}));
    assert_eq!(listed.as_array().unwrap().len(), 5);
    // The first OK may be delayed, but not past the stop.
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert_eq!(reports_of(&standin.memory(), "fine")[0].status, "OK");
    assert_eq!(standin.memory().refusals(), []);
}

#[tokio::test]
async fn checks_of_another_host_are_reported_there_and_an_unknown_host_holds_up_no_other() {
    let (standin, home) = (standin().await, Home::with(""));
    let other = Home::with("");
    let metadata = "[machine]\nmetadata = \"http://127.0.0.1:1\"\n";
    other.configure(&format!("{}{metadata}", base(&standin)));
    // Another agent registers the host for which this one reports.
    register(&standin, "db.example.com").await;
    home.configure(&format!(
        "{}[plugin.checks.db]\ncommand = \"exit 1\"\ncustom_identifier = \"db.example.com\"\n\
         [plugin.checks.nobody]\ncommand = \"exit 1\"\ncustom_identifier = \"nobody.example.com\"\n\
         [plugin.checks.own]\ncommand = \"exit 1\"\n",
        base(&standin)
    ));
    let agent = home.start(&[]);
    let both = |memory: &Memory| ["db", "own"].iter().all(|name| !reports_of(memory, name).is_empty());
    standin.wait_until(SOON, "both reports", both).await.unwrap();
    agent.line_with("no host has the custom identifier `nobody.example.com`", SOON);
    let memory = standin.memory();
    let host = |name: &str| memory.hosts().iter().find(|host| host.body["name"] == name).unwrap().id.clone();
    assert_eq!(reports_of(&memory, "db")[0].host_id, host("db"));
    assert_ne!(reports_of(&memory, "own")[0].host_id, host("db"));
    let own = memory.hosts().iter().find(|host| host.body["name"] != "db").unwrap();
    assert_eq!(own.body["checks"], json!([{"name": "own"}]));
}

/// Registers a host named `db` with this custom identifier, like another agent.
async fn register(standin: &Standin, custom_identifier: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({"name": "db", "meta": {}, "customIdentifier": custom_identifier}).to_string();
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

#[tokio::test]
async fn metadata_is_sent_unchanged_and_not_again_after_a_restart() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!(
        "{}[plugin.metadata.md]\ncommand = \"echo '{{\\\"big\\\": 12345678901234567890, \\\"c\\\": \\\"<x>\\\"}}'\"\n\
         [plugin.metadata.wrong]\ncommand = \"echo no json\"\n\
         [plugin.metadata.component]\nwasm = {:?}\nsettings = {{ url = \"http://127.0.0.1:1/\", socket = \"/nowhere\", file = \"/nowhere\" }}\n",
        base(&standin),
        component("everything"),
    ));
    let sent = |memory: &Memory| memory.metadata().len();
    let agent = home.start(&[]);
    standin.wait_until(SOON, "metadata", |memory| sent(memory) >= 2).await.unwrap();
    agent.line_with("metadata wrong: its output is not a single JSON value", SOON);
    let memory = standin.memory();
    let host = &memory.hosts()[0].id;
    let document = &memory.metadata()[&(host.clone(), "md".to_owned())];
    assert_eq!(document.to_string(), "{\"big\":12345678901234567890,\"c\":\"<x>\"}", "a number was rounded");
    // It is stored after Mackerel has accepted it.
    let kept = home.root().join("metadata/md.json");
    let end = Instant::now() + SOON;
    while !kept.exists() {
        assert!(Instant::now() < end);
        std::thread::park_timeout(Duration::from_millis(10));
    }
    drop(agent);
    let requests = |standin: &Standin| {
        standin.memory().requests().iter().filter(|request| request.path.ends_with("/metadata/md")).count()
    };
    let before = requests(&standin);
    let values = standin.memory().points().len();
    let again = home.start(&[]);
    again.line_with("metadata wrong", SOON);
    standin.wait_until(SOON, "values of the second run", move |memory| memory.points().len() > values).await.unwrap();
    assert_eq!(requests(&standin), before);
}

#[tokio::test]
async fn sighup_starts_new_plugins_and_does_not_restart_the_others() {
    let (standin, home) = (standin().await, Home::with(""));
    let count = home.path("count");
    let kept = format!(
        "{}[plugin.metrics.kept]\ncommand = \"echo run >> {}; echo kept 1 0\"\n",
        base(&standin),
        count.display()
    );
    home.configure(&format!(
        "{kept}[plugin.metrics.old]\ncommand = \"echo old 1 0\"\n[plugin.checks.c]\ncommand = \"exit 1\"\n"
    ));
    let agent = home.start(&[]);
    standin.wait_until(SOON, "old", has("custom.old")).await.unwrap();
    home.configure(&format!("displya_name = \"x\"\nverbose = true\ndiagnostic = true\n{kept}[plugin.metrics.new]\ncommand = \"echo new 1 0\"\n[plugin.checks.d]\ncommand = \"exit 1\"\n"));
    agent.signal(Signal::HUP);
    agent.line_with("unknown key `displya_name`, did you mean `display_name`?", SOON);
    agent.line_with("reloaded the configuration", SOON);
    standin.wait_until(SOON, "new", has("custom.new")).await.unwrap();
    standin.wait_until(SOON, "the diagnostic", has("custom.agent.memory.alloc")).await.unwrap();
    agent.line_with("DEBUG", SOON);
    standin.wait_until(SOON, "the new check", |memory| !reports_of(memory, "d").is_empty()).await.unwrap();
    let listed = |memory: &Memory| memory.hosts()[0].body["checks"] == json!([{"name": "d"}]);
    standin.wait_until(SOON, "the new list of checks", listed).await.unwrap();
    // Once for its graph definitions, and once per minute so far: an unchanged plugin is not restarted.
    let runs = std::fs::read_to_string(&count).unwrap().lines().count();
    assert!(runs <= 4, "{runs} runs");
}

#[test]
fn once_runs_programs_too_and_logs_invalid_lines() {
    let home = Home::with("[plugin.metrics.p]\ncommand = \"echo p.a 1 0; echo p.b x 0\"\n");
    let output = home.command(&["once"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["metrics"]["Values"][0]["Values"]["custom.p.a"]["Value"], 1.0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("plugin p: skipped `p.b`: \"x\" is not a number"));
}

#[test]
fn once_runs_a_program_once_and_prints_its_own_timestamp() {
    let home = Home::with("");
    let runs = home.path("runs");
    let script = format!("echo run >> {}; echo p.now 1 $(date +%s)", runs.display());
    home.configure(&format!(
        "[plugin.metrics.own]\ncommand = {script:?}\nuse_plugin_timestamp = true\n\
         [plugin.metrics.usual]\ncommand = \"echo p.usual 2 5\"\n"
    ));
    let json: serde_json::Value = serde_json::from_slice(&home.command(&["once"], &[]).stdout).unwrap();
    let values = &json["metrics"]["Values"][0]["Values"];
    let time = values["custom.p.now"]["Time"].as_f64().unwrap();
    assert!((wasaba_e2e::unix_seconds() - time).abs() < 60.0, "{time}");
    assert_eq!(values["custom.p.usual"], serde_json::json!({"Time": null, "Value": 2.0}));
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_program_gets_the_environment_that_the_official_agent_gives_it() {
    let (standin, home) = (standin().await, Home::with(""));
    let dump = home.path("env");
    home.configure(&format!(
        "{}http_proxy = \"http://proxy.example.com:8080\"\n[plugin.metrics.p]\ncommand = \"env > {}\"\n\
         env = {{ OWN = \"a b\", \" TRIMMED \" = \"x\", \"\" = \"skipped\" }}\n",
        base(&standin),
        dump.display()
    ));
    let mut command = std::process::Command::new(wasaba_e2e::wasaba());
    command
        .arg("-conf")
        .arg(home.config())
        .env("MACKEREL_PLUGIN_WORKDIR", "/work/dir")
        .env_remove("GODEBUG")
        .env_remove("GOMAXPROCS")
        .env("NOTIFY_SOCKET", "/nowhere");
    let _agent = Agent::spawn(command);
    let end = Instant::now() + SOON;
    let environment = loop {
        let text = std::fs::read_to_string(&dump).unwrap_or_default();
        if text.contains("MACKEREL_AGENT_PLUGIN_META=\n") {
            break text;
        }
        assert!(Instant::now() < end, "{text}");
        std::thread::park_timeout(Duration::from_millis(10));
    };
    for line in [
        "OWN=a b",
        "TRIMMED=x",
        "MACKEREL_PLUGIN_WORKDIR=/work/dir",
        "LANG=C",
        "LC_ALL=C",
        "HTTP_PROXY=http://proxy.example.com:8080",
        "HTTPS_PROXY=http://proxy.example.com:8080",
    ] {
        assert!(environment.lines().any(|known| known == line), "{line} is not in\n{environment}");
    }
    let path = environment.lines().find_map(|line| line.strip_prefix("PATH=")).unwrap();
    assert!(
        path.starts_with("/sbin:/usr/sbin:/bin:/usr/bin:") && path.ends_with(":/opt/mackerel-agent/plugins/bin"),
        "{path}"
    );
    for foreign in ["NOTIFY_SOCKET", "GODEBUG", "GOMAXPROCS"] {
        assert!(!environment.contains(foreign), "{environment}");
    }
}

#[tokio::test]
async fn sighup_switches_to_another_key_and_server_and_the_host_stays_the_same() {
    let (old, home) = (standin().await, Home::with(""));
    let plugin = "[plugin.metrics.p]\ncommand = \"echo p.a 1 0\"\n";
    home.configure(&format!("{}{plugin}", base(&old)));
    let mut agent = home.start(&[]);
    old.wait_until(SOON, "a value", has("custom.p.a")).await.unwrap();
    // Otherwise the new server would receive the first PUT.
    old.wait_until(SOON, "the host description", |memory| memory.hosts()[0].puts == 1).await.unwrap();
    let new = Standin::start_again(([127, 0, 0, 1], 0).into(), "other", old.memory()).await.unwrap();
    let known = new.memory().points().len();
    home.configure(&format!("{}{plugin}", base(&new).replace("\"key\"", "\"other\"")));
    agent.signal(Signal::HUP);
    agent.line_with("reconnecting to Mackerel", SOON);
    new.wait_until(SOON, "the host description", |memory| memory.hosts()[0].puts > 1).await.unwrap();
    new.wait_until(A_MINUTE_AND_MORE, "values", move |memory| memory.points().len() > known).await.unwrap();
    agent.signal(Signal::TERM);
    agent.ended(SOON);
    assert_eq!(new.memory().hosts().len(), 1, "the host is still the same");
    assert_eq!(new.memory().refusals(), []);
}

#[tokio::test]
async fn a_program_runs_as_the_configured_user() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!(
        "{}[plugin.metrics.p]\ncommand = \"echo p.uid $(id -u) 0; echo p.own $OWN 0\"\nuser = \"nobody\"\nenv = {{ OWN = \"7\" }}\n",
        base(&standin)
    ));
    let _agent = home.start(&[]);
    standin.wait_until(SOON, "its value", has("custom.p.own")).await.unwrap();
    let nobody = std::process::Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let nobody = String::from_utf8(nobody.stdout).unwrap().trim().parse::<f64>().unwrap();
    assert_eq!((value(&standin, "custom.p.uid"), value(&standin, "custom.p.own")), (Some(nobody), Some(7.0)));
}

#[tokio::test]
async fn a_program_replaces_a_component_of_the_same_name_and_the_other_way_round() {
    let (standin, home) = (standin().await, Home::with(""));
    let base = format!("{}confinement = false\n", base(&standin));
    let component = format!("{base}[plugin.metrics.p]\nwasm = {:?}\n", component("naughty"));
    let program = |name: &str| format!("{base}[plugin.metrics.p]\ncommand = \"echo {name} 1 0\"\n");
    home.configure(&component);
    let agent = home.start(&[]);
    standin.wait_until(SOON, "the component's value", has("custom.naughty.good")).await.unwrap();
    home.configure(&program("first"));
    agent.signal(Signal::HUP);
    standin.wait_until(SOON, "the program's value", has("custom.first")).await.unwrap();
    // It is still running in the next minute.
    let twice = |memory: &Memory| memory.points().iter().filter(|point| point.name == "custom.first").count() > 1;
    standin.wait_until(A_MINUTE_AND_MORE, "its second value", twice).await.unwrap();
    home.configure(&component);
    agent.signal(Signal::HUP);
    agent.line_with("plugin p runs", SOON);
    let good = |memory: &Memory| memory.points().iter().filter(|point| point.name == "custom.naughty.good").count() > 1;
    standin.wait_until(SOON, "the component's value again", good).await.unwrap();
}
