//! A secret: text that is used but never shown.

use std::fmt;
use std::sync::Arc;

/// What stands in a text in place of a secret.
const MARK: &str = "[redacted]";

/// Text that neither `Debug` nor any message shows. It has no `Display`. Clones share the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that must use it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with the secret redacted: a server may echo what it was sent.
    #[must_use]
    pub fn redacted_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&*self.0, MARK) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MARK)
    }
}

/// All secrets of an instance, and how they are hidden in a text. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The longest first, so that one which is part of another does not uncover the rest of it.
    texts: Arc<[Secret]>,
}

impl Secrets {
    /// A shorter secret would be found in any text, and hide what it says.
    pub const SHORTEST_CHARS: usize = 4;

    /// Hides each of these, if it is not too short; of lines like `Authorization: Bearer abc` also each value and its last word,
    /// which a server sees, and may echo, alone. Each also as it is written between quotation marks.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut texts = Vec::new();
        for secret in secrets {
            let text = secret.reveal();
            for line in text.lines().filter(|line| *line != text || line.contains(':')) {
                let (name, value) = line.split_once(':').unwrap_or(("", line));
                if PUBLIC.iter().any(|public| public.eq_ignore_ascii_case(name.trim())) {
                    continue;
                }
                let last = value.rsplit(char::is_whitespace).next().unwrap_or_default();
                texts.extend([line, value.trim(), last].map(Secret::new));
            }
            texts.push(secret);
        }
        // A message may quote a text as Rust or JSON writes it.
        let escaped =
            texts.iter().map(|secret| Secret::new(secret.reveal().escape_debug().to_string())).collect::<Vec<_>>();
        texts.extend(escaped);
        texts.retain(|secret| secret.reveal().chars().nth(Self::SHORTEST_CHARS - 1).is_some());
        texts.sort_by(|one, other| {
            let order = other.reveal().len().cmp(&one.reveal().len());
            order.then_with(|| one.reveal().cmp(other.reveal()))
        });
        texts.dedup();
        Self { texts: texts.into() }
    }

    /// Whether one of them is in `text`.
    #[must_use]
    pub fn are_in(&self, text: &str) -> bool {
        self.texts.iter().any(|secret| text.contains(secret.reveal()))
    }

    /// The length of the longest in bytes: whoever keeps a part of a text keeps so much more, or half a secret is in what is kept.
    #[must_use]
    pub fn longest_bytes(&self) -> usize {
        self.texts.first().map_or(0, |secret| secret.reveal().len())
    }

    /// The beginning of `text`, without secrets: at least `most_bytes` of it are looked at, and no more than a secret's length
    /// beyond; a secret across the end of that is hidden whole.
    #[must_use]
    pub fn hidden_in(&self, text: &str, most_bytes: usize) -> String {
        let end = most_bytes.saturating_add(self.longest_bytes());
        self.hidden_between(text, 0, text.floor_char_boundary(end))
    }

    /// The last `most_bytes` of `text`, without secrets; of one across the beginning of that, the mark is there.
    #[must_use]
    pub fn hidden_at_end(&self, text: &str, most_bytes: usize) -> String {
        let begin = text.ceil_char_boundary(text.len().saturating_sub(most_bytes));
        self.hidden_between(text, begin, text.len())
    }

    /// The part of `text` between these places without what of it is part of a secret. In one pass: what stands in place of a secret is
    /// not searched again, so that no text makes another one longer than its secrets are many.
    fn hidden_between(&self, text: &str, begin: usize, end: usize) -> String {
        if self.texts.is_empty() {
            return text.get(begin..end).unwrap_or_default().to_owned();
        }
        let (mut hidden, mut place) = (String::new(), 0);
        while place < end {
            let rest = text.get(place..).unwrap_or_default();
            let Some(char) = rest.chars().next() else { break };
            let found = self.texts.iter().find(|secret| rest.starts_with(secret.reveal()));
            let next = place.saturating_add(found.map_or(char.len_utf8(), |secret| secret.reveal().len()));
            if next > begin {
                match found {
                    Some(_) => hidden.push_str(MARK),
                    None => hidden.push(char),
                }
            }
            place = next;
        }
        hidden
    }
}

/// Headers that are not secret, though they may be written beside those that are.
const PUBLIC: &[&str] = &["host", "user-agent", "accept"];

/// An address as a message may quote it: without the user and the password in front of its host, and without the query behind it,
/// which may have a token. `None` for what may be a password, or half of one: that is not shown at all. Paths and words are shown as
/// they are.
#[must_use]
pub fn without_login(address: &str) -> Option<String> {
    let is_path = ["/", "unix:/", "file:/"].iter().any(|start| address.starts_with(start));
    if is_path && !address.contains("//") {
        return Some(without_query(address));
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The first sign of a path may be one of a password, and programs skip signs in front of a host.
    let may_be_cut = scheme.is_empty() || host.contains(':') || host.trim().is_empty();
    let is_login = (may_be_cut && path.contains('@')) || (scheme.is_empty() && authority.contains('@'));
    let is_odd = address.contains('@') && address.contains(char::is_control);
    if is_login || is_odd || !is_scheme || !is_host_and_port(host) {
        return None;
    }
    let separator = if scheme.is_empty() { "" } else { "://" };
    Some(format!("{scheme}{separator}{host}{}", without_query(path)))
}

/// Whether what is behind the first colon can be no password.
fn is_host_and_port(host: &str) -> bool {
    let is_address = |text: &str| {
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        address.parse::<std::net::Ipv6Addr>().is_ok()
    };
    if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return is_address(address) && is_port(port);
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    is_address(host) || (is_port(port) && !name.contains("%40"))
}

/// `:80`, or nothing.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
}

fn without_query(path: &str) -> String {
    match path.find(['?', '#']).and_then(|end| path.get(..=end)) {
        Some(path) => format!("{path}..."),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_quoted_without_its_login_and_its_query_and_what_may_be_half_a_password_is_not() {
        for (address, expected) in [
            ("http://me:hunter2@h/x?token=hunter2", Some("http://h/x?...")),
            ("http://me:hunter2 hunter3@h/", Some("http://h/")),
            ("http://me:hun@ter2@h:81", Some("http://h:81")),
            ("http://h/a@b#c", Some("http://h/a@b#...")),
            ("http://h:81/s", Some("http://h:81/s")),
            ("http://[::1]:81/s", Some("http://[::1]:81/s")),
            ("http://[fe80::1]/s", Some("http://[fe80::1]/s")),
            ("fe80::1%eth0", Some("fe80::1%eth0")),
            ("a/b", Some("a/b")),
            ("[fe80::1%eth0]:80", Some("[fe80::1%eth0]:80")),
            ("::1", Some("::1")),
            ("/s?token=x", Some("/s?...")),
            ("/s", Some("/s")),
            ("unix:/run/a@b", Some("unix:/run/a@b")),
            ("db:5432", Some("db:5432")),
            ("web", Some("web")),
            ("*.example.com", Some("*.example.com")),
            ("http://me:hunter2", None),
            ("http://me:hunter2 hunter3", None),
            ("http://me:hunter2/x@h", None),
            ("http://me:12/hunter2@h", None),
            ("http://me:12?hunter2@h", None),
            ("http://me:12#hunter2@h", None),
            ("http://me:12\\hunter2@h", None),
            ("http://me:hunter2@h:x", None),
            ("http://me:hunter2%40h/", None),
            ("http://hunter2%40h/", None),
            ("http:///me:hunter2@h", None),
            ("http://\t/me:hunter2@h", None),
            ("ht\ntp:/\t/me:hunter2@h", None),
            (" http://me:hunter2@h", None),
            ("unix://me:hunter2", None),
            ("http:/me:hunter2@h", None),
            ("http:me:hunter2@h", None),
            ("http:\\\\me:hunter2@h", None),
            ("me:hunter2@h", None),
            ("me:hunter2", None),
            ("me@h", None),
            ("me:12@h", None),
            ("me:hunter2://h", None),
            ("me:12/hunter2@h", None),
            ("//me:hunter2@h", None),
        ] {
            assert_eq!(without_login(address).as_deref(), expected, "{address}");
        }
    }

    use super::*;

    fn hidden(secrets: &[&str], text: &str) -> String {
        Secrets::new(secrets.iter().map(|text| Secret::new(*text))).hidden_in(text, 1_000)
    }

    #[test]
    fn a_secret_is_not_in_its_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }

    #[test]
    fn the_longest_of_two_secrets_that_begin_alike_is_hidden_whole() {
        assert_eq!(hidden(&["hunter", "hunter2", "er2x"], "hunter2x and hunter"), "[redacted]x and [redacted]");
    }

    #[test]
    fn what_stands_for_a_secret_is_not_searched_again_and_short_ones_hide_nothing() {
        let secrets = vec!["redacted"; 180];
        assert_eq!(hidden(&secrets, "redacted"), "[redacted]");
        assert_eq!(hidden(&["e", "abc", ""], "the abc"), "the abc");
        assert_eq!(hidden(&["あいうえ"], "xあいうえ"), "x[redacted]");
    }

    #[test]
    fn a_secret_is_found_anywhere_in_a_name() {
        let secrets = Secrets::new([Secret::new("hunter2"), Secret::new("abc")]);
        assert!(secrets.are_in("web.hunter2") && secrets.are_in("xhunter2x"));
        assert!(!secrets.are_in("web.hunter") && !secrets.are_in("abc") && !Secrets::default().are_in("web"));
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_searched_but_a_secret_across_its_end_is_found() {
        let secrets = Secrets::new([Secret::new("hunter2")]);
        let long = "x".repeat(1_000_000);
        assert_eq!(secrets.hidden_in(&long, 10).len(), 17);
        assert_eq!(secrets.hidden_in("12345678hunter2", 10), "12345678[redacted]");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_text_is_cut_however_much_shorter_hiding_makes_it() {
        let secret = "0123456789".repeat(10);
        let secrets = Secrets::new([Secret::new(secret.as_str())]);
        let text = secret.repeat(30);
        for most in 0..300 {
            let (beginning, end) = (secrets.hidden_in(&text, most), secrets.hidden_at_end(&text, most));
            assert_eq!(beginning.replace(MARK, ""), "", "the first {most} bytes");
            assert_eq!(end, MARK.repeat(most.div_ceil(secret.len())), "the last {most} bytes");
        }
        assert_eq!(secrets.hidden_at_end(&format!("a{secret}b"), 50), format!("{MARK}b"));
        assert_eq!(Secrets::default().hidden_at_end("xあい", 5), "い");
    }

    #[test]
    fn a_secret_is_found_where_it_is_quoted() {
        for secret in [r#"pa"ss\word"#, "line\nbreak", "tab\tand\u{1b}"] {
            let quoted = format!("no grant for {secret:?}; write `host = {secret:?}`, not {secret}");
            let expected = r#"no grant for "[redacted]"; write `host = "[redacted]"`, not [redacted]"#;
            assert_eq!(hidden(&[secret], &quoted), expected);
            let json = serde_json::to_string(secret).unwrap();
            assert!(secret.contains('\u{1b}') || hidden(&[secret], &json) == r#""[redacted]""#, "{json}");
        }
    }

    #[test]
    fn the_values_of_header_lines_are_secrets_of_their_own_unless_they_are_public() {
        let lines = "X-A: abcd\nAuthorization: Bearer hunter2\r\nHost: status.example";
        let echo = "status.example got hunter2, Bearer hunter2 and abcd";
        assert_eq!(hidden(&[lines], echo), "status.example got [redacted], [redacted] and [redacted]");
        assert_eq!(hidden(&["X-A: abcd"], "you sent abcd"), "you sent [redacted]");
    }
}
