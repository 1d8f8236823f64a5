//! What a delivery holds back and drops by its time: see [`dates`](super::super::dates).

use std::time::{Duration, Instant};

use wasaba_core::clock;
use wasaba_core::text::lasting;

use super::super::answer::{ApiError, AtFault};
use super::super::dates::Verdict;
use super::super::lanes::Words;
use super::Delivery;
use crate::spool::AHEAD_SECONDS;

/// What is held back by its time is looked at again after so long.
const HELD_BACK: Duration = Duration::from_mins(1);

/// So long after something was dropped for its time that is a fault: each minute has values.
const DROPPING: Duration = Duration::from_mins(3);

/// What is older is dropped.
const DAY_SECONDS: i64 = 86_400;

/// What is held back until its time has come is a fault if this machine's clock is further ahead: else it is a matter of seconds.
const FAULT_SECONDS: i64 = 60;

/// What is held back by its time.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBack {
    /// When to look at it again; `None` if nothing is.
    pub(super) next_look: Option<Duration>,
    /// What is wrong, if it is more than what waits some seconds until its time has come.
    pub(super) fault: Option<TimeFault>,
}

/// Why values are held back, dropped or misdated.
#[derive(Clone, Debug)]
pub(super) struct TimeFault {
    why: String,
    cure: &'static str,
    fate: Fate,
}

/// What becomes of values whose time is wrong.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// They wait until Mackerel would take them.
    Held,
    /// Mackerel would ignore them.
    Dropped,
    /// Mackerel takes them, for a time that is wrong.
    Misdated,
}

/// What was dropped for its time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DroppedByTime {
    /// How many points of all hosts were, by the books.
    points: Option<u64>,
    /// When some were last while this machine's clock was wrong.
    last: Option<Instant>,
}

impl Delivery {
    /// What is posted, held back and dropped by its time now.
    pub(super) fn verdict(&self) -> Verdict {
        self.client.verdict(clock::seconds_of((self.pace.now)()))
    }

    /// Drops what is too old or dated ahead by Mackerel's clock, if that is certain.
    pub(super) async fn expire(&mut self) {
        let verdict = self.verdict();
        let certain = verdict.certain();
        let dropped = self.blocking(move |spool| {
            if let Some(time) = certain {
                spool.expire(time);
            }
            let ledger = spool.ledger();
            Some(ledger.expired + ledger.misdated)
        });
        let dropped = dropped.await;
        let before = std::mem::replace(&mut self.dropped.points, dropped);
        if before.zip(dropped).is_some_and(|(before, dropped)| dropped > before) && is_far(verdict.ahead()) {
            self.dropped.last = Some(self.now());
        }
    }

    /// Whether values are dropped for their time. The lane of this host shows it for all hosts.
    fn is_dropping(&self) -> bool {
        let is_now = |last: Instant| self.now().saturating_duration_since(last) < DROPPING;
        self.host.is_none() && self.dropped.last.is_some_and(is_now)
    }

    /// What is held back by its time. If Mackerel has said too little of it lately, asks it, and returns `None`.
    pub(super) async fn ask_time(&mut self) -> Result<Option<HeldBack>, ApiError> {
        // What another lane has dropped since is in the books.
        self.expire().await;
        let verdict = self.verdict();
        let (next_minute, ahead) = (verdict.until_next_minute(), verdict.ahead());
        let verdict_is_certain = verdict.certain().is_some();
        let next_look = Some(next_minute.unwrap_or(HELD_BACK));
        let of_wrong = verdict.clone();
        let is_wrong = move |time: i64| !of_wrong.posts(time) && !of_wrong.awaits(time);
        let is_wrong = !self.read(1, move |time, _| is_wrong(time)).await.is_empty();
        let is_early = !is_wrong && !self.read(1, move |time, _| verdict.awaits(time)).await.is_empty();
        if is_wrong && self.client.lacks_dates() || is_early && self.client.lacks_recent_dates() {
            self.lane.request(0, self.client.get_host(&self.own)).await?;
            return Ok(None);
        }
        let was_held_back = std::mem::replace(&mut self.is_held_back, is_wrong || is_early);
        if was_held_back && !self.is_held_back {
            // An answer to another lane may have said meanwhile that it may be posted.
            return Ok(None);
        }
        let is_far = is_far(ahead);
        let is_misdated = self.host.is_none()
            && verdict_is_certain
            && is_far
            && ahead.is_some_and(|ahead| (-DAY_SECONDS..0).contains(&ahead));
        let fault = match ahead.filter(|ahead| *ahead > FAULT_SECONDS || is_far).map(of_clock) {
            why if is_wrong => {
                let unknown =
                    "they are dated more than a day before Mackerel's time or more than 10 minutes ahead of it"
                        .to_owned();
                let cure = "set this machine's clock; they are dropped once Mackerel's answers agree on its time";
                Some(TimeFault { why: why.filter(|_| is_far).unwrap_or(unknown), cure, fate: Fate::Held })
            }
            Some(why) if is_early => {
                let cure = "set this machine's clock; each value is delivered once its time has come by Mackerel's";
                Some(TimeFault { why, cure, fate: Fate::Held })
            }
            Some(why) if is_misdated => Some(TimeFault { why, cure: "set this machine's clock", fate: Fate::Misdated }),
            Some(why) if is_far && self.is_dropping() => {
                Some(TimeFault { why, cure: "set this machine's clock", fate: Fate::Dropped })
            }
            _ => None,
        };
        Ok(Some(HeldBack { next_look: next_look.filter(|_| is_wrong || is_early || fault.is_some()), fault }))
    }

    /// Notes that values are held back, dropped or misdated, which is the lane's fault for as long as they are.
    pub(super) fn note_time_fault(&mut self, fault: TimeFault) {
        let TimeFault { why, cure, fate } = fault;
        let (values, waits) = match fate {
            Fate::Held => ("some values", "they stay queued, and all others are delivered"),
            Fate::Dropped => ("values", "they are dropped"),
            Fate::Misdated => ("values with their right time", "they are delivered as they are dated"),
        };
        let task = self.task(values);
        let words = Words::new(&task, waits);
        let words = Words { is_of_a_part: true, cure: Some((AtFault::Content, cure.to_owned())), ..words };
        self.lane.fault(HELD_BACK, &ApiError::NoAnswer(why), &words);
    }
}

/// Whether this machine's clock differs from Mackerel's by so much that values are dropped for it.
fn is_far(ahead: Option<i64>) -> bool {
    ahead.is_some_and(|ahead| ahead.saturating_abs() > AHEAD_SECONDS)
}

/// What is wrong with the time of values, for messages.
fn of_clock(ahead: i64) -> String {
    let by = lasting(Duration::from_secs(ahead.unsigned_abs()));
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    format!("they are dated by this machine's clock, which is {by} {way} Mackerel's")
}
