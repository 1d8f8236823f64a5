//! Threads that may block: one instance gets few of them, so that a hanging name server or file system does not take them all.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// How many threads an instance may block at once.
const THREADS: usize = 2;

/// The threads that one instance may block. Clones share them.
#[derive(Clone)]
pub(super) struct Blocking(Arc<Semaphore>);

impl Default for Blocking {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(THREADS)))
    }
}

impl Blocking {
    /// Runs `work` on a thread that may block. The thread stays taken until `work` ends, even if the call was stopped long
    /// before. `None` if `work` panicked.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_keeps_its_thread_when_its_call_is_stopped() {
        let blocking = Blocking::default();
        let (release, released) = mpsc::channel::<()>();
        let hanging = {
            let blocking = blocking.clone();
            tokio::spawn(async move { blocking.run(move || released.recv().is_ok()).await })
        };
        while blocking.0.available_permits() == THREADS {
            tokio::task::yield_now().await;
        }
        hanging.abort();
        assert!(hanging.await.is_err());
        assert_eq!(blocking.0.available_permits(), THREADS - 1);
        assert_eq!(blocking.run(|| 1).await, Some(1), "another thread is free");
        release.send(()).unwrap();
        while blocking.0.available_permits() != THREADS {
            tokio::task::yield_now().await;
        }
    }
}
