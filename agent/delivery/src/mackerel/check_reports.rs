//! Check reports: the results of checks, to `POST /api/v0/monitoring/checks/report`.
//!
//! A changed status is reported at once, the rest once a minute. Each host has a [`Reporter`] with its own queue and lane, so that
//! no host holds up another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant as TokioInstant;
use wasaba_core::report::{Report, Status};
use wasaba_core::text::{counted, printable};

use super::answer::ApiError;
use super::board::{Kind, Lanes};
use super::client::Client;
use super::dates::Present;
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
            tried: BTreeMap::new(),
            held_sieve: Sieve::default(),
            most: MOST_AT_ONCE,
            is_accepting: false,
            accepted_at: None,
            settled: Arc::clone(&self.settled),
        }
    }
}

/// How long a lane that accepted something is taken to work, so that a single check that fails then is taken for the reason.
const PROVEN: Duration = Duration::from_mins(10);

/// How often a check that is held is tried before its time for a status that it did not have: what refuses the message of one status may
/// take that of another.
const OTHER_STATUS: Duration = Duration::from_mins(2);

/// So many tries must have failed before a later report replaces an earlier one, where not refusing but failing is what was answered.
const FAILED_TRIES: u32 = 4;

/// So many reports of a check with different messages are refused one by one at a time.
const MOST_REFUSED: usize = 8;

/// The reports of one check that wait, in their order. They travel together, so that none overtakes another.
type Group = Vec<Arc<Report>>;

/// What they are reports of.
fn check(group: &[Arc<Report>]) -> Option<Arc<str>> {
    group.last().map(|newest| Arc::clone(&newest.name))
}

/// What was tried of a check that is held.
#[derive(Clone, Copy, Debug)]
struct Tried {
    /// That of its newest report.
    status: Status,
    /// When it was tried for another status than it had when it was held.
    other: Option<Instant>,
}

/// The sieve's part of the checks, if all together failed; and whether it is such a part.
fn part(sieve: &Sieve, groups: Vec<Group>) -> (Vec<Group>, bool) {
    let Some(part) = sieve.part(groups.len()) else { return (groups, false) };
    (groups.into_iter().enumerate().filter(|(place, _)| part(*place)).map(|(_, group)| group).collect(), true)
}

/// As many as one request may have, of each check the oldest.
fn batch(groups: Vec<Group>, most: usize) -> Vec<Group> {
    let mut room = most;
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
    held: Holds<Arc<str>>,
    tried: BTreeMap<Arc<str>, Tried>,
    held_sieve: Sieve,
    /// How many reports are posted at once: fewer after a failure of many of a single check, more after a success.
    most: usize,
    /// Whether something was accepted since the flush began.
    is_accepting: bool,
    accepted_at: Option<Instant>,
    settled: Arc<Notify>,
}

impl Reporter {
    /// Posts queued reports until `stop`, and then once more.
    async fn run(mut self, stop: watch::Receiver<bool>) {
        // Before the first request: the host may be found while that is under way.
        let mut found = self.hosts.found();
        loop {
            let retry = self.flush().await;
            let next = TokioInstant::now() + retry.unwrap_or(GATHERED);
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
        let present = self.client.present();
        self.queue.drop_old(|report| present.age(report.occurred_at, report.taken));
        let retry = self.deliver().await;
        self.queue.account(&mut self.lane, TokioInstant::now());
        self.settled.notify_one();
        retry
    }

    async fn deliver(&mut self) -> Option<Duration> {
        if self.queue.is_empty() {
            // Nothing asks for its id.
            self.is_done();
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
            // Some were accepted, so the search for the others goes through what is left.
            Err(error) if self.is_accepting && error.may_be_of_a_part() && error.retry_after().is_none() => {
                let (task, is_said) = self.task(&error);
                let words = Words::new(&task, "they stay queued, and the search for others that fail continues");
                self.lane.part_fault(GATHERED, &error, &Words { is_of_a_part: true, is_said, ..words });
                Some(GATHERED)
            }
            Err(error) => Some(self.failed(&error)),
        }
    }

    /// The check that is held and named first: one that stays queued, and the next that is tried again.
    fn first_held(&self) -> Option<(&Arc<str>, &ApiError, Instant)> {
        self.held.all().min_by_key(|(_, why, until)| (why.is_final(), *until))
    }

    /// What a message says that cannot be done because of what is held, or at all; and whether the log has a line of its own about it.
    fn task(&self, error: &ApiError) -> (String, bool) {
        let Some((name, why, _)) = self.first_held() else {
            return ("post some check reports".to_owned(), error.is_final());
        };
        let more = match self.held.all().count() - 1 {
            0 => String::new(),
            more => format!(" and of {}", counted(more as u64, "other check")),
        };
        (format!("post reports of the check `{}`{more}", printable(name, 200)), why.is_final())
    }

    /// Delivers everything but what is held, and then what of that is due.
    async fn deliver_all(&mut self, id: &str) -> Result<(), ApiError> {
        loop {
            let now = (self.pace.instant)();
            let (held, waiting): (Vec<_>, Vec<_>) =
                self.queue.groups().into_iter().partition(|group| self.is_held(group, now));
            if waiting.is_empty() {
                match self.retry_held(held, id).await? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let (groups, is_part) = part(&self.sieve, waiting);
            let groups = batch(groups, self.most);
            let Err(error) = self.post(&groups, id).await else { continue };
            if self.lane.is_exhausted() || error.retry_after().is_some() {
                return Err(error);
            }
            let things = groups.len();
            if let [group] = &groups[..]
                && error.may_be_of_a_part()
            {
                if check(group).is_some_and(|check| self.held.contains(&check)) {
                    // Probably for the same reason as those before it.
                    self.try_newest(group, &error, false, id).await?;
                    continue;
                }
                if group.len() > 1 {
                    // It may be their number.
                    self.most = group.len() / 2;
                } else if !self.is_accepting && self.is_proven(now) {
                    // It may be this check alone, which is seen as soon as another is accepted.
                    self.hold(group, &error, false);
                    continue;
                }
            }
            let is_beside = self.is_accepting || !is_part && self.sieve.is_accepting();
            let search = match error {
                _ if is_beside && error.may_be_of_a_part() => Halving::beside_accepted(groups, error.clone()),
                ApiError::Refused(_) if self.fruitless.allows(things, now) => {
                    Halving::of_refused(groups, error.clone(), (self.pace.random)())
                }
                _ => return Err(error),
            };
            if !self.search(search, &error, id).await? {
                self.fruitless.record(things, now);
                return Err(error);
            }
        }
    }

    /// Whether the check waits for its next try: its status is that of the last one, or it was tried for another status just now.
    fn is_held(&self, group: &[Arc<Report>], now: Instant) -> bool {
        let Some(newest) = group.last().filter(|newest| self.held.contains(&newest.name)) else { return false };
        self.tried.get(&newest.name).is_none_or(|tried| {
            let is_soon = tried.other.is_some_and(|at| now.saturating_duration_since(at) < OTHER_STATUS);
            tried.status == newest.status || is_soon
        })
    }

    /// Whether the lane works, and no check is held without proof that it does.
    fn is_proven(&self, now: Instant) -> bool {
        let is_recent = self.accepted_at.is_some_and(|at| now.saturating_duration_since(at) < PROVEN);
        is_recent && self.held.are_proven()
    }

    /// Leaves the reports of a check alone for a while.
    fn hold(&mut self, group: &[Arc<Report>], why: &ApiError, is_proven: bool) {
        let now = (self.pace.instant)();
        let Some(check) = check(group) else { return };
        // That of the whole check: a request may have only its oldest reports.
        let newest = self.queue.newest(&check).or_else(|| group.last().map(Arc::clone));
        if let Some(newest) = newest {
            let tried = self.tried.get(&check).copied();
            let is_other = tried.is_some_and(|tried| tried.status != newest.status);
            let other = if is_other { Some(now) } else { tried.and_then(|tried| tried.other) };
            self.tried.insert(Arc::clone(&check), Tried { status: newest.status, other });
        }
        match is_proven {
            true => _ = self.held.hold(check, why, now),
            false => self.held.hold_unproven(check, why, now),
        }
    }

    /// Posts what is held and due. Returns whether anything was accepted.
    async fn retry_held(&mut self, held: Vec<Group>, id: &str) -> Result<bool, ApiError> {
        let now = (self.pace.instant)();
        self.release_done(&held, now);
        if held.is_empty() || self.lane.is_exhausted() {
            return Ok(false);
        }
        let is_due = |group: &Group| {
            check(group).is_some_and(|check| match self.is_accepting {
                true => self.held.is_due_beside_accepted(&check, now),
                false => self.held.is_due(&check, now),
            })
        };
        let due = held.into_iter().filter(is_due).collect::<Vec<_>>();
        if due.is_empty() {
            return Ok(false);
        }
        let groups =
            batch(if self.is_accepting { due.clone() } else { part(&self.held_sieve, due.clone()).0 }, self.most);
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
            due.iter().for_each(|group| self.hold(group, &error, false));
        }
        Ok(false)
    }

    /// Posts the oldest report of a check whose reports fail together, if they are several: it may be their number. If it fails, too, the
    /// newest may be accepted, and those before it are dropped then, since posted later they would be taken for newer. Else the check is held.
    async fn try_newest(
        &mut self,
        group: &[Arc<Report>],
        why: &ApiError,
        is_proven: bool,
        id: &str,
    ) -> Result<(), ApiError> {
        if let [oldest, .., newest] = group {
            match self.post(&[vec![Arc::clone(oldest)]], id).await {
                Ok(()) => {
                    self.most = 1;
                    return Ok(());
                }
                Err(error) if error.may_be_of_a_part() => {}
                Err(error) => return Err(error),
            }
            if why.is_refusal() || self.held.has_failed(&newest.name, FAILED_TRIES) {
                match self.post(&[vec![Arc::clone(newest)]], id).await {
                    Ok(()) => {
                        let before = group.get(..group.len() - 1).unwrap_or_default();
                        self.queue.supersede(before);
                        return Ok(());
                    }
                    Err(error) if error.may_be_of_a_part() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.hold(group, why, is_proven);
        Ok(())
    }

    /// Drops the reports of a check that Mackerel itself refuses, and delivers the others, in their order. The next ones of the check wait
    /// for a while, unless they have another status; after [`MOST_REFUSED`], so do those behind them, if the newest is refused, too.
    async fn drop_refused(&mut self, group: Group, why: &ApiError, id: &str) -> Result<(), ApiError> {
        let mut refused = BTreeSet::new();
        for (place, report) in group.iter().enumerate() {
            let content = (report.status.word(), &*report.message);
            let result = match (group.len(), refused.contains(&content)) {
                (1, _) | (_, true) => Err(why.clone()),
                _ => self.post(&[vec![Arc::clone(report)]], id).await,
            };
            match result {
                Ok(()) => {}
                Err(error) if error.is_final() => {
                    refused.insert(content);
                    self.hold(std::slice::from_ref(report), &error, true);
                    self.queue.refuse(report, &error);
                    if refused.len() == MOST_REFUSED {
                        let rest = group.get(place + 1..).unwrap_or_default();
                        return self.try_newest(rest, &error, true, id).await;
                    }
                }
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
        self.release_done(&self.queue.groups(), now);
        let Some((_, why, until)) = self.first_held() else { return self.lane.is_well() };
        let (task, is_said) = self.task(why);
        let words = Words::new(&task, "they stay queued, and those of other checks are delivered");
        // What is dropped has its line in the log.
        let words = Words { is_of_a_part: true, is_said, ..words };
        self.lane.fault(until.saturating_duration_since(now), &why.clone(), &words);
    }

    /// Holds no check any more of which nothing waits: what became too old was dropped. What Mackerel itself refuses is remembered
    /// without a report.
    fn release_done(&mut self, waiting: &[Group], now: Instant) {
        let checks = waiting.iter().filter_map(|group| check(group)).collect::<BTreeSet<_>>();
        self.held.retain(|check, is_waiting| checks.contains(check) || is_waiting, now);
        self.tried.retain(|check, _| self.held.contains(check));
    }

    fn failed(&mut self, error: &ApiError) -> Duration {
        if error.may_be_of_a_part() {
            self.sieve.fail();
            // They fail with everything else, and have their turn with it.
            self.held.release_unproven();
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
        self.lane.request(reports.len(), self.client.post_reports(body(&reports, id, self.client.present()))).await?;
        tracing::debug!("delivered {} check reports", reports.len());
        if reports.len() == self.most {
            self.most = (self.most * 2).min(MOST_AT_ONCE);
        }
        self.accepted_at = Some((self.pace.instant)());
        self.fruitless.clear();
        self.sieve.accept();
        self.is_accepting = true;
        self.queue.remove(&reports);
        for check in groups.iter().filter_map(|group| check(group)) {
            self.held.release(&check);
            self.tried.remove(&check);
        }
        self.settled.notify_one();
        Ok(())
    }

    /// Looks for the checks of which reports are refused, of those that are refused together, see `why`. What Mackerel itself refuses is
    /// dropped, the others are held, and what is accepted is delivered on the way. Returns whether anything was.
    ///
    /// # Errors
    /// A request failed for another reason, or the search is not finished.
    async fn search(
        &mut self,
        mut search: Halving<Group, ApiError>,
        why: &ApiError,
        id: &str,
    ) -> Result<bool, ApiError> {
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
        if is_finished { Ok(true) } else { Err(why.clone()) }
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

fn body(reports: &[Arc<Report>], host_id: &str, present: Present) -> Vec<u8> {
    let reports = reports.iter().map(|report| PostedReport {
        source: Source { r#type: "host", host_id },
        name: &report.name,
        status: report.status.word(),
        message: &report.message,
        occurred_at: present.of(report.occurred_at, report.taken),
        notification_interval: report.notification_interval_minutes,
        max_check_attempts: report.max_check_attempts,
    });
    serde_json::to_vec(&Body { reports: reports.collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
