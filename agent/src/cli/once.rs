//! `wasaba once`: one collection as JSON on standard output. Nothing is posted, nothing stored but compiled plugins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::flags::AgentFlags;
use crate::collect::Moment;
use crate::collect::minute::Part;
use crate::log::{self, Destination};
use crate::{keeper, run};

/// Between the two readings that rates are made of. The shortest that gives rates is one second.
const BETWEEN_READINGS: Duration = Duration::from_millis(1_050);

/// Reads everything twice, a second apart, and prints the host's description and the values.
///
/// # Errors
/// The configuration cannot be used, or nothing can be printed.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let (config, warnings) = flags.config()?;
    log::start(config.log_level, Destination::Stderr);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let host = run::describe(&config);
    let runtime = super::runtime()?;
    let (created, values) = runtime.block_on(async {
        let mut sources = run::host_sources(&config);
        match keeper::loader(&config) {
            Ok(loader) => {
                for instance in keeper::instances(&config, &loader).await {
                    sources.add(run::source_of(Arc::new(instance), Arc::clone(&loader.sandbox)));
                }
            }
            Err(why) => tracing::error!("no plugins: {why}"),
        }
        let mut values = BTreeMap::new();
        sources.ask(now(), async |part| take(&mut values, part)).await;
        tokio::time::sleep(BETWEEN_READINGS).await;
        let created = jiff::Timestamp::now();
        sources.ask(now(), async |part| take(&mut values, part)).await;
        (created, values)
    });
    runtime.shutdown_background();
    let values = json!([{ "Values": values, "CustomIdentifier": null }]);
    let printed = json!({ "host": host(), "metrics": { "Created": created.to_string(), "Values": values } });
    super::print(&format!("{printed}\n"))
}

fn now() -> Moment {
    Moment { unix_seconds: jiff::Timestamp::now().as_second(), instant: Instant::now() }
}

/// The second reading's values win.
fn take(values: &mut BTreeMap<String, Value>, part: Part) {
    for sample in part.samples.into_iter().flat_map(|(_, samples)| samples) {
        values.insert(sample.name().to_string(), json!({ "Time": null, "Value": sample.value() }));
    }
}
