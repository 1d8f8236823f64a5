//! A row of the queue: where its values are, and which of its points are still queued.

use super::bytes::{Bits, Cursor};
use super::frames::AROUND;
use super::names::Names;

/// Where a row is, and which of the names in its set it has.
pub(super) struct Row {
    /// [`LOST`](super::log::LOST) if its values are.
    pub(super) frame: u64,
    /// Its place in the payload.
    pub(super) at: u32,
    pub(super) length: u32,
    pub(super) set: u32,
    /// `None` if it has all.
    pub(super) present: Option<Bits>,
    /// What is still queued; `None` if all that is present is.
    pub(super) live: Option<Bits>,
    /// How many are queued.
    pub(super) points: u32,
}

impl Row {
    pub(super) fn has(&self, at: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present.get(at))
    }

    pub(super) fn is_live(&self, at: usize) -> bool {
        self.live.as_ref().map_or_else(|| self.has(at), |live| live.get(at))
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.length) + AROUND
    }
}

/// A row as it is written, between its word and its values.
pub(super) struct RowHead {
    pub(super) time: i64,
    pub(super) number: u64,
    pub(super) set: u32,
    /// How many names the set has, if it is known.
    pub(super) count: Option<usize>,
    present: Option<Bits>,
}

impl RowHead {
    pub(super) fn of(cursor: &mut Cursor<'_>, names: &Names) -> Option<Self> {
        let (time, number, set) = (cursor.signed()?, cursor.number()?, cursor.small()?);
        let count = names.count(set);
        let present = match cursor.byte()? {
            0 => None,
            _ => Some(cursor.bytes()?),
        };
        let present = match (present, count) {
            (Some(present), Some(count)) => Some(Bits::of_bytes(present, count)?),
            _ => None,
        };
        Some(Self { time, number, set, count, present })
    }

    fn has(&self, at: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present.get(at))
    }

    /// The row, as yet without a place in its frame.
    pub(super) fn row(&self, frame: u64) -> Option<Row> {
        let points = (0..self.count?).filter(|at| self.has(*at)).count();
        let (set, present) = (self.set, self.present.clone());
        Some(Row { frame, at: 0, length: 0, set, present, live: None, points: u32::try_from(points).ok()? })
    }
}
