//! Values, times and names as people read them: `1.9 GiB`, `42 %`, `1.2 MB/s`, `3 min`. The terminal, the page and `wasaba status` share them.

use std::time::Duration;

use wasaba_core::text::lasting;

/// The steps of sizes, which are powers of 1,024.
const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// The steps of everything else, which are powers of 1,000.
const DECIMAL: [&str; 6] = ["", "k", "M", "G", "T", "P"];

/// A value in one of Mackerel's units: `float`, `integer`, `percentage`, `seconds`, `milliseconds`, `bytes`, `bytes/sec`, `bits/sec`, `iops`.
/// Sizes are in powers of 1,024, as `free` and `df` count; rates in powers of 1,000, as networks and disks are sold.
#[must_use]
pub fn value(unit: &str, value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match unit {
        "bytes" => {
            let (value, step) = scaled(value, 1_024.0, &BINARY);
            format!("{} {step}", digits(value))
        }
        "bytes/sec" => stepped(value, "B/s"),
        "bits/sec" => stepped(value, "bit/s"),
        "iops" => stepped(value, "IO/s"),
        "percentage" => format!("{} %", digits(value)),
        "seconds" => time(value),
        "milliseconds" => time(value / 1e3),
        "integer" if value.fract() == 0.0 && value.abs() < 1e5 => format!("{value:.0}"),
        _ => stepped(value, ""),
    }
}

/// A value that is not there is a dash.
#[must_use]
pub fn maybe(unit: &str, given: Option<f64>) -> String {
    given.map_or_else(|| "-".to_owned(), |given| value(unit, given))
}

/// A part of a whole in the whole's step, `6.1 of 7.7 GiB`, or each with its own where the step of the part is another.
#[must_use]
pub fn of(unit: &str, part: f64, whole: f64) -> String {
    let (part, whole) = (value(unit, part), value(unit, whole));
    let (number, step) = part.rsplit_once(' ').unwrap_or((&part, ""));
    if whole.rsplit_once(' ').is_some_and(|(_, same)| same == step) {
        format!("{number} of {whole}")
    } else {
        format!("{part} of {whole}")
    }
}

/// A count: `980`, `12.3 k`.
#[must_use]
pub fn count(count: u64) -> String {
    value("integer", count as f64)
}

/// How long something took: `12 ms`, `1.4 s`.
#[must_use]
pub fn milliseconds(milliseconds: f64) -> String {
    value("milliseconds", milliseconds)
}

/// How long something lasts: `40 s`, `12 min`, `3 h 5 min`.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    lasting(Duration::from_secs(seconds))
}

/// From one time to another, in seconds since 1970; nothing if the clock was set back.
#[must_use]
pub fn between(from: i64, to: i64) -> String {
    seconds(u64::try_from(to.saturating_sub(from)).unwrap_or_default())
}

/// How long ago a time was, in seconds since 1970.
#[must_use]
pub fn ago(time: i64, now: i64) -> String {
    format!("{} ago", between(time, now))
}

/// The hour and the minute of a time in seconds since 1970, `09:05`, in a zone so many seconds east of UTC.
#[must_use]
pub fn clock(time: i64, east: i64) -> String {
    let minute = time.saturating_add(east).div_euclid(60).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// The same with the second.
#[must_use]
pub fn clock_with_seconds(time: i64, east: i64) -> String {
    format!("{}:{:02}", clock(time, east), time.saturating_add(east).rem_euclid(60))
}

fn stepped(value: f64, unit: &str) -> String {
    let (value, step) = scaled(value, 1e3, &DECIMAL);
    format!("{} {step}{unit}", digits(value)).trim_end().to_owned()
}

/// The value in the largest step in which it is at least 1.
fn scaled<'a>(mut value: f64, base: f64, steps: &[&'a str]) -> (f64, &'a str) {
    let mut steps = steps.iter();
    let mut step = steps.next().copied().unwrap_or_default();
    // What would be rounded to the next step belongs there.
    while value.abs() >= base - 0.5 {
        let Some(next) = steps.next() else { break };
        (value, step) = (value / base, next);
    }
    (value, step)
}

/// Three digits, or those before the point if there are more.
fn digits(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 99.95 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn time(seconds: f64) -> String {
    match seconds.abs() {
        0.0 => "0 s".to_owned(),
        size if size < 0.000_999_5 => format!("{} µs", digits(seconds * 1e6)),
        size if size < 0.999_5 => format!("{} ms", digits(seconds * 1e3)),
        size if size < 119.5 => format!("{} s", digits(seconds)),
        _ if seconds > 0.0 => lasting(Duration::from_secs(seconds.round() as u64)),
        _ => format!("{} s", digits(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_of_mackerel_is_shown_with_its_sign_and_three_digits() {
        let cases = [
            ("bytes", 97_793_294_336.0, "91.1 GiB"),
            ("bytes", 1_023.9, "1 KiB"),
            ("bytes", 0.0, "0 B"),
            ("bytes/sec", 1_234_567.0, "1.23 MB/s"),
            ("bytes/sec", 999.7, "1 kB/s"),
            ("bits/sec", 2_500.0, "2.5 kbit/s"),
            ("iops", 12.34, "12.3 IO/s"),
            ("percentage", 42.0, "42 %"),
            ("percentage", 0.123, "0.12 %"),
            ("seconds", 0.25, "250 ms"),
            ("seconds", 86_400.0, "1 d"),
            ("seconds", 1.5, "1.5 s"),
            ("milliseconds", 0.2, "200 µs"),
            ("milliseconds", 20_000.0, "20 s"),
            ("integer", 12_345.0, "12345"),
            ("integer", 1_234_567.0, "1.23 M"),
            ("float", 0.42, "0.42"),
            ("float", -0.001, "0"),
            ("float", 1e20, "100000 P"),
            ("float", f64::NAN, "-"),
            ("furlongs", 3.0, "3"),
        ];
        for (unit, given, expected) in cases {
            assert_eq!(value(unit, given), expected, "{given} {unit}");
        }
    }

    #[test]
    fn a_part_shares_the_step_of_its_whole_if_it_can() {
        let gib = f64::from(1 << 30);
        assert_eq!(of("bytes", 6.1 * gib, 7.7 * gib), "6.1 of 7.7 GiB");
        assert_eq!(of("bytes", 0.5 * gib, 7.7 * gib), "512 MiB of 7.7 GiB");
    }

    #[test]
    fn a_time_of_day_is_in_the_zone_also_west_of_utc_and_before_1970() {
        assert_eq!(clock(1_800_000_000, 0), "08:00");
        assert_eq!(clock(1_800_000_000, 9 * 3_600), "17:00");
        assert_eq!(clock_with_seconds(-1, -3_600), "22:59:59");
    }
}
