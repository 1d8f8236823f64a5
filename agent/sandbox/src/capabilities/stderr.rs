//! What a plugin prints. The end of its standard error is kept, since it says why the plugin crashed; everything else is discarded,
//! unless its author asks for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasaba_core::secret::Secrets;
use wasaba_core::text::printable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How many bytes of the end are shown.
const SHOWN_BYTES: usize = 512;

/// How many bytes of what a plugin prints are kept for its author.
const PRINTED_BYTES: usize = 64 << 10;

/// What an instance prints on standard output and standard error, for its author; the first [`PRINTED_BYTES`] since it was last asked
/// for.
#[derive(Debug, Default)]
pub(super) struct Printed(Mutex<(Vec<u8>, usize)>);

impl Printed {
    fn push(&self, bytes: &[u8], most: usize) {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = most.saturating_sub(printed.0.len()).min(bytes.len());
        printed.0.extend(bytes.get(..room).unwrap_or_default());
        printed.1 = printed.1.saturating_add(bytes.len());
    }

    /// The lines since it was last asked, without secrets, and if there was more, how much.
    pub(super) fn take(&self, secrets: &Secrets) -> Vec<String> {
        let (bytes, count) = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let text = secrets.hidden_in(&String::from_utf8_lossy(&bytes), PRINTED_BYTES);
        let mut lines = text.lines().map(|line| printable(line, usize::MAX)).collect::<Vec<_>>();
        if count > PRINTED_BYTES {
            lines.push(format!("... it printed {count} bytes, of which the first {PRINTED_BYTES} are shown"));
        }
        lines
    }
}

/// The end of one call's standard error. Also its standard output, where that is kept for the author.
#[derive(Clone)]
pub(super) struct Stderr {
    kept: Arc<Mutex<VecDeque<u8>>>,
    printed: Option<Arc<Printed>>,
    secrets: Secrets,
}

impl Stderr {
    /// Nothing yet. `secrets` are hidden before the text is cut.
    pub(super) fn hiding(secrets: Secrets) -> Self {
        Self { kept: Arc::default(), printed: None, secrets }
    }

    /// The same, which also keeps everything in `printed`.
    pub(super) fn shown_in(self, printed: Option<&Arc<Printed>>) -> Self {
        Self { printed: printed.cloned(), ..self }
    }

    fn push(&self, bytes: &[u8]) {
        if let Some(printed) = &self.printed {
            // One secret's length more is looked at than is shown, and a secret may begin at the end of that.
            printed.push(bytes, PRINTED_BYTES.saturating_add(self.secrets.longest_bytes().saturating_mul(2)));
        }
        // A secret whose beginning is gone is not recognized, so what of it is kept must be in front of what is shown.
        let most = SHOWN_BYTES.saturating_add(self.secrets.longest_bytes());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.get(bytes.len().saturating_sub(most)..).unwrap_or_default();
        let over = kept.len().saturating_add(end.len()).saturating_sub(most);
        kept.drain(..over);
        kept.extend(end);
    }

    /// The last lines that were written, without secrets, joined into one, if there are any.
    pub(super) fn end(&self) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect::<Vec<_>>();
        let text = self.secrets.hidden_at_end(&String::from_utf8_lossy(&kept), SHOWN_BYTES);
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
    use wasaba_core::secret::Secret;

    use super::*;

    #[test]
    fn the_end_is_kept_however_much_is_written() {
        let stderr = Stderr::hiding(Secrets::default());
        assert_eq!(stderr.end(), None);
        stderr.push(&vec![b'x'; 10 * SHOWN_BYTES]);
        stderr.push(b"\nthread 'main' panicked:\n  no such index\n");
        let end = stderr.end().unwrap();
        assert!(end.ends_with("x / thread 'main' panicked: / no such index") && end.len() <= SHOWN_BYTES + 8, "{end}");
    }

    #[test]
    fn what_is_printed_is_kept_for_the_author_alone_in_lines_without_secrets_and_cut() {
        let (secrets, printed) = (Secrets::new([Secret::new("hunter2")]), Arc::<Printed>::default());
        Stderr::hiding(secrets.clone()).push(b"not asked for");
        let stderr = Stderr::hiding(secrets.clone()).shown_in(Some(&printed));
        stderr.push(b"token hun");
        stderr.push(b"ter2\nsecond \x1b[2J\n");
        assert_eq!(printed.take(&secrets), ["token [redacted]", "second \\u{1b}[2J"]);
        assert_eq!(printed.take(&secrets), Vec::<String>::new(), "they were taken");
        stderr.push(&vec![b'x'; PRINTED_BYTES - 3]);
        stderr.push(b"hunter2 hunter2");
        let lines = printed.take(&secrets);
        let end = lines[0].trim_start_matches('x');
        assert_eq!((end, lines.len()), ("[redacted] [redacted]", 2), "no part of a secret at the end");
        assert!(lines[1].contains("it printed 65548 bytes"), "{}", lines[1]);
    }

    #[test]
    fn a_secret_is_hidden_wherever_the_end_begins_and_in_whatever_pieces_it_is_written() {
        let secret = "ThatSecretTokenValue ";
        for behind in SHOWN_BYTES - 30..SHOWN_BYTES + 10 {
            for piece in [1, 7, 4_096] {
                let stderr = Stderr::hiding(Secrets::new([Secret::new(secret)]));
                let text = format!("{}{secret}{}", ".".repeat(600), "x".repeat(behind));
                text.as_bytes().chunks(piece).for_each(|piece| stderr.push(piece));
                let end = stderr.end().unwrap();
                let rest = end.replace("[redacted]", "");
                assert!(rest.chars().all(|char| ".x".contains(char)), "{behind} bytes behind it: {end}");
            }
        }
        let stderr = Stderr::hiding(Secrets::new([Secret::new(secret)]));
        stderr.push(format!("{secret}\n{secret}").as_bytes());
        assert_eq!(stderr.end().as_deref(), Some("[redacted] / [redacted]"), "what is trimmed was part of it");
    }
}
