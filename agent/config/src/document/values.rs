//! Reading the values of keys, by type.

use std::env::VarError;
use std::path::Path;
use std::time::Duration;

use official::programs::Command;
use toml::de::DeValue;
use wasaba_core::environment;
use wasaba_core::secret::Secret;

use super::section::Entry;
use super::{Reader, Section, Span, read_file};

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
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

/// The most keys of a table of settings.
const MOST_PAIRS: usize = 1_000;

impl Reader<'_> {
    /// The number under `key`.
    pub fn number(&mut self, section: &mut Section<'_>, key: &str) -> Option<f64> {
        let entry = section.take(key)?;
        let number = json(entry.value.get_ref()).as_f64();
        if number.is_none() {
            self.wrong_type(&entry, "a number");
        }
        number
    }

    /// The value under `key`, of any type, as JSON; a date becomes a string.
    pub fn json(&mut self, section: &mut Section<'_>, key: &str) -> Option<serde_json::Value> {
        section.take(key).map(|entry| json(entry.value.get_ref()))
    }

    /// The string under `key`.
    pub fn text(&mut self, section: &mut Section<'_>, key: &str) -> Option<String> {
        let entry = section.take(key)?;
        let text = entry.value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(&entry, "a string in quotes");
        }
        text
    }

    /// The string under `key`, parsed. The error of `parse` follows the name of the key in the message.
    pub fn parsed<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let span = section.find(key)?.value.span().into();
        let text = self.text(section, key)?;
        parse(&text).map_err(|why| self.fail(span, format!("`{key}` {why}"))).ok()
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

    /// The whole number from 1 to `largest` under `key`.
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

    /// The strings of the list under `key`, with their spans. A missing key is an empty list.
    pub fn texts(&mut self, section: &mut Section<'_>, key: &str) -> Vec<(String, Span)> {
        let Some(entry) = section.take(key) else { return Vec::new() };
        let Some(list) = entry.value.get_ref().as_array() else {
            self.wrong_type(&entry, "a list of strings in quotes");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span().into())),
                None => {
                    let found = type_of(item.get_ref());
                    self.fail(
                        item.span().into(),
                        format!("each item of `{key}` must be a string in quotes, not {found}"),
                    );
                }
            }
        }
        texts
    }

    /// As [`Reader::pairs`], where a value may also be a reference to a secret, `{ file = "/path" }`, `{ env = "NAME" }` or
    /// `{ credential = "NAME" }`. The second list has the keys of these references.
    pub fn pairs_with_secrets(&mut self, section: &mut Section<'_>, key: &str) -> (Vec<(String, String)>, Vec<String>) {
        let Some(mut inner) = self.section(section, key) else { return Default::default() };
        // Each is looked for among all, and a plugin has 200 settings at most.
        if inner.entries.len() > MOST_PAIRS {
            let what = format!("`{key}` has {} keys, more than {MOST_PAIRS}", inner.entries.len());
            self.fail(inner.place, what);
            return Default::default();
        }
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

    /// The table under `key` as pairs: strings, and numbers and booleans as written. A list repeats its key.
    pub fn pairs(&mut self, section: &mut Section<'_>, key: &str) -> Vec<(String, String)> {
        self.section(section, key).map(|inner| self.pairs_in(&inner)).unwrap_or_default()
    }

    fn pairs_in(&mut self, section: &Section<'_>) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for entry in &section.entries {
            let list = entry.value.get_ref().as_array();
            let values = list.map_or_else(|| vec![&entry.value], |list| list.iter().collect());
            for value in values {
                match scalar(value.get_ref()) {
                    Some(text) => pairs.push((entry.key.clone(), text)),
                    None => {
                        let expected = "a string, a number, true or false, or a list of these";
                        let what = format!("`{}` must be {expected}, not {}", entry.key, type_of(value.get_ref()));
                        self.fail(value.span().into(), what);
                    }
                }
            }
        }
        pairs
    }

    /// The secret under `key`: a string, or a reference to a file, an environment variable or a credential.
    pub fn secret(&mut self, section: &mut Section<'_>, key: &str) -> Option<Secret> {
        let entry = section.find(key)?.clone();
        if entry.value.get_ref().as_table().is_none() {
            return self.text(section, key).filter(|text| !text.is_empty()).map(Secret::new);
        }
        let mut reference = self.section(section, key)?;
        let mut part = |key| self.text(&mut reference, key);
        let read = |file: &Path| {
            let cure = "check the path, and that the agent may read the file";
            read_file(file).map_err(|error| format!("cannot read `{}` for `{key}`: {error}; {cure}", file.display()))
        };
        let found = match (part("file"), part("env"), part("credential")) {
            (Some(file), None, None) => read(Path::new(&file)),
            (None, Some(env), None) => environment::secret(&env).map_err(|error| match error {
                VarError::NotPresent => {
                    format!(
                        "the environment variable `{env}` for `{key}` is not set; set it in the agent's environment"
                    )
                }
                VarError::NotUnicode(_) => format!("the environment variable `{env}` for `{key}` is not valid UTF-8"),
            }),
            // systemd.exec(5), LoadCredential=
            (None, None, Some(name)) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => read(&Path::new(&folder).join(name)),
                None => Err(format!(
                    "no credential `{name}` for `{key}`: CREDENTIALS_DIRECTORY is not set; write `LoadCredential={name}:/path` \
                     into the systemd unit"
                )),
            },
            _ => Err(format!(
                "`{key}` must be a string, {{ file = \"/path\" }}, {{ env = \"NAME\" }} or {{ credential = \"NAME\" }}"
            )),
        };
        self.finish(reference);
        match found.map(|text| text.trim().to_owned()) {
            Ok(text) if text.is_empty() => {
                self.fail(entry.span, format!("the secret that `{key}` refers to is empty; write it there"));
            }
            Ok(text) => return Some(Secret::new(text)),
            Err(why) => self.fail(entry.span, why),
        }
        None
    }

    /// The command under `key`: a shell command line, or a list of words. For an empty one, warns that its table is skipped.
    pub fn command(&mut self, section: &mut Section<'_>, key: &str) -> Option<Command> {
        let entry = section.take(key)?;
        let value = entry.value.get_ref();
        let words = value.as_array().map(|list| list.iter().map(|word| word.get_ref().as_str().map(str::to_owned)));
        let words = words.and_then(|words| words.collect::<Option<Vec<_>>>());
        let command = match (value.as_str(), words) {
            // A shell takes the carriage return of a line of Windows for a part of the last word.
            (Some(line), _) => Command::Shell(line.replace("\r\n", "\n")),
            (None, Some(words)) if !words.is_empty() => Command::Words(words),
            (None, _) => {
                let found = match value {
                    DeValue::Array(list) if list.is_empty() => "an empty list",
                    DeValue::Array(_) => "a list with other values",
                    _ => type_of(value),
                };
                let expected = "a shell command line in quotes or a list of words in quotes";
                let what = format!("`{key}` of {} must be {expected}, not {found}", section.name);
                self.fail(entry.value.span().into(), what);
                return None;
            }
        };
        // The official agent runs the one to no effect, and fails to start the other.
        let (is_empty, has_nul) = match &command {
            Command::Shell(line) => (line.trim().is_empty(), line.contains('\0')),
            Command::Words(words) => {
                (words.first().is_none_or(String::is_empty), words.iter().any(|word| word.contains('\0')))
            }
        };
        let wrong = match (is_empty, has_nul) {
            (false, false) => return Some(command),
            (true, _) => "is empty",
            (false, true) => "contains a NUL character",
        };
        let cure = "write a command, or remove the table";
        self.warn(entry.value.span().into(), format!("{} is skipped: its `{key}` {wrong}; {cure}", section.name));
        None
    }

    /// The number of seconds under `key`, at most `most`. As in the official agent, 0 and negative numbers mean the default.
    pub fn seconds(&mut self, section: &mut Section<'_>, key: &str, default: Duration, most: u64) -> Option<Duration> {
        let span = section.span_of(key);
        let seconds = self.integer(section, key).filter(|seconds| *seconds != 0)?;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds <= most => Some(Duration::from_secs(seconds)),
            Ok(_) => {
                self.note(span, format!("`{key}` exceeds the maximum; using {most}"));
                Some(Duration::from_secs(most))
            }
            Err(_) => {
                self.warn(span, format!("`{key}` is negative; using the default, {}", default.as_secs()));
                None
            }
        }
    }

    /// Checks only the types of keys that are valid but have no effect here. They are not suggested for a misspelt key.
    pub fn ignore(&mut self, section: &mut Section<'_>, keys: &[(&str, ValueKind)]) {
        for (key, kind) in keys {
            if !section.entries.iter().any(|entry| entry.key.eq_ignore_ascii_case(key)) {
                continue;
            }
            match kind {
                ValueKind::Text => drop(self.text(section, key)),
                ValueKind::Boolean => drop(self.boolean(section, key)),
                ValueKind::Integer => drop(self.integer(section, key)),
                ValueKind::Minutes => drop(self.minutes(section, key)),
                ValueKind::Table => drop(self.section(section, key)),
            }
        }
    }

    /// The duration under `key`, in minutes: a whole number, or a string in Go's notation like `1h30m`.
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

    /// The whole number under `key`.
    pub fn integer(&mut self, section: &mut Section<'_>, key: &str) -> Option<i64> {
        let entry = section.take(key)?;
        let number = entry.value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        if number.is_none() {
            self.wrong_type(&entry, "a whole number");
        }
        number
    }

    /// Marks a key as read without looking at its value; returns the span of the key.
    pub fn skip(&mut self, section: &mut Section<'_>, key: &str) -> Option<Span> {
        section.take(key).map(|entry| entry.span)
    }

    pub(super) fn wrong_type(&mut self, entry: &Entry<'_>, expected: &str) {
        let found = type_of(entry.value.get_ref());
        self.fail(entry.value.span().into(), format!("`{}` must be {expected}, not {found}", entry.key));
    }
}

/// The type of a value, with its article.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            "a number of more than 64 bits"
        }
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
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
