//! A TOML document as it was written: each key with its place, each problem with line, column and cure.

use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use programs::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use wasaba_core::secret::Secret;

use super::shown::Shown;

/// A stretch of the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

impl From<Range<usize>> for Place {
    fn from(Range { start, end }: Range<usize>) -> Self {
        Self { start, end }
    }
}

/// Something that is wrong with a file, as a user sees it: place, what, cure, and the line without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    level: Level,
    text: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is wrong, but something is not as one might think.
    Note,
    /// Something has no effect; the agent runs all the same.
    Warning,
    /// The configuration cannot be used.
    Error,
}

impl Problem {
    /// A file that cannot be read at all.
    #[must_use]
    pub fn of_file(file: &Path, error: &std::io::Error) -> Self {
        Self { level: Level::Error, text: format!("cannot read `{}`: {error}", file.display()) }
    }

    /// Something that is wrong with a flag of the command line.
    #[must_use]
    pub fn of_flag(level: Level, text: String) -> Self {
        Self { level, text }
    }

    /// Whether the configuration cannot be used for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// How bad it is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A configuration is a few kilobytes; what is longer is something else.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// The text of a file that somebody else may have put there: not of a pipe or device, which might never end.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer than 1 MiB.
pub fn read_file(file: &Path) -> std::io::Result<String> {
    let bytes = wasaba_core::regular_file::read(file, LONGEST_FILE_BYTES)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        std::io::Error::other(format!("line {line} is no text in UTF-8; save the file in that encoding"))
    })
}

/// A table, and which of its keys nobody has read yet.
#[derive(Clone)]
pub struct Section<'a> {
    /// How it is called in messages: `[plugin.metrics.web]`.
    pub name: String,
    /// Where its header is.
    pub place: Place,
    entries: Vec<Entry<'a>>,
    /// The keys that were asked for: what can be meant by a misspelt one.
    known: Vec<String>,
}

#[derive(Clone)]
struct Entry<'a> {
    key: String,
    place: Place,
    value: Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    fn new(name: String, place: Place, table: &DeTable<'a>) -> Self {
        let mut entries = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                place: key.span().into(),
                value: value.clone(),
            })
            .collect::<Vec<_>>();
        entries.sort_by_key(|entry| entry.place.start);
        Self { name, place, entries, known: Vec::new() }
    }

    /// Its keys, as they were written, in the file's order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// Whether a key is there.
    pub fn has(&mut self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where the value of a key is that is there; else where the table is.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        entry.map_or(self.place, |entry| entry.value.span().into())
    }

    /// The keys of the table under a key, each with its place.
    #[must_use]
    pub fn keys_within(&self, key: &str) -> Vec<(String, Place)> {
        let entry = self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
        let table = entry.and_then(|entry| entry.value.get_ref().as_table());
        let keys = table.into_iter().flat_map(|table| table.keys());
        keys.map(|key| (key.get_ref().to_string(), key.span().into())).collect()
    }

    /// Looks at a key without reading it.
    fn find(&mut self, key: &str) -> Option<&Entry<'a>> {
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

    fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        self.find(key)?;
        let index = self.entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key))?;
        Some(self.entries.remove(index))
    }
}

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Reader::text`].
    Text,
    /// See [`Reader::boolean`].
    Boolean,
    /// See [`Reader::integer`].
    Integer,
    /// See [`Reader::minutes`].
    Minutes,
    /// See [`Reader::section`].
    Table,
}

/// Reads a document and notes what is wrong with it.
pub struct Reader<'a> {
    file: PathBuf,
    text: &'a str,
    problems: Vec<(usize, Problem)>,
    /// Whether a warning is an error.
    strict: bool,
    /// Whether the text is no TOML.
    is_broken: bool,
    /// Made when something is wrong.
    shown: OnceCell<Shown<'a>>,
}

impl<'a> Reader<'a> {
    /// A reader of `text`; `file` is for messages.
    #[must_use]
    pub fn new(file: &Path, text: &'a str) -> Self {
        let (problems, shown) = Default::default();
        Self { file: file.to_owned(), text, problems, strict: false, is_broken: false, shown }
    }

    /// The same, to whom each warning is an error.
    #[must_use]
    pub fn strict(file: &Path, text: &'a str) -> Self {
        Self { strict: true, ..Self::new(file, text) }
    }

    /// The whole document, unless it is no TOML.
    pub fn document(&mut self) -> Option<Section<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.is_broken = !errors.is_empty();
        for error in &errors {
            let place = error.span().map_or(Place { start: 0, end: 0 }, Place::from);
            self.note(Level::Error, place, &format!("this is no TOML: {}", error.message()));
        }
        errors.is_empty().then(|| Section::new(String::new(), Place { start: 0, end: 0 }, table.get_ref()))
    }

    /// Notes an error.
    pub fn fail(&mut self, place: Place, what: String) {
        self.note(Level::Error, place, &what);
    }

    /// Notes a warning.
    pub fn warn(&mut self, place: Place, what: String) {
        self.note(if self.strict { Level::Error } else { Level::Warning }, place, &what);
    }

    /// Notes what is not wrong.
    pub fn mention(&mut self, place: Place, what: String) {
        self.note(Level::Note, place, &what);
    }

    /// The line is shown without its values, which may be secrets.
    fn note(&mut self, level: Level, place: Place, what: &str) {
        let before = self.text.get(..place.start).unwrap_or_default();
        let line_number = self.line(place);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let word = match level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let mut text = format!("{}:{line_number}:{column}: {word}: {what}", self.file.display());
        let length = self.text.get(place.start..place.end).unwrap_or_default().lines().next().unwrap_or_default();
        let shown = self.shown.get_or_init(|| match self.is_broken {
            true => Shown::of_broken(self.text),
            false => Shown::of_document(self.text),
        });
        if let Some(marked) = shown.marked(line_number, column, length.chars().count()) {
            text.push('\n');
            text.push_str(&marked);
        }
        self.problems.push((place.start, Problem { level, text }));
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
        Some(Section::new(name, entry.place, table))
    }

    /// The tables of the list under `key`, `[[key]]` or `key = [{ ... }]`; none if it is not there.
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
                None => self.fail(item.span().into(), format!("`{key}` must be a list of tables")),
            }
        }
        sections
    }

    /// Whether a table is under `key`.
    pub fn is_table(&self, section: &mut Section<'_>, key: &str) -> bool {
        section.find(key).is_some_and(|entry| entry.value.get_ref().is_table())
    }

    /// The line of a place, counted from 1.
    #[must_use]
    pub fn line(&self, place: Place) -> usize {
        self.text.get(..place.start).unwrap_or_default().matches('\n').count() + 1
    }

    /// The file and the line of a place.
    #[must_use]
    pub fn file_and_line(&self, place: Place) -> String {
        format!("{}:{}", self.file.display(), self.line(place))
    }

    /// The number under `key`.
    pub fn number(&mut self, section: &mut Section<'_>, key: &str) -> Option<f64> {
        let entry = section.take(key)?;
        let number = json(entry.value.get_ref()).as_f64();
        if number.is_none() {
            self.wrong_type(&entry, "a number");
        }
        number
    }

    /// The value under `key`, whatever it is, as JSON; a date becomes text.
    pub fn json(&mut self, section: &mut Section<'_>, key: &str) -> Option<serde_json::Value> {
        section.take(key).map(|entry| json(entry.value.get_ref()))
    }

    /// The text under `key`.
    pub fn text(&mut self, section: &mut Section<'_>, key: &str) -> Option<String> {
        let entry = section.take(key)?;
        let text = entry.value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(&entry, "text in quotes");
        }
        text
    }

    /// The text under `key`, made into something; the error says what it must be.
    pub fn parsed<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let place = section.find(key)?.value.span().into();
        let text = self.text(section, key)?;
        parse(&text).map_err(|why| self.fail(place, format!("`{key}` {why}"))).ok()
    }

    /// `true` or `false` under `key`.
    pub fn boolean(&mut self, section: &mut Section<'_>, key: &str) -> Option<bool> {
        let entry = section.take(key)?;
        let boolean = entry.value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(&entry, "true or false");
        }
        boolean
    }

    /// A whole number from 1 to `largest` under `key`.
    pub fn positive(&mut self, section: &mut Section<'_>, key: &str, largest: u64) -> Option<u64> {
        let entry = section.take(key)?;
        let number = entry.value.get_ref().as_integer();
        let number = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| (1..=largest).contains(number));
        if number.is_none() {
            let what = format!("`{}` must be a whole number from 1 to {largest}", entry.key);
            self.fail(entry.value.span().into(), what);
        }
        number
    }

    /// The list of texts under `key`, each with its place; none if it is not there.
    pub fn texts(&mut self, section: &mut Section<'_>, key: &str) -> Vec<(String, Place)> {
        let Some(entry) = section.take(key) else { return Vec::new() };
        let Some(list) = entry.value.get_ref().as_array() else {
            self.wrong_type(&entry, "a list of texts in quotes");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span().into())),
                None => self.fail(item.span().into(), format!("`{key}` must be a list of texts in quotes")),
            }
        }
        texts
    }

    /// As [`Reader::pairs`], where a value may also be a reference to a secret, `{ file = "/path" }`, `{ env = "NAME" }` or
    /// `{ credential = "NAME" }`; and the
    /// keys of these.
    pub fn pairs_with_secrets(&mut self, section: &mut Section<'_>, key: &str) -> (Vec<(String, String)>, Vec<String>) {
        let Some(mut inner) = self.section(section, key) else { return Default::default() };
        let mut secrets = Vec::new();
        for key in inner.keys() {
            if self.is_table(&mut inner, &key) {
                secrets.extend(self.secret(&mut inner, &key).map(|secret| (key, secret.reveal().to_owned())));
            }
        }
        let references = secrets.iter().map(|(key, _)| key.clone()).collect();
        let mut pairs = self.pairs_in(&inner);
        pairs.extend(secrets);
        (pairs, references)
    }

    /// The table under `key` as pairs of text, numbers and booleans as they would be written; a list is a key repeated.
    pub fn pairs(&mut self, section: &mut Section<'_>, key: &str) -> Vec<(String, String)> {
        self.section(section, key).map(|inner| self.pairs_in(&inner)).unwrap_or_default()
    }

    fn pairs_in(&mut self, section: &Section<'_>) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for entry in &section.entries {
            let single = [entry.value.clone()];
            let list = entry.value.get_ref().as_array();
            let values = list.map_or(single.to_vec(), |list| list.iter().cloned().collect());
            for value in values {
                match scalar(value.get_ref()) {
                    Some(text) => pairs.push((entry.key.clone(), text)),
                    None => self.wrong_type(entry, "text, a number, true or false, or a list of them"),
                }
            }
        }
        pairs
    }

    /// A secret under `key`: the text itself, or where it lies.
    pub fn secret(&mut self, section: &mut Section<'_>, key: &str) -> Option<Secret> {
        let entry = section.find(key)?.clone();
        if entry.value.get_ref().as_table().is_none() {
            return self.text(section, key).filter(|text| !text.is_empty()).map(Secret::new);
        }
        let mut reference = self.section(section, key)?;
        let mut part = |key| self.text(&mut reference, key);
        let read = |file: &Path| read_file(file).map_err(|error| format!("cannot read `{}`: {error}", file.display()));
        let found = match (part("file"), part("env"), part("credential")) {
            (Some(file), None, None) => read(Path::new(&file)),
            (None, Some(env), None) => std::env::var(&env).map_err(|_| format!("the environment has no `{env}`")),
            // systemd.exec(5), LoadCredential=
            (None, None, Some(name)) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => read(&Path::new(&folder).join(name)),
                None => Err("systemd gives this process no credentials: there is no CREDENTIALS_DIRECTORY".to_owned()),
            },
            _ => Err(format!(
                "`{key}` must be text, {{ file = \"/path\" }}, {{ env = \"NAME\" }} or {{ credential = \"NAME\" }}"
            )),
        };
        self.finish(reference);
        match found.map(|text| text.trim().to_owned()) {
            Ok(text) if text.is_empty() => self.fail(entry.place, format!("`{key}` leads to an empty text")),
            Ok(text) => return Some(Secret::new(text)),
            Err(why) => self.fail(entry.place, why),
        }
        None
    }

    /// The command under `key`: a line for the shell, or a list of words. The empty one is warned of, which says who is left
    /// out for it.
    pub fn command(&mut self, section: &mut Section<'_>, key: &str) -> Option<Command> {
        let entry = section.take(key)?;
        let value = entry.value.get_ref();
        let words = value.as_array().map(|list| list.iter().map(|word| word.get_ref().as_str().map(str::to_owned)));
        let words = words.and_then(|words| words.collect::<Option<Vec<_>>>());
        let command = match (value.as_str(), words) {
            (Some(line), _) => Command::Shell(line.to_owned()),
            (None, Some(words)) if !words.is_empty() => Command::Words(words),
            (None, words) => {
                let what = if words.is_some() { "nothing" } else { value.type_str() };
                let expected = "a line for the shell in quotes, or a list of words in quotes";
                let what = format!("`{key}` of {} must be {expected}, not {what}", section.name);
                self.fail(entry.value.span().into(), what);
                return None;
            }
        };
        let is_empty = match &command {
            Command::Shell(line) => line.trim().is_empty(),
            Command::Words(words) => words.first().is_none_or(String::is_empty),
        };
        if is_empty {
            // There, it runs and does nothing, or cannot be started.
            self.warn(entry.value.span().into(), format!("{} is left out: its `{key}` is empty", section.name));
        }
        (!is_empty).then_some(command)
    }

    /// A number of seconds under `key` as the official agent takes it: 0 is none. What it would not wait for, or nobody, is told.
    pub fn seconds(&mut self, section: &mut Section<'_>, key: &str, most: u64) -> Option<u64> {
        let place = section.place_of(key);
        let seconds = self.integer(section, key).filter(|seconds| *seconds != 0)?;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds <= most => Some(seconds),
            Ok(_) => {
                self.mention(place, format!("`{key}` counts up to {most} only"));
                Some(most)
            }
            Err(_) => {
                self.warn(place, format!("`{key}` is less than nothing, and counts as not written"));
                None
            }
        }
    }

    /// Looks at the types of the keys that are right, but mean nothing here; those that are not there are not looked for.
    pub fn pass_over(&mut self, section: &mut Section<'_>, keys: &[(&str, Kind)]) {
        for (key, kind) in keys {
            if !section.entries.iter().any(|entry| entry.key.eq_ignore_ascii_case(key)) {
                continue;
            }
            match kind {
                Kind::Text => drop(self.text(section, key)),
                Kind::Boolean => drop(self.boolean(section, key)),
                Kind::Integer => drop(self.integer(section, key)),
                Kind::Minutes => drop(self.minutes(section, key)),
                Kind::Table => drop(self.section(section, key)),
            }
        }
    }

    /// A length of time under `key`, in whole minutes: a number of minutes, or text in Go's form like `1h30m`.
    pub fn minutes(&mut self, section: &mut Section<'_>, key: &str) -> Option<u64> {
        let entry = section.take(key)?;
        let value = entry.value.get_ref();
        let number = value.as_integer().map(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        let minutes = match (number, value.as_str()) {
            (Some(number), _) => number.and_then(|number| u64::try_from(number).ok()),
            (None, Some(text)) => text.parse().ok().or_else(|| official::duration::minutes(text)),
            (None, None) => None,
        };
        let minutes = minutes.filter(|minutes| *minutes <= u64::from(u32::MAX >> 1));
        if minutes.is_none() {
            let what = format!("`{}` must be whole minutes, like 10 or \"1h30m\"", entry.key);
            self.fail(entry.value.span().into(), what);
        }
        minutes
    }

    /// A whole number under `key`.
    pub fn integer(&mut self, section: &mut Section<'_>, key: &str) -> Option<i64> {
        let entry = section.take(key)?;
        let number = entry.value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        if number.is_none() {
            self.wrong_type(&entry, "a whole number");
        }
        number
    }

    /// Where `key` is, if it is there; its value is not looked at.
    pub fn skip(&mut self, section: &mut Section<'_>, key: &str) -> Option<Place> {
        section.take(key).map(|entry| entry.place)
    }

    /// Warns of each key that nobody asked for.
    pub fn finish(&mut self, section: Section<'_>) {
        for entry in &section.entries {
            let lower = entry.key.to_ascii_lowercase();
            let meant = section.known.iter().map(|key| (strsim::levenshtein(key, &lower), key));
            let cure = meant.filter(|(distance, _)| *distance < 3).min().map_or_else(
                || format!("; there are: {}", section.known.join(", ")),
                |(_, key)| format!(", did you mean `{key}`?"),
            );
            self.warn(entry.place, format!("unknown key `{}`{cure}", entry.key));
        }
    }

    /// What was noted, in the file's order.
    #[must_use]
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(start, _)| *start);
        // A key that two readings look at is reported once.
        self.problems.dedup();
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }

    fn wrong_type(&mut self, entry: &Entry<'_>, expected: &str) {
        let found = entry.value.get_ref().type_str();
        self.fail(entry.value.span().into(), format!("`{}` must be {expected}, not {found}", entry.key));
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(list) => list.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
        }
    }
}
