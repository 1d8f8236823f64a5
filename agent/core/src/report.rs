//! What a check reports of one run.

use std::sync::Arc;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is as it should be.
    Ok,
    /// It is not quite.
    Warning,
    /// It is not.
    Critical,
    /// It could not be found out.
    Unknown,
}

impl Status {
    /// Mackerel's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// As programs end, by the convention of Nagios' plugins.
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

/// What is to be told of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The check.
    pub name: Arc<str>,
    /// The host that it is about, if it is another one than this.
    pub host: Option<Arc<str>>,
    /// What it found.
    pub status: Status,
    /// What it said, as much as Mackerel keeps.
    pub message: String,
    /// When the run began, in seconds since 1970.
    pub occurred_at: i64,
    /// See [`Check::notification_interval_minutes`].
    pub notification_interval_minutes: Option<u64>,
    /// See [`Check::max_check_attempts`].
    pub max_check_attempts: Option<u32>,
    /// Whether it is another status than before, so that it is told at once.
    pub is_urgent: bool,
}
