//! A plugin's description: its name, its settings, its graphs.

use crate::Settings;
use crate::Unit;
use crate::bindings::metrics::exports::wasaba::plugin::metrics as wire;
use crate::bindings::plugin::exports::wasaba::plugin::plugin::{self as plugin_wire, SettingKind};

/// A plugin: what the first function that is passed to [`export!`](crate::export) returns.
#[derive(Clone, Debug)]
pub struct Plugin {
    description: plugin_wire::Description,
    graphs: Vec<Graph>,
    graphs_by_settings: Option<fn(&Settings) -> Vec<Graph>>,
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
            attributes: Vec::new(),
        };
        Self { description, graphs: Vec::new(), graphs_by_settings: None }
    }

    /// Adds a setting.
    pub fn setting(mut self, setting: Setting) -> Self {
        self.description.settings.push(setting.0);
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
        let by_settings = self.graphs_by_settings.map(|graphs| graphs(settings)).unwrap_or_default();
        self.graphs.into_iter().chain(by_settings).map(|graph| graph.0).collect()
    }
}

/// A setting of a plugin. The constructors are the kinds in the contract, which documents each.
#[derive(Clone, Debug)]
pub struct Setting(plugin_wire::Setting);

macro_rules! kinds {
    ($($name:ident $kind:ident $doc:literal;)*) => {
        impl Setting {
            $(
                #[doc = $doc]
                pub fn $name(key: &str) -> Self {
                    Self::of(key, SettingKind::$kind)
                }
            )*
        }
    };
}

kinds! {
    text Text "Any text.";
    secret Secret "Any text that the agent never shows.";
    integer Integer "A whole number that fits `i64`.";
    number Number "A decimal number.";
    boolean Boolean "`true` or `false`.";
    duration Duration "A length of time such as `500ms`, `10s`, `5m`.";
    url Url "An absolute http or https URL, and the grant to fetch from there.";
    host Host "A host name or IP address; together with the `port` setting of the same prefix, a grant.";
    port Port "A TCP port; together with the `host` setting of the same prefix, a grant.";
    unix_socket UnixSocket "The absolute path of a unix socket, and the grant to connect to it.";
    file File "The absolute path of a file, and the grant to read it.";
    tls_skip_verify TlsSkipVerify "With `true` the agent accepts any certificate on this instance's connections.";
    tls_mode TlsMode "How a connection uses TLS, in PostgreSQL's words: `disable` to `verify-full`.";
}

impl Setting {
    fn of(key: &str, kind: SettingKind) -> Self {
        let (default, help) = (None, String::new());
        Self(plugin_wire::Setting { key: key.into(), kind, default, required: false, repeatable: false, help })
    }

    /// The value if the operator sets none.
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
    pub fn help(mut self, help: &str) -> Self {
        self.0.help = help.into();
        self
    }
}

/// A graph on Mackerel.
#[derive(Clone, Debug)]
pub struct Graph(wire::Graph);

impl Graph {
    /// A graph without metrics. `name`: segments joined by dots, without `custom.`; a segment may be `*`, and one `#`.
    pub fn new(name: impl Into<String>, label: impl Into<String>, unit: Unit) -> Self {
        let (name, label) = (name.into(), label.into());
        Self(wire::Graph { name, label, unit, metrics: Vec::new(), attributes: Vec::new() })
    }

    /// The name given to [`Graph::new`].
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Adds a metric.
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
        Self::of(name, label, wire::Reading::Gauge)
    }

    /// A counter whose growth per minute is posted.
    pub fn per_minute(name: &str, label: &str) -> Self {
        Self::of(name, label, wire::Reading::PerMinute)
    }

    /// A counter whose growth per second is posted.
    pub fn per_second(name: &str, label: &str) -> Self {
        Self::of(name, label, wire::Reading::PerSecond)
    }

    fn of(name: &str, label: &str, reading: wire::Reading) -> Self {
        Self(wire::Metric { name: name.into(), label: label.into(), stacked: false, reading, scale: 1.0 })
    }

    /// Stacks it on the graph's other stacked metrics.
    pub fn stacked(mut self) -> Self {
        self.0.stacked = true;
        self
    }

    /// Multiplies the value by `factor`, after the rate.
    pub fn scale(mut self, factor: f64) -> Self {
        self.0.scale = factor;
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
        if key.split('.').any(|part| part.is_empty() || segment(part) != part) {
            let valid = "letters, digits, `-` and `_`, joined by dots";
            return Err(crate::Error::Misconfigured(format!("invalid value {key:?} in `{}`: use {valid}", Self::KEY)));
        }
        Ok(Self::new(key))
    }

    /// A graph without metrics whose name and label begin with the prefix.
    pub fn graph(&self, key: &str, label: &str, unit: Unit) -> Graph {
        Graph::new(self.name(key), format!("{} {label}", self.label), unit)
    }

    /// The full name of what is called `name` under the prefix.
    pub fn name(&self, name: &str) -> String {
        // Not `format!`, which is slow in the interpreter.
        [&self.key, ".", name].concat()
    }
}

/// A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`.
#[must_use]
pub fn segment(text: &str) -> String {
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
