//! systemd: it is told that the agent is ready, still alive, and about to end. Where there is no systemd, nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// As long as it is there, systemd hears that the agent is alive. It is told from the agent's own thread: one that hangs falls silent.
pub struct Supervised(Option<JoinHandle<()>>);

impl Supervised {
    /// Says that the agent is ready; on the agent's runtime.
    #[must_use]
    pub fn tell_ready() -> Self {
        tell(NotifyState::Ready);
        let mut micros = 0;
        // The half of what it waits for, as its manual says.
        let watched = sd_notify::watchdog_enabled(false, &mut micros) && micros > 0;
        Self(watched.then(|| tokio::spawn(keep_telling(Duration::from_micros(micros / 2)))))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(telling) = &self.0 {
            telling.abort();
        }
        tell(NotifyState::Stopping);
    }
}

async fn keep_telling(every: Duration) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::debug!("systemd was not told: {error}");
    }
}
