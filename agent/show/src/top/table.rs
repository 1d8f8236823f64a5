//! Tables of a view: columns that find their widths, rows that are sorted and filtered, and lines below a row.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Modifier;

use super::paint::{Tone, cut, put, width_of, wrapped};
use super::plot::{Glyphs, bar, spark};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// What stands above it; nothing if it cannot be sorted by.
    pub(super) title: &'static str,
    pub(super) kind: Kind,
    /// Columns with a higher number are dropped first where there is no room; 0 stays.
    pub(super) rank: u8,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Texts of at most so many columns.
    Text(usize),
    /// Texts that may take what is left.
    Rest,
    /// Numbers, at the right.
    Number,
    /// Bars.
    Bar,
    /// The lines of an hour.
    Spark,
}

/// What is in a row's column.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    /// What it is sorted by, the highest first; without one, by its text.
    pub(super) number: Option<f64>,
    /// What is drawn of it.
    pub(super) values: Vec<Option<f64>>,
    /// What a full bar, or the highest line, stands for.
    pub(super) most: Option<f64>,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(super) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    pub(super) fn number(text: impl Into<String>, number: Option<f64>) -> Self {
        Self { text: text.into(), number, ..Self::default() }
    }

    /// A part of 1.
    pub(super) fn bar(part: Option<f64>) -> Self {
        let tone = match part {
            Some(part) if part >= 0.95 => Tone::Bad,
            Some(part) if part >= 0.85 => Tone::Warn,
            _ => Tone::Good,
        };
        Self { number: part, tone, ..Self::default() }
    }

    pub(super) fn spark(values: Vec<Option<f64>>, most: Option<f64>) -> Self {
        Self { values, most, tone: Tone::Accent, ..Self::default() }
    }
}

/// A row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// By which it is found again when everything has changed around it.
    pub(super) id: String,
    pub(super) cells: Vec<Cell>,
    /// What is said of it in lines of their own.
    pub(super) below: Vec<(Tone, String)>,
    /// Where there is no room for all, those with a higher number are not shown.
    pub(super) rank: u8,
    /// What is shown of it alone, above its plots.
    pub(super) about: Vec<(Tone, String)>,
    /// The metrics that are its own, as in the history.
    pub(super) keys: Vec<String>,
}

impl Row {
    /// Whether a text is in it, in letters of any size; `filter` is in small ones.
    fn has(&self, filter: &str) -> bool {
        let texts = self.cells.iter().map(|cell| &cell.text).chain(self.below.iter().map(|(_, text)| text));
        filter.is_empty() || texts.chain([&self.id]).any(|text| text.to_lowercase().contains(filter))
    }

    /// The worst that is said of it.
    pub(super) fn tone(&self) -> Tone {
        self.cells
            .iter()
            .map(|cell| cell.tone)
            .chain(self.below.iter().map(|(tone, _)| *tone))
            .max()
            .unwrap_or_default()
    }
}

/// A part of the view: a title, facts, and a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub(super) title: &'static str,
    pub(super) summary: String,
    pub(super) tone: Tone,
    pub(super) facts: Vec<(Tone, String)>,
    /// Whether they stand below the table, since that has what is urgent.
    pub(super) has_facts_last: bool,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// How a block is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    /// The row, by its id.
    pub(super) selected: Option<String>,
    /// The title of the column that it is sorted by.
    pub(super) sorted: Option<&'static str>,
    pub(super) is_reversed: bool,
    /// The first row that is shown.
    pub(super) first: usize,
}

/// How everything is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) glyphs: Glyphs,
    /// Whether the block has the keys.
    pub(super) is_focused: bool,
}

impl Block {
    /// Leaves the rows that have `filter` in them, in the order that is wished.
    pub(super) fn arrange(&mut self, filter: &str, looked: &Looked) {
        let filter = filter.to_lowercase();
        self.rows.retain(|row| row.has(&filter));
        let Some(title) = looked.sorted else { return };
        let Some(column) = self.columns.iter().position(|column| column.title == title) else { return };
        let cell = |row: &Row| row.cells.get(column).cloned().unwrap_or_default();
        let has_numbers = self.rows.iter().any(|row| cell(row).number.is_some());
        self.rows.sort_by(|a, b| {
            let (a, b) = (cell(a), cell(b));
            if has_numbers {
                let number = |cell: &Cell| cell.number.unwrap_or(f64::NEG_INFINITY);
                number(&b).total_cmp(&number(&a))
            } else {
                a.text.cmp(&b.text)
            }
        });
        if looked.is_reversed {
            self.rows.reverse();
        }
    }

    /// The columns by which it can be sorted.
    pub(super) fn sortable(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.title).filter(|title| !title.is_empty())
    }

    fn has_header(&self) -> bool {
        self.sortable().next().is_some() && !self.rows.is_empty()
    }

    /// How many lines it has below its title.
    pub(super) fn height(&self, width: usize) -> usize {
        let facts = self.facts.iter().map(|(_, text)| wrapped(text, width.saturating_sub(2)).len()).sum::<usize>();
        facts + usize::from(self.has_header()) + self.rows.iter().map(|row| height(row, width)).sum::<usize>()
    }

    /// The row that is selected, by its place.
    pub(super) fn selected(&self, looked: &Looked) -> Option<usize> {
        let selected = looked.selected.as_ref();
        let found = selected.and_then(|id| self.rows.iter().position(|row| row.id == *id));
        found.or_else(|| (!self.rows.is_empty()).then_some(0))
    }

    /// Draws it, and moves what is shown to where the selected row is.
    pub(super) fn draw(&self, looked: &mut Looked, area: Rect, buffer: &mut Buffer, way: Way) {
        if area.height == 0 {
            return;
        }
        self.draw_title(area, buffer, way);
        let (mut y, bottom, width) = (area.y + 1, area.bottom(), usize::from(area.width));
        if !self.has_facts_last {
            y = self.draw_facts(area, y, buffer);
        }
        // One row with what is said of it matters more.
        let left = usize::from(bottom.saturating_sub(y));
        let all = self.rows.iter().map(|row| height(row, width)).sum::<usize>();
        let header = u16::from(self.has_header() && (left > 2 || left > all));
        let room = usize::from(bottom.saturating_sub(y + header));
        let selected = self.selected(looked);
        let shown = self.shown(looked, selected, room, width, way);
        let widths = self.widths(width.saturating_sub(2), &shown);
        if header > 0 {
            self.draw_header(&widths, looked, Rect { y, ..area }, buffer);
            y += 1;
        }
        let hidden = self.rows.len() - shown.len();
        for (place, row) in shown {
            if y >= bottom {
                break;
            }
            let is_selected = way.is_focused && selected == Some(place);
            let line = Rect { y, height: 1, ..area };
            if is_selected {
                put(buffer, area.x, y, way.glyphs.marker(), 2, Tone::Accent);
            }
            self.draw_row(row, &widths, line, buffer, way.glyphs);
            if is_selected {
                buffer.set_style(Rect { x: area.x + 2, width: area.width.saturating_sub(2), ..line }, Modifier::BOLD);
            }
            y += 1;
            for (tone, text) in &row.below {
                for text in wrapped(text, width.saturating_sub(4)) {
                    if y < bottom {
                        put(buffer, area.x + 4, y, &text, width.saturating_sub(4), *tone);
                        y += 1;
                    }
                }
            }
        }
        if hidden > 0 && y < bottom {
            put(buffer, area.x + 2, y, &format!("and {hidden} more"), width, Tone::Dim);
            y += 1;
        }
        if self.has_facts_last {
            self.draw_facts(area, y, buffer);
        }
    }

    /// Draws the facts from the line `y` on, and returns the next line.
    fn draw_facts(&self, area: Rect, mut y: u16, buffer: &mut Buffer) -> u16 {
        let width = usize::from(area.width).saturating_sub(2);
        for (tone, text) in &self.facts {
            for line in wrapped(text, width) {
                if y < area.bottom() {
                    put(buffer, area.x + 2, y, &line, width, *tone);
                    y += 1;
                }
            }
        }
        y
    }

    /// The rows that have room, with their places.
    fn shown(
        &self,
        looked: &mut Looked,
        selected: Option<usize>,
        room: usize,
        width: usize,
        way: Way,
    ) -> Vec<(usize, &Row)> {
        let heights = self.rows.iter().map(|row| height(row, width)).collect::<Vec<_>>();
        let all = || self.rows.iter().enumerate();
        if heights.iter().sum::<usize>() <= room {
            looked.first = 0;
            return all().collect();
        }
        if room == 0 {
            return Vec::new();
        }
        if !way.is_focused {
            // Those that matter most, in their order, and a line that counts the others.
            let mut places = (0..self.rows.len()).collect::<Vec<_>>();
            places.sort_by_key(|place| self.rows.get(*place).map(|row| row.rank));
            let mut left = room - usize::from(room > 1);
            places.retain(|place| {
                let height = heights.get(*place).copied().unwrap_or(1);
                let fits = height <= left;
                left = if fits { left - height } else { 0 };
                fits
            });
            // The first may have more lines than there are.
            return match places.as_slice() {
                [] => all().take(1).collect(),
                _ => all().filter(|(place, _)| places.contains(place)).collect(),
            };
        }
        let selected = selected.unwrap_or_default();
        let taken = |first: usize| heights.get(first..=selected).unwrap_or_default().iter().sum::<usize>();
        looked.first = looked.first.min(selected);
        let room = room - usize::from(room > 1);
        while taken(looked.first) > room && looked.first < selected {
            looked.first += 1;
        }
        let mut left = room;
        let fitting = all().skip(looked.first).take_while(|(place, _)| {
            let fits = left > 0;
            left = left.saturating_sub(heights.get(*place).copied().unwrap_or(1));
            fits
        });
        fitting.collect()
    }

    fn draw_title(&self, area: Rect, buffer: &mut Buffer, way: Way) {
        let width = usize::from(area.width);
        put(buffer, area.x, area.y, &way.glyphs.rule().repeat(width), width, Tone::Dim);
        let mut x = area.x + 1;
        let title = format!(" {} ", self.title);
        let taken = put(buffer, x, area.y, &title, width.saturating_sub(1), Tone::Strong);
        if way.is_focused {
            buffer.set_style(Rect { x, y: area.y, width: taken, height: 1 }, Modifier::REVERSED);
        }
        x += taken;
        let room = width.saturating_sub(usize::from(x - area.x) + 2);
        if !self.summary.is_empty() && room > 6 {
            let summary = format!(" {} ", cut(&self.summary, room - 2, way.glyphs.more()));
            put(buffer, x, area.y, &summary, room, self.tone);
        }
    }

    fn draw_header(&self, widths: &[Option<usize>], looked: &Looked, area: Rect, buffer: &mut Buffer) {
        let mut x = area.x + 2;
        for (column, width) in self.columns.iter().zip(widths) {
            let Some(width) = *width else { continue };
            let title = aligned(column.title, width, column.kind == Kind::Number);
            let is_sorted = !column.title.is_empty() && looked.sorted == Some(column.title);
            put(buffer, x, area.y, &title, width, if is_sorted { Tone::Strong } else { Tone::Dim });
            x = x.saturating_add(u16::try_from(width + GAP).unwrap_or(u16::MAX));
        }
    }

    fn draw_row(&self, row: &Row, widths: &[Option<usize>], area: Rect, buffer: &mut Buffer, glyphs: Glyphs) {
        let mut x = area.x + 2;
        for ((column, width), cell) in self.columns.iter().zip(widths).zip(&row.cells) {
            let Some(width) = *width else { continue };
            match column.kind {
                Kind::Bar => {
                    if let Some(part) = cell.number {
                        let (filled, empty) = bar(part, width, glyphs);
                        let taken = put(buffer, x, area.y, &filled, width, cell.tone);
                        put(buffer, x + taken, area.y, &empty, width.saturating_sub(usize::from(taken)), Tone::Dim);
                    }
                }
                Kind::Spark => {
                    let line = spark(&cell.values, cell.most, width.min(cell.values.len().max(1)), glyphs);
                    put(buffer, x, area.y, &aligned(&line, width, true), width, cell.tone);
                }
                kind => {
                    let text = aligned(&cut(&cell.text, width, glyphs.more()), width, kind == Kind::Number);
                    put(buffer, x, area.y, &text, width, cell.tone);
                }
            }
            x = x.saturating_add(u16::try_from(width + GAP).unwrap_or(u16::MAX));
        }
    }

    /// The width of each column; none for one without room.
    fn widths(&self, room: usize, shown: &[(usize, &Row)]) -> Vec<Option<usize>> {
        let cells = |index: usize| shown.iter().filter_map(move |(_, row)| row.cells.get(index));
        let natural = |(index, column): (usize, &Column)| {
            let longest = cells(index).map(|cell| width_of(&cell.text)).max().unwrap_or_default();
            let title = width_of(column.title);
            match column.kind {
                Kind::Text(most) => longest.min(most).max(title),
                Kind::Rest => longest.clamp(12, 24).max(title),
                Kind::Number => longest.max(title),
                Kind::Bar => 10,
                Kind::Spark => 12,
            }
        };
        let mut widths = self.columns.iter().enumerate().map(natural).map(Some).collect::<Vec<_>>();
        // A column in which nothing is has no place either.
        for (index, width) in widths.iter_mut().enumerate() {
            let is_empty = |cell: &Cell| cell.text.is_empty() && cell.number.is_none() && cell.values.is_empty();
            if index > 0 && !shown.is_empty() && cells(index).all(is_empty) {
                *width = None;
            }
        }
        let total = |widths: &[Option<usize>]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while total(&widths) > room {
            let least = widths
                .iter()
                .zip(&self.columns)
                .enumerate()
                .filter(|(_, (width, column))| width.is_some() && column.rank > 0);
            let Some((index, _)) = least.max_by_key(|(_, (_, column))| column.rank) else { break };
            if let Some(width) = widths.get_mut(index) {
                *width = None;
            }
        }
        let over = total(&widths).saturating_sub(room);
        if let Some(Some(first)) = widths.first_mut() {
            *first = first.saturating_sub(over).max(6);
        }
        // What is left belongs to those that can use it.
        for (kind, most) in [(Kind::Bar, 20), (Kind::Spark, 60), (Kind::Rest, usize::MAX)] {
            let left = room.saturating_sub(total(&widths));
            if let Some((width, _)) =
                widths.iter_mut().zip(&self.columns).find(|(width, column)| width.is_some() && column.kind == kind)
                && let Some(own) = width
            {
                *own = (*own + if kind == Kind::Bar { left / 3 } else { left }).min(most);
            }
        }
        widths
    }
}

/// What is between two columns.
const GAP: usize = 2;

/// How many lines a row has.
fn height(row: &Row, width: usize) -> usize {
    1 + row.below.iter().map(|(_, text)| wrapped(text, width.saturating_sub(4)).len()).sum::<usize>()
}

fn aligned(text: &str, width: usize, is_right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(width_of(text)));
    if is_right { space + text } else { text.to_owned() + &space }
}
