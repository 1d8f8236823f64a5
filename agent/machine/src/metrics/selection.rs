//! Which file systems, disks and interfaces have metrics, and under which names: what the operator wrote.

use std::sync::{Arc, Mutex, PoisonError};

use regex_lite::Regex;

/// What is left out, each a pattern that is looked for in a name, and how the rest is named.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// File systems, by the name that `df` gives: `/dev/sda1`.
    pub filesystems: Option<Regex>,
    /// Disks, by their segment in metric names: `sda1`.
    pub disks: Option<Regex>,
    /// Interfaces, by their segment in metric names: `eth0`.
    pub interfaces: Option<Regex>,
    /// Whether file systems and the disks that they are on are named by their mount points.
    pub use_mountpoint: bool,
}

impl Selection {
    /// Whether `name` is wanted by those that this pattern leaves out.
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

/// The selection that counts now. The configuration may be read again while collectors keep their readings.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<Mutex<Arc<Selection>>>);

impl Current {
    /// What counts now.
    #[must_use]
    pub fn get(&self) -> Arc<Selection> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this counts.
    pub fn set(&self, selection: Selection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(selection);
    }
}
