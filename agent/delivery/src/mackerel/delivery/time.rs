//! What a delivery holds back and drops by its time: see [`dates`](super::super::dates).

use std::time::Duration;

use wasaba_core::clock;

use super::super::answer::{ApiError, AtFault};
use super::super::dates::Verdict;
use super::super::lanes::Words;
use super::Delivery;

/// What is held back by its time is looked at again after so long.
pub(super) const HELD_BACK: Duration = Duration::from_mins(1);

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

    /// Whether values are held back by their time. If Mackerel has said too little of it lately, asks it, and returns `None`.
    pub(super) async fn ask_time(&mut self) -> Result<Option<bool>, ApiError> {
        let verdict = self.verdict();
        if self.read(1, move |time, _| !verdict.posts(time)).await.is_empty() {
            return Ok(Some(false));
        }
        if !self.client.lacks_dates() {
            return Ok(Some(true));
        }
        self.lane.request(0, self.client.get_host(&self.own)).await?;
        Ok(None)
    }

    /// Notes that values are held back, which is the lane's fault until they are posted or dropped.
    pub(super) fn note_held_back(&mut self) {
        let why = "they are dated more than a day before Mackerel's time or more than 10 minutes ahead of it";
        let cure = "set this machine's clock; they are dropped once Mackerel's answers agree on its time";
        let task = self.task("some values");
        let words = Words::new(&task, "they stay queued, and all others are delivered");
        let words = Words { is_of_a_part: true, cure: Some((AtFault::Content, cure.to_owned())), ..words };
        self.lane.fault(HELD_BACK, &ApiError::NoAnswer(why.to_owned()), &words);
    }
}
