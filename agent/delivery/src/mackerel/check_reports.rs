//! Check reports: the results of checks, to `POST /api/v0/monitoring/checks/report`.
//!
//! A changed status is reported at once, the rest once a minute. Each host has a [`Reporter`] with its own queue and lane, so that
//! no host holds up another.

use std::collections::{BTreeMap, BTreeSet};
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

/// A check and a status of it: what refuses its message while it is critical may take the next one.
type Key = (Arc<str>, &'static str);

fn key(report: &Report) -> Key {
    (Arc::clone(&report.name), report.status.word())
}

/// The reports of the sieve's part of the checks, if those of all together failed; and whether they are such a part.
fn part(sieve: &Sieve, reports: Vec<Arc<Report>>) -> (Vec<Arc<Report>>, bool) {
    let names = reports.iter().map(|report| Arc::clone(&report.name)).collect::<BTreeSet<_>>();
    let Some(part) = sieve.part(names.len()) else { return (reports, false) };
    let names = names.into_iter().enumerate().filter(|(place, _)| part(*place));
    let names = names.map(|(_, name)| name).collect::<BTreeSet<_>>();
    (reports.into_iter().filter(|report| names.contains(&report.name)).collect(), true)
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
            let waiting = self.queue.oldest(MOST_AT_ONCE, |report| !self.held.contains(&key(report)));
            if waiting.is_empty() {
                match self.retry_held(id).await? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let (batch, is_part) = part(&self.sieve, waiting);
            let Err(error) = self.post(&batch, id).await else { continue };
            let now = (self.pace.instant)();
            if error.may_be_of_a_part() && batch.iter().all(|report| self.is_behind_held(report)) {
                // Probably for the same reason, so that it waits with those before it.
                batch.iter().for_each(|report| self.held.hold_unproven(key(report), &error, now));
                continue;
            }
            let search = match error {
                ApiError::Refused(_) if self.fruitless.allows(batch.len(), now) => {
                    Halving::of_refused(batch.clone(), error.clone(), (self.pace.random)())
                }
                _ if !is_part && self.sieve.is_accepting() && error.may_be_of_a_part() => {
                    Halving::beside_accepted(batch.clone(), error.clone())
                }
                _ => return Err(error),
            };
            if !self.search(search, &error, &batch, id).await? {
                self.fruitless.record(batch.len(), now);
                return Err(error);
            }
        }
    }

    /// Whether another report of its check is held.
    fn is_behind_held(&self, report: &Report) -> bool {
        let is_it = |other: &Report| other.name == report.name && self.held.contains(&key(other));
        !self.queue.oldest(1, is_it).is_empty()
    }

    /// Posts what is held and due: all in its order, or, if that is refused again, the newest of each check and status, since only some
    /// of the messages may be refused. Returns whether anything was accepted.
    async fn retry_held(&mut self, id: &str) -> Result<bool, ApiError> {
        let now = (self.pace.instant)();
        if self.held.is_empty() || self.lane.is_exhausted() {
            return Ok(false);
        }
        // Reports that became too old were dropped.
        let queued = self.queue.oldest(usize::MAX, |_| true).iter().map(|report| key(report)).collect::<BTreeSet<_>>();
        self.held.retain(|key| queued.contains(key));
        let is_due = |report: &Report| match self.is_accepting {
            true => self.held.is_due_beside_accepted(&key(report), now),
            false => self.held.is_due(&key(report), now),
        };
        let names = self.queue.oldest(usize::MAX, is_due);
        let names = names.iter().map(|report| &report.name).collect::<BTreeSet<_>>();
        let due = self.queue.oldest(usize::MAX, |report| names.contains(&report.name));
        if due.is_empty() {
            return Ok(false);
        }
        let mut batch = due.clone();
        if !self.is_accepting {
            batch = part(&self.held_sieve, batch).0;
        }
        batch.truncate(MOST_AT_ONCE);
        let Err(error) = self.post(&batch, id).await else {
            self.held_sieve.clear();
            return Ok(true);
        };
        if !error.may_be_of_a_part() {
            self.held.extend_due(now);
            return Err(error);
        }
        if !self.is_accepting {
            // Perhaps everything fails.
            self.held_sieve.fail();
            due.iter().for_each(|report| self.held.hold_unproven(key(report), &error, now));
            return Ok(false);
        }
        let newest = due.iter().map(|report| (key(report), Arc::clone(report))).collect::<BTreeMap<_, _>>();
        let newest = newest.into_values().take(MOST_AT_ONCE).collect();
        self.search(Halving::beside_accepted(newest, error.clone()), &error, &due, id).await?;
        Ok(false)
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
    async fn post(&mut self, batch: &[Arc<Report>], id: &str) -> Result<(), ApiError> {
        self.lane.request(batch.len(), self.client.post_reports(body(batch, id))).await?;
        tracing::debug!("delivered {} check reports", batch.len());
        self.fruitless.clear();
        self.sieve.accept();
        self.is_accepting = true;
        let order = if self.held.is_empty() { Vec::new() } else { self.queue.oldest(usize::MAX, |_| true) };
        self.queue.remove(batch);
        self.queue.drop_superseded(&order, |report| self.held.contains(&key(report)));
        batch.iter().for_each(|report| self.held.release(&key(report)));
        self.settled.notify_one();
        Ok(())
    }

    /// Looks for the refused reports of a batch that was refused, see `why`, which are `all` or some of them, and drops those that Mackerel itself
    /// refuses; the others are held. What is accepted is delivered on the way. Returns whether anything was.
    ///
    /// # Errors
    /// A request failed for another reason, or too many were refused.
    async fn search(
        &mut self,
        mut search: Halving<Arc<Report>, ApiError>,
        why: &ApiError,
        all: &[Arc<Report>],
        id: &str,
    ) -> Result<bool, ApiError> {
        loop {
            let mut result = Ok(());
            while result.is_ok()
                && !self.lane.is_exhausted()
                && let Some(batch) = search.next()
            {
                match self.post(&batch, id).await {
                    Ok(()) => search.accept(),
                    Err(error) => result = search.fail(batch, error),
                }
            }
            let (refused, is_finished) = match search.found() {
                Found::All(refused) => (refused, true),
                Found::Some(refused) => (refused, false),
                Found::NothingAccepted => return result.map(|()| false),
            };
            let now = (self.pace.instant)();
            let (dropped, held): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, why)| why.is_final());
            for (report, why) in &held {
                self.held.hold(key(report), why, now);
            }
            if is_finished {
                self.queue.drop_superseded(all, |report| self.held.contains(&key(report)));
            }
            dropped.iter().for_each(|(report, why)| self.queue.refuse(report, why));
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
