//! Golden files: the whole expected output of a test, recorded with `UPDATE=1`.

use std::path::{Path, PathBuf};

const MACHINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/machine");

/// A file of the frozen machine in `tests/fixtures/machine`.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    Path::new(MACHINE).join(name)
}

/// Compares the whole value with a golden file of the frozen machine; with `UPDATE=1` in the environment, records it first.
///
/// # Panics
/// They differ.
#[track_caller]
pub fn assert_golden(name: &str, now: &impl serde::Serialize) {
    let now = serde_json::to_string_pretty(now).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file(name), &now).unwrap();
    }
    let golden = std::fs::read_to_string(file(name)).unwrap_or_default();
    assert!(golden == now, "{name} differs; record it again with UPDATE=1 and read the diff. Now:\n{now}");
}
