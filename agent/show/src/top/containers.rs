//! The containers of the engine: what each uses, and how it is doing.

use super::paint::Tone;
use super::seen::{Seen, last};
use super::table::{Block, Cell, Column, Kind, Row};
use crate::state::ContainerReport;
use crate::words;

const COLUMNS: [Column; 11] = [
    Column { title: "CONTAINER", kind: Kind::Text(24), rank: 0 },
    Column { title: "STATE", kind: Kind::Text(20), rank: 0 },
    Column { title: "CPU", kind: Kind::Number, rank: 0 },
    Column { title: "MEMORY", kind: Kind::Number, rank: 0 },
    Column { title: "OF LIMIT", kind: Kind::Bar, rank: 6 },
    Column { title: "IN", kind: Kind::Number, rank: 3 },
    Column { title: "OUT", kind: Kind::Number, rank: 3 },
    Column { title: "UP", kind: Kind::Number, rank: 1 },
    Column { title: "RESTARTS", kind: Kind::Number, rank: 2 },
    Column { title: "IMAGE", kind: Kind::Text(30), rank: 8 },
    Column { title: "", kind: Kind::Spark, rank: 7 },
];

pub(super) fn block(seen: &Seen) -> Block {
    let mut containers = seen.containers.iter().collect::<Vec<_>>();
    containers.sort_by_key(|container| (std::cmp::Reverse(tone(container)), container.name.clone()));
    let rows = containers.iter().map(|container| row(seen, container)).collect::<Vec<_>>();
    let count = |word: &str, is: &dyn Fn(&ContainerReport) -> bool| {
        let count = containers.iter().filter(|container| is(container)).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    let summary = [
        Some(containers.len().to_string()),
        count("unhealthy", &|container| container.health.as_deref() == Some("unhealthy")),
        count("not running", &|container| container.state != "running"),
    ];
    let tone =
        containers.iter().map(|container| tone(container)).max().filter(|tone| *tone > Tone::Good).unwrap_or(Tone::Dim);
    Block {
        title: "containers",
        summary: summary.into_iter().flatten().collect::<Vec<_>>().join(", "),
        tone,
        columns: COLUMNS.to_vec(),
        rows,
        ..Block::default()
    }
}

fn tone(container: &ContainerReport) -> Tone {
    match (container.state.as_str(), container.health.as_deref()) {
        (_, Some("unhealthy")) | ("restarting" | "dead", _) => Tone::Bad,
        ("running", Some("starting")) => Tone::Warn,
        ("running", Some("healthy")) => Tone::Good,
        ("running", _) => Tone::Plain,
        _ => Tone::Dim,
    }
}

fn row(seen: &Seen, container: &ContainerReport) -> Row {
    let segment = &container.segment;
    let key = |graph: &str, metric: &str| format!("custom.docker.{graph}.{segment}.{metric}");
    let joined = |keys: [String; 2]| seen.joined(&keys.each_ref().map(String::as_str), |values| values.iter().sum());
    let cpu = joined([key("cpuacct_percentage", "user"), key("cpuacct_percentage", "system")]);
    // What the kernel would give back is not in use, where that is measured.
    let used = seen.last(&key("memory_usage", "used")).or_else(|| seen.last(&key("memory", "rss")));
    let limit =
        container.memory_limit_bytes.map(|bytes| bytes as f64).or_else(|| seen.last(&key("memory_usage", "limit")));
    let limit = limit.filter(|limit| *limit > 0.0);
    let memory = match (used, limit) {
        (Some(used), Some(limit)) => words::of("bytes", used, limit),
        (used, _) => words::maybe("bytes", used),
    };
    let network = |metric: &str| {
        let rate = seen.last(&key("network", metric));
        Cell::number(rate.map(|rate| words::value("bytes/sec", rate)).unwrap_or_default(), rate)
    };
    let is_running = container.state == "running";
    let started = container.started.filter(|_| is_running);
    let health = container.health.as_deref().filter(|_| is_running);
    let state = health.map_or_else(|| container.state.clone(), str::to_owned);
    let now = last(&cpu);
    let cells = vec![
        Cell::text(&container.name),
        Cell::text(state).toned(tone(container)),
        Cell::number(words::maybe("percentage", now), now),
        Cell::number(memory, used),
        used.zip(limit).map_or_else(Cell::default, |(used, limit)| Cell::bar(Some(used / limit))),
        network("rx"),
        network("tx"),
        Cell::number(
            started.map(|since| words::between(since, seen.state.now)).unwrap_or_default(),
            started.map(|since| seen.state.now.saturating_sub(since) as f64),
        ),
        Cell::number(
            container.restarts.map(|count| count.to_string()).unwrap_or_default(),
            container.restarts.map(|count| count as f64),
        ),
        Cell::text(&container.image),
        Cell::spark(cpu, None),
    ];
    let mut about = vec![(Tone::Plain, format!("{}, {}", container.image, container.state))];
    about.extend(container.health.iter().map(|health| (tone(container), format!("health check: {health}"))));
    let own = format!(".{segment}.");
    let is_own = |key: &&String| key.starts_with("custom.docker.") && key.contains(&own) && !key.contains(" @");
    let keys = seen.lines().map(|(_, line)| &line.key).filter(is_own).cloned();
    let mut keys = keys.collect::<Vec<_>>();
    keys.sort_by_key(|key| !key.starts_with("custom.docker.cpuacct_percentage."));
    Row { id: format!("container {}", container.name), cells, about, keys, ..Row::default() }
}
