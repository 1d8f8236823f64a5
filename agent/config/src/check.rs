//! Checks and metadata plugins as they were configured, and what runs them.

use std::sync::Arc;
use std::time::Duration;

use programs::Program;

use crate::table::PluginTable;

/// What runs a check or tells metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Runner {
    /// A program.
    Program(Program),
    /// A component.
    Component(Box<PluginTable>),
}

impl Runner {
    /// The program, if it is one.
    pub fn program_mut(&mut self) -> Option<&mut Program> {
        match self {
            Self::Program(program) => Some(program),
            Self::Component(_) => None,
        }
    }
}

/// A configured check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The last part of `[plugin.checks.NAME]`.
    pub name: Arc<str>,
    /// What finds it out.
    pub runner: Runner,
    /// How often, from the start of one run to that of the next.
    pub every: Duration,
    /// After how many minutes Mackerel tells a person again.
    pub notification_interval_minutes: Option<u64>,
    /// How many reports in a row that are not OK make an alert.
    pub max_check_attempts: Option<u32>,
    /// Whether alerts are closed by a person only: then nothing is said when all is well.
    pub prevents_auto_close: bool,
    /// What is run after each run of it.
    pub action: Option<Program>,
    /// What its operator wrote about it, for Mackerel's page of the host.
    pub memo: Option<String>,
    /// The host on Mackerel that it is about, if it is another one than this.
    pub custom_identifier: Option<Arc<str>>,
}

/// A configured metadata plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The last part of `[plugin.metadata.NAME]`, which is its namespace on Mackerel.
    pub name: Arc<str>,
    /// What tells it.
    pub runner: Runner,
    /// How often it is asked.
    pub every: Duration,
}
