//! A plugin component: a `.wasm` file that was compiled, linked, asked what it is, and found to keep the contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasaba_core::limits::{Engine, Limits};
use wasaba_core::setting::Description;
use wasaba_core::text::printable;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTableError};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::answer::{Graph, Report, Sample};
use crate::capabilities::grants::Grants;
use crate::capabilities::kv::Values;
use crate::capabilities::{Guest, Instance};
use crate::compile::{Cache, read_component};
use crate::contract::bindings::exports::wasaba::plugin::{checks, metadata, metrics, plugin};
use crate::contract::{NAME as CONTRACT, VERSION as CONTRACT_VERSION, blamed, is_spoken};
use crate::failure::{Failure, Kind};
use crate::thread::{Ended, Sandbox};
use crate::{capabilities, thread};

/// The packages of WASI 0.2.
const WASI: &[&str] = &["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];

/// A plugin that is ready to be called.
pub struct Plugin {
    /// Where it was read from.
    pub file: PathBuf,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// What it says of itself.
    pub description: Description,
    /// The contract's names of the capabilities that it imports: what it might wish to do.
    pub imports: Vec<String>,
    engine: wasmtime::Engine,
    ready: InstancePre<Guest>,
    exports: Exports,
}

/// An instance's settings as the plugin gets them; shared by its calls.
pub type Settings = Arc<Vec<(String, String)>>;

/// Which of the contract's interfaces a component exports.
struct Exports {
    plugin: plugin::GuestIndices,
    metrics: Option<metrics::GuestIndices>,
    checks: Option<checks::GuestIndices>,
    metadata: Option<metadata::GuestIndices>,
}

/// How a component is to be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demands {
    /// What runs it.
    pub engine: Engine,
    /// What loading may take, and its first call.
    pub limits: Arc<Limits>,
    /// The SHA-256 that the file must have, if one was demanded.
    pub digest: Option<String>,
}

impl Plugin {
    /// Reads, compiles, links and describes the component in `file`.
    ///
    /// # Errors
    /// What is wrong with the file, as a sentence that begins with its name and says the cure.
    pub async fn load(
        sandbox: &Sandbox,
        cache: Arc<Cache>,
        demands: &Demands,
        file: &Path,
    ) -> Result<Arc<Self>, String> {
        let named = |problem: String| format!("`{}` {problem}", printable(&file.to_string_lossy(), 400));
        let engine = sandbox.engine(demands.engine, demands.limits.stack_bytes)?;
        let (blocking_engine, blocking_file, demanded) = (engine.clone(), file.to_owned(), demands.clone());
        let component = tokio::task::spawn_blocking(move || {
            let Demands { engine: kind, limits, digest } = &demanded;
            let wasm = read_component(&blocking_file, limits.component_bytes)?;
            let sha256 = crate::compile::sha256(&wasm);
            check_digest(digest.as_deref(), &sha256)?;
            check_header(&wasm)?;
            cache
                .component(*kind, &blocking_engine, &wasm, limits)
                .map(|component| (component, sha256))
                .map_err(|error| format!("cannot be used as a component: {error}"))
        });
        let (component, sha256) = component.await.map_err(|_| named("crashed the loader".into()))?.map_err(named)?;
        Self::link(sandbox, engine, &component, file, sha256, &demands.limits).await.map(Arc::new).map_err(named)
    }

    async fn link(
        sandbox: &Sandbox,
        engine: wasmtime::Engine,
        component: &Component,
        file: &Path,
        sha256: String,
        limits: &Arc<Limits>,
    ) -> Result<Self, String> {
        let interfaces = check_contract(component)?;
        check_imports(component)?;
        let mut linker = Linker::new(&engine);
        capabilities::link_all(&mut linker).map_err(|error| format!("cannot be linked: {error:#}"))?;
        let foreign = |error: wasmtime::Error| {
            format!(
                "does not keep the contract {CONTRACT}@{CONTRACT_VERSION}: {}; build it with the contract of this release",
                first_line(&format!("{error:#}"))
            )
        };
        capabilities::closed::link(&mut linker, component).map_err(foreign)?;
        let ready = linker.instantiate_pre(component).map_err(foreign)?;
        let has = |interface| interfaces.contains(&interface);
        let exports = Exports {
            plugin: plugin::GuestIndices::new(&ready).map_err(foreign)?,
            metrics: has("metrics").then(|| metrics::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
            checks: has("checks").then(|| checks::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
            metadata: has("metadata").then(|| metadata::GuestIndices::new(&ready)).transpose().map_err(foreign)?,
        };
        let description = Description::default();
        let imports = imported_capabilities(component);
        let mut loaded = Self { file: file.to_owned(), sha256, description, imports, engine, ready, exports };
        loaded.description = loaded
            .describe(sandbox, limits)
            .await
            .map_err(|failure| format!("cannot describe itself: {failure}"))?
            .map_err(foreign)?;
        check_description(&loaded.description)?;
        Ok(loaded)
    }

    /// The interfaces that it exports, beside `plugin`.
    #[must_use]
    pub fn does(&self) -> Vec<&'static str> {
        let Exports { metrics, checks, metadata, .. } = &self.exports;
        let all = [("metrics", metrics.is_some()), ("checks", checks.is_some()), ("metadata", metadata.is_some())];
        all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }

    /// What it says of itself; the inner error is an export of another shape than the contract's, which shows only now.
    async fn describe(
        &self,
        sandbox: &Sandbox,
        limits: &Arc<Limits>,
    ) -> Result<wasmtime::Result<Description>, Failure> {
        let mut call = Call::without_grants(self, limits);
        let Exports { plugin, metrics, checks, metadata } = &self.exports;
        let (plugin, metrics, checks, metadata) = (plugin.clone(), metrics.clone(), checks.clone(), metadata.clone());
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
            guest
                .call_describe(&mut call.store)
                .await
                .map(|described| Ok(described.into()))
                .map_err(|error| call.failure(&error))
        };
        ended(sandbox.run(limits.time, run).await)
    }

    /// The graphs of an instance with these settings; none if it has no metrics.
    ///
    /// # Errors
    /// The call did not come to an end.
    pub async fn graphs(
        &self,
        sandbox: &Sandbox,
        settings: Vec<(String, String)>,
        limits: &Arc<Limits>,
    ) -> Result<Vec<Graph>, Failure> {
        let Some(metrics) = self.exports.metrics.clone() else { return Ok(Vec::new()) };
        let mut call = Call::without_grants(self, limits);
        let run = async move {
            let instance = call.instantiate().await?;
            let guest = metrics.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let graphs = guest.call_graphs(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
            Ok(graphs.into_iter().map(Graph::from).collect())
        };
        ended(sandbox.run(limits.time, run).await)
    }

    /// What the plugin reads now: one call in a fresh instance. To be run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, or how the call ended.
    pub async fn collect(&self, instance: Instance, settings: Settings) -> Result<Outcome<Vec<Sample>>, Failure> {
        let mut call = Call::new(self, instance);
        let instance = call.instantiate().await?;
        let export = self.exports.metrics.as_ref().ok_or_else(|| not_there("metrics"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let answer = guest.call_collect(&mut call.store, &settings).await;
        let samples = answer.map_err(|error| call.failure(&error))?.map_err(|error| call.own_failure(&error))?;
        if samples.len() > call.limits.samples {
            let what = format!("it gave {} samples, more than {}", samples.len(), call.limits.samples);
            return Err(Failure::limit("samples", &what));
        }
        Ok(call.outcome(samples.into_iter().map(Sample::from).collect()))
    }

    /// What the plugin finds now: one call in a fresh instance. To be run in the sandbox.
    ///
    /// # Errors
    /// How the call ended.
    pub async fn check(&self, instance: Instance, settings: Settings) -> Result<Outcome<Report>, Failure> {
        let mut call = Call::new(self, instance);
        let instance = call.instantiate().await?;
        let export = self.exports.checks.as_ref().ok_or_else(|| not_there("checks"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let report = guest.call_check(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
        Ok(call.outcome(report.into()))
    }

    /// What the plugin knows now, as JSON: one call in a fresh instance. To be run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, how the call ended, or that it is no JSON.
    pub async fn metadata(
        &self,
        instance: Instance,
        settings: Settings,
    ) -> Result<Outcome<serde_json::Value>, Failure> {
        let mut call = Call::new(self, instance);
        let instance = call.instantiate().await?;
        let export = self.exports.metadata.as_ref().ok_or_else(|| not_there("metadata"))?;
        let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
        let text = guest.call_collect(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
        let text = text.map_err(|error| call.own_failure(&error))?;
        let document = serde_json::from_str(&text);
        let document =
            document.map_err(|error| Failure::new(Kind::Failed, format!("its metadata is no JSON: {error}")));
        Ok(call.outcome(document?))
    }
}

/// What came of a call that ended well.
pub struct Outcome<T> {
    /// Its answer.
    pub answer: T,
    /// What the instance keeps from now on, if the call has changed it.
    pub values: Option<Arc<Values>>,
}

/// One call: a store, which is thrown away afterwards, so that nothing leaks from call to call.
struct Call {
    store: Store<Guest>,
    ready: InstancePre<Guest>,
    limits: Arc<Limits>,
}

impl Call {
    fn without_grants(plugin: &Plugin, limits: &Arc<Limits>) -> Self {
        let name = plugin.file.file_stem().map(|stem| printable(&stem.to_string_lossy(), 100)).unwrap_or_default();
        Self::new(plugin, Instance::new(name.into(), Grants::default(), Arc::clone(limits), Vec::new()))
    }

    fn new(plugin: &Plugin, instance: Instance) -> Self {
        let limits = Arc::clone(instance.limits());
        let mut store = Store::new(&plugin.engine, Guest::new(instance));
        store.limiter(Guest::memory);
        store.set_hostcall_fuel(limits.handover_bytes);
        store.set_max_component_handles(limits.handles);
        // Each tick of the sandbox's clock lets the other plugins have their turn.
        let (mut ticks, most) = (0, limits.compute.as_millis() / thread::TICK.as_millis());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            if ticks > most { Err(ComputedTooLong.into()) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        Self { store, ready: plugin.ready.clone(), limits }
    }

    async fn instantiate(&mut self) -> Result<wasmtime::component::Instance, Failure> {
        let instance = self.ready.instantiate_async(&mut self.store).await;
        instance.map_err(|error| self.failure(&error))
    }

    fn outcome<T>(&self, answer: T) -> Outcome<T> {
        Outcome { answer, values: self.store.data().changed_values() }
    }

    /// A crash, with what the plugin said of it itself if it did.
    fn crash(&self, how: &str) -> Failure {
        let guest = self.store.data();
        let how = guest.shown(&guest.last_words().unwrap_or_else(|| how.to_owned()));
        Failure::new(Kind::Crashed, format!("it crashed ({how})"))
    }

    /// What the plugin itself says went wrong.
    fn own_failure(&self, error: &metrics::Error) -> Failure {
        let (kind, text) = blamed(error);
        Failure::new(kind, format!("{}: {}", kind.name(), self.store.data().shown(text)))
    }

    /// How the call ended, in words for the operator.
    fn failure(&self, error: &wasmtime::Error) -> Failure {
        let limits = &self.limits;
        if let Some(name) = self.store.data().memory_exceeded() {
            let most = match name {
                "memory_mib" => format!("more memory than the {} MiB", limits.memory_bytes >> 20),
                _ => format!("more table elements than the {}", limits.table_elements),
            };
            return Failure::limit(name, &format!("it wanted {most} that it may have"));
        }
        if error.is::<ComputedTooLong>() {
            return Failure::limit("compute_ms", &format!("it computed for longer than {:?}", limits.compute));
        }
        if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
            return Failure::limit("handles", &format!("it opened more than {} handles", limits.handles));
        }
        let text = format!("{error:#}");
        // wasmtime has no type for this one.
        if text.contains("too much data is being copied") {
            let most = limits.handover_bytes >> 10;
            return Failure::limit("handover_kib", &format!("it handed over more than {most} KiB at once"));
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => {
                let stack = limits.stack_bytes >> 10;
                Failure::limit("stack_kib", &format!("its functions call each other deeper than {stack} KiB of stack"))
            }
            Some(Trap::UnreachableCodeReached) => self.crash("a panic or abort inside the plugin"),
            Some(trap) => self.crash(&trap.to_string()),
            None => self.crash(first_line(&text)),
        }
    }
}

/// The way of the limit of computing through wasmtime's errors.
#[derive(Debug)]
struct ComputedTooLong;

impl std::fmt::Display for ComputedTooLong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("it computed for too long")
    }
}

impl std::error::Error for ComputedTooLong {}

/// What became of a call in the sandbox.
///
/// # Errors
/// The call's own failure, or that it did not come to an end.
pub fn ended<T>(result: Result<Result<T, Failure>, Ended>) -> Result<T, Failure> {
    result.unwrap_or_else(|ended| {
        Err(match ended {
            Ended::Late(limit) => {
                Failure::new(Kind::Late, format!("it took longer than {limit:?} (`timeout_seconds`) and was stopped"))
            }
            Ended::Panicked => {
                Failure::new(Kind::Internal, "the agent failed inside the call; this is a bug of wasaba")
            }
        })
    })
}

fn not_there(interface: &str) -> Failure {
    Failure::new(Kind::Misconfigured, format!("the plugin does not export `{CONTRACT}/{interface}`"))
}

/// Holds the file against a digest that was demanded, before anything of it is looked at.
fn check_digest(demanded: Option<&str>, found: &str) -> Result<(), String> {
    match demanded {
        Some(demanded) if demanded != found => Err(format!(
            "is not the file that was demanded: its digest is \"sha256:{found}\", not \"sha256:{demanded}\"; \
             put the right file there, or write the new digest if you trust this one"
        )),
        _ => Ok(()),
    }
}

/// What the first bytes tell, in words that the compiler does not find.
fn check_header(wasm: &[u8]) -> Result<(), String> {
    const CURE: &str =
        "build it with `cargo build --release --target wasm32-wasip2`, or your language's component tools";
    match wasm {
        [] => Err("is empty".into()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(format!("is a core module, not a component: {CURE}")),
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', ..] => Err(format!("is WebAssembly of an unknown kind, or cut off: {CURE}")),
        [0x7f, b'E', b'L', b'F', ..] => {
            Err("is machine code; the agent compiles plugins itself: put the .wasm there".into())
        }
        _ => Err(format!("is no WebAssembly file: {CURE}")),
    }
}

/// The interfaces of the contract that the component exports. Tells a missing one from one of another version; the linker's
/// own words would not.
fn check_contract(component: &Component) -> Result<Vec<&'static str>, String> {
    let component_type = component.component_type();
    let exports = component_type.exports(component.engine()).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let version_of = |interface: &str| {
        let prefix = format!("{CONTRACT}/{interface}@");
        let mut versions = exports.iter().filter_map(|name| name.strip_prefix(&prefix)).collect::<Vec<_>>();
        versions.sort_by_key(|version| !is_spoken(version));
        versions.first().map(|version| (*version).to_owned())
    };
    let mut found = Vec::new();
    for interface in ["plugin", "metrics", "checks", "metadata"] {
        match version_of(interface) {
            Some(version) if is_spoken(&version) => found.push(interface),
            Some(version) => {
                return Err(format!(
                    "speaks version {} of the contract {CONTRACT}, this agent speaks {CONTRACT_VERSION}: \
                     build the plugin with the SDK of this agent's release, or update the agent",
                    printable(&version, 40)
                ));
            }
            None if interface == "plugin" => {
                return Err(format!("is no wasaba plugin: it does not export `{CONTRACT}/plugin@{CONTRACT_VERSION}`"));
            }
            None => {}
        }
    }
    if found.len() < 2 {
        return Err(format!(
            "does nothing: beside `plugin` it must export `{CONTRACT}/metrics@{CONTRACT_VERSION}`, `checks` or `metadata`"
        ));
    }
    Ok(found)
}

/// Refuses an import that is neither the contract's nor WASI 0.2's, by its name.
fn check_imports(component: &Component) -> Result<(), String> {
    let component_type = component.component_type();
    for (name, _) in component_type.imports(component.engine()) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let known = match interface.split_once('/') {
            Some((CONTRACT, "types")) => is_spoken(version),
            Some((CONTRACT, word)) => is_spoken(version) && capabilities::ALL.iter().any(|known| known.name == word),
            Some((package, _)) => {
                let wasi = package.strip_prefix("wasi:").is_some_and(|package| WASI.contains(&package));
                wasi && version.starts_with("0.2.")
            }
            None => false,
        };
        if !known {
            return Err(format!(
                "imports `{}`, which this agent does not have: it has WASI 0.2 and {CONTRACT}@{CONTRACT_VERSION} with {}",
                printable(name, 200),
                capabilities::ALL.iter().map(|capability| capability.name).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    Ok(())
}

fn imported_capabilities(component: &Component) -> Vec<String> {
    let component_type = component.component_type();
    let imports = component_type.imports(component.engine()).map(|(name, _)| name.to_owned());
    let word = |name: String| name.strip_prefix("wasaba:plugin/")?.split('@').next().map(str::to_owned);
    let mut words = imports.filter_map(word).collect::<Vec<_>>();
    words.retain(|word| capabilities::ALL.iter().any(|capability| capability.name == word));
    words
}

fn check_description(description: &Description) -> Result<(), String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !is_name(&description.name) {
        return Err(format!(
            "describes itself with the name {:?}: letters, digits, - and _ are allowed, 64 at most",
            printable(&description.name, 80)
        ));
    }
    // It is shown, and put into the log, in many places.
    let shown = [&description.version, &description.summary].into_iter();
    let shown = shown.chain(description.settings.iter().map(|setting| &setting.help));
    if let Some(long) = shown.into_iter().find(|text| text.len() > 1_024) {
        return Err(format!("describes itself with a text of {} bytes, more than 1,024", long.len()));
    }
    if description.settings.len() > 200 {
        return Err(format!("describes {} settings, more than 200", description.settings.len()));
    }
    for setting in &description.settings {
        if !is_name(&setting.key) {
            let key = printable(&setting.key, 80);
            return Err(format!("describes a setting {key:?}: letters, digits, - and _ are allowed, 64 at most"));
        }
        if description.settings.iter().filter(|other| other.key == setting.key).count() > 1 {
            return Err(format!("describes the setting `{}` twice", setting.key));
        }
    }
    Ok(())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_component_is_told_apart_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], "is empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm", "cut off"),
            (b"\x7fELF\x02", "machine code"),
            (b"<html>", "no WebAssembly file"),
        ] {
            let error = check_header(bytes).unwrap_err();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        assert_eq!(check_header(b"\0asm\x0d\0\x01\0"), Ok(()));
    }
}
