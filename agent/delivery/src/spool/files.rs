//! The two files, as the writer has them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use wasaba_core::text::counted;

use super::batch::Batch;
use super::disk::Disk;
use super::durable::{Contents, Durable, shown};
use super::front::{Picture, Recent, kind};
use super::history::{History, Series};
use super::ledger::Loss;
use super::plan::{Dropped, Drops, Plan};
use super::queue::{Id, Queue};
use super::readings::{self, OfSource};
use super::store::{MOST_KIND_BYTES, Puts, Store};
use super::trouble::Trouble;
use super::{Bounds, Minute, Whose};

/// A kind of loss is logged this often, in seconds.
const LOGGED_AGAIN: i64 = 60 * 60;

pub(super) struct Files {
    disk: Arc<dyn Disk>,
    bounds: Bounds,
    queue: Option<Durable<Queue>>,
    state: Option<Durable<Store>>,
    history: History,
    /// Rows whose frames were found damaged.
    unreadable: Vec<Id>,
    fails_to_read: bool,
    dropped: BTreeMap<Loss, Unlogged>,
    /// What the log should have about the files.
    lines: Vec<String>,
    /// The kinds of entries of which the log has said that there is no room for more.
    full_kinds: BTreeSet<String>,
}

/// What was dropped since the log last said so.
#[derive(Default)]
struct Unlogged {
    dropped: Dropped,
    /// In seconds since 1970.
    logged: Option<i64>,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, bounds: Bounds) -> Self {
        Self {
            history: History::new(Arc::clone(&disk)),
            disk,
            bounds,
            queue: None,
            state: None,
            unreadable: Vec::new(),
            fails_to_read: false,
            dropped: BTreeMap::new(),
            lines: Vec::new(),
            full_kinds: BTreeSet::new(),
        }
    }

    /// Opens the queue, if it is not open yet. Returns whether it was opened.
    pub(super) fn open_queue(&mut self, patience: Duration) -> Result<bool, Trouble> {
        if self.queue.is_some() {
            return Ok(false);
        }
        self.queue = Some(Durable::open(&self.disk, patience, self.bounds.dead_bytes, &mut self.lines)?);
        Ok(true)
    }

    /// Opens the state, if it is not open yet. Returns whether it was opened.
    pub(super) fn open_state(&mut self, patience: Duration) -> Result<bool, Trouble> {
        if self.state.is_some() {
            return Ok(false);
        }
        self.state = Some(Durable::open(&self.disk, patience, self.bounds.dead_bytes, &mut self.lines)?);
        Ok(true)
    }

    /// Writes a batch.
    pub(super) fn commit(&mut self, batch: &Batch, now: i64) -> Result<(), Trouble> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        let mut drops = Drops::default();
        let (unreadable, most_bytes) = (&self.unreadable, self.bounds.bytes);
        queue.commit(&mut self.lines, |contents, log| {
            let (payload, dropped) = Plan::of(contents, log, batch, unreadable, most_bytes);
            drops = dropped;
            payload
        })?;
        self.unreadable.clear();
        self.note(drops, now);
        for (time, samples) in batch.minutes.iter().chain(&batch.done) {
            self.history.put(*time, samples, &mut self.lines);
        }
        Ok(())
    }

    /// The names of all that has a history.
    pub(super) fn history_keys(&mut self, now: i64) -> io::Result<Vec<String>> {
        self.history.keys(now)
    }

    /// The history of some metrics.
    pub(super) fn history(&mut self, keys: &[String], from: i64, to: i64) -> io::Result<Series> {
        self.history.series(keys, from, to)
    }

    /// Stores entries of the state.
    pub(super) fn put(&mut self, puts: &Puts) -> Result<(), Trouble> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let (payloads, full) = state.contents().plan(puts);
        for kind in full.into_iter().filter(|kind| self.full_kinds.insert((*kind).to_owned())) {
            tracing::warn!(
                "`{}` holds no more than {} MiB of {kind}",
                state.log().path().display(),
                MOST_KIND_BYTES >> 20
            );
        }
        let mut payloads = payloads.into_iter();
        state.commit(&mut self.lines, |_, _| payloads.next().unwrap_or_default())?;
        payloads.try_for_each(|payload| state.commit(&mut self.lines, |_, _| payload))
    }

    /// Notes what a commit has dropped. The log has a line about each reason at once, and then one an hour about the rest.
    pub(super) fn note(&mut self, drops: Drops, now: i64) {
        for (why, Dropped { points, times, example }) in drops.0 {
            let unlogged = self.dropped.entry(why).or_default();
            unlogged.dropped.points += points;
            unlogged.dropped.times.extend(times);
            unlogged.dropped.example = unlogged.dropped.example.take().or(example);
        }
        let is_due =
            |unlogged: &Unlogged| unlogged.logged.is_none_or(|logged| now.abs_diff(logged) >= LOGGED_AGAIN as u64);
        for (why, dropped) in self.take_dropped(is_due, Some(now)) {
            let line = self.about(why, &dropped);
            self.lines.push(line);
        }
    }

    /// Takes the lines for the log; at the end with what the next hour's would have had.
    pub(super) fn take_lines(&mut self, is_end: bool) -> Vec<String> {
        if is_end {
            for (why, dropped) in self.take_dropped(|_| true, None) {
                let line = self.about(why, &dropped);
                self.lines.push(line);
            }
        }
        std::mem::take(&mut self.lines)
    }

    fn take_dropped(&mut self, is_due: impl Fn(&Unlogged) -> bool, now: Option<i64>) -> Vec<(Loss, Dropped)> {
        let due = self.dropped.iter_mut().filter(|(_, unlogged)| unlogged.dropped.points > 0 && is_due(unlogged));
        let take = |(why, unlogged): (&Loss, &mut Unlogged)| {
            unlogged.logged = now.or(unlogged.logged);
            (*why, std::mem::take(&mut unlogged.dropped))
        };
        due.map(take).collect()
    }

    fn about(&self, why: Loss, Dropped { points, times, example }: &Dropped) -> String {
        let queue = self.queue.as_ref().map(Durable::contents);
        let minutes = counted(times.len() as u64, "minute");
        let dropped = format!("dropped {} of {minutes}", counted(*points, "undelivered point"));
        match why {
            Loss::Expired => {
                format!(
                    "{dropped}: older than 24 h by Mackerel's time, which it does not store; if they did not wait for a day, set this \
                     machine's clock"
                )
            }
            Loss::Overflowed => {
                let hours = queue.and_then(|queue| queue.hours(self.bounds.bytes));
                let hours = hours.map(|hours| format!(", which hold {hours:.1} h at the present rate"));
                format!(
                    "{dropped}, the oldest: the queue has reached its {} MiB{}",
                    self.bounds.bytes >> 20,
                    hours.unwrap_or_default()
                )
            }
            Loss::OfAnotherHost => {
                let owner = queue.and_then(|queue| queue.owner.as_deref()).unwrap_or_default();
                format!("{dropped} that belong to another host: this machine is host `{owner}` on Mackerel now")
            }
            Loss::Misdated => {
                format!("{dropped}: dated more than 10 minutes ahead of Mackerel's time; set this machine's clock")
            }
            Loss::Repeated => format!(
                "dropped {} of {minutes} that were collected twice{}: this machine's clock was set back, or a plugin gave a \
                 value of the same time again",
                counted(*points, "point"),
                example.as_ref().map(|name| format!(", such as `{name}`")).unwrap_or_default()
            ),
            Loss::Damaged | Loss::Lost => {
                format!("{dropped}: they cannot be read from `{}`", self.queue_path())
            }
        }
    }

    /// How often something else has deleted the queue's file.
    pub(super) fn times_deleted(&self) -> Option<u64> {
        self.queue.as_ref().map(Durable::times_deleted)
    }

    /// The points that were settled lately.
    pub(super) fn settled(&self) -> Recent {
        self.queue.as_ref().map(|queue| queue.contents().settled()).unwrap_or_default()
    }

    pub(super) fn picture(&self) -> Picture {
        let Some(queue) = &self.queue else { return Picture::default() };
        let (contents, bytes) = (queue.contents(), queue.log().end());
        Picture {
            ledger: contents.ledger,
            owner: contents.owner.clone(),
            points: contents.points_by_time(),
            bytes,
            hours: contents.hours(self.bounds.bytes),
            hosts: contents.names.hosts().clone(),
            is_open: true,
        }
    }

    /// Queued minutes before `before`, the newest first, with about so many points; and whether there are more. None if they cannot be
    /// read now, which is logged.
    pub(super) fn minutes(&mut self, before: i64, points: usize, whose: &Whose) -> (Vec<Minute>, bool) {
        let read = self.read(before, points, whose);
        let was_failing = std::mem::replace(&mut self.fails_to_read, read.is_err());
        if was_failing && !self.fails_to_read {
            tracing::info!("`{}` can be read again", self.queue_path());
        }
        read.unwrap_or_else(|error| {
            if !was_failing {
                let path = self.queue_path();
                tracing::warn!("cannot read `{path}`: {error}; what is in it stays queued: check its disk");
            }
            (Vec::new(), false)
        })
    }

    fn read(&mut self, before: i64, points: usize, whose: &Whose) -> io::Result<(Vec<Minute>, bool)> {
        let Some(queue) = &self.queue else { return Ok((Vec::new(), false)) };
        let (contents, log) = (queue.contents(), queue.log());
        let (mut minutes, mut count) = (Vec::new(), 0);
        for time in contents.times(before) {
            if count >= points {
                return Ok((minutes, true));
            }
            let samples = contents.minute(log, time, whose, &mut self.unreadable)?;
            if !samples.is_empty() {
                count += samples.len();
                minutes.push(Minute { time, samples });
            }
        }
        log.forget();
        Ok((minutes, false))
    }

    /// Whether reading failed when it was tried last.
    pub(super) fn fails_to_read(&self) -> bool {
        self.fails_to_read
    }

    pub(super) fn has_state(&self) -> bool {
        self.state.is_some()
    }

    /// Whether rows were found damaged that the next commit takes out of the queue.
    pub(super) fn has_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    pub(super) fn get(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        let state = self.state.as_ref()?;
        state.contents().get(state.log(), &(kind.to_owned(), key.to_owned())).ok().flatten()
    }

    pub(super) fn all(&self, kind: &str) -> BTreeMap<String, Vec<u8>> {
        self.state.as_ref().and_then(|state| state.contents().all(state.log(), kind).ok()).unwrap_or_default()
    }

    pub(super) fn keys(&self, kind: &str) -> Vec<String> {
        let state = self.state.iter();
        state.flat_map(|state| state.contents().keys(kind)).map(str::to_owned).collect()
    }

    pub(super) fn host_id(&self) -> Option<String> {
        self.get(kind::HOST, "id").and_then(|bytes| String::from_utf8(bytes).ok())
    }

    pub(super) fn readings(&self) -> impl Iterator<Item = (String, OfSource)> {
        self.all(kind::READINGS).into_iter().filter_map(|(source, bytes)| Some((source, readings::decoded(&bytes)?)))
    }

    pub(super) fn queue_path(&self) -> String {
        shown(&*self.disk, Queue::KIND)
    }

    pub(super) fn state_path(&self) -> String {
        shown(&*self.disk, Store::KIND)
    }
}
