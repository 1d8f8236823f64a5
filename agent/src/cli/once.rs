//! `wasaba once`: one collection as JSON on standard output. Nothing is posted, nothing stored but compiled plugins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use machine::host::cloud;
use machine::metrics::selection::Current;
use plugins::keeper;
use plugins::key::Kind;
use plugins::roster::{Candidate, skipped};
use programs::MetricsProgram;
use serde_json::{Value, json};
use wasaba_core::clock::Moment;
use wasaba_core::collect::sources::{Collected, Sources};

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
        let mut sources = Sources::default();
        for source in run::host_sources(&config, &selection) {
            sources.add(source);
        }
        let programs = add_plugins(&config, &mut sources).await;
        let mut values = ByHost::from([(None, BTreeMap::new())]);
        // With times of their own.
        let dated = programs.iter().filter(|program| program.own_timestamps);
        let dated = dated.map(|program| format!("plugin {}", program.name)).collect::<Vec<_>>();
        sources.ask(Moment::now(), async |time, collected| take(&mut values, time, collected, &dated)).await;
        tokio::time::sleep(BETWEEN_READINGS).await;
        for program in programs {
            sources.add(programs::metrics::source_of(program));
        }
        let created = jiff::Timestamp::now();
        sources.ask(Moment::now(), async |time, collected| take(&mut values, time, collected, &dated)).await;
        (host, created, values)
    });
    runtime.shutdown_background();
    let values =
        values.into_iter().map(|(host, values)| json!({ "Values": values, "CustomIdentifier": host.as_deref() }));
    let values = values.collect::<Value>();
    let printed = json!({ "host": host(), "metrics": { "Created": created.to_string(), "Values": values } });
    super::print(&format!("{printed}\n"))
}

/// Adds everything that is read twice; returns the programs, which run once.
async fn add_plugins(config: &Config, sources: &mut Sources) -> Vec<Arc<MetricsProgram>> {
    if let Some(docker) = &config.docker {
        sources.add(containers::source_of(Arc::new(docker.clone()), HashMap::new()));
    }
    let loader = keeper::loader(config).inspect_err(|why| tracing::error!("no components: {why}")).ok();
    let mut programs = Vec::new();
    for (key, candidate) in keeper::candidates(config).filter(|(key, _)| key.kind == Kind::Metrics) {
        match candidate {
            Candidate::Program(program) => programs.push(program),
            Candidate::Engine(docker) => {
                sources.add(containers::source_of(Arc::new(*docker), HashMap::new()));
            }
            Candidate::Component(table, file) => {
                let Some(loader) = &loader else { continue };
                match loader.instance(&table, &file).await {
                    Ok(instance) => {
                        sources.add(keeper::source_of(Arc::new(instance)));
                    }
                    Err(problems) => skipped(&key, &problems),
                }
            }
        }
    }
    programs
}

/// Values by name, of this host (`None`) and of the hosts with these custom identifiers.
type ByHost = BTreeMap<Option<Arc<str>>, BTreeMap<String, Value>>;

/// The second reading's values win. Those of `dated` sources have their time.
fn take(values: &mut ByHost, time: i64, collected: Collected, dated: &[String]) {
    for (source, samples) in collected.samples {
        let time = dated.iter().any(|dated| **dated == *source).then_some(time);
        for sample in samples {
            let values = values.entry(sample.host().cloned()).or_default();
            values.insert(sample.name().to_string(), json!({ "Time": time, "Value": sample.value() }));
        }
    }
}
