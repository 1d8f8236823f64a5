//! The wildcard match of metric names: `*` and `#` stand for one segment, as in Mackerel's graph definitions.
//!
//! Not for file names (`official::glob`) or hosts (`official::no_proxy`): there a star may match any part of a text.

use std::collections::HashMap;

/// Patterns with a value each, as a tree of their segments: a name is looked up without asking each pattern.
#[derive(Debug, Default)]
pub struct Tree<T> {
    value: T,
    named: HashMap<Box<str>, Self>,
    /// Below `*` or `#`, which stand for any segment.
    any: Option<Box<Self>>,
}

impl<T: Default> Tree<T> {
    /// The value of a pattern, the default one if it is new.
    pub fn entry(&mut self, pattern: &str) -> &mut T {
        let node = pattern.split('.').fold(self, |node, segment| match segment {
            "*" | "#" => node.any.get_or_insert_default(),
            _ => node.named.entry(segment.into()).or_default(),
        });
        &mut node.value
    }

    /// The value of each pattern that `name` matches, as of those that begin with it, which have the default one; with the number of
    /// wildcards on the way. Visits each node once at most, since each is reached by one path; `None` if it would visit more than `most`.
    #[must_use]
    pub fn find(&self, name: &str, most: usize) -> Option<Vec<(u32, &T)>> {
        let (mut nodes, mut visited) = (vec![(0_u32, self)], 0_usize);
        for segment in name.split('.') {
            let mut next = Vec::new();
            for (wildcards, node) in nodes {
                next.extend(node.named.get(segment).map(|node| (wildcards, node)));
                next.extend(node.any.as_deref().map(|node| (wildcards.saturating_add(1), node)));
            }
            visited = visited.saturating_add(next.len());
            if visited > most {
                return None;
            }
            nodes = next;
        }
        Some(nodes.into_iter().map(|(wildcards, node)| (wildcards, &node.value)).collect())
    }

    /// Removes the patterns whose values are not kept. Returns whether any is left.
    pub fn retain(&mut self, is_kept: &impl Fn(&mut T) -> bool) -> bool {
        let is_left = is_kept(&mut self.value);
        self.named.retain(|_, node| node.retain(is_kept));
        self.named.shrink_to(self.named.len().saturating_mul(2));
        self.any.take_if(|any| !any.retain(is_kept));
        is_left || !self.named.is_empty() || self.any.is_some()
    }
}

/// Whether `name` has the segments of `pattern`, both joined by dots.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some("*" | "#"), Some(_)) => {}
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_finds_the_patterns_that_match_and_no_others() {
        let names = ["a", "a.b", "a.b.c", "b.b.c", "a.x.c", "a.b.c.d", "*", "a.*.c", ""];
        let patterns = ["a.b.c", "a.#.c", "#.b.*", "*", "a", "a.*", "*.*.*", "a.b.c.*"];
        let mut tree = Tree::<Vec<&str>>::default();
        patterns.iter().for_each(|pattern| tree.entry(pattern).push(pattern));
        let found = |tree: &Tree<Vec<&'static str>>, name| {
            let mut found =
                tree.find(name, 100).unwrap().into_iter().flat_map(|(_, all)| all.clone()).collect::<Vec<_>>();
            found.sort_unstable();
            found
        };
        for name in names {
            let mut expected = patterns.into_iter().filter(|pattern| matches(pattern, name)).collect::<Vec<_>>();
            expected.sort_unstable();
            assert_eq!(found(&tree, name), expected, "{name}");
        }
        assert_eq!(tree.find("a.b.c", 100).unwrap().iter().map(|(wildcards, _)| *wildcards).max(), Some(3));
        let is_kept = |all: &mut Vec<&str>| {
            all.retain(|pattern| pattern.starts_with('a'));
            !all.is_empty()
        };
        assert!(tree.retain(&is_kept));
        assert_eq!(found(&tree, "a.b.c"), ["a.#.c", "a.b.c"]);
        assert!(
            !tree.retain(&|all| {
                all.clear();
                false
            }) && tree.named.is_empty()
                && tree.any.is_none()
        );
    }

    #[test]
    fn patterns_that_branch_at_each_segment_end_the_look_up() {
        let mut tree = Tree::<Option<u32>>::default();
        for number in 0..2_048_u32 {
            let segments = (0..11).map(|bit| if number >> bit & 1 == 0 { "a" } else { "*" });
            *tree.entry(&segments.collect::<Vec<_>>().join(".")) = Some(number);
        }
        assert!(tree.find(&["a"; 11].join("."), 1_000).is_none());
        assert_eq!(tree.find(&["a"; 11].join("."), usize::MAX).map(|found| found.len()), Some(2_048));
        assert_eq!(tree.find(&["b"; 11].join("."), 1_000).map(|found| found.len()), Some(1));
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_segment() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.#.c", "a.b.c", true),
            ("a.*.c", "a.b.c", true),
            ("#.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a*", "ab", false),
            ("a.b", "a.*", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
