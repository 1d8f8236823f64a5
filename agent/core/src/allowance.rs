//! How much is read of a server for a response, and how much of it at a time: the HTTP library skips informational responses (`103 Early
//! Hints`, `100 Continue`) as long as there are any, without letting others run.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that a server may send before the head of its response has ended. Real heads have a few kilobytes.
const LONGEST_START: u64 = 256 << 10;

/// After as many bytes, everything else on the thread has its turn: some thousand informational responses, which take a millisecond.
const PIECE: usize = 16 << 10;

/// What may still be read of a connection. Clones are the same.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Mutex<Phase>>);

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No request waits for a response. One byte is read, to see the connection end.
    Idle { left: u64 },
    /// No head of a response has arrived.
    Start { left: u64 },
    /// The body arrives.
    Body { left: u64 },
}

/// A server has sent much, but no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoResponse;

impl fmt::Display for NoResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = LONGEST_START >> 10;
        write!(
            formatter,
            "no response within the first {most} KiB: the server sends nothing but informational responses (status 1xx), or \
             headers without an end"
        )
    }
}

impl std::error::Error for NoResponse {}

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Phase::Idle { left: 1 })))
    }
}

impl Allowance {
    /// A request is sent next.
    pub fn start(&self) {
        *self.phase() = Phase::Start { left: LONGEST_START };
    }

    /// The head of the response has arrived. Of its body at most this many bytes are read; a longer one ends there.
    pub fn body(&self, most: u64) {
        *self.phase() = Phase::Body { left: most };
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes may be read now; 0 at the end.
    fn left(&self) -> io::Result<u64> {
        match *self.phase() {
            Phase::Start { left: 0 } => Err(io::Error::other(NoResponse)),
            Phase::Idle { left } | Phase::Start { left } | Phase::Body { left } => Ok(left),
        }
    }

    fn take(&self, bytes: u64) {
        match &mut *self.phase() {
            Phase::Idle { left } | Phase::Start { left } | Phase::Body { left } => *left = left.saturating_sub(bytes),
        }
    }
}

/// A stream of which no more is read than it is allowed, in pieces, between which everything else on the thread has its turn.
#[derive(Debug)]
pub struct Allowed<S> {
    stream: S,
    allowance: Allowance,
    /// How many bytes were read since others had their turn.
    piece: usize,
}

impl<S> Allowed<S> {
    /// This stream, of which nothing has been read.
    #[must_use]
    pub fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance, piece: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Allowed<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.piece >= PIECE {
            this.piece = 0;
            // It wakes this task after the runtime has looked at timers and sockets, which waking it here would not.
            if pin!(tokio::task::yield_now()).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let left = usize::try_from(this.allowance.left()?).unwrap_or(usize::MAX);
        let most = left.min(buffer.remaining()).min(PIECE - this.piece);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        this.piece += read;
        this.allowance.take(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Allowed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_server_that_never_begins_its_response_is_read_no_further_and_said_to_be_the_reason() {
        let allowance = Allowance::default();
        allowance.start();
        let mut read = Vec::new();
        let error = Allowed::new(tokio::io::repeat(b'1'), allowance).read_to_end(&mut read).await.unwrap_err();
        assert_eq!(read.len(), usize::try_from(LONGEST_START).unwrap());
        assert!(error.to_string().contains("nothing but informational responses"), "{error}");
    }

    #[tokio::test]
    async fn a_body_ends_where_it_is_allowed_to_and_an_idle_connection_after_a_byte() {
        let allowance = Allowance::default();
        let mut stream = Allowed::new(tokio::io::repeat(b'1'), allowance.clone());
        let mut read = Vec::new();
        assert_eq!(stream.read_to_end(&mut read).await.unwrap(), 1);
        allowance.start();
        assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 100);
        allowance.body(LONGEST_START * 2);
        assert_eq!(stream.read_to_end(&mut read).await.unwrap() as u64, LONGEST_START * 2);
    }

    #[tokio::test]
    async fn a_stream_that_always_has_more_lets_others_run_after_each_piece() {
        let allowance = Allowance::default();
        allowance.body(u64::MAX);
        let mut stream = Allowed::new(tokio::io::repeat(b'1'), allowance);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let (mut bytes, mut read) = ([0; 1_000], 0);
            loop {
                let mut buffer = ReadBuf::new(&mut bytes);
                if Pin::new(&mut stream).poll_read(&mut context, &mut buffer).is_pending() {
                    break;
                }
                read += buffer.filled().len();
            }
            assert_eq!(read, PIECE);
        }
    }
}
