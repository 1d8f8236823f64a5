//! Changes of an input, as a fuzzer makes them, but the same in every run.

/// A longer input only takes longer.
const LONGEST_BYTES: usize = 16 << 10;

/// Words that parsers are weak at.
const WORDS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"+1",
    b"-0",
    b"1e999",
    b"1e-999",
    b"nan",
    b"inf",
    b"-inf",
    b"0x10",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"4294967295",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"999999999999999999999999999999999999999",
    b"\0",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b"%",
    b"%00",
    b"..",
    b"./",
    b"//",
    b"*",
    b"#",
    b"[",
    b"]",
    b"{",
    b"}",
    b"(",
    b")",
    b"\"",
    b"'",
    b"\\",
    b"`",
    b"$",
    b"=",
    b":",
    b"@",
    b"\xff",
    b"\xc3",
    b"\xc3\xa9",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"null",
    b"true",
    b"[redacted]",
];

/// Numbers that look random, from a seed (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, which is below `limit`; 0 if the limit is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// A part of something of this length, more often a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length.saturating_add(1));
        let longest = [4, 16, 64, length].get(self.below(4)).copied().unwrap_or(length);
        start..length.min(start.saturating_add(self.below(longest.saturating_add(1))))
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

/// One of the inputs with a few changes, among them parts of others.
pub fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(inputs).cloned().unwrap_or_default();
    for _ in 0..1 << random.below(4) {
        change(&mut input, inputs, random);
        input.truncate(LONGEST_BYTES);
    }
    input
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    let range = random.range(input.len());
    let part = input.get(range.clone()).unwrap_or_default().to_vec();
    let other = random.of(inputs).cloned().unwrap_or_default();
    let others = other.get(random.range(other.len())).unwrap_or_default().to_vec();
    let new = match random.below(8) {
        0 => part.iter().map(|byte| byte ^ (1 << (random.number() % 8))).collect(),
        1 => part.iter().map(|_| random.number().to_le_bytes()[0]).collect(),
        2 => Vec::new(),
        3 => part.repeat(2 + random.below(64)),
        4 => [part, others].concat(),
        5 => others,
        6 => [part.as_slice(), random.of(WORDS).copied().unwrap_or_default()].concat(),
        _ => return number(input, random),
    };
    input.splice(range, new);
}

/// Replaces a number by a word.
fn number(input: &mut Vec<u8>, random: &mut Random) {
    let from = random.below(input.len());
    let Some(begin) = input.iter().skip(from).position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let length = input.iter().skip(begin).take_while(|byte| byte.is_ascii_digit()).count();
    input.splice(begin..begin + length, random.of(WORDS).copied().unwrap_or_default().iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_the_same_for_the_same_seed_and_different_for_another() {
        let inputs = [b"one 1".to_vec(), b"two 22\nlines".to_vec()];
        let of = |seed| mutated(&inputs, &mut Random::new(seed));
        assert_eq!(of(7), of(7));
        let all = (0..100).map(of).collect::<std::collections::BTreeSet<_>>();
        assert!(all.len() > 80, "{} of 100 differ", all.len());
    }

    #[test]
    fn an_empty_corpus_and_empty_inputs_can_be_changed() {
        for seed in 0..1_000 {
            mutated(&[], &mut Random::new(seed));
            mutated(&[Vec::new()], &mut Random::new(seed));
        }
    }
}
