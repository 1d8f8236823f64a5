//! `tcp`: streams of bytes to granted hosts and unix sockets, with TLS on top where the plugin asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BufMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use wasaba_core::tls;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::bindings::wasaba::plugin::tcp::{self as contract, Error};
use super::connect::{self, Patience, Stream, Unreached};
use super::{Guest, Identity};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

/// The most that one `read` hands over.
const LARGEST_READ: usize = 64 << 10;

/// An open connection; the contract's resource.
pub struct Connection {
    /// `None` after an error in the middle of a handshake.
    stream: Option<Box<dyn Stream>>,
    /// What was connected to, if it has a name.
    host: Option<String>,
    timeout: Option<Duration>,
    patience: Patience,
    _places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Denied(text) => Self::Denied(text),
            Unreached::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

/// What is open in one call.
pub(super) struct Open(Arc<Semaphore>, usize);

impl Open {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Semaphore::new(limit)), limit)
    }

    /// A place among the connections of this call and of all plugins.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn place(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), String> {
        let own = Arc::clone(&self.0).try_acquire_owned();
        let own = own.map_err(|_| format!("more than {} connections at once (limit `connections`)", self.1))?;
        let of_all = connect::descriptor().ok_or("the agent's plugins have too many connections open")?;
        Ok((own, of_all))
    }
}

impl Guest {
    fn connection(&mut self, connection: &Resource<Connection>) -> Result<&mut Connection> {
        Ok(self.table.get_mut(connection)?)
    }

    async fn connect_to(
        &mut self,
        host: String,
        port: u16,
        timeout: Option<Duration>,
    ) -> Result<Result<Resource<Connection>, Error>> {
        let identity = self.identity.clone();
        let granted = match identity.grants.check_host(&host, port) {
            Ok(granted) => granted,
            Err(why) => return Ok(Err(Error::Denied(identity.meter.refuse(why)))),
        };
        let places = match self.open.place() {
            Ok(places) => places,
            Err(why) => return Ok(Err(Error::Unreachable(why))),
        };
        let stream: Box<dyn Stream> = match &identity.script {
            Some(script) => match script.connect(&format!("{host}:{port}")) {
                Ok(stream) => stream,
                Err(why) => return Ok(Err(Error::Unreachable(why))),
            },
            None => match self.patience.wait(timeout, connect::tcp(&granted, port, &identity)).await.flatten() {
                Ok(stream) => Box::new(stream),
                Err(unreached) => return Ok(Err(unreached.into())),
            },
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        self.opened(stream, Some(name), places).map(Ok)
    }

    fn opened(
        &mut self,
        stream: Box<dyn Stream>,
        host: Option<String>,
        places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Result<Resource<Connection>> {
        let patience = self.patience;
        Ok(self.table.push(Connection { stream: Some(stream), host, timeout: None, patience, _places: places })?)
    }
}

impl Connection {
    async fn read(&mut self, most: usize) -> Result<Vec<u8>, Error> {
        let (time, stream) = self.parts()?;
        let most = most.min(LARGEST_READ);
        let mut bytes = Vec::with_capacity(most);
        within(time, stream.read_buf(&mut (&mut bytes).limit(most))).await?;
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (time, stream) = self.parts()?;
        within(time, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
        .await
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let (time, stream) = self.parts()?;
        within(time, stream.shutdown()).await
    }

    fn parts(&mut self) -> Result<(Time, &mut Box<dyn Stream>), Error> {
        Ok(((self.patience, self.timeout), self.stream.as_mut().ok_or_else(closed)?))
    }

    async fn start_tls(&mut self, identity: &Identity, server_name: Option<String>) -> Result<(), Error> {
        let name = server_name.or_else(|| self.host.clone());
        let name =
            name.ok_or_else(|| Error::Invalid("a unix socket has no name for TLS: give a server name".into()))?;
        let parsed =
            ServerName::try_from(name.clone()).map_err(|_| Error::Invalid(format!("{name:?} is no server name")))?;
        let config = tls::client(&identity.grants.trust).map_err(Error::Failed)?;
        let stream = self.stream.take().ok_or_else(closed)?;
        let connect = TlsConnector::from(Arc::new(config)).connect(parsed, stream);
        let encrypted = self.patience.wait(self.timeout, connect).await?;
        let encrypted = encrypted.map_err(|error| Error::Failed(format!("TLS with `{name}`: {error}")))?;
        self.stream = Some(Box::new(encrypted));
        Ok(())
    }
}

/// How long the call may wait, and the plugin wants to.
type Time = (Patience, Option<Duration>);

async fn within<T>((patience, timeout): Time, io: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    patience.wait(timeout, io).await?.map_err(|error| Unreached::from(error).into())
}

fn closed() -> Error {
    Error::Unreachable("the connection is closed".into())
}

/// The contract's way to say how long to wait; 0 is no limit.
fn timeout(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

impl contract::Host for Guest {}

impl contract::HostConnection for Guest {
    async fn connect(&mut self, host: String, port: u16) -> Result<Result<Resource<Connection>, Error>> {
        self.connect_to(host, port, None).await
    }

    async fn connect_within(
        &mut self,
        host: String,
        port: u16,
        milliseconds: u64,
    ) -> Result<Result<Resource<Connection>, Error>> {
        self.connect_to(host, port, timeout(milliseconds)).await
    }

    async fn connect_unix(&mut self, path: String) -> Result<Result<Resource<Connection>, Error>> {
        let identity = self.identity.clone();
        if let Err(why) = identity.grants.check_socket(&path) {
            return Ok(Err(Error::Denied(identity.meter.refuse(why))));
        }
        let places = match self.open.place() {
            Ok(places) => places,
            Err(why) => return Ok(Err(Error::Unreachable(why))),
        };
        let stream: Box<dyn Stream> = match &identity.script {
            Some(script) => match script.connect(&format!("unix:{path}")) {
                Ok(stream) => stream,
                Err(why) => return Ok(Err(Error::Unreachable(why))),
            },
            None => match self.patience.wait(None, connect::unix(&path, &identity)).await.flatten() {
                Ok(stream) => Box::new(stream),
                Err(unreached) => return Ok(Err(unreached.into())),
            },
        };
        self.opened(stream, None, places).map(Ok)
    }

    async fn read(&mut self, connection: Resource<Connection>, max_bytes: u32) -> Result<Result<Vec<u8>, Error>> {
        let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let result = self.connection(&connection)?.read(most).await;
        count(&self.identity.meter.received_bytes, result.as_ref().map_or(0, Vec::len));
        Ok(result)
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Result<Result<(), Error>> {
        let result = self.connection(&connection)?.write(&bytes).await;
        count(&self.identity.meter.sent_bytes, if result.is_ok() { bytes.len() } else { 0 });
        Ok(result)
    }

    async fn finish(&mut self, connection: Resource<Connection>) -> Result<Result<(), Error>> {
        Ok(self.connection(&connection)?.finish().await)
    }

    async fn start_tls(
        &mut self,
        connection: Resource<Connection>,
        server_name: Option<String>,
    ) -> Result<Result<(), Error>> {
        let identity = self.identity.clone();
        let connection = self.connection(&connection)?;
        // A canned conversation is told in plain text.
        if identity.script.is_some() {
            return Ok(Ok(()));
        }
        Ok(connection.start_tls(&identity, server_name).await)
    }

    async fn set_timeout(&mut self, connection: Resource<Connection>, milliseconds: u64) -> Result<()> {
        self.connection(&connection)?.timeout = timeout(milliseconds);
        Ok(())
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};
    use wasaba_core::limits::Limits;

    use super::contract::HostConnection;
    use super::*;
    use crate::capabilities::grants::Grants;

    fn guest(grants: Grants, limits: Limits) -> Guest {
        Guest::new(Identity { grants: Arc::new(grants), limits: Arc::new(limits), ..Identity::default() })
    }

    fn allowing(entry: &str) -> Grants {
        let mut grants = Grants { place: "[plugin.metrics.db]".into(), ..Grants::default() };
        grants.allow(entry).unwrap();
        grants
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_host_that_was_not_granted_is_denied_counted_and_never_connected_to() {
        let (listener, port) = listener().await;
        let mut guest = guest(allowing("127.0.0.1:1"), Limits::default());
        let refused = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap();
        let Err(Error::Denied(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains(&format!("allow = [\"127.0.0.1:{port}\"]")), "{text}");
        assert_eq!(guest.identity.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "somebody connected");
    }

    #[tokio::test]
    async fn a_unix_socket_that_was_not_granted_is_denied() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("db.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mut guest = guest(allowing("unix:/run/other.sock"), Limits::default());
        let path = socket.to_str().unwrap().to_owned();
        let refused = HostConnection::connect_unix(&mut guest, path).await.unwrap();
        assert!(matches!(&refused, Err(Error::Denied(text)) if text.contains("unix:")), "{refused:?}");
    }

    #[tokio::test]
    async fn a_granted_host_is_spoken_to_until_both_have_finished() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap(); // ends only by the half-close
            stream.write_all(b"answer").await.unwrap();
            asked
        });
        let mut guest = guest(allowing(&format!("127.0.0.1:{port}")), Limits::default());
        let connected = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap();
        let id = connected.unwrap().rep();
        let connection = || Resource::new_borrow(id);
        guest.write(connection(), b"question".to_vec()).await.unwrap().unwrap();
        HostConnection::finish(&mut guest, connection()).await.unwrap().unwrap();
        assert_eq!(guest.read(connection(), 100).await.unwrap().unwrap(), b"answer");
        assert_eq!(guest.read(connection(), 100).await.unwrap().unwrap(), b"", "the end");
        assert_eq!(server.await.unwrap(), b"question");
        let meter = &guest.identity.meter;
        let counted = (meter.sent_bytes.load(Ordering::Relaxed), meter.received_bytes.load(Ordering::Relaxed));
        assert_eq!(counted, (8, 6));
    }

    #[tokio::test]
    async fn a_silent_server_is_unreachable_after_the_timeout() {
        let (_listener, port) = listener().await;
        let mut guest = guest(allowing(&format!("127.0.0.1:{port}")), Limits::default());
        let connected = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap();
        let id = connected.unwrap().rep();
        guest.set_timeout(Resource::new_borrow(id), 20).await.unwrap();
        let late = guest.read(Resource::new_borrow(id), 1).await.unwrap();
        assert!(matches!(&late, Err(Error::Unreachable(text)) if text.contains("20ms")), "{late:?}");
    }

    #[tokio::test]
    async fn more_connections_at_once_than_allowed_are_refused_until_one_is_closed() {
        let (_listener, port) = listener().await;
        let limits = Limits { connections: 1, ..Limits::default() };
        let mut guest = guest(allowing(&format!("127.0.0.1:{port}")), limits);
        let first = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap().unwrap();
        let second = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap();
        assert!(matches!(&second, Err(Error::Unreachable(text)) if text.contains("`connections`")), "{second:?}");
        HostConnection::drop(&mut guest, first).await.unwrap();
        assert!(HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_conversation_goes_on_in_tls_if_the_servers_certificate_is_believed() {
        let authority = wasaba_testing::authority::Authority::new();
        for (name, believed) in [("127.0.0.1", true), ("elsewhere", false)] {
            let (listener, port) = listener().await;
            let acceptor = authority.server(name, false);
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"S").await.unwrap(); // as PostgreSQL answers to its SSLRequest
                let mut encrypted = acceptor.accept(stream).await.ok()?;
                encrypted.write_all(b"secret").await.ok()
            });
            let mut grants = allowing(&format!("127.0.0.1:{port}"));
            grants.trust.authority = Some(authority.file());
            let mut guest = guest(grants, Limits::default());
            let connected = HostConnection::connect(&mut guest, "127.0.0.1".into(), port).await.unwrap();
            let id = connected.unwrap().rep();
            let connection = || Resource::new_borrow(id);
            assert_eq!(HostConnection::read(&mut guest, connection(), 1).await.unwrap().unwrap(), b"S");
            let started = guest.start_tls(connection(), None).await.unwrap();
            if believed {
                assert_eq!(started, Ok(()));
                assert_eq!(HostConnection::read(&mut guest, connection(), 9).await.unwrap().unwrap(), b"secret");
            } else {
                assert!(matches!(&started, Err(Error::Failed(text)) if text.contains("127.0.0.1")), "{started:?}");
                let after = HostConnection::read(&mut guest, connection(), 9).await.unwrap();
                assert!(matches!(after, Err(Error::Unreachable(_))), "never again in plain text: {after:?}");
            }
            server.await.unwrap();
        }
    }
}
