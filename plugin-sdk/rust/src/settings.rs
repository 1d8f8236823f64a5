//! The settings of one instance, validated by the agent.

use std::time::Duration;

use crate::bindings::wasaba::plugin::types::SettingValue;
use crate::{Error, Secret};

/// An instance's settings: what the operator wrote, with the defaults filled in.
///
/// The agent has validated each value for its kind, so an error here means that the setting is not declared, or is neither
/// required nor has a default.
#[derive(Default)]
pub struct Settings(Vec<(String, Value)>);

enum Value {
    Text(String),
    Secret(Secret),
}

impl Value {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Secret(_) => None,
        }
    }

    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Text(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

impl Settings {
    /// The value of `key`, if it is set and not a secret.
    #[inline(never)]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().filter(|(name, _)| name == key).find_map(|(_, value)| value.text())
    }

    /// Each value of a repeatable setting that is not a secret, in the operator's order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).filter_map(|(_, value)| value.text())
    }

    /// The secret `key`, if it is set and not empty.
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        let last = self.0.iter().rev().filter(|(name, _)| name == key).find_map(|(_, value)| value.secret());
        last.filter(|secret| secret.length() > 0)
    }

    /// Each value of a repeatable secret, in the operator's order.
    pub fn secrets<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a Secret> {
        self.0.iter().filter(move |(name, _)| name == key).filter_map(|(_, value)| value.secret())
    }

    /// The host and port of each value of a setting of kind `endpoint`.
    pub fn endpoints<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = (&'a str, u16)> {
        self.all(key).filter_map(|value| {
            let (host, port) = value.rsplit_once(':')?;
            Some((host, port.parse().ok()?))
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set.
    pub fn text(&self, key: &str) -> Result<&str, Error> {
        self.get(key).ok_or_else(|| Error::Misconfigured(format!("`{key}` is not set")))
    }

    /// The value of `key` parsed, as a number, a port or a boolean.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set or cannot be parsed.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<T, Error> {
        self.text(key)?.parse().map_err(|_| Error::Misconfigured(format!("`{key}` has an invalid value")))
    }

    /// The value of `key`, which must be one of `valid`.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not, or not set.
    pub fn one_of<'v>(&self, key: &str, valid: &[&'v str]) -> Result<&'v str, Error> {
        known(key, self.text(key)?, valid)
    }

    /// The values of a repeatable setting, each of which must be one of `valid`.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if one is not.
    pub fn some_of<'v>(&self, key: &str, valid: &[&'v str]) -> Result<Vec<&'v str>, Error> {
        self.all(key).map(|value| known(key, value, valid)).collect()
    }

    /// The value of a setting of kind duration.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set or invalid.
    pub fn duration(&self, key: &str) -> Result<Duration, Error> {
        let text = self.text(key)?;
        let digits = text.trim_end_matches(|char: char| char.is_ascii_lowercase());
        let millis = match text.get(digits.len()..) {
            Some("ms") => Some(1),
            Some("s") => Some(1_000),
            Some("m") => Some(60_000),
            Some("h") => Some(3_600_000),
            _ => None,
        };
        let duration = millis.and_then(|millis| digits.parse::<u64>().ok()?.checked_mul(millis));
        let invalid =
            || Error::Misconfigured(format!("invalid duration {text:?} in `{key}`: use one like 500ms, 10s or 5m"));
        duration.map(Duration::from_millis).ok_or_else(invalid)
    }
}

fn known<'v>(key: &str, value: &str, valid: &[&'v str]) -> Result<&'v str, Error> {
    valid.iter().find(|known| **known == value).copied().ok_or_else(|| {
        let meant = nearest(value, valid).map_or(String::from("; "), |meant| format!(", did you mean {meant:?}? "));
        Error::Misconfigured(format!("unknown value {value:?} in `{key}`{meant}valid: {}", valid.join(", ")))
    })
}

/// What was probably meant: the word that takes the fewest edits, if they are few for its length.
fn nearest<'v>(value: &str, valid: &[&'v str]) -> Option<&'v str> {
    let edits = valid.iter().map(|known| (edits(value, known), *known));
    let few = edits.filter(|(edits, known)| *edits <= (known.len() / 3).max(1));
    few.min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
}

/// The distance of optimal string alignment: how many bytes must be added, removed, replaced or swapped with the next to get from one
/// text to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    // The distances from the bytes before this one, and before the one before, to each start of `to`.
    let (mut before, mut row) = (Vec::<usize>::new(), (0..=to.len()).collect::<Vec<_>>());
    for (number, byte) in from.iter().enumerate() {
        let mut next = vec![number + 1];
        let mut left = number + 1;
        for (at, (other, above)) in to.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, above] = above else { continue };
            let last = |text: &[u8], index: usize| text.get(index.wrapping_sub(1)).copied();
            let is_swap = last(from, number) == Some(*other) && last(to, at) == Some(*byte);
            let swapped = before.get(at.wrapping_sub(1)).filter(|_| is_swap).map_or(usize::MAX, |edits| edits + 1);
            left = (diagonal + usize::from(byte != other)).min(above + 1).min(left + 1).min(swapped);
            next.push(left);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(from.len())
}

/// What the agent passes.
impl From<Vec<(String, SettingValue)>> for Settings {
    fn from(pairs: Vec<(String, SettingValue)>) -> Self {
        let value = |value| match value {
            SettingValue::Text(text) => Value::Text(text),
            SettingValue::Secret(secret) => Value::Secret(Secret(secret)),
        };
        Self(pairs.into_iter().map(|(key, given)| (key, value(given))).collect())
    }
}

/// For unit tests, which have no secrets.
impl From<Vec<(String, String)>> for Settings {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().map(|(key, text)| (key, Value::Text(text))).collect())
    }
}

/// For unit tests: `Settings::from([("host", "localhost")])`.
impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_setting_keeps_the_operators_order_and_get_returns_its_last_value() {
        let settings = Settings::from([("header", "a: 1"), ("path", "/"), ("header", "b: 2")]);
        assert_eq!(settings.all("header").collect::<Vec<_>>(), ["a: 1", "b: 2"]);
        assert_eq!(settings.get("header"), Some("b: 2"));
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        let settings = Settings::from([("at", "db:5432"), ("at", "[::1]:1")]);
        assert_eq!(settings.endpoints("at").collect::<Vec<_>>(), [("db", 5432), ("[::1]", 1)]);
    }

    #[test]
    fn a_missing_or_invalid_setting_is_named() {
        let settings = Settings::from([("port", "http")]);
        let error = settings.parsed::<u16>("port").unwrap_err();
        assert!(matches!(error, Error::Misconfigured(text) if text.contains("`port`")));
        assert!(matches!(settings.text("host"), Err(Error::Misconfigured(text)) if text.contains("`host`")));
    }

    #[test]
    fn an_unknown_value_is_refused_with_the_valid_ones() {
        let settings = Settings::from([("extra", "up"), ("extra", "locks"), ("compat", "old")]);
        assert_eq!(settings.some_of("extra", &["locks", "size", "up"]), Ok(vec!["up", "locks"]));
        assert_eq!(settings.some_of("other", &["up"]), Ok(vec![]));
        let refused = |text: &str| Err(Error::Misconfigured(text.to_owned()));
        let expected = refused("unknown value \"locks\" in `extra`; valid: up, size");
        assert_eq!(settings.some_of("extra", &["up", "size"]), expected.clone().map(|()| vec![]));
        let expected = refused("unknown value \"old\" in `compat`; valid: fixed, upstream");
        assert_eq!(settings.one_of("compat", &["fixed", "upstream"]), expected.map(|()| ""));
    }

    #[test]
    fn the_refusal_of_a_misspelt_value_suggests_the_one_that_was_meant() {
        let settings = |value| Settings::from([("extra", value)]);
        let error = settings("netwrok").some_of("extra", &["memory", "network"]).unwrap_err();
        let expected = "unknown value \"netwrok\" in `extra`, did you mean \"network\"? valid: memory, network";
        assert_eq!(error, Error::Misconfigured(expected.to_owned()));
        let meant = |value| nearest(value, &["up", "hit-ratio", "databases", "database"]);
        for (value, expected) in [
            ("hitratio", Some("hit-ratio")),
            ("databas", Some("database")),
            ("databasess", Some("databases")),
            ("u", Some("up")),
            ("pu", Some("up")),
            ("databsae", Some("database")),
            ("", None),
            ("updates", None),
            ("latency", None),
        ] {
            assert_eq!(meant(value), expected, "{value}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        let duration = |text| Settings::from([("timeout", text)]).duration("timeout");
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["5", "s", "5d", "-5s", "18446744073709551615h"] {
            assert!(matches!(duration(text), Err(Error::Misconfigured(_))), "{text}");
        }
    }
}
