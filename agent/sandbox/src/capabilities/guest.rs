//! The guest: the host's side of one call, and what each capability sees of it.

use std::sync::Arc;

use wasaba_core::clock;
use wasaba_core::collect::StoredValues;
use wasaba_core::secret::Secret;
use wasaba_core::text::printable;
use wasmtime::ResourceLimiter;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::instance::Instance;
use super::memory::{Budget, Memory, Share};
use super::stderr::Stderr;
use super::types::Handle;
use super::{call, connect, crypto, files, http, kv, log, tcp, types, wasi};

/// How many random bytes the host makes at once.
const RANDOM_BYTES: u64 = 64 << 10;

/// How much of an error's text is shown.
const SHOWN_BYTES: usize = 1_024;

/// The host's side of one call: made for it, and dropped after it.
pub(crate) struct Guest {
    instance: Instance,
    call: call::OfCall,
    connections: Arc<connect::OfCall>,
    names: Arc<wasi::Names>,
    kv: kv::OfCall,
    log: log::OfCall,
    crypto: crypto::OfCall,
    memory: Memory,
    files: files::OfCall,
    stderr: Stderr,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    /// The host's side of one call of `instance`, which begins now.
    pub(crate) fn new(instance: Instance) -> Self {
        let (state, printed) = (&instance.state, instance.printed.as_ref());
        let stderr = Stderr::hiding(state.secrets.clone()).shown_in(printed);
        let mut wasi = WasiCtx::builder();
        if printed.is_some() {
            wasi.stdout(Stderr::hiding(state.secrets.clone()).shown_in(printed));
        }
        let limits = &state.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let began = instance.time.unwrap_or_else(clock::wall);
        let budget = Budget::new(limits.memory_bytes, Arc::clone(&state.meter));
        Self {
            call: call::OfCall::new(Arc::clone(limits), began),
            connections: Arc::new(connect::OfCall::new(limits.connections, limits.time, budget.clone())),
            names: Arc::default(),
            kv: kv::OfCall::new(Arc::clone(&instance.values), limits.kv_bytes, clock::millis_of(began)),
            log: log::OfCall::new(Arc::clone(&state.log), limits.log_lines, clock::instant())
                .noted_in(instance.script.clone()),
            crypto: crypto::OfCall::new(limits.pbkdf2_iterations),
            memory: Memory::new(limits, budget),
            files: files::OfCall::default(),
            // Nothing is opened: no files, no environment, no arguments, and of the standard streams only what is shown. Sockets and names
            // are not WasiCtx's, but `wasi`'s.
            wasi: wasi.stderr(stderr.clone()).max_random_size(RANDOM_BYTES).build(),
            stderr,
            table,
            instance,
        }
    }

    pub(super) fn secrets(&mut self) -> types::View<'_> {
        types::View { instance: &self.instance.state.types, table: &mut self.table }
    }

    pub(super) fn http(&mut self) -> http::View<'_> {
        let Instance { state, script, .. } = &self.instance;
        http::View {
            instance: &state.http,
            connections: &self.connections,
            table: &mut self.table,
            script: script.as_deref(),
        }
    }

    pub(super) fn tcp(&mut self) -> tcp::View<'_> {
        let Instance { state, script, .. } = &self.instance;
        tcp::View {
            instance: &state.tcp,
            connections: &self.connections,
            table: &mut self.table,
            script: script.as_deref(),
        }
    }

    pub(super) fn wasi(&mut self) -> wasi::View<'_> {
        let Instance { state, script, .. } = &self.instance;
        wasi::View {
            http: &state.http,
            tcp: &state.tcp,
            connections: &self.connections,
            names: &self.names,
            log: &mut self.log,
            table: &mut self.table,
            script: script.as_ref(),
        }
    }

    pub(super) fn kv(&mut self) -> &mut kv::OfCall {
        &mut self.kv
    }

    pub(super) fn log(&mut self) -> &mut log::OfCall {
        &mut self.log
    }

    pub(super) fn files(&mut self) -> files::View<'_> {
        let Instance { state, script, .. } = &self.instance;
        files::View { instance: &state.files, call: &self.files, table: &mut self.table, script: script.as_deref() }
    }

    pub(super) fn crypto(&mut self) -> crypto::View<'_> {
        crypto::View { instance: &self.instance.state.crypto, call: &mut self.crypto, table: &mut self.table }
    }

    pub(super) fn call(&mut self) -> &mut call::OfCall {
        &mut self.call
    }

    /// A handle of `secret` for the plugin.
    ///
    /// # Errors
    /// The call has more handles than it may.
    pub(crate) fn handle(&mut self, secret: &Secret) -> Result<Resource<Handle>, ResourceTableError> {
        self.table.push(Handle(secret.clone()))
    }

    /// The stored values, if the call has changed them; they count only if the call succeeds.
    pub(crate) fn changed_values(&self) -> Option<Arc<StoredValues>> {
        self.kv.changed()
    }

    /// The end of what the call wrote to its standard error, safe to show and without secrets: why it crashed, if it did.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.stderr.end().map(|end| printable(&end, SHOWN_BYTES))
    }

    /// A text of the plugin, safe to show and without secrets.
    pub(crate) fn shown(&self, text: &str) -> String {
        printable(&self.hidden(text, SHOWN_BYTES), SHOWN_BYTES)
    }

    /// A text of the plugin without secrets: its beginning, at least `most_bytes` if it has so many.
    pub(crate) fn hidden(&self, text: &str, most_bytes: usize) -> String {
        self.instance.state.secrets.hidden_in(text, most_bytes)
    }

    /// Counts so many bytes that the agent takes for the plugin as its memory, until the share is dropped.
    ///
    /// # Errors
    /// They exceed the limit.
    pub(crate) fn hold(&self, bytes: usize) -> wasmtime::Result<Share> {
        self.connections.budget.hold(bytes)
    }

    /// What limits this call's memory; for [`wasmtime::Store::limiter`].
    pub(crate) fn memory(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// The name of the memory limit that the call exceeded, if it did. Most plugins crash then.
    pub(crate) fn memory_exceeded(&self) -> Option<&'static str> {
        self.memory.exceeded()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
