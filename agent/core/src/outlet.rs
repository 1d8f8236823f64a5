//! An outlet: text on its way to standard output or standard error, which a thread of its own writes.
//!
//! Whoever reads it may be slow, stuck or gone, and that must stop nothing else. So text waits in a buffer of a fixed size; what does
//! not fit is dropped, and its lines are counted.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::{WORKER_STACK_BYTES, clock};

/// How much text waits, in bytes. As much again may be on its way.
pub const MOST_BYTES: usize = 256 << 10;

/// The pause before a descriptor that does not block, since another process has set it so, is tried again.
const TRIED_AGAIN: Duration = Duration::from_millis(20);

/// The way to a stream. Clones lead to the same; the thread ends when the last one is dropped and everything is written.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The lines that were dropped since `waiting` was last taken.
    dropped_lines: u64,
    /// Since when the thread is writing what it took, if it is.
    writing_since: Option<Instant>,
    is_closed: bool,
}

impl Outlet {
    /// Starts the thread that writes to `stream`. What cannot be written is lost: a reader that is gone does not come back. Once the
    /// stream takes text again, `after_loss` makes what is written for the number of lines that were dropped.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(
        mut stream: impl Write + Send + 'static,
        after_loss: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = Handle(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("outlet".to_owned()).stack_size(WORKER_STACK_BYTES);
        thread.spawn(move || {
            while let Some((mut text, dropped_lines)) = shared.take() {
                if dropped_lines > 0 {
                    text.extend(after_loss(dropped_lines));
                }
                stream.write_all(&text).and_then(|()| stream.flush()).ok();
                drop(text);
                shared.lock().writing_since = None;
                shared.changed.notify_all();
            }
        })?;
        Ok(Self(Arc::new(handle)))
    }

    /// Has the whole of `text` written, or drops the whole of it. Never waits.
    pub fn push(&self, text: &[u8]) {
        let mut state = self.0.0.lock();
        if state.waiting.len() + text.len() > MOST_BYTES {
            state.dropped_lines += text.iter().filter(|byte| **byte == b'\n').count().max(1) as u64;
        } else {
            state.waiting.extend_from_slice(text);
        }
        drop(state);
        self.0.0.changed.notify_all();
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.lock().is_empty()
    }

    /// Waits until everything is written, but not for longer than `patience` since the stream last took something. Returns whether it
    /// is written.
    pub fn finish(&self, patience: Duration) -> bool {
        let state = self.0.0.lock();
        let stuck_for = state.writing_since.map(clock::since).unwrap_or_default();
        let left = patience.saturating_sub(stuck_for);
        let waited = self.0.0.changed.wait_timeout_while(state, left, |state| !state.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// What to write next, with the number of lines that were dropped after it; `None` at the end.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let has_nothing = |state: &mut State| state.waiting.is_empty() && state.dropped_lines == 0 && !state.is_closed;
        let mut state = self.changed.wait_while(self.lock(), has_nothing).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && state.dropped_lines == 0 {
            return None;
        }
        state.writing_since = Some(clock::instant());
        Some((std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped_lines)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No text is half added.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped_lines == 0 && self.writing_since.is_none()
    }
}

/// A descriptor, written to without the lock and the buffer that [`io::Stdout`] and [`io::Stderr`] have: whoever else writes there
/// is not held up by a write that is stuck.
pub struct Descriptor<T> {
    descriptor: T,
    never: (Mutex<()>, Condvar),
}

impl<T: AsFd> Descriptor<T> {
    /// Writes to this descriptor.
    pub fn new(descriptor: T) -> Self {
        Self { descriptor, never: Default::default() }
    }

    fn pause(&self) {
        let (lock, never) = &self.never;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(never.wait_timeout(guard, TRIED_AGAIN));
    }
}

impl<T: AsFd> Write for Descriptor<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.descriptor, bytes) {
                Err(Errno::AGAIN) => self.pause(),
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stream that is stuck until it is allowed to write, once for each time, and that shows what was written.
    struct Gate(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Outlet, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let ((open, opened), (write, written)) = (mpsc::channel(), mpsc::channel());
        let after_loss = |lines| format!("dropped {lines}\n").into_bytes();
        (Outlet::start(Gate(opened, write), after_loss).unwrap(), open, written)
    }

    /// Waits until the thread has taken what waits, and is stuck with it.
    fn until_taken(outlet: &Outlet) {
        while !outlet.0.0.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_stuck_stream_holds_up_no_one_and_what_overflows_is_counted_where_it_is_missing() {
        let (outlet, open, written) = gated();
        outlet.push(b"first\n");
        until_taken(&outlet);
        let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
        (0..MOST_BYTES / 1_024 + 7).for_each(|_| outlet.push(&line));
        assert!(!outlet.is_empty() && !outlet.finish(Duration::ZERO));
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "first\n");
        let rest = written.recv().unwrap();
        assert!(rest.ends_with("x\ndropped 7\n") && rest.len() == MOST_BYTES + "dropped 7\n".len());
        outlet.push(b"last\n");
        open.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "last\n");
        assert!(outlet.finish(Duration::from_secs(60)));
    }

    #[test]
    fn lines_are_written_in_order_and_all_of_them_before_it_is_finished() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::start(Descriptor::new(writer), |_| Vec::new()).unwrap();
        let text = (0..2_000).map(|number| format!("line {number}\n")).collect::<Vec<_>>();
        let read = std::thread::spawn(move || io::read_to_string(reader).unwrap());
        text.iter().for_each(|line| outlet.push(line.as_bytes()));
        assert!(outlet.finish(Duration::from_secs(60)));
        drop(outlet);
        assert_eq!(read.join().unwrap(), text.concat());
    }

    #[test]
    fn a_reader_that_is_gone_is_not_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let outlet = Outlet::start(Descriptor::new(writer), |_| Vec::new()).unwrap();
        outlet.push(b"to no one\n");
        assert!(outlet.finish(Duration::from_secs(60)));
    }

    #[test]
    fn a_descriptor_that_another_process_has_made_non_blocking_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let outlet = Outlet::start(Descriptor::new(writer), |_| Vec::new()).unwrap();
        // More than a pipe holds.
        outlet.push(&b"y".repeat(200_000));
        drop(outlet);
        assert_eq!(io::read_to_string(reader).unwrap().len(), 200_000);
    }
}
