//! The matrix: every endpoint of Mackerel times every way in which it, or what stands before it, misbehaves. In each cell one endpoint
//! misbehaves for an hour while all others are well, and then all are. Whatever the cell, the same promises must hold.
//!
//! The hours pass in simulated time: the runtime's clock is paused and moved by [`pass`], so that a cell takes seconds.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use wasaba_core::report::{Report, Status};

use super::simulation::{
    AMBIGUOUS, Answers, BEGIN, Blocks, Chokes, ERROR, Endpoint, Flaps, Forgets, Hangs, Lines, MISBEHAVIOURS,
    MOST_REQUESTS, Mackerel, Misbehaviour, Output, WELL, definitions, pass, report, simulated, started,
};
use crate::spool::Ledger;

/// How long an endpoint misbehaves.
const MISBEHAVING: u32 = 60;

/// The most lines about it in that hour.
const MOST_LINES: usize = 8;

/// The minutes within which a value of an endpoint that is well must arrive.
const ON_TIME: i64 = 3;

/// The reports of this host, by check.
const EXPECTED_REPORTS: [(&str, &[&str]); 2] = [("db ", &["CRITICAL", "OK"]), ("web ", &["WARNING"])];

/// What became of one cell.
struct Cell {
    tries: usize,
    /// Whether the values of each minute arrived on time while the endpoint misbehaved.
    is_on_time: bool,
    lines: Vec<String>,
    /// The promises that do not hold.
    broken: Vec<String>,
}

/// Whether values are collected in a minute: once all is well, a few are enough.
fn is_kept(minute: u32) -> bool {
    minute < MISBEHAVING || minute.is_multiple_of(10)
}

fn other(report: Report) -> Report {
    Report { host: Some("db1".into()), ..report }
}

async fn cell(endpoint: Endpoint, misbehaviour: Misbehaviour, folder: &Path, lines: &Lines) -> Cell {
    let mackerel = Arc::new(Mackerel::default());
    mackerel.seen().misbehaving.insert(endpoint, misbehaviour);
    let address = Arc::clone(&mackerel).listen().await;
    let is_new = endpoint == Endpoint::Registration;
    if !is_new {
        std::fs::write(folder.join("id"), "HOST1").unwrap();
        mackerel.seen().hosts = 1;
    }
    let (output, run) = Output::of(folder, address, BEGIN);
    let script = async {
        for minute in 0..MISBEHAVING + WELL {
            let time = BEGIN + i64::from(minute) * 60;
            if minute == MISBEHAVING {
                mackerel.seen().misbehaving.clear();
            }
            if !is_kept(minute) {
                pass(Duration::from_secs(60)).await;
                continue;
            }
            output.keep(minute);
            match minute {
                0 => {
                    output.reports.try_send(report("db", Status::Critical, time)).unwrap();
                    output.reports.try_send(report("web", Status::Warning, time)).unwrap();
                    output.reports.try_send(other(report("lag", Status::Critical, time))).unwrap();
                    output.document("a", "1");
                    output.document("b", "1");
                }
                30 => {
                    output.reports.try_send(report("db", Status::Ok, time)).unwrap();
                    output.reports.try_send(other(report("lag", Status::Ok, time))).unwrap();
                    output.document("a", "2");
                    output.defined.send(definitions(&["first", "second", "third"])).unwrap();
                }
                _ => {}
            }
            pass(Duration::from_secs(60)).await;
        }
        output.shutdown.send(true).unwrap();
    };
    // The output stops by itself only if it fails.
    let (result, ()) = tokio::join!(run, script);
    let mut broken = Vec::new();
    if let Err(error) = result {
        broken.push(format!("it ended: {error}"));
    }
    mackerel.judge((endpoint, misbehaviour), &output.spool.ledger(), lines.take(), broken)
}

impl Mackerel {
    fn judge(
        &self,
        (endpoint, misbehaviour): (Endpoint, Misbehaviour),
        ledger: &Ledger,
        lines: Vec<String>,
        mut broken: Vec<String>,
    ) -> Cell {
        let seen = self.seen();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        let minutes = (0..MISBEHAVING + WELL).filter(|minute| is_kept(*minute)).count();
        let of = |host: &str| seen.values.keys().filter(|(of, ..)| of == host).count();
        promise(of("HOST1") == 20 * minutes, format!("{} of {} values arrived", of("HOST1"), 20 * minutes));
        promise(of("HOST9") == minutes, format!("{} of {minutes} values of another host arrived", of("HOST9")));
        promise(seen.repeated == 0 || misbehaviour == Forgets, format!("{} values arrived twice", seen.repeated));
        let all = 21 * minutes as u64;
        let books = Ledger { collected: all, delivered: all, ..Ledger::default() };
        promise(*ledger == books, format!("the books say {ledger}"));
        // Those of each check in their order; some may be repeated.
        for (check, expected) in EXPECTED_REPORTS {
            let of = seen.reports.iter().filter_map(|report| report.strip_prefix(check)).collect::<Vec<_>>();
            promise(of.ends_with(expected), format!("reports: {:?}", seen.reports));
        }
        promise(seen.reports.len() == 3 || misbehaviour == Forgets, format!("repeated reports: {:?}", seen.reports));
        let documents =
            seen.documents.iter().map(|(namespace, json)| format!("{namespace}={json}")).collect::<Vec<_>>();
        promise(
            seen.other_reports == 2 || misbehaviour == Forgets && seen.other_reports > 2,
            format!("{} reports of another host", seen.other_reports),
        );
        promise(documents == ["a=2", "b=1"], format!("documents: {documents:?}"));
        let graphs = seen.definitions.iter().map(String::as_str).collect::<Vec<_>>();
        promise(graphs == ["custom.first", "custom.second", "custom.third"], format!("definitions: {graphs:?}"));
        promise(seen.descriptions > 0, "the host is not described".to_owned());
        promise(seen.status.as_deref() == Some("working"), format!("status: {:?}", seen.status));
        promise(seen.hosts == 1, format!("{} hosts", seen.hosts));

        let started = started();
        let moments = seen.tries.iter().map(|(_, at)| *at).collect::<Vec<_>>();
        let tries = moments.iter().filter(|at| **at - started < Duration::from_mins(59)).count();

        let is_blocked = matches!(misbehaviour, Blocks(_));
        let only_fails = misbehaviour != Chokes && misbehaviour != Flaps && !is_blocked;
        promise(tries > 0, "the endpoint was not tried".to_owned());
        promise(!only_fails || tries <= MOST_REQUESTS, format!("{tries} requests in an hour"));
        promise(!(only_fails || is_blocked) || !lines.is_empty(), "nothing was logged".to_owned());
        promise(lines.len() <= MOST_LINES, format!("{} lines in the log", lines.len()));
        if let Answers(_, headers, _) = misbehaviour
            && let Some(seconds) = headers.strip_prefix("retry-after: ").and_then(|rest| rest.trim().parse().ok())
        {
            let is_early = |pair: &[Instant]| pair[1] - pair[0] < Duration::from_secs(seconds);
            // Each host, document and so on has its own request.
            let mut early = moments.windows(2).filter(|pair| is_early(pair));
            promise(early.next().is_none(), format!("requests within Retry-After: {tries}"));
        }
        // Each try to find what is never answered takes half a minute.
        let on_time = if misbehaviour == Blocks(&Hangs) { ON_TIME + 3 } else { ON_TIME };
        let lateness = |minute: u32| {
            let time = BEGIN + i64::from(minute) * 60;
            let arrived = seen.values.get(&("HOST1".to_owned(), "custom.m.00".to_owned(), time))?;
            Some((*arrived - started).as_secs() as i64 - i64::from(minute) * 60)
        };
        let late = (0..MISBEHAVING).filter(|minute| lateness(*minute).is_none_or(|late| late > on_time * 60));
        let late = late.map(|minute| format!("{minute} by {:?} s", lateness(minute))).collect::<Vec<_>>();
        let is_on_time = late.is_empty();
        // Nothing can be posted for a host that Mackerel does not have, and nothing must be for one that may be another.
        let host_is_known = match (endpoint, misbehaviour) {
            (Endpoint::Registration, _) => false,
            (Endpoint::LookUp, Answers(404, _, body)) => body != ERROR,
            _ => true,
        };
        let is_own = endpoint == Endpoint::Values && !is_blocked;
        promise(is_on_time || is_own || !host_is_known, format!("values are not on time: {}", late.join(", ")));
        Cell { tries, is_on_time, lines, broken }
    }
}

#[test]
fn no_misbehaviour_of_any_endpoint_loses_anything_or_holds_up_another() {
    let cells = MISBEHAVIOURS.iter().chain(&AMBIGUOUS);
    let cells = cells.flat_map(|(name, misbehaviour)| Endpoint::USED.map(|endpoint| (*name, *misbehaviour, endpoint)));
    // Only these have something that is blocked.
    let is_affected = |(_, misbehaviour, endpoint): &(&str, Misbehaviour, Endpoint)| {
        !matches!(misbehaviour, Blocks(_))
            || matches!(endpoint, Endpoint::Values | Endpoint::Reports | Endpoint::Definitions)
    };
    // All of them take minutes of CPU.
    let (all, only) = (std::env::var_os("ALL").is_some(), std::env::var("ONLY").unwrap_or_default());
    let is_run = |(number, (name, _, endpoint)): &(usize, (&str, Misbehaviour, Endpoint))| match &*only {
        "" => all || *endpoint == Endpoint::Values || number.is_multiple_of(2),
        only => format!("{name} {}", endpoint.name()).contains(only),
    };
    let cells = cells.filter(is_affected).enumerate().filter(is_run).map(|(_, cell)| cell);
    let todo = Mutex::new(cells.collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((name, misbehaviour, endpoint)) = todo.lock().unwrap().pop() else { return };
                    let folder =
                        if Path::new("/dev/shm").is_dir() { TempDir::new_in("/dev/shm") } else { TempDir::new() };
                    let (folder, lines) = (folder.unwrap(), Lines::default());
                    let guard = super::testing::log::to(lines.clone());
                    let cell = simulated(cell(endpoint, misbehaviour, folder.path(), &lines));
                    drop(guard);
                    results.lock().unwrap().push((name, endpoint, cell));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut broken = String::new();
    for (name, endpoint, cell) in &results {
        let (endpoint, lines) = (endpoint.name(), cell.lines.join("\n    "));
        if !cell.broken.is_empty() {
            writeln!(broken, "{endpoint}: {name}: {}\n    {lines}", cell.broken.join("; ")).unwrap();
        }
        if !only.is_empty() {
            eprintln!("{endpoint}: {name}: {} requests, on time: {}\n    {lines}", cell.tries, cell.is_on_time);
        }
    }
    assert!(broken.is_empty(), "{broken}");
    if only.is_empty() {
        document(&results);
    }
}

/// Compares the table in the documentation, or writes it with `UPDATE=1`.
fn document(results: &[(&str, Endpoint, Cell)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/delivery.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- matrix -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let mut table = "\n| what happens to posted values for an hour | what the log says of it |\n|---|---|\n".to_owned();
    for (name, _) in MISBEHAVIOURS.iter().chain(&AMBIGUOUS) {
        let own = results.iter().find(|(of, endpoint, _)| of == name && *endpoint == Endpoint::Values).unwrap();
        let is_own = |line: &&String| !line.contains("of the host `db1`");
        let line = own.2.lines.iter().find(is_own).map_or("nothing", |line| line.split_once("min ").unwrap().1);
        // Not the port, nor the wait, which chance changes.
        let line = line.rsplit_once("; ").map_or(line, |(line, _)| line).split("127.0.0.1:");
        let without_port = |part: &str| part.trim_start_matches(|char: char| char.is_ascii_digit()).to_owned();
        let line = line.enumerate().map(|(at, part)| if at == 0 { part.to_owned() } else { without_port(part) });
        let line = line.collect::<Vec<_>>();
        let line = line.join("api.mackerelio.com").replace('|', "\\|");
        writeln!(table, "| {name} | {line} |").unwrap();
    }
    table.push('\n');
    let page_now = format!("{before}<!-- matrix -->\n{table}<!-- end -->\n{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page_now).unwrap();
    } else {
        assert!(page == page_now, "docs/delivery.md is not up to date: run this test with UPDATE=1\n{table}");
    }
}
