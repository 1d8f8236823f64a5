//! Messages of DNS (RFC 1035): a question for the addresses of a name, and what of an answer counts.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name, in bytes of a message.
const LONGEST_NAME: usize = 255;

/// The most jumps within one name. A name has 127 labels at most.
const MOST_JUMPS: usize = 127;

/// The most addresses that are taken of an answer; a whole answer has room for some thousands.
const MOST_ADDRESSES: usize = 128;

const HEADER_BYTES: usize = 12;
const INTERNET: u16 = 1;
const ALIAS: u16 = 5;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Its type of record: A, AAAA.
    fn record(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// A complete name, in lower case, as it is in a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// `None` if it is not a name of DNS: empty, an empty label, too long, other letters than ASCII's.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
            if !label.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            bytes.push(length);
            bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        bytes.push(0);
        (bytes.len() <= LONGEST_NAME).then_some(Self(bytes))
    }
}

/// A question, as it is sent.
#[derive(Debug)]
pub(super) struct Question {
    name: Name,
    family: Family,
    pub(super) bytes: Vec<u8>,
}

impl Question {
    /// The question with this number, which its answer repeats.
    pub(super) fn new(number: [u8; 2], name: Name, family: Family) -> Self {
        // It asks the server to ask others.
        let mut bytes = [&number[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &name.0].concat();
        for word in [family.record(), INTERNET] {
            bytes.extend(word.to_be_bytes());
        }
        Self { name, family, bytes }
    }
}

/// What a message is for a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not an answer to it.
    Other,
    /// An answer that cannot be read.
    Malformed,
    /// An answer that has no room in a datagram.
    Truncated,
    Answer(Answer),
}

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 is success; see [`name_of_code`].
    pub(super) code: u8,
    /// Whether there is any record: an alias, too, is one.
    pub(super) has_records: bool,
    /// Whether the server neither answered nor would ask others: it only refers to them.
    pub(super) is_referral: bool,
    /// The addresses of the name, and of what it is an alias of.
    pub(super) addresses: Vec<IpAddr>,
}

/// The name of a response code, as the tools of DNS print it.
pub(super) fn name_of_code(code: u8) -> String {
    let known = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        NO_SUCH_NAME => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        code => return format!("response code {code}"),
    };
    known.to_owned()
}

pub(super) const NO_SUCH_NAME: u8 = 3;

/// Reads a message that may answer `question`.
pub(super) fn read(message: &[u8], question: &Question) -> Reply {
    let Some(header) = message.first_chunk::<HEADER_BYTES>() else { return Reply::Other };
    let [number, number_low, flags, more_flags, questions, questions_low, answers, answers_low, _, _, _, extra] =
        *header;
    let is_same = question.bytes.get(..2) == Some(&[number, number_low]);
    let is_answer = flags & 0b1111_1000 == 0b1000_0000 && [questions, questions_low] == [0, 1];
    let mut at = Cursor { message, at: HEADER_BYTES };
    if !is_same || !is_answer || !at.repeats(question) {
        return Reply::Other;
    }
    if flags & 0b10 != 0 {
        return Reply::Truncated;
    }
    let count = u16::from_be_bytes([answers, answers_low]);
    let is_authority = flags & 0b100 != 0;
    let asks_others = more_flags & 0b1000_0000 != 0;
    let is_referral = !is_authority && !asks_others && count == 0 && extra == 0;
    let Some(addresses) = at.addresses(count, question) else { return Reply::Malformed };
    Reply::Answer(Answer { code: more_flags & 0b1111, has_records: count > 0, is_referral, addresses })
}

struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A name in lower case. Jumps lead back only, so that none is a loop.
    fn name(&mut self) -> Option<Name> {
        let (mut name, mut end, mut lowest) = (Vec::new(), None, self.at);
        for _ in 0..=MOST_JUMPS {
            loop {
                let length = *self.take(1)?.first()?;
                match length {
                    0 => {
                        name.push(0);
                        self.at = end.unwrap_or(self.at);
                        return (name.len() <= LONGEST_NAME).then_some(Name(name));
                    }
                    1..64 => {
                        name.push(length);
                        name.extend(self.take(length.into())?.to_ascii_lowercase());
                        if name.len() > LONGEST_NAME {
                            return None;
                        }
                    }
                    192.. => {
                        let target = usize::from(u16::from_be_bytes([length & 0x3f, *self.take(1)?.first()?]));
                        if target >= lowest {
                            return None;
                        }
                        end.get_or_insert(self.at);
                        (lowest, self.at) = (target, target);
                        break;
                    }
                    _ => return None,
                }
            }
        }
        None
    }

    fn repeats(&mut self, question: &Question) -> bool {
        self.name().as_ref() == Some(&question.name)
            && self.word() == Some(question.family.record())
            && self.word() == Some(INTERNET)
    }

    /// The addresses among the next records that belong to the question's name, or to one that it is an alias of, in whatever order
    /// the records are. `None` if a record cannot be read.
    fn addresses(&mut self, count: u16, question: &Question) -> Option<Vec<IpAddr>> {
        let (mut aliases, mut addresses) = (HashMap::new(), Vec::new());
        for _ in 0..count {
            let owner = self.name()?;
            let (kind, class) = (self.word()?, self.word()?);
            self.take(4)?; // how long it may be kept
            let length = self.word()?;
            let start = self.at;
            let data = self.take(length.into())?;
            if class != INTERNET {
                continue;
            }
            if kind == ALIAS {
                let target = Self { message: self.message, at: start }.name()?;
                aliases.entry(owner).or_insert(target);
            } else if kind == question.family.record() {
                addresses.push((owner, address(question.family, data)?));
            }
        }
        let (mut names, mut next) = (HashSet::new(), Some(&question.name));
        while let Some(name) = next.filter(|name| names.insert(*name)) {
            next = aliases.get(name);
        }
        let ours = addresses.iter().filter(|(owner, _)| names.contains(owner)).map(|(_, address)| *address);
        Some(ours.take(MOST_ADDRESSES).collect())
    }
}

fn address(family: Family, data: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => <[u8; 4]>::try_from(data).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        Family::V6 => <[u8; 16]>::try_from(data).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

/// What must hold for every message that a name server could send: for the fuzz target.
pub(super) fn check(message: &[u8]) {
    // The longest that a caller hands over.
    let message = message.get(..usize::from(u16::MAX)).unwrap_or(message);
    let number = *message.first_chunk::<2>().unwrap_or(&[0, 0]);
    for family in [Family::V4, Family::V6] {
        let Some(name) = Name::parse("www.example.test") else { continue };
        if let Reply::Answer(answer) = read(message, &Question::new(number, name, family)) {
            assert!(answer.addresses.len() <= MOST_ADDRESSES && (answer.has_records || answer.addresses.is_empty()));
            assert!(answer.addresses.iter().all(|address| address.is_ipv4() == (family == Family::V4)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question::new([7, 9], Name::parse(name).unwrap(), Family::V4)
    }

    /// An answer to `asked` with these records.
    fn answer(asked: &Question, count: u8, records: &[u8]) -> Vec<u8> {
        let mut bytes = asked.bytes.clone();
        bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count]);
        [&bytes, records].concat()
    }

    /// A record of `owner`, in the form of a message.
    fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
        let length = u8::try_from(data.len()).unwrap();
        [owner, &[0, kind, 0, 1, 0, 0, 0, 9, 0, length], data].concat()
    }

    fn addresses(reply: &Reply) -> Vec<String> {
        let Reply::Answer(answer) = reply else { panic!("{reply:?}") };
        answer.addresses.iter().map(ToString::to_string).collect()
    }

    /// The name of the question, which is behind the header.
    const QUESTION: &[u8] = &[0xc0, 12];

    #[test]
    fn a_name_is_refused_if_it_cannot_be_asked_for() {
        let label = "x".repeat(63);
        let longest = [&label[..], &label, &label, &label[2..]].join(".");
        for valid in ["a", "A.b-C_d", "xn--bcher-kva.example", &label, &longest] {
            assert!(Name::parse(valid).is_some(), "{valid}");
        }
        for invalid in
            ["", ".", "a..b", ".a", "a..", "a b", "bücher.example", &format!("{label}x"), &format!("{longest}x")]
        {
            assert_eq!(Name::parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn the_addresses_of_an_alias_are_found_in_any_order_of_the_records_and_those_of_others_are_not_taken() {
        let asked = question("Web.Test");
        let middle = [1, b'm', 0];
        let records = [
            record(&[1, b'O', 0], 1, &[10, 0, 0, 9]),
            record(&[1, b'M', 0], 5, &[1, b'e', 0]),
            record(&[1, b'e', 0], 1, &[10, 0, 0, 2]),
            record(QUESTION, 28, &[0; 16]),
            record(QUESTION, 5, &middle),
        ];
        assert_eq!(addresses(&read(&answer(&asked, 5, &records.concat()), &asked)), ["10.0.0.2"]);
    }

    #[test]
    fn a_loop_of_aliases_ends() {
        let asked = question("a");
        let records = [record(QUESTION, 5, &[1, b'b', 0]), record(&[1, b'b', 0], 5, QUESTION)].concat();
        let Reply::Answer(answer) = read(&answer(&asked, 2, &records), &asked) else { panic!() };
        assert!(answer.has_records && answer.addresses.is_empty());
    }

    #[test]
    fn a_message_that_does_not_answer_the_question_is_not_an_answer() {
        let asked = question("web.test");
        let good = answer(&asked, 1, &record(QUESTION, 1, &[10, 0, 0, 1]));
        assert_eq!(addresses(&read(&good, &asked)), ["10.0.0.1"]);
        for (place, byte) in [(0, 1), (2, 0x01), (2, 0xa1), (5, 0), (5, 2), (13, b'x'), (good.len() - 17, 9)] {
            let mut other = good.clone();
            other[place] = byte;
            assert_eq!(read(&other, &asked), Reply::Other, "byte {place}");
        }
        assert_eq!(read(&good[..HEADER_BYTES], &asked), Reply::Other);
        let other_family = Question::new([7, 9], Name::parse("web.test").unwrap(), Family::V6);
        assert_eq!(read(&good, &other_family), Reply::Other);
    }

    #[test]
    fn a_record_that_cannot_be_read_makes_the_answer_malformed() {
        let asked = question("web.test");
        let cut = record(QUESTION, 1, &[10, 0, 0, 1]);
        for (records, why) in [
            (&cut[..cut.len() - 1], "cut"),
            (&[][..], "missing"),
            (&record(QUESTION, 1, &[10, 0, 0]), "an address of three bytes"),
            (&record(&[0xc0, 26], 1, &[10, 0, 0, 1]), "a name that is itself"),
            (&record(&[0xc0, 200], 1, &[10, 0, 0, 1]), "a name further on"),
            (&record(&[0x80, 0], 1, &[10, 0, 0, 1]), "an unknown kind of label"),
        ] {
            assert_eq!(read(&answer(&asked, 1, records), &asked), Reply::Malformed, "{why}");
        }
    }

    #[test]
    fn a_long_answer_is_read_up_to_a_fixed_number_of_addresses() {
        let asked = question("web.test");
        let mut records = Vec::new();
        for number in 0..=255 {
            records.extend(record(QUESTION, 1, &[10, 0, 0, number]));
        }
        assert_eq!(addresses(&read(&answer(&asked, 255, &records), &asked)).len(), MOST_ADDRESSES);
    }

    #[test]
    fn a_truncated_answer_a_code_and_a_referral_are_distinguished() {
        let asked = question("web.test");
        let with = |flags: [u8; 2]| {
            let mut message = answer(&asked, 0, &[]);
            message[2..4].copy_from_slice(&flags);
            read(&message, &asked)
        };
        assert_eq!(with([0x83, 0x80]), Reply::Truncated);
        assert_eq!(with([0x81, 0x82]), Reply::Answer(Answer { code: 2, ..Answer::default() }));
        assert_eq!(with([0x81, 0x00]), Reply::Answer(Answer { is_referral: true, ..Answer::default() }));
        assert_eq!(with([0x85, 0x00]), Reply::Answer(Answer::default()), "of an authority");
        assert_eq!([2, 9].map(name_of_code), ["SERVFAIL", "response code 9"]);
    }
}
