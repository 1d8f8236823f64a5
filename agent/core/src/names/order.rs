//! The order in which the addresses of a name are tried (RFC 6724), and connecting to them (RFC 8305).

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

/// How long an address may take before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Sorts addresses, those first that can be reached. Equal ones keep the name server's order.
pub(super) fn sort(addresses: &mut [IpAddr]) {
    sort_from(addresses, source);
}

fn sort_from(addresses: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    addresses.sort_by_cached_key(|address| {
        let from = source(*address);
        let differs = |of: fn(IpAddr) -> u8| from.map(of) != Some(of(*address));
        (
            from.is_none(),
            differs(scope),
            differs(label),
            Reverse(precedence(*address)),
            scope(*address),
            Reverse(common(*address, from)),
        )
    });
}

/// Whether the system knows a way to `address`.
pub(super) fn is_reachable(address: IpAddr) -> bool {
    source(address).is_some()
}

/// This machine's address in a conversation with `to`; `None` if there is no way to it. Nothing is sent.
#[expect(clippy::disallowed_methods, reason = "addresses, not names")]
fn source(to: IpAddr) -> Option<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 53)).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

/// RFC 6724, section 2.1: the first bits, how many of them, precedence, label.
const POLICIES: [(Ipv6Addr, u32, u8, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128, 50, 0),
    (prefix(0, 0xffff), 96, 35, 4),
    (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    (prefix(0x2001, 0), 32, 5, 5),
    (prefix(0x2002, 0), 16, 30, 2),
    (prefix(0x3ffe, 0), 16, 1, 12),
    (prefix(0xfec0, 0), 10, 1, 11),
    (prefix(0xfc00, 0), 7, 3, 13),
    (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];

const fn prefix(first: u16, sixth: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, 0, 0, 0, 0, sixth, 0, 0)
}

/// In the form in which IPv4 addresses are mapped.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn policy(address: IpAddr) -> (u8, u8) {
    let fits = |first: Ipv6Addr, length: u32| (bits(address) ^ first.to_bits()).leading_zeros() >= length;
    let found = POLICIES.iter().find(|(first, length, ..)| fits(*first, *length));
    found.map_or((40, 1), |(_, _, precedence, label)| (*precedence, *label))
}

fn precedence(address: IpAddr) -> u8 {
    policy(address).0
}

fn label(address: IpAddr) -> u8 {
    policy(address).1
}

/// 2 within a link, 5 within a site, 14 everywhere.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) if address.is_loopback() || address.is_link_local() => 2,
        IpAddr::V6(address) if address.is_loopback() || address.is_unicast_link_local() => 2,
        IpAddr::V6(address) if address.segments().first().is_some_and(|first| first & 0xffc0 == 0xfec0) => 5,
        _ => 14,
    }
}

/// How many bits an IPv6 address has in common with this machine's, of its network; for IPv4 that would undo the order of name servers
/// that distribute load.
fn common(address: IpAddr, from: Option<IpAddr>) -> u32 {
    match (address, from) {
        (IpAddr::V6(address), Some(IpAddr::V6(from))) => (address.to_bits() ^ from.to_bits()).leading_zeros().min(64),
        _ => 0,
    }
}

/// The families in turn, beginning with that of the first address.
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(|address| address.is_ipv4() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(addresses.len());
    while mixed.len() < addresses.len() {
        mixed.extend(one.next());
        mixed.extend(other.next());
    }
    mixed
}

/// Connects to the first of these addresses that accepts. Each has a short head start before the next one is tried beside it. The caller
/// limits the time.
///
/// # Errors
/// That of the first address, if none accepts.
pub async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream> {
    connect_with(addresses, None::<std::future::Ready<Vec<SocketAddr>>>).await
}

/// As [`connect`]; the `later` addresses are tried behind the others once they are known, and waited for as long as none accepts.
pub(super) async fn connect_with(
    addresses: &[SocketAddr],
    later: Option<impl Future<Output = Vec<SocketAddr>>>,
) -> Result<TcpStream> {
    let mut next = alternating(addresses).into_iter().enumerate().collect::<VecDeque<_>>();
    let (mut trying, mut failed) = (FuturesUnordered::new(), None::<(usize, Error)>);
    let (mut is_open, mut is_due) = (later.is_some(), true);
    let mut later = pin!(OptionFuture::from(later));
    loop {
        let due = if is_due { next.pop_front() } else { None };
        trying.extend(due.map(|(number, address)| async move { (number, attempt(address).await) }));
        is_due = true;
        tokio::select! {
            Some(ended) = trying.next() => match ended {
                (_, Ok(stream)) => return Ok(stream),
                (number, Err(error)) => {
                    if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                        failed = Some((number, error));
                    }
                }
            },
            found = &mut later, if is_open => {
                is_open = false;
                is_due = trying.is_empty();
                next.extend(alternating(&found.unwrap_or_default()).into_iter().map(|address| (usize::MAX, address)));
            }
            () = tokio::time::sleep(HEAD_START), if !next.is_empty() => {}
            else => {
                let none = || Error::new(ErrorKind::AddrNotAvailable, "no address found");
                return Err(failed.map_or_else(none, |(_, error)| error));
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    socket?.connect(address).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn sorted(addresses: &[&str], own: &[&str]) -> Vec<String> {
        let mut addresses = addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
        let own = own.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
        sort_from(&mut addresses, |to| own.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4()));
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_that_cannot_be_reached_comes_last_and_ipv6_first_where_both_can() {
        let both = ["192.0.2.1", "2001:db8::1"];
        assert_eq!(sorted(&both, &["10.0.0.5", "2001:db8::5"]), ["2001:db8::1", "192.0.2.1"]);
        assert_eq!(sorted(&both, &["10.0.0.5"]), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(sorted(&both, &["2001:db8::5"]), ["2001:db8::1", "192.0.2.1"]);
        assert_eq!(sorted(&both, &[]).len(), 2);
    }

    #[test]
    fn an_ipv6_address_of_a_tunnel_or_of_the_site_comes_after_ipv4() {
        let own = ["10.0.0.5", "fd00::5"];
        assert_eq!(sorted(&["2001:db8::1", "192.0.2.1"], &own), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(sorted(&["2002::1", "192.0.2.1"], &["10.0.0.5", "2002::5"]), ["192.0.2.1", "2002::1"]);
    }

    #[test]
    fn equal_addresses_keep_their_order_and_ipv6_ones_of_the_own_network_come_first() {
        let many = ["10.0.0.3", "10.0.0.1", "10.0.0.2"];
        assert_eq!(sorted(&many, &["10.0.0.1"]), many);
        assert_eq!(sorted(&["2001:db9::1", "2001:db8::1"], &["2001:db8::9"]), ["2001:db8::1", "2001:db9::1"]);
    }

    #[test]
    fn this_machine_has_a_way_to_itself() {
        assert_eq!(source(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_families_alternate() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = alternating(&addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]));
        assert_eq!(mixed, addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]));
    }

    /// An address that accepts, and one that refuses.
    async fn accepting_and_refusing() -> (TcpListener, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (accepts, refuses) = (listener.local_addr().unwrap(), gone.local_addr().unwrap());
        drop(gone);
        (listener, accepts, refuses)
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses_and_the_first_failure_is_reported() {
        let (_listener, accepts, refuses) = accepting_and_refusing().await;
        assert_eq!(connect(&[refuses, accepts]).await.unwrap().peer_addr().unwrap(), accepts);
        let unreachable = "[2001:db8::dead]:1".parse().unwrap();
        assert_eq!(connect(&[refuses, unreachable]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap_err().to_string(), "no address found");
    }

    #[tokio::test]
    async fn addresses_that_are_known_later_are_waited_for_when_the_others_refuse_or_are_silent() {
        let (_listener, accepts, refuses) = accepting_and_refusing().await;
        let later = |found: Vec<SocketAddr>| {
            Some(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                found
            })
        };
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let _waiting = attempt(silent).await.unwrap();
        for first in [&[refuses] as &[_], &[silent], &[]] {
            let stream = connect_with(first, later(vec![refuses, accepts])).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), accepts, "{first:?}");
        }
        assert_eq!(connect_with(&[accepts], Some(std::future::pending())).await.unwrap().peer_addr().unwrap(), accepts);
        let error = connect_with(&[refuses], later(Vec::new())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_that_is_silent_holds_up_the_next_one_only_shortly() {
        let (_listener, accepts, _) = accepting_and_refusing().await;
        // The queue of this one is full, so that it does not answer.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let _waiting = attempt(silent).await.unwrap();
        let stream = connect(&[silent, silent, accepts]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), accepts);
    }
}
