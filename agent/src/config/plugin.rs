//! The table of one plugin: `[plugin.metrics.NAME]`, or the `.toml` file beside a `.wasm` file that was dropped in.

use std::path::Path;
use std::time::Duration;

use super::document::{Problem, Reader, Section};
use crate::capabilities::limits::LONGEST_CALL;
use crate::plugins::engine::Engine;
use crate::plugins::settings::Written;
use crate::plugins::table::PluginTable;

/// Keys of the official agent's plugin tables that mean something for programs only.
const FOR_PROGRAMS: &[&str] =
    &["custom_identifier", "env", "exclude_pattern", "include_pattern", "use_plugin_timestamp", "user"];

pub(super) fn tables(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Vec<PluginTable> {
    let Some(mut plugin) = reader.section(top, "plugin") else { return Vec::new() };
    let mut tables = Vec::new();
    if let Some(mut metrics) = reader.section(&mut plugin, "metrics") {
        for name in metrics.keys() {
            let Some(mut section) = reader.section(&mut metrics, &name) else { continue };
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
    let command = reader.skip(section, "command");
    let mut table = settings(reader, section, name);
    match (wasm, command) {
        (Some(wasm), None) => table.wasm = wasm,
        (Some(_), Some(command)) => {
            reader.fail(command, "a plugin has `wasm` or `command`, not both: remove one".into());
            return None;
        }
        (None, Some(command)) => {
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

/// The keys that a table and a file beside a component share.
fn settings(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> PluginTable {
    let place = section.name.clone();
    let settings = reader.pairs(section, "settings");
    let allow = reader.texts(section, "allow").into_iter().map(|(origin, _)| origin).collect();
    let engine = reader.parsed(section, "engine", |text| {
        let valid = || Engine::ALL.iter().map(|engine| format!("\"{engine}\"")).collect::<Vec<_>>().join(" or ");
        Engine::named(text).ok_or_else(|| format!("must be {}", valid()))
    });
    let timeout = reader.positive(section, "timeout_seconds", LONGEST_CALL.as_secs()).map(Duration::from_secs);
    let written = Written { settings, allow, place };
    PluginTable { name: name.to_owned(), wasm: String::new(), written, engine: engine.unwrap_or_default(), timeout }
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
    reader.finish(section, &[]);
    let problems = reader.into_problems();
    if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((table, problems)) }
}
