//! The code in README.md is that of a plugin, this one; and a new plugin is formatted.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;
use wasaba_plugin::prelude::*;
use wasaba_plugin::testing::{Answer, Host};

#[derive(Deserialize, Graph)]
#[graph("queue.jobs", "Queue: jobs", integer)]
struct Jobs {
    #[gauge]
    waiting: u64,
    #[per_minute("Finished jobs")]
    done: u64,
}

#[derive(Deserialize, Graph)]
#[graph("queue.workers.#", "Queue: workers", integer)]
struct Worker {
    #[segment]
    name: String,
    #[gauge]
    busy: f64,
}

#[derive(Deserialize)]
struct State {
    #[serde(flatten)]
    jobs: Jobs,
    #[serde(flatten)]
    age: Age,
}

#[derive(Deserialize, Graph)]
#[graph("queue.age", "Queue: age", seconds)]
struct Age {
    #[gauge("Oldest job", name = "oldest", scale = 0.001)]
    oldest_ms: u64,
}

#[derive(Settings)]
struct Config {
    /// page with the queue's state as JSON
    #[url(default = "http://localhost:7070/stats")]
    url: String,
    /// sent as the header x-token
    token: Option<Secret>,
}

#[derive(Deserialize)]
struct Page {
    state: State,
    workers: Option<Vec<Worker>>,
}

fn describe() -> Plugin {
    let plugin = Plugin::new("queue", "1.0.0", "jobs").reaches([Reach::Http]).settings::<Config>();
    plugin.graph(Jobs::graph()).graph(Worker::graph()).graph(Age::graph())
}

fn collect(config: &Config) -> Result<Readings, Error> {
    let Page { state, workers } = http::get(&config.url).header_if("x-token", &config.token).json()?;
    Ok(state.jobs.samples() + state.age.samples() + workers.samples())
}

const URL: &str = "http://localhost:7070/stats";
const STATE: &str = r#"{ "waiting": 3, "done": 17, "oldest_ms": 1200 }"#;

#[test]
fn an_object_with_two_units_is_two_graphs_and_a_list_that_may_be_missing_has_samples() {
    let collected = |workers: &str| {
        let answer = Answer::new(format!("{{\"state\":{STATE}{workers}}}")).expects("x-token", "s3cret");
        Host::new(describe).set("token", "s3cret").answers(URL, answer).collect(collect).unwrap().samples
    };
    let state = [
        Sample::new("queue.jobs.waiting", 3),
        Sample::new("queue.jobs.done", 17),
        // Before the agent's `scale`.
        Sample::new("queue.age.oldest", 1200),
    ];
    assert_eq!(collected(""), state);
    let worker = Sample::new("queue.workers.a.busy", 1.0);
    assert_eq!(
        collected(r#","workers":[{"name":"a","busy":1}]"#),
        state.into_iter().chain([worker]).collect::<Vec<_>>()
    );
}

#[test]
fn of_joined_structs_an_error_names_the_object() {
    let page = r#"{"state":{"waiting":"3","done":17,"oldest_ms":1200}}"#;
    let why = Host::new(describe).answers(URL, page).collect(collect).unwrap_err();
    let expected = format!("{URL} is not as expected: state: invalid type: string \"3\", expected u64");
    assert_eq!(why.message(), expected);
}

#[test]
fn the_code_of_the_guide_is_this_plugin_and_the_guide_is_one_page() {
    // Without what a formatter changes, and comments.
    fn bare(code: &str) -> String {
        let lines = code.lines().map(|line| match line.split_once(" // ") {
            Some((code, _)) => code,
            None => line,
        });
        lines.flat_map(str::split_whitespace).collect::<String>().replace(",}", "}")
    }
    let guide = include_str!("../README.md");
    let (here, mut count) = (bare(include_str!("guide.rs")), 0);
    for block in guide.split("```rust\n").skip(1) {
        let code = block.split("```").next().unwrap();
        assert!(here.contains(&bare(code)), "tests/guide.rs does not have\n{code}");
        count += 1;
    }
    assert_eq!(count, 3, "blocks of code in the guide");
    assert!(guide.contains(STATE));
    assert!(guide.lines().count() <= 95, "README.md has more than a page: {} lines", guide.lines().count());
    for unit in [
        "float",
        "integer",
        "percentage",
        "seconds",
        "milliseconds",
        "bytes",
        "bytes_per_second",
        "bits_per_second",
        "iops",
    ] {
        assert!(guide.contains(&format!("`{unit}`")), "the unit `{unit}` is not in the guide");
    }
}

#[test]
fn a_new_plugin_is_formatted_whatever_its_name() {
    let template = include_str!("../template/src/lib.rs.in");
    // As far as the attribute of a graph is on one line.
    for name in ["q", "queue", "my-long-queue-name"] {
        // As for an author without a `rustfmt.toml`.
        let mut rustfmt = Command::new("rustfmt")
            .args(["--edition=2024", "--check", "--config=max_width=100,use_small_heuristics=Default"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        rustfmt.stdin.take().unwrap().write_all(template.replace("{name}", name).as_bytes()).unwrap();
        let output = rustfmt.wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    // Its `cargo fmt` is for its own code alone.
    assert!(include_str!("../template/Cargo.toml.in").contains("[workspace]\nexclude = [\"wasaba\"]\n"));
}

#[test]
fn the_cases_of_a_new_plugin_begin_with_the_keys_of_a_case() {
    let cases = include_str!("../template/tests.toml.in");
    let comment = cases.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>();
    for key in ["name", "settings", "http", "samples", "error", "says", "minute"] {
        assert!(comment.iter().any(|line| line.starts_with(&format!("#   {key} "))), "{key} is not in {comment:?}");
    }
    assert!(comment.iter().any(|line| line.contains("docs/plugins.md in wasaba's repository")));
}
