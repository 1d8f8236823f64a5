//! The log: lines on standard error in the official agent's format, `2026/11/24 10:00:00+09:00 INFO message`, in local time with its
//! offset, which the official agent does not write.
//!
//! Nothing waits for standard error: whoever reads it may be stuck, and lines that it does not take are dropped and counted.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::document::{Level as DocumentLevel, Problem};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use show::top::Tail;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use wasaba_core::clock;
use wasaba_core::lines::{ABOUT_PLUGINS, Admission, Budget, OF_PLUGINS};
use wasaba_core::outlet::{Descriptor, Outlet};
use wasaba_core::text::{counted, printable, safe_lines};

use super::{ending, time_zone};

/// Where the log's lines go.
#[derive(Clone)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// The last few lines are kept, and shown below a view that fills the terminal; after its end, the others are on standard error.
    Tail(Tail),
}

/// Changes the level of the log that was started.
static SET_LEVEL: OnceLock<Box<dyn Fn(LevelFilter) -> bool + Send + Sync>> = OnceLock::new();

/// Changes the level of the log.
pub fn set_level(level: LevelFilter) {
    if let Some(set) = SET_LEVEL.get()
        && !set(level)
    {
        tracing::debug!("cannot change the log level");
    }
}

/// The time zone of the lines.
static TIME_ZONE: OnceLock<TimeZone> = OnceLock::new();

/// Starts the log. Called once per process. Where a host's `/` is mounted, its time zones are found, too.
///
/// # Errors
/// The system refuses the thread that writes it.
pub fn start(level: LevelFilter, destination: Destination, host: Option<&Path>) -> Result<(), String> {
    let (zone, warning) = time_zone::of_this_process(host);
    // In tests, a log may have been started before.
    TIME_ZONE.set(zone).ok();
    let writer = match destination {
        Destination::Stderr => LineWriter::Outlet(stderr()?),
        Destination::Tail(tail) => LineWriter::Tail(tail),
    };
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).event_format(Lines).log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // In tests, a log may have been started before; the first one stays.
    SET_LEVEL.set(Box::new(move |level| handle.reload(level).is_ok())).ok();
    tracing::subscriber::set_global_default(subscriber).ok();
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    // The standard library would write it to standard error, and wait.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug in wasaba: {panic}")));
    Ok(())
}

/// How many seconds the zone of the log's lines is east of UTC at this time, also before the log has been started.
pub fn east_of_utc(unix_seconds: i64) -> i64 {
    let zone = TIME_ZONE.get().cloned().unwrap_or_else(|| time_zone::of_this_process(None).0);
    Timestamp::from_second(unix_seconds).map_or(0, |time| zone.to_offset(time).seconds().into())
}

/// The way to standard error, once the log has been started.
static STDERR: OnceLock<Outlet> = OnceLock::new();

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

fn stderr() -> Result<Outlet, String> {
    if let Some(outlet) = STDERR.get() {
        return Ok(outlet.clone());
    }
    let after_loss = |lines| {
        let text = format!("dropped {}: standard error was not read", counted(lines, "log line"));
        let line = stamp(clock::wall(), Level::WARN).map(|stamp| format!("{stamp} {text}\n"));
        line.unwrap_or_default().into_bytes()
    };
    let outlet = Outlet::start(Descriptor::new(io::stderr()), after_loss);
    let outlet = outlet.map_err(|error| format!("cannot start the log's thread: {error}"))?;
    Ok(STDERR.get_or_init(|| outlet).clone())
}

/// Prints what a command says on standard error, after the lines of the log, with control characters escaped.
pub fn print(text: &str) {
    let text = safe_lines(text);
    match STDERR.get() {
        Some(outlet) => outlet.push(text.as_bytes()),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// A warning of the log, also before it has been started.
pub fn warn(text: &str) {
    match SET_LEVEL.get() {
        Some(_) => tracing::warn!("{text}"),
        None => print(&format!("{text}\n")),
    }
}

/// Writes the last lines when it is dropped, at the end of the process.
#[must_use]
pub struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(outlet) = STDERR.get() {
            outlet.finish(ending::patience(LAST_LINES));
        }
    }
}

/// Logs the problems of a configuration that can be used.
pub fn problems(problems: &[Problem]) {
    for problem in problems {
        match problem.level() {
            DocumentLevel::Note => tracing::info!("{}", problem.without_level()),
            DocumentLevel::Warning => tracing::warn!("{}", problem.without_level()),
            DocumentLevel::Invalid | DocumentLevel::Error => tracing::error!("{}", problem.without_level()),
        }
    }
    let count = |level| problems.iter().filter(|problem| problem.level() == level).count() as u64;
    let (errors, warnings) = (count(DocumentLevel::Invalid), count(DocumentLevel::Warning));
    let counts = [(errors, "error"), (warnings, "warning")].into_iter().filter(|(count, _)| *count > 0);
    let counts = counts.map(|(count, what)| counted(count, what)).collect::<Vec<_>>().join(" and ");
    if !counts.is_empty() {
        tracing::warn!("{counts} about the configuration; check it with `wasaba configtest`");
    }
}

/// A longer message is cut: whatever its text is made of, a line has an end.
const LONGEST_MESSAGE_BYTES: usize = 8_192;

/// As many lines of libraries are logged each minute: what they warn of may be caused by a plugin or a server, any number of times.
const LIBRARY_LINES: u32 = 10;

/// As many lines that plugins write are logged in ten minutes, and as many about them: however many there are, and whatever they do.
const PLUGIN_LINES: usize = 90;

/// With which words the last line of a budget ends.
const LAST_OF_PLUGINS: &str = " (the last of 90 lines of plugins in ten minutes; further ones are not logged for ten minutes: `wasaba plugin list` \
                               shows how each plugin is doing)";
const LAST_ABOUT_PLUGINS: &str = " (the last of 90 lines about plugins in ten minutes; further ones are not logged for ten minutes: `wasaba plugin \
                                  list` shows how each plugin is doing)";

static BUDGET_OF_PLUGINS: Mutex<Budget> = Mutex::new(Budget::new(PLUGIN_LINES));
static BUDGET_ABOUT_PLUGINS: Mutex<Budget> = Mutex::new(Budget::new(PLUGIN_LINES));

/// Whether lines of plugins have a budget.
static IS_BOUNDED: AtomicBool = AtomicBool::new(false);

/// From now on, lines of plugins and about them have a budget: this is an agent, and not a command that somebody waits for.
pub fn bound() {
    IS_BOUNDED.store(true, Ordering::Relaxed);
}

/// What a line with this target ends with; `None` if it is not logged.
fn ending_of(target: &str) -> Option<&'static str> {
    if !IS_BOUNDED.load(Ordering::Relaxed) {
        return Some("");
    }
    let (budget, last) = match target {
        OF_PLUGINS => (&BUDGET_OF_PLUGINS, LAST_OF_PLUGINS),
        ABOUT_PLUGINS => (&BUDGET_ABOUT_PLUGINS, LAST_ABOUT_PLUGINS),
        _ => return Some(""),
    };
    match budget.lock().unwrap_or_else(PoisonError::into_inner).admit(clock::instant()) {
        Admission::Logged => Some(""),
        Admission::Last => Some(last),
        Admission::Dropped => None,
    }
}

struct Lines;

/// The lines of libraries in the present minute.
#[derive(Default)]
struct Allowance {
    minute: u64,
    lines: u32,
}

impl Allowance {
    /// Whether one more line may be logged at this time, in seconds since 1970.
    fn take(&mut self, unix_seconds: u64) -> bool {
        if self.minute != unix_seconds / 60 {
            *self = Self { minute: unix_seconds / 60, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LIBRARY_LINES
    }
}

static OF_LIBRARIES: Mutex<Allowance> = Mutex::new(Allowance { minute: 0, lines: 0 });

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Of libraries, only warnings and errors are logged: their other levels are about their own internals.
        let metadata = event.metadata();
        let is_ours = metadata.target().starts_with("wasaba");
        if !is_ours && *metadata.level() > Level::WARN {
            return Ok(());
        }
        let now = clock::wall();
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !is_ours && !OF_LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner).take(seconds) {
            return Ok(());
        }
        let Some(ending) = ending_of(metadata.target()) else { return Ok(()) };
        write!(line, "{} ", stamp(now, *metadata.level())?)?;
        if !is_ours {
            write!(line, "library {}: ", metadata.target())?;
        }
        event.record(&mut Message(&mut line));
        writeln!(line, "{ending}")
    }
}

/// How a line begins: `2026/11/24 10:00:00+09:00 INFO`.
fn stamp(time: SystemTime, of: Level) -> Result<String, fmt::Error> {
    let time = Timestamp::try_from(time).map_err(|_| fmt::Error)?;
    let time = time_zone::shown(time, TIME_ZONE.get().unwrap_or(&TimeZone::UTC));
    Ok(format!("{time} {}", level(of)))
}

/// The official agent's names of the levels.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

struct Message<'a, 'b>(&'a mut Writer<'b>);

impl Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A write to a `String` does not fail.
        if field.name() == "message" {
            let text = format!("{value:?}");
            write!(self.0, "{}", safe_lines(cut(&text))).ok();
            if text.len() > LONGEST_MESSAGE_BYTES {
                self.0.write_char('…').ok();
            }
        } else {
            write!(self.0, " {}={}", field.name(), printable(&format!("{value:?}"), 1_024)).ok();
        }
    }
}

/// As much of a message as is logged.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_MESSAGE_BYTES)).unwrap_or_default()
}

/// Takes whole lines.
#[derive(Clone)]
pub enum LineWriter {
    /// To standard error.
    Outlet(Outlet),
    /// The last ones are kept.
    Tail(Tail),
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// So much of the log is kept for those who look: about 150 lines.
const KEPT_BYTES: usize = 16 * 1024;

static KEPT: Mutex<Kept> = Mutex::new(Kept { lines: VecDeque::new(), bytes: 0 });

/// The last lines of the log, oldest first, each with its line break.
#[must_use]
pub fn last_lines() -> Vec<String> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().map(|line| line.to_string()).collect()
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Kept {
    /// Adds a line, and drops the oldest beyond [`KEPT_BYTES`].
    fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.bytes > KEPT_BYTES
            && self.lines.len() > 1
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        match self {
            Self::Outlet(outlet) => outlet.push(line),
            Self::Tail(tail) if tail.push(&String::from_utf8_lossy(line)) => {}
            Self::Tail(_) => stderr().map_err(io::Error::other)?.push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_ten_lines_a_minute_however_often_something_makes_them() {
        let mut allowance = Allowance::default();
        let logged = (0..3_000).filter(|_| allowance.take(60)).count();
        assert_eq!((logged, allowance.take(119), allowance.take(120)), (10, false, true));
    }

    #[test]
    fn plugins_fill_the_log_with_fewer_than_200_lines_and_the_last_ones_say_where_to_look() {
        assert!((0..3_000).all(|_| ending_of(OF_PLUGINS) == Some("")), "a command has no budget");
        bound();
        let endings = |target: &str| (0..3_000).filter_map(|_| ending_of(target)).collect::<Vec<_>>();
        for (target, what) in [(OF_PLUGINS, "lines of plugins"), (ABOUT_PLUGINS, "lines about plugins")] {
            let endings = endings(target);
            let said = |ending: &str| ending.contains(what) && ending.contains("`wasaba plugin list`");
            assert_eq!(endings.len(), PLUGIN_LINES);
            assert!(
                said(endings[PLUGIN_LINES - 1]) && endings[..PLUGIN_LINES - 1].iter().all(|ending| ending.is_empty())
            );
        }
        assert_eq!(endings("wasaba::run").len(), 3_000, "the agent's own lines have no budget");
    }

    #[test]
    fn a_message_is_cut_between_two_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"あ".repeat(10_000)).to_owned();
        assert!(long.len() > LONGEST_MESSAGE_BYTES - 3 && long.len() <= LONGEST_MESSAGE_BYTES);
    }

    #[test]
    fn of_the_log_a_bounded_part_is_kept_for_those_who_look_and_the_newest_line_however_long() {
        let mut kept = Kept::default();
        for number in 0..1_000 {
            kept.push(format!("{number:>99}\n").as_bytes());
        }
        assert_eq!(kept.lines.len(), KEPT_BYTES / 100);
        assert!(kept.lines.back().is_some_and(|line| line.ends_with(" 999\n")));
        kept.push(&[b'x'; 2 * KEPT_BYTES]);
        assert_eq!((kept.lines.len(), kept.bytes), (1, 2 * KEPT_BYTES));
    }
}
