//! From a plugin's samples to the values that are posted: unchanged, or the growth per minute or second, and scaled.

use std::collections::HashMap;
use std::time::Duration;

use sandbox::answer::{self, Interpretation, Unit};
use wasaba_core::collect::rate::{Reading, growth};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::Sample;
use wasaba_core::wildcard;

/// How the samples of one instance become values, from its graph definitions.
pub struct Rules(Vec<Rule>);

struct Rule {
    /// The graph's name, a dot, the metric's name; `*` and `#` stand for any segment.
    pattern: String,
    interpretation: Interpretation,
    scale: f64,
}

impl Rules {
    /// The rules of these graphs, and the graph definitions for Mackerel, with `renamed` names.
    ///
    /// # Errors
    /// Mackerel would refuse a name, or a scale is not finite.
    pub fn of(
        graphs: &[answer::Graph],
        renamed: impl Fn(&str) -> String,
    ) -> Result<(Self, Vec<GraphDefinition>), String> {
        let mut rules = Vec::new();
        let mut definitions = Vec::new();
        for graph in graphs {
            let mut definition = GraphDefinition::new(&renamed(&graph.name), &graph.label, unit(graph.unit))?;
            for metric in &graph.metrics {
                definition = definition.with_metric(&metric.name, &metric.label, metric.stacked)?;
                let pattern = format!("{}.{}", graph.name, metric.name);
                if !metric.scale.is_finite() {
                    return Err(format!("the scale of `{pattern}` is not a finite number"));
                }
                rules.push(Rule { pattern, interpretation: metric.interpretation, scale: metric.scale });
            }
            definitions.push(definition);
        }
        Ok((Self(rules), definitions))
    }

    fn find(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| wildcard::matches(&rule.pattern, name))
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Float => "float",
        Unit::Integer => "integer",
        Unit::Percentage => "percentage",
        Unit::Seconds => "seconds",
        Unit::Milliseconds => "milliseconds",
        Unit::Bytes => "bytes",
        Unit::BytesPerSecond => "bytes/sec",
        Unit::BitsPerSecond => "bits/sec",
        Unit::Iops => "iops",
    }
}

/// The values of one answer of a plugin.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// The values to post, named without `custom.`.
    pub samples: Vec<Sample>,
    /// The counters' current readings, for the next minute's rates.
    pub readings: HashMap<String, Reading>,
    /// Why samples were skipped.
    pub warnings: Vec<String>,
}

/// Makes values of the samples that a plugin returned at `unix_millis`; `before` has the counters' previous readings.
#[must_use]
pub fn values(
    rules: &Rules,
    before: &HashMap<String, Reading>,
    samples: Vec<answer::Sample>,
    unix_millis: i64,
) -> Values {
    let mut values = Values::default();
    for answer::Sample { name, value } in samples {
        // A metric in no graph is posted unchanged, as by the official agent.
        let (interpretation, scale) =
            rules.find(&name).map_or((Interpretation::Gauge, 1.0), |rule| (rule.interpretation, rule.scale));
        if !value.is_finite() {
            let name = wasaba_core::text::printable(&name, 80);
            values.warnings.push(format!("the value of `{name}` is not a finite number"));
            continue;
        }
        let rate = |values: &mut Values, unit| {
            let now = Reading { value, unix_millis };
            values.readings.insert(name.clone(), now);
            before.get(&name).and_then(|before| growth(*before, now, Duration::from_secs(unit)))
        };
        let value = match interpretation {
            Interpretation::Gauge => Some(value),
            Interpretation::PerMinute => rate(&mut values, 60),
            Interpretation::PerSecond => rate(&mut values, 1),
        };
        let Some(value) = value else { continue };
        match Sample::new(name, value * scale) {
            Ok(sample) => values.samples.push(sample),
            Err(error) => values.warnings.push(error.to_string()),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(metrics: &[(&str, Interpretation, f64)]) -> Rules {
        let metric = |(name, interpretation, scale): &(&str, Interpretation, f64)| answer::Metric {
            name: (*name).into(),
            label: String::new(),
            stacked: false,
            interpretation: *interpretation,
            scale: *scale,
        };
        let metrics = metrics.iter().map(metric).collect();
        let graph = answer::Graph { name: "web.#".into(), label: String::new(), unit: Unit::Float, metrics };
        Rules::of(&[graph], str::to_owned).unwrap().0
    }

    fn sample(name: &str, value: f64) -> answer::Sample {
        answer::Sample { name: name.into(), value }
    }

    fn posted(values: &Values) -> Vec<(&str, f64)> {
        values.samples.iter().map(|sample| (sample.name().as_str(), sample.value())).collect()
    }

    #[test]
    fn a_counter_has_no_value_until_its_second_reading() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0)]);
        let first = values(&rules, &HashMap::new(), vec![sample("web.a.hits", 100.0)], 0);
        assert_eq!(posted(&first), []);
        let second = values(&rules, &first.readings, vec![sample("web.a.hits", 130.0)], 30_000);
        assert_eq!(posted(&second), [("web.a.hits", 60.0)]);
        let reset = values(&rules, &second.readings, vec![sample("web.a.hits", 5.0)], 90_000);
        assert_eq!(posted(&reset), []);
    }

    #[test]
    fn the_rate_is_scaled() {
        let rules = rules(&[("bytes", Interpretation::PerSecond, 8.0), ("ratio", Interpretation::Gauge, 100.0)]);
        let samples = |bytes| vec![sample("web.a.bytes", bytes), sample("web.a.ratio", 0.5)];
        let first = values(&rules, &HashMap::new(), samples(0.0), 0);
        let second = values(&rules, &first.readings, samples(10.0), 10_000);
        assert_eq!(posted(&second), [("web.a.bytes", 8.0), ("web.a.ratio", 50.0)]);
    }

    #[test]
    fn an_invalid_sample_is_skipped_with_a_warning() {
        let given =
            vec![sample("日本", 1.0), sample("nan", f64::NAN), sample("a\u{1b}", f64::INFINITY), sample("good", 1.0)];
        let values = values(&rules(&[]), &HashMap::new(), given, 0);
        assert_eq!(posted(&values), [("good", 1.0)]);
        assert_eq!(values.warnings.len(), 3);
        assert!(!values.warnings.concat().contains('\u{1b}'));
    }
}
