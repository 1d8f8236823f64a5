//! Checks and metadata plugins: `[plugin.checks.NAME]` and `[plugin.metadata.NAME]`.

use std::time::Duration;

use official::programs::Command;

use super::settings::{custom_identifier, settings};
use super::{Declared, OFFICIAL, declared, environment, ignore_keys, program};
use crate::check::{Check, Metadata, Runner};
use crate::document::{Reader, Section};
use crate::table::PluginTable;

/// Mackerel's maximum of consecutive reports before an alert.
const MOST_ATTEMPTS: u32 = 10;

/// The longest memo that Mackerel stores, in characters.
const LONGEST_MEMO: usize = 250;

/// What runs a check or collects metadata: a program or a component.
fn runner(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Runner> {
    match declared(reader, section) {
        None => {
            ignore_keys(reader, section, name);
            None
        }
        Some(Declared::Program(command, environment)) => {
            Some(Runner::Program(program(reader, section, command, environment)))
        }
        Some(Declared::Component(wasm)) => {
            Some(Runner::Component(Box::new(PluginTable { wasm, ..settings(reader, section, name) })))
        }
    }
}

/// Whether Mackerel accepts a name of a check or a namespace of metadata.
fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

pub(super) fn check(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Check> {
    let whole = section.place;
    let runner = runner(reader, section, name);
    let every_minutes = reader.minutes(section, "check_interval").unwrap_or(1).clamp(1, 60);
    let notification_interval = reader.minutes(section, "notification_interval").map(|minutes| minutes.max(10));
    let attempts_span = section.span_of("max_check_attempts");
    let mut max_check_attempts = reader
        .integer(section, "max_check_attempts")
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| *count > 0);
    if max_check_attempts.is_some_and(|count| count > MOST_ATTEMPTS) {
        let why = format!("exceeds Mackerel's maximum; using {MOST_ATTEMPTS}");
        reader.note(attempts_span, format!("`max_check_attempts` of {} {why}", section.name));
        max_check_attempts = Some(MOST_ATTEMPTS);
    }
    let prevents_auto_close = reader.boolean(section, "prevent_alert_auto_close").unwrap_or(false);
    if prevents_auto_close && max_check_attempts.is_some_and(|count| count > 1) {
        let why = "has no effect with `prevent_alert_auto_close`, which posts no OK report to reset the count; using 1";
        reader.note(attempts_span, format!("`max_check_attempts` of {} {why}", section.name));
        max_check_attempts = Some(1);
    }
    let memo_span = section.span_of("memo");
    let mut memo = reader.text(section, "memo").filter(|memo| !memo.is_empty());
    if let Some(long) = memo.as_mut().filter(|memo| memo.chars().count() > LONGEST_MEMO) {
        reader.note(memo_span, format!("`memo` of {} is truncated to {LONGEST_MEMO} characters", section.name));
        *long = long.chars().take(LONGEST_MEMO).collect();
    }
    let action = reader.section(section, "action").and_then(|mut action| {
        if !action.has("command") {
            reader.fail(action.place, format!("{} has no `command`: write `command = \"...\"`", action.name));
        }
        // Without a valid command, the other keys are read all the same, so that they are checked.
        let command = reader.command(&mut action, "command");
        let environment = environment(reader, &mut action);
        let has_command = command.is_some();
        let command = command.unwrap_or_else(|| Command::Words(Vec::new()));
        let program = program(reader, &mut action, command, environment);
        reader.ignore(&mut action, OFFICIAL);
        reader.finish(action);
        has_command.then_some(program)
    });
    let custom_identifier = custom_identifier(reader, section);
    let runner = runner?;
    if !is_name(name) {
        let rule = "a check's name may only contain letters, digits, - and _; rename it";
        reader.warn(whole, format!("{} is skipped: {rule}", section.name));
        return None;
    }
    Some(Check {
        name: name.into(),
        runner,
        every: Duration::from_secs(every_minutes * 60),
        notification_interval_minutes: notification_interval,
        max_check_attempts,
        prevents_auto_close,
        action,
        memo,
        custom_identifier,
    })
}

pub(super) fn metadata(reader: &mut Reader<'_>, section: &mut Section<'_>, name: &str) -> Option<Metadata> {
    let whole = section.place;
    let runner = runner(reader, section, name);
    let minutes = reader.minutes(section, "execution_interval").unwrap_or(10).max(10);
    let runner = runner?;
    if !is_name(name) || name.starts_with("mackerel") {
        let rule = "a namespace may only contain letters, digits, - and _, and not begin with `mackerel`; rename it";
        reader.warn(whole, format!("{} is skipped: {rule}", section.name));
        return None;
    }
    Some(Metadata { name: name.into(), runner, every: Duration::from_secs(minutes.saturating_mul(60)) })
}
