//! `tcp`: byte streams to granted hosts and unix sockets, with TLS on top where the plugin asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BufMut;
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use wasaba_core::names;
use wasaba_core::tls::{self, Seen, Trust};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::address;
use super::blocking::Blocking;
use super::connect::{self, Patience, Slot, Stream, broken};
use super::gate::{Gate, MOST_HOST_BYTES, MOST_PATH_BYTES, bounded};
use super::grants::Origin;
use super::http::failure_of;
use super::memory::Share;
use super::meter::Meter;
use super::script::Script;
use super::types::{Handle, secret};
use crate::contract::wire::tcp::{self as contract, Error, TlsFailure, TlsInfo};
use crate::failure::{Failure, Kind};

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
    /// Whom errors name.
    place: Arc<str>,
    /// Whether the peer is on this machine.
    is_local: bool,
    timeout: Option<Duration>,
    patience: Patience,
    _slot: Slot,
}

/// How TLS begins; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug, Default)]
pub struct TlsOptions {
    server_name: Option<String>,
    alpn: Vec<String>,
    /// Of the memory limit: of the name and the protocols.
    shares: [Option<Share>; 2],
}

/// What an instance may connect to, and what counts its traffic.
pub(super) struct OfInstance {
    pub(super) gate: Gate,
    pub(super) blocking: Blocking,
    pub(super) meter: Arc<Meter>,
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

    async fn open_host(&mut self, host: String, port: u16, timeout: Option<Duration>) -> Result<Connection, Failure> {
        let OfInstance { gate, blocking, .. } = self.instance;
        bounded("host", &host, MOST_HOST_BYTES)?;
        let granted = gate.check(|grants| grants.check_host(&host, port))?;
        let place = Arc::<str>::from(format!("{granted}:{port}"));
        let slot = self.connections.slot()?;
        let patience = self.connections.patience;
        let (stream, is_local): (Box<dyn Stream>, _) = match self.script {
            Some(script) => {
                let stream = script.connect(&format!("{host}:{port}"));
                let stream = stream.map_err(|why| unreachable(why).at(&place))?;
                (stream, Origin::of_host(&host, port).is_ok_and(|origin| origin.is_loopback()))
            }
            None => {
                let stream = patience.wait(timeout, connect::tcp(&granted, port, gate, blocking)).await.flatten();
                let stream = stream.map_err(|failure| failure.at(&place))?;
                let is_local = stream.peer_addr().is_ok_and(|peer| address::is_loopback(peer.ip()));
                (Box::new(stream), is_local)
            }
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (stream, host) = (Some(stream), Some(name));
        Ok(Connection { stream, host, place, is_local, timeout: None, patience, _slot: slot })
    }

    async fn open_unix(&mut self, path: String, timeout: Option<Duration>) -> Result<Connection, Failure> {
        let gate = &self.instance.gate;
        bounded("path", &path, MOST_PATH_BYTES)?;
        gate.check(|grants| grants.check_socket(&path))?;
        let slot = self.connections.slot()?;
        let patience = self.connections.patience;
        let place = Arc::<str>::from(format!("unix:{path}"));
        let stream: Box<dyn Stream> = match self.script {
            Some(script) => script.connect(&place).map_err(|why| unreachable(why).at(&place))?,
            None => {
                let stream = patience.wait(timeout, connect::unix(&path, gate, &self.instance.blocking)).await;
                Box::new(stream.flatten().map_err(|failure| failure.at(&place))?)
            }
        };
        let stream = Some(stream);
        Ok(Connection { stream, host: None, place, is_local: true, timeout: None, patience, _slot: slot })
    }

    async fn sent(&mut self, connection: &Resource<Connection>, bytes: &[u8]) -> Result<Result<(), Error>> {
        let result = self.connection(connection)?.write(bytes).await;
        count(&self.instance.meter.sent_bytes, if result.is_ok() { bytes.len() } else { 0 });
        Ok(result.map_err(Error::from))
    }

    /// Hands an opened connection over to the plugin; a full table ends the call.
    fn handed_over(&mut self, opened: Result<Connection, Failure>) -> Result<Result<Resource<Connection>, Error>> {
        Ok(match opened {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(failure) => Err(failure.into()),
        })
    }
}

impl Connection {
    async fn read(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let (time, stream) = self.parts()?;
        let most = most.min(LARGEST_READ);
        let mut bytes = Vec::with_capacity(most);
        let read = within(time, stream.read_buf(&mut (&mut bytes).limit(most))).await;
        read.map(|_| bytes).map_err(|failure| failure.at(&self.place))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (time, stream) = self.parts()?;
        let written = within(time, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        written.await.map_err(|failure| failure.at(&self.place))
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        let (time, stream) = self.parts()?;
        within(time, stream.shutdown()).await.map_err(|failure| failure.at(&self.place))
    }

    fn parts(&mut self) -> Result<(Time, &mut Box<dyn Stream>), Failure> {
        let closed = || closed().at(&self.place);
        Ok(((self.patience, self.timeout), self.stream.as_mut().ok_or_else(closed)?))
    }

    /// Upgrades to TLS; `seen` gets the peer's certificates.
    async fn start_tls(&mut self, tls: &tls::Client, options: &TlsOptions, seen: &Seen) -> Result<TlsInfo, Failure> {
        let invalid = |why: String| Failure::new(Kind::Invalid, why);
        let name = options.server_name.clone().or_else(|| self.host.clone());
        let name = name.ok_or_else(|| invalid("TLS over a unix socket needs a server name".into()))?;
        bounded("server name", &name, MOST_HOST_BYTES)?;
        options.alpn.iter().try_for_each(|protocol| bounded("protocol", protocol, MOST_HOST_BYTES))?;
        // The interface of an address is this machine's, and on no certificate.
        let shown = names::zoned(&name).map_or_else(|| name.clone(), |(address, _)| address.to_string());
        let parsed = ServerName::try_from(shown).map_err(|_| {
            let cure = ": its last part is a number, which TLS has no names for; use another name";
            let cure = if names::ends_in_number(&name) { cure } else { "" };
            invalid(format!("invalid server name {name:?}{cure}"))
        })?;
        let place = Arc::clone(&self.place);
        let late = |failure: Failure| failure.at(&place);
        let config = self.patience.wait(self.timeout, tls.watched(seen)).await.map_err(late)?;
        let mut config = config.map_err(|why| Failure::new(Kind::Misconfigured, format!("`tls`: {why}")))?;
        config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = self.stream.take().ok_or_else(|| closed().at(&place))?;
        let connect = TlsConnector::from(Arc::new(config)).connect(parsed, stream);
        let encrypted = self.patience.wait(self.timeout, connect).await.map_err(late)?;
        let failed = |error| {
            let text = tls::with_cure(format!("TLS with `{name}`: {error}"), &error, tls.trust());
            failure_of(&error, Kind::Failed, text)
        };
        let encrypted = encrypted.map_err(failed)?;
        let (_, session) = encrypted.get_ref();
        let protocol = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        };
        let alpn = session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let info = tls_info(protocol, alpn, tls.trust(), seen.chain());
        self.stream = Some(Box::new(encrypted));
        Ok(info)
    }
}

fn tls_info(protocol: &str, alpn: Option<String>, trust: &Trust, chain: Vec<Vec<u8>>) -> TlsInfo {
    let verified = trust.verification.word().to_owned();
    TlsInfo { protocol: protocol.to_owned(), alpn, verified, chain, attributes: Vec::new() }
}

/// How long the call may wait, and the connection's own timeout.
type Time = (Patience, Option<Duration>);

async fn within<T>((patience, timeout): Time, io: impl Future<Output = std::io::Result<T>>) -> Result<T, Failure> {
    patience.wait(timeout, io).await?.map_err(|error| broken(&error))
}

fn unreachable(why: String) -> Failure {
    Failure::new(Kind::Unreachable, why)
}

fn closed() -> Failure {
    unreachable("the connection is closed".into())
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

impl contract::Host for View<'_> {}

impl contract::HostTlsOptions for View<'_> {
    async fn new(&mut self) -> Result<Resource<TlsOptions>> {
        Ok(self.table.push(TlsOptions::default())?)
    }

    async fn set_server_name(&mut self, options: Resource<TlsOptions>, name: String) -> Result<()> {
        let share = self.connections.budget.hold(name.len())?;
        let options = self.table.get_mut(&options)?;
        options.server_name = Some(name);
        options.shares[0] = Some(share);
        Ok(())
    }

    async fn set_alpn(&mut self, options: Resource<TlsOptions>, protocols: Vec<String>) -> Result<()> {
        let bytes = protocols.iter().map(|protocol| protocol.len() + size_of::<String>()).sum();
        let share = self.connections.budget.hold(bytes)?;
        let options = self.table.get_mut(&options)?;
        options.alpn = protocols;
        options.shares[1] = Some(share);
        Ok(())
    }

    async fn drop(&mut self, options: Resource<TlsOptions>) -> Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl contract::HostConnection for View<'_> {
    async fn connect(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: Option<u64>,
    ) -> Result<Result<Resource<Connection>, Error>> {
        let opened = self.open_host(host, port, timeout_ms.map(Duration::from_millis)).await;
        self.handed_over(opened)
    }

    async fn connect_unix(
        &mut self,
        path: String,
        timeout_ms: Option<u64>,
    ) -> Result<Result<Resource<Connection>, Error>> {
        let opened = self.open_unix(path, timeout_ms.map(Duration::from_millis)).await;
        self.handed_over(opened)
    }

    async fn is_local(&mut self, connection: Resource<Connection>) -> Result<bool> {
        Ok(self.connection(&connection)?.is_local)
    }

    async fn read(&mut self, connection: Resource<Connection>, max_bytes: u32) -> Result<Result<Vec<u8>, Error>> {
        let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let result = self.connection(&connection)?.read(most).await;
        count(&self.instance.meter.received_bytes, result.as_ref().map_or(0, Vec::len));
        Ok(result.map_err(Error::from))
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Result<Result<(), Error>> {
        self.sent(&connection, &bytes).await
    }

    async fn write_secret(
        &mut self,
        connection: Resource<Connection>,
        prefix: Vec<u8>,
        handle: Resource<Handle>,
        suffix: Vec<u8>,
    ) -> Result<Result<(), Error>> {
        let secret = secret(self.table, &handle)?;
        self.sent(&connection, &[&prefix, secret.reveal().as_bytes(), &suffix].concat()).await
    }

    async fn finish(&mut self, connection: Resource<Connection>) -> Result<Result<(), Error>> {
        Ok(self.connection(&connection)?.finish().await.map_err(Error::from))
    }

    async fn start_tls(
        &mut self,
        connection: Resource<Connection>,
        options: Resource<TlsOptions>,
    ) -> Result<Result<TlsInfo, TlsFailure>> {
        let tls = self.instance.gate.tls();
        let TlsOptions { server_name, alpn, .. } = self.table.get(&options)?;
        let options = TlsOptions { server_name: server_name.clone(), alpn: alpn.clone(), shares: Default::default() };
        if self.script.is_some() {
            // A scripted conversation is in plain text.
            return Ok(Ok(tls_info("TLSv1.3", options.alpn.into_iter().next(), tls.trust(), Vec::new())));
        }
        let seen = Seen::default();
        let upgraded = self.connection(&connection)?.start_tls(tls, &options, &seen).await;
        let failed =
            |failure: Failure| TlsFailure { error: failure.into(), chain: seen.chain(), attributes: Vec::new() };
        Ok(upgraded.map_err(failed))
    }

    async fn set_timeout(&mut self, connection: Resource<Connection>, timeout_ms: Option<u64>) -> Result<()> {
        self.connection(&connection)?.timeout = timeout_ms.map(Duration::from_millis);
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
    use wasaba_core::secret::Secret;
    use wasaba_core::setting::Reach;

    use super::contract::{HostConnection, HostTlsOptions};
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::memory::Budget;
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
            let connections =
                connect::OfCall::new(connections, Duration::from_secs(10), Budget::new(64 << 20, Arc::default()));
            Self { instance, connections, table: ResourceTable::new(), script: None }
        }

        fn view(&mut self) -> View<'_> {
            let Self { instance, connections, table, script } = self;
            View { instance, connections, table, script: script.as_ref() }
        }
    }

    fn allowing(entry: &str) -> Grants {
        let mut grants = Grants { place: "[plugin.metrics.db]".into(), reach: Reach::ALL, ..Grants::default() };
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
        let refused = state.view().connect("127.0.0.1".into(), port, None).await.unwrap();
        let Error { kind, message, .. } = refused.unwrap_err();
        assert!(kind == "denied" && message.contains(&format!("allow = [\"127.0.0.1:{port}\"]")), "{message}");
        assert_eq!(state.instance.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
    }

    #[tokio::test]
    async fn a_host_a_path_and_a_name_in_tls_are_refused_by_their_length_before_they_are_read() {
        let (_listener, port) = listener().await;
        let mut state = State::new(allowing(&format!("127.0.0.1:{port}")), 16);
        let long = || "a.".repeat(4_000_000);
        let mut view = state.view();
        let refused = view.connect(long(), 1, None).await.unwrap().unwrap_err();
        assert_eq!(
            (refused.kind.as_str(), refused.message.as_str()),
            ("invalid", "a host of 8000000 bytes, more than 255")
        );
        let refused = view.connect_unix(long(), None).await.unwrap().unwrap_err();
        assert_eq!(refused.message, "a path of 8000000 bytes, more than 4096");
        let connection = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap().rep();
        let mut tls = async |name: String, protocol: String| {
            let options = HostTlsOptions::new(&mut view).await.unwrap().rep();
            let options = || Resource::new_borrow(options);
            view.set_server_name(options(), name).await.unwrap();
            view.set_alpn(options(), vec![protocol]).await.unwrap();
            view.start_tls(Resource::new_borrow(connection), options()).await.unwrap().unwrap_err().error.message
        };
        assert_eq!(tls(long(), String::new()).await, "a server name of 8000000 bytes, more than 255");
        assert_eq!(tls("a".into(), long()).await, "a protocol of 8000000 bytes, more than 255");
        assert_eq!(state.instance.meter.refusals(), 0, "no grant was asked");
    }

    #[tokio::test]
    async fn a_unix_socket_that_was_not_granted_is_denied() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("db.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mut state = State::new(allowing("unix:/run/other.sock"), 16);
        let refused = state.view().connect_unix(socket.to_str().unwrap().to_owned(), None).await.unwrap();
        let refused = refused.unwrap_err();
        assert!(refused.kind == "denied" && refused.message.contains("unix:"), "{refused:?}");
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
        let id = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap().rep();
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
        let id = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap().rep();
        view.set_timeout(Resource::new_borrow(id), Some(20)).await.unwrap();
        let late = view.read(Resource::new_borrow(id), 1).await.unwrap();
        let late = late.unwrap_err();
        assert!(late.kind == "timeout" && late.message.contains("20 ms"), "{late:?}");
    }

    #[tokio::test]
    async fn an_error_names_the_host_and_port_or_the_socket_that_it_is_about() {
        let (silent, port) = listener().await;
        let (closed, closed_port) = listener().await;
        drop(closed);
        let mut grants = allowing(&format!("127.0.0.1:{port}"));
        grants.allow(&format!("127.0.0.1:{closed_port}")).unwrap();
        grants.allow("unix:/no/such.sock").unwrap();
        let mut state = State::new(grants, 16);
        let mut view = state.view();
        let refused = view.connect("127.0.0.1".into(), closed_port, None).await.unwrap().unwrap_err();
        assert_eq!(refused.message, format!("127.0.0.1:{closed_port}: Connection refused"));
        let missing = view.connect_unix("/no/such.sock".into(), None).await.unwrap().unwrap_err();
        assert_eq!(missing.message, "unix:/no/such.sock: No such file or directory");
        let id = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap().rep();
        view.set_timeout(Resource::new_borrow(id), Some(20)).await.unwrap();
        let late = view.read(Resource::new_borrow(id), 1).await.unwrap().unwrap_err();
        assert_eq!(late.message, format!("127.0.0.1:{port}: timed out: no answer within 20 ms"));
        drop(silent);
    }

    #[tokio::test]
    async fn connections_over_the_limit_are_refused_until_one_is_closed() {
        let (_listener, port) = listener().await;
        let mut state = State::new(allowing(&format!("127.0.0.1:{port}")), 1);
        let mut view = state.view();
        let first = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap();
        let second = view.connect("127.0.0.1".into(), port, None).await.unwrap();
        let second = second.unwrap_err();
        assert!(second.kind == "too-costly" && second.message.contains("`connections`"), "{second:?}");
        HostConnection::drop(&mut view, first).await.unwrap();
        assert!(view.connect("127.0.0.1".into(), port, None).await.unwrap().is_ok());
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
            let id = view.connect("127.0.0.1".into(), port, None).await.unwrap().unwrap().rep();
            let connection = || Resource::new_borrow(id);
            assert_eq!(view.read(connection(), 1).await.unwrap().unwrap(), b"S");
            let options = HostTlsOptions::new(&mut view).await.unwrap();
            let started = view.start_tls(connection(), options).await.unwrap();
            let chain = match &started {
                Ok(info) => &info.chain,
                Err(failure) => &failure.chain,
            };
            // DER begins with a sequence; the certificate is there even if it is not trusted.
            assert!(chain.first().is_some_and(|certificate| certificate.starts_with(&[0x30])), "{started:?}");
            if trusted {
                let info = started.unwrap();
                assert_eq!((info.protocol.as_str(), info.verified.as_str(), info.alpn), ("TLSv1.3", "full", None));
                assert_eq!(view.read(connection(), 9).await.unwrap().unwrap(), b"secret");
            } else {
                let error = started.unwrap_err().error;
                assert!(error.kind == "unauthorized" && error.message.contains("127.0.0.1"), "{error:?}");
                let after = view.read(connection(), 9).await.unwrap().unwrap_err();
                assert_eq!(after.kind, "unreachable", "never again in plain text");
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
        let host = view.connect("db".into(), 1, None).await.unwrap().unwrap();
        let unix = view.connect_unix("/run/db.sock".into(), None).await.unwrap().unwrap();
        for connection in [host, unix] {
            assert_eq!(view.read(connection, 9).await.unwrap().unwrap(), b"hi");
        }
        let other = view.connect("other".into(), 1, None).await.unwrap();
        assert_eq!(other.unwrap_err().kind, "denied");
    }

    #[tokio::test]
    async fn a_secret_is_written_between_what_the_plugin_writes_around_it() {
        let turns = Ok(vec![Turn::Expect(b"AUTH hunter2\r\n".to_vec())]);
        let mut script = Script::default();
        script.tcp.push(Conversation { with: "db:1".into(), turns });
        let mut state = State::new(allowing("db:1"), 16);
        state.script = Some(script);
        let handle = state.table.push(Handle(Secret::new("hunter2"))).unwrap();
        let mut view = state.view();
        let connection = view.connect("db".into(), 1, None).await.unwrap().unwrap().rep();
        let written =
            view.write_secret(Resource::new_borrow(connection), b"AUTH ".into(), handle, b"\r\n".into()).await;
        assert!(written.unwrap().is_ok());
        drop(state.table);
        assert_eq!(state.script.unwrap().deviations(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn only_this_machine_is_local() {
        let conversation = |with: &str| Conversation { with: with.into(), turns: Ok(Vec::new()) };
        let mut script = Script::default();
        script.tcp.extend(["db:1", "127.0.0.1:1"].map(conversation));
        let (_listener, port) = listener().await;
        let mut grants = allowing("db:1");
        grants.allow("127.0.0.1:1").unwrap();
        grants.allow(&format!("localhost:{port}")).unwrap();
        let mut state = State::new(grants, 16);
        let mut is_local = async |script: Option<Script>, host: &str, port| {
            state.script = script;
            let mut view = state.view();
            let connection = view.connect(host.into(), port, None).await.unwrap().unwrap();
            view.is_local(connection).await.unwrap()
        };
        assert!(is_local(None, "localhost", port).await);
        assert!(!is_local(Some(script), "db", 1).await);
    }
}
