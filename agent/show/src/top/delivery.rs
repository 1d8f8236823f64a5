//! The delivery: what waits, what Mackerel answered last, and what was dropped and why.

use wasaba_core::text::counted;

use super::paint::Tone;
use super::seen::Seen;
use super::table::{Block, Cell, Column, Kind, Row};
use crate::state::{FaultReport, LaneReport, QueueReport, place};
use crate::words;

const COLUMNS: [Column; 5] = [
    Column { title: "LANE", kind: Kind::Text(30), rank: 0 },
    Column { title: "STATE", kind: Kind::Text(44), rank: 0 },
    Column { title: "LAST SUCCESS", kind: Kind::Number, rank: 1 },
    Column { title: "DELIVERED", kind: Kind::Number, rank: 2 },
    Column { title: "FAILED IN 1 H", kind: Kind::Number, rank: 3 },
];

pub(super) fn block(seen: &Seen) -> Block {
    let state = &seen.state;
    let is_local = state.server.is_none();
    let mut facts = vec![(Tone::Plain, flow(seen))];
    facts.extend(state.queue.as_ref().and_then(dropped).map(|text| (Tone::Warn, text)));
    let memory = state.queue.as_ref().and_then(|queue| queue.memory.as_ref());
    facts.extend(memory.map(|memory| {
        (
            Tone::Warn,
            format!("new values are in memory for {}: {}", words::between(memory.since, state.now), memory.why),
        )
    }));
    let mut lanes = if is_local { Vec::new() } else { state.lanes.iter().collect::<Vec<_>>() };
    lanes.sort_by_key(|lane| lane.fault.is_none());
    let rows = lanes.iter().map(|lane| row(lane, state.now)).collect::<Vec<_>>();
    let faults = lanes.iter().filter(|lane| lane.fault.is_some()).count() as u64;
    let (summary, tone) = match (is_local, faults, &state.queue) {
        (_, _, None) => ("the disk of the queue does not answer".to_owned(), Tone::Bad),
        (true, ..) => ("no API key: the values stay on this machine for 24 h".to_owned(), Tone::Dim),
        (false, 0, Some(queue)) => match state.delivered_seconds_ago {
            Some(ago) => {
                (format!("working, {} ago; {} queued", words::seconds(ago), words::count(queue.points)), Tone::Good)
            }
            None => (format!("nothing yet; {} queued", words::count(queue.points)), Tone::Warn),
        },
        (false, faults, Some(queue)) => {
            (format!("{} failing; {} queued", counted(faults, "lane"), words::count(queue.points)), Tone::Bad)
        }
    };
    Block { title: "delivery", summary, tone, facts, has_facts_last: faults > 0, columns: COLUMNS.to_vec(), rows }
}

/// What is collected each minute, and what of it waits.
fn flow(seen: &Seen) -> String {
    let state = &seen.state;
    let values = state.collectors.iter().map(|collector| collector.values as u64).sum::<u64>();
    let mut text = format!("{} a minute", counted(values, "point"));
    let Some(QueueReport { points, minutes, oldest, file_bytes, hours_held, collected, delivered, .. }) = &state.queue
    else {
        return text;
    };
    text += &format!(", {} collected", words::count(*collected));
    if state.server.is_some() {
        text += &format!(", {} delivered", words::count(*delivered));
    }
    text += &format!("; queued are {} of {}", words::count(*points), counted(*minutes, "minute"));
    if let Some(oldest) = oldest.filter(|_| *points > 0) {
        text += &format!(", the oldest from {}", words::ago(oldest, state.now));
    }
    if let Some(bytes) = file_bytes {
        text += &format!("; the file has {}", words::value("bytes", *bytes as f64));
    }
    // More is not kept.
    if let Some(hours) = hours_held.filter(|hours| *hours < 100.0) {
        text += &format!(", room for {hours:.0} h");
    }
    text
}

fn dropped(queue: &QueueReport) -> Option<String> {
    let losses = queue.losses.iter().filter(|(_, count)| **count > 0);
    let losses = losses.map(|(reason, count)| format!("{} {reason}", words::count(*count))).collect::<Vec<_>>();
    (!losses.is_empty()).then(|| format!("dropped points: {}", losses.join(", ")))
}

fn row(lane: &LaneReport, now: i64) -> Row {
    let LaneReport { lane, host, last_success, delivered, failures_in_hour, fault, dropped } = lane;
    let name = host.as_ref().map_or_else(|| lane.clone(), |host| format!("{lane} ({host})"));
    let mut below = Vec::new();
    let (state, tone) = match (fault, last_success) {
        (Some(FaultReport { since, error, at_fault, cure, next_try }), _) => {
            below.push((Tone::Bad, error.clone()));
            below.push((Tone::Warn, format!("the fault is {}: {cure}", place(at_fault))));
            (
                format!("failing for {}, next try in {}", words::between(*since, now), words::between(now, *next_try)),
                Tone::Bad,
            )
        }
        (None, Some(_)) => ("working".to_owned(), Tone::Good),
        (None, None) => ("nothing yet".to_owned(), Tone::Dim),
    };
    below.extend(dropped.iter().map(|(reason, count)| (Tone::Warn, format!("dropped {count}: {reason}"))));
    let cells = vec![
        Cell::text(&name),
        Cell::text(&state).toned(tone),
        Cell::number(
            last_success.map_or_else(|| "never".to_owned(), |at| words::ago(at, now)),
            last_success.map(|at| now.saturating_sub(at) as f64),
        ),
        Cell::number(words::count(*delivered), Some(*delivered as f64)),
        Cell::number(words::count(*failures_in_hour), Some(*failures_in_hour as f64)),
    ];
    let mut about = vec![(tone, state)];
    about.extend(below.iter().cloned());
    Row { id: format!("lane {name}"), cells, below, about, ..Row::default() }
}
