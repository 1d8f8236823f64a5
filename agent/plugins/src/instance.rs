//! An instance: one plugin with one set of settings, under a name of its own. The same plugin may have many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::table::PluginTable;
use sandbox::answer;
use sandbox::capabilities;
use sandbox::capabilities::grants::Grants;
use sandbox::capabilities::kv::Values;
use sandbox::capabilities::meter::Meter;
use sandbox::capabilities::script::Script;
use sandbox::component::{Outcome, Plugin, Settings, ended};
use sandbox::failure::{Circuit, Failure, Kind};
use sandbox::thread::Sandbox;
use wasaba_core::clock;
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::{Answer, Kept};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::limits::Limits;
use wasaba_core::posting::Posting;
use wasaba_core::sample::Sample;
use wasaba_core::text::printable;

use crate::readings::{Rules, values};
use crate::settings::{resolve, validate};

/// A configured plugin.
pub struct Instance {
    sandbox: Arc<Sandbox>,
    identity: capabilities::Instance,
    plugin: Arc<Plugin>,
    settings: Settings,
    rules: Rules,
    posting: Posting,
    /// What Mackerel is told of its graphs.
    pub graphs: Vec<GraphDefinition>,
    /// The counters' last readings, by the plugin's own names.
    readings: Mutex<HashMap<String, Reading>>,
    values: Mutex<Arc<Values>>,
    circuit: Mutex<Circuit>,
    counts: Counts,
    loaded: Instant,
}

/// What an instance's calls came to, since it was loaded.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    /// In the order of [`Kind::ALL`].
    failures: [AtomicU64; Kind::ALL.len()],
    last_micros: AtomicU64,
    total_micros: AtomicU64,
}

/// How an instance is doing, at a glance.
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
    /// The most memory that a call had, in bytes.
    pub memory_bytes: u64,
    /// What its connections have sent and received, in bytes.
    pub sent_bytes: u64,
    /// See `sent_bytes`.
    pub received_bytes: u64,
    /// How often a wish was refused.
    pub refusals: u64,
    /// What is wrong, if its last call failed.
    pub trouble: Option<String>,
}

impl Instance {
    /// Checks the settings in `table` and asks the plugin for its graphs.
    ///
    /// # Errors
    /// Every problem with the settings or the graphs, a line each.
    pub async fn new(sandbox: &Arc<Sandbox>, plugin: Arc<Plugin>, table: &PluginTable) -> Result<Self, Vec<String>> {
        let at_place = |problem: String| table.raw.problem(&problem);
        let declared = &plugin.description.settings;
        let resolved = resolve(&table.raw, &table.wasm, declared).map_err(|problem| vec![at_place(problem)])?;
        let validated = validate(declared, &resolved);
        let validated = validated.map_err(|problems| problems.into_iter().map(at_place).collect::<Vec<_>>())?;
        let graphs = plugin.graphs(sandbox, validated.values.clone(), &table.limits).await;
        let graphs =
            graphs.map_err(|failure| vec![at_place(format!("cannot get its graph definitions: {failure}"))])?;
        let posting = table.posting.clone();
        let rules = Rules::of(&graphs, |name| posting.renamed(name));
        let (rules, graphs) =
            rules.map_err(|problem| vec![at_place(format!("tells a wrong graph: {}", printable(&problem, 400)))])?;
        let name = table.name.as_str().into();
        let limits = Arc::clone(&table.limits);
        let identity = capabilities::Instance::new(name, validated.grants, limits, validated.secrets);
        Ok(Self {
            sandbox: Arc::clone(sandbox),
            identity,
            plugin,
            settings: Arc::new(validated.values),
            rules,
            posting,
            graphs,
            readings: Mutex::default(),
            values: Mutex::default(),
            circuit: Mutex::default(),
            counts: Counts::default(),
            loaded: Instant::now(),
        })
    }

    /// From now on `script` stands in place of the outside, and failures before it count no more.
    pub fn play(&mut self, script: Arc<Script>) {
        self.identity = self.identity.clone().with_script(script);
        lock(&self.circuit).close();
    }

    /// Its name: the last part of `[plugin.metrics.NAME]`, or the file's name without `.wasm`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.identity.name()
    }

    /// What it is an instance of.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// What its calls may take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.identity.limits()
    }

    /// What it may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        self.identity.grants()
    }

    /// What it has used and was refused.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.identity.meter()
    }

    /// It is asked in every minute that this divides.
    #[must_use]
    pub fn every_minutes(&self) -> u32 {
        self.posting.every_minutes
    }

    /// The custom identifier of the host that its values are of, if it is not this one.
    #[must_use]
    pub fn host(&self) -> Option<&Arc<str>> {
        self.posting.custom_identifier.as_ref()
    }

    /// Takes over the counters' readings of a time before this process.
    pub fn remember(&self, readings: impl IntoIterator<Item = (String, Reading)>) {
        lock(&self.readings).extend(readings);
    }

    /// Takes over the readings and what was kept from the instance in whose place it runs.
    pub fn inherit(&self, predecessor: &Self) {
        lock(&self.readings).clone_from(&lock(&predecessor.readings));
        lock(&self.values).clone_from(&lock(&predecessor.values));
    }

    /// Takes over what it kept before.
    pub fn keep(&self, values: Arc<Values>) {
        *lock(&self.values) = values;
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (counts, meter) = (&self.counts, self.identity.meter());
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
            trouble: lock(&self.circuit).failure(),
        }
    }

    /// Reads once: values named as Mackerel knows them, with `custom.`. An instance that keeps failing is left alone for a
    /// while, and fails meanwhile as it did.
    ///
    /// # Errors
    /// The plugin's own error, or how the call ended.
    pub async fn collect(&self) -> Result<Answer, Failure> {
        self.collect_by(clock::wall).await
    }

    /// As [`Instance::collect`], with the readings taken at the time that `clock` tells then.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn collect_by(&self, time: impl FnOnce() -> SystemTime) -> Result<Answer, Failure> {
        let outcome =
            self.run(|plugin, identity, settings| async move { plugin.collect(identity, settings).await }).await?;
        let now_millis = clock::millis_of(time());
        let mut before = lock(&self.readings);
        let values = values(&self.rules, &before, outcome.answer, now_millis);
        // A counter that is not there this time, since its target is down, may go on where it was.
        before.retain(|_, reading| reading.is_fresh(now_millis));
        before.extend(values.readings);
        let kept = self.kept(outcome.values);
        let mut answer = Answer { warnings: values.complaints, kept, ..Answer::default() };
        answer.readings.extend(before.iter().map(|(name, reading)| (name.clone(), *reading)));
        drop(before);
        for sample in values.samples {
            let name = self.posting.renamed(sample.name().as_str());
            if !self.posting.wants(&name) {
                continue;
            }
            if name.len() > self.limits().name_bytes {
                let most = self.limits().name_bytes;
                answer.warnings.push(format!("a name of {} bytes, more than {most} (limit `name_bytes`)", name.len()));
                continue;
            }
            match Sample::new(format!("custom.{name}"), sample.value()) {
                Ok(sample) => answer.samples.push(match self.host() {
                    Some(host) => sample.of_host(host),
                    None => sample,
                }),
                Err(error) => answer.warnings.push(error.to_string()),
            }
        }
        // A plugin that gets every name wrong shall not fill the log with them.
        let (shown, all) = (5, answer.warnings.len());
        if all > shown {
            answer.warnings.truncate(shown);
            answer.warnings.push(format!("and {} more", all - shown));
        }
        Ok(answer)
    }

    /// Checks once; and what it keeps from now on, if that has changed. One that keeps failing is left
    /// alone for a while, and fails meanwhile as it did.
    ///
    /// # Errors
    /// How the call ended.
    pub async fn check(&self) -> Result<(answer::Report, Option<Kept>), Failure> {
        let outcome =
            self.run(|plugin, identity, settings| async move { plugin.check(identity, settings).await }).await?;
        Ok((outcome.answer, self.kept(outcome.values)))
    }

    /// Reads the metadata once; and what it keeps from now on, if that has changed. One that keeps failing is left alone for a
    /// while, and fails meanwhile as it did.
    ///
    /// # Errors
    /// The plugin's own error, or how the call ended.
    pub async fn metadata(&self) -> Result<(serde_json::Value, Option<Kept>), Failure> {
        let call = |plugin: Arc<Plugin>, identity, settings| async move { plugin.metadata(identity, settings).await };
        let outcome = self.run(call).await?;
        Ok((outcome.answer, self.kept(outcome.values)))
    }

    /// One call in the sandbox, unless the circuit is open; counted, and judged by the circuit.
    async fn run<T: Send + 'static, C: Future<Output = Result<Outcome<T>, Failure>> + Send + 'static>(
        &self,
        call: impl FnOnce(Arc<Plugin>, capabilities::Instance, Settings) -> C,
    ) -> Result<Outcome<T>, Failure> {
        let now = self.loaded.elapsed();
        lock(&self.circuit).ask(now)?;
        let (plugin, identity, settings) = self.parts();
        let result = self.sandbox.run(self.limits().time, call(plugin, identity, settings)).await;
        self.counted(ended(result), now)
    }

    /// Takes over what a call has set, if it has set something.
    fn kept(&self, values: Option<Kept>) -> Option<Kept> {
        if let Some(values) = &values {
            *lock(&self.values) = Arc::clone(values);
        }
        values
    }

    /// Counts a call that began at `began`, since the instance was loaded.
    fn counted<T>(&self, result: Result<Outcome<T>, Failure>, began: Duration) -> Result<Outcome<T>, Failure> {
        let now = self.loaded.elapsed();
        let micros = u64::try_from(now.saturating_sub(began).as_micros()).unwrap_or(u64::MAX);
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
        let identity = self.identity.clone().with_values(Arc::clone(&lock(&self.values)));
        (Arc::clone(&self.plugin), identity, Arc::clone(&self.settings))
    }

    /// How long `calls` calls take, one after the other, each from the making of the instance to its end. Of many only every
    /// so many are told, so that the telling takes no memory.
    ///
    /// # Errors
    /// As [`Instance::collect`].
    pub async fn time(&self, calls: u32) -> Result<Vec<Duration>, Failure> {
        const MOST_TOLD: u32 = 1_000;
        let every = calls.div_ceil(MOST_TOLD);
        let limit = self.limits().time.saturating_mul(calls);
        let (plugin, identity, settings) = self.parts();
        let timed = async move {
            let mut times = Vec::new();
            for call in 0..calls {
                let begin = Instant::now();
                drop(plugin.collect(identity.clone(), Arc::clone(&settings)).await?);
                if call.is_multiple_of(every) {
                    times.push(begin.elapsed());
                }
            }
            Ok(times)
        };
        ended(self.sandbox.run(limit, timed).await)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
