//! The table to write in place of a command line: the same settings, in one line, without any secret.

use wasaba_core::setting::{Setting, SettingKind};

use crate::shell::UNKNOWABLE;

/// What stands in place of a value that is not shown or not known.
pub(crate) const DOTS: &str = "...";

/// `settings` as the inline table that does the same.
pub(crate) fn inline(declared: &[Setting], settings: &[(String, String)]) -> String {
    let kind = |key: &str| declared.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    let mut pairs = Vec::new();
    for (key, value) in settings {
        if pairs.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let all = settings.iter().filter(|(other, _)| other == key).map(|(_, value)| text(&without_secrets(value)));
        let all = all.collect::<Vec<_>>();
        let value = match kind(key) {
            Some(SettingKind::Secret) => "{ file = \"/path/to/the/secret\" }".to_owned(),
            // What is none may be a word in the wrong place, such as a password.
            Some(SettingKind::Port | SettingKind::Integer) => {
                value.parse::<i64>().map_or_else(|_| text(DOTS), |number| number.to_string())
            }
            Some(SettingKind::Boolean | SettingKind::TlsSkipVerify) => {
                value.parse::<bool>().map_or_else(|_| text(DOTS), |switch| switch.to_string())
            }
            _ if all.len() > 1 => format!("[{}]", all.join(", ")),
            _ => all.concat(),
        };
        pairs.push((key, value));
    }
    let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ");
    format!("{{ {pairs} }}")
}

/// `value` as a string of TOML.
pub(crate) fn text(value: &str) -> String {
    let mut written = String::from("\"");
    for char in value.chars() {
        match char {
            UNKNOWABLE => written.push_str(DOTS),
            '"' | '\\' => written.extend(['\\', char]),
            char if char.is_control() => written.push_str(&format!("\\u{:04X}", u32::from(char))),
            char => written.push(char),
        }
    }
    written + "\""
}

/// A URL may hold a password, and a token in its query, which a path may have as well. What may be half of one is not shown at all.
fn without_secrets(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    if scheme.is_empty() && !value.starts_with('/') {
        return if value.contains('@') { DOTS.to_owned() } else { value.to_owned() };
    }
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    if !host.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return DOTS.to_owned();
    }
    let path =
        path.find(['?', '#']).and_then(|end| path.get(..=end)).map_or(path.to_owned(), |path| format!("{path}..."));
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_valid_toml_whatever_was_written_and_shows_no_word_in_the_place_of_a_number() {
        let declared = [
            Setting::new("port", SettingKind::Port),
            Setting::new("tls-skip-verify", SettingKind::TlsSkipVerify),
            Setting::new("database", SettingKind::Text),
        ];
        let written = |port: &str, switch: &str, database: &str| {
            let pairs = [("port", port), ("tls-skip-verify", switch), ("database", database)];
            inline(&declared, &pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        assert_eq!(written("0081", "true", "d"), "{ port = 81, tls-skip-verify = true, database = \"d\" }");
        let expected = r#"{ port = "...", tls-skip-verify = "...", database = "a\u001B\u0009'\"\\..." }"#;
        assert_eq!(written("hunter2", "maybe", "a\u{1b}\t'\"\\\0"), expected);
    }

    #[test]
    fn an_address_is_shown_without_its_user_and_its_query() {
        for (value, expected) in [
            ("http://me:hunter2@h/x?token=hunter2", "http://h/x?..."),
            ("http://h/a@b#c", "http://h/a@b#..."),
            ("/s?token=x", "/s?..."),
            ("http://a:b@c", "http://c"),
            ("web?", "web?"),
            ("/s", "/s"),
            ("http://h:81/s", "http://h:81/s"),
            ("http://[::1]:81/s", "http://[::1]:81/s"),
            ("http://[fe80::1]/s", "http://[fe80::1]/s"),
            ("http://me:hunter2", "..."),
            ("me:hunter2@h", "..."),
        ] {
            assert_eq!(without_secrets(value), expected);
        }
    }
}
