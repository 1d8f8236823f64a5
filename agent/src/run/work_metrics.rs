//! How the agent's own work is doing, as metrics of the host: how long each collection and each check took, and how it ended. Off unless
//! `self_metrics = true`.

use std::collections::BTreeMap;

use schedules::statuses::Statuses;
use wasaba_core::collect::outcomes::Outcomes;
use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::report::Status;
use wasaba_core::sample::{Sample, segment};

/// Collects from the tables of outcomes and of statuses.
pub(super) struct WorkMetrics {
    outcomes: Outcomes,
    statuses: Statuses,
    /// How many collections of each source had failed a minute ago.
    before: BTreeMap<String, u64>,
}

impl WorkMetrics {
    pub(super) fn new(outcomes: Outcomes, statuses: Statuses) -> Self {
        Self { outcomes, statuses, before: BTreeMap::new() }
    }

    fn values(&mut self) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        let mut failed = BTreeMap::<String, u64>::new();
        for outcome in self.outcomes.all() {
            let source = segment(&outcome.source);
            let took: &mut f64 = values.entry(format!("collection.duration.{source}")).or_default();
            // Of sources with one name, the longest.
            *took = took.max(outcome.took.as_secs_f64() * 1e3);
            *failed.entry(source).or_default() += outcome.failed;
        }
        for (source, count) in &failed {
            // One that was added again begins at 0.
            if let Some(growth) = self.before.get(source).and_then(|before| count.checked_sub(*before)) {
                values.insert(format!("collection.failed.{source}"), growth as f64);
            }
        }
        self.before = failed;
        for found in self.statuses.all() {
            let name = segment(&found.name);
            values.insert(format!("check.duration.{name}"), found.took.as_secs_f64() * 1e3);
            values.insert(format!("check.status.{name}"), code(found.status));
        }
        values
    }
}

impl Collector for WorkMetrics {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        let samples =
            self.values().into_iter().map(|(name, value)| Sample::new(format!("custom.wasaba.{name}"), value));
        // A name that is too long for Mackerel has no metric; the others have.
        Ok(samples.filter_map(Result::ok).collect())
    }
}

/// The exit code of a check with this status.
fn code(status: Status) -> f64 {
    match status {
        Status::Ok => 0.0,
        Status::Warning => 1.0,
        Status::Critical => 2.0,
        Status::Unknown => 3.0,
    }
}

/// The graphs of these metrics.
///
/// # Errors
/// Mackerel would refuse a name, which is a bug.
pub(super) fn graphs() -> Result<Vec<GraphDefinition>, String> {
    let each = |name: &str, label: &str, unit| {
        GraphDefinition::new(&format!("wasaba.{name}"), label, unit)?.with_metric("*", "%1", false)
    };
    Ok(vec![
        each("collection.duration", "Collection: duration", "milliseconds")?,
        each("collection.failed", "Collections that failed per minute", "integer")?,
        each("check.duration", "Check: duration", "milliseconds")?,
        each("check.status", "Check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN", "integer")?,
    ])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasaba_core::collect::outcomes::{CollectionResult, Outcome};
    use wasaba_core::wildcard;

    use super::*;

    fn outcome(source: &str, millis: u64, failed: u64) -> Outcome {
        let took = Duration::from_millis(millis);
        Outcome {
            source: source.into(),
            unix_seconds: 0,
            took,
            result: CollectionResult::NoData,
            collections: 9,
            failed,
        }
    }

    #[test]
    fn a_collection_has_its_duration_at_once_and_its_failures_from_the_second_minute_on() {
        let outcomes = Outcomes::of(vec![outcome("cpu", 2, 0), outcome("plugin web", 30, 4)]);
        let mut metrics = WorkMetrics::new(outcomes, Statuses::default());
        let first = metrics.values();
        assert_eq!(first.get("collection.duration.plugin_web"), Some(&30.0));
        assert_eq!(first.get("collection.failed.plugin_web"), None);
        metrics.outcomes = Outcomes::of(vec![outcome("cpu", 1, 0), outcome("plugin web", 30, 6)]);
        let second = metrics.values();
        assert_eq!(
            (second.get("collection.failed.plugin_web"), second.get("collection.failed.cpu")),
            (Some(&2.0), Some(&0.0))
        );
        metrics.outcomes = Outcomes::of(vec![outcome("plugin web", 30, 1)]);
        assert_eq!(metrics.values().get("collection.failed.plugin_web"), None, "it was added again");
    }

    #[test]
    fn a_check_has_its_duration_and_its_exit_code() {
        let statuses = Statuses::default();
        let check = statuses.of(&"disk".into(), None);
        check.note(&"disk".into(), Status::Critical, "full", 60, Duration::from_millis(12));
        let values = WorkMetrics::new(Outcomes::default(), statuses).values();
        assert_eq!((values.get("check.duration.disk"), values.get("check.status.disk")), (Some(&12.0), Some(&2.0)));
    }

    #[test]
    fn each_value_is_in_a_graph() {
        let statuses = Statuses::default();
        let check = statuses.of(&"disk".into(), None);
        check.note(&"disk".into(), Status::Ok, "", 60, Duration::ZERO);
        let mut metrics = WorkMetrics::new(Outcomes::of(vec![outcome("cpu", 2, 0)]), statuses);
        metrics.values();
        let graphs = graphs().unwrap();
        let patterns = graphs.iter().flat_map(GraphDefinition::metric_names).collect::<Vec<_>>();
        let names = metrics.values().into_keys().map(|name| format!("custom.wasaba.{name}")).collect::<Vec<_>>();
        assert_eq!(names.len(), 4);
        for name in names {
            assert!(patterns.iter().any(|pattern| wildcard::matches(pattern, &name)), "{name}: {patterns:?}");
        }
    }
}
