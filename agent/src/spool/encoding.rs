//! The bytes of what the spool stores: a minute's samples, and the last readings of counters.
//!
//! Samples are stored exactly (a decimal form would have to round), each as one byte with the length of its name, the name
//! and eight bytes of value. What cannot be decoded is an error, never a guess. The file around the bytes is `disk`'s.

use std::collections::BTreeMap;

use crate::sample::{MetricName, Sample};

use crate::collect::rate::Reading;

// The length of a name is one byte.
const _: () = assert!(MetricName::MAX_BYTES <= u8::MAX as usize);

/// The bytes of a minute.
pub(super) fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(samples.iter().map(|sample| sample.name().as_str().len() + 9).sum());
    for sample in samples {
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
    while let Some((&length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (value, rest) = rest.split_first_chunk::<8>()?;
        samples.push(Sample::new(std::str::from_utf8(name).ok()?, f64::from_le_bytes(*value)).ok()?);
        bytes = rest;
    }
    Some(samples)
}

/// The bytes of all readings: JSON, with each value as the number of its bits, since decimals would be rounded.
pub(super) fn encode_readings(readings: &BTreeMap<String, Reading>) -> Vec<u8> {
    let plain: BTreeMap<&str, (u64, i64)> = readings
        .iter()
        .map(|(name, reading)| (name.as_str(), (reading.value.to_bits(), reading.unix_millis)))
        .collect();
    serde_json::to_vec(&plain).unwrap_or_default()
}

/// The readings, or `None` if `bytes` were not made by [`encode_readings`].
pub(super) fn decode_readings(bytes: &[u8]) -> Option<BTreeMap<String, Reading>> {
    let plain: BTreeMap<String, (u64, i64)> = serde_json::from_slice(bytes).ok()?;
    Some(
        plain
            .into_iter()
            .map(|(name, (bits, unix_millis))| (name, Reading { value: f64::from_bits(bits), unix_millis }))
            .collect(),
    )
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
    fn cut_or_foreign_bytes_are_refused() {
        let bytes = encode(&[Sample::new("loadavg1", 1.5).unwrap()]);
        for end in 1..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "{end} bytes were accepted");
        }
        assert!(decode(&[3, b'a', b' ', b'b', 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(decode_readings(b"{}x").is_none());
    }

    #[test]
    fn readings_come_back_bit_for_bit() {
        let reading = Reading { value: f64::MAX, unix_millis: -1 };
        let readings = BTreeMap::from([("nginx requests".to_owned(), reading)]);
        assert_eq!(decode_readings(&encode_readings(&readings)), Some(readings));
    }
}
