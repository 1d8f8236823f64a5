//! Network interfaces: names and addresses of those with an address that is not loopback.

use std::ffi::OsString;
use std::net::IpAddr;

use serde::Serialize;
use sysinfo::{MacAddr, NetworkData, Networks};

use super::host_links;
use crate::roots;
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

/// All links of this network namespace, whatever the roots, unless they are a host's; only the kind of their hardware address is
/// read from `/sys`.
pub(super) fn links(roots: &Roots) -> Vec<Link> {
    if roots.host.is_some() {
        return host_links::links(roots);
    }
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let link = |(name, network): (&OsString, &NetworkData)| {
        let name = name.to_string_lossy().into_owned();
        let mac = mac(roots, &name, network.mac_address());
        Link { name, mac, addresses: network.ip_networks().iter().map(|network| network.addr).collect() }
    };
    networks.iter().map(link).collect()
}

/// sysinfo gives six bytes for every link, but a tunnel has none, or the IPv4 address of its end.
fn mac(roots: &Roots, name: &str, mac: MacAddr) -> Option<String> {
    let bytes = roots::read(&roots.sys.join("class/net").join(name).join("addr_len")).ok()?;
    (bytes.trim() == "6" && !mac.is_unspecified()).then(|| mac.to_string())
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
        let sys = tempfile::tempdir().unwrap();
        let roots = Roots { sys: sys.path().into(), ..Roots::default() };
        for (name, bytes) in [("eth0", "6\n"), ("tunl0", "4\n"), ("ib0", "20\n")] {
            std::fs::create_dir_all(sys.path().join("class/net").join(name)).unwrap();
            std::fs::write(sys.path().join("class/net").join(name).join("addr_len"), bytes).unwrap();
        }
        let some = MacAddr([2, 0xfc, 0, 0, 0, 1]);
        assert_eq!(mac(&roots, "eth0", some), Some("02:fc:00:00:00:01".to_owned()));
        assert_eq!(mac(&roots, "eth0", MacAddr::UNSPECIFIED), None);
        for name in ["tunl0", "ib0", "gone0"] {
            assert_eq!(mac(&roots, name, some), None, "{name}");
        }
    }
}
