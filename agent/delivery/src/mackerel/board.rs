//! The board that shows how each lane is doing: to `wasaba status`, systemd and `self_metrics`.
//!
//! Its times are on the monotonic clock, so that a step of the wall clock makes no delivery look old or new.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::AtFault;

/// How far back failures are counted, and how often a fault is logged.
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// What a lane delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The values of the queue.
    Values,
    /// The reports of checks, for each host.
    CheckReports,
    /// How graphs are drawn.
    GraphDefinitions,
    /// The documents of metadata plugins.
    Metadata,
    /// The registration of this host, and its description.
    Description,
    /// The look-up of this host, and its status.
    Status,
    /// The look-up of another host.
    OtherHost,
}

impl Kind {
    /// Those that every agent has.
    const OF_THIS_HOST: [Self; 6] =
        [Self::Values, Self::CheckReports, Self::GraphDefinitions, Self::Metadata, Self::Description, Self::Status];

    /// Its name for people: `values`, `check reports`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::CheckReports => "check reports",
            Self::GraphDefinitions => "graph definitions",
            Self::Metadata => "metadata",
            Self::Description => "host description",
            Self::Status => "host status",
            Self::OtherHost => "other host",
        }
    }
}

/// The board of all lanes. Clones show the same.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Mutex<BTreeMap<Key, State>>>);

/// A lane, with the custom identifier of its host if that is not this one.
pub(super) type Key = (Kind, Option<Arc<str>>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) success: Option<Instant>,
    pub(super) delivered: u64,
    /// Since the start.
    pub(super) failures: u64,
    /// Those within the last hour, the oldest first.
    pub(super) recent: VecDeque<Instant>,
    pub(super) fault: Option<OpenFault>,
    pub(super) doing: Doing,
    /// The server wants no request before then.
    pub(super) held_until: Option<Instant>,
    /// How many things were dropped, by reason.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Doing {
    /// Nothing, until something comes.
    #[default]
    Idle,
    /// Something, since then.
    Working(Instant),
    /// It will try again then.
    Waiting(Instant),
}

#[derive(Debug)]
pub(super) struct OpenFault {
    pub(super) since: Instant,
    pub(super) error: String,
    pub(super) at_fault: AtFault,
    pub(super) cure: String,
    pub(super) next_try: Instant,
    /// What was delivered nevertheless.
    pub(super) delivered: u64,
    /// Whether the log has it.
    pub(super) is_logged: bool,
}

/// How a lane is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneFacts {
    /// What it delivers.
    pub kind: Kind,
    /// The custom identifier of its host, if it is not this one.
    pub host: Option<Arc<str>>,
    /// How long ago a request succeeded last.
    pub succeeded_ago: Option<Duration>,
    /// How many values, reports, definitions, documents or requests succeeded since the start.
    pub delivered: u64,
    /// How many requests failed since the start.
    pub failures: u64,
    /// How many failed within the last hour.
    pub failures_in_hour: u64,
    /// What is wrong, if something is.
    pub fault: Option<Fault>,
    /// How many things were dropped since the start, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// What is wrong with a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How long it has lasted.
    pub lasts: Duration,
    /// What failed last.
    pub error: String,
    /// Whose fault it is.
    pub at_fault: AtFault,
    /// What to do about it.
    pub cure: String,
    /// In how long it is tried again.
    pub next_try_in: Duration,
}

impl Default for Lanes {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kind::OF_THIS_HOST.map(|kind| ((kind, None), State::default())).into())))
    }
}

impl Lanes {
    /// All of them, as at this moment.
    #[must_use]
    pub fn facts(&self, now: Instant) -> Vec<LaneFacts> {
        let ago = |then: Instant| now.saturating_duration_since(then);
        let lanes = self.lock();
        let facts = lanes.iter().map(|((kind, host), state)| LaneFacts {
            kind: *kind,
            host: host.clone(),
            succeeded_ago: state.success.map(ago),
            delivered: state.delivered,
            failures: state.failures,
            failures_in_hour: state.recent.iter().filter(|at| ago(**at) < HOUR).count() as u64,
            fault: state.fault.as_ref().map(|fault| Fault {
                lasts: ago(fault.since),
                error: fault.error.clone(),
                at_fault: fault.at_fault,
                cure: fault.cure.clone(),
                next_try_in: fault.next_try.saturating_duration_since(now),
            }),
            dropped: state.dropped.clone(),
        });
        facts.collect()
    }

    /// Whether values are delivered, or wait for a reason. If not, the delivery has been busy with one thing, or has missed the time of
    /// its next try, for longer than `patience`.
    #[must_use]
    pub fn is_delivery_alive(&self, now: Instant, patience: Duration) -> bool {
        let lanes = self.lock();
        match lanes.get(&(Kind::Values, None)).map(|state| state.doing) {
            Some(Doing::Working(since) | Doing::Waiting(since)) => now.saturating_duration_since(since) <= patience,
            Some(Doing::Idle) | None => true,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        // No lane is half noted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
