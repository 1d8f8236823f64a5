//! An instance: one plugin with one set of settings, under a name of its own. The same plugin may have many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::component::{Identity, Plugin, ended};
use super::readings::{Rules, values};
use super::sandbox::Sandbox;
use super::settings::{Written, check};
use crate::capabilities::bindings::exports::wasaba::plugin::metrics;
use crate::capabilities::limits::Limits;
use crate::collect::rate::Reading;
use crate::collect::{Answer, Fault};
use crate::graph::GraphDefinition;
use crate::sample::Sample;

/// A configured plugin.
pub struct Instance {
    identity: Identity,
    plugin: Arc<Plugin>,
    settings: Arc<Vec<(String, String)>>,
    rules: Rules,
    /// What Mackerel is told of its graphs.
    pub graphs: Vec<GraphDefinition>,
    /// The counters' last readings, by metric name without `custom.`.
    readings: Mutex<HashMap<String, Reading>>,
}

impl Instance {
    /// Checks the settings and asks the plugin for its graphs.
    ///
    /// # Errors
    /// Every problem with the settings or the graphs, a line each.
    pub async fn new(
        sandbox: &Sandbox,
        plugin: Arc<Plugin>,
        name: &str,
        written: &Written,
        limits: Limits,
    ) -> Result<Self, Vec<String>> {
        let checked = check(&plugin.description.settings, written)?;
        let graphs = plugin.graphs(sandbox, checked.values.clone()).await;
        let graphs = graphs.map_err(|fault| vec![format!("cannot tell its graphs: {fault}")])?;
        let (rules, graphs) = Rules::of(&graphs).map_err(|problem| vec![format!("tells a wrong graph: {problem}")])?;
        let identity = Identity {
            name: name.into(),
            grants: Arc::new(checked.grants),
            pool: Arc::default(),
            limits: Arc::new(limits),
        };
        let readings = Mutex::default();
        Ok(Self { identity, plugin, settings: Arc::new(checked.values), rules, graphs, readings })
    }

    /// Its name: the last part of `[plugin.metrics.NAME]`, or the file's name without `.wasm`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.identity.name
    }

    /// How long a call may take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.identity.limits
    }

    /// Takes over the counters' readings of a time before this process.
    pub fn remember(&self, readings: impl IntoIterator<Item = (String, Reading)>) {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).extend(readings);
    }

    /// Reads once: values named as Mackerel knows them, with `custom.`.
    ///
    /// # Errors
    /// The plugin's own error, or how the call ended.
    pub async fn collect(&self, sandbox: &Sandbox) -> Result<Answer, Fault> {
        let samples = ended(sandbox.run(self.limits().time, self.call()).await)?;
        let mut before = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let values = values(&self.rules, &before, samples, unix_millis(SystemTime::now()));
        before.clone_from(&values.readings);
        let mut answer = Answer { complaints: values.complaints, ..Answer::default() };
        answer.readings.extend(values.readings);
        for sample in values.samples {
            match Sample::new(format!("custom.{}", sample.name()), sample.value()) {
                Ok(sample) => answer.samples.push(sample),
                Err(error) => answer.complaints.push(error.to_string()),
            }
        }
        Ok(answer)
    }

    /// One call of the plugin, to be run in the sandbox.
    fn call(&self) -> impl Future<Output = Result<Vec<metrics::Sample>, Fault>> + Send + 'static {
        let (plugin, identity, settings) =
            (Arc::clone(&self.plugin), self.identity.clone(), Arc::clone(&self.settings));
        async move { plugin.collect(identity, settings).await }
    }

    /// How long each of `calls` calls takes, one after the other, from the making of the instance to its end.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn time(&self, sandbox: &Sandbox, calls: u32) -> Result<Vec<Duration>, Fault> {
        let (limit, mut pending) = (self.limits().time.saturating_mul(calls), Vec::new());
        pending.resize_with(usize::try_from(calls).unwrap_or(usize::MAX), || self.call());
        let timed = async move {
            let mut times = Vec::with_capacity(pending.len());
            for call in pending {
                let begin = Instant::now();
                drop(call.await?);
                times.push(begin.elapsed());
            }
            Ok(times)
        };
        ended(sandbox.run(limit, timed).await)
    }
}

fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}
