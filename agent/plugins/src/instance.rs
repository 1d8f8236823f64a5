//! The instance: one plugin with one set of settings, under its own name. The same plugin may have many.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::table::PluginTable;
pub use sandbox::answer;
use sandbox::capabilities;
use sandbox::capabilities::grants::Grants;
use sandbox::capabilities::meter::Meter;
use sandbox::capabilities::script::Script;
use sandbox::component::{Answered, Plugin, Settings, ended};
use sandbox::failure::{Circuit, Failure, Kind};
use sandbox::thread::Sandbox;
use wasaba_core::clock::{self, Stamp};
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::{Answer, StoredValues};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::limits::Limits;
use wasaba_core::text::{Dropped, first_of, printable};

use crate::readings::{self, Counters, Rules, Translation};
use crate::settings::{ResolvedSettings, lines, resolve, validate};
use crate::unloaded::Unloaded;

/// More warnings than this about one call would only fill the log.
const MOST_WARNINGS: usize = 5;

/// The key under which the memory keeps whose the values are. A plugin's own keys are not empty.
const COMPONENT: &str = "";

/// A configured plugin.
pub struct Instance {
    sandbox: Arc<Sandbox>,
    /// Which component it is of, across its releases: the name of its file, which the operator gives, and its own.
    component: String,
    sandboxed: capabilities::Instance,
    plugin: Arc<Plugin>,
    settings: Settings,
    translation: Translation,
    /// Its graph definitions, for Mackerel.
    pub graphs: Vec<GraphDefinition>,
    values: Mutex<Arc<StoredValues>>,
    circuit: Mutex<Circuit>,
    counts: Counts,
    loaded: Instant,
}

/// The counts of an instance's calls since it was loaded.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    /// In the order of [`Kind::ALL`].
    failures: [AtomicU64; Kind::ALL.len()],
    last_micros: AtomicU64,
    total_micros: AtomicU64,
    /// What the last call computed.
    computed_micros: AtomicU64,
    /// Samples, reports and documents.
    dropped: AtomicU64,
}

/// What a check found.
#[derive(Debug, Default, PartialEq)]
pub struct Checked {
    /// The reports, with the names that the plugin gives them; each once.
    pub reports: Vec<answer::Report>,
    /// Why others were dropped.
    pub warnings: Vec<String>,
}

/// What metadata was read.
#[derive(Debug, Default, PartialEq)]
pub struct Gathered {
    /// The documents, by their namespaces on Mackerel; each once.
    pub documents: Vec<(Arc<str>, serde_json::Value)>,
    /// Why others were dropped, and which targets have none.
    pub warnings: Vec<String>,
}

/// Of how many measured calls the times are returned, at most.
const MOST_TIMES: u32 = 1_000;

/// The most reports of one check.
pub const MOST_REPORTS: usize = 100;

/// The most namespaces of a host, and so of one table.
pub const MOST_DOCUMENTS: usize = 50;

/// The state of an instance at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its calls since it was loaded.
    pub calls: u64,
    /// How many of them failed, by kind, in the order of [`Kind::ALL`].
    pub failures: Vec<(&'static str, u64)>,
    /// How long the last call took, in milliseconds.
    pub last_ms: f64,
    /// How long all calls took together, in milliseconds.
    pub total_ms: f64,
    /// The peak memory of a call, in bytes.
    pub memory_bytes: u64,
    /// How much its connections have sent, in bytes.
    pub sent_bytes: u64,
    /// How much its connections have received, in bytes.
    pub received_bytes: u64,
    /// How many requests were refused for want of a grant.
    pub refusals: u64,
    /// How many samples, reports and documents were dropped.
    pub dropped: u64,
    /// Why its last call failed, if it did.
    pub failure: Option<String>,
    /// For how much longer it is skipped, if it is.
    pub skipped_for: Option<Duration>,
    /// Whether it failed because something was refused.
    pub is_denied: bool,
}

impl Instance {
    /// Resolves and validates the settings in `table`, and asks the plugin for its graph definitions.
    ///
    /// # Errors
    /// Every problem with the settings or the graphs, a line each.
    pub async fn new(sandbox: &Arc<Sandbox>, plugin: Arc<Plugin>, table: &PluginTable) -> Result<Self, Unloaded> {
        let (declared, reach) = (&plugin.description.settings, plugin.description.reach);
        let resolved = resolve(&table.raw, &table.wasm, declared);
        let resolved = resolved.map_err(|refused| lines(&table.raw, refused.problems(declared, reach)))?;
        Self::with_settings(sandbox, plugin, table, &resolved).await
    }

    /// As [`Instance::new`], with these settings instead of those in `table`.
    ///
    /// # Errors
    /// As [`Instance::new`].
    pub async fn with_settings(
        sandbox: &Arc<Sandbox>,
        plugin: Arc<Plugin>,
        table: &PluginTable,
        resolved: &ResolvedSettings,
    ) -> Result<Self, Unloaded> {
        let located = |problem: String| table.raw.problem(&problem);
        let validated = validate(&plugin.description.settings, plugin.description.reach, resolved);
        let validated = validated.map_err(|problems| lines(&table.raw, problems))?;
        let settings = Arc::new(validated.values);
        let graphs = plugin.graphs(sandbox, Arc::clone(&settings), &table.limits).await;
        let graphs = graphs.map_err(|failure| {
            Unloaded::of_call(&failure, located(format!("cannot get its graph definitions: {failure}")))
        })?;
        let posting = table.posting.clone();
        let rules = Rules::of(&graphs, &table.limits, |name| posting.renamed(name));
        let (rules, graphs) = rules
            .map_err(|problem| vec![located(format!("invalid graph definitions: {}", printable(&problem, 400)))])?;
        let name = table.name.as_str().into();
        let limits = Arc::clone(&table.limits);
        let sandboxed = capabilities::Instance::new(name, validated.grants, Arc::clone(&limits), validated.secrets);
        let translation = Translation {
            rules: Arc::new(rules),
            counters: Counters::default(),
            posting: Arc::new(posting),
            hosts: table.hosts.as_slice().into(),
            secrets: sandboxed.secrets_in_names(),
            limits,
        };
        let file = Path::new(&table.wasm).file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self {
            sandbox: Arc::clone(sandbox),
            component: format!("{file} {}", plugin.description.name),
            sandboxed,
            plugin,
            settings,
            translation,
            graphs,
            values: Mutex::default(),
            circuit: Mutex::default(),
            counts: Counts::default(),
            loaded: clock::instant(),
        })
    }

    /// Replaces the outside world with `script` and the clock with `time`, and resets the circuit.
    pub fn play(&mut self, script: Arc<Script>, time: SystemTime) {
        self.sandboxed = self.sandboxed.clone().with_script(script).with_time(time);
        lock(&self.circuit).close();
    }

    /// Keeps from now on what the plugin prints, for its author.
    pub fn keep_prints(&mut self) {
        self.sandboxed = self.sandboxed.clone().with_prints();
    }

    /// The lines that the plugin has printed since this was last asked, without secrets, if they are kept.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.sandboxed.printed()
    }

    /// How long the last call has computed: CPU time, the agent's for it included.
    #[must_use]
    pub fn computed(&self) -> Duration {
        Duration::from_micros(self.counts.computed_micros.load(Ordering::Relaxed))
    }

    /// Its name: the last part of `[plugin.metrics.NAME]`, or the file's name without `.wasm`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.sandboxed.name()
    }

    /// The plugin that it is an instance of.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// The limits of its calls.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.sandboxed.limits()
    }

    /// Its grants.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        self.sandboxed.grants()
    }

    /// Its usage and refusals.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.sandboxed.meter()
    }

    /// It is asked in every minute since 1970 that is a multiple of this.
    #[must_use]
    pub fn every_minutes(&self) -> u32 {
        self.translation.posting.every_minutes
    }

    /// The custom identifier of the host that its values belong to, if it is not this one.
    #[must_use]
    pub fn host(&self) -> Option<&Arc<str>> {
        self.translation.posting.custom_identifier.as_ref()
    }

    /// Restores the counters' readings from before this process started.
    pub fn remember(&self, readings: impl IntoIterator<Item = (String, Reading)>) {
        self.translation.counters.extend(readings);
    }

    /// The counters' last readings.
    #[must_use]
    pub fn readings(&self) -> Vec<(String, Reading)> {
        self.translation.counters.all()
    }

    /// Takes over the readings and the stored values of the instance that it replaces, if that is of the same component.
    pub fn inherit(&self, predecessor: &Self) {
        if self.component == predecessor.component {
            self.translation.counters.clone_from(&predecessor.translation.counters);
            lock(&self.values).clone_from(&lock(&predecessor.values));
        }
    }

    /// Restores the stored values from before this process started, if the same component has stored them, and not another one under
    /// this instance's name.
    pub fn restore(&self, mut values: StoredValues) {
        if values.remove(COMPONENT).is_some_and(|component| component == self.component.as_bytes()) {
            *lock(&self.values) = Arc::new(values);
        }
    }

    /// Its current state.
    #[must_use]
    pub fn status(&self) -> Status {
        let (counts, meter) = (&self.counts, self.sandboxed.meter());
        // Locked once: in the expression below, a guard would be held to its end.
        let (failure, skipped_for, is_denied) = {
            let circuit = lock(&self.circuit);
            (circuit.failure(), circuit.skipped_for(clock::since(self.loaded)), circuit.is_denied())
        };
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = Kind::ALL.iter().zip(&counts.failures).map(|(kind, count)| (kind.name(), get(count)));
        Status {
            calls: get(&counts.calls),
            failures: failures.collect(),
            last_ms: get(&counts.last_micros) as f64 / 1e3,
            total_ms: get(&counts.total_micros) as f64 / 1e3,
            memory_bytes: get(&meter.memory_bytes),
            sent_bytes: get(&meter.sent_bytes),
            received_bytes: get(&meter.received_bytes),
            refusals: meter.refusals(),
            dropped: get(&counts.dropped),
            failure,
            skipped_for,
            is_denied,
        }
    }

    /// Collects once: values with Mackerel's names, with `custom.`. An instance that keeps failing is skipped for a while, and
    /// returns its last failure meanwhile.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn collect(&self) -> Result<Answer, Failure> {
        self.collect_by(Stamp::now).await
    }

    /// As [`Instance::collect`], with the readings taken at the time that `time` returns after the call.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn collect_by(&self, time: impl FnOnce() -> Stamp + Send + 'static) -> Result<Answer, Failure> {
        let translation = self.translation.clone();
        let call = |plugin: Arc<Plugin>, sandboxed, settings| async move {
            let Answered { answer, values } = plugin.collect(sandboxed, settings).await?;
            let answer::Readings { samples, problems } = answer;
            let answer = translation.values(samples, time()).await;
            Ok(Answered { answer: (answer, problems), values })
        };
        let Answered { answer: (answer, problems), values } = self.run(call).await?;
        self.counts.dropped.fetch_add(answer.dropped, Ordering::Relaxed);
        let kept = self.kept(values);
        let mut warnings = problems.iter().map(in_words).chain(answer.warnings).collect();
        self.make_fit(&mut warnings);
        let readings::Values { samples, dated, readings, .. } = answer;
        Ok(Answer { samples, dated, readings, warnings, kept })
    }

    /// Runs the check once. Also returns what it stores from now on, if that has changed. An instance that keeps failing is
    /// skipped for a while, and returns its last failure meanwhile.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn check(&self) -> Result<(Checked, Option<Arc<StoredValues>>), Failure> {
        let outcome =
            self.run(|plugin, sandboxed, settings| async move { plugin.check(sandboxed, settings).await }).await?;
        let mut checked = Checked::default();
        let mut dropped = Dropped::hiding(&self.translation.secrets);
        for report in outcome.answer {
            let name = &report.name;
            let is_known = checked.reports.iter().any(|known| known.name == *name);
            let why = match () {
                () if checked.reports.len() >= MOST_REPORTS => "more than 100 reports",
                () if is_known => "duplicate name",
                () if self.translation.secrets.are_in(name) => "there is a secret in its name",
                () if !name.is_empty() && !is_segment(name, 64) => {
                    "invalid name: letters, digits, - and _ are allowed, 64 at most, and no - at either end"
                }
                () => {
                    checked.reports.push(report);
                    continue;
                }
            };
            dropped.add(why, name);
        }
        self.counts.dropped.fetch_add(dropped.count(), Ordering::Relaxed);
        checked.warnings.extend(dropped.lines_of("report"));
        self.make_fit(&mut checked.warnings);
        Ok((checked, self.kept(outcome.values)))
    }

    /// Reads the metadata once. Also returns what it stores from now on, if that has changed. An instance that keeps failing is
    /// skipped for a while, and returns its last failure meanwhile.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn metadata(&self) -> Result<(Gathered, Option<Arc<StoredValues>>), Failure> {
        let call = |plugin: Arc<Plugin>, sandboxed, settings| async move { plugin.metadata(sandboxed, settings).await };
        let outcome = self.run(call).await?;
        let answer::Documents { documents, problems } = outcome.answer;
        let mut gathered = Gathered { warnings: problems.iter().map(in_words).collect(), ..Gathered::default() };
        let own = self.name();
        let mut dropped = Dropped::hiding(&self.translation.secrets);
        for answer::Document { namespace, json } in documents {
            let namespace = if namespace.is_empty() { Arc::clone(own) } else { namespace.into() };
            let rest = namespace.strip_prefix(&**own);
            let is_own = rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_prefix('-').is_some_and(|segment| is_segment(segment, 254))
            });
            let why = match () {
                () if gathered.documents.len() >= MOST_DOCUMENTS => "more than 50 documents".to_owned(),
                () if gathered.documents.iter().any(|(known, _)| *known == namespace) => {
                    "duplicate namespace".to_owned()
                }
                () if self.translation.secrets.are_in(&namespace) => "there is a secret in its name".to_owned(),
                () if !is_own => format!("invalid namespace: a plugin's own is `{own}`, or `{own}-` and more"),
                () => {
                    gathered.documents.push((namespace, json));
                    continue;
                }
            };
            dropped.add(why, &namespace);
        }
        self.counts.dropped.fetch_add(dropped.count(), Ordering::Relaxed);
        gathered.warnings.extend(dropped.lines_of("document"));
        self.make_fit(&mut gathered.warnings);
        Ok((gathered, self.kept(outcome.values)))
    }

    /// One call in the sandbox, unless the circuit is open; the counts and the circuit record the result.
    async fn run<T: Send + 'static, C: Future<Output = Result<Answered<T>, Failure>> + Send + 'static>(
        &self,
        call: impl FnOnce(Arc<Plugin>, capabilities::Instance, Settings) -> C,
    ) -> Result<Answered<T>, Failure> {
        let now = clock::since(self.loaded);
        lock(&self.circuit).ask(now)?;
        let (plugin, sandboxed, settings) = self.parts();
        let call = call(plugin, sandboxed, settings);
        let (result, computed) = self.sandbox.run_measured(self.limits().time, self.limits().compute, call).await;
        self.counts.computed_micros.store(micros(computed), Ordering::Relaxed);
        self.counted(ended(result), now)
    }

    /// Cuts the warnings of one call, and hides secrets in what the plugin named.
    fn make_fit(&self, warnings: &mut Vec<String>) {
        *warnings = first_of(std::mem::take(warnings), MOST_WARNINGS);
        warnings.iter_mut().for_each(|warning| *warning = self.sandboxed.hidden(warning));
    }

    /// Stores what a call has set, if it has set something, for the next call. Returns what the memory keeps: also whose it is.
    fn kept(&self, values: Option<Arc<StoredValues>>) -> Option<Arc<StoredValues>> {
        let values = values?;
        *lock(&self.values) = Arc::clone(&values);
        let mut kept = StoredValues::clone(&values);
        kept.insert(COMPONENT.to_owned(), self.component.clone().into_bytes());
        Some(Arc::new(kept))
    }

    /// Counts a call that began at `began`, since the instance was loaded.
    fn counted<T>(&self, result: Result<Answered<T>, Failure>, began: Duration) -> Result<Answered<T>, Failure> {
        let now = clock::since(self.loaded);
        let micros = micros(now.saturating_sub(began));
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        self.counts.last_micros.store(micros, Ordering::Relaxed);
        self.counts.total_micros.fetch_add(micros, Ordering::Relaxed);
        match result {
            Ok(outcome) => {
                lock(&self.circuit).close();
                Ok(outcome)
            }
            Err(failure) => {
                let counters = Kind::ALL.iter().zip(&self.counts.failures);
                for (_, counter) in counters.filter(|(kind, _)| **kind == failure.kind) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(lock(&self.circuit).fail(failure, now))
            }
        }
    }

    fn parts(&self) -> (Arc<Plugin>, capabilities::Instance, Settings) {
        let sandboxed = self.sandboxed.clone().with_values(Arc::clone(&lock(&self.values)));
        (Arc::clone(&self.plugin), sandboxed, Arc::clone(&self.settings))
    }

    /// How long `calls` calls take, one after the other, each from creating the component's instance to dropping it. Of many
    /// calls only about 1,000 are returned, so that the list takes little memory.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn time(&self, calls: u32) -> Result<Vec<Duration>, Failure> {
        let every = calls.div_ceil(MOST_TIMES);
        let [limit, compute] = [self.limits().time, self.limits().compute].map(|each| each.saturating_mul(calls));
        let (plugin, sandboxed, settings) = self.parts();
        let timed = async move {
            let mut times = Vec::new();
            for call in 0..calls {
                let begin = clock::instant();
                drop(plugin.collect(sandboxed.clone(), Arc::clone(&settings)).await?);
                if call.is_multiple_of(every) {
                    times.push(clock::since(begin));
                }
            }
            Ok(times)
        };
        ended(self.sandbox.run(limit, compute, timed).await)
    }

    /// How long `calls` collections take, one after the other, each as in a minute of the agent: on the sandbox's threads, and with the
    /// values that are made of the samples. Of many only about 1,000 are returned.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn time_whole(&self, calls: u32) -> Result<Vec<Duration>, Failure> {
        let every = calls.div_ceil(MOST_TIMES);
        let mut times = Vec::new();
        for call in 0..calls {
            let begin = clock::instant();
            drop(self.collect().await?);
            if call.is_multiple_of(every) {
                times.push(clock::since(begin));
            }
        }
        Ok(times)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A target without values.
fn in_words(problem: &answer::Problem) -> String {
    format!("{}: {}", problem.target, problem.failure)
}

/// Whether it can follow the name of a table and a dash, in the name of a check or in a namespace: Mackerel takes it, and it has no
/// further dash at an end.
fn is_segment(text: &str, most_bytes: usize) -> bool {
    let has_ends = !text.is_empty() && !text.starts_with('-') && !text.ends_with('-');
    has_ends
        && text.len() <= most_bytes
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_plugin_adds_to_its_tables_has_no_dash_at_either_end() {
        for good in ["a", "a-b", "a_", "0"] {
            assert!(is_segment(good, 3), "{good:?} was refused");
        }
        for bad in ["", "-", "a-", "-a", "a.b", "abcd"] {
            assert!(!is_segment(bad, 3), "{bad:?} was accepted");
        }
    }
}
