//! Keys, read from the bytes that a terminal sends for them.

/// A key, or several that are pressed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter, digit or sign.
    Char(char),
    /// Ctrl and a letter.
    Ctrl(char),
    /// The arrow.
    Up,
    /// The arrow.
    Down,
    /// The arrow.
    Left,
    /// The arrow.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Return.
    Enter,
    /// Tab.
    Tab,
    /// Shift and tab.
    BackTab,
    /// Escape.
    Esc,
    /// Backspace, or delete.
    Backspace,
}

/// A longer sequence belongs to no key.
const LONGEST_SEQUENCE: usize = 32;

/// What has arrived, and is no whole key yet: over a network, one key may arrive in several parts.
#[derive(Debug, Default)]
pub struct Decoder {
    waiting: Vec<u8>,
}

/// What the first of the bytes are.
enum Found {
    Key(Key, usize),
    /// Of no key that is used here.
    Nothing(usize),
    /// The beginning of a longer sequence.
    Part,
}

impl Decoder {
    /// The keys that are whole after these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.waiting.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.waiting.is_empty() {
            let length = match first(&self.waiting) {
                Found::Key(key, length) => {
                    keys.push(key);
                    length
                }
                Found::Nothing(length) => length,
                Found::Part if self.waiting.len() > LONGEST_SEQUENCE => 1,
                Found::Part => break,
            };
            self.waiting.drain(..length.clamp(1, self.waiting.len()));
        }
        keys
    }

    /// Whether what has arrived last may be a key, or the beginning of another.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What waits, once nothing has followed it for a moment: escape.
    pub fn flush(&mut self) -> Option<Key> {
        let waiting = std::mem::take(&mut self.waiting);
        (waiting.as_slice() == [0x1b]).then_some(Key::Esc)
    }
}

fn first(bytes: &[u8]) -> Found {
    match bytes {
        [0x1b] => Found::Part,
        [0x1b, b'[', rest @ ..] => control(rest),
        [0x1b, b'O', rest @ ..] => match rest.first() {
            Some(letter) => named(*letter).map_or(Found::Nothing(3), |key| Found::Key(key, 3)),
            None => Found::Part,
        },
        [0x1b, 0x1b, ..] => Found::Key(Key::Esc, 1),
        // A letter with Alt.
        [0x1b, rest @ ..] => match first(rest) {
            Found::Key(_, length) | Found::Nothing(length) => Found::Nothing(1 + length),
            Found::Part => Found::Part,
        },
        [b'\r' | b'\n', ..] => Found::Key(Key::Enter, 1),
        [b'\t', ..] => Found::Key(Key::Tab, 1),
        [0x7f | 0x08, ..] => Found::Key(Key::Backspace, 1),
        [code @ 1..=26, ..] => Found::Key(Key::Ctrl(char::from(code + b'a' - 1)), 1),
        [0..=31, ..] => Found::Nothing(1),
        _ => letter(bytes),
    }
}

/// A sequence behind `ESC [`: parameters, and a letter that ends it.
fn control(rest: &[u8]) -> Found {
    let Some(end) = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e)) else { return Found::Part };
    let length = end + 3;
    let key = match (rest.get(..end).unwrap_or_default(), rest.get(end)) {
        (b"1" | b"7", Some(b'~')) => Some(Key::Home),
        (b"4" | b"8", Some(b'~')) => Some(Key::End),
        (b"3", Some(b'~')) => Some(Key::Backspace),
        (b"5", Some(b'~')) => Some(Key::PageUp),
        (b"6", Some(b'~')) => Some(Key::PageDown),
        ([], Some(b'Z')) => Some(Key::BackTab),
        ([], Some(letter)) => named(*letter),
        _ => None,
    };
    key.map_or(Found::Nothing(length), |key| Found::Key(key, length))
}

fn named(letter: u8) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

/// A character in UTF-8.
fn letter(bytes: &[u8]) -> Found {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    let Some(bytes) = bytes.get(..length) else { return Found::Part };
    let char = std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()).filter(|char| !char.is_control());
    char.map_or(Found::Nothing(1), |char| Found::Key(Key::Char(char), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_from_what_the_usual_terminals_send_for_it() {
        let cases: [(&[u8], &[Key]); 12] = [
            (b"jk", &[Key::Char('j'), Key::Char('k')]),
            ("é日🎈".as_bytes(), &[Key::Char('é'), Key::Char('日'), Key::Char('🎈')]),
            (b"\x1b[A\x1b[B\x1b[C\x1b[D", &[Key::Up, Key::Down, Key::Right, Key::Left]),
            (b"\x1bOA\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[F\x1b[1~\x1b[4~", &[Key::Home, Key::End, Key::Home, Key::End]),
            (b"\t\x1b[Z\r\x7f", &[Key::Tab, Key::BackTab, Key::Enter, Key::Backspace]),
            (b"\x03", &[Key::Ctrl('c')]),
            (b"\x1b\x1b[A", &[Key::Esc, Key::Up]),
            (b"\x1bxq", &[Key::Char('q')]),
            (b"\x1b[200~q\x1b[1;5Cq", &[Key::Char('q'), Key::Char('q')]),
            (b"\xffq\x00", &[Key::Char('q')]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Decoder::default().push(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_key_may_arrive_in_parts_and_escape_is_one_that_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!((decoder.push(b"\x1b"), decoder.push(b"["), decoder.push(b"A")), (vec![], vec![], vec![Key::Up]));
        assert_eq!((decoder.push(b"\xe6\x97"), decoder.push(b"\xa5")), (vec![], vec![Key::Char('日')]));
        assert!(!decoder.is_waiting());
        assert_eq!(decoder.push(b"\x1b"), []);
        assert!(decoder.is_waiting());
        assert_eq!((decoder.flush(), decoder.flush()), (Some(Key::Esc), None));
    }

    #[test]
    fn no_bytes_stop_the_keys_behind_them() {
        let mut decoder = Decoder::default();
        decoder.push(b"\x1b[");
        decoder.push(&[b'0'; 100]);
        assert_eq!(decoder.push(b"Xq").last(), Some(&Key::Char('q')));
    }
}
