//! Numbers and texts as bytes, and back. What cannot be read is `None`, never a guess.

/// The rest of some bytes.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number that [`put_number`] wrote.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    /// A number that [`put_signed`] wrote.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Bytes that [`put_bytes`] wrote.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.small()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Seven bits a byte, the lowest first; small numbers take one byte.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small in bytes if it is near zero.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Their length, and they themselves.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A bit for each position of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Box<[u8]>);

impl Bits {
    pub(super) fn all(length: usize, value: bool) -> Self {
        Self(vec![if value { 0xff } else { 0 }; length.div_ceil(8)].into())
    }

    /// Those of a list of this length; `None` if there are too few or too many bytes.
    pub(super) fn of_bytes(bytes: &[u8], length: usize) -> Option<Self> {
        (bytes.len() == length.div_ceil(8)).then(|| Self(bytes.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn get(&self, at: usize) -> bool {
        self.0.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    pub(super) fn set(&mut self, at: usize, value: bool) {
        if let Some(byte) = self.0.get_mut(at / 8) {
            *byte = *byte & !(1 << (at % 8)) | u8::from(value) << (at % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_and_a_truncated_or_overlong_one_is_refused() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(Cursor(&bytes).number(), Some(number));
            assert_eq!(Cursor(&bytes[..bytes.len() - 1]).number(), None);
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX, 1_800_000_000] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, number);
            assert_eq!(Cursor(&bytes).signed(), Some(number));
        }
        assert_eq!(Cursor(&[0xff; 10]).number(), None);
        assert_eq!(Cursor(&[5, b'a']).bytes(), None);
    }

    #[test]
    fn a_bit_is_what_it_was_set_to_and_none_beyond_the_end() {
        let mut bits = Bits::all(10, false);
        bits.set(9, true);
        assert_eq!((bits.get(9), bits.get(8), bits.get(99)), (true, false, false));
        assert_eq!(Bits::of_bytes(bits.bytes(), 10), Some(bits.clone()));
        assert_eq!((Bits::of_bytes(bits.bytes(), 17), Bits::of_bytes(bits.bytes(), 8)), (None, None));
        bits.set(9, false);
        assert_eq!(bits, Bits::all(10, false));
    }
}
