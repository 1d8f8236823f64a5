//! The Mackerel output: registers this machine as a host, keeps its description up to date, and delivers the spool.
//!
//! It collects nothing and loses nothing: a value leaves the spool only when Mackerel has answered. While Mackerel cannot
//! be reached or refuses the key, it logs that and retries for as long as it takes.

mod answer;
mod attempt;
mod backoff;
mod board;
mod check_reports;
mod client;
mod connections;
mod dates;
mod delivery;
mod earlier;
mod endpoints;
mod graph_definitions;
mod halving;
mod holds;
mod host_metadata;
mod hosts;
mod id_file;
mod id_keeper;
mod lanes;
mod point;
mod proxy;
mod refusals;
mod registration;
mod report_queue;
mod retirement;
mod saved_reports;
mod sieve;
mod size;
mod suspects;
#[cfg(test)]
mod testing;
mod timing;
mod values;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use answer::{ApiError, AtFault, Author, ErrorResponse};
pub use board::{Fault, Kind, LaneFacts, Lanes};
use check_reports::CheckReports;
pub use client::{Agent, Client, Route};
pub use connections::Resolver;
pub use endpoints::{Host, Listed};
use futures_util::FutureExt;
use hosts::Hosts;
pub use id_file::HostId;
use id_keeper::IdKeeper;
use registration::Registration;
pub use retirement::{NoHostId, own_id, retire};
use saved_reports::Saved;
use serde_json::Value;
pub use timing::Queued;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use values::Values;
use wasaba_core::clock;
use wasaba_core::document::Document;
use wasaba_core::graph::Defined;
use wasaba_core::report::Report;
use wasaba_core::secret::Secret;

use crate::spool::Spool;

/// After shutdown, queued values are delivered for this long; the rest stays in the spool until the next start.
const DELIVERED_WITHIN: Duration = Duration::from_millis(1_000);

/// After shutdown, a lost id file is written again within this time.
const RESTORED_WITHIN: Duration = Duration::from_millis(600);

/// After shutdown, the last status must be set within this time. With the rest of the agent's end, that makes two seconds.
const ENDED_WITHIN: Duration = Duration::from_millis(1_700);
const _: () = assert!(
    DELIVERED_WITHIN.as_millis() + RESTORED_WITHIN.as_millis() < ENDED_WITHIN.as_millis()
        && ENDED_WITHIN.as_millis() < 2_000
);

/// See [`Pace::pause`].
const PAUSE: Duration = Duration::from_secs(20);

/// See [`Pace::settled`].
const SETTLED: Duration = Duration::from_mins(5);

/// The settings of the output.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mackerel's URL; only scheme, user, host and port count.
    pub apibase: String,
    /// The organization's key.
    pub apikey: Secret,
    /// The folder of the id file.
    pub root: PathBuf,
    /// The agent's version, for the headers.
    pub agent: Agent,
    /// How requests travel to Mackerel.
    pub route: Route,
    /// The status to set once the host is known, if it has another one (`working`, `standby`, …).
    pub status_on_start: Option<String>,
    /// The status to set at the end.
    pub status_on_stop: Option<String>,
    /// Whether cloud metadata services are asked for this machine's identity.
    pub asks_cloud: bool,
    /// What tells this machine from others.
    pub machine: MachineIds,
}

/// What tells a machine from one that was made of a copy of its disk, besides its hardware addresses; each as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineIds {
    /// That of `/etc/machine-id`, which a copy has, too, unless it was made for that.
    pub machine: Option<String>,
    /// The firmware's, which is another one in a copy, and which only root may read.
    pub hardware: Option<String>,
    /// The kernel's, for as long as it runs.
    pub boot: Option<String>,
}

impl Settings {
    /// Where everything is posted, without credentials: the server, and the proxy on the way if there is one.
    #[must_use]
    pub fn shown_way(&self) -> (String, Option<String>) {
        self.route.shown(&self.apibase)
    }
}

/// Makes the body of `POST` and `PUT /api/v0/hosts`.
pub type Description = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// Reports and documents to deliver beside the spool. It outlives [`run`], so that the next one continues with its queues.
#[derive(Debug)]
pub struct Inbox {
    reports: mpsc::Receiver<Report>,
    documents: mpsc::Receiver<Document>,
    queued_reports: report_queue::Queues,
    queued_documents: host_metadata::Queue,
    /// The host as which this machine posted last, and whose the queued reports are.
    reporter: Option<String>,
    lanes: Lanes,
}

impl Inbox {
    /// An inbox for the reports of checks and the documents of metadata plugins.
    #[must_use]
    pub fn new(reports: mpsc::Receiver<Report>, documents: mpsc::Receiver<Document>) -> Self {
        let (queued_reports, queued_documents, reporter, lanes) = Default::default();
        Self { reports, documents, queued_reports, queued_documents, reporter, lanes }
    }

    /// The board that shows how everything is delivered.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }

    /// Queues what comes while nothing can be delivered, so that the oldest is dropped if anything is. Reports also stay over a restart.
    async fn gather(&mut self, spool: &Arc<Spool>) -> Infallible {
        let mut saved = Saved::new(Arc::clone(spool), None, &mut self.reporter);
        saved.restore(&mut self.queued_reports).await;
        loop {
            saved.follow(&self.queued_reports.reports());
            tokio::select! {
                Some(report) = self.reports.recv() => self.queued_reports.push(report),
                Some(document) = self.documents.recv() => {
                    self.queued_documents.push(document);
                }
                // Both senders are gone.
                else => std::future::pending().await,
            }
        }
    }
}

/// The signals from the rest of the agent.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Word that the spool has new values.
    pub queued: Queued,
    /// Notified when the description must be sent now rather than within the hour.
    pub refresh: Arc<Notify>,
    /// The graph definitions of all plugins.
    pub definitions: watch::Receiver<Arc<Vec<Defined>>>,
    /// Becomes true (or loses its sender) when the agent must stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until shutdown, and then tries once, for a second, to deliver queued values.
///
/// # Errors
/// Only what no retry can fix: see [`FatalError`].
pub async fn run(
    settings: Settings,
    spool: Arc<Spool>,
    description: Description,
    signals: Signals,
    inbox: &mut Inbox,
) -> Result<(), FatalError> {
    run_at(
        settings,
        spool,
        description,
        signals,
        inbox,
        Pace {
            now: clock::wall,
            instant: clock::instant,
            running: clock::running,
            random: backoff::chance,
            pause: PAUSE,
            settled: SETTLED,
        },
    )
    .await
}

/// The clocks, chance, and two times to wait, which tests replace.
#[derive(Clone, Copy, Debug)]
struct Pace {
    now: fn() -> SystemTime,
    instant: fn() -> std::time::Instant,
    /// How long this machine has been running.
    running: fn() -> Duration,
    /// From 0 to 1.
    random: fn() -> f64,
    /// Between two series of requests that look for refused values.
    pause: Duration,
    /// Within this time a registration that was not answered is done or never will be, and lists show what it did: several times longer
    /// than servers between this machine and Mackerel let a request take.
    settled: Duration,
}

async fn run_at(
    settings: Settings,
    spool: Arc<Spool>,
    description: Description,
    signals: Signals,
    inbox: &mut Inbox,
    pace: Pace,
) -> Result<(), FatalError> {
    let client = Client::new(&settings.apibase, settings.apikey.clone(), &settings.agent, &settings.route)?.at(pace);
    let lanes = inbox.lanes();
    let registration = Registration {
        settings: &settings,
        client: &client,
        spool: &spool,
        description: &description,
        lanes: &lanes,
        pace,
    };
    inbox.reporter = inbox.reporter.take().or_else(|| spool.host_id());
    let registered = tokio::select! {
        registered = registration.register() => registered?,
        never = inbox.gather(&spool) => match never {},
        () = stopped(signals.shutdown.clone()) => return Ok(()),
    };
    let host_id = registered.host_id.clone();
    let Inbox { reports, documents, queued_reports, queued_documents, reporter, .. } = inbox;
    let hosts = Arc::new(Hosts::new(lanes.clone()));
    let lane = |kind| lanes.lane(kind, None, pace);
    let (board, own) = (lanes.clone(), host_id.clone());
    let values = Values {
        client: client.clone(),
        spool: Arc::clone(&spool),
        own: own.clone(),
        hosts: Arc::clone(&hosts),
        board: board.clone(),
        pace,
    };
    let saved = Saved::new(Arc::clone(&spool), Some(own.clone()), reporter);
    let checks = CheckReports::new(client.clone(), own, Arc::clone(&hosts), board, pace, queued_reports, saved);
    let shutdown = signals.shutdown.clone();
    let stop = async move {
        stopped(shutdown).await;
        Instant::now()
    };
    let stop = stop.shared();
    let keeper = IdKeeper::new(settings.root.clone(), host_id.clone(), Arc::clone(&spool));
    timeout(RESTORED_WITHIN, keeper.look()).await.ok();
    let until_stopped = async {
        tokio::join!(
            values.run(&signals.queued, signals.shutdown.clone()),
            checks.run(reports, signals.shutdown.clone())
        )
    };
    tokio::select! {
        ((), ()) = until_stopped => {}
        never = host_metadata::keep_posted(&client, &host_id, documents, queued_documents, lane(Kind::Metadata)) => match never {},
        error = registration.keep_checked(&registered) => return Err(error),
        never = hosts.keep_looked_up(&client, pace) => match never {},
        never = keeper.run() => match never {},
        never = registration.keep_described(&host_id, &signals.refresh) => match never {},
        never = graph_definitions::keep_posted(&client, signals.definitions.clone(), lane(Kind::GraphDefinitions), pace) => match never {},
        () = async { sleep_until(stop.clone().await + DELIVERED_WITHIN).await } => {
            tracing::warn!("could not deliver everything before stopping; the rest stays queued for the next start");
        }
    }
    // The rest of the agent's files is written again at its end, too.
    timeout(RESTORED_WITHIN, keeper.look()).await.ok();
    if let Some(status) = &settings.status_on_stop {
        set_last_status(&client, &host_id, status, stop.await + ENDED_WITHIN).await;
    }
    Ok(())
}

async fn set_last_status(client: &Client, host_id: &HostId, status: &str, end: Instant) {
    match timeout_at(end, client.post_status(host_id, status)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("cannot set the host's status to `{status}`: {error}"),
        Err(_) => tracing::warn!("cannot set the host's status to `{status}`: timed out"),
    }
}

/// Returns when the agent must stop.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // Without a sender there would be no stop at all.
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the shutdown channel is closed; stopping the Mackerel output");
    }
}

/// Why the agent cannot be a host on Mackerel until the operator fixes it; the text says what and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalError(String);

impl fmt::Display for FatalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for FatalError {}

#[cfg(test)]
mod clocks;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod weather;
