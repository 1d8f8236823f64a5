//! Questions about a path whose file system may never answer: one whose server is gone keeps `stat`, `open` and `read` in the kernel,
//! where no signal ends them. Each is asked on a thread of its own, and no other waits longer than its patience.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a file system may take to say what is at a path. A disk that must spin up takes longer only once.
pub const LOOK: Duration = Duration::from_secs(2);

/// How long a file system may take to hand over a whole component.
pub const READ: Duration = Duration::from_secs(60);

/// The questions that were not answered in time, by their folder, each with the thread that still waits.
static HANGING: Mutex<Vec<(PathBuf, JoinHandle<()>)>> = Mutex::new(Vec::new());

/// The answer to `question` about `path`, for which this waits `patience`. While one hangs, further questions about the same folder fail
/// at once, so that a folder keeps few threads, however often it is asked about.
///
/// # Errors
/// There was no answer in time, now or earlier ([`ErrorKind::TimedOut`]), or no thread.
pub fn ask<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    question: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T> {
    let hangs_now =
        || Error::new(ErrorKind::TimedOut, "its file system does not answer; it is asked again once it does");
    if hangs(path) {
        return Err(hangs_now());
    }
    let ((answered, answer), asked) = (sync_channel(1), path.to_owned());
    let thread = Builder::new().name("slow file".to_owned()).stack_size(crate::WORKER_STACK_BYTES);
    // It fails if no one waits any more.
    let thread = thread.spawn(move || drop(answered.send(question(&asked))))?;
    match answer.recv_timeout(patience) {
        Ok(answer) => Ok(answer),
        Err(RecvTimeoutError::Timeout) => {
            hanging().push((folder(path).to_owned(), thread));
            Err(hangs_now())
        }
        Err(RecvTimeoutError::Disconnected) => Err(Error::other("the agent crashed over it; this is a bug in wasaba")),
    }
}

/// Whether a question about the folder of `path` still waits for its answer.
#[must_use]
pub fn hangs(path: &Path) -> bool {
    let mut hanging = hanging();
    hanging.retain(|(_, thread)| !thread.is_finished());
    hanging.iter().any(|(other, _)| other == folder(path))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn hanging() -> MutexGuard<'static, Vec<(PathBuf, JoinHandle<()>)>> {
    HANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_question_that_is_not_answered_costs_its_patience_once_and_its_folder_one_thread_until_it_is() {
        let (release, released) = channel::<()>();
        let (one, other) = (Path::new("/hangs/a.wasm"), Path::new("/hangs/b.wasm"));
        let hang = move |_: &Path| released.recv().is_ok();
        assert_eq!(ask(one, Duration::from_millis(1), hang).unwrap_err().kind(), ErrorKind::TimedOut);
        let never = |_: &Path| unreachable!("it was asked although its folder hangs");
        assert_eq!(ask::<()>(other, READ, never).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(
            ask(Path::new("/answers/a.wasm"), READ, |path| path.to_owned()).unwrap(),
            Path::new("/answers/a.wasm")
        );
        release.send(()).unwrap();
        while hangs(other) {
            std::thread::yield_now();
        }
        assert_eq!(ask(other, READ, |_| 1).unwrap(), 1);
    }

    #[test]
    fn a_question_that_panics_is_an_error() {
        let error = ask::<()>(Path::new("/panics/a"), READ, |_| panic!("on purpose")).unwrap_err();
        assert!(error.to_string().contains("bug"), "{error}");
    }
}
