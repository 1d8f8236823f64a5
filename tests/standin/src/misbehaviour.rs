//! The misbehaviours: what Mackerel and the network do on a bad day, played when told.
//!
//! What is told is kept here; it is played where requests are answered.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Answers with an error in the API's form, and neither checks nor stores anything.
    Status {
        /// From 200 to 599.
        status: u16,
        /// The header of that name: seconds, a date, or nonsense.
        retry_after: Option<String>,
    },
    /// Answers 200 and HTML, and neither checks nor stores anything.
    NotJson,
    /// Closes the connection without an answer, and neither checks nor stores anything.
    HangUp,
    /// Holds the connection open and never answers; neither checks nor stores anything.
    NeverAnswer,
    /// Does what it should, and answers after this time.
    AnswerLate(Duration),
    /// Does what it should, and closes the connection in place of the answer: the client cannot know.
    LoseAnswer,
    /// Refuses with 400 each request to `/api/v0/tsdb` in which a point has this name. Which one is not said.
    RefuseMetric(String),
}

/// A misbehaviour, where it is played and how often. What a [`Misbehaviour`] turns into by itself is: everywhere, until
/// [`Standin::behave`](crate::Standin::behave).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spell {
    misbehaviour: Misbehaviour,
    path_prefix: String,
    remaining: Option<usize>,
}

impl Misbehaviour {
    /// Only for paths that begin with `path_prefix`.
    #[must_use]
    pub fn at(self, path_prefix: &str) -> Spell {
        Spell { path_prefix: path_prefix.to_owned(), ..Spell::from(self) }
    }

    /// Only for the next `count` requests.
    #[must_use]
    pub fn times(self, count: usize) -> Spell {
        Spell::from(self).times(count)
    }
}

impl Spell {
    /// Only for the next `count` requests that it fits.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self { remaining: Some(count), ..self }
    }

    fn fits(&self, path: &str, names: &[&str]) -> bool {
        let fits_points = match &self.misbehaviour {
            Misbehaviour::RefuseMetric(name) => names.contains(&name.as_str()),
            _ => true,
        };
        self.remaining != Some(0) && path.starts_with(&self.path_prefix) && fits_points
    }
}

impl From<Misbehaviour> for Spell {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self { misbehaviour, path_prefix: String::new(), remaining: None }
    }
}

/// What was told and is not yet over, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Spells(Mutex<Vec<Spell>>);

impl Spells {
    pub(crate) fn add(&self, spell: Spell) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(spell);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The oldest that fits a request to `path` whose points have these `names`; it counts as played.
    pub(crate) fn take(&self, path: &str, names: &[&str]) -> Option<Misbehaviour> {
        let mut spells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spell = spells.iter_mut().find(|spell| spell.fits(path, names))?;
        spell.remaining = spell.remaining.map(|remaining| remaining - 1);
        Some(spell.misbehaviour.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::Misbehaviour::{HangUp, NotJson};
    use super::*;

    #[test]
    fn spells_are_played_in_the_order_in_which_they_were_told() {
        let spells = Spells::default();
        spells.add(HangUp.times(2));
        spells.add(NotJson.into());
        let played: Vec<_> = (0..4).filter_map(|_| spells.take("/a", &[])).collect();
        assert_eq!(played, [HangUp, HangUp, NotJson, NotJson]);
        spells.clear();
        assert_eq!(spells.take("/a", &[]), None);
    }

    #[test]
    fn a_request_that_does_not_fit_does_not_count() {
        let spells = Spells::default();
        spells.add(HangUp.at("/api/v0/tsdb").times(1));
        assert_eq!(spells.take("/api/v0/hosts", &[]), None);
        assert_eq!(spells.take("/api/v0/tsdb", &[]), Some(HangUp));
        assert_eq!(spells.take("/api/v0/tsdb", &[]), None);
    }

    #[test]
    fn a_poisoned_metric_lets_the_others_through() {
        let spells = Spells::default();
        spells.add(Misbehaviour::RefuseMetric("custom.bad".to_owned()).into());
        assert_eq!(spells.take("/api/v0/tsdb", &["custom.good"]), None);
        assert!(spells.take("/api/v0/tsdb", &["custom.good", "custom.bad"]).is_some());
    }
}
