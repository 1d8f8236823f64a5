//! The table to write in place of a command line: the same settings, in one line, without any secret.

use wasaba_core::secret::without_login;
use wasaba_core::setting::{Setting, SettingKind};

use crate::shell::UNKNOWABLE;

/// What stands in place of a value that is not shown or not known.
pub(crate) const DOTS: &str = "...";

/// `settings` as the inline table that does the same.
pub(crate) fn inline(
    declared: &[Setting],
    settings: &[(String, String)],
    is_valid: impl Fn(&Setting, &str) -> bool,
) -> String {
    let of_key = |key: &str| declared.iter().find(|setting| setting.key == key);
    let mut pairs = Vec::new();
    for (key, value) in settings {
        if pairs.iter().any(|(known, _)| *known == key) {
            continue;
        }
        // What is invalid may be a word in the wrong place, such as a password.
        let shown = |value: &String| match of_key(key) {
            Some(setting) if !value.contains(UNKNOWABLE) && !is_valid(setting, value) => DOTS.to_owned(),
            _ => without_login(value).unwrap_or_else(|| DOTS.to_owned()),
        };
        let all = settings.iter().filter(|(other, _)| other == key).map(|(_, value)| shown(value));
        let all = all.map(|value| text(&value)).collect::<Vec<_>>();
        let value = match of_key(key).map(|setting| setting.kind) {
            Some(SettingKind::Secret) => "{ file = \"/path/to/the/secret\" }".to_owned(),
            Some(SettingKind::Port | SettingKind::Integer) => {
                shown(value).parse::<i64>().map_or_else(|_| text(DOTS), |number| number.to_string())
            }
            Some(SettingKind::Boolean | SettingKind::TlsSkipVerify) => {
                shown(value).parse::<bool>().map_or_else(|_| text(DOTS), |switch| switch.to_string())
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
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
            inline(&declared, &pairs, |_, value| value != "99999" && value != "invalid")
        };
        assert_eq!(written("0081", "true", "d"), "{ port = 81, tls-skip-verify = true, database = \"d\" }");
        let expected = r#"{ port = "...", tls-skip-verify = "...", database = "a\u001B\u0009'\"\\..." }"#;
        assert_eq!(written("hunter2", "maybe", "a\u{1b}\t'\"\\\0"), expected);
        let expected = r#"{ port = "...", tls-skip-verify = false, database = "..." }"#;
        assert_eq!(written("99999", "false", "invalid"), expected);
    }
}
