//! The result of a check.

use crate::bindings::checks::exports::wasaba::plugin::checks::{self as wire, Status};

/// A check's result: a status, and the message that the operator reads in the alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Report(wire::Report);

impl Report {
    /// Everything is as expected.
    pub fn ok(message: impl Into<String>) -> Self {
        Self::of(Status::Ok, message)
    }

    /// Needs attention.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::of(Status::Warning, message)
    }

    /// Needs attention immediately.
    pub fn critical(message: impl Into<String>) -> Self {
        Self::of(Status::Critical, message)
    }

    /// The status could not be determined.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::of(Status::Unknown, message)
    }

    fn of(status: Status, message: impl Into<String>) -> Self {
        Self(wire::Report { status, message: message.into(), attributes: Vec::new() })
    }
}

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        report.0
    }
}

/// After an error of a capability the status is unknown.
impl From<crate::Error> for Report {
    fn from(error: crate::Error) -> Self {
        use crate::Error::{Denied, Failed, Misconfigured, Unreachable};
        let (Misconfigured(text) | Unreachable(text) | Denied(text) | Failed(text)) = error;
        Self::unknown(text)
    }
}
