//! The checks of request bodies according to Mackerel's documents, and [`Refusal`], the answer to an invalid one.
//!
//! One file per endpoint. All are pure: a JSON value in, its meaning or a refusal out.

mod field;
pub(crate) mod graph_defs;
pub(crate) mod hosts;
pub(crate) mod metadata;
pub(crate) mod reports;
pub(crate) mod tsdb;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// In the words of the real API.
    pub(crate) fn host_not_found() -> Self {
        Self::new(404, "Host Not Found.")
    }
}

/// Whether `text` is a segment of a metric's name, `[-a-zA-Z0-9_]+`.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
