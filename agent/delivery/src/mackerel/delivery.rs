//! The delivery: from the spool to `POST /api/v0/tsdb`, newest first, many minutes a request.
//!
//! A request that Mackerel refuses is halved until the single bad points are known, and only those are dropped. What got
//! through is settled before the next request goes out. It decides when to post, not what is collected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use wasaba_core::sample::Sample;

use super::backoff::{Backoff, Complaint};
use super::client::{ApiError, Client};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::{Pace, stopped};
use crate::spool::{Minute, Settlement, Spool};

/// About 500 kB of JSON. Mackerel documents no limit; a day of a small host takes nine such requests.
const MOST_POINTS: usize = 5_000;

/// One batch with bad points in it costs at most so many requests before the next back-off.
const MOST_REQUESTS: usize = 64;

/// Hosts post spread over this part of the minute, so that Mackerel does not get all of them at second 0.
const SPREAD: Duration = Duration::from_secs(20);

/// For so long after the first values, those that follow do not wait for the host's second: who starts the agent looks at what
/// arrives, and the values of a plugin that is compiled first come a moment after the host's own.
const EAGER: Duration = Duration::from_secs(10);

const MINUTE: Duration = Duration::from_secs(60);

/// Dropped points beyond these are counted, not listed.
const MOST_LINES: usize = 10;

pub(super) struct Delivery {
    client: Client,
    spool: Arc<Spool>,
    host_id: HostId,
    hosts: Hosts,
    pace: Pace,
    timing: Timing,
    backoff: Backoff,
    complaint: Complaint,
    outage: Option<Outage>,
    /// Which half of a refused batch comes first. It changes after a round in which nothing got through, for a long row
    /// of bad points at one end must not hide good ones at the other.
    oldest_first: bool,
}

/// A time without a delivery.
struct Outage {
    since: Instant,
    minutes: usize,
    points: usize,
}

/// One value with its time, as it waits to be sent.
struct Point {
    time: i64,
    sample: Sample,
    /// The id of the host that it is of.
    host_id: Arc<str>,
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
            complaint: Complaint::default(),
            outage: None,
            oldest_first: false,
        }
    }

    /// Delivers at once what comes at first, and then after each `wake` at this host's second of the minute. Told to stop, it
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

    /// Delivers until the queue is empty (`None`) or something fails (the time to wait).
    async fn round(&mut self) -> Option<Duration> {
        match self.deliver_all().await {
            Ok(()) => {
                self.backoff.reset();
                self.complaint.reset();
                if let Some(outage) = self.outage.take() {
                    let Outage { since, minutes, points } = outage;
                    tracing::info!(
                        "delivered again after {} s without: {minutes} minutes ({points} points) caught up",
                        since.elapsed().as_secs()
                    );
                }
                None
            }
            Err(error) => {
                self.outage.get_or_insert_with(|| Outage { since: Instant::now(), minutes: 0, points: 0 });
                let wait = self.backoff.after(&error, (self.pace.random)());
                if self.complaint.is_due(&error, Instant::now()) {
                    tell(&error, &self.host_id, wait);
                } else {
                    tracing::debug!("cannot deliver yet: {error}; next try in {} s", wait.as_secs());
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

    /// What to deliver next; nothing of hosts that are not there.
    async fn newest(&self) -> Vec<Minute> {
        let absent = self.hosts.absent(Instant::now());
        self.blocking(move |spool| spool.newest(MOST_POINTS, &absent)).await
    }

    /// The points of `minutes` with the ids of their hosts, without those of hosts that are found not to be there.
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

    /// Delivers one batch, if need be in pieces, and returns what to deliver next.
    async fn deliver(&mut self, batch: Vec<Point>) -> Result<Vec<Minute>, ApiError> {
        let mut batches = in_requests(batch);
        let mut bad = Bad::default();
        let mut accepted = false;
        let mut requests = 0;
        while let Some(mut batch) = batches.pop() {
            requests += 1;
            match self.post(&batch).await {
                Ok(()) => {
                    accepted = true;
                    let last = batches.is_empty();
                    let next = self.settle(batch, bad.take(), last).await;
                    if last {
                        bad.tell_the_rest();
                        return Ok(next);
                    }
                }
                Err(error @ ApiError::Refused { .. }) if requests >= MOST_REQUESTS => {
                    bad.last = Some(error);
                    break;
                }
                Err(error @ ApiError::Refused { .. }) => {
                    if batch.len() > 1 {
                        let older = batch.split_off(batch.len() / 2);
                        batches.extend(if self.oldest_first { [batch, older] } else { [older, batch] });
                    } else {
                        bad.points.append(&mut batch);
                    }
                    bad.last = Some(error);
                }
                Err(ApiError::NotFound { .. }) if batch.iter().any(|point| point.sample.host().is_some()) => {
                    // One of them has been retired since. Those of this host are not held up by it.
                    let others = batch.iter().filter_map(|point| point.sample.host());
                    others.for_each(|identifier| self.hosts.doubt(identifier, Instant::now()));
                    self.settle_bad(&mut bad, accepted).await;
                    return Ok(self.newest().await);
                }
                Err(error) => {
                    self.settle_bad(&mut bad, accepted).await;
                    return Err(error);
                }
            }
        }
        self.settle_bad(&mut bad, accepted).await;
        if accepted && batches.is_empty() {
            return Ok(self.newest().await);
        }
        self.oldest_first ^= !accepted;
        Err(bad.last.unwrap_or_else(|| ApiError::Unreachable("too many requests for one batch".to_owned())))
    }

    /// Drops the bad points that are known, but only if others got through. When Mackerel refuses everything, the fault
    /// is not in the points.
    async fn settle_bad(&mut self, bad: &mut Bad, accepted: bool) {
        if accepted && !bad.points.is_empty() {
            let points = bad.take();
            self.settle(Vec::new(), points, false).await;
        }
        bad.tell_the_rest();
    }

    async fn post(&self, batch: &[Point]) -> Result<(), ApiError> {
        self.client.post("/api/v0/tsdb", body(batch)).await?;
        tracing::debug!("{} points delivered", batch.len());
        Ok(())
    }

    /// Settles in one commit, and in the same trip to the disk reads what comes next if that is `wanted`.
    async fn settle(&mut self, delivered: Vec<Point>, rejected: Vec<Point>, wanted: bool) -> Vec<Minute> {
        let points = delivered.len();
        let settlements = settlements(delivered, rejected);
        if let Some(outage) = &mut self.outage {
            outage.points += points;
            outage.minutes += settlements.iter().filter(|settlement| !settlement.delivered.is_empty()).count();
        }
        let absent = self.hosts.absent(Instant::now());
        self.blocking(move |spool| {
            spool.settle(settlements);
            if wanted { spool.newest(MOST_POINTS, &absent) } else { Vec::new() }
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

/// The batch in pieces that a request takes, the first one last: a minute alone may have more.
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

/// The points of one batch that were refused on their own.
#[derive(Default)]
struct Bad {
    points: Vec<Point>,
    told: usize,
    untold: usize,
    last: Option<ApiError>,
}

impl Bad {
    /// Takes them to be dropped, which is told.
    fn take(&mut self) -> Vec<Point> {
        for point in &self.points {
            if self.told == MOST_LINES {
                self.untold += 1;
                continue;
            }
            self.told += 1;
            let why = self.last.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!("`{}` of time {} is dropped: {why}", point.sample.name(), point.time);
        }
        std::mem::take(&mut self.points)
    }

    fn tell_the_rest(&mut self) {
        if self.untold > 0 {
            tracing::warn!("{} more points are dropped: Mackerel refuses them too", std::mem::take(&mut self.untold));
        }
    }
}

fn tell(error: &ApiError, host_id: &HostId, wait: Duration) {
    let wait = wait.as_secs();
    match error {
        ApiError::Auth { .. } => tracing::error!("{error}; values are kept, next try in {wait} s"),
        ApiError::NotFound { .. } => tracing::error!(
            "{error}: host `{host_id}` is not in this organisation; see that `apikey` is of the right one, or stop wasaba, \
             delete the file `id` in its `root` and start it again to register a new host; values are kept, next try in \
             {wait} s"
        ),
        ApiError::Refused { .. } => {
            tracing::error!("Mackerel does not take the values: {error}; they are kept, next try in {wait} s");
        }
        ApiError::Busy { .. } | ApiError::Unreachable(_) => {
            tracing::warn!("cannot deliver: {error}; values are kept, next try in {wait} s");
        }
    }
}

/// When in the minute the host posts.
fn offset(host_id: &HostId) -> Duration {
    let hash = Sha256::digest(host_id.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % SPREAD.as_millis() as u64)
}

/// When values that are there go out.
struct Timing {
    /// This host's second of the minute.
    offset: Duration,
    /// Until then at once; none before the first delivery.
    eager_until: Option<SystemTime>,
}

impl Timing {
    fn delivered(&mut self, now: SystemTime) {
        // What the next minute brings comes from many hosts at once.
        self.eager_until.get_or_insert(now + EAGER.min(MINUTE - in_minute(now)));
    }

    /// How long values that come `now` wait: until the host's second of this minute, and not at all if that is past.
    fn wait(&self, now: SystemTime) -> Duration {
        // A clock that was set back does not make it longer.
        let is_soon = |until: SystemTime| until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= EAGER);
        if self.eager_until.is_none_or(is_soon) { Duration::ZERO } else { self.offset.saturating_sub(in_minute(now)) }
    }
}

/// How much of its minute has passed.
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

/// An element of the request, in the order of keys that the official agent has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Element<'a> {
    host_id: &'a str,
    name: &'a str,
    time: i64,
    #[serde(serialize_with = "number")]
    value: f64,
}

fn body(batch: &[Point]) -> Vec<u8> {
    let elements: Vec<Element<'_>> = batch
        .iter()
        .map(|point| Element {
            host_id: &point.host_id,
            name: point.sample.name().as_str(),
            time: point.time,
            value: point.sample.value(),
        })
        .collect();
    serde_json::to_vec(&elements).unwrap_or_default()
}

/// Whole numbers without `.0`, as the official agent writes them. Up to 2^53 an `f64` holds them exactly.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_the_same_each_time_and_within_twenty_seconds() {
        let of = |text: &str| offset(&HostId::new(text).unwrap());
        assert_eq!(of("4Hkc5RVYYB4"), of("4Hkc5RVYYB4"));
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
    fn what_comes_soon_after_the_first_values_is_posted_at_once() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        assert_eq!(timing.wait(at(1)), Duration::ZERO, "the first ones");
        timing.delivered(at(1));
        assert_eq!(timing.wait(at(3)), Duration::ZERO, "a plugin's");
        timing.delivered(at(3));
        assert_eq!(timing.wait(at(61)), Duration::from_secs(14), "those of the next minute");
        let mut timing = Timing { offset: Duration::from_secs(15), eager_until: None };
        timing.delivered(at(58));
        assert_eq!(timing.wait(at(60)), Duration::from_secs(15), "the next minute is soon");
        assert_eq!(timing.wait(at(58) - Duration::from_secs(7_197)), Duration::from_secs(14), "the clock was set back");
    }

    #[test]
    fn numbers_are_written_as_the_official_agent_writes_them() {
        let batch: Vec<Point> = [5.0, 0.0, -0.0, 0.25, 1e21, 12_345_678_901.0]
            .map(|value| Point { time: 60, sample: Sample::new("a", value).unwrap(), host_id: "X".into() })
            .into();
        let body = String::from_utf8(body(&batch)).unwrap();
        let values: Vec<&str> = body.split("\"value\":").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(values, ["5", "0", "0", "0.25", "1e+21", "12345678901"]);
        assert!(body.starts_with(r#"[{"hostId":"X","name":"a","time":60,"value":5},"#), "{body}");
    }
}
