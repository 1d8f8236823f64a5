//! `wasaba status`: the state of the running agent, for a person or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use wasaba_core::text::{counted, lasting};

use super::configuration::Whereabouts;
use super::flags::AgentFlags;
use crate::process::{control, log};
use show::state::{
    AgentState, CheckReport, CollectorReport, FaultReport, LaneReport, PluginReport, QueueReport, place,
};

/// The exit code of an agent that does not work.
pub const NOT_WORKING: u8 = 1;

/// The exit code if there is no agent to ask.
pub const NOT_RUNNING: u8 = 2;

/// What `--json` prints if there is no agent to ask.
#[derive(Serialize)]
struct Unanswered<'a> {
    is_working: bool,
    /// Why, with the cure.
    error: &'a str,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    /// Whether the agent works, as of `wasaba health`.
    is_working: bool,
    /// The same in words.
    summary: &'a str,
    #[serde(flatten)]
    state: &'a AgentState,
}

/// Prints a table, or JSON. Returns 0 if the agent works, and 2 if none answers; 1 if it does not work, or none answers and the
/// configuration is invalid.
#[must_use]
pub fn run(flags: &AgentFlags, json: bool) -> u8 {
    let Whereabouts { root, pidfile, wrong } = match flags.whereabouts() {
        Ok(found) => found,
        Err(why) => return unanswered(&why, json, NOT_WORKING),
    };
    let state = match control::ask(&root, &pidfile) {
        Ok(state) => state,
        Err(why) => {
            // Without an agent, what waits for it.
            let queue = super::queue::read(&root).map(|queue| format!("queue: {}", super::queue::head(&queue)));
            let code = if wrong.is_some() { NOT_WORKING } else { NOT_RUNNING };
            let lines = wrong.into_iter().chain([why]).chain(queue.ok()).collect::<Vec<_>>();
            return unanswered(&lines.join("\n"), json, code);
        }
    };
    if let Some(wrong) = wrong {
        log::print(&format!("{wrong}\n"));
    }
    let printed = if json { document(&state) } else { Ok(table(&state)) };
    if let Err(why) = printed.and_then(|text| super::print(&text)) {
        log::print(&format!("{why}\n"));
        return NOT_WORKING;
    }
    if state.judge().is_ok() { 0 } else { NOT_WORKING }
}

/// The state as a table and as JSON.
pub fn shown(state: &AgentState) -> (String, String) {
    (table(state), document(state).unwrap_or_else(|why| why))
}

/// Says why there is no answer. Returns the exit code.
pub fn unanswered(why: &str, json: bool, code: u8) -> u8 {
    if json {
        // A script has the exit code, too, where standard output is closed.
        in_json(&Unanswered { is_working: false, error: why }).and_then(|text| super::print(&text)).ok();
    }
    log::print(&format!("{why}\n"));
    code
}

fn document(state: &AgentState) -> Result<String, String> {
    let judged = state.judge();
    let (Ok(summary) | Err(summary)) = &judged;
    in_json(&Document { is_working: judged.is_ok(), summary, state })
}

fn in_json(document: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(document);
    text.map(|text| text + "\n").map_err(|error| error.to_string())
}

fn table(state: &AgentState) -> String {
    let mut text = String::new();
    for part in [head(state), lanes(state), collectors(state), plugins(state), checks(state)] {
        if !text.is_empty() && !part.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    }
    text
}

fn head(state: &AgentState) -> String {
    let AgentState { version, process, host, server, queue, confinement, .. } = state;
    let (Ok(summary) | Err(summary)) = state.judge();
    let id = host.id.as_deref().unwrap_or("not registered yet");
    let name = host.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let server = server.as_ref().map(|server| {
        let proxy = server.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
        format!("{}{proxy}", server.apibase)
    });
    let rows = [
        ("agent", format!("wasaba {version}, process {process}, running for {}", seconds(state.uptime_seconds))),
        ("state", summary),
        ("host", format!("{id}{name}")),
        (
            "server",
            server.unwrap_or_else(|| "none, since there is no API key: the values stay on this machine".to_owned()),
        ),
        (
            "queue",
            queue
                .as_ref()
                .map_or_else(|| "unknown: the disk does not answer".to_owned(), |queue| queued(queue, state.now)),
        ),
        ("losses", queue.as_ref().map_or_else(|| "unknown".to_owned(), losses)),
    ];
    let confinement = confinement.iter().map(|report| ("rights", report.to_string()));
    rows.into_iter().chain(confinement).map(|(name, value)| format!("{name:<7} {value}\n")).collect()
}

fn queued(queue: &QueueReport, now: i64) -> String {
    let QueueReport { points, minutes, oldest, file_bytes, hours_held, memory, collected, delivered, .. } = queue;
    let mut text = counted(*points, "point");
    write!(text, " of {}", counted(*minutes, "minute")).ok();
    text.extend(oldest.filter(|_| *points > 0).map(|oldest| format!(", the oldest from {}", ago(oldest, now))));
    write!(text, "; {collected} collected, {delivered} delivered").ok();
    text.extend(file_bytes.map(|bytes| format!("; the file has {} KiB", bytes.div_ceil(1_024))));
    text.extend(hours_held.map(|hours| format!(", and room for {hours:.0} h at this rate")));
    let memory = memory.as_ref();
    text.extend(memory.map(|memory| format!("; in memory for {}: {}", between(memory.since, now), memory.why)));
    text
}

fn losses(queue: &QueueReport) -> String {
    let losses = queue.losses.iter().map(|(reason, points)| format!("{points} {reason}"));
    let losses = losses.collect::<Vec<_>>();
    if losses.is_empty() { "none".to_owned() } else { format!("points: {}", losses.join(", ")) }
}

fn lanes(state: &AgentState) -> String {
    if state.server.is_none() {
        return String::new();
    }
    let mut rows = vec![["LANE", "LAST SUCCESS", "DELIVERED", "FAILURES IN 1 H", "STATE"].map(str::to_owned).to_vec()];
    let mut below = vec![Vec::new()];
    for lane in &state.lanes {
        let LaneReport { lane, host, last_success, delivered, failures_in_hour, fault, dropped } = lane;
        let host = host.as_ref().map(|host| format!(" ({host})")).unwrap_or_default();
        let dropped = dropped.iter().map(|(reason, count)| format!("dropped {count}: {reason}"));
        let mut lines = dropped.collect::<Vec<_>>();
        let is = match (fault, last_success) {
            (Some(FaultReport { since, error, at_fault, cure, next_try }), _) => {
                lines.insert(0, format!("the fault is {}: {cure}", place(at_fault)));
                lines.insert(0, error.clone());
                format!("failing for {}, next try in {}", between(*since, state.now), between(state.now, *next_try))
            }
            (None, Some(_)) => "working".to_owned(),
            (None, None) => "nothing yet".to_owned(),
        };
        rows.push(vec![
            format!("{lane}{host}"),
            last_success.map_or_else(|| "never".to_owned(), |at| ago(at, state.now)),
            delivered.to_string(),
            failures_in_hour.to_string(),
            is,
        ]);
        below.push(lines);
    }
    aligned(&rows, &below)
}

fn collectors(state: &AgentState) -> String {
    if state.collectors.is_empty() {
        return String::new();
    }
    let mut rows = vec![["COLLECTOR", "ASKED", "TOOK", "FAILED", "RESULT"].map(str::to_owned).to_vec()];
    let mut below = vec![Vec::new()];
    for collector in &state.collectors {
        let CollectorReport { name, asked, took_ms, result, values, problems, collections, failed } = collector;
        let result = if result == "values" { counted(*values as u64, "value") } else { result.clone() };
        let failed = format!("{failed} of {collections}");
        rows.push(vec![name.clone(), ago(*asked, state.now), format!("{took_ms:.1} ms"), failed, result]);
        below.push(problems.clone());
    }
    aligned(&rows, &below)
}

fn plugins(state: &AgentState) -> String {
    if state.plugins.is_empty() {
        return String::new();
    }
    let mut rows = vec![["PLUGIN", "STATE", "CALLS", "FAILED"].map(str::to_owned).to_vec()];
    let mut below = vec![Vec::new()];
    for plugin in &state.plugins {
        let PluginReport { name, state: is, problems, skipped_until, calls, failures, .. } = plugin;
        let pause =
            skipped_until.map(|until| format!(", skipped for {}", between(state.now, until))).unwrap_or_default();
        let failed = failures.iter().map(|(_, count)| count).sum::<u64>();
        rows.push(vec![name.clone(), format!("{is}{pause}"), calls.to_string(), failed.to_string()]);
        below.push(problems.clone());
    }
    aligned(&rows, &below)
}

fn checks(state: &AgentState) -> String {
    if state.checks.is_empty() {
        return String::new();
    }
    let mut rows = vec![["CHECK", "STATUS", "FOR", "RAN", "MESSAGE"].map(str::to_owned).to_vec()];
    for check in &state.checks {
        let CheckReport { name, status, since, ran, message, .. } = check;
        let message = message.lines().next().unwrap_or_default().chars().take(100).collect();
        rows.push(vec![name.clone(), status.clone(), between(*since, state.now), ago(*ran, state.now), message]);
    }
    let below = vec![Vec::new(); rows.len()];
    aligned(&rows, &below)
}

/// Rows with columns of equal width, and lines below each, two columns in.
fn aligned(rows: &[Vec<String>], below: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths = (0..columns).map(|column| width(column).unwrap_or_default()).collect::<Vec<_>>();
    let mut text = String::new();
    for (row, below) in rows.iter().zip(below) {
        let line =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).ok();
        for line in below {
            writeln!(text, "  {line}").ok();
        }
    }
    text
}

fn seconds(seconds: u64) -> String {
    lasting(Duration::from_secs(seconds))
}

/// From one time to another, in seconds since 1970; nothing if the clock was set back.
fn between(from: i64, to: i64) -> String {
    seconds(u64::try_from(to.saturating_sub(from)).unwrap_or_default())
}

fn ago(time: i64, now: i64) -> String {
    format!("{} ago", between(time, now))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use show::state::{ConfinementReport, HostReport, MemoryReport, ServerReport, State};

    const NOW: i64 = 1_800_000_000;

    /// An agent on its way out of an outage, with one of everything.
    fn state() -> AgentState {
        let lane = |lane: &str, last_success: Option<i64>, delivered| LaneReport {
            lane: lane.to_owned(),
            last_success,
            delivered,
            ..LaneReport::default()
        };
        let fault = FaultReport {
            since: NOW - 720,
            error: "Mackerel answered 503: busy".to_owned(),
            at_fault: "mackerel".to_owned(),
            cure: "nothing to do here, since it is tried again".to_owned(),
            next_try: NOW + 41,
        };
        let missing = FaultReport {
            since: NOW - 86_400,
            error: "no host has the custom identifier `db1`".to_owned(),
            at_fault: "configuration".to_owned(),
            cure: "register that host".to_owned(),
            next_try: NOW + 300,
        };
        let collector = |name: &str, took_ms, result: &str, values, failed, problems: &[&str]| CollectorReport {
            name: name.to_owned(),
            asked: NOW - 12,
            took_ms,
            result: result.to_owned(),
            values,
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
            collections: 60,
            failed,
        };
        let check = |name: &str, status: &str, since, message: &str| CheckReport {
            name: name.to_owned(),
            status: status.to_owned(),
            since,
            ran: NOW - 30,
            took_ms: 12.5,
            message: message.to_owned(),
        };
        AgentState {
            version: "0.1.0".to_owned(),
            process: 4_242,
            now: NOW,
            uptime_seconds: 11_520,
            host: HostReport { id: Some("4Hkc5RVYYB4".to_owned()), name: Some("web-1".to_owned()), cpus: Some(2) },
            server: Some(ServerReport {
                apibase: "https://api.mackerelio.com".to_owned(),
                proxy: Some("http://[redacted]@proxy:3128".to_owned()),
            }),
            confinement: Some(ConfinementReport {
                closed: vec!["new privileges".to_owned(), "files and programs (Landlock 7)".to_owned()],
                open: vec!["ports: the sandbox decides where a plugin connects: plugin `nginx`".to_owned()],
                lacking: vec!["reading `/srv/log`".to_owned()],
            }),
            collected_seconds_ago: 12,
            delivered_seconds_ago: Some(720),
            lanes: vec![
                LaneReport { fault: Some(fault), failures_in_hour: 9, ..lane("values", Some(NOW - 720), 5_400) },
                LaneReport {
                    dropped: BTreeMap::from([("refused".to_owned(), 2)]),
                    ..lane("check reports", Some(NOW - 20), 12)
                },
                lane("metadata", None, 0),
                LaneReport { host: Some("db1".to_owned()), fault: Some(missing), ..lane("other host", None, 0) },
            ],
            queue: Some(QueueReport {
                points: 360,
                minutes: 12,
                oldest: Some(NOW - 780),
                file_bytes: Some(54_321),
                hours_held: Some(29.7),
                memory: Some(MemoryReport { since: NOW - 90, why: "No space left on device (os error 28)".to_owned() }),
                collected: 5_769,
                delivered: 5_400,
                losses: BTreeMap::from([("rejected".to_owned(), 9)]),
            }),
            plugins: vec![
                PluginReport {
                    name: "db".to_owned(),
                    state: State::Failing,
                    problems: vec!["timed out after 20 s".to_owned()],
                    skipped_until: Some(NOW + 150),
                    calls: 9,
                    failures: vec![("late".to_owned(), 3)],
                    ..PluginReport::default()
                },
                PluginReport {
                    name: "web".to_owned(),
                    state: State::Skipped,
                    problems: vec!["unknown plugin `ngnix`, did you mean `nginx`?".to_owned()],
                    ..PluginReport::default()
                },
            ],
            collectors: vec![
                collector("cpu", 0.31, "values", 9, 0, &[]),
                collector("plugin db", 20_000.0, "timed out", 0, 3, &[]),
                collector("filesystem", 1.2, "values", 1, 0, &["skipped `/mnt`: it hangs"]),
            ],
            checks: vec![
                check("disk", "CRITICAL", NOW - 3_900, "96 % of / are used\nsee the runbook"),
                check("ssh", "OK", NOW - 11_500, ""),
            ],
        }
    }

    fn assert_golden(name: &str, text: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/golden").join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, golden, "differs from {}; record it again with UPDATE=1 and read the diff", file.display());
    }

    #[test]
    fn the_table_of_an_agent_in_an_outage_is_the_golden_one() {
        assert_golden("status.txt", &table(&state()));
    }

    #[test]
    fn the_json_of_an_agent_in_an_outage_is_the_golden_one() {
        assert_golden("status.json", &document(&state()).unwrap());
    }

    #[test]
    fn a_file_that_is_not_used_has_no_size_in_the_table() {
        let queue = state().queue.unwrap();
        assert!(queued(&queue, NOW).contains("; the file has 54 KiB, and room for "));
        let refused = QueueReport { file_bytes: None, hours_held: None, ..queue };
        let shown = queued(&refused, NOW);
        assert!(!shown.contains("the file has") && shown.contains(" delivered; in memory for "), "{shown}");
    }

    #[test]
    fn the_table_of_an_agent_without_a_key_that_has_just_started_is_the_golden_one() {
        let state = AgentState { version: "0.1.0".to_owned(), process: 4_242, now: NOW, ..AgentState::default() };
        assert_golden("status-local.txt", &table(&state));
    }
}
