//! The tables of plugins: `[plugin.metrics.NAME]`, `[plugin.checks.NAME]` and `[plugin.metadata.NAME]`; and the `.toml` file beside a
//! component.

mod checks;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use containers::Docker;
use official::command::{OfficialCommand, Search};
use official::command_line::CommandLine;
use official::shell::{SimpleCommand, simple_command};
use programs::process::path;
use programs::{Command, MetricsProgram, Program};
use wasaba_core::limits::LONGEST_CALL;

use self::checks::{check, metadata};
pub use self::settings::{beside, of_text, settings};
pub(super) use self::settings::{pattern, posting, trust};
use super::Config;
use super::document::{Reader, Section, ValueKind};
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

/// Merges the plugins of this document into `config`; a plugin replaces an earlier one of the same kind and name.
pub(super) fn merge(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    if top.has("plugin") && !reader.is_table(top, "plugin") {
        let span = top.span_of("plugin");
        reader.skip(top, "plugin");
        // The official agent ignores it, too.
        return reader.warn(span, "`plugin` is ignored: it must be a table, like [plugin.metrics.NAME]".to_owned());
    }
    let Some(mut plugin) = reader.section(top, "plugin") else { return };
    for (name, mut section) in tables(reader, &mut plugin, "metrics") {
        if let Some(runs) = metrics(reader, &mut section, &name) {
            let plugin = MetricsPlugin { name: name.as_str().into(), runs };
            replace(&mut config.metrics, plugin, |other| *other.name == *name);
        }
        reader.ignore(&mut section, OFFICIAL);
        reader.finish(section);
    }
    for (name, mut section) in tables(reader, &mut plugin, "checks") {
        if let Some(check) = check(reader, &mut section, &name) {
            replace(&mut config.checks, check, |check| *check.name == *name);
        }
        reader.ignore(&mut section, OFFICIAL);
        reader.finish(section);
    }
    for (name, mut section) in tables(reader, &mut plugin, "metadata") {
        if let Some(metadata) = metadata(reader, &mut section, &name) {
            replace(&mut config.metadata, metadata, |metadata| *metadata.name == *name);
        }
        reader.ignore(&mut section, OFFICIAL);
        reader.finish(section);
    }
    reader.finish(plugin);
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
    let Some(mut all) = reader.section(plugin, kind) else { return Vec::new() };
    let mut tables = Vec::new();
    for name in all.keys() {
        let Some(section) = reader.section(&mut all, &name) else { continue };
        if name.is_empty() || name.chars().any(char::is_control) {
            reader.fail(
                section.place,
                "invalid plugin name: it must not be empty or contain control characters".to_owned(),
            );
            continue;
        }
        tables.push((name, section));
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
            let program = Program { command, user, environment, timeout: timeout.unwrap_or(programs::DEFAULT_TIMEOUT) };
            let own_timestamps = reader.boolean(section, "use_plugin_timestamp").unwrap_or(false);
            let posting = posting(reader, section);
            let program = MetricsProgram { name: name.into(), program, posting, own_timestamps };
            section.mark_read_as_in(copy);
            Some(match stand_in {
                Some((search, stand_in)) => Metrics::Official(Box::new(OfficialLine { program, search, stand_in })),
                None => Metrics::Program(Box::new(program)),
            })
        }
    }
}

/// What runs while the program of an official plugin's `command` is not installed; `None` for other commands.
fn stand_in(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    command: &Command,
    environment: &[(String, String)],
    timeout: Option<Duration>,
) -> Option<(Search, StandIn)> {
    let of_agent = |name: &str| std::env::var(name).ok().map(|value| if name == "PATH" { path(&value) } else { value });
    let of_table = |wanted: &str| environment.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let simple = match command {
        Command::Shell(line) => simple_command(line, |name| of_table(name).or_else(|| of_agent(name))),
        Command::Words(words) => SimpleCommand { words: words.clone(), ..SimpleCommand::default() },
    };
    let path = of_table("PATH").or_else(|| of_agent("PATH")).unwrap_or_default();
    if let Some(command) = OfficialCommand::of(&simple, containers::flags::OFFICIAL, &path) {
        let search = command.search.clone();
        return Some((search, StandIn::Docker(engine(reader, section, name, &command, environment, timeout))));
    }
    let (component, line, search) = CommandLine::of_command(simple, environment, of_agent)?;
    let mut table = settings(reader, section, name);
    component.clone_into(&mut table.wasm);
    if let Some(timeout) = timeout {
        Arc::make_mut(&mut table.limits).time = timeout.min(LONGEST_CALL);
    }
    table.raw.command_line = Some(line);
    Some((search, StandIn::Component(Box::new(table))))
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
    let timeout = timeout.unwrap_or(docker.timeout).min(LONGEST_CALL);
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
    let (pairs, _) = reader.pairs_with_secrets(section, "env");
    let pairs = pairs.into_iter().map(|(name, value)| (name.trim().to_owned(), value));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

/// The time limit of a program, if the table has one.
fn timeout(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Duration> {
    reader.seconds(section, "timeout_seconds", programs::DEFAULT_TIMEOUT, LONGEST_TIMEOUT_SECONDS)
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
    let timeout = timeout(reader, section).unwrap_or(programs::DEFAULT_TIMEOUT);
    Program { command, user: user(reader, section), environment, timeout }
}
