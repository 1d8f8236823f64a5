//! `wasaba plugin inspect`: a plugin's description, settings, imports, graphs and grants.

use std::fmt::Write as _;
use std::sync::Arc;

use official::command_line::Given;
use plugins::readings::Rules;
use plugins::settings::{ResolvedSettings, kind_in_words, validate};
use sandbox::answer::{Graph, Interpretation, Metric};
use sandbox::capabilities::grants::Grants;
use sandbox::component::{Demands, Plugin};
use serde_json::{Map, Value, json};
use wasaba_core::setting::{Setting, SettingKind};
use wasaba_core::text::printable;

use crate::cli::flags::AgentFlags;

/// Prints the plugin's description of itself, and what it would be granted; for programs as JSON.
///
/// # Errors
/// There is no such plugin, or the file is not a plugin.
pub fn run(flags: &AgentFlags, json: bool, wanted: &str) -> Result<(), String> {
    let text = super::with_loader_for(flags, wanted, async |_, loader| {
        let (file, is_typed) = super::plugin_file(loader, wanted)?;
        let plugin = super::plugin(loader, &Demands { is_typed, ..Demands::default() }, &file).await?;
        let about_it = &plugin.description;
        let defaults = validate(&about_it.settings, about_it.reach, &required(&about_it.settings));
        let values = defaults.as_ref().map(|validated| validated.values.clone()).unwrap_or_default();
        let limits = Arc::default();
        let graphs = plugin.graphs(&loader.sandbox, Arc::new(values), &limits).await;
        let graphs = graphs.map_err(|failure| format!("`{}`: {failure}", file.display()))?;
        // The agent would refuse them, too.
        Rules::of(&graphs, &limits, str::to_owned)
            .map_err(|why| format!("`{}`: invalid graph definitions: {}", file.display(), printable(&why, 400)))?;
        if json {
            let grants = defaults.map(|validated| validated.grants).unwrap_or_default();
            let text = serde_json::to_string_pretty(&as_json(&plugin, &graphs, &grants));
            return text.map(|text| text + "\n").map_err(|error| error.to_string());
        }
        let mut text = about(&plugin);
        if plugin.does().contains(&"metrics") {
            text.push_str("\ngraphs and metrics:\n");
        }
        for graph in graphs {
            writeln!(text, "  custom.{}  {}", printable(&graph.name, 200), printable(&graph.label, 200)).ok();
            for metric in graph.metrics {
                let label = printable(&metric.label, 200);
                writeln!(
                    text,
                    "    .{:<20} {label} ({})",
                    printable(&metric.name, 200),
                    in_words(metric.interpretation)
                )
                .ok();
            }
        }
        text.push_str("\ngrants with the defaults:\n");
        text.push_str(&grants(&defaults.map(|validated| validated.grants).unwrap_or_default()));
        Ok(text)
    });
    crate::cli::print(&text?)
}

/// What the text says, in the contract's words.
fn as_json(plugin: &Plugin, graphs: &[Graph], grants: &Grants) -> Value {
    let about = &plugin.description;
    let settings = about.settings.iter().map(|setting| {
        let Setting { key, kind, default, required, repeatable, port_of, aliases, help } = setting;
        let default = default.as_ref().filter(|_| *kind != SettingKind::Secret);
        let aliases = aliases.iter().map(|(word, meaning)| (word.clone(), json!(meaning))).collect::<Map<_, _>>();
        json!({
            "key": key, "kind": kind.word(), "default": default, "required": required, "repeatable": repeatable,
            "port_of": port_of, "aliases": aliases, "help": help,
        })
    });
    let graphs = graphs.iter().map(|Graph { name, label, unit, metrics }| {
        let metrics = metrics.iter().map(|Metric { name, label, stacked, interpretation, scale }| {
            let reading = interpretation.word();
            json!({ "name": name, "label": label, "reading": reading, "scale": scale, "stacked": stacked })
        });
        json!({ "name": name, "label": label, "unit": unit.word(), "metrics": metrics.collect::<Vec<_>>() })
    });
    let origins = grants.origins.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "name": about.name,
        "version": about.version,
        "summary": about.summary,
        "file": plugin.file.to_string_lossy(),
        "digest": format!("sha256:{}", plugin.sha256),
        "does": plugin.does(),
        "imports": plugin.imports,
        "reaches": about.reach.words(),
        "attributes": about.attributes.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>(),
        "settings": settings.collect::<Vec<_>>(),
        "graphs": graphs.collect::<Vec<_>>(),
        "grants": { "origins": origins, "sockets": grants.sockets, "files": grants.files },
    })
}

/// A placeholder for each required setting that grants nothing, so that the rest can be shown.
fn required(declared: &[Setting]) -> ResolvedSettings {
    let text = |setting: &&Setting| matches!(setting.kind, SettingKind::Text | SettingKind::Secret);
    let settings = declared.iter().filter(|setting| setting.required).filter(text);
    let settings = settings.map(|setting| (setting.key.clone(), "...".to_owned())).collect();
    let given = Given { settings, ..Given::default() };
    ResolvedSettings { given, ..ResolvedSettings::default() }
}

/// The grants of an instance, a line each.
pub(super) fn grants(grants: &Grants) -> String {
    let origins = grants.origins.iter().map(|origin| {
        let word = if origin.is_for_http() { "http" } else { "http, tcp" };
        format!("  {word:<9}  {origin}\n")
    });
    let sockets = grants.sockets.iter().map(|path| format!("  tcp        unix:{}\n", printable(path, 400)));
    let files = grants.files.iter().map(|path| format!("  files      {}\n", printable(path, 400)));
    let text = origins.chain(sockets).chain(files).collect::<String>();
    if text.is_empty() { "  none\n".to_owned() } else { text }
}

/// The capabilities that the component imports.
pub(super) fn imports(plugin: &Plugin) -> String {
    if plugin.imports.is_empty() { "none".to_owned() } else { plugin.imports.join(", ") }
}

fn about(plugin: &Plugin) -> String {
    let about = &plugin.description;
    let shown = |text: &str| printable(text, 400);
    let mut text = format!("{} {}: {}\n", shown(&about.name), shown(&about.version), shown(&about.summary));
    writeln!(text, "file: {}", shown(&plugin.file.to_string_lossy())).ok();
    writeln!(text, "digest: sha256:{}", plugin.sha256).ok();
    writeln!(text, "does: {}", plugin.does().join(", ")).ok();
    writeln!(text, "imports: {}", imports(plugin)).ok();
    let reach = about.reach.words().join(", ");
    writeln!(text, "reaches: {}", if reach.is_empty() { "nothing" } else { &reach }).ok();
    // Of the facts those that the contract names; others may be anything.
    for key in ["license", "homepage", "interval-seconds", "timeout-seconds", "agent"] {
        if let Some((_, value)) = about.attributes.iter().find(|(known, _)| known == key) {
            writeln!(text, "{key}: {}", shown(value)).ok();
        }
    }
    text.push_str("\nsettings:\n");
    for setting in &about.settings {
        writeln!(text, "  {:<18} {}", setting.key, shown(&setting.help)).ok();
        writeln!(text, "  {:<18} {}", "", facts(setting)).ok();
    }
    let wasm = plugin.file.file_stem().map(|stem| shown(&stem.to_string_lossy())).unwrap_or_default();
    let host = about.settings.iter().find(|setting| setting.kind == SettingKind::Host);
    let shown =
        about.settings.iter().filter(|setting| setting.required || host.is_some_and(|host| host.key == setting.key));
    let shown = shown.map(|setting| format!("{} = \"...\"", setting.key)).collect::<Vec<_>>().join(", ");
    let example = if shown.is_empty() { shown } else { format!("settings = {{ {shown} }}\n") };
    writeln!(
        text,
        "\nto run it with settings, in mackerel-agent.conf:\n[plugin.metrics.{wasm}]\nwasm = \"{wasm}\"\n{example}"
    )
    .ok();
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn facts(setting: &Setting) -> String {
    let mut facts = vec![kind_in_words(setting).into_owned()];
    match &setting.default {
        Some(default) if setting.kind != SettingKind::Secret => {
            facts.push(format!("default {:?}", printable(default, 200)))
        }
        _ => {}
    }
    facts.extend(setting.required.then(|| "required".to_owned()));
    facts.extend(setting.repeatable.then(|| "repeatable".to_owned()));
    let grants = match setting.kind {
        SettingKind::Url => Some("grants HTTP to it".to_owned()),
        SettingKind::Endpoint => Some("grants connections to it".to_owned()),
        SettingKind::Port => {
            let host = setting.port_of.as_ref();
            host.map(|host| format!("grants connections to it, together with `{host}`"))
        }
        SettingKind::UnixSocket | SettingKind::File => Some("grants access to it".to_owned()),
        _ => None,
    };
    facts.extend(grants);
    facts.join("; ")
}

fn in_words(interpretation: Interpretation) -> &'static str {
    match interpretation {
        Interpretation::Gauge => "gauge",
        Interpretation::PerMinute => "per minute",
        Interpretation::PerSecond => "per second",
        Interpretation::Delta => "growth",
        Interpretation::PerMinute32 => "per minute, of 32 bits",
    }
}
