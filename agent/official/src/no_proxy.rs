//! `NO_PROXY` as Go's `httpproxy` reads it: the hosts that are reached without a proxy.

use std::net::IpAddr;

/// Whether `host` is reached directly: by an entry of `no_proxy`, or since it is this machine itself, which no proxy can reach.
/// An IPv6 address may have brackets; `port` is the one that is connected to.
///
/// The entries are separated by commas, or by white space, which no entry contains: `*`, an address, a network, a name with all that is below it, or `.name` or `*.name` for
/// only that; with `:port` behind it only for that port.
#[must_use]
pub fn is_direct(host: &str, port: Option<u16>, no_proxy: &str) -> bool {
    let host = without_brackets(host).unwrap_or(host).to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    is_loopback(&host, address)
        || no_proxy
            .split(|char: char| char == ',' || char.is_whitespace())
            .any(|entry| matches(&entry.to_ascii_lowercase(), &host, address, port))
}

fn is_loopback(host: &str, address: Option<IpAddr>) -> bool {
    address.map_or_else(|| host == "localhost" || host.ends_with(".localhost"), |address| address.is_loopback())
}

fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = network(entry) {
        return address.is_some_and(|address| is_within(address, network, bits));
    }
    let (name, wanted) = without_port(entry);
    if wanted.is_some_and(|wanted| Some(wanted) != port) {
        return false;
    }
    match (name.parse::<IpAddr>(), address) {
        (Ok(named), Some(address)) => named == address,
        (Err(_), None) => is_below(host, name),
        _ => false,
    }
}

/// `10.0.0.0/8`
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let number = |address| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let ((address, length), (network, same_length)) = (number(address), number(network));
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or_default();
    length == same_length && bits <= length && address & mask == network & mask
}

/// The name or address in an entry, an IPv6 address without its brackets, and the port.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    let split = entry.rsplit_once(':').filter(|(name, _)| !name.contains(':') || without_brackets(name).is_some());
    let (name, port) = match split.map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (entry, None),
    };
    (without_brackets(name).unwrap_or(name), port)
}

fn without_brackets(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.strip_suffix(']')
}

fn is_below(host: &str, name: &str) -> bool {
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        Some(above) => !above.is_empty() && host.ends_with(name),
        None => {
            !name.is_empty() && host.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_as_in_go() {
        for (no_proxy, host, port, expected) in [
            ("", "a.example", 80, false),
            ("*", "a.example", 80, true),
            ("example", "a.example", 80, true),
            ("example", "example", 80, true),
            ("example", "anexample", 80, false),
            (".example", "a.example", 80, true),
            (".example", "example", 80, false),
            ("*.example", "a.example", 80, true),
            ("x, A.Example ,y", "a.example", 80, true),
            // DataDog/documentation#37802: separated by blanks.
            ("x a.example y", "a.example", 80, true),
            ("x\ta.example\r", "a.example", 80, true),
            // curl/curl#9773, fluent/fluent-bit#6242: networks.
            (".domain1,.domain2,127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16", "10.10.20.1", 80, true),
            ("a.example", "A.Example", 80, true),
            ("a.example:8080", "a.example", 8080, true),
            ("a.example:8080", "a.example", 80, false),
            ("a.example:443", "a.example", 443, true),
            ("example:8080", "a.example", 8080, true),
            ("10.1.2.3", "10.1.2.3", 8080, true),
            ("10.1.2.3:80", "10.1.2.3", 8080, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("0.0.0.0/0", "11.1.2.3", 80, true),
            ("0.0.0.0/0", "[fd00::1]", 80, false),
            ("fd00::/8", "[fd00::1]", 80, true),
            ("fd00::1", "fd00::1", 80, true),
            ("[fd00::1]:80", "[fd00::1]", 80, true),
            ("[fd00::1]:81", "[fd00::1]", 80, false),
            ("10", "10.1.2.3", 80, false),
            (",.,:80,/8", "a.example", 80, false),
        ] {
            assert_eq!(is_direct(host, Some(port), no_proxy), expected, "{no_proxy} {host}:{port}");
        }
    }

    #[test]
    fn this_machine_itself_is_always_reached_directly() {
        for (host, expected) in [
            ("localhost", true),
            ("127.8.9.1", true),
            ("[::1]", true),
            ("a.localhost", true),
            ("localhost.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_direct(host, None, ""), expected, "{host}");
        }
    }
}
