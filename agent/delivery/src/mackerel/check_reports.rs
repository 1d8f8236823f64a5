//! Check reports: the results of checks, to `POST /api/v0/monitoring/checks/report`.
//!
//! A changed status is reported at once, the rest once a minute. Each host has its own queue, so that reports of one host that
//! Mackerel does not accept hold up no other. The queues outlive this output, so that another key or server takes them over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wasaba_core::clock;
use wasaba_core::report::Report;
use wasaba_core::text::counted;

use super::answer::ApiError;
use super::client::Client;
use super::halving::{Found, Halving};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Kind, Lane, Lanes, Words};
use super::saved_reports::Saved;
use super::{Pace, stopped};
use crate::spool::Spool;

/// Mackerel accepts no more in one request.
const MOST_AT_ONCE: usize = 100;

/// Reports that are not urgent wait up to this long.
const GATHERED: Duration = Duration::from_secs(60);

/// Dropped reports are logged this often.
const LOGGED_AGAIN: Duration = Duration::from_hours(1);

/// Mackerel ignores older reports.
const OLDEST_HOURS: i64 = 6;

/// A host's queue is limited to this; the oldest reports are dropped first.
const MOST_QUEUED: usize = 10_000;

pub(super) struct CheckReports<'a> {
    client: Client,
    host_id: HostId,
    hosts: Arc<Hosts>,
    board: Lanes,
    /// One for each queue.
    lanes: BTreeMap<Option<Arc<str>>, Lane>,
    pace: Pace,
    queues: &'a mut Queues,
    saved: Saved,
}

/// The queued reports, by the custom identifier of their host; `None` is this host.
#[derive(Debug, Default)]
pub(super) struct Queues(BTreeMap<Option<Arc<str>>, Queue>);

/// The queued reports of one host, the oldest first.
#[derive(Debug, Default)]
struct Queue {
    reports: VecDeque<Report>,
    /// No request is sent before then.
    not_before: Option<Instant>,
    dropped: Dropped,
}

/// How many reports were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    old: usize,
    overflowed: usize,
    refused: usize,
}

/// The reports that were dropped.
#[derive(Debug, Default)]
struct Dropped {
    all: Counts,
    /// Those that the log has mentioned.
    logged: Counts,
    logged_at: Option<Instant>,
    /// Those that the board of lanes has.
    noted: Counts,
    /// A check whose report was refused, and Mackerel's reason.
    example: Option<(Arc<str>, String)>,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            old: self.old - before.old,
            overflowed: self.overflowed - before.overflowed,
            refused: self.refused - before.refused,
        }
    }
}

impl Dropped {
    /// The line for the log, at most once an hour.
    fn line(&mut self, now: Instant) -> Option<String> {
        let is_soon = self.logged_at.is_some_and(|at| now.saturating_duration_since(at) < LOGGED_AGAIN);
        if is_soon || self.all == self.logged {
            return None;
        }
        let Counts { old, overflowed, refused } = self.all.since(self.logged);
        (self.logged, self.logged_at) = (self.all, Some(now));
        let example = self.example.take();
        let mut reasons = Vec::new();
        if old > 0 {
            reasons.push(format!("{old} older than {OLDEST_HOURS} h"));
        }
        if overflowed > 0 {
            reasons.push(format!("{overflowed} since more than {MOST_QUEUED} were queued for one host"));
        }
        if let (1.., Some((name, why))) = (refused, example) {
            reasons.push(format!("{refused} that Mackerel refuses, such as that of check {name} ({why})"));
        }
        let reasons = reasons.join(", ");
        Some(format!("dropped check reports: {reasons}; each check's next result is reported again"))
    }

    /// Notes on the board what it does not have yet.
    fn note(&mut self, lane: &mut Lane) {
        let Counts { old, overflowed, refused } = self.all.since(self.noted);
        self.noted = self.all;
        let reasons = [("too old", old), ("too many were queued", overflowed), ("refused", refused)];
        reasons.into_iter().filter(|(_, count)| *count > 0).for_each(|(reason, count)| lane.dropped(reason, count));
    }
}

impl Queues {
    /// Queues a report; from a full queue, the oldest is dropped. Returns whether it is urgent.
    pub(super) fn push(&mut self, report: Report) -> bool {
        let is_urgent = report.is_urgent;
        let queue = self.0.entry(report.host.clone()).or_default();
        queue.reports.push_back(report);
        if queue.reports.len() > MOST_QUEUED
            && let Some(oldest) = queue.reports.pop_front()
        {
            oldest.lost.set();
            queue.dropped.all.overflowed += 1;
        }
        is_urgent
    }

    pub(super) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.0.values().flat_map(|queue| &queue.reports)
    }

    /// Queues reports of an earlier run before those of this one.
    pub(super) fn restore(&mut self, reports: Vec<Report>) {
        for report in reports.into_iter().rev() {
            self.0.entry(report.host.clone()).or_default().reports.push_front(report);
        }
    }

    /// Forgets earlier failures, which another key or server may not have.
    fn reset(&mut self) {
        for queue in self.0.values_mut() {
            queue.not_before = None;
        }
    }
}

impl<'a> CheckReports<'a> {
    pub(super) fn new(
        client: Client,
        host_id: HostId,
        hosts: Arc<Hosts>,
        board: Lanes,
        pace: Pace,
        queues: &'a mut Queues,
        spool: Arc<Spool>,
    ) -> Self {
        queues.reset();
        let saved = Saved::new(spool, Some(host_id.clone()));
        Self { client, host_id, hosts, board, lanes: BTreeMap::new(), pace, queues, saved }
    }

    /// Posts queued reports and those from the inbox until shutdown, and then once more.
    pub(super) async fn run(mut self, inbox: &mut mpsc::Receiver<Report>, shutdown: watch::Receiver<bool>) {
        // Before the first request: a host may be found while that is under way.
        let mut found = self.hosts.found();
        let restored = self.saved.restore(self.queues.reports()).await;
        self.queues.restore(restored);
        self.flush(Instant::now()).await;
        let mut next = Instant::now() + GATHERED;
        loop {
            tokio::select! {
                Some(report) = inbox.recv() => {
                    let mut is_urgent = self.queues.push(report);
                    while let Ok(report) = inbox.try_recv() {
                        is_urgent |= self.queues.push(report);
                    }
                    if is_urgent {
                        self.flush(Instant::now()).await;
                    }
                }
                () = tokio::time::sleep_until(self.due(next)) => {
                    self.flush(Instant::now()).await;
                    if Instant::now() >= next {
                        next = Instant::now() + GATHERED;
                    }
                }
                // The sender is in `hosts`, which lives as long as this.
                Ok(()) = found.changed() => self.flush(Instant::now()).await,
                () = stopped(shutdown.clone()) => break,
            }
        }
        while let Ok(report) = inbox.try_recv() {
            self.queues.push(report);
        }
        // The last request may be cut short.
        self.saved.follow(self.queues.reports());
        self.flush(Instant::now()).await;
    }

    /// When the next request is due: at `regular`, or at the next retry if that is earlier.
    fn due(&self, regular: Instant) -> Instant {
        let queues = self.queues.0.values().filter(|queue| !queue.reports.is_empty());
        queues.filter_map(|queue| queue.not_before).chain([regular]).min().unwrap_or(regular)
    }

    async fn flush(&mut self, now: Instant) {
        let mut work = Vec::new();
        for host in self.queues.0.keys() {
            let lane = || self.board.lane(Kind::CheckReports, host.as_ref(), self.pace);
            self.lanes.entry(host.clone()).or_insert_with(lane);
        }
        // Both have the same keys.
        for ((host, queue), lane) in self.queues.0.iter_mut().zip(self.lanes.values_mut()) {
            queue.drop_old(clock::seconds_of((self.pace.now)()));
            if let Some(line) = queue.dropped.line(now) {
                tracing::warn!("{line}");
            }
            queue.dropped.note(lane);
            if queue.reports.is_empty() {
                lane.is_well();
            }
            if queue.reports.is_empty() || queue.not_before.is_some_and(|time| now < time) {
                continue;
            }
            let id = match host {
                None => Some(self.host_id.as_str().into()),
                Some(identifier) => self.hosts.id(identifier, now.into_std()),
            };
            if let Some(id) = id {
                work.push(queue.deliver(lane, &self.client, host.as_ref(), id, self.pace));
            }
        }
        let results = join_all(work).await;
        for gone in results.into_iter().flatten() {
            self.hosts.doubt(&gone, now.into_std());
        }
        self.saved.follow(self.queues.reports());
    }
}

impl Queue {
    /// Delivers all queued reports. Returns the host if Mackerel does not know it any more.
    async fn deliver(
        &mut self,
        lane: &mut Lane,
        client: &Client,
        host: Option<&Arc<str>>,
        id: Arc<str>,
        pace: Pace,
    ) -> Option<Arc<str>> {
        while !self.reports.is_empty() {
            let batch = self.reports.iter().take(MOST_AT_ONCE).cloned().collect::<Vec<_>>();
            let Err(error) = self.post(lane, client, &batch, &id).await else { continue };
            let error = match (error, host) {
                (error @ ApiError::Refused(_), _) => match self.search(lane, client, batch, &id, pace, error).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                (ApiError::NotFound(_), Some(identifier)) => return Some(Arc::clone(identifier)),
                (error, _) => error,
            };
            let waits = format!("{} stay queued", counted(self.reports.len() as u64, "report"));
            let wait = lane.wait(&error, &Words::new("post check reports", &waits));
            self.not_before = Some(Instant::now() + wait);
            return None;
        }
        self.dropped.note(lane);
        lane.is_well();
        None
    }

    /// Posts reports, which leave the queue only then, since this may be interrupted at any time.
    async fn post(&mut self, lane: &mut Lane, client: &Client, batch: &[Report], id: &str) -> Result<(), ApiError> {
        lane.request(batch.len(), client.post_reports(body(batch.iter(), id))).await?;
        tracing::debug!("delivered {} check reports", batch.len());
        self.reports.retain(|report| !batch.contains(report));
        self.not_before = None;
        Ok(())
    }

    /// Looks for the refused reports of a batch that was refused, and drops them; the others are delivered on the way.
    ///
    /// # Errors
    /// Nothing was accepted, or a request failed for another reason.
    async fn search(
        &mut self,
        lane: &mut Lane,
        client: &Client,
        batch: Vec<Report>,
        id: &str,
        pace: Pace,
        error: ApiError,
    ) -> Result<(), ApiError> {
        let mut search = Halving::of_refused(batch, (pace.random)());
        loop {
            while !lane.is_exhausted()
                && let Some(batch) = search.next()
            {
                match self.post(lane, client, &batch, id).await {
                    Ok(()) => search.accept(),
                    Err(ApiError::Refused(_)) => search.refuse(batch),
                    Err(error) => return Err(error),
                }
            }
            let (refused, is_finished) = match search.found() {
                Found::All(refused) => (refused, true),
                Found::Some(refused) => (refused, false),
                Found::NothingAccepted => return Err(error),
            };
            for report in refused {
                self.reports.retain(|queued| *queued != report);
                report.lost.set();
                self.dropped.all.refused += 1;
                self.dropped.example.get_or_insert_with(|| (report.name, error.to_string()));
            }
            if is_finished {
                return Ok(());
            }
        }
    }

    /// Drops reports that are too old.
    fn drop_old(&mut self, now: i64) {
        let is_old = |report: &Report| now - report.occurred_at >= OLDEST_HOURS * 60 * 60;
        let old = self.reports.iter().take_while(|report| is_old(report)).count();
        self.reports.drain(..old).for_each(|report| report.lost.set());
        self.dropped.all.old += old;
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

fn body<'a>(reports: impl Iterator<Item = &'a Report>, host_id: &str) -> Vec<u8> {
    let posted = |report: &'a Report| PostedReport {
        source: Source { r#type: "host", host_id },
        name: &report.name,
        status: report.status.word(),
        message: &report.message,
        occurred_at: report.occurred_at,
        notification_interval: report.notification_interval_minutes,
        max_check_attempts: report.max_check_attempts,
    };
    serde_json::to_vec(&Body { reports: reports.map(posted).collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use wasaba_core::report::{Lost, Status};

    use super::*;
    use crate::mackerel::halving::MOST_REFUSED_REQUESTS;
    use crate::mackerel::testing::{PACE, Server, answer, client, read};

    fn report(name: &str, host: Option<&str>) -> Report {
        Report {
            name: name.into(),
            host: host.map(Into::into),
            status: Status::Critical,
            message: "bad\nline2".to_owned(),
            occurred_at: clock::unix_seconds(),
            notification_interval_minutes: None,
            max_check_attempts: Some(3),
            is_urgent: true,
            lost: Lost::default(),
        }
    }

    fn reports<'a>(server: &Server, queues: &'a mut Queues) -> CheckReports<'a> {
        let pace = Pace { random: || 1.0, ..PACE };
        let board = Lanes::default();
        let hosts = Arc::new(Hosts::new(board.clone()));
        let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
        CheckReports::new(client(&server.base), HostId::new("OWN").unwrap(), hosts, board, pace, queues, spool)
    }

    fn bodies(server: &Server) -> Vec<String> {
        server
            .requests()
            .into_iter()
            .filter(|request| request.line.contains("/checks/report"))
            .map(|request| request.body)
            .collect()
    }

    #[test]
    fn a_report_is_written_like_the_official_agents() {
        let reports = [Report { occurred_at: 1_795_417_744, ..report("crit", None) }];
        let expected = r#"{"reports":[{"source":{"type":"host","hostId":"HOSTID12345"},"name":"crit","status":"CRITICAL","message":"bad\nline2","occurredAt":1795417744,"maxCheckAttempts":3}]}"#;
        assert_eq!(String::from_utf8(body(reports.iter(), "HOSTID12345")).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_refused_report_is_dropped_alone_and_its_check_learns_of_it() {
        for order in [["poison", "a", "b"], ["a", "poison", "b"], ["a", "b", "poison"]] {
            let server = Server::start(|request| match request.body.contains("poison") {
                true => answer(400, "{}"),
                false => answer(200, r#"{"success":true}"#),
            })
            .await;
            let mut queues = Queues::default();
            let mut reports = reports(&server, &mut queues);
            let queued = order.map(|name| report(name, None));
            let lost = queued.clone().map(|report| (report.name == "poison".into(), report.lost));
            for report in queued {
                reports.queues.push(report);
            }
            reports.flush(Instant::now()).await;
            assert!(reports.queues.0[&None].reports.is_empty(), "{order:?}");
            let accepted = bodies(&server).into_iter().filter(|body| !body.contains("poison"));
            assert_eq!(accepted.map(|body| body.matches("\"name\"").count()).sum::<usize>(), 2);
            assert!(lost.iter().all(|(is_poison, lost)| lost.is_set() == *is_poison), "{order:?}");
            let facts = reports.board.facts((PACE.instant)());
            let facts = facts.into_iter().find(|facts| facts.kind == Kind::CheckReports).unwrap();
            assert_eq!((facts.delivered, facts.fault, facts.dropped.get("refused")), (2, None, Some(&1)), "{order:?}");
            let line = reports.queues.0.get_mut(&None).unwrap().dropped.line(Instant::now()).unwrap();
            assert!(line.contains("1 that Mackerel refuses, such as that of check poison ("), "{line}");
        }
    }

    #[tokio::test]
    async fn nothing_is_dropped_and_few_requests_are_made_while_everything_is_refused() {
        let server = Server::start(|_| answer(400, "<html>")).await;
        let mut queues = Queues::default();
        let mut reports = reports(&server, &mut queues);
        for number in 0..300 {
            reports.queues.push(report(&format!("c{number}"), None));
        }
        reports.flush(Instant::now()).await;
        let queue = &reports.queues.0[&None];
        assert!(queue.reports.len() == 300 && queue.not_before.is_some());
        assert!(bodies(&server).len() <= MOST_REFUSED_REQUESTS, "{}", bodies(&server).len());
    }

    #[test]
    fn dropped_reports_are_logged_once_an_hour_by_reason() {
        let (start, mut queues) = (Instant::now(), Queues::default());
        for _ in 0..MOST_QUEUED + 2 {
            queues.push(Report { occurred_at: 0, ..report("c", None) });
        }
        let queue = queues.0.get_mut(&None).unwrap();
        let expected = "dropped check reports: 2 since more than 10000 were queued for one host; each check's next result is \
                        reported again";
        assert_eq!(queue.dropped.line(start).as_deref(), Some(expected));
        queue.drop_old(OLDEST_HOURS * 3_600);
        assert_eq!(queue.dropped.line(start + LOGGED_AGAIN / 2), None);
        let line = queue.dropped.line(start + LOGGED_AGAIN).unwrap();
        assert!(line.starts_with("dropped check reports: 10000 older than 6 h; "), "{line}");
        assert_eq!(queue.dropped.line(start + LOGGED_AGAIN * 3), None, "nothing is new");
    }

    #[tokio::test]
    async fn what_waits_is_posted_after_a_restart_once_and_for_the_same_host_only() {
        let folder = tempfile::tempdir().unwrap();
        let run = async |own: &str, pushed: Vec<Report>, status: u16| {
            let server = Server::start(move |_| answer(status, r#"{"success":true}"#)).await;
            let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
            let pace =
                Pace { now: clock::wall, instant: std::time::Instant::now, random: || 1.0, pause: Duration::ZERO };
            let (own, mut queues) = (HostId::new(own).unwrap(), Queues::default());
            for report in pushed {
                queues.push(report);
            }
            let ((_keep, mut inbox), (_, stop)) = (mpsc::channel(1), watch::channel(true));
            let (board, client) = (Lanes::default(), client(&server.base));
            let hosts = Arc::new(Hosts::new(board.clone()));
            let reports = CheckReports::new(client, own, hosts, board, pace, &mut queues, spool);
            reports.run(&mut inbox, stop).await;
            let names = bodies(&server).into_iter().flat_map(|body| {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                body["reports"].as_array().unwrap().iter().map(|report| report["name"].to_string()).collect::<Vec<_>>()
            });
            names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        };
        let waiting = || vec![report("a", None), report("b", None)];
        assert_eq!(run("OWN", waiting(), 503).await, r#""a" "b""#);
        assert_eq!(run("OWN", vec![report("c", None)], 200).await, r#""a" "b" "c""#);
        assert_eq!(run("OWN", Vec::new(), 200).await, "", "they were posted");
        assert_eq!(run("OWN", waiting(), 503).await, r#""a" "b""#);
        assert_eq!(run("ANOTHER", Vec::new(), 200).await, "");
    }

    #[tokio::test]
    async fn a_host_that_is_found_during_the_first_request_gets_its_reports_without_a_pause() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (board, mut queues) = (Lanes::default(), Queues::default());
        let hosts = Arc::new(Hosts::new(board.clone()));
        let delivered = Arc::new(Notify::new());
        let (found, told) = (hosts.found(), Arc::clone(&delivered));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut found, told) = (found.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while let Some(request) = read(&mut stream, &mut buffer).await {
                        let body = match request.line.starts_with("GET") {
                            true => r#"{"hosts":[{"id":"OTHER"}]}"#,
                            false => r#"{"success":true}"#,
                        };
                        if request.body.contains("OWN") {
                            // The answer to the first request comes after the look-up.
                            found.changed().await.unwrap();
                        }
                        stream.write_all(answer(200, body).as_bytes()).await.unwrap();
                        if request.body.contains("OTHER") {
                            told.notify_one();
                        }
                    }
                });
            }
        });
        for host in [None, Some("db")] {
            queues.push(report("disk", host));
        }
        let (client, own) = (client(&base), HostId::new("OWN").unwrap());
        let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
        let reports = CheckReports::new(client.clone(), own, Arc::clone(&hosts), board, PACE, &mut queues, spool);
        let ((_reports, mut inbox), (_stop, stop)) = (mpsc::channel(1), watch::channel(false));
        tokio::select! {
            () = reports.run(&mut inbox, stop) => panic!("it stopped"),
            never = hosts.keep_looked_up(&client, PACE) => match never {},
            () = delivered.notified() => {}
            () = tokio::time::sleep(GATHERED / 2) => panic!("the report of the other host waits"),
        }
    }

    #[tokio::test]
    async fn a_host_that_fails_holds_up_no_other_and_its_reports_stay_queued() {
        let server = Server::start(|request| {
            if request.line.starts_with("GET") {
                answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#)
            } else if request.body.contains("OTHER") {
                answer(503, "{}")
            } else {
                answer(200, r#"{"success":true}"#)
            }
        })
        .await;
        let mut queues = Queues::default();
        let mut reports = reports(&server, &mut queues);
        reports.queues.push(report("a", Some("other")));
        reports.queues.push(report("b", None));
        let now = Instant::now();
        // Whose id is asked for; a look-up answers.
        reports.flush(now).await;
        let (hosts, client, pace) = (Arc::clone(&reports.hosts), reports.client.clone(), reports.pace);
        let mut found = hosts.found();
        tokio::select! {
            never = hosts.keep_looked_up(&client, pace) => match never {},
            found = found.changed() => found.unwrap(),
        }
        reports.flush(now).await;
        assert_eq!(reports.queues.0[&None].reports.len(), 0);
        let queue = &reports.queues.0[&Some("other".into())];
        assert!(queue.reports.len() == 1 && queue.not_before.is_some());
        let before = bodies(&server).len();
        reports.flush(now).await;
        assert_eq!(bodies(&server).len(), before, "its backoff has not ended");
    }

    #[tokio::test]
    async fn more_than_a_hundred_reports_take_several_requests_and_old_ones_are_dropped() {
        let server = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        let mut queues = Queues::default();
        let mut reports = reports(&server, &mut queues);
        reports.queues.push(Report { occurred_at: 0, ..report("old", None) });
        for number in 0..150 {
            reports.queues.push(report(&format!("c{number}"), None));
        }
        reports.flush(Instant::now()).await;
        let counts = bodies(&server).iter().map(|body| body.matches("\"name\"").count()).collect::<Vec<_>>();
        assert_eq!(counts, [100, 50]);
    }
}
