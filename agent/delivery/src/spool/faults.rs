//! Tests of the spool on disks that fail, hang, are full or read-only, and of files that something else damages, deletes or replaces.

use super::simulated::{Simulated, Wrong};
use super::tests::{NOW, QUICK, all, assert_conserved, delivered, minute, on, random};
use super::*;

fn queued(spool: &Spool) -> Vec<Minute> {
    spool.newest(usize::MAX, &all)
}

/// Changes fail from now on; reading does not.
fn read_only(disk: &Simulated) {
    disk.script(|what, _| {
        (!matches!(what, "read" | "open to read" | "stat" | "fstat" | "lock")).then_some(Wrong::ReadOnly)
    });
}

/// What takes space fails from now on.
fn full(disk: &Simulated) {
    disk.script(|what, _| matches!(what, "write" | "make").then_some(Wrong::Full));
}

fn damaged_copies(disk: &Simulated) -> usize {
    disk.names().iter().filter(|name| name.contains("damaged")).count()
}

#[test]
fn while_the_disk_is_full_the_newest_hour_stays_in_memory_and_moves_to_the_file_later() {
    let disk = Simulated::default();
    full(&disk);
    let spool = on(&disk);
    for n in 0..70 {
        assert!(!spool.keep(vec![minute(NOW + n * 60, &[("a", 1.0), ("b", 2.0)])], &[], NOW + n * 60));
        assert_conserved(&spool);
    }
    assert_eq!(queued(&spool).len(), 60);
    assert_eq!(spool.ledger(), Ledger { collected: 140, queued: 120, overflowed: 20, ..Ledger::default() });
    assert_eq!([1, 3, 4].map(|most| spool.newest(most, &all).len()), [1, 1, 2]);
    let newest = spool.newest(1, &all).remove(0);
    assert_eq!(newest.time, NOW + 69 * 60);
    spool.settle(vec![delivered(&newest)]);
    assert_conserved(&spool);
    assert!(matches!(spool.facts().place, Place::Memory { since: NOW, .. }));
    assert_eq!(damaged_copies(&disk), 0, "a first start on a full disk is not damage");

    disk.heal();
    assert!(spool.keep(vec![minute(NOW + 4200, &[("a", 1.0)])], &[], NOW + 4200));
    assert_conserved(&spool);
    assert_eq!(spool.facts().place, Place::Disk);
    drop(spool);
    let spool = on(&disk);
    let expected = Ledger { collected: 141, delivered: 2, queued: 119, overflowed: 20, ..Ledger::default() };
    assert_eq!(spool.ledger(), expected);
    assert_conserved(&spool);
}

#[test]
fn what_is_queued_is_delivered_while_nothing_can_be_written_and_settled_in_the_file_later() {
    for fail in [read_only, full] {
        let disk = Simulated::default();
        let (first, second, third) =
            (minute(NOW, &[("a", 1.0)]), minute(NOW + 60, &[("a", 2.0)]), minute(NOW + 120, &[("a", 3.0)]));
        let spool = on(&disk);
        spool.keep(vec![first.clone(), second.clone()], &[], NOW);
        spool.keep_host_id("HOST1");
        drop(spool);
        fail(&disk);
        let spool = on(&disk);
        assert_eq!(spool.host_id().as_deref(), Some("HOST1"));
        assert!(!spool.keep(vec![third.clone()], &[], NOW));
        assert_eq!(queued(&spool), [third.clone(), second.clone(), first.clone()]);
        spool.settle(vec![delivered(&third), delivered(&second)]);
        assert_eq!(queued(&spool), std::slice::from_ref(&first));
        let expected = Ledger { collected: 3, delivered: 2, queued: 1, ..Ledger::default() };
        assert_eq!(spool.ledger(), expected);
        assert_eq!((spool.facts().minutes, spool.facts().oldest), (1, Some(NOW)), "delivered since is not queued");
        disk.heal();
        spool.settle(Vec::new());
        assert_eq!((spool.ledger(), spool.facts().place), (expected, Place::Disk));
        drop(spool);
        assert_eq!((on(&disk).ledger(), damaged_copies(&disk)), (expected, 0));
        assert_eq!(queued(&on(&disk)), [first]);
    }
}

#[test]
fn points_that_are_only_in_memory_at_the_end_are_lost_in_the_ledger_and_not_queued() {
    let disk = Simulated::default();
    let spool = on(&disk);
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    full(&disk);
    spool.keep(vec![minute(NOW + 60, &[("a", 1.0), ("b", 1.0)])], &[], NOW);
    assert_eq!(spool.close(QUICK.patience), Ledger { collected: 3, queued: 1, lost: 2, ..Ledger::default() });
    disk.heal();
    assert_eq!(spool.close(QUICK.patience), Ledger { collected: 3, queued: 3, ..Ledger::default() });
}

#[test]
fn a_disk_that_hangs_holds_up_neither_a_minute_nor_its_delivery_and_gets_everything_later() {
    let disk = Simulated::default();
    let bounds = Bounds { patience: Duration::from_millis(20), ..QUICK };
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    while !spool.keep(Vec::new(), &[], NOW) {}
    disk.freeze();
    let minutes = (1..=3).map(|n| minute(NOW + n * 60, &[("a", 1.0)])).collect::<Vec<_>>();
    for minute in &minutes {
        assert!(!spool.keep(vec![minute.clone()], &[], NOW));
    }
    assert_eq!(queued(&spool), minutes.iter().rev().cloned().collect::<Vec<_>>(), "what is in the file cannot be read");
    spool.settle(vec![delivered(&minutes[0]), delivered(&minutes[2])]);
    assert_eq!(queued(&spool), [minutes[1].clone()]);
    assert_eq!(spool.ledger(), Ledger { collected: 4, delivered: 2, queued: 2, ..Ledger::default() });
    let Place::Memory { why, .. } = spool.facts().place else { panic!("{:?}", spool.facts()) };
    assert_eq!(why, "its disk does not answer");
    let at_the_end = spool.close(Duration::ZERO);
    assert!(at_the_end.is_balanced() && at_the_end.lost > 0, "{at_the_end:?}");

    disk.thaw();
    while spool.facts().place != Place::Disk || !spool.keep(Vec::new(), &[], NOW) {
        std::thread::yield_now();
    }
    assert_eq!(queued(&spool), [minutes[1].clone(), minute(NOW, &[("a", 1.0)])]);
    assert_eq!(spool.ledger(), Ledger { collected: 4, delivered: 2, queued: 2, ..Ledger::default() });
    assert_conserved(&spool);
}

#[test]
fn a_disk_that_hung_and_answers_while_the_agent_stops_gets_everything() {
    let disk = Simulated::default();
    let bounds = Bounds { patience: Duration::from_millis(20), ..QUICK };
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    disk.freeze();
    assert!(!spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
    assert!(!spool.keep(vec![minute(NOW + 60, &[("a", 1.0)])], &[], NOW));
    let asked = spool.shared.lock().asked;
    let at_the_end = std::thread::scope(|scope| {
        let closing = scope.spawn(|| spool.close(QUICK.patience));
        while spool.shared.lock().asked == asked {
            std::thread::yield_now();
        }
        disk.thaw();
        closing.join().unwrap()
    });
    assert_eq!(at_the_end, Ledger { collected: 2, queued: 2, ..Ledger::default() });
    drop(spool);
    assert_eq!(queued(&on(&disk)).len(), 2);
}

#[test]
fn a_disk_that_hangs_at_the_start_does_not_hold_up_the_agent() {
    let disk = Simulated::default();
    let first = minute(NOW, &[("a", 1.0)]);
    on(&disk).keep(vec![first.clone()], &[], NOW);
    disk.freeze();
    let bounds = Bounds { patience: Duration::from_millis(20), ..QUICK };
    let spool = Spool::on(Arc::new(disk.clone()), bounds, NOW).unwrap();
    let second = minute(NOW + 60, &[("a", 2.0)]);
    assert!(!spool.keep(vec![second.clone()], &[], NOW));
    assert_eq!(queued(&spool), std::slice::from_ref(&second));
    disk.thaw();
    while spool.facts().place != Place::Disk || !spool.keep(Vec::new(), &[], NOW) {
        std::thread::yield_now();
    }
    assert_eq!(queued(&spool), [second, first]);
    assert_conserved(&spool);
}

#[test]
fn a_file_that_is_deleted_replaced_or_altered_is_made_again_from_what_can_still_be_read() {
    let first = minute(NOW, &[("a", 1.0), ("b", 2.0)]);
    let second = minute(NOW + 60, &[("a", 3.0)]);
    let deleted: fn(&Simulated) = |disk| disk.unlink("wasaba.db");
    let replaced: fn(&Simulated) = |disk| {
        disk.unlink("wasaba.db");
        disk.write("wasaba.db", b"something else");
    };
    let emptied: fn(&Simulated) = |disk| disk.write("wasaba.db", b"");
    let irregular: fn(&Simulated) = |disk| disk.replace_by_irregular("wasaba.db");
    let overwritten: fn(&Simulated) = |disk| disk.write("wasaba.db", &[7; 10_000]);
    for (harm, lost) in [(deleted, 0), (replaced, 0), (irregular, 0), (emptied, 2), (overwritten, 2)] {
        let disk = Simulated::default();
        let spool = on(&disk);
        spool.keep(vec![first.clone()], &[], NOW);
        harm(&disk);
        assert!(spool.keep(vec![second.clone()], &[], NOW + 60));
        let expected = Ledger { collected: 3, queued: 3 - lost, damaged: lost, ..Ledger::default() };
        assert_eq!(spool.ledger(), expected);
        assert_conserved(&spool);
        assert!(Spool::on(Arc::new(disk.clone()), QUICK, NOW).is_err(), "the new file is locked");
        drop(spool);
        let spool = on(&disk);
        assert_eq!(spool.ledger(), expected);
        assert_eq!(queued(&spool).len(), if lost == 0 { 2 } else { 1 });
        assert_eq!(damaged_copies(&disk), 0);
        let aside = match harm as usize {
            harm if harm == replaced as usize => Some(b"something else".to_vec()),
            harm if harm == irregular as usize => Some(Vec::new()),
            _ => None,
        };
        assert_eq!(disk.bytes("wasaba.db.replaced"), aside);
    }
}

#[test]
fn beside_another_agent_that_took_over_the_path_it_continues_in_memory() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let first = minute(NOW, &[("a", 1.0)]);
    spool.keep(vec![first.clone()], &[], NOW);
    disk.unlink("wasaba.db");
    disk.unlink("wasaba.state");
    let other = on(&disk);
    other.keep(vec![minute(NOW, &[("z", 1.0)])], &[], NOW);
    assert!(!spool.keep(vec![minute(NOW + 60, &[("a", 2.0)])], &[], NOW));
    assert_eq!(queued(&spool).len(), 2);
    let Place::Memory { why, .. } = spool.facts().place else { panic!("{:?}", spool.facts()) };
    assert_eq!(why, "in use by another wasaba");
    assert_eq!((queued(&other).len(), damaged_copies(&disk)), (1, 0));
}

#[test]
fn a_file_of_a_newer_version_is_not_touched_and_one_of_redb_is_set_aside() {
    let disk = Simulated::default();
    let mut newer = frames::header(*b"wasaba q", 1);
    newer[8] = 2;
    let sum = crc32fast::hash(&newer[..16]).to_le_bytes();
    newer[16..20].copy_from_slice(&sum);
    newer.extend([1; 100]);
    disk.write("wasaba.db", &newer);
    let refusal = Spool::on(Arc::new(disk.clone()), QUICK, NOW).err().unwrap();
    assert_eq!(refusal, OpenError::Newer("/simulated/wasaba.db".into()));
    assert!(refusal.to_string().contains("written by a newer wasaba: install that version again"));
    assert_eq!(disk.bytes("wasaba.db"), Some(newer));

    disk.write("wasaba.db", b"redb\x1a\x0a\xa9\x0d\x0a and the rest of it, which is longer than a header");
    let spool = on(&disk);
    assert!(spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
    assert!(disk.names().contains(&"wasaba.db.redb".to_owned()) && damaged_copies(&disk) == 0);
}

#[test]
fn of_a_damaged_file_everything_readable_is_kept_and_the_rest_is_counted() {
    let disk = Simulated::default();
    let spool = on(&disk);
    for n in 0..50 {
        spool.keep(vec![minute(NOW + n * 60, &[("a", 1.0), ("b", n as f64)])], &[], NOW);
    }
    drop(spool);
    let whole = disk.bytes("wasaba.db").unwrap();
    let mut random = random(3);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let at = random(whole.len() as u64 - 200) as usize;
        bytes[at..at + 1 + random(20) as usize].iter_mut().for_each(|byte| *byte ^= 0x5a);
        let disk = Simulated::default();
        disk.write("wasaba.db", &bytes);
        let spool = on(&disk);
        assert_eq!(damaged_copies(&disk), 1, "damage at {at} went unnoticed");
        assert_eq!(disk.bytes("wasaba.db.damaged"), Some(bytes));
        assert_conserved(&spool);
        let ledger = spool.ledger();
        assert!(ledger.collected == 100 && ledger.damaged <= 4, "damage at {at}: {ledger:?}");
        assert!(spool.keep(vec![minute(NOW + 9_000, &[("a", 1.0)])], &[], NOW));
        drop(spool);
        let spool = on(&disk);
        assert_eq!((spool.ledger().collected, damaged_copies(&disk)), (101, 1), "it is said once");
        assert_conserved(&spool);
    }
    // Noise from the beginning on.
    let disk = Simulated::default();
    disk.write("wasaba.db", &(0..200_000).map(|_| random(256) as u8).collect::<Vec<_>>());
    let spool = on(&disk);
    assert!(damaged_copies(&disk) == 1 && spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
    assert_conserved(&spool);
}

#[test]
fn a_torn_end_is_not_damage_wherever_it_is_torn() {
    let disk = Simulated::default();
    let spool = on(&disk);
    for n in 0..3 {
        spool.keep(vec![minute(NOW + n * 60, &[("a", 1.0)])], &[], NOW);
    }
    drop(spool);
    let whole = disk.bytes("wasaba.db").unwrap();
    for end in 0..whole.len() {
        for rest in [Vec::new(), vec![0; whole.len() - end], vec![0xff; 600]] {
            if end < 24 && !rest.is_empty() {
                continue;
            }
            let disk = Simulated::default();
            disk.write("wasaba.db", &[&whole[..end], &rest].concat());
            let spool = on(&disk);
            assert_eq!(damaged_copies(&disk), 0, "torn at {end}");
            assert_conserved(&spool);
        }
    }
}

#[test]
fn a_row_that_rots_in_the_file_is_counted_as_damaged_when_it_is_read_and_holds_up_no_other() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let minutes = (0..4).map(|n| minute(NOW + n * 60, &[("a", 1.0), ("b", 0.1)])).collect::<Vec<_>>();
    for minute in &minutes {
        spool.keep(vec![minute.clone()], &[], NOW);
    }
    let mut bytes = disk.bytes("wasaba.db").unwrap();
    let end = bytes.len();
    // In the last frame.
    bytes[end - 20] ^= 1;
    disk.write("wasaba.db", &bytes);
    assert_eq!(queued(&spool), minutes[..3].iter().rev().cloned().collect::<Vec<_>>());
    spool.settle(vec![delivered(&minutes[0])]);
    assert_eq!(spool.ledger(), Ledger { collected: 8, delivered: 2, queued: 4, damaged: 2, ..Ledger::default() });
    assert_conserved(&spool);
}

#[test]
fn while_the_file_cannot_be_read_new_minutes_are_delivered_and_nothing_is_dropped() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let (first, second) = (minute(NOW, &[("a", 1.0)]), minute(NOW + 60, &[("a", 2.0)]));
    spool.keep(vec![first.clone()], &[], NOW);
    disk.script(|what, _| matches!(what, "read" | "write").then_some(Wrong::Input));
    assert!(!spool.keep(vec![second.clone()], &[], NOW));
    assert_eq!(queued(&spool), std::slice::from_ref(&second));
    assert_eq!(spool.ledger().queued, 2);
    // What can be written again cannot always be read.
    disk.script(|what, _| (what == "read").then_some(Wrong::Input));
    queued(&spool);
    assert!(!spool.is_read());
    disk.heal();
    assert!(spool.keep(Vec::new(), &[], NOW));
    assert_eq!(queued(&spool), [second, first]);
    assert!(spool.is_read());
    assert_conserved(&spool);
}

#[test]
fn of_a_damaged_state_the_rest_is_kept_and_the_queue_and_host_id_are_not_touched() {
    let disk = Simulated::default();
    let spool = on(&disk);
    let first = minute(NOW, &[("a", 1.0)]);
    spool.keep_host_id("HOST1");
    spool.keep(vec![first.clone()], &[], NOW);
    for key in ["x", "y", "z"] {
        spool.put("test", key, &[7; 100]);
        spool.keep(Vec::new(), &[], NOW);
    }
    drop(spool);
    let mut bytes = disk.bytes("wasaba.state").unwrap();
    let end = bytes.len();
    // In the frame before the last one.
    bytes[end - 200] ^= 1;
    disk.write("wasaba.state", &bytes);
    let spool = on(&disk);
    assert_eq!(spool.all("test").into_keys().collect::<Vec<_>>(), ["x", "z"]);
    assert_eq!((queued(&spool), spool.host_id().as_deref()), (vec![first], Some("HOST1")));
    disk.write("wasaba.state", &[7; 1_000]);
    drop(spool);
    assert_eq!(on(&disk).host_id().as_deref(), Some("HOST1"), "the queue has it, too");
}

#[test]
fn what_is_dropped_is_logged_at_once_and_then_once_an_hour_and_at_the_end_with_its_reason() {
    let mut files = files::Files::new(Arc::new(Simulated::default()), QUICK);
    files.open_queue(Duration::ZERO).unwrap();
    let mut lines = |why, points, time, now| {
        files.note(plan::Drops::of(why, points, time), now);
        files.take_lines(false)
    };
    let (overflowed, misdated, expired) = (ledger::Loss::Overflowed, ledger::Loss::Misdated, ledger::Loss::Expired);
    let expected = "dropped 3 undelivered points of 1 minute, the oldest: the queue has reached its 32 MiB";
    assert_eq!(lines(overflowed, 3, NOW, NOW), [expected]);
    assert_eq!(lines(overflowed, 3, NOW + 60, NOW + 60), [""; 0]);
    let expected = "dropped 1 undelivered point of 1 minute: dated more than 10 minutes ahead of Mackerel's time; set this \
                    machine's clock";
    assert_eq!(lines(misdated, 1, NOW, NOW + 120), [expected], "each reason for itself");
    let expected = "dropped 1 undelivered point of 1 minute: older than 24 h by Mackerel's time, which it does not store; if they \
                    did not wait for a day, set this machine's clock";
    assert_eq!(lines(expired, 1, NOW, NOW + 120), [expected]);
    assert_eq!(lines(overflowed, 4, NOW + 120, NOW + 120), [""; 0]);
    let expected = "dropped 7 undelivered points of 2 minutes, the oldest: the queue has reached its 32 MiB";
    assert_eq!(lines(overflowed, 0, NOW, NOW + 3_600), [expected], "also if it has ended by then");
    assert_eq!(lines(overflowed, 0, NOW, NOW + 7_200), [""; 0]);
    assert_eq!(lines(overflowed, 2, NOW, NOW + 7_260), [expected.replace("7", "2").replace("2 minutes", "1 minute")]);
    assert_eq!(lines(overflowed, 1, NOW, NOW + 7_320), [""; 0]);
    assert_eq!(
        files.take_lines(true),
        [expected.replace("7 undelivered points of 2 minutes", "1 undelivered point of 1 minute")]
    );
    assert_eq!(files.take_lines(true), [""; 0]);
}

#[test]
fn a_value_that_replaced_one_in_the_file_is_not_followed_by_it_however_late_the_disk_recovers() {
    let disk = Simulated::default();
    let spool = on(&disk);
    spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW);
    full(&disk);
    let later = minute(NOW, &[("a", 2.0)]);
    spool.keep(vec![later.clone()], &[], NOW);
    spool.settle(vec![delivered(&later)]);
    let hour = minute(NOW + 3_600, &[("a", 3.0)]);
    spool.keep(vec![hour.clone()], &[], NOW);
    spool.settle(vec![delivered(&hour)]);
    assert_eq!(queued(&spool), []);
    disk.heal();
    assert!(spool.keep(Vec::new(), &[], NOW));
    assert_eq!(queued(&spool), []);
    assert_eq!(spool.ledger(), Ledger { collected: 3, delivered: 2, repeated: 1, ..Ledger::default() });
}

#[test]
fn a_link_a_pipe_or_a_folder_in_place_of_a_file_is_renamed_and_the_file_made_again() {
    for name in ["wasaba.db", "wasaba.state"] {
        let harms: [fn(&Path); 3] = [
            |path| std::os::unix::fs::symlink("elsewhere", path).unwrap(),
            |path| std::fs::create_dir(path).unwrap(),
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        ];
        for harm in harms {
            let folder = tempfile::TempDir::new().unwrap();
            let spool = Spool::open(folder.path(), NOW).unwrap();
            spool.put("test", "x", b"1");
            assert!(spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
            let path = folder.path().join(name);
            std::fs::remove_file(&path).unwrap();
            harm(&path);
            spool.put("test", "x", b"2");
            assert!(spool.keep(vec![minute(NOW + 60, &[("a", 2.0)])], &[], NOW));
            assert!(folder.path().join(format!("{name}.replaced")).symlink_metadata().is_ok());
            drop(spool);
            let spool = Spool::open(folder.path(), NOW).unwrap();
            assert_eq!((queued(&spool).len(), spool.all("test")["x"].as_slice()), (2, b"2".as_slice()));
        }
    }
}

#[test]
fn a_file_that_must_not_be_used_is_said_with_its_cure_and_that_what_it_holds_waits() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::TempDir::new().unwrap();
    let spool = Spool::open(folder.path(), NOW).unwrap();
    assert!(spool.keep(vec![minute(NOW, &[("a", 1.0)])], &[], NOW));
    drop(spool);
    let path = folder.path().join("wasaba.db");
    let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o660);
    let spool = Spool::open(folder.path(), NOW).unwrap();
    let Place::Memory { why, .. } = spool.facts().place else { panic!("{:?}", spool.facts()) };
    assert_eq!(
        why,
        "other users can write to it: chmod go-w it, or remove it; what the file may hold is not counted or delivered until \
         then"
    );
    assert_eq!(spool.facts().bytes, None, "its size is not that of an empty file");
    assert!(!spool.keep(vec![minute(NOW + 60, &[("a", 2.0)])], &[], NOW));
    set(0o600);
    assert!(spool.keep(Vec::new(), &[], NOW));
    assert_eq!((spool.facts().place, queued(&spool).len()), (Place::Disk, 2));
    assert_conserved(&spool);
}

#[test]
fn memory_holds_an_hour_of_three_thousand_metrics_and_no_more_than_its_bound_of_long_names() {
    for (length, most) in [(30, 60), (250, 20)] {
        let names = (0..3_000).map(|n| format!("{n:0>length$}")).collect::<Vec<_>>();
        let mut batch = batch::Batch::default();
        for n in 0..70 {
            let samples = names.iter().map(|name| Sample::new(name.as_str(), 1.0).unwrap()).collect();
            batch.keep(NOW + n * 60, samples);
            batch.bound();
        }
        let kept = batch.minutes.len();
        assert!(if most == 60 { kept == most } else { kept < most }, "{kept} minutes of names of {length} bytes");
        assert!(batch.ledger.is_balanced(), "{:?}", batch.ledger);
        assert_eq!(batch.minutes.keys().next_back(), Some(&(NOW + 69 * 60)));
    }
}

#[test]
fn values_of_a_time_that_was_delivered_before_the_clock_was_set_back_are_dropped_in_the_books_and_in_the_log() {
    for fails in [false, true] {
        let disk = Simulated::default();
        let mut files = files::Files::new(Arc::new(disk.clone()), QUICK);
        files.open_queue(Duration::ZERO).unwrap();
        let mut front = front::Front::at(NOW);
        let mut commit = |front: &mut front::Front, now| {
            let batch = std::mem::take(&mut front.waiting);
            match files.commit(&batch, now) {
                Ok(()) => front.picture = files.picture(),
                Err(_) => front.waiting.put_back(batch),
            }
            assert!(front.ledger().is_balanced(), "{:?}", front.ledger());
            files.take_lines(false)
        };
        let minutes = [minute(NOW, &[("a", 1.0), ("b", 1.0)]), minute(NOW + 60, &[("a", 2.0)])];
        front.keep(minutes.to_vec(), &[], NOW + 60);
        commit(&mut front, NOW + 60);
        minutes.iter().for_each(|minute| front.settle(delivered(minute)));
        commit(&mut front, NOW + 60);
        // The same minutes again, with other values.
        if fails {
            full(&disk);
        }
        let again = [minute(NOW, &[("a", 7.0), ("b", 8.0), ("c", 9.0)]), minute(NOW + 60, &[("a", 7.0)])];
        front.keep(again.to_vec(), &[], NOW);
        let mut lines = commit(&mut front, NOW);
        let expected = Ledger { collected: 7, delivered: 3, queued: 1, repeated: 3, ..Ledger::default() };
        assert_eq!(front.ledger(), expected);
        disk.heal();
        lines.extend(commit(&mut front, NOW));
        assert_eq!(front.ledger(), expected);
        assert_eq!(lines, [COLLECTED_TWICE]);
    }
}

const COLLECTED_TWICE: &str = "dropped 3 points of 2 minutes that were collected twice, such as `a`: this machine's clock was set \
                               back, or a plugin gave a value of the same time again";

#[test]
fn values_of_a_time_that_still_waits_when_the_clock_is_set_back_are_dropped_in_the_books_and_in_the_log() {
    // The earlier ones are in the file; in memory, since the disk is full; or still on their way when the later ones come.
    for (is_full, is_flying) in [(false, false), (true, false), (true, true)] {
        let disk = Simulated::default();
        let mut files = files::Files::new(Arc::new(disk.clone()), QUICK);
        files.open_queue(Duration::ZERO).unwrap();
        let mut front = front::Front::at(NOW);
        let first = [minute(NOW, &[("a", 1.0), ("b", 1.0)]), minute(NOW + 60, &[("a", 2.0)])];
        let again = [minute(NOW, &[("a", 7.0), ("b", 1.0), ("c", 9.0)]), minute(NOW + 60, &[("a", 7.0)])];
        front.keep(first.to_vec(), &[], NOW + 60);
        let flying = std::mem::take(&mut front.waiting);
        if is_full {
            full(&disk);
        }
        if is_flying {
            front.keep(again.to_vec(), &[], NOW);
        }
        if files.commit(&flying, NOW + 60).is_err() {
            front.waiting.put_back(flying);
        }
        assert_eq!(front.waiting.minutes.is_empty(), !is_full);
        if !is_flying {
            front.keep(again.to_vec(), &[], NOW);
        }
        disk.heal();
        files.commit(&std::mem::take(&mut front.waiting), NOW).unwrap();
        let expected = Ledger { collected: 7, queued: 4, repeated: 3, ..Ledger::default() };
        assert_eq!(files.picture().ledger, expected);
        let (kept, _) = files.minutes(i64::MAX, 9, &Whose::Any);
        assert_eq!(kept, [again[1].clone(), again[0].clone()], "the later values stay");
        assert_eq!(files.take_lines(false), [COLLECTED_TWICE]);
    }
}
