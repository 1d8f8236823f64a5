//! The problems of a file, and reading it.

use std::fmt;
use std::path::Path;

use wasaba_core::paths::trusted::Unopened;
use wasaba_core::paths::{named, patient, trusted};

/// A problem as the user sees it: file, line and column, what is wrong, the cure, and the line without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) level: Level,
    /// `FILE:LINE:COLUMN`, or a file; empty if it is in the text, or nowhere.
    pub(super) place: String,
    /// The table that is skipped because of it: `[plugin.metrics.web]`; empty for other problems.
    pub(super) table: String,
    pub(super) text: String,
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A valid value that has another effect than it seems to have.
    Note,
    /// Something is ignored or skipped; the agent runs.
    Warning,
    /// A table is invalid, so what it configures is skipped; the agent runs without it.
    Invalid,
    /// The configuration cannot be used.
    Error,
}

impl Problem {
    /// A file that cannot be read.
    #[must_use]
    pub fn of_file(file: &Path, error: &dyn fmt::Display) -> Self {
        Self::of_flag(Level::Error, format!("cannot read `{}`: {error}", file.display()))
    }

    /// The configuration file that was named does not exist.
    #[must_use]
    pub fn of_missing_file(file: &Path) -> Self {
        Self::of_flag(Level::Error, format!("there is no `{}`; name another file with -conf", file.display()))
    }

    /// A file that another user could have written; it is skipped.
    #[must_use]
    pub fn of_untrusted(file: &Path, why: &str) -> Self {
        Self::of_flag(Level::Warning, format!("skipped `{}`: {why}", file.display()))
    }

    /// A problem of tables that may be in several files.
    pub(crate) fn at(place: String, level: Level, text: String) -> Self {
        Self { level, place, table: String::new(), text }
    }

    /// A problem outside of the files: with a flag, a variable, or all of the files together.
    #[must_use]
    pub fn of_flag(level: Level, text: String) -> Self {
        Self::at(String::new(), level, text)
    }

    /// Whether it makes the configuration unusable.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// Its severity.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Its text for the log, whose lines have a level of their own.
    #[must_use]
    pub fn without_level(&self) -> String {
        let Self { place, table, text, .. } = self;
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        let skipped = if table.is_empty() { String::new() } else { format!("skipped {table}: ") };
        format!("{place}{skipped}{text}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, place, text, .. } = self;
        if place.is_empty() {
            formatter.write_str(text)
        } else {
            write!(formatter, "{place}: {}: {text}", level.word())
        }
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Invalid | Self::Error => "error",
        }
    }
}

/// A configuration has a few kilobytes; a longer file is not one.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// The text of a file that the operator names, whoever owns it. Pipes and devices, which may never end, are refused.
///
/// # Errors
/// The file cannot be read, is not a regular file, is not UTF-8, or is longer than 1 MiB.
pub fn read_file(file: &Path) -> std::io::Result<String> {
    text(patient::ask(file, patient::READ, |file| named::read(file, LONGEST_FILE_BYTES)).flatten()?)
}

/// The text of a file that decides what the agent does, and that a pattern or a folder has found.
///
/// # Errors
/// As [`read_file`]; or another user could have written it.
pub fn read_trusted(file: &Path) -> Result<String, Unopened> {
    Ok(text(patient::ask(file, patient::READ, |file| trusted::read(file, LONGEST_FILE_BYTES))??)?)
}

fn text(bytes: Vec<u8>) -> std::io::Result<String> {
    // Text has none, unless each of its characters has two bytes.
    if bytes.contains(&0) {
        return Err(std::io::Error::other("not UTF-8 text, perhaps UTF-16; save the file as UTF-8"));
    }
    // Windows' editors begin a file with a mark that is not part of its text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[_]>::to_vec).unwrap_or(bytes);
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        std::io::Error::other(format!("line {line} is not valid UTF-8; save the file as UTF-8"))
    })
}
