//! From a plugin's samples to the values that are posted: unchanged, or the growth per minute or second, scaled, renamed and
//! filtered. How much work that is depends on the plugin, so it is done in the plugin's call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sandbox::answer::{self, Interpretation, Unit};
use sandbox::failure::Failure;
use sandbox::turn::end_turn;
use wasaba_core::collect::rate::{Reading, growth};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::limits::Limits;
use wasaba_core::posting::Posting;
use wasaba_core::sample::{MetricName, Sample};

/// More warnings than this about one call would only fill the log.
const MOST_WARNINGS: usize = 5;

/// A longer title or legend is not drawn anyway.
const LONGEST_LABEL_BYTES: usize = 1_024;

/// How the samples of one instance become values, from its graph definitions.
#[derive(Debug, Default)]
pub struct Rules(Node);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    /// Its place among all; the first that matches counts.
    number: usize,
    interpretation: Interpretation,
    scale: f64,
}

/// The rules by the segments of their names.
#[derive(Debug, Default)]
struct Node {
    rule: Option<Rule>,
    named: HashMap<Box<str>, Node>,
    /// Below `*` or `#`, which stand for any segment.
    any: Option<Box<Node>>,
}

impl Node {
    fn put(&mut self, pattern: &str, rule: Rule) {
        let node = pattern.split('.').fold(self, |node, segment| match segment {
            "*" | "#" => node.any.get_or_insert_default(),
            _ => node.named.entry(segment.into()).or_default(),
        });
        node.rule.get_or_insert(rule);
    }

    /// The first rule that matches. Visits each node once at most, since each is reached by one path.
    fn find(&self, name: &str) -> Option<Rule> {
        let mut nodes = vec![self];
        for segment in name.split('.') {
            let mut next = Vec::new();
            for node in nodes {
                next.extend(node.named.get(segment));
                next.extend(node.any.as_deref());
            }
            nodes = next;
            if nodes.is_empty() {
                return None;
            }
        }
        nodes.iter().filter_map(|node| node.rule).min_by_key(|rule| rule.number)
    }
}

impl Rules {
    /// The rules of these graphs, and the graph definitions for Mackerel, with `renamed` names.
    ///
    /// # Errors
    /// There are too many, Mackerel would refuse a name, or a scale is not finite.
    pub fn of(
        graphs: &[answer::Graph],
        limits: &Limits,
        renamed: impl Fn(&str) -> String,
    ) -> Result<(Self, Vec<GraphDefinition>), String> {
        within(graphs, limits)?;
        let mut rules = Self::default();
        let mut definitions = Vec::new();
        let mut number = 0_usize;
        for graph in graphs {
            bounded(&graph.name, MetricName::MAX_BYTES, "a graph's name")?;
            bounded(&graph.label, LONGEST_LABEL_BYTES, "a graph's title")?;
            let mut definition = GraphDefinition::new(&renamed(&graph.name), &graph.label, unit(graph.unit))?;
            for metric in &graph.metrics {
                bounded(&metric.name, MetricName::MAX_BYTES, "a metric's name")?;
                bounded(&metric.label, LONGEST_LABEL_BYTES, "a metric's legend")?;
                definition = definition.with_metric(&metric.name, &metric.label, metric.stacked)?;
                let pattern = format!("{}.{}", graph.name, metric.name);
                if !metric.scale.is_finite() {
                    return Err(format!("the scale of `{pattern}` is not a finite number"));
                }
                let rule = Rule { number, interpretation: metric.interpretation, scale: metric.scale };
                rules.0.put(&pattern, rule);
                number = number.saturating_add(1);
            }
            definitions.push(definition);
        }
        Ok((rules, definitions))
    }
}

/// Whether the graphs and metrics are not too many.
///
/// # Errors
/// The limit that was exceeded.
fn within(graphs: &[answer::Graph], limits: &Limits) -> Result<(), String> {
    if graphs.len() > limits.graphs {
        return Err(Failure::limit("graphs", &format!("{} graphs, more than {}", graphs.len(), limits.graphs)).text);
    }
    let metrics = graphs.iter().map(|graph| graph.metrics.len()).sum::<usize>();
    if metrics > limits.metrics {
        return Err(Failure::limit("metrics", &format!("{metrics} metrics, more than {}", limits.metrics)).text);
    }
    Ok(())
}

fn bounded(text: &str, most_bytes: usize, what: &str) -> Result<(), String> {
    let bytes = text.len();
    if bytes > most_bytes { Err(format!("{what} has {bytes} bytes, more than {most_bytes}")) } else { Ok(()) }
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

/// The last readings of an instance's counters, by the plugin's own names. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<HashMap<String, Reading>>>);

impl Counters {
    /// All readings.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Reading)> {
        self.lock().iter().map(|(name, reading)| (name.clone(), *reading)).collect()
    }

    /// Adds readings of an earlier time.
    pub fn extend(&self, readings: impl IntoIterator<Item = (String, Reading)>) {
        self.lock().extend(readings);
    }

    /// Replaces the readings by those of another instance.
    pub fn clone_from(&self, other: &Self) {
        let others = other.lock().clone();
        *self.lock() = others;
    }

    fn get(&self, name: &str) -> Option<Reading> {
        self.lock().get(name).copied()
    }

    /// Drops what is too old to give a rate with a reading of `unix_millis`, and takes over the `new` readings, up to `most` in
    /// all. Returns those that it has taken over.
    fn take(&self, new: Vec<(String, Reading)>, most: usize, unix_millis: i64) -> Vec<(String, Reading)> {
        let mut kept = self.lock();
        // A counter that is missing this time, since its target is down, may continue from its last reading.
        kept.retain(|_, reading| reading.is_fresh(unix_millis));
        let mut taken = Vec::new();
        for (name, reading) in new {
            if kept.contains_key(&name) || kept.len() < most {
                kept.insert(name.clone(), reading);
                taken.push((name, reading));
            }
        }
        let room = kept.len().saturating_mul(2);
        kept.shrink_to(room);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of one answer of a plugin.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// The values to post, with `custom.`.
    pub samples: Vec<Sample>,
    /// The counters' current readings, for the next minute's rates.
    pub readings: Vec<(String, Reading)>,
    /// Why samples were skipped.
    pub warnings: Vec<String>,
}

/// What an instance's samples are translated with. Clones share it.
#[derive(Clone, Default)]
pub struct Translation {
    /// How samples become values.
    pub rules: Arc<Rules>,
    /// The counters' readings.
    pub counters: Counters,
    /// How the values are named, and which are wanted.
    pub posting: Arc<Posting>,
    /// The limits of the instance.
    pub limits: Arc<Limits>,
}

impl Translation {
    /// Makes values of the samples that a plugin returned at `unix_millis`. Part of the plugin's call: others have their turns in
    /// between.
    pub async fn values(&self, samples: Vec<answer::Sample>, unix_millis: i64) -> Values {
        let mut values = Values::default();
        let (mut warnings, mut readings) = (Warnings::default(), Vec::new());
        let mut turn = Instant::now();
        for sample in samples {
            if turn.elapsed() > TURN {
                end_turn().await;
                turn = Instant::now();
            }
            match self.value(sample, unix_millis, &mut readings) {
                Ok(sample) => values.samples.extend(sample),
                Err(why) => warnings.push(why),
            }
        }
        let read = readings.len();
        values.readings = self.counters.take(readings, self.limits.counters, unix_millis);
        if let Some(skipped @ 1..) = read.checked_sub(values.readings.len()) {
            let most = self.limits.counters;
            warnings.push(format!("skipped {skipped} counters: {most} are kept already (limit `counters`)"));
        }
        values.warnings = warnings.shown();
        values
    }

    /// The value of one sample, if it has one this time and is wanted.
    fn value(
        &self,
        sample: answer::Sample,
        unix_millis: i64,
        readings: &mut Vec<(String, Reading)>,
    ) -> Result<Option<Sample>, String> {
        let answer::Sample { name, value } = sample;
        // The name first: nothing is kept under one that cannot be posted.
        let name = MetricName::new(name).map_err(|error| error.to_string())?;
        if !value.is_finite() {
            return Err(format!("the value of `{name}` is not a finite number"));
        }
        let posted = self.posting.renamed(name.as_str());
        if !self.posting.wants(&posted) {
            return Ok(None);
        }
        let (bytes, most) = (posted.len(), self.limits.name_bytes);
        if bytes > most {
            return Err(format!("skipped a name of {bytes} bytes, more than {most} (limit `name_bytes`)"));
        }
        let posted = MetricName::new(format!("custom.{posted}")).map_err(|error| error.to_string())?;
        // A metric in no graph is posted unchanged, as by the official agent.
        let rule = self.rules.0.find(name.as_str());
        let (interpretation, scale) =
            rule.map_or((Interpretation::Gauge, 1.0), |rule| (rule.interpretation, rule.scale));
        let mut rate = |unit| {
            let now = Reading { value, unix_millis };
            let before = self.counters.get(name.as_str());
            readings.push((name.as_str().to_owned(), now));
            before.and_then(|before| growth(before, now, Duration::from_secs(unit)))
        };
        let value = match interpretation {
            Interpretation::Gauge => Some(value),
            Interpretation::PerMinute => rate(60),
            Interpretation::PerSecond => rate(1),
        };
        let Some(value) = value else { return Ok(None) };
        let sample = Sample::of(posted, value * scale).map_err(|error| error.to_string())?;
        Ok(Some(match &self.posting.custom_identifier {
            Some(host) => sample.of_host(host),
            None => sample,
        }))
    }
}

/// How long samples are translated before others may have their turns.
const TURN: Duration = Duration::from_millis(2);

/// The first warnings, and how many there were.
#[derive(Default)]
struct Warnings {
    first: Vec<String>,
    more: usize,
}

impl Warnings {
    fn push(&mut self, warning: String) {
        if self.first.len() < MOST_WARNINGS {
            self.first.push(warning)
        } else {
            self.more = self.more.saturating_add(1)
        }
    }

    fn shown(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more", self.more));
        }
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, interpretation: Interpretation, scale: f64) -> answer::Metric {
        answer::Metric { name: name.into(), label: String::new(), stacked: false, interpretation, scale }
    }

    fn graph(name: &str, metrics: Vec<answer::Metric>) -> answer::Graph {
        answer::Graph { name: name.into(), label: String::new(), unit: Unit::Float, metrics }
    }

    fn translation(metrics: &[(&str, Interpretation, f64)]) -> Translation {
        let metrics = metrics.iter().map(|(name, how, scale)| metric(name, *how, *scale)).collect();
        of(&[graph("web.#", metrics)], Limits::default())
    }

    fn of(graphs: &[answer::Graph], limits: Limits) -> Translation {
        let (rules, _) = Rules::of(graphs, &limits, str::to_owned).unwrap();
        Translation { rules: Arc::new(rules), limits: Arc::new(limits), ..Translation::default() }
    }

    fn sample(name: &str, value: f64) -> answer::Sample {
        answer::Sample { name: name.into(), value }
    }

    fn posted(values: &Values) -> Vec<(&str, f64)> {
        values.samples.iter().map(|sample| (sample.name().as_str(), sample.value())).collect()
    }

    #[tokio::test]
    async fn a_counter_has_no_value_until_its_second_reading() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let first = translation.values(vec![sample("web.a.hits", 100.0)], 0).await;
        assert_eq!(posted(&first), []);
        let second = translation.values(vec![sample("web.a.hits", 130.0)], 30_000).await;
        assert_eq!(posted(&second), [("custom.web.a.hits", 60.0)]);
        let reset = translation.values(vec![sample("web.a.hits", 5.0)], 90_000).await;
        assert_eq!(posted(&reset), []);
    }

    #[tokio::test]
    async fn the_rate_is_scaled() {
        let translation =
            translation(&[("bytes", Interpretation::PerSecond, 8.0), ("ratio", Interpretation::Gauge, 100.0)]);
        let samples = |bytes| vec![sample("web.a.bytes", bytes), sample("web.a.ratio", 0.5)];
        translation.values(samples(0.0), 0).await;
        let second = translation.values(samples(10.0), 10_000).await;
        assert_eq!(posted(&second), [("custom.web.a.bytes", 8.0), ("custom.web.a.ratio", 50.0)]);
    }

    #[tokio::test]
    async fn an_invalid_sample_is_skipped_with_a_warning() {
        let given =
            vec![sample("日本", 1.0), sample("nan", f64::NAN), sample("a\u{1b}", f64::INFINITY), sample("good", 1.0)];
        let values = translation(&[]).values(given, 0).await;
        assert_eq!(posted(&values), [("custom.good", 1.0)]);
        assert_eq!(values.warnings.len(), 3);
        assert!(!values.warnings.concat().contains('\u{1b}'));
    }

    #[tokio::test]
    async fn no_reading_is_kept_under_a_name_that_is_not_posted() {
        let mut translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let posting = Posting { exclude: Some(regex_lite::Regex::new("excluded").unwrap()), ..Posting::default() };
        translation.posting = Arc::new(posting);
        let long = format!("web.a.{}", "x".repeat(8_000));
        let given = [long.as_str(), "web.a.日本", "web..hits", "web.a.excluded", "web.a.hits"];
        let values = translation.values(given.map(|name| sample(name, 1.0)).to_vec(), 0).await;
        assert_eq!(values.readings.len(), 1, "{:?}", values.readings);
        assert_eq!(translation.counters.all(), values.readings);
    }

    #[tokio::test]
    async fn names_that_live_briefly_are_kept_as_long_as_a_rate_needs_them() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        for minute in 0..60 {
            let names = (0..100).map(|number| sample(&format!("web.m{minute}.c{number}"), 1.0)).collect();
            let values = translation.values(names, minute * 60_000).await;
            assert_eq!(values.readings.len(), 100, "only what changed is written");
            assert!(translation.counters.all().len() <= 1_100);
        }
    }

    #[tokio::test]
    async fn counters_over_the_limit_are_skipped_and_the_known_ones_go_on() {
        let metrics = vec![metric("*", Interpretation::PerMinute, 1.0)];
        let translation = of(&[graph("web", metrics)], Limits { counters: 2, ..Limits::default() });
        let samples = |value| ["a", "b", "c"].map(|name| sample(&format!("web.{name}"), value)).to_vec();
        let first = translation.values(samples(0.0), 0).await;
        assert!(first.warnings[0].contains("skipped 1 counters") && first.warnings[0].contains("`counters`"));
        let second = translation.values(samples(5.0), 60_000).await;
        assert_eq!(posted(&second), [("custom.web.a", 5.0), ("custom.web.b", 5.0)]);
    }

    #[test]
    fn the_first_metric_that_matches_counts_wherever_its_wildcards_are() {
        let gauges = |names: &[&str]| names.iter().map(|name| metric(name, Interpretation::Gauge, 1.0)).collect();
        let graphs = [
            graph("a.#", gauges(&["x", "*"])),
            graph("#.b", gauges(&["x", "y"])),
            graph("a.b", gauges(&["*", "z"])),
            graph("*", gauges(&["*"])),
        ];
        let (rules, _) = Rules::of(&graphs, &Limits::default(), str::to_owned).unwrap();
        let patterns = ["a.#.x", "a.#.*", "#.b.x", "#.b.y", "a.b.*", "a.b.z", "*.*"];
        for name in ["a.b.x", "a.b.z", "c.b.x", "c.b.y", "c.b.z", "a.c.x", "a.c.w", "a.b", "a", "a.b.x.y", "", "."] {
            let expected = patterns.iter().position(|pattern| wasaba_core::wildcard::matches(pattern, name));
            assert_eq!(rules.0.find(name).map(|rule| rule.number), expected, "{name}");
        }
    }

    #[test]
    fn finding_a_metric_visits_no_more_nodes_than_its_segments_whatever_the_number_of_metrics() {
        let metrics = (0..2_000).map(|number| metric(&format!("m{number}"), Interpretation::Gauge, 1.0)).collect();
        let (rules, _) = Rules::of(&[graph("web", metrics)], &Limits::default(), str::to_owned).unwrap();
        let web = &rules.0.named["web"];
        assert_eq!((rules.0.named.len(), web.named.len(), web.any.is_none()), (1, 2_000, true));
        assert_eq!(rules.0.find("web.m1999").map(|rule| rule.number), Some(1_999));
    }

    #[test]
    fn too_many_graphs_or_metrics_and_texts_that_are_too_long_are_refused_by_name() {
        let gauges = |count| (0..count).map(|number| metric(&number.to_string(), Interpretation::Gauge, 1.0)).collect();
        let limits = Limits::default();
        let most = (0..limits.graphs).map(|number| graph(&format!("g{number}"), gauges(10))).collect::<Vec<_>>();
        let refused = |graphs: &[answer::Graph]| Rules::of(graphs, &Limits::default(), str::to_owned).err();
        assert_eq!(refused(&most), None);
        let with = |other: answer::Graph| [&most[1..], &[other]].concat();
        for (graphs, expected) in [
            ([&most[..], &[graph("more", Vec::new())]].concat(), "201 graphs, more than 200 (limit `graphs`)"),
            (with(graph("more", gauges(11))), "2001 metrics, more than 2000 (limit `metrics`)"),
            (with(graph(&"a.".repeat(1 << 20), Vec::new())), "a graph's name has 2097152 bytes, more than 255"),
            (
                with(answer::Graph { label: "x".repeat(1 << 20), ..graph("more", Vec::new()) }),
                "title has 1048576 bytes",
            ),
        ] {
            let why = refused(&graphs).unwrap_or_default();
            assert!(why.contains(expected), "{why}");
        }
    }
}
