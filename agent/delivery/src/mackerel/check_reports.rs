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
use wasaba_core::text::counted;

use super::answer::ApiError;
use super::board::{Kind, Lanes};
use super::client::Client;
use super::halving::{Found, Fruitless, Halving};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::lanes::{Lane, Words, cure_of_missing_host};
use super::report_queue::{Queue, Queues};
use super::saved_reports::Saved;
use super::{Pace, stopped};
use crate::spool::Spool;

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
    saved: Saved,
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
        spool: Arc<Spool>,
    ) -> Self {
        let saved = Saved::new(spool, Some(own.clone()));
        Self { client, own, hosts, board, pace, queues, saved, settled: Arc::default() }
    }

    /// Posts queued reports and those from the inbox until shutdown, and then once more.
    pub(super) async fn run(mut self, inbox: &mut mpsc::Receiver<Report>, shutdown: watch::Receiver<bool>) {
        let restored = self.saved.restore(&self.queues.reports()).await;
        self.queues.restore(restored);
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
            fruitless: Fruitless::default(),
            settled: Arc::clone(&self.settled),
        }
    }
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
    fruitless: Fruitless,
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
        loop {
            let batch = self.queue.oldest(MOST_AT_ONCE);
            if batch.is_empty() {
                self.lane.is_well();
                return None;
            }
            if let Some(wait) = self.lane.held_back() {
                return Some(wait);
            }
            let error = match self.post(&batch, &id).await {
                Ok(()) => continue,
                Err(error @ ApiError::Refused(_)) if self.fruitless.allows(batch.len(), (self.pace.instant)()) => {
                    match self.search(batch, &id, error).await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            return Some(self.failed(&error));
        }
    }

    fn failed(&mut self, error: &ApiError) -> Duration {
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
        self.queue.remove(batch);
        self.settled.notify_one();
        Ok(())
    }

    /// Looks for the refused reports of a batch that was refused, and drops those that Mackerel itself refuses; the others are
    /// delivered on the way.
    ///
    /// # Errors
    /// Nothing was accepted, a request failed for another reason, or something else than Mackerel refuses some of them.
    async fn search(&mut self, batch: Vec<Arc<Report>>, id: &str, why: ApiError) -> Result<(), ApiError> {
        let things = batch.len();
        let mut search = Halving::of_refused(batch, (self.pace.random)());
        loop {
            while !self.lane.is_exhausted()
                && let Some(batch) = search.next()
            {
                match self.post(&batch, id).await {
                    Ok(()) => search.accept(),
                    Err(error) if error.is_refusal_like(&why) => search.refuse(batch),
                    Err(error) => return Err(error),
                }
            }
            let (refused, is_finished) = match search.found() {
                Found::All(refused) => (refused, true),
                Found::Some(refused) => (refused, false),
                Found::NothingAccepted => {
                    self.fruitless.record(things, (self.pace.instant)());
                    return Err(why);
                }
            };
            if !refused.is_empty() && !why.is_of_mackerel() {
                return Err(why);
            }
            refused.iter().for_each(|report| self.queue.refuse(report, &why));
            if is_finished {
                return Ok(());
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
mod tests {
    use std::collections::BTreeSet;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use wasaba_core::report::{Lost, Status};

    use super::*;
    use crate::mackerel::board::LaneFacts;
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

    /// The reporter of this host or another, which is known.
    async fn reporter(server: &Server, host: Option<&str>, queued: Vec<Report>) -> Reporter {
        let (board, mut queues) = (Lanes::default(), Queues::default());
        let (hosts, host) = (Arc::new(Hosts::new(board.clone())), host.map(Arc::from));
        queued.into_iter().for_each(|report| queues.push(report));
        let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
        let (own, pace) = (HostId::new("OWN").unwrap(), Pace { random: || 1.0, ..PACE });
        let queue = queues.iter().next().map(|(_, queue)| Arc::clone(queue)).unwrap_or_default();
        if let Some(host) = &host {
            let (mut found, client) = (hosts.found(), client(&server.base));
            hosts.id(host, (pace.instant)());
            tokio::select! {
                never = hosts.keep_looked_up(&client, pace) => match never {},
                found = found.changed() => found.unwrap(),
            }
        }
        let reports = CheckReports::new(client(&server.base), own, hosts, board, pace, &mut queues, spool);
        reports.reporter(host.as_ref(), &queue)
    }

    fn facts(reporter: &Reporter) -> LaneFacts {
        let facts = reporter.lane.board().facts((PACE.instant)()).into_iter();
        let is_it = |facts: &LaneFacts| facts.kind == Kind::CheckReports && facts.host == reporter.host;
        facts.into_iter().find(is_it).unwrap()
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
        assert_eq!(String::from_utf8(body(&reports.map(Arc::new), "HOSTID12345")).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_refused_report_is_dropped_alone_and_its_check_learns_of_it() {
        for order in [["poison", "a", "b"], ["a", "poison", "b"], ["a", "b", "poison"]] {
            let server = Server::start(|request| match request.body.contains("poison") {
                true => answer(400, r#"{"error":"no"}"#),
                false => answer(200, r#"{"success":true}"#),
            })
            .await;
            let queued = order.map(|name| report(name, None));
            let lost = queued.clone().map(|report| (report.name == "poison".into(), report.lost));
            let mut reporter = reporter(&server, None, queued.into()).await;
            assert_eq!(reporter.flush().await, None);
            assert_eq!(reporter.queue.len(), 0, "{order:?}");
            let accepted = bodies(&server).into_iter().filter(|body| !body.contains("poison"));
            assert_eq!(accepted.map(|body| body.matches("\"name\"").count()).sum::<usize>(), 2);
            assert!(lost.iter().all(|(is_poison, lost)| lost.is_set() == *is_poison), "{order:?}");
            let facts = facts(&reporter);
            assert_eq!((facts.delivered, facts.fault, facts.dropped.get("refused")), (2, None, Some(&1)), "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_report_that_only_a_gateway_refuses_stays_queued_and_holds_up_no_other() {
        let server = Server::start(|request| match request.body.contains("poison") {
            true => answer(400, "<html>"),
            false => answer(200, r#"{"success":true}"#),
        })
        .await;
        let queued = ["a", "poison", "b"].map(|name| report(name, None));
        let lost = queued.clone().map(|report| report.lost);
        let mut reporter = reporter(&server, None, queued.into()).await;
        assert!(reporter.flush().await.is_some());
        let left = reporter.queue.oldest(9).iter().map(|report| report.name.to_string()).collect::<Vec<_>>();
        assert_eq!((left, facts(&reporter).delivered), (vec!["poison".to_owned()], 2));
        assert!(lost.iter().all(|lost| !lost.is_set()));
    }

    #[tokio::test]
    async fn nothing_is_dropped_and_few_requests_are_made_while_everything_is_refused() {
        for reason in ["<html>", r#"{"error":"no"}"#] {
            let server = Server::start(move |_| answer(400, reason)).await;
            let queued = (0..300).map(|number| report(&format!("c{number}"), None)).collect();
            let mut reporter = reporter(&server, None, queued).await;
            assert!(reporter.flush().await.is_some());
            assert_eq!(reporter.queue.len(), 300);
            assert!(bodies(&server).len() <= MOST_REFUSED_REQUESTS, "{}", bodies(&server).len());
        }
    }

    #[tokio::test]
    async fn what_waits_is_posted_after_a_restart_once_and_for_the_same_host_only() {
        let folder = tempfile::tempdir().unwrap();
        let run = async |own: &str, pushed: Vec<Report>, status: u16| {
            let server = Server::start(move |_| answer(status, r#"{"success":true}"#)).await;
            let spool = Arc::new(Spool::open(folder.path(), 0).unwrap());
            let pace = Pace { random: || 1.0, ..PACE };
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
    async fn a_host_whose_requests_hang_delays_no_other() {
        let server = Server::start_pending(|request| match request.line.starts_with("GET") {
            true => Some(answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#)),
            false => (!request.body.contains("OTHER")).then(|| answer(200, r#"{"success":true}"#)),
        })
        .await;
        let (board, mut queues, client) = (Lanes::default(), Queues::default(), client(&server.base));
        let hosts = Arc::new(Hosts::new(board.clone()));
        let (send, mut inbox) = mpsc::channel(9);
        let (own, (_stop, stop)) = (HostId::new("OWN").unwrap(), watch::channel(false));
        let spool = Arc::new(Spool::open(tempfile::tempdir().unwrap().path(), 0).unwrap());
        let reports = CheckReports::new(client.clone(), own, Arc::clone(&hosts), board, PACE, &mut queues, spool);
        let script = async {
            send.send(report("a", Some("db"))).await.unwrap();
            server.until(|seen| seen.iter().any(|request| request.body.contains("OTHER"))).await;
            send.send(report("b", None)).await.unwrap();
            server.until(|seen| seen.iter().any(|request| request.body.contains("OWN"))).await;
        };
        tokio::select! {
            () = reports.run(&mut inbox, stop) => panic!("it stopped"),
            never = hosts.keep_looked_up(&client, PACE) => match never {},
            () = script => {}
        }
    }

    #[tokio::test]
    async fn reports_of_a_host_that_is_gone_stay_queued_and_say_so() {
        let server = Server::start(|request| match request.line.starts_with("GET") {
            true => answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#),
            false => answer(404, r#"{"error":{"message":"Host Not Found."}}"#),
        })
        .await;
        let mut reporter = reporter(&server, Some("db"), vec![report("a", Some("db"))]).await;
        assert!(reporter.flush().await.is_some_and(|wait| wait >= Duration::from_mins(5)));
        assert_eq!(reporter.queue.len(), 1);
        let fault = facts(&reporter).fault.unwrap();
        assert!(fault.error.contains("Host Not Found.") && fault.cure.contains("`custom_identifier`"), "{fault:?}");
    }

    #[tokio::test]
    async fn more_than_a_hundred_reports_take_several_requests_and_old_ones_are_dropped() {
        let server = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        let old = Report { occurred_at: 0, ..report("old", None) };
        let queued = [old].into_iter().chain((0..150).map(|number| report(&format!("c{number}"), None))).collect();
        reporter(&server, None, queued).await.flush().await;
        let counts = bodies(&server).iter().map(|body| body.matches("\"name\"").count()).collect::<Vec<_>>();
        assert_eq!(counts, [100, 50]);
    }
}
