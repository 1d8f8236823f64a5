//! The Mackerel output: registers this machine as a host, keeps its description fresh, and delivers what is in the spool.
//!
//! It collects nothing and loses nothing: a value leaves the spool only when Mackerel has answered. While Mackerel cannot
//! be reached or refuses the key, it waits, says so, and tries again for as long as it takes.

mod backoff;
mod check_reports;
mod client;
mod delivery;
mod graph_definitions;
mod host_metadata;
mod hosts;
pub mod id_file;
mod proxy;
mod registration;
mod retirement;
#[cfg(test)]
mod testing;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use check_reports::CheckReports;
pub use client::{Agent, ApiError, Client, Route};
use delivery::Delivery;
use futures_util::FutureExt;
pub use id_file::HostId;
use registration::Registration;
pub use retirement::{own_id, retire};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use wasaba_core::document::Document;
use wasaba_core::graph::GraphDefinition;
use wasaba_core::report::Report;
use wasaba_core::secret::Secret;

use crate::spool::Spool;

/// What is still queued when the agent is told to stop gets this long; the rest waits in the spool for the next start.
const DELIVERED_WITHIN: Duration = Duration::from_millis(1_000);

/// How long after that word the last status may take, too. Together with all that ends after it, two seconds are kept.
const ENDED_WITHIN: Duration = Duration::from_millis(1_700);

/// What [`run`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Mackerel is; only scheme, user, host and port count.
    pub apibase: String,
    /// The organisation's key.
    pub apikey: Secret,
    /// The folder of the id file.
    pub root: PathBuf,
    /// For the headers.
    pub agent: Agent,
    /// How the way to Mackerel is.
    pub route: Route,
    /// Set once the host is known, if it has another one (`working`, `standby`, …).
    pub status_on_start: Option<String>,
    /// Set at the end.
    pub status_on_stop: Option<String>,
    /// Whether a cloud is asked who this machine is.
    pub asks_cloud: bool,
}

/// Makes the body of `POST` and `PUT /api/v0/hosts`.
pub type Description = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// What is to be delivered beside the spool. It outlives the way to Mackerel, so that another one takes up what waits.
#[derive(Debug)]
pub struct Inbox {
    reports: mpsc::Receiver<Report>,
    documents: mpsc::Receiver<Document>,
    waiting_reports: check_reports::Waiting,
    waiting_documents: host_metadata::Waiting,
}

impl Inbox {
    /// What checks report, and what metadata plugins tell.
    #[must_use]
    pub fn new(reports: mpsc::Receiver<Report>, documents: mpsc::Receiver<Document>) -> Self {
        let (waiting_reports, waiting_documents) = Default::default();
        Self { reports, documents, waiting_reports, waiting_documents }
    }

    /// Takes in what comes while nothing can be delivered: so it is the oldest that is given up, if anything is.
    async fn gather(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => {
                    self.waiting_reports.take(report);
                }
                Some(document) = self.documents.recv() => {
                    self.waiting_documents.insert(Arc::clone(&document.namespace), document);
                }
                // Whoever could tell more is gone.
                else => std::future::pending().await,
            }
        }
    }
}

/// The rest of the agent, as far as this output hears from it.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Something new is in the spool.
    pub wake: Arc<Notify>,
    /// The description is to be sent now rather than within the hour.
    pub refresh: Arc<Notify>,
    /// The graphs of all plugins.
    pub definitions: watch::Receiver<Arc<Vec<GraphDefinition>>>,
    /// Becomes true (or loses its sender) when the agent is to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until told to stop, and then tries once, for a second, to deliver what is queued.
///
/// # Errors
/// Only what no waiting can mend: see [`FatalError`].
pub async fn run(
    settings: Settings,
    spool: Arc<Spool>,
    description: Description,
    signals: Signals,
    inbox: &mut Inbox,
) -> Result<(), FatalError> {
    run_at(settings, spool, description, signals, inbox, Pace { now: SystemTime::now, random: backoff::chance }).await
}

/// What tests replace: the wall clock, and chance.
#[derive(Clone, Copy)]
struct Pace {
    now: fn() -> SystemTime,
    random: fn() -> f64,
}

async fn run_at(
    settings: Settings,
    spool: Arc<Spool>,
    description: Description,
    signals: Signals,
    inbox: &mut Inbox,
    pace: Pace,
) -> Result<(), FatalError> {
    let client = Client::new(&settings.apibase, settings.apikey.clone(), &settings.agent, &settings.route)?;
    let registration =
        Registration { settings: &settings, client: &client, spool: &spool, description: &description, pace };
    let host_id = tokio::select! {
        host_id = registration.register() => host_id?,
        never = inbox.gather() => match never {},
        () = stopped(signals.shutdown.clone()) => return Ok(()),
    };
    let Inbox { reports, documents, waiting_reports, waiting_documents } = inbox;
    let delivery = Delivery::new(client.clone(), spool.clone(), host_id.clone(), pace);
    let checks = CheckReports::new(client.clone(), host_id.clone(), pace, waiting_reports);
    let shutdown = signals.shutdown.clone();
    let stop = async move {
        stopped(shutdown).await;
        Instant::now()
    };
    let stop = stop.shared();
    let until_stopped = async {
        tokio::join!(
            delivery.run(&signals.wake, signals.shutdown.clone()),
            checks.run(reports, signals.shutdown.clone())
        )
    };
    tokio::select! {
        ((), ()) = until_stopped => {}
        never = host_metadata::keep_posted(&client, &host_id, documents, waiting_documents, pace) => match never {},
        never = registration.keep_described(&host_id, &signals.refresh) => match never {},
        never = graph_definitions::keep_posted(&client, signals.definitions.clone(), pace) => match never {},
        () = async { sleep_until(stop.clone().await + DELIVERED_WITHIN).await } => {
            tracing::warn!("not everything could be delivered before the stop; the rest waits for the next start");
        }
    }
    if let Some(status) = &settings.status_on_stop {
        say_goodbye(&client, &host_id, status, stop.await + ENDED_WITHIN).await;
    }
    Ok(())
}

async fn say_goodbye(client: &Client, host_id: &HostId, status: &str, end: Instant) {
    let post = registration::post_status(client, host_id, status);
    match timeout_at(end, post).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("cannot set the host's status to `{status}`: {error}"),
        Err(_) => tracing::warn!("cannot set the host's status to `{status}`: no answer in time"),
    }
}

/// Returns when the agent is to stop.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // A sender that is gone cannot say so any more.
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("whoever could tell the Mackerel output to stop is gone, so it stops");
    }
}

/// Why the agent cannot be a host on Mackerel until somebody mends it: the text says what and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalError(String);

impl fmt::Display for FatalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for FatalError {}

#[cfg(test)]
mod tests;
