//! Text on the cells of a screen, and the screen on a terminal: only what has changed is written.
//!
//! Whatever comes from outside passes `put`, which lets no control character through.

use std::fmt::Write as _;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use wasaba_core::text::printable;

/// How a text is meant. Each meaning is also in the words, since there may be no colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// A fact.
    #[default]
    Plain,
    /// What is beside the point.
    Dim,
    /// A picture, a key.
    Accent,
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Something is wrong.
    Bad,
}

impl Tone {
    /// The style: of the sixteen colours, so that it fits the terminal's theme.
    #[must_use]
    pub fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Dim => Style::new().add_modifier(Modifier::DIM),
            Self::Accent => Style::new().fg(Color::Cyan),
            Self::Strong => Style::new().add_modifier(Modifier::BOLD),
            Self::Good => Style::new().fg(Color::Green),
            Self::Warn => Style::new().fg(Color::Yellow),
            Self::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Longer texts are cut: no line of a terminal is longer.
const LONGEST_BYTES: usize = 4_096;

/// Writes a text into at most `width` cells, and returns how many it has. Control characters are escaped.
pub(super) fn put(buffer: &mut Buffer, x: u16, y: u16, text: &str, width: usize, tone: Tone) -> u16 {
    if x >= buffer.area.right() || y >= buffer.area.bottom() {
        return 0;
    }
    let (end, _) = buffer.set_stringn(x, y, printable(text, LONGEST_BYTES), width, tone.style());
    end - x
}

/// The columns that a text takes, with its control characters escaped.
pub(super) fn width_of(text: &str) -> usize {
    printable(text, LONGEST_BYTES).width()
}

/// A text of at most `width` columns, which ends with `more` if it was cut.
pub(super) fn cut(text: &str, width: usize, more: &str) -> String {
    let text = printable(text, LONGEST_BYTES);
    if text.width() <= width {
        return text;
    }
    let more = if more.width() < width { more } else { "" };
    let room = width - more.width();
    let mut kept = String::new();
    let mut taken = 0;
    for char in text.chars() {
        taken += char.width().unwrap_or_default();
        if taken > room {
            break;
        }
        kept.push(char);
    }
    kept + more
}

/// A text as lines of at most `width` columns, broken between words where that is possible.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(10);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let paragraph = printable(paragraph, LONGEST_BYTES);
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            if line.width() + word.trim_end().width() > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            for char in word.chars() {
                // A word may be longer than a line, and the space behind it belongs to none.
                if line.width() + char.width().unwrap_or_default() > width {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                }
                if char != ' ' || !line.is_empty() {
                    line.push(char);
                }
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// What a terminal shows.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    has_colours: bool,
    is_new: bool,
}

impl Screen {
    /// An empty one.
    #[must_use]
    pub fn new(has_colours: bool) -> Self {
        Self { shown: Buffer::empty(Rect::default()), has_colours, is_new: true }
    }

    /// From now on everything is written again: something else may have written to the terminal.
    pub fn forget(&mut self) {
        self.is_new = true;
    }

    /// The bytes that make the terminal show `next`.
    #[must_use]
    pub fn show(&mut self, next: Buffer) -> Vec<u8> {
        let mut text = String::new();
        if std::mem::take(&mut self.is_new) || self.shown.area != next.area {
            text.push_str("\x1b[0m\x1b[2J");
            self.shown = Buffer::empty(next.area);
        }
        let mut after = None;
        let mut style = None;
        for (x, y, cell) in self.shown.diff_iter(&next) {
            if after != Some((x, y)) {
                write!(text, "\x1b[{};{}H", y + 1, x + 1).ok();
            }
            let own = self.codes(cell);
            if style.as_ref() != Some(&own) {
                write!(text, "\x1b[0{own}m").ok();
                style = Some(own);
            }
            let symbol = cell.symbol();
            text.push_str(symbol);
            after = Some((x.saturating_add(u16::try_from(symbol.width().max(1)).unwrap_or(1)), y));
        }
        if style.is_some() {
            text.push_str("\x1b[0m");
        }
        self.shown = next;
        text.into_bytes()
    }

    /// The parameters of a cell's style, each after a semicolon.
    fn codes(&self, cell: &Cell) -> String {
        let mut codes = String::new();
        for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")] {
            if cell.modifier.contains(modifier) {
                codes.push_str(code);
            }
        }
        if self.has_colours {
            codes.push_str(match cell.fg {
                Color::Red => ";31",
                Color::Green => ";32",
                Color::Yellow => ";33",
                Color::Cyan => ";36",
                _ => "",
            });
        }
        codes
    }
}

/// The text of a screen, without what is not seen at the ends of its lines.
#[must_use]
pub fn text_of(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let mut text = String::new();
    for line in buffer.content.chunks(width) {
        let mut skip = 0;
        let mut shown = String::new();
        for cell in line {
            // A wide character hides the cell behind it.
            if skip == 0 {
                shown.push_str(cell.symbol());
                skip = cell.symbol().width().max(1);
            }
            skip -= 1;
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_written_and_the_rest_after_something_else_has_written() {
        let mut screen = Screen::new(true);
        let mut first = Buffer::empty(Rect::new(0, 0, 10, 2));
        put(&mut first, 0, 0, "load", 10, Tone::Plain);
        put(&mut first, 2, 1, "full", 10, Tone::Bad);
        let mut second = first.clone();
        put(&mut second, 1, 0, "a", 1, Tone::Plain);
        let written = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let whole = "\x1b[0m\x1b[2J\x1b[1;1H\x1b[0mload\x1b[2;3H\x1b[0;1;31mfull\x1b[0m";
        assert_eq!(written(screen.show(first.clone())), whole);
        assert_eq!(written(screen.show(first.clone())), "");
        assert_eq!(written(screen.show(second)), "\x1b[1;2H\x1b[0ma\x1b[0m");
        screen.forget();
        assert_eq!(written(screen.show(first.clone())), whole);
        assert_eq!(written(Screen::new(false).show(first)), whole.replace(";31", ""), "without colours");
    }

    #[test]
    fn no_text_can_steer_the_terminal() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 60, 1));
        put(&mut buffer, 0, 0, "a\x1b[2J\u{202e}b\r\nc\u{9b}2J", 60, Tone::Plain);
        assert_eq!(text_of(&buffer), "a\\u{1b}[2J\\u{202e}b\\r\\nc\\u{9b}2J\n");
        assert!(wrapped("\x1b[2J", 20).concat().starts_with("\\u{1b}"));
        assert!(cut("\x1b[2J", 20, "…").starts_with("\\u{1b}"));
    }

    #[test]
    fn a_text_is_cut_or_broken_by_the_columns_that_its_characters_take() {
        assert_eq!(
            (cut("日本語", 6, "…"), cut("日本語", 5, "…"), cut("abc", 2, "...")),
            ("日本語".into(), "日本…".into(), "ab".into())
        );
        assert_eq!(wrapped("write `allow` into\nthe table", 14), ["write `allow`", "into", "the table"]);
        assert_eq!(wrapped("https://example.com/long", 10), ["https://ex", "ample.com/", "long"]);
    }
}
