//! `http`: requests to granted origins, spoken by the agent. No redirect is followed; a name is resolved once, each of its
//! addresses checked, and only a checked one connected to.

use std::error::Error as _;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use url::Url;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::wasaba::plugin::http::{self as contract, Error, Request, Response};
use super::grants::Grants;
use super::{Guest, address};
use crate::tls;

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

/// The connections of one plugin instance, shared with no other. Made when the first request is sent.
#[derive(Default)]
pub struct Pool {
    plain: OnceLock<Client>,
    encrypted: OnceLock<Client>,
}

impl Pool {
    fn client(&self, url: &Url, grants: &Arc<Grants>) -> Result<Client, Error> {
        let encrypted = url.scheme() == "https";
        let slot = if encrypted { &self.encrypted } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = new_client(encrypted, grants).map_err(Error::Failed)?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

fn new_client(encrypted: bool, grants: &Arc<Grants>) -> Result<Client, String> {
    let tls = match (encrypted, grants.tls_skip_verify) {
        (false, _) => tls::none(),
        (true, false) => tls::verifying(),
        (true, true) => tls::unverified(),
    };
    Client::builder()
        .tls_backend_preconfigured(tls.map_err(|error| error.to_string())?)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(CheckedNames(Arc::clone(grants))))
        // A proxy would connect to addresses that nobody checked.
        .no_proxy()
        // One request a minute: an idle connection costs both sides more memory than a new one costs time, and a
        // status page that counts connections would count it.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| error.to_string())
}

/// Resolves names for one instance and gives back only addresses that it may connect to.
struct CheckedNames(Arc<Grants>);

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let grants = Arc::clone(&self.0);
        Box::pin(async move {
            // Never asked of DNS (RFC 6761), and what most plugins want.
            let found = if name.as_str() == "localhost" {
                vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]
            } else {
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<SocketAddr>>()
            };
            check_addresses(name.as_str(), &found, &grants)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// One refused address among several refuses the name: it is then not under the control of who it seems.
fn check_addresses(name: &str, found: &[SocketAddr], grants: &Grants) -> Result<(), RefusedAddress> {
    for address in found.iter().map(SocketAddr::ip) {
        if let Some(why) = address::refusal(address) {
            return Err(RefusedAddress(grants.refuse_address(name, address, why)));
        }
    }
    Ok(())
}

/// The way of a refusal through the HTTP client's errors.
#[derive(Debug)]
struct RefusedAddress(String);

impl fmt::Display for RefusedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for RefusedAddress {}

/// One call's access to HTTP.
pub(super) struct Http {
    grants: Arc<Grants>,
    pool: Arc<Pool>,
    body_bytes: usize,
}

impl Http {
    pub(super) fn new(grants: Arc<Grants>, pool: Arc<Pool>, body_bytes: usize) -> Self {
        Self { grants, pool, body_bytes }
    }

    async fn fetch(&self, request: Request) -> Result<Response, Error> {
        let url = Url::parse(&request.url).map_err(|error| Error::Invalid(format!("the URL is malformed: {error}")))?;
        self.grants.check_url(&url).map_err(Error::Denied)?;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| Error::Invalid("the method is malformed".to_owned()))?;
        let mut builder = self.pool.client(&url, &self.grants)?.request(method, url).headers(headers(request.headers)?);
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        self.answer(builder.send().await.map_err(|error| explain(&error))?).await
    }

    async fn answer(&self, mut answer: reqwest::Response) -> Result<Response, Error> {
        let too_large = || Error::Failed(format!("the answer is larger than {} bytes", self.body_bytes));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
            if body.len().saturating_add(chunk.len()) > self.body_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        Ok(Response { status: answer.status().as_u16(), headers: headers.collect(), body })
    }
}

impl contract::Host for Guest {
    async fn fetch(&mut self, request: Request) -> Result<Response, Error> {
        self.http.fetch(request).await
    }
}

fn headers(wanted: Vec<(String, String)>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        // The value may be a secret: neither it nor its length is in an error.
        let malformed = || Error::Invalid(format!("the header {name:?} is malformed"));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        if CONNECTION_HEADERS.contains(&parsed.as_str()) {
            return Err(Error::Invalid(format!("the header `{parsed}` belongs to the connection and cannot be set")));
        }
        headers.append(parsed, HeaderValue::from_str(&value).map_err(|_| malformed())?);
    }
    Ok(headers)
}

/// The contract's word for what the HTTP client ran into. The client's own text names the URL, which may carry a secret in
/// its query, so only its causes are told.
fn explain(error: &reqwest::Error) -> Error {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<RefusedAddress>() {
            return Error::Denied(refused.0.clone());
        }
        causes.push(inner.to_string());
        cause = inner.source();
    }
    // The last cause is the system's own word ("Connection refused"); those around it only repeat where it happened.
    let why = causes.pop().unwrap_or_else(|| "no answer".to_owned());
    if error.is_decode() || error.is_body() { Error::Failed(why) } else { Error::Unreachable(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in CONNECTION_HEADERS {
            let refused = headers(vec![(name.to_uppercase(), "x".into())]);
            assert!(matches!(refused, Err(Error::Invalid(_))), "{name} was accepted");
        }
        assert_eq!(headers(vec![("Host".into(), "virtual".into())]).unwrap()["host"], "virtual");
    }

    #[test]
    fn a_header_cannot_smuggle_a_second_one_and_its_value_is_not_in_the_error() {
        let refused = headers(vec![("authorization".into(), "hunter2\r\nx: y".into())]);
        let Err(Error::Invalid(text)) = refused else { panic!("accepted: {refused:?}") };
        assert!(text.contains("authorization") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_name_that_leads_to_a_refused_address_is_denied_even_beside_a_good_one() {
        let grants = Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() };
        let good = SocketAddr::from(([10, 0, 0, 1], 80));
        assert!(check_addresses("web", &[good], &grants).is_ok());
        let bad = SocketAddr::from(([169, 254, 169, 254], 80));
        let RefusedAddress(text) = check_addresses("web", &[good, bad], &grants).unwrap_err();
        assert!(text.contains("169.254.169.254") && text.contains("[plugin.metrics.web]"), "{text}");
    }
}
