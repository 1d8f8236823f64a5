//! The tests of the spool: nothing is lost, nothing is counted wrongly, and it opens whatever state its file is in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use wasaba_core::sample::MetricName;

use super::simulated::Simulated;
use super::*;

pub(super) const NOW: i64 = 1_800_000_000;

impl Spool {
    /// As [`Spool::newest_of`], of all hosts.
    pub(super) fn newest(&self, max_points: usize, filter: &impl Fn(i64, &Sample) -> bool) -> Vec<Minute> {
        self.newest_where(&Whose::Any, max_points, filter)
    }
}

pub(super) fn minute(time: i64, values: &[(&str, f64)]) -> Minute {
    Minute { time, samples: values.iter().map(|(name, value)| Sample::new(*name, *value).unwrap()).collect() }
}

pub(super) fn all(_: i64, _: &Sample) -> bool {
    true
}

pub(super) fn delivered(minute: &Minute) -> Settlement {
    Settlement { time: minute.time, delivered: minute.samples.clone(), rejected: Vec::new() }
}

fn open(folder: &TempDir) -> Spool {
    Spool::open(folder.path(), NOW).unwrap()
}

/// A test that hangs has no patience, and none of the others needs any.
pub(super) const QUICK: Bounds = Bounds { patience: Duration::from_secs(30), lock: Duration::ZERO, ..BOUNDS };

/// A spool on a simulated disk.
pub(super) fn on(disk: &Simulated) -> Spool {
    Spool::on(Arc::new(disk.clone()), QUICK, NOW).unwrap()
}

/// Numbers below their argument, the same each time.
pub(super) fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) % below
    }
}

#[track_caller]
pub(super) fn assert_conserved(spool: &Spool) {
    let ledger = spool.ledger();
    assert!(ledger.is_balanced(), "{ledger:?}");
    let queued: usize = spool.newest(usize::MAX, &all).iter().map(|minute| minute.samples.len()).sum();
    assert_eq!(ledger.queued, queued as u64, "the ledger differs from the queue");
}

fn set_aside(folder: &TempDir) -> bool {
    folder.path().join("wasaba.db.damaged").exists()
}

#[test]
fn a_minute_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let (first, second) = (minute(NOW - 60, &[("a", 1.0), ("b", 2.5)]), minute(NOW, &[("a", 2.0)]));
    let reading = Reading { value: 7.0.into(), unix_millis: NOW };
    assert!(spool.keep(vec![first.clone()], &[("plugin web\tnginx.requests".to_owned(), reading)], NOW));
    assert!(spool.keep(vec![second.clone()], &[], NOW));
    spool.keep_host_id("4Hkc5RVYYB4");
    spool.settle(vec![delivered(&first)]);

    // kill -9 leaves the file in its present state: nothing is closed.
    let after = TempDir::new().unwrap();
    for name in ["wasaba.db", "wasaba.state"] {
        fs::copy(folder.path().join(name), after.path().join(name)).unwrap();
    }
    let spool = open(&after);
    assert_eq!(spool.newest(100, &all), [second]);
    assert_eq!(spool.ledger(), Ledger { collected: 3, delivered: 2, queued: 1, ..Ledger::default() });
    assert_eq!(spool.readings("plugin web"), BTreeMap::from([("nginx.requests".to_owned(), reading)]));
    assert_eq!(spool.host_id().as_deref(), Some("4Hkc5RVYYB4"));
    assert!(!set_aside(&after));
}

#[test]
fn the_file_is_the_agents_own() {
    // The agent makes its folder before; here all may read it.
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _spool = open(&folder);
    for name in ["wasaba.db", "wasaba.state"] {
        assert_eq!(fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_second_wasaba_is_refused_with_the_file_in_use() {
    let folder = TempDir::new().unwrap();
    let _first = open(&folder);
    let refusal = Spool::open(folder.path(), NOW).err().unwrap();
    let path = folder.path().join("wasaba.db");
    assert_eq!(refusal, OpenError::InUse(path.clone()));
    assert!(refusal.to_string().starts_with(&format!("`{}` is in use by another wasaba", path.display())));
}

#[test]
fn an_empty_file_counts_as_new() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("wasaba.db"), "").unwrap();
    assert!(open(&folder).keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
    assert!(!set_aside(&folder));
}

#[test]
fn two_minutes_of_the_same_time_are_merged_and_the_later_value_wins() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let first = minute(NOW, &[("a", 1.0), ("b", 1.0)]);
    spool.keep(vec![first.clone()], &[], NOW);
    spool.keep(vec![minute(NOW, &[("c", 3.0), ("b", 2.0), ("b", 2.5)])], &[], NOW);
    assert_eq!(spool.newest(100, &all), [minute(NOW, &[("a", 1.0), ("b", 2.5), ("c", 3.0)])]);
    assert_conserved(&spool);

    // Delivered before the second came: the new value of `b` must still be delivered.
    spool.settle(vec![delivered(&first)]);
    assert_eq!(spool.newest(100, &all), [minute(NOW, &[("b", 2.5), ("c", 3.0)])]);
    assert_eq!(spool.ledger(), Ledger { collected: 4, delivered: 1, queued: 2, repeated: 1, ..Ledger::default() });
    assert_conserved(&spool);
}

#[test]
fn the_newest_minutes_come_first_and_at_least_one() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    for time in [NOW - 60, NOW, NOW - 120] {
        spool.keep(vec![minute(time, &[("a", 1.0), ("b", 1.0)])], &[], NOW);
    }
    let times = |minutes: Vec<Minute>| minutes.iter().map(|minute| minute.time).collect::<Vec<_>>();
    assert_eq!(times(spool.newest(1, &all)), [NOW]);
    assert_eq!(times(spool.newest(5, &all)), [NOW, NOW - 60]);
    assert_eq!(times(spool.newest(6, &all)), [NOW, NOW - 60, NOW - 120]);
}

#[test]
fn an_instances_values_survive_a_restart_together_with_their_minute() {
    let folder = tempfile::tempdir().unwrap();
    let values = Arc::new(StoredValues::from([("position".to_owned(), b"42".to_vec())]));
    let spool = open(&folder);
    spool.keep_values("web", Arc::clone(&values));
    assert_eq!((spool.values("web"), spool.values("db")), (StoredValues::clone(&values), StoredValues::new()));
    drop(spool);
    let spool = open(&folder);
    assert_eq!(spool.values("web"), StoredValues::new(), "a value without its minute was never set");
    spool.keep_values("web", Arc::clone(&values));
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    drop(spool);
    assert_eq!(open(&folder).values("web"), *values);
}

#[test]
fn values_are_dropped_a_month_after_the_first_start_without_their_instance_however_long_it_was_quiet_before() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder);
    let all = ["quiet", "gone", "known"];
    all.iter().for_each(|name| spool.keep_values(name, Arc::new(StoredValues::from([("k".to_owned(), Vec::new())]))));
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    let start = |known: &[&str], now: i64| {
        let known = known.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
        spool.forget_values(&known, now);
        all.map(|name| spool.values(name).len())
    };
    assert_eq!(start(&all, NOW), [1, 1, 1]);
    // They have stored nothing since; one is commented out for one restart, another for good.
    let absent = NOW + 2 * VALUES_STAY_SECONDS;
    assert_eq!(start(&["known"], absent), [1, 1, 1]);
    assert_eq!(start(&["known", "quiet"], absent + 60), [1, 1, 1]);
    assert_eq!(start(&["known", "quiet"], absent + VALUES_STAY_SECONDS), [1, 1, 1]);
    assert_eq!(start(&["known"], absent + VALUES_STAY_SECONDS + 1), [1, 0, 1]);
}

#[test]
fn one_name_of_two_hosts_is_two_points_and_an_absent_hosts_points_stay_queued() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let db: Arc<str> = "db1".into();
    let own = Sample::new("a", 1.0).unwrap();
    let foreign = Sample::new("a", 2.0).unwrap().of_host(&db);
    spool.keep(vec![Minute { time: NOW - 60, samples: vec![foreign.clone()] }], &[], NOW);
    spool.keep(vec![Minute { time: NOW, samples: vec![foreign.clone(), own.clone()] }], &[], NOW);
    assert_eq!(spool.ledger().queued, 3);
    assert_eq!(spool.newest_of(None, 100, &all), [Minute { time: NOW, samples: vec![own.clone()] }]);
    spool.settle(vec![Settlement { time: NOW, delivered: vec![own], rejected: Vec::new() }]);
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    disk.script(move |what, _| {
        count.fetch_add(u64::from(what == "read"), Ordering::Relaxed);
        None
    });
    assert_eq!(spool.newest_of(None, 100, &all), []);
    assert_eq!(reads.load(Ordering::Relaxed), 0, "nothing of this host is queued");
    assert_eq!(spool.newest_of(Some(&db), 100, &all).len(), 2);
    assert_eq!(spool.hosts(), BTreeSet::from([db]));
}

#[test]
fn several_minutes_of_one_wake_up_are_one_commit() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let frames = |spool: &Spool| spool.shared.answer(|files| files.picture().bytes).unwrap();
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    let (before, synced) = (frames(&spool), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&synced);
    disk.script(move |what, _| {
        count.fetch_add(u64::from(what == "sync"), Ordering::Relaxed);
        None
    });
    spool.keep((1..=1_799).map(|second| minute(NOW + second, &[("a", 1.0)])).collect(), &[], NOW);
    assert_eq!(synced.load(Ordering::Relaxed), 1);
    assert!(frames(&spool) - before < 50_000);
    assert_eq!(spool.newest(usize::MAX, &all).len(), 1_800);
    assert_conserved(&spool);
}

#[test]
fn a_day_of_3000_metrics_with_any_values_fits_and_is_drained_in_small_pieces() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let mut random = random(1);
    let name = |n| MetricName::new(format!("custom.some_plugin.instance-{}.metric_number_{n}", n % 40)).unwrap();
    let names = (0..3_000).map(name).collect::<Vec<_>>();
    let mut minutes = Vec::new();
    for number in 0..1_440 {
        let samples = names.iter().map(|name| {
            let value = random(1 << 53) as f64 / (1_u64 << 53) as f64 * 10_f64.powi(i32::try_from(random(9)).unwrap());
            Sample::of(name.clone(), value).unwrap()
        });
        minutes.push(Minute { time: NOW + number * 60, samples: samples.collect() });
        if number % 60 == 59 {
            assert!(spool.keep(std::mem::take(&mut minutes), &[], NOW));
        }
    }
    let facts = spool.facts();
    assert!(facts.bytes.unwrap() <= MOST_BYTES, "{:?} bytes", facts.bytes);
    assert!(facts.hours.is_some_and(|hours| (24.0..25.0).contains(&hours)), "{:?}", facts.hours);
    assert_eq!((facts.minutes, facts.oldest), (1_440, Some(NOW)));
    assert_eq!(spool.ledger(), Ledger { collected: 4_320_000, queued: 4_320_000, ..Ledger::default() });
    let newest = spool.newest(5_000, &all);
    assert_eq!(newest.iter().map(|minute| minute.time).collect::<Vec<_>>(), [NOW + 1_439 * 60]);
    spool.settle(newest.iter().map(delivered).collect());
    assert_eq!(spool.newest(1, &all)[0].time, NOW + 1_438 * 60);
    drop(spool);
    assert_eq!(on(&disk).ledger().queued, 4_317_000);
}

#[test]
fn a_full_queue_drops_its_oldest_and_its_file_stays_near_its_bound() {
    let disk = Simulated::default();
    let bounds = Bounds { bytes: 512 * 1024, ..QUICK };
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    let mut number = 0_u64;
    for time in 0..200 {
        let samples = (0..1_000).map(|name| {
            number += 1;
            Sample::new(format!("m{name}"), 1.0 / number as f64).unwrap()
        });
        assert!(spool.keep(vec![Minute { time: NOW + time * 60, samples: samples.collect() }], &[], NOW));
        assert!(spool.facts().bytes.unwrap() < 2 * bounds.bytes + 300_000, "{} bytes", spool.facts().bytes.unwrap());
    }
    let facts = spool.facts();
    assert!(facts.ledger.is_balanced() && facts.ledger.overflowed > 100_000, "{:?}", facts.ledger);
    assert_eq!((facts.ledger.overflowed % 1_000, facts.ledger.queued), (0, facts.minutes * 1_000));
    assert!(facts.hours.is_some_and(|hours| (hours * 60.0 - facts.minutes as f64).abs() < 5.0), "{facts:?}");
    assert_eq!(spool.newest(1, &all)[0].time, NOW + 199 * 60);
    assert_conserved(&spool);
}

#[test]
fn only_mackerels_clock_drops_by_age_and_what_is_dated_ahead_of_it() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let (old, good, ahead) = (NOW - HORIZON_SECONDS, NOW, NOW + AHEAD_SECONDS);
    for time in [old, good, ahead] {
        // This machine's clock is two days ahead.
        spool.keep(vec![minute(time, &[("a", 1.0), ("b", 1.0)])], &[], NOW + 2 * HORIZON_SECONDS);
    }
    spool.expire(NOW);
    assert_eq!(spool.ledger().queued, 6);
    spool.expire(NOW + 1);
    assert_eq!(spool.ledger(), Ledger { collected: 6, queued: 4, expired: 2, ..Ledger::default() });
    spool.expire(NOW - 1);
    assert_eq!(spool.ledger(), Ledger { collected: 6, queued: 2, expired: 2, misdated: 2, ..Ledger::default() });
    assert_eq!(spool.newest(9, &all), [minute(good, &[("a", 1.0), ("b", 1.0)])]);
    assert_conserved(&spool);
}

#[test]
fn what_is_queued_for_one_host_is_not_delivered_to_another() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let db: Arc<str> = "db1".into();
    let of_db = Sample::new("a", 3.0).unwrap().of_host(&db);
    spool.keep(vec![minute(NOW - 60, &[("a", 1.0), ("b", 1.0)])], &[], NOW);
    spool.keep_host_id("HOST1");
    assert_eq!(spool.ledger().queued, 2, "before an id is known, it belongs to the first");
    let mut mixed = minute(NOW, &[("a", 1.0)]);
    mixed.samples.push(of_db.clone());
    spool.keep(vec![mixed], &[], NOW);
    spool.keep_host_id("HOST1");
    assert_eq!(spool.ledger().queued, 4);
    drop(spool);
    let spool = on(&disk);
    spool.keep_host_id("HOST2");
    assert_eq!(spool.newest(9, &all), [Minute { time: NOW, samples: vec![of_db.clone()] }]);
    assert_eq!(spool.ledger(), Ledger { collected: 4, queued: 1, of_another_host: 3, ..Ledger::default() });
    // The same second, now of the new host.
    spool.keep(vec![minute(NOW, &[("a", 2.0)])], &[], NOW);
    assert_eq!(spool.ledger().queued, 2);
    drop(spool);
    let spool = on(&disk);
    assert_eq!(spool.host_id().as_deref(), Some("HOST2"));
    assert_eq!(spool.newest(9, &all)[0].samples, [Sample::new("a", 2.0).unwrap(), of_db]);
    assert_conserved(&spool);
}

#[test]
fn a_point_that_is_kept_again_within_minutes_is_in_the_books_twice_and_is_not_delivered_twice() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let first = minute(NOW, &[("a", 1.0), ("b", 1.0)]);
    spool.keep(vec![first.clone()], &[], NOW);
    spool.settle(vec![Settlement { time: NOW, delivered: first.samples[..1].to_vec(), rejected: Vec::new() }]);
    drop(spool);
    let spool = on(&disk);
    spool.keep(vec![minute(NOW, &[("a", 2.0), ("b", 2.0), ("c", 2.0)])], &[], NOW);
    assert_eq!(spool.newest(9, &all), [minute(NOW, &[("b", 2.0), ("c", 2.0)])]);
    let expected = Ledger { collected: 5, delivered: 1, queued: 2, repeated: 2, ..Ledger::default() };
    assert_eq!(spool.ledger(), expected, "every point that was collected is in the books");
    assert_conserved(&spool);
}

#[test]
fn a_minute_that_lacks_some_names_takes_no_new_names() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let names = (0..100).map(|n| format!("custom.{n:0>60}")).collect::<Vec<_>>();
    let mut size = 0;
    for lacking in 0..20 {
        let samples =
            names.iter().skip(lacking).map(|name| Sample::new(name.as_str(), 1.0).unwrap()).collect::<Vec<_>>();
        let time = NOW + i64::try_from(lacking).unwrap() * 60;
        spool.keep(vec![Minute { time, samples: samples.clone() }], &[], NOW);
        assert_eq!(spool.newest(1, &all)[0].samples, samples);
        let grown = spool.facts().bytes.unwrap() - std::mem::replace(&mut size, spool.facts().bytes.unwrap());
        // The first three frames have the names, so that a damaged one takes none of them away.
        assert!(lacking < 3 || grown < 250, "{grown} bytes");
    }
}

#[test]
fn what_is_stored_under_a_kind_and_key_survives_a_restart_until_it_is_removed() {
    let disk = Simulated::default();
    let spool = on(&disk);
    assert!(spool.put("reports", "disk", b"1") && spool.put("reports", "load", b"2") && spool.put("others", "x", b""));
    assert!(!spool.put("reports", "large", &vec![0; MOST_VALUE_BYTES + 1]));
    spool.remove("reports", "load");
    let reports = BTreeMap::from([("disk".to_owned(), b"1".to_vec())]);
    assert_eq!(spool.all("reports"), reports);
    drop(spool);
    let spool = on(&disk);
    assert_eq!(spool.all("reports"), reports);
    spool.put("reports", "disk", b"3");
    assert_eq!((spool.all("reports")["disk"].as_slice(), spool.all("others").len()), (b"3".as_slice(), 1));
}

#[test]
fn a_kind_that_is_full_takes_nothing_new_and_keeps_what_it_has() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let large = vec![1; MOST_VALUE_BYTES];
    for number in 0..20 {
        assert!(spool.put("reports", &format!("{number:0>2}"), &large));
        spool.keep(Vec::new(), &[], NOW);
    }
    spool.put("others", "x", b"1");
    let keys = spool.all("reports").into_keys().collect::<Vec<_>>();
    assert_eq!(keys, (0..15).map(|number| format!("{number:0>2}")).collect::<Vec<_>>());
    spool.put("reports", "00", b"smaller");
    spool.put("reports", "99", &large);
    assert!(spool.keep(Vec::new(), &[], NOW));
    drop(spool);
    let spool = on(&disk);
    assert!(spool.all("reports").contains_key("99") && spool.all("reports")["00"] == b"smaller");
    assert_eq!(spool.all("others").len(), 1);
}

#[test]
fn a_start_waits_for_the_end_of_the_agent_before() {
    let disk = Simulated::default();
    let first = on(&disk);
    first.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    let bounds = Bounds { lock: Duration::from_secs(30), ..QUICK };
    let opened = std::thread::scope(|scope| {
        let second = scope.spawn(|| Spool::on(Arc::new(disk.clone()), bounds, NOW));
        while disk.refused_locks() == 0 {
            std::thread::yield_now();
        }
        drop(first);
        second.join().unwrap()
    });
    assert_eq!(opened.unwrap().ledger().queued, 1);
}

#[test]
fn counters_that_live_for_a_minute_do_not_grow_the_files() {
    let disk = Simulated::default();
    let spool = on(&disk);
    for number in 0..240 {
        let now = NOW + number * 60;
        let reading = Reading { value: 1.0.into(), unix_millis: now * 1_000 };
        let readings = (0..100).map(|name| (format!("docker\t{number}-{name:0>40}"), reading)).collect::<Vec<_>>();
        let first = minute(now, &[("a", 1.0)]);
        assert!(spool.keep(vec![first.clone()], &readings, now));
        spool.settle(vec![delivered(&first)]);
        assert!(disk.bytes("wasaba.state").unwrap().len() < 512 * 1024);
    }
    assert!(spool.readings("docker").len() <= 1_100);
    drop(spool);
    let later = NOW + 240 * 60 + 601;
    let spool = Spool::on(Arc::new(disk.clone()), QUICK, later).unwrap();
    assert!(!spool.readings("docker").is_empty());
    assert!(spool.keep(vec![minute(later + 601, &[("a", 1.0)])], &[], later + 601));
    drop(spool);
    assert!(on(&disk).readings("docker").is_empty(), "the entry is removed");
}

#[test]
fn names_that_live_for_a_minute_do_not_grow_the_queue() {
    let disk = Simulated::default();
    let spool = on(&disk);
    for number in 0..2_000 {
        let names = (0..20).map(|name| format!("docker.{number}.{name:0>40}")).collect::<Vec<_>>();
        let first = minute(NOW + number * 60, &names.iter().map(|name| (name.as_str(), 1.0)).collect::<Vec<_>>());
        spool.keep(vec![first.clone()], &[], NOW);
        spool.settle(vec![delivered(&first)]);
        assert!(spool.facts().bytes.unwrap() < 512 * 1024, "{} bytes", spool.facts().bytes.unwrap());
    }
}

#[test]
fn a_small_host_writes_less_than_half_of_what_it_wrote_with_redb() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let names = (0..75).map(|n| format!("custom.some.metric.name.{n}")).collect::<Vec<_>>();
    let mut number = 0.0;
    for minutes in 0..600 {
        let (now, values) = (
            NOW + minutes * 60,
            names.iter().map(|name| {
                (name.as_str(), {
                    number += 0.1;
                    number
                })
            }),
        );
        let first = minute(now, &values.collect::<Vec<_>>());
        let reading =
            |name| (format!("plugin web\tnginx.{name}"), Reading { value: number.into(), unix_millis: now * 1_000 });
        spool.keep(vec![first.clone()], &(0..10).map(reading).collect::<Vec<_>>(), now);
        spool.settle(vec![delivered(&first)]);
    }
    let bytes = disk.written_pages() * 4096 / 600;
    println!("{bytes} bytes a minute");
    assert!(bytes <= 59_000 / 2, "{bytes} bytes a minute");
}
