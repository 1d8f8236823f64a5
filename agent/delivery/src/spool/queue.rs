//! The contents of `wasaba.db`: the rows of queued minutes, the names in them, whose they are, and the ledger.
//!
//! In memory is only an index; a row is read from the file when it is delivered. What a commit changes is planned in `plan`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use wasaba_core::sample::Sample;

use super::Whose;
use super::bytes::{Bits, Cursor, put_bytes, put_number, put_signed};
use super::durable::{Contents, Missing};
use super::echo::{Echo, Heard, put_repetition};
use super::frames::AROUND;
use super::front::Recent;
use super::ledger::{FIELDS, Ledger, Loss};
use super::log::{Draft, Kind, LOST, Log};
use super::names::Names;
use super::numbers::{pack, unpack};
use super::row::{Row, RowHead};

/// The words with which entries of a frame begin.
pub(super) mod word {
    pub(crate) const NAME: u8 = 1;
    pub(crate) const SET: u8 = 2;
    pub(crate) const ROW: u8 = 3;
    pub(crate) const SETTLED: u8 = 4;
    pub(crate) const LEDGER: u8 = 5;
    pub(crate) const OWNER: u8 = 6;
    /// What the frame before has, except for values.
    pub(crate) const ECHO: u8 = 7;
    /// A row of an echo.
    pub(crate) const STUB: u8 = 8;
    /// Names and sets of an earlier frame.
    pub(crate) const AGAIN: u8 = 9;
}

/// What was delivered is remembered for this long, in seconds, so that the same point is not queued again after a restart.
pub(super) const RECENT: i64 = 180;

/// The rows of a rewritten file are gathered to frames of about this size.
const GATHERED: usize = 4096;

/// The rate at which the queue grows is that of so many minutes.
const RATED: usize = 60;

/// A row's time, in seconds since 1970, and its number: one time can have several.
pub(super) type Id = (i64, u64);

#[derive(Default)]
pub(super) struct Queue {
    pub(super) names: Names,
    pub(super) rows: BTreeMap<Id, Row>,
    pub(super) ledger: Ledger,
    /// The id of the host that the rows of this host belong to.
    pub(super) owner: Option<String>,
    /// Rows with a smaller number are of an earlier owner.
    pub(super) first_of_owner: u64,
    pub(super) next_row: u64,
    /// The rows of which nothing is queued any more.
    done: BTreeSet<Id>,
    row_bytes: u64,
    /// The newest minutes (time divided by 60) and the bytes of their rows.
    rate: VecDeque<(i64, u64)>,
    echo: Echo,
    /// Whether frames are missing of which nothing is known.
    has_gap: bool,
}

impl Queue {
    /// The rows of this time.
    pub(super) fn rows_at(&self, time: i64) -> impl Iterator<Item = (Id, &Row)> {
        self.rows.range((time, 0)..=(time, u64::MAX)).map(|(id, row)| (*id, row))
    }

    /// The times with queued points, the newest first, before `before`.
    pub(super) fn times(&self, before: i64) -> impl Iterator<Item = i64> {
        let mut last = None;
        let rows = self.rows.range(..(before, 0)).rev().filter(|(_, row)| row.points > 0);
        rows.map(|((time, _), _)| *time).filter(move |time| last.replace(*time) != Some(*time))
    }

    /// How many points of each time are queued.
    pub(super) fn points_by_time(&self) -> BTreeMap<i64, u64> {
        let mut points = BTreeMap::new();
        for ((time, _), row) in self.rows.iter().filter(|(_, row)| row.points > 0) {
            *points.entry(*time).or_default() += u64::from(row.points);
        }
        points
    }

    /// For how many hours a queue of so many bytes has room, at the rate of the last hour.
    pub(super) fn hours(&self, most_bytes: u64) -> Option<f64> {
        let bytes = self.rate.iter().map(|(_, bytes)| bytes).sum::<u64>();
        (bytes > 0).then(|| most_bytes as f64 / (bytes as f64 / self.rate.len() as f64) / 60.0)
    }

    /// The values of a row by their place in its set; `None` if it is damaged.
    pub(super) fn values(&self, log: &Log, row: &Row) -> io::Result<Option<Vec<(usize, f64)>>> {
        let Some(payload) = log.read(row.frame)? else { return Ok(None) };
        let read = || {
            let mut entry = Cursor(payload.get(row.at as usize..)?.get(1..row.length as usize)?);
            let places = (0..RowHead::of(&mut entry, &self.names)?.count?).filter(|at| row.has(*at));
            let places = places.collect::<Vec<_>>();
            let values = unpack(Cursor(entry.bytes()?), places.len())?;
            Some(places.into_iter().zip(values).collect())
        };
        Ok(read())
    }

    /// Whether something of a host is queued in a row.
    fn has(&self, row: &Row, whose: &Whose) -> bool {
        row.points > 0
            && match whose {
                Whose::Any => true,
                Whose::Host(host) => {
                    self.names.places(row.set, host.as_ref()).iter().any(|at| row.is_live(*at as usize))
                }
            }
    }

    /// The queued samples of this time, by host and name, from the rows in which something of the host is. The rows that cannot be read are
    /// added to `unreadable`.
    pub(super) fn minute(
        &self,
        log: &Log,
        time: i64,
        whose: &Whose,
        unreadable: &mut Vec<Id>,
    ) -> io::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for (id, row) in self.rows_at(time).filter(|(_, row)| self.has(row, whose)) {
            let read = self.values(log, row)?.and_then(|values| {
                let numbers = self.names.numbers(row.set)?;
                let live = values.into_iter().filter(|(at, _)| row.is_live(*at));
                live.map(|(at, value)| self.names.sample(*numbers.get(at)?, value)).collect::<Option<Vec<_>>>()
            });
            match read {
                Some(read) => samples.extend(read),
                None => unreadable.push(id),
            }
        }
        samples.sort_by(|a, b| a.key().cmp(&b.key()));
        Ok(samples)
    }

    /// Writes what every frame begins with: what of earlier frames must not be lost with them.
    pub(super) fn put_repetitions(&self, at: u64, out: &mut Vec<u8>) {
        self.echo.put(out);
        self.echo.put_owed(at, &self.owner_entry(), out);
    }

    /// Writes what is still known of a row whose values are lost: the points that were settled, which need none.
    fn put_settled_points(&self, id: Id, row: &Row, out: &mut Vec<u8>) {
        let count = self.names.count(row.set).unwrap_or_default();
        let (mut settled, mut points) = (Bits::all(count, false), 0);
        for at in (0..count).filter(|at| row.has(*at) && !row.is_live(*at)) {
            settled.set(at, true);
            points += 1;
        }
        if points > 0 {
            let mut values = Vec::new();
            pack(std::iter::repeat_n(0.0, points), &mut values);
            Self::put_row(id, row.set, Some(&settled), &values, out);
            Self::put_settled(id, None, out);
        }
    }

    fn owner_entry(&self) -> Vec<u8> {
        let mut entry = Vec::new();
        if let Some(owner) = &self.owner {
            Self::put_owner(owner, self.first_of_owner, &mut entry);
        }
        entry
    }

    /// Whether a row is what counts for the name with this number: rows of an earlier owner do not for this host's own.
    pub(super) fn counts_for(&self, (_, row): Id, number: u32) -> bool {
        row >= self.first_of_owner || !self.names.is_own(number)
    }

    /// The points that were settled lately.
    pub(super) fn settled(&self) -> Recent {
        let (mut settled, mut queued) = (Recent::new(), Recent::new());
        let newest = self.rows.last_key_value().map_or(0, |((newest, _), _)| *newest);
        for (id, row) in self.rows.range((newest - RECENT, 0)..) {
            for (at, number) in self.names.numbers(row.set).unwrap_or_default().into_iter().enumerate() {
                let Some(hash) = self.names.hash(number).filter(|_| row.has(at)) else { continue };
                let mark = (self.names.is_own(number), hash);
                if row.is_live(at) {
                    queued.entry(id.0).or_default().insert(mark);
                } else if self.counts_for(*id, number) {
                    settled.entry(id.0).or_default().insert(mark);
                }
            }
        }
        // A later row has replaced one that seems settled.
        for (time, queued) in queued {
            settled.entry(time).or_default().retain(|mark| !queued.contains(mark));
        }
        settled
    }

    fn take_entry(&mut self, frame: u64, payload: &[u8], cursor: &mut Cursor<'_>) -> Option<()> {
        let at = payload.len() - cursor.0.len();
        match cursor.byte()? {
            word::NAME => self.names.add_name(cursor),
            word::SET => self.names.add_set(cursor),
            word::STUB if frame == LOST => self.take_stub(cursor),
            word::ROW if frame != LOST => self.take_row(frame, at, cursor),
            word::SETTLED => self.take_settled(cursor),
            word::LEDGER => {
                let count = cursor.byte()?;
                let mut numbers = [0; FIELDS];
                for number in numbers.get_mut(..usize::from(count))? {
                    *number = cursor.number()?;
                }
                self.ledger = Ledger::of_numbers(numbers);
                Some(())
            }
            word::OWNER => {
                self.first_of_owner = cursor.number()?;
                self.owner = Some(cursor.text()?.to_owned());
                Some(())
            }
            word::ECHO if frame != LOST => {
                let (first, entries) = (cursor.number()?, cursor.bytes()?);
                let (is_known, is_adjacent) = self.echo.knows(first);
                if !is_known {
                    self.has_gap |= !is_adjacent;
                    self.take_again(entries)?;
                }
                Some(())
            }
            word::AGAIN if frame != LOST => {
                let (first, entries) = (cursor.number()?, cursor.bytes()?);
                self.take_again(entries)?;
                self.echo.repeated(first, frame);
                Some(())
            }
            _ => None,
        }
    }

    /// Takes over entries of an earlier frame, as far as they are not known.
    fn take_again(&mut self, entries: &[u8]) -> Option<()> {
        let mut cursor = Cursor(entries);
        while !cursor.is_at_end() {
            self.take_entry(LOST, entries, &mut cursor)?;
        }
        Some(())
    }

    fn take_row(&mut self, frame: u64, at: usize, cursor: &mut Cursor<'_>) -> Option<()> {
        let before = cursor.0.len() + 1;
        let Some(head) = self.take_head(cursor)? else {
            cursor.bytes()?;
            return Some(());
        };
        cursor.bytes()?;
        let length = before - cursor.0.len();
        let row = Row { at: u32::try_from(at).ok()?, length: u32::try_from(length).ok()?, ..head.row(frame)? };
        let (minute, bytes) = (head.time.div_euclid(60), row.bytes());
        match self.rate.iter_mut().find(|(known, _)| *known == minute) {
            Some((_, known)) => *known += bytes,
            None => {
                self.rate.push_back((minute, bytes));
                if self.rate.len() > RATED {
                    self.rate.pop_front();
                }
            }
        }
        self.add_row((head.time, head.number), row);
        Some(())
    }

    /// Takes over a row whose values are lost, so that its points can be counted.
    fn take_stub(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        if let Some(head) = self.take_head(cursor)?.filter(|head| !self.rows.contains_key(&(head.time, head.number))) {
            self.add_row((head.time, head.number), head.row(LOST)?);
        }
        Some(())
    }

    /// The beginning of a row. `Some(None)` if its set was in frames that are damaged.
    fn take_head(&mut self, cursor: &mut Cursor<'_>) -> Option<Option<RowHead>> {
        let head = RowHead::of(cursor, &self.names)?;
        self.next_row = self.next_row.max(head.number + 1);
        self.names.reserve_set(head.set);
        Some(head.count.is_some().then_some(head))
    }

    fn add_row(&mut self, id: Id, row: Row) {
        self.row_bytes += row.bytes();
        self.names.take_up(row.set);
        self.rows.insert(id, row);
    }

    fn take_settled(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let id = (cursor.signed()?, cursor.number()?);
        let cleared = match cursor.byte()? {
            0 => None,
            _ => Some(cursor.bytes()?),
        };
        // Its row may be in a frame that is damaged.
        self.next_row = self.next_row.max(id.1 + 1);
        let Some(row) = self.rows.get_mut(&id) else { return Some(()) };
        let count = self.names.count(row.set)?;
        let live = match cleared {
            None => Bits::all(count, false),
            Some(cleared) => {
                let (cleared, mut live) = (Bits::of_bytes(cleared, count)?, Bits::all(count, false));
                (0..count).for_each(|at| live.set(at, row.is_live(at) && !cleared.get(at)));
                live
            }
        };
        row.points = u32::try_from((0..count).filter(|at| live.get(*at)).count()).ok()?;
        row.live = Some(live);
        if row.points == 0 {
            self.done.insert(id);
        }
        Some(())
    }

    /// Forgets the rows that are settled and so old that their points are not collected again.
    fn prune(&mut self) {
        let Some(((newest, _), _)) = self.rows.last_key_value() else { return };
        let before = newest - RECENT;
        while let Some(id) = self.done.first().copied().filter(|(time, _)| *time < before) {
            self.done.remove(&id);
            if let Some(row) = self.rows.remove(&id) {
                self.row_bytes -= row.bytes();
                self.names.give_up(row.set);
            }
        }
    }

    fn points(&self) -> u64 {
        self.rows.values().map(|row| u64::from(row.points)).sum()
    }

    pub(super) fn put_ledger(ledger: Ledger, out: &mut Vec<u8>) {
        out.extend([word::LEDGER, FIELDS as u8]);
        ledger.numbers().iter().for_each(|number| put_number(out, *number));
    }

    pub(super) fn put_owner(owner: &str, first_row: u64, out: &mut Vec<u8>) {
        out.push(word::OWNER);
        put_number(out, first_row);
        put_bytes(out, owner.as_bytes());
    }

    pub(super) fn put_settled((time, number): Id, cleared: Option<&Bits>, out: &mut Vec<u8>) {
        out.push(word::SETTLED);
        put_signed(out, time);
        put_number(out, number);
        match cleared {
            None => out.push(0),
            Some(cleared) => {
                out.push(1);
                put_bytes(out, cleared.bytes());
            }
        }
    }

    pub(super) fn put_row((time, number): Id, set: u32, present: Option<&Bits>, values: &[u8], out: &mut Vec<u8>) {
        out.push(word::ROW);
        put_signed(out, time);
        put_number(out, number);
        put_number(out, u64::from(set));
        out.push(u8::from(present.is_some()));
        if let Some(present) = present {
            put_bytes(out, present.bytes());
        }
        put_bytes(out, values);
    }
}

impl Contents for Queue {
    const KIND: &'static Kind = &Kind { name: "wasaba.db", magic: *b"wasaba q" };

    fn replay(&mut self, at: u64, payload: &[u8]) -> bool {
        if payload.is_empty() {
            return true;
        }
        let (mut cursor, mut heard) = (Cursor(payload), Heard::default());
        while let Some(rest) = Some(cursor.0).filter(|rest| !rest.is_empty()) {
            if self.take_entry(at, payload, &mut cursor).is_none() {
                return false;
            }
            heard.hear(rest.get(..rest.len() - cursor.0.len()).unwrap_or_default());
        }
        self.echo.end_of_frame(at, at + AROUND + payload.len() as u64, heard);
        self.prune();
        true
    }

    fn live_bytes(&self) -> u64 {
        // A rewritten file has the names at its beginning and at its end.
        2 * self.names.live_bytes() + self.row_bytes
    }

    fn rewrite(&self, log: &Log, draft: &mut Draft) -> io::Result<Self> {
        let mut new = Self { rate: self.rate.clone(), ..Self::default() };
        let mut ledger = self.ledger;
        let (mut names, mut out) = (Vec::new(), Vec::new());
        let owner = self.owner_entry();
        self.names.put_used(word::NAME, word::SET, &mut names);
        out.extend_from_slice(&owner);
        out.extend_from_slice(&names);
        Self::put_ledger(ledger, &mut out);
        let mut write = |new: &mut Self, entries: &mut Vec<u8>| {
            let mut out = Vec::with_capacity(entries.len());
            new.echo.put(&mut out);
            out.append(entries);
            let at = draft.append(&out)?;
            new.replay(at, &out);
            io::Result::Ok(at)
        };
        let first = write(&mut new, &mut out)?;
        // The last frame has it all again.
        new.echo.clear();
        for (id, row) in &self.rows {
            let payload = log.read(row.frame)?;
            let entry = payload.as_ref().and_then(|payload| payload.get(row.at as usize..)?.get(..row.length as usize));
            let Some(entry) = entry else {
                ledger.lose(u64::from(row.points), Loss::Damaged);
                self.put_settled_points(*id, row, &mut out);
                continue;
            };
            out.extend_from_slice(entry);
            if row.points == 0 {
                Self::put_settled(*id, None, &mut out);
            } else if let (Some(live), Some(count)) = (&row.live, self.names.count(row.set)) {
                let mut settled = Bits::all(count, false);
                (0..count).for_each(|at| settled.set(at, !live.get(at)));
                Self::put_settled(*id, Some(&settled), &mut out);
            }
            if out.len() >= GATHERED {
                write(&mut new, &mut out)?;
            }
        }
        if !out.is_empty() {
            write(&mut new, &mut out)?;
        }
        put_repetition(word::AGAIN, first, &[owner, names].concat(), &mut out);
        Self::put_ledger(ledger, &mut out);
        write(&mut new, &mut out)?;
        new.next_row = self.next_row;
        // What is rewritten is not collected again.
        new.rate.clone_from(&self.rate);
        log.forget();
        Ok(new)
    }

    fn hindsight(self) -> Self {
        Self { names: self.names.unused(), ..Self::default() }
    }

    fn missing(&self) -> Option<Missing> {
        let (points, lost) = (self.points(), self.rows.values().filter(|row| row.frame == LOST));
        let lost = lost.map(|row| u64::from(row.points)).sum::<u64>();
        let queued = self.ledger.queued;
        Some(Missing {
            lost: lost + queued.saturating_sub(points),
            again: points.saturating_sub(queued),
            is_exact: !self.has_gap,
        })
    }

    fn mend(&mut self) {
        let points = self.points();
        // The points of rows that are known to be lost are counted when they leave the queue.
        self.ledger.lose(self.ledger.queued.saturating_sub(points), Loss::Damaged);
        self.ledger.requeue(points.saturating_sub(self.ledger.queued));
    }

    fn damaged_points(&self) -> u64 {
        self.ledger.damaged
    }
}
