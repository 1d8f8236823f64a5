//! The queue beside a model of it that is simple enough to be right: whatever is done, both have the same points, values and ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::simulated::Simulated;
use super::tests::{NOW, QUICK, all, random};
use super::*;

/// The time, host and name of a point.
type Point = (i64, Option<String>, String);

#[derive(Default)]
struct Model {
    queued: BTreeMap<Point, f64>,
    /// Points that are not taken again.
    settled: BTreeSet<Point>,
    ledger: Ledger,
    owner: Option<String>,
}

fn point(time: i64, sample: &Sample) -> Point {
    (time, sample.host().map(ToString::to_string), sample.name().to_string())
}

impl Model {
    fn keep(&mut self, minutes: &[Minute]) {
        for (time, sample) in
            minutes.iter().flat_map(|minute| minute.samples.iter().map(|sample| (minute.time, sample)))
        {
            let point = point(time, sample);
            if !self.settled.contains(&point) && self.queued.insert(point, sample.value()).is_none() {
                self.ledger.collected += 1;
                self.ledger.queued += 1;
            }
        }
    }

    fn settle(&mut self, settlement: &Settlement) {
        for (samples, count) in
            [(&settlement.delivered, &mut self.ledger.delivered), (&settlement.rejected, &mut self.ledger.rejected)]
        {
            for sample in samples {
                let point = point(settlement.time, sample);
                if self.queued.get(&point) == Some(&sample.value()) {
                    self.queued.remove(&point);
                    *count += 1;
                    self.ledger.queued -= 1;
                }
                self.settled.insert(point);
            }
        }
    }

    fn expire(&mut self, now: i64) {
        let before = self.queued.len();
        self.queued.retain(|(time, ..), _| *time >= now - HORIZON_SECONDS);
        let dropped = (before - self.queued.len()) as u64;
        self.ledger.expired += dropped;
        self.ledger.queued -= dropped;
    }

    fn change_owner(&mut self, owner: &str) {
        let before = self.owner.replace(owner.to_owned());
        if before.is_some_and(|before| before != owner) {
            let count = self.queued.len();
            self.queued.retain(|(_, host, _), _| host.is_some());
            let dropped = (count - self.queued.len()) as u64;
            self.ledger.of_another_host += dropped;
            self.ledger.queued -= dropped;
            self.settled.retain(|(_, host, _)| host.is_some());
        }
    }

    fn check(&self, spool: &Spool, seed: u64) {
        let minutes = spool.newest(usize::MAX, &all);
        assert!(minutes.is_sorted_by(|a, b| a.time > b.time), "seed {seed}");
        let points = minutes.iter().flat_map(|minute| {
            assert!(minute.samples.is_sorted_by(|a, b| a.key() < b.key()), "seed {seed}");
            minute.samples.iter().map(|sample| (point(minute.time, sample), sample.value()))
        });
        assert_eq!(points.collect::<BTreeMap<_, _>>(), self.queued, "seed {seed}");
        assert_eq!(spool.ledger(), self.ledger, "seed {seed}");
        assert!(self.ledger.is_balanced());
        assert_eq!(spool.facts().oldest, self.queued.keys().next().map(|(time, ..)| *time), "seed {seed}");
    }
}

/// One sequence of events. `sizes` is for how many names.
fn walk(seed: u64, names: u64) {
    let mut random = random(seed);
    let mut disk = Simulated::default();
    let (mut model, mut now) = (Model::default(), NOW);
    // Half of the walks rewrite the files all the time.
    let bounds = if seed % 2 == 0 { QUICK } else { Bounds { dead_bytes: 200, ..QUICK } };
    let mut spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
    let host: Arc<str> = "db1".into();
    for step in 0..60 {
        match random(12) {
            0..=4 => {
                now += i64::try_from(random(3)).unwrap() * 60;
                let minutes = (0..random(4)).map(|_| {
                    let time = now - i64::try_from(random(121)).unwrap();
                    let samples = (0..random(names)).map(|_| {
                        let value = [f64::from(step), 0.1 * f64::from(step), -1e300, 0.0][random(4) as usize];
                        let sample = Sample::new(format!("m{}", random(names)), value).unwrap();
                        if random(3) == 0 { sample.of_host(&host) } else { sample }
                    });
                    Minute { time, samples: samples.collect() }
                });
                let minutes = minutes.collect::<Vec<_>>();
                assert!(spool.keep(minutes.clone(), &[], now), "seed {seed}");
                model.keep(&minutes);
            }
            5..=7 => {
                let most = random(3 * names) as usize;
                let found = spool.newest(most, &all);
                let points = found.iter().map(|minute| minute.samples.len()).sum::<usize>();
                assert!(found.len() <= 1 || points <= most, "seed {seed}");
                let settlements = found.into_iter().map(|minute| {
                    let (delivered, rest) = minute.samples.into_iter().partition(|_| random(2) == 0);
                    let rest: Vec<Sample> = rest;
                    let rejected = rest.into_iter().filter(|_| random(4) == 0).collect();
                    Settlement { time: minute.time, delivered, rejected }
                });
                let settlements = settlements.collect::<Vec<_>>();
                settlements.iter().for_each(|settlement| model.settle(settlement));
                spool.settle(settlements);
            }
            8 => {
                now += if random(6) == 0 { HORIZON_SECONDS } else { 0 };
                model.expire(now);
                spool.expire(now);
            }
            9 => {
                let id = format!("HOST{}", random(2));
                model.change_owner(&id);
                spool.keep_host_id(&id);
            }
            10 => {
                let killed = disk.after_kill();
                drop(std::mem::replace(&mut spool, Spool::on(Arc::new(killed.clone()), bounds, now).unwrap()));
                disk = killed;
            }
            _ => {
                drop(spool);
                spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
            }
        }
        model.check(&spool, seed);
    }
}

#[test]
fn whatever_is_done_the_queue_is_what_a_simple_model_of_it_is() {
    let walks = std::env::var("WASABA_MODEL_WALKS").ok().and_then(|walks| walks.parse().ok()).unwrap_or(150);
    for seed in 0..walks {
        walk(seed, 2 + seed % 30);
    }
}
