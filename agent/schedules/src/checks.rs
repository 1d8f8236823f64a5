//! Checks: each runs a program or a component on its own schedule, and reports the status.
//!
//! A check compares each result with the previous one and sends a report if Mackerel needs it; delivering it is the business of
//! `delivery`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::check::{Check, Runner};
use official::programs::process::End;
use official::programs::{Program, process};
use plugins::components::Components;
use plugins::instance::{Checked, MOST_REPORTS, answer};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use wasaba_core::clock;
use wasaba_core::lines::{ABOUT_PLUGINS, LinesAnHour};
use wasaba_core::report::{Lost, Report, Status};
use wasaba_core::secret::Secrets;
use wasaba_core::text::{Dropped, printable};

use crate::statuses::Statuses;

/// The longest message that Mackerel stores, in characters.
const LONGEST_MESSAGE: usize = 1_024;

/// How many lines about one check are logged in an hour: a plugin may have a hundred reports, and change all of them each minute.
const MOST_LINES: u32 = 10;

/// A variable of a program's environment can hold 128 KiB.
const MOST_VARIABLE_BYTES: usize = 100 << 10;

/// Whether another check of the configuration has this name.
pub type Taken = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What one run found: of each report the name that the plugin gives it, empty for the check's own.
struct Found {
    name: String,
    status: Status,
    message: String,
    /// The exit code of a program.
    code: Option<i32>,
}

impl Found {
    fn own(status: Status, message: impl Into<String>) -> Self {
        Self { name: String::new(), status, message: message.into(), code: None }
    }
}

/// Runs the check forever, sends its reports, and shows its results in `statuses`. Those that a plugin names are posted as
/// `<check>-<name>`, unless that name is `taken`.
pub async fn keep(
    check: Arc<Check>,
    components: Components,
    reports: Sender<Report>,
    taken: Taken,
    statuses: Statuses,
) {
    let shown_statuses = statuses.of(&check.name, check.custom_identifier.as_ref());
    let mut ticks = tokio::time::interval(check.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before: HashMap<Arc<str>, Last> = HashMap::new();
    let mut last_worst = None;
    let mut action = Action(None);
    let mut last_warnings = Vec::new();
    let mut lines = LinesAnHour::new(MOST_LINES, clock::instant());
    loop {
        ticks.tick().await;
        let (occurred_at, running) = (clock::unix_seconds(), clock::running());
        let (mut found, mut warnings) = ask(&check, &components).await;
        let took = clock::running().saturating_sub(running);
        let mut dropped = Dropped::hiding(&Secrets::default());
        found.retain(|found| {
            let name = full_name(&check, found);
            let is_free = found.name.is_empty() || !taken(&name) && !shown_statuses.is_of_another(&name);
            if !is_free {
                dropped.add("another check has this name", &name);
            }
            is_free
        });
        warnings.extend(dropped.lines_of("report"));
        for warning in warnings.iter().filter(|warning| !last_warnings.contains(*warning)) {
            if let Some(warning) = lines.admitted(warning.clone(), clock::instant()) {
                tracing::warn!(target: ABOUT_PLUGINS, "check {}: {warning}", check.name);
            }
        }
        last_warnings = warnings;
        // A plugin that reports under other names does not say that a failure of the whole call is over.
        let failed = before.get(&check.name).is_some_and(|last| last.status != Status::Ok);
        if failed && found.iter().all(|found| !found.name.is_empty()) {
            found.push(Found::own(Status::Ok, "the check succeeds again"));
        }
        let worst = found.iter().max_by_key(|found| severity(found.status));
        if let (Some(program), Some(worst)) = (&check.action, worst) {
            action.start(&check.name, program, last_worst, worst.status, &worst.message);
        }
        last_worst = worst.map(|worst| worst.status).or(last_worst);
        forget(&mut before, &check, &found);
        for found in found {
            let name = full_name(&check, &found);
            let Found { status, message, code, .. } = found;
            shown_statuses.note(&name, status, &message, occurred_at, took);
            let before = before.entry(Arc::clone(&name));
            let last = match &before {
                Entry::Occupied(last) => Some(last.get()),
                Entry::Vacant(_) => None,
            };
            if last.is_none_or(|last| last.status != status) {
                let line = format!("{}: {}", status.word(), shown(&message, code));
                let is_component = matches!(check.runner, Runner::Component(_));
                match (lines.admitted(line, clock::instant()), status, is_component) {
                    (Some(line), Status::Ok, true) => tracing::info!(target: ABOUT_PLUGINS, "check {name}: {line}"),
                    (Some(line), _, true) => tracing::warn!(target: ABOUT_PLUGINS, "check {name}: {line}"),
                    (Some(line), Status::Ok, false) => tracing::info!("check {name}: {line}"),
                    (Some(line), _, false) => tracing::warn!("check {name}: {line}"),
                    (None, ..) => {}
                }
            }
            let message = message.chars().take(LONGEST_MESSAGE).collect::<String>();
            let mut lost = last.map(|last| last.lost.clone()).unwrap_or_default();
            if let Some(is_urgent) = urgency(&check, last, status, &message) {
                lost = Lost::default();
                let report = Report {
                    name: Arc::clone(&name),
                    host: check.custom_identifier.clone(),
                    status,
                    message: message.clone(),
                    occurred_at,
                    taken: Some(running),
                    notification_interval_minutes: check.notification_interval_minutes,
                    max_check_attempts: check.max_check_attempts,
                    is_urgent,
                    lost: lost.clone(),
                };
                // Without an API key the queue is closed, and the report is dropped.
                if let Err(TrySendError::Full(_)) = reports.try_send(report) {
                    lost.set();
                    tracing::debug!("check {name}: dropped a report: the queue is full");
                }
            }
            before.insert_entry(Last { status, message, lost });
        }
        shown_statuses.keep(|name| before.contains_key(name));
    }
}

/// Forgets the names that were not reported this time, once there are more than one run can report: a plugin could report under new
/// ones for ever.
fn forget(before: &mut HashMap<Arc<str>, Last>, check: &Check, found: &[Found]) {
    if before.len() > MOST_REPORTS {
        let reported = found.iter().map(|found| full_name(check, found)).collect::<HashSet<_>>();
        before.retain(|name, _| *name == check.name || reported.contains(name));
    }
}

/// The message for the log. A program that printed nothing is described by its exit code.
fn shown(message: &str, code: Option<i32>) -> String {
    match (message.trim(), code) {
        ("", Some(code)) if code != 0 => format!("exited with code {code} and printed nothing"),
        (message, _) => printable(message, 300),
    }
}

/// The name that a report is posted under.
fn full_name(check: &Check, found: &Found) -> Arc<str> {
    if found.name.is_empty() { Arc::clone(&check.name) } else { format!("{}-{}", check.name, found.name).into() }
}

/// An order of the statuses, the worst last.
fn severity(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::Unknown => 1,
        Status::Warning => 2,
        Status::Critical => 3,
    }
}

/// The last result under a name, and what became of its report.
struct Last {
    status: Status,
    message: String,
    lost: Lost,
}

/// Whether the result must be reported: `Some(true)` at once, `Some(false)` with the next reports, `None` not at all. A status
/// other than OK is reported each time, since Mackerel counts the attempts; an OK that Mackerel has is not.
fn urgency(check: &Check, before: Option<&Last>, status: Status, message: &str) -> Option<bool> {
    let is_lost = before.is_some_and(|last| last.lost.is_set());
    if status == Status::Ok {
        let same = before.is_some_and(|last| last.status == Status::Ok && last.message == message);
        if (same && !is_lost) || check.prevents_auto_close {
            return None;
        }
    }
    // A first OK can wait for the other reports.
    Some(is_lost || before.map_or(status != Status::Ok, |last| last.status != status))
}

/// A component's report. Without a message, an alert says that there is none.
fn of_component(report: answer::Report) -> Found {
    let answer::Report { name, status, mut message } = report;
    if status != Status::Ok && message.trim().is_empty() {
        "the check gave no message".clone_into(&mut message);
    }
    Found { name, status, message, code: None }
}

/// What the check finds, and what was dropped of it.
async fn ask(check: &Check, components: &Components) -> (Vec<Found>, Vec<String>) {
    let own = |status, message: String| (vec![Found::own(status, message)], Vec::new());
    match &check.runner {
        Runner::Program(program) => {
            let run = process::run(program, &[]).await;
            if let Some(line) = run.stderr_line() {
                tracing::warn!("check {}: {line}", check.name);
            }
            match run.end {
                End::Exited(code) => {
                    let message = String::from_utf8_lossy(&run.stdout).into_owned();
                    (vec![Found { code: Some(code), ..Found::own(Status::of_code(code), message) }], Vec::new())
                }
                // In the official agent's words.
                End::TimedOut => own(Status::Unknown, "command timed out".to_owned()),
                End::NotStarted(_, why) => own(Status::Unknown, why),
                End::Flooded => own(Status::Unknown, program.failure(&run.end)),
            }
        }
        Runner::Component(table) => match components.check(&check.name, table).await {
            Ok(Checked { reports, warnings }) => (reports.into_iter().map(of_component).collect(), warnings),
            Err(why) => own(Status::Unknown, why),
        },
    }
}

/// The run of the check's action, if there is one. It is stopped with the check.
struct Action(Option<JoinHandle<()>>);

impl Action {
    fn start(&mut self, check: &Arc<str>, program: &Program, before: Option<Status>, status: Status, message: &str) {
        if self.0.as_ref().is_some_and(|running| !running.is_finished()) {
            return tracing::warn!("check {check}: skipped its `action`: the previous run is not over");
        }
        let (check, program) = (Arc::clone(check), program.clone());
        let end = message.floor_char_boundary(MOST_VARIABLE_BYTES);
        // A variable cannot hold a NUL.
        let message = message.get(..end).unwrap_or_default().replace('\0', "");
        self.0 = Some(tokio::spawn(async move {
            let variables = [
                ("MACKEREL_STATUS", status.word()),
                ("MACKEREL_PREVIOUS_STATUS", before.map_or("", Status::word)),
                ("MACKEREL_CHECK_MESSAGE", &message),
            ];
            let run = process::run(&program, &variables).await;
            let output = printable(String::from_utf8_lossy(&run.stdout).trim(), 300);
            match &run.end {
                End::Exited(0) => tracing::debug!("check {check}: its `action` succeeded: {output}"),
                end => {
                    let (failure, output) = (program.failure(end), run.stderr_line().unwrap_or(output));
                    tracing::warn!("check {check}: its `action` failed: {failure}: {output}");
                }
            }
        }));
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use official::programs::Command;
    use tokio::sync::mpsc;

    use super::*;

    fn program(line: &str) -> Program {
        Program {
            command: Command::Shell(line.to_owned()),
            user: None,
            environment: Vec::new(),
            timeout: Duration::from_secs(20),
        }
    }

    fn check(line: &str) -> Check {
        Check {
            name: "c".into(),
            runner: Runner::Program(program(line)),
            every: Duration::from_millis(20),
            notification_interval_minutes: None,
            max_check_attempts: None,
            prevents_auto_close: false,
            action: None,
            memo: None,
            custom_identifier: None,
        }
    }

    fn last(status: Status, message: &str) -> Last {
        Last { status, message: message.to_owned(), lost: Lost::default() }
    }

    #[test]
    fn a_result_is_reported_again_if_its_report_was_dropped() {
        let check = check("");
        let before = last(Status::Ok, "fine");
        assert_eq!(urgency(&check, Some(&before), Status::Ok, "fine"), None);
        before.lost.set();
        assert_eq!(urgency(&check, Some(&before), Status::Ok, "fine"), Some(true));
        let silent = Check { prevents_auto_close: true, ..check };
        assert_eq!(urgency(&silent, Some(&before), Status::Ok, "fine"), None);
    }

    #[test]
    fn a_repeated_ok_is_not_reported_and_everything_else_is() {
        let (check, ok) = (check(""), |message: &str| Some(last(Status::Ok, message)));
        let reported = |before: Option<Last>, status, message| urgency(&check, before.as_ref(), status, message);
        assert_eq!(reported(None, Status::Ok, "fine"), Some(false));
        assert_eq!(reported(ok("fine"), Status::Ok, "fine"), None);
        assert_eq!(reported(ok("fine"), Status::Ok, "finer"), Some(false));
        assert_eq!(reported(ok("fine"), Status::Critical, "bad"), Some(true));
        assert_eq!(reported(None, Status::Warning, "bad"), Some(true));
        let bad = || Some(last(Status::Critical, "bad"));
        assert_eq!(reported(bad(), Status::Critical, "bad"), Some(false));
        assert_eq!(reported(bad(), Status::Ok, "fine"), Some(true));
        let silent = Check { prevents_auto_close: true, ..check.clone() };
        assert_eq!(urgency(&silent, Some(&last(Status::Critical, "")), Status::Ok, ""), None);
    }

    #[test]
    fn a_plugin_that_reports_under_new_names_each_minute_is_remembered_by_the_last_of_them() {
        let (check, mut before) = (check(""), HashMap::from([("c".into(), last(Status::Critical, ""))]));
        for minute in 0..10 {
            let name = |number: usize| format!("m{minute}n{number}");
            let found = (0..MOST_REPORTS).map(|number| Found { name: name(number), ..Found::own(Status::Ok, "") });
            let found = found.collect::<Vec<_>>();
            forget(&mut before, &check, &found);
            assert!(before.len() <= 1 + MOST_REPORTS, "{}", before.len());
            before.extend(found.iter().map(|found| (full_name(&check, found), last(found.status, ""))));
        }
        assert!(before.contains_key("c"), "whether the whole check failed is never forgotten");
        assert!(before.contains_key("c-m9n0") && !before.contains_key("c-m7n0"));
    }

    #[test]
    fn a_program_that_printed_nothing_is_logged_with_its_exit_code() {
        for (message, code, expected) in [
            ("", Some(9), "exited with code 9 and printed nothing"),
            (" \n", Some(2), "exited with code 2 and printed nothing"),
            ("bad\n", Some(2), "bad"),
            ("", Some(0), ""),
            ("", None, ""),
        ] {
            assert_eq!(shown(message, code), expected, "{message:?} {code:?}");
        }
    }

    #[test]
    fn an_alert_of_a_component_that_gave_no_message_says_so() {
        let message = |status, message: &str| {
            of_component(answer::Report { name: String::new(), status, message: message.to_owned() }).message
        };
        assert_eq!(message(Status::Critical, " \n"), "the check gave no message");
        assert_eq!(message(Status::Critical, "down"), "down");
        assert_eq!(message(Status::Ok, ""), "");
    }

    /// The one report of a program.
    async fn asked(check: &Check) -> (Status, String) {
        let (mut found, warnings) = ask(check, &Components::default()).await;
        assert_eq!((found.len(), warnings.len()), (1, 0));
        found.pop().map(|found| (found.status, found.message)).unwrap()
    }

    #[tokio::test]
    async fn the_exit_code_is_the_status_and_the_output_is_the_message() {
        for (line, expected) in [
            ("echo fine", (Status::Ok, "fine\n")),
            ("echo so; echo so; exit 1", (Status::Warning, "so\nso\n")),
            ("printf bad; exit 2", (Status::Critical, "bad")),
            ("exit 3", (Status::Unknown, "")),
            ("exit 99", (Status::Unknown, "")),
            ("printf '\\303\\050'", (Status::Ok, "\u{fffd}(")),
            ("yes", (Status::Unknown, "printed more than 1 MiB and was killed")),
        ] {
            let (status, message) = asked(&check(line)).await;
            assert_eq!((status, message.as_str()), expected, "{line}");
        }
        let slow = Program { timeout: Duration::from_millis(100), ..program("sleep 100") };
        let slow = Check { runner: Runner::Program(slow), ..check("") };
        assert_eq!(asked(&slow).await, (Status::Unknown, "command timed out".to_owned()));
        let missing = Program { command: Command::Words(vec!["/no/such".into()]), ..program("") };
        let missing = Check { runner: Runner::Program(missing), ..check("") };
        let (status, message) = asked(&missing).await;
        assert!(status == Status::Unknown && message.starts_with("exit code: 127, /no/such: "), "{message}");
    }

    #[tokio::test]
    async fn a_check_runs_again_and_its_action_gets_both_statuses_and_the_message() {
        let folder = tempfile::tempdir().unwrap();
        let (mark, log) = (folder.path().join("mark"), folder.path().join("log"));
        let line =
            format!("if [ -e {0:?} ]; then echo down; exit 2; fi; touch {0:?}; echo up", mark.display().to_string());
        let act = format!(
            "echo \"<$MACKEREL_PREVIOUS_STATUS> $MACKEREL_STATUS $MACKEREL_CHECK_MESSAGE\" >> {:?}",
            log.display().to_string()
        );
        let check = Check { action: Some(program(&act)), every: Duration::from_millis(200), ..check(&line) };
        let (sender, mut reports) = mpsc::channel(10);
        let statuses = Statuses::default();
        let running =
            tokio::spawn(keep(Arc::new(check), Components::default(), sender, Arc::new(|_| false), statuses.clone()));
        let mut reported = Vec::new();
        for _ in 0..3 {
            let report = reports.recv().await.unwrap();
            reported.push((report.status, report.is_urgent));
        }
        let shown = statuses.all();
        assert_eq!((&*shown[0].name, shown[0].status, shown[0].message.trim()), ("c", Status::Critical, "down"));
        running.abort();
        assert_eq!(reported, [(Status::Ok, false), (Status::Critical, true), (Status::Critical, false)]);
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.starts_with("<> OK up\n\n<OK> CRITICAL down\n\n"), "{log}");
    }
}
