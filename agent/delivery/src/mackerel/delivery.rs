//! The delivery: from the spool to `POST /api/v0/tsdb`, newest first, many minutes per request.
//!
//! A request that Mackerel refuses is halved until the bad points are isolated, and only those are dropped. Delivered points
//! are settled before the next request is sent. It decides when to post, not what to collect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::ser::{Serialize, SerializeStruct, Serializer};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use wasaba_core::sample::Sample;

use super::answer::ApiError;
use super::backoff::Backoff;
use super::client::Client;
use super::hosts::Hosts;
use super::id_file::HostId;
use super::{Pace, stopped};
use crate::spool::{Minute, Settlement, Spool};

/// About 500 kB of JSON. Mackerel documents no limit; a day of a small host takes nine such requests.
const MOST_POINTS: usize = 5_000;

/// A batch with bad points in it costs at most this many requests before the next backoff.
const MOST_REQUESTS: usize = 64;

/// Hosts spread their posts over this part of the minute, so that not all of them post at second 0.
const SPREAD: Duration = Duration::from_secs(20);

/// For this long after the first values, later ones do not wait for the host's second: whoever starts the agent watches the
/// first values arrive, and those of a plugin that must be compiled first come a moment after the host's own.
const EAGER: Duration = Duration::from_secs(10);

const MINUTE: Duration = Duration::from_secs(60);

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
            timing: Timing { offset: offset(&host_id), eager_until: None },
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
        self.client.post("/api/v0/tsdb", body(batch)).await?;
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

/// This host's second of the minute.
fn offset(host_id: &HostId) -> Duration {
    let hash = Sha256::digest(host_id.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % SPREAD.as_millis() as u64)
}

/// When queued values are posted.
struct Timing {
    /// This host's second of the minute.
    offset: Duration,
    /// Values are posted at once until then; `None` before the first delivery.
    eager_until: Option<SystemTime>,
}

impl Timing {
    fn delivered(&mut self, now: SystemTime) {
        // The values of the next minute come from many hosts at once.
        self.eager_until.get_or_insert(now + EAGER.min(MINUTE - in_minute(now)));
    }

    /// How long values that come `now` wait: until the host's second of this minute, or not at all if that has passed.
    fn wait(&self, now: SystemTime) -> Duration {
        // A clock that was set back must not extend it.
        let is_soon = |until: SystemTime| until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= EAGER);
        if self.eager_until.is_none_or(is_soon) { Duration::ZERO } else { self.offset.saturating_sub(in_minute(now)) }
    }
}

/// The time since the beginning of the minute.
fn in_minute(now: SystemTime) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis((since_1970.as_millis() % MINUTE.as_millis()) as u64)
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
    fn a_hosts_second_never_changes_and_hosts_spread_over_twenty_seconds() {
        let of = |text: &str| offset(&HostId::new(text).unwrap());
        assert_eq!(of("4Hkc5RVYYB4"), Duration::from_millis(4_095));
        let all: Vec<Duration> = (0..200).map(|n| of(&format!("host{n}"))).collect();
        assert!(all.iter().all(|offset| *offset < SPREAD));
        assert!((0..4).all(|part| all.iter().any(|offset| offset.as_secs() / 5 == part)));
    }

    #[test]
    fn a_late_minute_is_posted_at_once_and_an_early_one_at_the_hosts_second() {
        let at = |milliseconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + milliseconds);
        let mut timing = Timing { offset: Duration::from_millis(7_500), eager_until: None };
        timing.delivered(at(0) - EAGER);
        assert_eq!(timing.wait(at(250)), Duration::from_millis(7_250));
        assert_eq!(timing.wait(at(7_500)), Duration::ZERO);
        assert_eq!(timing.wait(at(59_999)), Duration::ZERO);
    }

    #[test]
    fn values_soon_after_the_first_ones_are_posted_at_once() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        assert_eq!(timing.wait(at(1)), Duration::ZERO, "the first ones");
        timing.delivered(at(1));
        assert_eq!(timing.wait(at(3)), Duration::ZERO, "a plugin's");
        timing.delivered(at(3));
        assert_eq!(timing.wait(at(61)), Duration::from_secs(14), "the next minute's");
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        timing.delivered(at(58));
        assert_eq!(timing.wait(at(60)), Duration::from_secs(15), "the next minute is soon");
        assert_eq!(timing.wait(at(58) - Duration::from_secs(7_197)), Duration::from_secs(14), "the clock was set back");
    }

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
