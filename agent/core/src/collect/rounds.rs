//! The collecting loop: asks all sources every minute, applies their owners' changes, and hands over what was collected.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::outcomes::Outcomes;
use super::registry::{self, Change, Changes, Registry};
use super::sources::{ByInstant, Sources};
use crate::clock::{self, Moment};
use crate::graph::Defined;

/// How long the first collection waits for plugins, which usually are cached and ready in time. A plugin that must be compiled
/// first is asked as soon as it is ready.
const FIRST_WAIT: Duration = Duration::from_millis(800);

/// How many changes are applied in one go.
const CHANGES_AT_ONCE: usize = 64;

/// Takes what was collected.
pub trait Sink {
    /// Keeps `collected`, which may be empty.
    fn keep(&mut self, collected: ByInstant) -> impl Future<Output = ()>;
}

/// The collecting loop.
pub struct Rounds {
    sources: Sources,
    changes: Changes,
    registry: Registry,
    definitions: watch::Sender<Arc<Vec<Defined>>>,
}

impl Rounds {
    /// A loop without sources. The receiver has the definitions of all graphs.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Arc<Vec<Defined>>>) {
        let (definitions, defined) = watch::channel(Arc::default());
        let (registry, changes) = registry::registry();
        (Self { sources: Sources::default(), changes, registry, definitions }, defined)
    }

    /// Where its sources are added.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// How each source's last collection went.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.sources.outcomes()
    }

    /// Collects at once and then every minute, until `stop` becomes `true`; what has arrived by then is kept. The first
    /// collection waits a little for `ready`, which completes when loading was tried for all plugins.
    pub async fn run(mut self, ready: impl Future<Output = ()>, mut stop: watch::Receiver<bool>, sink: &mut impl Sink) {
        tokio::select! {
            () = self.prepare(ready, Instant::now() + FIRST_WAIT) => {}
            () = stopped(&mut stop) => return,
        }
        let mut moment = Moment::now();
        self.sources.ask_all(moment);
        loop {
            let boundary = (moment.unix_seconds.div_euclid(60) + 1) * 60;
            let full = tokio::time::sleep(clock::until(boundary));
            let mut full = std::pin::pin!(full);
            let mut changes = Vec::new();
            loop {
                tokio::select! {
                    () = stopped(&mut stop) => {
                        let rest = self.sources.rest();
                        return self.keep(rest, sink).await;
                    }
                    () = &mut full => break,
                    _ = self.changes.0.recv_many(&mut changes, CHANGES_AT_ONCE) => {
                        for change in changes.drain(..) {
                            self.apply(change, Some(Moment::now()));
                        }
                        self.define();
                    }
                    collected = self.sources.next(Moment::now) => self.keep(collected, sink).await,
                }
            }
            moment = on_boundary(Moment::now(), boundary);
            self.sources.ask_due(moment);
        }
    }

    /// Adds sources until all are `ready`, but no later than `end`.
    async fn prepare(&mut self, ready: impl Future<Output = ()>, end: Instant) {
        let mut ready = std::pin::pin!(timeout_at(end, ready));
        loop {
            tokio::select! {
                biased;
                Some(change) = self.changes.0.recv() => self.apply(change, None),
                _ = &mut ready => break,
            }
        }
        // All changes from before it was ready have arrived.
        while let Ok(change) = self.changes.0.try_recv() {
            self.apply(change, None);
        }
    }

    /// Applies a change. A new source is asked for `moment`; without one it waits for the first collection.
    fn apply(&mut self, change: Change, moment: Option<Moment>) {
        match change {
            Change::Put(id, source) => match moment {
                Some(moment) => self.sources.start(id, source, moment),
                None => self.sources.put(id, source),
            },
            Change::Define(id, graphs) => self.sources.define(id, graphs),
            Change::Remove(id) => self.sources.remove(id),
        }
    }

    fn define(&mut self) {
        if let Some(definitions) = self.sources.newly_defined() {
            self.definitions.send_replace(Arc::new(definitions));
        }
    }

    async fn keep(&mut self, collected: ByInstant, sink: &mut impl Sink) {
        self.define();
        sink.keep(collected).await;
    }
}

/// Returns when `stop` is `true`, or its sender is gone. Drops the lock that `wait_for` returns.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Corrects a timer that fired a moment before the wall clock shows the full minute. If the clock shows anything else, it was
/// set meanwhile, and the minute is the one that it shows.
fn on_boundary(moment: Moment, boundary: i64) -> Moment {
    let early = moment.unix_seconds == boundary - 1;
    Moment { unix_seconds: if early { boundary } else { moment.unix_seconds }, ..moment }
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::super::{Answer, Moment};
    use super::*;
    use crate::graph::GraphDefinition;
    use crate::sample::Sample;

    #[test]
    fn a_timer_that_fires_early_counts_for_the_full_minute_and_a_clock_that_was_set_is_followed() {
        let at =
            |unix_seconds| on_boundary(Moment { unix_seconds, instant: std::time::Instant::now() }, 120).unix_seconds;
        assert_eq!([at(119), at(120), at(121)], [120, 120, 121]);
        assert_eq!([at(60), at(3_600)], [60, 3_600]);
    }

    /// Keeps the names of the sources, and stops the loop once it has that of `last`.
    struct Names {
        names: Vec<String>,
        last: &'static str,
        stop: watch::Sender<bool>,
    }

    impl Sink for Names {
        async fn keep(&mut self, collected: ByInstant) {
            let samples = collected.into_values().flat_map(|collected| collected.samples);
            self.names.extend(samples.map(|(source, _)| source.to_string()));
            if self.names.iter().any(|name| name == self.last) {
                self.stop.send_replace(true);
            }
        }
    }

    fn source(name: &str) -> Source {
        Source::new(name.into(), Duration::from_secs(10), |_| {
            let samples = vec![Sample::new("a", 1.0).unwrap()];
            Box::pin(async move { Ok(Answer { samples, ..Answer::default() }) })
        })
    }

    fn graphs(owner: &str, name: &str) -> registry::Graphs {
        let definitions = vec![GraphDefinition::new(name, "", "integer").unwrap()];
        registry::Graphs { owner: owner.into(), host: None, definitions, is_of_agent: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_added_before_all_are_ready_is_in_the_first_collection_and_a_dropped_one_is_not() {
        let (rounds, defined) = Rounds::new();
        let registry = rounds.registry();
        let (stop, stopped) = watch::channel(false);
        let kept = registry.add(source("kept"));
        kept.define(graphs("kept", "kept.graph"));
        let dropped = registry.add(source("dropped"));
        dropped.define(graphs("dropped", "dropped.graph"));
        let replaced = registry.add(source("replaced"));
        replaced.replace(source("successor"));
        let ready = async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(dropped);
        };
        let mut sink = Names { names: Vec::new(), last: "successor", stop };
        rounds.run(ready, stopped, &mut sink).await;
        sink.names.sort();
        assert_eq!(sink.names, ["kept", "successor"]);
        let defined = defined.borrow().iter().map(|defined| defined.graph.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(defined, ["custom.kept.graph"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_added_later_is_asked_at_once_and_plugins_that_never_load_delay_the_first_collection_only_briefly()
     {
        let (rounds, _defined) = Rounds::new();
        let registry = rounds.registry();
        let (stop, stopped) = watch::channel(false);
        let _first = registry.add(source("first"));
        let later = async {
            tokio::time::sleep(FIRST_WAIT * 2).await;
            let later = registry.add(source("later"));
            std::future::pending::<()>().await;
            drop(later);
        };
        let mut sink = Names { names: Vec::new(), last: "later", stop };
        tokio::select! {
            () = rounds.run(std::future::pending(), stopped, &mut sink) => {}
            () = later => {}
        }
        // The wall clock may begin a minute in between.
        sink.names.dedup();
        assert_eq!(sink.names, ["first", "later"]);
    }
}
