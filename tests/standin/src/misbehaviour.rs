//! The misbehaviours: failures of Mackerel and of the network, scripted by a test.
//!
//! They are only stored here; the service carries them out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Answers with an error in the API's form; neither checks nor stores anything.
    Status {
        /// From 200 to 599.
        status: u16,
        /// The `Retry-After` header: seconds, a date, or nonsense.
        retry_after: Option<String>,
    },
    /// Answers 200 with HTML; neither checks nor stores anything.
    NotJson,
    /// Closes the connection without an answer; neither checks nor stores anything.
    HangUp,
    /// Holds the connection open and never answers; neither checks nor stores anything.
    NeverAnswer,
    /// Behaves well, but answers only after this time.
    AnswerLate(Duration),
    /// Behaves well, but closes the connection instead of answering: the client cannot know what was stored.
    LoseAnswer,
    /// Refuses with 400 each request to `/api/v0/tsdb` with a point of this name, without naming the point.
    RefuseMetric(String),
}

/// A misbehaviour, and when it applies: at which paths and how often. Converted from a [`Misbehaviour`], it applies everywhere
/// until [`Standin::behave`](crate::Standin::behave).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    misbehaviour: Misbehaviour,
    path_prefix: String,
    remaining: Option<usize>,
}

impl Misbehaviour {
    /// Only for paths that begin with `path_prefix`.
    #[must_use]
    pub fn at(self, path_prefix: &str) -> Rule {
        Rule { path_prefix: path_prefix.to_owned(), ..Rule::from(self) }
    }

    /// Only for the next `count` requests.
    #[must_use]
    pub fn times(self, count: usize) -> Rule {
        Rule::from(self).times(count)
    }
}

impl Rule {
    /// Only for the next `count` requests to which it applies.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self { remaining: Some(count), ..self }
    }

    fn applies(&self, path: &str, names: &[&str]) -> bool {
        let applies_to_points = match &self.misbehaviour {
            Misbehaviour::RefuseMetric(name) => names.contains(&name.as_str()),
            _ => true,
        };
        self.remaining != Some(0) && path.starts_with(&self.path_prefix) && applies_to_points
    }
}

impl From<Misbehaviour> for Rule {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self { misbehaviour, path_prefix: String::new(), remaining: None }
    }
}

/// The active rules, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Misbehaviours(Mutex<Vec<Rule>>);

impl Misbehaviours {
    pub(crate) fn add(&self, rule: Rule) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The misbehaviour of the oldest rule that applies to a request to `path` whose points have these `names`; its count goes
    /// down.
    pub(crate) fn take(&self, path: &str, names: &[&str]) -> Option<Misbehaviour> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.applies(path, names))?;
        rule.remaining = rule.remaining.map(|remaining| remaining - 1);
        Some(rule.misbehaviour.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::Misbehaviour::{HangUp, NotJson};
    use super::*;

    #[test]
    fn misbehaviours_apply_in_the_order_in_which_they_were_added() {
        let misbehaviours = Misbehaviours::default();
        misbehaviours.add(HangUp.times(2));
        misbehaviours.add(NotJson.into());
        let applied: Vec<_> = (0..4).filter_map(|_| misbehaviours.take("/a", &[])).collect();
        assert_eq!(applied, [HangUp, HangUp, NotJson, NotJson]);
        misbehaviours.clear();
        assert_eq!(misbehaviours.take("/a", &[]), None);
    }

    #[test]
    fn a_request_to_another_path_does_not_count() {
        let misbehaviours = Misbehaviours::default();
        misbehaviours.add(HangUp.at("/api/v0/tsdb").times(1));
        assert_eq!(misbehaviours.take("/api/v0/hosts", &[]), None);
        assert_eq!(misbehaviours.take("/api/v0/tsdb", &[]), Some(HangUp));
        assert_eq!(misbehaviours.take("/api/v0/tsdb", &[]), None);
    }

    #[test]
    fn a_refused_metric_lets_the_others_through() {
        let misbehaviours = Misbehaviours::default();
        misbehaviours.add(Misbehaviour::RefuseMetric("custom.bad".to_owned()).into());
        assert_eq!(misbehaviours.take("/api/v0/tsdb", &["custom.good"]), None);
        assert!(misbehaviours.take("/api/v0/tsdb", &["custom.good", "custom.bad"]).is_some());
    }
}
