//! Any weather: spells in which any endpoints misbehave in any way, between which the agent is killed or started again, and in the end
//! all is well. Whatever the weather, the same promises must hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use wasaba_core::report::Status;

use super::FatalError;
use super::simulation::{
    AMBIGUOUS, Answers, BEGIN, Chokes, ERROR, Endpoint, Flaps, Forgets, Lines, MISBEHAVIOURS, MOST_REQUESTS, Mackerel,
    Misbehaviour, Output, WELL, definitions, pass, report, simulated, started,
};
use crate::drawn;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nothing,
    /// The agent is killed, and started again at once.
    Kill,
    /// The agent is stopped, and started again.
    Restart,
}

/// A time in which the same endpoints misbehave.
#[derive(Clone, Debug)]
struct Spell {
    minutes: u32,
    misbehaving: BTreeMap<Endpoint, Misbehaviour>,
    end: End,
}

fn spell() -> impl Strategy<Value = Spell> {
    let all = MISBEHAVIOURS.iter().chain(&AMBIGUOUS).map(|(_, misbehaviour)| *misbehaviour).collect::<Vec<_>>();
    let endpoints = [&Endpoint::USED[..], &[Endpoint::HostsOfName]].concat();
    let misbehaving = btree_map(prop::sample::select(endpoints), prop::sample::select(all), 0..5);
    let end = prop_oneof![4 => Just(End::Nothing), 1 => Just(End::Kill), 1 => Just(End::Restart)];
    // Short ones meet a lane in the middle of something.
    let minutes = prop_oneof![1..4_u32, 1..60_u32];
    (minutes, misbehaving, end).prop_map(|(minutes, misbehaving, end)| Spell { minutes, misbehaving, end })
}

/// An agent that runs.
pub(super) struct Running {
    pub(super) output: Output,
    run: Pin<Box<dyn Future<Output = Result<(), FatalError>>>>,
}

impl Running {
    pub(super) fn of(root: &Path, mackerel: SocketAddr, now: i64) -> Self {
        let (output, run) = Output::of(root, mackerel, now);
        Self { output, run: Box::pin(run) }
    }

    /// Lets a minute pass.
    pub(super) async fn minute(&mut self) -> Result<(), String> {
        tokio::select! {
            result = &mut self.run => Err(format!("the agent ended: {result:?}")),
            () = pass(Duration::from_secs(60)) => Ok(()),
        }
    }

    /// Stops it.
    pub(super) async fn stop(self) {
        self.output.shutdown.send(true).unwrap();
        tokio::select! {
            result = self.run => result.unwrap(),
            () = pass(Duration::from_secs(5)) => {}
        }
    }
}

/// What is on disk when a process is killed.
fn killed(root: &Path) -> PathBuf {
    let copy = root.with_extension("killed");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// The agent's life in these spells.
struct Life {
    mackerel: Arc<Mackerel>,
    minute: u32,
    /// How many reports were handed over, and the last.
    reports: (usize, Status),
    document: String,
    is_killed: bool,
    /// Until when only endpoints misbehaved that no value waits for.
    clear_minutes: u32,
}

async fn live(is_new: bool, spells: &[Spell], folder: &Path) -> Result<(), String> {
    let mackerel = Arc::new(Mackerel::default());
    let root = folder.join("root");
    std::fs::create_dir(&root).unwrap();
    if !is_new {
        std::fs::write(root.join("id"), "HOST1").unwrap();
        mackerel.seen().hosts = 1;
    }
    let address = Arc::clone(&mackerel).listen().await;
    let mut life = Life {
        mackerel: Arc::clone(&mackerel),
        minute: 0,
        reports: (0, Status::Ok),
        document: String::new(),
        is_killed: false,
        clear_minutes: 0,
    };
    let well = Spell { minutes: WELL, misbehaving: BTreeMap::new(), end: End::Nothing };
    let mut running = Running::of(&root, address, life.now());
    life.begin(&running.output);
    let mut is_clear = true;
    for spell in spells.iter().chain([&well]) {
        mackerel.seen().misbehaving.clone_from(&spell.misbehaving);
        let tried = mackerel.seen().tries.len();
        for _ in 0..spell.minutes {
            running.output.keep(life.minute);
            if life.minute.is_multiple_of(5) {
                life.change(&running.output);
            }
            life.minute += 1;
            running.minute().await?;
        }
        for (endpoint, misbehaviour) in &spell.misbehaving {
            let seen = mackerel.seen();
            let tries = seen.tries.iter().skip(tried).filter(|(of, _)| of == endpoint).count();
            if !matches!(misbehaviour, Chokes | Flaps) && tries > MOST_REQUESTS {
                return Err(format!("{tries} requests to {} in {} minutes", endpoint.name(), spell.minutes));
            }
        }
        let needed = [Endpoint::Values, Endpoint::LookUp, Endpoint::Registration];
        is_clear &= !needed.iter().any(|endpoint| spell.misbehaving.contains_key(endpoint));
        if is_clear {
            life.clear_minutes = life.minute;
        }
        if spell.end == End::Nothing {
            continue;
        }
        is_clear = false;
        if spell.end == End::Kill {
            let left = killed(&root);
            drop(running);
            std::fs::remove_dir_all(&root).unwrap();
            std::fs::rename(left, &root).unwrap();
            life.is_killed = true;
        } else {
            running.stop().await;
        }
        running = Running::of(&root, address, life.now());
        life.begin(&running.output);
    }
    life.judge(&running.output, spells)
}

impl Life {
    fn now(&self) -> i64 {
        BEGIN + i64::from(self.minute) * 60
    }

    /// As every agent does at its start.
    fn begin(&mut self, output: &Output) {
        self.change(output);
        output.document("b", "1");
    }

    fn change(&mut self, output: &Output) {
        let status = if self.reports.0.is_multiple_of(2) { Status::Critical } else { Status::Ok };
        output.reports.try_send(report("db", status, self.now())).unwrap();
        self.reports = (self.reports.0 + 1, status);
        self.document = self.reports.0.to_string();
        output.document("a", &self.document);
        output.defined.send(definitions(&["first", "second", "third"])).unwrap();
    }

    fn judge(&self, output: &Output, spells: &[Spell]) -> Result<(), String> {
        let seen = self.mackerel.seen();
        let mut broken = Vec::new();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        let forgot = spells.iter().flat_map(|spell| spell.misbehaving.values()).any(|what| *what == Forgets);
        let is_once = !forgot && !self.is_killed;
        let minutes = self.minute as usize;
        let of = |host: &str| seen.values.keys().filter(|(of, ..)| of == host).count();
        promise(of("HOST1") == Output::VALUES * minutes, format!("{} values of {minutes} minutes", of("HOST1")));
        promise(of("HOST9") == minutes, format!("{} values of another host of {minutes} minutes", of("HOST9")));
        promise(seen.repeated == 0 || !is_once, format!("{} values arrived twice", seen.repeated));
        let ledger = output.spool.ledger();
        let all = ((Output::VALUES + 1) * minutes) as u64;
        promise((ledger.collected, ledger.delivered) == (all, all), format!("the books of {all} values say {ledger}"));
        let late = (0..self.clear_minutes).find(|minute| {
            let time = BEGIN + i64::from(*minute) * 60;
            let arrived = seen.values.get(&("HOST1".to_owned(), "custom.m.00".to_owned(), time));
            arrived.is_none_or(|at| (*at - started()).as_secs() > u64::from(minute + 3) * 60)
        });
        promise(late.is_none(), format!("minute {late:?} was late, although nothing that it needs misbehaved"));
        let last = format!("db {}", self.reports.1.word());
        promise(seen.reports.last() == Some(&last), format!("the last of {:?} is not {last}", seen.reports));
        let (sent, received) = (self.reports.0, seen.reports.len());
        promise(received == sent || !is_once, format!("{received} of {sent} reports arrived: {:?}", seen.reports));
        let document = seen.documents.get("a");
        promise(document == Some(&self.document), format!("document {document:?} instead of {}", self.document));
        promise(seen.definitions.len() == 3, format!("definitions: {:?}", seen.definitions));
        promise(seen.descriptions > 0, "the host is not described".to_owned());
        promise(seen.status.as_deref() == Some("working"), format!("status: {:?}", seen.status));
        promise(seen.hosts == 1, format!("{} hosts", seen.hosts));
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}

#[test]
fn no_weather_loses_anything_or_makes_a_second_host() {
    let lives = (any::<bool>(), vec(spell(), 1..6));
    // Most of a simulation waits for the kernel, so some run at a time, each with a seed of its own.
    let judge = |seed| {
        let config = ProptestConfig { max_shrink_iters: 100, ..drawn(24, 4, seed) };
        TestRunner::new(config).run(&lives, |(is_new, spells)| {
            let folder = if Path::new("/dev/shm").is_dir() { TempDir::new_in("/dev/shm") } else { TempDir::new() };
            let (folder, lines) = (folder.unwrap(), Lines::default());
            let _guard = super::testing::log::to(lines.clone());
            let lived = simulated(live(is_new, &spells, folder.path()));
            lived.map_err(|broken| TestCaseError::fail(format!("{broken}\n{}", lines.take().join("\n"))))
        })
    };
    let judged = std::thread::scope(|scope| {
        let threads = [1, 2, 3, 4].map(|seed| scope.spawn(move || judge(seed)));
        threads.map(|thread| thread.join().unwrap())
    });
    let failures = judged.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn an_agent_whose_whole_folder_is_replaced_writes_its_id_there_again_and_not_if_the_id_alone_was_deleted() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let id = root.join("id");
    std::fs::write(&id, "HOST1").unwrap();
    simulated(async {
        let mackerel = Arc::new(Mackerel::default());
        let address = Arc::clone(&mackerel).listen().await;
        let mut running = Running::of(&root, address, BEGIN);
        for _ in 0..3 {
            running.minute().await.unwrap();
        }
        std::fs::remove_file(&id).unwrap();
        for _ in 0..3 {
            running.minute().await.unwrap();
        }
        assert!(!id.exists());
        std::fs::rename(&root, folder.path().join("old")).unwrap();
        std::fs::create_dir(&root).unwrap();
        // On a busy machine the file is written minutes of simulated time later.
        for _ in 0..60 {
            running.minute().await.unwrap();
            if id.exists() {
                break;
            }
        }
        assert_eq!(std::fs::read_to_string(&id).unwrap(), "HOST1");
        running.stop().await;
    });
}

#[test]
fn a_request_to_register_that_takes_minutes_makes_no_second_host_whether_the_agent_waits_or_is_started_again() {
    for starts_again_after in [None, Some(5), Some(90), Some(200)] {
        let folder = TempDir::new().unwrap();
        simulated(async {
            let mackerel = Arc::new(Mackerel::default());
            mackerel.seen().misbehaving.insert(Endpoint::Registration, Forgets);
            mackerel.seen().lists_late = Duration::from_secs(230);
            let address = Arc::clone(&mackerel).listen().await;
            let mut running = Running::of(folder.path(), address, BEGIN);
            if let Some(seconds) = starts_again_after {
                tokio::select! {
                    result = &mut running.run => panic!("{result:?}"),
                    () = pass(Duration::from_secs(seconds)) => {}
                }
                drop(running);
                running = Running::of(folder.path(), address, BEGIN);
            }
            for minute in 0..20 {
                running.output.keep(minute);
                running.minute().await.unwrap();
            }
            // The other host is looked up again ten minutes after it was not in the list.
            let all = (Output::VALUES + 1) * 20;
            for _ in 0..20 {
                if mackerel.seen().values.len() < all {
                    running.minute().await.unwrap();
                }
            }
            let hosts = mackerel.seen().hosts;
            assert_eq!((hosts, mackerel.seen().values.len()), (1, all), "{starts_again_after:?}");
            running.stop().await;
        });
    }
}

#[test]
fn a_refusal_of_everything_for_a_minute_costs_minutes_and_not_an_hour() {
    for body in [ERROR, "<html>no</html>"] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("id"), "HOST1").unwrap();
        simulated(async {
            let mackerel = Arc::new(Mackerel::default());
            for endpoint in [Endpoint::Values, Endpoint::Reports] {
                mackerel.seen().misbehaving.insert(endpoint, Answers(400, "", body));
            }
            let address = Arc::clone(&mackerel).listen().await;
            let mut running = Running::of(folder.path(), address, BEGIN);
            running.output.reports.try_send(report("db", Status::Critical, BEGIN)).unwrap();
            for minute in 0..10 {
                running.output.keep(minute);
                running.minute().await.unwrap();
                if minute == 0 {
                    mackerel.seen().misbehaving.clear();
                }
            }
            let of_first = |(_, _, time): &&(String, String, i64)| *time == BEGIN;
            let arrived = mackerel.seen().values.keys().filter(of_first).count();
            assert_eq!((arrived, &*mackerel.seen().reports.join(" ")), (Output::VALUES + 1, "db CRITICAL"), "{body}");
            running.stop().await;
        });
    }
}
