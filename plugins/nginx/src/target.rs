//! Where the page is, and the headers of the request for it. Their secrets are never shown.

use wasaba_plugin::{Error, Settings};

/// The address of the status page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// To be requested: without user name and password, which the agent does not accept in a URL.
    pub(crate) url: String,
    /// The URL for messages: without the query, which may have a token.
    pub(crate) shown: String,
    /// The setting that says where the page is: `uri` or `path`.
    pub(crate) setting: &'static str,
    /// The value of `Authorization` for the user name and password.
    basic: Option<String>,
}

impl Target {
    /// `uri`, or the URL from the four other settings.
    ///
    /// # Errors
    /// An unknown scheme; a user name or password that cannot be decoded.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Error> {
        if let Some(uri) = settings.get("uri").filter(|uri| !uri.is_empty()) {
            let (url, user) = without_user(uri);
            let basic = user.map(basic).transpose()?;
            return Ok(Self { shown: shown(&url), url, setting: "uri", basic });
        }
        let scheme = settings.one_of("scheme", &["http", "https"])?;
        let host = settings.text("host")?;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let path = settings.text("path")?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{scheme}://{host}:{}{slash}{path}", settings.text("port")?);
        Ok(Self { shown: shown(&url), url, setting: "path", basic: None })
    }

    /// The headers of the request: those in `header`, of which the last with a name wins, and the defaults for others.
    pub(crate) fn headers(&self, settings: &Settings) -> Headers {
        let mut headers = Headers::default();
        // A file may have several, one per line.
        for line in settings.all("header").flat_map(str::lines) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            headers.set(name.trim(), value.trim());
        }
        if let Some(basic) = self.basic.as_deref().filter(|_| !headers.has("authorization")) {
            headers.set("authorization", basic);
        }
        if !headers.has("user-agent") {
            headers.set("user-agent", "mackerel-plugin-nginx");
        }
        headers
    }
}

/// Headers of a request, each name once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A server's text without the values that were sent to it: some show a request's headers, which may have a token.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let public = ["host", "user-agent"];
        let secrets = self.iter().filter(|(name, value)| {
            !value.is_empty() && !public.iter().any(|public| public.eq_ignore_ascii_case(name))
        });
        secrets.fold(text.to_owned(), |text, (_, value)| text.replace(value, "[redacted]"))
    }
}

/// `uri` without `user:password@`, and the user.
fn without_user(uri: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = uri.split_once("://") else { return (uri.to_owned(), None) };
    // As browsers do: a backslash ends the host, too, and the last @ before its end counts.
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}{path}"), Some(user)),
        None => (uri.to_owned(), None),
    }
}

fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// The value of `Authorization` for `user:password`, which has percent escapes in a URL.
fn basic(user: &str) -> Result<String, Error> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let text = decoded(name).zip(decoded(password)).map(|(name, password)| [name, password].join(&b':'));
    let invalid = || {
        let cure = "write %25 for the character itself";
        Error::Misconfigured(format!("invalid % escape in the user name or password in `uri`: {cure}"))
    };
    Ok(format!("Basic {}", base64(&text.ok_or_else(invalid)?)))
}

/// RFC 4648, section 4. The crate of this name would add 5 % to the component.
fn base64(bytes: &[u8]) -> String {
    let digit = |bits: u32| match u8::try_from(bits & 63).unwrap_or_default() {
        index @ 0..26 => b'A' + index,
        index @ 26..52 => b'a' + index - 26,
        index @ 52..62 => b'0' + index - 52,
        62 => b'+',
        _ => b'/',
    };
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().zip([16, 8, 0]).map(|(byte, shift)| u32::from(*byte) << shift).sum::<u32>();
        let digits = [18, 12, 6, 0].iter().take(three.len() + 1).map(|shift| char::from(digit(bits >> shift)));
        text.extend(digits.chain(std::iter::repeat('=')).take(4));
    }
    text
}

/// Decodes percent escapes such as `%40`.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<const N: usize>(settings: [(&str, &str); N]) -> Target {
        Target::of(&Settings::from(settings)).unwrap()
    }

    fn headers<const N: usize>(settings: [(&str, &str); N]) -> Vec<(String, String)> {
        let settings = Settings::from(settings);
        Target::of(&settings).unwrap().headers(&settings).0
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_url_is_assembled_as_in_the_official_plugin() {
        assert_eq!(
            target([("scheme", "https"), ("host", "web"), ("port", "12345"), ("path", "/s")]).url,
            "https://web:12345/s"
        );
        let six = [("scheme", "http"), ("host", "::1"), ("port", "80"), ("path", "s")];
        assert_eq!(target(six).url, "http://[::1]:80/s");
        let whole = [("uri", "http://a/b?c"), ("scheme", "https"), ("host", "web"), ("port", "1"), ("path", "/s")];
        assert_eq!(target(whole).url, "http://a/b?c");
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        let parts = [("scheme", "ftp"), ("host", "web"), ("port", "1"), ("path", "/s")];
        let error = Target::of(&Settings::from(parts)).unwrap_err();
        assert!(matches!(&error, Error::Misconfigured(text) if text.contains("ftp")), "{error:?}");
    }

    #[test]
    fn a_user_in_the_url_becomes_a_header_and_is_never_shown() {
        for (uri, url, basic) in [
            ("http://bob:secret@a:81/s?t=x", "http://a:81/s?t=x", "Basic Ym9iOnNlY3JldA=="),
            ("http://bob@a/s", "http://a/s", "Basic Ym9iOg=="),
            ("https://b%40b:p%3A%25@a", "https://a", "Basic YkBiOnA6JQ=="),
            ("http://b@b:p@a/@c", "http://a/@c", "Basic YkBiOnA="),
            ("http://b:%C3%BC@[::1]:81/", "http://[::1]:81/", "Basic YjrDvA=="),
        ] {
            let target = target([("uri", uri)]);
            assert_eq!((target.url.as_str(), target.basic.as_deref()), (url, Some(basic)), "{uri}");
            assert_eq!(target.shown, url.replace("?t=x", ""));
        }
        for uri in ["http://a/b@c", "http://a?b@c", "http://a\\b@c", "http://a#b@c"] {
            assert_eq!((target([("uri", uri)]).url.as_str(), target([("uri", uri)]).basic), (uri, None));
        }
    }

    #[test]
    fn an_invalid_escape_in_the_password_is_reported_without_the_password() {
        for uri in ["http://bob:hunter%2@a", "http://bob:hunter%zz2@a", "http://b%:hunter2@a", "http://b:hunter%+12@a"]
        {
            let error = Target::of(&Settings::from([("uri", uri)])).unwrap_err();
            let Error::Misconfigured(text) = error else { panic!("{error:?}") };
            assert!(text.contains("`uri`") && text.contains("%25") && !text.contains("hunter"), "{text}");
        }
    }

    #[test]
    fn base64_matches_the_vectors_of_its_rfc_and_has_every_digit() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        // 00 10 83 ... encodes to all digits in order.
        let all = (0..64_u32).step_by(4).flat_map(|first| {
            let bits = first << 18 | (first + 1) << 12 | (first + 2) << 6 | (first + 3);
            bits.to_be_bytes()[1..].to_vec()
        });
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        assert_eq!(base64(&all.collect::<Vec<_>>()), digits);
    }

    #[test]
    fn a_header_is_split_at_its_first_colon_and_the_last_with_a_name_wins() {
        let settings = [("uri", "http://a"), ("header", " X-A : 1:2 "), ("header", "Host: b"), ("header", "x-a: 3")];
        let agent = pair("user-agent", "mackerel-plugin-nginx");
        assert_eq!(headers(settings), [pair("Host", "b"), pair("x-a", "3"), agent]);
        let own = [("uri", "http://a"), ("header", "User-Agent: me"), ("header", "bare")];
        assert_eq!(headers(own), [pair("User-Agent", "me"), pair("bare", "")]);
        let lines = [("uri", "http://a"), ("header", "User-Agent: me\r\nX-A: 1\n")];
        assert_eq!(headers(lines), [pair("User-Agent", "me"), pair("X-A", "1")]);
    }

    #[test]
    fn a_header_of_the_operator_overrides_the_user_in_the_url() {
        let own = [("uri", "http://bob:secret@a"), ("header", "authorization: Bearer x"), ("header", "user-agent: me")];
        assert_eq!(headers(own), [pair("authorization", "Bearer x"), pair("user-agent", "me")]);
        let open = [("uri", "http://bob:secret@a"), ("header", "user-agent: me")];
        assert_eq!(headers(open), [pair("user-agent", "me"), pair("authorization", "Basic Ym9iOnNlY3JldA==")]);
    }

    #[test]
    fn what_was_sent_is_redacted_in_the_response() {
        let settings =
            Settings::from([("uri", "http://bob:secret@a"), ("header", "Host: web"), ("header", "X-T: abc")]);
        let headers = target([("uri", "http://bob:secret@a")]).headers(&settings);
        let page = "web got Basic Ym9iOnNlY3JldA== and abc";
        assert_eq!(headers.redacted(page), "web got [redacted] and [redacted]");
    }
}
