//! A plugin's description: its name, its settings, its graphs.

use crate::bindings::about::exports::wasaba::plugin::about as plugin_wire;
use crate::bindings::metrics::exports::wasaba::plugin::metrics as wire;
use crate::{FromSetting, FromSettings, Settings};

/// A plugin: what the first function that is passed to [`export!`](crate::export) returns.
#[derive(Clone, Debug)]
pub struct Plugin {
    description: plugin_wire::Description,
    graphs: Vec<Graph>,
    graphs_by_settings: Option<fn(&Settings) -> Vec<Graph>>,
    /// Each with the setting and the value that an instance needs for it.
    graphs_if: Vec<(&'static str, &'static str, Graph)>,
}

impl Plugin {
    /// A plugin without settings and graphs. `name`: letters, digits, `-` and `_`. `version`: usually
    /// `env!("CARGO_PKG_VERSION")`. `summary`: one line that says what it collects.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        let description = plugin_wire::Description {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            settings: Vec::new(),
            reach: Vec::new(),
            attributes: Vec::new(),
        };
        Self { description, graphs: Vec::new(), graphs_by_settings: None, graphs_if: Vec::new() }
    }

    /// Says what the plugin reaches through capabilities. Everything else is denied to it, whatever the operator's table grants.
    pub fn reaches(mut self, what: impl IntoIterator<Item = Reach>) -> Self {
        self.description.reach.extend(what.into_iter().map(|what| what.word().to_owned()));
        self
    }

    /// Adds a fact: `license`, `homepage`, `interval-seconds`, `timeout-seconds`, or `agent` for the oldest version of the agent that
    /// the plugin works with.
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.description.attributes.push((key.into(), value.into()));
        self
    }

    /// Adds a fact, if there is one.
    #[doc(hidden)]
    pub fn fact(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.attribute(key, value) }
    }

    /// Adds a setting.
    #[inline(never)]
    pub fn setting(mut self, setting: Setting) -> Self {
        self.description.settings.push(setting.0);
        self
    }

    /// Adds the settings of a struct with `#[derive(Settings)]`.
    pub fn settings<S: FromSettings>(mut self) -> Self {
        self.description.settings.extend(S::declared().into_iter().map(|setting| setting.0));
        self
    }

    /// Adds a graph that an instance has if the operator wrote this value, perhaps among others, for the setting `key`.
    #[inline(never)]
    pub fn graph_if(mut self, key: &'static str, value: &'static str, graph: Graph) -> Self {
        self.graphs_if.push((key, value, graph));
        self
    }

    /// Adds a graph that every instance of the plugin has.
    pub fn graph(mut self, graph: Graph) -> Self {
        self.graphs.push(graph);
        self
    }

    /// Adds graphs that depend on an instance's settings, for example on a key prefix.
    pub fn graphs_by_settings(mut self, graphs: fn(&Settings) -> Vec<Graph>) -> Self {
        self.graphs_by_settings = Some(graphs);
        self
    }

    /// The name given to [`Plugin::new`].
    pub fn name(&self) -> &str {
        &self.description.name
    }

    #[doc(hidden)]
    pub fn into_description(self) -> plugin_wire::Description {
        self.description
    }

    #[doc(hidden)]
    pub fn into_graphs(self, settings: &Settings) -> Vec<wire::Graph> {
        let mut graphs = self.graphs;
        graphs.extend(self.graphs_by_settings.map(|graphs| graphs(settings)).unwrap_or_default());
        let chosen = self.graphs_if.into_iter().filter(|(key, value, _)| settings.all(key).any(|set| set == *value));
        graphs.extend(chosen.map(|(.., graph)| graph));
        graphs.into_iter().map(|graph| graph.0).collect()
    }
}

/// The plugin that this crate is: its name and version are the crate's, its summary is the text, or else the crate's `description`; with the
/// crate's `license` and `homepage`, where `Cargo.toml` has them.
///
/// ```
/// use wasaba_plugin::prelude::*;
///
/// fn describe() -> Plugin {
///     plugin!("jobs and workers of the queue").reaches([Reach::Http])
/// }
/// # assert_eq!(describe().name(), env!("CARGO_PKG_NAME"));
/// ```
#[macro_export]
macro_rules! plugin {
    () => {
        $crate::plugin!(::core::env!("CARGO_PKG_DESCRIPTION"))
    };
    ($summary:expr) => {
        $crate::Plugin::new(::core::env!("CARGO_PKG_NAME"), ::core::env!("CARGO_PKG_VERSION"), $summary)
            .fact("license", ::core::env!("CARGO_PKG_LICENSE"))
            .fact("homepage", ::core::env!("CARGO_PKG_HOMEPAGE"))
    };
}

/// What a plugin may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// HTTP requests.
    Http,
    /// Streams to hosts.
    Tcp,
    /// Streams to unix sockets.
    Unix,
    /// Files.
    File,
}

impl Reach {
    fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::File => "file",
        }
    }
}

/// A setting of a plugin. The constructors are the kinds in the contract, which documents each.
#[derive(Clone, Debug)]
pub struct Setting(plugin_wire::Setting);

macro_rules! kinds {
    ($($name:ident $kind:literal $doc:literal;)*) => {
        impl Setting {
            $(
                #[doc = $doc]
                pub fn $name(key: &str) -> Self {
                    Self::of(key, $kind)
                }
            )*
        }
    };
}

kinds! {
    text "text" "Any text.";
    secret "secret" "Any text that the agent never shows; the plugin gets a [`Secret`](crate::Secret). It has no default.";
    integer "integer" "A whole number that fits `i64`.";
    number "number" "A decimal number.";
    boolean "boolean" "`true` or `false`.";
    duration "duration" "A length of time such as `500ms`, `10s`, `5m`.";
    url "url" "An absolute http or https URL, and the grant to fetch from there.";
    endpoint "endpoint" "A host and a port, `db:5432`, and the grant to connect there.";
    host "host" "A host name or IP address; together with the [`port`](Setting::port) that is [`of`](Setting::of_host) it, a grant.";
    port "port" "A TCP port; together with the host that it is [`of`](Setting::of_host), a grant.";
    unix_socket "unix-socket" "The absolute path of a unix socket, and the grant to connect to it.";
    file "file" "The absolute path of a file, and the grant to read it.";
    tls_skip_verify "tls-skip-verify" "With `true` the agent accepts any certificate on this instance's connections.";
    tls_mode "tls-mode" "How a connection uses TLS: `off`, `encrypt`, `ca` or `full`, and [aliases](Setting::alias) of them.";
}

// The builders are never inlined: `describe` is called once, and its size is loaded with every call.
impl Setting {
    #[inline(never)]
    fn of(key: &str, kind: &str) -> Self {
        Self(plugin_wire::Setting {
            key: key.into(),
            kind: kind.into(),
            default: None,
            required: false,
            repeatable: false,
            port_of: None,
            help: String::new(),
            attributes: Vec::new(),
        })
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn into_key(self) -> String {
        self.0.key
    }

    /// Of a port: the key of its host.
    pub fn of_host(mut self, host: &str) -> Self {
        self.0.port_of = Some(host.into());
        self
    }

    /// Of a `tls_mode`: another word that is valid, and which of the four it means.
    pub fn alias(mut self, word: &str, meaning: &str) -> Self {
        self.0.attributes.push(("aliases".into(), format!("{word}={meaning}")));
        self
    }

    /// The value if the operator sets none.
    #[inline(never)]
    pub fn default(mut self, value: &str) -> Self {
        self.0.default = Some(value.into());
        self
    }

    /// Makes the agent refuse an instance without it.
    pub fn required(mut self) -> Self {
        self.0.required = true;
        self
    }

    /// Allows it more than once; see [`Settings::all`].
    pub fn repeatable(mut self) -> Self {
        self.0.repeatable = true;
        self
    }

    /// The help for the operator: one sentence, lower case, without a full stop.
    #[inline(never)]
    pub fn help(mut self, help: &str) -> Self {
        self.0.help = help.into();
        self
    }
}

/// What Mackerel shows at a graph's axis.
#[expect(missing_docs, reason = "each is its own name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Float,
    Integer,
    Percentage,
    Seconds,
    Milliseconds,
    Bytes,
    BytesPerSecond,
    BitsPerSecond,
    Iops,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Percentage => "percentage",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes-per-second",
            Self::BitsPerSecond => "bits-per-second",
            Self::Iops => "iops",
        }
    }
}

/// A graph on Mackerel.
#[derive(Clone, Debug)]
pub struct Graph(wire::Graph);

impl Graph {
    /// A graph without metrics. `name`: segments joined by dots, without `custom.`; a segment may be `*`, and one `#`.
    pub fn new(name: impl Into<String>, label: impl Into<String>, unit: Unit) -> Self {
        let (name, label) = (name.into(), label.into());
        let unit = unit.word().to_owned();
        Self(wire::Graph { name, label, unit, metrics: Vec::new(), attributes: Vec::new() })
    }

    /// The name given to [`Graph::new`].
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Adds a metric.
    #[inline(never)]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.0.metrics.push(metric.0);
        self
    }
}

/// A line in a graph, and how the agent turns its readings into values.
#[derive(Clone, Debug)]
pub struct Metric(wire::Metric);

impl Metric {
    /// A reading that is posted as it is.
    pub fn gauge(name: &str, label: &str) -> Self {
        Self::of(name, label, "gauge")
    }

    /// A counter whose growth per minute is posted.
    pub fn per_minute(name: &str, label: &str) -> Self {
        Self::of(name, label, "per-minute")
    }

    /// A counter whose growth per second is posted.
    pub fn per_second(name: &str, label: &str) -> Self {
        Self::of(name, label, "per-second")
    }

    /// A counter whose growth since the previous call is posted.
    pub fn delta(name: &str, label: &str) -> Self {
        Self::of(name, label, "delta")
    }

    /// A counter that wraps at 2^32, whose growth per minute is posted.
    pub fn per_minute_32(name: &str, label: &str) -> Self {
        Self::of(name, label, "per-minute-32")
    }

    #[inline(never)]
    fn of(name: &str, label: &str, reading: &str) -> Self {
        Self(wire::Metric {
            name: name.into(),
            label: label.into(),
            stacked: false,
            reading: reading.into(),
            scale: None,
            attributes: Vec::new(),
        })
    }

    /// Stacks it on the graph's other stacked metrics.
    pub fn stacked(mut self) -> Self {
        self.0.stacked = true;
        self
    }

    /// Multiplies the value by `factor`, which must not be 0, after the rate.
    pub fn scale(mut self, factor: f64) -> Self {
        self.0.scale = Some(factor);
        self
    }
}

/// What the names of an instance's metrics and the labels of its graphs begin with. Many official plugins have the setting
/// `metric-key-prefix` for it, so that two instances on one host do not share metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    key: String,
    label: String,
}

impl Prefix {
    const KEY: &str = "metric-key-prefix";

    /// A fixed prefix, for a plugin without that setting.
    pub fn new(key: &str) -> Self {
        Self { key: key.to_owned(), label: title(key) }
    }

    /// The setting `metric-key-prefix` with its default, usually the plugin's name.
    pub fn setting(default: &str) -> Setting {
        Setting::text(Self::KEY).default(default).help("what the metrics' names begin with")
    }

    /// The prefix that the setting has.
    ///
    /// # Errors
    /// [`Error::Misconfigured`](crate::Error::Misconfigured) if no metric's name can begin with it.
    pub fn of(settings: &Settings) -> Result<Self, crate::Error> {
        let key = settings.text(Self::KEY)?;
        let invalid = |valid| crate::misconfigured!("invalid value {key:?} in `{}`: {valid}", Self::KEY);
        Self::from_text(key).map_err(invalid)
    }

    /// A graph without metrics whose name and label begin with the prefix.
    pub fn graph(&self, key: &str, label: &str, unit: Unit) -> Graph {
        Graph::new(self.name(key), format!("{} {label}", self.label), unit)
    }

    /// The full name of what is called `name` under the prefix.
    pub fn name(&self, name: &str) -> String {
        // Neither `format!` nor `concat`, which are slow in the interpreter.
        let mut full = String::with_capacity(self.key.len() + 1 + name.len());
        full.push_str(&self.key);
        full.push('.');
        full.push_str(name);
        full
    }
}

/// A field of a struct with `#[derive(Settings)]`: `#[text(key = "metric-key-prefix", default = "redis")]`.
impl FromSetting for Prefix {
    fn from_text(key: &str) -> Result<Self, String> {
        if key.split('.').any(|part| part.is_empty() || segment(part) != part) {
            return Err("use letters, digits, `-` and `_`, joined by dots".to_owned());
        }
        Ok(Self::new(key))
    }
}

/// A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`, and so does an empty text.
#[must_use]
pub fn segment(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let valid = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    text.chars().map(|char| if valid(char) { char } else { '_' }).collect()
}

/// A prefix as it appears in the labels of the official plugins: the first letter of each word in upper case, the others unchanged.
/// A hyphen begins a new word, `_` and `.` do not. Prefixes are ASCII, like all names of metrics.
fn title(text: &str) -> String {
    let mut begins = true;
    let mut title = String::with_capacity(text.len());
    for char in text.chars() {
        title.push(if begins { char.to_ascii_uppercase() } else { char });
        begins = char == '-' || (begins && !char.is_ascii_alphabetic());
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_no_character_that_mackerel_refuses() {
        assert_eq!(segment("config|get my.db-1/日"), "config_get_my_db-1__");
        assert_eq!(segment(""), "_");
    }

    #[test]
    fn a_prefix_begins_names_and_labels_and_an_invalid_one_is_refused() {
        let of = |text| Prefix::of(&Settings::from([("metric-key-prefix", text)]));
        let prefix = of("my-db.a").unwrap();
        assert_eq!((prefix.name("size.total"), prefix.label.as_str()), ("my-db.a.size.total".to_owned(), "My-Db.a"));
        for invalid in ["", "a b", "a..b", "a.", "日本"] {
            assert!(
                matches!(of(invalid), Err(crate::Error::Misconfigured(text)) if text.contains("metric-key-prefix")),
                "{invalid}"
            );
        }
    }

    #[test]
    fn a_title_is_capitalized_as_in_the_official_plugins() {
        for (text, expected) in
            [("postgres", "Postgres"), ("redis6379", "Redis6379"), ("my-redis_a.bC", "My-Redis_a.bC"), ("1a", "1A")]
        {
            assert_eq!(title(text), expected);
        }
    }
}
