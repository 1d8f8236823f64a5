//! Host metadata: documents to `PUT /api/v0/hosts/<id>/metadata/<namespace>`.
//!
//! Only the newest document of each namespace counts, and a namespace that fails holds up no other. A document that is refused stays
//! queued and is posted again later ([`Holds`]), unless its plugin makes another one before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use wasaba_core::document::Document;

use super::answer::ApiError;
use super::client::Client;
use super::holds::Holds;
use super::id_file::HostId;
use super::lanes::{Lane, Words};

/// The queued documents, by namespace.
#[derive(Debug, Default)]
pub(super) struct Queue {
    documents: BTreeMap<Arc<str>, Document>,
    /// The namespaces whose documents are refused.
    held: Holds<Arc<str>>,
    /// Those that failed since anything was accepted, and why.
    failing: BTreeMap<Arc<str>, ApiError>,
    /// The namespace that was tried last: the one behind it is next.
    last: Option<Arc<str>>,
    /// When a document was accepted last.
    accepted_at: Option<std::time::Instant>,
}

/// How long after a document was accepted another that fails is taken for the reason.
const PROVEN: Duration = Duration::from_mins(10);

impl Queue {
    /// Queues a document in place of that of the same namespace.
    pub(super) fn push(&mut self, document: Document) {
        if self.documents.get(&document.namespace).is_none_or(|before| before.json != document.json) {
            self.held.release(&document.namespace);
        }
        self.documents.insert(Arc::clone(&document.namespace), document);
    }

    /// The document to post next.
    fn next(&mut self, now: std::time::Instant) -> Option<(Arc<str>, Vec<u8>)> {
        let behind = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let from_there = self.documents.range((behind, Bound::Unbounded)).chain(&self.documents);
        let is_free = |namespace: &Arc<str>| !self.held.contains(namespace) || self.held.is_due(namespace, now);
        let (namespace, document) = from_there.into_iter().find(|(namespace, _)| is_free(namespace))?;
        let namespace = Arc::clone(namespace);
        self.last = Some(Arc::clone(&namespace));
        Some((namespace, document.json.clone().into_bytes()))
    }

    /// Forgets what another key or server has refused.
    fn forget(&mut self) {
        (self.held, self.failing, self.accepted_at) = (Holds::default(), BTreeMap::new(), None);
    }

    /// Takes a document that was accepted. What failed before it does not fail with everything.
    fn accept(&mut self, namespace: &Arc<str>, now: std::time::Instant) -> Option<Document> {
        self.held.release(namespace);
        self.held.release_unproven();
        self.accepted_at = Some(now);
        self.failing.remove(namespace);
        for (namespace, why) in std::mem::take(&mut self.failing) {
            self.held.hold(namespace, &why, now);
        }
        self.documents.remove(namespace)
    }

    /// Records that a document failed, of which another may be accepted. Returns whether it is held.
    fn fail(&mut self, namespace: &Arc<str>, why: &ApiError, now: std::time::Instant) -> bool {
        let is_proven = self.accepted_at.is_some_and(|at| now.saturating_duration_since(at) < PROVEN);
        if is_proven && (why.is_final() || why.is_too_large()) {
            self.held.hold(Arc::clone(namespace), why, now);
        } else if why.is_final() || why.is_too_large() {
            // Perhaps everything is refused.
            self.held.hold_unproven(Arc::clone(namespace), why, now);
        } else if self.held.contains(namespace) {
            self.held.hold_unproven(Arc::clone(namespace), why, now);
        } else {
            self.failing.insert(Arc::clone(namespace), why.clone());
            return false;
        }
        true
    }
}

/// Delivers queued documents and those from the inbox. A document stays queued until Mackerel accepts it.
pub(super) async fn keep_posted(
    client: &Client,
    host_id: &HostId,
    inbox: &mut mpsc::Receiver<Document>,
    queue: &mut Queue,
    mut lane: Lane,
) -> Infallible {
    queue.forget();
    let mut retry_at = None;
    let words = Words::new("deliver metadata", "the newest document of each namespace stays queued");
    loop {
        while retry_at.is_none()
            && let Some((namespace, json)) = queue.next(Instant::now().into_std())
        {
            let result = lane.request(1, client.put_metadata(host_id, &namespace, json)).await;
            let now = Instant::now();
            match result {
                Ok(()) => {
                    tracing::debug!("delivered metadata {namespace}");
                    if let Some(document) = queue.accept(&namespace, now.into_std()) {
                        // The receiver may be gone.
                        document.delivered.send(host_id.as_str().into()).ok();
                    }
                }
                Err(error)
                    if error.may_be_of_a_part()
                        && error.retry_after().is_none()
                        && queue.fail(&namespace, &error, now.into_std()) =>
                {
                    if lane.is_exhausted() {
                        retry_at = Some(now + lane.wait(&error, &words));
                    }
                }
                Err(error) => {
                    retry_at = Some(now + lane.wait(&error, &words));
                }
            }
        }
        if retry_at.is_none() {
            note(queue, &mut lane, Instant::now().into_std());
        }
        let wake = retry_at.or_else(|| queue.held.next().map(Instant::from_std));
        tokio::select! {
            Some(document) = inbox.recv() => queue.push(document),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => retry_at = None,
            else => std::future::pending().await,
        }
    }
}

/// Notes that everything is delivered but what is held, which is the lane's fault.
fn note(queue: &Queue, lane: &mut Lane, now: std::time::Instant) {
    let held = queue.held.all().min_by_key(|(_, why, until)| (why.is_final(), *until));
    let Some((namespace, why, until)) = held else {
        return lane.is_well();
    };
    let more = match queue.held.all().count() - 1 {
        0 => String::new(),
        more => format!(" and {} more", more),
    };
    let task = format!("deliver metadata {namespace}{more}");
    let words = Words::new(&task, "it stays queued until its plugin makes another, and the others are delivered");
    lane.fault(until.saturating_duration_since(now), why, &Words { is_of_a_part: true, ..words });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};
    use crate::mackerel::board::{Kind, Lanes};
    use crate::mackerel::testing::{PACE, Server, answer, client};

    /// A document, and a receiver of its delivery.
    fn document(namespace: &str, json: &str) -> (Document, oneshot::Receiver<Arc<str>>) {
        let (delivered, arrived) = oneshot::channel();
        (Document { namespace: namespace.into(), json: json.to_owned(), delivered }, arrived)
    }

    #[test]
    fn a_namespace_that_always_fails_is_tried_behind_all_others() {
        let mut queue = Queue::default();
        ["a", "b", "c"].into_iter().for_each(|namespace| queue.push(document(namespace, "1").0));
        let now = Instant::now().into_std();
        let mut next = || queue.next(now).map(|(namespace, _)| namespace.to_string()).unwrap_or_default();
        assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
        queue.held.hold("b".into(), &ApiError::NoAnswer("no".to_owned()), now);
        let mut next = || queue.next(now).map(|(namespace, _)| namespace.to_string()).unwrap_or_default();
        assert_eq!([next(), next()], ["c", "a"]);
    }

    #[tokio::test]
    async fn a_namespace_that_always_fails_holds_up_no_other() {
        let server = Server::start(|request| match request.line.ends_with("/a") {
            true => answer(503, "{}"),
            false => answer(200, r#"{"success":true}"#),
        })
        .await;
        let (client, host_id) = (client(&server.base), HostId::new("OWN").unwrap());
        let (mut queue, lanes) = (Queue::default(), Lanes::default());
        let arrivals = ["a", "b", "c", "d"].map(|namespace| {
            let (document, arrived) = document(namespace, "1");
            queue.push(document);
            arrived
        });
        let (_sender, mut inbox) = mpsc::channel(1);
        let [_fails, b, c, d] = arrivals;
        tokio::select! {
            never = keep_posted(&client, &host_id, &mut inbox, &mut queue, lanes.lane(Kind::Metadata, None, PACE)) =>
                match never {},
            others = async { (b.await, c.await, d.await) } =>
                assert!(others.0.is_ok() && others.1.is_ok() && others.2.is_ok()),
        }
        assert_eq!(queue.documents.keys().map(|namespace| &**namespace).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_refusal_of_everything_holds_documents_for_minutes_and_another_server_begins_without_it() {
        let (mut queue, now) = (Queue::default(), Instant::now().into_std());
        let response = ErrorResponse { status: 400, by: Author::Mackerel, message: "no".into(), retry_after: None };
        let why = ApiError::of(response);
        for namespace in ["a", "b"] {
            queue.push(document(namespace, "1").0);
            assert!(queue.fail(&namespace.into(), &why, now));
        }
        assert_eq!(queue.next(now), None);
        assert!(queue.held.next().unwrap() <= now + Duration::from_mins(5));
        // As soon as one is accepted, the others are tried.
        assert!(queue.accept(&"a".into(), now).is_some() && queue.next(now).is_some());
        assert!(queue.fail(&"b".into(), &why, now));
        assert_eq!(queue.held.next(), Some(now + Duration::from_hours(1)), "now it is the document");
        queue.forget();
        assert!(queue.next(now).is_some());
    }

    #[test]
    fn a_document_that_fails_while_another_is_accepted_is_held_until_its_plugin_makes_another() {
        let (mut queue, now) = (Queue::default(), Instant::now().into_std());
        ["a", "b"].into_iter().for_each(|namespace| queue.push(document(namespace, "1").0));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let why = ApiError::NoAnswer("no".to_owned());
        assert!(!queue.fail(&a, &why, now) && queue.held.is_empty(), "everything may fail");
        assert!(queue.accept(&b, now).is_some() && queue.held.contains(&a));
        assert_eq!(queue.next(now), None);
        let due = queue.held.next().unwrap();
        assert!(queue.next(due).is_some() && queue.fail(&a, &why, due));
        assert_eq!(queue.next(due), None);
        queue.push(document("a", "2").0);
        assert!(queue.next(due).is_some());
    }

    #[tokio::test]
    async fn documents_are_confirmed_when_delivered_and_kept_during_an_outage_and_when_refused() {
        let failures = AtomicUsize::new(2);
        let server = Server::start(move |request| {
            let fails = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            match request.line.as_str() {
                _ if fails => answer(503, "{}"),
                line if line.ends_with("/large") => answer(413, "{}"),
                _ => answer(200, r#"{"success":true}"#),
            }
        })
        .await;
        let client = client(&server.base);
        let (sender, mut inbox) = mpsc::channel(10);
        let [_large, good] = ["large", "good"].map(|namespace| {
            let (document, arrived) = document(namespace, "{\"a\":1}");
            sender.try_send(document).unwrap();
            arrived
        });
        let host_id = HostId::new("OWN").unwrap();
        let (mut queue, lanes) = (Queue::default(), Lanes::default());
        let lane = lanes.lane(Kind::Metadata, None, PACE);
        tokio::select! {
            never = keep_posted(&client, &host_id, &mut inbox, &mut queue, lane) => match never {},
            good = good => assert_eq!(good.as_deref(), Ok("OWN")),
        }
        assert_eq!(queue.documents.keys().map(|namespace| &**namespace).collect::<Vec<_>>(), ["large"]);
        queue.push(document("large", "{\"a\":1}").0);
        assert!(queue.held.contains(&"large".into()), "the same again");
        queue.push(document("large", "{\"a\":2}").0);
        assert!(!queue.held.contains(&"large".into()), "another one");
        let last = server
            .requests()
            .into_iter()
            .find(|request| request.line == "PUT /api/v0/hosts/OWN/metadata/good")
            .unwrap();
        assert_eq!(last.body, "{\"a\":1}");
        let facts = lanes.facts((PACE.instant)()).into_iter().find(|facts| facts.kind == Kind::Metadata).unwrap();
        assert_eq!((facts.delivered, facts.failures), (1, 3));
    }
}
