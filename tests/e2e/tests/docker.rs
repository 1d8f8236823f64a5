//! Metrics of the containers of a real Docker engine: under a known load, compared with Docker's client, and while containers start,
//! stop and fail.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::docker::Engine;

/// The values of `wasaba once` with these lines in [docker], by name without `custom.docker.`.
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

/// A container that runs a line of shell; removed when dropped.
pub(crate) struct Container<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl<'a> Container<'a> {
    pub(crate) fn run(engine: &'a Engine, name: &'a str, flags: &[&str], line: &str) -> Self {
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

/// Succeeds if both are within 5 % of each other.
pub(crate) fn near(what: &str, one: f64, other: f64) -> Result<(), String> {
    let is_near = (one - other).abs() <= other.abs() * 0.05;
    is_near.then_some(()).ok_or_else(|| format!("{what}: {one} is not within 5 % of {other}"))
}

/// A value that the client shows for a container, such as `{{.NetIO}}`.
pub(crate) fn shown(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["stats", "--no-stream", "--format", format, name])
}

/// A number as the client shows it: `12.3MB`, `50.02%`, `64MiB`.
pub(crate) fn number(text: &str) -> f64 {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap();
    let (number, unit) = text.split_at(digits);
    let units = [("%", 1.0), ("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("KiB", 1024.0), ("MiB", 1_048_576.0)];
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).unwrap_or_else(|| panic!("{text}"));
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn cpu_and_memory_match_the_load_and_the_docker_client() {
    let engine = Engine::shared();
    engine.busybox();
    // Half a core, in slices much shorter than the measured second; 64 MiB in memory.
    let half = ["--cpu-period", "10000", "--cpu-quota", "5000"];
    let _cpu = Container::run(&engine, "load-cpu", &half, "while :; do :; done");
    let memory = "head -c 67108864 /dev/zero >/memory/file; sleep 1000";
    let _memory = Container::run(&engine, "load-memory", &["--tmpfs", "/memory", "--memory", "256m"], memory);
    std::thread::park_timeout(Duration::from_secs(3));

    let collect = || once(&engine, "extra = [\"memory\", \"pids\"]\ninclude = { name = \"^load-\" }\n");
    let of = |values: &BTreeMap<String, f64>, name: &str| {
        *values.get(name).unwrap_or_else(|| panic!("{name} is not in {values:#?}"))
    };
    // Other work on this machine may take some of it for a second, but not in most of five.
    let both = |values: &BTreeMap<String, f64>| {
        ["user", "system"].iter().map(|mode| of(values, &format!("cpuacct_percentage.load-cpu.{mode}"))).sum::<f64>()
    };
    let mut readings = (0..5).map(|_| both(&collect())).collect::<Vec<_>>();
    readings.sort_by(f64::total_cmp);
    near("half a core", readings[2], 50.0).unwrap_or_else(|why| panic!("{why}: {readings:?}"));

    let values = collect();
    let of = |name: &str| of(&values, name);
    assert_eq!(of("memory_usage.load-memory.limit"), f64::from(256 << 20));
    // The kernel counts the pages of a tmpfs as cache.
    near("cached", of("memory.load-memory.cache"), f64::from(64 << 20)).unwrap();
    let (usage, percent) =
        (shown(&engine, "load-memory", "{{.MemUsage}}"), shown(&engine, "load-memory", "{{.MemPerc}}"));
    let usage = number(usage.strip_suffix(" / 256MiB").unwrap());
    near("used", of("memory_usage.load-memory.used"), usage).unwrap();
    near("percent", of("memory_percentage.load-memory.used"), number(&percent)).unwrap();
    assert_eq!(of("pids.load-cpu.current"), shown(&engine, "load-cpu", "{{.PIDs}}").parse::<f64>().unwrap());
}

#[test]
fn containers_that_change_during_a_collection_do_not_affect_the_values_of_others() {
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
                    // Some fail, depending on the state of the container, which is intended.
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

#[test]
fn an_engine_behind_tls_is_queried_with_the_configured_certificates() {
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
        !values.contains("custom.docker")
            && errors.contains("ertificate")
            && errors.contains("check `tls` in [docker]"),
        "{errors}"
    );
    let (_, errors) = once("tls = { authority = \"/nowhere/ca.pem\" }");
    assert!(errors.contains("/nowhere/ca.pem"), "{errors}");
}
