//! The claims: which sources' graph definitions have a metric of a name.

use std::collections::{BTreeSet, HashMap};

use super::source::SourceId;

/// As many nodes are looked at for one name, so that definitions cannot be made to take the loop's time. Those of usual plugins
/// need a few.
const MOST_STEPS: u32 = 1_000;

/// The patterns of metrics, as a tree of their segments: a name is looked up without asking each pattern.
#[derive(Default)]
pub(super) struct Claims {
    segments: HashMap<Box<str>, Claims>,
    /// What follows a `*` or `#`.
    any: Option<Box<Claims>>,
    /// Whose pattern ends here.
    sources: BTreeSet<SourceId>,
}

impl Claims {
    /// Adds a pattern of a source.
    pub(super) fn add(&mut self, id: SourceId, pattern: &str) {
        let mut node = self;
        for segment in pattern.split('.') {
            node = match segment {
                "*" | "#" => node.any.get_or_insert_default(),
                segment => node.segments.entry(segment.into()).or_default(),
            };
        }
        node.sources.insert(id);
    }

    /// Removes all patterns of a source.
    pub(super) fn remove(&mut self, id: SourceId) {
        self.sources.remove(&id);
        self.segments.retain(|_, node| {
            node.remove(id);
            !node.is_empty()
        });
        self.segments.shrink_to(self.segments.len().saturating_mul(2));
        if let Some(any) = &mut self.any {
            any.remove(id);
        }
        self.any.take_if(|any| any.is_empty());
    }

    /// The sources with a pattern that `name` matches, each with the number of wildcards in it; one may be there several times.
    /// `None` if that takes too long.
    pub(super) fn of(&self, name: &str) -> Option<Vec<(u32, SourceId)>> {
        let (mut found, mut steps) = (Vec::new(), 0);
        self.find(name.split('.'), 0, &mut steps, &mut found);
        (steps <= MOST_STEPS).then_some(found)
    }

    fn find(
        &self,
        mut rest: std::str::Split<'_, char>,
        wildcards: u32,
        steps: &mut u32,
        found: &mut Vec<(u32, SourceId)>,
    ) {
        *steps = steps.saturating_add(1);
        if *steps > MOST_STEPS {
            return;
        }
        let Some(segment) = rest.next() else {
            return found.extend(self.sources.iter().map(|id| (wildcards, *id)));
        };
        if let Some(node) = self.segments.get(segment) {
            node.find(rest.clone(), wildcards, steps, found);
        }
        if let Some(any) = &self.any {
            any.find(rest, wildcards.saturating_add(1), steps, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.any.is_none() && self.sources.is_empty()
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
        assert!(claims.is_empty());
    }

    #[test]
    fn patterns_that_branch_at_each_segment_end_the_look_up() {
        let (mut claims, id) = (Claims::default(), SourceId::unique());
        for number in 0..2_048_u32 {
            let segments = (0..11).map(|bit| if number >> bit & 1 == 0 { "a" } else { "*" });
            claims.add(id, &segments.collect::<Vec<_>>().join("."));
        }
        assert_eq!(claims.of(&["a"; 11].join(".")), None);
        assert_eq!(claims.of(&["b"; 11].join(".")).map(|found| found.len()), Some(1));
    }
}
