//! `wasaba plugin new`, `build` and `dev`: for authors alone, so a program of its own beside this one.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use wasaba_core::environment;

const PROGRAM: &str = "wasaba-author";

/// Becomes the authors' program; returns only if that fails.
///
/// # Errors
/// It is not installed.
pub fn run(command: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let own = std::env::current_exe().ok();
    let beside = own.as_ref().and_then(|own| Some(own.parent()?.join(PROGRAM))).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| PathBuf::from(PROGRAM));
    let mut run = environment::program(&program);
    run.arg(command).args(arguments);
    run.env("WASABA_PROGRAM", own.as_deref().map_or(OsStr::new("wasaba"), |own| own.as_os_str()));
    let error = run.exec();
    Err(format!(
        "cannot run `{}`: {error}; `plugin {command}` needs this program, which `make build` puts beside wasaba",
        program.display()
    ))
}
