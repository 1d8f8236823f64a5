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
    /// The flags whose value is missing, or not known as a whole.
    pub(crate) unknown: Vec<String>,
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

    /// Whether a flag is given, but its value not known, so that nothing is wrong with it or else is said already.
    #[must_use]
    pub fn is_unknown(&self, key: &str) -> bool {
        self.unknown.iter().any(|unknown| unknown == key)
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
            let value = flag.split_once('=').map(|(_, value)| value.to_owned());
            let name = flag_of(flag).unwrap_or_default();
            if name.is_empty() || name.contains(UNKNOWABLE) {
                if flag.contains(UNKNOWABLE) {
                    self.has_unknowable = true;
                } else {
                    self.errors.strays.push(count.saturating_sub(flags.len()).to_string());
                    // Most likely a password with a blank in it, whose first half is the value of the flag before.
                    if let Some((key, value)) = self.settings.last_mut().filter(|_| flag.contains('@')) {
                        *value = UNKNOWABLE.to_string();
                        self.unknown.push(key.clone());
                    }
                    self.errors.valid.get_or_insert_with(|| valid(declared));
                }
                continue;
            }
            let kind = declared.iter().find(|setting| setting.key == name).map(|setting| setting.kind);
            if kind.is_none() && name != STATE {
                let meant = nearest(&name, names(declared));
                if meant.is_none() {
                    self.errors.valid.get_or_insert_with(|| valid(declared));
                }
                let meant = meant.map(|known| format!(", did you mean -{known}?")).unwrap_or_default();
                let number = count.saturating_sub(flags.len());
                let shown = if is_shown(declared, &name) { format!("-{name}") } else { format!("in word {number}") };
                self.errors.texts.push(format!("unknown flag {shown}{meant}"));
                // What follows is its value, most likely.
                if value.is_none() {
                    flags.next_if(|next| !next.starts_with('-'));
                }
                continue;
            }
            let is_boolean = matches!(kind, Some(SettingKind::Boolean | SettingKind::TlsSkipVerify));
            // A variable that is not set leaves no word, and the next flag in the place of the value.
            let is_value = |word: &&String| flag_of(word).is_none_or(|name| names(declared).all(|known| known != name));
            let next = || if is_boolean { Some("true".to_owned()) } else { flags.next_if(is_value).cloned() };
            let Some(value) = value.or_else(next) else {
                self.errors.texts.push(format!("flag -{name} needs a value"));
                self.unknown.push(name);
                continue;
            };
            if value.contains(UNKNOWABLE) {
                self.unknown.push(name.clone());
            }
            match kind {
                None => self.state = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from),
                // Empty means unset, as in the official plugins' own defaults.
                Some(SettingKind::Url | SettingKind::UnixSocket | SettingKind::File) if value.is_empty() => {}
                Some(kind) => self.settings.push((name, as_setting(kind, value))),
            }
        }
    }
}

/// The flag that a word is; the official plugins write some with an underscore.
fn flag_of(word: &str) -> Option<String> {
    let word = word.split_once('=').map_or(word, |(name, _)| name);
    let name = word.strip_prefix('-')?;
    Some(name.strip_prefix('-').unwrap_or(name).replace('_', "-"))
}

/// Whether the name of an unknown flag may be shown. One with a value in it may have a password: `-phunter2`, `-passwordhunter`.
fn is_shown(declared: &[Setting], name: &str) -> bool {
    let mut secrets = declared.iter().filter(|setting| setting.kind == SettingKind::Secret);
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && !secrets.any(|secret| name.strip_prefix(&*secret.key).is_some_and(|rest| rest.len() > MOST_TYPOS))
}

/// As many letters more may be a typo.
const MOST_TYPOS: usize = 2;

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
            // A shell leaves nothing of `$HEADER` and `$SOCKET`, if they are not set.
            (
                &["-header", "-socket", "--host", "a", "-connect_timeout", "-tempfile=/t"],
                "flag -header needs a value; flag -socket needs a value; flag -connect-timeout needs a value"
                    .to_owned(),
            ),
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
    fn an_unknown_flag_that_may_have_a_password_in_it_is_a_number() {
        for (flag, shown) in [
            ("-bogus", "-bogus"),
            ("-no-such=hunter2", "-no-such"),
            ("-header-x hunter2", "in word 1"),
            ("-phunter2", "in word 1"),
            ("--token:hunter", "in word 1"),
            ("-tokenhunter", "in word 1"),
            ("-tokens", "-tokens, did you mean -token?"),
        ] {
            let declared = [Setting::new("token", SettingKind::Secret)];
            let error = Flags::parse(&declared, &[flag.to_owned()]).error().unwrap();
            let said = error.split(';').next().unwrap();
            assert_eq!(said, format!("unknown flag {shown}"), "{error}");
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn the_value_in_front_of_the_rest_of_an_address_is_not_known() {
        let parsed = parsed(&["-socket", "/s", "-host", "http://me:12", "hunter2@web/"]);
        assert!(parsed.is_unknown("host") && !parsed.is_unknown("socket"));
        assert!(parsed.settings.iter().all(|(_, value)| !value.contains("12")));
    }

    #[test]
    fn a_word_that_only_a_shell_could_expand_is_noticed() {
        let parsed = parsed(&["\0", "-host", "a"]);
        assert!(parsed.has_unknowable && parsed.error().is_none() && parsed.settings.len() == 1);
    }
}
