//! Where the loop's values go: into the queue, and to whoever prints them. Also the moment after which memory is given back.

use std::sync::Arc;

use delivery::local::Board;
use delivery::mackerel::Queued;
use delivery::spool::{Minute, Spool};
use tokio::sync::{Notify, oneshot};
use wasaba_core::clock;
use wasaba_core::collect::rounds::Sink;
use wasaba_core::collect::sources::ByInstant;

use crate::process::confinement;
use crate::process::footprint::Footprint;
use crate::process::state::Pulse;

/// Keeps what was collected, and says so to the output.
pub(super) struct Kept {
    pub(super) spool: Arc<Spool>,
    /// What prints the values, if anything does.
    pub(super) board: Option<Arc<Board>>,
    /// Whether nothing is posted.
    pub(super) is_local: bool,
    pub(super) queued: Queued,
    pub(super) pulse: Pulse,
    /// Takes word of the first collection.
    pub(super) begun: Option<oneshot::Sender<()>>,
    /// How many minutes were collected.
    pub(super) minutes: u64,
    /// The newest of them, in seconds since 1970.
    pub(super) newest: i64,
    pub(super) footprint: Footprint,
    /// Notified when only a restart opens what is needed.
    pub(super) restart: Arc<Notify>,
}

impl Sink for Kept {
    async fn keep(&mut self, collected: ByInstant) {
        let newest = collected.keys().next_back().copied();
        let (mut minutes, mut readings, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (time, collected) in collected {
            if let Some(board) = &self.board {
                board.take(time, &collected);
            }
            if collected.is_empty() {
                continue;
            }
            let samples = collected.samples.into_iter().flat_map(|(_, samples)| samples).collect();
            minutes.push(Minute { time, samples });
            readings.extend(collected.readings);
            values.extend(collected.kept);
        }
        if !minutes.is_empty() {
            // All but the first collection of a source is at a full minute.
            let is_first = minutes.iter().any(|minute| minute.time % 60 != 0);
            let (spool, is_local) = (Arc::clone(&self.spool), self.is_local);
            let counts = minutes.iter().map(|minute| (minute.time, minute.samples.len())).collect::<Vec<_>>();
            let kept = tokio::task::spawn_blocking(move || {
                let now = clock::unix_seconds();
                values.into_iter().for_each(|(source, values)| spool.keep_values(&source, values));
                let is_on_disk = spool.keep(minutes, &readings, now);
                if is_local {
                    // Without Mackerel there is no better clock.
                    spool.expire(now);
                }
                is_on_disk
            });
            // The spool logs its own failures.
            if kept.await.is_ok_and(|on_disk| on_disk) {
                for (time, count) in counts {
                    tracing::debug!("kept {count} values of {time}");
                }
            }
            if is_first {
                self.queued.first_values()
            } else {
                self.queued.minute()
            }
            self.pulse.beat(clock::instant());
        }
        if let Some(begun) = self.begun.take() {
            // Where systemd is not there, no one waits.
            begun.send(()).ok();
        }
        if let Some(newest) = newest.filter(|newest| newest.div_euclid(60) > self.newest.div_euclid(60)) {
            self.newest = newest;
            let restart = Arc::clone(&self.restart);
            tokio::task::spawn_blocking(move || {
                if confinement::is_outdated() {
                    restart.notify_one();
                }
            });
            self.minutes = self.minutes.wrapping_add(1);
            // After the second minute, everything that a minute needs has run once; the host's description is made every hour.
            match self.minutes % 60 {
                2 => self.footprint.release(),
                _ => self.footprint.after_minute(),
            }
        }
    }
}
