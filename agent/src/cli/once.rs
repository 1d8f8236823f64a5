//! `wasaba once`: one collection as JSON on standard output. Nothing is posted, nothing stored but compiled plugins.

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

/// Between the two readings that rates are made of. The shortest that gives rates is one second.
const BETWEEN_READINGS: Duration = Duration::from_millis(1_050);

/// Reads everything twice, a second apart, and prints the host's description and the values. Programs run once: they keep their
/// own last readings, which an additional run would disturb.
///
/// # Errors
/// The configuration cannot be used, or nothing can be printed.
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
            Err(why) => tracing::error!("no plugins: {why}"),
        }
        let mut values = ByHost::from([(None, BTreeMap::new())]);
        // With times of their own.
        let dated = config.programs.iter().filter(|program| program.own_timestamps);
        let dated = dated.map(|program| format!("plugin {}", program.name)).collect::<Vec<_>>();
        sources.ask(now(), async |time, part| take(&mut values, time, part, &dated)).await;
        tokio::time::sleep(BETWEEN_READINGS).await;
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
    let printed = json!({ "host": host(), "metrics": { "Created": created.to_string(), "Values": values } });
    super::print(&format!("{printed}\n"))
}

fn now() -> Moment {
    Moment { unix_seconds: jiff::Timestamp::now().as_second(), instant: Instant::now() }
}

/// Values by name, of this host (`None`) and of the hosts with these custom identifiers.
type ByHost = BTreeMap<Option<Arc<str>>, BTreeMap<String, Value>>;

/// The second reading's values win. Those of `dated` sources have their time.
fn take(values: &mut ByHost, time: i64, part: Part, dated: &[String]) {
    for (source, samples) in part.samples {
        let time = dated.iter().any(|dated| **dated == *source).then_some(time);
        for sample in samples {
            let values = values.entry(sample.host().cloned()).or_default();
            values.insert(sample.name().to_string(), json!({ "Time": time, "Value": sample.value() }));
        }
    }
}
