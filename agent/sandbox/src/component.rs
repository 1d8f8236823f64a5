//! A plugin component: a `.wasm` file that was compiled, linked, asked to describe itself, and found to keep the contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasaba_core::limits::{Engine, Limits};
use wasaba_core::setting::Description;
use wasaba_core::text::printable;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::answer::{Graph, Report, Sample};
use crate::call::{Call, not_exported};
pub use crate::call::{Outcome, ended};
use crate::capabilities::grants::Grants;
use crate::capabilities::{self, Guest, Instance};
use crate::compile::{Cache, sha256};
use crate::contract;
use crate::contract::bindings::exports::wasaba::plugin::{checks, metadata, metrics, plugin};
use crate::failure::{Failure, Kind};
use crate::load::{self, LoadError, Problem};
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
    engine: wasmtime::Engine,
    ready: InstancePre<Guest>,
    exports: Exports,
}

/// An instance's settings as the plugin gets them; shared by its calls.
pub type Settings = Arc<Vec<(String, String)>>;

/// Which of the contract's interfaces a component exports.
#[derive(Clone)]
struct Exports {
    plugin: plugin::GuestIndices,
    metrics: Option<metrics::GuestIndices>,
    checks: Option<checks::GuestIndices>,
    metadata: Option<metadata::GuestIndices>,
}

/// How a component must be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demands {
    /// What runs it.
    pub engine: Engine,
    /// What loading may take, and the first call.
    pub limits: Arc<Limits>,
    /// The SHA-256 that the file must have, if one is configured.
    pub digest: Option<String>,
}

impl Plugin {
    /// Reads, compiles, links and describes the component in `file`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn load(
        sandbox: &Sandbox,
        cache: Arc<Cache>,
        demands: &Demands,
        file: &Path,
    ) -> Result<Arc<Self>, LoadError> {
        let error = |problem| LoadError { file: file.to_owned(), problem };
        let engine = sandbox.engine(demands.engine, demands.limits.stack_bytes);
        let engine = engine.map_err(|why| error(Problem::Agent(format!("cannot be run: {why}"))))?;
        let (blocking_engine, blocking_file, demanded) = (engine, file.to_owned(), demands.clone());
        let linked = tokio::task::spawn_blocking(move || {
            let Demands { engine: kind, limits, digest } = &demanded;
            let wasm = load::read(&blocking_file, limits.component_bytes)?;
            let sha256 = sha256(&wasm);
            load::check_digest(digest.as_deref(), &sha256)?;
            load::check_header(&wasm)?;
            let component = cache.component(*kind, &blocking_engine, &wasm, limits).map_err(Problem::Compile)?;
            // Here too, since how long it takes depends on the component.
            Self::link(blocking_engine, &component, &blocking_file, sha256)
        });
        let crashed = || Problem::Agent("crashed the loader; this is a bug in wasaba".into());
        let mut loaded = linked.await.unwrap_or_else(|_| Err(crashed())).map_err(error)?;
        let described = loaded.describe(sandbox, &demands.limits).await;
        let described = described.map_err(|failure| error(Problem::Describe(failure)))?;
        loaded.description = described.map_err(|why| error(foreign(why)))?;
        load::check_description(&loaded.description).map_err(error)?;
        Ok(Arc::new(loaded))
    }

    fn link(engine: wasmtime::Engine, component: &Component, file: &Path, sha256: String) -> Result<Self, Problem> {
        let interfaces = load::check_contract(component)?;
        load::check_imports(component)?;
        let mut linker = Linker::new(&engine);
        capabilities::link_all(&mut linker).map_err(|error| Problem::Agent(format!("cannot be linked: {error:#}")))?;
        capabilities::closed::link(&mut linker, component).map_err(foreign)?;
        let ready = linker.instantiate_pre(component).map_err(foreign)?;
        let has = |interface| interfaces.contains(&interface);
        let exports = Exports {
            plugin: plugin::GuestIndices::new(&ready).map_err(foreign)?,
            metrics: has("metrics").then(|| metrics::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
            checks: has("checks").then(|| checks::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
            metadata: has("metadata").then(|| metadata::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
        };
        let (description, imports) = (Description::default(), load::imported_capabilities(component));
        Ok(Self { file: file.to_owned(), sha256, description, imports, engine, ready, exports })
    }

    /// The interfaces that it exports besides `plugin`.
    #[must_use]
    pub fn does(&self) -> Vec<&'static str> {
        let Exports { metrics, checks, metadata, .. } = &self.exports;
        let all = [("metrics", metrics.is_some()), ("checks", checks.is_some()), ("metadata", metadata.is_some())];
        all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }

    /// What it says of itself. The inner error is an export of another shape than the contract's, which is found only now.
    async fn describe(
        &self,
        sandbox: &Sandbox,
        limits: &Arc<Limits>,
    ) -> Result<wasmtime::Result<Description>, Failure> {
        let mut call = self.call_without_grants(limits);
        let Exports { plugin, metrics, checks, metadata } = self.exports.clone();
        let run = async move {
            let instance = call.instantiate().await?;
            let loaded = (|| {
                metrics.map(|export| export.load(&mut call.store, &instance)).transpose()?;
                checks.map(|export| export.load(&mut call.store, &instance)).transpose()?;
                metadata.map(|export| export.load(&mut call.store, &instance)).transpose()?;
                plugin.load(&mut call.store, &instance)
            })();
            let guest = match loaded {
                Ok(guest) => guest,
                Err(error) => return Ok(Err(error)),
            };
            let described = guest.call_describe(&mut call.store).await;
            described.map(|described| Ok(described.into())).map_err(|error| call.failure(&error))
        };
        ended(sandbox.run(limits.time, limits.compute, run).await)
    }

    /// The graphs of an instance with these settings; none if the plugin has no metrics.
    ///
    /// # Errors
    /// How the call failed.
    pub async fn graphs(
        &self,
        sandbox: &Sandbox,
        settings: Vec<(String, String)>,
        limits: &Arc<Limits>,
    ) -> Result<Vec<Graph>, Failure> {
        let Some(metrics) = self.exports.metrics.clone() else { return Ok(Vec::new()) };
        let mut call = self.call_without_grants(limits);
        let run = async move {
            let instance = call.instantiate().await?;
            let guest = metrics.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let graphs = guest.call_graphs(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
            Ok(graphs.into_iter().map(Graph::from).collect())
        };
        ended(sandbox.run(limits.time, limits.compute, run).await)
    }

    /// Collects the samples of `instance`: one call in a fresh component instance. Must run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, or how the call failed.
    pub async fn collect(&self, instance: Instance, settings: Settings) -> Result<Outcome<Vec<Sample>>, Failure> {
        let mut call = self.call(instance);
        let instance = call.instantiate().await?;
        let export = self.exports.metrics.as_ref().ok_or_else(|| not_exported("metrics"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let answer = guest.call_collect(&mut call.store, &settings).await;
        let samples = answer.map_err(|error| call.failure(&error))?.map_err(|error| call.returned(&error))?;
        if samples.len() > call.limits.samples {
            let what = format!("returned {} samples, more than {}", samples.len(), call.limits.samples);
            return Err(Failure::limit("samples", &what));
        }
        Ok(call.outcome(samples.into_iter().map(Sample::from).collect()))
    }

    /// Runs the check of `instance`: one call in a fresh component instance. Must run in the sandbox.
    ///
    /// # Errors
    /// How the call failed.
    pub async fn check(&self, instance: Instance, settings: Settings) -> Result<Outcome<Report>, Failure> {
        let mut call = self.call(instance);
        let instance = call.instantiate().await?;
        let export = self.exports.checks.as_ref().ok_or_else(|| not_exported("checks"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let report = guest.call_check(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
        Ok(call.outcome(report.into()))
    }

    /// Reads the metadata of `instance`: one call in a fresh component instance. Must run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, how the call failed, or that the metadata is invalid JSON.
    pub async fn metadata(
        &self,
        instance: Instance,
        settings: Settings,
    ) -> Result<Outcome<serde_json::Value>, Failure> {
        let mut call = self.call(instance);
        let instance = call.instantiate().await?;
        let export = self.exports.metadata.as_ref().ok_or_else(|| not_exported("metadata"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let text = guest.call_collect(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
        let text = text.map_err(|error| call.returned(&error))?;
        let document = serde_json::from_str(&text);
        let document =
            document.map_err(|error| Failure::new(Kind::Failed, format!("invalid JSON in its metadata: {error}")));
        Ok(call.outcome(document?))
    }

    fn call(&self, instance: Instance) -> Call {
        Call::new(&self.engine, &self.ready, instance)
    }

    fn call_without_grants(&self, limits: &Arc<Limits>) -> Call {
        let name = self.file.file_stem().map(|stem| printable(&stem.to_string_lossy(), 100)).unwrap_or_default();
        self.call(Instance::new(name.into(), Grants::default(), Arc::clone(limits), Vec::new()))
    }
}

/// The linker's error of a component that does not keep the contract.
fn foreign(error: wasmtime::Error) -> Problem {
    Problem::Contract(format!(
        "does not keep the contract {}@{}: {}; build it with the contract of this release",
        contract::NAME,
        contract::VERSION,
        format!("{error:#}").lines().next().unwrap_or_default()
    ))
}
