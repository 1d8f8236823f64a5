//! The sources: asks each one when it is due, and isolates its failures.
//!
//! Values that arrive in time are handed over together; those of slow sources follow when they arrive. Sources are added, removed and
//! replaced at any time: a new one is asked at once, and then whenever its minute begins. How each is doing is recorded in [`Health`].

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::graphs::Graphs;
use super::health::{Health, HeldUp, Record};
use super::outcomes::{CollectionResult, Outcomes};
use super::rate::Reading;
use super::registry;
use super::source::{Source, SourceId, panicked};
use super::{Answer, Fault, Moment, StoredValues};
use crate::clock::Stamp;
use crate::graph::Defined;
use crate::lines::ABOUT_PLUGINS;
use crate::sample::Sample;
use crate::text::duration;

/// How long the quick sources' values wait for those of slower ones before they are handed over.
const GRACE: Duration = Duration::from_millis(700);

/// How long the values of sources that start wait for each other; short, since whoever adds a plugin wants to see its values.
const START_GRACE: Duration = Duration::from_millis(200);

/// How long slow sources' values wait for each other, so that they do not cost a commit each.
const LATE_GRACE: Duration = Duration::from_secs(5);

/// What was collected for one instant and is ready to be kept; the same instant may have several.
#[derive(Debug, Default)]
pub struct Collected {
    /// The values, by the name of their source.
    pub samples: Vec<(Arc<str>, Vec<Sample>)>,
    /// Counters' readings by the wall clock, under `source TAB name`.
    pub readings: Vec<(String, Reading)>,
    /// What sources store from now on, by their names.
    pub kept: Vec<(Arc<str>, Arc<StoredValues>)>,
}

/// What was collected, by its instant in seconds since 1970.
pub type ByInstant = BTreeMap<i64, Collected>;

/// Every source of the agent.
#[derive(Default)]
pub struct Sources {
    /// In the order in which they were added.
    slots: BTreeMap<SourceId, Slot>,
    questions: u64,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    collected: ByInstant,
    batch: Option<Batch>,
    outcomes: Outcomes,
    held_up: HeldUp,
    graphs: Graphs,
}

/// A source's slot, which outlives its replacement.
struct Slot {
    source: Source,
    under_way: Option<Question>,
    /// It is asked again as soon as the question under way is answered.
    owed: bool,
    record: Record,
}

/// A question that has no answer yet. Dropping it cancels it.
struct Question {
    number: u64,
    task: AbortHandle,
    /// Its deadline has passed.
    late: bool,
    /// It was asked of a predecessor of the slot's source.
    to_predecessor: bool,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a question ended.
struct Answered {
    slot: SourceId,
    question: u64,
    unix_seconds: i64,
    took: Duration,
    /// `None` if it did not arrive in time.
    answer: Option<Result<Answer, Fault>>,
}

/// Answers that are handed over together.
struct Batch {
    /// When they are handed over at the latest.
    end: Instant,
    /// Whether they are handed over early once no question is under way.
    ends_early: bool,
}

impl Sources {
    /// Adds a source; it is not asked yet. The returned id removes it.
    pub fn add(&mut self, source: Source) -> SourceId {
        let id = SourceId::unique();
        self.put(id, source);
        id
    }

    /// Replaces the source with this id, or adds it. It is not asked yet.
    pub(super) fn put(&mut self, id: SourceId, source: Source) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.under_way = slot.under_way.take().filter(|question| !question.late);
            if let Some(question) = &mut slot.under_way {
                question.to_predecessor = true;
            }
            slot.source = source;
            return;
        }
        let record = Record::new(Instant::now());
        self.slots.insert(id, Slot { source, under_way: None, owed: false, record });
    }

    /// Puts a source as [`Sources::put`] and asks it at once. A question under way to its predecessor is still answered, and the
    /// new one asked right after.
    pub(super) fn start(&mut self, id: SourceId, source: Source, moment: Moment) {
        self.put(id, source);
        self.ask_one(id, moment);
        let end = Instant::now() + START_GRACE;
        let end = self.batch.as_ref().map_or(end, |batch| batch.end.min(end));
        // Many may start one after the other: their values are not handed over one by one.
        let ends_early = self.batch.as_ref().is_some_and(|batch| batch.ends_early);
        self.batch = Some(Batch { end, ends_early });
    }

    /// Removes a source, and cancels the question under way.
    pub fn remove(&mut self, id: SourceId) {
        self.slots.remove(&id);
        self.outcomes.remove(id);
        self.graphs.remove(id);
    }

    /// Sets the graph definitions of a source, which decide over its names, and logs who else posts to the graphs.
    pub fn define(&mut self, id: SourceId, graphs: registry::Graphs) {
        if let Some(warning) = self.graphs.put(id, graphs) {
            tracing::warn!(target: ABOUT_PLUGINS, "{warning}");
        }
    }

    /// The graph definitions of all sources, if they have changed since the last call.
    pub(super) fn newly_defined(&mut self) -> Option<Vec<Defined>> {
        self.graphs.changed()
    }

    /// How each is doing, in the order in which they were added.
    pub fn health(&self) -> impl Iterator<Item = (&Arc<str>, &Health)> {
        self.slots.values().map(|slot| (&slot.source.name, slot.record.health()))
    }

    /// How each one's last collection went; the table stays up to date.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.clone()
    }

    /// Asks all that are due at `moment`, the beginning of a minute.
    pub fn ask_due(&mut self, moment: Moment) {
        self.ask_where(moment, |source| source.is_due(moment));
    }

    /// Asks all of them, due or not.
    pub fn ask_all(&mut self, moment: Moment) {
        self.ask_where(moment, |_| true);
    }

    /// Asks all of them for `moment`, and hands their values with the time over to `keep`, until all have answered or are late.
    pub async fn ask(&mut self, moment: Moment, mut keep: impl AsyncFnMut(i64, Collected)) {
        self.ask_all(moment);
        while self.batch.is_some() || !self.answers.is_empty() {
            for (time, collected) in self.next(|| moment).await {
                keep(time, collected).await;
            }
        }
    }

    /// Waits for the next values to keep, possibly forever; dropping the future loses nothing. `now` stamps what is asked
    /// meanwhile. The values may be empty: then the sources' health has changed.
    pub async fn next(&mut self, now: impl Fn() -> Moment) -> ByInstant {
        loop {
            let end = match &self.batch {
                Some(batch) if batch.ends_early && self.answers.is_empty() => return self.rest(),
                Some(batch) => Some(batch.end),
                None => None,
            };
            tokio::select! {
                Some(answered) = self.answers.next() => self.take(answered, &now),
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => return self.rest(),
                else => std::future::pending().await,
            }
        }
    }

    /// The values that have arrived and were not handed over yet.
    pub fn rest(&mut self) -> ByInstant {
        self.batch = None;
        if let Some(line) = self.held_up.line(Instant::now()) {
            tracing::warn!("{line}");
        }
        std::mem::take(&mut self.collected)
    }

    fn question(&mut self) -> u64 {
        self.questions = self.questions.wrapping_add(1);
        self.questions
    }

    fn ask_where(&mut self, moment: Moment, is_asked: impl Fn(&Source) -> bool) {
        let asked = self.slots.iter().filter(|(_, slot)| is_asked(&slot.source)).map(|(id, _)| *id);
        for id in asked.collect::<Vec<_>>() {
            self.ask_one(id, moment);
        }
        self.batch = Some(Batch { end: Instant::now() + GRACE, ends_early: true });
    }

    fn ask_one(&mut self, id: SourceId, moment: Moment) {
        let number = self.question();
        let outcomes = self.outcomes.clone();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let fail = |slot: &mut Slot, fault: Fault| {
            let failed = CollectionResult::Failed(fault.to_string());
            outcomes.note(id, &slot.source.name, moment.unix_seconds, Duration::ZERO, failed);
            slot.record.note(&slot.source, Err(&fault));
        };
        match &slot.under_way {
            Some(question) if !question.late => {
                slot.owed = true;
                return;
            }
            Some(question) if !question.task.is_finished() => {
                return fail(slot, Fault::new("still busy with an earlier minute's collection"));
            }
            _ => {}
        }
        slot.owed = false;
        let asked = std::panic::catch_unwind(AssertUnwindSafe(|| (slot.source.ask)(moment)));
        let Ok(asked) = asked else { return fail(slot, panicked()) };
        let began = Instant::now();
        let mut task = tokio::spawn(asked);
        let handle = task.abort_handle();
        slot.under_way = Some(Question { number, task: handle, late: false, to_predecessor: false });
        let deadline = slot.source.deadline;
        self.answers.push(Box::pin(async move {
            let answer = tokio::time::timeout(deadline, &mut task).await.ok();
            let answer = answer.map(|answered| answered.unwrap_or_else(|_| Err(panicked())));
            let took = began.elapsed();
            Answered { slot: id, question: number, unix_seconds: moment.unix_seconds, took, answer }
        }));
    }

    fn take(&mut self, mut answered: Answered, now: &impl Fn() -> Moment) {
        let Some(slot) = self.slots.get_mut(&answered.slot) else { return };
        // The answer of a source that was removed or replaced meanwhile is dropped.
        let Some(question) = slot.under_way.as_mut().filter(|question| question.number == answered.question) else {
            return;
        };
        let ends_early = true;
        self.batch.get_or_insert_with(|| Batch { end: Instant::now() + LATE_GRACE, ends_early });
        if let Some(Ok(answer)) = &mut answered.answer {
            self.graphs.admit(answered.slot, &slot.source.name, answer, Instant::now());
        }
        let result = result_of(answered.answer.as_ref());
        self.outcomes.note(answered.slot, &slot.source.name, answered.unix_seconds, answered.took, result);
        match answered.answer {
            Some(answer) => {
                slot.under_way = None;
                if answer.as_ref().is_err_and(|fault| fault.is_of_others) {
                    self.held_up.add(&slot.source.name);
                }
                slot.record.note(&slot.source, answer.as_ref());
                if let Ok(mut answer) = answer {
                    for (time, sample) in std::mem::take(&mut answer.dated) {
                        let dated = Answer { samples: vec![sample], ..Answer::default() };
                        self.collected.entry(time).or_default().take(&slot.source.name, dated);
                    }
                    self.collected.entry(answered.unix_seconds).or_default().take(&slot.source.name, answer);
                }
            }
            None => {
                question.late = true;
                let replaced = question.to_predecessor;
                let fault = Fault::new(format!("timed out: no answer within {}", duration(slot.source.deadline)));
                slot.record.note(&slot.source, Err(&fault));
                if replaced {
                    slot.under_way = None;
                } else {
                    slot.owed = false;
                }
            }
        }
        if slot.owed {
            self.ask_one(answered.slot, now());
        }
    }
}

fn result_of(answer: Option<&Result<Answer, Fault>>) -> CollectionResult {
    match answer {
        None => CollectionResult::TimedOut,
        Some(Err(fault)) => CollectionResult::Failed(fault.to_string()),
        Some(Ok(answer)) => match answer.samples.len().saturating_add(answer.dated.len()) {
            0 if answer.warnings.is_empty() => CollectionResult::NoData,
            count => CollectionResult::Values { count, warnings: answer.warnings.clone() },
        },
    }
}

impl Collected {
    fn take(&mut self, source: &Arc<str>, answer: Answer) {
        let step = Stamp::now().step_millis();
        let stored = |(name, reading): (String, Reading)| (format!("{source}\t{name}"), reading.ahead_by(step));
        let readings = answer.readings.into_iter().map(stored);
        self.readings.extend(readings);
        self.kept.extend(answer.kept.map(|kept| (Arc::clone(source), kept)));
        self.samples.push((Arc::clone(source), answer.samples));
    }

    /// Whether it has nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|(_, samples)| samples.is_empty()) && self.readings.is_empty() && self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, Semaphore};

    use super::super::Collector;
    use super::super::readers::Readers;
    use super::*;

    fn moment() -> Moment {
        Moment { unix_seconds: 60, instant: std::time::Instant::now() }
    }

    struct Canned(Box<dyn FnMut() -> Result<Vec<Sample>, Fault> + Send>);

    impl Collector for Canned {
        fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
            (self.0)()
        }
    }

    fn source(name: &str, collect: impl FnMut() -> Result<Vec<Sample>, Fault> + Send + 'static) -> Source {
        Source::of_collector(name, Box::new(Canned(Box::new(collect))), &Readers::default())
    }

    fn good(name: &'static str) -> Source {
        source(name, move || Ok(vec![Sample::new(name, 1.0).unwrap()]))
    }

    /// The names of the sources in each handover.
    async fn ask(sources: &mut Sources) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        let keep = async |_, collected: Collected| {
            all.push(collected.samples.iter().map(|(name, _)| name.to_string()).collect());
        };
        sources.ask(moment(), keep).await;
        all
    }

    #[tokio::test]
    async fn a_failing_and_a_panicking_collector_do_not_affect_the_others() {
        let mut sources = Sources::default();
        sources.add(source("failing", || Err(Fault::new("no such file"))));
        sources.add(source("panicking", || panic!("on purpose")));
        sources.add(good("good"));
        for minute in 1..=2 {
            assert_eq!(ask(&mut sources).await, [["good"]]);
            let failures = sources.health().map(|(_, health)| health.failures).collect::<Vec<_>>();
            assert_eq!(failures, [minute, minute, 0]);
        }
    }

    #[tokio::test]
    async fn a_late_source_does_not_delay_the_others_and_is_not_asked_twice() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let mut sources = Sources::default();
        sources.add(good("good"));
        sources.add(Source::new("hanging".into(), GRACE * 2, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }));
        // Answers only after the quick ones' values were handed over, so the test fails if they wait for it.
        let handed_over = Arc::new(Notify::new());
        let notified = Arc::clone(&handed_over);
        sources.add(Source::new("slow".into(), Duration::from_secs(60), move |_| {
            let handed_over = Arc::clone(&notified);
            Box::pin(async move {
                handed_over.notified().await;
                Ok(Answer::default())
            })
        }));
        for minute in 1..=2 {
            let mut all = Vec::<Vec<String>>::new();
            let keep = async |_, collected: Collected| {
                all.push(collected.samples.iter().map(|(name, _)| name.to_string()).collect());
                handed_over.notify_one();
            };
            sources.ask(moment(), keep).await;
            assert_eq!(all, [["good"], ["slow"]]);
            assert_eq!(sources.health().nth(1).unwrap().1.failures, minute);
            // The permit of the second handover is not for the next minute.
            handed_over.notified().await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_collector_that_recovers_has_its_failures_reset() {
        let mut broken = true;
        let mut sources = Sources::default();
        sources.add(source("moody", move || {
            let answer = if broken { Err(Fault::new("not today")) } else { Ok(Vec::new()) };
            broken = false;
            answer
        }));
        ask(&mut sources).await;
        assert_eq!(sources.health().next().unwrap().1.failure.as_deref(), Some("not today"));
        ask(&mut sources).await;
        assert_eq!(*sources.health().next().unwrap().1, Health::default());
    }

    #[tokio::test]
    async fn those_that_others_held_up_are_logged_when_values_are_handed_over() {
        let late = Fault { is_of_others: true, ..Fault::new("timed out") };
        let mut sources = Sources::default();
        for number in 0..40 {
            let late = late.clone();
            sources.add(source(&format!("p{number:02}"), move || Err(late.clone())));
        }
        ask(&mut sources).await;
        assert!(sources.held_up.names.is_empty() && sources.held_up.lines.is_some(), "they were logged");
    }

    /// A source that answers with this value, once for each permit.
    fn gated(name: &'static str, value: f64, gate: &Arc<Semaphore>) -> Source {
        let gate = Arc::clone(gate);
        Source::new(name.into(), Duration::from_secs(60), move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(Answer { samples: vec![Sample::new(name, value).unwrap()], ..Answer::default() })
            })
        })
    }

    fn at(unix_seconds: i64) -> Moment {
        Moment { unix_seconds, ..moment() }
    }

    /// Each value with its time.
    fn values(collected: &ByInstant) -> Vec<(i64, f64)> {
        let samples = collected
            .iter()
            .flat_map(|(time, collected)| collected.samples.iter().map(move |(_, samples)| (*time, samples)));
        samples.flat_map(|(time, samples)| samples.iter().map(move |sample| (time, sample.value()))).collect()
    }

    #[tokio::test]
    async fn a_source_that_starts_between_two_minutes_is_asked_at_once_with_the_time_of_its_start() {
        let mut sources = Sources::default();
        sources.start(SourceId::unique(), good("new"), at(83));
        sources.start(SourceId::unique(), good("newer"), at(83));
        let collected = sources.next(moment).await;
        assert_eq!(values(&collected), [(83, 1.0), (83, 1.0)], "handed over together");
    }

    #[tokio::test]
    async fn a_replaced_source_answers_once_more_and_its_successor_is_asked_right_after() {
        let (old, new) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let mut sources = Sources::default();
        let id = sources.add(gated("swapped", 1.0, &old));
        sources.ask_due(at(60));
        sources.start(id, gated("swapped", 2.0, &new), at(70));
        tokio::task::yield_now().await;
        assert_eq!(new.available_permits(), 1, "its question must wait for the predecessor's answer");
        old.add_permits(1);
        assert_eq!(values(&sources.next(|| at(71)).await), [(60, 1.0), (71, 2.0)]);
        assert_eq!(sources.health().count(), 1);
    }

    #[tokio::test]
    async fn a_removed_source_is_freed_while_its_question_is_under_way() {
        let mut sources = Sources::default();
        let held = Arc::new(());
        let freed = Arc::downgrade(&held);
        let id = SourceId::unique();
        sources.start(
            id,
            Source::new("hanging".into(), Duration::from_secs(60), move |_| {
                let held = Arc::clone(&held);
                Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                    Ok(Answer::default())
                })
            }),
            moment(),
        );
        tokio::task::yield_now().await;
        sources.remove(id);
        assert!(sources.next(moment).await.is_empty());
        assert_eq!((freed.strong_count(), sources.health().count()), (0, 0));
    }

    #[tokio::test]
    async fn a_source_that_is_due_every_few_minutes_is_asked_only_then() {
        let mut sources = Sources::default();
        sources.add(Source { every_minutes: 5, ..good("rare") });
        sources.add(good("frequent"));
        for (minute, expected) in [(9, 1), (10, 2), (11, 1), (15, 2)] {
            sources.ask_due(at(minute * 60));
            assert_eq!(values(&sources.next(moment).await).len(), expected, "{minute}");
        }
    }

    #[tokio::test]
    async fn a_source_that_is_still_answering_when_its_minute_begins_is_asked_again_and_has_not_failed() {
        let gate = Arc::new(Semaphore::new(0));
        let mut sources = Sources::default();
        sources.start(SourceId::unique(), gated("new", 1.0, &gate), at(119));
        sources.ask_due(at(120));
        assert_eq!(*sources.health().next().unwrap().1, Health::default());
        gate.add_permits(2);
        assert_eq!(values(&sources.next(|| at(120)).await), [(119, 1.0), (120, 1.0)]);
    }

    #[tokio::test]
    async fn a_thousand_sources_are_handed_over_together() {
        let mut sources = Sources::default();
        for number in 0..1_000 {
            sources.add(Source { name: format!("source {number}").into(), ..good("metric") });
        }
        sources.ask_due(moment());
        let collected = sources.next(moment).await;
        assert_eq!((collected.len(), values(&collected).len()), (1, 1_000));
        assert!(sources.batch.is_none() && sources.answers.is_empty());
    }

    #[tokio::test]
    async fn two_sources_of_one_name_are_removed_one_by_one() {
        let mut sources = Sources::default();
        let first = sources.add(good("same"));
        sources.add(good("same"));
        sources.remove(first);
        assert_eq!(ask(&mut sources).await, [["same"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_outcome_of_each_collection_is_recorded() {
        let mut sources = Sources::default();
        let outcomes = sources.outcomes();
        sources.add(good("good"));
        sources.add(source("empty", || Ok(Vec::new())));
        let failing = sources.add(source("failing", || Err(Fault::new("no such file"))));
        sources.add(Source::new("hanging".into(), Duration::from_secs(3), |_| Box::pin(std::future::pending())));
        ask(&mut sources).await;
        ask(&mut sources).await;
        let results = outcomes.all().into_iter().map(|outcome| outcome.result).collect::<Vec<_>>();
        let expected = [
            CollectionResult::Values { count: 1, warnings: Vec::new() },
            CollectionResult::NoData,
            CollectionResult::Failed("no such file".into()),
        ];
        assert_eq!(results[..3], expected);
        let counts = outcomes.all().iter().map(|outcome| (outcome.collections, outcome.failed)).collect::<Vec<_>>();
        assert_eq!(counts, [(2, 0), (2, 0), (2, 2), (2, 2)]);
        sources.remove(failing);
        assert_eq!(outcomes.all().len(), 3, "a removed source has no outcome");
    }

    #[tokio::test(start_paused = true)]
    async fn a_collection_that_times_out_took_as_long_as_its_deadline() {
        let mut sources = Sources::default();
        sources.add(Source::new("hanging".into(), Duration::from_secs(3), |_| Box::pin(std::future::pending())));
        ask(&mut sources).await;
        let outcome = sources.outcomes().all().remove(0);
        assert_eq!((outcome.result, outcome.took), (CollectionResult::TimedOut, Duration::from_secs(3)));
    }
}
