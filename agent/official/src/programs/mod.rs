//! Plugins that are programs: the official agent's protocol, to the letter where it makes sense.
//!
//! [`process`] runs a program to its end, whatever it does; [`lines`] and [`meta`] parse its output. Checks and metadata, which
//! may be programs or components, are in `schedules`.

pub mod lines;
pub mod meta;
pub mod metrics;
pub mod process;

use std::sync::Arc;
use std::time::Duration;

use wasaba_core::posting::Posting;

/// How long a program may run if nothing else is configured, as with the official agent.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The command that is run. There may be secrets in it, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments, run without a shell.
    Words(Vec<String>),
}

/// A configured program.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// The command.
    pub command: Command,
    /// The user that it runs as, through `sudo`; the agent's own user if `None`.
    pub user: Option<String>,
    /// The variables that are added to the agent's own environment.
    pub environment: Vec<(String, String)>,
    /// How long it may run.
    pub timeout: Duration,
}

/// A program that prints metrics: `[plugin.metrics.NAME]` with a `command`.
#[derive(Clone)]
pub struct MetricsProgram {
    /// The last part of the table's name.
    pub name: Arc<str>,
    /// The program.
    pub program: Program,
    /// How its values are posted.
    pub posting: Posting,
    /// Whether the third column of its output is used.
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
