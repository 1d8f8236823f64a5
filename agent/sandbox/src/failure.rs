//! The failure of a plugin's call, and the circuit that skips an instance which keeps failing.

use std::fmt;
use std::time::Duration;

use wasaba_core::collect::Fault;
use wasaba_core::text::{counted, duration};

/// What kind of failure it is, which says who has to act. The first eleven are those of the contract (`wit/types.wit`), which
/// plugins return and capabilities return to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator: the settings cannot work.
    Misconfigured,
    /// The operator: the target refuses the user, the password or the certificate.
    Unauthorized,
    /// Whoever runs the target: it does not answer.
    Unreachable,
    /// Whoever runs the target: it does not answer in time.
    Timeout,
    /// The operator: a grant is missing.
    Denied,
    /// The operator of the target, or the plugin's author: the answer cannot be used.
    Failed,
    /// The operator: the target is another thing, or another version of it, than the plugin knows.
    Unsupported,
    /// The plugin's author: a request that makes no sense.
    Invalid,
    /// The operator: something is larger than a limit.
    TooLarge,
    /// The operator: something takes more work than a limit.
    TooCostly,
    /// The operator: there is no room for what should be stored.
    Full,
    /// The plugin's author: the call timed out.
    Late,
    /// The plugin's author: the call exceeded another limit.
    Limit,
    /// The plugin's author: it crashed.
    Crashed,
    /// The agent's authors.
    Internal,
}

impl Kind {
    /// Every kind, in the order in which they are counted.
    pub const ALL: &[Self] = &[
        Self::Misconfigured,
        Self::Unauthorized,
        Self::Unreachable,
        Self::Timeout,
        Self::Denied,
        Self::Failed,
        Self::Unsupported,
        Self::Invalid,
        Self::TooLarge,
        Self::TooCostly,
        Self::Full,
        Self::Late,
        Self::Limit,
        Self::Crashed,
        Self::Internal,
    ];

    /// Its word, in the contract, in metrics and lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::TooLarge => "too-large",
            Self::TooCostly => "too-costly",
            Self::Full => "full",
            Self::Late => "late",
            Self::Limit => "limit",
            Self::Crashed => "crashed",
            Self::Internal => "internal",
        }
    }

    /// The kind of a word that a plugin returned. Words that are not the contract's count as `failed`: a plugin cannot say that it
    /// crashed.
    #[must_use]
    pub fn returned(word: &str) -> Self {
        let own = |kind: &&Self| !kind.is_costly() && kind.name() == word;
        Self::ALL.iter().find(own).copied().unwrap_or(Self::Failed)
    }

    /// Whether each such failure costs the machine something: time, memory, or a code path that should not run again soon.
    fn is_costly(self) -> bool {
        matches!(self, Self::Late | Self::Limit | Self::Crashed | Self::Internal)
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who has to act.
    pub kind: Kind,
    /// What happened, as a lower-case fragment.
    pub text: String,
    /// For how long the instance is skipped because of it, as an addition to the text; empty if it is not.
    pub(crate) pause: String,
    /// Whether other plugins have caused it, so that skipping this one would not help.
    pub(crate) is_of_others: bool,
    /// For how long the target asked to be left alone.
    pub retry_after: Option<Duration>,
    /// What went wrong with TLS, if that is the reason.
    pub(crate) tls: Option<TlsFault>,
    /// What the system said, if that is the reason.
    pub(crate) cause: Option<Cause>,
}

/// What the system said of the outside, for interfaces that have a word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A connection failed in this way.
    Connection(std::io::ErrorKind),
    /// A name has no address, or no name server says.
    Name,
}

/// What went wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The peer's certificate is not trusted.
    Certificate,
    /// The peer refused with an alert, as it does without the certificate that it asks for.
    Alert,
    /// The peer's answer is not TLS.
    NotTls,
}

impl TlsFault {
    /// Its word in the contract: the value of the attribute `tls`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Alert => "alert",
            Self::NotTls => "not-tls",
        }
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text, pause: String::new(), retry_after: None, tls: None, cause: None, is_of_others: false }
    }

    /// A timeout that other plugins have caused.
    pub fn of_others(text: impl Into<String>) -> Self {
        Self { is_of_others: true, ..Self::new(Kind::Late, text) }
    }

    /// Whether other plugins have caused it.
    #[must_use]
    pub fn is_of_others(&self) -> bool {
        self.is_of_others
    }

    /// The same at this place, such as `db:5432`, where the text does not name it: that of a refusal or of an invalid request does.
    #[must_use]
    pub(crate) fn at(self, place: &dyn fmt::Display) -> Self {
        match self.kind {
            Kind::Unreachable | Kind::Timeout | Kind::Unauthorized | Kind::Failed | Kind::TooLarge => {
                Self { text: format!("{place}: {}", self.text), ..self }
            }
            _ => self,
        }
    }

    /// A limit that was exceeded, with the name under which it is set.
    #[must_use]
    pub fn limit(name: &str, what: &str) -> Self {
        Self::new(Kind::Limit, format!("{what} (limit `{name}`)"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.text, self.pause)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let Failure { text, pause, is_of_others, .. } = failure;
        Self { text, pause, is_of_others }
    }
}

/// The circuit of one instance: opens when the instance keeps failing, closes at its first success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circuit {
    /// Failures since the last success.
    consecutive: u32,
    /// The last of them, and until when the instance is skipped.
    last: Option<(Failure, Duration)>,
}

impl Circuit {
    /// Whether the instance may be called at `now`, a time since any fixed moment.
    ///
    /// # Errors
    /// The failure that it is skipped for, always with the same text.
    pub fn ask(&self, now: Duration) -> Result<(), Failure> {
        match &self.last {
            Some((failure, until)) if now < *until => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Whether the last call failed because something was refused.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.last.as_ref().is_some_and(|(failure, _)| failure.kind == Kind::Denied)
    }

    /// The last failure, with the pause that follows, if the last call failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.last.as_ref().map(|(failure, _)| failure.to_string())
    }

    /// How much longer the instance is skipped at `now`, if it is.
    #[must_use]
    pub fn skipped_for(&self, now: Duration) -> Option<Duration> {
        let (_, until) = self.last.as_ref()?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Records a success.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Records a failure and returns it, with the pause that follows.
    pub fn fail(&mut self, mut failure: Failure, now: Duration) -> Failure {
        if failure.is_of_others {
            self.last = Some((failure.clone(), now));
            return failure;
        }
        self.consecutive = self.consecutive.saturating_add(1);
        let minutes = pause_minutes(failure.kind, self.consecutive);
        if minutes > 0 {
            let pause = if minutes == 1 { "minute".to_owned() } else { counted(minutes, "minute") };
            let failures = counted(self.consecutive.into(), "consecutive failure");
            failure.pause.push_str(&format!("; skipping the next {pause} after {failures}"));
        }
        // A little less, so that the minute after the pause is not skipped if its clock ticks early.
        let pause = Duration::from_secs((minutes + 1) * 60).saturating_sub(Duration::from_secs(30));
        let pause = if minutes == 0 { Duration::ZERO } else { pause };
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
        if asked > pause {
            failure.pause.push_str(&format!("; skipping it for {}, as the target asks", duration(asked)));
        }
        self.last = Some((failure.clone(), now.saturating_add(pause.max(asked))));
        failure
    }
}

/// A target cannot silence an instance for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How many minutes are skipped after this many consecutive failures. An instance whose target is down is called every minute
/// for ten minutes, and then at least every five, since it may recover; one that costs the machine something is skipped sooner,
/// for up to an hour.
fn pause_minutes(kind: Kind, consecutive: u32) -> u64 {
    let doublings = |from: u32| consecutive.checked_sub(from).map_or(0, |over| 1_u64 << over.min(10));
    if kind.is_costly() { doublings(3).min(59) } else { doublings(10).min(4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The minutes out of `minutes` in which an instance that always fails like this is called.
    fn called(kind: Kind, minutes: u32) -> Vec<u32> {
        let mut circuit = Circuit::default();
        let ask = |minute: &u32| {
            let now = MINUTE * *minute;
            let called = circuit.ask(now).is_ok();
            if called {
                circuit.fail(Failure::new(kind, "it failed"), now);
            }
            called
        };
        (0..minutes).filter(ask).collect()
    }

    #[test]
    fn an_instance_that_costs_something_is_skipped_for_longer_and_longer_up_to_an_hour() {
        assert_eq!(called(Kind::Crashed, 40), [0, 1, 2, 4, 7, 12, 21, 38]);
        let late = called(Kind::Late, 1_000);
        let gaps = late.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(gaps, Some(60));
    }

    #[test]
    fn an_instance_whose_target_is_down_is_called_at_least_every_five_minutes() {
        let called = called(Kind::Unreachable, 100);
        assert_eq!(called[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
        assert!(called.windows(2).all(|pair| pair[1] - pair[0] <= 5));
    }

    #[test]
    fn whoever_is_late_because_of_others_is_called_every_minute() {
        let mut circuit = Circuit::default();
        for minute in 0..100 {
            assert_eq!(circuit.ask(MINUTE * minute), Ok(()));
            let failure = circuit.fail(Failure::of_others("timed out"), MINUTE * minute);
            assert_eq!(failure.text, "timed out");
            assert_eq!(circuit.failure().as_deref(), Some("timed out"));
        }
    }

    #[test]
    fn a_target_that_asks_for_a_pause_gets_it_but_no_longer_than_an_hour() {
        for (asked, expected) in [(90, 90), (1_000_000, 3_600)] {
            let (mut circuit, start) = (Circuit::default(), MINUTE);
            let failure = Failure::new(Kind::Unreachable, "busy");
            let failure = Failure { retry_after: Some(Duration::from_secs(asked)), ..failure };
            let text = circuit.fail(failure, start).to_string();
            assert_eq!(text, format!("busy; skipping it for {expected} s, as the target asks"));
            let until = start + Duration::from_secs(expected);
            assert!(circuit.ask(until - Duration::from_millis(1)).is_err() && circuit.ask(until).is_ok());
        }
    }

    #[test]
    fn a_plugin_cannot_return_what_only_the_agent_finds() {
        assert_eq!(Kind::returned("too-large"), Kind::TooLarge);
        for word in ["crashed", "late", "limit", "internal", "gone", ""] {
            assert_eq!(Kind::returned(word), Kind::Failed, "{word}");
        }
    }

    #[test]
    fn the_circuit_closes_at_the_first_success_and_repeats_the_failure_until_then() {
        let mut circuit = Circuit::default();
        let last = (0..3).map(|_| circuit.fail(Failure::new(Kind::Crashed, "crashed"), MINUTE)).last();
        let text = "crashed; skipping the next minute after 3 consecutive failures";
        assert_eq!(last.map(|failure| failure.to_string()).as_deref(), Some(text));
        assert_eq!(circuit.ask(MINUTE * 2).unwrap_err().to_string(), text);
        assert_eq!(circuit.ask(MINUTE * 3), Ok(()));
        circuit.close();
        assert_eq!(circuit, Circuit::default());
    }
}
