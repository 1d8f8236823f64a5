//! The routines: every check and every metadata plugin, each in a task of its own, as the newest configuration wants them.

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
use crate::{checks, metadata};

/// Where what is found goes.
#[derive(Clone)]
pub struct Outbox {
    /// What checks report.
    pub reports: mpsc::Sender<Report>,
    /// What metadata plugins tell.
    pub documents: mpsc::Sender<Document>,
}

/// Keeps the checks and metadata plugins of the newest configuration running until it is dropped; what has not changed is not
/// disturbed. `spool` knows which host this is.
pub async fn keep(
    mut configs: watch::Receiver<Arc<Config>>,
    components: Components,
    spool: Arc<Spool>,
    outbox: Outbox,
) {
    let (mut checks, mut metadata) = (Tasks::default(), Tasks::default());
    let cache = Cache { root: configs.borrow().root.clone(), spool };
    loop {
        let config = configs.borrow_and_update().clone();
        checks.follow(
            &config.checks,
            |check: &Check| &check.name,
            |check| tokio::spawn(checks::keep(Arc::new(check), components.clone(), outbox.reports.clone())),
        );
        metadata.follow(
            &config.metadata,
            |metadata: &Metadata| &metadata.name,
            |metadata| {
                let (components, cache) = (components.clone(), cache.clone());
                tokio::spawn(metadata::keep(Arc::new(metadata), components, cache, outbox.documents.clone()))
            },
        );
        if configs.changed().await.is_err() {
            // What runs goes on.
            std::future::pending::<()>().await;
        }
    }
}

/// Tasks by name, each with what it was made of.
struct Tasks<T>(HashMap<Arc<str>, (T, JoinHandle<()>)>);

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: PartialEq + Clone> Tasks<T> {
    fn follow(&mut self, wanted: &[T], name: impl Fn(&T) -> &Arc<str>, start: impl Fn(T) -> JoinHandle<()>) {
        self.0.retain(|_, (made_of, task)| {
            let stays = wanted.contains(made_of) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for new in wanted {
            self.0.entry(Arc::clone(name(new))).or_insert_with(|| (new.clone(), start(new.clone())));
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
    async fn what_has_not_changed_goes_on_and_the_rest_is_started_or_ended() {
        let started = Mutex::new(Vec::new());
        let mut tasks = Tasks::default();
        let mut follow = |wanted: &[(Arc<str>, u8)]| {
            tasks.follow(
                wanted,
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
