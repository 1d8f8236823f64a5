//! `tcp`: byte streams to granted hosts and unix sockets, with TLS on top where the plugin asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BufMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use wasaba_core::tls::{self, Trust};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::blocking::Blocking;
use super::connect::{self, Patience, Slot, Stream, Unreached};
use super::gate::Gate;
use super::meter::Meter;
use super::script::Script;
use crate::contract::bindings::wasaba::plugin::tcp::{self as contract, Error};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// The most bytes that one `read` returns.
const LARGEST_READ: usize = 64 << 10;

/// An open connection; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Connection {
    /// `None` after a failed handshake.
    stream: Option<Box<dyn Stream>>,
    /// The host that was connected to; a unix socket has none.
    host: Option<String>,
    timeout: Option<Duration>,
    patience: Patience,
    _slot: Slot,
}

impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Denied(text) => Self::Denied(text),
            Unreached::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

/// What an instance may connect to, and what counts its traffic.
pub(super) struct OfInstance {
    gate: Gate,
    blocking: Blocking,
    meter: Arc<Meter>,
}

impl OfInstance {
    pub(super) fn new(gate: Gate, blocking: Blocking, meter: Arc<Meter>) -> Self {
        Self { gate, blocking, meter }
    }
}

/// All that this capability sees of a call.
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) connections: &'a connect::OfCall,
    /// The call's open connections are in it.
    pub(super) table: &'a mut ResourceTable,
    pub(super) script: Option<&'a Script>,
}

impl View<'_> {
    fn connection(&mut self, connection: &Resource<Connection>) -> Result<&mut Connection> {
        Ok(self.table.get_mut(connection)?)
    }

    async fn open_host(&mut self, host: String, port: u16, timeout: Option<Duration>) -> Result<Connection, Error> {
        let OfInstance { gate, blocking, .. } = self.instance;
        let granted = gate.check(|grants| grants.check_host(&host, port)).map_err(Error::Denied)?;
        let slot = self.connections.slot().map_err(Error::Unreachable)?;
        let patience = self.connections.patience;
        let stream: Box<dyn Stream> = match self.script {
            Some(script) => script.connect(&format!("{host}:{port}")).map_err(Error::Unreachable)?,
            None => Box::new(patience.wait(timeout, connect::tcp(&granted, port, gate, blocking)).await.flatten()?),
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Connection { stream: Some(stream), host: Some(name), timeout: None, patience, _slot: slot })
    }

    async fn open_unix(&mut self, path: String) -> Result<Connection, Error> {
        let gate = &self.instance.gate;
        gate.check(|grants| grants.check_socket(&path)).map_err(Error::Denied)?;
        let slot = self.connections.slot().map_err(Error::Unreachable)?;
        let patience = self.connections.patience;
        let stream: Box<dyn Stream> = match self.script {
            Some(script) => script.connect(&format!("unix:{path}")).map_err(Error::Unreachable)?,
            None => Box::new(patience.wait(None, connect::unix(&path, gate, &self.instance.blocking)).await.flatten()?),
        };
        Ok(Connection { stream: Some(stream), host: None, timeout: None, patience, _slot: slot })
    }

    /// Hands an opened connection over to the plugin; a full table ends the call.
    fn handed_over(&mut self, opened: Result<Connection, Error>) -> Result<Result<Resource<Connection>, Error>> {
        Ok(match opened {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error),
        })
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

    async fn start_tls(&mut self, trust: &Trust, server_name: Option<String>) -> Result<(), Error> {
        let name = server_name.or_else(|| self.host.clone());
        let name = name.ok_or_else(|| Error::Invalid("TLS over a unix socket needs a server name".into()))?;
        let parsed =
            ServerName::try_from(name.clone()).map_err(|_| Error::Invalid(format!("invalid server name {name:?}")))?;
        let config = tls::client(trust).map_err(Error::Failed)?;
        let stream = self.stream.take().ok_or_else(closed)?;
        let connect = TlsConnector::from(Arc::new(config)).connect(parsed, stream);
        let encrypted = self.patience.wait(self.timeout, connect).await?;
        let encrypted = encrypted.map_err(|error| Error::Failed(format!("TLS with `{name}`: {error}")))?;
        self.stream = Some(Box::new(encrypted));
        Ok(())
    }
}

/// How long the call may wait, and the connection's own timeout.
type Time = (Patience, Option<Duration>);

async fn within<T>((patience, timeout): Time, io: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    patience.wait(timeout, io).await?.map_err(|error| Unreached::from(error).into())
}

fn closed() -> Error {
    Error::Unreachable("the connection is closed".into())
}

/// The contract's timeouts: 0 is no limit.
fn timeout(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

impl contract::Host for View<'_> {}

impl contract::HostConnection for View<'_> {
    async fn connect(&mut self, host: String, port: u16) -> Result<Result<Resource<Connection>, Error>> {
        let opened = self.open_host(host, port, None).await;
        self.handed_over(opened)
    }

    async fn connect_within(
        &mut self,
        host: String,
        port: u16,
        milliseconds: u64,
    ) -> Result<Result<Resource<Connection>, Error>> {
        let opened = self.open_host(host, port, timeout(milliseconds)).await;
        self.handed_over(opened)
    }

    async fn connect_unix(&mut self, path: String) -> Result<Result<Resource<Connection>, Error>> {
        let opened = self.open_unix(path).await;
        self.handed_over(opened)
    }

    async fn read(&mut self, connection: Resource<Connection>, max_bytes: u32) -> Result<Result<Vec<u8>, Error>> {
        let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let result = self.connection(&connection)?.read(most).await;
        count(&self.instance.meter.received_bytes, result.as_ref().map_or(0, Vec::len));
        Ok(result)
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Result<Result<(), Error>> {
        let result = self.connection(&connection)?.write(&bytes).await;
        count(&self.instance.meter.sent_bytes, if result.is_ok() { bytes.len() } else { 0 });
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
        let (trust, is_scripted) = (self.instance.gate.trust(), self.script.is_some());
        let connection = self.connection(&connection)?;
        // A scripted conversation is in plain text.
        Ok(if is_scripted { Ok(()) } else { connection.start_tls(trust, server_name).await })
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

    use super::contract::HostConnection;
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::script::{Conversation, Turn};

    /// What a view looks at.
    struct State {
        instance: OfInstance,
        connections: connect::OfCall,
        table: ResourceTable,
        script: Option<Script>,
    }

    impl State {
        fn new(grants: Grants, connections: usize) -> Self {
            let meter = Arc::<Meter>::default();
            let gate = Gate::new(Arc::new(grants), Arc::clone(&meter));
            let instance = OfInstance::new(gate, Blocking::default(), meter);
            let connections = connect::OfCall::new(connections, Duration::from_secs(10));
            Self { instance, connections, table: ResourceTable::new(), script: None }
        }

        fn view(&mut self) -> View<'_> {
            let Self { instance, connections, table, script } = self;
            View { instance, connections, table, script: script.as_ref() }
        }
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
        let mut state = State::new(allowing("127.0.0.1:1"), 16);
        let refused = state.view().connect("127.0.0.1".into(), port).await.unwrap();
        let Err(Error::Denied(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains(&format!("allow = [\"127.0.0.1:{port}\"]")), "{text}");
        assert_eq!(state.instance.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
    }

    #[tokio::test]
    async fn a_unix_socket_that_was_not_granted_is_denied() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("db.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mut state = State::new(allowing("unix:/run/other.sock"), 16);
        let refused = state.view().connect_unix(socket.to_str().unwrap().to_owned()).await.unwrap();
        assert!(matches!(&refused, Err(Error::Denied(text)) if text.contains("unix:")), "{refused:?}");
    }

    #[tokio::test]
    async fn a_conversation_with_a_granted_host_lasts_until_both_sides_have_finished() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = Vec::new();
            stream.read_to_end(&mut question).await.unwrap(); // ends only by the half-close
            stream.write_all(b"answer").await.unwrap();
            question
        });
        let mut state = State::new(allowing(&format!("127.0.0.1:{port}")), 16);
        let mut view = state.view();
        let id = view.connect("127.0.0.1".into(), port).await.unwrap().unwrap().rep();
        let connection = || Resource::new_borrow(id);
        view.write(connection(), b"question".to_vec()).await.unwrap().unwrap();
        view.finish(connection()).await.unwrap().unwrap();
        assert_eq!(view.read(connection(), 100).await.unwrap().unwrap(), b"answer");
        assert_eq!(view.read(connection(), 100).await.unwrap().unwrap(), b"", "the end");
        assert_eq!(server.await.unwrap(), b"question");
        let meter = &state.instance.meter;
        let counted = (meter.sent_bytes.load(Ordering::Relaxed), meter.received_bytes.load(Ordering::Relaxed));
        assert_eq!(counted, (8, 6));
    }

    #[tokio::test]
    async fn a_silent_server_is_unreachable_after_the_timeout() {
        let (_listener, port) = listener().await;
        let mut state = State::new(allowing(&format!("127.0.0.1:{port}")), 16);
        let mut view = state.view();
        let id = view.connect("127.0.0.1".into(), port).await.unwrap().unwrap().rep();
        view.set_timeout(Resource::new_borrow(id), 20).await.unwrap();
        let late = view.read(Resource::new_borrow(id), 1).await.unwrap();
        assert!(matches!(&late, Err(Error::Unreachable(text)) if text.contains("20ms")), "{late:?}");
    }

    #[tokio::test]
    async fn connections_over_the_limit_are_refused_until_one_is_closed() {
        let (_listener, port) = listener().await;
        let mut state = State::new(allowing(&format!("127.0.0.1:{port}")), 1);
        let mut view = state.view();
        let first = view.connect("127.0.0.1".into(), port).await.unwrap().unwrap();
        let second = view.connect("127.0.0.1".into(), port).await.unwrap();
        assert!(matches!(&second, Err(Error::Unreachable(text)) if text.contains("`connections`")), "{second:?}");
        HostConnection::drop(&mut view, first).await.unwrap();
        assert!(view.connect("127.0.0.1".into(), port).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_conversation_continues_in_tls_if_the_servers_certificate_is_trusted() {
        let authority = wasaba_testing::authority::Authority::new();
        for (name, trusted) in [("127.0.0.1", true), ("elsewhere", false)] {
            let (listener, port) = listener().await;
            let acceptor = authority.server(name, false);
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"S").await.unwrap(); // as PostgreSQL answers an SSLRequest
                let mut encrypted = acceptor.accept(stream).await.ok()?;
                encrypted.write_all(b"secret").await.ok()
            });
            let mut grants = allowing(&format!("127.0.0.1:{port}"));
            grants.trust.authority = Some(authority.file());
            let mut state = State::new(grants, 16);
            let mut view = state.view();
            let id = view.connect("127.0.0.1".into(), port).await.unwrap().unwrap().rep();
            let connection = || Resource::new_borrow(id);
            assert_eq!(view.read(connection(), 1).await.unwrap().unwrap(), b"S");
            let started = view.start_tls(connection(), None).await.unwrap();
            if trusted {
                assert_eq!(started, Ok(()));
                assert_eq!(view.read(connection(), 9).await.unwrap().unwrap(), b"secret");
            } else {
                assert!(matches!(&started, Err(Error::Failed(text)) if text.contains("127.0.0.1")), "{started:?}");
                let after = view.read(connection(), 9).await.unwrap();
                assert!(matches!(after, Err(Error::Unreachable(_))), "never again in plain text: {after:?}");
            }
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_script_stands_in_for_the_network_but_not_for_the_grants() {
        let conversation = |with: &str| Conversation { with: with.into(), turns: Ok(vec![Turn::Send(b"hi".into())]) };
        let mut script = Script::default();
        script.tcp.extend(["db:1", "unix:/run/db.sock", "other:1"].map(conversation));
        let mut grants = allowing("db:1");
        grants.allow("unix:/run/db.sock").unwrap();
        let mut state = State::new(grants, 16);
        state.script = Some(script);
        let mut view = state.view();
        let host = view.connect("db".into(), 1).await.unwrap().unwrap();
        let unix = view.connect_unix("/run/db.sock".into()).await.unwrap().unwrap();
        for connection in [host, unix] {
            assert_eq!(view.read(connection, 9).await.unwrap().unwrap(), b"hi");
        }
        assert!(matches!(view.connect("other".into(), 1).await.unwrap(), Err(Error::Denied(_))));
    }
}
