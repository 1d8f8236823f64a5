//! Addresses that no name may resolve to: link-local ones, where clouds serve credentials, and those of more than one machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Clouds' metadata services outside the link-local ranges, within ranges that are otherwise fine: Alibaba's, Oracle's,
/// Azure's; Amazon's and Google's on IPv6.
const METADATA_V4: &[Ipv4Addr] =
    &[Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: &[Ipv6Addr] =
    &[Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254), Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)];

/// Why a name that resolves to `address` is refused, or `None` if it is fine. An operator who needs such an address writes
/// it literally, which is not checked here.
///
/// An IPv4 address embedded in an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo) counts as that IPv4 address.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).into_iter().flatten().find_map(refusal_v4).or_else(|| refusal_v6(v6)),
    }
}

/// Whether `address` is this machine itself, in any spelling.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || embedded_v4(v6).into_iter().flatten().any(|v4| v4.is_loopback()),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_link_local() {
        Some("a link-local address, where clouds have their metadata service")
    } else if METADATA_V4.contains(&address) {
        Some("the address of a cloud metadata service")
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
    } else if METADATA_V6.contains(&address) {
        Some("the address of a cloud metadata service")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 addresses that may be embedded in an IPv6 one; there are two where networks differ in their position.
fn embedded_v4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (a, b) {
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => [v4(g, h), None], // ::ffff:0:0/96, mapped
        (0, 0) if (c, d, e, f) == (0, 0, 0xffff, 0) => [v4(g, h), None], // ::ffff:0:0:0/96, translated
        // ::/96, compatible; :: and ::1 are addresses in their own right.
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) && (g, h) != (0, 0) && (g, h) != (0, 1) => [v4(g, h), None],
        // 64:ff9b::/96, and 64:ff9b:1::/48 with the address behind the prefix (RFC 6052, around an empty byte) or at the end.
        (0x64, 0xff9b) => [v4(g, h), v4(d, (e << 8) | (f >> 8))],
        (0x2002, high) => [v4(high, c), None], // 2002::/16, 6to4
        (0x2001, 0) => [v4(!g, !h), v4(c, d)], // 2001::/32, Teredo: the client's, inverted, and the server's
        _ => [None, None],
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
            "64:ff9b:1:a9fe:00a9:fe00::",
            "2001:0:4136:e378:8000:63bf:5601:5601",
            "100.100.100.200",
            "168.63.129.16",
            "fd20:ce::254",
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
    fn an_address_that_an_agent_monitors_is_not_refused() {
        for address in
            ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.17.0.2", "fd00::1", "8.8.8.8", "2001:db8::1"]
        {
            assert!(!refused(address), "{address} is refused");
        }
    }

    #[test]
    fn loopback_is_loopback_in_every_spelling() {
        for spelling in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert!(is_loopback(spelling.parse().unwrap()), "{spelling} is not loopback");
        }
        assert!(!is_loopback("10.0.0.1".parse().unwrap()));
    }
}
