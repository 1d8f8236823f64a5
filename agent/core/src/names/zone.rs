//! Hosts that URLs cannot name: addresses that hold on one link alone, with its network interface behind them (`fe80::1%eth0`), and names
//! whose last part is a number, as Docker's swarm has them (`redis.1`).

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

/// The address and the interface, or its number, in such a text; `None` if it is none.
#[must_use]
pub fn zoned(text: &str) -> Option<(Ipv6Addr, &str)> {
    let (address, zone) = text.split_once('%')?;
    let is_name = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic() && !b"/[]%".contains(&byte));
    let address = address.parse::<Ipv6Addr>().ok().filter(Ipv6Addr::is_unicast_link_local)?;
    is_name.then_some((address, zone))
}

/// Where to connect to for such a text, if it is one.
///
/// # Errors
/// There is no such interface.
pub fn with_zone(text: &str, port: u16) -> Option<Result<SocketAddr>> {
    let (address, zone) = zoned(text)?;
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no network interface `{zone}`"));
    Some(number(zone, index_of).map(|scope| SocketAddrV6::new(address, port, 0, scope).into()).ok_or_else(missing))
}

/// Whether it is a name though its last part is a number: no spelling of an address could be meant, since some part is not a number.
#[must_use]
pub fn ends_in_number(text: &str) -> bool {
    let is_number = |part: &str| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => part.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_plain
        && !name.split('.').any(str::is_empty)
        && name.rsplit('.').next().is_some_and(is_number)
        && !name.split('.').all(is_number)
}

/// The number of a zone, which is one or the name of an interface.
pub(super) fn number(zone: &str, index: impl Fn(&str) -> Option<u32>) -> Option<u32> {
    zone.parse().ok().or_else(|| index(zone))
}

/// The number of an interface.
pub(super) fn index_of(interface: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, interface).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_in_a_number_is_not_taken_for_any_spelling_of_an_address() {
        for name in ["redis.1", "Web.12.", "a-b_c.0", "1.web.2", "web.0x7f"] {
            assert!(ends_in_number(name), "{name}");
        }
        for other in [
            "1",
            "1.2.3.4",
            "1.2.3.4.5",
            "256.1.1.1",
            "0x7f.1",
            "0x7f.0X1",
            "web",
            "1.web",
            "web .1",
            "web..1",
            ".web.1",
            "b\u{fc}.1",
            "",
        ] {
            assert!(!ends_in_number(other), "{other}");
        }
    }

    #[test]
    fn an_address_of_a_link_is_that_at_its_interface_and_no_other_has_one() {
        let of = |text: &str| with_zone(text, 6379).map(|found| found.map_err(|error| error.to_string()));
        let lo = index_of("lo").unwrap();
        let expected = SocketAddrV6::new("fe80::77".parse().unwrap(), 6379, 0, lo);
        assert_eq!(of("fe80::77%lo"), Some(Ok(expected.into())));
        assert_eq!(of(&format!("fe80::77%{lo}")), Some(Ok(expected.into())));
        assert_eq!(of("fe80::77%none"), Some(Err("there is no network interface `none`".to_owned())));
        for other in ["fe80::77", "2001:db8::1%lo", "fe80::77%", "fe80::77%a/b", "10.0.0.1%lo", "web%lo", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
