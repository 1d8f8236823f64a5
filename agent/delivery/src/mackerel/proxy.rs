//! The proxy: which one leads to Mackerel, as Go's programs find it: that of the configuration, else the environment's, and none
//! to a host that `NO_PROXY` names.

use std::net::IpAddr;

use url::{Host, Url};
use wasaba_core::secret::Secret;

/// The address of the proxy on the way to `base`, if there is one: `given` by the configuration, or the environment's.
pub(super) fn proxy_to(
    base: &Url,
    given: Option<&Secret>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Secret> {
    let either = |names: [&str; 2]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let names = if base.scheme() == "https" { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let proxy = given.cloned().or_else(|| either(names).map(Secret::new))?;
    let spared = is_loopback(base) || is_spared(base, &either(["NO_PROXY", "no_proxy"]).unwrap_or_default());
    (!spared).then_some(proxy)
}

/// A proxy cannot reach what only this machine can.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether one of these, separated by commas, names the host: `*`, an address, a network, a name with all that is below it, or
/// `.name` or `*.name` for only that; with `:port` behind it only for that port.
fn is_spared(url: &Url, no_proxy: &str) -> bool {
    let port = url.port_or_known_default();
    let host = url.host();
    let address = match host {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = network(&entry) {
            return address.is_some_and(|address| is_within(address, network, bits));
        }
        let (name, wanted) = without_port(&entry);
        if wanted.is_some_and(|wanted| Some(wanted) != port) {
            return false;
        }
        match (name.parse::<IpAddr>(), address, &host) {
            (Ok(named), Some(address), _) => named == address,
            (Err(_), None, Some(Host::Domain(host))) => is_below(host, name),
            _ => false,
        }
    })
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

/// The name or address in an entry, without the brackets of one of six parts, and the port.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    let plain = |name: &'_ str| name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).map(str::len);
    let split = entry.rsplit_once(':').filter(|(name, _)| !name.contains(':') || plain(name).is_some());
    let (name, port) = match split.map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (entry, None),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
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

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_configurations_proxy_wins_over_the_environments_and_another_schemes_is_none() {
        let found = |base: &str, given: Option<&str>, variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            proxy_to(&url(base), given.map(Secret::new).as_ref(), variable).map(|proxy| proxy.reveal().to_owned())
        };
        let both = [("HTTP_PROXY", "http://h"), ("https_proxy", "http://s"), ("ALL_PROXY", "http://all")];
        assert_eq!(found("https://mackerel", None, &both).as_deref(), Some("http://s"));
        assert_eq!(found("http://mackerel", None, &both).as_deref(), Some("http://h"));
        assert_eq!(found("http://mackerel", Some("p:1"), &both).as_deref(), Some("p:1"));
        assert_eq!(found("https://mackerel", None, &both[..1]), None);
        assert_eq!(found("https://mackerel", None, &both[2..]), None, "Go knows no ALL_PROXY");
        assert_eq!(found("http://mackerel", None, &[("HTTP_PROXY", ""), ("http_proxy", "x")]).as_deref(), Some("x"));
        let spared = [("HTTP_PROXY", "http://h"), ("no_proxy", "mackerel")];
        assert_eq!(found("http://mackerel", None, &spared), None);
        assert_eq!(found("http://mackerel", Some("p:1"), &spared), None);
        assert_eq!(found("http://localhost:1", Some("p:1"), &[]), None);
    }

    #[test]
    fn no_proxy_names_hosts_as_go_reads_it() {
        for (no_proxy, base, spared) in [
            ("", "http://a.example", false),
            ("*", "http://a.example", true),
            ("example", "http://a.example", true),
            ("example", "http://example", true),
            ("example", "http://anexample", false),
            (".example", "http://a.example", true),
            (".example", "http://example", false),
            ("*.example", "http://a.example", true),
            ("x, A.Example ,y", "http://a.example", true),
            ("a.example:8080", "http://a.example:8080", true),
            ("a.example:8080", "http://a.example", false),
            ("a.example:443", "https://a.example", true),
            ("example:8080", "http://a.example:8080", true),
            ("10.1.2.3", "http://10.1.2.3:8080", true),
            ("10.1.2.3:80", "http://10.1.2.3:8080", false),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("0.0.0.0/0", "http://11.1.2.3", true),
            ("0.0.0.0/0", "http://[fd00::1]", false),
            ("fd00::/8", "http://[fd00::1]", true),
            ("fd00::1", "http://[fd00::1]", true),
            ("[fd00::1]:80", "http://[fd00::1]", true),
            ("[fd00::1]:81", "http://[fd00::1]", false),
            ("10", "http://10.1.2.3", false),
            (",.,:80,/8", "http://a.example", false),
        ] {
            assert_eq!(is_spared(&url(base), no_proxy), spared, "{no_proxy} {base}");
        }
    }

    #[test]
    fn loopback_is_never_reached_through_a_proxy() {
        let loopback = |text: &str| is_loopback(&url(text));
        assert!(
            ["http://localhost:1", "http://127.8.9.1", "http://[::1]:80", "http://a.localhost"].map(loopback)
                == [true; 4]
        );
        assert!(["http://localhost.example", "http://10.0.0.1"].map(loopback) == [false; 2]);
    }
}
