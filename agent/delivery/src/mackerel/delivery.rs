//! The delivery: from the spool to `POST /api/v0/tsdb`, newest first.
//!
//! A request begins small and grows ([`size`](super::size)). What Mackerel refuses is halved until the refused values are known,
//! and only those are dropped ([`refusals`](super::refusals)); if it accepts nothing at all, nothing is dropped. Delivered points
//! are settled before the next request is sent. The second of the minute at which it posts is in `timing`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::sync::{Notify, watch};
use wasaba_core::sample::Sample;

use super::answer::ApiError;
use super::client::Client;
use super::halving::{Found, Halving};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Lane, Words};
use super::refusals::Refusals;
use super::size::Size;
use super::timing::Timing;
use super::{Pace, stopped};
use crate::spool::{Minute, Settlement, Spool};

/// Held names are dropped if something else was accepted this long before: else Mackerel may be refusing everything.
const PROOF: Duration = Duration::from_mins(5);

pub(super) struct Delivery {
    client: Client,
    spool: Arc<Spool>,
    host_id: HostId,
    hosts: Arc<Hosts>,
    pace: Pace,
    timing: Timing,
    size: Size,
    lane: Lane,
    refusals: Refusals,
    suspects: Suspects,
    /// A search for refused points that pauses, and why they are refused.
    unfinished: Option<(Halving<Point>, ApiError)>,
    /// When something was accepted last.
    accepted: Option<Instant>,
}

/// The minutes of which nothing was accepted. They are tried again after another minute was: only then their times are at fault.
#[derive(Default)]
struct Suspects {
    times: BTreeSet<i64>,
    /// Whether another minute was accepted since.
    others_are_accepted: bool,
}

impl Suspects {
    /// The latest time of the minute to try next, if there is such an old one: if many minutes are refused, the clock was wrong
    /// for a while, so the steps back become longer.
    fn before(&self) -> i64 {
        match self.times.first() {
            Some(oldest) if !self.others_are_accepted => oldest - (60 << (self.times.len() - 1).min(10)),
            _ => i64::MAX,
        }
    }
}

/// A point: a sample with its time and the id of its host on Mackerel.
#[derive(Clone)]
struct Point {
    host_id: Arc<str>,
    time: i64,
    sample: Sample,
}

impl Delivery {
    pub(super) fn new(
        client: Client,
        spool: Arc<Spool>,
        host_id: HostId,
        hosts: Arc<Hosts>,
        lane: Lane,
        pace: Pace,
    ) -> Self {
        Self {
            client,
            spool,
            timing: Timing::of(&host_id),
            host_id,
            hosts,
            pace,
            size: Size::default(),
            lane,
            refusals: Refusals::default(),
            suspects: Suspects::default(),
            unfinished: None,
            accepted: None,
        }
    }

    /// Delivers the first values at once, and later ones after each `wake` at this host's second of the minute. On shutdown, it
    /// tries once more.
    pub(super) async fn run(mut self, wake: &Notify, shutdown: watch::Receiver<bool>) {
        let mut found = self.hosts.found();
        loop {
            let wait = self.round().await;
            let retry = self.refusals.next().map(|next| next.saturating_duration_since(self.now()));
            let next = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => {
                        tokio::select! {
                            () = wake.notified() => {}
                            // The sender is in `hosts`, which lives as long as this.
                            Ok(()) = found.changed() => {}
                            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                        }
                        tokio::time::sleep(self.timing.wait((self.pace.now)())).await;
                    }
                }
            };
            tokio::select! {
                () = next => {}
                () = stopped(shutdown.clone()) => break,
            }
        }
        self.round().await;
    }

    /// Delivers until the queue is empty (`None`) or a request fails (the time to wait).
    async fn round(&mut self) -> Option<Duration> {
        let result = self.deliver_all().await;
        if let Some(line) = self.refusals.line(self.now()) {
            tracing::warn!("{line}");
        }
        match result {
            Ok(pause) => {
                self.lane.is_well();
                if let Some(pause) = pause {
                    self.lane.pauses(pause);
                }
                pause
            }
            Err(error) => Some(self.lane.wait(&error, &Words::new("deliver values", "they stay queued"))),
        }
    }

    /// Delivers all but the held names, and then those of them that are due. Returns how long to pause before the rest.
    async fn deliver_all(&mut self) -> Result<Option<Duration>, ApiError> {
        self.expire().await;
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
            let mut points = self.addressed(minutes);
            points.truncate(self.size.points());
            if !points.is_empty() && self.deliver(points).await? {
                return Ok(Some(self.pace.pause));
            }
            self.timing.delivered((self.pace.now)());
        }
        self.retry_suspects().await?;
        self.retry_refused().await
    }

    /// The minutes to deliver next, without the points of absent hosts, of held names, and of suspect minutes.
    async fn newest(&mut self) -> Vec<Minute> {
        let mut minutes = self.newest_before(self.suspects.before()).await;
        if minutes.is_empty() && !self.suspects.times.is_empty() && !self.suspects.others_are_accepted {
            minutes = self.newest_before(i64::MAX).await;
            if minutes.is_empty() {
                // There is no other minute to compare them with.
                self.suspects = Suspects::default();
                minutes = self.newest_before(i64::MAX).await;
            }
        }
        minutes
    }

    async fn newest_before(&self, before: i64) -> Vec<Minute> {
        let (most, absent, held) = (self.size.minutes_up_to(), self.hosts.absent(self.now()), self.refusals.held());
        let suspects = self.suspects.times.clone();
        let filter = move |time: i64, sample: &Sample| {
            time <= before
                && !suspects.contains(&time)
                && sample.host().is_none_or(|host| !absent.contains(host))
                && !held.contains(sample)
        };
        self.blocking(move |spool| spool.newest(most, &filter)).await
    }

    fn now(&self) -> Instant {
        (self.pace.instant)()
    }

    /// The points of `minutes` with the ids of their hosts, without those of hosts whose id is not known (yet).
    fn addressed(&self, minutes: Vec<Minute>) -> Vec<Point> {
        let own: Arc<str> = self.host_id.as_str().into();
        let now = self.now();
        let others = minutes.iter().flat_map(|minute| &minute.samples).filter_map(Sample::host);
        let others = others.collect::<BTreeSet<_>>().into_iter();
        let ids = others.map(|host| (Arc::clone(host), self.hosts.id(host, now))).collect::<BTreeMap<_, _>>();
        let host_id = |sample: &Sample| sample.host().map_or(Some(&own), |host| ids.get(host)?.as_ref()).cloned();
        let mut points = Vec::new();
        for Minute { time, samples } in minutes {
            points.extend(
                samples.into_iter().filter_map(|sample| Some(Point { time, host_id: host_id(&sample)?, sample })),
            );
        }
        points
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
            ApiError::NotFound(_) if batch.iter().any(|point| point.sample.host().is_some()) => {
                // One of the other hosts has been retired since, which must not hold up this host's points.
                let others = batch.iter().filter_map(|point| point.sample.host());
                others.for_each(|identifier| self.hosts.doubt(identifier, self.now()));
                Ok(false)
            }
            // Perhaps it is the size.
            ApiError::Refused(_) if newest != oldest && !self.lane.is_exhausted() => {
                self.size.shrink(count);
                Ok(false)
            }
            ApiError::Refused(_) if newest == oldest => {
                // Without an accepted minute in between, the next ones are only compared with the first.
                let is_first = self.suspects.times.is_empty() || self.suspects.others_are_accepted;
                if is_first {
                    let search = Halving::of_refused(batch, (self.pace.random)());
                    if let Some(is_unfinished) = self.search(search, &error).await? {
                        return Ok(is_unfinished);
                    }
                }
                self.suspects.times.extend(newest);
                self.size.shrink(count);
                if self.suspects.others_are_accepted { Ok(false) } else { Err(error) }
            }
            error => {
                self.size.shrink(count);
                Err(error)
            }
        }
    }

    /// Looks for refused points; what is accepted on the way is delivered. The refused points are dropped, and their names held. Returns
    /// whether the search is unfinished; `None` if nothing was accepted.
    async fn search(&mut self, mut search: Halving<Point>, why: &ApiError) -> Result<Option<bool>, ApiError> {
        let mut failed = None;
        while !self.lane.is_exhausted()
            && let Some(batch) = search.next()
        {
            match self.post(batch).await {
                Ok(()) => search.accept(),
                Err((batch, ApiError::Refused(_))) => search.refuse(batch),
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
        self.refusals.hold(refused.iter().map(|point| &point.sample), &why.to_string(), self.now());
        self.settle(Vec::new(), refused).await;
        if let Some(error) = failed {
            return Err(error);
        }
        self.unfinished = (is_unfinished == Some(true)).then(|| (search, why.clone()));
        Ok(is_unfinished)
    }

    /// Tries suspect minutes again once another was accepted; of what is refused again as a whole, the points are dropped.
    async fn retry_suspects(&mut self) -> Result<(), ApiError> {
        if !self.suspects.others_are_accepted {
            return Ok(());
        }
        while let Some(time) = self.suspects.times.pop_last() {
            let held = self.refusals.held();
            let filter = move |other: i64, sample: &Sample| other == time && !held.contains(sample);
            let minutes = self.blocking(move |spool| spool.newest(1, &filter)).await;
            let mut points = self.addressed(minutes);
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
            if self.search(search, &error).await?.is_none() {
                self.refusals.count(same.len(), &error.to_string());
                self.settle(Vec::new(), same).await;
            }
        }
        self.suspects.others_are_accepted = false;
        Ok(())
    }

    /// Tries the held names that are due again, all together. Refused ones are held for another hour, and what is queued of them
    /// is dropped.
    async fn retry_refused(&mut self) -> Result<Option<Duration>, ApiError> {
        let (now, held) = (self.now(), self.refusals.held());
        if self.refusals.next().is_none_or(|next| now < next) {
            return Ok(None);
        }
        let absent = self.hosts.absent(now);
        let is_present = move |sample: &Sample| sample.host().is_none_or(|host| !absent.contains(host));
        let due = held.clone();
        let filter = move |_: i64, sample: &Sample| due.is_due(sample, now) && is_present(sample);
        let most = self.size.points();
        let minutes = self.blocking(move |spool| spool.newest(most, &filter)).await;
        // The newest of each name; the rest follows if it is accepted.
        let mut seen = BTreeSet::new();
        let is_first = |point: &Point| seen.insert((Arc::clone(&point.host_id), point.sample.name().clone()));
        let (newest, older): (Vec<_>, Vec<_>) = self.addressed(minutes).into_iter().partition(is_first);
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
                self.refusals.count(all.len(), &error.to_string());
                self.settle(Vec::new(), all).await;
                None
            }
        };
        let held = self.refusals.held();
        let (older, accepted): (Vec<_>, Vec<_>) = older.into_iter().partition(|point| held.contains(&point.sample));
        self.refusals.count(older.len(), &error.to_string());
        self.settle(Vec::new(), older).await;
        Ok(pause.or((!accepted.is_empty()).then_some(Duration::ZERO)))
    }

    /// Posts a batch, and settles it if it is accepted; else returns it with the error, which is counted.
    async fn post(&mut self, batch: Vec<Point>) -> Result<(), (Vec<Point>, ApiError)> {
        if let Err(error) = self.lane.request(batch.len(), self.client.post_values(body(&batch))).await {
            return Err((batch, error));
        }
        tracing::debug!("delivered {} points", batch.len());
        self.suspects.others_are_accepted = !self.suspects.times.is_empty();
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

fn settlements(delivered: Vec<Point>, rejected: Vec<Point>) -> Vec<Settlement> {
    let mut settlements: BTreeMap<i64, Settlement> = BTreeMap::new();
    for point in delivered {
        settlements.entry(point.time).or_default().delivered.push(point.sample);
    }
    for point in rejected {
        settlements.entry(point.time).or_default().rejected.push(point.sample);
    }
    settlements.into_iter().map(|(time, settlement)| Settlement { time, ..settlement }).collect()
}

fn body(batch: &[Point]) -> Vec<u8> {
    serde_json::to_vec(batch).unwrap_or_default()
}

/// An element of the request, with keys in the order of the official agent's.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Point", 4)?;
        object.serialize_field("hostId", &*self.host_id)?;
        object.serialize_field("name", self.sample.name().as_str())?;
        object.serialize_field("time", &self.time)?;
        let value = self.sample.value();
        // Whole numbers without `.0`, as the official agent writes them. Up to 2^53 an `f64` holds them exactly.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            object.serialize_field("value", &(value as i64))?;
        } else {
            object.serialize_field("value", &value)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_like_the_official_agents() {
        let batch: Vec<Point> = [5.0, 0.0, -0.0, 0.25, 1e21, 12_345_678_901.0]
            .map(|value| Point { time: 60, sample: Sample::new("a", value).unwrap(), host_id: "X".into() })
            .into();
        let body = String::from_utf8(body(&batch)).unwrap();
        let values: Vec<&str> = body.split("\"value\":").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(values, ["5", "0", "0", "0.25", "1e+21", "12345678901"]);
        assert!(body.starts_with(r#"[{"hostId":"X","name":"a","time":60,"value":5},"#), "{body}");
    }
}
