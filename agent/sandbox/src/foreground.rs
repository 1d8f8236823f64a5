//! Whether someone waits for what this process compiles. The agent's compilers yield to everything else on the machine; those of a command
//! have its own priority, and it can tell that it waits for one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static AWAITED: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// From now on, whoever has started this process waits for its compilers.
pub fn awaits_compilers() {
    AWAITED.store(true, Ordering::Relaxed);
}

/// Whether someone does.
pub(crate) fn is_awaited() -> bool {
    AWAITED.load(Ordering::Relaxed)
}

/// Whether a compiler of this process is running.
#[must_use]
pub fn is_compiling() -> bool {
    RUNNING.load(Ordering::Relaxed) > 0
}

/// A running compiler, until it is dropped.
pub(crate) struct Running(());

impl Running {
    pub(crate) fn start() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}
