//! A plugin's graphs and samples.

use std::sync::Arc;

use plugins::readings::{Rules, Translation};
use sandbox::answer::{Graph, Interpretation, Metric, Sample, Unit};
use wasaba_core::clock::Stamp;
use wasaba_core::collect::rate::Count;
use wasaba_core::limits::Limits;
use wasaba_core::posting::Posting;
use wasaba_core::sample::MetricName;
use wasaba_core::wildcard;

use super::servers::wait;
use super::{assert_short, text};

/// `graph NAME LABEL UNIT`, `metric NAME LABEL READING SCALE`, `sample NAME VALUE TIME HOST`, `minute` between two calls, `prefix NAME`,
/// `host NAME`.
pub fn readings(data: &[u8]) {
    let text = text(data);
    let (mut graphs, mut calls, mut hosts) = (Vec::<Graph>::new(), vec![Vec::new()], Vec::<Arc<str>>::new());
    let mut posting = Posting::default();
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["graph", name, label, unit] => graphs.push(Graph {
                name: (*name).to_owned(),
                label: (*label).to_owned(),
                unit: Unit::WORDS.iter().find(|(word, _)| word == unit).map_or(Unit::Float, |(_, unit)| *unit),
                metrics: Vec::new(),
            }),
            ["metric", name, label, reading, scale] => {
                let Some(graph) = graphs.last_mut() else { continue };
                let interpretation = Interpretation::WORDS.iter().find(|(word, _)| word == reading);
                graph.metrics.push(Metric {
                    name: (*name).to_owned(),
                    label: (*label).to_owned(),
                    stacked: reading.is_empty(),
                    interpretation: interpretation.map_or(Interpretation::Gauge, |(_, how)| *how),
                    // The contract refuses others.
                    scale: scale.parse().ok().filter(|scale: &f64| scale.is_finite() && *scale != 0.0).unwrap_or(1.0),
                });
            }
            ["sample", name, value, more @ ..] => {
                let float = || value.parse().map_or(Count::Float(f64::NAN), Count::Float);
                let sample = Sample {
                    name: (*name).to_owned(),
                    value: value.parse().map_or_else(|_| float(), Count::Whole),
                    unix_seconds: more.first().and_then(|time| time.parse().ok()),
                    host: more.get(1).map(|host| (*host).to_owned()),
                    labels: Vec::new(),
                };
                calls.last_mut().unwrap().push(sample);
            }
            ["minute"] => calls.push(Vec::new()),
            ["prefix", prefix] => posting.key_prefix = MetricName::new(*prefix).ok().map(String::from),
            ["host", host] => hosts.push((*host).into()),
            _ => {}
        }
    }
    let limits = Limits { graphs: 20, metrics: 100, counters: 10, ..Limits::default() };
    let renamed = |name: &str| posting.renamed(name);
    let rules = match Rules::of(&graphs, &limits, renamed) {
        Ok((rules, definitions)) => {
            assert!(definitions.len() == graphs.len() && definitions.len() <= limits.graphs);
            rules
        }
        Err(why) => return assert_short(&why, 1_024),
    };
    let fits = |name: &str| {
        let metrics = |graph: &Graph| {
            let of_graph = |metric: &Metric| format!("custom.{}.{}", renamed(&graph.name), metric.name);
            graph.metrics.iter().map(of_graph).collect::<Vec<_>>()
        };
        graphs.iter().flat_map(metrics).any(|pattern| wildcard::matches(&pattern, name))
    };
    let translation = Translation {
        rules: Arc::new(rules),
        posting: Arc::new(posting.clone()),
        hosts: hosts.clone().into(),
        limits: Arc::new(limits.clone()),
        ..Translation::default()
    };
    for (minute, samples) in (0..).zip(calls) {
        let (count, unix_millis) = (samples.len(), 1_800_000_000_000 + minute * 60_000);
        let values = wait(translation.values(samples, Stamp::of(unix_millis)));
        let posted = values.samples.len() + values.dated.len();
        assert!(posted as u64 + values.dropped <= count as u64, "{posted} and {} of {count}", values.dropped);
        for sample in values.dated.iter().map(|(_, sample)| sample).chain(&values.samples) {
            assert!(sample.value().is_finite() && fits(sample.name().as_str()), "{sample:?}");
            assert!(sample.host().is_none_or(|host| hosts.contains(host)), "{sample:?}");
        }
        assert!(translation.counters.all().len() <= limits.counters && values.warnings.len() <= 7);
        values.warnings.iter().for_each(|warning| assert_short(warning, 1_024));
    }
}
