//! Durations of the official agent's configuration: in the form of Go's `time.ParseDuration`.

/// Each unit in nanoseconds. A name is matched whole, so their order does not matter.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const MINUTE: u128 = 60_000_000_000;

/// The minutes in `text`, like `10m`, `1h30m` or `2.5h`; `None` if it is invalid or not a whole number of minutes.
#[must_use]
pub fn minutes(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let nanoseconds = if text == "0" { 0 } else { nanoseconds(text)? };
    nanoseconds.is_multiple_of(MINUTE).then(|| u64::try_from(nanoseconds / MINUTE).ok()).flatten()
}

fn nanoseconds(mut text: &str) -> Option<u128> {
    let mut sum = 0_u128;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let (unit, size) = UNITS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(|next: char| next.is_ascii_digit() || next == '.')
            })
        })?;
        if (whole.is_empty() && part.is_empty()) || whole.len() > 12 || part.len() > 12 {
            return None;
        }
        let size = u128::from(*size);
        let digits = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
        sum = sum.checked_add(digits(whole)?.checked_mul(size)?)?;
        sum =
            sum.checked_add(digits(part)?.checked_mul(size)? / 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?)?;
        text = rest.strip_prefix(unit)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_minutes_are_accepted_in_every_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10m", Some(10)),
            ("1h10m", Some(70)),
            ("2.5h", Some(150)),
            ("60s", Some(1)),
            ("60000ms", Some(1)),
            (".5h", Some(30)),
            ("1m60s", Some(2)),
            ("-10m", None),
            ("1s", None),
            ("1ms", None),
            ("1.1m", None),
            ("1d", None),
            ("m", None),
            ("", None),
            ("10 m", None),
            ("1.2.3h", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(minutes(text), expected, "{text}");
        }
    }
}
