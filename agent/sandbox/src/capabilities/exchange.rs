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
use super::memory::Share;
use crate::failure::{Cause, Failure, Kind};

/// How long connecting may take, the look-up of the name included; several addresses share it.
const CONNECT: Duration = Duration::from_secs(9);

/// How long a request may take, beside what is left of the call; `None` is no further limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// To be connected.
    pub(super) connect: Option<Duration>,
    /// Until the head of the response is there.
    pub(super) first_byte: Option<Duration>,
    /// Between two parts of the response's body.
    pub(super) between_bytes: Option<Duration>,
}

/// Why there is no response.
pub(super) enum Stopped {
    /// It failed.
    Failed(Failure),
    /// It would exceed the call's memory, which ends the call.
    Exceeded(wasmtime::Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Waits for `io`, no longer than `timeout`.
///
/// # Errors
/// `late`, with how long it was waited for.
async fn within<T>(timeout: Option<Duration>, late: &str, io: impl Future<Output = T>) -> Result<T, Failure> {
    match timeout {
        None => Ok(io.await),
        Some(timeout) => tokio::time::timeout(timeout, io)
            .await
            .map_err(|_| Failure::new(Kind::Timeout, format!("timed out: {late} within {}", duration(timeout)))),
    }
}

/// Sends a request to a granted URL, over a connection of its own: with one request a minute, an idle one costs both sides more memory
/// than a new one costs time, and a status page that counts connections would count it. Returns the status, the headers, and a body of at most `most` bytes, which is
/// in the `share` of the call's memory before it is read.
///
/// # Errors
/// A connection or response that failed, or a larger body; or the call's memory is used up.
pub(super) async fn exchange(
    Sent { method, url, headers, body }: Sent<'_>,
    (most, share): (usize, &mut Share),
    timeouts: Timeouts,
    gate: &Gate,
    blocking: &Blocking,
) -> Result<(u16, HeaderMap, Vec<u8>), Stopped> {
    let request = request(method, url, headers, body)?;
    let trust = gate.tls().trust();
    let own = timeouts.connect.filter(|timeout| *timeout < CONNECT);
    let stream = tokio::time::timeout(own.unwrap_or(CONNECT), connected(url, gate, blocking)).await;
    let late = |_| {
        let text = format!("timed out: not connected within {}", duration(own.unwrap_or(CONNECT)));
        let cause = Some(Cause::Connection(std::io::ErrorKind::TimedOut));
        Failure { cause, ..Failure::new(Kind::Unreachable, text) }
    };
    let stream = stream.map_err(late)??;
    let allowance = Allowance::default();
    allowance.start();
    let stream = TokioIo::new(Allowed::new(stream, allowance.clone()));
    let handshake = http1::handshake::<_, Full<Bytes>>(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| explain(&error, Kind::Unreachable, trust))?;
    // It is closed when this is dropped, whatever it does.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = within(timeouts.first_byte, "no response", sender.send_request(request)).await?;
    let response = response.map_err(|error| explain(&error, Kind::Unreachable, trust))?;
    allowance.body(u64::MAX);
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok((status, headers, read(response, (most, share), timeouts.between_bytes, trust).await?))
}

/// A request to a granted URL.
pub(super) struct Sent<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
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

async fn read(
    response: Response<Incoming>,
    (most, share): (usize, &mut Share),
    timeout: Option<Duration>,
    trust: &Trust,
) -> Result<Vec<u8>, Stopped> {
    let (mut incoming, mut body) = (response.into_body(), Vec::new());
    while let Some(frame) = within(timeout, "no more of the response", incoming.frame()).await? {
        let frame = frame.map_err(|error| explain(&error, Kind::Failed, trust))?;
        let Some(chunk) = frame.data_ref() else { continue };
        if body.len().saturating_add(chunk.len()) > most {
            return Err(too_large(most).into());
        }
        share.grow(chunk.len()).map_err(Stopped::Exceeded)?;
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
    let cause = last.downcast_ref::<std::io::Error>().map(|error| Cause::Connection(error.kind()));
    Failure { cause, ..failure_of(error, other, tls::with_cure(why, error, trust)) }
}
