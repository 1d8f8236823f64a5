//! Addresses that no name may lead to: link-local ones, where clouds keep credentials, and what is no single machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Amazon's metadata service on IPv6; it lies in the unique-local range, which is otherwise fine to reach.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Why a name that resolves to `address` is refused, or `None` if it is fine. An operator who needs such an address
/// writes it literally, and is then not asked.
///
/// An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) counts as the IPv4 address that it leads to.
#[must_use]
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).and_then(refusal_v4).or_else(|| refusal_v6(v6)),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_link_local() {
        Some("a link-local address, where clouds keep their metadata service")
    } else if address.octets().first() == Some(&0) {
        Some("an unspecified address")
    } else if address.is_broadcast() || address.is_multicast() {
        Some("a broadcast or multicast address")
    } else {
        None
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address == EC2_METADATA {
        Some("the address of a cloud metadata service")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 address that an IPv6 one leads to.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => Some(v4(g, h)), // ::ffff:0:0/96, mapped
        (0, 0) if (c, d, e, f) == (0, 0, 0xffff, 0) => Some(v4(g, h)), // ::ffff:0:0:0/96, translated
        // ::/96, compatible; :: and ::1 are themselves.
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) && (g, h) != (0, 0) && (g, h) != (0, 1) => Some(v4(g, h)),
        (0x64, 0xff9b) => Some(v4(g, h)),    // 64:ff9b::/96 and 64:ff9b:1::/48, NAT64
        (0x2002, high) => Some(v4(high, c)), // 2002::/16, 6to4
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> bool {
        refusal(address.parse().unwrap()).is_some()
    }

    #[test]
    fn the_metadata_address_is_refused_in_every_spelling() {
        for spelling in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(refused(spelling), "{spelling} is not refused");
        }
    }

    #[test]
    fn what_an_agent_monitors_is_not_refused() {
        for address in
            ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.17.0.2", "fd00::1", "8.8.8.8", "2001:db8::1"]
        {
            assert!(!refused(address), "{address} is refused");
        }
    }
}
