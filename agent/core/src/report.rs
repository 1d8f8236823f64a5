//! The report: the result of one run of a check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The status that a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// Something needs attention.
    Warning,
    /// Something is broken.
    Critical,
    /// The check could not determine the status.
    Unknown,
}

impl Status {
    /// Its word in Mackerel's API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status of a program's exit code, by the convention of Nagios plugins.
    #[must_use]
    pub fn of_code(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Warning,
            2 => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The check's name.
    pub name: Arc<str>,
    /// The host that it is about, if it is not this one.
    pub host: Option<Arc<str>>,
    /// The status.
    pub status: Status,
    /// The message, cut to what Mackerel stores.
    pub message: String,
    /// When the run began, in seconds since 1970.
    pub occurred_at: i64,
    /// How long this machine had been running then, which no one sets; `None` in a report of an earlier process.
    pub taken: Option<Duration>,
    /// How many minutes after an alert Mackerel notifies again.
    pub notification_interval_minutes: Option<u64>,
    /// How many consecutive failures make an alert.
    pub max_check_attempts: Option<u32>,
    /// Whether the status has changed, so that it is posted at once.
    pub is_urgent: bool,
    /// Set if the report is dropped.
    pub lost: Lost,
}

/// Whether a check's last report was dropped: then Mackerel does not know the status, and the next run is reported whatever it finds.
/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<AtomicBool>);

impl Lost {
    /// Records that the report was dropped.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the report was dropped.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Lost {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Lost {}
