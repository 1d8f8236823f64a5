//! Addresses that no name may resolve to: link-local ones, where clouds serve credentials, those of more than one machine, and this
//! machine's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

/// The services of clouds that give metadata, credentials or orders to a machine and are outside of the link-local ranges, within
/// ranges that are otherwise fine: the first address and the length of the prefix, whose it is, and where that is documented. Those
/// within (169.254.169.254 of nearly all, 169.254.170.2 and .23 of Amazon's containers, 169.254.42.42 of Scaleway, 169.254.0.23 of
/// Tencent, fe80::a9fe:a9fe of OpenStack) are refused with their range.
#[rustfmt::skip]
const METADATA: &[(IpAddr, u32, &str, &str)] = &[
    (v4(100, 100, 100, 200), 32, "Alibaba", "https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata"),
    (v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]), 128, "Alibaba", "https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata"),
    (v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]), 128, "Akamai (Linode)", "https://cloudinit.readthedocs.io/en/latest/reference/datasources/akamai.html"),
    // Metadata is at fd00:ec2::254, the credentials of EKS at fd00:ec2::23, DNS and time at ::253 and ::123.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0]), 32, "Amazon", "https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html"),
    (v4(168, 63, 129, 16), 32, "Azure", "https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), 128, "Google", "https://cloud.google.com/compute/docs/metadata/querying-metadata"),
    (v4(192, 0, 0, 192), 32, "Oracle (Classic)", "https://docs.oracle.com/en/cloud/iaas/compute-iaas-cloud/stcsg/retrieving-instance-metadata.html"),
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), 128, "Oracle", "https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm"),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), 128, "Scaleway", "https://cloudinit.readthedocs.io/en/latest/reference/datasources/scaleway.html"),
    (v4(100, 80, 80, 80), 32, "UCloud", "https://docs.ucloud.cn/uhost/guide/metadata/metadata-server"),
    (v4(100, 96, 0, 96), 32, "Volcano Engine", "https://www.volcengine.com/docs/6396/69966"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// Whether `address` is one of the services of clouds.
fn is_metadata(address: IpAddr) -> bool {
    METADATA.iter().any(|(first, prefix, ..)| match (address, *first) {
        (IpAddr::V4(address), IpAddr::V4(first)) => {
            (address.to_bits() ^ first.to_bits()).checked_shr(32_u32.saturating_sub(*prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(first)) => {
            (address.to_bits() ^ first.to_bits()).checked_shr(128_u32.saturating_sub(*prefix)).unwrap_or(0) == 0
        }
        _ => false,
    })
}

/// Why a name that resolves to `address` is refused, or `None` if it is fine. An operator who needs such an address writes
/// it literally, which is not checked here.
///
/// An IPv4 address embedded in an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) counts as that IPv4 address.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).find_map(refusal_v4).or_else(|| refusal_v6(v6)),
    }
}

/// Whether `address` is loopback, in any spelling.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    spellings(address).any(|address| address.is_loopback())
}

/// Whether `address` is this machine itself, in any spelling: loopback, or one of its `own`.
pub(super) fn is_this_machine(address: IpAddr, own: &[IpAddr]) -> bool {
    spellings(address).any(|address| address.is_loopback() || own.contains(&address))
}

/// The addresses of this machine's interfaces; none where the kernel does not list them.
pub(super) fn own() -> Vec<IpAddr> {
    let addresses = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    addresses.filter_map(ip).collect()
}

/// `address`, and the IPv4 addresses in it.
fn spellings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(embedded_v4(v6).map(IpAddr::V4)),
    };
    std::iter::once(address).chain(embedded.into_iter().flatten())
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_link_local() {
        Some("a link-local address, where clouds have their metadata service")
    } else if is_metadata(address.into()) {
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
    } else if address.segments().first().is_some_and(|first| first & 0xffc0 == 0xfec0) {
        Some("a site-local address, which is deprecated")
    } else if is_metadata(address.into()) {
        Some("the address of a cloud metadata service")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 addresses that may be embedded in an IPv6 one; there are several where networks differ in their position.
fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    // The 16 bits that begin in the lower half of `high`.
    let between = |high: u16, low: u16| (high << 8) | (low >> 8);
    let found = match (a, b) {
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => [v4(g, h), None, None, None], // ::ffff:0:0/96, mapped
        (0, 0) if (c, d, e, f) == (0, 0, 0xffff, 0) => [v4(g, h), None, None, None], // ::ffff:0:0:0/96, translated
        // ::/96, compatible; :: and ::1 are addresses in their own right.
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) && (g, h) != (0, 0) && (g, h) != (0, 1) => [v4(g, h), None, None, None],
        (0x64, 0xff9b) if c == 0 => [v4(g, h), None, None, None], // 64:ff9b::/96, NAT64
        // 64:ff9b:1::/48 (RFC 8215), with a prefix of 96, 64, 56 or 48 bits: the address is behind it, around an empty byte (RFC
        // 6052). One that begins with 0 is read at a wrong place.
        (0x64, 0xff9b) => {
            [v4(g, h), v4(between(e, f), between(f, g)), v4((d << 8) | (e & 0xff), f), v4(d, between(e, f))]
                .map(|read| read.filter(|v4| v4.octets().first() != Some(&0)))
        }
        (0x2002, high) => [v4(high, c), None, None, None], // 2002::/16, 6to4
        (0x2001, 0) => [v4(!g, !h), v4(c, d), None, None], // 2001::/32, Teredo: the client's, inverted, and the server's
        _ => [None; 4],
    };
    // ISATAP (RFC 5214): any prefix, and behind it 0:5efe or 200:5efe.
    let isatap = v4(g, h).filter(|_| f == 0x5efe && e & !0x0200 == 0);
    found.into_iter().chain([isatap]).flatten()
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
            "64:ff9b:1:12a9:00fe:a9fe::",
            "64:ff9b:1:1234:00a9:fea9:fe00::",
            "2001:0:4136:e378:8000:63bf:5601:5601",
            "2001:0:a9fe:a9fe:8000:63bf:fefe:fefe",
            "2002:a9fe:a9fe::1",
            "2001:db8::5efe:169.254.169.254",
            "fd00::200:5efe:169.254.169.254",
            "fe80::5efe:10.0.0.1",
        ] {
            assert!(refused(spelling), "{spelling} is not refused");
        }
    }

    #[test]
    fn where_clouds_serve_metadata_and_credentials_is_refused() {
        for (address, ..) in METADATA {
            assert!(refusal(*address).is_some(), "{address} is not refused");
        }
        for address in [
            "169.254.170.2",
            "169.254.170.23",
            "169.254.42.42",
            "169.254.0.23",
            "fe80::a9fe:a9fe",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:42::42",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "100.100.100.200",
            "100.96.0.96",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::100.100.100.200",
        ] {
            assert!(refused(address), "{address} is not refused");
        }
    }

    #[test]
    fn every_entry_of_the_list_has_a_source() {
        for (address, prefix, whose, source) in METADATA {
            assert!(source.starts_with("https://") && !whose.is_empty(), "{address}/{prefix}");
        }
    }

    #[test]
    fn an_address_of_no_or_of_many_machines_is_refused() {
        for address in [
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(refused(address), "{address} is not refused");
        }
    }

    #[test]
    fn an_address_that_an_agent_monitors_is_not_refused() {
        for address in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.168.1.1",
            "172.17.0.2",
            "100.100.100.201",
            "fd00::1",
            "fd00:ec3::254",
            "8.8.8.8",
            "2001:db8::1",
            "2001:db8::5efe:10.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:808:8:800::",
        ] {
            assert!(!refused(address), "{address} is refused");
        }
    }

    #[test]
    fn loopback_is_loopback_in_every_spelling() {
        for spelling in [
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "2001:db8::5efe:127.0.0.1",
        ] {
            assert!(is_loopback(spelling.parse().unwrap()), "{spelling} is not loopback");
        }
        assert!(!is_loopback("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_of_an_interface_is_this_machine_in_every_spelling() {
        let own = ["10.99.0.1", "2001:db8::7"].map(|address| address.parse::<IpAddr>().unwrap());
        for spelling in
            ["10.99.0.1", "::ffff:10.99.0.1", "64:ff9b::10.99.0.1", "2002:a63:1::", "2001:db8::7", "127.0.0.1"]
        {
            assert!(is_this_machine(spelling.parse().unwrap(), &own), "{spelling}");
        }
        for other in ["10.99.0.2", "2001:db8::8"] {
            assert!(!is_this_machine(other.parse().unwrap(), &own), "{other}");
        }
    }

    #[test]
    fn loopback_is_among_the_addresses_of_this_machines_interfaces() {
        assert!(own().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{:?}", own());
    }
}
