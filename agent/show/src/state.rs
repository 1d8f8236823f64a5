//! The state of a running agent, as a document: what the control socket sends, what `wasaba status` and `wasaba top` and the page show,
//! and whether the agent works.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use delivery::mackerel::AtFault;
use serde::{Deserialize, Serialize};
use wasaba_core::collect::outcomes::{CollectionResult, Outcome};
use wasaba_core::text::{lasting, printable};

/// The oldest that the last collection may be. The agent collects once a minute, and takes seconds to start.
pub const MOST_SECONDS_UNCOLLECTED: u64 = 150;

/// The oldest that the last delivery may be.
pub const MOST_SECONDS_UNDELIVERED: u64 = 300;

/// The document that the agent sends. Its times are in seconds since 1970, on the wall clock of `now`; durations are measured on the
/// monotonic clock.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    /// The agent's release.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// When this was written.
    pub now: i64,
    /// How long the agent has been running.
    pub uptime_seconds: u64,
    /// This machine on Mackerel, as far as it is known.
    pub host: HostReport,
    /// Where everything is posted; none without an API key.
    pub server: Option<ServerReport>,
    /// What it has given up.
    #[serde(default)]
    pub confinement: Option<ConfinementReport>,
    /// How long ago it collected, or else started.
    pub collected_seconds_ago: u64,
    /// How long ago Mackerel accepted values, if it has since the start.
    pub delivered_seconds_ago: Option<u64>,
    /// How everything is delivered.
    pub lanes: Vec<LaneReport>,
    /// What waits, and what became of every point; none while the file does not answer.
    pub queue: Option<QueueReport>,
    /// Every configured plugin instance, by name.
    pub plugins: Vec<PluginReport>,
    /// The last collection of every source of metrics, in the order in which they were added.
    pub collectors: Vec<CollectorReport>,
    /// The last result of every check, by name.
    pub checks: Vec<CheckReport>,
}

/// This machine on Mackerel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its id.
    pub id: Option<String>,
    /// The name that Mackerel shows.
    pub name: Option<String>,
    /// How many CPUs the agent may use.
    #[serde(default)]
    pub cpus: Option<usize>,
}

/// One container of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Its name.
    pub name: String,
    /// The image that it was started with.
    pub image: String,
    /// `running`, `exited` and so on.
    pub state: String,
    /// `healthy`, `unhealthy` or `starting`, if it has a health check.
    pub health: Option<String>,
    /// When it was started, in seconds since 1970, if it runs.
    pub started: Option<i64>,
    /// How often its restart policy restarted it.
    pub restarts: Option<u64>,
    /// The most memory that it may use, if it has a limit.
    pub memory_limit_bytes: Option<u64>,
    /// Its part of its metrics' names: `custom.docker.GRAPH.SEGMENT.METRIC`. Empty if it is not measured.
    pub segment: String,
}

/// Where everything is posted, without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// `https://api.mackerelio.com`
    pub apibase: String,
    /// The proxy on the way, if there is one.
    pub proxy: Option<String>,
}

/// How one lane is doing.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// `values`, `check reports`, …
    pub lane: String,
    /// The custom identifier of its host, if it is not this one.
    pub host: Option<String>,
    /// When a request succeeded last.
    pub last_success: Option<i64>,
    /// How many values, reports, definitions, documents or requests succeeded since the start.
    pub delivered: u64,
    /// How many requests failed within the last hour.
    pub failures_in_hour: u64,
    /// What is wrong, if something is.
    pub fault: Option<FaultReport>,
    /// How many things were dropped since the start, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// What is wrong with a lane.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// When it began.
    pub since: i64,
    /// What failed last.
    pub error: String,
    /// `configuration`, `mackerel`, `network` or `content`.
    pub at_fault: String,
    /// What to do about it.
    pub cure: String,
    /// When it is tried again.
    pub next_try: i64,
}

/// The last result of one check.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The name that it is reported under.
    pub name: String,
    /// `OK`, `WARNING`, `CRITICAL` or `UNKNOWN`.
    pub status: String,
    /// Since when it has this status.
    pub since: i64,
    /// When it ran last.
    pub ran: i64,
    /// How long that took, in milliseconds.
    #[serde(default)]
    pub took_ms: f64,
    /// What it said.
    pub message: String,
}

/// What the queue holds, and what became of every point since the file was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// The points that wait.
    pub points: u64,
    /// How many minutes they are of.
    pub minutes: u64,
    /// The time of the oldest of them, in seconds since 1970.
    pub oldest: Option<i64>,
    /// The size of the file; none while it is not used.
    pub file_bytes: Option<u64>,
    /// For how many hours there is room at the present rate, if that is known.
    pub hours_held: Option<f64>,
    /// Why new values stay in memory; none if they go to the disk.
    pub memory: Option<MemoryReport>,
    /// Points collected.
    pub collected: u64,
    /// Points that Mackerel accepted.
    pub delivered: u64,
    /// Points that were dropped, by reason.
    pub losses: BTreeMap<String, u64>,
}

/// Why new values stay in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// What is wrong with the file or its disk.
    pub why: String,
}

/// What the agent has given up, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfinementReport {
    /// What is closed, and by what: `files (Landlock 7)`.
    pub closed: Vec<String>,
    /// What is not, and why.
    pub open: Vec<String>,
    /// What the configuration needs that only a restart opens.
    #[serde(default)]
    pub lacking: Vec<String>,
}

impl fmt::Display for ConfinementReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.closed[..], &self.open[..]) {
            ([], open) => write!(formatter, "not confined: {}", open.join("; "))?,
            (closed, []) => write!(formatter, "confined; closed are {}", closed.join(", "))?,
            (closed, open) => {
                write!(formatter, "confined; closed are {}; open are {}", closed.join(", "), open.join("; "))?
            }
        }
        if self.lacking.is_empty() {
            Ok(())
        } else {
            write!(formatter, "; restart the agent to allow {}", self.lacking.join(", "))
        }
    }
}

/// The report on one source of metrics: a family of the host's, a plugin, a program, an engine.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectorReport {
    /// The source's name: `cpu`, `plugin web`.
    pub name: String,
    /// When it was asked last, in seconds since 1970.
    pub asked: i64,
    /// How long its last collection took, in milliseconds.
    pub took_ms: f64,
    /// `values`, `no data`, `failed` or `timed out`.
    pub result: String,
    /// How many values it gave.
    pub values: usize,
    /// Why it failed, or what it had to skip.
    pub problems: Vec<String>,
    /// Collections since it was added.
    pub collections: u64,
    /// Of these, how many failed or timed out.
    pub failed: u64,
}

impl From<Outcome> for CollectorReport {
    fn from(outcome: Outcome) -> Self {
        let Outcome { source, unix_seconds, took, result, collections, failed } = outcome;
        let (word, values, problems) = match result {
            CollectionResult::Values { count, warnings } => ("values", count, warnings),
            CollectionResult::NoData => ("no data", 0, Vec::new()),
            CollectionResult::Failed(why) => ("failed", 0, vec![why]),
            CollectionResult::TimedOut => ("timed out", 0, Vec::new()),
        };
        Self {
            name: printable(&source, 100),
            asked: unix_seconds,
            took_ms: took.as_secs_f64() * 1e3,
            result: word.to_owned(),
            values,
            problems: problems.iter().map(|problem| printable(problem, 1_024)).collect(),
            collections,
            failed,
        }
    }
}

/// Whether a plugin instance is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs, and its last call succeeded.
    #[default]
    Running,
    /// It runs, but its last call failed.
    Failing,
    /// It could not be loaded.
    Skipped,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Skipped => "skipped",
        })
    }
}

/// The report on one plugin instance.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// The instance's name.
    pub name: String,
    /// Whether it is running.
    pub state: State,
    /// Why it is failing or skipped, a line each.
    pub problems: Vec<String>,
    /// Until when it is not asked, if it keeps failing.
    pub skipped_until: Option<i64>,
    /// The component's file, if it could be loaded.
    pub file: Option<String>,
    /// The component's own name and version.
    pub component: Option<String>,
    /// The SHA-256 of the file.
    pub sha256: Option<String>,
    /// Calls since it was loaded.
    pub calls: u64,
    /// How many calls failed, by kind, without the kinds that never occurred.
    pub failures: Vec<(String, u64)>,
    /// How long the last call took, in milliseconds.
    pub last_ms: f64,
    /// The peak memory of a call, in bytes.
    pub memory_bytes: u64,
    /// How much its connections have sent, in bytes.
    pub sent_bytes: u64,
    /// How much its connections have received, in bytes.
    pub received_bytes: u64,
    /// How many requests were refused for want of a grant.
    pub refusals: u64,
    /// The last distinct refusals; the newest is the last.
    pub refused: Vec<String>,
    /// Whether the newest of them made the last call fail, so that it is among the problems.
    #[serde(default)]
    pub denied: bool,
    /// How many samples, reports and documents were dropped.
    #[serde(default)]
    pub dropped: u64,
}

impl AgentState {
    /// Whether the agent works, in one line.
    ///
    /// # Errors
    /// It does not: why, whose fault it is, and the cure.
    pub fn judge(&self) -> Result<String, String> {
        let lasting = |seconds| lasting(Duration::from_secs(seconds));
        let collected = self.collected_seconds_ago;
        if collected > MOST_SECONDS_UNCOLLECTED {
            return Err(format!(
                "the agent is not working: it has not collected for {collected} s: restart it, and report this"
            ));
        }
        let working = format!("the agent is working: it last collected {collected} s ago");
        if self.server.is_none() {
            return Ok(format!("{working}; without an API key nothing is posted"));
        }
        let silent = self.delivered_seconds_ago.unwrap_or(self.uptime_seconds);
        let fault = self.first_fault();
        // Without values there is nothing to deliver.
        let has_nothing = self.queue.as_ref().is_some_and(|queue| queue.points == 0) && fault.is_none();
        match (self.delivered_seconds_ago, fault) {
            (Some(ago), _) if ago <= MOST_SECONDS_UNDELIVERED => {
                Ok(format!("{working}, and values were delivered {} ago", lasting(ago)))
            }
            (delivered, _) if silent <= MOST_SECONDS_UNDELIVERED || has_nothing => Ok(match delivered {
                Some(_) => format!("{working}; there is nothing to deliver"),
                None => format!("{working}; nothing was delivered yet"),
            }),
            (_, Some((lane, fault))) => Err(format!(
                "nothing was delivered for {}: {lane}: {}; the fault is {}: {}",
                lasting(silent),
                fault.error,
                place(&fault.at_fault),
                fault.cure
            )),
            (_, None) => Err(format!(
                "nothing was delivered for {}, although no request has failed: see the log, restart the agent, and report this",
                lasting(silent)
            )),
        }
    }

    /// The first lane that has a fault: values are the first, and without a registration there are none.
    fn first_fault(&self) -> Option<(&str, &FaultReport)> {
        self.lanes
            .iter()
            .filter(|lane| lane.host.is_none())
            .find_map(|lane| Some((lane.lane.as_str(), lane.fault.as_ref()?)))
    }
}

/// Whose fault something is, after "the fault is".
pub fn place(at_fault: &str) -> &str {
    AtFault::ALL.iter().find(|known| known.word() == at_fault).map_or(at_fault, |known| known.place())
}
