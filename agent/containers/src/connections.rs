//! Connections to an engine. Over TCP the name is looked up once in a collection, and connections are kept and used again: a handshake of
//! TLS costs both sides more than the answer.
//!
//! One connection carries one request at a time, so many requests at once need several. It begins with one; as long as requests wait, their
//! number doubles every [`GROWTH`]: an engine that answers at once needs few, and one that takes a second for each soon has enough.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use wasaba_core::allowance::{Allowance, Allowed};
use wasaba_core::names::{self, Found};

/// How long a request waits for a connection before there are twice as many.
const GROWTH: Duration = Duration::from_millis(50);

/// The most connections at once.
const MOST: usize = 256;

/// How much of a response is kept of what was not asked for yet, in bytes, for each connection.
const LARGEST_BUFFER: usize = 64 << 10;

/// The body of a request, whatever it is.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A connection that carries one request at a time.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    allowance: Allowance,
}

impl Connection {
    pub(super) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, Error> {
        let allowance = Allowance::default();
        let stream = Allowed::new(stream, allowance.clone());
        let (sender, connection) =
            http1::Builder::new().max_buf_size(LARGEST_BUFFER).handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or with the response's body, whose reader gets its errors.
        tokio::spawn(connection);
        Ok(Self { sender, allowance })
    }

    /// Sends one request, of whose response's body at most this many bytes are read.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
        most_bytes: u64,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        self.allowance.start();
        let response = self.sender.try_send_request(request).await;
        self.allowance.body(most_bytes);
        response
    }
}

/// The connections over TCP during one collection. Clones share them.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    /// As it was written: a name or an address, an IPv6 address in brackets.
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    found: OnceCell<Found>,
    idle: Mutex<Vec<Connection>>,
    /// One for each connection that may be in use.
    slots: Arc<Semaphore>,
    /// How many there are, and since when.
    size: Mutex<(usize, Instant)>,
}

impl Connections {
    pub(super) fn new(host: &str, port: u16, tls: Option<TlsConnector>) -> Self {
        let (slots, size) = (Arc::new(Semaphore::new(1)), Mutex::new((1, Instant::now())));
        let (found, idle) = (OnceCell::new(), Mutex::default());
        Self(Arc::new(Inner { host: host.to_owned(), port, tls, found, idle, slots, size }))
    }

    /// The host and port of a URL.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.0.host, self.0.port)
    }

    /// Sends one request, over a connection that is idle if there is one.
    pub(super) async fn exchange(&self, request: Request<Body>, most_bytes: u64) -> Result<Response<Incoming>, Error> {
        let slot = self.0.slot().await?;
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut connection, is_kept) = match idle().filter(|connection| !connection.sender.is_closed()) {
            Some(connection) => (connection, true),
            None => (self.0.connect().await?, false),
        };
        let response = match connection.send(request, most_bytes).await {
            Err(mut error) if is_kept => match error.take_message() {
                // The engine has closed it meanwhile.
                Some(request) => {
                    connection = self.0.connect().await?;
                    connection.send(request, most_bytes).await.map_err(TrySendError::into_error)?
                }
                None => return Err(error.into_error().into()),
            },
            response => response.map_err(TrySendError::into_error)?,
        };
        tokio::spawn(Arc::clone(&self.0).keep(connection, slot));
        Ok(response)
    }
}

impl Inner {
    /// The right to use a connection.
    async fn slot(&self) -> io::Result<OwnedSemaphorePermit> {
        loop {
            match tokio::time::timeout(GROWTH, Arc::clone(&self.slots).acquire_owned()).await {
                Ok(slot) => return slot.map_err(io::Error::other),
                Err(_) => self.grow(),
            }
        }
    }

    fn grow(&self) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = *size;
        if since.elapsed() >= GROWTH && count < MOST {
            self.slots.add_permits(count);
            *size = (count * 2, Instant::now());
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let host = self.host.trim_matches(['[', ']']);
        let found = self.found.get_or_try_init(|| async { names::find(host).await.map_err(io::Error::other) }).await?;
        let stream = found.clone().connect(self.port, |later| later).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Connection::over(stream).await };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Connection::over(tls.connect(name, stream).await?).await
    }

    /// Keeps a connection for the next request once the response has been read.
    async fn keep(self: Arc<Self>, mut connection: Connection, slot: OwnedSemaphorePermit) {
        if connection.sender.ready().await.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        drop(slot);
    }
}
