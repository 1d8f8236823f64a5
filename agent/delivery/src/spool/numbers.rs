//! The values of a row, bit for bit in few bytes: a metric's values mostly share their size with others, and have few digits.
//!
//! A value is one byte and some half-bytes. The byte's upper six bits say which of the row's most frequent beginnings (sign and
//! exponent, twelve bits) it has, or that it brings its own; the lower two say how many half-bytes of its mantissa follow: the
//! others are zero. Zero takes one byte, a small whole number three, and 1/3 seven and a half.

use std::collections::BTreeMap;

use super::bytes::Cursor;

/// How many half-bytes of the mantissa may follow.
const LENGTHS: [u32; 4] = [0, 3, 7, 13];

/// In place of a beginning's index: it follows, in three half-bytes.
const OWN: u8 = 63;

/// Adds the values to `out`.
pub(super) fn pack(values: impl Iterator<Item = f64> + Clone, out: &mut Vec<u8>) {
    let mut counts = BTreeMap::<u16, usize>::new();
    values.clone().for_each(|value| *counts.entry(beginning(value)).or_default() += 1);
    let mut beginnings = counts.into_iter().collect::<Vec<_>>();
    beginnings.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    beginnings.truncate(usize::from(OWN));
    let indices = beginnings.iter().zip(0_u8..).map(|((beginning, _), index)| (*beginning, index));
    let indices = indices.collect::<BTreeMap<_, _>>();
    out.push(u8::try_from(beginnings.len()).unwrap_or(OWN));
    beginnings.iter().for_each(|(beginning, _)| out.extend_from_slice(&beginning.to_le_bytes()));
    let mut halves = Halves::default();
    for value in values {
        let mantissa = value.to_bits() & MANTISSA;
        let needed = 13 - (mantissa.trailing_zeros() / 4).min(13);
        let (class, length) =
            LENGTHS.iter().zip(0..).find(|(length, _)| **length >= needed).map_or((3, 13), |f| (f.1, *f.0));
        let index = indices.get(&beginning(value)).copied();
        out.push(index.unwrap_or(OWN) << 2 | class);
        if index.is_none() {
            halves.put(u64::from(beginning(value)), 3);
        }
        halves.put(mantissa >> (4 * (13 - length)), length);
    }
    out.extend_from_slice(&halves.bytes);
}

/// As many values as there are, from the bytes of [`pack`] alone.
pub(super) fn unpack(mut bytes: Cursor<'_>, count: usize) -> Option<Vec<f64>> {
    let beginnings = bytes.byte()?;
    let beginnings = bytes.take(2 * usize::from(beginnings))?.as_chunks::<2>().0;
    let controls = bytes.take(count)?;
    let mut halves = bytes.0.iter().flat_map(|byte| [byte & 0xf, byte >> 4]);
    let mut number =
        |length: u32| (0..length).try_fold(0_u64, |number, at| Some(number | u64::from(halves.next()?) << (4 * at)));
    let mut values = Vec::with_capacity(count);
    for control in controls {
        let beginning = match control >> 2 {
            OWN => number(3)?,
            index => u64::from(u16::from_le_bytes(*beginnings.get(usize::from(index))?)),
        };
        let length = *LENGTHS.get(usize::from(control & 3))?;
        let mantissa = if length == 0 { 0 } else { number(length)? << (4 * (13 - length)) };
        values.push(f64::from_bits(beginning << 52 | mantissa));
    }
    Some(values)
}

const MANTISSA: u64 = (1 << 52) - 1;

/// Sign and exponent.
fn beginning(value: f64) -> u16 {
    (value.to_bits() >> 52) as u16
}

#[derive(Default)]
struct Halves {
    bytes: Vec<u8>,
    is_half: bool,
}

impl Halves {
    fn put(&mut self, number: u64, length: u32) {
        for at in 0..length {
            let half = (number >> (4 * at)) as u8 & 0xf;
            match self.bytes.last_mut().filter(|_| self.is_half) {
                Some(last) => *last |= half << 4,
                None => self.bytes.push(half),
            }
            self.is_half = !self.is_half;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        pack(values.iter().copied(), &mut bytes);
        let back = unpack(Cursor(&bytes), values.len()).unwrap();
        assert!(back.iter().zip(values).all(|(back, value)| back.to_bits() == value.to_bits()), "{values:?}");
        assert_eq!(back.len(), values.len());
        for end in 0..bytes.len() {
            assert_eq!(unpack(Cursor(&bytes[..end]), values.len()), None, "{end} bytes were accepted");
        }
        bytes.len()
    }

    #[test]
    fn every_value_comes_back_bit_for_bit_and_truncated_bytes_are_refused() {
        let values =
            [0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e21, 9_007_199_254_740_993.0, 1.0, -1.0, 100.0];
        assert_eq!(there_and_back(&[]), 1);
        there_and_back(&values);
        values.iter().for_each(|value| _ = there_and_back(&[*value]));
        // More beginnings than the row's table holds.
        let many = (0..500).map(|power| 1.1_f64.powi(power) * if power % 3 == 0 { -1.0 } else { 1.0 });
        there_and_back(&many.collect::<Vec<_>>());
    }

    #[test]
    fn common_values_take_few_bytes() {
        assert_eq!(there_and_back(&[0.0; 100]), 1 + 2 + 100);
        assert_eq!(there_and_back(&[1_234.0; 100]), 1 + 2 + 100 + 150);
        assert_eq!(there_and_back(&[1.0 / 3.0; 100]), 1 + 2 + 100 + 650);
    }
}
