//! The registry: where the owners of sources add and remove them while the agent runs.
//!
//! What [`Registry::add`] returns is the source's owner: dropping it removes the source and its graphs. No source is ever
//! removed by its name, so two owners cannot remove each other's.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::source::{Source, SourceId};
use crate::graph::GraphDefinition;

/// Where sources are added. Clones lead to the same collecting loop.
#[derive(Clone)]
pub struct Registry(mpsc::UnboundedSender<Change>);

/// A source that was added; dropping it removes the source and its graphs.
#[must_use = "dropping it removes the source"]
pub struct Registered {
    id: SourceId,
    registry: Registry,
}

/// What an owner wants of the collecting loop.
pub(super) enum Change {
    /// Ask this source from now on, in place of the one with this id, if there is one.
    Put(SourceId, Source),
    /// These are the source's graph definitions from now on.
    Define(SourceId, Graphs),
    /// Remove the source.
    Remove(SourceId),
}

/// The graph definitions of one source.
pub struct Graphs {
    /// Who posts to them, for messages: `plugin web`.
    pub owner: Arc<str>,
    /// The host that its values are of, if it is not this one.
    pub host: Option<Arc<str>>,
    /// The definitions.
    pub definitions: Vec<GraphDefinition>,
}

/// What the owners said, for the collecting loop.
pub struct Changes(pub(super) mpsc::UnboundedReceiver<Change>);

/// A registry, and the end where its changes arrive.
#[must_use]
pub fn registry() -> (Registry, Changes) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Registry(sender), Changes(receiver))
}

impl Registry {
    /// Has `source` asked, at once if minutes are being asked already, until what is returned is dropped.
    pub fn add(&self, source: Source) -> Registered {
        let id = SourceId::unique();
        self.send(Change::Put(id, source));
        Registered { id, registry: self.clone() }
    }

    fn send(&self, change: Change) {
        // At the end nothing collects any more.
        self.0.send(change).ok();
    }
}

impl Registered {
    /// Which source it is.
    #[must_use]
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// Puts `source` in its place. A question under way is still answered; the successor is asked right after.
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
