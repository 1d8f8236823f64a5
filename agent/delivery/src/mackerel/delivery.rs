//! The delivery of one host's values: from the spool to `POST /api/v0/tsdb`, newest first.
//!
//! A request begins small and grows ([`size`](super::size)). What is refused is halved until the refused values are known
//! ([`halving`](super::halving)); other failures are first tried with parts ([`sieve`](super::sieve)), since a single value may be what
//! they are over. Refused values are sent apart ([`refusals`](super::refusals)), and dropped only if Mackerel itself refuses them while it
//! accepts others. Delivered points are settled before the next request is sent. The second of the minute at which it posts is in `timing`.

mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::DroppedByTime;
use tokio::sync::watch;
use tokio::time::timeout;
use wasaba_core::sample::Sample;
use wasaba_core::text::printable;

use super::answer::{ApiError, AtFault};
use super::client::Client;
use super::halving::{Found, Fruitless, Halving};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Lane, Words, cure_of_missing_host};
use super::point::{Point, body, settlements};
use super::refusals::{self, Refusals};
use super::registration::PATIENCE;
use super::sieve::Sieve;
use super::size::Size;
use super::suspects::Suspects;
use super::timing::{Seen, Timing};
use super::{Pace, stopped};
use crate::spool::{Minute, Spool};

/// Held names are dropped if something else was accepted this long before: else Mackerel may be refusing everything.
const PROOF: Duration = Duration::from_mins(5);

/// What fails within this time after something else was accepted does not fail with everything.
const BESIDE: Duration = Duration::from_mins(2);

pub(super) struct Delivery {
    client: Client,
    spool: Arc<Spool>,
    own: HostId,
    /// The custom identifier of the host, if it is not this one.
    host: Option<Arc<str>>,
    hosts: Arc<Hosts>,
    pace: Pace,
    timing: Timing,
    size: Size,
    lane: Lane,
    refusals: Refusals,
    suspects: Suspects,
    sieve: Sieve,
    fruitless: Fruitless,
    /// The same for minutes that may be refused for their time, whatever else is accepted.
    fruitless_early: Fruitless,
    /// A search for refused points that pauses.
    unfinished: Option<Halving<Point, ApiError>>,
    /// When something was accepted last.
    accepted: Option<Instant>,
    dropped: DroppedByTime,
    /// Whether something was held back by its time in the last round.
    is_held_back: bool,
}

/// When a lane tries to deliver next.
enum Next {
    After(Duration),
    /// When something was kept, or the host found.
    Change,
    /// As [`Next::Change`], but not later than this.
    ChangeOrAt(Instant),
}

impl Delivery {
    pub(super) fn new(
        client: Client,
        spool: Arc<Spool>,
        own: HostId,
        host: Option<Arc<str>>,
        hosts: Arc<Hosts>,
        lane: Lane,
        pace: Pace,
    ) -> Self {
        Self {
            client,
            spool,
            timing: Timing::of(&own),
            own,
            host,
            hosts,
            pace,
            size: Size::default(),
            lane,
            refusals: Refusals::default(),
            suspects: Suspects::default(),
            sieve: Sieve::default(),
            fruitless: Fruitless::default(),
            fruitless_early: Fruitless::default(),
            unfinished: None,
            accepted: None,
            dropped: DroppedByTime::default(),
            is_held_back: false,
        }
    }

    /// Delivers the first values at once, and later ones whenever any are `queued`, at this host's second of the minute. On
    /// shutdown, it tries once more.
    pub(super) async fn run(mut self, mut queued: Seen, shutdown: watch::Receiver<bool>) {
        let mut found = self.hosts.found();
        tokio::select! {
            // It says what time it is, by which the first values are judged.
            _ = timeout(PATIENCE, self.client.answered()) => {}
            () = stopped(shutdown.clone()) => {}
        }
        loop {
            let next = self.round().await;
            let next = async {
                let retry = match next {
                    Next::After(wait) => return tokio::time::sleep(wait).await,
                    Next::ChangeOrAt(time) => Some(time.saturating_duration_since(self.now())),
                    Next::Change => None,
                };
                tokio::select! {
                    () = queued.changed() => {}
                    // The sender lives as long as this.
                    Ok(()) = found.changed(), if self.host.is_some() => {}
                    () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                }
                queued.wait(&self.timing, self.pace.now).await;
            };
            tokio::select! {
                () = next => {}
                () = stopped(shutdown.clone()) => break,
            }
        }
        self.round().await;
    }

    /// The id of the host, if it is known; else it is looked up.
    fn id(&self) -> Option<Arc<str>> {
        match &self.host {
            None => Some(self.own.as_str().into()),
            Some(identifier) => self.hosts.id(identifier, self.now()),
        }
    }

    /// Delivers until the queue is empty, the host's id is not known, or a request fails.
    async fn round(&mut self) -> Next {
        self.expire().await;
        if self.host.is_some() && self.read(1, |_, _| true).await.is_empty() {
            // Nothing asks for its id.
            self.is_well().await;
            return Next::Change;
        }
        let Some(id) = self.id() else { return Next::Change };
        if let Some(wait) = self.lane.held_back() {
            return Next::After(wait);
        }
        let result = self.deliver_all(&id).await;
        if let Some(line) = self.refusals.line(self.now()) {
            let host = self.host.as_ref().map(|host| format!("host `{}`: ", printable(host, 200)));
            tracing::warn!("{}{line}", host.unwrap_or_default());
        }
        match result {
            Ok(Some(pause)) => {
                match self.refusals.queued().or_else(|| self.refusals.refused()) {
                    // The search for others continues.
                    Some((names, why, _)) => self.note_names(&names, &why, pause),
                    None => self.is_well().await,
                }
                self.lane.pauses(pause);
                Next::After(pause)
            }
            Ok(None) => self.is_done().await,
            Err(error) => {
                // What is refused was searched through.
                let is_refusal = matches!(error, ApiError::Refused(_));
                if error.may_be_of_a_part() && (!is_refusal || self.sieve.is_open()) {
                    self.sieve.fail();
                }
                let is_gone = matches!(error, ApiError::NotFound(_)) && self.host.is_some();
                let cure = is_gone.then(cure_of_missing_host);
                let task = self.task("values");
                Next::After(self.lane.wait(&error, &Words { cure, ..Words::new(&task, "they stay queued") }))
            }
        }
    }

    /// What a message says that it cannot do.
    fn task(&self, values: &str) -> String {
        let host = self.host.as_ref().map(|host| format!(" of the host `{}`", printable(host, 200)));
        format!("deliver {values}{}", host.unwrap_or_default())
    }

    /// Notes that everything is delivered but what is held, which is the lane's fault as long as it may be accepted later.
    async fn is_done(&mut self) -> Next {
        self.sieve.clear();
        let held_back = match self.ask_time().await {
            Ok(Some(held_back)) => held_back,
            Ok(None) => return Next::After(Duration::ZERO),
            Err(error) => {
                let task = self.task("values");
                return Next::After(self.lane.wait(&error, &Words::new(&task, "they stay queued")));
            }
        };
        let now = self.now();
        let minute = self.suspects.parked().map(|(next, why)| (why.clone(), *next));
        match (self.refusals.queued(), minute, held_back.fault, self.refusals.refused()) {
            (Some((names, why, next)), ..) => self.note_names(&names, &why, next.saturating_duration_since(now)),
            (None, Some((why, next)), ..) => {
                let task = self.task("the values of a minute");
                let words = Words::new(&task, "they stay queued, and all others are delivered");
                let words = Words { is_of_a_part: true, ..words };
                self.lane.fault(next.saturating_duration_since(now), &why, &words);
            }
            (None, None, Some(fault), _) => self.note_time_fault(fault),
            (None, None, None, Some((names, why, next))) => {
                self.note_names(&names, &why, next.saturating_duration_since(now));
            }
            (None, None, None, None) => self.is_well().await,
        }
        let next = self.refusals.next().into_iter().chain(self.suspects.parked().map(|(next, _)| *next));
        next.chain(held_back.next_look.map(|wait| now + wait)).min().map_or(Next::Change, Next::ChangeOrAt)
    }

    /// Notes that values of these names fail, which are tried again after `wait`.
    fn note_names(&mut self, names: &str, why: &ApiError, wait: Duration) {
        let task = self.task(&format!("values of {names}"));
        let words = match why.is_final() {
            // What is dropped has its line in the log.
            true => Words {
                cure: Some((AtFault::Content, refusals::CURE.to_owned())),
                is_said: true,
                ..Words::new(&task, "they are dropped, and all others are delivered")
            },
            false => Words::new(&task, "they stay queued, and all others are delivered"),
        };
        self.lane.part_fault(wait, why, &Words { is_of_a_part: true, ..words });
    }

    /// Notes that everything is delivered, unless something may be queued that cannot be read.
    async fn is_well(&mut self) {
        if self.blocking(Spool::is_read).await {
            self.lane.is_well();
        }
    }

    /// Delivers all but the held names, and then those of them that are due. Returns how long to pause before the rest.
    async fn deliver_all(&mut self, id: &Arc<str>) -> Result<Option<Duration>, ApiError> {
        if let Some(search) = self.unfinished.take()
            && self.search(search).await? == Some(true)
        {
            return Ok(Some(self.pace.pause));
        }
        loop {
            let part = self.part(id).await;
            let is_part = !part.is_empty();
            let mut points = if is_part { part } else { addressed(self.newest().await, id) };
            if points.is_empty() {
                break;
            }
            points.truncate(self.size.points());
            if self.deliver(points, is_part).await? {
                return Ok(Some(self.pace.pause));
            }
            self.timing.delivered((self.pace.now)());
        }
        self.retry_suspects(id).await?;
        self.retry_refused(id).await
    }

    /// The newest values of a part of the names, if everything together failed.
    async fn part(&mut self, id: &Arc<str>) -> Vec<Point> {
        if self.sieve.part(usize::MAX).is_none() {
            return Vec::new();
        }
        let minutes = self.newest_before(i64::MAX, self.size.points()).await;
        let mut newest = BTreeMap::new();
        for point in addressed(minutes, id) {
            newest.entry(point.sample.name().clone()).or_insert(point);
        }
        let Some(part) = self.sieve.part(newest.len()) else { return Vec::new() };
        newest.into_values().enumerate().filter(|(place, _)| part(*place)).map(|(_, point)| point).collect()
    }

    /// The minutes to deliver next, without the points of held names, and of suspect minutes.
    async fn newest(&mut self) -> Vec<Minute> {
        let most = self.size.minutes_up_to();
        let mut minutes = self.newest_before(self.suspects.before(), most).await;
        if minutes.is_empty() && self.suspects.are_open() {
            if let Some(oldest) = self.suspects.take_oldest() {
                minutes = self.newest_before(oldest, most).await;
            }
            if minutes.is_empty() {
                minutes = self.newest_before(i64::MAX, most).await;
            }
            if minutes.is_empty() {
                // There is no other minute to compare them with.
                self.suspects.clear();
                minutes = self.newest_before(i64::MAX, most).await;
            }
        }
        minutes
    }

    async fn newest_before(&mut self, before: i64, most: usize) -> Vec<Minute> {
        let (held, times) = (self.refusals.held(), self.suspects.held(self.now()));
        let is_next =
            move |time: i64, sample: &Sample| time <= before && !times.contains(&time) && !held.contains(sample);
        self.queued(most, is_next).await
    }

    /// The newest minutes of this lane's host, of those points that pass the filter and are not held back by their time. Only what this
    /// returns is posted: between two looks at the queue more may be kept.
    async fn queued(&self, most: usize, filter: impl Fn(i64, &Sample) -> bool + Send + 'static) -> Vec<Minute> {
        let verdict = self.verdict();
        self.read(most, move |time, sample| verdict.posts(time) && filter(time, sample)).await
    }

    /// As [`Delivery::queued`], with what is held back by its time.
    async fn read(&self, most: usize, filter: impl Fn(i64, &Sample) -> bool + Send + 'static) -> Vec<Minute> {
        let host = self.host.clone();
        self.blocking(move |spool| spool.newest_of(host.as_ref(), most, &filter)).await
    }

    fn now(&self) -> Instant {
        (self.pace.instant)()
    }

    /// Delivers one batch. If it is refused, looks for what is. Returns whether to pause.
    async fn deliver(&mut self, batch: Vec<Point>, is_part: bool) -> Result<bool, ApiError> {
        let (count, now) = (batch.len(), self.now());
        let (batch, error) = match self.post(batch).await {
            Ok(()) => {
                self.size.grow(count, now);
                return Ok(false);
            }
            Err(failed) => failed,
        };
        if let (ApiError::NotFound(_), Some(identifier)) = (&error, &self.host) {
            // It has been retired since.
            self.hosts.doubt(identifier, now);
        }
        let is_exhausted = self.lane.is_exhausted();
        if error.is_too_large() && error.retry_after().is_none() && self.size.is_limited_by(count, now) && !is_exhausted
        {
            return Ok(false);
        }
        if error.retry_after().is_some() {
            return Err(error);
        }
        let is_refusal = matches!(error, ApiError::Refused(_));
        let is_searched = is_refusal || self.sieve.is_accepting() && error.may_be_of_a_part();
        let (newest, oldest) = (batch.first().map(|point| point.time), batch.last().map(|point| point.time));
        if !is_searched || newest != oldest && !is_part {
            self.size.shrink(count);
            // Perhaps it is the size.
            return if is_searched && !is_exhausted { Ok(false) } else { Err(error) };
        }
        if !is_refusal {
            let search = Halving::beside_accepted(batch, error);
            return Ok(self.search(search).await? == Some(true));
        }
        let may_be_early = newest.is_some_and(|newest| self.verdict().may_be_early(newest));
        let is_searched = !may_be_early || self.fruitless_early.allows(count, now);
        if is_searched && self.fruitless.allows(count, now) {
            let search = Halving::of_refused(batch, error.clone(), (self.pace.random)());
            if let Some(is_unfinished) = self.search(search).await? {
                return Ok(is_unfinished);
            }
            self.fruitless.record(count, now);
            if may_be_early {
                self.fruitless_early.record(count, now);
            }
        }
        self.size.shrink(count);
        if is_part {
            return Err(error);
        }
        self.suspects.add(newest);
        if self.suspects.others_are_accepted() { Ok(false) } else { Err(error) }
    }

    /// Looks for refused points; what is accepted on the way is delivered. The names of refused points are held, and what Mackerel
    /// itself refuses is dropped. Returns whether the search is unfinished; `None` if nothing was accepted.
    async fn search(&mut self, mut search: Halving<Point, ApiError>) -> Result<Option<bool>, ApiError> {
        let mut result = Ok(());
        while result.is_ok()
            && !self.lane.is_exhausted()
            && let Some(batch) = search.next()
        {
            match self.post(batch).await {
                Ok(()) => search.accept(),
                Err((batch, error)) => result = search.fail(batch, error),
            }
        }
        let (refused, is_unfinished) = match search.found() {
            Found::All(refused) => (refused, Some(false)),
            Found::Some(refused) => (refused, Some(true)),
            Found::NothingAccepted => (Vec::new(), None),
        };
        let now = self.now();
        refused.iter().for_each(|(point, why)| self.refusals.hold(&point.sample, why, now));
        self.reject(refused).await;
        result?;
        self.unfinished = (is_unfinished == Some(true)).then_some(search);
        Ok(is_unfinished)
    }

    /// Tries suspect minutes again once another was accepted; of what is refused again as a whole, the points are dropped, or left
    /// alone for a while if it may not have been Mackerel that refused them.
    async fn retry_suspects(&mut self, id: &Arc<str>) -> Result<(), ApiError> {
        while let Some(time) = self.suspects.next() {
            let held = self.refusals.held();
            let minutes = self.queued(1, move |other, sample| other == time && !held.contains(sample)).await;
            let mut points = addressed(minutes, id);
            points.truncate(self.size.points());
            if points.is_empty() {
                continue;
            }
            let (points, error) = match self.post(points).await {
                Ok(()) => continue,
                Err((points, error @ ApiError::Refused(_))) => (points, error),
                Err((points, error)) => {
                    self.size.shrink(points.len());
                    return Err(error);
                }
            };
            let (same, now) = (points.clone(), self.now());
            let may_be_early = self.verdict().may_be_early(time);
            if may_be_early && !self.fruitless_early.allows(points.len(), now) {
                self.suspects.park_early(time, &error, now);
                continue;
            }
            let search = Halving::of_refused(points, error.clone(), (self.pace.random)());
            if self.search(search).await?.is_some() {
                continue;
            }
            if may_be_early {
                self.fruitless_early.record(same.len(), now);
                self.suspects.park_early(time, &error, now);
                continue;
            }
            if !error.is_final() {
                self.suspects.park(time, &error, self.now());
            }
            self.reject_all(same, &error).await;
        }
        Ok(())
    }

    /// Tries the held names that are due again, all together. Refused ones are held again, and what is queued of them is dropped if
    /// Mackerel itself refuses them.
    async fn retry_refused(&mut self, id: &Arc<str>) -> Result<Option<Duration>, ApiError> {
        let (now, held) = (self.now(), self.refusals.held());
        if self.refusals.next().is_none_or(|next| now < next) {
            return Ok(None);
        }
        let (due, most) = (held.clone(), self.size.points());
        let minutes = self.queued(most, move |_, sample| due.is_due(sample, now)).await;
        let points = addressed(minutes, id);
        if points.len() < most {
            self.refusals.release_due(points.iter().map(|point| &point.sample), now);
        }
        // The newest of each name; the rest follows if it is accepted.
        let mut seen = BTreeSet::new();
        let is_first = |point: &Point| seen.insert(point.sample.name().clone());
        let (newest, older): (Vec<_>, Vec<_>) = points.into_iter().partition(is_first);
        self.refusals.extend_due(now);
        if newest.is_empty() {
            return Ok(None);
        }
        let all = newest.clone();
        let is_accepting = self.was_accepting_within(BESIDE);
        let (newest, error) = match self.post(newest).await {
            Ok(()) => return Ok(Some(Duration::ZERO)),
            Err((newest, error)) if error.may_be_of_a_part() => (newest, error),
            Err((_, error)) => return Err(error),
        };
        let search = match (&error, is_accepting) {
            (_, true) => Halving::beside_accepted(newest, error.clone()),
            (ApiError::Refused(_), false) => Halving::of_refused(newest, error.clone(), (self.pace.random)()),
            // Perhaps everything fails.
            (_, false) => {
                newest.iter().for_each(|point| self.refusals.release_open(&point.sample));
                return Err(error);
            }
        };
        let pause = match self.search(search).await? {
            Some(is_unfinished) => is_unfinished.then_some(self.pace.pause),
            None => {
                // Something else must have been accepted meanwhile: else the names are not to blame.
                if !self.was_accepting_within(PROOF) {
                    return Err(error);
                }
                self.reject_all(all, &error).await;
                None
            }
        };
        let held = self.refusals.held();
        let (older, accepted): (Vec<_>, Vec<_>) = older.into_iter().partition(|point| held.contains(&point.sample));
        self.reject_all(older, &error).await;
        Ok(pause.or((!accepted.is_empty()).then_some(Duration::ZERO)))
    }

    fn was_accepting_within(&self, time: Duration) -> bool {
        self.accepted.is_some_and(|at| self.now().saturating_duration_since(at) < time)
    }

    /// Posts a batch, and settles it if it is accepted; else returns it with the error, which is counted.
    async fn post(&mut self, batch: Vec<Point>) -> Result<(), (Vec<Point>, ApiError)> {
        if let Err(error) = self.lane.request(batch.len(), self.client.post_values(body(&batch))).await {
            return Err((batch, error));
        }
        tracing::debug!("delivered {} points", batch.len());
        self.suspects.accept();
        self.fruitless.clear();
        self.sieve.accept();
        self.accepted = Some(self.now());
        batch.iter().for_each(|point| self.refusals.release(&point.sample));
        self.settle(batch, Vec::new()).await;
        self.expire().await;
        Ok(())
    }

    /// Drops points that Mackerel refuses, each for its reason. What something else refuses stays queued, since it may be accepted
    /// tomorrow, and so does what is dated ahead of Mackerel's time.
    async fn reject(&self, refused: Vec<(Point, ApiError)>) {
        let verdict = self.verdict();
        let refused = refused.into_iter().filter(|(point, why)| why.is_final() && !verdict.is_early(point.time));
        self.settle(Vec::new(), refused.map(|(point, _)| point).collect()).await;
    }

    /// Drops points that are refused for the same reason, but not for their names; as [`Delivery::reject`].
    async fn reject_all(&mut self, refused: Vec<Point>, why: &ApiError) {
        self.refusals.count(refused.len(), why);
        self.reject(refused.into_iter().map(|point| (point, why.clone())).collect()).await;
    }

    /// Settles in one commit.
    async fn settle(&self, delivered: Vec<Point>, rejected: Vec<Point>) {
        let settlements = settlements(delivered, rejected);
        if settlements.is_empty() {
            return;
        }
        self.blocking(move |spool| spool.settle(settlements)).await;
    }

    async fn blocking<T: Default + Send + 'static>(&self, work: impl FnOnce(&Spool) -> T + Send + 'static) -> T {
        #[cfg(test)]
        let _under_way = super::simulation::UnderWay::begin();
        let spool = self.spool.clone();
        tokio::task::spawn_blocking(move || work(&spool)).await.unwrap_or_else(|error| {
            tracing::error!("a bug in wasaba's spool: {error}");
            T::default()
        })
    }
}

/// The points of `minutes` for the host of this id.
fn addressed(minutes: Vec<Minute>, id: &Arc<str>) -> Vec<Point> {
    let point = |time, sample| Point { host_id: Arc::clone(id), time, sample };
    minutes
        .into_iter()
        .flat_map(|minute| minute.samples.into_iter().map(move |sample| point(minute.time, sample)))
        .collect()
}
