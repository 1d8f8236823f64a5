//! The compiler: a child process that makes code of a component, under limits of its time and memory.
//!
//! Compiling takes a hundred times the memory of running, so the agent itself never does it.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use wasaba_core::environment;
use wasaba_core::limits::{Engine, Limits};
use wasaba_core::text::printable;

use crate::confinement::confine;
use crate::engine;
use crate::foreground::{self, Running};
use crate::needs::{Excess, Needs, Uncounted, count};

/// A component that compiles to more code than this is refused; a Python interpreter compiles to 32 MB.
const LARGEST_CODE_BYTES: u64 = 256 << 20;

/// How much of the child's standard error is kept, and how much of that is shown: a component's names are in it.
const SAID_BYTES: u64 = 4_096;
const SHOWN_BYTES: usize = 1_024;

/// By the clock, compiling may take this many times `compile_seconds`: the agent's child has the lowest priority.
const PATIENCE: u32 = 5;

/// Why a component was not compiled, as the rest of a sentence that begins with its file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// It is not a valid component.
    Invalid(String),
    /// It takes more CPU time than `compile_seconds`.
    TooLong(Duration),
    /// It is not compiled after this long by the clock.
    Stuck(Duration),
    /// Something else has killed the compiler.
    Killed,
    /// Its instances need more than a call may have.
    Excess(Excess),
    /// It takes more bytes of memory than `compile_mib`.
    OutOfMemory(u64),
    /// It compiles to too much code.
    TooMuchCode,
    /// The compiler crashed, or could not be run.
    Compiler(String),
    /// The compiled code cannot be cached.
    Cache(String),
}

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(formatter, "cannot be used as a component: {why}"),
            Self::TooLong(limit) => {
                write!(formatter, "did not finish compiling within {} s of CPU time (limit `compile_seconds`)", limit.as_secs())
            }
            Self::Stuck(limit) => {
                let seconds = limit.as_secs();
                write!(formatter, "did not finish compiling within {seconds} s, {PATIENCE} times the limit `compile_seconds`")
            }
            Self::Killed => formatter.write_str(
                "cannot be compiled: the compiler was killed, probably out of memory: free some, or lower `compile_mib`",
            ),
            Self::Excess(excess) => formatter.write_str(excess),
            Self::OutOfMemory(limit) => {
                write!(formatter, "needs more than {} MiB to compile (limit `compile_mib`)", limit >> 20)
            }
            Self::TooMuchCode => {
                write!(formatter, "compiles to more than {} MiB of code", LARGEST_CODE_BYTES >> 20)
            }
            Self::Compiler(why) | Self::Cache(why) => write!(formatter, "cannot be compiled: {why}"),
        }
    }
}

impl std::error::Error for CompileError {}

/// What the child reports on standard error, and exits with [`REPORTED`]. Its first line is the word, the rest the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CompilerReport {
    /// The component is invalid.
    Invalid(String),
    /// An allocation failed, and the compiler noticed.
    OutOfMemory,
    /// The compiler could not do its work.
    Failed(String),
}

/// The exit code of a child that has reported why there is no code; every command that fails has it.
const REPORTED: i32 = 1;

impl fmt::Display for CompilerReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(formatter, "invalid\n{text}"),
            Self::OutOfMemory => formatter.write_str("out-of-memory"),
            Self::Failed(text) => write!(formatter, "failed\n{text}"),
        }
    }
}

impl CompilerReport {
    fn parse(text: &str) -> Self {
        let (word, rest) = text.trim_end().split_once('\n').unwrap_or((text.trim_end(), ""));
        match word {
            "invalid" => Self::Invalid(rest.to_owned()),
            "out-of-memory" => Self::OutOfMemory,
            "failed" => Self::Failed(rest.to_owned()),
            _ => Self::Failed(text.trim().to_owned()),
        }
    }
}

/// What the compiler makes of a component.
pub(crate) struct Compiled {
    /// What an instance needs.
    pub(crate) needs: Needs,
    /// The code, for wasmtime.
    pub(crate) code: Vec<u8>,
}

/// The code of a component, compiled in a child process. Blocks while the child runs.
pub(crate) fn compile_in_child(kind: Engine, wasm: &[u8], limits: &Limits) -> Result<Compiled, CompileError> {
    let seconds = limits.compile.as_secs().to_string();
    let bytes = limits.compile_bytes.to_string();
    let mut command = environment::own_program("/proc/self/exe");
    command.args(["plugin", "compiler", "--engine", kind.name(), "--cpu-seconds", &seconds, "--memory-bytes", &bytes]);
    command.args(["--instances", &limits.instances.to_string()]);
    command.args(["--start-bytes", &limits.memory_bytes.to_string()]);
    command.args(["--table-elements", &limits.table_elements.to_string()]);
    if foreground::is_awaited() {
        command.arg("--awaited");
    }
    let _running = Running::start();
    let ended = exchange(&mut command, wasm, limits.compile.saturating_mul(PATIENCE))?;
    if ended.is_stuck {
        return Err(CompileError::Stuck(limits.compile.saturating_mul(PATIENCE)));
    }
    let Some(output) = ended.output else { return Err(CompileError::TooMuchCode) };
    if !ended.status.success() {
        return Err(failure(ended.status, &ended.said, limits));
    }
    let (needs, code) =
        Needs::split(&output).ok_or_else(|| CompileError::Compiler("the compiler returned nothing".into()))?;
    needs.check(limits).map_err(CompileError::Excess)?;
    let code = code.to_vec();
    Ok(Compiled { needs, code })
}

/// How a child has ended.
struct Ended {
    status: ExitStatus,
    /// What it wrote to standard output; `None` if that was too much.
    output: Option<Vec<u8>>,
    /// The beginning of what it wrote to standard error.
    said: String,
    /// Whether it was killed because it took longer than its time by the clock.
    is_stuck: bool,
}

/// Runs `command` with `input`, and reads both of its outputs as they come, so that it never waits for us, whichever it fills.
fn exchange(command: &mut Command, input: &[u8], time: Duration) -> Result<Ended, CompileError> {
    let cannot =
        |what: &str, error: std::io::Error| CompileError::Compiler(format!("cannot {what} the compiler: {error}"));
    let child = command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| cannot("start", error))?;
    let id = Pid::from_child(&child);
    let (ended, is_ended) = mpsc::channel::<()>();
    let (output, said, is_stuck) = thread::scope(|scope| {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // If it ends before it has read everything, its status says why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let said = scope.spawn(move || beginning(stderr));
        let clock = scope.spawn(move || {
            // The sender is only ever dropped.
            let is_stuck = is_ended.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout);
            if is_stuck {
                kill_process(id, Signal::KILL).ok();
            }
            is_stuck
        });
        let output = whole(stdout);
        if !matches!(output, Ok(Some(_))) {
            kill_process(id, Signal::KILL).ok();
        }
        // Not reaped yet, so that the id is still its own when the clock kills it.
        let exited = waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        drop(ended);
        let is_stuck = clock.join().unwrap_or_default();
        exited.map(|_| (output, said.join().unwrap_or_default(), is_stuck))
    })
    .map_err(|error| cannot("wait for", error.into()))?;
    let status = child.wait().map_err(|error| cannot("wait for", error))?;
    let output = output.map_err(|error| cannot("read from", error))?;
    Ok(Ended { status, output, said, is_stuck })
}

/// Everything that comes, unless it is too much.
fn whole(stream: Option<impl Read>) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LARGEST_CODE_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    Ok((bytes.len() as u64 <= LARGEST_CODE_BYTES).then_some(bytes))
}

/// The beginning of what comes, as text; the rest is read and dropped.
fn beginning(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.by_ref().take(SAID_BYTES).read_to_end(&mut bytes).ok();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why a child that did not succeed has ended.
fn failure(status: ExitStatus, said: &str, limits: &Limits) -> CompileError {
    let out_of_memory = CompileError::OutOfMemory(limits.compile_bytes);
    match (status.code(), status.signal()) {
        (Some(REPORTED), _) => match CompilerReport::parse(said) {
            CompilerReport::Invalid(text) => CompileError::Invalid(first_lines(&text)),
            CompilerReport::OutOfMemory => out_of_memory,
            CompilerReport::Failed(text) => CompileError::Compiler(first_lines(&text)),
        },
        // The system stops a process that has used up its CPU time.
        (_, Some(libc::SIGXCPU)) => CompileError::TooLong(limits.compile),
        (_, Some(libc::SIGKILL)) => CompileError::Killed,
        // Rust aborts when an allocation fails; a stack that cannot grow is an invalid access.
        (_, Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS)) => out_of_memory,
        _ => CompileError::Compiler(format!("the compiler crashed ({status}): {}", first_lines(said))),
    }
}

/// What the child is asked for, and may use.
#[derive(Clone, Debug)]
pub struct Order {
    /// The engine that will run the code.
    pub engine: Engine,
    /// The limit of CPU time, in seconds.
    pub cpu_seconds: u64,
    /// The limit of address space, in bytes.
    pub memory_bytes: u64,
    /// The limits of the component's instances: `instances`, `memory_bytes` and `table_elements` count.
    pub limits: Limits,
    /// Whether someone waits for it.
    pub is_awaited: bool,
}

/// The child's side: bytes in, what the component needs and its code out; no code if it needs more than its limits. The component
/// may be hostile, so confinement comes first.
///
/// # Errors
/// The report for the agent, to be printed to standard error.
pub fn compile(order: &Order, wasm: impl Read, code: impl Write) -> Result<(), String> {
    compiled(order, wasm, code).map_err(|report| report.to_string())
}

fn compiled(order: &Order, mut wasm: impl Read, mut code: impl Write) -> Result<(), CompilerReport> {
    if !order.is_awaited {
        // Collecting comes first; a compiler can wait.
        rustix::process::nice(10)
            .map_err(|error| CompilerReport::Failed(format!("cannot lower the priority: {error}")))?;
    }
    confine(order.cpu_seconds, order.memory_bytes).map_err(CompilerReport::Failed)?;
    let mut bytes = Vec::new();
    wasm.read_to_end(&mut bytes).map_err(|error| io_report("read the component", &error))?;
    let needs = count(&bytes).map_err(|uncounted| match uncounted {
        Uncounted::Invalid(text) => CompilerReport::Invalid(first_lines(&text)),
        Uncounted::Given => CompilerReport::Invalid(
            "it instantiates a module or component that it imports, so that its instances cannot be counted".into(),
        ),
    })?;
    let compiled = if needs.check(&order.limits).is_ok() {
        let compiled = engine::for_compiling(order.engine).and_then(|engine| engine.precompile_component(&bytes));
        compiled.map_err(|error| {
            let invalid = || CompilerReport::Invalid(first_lines(&format!("{error:#}")));
            if is_out_of_memory(&error) { CompilerReport::OutOfMemory } else { invalid() }
        })?
    } else {
        Vec::new()
    };
    let written = code.write_all(&needs.to_bytes()).and_then(|()| code.write_all(&compiled));
    written.and_then(|()| code.flush()).map_err(|error| io_report("hand over the code", &error))
}

fn io_report(what: &str, error: &std::io::Error) -> CompilerReport {
    match error.kind() {
        std::io::ErrorKind::OutOfMemory => CompilerReport::OutOfMemory,
        _ => CompilerReport::Failed(format!("cannot {what}: {error}")),
    }
}

/// Whether the engine failed because it could not allocate or map memory.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    let is_io = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        let errno = cause.downcast_ref::<rustix::io::Errno>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
            || errno == Some(&rustix::io::Errno::NOMEM)
    };
    error.is::<wasmtime::OutOfMemory>() || error.chain().any(is_io)
}

/// wasmtime's validation errors fill pages, and quote the component; their beginning says what is wrong.
fn first_lines(text: &str) -> String {
    printable(&text.lines().take(3).collect::<Vec<_>>().join(" "), SHOWN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The report of a compiler with these limits, as the agent would read it.
    fn ended(status: i32, said: &str) -> CompileError {
        failure(ExitStatus::from_raw(status), said, &Limits::default())
    }

    #[test]
    fn every_end_of_a_compiler_has_its_own_error() {
        let limits = Limits::default();
        let reported = |report: CompilerReport| ended(REPORTED << 8, &format!("{report}\n"));
        let text = "unexpected end\nat offset 9".to_owned();
        let shown = "unexpected end at offset 9".to_owned();
        assert_eq!(reported(CompilerReport::Invalid(text.clone())), CompileError::Invalid(shown.clone()));
        assert_eq!(reported(CompilerReport::Failed(text)), CompileError::Compiler(shown));
        let out_of_memory = CompileError::OutOfMemory(limits.compile_bytes);
        assert_eq!(reported(CompilerReport::OutOfMemory), out_of_memory);
        assert_eq!(ended(libc::SIGABRT, "memory allocation of 9 bytes failed"), out_of_memory);
        assert_eq!(ended(libc::SIGABRT, ""), out_of_memory);
        assert_eq!(ended(libc::SIGXCPU, ""), CompileError::TooLong(limits.compile));
        assert_eq!(ended(libc::SIGKILL, ""), CompileError::Killed);
        assert!(CompileError::Killed.to_string().contains("killed, probably out of memory"));
        let panicked = ended(101 << 8, "thread 'main' panicked: out of memory");
        assert!(matches!(&panicked, CompileError::Compiler(text) if text.contains("panicked")), "{panicked:?}");
    }

    #[test]
    fn a_failed_allocation_is_distinguished_from_an_invalid_component() {
        let mapped = wasmtime::Error::from(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        assert!(is_out_of_memory(&mapped.context("cannot map")));
        let invalid = engine::for_compiling(Engine::Pulley).unwrap().precompile_component(b"out of memory");
        assert!(!is_out_of_memory(&invalid.unwrap_err()));
    }

    /// Runs a shell as the child.
    fn shell(line: &str, input: &[u8], time: Duration) -> Ended {
        exchange(Command::new("/bin/sh").args(["-c", line]), input, time).unwrap()
    }

    #[test]
    fn a_child_that_fills_both_pipes_before_it_reads_does_not_hang() {
        let input = vec![b'x'; 1 << 20];
        let line = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; cat";
        let ended = shell(line, &input, Duration::from_secs(600));
        assert!(ended.status.success() && !ended.is_stuck);
        assert_eq!(ended.output.unwrap().len(), 300_000 + (1 << 20));
        assert_eq!(ended.said.len() as u64, SAID_BYTES);
    }

    #[test]
    fn a_child_that_never_ends_is_killed_by_the_clock() {
        let ended = shell("exec sleep 1000", b"", Duration::from_millis(50));
        assert!(ended.is_stuck && ended.status.signal() == Some(libc::SIGKILL));
    }

    #[test]
    fn a_child_that_ends_without_reading_reports_by_its_status() {
        let ended = shell("echo why >&2; exit 3", &vec![b'x'; 1 << 20], Duration::from_secs(600));
        assert_eq!((ended.status.code(), ended.said.as_str(), ended.is_stuck), (Some(3), "why\n", false));
    }

    #[test]
    fn a_report_is_cut_however_long_the_names_in_it_are() {
        let long = format!("unknown import {}", "x".repeat(99_000));
        let CompileError::Invalid(text) = ended(REPORTED << 8, &format!("invalid\n{long}")) else { panic!() };
        assert!(text.len() <= SHOWN_BYTES + 4, "{} bytes", text.len());
    }
}
