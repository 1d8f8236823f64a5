//! `wasaba configtest`: reports at once every problem in the configuration that the agent would find when it starts: in the files, and in
//! the components that they name, which are loaded and validated by the same code. What only a call can show is not found: a server that
//! does not answer, a program that does not run.

use std::io::Write;

use config::document::{Level, Problem};
use plugins::keeper;
use wasaba_core::text::counted;

use super::configuration::texts;
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
    let (mut problems, config) = match flags.config() {
        Ok((config, problems)) => (problems, Some(config)),
        Err(problems) => (problems, None),
    };
    if let Some(config) = &config {
        if config.api_key.is_none() {
            let why = format!("{}: error: there is no `apikey`; the agent would run, but post nothing", file.display());
            problems.push(Problem::of_flag(Level::Error, why));
        }
        let found = super::runtime()?.block_on(keeper::problems(config));
        problems.extend(found.into_iter().map(|text| Problem::of_flag(Level::Error, text)));
    }
    let count = |level| problems.iter().filter(|problem| problem.level() == level).count() as u64;
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let text = texts(&problems);
    if errors + warnings > 0 {
        return Err(format!("{text}\n{}, {}", counted(errors, "error"), counted(warnings, "warning")));
    }
    let notes = if text.is_empty() { text } else { format!("{text}\n") };
    let text = format!("{notes}`{}`: no errors, no warnings\n", file.display());
    std::io::stderr().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
