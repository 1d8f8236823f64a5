//! Host metadata: documents to `PUT /api/v0/hosts/<id>/metadata/<namespace>`.
//!
//! Only the newest document of each namespace counts. A document that Mackerel refuses is dropped; the next run of its plugin
//! makes another.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use wasaba_core::document::Document;

use super::answer::ApiError;
use super::client::Client;
use super::id_file::HostId;
use super::lanes::{Lane, Words};

/// The queued documents, by namespace.
pub(super) type Queue = BTreeMap<Arc<str>, Document>;

/// Delivers queued documents and those from the inbox. A document stays queued until Mackerel accepts or refuses it.
pub(super) async fn keep_posted(
    client: &Client,
    host_id: &HostId,
    inbox: &mut mpsc::Receiver<Document>,
    queue: &mut Queue,
    mut lane: Lane,
) -> Infallible {
    let mut retry_at = None;
    loop {
        while let (None, Some((namespace, document))) = (retry_at, queue.first_key_value()) {
            let namespace = Arc::clone(namespace);
            let put = client.put_metadata(host_id, &namespace, document.json.clone().into_bytes());
            match lane.request(1, put).await {
                Ok(()) => {
                    lane.is_well();
                    tracing::debug!("delivered metadata {namespace}");
                    if let Some(document) = queue.remove(&namespace) {
                        // The receiver may be gone.
                        document.delivered.send(host_id.as_str().into()).ok();
                    }
                }
                Err(error @ ApiError::Refused(_)) => {
                    tracing::error!("dropped metadata {namespace}: {error}");
                    lane.dropped("refused", 1);
                    queue.remove(&namespace);
                }
                Err(error) => {
                    let wait =
                        lane.wait(&error, &Words::new("deliver metadata", "the newest of each namespace stays queued"));
                    retry_at = Some(Instant::now() + wait);
                }
            }
        }
        tokio::select! {
            Some(document) = inbox.recv() => {
                queue.insert(Arc::clone(&document.namespace), document);
            }
            () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => retry_at = None,
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;
    use crate::mackerel::lanes::{Kind, Lanes};
    use crate::mackerel::testing::{PACE, Server, answer, client};

    #[tokio::test]
    async fn documents_are_confirmed_when_delivered_dropped_when_refused_and_kept_during_an_outage() {
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
        let send = |namespace: &str| {
            let (delivered, arrived) = oneshot::channel();
            sender.try_send(Document { namespace: namespace.into(), json: "{\"a\":1}".to_owned(), delivered }).unwrap();
            arrived
        };
        let (good, large) = (send("good"), send("large"));
        let host_id = HostId::new("OWN").unwrap();
        let (mut queue, lanes) = (Queue::new(), Lanes::default());
        let lane = lanes.lane(Kind::Metadata, None, PACE);
        tokio::select! {
            never = keep_posted(&client, &host_id, &mut inbox, &mut queue, lane) => match never {},
            (good, large) = async { (good.await, large.await) } => assert!(good.as_deref() == Ok("OWN") && large.is_err()),
        }
        let last = server
            .requests()
            .into_iter()
            .find(|request| request.line == "PUT /api/v0/hosts/OWN/metadata/good")
            .unwrap();
        assert_eq!(last.body, "{\"a\":1}");
        let facts = lanes.facts((PACE.instant)()).into_iter().find(|facts| facts.kind == Kind::Metadata).unwrap();
        assert_eq!((facts.delivered, facts.failures, facts.dropped.get("refused")), (1, 3, Some(&1)));
    }
}
