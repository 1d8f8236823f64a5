//! The books: what the queue holds and what became of every point, as the spool last said; it may be waiting for a disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delivery::spool::{Facts, Place, Spool};
use show::state::{MemoryReport, QueueReport};
use wasaba_core::text::printable;

/// How long an answer waits for the spool. The one before it is sent then.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads the spool for whoever shows it. Clones share what was read.
#[derive(Clone)]
pub struct Books(Arc<Inner>);

struct Inner {
    spool: Arc<Spool>,
    is_reading: AtomicBool,
    last: Mutex<Option<Page>>,
}

/// What was read at once.
#[derive(Clone)]
struct Page {
    queue: QueueReport,
    host_id: Option<String>,
}

impl Books {
    /// The books of this spool.
    #[must_use]
    pub fn of(spool: Arc<Spool>) -> Self {
        let (is_reading, last) = Default::default();
        Self(Arc::new(Inner { spool, is_reading, last }))
    }

    /// What the queue holds. While the spool does not answer, what it said last, if it said anything; it is asked once at a time.
    pub async fn now(&self) -> Option<QueueReport> {
        if !self.0.is_reading.swap(true, Ordering::AcqRel) {
            let books = self.clone();
            let reading = tokio::task::spawn_blocking(move || {
                books.read();
                books.0.is_reading.store(false, Ordering::Release);
            });
            tokio::time::timeout(PATIENCE, reading).await.ok();
        }
        self.last().map(|page| page.queue)
    }

    /// The host's id, as of the last answer.
    #[must_use]
    pub fn host_id(&self) -> Option<String> {
        self.last()?.host_id
    }

    /// Asks the spool, and waits for it.
    pub fn read(&self) -> QueueReport {
        let spool = &self.0.spool;
        let queue = report(spool);
        let page = Page { queue: queue.clone(), host_id: spool.host_id() };
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
        queue
    }

    fn last(&self) -> Option<Page> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The one place that knows what the spool can say.
fn report(spool: &Spool) -> QueueReport {
    let Facts { minutes, oldest, bytes, hours, place, ledger } = spool.facts();
    let losses = ledger.losses().into_iter().filter(|(_, points)| *points > 0);
    QueueReport {
        points: ledger.queued,
        minutes,
        oldest,
        file_bytes: bytes,
        hours_held: hours,
        memory: match place {
            Place::Disk => None,
            Place::Memory { since, why } => Some(MemoryReport { since, why: printable(&why, 1_024) }),
        },
        collected: ledger.collected,
        delivered: ledger.delivered,
        losses: losses.map(|(reason, points)| (reason.to_owned(), points)).collect(),
    }
}
