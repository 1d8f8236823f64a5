//! The standard error of a plugin: its end is kept, since it says why the plugin crashed. Everything else that the plugin prints
//! is discarded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How many bytes of the end are kept.
const KEPT_BYTES: usize = 512;

/// The end of one call's standard error.
#[derive(Clone, Default)]
pub(super) struct Stderr(Arc<Mutex<VecDeque<u8>>>);

impl Stderr {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.get(bytes.len().saturating_sub(KEPT_BYTES)..).unwrap_or_default();
        let over = kept.len().saturating_add(end.len()).saturating_sub(KEPT_BYTES);
        kept.drain(..over);
        kept.extend(end);
    }

    /// The last lines that were written, joined into one, if there are any.
    pub(super) fn end(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect::<Vec<_>>();
        let text = String::from_utf8_lossy(&kept);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
        (!lines.is_empty()).then(|| lines.join(" / "))
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stderr {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4_096)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Stderr {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_however_much_is_written() {
        let stderr = Stderr::default();
        assert_eq!(stderr.end(), None);
        stderr.push(&vec![b'x'; 10 * KEPT_BYTES]);
        stderr.push(b"\nthread 'main' panicked:\n  no such index\n");
        let end = stderr.end().unwrap();
        assert!(end.ends_with("x / thread 'main' panicked: / no such index") && end.len() <= KEPT_BYTES + 8, "{end}");
    }
}
