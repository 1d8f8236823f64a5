//! `log`: lines in the agent's log, under the plugin's name, few and short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasaba_core::limits::Limits;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::wasaba::plugin::log::{self as contract, Level};
use super::meter::Meter;
use super::{Guest, Identity};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

/// One call's lines.
pub(super) struct Log {
    plugin: Arc<str>,
    meter: Arc<Meter>,
    lines_left: u32,
    line_bytes: usize,
    dropped: u32,
}

impl Log {
    pub(super) fn new(identity: &Identity) -> Self {
        let (plugin, meter) = (Arc::clone(&identity.name), Arc::clone(&identity.meter));
        let Limits { log_lines, log_line_bytes, .. } = *identity.limits;
        Self { plugin, meter, lines_left: log_lines, line_bytes: log_line_bytes, dropped: 0 }
    }

    /// Whether one more line may be said.
    fn admit(&mut self) -> bool {
        match self.lines_left.checked_sub(1) {
            Some(left) => self.lines_left = left,
            None => self.dropped = self.dropped.saturating_add(1),
        }
        self.dropped == 0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.dropped > 0 {
            self.meter.dropped_lines.fetch_add(self.dropped.into(), Ordering::Relaxed);
            let (plugin, dropped) = (&self.plugin, self.dropped);
            tracing::warn!("plugin {plugin}: {dropped} more log lines in this call were dropped (limit `log_lines`)");
        }
    }
}

impl contract::Host for Guest {
    async fn log(&mut self, level: Level, line: String) -> Result<()> {
        if !self.log.admit() {
            return Ok(());
        }
        let line = self.identity.shown(&line, self.log.line_bytes);
        let plugin = &self.log.plugin;
        match level {
            Level::Debug => tracing::debug!("plugin {plugin}: {line}"),
            Level::Info => tracing::info!("plugin {plugin}: {line}"),
            Level::Warning => tracing::warn!("plugin {plugin}: {line}"),
            Level::Error => tracing::error!("plugin {plugin}: {line}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_floods_the_log_is_cut_off_and_counted() {
        let limits = Arc::new(Limits { log_lines: 2, ..Limits::default() });
        let mut log = Log::new(&Identity { limits, ..Identity::default() });
        assert_eq!((0..5).filter(|_| log.admit()).count(), 2);
        assert_eq!(log.dropped, 3);
    }
}
