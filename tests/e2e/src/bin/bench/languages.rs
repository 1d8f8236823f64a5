//! What a plugin costs in each language: the one of the suite that misbehaves, while it does not, so that a call has no I/O.

use std::path::Path;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::component;
use wasaba_e2e::suite::{LANGUAGES, components};

use crate::collections::cost;

const LONG: Duration = Duration::from_secs(300);

/// The goals of a language: what its components cost when its SDK was made, and a fifth more.
struct Goal {
    language: &'static str,
    component_mb: f64,
    compile_s: f64,
    pulley_ms: f64,
    native_ms: f64,
    memory_mb: f64,
    /// From dropping it into a running agent's folder until its first value is posted.
    first_value_s: f64,
}

/// Its plugin misbehaves in more ways than the others, and is larger for it.
const RUST: Goal = Goal {
    language: "rust",
    component_mb: 0.31,
    compile_s: 0.5,
    pulley_ms: 0.72,
    native_ms: 0.72,
    memory_mb: 1.3,
    first_value_s: 20.0,
};

const GOALS: [Goal; 4] = [
    Goal {
        language: "python",
        component_mb: 22.3,
        compile_s: 16.8,
        pulley_ms: 8.5,
        native_ms: 4.2,
        memory_mb: 15.2,
        first_value_s: 60.0,
    },
    Goal {
        language: "javascript",
        component_mb: 1.7,
        compile_s: 2.4,
        pulley_ms: 3.8,
        native_ms: 1.1,
        memory_mb: 2.2,
        first_value_s: 20.0,
    },
    Goal {
        language: "go",
        component_mb: 4.7,
        compile_s: 4.8,
        pulley_ms: 9.4,
        native_ms: 2.3,
        memory_mb: 5.5,
        first_value_s: 20.0,
    },
    Goal {
        language: "c",
        component_mb: 0.1,
        compile_s: 0.12,
        pulley_ms: 0.84,
        native_ms: 0.55,
        memory_mb: 0.36,
        first_value_s: 20.0,
    },
];

/// Hands over a row for each cost of each language: what, how much, its goal, the unit.
pub(crate) fn all(mut row: impl FnMut(&str, f64, f64, &str)) {
    assert!(GOALS.iter().map(|goal| goal.language).eq(LANGUAGES), "a goal for each language");
    of(&RUST, &component("naughty"), &mut row);
    for goal in &GOALS {
        of(goal, &components(goal.language).join("naughty.wasm"), &mut row);
    }
}

fn of(goal: &Goal, file: &Path, row: &mut impl FnMut(&str, f64, f64, &str)) {
    let (home, path) = (Home::without_compiled(), file.to_str().unwrap());
    home.configure("");
    let name = |what: &str| format!("{}: {what}", goal.language);
    row(&name("component"), std::fs::metadata(file).unwrap().len() as f64 / 1e6, goal.component_mb, "MB");
    let compile = cost(|| drop(stdout(&home.command(&["plugin", "compile"], &[path]))));
    row(&name("first compile, CPU"), compile.cpu_ms / 1e3, goal.compile_s, "s");
    for (engine, most) in [("pulley", goal.pulley_ms), ("native", goal.native_ms)] {
        let text = stdout(&home.command(&["plugin", "time"], &["-engine", engine, "-calls=200", path]));
        let median = text.split_once("median ").unwrap().1.split(' ').next().unwrap().parse::<f64>().unwrap();
        row(&name(&format!("call, {engine}, median wall time")), median / 1e3, most, "ms");
    }
    let output = home.command(&["plugin", "run"], &["--explain", path]);
    let explained = String::from_utf8(output.stderr).unwrap();
    let kib = explained.split_once("memory ").and_then(|(_, rest)| rest.trim().split(' ').next()?.parse::<f64>().ok());
    row(&name("memory of a call, peak"), kib.unwrap() * 1024.0 / 1e6, goal.memory_mb, "MB");
    let first = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(first_value_s(file)));
    row(&name("first value after it was dropped in"), first, goal.first_value_s, "s");
}

/// The time from dropping the component into the folder of a running agent until its first value has arrived, in seconds.
async fn first_value_s(file: &Path) -> f64 {
    let (home, standin) = (Home::without_compiled(), Standin::start("key").await.unwrap());
    home.configure(&format!("apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url()));
    let _agent = home.start(&[]);
    standin.wait_until(LONG, "the host's values", |memory| !memory.points().is_empty()).await.unwrap();
    let begin = Instant::now();
    home.drop_in("naughty.wasm", &std::fs::read(file).unwrap());
    let is_there = |memory: &Memory| memory.points().iter().any(|point| point.name.starts_with("custom.naughty."));
    standin.wait_until(LONG, "the plugin's first value", is_there).await.unwrap();
    begin.elapsed().as_secs_f64()
}
