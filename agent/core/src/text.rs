//! Text from outside, made safe for a log or a terminal.

use std::fmt;

use crate::secret::Secrets;

/// Makes a text of several lines safe for a terminal: escapes every control character except line breaks and tabs.
#[must_use]
pub fn safe_lines(text: &str) -> std::borrow::Cow<'_, str> {
    let is_safe = |char: char| matches!(char, '\n' | '\t') || !is_steering(char);
    if text.chars().all(is_safe) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if is_safe(char) { safe.push(char) } else { safe.extend(char.escape_default()) }
    }
    safe.into()
}

/// Control characters, and the invisible ones that change the direction of what follows.
fn is_steering(char: char) -> bool {
    char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Makes a text safe for a line of the log: escapes control characters (line breaks too), and cuts it after `bytes` bytes with
/// a `…`.
#[must_use]
pub fn printable(text: &str, bytes: usize) -> String {
    let mut shown = String::new();
    for char in text.chars() {
        if shown.len() >= bytes {
            shown.push('…');
            break;
        }
        if is_steering(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// A duration for a message: `500 ms`, `2 s`, `1.5 s`.
#[must_use]
pub fn duration(duration: std::time::Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) if duration.is_zero() => "0 s".to_owned(),
        (0, 0) => format!("{} µs", duration.as_micros()),
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) => format!("{seconds} s"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// How long something lasts, for people: `40 s`, `12 min`, `3 h 5 min`, `2 d 3 h`.
#[must_use]
pub fn lasting(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |first: u64, unit: &str, second: u64, smaller: &str| match second {
        0 => format!("{first} {unit}"),
        _ => format!("{first} {unit} {second} {smaller}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

/// A number of things for a message: `1 sample`, `2 samples`.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The first of a list that something outside has made as long as it likes, and a line that counts the rest.
#[must_use]
pub fn first_of(mut lines: Vec<String>, most: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    if more > 0 {
        lines.truncate(most);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// What was dropped of a list that something outside has made as long as it likes, by the reason.
#[derive(Debug)]
pub struct Dropped<Why> {
    secrets: Secrets,
    reasons: Vec<(Why, Vec<String>, u64)>,
}

impl<Why: PartialEq> Dropped<Why> {
    /// How many of those with the same reason are named.
    const NAMED: usize = 3;

    /// The most bytes of a name that are shown.
    const NAME_BYTES: usize = 80;

    /// Nothing yet. `secrets` are hidden in the names, before these are cut.
    #[must_use]
    pub fn hiding(secrets: &Secrets) -> Self {
        Self { secrets: secrets.clone(), reasons: Vec::new() }
    }

    /// Counts one that is called `name`.
    pub fn add(&mut self, why: Why, name: &str) {
        let known = self.reasons.iter().position(|(known, ..)| *known == why);
        let index = known.unwrap_or_else(|| {
            self.reasons.push((why, Vec::new(), 0));
            self.reasons.len() - 1
        });
        let Some((_, names, count)) = self.reasons.get_mut(index) else { return };
        *count += 1;
        if names.len() < Self::NAMED {
            let name = self.secrets.hidden_in(name, Self::NAME_BYTES);
            names.push(format!("`{}`", printable(&name, Self::NAME_BYTES)));
        }
    }

    /// How many were dropped.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.reasons.iter().map(|(_, _, count)| *count).sum()
    }

    /// A line for each reason, as `line` makes it of the reason, the number, and the names: `` `a`, `b`, `c` and 5 more ``.
    #[must_use]
    pub fn lines(self, line: impl Fn(Why, u64, &str) -> String) -> Vec<String> {
        let line = |(why, names, count): (Why, Vec<String>, u64)| {
            let more = count.saturating_sub(names.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            line(why, count, &format!("{}{more}", names.join(", ")))
        };
        self.reasons.into_iter().map(line).collect()
    }
}

impl<Why: PartialEq + fmt::Display> Dropped<Why> {
    /// A line for each reason. `thing` is what the dropped are: `report`.
    #[must_use]
    pub fn lines_of(self, thing: &str) -> Vec<String> {
        self.lines(|why, count, names| match count {
            1 => format!("dropped the {thing} {names}: {why}"),
            _ => format!("dropped {}: {why}: {names}", counted(count, thing)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_duration_has_a_space_before_its_unit_and_the_unit_that_makes_it_short() {
        use std::time::Duration;
        for (micros, expected) in [
            (0, "0 s"),
            (250, "250 µs"),
            (1_000, "1 ms"),
            (500_000, "500 ms"),
            (1_000_000, "1 s"),
            (1_500_000, "1.5 s"),
            (60_000_000, "60 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn a_long_time_is_shown_in_the_two_units_that_matter() {
        let seconds = [0, 59, 60, 3_599, 3_600, 3_660, 86_399, 86_400, 183_600];
        let expected = ["0 s", "59 s", "1 min", "59 min", "1 h", "1 h 1 min", "23 h 59 min", "1 d", "2 d 3 h"];
        assert_eq!(seconds.map(|seconds| lasting(std::time::Duration::from_secs(seconds))), expected);
    }

    #[test]
    fn one_thing_is_singular_and_any_other_number_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "sample")), ["0 samples", "1 sample", "2 samples"]);
    }

    #[test]
    fn a_list_is_cut_and_its_rest_counted() {
        let lines = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(first_of(lines(2), 2), ["0", "1"]);
        assert_eq!(first_of(lines(60_000), 2), ["0", "1", "and 59998 more"]);
    }

    #[test]
    fn what_was_dropped_is_one_line_for_each_reason_that_names_the_first_and_counts_the_rest() {
        let mut dropped = Dropped::hiding(&Secrets::default());
        (0..5).for_each(|number| dropped.add("too many", &number.to_string()));
        dropped.add("its name", "a\nb");
        assert_eq!(dropped.count(), 6);
        let expected =
            ["dropped 5 reports: too many: `0`, `1`, `2` and 2 more", "dropped the report `a\\nb`: its name"];
        assert_eq!(dropped.lines_of("report"), expected);
    }

    #[test]
    fn the_name_of_what_was_dropped_shows_no_part_of_a_secret_wherever_it_is_cut() {
        let secrets = Secrets::new([Secret::new("hunter2hunter2hunter2")]);
        for before in 0..100 {
            let mut dropped = Dropped::hiding(&secrets);
            dropped.add("why", &format!("{}hunter2hunter2hunter2", "x".repeat(before)));
            let lines = dropped.lines_of("report").concat();
            assert!(!lines.contains("hu"), "{lines}");
        }
    }

    #[test]
    fn a_text_cannot_forge_a_line_or_control_the_terminal() {
        assert_eq!(printable("a\nERROR b\u{1b}[2J\u{202e}", 100), "a\\nERROR b\\u{1b}[2J\\u{202e}");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(printable(&"あ".repeat(10), 4), "ああ…");
    }
}
