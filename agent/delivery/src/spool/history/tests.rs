//! Tests of the history: what is put is what is shown, for a day, whatever happens to the file.

use proptest::prelude::*;

use super::super::simulated::{Simulated, Wrong};
use super::*;

const NOON: i64 = 1_800_000_000;

fn samples(values: &[(&str, f64)]) -> Vec<Sample> {
    values.iter().map(|(name, value)| Sample::new(*name, *value).unwrap()).collect()
}

fn history(disk: &Simulated) -> History {
    History::new(Arc::new(disk.clone()))
}

fn put(history: &mut History, time: i64, values: &[(&str, f64)]) {
    let mut lines = Vec::new();
    history.put(time, &samples(values), &mut lines);
    assert_eq!(lines, Vec::<String>::new());
}

fn of(history: &mut History, key: &str, from: i64, to: i64) -> Vec<Option<f64>> {
    history.series(&[key.to_owned()], from, to).unwrap().values.remove(key).unwrap()
}

#[test]
fn each_minute_has_its_values_also_after_a_restart_and_a_minute_without_one_is_a_gap() {
    let disk = Simulated::default();
    let mut before = history(&disk);
    put(&mut before, NOON, &[("loadavg1", 0.5), ("loadavg5", 0.25)]);
    // Later values of the same minute join the earlier ones.
    put(&mut before, NOON + 23, &[("loadavg15", 0.125), ("loadavg5", 0.75)]);
    put(&mut before, NOON + 120, &[("loadavg1", 1.5)]);
    let mut after = history(&disk.after_kill());
    for history in [&mut before, &mut after] {
        let series = history.series(&["loadavg1".into(), "unknown".into()], NOON, NOON + 179).unwrap();
        assert_eq!((series.start, series.minutes), (NOON, 3));
        assert_eq!(series.values["loadavg1"], [Some(0.5), None, Some(1.5)]);
        assert_eq!(series.values["unknown"], [None; 3]);
        assert_eq!(of(history, "loadavg5", NOON, NOON), [Some(0.75)]);
        assert_eq!(history.keys(NOON + 120).unwrap(), ["loadavg1", "loadavg5", "loadavg15"]);
    }
}

#[test]
fn of_another_host_the_same_name_is_another_metric() {
    let mut history = history(&Simulated::default());
    let mut lines = Vec::new();
    let both =
        [Sample::new("custom.a.b", 1.0).unwrap(), Sample::new("custom.a.b", 2.0).unwrap().of_host(&"db1".into())];
    history.put(NOON, &both, &mut lines);
    assert_eq!(of(&mut history, "custom.a.b", NOON, NOON), [Some(1.0)]);
    assert_eq!(of(&mut history, &key(Some("db1"), "custom.a.b"), NOON, NOON), [Some(2.0)]);
}

#[test]
fn a_day_of_200_metrics_fits_in_four_megabytes_and_a_minute_writes_two_pages() {
    let disk = Simulated::default();
    let mut history = history(&disk);
    let names = (0..200).map(|number| format!("custom.plugin.graph{number}.metric")).collect::<Vec<_>>();
    let mut before = 0;
    for minute in 0..HISTORY_MINUTES + 10 {
        let values = names.iter().map(|name| (&**name, minute as f64)).collect::<Vec<_>>();
        put(&mut history, NOON + minute * 60, &values);
        let written = disk.written_pages();
        // The first minute makes the file.
        assert!(minute == 0 || written - before <= 2, "{} pages in minute {minute}", written - before);
        before = written;
    }
    assert!(disk.bytes(NAME).unwrap().len() < 4_000_000);
    let end = NOON + (HISTORY_MINUTES + 9) * 60;
    let values = of(&mut history, &names[199], 0, end);
    let expected = (10..HISTORY_MINUTES + 10).map(|minute| Some(minute as f64)).collect::<Vec<_>>();
    assert_eq!(values, expected);
    assert_eq!(of(&mut history, &names[0], NOON, NOON), [None], "older than a day");
}

#[test]
fn more_metrics_come_to_those_that_are_there_and_what_they_had_stays() {
    let disk = Simulated::default();
    let mut history = history(&disk);
    for minute in 0..300 {
        let names = (0..=minute).map(|number| format!("m{number}")).collect::<Vec<_>>();
        let values = names.iter().map(|name| (&**name, minute as f64)).collect::<Vec<_>>();
        put(&mut history, NOON + minute * 60, &values);
    }
    for number in [0, 31, 32, 33, 150, 299] {
        let values = of(&mut history, &format!("m{number}"), NOON, NOON + 299 * 60);
        let expected = (0..300).map(|minute| (minute >= number).then_some(minute as f64)).collect::<Vec<_>>();
        assert_eq!(values, expected, "m{number}");
    }
    assert_eq!(disk.names(), [NAME], "nothing is left behind");
}

#[test]
fn names_that_come_and_go_use_the_columns_of_those_that_are_gone_for_a_day_and_show_none_of_their_values() {
    let disk = Simulated::default();
    let mut history = history(&disk);
    // Each for an hour.
    for hour in 0..24 * 10 {
        let names = (0..20).map(|number| format!("container{}.m{number}", hour)).collect::<Vec<_>>();
        let values = names.iter().map(|name| (&**name, hour as f64)).collect::<Vec<_>>();
        for minute in [0, 59] {
            put(&mut history, NOON + (hour * 60 + minute) * 60, &values);
        }
        if hour % 50 == 0 {
            history = self::history(&disk.after_kill());
        }
    }
    let size = disk.bytes(NAME).unwrap().len();
    assert!(size < 4_096 + 700 * (512 + 1_440 * 8), "{size} bytes for 500 names a day");
    let end = NOON + (24 * 10 * 60 - 1) * 60;
    let keys = history.keys(end).unwrap();
    assert_eq!(keys.len(), 24 * 20, "those of a day");
    for key in keys {
        let hour = key.trim_start_matches("container").split('.').next().unwrap().parse::<f64>().unwrap();
        let values = of(&mut history, &key, 0, end).into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(values, [hour, hour], "{key}");
    }
}

#[test]
fn more_metrics_than_it_holds_are_said_once_and_those_that_were_first_stay() {
    let mut history = history(&Simulated::default());
    let names = (0..MOST_METRICS + 5).map(|number| format!("m{number}")).collect::<Vec<_>>();
    let values = names.iter().map(|name| Sample::new(&**name, 1.0).unwrap()).collect::<Vec<_>>();
    let mut lines = Vec::new();
    history.put(NOON, &values, &mut lines);
    history.put(NOON + 60, &values, &mut lines);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("holds 4000 metrics a day") && lines[0].contains("`m4000`"), "{lines:?}");
    assert_eq!(of(&mut history, "m3999", NOON, NOON + 60), [Some(1.0); 2]);
    assert_eq!(of(&mut history, "m4000", NOON, NOON + 60), [None; 2]);
}

#[test]
fn a_torn_row_is_a_gap_and_a_damaged_head_begins_with_this_minute() {
    let disk = Simulated::default();
    let mut torn = history(&disk);
    (0..3).for_each(|minute| put(&mut torn, NOON + minute * 60, &[("a", minute as f64)]));
    let mut bytes = disk.bytes(NAME).unwrap();
    let at = torn.ring.as_ref().unwrap().row_at(((NOON / 60 + 1) % HISTORY_MINUTES) as u32) as usize;
    bytes[at + 9] ^= 1;
    disk.write(NAME, &bytes);
    let mut torn = history(&disk);
    assert_eq!(of(&mut torn, "a", NOON, NOON + 120), [Some(0.0), None, Some(2.0)]);
    bytes[9] ^= 1;
    disk.write(NAME, &bytes);
    let (mut later, mut lines) = (history(&disk), Vec::new());
    later.put(NOON + 180, &samples(&[("a", 3.0)]), &mut lines);
    assert!(lines.len() == 1 && lines[0].contains("begins with this minute"), "{lines:?}");
    assert_eq!(of(&mut later, "a", NOON + 120, NOON + 180), [None, Some(3.0)]);
}

#[test]
fn a_file_that_is_deleted_is_made_again_and_what_is_not_a_file_stays_and_is_said() {
    let disk = Simulated::default();
    let mut history = history(&disk);
    put(&mut history, NOON, &[("a", 1.0)]);
    disk.unlink(NAME);
    put(&mut history, NOON + 60, &[("a", 2.0)]);
    assert_eq!(of(&mut history, "a", NOON, NOON + 60), [None, Some(2.0)]);
    disk.replace_by_irregular(NAME);
    let mut lines = Vec::new();
    history.put(NOON + 120, &samples(&[("a", 3.0)]), &mut lines);
    assert!(lines.len() == 1 && lines[0].contains("not a regular file: remove it"), "{lines:?}");
    disk.unlink(NAME);
    put(&mut history, NOON + 180, &[("a", 4.0)]);
    assert_eq!(of(&mut history, "a", NOON + 120, NOON + 180), [None, Some(4.0)]);
}

#[test]
fn a_full_disk_is_said_once_and_the_history_returns_with_the_disk() {
    let disk = Simulated::default();
    let (mut history, mut lines) = (history(&disk), Vec::new());
    put(&mut history, NOON, &[("a", 1.0)]);
    disk.script(|_, _| Some(Wrong::Full));
    for minute in 1..4 {
        history.put(NOON + minute * 60, &samples(&[("a", 2.0), ("b", 2.0)]), &mut lines);
    }
    assert!(
        lines.len() == 1 && lines[0].contains("cannot write `") && lines[0].contains("check its disk"),
        "{lines:?}"
    );
    disk.heal();
    put(&mut history, NOON + 240, &[("a", 5.0)]);
    assert_eq!(of(&mut history, "a", NOON, NOON + 240), [Some(1.0), None, None, None, Some(5.0)]);
}

proptest! {
    #![proptest_config(crate::drawn(60, 1, 18))]

    /// What is written, whatever fails, is what was put or a gap, never another's value.
    #[test]
    fn whatever_fails_a_value_is_the_one_that_was_put_or_a_gap(
        steps in prop::collection::vec((0..40_i64, 0..90_usize, prop::option::weighted(0.3, 0..30_u64), prop::bool::weighted(0.1)), 1..60),
    ) {
        let disk = Simulated::default();
        let mut history = history(&disk);
        let (mut time, mut known) = (NOON, BTreeMap::new());
        for (step, (minutes, first, fails_at, restarts)) in steps.into_iter().enumerate() {
            time += minutes * 60;
            let names = (first..first + 15).map(|number| format!("m{number}")).collect::<Vec<_>>();
            let values = names.iter().map(|name| (&**name, step as f64)).collect::<Vec<_>>();
            if let Some(call) = fails_at {
                let mut calls = 0;
                disk.script(move |_, _| { calls += 1; (calls > call).then_some(Wrong::Partial) });
            }
            history.put(time, &samples(&values), &mut Vec::new());
            disk.heal();
            for name in names {
                known.entry((name, time)).or_insert_with(Vec::new).push(step as f64);
            }
            if restarts {
                history = self::history(&disk);
            }
        }
        let keys = (0..105).map(|number| format!("m{number}")).collect::<Vec<_>>();
        let series = history.series(&keys, 0, time).unwrap();
        for (key, values) in &series.values {
            for (minute, value) in values.iter().enumerate() {
                let put = known.get(&(key.clone(), series.start + minute as i64 * 60));
                prop_assert!(value.is_none_or(|value| put.is_some_and(|put| put.contains(&value))), "{key} {minute}: {value:?}, {put:?}");
            }
        }
    }
}
