//! The results of checks, and documents of metadata.

use crate::Error;
use crate::bindings::checks::exports::wasaba::plugin::checks::{self as wire, Status};
use crate::bindings::metadata::exports::wasaba::plugin::metadata;

/// A check's result: a status, and the message that the operator reads in the alert.
#[derive(Clone, Debug)]
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

    /// The same report as one of several checks of the plugin: it is posted under the table's name, `-` and this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    fn of(status: Status, message: impl Into<String>) -> Self {
        Self(wire::Report { name: String::new(), status, message: message.into(), attributes: Vec::new() })
    }
}

/// What a check returns: one report, or several, each with a name.
#[derive(Clone, Debug, Default)]
pub struct Reports(Vec<Report>);

impl Reports {
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn into_reports(self) -> Vec<Report> {
        self.0
    }
}

impl From<Report> for Reports {
    fn from(report: Report) -> Self {
        Self(vec![report])
    }
}

impl From<Vec<Report>> for Reports {
    fn from(reports: Vec<Report>) -> Self {
        Self(reports)
    }
}

impl From<Reports> for wire::CheckResults {
    fn from(Reports(reports): Reports) -> Self {
        Self { reports: reports.into_iter().map(|report| report.0).collect(), attributes: Vec::new() }
    }
}

/// What a function for metadata returns: one document, or several; and the targets without, in the operator's words.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Namespaces with JSON text; the namespace is empty for the table's own name, or begins with that name and `-`.
    pub documents: Vec<(String, String)>,
    /// The targets without documents, each with the reason.
    pub problems: Vec<(String, Error)>,
}

/// The table's own document.
impl From<String> for Documents {
    fn from(json: String) -> Self {
        Self { documents: vec![(String::new(), json)], problems: Vec::new() }
    }
}

impl From<Documents> for metadata::MetadataResults {
    fn from(Documents { documents, problems }: Documents) -> Self {
        let document = |(namespace, json)| metadata::Document { namespace, json, attributes: Vec::new() };
        Self {
            documents: documents.into_iter().map(document).collect(),
            problems: crate::sample::problems(problems),
            attributes: Vec::new(),
        }
    }
}
