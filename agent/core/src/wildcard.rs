//! The wildcard match of metric names: `*` and `#` stand for one segment, as in Mackerel's graph definitions.
//!
//! Not for file names (`official::glob`) or hosts (`official::no_proxy`): there a star may match any part of a text.

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
