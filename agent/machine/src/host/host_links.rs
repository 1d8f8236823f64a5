//! The links of a host, read from a container with a network namespace of its own: names and hardware addresses from the host's
//! `/sys`, IP addresses from the tables of its first process.
//!
//! The kernel lists an IPv6 address with its link; an IPv4 address belongs to the link whose network contains it, by the routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::interfaces::Link;
use crate::roots;
use crate::roots::{Roots, whole_lines};

/// All links of the host.
pub(super) fn links(roots: &Roots) -> Vec<Link> {
    let read = |file: &str| roots::read(&roots.seen(file)).unwrap_or_default();
    let mut addresses = ipv6(&read("net/if_inet6"));
    addresses.extend(ipv4(&read("net/fib_trie"), &read("net/route")));
    let names = roots::names(&roots.sys.join("class/net")).into_iter().filter_map(|name| name.into_string().ok());
    names
        .map(|name| {
            let own = addresses.iter().filter(|(link, _)| *link == name).map(|(_, address)| *address);
            Link { mac: mac(roots, &name), addresses: own.collect(), name }
        })
        .collect()
}

fn mac(roots: &Roots, name: &str) -> Option<String> {
    let folder = roots.sys.join("class/net").join(name);
    roots::read(&folder.join("addr_len")).ok().filter(|bytes| bytes.trim() == "6")?;
    let address = roots::read(&folder.join("address")).ok()?.trim().to_owned();
    Some(address).filter(|address| address != "00:00:00:00:00:00")
}

/// `fe8000000000000000155dfffe8a1b2c 02 40 20 80     eth0`
fn ipv6(table: &str) -> Vec<(String, IpAddr)> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        Some((words.nth(4)?.to_owned(), IpAddr::V6(Ipv6Addr::from(address))))
    };
    whole_lines(table).filter_map(line).collect()
}

/// The host's own addresses, each with the link of the most specific route to it without a gateway.
fn ipv4(fib_trie: &str, route: &str) -> Vec<(String, IpAddr)> {
    let routes = whole_lines(route).filter_map(local_route).collect::<Vec<_>>();
    let mut found = Vec::new();
    for address in local_addresses(fib_trie) {
        let leading = routes.iter().filter(|(_, network, mask)| u32::from(address) & mask == *network);
        if let Some((link, ..)) = leading.max_by_key(|(_, _, mask)| *mask) {
            let pair = (link.clone(), IpAddr::V4(address));
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
    }
    found
}

/// The leaves of the trie, `|-- 10.0.0.5`, whose next line is `/32 host LOCAL`.
fn local_addresses(fib_trie: &str) -> Vec<Ipv4Addr> {
    let lines = whole_lines(fib_trie).map(str::trim).collect::<Vec<_>>();
    let address = |pair: &[&str]| match pair {
        [leaf, "/32 host LOCAL"] => leaf.strip_prefix("|-- ")?.parse().ok(),
        _ => None,
    };
    lines.windows(2).filter_map(address).collect()
}

/// `eth0 0000000A 00000000 0001 0 0 0 00FFFFFF 0 0 0`, numbers in the byte order of a little-endian machine.
fn local_route(line: &str) -> Option<(String, u32, u32)> {
    let words = line.split_ascii_whitespace().collect::<Vec<_>>();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok().map(u32::swap_bytes);
    let (network, gateway, mask) = (number(1)?, number(2)?, number(7)?);
    (gateway == 0 && mask != 0).then(|| ((*words.first().unwrap_or(&"")).to_owned(), network, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.0.0.0/24 2 0 2\n        \
        |-- 10.0.0.0\n           /24 link UNICAST\n        |-- 10.0.0.5\n           /32 host LOCAL\n        |-- 10.0.0.255\n           \
        /32 link BROADCAST\n     |-- 172.17.0.1\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn an_address_belongs_to_the_link_whose_network_contains_it() {
        let found = ipv4(FIB_TRIE, ROUTE);
        let expected = [("eth0", "10.0.0.5"), ("docker0", "172.17.0.1")];
        assert_eq!(found, expected.map(|(link, address)| (link.to_owned(), address.parse().unwrap())));
    }

    #[test]
    fn the_links_of_a_host_have_all_their_addresses() {
        let host = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = host.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/1/net/fib_trie", FIB_TRIE);
        write("proc/1/net/route", ROUTE);
        write(
            "proc/1/net/if_inet6",
            "fe80000000000000001122fffe334455 02 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n",
        );
        for (link, length, address) in
            [("eth0", "6\n", "00:11:22:33:44:55\n"), ("lo", "6\n", "00:00:00:00:00:00\n"), ("tun0", "0\n", "\n")]
        {
            write(&format!("sys/class/net/{link}/addr_len"), length);
            write(&format!("sys/class/net/{link}/address"), address);
        }
        let mut links = links(&Roots::of_host(host.path()));
        links.sort_by(|one, other| one.name.cmp(&other.name));
        let shown = links.iter().map(|link| (link.name.as_str(), link.mac.as_deref(), link.addresses.len()));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [("eth0", Some("00:11:22:33:44:55"), 2), ("lo", None, 1), ("tun0", None, 0)]
        );
        assert_eq!(super::super::interfaces::interfaces(links).len(), 1);
    }

    #[test]
    fn missing_and_invalid_tables_give_no_address() {
        assert_eq!(ipv4("|-- 10.0.0.5\n/32 host LOCAL\n", "x\ny z\n"), []);
        assert_eq!(ipv6("zz 02 40 20 80 eth0\n02\n"), []);
        assert!(links(&Roots::of_host(std::path::Path::new("/nowhere"))).is_empty());
    }
}
