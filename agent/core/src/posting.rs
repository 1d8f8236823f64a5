//! The posting: how often the values of a plugin, a program or a Docker engine are posted, under which names, and for which host.

use std::sync::Arc;

use regex_lite::Regex;

/// How an instance's values are posted.
#[derive(Clone, Debug)]
pub struct Posting {
    /// It is asked in every minute since 1970 that is a multiple of this.
    pub every_minutes: u32,
    /// Replaces the first segment of its names, so that two instances of one plugin do not post to the same graph.
    pub key_prefix: Option<String>,
    /// Only names that match this are posted; matched without `custom.`.
    pub include: Option<Regex>,
    /// Names that match this are not posted; matched without `custom.`.
    pub exclude: Option<Regex>,
    /// The host on Mackerel that its values belong to, if it is not this one.
    pub custom_identifier: Option<Arc<str>>,
}

impl Default for Posting {
    fn default() -> Self {
        Self { every_minutes: 1, key_prefix: None, include: None, exclude: None, custom_identifier: None }
    }
}

impl Posting {
    /// The name under which `name` is posted.
    #[must_use]
    pub fn renamed(&self, name: &str) -> String {
        match &self.key_prefix {
            Some(prefix) => match name.split_once('.') {
                Some((_, rest)) => format!("{prefix}.{rest}"),
                None => prefix.clone(),
            },
            None => name.to_owned(),
        }
    }

    /// Whether a value of this name is posted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name))
            && self.exclude.as_ref().is_none_or(|exclude| !exclude.is_match(name))
    }
}

impl PartialEq for Posting {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.as_str().to_owned());
        let parts = |posting: &Self| {
            let Self { every_minutes, key_prefix, include, exclude, custom_identifier } = posting;
            (*every_minutes, key_prefix.clone(), pattern(include), pattern(exclude), custom_identifier.clone())
        };
        parts(self) == parts(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_replaces_the_first_segment() {
        let posting = Posting { key_prefix: Some("blog".into()), ..Posting::default() };
        assert_eq!(posting.renamed("nginx.requests.accepts"), "blog.requests.accepts");
        assert_eq!(posting.renamed("load"), "blog");
        assert_eq!(Posting::default().renamed("nginx.requests"), "nginx.requests");
    }

    #[test]
    fn an_excluded_name_is_not_posted_even_if_it_is_included() {
        let regex = |pattern| Some(Regex::new(pattern).unwrap());
        let posting = Posting { include: regex("^nginx"), exclude: regex("queue"), ..Posting::default() };
        let wanted = ["nginx.requests.x", "nginx.queue.x", "redis.keys"].map(|name| posting.wants(name));
        assert_eq!(wanted, [true, false, false]);
    }
}
