//! The claims: which sources' graph definitions have a metric of a name.

use std::collections::BTreeSet;

use super::source::SourceId;
use crate::wildcard::Tree;

/// As many nodes are looked at for one name, so that definitions cannot be made to take the loop's time. Those of usual plugins
/// need a few.
const MOST_NODES: usize = 1_000;

/// The patterns of metrics, each with the sources that define it.
#[derive(Default)]
pub(super) struct Claims(Tree<BTreeSet<SourceId>>);

impl Claims {
    /// Adds a pattern of a source.
    pub(super) fn add(&mut self, id: SourceId, pattern: &str) {
        self.0.entry(pattern).insert(id);
    }

    /// Removes all patterns of a source.
    pub(super) fn remove(&mut self, id: SourceId) {
        self.0.retain(&|sources| {
            sources.remove(&id);
            !sources.is_empty()
        });
    }

    /// The sources with a pattern that `name` matches, each with the number of wildcards in it; one may be there several times.
    /// `None` if that takes too long.
    pub(super) fn of(&self, name: &str) -> Option<Vec<(u32, SourceId)>> {
        let found = self.0.find(name, MOST_NODES)?.into_iter();
        Some(found.flat_map(|(wildcards, sources)| sources.iter().map(move |id| (wildcards, *id))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_sources_of_all_patterns_that_it_matches_until_they_are_removed() {
        let (mut claims, one, two) = (Claims::default(), SourceId::unique(), SourceId::unique());
        claims.add(one, "a.#.*");
        claims.add(one, "a.b.c");
        claims.add(two, "a.*.c");
        let of = |claims: &Claims, name| {
            let mut found = claims.of(name).unwrap();
            found.sort_unstable();
            found
        };
        assert_eq!(of(&claims, "a.b.c"), [(0, one), (1, two), (2, one)]);
        assert_eq!(of(&claims, "a.x.d"), [(2, one)]);
        for none in ["a.b", "a.b.c.d", "b.b.c", "a"] {
            assert_eq!(of(&claims, none), [], "{none}");
        }
        claims.remove(one);
        assert_eq!(of(&claims, "a.b.c"), [(1, two)]);
        claims.remove(two);
        assert_eq!(of(&claims, "a.b.c"), []);
    }
}
