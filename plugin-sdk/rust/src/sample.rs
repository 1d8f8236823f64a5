//! What a call has read: samples, and the targets without.

use crate::Error;
use crate::bindings::metrics::exports::wasaba::plugin::metrics as wire;
use crate::bindings::wasaba::plugin::types;

/// A number that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Any number. NaN and infinities are dropped by the agent.
    Float(f64),
    /// A whole number, exact up to 2^64, as of a counter.
    Unsigned(u64),
}

macro_rules! values {
    ($($type:ty => $case:ident;)*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::$case(number.into())
            }
        }
    )*};
}

values! {
    f64 => Float;
    f32 => Float;
    i32 => Float;
    i16 => Float;
    i8 => Float;
    u64 => Unsigned;
    u32 => Unsigned;
    u16 => Unsigned;
    u8 => Unsigned;
}

/// A number that was read, with the name of its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The graph's name, a dot, the metric's name.
    pub name: String,
    /// The reading.
    pub value: Value,
    /// When it was read, in seconds since 1970, if not now.
    pub unix_seconds: Option<u64>,
    /// The custom identifier of its host, if it is not the one of the operator's table.
    pub host: Option<String>,
    /// Labels, which Mackerel does not have.
    pub labels: Vec<(String, String)>,
}

impl Sample {
    /// The reading `value` of the metric with this full name: the graph's name, a dot, the metric's name.
    pub fn new(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { name: name.into(), value: value.into(), unix_seconds: None, host: None, labels: Vec::new() }
    }

    /// The same sample, read at this time in seconds since 1970. The agent drops what is more than a day old.
    #[must_use]
    pub fn at(self, unix_seconds: u64) -> Self {
        Self { unix_seconds: Some(unix_seconds), ..self }
    }

    /// The same sample for the host with this custom identifier on Mackerel, which the operator must list in `hosts`.
    #[must_use]
    pub fn of_host(self, custom_identifier: impl Into<String>) -> Self {
        Self { host: Some(custom_identifier.into()), ..self }
    }

    /// The same sample with a label more. Mackerel has none.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }
}

impl From<Sample> for wire::Sample {
    fn from(sample: Sample) -> Self {
        let Sample { name, value, unix_seconds, host, labels } = sample;
        let value = match value {
            Value::Float(number) => wire::Value::Float(number),
            Value::Unsigned(number) => wire::Value::Unsigned(number),
        };
        Self { name, value, unix_seconds, host, attributes: labels }
    }
}

/// What a call has read, for a plugin with several targets: the samples of some, and why others have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The samples.
    pub samples: Vec<Sample>,
    /// The targets without samples, in the operator's words, each with the reason.
    pub problems: Vec<(String, Error)>,
}

impl From<Vec<Sample>> for Readings {
    fn from(samples: Vec<Sample>) -> Self {
        Self { samples, problems: Vec::new() }
    }
}

impl From<Readings> for wire::Readings {
    fn from(Readings { samples, problems }: Readings) -> Self {
        let samples = samples.into_iter().map(Into::into).collect();
        Self { samples, problems: self::problems(problems), attributes: Vec::new() }
    }
}

/// Targets that failed, as the contract has them.
pub(crate) fn problems(problems: Vec<(String, Error)>) -> Vec<types::Problem> {
    let problem =
        |(target, error): (String, Error)| types::Problem { target, error: error.into(), attributes: Vec::new() };
    problems.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_stay_whole_and_others_are_floats() {
        assert_eq!(Value::from(u64::MAX), Value::Unsigned(u64::MAX));
        assert_eq!((Value::from(3_u8), Value::from(3)), (Value::Unsigned(3), Value::Float(3.0)));
        let sample = wire::Sample::from(Sample::new("a", 1_u64).at(5).of_host("db").label("k", "v"));
        assert!(matches!(sample.value, wire::Value::Unsigned(1)));
        assert_eq!((sample.unix_seconds, sample.host.as_deref(), sample.attributes.len()), (Some(5), Some("db"), 1));
    }
}
