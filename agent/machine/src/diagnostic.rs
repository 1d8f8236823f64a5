//! The diagnostic mode: the agent's own resource usage, as metrics.
//!
//! The official agent posts the memory of Go's runtime. The names that have a meaning here are kept: `custom.agent.memory.alloc` is the
//! agent's private memory, `.sys` its share of all that is mapped (PSS). The rest is `custom.wasaba.agent.*` and `.agent_cpu.*`.

use std::time::{Duration, Instant};

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::Sample;

use crate::roots;

/// Reads `/proc/self`.
#[derive(Debug, Default)]
pub struct Diagnostic {
    /// How long it had computed a minute ago.
    before: Option<(Duration, Instant)>,
}

impl Collector for Diagnostic {
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault> {
        let rollup = roots::read("/proc/self/smaps_rollup".as_ref())?;
        let status = roots::read("/proc/self/status".as_ref())?;
        let descriptors = roots::names("/proc/self/fd".as_ref()).len();
        let cpu = wasaba_core::clock::process_cpu();
        let before = self.before.replace((cpu, moment.instant));
        let share = before.and_then(|(cpu_before, before)| {
            let passed = moment.instant.saturating_duration_since(before).as_secs_f64();
            (passed > 0.0).then(|| cpu.saturating_sub(cpu_before).as_secs_f64() / passed * 100.0)
        });
        let values = [
            ("custom.wasaba.agent_cpu.percentage", share),
            ("custom.agent.memory.alloc", kibibytes(&rollup, "Anonymous:").map(|kib| kib * 1024.0)),
            ("custom.agent.memory.sys", kibibytes(&rollup, "Pss:").map(|kib| kib * 1024.0)),
            ("custom.wasaba.agent.threads", kibibytes(&status, "Threads:")),
            // Without the one that reads the folder.
            ("custom.wasaba.agent.file_descriptors", Some(descriptors.saturating_sub(1) as f64)),
        ];
        Ok(values.into_iter().filter_map(|(name, value)| Sample::new(name, value?).ok()).collect())
    }
}

/// The number in the line that begins with `key`.
fn kibibytes(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Their graph definitions.
///
/// # Errors
/// None: the names are constants.
pub fn graphs() -> Result<Vec<GraphDefinition>, String> {
    let memory = GraphDefinition::new("agent.memory", "Agent Memory", "bytes")?;
    let memory = memory.with_metric("alloc", "anonymous", false)?.with_metric("sys", "PSS", false)?;
    let cpu = GraphDefinition::new("wasaba.agent_cpu", "wasaba itself: CPU, of one", "percentage")?;
    let cpu = cpu.with_metric("percentage", "CPU", false)?;
    let own = GraphDefinition::new("wasaba.agent", "wasaba itself", "integer")?;
    let own = own.with_metric("threads", "threads", false)?;
    Ok(vec![memory, cpu, own.with_metric("file_descriptors", "file descriptors", false)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_of_this_process_is_in_a_graph() {
        let now = Instant::now();
        let at = |seconds| Moment { unix_seconds: 0, instant: now + Duration::from_secs(seconds) };
        let mut diagnostic = Diagnostic::default();
        assert_eq!(diagnostic.collect(at(0)).unwrap().len(), 4, "a share takes two readings");
        // A reading takes some of it.
        let samples = diagnostic.collect(at(60)).unwrap();
        assert_eq!(samples.len(), 5);
        let graphs = graphs().unwrap();
        for sample in &samples {
            assert!(sample.value() > 0.0, "{sample:?}");
            let name = sample.name().as_str();
            assert!(
                graphs.iter().any(|graph| name.starts_with(&format!("{}.", graph.name()))),
                "{name} is in no graph"
            );
        }
        let memory = |name| samples.iter().find(|sample| sample.name().as_str() == name).unwrap().value();
        assert!(memory("custom.agent.memory.alloc") > 100_000.0);
    }
}
