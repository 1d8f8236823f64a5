//! The crash test: rounds of everything that happens to a spool, with kills, power cuts and failing calls in between, the same for the
//! same seed. `WASABA_CRASH_ROUNDS` says how many, `WASABA_CRASH_SEED` where they begin.
//!
//! The model beside it knows each point that was kept and what became of it. A point that was acknowledged must be queued or settled
//! after any restart, once; one that was not may be.

use std::collections::{BTreeMap, BTreeSet};

use super::simulated::{Simulated, Wrong};
use super::tests::{NOW, QUICK, all, minute, random};
use super::*;

/// A point, by its time and name.
type Point = (i64, String);

#[derive(Default)]
struct Model {
    /// Kept, and known to be on disk; the values that it may have.
    durable: BTreeMap<Point, BTreeSet<i64>>,
    /// Kept, and perhaps on disk.
    perhaps: BTreeMap<Point, BTreeSet<i64>>,
    /// Settled, and known to be on disk as settled.
    settled: BTreeSet<Point>,
    /// Settled, perhaps not on disk.
    perhaps_settled: BTreeSet<Point>,
    /// Settled in memory before a crash: it may be remembered or not.
    unknown: BTreeSet<Point>,
    host_id: Option<&'static str>,
    stored: BTreeMap<String, u8>,
}

fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn queued(spool: &Spool) -> BTreeMap<Point, i64> {
    let mut points = BTreeMap::new();
    for Minute { time, samples } in spool.newest(usize::MAX, &all) {
        for sample in samples {
            let before = points.insert((time, sample.name().to_string()), sample.value() as i64);
            assert_eq!(before, None, "twice in the queue");
        }
    }
    points
}

/// What the disk does wrong in a round: nothing, for a while one kind, or now and then any.
fn script(disk: &Simulated, random: &mut impl FnMut(u64) -> u64) -> bool {
    let (kind, from, seed) = (random(6), random(40), random(1 << 40));
    let mut chance = tests::random(seed);
    let wrong = move |what: &str| {
        let takes_space = matches!(what, "write" | "make" | "sync");
        match kind {
            0 => Some(Wrong::Input),
            1 => takes_space.then_some(Wrong::Full),
            2 => takes_space.then_some(Wrong::Partial),
            3 if what == "sync" => Some(Wrong::Input),
            _ => None,
        }
    };
    let (length, mut calls) = (1 + random(60), 0);
    disk.script(move |what, _| {
        calls += 1;
        wrong(what).filter(|_| calls >= from && (calls - from < length || chance(4) == 0))
    });
    kind < 4
}

impl Model {
    /// After a restart on a disk that works.
    fn check(&mut self, spool: &Spool, disk: &Simulated, was_killed: bool, seed: u64) {
        let (queued, ledger) = (queued(spool), spool.ledger());
        assert!(ledger.is_balanced(), "seed {seed}: {ledger:?}");
        assert_eq!(ledger.queued, queued.len() as u64, "seed {seed}");
        assert_eq!(ledger.damaged, 0, "seed {seed}: {ledger:?}");
        for (point, value) in queued.iter().filter(|(point, _)| !self.unknown.contains(*point)) {
            assert!(!self.settled.contains(point), "seed {seed}: {point:?} was settled and is queued again");
            let known = [&self.durable, &self.perhaps].into_iter().filter_map(|kept| kept.get(point)).flatten();
            let known = known.collect::<Vec<_>>();
            assert!(known.contains(&value), "seed {seed}: {point:?} is {value}, not of {known:?}");
        }
        for (point, _) in self.durable.iter().filter(|(point, _)| !queued.contains_key(*point)) {
            let is_settled = self.settled.contains(point) || self.perhaps_settled.contains(point);
            assert!(is_settled, "seed {seed}: {point:?} is lost, killed: {was_killed}");
        }
        let aside = disk
            .names()
            .into_iter()
            .filter(|name| !matches!(name.as_str(), "wasaba.db" | "wasaba.state" | "wasaba.history"));
        let aside = aside.filter(|name| !name.ends_with(".new") && name != "wasaba.history.larger").collect::<Vec<_>>();
        assert!(aside.is_empty(), "seed {seed}: {aside:?}");
        assert_eq!(spool.host_id().as_deref(), self.host_id, "seed {seed}");
        let stored = spool.all("test").into_iter().map(|(key, value)| (key, value[0])).collect::<BTreeMap<_, _>>();
        if !was_killed {
            assert_eq!(stored, self.stored, "seed {seed}");
        }
        // What is on disk now is known.
        for point in std::mem::take(&mut self.perhaps_settled) {
            if self.durable.contains_key(&point) && !queued.contains_key(&point) {
                self.settled.insert(point);
            } else if !queued.contains_key(&point) {
                self.unknown.insert(point);
            }
        }
        let points = queued.into_iter().map(|(point, value)| (point, BTreeSet::from([value])));
        *self = Self {
            durable: points.filter(|(point, _)| !self.unknown.contains(point)).collect(),
            settled: std::mem::take(&mut self.settled),
            unknown: std::mem::take(&mut self.unknown),
            stored,
            host_id: self.host_id,
            ..Self::default()
        };
    }

    fn keep(&mut self, minutes: &[Minute], is_durable: bool) {
        for Minute { time, samples } in minutes {
            for sample in samples {
                let point = (*time, sample.name().to_string());
                let is_settled = self.settled.contains(&point) || self.perhaps_settled.contains(&point);
                if is_settled || self.unknown.contains(&point) {
                    continue;
                }
                if is_durable {
                    // The later value has replaced those before.
                    self.perhaps.remove(&point);
                    self.durable.insert(point, BTreeSet::from([sample.value() as i64]));
                } else {
                    self.perhaps.entry(point).or_default().insert(sample.value() as i64);
                }
            }
        }
    }

    /// Everything that waited is on disk.
    fn all_durable(&mut self) {
        for (point, values) in std::mem::take(&mut self.perhaps) {
            self.durable.insert(point, values);
        }
        for point in std::mem::take(&mut self.perhaps_settled) {
            self.durable.remove(&point);
            self.settled.insert(point);
        }
    }
}

fn round(seed: u64) {
    let mut random = random(seed);
    let mut disk = Simulated::default();
    let mut model = Model::default();
    let mut now = NOW;
    let mut value = 0;
    // Half of the rounds rewrite the files all the time.
    let bounds = if seed.is_multiple_of(2) { QUICK } else { Bounds { dead_bytes: 200, ..QUICK } };
    let mut spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
    let is_traced = std::env::var_os("WASABA_CRASH_TRACE").is_some();
    let trace = |what: &dyn fmt::Debug| {
        if is_traced {
            println!("{what:?}")
        }
    };
    for _ in 0..3 + random(6) {
        let mut fails = random(2) == 0 && script(&disk, &mut random);
        for _ in 0..random(12) {
            match random(8) {
                0..=3 => {
                    now += i64::try_from(random(2)).unwrap() * 60;
                    let minutes = (0..1 + random(3)).map(|n| {
                        let names = (0..random(6)).map(|_| format!("m{}", random(5))).collect::<BTreeSet<_>>();
                        value += 1;
                        let values = names.iter().map(|name| (name.as_str(), f64::from(value))).collect::<Vec<_>>();
                        minute(now - 60 * i64::try_from(n).unwrap(), &values)
                    });
                    let minutes = minutes.collect::<Vec<_>>();
                    let is_durable = spool.keep(minutes.clone(), &[], now);
                    assert!(is_durable || fails, "seed {seed}: not written although nothing fails");
                    trace(&("keep", &minutes, is_durable));
                    model.keep(&minutes, is_durable);
                    if is_durable {
                        model.all_durable();
                    }
                }
                4 | 5 => {
                    let minutes = spool.newest(1 + random(12) as usize, &all);
                    let settlements = minutes.into_iter().map(|minute| {
                        let delivered = minute.samples.into_iter().filter(|_| random(3) > 0).collect();
                        Settlement { time: minute.time, delivered, rejected: Vec::new() }
                    });
                    let settlements = settlements.collect::<Vec<_>>();
                    let points = settlements.iter().flat_map(|settlement| {
                        settlement.delivered.iter().map(|sample| (settlement.time, sample.name().to_string()))
                    });
                    model.perhaps_settled.extend(points.filter(|point| !model.unknown.contains(point)));
                    trace(&("settle", &settlements));
                    spool.settle(settlements);
                    if !fails || spool.facts().place == Place::Disk && spool.shared.lock().is_written {
                        model.all_durable();
                    }
                }
                6 => {
                    model.host_id = Some("HOST1");
                    spool.keep_host_id("HOST1");
                    if fails {
                        // The copy is on disk once a commit succeeds.
                        disk.heal();
                        fails = false;
                        assert!(spool.keep(Vec::new(), &[], now), "seed {seed}: not written although nothing fails");
                        model.all_durable();
                    }
                }
                _ => {
                    let (key, number) = (format!("k{}", random(4)), random(250) as u8);
                    if random(3) == 0 {
                        spool.remove("test", &key);
                        model.stored.remove(&key);
                    } else {
                        spool.put("test", &key, &[number; 9]);
                        model.stored.insert(key, number);
                    }
                }
            }
            let ledger = spool.ledger();
            assert!(ledger.is_balanced(), "seed {seed}: {ledger:?}");
        }
        let end = random(3);
        let next = match end {
            0 => disk.after_kill(),
            1 => disk.after_power_cut(&mut random),
            _ => {
                disk.heal();
                assert!(spool.keep(Vec::new(), &[], now), "seed {seed}");
                model.all_durable();
                disk.clone()
            }
        };
        trace(&("restart", end));
        drop(spool);
        disk = next;
        disk.heal();
        spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
        model.check(&spool, &disk, end < 2, seed);
    }
}

#[test]
fn after_any_crash_every_acknowledged_point_is_there_once_and_the_books_balance() {
    let first = rounds("WASABA_CRASH_SEED", 1);
    for seed in first..first + rounds("WASABA_CRASH_ROUNDS", 300) {
        round(seed);
    }
}
