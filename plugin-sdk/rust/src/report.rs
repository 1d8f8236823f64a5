//! What a check found.

use crate::bindings::checks::exports::wasaba::plugin::checks::{self as wire, Status};

/// A check's result: a status, and the message that the operator reads in the alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Report(wire::Report);

impl Report {
    /// All is as it should be.
    pub fn ok(message: impl Into<String>) -> Self {
        Self::of(Status::Ok, message)
    }

    /// Somebody should look at it.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::of(Status::Warning, message)
    }

    /// Somebody must look at it now.
    pub fn critical(message: impl Into<String>) -> Self {
        Self::of(Status::Critical, message)
    }

    /// It could not be found out.
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

/// An error that a capability gave is something that could not be found out.
impl From<crate::Error> for Report {
    fn from(error: crate::Error) -> Self {
        use crate::Error::{Denied, Failed, Misconfigured, Unreachable};
        let (Misconfigured(text) | Unreachable(text) | Denied(text) | Failed(text)) = error;
        Self::unknown(text)
    }
}
