//! `wasaba once`: one collection as JSON on standard output. Nothing is posted, and only compiled plugins are stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use machine::host::cloud;
use machine::metrics::selection::Current;
use official::programs::MetricsProgram;
use plugins::keeper;
use plugins::key::Kind;
use plugins::roster::{Candidate, skipped};
use serde_json::{Value, json};
use tokio::time::timeout;
use wasaba_core::clock::{self, Moment};
use wasaba_core::collect::sources::{Collected, Sources};
use wasaba_core::text::duration;

use super::flags::AgentFlags;
use crate::process::metadata_service::MetadataService;
use crate::run;

/// The time between the two readings that rates are computed from. The shortest that gives rates is one second.
const READING_INTERVAL: Duration = Duration::from_millis(1_050);

/// What has not answered after so long is missing: a file system may hang, and a reader with it. Programs have their own limits.
const PATIENCE: Duration = Duration::from_mins(1);

/// A plugin that is not loaded after so long is skipped: longer than compiling may take, unless its limits are raised.
const LOADED_WITHIN: Duration = Duration::from_mins(10);

/// Reads everything twice, a second apart, and prints the host's description and the values. Programs run only once: they keep
/// their previous readings, which a second run would disturb.
///
/// # Errors
/// The configuration cannot be used, or standard output cannot be written.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    flags.become_agent()?;
    let config = flags.config_for_command()?;
    let runtime = super::runtime()?;
    let (host, created, values) = runtime.block_on(async {
        let host =
            run::describe(&config, cloud::detect(config.cloud_platform, &config.machine, &MetadataService).await);
        let selection = Current::default();
        selection.set(config.selection.clone());
        let mut sources = Sources::default();
        for source in run::host_sources(&config, &selection) {
            sources.add(source);
        }
        let programs = add_plugins(&config, &mut sources).await;
        let mut values = ByHost::from([(None, BTreeMap::new())]);
        let longest = programs.iter().map(|program| program.program.timeout).max().unwrap_or_default();
        // Programs whose values have timestamps.
        let dated = programs.iter().filter(|program| program.own_timestamps);
        let dated = dated.map(|program| format!("plugin {}", program.name)).collect::<Vec<_>>();
        ask(&mut sources, PATIENCE, &mut values, &dated).await;
        tokio::time::sleep(READING_INTERVAL).await;
        for program in programs {
            sources.add(official::programs::metrics::source_of(program));
        }
        let created = jiff::Timestamp::try_from(clock::wall()).unwrap_or_default();
        ask(&mut sources, PATIENCE + longest, &mut values, &dated).await;
        (host, created, values)
    });
    runtime.shutdown_background();
    let values =
        values.into_iter().map(|(host, values)| json!({ "Values": values, "CustomIdentifier": host.as_deref() }));
    let values = values.collect::<Value>();
    let document = json!({ "host": host(), "metrics": { "Created": created.to_string(), "Values": values } });
    super::print(&format!("{document}\n"))
}

/// Asks all sources, and takes the values of those that answer in time.
async fn ask(sources: &mut Sources, patience: Duration, values: &mut ByHost, dated: &[String]) {
    let asked = sources.ask(Moment::now(), async |time, collected| take(values, time, collected, dated));
    if timeout(patience, asked).await.is_err() {
        let waited = duration(patience);
        tracing::warn!("some values are missing, which did not arrive within {waited}: a file system may hang");
    }
}

/// Adds everything that is read twice; returns the programs, which run once.
async fn add_plugins(config: &Config, sources: &mut Sources) -> Vec<Arc<MetricsProgram>> {
    if let Some(docker) = &config.docker {
        sources.add(containers::source_of(Arc::new(docker.clone()), HashMap::new()));
    }
    let loader = keeper::loader(config).inspect_err(|why| tracing::error!("cannot load components: {why}")).ok();
    let mut programs = Vec::new();
    for (key, candidate) in keeper::candidates(config).filter(|(key, _)| key.kind == Kind::Metrics) {
        match candidate {
            Candidate::Program(program) => programs.push(program),
            Candidate::Engine(docker) => {
                sources.add(containers::source_of(Arc::new(*docker), HashMap::new()));
            }
            Candidate::Component(table, file) => {
                let Some(loader) = &loader else { continue };
                match timeout(LOADED_WITHIN, loader.instance(key.kind, &table, &file)).await {
                    Ok(Ok(instance)) => {
                        sources.add(keeper::source_of(Arc::new(instance)));
                    }
                    Ok(Err(unloaded)) => skipped(&key, &unloaded.problems),
                    Err(_) => {
                        let why = format!("not loaded within {}: a file system may hang", duration(LOADED_WITHIN));
                        skipped(&key, &[why]);
                    }
                }
            }
        }
    }
    programs
}

/// Values by name, by custom identifier; `None` is this host.
type ByHost = BTreeMap<Option<Arc<str>>, BTreeMap<String, Value>>;

/// Adds the values of one reading, over those of an earlier one. Those of `dated` sources get their time.
fn take(values: &mut ByHost, time: i64, collected: Collected, dated: &[String]) {
    for (source, samples) in collected.samples {
        let time = dated.iter().any(|dated| **dated == *source).then_some(time);
        for sample in samples {
            let values = values.entry(sample.host().cloned()).or_default();
            values.insert(sample.name().to_string(), json!({ "Time": time, "Value": sample.value() }));
        }
    }
}
