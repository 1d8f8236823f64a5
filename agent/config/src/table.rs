//! What the operator wrote about one plugin instance, in the configuration or in a file beside the component.

use std::sync::Arc;

use wasaba_core::limits::{Engine, Limits};
use wasaba_core::posting::Posting;

use crate::raw::RawSettings;

/// A configured plugin.
#[derive(Clone, Default)]
pub struct PluginTable {
    /// The last part of `[plugin.metrics.NAME]`, or the file's name.
    pub name: String,
    /// Which component: a name or a path.
    pub wasm: String,
    /// The SHA-256 that the component's file must have, in hexadecimal digits.
    pub digest: Option<String>,
    /// Its settings and grants as they were written.
    pub raw: RawSettings,
    /// What runs it.
    pub engine: Engine,
    /// What a call may take.
    pub limits: Arc<Limits>,
    /// How its values are posted.
    pub posting: Posting,
}

/// Without the settings: there may be secrets in them.
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
            && self.posting == other.posting
    }
}
