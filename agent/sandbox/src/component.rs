//! A plugin component: a `.wasm` file that was compiled, linked, asked to describe itself, and found to keep the contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasaba_core::document::LONGEST_BYTES;
use wasaba_core::limits::{Engine, Limits};
use wasaba_core::setting::{Description, SettingValue};
use wasaba_core::text::printable;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::answer::{Document, Documents, Graph, Problem, Readings, Report};
use crate::call::Call;
pub use crate::call::{Answered, ended};
use crate::capabilities::grants::Grants;
use crate::capabilities::{self, Guest, Instance};
use crate::compile::{Cache, Compiler, sha256};
use crate::contract::{Exports, Gathered};
use crate::failure::{Failure, Kind};
use crate::load::{self, LoadError, foreign};
use crate::thread::Sandbox;

/// A plugin that is ready to be called.
pub struct Plugin {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// What it says of itself.
    pub description: Description,
    /// The words of the capabilities that it imports: what it might do, if it is granted.
    pub imports: Vec<String>,
    /// The doors of WASI that it imports, by the words of `reach`.
    doors: Vec<(&'static str, &'static str)>,
    engine: wasmtime::Engine,
    ready: InstancePre<Guest>,
    does: Vec<&'static str>,
    exports: Arc<dyn Exports>,
}

/// An instance's settings as the plugin gets them; shared by its calls.
pub type Settings = Arc<Vec<(String, SettingValue)>>;

/// The most bytes of a check's message that are read.
const MESSAGE_BYTES: usize = 4_096;

/// The most bytes of a text of a document that are read: a document has at most 100,000.
const DOCUMENT_TEXT_BYTES: usize = 100_000;

/// How a component must be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demands {
    /// What runs it.
    pub engine: Engine,
    /// What loading may take, and the first call.
    pub limits: Arc<Limits>,
    /// The SHA-256 that the file must have, if one is configured. With one, it does not matter who could have written the file.
    pub digest: Option<String>,
    /// Whether the file may be any user's, since its path was typed by whoever runs this command.
    pub is_typed: bool,
}

/// A place among those that are loaded at once.
pub struct Place {
    places: Arc<Semaphore>,
    /// `None` while it is left.
    held: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Waits for one of these places.
    pub async fn of(places: Arc<Semaphore>) -> Self {
        let mut place = Self { places, held: None };
        place.take().await;
        place
    }

    fn leave(&mut self) {
        self.held = None;
    }

    /// Waits for a place again.
    async fn take(&mut self) {
        // No one closes the semaphore.
        self.held = Arc::clone(&self.places).acquire_owned().await.ok();
    }
}

/// Where a plugin is loaded from, and how.
#[derive(Clone)]
struct Source {
    engine: wasmtime::Engine,
    cache: Arc<Cache>,
    demands: Demands,
    file: PathBuf,
}

impl Source {
    /// The linked plugin, if the cache has it.
    fn cached(&self) -> Result<Option<Plugin>, load::Problem> {
        self.cached_of(&self.read()?)
    }

    /// The linked plugin, compiled. Its bytes are read again: they were not kept while it waited for the compiler, and one before it
    /// may have compiled the same.
    fn compiled(&self, compiler: &Compiler) -> Result<Plugin, load::Problem> {
        let read = self.read()?;
        if let Some(linked) = self.cached_of(&read)? {
            return Ok(linked);
        }
        let (wasm, sha256) = read;
        let Demands { engine: kind, limits, .. } = &self.demands;
        self.cache.compiled(compiler, *kind, &self.engine, &wasm, limits, |component| self.link(component, &sha256))
    }

    fn cached_of(&self, (wasm, sha256): &(Vec<u8>, String)) -> Result<Option<Plugin>, load::Problem> {
        let Demands { engine: kind, limits, .. } = &self.demands;
        self.cache.cached(*kind, &self.engine, wasm, limits, |component| self.link(component, sha256))
    }

    /// The file's bytes and their SHA-256.
    fn read(&self) -> Result<(Vec<u8>, String), load::Problem> {
        let Demands { limits, digest, is_typed, .. } = &self.demands;
        let wasm = load::read(&self.file, *is_typed || digest.is_some(), limits.component_bytes)?;
        let sha256 = sha256(&wasm);
        load::check_digest(digest.as_deref(), &sha256)?;
        load::check_header(&wasm)?;
        Ok((wasm, sha256))
    }

    fn link(&self, component: &Component, sha256: &str) -> Result<Plugin, load::Problem> {
        Plugin::link(self.engine.clone(), component, &self.file, sha256.to_owned())
    }
}

/// Does `work` on a thread that may block. Linking is part of it, too, since how long that takes depends on the component.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, load::Problem> + Send + 'static,
) -> Result<T, load::Problem> {
    let crashed = || load::Problem::Agent("crashed the loader; this is a bug in wasaba".into());
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(crashed()))
}

impl Plugin {
    /// Reads, compiles, links and describes the component in `file`. Leaves `place` while it waits for a compiler.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn load(
        sandbox: &Sandbox,
        cache: Arc<Cache>,
        demands: &Demands,
        file: &Path,
        mut place: Place,
    ) -> Result<Arc<Self>, LoadError> {
        let error = |problem| LoadError { file: file.to_owned(), problem };
        let engine = sandbox.engine(demands.engine, demands.limits.stack_bytes);
        let engine = engine.map_err(|why| error(load::Problem::Agent(format!("cannot be run: {why}"))))?;
        let source = Source { engine, cache, demands: demands.clone(), file: file.to_owned() };
        let cached = source.clone();
        let linked = match blocking(move || cached.cached()).await.map_err(error)? {
            Some(linked) => linked,
            None => {
                place.leave();
                let compiler = source.cache.compiler().await;
                place.take().await;
                blocking(move || source.compiled(&compiler)).await.map_err(error)?
            }
        };
        linked.described(sandbox, &demands.limits).await.map(Arc::new).map_err(error)
    }

    /// Asks a linked plugin to describe itself.
    async fn described(mut self, sandbox: &Sandbox, limits: &Arc<Limits>) -> Result<Self, load::Problem> {
        self.description = self.describe(sandbox, limits).await.map_err(load::Problem::Describe)??;
        load::check_description(&self.description)?;
        load::check_reach(&self.description, &mut self.imports, &self.doors)?;
        Ok(self)
    }

    fn link(
        engine: wasmtime::Engine,
        component: &Component,
        file: &Path,
        sha256: String,
    ) -> Result<Self, load::Problem> {
        let (version, interfaces) = load::check_contract(component)?;
        load::check_imports(component)?;
        let mut linker = Linker::new(&engine);
        let linked = capabilities::link_wasi(&mut linker).and_then(|()| (version.link)(&mut linker));
        linked.map_err(|error| load::Problem::Agent(format!("cannot be linked: {error:#}")))?;
        capabilities::closed::link(&mut linker, component).map_err(foreign)?;
        let ready = linker.instantiate_pre(component).map_err(foreign)?;
        let exports = Arc::from((version.exports)(&ready, &interfaces).map_err(foreign)?);
        let does = interfaces.into_iter().filter(|interface| *interface != "about").collect();
        let (description, imports) = (Description::default(), load::imported_capabilities(component));
        let doors = load::imported_doors(component);
        Ok(Self { file: file.to_owned(), sha256, description, imports, doors, engine, ready, does, exports })
    }

    /// The interfaces that it exports besides `about`.
    #[must_use]
    pub fn does(&self) -> Vec<&'static str> {
        self.does.clone()
    }

    /// What it says of itself. The inner error is what is wrong with it.
    async fn describe(
        &self,
        sandbox: &Sandbox,
        limits: &Arc<Limits>,
    ) -> Result<Result<Description, load::Problem>, Failure> {
        let (mut call, exports) = (self.call_without_grants(limits), Arc::clone(&self.exports));
        ended(sandbox.run(limits.time, limits.compute, async move { exports.describe(&mut call).await }).await)
    }

    /// The graphs of an instance with these settings; none if the plugin has no metrics.
    ///
    /// # Errors
    /// How the call failed.
    pub async fn graphs(
        &self,
        sandbox: &Sandbox,
        settings: Settings,
        limits: &Arc<Limits>,
    ) -> Result<Vec<Graph>, Failure> {
        if !self.does.contains(&"metrics") {
            return Ok(Vec::new());
        }
        let (mut call, exports) = (self.call_without_grants(limits), Arc::clone(&self.exports));
        ended(sandbox.run(limits.time, limits.compute, async move { exports.graphs(&mut call, &settings).await }).await)
    }

    /// Collects the readings of `instance`: one call in a fresh component instance. Must run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn collect(&self, instance: Instance, settings: Settings) -> Result<Answered<Readings>, Failure> {
        let mut call = self.call(instance);
        let mut readings = self.exports.collect(&mut call, &settings).await?;
        if readings.samples.len() > call.limits.samples {
            let what = format!("returned {} samples, more than {}", readings.samples.len(), call.limits.samples);
            return Err(Failure::limit("samples", &what));
        }
        readings.problems = shown(&call, readings.problems);
        Ok(call.outcome(readings))
    }

    /// Runs the checks of `instance`: one call in a fresh component instance. Must run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn check(&self, instance: Instance, settings: Settings) -> Result<Answered<Vec<Report>>, Failure> {
        let mut call = self.call(instance);
        let mut reports = self.exports.check(&mut call, &settings).await?;
        for report in &mut reports {
            report.message = call.store.data().hidden(&report.message, MESSAGE_BYTES);
        }
        Ok(call.outcome(reports))
    }

    /// Reads the metadata of `instance`: one call in a fresh component instance. Must run in the sandbox. A document that is invalid JSON
    /// or too long is one of the problems.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn metadata(&self, instance: Instance, settings: Settings) -> Result<Answered<Documents>, Failure> {
        let mut call = self.call(instance);
        let Gathered { documents: texts, mut problems } = self.exports.gather(&mut call, &settings).await?;
        // Read, a text takes many times its length.
        let bytes = texts.iter().map(|(_, json)| json.len().min(LONGEST_BYTES)).sum::<usize>();
        let held = call.store.data().hold(bytes.saturating_mul(BYTES_OF_VALUE_PER_BYTE_OF_TEXT));
        let _held = held.map_err(|error| call.failure(&error))?;
        let mut documents = Vec::new();
        for (namespace, text) in texts {
            match json(&text) {
                Ok(mut json) => {
                    without_secrets(&call, &mut json);
                    documents.push(Document { namespace, json });
                }
                Err(failure) => problems.push(Problem { target: namespace, failure }),
            }
        }
        let problems = shown(&call, problems);
        Ok(call.outcome(Documents { documents, problems }))
    }

    fn call(&self, instance: Instance) -> Call {
        Call::new(&self.engine, &self.ready, instance)
    }

    fn call_without_grants(&self, limits: &Arc<Limits>) -> Call {
        let name = self.file.file_stem().map(|stem| printable(&stem.to_string_lossy(), 100)).unwrap_or_default();
        self.call(Instance::new(name.into(), Grants::default(), Arc::clone(limits), Vec::new()))
    }
}

/// The value of `0,0,0`, the worst that there is.
const BYTES_OF_VALUE_PER_BYTE_OF_TEXT: usize = 18;

/// The JSON of a document.
fn json(text: &str) -> Result<serde_json::Value, Failure> {
    if text.len() > LONGEST_BYTES {
        let why = format!("its document has {} bytes, more than the {LONGEST_BYTES} that Mackerel accepts", text.len());
        return Err(Failure::new(Kind::TooLarge, why));
    }
    serde_json::from_str(text)
        .map_err(|error| Failure::new(Kind::Failed, format!("its document is invalid JSON: {error}")))
}

/// More problems than this of one call would only fill the log.
const MOST_PROBLEMS: usize = 20;

/// The plugin's problems, safe to show.
fn shown(call: &Call, problems: Vec<Problem>) -> Vec<Problem> {
    let shown = |Problem { target, failure }| {
        let target = printable(&call.store.data().hidden(&target, 255), 255);
        Problem { target, failure: call.returned(failure) }
    };
    problems.into_iter().take(MOST_PROBLEMS).map(shown).collect()
}

/// Hides secrets in every text of a document.
fn without_secrets(call: &Call, json: &mut serde_json::Value) {
    let hidden = |text: &str| call.store.data().hidden(text, DOCUMENT_TEXT_BYTES);
    match json {
        serde_json::Value::String(text) => *text = hidden(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| without_secrets(call, value)),
        serde_json::Value::Object(object) => {
            for (key, mut value) in std::mem::take(object) {
                without_secrets(call, &mut value);
                object.insert(hidden(&key), value);
            }
        }
        serde_json::Value::Number(number) => {
            let text = number.to_string();
            let shown = hidden(&text);
            if shown != text {
                *json = serde_json::Value::String(shown);
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::engine;
    use crate::thread::{Ended, TICK};

    /// A plugin of a version of the contract that is not released, see `contract/v0_3.rs`.
    const NEXT: &str = r#"(component
        (import "wasaba:plugin/log@0.3.0" (instance $log (export "write" (func (param "line" string)))))
        (core module $code
            (memory (export "memory") 1)
            (data (i32.const 0) "next")
            (data (i32.const 8) "9.0")
            (data (i32.const 16) "next.value")
            (data (i32.const 32) "good")
            ;; The description: pointer and length of name and version.
            (data (i32.const 64) "\00\00\00\00\04\00\00\00\08\00\00\00\03\00\00\00")
            ;; A list with the graph `next`, and its one element.
            (data (i32.const 96) "\68\00\00\00\01\00\00\00\00\00\00\00\04\00\00\00")
            ;; A list with a sample, and the sample: name, 1.5, quality.
            (data (i32.const 128) "\88\00\00\00\01\00\00\00")
            (data (i32.const 136) "\10\00\00\00\0a\00\00\00\00\00\00\00\00\00\f8\3f\20\00\00\00\04\00\00\00")
            (func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "describe") (result i32) (i32.const 64))
            (func (export "graphs") (param i32 i32) (result i32) (i32.const 96))
            (func (export "collect") (param i32 i32) (result i32) (i32.const 128)))
        (core instance $code (instantiate $code))
        (alias core export $code "memory" (core memory $memory))
        (alias core export $code "allocate" (core func $allocate))
        (type $description (record (field "name" string) (field "version" string)))
        (func $describe (result $description) (canon lift (core func $code "describe") (memory (core memory $memory))))
        (instance $about (export "description" (type $description)) (export "describe" (func $describe)))
        (export "wasaba:plugin/about@0.3.0" (instance $about))
        (type $sample (record (field "name" string) (field "value" float64) (field "quality" string)))
        (func $graphs (param "settings" (list (tuple string string))) (result (list string))
            (canon lift (core func $code "graphs") (memory (core memory $memory)) (realloc (core func $allocate))))
        (func $collect (param "settings" (list (tuple string string))) (result (list $sample))
            (canon lift (core func $code "collect") (memory (core memory $memory)) (realloc (core func $allocate))))
        (instance $metrics
            (export "sample" (type $sample)) (export "graphs" (func $graphs)) (export "collect" (func $collect)))
        (export "wasaba:plugin/metrics@0.3.0" (instance $metrics)))"#;

    /// A plugin of the released version.
    const RELEASED: &str = include_str!("../../../tests/checks/failing.wat");

    async fn linked(sandbox: &Sandbox, text: &str) -> Result<Plugin, load::Problem> {
        let engine = engine::for_compiling(Engine::Pulley).unwrap();
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let linked = Plugin::link(engine, &component, Path::new("a.wasm"), String::new())?;
        linked.described(sandbox, &Arc::default()).await
    }

    #[tokio::test]
    async fn two_versions_of_the_contract_are_supported_side_by_side() {
        let sandbox = Sandbox::start().unwrap();
        let (next, released) = (linked(&sandbox, NEXT).await.unwrap(), linked(&sandbox, RELEASED).await.unwrap());
        assert_eq!((next.description.name.as_str(), next.does()), ("next", vec!["metrics"]));
        assert_eq!((released.description.name.as_str(), released.does()), ("failing", vec!["checks"]));
        let limits = Arc::default();
        let graphs = next.graphs(&sandbox, Settings::default(), &limits).await.unwrap();
        assert_eq!(graphs.first().map(|graph| graph.name.as_str()), Some("next"));
        let identity = Instance::new("next".into(), Grants::default(), Arc::clone(&limits), Vec::new());
        let call = async move { next.collect(identity, Settings::default()).await };
        let readings = ended(sandbox.run(limits.time, limits.compute, call).await).unwrap().answer;
        let sample = readings.samples.first().unwrap();
        assert_eq!((sample.name.as_str(), sample.value.as_f64()), ("next.value", 1.5));
        assert_eq!(sample.labels, [("quality".to_owned(), "good".to_owned())], "the field that 0.2 does not have");
    }

    #[tokio::test]
    async fn a_component_that_speaks_another_version_or_two_at_once_is_refused_with_the_versions() {
        let sandbox = Sandbox::start().unwrap();
        let older = RELEASED.replace("@0.2.0", "@0.1.0");
        let problem = linked(&sandbox, &older).await.err().unwrap().to_string();
        assert!(
            problem.contains("was built for version 0.1.0") && problem.contains("this agent supports 0.2.0"),
            "{problem}"
        );
        let mixed = NEXT.replace("metrics@0.3.0", "metrics@0.2.0");
        let problem = linked(&sandbox, &mixed).await.err().unwrap().to_string();
        assert!(problem.contains("metrics` of version 0.2.0, but `about` of 0.3.0"), "{problem}");
    }

    /// The released plugin, whose check calls `log.write` this often in a row with all that may be handed over at once: without a loop
    /// or a function of its own, it meets no epoch.
    fn straight(calls: usize) -> String {
        let log = r#"
            (import "wasaba:plugin/log@0.2.0" (instance $log
                (type $words (enum "debug" "info" "warning" "error"))
                (export "level" (type $level (eq $words)))
                (export "write" (func (param "level" $level) (param "line" string)))))
            (alias export $log "write" (func $write))
            (core module $lines (memory (export "memory") 130))
            (core instance $lines (instantiate $lines))
            (alias core export $lines "memory" (core memory $line))
            (core func $write (canon lower (func $write) (memory $line)))
            (core module $code
                (import "log" "write" (func $write (param i32 i32 i32)))"#;
        let write = "(call $write (i32.const 0) (i32.const 0) (i32.const 8000000))".repeat(calls);
        RELEASED
            .replacen("(core module $code", log, 1)
            .replace("unreachable))", &format!("{write} unreachable))"))
            .replace(
                "(instantiate $code)",
                r#"(instantiate $code (with "log" (instance (export "write" (func $write)))))"#,
            )
    }

    #[tokio::test]
    async fn a_plugin_that_meets_no_epoch_is_stopped_where_the_host_returns_to_it() {
        let sandbox = Sandbox::start().unwrap();
        let plugin = Arc::new(linked(&sandbox, &straight(4_000)).await.unwrap());
        let run = async |limit, compute| {
            let limits = Arc::new(Limits { log_lines: 1, ..Limits::default() });
            let instance = Instance::new("straight".into(), Grants::default(), limits, Vec::new());
            let (called, identity) = (Arc::clone(&plugin), instance.clone());
            let call = async move { called.check(identity, Settings::default()).await.map(drop) };
            let ended = sandbox.run(limit, compute, call).await;
            // The call is there until its turn ends.
            while Arc::strong_count(&plugin) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (ended, instance.meter().dropped_lines.load(Ordering::Relaxed))
        };
        let (long, short) = (Duration::from_secs(600), TICK * 10);
        let (ended, lines) = run(long, short).await;
        assert_eq!(ended, Err(Ended::Computed(short)), "after {lines} lines");
        let (ended, lines) = run(TICK * 50, long).await;
        assert!(ended.is_err() && lines < 3_900, "a call that timed out went on for {lines} lines: {ended:?}");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_compiler_has_no_place_among_those_that_are_loaded_and_keeps_no_bytes() {
        let (sandbox, root) = (Sandbox::start().unwrap(), tempfile::tempdir().unwrap());
        let cache = Arc::new(Cache::open(root.path(), Vec::new()));
        let (one, _two) = (cache.compiler().await, cache.compiler().await);
        let places = Arc::new(Semaphore::new(1));
        let file = root.path().join("a.wasm");
        std::fs::write(&file, wat::parse_str(RELEASED).unwrap()).unwrap();
        let demands = Demands { is_typed: true, ..Demands::default() };
        let place = Place::of(Arc::clone(&places)).await;
        let load = Plugin::load(&sandbox, Arc::clone(&cache), &demands, &file, place);
        let mut load = std::pin::pin!(load);
        let is_left = async {
            while places.available_permits() == 0 {
                let some = tokio::time::timeout(Duration::from_millis(1), &mut load).await;
                assert!(some.is_err(), "it waits for a compiler");
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), is_left).await.is_ok(), "it keeps its place");
        // Whoever is in the cache is loaded meanwhile.
        let place = Place::of(places).await;
        assert!(place.held.is_some());
        drop(place);
        std::fs::remove_file(&file).unwrap();
        drop(one);
        let error = load.as_mut().await.err().unwrap();
        assert!(matches!(error.problem, load::Problem::Unreadable(_)), "it is read again: {error}");
    }
}
