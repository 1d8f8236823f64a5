//! The sandbox's thread, which all plugins run on, and the clock that interrupts those that compute for long.
//!
//! One thread for all plugins, whatever the number of cores: a plugin that computes yields to the others each time the clock
//! ticks, and never runs on the thread that collects from the host and posts.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use wasaba_core::limits::Engine;

use crate::engine;

/// How long a plugin may compute before the others may run.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Where plugins run. One in a process.
pub struct Sandbox {
    runtime: tokio::runtime::Handle,
    clock: Arc<Clock>,
    /// Dropped with the sandbox, which ends the plugins' thread.
    _end: tokio::sync::oneshot::Sender<()>,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It timed out after this.
    Late(Duration),
    /// The host's own code panicked: a bug of the agent, which costs this call.
    Panicked,
}

impl Sandbox {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot create a thread.
    pub fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_keep_alive(Duration::from_secs(75)) // of the threads that resolve names, until the next minute
            .thread_stack_size(wasaba_core::WORKER_STACK_BYTES)
            .max_blocking_threads(64) // each instance blocks at most two
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        thread::Builder::new().name("plugins".into()).spawn(move || {
            // The sender is only ever dropped, which is the signal.
            runtime.block_on(async { ended.await.ok() });
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, clock: Clock::start()?, _end: end })
    }

    /// The engine of this kind with this much stack for each plugin, created when the first plugin needs it.
    ///
    /// # Errors
    /// wasmtime does not support this machine.
    pub fn engine(&self, kind: Engine, stack_bytes: usize) -> Result<wasmtime::Engine, String> {
        let mut engines = self.clock.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, engine)) = engines.iter().find(|(key, _)| *key == (kind, stack_bytes)) {
            return Ok(engine.clone());
        }
        let engine = engine::for_running(kind, stack_bytes);
        let engine = engine.map_err(|error| format!("cannot start the {kind} engine: {error:#}"))?;
        engines.push(((kind, stack_bytes), engine.clone()));
        Ok(engine)
    }

    /// Runs `call` on the plugins' thread, for `limit` at most. Dropping the returned future stops the call.
    ///
    /// # Errors
    /// It timed out or panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Ended> {
        let mut call = AbortOnDrop(self.runtime.spawn(async move { tokio::time::timeout(limit, call).await }));
        // Most calls end long before the first tick and never wake the clock.
        let result = match tokio::time::timeout(TICK, &mut call.0).await {
            Ok(result) => result,
            Err(_) => {
                let _ticking = self.clock.tick_while_held();
                (&mut call.0).await
            }
        };
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(Ended::Late(limit)),
            Err(_) => Err(Ended::Panicked),
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Advances the engines' epoch while at least one long call is running, and sleeps otherwise.
struct Clock {
    calls: AtomicUsize,
    thread: OnceLock<thread::Thread>,
    /// One for each kind and size of stack in use; mostly one or two.
    engines: Mutex<Vec<((Engine, usize), wasmtime::Engine)>>,
}

impl Clock {
    fn start() -> std::io::Result<Arc<Self>> {
        let clock = Arc::new(Self { calls: AtomicUsize::new(0), thread: OnceLock::new(), engines: Mutex::default() });
        let weak = Arc::downgrade(&clock);
        let thread = thread::Builder::new().name("plugin clock".into()).spawn(move || {
            while let Some(clock) = weak.upgrade() {
                let busy = clock.calls.load(Ordering::Acquire) > 0;
                if busy {
                    for (_, engine) in clock.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                        engine.increment_epoch();
                    }
                }
                drop(clock);
                if busy { thread::park_timeout(TICK) } else { thread::park() }
            }
        })?;
        clock.thread.get_or_init(|| thread.thread().clone());
        Ok(clock)
    }

    fn tick_while_held(self: &Arc<Self>) -> Ticking {
        if self.calls.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake();
        }
        Ticking(Arc::clone(self))
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.wake(); // so that its thread finds it gone
    }
}

struct Ticking(Arc<Clock>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_waits_forever_is_stopped_at_its_limit() {
        let sandbox = Sandbox::start().unwrap();
        let limit = Duration::from_millis(10);
        assert_eq!(sandbox.run(limit, std::future::pending::<()>()).await, Err(Ended::Late(limit)));
        assert_eq!(sandbox.run(limit, async { 1 }).await, Ok(1), "the next one runs");
    }

    #[tokio::test]
    async fn a_panic_costs_one_call() {
        let sandbox = Sandbox::start().unwrap();
        let limit = Duration::from_secs(10);
        let broken = sandbox.run(limit, async { assert!(std::hint::black_box(false), "on purpose") }).await;
        assert_eq!(broken, Err(Ended::Panicked));
        assert_eq!(sandbox.run(limit, async { 1 }).await, Ok(1));
    }
}
