//! `wasaba plugin time`: measures one call of a plugin in this agent, on this machine.

use std::time::Duration;

use wasaba_core::limits::Engine;
use wasaba_core::text::counted;

use crate::cli::flags::AgentFlags;

/// Calls the plugin `calls` times with these settings and prints the median, the fastest and the slowest call.
///
/// # Errors
/// There is no such plugin, a flag is invalid, or a call failed.
pub fn run(agent: &AgentFlags, engine: &str, calls: u32, wanted: &str, flags: &[String]) -> Result<(), String> {
    let engine = super::engine(engine)?;
    let times = super::with_loader(agent, async |config, loader| {
        let loaded = super::load(config, loader, wanted, Some(engine)).await?;
        let (instance, _) = loaded.instance("time", loader, wanted, flags).await?;
        instance.time(calls).await.map_err(|fault| format!("{wanted}: {fault}"))
    });
    crate::cli::print(&summary(engine, times?))
}

fn summary(engine: Engine, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let micros = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (median, last) = (micros(times.len() / 2), micros(times.len().saturating_sub(1)));
    format!(
        "{engine}: median {median:.1} µs, fastest {:.1} µs, slowest {last:.1} µs of {}\n",
        micros(0),
        counted(times.len() as u64, "call")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_call_in_the_middle() {
        let times = [5, 1, 9].map(Duration::from_micros).to_vec();
        let expected = "pulley: median 5.0 µs, fastest 1.0 µs, slowest 9.0 µs of 3 calls\n";
        assert_eq!(summary(Engine::Pulley, times), expected);
    }
}
