//! `log`: lines in the agent's log, under the plugin's name, few and short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasaba_core::secret::Secrets;
use wasaba_core::text::printable;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::meter::Meter;
use crate::contract::wire::log::{self as contract, Level};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> &mut OfCall) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<OfCall>>(linker, view)
}

/// Under which name an instance logs, and what is hidden in its lines.
pub(super) struct OfInstance {
    name: Arc<str>,
    secrets: Secrets,
    meter: Arc<Meter>,
    line_bytes: usize,
}

impl OfInstance {
    pub(super) fn new(name: Arc<str>, secrets: Secrets, meter: Arc<Meter>, line_bytes: usize) -> Self {
        Self { name, secrets, meter, line_bytes }
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
}

impl OfCall {
    pub(super) fn new(instance: Arc<OfInstance>, lines: u32) -> Self {
        Self { instance, lines_left: lines, dropped: 0 }
    }

    /// The line as it is logged, or `None` if the call has used up its lines.
    fn admitted(&mut self, line: &str) -> Option<String> {
        match self.lines_left.checked_sub(1) {
            Some(left) => self.lines_left = left,
            None => self.dropped = self.dropped.saturating_add(1),
        }
        let OfInstance { secrets, line_bytes, .. } = &*self.instance;
        (self.dropped == 0).then(|| printable(&secrets.hidden_in(line, *line_bytes), *line_bytes))
    }
}

impl Drop for OfCall {
    fn drop(&mut self) {
        if self.dropped > 0 {
            let (OfInstance { name, meter, .. }, dropped) = (&*self.instance, self.dropped);
            meter.dropped_lines.fetch_add(dropped.into(), Ordering::Relaxed);
            tracing::warn!("plugin {name}: dropped {dropped} more log lines of this call (limit `log_lines`)");
        }
    }
}

impl contract::Host for OfCall {
    async fn write(&mut self, level: Level, line: String) -> Result<()> {
        let Some(line) = self.admitted(&line) else { return Ok(()) };
        let name = self.instance.name();
        match level {
            Level::Debug => tracing::debug!("plugin {name}: {line}"),
            Level::Info => tracing::info!("plugin {name}: {line}"),
            Level::Warning => tracing::warn!("plugin {name}: {line}"),
            Level::Error => tracing::error!("plugin {name}: {line}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::secret::Secret;

    use super::contract::Host;
    use super::*;

    fn log(lines: u32) -> OfCall {
        let secrets = Secrets::new([Secret::new("hunter2")]);
        OfCall::new(Arc::new(OfInstance::new("web".into(), secrets, Arc::default(), 20)), lines)
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
    fn a_line_is_logged_escaped_cut_and_without_secrets() {
        let line = log(1).admitted("a\nERROR hunter2 is the password");
        assert_eq!(line.as_deref(), Some("a\\nERROR [redacted] …"));
    }
}
