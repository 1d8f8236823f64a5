//! `wasaba queue`: what the queue's file holds, also beside the agent that writes it. Nothing is changed.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use delivery::spool::{self, Minute, Snapshot, Verification};
use serde_json::json;
use wasaba_core::text::counted;

use super::configuration::Whereabouts;
use super::flags::{AgentFlags, QueueCommand};
use crate::process::{control, log, look, pidfile};
use show::state::QueueReport;

/// Runs a command on the queue below the configuration's root.
///
/// # Errors
/// There is no queue, it cannot be read, or it is damaged.
pub fn run(command: &QueueCommand) -> Result<(), String> {
    let find = |flags: &AgentFlags| {
        let found = flags.whereabouts()?;
        if let Some(wrong) = &found.wrong {
            log::print(&format!("{wrong}\n"));
        }
        Ok::<_, String>(found)
    };
    match command {
        QueueCommand::Show(flags) => {
            let Whereabouts { root, pidfile, .. } = find(flags)?;
            // It knows, too, what is not in the file, and what of it was delivered since.
            let asked = control::ask(&root, &pidfile).map(|state| state.queue.filter(|queue| queue.memory.is_some()));
            if let Some(note) = in_memory(&asked, || pidfile::running(&pidfile)) {
                log::print(&format!("{note}\n"));
            }
            let queue = read(&root)?;
            let head = match &asked {
                // It has counted what is in the file.
                Ok(Some(report)) if report.file_bytes.is_some() => head_of(report, queue.host_id()),
                _ => head(&queue),
            };
            super::print(&shown(&head, minutes(&root, &queue)))
        }
        QueueCommand::Verify(flags) => super::print(&verified(&read(&find(flags)?.root)?.verification())?),
        QueueCommand::Export(flags) => {
            let root = find(flags)?.root;
            let queue = read(&root)?;
            export(&mut std::io::stdout().lock(), queue.host_id(), minutes(&root, &queue))
        }
    }
}

/// Reads the queue's file.
///
/// # Errors
/// It cannot be read.
pub fn read(root: &Path) -> Result<Snapshot, String> {
    let look = || look::at(format_args!("`{}`", root.display()));
    look();
    spool::read(root, look).map_err(|error| error.to_string())
}

fn minutes(root: &Path, queue: &Snapshot) -> impl Iterator<Item = Result<Minute, i64>> {
    queue.minutes().inspect(|_| look::at(format_args!("`{}`", root.display())))
}

/// That the file is not what is queued, as far as the agent says so or cannot be asked.
fn in_memory(asked: &Result<Option<QueueReport>, String>, running: impl FnOnce() -> Option<u32>) -> Option<String> {
    match asked {
        Ok(report) => {
            let QueueReport { points, memory, .. } = report.as_ref()?;
            let why = &memory.as_ref()?.why;
            Some(format!(
                "the agent keeps new values in memory: {why}; {} are queued in all; the minutes that are listed here are those of the \
                 file, without what is in memory, and with what was delivered since",
                counted(*points, "point")
            ))
        }
        Err(why) => running().map(|_| format!("{why}; what it has in memory is not listed here")),
    }
}

/// The summary of a queue, in a line.
#[must_use]
pub fn head(queue: &Snapshot) -> String {
    let room = queue.hours().map(|hours| format!("; room for {hours:.0} h at this rate")).unwrap_or_default();
    format!("points{}: {}{room}", of_host(queue.host_id()), queue.ledger())
}

/// The same, as the agent says while the file cannot be written.
fn head_of(report: &QueueReport, host_id: Option<&str>) -> String {
    let QueueReport { points, collected, delivered, losses, .. } = report;
    let losses = losses.iter().map(|(reason, points)| format!(" + {points} {}", reason.replace('_', " ")));
    let losses = losses.collect::<String>();
    format!("points{}: {collected} collected = {delivered} delivered + {points} queued{losses}", of_host(host_id))
}

fn of_host(id: Option<&str>) -> String {
    id.map(|id| format!(" of host {id}")).unwrap_or_default()
}

fn shown(head: &str, minutes: impl Iterator<Item = Result<Minute, i64>>) -> String {
    let mut text = format!("{head}\n");
    for minute in minutes {
        match minute {
            Ok(Minute { time, samples }) => {
                writeln!(text, "{}  {}", stamp(time), counted(samples.len() as u64, "point")).ok();
            }
            Err(time) => drop(writeln!(text, "{}  unreadable: `wasaba queue verify` says why", stamp(time))),
        }
    }
    text
}

/// A time in UTC.
fn stamp(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(|_| unix_seconds.to_string(), |time| time.to_string())
}

fn verified(found: &Verification) -> Result<String, String> {
    let Verification { frames, bytes, torn_bytes, is_tail_doubtful, damaged, missing, is_balanced } = found;
    let after = counted(*torn_bytes, "byte");
    let torn = match torn_bytes {
        0 => String::new(),
        _ if *is_tail_doubtful => format!("; {after} after them cannot be read"),
        _ => format!("; {after} after them are of a commit that was not finished, which is not damage"),
    };
    let text = format!("{} in {}{torn}", counted(*frames, "commit"), counted(*bytes, "byte"));
    let damaged = damaged.iter().map(|range| format!("from byte {} to {}", range.start, range.end)).collect::<Vec<_>>();
    if !damaged.is_empty() {
        return Err(format!(
            "the queue is damaged {}: {text}; {missing}; the agent keeps what is readable, and sets a copy of the file aside \
             at its next start",
            damaged.join(", ")
        ));
    }
    if *is_tail_doubtful {
        return Err(format!(
            "the last commit of the queue is damaged, or was not finished before a power cut: {text}; how many points it had \
             is not known; everything before it is whole, and the agent continues with that"
        ));
    }
    if !is_balanced {
        return Err(format!("the queue is readable, but its books do not add up: {text}; report this"));
    }
    Ok(format!("the queue is whole: {text}\n"))
}

/// A JSON object a line and point, the newest minute first; `host` is the id of this host, or the custom identifier of another.
fn export(
    output: &mut impl Write,
    own: Option<&str>,
    minutes: impl Iterator<Item = Result<Minute, i64>>,
) -> Result<(), String> {
    let mut unreadable = 0_u64;
    for minute in minutes {
        let Ok(Minute { time, samples }) = minute else {
            unreadable += 1;
            continue;
        };
        for sample in samples {
            let host = sample.host().map(|host| &**host).or(own);
            let point = json!({ "time": time, "host": host, "name": sample.name().as_str(), "value": sample.value() });
            match writeln!(output, "{point}") {
                // Whoever reads it has enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(format!("cannot print: {error}")),
                Ok(()) => {}
            }
        }
    }
    match unreadable {
        0 => Ok(()),
        _ => Err(format!("{} cannot be read: `wasaba queue verify` says why", counted(unreadable, "minute"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use delivery::spool::Spool;
    use wasaba_core::sample::Sample;

    use super::*;
    use show::state::MemoryReport;

    const NOW: i64 = 1_800_000_000;

    fn minute(time: i64, names: &[&str]) -> Minute {
        let samples = names.iter().map(|name| Sample::new(*name, 1.5).unwrap()).collect();
        Minute { time, samples }
    }

    #[test]
    fn what_an_agent_has_queued_is_listed_verified_and_exported_while_it_runs() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::open(root.path(), NOW).unwrap();
        spool.keep_host_id("HOST1");
        let db: Arc<str> = "db1".into();
        let mut second = minute(NOW + 60, &["b"]);
        second.samples.push(Sample::new("a", 2.0).unwrap().of_host(&db));
        assert!(spool.keep(vec![minute(NOW, &["a", "b"]), second], &[], NOW + 60));
        let queue = read(root.path()).unwrap();
        let listed = shown(&head(&queue), queue.minutes());
        let lines = listed.lines().collect::<Vec<_>>();
        assert!(lines[0].starts_with("points of host HOST1: 4 collected = 0 delivered + 4 queued "), "{listed}");
        assert_eq!(lines[1..], ["2027-01-15T08:01:00Z  2 points", "2027-01-15T08:00:00Z  2 points"]);
        assert!(verified(&queue.verification()).unwrap().starts_with("the queue is whole: "));
        let mut output = Vec::new();
        export(&mut output, queue.host_id(), queue.minutes()).unwrap();
        let points = String::from_utf8(output).unwrap();
        let points = points.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let of = |time, host: &str, name: &str, value: f64| json!({ "time": time, "host": host, "name": name, "value": value });
        let mut points = points.map(|point| point.to_string()).collect::<Vec<_>>();
        points.sort();
        let mut expected = [
            of(NOW + 60, "HOST1", "b", 1.5),
            of(NOW + 60, "db1", "a", 2.0),
            of(NOW, "HOST1", "a", 1.5),
            of(NOW, "HOST1", "b", 1.5),
        ]
        .map(|point| point.to_string())
        .to_vec();
        expected.sort();
        assert_eq!(points, expected);
    }

    #[test]
    fn values_that_are_only_in_memory_are_said_beside_the_list() {
        let state =
            |memory: Option<MemoryReport>| Ok(Some(QueueReport { points: 83, memory, ..QueueReport::default() }));
        let read_only = MemoryReport { since: NOW, why: "Read-only file system (os error 30)".to_owned() };
        let said = in_memory(&state(Some(read_only)), || None).unwrap();
        assert!(said.contains("in memory: Read-only file system (os error 30); 83 points are queued in all"), "{said}");
        assert_eq!(in_memory(&state(None), || unreachable!("the agent has answered")), None);
        let said = in_memory(&Err("it cannot be asked".to_owned()), || Some(1)).unwrap();
        assert_eq!(said, "it cannot be asked; what it has in memory is not listed here");
        assert_eq!(in_memory(&Err("no agent is running".to_owned()), || None), None);
    }

    #[test]
    fn while_the_file_cannot_be_written_the_summary_is_that_of_the_agent() {
        let losses = [("of_another_host".to_owned(), 2)].into();
        let report = QueueReport { collected: 60, delivered: 58, losses, ..QueueReport::default() };
        let head = head_of(&report, Some("HOST1"));
        assert_eq!(head, "points of host HOST1: 60 collected = 58 delivered + 0 queued + 2 of another host");
    }

    #[test]
    fn damage_and_books_that_do_not_add_up_are_errors_and_an_unfinished_commit_is_not() {
        let whole = Verification {
            frames: 3,
            bytes: 400,
            torn_bytes: 0,
            is_tail_doubtful: false,
            damaged: Vec::new(),
            missing: "lost 5 points".to_owned(),
            is_balanced: true,
        };
        assert_eq!(verified(&whole).unwrap(), "the queue is whole: 3 commits in 400 bytes\n");
        let torn = Verification { torn_bytes: 7, ..whole.clone() };
        assert!(verified(&torn).unwrap().contains("7 bytes after them are of a commit that was not finished"));
        let doubtful = verified(&Verification { is_tail_doubtful: true, ..torn }).unwrap_err();
        assert!(doubtful.starts_with("the last commit of the queue is damaged, or was not finished "), "{doubtful}");
        assert!(
            doubtful.contains("7 bytes after them cannot be read; how many points it had is not known"),
            "{doubtful}"
        );
        let unbalanced = Verification { is_balanced: false, ..whole.clone() };
        assert!(verified(&unbalanced).unwrap_err().contains("do not add up"));
        let twice = verified(&Verification { damaged: vec![100..200, 300..310], ..whole }).unwrap_err();
        assert!(twice.contains("damaged from byte 100 to 200, from byte 300 to 310"), "{twice}");
        assert!(twice.contains("; lost 5 points; "), "{twice}");
    }

    #[test]
    fn minutes_that_cannot_be_read_are_named_in_the_list_and_make_the_export_fail_after_the_rest() {
        let minutes = || vec![Err(NOW), Ok(minute(NOW - 60, &["a"]))].into_iter();
        assert!(shown("", minutes()).contains("2027-01-15T08:00:00Z  unreadable: "));
        let mut output = Vec::new();
        let error = export(&mut output, None, minutes()).unwrap_err();
        assert!(
            error.starts_with("1 minute cannot be read") && String::from_utf8(output).unwrap().contains("\"a\""),
            "{error}"
        );
    }
}
