//! What a plugin collects, in parts: those that every instance has, and extras that the operator adds with the setting `extra`.

use crate::{Error, Graph, Metric, Prefix, Sample, Setting, Settings, Unit};

/// The setting that names extra parts.
const EXTRA: &str = "extra";

/// The extra part that needs no reading: whether the target answers.
const UP: &str = "up";

/// A part of what a plugin collects: its name, its graphs, and how it is read.
#[derive(Clone, Copy, Debug)]
pub struct Part<R> {
    /// For an extra part, what the operator writes: lower-case words joined by `-`.
    pub name: &'static str,
    /// Its graph definitions, with names under the prefix.
    pub graphs: fn(&Prefix) -> Vec<Graph>,
    /// How it is read. The plugin chooses the type: a function of the page, or a query and a function of its rows. All parts of an
    /// instance are read together, so that the target is asked once.
    pub read: R,
}

/// Readings by the metrics' names without the prefix: the graph's key, a dot, the metric's name.
pub type Values = Vec<(String, f64)>;

/// All parts of a plugin. It declares the setting `extra`, checks it, and makes graph definitions and samples of the parts that an
/// instance has: the lists below are the only place that names a part.
///
/// ```
/// use wasaba_plugin::{
///     Error, Metric, Part, Parts, Plugin, Prefix, Reach, Sample, Setting, Settings, Unit, Values, http,
/// };
///
/// wasaba_plugin::export!(describe, collect);
///
/// /// What every instance has.
/// const ALWAYS: &[Part<Read>] = &[Part {
///     name: "jobs",
///     graphs: |prefix| vec![prefix.graph("jobs", "Jobs", Unit::Integer).metric(Metric::gauge("waiting", "Waiting"))],
///     read: |page| vec![("jobs.waiting".to_owned(), page.lines().count() as f64)],
/// }];
///
/// /// What `extra = ["size"]` adds.
/// const EXTRA: &[Part<Read>] = &[Part {
///     name: "size",
///     graphs: |prefix| vec![prefix.graph("size", "Size", Unit::Bytes).metric(Metric::gauge("page", "Page"))],
///     read: |page| vec![("size.page".to_owned(), page.len() as f64)],
/// }];
///
/// /// How a part is read: from the page with all jobs.
/// type Read = fn(&str) -> Values;
///
/// /// With `extra = ["up"]` a target that is down is the value 0, not an error.
/// const PARTS: Parts<Read> = Parts::new(Prefix::of, ALWAYS, EXTRA).with_up("Up");
///
/// fn describe() -> Plugin {
///     Plugin::new("queue", "1.0.0", "jobs in the queue")
///         .reaches([Reach::Http])
///         .setting(Setting::url("url").default("http://localhost:7000/jobs").help("page with a line for each job"))
///         .setting(Prefix::setting("queue"))
///         .setting(PARTS.setting())
///         .graphs_by_settings(|settings| PARTS.graphs(settings))
/// }
///
/// fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
///     PARTS.collect(settings, |parts| {
///         let page = http::get(settings.text("url")?).send()?;
///         let page = page.text()?;
///         Ok(parts.iter().flat_map(|part| (part.read)(page)).collect())
///     })
/// }
/// # let settings = Settings::from([("metric-key-prefix", "queue"), ("extra", "syze")]);
/// # let error = collect(&settings).unwrap_err();
/// # let expected = "unknown value \"syze\" in `extra`, did you mean \"size\"? valid: up, size";
/// # assert_eq!(error, Error::Misconfigured(expected.to_owned()));
/// # assert_eq!(PARTS.graphs(&Settings::from([("metric-key-prefix", "queue"), ("extra", "size")])).len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Parts<R: 'static> {
    prefix: fn(&Settings) -> Result<Prefix, Error>,
    always: &'static [Part<R>],
    extra: &'static [Part<R>],
    up: Option<&'static str>,
}

impl<R> Parts<R> {
    /// Parts under a prefix: [`Prefix::of`] for the one that the operator writes, `|_| Ok(Prefix::new("queue"))` for a fixed one.
    pub const fn new(
        prefix: fn(&Settings) -> Result<Prefix, Error>,
        always: &'static [Part<R>],
        extra: &'static [Part<R>],
    ) -> Self {
        Self { prefix, always, extra, up: None }
    }

    /// Adds the extra part `up`, a graph with this label: see [`up`](fn@crate::up).
    pub const fn with_up(self, label: &'static str) -> Self {
        Self { up: Some(label), ..self }
    }

    /// The setting `extra`, with all that it may name in its help.
    pub fn setting(&self) -> Setting {
        let names = self.extras().join(", ");
        Setting::text(EXTRA).repeatable().help(&format!("additional metrics to collect: {names}"))
    }

    /// All that `extra` may name.
    pub fn extras(&self) -> Vec<&'static str> {
        let mut names = Vec::with_capacity(1 + self.extra.len());
        names.extend(self.up.map(|_| UP));
        names.extend(self.extra.iter().map(|part| part.name));
        names
    }

    /// The graph definitions of an instance; none if its settings are invalid, which `collect` reports.
    pub fn graphs(&self, settings: &Settings) -> Vec<Graph> {
        let Ok(prefix) = (self.prefix)(settings) else { return Vec::new() };
        let extra = self.named(settings).unwrap_or_default();
        let mut graphs = Vec::new();
        for part in self.chosen(&extra) {
            graphs.extend((part.graphs)(&prefix));
        }
        if let Some(label) = self.up.filter(|_| extra.contains(&UP)) {
            let up = Metric::gauge("up", "Up (1: yes, 0: no)");
            graphs.push(prefix.graph("up", label, Unit::Integer).metric(up));
        }
        graphs
    }

    /// The samples of an instance. `read` gets the parts that it has, and reads all of them.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] for an unknown part or an invalid prefix; and the error of `read`, unless `up` makes a value of it.
    pub fn collect(
        &self,
        settings: &Settings,
        read: impl FnOnce(&[&'static Part<R>]) -> Result<Values, Error>,
    ) -> Result<Vec<Sample>, Error> {
        let extra = self.named(settings)?;
        let prefix = (self.prefix)(settings)?;
        let sample = |(name, value): (String, f64)| Sample::new(prefix.name(&name), value);
        let samples = read(&self.chosen(&extra)).map(|values| values.into_iter().map(sample).collect());
        if extra.contains(&UP) { crate::up(&prefix.name("up.up"), samples) } else { samples }
    }

    /// The extra parts that the operator named.
    fn named(&self, settings: &Settings) -> Result<Vec<&'static str>, Error> {
        settings.known_of(EXTRA, &self.extras())
    }

    fn chosen(&self, extra: &[&str]) -> Vec<&'static Part<R>> {
        let mut parts = self.always.iter().collect::<Vec<_>>();
        parts.extend(self.extra.iter().filter(|part| extra.contains(&part.name)));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plugin;

    type Read = fn() -> Values;

    const ALWAYS: &[Part<Read>] = &[Part {
        name: "jobs",
        graphs: |prefix| vec![prefix.graph("jobs", "Jobs", Unit::Integer)],
        read: || vec![("jobs.waiting".to_owned(), 3.0)],
    }];

    const EXTRA: &[Part<Read>] = &[
        Part {
            name: "size",
            graphs: |prefix| vec![prefix.graph("size", "Size", Unit::Bytes)],
            read: || vec![("size.page".to_owned(), 5.0)],
        },
        Part {
            name: "age",
            graphs: |prefix| vec![prefix.graph("age", "Age", Unit::Seconds)],
            read: || vec![("age.oldest".to_owned(), 7.0)],
        },
    ];

    const PARTS: Parts<Read> = Parts::new(Prefix::of, ALWAYS, EXTRA);

    fn settings(prefix: &str, extra: &[&str]) -> Settings {
        let extra = extra.iter().map(|name| ("extra".to_owned(), (*name).to_owned()));
        Settings::from(
            [("metric-key-prefix".to_owned(), prefix.to_owned())].into_iter().chain(extra).collect::<Vec<_>>(),
        )
    }

    fn graphs(parts: &Parts<Read>, settings: &Settings) -> Vec<String> {
        parts.graphs(settings).into_iter().map(|graph| graph.name().to_owned()).collect()
    }

    fn samples(settings: &Settings) -> Result<Vec<Sample>, Error> {
        PARTS.collect(settings, |parts| Ok(parts.iter().flat_map(|part| (part.read)()).collect()))
    }

    #[test]
    fn an_extra_part_has_graphs_and_samples_only_where_it_is_named() {
        let none = settings("q", &[]);
        assert_eq!(graphs(&PARTS, &none), ["q.jobs"]);
        assert_eq!(samples(&none), Ok(vec![Sample::new("q.jobs.waiting", 3.0)]));
        let age = settings("my-q", &["age"]);
        assert_eq!(graphs(&PARTS, &age), ["my-q.jobs", "my-q.age"]);
        assert_eq!(samples(&age), Ok(vec![Sample::new("my-q.jobs.waiting", 3), Sample::new("my-q.age.oldest", 7)]));
    }

    #[test]
    fn extra_parts_come_in_the_order_of_the_list_and_each_once() {
        let twice = settings("q", &["age", "size", "age"]);
        assert_eq!(graphs(&PARTS, &twice), ["q.jobs", "q.size", "q.age"]);
        assert_eq!(samples(&twice).map(|samples| samples.len()), Ok(3));
    }

    #[test]
    fn up_is_a_graph_only_where_the_plugin_has_it_and_the_operator_names_it() {
        let with_up = PARTS.with_up("Up");
        assert_eq!(graphs(&with_up, &settings("q", &["up"])), ["q.jobs", "q.up"]);
        assert_eq!(graphs(&with_up, &settings("q", &[])), ["q.jobs"]);
        assert!(matches!(samples(&settings("q", &["up"])), Err(Error::Misconfigured(_))));
    }

    #[test]
    fn an_unknown_part_or_an_invalid_prefix_is_refused_before_anything_is_read() {
        let untouched = |settings| PARTS.with_up("Up").collect(&settings, |_| panic!("it was read"));
        let expected = "unknown value \"sise\" in `extra`, did you mean \"size\"? valid: up, size, age";
        assert_eq!(untouched(settings("q", &["sise"])), Err(Error::Misconfigured(expected.to_owned())));
        assert!(matches!(untouched(settings("a b", &[])), Err(Error::Misconfigured(_))));
    }

    #[test]
    fn the_help_of_extra_names_each_part() {
        let plugin = Plugin::new("q", "1", "").setting(PARTS.with_up("Up").setting());
        let settings = plugin.into_description().settings;
        let help = settings.iter().map(|setting| (setting.key.as_str(), setting.help.as_str())).collect::<Vec<_>>();
        assert_eq!(help, [("extra", "additional metrics to collect: up, size, age")]);
    }

    #[test]
    fn the_error_of_a_reading_stays_what_it_is() {
        let down = Error::Unreachable("no answer".into());
        assert_eq!(PARTS.collect(&settings("q", &[]), |_| Err(down.clone())), Err(down));
    }
}
