//! The registry: where the owners of sources add and remove them while the agent runs.
//!
//! [`Registry::add`] returns a guard: dropping it removes the source and its graphs. No source is ever removed by its name, so
//! two owners cannot remove each other's.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::source::{Source, SourceId};
use crate::graph::GraphDefinition;

/// Where sources are added. Clones belong to the same collecting loop.
#[derive(Clone)]
pub struct Registry(mpsc::UnboundedSender<Change>);

/// A source that was added; dropping it removes the source and its graphs.
#[must_use = "dropping it removes the source"]
pub struct Registered {
    id: SourceId,
    registry: Registry,
}

/// A change that an owner requests from the collecting loop.
pub(super) enum Change {
    /// Ask this source from now on, instead of the one with this id, if there is one.
    Put(SourceId, Source),
    /// Replace the source's graph definitions.
    Define(SourceId, Graphs),
    /// Remove the source.
    Remove(SourceId),
}

/// The graph definitions of one source.
#[derive(PartialEq)]
pub struct Graphs {
    /// The name of the source, for messages: `plugin web`.
    pub owner: Arc<str>,
    /// The host that its values belong to, if it is not this one.
    pub host: Option<Arc<str>>,
    /// The definitions.
    pub definitions: Vec<GraphDefinition>,
    /// Whether the source is the agent's own, or a Docker engine: no plugin may post under its names.
    pub is_of_agent: bool,
}

/// The changes that the owners request, for the collecting loop.
pub struct Changes(pub(super) mpsc::UnboundedReceiver<Change>);

/// A registry, and the receiver of its changes.
#[must_use]
pub fn registry() -> (Registry, Changes) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Registry(sender), Changes(receiver))
}

impl Registry {
    /// Adds `source`; it is asked until the returned guard is dropped, for the first time at once if the loop runs already.
    pub fn add(&self, source: Source) -> Registered {
        let id = SourceId::unique();
        self.send(Change::Put(id, source));
        Registered { id, registry: self.clone() }
    }

    fn send(&self, change: Change) {
        // It fails when the collecting loop has stopped.
        self.0.send(change).ok();
    }
}

impl Registered {
    /// The source's id.
    #[must_use]
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// Replaces the source. A question under way is still answered; the successor is asked right after.
    pub fn replace(&self, source: Source) {
        self.registry.send(Change::Put(self.id, source));
    }

    /// Sets the source's graph definitions.
    pub fn define(&self, graphs: Graphs) {
        self.registry.send(Change::Define(self.id, graphs));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.send(Change::Remove(self.id));
    }
}
