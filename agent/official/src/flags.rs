//! Flags in Go's form, read as settings: `-x v`, `-x=v`, `--x v`, `--x=v`; booleans only `-b` or `-b=v`. And `-tempfile`, which every
//! official plugin has.

use std::path::PathBuf;

use wasaba_core::nearest::nearest;
use wasaba_core::setting::{Setting, SettingKind};

use crate::shell::UNKNOWABLE;

/// What the flags of a command line set. It has no `Debug`: there may be secrets in it.
#[derive(Default)]
pub struct Flags {
    /// Key and value; a repeatable setting may be there several times.
    pub settings: Vec<(String, String)>,
    /// The value of `-tempfile`: where the counters' readings are kept.
    pub(crate) state: Option<PathBuf>,
    /// What is wrong with it; `settings` are those of the flags that are valid.
    errors: Errors,
    /// Whether there are words that only a shell could expand.
    pub(crate) has_unknowable: bool,
}

#[derive(Default)]
struct Errors {
    /// The numbers of the words that belong to no flag.
    strays: Vec<String>,
    /// About flags.
    texts: Vec<String>,
    /// The valid flags, if one of the errors is that something is none.
    valid: Option<String>,
}

impl Flags {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let Errors { strays, texts, valid } = &self.errors;
        let numbers = strays.join(", ");
        // The words are not shown: one may be the rest of a password with a blank in it.
        let strays = match strays.len() {
            0 => None,
            1 => Some(format!("unexpected argument: word {numbers} after the program is not a flag")),
            _ => Some(format!("unexpected arguments: words {numbers} after the program are not flags")),
        };
        let strays = strays.map(|what| format!("{what}; put a value with blanks in quotes"));
        let valid = valid.iter().map(|valid| format!("valid flags: {valid}"));
        let all = texts.iter().cloned().chain(strays).chain(valid).collect::<Vec<_>>();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Reads the flags of a plugin with these settings.
    #[must_use]
    pub fn parse(declared: &[Setting], flags: &[String]) -> Self {
        let mut parsed = Self::default();
        parsed.read(declared, flags);
        // With Go's flags the last one wins; only a repeatable setting keeps all.
        let repeatable = |key: &str| declared.iter().any(|setting| setting.key == key && setting.repeatable);
        let last = |(index, (key, _)): &(usize, &(String, String))| {
            repeatable(key) || parsed.settings.iter().skip(index.saturating_add(1)).all(|(later, _)| later != key)
        };
        parsed.settings = parsed.settings.iter().enumerate().filter(last).map(|(_, setting)| setting.clone()).collect();
        parsed
    }

    fn read(&mut self, declared: &[Setting], flags: &[String]) {
        let count = flags.len();
        let mut flags = flags.iter().peekable();
        while let Some(flag) = flags.next() {
            let name = flag.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
            let (name, value) = match name.unwrap_or_default().split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name.unwrap_or_default(), None),
            };
            if name.is_empty() || name.contains(UNKNOWABLE) {
                if flag.contains(UNKNOWABLE) {
                    self.has_unknowable = true;
                } else {
                    self.errors.strays.push(count.saturating_sub(flags.len()).to_string());
                    self.errors.valid.get_or_insert_with(|| valid(declared));
                }
                continue;
            }
            // The official plugins write some with an underscore.
            let name = name.replace('_', "-");
            let kind = declared.iter().find(|setting| setting.key == name).map(|setting| setting.kind);
            if kind.is_none() && name != STATE {
                let meant = nearest(&name, names(declared));
                if meant.is_none() {
                    self.errors.valid.get_or_insert_with(|| valid(declared));
                }
                let meant = meant.map(|known| format!(", did you mean -{known}?")).unwrap_or_default();
                self.errors.texts.push(format!("unknown flag -{name}{meant}"));
                // What follows is its value, most likely.
                if value.is_none() {
                    flags.next_if(|next| !next.starts_with('-'));
                }
                continue;
            }
            let is_boolean = matches!(kind, Some(SettingKind::Boolean | SettingKind::TlsSkipVerify));
            let value = value.or_else(|| if is_boolean { Some("true".to_owned()) } else { flags.next().cloned() });
            let Some(value) = value else {
                self.errors.texts.push(format!("flag -{name} needs a value"));
                return;
            };
            match kind {
                None => self.state = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from),
                // Empty means unset, as in the official plugins' own defaults.
                Some(SettingKind::Url | SettingKind::UnixSocket | SettingKind::File) if value.is_empty() => {}
                Some(kind) => self.settings.push((name, as_setting(kind, value))),
            }
        }
    }
}

/// The flag that every official plugin has.
const STATE: &str = "tempfile";

fn valid(declared: &[Setting]) -> String {
    names(declared).map(|name| format!("-{name}")).collect::<Vec<_>>().join(", ")
}

fn names(declared: &[Setting]) -> impl Iterator<Item = &str> {
    declared.iter().map(|setting| setting.key.as_str()).chain([STATE])
}

/// A flag's value as a setting takes it: the official plugins count time in seconds and accept Go's booleans.
fn as_setting(kind: SettingKind, value: String) -> String {
    match kind {
        SettingKind::Duration if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{value}s")
        }
        SettingKind::Boolean | SettingKind::TlsSkipVerify => match value.as_str() {
            "1" | "t" | "T" | "TRUE" | "True" => "true".to_owned(),
            "0" | "f" | "F" | "FALSE" | "False" => "false".to_owned(),
            _ => value,
        },
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[&str]) -> Flags {
        let setting = |key: &str, kind| Setting { repeatable: key == "header", ..Setting::new(key, kind) };
        let declared = [
            setting("host", SettingKind::Host),
            setting("header", SettingKind::Text),
            setting("connect-timeout", SettingKind::Duration),
            setting("tls-skip-verify", SettingKind::TlsSkipVerify),
            setting("socket", SettingKind::UnixSocket),
        ];
        Flags::parse(&declared, &flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_in_each_of_gos_forms_become_settings() {
        for (flags, expected) in [
            (&["-host", "a"] as &[&str], &["host=a"] as &[&str]),
            (&["--host=a"], &["host=a"]),
            (&["-host", "a", "--host", "b"], &["host=b"]),
            (&["-header", "a:1", "-header=b: 2"], &["header=a:1", "header=b: 2"]),
            (&["-tls-skip-verify", "-host", "a"], &["tls-skip-verify=true", "host=a"]),
            (&["-tls-skip-verify=F"], &["tls-skip-verify=false"]),
            (&["-connect_timeout", "3"], &["connect-timeout=3s"]),
            (&["-connect-timeout=3m"], &["connect-timeout=3m"]),
            (&["-socket", "", "-host="], &["host="]),
        ] {
            let parsed = parsed(flags);
            let settings = parsed.settings.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
            assert_eq!((settings, parsed.error()), (expected.iter().map(|text| (*text).to_owned()).collect(), None));
        }
        assert_eq!(parsed(&["-tempfile", "/t"]).state, Some("/t".into()));
        assert_eq!(parsed(&["-tempfile="]).state, None);
    }

    #[test]
    fn an_invalid_flag_is_named_with_what_is_valid_and_the_others_are_read() {
        const VALID: &str = "-host, -header, -connect-timeout, -tls-skip-verify, -socket, -tempfile";
        for (flags, error) in [
            (&["-hots", "x", "-host=a"] as &[&str], "unknown flag -hots, did you mean -host?".to_owned()),
            (&["-bogus", "x", "-host=a"], format!("unknown flag -bogus; valid flags: {VALID}")),
            (
                &["-host=a", "hunter2"],
                format!(
                    "unexpected argument: word 2 after the program is not a flag; put a value with blanks in quotes; valid \
                     flags: {VALID}"
                ),
            ),
            (&["-host=a", "-header"], "flag -header needs a value".to_owned()),
            (
                &["hunter", "-hots=x", "-host", "a", "-bogus=y", "hunter2", "-header"],
                format!(
                    "unknown flag -hots, did you mean -host?; unknown flag -bogus; flag -header needs a value; unexpected \
                     arguments: words 1, 6 after the program are not flags; put a value with blanks in quotes; valid flags: \
                     {VALID}"
                ),
            ),
        ] {
            let parsed = parsed(flags);
            assert_eq!((parsed.error(), parsed.settings), (Some(error), vec![("host".to_owned(), "a".to_owned())]));
        }
    }

    #[test]
    fn a_word_that_only_a_shell_could_expand_is_noticed() {
        let parsed = parsed(&["\0", "-host", "a"]);
        assert!(parsed.has_unknowable && parsed.error().is_none() && parsed.settings.len() == 1);
    }
}
