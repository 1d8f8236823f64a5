//! The graph definitions of all sources, for Mackerel; and which sources post to the same graphs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::source::SourceId;
use crate::graph::{Defined, GraphDefinition};

/// The host that the values belong to, if it is not this one, and the graph's name.
type Target = (Option<Arc<str>>, String);

/// As many sources are warned about that post to the graphs of one.
const MOST_WARNINGS: usize = 5;

/// The graph definitions of each source. Two instances of one plugin have the same ones, unless a prefix distinguishes them.
#[derive(Default)]
pub(super) struct Graphs {
    by_source: BTreeMap<SourceId, (Arc<str>, Vec<GraphDefinition>)>,
    /// The sources that post to each graph.
    owners: BTreeMap<Target, BTreeSet<SourceId>>,
    /// Pairs that were warned about.
    warned: HashSet<(SourceId, SourceId)>,
    changed: bool,
}

impl Graphs {
    /// Stores the definitions of the source `id`, which is named `owner` and posts values of `host`, if not of this one. Returns
    /// a warning if another source posts to one of the graphs too, once for each pair, for a few of those with the same one.
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
        self.withdraw(id);
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
        let count = self.warned.iter().filter(|(one, _)| *one == other).count();
        let further = if count + 1 == MOST_WARNINGS {
            format!("; further ones beside {other_owner} are not named")
        } else {
            String::new()
        };
        (count < MOST_WARNINGS && self.warned.insert((other, id))).then(|| {
            format!(
                "{other_owner} and {owner} post to the same graph `{graph}` and overwrite each other's values: \
                 give one of them a `key_prefix`, or remove it{further}"
            )
        })
    }

    /// Removes the graphs of a source.
    pub(super) fn remove(&mut self, id: SourceId) {
        self.withdraw(id);
        self.warned.retain(|(one, other)| *one != id && *other != id);
    }

    /// All definitions with their owners, each name once, if they have changed since the last call.
    pub(super) fn changed(&mut self) -> Option<Vec<Defined>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut names = HashSet::new();
        let all = self.by_source.values().flat_map(|(owner, graphs)| graphs.iter().map(move |graph| (owner, graph)));
        let first = all.filter(|(_, graph)| names.insert(graph.name()));
        Some(first.map(|(owner, graph)| Defined { owner: Arc::clone(owner), graph: graph.clone() }).collect())
    }

    fn withdraw(&mut self, id: SourceId) {
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

    /// Stores graphs with these names.
    fn put(graphs: &mut Graphs, id: SourceId, owner: &str, host: Option<&str>, names: &[&str]) -> Option<String> {
        let host = host.map(Arc::from);
        graphs.put(id, &owner.into(), host.as_ref(), names.iter().map(|name| graph(name)).collect())
    }

    /// Who defines which graph.
    fn changed(graphs: &mut Graphs) -> Vec<(String, String)> {
        let all = graphs.changed().unwrap().into_iter();
        all.map(|Defined { owner, graph }| (owner.to_string(), graph.name().to_owned())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(owner, name)| ((*owner).to_owned(), (*name).to_owned())).collect()
    }

    fn ids() -> (SourceId, SourceId) {
        (SourceId::unique(), SourceId::unique())
    }

    #[test]
    fn two_sources_with_the_same_graph_are_warned_about_once_with_the_cure() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        assert_eq!(put(&mut graphs, one, "plugin one", None, &["a", "b"]), None);
        let warning = put(&mut graphs, two, "plugin two", None, &["b", "c"]).unwrap();
        assert!(warning.contains("plugin one and plugin two") && warning.contains("custom.b"), "{warning}");
        assert!(warning.contains("key_prefix"), "{warning}");
        assert_eq!(put(&mut graphs, two, "plugin two", None, &["b"]), None, "it was reported");
        assert_eq!(changed(&mut graphs), pairs(&[("plugin one", "custom.a"), ("plugin one", "custom.b")]));
        assert_eq!(graphs.changed(), None);
    }

    #[test]
    fn of_a_thousand_sources_with_one_graph_five_are_warned_about_and_the_last_warning_says_so() {
        let mut graphs = Graphs::default();
        let mut add = |number: u32| put(&mut graphs, SourceId::unique(), &format!("plugin {number}"), None, &["a"]);
        let warnings = (0..1_000).filter_map(&mut add).collect::<Vec<_>>();
        assert_eq!(warnings.len(), 5);
        assert!(
            !warnings[3].contains("further") && warnings[4].contains("further ones beside plugin 0"),
            "{warnings:?}"
        );
    }

    #[test]
    fn the_same_graph_of_two_hosts_does_not_collide_and_is_defined_once() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        assert_eq!(put(&mut graphs, one, "plugin one", None, &["a"]), None);
        assert_eq!(put(&mut graphs, two, "plugin two", Some("db1"), &["a"]), None);
        assert_eq!(changed(&mut graphs), pairs(&[("plugin one", "custom.a")]));
    }

    #[test]
    fn a_removed_source_no_longer_shares_graphs() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        put(&mut graphs, one, "plugin one", None, &["a"]);
        graphs.remove(one);
        assert_eq!(put(&mut graphs, two, "plugin two", None, &["a"]), None);
        assert_eq!(changed(&mut graphs), pairs(&[("plugin two", "custom.a")]));
        assert!(put(&mut graphs, one, "plugin one", None, &["a"]).is_some());
        graphs.remove(two);
        assert!(put(&mut graphs, two, "plugin two", None, &["a"]).is_some(), "the removed pair is forgotten");
    }
}
