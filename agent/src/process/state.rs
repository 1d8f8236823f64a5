//! What the document about a running agent is made of; the document itself is [`show::state`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use delivery::mackerel::{self, LaneFacts, Lanes};
use delivery::spool::Spool;
use plugins::instance::{Instance, Status};
use plugins::key::{Key, Kind};
use plugins::register::{Entry, Register};
use schedules::statuses::{self, Statuses};
use show::state::{
    AgentState, CheckReport, CollectorReport, FaultReport, HostReport, LaneReport, PluginReport, ServerReport, State,
};
use tokio::sync::watch;
use wasaba_core::clock::Moment;
use wasaba_core::collect::outcomes::Outcomes;
use wasaba_core::graph::Defined;
use wasaba_core::text::{printable, safe_lines};

use super::books::Books;
use super::confinement;

/// What the report is made of. Clones show the same.
#[derive(Clone)]
pub struct Tables {
    /// What became of each component.
    pub register: Register,
    /// How each source's last collection went.
    pub outcomes: Outcomes,
    /// When the agent last collected.
    pub pulse: Pulse,
    /// How everything is delivered.
    pub lanes: Lanes,
    /// What the queue holds.
    pub books: Books,
    /// What has the last 24 hours.
    pub spool: Arc<Spool>,
    /// Whose containers are described.
    pub engine: containers::look::Current,
    /// The graphs of everything that is collected.
    pub defined: watch::Receiver<Arc<Vec<Defined>>>,
    /// What the checks found.
    pub statuses: Statuses,
    /// Where everything is posted, and as which host.
    pub whereabouts: Whereabouts,
}

/// Where everything is posted, and under which name this machine is known there. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts(Arc<Mutex<(Option<String>, Option<ServerReport>)>>);

impl Whereabouts {
    /// Records the name of this machine on Mackerel.
    pub fn name(&self, name: Option<String>) {
        self.lock().0 = name;
    }

    /// Records the server that everything is posted to.
    pub fn server(&self, server: ServerReport) {
        self.lock().1 = Some(server);
    }

    fn lock(&self) -> MutexGuard<'_, (Option<String>, Option<ServerReport>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the agent started, and last collected. Clones show the same.
#[derive(Clone, Debug)]
pub struct Pulse {
    started: Instant,
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    /// The pulse of an agent that starts now.
    #[must_use]
    pub fn since(now: Instant) -> Self {
        Self { started: now, last: Arc::new(Mutex::new(now)) }
    }

    /// Records that the agent has collected now.
    pub fn beat(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How long ago it collected, or else started.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The state at this moment.
pub async fn now(tables: &Tables, now: Moment) -> AgentState {
    let queue = tables.books.now().await;
    let id = tables.books.host_id();
    let lanes = tables.lanes.facts(now.instant);
    let (name, server) = tables.whereabouts.lock().clone();
    let plugins = tables.register.all().into_iter().map(|(key, entry)| match entry {
        Entry::Running(instance, newer) => running(&key, &instance, newer, now.unix_seconds),
        Entry::Skipped(why) => {
            PluginReport { name: name_of(&key), state: State::Skipped, problems: why, ..PluginReport::default() }
        }
    });
    let values = lanes.iter().find(|lane| lane.kind == mackerel::Kind::Values);
    AgentState {
        version: crate::VERSION.to_owned(),
        process: std::process::id(),
        now: now.unix_seconds,
        uptime_seconds: now.instant.saturating_duration_since(tables.pulse.started).as_secs(),
        host: HostReport { id, name, cpus: cpus() },
        server,
        confinement: confinement::report(),
        collected_seconds_ago: tables.pulse.age(now.instant).as_secs(),
        delivered_seconds_ago: values.and_then(|lane| lane.succeeded_ago).map(|ago| ago.as_secs()),
        lanes: lanes.into_iter().map(|lane| lane_report(lane, now.unix_seconds)).collect(),
        queue,
        plugins: plugins.collect(),
        collectors: tables.outcomes.all().into_iter().map(CollectorReport::from).collect(),
        checks: tables.statuses.all().into_iter().map(check_report).collect(),
    }
}

/// How many threads this machine computes at once, as far as the agent is allowed.
fn cpus() -> Option<usize> {
    std::thread::available_parallelism().ok().map(std::num::NonZero::get)
}

fn lane_report(lane: LaneFacts, now: i64) -> LaneReport {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    LaneReport {
        lane: lane.kind.name().to_owned(),
        host: lane.host.map(|host| printable(&host, 200)),
        last_success: lane.succeeded_ago.map(|ago| now.saturating_sub(seconds(ago))),
        delivered: lane.delivered,
        failures_in_hour: lane.failures_in_hour,
        fault: lane.fault.map(|fault| FaultReport {
            since: now.saturating_sub(seconds(fault.lasts)),
            error: fault.error,
            at_fault: fault.at_fault.word().to_owned(),
            cure: fault.cure,
            next_try: now.saturating_add(seconds(fault.next_try_in)),
        }),
        dropped: lane.dropped.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
    }
}

fn check_report(found: statuses::Found) -> CheckReport {
    CheckReport {
        name: printable(&found.name, 100),
        status: found.status.word().to_owned(),
        since: found.since,
        ran: found.ran,
        took_ms: found.took.as_secs_f64() * 1e3,
        message: safe_lines(found.message.trim()).into_owned(),
    }
}

/// A metrics plugin is called by its name, others by what they are, too.
fn name_of(key: &Key) -> String {
    let name = if key.kind == Kind::Metrics { key.name.to_string() } else { key.to_string() };
    printable(&name, 100)
}

fn running(key: &Key, instance: &Instance, newer: Vec<String>, now: i64) -> PluginReport {
    let newer = newer.into_iter().map(|problem| format!("keeps running unchanged: {}", printable(&problem, 1_024)));
    let Status {
        calls,
        failures,
        last_ms,
        memory_bytes,
        sent_bytes,
        received_bytes,
        refusals,
        failure,
        skipped_for,
        is_denied,
        dropped,
        ..
    } = instance.status();
    let plugin = instance.plugin();
    let about = &plugin.description;
    PluginReport {
        name: name_of(key),
        state: if failure.is_some() { State::Failing } else { State::Running },
        problems: failure.into_iter().chain(newer).collect(),
        skipped_until: skipped_for.map(|pause| now.saturating_add(i64::try_from(pause.as_secs()).unwrap_or(i64::MAX))),
        file: Some(printable(&plugin.file.to_string_lossy(), 400)),
        component: Some(format!("{} {}", about.name, printable(&about.version, 40))),
        sha256: Some(plugin.sha256.clone()),
        calls,
        failures: failures.into_iter().filter(|(_, count)| *count > 0).map(|(kind, n)| (kind.to_owned(), n)).collect(),
        last_ms,
        memory_bytes,
        sent_bytes,
        received_bytes,
        refusals,
        refused: instance.meter().refused().iter().map(|why| printable(why, 1_024)).collect(),
        denied: is_denied,
        dropped,
    }
}

#[cfg(test)]
pub(crate) mod tests;
