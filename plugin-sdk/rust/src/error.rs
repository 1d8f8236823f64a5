//! Why something failed: what a plugin returns, and what a capability returns to it.

use std::fmt;
use std::time::Duration;

use crate::bindings::wasaba::plugin::types as wire;
use crate::{failed, misconfigured};

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
    /// [`Error::Failed`] with this text, which may be another error. [`failed!`](crate::failed) formats one.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// [`Error::Misconfigured`] with this text. [`misconfigured!`](crate::misconfigured) formats one.
    pub fn misconfigured(why: impl fmt::Display) -> Self {
        Self::Misconfigured(why.to_string())
    }

    /// The same error with another text, made of its own.
    #[must_use]
    pub fn map(self, text: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Misconfigured(why) => Self::Misconfigured(text(why)),
            Self::Unauthorized(why) => Self::Unauthorized(text(why)),
            Self::Unreachable(why) => Self::Unreachable(text(why)),
            Self::Timeout(why) => Self::Timeout(text(why)),
            Self::Denied(why) => Self::Denied(text(why)),
            Self::Failed(why) => Self::Failed(text(why)),
            Self::Unsupported(why) => Self::Unsupported(text(why)),
            Self::Invalid(why) => Self::Invalid(text(why)),
            Self::TooLarge(why) => Self::TooLarge(text(why)),
            Self::TooCostly(why) => Self::TooCostly(text(why)),
            Self::Full(why) => Self::Full(text(why)),
            Self::Busy(why, time) => Self::Busy(text(why), time),
        }
    }

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

/// What a parser says, as [`Error::Failed`]: so `?` passes it on. [`OrFailed`] says of what it is.
macro_rules! unusable {
    ($($type:ty),*) => {$(
        impl From<$type> for Error {
            fn from(why: $type) -> Self {
                Self::failed(why)
            }
        }
    )*};
}

unusable!(
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error
);
#[cfg(feature = "json")]
unusable!(serde_json::Error);

/// An error out of what is not one yet, for `?`: of an `Option`, the text; of a `Result`, the text, a colon and the reason.
///
/// ```
/// use wasaba_plugin::prelude::*;
///
/// fn waiting(page: &str) -> Result<u64, Error> {
///     let count = page.strip_prefix("waiting ").or_failed("the page does not begin with `waiting`")?;
///     count.parse::<u64>().or_failed(format_args!("the number of jobs, {count:?}"))
/// }
/// # assert_eq!(waiting("waiting 3"), Ok(3));
/// assert_eq!(waiting("waiting x"), Err(failed!("the number of jobs, \"x\": invalid digit found in string")));
/// # assert_eq!(waiting(""), Err(failed!("the page does not begin with `waiting`")));
/// ```
pub trait OrFailed<T> {
    /// [`Error::Failed`] with this text if there is no value: the target's answer is unusable.
    ///
    /// # Errors
    /// There is no value.
    fn or_failed(self, what: impl fmt::Display) -> Result<T, Error>;

    /// [`Error::Misconfigured`] with this text if there is no value: the operator has to fix it.
    ///
    /// # Errors
    /// There is no value.
    fn or_misconfigured(self, what: impl fmt::Display) -> Result<T, Error>;
}

impl<T> OrFailed<T> for Option<T> {
    fn or_failed(self, what: impl fmt::Display) -> Result<T, Error> {
        self.ok_or_else(|| Error::failed(what))
    }

    fn or_misconfigured(self, what: impl fmt::Display) -> Result<T, Error> {
        self.ok_or_else(|| Error::misconfigured(what))
    }
}

impl<T, E: fmt::Display> OrFailed<T> for Result<T, E> {
    fn or_failed(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|why| failed!("{what}: {why}"))
    }

    fn or_misconfigured(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|why| misconfigured!("{what}: {why}"))
    }
}

/// [`Error::Failed`] with a formatted text: `return Err(failed!("there are no {what}"))`.
#[macro_export]
macro_rules! failed {
    ($($text:tt)*) => {
        $crate::Error::Failed(::std::format!($($text)*))
    };
}

/// [`Error::Misconfigured`] with a formatted text.
#[macro_export]
macro_rules! misconfigured {
    ($($text:tt)*) => {
        $crate::Error::Misconfigured(::std::format!($($text)*))
    };
}

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

/// A reason with the place that it is about, such as `db:5432` or the path of a socket: the agent names it in its own errors.
///
/// ```
/// use wasaba_plugin::about;
/// assert_eq!(about("db:5432", "closed by the server"), "db:5432: closed by the server");
/// assert_eq!(about("db:5432", "db:5432: timed out"), "db:5432: timed out");
/// assert_eq!(about("/run/db.sock", "unix:/run/db.sock: timed out"), "unix:/run/db.sock: timed out");
/// ```
#[must_use]
pub fn about(place: &str, why: &str) -> String {
    let is_named = why.strip_prefix("unix:").unwrap_or(why).starts_with(&format!("{place}: "));
    if is_named { why.to_owned() } else { format!("{place}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_parser_is_kept() {
        let parsed = |text: &str| Ok::<u64, Error>(text.parse()?);
        assert_eq!(parsed("x"), Err(failed!("invalid digit found in string")));
        assert_eq!(
            "x".parse::<u8>().or_misconfigured("`n`"),
            Err(misconfigured!("`n`: invalid digit found in string"))
        );
        assert_eq!(None::<u8>.or_misconfigured("set `n`"), Err(misconfigured!("set `n`")));
        let busy = Error::Busy("why".into(), Duration::from_secs(9)).map(|why| why + "?");
        assert_eq!(busy, Error::Busy("why?".into(), Duration::from_secs(9)));
    }

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
