//! Check reports: the results of checks, to `POST /api/v0/monitoring/checks/report`.
//!
//! A changed status is reported at once, the rest once a minute. Each host has a [`Reporter`] with its own queue and lane, so that
//! no host holds up another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use wasaba_core::clock;
use wasaba_core::report::Report;
use wasaba_core::text::{counted, printable};

use super::answer::ApiError;
use super::board::{Kind, Lanes};
use super::client::Client;
use super::halving::{Found, Fruitless, Halving};
use super::holds::Holds;
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Lane, Words, cure_of_missing_host};
use super::report_queue::{Queue, Queues};
use super::saved_reports::Saved;
use super::sieve::Sieve;
use super::{Pace, stopped};

/// Mackerel accepts no more in one request.
const MOST_AT_ONCE: usize = 100;

/// Reports that are not urgent wait up to this long.
const GATHERED: Duration = Duration::from_secs(60);

pub(super) struct CheckReports<'a> {
    client: Client,
    own: HostId,
    hosts: Arc<Hosts>,
    board: Lanes,
    pace: Pace,
    queues: &'a mut Queues,
    saved: Saved<'a>,
    /// Something was delivered or dropped, or could not be delivered: only then reports are saved.
    settled: Arc<Notify>,
}

impl<'a> CheckReports<'a> {
    pub(super) fn new(
        client: Client,
        own: HostId,
        hosts: Arc<Hosts>,
        board: Lanes,
        pace: Pace,
        queues: &'a mut Queues,
        saved: Saved<'a>,
    ) -> Self {
        Self { client, own, hosts, board, pace, queues, saved, settled: Arc::default() }
    }

    /// Posts queued reports and those from the inbox until shutdown, and then once more.
    pub(super) async fn run(mut self, inbox: &mut mpsc::Receiver<Report>, shutdown: watch::Receiver<bool>) {
        self.saved.restore(self.queues).await;
        // The reporters stop only after the last reports are queued.
        let (stop, stopping) = watch::channel(false);
        let (mut reporters, mut known) = (FuturesUnordered::new(), BTreeSet::new());
        loop {
            for (host, queue) in self.queues.iter() {
                if known.insert(host.clone()) {
                    reporters.push(self.reporter(host.as_ref(), queue).run(stopping.clone()));
                }
            }
            let is_stopping = *stop.borrow();
            tokio::select! {
                Some(report) = inbox.recv(), if !is_stopping => self.take(report, inbox),
                ended = reporters.next(), if is_stopping || !reporters.is_empty() => {
                    if ended.is_none() {
                        break;
                    }
                }
                () = self.settled.notified() => self.saved.follow(&self.queues.reports()),
                () = stopped(shutdown.clone()), if !is_stopping => {
                    if let Ok(report) = inbox.try_recv() {
                        self.take(report, inbox);
                    }
                    // The last request may be cut short.
                    self.saved.follow(&self.queues.reports());
                    stop.send_replace(true);
                }
            }
        }
        self.saved.follow(&self.queues.reports());
    }

    /// Queues a report and those behind it.
    fn take(&mut self, report: Report, inbox: &mut mpsc::Receiver<Report>) {
        self.queues.push(report);
        while let Ok(report) = inbox.try_recv() {
            self.queues.push(report);
        }
    }

    fn reporter(&self, host: Option<&Arc<str>>, queue: &Arc<Queue>) -> Reporter {
        Reporter {
            client: self.client.clone(),
            own: self.own.clone(),
            host: host.cloned(),
            hosts: Arc::clone(&self.hosts),
            lane: self.board.lane(Kind::CheckReports, host, self.pace),
            pace: self.pace,
            queue: Arc::clone(queue),
            sieve: Sieve::default(),
            fruitless: Fruitless::default(),
            held: Holds::default(),
            held_sieve: Sieve::default(),
            is_accepting: false,
            settled: Arc::clone(&self.settled),
        }
    }
}

/// The reports of one check that wait, in their order. They travel together, so that none overtakes another.
type Group = Vec<Arc<Report>>;

/// A check and the status of its newest report: what refuses its message while it is critical may take the next one.
type Key = (Arc<str>, &'static str);

fn key(group: &[Arc<Report>]) -> Option<Key> {
    group.last().map(|newest| (Arc::clone(&newest.name), newest.status.word()))
}

/// The sieve's part of the checks, if all together failed; and whether it is such a part.
fn part(sieve: &Sieve, groups: Vec<Group>) -> (Vec<Group>, bool) {
    let Some(part) = sieve.part(groups.len()) else { return (groups, false) };
    (groups.into_iter().enumerate().filter(|(place, _)| part(*place)).map(|(_, group)| group).collect(), true)
}

/// As many as one request may have, of each check the oldest.
fn batch(groups: Vec<Group>) -> Vec<Group> {
    let mut room = MOST_AT_ONCE;
    let cut = |mut group: Group| {
        group.truncate(room);
        room -= group.len();
        (!group.is_empty()).then_some(group)
    };
    groups.into_iter().map_while(cut).collect()
}

/// Delivers the reports of one host.
struct Reporter {
    client: Client,
    own: HostId,
    /// The custom identifier of the host, if it is not this one.
    host: Option<Arc<str>>,
    hosts: Arc<Hosts>,
    lane: Lane,
    pace: Pace,
    queue: Arc<Queue>,
    sieve: Sieve,
    fruitless: Fruitless,
    /// What something on the way refuses reports of: they are posted apart, so that they delay no other.
    held: Holds<Key>,
    held_sieve: Sieve,
    /// Whether something was accepted since the flush began.
    is_accepting: bool,
    settled: Arc<Notify>,
}

impl Reporter {
    /// Posts queued reports until `stop`, and then once more.
    async fn run(mut self, stop: watch::Receiver<bool>) {
        // Before the first request: the host may be found while that is under way.
        let mut found = self.hosts.found();
        loop {
            let retry = self.flush().await;
            let next = Instant::now() + retry.unwrap_or(GATHERED);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.queue.urgent.notified(), if retry.is_none() => {}
                // The sender is in `hosts`, which lives as long as this.
                Ok(()) = found.changed(), if retry.is_none() && self.host.is_some() => {}
                () = stopped(stop.clone()) => break,
            }
        }
        self.flush().await;
    }

    /// Delivers what is queued. Returns how long to wait after a request that failed.
    async fn flush(&mut self) -> Option<Duration> {
        self.queue.drop_old(clock::seconds_of((self.pace.now)()));
        let retry = self.deliver().await;
        self.queue.account(&mut self.lane, Instant::now());
        self.settled.notify_one();
        retry
    }

    async fn deliver(&mut self) -> Option<Duration> {
        if self.queue.is_empty() {
            // Nothing asks for its id.
            self.lane.is_well();
            return None;
        }
        let id = match &self.host {
            None => self.own.as_str().into(),
            // Without an id, they wait until it is found.
            Some(identifier) => self.hosts.id(identifier, (self.pace.instant)())?,
        };
        if let Some(wait) = self.lane.held_back() {
            return Some(wait);
        }
        self.is_accepting = false;
        match self.deliver_all(&id).await {
            Ok(()) => {
                self.is_done();
                None
            }
            Err(error) => Some(self.failed(&error)),
        }
    }

    /// Delivers everything but what is held, and then what of that is due.
    async fn deliver_all(&mut self, id: &str) -> Result<(), ApiError> {
        loop {
            let is_held = |group: &Group| key(group).is_some_and(|key| self.held.contains(&key));
            let (held, waiting): (Vec<_>, Vec<_>) = self.queue.groups().into_iter().partition(is_held);
            if waiting.is_empty() {
                match self.retry_held(held, id).await? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let (groups, is_part) = part(&self.sieve, waiting);
            let groups = batch(groups);
            let Err(error) = self.post(&groups, id).await else { continue };
            let (things, now) = (groups.len(), (self.pace.instant)());
            if let [group] = &groups[..]
                && self.has_held(group)
                && error.may_be_of_a_part()
            {
                // Probably for the same reason as those before it.
                self.try_newest(group, &error, false, id).await?;
                continue;
            }
            let search = match error {
                ApiError::Refused(_) if self.fruitless.allows(things, now) => {
                    Halving::of_refused(groups, error.clone(), (self.pace.random)())
                }
                _ if !is_part && self.sieve.is_accepting() && error.may_be_of_a_part() => {
                    Halving::beside_accepted(groups, error.clone())
                }
                _ => return Err(error),
            };
            if !self.search(search, &error, id).await? {
                self.fruitless.record(things, now);
                return Err(error);
            }
        }
    }

    /// Whether an earlier report of the check is held.
    fn has_held(&self, group: &[Arc<Report>]) -> bool {
        (1..group.len()).any(|end| group.get(..end).and_then(key).is_some_and(|key| self.held.contains(&key)))
    }

    /// Posts what is held and due. Returns whether anything was accepted.
    async fn retry_held(&mut self, held: Vec<Group>, id: &str) -> Result<bool, ApiError> {
        let now = (self.pace.instant)();
        if held.is_empty() || self.lane.is_exhausted() {
            return Ok(false);
        }
        // What became too old was dropped.
        let keys = held.iter().filter_map(|group| key(group)).collect::<BTreeSet<_>>();
        self.held.retain(|key| keys.contains(key));
        let is_due = |group: &Group| {
            key(group).is_some_and(|key| match self.is_accepting {
                true => self.held.is_due_beside_accepted(&key, now),
                false => self.held.is_due(&key, now),
            })
        };
        let due = held.into_iter().filter(is_due).collect::<Vec<_>>();
        if due.is_empty() {
            return Ok(false);
        }
        let keys = due.iter().filter_map(|group| key(group)).collect::<Vec<_>>();
        let groups = batch(if self.is_accepting { due } else { part(&self.held_sieve, due).0 });
        let Err(error) = self.post(&groups, id).await else {
            self.held_sieve.clear();
            return Ok(true);
        };
        if !error.may_be_of_a_part() {
            self.held.extend_due(now);
            return Err(error);
        }
        if self.is_accepting {
            self.search(Halving::beside_accepted(groups, error.clone()), &error, id).await?;
        } else {
            // Perhaps everything fails.
            self.held_sieve.fail();
            keys.into_iter().for_each(|key| self.held.hold_unproven(key, &error, now));
        }
        Ok(false)
    }

    /// Posts the newest report of a check whose reports together are refused, if they are several: it may be accepted, and those before
    /// it are dropped then, since posted later they would be taken for newer. Else the check is held.
    async fn try_newest(
        &mut self,
        group: &[Arc<Report>],
        why: &ApiError,
        is_proven: bool,
        id: &str,
    ) -> Result<(), ApiError> {
        if let [before @ .., newest] = group
            && !before.is_empty()
        {
            match self.post(&[vec![Arc::clone(newest)]], id).await {
                Ok(()) => {
                    self.queue.supersede(before);
                    return Ok(());
                }
                Err(error) if error.may_be_of_a_part() => {}
                Err(error) => return Err(error),
            }
        }
        let (Some(key), now) = (key(group), (self.pace.instant)()) else { return Ok(()) };
        if is_proven {
            self.held.hold(key, why, now);
        } else {
            self.held.hold_unproven(key, why, now);
        }
        Ok(())
    }

    /// Drops the reports of a check that Mackerel itself refuses, and delivers the others, in their order.
    async fn drop_refused(&mut self, group: Group, why: &ApiError, id: &str) -> Result<(), ApiError> {
        if let [report] = &group[..] {
            self.queue.refuse(report, why);
            return Ok(());
        }
        for (place, report) in group.iter().enumerate() {
            match self.post(&[vec![Arc::clone(report)]], id).await {
                Ok(()) => {}
                Err(error) if error.is_final() => self.queue.refuse(report, &error),
                Err(error) if error.may_be_of_a_part() => {
                    let rest = group.get(place..).unwrap_or_default();
                    return self.try_newest(rest, &error, true, id).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes that everything is delivered but what is held, which is the lane's fault.
    fn is_done(&mut self) {
        self.sieve.clear();
        let now = (self.pace.instant)();
        let next = self.held.queued().min_by_key(|(_, _, until)| *until);
        match next.filter(|_| !self.queue.is_empty()) {
            Some(((name, _), why, until)) => {
                let task = format!("post reports of the check `{}`", printable(name, 200));
                let words = Words::new(&task, "they stay queued, and those of other checks are delivered");
                let words = Words { is_of_a_part: true, ..words };
                self.lane.fault(until.saturating_duration_since(now), &why.clone(), &words);
            }
            None => self.lane.is_well(),
        }
    }

    fn failed(&mut self, error: &ApiError) -> Duration {
        if error.may_be_of_a_part() {
            self.sieve.fail();
        }
        let waits = format!("{} stay queued", counted(self.queue.len() as u64, "report"));
        let words = Words::new("post check reports", &waits);
        let (ApiError::NotFound(_), Some(identifier)) = (error, &self.host) else {
            return self.lane.wait(error, &words);
        };
        // It may have been retired since.
        self.hosts.doubt(identifier, (self.pace.instant)());
        self.lane.wait(error, &Words { cure: Some(cure_of_missing_host()), ..words })
    }

    /// Posts reports, which leave the queue only then, since this may be interrupted at any time.
    async fn post(&mut self, groups: &[Group], id: &str) -> Result<(), ApiError> {
        let reports = groups.iter().flatten().map(Arc::clone).collect::<Vec<_>>();
        self.lane.request(reports.len(), self.client.post_reports(body(&reports, id))).await?;
        tracing::debug!("delivered {} check reports", reports.len());
        self.fruitless.clear();
        self.sieve.accept();
        self.is_accepting = true;
        self.queue.remove(&reports);
        groups.iter().filter_map(|group| key(group)).for_each(|key| self.held.release(&key));
        self.settled.notify_one();
        Ok(())
    }

    /// Looks for the checks of which reports are refused, of those that are refused together, see `why`. What Mackerel itself refuses is
    /// dropped, the others are held, and what is accepted is delivered on the way. Returns whether anything was.
    ///
    /// # Errors
    /// A request failed for another reason, or too many were refused.
    async fn search(
        &mut self,
        mut search: Halving<Group, ApiError>,
        why: &ApiError,
        id: &str,
    ) -> Result<bool, ApiError> {
        loop {
            let mut result = Ok(());
            while result.is_ok()
                && !self.lane.is_exhausted()
                && let Some(groups) = search.next()
            {
                match self.post(&groups, id).await {
                    Ok(()) => search.accept(),
                    Err(error) => result = search.fail(groups, error),
                }
            }
            let (refused, is_finished) = match search.found() {
                Found::All(refused) => (refused, true),
                Found::Some(refused) => (refused, false),
                Found::NothingAccepted => return result.map(|()| false),
            };
            for (group, why) in refused {
                if why.is_final() {
                    self.drop_refused(group, &why, id).await?;
                } else {
                    self.try_newest(&group, &why, true, id).await?;
                }
            }
            result?;
            if is_finished {
                return Ok(true);
            }
            if self.lane.is_exhausted() {
                return Err(why.clone());
            }
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    reports: Vec<PostedReport<'a>>,
}

/// A report in the form that Mackerel accepts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedReport<'a> {
    source: Source<'a>,
    name: &'a str,
    status: &'static str,
    message: &'a str,
    occurred_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_check_attempts: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    r#type: &'static str,
    host_id: &'a str,
}

fn body(reports: &[Arc<Report>], host_id: &str) -> Vec<u8> {
    let reports = reports.iter().map(|report| PostedReport {
        source: Source { r#type: "host", host_id },
        name: &report.name,
        status: report.status.word(),
        message: &report.message,
        occurred_at: report.occurred_at,
        notification_interval: report.notification_interval_minutes,
        max_check_attempts: report.max_check_attempts,
    });
    serde_json::to_vec(&Body { reports: reports.collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
