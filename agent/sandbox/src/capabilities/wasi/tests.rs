//! What is denied, limited and counted, as a table that runs over each door: `http` beside `wasi:http`, `tcp` beside `wasi:sockets`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wasaba_core::limits::Limits;
use wasaba_core::secret::{Secret, Secrets};
use wasaba_core::setting::Reach;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, Network, Pollable, StreamError};

use super::contract::http::outgoing_handler::Host as _;
use super::contract::http::types::{
    self as web, HeaderError, HostFields, HostFutureIncomingResponse, HostFutureTrailers, HostIncomingBody,
    HostIncomingResponse, HostOutgoingBody, HostOutgoingRequest, HostOutgoingResponse, HostRequestOptions, Method,
    Scheme,
};
use super::contract::sockets::ip_name_lookup::{Host as _, HostResolveAddressStream};
use super::contract::sockets::tcp::{HostTcpSocket, ShutdownType};
use super::contract::sockets::tcp_create_socket::Host as _;
use super::*;
use crate::capabilities::blocking::Blocking;
use crate::capabilities::gate::Gate;
use crate::capabilities::grants::{Grants, Origin};
use crate::capabilities::http::MOST_HEADERS;
use crate::capabilities::memory::Budget;
use crate::capabilities::meter::Meter;
use crate::capabilities::script::{Conversation, HttpAnswer, Response, Turn};
use crate::contract::wire;

/// Whose refusals are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Contract,
    Wasi,
}

/// What a call has, for either door.
struct State {
    http: Arc<crate::capabilities::http::OfInstance>,
    tcp: Arc<tcp::OfInstance>,
    connections: Arc<connect::OfCall>,
    names: Arc<Names>,
    log: log::OfCall,
    meter: Arc<Meter>,
    table: ResourceTable,
    script: Option<Arc<Script>>,
}

/// What a call may take.
#[derive(Clone, Copy)]
struct May {
    connections: usize,
    time: Duration,
    memory: usize,
    body: usize,
}

const PLENTY: May = May { connections: 16, time: Duration::from_secs(60), memory: 64 << 20, body: 1_000 };

impl State {
    fn new(grants: Grants, may: May) -> Self {
        let meter = Arc::<Meter>::default();
        let gate = Gate::new(Arc::new(grants), Arc::clone(&meter));
        let http =
            crate::capabilities::http::OfInstance::new(gate.clone(), Blocking::default(), Arc::clone(&meter), may.body);
        let budget = Budget::new(may.memory, Arc::clone(&meter));
        let limits = Limits::default();
        let log = log::OfInstance::new("web".into(), Secrets::default(), Arc::clone(&meter), &limits);
        Self {
            http: Arc::new(http),
            tcp: Arc::new(tcp::OfInstance::new(gate, Blocking::default(), Arc::clone(&meter))),
            connections: Arc::new(connect::OfCall::new(may.connections, may.time, budget)),
            names: Arc::default(),
            log: log::OfCall::new(Arc::new(log), 16, wasaba_core::clock::instant()),
            meter,
            table: ResourceTable::new(),
            script: None,
        }
    }

    fn with(grants: Grants, script: Script) -> Self {
        Self { script: Some(Arc::new(script)), ..Self::new(grants, PLENTY) }
    }

    fn view(&mut self) -> View<'_> {
        let Self { http, tcp, connections, names, log, table, script, .. } = self;
        View { http, tcp, connections, names, log, table, script: script.as_ref() }
    }

    fn network(&mut self) -> Resource<Network> {
        use wasmtime_wasi::p2::bindings::sockets::instance_network::Host;
        let mut sockets = wasmtime_wasi::sockets::WasiSocketsCtx::default();
        wasmtime_wasi::sockets::WasiSocketsCtxView { ctx: &mut sockets, table: &mut self.table }
            .instance_network()
            .unwrap()
    }
}

fn granting(entries: &[&str]) -> Grants {
    let mut grants = Grants { place: "[plugin.metrics.web]".into(), reach: Reach::ALL, ..Grants::default() };
    entries.iter().for_each(|entry| grants.allow(entry).unwrap());
    grants
}

/// A request, for either door.
#[derive(Clone, Copy, Debug)]
struct Ask<'a> {
    method: &'a str,
    url: &'a str,
    header: Option<(&'a str, &'a str)>,
    body: &'a [u8],
}

fn get(url: &str) -> Ask<'_> {
    Ask { method: "GET", url, header: None, body: b"" }
}

impl Ask<'_> {
    /// Sends it, and returns the status and the body, or the word or code of the failure; `None` if the call was ended.
    async fn through(self, door: Door, state: &mut State) -> Option<Result<(u16, Vec<u8>), String>> {
        match door {
            Door::Contract => self.through_contract(state).await,
            Door::Wasi => self.through_wasi(state).await.ok(),
        }
    }

    async fn through_contract(self, state: &mut State) -> Option<Result<(u16, Vec<u8>), String>> {
        use wire::http::{Host, HostRequest, HostResponse};
        let State { http, connections, table, script, .. } = state;
        let mut view =
            crate::capabilities::http::View { instance: http, connections, table, script: script.as_deref() };
        let request = view.new(self.method.into(), self.url.into()).await.ok()?.rep();
        if let Some((name, value)) = self.header
            && let Err(error) = view.set_header(Resource::new_borrow(request), name.into(), value.into()).await.unwrap()
        {
            return Some(Err(error.kind));
        }
        if !self.body.is_empty() {
            view.set_body(Resource::new_borrow(request), self.body.into()).await.ok()?;
        }
        Some(match view.send(Resource::new_borrow(request)).await.ok()? {
            Err(error) => Err(error.kind),
            Ok(response) => {
                let response = response.rep();
                let status = view.status(Resource::new_borrow(response)).await.unwrap();
                Ok((status, view.body(Resource::new_borrow(response)).await.unwrap().unwrap()))
            }
        })
    }

    async fn through_wasi(self, state: &mut State) -> Result<Result<(u16, Vec<u8>), String>> {
        let mut view = state.view();
        let headers = HostFields::new(&mut view)?;
        if let Some((name, value)) = self.header
            && let Err(error) = view.append(Resource::new_borrow(headers.rep()), name.into(), value.into())?
        {
            return Ok(Err(format!("{error:?}")));
        }
        let request = HostOutgoingRequest::new(&mut view, headers)?.rep();
        let request = || Resource::new_borrow(request);
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.into()),
        };
        let mut is_set = view.set_method(request(), Method::Other(self.method.into()))?.is_ok();
        is_set &= view.set_scheme(request(), Some(scheme))?.is_ok();
        is_set &= view.set_authority(request(), Some(authority.into()))?.is_ok();
        is_set &=
            view.set_path_with_query(request(), Some(path.into()).filter(|path: &String| !path.is_empty()))?.is_ok();
        if !is_set {
            return Ok(Err("not set".into()));
        }
        let body = HostOutgoingRequest::body(&mut view, request())?.unwrap();
        let body_of = || Resource::new_borrow(body.rep());
        let stream = view.write(body_of())?.unwrap();
        let future = match view.handle(Resource::new_own(request().rep()), None)? {
            Ok(future) => future.rep(),
            Err(code) => return Ok(Err(format!("{code:?}"))),
        };
        let future = || Resource::<http::FutureResponse>::new_borrow(future);
        for chunk in self.body.chunks(1_000) {
            let stream: &mut DynOutputStream = view.table.get_mut(&stream)?;
            match stream.write(bytes::Bytes::copy_from_slice(chunk)) {
                Err(StreamError::Trap(error)) => return Err(error),
                written => written.unwrap(),
            }
        }
        view.table.delete(stream)?;
        HostOutgoingBody::finish(&mut view, Resource::new_own(body.rep()), None)?.unwrap();
        view.table.get_mut(&future())?.ready().await;
        let response = match HostFutureIncomingResponse::get(&mut view, future())?.unwrap().unwrap() {
            Ok(response) => response.rep(),
            Err(code) => return Ok(Err(format!("{code:?}"))),
        };
        let response = || Resource::<http::IncomingResponse>::new_borrow(response);
        let status = view.status(response())?;
        let body = view.consume(response())?.unwrap();
        let stream = view.stream(Resource::new_borrow(body.rep()))?.unwrap();
        let mut read = Vec::new();
        let stream_of: &mut DynInputStream = view.table.get_mut(&stream)?;
        while let Ok(bytes) = stream_of.read(7) {
            read.extend_from_slice(&bytes);
        }
        Ok(Ok((status, read)))
    }
}

const HTTP: [Door; 2] = [Door::Contract, Door::Wasi];

/// The outcome of a request that fails, as each door says it.
async fn refused(grants: &Grants, may: May, ask: Ask<'_>) -> [(String, u64); 2] {
    let mut outcomes = Vec::new();
    for door in HTTP {
        let mut state = State::new(grants.clone(), may);
        let outcome = ask.through(door, &mut state).await;
        let outcome = outcome.map_or_else(|| "ended".to_owned(), |answer| answer.expect_err("it was answered"));
        outcomes.push((outcome, state.meter.refusals()));
    }
    outcomes.try_into().unwrap()
}

/// A server that answers each request in this way; its address.
async fn serving(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer).await.ok();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_counted_by_both_doors_to_http_in_every_spelling() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut without_reach = granting(&[&format!("http://127.0.0.1:{port}")]);
    without_reach.reach = Reach::default();
    let granted = granting(&["http://127.0.0.1:1", "https://web:1", "db:1"]);
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://localhost:{port}/"),
        "https://127.0.0.1:1/".to_owned(),
        "http://127.0.0.1/".to_owned(),
        "http://web:1/".to_owned(),
        "http://user@127.0.0.1:1/".to_owned(),
        "http://127.0.0.1:1@evil.example/".to_owned(),
        "http://2852039166/latest/meta-data/".to_owned(),
        "http://169.254.169.254./latest/meta-data/".to_owned(),
        "http://[::ffff:a9fe:a9fe]/latest/meta-data/".to_owned(),
        "ftp://127.0.0.1:1/".to_owned(),
    ];
    for url in &urls {
        let outcomes = refused(&granted, PLENTY, get(url)).await;
        assert_eq!(outcomes, [("denied".to_owned(), 1), ("ErrorCode::HttpRequestDenied".to_owned(), 1)], "{url}");
    }
    let outcomes = refused(&without_reach, PLENTY, get(&urls[0])).await;
    assert_eq!(outcomes, [("denied".to_owned(), 1), ("ErrorCode::HttpRequestDenied".to_owned(), 1)]);
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
}

#[tokio::test]
async fn what_makes_no_sense_or_smuggles_is_refused_by_both_doors_to_http() {
    let granted = granting(&["http://127.0.0.1:1"]);
    let ask = get("http://127.0.0.1:1/");
    let long = format!("http://127.0.0.1:1/{}", "a".repeat(9_000));
    let header = |name, value| Ask { header: Some((name, value)), ..ask };
    for (ask, word, code, count) in [
        (Ask { method: "CONNECT", ..ask }, "invalid", "ErrorCode::HttpRequestMethodInvalid", 0),
        (Ask { method: "TRACE", ..ask }, "invalid", "ErrorCode::HttpRequestMethodInvalid", 0),
        (Ask { method: "get", ..ask }, "invalid", "ErrorCode::HttpRequestMethodInvalid", 0),
        (
            Ask { method: "GET / HTTP/1.1\r\nx: y\r\n\r\nGET", ..ask },
            "invalid",
            "ErrorCode::HttpRequestMethodInvalid",
            0,
        ),
        (get(&long), "invalid", "not set", 0),
        (header("x", "y\r\nhost: evil"), "invalid", "HeaderError::InvalidSyntax", 0),
        (header("x: y\r\nz", "1"), "invalid", "HeaderError::InvalidSyntax", 0),
        (header("Transfer-Encoding", "chunked"), "invalid", "HeaderError::Forbidden", 0),
        (header("connection", "upgrade"), "invalid", "HeaderError::Forbidden", 0),
        (header("Host", "evil.example"), "denied", "ErrorCode::HttpRequestDenied", 1),
    ] {
        let outcomes = refused(&granted, PLENTY, ask).await;
        assert_eq!(outcomes, [(word.to_owned(), count), (code.to_owned(), count)], "{ask:?}");
    }
}

#[tokio::test]
async fn both_doors_to_http_have_the_same_limits() {
    let silent = serving(b"").await;
    let answer = |length| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        serving(Box::leak([head.as_bytes(), &vec![b'x'; length]].concat().into_boxed_slice()))
    };
    let (large, whole) = (answer(1_001).await, answer(500_000).await);
    let odd = serving(b"SSH-2.0-OpenSSH\r\n").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endless = serving(Box::leak(b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20_000).into())).await;
    let all = [silent, large, odd, closed, whole, endless].map(|address| address.to_string());
    let granted = granting(&all.each_ref().map(String::as_str));
    let urls = all.each_ref().map(|address| format!("http://{address}/"));
    let [silent, large, odd, closed, whole, endless] = urls.each_ref().map(|url| get(url));
    let hasty = May { time: Duration::from_millis(200), ..PLENTY };
    let poor = May { memory: 400_000, body: 1 << 20, ..PLENTY };
    let body = vec![b'x'; 500_000];
    for (may, ask, word, code) in [
        (hasty, silent, "timeout", "ErrorCode::HttpResponseTimeout"),
        (May { connections: 0, ..PLENTY }, silent, "too-costly", "ErrorCode::ConnectionLimitReached"),
        (PLENTY, large, "too-large", "ErrorCode::HttpResponseBodySize(Some(1000))"),
        (PLENTY, odd, "unreachable", "ErrorCode::DestinationUnavailable"),
        (PLENTY, closed, "unreachable", "ErrorCode::ConnectionRefused"),
        (PLENTY, endless, "unreachable", "ErrorCode::DestinationUnavailable"),
        (poor, whole, "ended", "ended"),
        (poor, Ask { body: &body, ..silent }, "ended", "ended"),
        (May { memory: 1_000, ..PLENTY }, silent, "ended", "ended"),
    ] {
        let outcomes = refused(&granted, may, ask).await;
        let [contract, wasi] = outcomes.map(|(outcome, _)| outcome);
        // The end of what is not HTTP may be seen before or after it was read.
        let wasi =
            if wasi == "ErrorCode::ConnectionTerminated" { "ErrorCode::DestinationUnavailable".into() } else { wasi };
        assert_eq!([contract.as_str(), wasi.as_str()], [word, code], "{ask:?}");
    }
}

#[tokio::test]
async fn both_doors_to_http_send_the_same_request_and_follow_no_redirect() {
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 4\r\n\r\naway";
    let mut sent = Vec::new();
    for door in HTTP {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut state = State::new(granting(&[&format!("http://{address}")]), PLENTY);
        let url = format!("http://{address}/a%20b?c=|");
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let mut length = 0;
            while !request[..length].ends_with(b"all of it") {
                length += stream.read(&mut request[length..]).await.unwrap();
            }
            stream.write_all(redirect).await.unwrap();
            String::from_utf8_lossy(&request[..length]).replace(&address.to_string(), "SERVER").to_ascii_lowercase()
        };
        let ask = Ask { method: "POST", header: Some(("X-One", "two")), body: b"all of it", ..get(&url) };
        let (request, answer) = tokio::join!(serve, ask.through(door, &mut state));
        assert_eq!(answer.unwrap(), Ok((302, b"away".to_vec())), "{door:?}");
        let counted = [&state.meter.sent_bytes, &state.meter.received_bytes].map(|bytes| bytes.load(Ordering::Relaxed));
        assert_eq!(counted, [9, 4], "{door:?}");
        let mut lines = request.split("\r\n").map(str::to_owned).collect::<Vec<_>>();
        lines.sort();
        sent.push(lines);
    }
    assert_eq!(sent[0], sent[1]);
    assert!(
        sent[0].contains(&"x-one: two".to_owned()) && sent[0].contains(&"content-length: 9".to_owned()),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_script_answers_both_doors_to_http_and_the_user_of_a_url_is_sent_by_both() {
    for door in HTTP {
        let mut grants = granting(&["http://web:80"]);
        grants.credentials.push((Origin::of_url("http://web").unwrap(), Secret::new("bob:p@ss")));
        let answer = HttpAnswer {
            method: "POST".into(),
            url: "http://web/x".into(),
            request_headers: vec![("authorization".into(), "Basic Ym9iOnBAc3M=".into())],
            request_body: Some(b"all of it".to_vec()),
            response: Ok(Response { status: 201, headers: vec![("x".into(), "y".into())], body: b"made".to_vec() }),
        };
        let mut script = Script::default();
        script.http.push(answer);
        let mut state = State::with(grants, script);
        let ask = Ask { method: "POST", body: b"all of it", ..get("http://web/x") };
        assert_eq!(ask.through(door, &mut state).await.unwrap(), Ok((201, b"made".to_vec())), "{door:?}");
        assert_eq!(state.script.unwrap().deviations(), Vec::<String>::new(), "{door:?}");
    }
}

#[tokio::test]
async fn a_body_is_sent_only_when_it_is_finished_without_trailers_and_as_long_as_it_says() {
    let address = serving(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let mut state = State::new(granting(&[&format!("http://{address}")]), PLENTY);
    let mut outcome = async |length: Option<&str>, trailers: Option<&str>, is_finished: bool| {
        let mut view = state.view();
        let headers = length.map(|length| ("content-length".to_owned(), length.into())).into_iter().collect();
        let headers = view.from_list(headers).unwrap().unwrap();
        let request = HostOutgoingRequest::new(&mut view, headers).unwrap().rep();
        view.set_scheme(Resource::new_borrow(request), Some(Scheme::Http)).unwrap().unwrap();
        view.set_authority(Resource::new_borrow(request), Some(address.to_string())).unwrap().unwrap();
        let body = HostOutgoingRequest::body(&mut view, Resource::new_borrow(request)).unwrap().unwrap();
        assert!(HostOutgoingRequest::body(&mut view, Resource::new_borrow(request)).unwrap().is_err(), "a second body");
        let future = match view.handle(Resource::new_own(request), None).unwrap() {
            Ok(future) => future.rep(),
            Err(code) => return format!("{code:?}"),
        };
        let future = || Resource::<http::FutureResponse>::new_borrow(future);
        assert!(HostFutureIncomingResponse::get(&mut view, future()).unwrap().is_none(), "it was sent");
        if is_finished {
            let trailers = trailers.map(|name| vec![(name.to_owned(), b"1".to_vec())]);
            let trailers = trailers.map(|trailers| view.from_list(trailers).unwrap().unwrap());
            if let Err(code) = HostOutgoingBody::finish(&mut view, body, trailers).unwrap() {
                return format!("{code:?}");
            }
        } else {
            HostOutgoingBody::drop(&mut view, body).unwrap();
        }
        view.table.get_mut(&future()).unwrap().ready().await;
        match HostFutureIncomingResponse::get(&mut view, future()).unwrap().unwrap().unwrap() {
            Ok(response) => view.status(response).unwrap().to_string(),
            Err(code) => format!("{code:?}"),
        }
    };
    assert_eq!(outcome(None, None, true).await, "200");
    assert_eq!(outcome(Some("0"), None, true).await, "200");
    assert_eq!(outcome(Some("5"), None, true).await, "ErrorCode::HttpProtocolError");
    assert!(outcome(Some("0, 5"), None, true).await.contains("InternalError"));
    assert!(outcome(Some("+5"), None, true).await.contains("InternalError"));
    assert_eq!(outcome(None, Some("x"), true).await, "ErrorCode::HttpRequestTrailerSectionSize(Some(0))");
    assert_eq!(outcome(None, None, false).await, "ErrorCode::HttpProtocolError");
}

#[tokio::test]
async fn a_request_waits_no_longer_than_the_library_says() {
    let silent = serving(b"").await;
    let mut state = State::new(granting(&[&format!("http://{silent}")]), PLENTY);
    let mut view = state.view();
    let headers = HostFields::new(&mut view).unwrap();
    let request = HostOutgoingRequest::new(&mut view, headers).unwrap().rep();
    view.set_scheme(Resource::new_borrow(request), Some(Scheme::Http)).unwrap().unwrap();
    view.set_authority(Resource::new_borrow(request), Some(silent.to_string())).unwrap().unwrap();
    let options = HostRequestOptions::new(&mut view).unwrap();
    view.set_first_byte_timeout(Resource::new_borrow(options.rep()), Some(20_000_000)).unwrap().unwrap();
    assert_eq!(view.first_byte_timeout(Resource::new_borrow(options.rep())).unwrap(), Some(20_000_000));
    let future = view.handle(Resource::new_own(request), Some(options)).unwrap().unwrap().rep();
    let future = || Resource::<http::FutureResponse>::new_borrow(future);
    view.table.get_mut(&future()).unwrap().ready().await;
    let late = HostFutureIncomingResponse::get(&mut view, future()).unwrap().unwrap().unwrap();
    assert!(matches!(late, Err(web::ErrorCode::HttpResponseTimeout)), "{late:?}");
    assert!(HostFutureIncomingResponse::get(&mut view, future()).unwrap().unwrap().is_err(), "it is given once");
}

#[tokio::test]
async fn fields_are_bounded_and_what_they_take_is_in_the_calls_memory() {
    let mut state = State::new(Grants::default(), May { memory: 100_000, ..PLENTY });
    let mut view = state.view();
    let fields = HostFields::new(&mut view).unwrap().rep();
    let fields = || Resource::<fields::Fields>::new_borrow(fields);
    for number in 0..100 {
        view.append(fields(), "x".into(), number.to_string().into()).unwrap().unwrap();
    }
    assert!(
        matches!(view.append(fields(), "x".into(), b"1".into()).unwrap(), Err(HeaderError::Forbidden)),
        "the 101st"
    );
    view.set(fields(), "X".into(), vec![b"1".to_vec(), b"2".to_vec()]).unwrap().unwrap();
    assert_eq!(HostFields::get(&mut view, fields(), "x".into()).unwrap(), [b"1", b"2"]);
    let long = vec![b'y'; 40_000];
    view.append(fields(), "y".into(), long.clone()).unwrap().unwrap();
    assert!(view.append(fields(), "z".into(), long).unwrap().is_err(), "more than 64 KiB");
    let copy = HostFields::clone(&mut view, fields()).unwrap();
    assert!(HostFields::clone(&mut view, fields()).is_err(), "a third one is too much");
    HostFields::drop(&mut view, copy).unwrap();
    HostFields::clone(&mut view, fields()).unwrap();
    let name = "a".repeat(8_000_000);
    assert!(matches!(view.append(fields(), name, b"".into()).unwrap(), Err(HeaderError::InvalidSyntax)));
    let many = vec![Vec::new(); MOST_HEADERS + 1];
    assert!(matches!(view.set(fields(), "x".into(), many.clone()).unwrap(), Err(HeaderError::Forbidden)));
    assert_eq!(HostFields::get(&mut view, fields(), "x".into()).unwrap(), [b"1", b"2"], "nothing was replaced");
    let many = many.into_iter().map(|value| ("x".to_owned(), value)).collect();
    assert!(matches!(view.from_list(many).unwrap(), Err(HeaderError::Forbidden)));
}

#[tokio::test]
async fn names_that_are_looked_up_at_once_count_as_connections_until_they_are_known() {
    let mut state = State::new(granting(&["a.example:1"]), May { connections: 2, ..PLENTY });
    let network = state.network().rep();
    let network = || Resource::<Network>::new_borrow(network);
    let mut view = state.view();
    let first = view.resolve_addresses(network(), "a.example".into()).unwrap().unwrap();
    view.resolve_addresses(network(), "a.example".into()).unwrap().unwrap();
    let third = view.resolve_addresses(network(), "a.example".into()).unwrap();
    assert!(third.is_err(), "a third one at once");
    HostResolveAddressStream::drop(&mut view, first).unwrap();
    assert!(view.resolve_addresses(network(), "a.example".into()).unwrap().is_ok());
}

#[tokio::test]
async fn what_serves_requests_ends_the_call() {
    let mut state = State::new(Grants::default(), PLENTY);
    let mut view = state.view();
    let fields = HostFields::new(&mut view).unwrap();
    let error = HostOutgoingResponse::new(&mut view, fields).unwrap_err();
    assert!(error.to_string().contains("a plugin serves no requests"), "{error}");
}

#[tokio::test]
async fn a_response_has_no_trailers() {
    let mut state = State::new(Grants::default(), PLENTY);
    let share = state.connections.budget.hold(0).unwrap();
    let mut view = state.view();
    let body = view.table.push(http::IncomingBody::of(bytes::Bytes::new(), share)).unwrap();
    let trailers = HostIncomingBody::finish(&mut view, body).unwrap().rep();
    let trailers = || Resource::<http::FutureTrailers>::new_borrow(trailers);
    assert!(matches!(HostFutureTrailers::get(&mut view, trailers()).unwrap(), Some(Ok(Ok(None)))));
    assert!(matches!(HostFutureTrailers::get(&mut view, trailers()).unwrap(), Some(Err(()))));
}

/// Connects to an address, and returns the streams.
async fn connect_to(
    state: &mut State,
    address: SocketAddr,
) -> Result<(Resource<DynInputStream>, Resource<DynOutputStream>), ErrorCode> {
    let network = state.network();
    let mut view = state.view();
    let family = if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
    let socket = view.create_tcp_socket(family).unwrap().unwrap().rep();
    let socket = || Resource::<sockets::Socket>::new_borrow(socket);
    view.start_connect(socket(), network, IpSocketAddress::from(address)).unwrap()?;
    view.table.get_mut(&socket()).unwrap().ready().await;
    view.finish_connect(socket()).unwrap()
}

/// Looks a name up, and returns the addresses.
async fn look_up(state: &mut State, name: &str) -> Result<Vec<std::net::IpAddr>, ErrorCode> {
    let network = state.network();
    let mut view = state.view();
    let lookup = view.resolve_addresses(network, name.into()).unwrap()?.rep();
    let lookup = || Resource::<lookup::Lookup>::new_borrow(lookup);
    view.table.get_mut(&lookup()).unwrap().ready().await;
    let mut found = Vec::new();
    while let Some(address) = view.resolve_next_address(lookup()).unwrap()? {
        let address = match address {
            wasmtime_wasi::p2::bindings::sockets::network::IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
            wasmtime_wasi::p2::bindings::sockets::network::IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
                [a, b, c, d, e, f, g, h].into()
            }
        };
        found.push(address);
    }
    Ok(found)
}

/// Connects through a door, as a library does; the word or the code of the failure.
async fn connected(door: Door, state: &mut State, host: &str, port: u16) -> Result<(), String> {
    if door == Door::Contract {
        use wire::tcp::HostConnection;
        let State { tcp, connections, table, script, .. } = state;
        let mut view = tcp::View { instance: tcp, connections, table, script: script.as_deref() };
        return view.connect(host.into(), port, None).await.unwrap().map(drop).map_err(|error| error.kind);
    }
    let addresses = look_up(state, host).await.map_err(|code| format!("look-up: {}", code.name()))?;
    let mut last = Err("no address".to_owned());
    for address in addresses {
        last = connect_to(state, SocketAddr::new(address, port)).await.map(drop).map_err(|code| code.name().to_owned());
        if last.is_ok() {
            break;
        }
    }
    last
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_counted_by_both_doors_to_tcp_in_every_spelling() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = format!("127.0.0.1:{}", port.wrapping_add(1).max(1));
    let granted = granting(&["db:1", &other, "localhost:1", &format!("http://127.0.0.1:{port}")]);
    let (look_up, connect) = ("look-up: permanent-resolver-failure", "access-denied");
    for (host, port, code) in [
        ("127.0.0.1", port, connect),
        ("0x7f.1", port, connect),
        ("2130706433", port, connect),
        ("::ffff:127.0.0.1", port, look_up),
        ("::1", port, look_up),
        ("localhost", port, connect),
        ("LOCALHOST.", port, connect),
        ("db.evil.example", 1, look_up),
        ("evil.example", 1, look_up),
        ("169.254.169.254", 80, look_up),
        ("2852039166", 80, look_up),
        ("::ffff:169.254.169.254", 80, look_up),
        ("64:ff9b::a9fe:a9fe", 80, look_up),
    ] {
        for (door, expected) in [(Door::Contract, "denied"), (Door::Wasi, code)] {
            let mut state = State::new(granted.clone(), PLENTY);
            let refused = connected(door, &mut state, host, port).await.unwrap_err();
            assert_eq!(refused, expected, "{door:?} {host}:{port}");
            assert!(state.meter.refusals() >= 1, "{door:?} {host}:{port} was not counted");
        }
    }
    let mut without_reach = granting(&[&format!("127.0.0.1:{port}")]);
    without_reach.reach = Reach::default();
    for (door, expected) in [(Door::Contract, "denied"), (Door::Wasi, look_up)] {
        let mut state = State::new(without_reach.clone(), PLENTY);
        assert_eq!(connected(door, &mut state, "127.0.0.1", port).await.unwrap_err(), expected);
    }
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
}

#[tokio::test]
async fn an_address_is_connected_to_only_if_it_is_granted_or_was_looked_up_under_a_name_that_is_granted_with_its_port()
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut state = State::new(granting(&[&format!("localhost:{}", address.port())]), PLENTY);
    assert!(matches!(connect_to(&mut state, address).await, Err(ErrorCode::AccessDenied)), "it was not looked up");
    let line = format!("allow = [\"{address}\"]");
    assert!(state.meter.refused()[0].contains(&line), "{:?}", state.meter.refused());
    assert_eq!(look_up(&mut state, "LocalHost").await.unwrap().len(), 2);
    connect_to(&mut state, address).await.unwrap();
    let other = SocketAddr::new(address.ip(), address.port().wrapping_sub(1).max(1));
    assert!(matches!(connect_to(&mut state, other).await, Err(ErrorCode::AccessDenied)), "another port");
    let line = format!("allow = [\"localhost:{}\"]", other.port());
    assert!(state.meter.refused()[1].contains(&line), "the name's line: {:?}", state.meter.refused());
    let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
    assert!(matches!(connect_to(&mut state, other).await, Err(ErrorCode::AccessDenied)), "another address");
    let mut state = State::new(granting(&[&address.to_string()]), PLENTY);
    connect_to(&mut state, address).await.unwrap();
}

#[tokio::test]
async fn an_address_that_stands_for_another_or_for_none_is_invalid() {
    let mut state = State::new(granting(&["[::ffff:127.0.0.1]:80", "0.0.0.0:80", "[::]:80", "127.0.0.1:80"]), PLENTY);
    for address in ["[::ffff:127.0.0.1]:80", "0.0.0.0:80", "[::]:80", "127.0.0.1:0"] {
        let refused = connect_to(&mut state, address.parse().unwrap()).await;
        assert!(matches!(refused, Err(ErrorCode::InvalidArgument)), "{address}: {:?}", refused.map(drop));
    }
    let network = state.network();
    let mut view = state.view();
    let socket = view.create_tcp_socket(IpAddressFamily::Ipv6).unwrap().unwrap();
    let address = "127.0.0.1:80".parse::<SocketAddr>().unwrap().into();
    let refused = view.start_connect(socket, network, address).unwrap();
    assert!(matches!(refused, Err(ErrorCode::InvalidArgument)), "of the other family: {refused:?}");
    assert!(matches!(look_up(&mut state, &"a.".repeat(4_000_000)).await, Err(ErrorCode::InvalidArgument)));
}

#[tokio::test]
async fn both_doors_to_tcp_have_the_same_limits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let granted = granting(&[&address.to_string(), &closed.to_string()]);
    for (door, full, down) in
        [(Door::Contract, "too-costly", "unreachable"), (Door::Wasi, "new-socket-limit", "connection-refused")]
    {
        let mut state = State::new(granted.clone(), May { connections: 1, ..PLENTY });
        connected(door, &mut state, "127.0.0.1", address.port()).await.unwrap();
        let refused = connected(door, &mut state, "127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(refused, full, "{door:?}");
        state.table = ResourceTable::new();
        connected(door, &mut state, "127.0.0.1", address.port()).await.expect("the first one is closed");
        let mut state = State::new(granted.clone(), PLENTY);
        assert_eq!(connected(door, &mut state, "127.0.0.1", closed.port()).await.unwrap_err(), down, "{door:?}");
    }
    let mut state = State::new(granted, May { memory: 200_000, ..PLENTY });
    connect_to(&mut state, address).await.unwrap();
    let network = state.network();
    let mut view = state.view();
    let socket = view.create_tcp_socket(IpAddressFamily::Ipv4).unwrap().unwrap();
    assert!(view.start_connect(socket, network, address.into()).is_err(), "the buffers of a second one");
}

#[tokio::test]
async fn a_stream_to_a_silent_server_fails_before_the_call_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hasty = May { time: Duration::from_millis(200), ..PLENTY };
    let mut state = State::new(granting(&[&address.to_string()]), hasty);
    let (input, output) = connect_to(&mut state, address).await.unwrap();
    let began = Instant::now();
    let late = state.table.get_mut(&input).unwrap().blocking_read(10).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(30));
    let StreamError::LastOperationFailed(late) = late else { panic!("{late:?}") };
    assert!(late.to_string().contains("`timeout_seconds`"), "{late}");
    let late = state.table.get_mut(&output).unwrap().check_write().unwrap_err();
    assert!(matches!(late, StreamError::LastOperationFailed(_)), "{late:?}");
}

#[tokio::test]
async fn a_conversation_over_a_socket_lasts_until_both_sides_have_finished_and_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // More than both systems buffer, so that writing waits for the server, and the server for the plugin.
    let (question, answer) = (vec![b'q'; 20_000_000], vec![b'a'; 9_000_000]);
    let replied = answer.clone();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        stream.write_all(&replied).await.unwrap();
        question.len()
    });
    let mut state = State::new(granting(&[&address.to_string()]), PLENTY);
    let network = state.network();
    let mut view = state.view();
    let socket = view.create_tcp_socket(IpAddressFamily::Ipv4).unwrap().unwrap().rep();
    let socket = || Resource::<sockets::Socket>::new_borrow(socket);
    assert!(matches!(view.finish_connect(socket()).unwrap(), Err(ErrorCode::NotInProgress)));
    view.start_connect(socket(), Resource::new_borrow(network.rep()), address.into()).unwrap().unwrap();
    let again = view.start_connect(socket(), network, address.into()).unwrap();
    assert!(matches!(again, Err(ErrorCode::ConcurrencyConflict)));
    view.table.get_mut(&socket()).unwrap().ready().await;
    let (input, output) = view.finish_connect(socket()).unwrap().unwrap();
    assert_eq!(SocketAddr::from(view.remote_address(socket()).unwrap().unwrap()), address);
    assert!(SocketAddr::from(view.local_address(socket()).unwrap().unwrap()).ip().is_unspecified());
    let stream: &mut DynOutputStream = view.table.get_mut(&output).unwrap();
    for chunk in question.chunks(50_000) {
        let permitted = stream.write_ready().await.unwrap();
        assert!(permitted >= chunk.len());
        stream.write(bytes::Bytes::copy_from_slice(chunk)).unwrap();
    }
    view.shutdown(socket(), ShutdownType::Send).unwrap().unwrap();
    let stream: &mut DynOutputStream = view.table.get_mut(&output).unwrap();
    assert!(matches!(stream.check_write(), Err(StreamError::Closed)), "what is not sent yet is sent before the end");
    let stream: &mut DynInputStream = view.table.get_mut(&input).unwrap();
    let mut read = Vec::new();
    let end = loop {
        match stream.blocking_read(1 << 20).await {
            Ok(bytes) => read.extend_from_slice(&bytes),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, StreamError::Closed) && read == answer, "{end:?} after {} bytes", read.len());
    assert_eq!(server.await.unwrap(), question.len());
    let counted = [&state.meter.sent_bytes, &state.meter.received_bytes].map(|bytes| bytes.load(Ordering::Relaxed));
    assert_eq!(counted, [question.len() as u64, answer.len() as u64]);
}

#[tokio::test]
async fn no_socket_binds_or_listens_and_a_plugin_that_says_nothing_of_tcp_has_none() {
    let mut state = State::new(Grants { reach: Reach::default(), ..granting(&["127.0.0.1:1"]) }, PLENTY);
    let refused = state.view().create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    assert!(matches!(refused, Err(ErrorCode::AccessDenied)) && state.meter.refusals() == 1);
    let mut state = State::new(granting(&["127.0.0.1:1"]), PLENTY);
    let network = state.network();
    let mut view = state.view();
    let socket = view.create_tcp_socket(IpAddressFamily::Ipv4).unwrap().unwrap().rep();
    let socket = || Resource::<sockets::Socket>::new_borrow(socket);
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(matches!(view.start_bind(socket(), network, any.into()).unwrap(), Err(ErrorCode::AccessDenied)));
    assert!(matches!(view.start_listen(socket()).unwrap(), Err(ErrorCode::AccessDenied)));
    assert!(matches!(view.accept(socket()).unwrap(), Err(ErrorCode::AccessDenied)));
    assert!(matches!(view.finish_bind(socket()).unwrap(), Err(ErrorCode::NotInProgress)));
    assert!(matches!(view.finish_listen(socket()).unwrap(), Err(ErrorCode::NotInProgress)));
    assert_eq!(state.meter.refusals(), 3);
}

#[tokio::test]
async fn a_script_converses_over_a_socket_whose_library_looks_for_data_before_it_writes() {
    let turns = |with: &str, turns: Vec<Turn>| Conversation { with: with.into(), turns: Ok(turns) };
    let mut script = Script::default();
    script.tcp.push(turns("db:5432", vec![Turn::Expect(b"PING".to_vec()), Turn::Send(b"PONG".to_vec())]));
    script.tcp.push(turns("10.0.0.1:1", vec![Turn::Send(b"hi".to_vec())]));
    let mut state = State::with(granting(&["db:5432", "10.0.0.1:1"]), script);
    let found = look_up(&mut state, "db").await.unwrap();
    assert_eq!(found, look_up(&mut state, "db").await.unwrap());
    let (input, output) = connect_to(&mut state, SocketAddr::new(found[0], 5432)).await.unwrap();
    let table = &mut state.table;
    assert_eq!(table.get_mut(&input).unwrap().read(10).unwrap().len(), 0, "nothing yet, and no error");
    let out: &mut DynOutputStream = table.get_mut(&output).unwrap();
    assert!(out.check_write().unwrap() > 4);
    out.write(bytes::Bytes::from_static(b"PING")).unwrap();
    assert_eq!(table.get_mut(&input).unwrap().blocking_read(10).await.unwrap(), "PONG");
    let (input, _output) = connect_to(&mut state, "10.0.0.1:1".parse().unwrap()).await.unwrap();
    assert_eq!(state.table.get_mut(&input).unwrap().blocking_read(10).await.unwrap(), "hi");
    assert!(matches!(look_up(&mut state, "other").await, Err(ErrorCode::PermanentResolverFailure)));
    state.table = ResourceTable::new();
    assert_eq!(state.script.unwrap().deviations(), Vec::<String>::new());
}
