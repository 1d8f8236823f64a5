//! What one collection of Docker's metrics costs, beside asking the engine for one container after the other, as its own client
//! would, and beside the official plugin.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use wasaba_e2e::agent::Home;
use wasaba_e2e::docker::Engine;
use wasaba_e2e::wasaba;

use crate::collections::{Cost, cost};

/// How many containers are asked one by one, which takes two seconds each; the rest is computed.
const ONE_BY_ONE: usize = 5;

/// A number of containers, and what collecting once costs.
pub(crate) struct Collection {
    containers: usize,
    pub(crate) agent: Cost,
    one_by_one: Cost,
    official: Option<Cost>,
    /// The version of the engine's API.
    api: String,
}

impl Collection {
    /// The goal: a fifth of the CPU and a tenth of the wall time of the official plugin's run, which was measured on another
    /// machine to be 9.3 ms and 2.0 s with 5 containers, if it is not measured here.
    pub(crate) fn goal(&self) -> Cost {
        let official = self.official.unwrap_or(Cost { cpu_ms: 9.3, wall_ms: 2_000.0 });
        Cost { cpu_ms: official.cpu_ms / 5.0, wall_ms: official.wall_ms / 10.0 }
    }

    /// What is to be told of it.
    pub(crate) fn print(&self) {
        let Self { containers, agent, one_by_one, official, api } = self;
        println!(
            "  {containers} containers of an engine with API {api}: in the agent {:.2} ms CPU, {:.0} ms wall",
            agent.cpu_ms, agent.wall_ms
        );
        let beside = |name: &str, other: &Cost| {
            println!(
                "    beside {name}, {:.1} ms CPU, {:.0} ms wall: 1/{:.1} of its CPU, 1/{:.1} of its wall",
                other.cpu_ms,
                other.wall_ms,
                other.cpu_ms / agent.cpu_ms,
                other.wall_ms / agent.wall_ms
            );
        };
        beside(&format!("curl one by one with stream=false ({ONE_BY_ONE} measured)"), one_by_one);
        if let Some(official) = official {
            beside("mackerel-plugin-docker", official);
        }
    }
}

/// Measures each of these numbers of containers, and the bytes of the image. Where `OFFICIAL_PLUGINS` names a folder with the official
/// program, this is measured, too.
pub(crate) fn all(numbers: &[usize]) -> (Vec<Collection>, f64) {
    let engine = Engine::start(&[]);
    engine.wasaba();
    let image_bytes = engine.docker(&["image", "inspect", "-f", "{{.Size}}", "wasaba"]).parse().unwrap();
    engine.busybox();
    let mut ids = Vec::new();
    let mut collections = Vec::new();
    for containers in numbers {
        while ids.len() < *containers {
            let name = format!("c{}", ids.len());
            ids.push(engine.docker(&[
                "run",
                "--detach",
                "--network",
                "none",
                "--name",
                &name,
                "busybox",
                "/bin/sleep",
                "100000",
            ]));
        }
        collections.push(measured(&engine, &ids));
    }
    (collections, image_bytes)
}

fn measured(engine: &Engine, ids: &[String]) -> Collection {
    // The program's start, and its two rounds of everything else, are in both.
    let with = once(&format!("[docker]\nhost = {:?}\n", engine.host()));
    let without = once("");
    let half = |with: f64, without: f64| (with - without) / 2.0;
    let agent = Cost { cpu_ms: half(with.cpu_ms, without.cpu_ms), wall_ms: half(with.wall_ms, without.wall_ms) };
    let socket = engine.socket().display().to_string();
    let asked = ids.iter().take(ONE_BY_ONE).map(|id| {
        let url = format!("http://engine/containers/{id}/stats?stream=false");
        run(Command::new("curl").args(["--silent", "--unix-socket", &socket, &url]))
    });
    let (asked, scale) = (asked.collect::<Vec<_>>(), ids.len() as f64 / ONE_BY_ONE.min(ids.len()) as f64);
    let one_by_one = Cost {
        cpu_ms: asked.iter().map(|cost| cost.cpu_ms).sum::<f64>() * scale,
        wall_ms: asked.iter().map(|cost| cost.wall_ms).sum::<f64>() * scale,
    };
    let program =
        std::env::var_os("OFFICIAL_PLUGINS").map(|folder| PathBuf::from(folder).join("mackerel-plugin-docker"));
    let official = program.filter(|program| program.is_file()).map(|program| {
        let state = engine.path("state").display().to_string();
        let runs = (0..3).map(|_| run(Command::new(&program).args(["-host", &engine.host(), "-tempfile", &state])));
        median(runs.collect())
    });
    let api = engine.docker(&["version", "--format", "{{.Server.APIVersion}}"]);
    Collection { containers: ids.len(), agent, one_by_one, official, api }
}

/// What the median of some runs of `wasaba once` with this configuration costs.
fn once(table: &str) -> Cost {
    let home = Home::with(table);
    let runs = (0..5).map(|_| run(Command::new(wasaba()).args(["once", "-conf"]).arg(home.config())));
    median(runs.collect())
}

fn median(mut costs: Vec<Cost>) -> Cost {
    let mut middle = |key: fn(&Cost) -> f64| {
        costs.sort_by(|one, other| key(one).total_cmp(&key(other)));
        key(&costs[costs.len() / 2])
    };
    Cost { cpu_ms: middle(|cost| cost.cpu_ms), wall_ms: middle(|cost| cost.wall_ms) }
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Cost {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cost(|| assert!(command.status().unwrap().success(), "{command:?}"))
}
