//! The checks: what each found, since when, and what it said.

use super::paint::Tone;
use super::seen::Seen;
use super::table::{Block, Cell, Column, Kind, Row};
use crate::state::CheckReport;
use crate::words;

const COLUMNS: [Column; 5] = [
    Column { title: "CHECK", kind: Kind::Text(24), rank: 0 },
    Column { title: "STATUS", kind: Kind::Text(8), rank: 0 },
    Column { title: "FOR", kind: Kind::Number, rank: 0 },
    Column { title: "RAN", kind: Kind::Number, rank: 2 },
    Column { title: "MESSAGE", kind: Kind::Rest, rank: 1 },
];

/// The states in the order in which they are shown.
const ORDER: [(&str, Tone); 4] =
    [("CRITICAL", Tone::Bad), ("UNKNOWN", Tone::Warn), ("WARNING", Tone::Warn), ("OK", Tone::Good)];

pub(super) fn block(seen: &Seen) -> Block {
    let mut checks = seen.state.checks.iter().collect::<Vec<_>>();
    checks.sort_by_key(|check| (place(&check.status), check.name.clone()));
    let mut summary = vec![checks.len().to_string()];
    for (status, _) in ORDER.iter().filter(|(status, _)| *status != "OK") {
        let count = checks.iter().filter(|check| check.status == *status).count();
        summary.extend((count > 0).then(|| format!("{count} {status}")));
    }
    let rows = checks.iter().map(|check| row(check, seen.state.now)).collect::<Vec<_>>();
    let tone =
        checks.iter().map(|check| tone(&check.status)).max().filter(|tone| *tone > Tone::Good).unwrap_or(Tone::Dim);
    Block { title: "checks", summary: summary.join(", "), tone, columns: COLUMNS.to_vec(), rows, ..Block::default() }
}

fn row(check: &CheckReport, now: i64) -> Row {
    let CheckReport { name, status, since, ran, message, .. } = check;
    let cells = vec![
        Cell::text(name),
        Cell::text(status).toned(tone(status)),
        Cell::number(words::between(*since, now), Some(now.saturating_sub(*since) as f64)),
        Cell::number(words::ago(*ran, now), Some(now.saturating_sub(*ran) as f64)),
        Cell::text(message.lines().next().unwrap_or_default()),
    ];
    let mut about =
        vec![(tone(status), format!("{status} for {}, ran {}", words::between(*since, now), words::ago(*ran, now)))];
    about.push((Tone::Plain, message.clone()));
    Row { id: format!("check {name}"), cells, about, ..Row::default() }
}

fn place(status: &str) -> usize {
    ORDER.iter().position(|(known, _)| *known == status).unwrap_or_default()
}

fn tone(status: &str) -> Tone {
    ORDER.iter().find(|(known, _)| *known == status).map_or(Tone::Warn, |(_, tone)| *tone)
}
