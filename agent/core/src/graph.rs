//! The graph definition: how Mackerel draws a plugin's metrics.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::json;

use crate::text::printable;

/// How much of a name is shown in an error.
const SHOWN_BYTES: usize = 80;

/// A graph, in the form of Mackerel's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphDefinition {
    /// `custom.` and segments joined by dots.
    name: String,
    #[serde(rename = "displayName", skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    unit: &'static str,
    #[serde(serialize_with = "null_if_empty")]
    metrics: Vec<GraphMetric>,
}

/// A graph, and who defines it. In the form of Mackerel's API, which has no place for that, it is the graph alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Defined {
    /// The source's name: `plugin web`.
    #[serde(skip)]
    pub owner: Arc<str>,
    /// The graph.
    pub graph: GraphDefinition,
}

/// The official agent writes `null` for a graph without metrics.
fn null_if_empty<S: Serializer>(metrics: &[GraphMetric], serializer: S) -> Result<S::Ok, S::Error> {
    (!metrics.is_empty()).then_some(metrics).serialize(serializer)
}

/// A line in a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct GraphMetric {
    name: String,
    #[serde(rename = "displayName", skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(rename = "isStacked")]
    stacked: bool,
}

/// A line in a graph, to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphLine<'a> {
    /// The full name, with its wildcards.
    pub name: &'a str,
    /// What a person reads, if it is not the name; `%1` stands for what the first wildcard matches.
    pub label: Option<&'a str>,
    /// Whether it is drawn on top of those before it.
    pub is_stacked: bool,
}

impl GraphDefinition {
    /// A graph without metrics. `name` is without `custom.`; `unit` is one of Mackerel's (`float`, `integer`,
    /// `percentage`, `seconds`, `milliseconds`, `bytes`, `bytes/sec`, `bits/sec`, `iops`); an empty label means none.
    ///
    /// # Errors
    /// Mackerel would refuse the name.
    pub fn new(name: &str, label: &str, unit: &'static str) -> Result<Self, String> {
        if name.is_empty() || !name.split('.').all(is_segment) || name.matches('#').count() > 1 {
            let name = printable(name, SHOWN_BYTES);
            return Err(format!(
                "invalid graph name \"{name}\": it must be segments of A-Z a-z 0-9 _ -, or * or one #, joined by dots"
            ));
        }
        Ok(Self { name: format!("custom.{name}"), display_name: non_empty(label), unit, metrics: Vec::new() })
    }

    /// Adds a metric; `name` is a single segment.
    ///
    /// # Errors
    /// Mackerel would refuse the name.
    pub fn with_metric(mut self, name: &str, label: &str, stacked: bool) -> Result<Self, String> {
        self.add_metric(name, label, stacked)?;
        Ok(self)
    }

    /// As [`GraphDefinition::with_metric`], for a metric of many, of which some may be refused.
    ///
    /// # Errors
    /// Mackerel would refuse the name; the graph is then unchanged.
    pub fn add_metric(&mut self, name: &str, label: &str, stacked: bool) -> Result<(), String> {
        if !is_segment(name) {
            let name = printable(name, SHOWN_BYTES);
            return Err(format!("invalid metric name \"{name}\": it must be one segment of A-Z a-z 0-9 _ -, or *"));
        }
        let name = format!("{}.{name}", self.name);
        self.metrics.push(GraphMetric { name, display_name: non_empty(label), stacked });
        Ok(())
    }

    /// The full names of its metrics, with their wildcards.
    pub fn metric_names(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(|metric| &*metric.name)
    }

    /// Its metrics.
    pub fn lines(&self) -> impl Iterator<Item = GraphLine<'_>> {
        self.metrics.iter().map(|GraphMetric { name, display_name, stacked }| GraphLine {
            name,
            label: display_name.as_deref(),
            is_stacked: *stacked,
        })
    }

    /// Its title, if it has one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.display_name.as_deref()
    }

    /// One of Mackerel's units.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The name, with `custom.`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The graphs in the form in which the official plugins print theirs: sorted, without `custom.`.
#[must_use]
pub fn in_official_form(graphs: &[GraphDefinition]) -> String {
    let short = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let graph = |graph: &GraphDefinition| {
        let prefix = format!("{}.", graph.name);
        let metrics = graph.metrics.iter().map(|metric| {
            let name = short(&metric.name, &prefix);
            let label = metric.display_name.as_ref().unwrap_or(&name);
            json!({ "name": name, "label": label, "stacked": metric.stacked })
        });
        let metrics = metrics.collect::<Vec<_>>();
        let label = graph.display_name.as_deref().unwrap_or_default();
        (short(&graph.name, "custom."), json!({ "label": label, "unit": graph.unit, "metrics": metrics }))
    };
    let graphs = graphs.iter().map(graph).collect::<serde_json::Map<_, _>>();
    format!("# mackerel-agent-plugin\n{}\n", json!({ "graphs": graphs }))
}

fn non_empty(label: &str) -> Option<String> {
    Some(label.to_owned()).filter(|label| !label.is_empty())
}

fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    matches!(text, "*" | "#") || (!text.is_empty() && text.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_written_as_the_official_agent_writes_it() {
        let graph = GraphDefinition::new("super.dice", "My <Dice>", "integer").unwrap();
        let graph = graph.with_metric("d6", "D6", true).unwrap().with_metric("*", "", false).unwrap();
        assert_eq!(
            serde_json::to_string(&graph).unwrap(),
            r#"{"name":"custom.super.dice","displayName":"My <Dice>","unit":"integer","metrics":[{"name":"custom.super.dice.d6","displayName":"D6","isStacked":true},{"name":"custom.super.dice.*","isStacked":false}]}"#
        );
    }

    #[test]
    fn a_name_that_mackerel_would_refuse_is_refused_here() {
        for bad in ["", "a..b", "日本", "a b", "#.#", "a*", "a."] {
            assert!(GraphDefinition::new(bad, "", "float").is_err(), "{bad:?} was accepted");
        }
        assert!(GraphDefinition::new("docker.cpu.#", "", "float").is_ok());
        assert!(GraphDefinition::new("a", "", "float").unwrap().with_metric("b.c", "", false).is_err());
    }
}
