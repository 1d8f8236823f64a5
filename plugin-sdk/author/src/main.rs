//! `wasaba-author`: the half of `wasaba plugin` that only authors need. `wasaba plugin new`, `build` and `dev` start it; it is a program of
//! its own, since it is larger than what it would add to an agent that never writes a plugin.

mod build;
mod dev;
mod language;
mod manifest;
mod new;
mod wrap;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str =
    "usage: wasaba plugin new [--lang LANGUAGE] NAME | build [FOLDER] | dev [FOLDER] [-- -SETTING=VALUE ...]";

fn main() -> ExitCode {
    let arguments = env::args_os().skip(1).collect::<Vec<_>>();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wasaba: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command. `wasaba` has checked the flags and explains them; here they have one form each.
fn run(arguments: &[OsString]) -> Result<(), String> {
    let texts = arguments.iter().map(|argument| argument.to_str()).collect::<Option<Vec<_>>>();
    match texts.as_deref() {
        Some(["new", language, name]) => new::run(language, name),
        Some(["build", folder]) => build::run(Path::new(folder)).map(drop),
        Some(["dev", folder, settings @ ..]) => dev::run(Path::new(folder), &agent(), settings),
        _ => Err(USAGE.to_owned()),
    }
}

/// The program `wasaba`, which started this one.
fn agent() -> PathBuf {
    env::var_os("WASABA_PROGRAM").map_or_else(|| PathBuf::from("wasaba"), PathBuf::from)
}
