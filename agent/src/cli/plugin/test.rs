//! `wasaba plugin test`: runs a plugin author's cases, without an agent and without a network.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::document::read_file;
use plugins::cases;
use plugins::cases::{Case, Expected, Minute};
use plugins::instance::Instance;
use plugins::instance::answer::Report;
use plugins::loader::{Loader, demands};
use sandbox::component::{Demands, Plugin};
use sandbox::failure::Failure;
use wasaba_core::clock::{self, Stamp};
use wasaba_core::paths::own::Folder;
use wasaba_core::report::Status;
use wasaba_core::text::printable;

use crate::cli::flags::AgentFlags;

/// Runs every case in `file` and prints a line for each, with the differences below it.
///
/// # Errors
/// There is no such plugin, the file is invalid, or a case failed.
pub fn run(agent: &AgentFlags, wanted: Option<String>, file: &Path) -> Result<(), String> {
    let wanted = &*wanted.map_or_else(only_component, Ok)?;
    let text = read_file(file).map_err(|error| {
        format!("cannot read the test cases in `{}`: {error}; name their file after the plugin", file.display())
    })?;
    let cases = cases::parse(file, &text)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let differences = super::with_loader(agent, async |_, loader| {
        let (component, is_typed) = super::plugin_file(loader, wanted)?;
        // Those that are loaded are kept until the end, so that a component is loaded once, and not for each case.
        let (mut all, mut kept) = (Vec::new(), Vec::new());
        for case in &cases {
            let demands = Demands { is_typed, ..demands(&case.table) };
            match super::plugin(loader, &demands, &component).await {
                Ok(plugin) => {
                    all.push(play(loader, &plugin, case).await);
                    kept.push(plugin);
                }
                Err(problem) => all.push(vec![(case.line, problem)]),
            }
        }
        Ok(all)
    })?;
    let failed = differences.iter().filter(|lines| !lines.is_empty()).count();
    let mut text = String::new();
    for (case, lines) in cases.iter().zip(&differences) {
        let result = if lines.is_empty() { "ok    " } else { "FAILED" };
        writeln!(text, "{result}  {}", printable(&case.name, 400)).ok();
        for (line, difference) in lines {
            let place = format!("{}:{line}: ", file.display());
            let difference = printable(difference, 4_096);
            // Some problems begin with it.
            writeln!(text, "        {place}{}", difference.strip_prefix(&place).unwrap_or(&difference)).ok();
        }
    }
    writeln!(text, "{} passed, {failed} failed", cases.len() - failed).ok();
    crate::cli::print(&text)?;
    if failed == 0 { Ok(()) } else { Err(format!("`{wanted}` failed test cases in `{}`", file.display())) }
}

/// The name of the only component in the working directory, which `wasaba plugin build` leaves there.
fn only_component() -> Result<String, String> {
    let names = Folder::open(Path::new(".")).and_then(|folder| folder.names());
    let names = names.map_err(|error| format!("cannot list this folder: {error}"))?;
    let mut components =
        names.into_iter().filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".wasm"));
    match (components.next(), components.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err("no .wasm file in this folder: run `wasaba plugin build` first, or name the plugin".to_owned())
        }
        (Some(_), Some(_)) => Err("more than one .wasm file in this folder: name the plugin".to_owned()),
    }
}

/// A line of the file, and how the result differs from it.
type Differences = Vec<(usize, String)>;

async fn play(loader: &Loader, plugin: &Arc<Plugin>, case: &Case) -> Differences {
    let mut differences = Vec::new();
    let imports = case.imports.as_ref().and_then(|expected| other_imports(expected, &plugin.imports));
    differences.extend(imports.map(|difference| (case.line, difference)));
    if case.minutes.is_empty() {
        return differences;
    }
    let mut instance = match Instance::new(&loader.sandbox, Arc::clone(plugin), &case.table).await {
        Ok(instance) => instance,
        Err(unloaded) => return unloaded.problems.into_iter().map(|problem| (case.line, problem)).collect(),
    };
    let mut now = clock::wall();
    for minute in &case.minutes {
        now += minute.after;
        instance.play(Arc::clone(&minute.script), now);
        let mut lines = call(&instance, minute, now, case.max_compute).await;
        lines.extend(minute.script.deviations());
        lines.extend(minute.expected.log.as_ref().map(|log| other_log(log, &minute.script.log())).unwrap_or_default());
        differences.extend(lines.into_iter().map(|line| (minute.line, line)));
    }
    differences
}

/// Makes the calls that the minute has expectations of, and returns the differences.
async fn call(instance: &Instance, minute: &Minute, now: SystemTime, most: Option<Duration>) -> Vec<String> {
    let (does, expected) = (instance.plugin().does(), &minute.expected);
    let mut lines = Vec::new();
    let must_fail = expected.error.and(expected.call.as_deref().or(does.first().copied()));
    if let Some(call) = must_fail.filter(|call| !does.contains(call)) {
        return vec![format!("expected {call} to fail, but the plugin does not export it")];
    }
    let too_long = |call: &str| most.and_then(|most| too_long(call, instance.computed(), most));
    if expected.samples.is_some() || must_fail == Some("metrics") {
        match instance.collect_by(move || Stamp::of(clock::millis_of(now))).await {
            Ok(answer) => {
                let samples = answer.samples.iter().chain(answer.dated.iter().map(|(_, sample)| sample));
                let samples = samples.map(|sample| {
                    let name = sample.name().as_str();
                    let name = name.strip_prefix("custom.").unwrap_or(name);
                    let host = sample.host().map(|host| format!("{host}:")).unwrap_or_default();
                    (format!("{host}{name}"), sample.value())
                });
                lines.extend(other_samples(expected, &samples.collect::<Vec<_>>()));
                lines.extend(answer.warnings);
            }
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
        lines.extend(too_long("metrics"));
    }
    if expected.check.is_some() || must_fail == Some("checks") {
        match instance.check().await {
            Ok((checked, _)) => {
                lines.extend(other_reports(expected, &checked.reports));
                lines.extend(checked.warnings);
            }
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
        lines.extend(too_long("checks"));
    }
    if expected.metadata.is_some() || must_fail == Some("metadata") {
        match instance.metadata().await {
            Ok((gathered, _)) => {
                let own = gathered.documents.iter().find(|(namespace, _)| namespace == instance.name());
                let metadata = own.map_or(&serde_json::Value::Null, |(_, metadata)| metadata);
                if must_fail.is_some() {
                    lines.push(format!("expected a failure, got: {metadata}"));
                } else if expected.metadata.as_ref() != Some(metadata) {
                    lines.push(format!("the metadata is {metadata}"));
                }
                lines.extend(gathered.warnings);
            }
            Err(failure) => lines.extend(other_failure(expected, &failure)),
        }
        lines.extend(too_long("metadata"));
    }
    lines
}

/// Why a call of this export has computed for too long, if it has.
fn too_long(call: &str, computed: Duration, most: Duration) -> Option<String> {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    (computed > most).then(|| {
        format!("{call} computed for {:.1} ms, more than {} ms (`max_compute_ms`)", millis(computed), millis(most))
    })
}

/// How the component's imports differ from the expected ones.
fn other_imports(expected: &[String], actual: &[String]) -> Option<String> {
    let missing = expected.iter().filter(|word| !actual.contains(word)).map(|word| format!("does not import {word}"));
    let unexpected = actual.iter().filter(|word| !expected.contains(word)).map(|word| format!("imports {word}"));
    let differences = missing.chain(unexpected).collect::<Vec<_>>();
    (!differences.is_empty()).then(|| format!("the component {}, other than expected", differences.join(", ")))
}

/// How the lines in the log differ from the expected texts, each of which must be in the line at its place.
fn other_log(expected: &[String], actual: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, text) in expected.iter().enumerate() {
        match actual.get(number) {
            None => lines.push(format!("missing in the log: {text:?}")),
            Some(line) if !line.contains(text.as_str()) => {
                lines.push(format!("the log has {line:?}, not one with {text:?}"));
            }
            Some(_) => {}
        }
    }
    lines.extend(actual.iter().skip(expected.len()).map(|line| format!("unexpected in the log: {line:?}")));
    lines
}

/// How the reports differ from the expected status: of all of them, the worst one counts.
fn other_reports(expected: &Expected, reports: &[Report]) -> Option<String> {
    let rank =
        |status| [Status::Ok, Status::Unknown, Status::Warning, Status::Critical].iter().position(|s| *s == status);
    let Some(worst) = reports.iter().max_by_key(|report| rank(report.status)) else {
        return Some("the check has no report".to_owned());
    };
    let (status, message) = (worst.status.word().to_lowercase(), &worst.message);
    match &expected.check {
        None => Some(format!("expected a failure, got: {message}")),
        Some(wanted) if *wanted != status => Some(format!("the check is {status}: {message}")),
        Some(_) => missing_text(expected, message),
    }
}

fn other_samples(expected: &Expected, actual: &[(String, f64)]) -> Vec<String> {
    let Some(samples) = &expected.samples else {
        let names = actual.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
        return vec![format!("expected a failure, got: {}", names.join(", "))];
    };
    let mut lines = Vec::new();
    let mut rest = actual.to_vec();
    for (name, value) in samples {
        let Some(at) = rest.iter().position(|(other, _)| other == name) else {
            lines.push(format!("missing: {name} = {value}"));
            continue;
        };
        let (_, other) = rest.remove(at);
        if !same(*value, other) {
            lines.push(format!("{name} is {other}, not {value}"));
        }
    }
    lines.extend(rest.iter().map(|(name, value)| format!("unexpected: {name} = {value}")));
    lines
}

/// Whether two values are equal but for rounding in the last digits.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 8.0 * f64::EPSILON * one.abs().max(other.abs())
}

fn other_failure(expected: &Expected, failure: &Failure) -> Option<String> {
    let kind = failure.kind.name();
    if expected.error == Some(kind) {
        missing_text(expected, &failure.text)
    } else {
        // A text that the plugin returned begins with its kind.
        let text = failure.text.strip_prefix(kind).and_then(|text| text.strip_prefix(": ")).unwrap_or(&failure.text);
        let kind = if kind == "failed" { String::new() } else { format!(" ({kind})") };
        Some(format!("failed{kind}: {text}"))
    }
}

fn missing_text(expected: &Expected, text: &str) -> Option<String> {
    let says = expected.says.as_ref().filter(|says| !text.contains(says.as_str()))?;
    Some(format!("expected a message with {says:?}, got: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_expected_values_are_accepted() {
        let pairs = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let expected = Expected { samples: Some(pairs(&[("a", 0.3), ("b", 2.0), ("c", 3.0)])), ..Expected::default() };
        let actual: Vec<_> = pairs(&[("a", 0.1 + 0.2), ("b", 2.000_000_001), ("d", 4.0), ("a", 0.3)]);
        let lines = ["b is 2.000000001, not 2", "missing: c = 3", "unexpected: d = 4", "unexpected: a = 0.3"];
        assert_eq!(other_samples(&expected, &actual), lines);
        let fails = Expected { error: Some("failed"), ..Expected::default() };
        assert_eq!(other_samples(&fails, &actual[..0]).len(), 1);
    }

    #[test]
    fn a_call_that_computes_for_longer_than_its_case_allows_is_reported_with_both_times() {
        let [most, more] = [250, 251].map(Duration::from_millis);
        assert_eq!(too_long("metrics", most, most), None);
        let expected = "metrics computed for 251.0 ms, more than 250 ms (`max_compute_ms`)";
        assert_eq!(too_long("metrics", more, most).as_deref(), Some(expected));
    }

    #[test]
    fn an_import_more_or_fewer_than_expected_is_reported_in_whatever_order_they_are() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(other_imports(&words(&["log", "http"]), &words(&["http", "log"])), None);
        let other = other_imports(&words(&["http", "kv"]), &words(&["http", "log"]));
        assert_eq!(other.as_deref(), Some("the component does not import kv, imports log, other than expected"));
        assert!(other_imports(&[], &words(&["http"])).is_some());
    }

    #[test]
    fn each_line_of_the_log_has_its_expected_text_and_there_are_no_more() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let logged = lines(&["warning: the queue is long", "info: done"]);
        assert_eq!(other_log(&lines(&["queue is", "info: "]), &logged), Vec::<String>::new());
        let swapped = other_log(&lines(&["done", "queue", "more"]), &logged);
        let expected = [
            "the log has \"warning: the queue is long\", not one with \"done\"",
            "the log has \"info: done\", not one with \"queue\"",
            "missing in the log: \"more\"",
        ];
        assert_eq!(swapped, expected);
        assert_eq!(other_log(&[], &logged[1..]), ["unexpected in the log: \"info: done\""]);
    }

    #[test]
    fn another_failure_than_the_expected_one_is_reported() {
        use sandbox::failure::Kind;
        let failure = Failure::new(Kind::Unreachable, "unreachable: connection refused");
        let expected =
            |error, says: &str| Expected { error: Some(error), says: Some(says.into()), ..Expected::default() };
        assert_eq!(other_failure(&expected("unreachable", "refused"), &failure), None);
        let other = other_failure(&expected("failed", "refused"), &failure);
        assert_eq!(other.as_deref(), Some("failed (unreachable): connection refused"));
        assert!(
            other_failure(&expected("unreachable", "timeout"), &failure)
                .is_some_and(|line| line.contains("expected a message with \"timeout\""))
        );
    }
}
