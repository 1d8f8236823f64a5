//! The minute: asks every source side by side and keeps each one's trouble to itself.
//!
//! A source that is late, fails or panics is named once in the log, and once more when it is well again; in between it is
//! only counted. Values that are there in time are handed on at once; a slow source's follow when they come.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;

use super::rate::Reading;
use super::readers::Readers;
use super::{Answer, Collector, Fault, Moment};
use crate::sample::Sample;

/// What all quick sources' values wait for before they are handed on without the slow ones'.
const GRACE: Duration = Duration::from_millis(700);

/// How long a host collector may take. Reading /proc takes well under a millisecond; what takes longer hangs.
const HOST_DEADLINE: Duration = Duration::from_secs(10);

type Pending = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// Something that is asked once a minute.
pub struct Source {
    /// Its name in the log and in the table.
    pub name: Arc<str>,
    deadline: Duration,
    ask: Box<dyn Fn(Moment) -> Pending + Send>,
    /// The question of an earlier minute that is still without an answer.
    under_way: Option<JoinHandle<Result<Answer, Fault>>>,
    health: Health,
}

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, if it is not well.
    pub trouble: Option<String>,
    /// Minutes without its values since it was last well.
    pub failures: u64,
}

impl Source {
    /// A source from a question that runs on this runtime and never blocks.
    pub fn new(name: Arc<str>, deadline: Duration, ask: impl Fn(Moment) -> Pending + Send + 'static) -> Self {
        Self { name, deadline, ask: Box::new(ask), under_way: None, health: Health::default() }
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
}

fn panicked() -> Fault {
    Fault("it panicked; this is a bug of wasaba".into())
}

/// Values of one minute that are ready to be kept; the same minute may have several.
#[derive(Debug, Default)]
pub struct Part {
    /// The values, with the name of the source that each range of them came from.
    pub samples: Vec<(Arc<str>, Vec<Sample>)>,
    /// Counters' readings, under `source TAB name`.
    pub readings: Vec<(String, Reading)>,
}

/// Every source of the agent.
#[derive(Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a source, which is asked from the next minute on.
    pub fn add(&mut self, source: Source) {
        self.0.push(source);
    }

    /// How each is doing, in the order in which they were added.
    pub fn health(&self) -> impl Iterator<Item = (&Arc<str>, &Health)> {
        self.0.iter().map(|source| (&source.name, &source.health))
    }

    /// Asks all of them for `moment`. `keep` gets the values in one part, or in two if a source was slow.
    pub async fn ask(&mut self, moment: Moment, mut keep: impl AsyncFnMut(Part)) {
        let mut waiting = self.0.iter_mut().map(|source| source.ask_once(moment)).collect::<FuturesUnordered<_>>();
        let mut part = Part::default();
        let grace = tokio::time::sleep(GRACE);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                answered = waiting.next() => match answered {
                    Some(Some((source, answer))) => part.take(&source, answer),
                    Some(None) => {}
                    None => break,
                },
                () = &mut grace, if !grace.is_elapsed() => keep(std::mem::take(&mut part)).await,
            }
        }
        keep(part).await;
    }
}

impl Part {
    fn take(&mut self, source: &Arc<str>, answer: Answer) {
        let readings = answer.readings.into_iter().map(|(name, reading)| (format!("{source}\t{name}"), reading));
        self.readings.extend(readings);
        self.samples.push((Arc::clone(source), answer.samples));
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|(_, samples)| samples.is_empty()) && self.readings.is_empty()
    }
}

impl Source {
    /// Its answer, unless it has none; what went wrong is judged here.
    async fn ask_once(&mut self, moment: Moment) -> Option<(Arc<str>, Answer)> {
        if self.under_way.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            self.judge(Err(&Fault("it has not answered an earlier minute's question yet".into())));
            return None;
        }
        let asked = std::panic::catch_unwind(AssertUnwindSafe(|| (self.ask)(moment)));
        let Ok(asked) = asked else {
            self.judge(Err(&panicked()));
            return None;
        };
        let task = self.under_way.insert(tokio::spawn(asked));
        let answer = match tokio::time::timeout(self.deadline, task).await {
            Ok(answered) => {
                self.under_way = None;
                answered.unwrap_or_else(|_| Err(panicked()))
            }
            Err(_) => Err(Fault(format!("it did not answer within {:?}", self.deadline))),
        };
        self.judge(answer.as_ref());
        Some((Arc::clone(&self.name), answer.ok()?))
    }

    fn judge(&mut self, answer: Result<&Answer, &Fault>) {
        let name = &self.name;
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
            (Some(_), None) => tracing::info!("{name}: well again after {failures} minutes in trouble"),
            _ => {}
        }
        *failures = if trouble.is_some() { failures.saturating_add(1) } else { 0 };
        *known = trouble;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use tokio::sync::Notify;

    fn moment() -> Moment {
        Moment { unix_seconds: 60, instant: Instant::now() }
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
        let keep = async |part: Part| parts.push(part.samples.iter().map(|(name, _)| name.to_string()).collect());
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
            let keep = async |part: Part| {
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
}
