//! DER, the form of certificates: just enough to read what webpki does not show of one.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a list that is optional, by its number.
pub(super) const fn optional(number: u8) -> u8 {
    0xa0 | number
}

/// What is left to read of a list of elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

/// An element of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With its tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The content of the next element if it has this tag; else nothing is read.
    pub(super) fn tagged(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut rest = *self;
        let element = rest.next().filter(|element| element.tag == tag)?;
        *self = rest;
        Some(element.content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    /// `None` also for what is not DER.
    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, &first) = (self.0.first()?, self.0.get(1)?);
        // Below 128 it is the length, else how many bytes of the length follow.
        let count = usize::from(first & 0x7f);
        let (header, length) = match first {
            ..=0x7f => (2, count),
            0x81..=0x84 => {
                let bytes = self.0.get(2..2 + count)?;
                (2 + count, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
            }
            _ => return None,
        };
        let (whole, rest) = self.0.split_at_checked(header.checked_add(length)?)?;
        self.0 = rest;
        Some(Element { tag, content: whole.get(header..)?, whole })
    }
}

/// A list with this content.
#[cfg(test)]
pub(super) fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = length.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    match (u8::try_from(content.len()), u8::try_from(length.len())) {
        (Ok(short @ ..=0x7f), _) => [&[SEQUENCE, short], content].concat(),
        (_, Ok(count)) => [&[SEQUENCE, 0x80 | count], &length[..], content].concat(),
        // A length has eight bytes at most.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_whatever_its_length() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            let (list, mut two) = (sequence(&content), sequence(&content));
            two.extend([IDENTIFIER, 1, 5]);
            let mut elements = Elements(&two);
            assert_eq!(elements.tagged(IDENTIFIER), None, "{length}");
            assert_eq!(elements.tagged(SEQUENCE), Some(&content[..]), "{length}");
            assert_eq!(elements.tagged(IDENTIFIER), Some(&[5][..]), "{length}");
            assert_eq!(Elements(&list).next().unwrap().whole, list);
        }
    }

    #[test]
    fn what_is_not_der_has_no_elements() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Elements(bytes).next().is_none(), "{bytes:?}");
        }
    }
}
