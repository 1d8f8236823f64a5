//! The lines that a metrics program prints: `name value time`, separated by white space.

use wasaba_core::posting::Posting;
use wasaba_core::sample::Sample;
use wasaba_core::text::printable;

/// A program's own time must be closer than this to the agent's.
const NEAR_SECONDS: i64 = 15 * 60;

/// More values than this are not read from one run. Mackerel charges for metrics as for hosts, so more of them are a mistake.
pub const MOST_VALUES: usize = 5_000;

/// The values in a program's output.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// Values for the time at which the program was asked.
    pub samples: Vec<Sample>,
    /// Values with times of their own, in seconds since 1970.
    pub dated: Vec<(i64, Sample)>,
    /// The lines that were skipped, and why.
    pub warnings: Vec<String>,
}

/// Parses `text`, printed at `now`, in seconds since 1970. A line of fewer than three words is ignored. With `own_timestamps` the
/// third word is the value's time.
#[must_use]
pub fn values(text: &str, now: i64, posting: &Posting, own_timestamps: bool) -> Values {
    let mut values = Values::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value), Some(time)) = (words.next(), words.next(), words.next()) else { continue };
        if !posting.wants(name) {
            continue;
        }
        if values.samples.len() + values.dated.len() == MOST_VALUES {
            // At the front, where it is not cut off, and without the total, so that it is logged only once.
            values.warnings.insert(0, format!("printed more than {MOST_VALUES} values; skipped the rest"));
            break;
        }
        match sample(name, value, posting)
            .and_then(|sample| Ok((own_timestamps.then(|| moment(time, now)).transpose()?, sample)))
        {
            Ok((None, sample)) => values.samples.push(sample),
            Ok((Some(time), sample)) => values.dated.push((time, sample)),
            Err(why) => values.warnings.push(format!("skipped `{}`: {why}", printable(name, 80))),
        }
    }
    values
}

fn sample(name: &str, value: &str, posting: &Posting) -> Result<Sample, String> {
    let number = value.parse().map_err(|_| format!("{:?} is not a number", printable(value, 40)))?;
    let sample = Sample::new(format!("custom.{name}"), number).map_err(|error| error.to_string())?;
    Ok(match &posting.custom_identifier {
        Some(host) => sample.of_host(host),
        None => sample,
    })
}

fn moment(time: &str, now: i64) -> Result<i64, String> {
    let time = time.parse().map_err(|_| format!("{:?} is not a time in seconds since 1970", printable(time, 40)))?;
    if now.abs_diff(time) < NEAR_SECONDS.unsigned_abs() {
        Ok(time)
    } else {
        Err(format!("its time {time} is 15 minutes or more from the agent's, {now}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, own_timestamps: bool) -> Values {
        values(text, 10_000, &Posting::default(), own_timestamps)
    }

    fn posted(values: &Values) -> Vec<(&str, f64)> {
        values.samples.iter().map(|sample| (sample.name().as_str(), sample.value())).collect()
    }

    #[test]
    fn a_line_is_a_name_a_value_and_a_time_separated_by_white_space() {
        let values = read("a.b\t1\t10\nc 2.5 10 more words\n  d   -1e3\t 0\r\ntwo words\n\ne +.5 x\n", false);
        assert_eq!(posted(&values), [("custom.a.b", 1.0), ("custom.c", 2.5), ("custom.d", -1e3), ("custom.e", 0.5)]);
        assert!(values.warnings.is_empty() && values.dated.is_empty());
    }

    #[test]
    fn an_invalid_line_is_skipped_with_a_warning() {
        let values = read("a 0x10 0\nb nan 0\nc inf 0\nd 1e999 0\nÜ 1 0\nf..g 1 0\ngood 1 0\nh \u{fffd} 0\n", false);
        assert_eq!(posted(&values), [("custom.good", 1.0)]);
        assert_eq!(values.warnings.len(), 7, "{:#?}", values.warnings);
        assert_eq!(values.warnings[0], "skipped `a`: \"0x10\" is not a number");
    }

    #[test]
    fn a_values_own_time_is_used_if_configured_and_less_than_15_minutes_away() {
        let text = "a 1 9101\nb 1 10899\nc 1 9100\nd 1 10900\ne 1 x\n";
        let values = read(text, true);
        let times = values.dated.iter().map(|(time, sample)| (*time, sample.name().as_str())).collect::<Vec<_>>();
        assert_eq!(times, [(9_101, "custom.a"), (10_899, "custom.b")]);
        assert_eq!(values.warnings.len(), 3);
        assert_eq!(read(text, false).samples.len(), 5);
    }

    #[test]
    fn no_more_than_five_thousand_values_are_read_and_the_rest_is_skipped_with_a_warning() {
        let line = |number| format!("seq.n{number} {number} 0\n");
        let all = (0..MOST_VALUES).map(line).collect::<String>();
        assert_eq!((read(&all, false).samples.len(), read(&all, false).warnings.len()), (5_000, 0));
        let values = read(&format!("bad x 0\n{all}one.more 1 0\nand.more 1 0\n"), false);
        assert_eq!(values.samples.len(), 5_000);
        assert_eq!(values.warnings[0], "printed more than 5000 values; skipped the rest");
        assert_eq!(values.warnings.len(), 2);
        let dated = (0..MOST_VALUES + 1).map(|number| format!("seq.n{number} 1 10000\n")).collect::<String>();
        assert_eq!(read(&dated, true).dated.len(), 5_000);
    }

    #[test]
    fn patterns_are_matched_against_the_name_without_custom() {
        let regex = |text| Some(crate::pattern::compile(text).unwrap());
        let posting = Posting { include: regex("^(a|b)"), exclude: regex("b$"), ..Posting::default() };
        let values = values("a 1 0\nb 1 0\nc 1 0\nbc x 0\n", 0, &posting, false);
        assert_eq!((posted(&values), values.warnings.len()), (vec![("custom.a", 1.0)], 1));
    }
}
