//! From a plugin's samples to the values that are posted: unchanged, or the growth per minute or second, and scaled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sandbox::answer::{self, Interpretation, Unit};
use wasaba_core::collect::rate::{Reading, delta, growth, growth_of_32_bits};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::sample::{MetricName, Sample};
use wasaba_core::text::printable;
use wasaba_core::wildcard;

/// How the samples of one instance become values, from its graph definitions.
pub struct Rules(Vec<Rule>);

struct Rule {
    /// The graph's name, a dot, the metric's name; `*` and `#` stand for any segment.
    pattern: String,
    interpretation: Interpretation,
    scale: f64,
}

/// The longest name or label of a graph, and the longest label of a metric.
const LONGEST_TEXT_BYTES: usize = 255;

impl Rules {
    /// The rules of these graphs, and the graph definitions for Mackerel, with `renamed` names.
    ///
    /// # Errors
    /// Mackerel would refuse a name, or a text is too long.
    pub fn of(
        graphs: &[answer::Graph],
        renamed: impl Fn(&str) -> String,
    ) -> Result<(Self, Vec<GraphDefinition>), String> {
        let mut rules = Vec::new();
        let mut definitions = Vec::new();
        for graph in graphs {
            let texts = graph.metrics.iter().map(|metric| &metric.label).chain([&graph.name, &graph.label]);
            if let Some(long) = texts.map(String::len).find(|bytes| *bytes > LONGEST_TEXT_BYTES) {
                return Err(format!("a name or label has {long} bytes, more than {LONGEST_TEXT_BYTES}"));
            }
            let mut definition = GraphDefinition::new(&renamed(&graph.name), &graph.label, unit(graph.unit))?;
            for metric in &graph.metrics {
                definition = definition.with_metric(&metric.name, &metric.label, metric.stacked)?;
                let pattern = format!("{}.{}", graph.name, metric.name);
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
    /// The values to post, named without `custom.`, each with its own time in seconds since 1970 if it has one.
    pub samples: Vec<(Option<i64>, Sample)>,
    /// The counters' current readings, for the next minute's rates.
    pub readings: HashMap<String, Reading>,
    /// Why samples were dropped.
    pub warnings: Vec<String>,
    /// How many were dropped.
    pub dropped: u64,
}

/// When an instance was asked, and which hosts its samples may name, by their custom identifiers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The time of samples that have none.
    pub unix_millis: i64,
    /// The hosts in the operator's table.
    pub hosts: &'a [Arc<str>],
}

/// The oldest and the newest time of a sample: Mackerel takes older ones, but an alert would come a day late; the clocks of two
/// machines may differ by a minute.
const OLDEST_SECONDS: i64 = 24 * 60 * 60;
const AHEAD_SECONDS: i64 = 60;

/// The samples that were dropped, by the reason.
#[derive(Default)]
struct Dropped(Vec<(Why, Vec<String>, usize)>);

/// Why a sample is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Why {
    NoGraph,
    Name,
    Host,
    Time,
    NotFinite,
}

impl Dropped {
    /// How many names a warning has.
    const NAMED: usize = 3;

    fn add(&mut self, why: Why, name: &str) {
        let known = self.0.iter().position(|(known, ..)| *known == why);
        let index = known.unwrap_or_else(|| {
            self.0.push((why, Vec::new(), 0));
            self.0.len() - 1
        });
        let Some((_, names, count)) = self.0.get_mut(index) else { return };
        *count += 1;
        if names.len() < Self::NAMED {
            names.push(format!("`{}`", printable(name, 80)));
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, _, count)| *count as u64).sum()
    }

    /// A line for each reason.
    fn warnings(self) -> Vec<String> {
        let line = |(why, names, count): (Why, Vec<String>, usize)| {
            let (what, cure) = match why {
                Why::NoGraph => ("fit no metric of the plugin's graphs", "its author has to declare them in `graphs`"),
                Why::Name => ("have an invalid name", "use segments of A-Z a-z 0-9 _ -, joined by dots"),
                Why::Host => {
                    ("name a host that is not granted", "write its custom identifier into `hosts` of the table")
                }
                Why::Time => ("are more than 24 hours old or from the future", "compare the clocks"),
                Why::NotFinite => ("are not a finite number", "the plugin has to omit them"),
            };
            let more = count.saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("dropped {count} samples that {what}: {}{more}; {cure}", names.join(", "))
        };
        self.0.into_iter().map(line).collect()
    }
}

/// Makes values of the samples that a plugin returned; `before` has the counters' previous readings.
#[must_use]
pub fn values(
    rules: &Rules,
    before: &HashMap<String, Reading>,
    samples: Vec<answer::Sample>,
    asked: Asked<'_>,
) -> Values {
    let mut values = Values::default();
    let mut dropped = Dropped::default();
    let now_seconds = asked.unix_millis.div_euclid(1_000);
    for sample in samples {
        let answer::Sample { name, value, unix_seconds, host, labels: _ } = sample;
        // What fits no graph of the plugin's own could be another plugin's metric.
        let Some(Rule { interpretation, scale, .. }) = rules.find(&name) else {
            dropped.add(Why::NoGraph, &name);
            continue;
        };
        let Ok(metric) = MetricName::new(name.as_str()) else {
            dropped.add(Why::Name, &name);
            continue;
        };
        let granted = host.as_ref().map(|host| asked.hosts.iter().find(|granted| ***granted == **host));
        if granted == Some(None) {
            dropped.add(Why::Host, &name);
            continue;
        }
        let time = unix_seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let plausible = now_seconds.saturating_sub(OLDEST_SECONDS)..=now_seconds.saturating_add(AHEAD_SECONDS);
        if time.is_some_and(|time| !plausible.contains(&time)) {
            dropped.add(Why::Time, &name);
            continue;
        }
        if !value.as_f64().is_finite() {
            dropped.add(Why::NotFinite, &name);
            continue;
        }
        let counted = |values: &mut Values, growth: &dyn Fn(Reading, Reading) -> Option<f64>| {
            let unix_millis = time.map_or(asked.unix_millis, |time| time.saturating_mul(1_000));
            let now = Reading { value, unix_millis };
            let key = host.as_ref().map_or_else(|| name.clone(), |host| format!("{name} {host}"));
            let last = values.readings.insert(key.clone(), now).or_else(|| before.get(&key).copied());
            last.and_then(|last| growth(last, now))
        };
        let value = match interpretation {
            Interpretation::Gauge => Some(value.as_f64()),
            Interpretation::Delta => counted(&mut values, &delta),
            Interpretation::PerMinute => counted(&mut values, &|last, now| growth(last, now, MINUTE)),
            Interpretation::PerSecond => counted(&mut values, &|last, now| growth(last, now, SECOND)),
            Interpretation::PerMinute32 => counted(&mut values, &|last, now| growth_of_32_bits(last, now, MINUTE)),
        };
        let Some(value) = value else { continue };
        match Sample::of(metric, value * scale) {
            Ok(sample) => {
                let sample = granted.flatten().map_or_else(|| sample.clone(), |host| sample.clone().of_host(host));
                values.samples.push((time, sample));
            }
            Err(_) => dropped.add(Why::NotFinite, &name),
        }
    }
    values.dropped = dropped.count();
    values.warnings = dropped.warnings();
    values
}

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use wasaba_core::collect::rate::Count;

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

    fn sample(name: &str, value: impl Into<Count>) -> answer::Sample {
        let value = value.into();
        answer::Sample { name: name.into(), value, unix_seconds: None, host: None, labels: Vec::new() }
    }

    fn at(unix_millis: i64) -> Asked<'static> {
        Asked { unix_millis, hosts: &[] }
    }

    fn posted(values: &Values) -> Vec<(&str, f64)> {
        values.samples.iter().map(|(_, sample)| (sample.name().as_str(), sample.value())).collect()
    }

    #[test]
    fn a_counter_has_no_value_until_its_second_reading() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0)]);
        let first = values(&rules, &HashMap::new(), vec![sample("web.a.hits", 100.0)], at(0));
        assert_eq!(posted(&first), []);
        let second = values(&rules, &first.readings, vec![sample("web.a.hits", 130.0)], at(30_000));
        assert_eq!(posted(&second), [("web.a.hits", 60.0)]);
        let reset = values(&rules, &second.readings, vec![sample("web.a.hits", 5.0)], at(90_000));
        assert_eq!(posted(&reset), []);
    }

    #[test]
    fn the_rate_is_scaled() {
        let rules = rules(&[("bytes", Interpretation::PerSecond, 8.0), ("ratio", Interpretation::Gauge, 100.0)]);
        let samples = |bytes: f64| vec![sample("web.a.bytes", bytes), sample("web.a.ratio", 0.5)];
        let first = values(&rules, &HashMap::new(), samples(0.0), at(0));
        let second = values(&rules, &first.readings, samples(10.0), at(10_000));
        assert_eq!(posted(&second), [("web.a.bytes", 8.0), ("web.a.ratio", 50.0)]);
    }

    #[test]
    fn each_way_of_reading_a_counter_has_its_own_growth() {
        let ways = [
            ("delta", Interpretation::Delta, 30.0),
            ("minute", Interpretation::PerMinute, 60.0),
            ("second", Interpretation::PerSecond, 1.0),
            ("wraps", Interpretation::PerMinute32, 60.0),
        ];
        let rules = rules(&ways.map(|(name, way, _)| (name, way, 1.0)));
        let samples =
            |count: u64| ways.map(|(name, ..)| sample(&format!("web.a.{name}"), Count::Whole(count))).to_vec();
        let first = values(&rules, &HashMap::new(), samples(4_294_967_290), at(0));
        let second = values(&rules, &first.readings, samples(4_294_967_320), at(30_000));
        assert_eq!(posted(&second).iter().map(|(_, value)| *value).collect::<Vec<_>>(), ways.map(|(.., value)| value));
        // 4,294,967,320 is 24 after a wrap.
        let wrapped = values(&rules, &first.readings, samples(24), at(30_000));
        assert_eq!(posted(&wrapped), [("web.a.wraps", 60.0)]);
    }

    #[test]
    fn a_whole_counter_beyond_the_exact_range_of_floats_keeps_its_growth() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0)]);
        let samples = |count| vec![sample("web.a.hits", Count::Whole(count))];
        let first = values(&rules, &HashMap::new(), samples((1 << 60) + 1), at(0));
        let second = values(&rules, &first.readings, samples((1 << 60) + 4), at(60_000));
        assert_eq!(posted(&second), [("web.a.hits", 3.0)]);
    }

    #[test]
    fn what_fits_no_graph_of_the_plugin_is_dropped_and_reported_with_three_names() {
        let given = (0..5).map(|number| sample(&format!("docker.n{number}"), 1.0)).chain([sample("web.a.good", 1.0)]);
        let values = values(&rules(&[("good", Interpretation::Gauge, 1.0)]), &HashMap::new(), given.collect(), at(0));
        assert_eq!((posted(&values), values.dropped), (vec![("web.a.good", 1.0)], 5));
        let expected = "dropped 5 samples that fit no metric of the plugin's graphs: `docker.n0`, `docker.n1`, `docker.n2` and 2 \
                        more; its author has to declare them in `graphs`";
        assert_eq!(values.warnings, [expected]);
    }

    #[test]
    fn an_invalid_sample_is_dropped_with_a_warning_and_leaves_no_reading() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0)]);
        let long = format!("web.a.{}", "x".repeat(8_000));
        let given = vec![
            sample("web.日本.x", 1.0),
            sample("web.a\u{1b}.x", 1.0),
            sample(&long, 1.0),
            sample("web.a.nan", f64::NAN),
        ];
        let values = values(&rules, &HashMap::new(), given, at(0));
        assert_eq!((values.samples.len(), values.readings.len(), values.dropped), (0, 0, 4));
        let warnings = values.warnings.join("\n");
        assert!(
            warnings.contains("3 samples that have an invalid name") && warnings.contains("`web.a.nan`"),
            "{warnings}"
        );
        assert!(!warnings.contains('\u{1b}') && warnings.len() < 1_000, "{warnings}");
    }

    #[test]
    fn a_sample_of_another_host_needs_the_operators_word_and_has_a_rate_of_its_own() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0)]);
        let of = |host: &str, count: f64| answer::Sample { host: Some(host.into()), ..sample("web.a.hits", count) };
        let hosts = ["db1".into(), "db2".into()];
        let asked = |unix_millis| Asked { unix_millis, hosts: &hosts };
        let first =
            values(&rules, &HashMap::new(), vec![of("db1", 1.0), of("db2", 5.0), sample("web.a.hits", 9.0)], asked(0));
        let second = vec![of("db1", 2.0), of("db2", 7.0), of("mail", 1.0), sample("web.a.hits", 12.0)];
        let second = values(&rules, &first.readings, second, asked(60_000));
        let found = second.samples.iter().map(|(_, sample)| (sample.host().map(|host| &**host), sample.value()));
        assert_eq!(found.collect::<Vec<_>>(), [(Some("db1"), 1.0), (Some("db2"), 2.0), (None, 3.0)]);
        assert!(second.dropped == 1 && second.warnings[0].contains("`hosts`"), "{:?}", second.warnings);
    }

    #[test]
    fn a_sample_keeps_its_own_time_within_a_day_and_its_rate_is_between_the_times_of_the_readings() {
        let rules = rules(&[("*", Interpretation::PerMinute, 1.0), ("gauge", Interpretation::Gauge, 1.0)]);
        let at_time = |unix_seconds, count: f64| answer::Sample {
            unix_seconds: Some(unix_seconds),
            ..sample("web.a.hits", count)
        };
        let now = at(1_000_000_000);
        let given = vec![at_time(999_700, 1.0), at_time(999_760, 4.0), at_time(999_820, 9.0)];
        let backlog = values(&rules, &HashMap::new(), given, now);
        let found = backlog.samples.iter().map(|(time, sample)| (*time, sample.value())).collect::<Vec<_>>();
        assert_eq!(found, [(Some(999_760), 3.0), (Some(999_820), 5.0)]);
        for (unix_seconds, dropped) in
            [(913_600, 0), (913_599, 1), (1_000_060, 0), (1_000_061, 1), (u64::MAX, 1), (0, 1)]
        {
            let one = values(&rules, &HashMap::new(), vec![at_time(unix_seconds, 1.0)], now);
            assert_eq!(one.dropped, dropped, "{unix_seconds}");
        }
    }
}
