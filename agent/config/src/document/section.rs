//! A table of a document, and the keys that are still to read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;

/// A table, and its keys that are still to read.
#[derive(Clone)]
pub struct Section<'a> {
    /// Its name in messages: `[plugin.metrics.web]`.
    pub name: String,
    /// The span of its header.
    pub place: Span,
    pub(super) entries: Vec<Entry<'a>>,
    /// The keys that a reader knows, which a misspelt one may stand for.
    pub(super) known: Vec<String>,
    /// The keys that it has, whether they were read or not: a misspelt one does not stand for any of these.
    pub(super) present: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) key: String,
    /// The span of the key.
    pub(super) span: Span,
    pub(super) value: Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: String, place: Span, table: &DeTable<'a>) -> Self {
        let mut entries = table
            .iter()
            .map(|(key, value)| Entry { key: key.get_ref().to_string(), span: key.span().into(), value: value.clone() })
            .collect::<Vec<_>>();
        entries.sort_by_key(|entry| entry.span.start);
        let present = entries.iter().map(|entry| entry.key.clone()).collect();
        Self { name, place, entries, known: Vec::new(), present }
    }

    /// Its keys that are still to read, as written, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// Whether the table has the key.
    pub fn has(&mut self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The span of the value of a key; that of the table's header if the key is missing.
    #[must_use]
    pub fn span_of(&self, key: &str) -> Span {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        entry.map_or(self.place, |entry| entry.value.span().into())
    }

    /// Whether the value of a key is a string.
    #[must_use]
    pub fn is_text(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        entry.is_some_and(|entry| entry.value.get_ref().as_str().is_some())
    }

    /// The span of a key itself; that of the table's header if the key is missing.
    #[must_use]
    pub fn key_span_of(&self, key: &str) -> Span {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        entry.map_or(self.place, |entry| entry.span)
    }

    /// The keys of the table under `key`, with their spans.
    #[must_use]
    pub fn keys_within(&self, key: &str) -> Vec<(String, Span)> {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        let table = entry.and_then(|entry| entry.value.get_ref().as_table());
        let keys = table.into_iter().flat_map(|table| table.keys());
        keys.map(|key| (key.get_ref().to_string(), key.span().into())).collect()
    }

    /// The entry of a key, which stays to read.
    pub(super) fn find(&mut self, key: &str) -> Option<&Entry<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key))
    }

    /// Marks the keys as read that were read in `copy`, a clone of this table.
    pub fn mark_read_as_in(&mut self, copy: Self) {
        self.entries.retain(|entry| copy.entries.iter().any(|unread| unread.key == entry.key));
        let known = copy.known.into_iter().filter(|key| !self.known.contains(key)).collect::<Vec<_>>();
        self.known.extend(known);
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        self.find(key)?;
        let index = self.entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key))?;
        Some(self.entries.remove(index))
    }
}
