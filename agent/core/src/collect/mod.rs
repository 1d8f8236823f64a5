//! The frame around everything that is collected: what a collector is, and the minute that asks all of them.
//!
//! A collector only says what it read or what went wrong. The frame gives it a time, a thread and a deadline, names it in
//! the log, and keeps a late, failing or panicking one from costing the others anything.

mod graphs;
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

/// One source of host metrics. It keeps its own state between two minutes; it never sleeps, spawns or logs.
pub trait Collector: Send {
    /// Reads once. Called once a minute, on a thread that may block: a collector that hangs is late, but alone.
    ///
    /// # Errors
    /// What could not be read, as a lower-case fragment; the frame adds the collector's name. Having nothing to say
    /// (no such device, first reading of a counter) is no error but an empty list.
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault>;

    /// What the last [`Collector::collect`] had to skip although it gave samples: one lower-case fragment each, in the same
    /// words as long as the same thing is wrong, so that the frame can log each once and not every minute.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What a source gave in one minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Its values.
    pub samples: Vec<Sample>,
    /// Values that are of other times than the question's, in seconds since 1970.
    pub dated: Vec<(i64, Sample)>,
    /// Where its counters stand, for a source that does not keep them itself; under names of its own choosing.
    pub readings: Vec<(String, rate::Reading)>,
    /// What it keeps from now on, if that has changed; all of it, by key.
    pub kept: Option<Kept>,
    /// What went wrong although there are values.
    pub warnings: Vec<String>,
}

/// All that one source keeps for itself, by key.
pub type Kept = Arc<BTreeMap<String, Vec<u8>>>;

/// Why a collector has no values this time; a fragment without its collector's name, in the order outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl Fault {
    /// A fault in reading `path`.
    pub fn reading(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self(format!("cannot read `{}`: {error}", path.display()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}
