//! The settings of one instance, as the agent checked them.

use crate::Error;

/// An instance's settings: what the operator wrote, with the defaults filled in.
///
/// The agent has checked each value against its kind, so a failure here means that the setting is not declared, or is
/// neither required nor has a default.
#[derive(Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// The value of `key`, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Each value of a repeatable setting, in the operator's order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set.
    pub fn text(&self, key: &str) -> Result<&str, Error> {
        self.get(key).ok_or_else(|| Error::Misconfigured(format!("`{key}` is not set")))
    }

    /// The value of `key` as a number, a port, a boolean: whatever it parses to.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] if it is not set or does not parse.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<T, Error> {
        self.text(key)?.parse().map_err(|_| Error::Misconfigured(format!("`{key}` cannot be used as it is written")))
    }
}

/// For unit tests, and what the agent hands in.
impl From<Vec<(String, String)>> for Settings {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }
}

/// For unit tests: `Settings::from([("host", "localhost")])`.
impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_setting_keeps_the_operators_order_and_its_last_value_counts_alone() {
        let settings = Settings::from([("header", "a: 1"), ("path", "/"), ("header", "b: 2")]);
        assert_eq!(settings.all("header").collect::<Vec<_>>(), ["a: 1", "b: 2"]);
        assert_eq!(settings.get("header"), Some("b: 2"));
    }

    #[test]
    fn a_setting_that_is_missing_or_does_not_parse_is_named() {
        let settings = Settings::from([("port", "http")]);
        let error = settings.parsed::<u16>("port").unwrap_err();
        assert!(matches!(error, Error::Misconfigured(text) if text.contains("`port`")));
        assert!(matches!(settings.text("host"), Err(Error::Misconfigured(text)) if text.contains("`host`")));
    }
}
