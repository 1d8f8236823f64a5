//! A new plugin is formatted, and its cases begin with their keys.

use std::io::Write as _;
use std::process::{Command, Stdio};

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
