//! The resource usage of plugins, as metrics of the host: `custom.wasaba.plugin.*`. Off unless `self_metrics = true`.

use std::collections::HashMap;
use std::sync::Arc;

use sandbox::failure::Kind;
use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::{Sample, segment};

use crate::instance::Status;
use crate::key;
use crate::register::Register;

/// Collects the counts of every running instance.
pub struct SelfMetrics {
    register: Register,
    /// The counts of the minute before, by instance.
    before: HashMap<Arc<str>, Status>,
}

impl SelfMetrics {
    /// A collector of the instances in this register.
    #[must_use]
    pub fn new(register: Register) -> Self {
        Self { register, before: HashMap::new() }
    }
}

impl Collector for SelfMetrics {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        let mut samples = Vec::new();
        let mut now = HashMap::new();
        for (key, instance) in self.register.running() {
            let status = instance.status();
            let name = match key.kind {
                key::Kind::Metrics => key.name,
                key::Kind::Check | key::Kind::Metadata => key.to_string().into(),
            };
            if let Some(before) = self.before.get(&name) {
                for (metric, value) in values(&segment(&name), before, &status) {
                    let sample = Sample::new(format!("custom.wasaba.plugin.{metric}"), value);
                    samples.push(sample.map_err(|error| Fault::new(error.to_string()))?);
                }
            }
            now.insert(name, status);
        }
        self.before = now;
        Ok(samples)
    }
}

/// The values of one instance between two statuses; empty if it was reloaded between them.
fn values(name: &str, before: &Status, now: &Status) -> Vec<(String, f64)> {
    let Some(calls) = now.calls.checked_sub(before.calls) else { return Vec::new() };
    let growth = |before: u64, now: u64| now.saturating_sub(before) as f64;
    let mut values = vec![
        (format!("calls.{name}"), calls as f64),
        (format!("memory.{name}"), now.memory_bytes as f64),
        (format!("refusals.{name}"), growth(before.refusals, now.refusals)),
        (format!("network.{name}.sent"), growth(before.sent_bytes, now.sent_bytes)),
        (format!("network.{name}.received"), growth(before.received_bytes, now.received_bytes)),
    ];
    if calls > 0 {
        values.push((format!("duration.{name}"), (now.total_ms - before.total_ms) / calls as f64));
    }
    for ((kind, now), (_, before)) in now.failures.iter().zip(&before.failures) {
        values.push((format!("failures.{name}.{kind}"), growth(*before, *now)));
    }
    values
}

/// The graphs of these metrics.
///
/// # Errors
/// Mackerel would refuse a name, which is a bug.
pub fn graphs() -> Result<Vec<GraphDefinition>, String> {
    let each = |name: &str, label: &str, unit| {
        GraphDefinition::new(&format!("wasaba.plugin.{name}"), label, unit)?.with_metric("*", "%1", false)
    };
    let mut failures = GraphDefinition::new("wasaba.plugin.failures.#", "Plugin failures per minute", "integer")?;
    for kind in Kind::ALL {
        failures = failures.with_metric(kind.name(), kind.name(), true)?;
    }
    let network = GraphDefinition::new("wasaba.plugin.network.#", "Plugin network per minute", "bytes")?;
    Ok(vec![
        each("calls", "Plugin calls per minute", "integer")?,
        each("duration", "Plugin call, mean duration", "milliseconds")?,
        each("memory", "Plugin memory, peak of a call", "bytes")?,
        each("refusals", "Plugin requests refused per minute", "integer")?,
        network.with_metric("sent", "sent", false)?.with_metric("received", "received", false)?,
        failures,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(calls: u64, late: u64, total_ms: f64) -> Status {
        let failures = Kind::ALL.iter().map(|kind| (kind.name(), if *kind == Kind::Late { late } else { 0 })).collect();
        Status {
            calls,
            failures,
            last_ms: 0.0,
            total_ms,
            memory_bytes: 65_536,
            sent_bytes: 10 * calls,
            received_bytes: 0,
            refusals: 0,
            dropped: 0,
            failure: None,
            skipped_for: None,
            is_denied: false,
        }
    }

    #[test]
    fn counts_are_those_of_the_minute_and_memory_is_the_peak_so_far() {
        let values = values("web", &status(2, 1, 10.0), &status(4, 2, 40.0)).into_iter().collect::<HashMap<_, _>>();
        let of = |name: &str| values.get(name).copied();
        assert_eq!(
            (of("calls.web"), of("failures.web.late"), of("failures.web.crashed")),
            (Some(2.0), Some(1.0), Some(0.0))
        );
        assert_eq!(
            (of("duration.web"), of("memory.web"), of("network.web.sent")),
            (Some(15.0), Some(65_536.0), Some(20.0))
        );
    }

    #[test]
    fn a_reloaded_instance_has_no_values_until_the_next_minute() {
        assert_eq!(values("web", &status(9, 0, 1.0), &status(1, 0, 1.0)), []);
    }

    #[test]
    fn a_minute_without_calls_has_no_duration() {
        let values = values("web", &status(2, 0, 1.0), &status(2, 0, 1.0));
        assert!(values.iter().all(|(name, _)| !name.starts_with("duration")));
    }

    #[test]
    fn each_value_is_in_a_graph() {
        let graphs = graphs().unwrap();
        let patterns = graphs.iter().map(|graph| serde_json::to_value(graph).unwrap()).flat_map(|graph| {
            let metrics = graph["metrics"].as_array().unwrap().clone();
            metrics.into_iter().map(|metric| metric["name"].as_str().unwrap().to_owned())
        });
        let patterns = patterns.collect::<Vec<_>>();
        for (name, _) in values("web", &status(0, 0, 0.0), &status(1, 0, 1.0)) {
            let name = format!("custom.wasaba.plugin.{name}");
            let fits = |pattern: &String| wasaba_core::wildcard::matches(pattern, &name);
            assert!(patterns.iter().any(fits), "{name} is in none of {patterns:?}");
        }
    }
}
