//! `http`: requests to granted origins, made by the agent. Redirects are not followed; a name is resolved once, each of its
//! addresses checked, and only a checked one connected to.

use std::error::Error as _;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use url::Url;
use wasaba_core::tls;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

use super::blocking::Blocking;
use super::connect::{self, Unreached};
use super::gate::Gate;
use super::meter::Meter;
use super::script::Script;
use crate::contract::bindings::wasaba::plugin::http::{self as contract, Error, Request, Response};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Headers that belong to the connection, which is the agent's.
const CONNECTION_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The HTTP clients of one instance, shared with no other and made for its first request, and what its requests may do.
pub(super) struct OfInstance {
    gate: Gate,
    blocking: Blocking,
    meter: Arc<Meter>,
    body_bytes: usize,
    plain: OnceLock<Client>,
    encrypted: OnceLock<Client>,
}

impl OfInstance {
    pub(super) fn new(gate: Gate, blocking: Blocking, meter: Arc<Meter>, body_bytes: usize) -> Self {
        Self { gate, blocking, meter, body_bytes, plain: OnceLock::new(), encrypted: OnceLock::new() }
    }

    fn client(&self, encrypted: bool) -> Result<Client, Error> {
        let trust = self.gate.trust();
        if encrypted && (trust.authority.is_some() || trust.identity.is_some()) {
            // Made for each request, so that a renewed certificate takes effect.
            return self.new_client(encrypted).map_err(Error::Failed);
        }
        let slot = if encrypted { &self.encrypted } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = self.new_client(encrypted).map_err(Error::Failed)?;
        Ok(slot.get_or_init(|| client).clone())
    }

    fn new_client(&self, encrypted: bool) -> Result<Client, String> {
        let tls =
            if encrypted { tls::client(self.gate.trust())? } else { tls::none().map_err(|error| error.to_string())? };
        let names = CheckedNames { gate: self.gate.clone(), blocking: self.blocking.clone() };
        Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(names))
            // A proxy would connect to unchecked addresses.
            .no_proxy()
            // One request a minute: an idle connection costs both sides more memory than a new one costs time, and a
            // status page that counts connections would count it.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| error.to_string())
    }
}

/// Resolves names for one instance to addresses that it may connect to.
struct CheckedNames {
    gate: Gate,
    blocking: Blocking,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (gate, blocking) = (self.gate.clone(), self.blocking.clone());
        Box::pin(async move {
            let found = connect::resolve(name.as_str(), &gate, &blocking).await.map_err(Unresolved)?;
            Ok(Box::new(connect::without_port(found)) as Addrs)
        })
    }
}

/// Carries the resolver's error through those of the HTTP client.
#[derive(Debug)]
struct Unresolved(Unreached);

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unreached::Denied(text) | Unreached::Unreachable(text)) = &self.0;
        formatter.write_str(text)
    }
}

impl std::error::Error for Unresolved {}

/// All that this capability sees of a call.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) connections: &'a connect::OfCall,
    pub(super) script: Option<&'a Script>,
}

impl View<'_> {
    async fn checked(self, request: Request) -> Result<Response, Error> {
        let OfInstance { gate, meter, body_bytes, .. } = self.instance;
        let url = Url::parse(&request.url).map_err(|error| Error::Invalid(format!("invalid URL: {error}")))?;
        gate.check(|grants| grants.check_url(&url)).map_err(Error::Denied)?;
        let method =
            Method::from_bytes(request.method.as_bytes()).map_err(|_| Error::Invalid("invalid method".to_owned()))?;
        let headers = headers(&request.headers)?;
        if let Some(script) = self.script {
            let response = script.fetch(&request).map_err(Error::Unreachable)?;
            return if response.body.len() > *body_bytes { Err(too_large(*body_bytes)) } else { Ok(response.into()) };
        }
        let _slot = self.connections.slot().map_err(Error::Unreachable)?;
        let client = self.instance.client(url.scheme() == "https")?;
        let mut builder = client.request(method, url).headers(headers);
        if let Some(body) = request.body {
            meter.sent_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            builder = builder.body(body);
        }
        let whole = async { response(builder.send().await.map_err(|error| explain(&error))?, *body_bytes).await };
        let response = self.connections.patience.wait(None, whole).await??;
        meter.received_bytes.fetch_add(response.body.len() as u64, Ordering::Relaxed);
        Ok(response)
    }
}

impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Denied(text) => Self::Denied(text),
            Unreached::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

fn too_large(most: usize) -> Error {
    Error::Failed(format!("the response is larger than {most} bytes (limit `body_kib`)"))
}

async fn response(mut response: reqwest::Response, most: usize) -> Result<Response, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(&error))? {
        if body.len().saturating_add(chunk.len()) > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    let headers = response.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Ok(Response { status: response.status().as_u16(), headers: headers.collect(), body })
}

impl contract::Host for View<'_> {
    async fn fetch(&mut self, request: Request) -> Result<Result<Response, Error>> {
        Ok(self.checked(request).await)
    }
}

fn headers(requested: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in requested {
        // The value may be a secret: neither it nor its length is in an error.
        let invalid = || Error::Invalid(format!("invalid header {name:?}"));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        if CONNECTION_HEADERS.contains(&parsed.as_str()) {
            return Err(Error::Invalid(format!("the header `{parsed}` belongs to the connection and cannot be set")));
        }
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        headers.try_append(parsed, value).map_err(|_| Error::Invalid("too many headers".into()))?;
    }
    Ok(headers)
}

/// The HTTP client's error in the contract's form. The client's own text names the URL, which may carry a secret in its query,
/// so only the causes are shown.
fn explain(error: &reqwest::Error) -> Error {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Unresolved(unreached)) = inner.downcast_ref::<Unresolved>() {
            return unreached.clone().into();
        }
        causes.push(inner.to_string());
        cause = inner.source();
    }
    // The last cause is the system's message ("Connection refused"); those around it only repeat where it happened.
    let why = causes.pop().unwrap_or_else(|| "no answer".to_owned());
    let why = why.split(" (os error").next().unwrap_or_default().to_owned();
    if error.is_decode() || error.is_body() { Error::Failed(why) } else { Error::Unreachable(why) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::contract::Host;
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::script::{self, HttpAnswer};

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in CONNECTION_HEADERS {
            let refused = headers(&[(name.to_uppercase(), "x".into())]);
            assert!(matches!(refused, Err(Error::Invalid(_))), "{name} was accepted");
        }
        assert_eq!(headers(&[("Host".into(), "virtual".into())]).unwrap()["host"], "virtual");
    }

    #[test]
    fn more_headers_than_the_client_can_hold_are_refused() {
        let many = (0..40_000).map(|number| (format!("x-{number}"), String::new())).collect::<Vec<_>>();
        assert!(matches!(headers(&many), Err(Error::Invalid(text)) if text == "too many headers"));
    }

    #[test]
    fn a_header_cannot_smuggle_a_second_one_and_its_value_is_not_in_the_error() {
        let refused = headers(&[("authorization".into(), "hunter2\r\nx: y".into())]);
        let Err(Error::Invalid(text)) = refused else { panic!("accepted: {refused:?}") };
        assert!(text.contains("authorization") && !text.contains("hunter2"), "{text}");
    }

    fn instance(entry: &str, authority: Option<std::path::PathBuf>, body_bytes: usize) -> OfInstance {
        let mut grants = Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() };
        grants.allow(entry).unwrap();
        grants.trust.authority = authority;
        let meter = Arc::<Meter>::default();
        OfInstance::new(Gate::new(Arc::new(grants), Arc::clone(&meter)), Blocking::default(), meter, body_bytes)
    }

    async fn fetch(instance: &OfInstance, script: Option<&Script>, url: String) -> Result<Response, Error> {
        let connections = connect::OfCall::new(1, Duration::from_secs(10));
        let request = Request { method: "GET".into(), url, headers: Vec::new(), body: None };
        View { instance, connections: &connections, script }.fetch(request).await.unwrap()
    }

    #[tokio::test]
    async fn an_origin_that_was_not_granted_is_denied_counted_and_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let instance = instance("http://127.0.0.1:1", None, 100);
        let refused = fetch(&instance, None, format!("http://127.0.0.1:{port}/")).await;
        assert!(matches!(&refused, Err(Error::Denied(text)) if text.contains("allow = ")), "{refused:?}");
        assert_eq!(instance.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
    }

    #[tokio::test]
    async fn an_encrypted_page_is_fetched_only_from_a_server_whose_authority_the_operator_named() {
        let authority = wasaba_testing::authority::Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = authority.server("127.0.0.1", false);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        let (entry, url) = (format!("https://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}/"));
        let response = fetch(&instance(&entry, Some(authority.file()), 100), None, url.clone()).await;
        assert_eq!(response.map(|response| response.body), Ok(b"ok".to_vec()));
        let stranger = fetch(&instance(&entry, None, 100), None, url).await;
        assert!(matches!(&stranger, Err(Error::Unreachable(text)) if text.contains("certificate")), "{stranger:?}");
    }

    #[tokio::test]
    async fn a_script_stands_in_for_the_network_but_not_for_grants_and_limits() {
        let answer = |url: &str, bytes| HttpAnswer {
            method: "GET".into(),
            url: url.into(),
            request_headers: Vec::new(),
            request_body: None,
            response: Ok(script::Response { status: 200, headers: Vec::new(), body: vec![0; bytes] }),
        };
        let mut script = Script::default();
        script.http.extend([answer("http://a/", 8), answer("http://a/big", 9)]);
        let instance = instance("http://a:80", None, 8);
        let response = fetch(&instance, Some(&script), "http://a/".into()).await;
        assert_eq!(response.map(|response| response.body.len()), Ok(8));
        let large = fetch(&instance, Some(&script), "http://a/big".into()).await;
        assert!(matches!(&large, Err(Error::Failed(text)) if text.contains("`body_kib`")), "{large:?}");
        assert!(matches!(fetch(&instance, Some(&script), "http://b/".into()).await, Err(Error::Denied(_))));
    }
}
