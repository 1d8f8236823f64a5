//! One thing alone: what is known of it, and its metrics, of which one is drawn large.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::keys::Key;
use super::paint::{Tone, cut, put, wrapped};
use super::plot::Large;
use super::seen::Seen;
use super::table::{Block, Cell, Column, Kind, Looked, Row, Way};
use super::view::{Filter, Options, all, stepped};
use crate::feed::Series;
use crate::words;

/// The hours that a plot may show.
const HOURS: [i64; 3] = [1, 6, 24];

const COLUMNS: [Column; 4] = [
    Column { title: "METRIC", kind: Kind::Text(44), rank: 0 },
    Column { title: "NOW", kind: Kind::Number, rank: 0 },
    Column { title: "NAME", kind: Kind::Text(60), rank: 1 },
    Column { title: "", kind: Kind::Spark, rank: 2 },
];

/// What is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// All metrics.
    All,
    /// A row of a block, by its id.
    Row(String),
}

/// What is open, and how.
#[derive(Debug)]
pub(super) struct Open {
    of: Of,
    looked: Looked,
    pub(super) filter: Filter,
    hours: usize,
    /// The first line of the text that is shown.
    first: usize,
    /// The values of the metric that was asked for last, and for how many hours.
    pub(super) day: Option<((String, i64), Series)>,
}

impl Open {
    pub(super) fn new(of: Of) -> Self {
        Self { of, looked: Looked::default(), filter: Filter::default(), hours: HOURS.len() - 1, first: 0, day: None }
    }

    /// Takes a key. Returns whether it did.
    pub(super) fn press(&mut self, key: Key, seen: &Seen, page: usize) -> bool {
        if self.filter.press(key) {
            return true;
        }
        let page = i64::try_from(page.max(1)).unwrap_or(10);
        let by = match key {
            Key::Up | Key::Char('k') => -1,
            Key::Down | Key::Char('j') => 1,
            Key::PageUp => -page,
            Key::PageDown => page,
            Key::Home | Key::Char('g') => i64::MIN,
            Key::End | Key::Char('G') => i64::MAX,
            Key::Left => {
                self.hours = self.hours.saturating_sub(1);
                return true;
            }
            Key::Right => {
                self.hours = (self.hours + 1).min(HOURS.len() - 1);
                return true;
            }
            Key::Char('/') => {
                self.filter.is_typed = true;
                return true;
            }
            Key::Esc if !self.filter.text.is_empty() => {
                self.filter = Filter::default();
                return true;
            }
            _ => return false,
        };
        let metrics = self.metrics(seen);
        match metrics.selected(&self.looked) {
            Some(row) => {
                let id = stepped(metrics.rows.len(), row, by).and_then(|row| Some(metrics.rows.get(row)?.id.clone()));
                self.looked.selected = id;
            }
            None => {
                self.first =
                    usize::try_from(i64::try_from(self.first).unwrap_or_default().saturating_add(by).clamp(0, 10_000))
                        .unwrap_or_default()
            }
        }
        true
    }

    pub(super) fn has_metrics(&self, seen: &Seen) -> bool {
        self.of == Of::All || self.row(seen).is_some_and(|row| !row.keys.is_empty())
    }

    /// The metric to ask for, and for how many hours.
    pub(super) fn wanted(&self, seen: &Seen) -> Option<(String, i64)> {
        let metrics = self.metrics(seen);
        let row = metrics.rows.get(metrics.selected(&self.looked)?)?;
        Some((row.id.clone(), HOURS.get(self.hours).copied()?))
    }

    fn row(&self, seen: &Seen) -> Option<Row> {
        let Of::Row(id) = &self.of else { return None };
        all(seen).into_iter().flat_map(|block| block.rows).find(|row| row.id == *id)
    }

    /// The metrics as a table, whose rows are called as the metrics are.
    fn metrics(&self, seen: &Seen) -> Block {
        let row = |key: &str, unit: &str, label: String| {
            let now = seen.last(key);
            Row {
                id: key.to_owned(),
                cells: vec![
                    Cell::text(label),
                    Cell::number(words::maybe(unit, now), now),
                    Cell::text(key).toned(Tone::Dim),
                    Cell::spark(seen.hour(key).to_vec(), None),
                ],
                ..Row::default()
            }
        };
        let own = self.row(seen).map(|row| row.keys);
        let mut rows = Vec::new();
        match (&self.of, own) {
            (Of::All, _) => rows.extend(seen.lines().map(|(plot, line)| {
                let host = plot.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                row(&line.key, &plot.unit, format!("{host}{}: {}", plot.title, line.label))
            })),
            (Of::Row(_), Some(keys)) => {
                for key in &keys {
                    let found = seen.lines().find(|(_, line)| line.key == *key);
                    let (unit, label) = found.map_or(("float", key.clone()), |(plot, line)| {
                        (plot.unit.as_str(), format!("{}: {}", plot.title, line.label))
                    });
                    rows.push(row(key, unit, label));
                }
            }
            (Of::Row(_), None) => {}
        }
        let count = rows.len();
        let mut block =
            Block { title: "metrics", tone: Tone::Dim, columns: COLUMNS.to_vec(), rows, ..Block::default() };
        block.arrange(&self.filter.text, &self.looked);
        block.summary =
            if block.rows.len() == count { count.to_string() } else { format!("{} of {count}", block.rows.len()) };
        block
    }

    pub(super) fn draw(&mut self, seen: &Seen, options: Options, area: Rect, buffer: &mut Buffer) {
        let width = usize::from(area.width);
        let row = self.row(seen);
        let (title, about) = match (&self.of, row) {
            (Of::All, _) => ("all metrics".to_owned(), Vec::new()),
            (Of::Row(id), Some(row)) => (id.clone(), row.about),
            (Of::Row(id), None) => (id.clone(), vec![(Tone::Warn, "it is not there any more".to_owned())]),
        };
        put(buffer, area.x, area.y, &options.glyphs.rule().repeat(width), width, Tone::Dim);
        let title = format!(" {} ", cut(&title, width.saturating_sub(8), options.glyphs.more()));
        put(buffer, area.x + 1, area.y, &title, width, Tone::Strong);
        let metrics = self.metrics(seen);
        let has_plot = !metrics.rows.is_empty() || !self.filter.text.is_empty() || self.filter.is_typed;
        let lines = about
            .iter()
            .flat_map(|(tone, text)| wrapped(text, width.saturating_sub(4)).into_iter().map(move |line| (*tone, line)));
        let lines = lines.collect::<Vec<_>>();
        let room = usize::from(area.height).saturating_sub(1);
        let most = if has_plot { room / 3 } else { room };
        self.first = self.first.min(lines.len().saturating_sub(most));
        let first = if has_plot { 0 } else { self.first };
        let mut y = area.y + 1;
        for (tone, line) in lines.iter().skip(first).take(most) {
            put(buffer, area.x + 2, y, line, width.saturating_sub(3), *tone);
            y += 1;
        }
        if !has_plot {
            return;
        }
        let left = area.bottom().saturating_sub(y);
        let list = (left / 3).max(4).min(left);
        let plot = Rect { y, height: left - list, ..area };
        self.draw_plot(seen, options, &metrics, plot, buffer);
        let way = Way { glyphs: options.glyphs, is_focused: true };
        metrics.draw(&mut self.looked, Rect { y: y + plot.height, height: list, ..area }, buffer, way);
    }

    fn draw_plot(&self, seen: &Seen, options: Options, metrics: &Block, area: Rect, buffer: &mut Buffer) {
        let width = usize::from(area.width);
        let selected = metrics.selected(&self.looked).and_then(|row| metrics.rows.get(row));
        let (Some(row), true) = (selected, area.height > 3) else { return };
        let unit = seen.lines().find(|(_, line)| line.key == row.id).map_or("float", |(plot, _)| plot.unit.as_str());
        let label = row.cells.first().map(|cell| cell.text.clone()).unwrap_or_default();
        let hours = HOURS.get(self.hours).copied().unwrap_or(24);
        let head = format!("{label}, {hours} h");
        let taken = put(
            buffer,
            area.x + 2,
            area.y,
            &cut(&head, width.saturating_sub(4), options.glyphs.more()),
            width,
            Tone::Strong,
        );
        let day = self.day.as_ref().filter(|(wanted, _)| wanted.0 == row.id && wanted.1 == hours);
        let Some((series, values)) = day.and_then(|(_, series)| Some((series, series.values.get(&row.id)?))) else {
            put(buffer, area.x + 2, area.y + 2, "reading the history", width, Tone::Dim);
            return;
        };
        let facts = facts(values, series.start, unit, options.east);
        let room = width.saturating_sub(usize::from(taken) + 5);
        put(buffer, area.x + 4 + taken, area.y, &cut(&facts, room, options.glyphs.more()), room, Tone::Dim);
        let plot = Rect { y: area.y + 1, height: area.height - 1, width: area.width.saturating_sub(1), ..area };
        Large { values, start: series.start, unit, east: options.east, glyphs: options.glyphs }.draw(plot, buffer);
    }
}

/// What a plot does not say: its least, average and highest value, when those were, and how much is missing.
fn facts(values: &[Option<f64>], start: i64, unit: &str, east: i64) -> String {
    let known = || values.iter().enumerate().filter_map(|(minute, value)| Some((minute, (*value)?)));
    let Some((first, _)) = known().next() else { return "no values".to_owned() };
    let least = known().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let most = known().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let average = known().map(|(_, value)| value).sum::<f64>() / known().count() as f64;
    let at = |minute: usize| words::clock(start.saturating_add(i64::try_from(minute).unwrap_or_default() * 60), east);
    let extreme = |name: &str, found: Option<(usize, f64)>| {
        found
            .map(|(minute, value)| format!("{name} {} at {}", words::value(unit, value), at(minute)))
            .unwrap_or_default()
    };
    let mut text =
        format!("{}, {}, average {}", extreme("most", most), extreme("least", least), words::value(unit, average));
    // What was before the first value is not missing, and neither is the minute that is not over.
    let missing = values
        .get(first..values.len().saturating_sub(1))
        .unwrap_or_default()
        .iter()
        .filter(|value| value.is_none())
        .count();
    if missing > 0 {
        text += &format!(", {missing} min missing");
    }
    text
}
