//! What a call has read: samples, and the targets without.

use std::ops::{Add, AddAssign};
use std::time::Duration;

use crate::Error;
use crate::bindings::metrics::exports::wasaba::plugin::metrics as wire;
use crate::bindings::wasaba::plugin::types;

/// A number that was read. Equal numbers are equal, whether they are whole or not.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Any number. NaN and infinities are dropped by the agent.
    Float(f64),
    /// A whole number, exact up to 2^64, as of a counter.
    Unsigned(u64),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Float(one), Self::Float(other)) => one == other,
            (Self::Unsigned(one), Self::Unsigned(other)) => one == other,
            // The way back tells a number that only its nearest float is equal to.
            (Self::Float(float), Self::Unsigned(whole)) | (Self::Unsigned(whole), Self::Float(float)) => {
                whole as f64 == float && float as u64 == whole
            }
        }
    }
}

/// A number that can be read: all integers, `f64` and `f32`, `bool` (1 or 0), and `Duration` (in seconds). Whole numbers that are not
/// negative are exact up to 2^64.
///
/// ```
/// # use std::time::Duration;
/// # use wasaba_plugin::prelude::*;
/// assert_eq!(Sample::new("queue.jobs.oldest", Duration::from_millis(1_500)), Sample::new("queue.jobs.oldest", 1.5));
/// ```
///
/// ```compile_fail,E0277
/// # use wasaba_plugin::prelude::*;
/// Sample::new("queue.jobs.waiting", "3");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a reading",
    label = "not a number",
    note = "readings are integers, `f64`, `f32`, `bool` and `Duration`; parse a text with `.parse::<u64>()?`, leave out an `Option` that is `None`"
)]
pub trait Reading {
    /// The number.
    fn value(&self) -> Value;
}

macro_rules! readings {
    ($($type:ty: $number:ident => $value:expr;)*) => {$(
        impl Reading for $type {
            fn value(&self) -> Value {
                let $number = *self;
                $value
            }
        }
    )*};
}

readings! {
    Value: value => value;
    f64: number => Value::Float(number);
    f32: number => Value::Float(number.into());
    u8: number => Value::Unsigned(number.into());
    u16: number => Value::Unsigned(number.into());
    u32: number => Value::Unsigned(number.into());
    u64: number => Value::Unsigned(number);
    usize: number => Value::Unsigned(number as u64);
    u128: number => u64::try_from(number).map_or(Value::Float(number as f64), Value::Unsigned);
    i8: number => i64::from(number).value();
    i16: number => i64::from(number).value();
    i32: number => i64::from(number).value();
    i64: number => u64::try_from(number).map_or(Value::Float(number as f64), Value::Unsigned);
    isize: number => (number as i64).value();
    i128: number => u64::try_from(number).map_or(Value::Float(number as f64), Value::Unsigned);
    bool: yes => Value::Unsigned(yes.into());
    Duration: time => Value::Float(time.as_secs_f64());
}

impl<T: Reading + ?Sized> Reading for &T {
    fn value(&self) -> Value {
        (**self).value()
    }
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
    /// The reading of the metric with this full name: the graph's name, a dot, the metric's name.
    pub fn new(name: impl Into<String>, reading: impl Reading) -> Self {
        Self { name: name.into(), value: reading.value(), unix_seconds: None, host: None, labels: Vec::new() }
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

impl From<Sample> for Readings {
    fn from(sample: Sample) -> Self {
        vec![sample].into()
    }
}

impl FromIterator<Sample> for Readings {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        Vec::from_iter(samples).into()
    }
}

impl Extend<Sample> for Readings {
    fn extend<I: IntoIterator<Item = Sample>>(&mut self, samples: I) {
        self.samples.extend(samples);
    }
}

impl<R: Into<Self>> AddAssign<R> for Readings {
    fn add_assign(&mut self, more: R) {
        let Self { samples, problems } = more.into();
        self.samples.extend(samples);
        self.problems.extend(problems);
    }
}

impl<R: Into<Self>> Add<R> for Readings {
    type Output = Self;

    fn add(mut self, more: R) -> Self {
        self += more;
        self
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
        let is_whole =
            |reading: &dyn Reading, number| matches!(reading.value(), Value::Unsigned(whole) if whole == number);
        assert!(is_whole(&u64::MAX, u64::MAX) && is_whole(&i64::MAX, i64::MAX as u64) && is_whole(&3, 3));
        assert!(is_whole(&3_usize, 3) && is_whole(&u128::from(u64::MAX), u64::MAX) && is_whole(&&true, 1));
        let is_float =
            |reading: &dyn Reading, number| matches!(reading.value(), Value::Float(float) if float == number);
        assert!(is_float(&-1_i8, -1.0) && is_float(&u128::MAX, 2_f64.powi(128)) && is_float(&0.5_f32, 0.5));
        assert!(is_float(&Duration::from_millis(1_500), 1.5));
        let sample = wire::Sample::from(Sample::new("a", 1_u64).at(5).of_host("db").label("k", "v"));
        assert!(matches!(sample.value, wire::Value::Unsigned(1)));
        assert_eq!((sample.unix_seconds, sample.host.as_deref(), sample.attributes.len()), (Some(5), Some("db"), 1));
    }

    #[test]
    fn a_number_is_equal_to_itself_whatever_its_type_and_to_no_neighbour() {
        assert_eq!(Sample::new("a", 3), Sample::new("a", 3.0));
        assert_ne!((u64::MAX - 1).value(), (u64::MAX as f64).value());
        assert_ne!((1_u64 << 53 | 1).value(), ((1_u64 << 53) as f64).value());
        assert_ne!(0_u64.value(), f64::NAN.value());
    }

    #[test]
    fn readings_add_up_with_their_problems() {
        let failed =
            Readings { problems: vec![("db2".to_owned(), Error::Timeout("why".to_owned()))], ..Readings::default() };
        let all = Readings::from(Sample::new("a", 1)) + vec![Sample::new("b", 2)] + failed.clone();
        assert_eq!((all.samples.len(), all.problems), (2, failed.problems));
    }
}
