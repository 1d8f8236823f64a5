//! One run of a program: its process group, its timeout, its output.
//!
//! The run is over when its first process has exited, even if other processes that it left behind hold its output open; these
//! have 2 s to finish their output, and are then killed if they are still in its group. A run that is dropped kills the group.
//! Other runs are not delayed by any of this.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::Instant;
use wasaba_core::environment;
use wasaba_core::text::duration;

use super::{Command, Program};

/// A program that prints more than this on its standard output is killed.
pub const MOST_OUTPUT_BYTES: usize = 1 << 20;

/// More than this of its standard error is dropped.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// How long processes that the first one left behind may keep printing.
const LINGER: Duration = Duration::from_secs(2);

/// How long after its timeout a program is killed that did not exit when it was asked to.
const KILLED_AFTER: Duration = Duration::from_secs(10);

/// What the official agent adds before and after its own `PATH`.
const PATH_BEFORE: &str = "/sbin:/usr/sbin:/bin:/usr/bin:";
const PATH_AFTER: &str = ":/opt/mackerel-agent/plugins/bin";

/// The `PATH` of programs, if the agent's own is `own`.
#[must_use]
pub fn path(own: &str) -> String {
    format!("{PATH_BEFORE}{own}{PATH_AFTER}")
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code; 128 plus the signal's number if a signal killed it.
    Exited(i32),
    /// It exceeded its timeout and was killed.
    TimedOut,
    /// It printed more than [`MOST_OUTPUT_BYTES`] and was killed.
    Flooded,
    /// It could not be started: the code that a shell would exit with, and why.
    NotStarted(i32, String),
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

impl Run {
    /// Its standard error as one line for the log; `None` if it is empty.
    #[must_use]
    pub fn stderr_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stderr);
        let text = text.trim();
        (!text.is_empty()).then(|| wasaba_core::text::printable(text, 1_024))
    }
}

/// Runs `program` with these variables added to its environment.
pub async fn run(program: &Program, variables: &[(&str, &str)]) -> Run {
    let mut child = match start(program, variables) {
        Ok(child) => child,
        Err(error) => {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => 127,
                std::io::ErrorKind::PermissionDenied => 126,
                _ => 125,
            };
            let why = format!("exit code: {code}, {}: {error}", wasaba_core::text::printable(program.first(), 200));
            return Run { end: End::NotStarted(code, why), stdout: Vec::new(), stderr: Vec::new() };
        }
    };
    let mut group = Group::of(&child);
    let mut stdout = Stream::new(child.stdout.take());
    let mut stderr = Stream::new(child.stderr.take());
    let mut times = Times::new(Instant::now(), program.timeout);
    let mut status = None;
    let mut flooded = false;
    while status.is_none() || stdout.is_open() || stderr.is_open() {
        tokio::select! {
            () = stdout.read(), if stdout.is_open() => {
                if stdout.bytes.len() > MOST_OUTPUT_BYTES && !flooded {
                    flooded = true;
                    stdout.close();
                    group.signal(Signal::KILL);
                }
            }
            () = stderr.read(), if stderr.is_open() => stderr.bytes.truncate(MOST_ERROR_BYTES),
            exited = child.wait(), if status.is_none() => {
                status = Some(exited);
                group.is_reaped = true;
                times.exited(Instant::now());
            }
            () = tokio::time::sleep_until(times.next) => match times.pass() {
                Step::Ask => {
                    group.signal(Signal::TERM);
                    group.signal(Signal::CONT); // a stopped process does not handle signals
                }
                Step::Kill => group.signal(Signal::KILL),
                Step::Abandon => break,
            }
        }
    }
    if stdout.is_open() || stderr.is_open() {
        group.signal(Signal::KILL);
    }
    let end = match status {
        _ if flooded => End::Flooded,
        Some(Ok(status)) => match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(_) if times.is_over => End::TimedOut,
            Some(signal) => End::Exited(128_i32.saturating_add(signal)),
            None => End::Exited(status.code().unwrap_or(125)),
        },
        // Not even SIGKILL kills a process that waits for a disk.
        _ => End::TimedOut,
    };
    stdout.bytes.truncate(MOST_OUTPUT_BYTES);
    Run { end, stdout: stdout.bytes, stderr: stderr.bytes }
}

fn start(program: &Program, variables: &[(&str, &str)]) -> std::io::Result<Child> {
    let mut words = program.words().into_iter();
    let mut command = environment::program(words.next().unwrap_or_default());
    command.args(words);
    command.env("PATH", path(&std::env::var("PATH").unwrap_or_default()));
    command.envs([("LANG", "C"), ("LC_ALL", "C")]);
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::process::Command::from(command).process_group(0).kill_on_drop(true).spawn()
}

impl Program {
    /// Why a run that ended like this has no result: a lower-case fragment.
    #[must_use]
    pub fn failure(&self, end: &End) -> String {
        match end {
            End::TimedOut => {
                format!("timed out after {} and was killed (limit `timeout_seconds`)", duration(self.timeout))
            }
            End::Flooded => format!("printed more than {} MiB and was killed", MOST_OUTPUT_BYTES >> 20),
            End::NotStarted(_, why) => format!("cannot be started: {why}; check `command`"),
            End::Exited(code) => format!("exited with code {code}"),
        }
    }

    fn first(&self) -> &str {
        match &self.command {
            Command::Shell(_) => "sh",
            Command::Words(words) => words.first().map(String::as_str).unwrap_or_default(),
        }
    }

    fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(user) = &self.user {
            words.extend(["sudo".into(), "-Eu".into(), user.into()]);
        }
        match &self.command {
            Command::Shell(line) => words.extend(["sh".into(), "-c".into(), line.into()]),
            Command::Words(own) => words.extend(own.iter().map(OsString::from)),
        }
        words
    }
}

/// The process group of a run; processes may have left it.
struct Group {
    leader: Option<Pid>,
    /// Once it is reaped, its number may be reused.
    is_reaped: bool,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.and_then(Pid::from_raw), is_reaped: false }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The group may be gone by now; processes of another user cannot be signalled.
            kill_process_group(leader, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
        }
    }
}

/// An output stream of a program.
struct Stream<R> {
    source: Option<R>,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(source: Option<R>) -> Self {
        Self { source, bytes: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.source.is_some()
    }

    fn close(&mut self) {
        self.source = None;
    }

    async fn read(&mut self) {
        let Some(source) = &mut self.source else { return };
        self.bytes.reserve(4_096);
        if !matches!(source.read_buf(&mut self.bytes).await, Ok(1..)) {
            self.close();
        }
    }
}

/// What to do when a time has come.
enum Step {
    /// Ask the program to exit.
    Ask,
    /// Kill it.
    Kill,
    /// Stop waiting for it.
    Abandon,
}

/// When a program is asked to exit, killed and abandoned.
struct Times {
    timeout: Duration,
    killed_at: Instant,
    next: Instant,
    /// Whether its timeout has passed.
    is_over: bool,
    has_exited: bool,
}

impl Times {
    fn new(start: Instant, timeout: Duration) -> Self {
        let next = start + timeout;
        Self { timeout, killed_at: next + KILLED_AFTER, next, is_over: false, has_exited: false }
    }

    /// The first process has exited.
    fn exited(&mut self, now: Instant) {
        self.has_exited = true;
        self.next = now + LINGER;
    }

    fn pass(&mut self) -> Step {
        if self.has_exited || self.next > self.killed_at {
            return Step::Abandon;
        }
        self.is_over = true;
        if self.next == self.killed_at {
            self.next += LINGER;
            return Step::Kill;
        }
        self.next = (self.next + self.timeout).min(self.killed_at);
        Step::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, timeout_millis: u64) -> Program {
        Program {
            command: Command::Shell(line.to_owned()),
            user: None,
            environment: vec![("OWN".to_owned(), "own".to_owned())],
            timeout: Duration::from_millis(timeout_millis),
        }
    }

    async fn ran(line: &str, timeout_millis: u64) -> (End, String, String) {
        let Run { end, stdout, stderr } = run(&shell(line, timeout_millis), &[("EXTRA", "extra")]).await;
        (end, String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
    }

    const PATIENT: u64 = 20_000;

    /// The limit of a program that exceeds it: long enough for a shell to start and print on a busy machine.
    const IMPATIENT: u64 = 3_000;

    #[tokio::test]
    async fn the_output_and_the_exit_code_are_returned() {
        let (end, stdout, stderr) = ran("echo $OWN $EXTRA $LANG; echo oh >&2; exit 3", PATIENT).await;
        assert_eq!((end, stdout.as_str(), stderr.as_str()), (End::Exited(3), "own extra C\n", "oh\n"));
        assert!(ran("echo $PATH", PATIENT).await.1.starts_with("/sbin:/usr/sbin:/bin:/usr/bin:"));
        assert_eq!(ran("kill -9 $$", PATIENT).await.0, End::Exited(137));
        assert_eq!(ran("read line; echo \"<$line>\"", PATIENT).await.1, "<>\n", "its standard input is empty");
    }

    #[tokio::test]
    async fn a_variable_that_the_configuration_names_as_a_secret_is_not_inherited_unless_the_programs_own_table_passes_it()
     {
        // Cargo sets them for tests.
        let line = "echo ${CARGO_PKG_DESCRIPTION-none} ${CARGO_PKG_NAME-none}";
        let value = environment::secret("CARGO_PKG_DESCRIPTION").unwrap();
        assert_eq!(ran(line, PATIENT).await.1, "none wasaba-official\n");
        let passed = ("CARGO_PKG_DESCRIPTION".to_owned(), value.clone());
        let program = Program { environment: vec![passed], ..shell(line, PATIENT) };
        assert_eq!(run(&program, &[]).await.stdout, format!("{value} wasaba-official\n").into_bytes());
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_has_the_exit_code_of_a_shell() {
        for (word, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
            let program = Program { command: Command::Words(vec![word.to_owned()]), ..shell("", PATIENT) };
            let End::NotStarted(returned, why) = run(&program, &[]).await.end else { panic!("{word} was started") };
            assert!(returned == code && why.starts_with(&format!("exit code: {code}, {word}: ")), "{why}");
        }
        assert_eq!(ran("/no/such/program", PATIENT).await.0, End::Exited(127));
    }

    #[tokio::test]
    async fn a_program_that_times_out_is_killed_with_its_whole_group() {
        let (end, stdout, _) = ran("echo before; sleep 1000 & echo $!; wait", IMPATIENT).await;
        assert_eq!(end, End::TimedOut);
        let child = stdout.lines().nth(1).unwrap();
        assert!(is_gone(child).await, "{child} still runs");
    }

    /// Whether a process has exited, or does so soon: a killed orphan waits for its new parent to reap it.
    async fn is_gone(process: &str) -> bool {
        for _ in 0..6_000 {
            let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            if state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn a_program_that_traps_the_signal_and_exits_has_not_timed_out() {
        let line = "trap 'echo trapped; exit 23' TERM; while :; do sleep 0.05; done";
        let (end, stdout, _) = ran(line, IMPATIENT).await;
        assert_eq!((end, stdout.as_str()), (End::Exited(23), "trapped\n"));
    }

    #[test]
    fn a_program_that_ignores_the_signal_is_asked_again_then_killed_and_then_abandoned() {
        let start = Instant::now();
        let mut times = Times::new(start, Duration::from_secs(4));
        let mut steps = Vec::new();
        while steps.len() < 5 {
            let at = times.next.duration_since(start).as_secs();
            steps.push((
                at,
                match times.pass() {
                    Step::Ask => "ask",
                    Step::Kill => "kill",
                    Step::Abandon => "abandon",
                },
            ));
        }
        assert_eq!(steps, [(4, "ask"), (8, "ask"), (12, "ask"), (14, "kill"), (16, "abandon")]);
    }

    #[tokio::test]
    async fn a_stopped_program_times_out_too() {
        assert_eq!(ran("kill -STOP $$", IMPATIENT).await.0, End::TimedOut);
    }

    #[tokio::test]
    async fn processes_that_are_left_behind_do_not_delay_the_run_and_may_finish_their_output() {
        let (end, stdout, _) = ran("setsid sleep 1000 & echo $!; (sleep 0.3; echo late) & exit 0", PATIENT).await;
        let (leaked, late) = stdout.split_once('\n').unwrap();
        assert_eq!((end, late), (End::Exited(0), "late\n"));
        // It has left the group, so the run has neither waited for it nor killed it; the test does.
        let leaked = leaked.parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(leaked, Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_floods_its_output_is_killed_and_no_more_than_the_limit_is_kept() {
        let run = run(&shell("yes", PATIENT), &[]).await;
        assert_eq!((run.end, run.stdout.len()), (End::Flooded, MOST_OUTPUT_BYTES));
        let (end, _, stderr) = ran("head -c 3000000 /dev/zero >&2", PATIENT).await;
        assert_eq!((end, stderr.len()), (End::Exited(0), MOST_ERROR_BYTES));
    }

    #[tokio::test]
    async fn a_dropped_run_leaves_no_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let program = shell(&format!("sleep 1000 & echo $$ $! > {}; wait", file.display()), PATIENT);
        let running = tokio::spawn(async move { run(&program, &[]).await });
        let written = async {
            loop {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                if text.ends_with('\n') {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let pids = tokio::time::timeout(Duration::from_secs(60), written).await.expect("the program's processes");
        running.abort();
        for process in pids.split_whitespace() {
            assert!(is_gone(process).await, "{process} still runs");
        }
    }
}
