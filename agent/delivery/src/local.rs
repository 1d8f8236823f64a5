//! Local mode: the newest values on the terminal, as a table that refreshes, or as lines if standard output is not a terminal.
//!
//! It delivers nothing: values stay queued in the spool. It waits for no reader: what a stuck one does not take is dropped from the
//! output, and the log says so.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use wasaba_core::clock;
use wasaba_core::collect::health::Health;
use wasaba_core::collect::sources::Collected;
use wasaba_core::outlet::{Descriptor, Outlet};
use wasaba_core::text::{counted, printable};

/// The newest value of every metric, and the health of each source.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Clone, Default)]
struct State {
    rows: BTreeMap<String, Row>,
    health: Vec<(Arc<str>, Health)>,
    /// New values as lines, for output that is not a terminal.
    lines: Vec<String>,
}

#[derive(Clone)]
struct Row {
    value: f64,
    unix_seconds: i64,
    source: Arc<str>,
}

impl Board {
    /// Adds new values.
    pub fn take(&self, unix_seconds: i64, collected: &Collected) {
        let mut state = self.lock();
        for (source, samples) in &collected.samples {
            for sample in samples {
                let host = sample.host().map(|host| format!(" @{}", printable(host, 80))).unwrap_or_default();
                let (name, value) = (format!("{}{host}", sample.name()), sample.value());
                state.lines.push(format!("{name}\t{}\t{unix_seconds}\t{source}", shown(value)));
                state.rows.insert(name, Row { value, unix_seconds, source: Arc::clone(source) });
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Replaces the health of the sources.
    pub fn judge<'a>(&self, health: impl Iterator<Item = (&'a Arc<str>, &'a Health)>) {
        let health = health.map(|(name, health)| (Arc::clone(name), health.clone())).collect();
        self.lock().health = health;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the end waits for the last text.
const LAST_TEXT: Duration = Duration::from_millis(500);

/// Shows the board until `stop` is true: as a table with the `tail` of the log below it, or as lines.
///
/// # Errors
/// The system refuses the thread that writes.
pub async fn run(board: Arc<Board>, tail: Option<Tail>, stop: watch::Receiver<bool>) -> io::Result<()> {
    let after_loss = |lines| {
        tracing::warn!("dropped {}: standard output was not read; they stay queued", counted(lines, "printed value"));
        Vec::new()
    };
    let output = Outlet::start(Descriptor::new(io::stdout()), after_loss)?;
    show(&board, tail, stop, &output).await;
    output.finish(LAST_TEXT);
    Ok(())
}

async fn show(board: &Board, tail: Option<Tail>, mut stop: watch::Receiver<bool>, output: &Outlet) {
    let screen = tail.map(|tail| Screen::open(tail, output));
    loop {
        let lines = std::mem::take(&mut board.lock().lines);
        match &screen {
            // A picture that the terminal does not take yet is replaced by the next one.
            Some(screen) if output.is_empty() => screen.draw(&board.lock().clone()),
            Some(_) => {}
            None => lines.iter().for_each(|line| output.push(format!("{line}\n").as_bytes())),
        }
        // The ages in the table change every second; lines only come with values.
        let pause = if screen.is_some() { Duration::from_secs(1) } else { Duration::MAX };
        tokio::select! {
            () = board.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// The last lines of a log.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// How many lines are kept.
    pub const LINES: usize = 5;

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Adds a line and drops the oldest.
    pub fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(line.lines().map(str::to_owned));
        while lines.len() > Self::LINES {
            lines.pop_front();
        }
    }
}

/// The terminal, restored when dropped.
struct Screen<'a> {
    tail: Tail,
    output: &'a Outlet,
}

impl<'a> Screen<'a> {
    fn open(tail: Tail, output: &'a Outlet) -> Self {
        output.push(b"\x1b[?1049h\x1b[?25l"); // the alternate screen, without a cursor
        Self { tail, output }
    }

    fn draw(&self, state: &State) {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let (columns, rows) = size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let mut text = String::from("\x1b[H");
        for line in picture(state, &self.tail.lines(), clock::unix_seconds(), columns.max(20), rows.max(8)) {
            write!(text, "{line}\x1b[K\r\n").ok();
        }
        text.truncate(text.trim_end_matches("\r\n").len());
        text.push_str("\x1b[J");
        self.output.push(text.as_bytes());
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let log = self.tail.lines().iter().map(|line| format!("{line}\n")).collect::<String>();
        self.output.push(format!("\x1b[?25h\x1b[?1049l{log}").as_bytes());
    }
}

/// The table as lines that fit `columns` and `rows`. Plugins' values come first, since users know the host's already.
fn picture(state: &State, log: &[String], now: i64, columns: usize, rows: usize) -> Vec<String> {
    let fit = |line: String| line.chars().take(columns).collect::<String>();
    let mut head = vec![format!(
        "wasaba {}, local mode: no API key; values are kept for 24 h. Ctrl-C stops.",
        env!("CARGO_PKG_VERSION")
    )];
    head.push(String::new());
    let name_width = columns.saturating_sub(38).clamp(10, 48);
    head.push(format!("{:<name_width$} {:>14} {:>6}  {}", "METRIC", "VALUE", "AGE", "SOURCE"));
    let mut foot = vec![String::new()];
    foot.extend(health_lines(&state.health));
    foot.extend(log.iter().cloned());
    let room = rows.saturating_sub(head.len() + foot.len()).max(1);
    let mut values = state.rows.iter().collect::<Vec<_>>();
    values.sort_by_key(|(name, row)| (!row.source.starts_with("plugin "), (*name).clone()));
    let shown_rows = if values.len() > room { room - 1 } else { values.len() };
    let hidden = values.len() - shown_rows;
    let table = values.into_iter().take(shown_rows).map(|(name, row)| {
        let age = format!("{} s", now.saturating_sub(row.unix_seconds).max(0));
        format!("{name:<name_width$} {:>14} {age:>6}  {}", shown(row.value), row.source)
    });
    let mut lines = head;
    lines.extend(table);
    lines.extend(
        (hidden > 0).then(|| format!("... and {hidden} more: enlarge the window, or pipe the output to a file")),
    );
    lines.extend(foot);
    lines.into_iter().take(rows).map(fit).collect()
}

/// One line for all healthy sources, and one for each failing source with its reason.
fn health_lines(health: &[(Arc<str>, Health)]) -> Vec<String> {
    let healthy = health.iter().filter(|(_, health)| health.failure.is_none()).map(|(name, _)| &**name);
    let mut lines = vec![format!("ok: {}", healthy.collect::<Vec<_>>().join(", "))];
    for (name, health) in health {
        if let Some(failure) = &health.failure {
            lines.push(format!("FAILING ({}x): {name}: {failure}", health.failures));
        }
    }
    lines
}

/// A value for people: whole numbers without decimals, others with three.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use wasaba_core::sample::Sample;

    use super::*;

    fn board() -> State {
        let board = Board::default();
        let sample = |name: &str, value| Sample::new(name, value).unwrap();
        let samples = vec![
            ("loadavg".into(), vec![sample("loadavg1", 0.25)]),
            ("plugin nginx".into(), vec![sample("custom.nginx.queue.waiting", 3.0)]),
        ];
        board.take(1_000, &Collected { samples, ..Collected::default() });
        let failing = Health { failure: Some("unreachable: Connection refused".into()), failures: 2 };
        let health = [("loadavg".into(), Health::default()), ("plugin web".into(), failing)];
        board.judge(health.iter().map(|(name, health)| (name, health)));
        board.lock().clone()
    }

    #[test]
    fn the_table_shows_values_ages_sources_and_health() {
        let picture = picture(&board(), &["2026/11/24 10:00:00 INFO hello".into()], 1_007, 80, 24).join("\n");
        let expected = format!(
            "wasaba {}, local mode: no API key; values are kept for 24 h. Ctrl-C stops.\n\n\
             METRIC                                              VALUE    AGE  SOURCE\n\
             custom.nginx.queue.waiting                              3    7 s  plugin nginx\n\
             loadavg1                                            0.250    7 s  loadavg\n\n\
             ok: loadavg\n\
             FAILING (2x): plugin web: unreachable: Connection refused\n\
             2026/11/24 10:00:00 INFO hello",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(picture, expected);
    }

    #[test]
    fn a_small_window_is_never_overfilled_and_counts_hidden_values() {
        let mut state = board();
        let row = state.rows.get("loadavg1").unwrap().clone();
        state.rows.extend((0..100).map(|number| (format!("a{number}"), row.clone())));
        let lines = picture(&state, &[], 1_007, 40, 12);
        assert_eq!(lines.len(), 12);
        assert!(lines.iter().all(|line| line.chars().count() <= 40));
        assert!(lines.iter().any(|line| line.starts_with("... and 97 more")), "{lines:#?}");
    }

    #[test]
    fn a_value_is_shown_without_false_precision() {
        assert_eq!((shown(3.0), shown(0.12345), shown(1e20)), ("3".into(), "0.123".into(), format!("{:.3}", 1e20)));
    }
}
