//! Tests of files that are damaged somewhere: what that costs, what the books say of it, and that the log has it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::files::Files;
use super::simulated::{Simulated, Wrong};
use super::tests::{NOW, QUICK, all, delivered, minute, on};
use super::*;

/// A point, and the bits of its value.
type Points = BTreeMap<(i64, Option<String>, String), u64>;

/// A file as it was after a commit.
#[derive(Clone, Debug)]
struct Moment {
    end: u64,
    queued: Points,
    ledger: Ledger,
}

fn points(minutes: &[Minute]) -> Points {
    let of = |minute: &Minute, sample: &Sample| {
        (minute.time, sample.host().map(ToString::to_string), sample.name().to_string())
    };
    let all = minutes.iter().flat_map(|minute| minute.samples.iter().map(move |sample| (minute, sample)));
    all.map(|(minute, sample)| (of(minute, sample), sample.value().to_bits())).collect()
}

fn now(spool: &Spool) -> Moment {
    let facts = spool.facts();
    Moment { end: facts.bytes.unwrap(), queued: points(&spool.newest(usize::MAX, &all)), ledger: facts.ledger }
}

/// A file with everything that a queue has, and how it was after each commit.
fn history(bounds: Bounds) -> (Vec<u8>, Vec<Moment>) {
    let disk = Simulated::default();
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    let mut moments = vec![Moment { end: 24, queued: Points::new(), ledger: Ledger::default() }];
    let db: Arc<str> = "db1".into();
    let of_db = Sample::new("a", 3.0).unwrap().of_host(&db);
    let mut with_db = minute(NOW, &[("a", 1.0), ("b", 0.1), ("c", 1e9)]);
    with_db.samples.push(of_db);
    let second = minute(NOW + 60, &[("a", 2.0), ("b", 0.2), ("new.name", 5.0)]);
    let keeps = |minute: &Minute| {
        spool.keep(vec![minute.clone()], &[], NOW);
    };
    let steps: [&dyn Fn(); 11] = [
        &|| keeps(&with_db),
        &|| spool.keep_host_id("HOST1"),
        &|| keeps(&second),
        &|| {
            spool.settle(vec![Settlement { time: NOW, delivered: with_db.samples[..2].to_vec(), rejected: Vec::new() }])
        },
        // One of its values is a later one, and one was delivered.
        &|| keeps(&minute(NOW, &[("a", 7.0), ("c", 8.0), ("z", 9.0)])),
        &|| keeps(&minute(NOW + 120, &[("a", 3.0), ("b", 0.3)])),
        &|| spool.settle(vec![delivered(&second)]),
        &|| keeps(&minute(NOW + 180, &[("late", 4.0)])),
        &|| spool.expire(NOW + HORIZON_SECONDS + 1),
        &|| keeps(&minute(NOW + 240, &[("a", 5.0), ("late", 5.0)])),
        &|| keeps(&minute(NOW + 300, &[("a", 6.0), ("b", 6.0)])),
    ];
    for step in steps {
        step();
        moments.push(now(&spool));
    }
    drop(spool);
    (disk.bytes("wasaba.db").unwrap(), moments)
}

/// What an agent finds in these bytes when it starts, with the lines that it logs.
fn found(bytes: &[u8]) -> (Moment, Vec<String>) {
    let disk = Simulated::default();
    disk.write("wasaba.db", bytes);
    let mut files = Files::new(Arc::new(disk), QUICK);
    files.open_queue(Duration::ZERO).unwrap();
    let picture = files.picture();
    let (minutes, has_more) = files.minutes(i64::MAX, usize::MAX, &Whose::Any);
    assert!(!has_more && !files.has_unreadable());
    (Moment { end: picture.bytes, queued: points(&minutes), ledger: picture.ledger }, files.take_lines(false))
}

/// Damages each of these places in several ways, and asks what comes of it.
fn damage(whole: &[u8], places: impl Iterator<Item = usize>, mut check: impl FnMut(usize, &Moment, &[String])) {
    for at in places {
        for mask in [1 << (at % 8), 0x80, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= mask;
            let (found, lines) = found(&bytes);
            assert_eq!(lines.len(), 1, "damage at {at} by {mask:x}: {lines:?}");
            assert!(found.ledger.is_balanced(), "damage at {at}: {:?}", found.ledger);
            assert_eq!(found.ledger.queued, found.queued.len() as u64, "damage at {at}");
            check(at, &found, &lines);
        }
    }
}

#[test]
fn a_damaged_byte_costs_at_most_the_values_of_its_commit_and_the_books_and_the_log_say_how_many() {
    let (whole, moments) = history(QUICK);
    let [.., before, last] = moments.as_slice() else { panic!() };
    assert_eq!(last.end, whole.len() as u64, "the history must not end with a rewritten file");
    damage(&whole, 0..whole.len(), |at, found, lines| {
        let number = moments.iter().position(|moment| (at as u64) < moment.end).unwrap();
        if number == moments.len() - 1 {
            assert_eq!((&found.queued, found.ledger), (&before.queued, before.ledger), "damage at {at}");
            assert!(lines[0].contains("the last commit of `/simulated/wasaba.db` "), "{lines:?}");
            return;
        }
        let mut expected = last.clone();
        if number > 0 {
            // Without what was new in that commit.
            let (before, after) = (&moments[number - 1].queued, &moments[number].queued);
            expected.queued.retain(|point, value| before.get(point) == Some(value) || after.get(point) != Some(value));
        }
        let lost = (last.queued.len() - expected.queued.len()) as u64;
        expected.ledger.lose(lost, ledger::Loss::Damaged);
        assert_eq!((&found.queued, found.ledger), (&expected.queued, expected.ledger), "damage at {at}");
        let said = format!("lost {};", counted(lost, "point"));
        assert!(lines[0].contains(&said), "damage at {at}: {lines:?}");
    });
}

#[test]
fn a_damaged_byte_of_a_file_that_was_written_again_costs_nothing_else_either() {
    let bounds = Bounds { dead_bytes: 0, ..QUICK };
    let disk = Simulated::default();
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    let names = (0..12).map(|name| format!("m{name}.of.some.length")).collect::<Vec<_>>();
    let (mut time, mut is_rewritten) = (NOW, false);
    while !is_rewritten || time < NOW + 100 * 60 {
        time += 60;
        if time % 480 > 0 {
            spool.settle(spool.newest(1, &all).iter().map(delivered).collect());
        }
        let values = names.iter().zip(1_u32..).map(|(name, n)| (name.as_str(), 0.1 * f64::from(n) + time as f64));
        let size = disk.bytes("wasaba.db").map_or(0, |bytes| bytes.len());
        spool.keep(vec![minute(time, &values.collect::<Vec<_>>())], &[], time);
        is_rewritten = disk.bytes("wasaba.db").unwrap().len() < size;
    }
    let whole = now(&spool);
    drop(spool);
    let bytes = disk.bytes("wasaba.db").unwrap();
    damage(&bytes, (0..bytes.len()).step_by(7), |at, found, _| {
        assert!(found.queued.iter().all(|(point, value)| whole.queued.get(point) == Some(value)), "damage at {at}");
        // The header and the names are at the beginning.
        assert!(at > 250 || found.queued == whole.queued, "damage at {at}");
        let mut expected = whole.ledger;
        expected.lose((whole.queued.len() - found.queued.len()) as u64, ledger::Loss::Damaged);
        assert_eq!(found.ledger, expected, "damage at {at}");
    });
}

#[test]
fn a_lost_sector_or_page_costs_at_most_what_was_in_it() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let mut moments = vec![Moment { end: 24, queued: Points::new(), ledger: Ledger::default() }];
    for n in 0..60 {
        let (time, value) = (NOW + n * 60, n as f64 + 0.1);
        let mut values = vec![("a", value), ("b", value), ("c", value)];
        if n >= 20 {
            values.extend([("some.name.that.is.new", value), ("and.another", value)]);
        }
        spool.keep(vec![minute(time, &values)], &[], time);
        moments.push(now(&spool));
        if n % 3 == 0 {
            spool.settle(spool.newest(1, &all).iter().map(delivered).collect());
            moments.push(now(&spool));
        }
    }
    drop(spool);
    let (whole, last) = (disk.bytes("wasaba.db").unwrap(), moments.last().unwrap());
    let untouched = moments[moments.len() - 2].end;
    for (size, fill) in [(512, 0), (512, 0xee), (4_096, 0), (4_096, 0x11), (20, 0x5a)] {
        let step = if size == 20 { 7 } else { size };
        for from in (0..whole.len()).step_by(step).take_while(|from| ((from + size) as u64) < untouched) {
            let mut bytes = whole.clone();
            bytes[from..from + size].fill(fill);
            let range = from as u64..(from + size) as u64;
            let (found, lines) = found(&bytes);
            check_range(&moments, &range, &found, last);
            assert!(lines.len() == 1 && lines[0].contains("is damaged"), "{lines:?}");
        }
    }
}

/// Only what was new in these bytes may be missing, and only what was settled in them may be there again.
fn check_range(moments: &[Moment], range: &Range<u64>, found: &Moment, last: &Moment) {
    let touched = moments.windows(2).filter(|pair| pair[1].end > range.start && pair[0].end < range.end);
    let touched = touched.collect::<Vec<_>>();
    assert!(
        found.ledger.is_balanced() && found.ledger.collected == last.ledger.collected,
        "{range:?}: {:?}",
        found.ledger
    );
    assert_eq!(found.ledger.queued, found.queued.len() as u64, "{range:?}");
    for point in last.queued.keys().filter(|point| !found.queued.contains_key(*point)) {
        let is_new = |pair: &&[Moment]| pair[1].queued.contains_key(point) && !pair[0].queued.contains_key(point);
        assert!(touched.iter().any(is_new), "{range:?} took {point:?}");
    }
    for (point, value) in &found.queued {
        let was_settled =
            |pair: &&[Moment]| pair[0].queued.get(point) == Some(value) && !pair[1].queued.contains_key(point);
        assert!(last.queued.get(point) == Some(value) || touched.iter().any(was_settled), "{range:?} made {point:?}");
    }
}

#[test]
fn damage_that_cannot_be_mended_since_the_disk_is_full_takes_no_space_and_is_mended_later() {
    let (whole, moments) = history(QUICK);
    let last = moments.last().unwrap();
    let disk = Simulated::default();
    let mut bytes = whole.clone();
    bytes[moments[0].end as usize + 20] ^= 1;
    disk.write("wasaba.db", &bytes);
    let mut first = None;
    for start in 0..5 {
        disk.script(|what, calls| {
            (what == "write" && calls > 3 || what == "make" && calls % 2 == 0).then_some(Wrong::Full)
        });
        let spool = on(&disk);
        let found = now(&spool);
        assert!(found.queued.iter().all(|(point, value)| last.queued.get(point) == Some(value)));
        assert_eq!(first.get_or_insert(found.queued.clone()), &found.queued, "start {start}");
        drop(spool);
        let names = disk.names().into_iter().filter(|name| name.starts_with("wasaba.db")).collect::<Vec<_>>();
        assert_eq!(names, ["wasaba.db"], "start {start}");
    }
    disk.heal();
    let spool = on(&disk);
    assert_eq!(now(&spool).queued, first.unwrap());
    assert!(spool.keep(vec![minute(NOW + 600, &[("a", 1.0)])], &[], NOW) && spool.ledger().is_balanced());
}

#[test]
fn of_files_that_are_set_aside_for_one_reason_the_last_two_are_kept() {
    let disk = Simulated::default();
    for n in 0..5_u8 {
        disk.write("wasaba.db", &[7 + n; 100]);
        let spool = on(&disk);
        assert!(spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
        disk.unlink("wasaba.db");
        disk.write("wasaba.db", &[100 + n; 50]);
        assert!(spool.keep(vec![minute(NOW, &[("b", 1.0)])], &[], NOW));
        drop(spool);
    }
    let bytes = |name: &str| disk.bytes(name).unwrap()[0];
    assert_eq!((bytes("wasaba.db.damaged"), bytes("wasaba.db.damaged.before")), (11, 10));
    assert_eq!((bytes("wasaba.db.replaced"), bytes("wasaba.db.replaced.before")), (104, 103));
    assert_eq!(disk.names().iter().filter(|name| name.starts_with("wasaba.db")).count(), 5);
}

#[test]
fn a_file_that_is_read_beside_its_agent_shows_the_queue_and_whether_it_is_whole() {
    let folder = tempfile::TempDir::new().unwrap();
    let spool = Spool::open(folder.path(), NOW).unwrap();
    let (first, second) = (minute(NOW - 60, &[("a", 1.0)]), minute(NOW, &[("a", 2.0), ("b", 3.0)]));
    spool.keep(vec![first.clone(), second.clone()], &[], NOW);
    spool.keep_host_id("HOST1");
    let seen = read(folder.path(), || {}).unwrap();
    assert_eq!(seen.minutes().map(Result::unwrap).collect::<Vec<_>>(), [second, first]);
    assert_eq!((seen.ledger(), seen.host_id()), (spool.ledger(), Some("HOST1")));
    let bytes = spool.facts().bytes.unwrap();
    let whole = Verification {
        frames: 2,
        bytes,
        torn_bytes: 0,
        is_tail_doubtful: false,
        damaged: Vec::new(),
        missing: "lost 0 points".to_owned(),
        is_balanced: true,
    };
    assert_eq!(seen.verification(), whole);
    drop(spool);

    let path = folder.path().join("wasaba.db");
    let mut file = std::fs::read(&path).unwrap();
    file.extend([1, 2, 3]);
    std::fs::write(&path, &file).unwrap();
    assert_eq!(read(folder.path(), || {}).unwrap().verification(), Verification { torn_bytes: 3, ..whole });
    file[30] ^= 1;
    std::fs::write(&path, &file).unwrap();
    let verification = read(folder.path(), || {}).unwrap().verification();
    let starts = verification.damaged.iter().map(|range| range.start).collect::<Vec<_>>();
    assert!(starts == [24] && verification.missing == "lost 3 points", "{verification:?}");
    file[30] ^= 1;
    let last = usize::try_from(bytes).unwrap() - 1;
    file.truncate(last + 1);
    file[last] ^= 1;
    std::fs::write(&path, &file).unwrap();
    let verification = read(folder.path(), || {}).unwrap().verification();
    assert!(verification.is_tail_doubtful && verification.damaged.is_empty(), "{verification:?}");
    assert_eq!(std::fs::read(&path).unwrap(), file, "reading changes nothing");
    std::fs::remove_file(&path).unwrap();
    let error = read(folder.path(), || {}).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot read `{}`: ", path.display())), "{error}");
}
