//! The tables of plugins: `[plugin.metrics.NAME]`, `[plugin.checks.NAME]` and `[plugin.metadata.NAME]`; and the `.toml` file beside a
//! component.

mod checks;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use containers::Docker;
use official::command::{OfficialCommand, Search};
use official::command_line::{CommandLine, unexpanded, unset};
use official::programs::process::path;
use official::programs::{Command, MetricsProgram, Program};
use official::shell::{SimpleCommand, simple_command};
use wasaba_core::limits::LONGEST_CALL;
use wasaba_core::text::printable;

use self::checks::{check, metadata};
pub use self::settings::{beside, of_text, settings};
pub(super) use self::settings::{pattern, posting, trust};
use super::Config;
use super::document::{Reader, Section, ValueKind};
use super::draft::{KEYS_ABOVE, Skipped};
use crate::metrics::{Metrics, MetricsPlugin, OfficialLine, StandIn};
use crate::table::PluginTable;

/// The official agent reads all of these in every plugin's table, and ignores those that have no effect there.
const OFFICIAL: &[(&str, ValueKind)] = &[
    ("action", ValueKind::Table),
    ("check_interval", ValueKind::Minutes),
    ("custom_identifier", ValueKind::Text),
    ("exclude_pattern", ValueKind::Text),
    ("execution_interval", ValueKind::Minutes),
    ("include_pattern", ValueKind::Text),
    ("max_check_attempts", ValueKind::Integer),
    ("memo", ValueKind::Text),
    ("notification_interval", ValueKind::Minutes),
    ("prevent_alert_auto_close", ValueKind::Boolean),
    ("use_plugin_timestamp", ValueKind::Boolean),
    ("user", ValueKind::Text),
];

/// The longest timeout of a program: one day.
const LONGEST_TIMEOUT_SECONDS: u64 = 86_400;

/// Merges the plugins of this document into `config`; a plugin replaces an earlier one of the same kind and name. `skipped` are those
/// whose last table is invalid.
pub(super) fn merge(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config, skipped: &mut Skipped) {
    if top.has("plugin") && !reader.is_table(top, "plugin") {
        let span = top.span_of("plugin");
        reader.skip(top, "plugin");
        // The official agent ignores it, too.
        return reader.warn(span, "`plugin` is ignored: it must be a table, like [plugin.metrics.NAME]".to_owned());
    }
    let Some(mut plugin) = reader.section(top, "plugin") else { return };
    for (name, section) in tables(reader, &mut plugin, "metrics") {
        if let Some(runs) = read(reader, section, &name, skipped, metrics) {
            let plugin = MetricsPlugin { name: name.as_str().into(), runs };
            replace(&mut config.metrics, plugin, |other| *other.name == *name);
        }
    }
    for (name, section) in tables(reader, &mut plugin, "checks") {
        if let Some(check) = read(reader, section, &name, skipped, check) {
            replace(&mut config.checks, check, |check| *check.name == *name);
        }
    }
    for (name, section) in tables(reader, &mut plugin, "metadata") {
        if let Some(metadata) = read(reader, section, &name, skipped, metadata) {
            replace(&mut config.metadata, metadata, |metadata| *metadata.name == *name);
        }
    }
    reader.finish(plugin);
}

/// Reads the table of a plugin. One with an error is skipped, and the agent runs without it.
fn read<T>(
    reader: &mut Reader<'_>,
    mut section: Section<'_>,
    name: &str,
    skipped: &mut Skipped,
    read: impl FnOnce(&mut Reader<'_>, &mut Section<'_>, &str) -> Option<T>,
) -> Option<T> {
    let table = section.name.clone();
    let (found, is_valid) = reader.skipping(&table, |reader| {
        let found = read(reader, &mut section, name);
        reader.ignore(&mut section, OFFICIAL);
        reader.finish(section);
        found
    });
    skipped.note(table, is_valid);
    found
}

/// Replaces the element that `is_same` finds, or appends `new`.
fn replace<T>(all: &mut Vec<T>, new: T, is_same: impl Fn(&T) -> bool) {
    match all.iter_mut().find(|other| is_same(other)) {
        Some(other) => *other = new,
        None => all.push(new),
    }
}

/// Every program of the configuration, including actions.
pub(super) fn programs(config: &mut Config) -> impl Iterator<Item = &mut Program> {
    let metrics = config.metrics.iter_mut().filter_map(|plugin| match &mut plugin.runs {
        Metrics::Program(program) => Some(&mut program.program),
        Metrics::Official(line) => Some(&mut line.program.program),
        Metrics::Component(_) => None,
    });
    let checks =
        config.checks.iter_mut().flat_map(|check| check.runner.program_mut().into_iter().chain(&mut check.action));
    metrics.chain(checks).chain(config.metadata.iter_mut().filter_map(|metadata| metadata.runner.program_mut()))
}

/// The tables of one kind, with their names.
fn tables<'b>(reader: &mut Reader<'_>, plugin: &mut Section<'b>, kind: &str) -> Vec<(String, Section<'b>)> {
    let (all, _) = reader.skipping(&format!("[plugin.{kind}]"), |reader| reader.section(plugin, kind));
    let Some(mut all) = all else { return Vec::new() };
    let mut tables = Vec::new();
    for name in all.keys() {
        let table = format!("[plugin.{kind}.{}]", printable(&name, 80));
        let (section, _) = reader.skipping(&table, |reader| {
            if !reader.is_table(&mut all, &name) {
                let key = printable(&name, 80);
                let cure = format!("give the plugin a name, like [plugin.{kind}.NAME]");
                reader.fail(all.span_of(&name), format!("`{key}` stands in [plugin.{kind}] itself: {cure}"));
                reader.skip(&mut all, &name);
                return None;
            }
            let section = reader.section(&mut all, &name)?;
            let is_name = !name.is_empty() && !name.chars().any(char::is_control);
            if !is_name {
                let rule = "invalid plugin name: it must not be empty or contain control characters";
                reader.fail(section.place, rule.to_owned());
            }
            is_name.then_some(section)
        });
        tables.extend(section.map(|section| (name, section)));
    }
    tables
}

/// What `[plugin.metrics.NAME]` runs.
fn metrics(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Metrics> {
    match declared(reader, section) {
        None => {
            ignore_keys(reader, section, name);
            None
        }
        Some(Declared::Component(wasm)) => {
            Some(Metrics::Component(Box::new(PluginTable { wasm, ..settings(reader, section, name) })))
        }
        Some(Declared::Program(command, environment)) => {
            let timeout = timeout(reader, section);
            // Which of the two runs is decided later, so both read the other keys of the table.
            let mut copy = section.clone();
            let stand_in = stand_in(reader, &mut copy, name, &command, &environment, timeout);
            let user = user(reader, section);
            let program =
                Program { command, user, environment, timeout: timeout.unwrap_or(official::programs::DEFAULT_TIMEOUT) };
            let own_timestamps = reader.boolean(section, "use_plugin_timestamp").unwrap_or(false);
            let posting = posting(reader, section);
            let program = MetricsProgram { name: name.into(), program, posting, own_timestamps };
            section.mark_read_as_in(copy);
            Some(match stand_in {
                Some((search, stand_in, unset)) => {
                    let place = reader.file_and_line(section.place);
                    let unset = unset.map(|unset| format!("{place}: `command` of {}: {unset}", section.name));
                    Metrics::Official(Box::new(OfficialLine { program, search, stand_in, unset }))
                }
                None => Metrics::Program(Box::new(program)),
            })
        }
    }
}

/// What runs while the program of an official plugin's `command` is not installed, and what is wrong with its variables; `None` for
/// other commands.
fn stand_in(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    command: &Command,
    environment: &[(String, String)],
    timeout: Option<Duration>,
) -> Option<(Search, StandIn, Option<String>)> {
    let of_agent = |name: &str| std::env::var(name).ok().map(|value| if name == "PATH" { path(&value) } else { value });
    let of_table = |wanted: &str| environment.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let simple = match command {
        Command::Shell(line) => simple_command(line, |name| of_table(name).or_else(|| of_agent(name))),
        Command::Words(words) => SimpleCommand { words: words.clone(), ..SimpleCommand::default() },
    };
    let literal = match command {
        Command::Shell(_) => None,
        Command::Words(words) => unexpanded(words),
    };
    let path = of_table("PATH").or_else(|| of_agent("PATH")).unwrap_or_default();
    if let Some(command) = OfficialCommand::of(&simple, containers::flags::OFFICIAL, &path) {
        let (search, unset) = (command.search.clone(), unset(&command.unset).or(literal));
        return Some((search, StandIn::Docker(engine(reader, section, name, &command, environment, timeout)), unset));
    }
    let (component, line, search) = CommandLine::of_command(simple, environment, of_agent)?;
    let mut table = settings(reader, section, name);
    component.clone_into(&mut table.wasm);
    if let Some(timeout) = shorter(timeout, line.timeout) {
        Arc::make_mut(&mut table.limits).time = timeout.min(LONGEST_CALL);
    }
    let unset = unset(&line.unset).or(literal);
    table.raw.command_line = Some(line);
    Some((search, StandIn::Component(Box::new(table)), unset))
}

/// The shorter of the table's time limit and that of a `timeout` in its command.
fn shorter(of_table: Option<Duration>, of_command: Option<Duration>) -> Option<Duration> {
    of_table.into_iter().chain(of_command).min()
}

/// The engine that the official plugin would query; the error says where and why its command line is unsupported.
fn engine(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    command: &OfficialCommand,
    env: &[(String, String)],
    timeout: Option<Duration>,
) -> Result<Box<Docker>, String> {
    let posting = posting(reader, section);
    let docker = containers::flags::docker(name, command, env)
        .map_err(|why| format!("{}: `command` of {}: {why}", reader.file_and_line(section.place), section.name))?;
    let timeout = shorter(timeout, command.timeout).unwrap_or(docker.timeout).min(LONGEST_CALL);
    Ok(Box::new(Docker { posting, timeout, ..docker }))
}

/// Reads the keys of a table that has no valid `command` or `wasm`, so that they are checked and not reported as unknown.
fn ignore_keys(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) {
    environment(reader, section);
    let of_programs = [
        ("timeout_seconds", ValueKind::Integer),
        ("user", ValueKind::Text),
        ("use_plugin_timestamp", ValueKind::Boolean),
    ];
    reader.ignore(section, &of_programs);
    settings(reader, section, name);
}

/// What a table declares to run.
enum Declared {
    /// The component `wasm`.
    Component(String),
    /// The program `command`, with its `env`.
    Program(Command, Vec<(String, String)>),
}

/// Reads `wasm` or `command`. `None` has been reported.
fn declared(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Declared> {
    let whole = section.place;
    let has = (section.has("wasm"), section.has("command"));
    let wasm = reader.text(section, "wasm");
    let command = reader.command(section, "command");
    match (has, wasm, command) {
        ((true, true), _, _) => {
            reader.fail(whole, format!("{} has both `wasm` and `command`: remove one", section.name));
            None
        }
        ((false, false), ..) => {
            let cure = "write `command = \"...\"` or `wasm = \"NAME\"`";
            reader.fail(whole, format!("{} has neither `command` nor `wasm`: {cure}", section.name));
            None
        }
        (_, Some(wasm), _) => Some(Declared::Component(wasm)),
        (_, None, Some(command)) => Some(Declared::Program(command, environment(reader, section))),
        (_, None, None) => None,
    }
}

/// The table `env`, in which a value may also be a reference to a secret.
fn environment(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Vec<(String, String)> {
    for (name, span) in section.keys_within("env") {
        if let Some((front, _)) = name.split_once('=') {
            // The rest may be a secret value.
            let cure = format!("write `{front} = \"...\"`");
            reader.fail(span, format!("invalid name \"{front}=…\" in `env` of {}: {cure}", section.name));
        }
    }
    // A table `[plugin.metrics.NAME.env]` takes what was meant for the table above it, or for the top of the file.
    for (name, span) in section.keys_within("env") {
        if reader.is_headed(section.key_span_of("env")) && is_of_a_table(&name) {
            let inside = section.name.trim_matches(['[', ']']);
            let why = format!("a variable of the program, since it stands in [{inside}.env]");
            reader.warn(span, format!("`{name}` is {why}; if it is a key of the agent, move it above that line"));
        }
    }
    let span = section.span_of("env");
    let (pairs, _) = reader.pairs_with_secrets(section, "env");
    if let Some((name, _)) = pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        let name = printable(name, 80);
        reader.fail(span, format!("`{name}` in `env` of {} contains a NUL character: remove it", section.name));
    }
    let pairs = pairs.into_iter().map(|(name, value)| (name.trim().to_owned(), value));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

/// Whether a name is that of a key that is meant behind a table `env`, and not that of a variable.
fn is_of_a_table(name: &str) -> bool {
    const VARIABLES: &[&str] =
        &["http_proxy", "https_proxy", "root", "verbose", "silent", "plugins", "include", "user", "memo", "action"];
    let is_key = ["command", "timeout_seconds", "interval_minutes"].contains(&name)
        || KEYS_ABOVE.contains(&name)
        || OFFICIAL.iter().any(|(key, _)| *key == name);
    is_key && !VARIABLES.contains(&name)
}

/// The time limit of a program, if the table has one.
fn timeout(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Duration> {
    reader.seconds(section, "timeout_seconds", official::programs::DEFAULT_TIMEOUT, LONGEST_TIMEOUT_SECONDS)
}

/// The user that runs a program, if it is not the agent's.
fn user(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<String> {
    reader.text(section, "user").filter(|user| !user.is_empty())
}

/// A program with the keys that all kinds of plugins and actions share.
fn program(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    command: Command,
    environment: Vec<(String, String)>,
) -> Program {
    let timeout = timeout(reader, section).unwrap_or(official::programs::DEFAULT_TIMEOUT);
    Program { command, user: user(reader, section), environment, timeout }
}
