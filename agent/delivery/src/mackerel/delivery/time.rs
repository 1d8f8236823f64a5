//! What a delivery holds back and drops by its time: see [`dates`](super::super::dates).

use std::time::Duration;

use wasaba_core::clock;

use super::super::answer::{ApiError, AtFault};
use super::super::dates::Verdict;
use super::super::lanes::Words;
use super::Delivery;

/// What is held back by its time is looked at again after so long.
const HELD_BACK: Duration = Duration::from_mins(1);

/// What is held back until its time has come is a fault if this machine's clock is further ahead: else it is a matter of seconds.
const FAULT_SECONDS: i64 = 60;

/// What is held back by its time.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBack {
    /// When to look at it again; `None` if nothing is.
    pub(super) next_look: Option<Duration>,
    /// Why and the cure, if it is more than what waits some seconds until its time has come.
    pub(super) fault: Option<(String, &'static str)>,
}

impl Delivery {
    /// What is posted, held back and dropped by its time now.
    pub(super) fn verdict(&self) -> Verdict {
        self.client.verdict(clock::seconds_of((self.pace.now)()))
    }

    /// Drops what is too old or dated ahead by Mackerel's clock, if that is certain.
    pub(super) async fn expire(&self) {
        if let Some(time) = self.verdict().certain() {
            self.blocking(move |spool| spool.expire(time)).await;
        }
    }

    /// What is held back by its time. If Mackerel has said too little of it lately, asks it, and returns `None`.
    pub(super) async fn ask_time(&mut self) -> Result<Option<HeldBack>, ApiError> {
        let verdict = self.verdict();
        let (next_minute, ahead) = (verdict.until_next_minute(), verdict.ahead());
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
        let fault = match ahead {
            _ if is_wrong => Some((
                "they are dated more than a day before Mackerel's time or more than 10 minutes ahead of it".to_owned(),
                "set this machine's clock; they are dropped once Mackerel's answers agree on its time",
            )),
            Some(ahead) if is_early && ahead > FAULT_SECONDS => Some((
                format!("they are dated by this machine's clock, which is about {ahead} s ahead of Mackerel's"),
                "set this machine's clock; each value is delivered once its time has come by Mackerel's",
            )),
            _ => None,
        };
        Ok(Some(HeldBack { next_look: next_look.filter(|_| is_wrong || is_early), fault }))
    }

    /// Notes that values are held back, see [`HeldBack::fault`], which is the lane's fault until they are posted or dropped.
    pub(super) fn note_held_back(&mut self, why: String, cure: &str) {
        let task = self.task("some values");
        let words = Words::new(&task, "they stay queued, and all others are delivered");
        let words = Words { is_of_a_part: true, cure: Some((AtFault::Content, cure.to_owned())), ..words };
        self.lane.fault(HELD_BACK, &ApiError::NoAnswer(why), &words);
    }
}
