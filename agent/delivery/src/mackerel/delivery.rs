//! The delivery: from the spool to `POST /api/v0/tsdb`, newest first, many minutes per request.
//!
//! A request that Mackerel refuses is halved until the bad points are isolated, and only those are dropped. Delivered points
//! are settled before the next request is sent. The second of the minute at which it posts is in `timing`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::sync::{Notify, watch};
use wasaba_core::sample::Sample;

use super::answer::ApiError;
use super::backoff::Backoff;
use super::client::Client;
use super::hosts::Hosts;
use super::id_file::HostId;
use super::timing::Timing;
use super::{Pace, stopped};
use crate::spool::{Minute, Settlement, Spool};

/// About 500 kB of JSON. Mackerel documents no limit; a day of a small host takes nine such requests.
const MOST_POINTS: usize = 5_000;

/// A batch with bad points in it costs at most this many requests before the next backoff.
const MOST_REQUESTS: usize = 64;

/// Further dropped points are counted, not listed.
const MOST_LINES: usize = 10;

pub(super) struct Delivery {
    client: Client,
    spool: Arc<Spool>,
    host_id: HostId,
    hosts: Hosts,
    pace: Pace,
    timing: Timing,
    backoff: Backoff,
    outage: Option<Outage>,
    /// Which half of a refused batch is posted first. It changes after a round in which no point was accepted, since a long row
    /// of bad points at one end must not hide good ones at the other.
    oldest_first: bool,
}

/// A series of failed rounds, and what was delivered since then.
struct Outage {
    since: Instant,
    minutes: usize,
    points: usize,
}

/// A point: a sample with its time and the id of its host on Mackerel.
struct Point {
    host_id: Arc<str>,
    time: i64,
    sample: Sample,
}

impl Delivery {
    pub(super) fn new(client: Client, spool: Arc<Spool>, host_id: HostId, pace: Pace) -> Self {
        Self {
            client,
            spool,
            timing: Timing::of(&host_id),
            host_id,
            hosts: Hosts::default(),
            pace,
            backoff: Backoff::default(),
            outage: None,
            oldest_first: false,
        }
    }

    /// Delivers the first values at once, and later ones after each `wake` at this host's second of the minute. On shutdown, it
    /// tries once more.
    pub(super) async fn run(mut self, wake: &Notify, shutdown: watch::Receiver<bool>) {
        loop {
            let wait = self.round().await;
            let next = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => {
                        wake.notified().await;
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
        match self.deliver_all().await {
            Ok(()) => {
                self.backoff.reset();
                if let Some(outage) = self.outage.take() {
                    let Outage { since, minutes, points } = outage;
                    tracing::info!(
                        "delivery recovered after {} s: delivered {points} queued points of {minutes} minutes",
                        since.elapsed().as_secs()
                    );
                }
                None
            }
            Err(error) => {
                self.outage.get_or_insert_with(|| Outage { since: Instant::now(), minutes: 0, points: 0 });
                let wait = self.backoff.wait(&error, (self.pace.random)());
                if self.backoff.is_news(&error, Instant::now()) {
                    log(&error, &self.host_id, wait);
                } else {
                    tracing::debug!("cannot deliver: {error}; retrying in {} s", wait.as_secs());
                }
                Some(wait)
            }
        }
    }

    async fn deliver_all(&mut self) -> Result<(), ApiError> {
        let mut minutes = self.newest().await;
        while !minutes.is_empty() {
            let points = self.addressed(minutes).await;
            minutes = if points.is_empty() { self.newest().await } else { self.deliver(points).await? };
            self.timing.delivered((self.pace.now)());
        }
        Ok(())
    }

    /// The minutes to deliver next, without the points of absent hosts.
    async fn newest(&self) -> Vec<Minute> {
        let absent = self.hosts.absent(Instant::now());
        self.blocking(move |spool| spool.newest(MOST_POINTS, &absent)).await
    }

    /// The points of `minutes` with the ids of their hosts, without those of hosts that Mackerel does not know.
    async fn addressed(&mut self, minutes: Vec<Minute>) -> Vec<Point> {
        let own: Arc<str> = self.host_id.as_str().into();
        let others = minutes.iter().flat_map(|minute| &minute.samples).filter_map(Sample::host).cloned();
        let mut ids = BTreeMap::new();
        for identifier in others.collect::<BTreeSet<_>>() {
            let id = self.hosts.id(&self.client, &identifier, Instant::now()).await;
            ids.insert(identifier, id);
        }
        let mut points = Vec::new();
        for Minute { time, samples } in minutes {
            let host_id = |sample: &Sample| sample.host().map_or(Some(&own), |host| ids.get(host)?.as_ref()).cloned();
            points.extend(
                samples.into_iter().filter_map(|sample| Some(Point { time, host_id: host_id(&sample)?, sample })),
            );
        }
        points
    }

    /// Delivers one batch, in pieces if necessary, and returns the minutes to deliver next.
    async fn deliver(&mut self, batch: Vec<Point>) -> Result<Vec<Minute>, ApiError> {
        let mut batches = in_requests(batch);
        let mut refused = Refused::default();
        let mut accepted = false;
        let mut requests = 0;
        while let Some(mut batch) = batches.pop() {
            requests += 1;
            match self.post(&batch).await {
                Ok(()) => {
                    accepted = true;
                    let last = batches.is_empty();
                    let next = self.settle(batch, refused.take(), last).await;
                    if last {
                        refused.log_unlisted();
                        return Ok(next);
                    }
                }
                Err(error @ ApiError::Refused(_)) if requests >= MOST_REQUESTS => {
                    refused.last = Some(error);
                    break;
                }
                Err(error @ ApiError::Refused(_)) => {
                    if batch.len() > 1 {
                        let older = batch.split_off(batch.len() / 2);
                        batches.extend(if self.oldest_first { [batch, older] } else { [older, batch] });
                    } else {
                        refused.points.append(&mut batch);
                    }
                    refused.last = Some(error);
                }
                Err(ApiError::NotFound(_)) if batch.iter().any(|point| point.sample.host().is_some()) => {
                    // One of the other hosts has been retired since, which must not hold up this host's points.
                    let others = batch.iter().filter_map(|point| point.sample.host());
                    others.for_each(|identifier| self.hosts.doubt(identifier, Instant::now()));
                    self.settle_refused(&mut refused, accepted).await;
                    return Ok(self.newest().await);
                }
                Err(error) => {
                    self.settle_refused(&mut refused, accepted).await;
                    return Err(error);
                }
            }
        }
        self.settle_refused(&mut refused, accepted).await;
        let is_done = accepted && batches.is_empty();
        self.oldest_first ^= !accepted;
        match refused.last {
            Some(error) if !is_done => Err(error),
            _ => Ok(self.newest().await),
        }
    }

    /// Drops the refused points, but only if others were accepted. If Mackerel refuses everything, the points are not to blame.
    async fn settle_refused(&mut self, refused: &mut Refused, accepted: bool) {
        if accepted && !refused.points.is_empty() {
            let points = refused.take();
            self.settle(Vec::new(), points, false).await;
        }
        refused.log_unlisted();
    }

    async fn post(&self, batch: &[Point]) -> Result<(), ApiError> {
        self.client.post_values(body(batch)).await?;
        tracing::debug!("delivered {} points", batch.len());
        Ok(())
    }

    /// Settles in one commit, and with `read_next` also reads the minutes to deliver next.
    async fn settle(&mut self, delivered: Vec<Point>, rejected: Vec<Point>, read_next: bool) -> Vec<Minute> {
        let points = delivered.len();
        let settlements = settlements(delivered, rejected);
        if let Some(outage) = &mut self.outage {
            outage.points += points;
            outage.minutes += settlements.iter().filter(|settlement| !settlement.delivered.is_empty()).count();
        }
        let absent = self.hosts.absent(Instant::now());
        self.blocking(move |spool| {
            spool.settle(settlements);
            if read_next { spool.newest(MOST_POINTS, &absent) } else { Vec::new() }
        })
        .await
    }

    async fn blocking(&self, work: impl FnOnce(&Spool) -> Vec<Minute> + Send + 'static) -> Vec<Minute> {
        let spool = self.spool.clone();
        tokio::task::spawn_blocking(move || work(&spool)).await.unwrap_or_else(|error| {
            tracing::error!("a bug in wasaba's spool: {error}");
            Vec::new()
        })
    }
}

/// The batch in pieces of [`MOST_POINTS`], the first one last: a single minute may have more.
fn in_requests(mut batch: Vec<Point>) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    while batch.len() > MOST_POINTS {
        let rest = batch.split_off(MOST_POINTS);
        pieces.push(std::mem::replace(&mut batch, rest));
    }
    pieces.push(batch);
    pieces.reverse();
    pieces
}

/// The points of one batch that Mackerel refused individually.
#[derive(Default)]
struct Refused {
    points: Vec<Point>,
    listed: usize,
    unlisted: usize,
    last: Option<ApiError>,
}

impl Refused {
    /// Takes the points out to be dropped, which is logged.
    fn take(&mut self) -> Vec<Point> {
        for point in &self.points {
            if self.listed == MOST_LINES {
                self.unlisted += 1;
                continue;
            }
            self.listed += 1;
            let why = self.last.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!("dropped `{}` of {}: {why}", point.sample.name(), point.time);
        }
        std::mem::take(&mut self.points)
    }

    fn log_unlisted(&mut self) {
        if self.unlisted > 0 {
            tracing::warn!("dropped {} more points that Mackerel refuses", std::mem::take(&mut self.unlisted));
        }
    }
}

fn log(error: &ApiError, host_id: &HostId, wait: Duration) {
    let wait = wait.as_secs();
    match error {
        ApiError::Auth(_) => tracing::error!("{error}; values stay queued, retrying in {wait} s"),
        ApiError::NotFound(_) => tracing::error!(
            "{error}: host `{host_id}` does not belong to this organisation: check that `apikey` is of the right one, or stop \
             wasaba, delete the file `id` in its `root` and start it again to register a new host; values stay queued, \
             retrying in {wait} s"
        ),
        ApiError::Refused(_) => {
            tracing::error!("Mackerel refuses all values: {error}; they stay queued, retrying in {wait} s");
        }
        ApiError::Busy(_) | ApiError::NoAnswer(_) => {
            tracing::warn!("cannot deliver: {error}; values stay queued, retrying in {wait} s");
        }
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
