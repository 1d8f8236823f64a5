//! What is not known yet: work that is done while the plugin waits for it, and only then, so that it is in the plugin's own time.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The result of some work, before and after it is known.
pub(super) enum Later<T> {
    Working(Pin<Box<dyn Future<Output = T> + Send>>),
    Known(T),
    Taken,
}

impl<T> Later<T> {
    /// Work that begins when it is waited for or asked about.
    pub(super) fn of(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Working(Box::pin(work))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Working(work) = self {
            match work.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => *self = Self::Known(result),
            }
        }
        Poll::Ready(())
    }

    /// Waits until it is known.
    pub(super) async fn ready(&mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// Whether it is known, or was; asks without waiting.
    pub(super) fn is_known(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// The result, once.
    pub(super) fn take(&mut self) -> Option<T> {
        if !self.is_known() {
            return None;
        }
        match std::mem::replace(self, Self::Taken) {
            Self::Known(result) => Some(result),
            Self::Working(_) | Self::Taken => None,
        }
    }
}
