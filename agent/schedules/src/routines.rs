//! The routines: every check and every metadata plugin of the newest configuration, each in its own task.

use std::collections::HashMap;
use std::sync::Arc;

use config::Config;
use config::check::{Check, Metadata};
use delivery::spool::Spool;
use plugins::components::Components;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wasaba_core::document::Document;
use wasaba_core::report::Report;

use crate::metadata::Cache;
use crate::statuses::Statuses;
use crate::{checks, metadata};

/// The queues for the results.
#[derive(Clone)]
pub struct Outbox {
    /// The reports of checks.
    pub reports: mpsc::Sender<Report>,
    /// The documents of metadata plugins.
    pub documents: mpsc::Sender<Document>,
}

/// Keeps the checks and metadata plugins of the newest configuration running until it is dropped; unchanged ones are not
/// restarted. `spool` has the host's id; `statuses` shows what the checks find.
pub async fn keep(
    mut configs: watch::Receiver<Arc<Config>>,
    components: Components,
    spool: Arc<Spool>,
    outbox: Outbox,
    statuses: Statuses,
) {
    let (mut checks, mut metadata) = (Tasks::default(), Tasks::default());
    let cache = Cache { root: configs.borrow().root.clone(), spool };
    // Of the newest configuration, which may change while a task runs.
    let newest = configs.clone();
    let is_check: checks::Taken =
        Arc::new(move |name: &str| newest.borrow().checks.iter().any(|check| *check.name == *name));
    let newest = configs.clone();
    let is_metadata: checks::Taken =
        Arc::new(move |name: &str| newest.borrow().metadata.iter().any(|metadata| *metadata.name == *name));
    loop {
        let config = configs.borrow_and_update().clone();
        checks.follow(
            &config.checks,
            |check: &Check| &check.name,
            |check| {
                let (components, reports) = (components.clone(), outbox.reports.clone());
                let (taken, statuses) = (Arc::clone(&is_check), statuses.clone());
                tokio::spawn(checks::keep(Arc::new(check), components, reports, taken, statuses))
            },
        );
        metadata.follow(
            &config.metadata,
            |metadata: &Metadata| &metadata.name,
            |metadata| {
                let (components, cache, documents) = (components.clone(), cache.clone(), outbox.documents.clone());
                let taken = Arc::clone(&is_metadata);
                tokio::spawn(metadata::keep(Arc::new(metadata), components, cache, documents, taken))
            },
        );
        if configs.changed().await.is_err() {
            // There will be no other configuration; the tasks keep running.
            std::future::pending::<()>().await;
        }
    }
}

/// Tasks by name, each with the table that it was made from.
struct Tasks<T>(HashMap<Arc<str>, (T, JoinHandle<()>)>);

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: PartialEq + Clone> Tasks<T> {
    /// Stops the tasks whose tables are not among the `tables`, and starts those that are missing.
    fn follow(&mut self, tables: &[T], name: impl Fn(&T) -> &Arc<str>, start: impl Fn(T) -> JoinHandle<()>) {
        self.0.retain(|_, (table, task)| {
            let stays = tables.contains(table) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for table in tables {
            self.0.entry(Arc::clone(name(table))).or_insert_with(|| (table.clone(), start(table.clone())));
        }
    }
}

impl<T> Drop for Tasks<T> {
    fn drop(&mut self) {
        for (_, task) in self.0.values() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn unchanged_tasks_keep_running_and_the_others_are_started_or_stopped() {
        let started = Mutex::new(Vec::new());
        let mut tasks = Tasks::default();
        let mut follow = |tables: &[(Arc<str>, u8)]| {
            tasks.follow(
                tables,
                |(name, _)| name,
                |(name, version)| {
                    started.lock().unwrap().push(format!("{name}{version}"));
                    tokio::spawn(std::future::pending())
                },
            );
            std::mem::take(&mut *started.lock().unwrap())
        };
        assert_eq!(follow(&[("a".into(), 1), ("b".into(), 1)]), ["a1", "b1"]);
        assert_eq!(follow(&[("a".into(), 1), ("b".into(), 2), ("c".into(), 1)]), ["b2", "c1"]);
        assert!(follow(&[("c".into(), 1)]).is_empty());
        assert_eq!(follow(&[("a".into(), 1)]), ["a1"]);
    }
}
