//! Other hosts that plugins report values of (`custom_identifier`): the id of each on Mackerel.
//!
//! The official agent asks once, at its start, and drops the values of an unknown host. Here they stay queued, and the host
//! is looked up again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;
use wasaba_core::text::printable;

use super::Pace;
use super::answer::ApiError;
use super::board::{Kind, Lanes};
use super::client::Client;
use super::id_file::HostId;
use super::lanes::{Lane, Words, cure_of_missing_host};

/// How long a host id is valid: the host may be retired and registered again.
const FOUND: Duration = Duration::from_secs(60 * 60);

/// The wait before a missing host is looked up again.
const ABSENT: Duration = Duration::from_secs(10 * 60);

/// The wait after a lookup that failed.
const FAILED: Duration = Duration::from_secs(60);

/// The other hosts, by their custom identifiers. Whoever needs an id asks for it and gets on with the rest: the look-ups are made
/// by [`Hosts::keep_looked_up`], each in a lane of its own.
pub(super) struct Hosts {
    board: Lanes,
    lookups: Mutex<HashMap<Arc<str>, Lookup>>,
    /// An id was asked for that is not known or no longer valid.
    wanted: Notify,
    /// Counts the hosts that were found.
    found: watch::Sender<u64>,
}

/// The outcome of a lookup, and until when it is valid.
struct Lookup {
    outcome: Outcome,
    until: Instant,
    is_running: bool,
    /// With the first look-up.
    lane: Option<Lane>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The host has this id.
    Found(Arc<str>),
    /// No host has the custom identifier.
    Absent,
    /// It was not looked up yet, or the lookup failed.
    Unknown,
}

impl Hosts {
    /// None yet.
    pub(super) fn new(board: Lanes) -> Self {
        Self { board, lookups: Mutex::default(), wanted: Notify::new(), found: watch::Sender::new(0) }
    }

    /// The id of the host, if it is known; an older one until a lookup says otherwise.
    pub(super) fn id(&self, identifier: &Arc<str>, now: Instant) -> Option<Arc<str>> {
        let mut lookups = self.lock();
        let lookup = lookups.entry(Arc::clone(identifier)).or_insert_with(|| Lookup {
            outcome: Outcome::Unknown,
            until: now,
            is_running: false,
            lane: None,
        });
        if now >= lookup.until {
            if lookup.outcome == Outcome::Absent {
                lookup.outcome = Outcome::Unknown;
            }
            self.wanted.notify_one();
        }
        lookup.outcome.id()
    }

    /// Records that a request with the id of this host was answered with 404, so that it is soon looked up again. Until then the id is
    /// used: another kind of request may still be accepted with it.
    pub(super) fn doubt(&self, identifier: &Arc<str>, now: Instant) {
        if let Some(lookup) = self.lock().get_mut(identifier) {
            lookup.until = lookup.until.min(now + ABSENT);
        }
    }

    /// Changes whenever a host was found.
    pub(super) fn found(&self) -> watch::Receiver<u64> {
        self.found.subscribe()
    }

    /// Looks up what is wanted, side by side.
    pub(super) async fn keep_looked_up(&self, client: &Client, pace: Pace) -> Infallible {
        let mut running = FuturesUnordered::new();
        loop {
            let now = (pace.instant)();
            for identifier in self.take_due(now) {
                running.push(async move {
                    let result = client.find_host(&identifier).await;
                    (identifier, result)
                });
            }
            let next = self.next();
            tokio::select! {
                Some((identifier, result)) = running.next() => self.record(&identifier, result, (pace.instant)(), pace),
                () = self.wanted.notified() => {}
                () = sleep_until(next.unwrap_or(now).into()), if next.is_some() => {}
            }
        }
    }

    /// The hosts to look up at `now`, which count as being looked up.
    fn take_due(&self, now: Instant) -> Vec<Arc<str>> {
        let mut lookups = self.lock();
        let due = lookups.iter_mut().filter(|(_, lookup)| !lookup.is_running && now >= lookup.until);
        let due = due.map(|(identifier, lookup)| {
            lookup.is_running = true;
            Arc::clone(identifier)
        });
        due.collect()
    }

    /// When the next unknown host is due.
    fn next(&self) -> Option<Instant> {
        let lookups = self.lock();
        let unknown = lookups.values().filter(|lookup| !lookup.is_running && lookup.outcome == Outcome::Unknown);
        unknown.map(|lookup| lookup.until).min()
    }

    fn record(&self, identifier: &Arc<str>, result: Result<Option<HostId>, ApiError>, now: Instant, pace: Pace) {
        let mut lookups = self.lock();
        let Some(lookup) = lookups.get_mut(identifier) else { return };
        lookup.is_running = false;
        let lane = lookup.lane.get_or_insert_with(|| self.board.lane(Kind::OtherHost, Some(identifier), pace));
        lane.record(1, &result);
        let task = format!("look up the host `{}`", printable(identifier, 200));
        let words = Words::new(&task, "its values stay queued for up to 24 h");
        match result {
            Ok(Some(id)) => {
                lane.is_well();
                (lookup.outcome, lookup.until) = (Outcome::Found(id.as_str().into()), now + FOUND);
                self.found.send_modify(|count| *count += 1);
            }
            Ok(None) => {
                (lookup.outcome, lookup.until) = (Outcome::Absent, now + ABSENT);
                let missing = format!("no host has the custom identifier `{}`", printable(identifier, 200));
                let words = Words { cure: Some(cure_of_missing_host()), ..words };
                lane.fault(ABSENT, &ApiError::NoAnswer(missing), &words);
            }
            Err(error) => lookup.until = now + lane.wait_at_least(FAILED, &error, &words),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Lookup>> {
        // No lookup is half recorded.
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    fn id(&self) -> Option<Arc<str>> {
        match self {
            Self::Found(id) => Some(Arc::clone(id)),
            Self::Absent | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::mackerel::testing::{PACE, Server, answer, client};

    /// Looks up what is due.
    async fn look_up(hosts: &Hosts, client: &Client, now: Instant) {
        for identifier in hosts.take_due(now) {
            hosts.record(&identifier, client.find_host(&identifier).await, now, PACE);
        }
    }

    #[tokio::test]
    async fn a_lookup_is_repeated_when_its_outcome_has_expired_and_a_failed_one_keeps_the_last_id() {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(200, r#"{"hosts":[{"id":"A"}]}"#),
            1 => answer(503, "{}"),
            _ => answer(200, r#"{"hosts":[]}"#),
        })
        .await;
        let (client, db, start) = (client(&server.base), Arc::from("db"), Instant::now());
        let hosts = Hosts::new(Lanes::default());
        let mut ids = Vec::new();
        for seconds in [0, 3_599, 3_600, 3_659, 3_660, 4_259, 4_260] {
            let now = start + Duration::from_secs(seconds);
            let before = hosts.id(&db, now);
            look_up(&hosts, &client, now).await;
            ids.push((before, hosts.id(&db, now), server.requests().len()));
        }
        let a = || Some(Arc::from("A"));
        let expected = [
            (None, a(), 1),
            (a(), a(), 1),
            (a(), a(), 2),
            (a(), a(), 2),
            (a(), None, 3),
            (None, None, 3),
            (None, None, 4),
        ];
        assert_eq!(ids, expected);
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_delays_no_other_and_a_found_host_is_announced() {
        let server = Server::start_pending(|request| {
            (!request.line.contains("=slow&")).then(|| answer(200, r#"{"hosts":[{"id":"A"}]}"#))
        })
        .await;
        let (client, hosts, now) = (client(&server.base), Hosts::new(Lanes::default()), Instant::now());
        let (slow, quick): (Arc<str>, Arc<str>) = ("slow".into(), "quick".into());
        let mut found = hosts.found();
        assert_eq!(hosts.id(&slow, now), None);
        let script = async {
            // The slow one is asked for first, alone.
            server.until(|seen| !seen.is_empty()).await;
            assert_eq!(hosts.id(&quick, now), None);
            found.changed().await.unwrap();
        };
        tokio::select! {
            never = hosts.keep_looked_up(&client, PACE) => match never {},
            () = script => {}
        }
        assert_eq!((hosts.id(&slow, now), hosts.id(&quick, now)), (None, Some("A".into())));
    }

    #[tokio::test]
    async fn a_host_that_mackerel_no_longer_knows_is_looked_up_again_ten_minutes_later_and_keeps_its_id_till_then() {
        let server = Server::start(|_| answer(200, r#"{"hosts":[{"id":"A"}]}"#)).await;
        let (client, hosts, start, db) =
            (client(&server.base), Hosts::new(Lanes::default()), Instant::now(), Arc::from("db"));
        hosts.id(&db, start);
        look_up(&hosts, &client, start).await;
        for (seconds, requests) in [(0, 1), (599, 1), (600, 2)] {
            let now = start + Duration::from_secs(seconds);
            hosts.doubt(&db, now);
            assert_eq!(hosts.id(&db, now), Some("A".into()));
            look_up(&hosts, &client, now).await;
            assert_eq!(server.requests().len(), requests, "{seconds}");
        }
    }
}
