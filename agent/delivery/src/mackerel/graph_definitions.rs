//! Graph definitions: how Mackerel draws the metrics of plugins.
//!
//! They are posted all at once, again when they change, and hourly, since Mackerel forgets a definition that had no values
//! for some hours. It knows nothing of where they come from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wasaba_core::graph::GraphDefinition;

use super::Pace;
use super::backoff::{Backoff, Complaint};
use super::client::{ApiError, Client};

/// As often as the host's description.
const POSTED_EVERY: Duration = Duration::from_hours(1);

/// Posts the definitions now, when they change, and every hour. What Mackerel refuses is not sent again until it changes.
pub(super) async fn keep_posted(
    client: &Client,
    mut definitions: watch::Receiver<Arc<Vec<GraphDefinition>>>,
    pace: Pace,
) -> Infallible {
    let (mut backoff, mut complaint) = (Backoff::default(), Complaint::default());
    loop {
        let current = definitions.borrow_and_update().clone();
        let wait = match post(client, &current).await {
            Ok(()) => {
                backoff.reset();
                complaint.reset();
                (!current.is_empty()).then_some(POSTED_EVERY)
            }
            Err(error @ ApiError::Refused { .. }) => {
                tracing::error!(
                    "Mackerel refuses the graph definitions: {error}; they are not sent again until they change"
                );
                None
            }
            Err(error) => {
                if complaint.is_due(&error, Instant::now()) {
                    tracing::warn!("cannot post the graph definitions yet: {error}");
                }
                Some(backoff.after(&error, (pace.random)()))
            }
        };
        tokio::select! {
            () = changed(&mut definitions) => {}
            () = after(wait) => {}
        }
    }
}

async fn post(client: &Client, definitions: &[GraphDefinition]) -> Result<(), ApiError> {
    if definitions.is_empty() {
        return Ok(());
    }
    let body = serde_json::to_vec(definitions).unwrap_or_default();
    client.post("/api/v0/graph-defs/create", body).await?;
    tracing::debug!("{} graph definitions posted", definitions.len());
    Ok(())
}

async fn changed(definitions: &mut watch::Receiver<Arc<Vec<GraphDefinition>>>) {
    if definitions.changed().await.is_err() {
        // Nobody is left who could change them.
        std::future::pending::<()>().await;
    }
}

async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
