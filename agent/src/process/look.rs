//! Commands that only look at an agent and its files. Each runs in a child process of its own, since a process that touches a file system
//! which does not answer can neither continue nor be killed. The one that was started touches none, and abandons its child after some
//! seconds.
//!
//! The child says over a pipe, which is its standard input, what it is at and how it ends; see [`at`], [`away`] and [`done`].

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wasaba_core::text::printable;
use wasaba_core::{clock, environment};

/// How often the child says that it is still at the same.
const SAID_AGAIN: Duration = Duration::from_millis(500);

/// How long a child that has said how it ends may take to end. One that has touched what hangs never does.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The flag by which the child knows that it is one.
const FLAG: &str = "--look";

/// In the child: what it has said last, and when.
static SAID: OnceLock<Mutex<Option<(String, Instant)>>> = OnceLock::new();

/// From now on this process says what it is at.
pub fn is_child() {
    SAID.get_or_init(Mutex::default);
}

/// From now on this process is at `what`, as `` `/path` ``, whose file system may not answer; or still, which is progress.
pub fn at(what: impl Display) {
    say(format!("at {}", printable(&what.to_string(), 4_096)));
}

/// From now on this process waits for no file system, or for each with a patience of its own.
pub fn away() {
    say("away".to_owned());
}

/// This process ends with this code.
pub fn done(code: u8) {
    if SAID.get().is_some() {
        io::stdout().flush().ok();
        say(format!("done {code}"));
    }
}

fn say(word: String) {
    let Some(said) = SAID.get() else { return };
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let now = clock::instant();
    let is_news =
        said.as_ref().is_none_or(|(last, at)| *last != word || now.saturating_duration_since(*at) >= SAID_AGAIN);
    if is_news {
        // Whoever started it may be gone.
        rustix::io::write(io::stdin(), format!("{word}\n").as_bytes()).ok();
        *said = Some((word, now));
    }
}

/// This program again, with the same `arguments` and a flag after the first `words` of them, those of the command.
#[must_use]
pub fn again(arguments: &[OsString], words: usize) -> Command {
    let mut command = environment::own_program("/proc/self/exe");
    let mut arguments = arguments.iter();
    if let Some(name) = arguments.next() {
        // An agent is known by the name of its program.
        command.arg0(name);
    }
    command.args(arguments.by_ref().take(words)).arg(FLAG).args(arguments);
    command
}

/// How a look ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    With(u8),
    /// It was abandoned: what does not answer, and the cure.
    Abandoned(String),
    /// What it printed cannot be printed.
    Unprinted(String),
}

enum Event {
    Printed(Vec<u8>),
    Said(String),
}

/// Runs `command` and passes on what it prints to `output`. Abandons it when a file system does not answer it within `patience`.
///
/// # Errors
/// It cannot be started.
pub fn watch(mut command: Command, patience: Duration, output: &mut impl Write) -> io::Result<Ended> {
    let (said, saying) = io::pipe()?;
    let mut child = command.stdin(saying).stdout(Stdio::piped()).spawn()?;
    // It keeps the other end of the pipe open.
    drop(command);
    let (events, next) = sync_channel(1);
    let printed = child.stdout.take();
    let sending = events.clone();
    start("said", move || pass_words(said, &sending))?;
    start("printed", move || pass_bytes(printed, &events))?;
    let (mut course, mut is_read) = (Course::new(patience), true);
    loop {
        let event = match course.patience() {
            Some(patience) => next.recv_timeout(patience),
            None => next.recv().map_err(RecvTimeoutError::from),
        };
        match event {
            Ok(Event::Printed(bytes)) if is_read => match output.write_all(&bytes).and_then(|()| output.flush()) {
                Ok(()) => {}
                // Whoever reads it has enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => is_read = false,
                Err(error) => {
                    child.kill().ok();
                    return Ok(Ended::Unprinted(format!("cannot print: {error}")));
                }
            },
            Ok(Event::Printed(_)) => {}
            Ok(Event::Said(word)) => course.take(&word),
            Err(RecvTimeoutError::Disconnected) => return child.wait().map(|status| Ended::With(code_of(status))),
            Err(RecvTimeoutError::Timeout) => {
                // It may not even die.
                child.kill().ok();
                return Ok(course.cut());
            }
        }
    }
}

/// What a child has said of itself.
struct Course {
    patience: Duration,
    /// What it is at.
    place: String,
    /// Whether that may not answer.
    waits: bool,
    code: Option<u8>,
}

impl Course {
    fn new(patience: Duration) -> Self {
        Self { patience, place: "the agent's files".to_owned(), waits: true, code: None }
    }

    fn take(&mut self, word: &str) {
        match word.split_once(' ') {
            Some(("at", what)) => (self.place, self.waits) = (what.to_owned(), true),
            Some(("done", code)) => self.code = code.parse().ok(),
            _ => self.waits = false,
        }
    }

    /// How long its next word or output may take; `None` if it may take for ever.
    fn patience(&self) -> Option<Duration> {
        if self.code.is_some() { Some(ENDS_WITHIN) } else { self.waits.then_some(self.patience) }
    }

    /// How it ended, if it took longer.
    fn cut(self) -> Ended {
        match self.code {
            Some(code) => Ended::With(code),
            None => Ended::Abandoned(format!(
                "the file system of {} does not answer within {} s: check its disk, or the server behind it, and the kernel's \
                 log (`dmesg`); an agent that runs there collects and delivers from memory meanwhile",
                self.place,
                self.patience.as_secs()
            )),
        }
    }
}

/// As of a shell, if it was killed.
fn code_of(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(wasaba_core::WORKER_STACK_BYTES);
    thread.spawn(work).map(drop)
}

fn pass_words(said: impl Read, events: &SyncSender<Event>) {
    for word in BufReader::new(said).lines().map_while(Result::ok) {
        if events.send(Event::Said(word)).is_err() {
            return;
        }
    }
}

fn pass_bytes(printed: Option<impl Read>, events: &SyncSender<Event>) {
    let Some(mut printed) = printed else { return };
    let mut buffer = vec![0; 8_192];
    while let Ok(count) = printed.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if bytes.is_empty() || events.send(Event::Printed(bytes)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn look(script: &str, patience: Duration) -> (Ended, String) {
        let mut command = environment::own_program("sh");
        command.args(["-c", script]);
        let mut output = Vec::new();
        let ended = watch(command, patience, &mut output).unwrap();
        (ended, String::from_utf8(output).unwrap())
    }

    #[test]
    fn what_a_look_prints_and_how_it_ends_is_passed_on() {
        let printed = look("echo 'at `/r`' >&0; echo one; echo away >&0; echo two; exit 2", LONG);
        assert_eq!(printed, (Ended::With(2), "one\ntwo\n".to_owned()));
    }

    #[test]
    fn a_look_that_hangs_is_abandoned() {
        let (ended, _) = look("exec sleep 600", Duration::from_millis(10));
        assert!(matches!(ended, Ended::Abandoned(_)), "{ended:?}");
    }

    #[test]
    fn only_while_it_is_at_a_file_system_a_look_may_not_take_long_and_that_one_is_named_with_the_cure() {
        let mut course = Course::new(LONG);
        assert_eq!(course.patience(), Some(LONG), "before it has said anything");
        course.take("away");
        assert_eq!(course.patience(), None);
        course.take("at `/a b`");
        assert_eq!(course.patience(), Some(LONG));
        let Ended::Abandoned(why) = course.cut() else { panic!("it did not say how it ends") };
        assert!(why.starts_with("the file system of `/a b` does not answer within 60 s: check its disk"), "{why}");
    }

    #[test]
    fn a_look_that_has_said_how_it_ends_is_not_waited_for_if_it_cannot_end() {
        assert_eq!(look("echo done; echo 'done 1' >&0; exec sleep 600", LONG), (Ended::With(1), "done\n".to_owned()));
    }

    #[test]
    fn a_reader_that_has_enough_does_not_change_how_a_look_ends_and_a_full_disk_does() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let look = |kind| {
            let mut command = environment::own_program("sh");
            command.args(["-c", "echo one; echo two; exit 3"]);
            watch(command, LONG, &mut Fails(kind)).unwrap()
        };
        assert_eq!(look(io::ErrorKind::BrokenPipe), Ended::With(3));
        assert!(matches!(look(io::ErrorKind::StorageFull), Ended::Unprinted(why) if why.starts_with("cannot print: ")));
    }

    #[test]
    fn the_flag_of_the_child_follows_the_words_of_the_command() {
        let line = |words, line: &str| {
            let arguments = line.split(' ').map(OsString::from).collect::<Vec<_>>();
            let command = again(&arguments, words);
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line(1, "wasaba status -root /r -json"), "status --look -root /r -json");
        assert_eq!(line(2, "wasaba queue show"), "queue show --look");
    }
}
