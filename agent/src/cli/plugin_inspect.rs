//! `wasaba plugin inspect`: what a plugin is, its settings, its graphs, what it wishes for and what it would be granted.

use std::fmt::Write as _;

use super::flags::AgentFlags;
use crate::capabilities::bindings::exports::wasaba::plugin::plugin::{Setting, SettingKind};
use crate::capabilities::log::printable;
use crate::keeper;
use crate::log::{self, Destination};
use crate::plugins::component::Plugin;
use crate::plugins::engine::Engine;
use crate::plugins::settings::{Written, check, kind_in_words};

/// Prints what the plugin says of itself.
///
/// # Errors
/// There is no such plugin, or it is none.
pub fn run(flags: &AgentFlags, wanted: &str) -> Result<(), String> {
    let (config, _) = flags.config()?;
    log::start(config.log_level, Destination::Stderr);
    let runtime = super::runtime()?;
    let text = runtime.block_on(async {
        let loader = keeper::loader(&config)?;
        let file = super::plugin_file(&loader, wanted)?;
        let plugin = loader.plugin(Engine::default(), &file).await?;
        let defaults = check(&plugin.description.settings, &Written::default());
        let values = defaults.as_ref().map(|checked| checked.values.clone()).unwrap_or_default();
        let graphs =
            plugin.graphs(&loader.sandbox, values).await.map_err(|fault| format!("`{}`: {fault}", file.display()))?;
        let mut text = about(&plugin);
        text.push_str("\ngraphs and metrics:\n");
        for graph in graphs {
            writeln!(text, "  custom.{}  {}", printable(&graph.name, 200), printable(&graph.label, 200)).ok();
            for metric in graph.metrics {
                let label = printable(&metric.label, 200);
                writeln!(text, "    .{:<20} {label} ({})", printable(&metric.name, 200), reading(metric.reading)).ok();
            }
        }
        text.push_str("\ngrants with the defaults:\n");
        let origins = defaults.map(|checked| checked.grants.origins).unwrap_or_default();
        if origins.is_empty() {
            text.push_str("  none\n");
        }
        for origin in origins {
            writeln!(text, "  http  {origin}").ok();
        }
        Ok::<_, String>(text)
    });
    runtime.shutdown_background();
    super::print(&text?)
}

fn about(plugin: &Plugin) -> String {
    let about = &plugin.description;
    let shown = |text: &str| printable(text, 400);
    let mut text = format!("{} {}: {}\n", shown(&about.name), shown(&about.version), shown(&about.summary));
    writeln!(text, "file: {}", plugin.file.display()).ok();
    let wishes = if plugin.imports.is_empty() { "nothing".to_owned() } else { plugin.imports.join(", ") };
    writeln!(text, "wishes for: {wishes}").ok();
    text.push_str("\nsettings:\n");
    for setting in &about.settings {
        writeln!(text, "  {:<18} {}", setting.key, shown(&setting.help)).ok();
        writeln!(text, "  {:<18} {}", "", facts(setting)).ok();
    }
    let wasm = plugin.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let example = about.settings.iter().find(|setting| setting.kind == SettingKind::Host);
    let example = example.map(|setting| format!("settings = {{ {} = \"...\" }}\n", setting.key)).unwrap_or_default();
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
    let mut facts = vec![kind_in_words(setting.kind).to_owned()];
    match &setting.default {
        Some(default) if setting.kind != SettingKind::Secret => {
            facts.push(format!("default {:?}", printable(default, 200)))
        }
        _ => {}
    }
    facts.extend(setting.required.then(|| "required".to_owned()));
    facts.extend(setting.repeatable.then(|| "may be given several times".to_owned()));
    let grants = match setting.kind {
        SettingKind::Url => Some("grants http to it"),
        SettingKind::Port => Some("grants connections, with its host"),
        SettingKind::UnixSocket | SettingKind::File => Some("grants access to it"),
        _ => None,
    };
    facts.extend(grants.map(str::to_owned));
    facts.join("; ")
}

fn reading(reading: crate::capabilities::bindings::exports::wasaba::plugin::metrics::Reading) -> &'static str {
    use crate::capabilities::bindings::exports::wasaba::plugin::metrics::Reading;
    match reading {
        Reading::Gauge => "as it is",
        Reading::PerMinute => "per minute",
        Reading::PerSecond => "per second",
    }
}
