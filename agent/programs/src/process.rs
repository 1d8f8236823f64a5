//! One run of a program: its process group, its time, what it prints.
//!
//! The run is over when its first process has ended, even if others that it left behind hold its output open; these have
//! 2 s to say what they have to say, and are then killed if they are still in its group. A run that is dropped kills the
//! group. Nobody else waits for any of this.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::Instant;
use wasaba_core::container;

use super::{Command, Program};

/// What systemd knows the agent by; not for the programs that it starts.
const OF_SYSTEMD: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// More is not read of a standard output.
pub const MOST_OUTPUT_BYTES: usize = 1 << 20;

/// More is not kept of a standard error.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// How long what the first process left behind may go on printing.
const LINGER: Duration = Duration::from_secs(2);

/// How long after the end of its time a program is killed that did not end by itself.
const KILLED_AFTER: Duration = Duration::from_secs(10);

/// What the official agent puts before and behind its own `PATH`.
const PATH_BEFORE: &str = "/sbin:/usr/sbin:/bin:/usr/bin:";
const PATH_BEHIND: &str = ":/opt/mackerel-agent/plugins/bin";

/// Where programs are looked for, if the agent's own `PATH` is this.
#[must_use]
pub fn path(own: &str) -> String {
    format!("{PATH_BEFORE}{own}{PATH_BEHIND}")
}

/// How a run came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended by itself, with this code; 128 and the signal's number if one ended it.
    Exited(i32),
    /// It was ended, for its time was over.
    TimedOut,
    /// It printed more than [`MOST_OUTPUT_BYTES`], and was ended.
    Flooded,
    /// It could not be started: the code that a shell would give, and why.
    NotStarted(i32, String),
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// The beginning of what it printed as errors.
    pub stderr: Vec<u8>,
}

impl Run {
    /// What it printed as errors, in one line for the log; none if it printed nothing.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stderr);
        let text = text.trim();
        (!text.is_empty()).then(|| wasaba_core::text::printable(text, 1_024))
    }
}

/// Runs `program` with these variables on top of its environment.
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
            ended = child.wait(), if status.is_none() => {
                status = Some(ended);
                group.is_reaped = true;
                times.ended(Instant::now());
            }
            () = tokio::time::sleep_until(times.next) => match times.pass() {
                Step::Ask => {
                    group.signal(Signal::TERM);
                    group.signal(Signal::CONT); // a stopped one would not hear it
                }
                Step::Kill => group.signal(Signal::KILL),
                Step::GiveUp => break,
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
        // Not even SIGKILL ends what waits for a disk.
        _ => End::TimedOut,
    };
    stdout.bytes.truncate(MOST_OUTPUT_BYTES);
    Run { end, stdout: stdout.bytes, stderr: stderr.bytes }
}

fn start(program: &Program, variables: &[(&str, &str)]) -> std::io::Result<Child> {
    let mut words = program.words().into_iter();
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    command.args(words);
    let own: &[_] = if container::is_ours() { &container::SECRETS } else { &[] };
    for variable in OF_SYSTEMD.iter().chain(own) {
        command.env_remove(variable);
    }
    command.env("PATH", path(&std::env::var("PATH").unwrap_or_default()));
    command.envs([("LANG", "C"), ("LC_ALL", "C")]);
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true).spawn()
}

impl Program {
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

/// The processes of a run, as far as they have stayed together.
struct Group {
    leader: Option<Pid>,
    /// Then its number may be somebody else's before long.
    is_reaped: bool,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.and_then(Pid::from_raw), is_reaped: false }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // It may be gone by now; one that runs as another user is out of reach.
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

/// One of the streams of a program.
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

/// What is to be done when a time has come.
enum Step {
    /// Ask it to end.
    Ask,
    Kill,
    /// There is no use in waiting any longer.
    GiveUp,
}

/// When a program is asked to end, killed and given up.
struct Times {
    timeout: Duration,
    killed_at: Instant,
    next: Instant,
    /// Whether it had its time.
    is_over: bool,
    has_ended: bool,
}

impl Times {
    fn new(start: Instant, timeout: Duration) -> Self {
        let next = start + timeout;
        Self { timeout, killed_at: next + KILLED_AFTER, next, is_over: false, has_ended: false }
    }

    /// The first process has ended.
    fn ended(&mut self, now: Instant) {
        self.has_ended = true;
        self.next = now + LINGER;
    }

    fn pass(&mut self) -> Step {
        if self.has_ended || self.next > self.killed_at {
            return Step::GiveUp;
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

    #[tokio::test]
    async fn what_it_prints_and_its_code_are_there() {
        let (end, stdout, stderr) = ran("echo $OWN $EXTRA $LANG; echo oh >&2; exit 3", PATIENT).await;
        assert_eq!((end, stdout.as_str(), stderr.as_str()), (End::Exited(3), "own extra C\n", "oh\n"));
        assert!(ran("echo $PATH", PATIENT).await.1.starts_with("/sbin:/usr/sbin:/bin:/usr/bin:"));
        assert_eq!(ran("kill -9 $$", PATIENT).await.0, End::Exited(137));
        assert_eq!(ran("read line; echo \"<$line>\"", PATIENT).await.1, "<>\n", "there is nothing to read");
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_told_with_the_code_of_a_shell() {
        for (word, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
            let program = Program { command: Command::Words(vec![word.to_owned()]), ..shell("", PATIENT) };
            let End::NotStarted(told, why) = run(&program, &[]).await.end else { panic!("{word} was started") };
            assert!(told == code && why.starts_with(&format!("exit code: {code}, {word}: ")), "{why}");
        }
        assert_eq!(ran("/no/such/program", PATIENT).await.0, End::Exited(127));
    }

    #[tokio::test]
    async fn its_whole_group_ends_with_its_time() {
        let (end, stdout, _) = ran("echo before; sleep 1000 & echo $!; wait", 300).await;
        assert_eq!(end, End::TimedOut);
        let child = stdout.lines().nth(1).unwrap();
        assert!(is_gone(child).await, "{child} still runs");
    }

    /// Whether a process ends, or has ended: a killed orphan waits for its new parent to look after it.
    async fn is_gone(process: &str) -> bool {
        for _ in 0..500 {
            let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            if state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn one_that_traps_the_signal_and_ends_well_has_answered() {
        let line = "trap 'echo trapped; exit 23' TERM; while :; do sleep 0.05; done";
        let (end, stdout, _) = ran(line, 300).await;
        assert_eq!((end, stdout.as_str()), (End::Exited(23), "trapped\n"));
    }

    #[test]
    fn one_that_ignores_the_signal_is_asked_again_then_killed_and_then_given_up() {
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
                    Step::GiveUp => "give up",
                },
            ));
        }
        assert_eq!(steps, [(4, "ask"), (8, "ask"), (12, "ask"), (14, "kill"), (16, "give up")]);
    }

    #[tokio::test]
    async fn one_that_is_stopped_ends_all_the_same() {
        assert_eq!(ran("kill -STOP $$", 300).await.0, End::TimedOut);
    }

    #[tokio::test]
    async fn what_it_leaves_behind_does_not_hold_it_up_and_may_say_a_last_word() {
        let begin = std::time::Instant::now();
        let (end, stdout, _) = ran("setsid sleep 1000 & echo $!; (sleep 0.3; echo late) & exit 0", PATIENT).await;
        let (leaked, late) = stdout.split_once('\n').unwrap();
        assert_eq!((end, late), (End::Exited(0), "late\n"));
        // It has left the group, so it is left alone; by the test it is not.
        let leaked = leaked.parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(leaked, Signal::KILL).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test]
    async fn a_flood_is_ended_and_nothing_beyond_the_limit_is_kept() {
        let run = run(&shell("yes", PATIENT), &[]).await;
        assert_eq!((run.end, run.stdout.len()), (End::Flooded, MOST_OUTPUT_BYTES));
        let (end, _, stderr) = ran("head -c 3000000 /dev/zero >&2", PATIENT).await;
        assert_eq!((end, stderr.len()), (End::Exited(0), MOST_ERROR_BYTES));
    }

    #[tokio::test]
    async fn a_run_that_nobody_waits_for_any_more_leaves_no_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let program = shell(&format!("sleep 1000 & echo $$ $! > {}; wait", file.display()), PATIENT);
        let running = tokio::spawn(async move { run(&program, &[]).await });
        let pids = loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.ends_with('\n') {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        running.abort();
        for process in pids.split_whitespace() {
            assert!(is_gone(process).await, "{process} still runs");
        }
    }
}
