//! The delivery of one host's values: from the spool to `POST /api/v0/tsdb`, newest first.
//!
//! A request begins small and grows ([`size`](super::size)). What Mackerel refuses is halved until the refused values are known,
//! and only those are dropped ([`refusals`](super::refusals)); if it accepts nothing at all, nothing is dropped, and what a gateway
//! seems to refuse stays queued. Delivered points are settled before the next request is sent. The second of the minute at which it
//! posts is in `timing`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wasaba_core::sample::Sample;
use wasaba_core::text::printable;

use super::answer::ApiError;
use super::client::Client;
use super::halving::{Found, Fruitless, Halving};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Lane, Words, cure_of_missing_host};
use super::point::{Point, body, settlements};
use super::refusals::Refusals;
use super::size::Size;
use super::suspects::Suspects;
use super::timing::Timing;
use super::{Pace, stopped};
use crate::spool::{Minute, Spool};

/// Held names are dropped if something else was accepted this long before: else Mackerel may be refusing everything.
const PROOF: Duration = Duration::from_mins(5);

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
    fruitless: Fruitless,
    /// A search for refused points that pauses, and why they are refused.
    unfinished: Option<(Halving<Point>, ApiError)>,
    /// When something was accepted last.
    accepted: Option<Instant>,
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
            fruitless: Fruitless::default(),
            unfinished: None,
            accepted: None,
        }
    }

    /// Delivers the first values at once, and later ones whenever `kept` changes, at this host's second of the minute. On shutdown,
    /// it tries once more.
    pub(super) async fn run(mut self, mut kept: watch::Receiver<()>, shutdown: watch::Receiver<bool>) {
        let mut found = self.hosts.found();
        loop {
            let next = self.round().await;
            let next = async {
                let retry = match next {
                    Next::After(wait) => return tokio::time::sleep(wait).await,
                    Next::ChangeOrAt(time) => Some(time.saturating_duration_since(self.now())),
                    Next::Change => None,
                };
                tokio::select! {
                    // Both senders live as long as this.
                    Ok(()) = kept.changed() => {}
                    Ok(()) = found.changed(), if self.host.is_some() => {}
                    () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                }
                tokio::time::sleep(self.timing.wait((self.pace.now)())).await;
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
        if self.host.is_some() && self.queued(1, |_, _| true).await.is_empty() {
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
            Ok(pause) => {
                self.is_well().await;
                if let Some(pause) = pause {
                    self.lane.pauses(pause);
                    return Next::After(pause);
                }
                let retry = self.refusals.next().into_iter().chain(self.suspects.next_parked()).min();
                retry.map_or(Next::Change, Next::ChangeOrAt)
            }
            Err(error) => {
                let host = self.host.as_ref().map(|host| format!(" of the host `{}`", printable(host, 200)));
                let task = format!("deliver values{}", host.unwrap_or_default());
                let is_gone = matches!(error, ApiError::NotFound(_)) && self.host.is_some();
                let cure = is_gone.then(cure_of_missing_host);
                Next::After(self.lane.wait(&error, &Words { cure, ..Words::new(&task, "they stay queued") }))
            }
        }
    }

    /// Notes that everything is delivered, unless something may be queued that cannot be read.
    async fn is_well(&mut self) {
        if self.blocking(Spool::is_read).await {
            self.lane.is_well();
        }
    }

    /// Delivers all but the held names, and then those of them that are due. Returns how long to pause before the rest.
    async fn deliver_all(&mut self, id: &Arc<str>) -> Result<Option<Duration>, ApiError> {
        if let Some((search, why)) = self.unfinished.take()
            && self.search(search, &why).await? == Some(true)
        {
            return Ok(Some(self.pace.pause));
        }
        loop {
            let minutes = self.newest().await;
            if minutes.is_empty() {
                break;
            }
            let mut points = addressed(minutes, id);
            points.truncate(self.size.points());
            if self.deliver(points).await? {
                return Ok(Some(self.pace.pause));
            }
            self.timing.delivered((self.pace.now)());
        }
        self.retry_suspects(id).await?;
        self.retry_refused(id).await
    }

    /// The minutes to deliver next, without the points of held names, and of suspect minutes.
    async fn newest(&mut self) -> Vec<Minute> {
        let mut minutes = self.newest_before(self.suspects.before()).await;
        if minutes.is_empty() && self.suspects.are_open() {
            minutes = self.newest_before(i64::MAX).await;
            if minutes.is_empty() {
                // There is no other minute to compare them with.
                self.suspects.clear();
                minutes = self.newest_before(i64::MAX).await;
            }
        }
        minutes
    }

    async fn newest_before(&mut self, before: i64) -> Vec<Minute> {
        let (held, times) = (self.refusals.held(), self.suspects.held(self.now()));
        let is_next =
            move |time: i64, sample: &Sample| time <= before && !times.contains(&time) && !held.contains(sample);
        self.queued(self.size.minutes_up_to(), is_next).await
    }

    /// The newest minutes of this lane's host, of those points that pass the filter.
    async fn queued(&self, most: usize, filter: impl Fn(i64, &Sample) -> bool + Send + 'static) -> Vec<Minute> {
        let host = self.host.clone();
        self.blocking(move |spool| spool.newest_of(host.as_ref(), most, &filter)).await
    }

    fn now(&self) -> Instant {
        (self.pace.instant)()
    }

    /// Delivers one batch. If Mackerel refuses it, looks for what it refuses. Returns whether to pause.
    async fn deliver(&mut self, batch: Vec<Point>) -> Result<bool, ApiError> {
        let count = batch.len();
        let (batch, error) = match self.post(batch).await {
            Ok(()) => {
                self.size.grow(count);
                return Ok(false);
            }
            Err(failed) => failed,
        };
        let (newest, oldest) = (batch.first().map(|point| point.time), batch.last().map(|point| point.time));
        match error {
            ApiError::Refused(_)
                if error.is_too_large() && self.size.is_limited_by(count) && !self.lane.is_exhausted() =>
            {
                Ok(false)
            }
            // Perhaps it is the size.
            ApiError::Refused(_) if newest != oldest && !self.lane.is_exhausted() => {
                self.size.shrink(count);
                Ok(false)
            }
            ApiError::Refused(_) if newest == oldest => {
                let now = self.now();
                if self.fruitless.allows(count, now) {
                    let search = Halving::of_refused(batch, (self.pace.random)());
                    if let Some(is_unfinished) = self.search(search, &error).await? {
                        return Ok(is_unfinished);
                    }
                    self.fruitless.record(count, now);
                }
                self.suspects.add(newest);
                self.size.shrink(count);
                if self.suspects.others_are_accepted() { Ok(false) } else { Err(error) }
            }
            error => {
                if let (ApiError::NotFound(_), Some(identifier)) = (&error, &self.host) {
                    // It has been retired since.
                    self.hosts.doubt(identifier, self.now());
                }
                self.size.shrink(count);
                Err(error)
            }
        }
    }

    /// Looks for refused points; what is accepted on the way is delivered. The names of refused points are held, and what Mackerel
    /// itself refuses is dropped. Returns whether the search is unfinished; `None` if nothing was accepted.
    async fn search(&mut self, mut search: Halving<Point>, why: &ApiError) -> Result<Option<bool>, ApiError> {
        let mut failed = None;
        while !self.lane.is_exhausted()
            && let Some(batch) = search.next()
        {
            match self.post(batch).await {
                Ok(()) => search.accept(),
                Err((batch, error)) if error.is_refusal_like(why) => search.refuse(batch),
                Err((_, error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let (refused, is_unfinished) = match search.found() {
            Found::All(refused) => (refused, Some(false)),
            Found::Some(refused) => (refused, Some(true)),
            Found::NothingAccepted => (Vec::new(), None),
        };
        self.refusals.hold(refused.iter().map(|point| &point.sample), why, self.now());
        self.reject(refused, why).await;
        if let Some(error) = failed {
            return Err(error);
        }
        self.unfinished = (is_unfinished == Some(true)).then(|| (search, why.clone()));
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
            let same = points.clone();
            let search = Halving::of_refused(points, (self.pace.random)());
            if self.search(search, &error).await?.is_some() {
                continue;
            }
            self.refusals.count(same.len(), &error);
            if error.is_of_mackerel() {
                self.reject(same, &error).await;
            } else {
                self.suspects.park(time, self.now());
            }
        }
        Ok(())
    }

    /// Tries the held names that are due again, all together. Refused ones are held for another hour, and what is queued of them
    /// is dropped if Mackerel itself refuses them.
    async fn retry_refused(&mut self, id: &Arc<str>) -> Result<Option<Duration>, ApiError> {
        let (now, held) = (self.now(), self.refusals.held());
        if self.refusals.next().is_none_or(|next| now < next) {
            return Ok(None);
        }
        let due = held.clone();
        let minutes = self.queued(self.size.points(), move |_, sample| due.is_due(sample, now)).await;
        // The newest of each name; the rest follows if it is accepted.
        let mut seen = BTreeSet::new();
        let is_first = |point: &Point| seen.insert(point.sample.name().clone());
        let (newest, older): (Vec<_>, Vec<_>) = addressed(minutes, id).into_iter().partition(is_first);
        self.refusals.extend_due(now);
        if newest.is_empty() {
            return Ok(None);
        }
        let all = newest.clone();
        let (newest, error) = match self.post(newest).await {
            Ok(()) => return Ok(Some(Duration::ZERO)),
            Err((newest, error @ ApiError::Refused(_))) => (newest, error),
            Err((_, error)) => return Err(error),
        };
        let search = Halving::of_refused(newest, (self.pace.random)());
        let pause = match self.search(search, &error).await? {
            Some(is_unfinished) => is_unfinished.then_some(self.pace.pause),
            None => {
                // Something else must have been accepted meanwhile: else the names are not to blame.
                if self.accepted.is_none_or(|at| now.saturating_duration_since(at) >= PROOF) {
                    return Err(error);
                }
                self.refusals.count(all.len(), &error);
                self.reject(all, &error).await;
                None
            }
        };
        let held = self.refusals.held();
        let (older, accepted): (Vec<_>, Vec<_>) = older.into_iter().partition(|point| held.contains(&point.sample));
        self.refusals.count(older.len(), &error);
        self.reject(older, &error).await;
        Ok(pause.or((!accepted.is_empty()).then_some(Duration::ZERO)))
    }

    /// Posts a batch, and settles it if it is accepted; else returns it with the error, which is counted.
    async fn post(&mut self, batch: Vec<Point>) -> Result<(), (Vec<Point>, ApiError)> {
        if let Err(error) = self.lane.request(batch.len(), self.client.post_values(body(&batch))).await {
            return Err((batch, error));
        }
        tracing::debug!("delivered {} points", batch.len());
        self.suspects.accept();
        self.fruitless.clear();
        self.accepted = Some(self.now());
        batch.iter().for_each(|point| self.refusals.release(&point.sample));
        self.settle(batch, Vec::new()).await;
        self.expire().await;
        Ok(())
    }

    /// Drops what is too old or dated ahead by Mackerel's clock, if that is known.
    async fn expire(&self) {
        if let Some(time) = self.client.mackerel_time() {
            self.blocking(move |spool| spool.expire(time)).await;
        }
    }

    /// Drops points that Mackerel refuses. What something else refuses stays queued, since it may accept it tomorrow.
    async fn reject(&self, refused: Vec<Point>, why: &ApiError) {
        if why.is_of_mackerel() {
            self.settle(Vec::new(), refused).await;
        }
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
