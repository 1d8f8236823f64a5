//! `wasaba plugin build`: runs the language's compiler, and makes what it compiled a component.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::manifest::{Made, Manifest, Tool};
use crate::wrap;

/// Builds the plugin in `folder`, and returns the path of its component.
///
/// # Errors
/// The manifest is invalid, a tool is missing, the compiler failed, or what it made cannot be used.
pub(crate) fn run(folder: &Path) -> Result<PathBuf, String> {
    let manifest = Manifest::read(folder)?;
    let missing = manifest.tools.iter().filter_map(|tool| missing(folder, tool)).collect::<Vec<_>>();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    shell(folder, &manifest.build).map_err(|why| format!("the build failed: {why}"))?;
    let made = manifest.made()?;
    let (Made::Module(path) | Made::Component(path)) = made;
    let bytes = fs::read(folder.join(path)).map_err(|error| {
        format!("cannot read `{}`, which `build` in plugin.toml should have made: {error}", path.display())
    })?;
    let component = match made {
        Made::Module(_) => wrap::component(&bytes),
        Made::Component(_) => wrap::checked(bytes),
    };
    let component = component.map_err(|why| format!("`{}` cannot be used: {why}", path.display()))?;
    let file = folder.join(format!("{}.wasm", manifest.name));
    write(&file, &component.bytes).map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
    println!("{}: {} KB; it {}", file.display(), component.bytes.len().div_ceil(1000), component.uses());
    Ok(file)
}

/// Runs a command of the manifest in the plugin's folder; what it prints is shown as it comes.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn shell(folder: &Path, command: &str) -> Result<(), String> {
    let status = Command::new("sh").args(["-ec", command]).current_dir(folder).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status} of `{command}`")),
        Err(error) => Err(format!("cannot run `{command}`: {error}")),
    }
}

/// What to do about a tool that is not there.
fn missing(folder: &Path, Tool { program, check, install, version }: &Tool) -> Option<String> {
    let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    if !is_on_path(program, &std::env::var_os("PATH")?) {
        return Some(format!("`{program}`{version} is not installed; install it: {install}"));
    }
    let check = check.as_ref()?;
    let mut command = Command::new("sh");
    command.args(["-c", check]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let works = command.status().is_ok_and(|status| status.success());
    (!works).then(|| format!("`{program}`{version} is there, but `{check}` fails; install what is missing: {install}"))
}

fn is_on_path(program: &str, path: &OsStr) -> bool {
    let is_program =
        |file: PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).any(|folder| is_program(folder.join(program)))
}

/// Replaces the whole file: an agent whose plugins folder this is never reads half of it.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = file.with_extension("wasm.part");
    // What is left of an earlier build, or a link to somewhere else, is not written into.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new().write(true).create_new(true).open(&part)?;
    new.write_all(bytes)?;
    new.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_the_draft_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, file) = (temp.path().join("victim"), temp.path().join("q.wasm"));
        fs::write(&victim, "private").unwrap();
        std::os::unix::fs::symlink(&victim, temp.path().join("q.wasm.part")).unwrap();
        write(&file, b"component").unwrap();
        assert_eq!(
            (fs::read(&victim).unwrap(), fs::read(&file).unwrap()),
            (b"private".to_vec(), b"component".to_vec())
        );
    }

    fn built(manifest: &str) -> (tempfile::TempDir, Result<PathBuf, String>) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("plugin.toml"), format!("name = \"queue\"\n{manifest}")).unwrap();
        let result = run(temp.path());
        (temp, result)
    }

    #[test]
    fn each_missing_tool_is_named_with_the_line_that_installs_it() {
        let tools = "[[tool]]\nprogram = \"no-such-compiler\"\nversion = \">= 3\"\ninstall = \"apt-get install x\"\n\
                     [[tool]]\nprogram = \"sh\"\ncheck = \"exit 3\"\ninstall = \"rustup target add y\"\n\
                     [[tool]]\nprogram = \"sh\"\ncheck = \"true\"\ninstall = \"z\"\n";
        let (_temp, result) = built(&format!("build = \"touch built\"\nmodule = \"m\"\n{tools}"));
        let expected = "`no-such-compiler` >= 3 is not installed; install it: apt-get install x\n\
                        `sh` is there, but `exit 3` fails; install what is missing: rustup target add y";
        assert_eq!(result.unwrap_err(), expected);
        assert!(!_temp.path().join("built").exists());
    }

    #[test]
    fn a_build_that_fails_or_makes_nothing_or_something_else_is_an_error_and_keeps_the_old_component() {
        let (_temp, result) = built("build = \"exit 3\"\nmodule = \"m\"\n");
        assert_eq!(result.unwrap_err(), "the build failed: exit status: 3 of `exit 3`");
        let (_temp, result) = built("build = \"true\"\nmodule = \"m.wasm\"\n");
        let why = result.unwrap_err();
        assert!(
            why.starts_with("cannot read `m.wasm`, which `build` in plugin.toml should have made: No such file"),
            "{why}"
        );
        for kind in ["module", "component"] {
            let (temp, result) = built(&format!("build = \"echo old > queue.wasm; echo text > m\"\n{kind} = \"m\"\n"));
            let why = result.unwrap_err();
            assert!(why.starts_with("`m` cannot be used: it is not WebAssembly"), "{why}");
            assert_eq!(fs::read_to_string(temp.path().join("queue.wasm")).unwrap(), "old\n");
        }
    }
}
