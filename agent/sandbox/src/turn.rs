//! The turns of a call: a call is a future that is polled by the turn, and this counts how long its turns took, and how long it was
//! ready but others had theirs.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use wasaba_core::clock;

/// Since a fixed moment.
type Time = Duration;

/// What says the time.
type Clock = fn() -> Time;

/// The clocks of turns.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    /// Time that passes.
    pub(super) monotonic: Clock,
    /// Time in which this thread computes.
    pub(super) thread: Clock,
}

impl Clocks {
    /// The system's.
    pub(super) const SYSTEM: Self = Self { monotonic: clock::monotonic, thread: clock::thread_cpu };
}

thread_local! {
    /// Whether the call whose turn it is has ended its turn although it could go on.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
    /// What another thread has computed for it.
    static CHARGED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// When that turn has begun, and by which clock.
    static BEGAN: Cell<Option<(Clock, Time)>> = const { Cell::new(None) };
}

/// Does `work` on this thread, and returns how long it computed, for [`charge`].
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = (Clocks::SYSTEM.thread)();
    let done = work();
    (done, (Clocks::SYSTEM.thread)().saturating_sub(began))
}

/// Counts what another thread has computed for the call whose turn it is.
pub(crate) fn charge(time: Duration) {
    CHARGED.set(CHARGED.get().saturating_add(time));
}

/// Ends the turn of the call that awaits this; it is ready for its next one at once. Its executor looks at timers and sockets in
/// between.
pub async fn end_turn() {
    YIELDED.set(true);
    tokio::task::yield_now().await;
}

/// How long the turn lasts so far; none where no call has its turn.
pub(crate) fn lasted() -> Duration {
    BEGAN.get().map_or(Duration::ZERO, |(monotonic, began)| monotonic().saturating_sub(began))
}

/// What a call has used so far. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Usage(Arc<Mutex<Used>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    computed: Duration,
    held_up: Duration,
    /// Since when it is ready for its next turn.
    ready: Option<Time>,
}

impl Usage {
    /// How long it has computed.
    pub(super) fn computed(&self) -> Duration {
        self.lock().computed
    }

    /// How long it was ready at the time `now`, but others had their turns.
    pub(super) fn held_up(&self, now: Time) -> Duration {
        let used = *self.lock();
        used.held_up.saturating_add(used.ready.map_or(Duration::ZERO, |ready| now.saturating_sub(ready)))
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call has computed for longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ComputedTooLong;

/// A call that is counted. It ends when it has computed for too long, at the end of that turn.
pub(super) struct Counted<T> {
    call: Pin<Box<dyn Future<Output = T> + Send>>,
    usage: Usage,
    compute: Duration,
    clocks: Clocks,
    waker: Arc<ReadyWaker>,
}

impl<T> Counted<T> {
    /// A call that may compute this long, and is ready for its first turn.
    pub(super) fn new(call: impl Future<Output = T> + Send + 'static, compute: Duration, clocks: Clocks) -> Self {
        let usage = Usage::default();
        usage.lock().ready = Some((clocks.monotonic)());
        let waker =
            Arc::new(ReadyWaker { usage: usage.clone(), monotonic: clocks.monotonic, executor: Mutex::default() });
        Self { call: Box::pin(call), usage, compute, clocks, waker }
    }

    /// What it uses.
    pub(super) fn usage(&self) -> Usage {
        self.usage.clone()
    }
}

impl<T> Future for Counted<T> {
    type Output = Result<T, ComputedTooLong>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.waker.wakes(context.waker());
        let monotonic = (this.clocks.monotonic)();
        let mut used = this.usage.lock();
        let held_up = used.ready.take().map_or(Duration::ZERO, |ready| monotonic.saturating_sub(ready));
        used.held_up += held_up;
        drop(used);
        YIELDED.set(false);
        CHARGED.set(Duration::ZERO);
        BEGAN.set(Some((this.clocks.monotonic, monotonic)));
        let waker = Waker::from(Arc::clone(&this.waker));
        let began = (this.clocks.thread)();
        let result = this.call.as_mut().poll(&mut Context::from_waker(&waker));
        let took = (this.clocks.thread)().saturating_sub(began);
        BEGAN.set(None);
        let mut used = this.usage.lock();
        used.computed = used.computed.saturating_add(took).saturating_add(CHARGED.take());
        if YIELDED.take() {
            used.ready = Some((this.clocks.monotonic)());
        }
        match result {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending if used.computed > this.compute => Poll::Ready(Err(ComputedTooLong)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Notes since when a call is ready, and wakes its executor.
struct ReadyWaker {
    usage: Usage,
    monotonic: Clock,
    executor: Mutex<Option<Waker>>,
}

impl ReadyWaker {
    fn wakes(&self, waker: &Waker) {
        let mut executor = self.executor.lock().unwrap_or_else(PoisonError::into_inner);
        if !executor.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *executor = Some(waker.clone());
        }
    }
}

impl Wake for ReadyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.usage.lock().ready.get_or_insert_with(self.monotonic);
        let executor = self.executor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(executor) = executor {
            executor.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    thread_local! {
        static MONOTONIC: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static THREAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const CLOCKS: Clocks = Clocks { monotonic: || MONOTONIC.get(), thread: || THREAD.get() };

    fn pass(wall_millis: u64, computed_millis: u64) {
        MONOTONIC.set(MONOTONIC.get() + Duration::from_millis(wall_millis));
        THREAD.set(THREAD.get() + Duration::from_millis(computed_millis));
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn poll<T>(call: &mut Counted<T>) -> Poll<Result<T, ComputedTooLong>> {
        Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_the_host_computes_for_a_call_is_counted_as_what_it_computes_itself() {
        // No epoch has passed: the time is the host's.
        let host = async {
            pass(30, 30);
            std::future::pending::<()>().await;
        };
        let mut call = Counted::new(host, millis(20), CLOCKS);
        assert_eq!(poll(&mut call), Poll::Ready(Err(ComputedTooLong)));
        assert_eq!(call.usage().computed(), millis(30));
    }

    #[test]
    fn what_another_thread_computes_for_a_call_is_counted_too() {
        let host = async {
            charge(millis(30));
            std::future::pending::<()>().await;
        };
        assert_eq!(poll(&mut Counted::new(host, millis(20), CLOCKS)), Poll::Ready(Err(ComputedTooLong)));
    }

    #[test]
    fn time_in_which_the_machine_runs_something_else_is_not_computed() {
        let preempted = async {
            pass(500, 5);
            end_turn().await;
            pass(500, 5);
        };
        let mut call = Counted::new(preempted, millis(20), CLOCKS);
        assert!(poll(&mut call).is_pending());
        assert_eq!(poll(&mut call), Poll::Ready(Ok(())));
        assert_eq!(call.usage().computed(), millis(10));
    }

    #[test]
    fn a_turn_lasts_from_its_own_beginning_until_its_end() {
        let lasting = async {
            pass(7, 0);
            let first = lasted();
            end_turn().await;
            pass(3, 0);
            (first, lasted())
        };
        let mut call = Counted::new(lasting, millis(20), CLOCKS);
        assert!(poll(&mut call).is_pending());
        pass(100, 0);
        assert_eq!(lasted(), Duration::ZERO, "no call has its turn");
        assert_eq!(poll(&mut call), Poll::Ready(Ok((millis(7), millis(3)))));
    }

    #[test]
    fn a_call_is_held_up_from_when_it_is_ready_until_its_turn_and_not_while_it_waits() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut call = Counted::new(receiver, millis(20), CLOCKS);
        let usage = call.usage();
        pass(3, 0);
        assert_eq!(usage.held_up(MONOTONIC.get()), millis(3), "it has had no turn yet");
        assert!(poll(&mut call).is_pending());
        pass(100, 0);
        assert_eq!(usage.held_up(MONOTONIC.get()), millis(3), "it waits");
        sender.send(()).unwrap();
        pass(7, 0);
        assert_eq!(usage.held_up(MONOTONIC.get()), millis(10), "its turn has not come");
        assert_eq!(poll(&mut call), Poll::Ready(Ok(Ok(()))));
        pass(100, 0);
        assert_eq!(usage.held_up(MONOTONIC.get()), millis(10));
    }

    #[test]
    fn a_call_that_ends_its_turn_is_ready_at_once() {
        let mut turns = 0;
        let mut turn = Box::pin(end_turn());
        let yields = poll_fn(move |context| {
            turns += 1;
            if turns == 1 { turn.as_mut().poll(context) } else { Poll::Ready(()) }
        });
        let mut call = Counted::new(yields, millis(20), CLOCKS);
        assert!(poll(&mut call).is_pending());
        pass(40, 0);
        assert_eq!(call.usage().held_up(MONOTONIC.get()), millis(40));
    }
}
