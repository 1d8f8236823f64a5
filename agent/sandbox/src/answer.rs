//! The answers of a plugin, whichever version of the contract it speaks: readings and the graphs they belong to, the reports of
//! checks, the documents of metadata. The contract's manual (`wit/metrics.wit`, `wit/checks.wit`, `wit/metadata.wit`) explains each.

use wasaba_core::collect::rate::Count;
use wasaba_core::report::Status;

use crate::failure::Failure;

/// What one call has read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The values.
    pub samples: Vec<Sample>,
    /// The targets without values, of several.
    pub problems: Vec<Problem>,
}

/// One value that a plugin has read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The graph's name, a dot, the metric's name.
    pub name: String,
    /// The value that it read, which may be NaN or infinite.
    pub value: Count,
    /// When it was read, in seconds since 1970, if not now.
    pub unix_seconds: Option<u64>,
    /// The custom identifier of its host, if it is not the one of the table.
    pub host: Option<String>,
    /// Its labels, which Mackerel does not have.
    pub labels: Vec<(String, String)>,
}

/// One of several targets failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The target, safe to show.
    pub target: String,
    /// Why, safe to show.
    pub failure: Failure,
}

/// A graph that an instance can fill.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Segments joined by dots, without `custom.`; a segment may be `*` or `#`.
    pub name: String,
    /// Its title.
    pub label: String,
    /// The unit at its axis.
    pub unit: Unit,
    /// Its lines.
    pub metrics: Vec<Metric>,
}

/// A line in a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// One segment, or `*` for any.
    pub name: String,
    /// The legend; empty for the name.
    pub label: String,
    /// Whether it is stacked on the others.
    pub stacked: bool,
    /// How its samples become values; the contract's `reading`.
    pub interpretation: Interpretation,
    /// The value is multiplied by this.
    pub scale: f64,
}

/// How a sample becomes the value that is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpretation {
    /// Posted unchanged.
    Gauge,
    /// A counter, of which the growth is posted.
    Delta,
    /// A counter, of which the growth per minute is posted.
    PerMinute,
    /// A counter, of which the growth per second is posted.
    PerSecond,
    /// As per minute, of a counter that wraps at 2^32.
    PerMinute32,
}

impl Interpretation {
    /// Every way, with its word in the contract.
    pub const WORDS: &[(&str, Self)] = &[
        ("gauge", Self::Gauge),
        ("delta", Self::Delta),
        ("per-minute", Self::PerMinute),
        ("per-second", Self::PerSecond),
        ("per-minute-32", Self::PerMinute32),
    ];

    /// Its word in the contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, interpretation)| *interpretation == self).map_or("", |(word, _)| *word)
    }
}

/// The unit at a graph's axis.
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
    /// Every unit, with its word in the contract.
    pub const WORDS: &[(&str, Self)] = &[
        ("float", Self::Float),
        ("integer", Self::Integer),
        ("percentage", Self::Percentage),
        ("seconds", Self::Seconds),
        ("milliseconds", Self::Milliseconds),
        ("bytes", Self::Bytes),
        ("bytes-per-second", Self::BytesPerSecond),
        ("bits-per-second", Self::BitsPerSecond),
        ("iops", Self::Iops),
    ];

    /// Its word in the contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, unit)| *unit == self).map_or("", |(word, _)| *word)
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which of the plugin's checks it is of; empty for the table's own.
    pub name: String,
    /// The result.
    pub status: Status,
    /// The message for the alert, without secrets.
    pub message: String,
}

/// What one call has gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// The documents.
    pub documents: Vec<Document>,
    /// The targets without documents, of several.
    pub problems: Vec<Problem>,
}

/// A document of metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its namespace; empty for the table's own.
    pub namespace: String,
    /// Its content, without secrets.
    pub json: serde_json::Value,
}
