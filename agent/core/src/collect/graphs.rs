//! The graphs of all plugins that run, for Mackerel; and who posts to the same ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::graph::GraphDefinition;

/// The host that values are of, if it is not this one, and the graph's name.
type Place = (Option<Arc<str>>, String);

/// Each plugin's graphs. Two instances of one plugin have the same ones, unless they are told apart.
#[derive(Default)]
pub struct Graphs {
    by_plugin: BTreeMap<Arc<str>, Vec<GraphDefinition>>,
    /// Who posts where.
    owners: BTreeMap<Place, BTreeSet<Arc<str>>>,
    /// Pairs that were warned of.
    warned: HashSet<(Arc<str>, Arc<str>)>,
    changed: bool,
}

impl Graphs {
    /// Takes over the graphs of `plugin`, whose values are of `host` if not of this one. If another plugin posts to one of
    /// them too, the warning is returned, once for the two.
    pub fn put(&mut self, plugin: &Arc<str>, host: Option<&Arc<str>>, graphs: &[GraphDefinition]) -> Option<String> {
        if self.by_plugin.get(plugin).is_some_and(|known| known == graphs) {
            return None;
        }
        self.take_out(plugin);
        let mut shared = None;
        for graph in graphs {
            let owners = self.owners.entry((host.cloned(), graph.name().to_owned())).or_default();
            let other = owners.first().cloned();
            owners.insert(Arc::clone(plugin));
            shared = shared.or(other.map(|other| (other, graph.name())));
        }
        self.by_plugin.insert(Arc::clone(plugin), graphs.to_vec());
        self.changed = true;
        let (other, graph) = shared?;
        let is_new = self.warned.insert((Arc::clone(&other), Arc::clone(plugin)));
        is_new.then(|| {
            format!(
                "plugin {other} and plugin {plugin} post to the same graph `{graph}`, each over the other's values: \
                 give one of them a `key_prefix` of its own in its settings, or remove it"
            )
        })
    }

    /// Forgets `plugin`'s graphs.
    pub fn remove(&mut self, plugin: &str) {
        self.take_out(plugin);
        self.warned.retain(|(one, other)| **one != *plugin && **other != *plugin);
    }

    /// All definitions, each name once, if they changed since this was last asked.
    pub fn changed(&mut self) -> Option<Vec<GraphDefinition>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut names = HashSet::new();
        let all = self.by_plugin.values().flatten().filter(|graph| names.insert(graph.name()));
        Some(all.cloned().collect())
    }

    fn take_out(&mut self, plugin: &str) {
        self.changed |= self.by_plugin.remove(plugin).is_some_and(|graphs| !graphs.is_empty());
        self.owners.retain(|_, owners| {
            owners.remove(plugin);
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

    #[test]
    fn two_plugins_with_the_same_graph_are_named_once_with_the_cure() {
        let (mut graphs, one, two) = (Graphs::default(), "one".into(), "two".into());
        assert_eq!(graphs.put(&one, None, &[graph("a"), graph("b")]), None);
        let warning = graphs.put(&two, None, &[graph("b"), graph("c")]).unwrap();
        assert!(warning.contains("plugin one and plugin two") && warning.contains("custom.b"), "{warning}");
        assert!(warning.contains("key_prefix"), "{warning}");
        assert_eq!(graphs.put(&two, None, &[graph("b")]), None, "it was said");
        assert_eq!(graphs.changed().unwrap(), [graph("a"), graph("b")]);
        assert_eq!(graphs.changed(), None);
    }

    #[test]
    fn the_same_graph_of_two_hosts_is_no_collision_and_told_once() {
        let (mut graphs, one, two, host) = (Graphs::default(), "one".into(), "two".into(), "db1".into());
        assert_eq!(graphs.put(&one, None, &[graph("a")]), None);
        assert_eq!(graphs.put(&two, Some(&host), &[graph("a")]), None);
        assert_eq!(graphs.changed().unwrap(), [graph("a")]);
    }

    #[test]
    fn a_plugin_that_is_gone_shares_nothing_any_more() {
        let (mut graphs, one, two) = (Graphs::default(), "one".into(), "two".into());
        graphs.put(&one, None, &[graph("a")]);
        graphs.remove("one");
        assert_eq!(graphs.put(&two, None, &[graph("a")]), None);
        assert_eq!(graphs.changed().unwrap(), [graph("a")]);
        assert!(graphs.put(&one, None, &[graph("a")]).is_some());
        graphs.remove("two");
        assert!(graphs.put(&two, None, &[graph("a")]).is_some(), "it is new again");
    }
}
