//! A plugin component: a `.wasm` file that was compiled, linked, asked what it is, and found to keep the contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Store, Trap};

use super::compile::{Cache, read_component};
use super::engine::Engine;
use super::sandbox::{Ended, Sandbox};
use crate::capabilities::bindings::exports::wasaba::plugin::{metrics, plugin};
use crate::capabilities::grants::Grants;
use crate::capabilities::http::Pool;
use crate::capabilities::limits::Limits;
use crate::capabilities::{self, Guest};
use crate::collect::Fault;

/// The contract that this agent speaks, as its name stands in components.
const CONTRACT: &str = "wasaba:plugin";
const CONTRACT_VERSION: &str = "0.1.0";

/// A `.wasm` file larger than this is refused; a Python interpreter's is 18 MB.
const LARGEST_FILE_BYTES: u64 = 64 << 20;

/// A plugin that is ready to be called.
pub struct Plugin {
    /// Where it was read from.
    pub file: PathBuf,
    /// What it says of itself.
    pub description: plugin::Description,
    /// The contract's names of the capabilities that it imports: what it might wish to do.
    pub imports: Vec<String>,
    engine: wasmtime::Engine,
    ready: InstancePre<Guest>,
    plugin: plugin::GuestIndices,
    metrics: metrics::GuestIndices,
}

impl Plugin {
    /// Reads, compiles, links and describes the component in `file`.
    ///
    /// # Errors
    /// What is wrong with the file, as a sentence that begins with its name and says the cure.
    pub async fn load(sandbox: &Sandbox, cache: Arc<Cache>, kind: Engine, file: &Path) -> Result<Arc<Self>, String> {
        let named = |problem: String| format!("`{}` {problem}", file.display());
        let engine = sandbox.engine(kind)?;
        let (blocking_engine, blocking_file) = (engine.clone(), file.to_owned());
        let component = tokio::task::spawn_blocking(move || {
            let wasm = read_component(&blocking_file, LARGEST_FILE_BYTES)?;
            check_header(&wasm)?;
            cache
                .component(kind, &blocking_engine, &wasm)
                .map_err(|error| format!("cannot be used as a component: {error}"))
        });
        let component = component.await.map_err(|_| named("crashed the loader".into()))?.map_err(named)?;
        Self::link(sandbox, engine, &component, file).await.map(Arc::new).map_err(named)
    }

    async fn link(
        sandbox: &Sandbox,
        engine: wasmtime::Engine,
        component: &Component,
        file: &Path,
    ) -> Result<Self, String> {
        check_contract(component)?;
        let mut linker = Linker::new(&engine);
        capabilities::link_all(&mut linker).map_err(|error| format!("cannot be linked: {error:#}"))?;
        let ready = linker.instantiate_pre(component).map_err(|error| {
            format!("imports something that this agent does not have: {}", first_line(&format!("{error:#}")))
        })?;
        let foreign = |error| format!("does not keep the contract {CONTRACT}@{CONTRACT_VERSION}: {error:#}");
        let plugin = plugin::GuestIndices::new(&ready).map_err(foreign)?;
        let metrics = metrics::GuestIndices::new(&ready).map_err(foreign)?;
        let description = plugin::Description {
            name: String::new(),
            version: String::new(),
            summary: String::new(),
            settings: Vec::new(),
            attributes: Vec::new(),
        };
        let imports = imported_capabilities(component);
        let mut loaded = Self { file: file.to_owned(), description, imports, engine, ready, plugin, metrics };
        loaded.description =
            loaded.describe(sandbox).await.map_err(|fault| format!("cannot describe itself: {fault}"))?;
        check_description(&loaded.description)?;
        Ok(loaded)
    }

    async fn describe(&self, sandbox: &Sandbox) -> Result<plugin::Description, Fault> {
        let (mut call, plugin) = (Call::without_grants(self), self.plugin.clone());
        let limit = call.limits.time;
        let run = async move {
            let instance = call.instantiate().await?;
            let guest = plugin.load(&mut call.store, &instance).map_err(|error| call.fault(&error))?;
            guest.call_describe(&mut call.store).await.map_err(|error| call.fault(&error))
        };
        ended(sandbox.run(limit, run).await)
    }

    /// The graphs of an instance with these settings.
    ///
    /// # Errors
    /// The call did not come to an end.
    pub async fn graphs(
        &self,
        sandbox: &Sandbox,
        settings: Vec<(String, String)>,
    ) -> Result<Vec<metrics::Graph>, Fault> {
        let (mut call, metrics) = (Call::without_grants(self), self.metrics.clone());
        let limit = call.limits.time;
        let run = async move {
            let instance = call.instantiate().await?;
            let guest = metrics.load(&mut call.store, &instance).map_err(|error| call.fault(&error))?;
            guest.call_graphs(&mut call.store, &settings).await.map_err(|error| call.fault(&error))
        };
        ended(sandbox.run(limit, run).await)
    }

    /// What the plugin reads now: one call in a fresh instance. To be run in the sandbox.
    ///
    /// # Errors
    /// The plugin's own error, or how the call ended.
    pub async fn collect(
        &self,
        identity: Identity,
        settings: Arc<Vec<(String, String)>>,
    ) -> Result<Vec<metrics::Sample>, Fault> {
        let mut call = Call::new(self, identity);
        let instance = call.instantiate().await?;
        let guest = self.metrics.load(&mut call.store, &instance).map_err(|error| call.fault(&error))?;
        let answer = guest.call_collect(&mut call.store, &settings).await;
        let samples = answer.map_err(|error| call.fault(&error))?.map_err(|error| plugin_fault(&error))?;
        if samples.len() > call.limits.samples {
            let (given, limit) = (samples.len(), call.limits.samples);
            return Err(Fault(format!("it gave {given} samples, more than the {limit} that are allowed")));
        }
        Ok(samples)
    }
}

/// On whose behalf a call is made.
#[derive(Clone)]
pub struct Identity {
    /// The instance's name, for the log.
    pub name: Arc<str>,
    /// What it may do.
    pub grants: Arc<Grants>,
    /// Its connections.
    pub pool: Arc<Pool>,
    /// What it may take.
    pub limits: Arc<Limits>,
}

/// One call: a store, which is thrown away afterwards, so that nothing leaks from call to call.
struct Call {
    store: Store<Guest>,
    ready: InstancePre<Guest>,
    limits: Arc<Limits>,
}

impl Call {
    fn without_grants(plugin: &Plugin) -> Self {
        let name = plugin.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let identity =
            Identity { name: name.into(), grants: Arc::default(), pool: Arc::default(), limits: Arc::default() };
        Self::new(plugin, identity)
    }

    fn new(plugin: &Plugin, identity: Identity) -> Self {
        let Identity { name, grants, pool, limits } = identity;
        let mut store = Store::new(&plugin.engine, Guest::new(&name, &grants, &pool, &limits));
        store.limiter(Guest::memory);
        store.set_hostcall_fuel(limits.handover_bytes);
        // Each tick of the sandbox's clock lets the other plugins have their turn; the wall clock ends the call.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Self { store, ready: plugin.ready.clone(), limits }
    }

    async fn instantiate(&mut self) -> Result<wasmtime::component::Instance, Fault> {
        let instance = self.ready.instantiate_async(&mut self.store).await;
        instance.map_err(|error| self.fault(&error))
    }

    /// How the call ended, in words for the operator.
    fn fault(&self, error: &wasmtime::Error) -> Fault {
        if self.store.data().memory_refused() {
            let mebibytes = self.limits.memory_bytes >> 20;
            return Fault(format!("it wanted more memory than the {mebibytes} MiB that it may have"));
        }
        Fault(match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => "it crashed (a panic or abort inside the plugin)".into(),
            Some(Trap::StackOverflow) => "it crashed (stack overflow: endless recursion?)".into(),
            Some(trap) => format!("it crashed ({trap})"),
            None => format!("it crashed ({})", first_line(&format!("{error:#}"))),
        })
    }
}

/// What became of a call in the sandbox.
///
/// # Errors
/// The call's own fault, or that it did not come to an end.
pub fn ended<T>(result: Result<Result<T, Fault>, Ended>) -> Result<T, Fault> {
    result.unwrap_or_else(|ended| {
        Err(Fault(match ended {
            Ended::Late(limit) => format!("it took longer than {limit:?} and was stopped"),
            Ended::Panicked => "the agent failed inside the call; this is a bug of wasaba".into(),
        }))
    })
}

fn plugin_fault(error: &metrics::Error) -> Fault {
    let shown = |text: &String| capabilities::log::printable(text, 1_024);
    Fault(match error {
        metrics::Error::Misconfigured(text) => format!("misconfigured: {}", shown(text)),
        metrics::Error::Unreachable(text) => format!("unreachable: {}", shown(text)),
        metrics::Error::Denied(text) => format!("denied: {}", shown(text)),
        metrics::Error::Failed(text) => format!("failed: {}", shown(text)),
    })
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

/// Tells a missing interface from one of another version; the linker's own words would not.
fn check_contract(component: &Component) -> Result<(), String> {
    let component_type = component.component_type();
    let engine = component.engine();
    let exports = component_type.exports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    for interface in ["plugin", "metrics"] {
        let prefix = format!("{CONTRACT}/{interface}@");
        let versions = exports.iter().filter_map(|name| name.strip_prefix(&prefix)).collect::<Vec<_>>();
        if versions.iter().any(|version| version.starts_with("0.1.")) {
            continue;
        }
        return Err(match versions.first() {
            Some(version) => format!(
                "speaks version {version} of the contract {CONTRACT}, this agent speaks {CONTRACT_VERSION}: \
                 build the plugin with the SDK of this agent's release, or update the agent"
            ),
            None => format!("is no wasaba plugin: it does not export `{CONTRACT}/{interface}@{CONTRACT_VERSION}`"),
        });
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

fn check_description(description: &plugin::Description) -> Result<(), String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !is_name(&description.name) {
        return Err(format!(
            "describes itself with the name {:?}: letters, digits, - and _ are allowed",
            description.name
        ));
    }
    for setting in &description.settings {
        if !is_name(&setting.key) {
            return Err(format!("describes a setting {:?}: letters, digits, - and _ are allowed", setting.key));
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
