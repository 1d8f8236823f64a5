//! The readers: the threads that collectors read on. One thread is enough, as long as no collector hangs.
//!
//! Reading /proc takes microseconds, waking a thread takes longer. So one thread runs one job after the other; only when a job
//! has waited for 100 ms, because the one before it hangs, another thread takes over the rest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a job waits for the jobs before it.
const TURN: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs that may block. Clones share the queue.
#[derive(Clone, Default)]
pub struct Readers(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that will return to the queue, unless they hang.
    threads: usize,
}

impl Readers {
    /// Runs `job` on a thread of the runtime's pool that may block.
    ///
    /// # Errors
    /// It panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        let (done, mut result) = oneshot::channel();
        // If the frame has stopped waiting, the result is dropped.
        self.push(Box::new(move || drop(done.send(job()))));
        loop {
            match tokio::time::timeout(TURN, &mut result).await {
                Ok(result) => return result.map_err(|_| Panicked),
                Err(_) => self.take_over(),
            }
        }
    }

    fn push(&self, job: Job) {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        if queue.threads == 0 {
            self.start_thread(&mut queue);
        }
    }

    /// Starts another thread if jobs are waiting.
    fn take_over(&self) {
        let mut queue = self.lock();
        if !queue.jobs.is_empty() {
            self.start_thread(&mut queue);
        }
    }

    fn start_thread(&self, queue: &mut Queue) {
        queue.threads += 1;
        let readers = self.clone();
        tokio::task::spawn_blocking(move || {
            while let Some(job) = readers.next() {
                // A job that panics drops its sender, which is how its caller notices.
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).ok();
            }
        });
    }

    /// The next job; `None` ends the thread.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        let job = queue.jobs.pop_front();
        if job.is_none() {
            queue.threads = queue.threads.saturating_sub(1);
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The job panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_job_that_hangs_does_not_block_the_jobs_behind_it() {
        let readers = Readers::default();
        let (release, gate) = mpsc::channel::<()>();
        let hanging = tokio::spawn({
            let readers = readers.clone();
            async move { readers.run(move || gate.recv().is_err()).await }
        });
        tokio::task::yield_now().await; // so that it runs first
        assert_eq!(readers.run(|| 1).await, Ok(1));
        assert!(!hanging.is_finished());
        drop(release);
        assert_eq!(hanging.await.unwrap(), Ok(true));
    }

    #[tokio::test]
    async fn a_job_that_panics_does_not_affect_others() {
        let readers = Readers::default();
        let (panicking, good) = tokio::join!(readers.run(|| panic!("on purpose")), readers.run(|| 1));
        let panicking: Result<(), Panicked> = panicking;
        assert_eq!((panicking, good), (Err(Panicked), Ok(1)));
    }

    #[tokio::test]
    async fn jobs_that_do_not_hang_share_one_thread() {
        let readers = Readers::default();
        let thread = || std::thread::current().id();
        // The first job ends only when all of them are queued.
        let (release, gate) = mpsc::channel::<()>();
        let first = readers.run(move || {
            gate.recv().ok();
            thread()
        });
        let release = async { drop(release) };
        let (first, second, third, ()) = tokio::join!(first, readers.run(thread), readers.run(thread), release);
        assert!(first == second && second == third && first.is_ok());
    }
}
