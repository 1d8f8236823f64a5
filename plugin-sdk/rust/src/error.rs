//! Why something failed: what a plugin returns, and what a capability returns to it.

use std::fmt;
use std::time::Duration;

use crate::bindings::wasaba::plugin::types as wire;

/// An error. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case fragment. `?` passes on
/// what a capability returned as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work: the operator has to fix them.
    Misconfigured(String),
    /// The target refuses the user, the password or the certificate: the operator has to fix them.
    Unauthorized(String),
    /// The target does not answer: it is down, or the network is.
    Unreachable(String),
    /// The target does not answer in time.
    Timeout(String),
    /// The agent refused a capability: a grant is missing. Pass on what the capability said.
    Denied(String),
    /// Anything else: the target's answer is unusable.
    Failed(String),
    /// The target is too old, too new, or another thing than the plugin knows.
    Unsupported(String),
    /// A request that makes no sense: a fault of the plugin, or a setting that it passed on unchecked.
    Invalid(String),
    /// Larger than the agent allows.
    TooLarge(String),
    /// More work than the agent does for a call.
    TooCostly(String),
    /// No room for what should be stored.
    Full(String),
    /// The target asked to be left alone for this long: the agent skips the plugin until then.
    Busy(String, Duration),
}

impl Error {
    /// The text for the operator.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Misconfigured(text)
            | Self::Unauthorized(text)
            | Self::Unreachable(text)
            | Self::Timeout(text)
            | Self::Denied(text)
            | Self::Failed(text)
            | Self::Unsupported(text)
            | Self::Invalid(text)
            | Self::TooLarge(text)
            | Self::TooCostly(text)
            | Self::Full(text)
            | Self::Busy(text, _) => text,
        }
    }

    /// The contract's word for who has to act.
    fn kind(&self) -> &'static str {
        match self {
            Self::Misconfigured(_) => "misconfigured",
            Self::Unauthorized(_) => "unauthorized",
            Self::Unreachable(_) | Self::Busy(..) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Denied(_) => "denied",
            Self::Failed(_) => "failed",
            Self::Unsupported(_) => "unsupported",
            Self::Invalid(_) => "invalid",
            Self::TooLarge(_) => "too-large",
            Self::TooCostly(_) => "too-costly",
            Self::Full(_) => "full",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Error {}

impl From<wire::Error> for Error {
    // Behind each `?` on a capability.
    #[inline(never)]
    fn from(error: wire::Error) -> Self {
        let wire::Error { kind, message, retry_after_ms, attributes: _ } = error;
        if let Some(millis) = retry_after_ms {
            return Self::Busy(message, Duration::from_millis(millis));
        }
        let of_kind = match kind.as_str() {
            "misconfigured" => Self::Misconfigured,
            "unauthorized" => Self::Unauthorized,
            "unreachable" => Self::Unreachable,
            "timeout" => Self::Timeout,
            "denied" => Self::Denied,
            "unsupported" => Self::Unsupported,
            "invalid" => Self::Invalid,
            "too-large" => Self::TooLarge,
            "too-costly" => Self::TooCostly,
            "full" => Self::Full,
            _ => Self::Failed,
        };
        of_kind(message)
    }
}

impl From<Error> for wire::Error {
    fn from(error: Error) -> Self {
        let retry_after_ms = match &error {
            Error::Busy(_, time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            _ => None,
        };
        let (kind, message) = (error.kind().to_owned(), error.message().to_owned());
        Self { kind, message, retry_after_ms, attributes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_the_same_after_a_way_through_the_contract() {
        let text = || "why".to_owned();
        for error in [
            Error::Misconfigured(text()),
            Error::Unauthorized(text()),
            Error::Unreachable(text()),
            Error::Timeout(text()),
            Error::Denied(text()),
            Error::Failed(text()),
            Error::Unsupported(text()),
            Error::Invalid(text()),
            Error::TooLarge(text()),
            Error::TooCostly(text()),
            Error::Full(text()),
            Error::Busy(text(), Duration::from_secs(90)),
        ] {
            assert_eq!(Error::from(wire::Error::from(error.clone())), error);
        }
        let newer = wire::Error { kind: "tired".into(), message: text(), retry_after_ms: None, attributes: Vec::new() };
        assert_eq!(Error::from(newer), Error::Failed(text()));
    }
}
