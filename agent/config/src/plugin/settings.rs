//! The keys that a plugin's table, the file beside a component and a test case share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex_lite::Regex;
use wasaba_core::limits::{self, Engine, LONGEST_CALL, Limits};
use wasaba_core::posting::Posting;
use wasaba_core::sample::MetricName;
use wasaba_core::tls::Trust;

use crate::document::{Problem, Reader, Section, read_trusted};
use crate::raw::{FileLine, RawSettings};
use crate::table::PluginTable;

/// Enough for any custom identifier, which is stored with each value in the queue.
const LONGEST_IDENTIFIER_BYTES: usize = 1_024;

pub(super) fn custom_identifier(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Arc<str>> {
    let identifier = reader.parsed(section, "custom_identifier", |text| {
        if text.len() > LONGEST_IDENTIFIER_BYTES {
            Err(format!("must not be longer than {LONGEST_IDENTIFIER_BYTES} bytes"))
        } else {
            Ok(text.into())
        }
    });
    identifier.filter(|identifier: &Arc<str>| !identifier.is_empty())
}

/// The hosts that the samples of a component may name, by their custom identifiers.
fn hosts(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Vec<Arc<str>> {
    let mut hosts = Vec::new();
    for (host, span) in reader.texts(section, "hosts") {
        if host.is_empty() || host.len() > LONGEST_IDENTIFIER_BYTES {
            let most = LONGEST_IDENTIFIER_BYTES;
            reader.fail(
                span,
                format!("a custom identifier in `hosts` of {} must have from 1 to {most} bytes", section.name),
            );
        } else {
            hosts.push(host.into());
        }
    }
    hosts
}

/// A regular expression; `None` for an empty text.
pub(crate) fn pattern(text: &str) -> Result<Option<Regex>, String> {
    Ok(Some(official::pattern::compile(text)?).filter(|_| !text.is_empty()))
}

/// Reads these keys. `name` becomes the plugin's name; `wasm` stays empty.
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
        hex.ok_or_else(|| "must be \"sha256:\" and the 64 hexadecimal digits that `sha256sum` prints".to_owned())
    });
    PluginTable {
        name: name.to_owned(),
        wasm: String::new(),
        digest,
        raw: RawSettings {
            settings,
            references,
            allow,
            reveal: reader.boolean(section, "reveal").unwrap_or(false),
            virtual_host: reader.text(section, "virtual_host"),
            trust: trust(reader, section),
            command_line: None,
            place,
            line,
        },
        engine: engine.unwrap_or_default(),
        limits: Arc::new(limits(reader, section)),
        posting: posting(reader, section),
        hosts: hosts(reader, section),
    }
}

fn limits(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    // The official agent accepts any timeout; a longer one would overlap with the next minute.
    if let Some(time) = reader.seconds(section, "timeout_seconds", limits.time, LONGEST_CALL.as_secs()) {
        limits.time = time;
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

pub(crate) fn trust(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Trust {
    let span = section.span_of("tls");
    let Some(mut inner) = reader.section(section, "tls") else { return Trust::default() };
    let mut path = |key| reader.text(&mut inner, key).map(PathBuf::from);
    let (authority, certificate, key) = (path("authority"), path("certificate"), path("key"));
    reader.finish(inner);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            reader.fail(span, "`tls` has `certificate` without `key`: write both".into());
            None
        }
        (None, Some(_)) => {
            reader.fail(span, "`tls` has `key` without `certificate`: write both".into());
            None
        }
    };
    Trust { authority, identity, ..Trust::default() }
}

fn key_prefix(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<String> {
    let span = section.span_of("key_prefix");
    let text = reader.text(section, "key_prefix")?;
    let name = MetricName::new(&text).map_err(|error| reader.fail(span, format!("invalid `key_prefix`: {error}")));
    name.ok().map(|name| name.as_str().to_owned())
}

pub(crate) fn posting(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Posting {
    Posting {
        custom_identifier: custom_identifier(reader, section),
        every_minutes: reader
            .positive(section, "interval_minutes", 60)
            .and_then(|minutes| u32::try_from(minutes).ok())
            .unwrap_or(1),
        key_prefix: key_prefix(reader, section),
        include: reader.parsed(section, "include_pattern", pattern).flatten(),
        exclude: reader.parsed(section, "exclude_pattern", pattern).flatten(),
    }
}

/// The settings in the `.toml` file beside `component`, or the defaults if there is no such file.
///
/// # Errors
/// All problems of the file, including warnings, if at least one is an error.
pub fn beside(component: &Path) -> Result<(PluginTable, Vec<Problem>), Vec<Problem>> {
    let file = component.with_extension("toml");
    match read_trusted(&file) {
        Ok(text) => of_text(component, &text),
        Err(error) if error.is_missing() => of_text(component, ""),
        Err(error) => Err(vec![Problem::of_file(&file, &error)]),
    }
}

/// As [`beside`], with the text of the file.
///
/// # Errors
/// As [`beside`].
pub fn of_text(component: &Path, text: &str) -> Result<(PluginTable, Vec<Problem>), Vec<Problem>> {
    let file = component.with_extension("toml");
    let name = component.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut reader = Reader::new(&file, text);
    let Some(mut section) = reader.document() else { return Err(reader.into_problems()) };
    section.name = format!("`{}`", file.display());
    let mut table = settings(&mut reader, &mut section, &name);
    table.wasm = component.to_string_lossy().into_owned();
    // `place` is the file already.
    table.raw.line = FileLine::default();
    reader.finish(section);
    let problems = reader.into_problems();
    if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((table, problems)) }
}
