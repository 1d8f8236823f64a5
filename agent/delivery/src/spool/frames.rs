//! Frames: how a file of the spool says by itself how far it is whole.
//!
//! A file is a header and frames. A frame is the file's own number, the length of its payload, a checksum, and the payload. The
//! checksum covers the place in the file, so that a frame is valid only where it was written: neither a leftover of an earlier
//! write nor the same bytes inside a payload can be mistaken for one.

use std::io;
use std::ops::Range;

use super::bytes::Cursor;
use super::disk::{File, read_all};

/// Increased when a version that knows only the previous format would misread the file.
const FORMAT: u32 = 1;

/// The length of a header in bytes. It is written and synced alone: within one sector of any disk, it is there or not.
pub(super) const HEADER: u64 = 24;

/// The bytes around a payload.
pub(super) const AROUND: u64 = 12;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: u64 = 512;

/// So many bytes are searched at once.
const WINDOW: usize = 64 * 1024;

/// How the header of a kind of file begins.
pub(super) type Magic = [u8; 8];

/// What the beginning of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A file of this kind, with this number.
    Valid(u32),
    /// As yet without a header.
    Missing,
    Newer,
    /// A database of redb, which the queue was in before.
    Redb,
    Invalid,
}

pub(super) fn header(magic: Magic, nonce: u32) -> Vec<u8> {
    let mut bytes = [magic.as_slice(), &FORMAT.to_le_bytes(), &nonce.to_le_bytes()].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.resize(HEADER as usize, 0);
    bytes
}

pub(super) fn read_header(file: &dyn File, magic: Magic, size: u64) -> io::Result<Header> {
    let mut bytes = [0; HEADER as usize];
    let length = read_all(file, &mut bytes, 0)?;
    let read = || {
        let mut cursor = Cursor(bytes.get(..length)?);
        let (found, format, nonce) = (cursor.take(8)?, word(&mut cursor)?, word(&mut cursor)?);
        let is_whole = crc32fast::hash(bytes.get(..16)?) == word(&mut cursor)?;
        let is_padded = format > FORMAT || cursor.0.iter().all(|byte| *byte == 0);
        (found == magic && is_whole && is_padded).then_some((format, nonce))
    };
    Ok(match read() {
        Some((format, _)) if format > FORMAT => Header::Newer,
        Some((_, nonce)) => Header::Valid(nonce),
        None if bytes.starts_with(b"redb") => Header::Redb,
        // It was interrupted while it was made: nothing else is in it yet.
        None if size <= HEADER && bytes.iter().all(|byte| *byte == 0) => Header::Missing,
        None if size < HEADER
            && bytes.get(..length).is_some_and(|found| magic.iter().zip(found).all(|(a, b)| a == b)) =>
        {
            Header::Missing
        }
        None => Header::Invalid,
    })
}

/// The number of a file whose header is damaged, by the first frame that is valid with what stands at its beginning.
pub(super) fn number_of_frames(file: &dyn File, size: u64) -> io::Result<Option<u32>> {
    let mut found = None;
    search(file, HEADER, size, 8, &mut |at, bytes| {
        let mut cursor = Cursor(bytes);
        let (Some(nonce), Some(length)) = (word(&mut cursor), word(&mut cursor)) else { return Ok(false) };
        let end = at + AROUND + u64::from(length);
        let is_plausible = nonce & 1 == 1 && length > 0 && end <= size;
        // A look at what follows saves the reading of almost everything that is not a frame.
        let is_it = is_plausible && follows(file, nonce, end)? && frame(file, nonce, at, size)?.is_some();
        found = is_it.then_some(nonce);
        Ok(is_it)
    })?;
    Ok(found)
}

/// Whether another frame begins at the end of one, or nothing.
fn follows(file: &dyn File, nonce: u32, end: u64) -> io::Result<bool> {
    let mut next = [0; 4];
    let length = read_all(file, &mut next, end)?;
    Ok(length < next.len() || next == [0; 4] || next == nonce.to_le_bytes())
}

/// The bytes of a frame with this payload at this place.
pub(super) fn sealed(nonce: u32, at: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let around = [nonce, length, checksum(nonce, at, payload)].map(u32::to_le_bytes);
    [around.as_flattened(), payload].concat()
}

/// The payload of the frame at this place, if there is a valid one.
pub(super) fn frame(file: &dyn File, nonce: u32, at: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
    let mut around = [0; AROUND as usize];
    if read_all(file, &mut around, at)? < around.len() {
        return Ok(None);
    }
    let mut cursor = Cursor(&around);
    let (Some(found), Some(length), Some(expected)) = (word(&mut cursor), word(&mut cursor), word(&mut cursor)) else {
        return Ok(None);
    };
    if found != nonce || at + AROUND + u64::from(length) > size {
        return Ok(None);
    }
    let mut payload = vec![0; length as usize];
    let is_valid =
        read_all(file, &mut payload, at + AROUND)? == payload.len() && checksum(nonce, at, &payload) == expected;
    Ok(is_valid.then_some(payload))
}

/// What a file consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// How many valid frames it has.
    pub(super) frames: u64,
    /// Where the last of them begins.
    pub(super) last: Option<u64>,
    /// Where it ends.
    pub(super) end: u64,
    pub(super) tail: Tail,
    /// Invalid bytes before valid ones.
    pub(super) damaged: Vec<Range<u64>>,
}

/// What follows the last valid frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// So many bytes, up to the last that is not zero: a power cut may have left a longer file.
    pub(super) bytes: u64,
    pub(super) state: TailState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TailState {
    /// Part of a frame is missing, as after a power cut: no one relied on it.
    #[default]
    Unfinished,
    /// As long as a whole frame, and none of its sectors is zero. It is damaged, or was written over an earlier one that was not
    /// finished either.
    Doubtful,
}

/// Reads all frames. `visit` takes the place and payload of each, and says whether it could read it.
pub(super) fn scan(
    file: &dyn File,
    nonce: u32,
    size: u64,
    visit: &mut dyn FnMut(u64, &[u8]) -> bool,
) -> io::Result<Scan> {
    let mut scan = Scan { end: HEADER, ..Scan::default() };
    let mut at = HEADER;
    loop {
        if let Some(payload) = frame(file, nonce, at, size)? {
            let next = at + AROUND + payload.len() as u64;
            if !visit(at, &payload) {
                scan.damaged.push(at..next);
            }
            scan.frames += 1;
            scan.last = Some(at);
            (at, scan.end) = (next, next);
        } else if let Some(next) = next_frame(file, nonce, at + 1, size)? {
            scan.damaged.push(at..next);
            at = next;
        } else {
            scan.tail = tail(file, nonce, scan.end, size)?;
            return Ok(scan);
        }
    }
}

/// What there is from the end of the last frame on. A disk writes sectors: one that is zero was not written.
fn tail(file: &dyn File, nonce: u32, end: u64, size: u64) -> io::Result<Tail> {
    let (mut last, mut first_zero, mut at) = (end, None, end);
    let mut bytes = [0; SECTOR as usize];
    while at < size {
        let wanted = usize::try_from(SECTOR - at % SECTOR).unwrap_or(bytes.len());
        let count = read_all(file, bytes.get_mut(..wanted).unwrap_or_default(), at)?;
        let found = bytes.get(..count).unwrap_or_default();
        match found.iter().rposition(|byte| *byte != 0) {
            Some(place) => last = at + place as u64 + 1,
            None => first_zero = first_zero.or(Some(at)),
        }
        if count < wanted {
            break;
        }
        at += count as u64;
    }
    let mut around = [0; AROUND as usize];
    let is_headed = read_all(file, &mut around, end)? == around.len();
    let mut cursor = Cursor(&around);
    let is_longer = word(&mut cursor) == Some(nonce)
        && word(&mut cursor).is_some_and(|length| end + AROUND + u64::from(length) > size);
    let lacks_sector = first_zero.is_some_and(|at| at < last);
    let state = if !is_headed || is_longer || lacks_sector { TailState::Unfinished } else { TailState::Doubtful };
    Ok(Tail { bytes: last - end, state: if last == end { TailState::default() } else { state } })
}

/// Where the next valid frame begins.
fn next_frame(file: &dyn File, nonce: u32, from: u64, size: u64) -> io::Result<Option<u64>> {
    search(file, from, size, 4, &mut |at, bytes| {
        Ok(bytes == nonce.to_le_bytes() && frame(file, nonce, at, size)?.is_some())
    })
}

/// The first place with `length` bytes that `is_it` accepts.
fn search(
    file: &dyn File,
    from: u64,
    size: u64,
    length: usize,
    is_it: &mut dyn FnMut(u64, &[u8]) -> io::Result<bool>,
) -> io::Result<Option<u64>> {
    let (mut window, mut start) = (vec![0; WINDOW], from);
    while start < size {
        let count = read_all(file, &mut window, start)?;
        for (place, bytes) in window.get(..count).unwrap_or_default().windows(length).enumerate() {
            if is_it(start + place as u64, bytes)? {
                return Ok(Some(start + place as u64));
            }
        }
        if count < WINDOW {
            break;
        }
        start += (WINDOW - length + 1) as u64;
    }
    Ok(None)
}

fn checksum(nonce: u32, at: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(nonce);
    hasher.update(&at.to_le_bytes());
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn word(cursor: &mut Cursor<'_>) -> Option<u32> {
    Some(u32::from_le_bytes(cursor.take(4)?.try_into().ok()?))
}
