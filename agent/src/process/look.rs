//! Commands that only look at an agent and its files. Each runs in a child process of its own, since a process that touches a file system
//! which does not answer can neither continue nor be killed. The one that was started touches none, and abandons its child after some
//! seconds.
//!
//! The child says over a pipe, which is its standard input, what it is at and how it ends; see [`at`], [`away`] and [`done`].

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    /// What it does or prints is lost: why.
    Failed(String),
}

/// What a child writes to. What waits in several is read in this order.
#[derive(Clone, Copy)]
enum Stream {
    Said,
    Errors,
    Output,
}

/// Runs `command` and passes on what it prints to `output` and `errors`: it has neither itself, since whoever reads them would wait for a
/// child that cannot end. Abandons it when a file system does not answer it within `patience`.
///
/// # Errors
/// It cannot be started.
pub fn watch(
    mut command: Command,
    patience: Duration,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> io::Result<Ended> {
    let (said, saying) = io::pipe()?;
    let mut child = command.stdin(saying).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // It keeps the other end of the pipe open.
    drop(command);
    let printed = [
        child.stderr.take().map(|pipe| (Stream::Errors, OwnedFd::from(pipe))),
        child.stdout.take().map(|pipe| (Stream::Output, OwnedFd::from(pipe))),
    ];
    let mut open = vec![(Stream::Said, OwnedFd::from(said))];
    open.extend(printed.into_iter().flatten());
    Ok(follow(&mut child, open, Course::new(patience), output, errors).unwrap_or_else(|cut| {
        // It may not even die.
        child.kill().ok();
        cut
    }))
}

/// How the child ended by itself; or else how it was cut.
fn follow(
    child: &mut Child,
    mut open: Vec<(Stream, OwnedFd)>,
    mut course: Course,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> Result<Ended, Ended> {
    let mut buffer = vec![0; 8_192];
    let mut is_read = true;
    while !open.is_empty() {
        let ready = wait(&open, course.patience()).map_err(|error| Ended::Failed(format!("cannot wait: {error}")))?;
        if !ready.contains(&true) {
            return Err(course.cut());
        }
        let mut ready = ready.into_iter();
        let mut failed = None;
        open.retain(|(stream, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            // What cannot be read is over.
            let count = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer)).unwrap_or_default();
            let bytes = buffer.get(..count).unwrap_or_default();
            match stream {
                Stream::Said => course.read(bytes),
                // There is no other place to say that it failed.
                Stream::Errors => drop(errors.write_all(bytes).and_then(|()| errors.flush())),
                Stream::Output if is_read => match output.write_all(bytes).and_then(|()| output.flush()) {
                    Ok(()) => {}
                    // Whoever reads it has enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => is_read = false,
                    Err(error) => failed = Some(error),
                },
                Stream::Output => {}
            }
            count > 0
        });
        if let Some(error) = failed {
            return Err(Ended::Failed(format!("cannot print: {error}")));
        }
    }
    let status = child.wait().map_err(|error| Ended::Failed(format!("cannot wait: {error}")))?;
    Ok(course.end(status))
}

/// Which of these have something, or have ended; none once the patience is over. Without a thread, which there may be none for.
fn wait(open: &[(Stream, OwnedFd)], patience: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled = open.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect::<Vec<_>>();
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    rustix::io::retry_on_intr(|| poll(&mut polled, patience.as_ref()))?;
    Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect())
}

/// What a child has said of itself.
struct Course {
    patience: Duration,
    /// What it is at.
    place: String,
    /// Whether that may not answer.
    waits: bool,
    code: Option<u8>,
    /// The beginning of its next word.
    unfinished: Vec<u8>,
}

impl Course {
    fn new(patience: Duration) -> Self {
        let place = "the agent's files".to_owned();
        Self { patience, place, waits: true, code: None, unfinished: Vec::new() }
    }

    fn read(&mut self, said: &[u8]) {
        self.unfinished.extend_from_slice(said);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let word = self.unfinished.drain(..=end).collect::<Vec<_>>();
            self.take(String::from_utf8_lossy(&word).trim_end());
        }
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

    /// How it ended by itself. One that did not say how has been killed or crashed, and its output is not whole.
    fn end(self, status: ExitStatus) -> Ended {
        match self.code {
            Some(code) => Ended::With(code),
            None => Ended::Failed(format!(
                "a process of this command ended before it was done ({status}): check the limits of memory \
                 and stack (`ulimit -a`, those of the container) and the kernel's log (`dmesg`), and try it again"
            )),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn look(script: &str, patience: Duration) -> (Ended, String) {
        let mut command = environment::own_program("sh");
        command.args(["-c", script]);
        let mut output = Vec::new();
        let ended = watch(command, patience, &mut output, &mut io::sink()).unwrap();
        (ended, String::from_utf8(output).unwrap())
    }

    #[test]
    fn what_a_look_prints_and_how_it_ends_is_passed_on() {
        let printed = look("echo 'at `/r`' >&0; echo one; echo away >&0; echo two; echo 'done 2' >&0; exit 2", LONG);
        assert_eq!(printed, (Ended::With(2), "one\ntwo\n".to_owned()));
    }

    #[test]
    fn a_look_that_hangs_is_abandoned() {
        let (ended, _) = look("exec sleep 600", Duration::from_millis(10));
        assert!(matches!(ended, Ended::Abandoned(_)), "{ended:?}");
    }

    #[test]
    fn a_look_that_is_killed_or_crashes_before_it_has_said_how_it_ends_is_a_failure_with_the_signal_or_the_code() {
        for (script, status) in [("kill -9 $$", "signal: 9 (SIGKILL)"), ("exit 101", "exit status: 101")] {
            let (ended, _) = look(script, LONG);
            let Ended::Failed(why) = ended else { panic!("{script}: {ended:?}") };
            assert!(why.contains(status) && why.contains("`ulimit -a`"), "{why}");
        }
        assert_eq!(look("echo 'done 0' >&0; kill -9 $$", LONG).0, Ended::With(0));
    }

    #[test]
    fn what_a_look_says_on_standard_error_is_passed_on_and_it_does_not_hold_that_of_this_process_open() {
        let mut command = environment::own_program("sh");
        command.args(["-c", "readlink /proc/$$/fd/2 >&2"]);
        let mut errors = Vec::new();
        watch(command, LONG, &mut io::sink(), &mut errors).unwrap();
        let held = String::from_utf8(errors).unwrap();
        let own = std::fs::read_link("/proc/self/fd/2").unwrap();
        assert!(held.starts_with("pipe:") && held.trim_end() != own.to_string_lossy(), "{held}");
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
            command.args(["-c", "echo one; echo two; echo 'done 3' >&0; exit 3"]);
            watch(command, LONG, &mut Fails(kind), &mut io::sink()).unwrap()
        };
        assert_eq!(look(io::ErrorKind::BrokenPipe), Ended::With(3));
        assert!(matches!(look(io::ErrorKind::StorageFull), Ended::Failed(why) if why.starts_with("cannot print: ")));
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
