//! `wasaba configtest`: everything that is wrong with the configuration, at once. What would be logged when the agent runs is
//! told here, and that is all: there is one strictness.

use std::io::Write;

use config::document::{Level, Problem};
use plugins::keeper;

use super::flags::{AgentFlags, texts};

/// Reads the configuration and loads its components. As with the official agent, everything goes to standard error, and a
/// warning is a failure.
///
/// # Errors
/// What is wrong, with a count at its end.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let file = flags.file();
    if !file.exists() {
        return Err(format!("there is no `{}`; name another with -conf", file.display()));
    }
    let (mut problems, config) = match flags.config() {
        Ok((config, problems)) => (problems, Some(config)),
        Err(problems) => (problems, None),
    };
    if let Some(config) = &config {
        if config.api_key.is_none() {
            let why = format!("{}: error: there is no `apikey`: the agent would run, but post nothing", file.display());
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
    let said = format!("{notes}`{}` is a configuration without errors\n", file.display());
    std::io::stderr().write_all(said.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
