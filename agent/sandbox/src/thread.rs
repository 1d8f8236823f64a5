//! The sandbox's threads, which all plugins run on, and the clock that interrupts those that compute for long.
//!
//! Two threads for all plugins, whatever the number of cores. A call begins on the first. Once it has computed for a tick of the
//! clock, it moves to the second, where those that compute take turns of a tick. Since its first turn may begin between two ticks, a
//! call that only waits is held up by each other call for two ticks at most, once, and from then on shares no thread with it. None runs on the thread that collects from
//! the host and posts.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use wasaba_core::limits::Engine;

use crate::engine;
use crate::turn::{Clocks, ComputedTooLong, Counted};

/// How long a plugin may compute before the others may run.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How long a call takes before the clock ticks for it. Most calls end long before, and never wake it.
const LONG_CALL: Duration = Duration::from_millis(20);

/// How many threads may block: each instance blocks at most two, and a thousand instances may hang at once without taking those
/// of another. A thread exists only while it is needed.
const BLOCKING_THREADS: usize = 2_048;

/// Where plugins run. One in a process.
pub struct Sandbox {
    waiting: Lane,
    /// Started when the first call computes for longer than a tick.
    computing: Mutex<Option<Lane>>,
    clock: Arc<Clock>,
    /// What calls are measured by.
    clocks: Clocks,
}

/// A thread that runs calls.
struct Lane {
    runtime: Handle,
    /// Dropped with the lane, which ends the thread.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Lane {
    fn start(name: &str) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(1) // looks at timers and sockets after each turn, which may take a tick
            .thread_keep_alive(Duration::from_secs(75)) // of the threads that resolve names, until the next minute
            .thread_stack_size(wasaba_core::WORKER_STACK_BYTES)
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        thread::Builder::new().name(name.into()).spawn(move || {
            // The sender is only ever dropped, which is the signal.
            runtime.block_on(async { ended.await.ok() });
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _end: end })
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It timed out after this.
    Late(Duration),
    /// It timed out after this, and others had their turns while it was ready for its own.
    HeldUp(Duration),
    /// It computed for longer than this.
    Computed(Duration),
    /// The host's own code panicked: a bug of the agent, which costs this call.
    Panicked,
}

impl Sandbox {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot create a thread.
    pub fn start() -> std::io::Result<Self> {
        let (waiting, clock) = (Lane::start("plugins")?, Clock::start()?);
        Ok(Self { waiting, computing: Mutex::default(), clock, clocks: Clocks::SYSTEM })
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

    /// Runs `call` on the plugins' threads, for `limit` at most, in which it may compute for `compute`. Dropping the returned future
    /// stops the call.
    ///
    /// # Errors
    /// It timed out, computed for too long, or panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        compute: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Ended> {
        self.run_measured(limit, compute, call).await.0
    }

    /// As [`Sandbox::run`], and how long the call has computed.
    pub async fn run_measured<T: Send + 'static>(
        &self,
        limit: Duration,
        compute: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> (Result<T, Ended>, Duration) {
        let call = Counted::new(call, compute, self.clocks);
        let usage = call.usage();
        // Timed here, where no plugin computes.
        let ended = match tokio::time::timeout(limit, self.turns(call)).await {
            Ok(Ok(result)) => result.map_err(|ComputedTooLong| Ended::Computed(compute)),
            Ok(Err(Panicked)) => Err(Ended::Panicked),
            Err(_) => Err(late(usage.held_up((self.clocks.monotonic)()), limit)),
        };
        (ended, usage.computed())
    }

    async fn turns<T: Send + 'static>(&self, call: Counted<T>) -> Result<Result<T, ComputedTooLong>, Panicked> {
        let mut first = AbortOnDrop(self.waiting.runtime.spawn(FirstTurns(Some(call))));
        let ended = match tokio::time::timeout(LONG_CALL, &mut first.0).await {
            Ok(ended) => ended,
            Err(_) => {
                let _ticking = self.clock.tick_while_held();
                (&mut first.0).await
            }
        };
        match ended.map_err(|_| Panicked)? {
            Left::Ended(result) => Ok(result),
            Left::Computes(call) => {
                let _ticking = self.clock.tick_while_held();
                let mut further = AbortOnDrop(self.computing().spawn(call));
                (&mut further.0).await.map_err(|_| Panicked)
            }
        }
    }

    /// The thread of calls that compute; the other one, if the system can create none.
    fn computing(&self) -> Handle {
        let mut computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        if computing.is_none() {
            *computing = Lane::start("plugins compute").ok();
        }
        computing.as_ref().unwrap_or(&self.waiting).runtime.clone()
    }
}

/// Why a call that was held up for so long has not ended within `limit`. A tenth of it is what others may take.
///
/// Two plugins that compute side by side hold each other up, and so are never skipped for being late. That gains them nothing: what a
/// call may use (time, computing, memory) is bounded for each call, and one that succeeds is called every minute too. Skipping saves
/// the work of what is broken; it is not what bounds it.
fn late(held_up: Duration, limit: Duration) -> Ended {
    if held_up > limit / 10 { Ended::HeldUp(limit) } else { Ended::Late(limit) }
}

struct Panicked;

/// The turns of a call until it has computed for a tick.
struct FirstTurns<T>(Option<Counted<T>>);

/// How a call has left the first thread.
enum Left<T> {
    Ended(Result<T, ComputedTooLong>),
    Computes(Counted<T>),
}

impl<T> Future for FirstTurns<T> {
    type Output = Left<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Left<T>> {
        let Some(call) = &mut self.0 else { return Poll::Pending };
        match Pin::new(&mut *call).poll(context) {
            Poll::Ready(result) => Poll::Ready(Left::Ended(result)),
            Poll::Pending if call.usage().computed() >= TICK => {
                self.0.take().map_or(Poll::Pending, |call| Poll::Ready(Left::Computes(call)))
            }
            Poll::Pending => Poll::Pending,
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::turn::end_turn;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_call_that_waits_forever_is_stopped_at_its_limit() {
        // By a clock that stands still, nothing holds it up.
        let clocks = Clocks { monotonic: || Duration::ZERO, ..Clocks::SYSTEM };
        let sandbox = Sandbox { clocks, ..Sandbox::start().unwrap() };
        let limit = Duration::from_millis(10);
        assert_eq!(sandbox.run(limit, LONG, std::future::pending::<()>()).await, Err(Ended::Late(limit)));
        assert_eq!(sandbox.run(LONG, LONG, async { 1 }).await, Ok(1), "the next one runs");
    }

    #[test]
    fn a_call_that_was_held_up_for_more_than_a_tenth_of_its_limit_is_late_because_of_others() {
        let limit = Duration::from_millis(100);
        let (tenth, more) = (Duration::from_millis(10), Duration::from_millis(11));
        assert_eq!((late(tenth, limit), late(more, limit)), (Ended::Late(limit), Ended::HeldUp(limit)));
    }

    #[tokio::test]
    async fn a_panic_costs_one_call() {
        let sandbox = Sandbox::start().unwrap();
        let broken = sandbox.run(LONG, LONG, async { assert!(std::hint::black_box(false), "on purpose") }).await;
        assert_eq!(broken, Err(Ended::Panicked));
        assert_eq!(sandbox.run(LONG, LONG, async { 1 }).await, Ok(1));
    }

    /// Computes for at least this long.
    fn compute(time: Duration) {
        let began = (Clocks::SYSTEM.thread)();
        while (Clocks::SYSTEM.thread)().saturating_sub(began) < time {}
    }

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_call_leaves_the_thread_of_those_that_wait_once_it_has_computed_for_a_tick() {
        let sandbox = Sandbox::start().unwrap();
        let turns = async {
            let mut names = vec![thread_name()];
            for _ in 0..3 {
                compute(TICK);
                end_turn().await;
                names.push(thread_name());
            }
            names
        };
        let names = sandbox.run(LONG, LONG, turns).await.unwrap();
        assert_eq!(names, ["plugins", "plugins compute", "plugins compute", "plugins compute"]);
    }

    #[tokio::test]
    async fn however_many_compute_a_call_that_waits_shares_no_thread_with_them_after_their_first_tick() {
        let sandbox = Arc::new(Sandbox::start().unwrap());
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let computing = (0..20).map(|_| {
            let (sandbox, stop) = (Arc::clone(&sandbox), Arc::clone(&stop));
            tokio::spawn(async move {
                let turns = async move {
                    let mut names = BTreeSet::new();
                    for turn in 0.. {
                        if turn > 0 {
                            names.insert(thread_name());
                        }
                        if stop.load(Ordering::Acquire) {
                            break;
                        }
                        compute(TICK);
                        end_turn().await;
                    }
                    names
                };
                sandbox.run(LONG, LONG, turns).await
            })
        });
        let computing = computing.collect::<Vec<_>>();
        let waits = async {
            let mut names = BTreeSet::new();
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                names.insert(thread_name());
            }
            names
        };
        assert_eq!(sandbox.run(LONG, LONG, waits).await, Ok(BTreeSet::from(["plugins".to_owned()])));
        stop.store(true, Ordering::Release);
        for call in computing {
            let names = call.await.unwrap().unwrap();
            assert!(names.iter().all(|name| name == "plugins compute"), "{names:?}");
        }
    }

    #[tokio::test]
    async fn a_call_that_computes_for_too_long_ends_without_being_asked() {
        let sandbox = Sandbox::start().unwrap();
        let endless = async {
            loop {
                compute(TICK / 2);
                end_turn().await;
            }
        };
        let most = TICK * 3;
        assert_eq!(sandbox.run::<()>(LONG, most, endless).await, Err(Ended::Computed(most)));
    }

    #[tokio::test]
    async fn a_call_that_is_late_because_others_computed_is_distinguished() {
        let limit = Duration::from_millis(100);
        let call = Counted::new(std::future::pending::<()>(), LONG, Clocks::SYSTEM);
        let usage = call.usage();
        // It never had a turn.
        compute(limit);
        assert_eq!(late(usage.held_up((Clocks::SYSTEM.monotonic)()), limit), Ended::HeldUp(limit));
    }

    #[tokio::test]
    async fn instances_that_hang_leave_threads_for_those_that_do_not() {
        let sandbox = Sandbox::start().unwrap();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let hang = async move {
            for _ in 0..200 {
                let gate = Arc::clone(&gate);
                drop(tokio::task::spawn_blocking(move || gate.lock().unwrap().recv().ok()));
            }
            tokio::task::spawn_blocking(|| 1).await.unwrap()
        };
        assert_eq!(sandbox.run(LONG, LONG, hang).await, Ok(1));
        drop(release);
    }
}
