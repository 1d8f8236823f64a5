//! A server for tests: a closure answers each HTTP request, and all requests are recorded.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use wasaba_core::clock;
use wasaba_core::secret::Secret;

use super::Pace;
use super::client::{Agent, Client, Route};

/// A back-off of this pace does not wait.
pub(super) const PACE: Pace = Pace {
    now: clock::wall,
    instant: clock::instant,
    running: clock::running,
    random: || 0.0,
    pause: std::time::Duration::ZERO,
    settled: std::time::Duration::ZERO,
};

/// A client for the server at `base`, with the key `key`.
pub(super) fn client(base: &str) -> Client {
    let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
    Client::new(base, Secret::new("key"), &agent, &Route::default()).unwrap()
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    /// `POST /api/v0/tsdb`
    pub(super) line: String,
    /// Request line and headers.
    pub(super) head: String,
    pub(super) body: String,
}

pub(super) struct Server {
    pub(super) base: String,
    seen: Arc<(Mutex<Vec<Request>>, Notify)>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        Self::start_pending(move |request| Some(answer(request))).await
    }

    /// Like [`Server::start`]; a request that gets `None` is never answered.
    pub(super) async fn start_pending(answer: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new((Mutex::new(Vec::new()), Notify::new()));
        let (answer, all) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, all) = (answer.clone(), all.clone());
                tokio::spawn(async move { serve(stream, &*answer, &all).await });
            }
        });
        Self { base, seen }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `enough` is true for the requests so far.
    pub(super) async fn until(&self, enough: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        loop {
            let another = self.seen.1.notified();
            let requests = self.requests();
            if enough(&requests) {
                return requests;
            }
            another.await;
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(&Request) -> Option<String>,
    seen: &(Mutex<Vec<Request>>, Notify),
) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let answer = answer(&request);
        seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        seen.1.notify_one();
        let Some(answer) = answer else { std::future::pending().await };
        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers each request of one connection with `{}`.
pub(super) async fn serve_alone(stream: TcpStream) {
    serve(stream, &|_| Some(answer(200, "{}")), &(Mutex::default(), Notify::new())).await;
}

pub(super) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let total = end + 4 + length.unwrap_or(0);
            if buffer.len() >= total {
                let body = String::from_utf8_lossy(&buffer[end + 4..total]).into_owned();
                buffer.drain(..total);
                let line = head.split(" HTTP/").next().unwrap().to_owned();
                return Some(Request { line, head, body });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// A response with a body. An empty string instead closes the connection without a response.
pub(super) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The log of a test's thread.
pub(super) mod log {
    use std::cell::RefCell;
    use std::fmt::Debug;
    use std::sync::LazyLock;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::{DefaultGuard, Interest, NoSubscriber};
    use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

    thread_local! {
        static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    struct Log;

    struct Message;

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                LINES.with_borrow_mut(|lines| lines.push(format!("{value:?}")));
            }
        }
    }

    impl Subscriber for Log {
        /// Tests with other subscribers run beside it: none must decide for all.
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes()
        }

        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= Level::INFO
        }

        fn event(&self, event: &Event<'_>) {
            event.record(&mut Message);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// From now on, until the guard is dropped, this thread's lines are kept.
    pub(in crate::mackerel) fn start() -> DefaultGuard {
        to(Log)
    }

    /// The same for another subscriber. There are always two, also beside tests without one: if there is only one, what a thread
    /// without it logs first is off from then on, for the thread that has it, too.
    pub(in crate::mackerel) fn to(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(subscriber)
    }

    /// The lines since the last time.
    pub(in crate::mackerel) fn take() -> Vec<String> {
        LINES.take()
    }
}
