//! A source: something that is asked when a minute begins, and returns values.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::readers::Readers;
use super::{Answer, Collector, Fault, Moment};

/// How long a host collector may take. Reading /proc takes well under a millisecond; what takes longer hangs.
const HOST_DEADLINE: Duration = Duration::from_secs(10);

pub(super) type Pending = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// The id of a source: returned when it is added, and the only thing that removes it. It is unique, unlike names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

impl SourceId {
    /// An id that no other source has; later ones are greater.
    #[must_use]
    pub(super) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Something that is asked when a minute begins.
pub struct Source {
    /// Its name in the log and in the table: `cpu`, `plugin web`.
    pub name: Arc<str>,
    /// It is due in each minute since 1970 that is a multiple of this; 1 means every minute.
    pub every_minutes: u32,
    /// Whether it is a component, which might want to fill the log.
    pub is_component: bool,
    pub(super) deadline: Duration,
    pub(super) ask: Box<dyn Fn(Moment) -> Pending + Send>,
}

impl Source {
    /// A source from a function whose future runs on this runtime and never blocks; due every minute.
    pub fn new(name: Arc<str>, deadline: Duration, ask: impl Fn(Moment) -> Pending + Send + 'static) -> Self {
        Self { name, every_minutes: 1, is_component: false, deadline, ask: Box::new(ask) }
    }

    /// A source from a collector, which may block while it reads: it does so on one of the `readers`.
    #[must_use]
    pub fn of_collector(name: &str, collector: Box<dyn Collector>, readers: &Readers) -> Self {
        let (collector, readers) = (Arc::new(Mutex::new(collector)), readers.clone());
        let ask = move |moment| -> Pending {
            let (collector, readers) = (Arc::clone(&collector), readers.clone());
            let read = move || {
                // After a panic, a collector's last reading is half updated at worst; the next one replaces it.
                let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
                let samples = collector.collect(moment)?;
                Ok(Answer { samples, warnings: collector.warnings(), ..Answer::default() })
            };
            Box::pin(async move { readers.run(read).await.unwrap_or_else(|_| Err(panicked())) })
        };
        Self::new(name.into(), HOST_DEADLINE, ask)
    }

    pub(super) fn is_due(&self, moment: Moment) -> bool {
        moment.unix_seconds.div_euclid(60).rem_euclid(i64::from(self.every_minutes.max(1))) == 0
    }
}

pub(super) fn panicked() -> Fault {
    Fault::new("it panicked; this is a bug in wasaba")
}
