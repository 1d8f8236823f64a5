//! The tables of plugins: `[plugin.metrics.NAME]`, `[plugin.checks.NAME]`, `[plugin.metadata.NAME]`, or the `.toml` file beside a `.wasm` file that was dropped in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containers::Docker;
use official::command::{OfficialCommand, Search};
use official::command_line::CommandLine;
use official::shell::{SimpleCommand, simple_command};
use programs::process::path;
use programs::{Command, MetricsProgram, Program};
use regex_lite::Regex;
use wasaba_core::limits;
use wasaba_core::limits::{Engine, LONGEST_CALL, Limits};
use wasaba_core::posting::Posting;
use wasaba_core::sample::MetricName;
use wasaba_core::tls::Trust;

use super::Config;
use super::document::{Kind, Problem, Reader, Section};
use crate::check::{Check, Metadata, Runner};
use crate::metrics::{Metrics, MetricsPlugin, OfficialLine, StandIn};
use crate::raw::{FileLine, RawSettings};
use crate::table::PluginTable;

/// The official agent reads all of these in every plugin's table and passes over those that mean nothing there.
const OFFICIAL: &[(&str, Kind)] = &[
    ("action", Kind::Table),
    ("check_interval", Kind::Minutes),
    ("custom_identifier", Kind::Text),
    ("exclude_pattern", Kind::Text),
    ("execution_interval", Kind::Minutes),
    ("include_pattern", Kind::Text),
    ("max_check_attempts", Kind::Integer),
    ("memo", Kind::Text),
    ("notification_interval", Kind::Minutes),
    ("prevent_alert_auto_close", Kind::Boolean),
    ("use_plugin_timestamp", Kind::Boolean),
    ("user", Kind::Text),
];

/// Nobody waits longer for a plugin, in seconds.
const LONGEST_TIMEOUT: u64 = 86_400;

/// The most that Mackerel counts before it makes an alert.
const MOST_ATTEMPTS: u32 = 10;

/// The longest memo that Mackerel keeps, in characters.
const LONGEST_MEMO: usize = 250;

/// Puts the plugins of this document over those that `config` has; one of the same name takes the place of the other.
pub(super) fn take(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    if top.has("plugin") && !reader.is_table(top, "plugin") {
        let place = top.place_of("plugin");
        reader.skip(top, "plugin");
        // The official agent passes over it, too.
        return reader.warn(place, "`plugin` is left out: it must be a table, like [plugin.metrics.NAME]".to_owned());
    }
    let Some(mut plugin) = reader.section(top, "plugin") else { return };
    for (name, mut section) in tables(reader, &mut plugin, "metrics") {
        if let Some(runs) = metrics(reader, &mut section, &name) {
            let plugin = MetricsPlugin { name: name.as_str().into(), runs };
            replace(&mut config.metrics, plugin, |other| *other.name == *name);
        }
        reader.pass_over(&mut section, OFFICIAL);
        reader.finish(section);
    }
    for (name, mut section) in tables(reader, &mut plugin, "checks") {
        if let Some(check) = check(reader, &mut section, &name) {
            replace(&mut config.checks, check, |check| *check.name == *name);
        }
        reader.pass_over(&mut section, OFFICIAL);
        reader.finish(section);
    }
    for (name, mut section) in tables(reader, &mut plugin, "metadata") {
        if let Some(metadata) = metadata(reader, &mut section, &name) {
            replace(&mut config.metadata, metadata, |metadata| *metadata.name == *name);
        }
        reader.pass_over(&mut section, OFFICIAL);
        reader.finish(section);
    }
    reader.finish(plugin);
}

pub(super) fn replace<T>(all: &mut Vec<T>, new: T, is_same: impl Fn(&T) -> bool) {
    match all.iter_mut().find(|other| is_same(other)) {
        Some(other) => *other = new,
        None => all.push(new),
    }
}

/// Every program of the configuration, actions included.
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
            reader.fail(section.place, "a plugin's name must not be empty or have control characters".to_owned());
            continue;
        }
        tables.push((name, section));
    }
    tables
}

/// What `[plugin.metrics.NAME]` runs.
fn metrics(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Metrics> {
    let Some(source) = source(reader, section) else { return nothing(reader, section, name) };
    match source {
        Source::Component(wasm) => {
            let mut table = settings(reader, section, name);
            table.wasm = wasm;
            Some(Metrics::Component(Box::new(table)))
        }
        Source::Program(command, environment) => {
            // Which of the two runs is decided later, so both read all keys of the table.
            let mut copy = section.clone();
            let stand_in = stand_in(reader, &mut copy, name, &command, &environment);
            let program = program_of_metrics(reader, section, name, Source::Program(command, environment));
            section.mark_read_as_in(copy);
            let program = program?;
            Some(match stand_in {
                Some((search, stand_in)) => Metrics::Official(Box::new(OfficialLine { program, search, stand_in })),
                None => Metrics::Program(Box::new(program)),
            })
        }
    }
}

/// What runs in place of `command` while its program is not installed, if it is an official plugin's that the agent can stand in
/// for.
fn stand_in(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    command: &Command,
    environment: &[(String, String)],
) -> Option<(Search, StandIn)> {
    let own = |name: &str| std::env::var(name).ok().map(|value| if name == "PATH" { path(&value) } else { value });
    let known = |wanted: &str| environment.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let simple = match command {
        Command::Shell(line) => simple_command(line, |name| known(name).or_else(|| own(name))),
        Command::Words(words) => SimpleCommand { words: words.clone(), ..SimpleCommand::default() },
    };
    let path = known("PATH").or_else(|| own("PATH")).unwrap_or_default();
    if let Some(command) = OfficialCommand::of(&simple, containers::flags::OFFICIAL, &path) {
        let search = command.search.clone();
        return Some((search, StandIn::Docker(engine(reader, section, name, &command, environment))));
    }
    let (component, line, search) = CommandLine::of_command(simple, environment, own)?;
    let mut table = settings(reader, section, name);
    component.clone_into(&mut table.wasm);
    table.raw.command_line = Some(line);
    Some((search, StandIn::Component(Box::new(table))))
}

/// The engine that the official plugin would ask; or why the command line cannot be carried over, with its place.
fn engine(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    command: &OfficialCommand,
    env: &[(String, String)],
) -> Result<Box<Docker>, String> {
    let timeout = reader.seconds(section, "timeout_seconds", LONGEST_TIMEOUT).map(Duration::from_secs);
    let posting = posting(reader, section);
    let docker = containers::flags::docker(name, command, env)
        .map_err(|why| format!("{}: `command` of {}: {why}", reader.file_and_line(section.place), section.name))?;
    let timeout = timeout.unwrap_or(docker.timeout).min(LONGEST_CALL);
    Ok(Box::new(Docker { posting, timeout, ..docker }))
}

fn program_of_metrics(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: &str,
    source: Source,
) -> Option<MetricsProgram> {
    let program = program(reader, section, source)?;
    let own_timestamps = reader.boolean(section, "use_plugin_timestamp").unwrap_or(false);
    Some(MetricsProgram { name: name.into(), program, posting: posting(reader, section), own_timestamps })
}

/// Reads what a plugin's table may have where it does not say which plugin: what is right in it is no unknown key.
fn nothing<T>(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<T> {
    environment(reader, section);
    let of_programs =
        [("timeout_seconds", Kind::Integer), ("user", Kind::Text), ("use_plugin_timestamp", Kind::Boolean)];
    reader.pass_over(section, &of_programs);
    settings(reader, section, name);
    None
}

/// What a plugin is made of, as it was written.
enum Source {
    Component(String),
    Program(Command, Vec<(String, String)>),
}

impl Source {
    fn wasm(self) -> String {
        match self {
            Self::Component(wasm) => wasm,
            Self::Program(..) => String::new(),
        }
    }
}

fn source(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Source> {
    let whole = section.place;
    let written = (section.has("wasm"), section.has("command"));
    let wasm = reader.text(section, "wasm");
    let command = reader.command(section, "command");
    match (written, wasm, command) {
        ((true, true), _, _) => {
            reader.fail(whole, format!("{} has `wasm` and `command`: remove one", section.name));
            None
        }
        ((false, false), ..) => {
            let cure = "write `command = \"...\"` or `wasm = \"NAME\"`";
            reader.fail(whole, format!("{} does not say which plugin: {cure}", section.name));
            None
        }
        (_, Some(wasm), _) => Some(Source::Component(wasm)),
        (_, None, Some(command)) => Some(Source::Program(command, environment(reader, section))),
        // What is wrong with it was noted.
        (_, None, None) => None,
    }
}

/// The table `env`, in which a value may also be a reference to a secret.
fn environment(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Vec<(String, String)> {
    for (name, place) in section.keys_within("env") {
        if let Some((front, _)) = name.split_once('=') {
            // What is behind may be a value.
            reader.fail(place, format!("`env` of {} has a name with `=` in it: \"{front}=…\"", section.name));
        }
    }
    let (pairs, _) = reader.pairs_with_secrets(section, "env");
    let pairs = pairs.into_iter().map(|(name, value)| (name.trim().to_owned(), value));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

/// A program with the keys that all kinds of plugins and actions share.
fn program(reader: &mut Reader<'_>, section: &mut Section<'_>, source: Source) -> Option<Program> {
    let Source::Program(command, environment) = source else { return None };
    let timeout = reader.seconds(section, "timeout_seconds", LONGEST_TIMEOUT).map(Duration::from_secs);
    let timeout = timeout.unwrap_or(programs::DEFAULT_TIMEOUT);
    let user = reader.text(section, "user").filter(|user| !user.is_empty());
    Some(Program { command, user, environment, timeout })
}

/// What runs a check or tells metadata: a program, or a component.
fn runner(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Runner> {
    let Some(source) = source(reader, section) else { return nothing(reader, section, name) };
    if matches!(source, Source::Program(..)) {
        return Some(Runner::Program(program(reader, section, source)?));
    }
    let mut table = settings(reader, section, name);
    table.wasm = source.wasm();
    Some(Runner::Component(Box::new(table)))
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn check(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Check> {
    let whole = section.place;
    let runner = runner(reader, section, name);
    let every_minutes = reader.minutes(section, "check_interval").unwrap_or(1).clamp(1, 60);
    let notification_interval = reader.minutes(section, "notification_interval").map(|minutes| minutes.max(10));
    let attempts = section.place_of("max_check_attempts");
    let mut max_check_attempts = reader
        .integer(section, "max_check_attempts")
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| *count > 0);
    if max_check_attempts.is_some_and(|count| count > MOST_ATTEMPTS) {
        let why = format!("counts as {MOST_ATTEMPTS}, the most that Mackerel takes");
        reader.mention(attempts, format!("`max_check_attempts` of {} {why}", section.name));
        max_check_attempts = Some(MOST_ATTEMPTS);
    }
    let prevents_auto_close = reader.boolean(section, "prevent_alert_auto_close").unwrap_or(false);
    if prevents_auto_close && max_check_attempts.is_some_and(|count| count > 1) {
        let why = "counts as 1 together with `prevent_alert_auto_close`, since without OK reports nothing sets the count back";
        reader.mention(attempts, format!("`max_check_attempts` of {} {why}", section.name));
        max_check_attempts = Some(1);
    }
    let written = section.place_of("memo");
    let mut memo = reader.text(section, "memo").filter(|memo| !memo.is_empty());
    if let Some(long) = memo.as_mut().filter(|memo| memo.chars().count() > LONGEST_MEMO) {
        reader.mention(written, format!("`memo` of {} is cut to {LONGEST_MEMO} characters", section.name));
        *long = long.chars().take(LONGEST_MEMO).collect();
    }
    let action = reader.section(section, "action").and_then(|mut action| {
        if !action.has("command") {
            reader.fail(action.place, format!("{} has no `command`", action.name));
        }
        // Without a command that can be used, the other keys are right all the same.
        let command = reader.command(&mut action, "command");
        let environment = environment(reader, &mut action);
        let known = command.clone().unwrap_or_else(|| Command::Words(Vec::new()));
        let program = program(reader, &mut action, Source::Program(known, environment));
        reader.pass_over(&mut action, OFFICIAL);
        reader.finish(action);
        command.and(program)
    });
    let custom_identifier = custom_identifier(reader, section);
    let runner = runner?;
    if !is_name(name) {
        reader.warn(
            whole,
            format!("{} is left out: Mackerel takes only letters, digits, - and _ in a check's name", section.name),
        );
        return None;
    }
    Some(Check {
        name: name.into(),
        runner,
        every: Duration::from_secs(every_minutes * 60),
        notification_interval_minutes: notification_interval,
        max_check_attempts,
        prevents_auto_close,
        action,
        memo,
        custom_identifier,
    })
}

fn metadata(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Metadata> {
    let whole = section.place;
    let runner = runner(reader, section, name);
    let minutes = reader.minutes(section, "execution_interval").unwrap_or(10).max(10);
    let runner = runner?;
    if !is_name(name) || name.starts_with("mackerel") {
        let rule = "Mackerel takes only letters, digits, - and _ in a namespace, and none that begins with `mackerel`";
        reader.warn(whole, format!("{} is left out: {rule}", section.name));
        return None;
    }
    Some(Metadata { name: name.into(), runner, every: Duration::from_secs(minutes.saturating_mul(60)) })
}

fn custom_identifier(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Arc<str>> {
    let identifier = reader.parsed(section, "custom_identifier", |text| {
        // Longer than any that is known, and what the queue can hold.
        if text.len() > 1_024 { Err("is longer than 1024 bytes".to_owned()) } else { Ok(text.into()) }
    });
    identifier.filter(|identifier: &Arc<str>| !identifier.is_empty())
}

/// A regular expression; an empty one is none.
pub(super) fn pattern(text: &str) -> Result<Option<Regex>, String> {
    Ok(Some(official::pattern::compile(text)?).filter(|_| !text.is_empty()))
}

/// The keys that a table, a file beside a component and a plugin author's test case share.
pub fn settings(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> PluginTable {
    let (place, line) = (section.name.clone(), FileLine(reader.file_and_line(section.place)));
    let (settings, references) = reader.pairs_with_secrets(section, "settings");
    let allow = reader.texts(section, "allow").into_iter().map(|(origin, _)| origin).collect();
    let engine = reader.parsed(section, "engine", |text| {
        let valid = || Engine::ALL.iter().map(|engine| format!("\"{engine}\"")).collect::<Vec<_>>().join(" or ");
        Engine::named(text).ok_or_else(|| format!("must be {}", valid()))
    });
    let digest = reader.parsed(section, "digest", |text| {
        let hex = text.strip_prefix("sha256:").map(str::to_ascii_lowercase);
        let hex = hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        hex.ok_or_else(|| "must be \"sha256:\" and 64 hexadecimal digits, as `sha256sum` prints them".to_owned())
    });
    PluginTable {
        name: name.to_owned(),
        wasm: String::new(),
        digest,
        raw: RawSettings {
            settings,
            references,
            allow,
            trust: trust(reader, section),
            command_line: None,
            place,
            line,
        },
        engine: engine.unwrap_or_default(),
        limits: Arc::new(limits(reader, section)),
        posting: posting(reader, section),
    }
}

fn limits(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    // The official agent takes any; with more, the answer would come when the next is asked for.
    if let Some(seconds) = reader.seconds(section, "timeout_seconds", LONGEST_CALL.as_secs()) {
        limits.time = Duration::from_secs(seconds);
    }
    let Some(mut inner) = reader.section(section, "limits") else { return limits };
    for key in limits::KEYS {
        if let Some(value) = reader.positive(&mut inner, key.name, key.most) {
            (key.set)(&mut limits, value);
        }
    }
    reader.finish(inner);
    limits
}

pub(super) fn trust(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Trust {
    let written = section.place_of("tls");
    let Some(mut inner) = reader.section(section, "tls") else { return Trust::default() };
    let mut path = |key| reader.text(&mut inner, key).map(PathBuf::from);
    let (authority, certificate, key) = (path("authority"), path("certificate"), path("key"));
    reader.finish(inner);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            reader.fail(written, "`tls` needs `certificate` and `key` together".into());
            None
        }
    };
    Trust { authority, identity, ..Trust::default() }
}

pub(super) fn posting(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Posting {
    Posting {
        custom_identifier: custom_identifier(reader, section),
        every_minutes: reader
            .positive(section, "interval_minutes", 60)
            .and_then(|minutes| u32::try_from(minutes).ok())
            .unwrap_or(1),
        key_prefix: reader.parsed(section, "key_prefix", |text| match MetricName::new(text) {
            Ok(name) => Ok(name.as_str().to_owned()),
            Err(error) => Err(format!("cannot begin a metric's name: {error}")),
        }),
        include: reader.parsed(section, "include_pattern", pattern).flatten(),
        exclude: reader.parsed(section, "exclude_pattern", pattern).flatten(),
    }
}

/// What stands in the `.toml` file beside `component`, or the defaults if there is none.
///
/// # Errors
/// All problems of that file, warnings included.
pub fn beside(component: &Path) -> Result<(PluginTable, Vec<Problem>), Vec<Problem>> {
    let file = component.with_extension("toml");
    let text = match super::document::read_file(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(vec![Problem::of_file(&file, &error)]),
    };
    let name = component.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut reader = Reader::new(&file, &text);
    let Some(mut section) = reader.document() else { return Err(reader.into_problems()) };
    section.name = format!("`{}`", file.display());
    let mut table = settings(&mut reader, &mut section, &name);
    table.wasm = component.to_string_lossy().into_owned();
    // Its place is the file already.
    table.raw.line = FileLine::default();
    reader.finish(section);
    let problems = reader.into_problems();
    if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((table, problems)) }
}
