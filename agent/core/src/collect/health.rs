//! How each source is doing, and what the log has of it: a source that is late, fails or panics is logged once, once more when it is
//! skipped for that, and once when it has recovered; in between its failures are only counted. Those that are late because of others are
//! logged together.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::source::Source;
use super::{Answer, Fault};
use crate::lines::{ABOUT_PLUGINS, LinesAnHour};
use crate::text::counted;

/// How many lines about the health of one source are logged in an hour. One whose health changes each minute would fill the log.
const MOST_LINES: u32 = 6;

/// How many lines about sources that others held up are logged in an hour.
const MOST_LINES_OF_HELD_UP: u32 = 3;

/// As many reasons of a source that keeps failing are remembered, so that two which alternate are logged once each.
const MOST_REASONS: usize = 10;

/// As many sources are named in a line about several.
const MOST_NAMES: usize = 5;

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the last collection failed, or what it had to skip; `None` if nothing is wrong.
    pub failure: Option<String>,
    /// Consecutive collections with a failure.
    pub failures: u64,
}

/// The health of a source, which outlives its replacement, and what was logged of it.
pub(super) struct Record {
    health: Health,
    /// The reasons that were logged since it last had values, whether it was skipped for them too, the newest last.
    logged: VecDeque<(String, bool)>,
    lines: LinesAnHour,
}

/// The sources that others have held up, since the last values were handed over.
#[derive(Default)]
pub(super) struct HeldUp {
    pub(super) names: BTreeSet<Arc<str>>,
    pub(super) lines: Option<LinesAnHour>,
}

/// A change of a source's health, as it is logged.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Failing(String),
    Recovered(String),
}

impl HeldUp {
    pub(super) fn add(&mut self, name: &Arc<str>) {
        self.names.insert(Arc::clone(name));
    }

    /// What is logged of them, if anything.
    pub(super) fn line(&mut self, now: Instant) -> Option<String> {
        let names = std::mem::take(&mut self.names);
        let count = names.len();
        let named = names.iter().take(MOST_NAMES).map(|name| &**name).collect::<Vec<_>>().join(", ");
        let more = match count.checked_sub(MOST_NAMES) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        let line = format!(
            "{count} timed out because other plugins computed: {named}{more}; `wasaba plugin list` shows how long each takes, \
             and the limit `compute_ms` of a plugin bounds it"
        );
        let now = now.into_std();
        let lines = self.lines.get_or_insert_with(|| LinesAnHour::new(MOST_LINES_OF_HELD_UP, now));
        (count > 0).then(|| lines.admitted(line, now)).flatten()
    }
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        let lines = LinesAnHour::new(MOST_LINES, now.into_std());
        Self { health: Health::default(), logged: VecDeque::new(), lines }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Records and logs how a collection of this source ended.
    pub(super) fn note(&mut self, source: &Source, answer: Result<&Answer, &Fault>) {
        let name = &source.name;
        match (self.judge(answer, Instant::now()), source.is_component) {
            (Some(Change::Failing(line)), true) => tracing::warn!(target: ABOUT_PLUGINS, "{name}: {line}"),
            (Some(Change::Recovered(line)), true) => tracing::info!(target: ABOUT_PLUGINS, "{name}: {line}"),
            (Some(Change::Failing(line)), false) => tracing::warn!("{name}: {line}"),
            (Some(Change::Recovered(line)), false) => tracing::info!("{name}: {line}"),
            (None, _) => {}
        }
    }

    /// Records how a collection ended. Returns the change that is logged: a reason is, once until there are values again, and once more
    /// when the source is skipped for it.
    fn judge(&mut self, answer: Result<&Answer, &Fault>, now: Instant) -> Option<Change> {
        let failure = match answer {
            Ok(answer) if answer.warnings.is_empty() => None,
            Ok(answer) => Some(Fault::new(answer.warnings.join("; "))),
            Err(fault) => Some(fault.clone()),
        };
        let before = self.health.failures;
        let failures = if failure.is_some() { before.saturating_add(1) } else { 0 };
        self.health = Health { failure: failure.as_ref().map(Fault::to_string), failures };
        let Some(failure) = failure else {
            if std::mem::take(&mut self.logged).is_empty() {
                return None;
            }
            let line = format!("recovered after {}", counted(before, "failed collection"));
            return self.lines.admitted(line, now.into_std()).map(Change::Recovered);
        };
        let reason = (failure.text.clone(), !failure.pause.is_empty());
        if failure.is_of_others || self.logged.contains(&reason) {
            return None;
        }
        if self.logged.len() == MOST_REASONS {
            self.logged.pop_front();
        }
        self.logged.push_back(reason);
        self.lines.admitted(failure.to_string(), now.into_std()).map(Change::Failing)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record() -> Record {
        Record::new(Instant::now())
    }

    fn failing(line: &str) -> Option<Change> {
        Some(Change::Failing(line.to_owned()))
    }

    #[test]
    fn a_reason_is_logged_once_and_once_more_when_the_source_is_skipped_for_it_until_there_are_values() {
        let (mut record, now) = (record(), Instant::now());
        let skipped = |pause: &str| Fault { pause: pause.to_owned(), ..Fault::new("crashed") };
        assert_eq!(record.judge(Err(&Fault::new("crashed")), now), failing("crashed"));
        assert_eq!(record.judge(Err(&Fault::new("crashed")), now), None);
        assert_eq!(record.judge(Err(&skipped("; skipping a minute")), now), failing("crashed; skipping a minute"));
        for minutes in ["2", "4", "8"] {
            assert_eq!(record.judge(Err(&skipped(minutes)), now), None);
            assert_eq!(record.health.failure, Some(format!("crashed{minutes}")), "the list has the last one");
        }
        assert_eq!(record.judge(Err(&Fault::new("denied")), now), failing("denied"));
        assert_eq!(record.judge(Err(&skipped("")), now), None, "two reasons that alternate");
        let recovered = Some(Change::Recovered("recovered after 8 failed collections".to_owned()));
        assert_eq!(record.judge(Ok(&Answer::default()), now), recovered);
        assert_eq!(record.judge(Ok(&Answer::default()), now), None);
        assert_eq!(record.judge(Err(&Fault::new("crashed")), now), failing("crashed"));
    }

    #[test]
    fn what_was_dropped_of_an_answer_is_logged_once_until_nothing_is() {
        let (mut record, now) = (record(), Instant::now());
        let dropped = Answer { warnings: vec!["dropped 1 sample".to_owned()], ..Answer::default() };
        assert_eq!(record.judge(Ok(&dropped), now), failing("dropped 1 sample"));
        assert_eq!(record.judge(Ok(&dropped), now), None);
        assert!(record.judge(Ok(&Answer::default()), now).is_some(), "it has recovered");
        assert_eq!(record.judge(Ok(&dropped), now), failing("dropped 1 sample"));
    }

    #[test]
    fn what_keeps_failing_for_new_reasons_or_comes_and_goes_has_six_lines_an_hour() {
        let now = Instant::now();
        for recovers in [false, true] {
            let mut record = record();
            let mut minute = |number: u64| {
                let now = now + Duration::from_secs(number * 60);
                let failing = record.judge(Err(&Fault::new(number.to_string())), now).is_some();
                usize::from(failing) + usize::from(recovers && record.judge(Ok(&Answer::default()), now).is_some())
            };
            assert_eq!((0..60).map(&mut minute).sum::<usize>(), 6);
            assert_eq!((60..120).map(&mut minute).sum::<usize>(), 6);
            assert!(record.logged.len() <= MOST_REASONS);
        }
    }

    #[test]
    fn those_that_others_held_up_are_named_together_and_not_one_by_one() {
        let mut record = record();
        let late = Fault { is_of_others: true, ..Fault::new("timed out") };
        assert_eq!(record.judge(Err(&late), Instant::now()), None);
        assert_eq!(record.health, Health { failure: Some("timed out".into()), failures: 1 });
        assert_eq!(record.judge(Ok(&Answer::default()), Instant::now()), None, "it was not said to fail");

        let mut held_up = HeldUp::default();
        let mut said = || {
            held_up.names = (0..40).map(|number| format!("p{number:02}").into()).collect();
            held_up.line(Instant::now())
        };
        let lines = (0..60).filter_map(|_| said()).collect::<Vec<_>>();
        assert_eq!(lines.len(), 3);
        let begin = "40 timed out because other plugins computed: p00, p01, p02, p03, p04 and 35 more; ";
        assert!(lines[0].starts_with(begin), "{}", lines[0]);
        assert_eq!(HeldUp::default().line(Instant::now()), None);
    }
}
