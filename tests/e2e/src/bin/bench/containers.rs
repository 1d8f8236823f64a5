//! The cost of one collection of Docker's metrics, compared with querying one container after the other, as Docker's client does,
//! and with the official plugin.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use wasaba_e2e::agent::Home;
use wasaba_e2e::docker::Engine;
use wasaba_e2e::wasaba;

use crate::collections::{Cost, cost};

/// How many containers are queried one by one, which takes two seconds each; the cost of the others is extrapolated.
const ONE_BY_ONE: usize = 5;

/// A number of containers, and the cost of one collection.
pub(crate) struct Collection {
    containers: usize,
    pub(crate) agent: Cost,
    one_by_one: Cost,
    official: Option<Cost>,
    /// The version of the engine's API.
    api: String,
}

impl Collection {
    /// The goal: a fifth of the CPU and a tenth of the wall time of the official plugin; if that is not measured here, of 9.3 ms
    /// and 2.0 s, as measured on another machine with 5 containers.
    pub(crate) fn goal(&self) -> Cost {
        let official = self.official.unwrap_or(Cost { cpu_ms: 9.3, wall_ms: 2_000.0 });
        Cost { cpu_ms: official.cpu_ms / 5.0, wall_ms: official.wall_ms / 10.0 }
    }

    /// Prints the details.
    pub(crate) fn print(&self) {
        let Self { containers, agent, one_by_one, official, api } = self;
        println!(
            "  {containers} containers of an engine with API {api}: in the agent {:.2} ms CPU, {:.0} ms wall",
            agent.cpu_ms, agent.wall_ms
        );
        let compare = |name: &str, other: &Cost| {
            println!(
                "    vs. {name}, {:.1} ms CPU, {:.0} ms wall: 1/{:.1} of its CPU, 1/{:.1} of its wall",
                other.cpu_ms,
                other.wall_ms,
                other.cpu_ms / agent.cpu_ms,
                other.wall_ms / agent.wall_ms
            );
        };
        compare(&format!("curl one by one with stream=false ({ONE_BY_ONE} measured)"), one_by_one);
        if let Some(official) = official {
            compare("mackerel-plugin-docker", official);
        }
    }
}

/// Measures each of these numbers of containers, and the size of the image in bytes; also the official program in the folder
/// `OFFICIAL_PLUGINS`, if it is set.
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
        collections.push(measure(&engine, &ids));
    }
    (collections, image_bytes)
}

fn measure(engine: &Engine, ids: &[String]) -> Collection {
    // Both include the start of the program and two readings of all other metrics.
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

/// The median cost of `wasaba once` with this configuration.
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

/// The cost of running a program.
fn run(command: &mut Command) -> Cost {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cost(|| assert!(command.status().unwrap().success(), "{command:?}"))
}
