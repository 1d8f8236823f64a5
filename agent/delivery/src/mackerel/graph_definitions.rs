//! Graph definitions: how Mackerel draws the metrics of plugins.
//!
//! All of them are posted at once, again when they change, and hourly, since Mackerel forgets a definition that had no values
//! for some hours. Where they come from is not known here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wasaba_core::graph::GraphDefinition;

use super::Pace;
use super::answer::ApiError;
use super::backoff::Backoff;
use super::client::Client;

/// As often as the host's description.
const POSTED_EVERY: Duration = Duration::from_hours(1);

/// Posts the definitions now, when they change, and every hour. If Mackerel refuses them, they are not posted again until they
/// change.
pub(super) async fn keep_posted(
    client: &Client,
    mut definitions: watch::Receiver<Arc<Vec<GraphDefinition>>>,
    pace: Pace,
) -> Infallible {
    let mut backoff = Backoff::default();
    loop {
        let current = definitions.borrow_and_update().clone();
        let wait = match post(client, &current).await {
            Ok(()) => {
                backoff.reset();
                if current.is_empty() { Duration::MAX } else { POSTED_EVERY }
            }
            Err(error @ ApiError::Refused(_)) => {
                tracing::error!(
                    "Mackerel refuses the graph definitions: {error}; not posting them again until they change"
                );
                Duration::MAX
            }
            Err(error) => {
                let wait = backoff.wait(&error, Instant::now(), (pace.random)());
                if backoff.is_news(&error, Instant::now()) {
                    tracing::warn!("cannot post the graph definitions: {error}; retrying in {} s", wait.as_secs());
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

async fn post(client: &Client, definitions: &[GraphDefinition]) -> Result<(), ApiError> {
    if definitions.is_empty() {
        return Ok(());
    }
    let body = serde_json::to_vec(definitions).unwrap_or_default();
    client.post_graphs(body).await?;
    tracing::debug!("posted {} graph definitions", definitions.len());
    Ok(())
}

async fn changed(definitions: &mut watch::Receiver<Arc<Vec<GraphDefinition>>>) {
    if definitions.changed().await.is_err() {
        // The sender is gone, so they cannot change any more.
        std::future::pending::<()>().await;
    }
}
