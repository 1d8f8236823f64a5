//! What was seen of the agent last, and the numbers that are read out of its history.

use std::collections::BTreeSet;

use crate::feed::Series;
use crate::plots::{Line, Plot};
use crate::state::{AgentState, ContainerReport};

/// A value that is older is not the present one.
const PRESENT_MINUTES: usize = 3;

/// What was seen last.
#[derive(Debug, Default)]
pub struct Seen {
    /// The state.
    pub state: AgentState,
    /// The containers.
    pub containers: Vec<ContainerReport>,
    /// All plots.
    pub plots: Vec<Plot>,
    /// The last hour of every metric.
    pub hour: Series,
    /// Why the agent does not answer, with the cure, and since when by its own clock.
    pub silent: Option<(i64, String)>,
    /// Why its history cannot be read.
    pub unread: Option<String>,
    /// When another agent was found in the place of the one before.
    pub restarted: Option<i64>,
}

impl Seen {
    /// The values of the last hour.
    pub(super) fn hour(&self, key: &str) -> &[Option<f64>] {
        self.hour.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// The present value.
    pub(super) fn last(&self, key: &str) -> Option<f64> {
        last(self.hour(key))
    }

    /// What stands for `*` in the names of metrics: `interface.*.rxBytes.delta`.
    pub(super) fn between(&self, before: &str, after: &str) -> BTreeSet<&str> {
        let names = self.hour.values.keys().filter(|key| !key.contains(" @"));
        names.filter_map(|key| key.strip_prefix(before)?.strip_suffix(after)).collect()
    }

    /// Minute by minute, what `of` makes of these metrics; nothing where one of them is missing.
    pub(super) fn joined(&self, keys: &[&str], of: impl Fn(&[f64]) -> f64) -> Vec<Option<f64>> {
        let lines = keys.iter().map(|key| self.hour(key)).collect::<Vec<_>>();
        let minute = |minute: usize| {
            let values = lines.iter().map(|line| line.get(minute).copied().flatten()).collect::<Option<Vec<_>>>()?;
            Some(of(&values))
        };
        (0..lines.iter().map(|line| line.len()).max().unwrap_or_default()).map(minute).collect()
    }

    /// Each line of each plot.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&Plot, &Line)> {
        self.plots.iter().flat_map(|plot| plot.lines.iter().map(move |line| (plot, line)))
    }
}

/// The newest value, if it is not old.
pub(super) fn last(values: &[Option<f64>]) -> Option<f64> {
    values.iter().rev().take(PRESENT_MINUTES).copied().flatten().next()
}
