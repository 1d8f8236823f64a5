//! The frame around everything that is collected: what a collector is, and the loop that asks all of them every minute.
//!
//! A collector only returns what it read or what went wrong. The frame gives it a time, a thread and a deadline, names it in
//! the log, and keeps a late, failing or panicking one from affecting the others.

mod claims;
mod graphs;
pub mod health;
pub mod memory;
pub mod outcomes;
pub mod rate;
pub mod readers;
pub mod registry;
pub mod rounds;
pub mod source;
pub mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use crate::clock::Moment;
use crate::sample::Sample;

/// Collects one family of the host's metrics. It keeps its own state from minute to minute; it never sleeps, spawns or logs.
pub trait Collector: Send {
    /// Reads once. Called once a minute, on a thread that may block: a collector that hangs is late, but alone.
    ///
    /// # Errors
    /// What could not be read, as a lower-case fragment; the frame adds the collector's name. Without values
    /// (no such device, first reading of a counter) it is not an error but an empty list.
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault>;

    /// What the last [`Collector::collect`] had to skip although it returned samples: one lower-case fragment each, in the same
    /// words as long as the same thing is wrong, so that the frame can log each once and not every minute.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What a source returned for one minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Its values.
    pub samples: Vec<Sample>,
    /// Values with times of their own, in seconds since 1970.
    pub dated: Vec<(i64, Sample)>,
    /// The readings of its counters, if it does not keep them itself; under names of its own choosing.
    pub readings: Vec<(String, rate::Reading)>,
    /// What it stores from now on, if that has changed; all of it, by key.
    pub kept: Option<Arc<StoredValues>>,
    /// What was skipped although there are values.
    pub warnings: Vec<String>,
}

/// Everything that one plugin instance has stored, by key.
pub type StoredValues = BTreeMap<String, Vec<u8>>;

/// Why a collector has no values this time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// A fragment without its collector's name, outermost cause first.
    pub text: String,
    /// For how long the source is skipped because of it, as an addition to the text; empty if it is not. It grows with each failure, so
    /// the log has the first one only.
    pub pause: String,
    /// Whether other sources have caused it. The log names those together.
    pub is_of_others: bool,
}

impl Fault {
    /// A fault that the source is not skipped for.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A fault in reading `path`.
    pub fn reading(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(format!("cannot read `{}`: {error}", path.display()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.text, self.pause)
    }
}

impl std::error::Error for Fault {}
