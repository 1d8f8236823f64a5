//! `wasi:sockets/tcp`: connections to an address that is granted literally, or that the call has looked up under a name that is granted with
//! this port. Binding and listening stay closed; unix sockets are not in this interface.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Network, Pollable, subscribe};

use super::View;
use super::contract::sockets::{tcp as contract, tcp_create_socket};
use super::later::Later;
use super::stream::{BUFFER_BYTES, Connection, Input, Output};
use crate::capabilities::connect::{self, Slot, Stream, broken};
use crate::capabilities::grants::Grants;
use crate::capabilities::memory::Share;
use crate::failure::{Cause, Failure, Kind};

/// What a function returns: the outer error ends the call.
type Answer<T> = Result<Result<T, ErrorCode>>;

/// A socket; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Socket {
    family: IpAddressFamily,
    state: State,
    options: Options,
}

enum State {
    New,
    Connecting(Later<Result<Connected, Failure>>, SocketAddr),
    Connected(Connection, SocketAddr),
    Failed,
}

/// What an open connection is made of.
struct Connected {
    stream: Box<dyn Stream>,
    slot: Slot,
    share: Share,
}

/// What a library sets of a socket and reads again. The agent's sockets have their own.
struct Options {
    keep_alive: bool,
    keep_alive_idle_time: u64,
    keep_alive_interval: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer_size: u64,
    send_buffer_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle_time: 7_200_000_000_000,
            keep_alive_interval: 75_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_size: BUFFER_BYTES as u64,
            send_buffer_size: BUFFER_BYTES as u64,
        }
    }
}

#[async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {
        if let State::Connecting(work, _) = &mut self.state {
            work.ready().await;
        }
    }
}

/// The code for a failure of a name or a connection.
pub(super) fn code(failure: &Failure) -> ErrorCode {
    match failure.kind {
        Kind::Denied => ErrorCode::AccessDenied,
        Kind::Invalid => ErrorCode::InvalidArgument,
        Kind::Timeout => ErrorCode::Timeout,
        Kind::TooCostly => ErrorCode::NewSocketLimit,
        _ => match failure.cause {
            Some(Cause::Name) => ErrorCode::NameUnresolvable,
            Some(Cause::Connection(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)) => {
                ErrorCode::RemoteUnreachable
            }
            Some(Cause::Connection(kind)) => ErrorCode::from(io::Error::from(kind)),
            None => ErrorCode::Unknown,
        },
    }
}

/// Whether a socket of this family can be connected to this address. An IPv4 address in an IPv6 one is never meant by a library, and could be
/// meant to pass for another.
fn is_connectable(family: IpAddressFamily, address: SocketAddr) -> bool {
    let fits = match (family, address) {
        (IpAddressFamily::Ipv4, SocketAddr::V4(_)) => true,
        (IpAddressFamily::Ipv6, SocketAddr::V6(address)) => address.ip().to_ipv4_mapped().is_none(),
        _ => false,
    };
    fits && address.port() != 0 && !address.ip().is_unspecified()
}

impl View<'_> {
    /// Asks the grants for an address, and returns what was granted, as a script spells it.
    fn granted(&self, address: SocketAddr) -> Result<String, Failure> {
        let (ip, port) = (address.ip(), address.port());
        let names = self.names.of(ip);
        self.tcp.gate.check(|grants| {
            let literal = grants.check_host(&ip.to_string(), port).map(|_| address.to_string());
            let of_name = |name: &String| grants.check_host(name, port).map(|_| format!("{name}:{port}"));
            // The refusal of the name says the line to write for it.
            let of_names = names.iter().map(of_name).reduce(Result::or);
            of_names
                .map_or_else(|| literal.clone(), |of_names| of_names.or_else(|why| literal.clone().map_err(|_| why)))
        })
    }

    fn connecting(&mut self, address: SocketAddr) -> Result<Result<State, Failure>> {
        let with = match self.granted(address) {
            Ok(with) => with,
            Err(failure) => return Ok(Err(failure)),
        };
        let slot = match self.connections.slot() {
            Ok(slot) => slot,
            Err(failure) => return Ok(Err(failure)),
        };
        let share = self.connections.budget.hold(BUFFER_BYTES.saturating_mul(2))?;
        let (connections, script, server) = (Arc::clone(self.connections), self.script.cloned(), with.clone());
        let work = async move {
            let stream: Box<dyn Stream> = match script {
                Some(script) => {
                    let refused = Some(Cause::Connection(io::ErrorKind::ConnectionRefused));
                    let refused = |why| Failure { cause: refused, ..Failure::new(Kind::Unreachable, why) };
                    script.connect_polled(&with).map_err(refused)?
                }
                None => {
                    let stream = connections.patience.wait(None, connect::to_address(address)).await.flatten()?;
                    stream.set_nodelay(true).map_err(|error| broken(&error))?;
                    Box::new(stream)
                }
            };
            Ok(Connected { stream, slot, share })
        };
        let named = move |failure: Failure| Failure { text: format!("{server}: {}", failure.text), ..failure };
        Ok(Ok(State::Connecting(Later::of(async move { work.await.map_err(named) }), address)))
    }

    fn socket(&mut self, socket: &Resource<Socket>) -> Result<&mut Socket> {
        Ok(self.table.get_mut(socket)?)
    }

    /// The refusal of what serves, which is counted.
    fn closed<T>(&mut self, what: &str) -> Answer<T> {
        let refused = self.tcp.gate.check(|_| Err::<T, _>(format!("a plugin cannot {what}")));
        let refused = refused.map_err(|failure| {
            self.explain(&failure);
            code(&failure)
        });
        Ok(refused)
    }

    fn option<T>(&mut self, socket: &Resource<Socket>, get: impl FnOnce(&Options) -> T) -> Answer<T> {
        Ok(Ok(get(&self.socket(socket)?.options)))
    }

    /// Sets an option, none of which may be 0.
    fn set_option<T: Default + PartialEq>(
        &mut self,
        socket: &Resource<Socket>,
        value: T,
        set: impl FnOnce(&mut Options) -> &mut T,
    ) -> Answer<()> {
        let options = &mut self.socket(socket)?.options;
        if value == T::default() {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        *set(options) = value;
        Ok(Ok(()))
    }
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Answer<Resource<Socket>> {
        if let Err(failure) = self.tcp.gate.check(Grants::check_sockets) {
            self.explain(&failure);
            return Ok(Err(code(&failure)));
        }
        Ok(Ok(self.table.push(Socket { family, state: State::New, options: Options::default() })?))
    }
}

impl contract::Host for View<'_> {}

impl contract::HostTcpSocket for View<'_> {
    fn start_bind(&mut self, _: Resource<Socket>, _: Resource<Network>, _: IpSocketAddress) -> Answer<()> {
        self.closed("bind a socket to an address of its own")
    }

    fn finish_bind(&mut self, _: Resource<Socket>) -> Answer<()> {
        Ok(Err(ErrorCode::NotInProgress))
    }

    fn start_connect(
        &mut self,
        socket: Resource<Socket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> Answer<()> {
        self.table.get(&network)?;
        // Without the interface of a link-local address, which the grants do not know here.
        let address = SocketAddr::from(address);
        let address = SocketAddr::new(address.ip(), address.port());
        let Socket { family, state, .. } = self.socket(&socket)?;
        match state {
            State::New if is_connectable(*family, address) => {}
            State::New => return Ok(Err(ErrorCode::InvalidArgument)),
            State::Connecting(..) => return Ok(Err(ErrorCode::ConcurrencyConflict)),
            State::Connected(..) | State::Failed => return Ok(Err(ErrorCode::InvalidState)),
        }
        match self.connecting(address)? {
            Ok(connecting) => {
                self.socket(&socket)?.state = connecting;
                Ok(Ok(()))
            }
            Err(failure) => {
                self.explain(&failure);
                Ok(Err(code(&failure)))
            }
        }
    }

    fn finish_connect(
        &mut self,
        socket: Resource<Socket>,
    ) -> Answer<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let (patience, meter) = (self.connections.patience, Arc::clone(&self.tcp.meter));
        let state = &mut self.socket(&socket)?.state;
        let State::Connecting(work, address) = state else { return Ok(Err(ErrorCode::NotInProgress)) };
        let address = *address;
        match work.take() {
            None => Ok(Err(ErrorCode::WouldBlock)),
            Some(Ok(Connected { stream, slot, share })) => {
                let connection = Connection::new(stream, slot, share, patience, meter);
                *state = State::Connected(connection.clone(), address);
                let input: DynInputStream = Box::new(Input(connection.clone()));
                let output: DynOutputStream = Box::new(Output(connection));
                Ok(Ok((self.table.push_child(input, &socket)?, self.table.push_child(output, &socket)?)))
            }
            Some(Err(failure)) => {
                *state = State::Failed;
                self.explain(&failure);
                Ok(Err(code(&failure)))
            }
        }
    }

    fn start_listen(&mut self, _: Resource<Socket>) -> Answer<()> {
        self.closed("listen for connections")
    }

    fn finish_listen(&mut self, _: Resource<Socket>) -> Answer<()> {
        Ok(Err(ErrorCode::NotInProgress))
    }

    fn accept(
        &mut self,
        _: Resource<Socket>,
    ) -> Answer<(Resource<Socket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        self.closed("listen for connections")
    }

    /// Not told: which addresses this machine has is none of the plugin's concern.
    fn local_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        let Socket { family, state, .. } = self.socket(&socket)?;
        let unspecified = match family {
            IpAddressFamily::Ipv4 => SocketAddr::from(([0; 4], 0)),
            IpAddressFamily::Ipv6 => SocketAddr::from(([0_u16; 8], 0)),
        };
        Ok(match state {
            State::Connected(..) => Ok(unspecified.into()),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn remote_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        Ok(match self.socket(&socket)?.state {
            State::Connected(_, address) => Ok(address.into()),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn is_listening(&mut self, _: Resource<Socket>) -> Result<bool> {
        Ok(false)
    }

    fn address_family(&mut self, socket: Resource<Socket>) -> Result<IpAddressFamily> {
        Ok(self.socket(&socket)?.family)
    }

    fn set_listen_backlog_size(&mut self, _: Resource<Socket>, _: u64) -> Answer<()> {
        Ok(Err(ErrorCode::NotSupported))
    }

    fn keep_alive_enabled(&mut self, socket: Resource<Socket>) -> Answer<bool> {
        self.option(&socket, |options| options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, socket: Resource<Socket>, value: bool) -> Answer<()> {
        self.socket(&socket)?.options.keep_alive = value;
        Ok(Ok(()))
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        self.option(&socket, |options| options.keep_alive_idle_time)
    }

    fn set_keep_alive_idle_time(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.keep_alive_idle_time)
    }

    fn keep_alive_interval(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        self.option(&socket, |options| options.keep_alive_interval)
    }

    fn set_keep_alive_interval(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.keep_alive_interval)
    }

    fn keep_alive_count(&mut self, socket: Resource<Socket>) -> Answer<u32> {
        self.option(&socket, |options| options.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, socket: Resource<Socket>, value: u32) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.keep_alive_count)
    }

    fn hop_limit(&mut self, socket: Resource<Socket>) -> Answer<u8> {
        self.option(&socket, |options| options.hop_limit)
    }

    fn set_hop_limit(&mut self, socket: Resource<Socket>, value: u8) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.hop_limit)
    }

    fn receive_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        self.option(&socket, |options| options.receive_buffer_size)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.receive_buffer_size)
    }

    fn send_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        self.option(&socket, |options| options.send_buffer_size)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        self.set_option(&socket, value, |options| &mut options.send_buffer_size)
    }

    fn subscribe(&mut self, socket: Resource<Socket>) -> Result<Resource<DynPollable>> {
        subscribe(self.table, socket)
    }

    fn shutdown(&mut self, socket: Resource<Socket>, how: contract::ShutdownType) -> Answer<()> {
        let State::Connected(connection, _) = &self.socket(&socket)?.state else {
            return Ok(Err(ErrorCode::InvalidState));
        };
        if matches!(how, contract::ShutdownType::Receive | contract::ShutdownType::Both) {
            connection.stop_reading();
        }
        if matches!(how, contract::ShutdownType::Send | contract::ShutdownType::Both) {
            connection.finish();
        }
        Ok(Ok(()))
    }

    fn drop(&mut self, socket: Resource<Socket>) -> Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}
