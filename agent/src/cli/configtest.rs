//! `wasaba configtest`: reports every problem in the configuration at once: exactly those that the running agent would log.

use std::io::Write;

use config::document::{Level, Problem};
use plugins::keeper;

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
        return Err(format!("there is no `{}`; name another file with -conf", file.display()));
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
        let word = |level| if level == Level::Error { "error" } else { "note" };
        let found = found.into_iter().map(|(level, text)| Problem::of_flag(level, format!("{}: {text}", word(level))));
        problems.extend(found);
    }
    let count = |level| problems.iter().filter(|problem| problem.level() == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let text = texts(&problems);
    if errors + warnings > 0 {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        return Err(format!("{text}\n{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings)));
    }
    let notes = if text.is_empty() { text } else { format!("{text}\n") };
    let text = format!("{notes}`{}`: no errors, no warnings\n", file.display());
    std::io::stderr().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
