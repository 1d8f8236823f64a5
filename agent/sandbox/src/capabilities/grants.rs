//! Grants: what one plugin instance may reach. Parsed once from its settings and its `allow` list, checked at each use of a
//! capability.
//!
//! Nothing else grants anything: not the plugin's imports, not a redirect, not an answer from DNS.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};
use wasaba_core::names;
use wasaba_core::secret::Secret;
use wasaba_core::setting::Reach;
use wasaba_core::tls::Trust;

/// A server that an instance may reach: a scheme, if one was written, a host and a port. Exactly that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `None` where only host and port were granted.
    scheme: Option<String>,
    host: Host,
    port: u16,
}

impl Origin {
    /// The origin of an absolute http or https URL, without its path, query and user.
    ///
    /// # Errors
    /// Why the text is not such a URL.
    pub fn of_url(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not an absolute URL ({})", invalid_url(error, text)))?;
        Self::of(&url).map_err(|why| match why {
            NotAnOrigin::Scheme => "must begin with http:// or https://".to_owned(),
            NotAnOrigin::Host => EMPTY_PART.to_owned(),
        })
    }

    /// A host and a port, for any protocol.
    ///
    /// # Errors
    /// Why the text is not a host name or address.
    pub fn of_host(host: &str, port: u16) -> Result<Self, String> {
        Ok(Self { scheme: None, host: parse_host(host)?, port })
    }

    /// A host and a port in one text, `db:5432` or `[::1]:5432`, for any protocol.
    ///
    /// # Errors
    /// Why the text is not that.
    pub fn of_endpoint(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match parts {
            Some((_, 0)) | None => Err("has no port from 1 to 65535".to_owned()),
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                Err("has an IPv6 address without brackets, so its port is ambiguous".to_owned())
            }
            Some((host, port)) => Self::of_host(host, port),
        }
    }

    /// An entry of an `allow` list: an origin and nothing more, so that it does not look like less than it grants.
    fn allowed(entry: &str) -> Result<Self, String> {
        const CURE: &str = "write it like \"https://example.com:443\", \"db:5432\", \"unix:/path\" or \"file:/path\"";
        let refuse = |why: &str| Err(format!("{why}; {CURE}"));
        if entry.contains('*') {
            return refuse("has a wildcard, but each server must be granted separately");
        }
        if !entry.contains("://") {
            return Self::of_endpoint(entry).or_else(|why| refuse(&why));
        }
        let origin = Self::of_url(entry).or_else(|why| refuse(&why))?;
        let url = Url::parse(entry).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not contain a user name");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return refuse("has a path, but a grant covers the whole server");
        }
        if origin.port == 0 {
            return refuse("has no port from 1 to 65535");
        }
        Ok(origin)
    }

    fn of(url: &Url) -> Result<Self, NotAnOrigin> {
        let scheme = Some(url.scheme()).filter(|scheme| matches!(*scheme, "http" | "https"));
        let scheme = scheme.ok_or(NotAnOrigin::Scheme)?;
        let host = url.host().and_then(|host| without_dot(host.to_owned())).ok_or(NotAnOrigin::Host)?;
        let port = url.port_or_known_default().ok_or(NotAnOrigin::Scheme)?;
        Ok(Self { scheme: Some(scheme.to_owned()), host, port })
    }

    /// Whether it is this machine: `localhost` or a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    /// Whether it is granted for http or https only, and not for any protocol.
    #[must_use]
    pub fn is_for_http(&self) -> bool {
        self.scheme.is_some()
    }

    fn covers(&self, wanted: &Self) -> bool {
        self.host == wanted.host && self.port == wanted.port && (self.scheme.is_none() || self.scheme == wanted.scheme)
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

/// Whether `url` has a user name or a password, in any spelling that is taken for one: `http:/me:secret@web` has.
#[must_use]
pub fn has_user(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// Why a URL has no origin.
#[derive(Clone, Copy, Debug)]
enum NotAnOrigin {
    Scheme,
    Host,
}

/// Two dots in a row, or a dot at the beginning: no DNS has such a name, and it could look like another.
const EMPTY_PART: &str = "is not a host name or address (empty part between dots)";

/// Why a text is not a URL, with what to write where only URLs cannot name a host.
pub(super) fn invalid_url(error: url::ParseError, text: &str) -> String {
    match error {
        url::ParseError::InvalidIpv4Address => {
            "URLs take a host whose last part is a number for an IPv4 address; use another name of it, or its address"
                .to_owned()
        }
        url::ParseError::InvalidIpv6Address if text.contains('%') => {
            "URLs have no IPv6 address with a network interface; use another address, or a name".to_owned()
        }
        error => error.to_string(),
    }
}

/// A host as URLs spell it, so that each spelling of an address (`0x7f.1`, `2130706433`) compares equal. What URLs cannot name is a domain,
/// too: an address with its network interface, in brackets, and a name whose last part is a number, as Docker's swarm has them.
fn parse_host(text: &str) -> Result<Host, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Some((address, zone)) = names::zoned(bare) {
        return Ok(Host::Domain(format!("[{address}%{zone}]")));
    }
    let bracketed = if text.contains(':') && !text.starts_with('[') { format!("[{text}]") } else { text.to_owned() };
    let host = match Host::parse(&bracketed) {
        Err(url::ParseError::InvalidIpv4Address) if names::ends_in_number(text) => {
            Host::Domain(text.to_ascii_lowercase())
        }
        host => host.map_err(|error| format!("is not a host name or address ({error})"))?,
    };
    without_dot(host).ok_or_else(|| EMPTY_PART.to_owned())
}

/// `example.com.` and `example.com` are the same host. `None` for a name with an empty part.
fn without_dot(host: Host) -> Option<Host> {
    let Host::Domain(name) = host else { return Some(host) };
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.split('.').all(|part| !part.is_empty()).then(|| Host::Domain(name.to_owned()))
}

/// What one instance may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Where it may connect to.
    pub origins: Vec<Origin>,
    /// The unix sockets that it may connect to, by path.
    pub sockets: Vec<String>,
    /// The files that it may read, by path.
    pub files: Vec<String>,
    /// Which certificates its connections trust.
    pub trust: Trust,
    /// The plugin's own word on what it reaches, which everything here is held against.
    pub reach: Reach,
    /// Whether it may see the text of its secrets.
    pub reveal: bool,
    /// The value of the header `host` that its requests may have.
    pub virtual_host: Option<String>,
    /// The user and password for a server, joined by a colon, that its URL had.
    pub credentials: Vec<(Origin, Secret)>,
    /// The table into which the operator would write another grant, for the text of a refusal: `[plugin.metrics.web]`.
    pub place: String,
}

impl Grants {
    /// Adds one entry of an `allow` list: `https://example.com:443`, `db:5432`, `unix:/run/x.sock` or `file:/etc/x`.
    ///
    /// # Errors
    /// Why it is refused, and what to write instead.
    pub fn allow(&mut self, entry: &str) -> Result<(), String> {
        if let Some(path) = entry.strip_prefix("unix:") {
            self.sockets.push(absolute(path)?);
        } else if let Some(path) = entry.strip_prefix("file:") {
            self.files.push(absolute(path)?);
        } else {
            self.origins.push(Origin::allowed(entry)?);
        }
        Ok(())
    }

    /// Checks that `url` may be reached.
    ///
    /// # Errors
    /// The refusal, which names the origin and the line to write. A user name in a URL is refused too: it is how one host is
    /// made to look like another.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        let wanted = Origin::of(url).map_err(|why| match why {
            NotAnOrigin::Scheme => format!("`{}:` is not http or https", url.scheme()),
            NotAnOrigin::Host => format!("{:?} {EMPTY_PART}", url.host_str().unwrap_or_default()),
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("a user name in the URL of {wanted} is not allowed; send an `authorization` header"));
        }
        self.check_reach("http", self.reach.http)?;
        self.check(&wanted).map(drop)
    }

    /// Checks that any bytes may be exchanged with `host` at `port`, and returns the host as it was granted. A grant for
    /// http or https only is not enough.
    ///
    /// # Errors
    /// The refusal, which names the origin and the line to write.
    pub fn check_host(&self, host: &str, port: u16) -> Result<Host, String> {
        self.check_reach("tcp", self.reach.tcp)?;
        let wanted = Origin::of_host(host, port).map_err(|why| format!("{host:?} {why}"))?;
        self.check(&wanted).map(|granted| granted.host.clone())
    }

    /// Checks that the plugin says that it reaches servers with raw bytes, before it names one.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_sockets(&self) -> Result<(), String> {
        self.check_reach("tcp", self.reach.tcp)
    }

    /// Checks that the addresses of `name` may be looked up, and returns it as it was granted: with some port, for any protocol.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_name(&self, name: &str) -> Result<Host, String> {
        self.check_reach("tcp", self.reach.tcp)?;
        let wanted = parse_host(name).map_err(|why| format!("{name:?} {why}"))?;
        match self.origins.iter().find(|origin| !origin.is_for_http() && origin.host == wanted) {
            Some(origin) => Ok(origin.host.clone()),
            None => Err(self.refusal(&format!("looking up {wanted}"), &format!("{wanted}:PORT"))),
        }
    }

    fn check(&self, wanted: &Origin) -> Result<&Origin, String> {
        let granted = self.origins.iter().find(|origin| origin.covers(wanted));
        granted.ok_or_else(|| self.refusal(&wanted.to_string(), &wanted.to_string()))
    }

    /// Checks that the unix socket at `path` may be connected to.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_socket(&self, path: &str) -> Result<(), String> {
        self.check_reach("unix", self.reach.unix)?;
        let granted = self.sockets.iter().any(|socket| socket == path);
        if granted { Ok(()) } else { Err(self.refusal(&format!("the unix socket {path:?}"), &format!("unix:{path}"))) }
    }

    /// Checks that the file at `path` may be read.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_file(&self, path: &str) -> Result<(), String> {
        self.check_reach("file", self.reach.file)?;
        let granted = self.files.iter().any(|file| file == path);
        if granted { Ok(()) } else { Err(self.refusal(&format!("the file {path:?}"), &format!("file:{path}"))) }
    }

    /// Checks that the text of a secret may be seen.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_reveal(&self) -> Result<(), String> {
        if self.reveal {
            return Ok(());
        }
        Err(format!("no grant for the text of a secret; to grant it, write `reveal = true` into {}", self.place))
    }

    /// Checks that requests may have this value of the header `host`.
    ///
    /// # Errors
    /// As [`Grants::check_host`].
    pub fn check_virtual_host(&self, host: &str) -> Result<(), String> {
        if self.virtual_host.as_deref() == Some(host) {
            return Ok(());
        }
        let line = format!("virtual_host = {host:?}");
        Err(format!("no grant for the header `host` {host:?}; to grant it, write `{line}` into {}", self.place))
    }

    /// The user and password, joined by a colon, that the operator wrote into the URL of this server.
    #[must_use]
    pub fn credentials_for(&self, url: &Url) -> Option<&Secret> {
        let wanted = Origin::of(url).ok()?;
        self.credentials.iter().find(|(origin, _)| origin.covers(&wanted)).map(|(_, user)| user)
    }

    /// What the plugin does not say that it reaches, it does not reach.
    fn check_reach(&self, word: &str, is_in: bool) -> Result<(), String> {
        if is_in {
            Ok(())
        } else {
            Err(format!("the plugin does not list {word:?} in `reach`; its author has to add it"))
        }
    }

    fn refusal(&self, wanted: &str, line: &str) -> String {
        format!("no grant for {wanted}; to grant it, write `allow = [{line:?}]` into {}", self.place)
    }

    /// The refusal of a granted name that resolves to an address which must be granted literally.
    #[must_use]
    pub fn refuse_address(&self, name: &str, address: IpAddr, why: &str) -> String {
        format!(
            "`{name}` resolves to {address}, {why}; to allow it, write the address instead of the name in {}",
            self.place
        )
    }
}

fn absolute(path: &str) -> Result<String, String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("must have an absolute path after the colon".into());
    }
    // Compared byte by byte, so a path that no plugin would ask for grants nothing.
    let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains('*');
    if path.split('/').skip(1).any(odd) {
        return Err(
            "must have the plain path of one file after the colon: no `//`, `.`, `..`, `*` or `/` at its end".into()
        );
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(origins: &[&str]) -> Grants {
        let origins = origins.iter().map(|text| Origin::of_url(text).unwrap()).collect();
        Grants { origins, reach: Reach::ALL, place: "[plugin.metrics.web]".into(), ..Grants::default() }
    }

    fn asks(grants: &Grants, url: &str) -> Result<(), String> {
        grants.check_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_grant_covers_its_origin_and_no_other_port_scheme_or_host() {
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
    fn a_name_with_an_empty_part_is_refused_wherever_it_is_written() {
        let grants = grants(&["http://a:80", "http://a.b:80"]);
        for name in ["a..", ".a", "a..b", ".", ".."] {
            assert!(Origin::of_url(&format!("http://{name}:80/")).is_err(), "{name}");
            assert!(Origin::of_host(name, 80).is_err(), "{name}");
            let asked = Url::parse(&format!("http://{name}:80/")).map_or(Ok(()), |url| grants.check_url(&url));
            assert!(asked.as_ref().map_or_else(|why| why.contains("empty part"), |()| true), "{name}: {asked:?}");
            assert!(Url::parse(&format!("http://{name}/")).is_err() || asked.is_err(), "{name}");
        }
        assert_eq!(Origin::of_host("a.", 80), Origin::of_host("a", 80));
    }

    #[test]
    fn a_refusal_shows_the_line_to_write() {
        let refusal = asks(&grants(&[]), "https://a.example/x");
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
    fn every_spelling_of_an_address_is_the_same_address() {
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
        let grants = Grants { origins: vec![origin], ..grants(&[]) };
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

    #[test]
    fn a_grant_for_http_does_not_cover_raw_bytes() {
        let grants = grants(&["https://web"]);
        assert!(grants.check_host("web", 443).is_err_and(|text| text.contains("allow = [\"web:443\"]")));
    }

    #[test]
    fn a_name_is_looked_up_only_if_it_is_granted_for_raw_bytes_with_some_port() {
        let mut grants = grants(&["http://web:80"]);
        grants.allow("db:5432").unwrap();
        for granted in ["db", "DB.", "db"] {
            assert_eq!(grants.check_name(granted), Ok(Host::Domain("db".into())));
        }
        for refused in ["web", "db.evil.example", "evil.example", "127.0.0.1", "", "db:5432", "a..b"] {
            assert!(grants.check_name(refused).is_err(), "{refused}");
        }
        let line = r#"write `allow = ["web:PORT"]` into [plugin.metrics.web]"#;
        assert!(grants.check_name("web").unwrap_err().contains(line));
        let without = Grants { reach: Reach::default(), ..grants };
        assert!(without.check_name("db").unwrap_err().contains("\"tcp\" in `reach`"));
    }

    #[test]
    fn every_spelling_of_a_granted_host_is_the_same_host() {
        let mut grants = grants(&[]);
        grants.allow("bücher.example:80").unwrap();
        for spelling in ["BÜCHER.example", "xn--bcher-kva.example", "bücher.example.", "b%C3%BCcher.example"] {
            assert!(grants.check_host(spelling, 80).is_ok(), "{spelling}");
        }
        for other in ["bucher.example", "bücher.example@evil.example", "evil.example#bücher.example", ""] {
            assert!(grants.check_host(other, 80).is_err(), "{other}");
        }
    }

    #[test]
    fn a_host_that_urls_cannot_name_is_granted_for_any_protocol_and_a_url_of_it_says_why_not() {
        let mut grants = grants(&[]);
        for (entry, host, port) in [("Redis.1:6379", "redis.1", 6379), ("[fe80::1%eth0.7]:1", "fe80::1%eth0.7", 1)] {
            grants.allow(entry).unwrap();
            assert!(grants.check_host(host, port).is_ok() && grants.check_host(&format!("{host}0"), port).is_err());
            let line = grants.check_host(host, 9).unwrap_err();
            let line = line.split('"').nth(1).unwrap();
            assert_eq!(Origin::of_endpoint(line), Origin::of_host(host, 9), "the line to write");
        }
        for invalid in
            ["1.2.3.4.5", "256.256.256.256", "0x7f.0x100.1.1", "redis..1", "a b.1", "fe80::1%", "[fe80::1%eth0"]
        {
            assert!(Origin::of_host(invalid, 1).is_err(), "{invalid}");
        }
        for (url, why) in [("http://web.1/", "last part is a number"), ("http://[fe80::1%eth0]/", "network interface")]
        {
            let error = Origin::of_url(url).unwrap_err();
            assert!(error.contains(why) && error.contains("use another"), "{error}");
        }
    }

    #[test]
    fn a_socket_and_a_file_are_granted_by_their_exact_path() {
        let mut grants = grants(&[]);
        grants.allow("unix:/run/redis.sock").unwrap();
        grants.allow("file:/var/log/app.log").unwrap();
        assert_eq!((grants.check_socket("/run/redis.sock"), grants.check_file("/var/log/app.log")), (Ok(()), Ok(())));
        for path in ["/run/docker.sock", "/run/../run/redis.sock", "/var/log/app.log"] {
            assert!(grants.check_socket(path).is_err_and(|text| text.contains(&format!("unix:{path}"))), "{path}");
        }
        assert!(grants.check_file("/var/log/../../etc/shadow").is_err());
    }

    #[test]
    fn what_the_plugin_does_not_say_that_it_reaches_is_denied_whatever_is_granted() {
        let mut all = grants(&["http://web"]);
        for entry in ["db:1", "unix:/run/x.sock", "file:/etc/x"] {
            all.allow(entry).unwrap();
        }
        let without = Grants { reach: Reach::default(), ..all.clone() };
        for (word, granted, denied) in [
            ("http", asks(&all, "http://web/"), asks(&without, "http://web/")),
            ("tcp", all.check_host("db", 1).map(drop), without.check_host("db", 1).map(drop)),
            ("unix", all.check_socket("/run/x.sock"), without.check_socket("/run/x.sock")),
            ("file", all.check_file("/etc/x"), without.check_file("/etc/x")),
        ] {
            assert_eq!(granted, Ok(()), "{word}");
            assert!(denied.as_ref().is_err_and(|text| text.contains(&format!("{word:?} in `reach`"))), "{denied:?}");
        }
    }

    #[test]
    fn a_virtual_host_is_granted_exactly_and_its_refusal_is_the_line_to_write() {
        let named = Grants { virtual_host: Some("status.example".into()), ..grants(&[]) };
        assert_eq!(named.check_virtual_host("status.example"), Ok(()));
        for other in ["Status.example", "status.example:80", "other.example", ""] {
            let refused = named.check_virtual_host(other);
            assert!(refused.is_err_and(|text| text.contains(&format!("`virtual_host = {other:?}`"))), "{other}");
        }
    }

    #[test]
    fn a_user_of_a_url_is_for_its_server_alone() {
        let user = (Origin::of_url("https://web:81/x").unwrap(), Secret::new("me:hunter2"));
        let grants = Grants { credentials: vec![user], ..grants(&[]) };
        let found = |url: &str| grants.credentials_for(&Url::parse(url).unwrap()).is_some();
        assert!(found("https://web:81/other"));
        assert!(!found("http://web:81/x") && !found("https://web/x") && !found("https://other:81/x"));
    }

    #[test]
    fn an_entry_that_looks_like_less_than_it_would_grant_is_refused() {
        for (entry, why) in [
            ("http://*.example.com", "wildcard"),
            ("http://user@example.com", "user name"),
            ("http://example.com/api", "path"),
            ("http://example.com?x", "path"),
            ("example.com", "port"),
            ("example.com:0", "port"),
            ("http://example.com:0", "port"),
            ("ftp://example.com", "http"),
            ("unix:run/x", "absolute"),
            ("file:", "absolute"),
            ("file:///etc/hostname", "plain path"),
            ("file:/var/log/*", "plain path"),
            ("file:/var/log/", "plain path"),
            ("unix:/a/../b", "plain path"),
            ("2001:db8::1:5432", "without brackets"),
        ] {
            let refused = grants(&[]).allow(entry);
            assert!(refused.as_ref().is_err_and(|text| text.contains(why)), "{entry}: {refused:?}");
        }
    }
}
