//! How a call of a plugin fails, and how long a plugin that keeps failing is left alone.

use std::fmt;
use std::time::Duration;

use wasaba_core::collect::Fault;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator's: the settings cannot work.
    Misconfigured,
    /// The target's: it does not answer.
    Unreachable,
    /// The operator's: a grant is missing.
    Denied,
    /// The target's or the plugin's: it got something that it cannot use.
    Failed,
    /// The plugin's: it did not come to an end in time.
    Late,
    /// The plugin's: it ran into another limit.
    Limit,
    /// The plugin's: it crashed.
    Crashed,
    /// Ours.
    Internal,
}

impl Kind {
    /// Every kind, in the order in which they are counted.
    pub const ALL: &[Self] = &[
        Self::Misconfigured,
        Self::Unreachable,
        Self::Denied,
        Self::Failed,
        Self::Late,
        Self::Limit,
        Self::Crashed,
        Self::Internal,
    ];

    /// Its word, in metrics and lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Limit => "limit",
            Self::Crashed => "crashed",
            Self::Internal => "internal",
        }
    }

    /// Whether each such failure costs the machine something: time, memory, a code path that nobody wants twice.
    fn is_costly(self) -> bool {
        matches!(self, Self::Late | Self::Limit | Self::Crashed | Self::Internal)
    }
}

/// A call that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose turn it is.
    pub kind: Kind,
    /// What happened, as a lower-case fragment.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// A limit that was run into, by the name under which it is set.
    #[must_use]
    pub fn limit(name: &str, what: &str) -> Self {
        Self::new(Kind::Limit, format!("{what} (limit `{name}`)"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self(failure.text)
    }
}

/// The circuit of one instance: opens when the instance keeps failing, closes with its first success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circuit {
    /// Failures since the last success.
    in_a_row: u32,
    /// The last of them, and until when the instance is left alone.
    last: Option<(Failure, Duration)>,
}

impl Circuit {
    /// Whether the instance may be asked at `now`, a time since any fixed moment; else why not, in the same words each time.
    ///
    /// # Errors
    /// The failure that it is left alone for.
    pub fn ask(&self, now: Duration) -> Result<(), Failure> {
        match &self.last {
            Some((failure, until)) if now < *until => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// What is wrong, if the last call failed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.last.as_ref().map(|(failure, _)| failure.text.clone())
    }

    /// Notes a success.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure and gives it back, with the pause that follows in its text.
    pub fn fail(&mut self, mut failure: Failure, now: Duration) -> Failure {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let minutes = pause_minutes(failure.kind, self.in_a_row);
        if minutes > 0 {
            let ways = if minutes == 1 { "minute is".to_owned() } else { format!("{minutes} minutes are") };
            failure.text.push_str(&format!("; the next {ways} left out, after {} failures in a row", self.in_a_row));
        }
        // A little less, so that the minute after the pause is asked also if its clock ticks early.
        let pause = Duration::from_secs((minutes + 1) * 60).saturating_sub(Duration::from_secs(30));
        self.last = Some((failure.clone(), now.saturating_add(if minutes == 0 { Duration::ZERO } else { pause })));
        failure
    }
}

/// How many minutes are left out after this many failures in a row. A target that is down is asked every minute for ten
/// minutes, and then at least every five, since it comes back; what costs the machine something is left alone sooner, for
/// up to an hour.
fn pause_minutes(kind: Kind, in_a_row: u32) -> u64 {
    let doublings = |from: u32| in_a_row.checked_sub(from).map_or(0, |over| 1_u64 << over.min(10));
    if kind.is_costly() { doublings(3).min(59) } else { doublings(10).min(4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The minutes out of `minutes` in which an instance that always fails like this is asked.
    fn asked(kind: Kind, minutes: u32) -> Vec<u32> {
        let mut circuit = Circuit::default();
        let ask = |minute: &u32| {
            let now = MINUTE * *minute;
            let asked = circuit.ask(now).is_ok();
            if asked {
                circuit.fail(Failure::new(kind, "it failed"), now);
            }
            asked
        };
        (0..minutes).filter(ask).collect()
    }

    #[test]
    fn what_costs_something_is_left_alone_for_longer_and_longer_up_to_an_hour() {
        assert_eq!(asked(Kind::Crashed, 40), [0, 1, 2, 4, 7, 12, 21, 38]);
        let late = asked(Kind::Late, 1_000);
        let gaps = late.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(gaps, Some(60));
    }

    #[test]
    fn a_target_that_is_down_is_asked_at_least_every_five_minutes() {
        let asked = asked(Kind::Unreachable, 100);
        assert_eq!(asked[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] <= 5));
    }

    #[test]
    fn the_circuit_closes_with_the_first_success_and_says_meanwhile_what_was_wrong() {
        let mut circuit = Circuit::default();
        let last = (0..3).map(|_| circuit.fail(Failure::new(Kind::Crashed, "it crashed"), MINUTE)).last();
        let text = "it crashed; the next minute is left out, after 3 failures in a row";
        assert_eq!(last.map(|failure| failure.text).as_deref(), Some(text));
        assert_eq!(circuit.ask(MINUTE * 2).unwrap_err().text, text);
        assert_eq!(circuit.ask(MINUTE * 3), Ok(()));
        circuit.close();
        assert_eq!(circuit, Circuit::default());
    }
}
