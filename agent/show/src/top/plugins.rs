//! The plugins: how each is doing, what a call costs, and what it was refused, with the line to write.

use super::paint::Tone;
use super::seen::Seen;
use super::table::{Block, Cell, Column, Kind, Row};
use crate::state::{CollectorReport, PluginReport, State};
use crate::words;

const COLUMNS: [Column; 8] = [
    Column { title: "PLUGIN", kind: Kind::Text(24), rank: 0 },
    Column { title: "STATE", kind: Kind::Text(28), rank: 0 },
    Column { title: "TOOK", kind: Kind::Number, rank: 0 },
    Column { title: "MEMORY", kind: Kind::Number, rank: 2 },
    Column { title: "CALLS", kind: Kind::Number, rank: 4 },
    Column { title: "FAILED", kind: Kind::Number, rank: 1 },
    Column { title: "REFUSED", kind: Kind::Number, rank: 0 },
    Column { title: "DROPPED", kind: Kind::Number, rank: 3 },
];

/// As many problems, and refusals, are shown in the table.
const SHOWN: usize = 2;

pub(super) fn block(seen: &Seen) -> Block {
    let now = seen.state.now;
    let of_component = |name: &str| seen.state.plugins.iter().any(|plugin| plugin.name == name);
    let collector = |name: &str| {
        seen.state.collectors.iter().find(|collector| collector.name.strip_prefix("plugin ") == Some(name))
    };
    let programs = seen.state.collectors.iter().filter_map(|collector| {
        let name = collector.name.strip_prefix("plugin ")?;
        (!of_component(name)).then(|| program(name, collector))
    });
    let mut rows = seen
        .state
        .plugins
        .iter()
        .map(|plugin| component(plugin, collector(&plugin.name), now))
        .chain(programs)
        .collect::<Vec<_>>();
    for row in &mut rows {
        let group = format!("plugin {}", row.id.strip_prefix("plugin ").unwrap_or_default());
        let own = seen.lines().filter(|(plot, _)| plot.group == group);
        row.keys = own.map(|(_, line)| line.key.clone()).collect();
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.tone().max(Tone::Good)));
    let count = |state| seen.state.plugins.iter().filter(|plugin| plugin.state == state).count();
    let refused = seen.state.plugins.iter().filter(|plugin| plugin.refusals > 0).count();
    let parts =
        [(count(State::Failing), "failing"), (count(State::Skipped), "skipped"), (refused, "refused something")];
    let mut summary = vec![rows.len().to_string()];
    summary.extend(parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
    let tone = rows.iter().map(Row::tone).max().filter(|tone| *tone > Tone::Good).unwrap_or(Tone::Dim);
    Block { title: "plugins", summary: summary.join(", "), tone, columns: COLUMNS.to_vec(), rows, ..Block::default() }
}

fn component(plugin: &PluginReport, collector: Option<&CollectorReport>, now: i64) -> Row {
    let PluginReport {
        name,
        state,
        problems,
        skipped_until,
        calls,
        failures,
        last_ms,
        memory_bytes,
        refusals,
        refused,
        dropped,
        ..
    } = plugin;
    let pause = skipped_until.map(|until| format!(", skipped for {}", words::between(now, until))).unwrap_or_default();
    let tone = match state {
        State::Running => Tone::Good,
        State::Failing | State::Skipped => Tone::Bad,
    };
    let failed = failures.iter().map(|(_, count)| *count).sum::<u64>();
    let has_run = *calls > 0;
    let number = |count: u64| Cell::number(words::count(count), Some(count as f64));
    let warn = |cell: Cell, count: u64| if count > 0 { cell.toned(Tone::Warn) } else { cell };
    let cells = vec![
        Cell::text(name),
        Cell::text(format!("{state}{pause}")).toned(tone),
        Cell::number(if has_run { words::milliseconds(*last_ms) } else { String::new() }, has_run.then_some(*last_ms)),
        Cell::number(
            if has_run { words::value("bytes", *memory_bytes as f64) } else { String::new() },
            has_run.then_some(*memory_bytes as f64),
        ),
        number(*calls),
        warn(number(failed), failed),
        warn(number(*refusals), *refusals),
        warn(number(*dropped), *dropped),
    ];
    // The newest refusal may be what made the call fail, and is among the problems then.
    let lines = lines(problems, tone)
        .chain(refused.iter().rev().filter(|line| !problems.contains(line)).map(|line| (Tone::Warn, line.clone())));
    let lines = lines.collect::<Vec<_>>();
    let mut about = lines.clone();
    let facts = [
        plugin.component.as_ref().map(|component| format!("component {component}")),
        plugin.file.as_ref().map(|file| format!("file {file}")),
        has_run.then(|| {
            let sent = words::value("bytes", plugin.sent_bytes as f64);
            format!("sent {sent}, received {}", words::value("bytes", plugin.received_bytes as f64))
        }),
        (!failures.is_empty()).then(|| {
            let failures = failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>();
            format!("failed calls: {}", failures.join(", "))
        }),
        collector.map(|collector| {
            format!(
                "the last collection gave {} values in {}",
                collector.values,
                words::milliseconds(collector.took_ms)
            )
        }),
    ];
    about.extend(facts.into_iter().flatten().map(|fact| (Tone::Plain, fact)));
    Row { id: format!("plugin {name}"), cells, below: first(lines), about, ..Row::default() }
}

fn program(name: &str, collector: &CollectorReport) -> Row {
    let (state, tone) = match (collector.result.as_str(), collector.problems.is_empty()) {
        ("values", true) => ("running", Tone::Good),
        ("values" | "no data", _) => ("running", Tone::Warn),
        ("timed out", _) => ("timed out", Tone::Bad),
        (result, _) => (result, Tone::Bad),
    };
    let number = |count: u64| Cell::number(words::count(count), Some(count as f64));
    let failed = number(collector.failed);
    let cells = vec![
        Cell::text(name),
        Cell::text(state).toned(tone),
        Cell::number(words::milliseconds(collector.took_ms), Some(collector.took_ms)),
        Cell::default(),
        number(collector.collections),
        if collector.failed > 0 { failed.toned(Tone::Warn) } else { failed },
        Cell::default(),
        Cell::default(),
    ];
    let lines = lines(&collector.problems, tone).collect::<Vec<_>>();
    let mut about = lines.clone();
    about.push((Tone::Plain, format!("a program; its last run gave {} values", collector.values)));
    Row { id: format!("plugin {name}"), cells, below: first(lines), about, ..Row::default() }
}

fn lines(problems: &[String], tone: Tone) -> impl Iterator<Item = (Tone, String)> {
    problems.iter().map(move |problem| (tone.max(Tone::Warn), problem.clone()))
}

fn first(mut lines: Vec<(Tone, String)>) -> Vec<(Tone, String)> {
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.truncate(SHOWN);
        lines.push((Tone::Dim, format!("and {more} more: Enter shows them")));
    }
    lines
}
