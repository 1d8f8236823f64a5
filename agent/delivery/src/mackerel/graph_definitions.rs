//! Graph definitions: how Mackerel draws the metrics of plugins.
//!
//! All of them are posted at once, again when they change, and hourly, since Mackerel forgets a definition that had no values
//! for some hours. If they are refused, they are halved until the refused ones are alone; what Mackerel itself refuses is tried apart from
//! then on, once an hour. Where they come from is not known here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wasaba_core::graph::Defined;

use super::Pace;
use super::answer::{ApiError, AtFault};
use super::client::Client;
use super::halving::{Found, Fruitless, Halving};
use super::lanes::{Lane, Words};
use super::sieve::Sieve;

/// As often as the host's description.
const POSTED_EVERY: Duration = Duration::from_hours(1);

/// If many are refused, the search for the rest of them continues after this time.
const PAUSE: Duration = Duration::from_secs(60);

/// What becomes of values whose graphs are not defined, for messages.
const POSTED_WITHOUT: &str = "values are posted without them";

/// As many refused definitions are tried alone in an hour.
const MOST_ALONE: usize = 10;

/// As many refused definitions of a source are named.
const MOST_NAMED: usize = 3;

/// Posts the definitions now, when they change, and every hour, without those that Mackerel refuses.
pub(super) async fn keep_posted(
    client: &Client,
    mut definitions: watch::Receiver<Arc<Vec<Defined>>>,
    mut lane: Lane,
    pace: Pace,
) -> Infallible {
    let mut posting = Posting::default();
    loop {
        // However often they change.
        if lane.is_exhausted() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        posting.change(&definitions.borrow_and_update());
        let words = Words::new("post the graph definitions", POSTED_WITHOUT);
        let wait = match posting.post(client, &mut lane, pace).await {
            Ok(wait) => wait,
            Err(error) => {
                // New definitions would fail, too.
                tokio::time::sleep(lane.wait(&error, &words)).await;
                continue;
            }
        };
        tokio::select! {
            () = changed(&mut definitions) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The definitions, and what is known of them.
#[derive(Default)]
struct Posting {
    all: Arc<Vec<Defined>>,
    /// What is refused though other definitions are accepted, and why.
    refused: Vec<(Defined, ApiError)>,
    /// When the refused ones are tried again.
    refused_until: Option<Instant>,
    sieve: Sieve,
    fruitless: Fruitless,
    /// A search for refused ones that pauses, and why it began.
    unfinished: Option<(Halving<Defined, ApiError>, ApiError)>,
}

impl Posting {
    /// Replaces the definitions, if they are other ones.
    fn change(&mut self, all: &Arc<Vec<Defined>>) {
        if *all != self.all {
            self.all = Arc::clone(all);
            self.refused.retain(|(known, _)| all.contains(known));
            self.unfinished = None;
        }
    }

    /// Posts all definitions that are not known as refused, and looks for those that are now. Returns the wait until the next
    /// posting.
    ///
    /// # Errors
    /// A request failed for another reason than its definitions, as far as is known.
    async fn post(&mut self, client: &Client, lane: &mut Lane, pace: Pace) -> Result<Duration, ApiError> {
        if let Some((search, why)) = self.unfinished.take() {
            return self.search(client, lane, search, why, pace).await;
        }
        loop {
            let mut good = self.all.iter().filter(|defined| !self.is_refused(defined)).cloned().collect::<Vec<_>>();
            let part = self.sieve.part(good.len());
            let is_part = part.is_some();
            if let Some(part) = part {
                let mut place = 0..;
                good.retain(|_| place.next().is_some_and(&part));
            }
            if good.is_empty() {
                return self.retry_refused(client, lane, pace).await;
            }
            match lane.request(good.len(), client.post_graphs(body(&good))).await {
                Ok(()) => {
                    tracing::debug!("posted {} graph definitions", good.len());
                    self.sieve.accept();
                    if is_part {
                        continue;
                    }
                    self.sieve.clear();
                    self.fruitless.clear();
                    return self.retry_refused(client, lane, pace).await;
                }
                Err(error) if error.retry_after().is_some() => return Err(error),
                Err(error @ ApiError::Refused(_)) if !self.fruitless.allows(good.len(), (pace.instant)()) => {
                    return Ok(self.cannot_post_any(lane, &error));
                }
                Err(error @ ApiError::Refused(_)) => {
                    let search = Halving::of_refused(good, error.clone(), (pace.random)());
                    return self.search(client, lane, search, error, pace).await;
                }
                Err(error) if self.sieve.is_accepting() && error.may_be_of_a_part() => {
                    let search = Halving::beside_accepted(good, error.clone());
                    return self.search(client, lane, search, error, pace).await;
                }
                Err(error) => {
                    if error.may_be_of_a_part() {
                        self.sieve.fail();
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn search(
        &mut self,
        client: &Client,
        lane: &mut Lane,
        mut search: Halving<Defined, ApiError>,
        why: ApiError,
        pace: Pace,
    ) -> Result<Duration, ApiError> {
        while !lane.is_exhausted()
            && let Some(batch) = search.next()
        {
            match lane.request(batch.len(), client.post_graphs(body(&batch))).await {
                Ok(()) => search.accept(),
                Err(error) => search.fail(batch, error)?,
            }
        }
        let (found, wait) = match search.found() {
            Found::All(found) => (found, POSTED_EVERY),
            Found::Some(found) => {
                self.unfinished = Some((search, why));
                (found, PAUSE)
            }
            // Then the definitions are not to blame, or there is only one.
            Found::NothingAccepted => {
                let things = self.all.len() - self.refused.len();
                self.fruitless.record(things, (pace.instant)());
                return Ok(self.cannot_post_any(lane, &why));
            }
        };
        // The other parts follow soon.
        let wait = if self.sieve.is_open() { wait.min(PAUSE) } else { wait };
        self.sieve.clear();
        self.fruitless.clear();
        let refused = found.iter().filter(|(_, why)| why.is_final()).collect::<Vec<_>>();
        lane.dropped("refused", refused.len());
        if let Some((_, why)) = refused.first() {
            lines(refused.iter().map(|(defined, _)| defined), why).iter().for_each(|line| tracing::warn!("{line}"));
        }
        if !found.is_empty() {
            self.refused_until = Some((pace.instant)() + POSTED_EVERY);
            self.refused.extend(found);
        }
        self.note(lane, pace);
        Ok(wait)
    }

    fn is_refused(&self, defined: &Defined) -> bool {
        self.refused.iter().any(|(refused, _)| refused == defined)
    }

    /// Posts the refused definitions once more if they are due, all together, and some of them alone, and notes how the lane is doing.
    /// Returns the wait until the next posting.
    async fn retry_refused(&mut self, client: &Client, lane: &mut Lane, pace: Pace) -> Result<Duration, ApiError> {
        let now = (pace.instant)();
        if !self.refused.is_empty() && self.refused_until.is_none_or(|until| until <= now) {
            self.refused_until = Some(now + POSTED_EVERY);
            let refused = self.refused.iter().map(|(defined, _)| defined.clone()).collect::<Vec<_>>();
            match lane.request(refused.len(), client.post_graphs(body(&refused))).await {
                Ok(()) => self.refused.clear(),
                Err(error) if error.may_be_of_a_part() && error.retry_after().is_none() => {
                    self.refused.rotate_left(MOST_ALONE.min(refused.len()));
                    for one in refused.iter().take(if refused.len() > 1 { MOST_ALONE } else { 0 }) {
                        match lane.request(1, client.post_graphs(body(std::slice::from_ref(one)))).await {
                            Ok(()) => self.refused.retain(|(refused, _)| refused != one),
                            Err(error) if error.may_be_of_a_part() => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.note(lane, pace);
        Ok(if self.all.is_empty() { Duration::MAX } else { POSTED_EVERY })
    }

    /// Notes that everything is posted but what is refused, which is the lane's fault.
    fn note(&self, lane: &mut Lane, pace: Pace) {
        let example = self.refused.iter().min_by_key(|(_, why)| why.is_final());
        let Some((example, why)) = example else {
            if self.unfinished.is_none() {
                lane.is_well();
            }
            return;
        };
        let (task, cure) = cannot_post("some graph definitions", Some(example), why);
        // What Mackerel refuses has its line in the log.
        let words = Words { cure, is_of_a_part: true, is_said: why.is_final(), ..Words::new(&task, POSTED_WITHOUT) };
        let until = self.refused_until.unwrap_or_else(pace.instant);
        lane.part_fault(until.saturating_duration_since((pace.instant)()), why, &words);
    }

    /// Records that nothing is accepted, and returns when it is tried again.
    fn cannot_post_any(&self, lane: &mut Lane, error: &ApiError) -> Duration {
        let example = self.all.iter().find(|defined| !self.is_refused(defined));
        let (task, cure) = cannot_post("any graph definition", example, error);
        lane.wait(error, &Words { cure, ..Words::new(&task, POSTED_WITHOUT) })
    }
}

/// What a message about definitions that are not accepted says: the task, and the cure.
fn cannot_post(which: &str, example: Option<&Defined>, error: &ApiError) -> (String, Option<(AtFault, String)>) {
    let example = example.map(|defined| format!("`{}` of {}", defined.graph.name(), defined.owner));
    let is_content = error.at_fault() == AtFault::Content;
    let cure = is_content.then(|| (AtFault::Content, "correct the graphs of that plugin".to_owned()));
    (format!("post {which}, such as that of {}", example.unwrap_or_default()), cure)
}

fn body(definitions: &[Defined]) -> Vec<u8> {
    serde_json::to_vec(definitions).unwrap_or_default()
}

/// A line for each source whose definitions were refused.
fn lines<'a>(refused: impl Iterator<Item = &'a Defined>, error: &ApiError) -> Vec<String> {
    let mut by_owner = BTreeMap::<&str, Vec<&Defined>>::new();
    for one in refused {
        by_owner.entry(&one.owner).or_default().push(one);
    }
    let line = |(owner, refused): (&str, Vec<&Defined>)| {
        let names = refused.iter().take(MOST_NAMED).map(|defined| format!("`{}`", defined.graph.name()));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = refused.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "Mackerel refuses the definition of the graphs {names}{more} of {owner}: {error}; its values are posted without it. \
             Correct it in the plugin: it is tried again once an hour, and when it changes"
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
    use std::cell::Cell;

    use wasaba_core::clock;
    use wasaba_core::graph::GraphDefinition;

    use super::super::answer::{Author, ErrorResponse};
    use super::super::board::{Kind, Lanes};
    use super::super::halving::{MOST_REFUSED_REQUESTS, MOST_REQUESTS};
    use super::super::testing::{self, PACE, Server, answer};
    use super::*;

    fn defined(owner: &str, name: &str) -> Defined {
        Defined { owner: owner.into(), graph: GraphDefinition::new(name, "", "float").unwrap() }
    }

    #[test]
    fn a_refused_definition_is_named_with_its_plugin_and_the_cure() {
        let response =
            ErrorResponse { status: 413, by: Author::Mackerel, message: "too large".into(), retry_after: None };
        let refused = ["a", "b", "c", "d"].map(|name| defined("plugin web", name));
        let [line] = &lines(refused.iter(), &ApiError::Refused(response))[..] else { panic!("one line") };
        assert!(line.contains("`custom.a`, `custom.b`, `custom.c` and 1 more of plugin web: "), "{line}");
        assert!(line.contains("413: too large") && line.contains("Correct it in the plugin"), "{line}");
    }

    thread_local! {
        /// How much later than now it is.
        static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static RANDOM: Cell<f64> = const { Cell::new(0.0) };
    }

    #[tokio::test]
    async fn however_many_are_bad_the_good_ones_are_posted_with_a_limited_number_of_requests_at_once() {
        let server = Server::start(|request| match request.body.contains("bad") {
            true => answer(400, r#"{"error":"no"}"#),
            false => answer(200, r#"{"success":true}"#),
        })
        .await;
        let client = testing::client(&server.base);
        let name = |number: usize| if number % 5 == 2 { format!("good{number}") } else { format!("bad{number}") };
        let all = (0..200).map(|number| defined("plugin web", &name(number))).collect::<Vec<_>>();
        let (mut posting, lanes) = (Posting::default(), Lanes::default());
        let pace = Pace { instant: || clock::instant() + LATER.get(), random: || RANDOM.get(), ..PACE };
        let mut lane = lanes.lane(Kind::GraphDefinitions, None, pace);
        posting.change(&Arc::new(all));
        // Each time at another place, until the first is accepted.
        for random in (0..20).map(|number| f64::from(number) / 20.0) {
            let before = server.requests().len();
            LATER.set(LATER.get() + POSTED_EVERY);
            RANDOM.set(random);
            posting.post(&client, &mut lane, pace).await.unwrap();
            assert!(server.requests().len() - before <= MOST_REQUESTS);
        }
        assert_eq!(posting.refused.len(), 160);
        assert!(posting.refused.iter().all(|(defined, _)| defined.graph.name().starts_with("custom.bad")));
        assert!(posting.unfinished.is_none());
        let facts =
            lanes.facts((pace.instant)()).into_iter().find(|facts| facts.kind == Kind::GraphDefinitions).unwrap();
        assert_eq!(facts.dropped.get("refused"), Some(&160));
        let fault = facts.fault.unwrap();
        let expected = "cannot post some graph definitions, such as that of `custom.bad";
        assert!(fault.error.starts_with(expected) && fault.cure == "correct the graphs of that plugin", "{fault:?}");
        // They are tried again once an hour, and the fault ends when they are accepted.
        let before = server.requests().len();
        posting.post(&client, &mut lane, pace).await.unwrap();
        assert_eq!(server.requests().len() - before, 1);
        LATER.set(LATER.get() + POSTED_EVERY);
        posting.post(&client, &mut lane, pace).await.unwrap();
        assert_eq!(server.requests().len() - before, 3 + MOST_ALONE);
        let corrected = Server::start(|_| answer(200, r#"{"success":true}"#)).await;
        LATER.set(LATER.get() + POSTED_EVERY);
        posting.post(&testing::client(&corrected.base), &mut lane, pace).await.unwrap();
        let facts = lanes.facts((pace.instant)());
        assert!(posting.refused.is_empty() && facts.iter().all(|facts| facts.fault.is_none()), "{facts:?}");
    }

    #[tokio::test]
    async fn if_mackerel_refuses_all_definitions_none_of_them_is_to_blame_and_few_requests_are_made() {
        let server = Server::start(|_| answer(400, r#"{"error":"no"}"#)).await;
        let (client, lanes) = (testing::client(&server.base), Lanes::default());
        for count in [1, 3, 200] {
            let before = server.requests().len();
            let all = (0..count).map(|number| defined("plugin web", &format!("g{number}"))).collect::<Vec<_>>();
            let mut posting = Posting::default();
            posting.change(&Arc::new(all));
            let pace = Pace { random: || 1.0, ..PACE };
            let mut lane = lanes.lane(Kind::GraphDefinitions, None, pace);
            let mut waits = Vec::new();
            waits.push(posting.post(&client, &mut lane, pace).await.unwrap().as_secs());
            let searched = server.requests().len() - before;
            waits.push(posting.post(&client, &mut lane, pace).await.unwrap().as_secs());
            assert_eq!((waits, server.requests().len() - before), (vec![2, 4], searched + 1), "a back-off, no search");
            let facts = lanes.facts((PACE.instant)());
            let fault = facts.iter().find_map(|facts| facts.fault.as_ref()).unwrap();
            assert!(fault.error.contains("400"), "{fault:?}");
            assert!(posting.refused.is_empty() && searched <= MOST_REFUSED_REQUESTS, "{count}");
        }
    }
}
