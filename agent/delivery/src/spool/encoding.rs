//! The encoding of the spool's contents: the samples of a minute, the last readings of counters, the values of plugins.
//!
//! Samples are stored exactly (decimals would be rounded), each as one byte with the length of its name, the name and eight
//! bytes of value; before it, if it belongs to another host, a zero, two bytes with the length of that host's custom
//! identifier, and the identifier. Invalid bytes are an error, never a guess. The file around the bytes belongs to `disk`.

use std::collections::BTreeMap;

use wasaba_core::collect::rate::{Count, Reading};
use wasaba_core::sample::{MetricName, Sample};

use super::StoredValues;

// The length of a name is one byte.
const _: () = assert!(MetricName::MAX_BYTES <= u8::MAX as usize);

/// The bytes of a minute.
pub(super) fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(samples.iter().map(|sample| sample.name().as_str().len() + 9).sum());
    for sample in samples {
        if let Some(host) = sample.host() {
            bytes.push(0);
            bytes.extend_from_slice(&u16::try_from(host.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend_from_slice(host.as_bytes());
        }
        let name = sample.name().as_str().as_bytes();
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&sample.value().to_le_bytes());
    }
    bytes
}

/// The samples of a minute, or `None` if `bytes` were not made by [`encode`].
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Sample>> {
    let mut samples = Vec::new();
    while !bytes.is_empty() {
        let host = host(&mut bytes)?;
        let (&length, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (value, rest) = rest.split_first_chunk::<8>()?;
        let sample = Sample::new(std::str::from_utf8(name).ok()?, f64::from_le_bytes(*value)).ok()?;
        samples.push(match host {
            // Consecutive samples of one host share its name.
            Some(host) => match samples.last().and_then(Sample::host).filter(|last| ***last == *host).cloned() {
                Some(last) => sample.of_host(&last),
                None => sample.of_host(&host.into()),
            },
            None => sample,
        });
        bytes = rest;
    }
    Some(samples)
}

/// Takes the custom identifier off the front, if there is one; `None` if the bytes are truncated.
fn host<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let Some(rest) = bytes.strip_prefix(&[0]) else { return Some(None) };
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (host, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *bytes = rest;
    Some(Some(std::str::from_utf8(host).ok()?))
}

/// The bytes of a source's readings: JSON, with the bits of each value as a number, since decimals would be rounded, and whether
/// it is a whole number.
pub(super) fn encode_readings(readings: &BTreeMap<String, Reading>) -> Vec<u8> {
    let bits = |value| match value {
        Count::Float(number) => (number.to_bits(), false),
        Count::Whole(number) => (number, true),
    };
    let plain = readings.iter().map(|(name, Reading { value, unix_millis })| {
        let (bits, is_whole) = bits(*value);
        (name.as_str(), (bits, *unix_millis, is_whole))
    });
    let plain: BTreeMap<&str, (u64, i64, bool)> = plain.collect();
    serde_json::to_vec(&plain).unwrap_or_default()
}

/// The readings, or `None` if `bytes` were not made by [`encode_readings`].
pub(super) fn decode_readings(bytes: &[u8]) -> Option<BTreeMap<String, Reading>> {
    let plain: BTreeMap<String, (u64, i64, bool)> = serde_json::from_slice(bytes).ok()?;
    let reading = |(name, (bits, unix_millis, is_whole))| {
        let value = if is_whole { Count::Whole(bits) } else { Count::Float(f64::from_bits(bits)) };
        (name, Reading { value, unix_millis })
    };
    Some(plain.into_iter().map(reading).collect())
}

/// In place of a time: the instance is present.
pub(super) const PRESENT: i64 = 0;

/// The bytes of the values of an instance that is present: since when it is absent (seconds since 1970), and each key with its
/// value, one byte with the key's length, four with the value's.
pub(super) fn encode_values(values: &StoredValues) -> Vec<u8> {
    let mut bytes = PRESENT.to_le_bytes().to_vec();
    for (key, value) in values {
        // The capability refuses longer keys; a value of more than 4 GiB fits nowhere.
        bytes.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Since when the instance with the values in `bytes` is absent; `None` if [`encode_values`] did not make them.
pub(super) fn absent_since(bytes: &[u8]) -> Option<i64> {
    bytes.split_first_chunk::<8>().map(|(since, _)| i64::from_le_bytes(*since))
}

/// The same values of an instance that is absent `since` then.
pub(super) fn with_absence(bytes: &[u8], since: i64) -> Vec<u8> {
    [&since.to_le_bytes(), bytes.get(8..).unwrap_or_default()].concat()
}

/// The values, or `None` if `bytes` were not made by [`encode_values`].
pub(super) fn decode_values(bytes: &[u8]) -> Option<StoredValues> {
    let (_, mut bytes) = bytes.split_first_chunk::<8>()?;
    let mut values = StoredValues::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (key, rest) = rest.split_at_checked(usize::from(length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        values.insert(std::str::from_utf8(key).ok()?.to_owned(), value.to_vec());
        bytes = rest;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_back_bit_for_bit() {
        let long = "x".repeat(MetricName::MAX_BYTES);
        let values = [0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, 1e21, 9_007_199_254_740_993.0];
        let samples: Vec<_> = values.iter().map(|value| Sample::new(long.as_str(), *value).unwrap()).collect();
        let back = decode(&encode(&samples)).unwrap();
        assert_eq!(back, samples);
        assert!(back.iter().zip(values).all(|(sample, value)| sample.value().to_bits() == value.to_bits()));
    }

    #[test]
    fn a_sample_of_another_host_comes_back_with_its_host() {
        let sample = |value| Sample::new("loadavg1", value).unwrap();
        let (db, long) = ("db1".into(), "x".repeat(300).into());
        let samples = [sample(1.0), sample(2.0).of_host(&db), sample(3.0).of_host(&db), sample(4.0).of_host(&long)];
        let bytes = encode(&samples);
        assert_eq!(decode(&bytes).unwrap(), samples);
        assert!(decode(&bytes[..bytes.len() - 1]).is_none() && decode(&[0, 9, 0, b'a']).is_none());
    }

    #[test]
    fn truncated_or_foreign_bytes_are_refused() {
        let bytes = encode(&[Sample::new("loadavg1", 1.5).unwrap()]);
        for end in 1..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "{end} bytes were accepted");
        }
        assert!(decode(&[3, b'a', b' ', b'b', 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(decode_readings(b"{}x").is_none());
    }

    #[test]
    fn an_instances_values_come_back_byte_for_byte_and_truncated_bytes_are_refused() {
        let values = StoredValues::from([("k".repeat(255), vec![0, 255, 10]), ("empty".into(), Vec::new())]);
        let bytes = encode_values(&values);
        assert_eq!((decode_values(&bytes).as_ref(), absent_since(&bytes)), (Some(&values), Some(PRESENT)));
        let absent = with_absence(&bytes, -5);
        assert_eq!((decode_values(&absent), absent_since(&absent)), (Some(values), Some(-5)));
        let unnoticed = (0..bytes.len()).filter(|end| decode_values(&bytes[..*end]).is_some()).collect::<Vec<_>>();
        // A cut between two entries goes unnoticed here, but not by redb's checksum.
        assert_eq!(unnoticed, [8, 8 + 1 + 5 + 4]);
    }

    #[test]
    fn readings_come_back_bit_for_bit() {
        let values = [Count::Float(f64::MAX), Count::Float(0.1), Count::Whole(u64::MAX)];
        let reading = |value| (format!("nginx {value:?}"), Reading { value, unix_millis: -1 });
        let readings = BTreeMap::from(values.map(reading));
        assert_eq!(decode_readings(&encode_readings(&readings)), Some(readings));
    }
}
