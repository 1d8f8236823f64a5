//! Check reports that could not be posted yet, in the spool, so that a restart does not lose them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasaba_core::report::{Lost, Report, Status};

use super::id_file::HostId;
use crate::spool::Spool;

/// Their kind in the spool.
const KIND: &str = "reports";

pub(super) struct Saved {
    spool: Arc<Spool>,
    /// This host, once it is registered.
    own: Option<HostId>,
    /// Those that are in the spool: what identifies each, and its key.
    keys: BTreeMap<String, String>,
    /// The number of the next one. They are read in this order, whatever the clock says.
    next: u64,
}

/// A report as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    host: Option<String>,
    /// The host that reports it; empty if it was not registered yet.
    reporter: String,
    status: String,
    message: String,
    occurred_at: i64,
    notification_interval_minutes: Option<u64>,
    max_check_attempts: Option<u32>,
}

impl Saved {
    pub(super) fn new(spool: Arc<Spool>, own: Option<HostId>) -> Self {
        Self { spool, own, keys: BTreeMap::new(), next: 0 }
    }

    /// The reports of an earlier run, the first one first, except those in `queued`. What was found about this host when it had another id
    /// is dropped; as long as it has none, that stays in the spool.
    pub(super) async fn restore(&mut self, queued: &[Arc<Report>]) -> Vec<Report> {
        let known = queued.iter().map(|report| identity(report)).collect::<BTreeSet<_>>();
        let spool = Arc::clone(&self.spool);
        let stored = tokio::task::spawn_blocking(move || spool.all(KIND)).await.unwrap_or_default();
        let mut restored = Vec::new();
        for (key, bytes) in stored {
            let (number, identity) = key.split_once('\t').unwrap_or_default();
            self.next = self.next.max(number.parse::<u64>().unwrap_or_default() + 1);
            let report = serde_json::from_slice(&bytes).ok().and_then(|stored| self.report(stored));
            if report.is_none() && self.own.is_none() {
                continue;
            }
            restored.extend(report.filter(|_| !known.contains(identity)));
            self.keys.insert(identity.to_owned(), key);
        }
        restored
    }

    fn report(&self, stored: Stored) -> Option<Report> {
        let status = [Status::Ok, Status::Warning, Status::Critical, Status::Unknown];
        let status = status.into_iter().find(|status| status.word() == stored.status)?;
        let own = self.own.as_ref().map(HostId::as_str).unwrap_or_default();
        let is_ours = stored.host.is_some() || stored.reporter.is_empty() || stored.reporter == own;
        is_ours.then_some(Report {
            name: stored.name.into(),
            host: stored.host.map(Into::into),
            status,
            message: stored.message,
            occurred_at: stored.occurred_at,
            notification_interval_minutes: stored.notification_interval_minutes,
            max_check_attempts: stored.max_check_attempts,
            is_urgent: true,
            lost: Lost::default(),
        })
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
                reporter: self.own.as_ref().map(HostId::as_str).unwrap_or_default().to_owned(),
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

fn identity(report: &Report) -> String {
    let Report { occurred_at, host, name, status, .. } = report;
    format!("{occurred_at}\t{}\t{}\t{name}", status.word(), host.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::simulation::report;
    use super::*;

    fn open(folder: &TempDir) -> Arc<Spool> {
        Arc::new(Spool::open(folder.path(), 0).unwrap())
    }

    async fn restored(spool: Arc<Spool>, own: Option<&str>) -> Vec<(String, Status, i64)> {
        let mut saved = Saved::new(spool, own.map(|own| HostId::new(own).unwrap()));
        let reports = saved.restore(&[]).await.into_iter();
        reports.map(|report| (report.name.to_string(), report.status, report.occurred_at)).collect()
    }

    #[tokio::test]
    async fn saved_reports_keep_their_order_when_the_clock_is_set_back_and_within_a_second() {
        let folder = TempDir::new().unwrap();
        let mut saved = Saved::new(open(&folder), Some(HostId::new("OWN").unwrap()));
        let mut all = [report("db", Status::Critical, 7_200), report("db", Status::Ok, 3_600)].map(Arc::new).to_vec();
        saved.follow(&all);
        drop(saved);
        // A later run adds its own, behind them.
        let mut saved = Saved::new(open(&folder), Some(HostId::new("OWN").unwrap()));
        assert_eq!(saved.restore(&[]).await.len(), 2);
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
        Saved::new(open(&folder), Some(HostId::new("FORMER").unwrap())).follow(&earlier);
        let mut saved = Saved::new(open(&folder), None);
        assert!(saved.restore(&[]).await.is_empty(), "whose host may come back");
        saved.follow(&early);
        drop(saved);
        let early = ("early".to_owned(), Status::Ok, 2);
        assert_eq!(restored(open(&folder), None).await, std::slice::from_ref(&early));
        assert_eq!(restored(open(&folder), Some("OWN")).await, std::slice::from_ref(&early));
        assert_eq!(restored(open(&folder), Some("FORMER")).await.len(), 2);
    }
}
