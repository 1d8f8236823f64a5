//! The harness: the shipped program as a child process, a real nginx, and what they leave behind cleaned up.

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

use std::path::PathBuf;

/// The target folder that this test was built in. The tests themselves are a debug build, the program is the shipped one.
///
/// # Panics
/// The program was not built.
#[must_use]
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.ancestors().find(|folder| folder.join("release/wasaba").is_file());
    target.unwrap_or_else(|| panic!("no `release/wasaba` above {}: run `make build`", test.display())).to_owned()
}

/// The shipped program.
#[must_use]
pub fn wasaba() -> PathBuf {
    target().join("release/wasaba")
}

/// A component built for the tests, `naughty`.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    target().join("wasm32-wasip2/plugin").join(format!("{name}.wasm"))
}

/// A TCP port of loopback that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Lets every user enter a temporary folder, which is its owner's alone otherwise.
fn readable_by_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("own folder");
}

/// Waits, if need be, for a time from which the next minute is far enough away for two readings to compute with.
pub async fn not_at_the_end_of_a_minute() {
    let second = unix_seconds() % 60.0;
    if second > 35.0 {
        tokio::time::sleep(std::time::Duration::from_secs_f64(60.5 - second)).await;
    }
}

/// The wall clock, in seconds since 1970.
#[must_use]
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}
