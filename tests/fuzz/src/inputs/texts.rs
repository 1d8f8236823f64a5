//! Texts that are shown, and what is hidden in them.

use delivery::mackerel::HostId;
use wasaba_core::sample::{MetricName, segment};
use wasaba_core::secret::{Secret, Secrets};
use wasaba_core::text::{printable as shown, safe_lines};

use super::text;

/// Secrets, a line each, and behind a line `%%` a text that may have them.
pub fn secrets(data: &[u8]) {
    const MARK: &str = "[redacted]";
    let text = text(data);
    let (secrets, text) = text.split_once("\n%%\n").unwrap_or((&text, &text));
    let secrets = secrets.lines().take(200).collect::<Vec<_>>();
    let all = Secrets::new(secrets.iter().map(|secret| Secret::new(*secret)));
    for most_bytes in [100, 100_000] {
        let hidden = all.hidden_in(text, most_bytes);
        // A secret has four characters at least, so none makes more of a text than a mark in its place.
        let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or_default();
        assert!(hidden.len() <= (most_bytes + longest).min(text.len()) * MARK.len().div_ceil(4));
        for piece in hidden.split(MARK) {
            for secret in secrets.iter().filter(|secret| secret.chars().count() >= Secrets::SHORTEST_CHARS) {
                assert!(!piece.contains(secret), "{secret:?} is in {hidden:?}");
            }
        }
    }
}

/// A text for the log.
pub fn printable(data: &[u8]) {
    let text = text(data);
    for most_bytes in [0, 10, 1_000] {
        let shown = shown(&text, most_bytes);
        assert!(!shown.contains(char::is_control) && shown.len() <= most_bytes + 16, "{shown:?}");
        assert_eq!(self::shown(&shown, 10_000), shown, "what is safe stays as it is");
    }
    let lines = safe_lines(&text);
    assert!(!lines.contains(|char: char| char.is_control() && char != '\n' && char != '\t'), "{lines:?}");
}

/// A metric's name, and a host's id.
pub fn names(data: &[u8]) {
    let text = text(data);
    if let Ok(name) = MetricName::new(text.as_ref()) {
        assert!(name.as_str() == text && text.len() <= MetricName::MAX_BYTES && !text.contains(".."));
    }
    let segment = segment(&text);
    assert!(segment.is_empty() || segment.len() > MetricName::MAX_BYTES || MetricName::new(segment.as_str()).is_ok());
    if let Some(id) = HostId::new(&text) {
        // It is a part of URLs.
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}

/// A message of a name server.
pub fn dns(data: &[u8]) {
    wasaba_core::names::check_message(data);
}

/// A `resolv.conf`, and lines of `hosts`.
pub fn resolver(data: &[u8]) {
    wasaba_core::names::check_files(&text(data));
}
