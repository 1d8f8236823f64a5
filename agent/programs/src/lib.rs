//! Plugins that are programs: the official agent's protocol, to the letter where it makes sense.
//!
//! [`process`] runs one to its end, whatever it does; [`lines`] and [`meta`] read what it printed. Checks and metadata, which
//! may be programs or components, are in rooms of their own.

pub mod lines;
pub mod meta;
pub mod metrics;
pub mod process;

use std::sync::Arc;
use std::time::Duration;

use wasaba_core::posting::Posting;

/// How long a program may run if nothing else is configured, as with the official agent.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is run. There may be secrets in it, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments, run as they are.
    Words(Vec<String>),
}

/// A program as it was configured.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// What is run.
    pub command: Command,
    /// As whom, by `sudo`; as the agent's own user if none is named.
    pub user: Option<String>,
    /// What its environment has beside the agent's own.
    pub environment: Vec<(String, String)>,
    /// How long it may run.
    pub timeout: Duration,
}

/// A program that prints metrics: `[plugin.metrics.NAME]` with a `command`.
#[derive(Clone)]
pub struct MetricsProgram {
    /// The last part of the table's name.
    pub name: Arc<str>,
    /// What is run.
    pub program: Program,
    /// How its values are posted.
    pub posting: Posting,
    /// Whether the third column of what it prints counts.
    pub own_timestamps: bool,
}

impl PartialEq for MetricsProgram {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.program, self.own_timestamps) == (&other.name, &other.program, other.own_timestamps)
            && self.posting == other.posting
    }
}

/// Without the command and the environment: there may be secrets in them.
impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Program({:?}, {:?})", self.user, self.timeout)
    }
}

impl std::fmt::Debug for MetricsProgram {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MetricsProgram({:?}, {:?})", self.name, self.program)
    }
}
