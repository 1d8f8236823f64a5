//! The client: one HTTP request to Mackerel's API and what its answer means.
//!
//! It knows headers, TLS, proxies and limits, but no endpoint, and it never tries twice. The API key is in here alone and
//! cannot be printed.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Proxy, Response, redirect};
use serde_json::Value;
use url::Url;
use wasaba_core::secret::Secret;
use wasaba_core::tls;

use super::FatalError;
use super::proxy::proxy_to;

/// For a whole request, as in the official agent.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Mackerel's answers have a few kilobytes; a description of a host with many interfaces perhaps fifty.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// More of a server's message is not worth a log line.
const LONGEST_MESSAGE: usize = 300;

/// Who asks: goes into the headers.
#[derive(Clone, Debug)]
pub struct Agent {
    /// `0.1.0`
    pub version: String,
    /// The first seven characters of the commit.
    pub revision: String,
}

/// How the way to Mackerel is.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The proxy for `http://`; the environment's if none is given here.
    pub http_proxy: Option<Secret>,
    /// The proxy for `https://`; the environment's if none is given here.
    pub https_proxy: Option<Secret>,
    /// Whether each request has a connection of its own.
    pub no_keep_alive: bool,
}

impl Route {
    /// The proxy to this server, if there is one.
    fn proxy(&self, base: &Url) -> Result<Option<Proxy>, FatalError> {
        let (key, given) = match base.scheme() {
            "https" => ("https_proxy", &self.https_proxy),
            _ => ("http_proxy", &self.http_proxy),
        };
        let Some(proxy) = proxy_to(base, given.as_ref(), |name| std::env::var(name).ok()) else { return Ok(None) };
        let address = proxy.reveal();
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        // The environment's may be of another kind, too; as HTTP it would be spoken to in the wrong language.
        let is_spoken =
            Url::parse(&address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let proxy = is_spoken.then(|| Proxy::all(address).ok()).flatten();
        proxy.map(Some).ok_or_else(|| {
            FatalError(format!(
                "`{key}`, or the variable of that name, is no address of an HTTP proxy, like http://proxy:8080"
            ))
        })
    }
}

/// A client for one organisation. Cloning is cheap, and clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Secret,
}

impl Client {
    /// Prepares everything, TLS roots too, but does not connect. Of `apibase` only scheme, user, host and port count.
    ///
    /// # Errors
    /// An `apibase` that is no http or https URL, or a key that no header can hold.
    pub fn new(apibase: &str, key: Secret, agent: &Agent, route: &Route) -> Result<Self, FatalError> {
        let base = base(apibase)?;
        // Without HTTPS no roots are read: reqwest wants a configuration even for plain HTTP.
        let tls = if base.scheme() == "https" { tls::verifying() } else { tls::none() };
        let tls = tls.map_err(|error| FatalError(format!("cannot prepare TLS: {error}")))?;
        let own_origin = base.clone();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .timeout(TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(if route.no_keep_alive { 0 } else { usize::MAX })
            .default_headers(headers(&key, agent, route)?)
            .no_proxy() // which ones there are, is found here
            .user_agent(format!("wasaba/{} (Revision {})", agent.version, agent.revision))
            // Elsewhere the key must not go, and reqwest would take it along.
            .redirect(redirect::Policy::custom(move |attempt| {
                if attempt.previous().len() < 10 && attempt.url().origin() == own_origin.origin() {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }))
            .tls_backend_preconfigured(tls);
        if let Some(proxy) = route.proxy(&base)? {
            builder = builder.proxy(proxy);
        }
        let http =
            builder.build().map_err(|error| FatalError(format!("cannot make an HTTP client: {}", chain(&error))))?;
        Ok(Self { http, base, key })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ApiError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.http.request(Method::GET, url)).await
    }

    /// `POST path` with JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post(&self, path: &str, json: Vec<u8>) -> Result<Value, ApiError> {
        self.send(self.http.request(Method::POST, self.url(path)).header(CONTENT_TYPE, "application/json").body(json))
            .await
    }

    /// `PUT path` with JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn put(&self, path: &str, json: Vec<u8>) -> Result<Value, ApiError> {
        self.send(self.http.request(Method::PUT, self.url(path)).header(CONTENT_TYPE, "application/json").body(json))
            .await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, ApiError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let body = self.body(response).await?;
        if !status.is_success() {
            let message = self.key.hidden_in(&message(&body).unwrap_or_else(|| status.to_string()));
            return Err(ApiError::of(status.as_u16(), message, retry_after));
        }
        serde_json::from_slice(&body).map_err(|_| {
            ApiError::Unreachable(format!(
                "{} answered {status} without valid JSON: is that Mackerel, or a proxy's login page?",
                self.host()
            ))
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(ApiError::Unreachable(format!("the answer of {} is longer than 1 MiB", self.host())));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: reqwest::Error) -> ApiError {
        // The URL may hold a password.
        ApiError::Unreachable(format!("{}: {}", self.host(), self.key.hidden_in(&chain(&error.without_url()))))
    }

    fn host(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.base.host_str().unwrap_or_default())
    }
}

/// Why a request did not do what it should, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 401 or 403: the key, or the address it is used from.
    Auth {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// 404: what the path names is not there.
    NotFound {
        /// What the server said.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// 408, 429 or 5xx: the same request may go through later.
    Busy {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx: something in the request is wrong.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that Mackerel would give.
    Unreachable(String),
}

impl ApiError {
    fn of(status: u16, message: String, retry_after: Option<Duration>) -> Self {
        match status {
            401 | 403 => Self::Auth { status, message, retry_after },
            404 => Self::NotFound { message, retry_after },
            408 | 429 | 500..=599 => Self::Busy { status, message, retry_after },
            400..=499 => Self::Refused { status, message, retry_after },
            _ => Self::Unreachable(format!(
                "answered {status}: {message}; set `apibase` to the server that it points to"
            )),
        }
    }

    /// How long the server wants to be left alone, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Auth { retry_after, .. }
            | Self::NotFound { retry_after, .. }
            | Self::Busy { retry_after, .. }
            | Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable(_) => None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth { status, message, .. } => write!(
                formatter,
                "Mackerel refuses the API key ({status}: {message}): see that `apikey` is a key of your organisation that \
                 may read and write, and that this machine's address is allowed to use it"
            ),
            Self::NotFound { message, .. } => write!(formatter, "Mackerel answered 404: {message}"),
            Self::Busy { status, message, .. } | Self::Refused { status, message, .. } => {
                write!(formatter, "Mackerel answered {status}: {message}")
            }
            Self::Unreachable(why) => write!(formatter, "cannot reach Mackerel: {why}"),
        }
    }
}

impl Error for ApiError {}

fn base(apibase: &str) -> Result<Url, FatalError> {
    let wrong = |why: &str| {
        // Not the value itself: it may hold a password.
        FatalError(format!("`apibase` {why}; write for instance `apibase = \"https://api.mackerelio.com\"`"))
    };
    let mut base = Url::parse(apibase).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(wrong("must begin with https:// or http:// and name a host"));
    }
    base.set_path("");
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}

fn headers(key: &Secret, agent: &Agent, route: &Route) -> Result<HeaderMap, FatalError> {
    let header = |text: &str, what: &str| {
        HeaderValue::from_str(text).map_err(|_| FatalError(format!("{what} has a character that cannot be sent")))
    };
    let mut secret = header(key.reveal(), "`apikey`")?;
    secret.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", secret);
    headers.insert("x-agent-version", header(&agent.version, "the version")?);
    headers.insert("x-revision", header(&agent.revision, "the revision")?);
    if route.no_keep_alive {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(headers)
}

/// Either form of the header: seconds, or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(date.as_second()).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// `{"error":{"message":"…"}}`, or `{"error":"…"}`, in one line.
fn message(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let error = answer.get("error")?;
    let message = error.get("message").unwrap_or(error).as_str()?;
    Some(message.chars().take(LONGEST_MESSAGE).map(|char| if char.is_control() { ' ' } else { char }).collect())
}

/// An error and its sources, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::testing::{Server, answer};

    fn client(apibase: &str) -> Client {
        let agent = Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() };
        Client::new(apibase, Secret::new("very-secret"), &agent, &Route::default()).unwrap()
    }

    #[test]
    fn only_scheme_user_host_and_port_of_apibase_count() {
        let url = |text| client(text).url("/api/v0/tsdb").to_string();
        assert_eq!(url("https://api.mackerelio.com/some/path?a=b#c"), "https://api.mackerelio.com/api/v0/tsdb");
        assert_eq!(url("http://user:pass@127.0.0.1:8080"), "http://user:pass@127.0.0.1:8080/api/v0/tsdb");
        for wrong in ["", "api.mackerelio.com", "ftp://secret@host", "unix:/run/x"] {
            let told = base(wrong).unwrap_err().to_string();
            assert!(told.contains("apibase = ") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn the_key_is_never_printed() {
        let client = client("https://api.mackerelio.com");
        assert_eq!(format!("{:?}", client.key), "[redacted]");
        assert!(!format!("{client:?}").contains("very-secret"));
        assert_eq!(client.key.hidden_in("bad key very-secret"), "bad key [redacted]");
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_told_without_printing_it() {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let error = Client::new("http://127.0.0.1", Secret::new("two\nlines"), &agent, &Route::default()).unwrap_err();
        assert_eq!(error.to_string(), "`apikey` has a character that cannot be sent");
    }

    #[test]
    fn retry_after_is_understood_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn an_error_message_is_one_line_and_not_long() {
        assert_eq!(message(br#"{"error":{"message":"Host\nNot Found."}}"#).as_deref(), Some("Host Not Found."));
        assert_eq!(message(br#"{"error":"no"}"#).as_deref(), Some("no"));
        assert_eq!(message(b"<html>"), None);
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(1000));
        assert_eq!(message(long.as_bytes()).map(|text| text.len()), Some(LONGEST_MESSAGE));
    }

    #[tokio::test]
    async fn a_request_carries_the_headers_that_mackerel_knows() {
        let server = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        client(&server.base).post("/api/v0/tsdb", b"[]".to_vec()).await.unwrap();
        let request = server.requests().remove(0);
        assert_eq!((request.line.as_str(), request.body.as_str()), ("POST /api/v0/tsdb", "[]"));
        let expected = [
            "x-api-key: very-secret",
            "x-agent-version: 0.1.0",
            "x-revision: abcdef0",
            "user-agent: wasaba/0.1.0 (Revision abcdef0)",
            "content-type: application/json",
        ];
        for header in expected {
            assert!(request.head.contains(header), "`{header}` is not in\n{}", request.head);
        }
    }

    #[tokio::test]
    async fn every_status_is_told_apart() {
        let statuses = [401, 403, 404, 408, 429, 500, 503, 400, 413, 200, 302];
        let mut kinds = String::new();
        for status in statuses {
            let server = Server::start(move |_| answer(status, "no json")).await;
            kinds.push(match client(&server.base).get("/x", &[]).await.unwrap_err() {
                ApiError::Auth { .. } => 'a',
                ApiError::NotFound { .. } => 'n',
                ApiError::Busy { .. } => 'b',
                ApiError::Refused { .. } => 'r',
                ApiError::Unreachable(_) => 'u',
            });
        }
        assert_eq!(kinds, "aanbbbbrruu");
    }

    #[tokio::test]
    async fn the_key_is_not_taken_along_to_another_server() {
        let other = Server::start(|_| answer(200, "{}")).await;
        let location = format!("{}/x", other.base);
        let server =
            Server::start(move |_| format!("HTTP/1.1 307 No\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        assert!(client(&server.base).get("/x", &[]).await.is_err());
        assert!(other.requests().is_empty());
    }

    #[tokio::test]
    async fn an_endless_answer_is_given_up() {
        let server = Server::start(|_| answer(200, &"x".repeat(LONGEST_ANSWER + 1))).await;
        let error = client(&server.base).get("/x", &[]).await.unwrap_err();
        assert!(error.to_string().ends_with("is longer than 1 MiB"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_once_and_without_the_password() {
        let error = client("http://user:secret@127.0.0.1:1").get("/x", &[]).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && !error.contains("secret"), "{error}");
        assert_eq!(error.matches("onnection refused").count(), 1, "{error}");
    }

    #[tokio::test]
    async fn without_keep_alive_each_request_asks_for_an_end_of_its_connection() {
        let server = Server::start(|_| answer(200, "{}")).await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        for (no_keep_alive, expected) in [(false, 0), (true, 1)] {
            let route = Route { no_keep_alive, ..Route::default() };
            let client = Client::new(&server.base, Secret::new("key"), &agent, &route).unwrap();
            client.get("/x", &[]).await.unwrap();
            let head = server.requests().pop().unwrap().head;
            assert_eq!(head.matches("connection: close").count(), expected, "{head}");
        }
    }

    #[test]
    fn a_proxy_that_is_not_spoken_to_is_an_error_without_its_password() {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let route = Route { http_proxy: Some(Secret::new("socks5://me:hunter2@proxy")), ..Route::default() };
        let error = Client::new("http://mackerel.example.com", Secret::new("key"), &agent, &route).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("http_proxy") && !told.contains("hunter2"), "{told}");
    }

    #[tokio::test]
    async fn a_proxy_of_the_configuration_is_asked_in_place_of_the_server() {
        let proxy = Server::start(|_| answer(200, "{}")).await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let route = Route { http_proxy: Some(Secret::new(proxy.base.as_str())), ..Route::default() };
        let client = Client::new("http://mackerel.example.com", Secret::new("key"), &agent, &route).unwrap();
        client.get("/api/v0/hosts", &[]).await.unwrap();
        assert_eq!(proxy.requests().remove(0).line, "GET http://mackerel.example.com/api/v0/hosts");
        assert!(!format!("{route:?}").contains("127.0.0.1"), "it may hold a password");
    }
}
