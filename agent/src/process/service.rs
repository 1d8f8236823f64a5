//! systemd: notifies it that the agent is ready, alive and about to stop, and what it does. Without systemd, nothing is sent.
//!
//! It is ready when it collects. It is alive while it makes progress, not merely while it runs: a minute was collected lately, and the
//! delivery delivers or waits for its next try. An outage of Mackerel restarts nothing.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use wasaba_core::text::printable;

/// How often what the agent does is shown, where no watchdog asks more often.
const SHOWN_EVERY: Duration = Duration::from_secs(30);

/// How the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// For a person, in a line.
    pub text: String,
    /// Why it makes no progress, if it does not.
    pub stuck: Option<String>,
}

/// Notifies systemd until `stop` becomes `true`, from when `begun` says that collecting has begun.
pub async fn supervise(begun: oneshot::Receiver<()>, mut stop: watch::Receiver<bool>, progress: impl Fn() -> Progress) {
    let Some(systemd) = Systemd::of_environment() else { return };
    let notifying = async {
        // Otherwise it could not begin, and ends.
        if begun.await.is_ok() {
            be_ready(&systemd).await;
            keep_notifying(&systemd, progress).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = notifying => {}
        // Also if its sender is gone.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Notifies systemd that the agent is ready, again and again as long as its socket is full: it waits for this one.
async fn be_ready(systemd: &Systemd) {
    while systemd.send("READY=1").is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn keep_notifying(systemd: &Systemd, progress: impl Fn() -> Progress) {
    let mut ticks = tokio::time::interval(systemd.watchdog.unwrap_or(SHOWN_EVERY).min(SHOWN_EVERY));
    let (mut shown, mut is_stuck) = (String::new(), false);
    loop {
        ticks.tick().await;
        let Progress { text, stuck } = progress();
        let text = printable(&text, 500);
        if text != shown {
            systemd.send(&format!("STATUS={text}")).ok();
            shown = text;
        }
        match stuck {
            None if systemd.watchdog.is_some() => _ = systemd.send("WATCHDOG=1"),
            Some(why) if systemd.watchdog.is_some() && !is_stuck => {
                tracing::error!("{why}; systemd is no longer notified, so that its watchdog restarts the agent");
                is_stuck = true;
            }
            _ => {}
        }
    }
}

/// The way to systemd.
struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it must be notified, half of its timeout, as sd_watchdog_enabled(3) recommends.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// From the variables of sd_notify(3) and sd_watchdog_enabled(3); none if systemd did not start this process.
    fn of_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let path = variable("NOTIFY_SOCKET")?;
        let made = Self::at(&path, watchdog(variable, std::process::id()));
        made.inspect_err(|error| tracing::debug!("cannot notify systemd: {error}")).ok()
    }

    fn at(path: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Whoever does not read must not stop the agent.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, watchdog })
    }

    fn send(&self, state: &str) -> io::Result<usize> {
        let sent = self.socket.send_to_addr(state.as_bytes(), &self.address);
        sent.inspect_err(|error| tracing::debug!("cannot notify systemd: {error}"))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.send("STOPPING=1").ok();
    }
}

/// How often this process must notify the watchdog, if there is one for it.
fn watchdog(variable: impl Fn(&'static str) -> Option<String>, process: u32) -> Option<Duration> {
    let is_other = |pid: String| pid.parse() != Ok(process);
    if variable("WATCHDOG_PID").is_some_and(is_other) {
        return None;
    }
    let micros = variable("WATCHDOG_USEC")?.parse::<u64>().ok().filter(|micros| *micros > 1)?;
    Some(Duration::from_micros(micros / 2).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_watchdog_applies_to_the_process_that_systemd_started_and_to_no_other() {
        let of = |usec: Option<&'static str>, pid: Option<&'static str>| {
            let variable = |name| if name == "WATCHDOG_USEC" { usec } else { pid };
            watchdog(|name| variable(name).map(str::to_owned), 7)
        };
        let half = Some(Duration::from_secs(30));
        assert_eq!((of(Some("60000000"), Some("7")), of(Some("60000000"), None)), (half, half));
        assert_eq!(of(Some("60000000"), Some("8")), None);
        assert_eq!((of(None, Some("7")), of(Some("0"), None), of(Some("soon"), None)), (None, None, None));
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut all = Vec::new();
        let mut bytes = [0; 1_024];
        while let Ok(length) = socket.recv(&mut bytes) {
            all.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_makes_no_progress_is_not_alive_although_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let systemd = Systemd::at(path.to_str().unwrap(), Some(Duration::from_secs(10))).unwrap();
        let progress = RefCell::new(Progress { text: "well".into(), stuck: None });
        let run = |seconds| {
            tokio::time::timeout(Duration::from_secs(seconds), keep_notifying(&systemd, || progress.borrow().clone()))
        };
        assert!(run(25).await.is_err());
        assert_eq!(received(&socket), ["STATUS=well", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
        *progress.borrow_mut() = Progress { text: "stuck".into(), stuck: Some("it hangs".into()) };
        assert!(run(25).await.is_err());
        assert_eq!(received(&socket), ["STATUS=stuck"]);
        drop(systemd);
        assert_eq!(received(&socket), ["STOPPING=1"]);
    }

    #[test]
    fn a_receiver_that_does_not_read_does_not_stop_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _full = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::at(path.to_str().unwrap(), None).unwrap();
        // More than the kernel queues.
        assert!((0..10_000).any(|_| systemd.send("WATCHDOG=1").is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_agent_becomes_ready_although_the_socket_of_systemd_was_full_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let systemd = Systemd::at(path.to_str().unwrap(), None).unwrap();
        while systemd.send("STATUS=full").is_ok() {}
        assert!(tokio::time::timeout(Duration::from_secs(10), be_ready(&systemd)).await.is_err(), "it is full");
        assert!(!received(&socket).contains(&"READY=1".to_owned()));
        be_ready(&systemd).await;
        assert_eq!(received(&socket), ["READY=1"]);
    }
}
