//! How whoever shows something asks the agent for it: what can be asked, and what is answered, both as JSON.

use std::collections::BTreeMap;
use std::pin::Pin;

use delivery::spool;
use serde::{Deserialize, Serialize};

/// The most metrics of one request for their history.
pub const MOST_KEYS: usize = 400;

/// The longest request, in bytes.
pub const MOST_REQUEST_BYTES: usize = 256 * 1024;

/// What the agent can be asked for. On its control socket, a line of JSON; one that sends nothing is sent the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// For an [`AgentState`](crate::state::AgentState).
    State,
    /// For a [`ContainerReport`](crate::state::ContainerReport) on each container of the engine, whether it runs or not.
    Containers,
    /// For the last lines of the log, a list of texts.
    Log,
    /// For all [`Plot`](crate::plots::Plot)s of the last 24 hours.
    Plots,
    /// For the [`Series`] of metrics.
    Series {
        /// As they are called in a plot, at most [`MOST_KEYS`].
        keys: Vec<String>,
        /// The first minute, in seconds since 1970; not more than 24 hours before `to` are answered.
        from: i64,
        /// The last minute, in seconds since 1970.
        to: i64,
    },
}

/// The values of some metrics in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The first minute, in seconds since 1970.
    pub start: i64,
    /// How many minutes there are.
    pub minutes: usize,
    /// By metric: a value for each minute, none in a gap.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

impl From<spool::Series> for Series {
    fn from(series: spool::Series) -> Self {
        let spool::Series { start, minutes, values } = series;
        Self { start, minutes, values }
    }
}

/// The answer as JSON, or why there is none, with the cure.
pub type Answered = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// Where answers come from.
pub trait Feed: Send + Sync {
    /// Asks the agent.
    fn ask(&self, request: Request) -> Answered;
}
