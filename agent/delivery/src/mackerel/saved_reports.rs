//! Check reports that could not be posted yet, in the spool, so that a restart does not lose them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasaba_core::report::{Lost, Report, Status};

use super::id_file::HostId;
use super::report_queue::Queues;
use crate::spool::Spool;

/// Their kind in the spool.
const KIND: &str = "reports";

pub(super) struct Saved<'a> {
    spool: Arc<Spool>,
    /// This host, once it is registered.
    own: Option<HostId>,
    /// The host as which this machine posted last, and whose the queued reports are; `None` if it never was one.
    former: &'a mut Option<String>,
    /// Those that are in the spool: what identifies each, and its key.
    keys: BTreeMap<String, String>,
    /// The number of the next one. They are read in this order, whatever the clock says.
    next: u64,
}

/// A report as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    name: String,
    host: Option<String>,
    /// The host that it was found about; empty if that was not registered yet.
    reporter: String,
    status: String,
    message: String,
    occurred_at: i64,
    notification_interval_minutes: Option<u64>,
    max_check_attempts: Option<u32>,
}

impl<'a> Saved<'a> {
    pub(super) fn new(spool: Arc<Spool>, own: Option<HostId>, former: &'a mut Option<String>) -> Self {
        Self { spool, own, former, keys: BTreeMap::new(), next: 0 }
    }

    /// Queues the reports of an earlier run before those of this one. What was found about this machine when it was another host is dropped,
    /// from the queue and from the spool; as long as it is not known which host it is, that stays in the spool.
    pub(super) async fn restore(&mut self, queues: &mut Queues) {
        let known = queues.reports().iter().map(|report| identity(report)).collect::<BTreeSet<_>>();
        let spool = Arc::clone(&self.spool);
        let stored = tokio::task::spawn_blocking(move || spool.all(KIND)).await.unwrap_or_default();
        let (mut restored, mut foreign) = (Vec::new(), 0);
        for (key, bytes) in stored {
            let (number, identity) = key.split_once('\t').unwrap_or_default();
            self.next = self.next.max(number.parse::<u64>().unwrap_or_default() + 1);
            let is_known = known.contains(identity);
            let stored = serde_json::from_slice::<Stored>(&bytes).ok();
            let is_foreign = stored.as_ref().is_some_and(|stored| !self.is_ours(stored));
            if self.own.is_none() && (is_foreign || stored.is_none()) {
                continue;
            }
            self.keys.insert(identity.to_owned(), key.clone());
            if let Some(stored) = stored.filter(|_| !is_foreign) {
                self.own(&key, &stored);
                restored.extend(report(stored).filter(|_| !is_known));
            } else {
                foreign += usize::from(is_foreign && !is_known);
            }
        }
        if let Some(own) = &self.own {
            let former = self.former.replace(own.as_str().to_owned());
            queues.drop_of_another_host(former.is_some_and(|former| former != own.as_str()), foreign);
        }
        queues.restore(restored);
    }

    /// Whose reports are: this host's, or as long as that is not known, those of the host that this machine was.
    fn reporter(&self) -> &str {
        self.own.as_ref().map(HostId::as_str).or(self.former.as_deref()).unwrap_or_default()
    }

    fn is_ours(&self, stored: &Stored) -> bool {
        stored.host.is_some() || stored.reporter.is_empty() || stored.reporter == self.reporter()
    }

    /// Writes into a report whose it is, from the moment that this is known.
    fn own(&self, key: &str, stored: &Stored) {
        if self.own.is_some() && stored.host.is_none() && stored.reporter.is_empty() {
            let stored = Stored { reporter: self.reporter().to_owned(), ..stored.clone() };
            self.spool.put(KIND, key, &serde_json::to_vec(&stored).unwrap_or_default());
        }
    }

    /// Makes the reports in the spool those that are queued. It does not wait for the disk.
    pub(super) fn follow(&mut self, queued: &[Arc<Report>]) {
        let queued = queued.iter().map(|report| (identity(report), report)).collect::<Vec<_>>();
        let identities = queued.iter().map(|(identity, _)| identity).collect::<BTreeSet<_>>();
        let spool = &self.spool;
        self.keys.retain(|identity, key| {
            let is_queued = identities.contains(identity);
            if !is_queued {
                spool.remove(KIND, key);
            }
            is_queued
        });
        for (identity, report) in queued {
            if self.keys.contains_key(&identity) {
                continue;
            }
            let stored = Stored {
                name: report.name.to_string(),
                host: report.host.as_ref().map(ToString::to_string),
                reporter: self.reporter().to_owned(),
                status: report.status.word().to_owned(),
                message: report.message.clone(),
                occurred_at: report.occurred_at,
                notification_interval_minutes: report.notification_interval_minutes,
                max_check_attempts: report.max_check_attempts,
            };
            let key = format!("{:0>20}\t{identity}", self.next);
            self.next += 1;
            self.spool.put(KIND, &key, &serde_json::to_vec(&stored).unwrap_or_default());
            self.keys.insert(identity, key);
        }
    }
}

/// `None` if it has an unknown status.
fn report(stored: Stored) -> Option<Report> {
    let status = [Status::Ok, Status::Warning, Status::Critical, Status::Unknown];
    Some(Report {
        status: status.into_iter().find(|status| status.word() == stored.status)?,
        name: stored.name.into(),
        host: stored.host.map(Into::into),
        message: stored.message,
        occurred_at: stored.occurred_at,
        taken: None,
        notification_interval_minutes: stored.notification_interval_minutes,
        max_check_attempts: stored.max_check_attempts,
        is_urgent: true,
        lost: Lost::default(),
    })
}

fn identity(report: &Report) -> String {
    let Report { occurred_at, host, name, status, .. } = report;
    format!("{occurred_at}\t{}\t{}\t{name}", status.word(), host.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::board::{Kind, Lanes};
    use super::super::simulation::report;
    use super::super::testing::{PACE, log};
    use super::*;

    fn open(folder: &TempDir) -> Arc<Spool> {
        Arc::new(Spool::open(folder.path(), 0).unwrap())
    }

    /// What is restored for a host whose agent was never another one.
    async fn restored(spool: Arc<Spool>, own: Option<&str>) -> Vec<(String, Status, i64)> {
        let (mut queues, mut former) = (Queues::default(), None);
        Saved::new(spool, own.map(|own| HostId::new(own).unwrap()), &mut former).restore(&mut queues).await;
        let reports = queues.reports().into_iter();
        reports.map(|report| (report.name.to_string(), report.status, report.occurred_at)).collect()
    }

    fn own(id: &str) -> Option<HostId> {
        Some(HostId::new(id).unwrap())
    }

    #[tokio::test]
    async fn saved_reports_keep_their_order_when_the_clock_is_set_back_and_within_a_second() {
        let folder = TempDir::new().unwrap();
        let (mut former, mut queues) = (None, Queues::default());
        let mut saved = Saved::new(open(&folder), own("OWN"), &mut former);
        let mut all = [report("db", Status::Critical, 7_200), report("db", Status::Ok, 3_600)].map(Arc::new).to_vec();
        saved.follow(&all);
        drop(saved);
        // A later run adds its own, behind them.
        let mut saved = Saved::new(open(&folder), own("OWN"), &mut former);
        saved.restore(&mut queues).await;
        assert_eq!(queues.reports().len(), 2);
        all.extend([report("db", Status::Unknown, 3_600), report("a", Status::Ok, 0)].map(Arc::new));
        saved.follow(&all);
        drop(saved);
        let expected = all.iter().map(|report| (report.name.to_string(), report.status, report.occurred_at));
        assert_eq!(restored(open(&folder), Some("OWN")).await, expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_reported_before_the_host_is_registered_is_that_hosts_and_nothing_else_is() {
        let folder = TempDir::new().unwrap();
        let (early, earlier) =
            ([report("early", Status::Ok, 2).into()], [report("of another id", Status::Ok, 1).into()]);
        Saved::new(open(&folder), own("FORMER"), &mut None).follow(&earlier);
        assert!(restored(open(&folder), None).await.is_empty(), "whose host may come back");
        let (mut former, mut queues) = (None, Queues::default());
        let mut saved = Saved::new(open(&folder), None, &mut former);
        saved.restore(&mut queues).await;
        saved.follow(&early);
        drop(saved);
        let early = ("early".to_owned(), Status::Ok, 2);
        assert_eq!(restored(open(&folder), None).await, std::slice::from_ref(&early));
        assert_eq!(restored(open(&folder), Some("OWN")).await, std::slice::from_ref(&early));
        // It is known since then whose it is.
        let former = ("of another id".to_owned(), Status::Ok, 1);
        assert_eq!(restored(open(&folder), Some("FORMER")).await, [former]);
    }

    #[tokio::test]
    async fn what_was_found_about_another_host_is_dropped_and_counted_once_whether_in_memory_or_saved() {
        let folder = TempDir::new().unwrap();
        let [both, saved_only, memory_only] = ["both", "saved", "memory"].map(|name| report(name, Status::Ok, 1));
        let saved = [both.clone(), saved_only, Report { host: Some("db".into()), ..report("db", Status::Ok, 1) }];
        let (mut former, mut queues) = (Some("FORMER".to_owned()), Queues::default());
        // The host is not confirmed yet, but it was one before.
        Saved::new(open(&folder), None, &mut former).follow(&saved.map(Arc::new));
        let lost = [both.lost.clone(), memory_only.lost.clone()];
        [both, memory_only].into_iter().for_each(|report| queues.push(report));
        let mut saved = Saved::new(open(&folder), own("NEXT"), &mut former);
        saved.restore(&mut queues).await;
        let left = queues.reports();
        assert_eq!(left.iter().map(|report| &*report.name).collect::<Vec<_>>(), ["db"]);
        assert!(lost.iter().all(Lost::is_set));
        saved.follow(&left);
        drop(saved);
        assert_eq!(restored(open(&folder), Some("FORMER")).await.len(), 1, "they are still saved");
        let lanes = Lanes::default();
        let mut lane = lanes.lane(Kind::CheckReports, None, PACE);
        let own = queues.iter().find_map(|(host, queue)| host.is_none().then_some(queue)).unwrap();
        let _log = log::start();
        own.account(&mut lane, tokio::time::Instant::now());
        let dropped =
            lanes.facts((PACE.instant)()).into_iter().find_map(|facts| facts.dropped.get("of another host").copied());
        assert_eq!(dropped, Some(3));
        let line = "dropped check reports: 3 that belong to the host that this machine was on Mackerel before; each check's next \
                    result is reported again";
        assert_eq!(log::take(), [line]);
        assert_eq!(former.as_deref(), Some("NEXT"));
    }
}
