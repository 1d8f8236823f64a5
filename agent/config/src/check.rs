//! The checks and metadata plugins of the configuration.

use std::sync::Arc;
use std::time::Duration;

use official::programs::Program;

use crate::table::PluginTable;

/// What runs a check or collects metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Runner {
    /// A program.
    Program(Program),
    /// A component.
    Component(Box<PluginTable>),
}

impl Runner {
    /// The program, unless it is a component.
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
    /// What runs it.
    pub runner: Runner,
    /// The interval from the start of one run to that of the next.
    pub every: Duration,
    /// After how many minutes Mackerel notifies again.
    pub notification_interval_minutes: Option<u64>,
    /// The number of consecutive reports other than OK that raise an alert.
    pub max_check_attempts: Option<u32>,
    /// Whether only a person closes alerts: then no OK is reported.
    pub prevents_auto_close: bool,
    /// A program to run after each run of the check.
    pub action: Option<Program>,
    /// The operator's note, shown on Mackerel's page of the host.
    pub memo: Option<String>,
    /// The custom identifier of the host that it is reported for, if not this one.
    pub custom_identifier: Option<Arc<str>>,
}

/// A configured metadata plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The last part of `[plugin.metadata.NAME]`: the namespace on Mackerel.
    pub name: Arc<str>,
    /// What collects it.
    pub runner: Runner,
    /// The interval from one run to the next.
    pub every: Duration,
}
