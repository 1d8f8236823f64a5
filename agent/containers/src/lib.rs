//! Docker: the metrics of an engine's containers, read once a minute through its API.
//!
//! [`endpoint`] connects to the engine, [`answers`] parses its responses, [`naming`] names a container, [`metrics`] is the list of the
//! metrics, [`collection`] queries and computes, and [`look`] describes the containers to whoever asks. Nothing here starts, stops or changes a container. Podman's socket is an
//! engine, too.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod answers;
pub mod collection;
mod connections;
pub mod endpoint;
pub mod flags;
pub mod look;
pub mod metrics;
pub mod naming;
#[cfg(test)]
mod tests;
mod warnings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use endpoint::Endpoint;
use naming::{Identity, Naming};
use regex_lite::Regex;
use tokio::sync::Mutex;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::registry::{Graphs, Registered, Registry};
use wasaba_core::collect::source::Source;
use wasaba_core::graph::GraphDefinition;
use wasaba_core::posting::Posting;
use wasaba_core::tls::Trust;

/// The time limit of a collection, unless configured otherwise; as in the official plugin.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// An engine to query: `[docker]`, or the command line of the official plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Docker {
    /// Its name in the log: `docker`, or `plugin NAME`.
    pub name: Arc<str>,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The authority and certificate for TLS.
    pub trust: Trust,
    /// How its containers are named.
    pub naming: Naming,
    /// Whether CPU time is posted in nanoseconds per minute instead of percent.
    pub cpu_in_nanoseconds: bool,
    /// Only containers that match all of these.
    pub include: Patterns,
    /// No container that matches one of these.
    pub exclude: Patterns,
    /// Metrics besides the official ones: words of [`metrics::EXTRA`].
    pub extra: Vec<&'static str>,
    /// The time limit of a collection.
    pub timeout: Duration,
    /// How its values are posted.
    pub posting: Posting,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            name: "docker".into(),
            endpoint: Endpoint::default(),
            trust: Trust::default(),
            naming: Naming::default(),
            cpu_in_nanoseconds: false,
            include: Patterns::default(),
            exclude: Patterns::default(),
            extra: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            posting: Posting::default(),
        }
    }
}

/// Regular expressions that select containers.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// For the name, or any of several.
    pub name: Option<Regex>,
    /// For the image, by the name that it was started with.
    pub image: Option<Regex>,
    /// For a label, as `key=value`.
    pub label: Option<Regex>,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        let texts = |patterns: &Self| {
            [&patterns.name, &patterns.image, &patterns.label]
                .map(|regex| regex.as_ref().map(|regex| regex.as_str().to_owned()))
        };
        texts(self) == texts(other)
    }
}

impl Patterns {
    /// For each pattern, whether it matches.
    fn matches(&self, container: &Identity) -> impl Iterator<Item = bool> {
        let label =
            |regex: &Regex| container.labels.iter().any(|(key, value)| regex.is_match(&format!("{key}={value}")));
        let names = || std::iter::once(&container.name).chain(&container.aliases);
        let name = self.name.as_ref().map(|regex| names().any(|name| regex.is_match(name)));
        let image = self.image.as_ref().map(|regex| regex.is_match(&container.image));
        [name, image, self.label.as_ref().map(label)].into_iter().flatten()
    }
}

impl Docker {
    /// Whether a container has metrics: it matches all of `include` and none of `exclude`.
    #[must_use]
    pub fn wants(&self, container: &Identity) -> bool {
        self.include.matches(container).all(|matches| matches)
            && !self.exclude.matches(container).any(|matches| matches)
    }

    /// Its graph definitions.
    ///
    /// # Errors
    /// A `key_prefix` with which Mackerel would refuse a name.
    pub fn graphs(&self) -> Result<Vec<GraphDefinition>, String> {
        metrics::graphs(&self.extra, |name| self.posting.renamed(name))
    }
}

/// Has the engine asked once a minute, with the counters' readings that the `memory` holds, until what is returned is dropped.
/// The memory may block.
pub fn start(docker: Docker, registry: &Registry, memory: &dyn Memory) -> Registered {
    let docker = Arc::new(docker);
    let before = memory.readings(&docker.name).into_iter().collect();
    let registered = registry.add(source_of(Arc::clone(&docker), before));
    match docker.graphs() {
        Ok(definitions) => {
            let host = docker.posting.custom_identifier.clone();
            let owner =
                if docker.name.contains(' ') { Arc::clone(&docker.name) } else { format!("[{}]", docker.name).into() };
            registered.define(Graphs { owner, host, definitions, is_of_agent: true });
        }
        Err(why) => tracing::warn!("{}: cannot get its graph definitions: {why}", docker.name),
    }
    registered
}

/// The engine of the table `[docker]`, as the newest configuration has it.
#[derive(Default)]
pub struct Engines {
    running: Option<(Docker, Option<Registered>)>,
    current: look::Current,
}

impl Engines {
    /// The newest one, for those who look at its containers.
    #[must_use]
    pub fn current(&self) -> look::Current {
        self.current.clone()
    }

    /// Has the engine `wanted` asked from now on, in place of the one before; an equal one is not disturbed.
    pub async fn follow(&mut self, wanted: Option<&Docker>, registry: &Registry, memory: &Arc<dyn Memory>) {
        self.current.set(wanted);
        if self.running.as_ref().map(|(docker, _)| docker) == wanted {
            return;
        }
        self.running = None;
        if let Some(docker) = wanted.cloned() {
            let (registry, memory, started) = (registry.clone(), Arc::clone(memory), docker.clone());
            let registered = tokio::task::spawn_blocking(move || start(started, &registry, &*memory)).await;
            self.running = Some((docker, registered.ok()));
        }
    }
}

/// The engine as something to ask once a minute. `before` are the counters' readings of a time before this process.
#[must_use]
pub fn source_of(docker: Arc<Docker>, before: HashMap<String, Reading>) -> Source {
    let (name, every_minutes) = (Arc::clone(&docker.name), docker.posting.every_minutes);
    // The frame's own deadline is later than the collection's: it is for a hang in the agent itself.
    let deadline = docker.timeout.saturating_add(Duration::from_secs(5));
    let state = Arc::new(Mutex::new(collection::State::from(before)));
    let mut source = Source::new(name, deadline, move |moment| {
        let (docker, state) = (Arc::clone(&docker), Arc::clone(&state));
        Box::pin(async move { collection::collect(&docker, &mut *state.lock().await, moment).await })
    });
    source.every_minutes = every_minutes;
    source
}
