//! `wasaba plugin test`: runs a plugin author's cases, without an agent and without a network.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use config::document::read_file;
use plugins::cases;
use plugins::cases::{Case, Expected, Minute};
use plugins::instance::Instance;
use plugins::loader::{Loader, demands};
use sandbox::failure::Failure;
use wasaba_core::text::printable;

use crate::cli::flags::AgentFlags;

/// Runs every case in `file` and prints a line for each, with what differs below it.
///
/// # Errors
/// There is no such plugin, the file is wrong, or a case failed.
pub fn run(agent: &AgentFlags, wanted: &str, file: &Path) -> Result<(), String> {
    let text = read_file(file).map_err(|error| {
        format!("cannot read the cases in `{}`: {error}; name their file behind the plugin", file.display())
    })?;
    let cases = cases::parse(file, &text)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let differences = super::with_loader(agent, async |_, loader| {
        let component = super::plugin_file(loader, wanted)?;
        let mut all = Vec::new();
        for case in &cases {
            all.push(play(loader, &component, case).await);
        }
        Ok(all)
    })?;
    let failed = differences.iter().filter(|lines| !lines.is_empty()).count();
    let mut text = String::new();
    for (case, lines) in cases.iter().zip(&differences) {
        let result = if lines.is_empty() { "ok    " } else { "FAILED" };
        writeln!(text, "{result}  {}", printable(&case.name, 400)).ok();
        for (line, difference) in lines {
            writeln!(text, "        {}:{line}: {}", file.display(), printable(difference, 4_096)).ok();
        }
    }
    writeln!(text, "{} passed, {failed} failed", cases.len() - failed).ok();
    crate::cli::print(&text)?;
    if failed == 0 { Ok(()) } else { Err(format!("`{wanted}` does not do what `{}` says", file.display())) }
}

/// A line of the file, and what is not as it says.
type Differences = Vec<(usize, String)>;

async fn play(loader: &Loader, component: &Path, case: &Case) -> Differences {
    let plugin = match loader.plugin(&demands(&case.table), component).await {
        Ok(plugin) => plugin,
        Err(problem) => return vec![(case.line, problem)],
    };
    let mut instance = match Instance::new(&loader.sandbox, plugin, &case.table).await {
        Ok(instance) => instance,
        Err(problems) => return problems.into_iter().map(|problem| (case.line, problem)).collect(),
    };
    let mut differences = Vec::new();
    let mut now = SystemTime::now();
    for minute in &case.minutes {
        now += minute.after;
        instance.play(Arc::clone(&minute.script));
        let mut lines = call(&instance, minute, now).await;
        lines.extend(minute.script.deviations());
        differences.extend(lines.into_iter().map(|line| (minute.line, line)));
    }
    differences
}

/// Does what the minute has expectations of, and gives what is not as expected.
async fn call(instance: &Instance, minute: &Minute, now: SystemTime) -> Vec<String> {
    let (does, expected) = (instance.plugin().does(), &minute.expected);
    let mut lines = Vec::new();
    let shall_fail = expected.error.and(expected.call.as_deref().or(does.first().copied()));
    if let Some(call) = shall_fail.filter(|call| !does.contains(call)) {
        return vec![format!("the plugin has no {call} that could fail")];
    }
    if expected.samples.is_some() || shall_fail == Some("metrics") {
        match instance.collect_by(|| now).await {
            Ok(answer) => {
                let samples = answer.samples.iter().map(|sample| {
                    let name = sample.name().as_str();
                    (name.strip_prefix("custom.").unwrap_or(name).to_owned(), sample.value())
                });
                lines.extend(other_samples(expected, &samples.collect::<Vec<_>>()));
                lines.extend(answer.warnings);
            }
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
    }
    if expected.check.is_some() || shall_fail == Some("checks") {
        match instance.check().await {
            Ok((report, _)) if shall_fail.is_some() => {
                lines.push(format!("it did not fail, but says: {}", report.message))
            }
            Ok((report, _)) => {
                let status = report.status.word().to_lowercase();
                if expected.check.as_ref() != Some(&status) {
                    lines.push(format!("the check is {status}: {}", report.message));
                } else {
                    lines.extend(unsaid(expected, &report.message));
                }
            }
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
    }
    if expected.metadata.is_some() || shall_fail == Some("metadata") {
        match instance.metadata().await {
            Ok((metadata, _)) if shall_fail.is_some() => lines.push(format!("it did not fail, but told {metadata}")),
            Ok((metadata, _)) if expected.metadata.as_ref() != Some(&metadata) => {
                lines.push(format!("the metadata is {metadata}"));
            }
            Ok(_) => {}
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
    }
    lines
}

fn other_samples(expected: &Expected, came: &[(String, f64)]) -> Vec<String> {
    let Some(samples) = &expected.samples else {
        let names = came.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
        return vec![format!("it did not fail, but gave: {}", names.join(", "))];
    };
    let mut lines = Vec::new();
    let mut came = came.to_vec();
    for (name, value) in samples {
        let Some(at) = came.iter().position(|(other, _)| other == name) else {
            lines.push(format!("{name} = {value} did not come"));
            continue;
        };
        let (_, other) = came.remove(at);
        if !same(*value, other) {
            lines.push(format!("{name} is {other}, not {value}"));
        }
    }
    lines.extend(came.iter().map(|(name, value)| format!("{name} = {value} came as well")));
    lines
}

/// Equal but for what rounding does to the last digits.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 8.0 * f64::EPSILON * one.abs().max(other.abs())
}

fn other_failure(expected: &Expected, failure: &Failure) -> Option<String> {
    let kind = failure.kind.name();
    if expected.error == Some(kind) {
        unsaid(expected, &failure.text)
    } else {
        Some(format!("it failed ({kind}): {failure}"))
    }
}

fn unsaid(expected: &Expected, text: &str) -> Option<String> {
    let says = expected.says.as_ref().filter(|says| !text.contains(says.as_str()))?;
    Some(format!("it does not say {says:?}, but: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_expected_values_must_come() {
        let pairs = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let expected = Expected { samples: Some(pairs(&[("a", 0.3), ("b", 2.0), ("c", 3.0)])), ..Expected::default() };
        let came: Vec<_> = pairs(&[("a", 0.1 + 0.2), ("b", 2.000_000_001), ("d", 4.0), ("a", 0.3)]);
        let lines = ["b is 2.000000001, not 2", "c = 3 did not come", "d = 4 came as well", "a = 0.3 came as well"];
        assert_eq!(other_samples(&expected, &came), lines);
        let fails = Expected { error: Some("failed"), ..Expected::default() };
        assert_eq!(other_samples(&fails, &came[..0]).len(), 1);
    }

    #[test]
    fn another_failure_than_the_expected_one_is_told() {
        use sandbox::failure::Kind;
        let failure = Failure::new(Kind::Unreachable, "connection refused");
        let expected =
            |error, says: &str| Expected { error: Some(error), says: Some(says.into()), ..Expected::default() };
        assert_eq!(other_failure(&expected("unreachable", "refused"), &failure), None);
        let other = other_failure(&expected("failed", "refused"), &failure);
        assert_eq!(other.as_deref(), Some("it failed (unreachable): connection refused"));
        assert!(
            other_failure(&expected("unreachable", "timeout"), &failure)
                .is_some_and(|line| line.contains("does not say"))
        );
    }
}
