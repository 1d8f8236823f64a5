//! systemd: notifies it that the agent is ready, alive and about to stop. Without systemd, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// While it exists, systemd's watchdog is notified that the agent is alive, from the agent's own thread: if that hangs, the
/// notifications stop.
pub struct Supervised(Option<JoinHandle<()>>);

impl Supervised {
    /// Notifies systemd that the agent is ready. Must be called on the agent's runtime.
    #[must_use]
    pub fn notify_ready() -> Self {
        notify(NotifyState::Ready);
        let mut micros = 0;
        // Half of the watchdog's timeout, as sd_watchdog_enabled(3) recommends.
        let has_watchdog = sd_notify::watchdog_enabled(false, &mut micros) && micros > 0;
        Self(has_watchdog.then(|| tokio::spawn(keep_notifying(Duration::from_micros(micros / 2)))))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(notifying) = &self.0 {
            notifying.abort();
        }
        notify(NotifyState::Stopping);
    }
}

async fn keep_notifying(interval: Duration) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}
