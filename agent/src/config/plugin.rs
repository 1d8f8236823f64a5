//! The table of one plugin: `[plugin.metrics.NAME]`, or the `.toml` file beside a `.wasm` file that was dropped in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex_lite::Regex;

use super::document::{Problem, Reader, Section};
use crate::capabilities::limits::{self, LONGEST_CALL, Limits};
use crate::plugins::command_line::CommandLine;
use crate::plugins::engine::Engine;
use crate::plugins::settings::{FileLine, Written};
use crate::plugins::table::{PluginTable, Posting};
use crate::sample::MetricName;
use crate::tls::Trust;

/// Keys of the official agent's plugin tables that mean something for programs only.
const FOR_PROGRAMS: &[&str] = &["use_plugin_timestamp", "user"];

pub(super) fn tables(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Vec<PluginTable> {
    let Some(mut plugin) = reader.section(top, "plugin") else { return Vec::new() };
    let mut tables = Vec::new();
    if let Some(mut metrics) = reader.section(&mut plugin, "metrics") {
        for name in metrics.keys() {
            let Some(mut section) = reader.section(&mut metrics, &name) else { continue };
            if name.is_empty() || name.chars().any(char::is_control) {
                reader.fail(section.place, "a plugin's name must not be empty or have control characters".to_owned());
                continue;
            }
            tables.extend(table(reader, &mut section, &name));
            reader.finish(section, FOR_PROGRAMS);
        }
    }
    reader.finish(plugin, &["checks", "metadata"]);
    tables
}

fn table(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<PluginTable> {
    let whole = section.place;
    let wasm = reader.text(section, "wasm");
    let env = reader.pairs(section, "env");
    let own = |name: &str| std::env::var(name).ok();
    let known = |wanted: &str| env.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let command = reader.command(section, "command", |name| known(name).or_else(|| own(name)));
    let official = command.as_ref().and_then(|(command, _)| CommandLine::of_command(command.clone(), &env, own));
    let mut table = settings(reader, section, name);
    match (wasm, command) {
        (Some(wasm), None) => table.wasm = wasm,
        (Some(_), Some((_, command))) => {
            reader.fail(command, "a plugin has `wasm` or `command`, not both: remove one".into());
            return None;
        }
        (None, Some((_, command))) => {
            if let Some((component, line)) = official {
                component.clone_into(&mut table.wasm);
                table.written.command_line = Some(line);
                return Some(table);
            }
            let cure = "write `wasm = \"NAME\"` in its place if there is a component for it";
            reader
                .warn(command, format!("this version runs no programs as plugins yet: the plugin is left out; {cure}"));
            return None;
        }
        (None, None) => {
            reader.fail(whole, format!("{} does not say which plugin: write `wasm = \"NAME\"`", table.written.place));
            return None;
        }
    }
    Some(table)
}

/// The keys that a table, a file beside a component and a plugin author's test case share.
pub(super) fn settings(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> PluginTable {
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
        written: Written {
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
    if let Some(seconds) = reader.positive(section, "timeout_seconds", 86_400) {
        limits.time = Duration::from_secs(seconds).min(LONGEST_CALL);
        if limits.time.as_secs() < seconds {
            let most = LONGEST_CALL.as_secs();
            reader.warn(
                section.place,
                format!("`timeout_seconds` counts up to {most} only, for it is asked every minute"),
            );
        }
    }
    let Some(mut inner) = reader.section(section, "limits") else { return limits };
    for key in limits::KEYS {
        if let Some(value) = reader.positive(&mut inner, key.name, key.most) {
            (key.set)(&mut limits, value);
        }
    }
    reader.finish(inner, &[]);
    limits
}

fn trust(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Trust {
    let whole = section.place;
    let Some(mut inner) = reader.section(section, "tls") else { return Trust::default() };
    let mut path = |key| reader.text(&mut inner, key).map(PathBuf::from);
    let (authority, certificate, key) = (path("authority"), path("certificate"), path("key"));
    reader.finish(inner, &[]);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            reader.fail(whole, "`tls` needs `certificate` and `key` together".into());
            None
        }
    };
    Trust { authority, identity, ..Trust::default() }
}

fn posting(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Posting {
    let pattern = |text: &str| {
        let regex = Regex::new(text).map_err(|error| format!("is no regular expression: {error}"))?;
        Ok(Some(regex).filter(|_| !text.is_empty()))
    };
    Posting {
        custom_identifier: reader
            .parsed(section, "custom_identifier", |text| {
                // Longer than any that is known, and what the queue can hold.
                if text.len() > 1_024 { Err("is longer than 1024 bytes".to_owned()) } else { Ok(text.into()) }
            })
            .filter(|identifier: &Arc<str>| !identifier.is_empty()),
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
    table.written.line = FileLine::default();
    reader.finish(section, &[]);
    let problems = reader.into_problems();
    if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((table, problems)) }
}
