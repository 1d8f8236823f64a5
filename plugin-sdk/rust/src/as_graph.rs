//! A struct as a graph: what `#[derive(Graph)]` makes of it.

use crate::{Graph, Readings, Sample, segment};

/// A struct that is a graph on Mackerel, and its fields the readings of the graph's metrics. `#[derive(Graph)]` implements it, so that a name
/// is written once:
///
/// ```
/// use wasaba_plugin::prelude::*;
///
/// /// How many jobs there are.
/// #[derive(Graph)]
/// #[graph("queue.jobs", "Queue: jobs", integer)]
/// struct Jobs {
///     #[gauge]
///     waiting: u64,
///     // A counter: the agent makes its rate. The label is the field's name in words, unless it is written.
///     #[per_minute("Finished jobs")]
///     done: u64,
///     // Missing beats wrong: no sample if it is `None`.
///     #[gauge(name = "oldest_seconds", stacked, scale = 0.001)]
///     oldest_ms: Option<u64>,
/// }
///
/// /// A worker; `#` in the graph's name stands for the name of each.
/// #[derive(Graph)]
/// #[graph("queue.workers.#", "Queue: workers", integer)]
/// struct Worker {
///     #[segment]
///     name: String,
///     #[gauge]
///     busy: bool,
/// }
///
/// let jobs = Jobs { waiting: 3, done: 17, oldest_ms: None };
/// let workers = vec![Worker { name: "röster 1".to_owned(), busy: true }];
/// assert_eq!(
///     (jobs.samples() + workers.samples()).samples,
///     [
///         Sample::new("queue.jobs.waiting", 3),
///         Sample::new("queue.jobs.done", 17),
///         Sample::new("queue.workers.r_ster_1.busy", true),
///     ]
/// );
/// assert_eq!(Jobs::graph().name(), "queue.jobs");
/// ```
///
/// Above the struct stand the graph's name, its label and its [`Unit`](crate::Unit) in small letters (`bytes_per_second`); above a field how its reading
/// becomes a value, in the words of [`Metric`](crate::Metric): `gauge`, `per_minute`, `per_second`, `delta`, `per_minute_32`. A `#[segment]` is the text for a
/// wildcard. Other fields are not posted. A field is a [`Reading`](crate::Reading), or an `Option` of one.
///
/// A graph whose name or metrics depend on the settings is built with [`Graph::new`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a graph",
    note = "write `#[derive(Graph)]` and `#[graph(\"queue.jobs\", \"Queue: jobs\", integer)]` above it, and `#[gauge]` above a field"
)]
pub trait AsGraph {
    /// The graph's definition, for [`Plugin::graph`](crate::Plugin::graph).
    fn graph() -> Graph;

    /// Adds a sample for each metric.
    fn add_to(&self, samples: &mut Vec<Sample>);

    /// A sample for each metric.
    fn samples(&self) -> Readings {
        let mut samples = Vec::new();
        self.add_to(&mut samples);
        samples.into()
    }
}

impl<T: AsGraph> AsGraph for Vec<T> {
    fn graph() -> Graph {
        T::graph()
    }

    fn add_to(&self, samples: &mut Vec<Sample>) {
        self.iter().for_each(|each| each.add_to(samples));
    }
}

impl<T: AsGraph> AsGraph for Option<T> {
    fn graph() -> Graph {
        T::graph()
    }

    fn add_to(&self, samples: &mut Vec<Sample>) {
        self.iter().for_each(|each| each.add_to(samples));
    }
}

/// The name of a metric whose wildcards stand for these texts.
#[doc(hidden)]
#[must_use]
pub fn named(pattern: &str, segments: &[&str]) -> String {
    let mut segments = segments.iter();
    let mut name = String::with_capacity(pattern.len());
    for (number, part) in pattern.split('.').enumerate() {
        if number > 0 {
            name.push('.');
        }
        match part {
            "*" | "#" => name.push_str(&segments.next().map(|text| segment(text)).unwrap_or_default()),
            word => name.push_str(word),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wildcard_is_replaced_by_its_own_text() {
        assert_eq!(named("a.#.b.*", &["x y", "1.5"]), "a.x_y.b.1_5");
    }
}
