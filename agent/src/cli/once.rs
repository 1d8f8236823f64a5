//! `wasaba once`: one collection as JSON on standard output. Nothing is posted, and only compiled plugins are stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::host::cloud;
use machine::metrics::selection::Current;
use plugins::keeper;
use serde_json::{Value, json};
use wasaba_core::collect::Moment;
use wasaba_core::collect::minute::Part;

use super::flags::AgentFlags;
use crate::run;

/// The time between the two readings that rates are computed from. The shortest that gives rates is one second.
const READING_INTERVAL: Duration = Duration::from_millis(1_050);

/// Reads everything twice, a second apart, and prints the host's description and the values. Programs run only once: they keep
/// their previous readings, which a second run would disturb.
///
/// # Errors
/// The configuration cannot be used, or standard output cannot be written.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let runtime = super::runtime()?;
    let (host, created, values) = runtime.block_on(async {
        let host = run::describe(&config, cloud::detect(config.cloud_platform, &config.machine).await);
        let selection = Current::default();
        selection.set(config.selection.clone());
        let mut sources = run::host_sources(&config, &selection);
        for docker in &config.dockers {
            sources.add(containers::source_of(Arc::new(docker.clone()), HashMap::new()));
        }
        match keeper::loader(&config) {
            Ok(loader) => {
                for instance in keeper::instances(&config, &loader).await {
                    sources.add(run::source_of(Arc::new(instance), Arc::clone(&loader.sandbox)));
                }
            }
            Err(why) => tracing::error!("cannot load plugins: {why}"),
        }
        let mut values = ByHost::from([(None, BTreeMap::new())]);
        // Programs whose values have timestamps.
        let dated = config.programs.iter().filter(|program| program.own_timestamps);
        let dated = dated.map(|program| format!("plugin {}", program.name)).collect::<Vec<_>>();
        sources.ask(now(), async |time, part| take(&mut values, time, part, &dated)).await;
        tokio::time::sleep(READING_INTERVAL).await;
        for program in &config.programs {
            sources.add(programs::metrics::source_of(Arc::new(program.clone())));
        }
        let created = jiff::Timestamp::now();
        sources.ask(now(), async |time, part| take(&mut values, time, part, &dated)).await;
        (host, created, values)
    });
    runtime.shutdown_background();
    let values =
        values.into_iter().map(|(host, values)| json!({ "Values": values, "CustomIdentifier": host.as_deref() }));
    let values = values.collect::<Value>();
    let document = json!({ "host": host(), "metrics": { "Created": created.to_string(), "Values": values } });
    super::print(&format!("{document}\n"))
}

fn now() -> Moment {
    Moment { unix_seconds: jiff::Timestamp::now().as_second(), instant: Instant::now() }
}

/// Values by name, by custom identifier; `None` is this host.
type ByHost = BTreeMap<Option<Arc<str>>, BTreeMap<String, Value>>;

/// Adds the values of one reading, over those of an earlier one. Those of `dated` sources get their time.
fn take(values: &mut ByHost, time: i64, part: Part, dated: &[String]) {
    for (source, samples) in part.samples {
        let time = dated.iter().any(|dated| **dated == *source).then_some(time);
        for sample in samples {
            let values = values.entry(sample.host().cloned()).or_default();
            values.insert(sample.name().to_string(), json!({ "Time": time, "Value": sample.value() }));
        }
    }
}
