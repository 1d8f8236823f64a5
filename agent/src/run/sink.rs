//! Where the loop's values go: into the queue, and onto the terminal. Also the moment after which memory is given back.

use std::sync::Arc;

use delivery::local::Board;
use delivery::spool::{Minute, Spool};
use tokio::sync::{Notify, oneshot};
use wasaba_core::clock;
use wasaba_core::collect::rounds::Sink;
use wasaba_core::collect::sources::{ByInstant, Sources};

use crate::process::footprint;
use crate::process::state::Pulse;

/// Keeps what was collected, and wakes the output.
pub(super) struct Kept {
    pub(super) spool: Arc<Spool>,
    pub(super) board: Option<Arc<Board>>,
    pub(super) wake: Arc<Notify>,
    pub(super) pulse: Pulse,
    /// Takes word of the first collection.
    pub(super) begun: Option<oneshot::Sender<()>>,
    /// How many minutes were collected.
    pub(super) minutes: u64,
    /// The newest of them, in seconds since 1970.
    pub(super) newest: i64,
}

impl Sink for Kept {
    async fn keep(&mut self, collected: ByInstant, sources: &Sources) {
        let newest = collected.keys().next_back().copied();
        for (time, collected) in collected {
            if let Some(board) = &self.board {
                board.take(time, &collected);
            }
            if collected.is_empty() {
                continue;
            }
            let spool = Arc::clone(&self.spool);
            let samples = collected.samples.into_iter().flat_map(|(_, samples)| samples).collect::<Vec<_>>();
            let (count, readings) = (samples.len(), collected.readings);
            let (minute, values) = (Minute { time, samples }, collected.kept);
            let kept = tokio::task::spawn_blocking(move || {
                let now = clock::unix_seconds();
                values.into_iter().for_each(|(source, values)| spool.keep_values(&source, values));
                spool.keep(minute, &readings, now)
            });
            // The spool logs its own failures.
            if kept.await.is_ok_and(|on_disk| on_disk) {
                tracing::debug!("kept {count} values of {time}");
            }
            self.wake.notify_one();
            self.pulse.beat(clock::instant());
        }
        if let Some(begun) = self.begun.take() {
            // Where systemd is not there, no one waits.
            begun.send(()).ok();
        }
        if let Some(board) = &self.board {
            board.judge(sources.health());
        }
        if let Some(newest) = newest.filter(|newest| newest.div_euclid(60) > self.newest.div_euclid(60)) {
            self.newest = newest;
            self.minutes = self.minutes.wrapping_add(1);
            // After the second minute, everything that a minute needs has run once; the host's description is made every hour.
            if self.minutes % 60 == 2 {
                footprint::release();
            }
        }
    }
}
