//! The configuration of one component: a plugin table, or the file beside the component.

use std::sync::Arc;

use wasaba_core::limits::{Engine, Limits};
use wasaba_core::posting::Posting;

use crate::raw::RawSettings;

/// A configured component.
#[derive(Clone, Default)]
pub struct PluginTable {
    /// The last part of `[plugin.metrics.NAME]`, or the file's name.
    pub name: String,
    /// The component: a name or a path.
    pub wasm: String,
    /// The required SHA-256 of the component's file, in hexadecimal digits.
    pub digest: Option<String>,
    /// Its settings and grants, not yet resolved.
    pub raw: RawSettings,
    /// What runs it.
    pub engine: Engine,
    /// The limits of a call.
    pub limits: Arc<Limits>,
    /// How its values are posted.
    pub posting: Posting,
    /// The custom identifiers of the hosts that its samples may name.
    pub hosts: Vec<Arc<str>>,
}

/// Omits the settings, which may contain secrets.
impl std::fmt::Debug for PluginTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, wasm, engine, .. } = self;
        write!(formatter, "PluginTable({name:?}, {wasm:?}, {engine})")
    }
}

impl PartialEq for PluginTable {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.wasm, &self.digest, &self.raw, self.engine, &self.limits)
            == (&other.name, &other.wasm, &other.digest, &other.raw, other.engine, &other.limits)
            && (&self.posting, &self.hosts) == (&other.posting, &other.hosts)
    }
}
