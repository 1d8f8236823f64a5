//! The compiler: a child process that makes code of a component, under limits of its time and memory.
//!
//! Compiling takes a hundred times the memory of running, so the agent itself never does it.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use wasaba_core::limits::{Engine, Limits};

use crate::engine;

/// A component that compiles to more code than this is refused; a Python interpreter compiles to 32 MB.
const LARGEST_CODE_BYTES: u64 = 256 << 20;

/// Why a component was not compiled, as the rest of a sentence that begins with its file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// It is not a valid component.
    Invalid(String),
    /// It takes more CPU time than `compile_seconds`.
    TooLong(Duration),
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
                write!(formatter, "takes longer than {} s to compile (limit `compile_seconds`)", limit.as_secs())
            }
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
enum Report {
    /// The component is invalid.
    Invalid(String),
    /// An allocation failed, and the compiler noticed.
    OutOfMemory,
    /// The compiler could not do its work.
    Failed(String),
}

/// The exit code of a child that has reported why there is no code; every command that fails has it.
const REPORTED: i32 = 1;

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(formatter, "invalid\n{text}"),
            Self::OutOfMemory => formatter.write_str("out-of-memory"),
            Self::Failed(text) => write!(formatter, "failed\n{text}"),
        }
    }
}

impl Report {
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

/// The code of a component, compiled in a child process. Blocks while the child runs.
pub(crate) fn compile_in_child(kind: Engine, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, CompileError> {
    let seconds = limits.compile.as_secs().to_string();
    let bytes = limits.compile_bytes.to_string();
    let child = Command::new("/proc/self/exe")
        .args(["plugin", "compiler", "--engine", kind.name(), "--cpu-seconds", &seconds, "--memory-bytes", &bytes])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let cannot =
        |what: &str, error: std::io::Error| CompileError::Compiler(format!("cannot {what} the compiler: {error}"));
    let mut child = child.map_err(|error| cannot("start", error))?;
    let code = exchange(&mut child, wasm);
    if !matches!(&code, Ok(Some(_))) {
        child.kill().ok();
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_end(&mut said).ok();
    }
    let status = child.wait().map_err(|error| cannot("wait for", error))?;
    match code {
        Ok(None) => Err(CompileError::TooMuchCode),
        Ok(Some(code)) if status.success() => Ok(code),
        // A broken pipe only says that it has ended; its status says why.
        Err(error) if status.success() || error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(cannot("talk to", error))
        }
        _ => Err(failure(status, &String::from_utf8_lossy(&said), limits)),
    }
}

/// Why a child that did not succeed has ended.
fn failure(status: ExitStatus, said: &str, limits: &Limits) -> CompileError {
    let out_of_memory = CompileError::OutOfMemory(limits.compile_bytes);
    match (status.code(), status.signal()) {
        (Some(REPORTED), _) => match Report::parse(said) {
            Report::Invalid(text) => CompileError::Invalid(text),
            Report::OutOfMemory => out_of_memory,
            Report::Failed(text) => CompileError::Compiler(text),
        },
        // The system kills a process that has used up its CPU time.
        (_, Some(libc::SIGXCPU | libc::SIGKILL)) => CompileError::TooLong(limits.compile),
        // Rust aborts when an allocation fails; a stack that cannot grow is an invalid access.
        (_, Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS)) => out_of_memory,
        _ => CompileError::Compiler(format!("the compiler crashed ({status}): {}", first_lines(said))),
    }
}

/// Sends the component and receives the code; `None` if it is too much. The child reads everything before it writes anything,
/// so neither side waits for the other.
fn exchange(child: &mut Child, wasm: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(stdin) = &mut stdin {
        stdin.write_all(wasm)?;
    }
    drop(stdin);
    let mut code = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(LARGEST_CODE_BYTES.saturating_add(1)).read_to_end(&mut code)?;
    }
    Ok((code.len() as u64 <= LARGEST_CODE_BYTES).then_some(code))
}

/// The child's side: bytes in, code out. The component may be hostile, so the limits come first.
///
/// # Errors
/// The report for the agent, to be printed to standard error.
pub fn compile(
    kind: Engine,
    cpu_seconds: u64,
    memory_bytes: u64,
    wasm: impl Read,
    code: impl Write,
) -> Result<(), String> {
    compiled(kind, cpu_seconds, memory_bytes, wasm, code).map_err(|report| report.to_string())
}

fn compiled(
    kind: Engine,
    cpu_seconds: u64,
    memory_bytes: u64,
    mut wasm: impl Read,
    mut code: impl Write,
) -> Result<(), Report> {
    // Collecting comes first; a compiler can wait.
    rustix::process::nice(10).map_err(|error| Report::Failed(format!("cannot lower the priority: {error}")))?;
    for (resource, limit) in
        [(Resource::Cpu, cpu_seconds), (Resource::As, memory_bytes), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| Report::Failed(format!("cannot limit the compiler: {error}")))?;
    }
    let mut bytes = Vec::new();
    wasm.read_to_end(&mut bytes).map_err(|error| io_report("read the component", &error))?;
    let compiled = engine::for_compiling(kind).and_then(|engine| engine.precompile_component(&bytes));
    let compiled = compiled.map_err(|error| {
        if is_out_of_memory(&error) { Report::OutOfMemory } else { Report::Invalid(first_lines(&format!("{error:#}"))) }
    })?;
    code.write_all(&compiled).and_then(|()| code.flush()).map_err(|error| io_report("hand over the code", &error))
}

fn io_report(what: &str, error: &std::io::Error) -> Report {
    match error.kind() {
        std::io::ErrorKind::OutOfMemory => Report::OutOfMemory,
        _ => Report::Failed(format!("cannot {what}: {error}")),
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

/// wasmtime's validation errors fill pages; their beginning says what is wrong.
fn first_lines(text: &str) -> String {
    text.lines().take(3).collect::<Vec<_>>().join(" ")
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
        let reported = |report: Report| ended(REPORTED << 8, &format!("{report}\n"));
        let text = "unexpected end\nat offset 9".to_owned();
        assert_eq!(reported(Report::Invalid(text.clone())), CompileError::Invalid(text.clone()));
        assert_eq!(reported(Report::Failed(text.clone())), CompileError::Compiler(text));
        let out_of_memory = CompileError::OutOfMemory(limits.compile_bytes);
        assert_eq!(reported(Report::OutOfMemory), out_of_memory);
        assert_eq!(ended(libc::SIGABRT, "memory allocation of 9 bytes failed"), out_of_memory);
        assert_eq!(ended(libc::SIGABRT, ""), out_of_memory);
        assert_eq!(ended(libc::SIGKILL, ""), CompileError::TooLong(limits.compile));
        let panicked = ended(101 << 8, "thread 'main' panicked: out of memory");
        assert!(matches!(&panicked, CompileError::Compiler(text) if text.contains("panicked")), "{panicked:?}");
    }

    #[test]
    fn a_failed_allocation_is_told_apart_from_an_invalid_component() {
        let mapped = wasmtime::Error::from(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        assert!(is_out_of_memory(&mapped.context("cannot map")));
        let invalid = engine::for_compiling(Engine::Pulley).unwrap().precompile_component(b"out of memory");
        assert!(!is_out_of_memory(&invalid.unwrap_err()));
    }
}
