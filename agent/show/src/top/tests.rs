//! The view of a frozen machine: its pictures in three sizes, as golden files, and what the keys do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Color, Modifier};
use tokio::sync::{mpsc, watch};
use wasaba_core::graph::{Defined, GraphDefinition};

use super::follow::{News, Wants, follow};
use super::keys::{Decoder, Key};
use super::paint::text_of;
use super::plot::Glyphs;
use super::seen::Seen;
use super::view::{Asked, Options, Top, plain};
use crate::feed::{Answered, Feed, Request, Series};
use crate::plots::plots;
use crate::state::{
    AgentState, CheckReport, CollectorReport, ContainerReport, FaultReport, HostReport, LaneReport, PluginReport,
    QueueReport, ServerReport, State,
};

const NOW: i64 = 1_800_000_000;

const OPTIONS: Options = Options { glyphs: Glyphs::Unicode, east: 9 * 3_600, is_local: false };

/// An agent with one of everything, whose values are those of a formula.
struct Frozen {
    state: Mutex<Result<AgentState, String>>,
    asked: Mutex<Vec<Request>>,
}

impl Frozen {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Ok(state())), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<&'static str> {
        let word = |request: &Request| match request {
            Request::State => "state",
            Request::Plots => "plots",
            Request::Containers => "containers",
            Request::Log => "log",
            Request::Series { .. } => "series",
        };
        std::mem::take(&mut *self.asked.lock().unwrap()).iter().map(word).collect()
    }
}

impl Feed for Frozen {
    fn ask(&self, request: Request) -> Answered {
        self.asked.lock().unwrap().push(request.clone());
        let answer = match request {
            Request::State => match &*self.state.lock().unwrap() {
                Ok(state) => Ok(serde_json::to_vec(state).unwrap()),
                Err(why) => Err(why.clone()),
            },
            Request::Containers => Ok(serde_json::to_vec(&found_containers()).unwrap()),
            Request::Plots => Ok(serde_json::to_vec(&plots(&keys(), &defined())).unwrap()),
            Request::Log => Ok(b"[]".to_vec()),
            Request::Series { keys, from, to } => Ok(serde_json::to_vec(&series(&keys, from, to)).unwrap()),
        };
        Box::pin(async move { answer })
    }
}

fn keys() -> Vec<String> {
    let gauges = gauges();
    gauges.iter().map(|(key, ..)| (*key).to_owned()).collect()
}

/// Each metric, with its middle and how far it swings.
fn gauges() -> Vec<(&'static str, f64, f64)> {
    let gib = f64::from(1 << 30);
    vec![
        ("loadavg1", 0.8, 0.6),
        ("loadavg5", 0.7, 0.3),
        ("loadavg15", 0.6, 0.1),
        ("cpu.user.percentage", 60.0, 40.0),
        ("cpu.system.percentage", 12.0, 4.0),
        ("cpu.iowait.percentage", 3.0, 2.0),
        ("cpu.steal.percentage", 0.0, 0.0),
        ("cpu.nice.percentage", 0.0, 0.0),
        ("cpu.idle.percentage", 125.0, -46.0),
        ("memory.total", 7.7 * gib, 0.0),
        ("memory.used", 5.9 * gib, 0.2 * gib),
        ("memory.mem_available", 1.6 * gib, -0.2 * gib),
        ("memory.cached", 1.2 * gib, 0.0),
        ("memory.swap_total", 2.0 * gib, 0.0),
        ("memory.swap_free", 1.9 * gib, 0.0),
        ("filesystem.vda1.size", 29.4 * gib, 0.0),
        ("filesystem.vda1.used", 12.3 * gib, 0.01 * gib),
        ("filesystem.vdb.size", 98.0 * gib, 0.0),
        ("filesystem.vdb.used", 94.1 * gib, 0.5 * gib),
        ("disk.vda.reads.delta", 3.0, 3.0),
        ("disk.vda.writes.delta", 40.0, 30.0),
        ("disk.vdb.reads.delta", 1.0, 1.0),
        ("disk.vdb.writes.delta", 2.0, 1.0),
        ("interface.eth0.rxBytes.delta", 1.2e6, 1.1e6),
        ("interface.eth0.txBytes.delta", 2.4e5, 1e5),
        ("interface.docker0.rxBytes.delta", 900.0, 800.0),
        ("interface.docker0.txBytes.delta", 1_500.0, 900.0),
        ("custom.docker.cpuacct_percentage.web.user", 21.0, 10.0),
        ("custom.docker.cpuacct_percentage.web.system", 4.0, 2.0),
        ("custom.docker.memory.web.rss", 0.25 * gib, 0.01 * gib),
        ("custom.docker.network.web.rx", 45_000.0, 20_000.0),
        ("custom.docker.network.web.tx", 120_000.0, 60_000.0),
        ("custom.docker.cpuacct_percentage.db.user", 2.0, 1.0),
        ("custom.docker.cpuacct_percentage.db.system", 0.4, 0.2),
        ("custom.docker.memory.db.rss", 0.48 * gib, 0.0),
        ("custom.nginx.requests.requests", 1_234.0, 900.0),
        ("custom.nginx.queue.waiting", 3.0, 3.0),
    ]
}

fn defined() -> Vec<Defined> {
    let graph = |owner: &str, name: &str, label: &str, unit: &'static str, metrics: &[(&str, &str)]| {
        let graph = GraphDefinition::new(name, label, unit).unwrap();
        let graph = metrics.iter().fold(graph, |graph, (name, label)| graph.with_metric(name, label, false).unwrap());
        Defined { owner: owner.into(), graph }
    };
    vec![
        graph(
            "docker",
            "docker.cpuacct_percentage.#",
            "Docker CPU Percentage",
            "percentage",
            &[("user", "User"), ("system", "System")],
        ),
        graph("docker", "docker.memory.#", "Docker Memory", "bytes", &[("rss", "RSS")]),
        graph("docker", "docker.network.#", "Docker Network", "bytes/sec", &[("rx", "Received"), ("tx", "Sent")]),
        graph("plugin web", "nginx.requests", "Nginx requests", "integer", &[("requests", "Requests")]),
        graph("plugin web", "nginx.queue", "Nginx queue", "integer", &[("waiting", "Waiting")]),
    ]
}

fn series(keys: &[String], from: i64, to: i64) -> Series {
    let (first, last) = (from.div_euclid(60), to.div_euclid(60));
    let gauges = gauges();
    let value = |key: &str, minute: i64| {
        let (_, middle, swing) = gauges.iter().find(|(known, ..)| *known == key)?;
        // A quarter of an hour is missing.
        let is_missing = (NOW / 60 - 2_000..NOW / 60).contains(&minute) && (NOW / 60 - minute - 20).unsigned_abs() < 4;
        let phase = ((minute % 1_440) as f64 / 45.0).sin() * 0.7 + ((minute % 1_440) as f64 / 7.0).sin() * 0.3;
        (!is_missing).then(|| (middle + swing * phase).max(0.0))
    };
    let values = keys.iter().map(|key| (key.clone(), (first..=last).map(|minute| value(key, minute)).collect()));
    Series { start: first * 60, minutes: usize::try_from(last - first + 1).unwrap(), values: values.collect() }
}

fn found_containers() -> Vec<ContainerReport> {
    let container = |name: &str, image: &str, state: &str, health: Option<&str>| ContainerReport {
        name: name.to_owned(),
        image: image.to_owned(),
        state: state.to_owned(),
        health: health.map(str::to_owned),
        started: Some(NOW - 183_600),
        restarts: Some(u64::from(name == "db") * 3),
        memory_limit_bytes: (name != "old").then_some(512 << 20),
        segment: name.to_owned(),
    };
    vec![
        container("web", "shop/web:1.4", "running", Some("healthy")),
        container("db", "postgres:17", "running", Some("unhealthy")),
        container("old", "shop/web:1.3", "exited", None),
    ]
}

fn state() -> AgentState {
    let lane = |lane: &str, last_success: Option<i64>, delivered| LaneReport {
        lane: lane.to_owned(),
        last_success,
        delivered,
        ..LaneReport::default()
    };
    let fault = FaultReport {
        since: NOW - 720,
        error: "Mackerel answered 503: busy".to_owned(),
        at_fault: "mackerel".to_owned(),
        cure: "nothing to do here, since it is tried again".to_owned(),
        next_try: NOW + 41,
    };
    let collector = |name: &str, took_ms, result: &str, values, failed, problems: &[&str]| CollectorReport {
        name: name.to_owned(),
        asked: NOW - 12,
        took_ms,
        result: result.to_owned(),
        values,
        problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
        collections: 60,
        failed,
    };
    let check = |name: &str, status: &str, since, message: &str| CheckReport {
        name: name.to_owned(),
        status: status.to_owned(),
        since,
        ran: NOW - 30,
        took_ms: 12.5,
        message: message.to_owned(),
    };
    AgentState {
        version: "0.1.0".to_owned(),
        process: 4_242,
        now: NOW,
        uptime_seconds: 11_520,
        host: HostReport { id: Some("4Hkc5RVYYB4".to_owned()), name: Some("web-1".to_owned()), cpus: Some(2) },
        server: Some(ServerReport { apibase: "https://api.mackerelio.com".to_owned(), proxy: None }),
        collected_seconds_ago: 12,
        delivered_seconds_ago: Some(252),
        lanes: vec![
            LaneReport { fault: Some(fault), failures_in_hour: 9, ..lane("values", Some(NOW - 252), 5_400) },
            LaneReport { dropped: BTreeMap::from([("refused".to_owned(), 2)]), ..lane("check reports", Some(NOW - 20), 12) },
            lane("metadata", None, 0),
        ],
        queue: Some(QueueReport {
            points: 360,
            minutes: 12,
            oldest: Some(NOW - 780),
            file_bytes: Some(54_321),
            hours_held: Some(29.7),
            memory: None,
            collected: 5_769,
            delivered: 5_400,
            losses: BTreeMap::from([("rejected".to_owned(), 9)]),
        }),
        plugins: vec![
            PluginReport {
                name: "web".to_owned(),
                component: Some("nginx 1.2.0".to_owned()),
                file: Some("/usr/lib/wasaba/plugins/nginx.wasm".to_owned()),
                calls: 192,
                last_ms: 1.4,
                memory_bytes: 1_310_720,
                sent_bytes: 20_000,
                received_bytes: 90_000,
                refusals: 3,
                refused: vec![
                    "denied: no grant for http://10.0.0.5:80; to grant it, write `allow = [\"http://10.0.0.5:80\"]` into [plugin.metrics.web]"
                        .to_owned(),
                ],
                ..PluginReport::default()
            },
            PluginReport {
                name: "db".to_owned(),
                state: State::Failing,
                problems: vec!["timed out after 20 s".to_owned()],
                skipped_until: Some(NOW + 150),
                calls: 9,
                failures: vec![("late".to_owned(), 3)],
                last_ms: 20_000.0,
                memory_bytes: 4 << 20,
                ..PluginReport::default()
            },
        ],
        collectors: vec![
            collector("cpu", 0.31, "values", 9, 0, &[]),
            collector("plugin web", 1.4, "values", 2, 0, &[]),
            collector("plugin db", 20_000.0, "timed out", 0, 3, &[]),
            collector("plugin backup", 350.0, "values", 4, 0, &[]),
            collector("filesystem", 1.2, "values", 4, 0, &["skipped `/mnt`: it hangs"]),
        ],
        checks: vec![
            check("ssh", "OK", NOW - 11_500, ""),
            check("disk", "CRITICAL", NOW - 3_900, "96 % of /data are used\nsee the runbook"),
        ],
        ..AgentState::default()
    }
}

fn seen() -> Seen {
    let plots = plots(&keys(), &defined());
    Seen {
        state: state(),
        containers: found_containers(),
        plots,
        hour: series(&keys(), NOW - 12 - 59 * 60, NOW - 12),
        ..Seen::default()
    }
}

fn top() -> Top {
    Top::new(seen(), OPTIONS)
}

/// Presses what is typed.
fn press(top: &mut Top, typed: &str) -> Asked {
    let mut decoder = Decoder::default();
    let mut keys = decoder.push(typed.as_bytes());
    keys.extend(decoder.flush());
    let asked = keys.into_iter().fold(Asked::Drawn, |_, key| top.press(key));
    // As the loop does it.
    if let Some((key, hours)) = top.wanted() {
        top.take_day((key.clone(), hours), series(&[key], NOW - 12 - hours * 3_600 + 60, NOW - 12));
    }
    asked
}

fn shown(top: &mut Top, width: u16, height: u16) -> String {
    text_of(&top.draw(width, height))
}

fn assert_golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, golden, "differs from {}; record it again with UPDATE=1 and read the diff", file.display());
}

/// The colours and weights of a picture, a letter for each cell: red, green, yellow and cyan; capital letters are bold, `-` is dim, `#`
/// reversed.
fn tones(buffer: &Buffer) -> String {
    let letter = |fg: Color, modifier: Modifier| {
        let letter = match fg {
            Color::Red => 'r',
            Color::Green => 'g',
            Color::Yellow => 'y',
            Color::Cyan => 'c',
            _ if modifier.contains(Modifier::REVERSED) => '#',
            _ if modifier.contains(Modifier::DIM) => '-',
            _ if modifier.contains(Modifier::BOLD) => 'b',
            _ => ' ',
        };
        if modifier.contains(Modifier::BOLD) { letter.to_ascii_uppercase() } else { letter }
    };
    let lines = buffer.content.chunks(usize::from(buffer.area.width));
    let line = |cells: &[ratatui_core::buffer::Cell]| {
        cells.iter().map(|cell| letter(cell.fg, cell.modifier)).collect::<String>()
    };
    lines.map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_view_of_a_frozen_machine_is_the_golden_one_in_three_sizes() {
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let text = shown(&mut top(), width, height);
        assert_eq!(text.lines().count(), usize::from(height));
        assert_golden(&format!("{width}x{height}.txt"), &text);
    }
}

#[test]
fn the_colours_of_the_view_are_the_golden_ones() {
    assert_golden("80x24-colours.txt", &tones(&top().draw(80, 24)));
}

#[test]
fn on_the_console_of_linux_the_view_has_only_signs_of_ascii() {
    let mut top = Top::new(seen(), Options { glyphs: Glyphs::Ascii, ..OPTIONS });
    let text = shown(&mut top, 80, 24);
    assert!(text.is_ascii(), "{text}");
    assert_golden("80x24-ascii.txt", &text);
    press(&mut top, "\r");
    let text = shown(&mut top, 80, 24);
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn as_text_everything_is_there_whatever_its_height() {
    let text = plain(seen(), OPTIONS, 120);
    assert_golden("plain.txt", &text);
    for part in ["allow = [", "nothing to do here", "96 % of /data", "dropped points", "12 min", "old"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn a_metric_is_drawn_large_over_a_day_and_over_an_hour_and_its_gap_is_counted() {
    let mut top = top();
    press(&mut top, "j\r");
    assert_eq!(top.wanted(), Some(("cpu.user.percentage".to_owned(), 24)));
    assert_golden("large.txt", &shown(&mut top, 120, 40));
    press(&mut top, "\x1b[D\x1b[D");
    assert_eq!(top.wanted(), Some(("cpu.user.percentage".to_owned(), 1)));
    let text = shown(&mut top, 100, 24);
    assert!(text.contains("CPU: user, 1 h") && text.contains("7 min missing"), "{text}");
    press(&mut top, "j");
    assert_eq!(top.wanted().unwrap().0, "cpu.system.percentage");
    assert_eq!((press(&mut top, "\x1b"), top.wanted()), (Asked::Drawn, None));
}

#[test]
fn any_metric_is_found_by_a_part_of_its_title_or_its_name() {
    let mut top = top();
    press(&mut top, "m/nginx");
    let text = shown(&mut top, 120, 40);
    assert!(
        text.contains("Nginx requests: Requests") && text.contains("2 of 37") && !text.contains("loadavg1"),
        "{text}"
    );
    press(&mut top, "\r");
    assert_eq!(top.wanted().unwrap().0, "custom.nginx.queue.waiting");
    press(&mut top, "j");
    assert_eq!(top.wanted().unwrap().0, "custom.nginx.requests.requests");
    // Escape drops the search first, then closes.
    press(&mut top, "\x1b");
    assert!(shown(&mut top, 120, 40).contains("metrics  37 "));
    press(&mut top, "\x1b");
    assert!(shown(&mut top, 120, 40).contains("containers"));
}

#[test]
fn what_is_selected_is_opened_with_everything_that_is_known_of_it() {
    let mut top = top();
    press(&mut top, "\t\t");
    press(&mut top, "j\r");
    let text = shown(&mut top, 100, 40);
    for part in
        ["plugin web", "to grant it, write", "component nginx 1.2.0", "Nginx requests: Requests", "received 87.9 KiB"]
    {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    press(&mut top, "\x1b");
    press(&mut top, "\t\r");
    let text = shown(&mut top, 100, 40);
    assert!(
        text.contains("check disk") && text.contains("see the runbook") && text.contains("CRITICAL for 1 h 5 min"),
        "{text}"
    );
}

#[test]
fn a_filter_leaves_the_rows_that_have_its_text_and_escape_shows_all_again() {
    let mut top = top();
    press(&mut top, "/vdb");
    let text = shown(&mut top, 120, 40);
    assert!(text.contains("fs vdb") && !text.contains("fs vda1") && text.contains("/vdb_"), "{text}");
    press(&mut top, "\r");
    assert!(shown(&mut top, 120, 40).contains("Esc shows everything"));
    assert_eq!(press(&mut top, "\x1b"), Asked::Drawn);
    assert!(shown(&mut top, 120, 40).contains("fs vda1"));
}

#[test]
fn a_filter_that_finds_nothing_in_the_block_with_the_keys_leads_to_one_where_it_does() {
    let mut top = top();
    press(&mut top, "/postgres\r\r");
    assert!(shown(&mut top, 120, 40).contains("container db"));
}

#[test]
fn the_rows_are_sorted_by_each_column_and_turned_around() {
    let order = |top: &mut Top| {
        let text = shown(top, 120, 40);
        let names = text.lines().filter_map(|line| {
            let line = line.trim_start_matches('▸').trim_start();
            ["web ", "db ", "old "]
                .into_iter()
                .find(|name| line.starts_with(name) && (line.contains("512 MiB") || line.contains("exited")))
        });
        names.map(str::trim).collect::<Vec<_>>()
    };
    let mut top = top();
    press(&mut top, "\t");
    assert_eq!(order(&mut top), ["db", "web", "old"], "what is wrong first");
    press(&mut top, "s");
    assert_eq!(order(&mut top), ["db", "old", "web"], "by name");
    press(&mut top, "ss");
    assert_eq!(order(&mut top), ["web", "db", "old"], "by CPU");
    press(&mut top, "S");
    assert_eq!(order(&mut top), ["old", "db", "web"]);
    press(&mut top, "ssssssss");
    assert_eq!(order(&mut top), ["db", "web", "old"], "as at first");
}

#[test]
fn the_selected_row_stays_selected_when_others_come_and_is_always_shown() {
    let mut top = top();
    let container = found_containers()[0].clone();
    let many = (0..50).map(|number| ContainerReport { name: format!("c{number:02}"), ..container.clone() });
    top.seen.containers = many.collect();
    press(&mut top, "\t");
    press(&mut top, "G");
    assert!(shown(&mut top, 80, 24).contains("▸ c49"), "{}", shown(&mut top, 80, 24));
    press(&mut top, "k");
    top.seen.containers.insert(0, ContainerReport { name: "a".to_owned(), ..container });
    assert!(shown(&mut top, 80, 24).contains("▸ c48"));
    top.seen.containers.clear();
    assert!(shown(&mut top, 80, 24).contains("load"), "a block that is gone loses the keys");
}

#[test]
fn keys_end_the_view_and_help_is_closed_by_any_key() {
    for end in ["q", "\x1b", "\x03"] {
        assert_eq!(press(&mut top(), end), Asked::Ended, "{end:?}");
    }
    let mut top = top();
    press(&mut top, "?");
    assert!(shown(&mut top, 80, 24).contains("freezes"));
    assert_eq!(press(&mut top, "q"), Asked::Drawn);
    assert!(!shown(&mut top, 80, 24).contains("freezes"));
    assert_eq!(press(&mut top, "\x0c"), Asked::Redrawn);
}

#[test]
fn what_is_frozen_stays_until_it_is_not() {
    let mut top = top();
    press(&mut top, "p");
    let later = AgentState { now: NOW + 5, ..state() };
    super::take(&mut top, News::State(Box::new(later)));
    assert!(shown(&mut top, 80, 24).contains("frozen at 17:00:00"));
    press(&mut top, " ");
    let later = AgentState { now: NOW + 5, ..state() };
    super::take(&mut top, News::State(Box::new(later)));
    assert!(shown(&mut top, 80, 24).contains("17:00:05") && !shown(&mut top, 80, 24).contains("frozen"));
}

#[test]
fn an_agent_that_ends_is_said_to_and_one_in_its_place_to_be_another() {
    let mut top = top();
    super::take(&mut top, News::Silent("no agent is running with this root".to_owned()));
    let text = shown(&mut top, 80, 24);
    assert!(
        text.contains("the agent has not answered since 17:00:00: no agent is running")
            && text.contains("as of 17:00:00"),
        "{text}"
    );
    let other = AgentState { process: 4_711, now: NOW + 40, uptime_seconds: 3, ..state() };
    super::take(&mut top, News::State(Box::new(other)));
    let text = shown(&mut top, 80, 24);
    assert!(text.contains("the agent was restarted at 17:00:37") && !text.contains("has not answered"), "{text}");
}

#[test]
fn every_size_has_a_picture_and_none_is_overfilled() {
    for (width, height) in [(1, 1), (39, 7), (40, 8), (60, 10), (80, 24), (149, 17), (150, 17), (300, 100), (80, 500)] {
        for typed in ["?", "m", "\r", "\t\t\r", "\t\t\t\r", "\t\t", "/x"] {
            let mut top = top();
            top.log = vec!["2026/11/24 10:00:00 INFO hello".to_owned(); 5];
            press(&mut top, typed);
            let buffer = top.draw(width, height);
            assert_eq!((buffer.area.width, buffer.area.height), (width, height));
        }
    }
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let mut top = top();
    let evil = "a\x1b]0;x\x07\u{202e}\r\n\u{9b}2Jb";
    top.seen.containers[0].name = evil.to_owned();
    top.seen.state.checks[0].message = evil.to_owned();
    top.seen.state.plugins[0].problems = vec![evil.to_owned()];
    top.seen.state.lanes[0].fault.as_mut().unwrap().error = evil.to_owned();
    top.seen.state.host.name = Some(evil.to_owned());
    top.log = vec![evil.to_owned()];
    for typed in ["\t", "\t\r", "\t\t\r"] {
        press(&mut top, typed);
        let text = shown(&mut top, 200, 60);
        assert!(!text.chars().any(|char| char != '\n' && (char.is_control() || char == '\u{202e}')), "{text:?}");
        assert!(text.contains("\\u{1b}]0;x"), "{text}");
        press(&mut top, "\x1b");
    }
}

#[test]
fn an_agent_that_has_just_started_without_a_key_says_so() {
    let state = AgentState {
        version: "0.1.0".to_owned(),
        process: 1,
        now: NOW,
        queue: Some(QueueReport::default()),
        ..AgentState::default()
    };
    let mut top = Top::new(Seen { state, ..Seen::default() }, Options { is_local: true, ..OPTIONS });
    top.log = vec!["2027/01/15 17:00:00 INFO no API key: the values stay on this machine, for 24 h".to_owned()];
    assert_golden("80x24-local.txt", &shown(&mut top, 80, 24));
}

#[tokio::test(start_paused = true)]
async fn the_history_is_asked_for_once_a_minute_and_nothing_while_the_view_is_frozen() {
    let feed = Frozen::new();
    let (wants, wanted) = watch::channel(Wants::default());
    let (news, mut arrived) = mpsc::channel(100);
    let task = tokio::spawn(follow(Arc::<Frozen>::clone(&feed), wanted, news));
    let after = async |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    after(0).await;
    tokio::task::yield_now().await;
    assert_eq!(feed.asked(), ["state", "containers", "plots", "series"]);
    *feed.state.lock().unwrap() = Ok(AgentState { now: NOW + 2, collected_seconds_ago: 14, ..state() });
    after(2).await;
    assert!(feed.asked().iter().all(|word| *word == "state"));
    *feed.state.lock().unwrap() = Ok(AgentState { now: NOW + 60, ..state() });
    after(1).await;
    assert!(feed.asked().contains(&"series"), "a new minute");
    wants.send_replace(Wants { is_frozen: true, large: Some(("loadavg1".to_owned(), 24)) });
    after(600).await;
    assert_eq!(feed.asked(), ["series"], "only what was opened");
    wants.send_replace(Wants::default());
    *feed.state.lock().unwrap() = Err("it is ending".to_owned());
    after(1).await;
    drop(wants);
    after(2).await;
    assert!(task.is_finished());
    let mut found = Vec::new();
    while let Ok(news) = arrived.try_recv() {
        found.push(match news {
            News::State(_) => "state",
            News::History(history) => {
                if history.is_ok() {
                    "history"
                } else {
                    "unread"
                }
            }
            News::Large((key, 24), series) if series.values[&key].len() == 1_440 => "large",
            News::Large(..) => "another",
            News::Silent(_) => "silent",
        });
    }
    found.dedup();
    assert_eq!(found, ["state", "history", "state", "history", "large", "silent"]);
}

#[test]
fn a_key_that_is_of_no_use_here_changes_nothing() {
    let mut top = top();
    let before = shown(&mut top, 80, 24);
    for key in [Key::Char('x'), Key::Ctrl('x'), Key::Backspace] {
        assert_eq!(top.press(key), Asked::Drawn);
    }
    assert_eq!(shown(&mut top, 80, 24), before);
}
