//! `wasaba configtest`: reports at once every problem in the configuration that the agent would find when it starts: in the files, in
//! the components that they name, which are loaded and validated by the same code, in the way to Mackerel, and in the folders of a
//! host. What only a call can show is not found: a server that does not answer, a program that does not run.

use std::io::{self, Write};
use std::path::Path;

use config::document::{Level, Problem};
use config::{Config, Loaded};
use plugins::keeper;
use wasaba_core::container;
use wasaba_core::paths::own::Folder;
use wasaba_core::paths::{passing, patient};
use wasaba_core::text::counted;

use super::configuration::{texts, way_to_mackerel};
use super::flags::AgentFlags;
use crate::process::pidfile;

/// Reads the configuration and loads its components. As with the official agent, all output goes to standard error, and a warning
/// is a failure.
///
/// # Errors
/// The problems, and below them how many there are.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let file = flags.file();
    if !file.exists() {
        return Err(Problem::of_missing_file(&file).to_string());
    }
    let Loaded { config, mut problems, knows_key, .. } = flags.loaded();
    if config.api_key.is_none() && knows_key {
        let why = format!("{}: error: there is no `apikey`; the agent would run, but post nothing", file.display());
        problems.push(Problem::of_flag(Level::Error, why));
    }
    problems.extend(way_to_mackerel(&config));
    problems.extend(own_paths(&config));
    let missing = config
        .machine
        .missing(config.display_name.is_some())
        .into_iter()
        .map(|missing| format!("host_root: {missing}"));
    problems.extend(missing.map(|missing| Problem::of_flag(Level::Warning, missing)));
    problems.extend(super::runtime()?.block_on(keeper::problems(&config)));
    let count = |level| problems.iter().filter(|problem| problem.level() == level).count() as u64;
    let (errors, warnings) = (count(Level::Error) + count(Level::Invalid), count(Level::Warning));
    let text = texts(&problems);
    if errors + warnings > 0 {
        return Err(format!("{text}\n{}, {}", counted(errors, "error"), counted(warnings, "warning")));
    }
    let notes = if text.is_empty() { text } else { format!("{text}\n") };
    let text = format!("{notes}`{}`: no errors, no warnings\n", file.display());
    io::stderr().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}

/// What is wrong with the paths of the agent's own files, as far as can be seen without making any.
fn own_paths(config: &Config) -> impl Iterator<Item = Problem> {
    let root = patient::ask(&config.root, patient::LOOK, Folder::would_create).flatten().err();
    let root = root.map(|error| unusable("root", "the folder", &config.root, &error));
    // Below `wasaba container`, the agent has no pid file.
    let pidfile = (!container::is_ours()).then(|| pidfile::check(&config.pidfile).err()).flatten();
    let pidfile = pidfile.map(|error| unusable("pidfile", "the file", &config.pidfile, &error));
    root.into_iter().chain(pidfile)
}

fn unusable(key: &str, what: &str, path: &Path, error: &io::Error) -> Problem {
    let why = format!("`{key}`: the agent cannot use {what} `{}`: {error}", path.display());
    let is_other_user = error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root();
    let (level, cure) = match passing::cure(error) {
        _ if is_other_user => (Level::Note, "unless it is started as a user who can".to_owned()),
        Some(cure) => (Level::Warning, cure.to_owned()),
        None => (Level::Error, format!("name another with `{key}` or -{key}")),
    };
    Problem::of_flag(level, format!("{why}; {cure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_and_a_pid_file_that_can_never_be_made_are_errors_and_a_folder_that_is_only_missing_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let problems = |root: &Path, pidfile: &Path| {
            let config = Config { root: root.to_owned(), pidfile: pidfile.to_owned(), ..Config::default() };
            own_paths(&config).map(|problem| (problem.level(), problem.to_string())).collect::<Vec<_>>()
        };
        let missing = temp.path().join("a/b");
        assert_eq!(problems(&missing, &missing.join("agent.pid")), []);
        assert!(!temp.path().join("a").exists());
        for unusable in [&file, Path::new("/proc/x")] {
            let found = problems(unusable, &unusable.join("agent.pid"));
            let [(root_level, root), (pidfile_level, pidfile)] = &found[..] else { panic!("{found:?}") };
            assert_eq!((*root_level, *pidfile_level), (Level::Error, Level::Error));
            assert!(root.starts_with("`root`: ") && root.contains(&*unusable.to_string_lossy()), "{root}");
            assert!(pidfile.contains("-pidfile"), "{pidfile}");
        }
    }

    #[test]
    fn a_disk_that_is_read_only_now_is_a_warning() {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(unusable("root", "the folder", Path::new("/r"), &error).level(), Level::Warning);
    }
}
