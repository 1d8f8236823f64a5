//! What servers send: monitored ones, an engine, Mackerel, a cloud.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Instant;

use containers::Docker;
use containers::collection::{State, collect};
use containers::endpoint::Endpoint;
use containers::metrics::EXTRA;
use delivery::mackerel::{Agent, Client, HostId, Route};
use futures_util::stream::{FuturesUnordered, StreamExt};
use machine::host::cloud::{self, CloudPlatform};
use machine::roots::Roots;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use wasaba_core::collect::Moment;
use wasaba_core::secret::Secret;
use wasaba_plugin::testing::{Answer, Host};

use super::{PLANTED, assert_short, pieces, text};

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    static ENGINE: (TempDir, UnixListener) = wait(async {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        (folder, listener)
    });
    static MACKEREL: (TcpListener, Client) = wait(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let agent = Agent { version: "0.1.0".to_owned(), revision: "abcdef0".to_owned() };
        // Each response has a connection of its own.
        let route = Route { no_keep_alive: true, ..Route::default() };
        let client = Client::new(&base, Secret::new(PLANTED), &agent, &route).unwrap();
        (listener, client)
    });
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// The status page of nginx: a status on the first line, or none, and the body.
pub fn nginx(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == b'\n').and_then(|at| data.split_at_checked(at + 1));
    let status = split.and_then(|(line, _)| text(line).trim().parse().ok());
    let (status, body) = status.zip(split).map_or((200, data), |(status, (_, body))| (status, body));
    let plugin = nginx_plugin::PLUGIN;
    let host = Host::new(plugin.describe).set("host", "web").set("path", "/s?token=hunter2").set("extra", "dropped");
    let host = host.answers("http://web:8080/s?token=hunter2", Answer::new(body).status(status));
    match host.collect(plugin.metrics.unwrap()) {
        Ok(readings) => assert_eq!(readings.samples.len(), 8),
        Err(error) => assert!(!format!("{error:?}").contains("hunter2"), "{error:?}"),
    }
}

/// Redis's replies, in pieces of as many bytes as the first byte says.
pub fn redis(data: &[u8]) {
    in_pieces(data, redis_plugin::offline::values);
}

/// PostgreSQL's messages, in pieces of as many bytes as the first byte says.
pub fn postgres(data: &[u8]) {
    in_pieces(data, postgres_plugin::offline::values);
    let server_final = text(data);
    let is_signed = server_final.strip_prefix("v=").is_some_and(|rest| rest.split(',').next() == Some("eWVz"));
    assert_eq!(postgres_plugin::offline::is_logged_in_by(&server_final), is_signed, "{server_final}");
}

fn in_pieces<V: PartialEq + std::fmt::Debug, E>(data: &[u8], read: impl Fn(&[u8], usize) -> Result<V, E>) {
    let Some((size, sent)) = data.split_first() else { return };
    let (whole, in_pieces) = (read(sent, usize::MAX).ok(), read(sent, usize::from(*size)).ok());
    // NaN is not equal to itself.
    assert_eq!(format!("{whole:?}"), format!("{in_pieces:?}"), "the pieces in which an answer arrives matter");
}

/// A response as it is sent: the piece itself if it is one, or else one with the piece as its body.
fn response(piece: &[u8], second: u32) -> Vec<u8> {
    if piece.starts_with(b"HTTP/") {
        return piece.to_vec();
    }
    let length = piece.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:{second:02} GMT\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), piece].concat()
}

/// Reads a request, sends the answer to its path, and closes the connection.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: impl Fn(&str) -> Vec<u8>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = text(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    // The client may have gone.
    stream.write_all(&answer(path)).await.ok();
    stream.shutdown().await.ok();
}

/// The engine's responses: the list of containers, statistics, the container, events; and the first two a minute later.
pub fn docker(data: &[u8]) {
    let pieces = pieces(data);
    let piece = |index: usize| pieces.get(index).map_or(&b"[]"[..], Vec::as_slice);
    ENGINE.with(|(folder, listener)| {
        let endpoint = Endpoint::Unix(folder.path().join("engine.sock"));
        let docker = Docker { endpoint, extra: EXTRA.to_vec(), ..Docker::default() };
        let mut state = State::default();
        for minute in 0..2_u32 {
            let later = |index: usize| if minute == 1 && pieces.len() > 4 { index + 4 } else { index };
            let answer = |path: &str| {
                let index = match path {
                    _ if path.starts_with("/containers/json") => later(0),
                    _ if path.contains("/stats") => later(1),
                    _ if path.starts_with("/containers/") => 2,
                    _ => 3,
                };
                response(piece(index), minute * 10)
            };
            let serve = async {
                let mut talks = FuturesUnordered::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => talks.push(talk(accepted.unwrap().0, &answer)),
                        Some(()) = talks.next(), if !talks.is_empty() => {}
                    }
                }
            };
            let moment = Moment { unix_seconds: 784_111_777 + i64::from(minute) * 60, instant: Instant::now() };
            let answer = wait(async {
                tokio::select! { answer = collect(&docker, &mut state, moment) => answer, never = serve => never }
            });
            let Ok(answer) = answer else { continue };
            let names = answer.samples.iter().map(|sample| sample.name().as_str()).collect::<HashSet<_>>();
            assert_eq!(names.len(), answer.samples.len(), "a name occurs twice: {:?}", answer.samples);
            assert!(names.iter().all(|name| name.starts_with("custom.docker.")), "{names:?}");
            assert!(answer.warnings.len() <= 10, "{} warnings", answer.warnings.len());
            answer.warnings.iter().for_each(|warning| assert_short(warning, 2_048));
        }
    });
}

/// The address of an engine.
pub fn docker_host(data: &[u8]) {
    if let Ok(endpoint) = Endpoint::parse(&text(data)) {
        let shown = endpoint.to_string();
        assert_eq!(Endpoint::parse(&shown), Ok(endpoint), "{shown}");
    }
}

/// A response of Mackerel, in which `KEY` stands for the API key.
pub fn mackerel(data: &[u8]) {
    let sent = text(data).replace("KEY", PLANTED);
    let sent = if text(data) == sent { data.to_vec() } else { sent.into_bytes() };
    MACKEREL.with(|(listener, client)| {
        let serve = async {
            let mut talks = FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => talks.push(talk(accepted.unwrap().0, |_: &str| response(&sent, 0))),
                    Some(()) = talks.next(), if !talks.is_empty() => {}
                }
            }
        };
        let answers = wait(async {
            let requests = async {
                let host = HostId::new("HOST1").unwrap();
                [
                    client.find_host("a b").await.map(drop),
                    client.get_host(&host).await.map(drop),
                    client.post_values(b"[]".to_vec()).await,
                ]
            };
            tokio::select! { answers = requests => answers, never = serve => never }
        });
        for error in answers.into_iter().filter_map(Result::err) {
            let shown = error.to_string();
            assert!(!shown.contains(PLANTED) && !shown.contains(char::is_control), "{shown:?}");
            assert_short(&shown, 2_048);
        }
    });
}

/// Texts of a cloud's metadata service, one after the other.
struct Texts(Mutex<VecDeque<String>>);

impl cloud::Client for Texts {
    fn text<'a>(
        &'a self,
        _: cloud::Request<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send + 'a>> {
        // None would be tried again, after a pause.
        Box::pin(async { Ok(Some(self.0.lock().unwrap().pop_front().unwrap_or_default())) })
    }
}

/// What a cloud's metadata service answers.
pub fn cloud(data: &[u8]) {
    let texts = pieces(data).iter().map(|piece| text(piece).into_owned()).collect::<VecDeque<_>>();
    for platform in [CloudPlatform::Ec2, CloudPlatform::Gce, CloudPlatform::AzureVm] {
        let client = Texts(Mutex::new(texts.clone()));
        let found = wait(cloud::detect(platform, &Roots::default(), &client));
        serde_json::to_vec(&found.map(|cloud| cloud.custom_identifier)).unwrap();
    }
}
