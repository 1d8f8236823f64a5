//! The diagnostic mode: the agent's own resource usage, as metrics.
//!
//! The official agent posts the memory of Go's runtime. The names that have a meaning here are kept: `custom.agent.memory.alloc` is the
//! agent's private memory, `.sys` its share of all that is mapped (PSS). The rest is `custom.wasaba.agent.*`.

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::Sample;

use crate::roots;

/// Reads `/proc/self`.
pub struct Diagnostic;

impl Collector for Diagnostic {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        let rollup = roots::read("/proc/self/smaps_rollup".as_ref())?;
        let status = roots::read("/proc/self/status".as_ref())?;
        let descriptors = roots::names("/proc/self/fd".as_ref()).len();
        let values = [
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
    let own = GraphDefinition::new("wasaba.agent", "wasaba itself", "integer")?;
    let own = own.with_metric("threads", "threads", false)?;
    Ok(vec![memory, own.with_metric("file_descriptors", "file descriptors", false)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_of_this_process_is_in_a_graph() {
        let moment = Moment { unix_seconds: 0, instant: std::time::Instant::now() };
        let samples = Diagnostic.collect(moment).unwrap();
        assert_eq!(samples.len(), 4);
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
