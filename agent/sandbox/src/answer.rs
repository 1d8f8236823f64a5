//! The answers of a plugin, whichever version of the contract it speaks: samples and the graphs they belong to, and the report
//! of a check. The contract's manual (`wit/metrics.wit`, `wit/checks.wit`) explains each.

use wasaba_core::report::Status;

/// One value that a plugin has read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The graph's name, a dot, the metric's name.
    pub name: String,
    /// The value that it read, which may be NaN or infinite.
    pub value: f64,
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
    /// A counter, of which the growth per minute is posted.
    PerMinute,
    /// A counter, of which the growth per second is posted.
    PerSecond,
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

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The result.
    pub status: Status,
    /// The message for the alert, of any length.
    pub message: String,
}
