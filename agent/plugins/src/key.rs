//! The key of a plugin instance: its kind and its name. A check and a metrics plugin may have the same name.

use std::fmt;
use std::sync::Arc;

/// The kind of a plugin instance: what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Values, every minute.
    Metrics,
    /// A check, on its own schedule.
    Check,
    /// Metadata, on its own schedule.
    Metadata,
}

impl Kind {
    /// The interface that its component must export.
    #[must_use]
    pub fn export(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Check => "checks",
            Self::Metadata => "metadata",
        }
    }
}

/// `a metrics plugin`, `a check`, `a metadata plugin`.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Metrics => "a metrics plugin",
            Self::Check => "a check",
            Self::Metadata => "a metadata plugin",
        })
    }
}

/// Identifies a plugin instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// The last part of its table's name, or the file's name without `.wasm`.
    pub name: Arc<str>,
}

impl Key {
    /// The key of a metrics plugin.
    #[must_use]
    pub fn metrics(name: &str) -> Self {
        Self { kind: Kind::Metrics, name: name.into() }
    }

    /// The key of a check.
    #[must_use]
    pub fn check(name: &Arc<str>) -> Self {
        Self { kind: Kind::Check, name: Arc::clone(name) }
    }

    /// The key of a metadata plugin.
    #[must_use]
    pub fn metadata(name: &Arc<str>) -> Self {
        Self { kind: Kind::Metadata, name: Arc::clone(name) }
    }
}

/// `plugin web`, `check web`, `metadata web`: in the log, and in the queue's file.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Metrics => "plugin",
            Kind::Check => "check",
            Kind::Metadata => "metadata",
        };
        write!(formatter, "{kind} {}", self.name)
    }
}
