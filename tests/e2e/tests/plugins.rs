//! Plugins from a user's view: what they may not do, invalid files, and the commands for plugins.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use mackerel_standin::{Memory, Standin};
use wasaba_e2e::agent::{Home, assert_golden, stderr, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{SOON, component};

/// A home with the plugin `naughty`, which misbehaves as requested, with `rest` in its settings.
fn naughty(what: &str, rest: &str) -> Home {
    let home = Home::with("");
    home.configure(&naughty_table("naughty", what, rest));
    home
}

fn naughty_table(name: &str, what: &str, rest: &str) -> String {
    let wasm = component("naughty");
    // Only the endless loop needs to time out; the others get plenty of time, for a busy machine.
    let (seconds, compute_ms) = if what == "loop" { (2, 5_000) } else { (50, 40_000) };
    format!(
        "[plugin.metrics.{name}]\nwasm = {wasm:?}\nsettings = {{ do = {what:?}{rest} }}\ntimeout_seconds = {seconds}\n\
         limits = {{ compute_ms = {compute_ms} }}\n"
    )
}

#[tokio::test]
async fn an_origin_without_a_grant_is_denied_with_the_line_to_write_and_other_metrics_are_posted() {
    let (standin, nginx) = (Standin::start("key").await.unwrap(), Nginx::start());
    let url = format!("http://127.0.0.1:{}/nginx_status", nginx.port);
    let base = format!("apikey = \"key\"\napibase = {:?}\n", standin.url());
    let table = naughty_table("asker", "fetch", &format!(", url = {url:?}"));
    let home = Home::with(&format!("{base}{table}"));
    let before = nginx.counters();
    let agent = home.start(&[]);
    let line = agent.line_with("denied", SOON);
    let cure = format!("allow = [\"http://127.0.0.1:{}\"]", nginx.port);
    assert!(line.contains(&cure) && line.contains("[plugin.metrics.asker]"), "{line}");
    let there = |name: &'static str| move |memory: &Memory| memory.points().iter().any(|point| point.name == name);
    standin.wait_until(SOON, "other metrics", there("memory.total")).await.unwrap();
    assert_eq!(nginx.counters()[2], before[2] + 1, "the plugin reached nginx");
    drop(agent);

    // With that line, the plugin is allowed to.
    home.configure(&format!("{base}{table}{cure}\n"));
    let _agent = home.start(&[]);
    standin.wait_until(SOON, "the granted value", there("custom.naughty.good")).await.unwrap();
}

#[test]
fn a_file_that_is_not_a_plugin_is_reported_with_the_reason_and_affects_nothing_else() {
    let home = Home::with("");
    let good = std::fs::read(component("naughty")).unwrap();
    let mut corrupted = good.clone();
    let middle = corrupted.len() / 2;
    corrupted.iter_mut().skip(middle).take(64).for_each(|byte| *byte ^= 0xa5);
    let cases: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "is empty"),
        ("core", b"\0asm\x01\0\0\0", "is a core module, not a component"),
        ("text", b"#!/bin/sh\n", "is not a WebAssembly file"),
        ("machine-code", b"\x7fELF\x02\x01\x01\0", "is machine code"),
        ("cut", &good[..good.len() / 2], "cannot be used as a component"),
        ("corrupted", &corrupted, "cannot be used as a component"),
        ("no-interface", b"\0asm\x0d\0\x01\0", "does not export `wasaba:plugin/about@0.2.0`"),
    ];
    for (name, bytes, expected) in cases {
        home.drop_in(&format!("{name}.wasm"), bytes);
        let error = stderr(&home.command(&["plugin", "inspect"], &[name]));
        assert!(error.contains(expected) && error.contains(&format!("plugins/{name}.wasm`")), "{name}: {error}");
    }
    home.drop_in("version.wasm", &component_of_version("9.1.0"));
    let error = stderr(&home.command(&["plugin", "inspect"], &["version"]));
    assert!(error.contains("was built for version 9.1.0") && error.contains("this agent supports 0.2.0"), "{error}");

    // In the plugins folder of an agent, the same files do not affect another plugin.
    home.drop_in("good.wasm", &good);
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stdout(&output).contains("custom.naughty.good"));
    for (name, ..) in cases {
        assert_eq!(log.matches(&format!("plugins/{name}.wasm`")).count(), 1, "{name} once in\n{log}");
    }
}

/// The smallest component that exports an interface `wasaba:plugin/about` of another version, encoded by hand, since no tool of
/// this project creates one.
fn component_of_version(version: &str) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    // Section 5, one instance without exports.
    component.extend([5, 3, 1, 1, 0]);
    // Section 11, one export: name, sort instance, index 0, no type.
    let name = format!("wasaba:plugin/about@{version}");
    let length = u8::try_from(name.len()).unwrap();
    let mut export = vec![1, 1, length];
    export.extend(name.bytes());
    export.extend([5, 0, 0]);
    component.extend([11, u8::try_from(export.len()).unwrap()]);
    component.extend(export);
    component
}

#[test]
fn a_plugin_that_fails_is_named_and_the_values_of_the_host_are_there() {
    for (what, expected) in [
        ("loop", "timed out after 2 s"),
        ("abort", "crashed"),
        ("memory", "more memory than the 64 MiB"),
        ("many-samples", "samples, more than 1000 (limit `samples`)"),
        ("blame-secret", "misconfigured: the token was refused"),
    ] {
        let output = naughty(what, ", token = \"hunter2\"").command(&["once"], &[]);
        let log = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(log.contains("plugin naughty") && log.contains(expected), "{what}: {log}");
        assert!(stdout(&output).contains("loadavg1"), "the host's values are missing");
        assert!(!log.contains("hunter2"), "{what}: the secret is in the log");
    }
}

#[test]
fn a_flood_of_log_lines_is_cut_and_only_invalid_samples_are_dropped() {
    let output = naughty("flood", "").command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    // Of the first of two readings; then it is silent for an hour.
    assert_eq!(log.matches("plugin naughty: line ").count(), 16, "{log}");
    assert!(
        log.contains("984 more log lines of this call (limit `log_lines`), and drops those of the next hour"),
        "{log}"
    );

    let output = naughty("bad-samples", "").command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stdout(&output).contains("custom.naughty.good"));
    for expected in [
        "dropped 1 sample that is not a finite number: `naughty.nan`",
        "dropped 1 sample that has an invalid name: `naughty.\\u{1b}[2J`",
        "dropped 1 sample that fits no metric of the plugin's graphs: `custom.memory`",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in {log}");
    }
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn an_unknown_setting_is_reported_with_its_table_and_the_valid_ones() {
    let home = naughty("nothing", ", tokn = \"hunter2\"");
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains(
            "agent.conf:3: [plugin.metrics.naughty]: unknown setting `tokn`, did you mean `token`? valid: `do`, `url`, `token`"
        ),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn a_component_dropped_into_the_folder_runs_with_the_settings_beside_it() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let official = wasaba_e2e::official("nginx");
    home.drop_in("nginx.wasm", &std::fs::read(official).unwrap());
    let settings = format!("settings = {{ host = \"127.0.0.1\", port = {} }}\n", nginx.port);
    home.drop_in("nginx.toml", settings.as_bytes());
    let json = serde_json::from_str::<serde_json::Value>(&stdout(&home.command(&["once"], &[]))).unwrap();
    let values = json.pointer("/metrics/Values/0/Values").unwrap();
    for name in
        ["connections.connections", "requests.accepts", "requests.handled", "requests.requests", "queue.waiting"]
    {
        assert!(values[format!("custom.nginx.{name}")]["Value"].is_number(), "{name} in {values}");
    }
}

#[test]
fn plugin_run_prints_lines_like_the_official_plugin_and_rates_from_its_second_run_on() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let flags = ["nginx", "-host=127.0.0.1", "-port", &nginx.port.to_string()];
    let names = |text: &str| {
        let mut names = Vec::new();
        for line in text.lines() {
            let [name, value, epoch] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            let (_, decimals) = value.split_once('.').unwrap();
            assert!(decimals.len() == 6 && epoch.parse::<i64>().is_ok(), "{line:?}");
            names.push(name.to_owned());
        }
        names
    };
    let first = names(&stdout(&home.command(&["plugin", "run"], &flags)));
    assert_eq!(
        first,
        ["nginx.connections.connections", "nginx.queue.reading", "nginx.queue.writing", "nginx.queue.waiting"]
    );
    std::thread::park_timeout(Duration::from_millis(1_100));
    let second = names(&stdout(&home.command(&["plugin", "run"], &flags)));
    assert_eq!(second.len(), 7, "{second:?}");
}

#[test]
fn a_plugin_is_run_by_its_path_with_the_settings_beside_it_which_flags_override() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let (file, settings) = (home.path("web.wasm"), home.path("web.toml"));
    std::fs::copy(wasaba_e2e::official("nginx"), &file).unwrap();
    let run = |flags: &[&str]| home.command(&["plugin", "run"], &[&[file.to_str().unwrap()], flags].concat());
    std::fs::write(&settings, format!("settings = {{ host = \"127.0.0.1\", port = {} }}\n", nginx.port)).unwrap();
    let output = run(&[]);
    assert!(stdout(&output).contains("nginx.connections.connections\t"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("first readings of 3 counters: their rates are printed by the next run"), "{said}");
    assert!(stderr(&run(&["-port=1"])).contains("127.0.0.1:1/"));
    std::fs::write(&settings, "settings = { prot = 1 }\n").unwrap();
    let error = stderr(&run(&[]));
    assert!(error.contains("web.toml") && error.contains("unknown setting `prot`, did you mean `port`?"), "{error}");
}

#[test]
fn inspect_shows_what_a_plugin_is_and_what_it_would_be_granted() {
    let home = Home::with("");
    let text = stdout(&home.command(&["plugin", "inspect"], &["nginx"]));
    let file = wasaba_e2e::official("nginx");
    // The digest depends on the compiler.
    let digest = text.lines().find_map(|line| line.strip_prefix("digest: sha256:")).unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digest}");
    let text = text.replace(&file.display().to_string(), "<FILE>").replace(digest, "<DIGEST>");
    assert_golden("inspect-nginx.txt", &text);
}

#[test]
fn the_problem_of_a_typed_setting_names_its_flag_and_no_table() {
    let home = Home::with("");
    for (words, arguments, expected) in [
        (["plugin", "run"], &["nginx", "-port", "abc"] as &[&str], "-port must be a port from 1 to 65535\n"),
        (["plugin", "run"], &["nginx", "-prot", "80"], "unknown flag -prot, did you mean -port?\n"),
        (["plugin", "run"], &["postgres"], "missing flag -user: "),
        (
            ["plugin", "time"],
            &["nginx", "-calls", "3"],
            "-calls is a flag of `plugin time`: write it before the plugin's name\n",
        ),
    ] {
        let error = stderr(&home.command(&words, arguments));
        assert!(error.starts_with(expected), "{arguments:?}: {error}");
    }
    home.configure("[plugin.metrics.nginx]\nwasm = \"nginx\"\nsettings = { port = 0 }\n");
    let error = stderr(&home.command(&["plugin", "run"], &["nginx", "-host", "web"]));
    let expected = format!("{}:3: [plugin.metrics.nginx]: the setting `port` must be", home.config().display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_missing_plugin_is_reported_with_those_that_exist() {
    let error = stderr(&Home::with("").command(&["plugin", "inspect"], &["ngnix"]));
    assert!(error.contains("unknown plugin `ngnix`, searched ") && error.contains("; available: nginx"), "{error}");
}

#[test]
fn a_component_compiled_ahead_of_time_needs_no_compiler() {
    let home = Home::without_compiled();
    home.configure("");
    let file = component("naughty").display().to_string();
    let said = stdout(&home.command(&["plugin", "compile"], &[&file, "nginx"]));
    assert!(said.contains("naughty ") && said.contains("nginx ") && said.contains("ready for pulley"), "{said}");
    let entries = || std::fs::read_dir(home.root().join("compiled")).unwrap().count();
    assert_eq!(entries(), 2);
    // With a limit within which nothing can be compiled.
    home.configure(&format!("[plugin.metrics.good]\nwasm = {file:?}\nlimits = {{ compile_mib = 1 }}\n"));
    assert!(stdout(&home.command(&["plugin", "run"], &["good"])).contains("naughty.good"));
    assert_eq!(entries(), 2);
    let missing = stderr(&home.command(&["plugin", "compile"], &["ngnix"]));
    assert!(missing.contains("unknown plugin `ngnix`"), "{missing}");
}

/// A component of metrics with as many graphs, of which the first has as many metrics; all have the same name.
fn defining(graphs: u32, metrics: u32) -> Vec<u8> {
    // Texts and lists are a pointer and a length. A graph has name, label, unit, metrics and attributes; a metric has name, label,
    // stacked, reading, scale and attributes.
    const NAME: u32 = 200;
    const UNIT: u32 = 208;
    const READING: u32 = 216;
    const METRICS: u32 = 4_096;
    const GRAPHS: u32 = 204_800;
    let graph = |number| [NAME, 1, NAME, 1, UNIT, 5, METRICS, if number == 0 { metrics } else { 0 }, 0, 0];
    let metric = [NAME, 1, NAME, 1, 0, READING, 5, 0, 0, 0, 0, 0, 0, 0];
    let escaped = |words: &[u32]| {
        words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect::<String>()
    };
    let list = escaped(&[GRAPHS, graphs]);
    let graphs = (0..graphs).flat_map(graph).collect::<Vec<_>>();
    let data = format!(
        "(data (i32.const {NAME}) \"a\") (data (i32.const {UNIT}) \"float\") (data (i32.const {READING}) \"gauge\")
        (data (i32.const {METRICS}) \"{}\") (data (i32.const {GRAPHS}) \"{}\")",
        escaped(&metric).repeat(metrics as usize),
        escaped(&graphs)
    );
    let text = include_str!("../../checks/failing.wat");
    let (begin, _) = text.split_once("  (type $status").unwrap();
    let begin = begin.replace(
        r#"(func (export "check") (param i32 i32) (result i32) unreachable)"#,
        &format!(
            r#"(data (i32.const 128) "{list}") {data}
            (func (export "graphs") (param i32 i32) (result i32) (i32.const 128))
            (func (export "collect") (param i32 i32) (result i32) unreachable)"#
        ),
    );
    let begin = begin.replace(r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 4)"#);
    let begin = begin.replace(
        r#"(export "error" (type (eq $fields)))"#,
        r#"(export "error" (type $error (eq $fields)))
        (type $labels (list (tuple string string)))
        (type $problem (record (field "target" string) (field "error" $error) (field "attributes" $labels)))
        (export "problem" (type (eq $problem)))"#,
    );
    let rest = r#"
      (alias export $types "problem" (type $problem))
      (type $labels (list (tuple string string)))
      (type $metric (record (field "name" string) (field "label" string) (field "stacked" bool) (field "reading" string)
        (field "scale" (option f64)) (field "attributes" $labels)))
      (type $graph (record (field "name" string) (field "label" string) (field "unit" string)
        (field "metrics" (list $metric)) (field "attributes" $labels)))
      (type $value (variant (case "float" f64) (case "unsigned" u64)))
      (type $sample (record (field "name" string) (field "value" $value) (field "unix-seconds" (option u64))
        (field "host" (option string)) (field "attributes" $labels)))
      (type $readings (record (field "samples" (list $sample)) (field "problems" (list $problem))
        (field "attributes" $labels)))
      (func $graphs (param "settings" $settings) (result (list $graph))
        (canon lift (core func $code "graphs") (memory (core memory $memory)) (realloc (core func $allocate))))
      (func $collect (param "settings" $settings) (result (result $readings (error $error)))
        (canon lift (core func $code "collect") (memory (core memory $memory)) (realloc (core func $allocate))))
      (instance $metrics
        (export "metric" (type $metric)) (export "graph" (type $graph)) (export "value" (type $value))
        (export "sample" (type $sample)) (export "readings" (type $readings))
        (export "graphs" (func $graphs)) (export "collect" (func $collect)))
      (export "wasaba:plugin/metrics@0.2.0" (instance $metrics)))"#;
    wat::parse_str(begin + rest).unwrap()
}

#[test]
fn what_the_agent_would_refuse_for_its_many_graphs_or_metrics_inspect_refuses_too() {
    for (graphs, metrics, expected) in [
        (201, 0, "201 graphs, more than 200 (limit `graphs`)"),
        (1, 2_001, "2001 metrics, more than 2000 (limit `metrics`)"),
    ] {
        let home = Home::with("");
        let file = home.path("many.wasm");
        std::fs::write(&file, defining(graphs, metrics)).unwrap();
        let output = home.command(&["plugin", "inspect"], &[file.to_str().unwrap()]);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}
