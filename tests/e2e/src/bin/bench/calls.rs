//! What one call of a plugin costs: after a million of them, and compared with another release.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::postgres::Postgres;
use wasaba_e2e::redis::Redis;
use wasaba_e2e::zoo::memory_mb;
use wasaba_e2e::{component, wasaba};

use crate::collections::cost;
use crate::{LONG, median};

/// A part of many calls.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slice {
    pub(crate) pss_mb: f64,
    pub(crate) anonymous_mb: f64,
    pub(crate) descriptors: f64,
    pub(crate) micros: f64,
}

/// Ten slices of a million collections in one process, on the way that the agent's take.
pub(crate) fn a_million() -> Vec<Slice> {
    let (home, file) = (Home::with(""), component("naughty"));
    let mut command = Command::new(wasaba());
    command.args(["plugin", "time", "-conf"]).arg(home.config()).args(["-whole", "-calls=1000000"]).arg(&file);
    let mut calling = Agent::spawn(command);
    let mut seen = Vec::new();
    const TENTHS: &str = "medians by tenths: ";
    let tenths =
        |calling: &Agent| calling.lines().into_iter().find_map(|line| Some(line.strip_prefix(TENTHS)?.to_owned()));
    while tenths(&calling).is_none() && seen.len() < 30_000 {
        std::thread::park_timeout(Duration::from_millis(100));
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", calling.pid())).map_or(0, Iterator::count);
        let read = memory_mb(calling.pid(), "Pss:").zip(memory_mb(calling.pid(), "Anonymous:"));
        let slice =
            |(pss_mb, anonymous_mb)| Slice { pss_mb, anonymous_mb, descriptors: descriptors as f64, micros: 0.0 };
        seen.extend(read.map(slice));
    }
    assert!(calling.ended(LONG).success());
    let tenths = tenths(&calling).unwrap();
    let tenths = tenths.split(' ').filter_map(|word| word.parse().ok());
    // The last reading may be of an exiting process.
    let parts = seen[..seen.len() - 1].chunks((seen.len() - 1) / 10);
    let mean = |part: &[Slice], of: fn(&Slice) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
    let slice = |(part, micros): (&[Slice], f64)| Slice {
        pss_mb: mean(part, |slice| slice.pss_mb),
        anonymous_mb: mean(part, |slice| slice.anonymous_mb),
        descriptors: mean(part, |slice| slice.descriptors),
        micros,
    };
    parts.zip(tenths).map(slice).collect()
}

/// One call of a plugin in this release, divided by one in another.
pub(crate) struct Compared {
    pub(crate) what: String,
    /// Of each round: CPU time before and after, in microseconds.
    rounds: Vec<(f64, f64)>,
}

impl Compared {
    pub(crate) fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|(before, after)| after / before).collect())
    }

    /// How far the other release's own rounds are apart, as a share of their median: what a ratio is worth.
    pub(crate) fn spread(&self) -> f64 {
        let mut before = self.rounds.iter().map(|(before, _)| *before).collect::<Vec<_>>();
        before.sort_by(f64::total_cmp);
        let quarter = before.len() / 4;
        (before[before.len() - 1 - quarter] - before[quarter]) / median(before.clone())
    }

    pub(crate) fn print(&self) {
        let of = |which: fn(&(f64, f64)) -> f64| median(self.rounds.iter().map(which).collect());
        let ratios = self.rounds.iter().map(|(before, after)| format!("{:.2}", after / before)).collect::<Vec<_>>();
        println!(
            "  {}: {:.1} µs CPU before, {:.1} µs after; by rounds {}",
            self.what,
            of(|round| round.0),
            of(|round| round.1),
            ratios.join(" ")
        );
    }
}

/// Compares this release with the one in the folder `before`, a target folder of `make build test-plugins`, in alternating rounds. Hands
/// over each result as soon as it is known.
pub(crate) fn compare(before: &Path, mut compared: impl FnMut(&Compared)) {
    let (nginx, redis) = (Nginx::start(), Redis::start("", &[]));
    let postgres = Postgres::start("", "host all monitor 127.0.0.1/32 scram-sha-256");
    postgres.run("CREATE ROLE monitor LOGIN PASSWORD 'secret'; GRANT pg_monitor TO monitor");
    let flags = |port: u16, more: &[&str]| {
        let more = more.iter().map(|flag| (*flag).to_owned());
        [format!("-port={port}")].into_iter().chain(more).collect::<Vec<_>>()
    };
    let official = |name: &str| [PathBuf::from(name), PathBuf::from(name)];
    let naughty = [before.join("wasm32-wasip2/plugin/naughty.wasm"), component("naughty")];
    let login = ["-hostname=127.0.0.1", "-user=monitor", "-password=secret", "-database=postgres"];
    let plugins = [
        ("a call without I/O", naughty, Vec::new(), 4_000),
        ("a call of nginx", official("nginx"), flags(nginx.port, &["-host=127.0.0.1"]), 1_000),
        ("a call of redis", official("redis"), flags(redis.port, &["-host=127.0.0.1"]), 1_000),
        ("a call of postgres", official("postgres"), flags(postgres.port, &login), 500),
    ];
    let programs = [before.join("release/wasaba"), wasaba()];
    for (what, components, flags, calls) in plugins {
        for engine in ["pulley", "native"] {
            let homes = [Home::without_compiled(), Home::without_compiled()];
            homes.iter().for_each(|home| home.configure(""));
            let cpu_micros = |which: usize, calls: u32| {
                let mut command = Command::new(&programs[which]);
                command.args(["plugin", "time", "-conf"]).arg(homes[which].config());
                command.args(["-engine", engine, &format!("-calls={calls}")]).arg(&components[which]).args(&flags);
                let cost = cost(|| drop(stdout(&command.stdin(Stdio::null()).output().unwrap())));
                cost.cpu_ms * 1e3
            };
            for which in 0..2 {
                cpu_micros(which, 1); // compiles it
            }
            let one = |which| (cpu_micros(which, calls + 10) - cpu_micros(which, 10)) / f64::from(calls);
            let rounds = (0..9).map(|round| match round % 2 {
                0 => (one(0), one(1)),
                _ => {
                    let after = one(1);
                    (one(0), after)
                }
            });
            compared(&Compared { what: format!("{what}, {engine}"), rounds: rounds.collect() });
        }
    }
}
