//! The graph definitions of all sources, for Mackerel; and which source owns each metric.
//!
//! A name has one owner on a host: the agent's own sources, if one of them defines it; else the source that posted it first, for as
//! long as it exists with these definitions; a name that is posted for the first time, the source that defines it with the fewest
//! wildcards. What others post under it is dropped and reported.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Answer;
use super::claims::Claims;
use super::registry;
use super::source::SourceId;
use crate::graph::{Defined, GraphDefinition};
use crate::sample::{MetricName, Sample};
use crate::text::counted;

/// The host that the values belong to, if it is not this one, and the graph's name.
type Target = (Option<Arc<str>>, String);

/// As many sources are warned about that post to the graphs of one.
const MOST_WARNINGS: usize = 5;

/// The metrics of plugins. The host's own collectors have the other names, each for itself.
const OF_PLUGINS: &str = "custom.";

/// How long a source owns a name that it no longer posts; longer than the longest interval and most outages.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// As many names of one source are remembered beside those of its newest answer. Only one that keeps making new names has more.
const MOST_NAMES: usize = 1_000;

/// The graph definitions of each source. Two instances of one plugin have the same ones, unless a prefix distinguishes them.
#[derive(Default)]
pub(super) struct Graphs {
    by_source: BTreeMap<SourceId, registry::Graphs>,
    /// The sources that post to each graph.
    owners: BTreeMap<Target, BTreeSet<SourceId>>,
    /// Pairs that were warned about.
    warned: HashSet<(SourceId, SourceId)>,
    changed: bool,
    /// The metrics that the agent's own sources define, and those that plugins do.
    of_agent: Claims,
    of_plugins: Claims,
    /// Who posted each name first, by a hash of the name and its host: names that come and go would keep the heap from shrinking. Of a
    /// million names, two have the same one with a chance of one in ten million.
    posted: HashMap<u64, Posted>,
    hasher: RandomState,
    /// How many names of each source are in it, at most.
    counts: HashMap<SourceId, usize>,
}

/// The owner of a name that was posted.
struct Posted {
    id: SourceId,
    owner: Arc<str>,
    last: Instant,
}

impl Graphs {
    /// Stores the definitions of the source `id`. Returns a warning if another source posts to one of the graphs too, once for each
    /// pair, for a few of those with the same one; or once if the source defines one of them twice.
    pub(super) fn put(&mut self, id: SourceId, graphs: registry::Graphs) -> Option<String> {
        if self.by_source.get(&id).is_some_and(|known| *known == graphs) {
            return None;
        }
        let is_new = self.withdraw(id);
        let (mut shared, mut twice) = (None, None);
        for graph in &graphs.definitions {
            let owners = self.owners.entry((graphs.host.clone(), graph.name().to_owned())).or_default();
            let other = owners.iter().copied().find(|other| *other != id);
            shared = shared.or(other.map(|other| (other, graph.name().to_owned())));
            if !owners.insert(id) {
                twice = twice.or(Some(graph.name().to_owned()));
            }
        }
        let claims = if graphs.is_of_agent { &mut self.of_agent } else { &mut self.of_plugins };
        graphs.definitions.iter().flat_map(GraphDefinition::metric_names).for_each(|pattern| claims.add(id, pattern));
        if !is_new {
            // It may no longer define them.
            self.forget(|posted| posted.id != id);
        }
        let owner = Arc::clone(&graphs.owner);
        self.by_source.insert(id, graphs);
        self.changed = true;
        let Some((other, graph)) = shared else {
            let graph = twice.filter(|_| self.warned.insert((id, id)))?;
            return Some(format!(
                "{owner} has more than one graph `{graph}`, and of each metric only one's values are kept: remove its `key_prefix` if that \
                 gives several of its graphs one name"
            ));
        };
        let other_owner = &self.by_source.get(&other)?.owner;
        let count = self.warned.iter().filter(|(one, _)| *one == other).count();
        let further = if count + 1 == MOST_WARNINGS {
            format!("; further ones beside {other_owner} are not named")
        } else {
            String::new()
        };
        (count < MOST_WARNINGS && self.warned.insert((other, id))).then(|| {
            format!(
                "{other_owner} and {owner} post to the same graph `{graph}`, and of each metric only the values of one of them \
                 are kept: give one of them a `key_prefix`, or remove it{further}"
            )
        })
    }

    /// Removes the graphs of a source, and gives up its names.
    pub(super) fn remove(&mut self, id: SourceId) {
        self.withdraw(id);
        self.warned.retain(|(one, other)| *one != id && *other != id);
        self.forget(|posted| posted.id != id);
    }

    /// Drops what the source `id`, which is called `name`, has answered under names that others own, with a warning.
    pub(super) fn admit(&mut self, id: SourceId, name: &Arc<str>, answer: &mut Answer, now: Instant) {
        let (mut count, mut example) = (0_u64, None::<(String, Arc<str>)>);
        let mut is_own = |sample: &Sample| {
            let Some(owner) = self.other_owner(id, name, sample, now) else { return true };
            count = count.saturating_add(1);
            let metric = sample.name().to_string();
            if example.as_ref().is_none_or(|(least, _)| metric < *least) {
                example = Some((metric, owner));
            }
            false
        };
        answer.samples.retain(&mut is_own);
        answer.dated.retain(|(_, sample)| is_own(sample));
        if let Some((metric, owner)) = example {
            let values = counted(count, "value");
            answer.warnings.push(format!(
                "dropped {values} under names of others, such as `{metric}` of {owner}: give one of them a `key_prefix`, or \
                 remove it"
            ));
        }
        if self.counts.get(&id).is_some_and(|count| *count > MOST_NAMES) {
            self.forget(|posted| posted.id != id || posted.last == now);
        }
    }

    /// The other source that owns the sample's name, if there is one; if not, the source `id` owns it from now on. One that has
    /// the same name as the owner is its successor: a component in place of a program.
    fn other_owner(&mut self, id: SourceId, source: &Arc<str>, sample: &Sample, now: Instant) -> Option<Arc<str>> {
        let (host, name) = (sample.host(), sample.name());
        if !name.as_str().starts_with(OF_PLUGINS) {
            return None;
        }
        let graphs = self.by_source.get(&id);
        let owner = graphs.map_or(source, |graphs| &graphs.owner);
        let is_of_agent = graphs.is_some_and(|graphs| graphs.is_of_agent);
        if !is_of_agent && let Some((_, other)) = self.definer(&self.of_agent, owner, host, name) {
            return Some(other);
        }
        let key = self.hasher.hash_one((host, name));
        let known = self.posted.get_mut(&key);
        let is_known = known.is_some();
        if let Some(posted) = known {
            if posted.owner == *owner {
                (posted.id, posted.last) = (id, now);
                return None;
            }
            let is_taken_back = is_of_agent && !self.by_source.get(&posted.id).is_some_and(|other| other.is_of_agent);
            if !is_taken_back && now.saturating_duration_since(posted.last) <= KEPT {
                return Some(Arc::clone(&posted.owner));
            }
        }
        if !is_of_agent && let Some((wildcards, other)) = self.definer(&self.of_plugins, owner, host, name) {
            let claims = self.of_plugins.of(name.as_str()).unwrap_or_default();
            let own = claims.iter().filter(|(_, claimant)| *claimant == id).map(|(wildcards, _)| *wildcards).min();
            if own.is_none_or(|own| wildcards < own) {
                return Some(other);
            }
        }
        self.posted.insert(key, Posted { id, owner: Arc::clone(owner), last: now });
        if !is_known {
            let count = self.counts.entry(id).or_default();
            *count = count.saturating_add(1);
        }
        None
    }

    /// The source, other than that called `owner`, that claims a name of this host with the fewest wildcards, and their number.
    fn definer(
        &self,
        claims: &Claims,
        owner: &str,
        host: Option<&Arc<str>>,
        name: &MetricName,
    ) -> Option<(u32, Arc<str>)> {
        let of_others = |(wildcards, other): (u32, SourceId)| {
            let graphs = self.by_source.get(&other)?;
            (graphs.host.as_ref() == host && *graphs.owner != *owner).then_some((wildcards, &graphs.owner))
        };
        let others = claims.of(name.as_str())?.into_iter().filter_map(of_others);
        others.min_by_key(|(wildcards, _)| *wildcards).map(|(wildcards, owner)| (wildcards, Arc::clone(owner)))
    }

    /// Gives up all names but those that are kept.
    fn forget(&mut self, is_kept: impl Fn(&Posted) -> bool) {
        self.posted.retain(|_, posted| is_kept(posted));
        // A plugin that is gone may have had thousands.
        self.posted.shrink_to(self.posted.len().saturating_mul(2));
        self.counts.clear();
        for posted in self.posted.values() {
            let count = self.counts.entry(posted.id).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// All definitions with their owners, each name once, if they have changed since the last call.
    pub(super) fn changed(&mut self) -> Option<Vec<Defined>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut names = HashSet::new();
        let (mut agents, plugins) = self.by_source.values().partition::<Vec<_>, _>(|graphs| graphs.is_of_agent);
        agents.extend(plugins);
        let all = agents.into_iter();
        let all = all.flat_map(|graphs| graphs.definitions.iter().map(move |graph| (&graphs.owner, graph)));
        let first = all.filter(|(_, graph)| names.insert(graph.name()));
        Some(first.map(|(owner, graph)| Defined { owner: Arc::clone(owner), graph: graph.clone() }).collect())
    }

    /// Returns whether there were none.
    fn withdraw(&mut self, id: SourceId) -> bool {
        let before = self.by_source.remove(&id);
        self.changed |= before.as_ref().is_some_and(|graphs| !graphs.definitions.is_empty());
        self.owners.retain(|_, owners| {
            owners.remove(&id);
            !owners.is_empty()
        });
        self.of_agent.remove(id);
        self.of_plugins.remove(id);
        before.is_none()
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
        let definitions = names.iter().map(|name| graph(name)).collect();
        let of_source =
            registry::Graphs { owner: owner.into(), host: host.map(Arc::from), definitions, is_of_agent: false };
        graphs.put(id, of_source)
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
    fn a_source_with_one_graph_twice_is_warned_about_once_and_not_as_if_it_were_two() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        let warning = put(&mut graphs, one, "plugin one", None, &["a", "b", "a"]).unwrap();
        assert!(warning.starts_with("plugin one has more than one graph `custom.a`"), "{warning}");
        assert!(warning.contains("remove its `key_prefix`") && !warning.contains("plugin one and"), "{warning}");
        assert_eq!(put(&mut graphs, one, "plugin one", None, &["a", "a"]), None, "it was reported");
        let warning = put(&mut graphs, two, "plugin two", None, &["a", "a"]).unwrap();
        assert!(warning.contains("plugin one and plugin two"), "{warning}");
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

    /// Has a source define the metrics `GRAPH/NAME`.
    fn define(graphs: &mut Graphs, id: SourceId, owner: &str, is_of_agent: bool, metrics: &[&str]) {
        let of = |metric: &&str| {
            let (name, metric) = metric.rsplit_once('/').unwrap();
            graph(name).with_metric(metric, "", false).unwrap()
        };
        let definitions = metrics.iter().map(of).collect();
        graphs.put(id, registry::Graphs { owner: owner.into(), host: None, definitions, is_of_agent });
    }

    /// What is kept of these names, and the warnings.
    fn admit(graphs: &mut Graphs, id: SourceId, names: &[impl AsRef<str>], now: Instant) -> (Vec<String>, Vec<String>) {
        let samples = names.iter().map(|name| Sample::new(format!("custom.{}", name.as_ref()), 1.0).unwrap());
        let mut answer = Answer { samples: samples.collect(), ..Answer::default() };
        graphs.admit(id, &format!("plugin {id:?}").into(), &mut answer, now);
        (answer.samples.iter().map(|sample| sample.name().to_string()).collect(), answer.warnings)
    }

    fn kept(graphs: &mut Graphs, id: SourceId, name: &str) -> bool {
        !admit(graphs, id, &[name], Instant::now()).0.is_empty()
    }

    #[test]
    fn a_value_under_a_name_that_another_source_defines_more_exactly_is_dropped_and_reported_with_both_names() {
        let (mut graphs, (wide, victim)) = (Graphs::default(), ids());
        define(&mut graphs, wide, "plugin wide", false, &["#/*"]);
        define(&mut graphs, victim, "plugin victim", false, &["victim/x", "victim/y"]);
        let (names, warnings) = admit(&mut graphs, wide, &["victim.y", "victim.x", "wide.x"], Instant::now());
        assert_eq!(names, ["custom.wide.x"]);
        let expected = "dropped 2 values under names of others, such as `custom.victim.x` of plugin victim: ";
        assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
        assert!(kept(&mut graphs, victim, "victim.x") && !kept(&mut graphs, wide, "victim.x"));
    }

    #[test]
    fn a_name_that_was_posted_first_is_kept_until_its_source_is_removed_no_longer_defines_it_or_is_silent_for_a_day() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        for (id, owner) in [(one, "plugin one"), (two, "plugin two")] {
            define(&mut graphs, id, owner, false, &["a.#/*"]);
        }
        assert!(kept(&mut graphs, one, "a.b.c") && kept(&mut graphs, two, "a.b.d"), "two names");
        assert!(!kept(&mut graphs, two, "a.b.c") && !kept(&mut graphs, one, "a.b.d"));
        define(&mut graphs, two, "plugin two", false, &["a.b/c", "a.b/d"]);
        assert!(!kept(&mut graphs, two, "a.b.c") && !kept(&mut graphs, one, "a.b.d"), "whatever is defined later");
        define(&mut graphs, two, "plugin two", false, &["a.b/c"]);
        assert!(kept(&mut graphs, one, "a.b.d"), "it was given up");
        let later = Instant::now() + KEPT + Duration::from_secs(60);
        assert_eq!(admit(&mut graphs, two, &["a.b.c"], later).0.len(), 1);
        assert!(!kept(&mut graphs, one, "a.b.c"));
        graphs.remove(two);
        assert!(kept(&mut graphs, one, "a.b.c"));
    }

    #[test]
    fn the_agents_own_names_are_taken_back_from_whoever_posted_them_and_its_graphs_come_first() {
        let (mut graphs, (plugin, docker)) = (Graphs::default(), ids());
        let late = SourceId::unique();
        define(&mut graphs, plugin, "plugin exact", false, &["docker.cpu/web", "docker.cpu.#/user"]);
        assert!(kept(&mut graphs, plugin, "docker.cpu.web.user"));
        define(&mut graphs, docker, "[docker]", true, &["docker.cpu.#/user"]);
        assert_eq!(changed(&mut graphs)[0], ("[docker]".to_owned(), "custom.docker.cpu.#".to_owned()));
        let (names, warnings) = admit(&mut graphs, plugin, &["docker.cpu.web.user"], Instant::now());
        assert!(names.is_empty() && warnings[0].contains("of [docker]"), "{names:?} {warnings:?}");
        assert!(!kept(&mut graphs, late, "docker.cpu.db.user"), "it has no definitions");
        assert!(kept(&mut graphs, docker, "docker.cpu.web.user"));
    }

    #[test]
    fn the_successor_of_a_source_has_its_names_at_once() {
        let (mut graphs, (program, component)) = (Graphs::default(), ids());
        define(&mut graphs, program, "plugin web", false, &["web/a"]);
        assert!(kept(&mut graphs, program, "web.a"));
        define(&mut graphs, component, "plugin web", false, &["web/*"]);
        assert!(kept(&mut graphs, component, "web.a") && kept(&mut graphs, component, "web.b"));
        graphs.remove(program);
        assert!(!kept(&mut graphs, SourceId::unique(), "web.a"), "it is the successor's");
    }

    #[test]
    fn the_same_name_on_another_host_and_one_of_the_hosts_own_metrics_are_not_others() {
        let (mut graphs, (one, two)) = (Graphs::default(), ids());
        let mut admitted = |id, sample: Sample| {
            let mut answer = Answer { dated: vec![(60, sample)], ..Answer::default() };
            graphs.admit(id, &format!("plugin {id:?}").into(), &mut answer, Instant::now());
            answer.dated.len()
        };
        let sample = |name| Sample::new(name, 1.0).unwrap();
        assert_eq!([admitted(one, sample("custom.a.b")), admitted(two, sample("custom.a.b"))], [1, 0]);
        assert_eq!(admitted(two, sample("custom.a.b").of_host(&"db1".into())), 1);
        assert_eq!([admitted(one, sample("loadavg1")), admitted(two, sample("loadavg1"))], [1, 1]);
    }

    #[test]
    fn a_source_that_makes_new_names_each_minute_is_remembered_with_a_bounded_number_of_them() {
        let (mut graphs, (steady, wild)) = (Graphs::default(), ids());
        let start = Instant::now();
        for minute in 0..20_u64 {
            let now = start + Duration::from_secs(60 * minute);
            assert_eq!(admit(&mut graphs, steady, &["steady.a"], now).0.len(), 1);
            let names = (0..1_000).map(|number| format!("wild.m{minute}n{number}")).collect::<Vec<_>>();
            assert_eq!(admit(&mut graphs, wild, &names, now).0.len(), 1_000);
            let count = graphs.posted.len();
            assert!(count <= MOST_NAMES + 1 && count == graphs.counts.values().sum::<usize>(), "{count}");
        }
        assert!(!kept(&mut graphs, wild, "steady.a"), "it is still the other's");
    }
}
