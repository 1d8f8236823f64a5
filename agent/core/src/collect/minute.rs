//! The minute: asks every source when it is due and keeps each one's trouble to itself.
//!
//! A source that is late, fails or panics is named once in the log, and once more when it is well again; in between it is
//! only counted. Values that are there in time are handed on together; a slow source's follow when they come. Sources come,
//! go and are replaced at any time: a new one is asked at once, and then whenever its minute begins.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::rate::Reading;
use super::readers::Readers;
use super::{Answer, Collector, Fault, Kept, Moment};
use crate::sample::Sample;

/// What all quick sources' values wait for before they are handed on without the slow ones'.
const GRACE: Duration = Duration::from_millis(700);

/// What the values of sources that start wait for each other; whoever starts a plugin wants to see it.
const START_GRACE: Duration = Duration::from_millis(200);

/// What slow sources' values wait for each other, so that they do not cost a commit each.
const LATE_GRACE: Duration = Duration::from_secs(5);

/// How long a host collector may take. Reading /proc takes well under a millisecond; what takes longer hangs.
const HOST_DEADLINE: Duration = Duration::from_secs(10);

type Pending = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// Something that is asked when a minute begins.
pub struct Source {
    /// Its name in the log and in the table.
    pub name: Arc<str>,
    /// It is due in each minute since 1970 that is a multiple of this; 1 is every minute.
    pub every_minutes: u32,
    deadline: Duration,
    ask: Box<dyn Fn(Moment) -> Pending + Send>,
}

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, if it is not well.
    pub trouble: Option<String>,
    /// Questions without its values since it was last well.
    pub failures: u64,
}

impl Source {
    /// A source from a question that runs on this runtime and never blocks; due every minute.
    pub fn new(name: Arc<str>, deadline: Duration, ask: impl Fn(Moment) -> Pending + Send + 'static) -> Self {
        Self { name, every_minutes: 1, deadline, ask: Box::new(ask) }
    }

    /// A source from a collector, which may block while it reads: it does so on one of the `readers`.
    #[must_use]
    pub fn of_collector(name: &str, collector: Box<dyn Collector>, readers: &Readers) -> Self {
        let (collector, readers) = (Arc::new(Mutex::new(collector)), readers.clone());
        let ask = move |moment| -> Pending {
            let (collector, readers) = (Arc::clone(&collector), readers.clone());
            let read = move || {
                // A panic leaves a collector's last reading half updated at worst, which its next one replaces.
                let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
                let samples = collector.collect(moment)?;
                Ok(Answer { samples, complaints: collector.complaints(), ..Answer::default() })
            };
            Box::pin(async move { readers.run(read).await.unwrap_or_else(|_| Err(panicked())) })
        };
        Self::new(name.into(), HOST_DEADLINE, ask)
    }

    fn is_due(&self, moment: Moment) -> bool {
        moment.unix_seconds.div_euclid(60).rem_euclid(i64::from(self.every_minutes.max(1))) == 0
    }
}

fn panicked() -> Fault {
    Fault("it panicked; this is a bug of wasaba".into())
}

/// Values of one moment that are ready to be kept; the same moment may have several.
#[derive(Debug, Default)]
pub struct Part {
    /// The values, with the name of the source that each range of them came from.
    pub samples: Vec<(Arc<str>, Vec<Sample>)>,
    /// Counters' readings, under `source TAB name`.
    pub readings: Vec<(String, Reading)>,
    /// What sources keep from now on, by their names.
    pub kept: Vec<(Arc<str>, Kept)>,
}

/// Parts by their moments, in seconds since 1970.
pub type Parts = BTreeMap<i64, Part>;

/// Every source of the agent.
#[derive(Default)]
pub struct Sources {
    /// By a running number, so in the order in which they were added.
    slots: BTreeMap<u64, Slot>,
    names: HashMap<Arc<str>, u64>,
    numbers: u64,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    parts: Parts,
    batch: Option<Batch>,
}

/// A source's place, which outlives its replacement.
struct Slot {
    source: Source,
    under_way: Option<Question>,
    /// It is asked as soon as the question under way is over.
    owed: bool,
    health: Health,
}

/// A question that is still without an answer. Dropping it ends it.
struct Question {
    number: u64,
    task: AbortHandle,
    /// Nobody waits for the answer any more.
    late: bool,
    /// It was put to a predecessor of the slot's source.
    to_predecessor: bool,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of a question.
struct Answered {
    slot: u64,
    question: u64,
    unix_seconds: i64,
    /// `None` if it did not come in time.
    answer: Option<Result<Answer, Fault>>,
}

/// Answers that are handed on together.
struct Batch {
    /// When, at the latest.
    end: Instant,
    /// Whether it ends early when nobody is asked any more.
    ends_early: bool,
}

impl Sources {
    /// Adds a source, or puts it in place of the one of its name. It is not asked yet.
    pub fn add(&mut self, source: Source) {
        self.place(source);
    }

    /// Adds a source and asks it at once. One of its name is replaced; a question under way to that one is still answered,
    /// and the new one asked right after.
    pub fn start(&mut self, source: Source, moment: Moment) {
        let key = self.place(source);
        self.ask_one(key, moment);
        let end = Instant::now() + START_GRACE;
        let end = self.batch.as_ref().map_or(end, |batch| batch.end.min(end));
        // Many may start one after the other: these are not to be handed on one by one.
        let ends_early = self.batch.as_ref().is_some_and(|batch| batch.ends_early);
        self.batch = Some(Batch { end, ends_early });
    }

    /// Removes a source, and ends the question under way.
    pub fn remove(&mut self, name: &str) {
        if let Some(key) = self.names.remove(name) {
            self.slots.remove(&key);
        }
    }

    /// How each is doing, in the order in which they were added.
    pub fn health(&self) -> impl Iterator<Item = (&Arc<str>, &Health)> {
        self.slots.values().map(|slot| (&slot.source.name, &slot.health))
    }

    /// Asks all that are due at `moment`, the beginning of a minute.
    pub fn ask_due(&mut self, moment: Moment) {
        self.ask_where(moment, |source| source.is_due(moment));
    }

    /// Asks all of them, due or not.
    pub fn ask_all(&mut self, moment: Moment) {
        self.ask_where(moment, |_| true);
    }

    /// Asks all of them for `moment`, and hands on to `keep` what they answer, with its time, until all have answered or are late.
    pub async fn ask(&mut self, moment: Moment, mut keep: impl AsyncFnMut(i64, Part)) {
        self.ask_all(moment);
        while self.batch.is_some() || !self.answers.is_empty() {
            for (time, part) in self.next(|| moment).await {
                keep(time, part).await;
            }
        }
    }

    /// Waits for the next values that are to be kept, which may take for ever; dropping the future loses nothing. `now`
    /// stamps what is asked meanwhile. The parts may be none: then the sources' health has changed.
    pub async fn next(&mut self, now: impl Fn() -> Moment) -> Parts {
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

    /// What came and was not handed on yet.
    pub fn rest(&mut self) -> Parts {
        self.batch = None;
        std::mem::take(&mut self.parts)
    }

    fn place(&mut self, source: Source) -> u64 {
        if let Some(key) = self.names.get(&source.name)
            && let Some(slot) = self.slots.get_mut(key)
        {
            slot.under_way = slot.under_way.take().filter(|question| !question.late);
            if let Some(question) = &mut slot.under_way {
                question.to_predecessor = true;
            }
            slot.source = source;
            return *key;
        }
        let key = self.number();
        self.names.insert(Arc::clone(&source.name), key);
        self.slots.insert(key, Slot { source, under_way: None, owed: false, health: Health::default() });
        key
    }

    fn number(&mut self) -> u64 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    fn ask_where(&mut self, moment: Moment, is_asked: impl Fn(&Source) -> bool) {
        let asked = self.slots.iter().filter(|(_, slot)| is_asked(&slot.source)).map(|(key, _)| *key);
        for key in asked.collect::<Vec<_>>() {
            self.ask_one(key, moment);
        }
        self.batch = Some(Batch { end: Instant::now() + GRACE, ends_early: true });
    }

    fn ask_one(&mut self, key: u64, moment: Moment) {
        let number = self.number();
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match &slot.under_way {
            Some(question) if !question.late => {
                slot.owed = true;
                return;
            }
            Some(question) if !question.task.is_finished() => {
                return slot.judge(Err(&Fault("it has not answered an earlier minute's question yet".into())));
            }
            _ => {}
        }
        slot.owed = false;
        let asked = std::panic::catch_unwind(AssertUnwindSafe(|| (slot.source.ask)(moment)));
        let Ok(asked) = asked else { return slot.judge(Err(&panicked())) };
        let mut task = tokio::spawn(asked);
        let handle = task.abort_handle();
        slot.under_way = Some(Question { number, task: handle, late: false, to_predecessor: false });
        let deadline = slot.source.deadline;
        self.answers.push(Box::pin(async move {
            let answer = tokio::time::timeout(deadline, &mut task).await.ok();
            let answer = answer.map(|answered| answered.unwrap_or_else(|_| Err(panicked())));
            Answered { slot: key, question: number, unix_seconds: moment.unix_seconds, answer }
        }));
    }

    fn take(&mut self, answered: Answered, now: &impl Fn() -> Moment) {
        let Some(slot) = self.slots.get_mut(&answered.slot) else { return };
        // Who was removed or replaced meanwhile has no say.
        let Some(question) = slot.under_way.as_mut().filter(|question| question.number == answered.question) else {
            return;
        };
        let ends_early = true;
        self.batch.get_or_insert_with(|| Batch { end: Instant::now() + LATE_GRACE, ends_early });
        match answered.answer {
            Some(answer) => {
                slot.under_way = None;
                slot.judge(answer.as_ref());
                if let Ok(mut answer) = answer {
                    for (time, sample) in std::mem::take(&mut answer.dated) {
                        let dated = Answer { samples: vec![sample], ..Answer::default() };
                        self.parts.entry(time).or_default().take(&slot.source.name, dated);
                    }
                    self.parts.entry(answered.unix_seconds).or_default().take(&slot.source.name, answer);
                }
            }
            None => {
                question.late = true;
                let replaced = question.to_predecessor;
                slot.judge(Err(&Fault(format!("it did not answer within {:?}", slot.source.deadline))));
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

impl Part {
    fn take(&mut self, source: &Arc<str>, answer: Answer) {
        let readings = answer.readings.into_iter().map(|(name, reading)| (format!("{source}\t{name}"), reading));
        self.readings.extend(readings);
        self.kept.extend(answer.kept.map(|kept| (Arc::clone(source), kept)));
        self.samples.push((Arc::clone(source), answer.samples));
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|(_, samples)| samples.is_empty()) && self.readings.is_empty() && self.kept.is_empty()
    }
}

impl Slot {
    fn judge(&mut self, answer: Result<&Answer, &Fault>) {
        let name = &self.source.name;
        let trouble = match answer {
            Ok(answer) if answer.complaints.is_empty() => None,
            Ok(answer) => Some(answer.complaints.join("; ")),
            Err(fault) => Some(fault.0.clone()),
        };
        let Health { trouble: known, failures } = &mut self.health;
        match (&*known, &trouble) {
            (None, Some(trouble)) => tracing::warn!("{name}: {trouble}"),
            // A changed reason is news; the same one a minute later is not.
            (Some(known), Some(trouble)) if known != trouble => tracing::warn!("{name}: {trouble}"),
            (Some(_), None) => {
                let plural = if *failures == 1 { "" } else { "s" };
                tracing::info!("{name}: well again after {failures} minute{plural} in trouble");
            }
            _ => {}
        }
        *failures = if trouble.is_some() { failures.saturating_add(1) } else { 0 };
        *known = trouble;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, Semaphore};

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

    /// The names of the sources in each part that was handed on.
    async fn ask(sources: &mut Sources) -> Vec<Vec<String>> {
        let mut parts = Vec::new();
        let keep = async |_, part: Part| parts.push(part.samples.iter().map(|(name, _)| name.to_string()).collect());
        sources.ask(moment(), keep).await;
        parts
    }

    #[tokio::test]
    async fn a_failing_and_a_panicking_collector_cost_the_others_nothing() {
        let mut sources = Sources::default();
        sources.add(source("failing", || Err(Fault("no such file".into()))));
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
        // Answers only after the quick ones' values were handed on, so the test fails if they wait for it.
        let handed_on = Arc::new(Notify::new());
        let notified = Arc::clone(&handed_on);
        sources.add(Source::new("slow".into(), Duration::from_secs(60), move |_| {
            let handed_on = Arc::clone(&notified);
            Box::pin(async move {
                handed_on.notified().await;
                Ok(Answer::default())
            })
        }));
        for minute in 1..=2 {
            let mut parts = Vec::<Vec<String>>::new();
            let keep = async |_, part: Part| {
                parts.push(part.samples.iter().map(|(name, _)| name.to_string()).collect());
                handed_on.notify_one();
            };
            sources.ask(moment(), keep).await;
            assert_eq!(parts, [["good"], ["slow"]]);
            assert_eq!(sources.health().nth(1).unwrap().1.failures, minute);
            // The permit of the second part is not for the next minute.
            handed_on.notified().await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_collector_that_recovers_is_well_again() {
        let mut broken = true;
        let mut sources = Sources::default();
        sources.add(source("moody", move || {
            let answer = if broken { Err(Fault("not today".into())) } else { Ok(Vec::new()) };
            broken = false;
            answer
        }));
        ask(&mut sources).await;
        assert_eq!(sources.health().next().unwrap().1.trouble.as_deref(), Some("not today"));
        ask(&mut sources).await;
        assert_eq!(*sources.health().next().unwrap().1, Health::default());
    }

    /// A source that answers as often as it is permitted to, with its own value.
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

    /// When, and what: each value of the parts.
    fn values(parts: &Parts) -> Vec<(i64, f64)> {
        let samples =
            parts.iter().flat_map(|(time, part)| part.samples.iter().map(move |(_, samples)| (*time, samples)));
        samples.flat_map(|(time, samples)| samples.iter().map(move |sample| (time, sample.value()))).collect()
    }

    #[tokio::test]
    async fn a_source_that_starts_between_two_minutes_is_asked_at_once_and_has_the_time_of_then() {
        let mut sources = Sources::default();
        sources.start(good("new"), at(83));
        sources.start(good("newer"), at(83));
        let parts = sources.next(moment).await;
        assert_eq!(values(&parts), [(83, 1.0), (83, 1.0)], "in one part");
    }

    #[tokio::test]
    async fn a_replaced_source_answers_once_more_and_its_successor_is_asked_right_after() {
        let (old, new) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let mut sources = Sources::default();
        sources.add(gated("swapped", 1.0, &old));
        sources.ask_due(at(60));
        sources.start(gated("swapped", 2.0, &new), at(70));
        tokio::task::yield_now().await;
        assert_eq!(new.available_permits(), 1, "two questions would be under way");
        old.add_permits(1);
        assert_eq!(values(&sources.next(|| at(71)).await), [(60, 1.0), (71, 2.0)]);
        assert_eq!(sources.health().count(), 1);
    }

    #[tokio::test]
    async fn a_removed_source_is_freed_in_the_middle_of_its_question() {
        let mut sources = Sources::default();
        let held = Arc::new(());
        let freed = Arc::downgrade(&held);
        sources.start(
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
        sources.remove("hanging");
        assert!(sources.next(moment).await.is_empty());
        assert_eq!((freed.strong_count(), sources.health().count()), (0, 0));
    }

    #[tokio::test]
    async fn a_source_of_several_minutes_is_asked_when_they_are_full() {
        let mut sources = Sources::default();
        sources.add(Source { every_minutes: 5, ..good("rare") });
        sources.add(good("frequent"));
        for (minute, expected) in [(9, 1), (10, 2), (11, 1), (15, 2)] {
            sources.ask_due(at(minute * 60));
            assert_eq!(values(&sources.next(moment).await).len(), expected, "{minute}");
        }
    }

    #[tokio::test]
    async fn a_source_that_is_still_answering_when_its_minute_begins_is_asked_again_and_not_blamed() {
        let gate = Arc::new(Semaphore::new(0));
        let mut sources = Sources::default();
        sources.start(gated("new", 1.0, &gate), at(119));
        sources.ask_due(at(120));
        assert_eq!(*sources.health().next().unwrap().1, Health::default());
        gate.add_permits(2);
        assert_eq!(values(&sources.next(|| at(120)).await), [(119, 1.0), (120, 1.0)]);
    }

    #[tokio::test]
    async fn a_thousand_sources_give_one_part() {
        let mut sources = Sources::default();
        for number in 0..1_000 {
            sources.add(Source { name: format!("source {number}").into(), ..good("metric") });
        }
        sources.ask_due(moment());
        let parts = sources.next(moment).await;
        assert_eq!((parts.len(), values(&parts).len()), (1, 1_000));
        assert!(sources.batch.is_none() && sources.answers.is_empty());
    }
}
