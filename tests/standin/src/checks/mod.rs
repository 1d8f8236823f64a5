//! The checks: what Mackerel's documents say about a body, and [`Refusal`], the answer to one that does not fit.
//!
//! One file per endpoint. All are pure: a JSON value in, what it means or a refusal out.

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

    /// In the words that the real API uses.
    pub(crate) fn host_not_found() -> Self {
        Self::new(404, "Host Not Found.")
    }
}

/// `[-a-zA-Z0-9_]+`: what stands between two dots of a metric's name.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
