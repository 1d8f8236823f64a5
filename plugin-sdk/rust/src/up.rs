//! Whether the target is up, as a metric.

use crate::{Error, Graph, Metric, Sample, Unit, kv, log};

/// The key of the store that is set while the target is down, so that this is logged once.
const KEY: &str = "down";

/// Adds `name` to what was `collected`: 1 if the target answered; 0, alone, if it did not answer or its answer is unusable. That is
/// then not an error of the plugin any more, so it is logged with its reason when it begins, and when the target recovers. An error
/// that the operator has to fix stays one, since it says nothing about the target.
///
/// # Errors
/// `Misconfigured`, `Unauthorized`, `Denied` and the others that do not say that the target is down, as they were.
pub fn up<S: Default + Extend<Sample>>(name: &str, collected: Result<S, Error>) -> Result<S, Error> {
    match collected {
        Ok(mut samples) => {
            if kv::get(KEY).is_some() {
                log::info("the target is up again");
                kv::delete(KEY);
            }
            samples.extend([Sample::new(name, true)]);
            Ok(samples)
        }
        Err(Error::Unreachable(why) | Error::Timeout(why) | Error::Failed(why) | Error::Unsupported(why)) => {
            if kv::get(KEY).is_none() {
                log::warning(format!("the target is down: {why}"));
                kv::set(KEY, [])?;
            }
            let mut down = S::default();
            down.extend([Sample::new(name, false)]);
            Ok(down)
        }
        Err(other) => Err(other),
    }
}

/// The graph for [`up`](fn@up), which has its metric `up`: with the name `queue.up`, its value is `queue.up.up`.
pub fn up_graph(name: impl Into<String>, label: impl Into<String>) -> Graph {
    Graph::new(name, label, Unit::Integer).metric(Metric::gauge("up", "Up (1: yes, 0: no)"))
}
