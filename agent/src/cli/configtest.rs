//! `wasaba configtest`: reports at once every problem in the configuration that the agent would find when it starts: in the files, in
//! the components that they name, which are loaded and validated by the same code, in the way to Mackerel, and in the folders of a
//! host. What only a call can show is not found: a server that does not answer, a program that does not run.

use std::io::Write;

use config::Loaded;
use config::document::{Level, Problem};
use plugins::keeper;
use wasaba_core::text::counted;

use super::configuration::{texts, way_to_mackerel};
use super::flags::AgentFlags;

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
    std::io::stderr().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
