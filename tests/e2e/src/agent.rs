//! The agent as a child process in a temporary folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The folder of an agent: its root, its configuration, its plugins. It outlives the agent, so that another one can be started in it.
pub struct Home {
    folder: TempDir,
}

impl Default for Home {
    /// A home with the precompiled components of the tests, as far as they exist.
    fn default() -> Self {
        let home = Self::without_compiled();
        let (from, to) = (Path::new(&crate::compiled()).join("compiled"), home.root().join("compiled"));
        for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
            // Python is larger than all others together; its tests use the shared folder, see [`crate::compiled`].
            if entry.metadata().unwrap().len() < 1 << 20 {
                std::fs::create_dir_all(&to).unwrap();
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        home
    }
}

impl Home {
    /// A home without precompiled components.
    #[must_use]
    pub fn without_compiled() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A home with this configuration; `root` and `pidfile` are added.
    #[must_use]
    pub fn with(config: &str) -> Self {
        let home = Self::default();
        home.configure(config);
        home
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        let root = self.root();
        let pidfile = self.path("agent.pid");
        std::fs::write(self.config(), format!("root = {root:?}\npidfile = {pidfile:?}\n{config}")).unwrap();
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent's root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("agent.conf")
    }

    /// Writes a file into the agent's plugins folder.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) {
        let folder = self.root().join("plugins");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    /// Runs a command, such as `["plugin", "inspect"]`, with `-conf` and the arguments, and waits for it.
    #[must_use]
    pub fn command(&self, words: &[&str], arguments: &[&str]) -> Output {
        let mut command = Command::new(crate::wasaba());
        command.args(words).arg("-conf").arg(self.config()).args(arguments);
        command.env("MACKEREL_PLUGIN_WORKDIR", self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the agent below `wasaba supervise`.
    #[must_use]
    pub fn supervise(&self) -> Agent {
        let mut command = Command::new(crate::wasaba());
        command.arg("supervise").arg("-conf").arg(self.config()).stdin(Stdio::null());
        Agent::spawn(command)
    }

    /// Starts the agent.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Agent {
        let mut command = Command::new(crate::wasaba());
        command.arg("-conf").arg(self.config()).args(arguments).stdin(Stdio::null());
        Agent::spawn(command)
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    output: Arc<Lines>,
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// How many of the two streams have reached their end.
    ended: AtomicU32,
}

impl Agent {
    /// Starts `command`, and reads standard output and standard error line by line.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Lines::default());
        collect(&output, child.stdout.take().unwrap());
        collect(&output, child.stderr.take().unwrap());
        Self { child, output }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines printed so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        // Also after a failed assertion: this prints them.
        self.output.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Panics
    /// There is none within `deadline`.
    pub fn line_with(&self, text: &str, deadline: Duration) -> String {
        let end = Instant::now() + deadline;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {text:?} within {deadline:?}; the output:\n{}", lines.join("\n"));
            lines = self.output.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The first child of the process; waits for one.
    ///
    /// # Panics
    /// There is none in time.
    #[must_use]
    pub fn child(&self) -> Pid {
        let end = Instant::now() + crate::SOON;
        loop {
            let own = self.pid();
            let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
            if let Some(child) = text.split_whitespace().next() {
                return Pid::from_raw(child.parse().unwrap()).unwrap();
            }
            assert!(Instant::now() < end, "{own} has no child");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The agent has already exited.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the agent has exited. `deadline` only detects an agent that hangs, even on a busy machine; the duration of a
    /// stop is measured by `make bench`.
    ///
    /// # Panics
    /// The agent does not exit within `deadline`.
    pub fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            // The last lines may still be in the pipes when the process has exited, so both streams must have ended too.
            if self.output.ended.load(Ordering::SeqCst) == 2
                && let Some(status) = self.child.try_wait().unwrap()
            {
                return status;
            }
            assert!(begin.elapsed() < deadline, "still running after {deadline:?}:\n{}", self.lines().join("\n"));
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Kills the agent with SIGKILL.
    ///
    /// # Panics
    /// It has already exited.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    /// Of a failed test, the agent's output is printed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = match self.child.try_wait() {
                Ok(Some(status)) => status.to_string(),
                _ => "running".to_owned(),
            };
            println!("the agent ({state}) printed:\n{}", self.lines().join("\n"));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(output: &Arc<Lines>, stream: impl std::io::Read + Send + 'static) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            output.lines.lock().unwrap().push(line);
            output.more.notify_all();
        }
        output.ended.fetch_add(1, Ordering::SeqCst);
    });
}

/// Standard output of a command that must have succeeded.
///
/// # Panics
/// It failed.
#[must_use]
pub fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error of a command that must have failed.
///
/// # Panics
/// It succeeded.
#[must_use]
pub fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "it succeeded: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Compares with a golden file in `tests/e2e/golden`; with UPDATE=1, records it first.
///
/// # Panics
/// They differ.
pub fn assert_golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, golden, "differs from {}; record it again with UPDATE=1 and read the diff", file.display());
}
