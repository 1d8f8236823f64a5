//! The test harness: the built program as a child process, and real servers, all of which clean up after themselves.

// The harness fails by panicking with the reason.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "the harness of tests")]

pub mod agent;
pub mod certificates;
pub mod docker;
pub mod echo;
pub mod hostile;
pub mod nginx;
pub mod packages;
pub mod postgres;
pub mod redis;
pub mod suite;
pub mod zoo;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a test waits for something that takes a moment on an idle machine: long enough that even on a busy one, only something
/// that hangs takes longer. Durations are measured by `make bench`.
pub const SOON: Duration = Duration::from_secs(60);

/// The folder with the program and the official plugins: the one that this test was built into, which `make test` fills, or the
/// one of `make build`.
///
/// # Panics
/// The program was not built.
#[must_use]
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folders = test.ancestors().flat_map(|folder| [folder.to_owned(), folder.join("release")]);
    let mut complete = folders.filter(|folder| folder.join("wasaba").is_file() && folder.join("plugins").is_dir());
    complete.next().unwrap_or_else(|| panic!("no `wasaba` with `plugins` above {}: run `make e2e`", test.display()))
}

/// The tested program.
#[must_use]
pub fn wasaba() -> PathBuf {
    built().join("wasaba")
}

/// An official plugin.
#[must_use]
pub fn official(name: &str) -> PathBuf {
    built().join("plugins").join(format!("{name}.wasm"))
}

/// A component built for the tests, such as `naughty`.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    let built = built();
    let file = Path::new("wasm32-wasip2/plugin").join(format!("{name}.wasm"));
    let mut files = built.ancestors().map(|folder| folder.join(&file)).filter(|file| file.is_file());
    files.next().unwrap_or_else(|| panic!("no `{}` above {}: run `make e2e`", file.display(), built.display()))
}

/// An agent's root with the precompiled components of the tests, from `make test`, for commands that do not need a separate root.
#[must_use]
pub fn compiled() -> String {
    built().join("compiled").display().to_string()
}

/// A TCP port of loopback on which nothing listens. Each is returned once in this process. It is below the ephemeral ports of the
/// kernel (32768 and up), so no client can take it before its server does. The port 10000 higher, which a Redis cluster node also
/// uses, is free too.
///
/// # Panics
/// No port is free.
#[must_use]
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..20_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let count = PORTS.end - PORTS.start;
    for _ in PORTS {
        // Another process that runs these tests starts at another port.
        let number = std::process::id().wrapping_mul(97).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + number % count).expect("a port of these");
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// Writes a program that can be executed immediately. A child process writes it: a file that this process has open for writing is
/// also open in a child that another test has just forked, and the kernel refuses to execute such a file ("Text file busy").
///
/// # Panics
/// It cannot be written.
pub fn write_program(file: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(file).arg(text);
    assert!(command.status().expect("a shell").success(), "{}", file.display());
}

/// Copies a program that can be executed immediately, in a child process like [`write_program`].
///
/// # Panics
/// It cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().expect("cp").success(), "{}", to.display());
}

/// Makes a temporary folder, which only its owner may enter by default, readable by all users.
fn readable_by_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("own folder");
}

/// Waits, if necessary, until the next minute is at least 25 s away, so that a rate between two readings is meaningful.
pub async fn not_at_the_end_of_a_minute() {
    let second = unix_seconds() % 60.0;
    if second > 35.0 {
        tokio::time::sleep(Duration::from_secs_f64(60.5 - second)).await;
    }
}

/// The wall clock, in seconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the tests use no part of the agent, not even its clock")]
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}
