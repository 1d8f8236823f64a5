//! The answer: what a response from Mackerel means, and [`ApiError`] for everything but success.
//!
//! Pure: it neither sends nor waits.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// Longer messages of a server are cut in the log.
const LONGEST_MESSAGE: usize = 300;

/// Why a request failed, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 401 or 403: the key is wrong, or may not be used from this address.
    Auth(ErrorResponse),
    /// 404: the path names something that does not exist.
    NotFound(ErrorResponse),
    /// 408, 429, 5xx, or whatever else comes with `Retry-After`: the same request may succeed later.
    Busy(ErrorResponse),
    /// Any other 4xx: the request itself is wrong.
    Refused(ErrorResponse),
    /// No answer, or one that Mackerel would not give: the whole message.
    NoAnswer(String),
    /// There was no connection, so that nothing was sent: the whole message.
    Unsent(String),
}

/// A response with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// Who wrote it.
    pub by: Author,
    /// The server's message, or the name of the status.
    pub message: String,
    /// From the `Retry-After` header.
    pub retry_after: Option<Duration>,
}

/// Who answered: an error of Mackerel's says why in JSON, one of a proxy, gateway or firewall in between does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// Mackerel itself.
    Mackerel,
    /// Probably something between this machine and the server with this name.
    Unknown(String),
}

impl ApiError {
    pub(super) fn of(response: ErrorResponse) -> Self {
        match response.status {
            401 | 403 => Self::Auth(response),
            404 => Self::NotFound(response),
            408 | 429 | 500..=599 => Self::Busy(response),
            400..=499 => Self::Refused(response),
            _ if response.retry_after.is_some() => Self::Busy(response),
            status => Self::NoAnswer(format!(
                "unexpected status {status} ({}) instead of an answer from Mackerel: if it is a redirect, set `apibase` to the \
                 server that it points to",
                response.message
            )),
        }
    }

    /// Whether Mackerel itself says what only the operator can change: a wrong key, a missing host. The same status from a proxy or
    /// firewall may depend on the request.
    pub(super) fn is_for_the_operator(&self) -> bool {
        matches!(self, Self::Auth(_) | Self::NotFound(_)) && self.is_of_mackerel()
    }

    /// Whether Mackerel itself answered with this error, so that what is known of Mackerel's errors is the cure.
    pub(super) fn is_of_mackerel(&self) -> bool {
        let by = match self {
            Self::Auth(response) | Self::NotFound(response) | Self::Busy(response) | Self::Refused(response) => {
                &response.by
            }
            Self::NoAnswer(_) | Self::Unsent(_) => return false,
        };
        *by == Author::Mackerel
    }

    /// Whether it refuses the request, as opposed to a server that fails over it, by chance perhaps.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Auth(_) | Self::NotFound(_) | Self::Refused(_))
    }

    /// Whether it refuses the request for its size.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused(response) if response.status == 413)
    }

    /// Whether Mackerel itself refuses what was posted, so that it will not accept that later either.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_)) && self.is_of_mackerel()
    }

    /// Whether a part of what was posted may be accepted: something in the rest may be what Mackerel fails over, or what a proxy, gateway
    /// or firewall does not let pass, whichever way it says so. A wrong key or host, a limit and a server out of reach concern everything.
    pub(super) fn may_be_of_a_part(&self) -> bool {
        match self {
            _ if self.retry_after().is_some() || self.is_for_the_operator() => false,
            Self::Busy(response) => response.status != 429,
            Self::Auth(_) | Self::NotFound(_) | Self::Refused(_) | Self::NoAnswer(_) => true,
            Self::Unsent(_) => false,
        }
    }

    /// Whether nothing was done for the request: Mackerel refused it, or it was not even sent. Everything else, such as a lost answer or
    /// that of a gateway, whatever it says, leaves it open.
    pub(super) fn is_surely_not_done(&self) -> bool {
        match self {
            Self::Auth(_) | Self::NotFound(_) | Self::Refused(_) => self.is_of_mackerel(),
            Self::Busy(response) => response.status == 429 && self.is_of_mackerel(),
            Self::Unsent(_) => true,
            Self::NoAnswer(_) => false,
        }
    }

    /// How long the server wants clients to wait, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Auth(response) | Self::NotFound(response) | Self::Busy(response) | Self::Refused(response) => {
                response.retry_after
            }
            Self::NoAnswer(_) | Self::Unsent(_) => None,
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFault {
    /// The agent's configuration: its key, its host.
    Configuration,
    /// Mackerel itself, which is down or limits requests.
    Mackerel,
    /// The way to Mackerel: the network, a name server, a proxy, gateway or firewall.
    Network,
    /// What was posted.
    Content,
}

impl AtFault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Configuration, Self::Mackerel, Self::Network, Self::Content];

    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Mackerel => "mackerel",
            Self::Network => "network",
            Self::Content => "content",
        }
    }

    /// For people, after "the fault is".
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Configuration => "in this agent's configuration",
            Self::Mackerel => "Mackerel's",
            Self::Network => "between this machine and Mackerel",
            Self::Content => "in what is posted",
        }
    }
}

impl ApiError {
    /// What happened, without whose fault it is and the cure.
    pub(super) fn what(&self) -> String {
        let response = match self {
            Self::NoAnswer(why) | Self::Unsent(why) => return why.clone(),
            Self::Auth(response) | Self::NotFound(response) | Self::Busy(response) | Self::Refused(response) => {
                response
            }
        };
        let ErrorResponse { status, message, by, .. } = response;
        match (self, by) {
            (Self::Auth(_), Author::Mackerel) => format!("Mackerel refuses the API key ({status}: {message})"),
            (_, Author::Mackerel) => format!("Mackerel answered {status}: {message}"),
            (_, Author::Unknown(_)) if *status == 407 => "the proxy requires a login (407)".to_owned(),
            (_, Author::Unknown(server)) => {
                format!("a request to {server} was answered with {message}, without the reason that Mackerel gives")
            }
        }
    }

    /// Whose fault it is.
    pub(super) fn at_fault(&self) -> AtFault {
        match self {
            Self::Auth(ErrorResponse { by: Author::Mackerel, .. })
            | Self::NotFound(ErrorResponse { by: Author::Mackerel, .. }) => AtFault::Configuration,
            Self::Busy(ErrorResponse { by: Author::Mackerel, .. }) => AtFault::Mackerel,
            Self::Refused(ErrorResponse { by: Author::Mackerel, .. }) => AtFault::Content,
            Self::Auth(_)
            | Self::NotFound(_)
            | Self::Busy(_)
            | Self::Refused(_)
            | Self::NoAnswer(_)
            | Self::Unsent(_) => AtFault::Network,
        }
    }

    /// What to do about it.
    pub(super) fn cure(&self) -> String {
        let response = match self {
            Self::NoAnswer(_) | Self::Unsent(_) => {
                return "check the network, the name server, the proxy and `apibase`".to_owned();
            }
            Self::Auth(response) | Self::NotFound(response) | Self::Busy(response) | Self::Refused(response) => {
                response
            }
        };
        match (self, &response.by) {
            (Self::Auth(_), Author::Mackerel) => {
                "check that `apikey` is a key of your organization that may read and write, and that it may be used from this \
                 machine's address"
            }
            (Self::NotFound(_), Author::Mackerel) => {
                "check that `apikey` is of the organization that this host belongs to, or stop wasaba, delete the file `id` in \
                 its `root` and start it again to register a new host"
            }
            (Self::Refused(_), Author::Mackerel) => {
                "check this machine's clock and what its plugins post; what is refused alone is dropped and named"
            }
            (_, Author::Mackerel) => "nothing to do here, since it is tried again",
            (_, Author::Unknown(_)) if response.status == 407 => {
                "write its user and password into `https_proxy` or `http_proxy`"
            }
            (Self::Auth(_), Author::Unknown(_)) => {
                "check `apikey` and `apibase`, and whether a proxy, gateway or firewall on the way answered"
            }
            (_, Author::Unknown(_)) => "check `apibase`, and whether a proxy, gateway or firewall on the way answered",
        }
        .to_owned()
    }
}

/// What happened, and the cure if it is not obvious.
impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what())?;
        let is_of_others = match self {
            Self::Auth(_) => true,
            Self::NotFound(response) | Self::Busy(response) | Self::Refused(response) => {
                response.by != Author::Mackerel
            }
            Self::NoAnswer(_) | Self::Unsent(_) => false,
        };
        if is_of_others { write!(formatter, ": {}", self.cure()) } else { Ok(()) }
    }
}

impl Error for ApiError {}

/// The time in a `Date` header, in seconds since 1970, in any of the three forms of RFC 9110.
pub(super) fn date(value: &str) -> Option<i64> {
    let value = value.trim();
    if let Ok(time) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value) {
        return Some(time.as_second());
    }
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let time = forms.iter().find_map(|form| jiff::civil::DateTime::strptime(form, value).ok())?;
    Some(jiff::tz::Offset::UTC.to_timestamp(time).ok()?.as_second())
}

/// The wait in either form of the `Retry-After` header: seconds, or a date. Gateways write a fraction, a sign or quotes, or the seconds
/// twice.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim_matches(|char: char| char.is_whitespace() || char == '"');
    let seconds = value.split([',', ';']).map(str::trim).find(|part| !part.is_empty()).unwrap_or_default();
    let seconds = seconds.strip_prefix('+').unwrap_or(seconds);
    if seconds.starts_with(|char: char| char.is_ascii_digit())
        && let Ok(seconds) = seconds.parse::<f64>()
    {
        return Some(Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX));
    }
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(date(value)?).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// The message in `{"error":{"message":"…"}}` or `{"error":"…"}`, as one line. Frameworks and gateways write more into theirs, such as
/// the status, the time or the path, and are not taken for Mackerel.
pub(super) fn message(body: &[u8]) -> Option<String> {
    let body = alone(serde_json::from_slice(body).ok()?, "error")?;
    let message = if body.is_object() { alone(body, "message")? } else { body };
    let message = message.as_str()?;
    Some(message.chars().take(LONGEST_MESSAGE).map(|char| if char.is_control() { ' ' } else { char }).collect())
}

/// The value of an object that has this key alone.
fn alone(object: Value, key: &str) -> Option<Value> {
    let Value::Object(mut object) = object else { return None };
    let value = object.remove(key)?;
    object.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_parsed_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        for date in ["Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994", "Sun, 06 Nov 1994 08:50:37 +0000"] {
            assert_eq!(retry_after(date, now), Some(Duration::from_secs(60)), "{date}");
        }
        for (odd, seconds) in [
            (" 120 ", 120),
            ("120.5", 121),
            ("120, 120", 120),
            (",120", 120),
            ("120;", 120),
            ("+120", 120),
            ("\"120\"", 120),
            ("0", 0),
            ("1e9", 1_000_000_000),
        ] {
            assert_eq!(retry_after(odd, now), Some(Duration::from_secs(seconds)), "{odd}");
        }
        assert_eq!(retry_after(&"9".repeat(400), now), Some(Duration::MAX));
        for wrong in ["soon", "", "-5", "inf", "NaN", "12 s", "+-5", "Sunday", "\""] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn what_may_be_of_a_part_of_what_was_posted_is_everything_but_the_key_the_host_a_limit_and_the_way() {
        let of = |status, by: Author, seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            ApiError::of(ErrorResponse { status, by, message: String::new(), retry_after }).may_be_of_a_part()
        };
        let gateway = || Author::Unknown("gateway".to_owned());
        for status in [302, 400, 403, 404, 406, 422, 500, 502, 503] {
            assert!(of(status, gateway(), None), "{status}");
            assert!(!of(status, gateway(), Some(60)), "{status}");
            assert_eq!(of(status, Author::Mackerel, None), !matches!(status, 403 | 404), "{status}");
        }
        assert!(!of(429, gateway(), None) && !of(429, Author::Mackerel, None));
        assert!(ApiError::NoAnswer(String::new()).may_be_of_a_part());
        assert!(!ApiError::Unsent(String::new()).may_be_of_a_part());
    }

    #[test]
    fn only_what_mackerel_refuses_or_what_was_not_sent_is_surely_not_done() {
        let of = |status, by: Author| {
            ApiError::of(ErrorResponse { status, by, message: String::new(), retry_after: None }).is_surely_not_done()
        };
        for status in [400, 401, 403, 404, 407, 413, 422, 429] {
            assert!(of(status, Author::Mackerel) && !of(status, Author::Unknown("gateway".to_owned())), "{status}");
        }
        assert!(!of(500, Author::Mackerel) && !of(302, Author::Mackerel));
        assert!(ApiError::Unsent(String::new()).is_surely_not_done());
        assert!(!ApiError::NoAnswer(String::new()).is_surely_not_done());
    }

    #[test]
    fn an_error_message_is_one_short_line() {
        assert_eq!(message(br#"{"error":{"message":"Host\nNot Found."}}"#).as_deref(), Some("Host Not Found."));
        assert_eq!(message(br#"{"error":"no"}"#).as_deref(), Some("no"));
        for other in [
            "<html>",
            r#"{"timestamp":"2026-01-01","status":400,"error":"Bad Request","path":"/api/v0/tsdb"}"#,
            r#"{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}"#,
            r#"{"message":"Forbidden"}"#,
            r#"{"error":null}"#,
            r#"{"error":{"message":{}}}"#,
            r#"["error"]"#,
        ] {
            assert_eq!(message(other.as_bytes()), None, "{other}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(1000));
        assert_eq!(message(long.as_bytes()).map(|text| text.len()), Some(LONGEST_MESSAGE));
    }

    #[test]
    fn only_an_answer_with_a_reason_is_mackerels_and_each_other_points_to_what_is_in_between() {
        for status in [400, 401, 403, 404, 407, 413, 429, 502, 503, 504] {
            let error =
                |by: Author| ApiError::of(ErrorResponse { status, by, message: "no".to_owned(), retry_after: None });
            let (own, other) = (error(Author::Mackerel), error(Author::Unknown("api.example.com".to_owned())));
            assert!(own.is_of_mackerel() && !other.is_of_mackerel());
            assert_eq!(
                (own.is_for_the_operator(), other.is_for_the_operator()),
                (matches!(status, 401 | 403 | 404), false)
            );
            assert!(own.to_string().starts_with("Mackerel "), "{own}");
            let said = other.to_string();
            assert!(!said.contains("Mackerel refuses") && !said.contains("Mackerel answered"), "{said}");
            assert!(
                if status == 407 { said.starts_with("the proxy ") } else { said.contains("proxy, gateway") },
                "{said}"
            );
        }
    }
}
