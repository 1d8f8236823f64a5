//! `wasaba plugin run`: one collection of one plugin, printed like the output of an official plugin.
//!
//! The readings of counters are kept in a file between two runs, as the official plugins do, so that the second run has rates.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::instance::{Instance, Status};
use sha2::{Digest, Sha256};
use tracing::level_filters::LevelFilter;
use wasaba_core::clock;
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::{Answer, Fault};
use wasaba_core::graph;
use wasaba_core::paths::own;
use wasaba_core::text::{counted, duration, printable};

use crate::cli::flags::AgentFlags;
use crate::process::log;

/// Collects once with `flags` as settings, on top of the configuration's table of this name if there is one, and prints
/// `name TAB value TAB epoch` lines, or with `MACKEREL_AGENT_PLUGIN_META` the graph definitions. With `explain`, prints to standard
/// error what the plugin imports, was granted and refused, and used. With a verbose log, prints there also what the plugin has printed.
///
/// # Errors
/// There is no such plugin, a flag is invalid, or the collection failed.
pub fn run(agent: &AgentFlags, explain: bool, wanted: &str, flags: &[String]) -> Result<(), String> {
    let text = super::with_loader_for(agent, wanted, async |config, loader| {
        let begin = clock::instant();
        let loaded = super::load(config, loader, wanted, None).await?;
        let load_time = clock::since(begin);
        let (mut instance, line) = loaded.instance("run", loader, wanted, flags).await?;
        if config.log_level >= LevelFilter::DEBUG {
            instance.keep_prints();
        }
        let declared = &instance.plugin().description.settings;
        let state = line.state_file(declared).unwrap_or_else(|| state_file(wanted, flags));
        if std::env::var_os("MACKEREL_AGENT_PLUGIN_META").is_some_and(|value| !value.is_empty()) {
            return Ok(graph::in_official_form(&instance.graphs));
        }
        let before = remembered(&state);
        let is_known = before.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
        instance.remember(before);
        let begin = clock::instant();
        let result = once(&instance).await;
        for line in instance.printed() {
            log::print(&format!("{} printed: {line}\n", instance.name()));
        }
        if explain {
            log::print(&explained(&instance, load_time, clock::since(begin)));
        }
        let answer = result.map_err(|fault| format!("{wanted}: {fault}"))?;
        for warning in &answer.warnings {
            tracing::warn!("{wanted}: {warning}");
        }
        if !answer.readings.is_empty()
            && let Err(why) = keep(&state, &answer.readings)
        {
            tracing::warn!("{why}; the next run will have no rates");
        }
        let first = answer.readings.iter().filter(|(name, _)| !is_known.contains(name)).count();
        if first > 0 {
            let counters = counted(first as u64, "counter");
            log::print(&format!(
                "{wanted}: first readings of {counters}: their rates are printed by the next run, a second later or more\n"
            ));
        }
        let epoch = clock::unix_seconds();
        let line = |(time, sample): (i64, &wasaba_core::sample::Sample)| {
            let name = sample.name().as_str();
            format!("{}\t{:.6}\t{time}\n", name.strip_prefix("custom.").unwrap_or(name), sample.value())
        };
        let samples = answer.samples.iter().map(|sample| (epoch, sample));
        let samples = samples.chain(answer.dated.iter().map(|(time, sample)| (*time, sample)));
        Ok(samples.map(line).collect::<String>() + &answer.text)
    });
    crate::cli::print(&text?)
}

/// The results of one run of everything that the plugin does.
#[derive(Default)]
struct Once {
    samples: Vec<wasaba_core::sample::Sample>,
    dated: Vec<(i64, wasaba_core::sample::Sample)>,
    readings: Vec<(String, Reading)>,
    warnings: Vec<String>,
    /// The check's report and the metadata, a line each.
    text: String,
}

async fn once(instance: &Instance) -> Result<Once, Fault> {
    let (does, mut once) = (instance.plugin().does(), Once::default());
    if does.contains(&"metrics") {
        let Answer { samples, dated, warnings, .. } = instance.collect().await?;
        once = Once { samples, dated, readings: instance.readings(), warnings, ..once };
    }
    if does.contains(&"checks") {
        let (checked, _) = instance.check().await?;
        for report in checked.reports {
            let name = if report.name.is_empty() { String::new() } else { format!("{}\t", report.name) };
            let message = printable(&report.message, 1_024);
            once.text.push_str(&format!("{name}{}\t{message}\n", report.status.word()));
        }
        once.warnings.extend(checked.warnings);
    }
    if does.contains(&"metadata") {
        let (gathered, _) = instance.metadata().await?;
        for (namespace, document) in gathered.documents {
            let name = if namespace == *instance.name() { String::new() } else { format!("{namespace}\t") };
            once.text.push_str(&format!("{name}{document}\n"));
        }
        once.warnings.extend(gathered.warnings);
    }
    Ok(once)
}

fn explained(instance: &Instance, load_time: Duration, call_time: Duration) -> String {
    let (plugin, status) = (instance.plugin(), instance.status());
    let mut text = format!("plugin:    {} {}\n", plugin.description.name, printable(&plugin.description.version, 40));
    text.push_str(&format!("digest:    sha256:{}\nimports:   {}\n", plugin.sha256, super::inspect::imports(plugin)));
    text.push_str(&format!("granted:\n{}", super::inspect::grants(instance.grants())));
    let refused = instance.meter().refused();
    text.push_str(if refused.is_empty() { "refused:\n  none\n" } else { "refused:\n" });
    refused.iter().for_each(|why| text.push_str(&format!("  {}\n", printable(why, 1_024))));
    let Status { memory_bytes, sent_bytes, received_bytes, .. } = status;
    text.push_str(&format!(
        "used:\n  time       {} to load, {} to run\n  memory     {} KiB at peak\n  \
         network    {sent_bytes} bytes sent, {received_bytes} received\n",
        duration(load_time),
        duration(call_time),
        memory_bytes >> 10
    ));
    text
}

/// The default file of the readings; a different one for different flags, as with the official plugins.
fn state_file(plugin: &str, flags: &[String]) -> PathBuf {
    let folder = std::env::var_os("MACKEREL_PLUGIN_WORKDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let stem = Path::new(plugin)
        .file_stem()
        .map(|stem| wasaba_core::sample::segment(&stem.to_string_lossy()))
        .unwrap_or_default();
    let hash = Sha256::digest(flags.join(" "));
    let hash = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect::<String>();
    folder.join(format!("wasaba-plugin-{stem}-{hash}.json"))
}

/// The readings of 10,000 counters with long names.
const LARGEST_STATE_BYTES: u64 = 4 << 20;

/// The readings of the previous run, if there was one. Others may write to the folder, so another user's file is ignored.
fn remembered(state: &Path) -> Vec<(String, Reading)> {
    let text = own::read(state, LARGEST_STATE_BYTES).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Replaces the whole file, so that a link planted in its place is not followed.
fn keep(state: &Path, readings: &[(String, Reading)]) -> Result<(), String> {
    let text = serde_json::to_vec(readings).map_err(std::io::Error::from);
    let written = text.and_then(|text| own::write(state, &text, 0o600));
    written.map_err(|error| {
        format!("cannot write the counters to `{}`: {error}; name another file with -tempfile", state.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_restored_in_the_next_run_but_not_through_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let state = temp.path().join("state");
        let readings = vec![("a".to_owned(), Reading { value: 1.0.into(), unix_millis: 2 })];
        keep(&state, &readings).unwrap();
        keep(&state, &readings).unwrap();
        assert_eq!(remembered(&state), readings);
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        assert_eq!(remembered(&link), []);
    }
}
