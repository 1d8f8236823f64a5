//! From a plugin's readings to the values that are posted: as it is, or the growth per minute or second, and a scale.

use std::collections::HashMap;
use std::time::Duration;

use sandbox::answer::{self, Unit};
use wasaba_core::collect::rate::{Reading, growth};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::Sample;
use wasaba_core::wildcard;

/// What the graphs of one instance say about its metrics.
pub struct Rules(Vec<Rule>);

struct Rule {
    /// The graph's name, a dot, the metric's name; `*` and `#` stand for any segment.
    pattern: String,
    reading: answer::Reading,
    scale: f64,
}

impl Rules {
    /// The rules of these graphs, and the graphs as Mackerel is told of them, with names as they are `renamed`.
    ///
    /// # Errors
    /// A name that Mackerel would refuse, or a scale that is not finite.
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
                rules.push(Rule { pattern, reading: metric.reading, scale: metric.scale });
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

/// What came of one answer of a plugin.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// To be posted, named without `custom.`.
    pub samples: Vec<Sample>,
    /// Where the counters stand now; the predecessors of the next minute's.
    pub readings: HashMap<String, Reading>,
    /// Samples that cannot be posted.
    pub complaints: Vec<String>,
}

/// Makes values of the samples that a plugin gave at `unix_millis`, with the counters' readings of the time before.
#[must_use]
pub fn values(
    rules: &Rules,
    before: &HashMap<String, Reading>,
    samples: Vec<answer::Sample>,
    unix_millis: i64,
) -> Values {
    let mut values = Values::default();
    for answer::Sample { name, value } in samples {
        // A metric in no graph is posted as it is, as the official agent does.
        let (reading, scale) =
            rules.find(&name).map_or((answer::Reading::Gauge, 1.0), |rule| (rule.reading, rule.scale));
        if !value.is_finite() {
            let name = wasaba_core::text::printable(&name, 80);
            values.complaints.push(format!("the value of `{name}` is not a finite number"));
            continue;
        }
        let rate = |values: &mut Values, unit| {
            let now = Reading { value, unix_millis };
            values.readings.insert(name.clone(), now);
            before.get(&name).and_then(|before| growth(*before, now, Duration::from_secs(unit)))
        };
        let value = match reading {
            answer::Reading::Gauge => Some(value),
            answer::Reading::PerMinute => rate(&mut values, 60),
            answer::Reading::PerSecond => rate(&mut values, 1),
        };
        let Some(value) = value else { continue };
        match Sample::new(name, value * scale) {
            Ok(sample) => values.samples.push(sample),
            Err(error) => values.complaints.push(error.to_string()),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(metrics: &[(&str, answer::Reading, f64)]) -> Rules {
        let metric = |(name, reading, scale): &(&str, answer::Reading, f64)| answer::Metric {
            name: (*name).into(),
            label: String::new(),
            stacked: false,
            reading: *reading,
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
        let rules = rules(&[("*", answer::Reading::PerMinute, 1.0)]);
        let first = values(&rules, &HashMap::new(), vec![sample("web.a.hits", 100.0)], 0);
        assert_eq!(posted(&first), []);
        let second = values(&rules, &first.readings, vec![sample("web.a.hits", 130.0)], 30_000);
        assert_eq!(posted(&second), [("web.a.hits", 60.0)]);
        let reset = values(&rules, &second.readings, vec![sample("web.a.hits", 5.0)], 90_000);
        assert_eq!(posted(&reset), []);
    }

    #[test]
    fn the_scale_comes_after_the_rate() {
        let rules = rules(&[("bytes", answer::Reading::PerSecond, 8.0), ("ratio", answer::Reading::Gauge, 100.0)]);
        let samples = |bytes| vec![sample("web.a.bytes", bytes), sample("web.a.ratio", 0.5)];
        let first = values(&rules, &HashMap::new(), samples(0.0), 0);
        let second = values(&rules, &first.readings, samples(10.0), 10_000);
        assert_eq!(posted(&second), [("web.a.bytes", 8.0), ("web.a.ratio", 50.0)]);
    }

    #[test]
    fn a_bad_sample_costs_only_itself() {
        let given =
            vec![sample("日本", 1.0), sample("nan", f64::NAN), sample("a\u{1b}", f64::INFINITY), sample("good", 1.0)];
        let values = values(&rules(&[]), &HashMap::new(), given, 0);
        assert_eq!(posted(&values), [("good", 1.0)]);
        assert_eq!(values.complaints.len(), 3);
        assert!(!values.complaints.concat().contains('\u{1b}'));
    }
}
