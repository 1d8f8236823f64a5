//! The log: lines on standard error in the official agent's format, `2026/11/24 10:00:00 INFO message`, in local time.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use config::document::{Level as DocumentLevel, Problem};
use delivery::local::Tail;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use wasaba_core::clock;
use wasaba_core::text::safe_lines;

/// Where the log's lines go.
#[derive(Clone)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// The last few lines are kept, and shown below a table that fills the terminal.
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

/// Starts the log. Called once per process.
pub fn start(level: LevelFilter, destination: Destination) {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(destination).event_format(Lines).log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // In tests, a log may have been started before; the first one stays.
    SET_LEVEL.set(Box::new(move |level| handle.reload(level).is_ok())).ok();
    tracing::subscriber::set_global_default(subscriber).ok();
}

/// Logs the problems of a configuration that can be used.
pub fn problems(problems: &[Problem]) {
    for problem in problems {
        match problem.level() {
            DocumentLevel::Note => tracing::info!("{problem}"),
            DocumentLevel::Warning | DocumentLevel::Error => tracing::warn!("{problem}"),
        }
    }
    let warnings = problems.iter().filter(|problem| problem.level() == DocumentLevel::Warning).count();
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        tracing::warn!("{warnings} warning{plural} about the configuration; check it with `wasaba configtest`");
    }
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Of libraries, only warnings and errors are logged: their other levels are about their own internals.
        let metadata = event.metadata();
        if !metadata.target().starts_with("wasaba") && *metadata.level() > Level::WARN {
            return Ok(());
        }
        let now = jiff::ZonedDateTime::try_from(clock::wall()).map_err(|_| fmt::Error)?;
        write!(line, "{} {} ", now.strftime("%Y/%m/%d %H:%M:%S"), level(*metadata.level()))?;
        event.record(&mut Message(&mut line));
        writeln!(line)
    }
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
            write!(self.0, "{}", safe_lines(&format!("{value:?}"))).ok();
        } else {
            write!(self.0, " {}={value:?}", field.name()).ok();
        }
    }
}

impl<'a> MakeWriter<'a> for Destination {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(self.clone())
    }
}

/// Writes whole lines to a destination.
pub struct LineWriter(Destination);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Destination::Stderr => io::stderr().write_all(line)?,
            Destination::Tail(tail) => tail.push(&String::from_utf8_lossy(line)),
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
    fn only_the_last_lines_are_kept() {
        let tail = Tail::default();
        for number in 0..20 {
            tail.push(&format!("line {number}\n"));
        }
        assert_eq!(tail.lines().first().map(String::as_str), Some("line 15"));
        assert_eq!(tail.lines().len(), Tail::LINES);
    }
}
