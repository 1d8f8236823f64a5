//! The operator's selection: which file systems, disks and interfaces have metrics, and under which names.

use std::sync::{Arc, Mutex, PoisonError};

use regex_lite::Regex;

/// Patterns of the names to ignore, and how the rest is named.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// File systems, by the name that `df` gives: `/dev/sda1`.
    pub filesystems: Option<Regex>,
    /// Disks, by their segment in metric names: `sda1`.
    pub disks: Option<Regex>,
    /// Interfaces, by their segment in metric names: `eth0`.
    pub interfaces: Option<Regex>,
    /// Whether file systems and their disks are named by mount point.
    pub use_mountpoint: bool,
}

impl Selection {
    /// Whether `name` has metrics, given the pattern of what to ignore.
    #[must_use]
    pub fn wants(ignore: Option<&Regex>, name: &str) -> bool {
        ignore.is_none_or(|ignore| !ignore.is_match(name))
    }
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        let text = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.as_str().to_owned());
        let parts = |selection: &Self| {
            let Self { filesystems, disks, interfaces, use_mountpoint } = selection;
            (text(filesystems), text(disks), text(interfaces), *use_mountpoint)
        };
        parts(self) == parts(other)
    }
}

/// The selection in effect, shared with the collectors, which keep their readings when the configuration is reloaded.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<Mutex<Arc<Selection>>>);

impl Current {
    /// The selection now.
    #[must_use]
    pub fn get(&self) -> Arc<Selection> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the selection.
    pub fn set(&self, selection: Selection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(selection);
    }
}
