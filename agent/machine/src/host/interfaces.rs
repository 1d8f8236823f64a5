//! Network interfaces: names and addresses of those with an address that is not loopback.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use serde::Serialize;

use super::host_links;
use crate::roots::Roots;

/// An interface, as it is posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interface {
    name: String,
    #[serde(rename = "ipv4Addresses", skip_serializing_if = "Vec::is_empty")]
    ipv4: Vec<IpAddr>,
    #[serde(rename = "ipv6Addresses", skip_serializing_if = "Vec::is_empty")]
    ipv6: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<String>,
}

/// An interface, as the kernel has it; not filtered.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) mac: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
}

/// All links of this network namespace, whatever the roots, unless they are a host's.
///
/// Not by sysinfo, which reads an address longer than it is, beyond the end of a page now and then.
pub(super) fn links(roots: &Roots) -> Vec<Link> {
    if roots.host.is_some() {
        return host_links::links(roots);
    }
    let Ok(entries) = getifaddrs() else { return Vec::new() };
    let mut links = BTreeMap::new();
    for entry in entries {
        let name = entry.interface_name;
        let link = links.entry(name.clone()).or_insert(Link { name, mac: None, addresses: Vec::new() });
        let Some(address) = entry.address else { continue };
        if let Some(address) = address.as_sockaddr_in() {
            link.addresses.push(address.ip().into());
        } else if let Some(address) = address.as_sockaddr_in6() {
            link.addresses.push(address.ip().into());
        } else if let Some(hardware) = address.as_link_addr() {
            link.mac = hardware.addr().and_then(|bytes| mac(hardware.halen(), bytes));
        }
    }
    links.into_values().collect()
}

/// The kernel gives six bytes for every link, but a tunnel has none of its own, or the IPv4 address of its end.
fn mac(length: usize, bytes: [u8; 6]) -> Option<String> {
    let hexadecimal = || bytes.map(|byte| format!("{byte:02x}")).join(":");
    (length == bytes.len() && bytes != [0; 6]).then(hexadecimal)
}

/// The interfaces to post, sorted by name, with their addresses sorted.
pub(super) fn interfaces(mut links: Vec<Link>) -> Vec<Interface> {
    links.retain(|link| link.addresses.iter().any(|address| !address.is_loopback()));
    links.sort_by(|one, other| one.name.cmp(&other.name));
    links.into_iter().map(interface).collect()
}

fn interface(link: Link) -> Interface {
    let mut addresses = link.addresses;
    addresses.sort_unstable();
    let (ipv4, ipv6) = addresses.into_iter().partition(IpAddr::is_ipv4);
    Interface { name: link.name, ipv4, ipv6, mac_address: link.mac }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_posted(addresses: &[&str]) -> bool {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        !interfaces(vec![Link { name: "lo".to_owned(), mac: None, addresses }]).is_empty()
    }

    #[test]
    fn only_an_interface_with_an_address_that_is_not_loopback_is_posted() {
        for alone in [&["127.0.0.1"][..], &["::1"], &["127.0.0.1", "127.0.0.2"], &["127.0.0.1", "::1"], &[]] {
            assert!(!is_posted(alone), "{alone:?}");
        }
        for beyond in
            [&["227.0.0.1"][..], &["::2"], &["227.0.0.1", "127.0.0.2"], &["::1", "::2"], &["127.0.0.1", "::2"]]
        {
            assert!(is_posted(beyond), "{beyond:?}");
        }
    }

    #[test]
    fn a_tunnels_address_is_not_a_mac_address() {
        let some = [2, 0xfc, 0, 0, 0, 1];
        assert_eq!(mac(6, some), Some("02:fc:00:00:00:01".to_owned()));
        assert_eq!(mac(6, [0; 6]), None);
        for length in [0, 4, 20] {
            assert_eq!(mac(length, some), None, "{length}");
        }
    }

    #[test]
    fn loopback_of_this_machine_has_its_address_and_no_mac_address() {
        let links = links(&Roots::default());
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(loopback.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{loopback:?}");
        assert_eq!(loopback.mac, None);
    }
}
