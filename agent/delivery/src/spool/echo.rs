//! What makes a damaged frame cost no more than its own values: everything else of it is in the file again.
//!
//! Each frame begins with the echo of the one before: its names and sets, what it settled, and which points its rows had. It is
//! read only if that frame is missing. Then its values are lost, but not how many, and not what they have in common with later
//! rows. Since a bad sector takes several frames that lie side by side, names and sets are written again at a distance.

use std::collections::BTreeMap;

use super::bytes::{Cursor, put_bytes, put_number};
use super::frames::HEADER;
use super::log::LOST;
use super::queue::word;

/// So far from its first place a name is written again, in bytes: beyond a sector.
const NEAR: u64 = 1024;

/// And once more: beyond the page that holds it.
const FAR: u64 = 4 * 1024;

/// What the queue remembers of its frames for this.
pub(super) struct Echo {
    /// The place of the last frame, and what of it the next one repeats.
    last: u64,
    echo: Vec<u8>,
    /// Where the last frame ends.
    end: u64,
    /// The names and sets that are not written often enough, by the place where they were first.
    owed: BTreeMap<u64, Owed>,
}

struct Owed {
    entries: Vec<u8>,
    is_near_done: bool,
}

impl Default for Echo {
    fn default() -> Self {
        Self { last: LOST, echo: Vec::new(), end: HEADER, owed: BTreeMap::new() }
    }
}

/// A frame while its entries are taken over.
#[derive(Default)]
pub(super) struct Heard {
    echo: Vec<u8>,
    names: Vec<u8>,
}

impl Heard {
    /// An entry of a frame, which is not itself a repetition.
    pub(super) fn hear(&mut self, entry: &[u8]) {
        match entry.first().copied() {
            Some(word::NAME | word::SET) => {
                self.echo.extend_from_slice(entry);
                self.names.extend_from_slice(entry);
            }
            Some(word::OWNER | word::SETTLED) => self.echo.extend_from_slice(entry),
            Some(word::ROW) => {
                if let Some(rest) = without_values(entry) {
                    self.echo.push(word::STUB);
                    self.echo.extend_from_slice(rest);
                }
            }
            _ => {}
        }
    }
}

/// A row's entry without its word and its values.
fn without_values(entry: &[u8]) -> Option<&[u8]> {
    let rest = entry.get(1..)?;
    let mut cursor = Cursor(rest);
    cursor.signed()?;
    cursor.number()?;
    cursor.number()?;
    if cursor.byte()? != 0 {
        cursor.bytes()?;
    }
    rest.get(..rest.len() - cursor.0.len())
}

impl Echo {
    /// Whether this frame was taken over, and whether nothing is missing before it.
    pub(super) fn knows(&self, frame: u64) -> (bool, bool) {
        (self.last == frame, self.last == frame || self.end == frame)
    }

    /// All entries of a frame were taken over.
    pub(super) fn end_of_frame(&mut self, at: u64, end: u64, heard: Heard) {
        let Heard { echo, names } = heard;
        if !names.is_empty() {
            self.owed.insert(at, Owed { entries: names, is_near_done: false });
        }
        (self.last, self.end, self.echo) = (at, end, echo);
    }

    /// The names and sets of the frame at `first` are also at `at`.
    pub(super) fn repeated(&mut self, first: u64, at: u64) {
        let distance = at.saturating_sub(first);
        if distance >= FAR {
            self.owed.remove(&first);
        } else if let Some(owed) = self.owed.get_mut(&first).filter(|_| distance >= NEAR) {
            owed.is_near_done = true;
        }
    }

    /// Writes what of the frame before is repeated.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        if !self.echo.is_empty() {
            put_repetition(word::ECHO, self.last, &self.echo, out);
        }
    }

    /// The next frame repeats nothing of this one.
    pub(super) fn clear(&mut self) {
        self.echo.clear();
    }

    /// Writes the names and sets of which a frame at `at` has another copy. `owner` is the entry of the owner, if there is one.
    pub(super) fn put_owed(&self, at: u64, owner: &[u8], out: &mut Vec<u8>) {
        for (first, owed) in &self.owed {
            let distance = if owed.is_near_done { FAR } else { NEAR };
            if at.saturating_sub(*first) >= distance && *first != self.last {
                put_repetition(word::AGAIN, *first, &[owner, &owed.entries].concat(), out);
            }
        }
    }
}

/// Writes `entries` of the frame at `first` again.
pub(super) fn put_repetition(word: u8, first: u64, entries: &[u8], out: &mut Vec<u8>) {
    out.push(word);
    put_number(out, first);
    put_bytes(out, entries);
}
