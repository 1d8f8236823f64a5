//! `wasaba plugin dev`: builds, tests and runs the plugin whenever one of its files changes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use std::{env, fs, iter};

use crate::build;
use crate::manifest::Manifest;

/// How often the files are looked at.
const PAUSE: Duration = Duration::from_millis(300);

/// Folders that tools make.
const MADE: [&str; 6] = ["target", "build", "dist", "node_modules", "venv", "__pycache__"];

/// Builds, tests and runs the plugin in `folder` with `settings`, as flags, now and after each change, until it is interrupted.
///
/// # Errors
/// There is no plugin in the folder when it begins.
pub(crate) fn run(folder: &Path, agent: &Path, settings: &[&str]) -> Result<(), String> {
    Manifest::read(folder)?;
    loop {
        // Before the build: what is changed meanwhile is built next.
        let seen = files(folder);
        println!("--- {}", folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display());
        match once(folder, agent, settings) {
            Ok(()) => println!("--- ok; waiting for a change, ^C ends"),
            Err(why) => println!("--- {why}; waiting for a change, ^C ends"),
        }
        while files(folder) == seen {
            #[expect(clippy::disallowed_methods, reason = "a program of its own, which has nothing else to do")]
            std::thread::sleep(PAUSE);
        }
    }
}

/// One round.
fn once(folder: &Path, agent: &Path, settings: &[&str]) -> Result<(), String> {
    let component = build::run(folder)?;
    if let Some(test) = Manifest::read(folder)?.test {
        build::shell(folder, &test).map_err(|why| format!("the native tests failed: {why}"))?;
    }
    let (cases, cache) = (folder.join("tests.toml"), cache());
    let root = cache.iter().flat_map(|cache| [OsStr::new("-root"), cache.as_os_str()]).collect::<Vec<_>>();
    if cases.is_file() {
        let arguments = [component.as_os_str(), cases.as_os_str()];
        wasaba(agent, "test", root.iter().copied().chain(arguments)).map_err(|()| "test cases failed".to_owned())?;
    }
    println!("what it would post now:");
    let arguments = iter::once(component.as_os_str()).chain(settings.iter().map(AsRef::as_ref));
    wasaba(agent, "run", root.iter().copied().chain(arguments)).map_err(|()| "it posts nothing".to_owned())
}

/// Where compiled code is kept from round to round: in the author's cache, whoever the author is, and not with an agent's.
fn cache() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("wasaba"))
}

/// Runs `wasaba plugin COMMAND ARGUMENTS`, which says itself what failed.
fn wasaba<'a>(agent: &Path, command: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<(), ()> {
    let status = Command::new(agent).args(["plugin", command]).args(arguments).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(()),
        Err(error) => {
            println!("cannot run `{}`: {error}", agent.display());
            Err(())
        }
    }
}

/// The plugin's files, each with its size and its time, but not what is built from them.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let (mut folders, mut files) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if !name.starts_with('.') && !MADE.contains(&&*name) && !name.ends_with(".egg-info") {
                    folders.push(path);
                }
            } else if !name.starts_with('.') && !name.contains(".wasm") && !is_lock(&name) {
                files.insert(path, (metadata.len(), metadata.modified().ok()));
            }
        }
    }
    files
}

/// Whether tools write the file.
fn is_lock(name: &str) -> bool {
    matches!(name, "Cargo.lock" | "package-lock.json" | "go.sum")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_is_noticed_but_not_what_a_build_makes() {
        let temp = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "one");
        let first = files(temp.path());
        for made in [
            "target/x",
            "queue.wasm",
            "queue.wasm.part",
            "node_modules/a/b.js",
            ".git/index",
            "Cargo.lock",
            "a/__pycache__/b",
        ] {
            write(made, "made");
        }
        assert_eq!(files(temp.path()), first);
        write("src/lib.rs", "other");
        let second = files(temp.path());
        assert_ne!(second, first);
        write("tests.toml", "");
        assert_ne!(files(temp.path()), second);
    }
}
