//! How the delivery is doing, as metrics of the host: `custom.wasaba.queue.*` and others. Off unless `self_metrics = true`.

use std::collections::BTreeMap;

use delivery::mackerel::{Kind, LaneFacts, Lanes};
use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::{Sample, segment};

use crate::process::books::Books;
use show::state::QueueReport;

/// Collects from the board of lanes and the books of the queue.
pub(super) struct DeliveryMetrics {
    lanes: Lanes,
    books: Books,
    /// The counts of the minute before.
    before: Option<Counts>,
}

/// What only grows, by the name of its metric.
type Counts = BTreeMap<String, u64>;

impl DeliveryMetrics {
    pub(super) fn new(lanes: Lanes, books: Books) -> Self {
        Self { lanes, books, before: None }
    }
}

impl Collector for DeliveryMetrics {
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault> {
        let (queue, lanes) = (self.books.read(), self.lanes.facts(moment.instant));
        let counts = counts(&queue, &lanes);
        let before = self.before.replace(counts.clone());
        let values = gauges(&queue, &lanes, moment.unix_seconds)
            .into_iter()
            .chain(before.map(|before| growth(&before, &counts)).unwrap_or_default());
        let samples = values.map(|(name, value)| Sample::new(format!("custom.wasaba.{name}"), value));
        samples.collect::<Result<_, _>>().map_err(|error| Fault::new(error.to_string()))
    }
}

fn gauges(queue: &QueueReport, lanes: &[LaneFacts], now: i64) -> Vec<(String, f64)> {
    let delivered = lanes.iter().find(|lane| lane.kind == Kind::Values).and_then(|lane| lane.succeeded_ago);
    let mut values = vec![("queue.points".to_owned(), queue.points as f64)];
    values.extend(queue.file_bytes.map(|bytes| ("queue_file.bytes".to_owned(), bytes as f64)));
    values.extend(queue.oldest.map(|oldest| ("queue_age.oldest".to_owned(), now.saturating_sub(oldest).max(0) as f64)));
    values.extend(delivered.map(|ago| ("last_delivery.age".to_owned(), ago.as_secs_f64())));
    values
}

fn counts(queue: &QueueReport, lanes: &[LaneFacts]) -> Counts {
    let mut counts = Counts::new();
    counts.insert("points.collected".to_owned(), queue.collected);
    counts.insert("points.delivered".to_owned(), queue.delivered);
    for (reason, points) in &queue.losses {
        counts.insert(format!("losses.{}", segment(reason)), *points);
    }
    for lane in lanes {
        // Those of other hosts together with this one's.
        *counts.entry(format!("failed_requests.{}", segment(lane.kind.name()))).or_default() += lane.failures;
    }
    counts
}

/// How much each count has grown; one that was not there before began at 0.
fn growth(before: &Counts, now: &Counts) -> Vec<(String, f64)> {
    let of = |name: &String| before.get(name).copied().unwrap_or_default();
    now.iter().map(|(name, count)| (name.clone(), count.saturating_sub(of(name)) as f64)).collect()
}

/// The graphs of these metrics.
///
/// # Errors
/// Mackerel would refuse a name, which is a bug.
pub(super) fn graphs() -> Result<Vec<GraphDefinition>, String> {
    let one = |name: &str, label: &str, unit: &'static str, metric: &str| {
        GraphDefinition::new(&format!("wasaba.{name}"), label, unit)?.with_metric(metric, metric, false)
    };
    let each = |name: &str, label: &str| {
        GraphDefinition::new(&format!("wasaba.{name}"), label, "integer")?.with_metric("*", "%1", true)
    };
    Ok(vec![
        one("queue", "Queued points", "integer", "points")?,
        one("queue_age", "Queue: age of the oldest point", "seconds", "oldest")?,
        one("queue_file", "Queue file", "bytes", "bytes")?,
        one("last_delivery", "Since the last delivery", "seconds", "age")?,
        GraphDefinition::new("wasaba.points", "Points per minute", "integer")?
            .with_metric("collected", "collected", false)?
            .with_metric("delivered", "delivered", false)?,
        each("losses", "Points lost per minute, by reason")?,
        each("failed_requests", "Failed requests per minute")?,
    ])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(refused: u64) -> QueueReport {
        let losses = BTreeMap::from([("refused".to_owned(), refused)]);
        QueueReport { points: 30, oldest: Some(900), file_bytes: Some(4_096), losses, ..QueueReport::default() }
    }

    fn lane(kind: Kind, failures: u64) -> LaneFacts {
        let succeeded_ago = Some(Duration::from_secs(20));
        let (delivered, failures_in_hour, dropped) = Default::default();
        LaneFacts { kind, host: None, succeeded_ago, delivered, failures, failures_in_hour, fault: None, dropped }
    }

    #[test]
    fn losses_and_failures_are_those_of_the_minute_and_the_lanes_of_all_hosts_are_one() {
        let before = counts(&queue(2), &[lane(Kind::Values, 1), lane(Kind::CheckReports, 0)]);
        let now = [lane(Kind::Values, 4), lane(Kind::CheckReports, 1), lane(Kind::CheckReports, 2)];
        let values = growth(&before, &counts(&queue(5), &now)).into_iter().collect::<BTreeMap<_, _>>();
        let expected = [
            ("failed_requests.check_reports", 3.0),
            ("failed_requests.values", 3.0),
            ("losses.refused", 3.0),
            ("points.collected", 0.0),
            ("points.delivered", 0.0),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn before_the_first_delivery_there_is_no_age() {
        let never = LaneFacts { succeeded_ago: None, ..lane(Kind::Values, 0) };
        let names =
            |lanes: &[LaneFacts]| gauges(&queue(0), lanes, 1_000).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&[never]), ["queue.points", "queue_file.bytes", "queue_age.oldest"]);
        assert_eq!(
            names(&[lane(Kind::Values, 0)]),
            ["queue.points", "queue_file.bytes", "queue_age.oldest", "last_delivery.age"]
        );
    }

    #[test]
    fn each_value_is_in_a_graph() {
        let graphs = graphs().unwrap();
        let patterns = graphs.iter().map(|graph| serde_json::to_value(graph).unwrap()).flat_map(|graph| {
            let metrics = graph["metrics"].as_array().unwrap().clone();
            metrics.into_iter().map(|metric| metric["name"].as_str().unwrap().to_owned())
        });
        let patterns = patterns.collect::<Vec<_>>();
        let lanes = [lane(Kind::Values, 0), lane(Kind::OtherHost, 0)];
        let names = gauges(&queue(1), &lanes, 1_000)
            .into_iter()
            .map(|(name, _)| name)
            .chain(counts(&queue(1), &lanes).into_keys());
        for name in names.map(|name| format!("custom.wasaba.{name}")) {
            assert!(Sample::new(name.clone(), 1.0).is_ok(), "{name}");
            assert!(
                patterns.iter().any(|pattern| wasaba_core::wildcard::matches(pattern, &name)),
                "{name}: {patterns:?}"
            );
        }
    }
}
