//! The settings of one instance, validated by the agent.

use std::cell::OnceCell;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::bindings::wasaba::plugin::types::SettingValue;
use crate::{Error, FromSettings, Plugin, Secret, failed, misconfigured};

/// An instance's settings by their names: what the operator wrote, with the defaults filled in. `#[derive(Settings)]` reads them into
/// a struct: see [`FromSettings`](crate::FromSettings).
///
/// The agent has validated each value for its kind, so one that is missing is neither required nor has a default. A key that the plugin does
/// not declare is the author's mistake: what returns a `Result` fails with its name, what returns nothing else panics with it.
#[derive(Clone, Default)]
pub struct Settings {
    values: Vec<(String, Value)>,
    /// Declares them.
    describe: Option<fn() -> Plugin>,
    declared: OnceCell<Vec<String>>,
}

#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Secret(Secret),
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Secret(_) => None,
        }
    }

    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Text(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

impl Settings {
    pub(crate) fn from_values(values: Vec<(String, Value)>) -> Self {
        Self { values, ..Self::default() }
    }

    /// The same, of the plugin that this function describes.
    #[doc(hidden)]
    pub fn of(self, describe: fn() -> Plugin) -> Self {
        Self { describe: Some(describe), ..self }
    }

    /// Reads them into a struct with `#[derive(Settings)]`, where a function gets them by their names.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] with the name of the setting that is missing or invalid.
    pub fn read<S: FromSettings>(&self) -> Result<S, Error> {
        S::from_settings(self.clone())
    }

    /// The last value of `key`.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Each value of `key`, in the operator's order.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.values.iter().filter(move |(name, _)| name == key).map(|(_, value)| value)
    }

    /// What is wrong with a key that has no value, if the plugin does not declare it. The plugin is described only here.
    fn undeclared(&self, key: &str) -> Option<Error> {
        let describe = self.describe?;
        let declared = self
            .declared
            .get_or_init(|| describe().into_description().settings.into_iter().map(|setting| setting.key).collect());
        if declared.iter().any(|name| name == key) {
            return None;
        }
        let names = declared.iter().map(String::as_str).collect::<Vec<_>>();
        let meant = nearest(key, &names).map(|meant| format!(": did you mean `{meant}`?")).unwrap_or_default();
        Some(failed!("a mistake in the plugin: it reads the setting `{key}`, which it does not declare{meant}"))
    }

    /// Panics if a key that has no value is not declared.
    fn must_be_declared(&self, key: &str) {
        if let Some(mistake) = self.undeclared(key) {
            panic!("{mistake}");
        }
    }

    /// The value of `key`, if it is set and not a secret.
    ///
    /// # Panics
    /// The plugin does not declare `key`.
    #[inline(never)]
    pub fn get(&self, key: &str) -> Option<&str> {
        let value = self.value(key);
        if value.is_none() {
            self.must_be_declared(key);
        }
        value?.text()
    }

    /// Each value of a repeatable setting that is not a secret, in the operator's order.
    ///
    /// # Panics
    /// The plugin does not declare `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        if self.value(key).is_none() {
            self.must_be_declared(key);
        }
        self.values(key).filter_map(Value::text)
    }

    /// The secret `key`, if it is set and not empty.
    ///
    /// # Panics
    /// The plugin does not declare `key`.
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        let value = self.value(key);
        if value.is_none() {
            self.must_be_declared(key);
        }
        value?.secret().filter(|secret| secret.length() > 0)
    }

    /// Each value of a repeatable secret, in the operator's order.
    ///
    /// # Panics
    /// The plugin does not declare `key`.
    pub fn secrets<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a Secret> {
        if self.value(key).is_none() {
            self.must_be_declared(key);
        }
        self.values(key).filter_map(Value::secret)
    }

    /// The host and port of each value of a setting of kind `endpoint`.
    ///
    /// # Panics
    /// The plugin does not declare `key`.
    pub fn endpoints<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = (&'a str, u16)> {
        self.all(key).filter_map(|value| {
            let (host, port) = value.rsplit_once(':')?;
            Some((host, port.parse().ok()?))
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set; [`Error::Failed`] if the plugin does not declare it.
    pub fn text(&self, key: &str) -> Result<&str, Error> {
        let missing = || self.undeclared(key).unwrap_or_else(|| misconfigured!("`{key}` is not set"));
        self.value(key).and_then(Value::text).ok_or_else(missing)
    }

    /// The value of `key` parsed, as a number, a port or a boolean.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set or cannot be parsed, with the parser's reason; [`Error::Failed`] if the plugin does not
    /// declare it.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T, Error> {
        let text = self.text(key)?;
        text.parse().map_err(|why| misconfigured!("invalid value {text:?} in `{key}`: {why}"))
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

    /// The same of a key that [`Parts`](crate::Parts) declares, so that the plugin need not be described to find that it is declared.
    pub(crate) fn known_of<'v>(&self, key: &str, valid: &[&'v str]) -> Result<Vec<&'v str>, Error> {
        self.values(key).filter_map(Value::text).map(|value| known(key, value, valid)).collect()
    }

    /// The value of a setting of kind duration.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set or invalid.
    pub fn duration(&self, key: &str) -> Result<Duration, Error> {
        let text = self.text(key)?;
        duration(text)
            .ok_or_else(|| misconfigured!("invalid duration {text:?} in `{key}`: use one like 500ms, 10s or 5m"))
    }
}

/// A length of time, as the contract writes it.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_lowercase());
    let millis = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

pub(crate) fn known<'v>(key: &str, value: &str, valid: &[&'v str]) -> Result<&'v str, Error> {
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
#[cfg(target_family = "wasm")]
impl From<Vec<(String, SettingValue)>> for Settings {
    fn from(pairs: Vec<(String, SettingValue)>) -> Self {
        let value = |value| match value {
            SettingValue::Text(text) => Value::Text(text),
            SettingValue::Secret(secret) => Value::Secret(Secret::new(secret)),
        };
        Self::from_values(pairs.into_iter().map(|(key, given)| (key, value(given))).collect())
    }
}

/// For unit tests, which have no secrets and no declarations; [`testing::Host`](crate::testing::Host) has both.
impl From<Vec<(String, String)>> for Settings {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self::from_values(pairs.into_iter().map(|(key, text)| (key, Value::Text(text))).collect())
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

    fn described() -> Plugin {
        Plugin::new("q", "1", "").setting(crate::Setting::url("url")).setting(crate::Setting::secret("token"))
    }

    #[test]
    fn a_key_that_is_not_declared_is_the_authors_mistake_and_named() {
        let settings = Settings::from([("other", "x")]).of(described);
        assert_eq!(settings.text("url"), Err(misconfigured!("`url` is not set")));
        let mistake =
            "a mistake in the plugin: it reads the setting `urll`, which it does not declare: did you mean `url`?";
        assert_eq!(settings.text("urll"), Err(failed!("{mistake}")));
        assert_eq!(settings.parsed::<u16>("urll"), Err(failed!("{mistake}")));
        assert_eq!((settings.get("url"), settings.all("url").count(), settings.secrets("token").count()), (None, 0, 0));
        let reads: [fn(&Settings) -> bool; 5] = [
            |settings| settings.get("urll").is_some(),
            |settings| settings.all("urll").next().is_some(),
            |settings| settings.secret("urll").is_some(),
            |settings| settings.secrets("urll").next().is_some(),
            |settings| settings.endpoints("urll").next().is_some(),
        ];
        for read in reads {
            let panic = std::panic::catch_unwind(|| read(&Settings::default().of(described))).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(mistake));
        }
    }

    #[test]
    fn the_reason_of_a_parser_is_kept() {
        let error = Settings::from([("port", "70000")]).parsed::<u16>("port").unwrap_err();
        assert_eq!(error, misconfigured!("invalid value \"70000\" in `port`: number too large to fit in target type"));
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
