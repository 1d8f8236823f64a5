//! `log`: lines in the agent's log, under the plugin's name, few and short.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wasaba_core::clock;
use wasaba_core::limits::Limits;
use wasaba_core::lines::{LinesAnHour, OF_PLUGINS};
use wasaba_core::secret::Secrets;
use wasaba_core::text::printable;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::meter::Meter;
use super::script::Script;
use crate::contract::wire::log::{self as contract, Level};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> &mut OfCall) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<OfCall>>(linker, view)
}

/// In an hour, an instance may log this many times as many lines as in one call: one a minute for ever, with the usual limit. One that
/// exceeds the limit of a call logs nothing more in that hour.
const CALLS_AN_HOUR: u32 = 4;

/// How many failures of WASI's doors are remembered, so that each is logged once.
const REMEMBERED: usize = 8;

/// Under which name an instance logs, what is hidden in its lines, and how many it has left.
pub(super) struct OfInstance {
    name: Arc<str>,
    secrets: Secrets,
    meter: Arc<Meter>,
    line_bytes: usize,
    hour: Mutex<LinesAnHour>,
    /// The last failures that were logged.
    explained: Mutex<VecDeque<String>>,
}

impl OfInstance {
    pub(super) fn new(name: Arc<str>, secrets: Secrets, meter: Arc<Meter>, limits: &Limits) -> Self {
        let hour = LinesAnHour::new(limits.log_lines.saturating_mul(CALLS_AN_HOUR), clock::instant());
        let line_bytes = limits.log_line_bytes;
        Self { name, secrets, meter, line_bytes, hour: Mutex::new(hour), explained: Mutex::default() }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// One call's lines, all that this capability sees. Dropped lines are reported when the call ends.
pub(super) struct OfCall {
    instance: Arc<OfInstance>,
    lines_left: u32,
    dropped: u32,
    began: Instant,
    /// Notes what is logged.
    script: Option<Arc<Script>>,
}

impl OfCall {
    /// A call that may log this many `lines` and `began` at that time.
    pub(super) fn new(instance: Arc<OfInstance>, lines: u32, began: Instant) -> Self {
        Self { instance, lines_left: lines, dropped: 0, began, script: None }
    }

    /// The same, whose lines `script` notes.
    pub(super) fn noted_in(mut self, script: Option<Arc<Script>>) -> Self {
        self.script = script;
        self
    }

    /// The line as it is logged, or `None` if the call or its instance has used up its lines.
    fn admitted(&mut self, line: &str) -> Option<String> {
        match self.lines_left.checked_sub(1) {
            Some(left) => self.lines_left = left,
            None => self.dropped = self.dropped.saturating_add(1),
        }
        if self.dropped > 0 {
            return None;
        }
        let OfInstance { secrets, line_bytes, .. } = &*self.instance;
        self.of_hour(printable(&secrets.hidden_in(line, *line_bytes), *line_bytes))
    }

    /// Logs what has failed, of which the plugin itself gets no more than a code of WASI's; each text once, while it is among the last.
    pub(super) fn explain(&mut self, what: &str) {
        let mut explained = self.instance.explained.lock().unwrap_or_else(PoisonError::into_inner);
        if explained.iter().any(|known| known == what) {
            return;
        }
        explained.push_back(what.to_owned());
        if explained.len() > REMEMBERED {
            explained.pop_front();
        }
        drop(explained);
        if let Some(line) = self.admitted(what) {
            tracing::warn!(target: OF_PLUGINS, "plugin {}: {line}", self.instance.name());
        }
    }

    fn of_hour(&self, line: String) -> Option<String> {
        self.hour().admitted(line, self.began)
    }

    fn hour(&self) -> MutexGuard<'_, LinesAnHour> {
        self.instance.hour.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfCall {
    fn drop(&mut self) {
        if self.dropped > 0 {
            let (OfInstance { name, meter, .. }, dropped) = (&*self.instance, self.dropped);
            meter.dropped_lines.fetch_add(dropped.into(), Ordering::Relaxed);
            let line = format!(
                "plugin {name}: dropped {dropped} more log lines of this call (limit `log_lines`), and drops those of the next hour"
            );
            if let Some(line) = self.of_hour(line) {
                tracing::warn!(target: OF_PLUGINS, "{line}");
            }
            self.hour().exhaust();
        }
    }
}

impl contract::Host for OfCall {
    async fn write(&mut self, level: Level, line: String) -> Result<()> {
        let Some(line) = self.admitted(&line) else { return Ok(()) };
        let name = self.instance.name();
        if let Some(script) = &self.script {
            script.logged(format!("{}: {line}", word(level)));
        }
        match level {
            Level::Debug => tracing::debug!(target: OF_PLUGINS, "plugin {name}: {line}"),
            Level::Info => tracing::info!(target: OF_PLUGINS, "plugin {name}: {line}"),
            Level::Warning => tracing::warn!(target: OF_PLUGINS, "plugin {name}: {line}"),
            Level::Error => tracing::error!(target: OF_PLUGINS, "plugin {name}: {line}"),
        }
        Ok(())
    }
}

/// Its word in the contract.
fn word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasaba_core::secret::Secret;

    use super::contract::Host;
    use super::*;

    fn log(lines: u32) -> OfCall {
        let secrets = Secrets::new([Secret::new("hunter2")]);
        let limits = Limits { log_lines: lines, log_line_bytes: 20, ..Limits::default() };
        OfCall::new(Arc::new(OfInstance::new("web".into(), secrets, Arc::default(), &limits)), lines, clock::instant())
    }

    #[tokio::test]
    async fn lines_over_the_limit_are_dropped_and_counted() {
        let mut log = log(2);
        for _ in 0..5 {
            log.write(Level::Debug, "line".into()).await.unwrap();
        }
        assert_eq!((log.lines_left, log.dropped), (0, 3));
        let instance = Arc::clone(&log.instance);
        drop(log);
        assert_eq!(instance.meter.dropped_lines.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_plugin_that_logs_more_than_a_call_may_is_cut_off_until_the_next_hour() {
        let first = log(3);
        let (instance, start) = (Arc::clone(&first.instance), first.began);
        let mut lines = |minute: u64| {
            let mut call = OfCall::new(Arc::clone(&instance), 3, start + Duration::from_secs(minute * 60));
            (0..100).filter_map(|_| call.admitted("line")).count()
        };
        assert_eq!((0..60).map(&mut lines).collect::<Vec<_>>()[..3], [3, 0, 0]);
        assert_eq!((60..120).map(&mut lines).sum::<usize>(), 3);
    }

    #[test]
    fn a_plugin_that_logs_a_line_a_minute_is_never_cut_off() {
        let first = log(16);
        for minute in 0..300 {
            let began = first.began + Duration::from_secs(minute * 60);
            let mut call = OfCall::new(Arc::clone(&first.instance), 16, began);
            assert!(call.admitted("line").is_some(), "minute {minute}");
        }
    }

    #[tokio::test]
    async fn a_script_notes_what_is_logged_with_its_level_and_nothing_beyond_the_limit() {
        let script = Arc::<Script>::default();
        let mut log = log(2).noted_in(Some(Arc::clone(&script)));
        for (level, line) in [(Level::Warning, "hunter2"), (Level::Debug, "more"), (Level::Error, "too much")] {
            log.write(level, line.into()).await.unwrap();
        }
        assert_eq!(script.log(), ["warning: [redacted]", "debug: more"]);
    }

    #[test]
    fn a_line_is_logged_escaped_cut_and_without_secrets() {
        let line = log(1).admitted("a\nERROR hunter2 is the password");
        assert_eq!(line.as_deref(), Some("a\\nERROR [redacted] …"));
    }
}
