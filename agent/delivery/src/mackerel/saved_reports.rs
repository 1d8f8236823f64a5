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
    own: HostId,
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
    /// The host that reports it.
    reporter: String,
    status: String,
    message: String,
    occurred_at: i64,
    notification_interval_minutes: Option<u64>,
    max_check_attempts: Option<u32>,
}

impl Saved {
    pub(super) fn new(spool: Arc<Spool>, own: HostId) -> Self {
        Self { spool, own, keys: BTreeMap::new(), next: 0 }
    }

    /// The reports of an earlier run, the first one first, except those in `queued`. What was found about this host when it had another id
    /// is dropped.
    pub(super) async fn restore(&mut self, queued: impl Iterator<Item = &Report>) -> Vec<Report> {
        let known = queued.map(identity).collect::<BTreeSet<_>>();
        let spool = Arc::clone(&self.spool);
        let stored = tokio::task::spawn_blocking(move || spool.all(KIND)).await.unwrap_or_default();
        let mut restored = Vec::new();
        for (key, bytes) in stored {
            let report = serde_json::from_slice(&bytes).ok().and_then(|stored| self.report(stored));
            let (number, identity) = key.split_once('\t').unwrap_or_default();
            self.next = self.next.max(number.parse::<u64>().unwrap_or_default() + 1);
            restored.extend(report.filter(|_| !known.contains(identity)));
            self.keys.insert(identity.to_owned(), key);
        }
        restored
    }

    fn report(&self, stored: Stored) -> Option<Report> {
        let status = [Status::Ok, Status::Warning, Status::Critical, Status::Unknown];
        let status = status.into_iter().find(|status| status.word() == stored.status)?;
        let is_ours = stored.host.is_some() || stored.reporter == self.own.as_str();
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
    pub(super) fn follow<'a>(&mut self, queued: impl Iterator<Item = &'a Report>) {
        let queued = queued.map(|report| (identity(report), report)).collect::<Vec<_>>();
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
                reporter: self.own.as_str().to_owned(),
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
