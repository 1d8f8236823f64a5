//! The readings of counters, by the source that they belong to: each source is an entry of the state, and only the entries that have
//! changed are written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wasaba_core::collect::rate::{Count, LONGEST, Reading};

use super::bytes::{Cursor, put_bytes, put_number, put_signed};

/// The readings of one source, by its own names.
pub(super) type OfSource = BTreeMap<String, Reading>;

/// The readings of all sources.
#[derive(Default)]
pub(super) struct Readings {
    sources: BTreeMap<String, Source>,
    /// The sources whose row in the file is not theirs.
    changed: BTreeSet<String>,
}

#[derive(Default)]
struct Source {
    readings: OfSource,
    /// When it was last read, in seconds since 1970.
    heard: i64,
}

impl Readings {
    pub(super) fn of(&self, source: &str) -> OfSource {
        self.sources.get(source).map(|source| source.readings.clone()).unwrap_or_default()
    }

    /// Takes over readings, under `source TAB name`. Drops what is too old to give a rate, by the clock of its source.
    pub(super) fn keep(&mut self, readings: &[(String, Reading)], now: i64) {
        let mut heard = BTreeSet::new();
        for (key, reading) in readings {
            let (name, counter) = key.split_once('\t').unwrap_or((key, ""));
            let source = self.sources.entry(name.to_owned()).or_default();
            source.readings.insert(counter.to_owned(), *reading);
            source.heard = now;
            heard.insert(name);
        }
        for name in heard {
            let Some(source) = self.sources.get_mut(name) else { continue };
            let newest = source.readings.values().map(|reading| reading.unix_millis).max();
            source.readings.retain(|_, reading| newest.is_none_or(|newest| reading.is_fresh(newest)));
            self.changed.insert(name.to_owned());
        }
        let is_gone = |source: &Source| Duration::from_secs(now.abs_diff(source.heard)) > LONGEST;
        let gone = self.sources.extract_if(.., |_, source| is_gone(source)).map(|(name, _)| name);
        self.changed.extend(gone);
    }

    /// Takes over the row of a source in a file that was opened at `now`; what is in memory is newer.
    pub(super) fn restore(&mut self, name: String, readings: OfSource, now: i64) {
        let source = self.sources.entry(name).or_insert_with(|| Source { heard: now, ..Source::default() });
        for (name, reading) in readings {
            source.readings.entry(name).or_insert(reading);
        }
    }

    /// The rows to write since this was asked last; `None` for one to remove.
    pub(super) fn changed(&mut self) -> Vec<(String, Option<&OfSource>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let row = |name: &str| self.sources.get(name).map(|source| &source.readings);
        changed.map(|name| (row(&name), name)).map(|(row, name)| (name, row)).collect()
    }
}

/// The bytes of a source's readings, bit for bit.
pub(super) fn encoded(readings: &OfSource) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, Reading { value, unix_millis }) in readings {
        put_bytes(&mut out, name.as_bytes());
        put_signed(&mut out, *unix_millis);
        match value {
            Count::Whole(number) => {
                out.push(1);
                put_number(&mut out, *number);
            }
            Count::Float(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    out
}

/// The readings, or `None` if `bytes` were not made by [`encoded`].
pub(super) fn decoded(bytes: &[u8]) -> Option<OfSource> {
    let (mut cursor, mut readings) = (Cursor(bytes), OfSource::new());
    while !cursor.is_at_end() {
        let (name, unix_millis) = (cursor.text()?.to_owned(), cursor.signed()?);
        let value = match cursor.byte()? {
            1 => Count::Whole(cursor.number()?),
            _ => Count::Float(f64::from_le_bytes(cursor.take(8)?.try_into().ok()?)),
        };
        readings.insert(name, Reading { value, unix_millis });
    }
    Some(readings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn readings(source: &str, names: std::ops::Range<u32>, now: i64) -> Vec<(String, Reading)> {
        let reading = Reading { value: 1.0.into(), unix_millis: now * 1_000 };
        names.map(|name| (format!("{source}\t{name}"), reading)).collect()
    }

    /// The rows that a commit writes, each with its number of readings.
    fn written(all: &mut Readings) -> Vec<(String, Option<usize>)> {
        all.changed().into_iter().map(|(name, row)| (name, row.map(BTreeMap::len))).collect()
    }

    #[test]
    fn only_the_row_of_a_source_that_has_new_readings_is_written() {
        let mut all = Readings::default();
        all.keep(&[readings("a", 0..2, NOW), readings("b", 0..3, NOW)].concat(), NOW);
        assert_eq!(written(&mut all), [("a".to_owned(), Some(2)), ("b".to_owned(), Some(3))]);
        all.keep(&readings("b", 1..2, NOW + 60), NOW + 60);
        assert_eq!(written(&mut all), [("b".to_owned(), Some(3))], "one that is missing this time stays");
        all.keep(&[], NOW + 120);
        assert_eq!(written(&mut all), []);
    }

    #[test]
    fn names_that_live_for_a_minute_take_no_more_than_ten_minutes_of_them() {
        let mut all = Readings::default();
        for minute in 0..120 {
            let (now, first) = (NOW + i64::from(minute) * 60, minute * 100);
            all.keep(&readings("engine", first..first + 100, now), now);
            let row = written(&mut all);
            assert!(matches!(&row[..], [(_, Some(..=1_100))]), "{row:?}");
        }
    }

    #[test]
    fn the_row_of_a_source_that_is_gone_is_removed_once() {
        let mut all = Readings::default();
        all.keep(&readings("a", 0..2, NOW), NOW);
        written(&mut all);
        all.keep(&[], NOW + 600);
        assert_eq!(written(&mut all), []);
        all.keep(&[], NOW + 601);
        assert_eq!(written(&mut all), [("a".to_owned(), None)]);
        assert_eq!((all.of("a").len(), written(&mut all).len()), (0, 0));
    }

    #[test]
    fn a_row_of_the_file_does_not_replace_what_is_in_memory() {
        let mut all = Readings::default();
        all.keep(&readings("a", 0..1, NOW + 60), NOW + 60);
        let before = Reading { value: 0.5.into(), unix_millis: NOW * 1_000 };
        all.restore("a".into(), OfSource::from([("0".to_owned(), before), ("1".to_owned(), before)]), NOW + 60);
        assert_eq!(all.of("a").values().map(|reading| reading.value.as_f64()).collect::<Vec<_>>(), [1.0, 0.5]);
        assert_eq!(written(&mut all), [("a".to_owned(), Some(2))]);
        all.restore("b".into(), OfSource::from([("0".to_owned(), before)]), NOW + 60);
        assert_eq!(written(&mut all), [], "what was restored is in the file already");
    }

    #[test]
    fn readings_come_back_bit_for_bit_and_truncated_bytes_are_refused() {
        let values = [Count::Float(f64::MAX), Count::Float(0.1), Count::Whole(u64::MAX)];
        let reading = |value| (format!("nginx {value:?}"), Reading { value, unix_millis: -1 });
        let readings = BTreeMap::from(values.map(reading));
        let bytes = encoded(&readings);
        assert_eq!(decoded(&bytes), Some(readings));
        assert_eq!(decoded(&bytes[..bytes.len() - 1]), None);
    }
}
