//! The settings of one instance: what the operator wrote, held against what the plugin declares; and the grants in them.

use url::Url;

use crate::capabilities::bindings::exports::wasaba::plugin::plugin::{Setting, SettingKind};
use crate::capabilities::grants::{Grants, Origin};

/// An instance's settings as the plugin gets them, and what they permit. It has no `Debug`: there may be secrets in it.
#[derive(Default)]
pub struct Checked {
    /// Each declared setting that has a value, in the order of declaration.
    pub values: Vec<(String, String)>,
    /// What the instance may do.
    pub grants: Grants,
}

/// What was written for one instance.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Key and value; a list is a key several times.
    pub settings: Vec<(String, String)>,
    /// The `allow` list: origins beyond those in the settings.
    pub allow: Vec<String>,
    /// Where it was written, for messages: `[plugin.metrics.web]`.
    pub place: String,
}

/// Checks what was `written` against the plugin's `declared` settings.
///
/// # Errors
/// Every problem, each as a line that names the setting and what is valid.
pub fn check(declared: &[Setting], written: &Written) -> Result<Checked, Vec<String>> {
    let mut problems = unknown(declared, written);
    let mut checked = Checked::default();
    checked.grants.place.clone_from(&written.place);
    for setting in declared {
        let values = written.settings.iter().filter(|(key, _)| *key == setting.key).map(|(_, value)| value.clone());
        let mut values = values.collect::<Vec<_>>();
        if values.len() > 1 && !setting.repeatable {
            problems.push(format!("the setting `{}` is given {} times, it takes one value", setting.key, values.len()));
        }
        if values.is_empty() {
            values.extend(setting.default.clone());
        }
        if values.is_empty() && setting.required {
            problems.push(format!("the setting `{}` is required: {}", setting.key, setting.help));
        }
        for value in values {
            match well_formed(setting.kind, &value) {
                Ok(()) => checked.values.push((setting.key.clone(), value)),
                Err(why) => problems.push(format!("the setting `{}` {why}", setting.key)),
            }
        }
    }
    for origin in &written.allow {
        match Origin::of_url(origin).or_else(|why| host_and_port(origin).ok_or(why)) {
            Ok(origin) => checked.grants.origins.push(origin),
            Err(why) => {
                problems.push(format!("{origin:?} in `allow` {why}; write it like \"https://example.com:443\""))
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    grant(declared, written, &mut checked);
    Ok(checked)
}

fn unknown(declared: &[Setting], written: &Written) -> Vec<String> {
    let valid = || declared.iter().map(|setting| format!("`{}`", setting.key)).collect::<Vec<_>>().join(", ");
    let unknown = written.settings.iter().filter(|(key, _)| declared.iter().all(|setting| setting.key != *key));
    unknown.map(|(key, _)| format!("the plugin has no setting `{key}`; it has {}", valid())).collect()
}

fn host_and_port(text: &str) -> Option<Origin> {
    let (host, port) = text.rsplit_once(':')?;
    Origin::of_host(host, port.parse().ok()?).ok()
}

/// Whether `value` is of its kind. A secret is never in the error.
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
    };
    if good { Ok(()) } else { Err(format!("must be {}, not {value:?}", kind_in_words(kind))) }
}

fn is_duration(value: &str) -> bool {
    let digits = value.trim_end_matches(|char: char| char.is_ascii_lowercase());
    let unit = value.get(digits.len()..).unwrap_or_default();
    digits.parse::<u64>().is_ok() && matches!(unit, "ms" | "s" | "m" | "h")
}

/// What a kind takes, for messages and `plugin inspect`.
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
    }
}

/// Reads the grants out of the values. A plugin's own default counts only if it is loopback.
fn grant(declared: &[Setting], written: &Written, checked: &mut Checked) {
    let by_operator = |key: &str| written.settings.iter().any(|(name, _)| name == key);
    for setting in declared {
        let values = checked.values.iter().filter(|(key, _)| *key == setting.key).map(|(_, value)| value.as_str());
        match setting.kind {
            SettingKind::Url => {
                let origins = values.filter(|value| Url::parse(value).is_ok()).flat_map(Origin::of_url);
                let origins = origins.filter(|origin| by_operator(&setting.key) || origin.is_loopback());
                checked.grants.origins.extend(origins.collect::<Vec<_>>());
            }
            SettingKind::Port => {
                let host_key = setting.key.strip_suffix("port").map(|prefix| format!("{prefix}host"));
                let hosts = declared.iter().filter(|other| other.kind == SettingKind::Host);
                let Some(host) = hosts.into_iter().find(|other| Some(&other.key) == host_key.as_ref()) else {
                    continue;
                };
                let host_values = checked.values.iter().filter(|(key, _)| *key == host.key);
                let hosts_and_ports = host_values.flat_map(|(_, host)| values.clone().map(move |port| (host, port)));
                let origins = hosts_and_ports.filter_map(|(host, port)| Origin::of_host(host, port.parse().ok()?).ok());
                let origins = origins.filter(|origin| by_operator(&host.key) || origin.is_loopback());
                checked.grants.origins.extend(origins.collect::<Vec<_>>());
            }
            SettingKind::TlsSkipVerify => {
                // The plugin's own default must not weaken anything.
                checked.grants.tls_skip_verify |=
                    by_operator(&setting.key) && values.into_iter().any(|value| value == "true");
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

    fn written(settings: &[(&str, &str)]) -> Written {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Written { settings, allow: Vec::new(), place: "[plugin.metrics.x]".into() }
    }

    fn target(host: &str) -> [Setting; 2] {
        [setting("host", SettingKind::Host, Some(host)), setting("port", SettingKind::Port, Some("8080"))]
    }

    fn may(checked: &Checked, url: &str) -> bool {
        checked.grants.check_url(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn what_the_operator_writes_as_host_and_port_is_the_grant() {
        let checked = check(&target("localhost"), &written(&[("host", "web"), ("port", "12345")])).ok().unwrap();
        assert!(may(&checked, "http://web:12345/status"));
        assert!(!may(&checked, "http://web:8080/"), "the default port is no longer granted");
        assert!(!may(&checked, "http://localhost:12345/"), "nor the default host");
    }

    #[test]
    fn a_plugins_own_default_grants_only_loopback() {
        assert!(may(&check(&target("localhost"), &written(&[])).ok().unwrap(), "http://localhost:8080/"));
        assert!(!may(&check(&target("evil.example"), &written(&[])).ok().unwrap(), "http://evil.example:8080/"));
        let with_port = check(&target("evil.example"), &written(&[("port", "80")])).ok().unwrap();
        assert!(!may(&with_port, "http://evil.example/"), "the operator named a port, not that host");
        let url = [setting("uri", SettingKind::Url, Some("http://evil.example/"))];
        assert!(!may(&check(&url, &written(&[])).ok().unwrap(), "http://evil.example/"));
    }

    #[test]
    fn a_plugin_cannot_turn_off_the_look_at_certificates_by_its_default() {
        let skip = [setting("tls-skip-verify", SettingKind::TlsSkipVerify, Some("true"))];
        assert!(!check(&skip, &written(&[])).ok().unwrap().grants.tls_skip_verify);
        assert!(check(&skip, &written(&[("tls-skip-verify", "true")])).ok().unwrap().grants.tls_skip_verify);
    }

    #[test]
    fn allow_adds_to_the_grants_and_nothing_else() {
        let mut with_allow = written(&[]);
        with_allow.allow = vec!["https://status.example.com".into(), "db:5432".into()];
        let checked = check(&[], &with_allow).ok().unwrap();
        assert!(may(&checked, "https://status.example.com/x") && may(&checked, "http://db:5432/"));
        assert!(!may(&checked, "http://status.example.com/x"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let declared = [
            Setting { required: true, ..setting("token", SettingKind::Secret, None) },
            setting("port", SettingKind::Port, None),
        ];
        let problems = check(&declared, &written(&[("prot", "1"), ("port", "0")])).err().unwrap();
        assert_eq!(
            problems,
            [
                "the plugin has no setting `prot`; it has `token`, `port`",
                "the setting `token` is required: why",
                "the setting `port` must be a port from 1 to 65535, not \"0\"",
            ]
        );
    }

    #[test]
    fn each_kind_refuses_what_it_is_not() {
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
        ] {
            assert_eq!(well_formed(kind, good), Ok(()), "{kind:?}");
            assert!(well_formed(kind, bad).is_err(), "{kind:?} accepts {bad:?}");
        }
    }
}
