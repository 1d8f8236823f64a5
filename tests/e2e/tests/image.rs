//! The container image, built from the shipped program and run in a real Docker engine.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::SOON;
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::docker::Engine;

const KEY: &str = "the-key-of-the-tests";
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(240);

/// The shared engine with the image, and the gateway of a new network, through which containers reach [`Engine::listener`].
fn engine(network: &str) -> (Arc<Engine>, String) {
    let engine = Engine::shared();
    engine.wasaba();
    engine.busybox();
    engine.docker(&["network", "create", network]);
    let gateway = engine.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network]);
    (engine, gateway)
}

/// The log of the container.
fn logs(engine: &Engine, container: &str) -> String {
    let output = engine.command(&["logs", container]);
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn wait_for_log(engine: &Engine, container: &str, text: &str, deadline: Duration) {
    let begin = Instant::now();
    while !logs(engine, container).contains(text) {
        assert!(begin.elapsed() < deadline, "no {text:?} within {deadline:?} in:\n{}", logs(engine, container));
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// /proc/PID/status of the first process of a container.
fn status(engine: &Engine, container: &str) -> String {
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

/// How many children of the first process of a container are zombies.
fn zombies(engine: &Engine, container: &str) -> usize {
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let state = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    children.split_whitespace().filter(|pid| state(pid).contains("State:\tZ")).count()
}

#[tokio::test]
async fn the_image_is_small_runs_unprivileged_and_posts_its_last_values_before_the_host_is_retired() {
    let (engine, gateway) = engine("image");
    // Without the program, whose size in the release profile is measured by `make bench`.
    let size = engine.docker(&["image", "inspect", "-f", "{{.Size}}", "wasaba"]).parse::<u64>().unwrap();
    let program = std::fs::metadata(wasaba_e2e::wasaba()).unwrap().len();
    assert!(size - program <= 3_500_000, "{size} bytes, of which {program} are the program");
    let standin = Standin::start_with(engine.listener(0), KEY, Memory::default()).await.unwrap();
    let configs = engine.path("conf.d");
    std::fs::create_dir_all(&configs).unwrap();
    // A program that leaves a child behind, which exits later.
    let plugin = "[plugin.metrics.fork]\ncommand = [\"/busybox\", \"sh\", \"-c\", \
                  \"/busybox sleep 0.3 & echo fork.pids 1 1; echo fork.key ${#apikey} 1\"]\n";
    std::fs::write(configs.join("fork.conf"), plugin).unwrap();
    let opts = format!("opts=-apibase=http://{gateway}:{} -role=Svc:web,Svc:db", standin.address().port());
    let socket = format!("{}:/var/run/docker.sock", engine.socket().display());
    let group = engine.socket_group().to_string();
    let configs = format!("{}:/etc/mackerel-agent/conf.d:ro", configs.display());
    let key = format!("apikey={KEY}");
    let flags = [
        &["run", "--detach", "--name", "image-agent", "--network", "image", "--read-only", "--cap-drop", "ALL"][..],
        &["--security-opt", "no-new-privileges", "--group-add", &group, "--volume", &socket, "--volume", &configs],
        &["--volume", "/bin/busybox:/busybox:ro", "--env", &key, "--env", &opts, "--env", "display_name=web-1"],
        &["--env", "include=/etc/mackerel-agent/conf.d/*.conf", "--env", "enable_docker_plugin=1"],
        &["--env", "auto_retirement=1", "wasaba"],
    ];
    engine.docker(&flags.concat());
    // A busy engine may be too slow for the first collection; the next minute has its own.
    for name in ["memory.total", "custom.docker.memory.image-agent.rss", "custom.fork.pids"] {
        let there = move |memory: &Memory| memory.points().iter().any(|point| point.name == name);
        standin.wait_until(A_MINUTE_AND_MORE, name, there).await.unwrap();
    }
    let memory = standin.memory();
    let value = |name: &str| memory.points().iter().find(|point| point.name == name).map(|point| point.value);
    assert_eq!(value("custom.fork.key"), Some(0.0), "a program got the key");
    let status = status(&engine, "image-agent");
    assert!(status.contains("Uid:\t10001\t10001") && status.contains("CapEff:\t0000000000000000"), "{status}");
    let health = engine.docker(&["exec", "image-agent", "wasaba", "health"]);
    assert!(health.contains("the agent is working"), "{health}");
    let host = memory.hosts().first().unwrap().body.clone();
    assert_eq!(host["roleFullnames"], serde_json::json!(["Svc:web", "Svc:db"]));
    assert_eq!(host["displayName"], "web-1");

    engine.docker(&["kill", "--signal", "HUP", "image-agent"]);
    wait_for_log(&engine, "image-agent", "reloaded the configuration", SOON);
    // By then, the child that the program left behind has exited.
    std::thread::park_timeout(Duration::from_millis(500));
    let begin = Instant::now();
    while zombies(&engine, "image-agent") > 0 {
        assert!(begin.elapsed() < SOON, "an orphaned process was not reaped");
        std::thread::park_timeout(Duration::from_millis(50));
    }

    // After ten seconds Docker would kill the container, and the exit code would be another one.
    engine.docker(&["stop", "image-agent"]);
    let logs = logs(&engine, "image-agent");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "image-agent"]), "0", "{logs}");
    let (stopped, retired) = (logs.find(" 0 queued"), logs.find("retired host"));
    assert!(stopped.is_some() && retired > stopped, "the host was not retired after the last values: {logs}");
    assert!(standin.memory().hosts().first().unwrap().retired, "{logs}");
    assert!(!logs.contains(KEY), "{logs}");
    assert_eq!(standin.memory().refusals(), []);
}

/// The minutes that the agent has logged as kept on disk, with their numbers of values.
fn kept(logs: &str) -> BTreeMap<i64, usize> {
    let kept = logs.lines().filter_map(|line| line.split_once("DEBUG kept ")?.1.split_once(" values of "));
    let mut minutes = BTreeMap::new();
    for (values, time) in kept {
        *minutes.entry(time.parse().unwrap()).or_default() += values.parse::<usize>().unwrap();
    }
    minutes
}

#[tokio::test]
async fn a_killed_container_and_its_successor_on_the_same_volume_are_one_host_and_lose_no_minute() {
    let (engine, gateway) = engine("killed");
    let standin = Standin::start_with(engine.listener(0), KEY, Memory::default()).await.unwrap();
    let port = standin.address().port();
    let opts = format!("opts=-v -apibase=http://{gateway}:{port}");
    let secret = engine.path("key");
    std::fs::write(&secret, KEY).unwrap();
    let secret = format!("{}:/run/secrets/key:ro", secret.display());
    let run = |name: &str| {
        let flags = [
            &[
                "run",
                "--detach",
                "--name",
                name,
                "--network",
                "killed",
                "--volume",
                "killed-state:/var/lib/mackerel-agent",
            ][..],
            &["--volume", &secret, "--env", "apikey_file=/run/secrets/key", "--env", &opts, "wasaba"],
        ];
        engine.docker(&flags.concat());
    };
    run("killed-1");
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    let health = engine.docker(&["exec", "killed-1", "/usr/bin/wasaba", "health"]);
    for closed in
        ["closed are files and programs (Landlock ", &format!(", {port}, new privileges, new code, other system calls")]
    {
        assert!(health.contains(closed), "{health}");
    }
    let memory = standin.stop();
    // A full minute is collected in an outage.
    let begin = Instant::now();
    while kept(&logs(&engine, "killed-1")).len() < 2 {
        assert!(begin.elapsed() < A_MINUTE_AND_MORE, "{}", logs(&engine, "killed-1"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    engine.docker(&["kill", "killed-1"]);
    let mut expected = kept(&logs(&engine, "killed-1"));
    // Values of the same second overwrite each other in Mackerel, which would make counting hard.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    run("killed-2");
    wait_for_log(&engine, "killed-2", "DEBUG kept ", SOON);
    let standin = Standin::start_with(engine.listener(port), KEY, memory).await.unwrap();
    let times = |memory: &Memory| memory.points().iter().map(|point| point.time).collect::<BTreeSet<_>>();
    let all = expected.keys().copied().collect::<BTreeSet<_>>();
    let there = move |memory: &Memory| all.is_subset(&times(memory));
    standin.wait_until(A_MINUTE_AND_MORE, "every minute that was collected", there).await.unwrap();
    engine.docker(&["stop", "killed-2"]);
    let memory = standin.memory();
    expected.retain(|time, _| *time <= kept(&logs(&engine, "killed-1")).keys().last().copied().unwrap());
    for (time, count) in expected {
        assert_eq!(memory.points().iter().filter(|point| point.time == time).count(), count, "of {time}");
    }
    assert_eq!(memory.hosts().len(), 1, "the host is still the same");
    assert_eq!(memory.refusals(), []);
}

/// The names of the host's metrics of file systems and interfaces, and the name of the host.
fn of_the_machine(printed: &str) -> (BTreeSet<String>, String) {
    let printed = serde_json::from_str::<serde_json::Value>(printed).unwrap();
    let values = printed.pointer("/metrics/Values/0/Values").unwrap().as_object().unwrap();
    let families = ["filesystem.", "interface."];
    let names = values.keys().filter(|name| families.iter().any(|family| name.starts_with(family)));
    (names.cloned().collect(), printed.pointer("/host/name").unwrap().as_str().unwrap().to_owned())
}

#[test]
fn in_a_container_the_host_is_read_from_host_root_and_a_warning_is_logged_without_it() {
    let (engine, _) = engine("whose");
    let host = || of_the_machine(&stdout(&Home::with("").command(&["once"], &[])));
    let run = |flags: &[&str], words: &[&str]| {
        let output = engine.command(
            &[&["run", "--rm", "--cap-drop", "ALL", "--hostname", "inside"][..], flags, &["wasaba"], words].concat(),
        );
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // Without `rslave`, which passes later mounts on, but fails if / is not a shared mount.
    let mounted = ["--volume", "/:/host:ro", "--env", "host_root=/host"];
    // Other processes may mount file systems or create networks between the readings; a defect would differ every time.
    let begin = Instant::now();
    let (printed, name) = loop {
        let (printed, errors) = run(&mounted, &["once"]);
        let ((names, name), host) = (of_the_machine(&printed), host());
        if names == host.0 {
            let expected = std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned());
            assert_eq!(name, expected.unwrap_or(host.1));
            break (printed, name);
        }
        assert!(begin.elapsed() < A_MINUTE_AND_MORE, "{names:#?} inside, {:#?} outside: {errors}", host.0);
    };
    assert_ne!(name, "inside");
    let addresses = serde_json::from_str::<serde_json::Value>(&printed).unwrap();
    assert_eq!(
        addresses.pointer("/host/interfaces"),
        serde_json::from_str::<serde_json::Value>(&stdout(&Home::with("").command(&["once"], &[])))
            .unwrap()
            .pointer("/host/interfaces")
    );

    let (printed, _) = run(&[], &["once"]);
    assert_eq!(of_the_machine(&printed).1, "inside");
    let log = |flags: &[&str]| {
        engine.docker(&[&["run", "--detach", "--name", "host-log"][..], flags, &["wasaba"]].concat());
        wait_for_log(&engine, "host-log", "no API key", SOON);
        let logs = logs(&engine, "host-log");
        engine.docker(&["rm", "--force", "--volumes", "host-log"]);
        logs
    };
    assert!(
        log(&[]).contains("this is a container: reporting its own name, interfaces and file systems, not the host's")
    );
    let wrong = log(&["--env", "host_root=/nowhere"]);
    assert!(
        wrong.contains("host_root: `/nowhere/proc/stat` is missing; mount the host's / with its submounts"),
        "{wrong}"
    );
    assert!(!log(&mounted).contains("WARNING"));
}

#[test]
fn configtest_in_a_container_checks_its_variables_and_the_container_command_needs_the_image() {
    let (engine, _) = engine("configtest");
    let run = |flags: &[&str]| {
        let output = engine.command(&[&["run", "--rm"][..], flags, &["wasaba", "configtest"]].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--env", "apikey=k"]);
    assert!(code == Some(0) && said.contains("no errors, no warnings"), "{said}");
    let (code, said) = run(&["--env", "apikey=k", "--env", "opts=-role=bad -bogus"]);
    assert!(code == Some(1) && said.contains("the variable `opts`") && said.contains("unknown flag -bogus"), "{said}");
    let (code, said) = run(&["--env", "apikey_file=/run/secrets/absent"]);
    assert!(code == Some(1) && said.contains("/run/secrets/absent") && said.contains("apikey_file"), "{said}");
    let (code, said) = run(&["--env", "apikey=k", "--user", "root"]);
    assert!(code == Some(0), "{said}");
    let outside = std::process::Command::new(wasaba_e2e::wasaba()).arg("container").output().unwrap();
    assert!(!outside.status.success() && String::from_utf8(outside.stderr).unwrap().contains("WASABA_CONTAINER"));
}

#[tokio::test]
async fn an_agent_that_hangs_is_killed_in_time_and_its_host_is_still_retired() {
    let (engine, gateway) = engine("hung");
    let standin = Standin::start_with(engine.listener(0), KEY, Memory::default()).await.unwrap();
    let opts = format!("opts=-apibase=http://{gateway}:{}", standin.address().port());
    let key = format!("apikey={KEY}");
    let flags = ["run", "--detach", "--name", "hung-agent", "--network", "hung", "--env", &key, "--env", &opts];
    engine.docker(&[&flags[..], &["--env", "auto_retirement=1", "wasaba"]].concat());
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "hung-agent"]);
    let agent = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let agent = agent.trim().parse::<i32>().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(agent, Signal::STOP).unwrap();
    let health = engine.command(&["exec", "hung-agent", "wasaba", "health"]);
    let said = String::from_utf8(health.stderr).unwrap();
    assert!(!health.status.success() && said.contains("does not answer"), "{said}");
    engine.docker(&["stop", "hung-agent"]);
    let logs = logs(&engine, "hung-agent");
    assert!(logs.contains("signal 9") && logs.contains("did not stop within 3 s and was killed"), "{logs}");
    assert!(standin.memory().hosts().first().unwrap().retired, "{logs}");
    assert_ne!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "hung-agent"]), "137", "Docker killed it");
}

/// The first process of a container with its agent, run outside of a container.
fn first_process(home: &Home) -> Agent {
    let mut command = std::process::Command::new(wasaba_e2e::wasaba());
    command.args(["container", "-conf"]).arg(home.config());
    command.envs([("WASABA_CONTAINER", "1"), ("auto_retirement", "1")]);
    Agent::spawn(command)
}

#[tokio::test]
async fn a_failed_retirement_is_logged_with_its_reason() {
    let standin = Standin::start(KEY).await.unwrap();
    let config = format!("apikey = {KEY:?}\napibase = {:?}\n", standin.url());
    let home = Home::with(&config);
    let mut first = first_process(&home);
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    home.configure("apikey = \n");
    first.signal(Signal::TERM);
    assert!(first.ended(SOON).success());
    let said = first.lines().join("\n");
    assert!(said.contains("auto_retirement: ") && said.contains("agent.conf:3"), "{said}");
    assert!(!standin.memory().hosts()[0].retired);

    home.configure(&config);
    let before = standin.memory().points().len();
    let mut first = first_process(&home);
    standin.wait_until(SOON, "the next post", |memory| memory.points().len() > before).await.unwrap();
    // From now on nothing answers, so that the request times out.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.configure(&format!("apikey = {KEY:?}\napibase = \"http://{}\"\n", silent.local_addr().unwrap()));
    first.signal(Signal::TERM);
    assert!(first.ended(SOON).success());
    let said = first.lines().join("\n");
    assert!(said.contains("auto_retirement: no answer within 6 s; retire the host with `wasaba retire`"), "{said}");
}
