//! The harness: the built program as a child process, a real nginx, and what they leave behind cleaned up.

// A harness fails by panicking, with the reason; that is what a test wants of it.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "the harness of tests")]

pub mod agent;
pub mod certificates;
pub mod docker;
pub mod echo;
pub mod hostile;
pub mod nginx;
pub mod postgres;
pub mod redis;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a test waits for what takes a moment on an idle machine: so long that only what hangs takes longer, on a busy one, too.
/// What is promised to be quick is a figure of `make bench`.
pub const SOON: Duration = Duration::from_secs(60);

/// The folder with the program and the official plugins: the one that this test was built into, which `make test` fills, or else
/// the one of `make build`.
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

/// A component built for the tests, `naughty`.
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

/// The root of an agent in which the tests' components are compiled, as `make test` leaves it, for those that need no root of their own.
#[must_use]
pub fn compiled() -> String {
    built().join("compiled").display().to_string()
}

/// A TCP port of loopback on which nothing listens, and nothing else of this process will: each is given out once. It is below those
/// that the kernel takes for connections (32768 and up), so no client takes it before its server does; and the port that a Redis
/// of a cluster adds, 10000 higher, is free in the same way.
///
/// # Panics
/// All are taken.
#[must_use]
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..20_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let count = PORTS.end - PORTS.start;
    for _ in PORTS {
        // Another process that runs these tests begins elsewhere.
        let number = std::process::id().wrapping_mul(97).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + number % count).expect("a port of these");
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// Writes a program, which can be run at once. Another process writes it: a file that this one has open for writing is also open in
/// each child that another test has just forked, and the kernel does not execute such a file ("Text file busy").
///
/// # Panics
/// It cannot be written.
pub fn write_program(file: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(file).arg(text);
    assert!(command.status().expect("a shell").success(), "{}", file.display());
}

/// Copies a program, which can be run at once, as [`write_program`] does.
///
/// # Panics
/// It cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().expect("cp").success(), "{}", to.display());
}

/// Lets every user enter a temporary folder, which is its owner's alone otherwise.
fn readable_by_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("own folder");
}

/// Waits, if need be, for a time from which the next minute is far enough away for two readings to compute with.
pub async fn not_at_the_end_of_a_minute() {
    let second = unix_seconds() % 60.0;
    if second > 35.0 {
        tokio::time::sleep(Duration::from_secs_f64(60.5 - second)).await;
    }
}

/// The wall clock, in seconds since 1970.
#[must_use]
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}
