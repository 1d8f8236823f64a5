//! What the loop asks besides plugins: the host's own collectors, the agent's resource usage, the engines; and how a reload changes it.

use std::sync::Arc;

use config::Config;
use containers::Engines;
use machine::diagnostic::{self, Diagnostic};
use machine::metrics::selection::Current;
use plugins::self_metrics::{self, SelfMetrics};
use tokio::sync::watch;
use wasaba_core::collect::Collector;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::readers::Readers;
use wasaba_core::collect::registry::{Graphs, Registered, Registry};
use wasaba_core::collect::source::Source;

use super::delivery_metrics::{self, DeliveryMetrics};
use super::work_metrics::{self, WorkMetrics};
use crate::process::state::Tables;

/// The host's own collectors, which share their readers.
#[must_use]
pub fn host_sources(config: &Config, selection: &Current) -> Vec<Source> {
    let readers = Readers::default();
    let open = |family: &machine::metrics::Family| {
        Source::of_collector(family.name, (family.open)(&config.machine, selection), &readers)
    };
    machine::metrics::ALL.iter().map(open).collect()
}

/// The host's own collectors, while they run.
pub(super) struct HostSources {
    selection: Current,
    pub(super) sources: Vec<Registered>,
    /// The agent's own resource usage, if it is configured.
    diagnostic: Option<Registered>,
}

impl HostSources {
    pub(super) fn start(config: &Config, registry: &Registry) -> Self {
        let selection = Current::default();
        let sources = host_sources(config, &selection).into_iter().map(|source| registry.add(source)).collect();
        Self { selection, sources, diagnostic: None }
    }

    fn apply(&mut self, config: &Config, registry: &Registry) {
        self.selection.set(config.selection.clone());
        let is_wanted = config.diagnostic || config.self_metrics;
        if is_wanted && self.diagnostic.is_none() {
            let source = Source::of_collector("diagnostic", Box::<Diagnostic>::default(), &Readers::default());
            let registered = registry.add(source);
            let definitions = diagnostic::graphs().unwrap_or_default();
            registered.define(Graphs { owner: "diagnostic".into(), host: None, definitions, is_of_agent: true });
            self.diagnostic = Some(registered);
        } else if !is_wanted {
            self.diagnostic = None;
        }
    }
}

/// The resource usage of plugins, how collections and checks are doing, and the delivery, as three more sources.
pub(super) fn self_metrics_of(tables: &Tables, registry: &Registry) -> Result<[Registered; 3], String> {
    // Each with a reader of its own: the delivery's may wait for the queue's disk.
    let add = |name: &str, collector: Box<dyn Collector>, definitions| {
        let registered = registry.add(Source::of_collector(name, collector, &Readers::default()));
        registered.define(Graphs { owner: "wasaba itself".into(), host: None, definitions, is_of_agent: true });
        registered
    };
    let plugins = Box::new(SelfMetrics::new(tables.register.clone()));
    let work = Box::new(WorkMetrics::new(tables.outcomes.clone(), tables.statuses.clone()));
    let delivery = Box::new(DeliveryMetrics::new(tables.lanes.clone(), tables.books.clone()));
    Ok([
        add("self", plugins, self_metrics::graphs()?),
        add("work", work, work_metrics::graphs()?),
        add("delivery", delivery, delivery_metrics::graphs()?),
    ])
}

/// What is reloaded with the configuration, except the plugins.
pub(super) struct Reloading {
    pub(super) machine: HostSources,
    pub(super) engines: Engines,
    pub(super) registry: Registry,
    pub(super) memory: Arc<dyn Memory>,
}

impl Reloading {
    pub(super) async fn apply(&mut self, config: &Config) {
        self.machine.apply(config, &self.registry);
        self.engines.follow(config.docker.as_ref(), &self.registry, &self.memory).await;
    }

    pub(super) async fn keep(mut self, mut configs: watch::Receiver<Arc<Config>>) {
        while configs.changed().await.is_ok() {
            let config = configs.borrow_and_update().clone();
            self.apply(&config).await;
        }
        // There will be no other configuration; everything keeps running.
        std::future::pending().await
    }
}
