//! The client: one HTTP request to Mackerel's API.
//!
//! It knows headers, proxies and limits, but no endpoint, and it never retries. Only the client holds the API key, which
//! cannot be printed.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AGE, CONNECTION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;
use wasaba_core::clock;
use wasaba_core::names;
use wasaba_core::secret::Secret;
use wasaba_core::tls::{self, Trust};

use super::answer::{self, ApiError, Author, ErrorResponse};
use super::connections::{Connections, Recipe, TIMEOUT};
use super::dates::{Dates, Present, Verdict};
use super::proxy::{Proxy, proxy_to};
use super::{FatalError, Pace};

/// Mackerel's responses have a few kilobytes; the description of a host with many interfaces perhaps fifty.
const LONGEST_RESPONSE: usize = 1024 * 1024;

/// A list of the hosts of one name has a few kilobytes for each.
pub(super) const LONGEST_LIST: usize = 4 * LONGEST_RESPONSE;

/// The agent's version, for the headers.
#[derive(Clone, Debug)]
pub struct Agent {
    /// `0.1.0`
    pub version: String,
    /// The first seven characters of the commit.
    pub revision: String,
}

/// How requests travel to Mackerel.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The proxy for `http://`; without it, the environment's.
    pub http_proxy: Option<Secret>,
    /// The proxy for `https://`; without it, the environment's.
    pub https_proxy: Option<Secret>,
    /// Whether each request opens a new connection.
    pub no_keep_alive: bool,
}

impl Route {
    /// The proxy for this server, if there is one.
    fn proxy(&self, base: &Url) -> Result<Option<Proxy>, FatalError> {
        let given = if base.scheme() == "https" { &self.https_proxy } else { &self.http_proxy };
        proxy_to(base, given.as_ref(), |name| std::env::var(name).ok())
    }

    /// The way to this server, without credentials: its own address, and that of the proxy if there is one.
    #[must_use]
    pub fn shown(&self, apibase: &str) -> (String, Option<String>) {
        let proxy = Url::parse(apibase).ok().and_then(|base| self.proxy(&base).ok().flatten());
        (without_credentials(apibase), proxy.map(|proxy| without_credentials(&proxy.address.url)))
    }
}

impl Proxy {
    /// As the HTTP library takes it.
    fn of_client(&self) -> Result<reqwest::Proxy, FatalError> {
        let unusable = |error: reqwest::Error| {
            FatalError(format!("{} cannot be used: {}", self.source, chain(&error.without_url())))
        };
        let proxy = reqwest::Proxy::all(&self.address.url).map_err(unusable)?;
        Ok(match &self.address.login {
            // It puts them into a URL as they are, and unescapes that.
            Some((user, password)) => {
                let escaped = |text: &str| text.replace('%', "%25");
                proxy.basic_auth(&escaped(user), &escaped(password.reveal()))
            }
            None => proxy,
        })
    }
}

/// A client for one organization. Cloning is cheap, and clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    connections: Arc<Connections>,
    base: Url,
    key: Secret,
    dates: Arc<watch::Sender<Dates>>,
    /// This machine's clock, and how long it has been running.
    now: fn() -> SystemTime,
    running: fn() -> Duration,
    /// The proxy on the way and where it is written, for messages.
    proxy: Option<Arc<str>>,
    /// The host that it connects to: the proxy's, or Mackerel's.
    peer: Arc<str>,
}

impl Client {
    /// Prepares everything, but reads no file and does not connect. Of `apibase` only scheme, user, host and port count.
    ///
    /// # Errors
    /// An `apibase` that is not an http or https URL, or a key that is not valid in a header.
    pub fn new(apibase: &str, key: Secret, agent: &Agent, route: &Route) -> Result<Self, FatalError> {
        let base = base(apibase)?;
        let proxy = route.proxy(&base)?;
        let recipe = Recipe {
            base: base.clone(),
            headers: headers(&key, agent, route)?,
            user_agent: format!("wasaba/{} (Revision {})", agent.version, agent.revision),
            no_keep_alive: route.no_keep_alive,
            proxy: proxy.as_ref().map(Proxy::of_client).transpose()?,
        };
        let connections = Arc::new(Connections::new(recipe)?);
        let of_proxy = proxy.as_ref().and_then(|proxy| Url::parse(&proxy.address.url).ok());
        let peer = of_proxy.as_ref().unwrap_or(&base).host_str().unwrap_or_default().into();
        let proxy = proxy.map(|proxy| format!("`{}` of {}", proxy.address.server, proxy.source).into());
        Ok(Self {
            connections,
            base,
            key,
            dates: Arc::default(),
            now: clock::wall,
            running: clock::running,
            proxy,
            peer,
        })
    }

    /// The same client, with the clocks of this pace.
    pub(super) fn at(self, pace: Pace) -> Self {
        Self { now: pace.now, running: pace.running, ..self }
    }

    /// The time by Mackerel's last answer, in seconds since 1970, if that is of the last minutes.
    pub(super) fn mackerel_time(&self) -> Option<i64> {
        self.dates.borrow().last((self.running)())
    }

    /// What is posted, held back and dropped by its time. `ours` is this machine's clock, in seconds since 1970.
    pub(super) fn verdict(&self, ours: i64) -> Verdict {
        self.dates.borrow().verdict((self.running)(), ours)
    }

    /// The present time for check reports.
    pub(super) fn present(&self) -> Present {
        self.dates.borrow().present((self.running)(), clock::seconds_of((self.now)()))
    }

    /// Whether Mackerel has answered too little to judge what is held back by its time.
    pub(super) fn lacks_dates(&self) -> bool {
        self.dates.borrow().are_lacking((self.running)())
    }

    /// Whether Mackerel has answered too little to know when what is held back until its time has come may be posted.
    pub(super) fn lacks_recent_dates(&self) -> bool {
        self.dates.borrow().are_old((self.running)())
    }

    /// Returns once Mackerel has answered any request.
    pub(super) async fn answered(&self) {
        // The sender lives as long as this.
        self.dates.subscribe().wait_for(Dates::are_begun).await.ok();
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Sends one request, with JSON or without a body. `success` finds in the answer what Mackerel answers on success.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(super) async fn send<T>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        json: Option<Vec<u8>>,
        success: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ApiError> {
        self.send_and_read(LONGEST_RESPONSE, method, path, query, json, success).await
    }

    /// As [`Client::send`], for an answer of up to so many bytes.
    pub(super) async fn send_and_read<T>(
        &self,
        most_bytes: usize,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        json: Option<Vec<u8>>,
        success: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ApiError> {
        #[cfg(test)]
        let _under_way = super::simulation::UnderWay::begin();
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let unready = |why| ApiError::Unsent(format!("cannot reach Mackerel: {}: {why}", self.host()));
        if self.base.scheme() == "https" {
            tls::ready().await.map_err(unready)?;
        }
        let client = self.connections.client().map_err(|error| unready(error.to_string()))?;
        let mut request = client.request(method, url);
        if let Some(json) = json {
            request = request.header(CONTENT_TYPE, "application/json").body(json);
        }
        let response = self.sent(request).await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // That of a cache was told to someone else before.
        let told = header(DATE).filter(|_| header(AGE).is_none()).and_then(answer::date);
        let its_time = told.and_then(|told| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(told).ok()?)));
        let waits = response.headers().get_all(RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
        let waits = waits.filter_map(|value| answer::retry_after(value, its_time.unwrap_or_else(clock::wall)));
        let retry_after = waits.max();
        if !status.is_success() {
            // What can be read of the reason. A body that is long or ends early hides neither status nor Retry-After.
            let message = answer::message(&self.body(response, LONGEST_RESPONSE).await.0);
            return Err(ApiError::of(ErrorResponse {
                status: status.as_u16(),
                by: if message.is_some() { Author::Mackerel } else { Author::Unknown(self.host()) },
                message: self.key.redacted_in(&message.unwrap_or_else(|| status.to_string())),
                retry_after,
            }));
        }
        let (arrived, ours) = ((self.running)(), clock::seconds_of((self.now)()));
        let (body, end) = self.body(response, most_bytes).await;
        end?;
        let found = serde_json::from_slice(&body).ok().as_ref().and_then(success);
        if found.is_some() {
            self.dates.send_modify(|dates| dates.record(told, arrived, ours));
        }
        found.ok_or_else(|| match retry_after {
            Some(_) => ApiError::of(ErrorResponse {
                status: status.as_u16(),
                by: Author::Unknown(self.host()),
                message: status.to_string(),
                retry_after,
            }),
            None => ApiError::NoAnswer(format!(
                "{} answered {status}, but not what Mackerel answers on success: is `apibase` right, or does a proxy or login \
                 page answer in its place?",
                self.host()
            )),
        })
    }

    /// Sends a request. One that could not connect has sent nothing: where the look-up has not waited for addresses of the other family, it
    /// connects to those, in the rest of its time.
    async fn sent(&self, request: RequestBuilder) -> reqwest::Result<Response> {
        let (ends, again) = (Instant::now() + TIMEOUT, request.try_clone());
        let error = match request.send().await {
            Err(error) if error.is_connect() => error,
            sent => return sent,
        };
        let Some(again) = again else { return Err(error) };
        let other = async { if names::has_more(&self.peer).await { Some(again.send().await) } else { None } };
        tokio::time::timeout_at(ends, other).await.ok().flatten().unwrap_or(Err(error))
    }

    /// The body as far as it was read, and why it is not the whole.
    async fn body(&self, mut response: Response, most_bytes: usize) -> (Vec<u8>, Result<(), ApiError>) {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > most_bytes => {
                    let why = format!("the response of {} is longer than {} MiB", self.host(), most_bytes >> 20);
                    return (body, Err(ApiError::NoAnswer(why)));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return (body, Ok(())),
                Err(error) => return (body, Err(self.unreachable(error))),
            }
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> ApiError {
        // The URL may hold a password.
        let is_of_way = error.is_connect();
        let error = error.without_url();
        let why = tls::with_cure(self.key.redacted_in(&chain(&error)), &error, &Trust::default());
        let why = match &self.proxy {
            // The proxy is not there, refuses this machine, or does not reach Mackerel.
            Some(proxy) if is_of_way => format!(
                "cannot reach {} through the proxy {proxy}: {why}; check its address, its user and password, and whether it lets \
                 this machine through",
                self.host()
            ),
            _ => format!("cannot reach Mackerel: {}: {why}", self.host()),
        };
        if is_of_way { ApiError::Unsent(why) } else { ApiError::NoAnswer(why) }
    }

    fn host(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.base.host_str().unwrap_or_default())
    }
}

/// An address that may be shown: scheme, host and port.
fn without_credentials(address: &str) -> String {
    let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = Url::parse(&address).ok().filter(|url| url.has_host() && url.query().or(url.fragment()).is_none());
    // A password with a sign that it must not have may have become part of the host.
    let Some(url) = url else { return "[invalid address]".to_owned() };
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "[redacted]@" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{user}{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn base(apibase: &str) -> Result<Url, FatalError> {
    let wrong = |why: &str| {
        // Not the value itself, which may hold a password.
        FatalError(format!("`apibase` {why}; write for instance `apibase = \"https://api.mackerelio.com\"`"))
    };
    let mut base = Url::parse(apibase).map_err(|error| wrong(&format!("is not a valid URL ({error})")))?;
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
        HeaderValue::from_str(text)
            .map_err(|_| FatalError(format!("{what} has a character that is not valid in an HTTP header")))
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

/// An error and its sources, joined by colons. A message that ends with its source's, as some libraries write it, is not
/// followed by that again.
pub(super) fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.map(ToString::to_string).fold(error.to_string(), |text, source| {
        if text.ends_with(&source) { text } else { format!("{text}: {source}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::testing::{Server, answer};

    fn client(apibase: &str) -> Client {
        let agent = Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() };
        Client::new(apibase, Secret::new("very-secret"), &agent, &Route::default()).unwrap()
    }

    /// A request that any JSON answers.
    async fn get(client: &Client) -> Result<Value, ApiError> {
        client.send(Method::GET, "/x", &[], None, |answer| Some(answer.clone())).await
    }

    #[tokio::test]
    async fn mackerels_time_is_that_of_its_last_success_and_not_that_of_a_gateway_or_cache() {
        let server = Server::start(|request| {
            let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
            let (status, body) = if request.line == "GET /y" { ("502 Bad Gateway", "") } else { ("200 OK", "{}") };
            let age = if request.line == "GET /cached" { "Age: 7200\r\n" } else { "" };
            format!("HTTP/1.1 {status}\r\n{date}{age}Content-Length: {}\r\n\r\n{body}", body.len())
        })
        .await;
        let client = client(&server.base);
        let failed = client.send(Method::GET, "/y", &[], None, |answer| Some(answer.clone())).await;
        assert!(failed.is_err() && client.mackerel_time().is_none());
        let cached = client.send(Method::GET, "/cached", &[], None, |answer| Some(answer.clone())).await;
        assert!(cached.is_ok() && client.mackerel_time().is_none());
        let login_page = client.send(Method::GET, "/x", &[], None, |_| None::<()>).await;
        assert!(login_page.is_err() && client.mackerel_time().is_none());
        assert!(get(&client).await.is_ok());
        assert!(client.clone().mackerel_time().is_some_and(|time| (784_111_777..784_112_077).contains(&time)));
    }

    #[test]
    fn only_scheme_user_host_and_port_of_apibase_count() {
        let url = |text| client(text).url("/api/v0/tsdb").to_string();
        assert_eq!(url("https://api.mackerelio.com/some/path?a=b#c"), "https://api.mackerelio.com/api/v0/tsdb");
        assert_eq!(url("http://user:pass@127.0.0.1:8080"), "http://user:pass@127.0.0.1:8080/api/v0/tsdb");
        for wrong in ["", "api.mackerelio.com", "ftp://secret@host", "unix:/run/x"] {
            let error = base(wrong).unwrap_err().to_string();
            assert!(error.contains("apibase = ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_way_is_shown_without_credentials() {
        for (address, expected) in [
            ("https://api.mackerelio.com/", "https://api.mackerelio.com"),
            ("http://127.0.0.1:8080/some/path", "http://127.0.0.1:8080"),
            ("http://user:secret@proxy:3128", "http://[redacted]@proxy:3128"),
            ("user:secret@proxy:3128", "http://[redacted]@proxy:3128"),
            ("proxy:3128", "http://proxy:3128"),
            ("http://user:80#secret@proxy", "[invalid address]"),
            ("http://user:80?secret@proxy", "[invalid address]"),
            ("http://user:se#cret@proxy", "[invalid address]"),
        ] {
            assert_eq!(without_credentials(address), expected);
        }
        let route = Route { https_proxy: Some(Secret::new("http://u:p@proxy:1")), ..Route::default() };
        let (server, proxy) = route.shown("https://api.mackerelio.com/");
        assert_eq!((server.as_str(), proxy.as_deref()), ("https://api.mackerelio.com", Some("http://proxy:1")));
    }

    #[test]
    fn the_key_is_never_printed() {
        let client = client("https://api.mackerelio.com");
        assert_eq!(format!("{:?}", client.key), "[redacted]");
        assert!(!format!("{client:?}").contains("very-secret"));
        assert_eq!(client.key.redacted_in("bad key very-secret"), "bad key [redacted]");
    }

    #[test]
    fn a_key_that_is_not_valid_in_a_header_is_refused_without_printing_it() {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let error = Client::new("http://127.0.0.1", Secret::new("two\nlines"), &agent, &Route::default()).unwrap_err();
        assert_eq!(error.to_string(), "`apikey` has a character that is not valid in an HTTP header");
    }

    #[tokio::test]
    async fn a_request_carries_the_headers_that_mackerel_knows() {
        let server = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        client(&server.base).post_values(b"[]".to_vec()).await.unwrap();
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
    async fn statuses_are_distinguished_by_what_can_be_done() {
        let statuses = [401, 403, 404, 408, 429, 500, 503, 400, 413, 200, 302];
        let mut kinds = String::new();
        for status in statuses {
            let server = Server::start(move |_| answer(status, "no json")).await;
            kinds.push(match get(&client(&server.base)).await.unwrap_err() {
                ApiError::Auth(_) => 'a',
                ApiError::NotFound(_) => 'n',
                ApiError::Busy(_) => 'b',
                ApiError::Refused(_) => 'r',
                ApiError::NoAnswer(_) | ApiError::Unsent(_) => 'u',
            });
        }
        assert_eq!(kinds, "aanbbbbrruu");
    }

    #[tokio::test]
    async fn a_redirect_does_not_take_the_key_to_another_server() {
        let other = Server::start(|_| answer(200, "{}")).await;
        let location = format!("{}/x", other.base);
        let server =
            Server::start(move |_| format!("HTTP/1.1 307 No\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        assert!(get(&client(&server.base)).await.is_err());
        assert!(other.requests().is_empty());
    }

    #[tokio::test]
    async fn a_response_that_is_too_long_is_an_error() {
        let server = Server::start(|_| answer(200, &"x".repeat(LONGEST_RESPONSE + 1))).await;
        let error = get(&client(&server.base)).await.unwrap_err();
        assert!(error.to_string().ends_with("is longer than 1 MiB"), "{error}");
    }

    #[tokio::test]
    async fn a_long_error_hides_neither_its_status_nor_when_to_retry() {
        let long = "x".repeat(LONGEST_RESPONSE + 1);
        let response = format!("HTTP/1.1 503 Busy\r\nretry-after: 90\r\ncontent-length: {}\r\n\r\n{long}", long.len());
        let server = Server::start(move |_| response.clone()).await;
        let error = get(&client(&server.base)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(90)), "{error}");
        assert!(error.to_string().contains("503"), "{error}");
    }

    #[tokio::test]
    async fn the_longest_retry_after_counts_whatever_the_status() {
        for status in ["200 OK", "302 Found", "403 Forbidden", "503 Busy"] {
            let response = format!(
                "HTTP/1.1 {status}\r\nretry-after: 5\r\nretry-after: 90\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"
            );
            let server = Server::start(move |_| response.clone()).await;
            let error = get(&client(&server.base)).await.unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(90)), "{status}: {error}");
        }
    }

    #[tokio::test]
    async fn a_date_to_retry_after_is_reckoned_by_the_clock_of_the_server() {
        let response = "HTTP/1.1 503 Busy\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                        retry-after: Sun, 06 Nov 1994 08:51:07 GMT\r\ncontent-length: 0\r\n\r\n";
        let server = Server::start(move |_| response.to_owned()).await;
        let error = get(&client(&server.base)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(90)));
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_once_and_without_the_password() {
        let error = get(&client("http://user:secret@127.0.0.1:1")).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && !error.contains("secret"), "{error}");
        assert_eq!(error.matches("onnection refused").count(), 1, "{error}");
    }

    #[tokio::test]
    async fn without_keep_alive_each_request_closes_its_connection() {
        let server = Server::start(|_| answer(200, "{}")).await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        for (no_keep_alive, expected) in [(false, 0), (true, 1)] {
            let route = Route { no_keep_alive, ..Route::default() };
            let client = Client::new(&server.base, Secret::new("key"), &agent, &route).unwrap();
            get(&client).await.unwrap();
            let head = server.requests().pop().unwrap().head;
            assert_eq!(head.matches("connection: close").count(), expected, "{head}");
        }
    }

    #[test]
    fn an_unsupported_proxy_is_an_error_without_its_password() {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let route = Route { http_proxy: Some(Secret::new("socks5://me:hunter2@proxy")), ..Route::default() };
        let error = Client::new("http://mackerel.example.com", Secret::new("key"), &agent, &route).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("http_proxy") && !error.contains("hunter2"), "{error}");
    }

    /// A client whose requests go through this proxy.
    fn behind(proxy: &str, apibase: &str) -> Client {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let proxy = Some(Secret::new(proxy));
        let route = Route { http_proxy: proxy.clone(), https_proxy: proxy, ..Route::default() };
        Client::new(apibase, Secret::new("key"), &agent, &route).unwrap()
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_proxy_is_not_called_mackerels() {
        let absent = behind("http://me:hunter2@127.0.0.1:1", "https://mackerel.example.com");
        let login = Server::start(|_| answer(407, "no")).await;
        let server = login.base.trim_start_matches("http://").to_owned();
        let refusing = behind(&login.base, "https://mackerel.example.com");
        for (client, proxy, why) in
            [(absent, "127.0.0.1:1", "onnection refused"), (refusing, server.as_str(), "proxy authorization required")]
        {
            let error = get(&client).await.unwrap_err().to_string();
            let begin = format!("cannot reach mackerel.example.com through the proxy `{proxy}` of `https_proxy`: ");
            assert!(error.starts_with(&begin) && error.contains(why), "{error}");
            assert!(error.contains("user and password") && !error.contains("hunter2"), "{error}");
        }
        // Without TLS, the proxy answers in Mackerel's place.
        let error = get(&behind(&login.base, "http://mackerel.example.com")).await.unwrap_err().to_string();
        assert!(error.starts_with("the proxy requires a login (407)"), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_gets_user_and_password_as_they_were_written() {
        for (written, sent) in [
            ("me:hunter2", "bWU6aHVudGVyMg=="),
            ("DOMAIN\\me:p#ss@1", "RE9NQUlOXG1lOnAjc3NAMQ=="),
            ("me:p%23ss", "bWU6cCNzcw=="),
            ("u:%2541", "dTolNDE="),
            ("u%2540:50%:%zz", "dSU0MDo1MCU6JXp6"),
        ] {
            let proxy = Server::start(|_| answer(200, "{}")).await;
            let address = format!("http://{written}@{}", proxy.base.trim_start_matches("http://"));
            get(&behind(&address, "http://mackerel.example.com")).await.unwrap();
            let head = proxy.requests().remove(0).head;
            assert!(head.contains(&format!("proxy-authorization: Basic {sent}")), "{written}: {head}");
        }
    }

    #[tokio::test]
    async fn requests_go_through_the_proxy_of_the_configuration() {
        let proxy = Server::start(|_| answer(200, "{}")).await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let route = Route { http_proxy: Some(Secret::new(proxy.base.as_str())), ..Route::default() };
        let client = Client::new("http://mackerel.example.com", Secret::new("key"), &agent, &route).unwrap();
        get(&client).await.unwrap();
        assert_eq!(proxy.requests().remove(0).line, "GET http://mackerel.example.com/x");
        assert!(!format!("{route:?}").contains("127.0.0.1"), "it may hold a password");
    }
}
