//! All misbehaving plugins in one agent for some minutes, and what the others must not notice of it: `make zoo MINUTES=10`. Prints what
//! was measured; exits with 1 if a promise was broken.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made panics with the reason")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wasaba_e2e::unix_seconds;
use wasaba_e2e::zoo::{Findings, MOST_MORE_THREADS, Zoo};

/// How often an agent with all animals is stopped at a random moment, and the latest of these moments.
const STOPS: u32 = 20;
const LATEST_STOP: Duration = Duration::from_secs(12);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let minutes = std::env::args().nth(1).map_or(10, |minutes| minutes.parse().unwrap());
    let mut broken = 0;
    let mut row = |what: &str, value: f64, most: f64, unit: &str| {
        let verdict = if value <= most { "kept" } else { "BROKEN" };
        broken += u32::from(value > most);
        println!("{what:<60} {value:>9.2} {unit:<5} at most {most:>8.2} {unit:<5} {verdict}");
    };
    let zoo = Zoo::open().await;
    let found = zoo.watch(minutes, true).await;
    let Findings { gaps, refusals, arrivals_seconds, quiet_arrival_seconds, before, after, .. } = &found;
    println!("{minutes} minutes with all animals in one agent:");
    row("host metrics that are missing", gaps.len() as f64, 0.0, "");
    let latest = arrivals_seconds.iter().copied().fold(0.0, f64::max);
    row("arrival of the host metrics, compared with a quiet minute", latest - quiet_arrival_seconds, 2.0, "s");
    row("PSS, compared with the sum of the limits", found.most_pss_mb, found.limits_mb + 20.0, "MB");
    row("the same, with what a call of each has taken", found.most_pss_mb, found.peaks_mb + 20.0, "MB");
    row("anonymous memory, the same", found.most_anonymous_mb, found.peaks_mb + 20.0, "MB");
    row("the queue's file", found.database_mb, 4.0, "MB");
    row("documents that were delivered", found.other_files_mb, 6.0, "MB");
    row("lines in the log", found.log.len() as f64, 200.0, "");
    row("compiling again in the last minute", found.compiling_seconds, 0.1, "s");
    row("requests that Mackerel would refuse", refusals.len() as f64, 0.0, "");
    let left =
        |index: usize| after.get(index).copied().unwrap_or_default() - before.get(index).copied().unwrap_or_default();
    row("threads more when they were gone", left(0), MOST_MORE_THREADS, "");
    // Four are the second thread's, for plugins that compute; two may be connections to Mackerel, for reports and documents.
    row("file descriptors more when they were gone", left(1), 6.0, "");
    // The heap of small blocks keeps what it had at most, for later.
    let again = |index: usize| {
        let again = found.again.and_then(|again| again.get(index).copied()).unwrap_or_default();
        again - after.get(index).copied().unwrap_or_default()
    };
    println!("{:<60} {:>9.2} MB", "anonymous memory more when they were gone", left(2));
    row("the same when they have come and gone once more, compared", again(2), 8.0, "MB");
    row("file descriptors, the same", again(1), 2.0, "");
    row("threads, the same", again(0), 4.0, "");

    found.left.iter().for_each(|line| println!("  {line}"));
    if found.log.len() > 200 {
        found.log.iter().for_each(|line| println!("  {}", line.chars().take(160).collect::<String>()));
    }

    let mut random = Random(unix_seconds().to_bits());
    println!("{STOPS} stops at random moments (seed {}):", random.0);
    let mut longest = 0.0_f64;
    for _ in 0..STOPS {
        let after = LATEST_STOP.mul_f64(random.next());
        let took = stop(&zoo, after).await;
        println!("  after {:.2} s: {took:.2} s", after.as_secs_f64());
        longest = longest.max(took);
    }
    row("from SIGTERM to the end, the longest", longest, 2.0, "s");

    gaps.iter().chain(refusals).take(20).for_each(|line| println!("  {line}"));
    println!("arrivals: {arrivals_seconds:.2?} s, {quiet_arrival_seconds:.2} s in a quiet minute");
    println!("{broken} promises broken");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds from SIGTERM until an agent with all animals, which runs for `after`, has exited.
async fn stop(zoo: &Zoo, after: Duration) -> f64 {
    zoo.fill();
    let mut agent = zoo.agent();
    tokio::time::sleep(after).await;
    let begin = Instant::now();
    agent.signal(Signal::TERM);
    agent.ended(Duration::from_secs(120));
    begin.elapsed().as_secs_f64()
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
