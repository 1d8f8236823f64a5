//! `wasi:http`, as a client: requests that `http` sends, under the same rules. A body is sent once the library has finished it, and a response
//! is handed over when it is whole; neither has trailers. Requests to a plugin do not exist, nor responses of one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime::{Result, bail};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, IoError, OutputStream, Pollable, StreamError,
    StreamResult, subscribe,
};

use super::View;
use super::contract::http::outgoing_handler;
use super::contract::http::types::{self as contract, ErrorCode, Method, Scheme};
use super::fields::{CONTENT_LENGTH, Fields};
use super::later::Later;
use crate::capabilities::exchange::{Stopped, Timeouts};
use crate::capabilities::http::{
    Granted, METHODS, MOST_HEADER_BYTES, MOST_URL_BYTES, MOST_WORD_BYTES, Request, Response, Sender,
};
use crate::capabilities::memory::Share;
use crate::failure::{Cause, Failure, Kind, TlsFault};

/// What a function returns whose error says nothing: the outer error ends the call.
type Answer<T> = Result<Result<T, ()>>;

/// The most bytes that one `write` takes.
const WRITE_BYTES: usize = 64 << 10;

/// What only a server has, which a plugin is not; the interface's resources for it.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Served(Infallible);

/// A request that is being written; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct OutgoingRequest {
    method: Method,
    scheme: Option<Scheme>,
    authority: Option<String>,
    path_with_query: Option<String>,
    headers: Fields,
    body: Option<Body>,
    /// Of the memory limit: of what it says besides its headers and its body.
    share: Share,
}

/// The body of a request; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct OutgoingBody {
    body: Body,
    is_written: bool,
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        self.body.end(Written::Abandoned);
    }
}

/// How long a request may take; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug, Default)]
pub struct RequestOptions(Timeouts);

/// A response that is awaited; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct FutureResponse {
    work: Later<Result<Response, Stopped>>,
}

#[async_trait]
impl Pollable for FutureResponse {
    async fn ready(&mut self) {
        self.work.ready().await;
    }
}

/// A response; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug)]
pub struct IncomingResponse {
    status: u16,
    headers: Fields,
    body: Option<IncomingBody>,
}

/// The body of a response; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug)]
pub struct IncomingBody {
    bytes: Option<Bytes>,
    share: Arc<Share>,
}

impl IncomingBody {
    /// These bytes, which are in `share`.
    pub(super) fn of(bytes: Bytes, share: Share) -> Self {
        Self { bytes: Some(bytes), share: Arc::new(share) }
    }
}

/// The trailers of a response, of which there are none; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug)]
pub struct FutureTrailers {
    is_taken: bool,
}

#[async_trait]
impl Pollable for FutureTrailers {
    async fn ready(&mut self) {}
}

/// A body while it is written, which the request waits for.
#[derive(Clone)]
struct Body(Arc<Mutex<BodyState>>);

struct BodyState {
    bytes: Vec<u8>,
    share: Share,
    written: Written,
    /// Who waits for its end.
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Partly,
    Fully,
    Abandoned,
}

impl Body {
    fn new(share: Share) -> Self {
        let state = BodyState { bytes: Vec::new(), share, written: Written::Partly, waiting: None };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, BodyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, unless it has ended.
    fn end(&self, how: Written) {
        let mut state = self.lock();
        if state.written == Written::Partly {
            state.written = how;
            if let Some(waker) = state.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Takes it with its share once it has ended.
    fn poll_taken(&self, empty: &mut Option<Share>, context: &mut Context<'_>) -> Poll<Option<(Vec<u8>, Share)>> {
        let mut state = self.lock();
        match state.written {
            Written::Partly => {
                state.waiting = Some(context.waker().clone());
                Poll::Pending
            }
            Written::Abandoned => Poll::Ready(None),
            Written::Fully => {
                let share = empty.take().map(|empty| std::mem::replace(&mut state.share, empty));
                Poll::Ready(share.map(|share| (std::mem::take(&mut state.bytes), share)))
            }
        }
    }
}

/// What the plugin writes a body to.
struct BodyOutput(Body);

#[async_trait]
impl Pollable for BodyOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for BodyOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut state = self.0.lock();
        if state.written != Written::Partly {
            return Err(StreamError::Closed);
        }
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("a write of more than `check-write` allows"));
        }
        state.share.grow(bytes.len()).map_err(StreamError::Trap)?;
        state.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.0.lock().written == Written::Partly { Ok(WRITE_BYTES) } else { Err(StreamError::Closed) }
    }
}

/// What the plugin reads a body from.
struct BodyInput {
    bytes: Bytes,
    _share: Arc<Share>,
}

#[async_trait]
impl Pollable for BodyInput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for BodyInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        Ok(self.bytes.split_to(size.min(self.bytes.len())))
    }
}

/// The code for a failure; `most` is the limit of a response's body.
fn code(failure: &Failure, most: usize) -> ErrorCode {
    use std::io::ErrorKind;
    match (failure.kind, failure.cause) {
        (Kind::Denied, _) => ErrorCode::HttpRequestDenied,
        (Kind::Timeout, _) => ErrorCode::HttpResponseTimeout,
        (Kind::TooLarge, _) => ErrorCode::HttpResponseBodySize(Some(most as u64)),
        (Kind::TooCostly, _) => ErrorCode::ConnectionLimitReached,
        (Kind::Misconfigured, _) => ErrorCode::ConfigurationError,
        (Kind::Unreachable | Kind::Unauthorized | Kind::Failed, _) if failure.tls == Some(TlsFault::Alert) => {
            let payload = contract::TlsAlertReceivedPayload { alert_id: None, alert_message: None };
            ErrorCode::TlsAlertReceived(payload)
        }
        (Kind::Unauthorized, _) => ErrorCode::TlsCertificateError,
        (_, _) if failure.tls.is_some() => ErrorCode::TlsProtocolError,
        (_, Some(Cause::Name)) => ErrorCode::DnsError(contract::DnsErrorPayload { rcode: None, info_code: None }),
        (_, Some(Cause::Connection(ErrorKind::ConnectionRefused))) => ErrorCode::ConnectionRefused,
        (_, Some(Cause::Connection(ErrorKind::TimedOut))) => ErrorCode::ConnectionTimeout,
        (_, Some(Cause::Connection(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable))) => {
            ErrorCode::DestinationIpUnroutable
        }
        (_, Some(Cause::Connection(_))) => ErrorCode::ConnectionTerminated,
        (Kind::Unreachable, None) => ErrorCode::DestinationUnavailable,
        (Kind::Failed, None) => ErrorCode::HttpProtocolError,
        _ => ErrorCode::InternalError(Some(failure.text.clone())),
    }
}

impl OutgoingRequest {
    fn method_word(&self) -> &str {
        match &self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(word) => word,
        }
    }

    fn url(&self) -> String {
        let scheme = match &self.scheme {
            Some(Scheme::Http) => "http",
            Some(Scheme::Https) | None => "https",
            Some(Scheme::Other(scheme)) => scheme,
        };
        let (authority, path) = (self.authority.as_deref().unwrap_or_default(), self.path_with_query.as_deref());
        format!("{scheme}://{authority}{}", path.unwrap_or("/"))
    }
}

/// A header with several values is sent as one, as lists are written (RFC 9110, section 5.3): a request never has two of a name.
fn joined(entries: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut joined = Vec::<(String, Vec<u8>)>::new();
    for (name, value) in entries {
        match joined.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.extend(b", ".iter().chain(value)),
            None => joined.push((name.clone(), value.clone())),
        }
    }
    joined
}

impl View<'_> {
    /// Asks the grants for a request; its headers are those of `http`.
    fn granted_request(&mut self, request: &OutgoingRequest) -> Result<Result<(Granted, Option<usize>), ErrorCode>> {
        let most = self.http.body_bytes;
        let (connections, script) = (Arc::clone(self.connections), self.script.cloned());
        let http = Arc::clone(self.http);
        let sender = Sender { instance: &http, connections: &connections, script: script.as_deref() };
        let (method, url) = (request.method_word().to_owned(), request.url());
        let share = connections.budget.hold(method.len() + url.len() + MOST_HEADER_BYTES)?;
        let is_method = METHODS.contains(&method.as_str());
        let mut granted = match sender.granted(Request::new(method, url, share)) {
            Ok(granted) => granted,
            Err(failure) => {
                self.explain(&failure);
                return Ok(Err(match failure.kind {
                    Kind::Invalid if is_method => ErrorCode::HttpRequestUriInvalid,
                    Kind::Invalid => ErrorCode::HttpRequestMethodInvalid,
                    _ => code(&failure, most),
                }));
            }
        };
        let mut length = None;
        for (name, value) in joined(&request.headers.entries) {
            if name == CONTENT_LENGTH {
                let digits = std::str::from_utf8(&value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let Some(bytes) = digits.and_then(|digits| digits.parse().ok()) else {
                    return Ok(Err(ErrorCode::InternalError(Some("invalid header \"content-length\"".to_owned()))));
                };
                length = Some(bytes);
                continue;
            }
            if let Err(failure) = granted.request_mut().set_own(&http.gate, &name, &value) {
                self.explain(&failure);
                return Ok(Err(match failure.kind {
                    Kind::Invalid => ErrorCode::HttpRequestHeaderSectionSize(None),
                    _ => code(&failure, most),
                }));
            }
        }
        Ok(Ok((granted, length)))
    }

    fn request(&mut self, request: &Resource<OutgoingRequest>) -> Result<&mut OutgoingRequest> {
        Ok(self.table.get_mut(request)?)
    }
}

impl outgoing_handler::Host for View<'_> {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> Result<Result<Resource<FutureResponse>, ErrorCode>> {
        let timeouts = match options {
            Some(options) => self.table.delete(options)?.0,
            None => Timeouts::default(),
        };
        let request = self.table.delete(request)?;
        let (mut granted, length) = match self.granted_request(&request)? {
            Ok(granted) => granted,
            Err(code) => return Ok(Err(code)),
        };
        let mut empty = Some(self.connections.budget.hold(0)?);
        let OutgoingRequest { body, share, .. } = request;
        let (http, connections, script) = (Arc::clone(self.http), Arc::clone(self.connections), self.script.cloned());
        let work = async move {
            let _share = share;
            let mut written = 0;
            if let Some(body) = body {
                let ended = std::future::poll_fn(|context| body.poll_taken(&mut empty, context));
                let Some((bytes, share)) = connections.patience.wait(None, ended).await? else {
                    let why = "the body of the request was not finished";
                    return Err(Failure::new(Kind::Failed, why).into());
                };
                written = bytes.len();
                if written > 0 {
                    granted.request_mut().set_body(bytes, share);
                }
            }
            if length.is_some_and(|length| length != written) {
                let why = format!("the body of the request has {written} bytes, other than its `content-length`");
                return Err(Failure::new(Kind::Failed, why).into());
            }
            let sender = Sender { instance: &http, connections: &connections, script: script.as_deref() };
            sender.send(granted, timeouts).await
        };
        Ok(Ok(self.table.push(FutureResponse { work: Later::of(work) })?))
    }
}

impl contract::Host for View<'_> {
    fn http_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        // No stream of these bodies fails.
        self.table.get(&error)?;
        Ok(None)
    }
}

impl contract::HostOutgoingRequest for View<'_> {
    fn new(&mut self, headers: Resource<Fields>) -> Result<Resource<OutgoingRequest>> {
        let headers = self.table.delete(headers)?.fixed();
        let share = self.connections.budget.hold(2 * (MOST_URL_BYTES + MOST_WORD_BYTES))?;
        let (method, scheme, authority, path_with_query) = (Method::Get, None, None, None);
        let request = OutgoingRequest { method, scheme, authority, path_with_query, headers, body: None, share };
        Ok(self.table.push(request)?)
    }

    fn body(&mut self, request: Resource<OutgoingRequest>) -> Answer<Resource<OutgoingBody>> {
        let share = self.connections.budget.hold(0)?;
        let request = self.request(&request)?;
        if request.body.is_some() {
            return Ok(Err(()));
        }
        let body = Body::new(share);
        request.body = Some(body.clone());
        Ok(Ok(self.table.push(OutgoingBody { body, is_written: false })?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> Result<Method> {
        Ok(self.request(&request)?.method.clone())
    }

    fn set_method(&mut self, request: Resource<OutgoingRequest>, method: Method) -> Answer<()> {
        if matches!(&method, Method::Other(word) if word.len() > MOST_WORD_BYTES) {
            return Ok(Err(()));
        }
        self.request(&request)?.method = method;
        Ok(Ok(()))
    }

    fn path_with_query(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.request(&request)?.path_with_query.clone())
    }

    fn set_path_with_query(&mut self, request: Resource<OutgoingRequest>, path: Option<String>) -> Answer<()> {
        // Of anything else the beginning would belong to the host.
        if path.as_ref().is_some_and(|path| path.len() > MOST_URL_BYTES || !path.starts_with(['/', '?'])) {
            return Ok(Err(()));
        }
        self.request(&request)?.path_with_query = path;
        Ok(Ok(()))
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<Scheme>> {
        Ok(self.request(&request)?.scheme.clone())
    }

    fn set_scheme(&mut self, request: Resource<OutgoingRequest>, scheme: Option<Scheme>) -> Answer<()> {
        let is_scheme =
            |text: &String| text.len() <= MOST_WORD_BYTES && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if matches!(&scheme, Some(Scheme::Other(text)) if !is_scheme(text)) {
            return Ok(Err(()));
        }
        self.request(&request)?.scheme = scheme;
        Ok(Ok(()))
    }

    fn authority(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.request(&request)?.authority.clone())
    }

    fn set_authority(&mut self, request: Resource<OutgoingRequest>, authority: Option<String>) -> Answer<()> {
        let is_other = |char: char| matches!(char, '/' | '?' | '#' | '\\') || char.is_whitespace() || char.is_control();
        if authority.as_ref().is_some_and(|text| text.len() > MOST_URL_BYTES || text.contains(is_other)) {
            return Ok(Err(()));
        }
        self.request(&request)?.authority = authority;
        Ok(Ok(()))
    }

    fn headers(&mut self, request: Resource<OutgoingRequest>) -> Result<Resource<Fields>> {
        let share = self.connections.budget.hold(0)?;
        let copy = self.request(&request)?.headers.copied(share, false)?;
        Ok(self.table.push(copy)?)
    }

    fn drop(&mut self, request: Resource<OutgoingRequest>) -> Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl contract::HostOutgoingBody for View<'_> {
    fn write(&mut self, body: Resource<OutgoingBody>) -> Answer<Resource<DynOutputStream>> {
        let OutgoingBody { body: shared, is_written } = self.table.get_mut(&body)?;
        if std::mem::replace(is_written, true) {
            return Ok(Err(()));
        }
        let stream: DynOutputStream = Box::new(BodyOutput(shared.clone()));
        Ok(Ok(self.table.push_child(stream, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<OutgoingBody>,
        trailers: Option<Resource<Fields>>,
    ) -> Result<Result<(), ErrorCode>> {
        // Dropped, it is abandoned.
        let body = self.table.delete(body)?;
        if let Some(trailers) = trailers
            && !self.table.delete(trailers)?.entries.is_empty()
        {
            return Ok(Err(ErrorCode::HttpRequestTrailerSectionSize(Some(0))));
        }
        body.body.end(Written::Fully);
        Ok(Ok(()))
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}

impl contract::HostFutureIncomingResponse for View<'_> {
    fn subscribe(&mut self, future: Resource<FutureResponse>) -> Result<Resource<DynPollable>> {
        subscribe(self.table, future)
    }

    fn get(
        &mut self,
        future: Resource<FutureResponse>,
    ) -> Result<Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>> {
        let work = &mut self.table.get_mut(&future)?.work;
        if !work.is_known() {
            return Ok(None);
        }
        let Response { status, headers, body, mut share } = match work.take() {
            None => return Ok(Some(Err(()))),
            Some(Ok(response)) => response,
            Some(Err(Stopped::Exceeded(error))) => return Err(error),
            Some(Err(Stopped::Failed(failure))) => {
                self.explain(&failure);
                return Ok(Some(Ok(Err(code(&failure, self.http.body_bytes)))));
            }
        };
        share.resize(body.len())?;
        let headers = Fields::of_response(headers, self.connections.budget.hold(0)?)?;
        let body = Some(IncomingBody::of(body.into(), share));
        Ok(Some(Ok(Ok(self.table.push(IncomingResponse { status, headers, body })?))))
    }

    fn drop(&mut self, future: Resource<FutureResponse>) -> Result<()> {
        self.table.delete(future)?;
        Ok(())
    }
}

impl contract::HostIncomingResponse for View<'_> {
    fn status(&mut self, response: Resource<IncomingResponse>) -> Result<u16> {
        Ok(self.table.get(&response)?.status)
    }

    fn headers(&mut self, response: Resource<IncomingResponse>) -> Result<Resource<Fields>> {
        let share = self.connections.budget.hold(0)?;
        let copy = self.table.get(&response)?.headers.copied(share, false)?;
        Ok(self.table.push(copy)?)
    }

    fn consume(&mut self, response: Resource<IncomingResponse>) -> Answer<Resource<IncomingBody>> {
        match self.table.get_mut(&response)?.body.take() {
            Some(body) => Ok(Ok(self.table.push(body)?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, response: Resource<IncomingResponse>) -> Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl contract::HostIncomingBody for View<'_> {
    fn stream(&mut self, body: Resource<IncomingBody>) -> Answer<Resource<DynInputStream>> {
        let IncomingBody { bytes, share } = self.table.get_mut(&body)?;
        let Some(bytes) = bytes.take() else { return Ok(Err(())) };
        let stream: DynInputStream = Box::new(BodyInput { bytes, _share: Arc::clone(share) });
        Ok(Ok(self.table.push_child(stream, &body)?))
    }

    fn finish(&mut self, body: Resource<IncomingBody>) -> Result<Resource<FutureTrailers>> {
        self.table.delete(body)?;
        Ok(self.table.push(FutureTrailers { is_taken: false })?)
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}

impl contract::HostFutureTrailers for View<'_> {
    fn subscribe(&mut self, trailers: Resource<FutureTrailers>) -> Result<Resource<DynPollable>> {
        subscribe(self.table, trailers)
    }

    fn get(
        &mut self,
        trailers: Resource<FutureTrailers>,
    ) -> Result<Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>> {
        let is_taken = &mut self.table.get_mut(&trailers)?.is_taken;
        Ok(Some(if std::mem::replace(is_taken, true) { Err(()) } else { Ok(Ok(None)) }))
    }

    fn drop(&mut self, trailers: Resource<FutureTrailers>) -> Result<()> {
        self.table.delete(trailers)?;
        Ok(())
    }
}

fn nanoseconds(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

impl View<'_> {
    fn timeouts(&mut self, options: &Resource<RequestOptions>) -> Result<&mut Timeouts> {
        Ok(&mut self.table.get_mut(options)?.0)
    }
}

impl contract::HostRequestOptions for View<'_> {
    fn new(&mut self) -> Result<Resource<RequestOptions>> {
        Ok(self.table.push(RequestOptions::default())?)
    }

    fn connect_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(nanoseconds(self.timeouts(&options)?.connect))
    }

    fn set_connect_timeout(&mut self, options: Resource<RequestOptions>, duration: Option<u64>) -> Answer<()> {
        self.timeouts(&options)?.connect = duration.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn first_byte_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(nanoseconds(self.timeouts(&options)?.first_byte))
    }

    fn set_first_byte_timeout(&mut self, options: Resource<RequestOptions>, duration: Option<u64>) -> Answer<()> {
        self.timeouts(&options)?.first_byte = duration.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn between_bytes_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(nanoseconds(self.timeouts(&options)?.between_bytes))
    }

    fn set_between_bytes_timeout(&mut self, options: Resource<RequestOptions>, duration: Option<u64>) -> Answer<()> {
        self.timeouts(&options)?.between_bytes = duration.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

/// There is no resource of this kind, so that none of these functions is ever called with one.
fn serves<T>(_: &Resource<Served>) -> Result<T> {
    bail!("a plugin serves no requests: of `wasi:http`, it has the client's side alone")
}

impl contract::HostIncomingRequest for View<'_> {
    fn method(&mut self, request: Resource<Served>) -> Result<Method> {
        serves(&request)
    }

    fn path_with_query(&mut self, request: Resource<Served>) -> Result<Option<String>> {
        serves(&request)
    }

    fn scheme(&mut self, request: Resource<Served>) -> Result<Option<Scheme>> {
        serves(&request)
    }

    fn authority(&mut self, request: Resource<Served>) -> Result<Option<String>> {
        serves(&request)
    }

    fn headers(&mut self, request: Resource<Served>) -> Result<Resource<Fields>> {
        serves(&request)
    }

    fn consume(&mut self, request: Resource<Served>) -> Answer<Resource<IncomingBody>> {
        serves(&request)
    }

    fn drop(&mut self, request: Resource<Served>) -> Result<()> {
        serves(&request)
    }
}

impl contract::HostResponseOutparam for View<'_> {
    fn set(&mut self, out: Resource<Served>, _: Result<Resource<Served>, ErrorCode>) -> Result<()> {
        serves(&out)
    }

    fn drop(&mut self, out: Resource<Served>) -> Result<()> {
        serves(&out)
    }
}

impl contract::HostOutgoingResponse for View<'_> {
    fn new(&mut self, _: Resource<Fields>) -> Result<Resource<Served>> {
        serves(&Resource::new_borrow(0))
    }

    fn status_code(&mut self, response: Resource<Served>) -> Result<u16> {
        serves(&response)
    }

    fn set_status_code(&mut self, response: Resource<Served>, _: u16) -> Answer<()> {
        serves(&response)
    }

    fn headers(&mut self, response: Resource<Served>) -> Result<Resource<Fields>> {
        serves(&response)
    }

    fn body(&mut self, response: Resource<Served>) -> Answer<Resource<OutgoingBody>> {
        serves(&response)
    }

    fn drop(&mut self, response: Resource<Served>) -> Result<()> {
        serves(&response)
    }
}
