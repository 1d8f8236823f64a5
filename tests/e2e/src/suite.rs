//! The suite of the SDKs, `tests/sdk`: the same plugins in each language, built by its own tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{built, wasaba};

/// The languages with a folder in the suite. The plugins in Rust are with those of the other tests.
pub const LANGUAGES: [&str; 4] = ["python", "javascript", "go", "c"];

/// The folder of the suite.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk")).to_owned()
}

/// The folder with `everything.wasm` and `naughty.wasm` in this language, which it builds if something that they are made of has changed.
///
/// # Panics
/// They cannot be built.
#[must_use]
pub fn components(language: &str) -> PathBuf {
    let target = built().join("sdk").join(language);
    let mut build = Command::new("sh");
    build.arg(folder().join(language).join("build.sh")).arg(&target).stdin(Stdio::null());
    // `make test` has installed clang; zig would have to be downloaded, and would compile its own libc.
    build.env("WASABA", wasaba()).env("CC_FOR_WASM", "clang --target=wasm32-wasi").env_remove("RUSTC_BOOTSTRAP");
    let output = build.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{build:?}: {}", said.concat());
    target
}
