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
use crate::process::{confinement, look, pidfile};

/// Reads the configuration and loads its components. As with the official agent, all output goes to standard error, and a warning
/// is a failure.
///
/// # Errors
/// The problems, and below them how many there are.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let is_agents_user = flags.become_agent()?;
    let file = flags.file();
    look::at(format_args!("`{}`", file.display()));
    if !file.exists() {
        return Err(Problem::of_missing_file(&file).to_string());
    }
    let Loaded { config, mut problems, knows_key, .. } = flags.loaded();
    if config.api_key.is_none() && knows_key {
        let why = format!(
            "{}: error: there is no `apikey`, so the agent would run, but post nothing: write it above all tables",
            file.display()
        );
        problems.push(Problem::of_flag(Level::Error, why));
    }
    problems.extend(way_to_mackerel(&config));
    let (root, pidfile) = own_paths(&config);
    // What is in a root that cannot be used fails for the same reason.
    let has_root = root.as_ref().is_none_or(|problem| !problem.is_error());
    // An agent with a user of its own has its pid file from the unit.
    problems.extend(root.into_iter().chain(pidfile.filter(|_| !is_agents_user)));
    let missing = config
        .machine
        .missing(config.display_name.is_some())
        .into_iter()
        .map(|missing| config.places.problem("host_root", Level::Warning, format!("host_root: {missing}")));
    problems.extend(missing);
    problems.extend(super::runtime()?.block_on(keeper::problems(&config, has_root)));
    problems.extend(confinement::of_unit(&config));
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

/// What is wrong with the root and the pid file, as far as can be seen without making any.
fn own_paths(config: &Config) -> (Option<Problem>, Option<Problem>) {
    let root = patient::ask(&config.root, patient::LOOK, Folder::would_create).flatten().err();
    let root = root.map(|error| unusable(config, "root", "the folder", &config.root, &error));
    // Below `wasaba container`, the agent has no pid file.
    let pidfile = (!container::is_ours()).then(|| pidfile::check(&config.pidfile).err()).flatten();
    let pidfile = pidfile.map(|error| unusable(config, "pidfile", "the file", &config.pidfile, &error));
    (root, pidfile)
}

fn unusable(config: &Config, key: &str, what: &str, path: &Path, error: &io::Error) -> Problem {
    let why = format!("`{key}`: the agent cannot use {what} `{}`: {error}", path.display());
    let is_other_user = error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root();
    let (level, cure) = match passing::cure(error) {
        _ if is_other_user => (Level::Note, "unless it is started as a user who can".to_owned()),
        Some(cure) => (Level::Warning, cure.to_owned()),
        None => (Level::Error, format!("name another with `{key}` or -{key}")),
    };
    config.places.problem(key, level, format!("{why}; {cure}"))
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
            let (root, pidfile) = own_paths(&config);
            let both = root.into_iter().chain(pidfile);
            both.map(|problem| (problem.level(), problem.to_string())).collect::<Vec<_>>()
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
    fn a_path_that_cannot_be_used_is_named_with_its_file_and_line_unless_a_flag_has_it() {
        let text = "apikey = \"k\"\nroot = \"/proc/x\"\n\npidfile = \"/proc/y/pid\"\n";
        let (mut config, _) = config::parse(Path::new("a.conf"), text).unwrap();
        let shown = |config: &Config| {
            let (root, pidfile) = own_paths(config);
            [root, pidfile].map(|problem| problem.unwrap().to_string())
        };
        let [root, pidfile] = shown(&config);
        assert!(root.starts_with("a.conf:2: error: `root`: the agent cannot use the folder `/proc/x`: "), "{root}");
        assert!(pidfile.starts_with("a.conf:4: error: `pidfile`: "), "{pidfile}");
        config.places.forget("root");
        assert!(shown(&config)[0].starts_with("`root`: "));
    }

    #[test]
    fn a_disk_that_is_read_only_now_is_a_warning() {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(unusable(&Config::default(), "root", "the folder", Path::new("/r"), &error).level(), Level::Warning);
    }
}
