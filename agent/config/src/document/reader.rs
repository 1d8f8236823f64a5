//! Reading tables, and reporting problems.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use wasaba_core::nearest::nearest;
use wasaba_core::text::{counted, printable};

use super::shown::Shown;
use super::{Level, Problem, Section, Span};

/// A file with more problems is not read by a person; the rest is counted.
const MOST_PROBLEMS: usize = 100;

/// As many unknown keys of one table are shown.
const MOST_UNKNOWN: usize = 10;

/// Reads a document and collects its problems.
pub struct Reader<'a> {
    file: PathBuf,
    text: &'a str,
    problems: Vec<(usize, Problem)>,
    /// The problems beyond [`MOST_PROBLEMS`], and the worst of them.
    more: (usize, Option<Level>),
    /// Whether warnings are errors.
    strict: bool,
    /// The table that is skipped if there is an error in it; see [`Reader::skipping`].
    skippable: Option<String>,
    /// How many errors were reported.
    failures: usize,
    /// The keys that belong above all tables, if it is a document of which these are known.
    above: &'static [&'static str],
    /// The tables of such a document, which may be written as `table.key = value` there.
    tables: &'static [&'static str],
    /// Whether the text is invalid TOML.
    is_broken: bool,
    /// Built for the first problem.
    shown: OnceCell<Shown<'a>>,
}

impl<'a> Reader<'a> {
    /// A reader of `text`; `file` is for messages.
    #[must_use]
    pub fn new(file: &Path, text: &'a str) -> Self {
        let (problems, more, shown, skippable) = Default::default();
        let (strict, is_broken, failures, above, tables) = (false, false, 0, &[] as &[_], &[] as &[_]);
        Self {
            file: file.to_owned(),
            text,
            problems,
            more,
            strict,
            skippable,
            failures,
            above,
            tables,
            is_broken,
            shown,
        }
    }

    /// This reader, for a document with the keys `above` all of these `tables`.
    #[must_use]
    pub fn with_keys_above(self, above: &'static [&'static str], tables: &'static [&'static str]) -> Self {
        Self { above, tables, ..self }
    }

    /// What `read` reads, and whether there was no error in it: an error there does not make the document unusable, but what the
    /// table `name` configures is skipped.
    pub fn skipping<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.failures;
        let outer = self.skippable.replace(name.to_owned());
        let read = read(self);
        self.skippable = outer;
        (read, self.failures == before)
    }

    /// How many errors were reported so far.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// A reader for which warnings are errors.
    #[must_use]
    pub fn strict(file: &Path, text: &'a str) -> Self {
        Self { strict: true, ..Self::new(file, text) }
    }

    /// The top-level table, if the document is valid TOML.
    pub fn document(&mut self) -> Option<Section<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.is_broken = !errors.is_empty();
        for error in &errors {
            let span = error.span().map_or(Span { start: 0, end: 0 }, Span::from);
            self.report(Level::Error, span, &format!("invalid TOML: {}", error.message()));
        }
        errors.is_empty().then(|| Section::new(String::new(), Span { start: 0, end: 0 }, table.get_ref()))
    }

    /// Reports an error.
    pub fn fail(&mut self, span: Span, what: String) {
        self.failures = self.failures.saturating_add(1);
        self.report(if self.skippable.is_some() { Level::Invalid } else { Level::Error }, span, &what);
    }

    /// Reports a warning.
    pub fn warn(&mut self, span: Span, what: String) {
        self.report(if self.strict { Level::Error } else { Level::Warning }, span, &what);
    }

    /// Reports a note.
    pub fn note(&mut self, span: Span, what: String) {
        self.report(Level::Note, span, &what);
    }

    /// Shows the line without its values, which may be secrets.
    fn report(&mut self, level: Level, span: Span, what: &str) {
        if self.problems.len() >= MOST_PROBLEMS {
            let (count, worst) = self.more;
            self.more = (count.saturating_add(1), worst.max(Some(level)));
            return;
        }
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_number = self.line(span);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let (place, mut text) = (format!("{}:{line_number}:{column}", self.file.display()), what.to_owned());
        let marked = self.text.get(span.start..span.end).unwrap_or_default().lines().next().unwrap_or_default();
        let shown = self.shown.get_or_init(|| match self.is_broken {
            true => Shown::of_broken(self.text),
            false => Shown::of_document(self.text),
        });
        if let Some(lines) = shown.marked(line_number, column, marked.chars().count()) {
            text.push('\n');
            text.push_str(&lines);
        }
        let table = self.skippable.clone().filter(|_| level == Level::Invalid).unwrap_or_default();
        self.problems.push((span.start, Problem { level, place, table, text }));
    }

    /// The table under `key`.
    pub fn section<'b>(&mut self, section: &mut Section<'b>, key: &str) -> Option<Section<'b>> {
        let entry = section.take(key)?;
        let inside = section.name.trim_matches(['[', ']']);
        let name = if inside.is_empty() { format!("[{key}]") } else { format!("[{inside}.{key}]") };
        let Some(table) = entry.value.get_ref().as_table() else {
            self.wrong_type(&entry, "a table");
            return None;
        };
        Some(Section::new(name, entry.span, table))
    }

    /// The tables of the list under `key`: `[[key]]` or `key = [{ ... }]`. A missing key is an empty list.
    pub fn sections<'b>(&mut self, section: &mut Section<'b>, key: &str) -> Vec<Section<'b>> {
        let Some(entry) = section.take(key) else { return Vec::new() };
        let Some(list) = entry.value.get_ref().as_array() else {
            self.wrong_type(&entry, "a list of tables");
            return Vec::new();
        };
        let inside = section.name.trim_matches(['[', ']']);
        let name = if inside.is_empty() { format!("[[{key}]]") } else { format!("[[{inside}.{key}]]") };
        let mut sections = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section::new(name.clone(), item.span().into(), table)),
                None => self.fail(item.span().into(), format!("each item of `{key}` must be a table")),
            }
        }
        sections
    }

    /// Whether the value of `key` is a table.
    pub fn is_table(&self, section: &mut Section<'_>, key: &str) -> bool {
        section.find(key).is_some_and(|entry| entry.value.get_ref().is_table())
    }

    /// Whether a key is part of a header, `[a.b.key]`.
    #[must_use]
    pub fn is_headed(&self, key: Span) -> bool {
        let before = self.text.get(..key.start).unwrap_or_default();
        before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('['))
    }

    /// The line of a span, counted from 1.
    #[must_use]
    pub fn line(&self, span: Span) -> usize {
        self.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
    }

    /// The file and the line of a span.
    #[must_use]
    pub fn file_and_line(&self, span: Span) -> String {
        format!("{}:{}", self.file.display(), self.line(span))
    }

    /// Warns of each key that is still to read, as unknown.
    pub fn finish(&mut self, section: Section<'_>) {
        let is_missing =
            |known: &&str| section.present.iter().all(|present: &String| !present.eq_ignore_ascii_case(known));
        let missing = section.known.iter().map(String::as_str).filter(is_missing).collect::<Vec<_>>();
        let mut entries = section.entries.iter();
        for entry in entries.by_ref().take(MOST_UNKNOWN) {
            let lower = entry.key.to_ascii_lowercase();
            let is_inside = !section.name.is_empty();
            let is_above = self.above.contains(&lower.as_str())
                || (self.tables.contains(&lower.as_str()) && !self.is_headed(entry.span));
            if is_inside && is_above {
                self.warn(entry.span, misplaced(&entry.key, &section.name));
                continue;
            }
            // A short word is near to any other.
            let above = || nearest(&lower, self.above.iter().copied()).filter(|_| is_inside && lower.len() > 4);
            // A table may have several headers, so that one which is there may be meant, too.
            let nearest = match self.is_headed(entry.span) {
                true => nearest(&lower, section.known.iter().map(String::as_str)),
                false => nearest(&lower, missing.iter().copied()),
            };
            let cure = match (nearest, above()) {
                (Some(key), _) => format!(", did you mean `{key}`?"),
                (None, Some(key)) => format!(", did you mean `{key}`? That belongs above the first table of the file"),
                (None, None) => format!("; valid keys: {}", section.known.join(", ")),
            };
            self.warn(entry.span, format!("unknown key `{}`{cure}", printable(&entry.key, 200)));
        }
        if let Some(next) = entries.next() {
            let more = entries.count().saturating_add(1);
            self.warn(next.span, format!("and {}", counted(more as u64, "more unknown key")));
        }
    }

    /// The problems, in the order of the file.
    #[must_use]
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(start, _)| *start);
        // A key that is read twice, for a program and for what stands in for it, is reported once.
        self.problems.dedup();
        let mut problems = self.problems.into_iter().map(|(_, problem)| problem).collect::<Vec<_>>();
        if let (more, Some(level)) = self.more {
            let text = format!("and {}", counted(more as u64, "more problem"));
            problems.push(Problem::at(self.file.display().to_string(), level, text));
        }
        problems
    }
}

/// The message about a key that belongs above all tables.
fn misplaced(key: &str, table: &str) -> String {
    format!(
        "`{key}` is ignored: it stands in {table}, since a table ends at the next `[...]` only; move it above the first table of \
         the file"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_unknown_keys_the_first_are_shown_and_the_rest_counted() {
        let text = (0..60_000).map(|number| format!("unknown{number} = 1\n")).collect::<String>();
        let mut reader = Reader::new(Path::new("a.toml"), &text);
        let section = reader.document().unwrap();
        reader.finish(section);
        let problems = reader.into_problems();
        assert_eq!(problems.len(), MOST_UNKNOWN + 1);
        assert!(problems[MOST_UNKNOWN].to_string().contains("warning: and 59990 more unknown keys"));
    }

    #[test]
    fn a_table_of_settings_with_more_keys_than_any_plugin_has_is_refused_before_it_is_read() {
        let read = |count: usize| {
            let text = (0..count).map(|number| format!("key{number} = 1\n")).collect::<String>();
            let text = format!("[settings]\n{text}");
            let mut reader = Reader::new(Path::new("a.toml"), &text);
            let mut section = reader.document().unwrap();
            let (pairs, _) = reader.pairs_with_secrets(&mut section, "settings");
            (pairs.len(), reader.into_problems().iter().map(ToString::to_string).collect::<String>())
        };
        assert_eq!(read(1_000), (1_000, String::new()));
        let (pairs, problem) = read(60_000);
        assert!(pairs == 0 && problem.contains("error: `settings` has 60000 keys, more than 1000"), "{problem}");
    }

    #[test]
    fn a_misspelt_key_is_not_taken_for_one_that_is_there() {
        let cure = |text: &str| {
            let mut reader = Reader::new(Path::new("a.toml"), text);
            let mut section = reader.document().unwrap();
            for key in ["name", "image", "names"] {
                reader.text(&mut section, key);
            }
            reader.finish(section);
            reader.into_problems().pop().unwrap().to_string().lines().next().unwrap().to_owned()
        };
        assert!(cure("nmae = \"web\"\nimage = \"x\"").ends_with("unknown key `nmae`, did you mean `name`?"));
        assert!(!cure("nmae = \"web\"\nNAME = \"x\"").contains("did you mean"));
        let cure = cure("nmae = \"web\"\nname = \"x\"\nimage = \"x\"\nnames = \"x\"");
        assert!(cure.ends_with("; valid keys: name, image, names"), "{cure}");
    }

    #[test]
    fn of_many_problems_the_rest_is_counted_and_as_bad_as_its_worst() {
        let mut reader = Reader::new(Path::new("a.toml"), "a = 1");
        for _ in 0..MOST_PROBLEMS {
            reader.warn(Span { start: 0, end: 1 }, "odd".into());
        }
        reader.fail(Span { start: 0, end: 1 }, "wrong".into());
        reader.note(Span { start: 0, end: 1 }, "look".into());
        let last = reader.into_problems().pop().unwrap();
        assert_eq!((last.to_string().as_str(), last.level()), ("a.toml: error: and 2 more problems", Level::Error));
    }
}
