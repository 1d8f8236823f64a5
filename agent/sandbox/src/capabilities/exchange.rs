//! One exchange of HTTP: a connection of its own, a request, a response.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use url::{Position, Url};
use wasaba_core::allowance::{Allowance, Allowed};
use wasaba_core::text::duration;
use wasaba_core::tls::{self, Trust};

use super::blocking::Blocking;
use super::connect::{self, Stream, broken};
use super::gate::Gate;
use super::http::{failure_of, too_large};
use crate::failure::{Failure, Kind};

/// How long connecting may take, the look-up of the name included; several addresses share it.
const CONNECT: Duration = Duration::from_secs(9);

/// Sends a request to a granted URL, over a connection of its own: with one request a minute, an idle one costs both sides more memory
/// than a new one costs time, and a status page that counts connections would count it. Returns the status, the headers, and a body of at most `most` bytes.
///
/// # Errors
/// A connection or response that failed, or a larger body.
pub(super) async fn exchange(
    method: Method,
    url: &Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    most: usize,
    gate: &Gate,
    blocking: &Blocking,
) -> Result<(u16, HeaderMap, Vec<u8>), Failure> {
    let request = request(method, url, headers, body)?;
    let trust = gate.tls().trust();
    let stream = tokio::time::timeout(CONNECT, connected(url, gate, blocking)).await;
    let late = |_| Failure::new(Kind::Unreachable, format!("timed out: not connected within {}", duration(CONNECT)));
    let stream = stream.map_err(late)??;
    let allowance = Allowance::default();
    allowance.start();
    let stream = TokioIo::new(Allowed::new(stream, allowance.clone()));
    let handshake = http1::handshake::<_, Full<Bytes>>(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| explain(&error, Kind::Unreachable, trust))?;
    // It is closed when this is dropped, whatever it does.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| explain(&error, Kind::Unreachable, trust))?;
    allowance.body(u64::MAX);
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok((status, headers, read(response, most, trust).await?))
}

fn request(
    method: Method,
    url: &Url,
    mut headers: HeaderMap,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let invalid = |_| Failure::new(Kind::Invalid, "the URL has a host, path or query that cannot be sent");
    if !headers.contains_key(HOST) {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| invalid(error.into()))?);
    }
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let request = Request::builder().method(method).uri(target).body(Full::from(body.unwrap_or_default()));
    let mut request = request.map_err(invalid)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A connection to the server that `url` names, with TLS if it says so.
async fn connected(url: &Url, gate: &Gate, blocking: &Blocking) -> Result<Box<dyn Stream>, Failure> {
    let invalid = || Failure::new(Kind::Invalid, "the URL has no host or port");
    let (host, port) = url.host().zip(url.port_or_known_default()).ok_or_else(invalid)?;
    let stream = connect::tcp(&host.to_owned(), port, gate, blocking).await?;
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let config = gate.tls().config().await.map_err(|why| Failure::new(Kind::Misconfigured, why))?;
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|error| Failure::new(Kind::Invalid, error.to_string()))?;
    let encrypted = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
    Ok(Box::new(encrypted.map_err(|error| explain(&error, Kind::Unreachable, gate.tls().trust()))?))
}

async fn read(response: Response<Incoming>, most: usize, trust: &Trust) -> Result<Vec<u8>, Failure> {
    let (mut incoming, mut body) = (response.into_body(), Vec::new());
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| explain(&error, Kind::Failed, trust))?;
        let Some(chunk) = frame.data_ref() else { continue };
        if body.len().saturating_add(chunk.len()) > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(chunk);
    }
    Ok(body)
}

/// The failure of an exchange: of the kind `other`, unless its cause says more.
fn explain(error: &(dyn Error + 'static), other: Kind, trust: &Trust) -> Failure {
    // The last cause is the system's message ("Connection refused"); those around it only repeat where it happened.
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let why = last.to_string().split(" (os error").next().unwrap_or_default().to_owned();
    failure_of(error, other, tls::with_cure(why, error, trust))
}
