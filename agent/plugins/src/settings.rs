//! The settings of one instance: the operator's, validated against those that the plugin declares; and the grants in them.

use std::borrow::Cow;

use config::raw::RawSettings;
use official::command_line::{self, CommandLine, Given};
use sandbox::capabilities::grants::{Grants, Origin, has_user};
use wasaba_core::nearest::nearest;
use wasaba_core::secret::{Secret, without_login};
use wasaba_core::setting::{Reach, Setting, SettingKind, SettingValue};
use wasaba_core::tls;
use wasaba_core::tls::Verification;

/// As many unknown settings are named.
const MOST_UNKNOWN: usize = 10;

/// The settings of one instance with its command line parsed, not yet validated. It has no `Debug`: there may be secrets in it.
#[derive(Clone, Default)]
pub struct ResolvedSettings {
    /// Keys and values, and which certificates its connections trust.
    pub given: Given,
    /// The `allow` list: what may be reached in addition to the settings.
    pub allow: Vec<String>,
    /// Whether the plugin may see the text of its secrets.
    pub reveal: bool,
    /// The value that the header `host` of its requests may have.
    pub virtual_host: Option<String>,
    /// Keys whose values were read from a file or the environment; only secrets may be.
    pub references: Vec<String>,
    /// Their table, where a grant would be added, for messages.
    pub place: String,
    /// Which of them were typed as flags, for messages.
    pub typed: Typed,
}

/// The settings that messages call flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Typed {
    /// None: all are in a table.
    #[default]
    None,
    /// Those with these keys; the rest is in a table.
    Keys(Vec<String>),
    /// All of them, also one that is missing: there is no table.
    All,
}

/// What is wrong with the settings: a line that names the setting and what is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// In the table.
    InTable(String),
    /// In a flag, which the line names.
    InFlag(String),
}

/// The problems with the settings in `raw`, a line each, with its origin.
#[must_use]
pub fn lines(raw: &RawSettings, problems: Vec<Invalid>) -> Vec<String> {
    let line = |problem| match problem {
        Invalid::InTable(problem) => raw.problem(&problem),
        Invalid::InFlag(problem) => problem,
    };
    problems.into_iter().map(line).collect()
}

impl ResolvedSettings {
    /// The same with this command line.
    ///
    /// # Errors
    /// The part of the command line that has no equivalent.
    pub fn merged_with(mut self, line: &CommandLine, plugin: &str, declared: &[Setting]) -> Result<Self, Box<Refused>> {
        let is_valid = |setting: &Setting, value: &str| well_formed(setting, value).is_ok();
        match line.merged_with(std::mem::take(&mut self.given), plugin, declared, is_valid) {
            Ok(given) => Ok(Self { given, ..self }),
            Err(refused) => {
                let command_line::Refused { why, rest, unknown } = *refused;
                let why = if self.typed == Typed::None { Invalid::InTable(why) } else { Invalid::InFlag(why) };
                Err(Box::new(Refused { why, rest: Self { given: rest, ..self }, unknown }))
            }
        }
    }

    fn is_typed(&self, key: &str) -> bool {
        match &self.typed {
            Typed::None => false,
            Typed::Keys(keys) => keys.iter().any(|typed| typed == key),
            Typed::All => true,
        }
    }

    /// A problem with the setting `key`: `says` is about its name in messages.
    fn invalid(&self, key: &str, says: impl FnOnce(&str) -> String) -> Invalid {
        match self.is_typed(key) {
            true => Invalid::InFlag(says(&format!("-{key}"))),
            false => Invalid::InTable(says(&format!("the setting `{key}`"))),
        }
    }
}

/// A command line that has no equivalent, and the rest of the settings. It has no `Debug`: there may be secrets in it.
pub struct Refused {
    why: Invalid,
    rest: ResolvedSettings,
    /// The settings of which nothing is known, or is said already.
    unknown: Vec<String>,
}

impl Refused {
    /// Everything that is wrong: with the line, and with the settings that are known all the same.
    #[must_use]
    pub fn problems(self, declared: &[Setting], reach: Reach) -> Vec<Invalid> {
        let known = declared.iter().filter(|setting| !self.unknown.contains(&setting.key)).cloned().collect::<Vec<_>>();
        let mut rest = self.rest;
        rest.given.settings.retain(|(key, _)| !self.unknown.contains(key));
        std::iter::once(self.why).chain(validate(&known, reach, &rest).err().unwrap_or_default()).collect()
    }
}

/// An instance's settings as the plugin gets them, and their grants. It has no `Debug`: there may be secrets in it.
#[derive(Default)]
pub struct ValidatedSettings {
    /// Each declared setting that has a value, in the order of declaration.
    pub values: Vec<(String, SettingValue)>,
    /// What must not be shown.
    pub secrets: Vec<Secret>,
    /// The instance's grants.
    pub grants: Grants,
}

/// Parses the command line in `raw`, if there is one, for the plugin that the configuration names `plugin`.
///
/// # Errors
/// The part of the command line that has no equivalent.
pub fn resolve(raw: &RawSettings, plugin: &str, declared: &[Setting]) -> Result<ResolvedSettings, Box<Refused>> {
    let raw = raw.clone();
    let RawSettings { settings, allow, reveal, virtual_host, trust, references, command_line, place, line: _ } = raw;
    let given = Given { settings, trust };
    let resolved = ResolvedSettings { given, allow, reveal, virtual_host, references, place, typed: Typed::None };
    match command_line {
        Some(line) => resolved.merged_with(&line, plugin, declared),
        None => Ok(resolved),
    }
}

/// Validates `resolved` against the plugin's `declared` settings, and grants what they name as far as the plugin says that it reaches
/// it.
///
/// # Errors
/// Every problem, each as a line that names the setting and what is valid.
pub fn validate(
    declared: &[Setting],
    reach: Reach,
    resolved: &ResolvedSettings,
) -> Result<ValidatedSettings, Vec<Invalid>> {
    let mut problems = unknown(declared, resolved).into_iter().map(Invalid::InTable).collect::<Vec<_>>();
    let mut validated = ValidatedSettings::default();
    let ResolvedSettings { place, reveal, virtual_host, .. } = resolved.clone();
    let trust = resolved.given.trust.clone();
    validated.grants = Grants { trust, reach, reveal, virtual_host, place, ..Grants::default() };
    // What is not secret, for the grants in it.
    let mut texts = Vec::new();
    for setting in declared {
        let values =
            resolved.given.settings.iter().filter(|(key, _)| *key == setting.key).map(|(_, value)| value.clone());
        let mut values = values.collect::<Vec<_>>();
        if values.len() > 1 && !setting.repeatable {
            let count = values.len();
            problems.push(
                resolved.invalid(&setting.key, |name| format!("{name} is set {count} times; it takes a single value")),
            );
        }
        if values.is_empty() {
            values.extend(setting.default.clone());
        }
        if values.is_empty() && setting.required {
            let help = &setting.help;
            problems.push(match resolved.typed {
                Typed::All => Invalid::InFlag(format!("missing flag -{}: {help}", setting.key)),
                _ => Invalid::InTable(format!("missing setting `{}`: {help}", setting.key)),
            });
        }
        for value in values {
            let checked = well_formed(setting, &value).and_then(|()| match setting.kind {
                SettingKind::Secret => {
                    let secret = Secret::new(value);
                    validated.secrets.push(secret.clone());
                    Ok(SettingValue::Secret(secret))
                }
                SettingKind::Url => without_user(&value, &mut validated).map(SettingValue::Text),
                _ => Ok(SettingValue::Text(value)),
            });
            match checked {
                Ok(value) => {
                    if let SettingValue::Text(text) = &value {
                        texts.push((setting.key.clone(), text.clone()));
                    }
                    validated.values.push((setting.key.clone(), value));
                }
                Err(why) => problems.push(resolved.invalid(&setting.key, |name| format!("{name} {why}"))),
            }
        }
    }
    let shown =
        |key: &&String| declared.iter().any(|setting| setting.key == **key && setting.kind != SettingKind::Secret);
    for key in resolved.references.iter().filter(shown) {
        problems.push(Invalid::InTable(format!(
            "the setting `{key}` is not a secret and may appear in messages, so it must not come from a file or the environment"
        )));
    }
    for (number, entry) in (1..).zip(&resolved.allow) {
        if let Err(why) = validated.grants.allow(entry) {
            // It may have a user and password, which no entry must have.
            let shown = without_login(entry).map_or_else(|| format!("entry {number}"), |shown| format!("{shown:?}"));
            problems.push(Invalid::InTable(format!("{shown} in `allow` {why}")));
        }
    }
    // Checked now, so that a wrong file is reported at the start and not with the first connection.
    let of_files = tls::check(&resolved.given.trust).err().unwrap_or_default();
    problems.extend(of_files.into_iter().map(|why| Invalid::InTable(format!("`tls`: {why}"))));
    if !problems.is_empty() {
        return Err(problems);
    }
    grant(declared, resolved, &texts, &mut validated.grants);
    Ok(validated)
}

/// Whether each problem of [`validate`] is a required setting that is missing.
#[must_use]
pub fn lacks_only_settings(declared: &[Setting], reach: Reach, resolved: &ResolvedSettings) -> bool {
    let is_given = |key: &str| resolved.given.settings.iter().any(|(given, _)| given == key);
    let is_missing = |setting: &&Setting| setting.required && setting.default.is_none() && !is_given(&setting.key);
    let missing = declared.iter().filter(is_missing).count();
    validate(declared, reach, resolved).is_err_and(|problems| problems.len() == missing)
}

fn unknown(declared: &[Setting], resolved: &ResolvedSettings) -> Vec<String> {
    let keys = || declared.iter().map(|setting| setting.key.as_str());
    let valid = keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let unknown = resolved.given.settings.iter().filter(|(key, _)| keys().all(|known| known != key));
    let is_given = |key: &String| resolved.given.settings.iter().any(|(given, _)| given == key);
    let free = declared.iter().filter(|setting| setting.repeatable || !is_given(&setting.key));
    let free = free.map(|setting| setting.key.as_str()).collect::<Vec<_>>();
    let problem = |(key, _): &(String, String)| match nearest(key, free.iter().copied()) {
        Some(nearest) => format!("unknown setting `{key}`, did you mean `{nearest}`? valid: {valid}"),
        None if valid.is_empty() => format!("unknown setting `{key}`: the plugin has no settings"),
        None => format!("unknown setting `{key}`; valid: {valid}"),
    };
    let more = unknown.clone().count().saturating_sub(MOST_UNKNOWN);
    let more = (more > 0).then(|| format!("and {more} more unknown settings"));
    unknown.take(MOST_UNKNOWN).map(problem).chain(more).collect()
}

/// `url` without the user name and password in it, which the agent sends itself, as the plugin's are secret.
fn without_user(url: &str, validated: &mut ValidatedSettings) -> Result<String, String> {
    let url = taken_out(url, validated)?;
    // The plugin would see what other spellings hide: `http:/me:secret@web`.
    if has_user(&url) {
        return Err("has a user name in an odd place: write it like http://user:password@host".to_owned());
    }
    Ok(url)
}

fn taken_out(url: &str, validated: &mut ValidatedSettings) -> Result<String, String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(url.to_owned()) };
    // As browsers do: a backslash ends the host, too, and the last @ before its end counts.
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else { return Ok(url.to_owned()) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = decoded(name).zip(decoded(password));
    let (name, password) = decoded.ok_or_else(|| {
        "has an invalid % escape in its user name or password: write %25 for the character itself".to_owned()
    })?;
    let url = format!("{scheme}://{host}{path}");
    let both = Secret::new(format!("{name}:{password}"));
    // The part in the URL as it was written may be in a message, too.
    validated.secrets.extend([Secret::new(password), Secret::new(user)]);
    validated.grants.credentials.push((Origin::of_url(&url)?, both));
    Ok(url)
}

/// Decodes percent escapes such as `%40`.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Validates `value` for its kind. It is never in the error, since it may be a secret in the wrong place.
fn well_formed(setting: &Setting, value: &str) -> Result<(), String> {
    let good = match setting.kind {
        SettingKind::Text | SettingKind::Secret => return Ok(()),
        SettingKind::Integer => value.parse::<i64>().is_ok(),
        SettingKind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
        SettingKind::Boolean | SettingKind::TlsSkipVerify => matches!(value, "true" | "false"),
        SettingKind::Duration => is_duration(value),
        SettingKind::Url => return Origin::of_url(value).map(drop),
        SettingKind::Endpoint => return Origin::of_endpoint(value).map(drop),
        SettingKind::Host => return Origin::of_host(value, 0).map(drop),
        SettingKind::Port => value.parse::<u16>().is_ok_and(|port| port > 0),
        SettingKind::UnixSocket | SettingKind::File => value.starts_with('/') && !value.contains('\0'),
        SettingKind::TlsMode => tls_mode(setting, value).is_some(),
    };
    if good { Ok(()) } else { Err(format!("must be {}", kind_in_words(setting))) }
}

/// How strictly a `tls-mode` verifies the certificate. Without TLS nothing is verified, but a plugin that speaks it all the same gets
/// no less than the strictest.
fn tls_mode(setting: &Setting, value: &str) -> Option<Verification> {
    let alias = setting.aliases.iter().find(|(word, _)| word == value).map(|(_, meaning)| meaning.as_str());
    match alias.unwrap_or(value) {
        "off" | "full" => Some(Verification::Full),
        "encrypt" => Some(Verification::None),
        "ca" => Some(Verification::Authority),
        _ => None,
    }
}

fn is_duration(value: &str) -> bool {
    let digits = value.trim_end_matches(|char: char| char.is_ascii_lowercase());
    let unit = value.get(digits.len()..).unwrap_or_default();
    digits.parse::<u64>().is_ok() && matches!(unit, "ms" | "s" | "m" | "h")
}

/// The valid values of a setting, for messages and `plugin inspect`.
#[must_use]
pub fn kind_in_words(setting: &Setting) -> Cow<'static, str> {
    match setting.kind {
        SettingKind::Text => "text",
        SettingKind::Secret => "a secret",
        SettingKind::Integer => "a whole number",
        SettingKind::Number => "a number",
        SettingKind::Boolean => "true or false",
        SettingKind::Duration => "a duration like 500ms, 10s or 5m",
        SettingKind::Url => "an http or https URL",
        SettingKind::Endpoint => "a host and a port like db:5432",
        SettingKind::Host => "a host name or address",
        SettingKind::Port => "a port from 1 to 65535",
        SettingKind::UnixSocket => "the absolute path of a unix socket",
        SettingKind::File => "the absolute path of a file",
        SettingKind::TlsSkipVerify => "true or false (true: any certificate is accepted)",
        SettingKind::TlsMode => {
            let aliases = setting.aliases.iter().map(|(word, _)| word.as_str());
            let words = aliases.chain(["off", "encrypt", "ca", "full"]).collect::<Vec<_>>();
            return format!("one of {}", words.join(", ")).into();
        }
    }
    .into()
}

/// Derives the grants from the operator's values. A plugin's own default grants one HTTP origin on loopback and nothing else.
fn grant(declared: &[Setting], resolved: &ResolvedSettings, texts: &[(String, String)], grants: &mut Grants) {
    let by_operator = |key: &str| resolved.given.settings.iter().any(|(name, _)| name == key);
    let values = |setting: &Setting| {
        let own = texts.iter().filter(|(key, _)| *key == setting.key);
        own.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let local_default = |setting: &&Setting| {
        let default = setting.default.as_deref().filter(|_| setting.kind == SettingKind::Url);
        default.is_some_and(|default| Origin::of_url(default).is_ok_and(|origin| origin.is_loopback()))
    };
    let of_its_own = declared.iter().find(local_default).map(|setting| setting.key.as_str());
    for setting in declared {
        let written = by_operator(&setting.key);
        match setting.kind {
            SettingKind::Url if written || of_its_own == Some(&setting.key) => {
                grants.origins.extend(values(setting).iter().flat_map(|value| Origin::of_url(value)));
            }
            SettingKind::Endpoint if written => {
                grants.origins.extend(values(setting).iter().flat_map(|value| Origin::of_endpoint(value)));
            }
            SettingKind::Port => {
                let host = declared.iter().find(|other| setting.port_of.as_ref() == Some(&other.key));
                let Some(host) = host else { continue };
                let (host_value, port) = (values(host).pop(), values(setting).pop());
                let origin =
                    host_value.zip(port).and_then(|(host, port)| Origin::of_host(&host, port.parse().ok()?).ok());
                let origin = origin.filter(|origin| by_operator(&host.key) || (written && origin.is_loopback()));
                grants.origins.extend(origin);
            }
            // The plugin's own defaults must not weaken anything, nor open a socket or a file of this machine.
            SettingKind::TlsSkipVerify if written && values(setting).iter().any(|value| value == "true") => {
                grants.trust.verification = Verification::None;
            }
            SettingKind::TlsMode if written => {
                let mode = values(setting).pop().and_then(|value| tls_mode(setting, &value)).unwrap_or_default();
                // With an authority, who names one means it.
                let is_named = mode == Verification::None && grants.trust.authority.is_some();
                grants.trust.verification = if is_named { Verification::Authority } else { mode };
            }
            SettingKind::UnixSocket if written => grants.sockets.extend(values(setting)),
            SettingKind::File if written => grants.files.extend(values(setting)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use official::shell::simple_command;
    use url::Url;

    use super::*;

    fn setting(key: &str, kind: SettingKind, default: Option<&str>) -> Setting {
        Setting { default: default.map(str::to_owned), help: "why".into(), ..Setting::new(key, kind) }
    }

    fn resolved(settings: &[(&str, &str)]) -> ResolvedSettings {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let given = Given { settings, ..Given::default() };
        ResolvedSettings { given, place: "[plugin.metrics.x]".into(), ..ResolvedSettings::default() }
    }

    fn target(host: &str) -> [Setting; 2] {
        let port = setting("port", SettingKind::Port, Some("8080"));
        [setting("host", SettingKind::Host, Some(host)), Setting { port_of: Some("host".into()), ..port }]
    }

    /// Of a plugin that reaches everything.
    fn validate(declared: &[Setting], resolved: &ResolvedSettings) -> Result<ValidatedSettings, Vec<String>> {
        super::validate(declared, Reach::ALL, resolved).map_err(|problems| {
            let text = |problem| match problem {
                Invalid::InTable(text) => text,
                Invalid::InFlag(text) => format!("flag: {text}"),
            };
            problems.into_iter().map(text).collect()
        })
    }

    fn may(validated: &ValidatedSettings, url: &str) -> bool {
        validated.grants.check_url(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn the_operators_host_and_port_are_the_grant() {
        let validated = validate(&target("localhost"), &resolved(&[("host", "web"), ("port", "12345")])).ok().unwrap();
        assert!(may(&validated, "http://web:12345/status"));
        assert!(!may(&validated, "http://web:8080/"), "the default port is no longer granted");
        assert!(!may(&validated, "http://localhost:12345/"), "nor the default host");
        // By the word of the plugin, not by the spelling of the keys.
        let unrelated =
            [setting("hostname", SettingKind::Host, None), setting("port", SettingKind::Port, Some("5432"))];
        let validated = validate(&unrelated, &resolved(&[("hostname", "db")])).ok().unwrap();
        assert!(validated.grants.check_host("db", 5432).is_err());
    }

    #[test]
    fn a_missing_setting_is_distinguished_from_a_wrong_one() {
        let required = Setting { required: true, ..setting("user", SettingKind::Text, None) };
        let declared = [required, setting("port", SettingKind::Port, None)];
        for (given, expected) in [
            (&[] as &[(&str, &str)], true),
            (&[("port", "1")], true),
            (&[("user", "me")], false),
            (&[("port", "x")], false),
            (&[("hots", "x")], false),
        ] {
            assert_eq!(lacks_only_settings(&declared, Reach::ALL, &resolved(given)), expected, "{given:?}");
        }
    }

    #[test]
    fn each_endpoint_is_granted_with_its_own_port_and_no_other() {
        let declared = [Setting { repeatable: true, ..setting("at", SettingKind::Endpoint, Some("localhost:1")) }];
        let validated = validate(&declared, &resolved(&[("at", "a:1"), ("at", "[::1]:2")])).ok().unwrap();
        let may = |host: &str, port| validated.grants.check_host(host, port).is_ok();
        assert!(may("a", 1) && may("::1", 2));
        assert!(!may("a", 2) && !may("::1", 1) && !may("localhost", 1));
    }

    #[test]
    fn a_user_in_a_url_is_not_in_its_value_and_is_sent_to_that_server_alone() {
        let declared = [setting("uri", SettingKind::Url, None)];
        for (uri, url, user) in [
            ("http://bob:secret@a:81/s?t=x", "http://a:81/s?t=x", "bob:secret"),
            ("http://bob@a/s", "http://a/s", "bob:"),
            ("https://b%40b:p%3A%25@a", "https://a", "b@b:p:%"),
            ("http://b@b:p@a/@c", "http://a/@c", "b@b:p"),
            ("http://b:%C3%BC@[::1]:81/", "http://[::1]:81/", "b:ü"),
        ] {
            let ValidatedSettings { values, grants, .. } =
                validate(&declared, &resolved(&[("uri", uri)])).ok().unwrap();
            assert!(values == [("uri".to_owned(), SettingValue::Text(url.to_owned()))], "{uri}");
            let credentials = grants.credentials_for(&Url::parse(url).unwrap()).map(Secret::reveal);
            assert_eq!(credentials, Some(user), "{uri}");
        }
        for uri in ["http://a/b@c", "http://a?b@c", "http://a\\@b/", "http://a#b@c"] {
            let validated = validate(&declared, &resolved(&[("uri", uri)])).ok().unwrap();
            assert!(validated.grants.credentials.is_empty(), "{uri}");
        }
        for uri in ["http://bob:hunter%2@a", "http://bob:hunter%zz2@a", "http://b%:hunter2@a", "http://b:hunter%+12@a"]
        {
            let problems = validate(&declared, &resolved(&[("uri", uri)])).err().unwrap();
            let text = problems.concat();
            assert!(text.contains("`uri`") && text.contains("%25") && !text.contains("hunter"), "{text}");
        }
    }

    #[test]
    fn a_user_in_any_spelling_of_a_url_is_refused_or_taken_out() {
        let declared = [setting("uri", SettingKind::Url, None)];
        for uri in [
            "http:/me:hunter2@web",
            "http:me:hunter2@web",
            "http:///me:hunter2@web",
            "http:\\\\me:hunter2@web",
            "http:\\/me:hunter2@web/x",
            "ht\ntp:/\t/me:hunter2@web",
            "http://me:hunter2@you@/@web",
            " http:/me:hunter2@web ",
        ] {
            let (seen, why) = match validate(&declared, &resolved(&[("uri", uri)])) {
                Ok(validated) => (validated.values, String::new()),
                Err(problems) => (Vec::new(), problems.concat()),
            };
            let shows = |(_, value): &(String, SettingValue)| matches!(value, SettingValue::Text(url) if url.contains("hunter2"));
            assert!(!seen.iter().any(shows) && !why.contains("hunter2"), "{uri}: {why}");
        }
    }

    #[test]
    fn a_secret_is_a_handle_and_never_text() {
        let validated =
            validate(&[setting("token", SettingKind::Secret, None)], &resolved(&[("token", "hunter2")])).ok().unwrap();
        assert!(matches!(&validated.values[..], [(_, SettingValue::Secret(secret))] if secret.reveal() == "hunter2"));
    }

    #[test]
    fn a_required_certificate_is_verified_if_an_authority_is_configured() {
        let authority = tempfile::NamedTempFile::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        std::fs::write(authority.path(), made.cert.pem()).unwrap();
        let mut with_authority = resolved(&[("sslmode", "require")]);
        let aliases = vec![("disable".to_owned(), "off".to_owned()), ("require".to_owned(), "encrypt".to_owned())];
        let declared = [Setting { aliases, ..setting("sslmode", SettingKind::TlsMode, Some("disable")) }];
        let verification =
            |resolved: &ResolvedSettings| validate(&declared, resolved).ok().unwrap().grants.trust.verification;
        assert_eq!(verification(&with_authority), Verification::None);
        with_authority.given.trust.authority = Some(authority.path().to_owned());
        assert_eq!(verification(&with_authority), Verification::Authority);
    }

    #[test]
    fn a_plugins_own_default_grants_one_http_origin_on_loopback_and_nothing_else() {
        let url = |key: &str, default: &str| setting(key, SettingKind::Url, Some(default));
        let granted = |declared: &[Setting]| validate(declared, &resolved(&[])).ok().unwrap().grants.origins;
        let shown = |declared: &[Setting]| granted(declared).iter().map(ToString::to_string).collect::<Vec<_>>();
        let urls =
            [url("far", "http://evil.example"), url("uri", "http://localhost:8080/x"), url("other", "http://[::1]")];
        assert_eq!(shown(&urls), ["http://localhost:8080"]);
        let endpoint = setting("at", SettingKind::Endpoint, Some("localhost:6379"));
        assert!(granted(&[endpoint]).is_empty() && granted(&target("localhost")).is_empty());
        let port = |host: &str| validate(&target(host), &resolved(&[("port", "80")])).ok().unwrap();
        assert!(may(&port("localhost"), "http://localhost/"), "the operator named this port");
        assert!(!may(&port("evil.example"), "http://evil.example/"), "the operator named a port, not that host");
    }

    #[test]
    fn a_plugins_own_default_does_not_turn_off_the_verification_of_certificates() {
        let verification = |kind, default, resolved: &ResolvedSettings| {
            validate(&[setting("tls", kind, Some(default))], resolved).ok().unwrap().grants.trust.verification
        };
        let (skip, mode) = (SettingKind::TlsSkipVerify, SettingKind::TlsMode);
        assert_eq!(verification(skip, "true", &resolved(&[])), Verification::Full);
        assert_eq!(verification(skip, "false", &resolved(&[("tls", "true")])), Verification::None);
        assert_eq!(verification(mode, "encrypt", &resolved(&[])), Verification::Full);
        for (value, expected) in [
            ("encrypt", Verification::None),
            ("ca", Verification::Authority),
            ("full", Verification::Full),
            ("off", Verification::Full),
        ] {
            assert_eq!(verification(mode, "off", &resolved(&[("tls", value)])), expected, "{value}");
        }
    }

    #[test]
    fn only_the_operator_grants_a_socket_or_a_file() {
        let declared = [
            setting("socket", SettingKind::UnixSocket, Some("/run/docker.sock")),
            setting("log", SettingKind::File, Some("/etc/shadow")),
        ];
        let defaults = validate(&declared, &resolved(&[])).ok().unwrap().grants;
        assert!(defaults.check_socket("/run/docker.sock").is_err() && defaults.check_file("/etc/shadow").is_err());
        let operators =
            validate(&declared, &resolved(&[("socket", "/run/x.sock"), ("log", "/log")])).ok().unwrap().grants;
        assert_eq!((operators.check_socket("/run/x.sock"), operators.check_file("/log")), (Ok(()), Ok(())));
    }

    #[test]
    fn the_error_of_an_unusable_file_for_tls_names_it() {
        let mut with_tls = resolved(&[]);
        with_tls.given.trust.authority = Some("/no/such/ca.pem".into());
        let problems = validate(&[], &with_tls).err().unwrap();
        assert!(problems[0].contains("`tls`") && problems[0].contains("/no/such/ca.pem"), "{problems:?}");
    }

    #[test]
    fn a_refused_entry_of_allow_is_shown_without_its_user_and_password() {
        for (entry, shown) in [
            ("http://u:hunter2@h:x", "entry 2 in `allow` "),
            ("u:hunter2", "entry 2 in `allow` "),
            ("http://u:hunter2@h/", "\"http://h/\" in `allow` "),
            ("http://h/x", "\"http://h/x\" in `allow` "),
        ] {
            let given = ResolvedSettings { allow: vec!["db:5432".to_owned(), entry.to_owned()], ..resolved(&[]) };
            let problems = validate(&[], &given).err().unwrap().concat();
            assert!(problems.starts_with(shown) && !problems.contains("hunter2"), "{entry}: {problems}");
        }
    }

    #[test]
    fn allow_adds_to_the_grants_and_nothing_else() {
        let mut with_allow = resolved(&[]);
        with_allow.allow = vec!["https://status.example.com".into(), "db:5432".into()];
        let validated = validate(&[], &with_allow).ok().unwrap();
        assert!(may(&validated, "https://status.example.com/x") && may(&validated, "http://db:5432/"));
        assert!(!may(&validated, "http://status.example.com/x"));
    }

    #[test]
    fn of_many_unknown_settings_the_first_are_named_and_the_rest_counted() {
        let many = (0..60_000).map(|number| format!("unknown{number}")).collect::<Vec<_>>();
        let many = many.iter().map(|key| (key.as_str(), "1")).collect::<Vec<_>>();
        let problems = validate(&[setting("port", SettingKind::Port, None)], &resolved(&many)).err().unwrap();
        assert_eq!((problems.len(), problems[10].as_str()), (11, "and 59990 more unknown settings"));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let declared = [
            Setting { required: true, ..setting("token", SettingKind::Secret, None) },
            setting("port", SettingKind::Port, None),
        ];
        let problems = validate(&declared, &resolved(&[("prot", "1"), ("port", "0"), ("tokne", "x")])).err().unwrap();
        assert_eq!(
            problems,
            [
                "unknown setting `prot`; valid: `token`, `port`",
                "unknown setting `tokne`, did you mean `token`? valid: `token`, `port`",
                "missing setting `token`: why",
                "the setting `port` must be a port from 1 to 65535",
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_with_a_line_and_its_table_is_said_at_once() {
        let declared = [
            Setting { required: true, ..setting("user", SettingKind::Text, None) },
            Setting { required: true, ..setting("database", SettingKind::Text, None) },
            setting("port", SettingKind::Port, None),
            setting("sslmode", SettingKind::TlsMode, None),
            setting("timeout", SettingKind::Duration, None),
            setting("hostname", SettingKind::Host, None),
        ];
        let command = "mackerel-plugin-postgres -bogus=1 -port abc -sslmode=maybe -timeout x -hostname a@b -user";
        let (_, line, _) = CommandLine::of_command(simple_command(command, |_| None), &[], |_| None).unwrap();
        let given = ResolvedSettings { allow: vec!["nonsense".to_owned()], ..resolved(&[]) };
        let refused = given.merged_with(&line, "postgres", &declared).err().unwrap();
        let problems = lines(&RawSettings::default(), refused.problems(&declared, Reach::ALL));
        let expected = [
            "unknown flag -bogus; flag -user needs a value; valid flags: -user, -database, -port, -sslmode, -timeout, -hostname, \
             -tempfile; write `wasm = \"postgres\"` and `settings = { port = \"...\", sslmode = \"...\", timeout = \"...\", \
             hostname = \"...\" }` instead of the command, with the value of each `...`",
            "missing setting `database`: why",
            "the setting `port` must be a port from 1 to 65535",
            "the setting `sslmode` must be one of off, encrypt, ca, full",
            "the setting `timeout` must be a duration like 500ms, 10s or 5m",
            "the setting `hostname` is not a host name or address (",
            "\"nonsense\" in `allow` ",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        let is_as_expected = |(problem, expected): (&String, &&str)| problem.starts_with(expected);
        assert!(problems.iter().zip(&expected).all(is_as_expected), "{problems:#?}");
    }

    #[test]
    fn the_problem_of_a_typed_setting_names_its_flag_and_that_of_another_its_table() {
        let declared = [
            Setting { required: true, ..setting("token", SettingKind::Secret, None) },
            setting("port", SettingKind::Port, None),
            setting("size", SettingKind::Integer, None),
        ];
        let problems = |typed| {
            let given = resolved(&[("port", "abc"), ("size", "x"), ("size", "2")]);
            validate(&declared, &ResolvedSettings { typed, ..given }).err().unwrap()
        };
        let expected = [
            "flag: missing flag -token: why",
            "flag: -port must be a port from 1 to 65535",
            "flag: -size is set 2 times; it takes a single value",
            "flag: -size must be a whole number",
        ];
        assert_eq!(problems(Typed::All), expected);
        let expected = [
            "missing setting `token`: why",
            "flag: -port must be a port from 1 to 65535",
            "the setting `size` is set 2 times; it takes a single value",
            "the setting `size` must be a whole number",
        ];
        assert_eq!(problems(Typed::Keys(vec!["port".to_owned()])), expected);
    }

    #[test]
    fn only_a_secret_may_come_from_a_file_or_the_environment() {
        let declared = [setting("password", SettingKind::Secret, None), setting("user", SettingKind::Text, None)];
        let referring = |key: &str| ResolvedSettings { references: vec![key.into()], ..resolved(&[(key, "hunter2")]) };
        assert_eq!(validate(&declared, &referring("password")).ok().unwrap().secrets, [Secret::new("hunter2")]);
        let problems = validate(&declared, &referring("user")).err().unwrap();
        assert!(problems[0].contains("`user` is not a secret") && !problems[0].contains("hunter2"), "{problems:?}");
    }

    #[test]
    fn each_kind_refuses_invalid_values() {
        for (kind, good, bad) in [
            (SettingKind::Integer, "-5", "1.5"),
            (SettingKind::Number, "1.5", "NaN"),
            (SettingKind::Boolean, "true", "yes"),
            (SettingKind::Duration, "500ms", "1d"),
            (SettingKind::Url, "https://a/b", "ftp://a"),
            (SettingKind::Host, "::1", "a b"),
            (SettingKind::Port, "65535", "65536"),
            (SettingKind::UnixSocket, "/run/x", "x"),
            (SettingKind::File, "/x", ""),
            (SettingKind::TlsSkipVerify, "false", "0"),
            (SettingKind::Endpoint, "db:1", "db"),
            (SettingKind::TlsMode, "encrypt", "require"),
        ] {
            assert_eq!(well_formed(&setting("a", kind, None), good), Ok(()), "{kind:?}");
            assert!(well_formed(&setting("a", kind, None), bad).is_err(), "{kind:?} accepts {bad:?}");
        }
    }
}
