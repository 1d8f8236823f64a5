//! `wasaba plugin time`: measures one call of a plugin in this agent, on this machine.

use std::time::Duration;

use wasaba_core::limits::Engine;
use wasaba_core::text::counted;

use crate::cli::flags::AgentFlags;

/// Calls the plugin so many times with these settings, or makes so many whole collections, and prints the median, the fastest and the
/// slowest, and the medians of the first to the last tenth.
///
/// # Errors
/// There is no such plugin, a flag is invalid, or a call failed.
pub fn run(
    agent: &AgentFlags,
    engine: &str,
    (calls, whole): (u32, bool),
    wanted: &str,
    flags: &[String],
) -> Result<(), String> {
    let engine = super::engine(engine)?;
    let times = super::with_loader_for(agent, wanted, async |config, loader| {
        let loaded = super::load(config, loader, wanted, Some(engine)).await?;
        let (instance, _) = loaded.instance("time", loader, wanted, flags).await?;
        let times = if whole { instance.time_whole(calls).await } else { instance.time(calls).await };
        times.map_err(|fault| format!("{wanted}: {fault}"))
    });
    crate::cli::print(&summary(engine, times?))
}

fn summary(engine: Engine, times: Vec<Duration>) -> String {
    let tenths = times.chunks(times.len().div_ceil(10).max(1)).map(|tenth| format!("{:.1}", micros(&sorted(tenth), 2)));
    let (tenths, times) = (tenths.collect::<Vec<_>>().join(" "), sorted(&times));
    format!(
        "{engine}: median {:.1} µs, fastest {:.1} µs, slowest {:.1} µs of {}\nmedians by tenths: {tenths} µs\n",
        micros(&times, 2),
        micros(&times, usize::MAX),
        micros(&times, 1),
        counted(times.len() as u64, "call")
    )
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// Of sorted times the one at the end of the first of so many parts.
fn micros(times: &[Duration], parts: usize) -> f64 {
    let index = (times.len() / parts).min(times.len().saturating_sub(1));
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_call_in_the_middle() {
        let times = [5, 1, 9].map(Duration::from_micros).to_vec();
        let expected =
            "pulley: median 5.0 µs, fastest 1.0 µs, slowest 9.0 µs of 3 calls\nmedians by tenths: 5.0 1.0 9.0 µs\n";
        assert_eq!(summary(Engine::Pulley, times), expected);
    }

    #[test]
    fn the_tenths_show_whether_calls_become_slower() {
        let summary = summary(Engine::Pulley, (0..100).map(Duration::from_micros).collect());
        assert!(
            summary.ends_with("medians by tenths: 5.0 15.0 25.0 35.0 45.0 55.0 65.0 75.0 85.0 95.0 µs\n"),
            "{summary}"
        );
    }
}
