//! HTTP requests to what the operator granted. The agent speaks HTTP and TLS. It does not follow redirects; [`Request::follow`] does.
//!
//! ```no_run
//! use serde::Deserialize;
//! use wasaba_plugin::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Page {
//!     waiting: u64,
//! }
//!
//! # fn page(url: &str, token: Option<&Secret>) -> Result<u64, Error> {
//! // An answer that is not 2xx, or not such JSON, is an error that names the page.
//! let page: Page = http::get(url).header_if("x-token", token).follow(3).json()?;
//! # Ok(page.waiting)
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use crate::agent::http as wire;
use crate::bindings::wasaba::plugin::types;
use crate::{Error, Secret, about, failed, misconfigured};

/// A request that has not been sent yet.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    method: String,
    url: String,
    headers: Vec<Header<'a>>,
    body: Option<Vec<u8>>,
    redirects: u32,
}

/// A header, or several.
#[derive(Clone, Debug)]
enum Header<'a> {
    Text(String, String),
    /// The name, what stands before the secret, and the secret.
    Secret(String, String, &'a Secret),
    Basic(String, &'a Secret),
    Lines(&'a Secret),
}

/// What a header is set to: a text or a secret.
#[derive(Clone, Debug)]
pub enum HeaderValue<'a> {
    /// A text.
    Text(String),
    /// A secret, which the agent puts there.
    Secret(&'a Secret),
}

impl From<&str> for HeaderValue<'_> {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for HeaderValue<'_> {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl<'a> From<&'a Secret> for HeaderValue<'a> {
    fn from(secret: &'a Secret) -> Self {
        Self::Secret(secret)
    }
}

/// A GET request for `url`.
pub fn get<'a>(url: impl Into<String>) -> Request<'a> {
    request("GET", url)
}

/// A POST request to `url`; see [`Request::body`].
pub fn post<'a>(url: impl Into<String>) -> Request<'a> {
    request("POST", url)
}

/// A request with another method: `HEAD`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
pub fn request<'a>(method: &str, url: impl Into<String>) -> Request<'a> {
    Request { method: method.into(), url: url.into(), headers: Vec::new(), body: None, redirects: 0 }
}

impl<'a> Request<'a> {
    /// Sets a header to a text or a secret; of those with one name the last counts. Headers of the connection itself are refused, and
    /// `host` is unless the operator's table has it as `virtual_host`.
    pub fn header(self, name: &str, value: impl Into<HeaderValue<'a>>) -> Self {
        self.with(name, "", value.into())
    }

    /// Sets a header if there is a value, such as an optional setting: `.header_if("x-token", &config.token)`.
    pub fn header_if(self, name: &str, value: impl IntoIterator<Item: Into<HeaderValue<'a>>>) -> Self {
        value.into_iter().fold(self, |request, value| request.header(name, value))
    }

    /// Sets a header to `prefix` and a secret: `Bearer ` and a token.
    pub fn header_secret(self, name: &str, prefix: &str, secret: &'a Secret) -> Self {
        self.with(name, prefix, secret.into())
    }

    fn with(mut self, name: &str, prefix: &str, value: HeaderValue<'a>) -> Self {
        self.headers.push(match value {
            HeaderValue::Text(text) => Header::Text(name.into(), [prefix, &text].concat()),
            HeaderValue::Secret(secret) => Header::Secret(name.into(), prefix.into(), secret),
        });
        self
    }

    /// Sets the header `authorization` to `Bearer ` and this token.
    pub fn bearer(self, token: impl Into<HeaderValue<'a>>) -> Self {
        self.with("authorization", "Bearer ", token.into())
    }

    /// The same if there is a token.
    pub fn bearer_if(self, token: impl IntoIterator<Item: Into<HeaderValue<'a>>>) -> Self {
        token.into_iter().fold(self, Self::bearer)
    }

    /// Sets the header `authorization` for this user and password.
    pub fn basic_auth(mut self, user: &str, password: &'a Secret) -> Self {
        self.headers.push(Header::Basic(user.into(), password));
        self
    }

    /// Sets the headers in a secret that has lines of `Name: value`.
    pub fn header_lines(mut self, lines: &'a Secret) -> Self {
        self.headers.push(Header::Lines(lines));
        self
    }

    /// Sets the body: a text or bytes.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Whether it will be sent with a header of this name.
    ///
    /// # Errors
    /// An invalid header.
    pub fn has_header(&self, name: &str) -> Result<bool, Error> {
        Ok(self.built()?.has_header(name))
    }

    /// Follows redirects, `limit` at most, when it is sent: with GET, without the body, and to another server without secrets and without
    /// the headers `authorization`, `cookie` and `host`, which were meant for the first. Each redirect needs its own grant.
    pub fn follow(self, limit: u32) -> Self {
        Self { redirects: limit, ..self }
    }

    /// Sends it and waits for the whole response, whatever its status: see [`Response::ok`].
    ///
    /// # Errors
    /// No grant, no connection, a response that is too large, a malformed request, too many redirects.
    pub fn send(&self) -> Result<Response, RequestFailure> {
        self.sent().map_err(|failure| RequestFailure { page: page(&self.url), ..failure })
    }

    /// Sends it and reads the response, which must be a good one, as JSON.
    ///
    /// # Errors
    /// As [`Request::send`], [`Response::ok`] and [`Response::json`].
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        self.send()?.ok()?.json()
    }

    fn sent(&self) -> Result<Response, RequestFailure> {
        let mut response = self.send_once()?;
        let mut request = self.clone();
        for _ in 0..self.redirects {
            let Some(target) = redirect(&request.url, &response) else { return Ok(response) };
            if origin(&target) != origin(&request.url) {
                request.headers.retain(Header::is_public);
            }
            (request.method, request.url, request.body) = ("GET".into(), target, None);
            response = request.send_once()?;
        }
        match response.status {
            301 | 302 | 303 | 307 | 308 if self.redirects > 0 => {
                Err(failed!("more than {} redirects", self.redirects).into())
            }
            _ => Ok(response),
        }
    }

    fn send_once(&self) -> Result<Response, RequestFailure> {
        let response = wire::send(&self.built()?)?;
        let (status, headers, body) = (response.status(), response.headers(), response.body()?);
        Ok(Response { url: self.url.clone(), status, headers, body })
    }

    /// The request for the agent.
    fn built(&self) -> Result<wire::Request, Error> {
        let request = wire::Request::new(&self.method, &self.url);
        for header in &self.headers {
            match header {
                Header::Text(name, value) => request.set_header(name, value)?,
                Header::Secret(name, prefix, secret) => request.set_header_secret(name, prefix, &secret.0)?,
                Header::Basic(user, password) => request.set_basic_auth(user, &password.0)?,
                Header::Lines(lines) => request.set_header_lines(&lines.0)?,
            }
        }
        if let Some(body) = &self.body {
            request.set_body(body);
        }
        Ok(request)
    }
}

impl Header<'_> {
    /// Whether another server may get it, too.
    fn is_public(&self) -> bool {
        let private = ["authorization", "cookie", "host"];
        matches!(self, Self::Text(name, _) if !private.iter().any(|other| other.eq_ignore_ascii_case(name)))
    }
}

/// A URL as messages show it: without what may be private, a user with a password, the query and the fragment.
#[must_use]
pub fn page(url: &str) -> String {
    let whole = origin(url);
    let (scheme, host) = whole.split_once("://").map_or(("", whole), |(scheme, host)| (scheme, host));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = url.get(whole.len()..).unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Scheme, host and port of an absolute URL, as written.
pub(crate) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |colon| colon.saturating_add(3));
    let end = url
        .get(host..)
        .and_then(|rest| rest.find(['/', '\\', '?', '#']))
        .map_or(url.len(), |end| host.saturating_add(end));
    url.get(..end).unwrap_or(url)
}

/// Where the response to a request for `url` redirects to, as an absolute URL.
fn redirect(url: &str, response: &Response) -> Option<String> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = response.header("location")?;
    let (scheme, rest) = url.split_once("://")?;
    let end_of_origin = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (origin, path) = rest.split_at(end_of_origin);
    let folder = path.split(['?', '#']).next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(match target {
        absolute if absolute.contains("://") => absolute.to_owned(),
        other_host if other_host.starts_with("//") => format!("{scheme}:{other_host}"),
        from_root if from_root.starts_with('/') => format!("{scheme}://{origin}{from_root}"),
        relative => format!("{scheme}://{origin}{folder}/{relative}"),
    })
}

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// The reason, as the agent gave it. `?` passes it on, with the page.
    pub error: Error,
    /// What went wrong with TLS, if that is the reason.
    pub tls: Option<TlsFault>,
    /// The page that was requested, without what may be private.
    pub page: String,
}

impl RequestFailure {
    /// The error for an operator who should check this, such as `` "`host` and `port`" ``: with the page, and for TLS with the cure. A
    /// refusal of the agent stays as it is, since it has its own cure.
    #[must_use]
    pub fn check(self, settings: &str) -> Error {
        let Self { error, tls, page } = self;
        match (error, tls) {
            (Error::Unauthorized(why), Some(TlsFault::Alert)) => misconfigured!(
                "{}: check {settings}, and `certificate` and `key` of `tls` in the plugin's table",
                about(&page, &why)
            ),
            (Error::Unauthorized(why), Some(TlsFault::Certificate)) => misconfigured!(
                "{}; name its authority under `tls` in the plugin's table: `tls = {{ authority = \"/path/to/ca.pem\" }}`",
                about(&page, &why)
            ),
            (Error::Unauthorized(why), _) => misconfigured!("{}: check {settings}", about(&page, &why)),
            (Error::Failed(why), Some(TlsFault::NotTls)) => {
                misconfigured!("{}; does it speak TLS? check {settings}", about(&page, &why))
            }
            // A setting that was passed on unchecked.
            (Error::Invalid(why), _) => Error::Misconfigured(why),
            (error, _) if is_of_the_page(&error) => {
                error.map(|why| format!("{}: check {settings}", about(&page, &why)))
            }
            (error, _) => error,
        }
    }
}

/// Whether the page is the reason, and not the agent or the plugin.
fn is_of_the_page(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable(_) | Error::Timeout(_) | Error::Failed(_) | Error::TooLarge(_) | Error::Unauthorized(_)
    )
}

/// What went wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate is not trusted.
    Certificate,
    /// The server refused, for example because it asks for a certificate.
    Alert,
    /// The server's answer is not TLS.
    NotTls,
}

/// With the page, where that is the reason.
impl From<RequestFailure> for Error {
    fn from(RequestFailure { error, page, .. }: RequestFailure) -> Self {
        if is_of_the_page(&error) { error.map(|why| about(&page, &why)) } else { error }
    }
}

/// Of a request whose page is not known here.
impl From<Error> for RequestFailure {
    fn from(error: Error) -> Self {
        Self { error, tls: None, page: String::new() }
    }
}

impl From<types::Error> for RequestFailure {
    fn from(error: types::Error) -> Self {
        let word = error.attributes.iter().find(|(key, _)| key == "tls").map(|(_, word)| word.as_str());
        let tls = match word {
            Some("certificate") => Some(TlsFault::Certificate),
            Some("alert") => Some(TlsFault::Alert),
            Some("not-tls") => Some(TlsFault::NotTls),
            _ => None,
        };
        Self { error: error.into(), tls, page: String::new() }
    }
}

/// A server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who answered: the URL of the request, or the last one that a redirect led to.
    pub url: String,
    /// The status code, for example 200.
    pub status: u16,
    /// Names in lower case, values as received, in the server's order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in any case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The response itself, if its status is 2xx.
    ///
    /// # Errors
    /// Otherwise, with the page and the status: [`Error::Unauthorized`] for 401 and 403, [`Error::Busy`] if the server says how many seconds to
    /// wait, [`Error::Failed`] for others.
    pub fn ok(self) -> Result<Self, Error> {
        let why = format!("{} answers with status {}", page(&self.url), self.status);
        let wait = || self.header("retry-after")?.parse().ok();
        match self.status {
            200..=299 => Ok(self),
            401 | 403 => Err(Error::Unauthorized(why)),
            429 | 503 => Err(match wait() {
                Some(seconds) => Error::Busy(why, Duration::from_secs(seconds)),
                None => Error::Failed(why),
            }),
            _ => Err(Error::Failed(why)),
        }
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body).map_err(|_| failed!("{} is not UTF-8 text", page(&self.url)))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Failed`], with the page, and the field that is not as expected, or what the page is instead.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let mut reader = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut reader)
            .map_err(|why| self.not_as_read(why.inner(), &why.to_string()))?;
        reader.end().map_err(|why| self.not_as_read(&why, ""))?;
        Ok(value)
    }

    /// The error for a body that is not what the plugin reads; `with_field` is the reason after the path of its field.
    #[cfg(feature = "json")]
    fn not_as_read(&self, why: &serde_json::Error, with_field: &str) -> Error {
        let (page, looks) = (page(&self.url), self.looks());
        match why.classify() {
            serde_json::error::Category::Data => {
                // The field says where; most such pages are a single line.
                let place = format!(" at line {} column {}", why.line(), why.column());
                failed!("{page} is not as expected: {}", with_field.strip_suffix(&place).unwrap_or(with_field))
            }
            _ if looks == Looks::Json => failed!("{page} is invalid JSON: {why}"),
            _ => failed!("{page} is not JSON: it {looks}"),
        }
    }

    /// What the body looks like, for a message about one that is not what the plugin reads.
    #[must_use]
    pub fn looks(&self) -> Looks {
        let Ok(text) = self.text() else { return Looks::Binary };
        let line = text.trim_start_matches('\u{feff}').lines().map(str::trim).find(|line| !line.is_empty());
        let Some(line) = line else { return Looks::Empty };
        let begins = line.chars().take(60).collect();
        match line.as_bytes() {
            [b'<', ..] => Looks::Html(begins),
            [b'{' | b'[', ..] => Looks::Json,
            _ => Looks::Text(begins),
        }
    }
}

/// What a body looks like. Displayed it follows the name of the page: `is empty`, `is not text`, `is JSON`, `is HTML that begins with
/// "<html>"`, `begins with "It works!"`.
#[expect(missing_docs, reason = "each is its own name; a text is the beginning of the first line with one")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Looks {
    Empty,
    Binary,
    Json,
    Html(String),
    Text(String),
}

impl fmt::Display for Looks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("is empty"),
            Self::Binary => formatter.write_str("is not text"),
            Self::Json => formatter.write_str("is JSON"),
            Self::Html(begins) => write!(formatter, "is HTML that begins with {begins:?}"),
            Self::Text(begins) => write!(formatter, "begins with {begins:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_url_is_everything_before_its_path() {
        for (url, expected) in [
            ("http://a:81/x?y=/", "http://a:81"),
            ("https://a", "https://a"),
            ("http://a?b/c", "http://a"),
            ("http://a\\@b/", "http://a"),
        ] {
            assert_eq!(origin(url), expected);
        }
        assert_ne!(origin("http://a/"), origin("https://a/"));
    }

    #[test]
    fn a_failed_request_knows_what_went_wrong_with_tls() {
        let failure = |attributes: &[(&str, &str)]| {
            let attributes = attributes.iter().map(|(key, word)| ((*key).to_owned(), (*word).to_owned())).collect();
            let (kind, message) = ("unauthorized".to_owned(), "why".to_owned());
            RequestFailure::from(types::Error { kind, message, retry_after_ms: None, attributes })
        };
        for (word, fault) in [
            ("certificate", Some(TlsFault::Certificate)),
            ("alert", Some(TlsFault::Alert)),
            ("not-tls", Some(TlsFault::NotTls)),
            ("a-word-of-a-newer-agent", None),
        ] {
            let RequestFailure { error, tls, .. } = failure(&[("more", "x"), ("tls", word)]);
            assert_eq!((error, tls), (Error::Unauthorized("why".into()), fault), "{word}");
        }
        assert_eq!(failure(&[]).tls, None);
    }

    #[test]
    fn what_was_meant_for_one_server_is_not_sent_to_another() {
        let public = |name: &str| Header::Text(name.into(), String::new()).is_public();
        assert!(public("accept") && !public("Authorization") && !public("COOKIE") && !public("host"));
    }

    #[test]
    fn a_redirect_is_read_from_each_form_of_location() {
        for (location, expected) in [
            ("https://b/x", "https://b/x"),
            ("//b/x", "http://b/x"),
            ("/x", "http://a:81/x"),
            ("x", "http://a:81/dir/x"),
        ] {
            let headers = vec![("location".to_owned(), location.as_bytes().to_vec())];
            let response = Response { headers, ..response(302, b"") };
            assert_eq!(redirect("http://a:81/dir/page?q=/", &response).as_deref(), Some(expected));
        }
        assert_eq!(redirect("http://a/", &response(302, b"")), None);
    }

    fn response(status: u16, body: &[u8]) -> Response {
        let url = "http://me:hunter2@a:81/s?token=hunter2".to_owned();
        Response { url, status, headers: Vec::new(), body: body.to_vec() }
    }

    #[test]
    fn a_status_that_is_not_2xx_is_an_error_with_the_page_and_without_what_is_private() {
        assert!(response(204, b"").ok().is_ok());
        let why = |status| format!("http://a:81/s answers with status {status}");
        assert_eq!(response(404, b"").ok(), Err(Error::Failed(why(404))));
        assert_eq!(response(301, b"").ok(), Err(Error::Failed(why(301))));
        assert_eq!(response(403, b"").ok(), Err(Error::Unauthorized(why(403))));
        assert_eq!(response(503, b"").ok(), Err(Error::Failed(why(503))));
        let headers = vec![("retry-after".to_owned(), b"90".to_vec())];
        let busy = Response { headers, ..response(503, b"") };
        assert_eq!(busy.header("Retry-After"), Some("90"));
        assert_eq!(busy.ok(), Err(Error::Busy(why(503), Duration::from_secs(90))));
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_page_that_is_not_the_json_that_was_expected_says_what_it_is() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "it is only read")]
        struct Page {
            jobs: u8,
            #[serde(default)]
            workers: Vec<Worker>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "it is only read")]
        struct Worker {
            load: f64,
        }
        for (body, expected) in [
            ("<html>\n", "http://a:81/s is not JSON: it is HTML that begins with \"<html>\""),
            ("", "http://a:81/s is not JSON: it is empty"),
            ("It works!", "http://a:81/s is not JSON: it begins with \"It works!\""),
            ("{\"jobs\":", "http://a:81/s is invalid JSON: EOF while parsing a value at line 1 column 8"),
            ("{\"jobs\":3}]", "http://a:81/s is invalid JSON: trailing characters at line 1 column 11"),
            ("{}", "http://a:81/s is not as expected: missing field `jobs`"),
            ("{\"jobs\":-1}", "http://a:81/s is not as expected: jobs: invalid value: integer `-1`, expected u8"),
            (
                "{\"jobs\":1,\n\"workers\":[{\"load\":\"0.5\"}]}",
                "http://a:81/s is not as expected: workers[0].load: invalid type: string \"0.5\", expected f64",
            ),
            (
                "{\"jobs\":1,\"workers\":[{\"load\":0},{}]}",
                "http://a:81/s is not as expected: workers[1]: missing field `load`",
            ),
        ] {
            assert_eq!(response(200, body.as_bytes()).json::<Page>().unwrap_err(), failed!("{expected}"));
        }
        assert!(response(200, b"{\"jobs\":3}").json::<Page>().is_ok());
        assert!(response(200, b"\xff").json::<Page>().is_err_and(|why| why.message().ends_with("it is not text")));
    }

    #[test]
    fn a_page_in_a_message_has_nothing_private() {
        for (url, expected) in [
            ("http://a", "http://a"),
            ("http://me:x@a:81/p/q?x#y", "http://a:81/p/q"),
            ("https://a/p@q#y", "https://a/p@q"),
            ("a/b?c", "a/b"),
        ] {
            assert_eq!(page(url), expected);
        }
    }

    #[test]
    fn a_failure_names_the_page_unless_the_agent_refused() {
        let failure =
            |error: fn(String) -> Error, tls| RequestFailure { error: error("why".into()), tls, page: "p".into() };
        assert_eq!(Error::from(failure(Error::Timeout, None)), Error::Timeout("p: why".into()));
        assert_eq!(Error::from(failure(Error::Denied, None)), Error::Denied("why".into()));
        let check = |error, tls| failure(error, tls).check("`url`");
        assert_eq!(check(Error::Unreachable, None), Error::Unreachable("p: why: check `url`".into()));
        assert_eq!(check(Error::Denied, None), Error::Denied("why".into()));
        assert_eq!(check(Error::Invalid, None), misconfigured!("why"));
        for (tls, error, expected) in [
            (
                TlsFault::Alert,
                Error::Unauthorized as fn(String) -> Error,
                "p: why: check `url`, and `certificate` and `key`",
            ),
            (TlsFault::Certificate, Error::Unauthorized, "p: why; name its authority under `tls`"),
            (TlsFault::NotTls, Error::Failed, "p: why; does it speak TLS? check `url`"),
        ] {
            let why = check(error, Some(tls));
            assert!(matches!(&why, Error::Misconfigured(text) if text.starts_with(expected)), "{why:?}");
        }
    }
}
