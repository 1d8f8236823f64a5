//! The host at a glance: what is used, and how the last hour was.

use wasaba_core::text::counted;

use super::paint::Tone;
use super::seen::{Seen, last};
use super::table::{Block, Cell, Column, Kind, Row};
use crate::words;

const COLUMNS: [Column; 4] = [
    Column { title: "", kind: Kind::Text(18), rank: 0 },
    Column { title: "", kind: Kind::Bar, rank: 1 },
    Column { title: "", kind: Kind::Text(64), rank: 0 },
    Column { title: "", kind: Kind::Spark, rank: 2 },
];

/// The modes of a CPU that are shown beside its bar, each with its name.
const MODES: [(&str, &str); 7] = [
    ("cpu.user.percentage", "user"),
    ("cpu.system.percentage", "system"),
    ("cpu.iowait.percentage", "iowait"),
    ("cpu.steal.percentage", "steal"),
    ("cpu.nice.percentage", "nice"),
    ("cpu.softirq.percentage", "softirq"),
    ("cpu.guest.percentage", "guest"),
];

pub(super) fn block(seen: &Seen) -> Block {
    let mut rows = Vec::new();
    rows.extend(load(seen));
    rows.extend(cpu(seen));
    rows.extend(memory(seen));
    rows.extend(swap(seen));
    rows.extend(file_systems(seen));
    rows.extend(disks(seen));
    rows.extend(interfaces(seen));
    let failing = failing(seen);
    let tone = failing.iter().map(Row::tone).max().unwrap_or(Tone::Dim);
    rows.extend(failing);
    let mut facts = seen.unread.iter().map(|why| (Tone::Warn, why.clone())).collect::<Vec<_>>();
    if rows.is_empty() && facts.is_empty() {
        facts.push((Tone::Dim, "no values yet: the first ones come within a minute of the agent's start".to_owned()));
    }
    let cpus = seen.state.host.cpus.map(|cpus| format!("{}; ", counted(cpus as u64, "CPU"))).unwrap_or_default();
    Block {
        title: "host",
        summary: format!("{cpus}lines are the last hour"),
        tone,
        facts,
        columns: COLUMNS.to_vec(),
        rows,
        ..Block::default()
    }
}

/// A row: its name, how full it is, what to read, its hour, and what a full line stands for.
fn row(name: &str, part: Option<f64>, text: String, hour: Vec<Option<f64>>, most: Option<f64>, keys: &[&str]) -> Row {
    let bar = part.map_or_else(Cell::default, |part| Cell::bar(Some(part)));
    Row {
        id: format!("host {name}"),
        cells: vec![Cell::text(name), bar, Cell::text(text), Cell::spark(hour, most)],
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Row::default()
    }
}

fn load(seen: &Seen) -> Option<Row> {
    let keys = ["loadavg1", "loadavg5", "loadavg15"];
    let shown = keys.iter().filter_map(|key| seen.last(key)).map(|load| format!("{load:.2}")).collect::<Vec<_>>();
    let hour = seen.hour("loadavg1").to_vec();
    // What is more waits for a CPU.
    let cpus = seen.state.host.cpus.map(|cpus| cpus as f64);
    let part = seen.last("loadavg1").zip(cpus).map(|(load, cpus)| load / cpus);
    (!hour.is_empty()).then(|| {
        let mut row = row("load", part, dashed(shown.join("  ")), hour, None, &keys);
        row.rank = 1;
        row
    })
}

fn cpu(seen: &Seen) -> Option<Row> {
    let keys = seen.between("cpu.", ".percentage").into_iter().map(|mode| format!("cpu.{mode}.percentage"));
    let keys = keys.filter(|key| key != "cpu.guest_nice.percentage").collect::<Vec<_>>();
    let keys = keys.iter().map(String::as_str).collect::<Vec<_>>();
    let idle = keys.iter().position(|key| *key == "cpu.idle.percentage")?;
    let waits = keys.iter().position(|key| *key == "cpu.iowait.percentage");
    let hour = seen.joined(&keys, |values| {
        let whole = values.iter().sum::<f64>();
        let rests = values.get(idle).copied().unwrap_or_default();
        let waits = waits.and_then(|waits| values.get(waits)).copied().unwrap_or_default();
        if whole > 0.0 { (whole - rests - waits) / whole } else { 0.0 }
    });
    let whole = last(&seen.joined(&keys, |values| values.iter().sum()));
    let modes = MODES.iter().enumerate().filter_map(|(place, (key, name))| {
        let share = seen.last(key)? / whole.filter(|whole| *whole > 0.0)? * 100.0;
        (place < 3 || share >= 0.5).then(|| format!("{name} {share:.0}"))
    });
    let busy = last(&hour);
    let text = busy.map(|busy| format!("{:.0} %  {}", busy * 100.0, modes.collect::<Vec<_>>().join(" ")));
    let mut row = row("CPU", busy, dashed(text.unwrap_or_default()), hour, Some(1.0), &busiest_first(keys));
    row.rank = 0;
    Some(row)
}

/// The idle share is the least interesting one.
fn busiest_first(mut keys: Vec<&str>) -> Vec<&str> {
    keys.sort_by_key(|key| {
        (MODES.iter().position(|(mode, _)| mode == key).unwrap_or(MODES.len()), *key == "cpu.idle.percentage")
    });
    keys
}

fn memory(seen: &Seen) -> Option<Row> {
    // What can be had without swapping counts as free, where the kernel says how much that is.
    let (keys, is_left): ([&str; 2], bool) = if seen.hour("memory.mem_available").is_empty() {
        (["memory.total", "memory.used"], false)
    } else {
        (["memory.total", "memory.mem_available"], true)
    };
    let used = seen.joined(&keys, |values| match values {
        [total, left] if is_left => total - left,
        [_, used] => *used,
        _ => 0.0,
    });
    let total = seen.last("memory.total")?;
    let part = last(&used).map(|used| used / total);
    let mut text = last(&used).map(|used| words::of("bytes", used, total)).unwrap_or_default();
    if let Some(cached) = seen.last("memory.cached") {
        text += &format!("  cached {}", words::value("bytes", cached));
    }
    let shown =
        ["memory.used", "memory.mem_available", "memory.cached", "memory.buffers", "memory.free", "memory.total"];
    let shown = shown.into_iter().filter(|key| !seen.hour(key).is_empty()).collect::<Vec<_>>();
    let mut row = row("memory", part, dashed(text), used, Some(total), &shown);
    row.rank = 2;
    Some(row)
}

fn swap(seen: &Seen) -> Option<Row> {
    let keys = ["memory.swap_total", "memory.swap_free"];
    let total = seen.last("memory.swap_total").filter(|total| *total > 0.0)?;
    let used = seen.joined(&keys, |values| if let [total, free] = values { total - free } else { 0.0 });
    let now = last(&used);
    let text = now.map(|used| words::of("bytes", used, total));
    let mut row = row("swap", now.map(|used| used / total), dashed(text.unwrap_or_default()), used, Some(total), &keys);
    row.rank = 6;
    Some(row)
}

fn file_systems(seen: &Seen) -> Vec<Row> {
    let mut found = Vec::new();
    for name in seen.between("filesystem.", ".size") {
        let keys = [format!("filesystem.{name}.used"), format!("filesystem.{name}.size")];
        let [used, size] = keys.each_ref().map(String::as_str);
        let Some(now) = seen.last(size).filter(|size| *size > 0.0) else { continue };
        let part = seen.last(used).map(|used| used / now);
        let text = seen.last(used).map(|used| words::of("bytes", used, now)).unwrap_or_default();
        let hour = seen.hour(used).to_vec();
        found.push((
            part.unwrap_or_default(),
            row(&format!("fs {name}"), part, dashed(text), hour, Some(now), &[used, size]),
        ));
    }
    ranked(found, 3)
}

fn disks(seen: &Seen) -> Vec<Row> {
    let mut found = Vec::new();
    for name in seen.between("disk.", ".reads.delta") {
        let keys = [format!("disk.{name}.reads.delta"), format!("disk.{name}.writes.delta")];
        found.push(pair(seen, &format!("disk {name}"), &keys, ["read", "write"], "iops"));
    }
    ranked(found, 4)
}

fn interfaces(seen: &Seen) -> Vec<Row> {
    let mut found = Vec::new();
    for name in seen.between("interface.", ".rxBytes.delta") {
        let keys = [format!("interface.{name}.rxBytes.delta"), format!("interface.{name}.txBytes.delta")];
        found.push(pair(seen, &format!("net {name}"), &keys, ["in", "out"], "bytes/sec"));
    }
    ranked(found, 5)
}

/// What goes in and out, with how much that was in the last hour.
fn pair(seen: &Seen, name: &str, keys: &[String; 2], called: [&str; 2], unit: &str) -> (f64, Row) {
    let keys = keys.each_ref().map(String::as_str);
    let hour = seen.joined(&keys, |values| values.iter().sum());
    let shown =
        keys.iter().zip(called).map(|(key, called)| format!("{called} {:<10}", words::maybe(unit, seen.last(key))));
    let text = shown.collect::<String>().trim_end().to_owned();
    let busy = hour.iter().flatten().sum();
    (busy, row(name, None, text, hour, None, &keys))
}

/// The fullest or busiest first, and that one before the others of all kinds where there is little room.
fn ranked(mut found: Vec<(f64, Row)>, first: u8) -> Vec<Row> {
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let rank = |(place, (_, mut row)): (usize, (f64, Row))| {
        row.rank = if place == 0 { first } else { first + 6 };
        row
    };
    found.into_iter().enumerate().map(rank).collect()
}

/// What of the host could not be read. Plugins have a block of their own.
fn failing(seen: &Seen) -> Vec<Row> {
    let collectors = seen.state.collectors.iter().filter(|collector| !collector.name.starts_with("plugin "));
    let failing = collectors
        .filter(|collector| !collector.problems.is_empty() || matches!(&*collector.result, "failed" | "timed out"));
    let row = |collector: &crate::state::CollectorReport| {
        let tone = if collector.result == "values" { Tone::Warn } else { Tone::Bad };
        let below = collector.problems.iter().map(|problem| (tone, problem.clone())).collect::<Vec<_>>();
        Row {
            id: format!("collector {}", collector.name),
            cells: vec![
                Cell::text(&collector.name).toned(tone),
                Cell::default(),
                Cell::text(match collector.result.as_str() {
                    "values" => format!("{}, and something was skipped", counted(collector.values as u64, "value")),
                    result => format!("{result}, {} of {}", collector.failed, counted(collector.collections, "time")),
                })
                .toned(tone),
                Cell::default(),
            ],
            about: below.clone(),
            below,
            ..Row::default()
        }
    };
    failing.map(row).collect()
}

fn dashed(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
