//! The queue beside a model of it that is simple enough to be right: whatever is done, both have the same points, values and ledger.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::simulated::Simulated;
use super::tests::{NOW, QUICK, all};
use super::*;
use crate::drawn;

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

fn queued(spool: &Spool) -> BTreeMap<Point, f64> {
    let minutes = spool.newest(usize::MAX, &all);
    assert!(minutes.is_sorted_by(|a, b| a.time > b.time));
    let points = minutes.iter().flat_map(|minute| {
        assert!(minute.samples.is_sorted_by(|a, b| a.key() < b.key()));
        minute.samples.iter().map(|sample| (point(minute.time, sample), sample.value()))
    });
    points.collect()
}

impl Model {
    fn keep(&mut self, minutes: &[Minute]) {
        let samples = minutes.iter().flat_map(|minute| minute.samples.iter().map(|sample| (minute.time, sample)));
        let collected = samples.map(|(time, sample)| (point(time, sample), sample.value())).collect::<BTreeMap<_, _>>();
        for (point, value) in collected {
            self.ledger.collected += 1;
            if self.settled.contains(&point) || self.queued.insert(point, value).is_some() {
                self.ledger.repeated += 1;
            } else {
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

    /// After damage, points may be missing, but no others may be there, and no other values.
    fn lose(&mut self, found: &BTreeMap<Point, f64>) {
        let before = self.queued.len();
        self.queued.retain(|point, _| found.contains_key(point));
        let lost = (before - self.queued.len()) as u64;
        self.ledger.damaged += lost;
        self.ledger.queued -= lost;
    }

    fn check(&self, spool: &Spool) {
        assert_eq!(queued(spool), self.queued);
        assert_eq!(spool.ledger(), self.ledger);
        assert!(self.ledger.is_balanced());
        assert_eq!(spool.facts().oldest, self.queued.keys().next().map(|(time, ..)| *time));
    }
}

/// What becomes of a point of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Rejected,
    Waits,
}

/// The number of a sample and its value, and whether it is another host's.
type Kept = (u8, f64, bool);

/// One thing that happens to a queue.
#[derive(Clone, Debug)]
enum Step {
    /// Minutes are kept, each so many seconds old.
    Keep {
        later_minutes: i64,
        minutes: Vec<(i64, Vec<Kept>)>,
    },
    /// The newest points, so many, are posted. The fates are used over and over.
    Post {
        most: usize,
        fates: Vec<Fate>,
    },
    /// Mackerel tells its time, which may be a day later.
    Expire {
        after_a_day: bool,
    },
    /// The values belong to this host from now on.
    Own(u8),
    Kill,
    Restart,
    /// A bit of the file flips, so many thousandths from its beginning, but before the last commit.
    Flip {
        place: usize,
        bit: u8,
    },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Delivered), 1 => Just(Fate::Rejected), 3 => Just(Fate::Waits)]
}

fn step(names: u8) -> impl Strategy<Value = Step> {
    let value = prop_oneof![Just(0.0), Just(-1e300), any::<u16>().prop_map(f64::from), (0.0..1.0)];
    let samples = vec((0..names, value, prop::bool::weighted(0.3)), 0..usize::from(names));
    let minutes = vec((0..121_i64, samples), 0..4);
    prop_oneof![
        5 => (0..3_i64, minutes).prop_map(|(later_minutes, minutes)| Step::Keep { later_minutes, minutes }),
        3 => (0..3 * usize::from(names), vec(fate(), 1..20)).prop_map(|(most, fates)| Step::Post { most, fates }),
        1 => prop::bool::weighted(0.15).prop_map(|after_a_day| Step::Expire { after_a_day }),
        1 => (0..2_u8).prop_map(Step::Own),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
        1 => (0..1_000_usize, 0..8_u8).prop_map(|(place, bit)| Step::Flip { place, bit }),
    ]
}

/// How often the files are rewritten, and what happens.
fn walk() -> impl Strategy<Value = (Bounds, Vec<Step>)> {
    let bounds = prop_oneof![Just(QUICK), Just(Bounds { dead_bytes: 200, ..QUICK })];
    (bounds, (2..32_u8).prop_flat_map(|names| vec(step(names), 60)))
}

fn compare(bounds: Bounds, steps: Vec<Step>) {
    let mut disk = Simulated::default();
    let (mut model, mut now) = (Model::default(), NOW);
    let mut spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
    let host: Arc<str> = "db1".into();
    for step in steps {
        match step {
            Step::Keep { later_minutes, minutes } => {
                now += later_minutes * 60;
                let sample = |(number, value, is_other): Kept| {
                    let sample = Sample::new(format!("m{number}"), value).unwrap();
                    if is_other { sample.of_host(&host) } else { sample }
                };
                let minutes = minutes.into_iter().map(|(ago, samples)| Minute {
                    time: now - ago,
                    samples: samples.into_iter().map(sample).collect(),
                });
                let minutes = minutes.collect::<Vec<_>>();
                assert!(spool.keep(minutes.clone(), &[], now));
                model.keep(&minutes);
            }
            Step::Post { most, fates } => {
                let found = spool.newest(most, &all);
                let points = found.iter().map(|minute| minute.samples.len()).sum::<usize>();
                assert!(found.len() <= 1 || points <= most);
                let mut fates = fates.into_iter().cycle();
                let settlements = found.into_iter().map(|minute| {
                    let fated = minute.samples.into_iter().zip(&mut fates).collect::<Vec<_>>();
                    let of = |fate| fated.iter().filter(move |(_, its)| *its == fate).map(|(sample, _)| sample.clone());
                    Settlement {
                        time: minute.time,
                        delivered: of(Fate::Delivered).collect(),
                        rejected: of(Fate::Rejected).collect(),
                    }
                });
                let settlements = settlements.collect::<Vec<_>>();
                settlements.iter().for_each(|settlement| model.settle(settlement));
                spool.settle(settlements);
            }
            Step::Expire { after_a_day } => {
                now += if after_a_day { HORIZON_SECONDS } else { 0 };
                model.expire(now);
                spool.expire(now);
            }
            Step::Own(number) => {
                let id = format!("HOST{number}");
                model.change_owner(&id);
                spool.keep_host_id(&id);
            }
            Step::Kill => {
                let killed = disk.after_kill();
                drop(std::mem::replace(&mut spool, Spool::on(Arc::new(killed.clone()), bounds, now).unwrap()));
                disk = killed;
            }
            Step::Restart => {
                drop(spool);
                spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
            }
            Step::Flip { place, bit } => {
                let before = disk.bytes("wasaba.db").unwrap();
                let last = Minute { time: now, samples: vec![Sample::new("last", 1.0).unwrap()] };
                spool.keep(vec![last.clone()], &[], now);
                model.keep(&[last]);
                let mut bytes = disk.bytes("wasaba.db").unwrap();
                let at = before.len() * place / 1_000;
                if bytes.len() > before.len() && bytes.starts_with(&before) {
                    drop(spool);
                    bytes[at] ^= 1 << bit;
                    disk.write("wasaba.db", &bytes);
                    spool = Spool::on(Arc::new(disk.clone()), bounds, now).unwrap();
                    model.lose(&queued(&spool));
                }
            }
        }
        model.check(&spool);
    }
}

#[test]
fn whatever_is_done_the_queue_is_what_a_simple_model_of_it_is() {
    let compared = TestRunner::new(drawn(150, 1, 1)).run(&walk(), |(bounds, steps)| {
        compare(bounds, steps);
        Ok(())
    });
    compared.unwrap_or_else(|failure| panic!("{failure}"));
}
