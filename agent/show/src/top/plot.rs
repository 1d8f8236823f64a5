//! Numbers as pictures of characters: bars, the line of an hour in a row, and a day in a large plot.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint::{Tone, put};
use crate::words;

/// The characters that pictures are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    /// Blocks and Braille, which terminals have.
    Unicode,
    /// What the console of Linux and old terminals have.
    Ascii,
}

impl Glyphs {
    const BLOCKS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    const SIGNS: [&str; 8] = ["_", ".", ",", "-", "~", "+", "*", "#"];

    /// One of eight heights.
    fn height(self, level: usize) -> &'static str {
        let levels = if self == Self::Unicode { Self::BLOCKS } else { Self::SIGNS };
        levels.get(level).or(levels.last()).copied().unwrap_or_default()
    }

    /// A horizontal line.
    pub(super) fn rule(self) -> &'static str {
        if self == Self::Unicode { "─" } else { "-" }
    }

    /// What is selected.
    pub(super) fn marker(self) -> &'static str {
        if self == Self::Unicode { "▸" } else { ">" }
    }

    /// How the agent is doing.
    pub(super) fn dot(self) -> &'static str {
        if self == Self::Unicode { "●" } else { "*" }
    }

    /// What separates facts in a line.
    pub(super) fn between(self) -> &'static str {
        if self == Self::Unicode { " · " } else { " | " }
    }

    /// What was cut.
    pub(super) fn more(self) -> &'static str {
        if self == Self::Unicode { "…" } else { "..." }
    }
}

/// A bar of `width` characters that is filled by `part`, from 0 to 1.
pub(super) fn bar(part: f64, width: usize, glyphs: Glyphs) -> (String, String) {
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let (whole, rest) = (eighths / 8, eighths % 8);
    match glyphs {
        Glyphs::Unicode => {
            const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
            let filled = "█".repeat(whole) + PARTS.get(rest).copied().unwrap_or_default();
            let empty = "░".repeat(width.saturating_sub(whole + usize::from(rest > 0)));
            (filled, empty)
        }
        Glyphs::Ascii => {
            let whole = (whole + usize::from(rest >= 4)).min(width);
            ("#".repeat(whole), ".".repeat(width - whole))
        }
    }
}

/// The values in `width` characters, the newest at the right. Of several in one character the highest is shown; a gap is a space.
pub(super) fn spark(values: &[Option<f64>], most: Option<f64>, width: usize, glyphs: Glyphs) -> String {
    let binned = highest(values, width);
    let top = most.unwrap_or_else(|| binned.iter().flatten().copied().fold(0.0, f64::max));
    let level = |value: f64| if top > 0.0 { (value / top * 8.0).ceil() as usize } else { 0 };
    let glyph = |value: &Option<f64>| value.map_or(" ", |value| glyphs.height(level(value).clamp(1, 8) - 1));
    let line = binned.iter().map(glyph).collect::<String>();
    format!("{}{line}", " ".repeat(width.saturating_sub(binned.len())))
}

/// At most `width` values: the highest of each run of them.
fn highest(values: &[Option<f64>], width: usize) -> Vec<Option<f64>> {
    let each = values.len().div_ceil(width.max(1)).max(1);
    // The first run is the one that may be shorter.
    let mut runs = values.rchunks(each).map(|run| run.iter().flatten().copied().reduce(f64::max)).collect::<Vec<_>>();
    runs.reverse();
    runs
}

/// A plot: the values of minutes, the first of which is `start`, with axes. Times are in a zone so many seconds east of UTC.
pub(super) struct Large<'a> {
    pub(super) values: &'a [Option<f64>],
    pub(super) start: i64,
    pub(super) unit: &'a str,
    pub(super) east: i64,
    pub(super) glyphs: Glyphs,
}

/// The columns of the labels at the left.
const LABELS: u16 = 11;

impl Large<'_> {
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.width < LABELS + 10 || area.height < 4 {
            return;
        }
        let plot = Rect { x: area.x + LABELS, width: area.width - LABELS, height: area.height - 1, ..area };
        let (low, high) = self.range();
        self.axes(low, high, plot, buffer);
        let (across, down) = if self.glyphs == Glyphs::Unicode { (2, 4) } else { (1, 1) };
        let (columns, rows) = (usize::from(plot.width) * across, usize::from(plot.height) * down);
        let mut dots = vec![0_u8; usize::from(plot.width) * usize::from(plot.height)];
        let mut before = None;
        for column in 0..columns {
            let Some((least, most, last)) = self.column(column, columns) else {
                before = None;
                continue;
            };
            let row = |value: f64| at(value, low, high, rows);
            // A line, not a cloud: each column begins where the one before it ended.
            let (mut first, mut end) = (row(most), row(least));
            if let Some(before) = before.replace(row(last)) {
                (first, end) = (first.min(before), end.max(before));
            }
            for row in first..=end {
                let index = row / down * usize::from(plot.width) + column / across;
                if let Some(dot) = dots.get_mut(index) {
                    *dot |= braille(column % across, row % down);
                }
            }
        }
        for (index, dot) in dots.iter().enumerate().filter(|(_, dot)| **dot > 0) {
            let (x, y) = (index % usize::from(plot.width), index / usize::from(plot.width));
            let symbol = match self.glyphs {
                Glyphs::Unicode => char::from_u32(0x2800 + u32::from(*dot)).unwrap_or('*'),
                Glyphs::Ascii => '*',
            };
            let (x, y) = (u16::try_from(x).unwrap_or_default(), u16::try_from(y).unwrap_or_default());
            put(buffer, plot.x + x, plot.y + y, &symbol.to_string(), 1, Tone::Accent);
        }
    }

    /// The least, the highest and the last value of a column.
    fn column(&self, column: usize, columns: usize) -> Option<(f64, f64, f64)> {
        let count = self.values.len();
        let (from, to) = (column * count / columns, ((column + 1) * count / columns).max(column * count / columns + 1));
        let mut found = None;
        for value in self.values.get(from..to.min(count))?.iter().flatten() {
            let (least, most, _) = found.unwrap_or((*value, *value, *value));
            found = Some((value.min(least), value.max(most), *value));
        }
        found
    }

    /// What the axis reaches from and to: zero is in it.
    fn range(&self) -> (f64, f64) {
        let values = self.values.iter().flatten().copied();
        let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let base = if self.unit == "bytes" { 1_024.0 } else { 1_000.0 };
        let low = if low < 0.0 { -nice(-low, base) } else { 0.0 };
        let high = if high > 0.0 { nice(high, base) } else { 0.0 };
        if low < high { (low, high) } else { (0.0, 1.0) }
    }

    fn axes(&self, low: f64, high: f64, plot: Rect, buffer: &mut Buffer) {
        let middle = plot.height / 2;
        for (row, value) in [(0, high), (middle, f64::midpoint(high, low)), (plot.height - 1, low)] {
            let label = format!("{:>width$} ", words::value(self.unit, value), width = usize::from(LABELS) - 1);
            put(buffer, plot.x - LABELS, plot.y + row, &label, usize::from(LABELS), Tone::Dim);
            if row > 0 {
                let rule = if self.glyphs == Glyphs::Unicode { "┈" } else { "." };
                put(
                    buffer,
                    plot.x,
                    plot.y + row,
                    &rule.repeat(usize::from(plot.width)),
                    usize::from(plot.width),
                    Tone::Dim,
                );
            }
        }
        // Full hours, as many as have room.
        let minutes = i64::try_from(self.values.len()).unwrap_or(i64::MAX).max(1);
        let width = i64::from(plot.width);
        let steps = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720];
        let step = steps.into_iter().find(|step| width * step / minutes >= 9).unwrap_or(1_440);
        let first = self.start + self.east;
        let mut minute = (first.div_euclid(60)).div_euclid(step) * step;
        while minute * 60 < first + minutes * 60 {
            let column = (minute - first.div_euclid(60)) * width / minutes;
            if let Ok(column) = u16::try_from(column)
                && column + 5 <= plot.width
            {
                let label = words::clock(minute * 60, 0);
                put(buffer, plot.x + column, plot.y + plot.height, &label, 5, Tone::Dim);
            }
            minute += step;
        }
    }
}

/// A round number that is not below `value`.
fn nice(value: f64, base: f64) -> f64 {
    let mut step = 1.0;
    while value >= step * base {
        step *= base;
    }
    let mut unit = step * if value < step { 1e-3 } else { 1.0 };
    while value > unit * 10.0 {
        unit *= 10.0;
    }
    let factors = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    factors.into_iter().map(|factor| factor * unit).find(|round| *round >= value).unwrap_or(unit * 10.0)
}

/// The row of a value, from the top.
fn at(value: f64, low: f64, high: f64, rows: usize) -> usize {
    let last = rows.saturating_sub(1);
    last - (((value - low) / (high - low) * last as f64).round() as usize).min(last)
}

/// The bit of a dot in a character of Braille.
fn braille(x: usize, y: usize) -> u8 {
    match (x, y) {
        (0, 3) => 0x40,
        (_, 3) => 0x80,
        (0, y) => 1 << y,
        (_, y) => 8 << y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_filled_to_an_eighth_of_a_character_and_never_beyond_its_end() {
        let drawn = |part| bar(part, 4, Glyphs::Unicode);
        assert_eq!(drawn(0.5), ("██".into(), "░░".into()));
        assert_eq!(drawn(0.53), ("██▏".into(), "░".into()));
        assert_eq!((drawn(7.0), drawn(-1.0)), (("████".into(), String::new()), (String::new(), "░░░░".into())));
        assert_eq!(
            (bar(0.5, 4, Glyphs::Ascii), bar(1.0, 4, Glyphs::Ascii)),
            (("##".into(), "..".into()), ("####".into(), String::new()))
        );
    }

    #[test]
    fn an_hours_line_ends_with_the_newest_value_and_a_gap_is_a_space() {
        let values = [Some(0.0), Some(1.0), None, Some(8.0)];
        assert_eq!(spark(&values, None, 6, Glyphs::Unicode), "  ▁▁ █");
        assert_eq!(spark(&values, Some(16.0), 4, Glyphs::Unicode), "▁▁ ▄");
        assert_eq!(spark(&values, None, 2, Glyphs::Unicode), "▁█", "of two values the higher one");
        assert_eq!(spark(&values, None, 4, Glyphs::Ascii), "__ #");
    }

    #[test]
    fn an_axis_ends_at_a_round_number_that_holds_the_highest_value() {
        let cases = [(0.42, 0.5), (3.9, 4.0), (100.0, 100.0), (101.0, 150.0), (1_234.0, 1_500.0), (0.000_5, 0.001)];
        for (value, expected) in cases {
            assert!((nice(value, 1_000.0) - expected).abs() < expected * 1e-9, "{value}: {}", nice(value, 1_000.0));
        }
        assert!((nice(7.7e9, 1_024.0) - 8.0 * 1_073_741_824.0).abs() < 1.0, "{}", nice(7.7e9, 1_024.0));
    }

    #[test]
    fn a_gap_in_a_plot_is_a_gap_and_a_jump_is_a_line() {
        let mut values = vec![Some(1.0); 30];
        values.extend([None; 30]);
        values.extend([Some(9.0); 30]);
        values.extend([Some(1.0); 30]);
        let area = Rect::new(0, 0, 71, 8);
        let mut buffer = Buffer::empty(area);
        Large { values: &values, start: 0, unit: "float", east: 0, glyphs: Glyphs::Unicode }.draw(area, &mut buffer);
        let drawn = |column: u16| {
            (0..7)
                .filter(|row| {
                    buffer[(column, *row)].symbol().chars().all(|char| ('\u{2801}'..='\u{28ff}').contains(&char))
                })
                .count()
        };
        assert_eq!((drawn(12), drawn(33), drawn(50)), (1, 0, 1));
        assert!((54..58).any(|column| drawn(column) > 4), "the jump from 9 to 1");
    }
}
