//! The address of an HTTP proxy as people write it: also with characters in the user and the password that a URL has to escape, like the
//! `\` of a Windows domain or the `#` of a good password.

use std::net::Ipv6Addr;

use wasaba_core::secret::Secret;

/// The address of an HTTP proxy. It has no `Debug`: there may be a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    /// `http://proxy:8080`, without user and password.
    pub url: String,
    /// `proxy:8080`
    pub server: String,
    /// The user and the password, unescaped.
    pub login: Option<(String, Secret)>,
    /// The whole as every program reads it: as written, or escaped if it was not.
    pub escaped: Secret,
}

/// What is to be written in place of what a URL would cut.
const ESCAPES: &str =
    "in its user and password, write %25 for %, %2F for /, %3F for ?, %23 for #, %40 for @, %3A for :, %5C for \\";

impl ProxyAddress {
    /// Parses `http://user:password@proxy:8080`, of which only the host is required. Everything up to the last `@` is user and
    /// password.
    ///
    /// # Errors
    /// What is wrong and the cure, to follow the name of the key or variable. It shows nothing of the address, which may contain a
    /// password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with(['"', '\'']) {
            return Err("is in quotes: write it without them".to_owned());
        }
        // `://` may be in a password.
        let is_scheme = |scheme: &str| !scheme.contains([':', '@']);
        let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        let no_proxy = || "must be the address of an HTTP proxy, like \"http://proxy:8080\", or \"direct\"".to_owned();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(no_proxy());
        }
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let server = server(place).ok_or_else(|| match login {
            Some(_) => format!("has no host and port behind its last @; {ESCAPES}"),
            None => no_proxy(),
        })?;
        let url = format!("{scheme}://{server}");
        let Some(login) = login else { return Ok(Self { url, server, login: None, escaped: Secret::new(text) }) };
        // `http://proxy/path@x`: is `proxy` the host, or a user?
        if login.contains(['/', '?']) && self::server(login).is_some() {
            return Err(format!("can be read in two ways: {ESCAPES}"));
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (user, password) = (decoded(user), decoded(password));
        let is_plain = login.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%".contains(&byte));
        let escaped = match is_plain {
            true => text.to_owned(),
            false => format!("{scheme}://{}:{}@{server}", encoded(&user), encoded(&password)),
        };
        Ok(Self { url, server, login: Some((user, Secret::new(password))), escaped: Secret::new(escaped) })
    }
}

/// The host, with its port if there is one, in front of a path.
fn server(text: &str) -> Option<String> {
    let text = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (format!("[{address}]"), if rest.is_empty() { rest } else { rest.strip_prefix(':')? })
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            let is_host = !host.is_empty() && host.chars().all(|char| char.is_alphanumeric() || "-._".contains(char));
            (Some(host.to_owned()).filter(|_| is_host)?, port)
        }
    };
    if port.is_empty() {
        return Some(host);
    }
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    Some(format!("{host}:{port}"))
}

/// The text with its escapes replaced, like `%40`; a `%` that begins none stands for itself.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|code| str::from_utf8(code).ok());
        let code = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let (byte, length) = match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => (byte, 2),
            None => (*first, 0),
        };
        bytes.push(byte);
        rest = after.get(length..).unwrap_or_default();
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The text with everything escaped that is not a letter, a digit or one of `-._~`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL, and user and password.
    fn parsed(text: &str) -> Result<(String, Option<(String, String)>), String> {
        let ProxyAddress { url, login, .. } = ProxyAddress::parse(text)?;
        Ok((url, login.map(|(user, password)| (user, password.reveal().to_owned()))))
    }

    #[test]
    fn an_address_has_a_host_and_perhaps_a_scheme_a_port_and_a_login() {
        for (text, url, login) in [
            ("proxy", "http://proxy", None),
            (" proxy:8080\r", "http://proxy:8080", None),
            ("HTTPS://Proxy.Example.com:8080/", "https://Proxy.Example.com:8080", None),
            ("http://[::1]:3128/x?y#z", "http://[::1]:3128", None),
            ("http://me@proxy", "http://proxy", Some(("me", ""))),
            ("me:pw@proxy:1", "http://proxy:1", Some(("me", "pw"))),
            ("http://me%40x:p%3Aw%25@proxy:1", "http://proxy:1", Some(("me@x", "p:w%"))),
            ("http://me:100%@proxy", "http://proxy", Some(("me", "100%"))),
        ] {
            let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(parsed(text), Ok((url.to_owned(), login)), "{text}");
        }
    }

    /// What people have reported: a password that works everywhere but in a URL, with what they expected to be sent.
    #[test]
    fn a_login_with_characters_that_a_url_would_cut_is_sent_as_it_was_written() {
        for (text, login) in [
            // psf/requests#2846
            ("http://XXX:XXX#XXX@proxy:8080", ("XXX", "XXX#XXX")),
            // Kong/insomnia#2512
            ("http://user:p@ss#@proxyurlhost:8080", ("user", "p@ss#")),
            // harness/harness-core#32443
            ("http://user1:p@ssword@8.210.83.33:80", ("user1", "p@ssword")),
            ("http://user1:p#ssword@8.210.83.33:80", ("user1", "p#ssword")),
            // minishift/minishift#2283
            ("http://username:HashTag#Password@proxy.company.com:8080", ("username", "HashTag#Password")),
            // git-for-windows/git#821
            ("http://username:123@456@proxyserver:3128", ("username", "123@456")),
            // himanshub16/ProxyMan#3
            ("http://knibals:a@b#c\\d-e@proxy:3128", ("knibals", "a@b#c\\d-e")),
            // carsonyl/pypac#49
            ("http://username:@@exampleproxy.com", ("username", "@")),
            ("http://username:@@@exampleproxy.com", ("username", "@@")),
            ("http://username:https://@exampleproxy.com", ("username", "https://")),
            ("http://username:\\@exampleproxy.com", ("username", "\\")),
            ("http://username::@exampleproxy.com", ("username", ":")),
            ("http://username:www.example.com&foobar=@exampleproxy.com", ("username", "www.example.com&foobar=")),
            // dfe-analytical-services/dfeR#47
            ("http://analyst:what?@proxy:80", ("analyst", "what?")),
            // delvedor/hpagent#39
            ("http://username_with_=:password@33.206.125.154:8888", ("username_with_=", "password")),
            ("http://DOMAIN\\user:pass@proxy:8080", ("DOMAIN\\user", "pass")),
            ("http://user:12#34@proxy:8080", ("user", "12#34")),
            ("user:https://x@proxy:8080", ("user", "https://x")),
        ] {
            let (url, found) = parsed(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(found, Some((login.0.to_owned(), login.1.to_owned())), "{text}");
            assert!(url.matches(['@', '#']).count() == 0 && text.ends_with(url.trim_start_matches("http://")), "{url}");
            // Programs get it in a form that a URL's parser reads in the same way.
            let escaped = ProxyAddress::parse(text).ok().unwrap().escaped;
            let (_, rest) = escaped.reveal().split_once("://").unwrap();
            assert!(rest.matches(['@', '/', '?', '#', '\\']).eq(["@"]), "{}", escaped.reveal());
            assert_eq!(parsed(escaped.reveal()), Ok((url, found)), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_address_or_can_be_read_in_two_ways_is_refused_without_showing_it() {
        for (text, why) in [
            ("", "must be the address of an HTTP proxy"),
            ("socks5://me:hunter2@proxy", "must be the address of an HTTP proxy"),
            ("http://", "must be the address of an HTTP proxy"),
            ("http://proxy:hunter2", "must be the address of an HTTP proxy"),
            ("http://proxy:0", "must be the address of an HTTP proxy"),
            ("http://[hunter2]:80", "must be the address of an HTTP proxy"),
            ("\"http://me:hunter2@proxy:8080\"", "is in quotes: write it without them"),
            ("http://me:hunter2@", "has no host and port behind its last @; in its user and password, write %25 for %"),
            ("http://me:hunter2@proxy:x", "has no host and port behind its last @"),
            (
                "http://DOMAIN/me:hunter2@proxy:8080",
                "can be read in two ways: in its user and password, write %25 for %",
            ),
            ("http://proxy:8080?hunter2@x", "can be read in two ways"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
