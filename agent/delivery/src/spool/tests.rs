//! The tests of the spool: nothing is lost, nothing is counted wrongly, and it opens whatever state its file is in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const NOW: i64 = 1_800_000_000;

fn minute(time: i64, values: &[(&str, f64)]) -> Minute {
    Minute { time, samples: values.iter().map(|(name, value)| Sample::new(*name, *value).unwrap()).collect() }
}

fn all(_: i64, _: &Sample) -> bool {
    true
}

fn delivered(minute: &Minute) -> Settlement {
    Settlement { time: minute.time, delivered: minute.samples.clone(), rejected: Vec::new() }
}

fn open(folder: &TempDir) -> Spool {
    Spool::open(folder.path(), NOW).unwrap()
}

#[track_caller]
fn assert_conserved(spool: &Spool) {
    let ledger = spool.ledger();
    assert_eq!(ledger.collected, ledger.delivered + ledger.queued + ledger.expired + ledger.rejected, "{ledger:?}");
    let queued: usize = spool.newest(usize::MAX, &all).iter().map(|minute| minute.samples.len()).sum();
    assert_eq!(ledger.queued, queued as u64, "the ledger differs from the queue");
}

fn set_aside(folder: &TempDir) -> bool {
    folder.path().join(format!("wasaba.db.damaged-{NOW}")).exists()
}

#[test]
fn a_minute_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let (first, second) = (minute(NOW - 60, &[("a", 1.0), ("b", 2.5)]), minute(NOW, &[("a", 2.0)]));
    let reading = Reading { value: 7.0.into(), unix_millis: NOW };
    assert!(spool.keep(first.clone(), &[("plugin web\tnginx.requests".to_owned(), reading)], NOW));
    assert!(spool.keep(second.clone(), &[], NOW));
    spool.keep_host_id("4Hkc5RVYYB4");
    spool.settle(vec![delivered(&first)]);

    // kill -9 leaves the file in its present state: nothing is closed.
    let after = TempDir::new().unwrap();
    fs::copy(folder.path().join("wasaba.db"), after.path().join("wasaba.db")).unwrap();
    let spool = open(&after);
    assert_eq!(spool.newest(100, &all), [second]);
    assert_eq!(spool.ledger(), Ledger { collected: 3, delivered: 2, queued: 1, expired: 0, rejected: 0 });
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
    let mode = fs::metadata(folder.path().join("wasaba.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
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
fn a_damaged_file_is_set_aside_and_a_new_one_started() {
    let noise: Vec<u8> = (0_u32..200_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = {
        let folder = TempDir::new().unwrap();
        let spool = open(&folder);
        for n in 0..50 {
            spool.keep(minute(NOW - n * 60, &[("a", 1.0), ("b", 2.0)]), &[], NOW);
        }
        drop(spool);
        fs::read(folder.path().join("wasaba.db")).unwrap()
    };
    let mut altered = whole.clone();
    altered.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x5a);
    let truncated = [100, 4096, whole.len() / 2].map(|end| whole[..end].to_vec());
    for bytes in [noise, altered].into_iter().chain(truncated) {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("wasaba.db"), &bytes).unwrap();
        let spool = open(&folder);
        assert!(set_aside(&folder), "damage in {} bytes went unnoticed", bytes.len());
        assert!(spool.keep(minute(NOW, &[("a", 1.0)]), &[], NOW));
        assert_conserved(&spool);
    }
}

#[test]
fn an_empty_file_counts_as_new() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("wasaba.db"), "").unwrap();
    assert!(open(&folder).keep(minute(NOW, &[("a", 1.0)]), &[], NOW));
    assert!(!set_aside(&folder));
}

#[test]
fn a_file_of_a_newer_version_is_not_touched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wasaba.db");
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("facts");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = br#"{"format":2,"somewhere":"else"}"#.as_slice();
    transaction.open_table(table).unwrap().insert("totals", newer).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let refusal = Spool::open(folder.path(), NOW).err().unwrap();
    assert_eq!(refusal, OpenError::Newer(path.clone()));
    assert!(refusal.to_string().contains("written by a newer wasaba: install that version again"));
    assert!(path.exists() && !set_aside(&folder));
}

#[test]
fn while_the_disk_fails_the_newest_hour_stays_in_memory_and_moves_to_the_disk_later() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    fs::write(&root, "a file in place of the folder").unwrap();
    let spool = Spool::open(&root, NOW).unwrap();
    for n in 0..70 {
        assert!(!spool.keep(minute(NOW + n * 60, &[("a", 1.0), ("b", 2.0)]), &[], NOW + n * 60));
        assert_conserved(&spool);
    }
    assert_eq!(spool.newest(usize::MAX, &all).len(), 60);
    assert_eq!(spool.ledger(), Ledger { collected: 140, queued: 120, expired: 20, ..Ledger::default() });
    assert_eq!([1, 3, 4].map(|most| spool.newest(most, &all).len()), [1, 1, 2]);
    let newest = spool.newest(1, &all).remove(0);
    assert_eq!(newest.time, NOW + 69 * 60);
    spool.settle(vec![delivered(&newest)]);
    assert_conserved(&spool);

    fs::remove_file(&root).unwrap();
    assert!(spool.keep(minute(NOW + 4200, &[("a", 1.0)]), &[], NOW + 4200));
    assert_conserved(&spool);
    drop(spool);
    let spool = Spool::open(&root, NOW + 4200).unwrap();
    assert_eq!(spool.ledger(), Ledger { collected: 141, delivered: 2, queued: 119, expired: 20, rejected: 0 });
    assert_conserved(&spool);
}

#[test]
fn a_file_that_is_damaged_while_in_use_costs_only_its_contents() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    assert!(spool.keep(minute(NOW - 60, &[("a", 1.0), ("b", 1.0)]), &[], NOW));
    spool.lock().close_file(&folder.path().join("wasaba.db"), FileError::Damaged("by the test".to_owned()));
    let late = minute(NOW - 60, &[("a", 1.0), ("b", 1.0)]);
    spool.settle(vec![delivered(&late)]);

    assert!(spool.keep(minute(NOW, &[("a", 2.0)]), &[], NOW));
    assert!(set_aside(&folder));
    assert_conserved(&spool);
    assert_eq!(spool.ledger(), Ledger { collected: 3, queued: 1, expired: 2, ..Ledger::default() });
}

#[test]
fn two_minutes_of_the_same_time_are_merged_and_the_later_value_wins() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let first = minute(NOW, &[("a", 1.0), ("b", 1.0)]);
    spool.keep(first.clone(), &[], NOW);
    spool.keep(minute(NOW, &[("c", 3.0), ("b", 2.0), ("b", 2.5)]), &[], NOW);
    assert_eq!(spool.newest(100, &all), [minute(NOW, &[("a", 1.0), ("b", 2.5), ("c", 3.0)])]);
    assert_conserved(&spool);

    // Delivered before the second came: the new value of `b` must still be delivered.
    spool.settle(vec![delivered(&first)]);
    assert_eq!(spool.newest(100, &all), [minute(NOW, &[("b", 2.5), ("c", 3.0)])]);
    assert_eq!(spool.ledger(), Ledger { collected: 3, delivered: 1, queued: 2, ..Ledger::default() });
    assert_conserved(&spool);
}

#[test]
fn the_newest_minutes_come_first_and_at_least_one() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    for time in [NOW - 60, NOW, NOW - 120] {
        spool.keep(minute(time, &[("a", 1.0), ("b", 1.0)]), &[], NOW);
    }
    let times = |minutes: Vec<Minute>| minutes.iter().map(|minute| minute.time).collect::<Vec<_>>();
    assert_eq!(times(spool.newest(1, &all)), [NOW]);
    assert_eq!(times(spool.newest(5, &all)), [NOW, NOW - 60]);
    assert_eq!(times(spool.newest(6, &all)), [NOW, NOW - 60, NOW - 120]);
    assert_eq!(times(spool.since(NOW - 60)), [NOW - 60, NOW]);
}

#[test]
fn minutes_older_than_a_day_are_dropped() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    spool.keep(minute(NOW - HORIZON_SECONDS, &[("a", 1.0)]), &[], NOW);
    assert_eq!(spool.ledger().queued, 1);
    spool.expire(NOW + 1);
    assert_eq!(spool.ledger(), Ledger { collected: 1, expired: 1, ..Ledger::default() });
    assert_conserved(&spool);
}

#[test]
fn a_queue_over_its_limit_in_bytes_drops_its_oldest() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let samples: Vec<_> = (0..15_000).map(|n| Sample::new(format!("{n:0>250}"), 1.0).unwrap()).collect();
    for time in NOW..NOW + 10 {
        assert!(spool.keep(Minute { time, samples: samples.clone() }, &[], NOW));
    }
    let expected = MOST_BYTES / (15_000 * 259);
    assert_eq!(spool.ledger().expired, (10 - expected) * 15_000);
    assert_conserved(&spool);
    let size = fs::metadata(folder.path().join("wasaba.db")).unwrap().len();
    assert!(size < 3 * MOST_BYTES, "the file has {size} bytes");
}

#[test]
fn counters_that_live_for_a_minute_do_not_grow_the_file() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let size = || fs::metadata(folder.path().join("wasaba.db")).unwrap().len();
    let mut after_an_hour = 0;
    for number in 0..240 {
        let now = NOW + number * 60;
        let reading = Reading { value: 1.0.into(), unix_millis: now * 1_000 };
        let readings = (0..100).map(|name| (format!("docker\t{number}-{name:0>40}"), reading)).collect::<Vec<_>>();
        let first = minute(now, &[("a", 1.0)]);
        assert!(spool.keep(first.clone(), &readings, now));
        spool.settle(vec![delivered(&first)]);
        if number == 60 {
            after_an_hour = size();
        }
    }
    assert!(spool.readings("docker").len() <= 1_100);
    assert_eq!(size(), after_an_hour);
    drop(spool);
    let later = NOW + 240 * 60 + 601;
    let spool = Spool::open(folder.path(), later).unwrap();
    assert!(!spool.readings("docker").is_empty());
    assert!(spool.keep(minute(later + 601, &[("a", 1.0)]), &[], later + 601));
    drop(spool);
    assert!(Spool::open(folder.path(), later).unwrap().readings("docker").is_empty(), "the row is removed");
}

/// A random walk, the same each time, through every event that a spool may meet.
#[test]
fn no_sequence_of_events_breaks_the_conservation_law() {
    let folder = TempDir::new().unwrap();
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let mut spool = Spool::open(&root, NOW).unwrap();
    let (mut now, mut seed) = (NOW, 42_u64);
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..600 {
        now += i64::try_from(random(3)).unwrap() * 60;
        match random(10) {
            0..=3 => {
                let names: Vec<String> = (0..random(8)).map(|_| format!("m{}", random(6))).collect();
                let values: Vec<_> = names.iter().map(|name| (name.as_str(), random(4) as f64)).collect();
                spool.keep(minute(now - now % 60, &values), &[], now);
            }
            4..=6 => {
                let settlements = spool.newest(random(40) as usize, &all).into_iter().map(|minute| {
                    let (delivered, rest): (Vec<_>, Vec<_>) = minute.samples.into_iter().partition(|_| random(2) == 0);
                    let rejected = rest.into_iter().filter(|_| random(4) == 0).collect();
                    Settlement { time: minute.time, delivered, rejected }
                });
                let settlements = settlements.collect();
                spool.settle(settlements);
            }
            7 => {
                now += if random(5) == 0 { HORIZON_SECONDS } else { 0 };
                spool.expire(now);
            }
            8 => {
                drop(spool);
                spool = Spool::open(&root, now).unwrap();
            }
            _ => {
                // The disk fails for a while, with a settlement in between that cannot be written.
                let minutes = spool.newest(20, &all);
                spool.lock().close_file(&root, FileError::Unusable("by the test".to_owned()));
                fs::rename(&root, &away).unwrap();
                fs::write(&root, "in the way").unwrap();
                spool.settle(minutes.iter().map(delivered).collect());
                spool.keep(minute(now, &[("m1", 9.0), ("m7", 9.0)]), &[], now);
                fs::remove_file(&root).unwrap();
                fs::rename(&away, &root).unwrap();
                spool.expire(now);
            }
        }
        assert_conserved(&spool);
    }
    assert!(spool.ledger().collected > 500);
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
    spool.keep(minute(NOW, &[("a", 1.0)]), &[], NOW);
    drop(spool);
    assert_eq!(open(&folder).values("web"), *values);
}

#[test]
fn values_are_dropped_a_month_after_the_first_start_without_their_instance_however_long_it_was_quiet_before() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder);
    let all = ["quiet", "gone", "known"];
    all.iter().for_each(|name| spool.keep_values(name, Arc::new(StoredValues::from([("k".to_owned(), Vec::new())]))));
    spool.keep(minute(NOW, &[("a", 1.0)]), &[], NOW);
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
    let folder = TempDir::new().unwrap();
    let spool = Spool::open(folder.path(), NOW).unwrap();
    let db: Arc<str> = "db1".into();
    let own = Sample::new("a", 1.0).unwrap();
    let foreign = Sample::new("a", 2.0).unwrap().of_host(&db);
    spool.keep(Minute { time: NOW - 60, samples: vec![foreign.clone()] }, &[], NOW);
    spool.keep(Minute { time: NOW, samples: vec![foreign.clone(), own.clone()] }, &[], NOW);
    assert_eq!(spool.ledger().queued, 3);
    let own_only = |_: i64, sample: &Sample| sample.host() != Some(&db);
    assert_eq!(spool.newest(100, &own_only), [Minute { time: NOW, samples: vec![own.clone()] }]);
    spool.settle(vec![Settlement { time: NOW, delivered: vec![own], rejected: Vec::new() }]);
    assert_eq!(spool.newest(100, &own_only), []);
    assert_eq!(spool.newest(100, &all).len(), 2);
}
