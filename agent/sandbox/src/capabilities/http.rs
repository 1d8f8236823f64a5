//! `http`: requests to granted origins, spoken by the agent. No redirect is followed; a name is resolved once, each of its
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
use wasmtime::component::{HasSelf, Linker};

use super::bindings::wasaba::plugin::http::{self as contract, Error, Request, Response};
use super::connect::{self, Unreached};
use super::{Guest, Identity};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
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

/// The HTTP clients of one plugin instance, shared with no other. Made when the first request is sent.
#[derive(Default)]
pub struct Pool {
    plain: OnceLock<Client>,
    encrypted: OnceLock<Client>,
}

impl Pool {
    fn client(&self, encrypted: bool, identity: &Identity) -> Result<Client, Error> {
        let trust = &identity.grants.trust;
        if encrypted && (trust.authority.is_some() || trust.identity.is_some()) {
            // Made anew, so that a renewed certificate counts.
            return new_client(encrypted, identity).map_err(Error::Failed);
        }
        let slot = if encrypted { &self.encrypted } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = new_client(encrypted, identity).map_err(Error::Failed)?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

fn new_client(encrypted: bool, identity: &Identity) -> Result<Client, String> {
    let trust = &identity.grants.trust;
    let tls = if encrypted { tls::client(trust)? } else { tls::none().map_err(|error| error.to_string())? };
    // Without its own pool, which would hold this client for ever.
    let names = Identity { pool: Arc::default(), ..identity.clone() };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(CheckedNames(names)))
        // A proxy would connect to addresses that nobody checked.
        .no_proxy()
        // One request a minute: an idle connection costs both sides more memory than a new one costs time, and a
        // status page that counts connections would count it.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| error.to_string())
}

/// Resolves names for one instance and gives back only addresses that it may connect to.
struct CheckedNames(Identity);

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let identity = self.0.clone();
        Box::pin(async move {
            let found = connect::resolve(name.as_str(), &identity).await.map_err(Refused)?;
            Ok(Box::new(connect::without_port(found)) as Addrs)
        })
    }
}

/// The way of what the name led to through the HTTP client's errors.
#[derive(Debug)]
struct Refused(Unreached);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unreached::Denied(text) | Unreached::Unreachable(text)) = &self.0;
        formatter.write_str(text)
    }
}

impl std::error::Error for Refused {}

impl Guest {
    async fn fetch_checked(&mut self, request: Request) -> Result<Response, Error> {
        let identity = self.identity.clone();
        let url = Url::parse(&request.url).map_err(|error| Error::Invalid(format!("the URL is malformed: {error}")))?;
        identity.grants.check_url(&url).map_err(|why| Error::Denied(identity.meter.refuse(why)))?;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| Error::Invalid("the method is malformed".to_owned()))?;
        let headers = headers(&request.headers)?;
        if let Some(script) = &identity.script {
            let response = script.fetch(&request).map_err(Error::Unreachable)?;
            return if response.body.len() > identity.limits.body_bytes {
                Err(too_large(identity.limits.body_bytes))
            } else {
                Ok(response)
            };
        }
        let _place = self.open.place().map_err(Error::Unreachable)?;
        let client = identity.pool.client(url.scheme() == "https", &identity)?;
        let mut builder = client.request(method, url).headers(headers);
        if let Some(body) = request.body {
            identity.meter.sent_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            builder = builder.body(body);
        }
        let whole =
            async { answer(builder.send().await.map_err(|error| explain(&error))?, identity.limits.body_bytes).await };
        let response = self.patience.wait(None, whole).await??;
        identity.meter.received_bytes.fetch_add(response.body.len() as u64, Ordering::Relaxed);
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
    Error::Failed(format!("the answer is larger than {most} bytes (limit `body_kib`)"))
}

async fn answer(mut answer: reqwest::Response, most: usize) -> Result<Response, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
        if body.len().saturating_add(chunk.len()) > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    let headers = answer.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Ok(Response { status: answer.status().as_u16(), headers: headers.collect(), body })
}

impl contract::Host for Guest {
    async fn fetch(&mut self, request: Request) -> Result<Result<Response, Error>> {
        Ok(self.fetch_checked(request).await)
    }
}

fn headers(wanted: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        // The value may be a secret: neither it nor its length is in an error.
        let malformed = || Error::Invalid(format!("the header {name:?} is malformed"));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        if CONNECTION_HEADERS.contains(&parsed.as_str()) {
            return Err(Error::Invalid(format!("the header `{parsed}` belongs to the connection and cannot be set")));
        }
        headers.append(parsed, HeaderValue::from_str(value).map_err(|_| malformed())?);
    }
    Ok(headers)
}

/// The contract's word for what the HTTP client ran into. The client's own text names the URL, which may carry a secret in
/// its query, so only its causes are told.
fn explain(error: &reqwest::Error) -> Error {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Refused(unreached)) = inner.downcast_ref::<Refused>() {
            return unreached.clone().into();
        }
        causes.push(inner.to_string());
        cause = inner.source();
    }
    // The last cause is the system's own word ("Connection refused"); those around it only repeat where it happened.
    let why = causes.pop().unwrap_or_else(|| "no answer".to_owned());
    let why = why.split(" (os error").next().unwrap_or_default().to_owned();
    if error.is_decode() || error.is_body() { Error::Failed(why) } else { Error::Unreachable(why) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::capabilities::grants::Grants;

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in CONNECTION_HEADERS {
            let refused = headers(&[(name.to_uppercase(), "x".into())]);
            assert!(matches!(refused, Err(Error::Invalid(_))), "{name} was accepted");
        }
        assert_eq!(headers(&[("Host".into(), "virtual".into())]).unwrap()["host"], "virtual");
    }

    #[test]
    fn a_header_cannot_smuggle_a_second_one_and_its_value_is_not_in_the_error() {
        let refused = headers(&[("authorization".into(), "hunter2\r\nx: y".into())]);
        let Err(Error::Invalid(text)) = refused else { panic!("accepted: {refused:?}") };
        assert!(text.contains("authorization") && !text.contains("hunter2"), "{text}");
    }

    fn guest(entry: &str, authority: Option<std::path::PathBuf>) -> Guest {
        let mut grants = Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() };
        grants.allow(entry).unwrap();
        grants.trust.authority = authority;
        Guest::new(Identity { grants: Arc::new(grants), ..Identity::default() })
    }

    fn get(url: String) -> Request {
        Request { method: "GET".into(), url, headers: Vec::new(), body: None }
    }

    #[tokio::test]
    async fn what_was_not_granted_is_denied_counted_and_never_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut guest = guest("http://127.0.0.1:1", None);
        let refused = guest.fetch_checked(get(format!("http://127.0.0.1:{port}/"))).await;
        assert!(matches!(&refused, Err(Error::Denied(text)) if text.contains("allow = ")), "{refused:?}");
        assert_eq!(guest.identity.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "somebody connected");
    }

    #[tokio::test]
    async fn an_encrypted_page_is_fetched_only_from_a_server_whose_authority_the_operator_named() {
        let authority = wasaba_testing::authority::Authority::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
        let answer = guest(&entry, Some(authority.file())).fetch_checked(get(url.clone())).await;
        assert_eq!(answer.map(|answer| answer.body), Ok(b"ok".to_vec()));
        let stranger = guest(&entry, None).fetch_checked(get(url)).await;
        assert!(matches!(&stranger, Err(Error::Unreachable(text)) if text.contains("certificate")), "{stranger:?}");
    }
}
