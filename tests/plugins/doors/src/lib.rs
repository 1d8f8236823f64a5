//! A plugin that knows nothing of `http` and `tcp`: it asks `wasi:http`, and through the standard library `wasi:sockets`. Its setting `do` says
//! for what. Only the tests use it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use wasaba_plugin::{Error, Graph, Metric, Plugin, Reach, Sample, Setting, Settings, Unit};

use self::bindings::wasi::http::outgoing_handler::handle;
use self::bindings::wasi::http::types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme};
use self::bindings::wasi::io::streams::StreamError;

wasaba_plugin::export!(describe, collect);

#[allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "generated")]
#[allow(missing_docs, unsafe_code, unused_qualifications, unreachable_pub, dead_code, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../agent/sandbox/wasi", world: "wasaba:doors/doors", generate_all });
}

fn describe() -> Plugin {
    Plugin::new("doors", env!("CARGO_PKG_VERSION"), "asks WASI itself")
        .reaches([Reach::Http, Reach::Tcp])
        .setting(Setting::text("do").default("fetch").help("what to ask for"))
        .setting(Setting::text("url").default("http://localhost/").help("the target; a text, which grants nothing"))
        .graph(Graph::new("doors", "Doors", Unit::Float).metric(Metric::gauge("good", "Good")))
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let target = settings.text("url")?;
    let value = match settings.text("do")? {
        "fetch" => fetch(target, 0).map_err(failed)?.len(),
        "post" => fetch(target, usize::MAX).map_err(failed)?.len(),
        "hoard-fields" => loop {
            let value = vec![b'x'; 60_000];
            std::mem::forget(Fields::from_list(&[("x".to_owned(), value)]).map_err(failed)?);
        },
        "connect" => connect(target).map_err(failed)?,
        "hoard" => {
            let mut open = Vec::new();
            loop {
                match TcpStream::connect(target) {
                    Ok(stream) => open.push(stream),
                    Err(error) => return Err(failed(format!("{} are open: {:?}", open.len(), error.kind()))),
                }
            }
        }
        "serve" => {
            let listen = TcpListener::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind());
            let send = UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind());
            return Err(failed((listen, send)));
        }
        other => return Err(Error::Misconfigured(format!("`do` is {other:?}"))),
    };
    Ok(vec![Sample::new("doors.good", u32::try_from(value).unwrap_or(u32::MAX))])
}

fn failed(why: impl std::fmt::Debug) -> Error {
    Error::Failed(format!("{why:?}"))
}

/// Sends a request with a body of so many bytes, and returns the body of the response.
fn fetch(url: &str, length: usize) -> Result<Vec<u8>, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    request.set_scheme(Some(if scheme == "https" { &Scheme::Https } else { &Scheme::Http })).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(invalid)?;
    if length > 0 {
        request.set_method(&Method::Post).map_err(invalid)?;
    }
    let body = request.body().map_err(invalid)?;
    let future = handle(request, None)?;
    let stream = body.write().map_err(invalid)?;
    for _ in 0..length.div_ceil(4_096) {
        stream.blocking_write_and_flush(&[b'x'; 4_096]).map_err(|_| ErrorCode::ConnectionTerminated)?;
    }
    drop(stream);
    OutgoingBody::finish(body, None)?;
    let response = loop {
        match future.get() {
            Some(response) => break response.map_err(invalid)??,
            None => future.subscribe().block(),
        }
    };
    let body = response.consume().map_err(invalid)?;
    let (stream, mut read) = (body.stream().map_err(invalid)?, Vec::new());
    loop {
        match stream.blocking_read(65_536) {
            Ok(bytes) => read.extend(bytes),
            Err(StreamError::Closed) => return Ok(read),
            Err(StreamError::LastOperationFailed(_)) => return Err(ErrorCode::HttpResponseIncomplete),
        }
    }
}

/// Asks a server of HTTP by hand, and returns how many bytes it sent.
fn connect(target: &str) -> std::io::Result<usize> {
    let addresses = target.to_socket_addrs()?.collect::<Vec<_>>();
    let mut stream = TcpStream::connect(&addresses[..])?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())
}
