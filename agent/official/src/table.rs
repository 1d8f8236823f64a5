//! The table to write in place of a command line: the same settings, in one line, without any secret.

use wasaba_core::setting::{Setting, SettingKind};

/// `settings` as the inline table that does the same.
pub(crate) fn inline(declared: &[Setting], settings: &[(String, String)]) -> String {
    let kind = |key: &str| declared.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    let mut pairs = Vec::new();
    for (key, value) in settings {
        if pairs.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let all =
            settings.iter().filter(|(other, _)| other == key).map(|(_, value)| format!("{:?}", without_secrets(value)));
        let all = all.collect::<Vec<_>>();
        let value = match kind(key) {
            Some(SettingKind::Secret) => "{ file = \"/path/to/the/secret\" }".to_owned(),
            Some(SettingKind::Port | SettingKind::Integer | SettingKind::Boolean | SettingKind::TlsSkipVerify) => {
                value.clone()
            }
            _ if all.len() > 1 => format!("[{}]", all.join(", ")),
            _ => all.concat(),
        };
        pairs.push((key, value));
    }
    let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ");
    format!("{{ {pairs} }}")
}

/// A URL may hold a password, and a token in its query, which a path may have as well.
fn without_secrets(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    if scheme.is_empty() && !value.starts_with('/') {
        return value.to_owned();
    }
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path =
        path.find(['?', '#']).and_then(|end| path.get(..=end)).map_or(path.to_owned(), |path| format!("{path}..."));
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_user_and_its_query() {
        for (value, expected) in [
            ("http://me:hunter2@h/x?token=hunter2", "http://h/x?..."),
            ("http://h/a@b#c", "http://h/a@b#..."),
            ("/s?token=x", "/s?..."),
            ("http://a:b@c", "http://c"),
            ("web?", "web?"),
            ("/s", "/s"),
        ] {
            assert_eq!(without_secrets(value), expected);
        }
    }
}
