//! The streams of a connection: bytes in both directions, with a buffer of bounded size for each.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::capabilities::connect::{Patience, Slot, Stream};
use crate::capabilities::memory::Share;
use crate::capabilities::meter::Meter;

/// The most bytes that are read before the plugin takes them, and as many that it has written and that are not sent yet.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// A connection of the plugin, which its two streams share.
#[derive(Clone)]
pub(super) struct Connection(Arc<Mutex<State>>);

struct State {
    stream: Box<dyn Stream>,
    /// What was read and not taken.
    unread: Bytes,
    /// What was written and not sent.
    unsent: Bytes,
    reading: Side,
    writing: Side,
    patience: Patience,
    meter: Arc<Meter>,
    _slot: Slot,
    /// Of the memory limit: of the buffers.
    _share: Share,
}

/// How it is with one direction.
enum Side {
    Open,
    /// It ends once everything is sent.
    Ending,
    /// The plugin has not been told.
    Failed(io::ErrorKind, String),
    Closed,
}

impl Side {
    fn failed(error: &io::Error) -> Self {
        Self::Failed(error.kind(), error.to_string())
    }

    /// The end of the stream: why it failed, which is said once, and then that it is closed.
    fn end(&mut self) -> StreamError {
        match std::mem::replace(self, Self::Closed) {
            Self::Failed(kind, text) => StreamError::LastOperationFailed(io::Error::new(kind, text).into()),
            Self::Open | Self::Ending | Self::Closed => StreamError::Closed,
        }
    }
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        slot: Slot,
        share: Share,
        patience: Patience,
        meter: Arc<Meter>,
    ) -> Self {
        let (unread, unsent) = (Bytes::new(), Bytes::new());
        let (reading, writing) = (Side::Open, Side::Open);
        let state = State { stream, unread, unsent, reading, writing, patience, meter, _slot: slot, _share: share };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Reads no more.
    pub(super) fn stop_reading(&self) {
        let mut state = self.lock();
        (state.reading, state.unread) = (Side::Closed, Bytes::new());
    }

    /// Ends the stream to the peer, behind what was written.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if matches!(state.writing, Side::Open) {
            state.writing = Side::Ending;
        }
        let _is_sent = state.poll_sent(&mut noop()).is_ready();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what `poll` looks at, no longer than the call may.
    async fn wait(&self, poll: fn(&mut State, &mut Context<'_>) -> Poll<()>) {
        let patience = self.lock().patience;
        let waited = patience.wait(None, std::future::poll_fn(|context| poll(&mut self.lock(), context))).await;
        if let Err(late) = waited {
            let late = || Side::Failed(io::ErrorKind::TimedOut, late.text.clone());
            let mut state = self.lock();
            (state.reading, state.writing) = (late(), late());
        }
    }
}

impl State {
    /// Sends what was written, and the end behind it.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.unsent.is_empty() {
            let sent = match Pin::new(&mut self.stream).poll_write(context, &self.unsent) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(sent) => sent,
            };
            match sent {
                Ok(bytes) => {
                    self.unsent.advance(bytes);
                    self.meter.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Err(error) => (self.writing, self.unsent) = (Side::failed(&error), Bytes::new()),
            }
        }
        if matches!(self.writing, Side::Ending) {
            match Pin::new(&mut self.stream).poll_shutdown(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => self.writing = Side::Closed,
            }
        }
        Poll::Ready(())
    }

    /// Ready when there is something to take, or there will be nothing more. What was written is sent meanwhile: the peer may wait for it.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _is_sent = self.poll_sent(context).is_ready();
        if !self.unread.is_empty() || !matches!(self.reading, Side::Open) {
            return Poll::Ready(());
        }
        let mut bytes = vec![0; BUFFER_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => self.reading = Side::failed(&error),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.reading = Side::Closed,
            Poll::Ready(Ok(())) => {
                self.unread = Bytes::copy_from_slice(buffer.filled());
                self.meter.received_bytes.fetch_add(self.unread.len() as u64, Ordering::Relaxed);
            }
        }
        Poll::Ready(())
    }

    /// How many bytes may be written now.
    fn writable(&mut self) -> StreamResult<usize> {
        let is_sent = self.poll_sent(&mut noop()).is_ready();
        match self.writing {
            Side::Open if is_sent => Ok(BUFFER_BYTES),
            Side::Open => Ok(0),
            Side::Ending => Err(StreamError::Closed),
            Side::Failed(..) | Side::Closed => Err(self.writing.end()),
        }
    }
}

/// For asking without waiting.
fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What the plugin reads from.
pub(super) struct Input(pub(super) Connection);

/// What the plugin writes to.
pub(super) struct Output(pub(super) Connection);

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.0.wait(State::poll_readable).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut state = self.0.lock();
        if state.poll_readable(&mut noop()).is_pending() {
            return Ok(Bytes::new());
        }
        if state.unread.is_empty() {
            return Err(state.reading.end());
        }
        let size = size.min(state.unread.len());
        Ok(state.unread.split_to(size))
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.0.wait(State::poll_sent).await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut state = self.0.lock();
        if bytes.len() > state.writable()? {
            return Err(StreamError::trap("a write of more than `check-write` allows"));
        }
        state.unsent = bytes;
        let _is_sent = state.poll_sent(&mut noop()).is_ready();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.0.lock().writable().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.lock().writable()
    }
}
