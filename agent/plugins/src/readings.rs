//! From a plugin's samples to the values that are posted: unchanged, or the growth per minute or second, scaled, renamed and
//! filtered. How much work that is depends on the plugin, so it is done in the plugin's call.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox::answer::{self, Interpretation, Unit};
use sandbox::failure::Failure;
use sandbox::turn::end_turn;
use wasaba_core::clock::{self, Stamp};
use wasaba_core::collect::rate::{Reading, delta, growth, growth_of_32_bits};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::limits::Limits;
use wasaba_core::posting::Posting;
use wasaba_core::sample::{MetricName, Sample};
use wasaba_core::secret::Secrets;
use wasaba_core::text::{Dropped, counted};
use wasaba_core::wildcard::Tree;

/// The longest name or label of a graph, and the longest label of a metric.
const LONGEST_TEXT_BYTES: usize = 255;

/// How the samples of one instance become values, from its graph definitions.
#[derive(Debug, Default)]
pub struct Rules(Tree<Option<Rule>>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    /// Its place among all; the first that matches counts.
    number: usize,
    interpretation: Interpretation,
    scale: f64,
}

impl Rules {
    /// The first rule that a name matches.
    fn find(&self, name: &str) -> Option<Rule> {
        let found = self.0.find(name, usize::MAX)?.into_iter();
        found.filter_map(|(_, rule)| *rule).min_by_key(|rule| rule.number)
    }

    /// The rules of these graphs, and the graph definitions for Mackerel, with `renamed` names.
    ///
    /// # Errors
    /// There are too many, Mackerel would refuse a name, or a text is too long.
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
            let texts = graph.metrics.iter().map(|metric| &metric.label).chain([&graph.name, &graph.label]);
            if let Some(long) = texts.map(String::len).find(|bytes| *bytes > LONGEST_TEXT_BYTES) {
                return Err(format!("a name or label has {long} bytes, more than {LONGEST_TEXT_BYTES}"));
            }
            let mut definition = GraphDefinition::new(&renamed(&graph.name), &graph.label, unit(graph.unit))?;
            for metric in &graph.metrics {
                if metric.name.len() > LONGEST_TEXT_BYTES {
                    let bytes = metric.name.len();
                    return Err(format!("a metric's name has {bytes} bytes, more than {LONGEST_TEXT_BYTES}"));
                }
                definition = definition.with_metric(&metric.name, &metric.label, metric.stacked)?;
                let pattern = format!("{}.{}", graph.name, metric.name);
                let rule = Rule { number, interpretation: metric.interpretation, scale: metric.scale };
                rules.0.entry(&pattern).get_or_insert(rule);
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
    fn take(&self, new: BTreeMap<String, Reading>, most: usize, unix_millis: i64) -> Vec<(String, Reading)> {
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
    /// Those with a time of their own, in seconds since 1970.
    pub dated: Vec<(i64, Sample)>,
    /// The counters' current readings, for the next minute's rates.
    pub readings: Vec<(String, Reading)>,
    /// Why samples were dropped.
    pub warnings: Vec<String>,
    /// How many were dropped.
    pub dropped: u64,
}

/// The oldest and the newest time of a sample: Mackerel stores what is less than a day old when it arrives, and an hour is for the way
/// there; the clocks of two machines may differ by a minute.
const OLDEST_SECONDS: i64 = 23 * 60 * 60;
const AHEAD_SECONDS: i64 = 60;

/// Why a sample is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Why {
    NoGraph,
    Secret,
    Name,
    Long,
    Host,
    Time,
    NotFinite,
}

impl Why {
    /// What the samples called `names` have in common, and the cure.
    fn line(self, count: u64, names: &str) -> String {
        // Of one sample, of several, and the cure.
        let (one, what, cure) = match self {
            Self::NoGraph => (
                "fits no metric of the plugin's graphs",
                "fit no metric of the plugin's graphs",
                "its author has to declare them in `graphs`",
            ),
            Self::Secret => ("has a secret in its name", "have a secret in their name", "its author has to remove it"),
            Self::Name => {
                ("has an invalid name", "have an invalid name", "use segments of A-Z a-z 0-9 _ -, joined by dots")
            }
            Self::Long => (
                "has too long a name (limit `name_bytes`)",
                "have too long a name (limit `name_bytes`)",
                "its author has to shorten it",
            ),
            Self::Host => (
                "names a host that is not granted",
                "name a host that is not granted",
                "write its custom identifier into `hosts` of the table",
            ),
            Self::Time => (
                "is more than 23 hours old or from the future",
                "are more than 23 hours old or from the future",
                "compare the clocks",
            ),
            Self::NotFinite => ("is not a finite number", "are not a finite number", "the plugin has to omit them"),
        };
        let what = if count == 1 { one } else { what };
        format!("dropped {} that {what}: {names}; {cure}", counted(count, "sample"))
    }
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
    /// The hosts in the operator's table that samples may name, by their custom identifiers.
    pub hosts: Arc<[Arc<str>]>,
    /// The secrets that no name may contain.
    pub secrets: Secrets,
    /// The limits of the instance.
    pub limits: Arc<Limits>,
}

/// How long samples are translated before others may have their turns.
const TURN: Duration = Duration::from_millis(2);

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

impl Translation {
    /// Makes values of the samples that a plugin returned `now`, the time of those that have none. Part of the plugin's
    /// call: others have their turns in between.
    pub async fn values(&self, samples: Vec<answer::Sample>, now: Stamp) -> Values {
        let mut values = Values::default();
        let (mut dropped, mut read) = (Dropped::hiding(&self.secrets), BTreeMap::new());
        let mut turn = clock::instant();
        for sample in samples {
            if clock::since(turn) > TURN {
                end_turn().await;
                turn = clock::instant();
            }
            match self.value(&sample, now, &mut read) {
                Ok(Some((Some(time), posted))) => values.dated.push((time, posted)),
                Ok(Some((None, posted))) => values.samples.push(posted),
                Ok(None) => {}
                Err(why) => dropped.add(why, &sample.name),
            }
        }
        let count = read.len();
        values.readings = self.counters.take(read, self.limits.counters, now.steady_millis);
        values.dropped = dropped.count();
        values.warnings = dropped.lines(Why::line);
        if let Some(skipped @ 1..) = count.checked_sub(values.readings.len()) {
            let most = self.limits.counters;
            values.warnings.push(format!("skipped {skipped} counters: {most} are kept already (limit `counters`)"));
        }
        values
    }

    /// The value of one sample, if it has one this time and is wanted, and its own time, if it has one.
    fn value(
        &self,
        sample: &answer::Sample,
        now: Stamp,
        read: &mut BTreeMap<String, Reading>,
    ) -> Result<Option<(Option<i64>, Sample)>, Why> {
        let answer::Sample { name, value, unix_seconds, host, labels: _ } = sample;
        // What fits no graph of the plugin's own could be another plugin's metric.
        let Rule { interpretation, scale, .. } = self.rules.find(name).ok_or(Why::NoGraph)?;
        if self.secrets.are_in(name) {
            return Err(Why::Secret);
        }
        // Nothing is kept under a name that cannot be posted.
        let name = MetricName::new(name.as_str()).map_err(|_| Why::Name)?;
        let granted = host.as_ref().map(|host| self.hosts.iter().find(|granted| ***granted == **host));
        let granted = granted.map(|granted| granted.ok_or(Why::Host)).transpose()?;
        let time = unix_seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let now_seconds = now.unix_millis.div_euclid(1_000);
        let plausible = now_seconds.saturating_sub(OLDEST_SECONDS)..=now_seconds.saturating_add(AHEAD_SECONDS);
        if time.is_some_and(|time| !plausible.contains(&time)) {
            return Err(Why::Time);
        }
        if !value.as_f64().is_finite() {
            return Err(Why::NotFinite);
        }
        let posted = self.posting.renamed(name.as_str());
        if !self.posting.wants(&posted) {
            return Ok(None);
        }
        if posted.len() > self.limits.name_bytes {
            return Err(Why::Long);
        }
        let posted = MetricName::new(format!("custom.{posted}")).map_err(|_| Why::Name)?;
        let mut counted = |growth: &dyn Fn(Reading, Reading) -> Option<f64>| {
            let unix_millis = time.map_or(now.unix_millis, |time| time.saturating_mul(1_000));
            let now = Reading { value: *value, unix_millis }.ahead_by(-now.step_millis());
            let key = host.as_ref().map_or_else(|| name.to_string(), |host| format!("{name} {host}"));
            let before = self.counters.get(&key);
            let last = read.insert(key, now).or(before);
            last.and_then(|last| growth(last, now))
        };
        let value = match interpretation {
            Interpretation::Gauge => Some(value.as_f64()),
            Interpretation::Delta => counted(&delta),
            Interpretation::PerMinute => counted(&|last, now| growth(last, now, MINUTE)),
            Interpretation::PerSecond => counted(&|last, now| growth(last, now, SECOND)),
            Interpretation::PerMinute32 => counted(&|last, now| growth_of_32_bits(last, now, MINUTE)),
        };
        let Some(value) = value else { return Ok(None) };
        let sample = Sample::of(posted, value * scale).map_err(|_| Why::NotFinite)?;
        Ok(Some(match granted.or(self.posting.custom_identifier.as_ref()) {
            Some(host) => (time, sample.of_host(host)),
            None => (time, sample),
        }))
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::collect::rate::Count;

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

    fn sample(name: &str, value: impl Into<Count>) -> answer::Sample {
        let value = value.into();
        answer::Sample { name: name.into(), value, unix_seconds: None, host: None, labels: Vec::new() }
    }

    fn posted(values: &Values) -> Vec<(&str, f64)> {
        values.samples.iter().map(|sample| (sample.name().as_str(), sample.value())).collect()
    }

    #[tokio::test]
    async fn a_clock_that_is_set_changes_no_rate_of_samples_with_or_without_a_time() {
        let metrics = [("hits", Interpretation::PerMinute, 1.0)];
        for step_millis in [-3_600_000, -30_000, 0, 30_000, 3_600_000] {
            let translation = translation(&metrics);
            let begin = 1_800_000_000_000;
            translation.values(vec![sample("web.a.hits", 100.0)], Stamp::of(begin)).await;
            let later = Stamp { unix_millis: begin + 60_000 + step_millis, steady_millis: begin + 60_000 };
            let values = translation.values(vec![sample("web.a.hits", 130.0)], later).await;
            assert_eq!(values.samples.iter().map(Sample::value).collect::<Vec<_>>(), [30.0], "{step_millis}");

            let dated = |count, stamp: Stamp| answer::Sample {
                unix_seconds: Some(stamp.unix_millis as u64 / 1_000),
                ..sample("web.b.hits", count)
            };
            translation.values(vec![dated(0.0, Stamp::of(begin))], Stamp::of(begin)).await;
            let values = translation.values(vec![dated(10.0, later)], later).await;
            assert_eq!(
                values.dated.iter().map(|(_, sample)| sample.value()).collect::<Vec<_>>(),
                [10.0],
                "{step_millis}"
            );
        }
    }

    #[tokio::test]
    async fn a_counter_has_no_value_until_its_second_reading() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let first = translation.values(vec![sample("web.a.hits", 100.0)], Stamp::of(0)).await;
        assert_eq!(posted(&first), []);
        let second = translation.values(vec![sample("web.a.hits", 130.0)], Stamp::of(30_000)).await;
        assert_eq!(posted(&second), [("custom.web.a.hits", 60.0)]);
        let reset = translation.values(vec![sample("web.a.hits", 5.0)], Stamp::of(90_000)).await;
        assert_eq!(posted(&reset), []);
    }

    #[tokio::test]
    async fn the_rate_is_scaled() {
        let translation =
            translation(&[("bytes", Interpretation::PerSecond, 8.0), ("ratio", Interpretation::Gauge, 100.0)]);
        let samples = |bytes: f64| vec![sample("web.a.bytes", bytes), sample("web.a.ratio", 0.5)];
        translation.values(samples(0.0), Stamp::of(0)).await;
        let second = translation.values(samples(10.0), Stamp::of(10_000)).await;
        assert_eq!(posted(&second), [("custom.web.a.bytes", 8.0), ("custom.web.a.ratio", 50.0)]);
    }

    #[tokio::test]
    async fn each_way_of_reading_a_counter_has_its_own_growth() {
        let ways = [
            ("delta", Interpretation::Delta, 30.0),
            ("minute", Interpretation::PerMinute, 60.0),
            ("second", Interpretation::PerSecond, 1.0),
            ("wraps", Interpretation::PerMinute32, 60.0),
        ];
        let samples =
            |count: u64| ways.map(|(name, ..)| sample(&format!("web.a.{name}"), Count::Whole(count))).to_vec();
        let after = async |count| {
            let translation = translation(&ways.map(|(name, way, _)| (name, way, 1.0)));
            translation.values(samples(4_294_967_290), Stamp::of(0)).await;
            translation.values(samples(count), Stamp::of(30_000)).await
        };
        let grown = after(4_294_967_320).await;
        assert_eq!(posted(&grown).iter().map(|(_, value)| *value).collect::<Vec<_>>(), ways.map(|(.., value)| value));
        // 4,294,967,320 is 24 after a wrap.
        assert_eq!(posted(&after(24).await), [("custom.web.a.wraps", 60.0)]);
    }

    #[tokio::test]
    async fn a_whole_counter_beyond_the_exact_range_of_floats_keeps_its_growth() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let samples = |count| vec![sample("web.a.hits", Count::Whole(count))];
        translation.values(samples((1 << 60) + 1), Stamp::of(0)).await;
        let second = translation.values(samples((1 << 60) + 4), Stamp::of(60_000)).await;
        assert_eq!(posted(&second), [("custom.web.a.hits", 3.0)]);
    }

    #[tokio::test]
    async fn what_fits_no_graph_of_the_plugin_is_dropped_and_reported_with_three_names() {
        let given = (0..5).map(|number| sample(&format!("docker.n{number}"), 1.0)).chain([sample("web.a.good", 1.0)]);
        let values = translation(&[("good", Interpretation::Gauge, 1.0)]).values(given.collect(), Stamp::of(0)).await;
        assert_eq!((posted(&values), values.dropped), (vec![("custom.web.a.good", 1.0)], 5));
        let expected = "dropped 5 samples that fit no metric of the plugin's graphs: `docker.n0`, `docker.n1`, `docker.n2` and 2 \
                        more; its author has to declare them in `graphs`";
        assert_eq!(values.warnings, [expected]);
    }

    #[tokio::test]
    async fn an_invalid_sample_is_dropped_with_a_warning_and_leaves_no_reading() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let long = format!("web.a.{}", "x".repeat(8_000));
        let given = vec![
            sample("web.日本.x", 1.0),
            sample("web.a\u{1b}.x", 1.0),
            sample(&long, 1.0),
            sample("web.a.nan", f64::NAN),
        ];
        let values = translation.values(given, Stamp::of(0)).await;
        assert_eq!((values.samples.len(), values.readings.len(), values.dropped), (0, 0, 4));
        assert!(translation.counters.all().is_empty());
        let warnings = values.warnings.join("\n");
        assert!(
            warnings.contains("3 samples that have an invalid name") && warnings.contains("`web.a.nan`"),
            "{warnings}"
        );
        assert!(!warnings.contains('\u{1b}') && warnings.len() < 1_000, "{warnings}");
    }

    #[tokio::test]
    async fn a_sample_of_another_host_needs_the_operators_word_and_has_a_rate_of_its_own() {
        let mut translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        translation.hosts = Arc::new(["db1".into(), "db2".into()]);
        let of = |host: &str, count: f64| answer::Sample { host: Some(host.into()), ..sample("web.a.hits", count) };
        translation.values(vec![of("db1", 1.0), of("db2", 5.0), sample("web.a.hits", 9.0)], Stamp::of(0)).await;
        let second = vec![of("db1", 2.0), of("db2", 7.0), of("mail", 1.0), sample("web.a.hits", 12.0)];
        let second = translation.values(second, Stamp::of(60_000)).await;
        let found = second.samples.iter().map(|sample| (sample.host().map(|host| &**host), sample.value()));
        assert_eq!(found.collect::<Vec<_>>(), [(Some("db1"), 1.0), (Some("db2"), 2.0), (None, 3.0)]);
        assert!(second.dropped == 1 && second.warnings[0].contains("`hosts`"), "{:?}", second.warnings);
    }

    #[tokio::test]
    async fn a_sample_keeps_its_own_time_within_23_hours_and_its_rate_is_between_the_times_of_the_readings() {
        let metrics = [("*", Interpretation::PerMinute, 1.0), ("gauge", Interpretation::Gauge, 1.0)];
        let at_time = |unix_seconds, count: f64| answer::Sample {
            unix_seconds: Some(unix_seconds),
            ..sample("web.a.hits", count)
        };
        let now = 1_000_000_000;
        let given = vec![at_time(999_700, 1.0), at_time(999_760, 4.0), at_time(999_820, 9.0)];
        let backlog = translation(&metrics).values(given, Stamp::of(now)).await;
        let found = backlog.dated.iter().map(|(time, sample)| (*time, sample.value())).collect::<Vec<_>>();
        assert_eq!(found, [(999_760, 3.0), (999_820, 5.0)]);
        for (unix_seconds, dropped) in
            [(917_200, 0), (917_199, 1), (1_000_060, 0), (1_000_061, 1), (u64::MAX, 1), (0, 1)]
        {
            let one = translation(&metrics).values(vec![at_time(unix_seconds, 1.0)], Stamp::of(now)).await;
            assert_eq!(one.dropped, dropped, "{unix_seconds}");
        }
    }

    #[tokio::test]
    async fn a_name_over_the_limit_is_dropped_and_the_limit_named() {
        let gauges = vec![metric("*", Interpretation::Gauge, 1.0)];
        let translation = of(&[graph("web", gauges)], Limits { name_bytes: 8, ..Limits::default() });
        let values = translation.values(vec![sample("web.long", 1.0), sample("web.longer", 1.0)], Stamp::of(0)).await;
        assert_eq!((posted(&values), values.dropped), (vec![("custom.web.long", 1.0)], 1));
        assert!(values.warnings[0].contains("limit `name_bytes`"), "{:?}", values.warnings);
    }

    #[tokio::test]
    async fn no_reading_is_kept_under_a_name_that_is_not_posted() {
        let mut translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        let posting = Posting { exclude: Some(regex_lite::Regex::new("excluded").unwrap()), ..Posting::default() };
        translation.posting = Arc::new(posting);
        let long = format!("web.a.{}", "x".repeat(8_000));
        let given = [long.as_str(), "web.a.日本", "web..hits", "web.a.excluded", "web.a.hits"];
        let values = translation.values(given.map(|name| sample(name, 1.0)).to_vec(), Stamp::of(0)).await;
        assert_eq!(values.readings.len(), 1, "{:?}", values.readings);
        assert_eq!(translation.counters.all(), values.readings);
    }

    #[tokio::test]
    async fn names_that_live_briefly_are_kept_as_long_as_a_rate_needs_them() {
        let translation = translation(&[("*", Interpretation::PerMinute, 1.0)]);
        for minute in 0..60 {
            let names = (0..100).map(|number| sample(&format!("web.m{minute}.c{number}"), 1.0)).collect();
            let values = translation.values(names, Stamp::of(minute * 60_000)).await;
            assert_eq!(values.readings.len(), 100, "only what changed is written");
            assert!(translation.counters.all().len() <= 1_100);
        }
    }

    #[tokio::test]
    async fn counters_over_the_limit_are_skipped_and_the_known_ones_go_on() {
        let metrics = vec![metric("*", Interpretation::PerMinute, 1.0)];
        let translation = of(&[graph("web", metrics)], Limits { counters: 2, ..Limits::default() });
        let samples = |value| ["a", "b", "c"].map(|name| sample(&format!("web.{name}"), value)).to_vec();
        let first = translation.values(samples(0.0), Stamp::of(0)).await;
        assert!(first.warnings[0].contains("skipped 1 counters") && first.warnings[0].contains("`counters`"));
        let second = translation.values(samples(5.0), Stamp::of(60_000)).await;
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
            assert_eq!(rules.find(name).map(|rule| rule.number), expected, "{name}");
        }
    }

    #[test]
    fn finding_a_metric_visits_no_more_nodes_than_its_segments_whatever_the_number_of_metrics() {
        let metrics = (0..2_000).map(|number| metric(&format!("m{number}"), Interpretation::Gauge, 1.0)).collect();
        let (rules, _) = Rules::of(&[graph("web", metrics)], &Limits::default(), str::to_owned).unwrap();
        assert_eq!(rules.0.find("web.m1999", 2).map(|found| found.len()), Some(1));
        assert_eq!(rules.find("web.m1999").map(|rule| rule.number), Some(1_999));
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
            (with(graph(&"a.".repeat(1 << 20), Vec::new())), "a name or label has 2097152 bytes, more than 255"),
            (
                with(answer::Graph { label: "x".repeat(1 << 20), ..graph("more", Vec::new()) }),
                "label has 1048576 bytes",
            ),
        ] {
            let why = refused(&graphs).unwrap_or_default();
            assert!(why.contains(expected), "{why}");
        }
    }
}
