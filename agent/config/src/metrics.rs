//! The metrics plugins of the configuration: `[plugin.metrics.NAME]`.

use std::sync::Arc;

use containers::Docker;
use official::command::Search;
use official::programs::MetricsProgram;

use crate::table::PluginTable;

/// A table `[plugin.metrics.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsPlugin {
    /// The last part of the table's name.
    pub name: Arc<str>,
    /// What runs.
    pub runs: Metrics,
}

/// What a metrics plugin runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Metrics {
    /// A component: `wasm = "..."`.
    Component(Box<PluginTable>),
    /// A program: `command = "..."`.
    Program(Box<MetricsProgram>),
    /// The command line of an official plugin that the agent can replace.
    Official(Box<OfficialLine>),
}

/// The command line of an official plugin. The program runs where it is installed, else what stands in for it; this is decided each
/// time that the plugins are loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct OfficialLine {
    /// The program.
    pub program: MetricsProgram,
    /// Where a shell would find it.
    pub search: Search,
    /// What runs while it is not installed.
    pub stand_in: StandIn,
    /// What is wrong with the variables in it, which are not set or not expanded, and where it is; `None` if nothing is.
    pub unset: Option<String>,
}

/// What stands in for an official program.
#[derive(Clone, Debug, PartialEq)]
pub enum StandIn {
    /// The component of its name.
    Component(Box<PluginTable>),
    /// The agent's own metrics of containers; or where and why the command line is unsupported.
    Docker(Result<Box<Docker>, String>),
}
