//! `wasaba plugin time`: what one call of a plugin costs in this agent, on this machine.

use std::time::Duration;

use super::flags::AgentFlags;
use super::plugin_run;
use crate::capabilities::limits::Limits;
use crate::keeper;
use crate::log::{self, Destination};
use crate::plugins::engine::Engine;
use crate::plugins::instance::Instance;
use crate::plugins::settings::Written;

/// Calls the plugin `calls` times with these settings and prints the median, the fastest and the slowest call.
///
/// # Errors
/// There is no such plugin, a flag is wrong, or a call failed.
pub fn run(agent: &AgentFlags, engine: &str, calls: u32, wanted: &str, flags: &[String]) -> Result<(), String> {
    let engine = Engine::named(engine).ok_or_else(|| format!("-engine must be pulley or native, not {engine:?}"))?;
    let (config, _) = agent.config()?;
    log::start(config.log_level, Destination::Stderr);
    let runtime = super::runtime()?;
    let times = runtime.block_on(async {
        let loader = keeper::loader(&config)?;
        let file = super::plugin_file(&loader, wanted)?;
        let plugin = loader.plugin(engine, &file).await?;
        let (settings, _) = plugin_run::settings(&plugin.description.settings, flags)?;
        let place = format!("[plugin.metrics.{wanted}] of the configuration");
        let written = Written { settings, allow: Vec::new(), place };
        let instance = Instance::new(&loader.sandbox, plugin, wanted, &written, Limits::default()).await;
        let instance = instance.map_err(|problems| problems.join("\n"))?;
        instance.time(&loader.sandbox, calls.max(1)).await.map_err(|fault| format!("{wanted}: {fault}"))
    });
    runtime.shutdown_background();
    super::print(&summary(engine, times?))
}

fn summary(engine: Engine, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let micros = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (median, last) = (micros(times.len() / 2), micros(times.len().saturating_sub(1)));
    format!(
        "{engine}: median {median:.1} µs, fastest {:.1} µs, slowest {last:.1} µs of {} calls\n",
        micros(0),
        times.len()
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
