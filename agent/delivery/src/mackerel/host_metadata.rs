//! Host metadata: documents to `PUT /api/v0/hosts/<id>/metadata/<namespace>`.
//!
//! Only the newest document of each namespace counts, and a namespace that fails holds up no other. A document that Mackerel refuses stays
//! queued and is posted again an hour later, unless its plugin makes another one before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use wasaba_core::document::Document;
use wasaba_core::lines::LinesAnHour;

use super::answer::ApiError;
use super::client::Client;
use super::id_file::HostId;
use super::lanes::{Lane, Words};

/// How long a document is not posted after it was refused.
const HELD: Duration = Duration::from_hours(1);

/// As many lines about refused documents are logged in an hour.
const MOST_LINES: u32 = 5;

/// The queued documents, by namespace.
#[derive(Debug, Default)]
pub(super) struct Queue {
    documents: BTreeMap<Arc<str>, Queued>,
    /// The namespace that was tried last: the one behind it is next.
    last: Option<Arc<str>>,
}

#[derive(Debug)]
struct Queued {
    document: Document,
    /// Until then it is not posted, since it was refused.
    held: Option<Instant>,
}

impl Queue {
    /// Queues a document in place of that of the same namespace.
    pub(super) fn push(&mut self, document: Document) {
        let before = self.documents.get(&document.namespace).filter(|queued| queued.document.json == document.json);
        let held = before.and_then(|queued| queued.held);
        self.documents.insert(Arc::clone(&document.namespace), Queued { document, held });
    }

    /// The document to post next.
    fn next(&mut self, now: Instant) -> Option<(Arc<str>, Vec<u8>)> {
        let behind = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let from_there = self.documents.range((behind, Bound::Unbounded)).chain(&self.documents);
        let (namespace, queued) =
            from_there.into_iter().find(|(_, queued)| queued.held.is_none_or(|until| until <= now))?;
        let namespace = Arc::clone(namespace);
        self.last = Some(Arc::clone(&namespace));
        Some((namespace, queued.document.json.clone().into_bytes()))
    }

    /// When a refused document is posted again.
    fn due(&self) -> Option<Instant> {
        self.documents.values().filter_map(|queued| queued.held).min()
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
    let mut lines = LinesAnHour::new(MOST_LINES, Instant::now().into_std());
    let mut retry_at = None;
    let words = Words::new("deliver metadata", "the newest document of each namespace stays queued");
    loop {
        while retry_at.is_none()
            && let Some((namespace, json)) = queue.next(Instant::now())
        {
            let result = lane.request(1, client.put_metadata(host_id, &namespace, json)).await;
            let now = Instant::now();
            match result {
                Ok(()) => {
                    lane.is_well();
                    tracing::debug!("delivered metadata {namespace}");
                    if let Some(Queued { document, .. }) = queue.documents.remove(&namespace) {
                        // The receiver may be gone.
                        document.delivered.send(host_id.as_str().into()).ok();
                    }
                }
                Err(error @ ApiError::Refused(_)) if error.is_of_mackerel() || error.is_too_large() => {
                    if let Some(queued) = queue.documents.get_mut(&namespace) {
                        queued.held = Some(now + HELD);
                    }
                    let line = format!(
                        "cannot deliver metadata {namespace}: {error}; retrying in an hour, or with the next document of its plugin"
                    );
                    if let Some(line) = lines.admitted(line, now.into_std()) {
                        tracing::error!("{line}");
                    }
                    if lane.is_exhausted() {
                        retry_at = Some(now + lane.wait(&error, &words));
                    }
                }
                Err(error) => {
                    retry_at = Some(now + lane.wait(&error, &words));
                }
            }
        }
        let wake = retry_at.or_else(|| queue.due());
        tokio::select! {
            Some(document) = inbox.recv() => queue.push(document),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => retry_at = None,
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;
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
        let now = Instant::now();
        let mut next = || queue.next(now).map(|(namespace, _)| namespace.to_string()).unwrap_or_default();
        assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
        queue.documents.get_mut("b").unwrap().held = Some(now + HELD);
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
        assert!(queue.documents["large"].held.is_some(), "the same again");
        queue.push(document("large", "{\"a\":2}").0);
        assert!(queue.documents["large"].held.is_none(), "another one");
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
