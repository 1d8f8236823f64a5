//! The contents of `wasaba.state`: bytes by their kind and key, which are replaced often. They are in a file of their own, so that an
//! outage does not fill the queue's with what was replaced.
//!
//! In memory is only where each is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::bytes::{Cursor, put_bytes};
use super::durable::Contents;
use super::log::{Draft, Kind, Log};

/// A kind, and a key that is unique in it.
pub(super) type Key = (String, String);

/// What to store; `None` removes.
pub(super) type Puts = BTreeMap<Key, Option<Arc<[u8]>>>;

/// The limit for everything of one kind.
pub(super) const MOST_KIND_BYTES: u64 = 16 * 1024 * 1024;

/// A frame of a commit holds about so many bytes.
const GATHERED: usize = 256 * 1024;

const PUT: u8 = 1;
const REMOVED: u8 = 2;

/// What an entry takes beside key and value, about.
const AROUND: u64 = 16;

#[derive(Default)]
pub(super) struct Store {
    entries: BTreeMap<Key, Entry>,
    /// The bytes of each kind.
    kinds: BTreeMap<String, u64>,
}

struct Entry {
    frame: u64,
    /// The place of its value in the payload.
    at: u32,
    length: u32,
}

impl Entry {
    fn size(&self, key: &Key) -> u64 {
        size(key, self.length as usize)
    }
}

impl Store {
    /// The bytes of this kind and key. `None`, too, if they are damaged.
    pub(super) fn get(&self, log: &Log, key: &Key) -> io::Result<Option<Vec<u8>>> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        let payload = log.read(entry.frame)?;
        let value = payload.as_ref().and_then(|payload| payload.get(entry.at as usize..)?.get(..entry.length as usize));
        Ok(value.map(<[u8]>::to_vec))
    }

    /// The keys of a kind.
    pub(super) fn keys(&self, kind: &str) -> impl Iterator<Item = &str> {
        let from = (kind.to_owned(), String::new());
        self.entries.range(from..).take_while(move |((other, _), _)| other == kind).map(|((_, key), _)| key.as_str())
    }

    /// All of a kind, by their keys.
    pub(super) fn all(&self, log: &Log, kind: &str) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut all = BTreeMap::new();
        for key in self.keys(kind) {
            if let Some(value) = self.get(log, &(kind.to_owned(), key.to_owned()))? {
                all.insert(key.to_owned(), value);
            }
        }
        Ok(all)
    }

    /// The payloads that store these, none if nothing changes; and the kinds that are full, of which nothing new is stored.
    pub(super) fn plan<'a>(&self, puts: &'a Puts) -> (Vec<Vec<u8>>, BTreeSet<&'a str>) {
        let (mut payloads, mut full) = (Vec::new(), BTreeSet::new());
        let (mut out, mut kinds) = (Vec::new(), self.kinds.clone());
        for (key, value) in puts {
            let before = self.entries.get(key);
            match value {
                Some(value) => {
                    let bytes = kinds.entry(key.0.clone()).or_default();
                    let after = *bytes + size(key, value.len()) - before.map_or(0, |entry| entry.size(key));
                    if after > MOST_KIND_BYTES && before.is_none() {
                        full.insert(key.0.as_str());
                        continue;
                    }
                    *bytes = after;
                    put(key, value, &mut out);
                }
                None if before.is_some() => {
                    out.push(REMOVED);
                    put_bytes(&mut out, key.0.as_bytes());
                    put_bytes(&mut out, key.1.as_bytes());
                }
                None => {}
            }
            if out.len() >= GATHERED {
                payloads.push(std::mem::take(&mut out));
            }
        }
        payloads.extend((!out.is_empty()).then_some(out));
        (payloads, full)
    }

    fn take_entry(&mut self, frame: u64, payload: &[u8], cursor: &mut Cursor<'_>) -> Option<()> {
        let word = cursor.byte()?;
        let key = (cursor.text()?.to_owned(), cursor.text()?.to_owned());
        let entry = match word {
            PUT => {
                let length = cursor.bytes()?.len();
                let at = payload.len() - cursor.0.len() - length;
                Some(Entry { frame, at: u32::try_from(at).ok()?, length: u32::try_from(length).ok()? })
            }
            REMOVED => None,
            _ => return None,
        };
        let size = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.size(&key));
        let added = size(entry.as_ref());
        let before = match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(&key),
        };
        let bytes = self.kinds.entry(key.0.clone()).or_default();
        *bytes = (*bytes + added).saturating_sub(size(before.as_ref()));
        Some(())
    }
}

/// What an entry takes in a file, about.
fn size((kind, key): &Key, value: usize) -> u64 {
    (kind.len() + key.len() + value) as u64 + AROUND
}

fn put(key: &Key, value: &[u8], out: &mut Vec<u8>) {
    out.push(PUT);
    put_bytes(out, key.0.as_bytes());
    put_bytes(out, key.1.as_bytes());
    put_bytes(out, value);
}

impl Contents for Store {
    const KIND: &'static Kind = &Kind { name: "wasaba.state", magic: *b"wasaba s" };

    fn replay(&mut self, at: u64, payload: &[u8]) -> bool {
        let mut cursor = Cursor(payload);
        while !cursor.is_at_end() {
            if self.take_entry(at, payload, &mut cursor).is_none() {
                return false;
            }
        }
        true
    }

    fn live_bytes(&self) -> u64 {
        self.kinds.values().sum()
    }

    fn rewrite(&self, log: &Log, draft: &mut Draft) -> io::Result<Self> {
        let (mut new, mut out) = (Self::default(), Vec::new());
        let mut write = |out: &mut Vec<u8>| {
            let at = draft.append(out)?;
            new.replay(at, out);
            out.clear();
            io::Result::Ok(())
        };
        for key in self.entries.keys() {
            if let Some(value) = self.get(log, key)? {
                put(key, &value, &mut out);
            }
            if out.len() >= GATHERED {
                write(&mut out)?;
            }
        }
        if !out.is_empty() {
            write(&mut out)?;
        }
        log.forget();
        Ok(new)
    }
}
