//! Check reports: what checks found, to `POST /api/v0/monitoring/checks/report`.
//!
//! A changed status is reported at once, the rest once a minute, each host's by itself: what Mackerel does not take of one host
//! holds up no other. What waits is kept by whoever runs the output, so that another way to Mackerel loses none of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wasaba_core::report::Report;

use super::backoff::{Backoff, Complaint};
use super::client::{ApiError, Client};
use super::hosts::Hosts;
use super::id_file::HostId;
use super::{Pace, stopped};

/// Mackerel takes no more in one request.
const MOST_AT_ONCE: usize = 100;

/// What is not urgent waits up to this long.
const GATHERED: Duration = Duration::from_secs(60);

/// Mackerel passes over what lags behind by more.
const OLDEST_SECONDS: i64 = 6 * 60 * 60;

/// Of one host no more reports wait; the oldest go first.
const MOST_WAITING: usize = 10_000;

pub(super) struct CheckReports<'a> {
    client: Client,
    host_id: HostId,
    hosts: Hosts,
    pace: Pace,
    waiting: &'a mut Waiting,
}

/// The reports that wait, by the custom identifier of the host, if it is not this one.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<Option<Arc<str>>, Lane>);

/// What waits of one host.
#[derive(Debug, Default)]
struct Lane {
    reports: VecDeque<Report>,
    backoff: Backoff,
    complaint: Complaint,
    /// It is left alone until then.
    not_before: Option<Instant>,
    /// How many reports were given up since the last that was told.
    given_up: usize,
}

impl Waiting {
    /// Takes in a report; of one host's that are too many, the oldest goes. Whether it is urgent.
    pub(super) fn take(&mut self, report: Report) -> bool {
        let is_urgent = report.is_urgent;
        let lane = self.0.entry(report.host.clone()).or_default();
        lane.reports.push_back(report);
        if lane.reports.len() > MOST_WAITING {
            lane.reports.pop_front();
            lane.given_up += 1;
        }
        is_urgent
    }

    /// Another way to Mackerel may be open where the last one was not.
    fn begin_anew(&mut self) {
        for lane in self.0.values_mut() {
            *lane = Lane { reports: std::mem::take(&mut lane.reports), given_up: lane.given_up, ..Lane::default() };
        }
    }
}

impl<'a> CheckReports<'a> {
    pub(super) fn new(client: Client, host_id: HostId, pace: Pace, waiting: &'a mut Waiting) -> Self {
        waiting.begin_anew();
        Self { client, host_id, hosts: Hosts::default(), pace, waiting }
    }

    /// Reports what waits and what comes in until told to stop, and then once more.
    pub(super) async fn run(mut self, inbox: &mut mpsc::Receiver<Report>, shutdown: watch::Receiver<bool>) {
        self.flush(Instant::now()).await;
        let mut next = Instant::now() + GATHERED;
        loop {
            tokio::select! {
                Some(report) = inbox.recv() => {
                    let mut is_urgent = self.waiting.take(report);
                    while let Ok(report) = inbox.try_recv() {
                        is_urgent |= self.waiting.take(report);
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
                () = stopped(shutdown.clone()) => break,
            }
        }
        while let Ok(report) = inbox.try_recv() {
            self.waiting.take(report);
        }
        self.flush(Instant::now()).await;
    }

    /// When something is to be done next.
    fn due(&self, regular: Instant) -> Instant {
        let waiting = self.waiting.0.values().filter(|lane| !lane.reports.is_empty());
        waiting.filter_map(|lane| lane.not_before).chain([regular]).min().unwrap_or(regular)
    }

    async fn flush(&mut self, now: Instant) {
        let mut work = Vec::new();
        for (host, lane) in &mut self.waiting.0 {
            lane.forget_old(unix_seconds((self.pace.now)()));
            if lane.reports.is_empty() || lane.not_before.is_some_and(|time| now < time) {
                continue;
            }
            let id = match host {
                None => Some(self.host_id.as_str().into()),
                Some(identifier) => self.hosts.id(&self.client, identifier, now.into_std()).await,
            };
            match id {
                Some(id) => work.push(lane.deliver(&self.client, host.as_ref(), id, self.pace)),
                None => lane.not_before = Some(now + GATHERED),
            }
        }
        let results = join_all(work).await;
        for gone in results.into_iter().flatten() {
            self.hosts.doubt(&gone, now.into_std());
        }
    }
}

impl Lane {
    /// Delivers all that waits. What is returned is a host that is not there any more.
    async fn deliver(
        &mut self,
        client: &Client,
        host: Option<&Arc<str>>,
        id: Arc<str>,
        pace: Pace,
    ) -> Option<Arc<str>> {
        let mut at_once = MOST_AT_ONCE;
        while !self.reports.is_empty() {
            let count = at_once.min(self.reports.len());
            let error =
                match client.post("/api/v0/monitoring/checks/report", body(self.reports.iter().take(count), &id)).await
                {
                    Ok(_) => {
                        tracing::debug!("{count} check reports delivered");
                        self.reports.drain(..count);
                        self.backoff.reset();
                        self.complaint.reset();
                        self.not_before = None;
                        continue;
                    }
                    Err(error) => error,
                };
            match (&error, host) {
                // Which one it is will be seen when each goes alone.
                (ApiError::Refused { .. }, _) if count > 1 => {
                    at_once = 1;
                    continue;
                }
                (ApiError::Refused { .. }, _) => {
                    let refused = self.reports.pop_front();
                    let name = refused.as_ref().map(|report| &*report.name).unwrap_or_default();
                    tracing::error!("a report of check {name} is dropped: {error}");
                    continue;
                }
                (ApiError::NotFound { .. }, Some(identifier)) => return Some(Arc::clone(identifier)),
                _ => {}
            }
            let wait = self.backoff.after(&error, (pace.random)());
            self.not_before = Some(Instant::now() + wait);
            if self.complaint.is_due(&error, std::time::Instant::now()) {
                tracing::warn!("cannot report checks yet: {error}; {} wait", self.reports.len());
            }
            return None;
        }
        None
    }

    fn forget_old(&mut self, now: i64) {
        while self.reports.front().is_some_and(|report| now - report.occurred_at >= OLDEST_SECONDS) {
            self.reports.pop_front();
            self.given_up += 1;
        }
        if self.given_up > 0 {
            tracing::warn!(
                "{} check reports were given up: they had waited too long",
                std::mem::take(&mut self.given_up)
            );
        }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or_default()
}

#[derive(Serialize)]
struct Body<'a> {
    reports: Vec<Element<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Element<'a> {
    source: Origin<'a>,
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
struct Origin<'a> {
    r#type: &'static str,
    host_id: &'a str,
}

fn body<'a>(reports: impl Iterator<Item = &'a Report>, host_id: &str) -> Vec<u8> {
    let element = |report: &'a Report| Element {
        source: Origin { r#type: "host", host_id },
        name: &report.name,
        status: report.status.word(),
        message: &report.message,
        occurred_at: report.occurred_at,
        notification_interval: report.notification_interval_minutes,
        max_check_attempts: report.max_check_attempts,
    };
    serde_json::to_vec(&Body { reports: reports.map(element).collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wasaba_core::report::Status;
    use wasaba_core::secret::Secret;

    use super::*;
    use crate::mackerel::client::Agent;
    use crate::mackerel::testing::{Server, answer};

    fn report(name: &str, host: Option<&str>) -> Report {
        Report {
            name: name.into(),
            host: host.map(Into::into),
            status: Status::Critical,
            message: "bad\nline2".to_owned(),
            occurred_at: unix_seconds(SystemTime::now()),
            notification_interval_minutes: None,
            max_check_attempts: Some(3),
            is_urgent: true,
        }
    }

    fn reports<'a>(server: &Server, waiting: &'a mut Waiting) -> CheckReports<'a> {
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let client = Client::new(&server.base, Secret::new("key"), &agent, &Default::default()).unwrap();
        CheckReports::new(client, HostId::new("OWN").unwrap(), Pace { now: SystemTime::now, random: || 1.0 }, waiting)
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
    fn a_report_is_written_as_the_official_agent_writes_it() {
        let reports = [Report { occurred_at: 1_795_417_744, ..report("crit", None) }];
        let expected = r#"{"reports":[{"source":{"type":"host","hostId":"HOSTID12345"},"name":"crit","status":"CRITICAL","message":"bad\nline2","occurredAt":1795417744,"maxCheckAttempts":3}]}"#;
        assert_eq!(String::from_utf8(body(reports.iter(), "HOSTID12345")).unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_refused_is_found_and_the_others_go_through() {
        let server = Server::start(
            |request| {
                if request.body.contains("poison") { answer(400, "{}") } else { answer(200, "{}") }
            },
        )
        .await;
        let mut waiting = Waiting::default();
        let mut reports = reports(&server, &mut waiting);
        for name in ["a", "poison", "b"] {
            reports.waiting.take(report(name, None));
        }
        reports.flush(Instant::now()).await;
        assert!(reports.waiting.0[&None].reports.is_empty());
        let taken = bodies(&server).into_iter().filter(|body| !body.contains("poison")).count();
        assert_eq!(taken, 2);
    }

    #[tokio::test]
    async fn a_host_that_is_not_served_holds_up_no_other_and_its_reports_wait() {
        let server = Server::start(|request| {
            if request.line.starts_with("GET") {
                answer(200, r#"{"hosts":[{"id":"OTHER"}]}"#)
            } else if request.body.contains("OTHER") {
                answer(503, "{}")
            } else {
                answer(200, "{}")
            }
        })
        .await;
        let mut waiting = Waiting::default();
        let mut reports = reports(&server, &mut waiting);
        reports.waiting.take(report("a", Some("other")));
        reports.waiting.take(report("b", None));
        reports.flush(Instant::now()).await;
        assert_eq!(reports.waiting.0[&None].reports.len(), 0);
        let lane = &reports.waiting.0[&Some("other".into())];
        assert!(lane.reports.len() == 1 && lane.not_before.is_some());
        let asked = bodies(&server).len();
        reports.flush(Instant::now()).await;
        assert_eq!(bodies(&server).len(), asked, "it is left alone for a while");
    }

    #[tokio::test]
    async fn more_than_a_hundred_go_in_several_requests_and_what_is_too_old_in_none() {
        let server = Server::start(|_| answer(200, "{}")).await;
        let mut waiting = Waiting::default();
        let mut reports = reports(&server, &mut waiting);
        reports.waiting.take(Report { occurred_at: 0, ..report("old", None) });
        for number in 0..150 {
            reports.waiting.take(report(&format!("c{number}"), None));
        }
        reports.flush(Instant::now()).await;
        let counts = bodies(&server).iter().map(|body| body.matches("\"name\"").count()).collect::<Vec<_>>();
        assert_eq!(counts, [100, 50]);
    }
}
