//! A TOML document: each key with its span, each problem with line, column and cure.

mod places;
mod problem;
mod reader;
mod section;
mod shown;
mod values;

use std::ops::Range;

pub use self::places::Places;
pub use self::problem::{Level, Problem, read_file, read_trusted};
pub use self::reader::Reader;
pub use self::section::Section;
pub use self::values::ValueKind;

/// A range of the text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(Range { start, end }: Range<usize>) -> Self {
        Self { start, end }
    }
}
