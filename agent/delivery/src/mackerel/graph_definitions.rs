//! Graph definitions: how Mackerel draws the metrics of plugins.
//!
//! All of them are posted at once, again when they change, and hourly, since Mackerel forgets a definition that had no values
//! for some hours. If Mackerel refuses them, they are halved until the refused ones are alone; these are not posted again until
//! they change. Where they come from is not known here.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use wasaba_core::graph::Defined;

use wasaba_core::clock;

use super::Pace;
use super::answer::ApiError;
use super::backoff::{Backoff, retrying};
use super::client::Client;

/// As often as the host's description.
const POSTED_EVERY: Duration = Duration::from_hours(1);

/// Definitions with many bad ones among them cost at most this many requests at once; the next follow after [`PAUSE`].
const MOST_REQUESTS: usize = 64;
const PAUSE: Duration = Duration::from_secs(60);

/// If none is accepted, it is tried with this many requests an hour.
const MOST_REFUSED_REQUESTS: usize = 16;

/// As many refused definitions of a source are named.
const MOST_NAMED: usize = 3;

/// Posts the definitions now, when they change, and every hour, without those that Mackerel refuses. If it refuses all of them, they
/// are tried again in an hour.
pub(super) async fn keep_posted(
    client: &Client,
    mut definitions: watch::Receiver<Arc<Vec<Defined>>>,
    pace: Pace,
) -> Infallible {
    let mut backoff = Backoff::default();
    let mut refused = Vec::new();
    let mut unfinished: Option<Posting> = None;
    loop {
        let current = definitions.borrow_and_update().clone();
        let same = unfinished.take().filter(|posting| Arc::ptr_eq(&posting.definitions, &current));
        let mut posting = same.unwrap_or_else(|| {
            refused.retain(|known| current.contains(known));
            Posting::new(current, &refused)
        });
        let wait = match posting.post(client).await {
            Ok(()) if posting.batches.is_empty() => {
                backoff.reset();
                posting.settle(&mut refused)
            }
            Ok(()) => {
                unfinished = Some(posting);
                PAUSE
            }
            Err(error) => {
                unfinished = Some(posting);
                let wait = backoff.wait(&error, clock::instant(), (pace.random)());
                if backoff.is_news(&error, clock::instant()) {
                    tracing::warn!("cannot post the graph definitions: {error}; {}", retrying(wait));
                }
                wait
            }
        };
        tokio::select! {
            () = changed(&mut definitions) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One posting of all definitions, in pieces if necessary.
struct Posting {
    definitions: Arc<Vec<Defined>>,
    /// What is still to be posted, the larger ones first: good ones are accepted early, wherever the bad ones are.
    batches: VecDeque<Vec<Defined>>,
    accepted: bool,
    refused: Vec<(Defined, ApiError)>,
    last: Option<ApiError>,
}

impl Posting {
    /// A posting of all except the `known` bad ones.
    fn new(definitions: Arc<Vec<Defined>>, known: &[Defined]) -> Self {
        let all = definitions.iter().filter(|defined| !known.contains(defined)).cloned().collect::<Vec<_>>();
        let batches = Some(all).filter(|all| !all.is_empty()).into_iter().collect();
        Self { definitions, batches, accepted: false, refused: Vec::new(), last: None }
    }

    /// Posts what is left, with [`MOST_REQUESTS`], or with [`MOST_REFUSED_REQUESTS`] if none is accepted.
    ///
    /// # Errors
    /// A request failed for another reason than its definitions.
    async fn post(&mut self, client: &Client) -> Result<(), ApiError> {
        for request in 0..MOST_REQUESTS {
            if request >= MOST_REFUSED_REQUESTS && !self.accepted {
                self.batches.clear();
            }
            // The smallest first until one is accepted.
            let next = if self.accepted { self.batches.pop_front() } else { self.batches.pop_back() };
            let Some(mut batch) = next else { break };
            let body = serde_json::to_vec(&batch).unwrap_or_default();
            match client.post_graphs(body).await {
                Ok(()) => {
                    self.accepted = true;
                    tracing::debug!("posted {} graph definitions", batch.len());
                }
                Err(error @ ApiError::Refused(_)) => {
                    self.last = Some(error.clone());
                    let rest = batch.split_off(batch.len() / 2);
                    match (batch.is_empty(), <[_; 1]>::try_from(rest)) {
                        (true, Ok([alone])) => self.refused.push((alone, error)),
                        (_, Ok(one)) => self.batches.extend([batch, one.into()]),
                        (_, Err(rest)) => self.batches.extend([batch, rest]),
                    }
                }
                Err(error) => {
                    self.batches.push_back(batch);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Logs and remembers what was refused; returns how long to wait for the next posting.
    fn settle(self, refused: &mut Vec<Defined>) -> Duration {
        let Self { definitions, refused: now, accepted, last, .. } = self;
        // If Mackerel refuses everything, the definitions are not to blame.
        if let (Some(error), false, true) = (last, accepted, definitions.len() > 1) {
            tracing::error!("Mackerel refuses all graph definitions: {error}; retrying in an hour");
            return POSTED_EVERY;
        }
        for line in lines(&now) {
            tracing::warn!("{line}");
        }
        refused.extend(now.into_iter().map(|(defined, _)| defined));
        if refused.len() == definitions.len() { Duration::MAX } else { POSTED_EVERY }
    }
}

/// A line for each source whose definitions were refused.
fn lines(refused: &[(Defined, ApiError)]) -> Vec<String> {
    let mut by_owner = BTreeMap::<&str, Vec<&(Defined, ApiError)>>::new();
    for one in refused {
        by_owner.entry(&one.0.owner).or_default().push(one);
    }
    let line = |(owner, refused): (&str, Vec<&(Defined, ApiError)>)| {
        let names = refused.iter().take(MOST_NAMED).map(|(defined, _)| format!("`{}`", defined.graph.name()));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = refused.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let error = refused.first().map(|(_, error)| error.to_string()).unwrap_or_default();
        format!(
            "Mackerel refuses the definition of the graphs {names}{more} of {owner}: {error}; its values are posted without it. \
             Correct it in the plugin: it is not posted again until it changes"
        )
    };
    by_owner.into_iter().map(line).collect()
}

async fn changed(definitions: &mut watch::Receiver<Arc<Vec<Defined>>>) {
    if definitions.changed().await.is_err() {
        // The sender is gone, so they cannot change any more.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::graph::GraphDefinition;

    use super::super::answer::{Author, ErrorResponse};
    use super::super::testing::{self, Server, answer};
    use super::*;

    fn defined(owner: &str, name: &str) -> Defined {
        Defined { owner: owner.into(), graph: GraphDefinition::new(name, "", "float").unwrap() }
    }

    #[test]
    fn a_refused_definition_is_named_with_its_plugin_and_the_cure() {
        let response =
            ErrorResponse { status: 413, by: Author::Mackerel, message: "too large".into(), retry_after: None };
        let refused =
            ["a", "b", "c", "d"].map(|name| (defined("plugin web", name), ApiError::Refused(response.clone())));
        let [line] = &lines(&refused)[..] else { panic!("one line") };
        assert!(line.contains("`custom.a`, `custom.b`, `custom.c` and 1 more of plugin web: "), "{line}");
        assert!(line.contains("413: too large") && line.contains("Correct it in the plugin"), "{line}");
    }

    #[tokio::test]
    async fn however_many_are_bad_the_good_ones_are_posted_with_a_limited_number_of_requests_at_once() {
        let server = Server::start(|request| match request.body.contains("bad") {
            true => answer(400, "{}"),
            false => answer(200, r#"{"success":true}"#),
        })
        .await;
        let client = testing::client(&server.base);
        let name = |number: usize| if number % 5 == 2 { format!("good{number}") } else { format!("bad{number}") };
        let all = (0..200).map(|number| defined("plugin web", &name(number))).collect::<Vec<_>>();
        let mut posting = Posting::new(Arc::new(all), &[]);
        while !posting.batches.is_empty() {
            let before = server.requests().len();
            posting.post(&client).await.unwrap();
            assert!(server.requests().len() - before <= MOST_REQUESTS);
        }
        let mut refused = Vec::new();
        assert_eq!(posting.settle(&mut refused), POSTED_EVERY);
        assert_eq!(refused.len(), 160);
        assert!(refused.iter().all(|defined| defined.graph.name().starts_with("custom.bad")));
    }

    #[tokio::test]
    async fn if_mackerel_refuses_each_of_many_definitions_few_requests_are_made() {
        let server = Server::start(|_| answer(400, "{}")).await;
        let all = (0..200).map(|number| defined("plugin web", &format!("g{number}"))).collect::<Vec<_>>();
        let mut posting = Posting::new(Arc::new(all), &[]);
        posting.post(&testing::client(&server.base)).await.unwrap();
        assert!(posting.batches.is_empty() && server.requests().len() == MOST_REFUSED_REQUESTS);
        assert_eq!(posting.settle(&mut Vec::new()), POSTED_EVERY);
    }

    #[tokio::test]
    async fn if_mackerel_refuses_all_definitions_none_of_them_is_to_blame() {
        let server = Server::start(|_| answer(400, "{}")).await;
        let all = ["a", "b", "c"].map(|name| defined("plugin web", name));
        let mut posting = Posting::new(Arc::new(all.to_vec()), &[]);
        posting.post(&testing::client(&server.base)).await.unwrap();
        let mut refused = Vec::new();
        assert_eq!((posting.settle(&mut refused), refused.len()), (POSTED_EVERY, 0));
    }
}
