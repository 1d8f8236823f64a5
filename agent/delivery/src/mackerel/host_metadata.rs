//! Host metadata: documents to `PUT /api/v0/hosts/<id>/metadata/<namespace>`.
//!
//! Of each namespace only the newest counts. What Mackerel refuses is dropped, so that it is told again when it is asked again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use wasaba_core::document::Document;

use super::Pace;
use super::backoff::{Backoff, Complaint};
use super::client::{ApiError, Client};
use super::id_file::HostId;

/// The documents that wait, by namespace.
pub(super) type Waiting = BTreeMap<Arc<str>, Document>;

/// Delivers what waits and what comes in; what has no answer yet goes on waiting.
pub(super) async fn keep_posted(
    client: &Client,
    host_id: &HostId,
    inbox: &mut mpsc::Receiver<Document>,
    waiting: &mut Waiting,
    pace: Pace,
) -> Infallible {
    let (mut backoff, mut complaint) = (Backoff::default(), Complaint::default());
    let mut wait = None;
    loop {
        while let (None, Some((namespace, document))) = (wait, waiting.first_key_value()) {
            let namespace = Arc::clone(namespace);
            let path = format!("/api/v0/hosts/{host_id}/metadata/{namespace}");
            match client.put(&path, document.json.clone().into_bytes()).await {
                Ok(_) => {
                    backoff.reset();
                    complaint.reset();
                    tracing::debug!("metadata {namespace} delivered");
                    if let Some(document) = waiting.remove(&namespace) {
                        // Whoever wanted to know may be gone.
                        document.delivered.send(host_id.as_str().into()).ok();
                    }
                }
                Err(error @ ApiError::Refused { .. }) => {
                    tracing::error!("metadata {namespace} is dropped: {error}");
                    waiting.remove(&namespace);
                }
                Err(error) => {
                    if complaint.is_due(&error, Instant::now()) {
                        tracing::warn!("cannot deliver metadata yet: {error}");
                    }
                    wait = Some(tokio::time::Instant::now() + backoff.after(&error, (pace.random)()));
                }
            }
        }
        tokio::select! {
            Some(document) = inbox.recv() => {
                waiting.insert(Arc::clone(&document.namespace), document);
            }
            () = after(wait) => wait = None,
        }
    }
}

async fn after(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    use tokio::sync::oneshot;
    use wasaba_core::secret::Secret;

    use super::*;
    use crate::mackerel::client::Agent;
    use crate::mackerel::testing::{Server, answer};

    #[tokio::test]
    async fn what_is_delivered_is_told_what_is_refused_is_dropped_and_an_outage_is_waited_for() {
        let failures = AtomicUsize::new(2);
        let server = Server::start(move |request| {
            let fails = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            match request.line.as_str() {
                _ if fails => answer(503, "{}"),
                line if line.ends_with("/large") => answer(413, "{}"),
                _ => answer(200, "{}"),
            }
        })
        .await;
        let agent = Agent { version: "0".to_owned(), revision: "0".to_owned() };
        let client = Client::new(&server.base, Secret::new("key"), &agent, &Default::default()).unwrap();
        let (sender, mut inbox) = mpsc::channel(10);
        let send = |namespace: &str| {
            let (delivered, arrived) = oneshot::channel();
            sender.try_send(Document { namespace: namespace.into(), json: "{\"a\":1}".to_owned(), delivered }).unwrap();
            arrived
        };
        let (good, large) = (send("good"), send("large"));
        let host_id = HostId::new("OWN").unwrap();
        let pace = Pace { now: SystemTime::now, random: || 0.01 };
        let mut waiting = Waiting::new();
        tokio::select! {
            never = keep_posted(&client, &host_id, &mut inbox, &mut waiting, pace) => match never {},
            (good, large) = async { (good.await, large.await) } => assert!(good.as_deref() == Ok("OWN") && large.is_err()),
        }
        let last = server
            .requests()
            .into_iter()
            .find(|request| request.line == "PUT /api/v0/hosts/OWN/metadata/good")
            .unwrap();
        assert_eq!(last.body, "{\"a\":1}");
    }
}
