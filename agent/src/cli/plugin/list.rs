//! `wasaba plugin list`: the state of the running agent's plugins.

use std::fmt::Write as _;

use crate::cli::configuration::Whereabouts;
use crate::cli::flags::AgentFlags;
use crate::process::{control, log};
use show::state::{AgentState, PluginReport};

/// Prints a table, or JSON.
///
/// # Errors
/// No agent is running with this root, or this user may not ask it.
pub fn run(flags: &AgentFlags, json: bool) -> Result<(), String> {
    let Whereabouts { root, pidfile, wrong } = flags.whereabouts()?;
    if let Some(wrong) = wrong {
        log::print(&format!("{wrong}\n"));
    }
    let report = control::ask(&root, &pidfile)?;
    if json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        return crate::cli::print(&format!("{text}\n"));
    }
    crate::cli::print(&table(&report))
}

fn table(report: &AgentState) -> String {
    if report.plugins.is_empty() {
        return format!("wasaba {} (process {}) has no plugins\n", report.version, report.process);
    }
    let longest = report.plugins.iter().map(|plugin| plugin.name.len()).max().unwrap_or_default().max(4);
    let mut text = format!(
        "{:<longest$}  {:<7}  {:>7}  {:>7}  {:>9}  {:>9}  {:>7}  {:>7}  COMPONENT\n",
        "NAME", "STATE", "CALLS", "FAILED", "LAST", "MEMORY", "REFUSED", "DROPPED"
    );
    for plugin in &report.plugins {
        let PluginReport { name, state, calls, failures, last_ms, memory_bytes, refusals, dropped, component, .. } =
            plugin;
        let failed = failures.iter().map(|(_, count)| count).sum::<u64>();
        let component = component.as_deref().unwrap_or("-");
        let (last, memory) = (format!("{last_ms:.1} ms"), format!("{} KiB", memory_bytes >> 10));
        writeln!(
            text,
            "{name:<longest$}  {state:<7}  {calls:>7}  {failed:>7}  {last:>9}  {memory:>9}  {refusals:>7}  {dropped:>7}  \
             {component}"
        )
        .ok();
        // The refusal that made the last call fail is part of the problem's text.
        let others = plugin.refused.len().saturating_sub(usize::from(plugin.denied));
        for line in plugin.problems.iter().chain(plugin.refused.iter().take(others)) {
            writeln!(text, "{:<longest$}  {line}", "").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use show::state::State;

    #[test]
    fn problems_are_listed_below_their_plugin() {
        let web = PluginReport {
            name: "web".into(),
            state: State::Failing,
            problems: vec!["denied: no grant for http://b:80".into()],
            component: Some("nginx 0.1.0".into()),
            calls: 10,
            failures: vec![("unreachable".into(), 2), ("late".into(), 1)],
            last_ms: 0.42,
            memory_bytes: 1 << 20,
            refusals: 1,
            dropped: 5,
            refused: vec!["no grant for http://a:80".into(), "no grant for http://b:80".into()],
            denied: true,
            ..PluginReport::default()
        };
        let skipped = PluginReport { name: "longer-name".into(), state: State::Skipped, ..PluginReport::default() };
        let mut report = AgentState { plugins: vec![skipped, web], ..AgentState::default() };
        let expected = "\
NAME         STATE      CALLS   FAILED       LAST     MEMORY  REFUSED  DROPPED  COMPONENT
longer-name  skipped        0        0     0.0 ms      0 KiB        0        0  -
web          failing       10        3     0.4 ms   1024 KiB        1        5  nginx 0.1.0
             denied: no grant for http://b:80
             no grant for http://a:80
";
        assert_eq!(table(&report), expected);
        report.plugins[1].denied = false;
        assert!(table(&report).contains("\n             no grant for http://b:80\n"), "another call was refused it");
    }
}
