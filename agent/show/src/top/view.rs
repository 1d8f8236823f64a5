//! The view: what is looked at, what each key does, and the picture for a window of any size.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::keys::Key;
use super::open::{Of, Open};
use super::paint::{Tone, cut, put, text_of, width_of, wrapped};
use super::plot::{Glyphs, Large};
use super::seen::Seen;
use super::table::{Block, Looked, Way};
use super::{checks, containers, delivery, host, plugins};
use crate::words;

/// How many blocks there are.
const BLOCKS: usize = 5;

/// The host, of which a few lines are always shown.
const HOST: usize = 0;

/// From so many columns on, there are two columns of blocks.
const WIDE: u16 = 150;

/// The lines of a plot that is drawn where there is room left.
const LEAST_PLOT: u16 = 8;
const MOST_PLOT: u16 = 20;

/// Windows that are smaller have no picture.
const LEAST: (u16, u16) = (40, 8);

/// How long it is said that the agent was restarted.
const RESTART_SHOWN_SECONDS: i64 = 60;

/// What does not change while the view is open.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What pictures are made of.
    pub glyphs: Glyphs,
    /// The time zone: so many seconds east of UTC.
    pub east: i64,
    /// Whether the agent ends with the view.
    pub is_local: bool,
}

/// The view.
#[derive(Debug)]
pub struct Top {
    /// What was seen last.
    pub seen: Seen,
    /// The last lines of the agent's log, if this is the agent.
    pub log: Vec<String>,
    options: Options,
    focus: usize,
    looked: [Looked; BLOCKS],
    filter: Filter,
    open: Option<Open>,
    has_help: bool,
    is_frozen: bool,
    /// The rows of a page, as they were drawn last.
    page: usize,
}

/// A text that is looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) text: String,
    pub(super) is_typed: bool,
}

impl Filter {
    /// Takes a key while it is typed. Returns whether it did.
    pub(super) fn press(&mut self, key: Key) -> bool {
        if !self.is_typed {
            return false;
        }
        match key {
            Key::Char(char) => self.text.push(char),
            Key::Backspace => drop(self.text.pop()),
            Key::Ctrl('u') => self.text.clear(),
            Key::Enter => self.is_typed = false,
            Key::Esc => *self = Self::default(),
            _ => return false,
        }
        true
    }

    /// How it is shown, if it is there.
    pub(super) fn shown(&self) -> Option<String> {
        match (self.is_typed, self.text.as_str()) {
            (true, text) => Some(format!("/{text}_  Enter keeps it, Esc drops it")),
            (false, "") => None,
            (false, text) => Some(format!("/{text}  Esc shows everything")),
        }
    }
}

/// What a key asks of whoever runs the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Another picture.
    Drawn,
    /// The end.
    Ended,
    /// Everything written again.
    Redrawn,
}

impl Top {
    /// A view of what was seen.
    #[must_use]
    pub fn new(seen: Seen, options: Options) -> Self {
        Self {
            seen,
            log: Vec::new(),
            options,
            focus: HOST,
            looked: Default::default(),
            filter: Filter::default(),
            open: None,
            has_help: false,
            is_frozen: false,
            page: 10,
        }
    }

    /// Whether what is shown stays as it is.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// The metric that is drawn large, and for how many hours.
    #[must_use]
    pub fn wanted(&self) -> Option<(String, i64)> {
        self.open.as_ref().and_then(|open| open.wanted(&self.seen))
    }

    /// Takes what was wanted.
    pub fn take_day(&mut self, wanted: (String, i64), series: crate::feed::Series) {
        if let Some(open) = &mut self.open {
            open.day = Some((wanted, series));
        }
    }

    /// Presses a key.
    pub fn press(&mut self, key: Key) -> Asked {
        if key == Key::Ctrl('c') {
            return Asked::Ended;
        }
        if key == Key::Ctrl('l') {
            return Asked::Redrawn;
        }
        if std::mem::take(&mut self.has_help) {
            return Asked::Drawn;
        }
        if let Some(open) = &mut self.open {
            if open.press(key, &self.seen, self.page) {
                return Asked::Drawn;
            }
        } else if self.filter.press(key) {
            self.find();
            return Asked::Drawn;
        }
        match (key, self.open.is_some()) {
            (Key::Char('?' | 'h'), _) => self.has_help = true,
            (Key::Char('p' | ' '), _) => self.is_frozen = !self.is_frozen,
            (Key::Char('m'), false) => self.open = Some(Open::new(Of::All)),
            (Key::Esc | Key::Char('q') | Key::Backspace, true) => self.open = None,
            (_, true) => {}
            (Key::Esc, false) if !self.filter.text.is_empty() => self.filter = Filter::default(),
            (Key::Esc | Key::Char('q'), false) => return Asked::Ended,
            (key, false) => self.press_in_blocks(key),
        }
        Asked::Drawn
    }

    fn press_in_blocks(&mut self, key: Key) {
        let blocks = self.blocks();
        let places = blocks.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        let own = places.iter().position(|place| *place == self.focus).unwrap_or_default();
        let page = i64::try_from(self.page.max(1)).unwrap_or(10);
        match key {
            Key::Tab | Key::Right => self.focus = turned(&places, own, 1),
            Key::BackTab | Key::Left => self.focus = turned(&places, own, places.len().saturating_sub(1)),
            Key::Char('/') => self.filter.is_typed = true,
            Key::Char(digit @ '1'..='9') => {
                let place = digit.to_digit(10).and_then(|digit| places.get(digit as usize - 1));
                self.focus = place.copied().unwrap_or(self.focus);
            }
            Key::Up | Key::Char('k') => self.step(&blocks, -1),
            Key::Down | Key::Char('j') => self.step(&blocks, 1),
            Key::PageUp => self.step(&blocks, -page),
            Key::PageDown => self.step(&blocks, page),
            Key::Home | Key::Char('g') => self.step(&blocks, i64::MIN),
            Key::End | Key::Char('G') => self.step(&blocks, i64::MAX),
            Key::Char('s') => self.sort(&blocks),
            Key::Char('S' | 'r') => {
                if let Some(looked) = self.looked.get_mut(self.focus) {
                    looked.is_reversed = !looked.is_reversed;
                }
            }
            Key::Enter => {
                if let Some((block, row)) = self.selected(&blocks) {
                    let id = block.rows.get(row).map(|row| row.id.clone());
                    self.open = id.map(|id| Open::new(Of::Row(id)));
                }
            }
            _ => {}
        }
    }

    /// The focused block, and its selected row.
    fn selected<'a>(&self, blocks: &'a [(usize, Block)]) -> Option<(&'a Block, usize)> {
        let (place, block) = blocks.iter().find(|(place, _)| *place == self.focus)?;
        Some((block, block.selected(self.looked.get(*place)?)?))
    }

    fn step(&mut self, blocks: &[(usize, Block)], by: i64) {
        let Some((block, row)) = self.selected(blocks) else { return };
        let id = stepped(block.rows.len(), row, by).and_then(|row| Some(block.rows.get(row)?.id.clone()));
        if let Some(looked) = self.looked.get_mut(self.focus) {
            looked.selected = id;
        }
    }

    /// Sorts by the next column, and after the last one as at first.
    fn sort(&mut self, blocks: &[(usize, Block)]) {
        let Some((_, block)) = blocks.iter().find(|(place, _)| *place == self.focus) else { return };
        let Some(looked) = self.looked.get_mut(self.focus) else { return };
        let mut columns = block.sortable();
        looked.sorted = match looked.sorted {
            None => columns.next(),
            Some(sorted) => columns.skip_while(|title| *title != sorted).nth(1),
        };
        looked.is_reversed = false;
    }

    /// Leads to the first block in which the filter finds something.
    fn find(&mut self) {
        let blocks = self.blocks();
        let has = |place: usize| blocks.iter().any(|(other, block)| *other == place && !block.rows.is_empty());
        if !has(self.focus)
            && let Some((place, _)) = blocks.iter().find(|(place, _)| has(*place))
        {
            self.focus = *place;
        }
    }

    /// The blocks that have something to show, arranged.
    fn blocks(&self) -> Vec<(usize, Block)> {
        let all = all(&self.seen).into_iter().enumerate();
        // The host and the delivery are always there.
        let mut shown =
            all.filter(|(place, block)| matches!(place, 0 | 4) || !block.rows.is_empty()).collect::<Vec<_>>();
        for (place, block) in &mut shown {
            if let Some(looked) = self.looked.get(*place) {
                block.arrange(&self.filter.text, looked);
            }
        }
        shown
    }

    /// The picture for a window of this size.
    pub fn draw(&mut self, width: u16, height: u16) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        if width < LEAST.0 || height < LEAST.1 {
            let text = format!("wasaba top needs {}x{}", LEAST.0, LEAST.1);
            put(&mut buffer, 0, 0, &text, usize::from(width), Tone::Warn);
            return buffer;
        }
        let taken = self.draw_head(area, &mut buffer);
        let footer = Rect { y: area.bottom() - 1, height: 1, ..area };
        self.draw_footer(footer, &mut buffer);
        let lines = match height {
            ..16 => 0,
            16..30 => self.log.len().min(2),
            _ => self.log.len(),
        };
        let log = u16::try_from(lines).unwrap_or_default();
        for (line, y) in self.log.iter().skip(self.log.len() - lines).zip(footer.y.saturating_sub(log)..) {
            put(
                &mut buffer,
                1,
                y,
                &cut(line, usize::from(width) - 2, self.options.glyphs.more()),
                usize::from(width),
                Tone::Dim,
            );
        }
        let body = Rect { y: taken, height: footer.y.saturating_sub(taken + log), ..area };
        self.page = usize::from(body.height) / 2;
        if self.has_help {
            draw_help(body, &mut buffer);
        } else if let Some(open) = &mut self.open {
            open.draw(&self.seen, self.options, body, &mut buffer);
        } else {
            self.draw_blocks(body, &mut buffer);
        }
        buffer
    }

    /// Draws who this is, and how it is doing. Returns how many lines that took.
    fn draw_head(&self, area: Rect, buffer: &mut Buffer) -> u16 {
        let glyphs = self.options.glyphs;
        let width = usize::from(area.width);
        let state = &self.seen.state;
        let clock = words::clock_with_seconds(state.now, self.options.east);
        let (right, tone) = match (self.is_frozen, &self.seen.silent) {
            (true, _) => (format!("frozen at {clock}, p continues"), Tone::Warn),
            (false, Some(_)) => (format!("as of {clock}"), Tone::Warn),
            (false, None) => (clock, Tone::Plain),
        };
        let x = area.width.saturating_sub(u16::try_from(width_of(&right) + 1).unwrap_or(u16::MAX));
        put(buffer, x, area.y, &right, width, tone);
        let name = state.host.name.clone().or_else(|| state.host.id.clone()).unwrap_or_else(|| "this host".to_owned());
        let mut facts =
            vec![format!("wasaba {}", state.version), format!("up {}", words::seconds(state.uptime_seconds))];
        facts.extend(state.host.name.as_ref().and(state.host.id.clone()));
        let room = usize::from(x).saturating_sub(2);
        let taken = put(buffer, 1, area.y, &cut(&name, room, glyphs.more()), room, Tone::Strong);
        let facts = format!("{}{}", glyphs.between(), facts.join(glyphs.between()));
        let room = room.saturating_sub(usize::from(taken));
        put(buffer, 1 + taken, area.y, &cut(&facts, room, glyphs.more()), room, Tone::Dim);
        let (tone, text) = self.doing();
        let most = if area.height < 30 { 2 } else { 4 };
        let mut lines = wrapped(&text, width.saturating_sub(4));
        if lines.len() > most {
            lines.truncate(most);
            if let Some(last) = lines.last_mut() {
                *last = cut(&format!("{last} {}", glyphs.more()), width.saturating_sub(4), glyphs.more());
            }
        }
        put(buffer, 1, area.y + 1, glyphs.dot(), 1, tone);
        for (line, y) in lines.iter().zip(area.y + 1..) {
            put(buffer, 3, y, line, width.saturating_sub(4), tone);
        }
        1 + u16::try_from(lines.len()).unwrap_or(1)
    }

    /// How the agent is doing, in a sentence.
    fn doing(&self) -> (Tone, String) {
        let state = &self.seen.state;
        if let Some((since, why)) = &self.seen.silent {
            return (
                Tone::Bad,
                format!(
                    "the agent has not answered since {}: {why}",
                    words::clock_with_seconds(*since, self.options.east)
                ),
            );
        }
        let restarted = self.seen.restarted.filter(|at| state.now.saturating_sub(*at) < RESTART_SHOWN_SECONDS);
        let restarted = restarted
            .map(|at| format!("the agent was restarted at {}; ", words::clock_with_seconds(at, self.options.east)));
        let restarted = restarted.unwrap_or_default();
        let (tone, text) = match state.judge() {
            Ok(summary) => (Tone::Good, summary),
            Err(why) => (Tone::Bad, why),
        };
        // A line is short.
        (tone, format!("{restarted}{}", text.strip_prefix("the agent is ").unwrap_or(&text)))
    }

    fn draw_footer(&self, area: Rect, buffer: &mut Buffer) {
        let width = usize::from(area.width);
        let filter = self.open.as_ref().map_or(&self.filter, |open| &open.filter);
        if let Some(text) = filter.shown() {
            put(buffer, 1, area.y, &text, width, Tone::Accent);
            return;
        }
        let end = if self.options.is_local { "stop the agent" } else { "quit" };
        let keys: &[(&str, &str)] = match (&self.open, self.has_help) {
            (_, true) => &[("any key", "closes this")],
            (Some(open), _) if open.has_metrics(&self.seen) => &[
                ("Esc", "back"),
                ("up/down", "metric"),
                ("left/right", "1, 6, 24 h"),
                ("/", "search"),
                ("p", "freeze"),
                ("?", "help"),
            ],
            (Some(_), _) => &[("Esc", "back"), ("up/down", "scroll"), ("p", "freeze"), ("?", "help")],
            _ => &[
                ("q", end),
                ("?", "help"),
                ("Tab", "block"),
                ("up/down", "row"),
                ("Enter", "open"),
                ("s", "sort"),
                ("/", "filter"),
                ("m", "metrics"),
                ("p", "freeze"),
            ],
        };
        let mut x = 1;
        for (key, does) in keys {
            if usize::from(x) + width_of(key) + width_of(does) + 3 > width {
                break;
            }
            x += put(buffer, x, area.y, key, width, Tone::Accent) + 1;
            x += put(buffer, x, area.y, does, width, Tone::Dim) + 2;
        }
    }

    fn draw_blocks(&mut self, area: Rect, buffer: &mut Buffer) {
        let blocks = self.blocks();
        if !blocks.iter().any(|(place, _)| *place == self.focus) {
            self.focus = HOST;
        }
        let columns = if area.width < WIDE {
            vec![(area, blocks)]
        } else {
            let (left, right) = blocks.into_iter().partition(|(place, _)| *place < 2);
            let half = area.width / 2;
            vec![
                (Rect { width: half - 1, ..area }, left),
                (Rect { x: area.x + half + 1, width: area.width - half - 1, ..area }, right),
            ]
        };
        for (place, (area, blocks)) in columns.into_iter().enumerate() {
            let is_first = place == 0;
            let wanted = blocks.iter().map(|(place, block)| Wanted {
                lines: block.height(usize::from(area.width)),
                is_host: *place == HOST,
                is_focused: *place == self.focus,
                is_urgent: block.tone >= Tone::Warn,
            });
            let wanted = wanted.collect::<Vec<_>>();
            let heights = share(usize::from(area.height).saturating_sub(blocks.len()), &wanted);
            let mut y = area.y;
            for ((place, block), lines) in blocks.iter().zip(heights) {
                let height = u16::try_from(lines + 1).unwrap_or(u16::MAX).min(area.bottom().saturating_sub(y));
                let way = Way { glyphs: self.options.glyphs, is_focused: *place == self.focus };
                if let Some(looked) = self.looked.get_mut(*place) {
                    block.draw(looked, Rect { y, height, ..area }, buffer, way);
                }
                y += height;
            }
            let rest = Rect { y, height: area.bottom().saturating_sub(y).min(MOST_PLOT), ..area };
            if is_first && rest.height >= LEAST_PLOT {
                self.draw_hour(rest, buffer);
            }
        }
    }

    /// Draws the last hour of what is selected, where there is room for it.
    fn draw_hour(&self, area: Rect, buffer: &mut Buffer) {
        let blocks = self.blocks();
        let selected = self.selected(&blocks).and_then(|(block, row)| block.rows.get(row)?.keys.first());
        let Some(key) = selected.or_else(|| blocks.first()?.1.rows.first()?.keys.first()) else { return };
        let Some((plot, line)) = self.seen.lines().find(|(_, line)| line.key == *key) else { return };
        let (glyphs, width) = (self.options.glyphs, usize::from(area.width));
        put(buffer, area.x, area.y, &glyphs.rule().repeat(width), width, Tone::Dim);
        let title = format!(" {}: {}, the last hour ", plot.title, line.label);
        put(buffer, area.x + 1, area.y, &cut(&title, width.saturating_sub(2), glyphs.more()), width, Tone::Strong);
        let values = self.seen.hour(key);
        let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
        Large { values, start: self.seen.hour.start, unit: &plot.unit, east: self.options.east, glyphs }
            .draw(below, buffer);
    }
}

/// All blocks, in their places.
pub(super) fn all(seen: &Seen) -> [Block; BLOCKS] {
    [host::block(seen), containers::block(seen), plugins::block(seen), checks::block(seen), delivery::block(seen)]
}

/// Everything at once as text, for what is not a terminal.
#[must_use]
pub fn plain(seen: Seen, options: Options, width: u16) -> String {
    let top = Top::new(seen, options);
    let blocks = top.blocks();
    let lines = |block: &Block| block.height(usize::from(width)) + 1;
    let height = u16::try_from(8 + blocks.iter().map(|(_, block)| lines(block)).sum::<usize>()).unwrap_or(u16::MAX);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let mut y = top.draw_head(buffer.area, &mut buffer);
    for (_, block) in &blocks {
        let height = u16::try_from(lines(block)).unwrap_or(u16::MAX).min(height.saturating_sub(y));
        let way = Way { glyphs: options.glyphs, is_focused: false };
        block.draw(&mut Looked::default(), Rect { x: 0, y, width, height }, &mut buffer, way);
        y += height;
    }
    text_of(&buffer).trim_end().to_owned() + "\n"
}

/// What a block would have of a column.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    lines: usize,
    is_host: bool,
    is_focused: bool,
    is_urgent: bool,
}

/// How many of `room` lines each block has: a few of the host's always, then what is wrong, then as many as wanted of what is focused.
fn share(room: usize, wanted: &[Wanted]) -> Vec<usize> {
    let mut given = vec![0; wanted.len()];
    let mut left = room;
    let mut give = |given: &mut [usize], place: usize, most: usize| {
        if let (Some(given), Some(wanted)) = (given.get_mut(place), wanted.get(place)) {
            let more = wanted.lines.min(most).saturating_sub(*given).min(left);
            *given += more;
            left -= more;
        }
    };
    let places =
        |is: fn(&Wanted) -> bool| wanted.iter().enumerate().filter(move |(_, one)| is(one)).map(|(place, _)| place);
    places(|one| one.is_host).for_each(|place| give(&mut given, place, 6));
    places(|one| one.is_urgent).for_each(|place| give(&mut given, place, 2));
    places(|one| !one.is_host).for_each(|place| give(&mut given, place, 1));
    places(|one| one.is_focused).for_each(|place| give(&mut given, place, usize::MAX));
    let mut most = 1;
    // Line by line, so that none has all.
    while most <= room {
        (0..wanted.len()).for_each(|place| give(&mut given, place, most));
        most += 1;
    }
    given
}

/// The next place in a circle.
fn turned(places: &[usize], own: usize, by: usize) -> usize {
    places.get((own + by) % places.len().max(1)).copied().unwrap_or_default()
}

/// The row that many rows on, not beyond the first or the last.
pub(super) fn stepped(rows: usize, row: usize, by: i64) -> Option<usize> {
    let last = i64::try_from(rows.checked_sub(1)?).ok()?;
    usize::try_from(i64::try_from(row).ok()?.saturating_add(by).clamp(0, last)).ok()
}

const HELP: [(&str, &str); 14] = [
    ("Tab, 1 to 5", "to another block"),
    ("up, down, j, k", "to another row; also PageUp, PageDown, Home, End"),
    ("Enter", "opens what is selected: its text, and its metrics large over 24 hours"),
    ("m", "all metrics; / searches among them"),
    ("left, right", "in a plot: the last hour, 6 hours, 24 hours"),
    ("/", "shows only rows with a text; Esc shows everything"),
    ("s", "sorts by the next column, and after the last as at first"),
    ("S", "turns the order around"),
    ("p, space", "freezes what is shown, and continues"),
    ("Ctrl-L", "draws everything again"),
    ("Esc", "closes what is open, else ends"),
    ("q, Ctrl-C", "ends; where this is the agent, it stops"),
    ("", ""),
    ("", "The line of a row is its last hour, a character for each minute or several; a gap is a gap."),
];

fn draw_help(area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    let mut y = area.y + 1;
    for (key, does) in HELP {
        put(buffer, 2, y, key, width, Tone::Accent);
        for line in wrapped(does, width.saturating_sub(22)) {
            if y < area.bottom() {
                put(buffer, 20, y, &line, width.saturating_sub(20), Tone::Plain);
                y += 1;
            }
        }
        if does.is_empty() {
            y += 1;
        }
    }
}
