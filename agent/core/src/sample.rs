//! The sample: one named, finite number. It is the only thing that travels from a collector to an output.
//!
//! A [`Sample`] cannot hold a name that Mackerel would refuse, nor NaN or an infinity: both are checked once, here,
//! so that no room further in needs an `if`. It carries no time; the minute that it was collected for does.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A metric's name as Mackerel accepts it: `[A-Za-z0-9._-]+`, no empty segment between dots, at most
/// [`MetricName::MAX_BYTES`] long.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(Box<str>);

impl MetricName {
    /// The longest valid name. Mackerel documents no limit; this one keeps a plugin from filling the queue with names.
    pub const MAX_BYTES: usize = 255;

    /// Validates `name`.
    ///
    /// # Errors
    /// [`BadSample::Name`], with what is wrong with the name.
    pub fn new(name: impl Into<String>) -> Result<Self, BadSample> {
        let name = name.into();
        let refuse = |why| Err(BadSample::Name { name: name.chars().take(80).collect(), why });
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > Self::MAX_BYTES {
            return refuse("it is longer than 255 bytes");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return refuse("it may only contain A-Z a-z 0-9 . _ -");
        }
        if name.split('.').any(str::is_empty) {
            return refuse("a segment between dots is empty");
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for MetricName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl TryFrom<String> for MetricName {
    type Error = BadSample;

    fn try_from(name: String) -> Result<Self, BadSample> {
        Self::new(name)
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.0.into_string()
    }
}

/// Makes one segment of a metric name from any name: each character outside `[A-Za-z0-9_-]` becomes one `_`, as in the official
/// agent (`eth0.100` → `eth0_100`).
#[must_use]
pub fn segment(name: &str) -> String {
    name.chars()
        .map(|char| if char.is_ascii_alphanumeric() || matches!(char, '_' | '-') { char } else { '_' })
        .collect()
}

/// One value of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(MetricName, f64)", into = "(MetricName, f64)")]
pub struct Sample {
    name: MetricName,
    value: f64,
    host: Option<Arc<str>>,
}

impl Sample {
    /// A sample of `value` under `name`.
    ///
    /// # Errors
    /// A name that [`MetricName::new`] refuses, or a value that is NaN or infinite.
    pub fn new(name: impl Into<String>, value: f64) -> Result<Self, BadSample> {
        Self::of(MetricName::new(name)?, value)
    }

    /// A sample of `value` under a valid name.
    ///
    /// # Errors
    /// A value that is NaN or infinite.
    pub fn of(name: MetricName, value: f64) -> Result<Self, BadSample> {
        if value.is_finite() { Ok(Self { name, value, host: None }) } else { Err(BadSample::Value { name }) }
    }

    /// The same sample for another host, which Mackerel knows by this custom identifier.
    #[must_use]
    pub fn of_host(self, custom_identifier: &Arc<str>) -> Self {
        Self { host: Some(Arc::clone(custom_identifier)), ..self }
    }

    /// The custom identifier of the host that it belongs to; `None` for this host.
    #[must_use]
    pub fn host(&self) -> Option<&Arc<str>> {
        self.host.as_ref()
    }

    /// The host and the name, which are unique within a minute.
    #[must_use]
    pub fn key(&self) -> (Option<&str>, &MetricName) {
        (self.host.as_deref(), &self.name)
    }

    /// The metric's name.
    #[must_use]
    pub fn name(&self) -> &MetricName {
        &self.name
    }

    /// The value, always finite.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl TryFrom<(MetricName, f64)> for Sample {
    type Error = BadSample;

    fn try_from((name, value): (MetricName, f64)) -> Result<Self, BadSample> {
        Self::of(name, value)
    }
}

impl From<Sample> for (MetricName, f64) {
    fn from(sample: Sample) -> Self {
        (sample.name, sample.value)
    }
}

/// Why something cannot be a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSample {
    /// The name is not one that Mackerel accepts.
    Name {
        /// The name, cut to 80 characters.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The value is NaN or infinite.
    Value {
        /// The metric it was meant for.
        name: MetricName,
    },
}

impl fmt::Display for BadSample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, why } => write!(formatter, "invalid metric name {name:?}: {why}"),
            Self::Value { name } => write!(formatter, "the value of `{name}` is not a finite number"),
        }
    }
}

impl std::error::Error for BadSample {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_mackerels_alphabet_is_refused() {
        for bad in ["", "a b", "日本", "a..b", ".a", "a.", "a/b", "a\n", &"x".repeat(256)] {
            assert!(MetricName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["loadavg1", "cpu.user.percentage", "custom.a-b_c.0", &"x".repeat(255)] {
            assert_eq!(MetricName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_sample_cannot_hold_nan_or_infinity() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Sample::new("a", bad).is_err());
        }
        assert!(serde_json::from_str::<Sample>(r#"["a",1e999]"#).is_err());
    }

    #[test]
    fn each_foreign_character_becomes_one_underscore() {
        assert_eq!(segment("abc*defあ.ggg"), "abc_def__ggg");
    }
}
