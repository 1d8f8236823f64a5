//! The settings of one instance: the operator's, validated against those that the plugin declares; and the grants in them.

use config::raw::RawSettings;
use official::command_line::Given;
use sandbox::capabilities::grants::{Grants, Origin};
use url::Url;
use wasaba_core::nearest::nearest;
use wasaba_core::secret::Secret;
use wasaba_core::setting::{Setting, SettingKind};
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
    /// Keys whose values were read from a file or the environment; only secrets may be.
    pub references: Vec<String>,
    /// Their table, for messages.
    pub place: String,
}

/// An instance's settings as the plugin gets them, and their grants. It has no `Debug`: there may be secrets in it.
#[derive(Default)]
pub struct ValidatedSettings {
    /// Each declared setting that has a value, in the order of declaration.
    pub values: Vec<(String, String)>,
    /// The values that must not be shown.
    pub secrets: Vec<Secret>,
    /// The instance's grants.
    pub grants: Grants,
}

/// Parses the command line in `raw`, if there is one, for the plugin that the configuration names `plugin`.
///
/// # Errors
/// The part of the command line that has no equivalent.
pub fn resolve(raw: &RawSettings, plugin: &str, declared: &[Setting]) -> Result<ResolvedSettings, String> {
    let RawSettings { settings, allow, trust, references, command_line, place, line: _ } = raw.clone();
    let given = Given { settings, trust };
    let given = match command_line {
        Some(line) => line.merged_with(given, plugin, declared)?,
        None => given,
    };
    Ok(ResolvedSettings { given, allow, references, place })
}

/// Validates `resolved` against the plugin's `declared` settings.
///
/// # Errors
/// Every problem, each as a line that names the setting and what is valid.
pub fn validate(declared: &[Setting], resolved: &ResolvedSettings) -> Result<ValidatedSettings, Vec<String>> {
    let mut problems = unknown(declared, resolved);
    let mut validated = ValidatedSettings::default();
    validated.grants.place.clone_from(&resolved.place);
    validated.grants.trust = resolved.given.trust.clone();
    for setting in declared {
        let values =
            resolved.given.settings.iter().filter(|(key, _)| *key == setting.key).map(|(_, value)| value.clone());
        let mut values = values.collect::<Vec<_>>();
        if values.len() > 1 && !setting.repeatable {
            problems.push(format!("the setting `{}` is set {} times, but takes one value", setting.key, values.len()));
        }
        if values.is_empty() {
            values.extend(setting.default.clone());
        }
        if values.is_empty() && setting.required {
            problems.push(format!("the setting `{}` is required: {}", setting.key, setting.help));
        }
        for value in values {
            if setting.kind == SettingKind::Secret {
                validated.secrets.push(Secret::new(value.as_str()));
            }
            match well_formed(setting.kind, &value) {
                Ok(()) => validated.values.push((setting.key.clone(), value)),
                Err(why) => problems.push(format!("the setting `{}` {why}", setting.key)),
            }
        }
    }
    let shown =
        |key: &&String| declared.iter().any(|setting| setting.key == **key && setting.kind != SettingKind::Secret);
    for key in resolved.references.iter().filter(shown) {
        problems.push(format!(
            "the setting `{key}` is not a secret and may appear in messages, so it must not come from a file or the environment"
        ));
    }
    for entry in &resolved.allow {
        if let Err(why) = validated.grants.allow(entry) {
            problems.push(format!("{entry:?} in `allow` {why}"));
        }
    }
    // Checked now, so that a wrong file is reported at the start and not with the first connection.
    if let Err(why) = tls::client(&resolved.given.trust).map(drop) {
        problems.push(format!("`tls`: {why}"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    grant(declared, resolved, &mut validated);
    Ok(validated)
}

fn unknown(declared: &[Setting], resolved: &ResolvedSettings) -> Vec<String> {
    let keys = || declared.iter().map(|setting| setting.key.as_str());
    let valid = keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let unknown = resolved.given.settings.iter().filter(|(key, _)| keys().all(|known| known != key));
    let problem = |(key, _): &(String, String)| match nearest(key, keys()) {
        Some(nearest) => format!("unknown setting `{key}`, did you mean `{nearest}`? valid: {valid}"),
        None if valid.is_empty() => format!("unknown setting `{key}`: the plugin has no settings"),
        None => format!("unknown setting `{key}`; valid: {valid}"),
    };
    let more = unknown.clone().count().saturating_sub(MOST_UNKNOWN);
    let more = (more > 0).then(|| format!("and {more} more unknown settings"));
    unknown.take(MOST_UNKNOWN).map(problem).chain(more).collect()
}

/// Validates `value` for its kind. A secret is never in the error.
fn well_formed(kind: SettingKind, value: &str) -> Result<(), String> {
    let good = match kind {
        SettingKind::Text | SettingKind::Secret => return Ok(()),
        SettingKind::Integer => value.parse::<i64>().is_ok(),
        SettingKind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
        SettingKind::Boolean | SettingKind::TlsSkipVerify => matches!(value, "true" | "false"),
        SettingKind::Duration => is_duration(value),
        SettingKind::Url => return Origin::of_url(value).map(drop),
        SettingKind::Host => return Origin::of_host(value, 0).map(drop),
        SettingKind::Port => value.parse::<u16>().is_ok_and(|port| port > 0),
        SettingKind::UnixSocket | SettingKind::File => value.starts_with('/') && !value.contains('\0'),
        SettingKind::TlsMode => tls_mode(value).is_some(),
    };
    if good { Ok(()) } else { Err(format!("must be {}, not {value:?}", kind_in_words(kind))) }
}

/// How strictly a `tls-mode` verifies the certificate, in libpq's words; optional encryption protects from no attacker.
fn tls_mode(value: &str) -> Option<Verification> {
    match value {
        "disable" | "allow" | "prefer" | "require" => Some(Verification::None),
        "verify-ca" => Some(Verification::Authority),
        "verify-full" => Some(Verification::Full),
        _ => None,
    }
}

fn is_duration(value: &str) -> bool {
    let digits = value.trim_end_matches(|char: char| char.is_ascii_lowercase());
    let unit = value.get(digits.len()..).unwrap_or_default();
    digits.parse::<u64>().is_ok() && matches!(unit, "ms" | "s" | "m" | "h")
}

/// The valid values of a kind, for messages and `plugin inspect`.
#[must_use]
pub fn kind_in_words(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Text => "text",
        SettingKind::Secret => "a secret",
        SettingKind::Integer => "a whole number",
        SettingKind::Number => "a number",
        SettingKind::Boolean => "true or false",
        SettingKind::Duration => "a duration like 500ms, 10s or 5m",
        SettingKind::Url => "an http or https URL",
        SettingKind::Host => "a host name or address",
        SettingKind::Port => "a port from 1 to 65535",
        SettingKind::UnixSocket => "the absolute path of a unix socket",
        SettingKind::File => "the absolute path of a file",
        SettingKind::TlsSkipVerify => "true or false (true: any certificate is accepted)",
        SettingKind::TlsMode => "one of disable, allow, prefer, require, verify-ca, verify-full",
    }
}

/// Derives the grants from the values. A plugin's own default grants only loopback.
fn grant(declared: &[Setting], resolved: &ResolvedSettings, validated: &mut ValidatedSettings) {
    let by_operator = |key: &str| resolved.given.settings.iter().any(|(name, _)| name == key);
    for setting in declared {
        let values = validated.values.iter().filter(|(key, _)| *key == setting.key).map(|(_, value)| value.as_str());
        match setting.kind {
            SettingKind::Url => {
                let origins = values.filter(|value| Url::parse(value).is_ok()).flat_map(Origin::of_url);
                let origins = origins.filter(|origin| by_operator(&setting.key) || origin.is_loopback());
                validated.grants.origins.extend(origins.collect::<Vec<_>>());
            }
            SettingKind::Port => {
                let prefix = setting.key.strip_suffix("port");
                let is_its_host = |other: &&Setting| {
                    let rest = prefix.and_then(|prefix| other.key.strip_prefix(prefix));
                    other.kind == SettingKind::Host && matches!(rest, Some("host" | "hostname"))
                };
                let Some(host) = declared.iter().find(is_its_host) else { continue };
                let host_values = validated.values.iter().filter(|(key, _)| *key == host.key);
                let hosts_and_ports = host_values.flat_map(|(_, host)| values.clone().map(move |port| (host, port)));
                let origins = hosts_and_ports.filter_map(|(host, port)| Origin::of_host(host, port.parse().ok()?).ok());
                let origins = origins.filter(|origin| by_operator(&host.key) || origin.is_loopback());
                validated.grants.origins.extend(origins.collect::<Vec<_>>());
            }
            // The plugin's own defaults must not weaken anything, nor open a socket or a file of this machine.
            SettingKind::TlsSkipVerify if by_operator(&setting.key) && values.clone().any(|value| value == "true") => {
                validated.grants.trust.verification = Verification::None;
            }
            SettingKind::TlsMode if by_operator(&setting.key) => {
                let trust = &mut validated.grants.trust;
                let has_authority = trust.authority.is_some();
                let mut mode = values.filter_map(|value| match value {
                    // As libpq does if there is an authority.
                    "require" if has_authority => Some(Verification::Authority),
                    other => tls_mode(other),
                });
                trust.verification = mode.next_back().unwrap_or_default();
            }
            SettingKind::UnixSocket if by_operator(&setting.key) => {
                let paths = values.map(str::to_owned).collect::<Vec<_>>();
                validated.grants.sockets.extend(paths);
            }
            SettingKind::File if by_operator(&setting.key) => {
                let paths = values.map(str::to_owned).collect::<Vec<_>>();
                validated.grants.files.extend(paths);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, kind: SettingKind, default: Option<&str>) -> Setting {
        let default = default.map(str::to_owned);
        Setting { key: key.into(), kind, default, required: false, repeatable: false, help: "why".into() }
    }

    fn resolved(settings: &[(&str, &str)]) -> ResolvedSettings {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let given = Given { settings, ..Given::default() };
        ResolvedSettings { given, place: "[plugin.metrics.x]".into(), ..ResolvedSettings::default() }
    }

    fn target(host: &str) -> [Setting; 2] {
        [setting("host", SettingKind::Host, Some(host)), setting("port", SettingKind::Port, Some("8080"))]
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
        let hostname = [setting("hostname", SettingKind::Host, None), setting("port", SettingKind::Port, Some("5432"))];
        let validated = validate(&hostname, &resolved(&[("hostname", "db")])).ok().unwrap();
        assert!(validated.grants.check_host("db", 5432).is_ok());
    }

    #[test]
    fn a_required_certificate_is_verified_if_an_authority_is_configured() {
        let authority = tempfile::NamedTempFile::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        std::fs::write(authority.path(), made.cert.pem()).unwrap();
        let mut with_authority = resolved(&[("sslmode", "require")]);
        let declared = [setting("sslmode", SettingKind::TlsMode, Some("disable"))];
        let verification =
            |resolved: &ResolvedSettings| validate(&declared, resolved).ok().unwrap().grants.trust.verification;
        assert_eq!(verification(&with_authority), Verification::None);
        with_authority.given.trust.authority = Some(authority.path().to_owned());
        assert_eq!(verification(&with_authority), Verification::Authority);
    }

    #[test]
    fn a_plugins_own_default_grants_only_loopback() {
        assert!(may(&validate(&target("localhost"), &resolved(&[])).ok().unwrap(), "http://localhost:8080/"));
        assert!(!may(&validate(&target("evil.example"), &resolved(&[])).ok().unwrap(), "http://evil.example:8080/"));
        let with_port = validate(&target("evil.example"), &resolved(&[("port", "80")])).ok().unwrap();
        assert!(!may(&with_port, "http://evil.example/"), "the operator named a port, not that host");
        let url = [setting("uri", SettingKind::Url, Some("http://evil.example/"))];
        assert!(!may(&validate(&url, &resolved(&[])).ok().unwrap(), "http://evil.example/"));
    }

    #[test]
    fn a_plugins_own_default_does_not_turn_off_the_verification_of_certificates() {
        let verification = |kind, default, resolved: &ResolvedSettings| {
            validate(&[setting("tls", kind, Some(default))], resolved).ok().unwrap().grants.trust.verification
        };
        let (skip, mode) = (SettingKind::TlsSkipVerify, SettingKind::TlsMode);
        assert_eq!(verification(skip, "true", &resolved(&[])), Verification::Full);
        assert_eq!(verification(skip, "false", &resolved(&[("tls", "true")])), Verification::None);
        assert_eq!(verification(mode, "require", &resolved(&[])), Verification::Full);
        for (value, expected) in [
            ("require", Verification::None),
            ("verify-ca", Verification::Authority),
            ("verify-full", Verification::Full),
        ] {
            assert_eq!(verification(mode, "disable", &resolved(&[("tls", value)])), expected, "{value}");
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
        let problems = validate(&declared, &resolved(&[("prot", "1"), ("port", "0")])).err().unwrap();
        assert_eq!(
            problems,
            [
                "unknown setting `prot`, did you mean `port`? valid: `token`, `port`",
                "the setting `token` is required: why",
                "the setting `port` must be a port from 1 to 65535, not \"0\"",
            ]
        );
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
            (SettingKind::TlsMode, "require", "on"),
        ] {
            assert_eq!(well_formed(kind, good), Ok(()), "{kind:?}");
            assert!(well_formed(kind, bad).is_err(), "{kind:?} accepts {bad:?}");
        }
    }
}
