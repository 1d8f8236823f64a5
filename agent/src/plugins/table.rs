//! What the operator wrote about one plugin instance, in the configuration or in a file beside the component.

use std::time::Duration;

use super::engine::Engine;
use super::settings::Written;
use crate::capabilities::limits::Limits;

/// A configured plugin.
#[derive(Clone, PartialEq, Eq)]
pub struct PluginTable {
    /// The last part of `[plugin.metrics.NAME]`, or the file's name.
    pub name: String,
    /// Which component: a name or a path.
    pub wasm: String,
    /// Its settings and grants as they were written.
    pub written: Written,
    /// What runs it.
    pub engine: Engine,
    /// How long one call may take, if not as long as by default.
    pub timeout: Option<Duration>,
}

/// Without the settings: there may be secrets in them.
impl std::fmt::Debug for PluginTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, wasm, engine, timeout, .. } = self;
        write!(formatter, "PluginTable({name:?}, {wasm:?}, {engine}, {timeout:?})")
    }
}

impl PluginTable {
    /// The default limits, with those that were written.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = Limits::default();
        Limits { time: self.timeout.unwrap_or(limits.time), ..limits }
    }
}
