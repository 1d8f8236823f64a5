//! How long a plugin that waits takes beside others that compute, and by how much these outlast their limits.

use std::time::Duration;

use serde_json::Value;
use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::component;

use crate::{median, until_second};

/// The limit of each call, in milliseconds.
const LIMIT_MS: f64 = 10_000.0;

/// One plugin that waits twenty times for a moment, beside others.
pub(crate) struct Beside {
    computing: u32,
    compute_ms: u32,
    /// How long the one that waits took, in milliseconds.
    pub(crate) waiting_ms: f64,
    /// The longest call of those that compute.
    longest_ms: f64,
}

impl Beside {
    pub(crate) fn what(&self) -> String {
        format!("20 short waits beside {} that compute {:.1} s", self.computing, f64::from(self.compute_ms) / 1e3)
    }

    /// Twice its own time, and a tick for each of the others.
    pub(crate) fn goal_ms(&self, alone_ms: f64) -> f64 {
        2.0 * alone_ms + 20.0 * f64::from(self.computing)
    }

    /// By how much a call has outlasted its limit.
    pub(crate) fn outlasted_ms(&self) -> f64 {
        self.longest_ms - LIMIT_MS
    }
}

/// How long it takes alone, in milliseconds, and beside 1, 2 and 20 others that compute for 4.5 s or 9.5 s; each is the median of three.
pub(crate) async fn all() -> (f64, Vec<Beside>) {
    let mut beside = Vec::new();
    let alone = beside_of(0, 0).await.waiting_ms;
    for compute_ms in [4_500, 9_500] {
        for computing in [1, 2, 20] {
            beside.push(beside_of(computing, compute_ms).await);
        }
    }
    (alone, beside)
}

async fn beside_of(computing: u32, compute_ms: u32) -> Beside {
    let mut rounds = Vec::new();
    for _ in 0..3 {
        rounds.push(once(computing, compute_ms).await);
    }
    let waiting_ms = median(rounds.iter().map(|(waiting, _)| *waiting).collect());
    let longest_ms = rounds.iter().map(|(_, longest)| *longest).fold(0.0, f64::max);
    Beside { computing, compute_ms, waiting_ms, longest_ms }
}

/// The first collection of an agent: how long the call that waits took, and the longest of the others.
async fn once(computing: u32, compute_ms: u32) -> (f64, f64) {
    let wasm = component("naughty");
    let table = |name: &str, what: &str, limits: &str| {
        format!(
            "[plugin.metrics.{name}]\nwasm = {wasm:?}\nsettings = {{ do = {what:?} }}\ntimeout_seconds = 10\n{limits}\n"
        )
    };
    // First those that compute: they are asked first.
    let mut config = String::new();
    for number in 0..computing {
        let limits = format!("limits = {{ compute_ms = {compute_ms} }}");
        config.push_str(&table(&format!("computes{number}"), "loop", &limits));
    }
    config.push_str(&table("waits", "wait", ""));
    let home = Home::with(&config);
    assert!(home.command(&["plugin", "inspect"], &[wasm.to_str().unwrap()]).status.success());
    // Another minute must not begin meanwhile.
    if wasaba_e2e::unix_seconds() % 60.0 > 40.0 {
        until_second(1).await;
    }
    let _agent = home.start(&[]);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let output = home.command(&["plugin", "list"], &["-json"]);
        if !output.status.success() {
            continue;
        }
        let report = serde_json::from_str::<Value>(&stdout(&output)).unwrap();
        let plugins = report["plugins"].as_array().unwrap();
        let called = plugins.iter().filter(|plugin| plugin["calls"].as_u64() == Some(1)).collect::<Vec<_>>();
        if called.len() == computing as usize + 1 {
            let ms = |plugin: &Value| plugin["last_ms"].as_f64().unwrap();
            let (waits, others) = called.into_iter().partition::<Vec<_>, _>(|plugin| plugin["name"] == "waits");
            return (ms(waits[0]), others.into_iter().map(ms).fold(0.0, f64::max));
        }
    }
}
