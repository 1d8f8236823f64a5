//! Other hosts that plugins report values of (`custom_identifier`): the id of each on Mackerel.
//!
//! The official agent asks once, at its start, and drops the values of an unknown host. Here they stay queued, and the host
//! is looked up again.

use std::collections::{BTreeSet, HashMap};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasaba_core::text::printable;

use super::answer::ApiError;
use super::client::Client;

/// How long a host id is valid: the host may be retired and registered again.
const FOUND: Duration = Duration::from_secs(60 * 60);

/// The wait before a missing host is looked up again.
const ABSENT: Duration = Duration::from_secs(10 * 60);

/// The wait after a lookup that failed.
const FAILED: Duration = Duration::from_secs(60);

/// The other hosts that were looked up, by their custom identifiers.
#[derive(Default)]
pub(super) struct Hosts(HashMap<Arc<str>, Lookup>);

/// The outcome of a lookup, and until when it is valid.
struct Lookup {
    outcome: Outcome,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The host has this id.
    Found(Arc<str>),
    /// No host has the custom identifier.
    Absent,
    /// The lookup failed, or Mackerel has not known the id any more since.
    Unknown,
}

impl Hosts {
    /// The custom identifiers without a known host.
    pub(super) fn absent(&self, now: Instant) -> BTreeSet<Arc<str>> {
        let absent = self.0.iter().filter(|(_, lookup)| lookup.outcome.id().is_none() && now < lookup.until);
        absent.map(|(identifier, _)| Arc::clone(identifier)).collect()
    }

    /// The id of the host, if it is known. A change is logged.
    pub(super) async fn id(&mut self, client: &Client, identifier: &Arc<str>, now: Instant) -> Option<Arc<str>> {
        let before = self.0.get(identifier);
        if let Some(lookup) = before.filter(|lookup| now < lookup.until) {
            return lookup.outcome.id();
        }
        let before = before.map(|lookup| &lookup.outcome);
        let (outcome, valid, error) = match client.find_host(identifier).await {
            Ok(Some(id)) => (Outcome::Found(id.as_str().into()), FOUND, None),
            Ok(None) => (Outcome::Absent, ABSENT, None),
            Err(error) => (before.cloned().unwrap_or(Outcome::Unknown), FAILED, Some(error)),
        };
        if outcome.is_news(before) {
            log(identifier, &outcome, error);
        }
        let id = outcome.id();
        self.0.insert(Arc::clone(identifier), Lookup { outcome, until: now + valid });
        id
    }

    /// Records that Mackerel answered 404 to a request with the id of this host.
    pub(super) fn doubt(&mut self, identifier: &Arc<str>, now: Instant) {
        self.0.insert(Arc::clone(identifier), Lookup { outcome: Outcome::Unknown, until: now + ABSENT });
    }
}

impl Outcome {
    fn id(&self) -> Option<Arc<str>> {
        match self {
            Self::Found(id) => Some(Arc::clone(id)),
            Self::Absent | Self::Unknown => None,
        }
    }

    /// Whether it differs in kind from the outcome `before`. That a host is found at first is not news.
    fn is_news(&self, before: Option<&Self>) -> bool {
        match before {
            Some(before) => discriminant(before) != discriminant(self),
            None => self.id().is_none(),
        }
    }
}

fn log(identifier: &str, outcome: &Outcome, error: Option<ApiError>) {
    let shown = printable(identifier, 200);
    match (outcome, error) {
        (Outcome::Found(_), _) => tracing::info!("found the host `{shown}`; delivering its values"),
        (_, Some(error)) => tracing::warn!("cannot look up the host `{shown}`: {error}; its values stay queued"),
        (_, None) => tracing::warn!(
            "no host has the custom identifier `{shown}`; its values stay queued for up to 24 h: register that host, or \
             correct `custom_identifier` in the plugin's table"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::mackerel::testing::{Server, answer, client};

    #[test]
    fn a_host_is_news_when_it_appears_or_disappears_but_not_when_it_is_there_at_first() {
        let found = |id: &str| Outcome::Found(id.into());
        for (before, after, is_news) in [
            (None, found("A"), false),
            (None, Outcome::Absent, true),
            (None, Outcome::Unknown, true),
            (Some(found("A")), found("B"), false),
            (Some(Outcome::Absent), Outcome::Absent, false),
            (Some(Outcome::Absent), found("A"), true),
            (Some(Outcome::Unknown), Outcome::Absent, true),
            (Some(Outcome::Unknown), found("A"), true),
        ] {
            assert_eq!(after.is_news(before.as_ref()), is_news, "{before:?} to {after:?}");
        }
    }

    #[tokio::test]
    async fn a_lookup_is_repeated_when_its_outcome_has_expired_and_a_failed_one_keeps_the_last_id() {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(200, r#"{"hosts":[{"id":"A"}]}"#),
            1 => answer(503, "{}"),
            _ => answer(200, r#"{"hosts":[]}"#),
        })
        .await;
        let (client, db, start) = (client(&server.base), Arc::from("db"), Instant::now());
        let mut hosts = Hosts::default();
        let mut ids = Vec::new();
        for seconds in [0, 3_599, 3_600, 3_659, 3_660] {
            let now = start + Duration::from_secs(seconds);
            ids.push((hosts.id(&client, &db, now).await, server.requests().len()));
        }
        let a = || Some(Arc::from("A"));
        assert_eq!(ids, [(a(), 1), (a(), 1), (a(), 2), (a(), 2), (None, 3)]);
        assert_eq!(hosts.absent(start + Duration::from_secs(3_660)), BTreeSet::from([db]));
    }
}
