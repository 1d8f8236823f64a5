//! The graphs of all sources, for Mackerel; and who posts to the same ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::source::SourceId;
use crate::graph::GraphDefinition;

/// The host that values are of, if it is not this one, and the graph's name.
type Target = (Option<Arc<str>>, String);

/// The graphs of each source. Two instances of one plugin have the same ones, unless a prefix tells them apart.
#[derive(Default)]
pub(super) struct Graphs {
    by_source: BTreeMap<SourceId, (Arc<str>, Vec<GraphDefinition>)>,
    /// Who posts to which.
    owners: BTreeMap<Target, BTreeSet<SourceId>>,
    /// Pairs that were warned of.
    warned: HashSet<(SourceId, SourceId)>,
    changed: bool,
}

impl Graphs {
    /// Takes over the graphs of the source `id`, called `owner`, whose values are of `host` if not of this one. If another source
    /// posts to one of them too, the warning is returned, once for the two.
    pub(super) fn put(
        &mut self,
        id: SourceId,
        owner: &Arc<str>,
        host: Option<&Arc<str>>,
        graphs: Vec<GraphDefinition>,
    ) -> Option<String> {
        if self.by_source.get(&id).is_some_and(|(_, known)| *known == graphs) {
            return None;
        }
        self.take_out(id);
        let mut shared = None;
        for graph in &graphs {
            let owners = self.owners.entry((host.cloned(), graph.name().to_owned())).or_default();
            let other = owners.first().copied();
            owners.insert(id);
            shared = shared.or(other.map(|other| (other, graph.name().to_owned())));
        }
        self.by_source.insert(id, (Arc::clone(owner), graphs));
        self.changed = true;
        let (other, graph) = shared?;
        let (other_owner, _) = self.by_source.get(&other)?;
        self.warned.insert((other, id)).then(|| {
            format!(
                "{other_owner} and {owner} post to the same graph `{graph}` and overwrite each other's values: \
                 give one of them a `key_prefix`, or remove it"
            )
        })
    }

    /// Forgets the graphs of a source.
    pub(super) fn remove(&mut self, id: SourceId) {
        self.take_out(id);
        self.warned.retain(|(one, other)| *one != id && *other != id);
    }

    /// All definitions, each name once, if they changed since the last call.
    pub(super) fn changed(&mut self) -> Option<Vec<GraphDefinition>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut names = HashSet::new();
        let all = self.by_source.values().flat_map(|(_, graphs)| graphs);
        Some(all.filter(|graph| names.insert(graph.name())).cloned().collect())
    }

    fn take_out(&mut self, id: SourceId) {
        self.changed |= self.by_source.remove(&id).is_some_and(|(_, graphs)| !graphs.is_empty());
        self.owners.retain(|_, owners| {
            owners.remove(&id);
            !owners.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str) -> GraphDefinition {
        GraphDefinition::new(name, "", "integer").unwrap()
    }

    /// Puts the graphs of a source that is called like its number.
    fn put(graphs: &mut Graphs, id: SourceId, owner: &str, host: Option<&str>, names: &[&str]) -> Option<String> {
        let host = host.map(Arc::from);
        graphs.put(id, &owner.into(), host.as_ref(), names.iter().map(|name| graph(name)).collect())
    }

    fn ids() -> (SourceId, SourceId) {
        (SourceId::unique(), SourceId::unique())
    }

    #[test]
    fn two_sources_with_the_same_graph_are_named_once_with_the_cure() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        assert_eq!(put(&mut graphs, one, "plugin one", None, &["a", "b"]), None);
        let warning = put(&mut graphs, two, "plugin two", None, &["b", "c"]).unwrap();
        assert!(warning.contains("plugin one and plugin two") && warning.contains("custom.b"), "{warning}");
        assert!(warning.contains("key_prefix"), "{warning}");
        assert_eq!(put(&mut graphs, two, "plugin two", None, &["b"]), None, "it was said");
        assert_eq!(graphs.changed().unwrap(), [graph("a"), graph("b")]);
        assert_eq!(graphs.changed(), None);
    }

    #[test]
    fn the_same_graph_of_two_hosts_is_no_collision_and_defined_once() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        assert_eq!(put(&mut graphs, one, "plugin one", None, &["a"]), None);
        assert_eq!(put(&mut graphs, two, "plugin two", Some("db1"), &["a"]), None);
        assert_eq!(graphs.changed().unwrap(), [graph("a")]);
    }

    #[test]
    fn a_source_that_was_removed_shares_nothing_any_more() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        put(&mut graphs, one, "plugin one", None, &["a"]);
        graphs.remove(one);
        assert_eq!(put(&mut graphs, two, "plugin two", None, &["a"]), None);
        assert_eq!(graphs.changed().unwrap(), [graph("a")]);
        assert!(put(&mut graphs, one, "plugin one", None, &["a"]).is_some());
        graphs.remove(two);
        assert!(put(&mut graphs, two, "plugin two", None, &["a"]).is_some(), "it is new again");
    }
}
