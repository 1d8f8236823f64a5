//! All misbehaving plugins and hostile servers at once in a running agent for two minutes, and the resources left afterwards.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home};
use wasaba_e2e::{component, hostile, unix_seconds};

use crate::zoo::{MISBEHAVIOURS, bad_files, naughty};

const LONG: Duration = Duration::from_secs(240);

#[tokio::test]
async fn while_all_plugins_misbehave_no_minute_has_gaps_and_afterwards_nothing_has_leaked() {
    let standin = Standin::start("key").await.unwrap();
    let servers = [hostile::silent(), hostile::slow(), hostile::endless()];
    // A frozen machine, so that mounts of other processes do not change the set of metrics.
    let frozen = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/machine");
    let base = format!(
        "apikey = \"key\"\napibase = {:?}\n[machine]\nproc = \"{frozen}/proc\"\nsys = \"{frozen}/sys\"\netc = \"{frozen}/etc\"\n{}",
        standin.url(),
        naughty("nothing", "", "")
    );
    let mut zoo = base.clone();
    for (what, _) in MISBEHAVIOURS {
        zoo.push_str(&naughty(what, "", "limits = { compute_ms = 1500 }"));
    }
    for (number, server) in servers.iter().enumerate() {
        let (wasm, url) = (component("naughty"), server.url());
        writeln!(
            zoo,
            "[plugin.metrics.server{number}]\nwasm = {wasm:?}\ntimeout_seconds = 2\nallow = [{url:?}]\n\
             settings = {{ do = \"fetch-body\", url = {url:?} }}"
        )
        .unwrap();
    }
    let address = format!("127.0.0.1:{}", servers[0].port);
    let hoard = naughty("hoard-connections", &format!(", url = {address:?}"), &format!("allow = [{address:?}]"));
    for number in 0..10 {
        zoo.push_str(&hoard.replacen("hoard-connections]", &format!("hoard{number}]"), 1));
    }
    let redirect = hostile::redirecting("http://169.254.169.254/latest/meta-data/");
    zoo.push_str(&naughty(
        "follow",
        &format!(", url = {:?}", redirect.url()),
        &format!("allow = [{:?}]", redirect.url()),
    ));
    for (what, target) in [
        ("fetch", "http://2852039166/"),
        ("connect", "169.254.169.254:80"),
        ("connect-unix", "/var/run/docker.sock"),
        ("read-file", "/etc/shadow"),
        ("wasi", address.as_str()),
        ("exit", ""),
        ("blame-secret", ""),
    ] {
        zoo.push_str(&naughty(what, &format!(", url = {target:?}"), ""));
    }
    for limit in ["component_mib", "compile_seconds", "compile_mib"] {
        let wasm = component("python");
        writeln!(zoo, "[plugin.metrics.{limit}]\nwasm = {wasm:?}\nlimits = {{ {limit} = 1 }}").unwrap();
    }
    let home = Home::with(&base);
    for (name, bytes, _) in bad_files() {
        home.drop_in(&format!("{name}.wasm"), &bytes);
    }
    let hangs = std::fs::read(component("naughty")).unwrap();
    home.drop_in("hangs.toml", b"settings = { do = \"sleep\" }\ntimeout_seconds = 30\n");
    home.drop_in("hangs.wasm", &hangs);
    let agent = home.start(&[]);
    let has = |name: &'static str, time: i64| {
        move |memory: &Memory| memory.points().iter().any(|point| point.name == name && point.time >= time)
    };
    standin.wait_until(LONG, "the first values", has("custom.naughty.good", 0)).await.unwrap();
    let (threads, descriptors, before) = (threads(&agent), descriptors(&agent), anonymous_mebibytes(&agent));

    home.configure(&zoo);
    agent.signal(Signal::HUP);
    agent.line_with("plugin loop: ", LONG);
    // Replaced during a call, by the same component with an additional custom section.
    home.drop_in("hangs.wasm", &[hangs.as_slice(), &[0, 2, 1, b'x']].concat());
    let begin = unix_seconds() as i64;
    let full = (begin.div_euclid(60) + 1) * 60;
    let last = full + 60;
    standin.wait_until(LONG, "two full minutes", has("memory.total", last)).await.unwrap();
    standin.wait_until(LONG, "the good plugin among them", has("custom.naughty.good", last)).await.unwrap();
    let names = |time: i64| {
        let memory = standin.memory();
        let points = memory.points().iter().filter(|point| point.time == time && !point.name.starts_with("custom."));
        points.map(|point| point.name.clone()).collect::<BTreeSet<_>>()
    };
    assert!(names(full).contains("memory.total") && names(full).contains("loadavg1"));
    assert_eq!(names(full), names(last), "one of the two minutes has gaps");
    let most = anonymous_mebibytes(&agent);
    assert!(most < 400.0, "{most} MiB");

    home.configure(&base);
    agent.signal(Signal::HUP);
    std::fs::remove_dir_all(home.root().join("plugins")).unwrap();
    agent.line_with("plugin sleep was removed", LONG);
    standin.wait_until(LONG, "a quiet minute", has("custom.naughty.good", last + 60)).await.unwrap();
    // The pool that loaded eight plugins in parallel may keep its threads; no thread belongs to a plugin.
    assert!(self::threads(&agent) <= threads + 8, "{} threads, {threads} before", self::threads(&agent));
    let left = self::descriptors(&agent);
    assert!(left <= descriptors + 4, "{left} file descriptors, {descriptors} before");
    let left = anonymous_mebibytes(&agent);
    assert!(left < before + 24.0, "{left} MiB, {before} MiB before");
}

fn threads(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count()
}

fn descriptors(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count()
}

fn anonymous_mebibytes(agent: &Agent) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", agent.pid())).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}
