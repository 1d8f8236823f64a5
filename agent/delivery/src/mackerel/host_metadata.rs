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

use super::Pace;
use super::answer::ApiError;
use super::backoff::{Backoff, retrying};
use super::client::Client;
use super::id_file::HostId;

/// The queued documents, by namespace.
pub(super) type Queue = BTreeMap<Arc<str>, Document>;

/// Delivers queued documents and those from the inbox. A document stays queued until Mackerel accepts or refuses it.
pub(super) async fn keep_posted(
    client: &Client,
    host_id: &HostId,
    inbox: &mut mpsc::Receiver<Document>,
    queue: &mut Queue,
    pace: Pace,
) -> Infallible {
    let mut backoff = Backoff::default();
    let mut retry_at = None;
    loop {
        while let (None, Some((namespace, document))) = (retry_at, queue.first_key_value()) {
            let namespace = Arc::clone(namespace);
            match client.put_metadata(host_id, &namespace, document.json.clone().into_bytes()).await {
                Ok(()) => {
                    backoff.reset();
                    tracing::debug!("delivered metadata {namespace}");
                    if let Some(document) = queue.remove(&namespace) {
                        // The receiver may be gone.
                        document.delivered.send(host_id.as_str().into()).ok();
                    }
                }
                Err(error @ ApiError::Refused(_)) => {
                    tracing::error!("dropped metadata {namespace}: {error}");
                    queue.remove(&namespace);
                }
                Err(error) => {
                    let now = Instant::now();
                    let wait = backoff.wait(&error, now.into_std(), (pace.random)());
                    if backoff.is_news(&error, now.into_std()) {
                        tracing::warn!("cannot deliver metadata: {error}; {}", retrying(wait));
                    }
                    retry_at = Some(now + wait);
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
    use wasaba_core::clock;

    use super::*;
    use crate::mackerel::testing::{Server, answer, client};

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
        let pace = Pace {
            now: clock::wall,
            instant: std::time::Instant::now,
            random: || 0.0,
            pause: std::time::Duration::ZERO,
        };
        let mut queue = Queue::new();
        tokio::select! {
            never = keep_posted(&client, &host_id, &mut inbox, &mut queue, pace) => match never {},
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
