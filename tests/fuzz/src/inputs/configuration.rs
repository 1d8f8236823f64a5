//! Files and variables that an operator or a plugin's author writes, or whoever can.

use std::collections::HashMap;
use std::path::Path;

use config::Config;
use config::document::Problem;
use config::environment::Environment;

use super::{PLANTED, assert_short, text};

/// Far more problems than anybody reads, far fewer than an input can have.
const MOST_PROBLEMS: usize = 1_000;

/// The agent's configuration, behind a line with a secret.
pub fn agent_conf(data: &[u8]) {
    let text = text(data);
    // It would be followed into any folder of this machine.
    if text.to_ascii_lowercase().replace("include_pattern", "").contains("nclude") {
        return;
    }
    check(&match config::parse(Path::new("/nowhere/agent.conf"), &format!("apikey = \"{PLANTED}\"\n{text}")) {
        Ok((_, problems)) | Err(problems) => problems,
    });
}

/// The file beside a component, alone and behind a line with a secret.
pub fn plugin_toml(data: &[u8]) {
    let text = text(data);
    for text in [text.to_string(), format!("settings.password = \"{PLANTED}\"\n{text}")] {
        let file = Path::new("/nowhere/plugins/web.wasm");
        check(&match config::plugin::of_text(file, &text) {
            Ok((table, problems)) => {
                assert_eq!(table.name, "web");
                problems
            }
            Err(problems) => problems,
        });
    }
}

/// The test cases of a plugin.
pub fn test_cases(data: &[u8]) {
    match plugins::cases::parse(Path::new("/nowhere/tests.toml"), &text(data)) {
        Ok(cases) => assert!(cases.iter().all(|case| !case.name.is_empty() && !case.minutes.is_empty())),
        Err(problems) => check(&problems),
    }
}

fn check(problems: &[Problem]) {
    assert!(problems.len() <= MOST_PROBLEMS, "{} problems", problems.len());
    for problem in problems {
        let shown = problem.to_string();
        assert!(!shown.contains(PLANTED), "shows a secret: {shown}");
        assert_short(&shown, 8_192);
    }
}

/// The variables of the container image: lines of `NAME=value`.
pub fn environment(data: &[u8]) {
    let text = text(data);
    let mut variables = text.lines().filter_map(|line| line.split_once('=')).collect::<HashMap<_, _>>();
    // Files are not read, and none is looked for.
    variables.retain(|name, _| !name.ends_with("file") && *name != "include");
    variables.insert("apikey", PLANTED);
    let environment = Environment::read(|name| variables.get(name).map(|value| (*value).to_owned()));
    let mut problems = Vec::new();
    environment.over(&mut Config::default(), &mut problems);
    if let Some(why) = environment.wrong_opts() {
        assert!(!why.contains(PLANTED), "shows a secret: {why}");
    }
    check(&problems);
}
