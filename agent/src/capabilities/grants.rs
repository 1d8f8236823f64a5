//! Grants: where one plugin instance may connect to. Parsed once from its settings and its `allow` list, asked at each door.
//!
//! Nothing else grants anything: not the plugin's wish, not a redirect, not an answer from DNS.

use std::fmt;

use url::{Host, Url};

/// A place that an instance may reach: a scheme, where one was written, a host, a port. Exactly that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `None` where only host and port were granted.
    scheme: Option<String>,
    host: Host,
    port: u16,
}

impl Origin {
    /// The origin of an absolute http or https URL. Path, query and user are no part of it.
    ///
    /// # Errors
    /// Why the text is no such URL.
    pub fn of_url(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is no absolute URL ({error})"))?;
        Self::of(&url).ok_or_else(|| "must begin with http:// or https://".to_owned())
    }

    /// A host and a port, for whatever is spoken there.
    ///
    /// # Errors
    /// Why the text is no host name or address.
    pub fn of_host(host: &str, port: u16) -> Result<Self, String> {
        Ok(Self { scheme: None, host: parse_host(host)?, port })
    }

    fn of(url: &Url) -> Option<Self> {
        let scheme = Some(url.scheme()).filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let host = without_dot(url.host()?.to_owned());
        Some(Self { scheme: Some(scheme.to_owned()), host, port: url.port_or_known_default()? })
    }

    /// Whether this machine itself is meant: `localhost` or a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    fn covers(&self, wish: &Self) -> bool {
        self.host == wish.host && self.port == wish.port && (self.scheme.is_none() || self.scheme == wish.scheme)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(formatter, "{scheme}://")?;
        }
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// A host as URLs spell it, so that each spelling of an address (`0x7f.1`, `2130706433`) compares equal.
fn parse_host(text: &str) -> Result<Host, String> {
    let bracketed = if text.contains(':') && !text.starts_with('[') { format!("[{text}]") } else { text.to_owned() };
    Host::parse(&bracketed).map(without_dot).map_err(|error| format!("is no host name or address ({error})"))
}

/// `example.com.` and `example.com` are the same place.
fn without_dot(host: Host) -> Host {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map_or_else(|| name.clone(), str::to_owned)),
        address => address,
    }
}

/// What one instance may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Where it may connect to.
    pub origins: Vec<Origin>,
    /// Whether any certificate is believed on its connections.
    pub tls_skip_verify: bool,
    /// Where the operator would write another grant, for the text of a refusal: `[plugin.metrics.web]`.
    pub place: String,
}

impl Grants {
    /// Looks whether `url` may be reached.
    ///
    /// # Errors
    /// The refusal, which names the wish and the line to write. Userinfo in a URL is refused too: it is how one host is
    /// made to look like another.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        let wish = Origin::of(url).ok_or_else(|| format!("`{}:` is not http or https", url.scheme()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("a user name inside the URL of {wish} is not allowed; send an authorization header"));
        }
        if self.origins.iter().any(|origin| origin.covers(&wish)) {
            return Ok(());
        }
        Err(format!("no grant for {wish}; to grant it, write `allow = [\"{wish}\"]` into {}", self.place))
    }

    /// Says that a granted name leads to an address that only its literal spelling may reach.
    #[must_use]
    pub fn refuse_address(&self, name: &str, address: std::net::IpAddr, why: &str) -> String {
        let literal = match address {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        };
        format!(
            "`{name}` leads to {address}, {why}; if it is meant, write the address itself: \
             `allow = [\"http://{literal}\"]` with its port into {}",
            self.place
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(origins: &[&str]) -> Grants {
        let origins = origins.iter().map(|text| Origin::of_url(text).unwrap()).collect();
        Grants { origins, tls_skip_verify: false, place: "[plugin.metrics.web]".into() }
    }

    fn asks(grants: &Grants, url: &str) -> Result<(), String> {
        grants.check_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_granted_origin_is_reached_and_no_other_port_scheme_or_host() {
        let grants = grants(&["http://web:8080/status"]);
        assert_eq!(asks(&grants, "http://web:8080/any?path"), Ok(()));
        assert_eq!(asks(&grants, "http://WEB.:8080/"), Ok(()), "the same host in another spelling");
        for refused in [
            "http://web/",
            "http://web:8081/",
            "https://web:8080/",
            "http://web2:8080/",
            "http://user@web:8080/",
            "ftp://web:8080/",
        ] {
            assert!(asks(&grants, refused).is_err(), "{refused} was granted");
        }
    }

    #[test]
    fn a_refusal_shows_the_line_to_write() {
        let refusal =
            asks(&Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() }, "https://a.example/x");
        let line = r#"write `allow = ["https://a.example:443"]` into [plugin.metrics.web]"#;
        assert!(refusal.as_ref().is_err_and(|text| text.contains(line)), "{refusal:?}");
    }

    #[test]
    fn the_line_that_a_refusal_shows_is_the_cure() {
        for url in ["https://a.example/x", "http://10.0.0.1:81/", "http://[::1]:8080/"] {
            let refusal = asks(&grants(&[]), url).unwrap_err();
            let origin = refusal.split('"').nth(1).unwrap();
            assert_eq!(asks(&grants(&[origin]), url), Ok(()), "{refusal}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_the_same_place() {
        let local = grants(&["http://127.0.0.1:80"]);
        for spelling in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"] {
            assert_eq!(asks(&local, spelling), Ok(()), "{spelling}");
            assert!(asks(&grants(&["http://web"]), spelling).is_err(), "{spelling}");
        }
    }

    #[test]
    fn host_and_port_grant_both_schemes_but_no_other_port() {
        let origin = Origin::of_host("::1", 12345).unwrap();
        assert!(origin.is_loopback());
        let grants = Grants { origins: vec![origin], ..Grants::default() };
        assert_eq!(asks(&grants, "http://[::1]:12345/"), Ok(()));
        assert_eq!(asks(&grants, "https://[0:0::1]:12345/"), Ok(()));
        assert!(asks(&grants, "http://[::1]:12346/").is_err());
    }

    #[test]
    fn only_loopback_is_loopback() {
        for (host, expected) in
            [("localhost", true), ("127.9.9.9", true), ("::1", true), ("localhost.example", false), ("10.0.0.1", false)]
        {
            assert_eq!(Origin::of_host(host, 1).unwrap().is_loopback(), expected, "{host}");
        }
    }
}
