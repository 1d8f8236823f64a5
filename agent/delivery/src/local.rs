//! Local mode where standard output is not a terminal: every new value as a line.
//!
//! It delivers nothing: values stay queued in the spool. It waits for no reader: what a stuck one does not take is dropped from the
//! output, and the log says so.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use wasaba_core::collect::sources::Collected;
use wasaba_core::outlet::{Descriptor, Outlet};
use wasaba_core::text::{counted, printable};

/// The values that are not printed yet, as lines.
#[derive(Default)]
pub struct Board {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

impl Board {
    /// Adds new values.
    pub fn take(&self, unix_seconds: i64, collected: &Collected) {
        let mut lines = self.lock();
        for (source, samples) in &collected.samples {
            for sample in samples {
                let host = sample.host().map(|host| format!(" @{}", printable(host, 80))).unwrap_or_default();
                lines.push(format!("{}{host}\t{}\t{unix_seconds}\t{source}", sample.name(), shown(sample.value())));
            }
        }
        drop(lines);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the end waits for the last text.
const LAST_TEXT: Duration = Duration::from_millis(500);

/// Prints the values until `stop` is true.
///
/// # Errors
/// The system refuses the thread that writes.
pub async fn run(board: Arc<Board>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let after_loss = |lines| {
        tracing::warn!("dropped {}: standard output was not read; they stay queued", counted(lines, "printed value"));
        Vec::new()
    };
    let output = Outlet::start(Descriptor::new(io::stdout()), after_loss)?;
    loop {
        let lines = std::mem::take(&mut *board.lock());
        lines.iter().for_each(|line| output.push(format!("{line}\n").as_bytes()));
        tokio::select! {
            () = board.changed.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    output.finish(LAST_TEXT);
    Ok(())
}

/// A value for people: whole numbers without decimals, others with three.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use wasaba_core::sample::Sample;

    use super::*;

    #[test]
    fn each_value_is_a_line_with_its_name_its_time_and_its_source() {
        let board = Board::default();
        let sample = |name: &str, value| Sample::new(name, value).unwrap();
        let samples = vec![
            ("loadavg".into(), vec![sample("loadavg1", 0.25)]),
            ("plugin nginx".into(), vec![sample("custom.nginx.queue.waiting", 3.0)]),
        ];
        board.take(1_000, &Collected { samples, ..Collected::default() });
        let expected = ["loadavg1\t0.250\t1000\tloadavg", "custom.nginx.queue.waiting\t3\t1000\tplugin nginx"];
        assert_eq!(*board.lock(), expected);
    }

    #[test]
    fn a_value_is_shown_without_false_precision() {
        assert_eq!((shown(3.0), shown(0.12345), shown(1e20)), ("3".into(), "0.123".into(), format!("{:.3}", 1e20)));
    }
}
