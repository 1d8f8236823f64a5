//! What a plugin may do. One file a capability, with the same word in the contract (`wit/http.wit`), here, in the SDK and in
//! the log; each owns its grant check, its host side and its refusal tests.
//!
//! Everything is linked for every plugin, since some languages' runtimes import what they never use; a capability is a
//! grant looked at when it is used, never the presence of an import.

pub mod address;
pub mod closed;
pub mod connect;
pub mod crypto;
pub mod files;
pub mod grants;
pub mod http;
pub mod kv;
pub mod log;
pub mod meter;
pub mod script;
mod stderr;
pub mod tcp;

use std::borrow::Cow;
use std::sync::Arc;

use grants::Grants;
use meter::Meter;
use script::Script;
use tokio::sync::Semaphore;
use wasaba_core::limits::Limits;
use wasaba_core::secret::Secret;
use wasaba_core::text::printable;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What `bindgen!` makes of the contract, host side.
#[expect(missing_docs, reason = "generated from wit/, where each item is documented")]
#[allow(clippy::all, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
#[allow(unused_qualifications, unreachable_pub, reason = "generated")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "full-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "wasaba:plugin/tcp.connection": crate::capabilities::tcp::Connection },
        require_store_data_send: true,
        additional_derives: [PartialEq],
    });
}

/// A door in the sandbox.
#[derive(Debug)]
pub struct Capability {
    /// Its word.
    pub name: &'static str,
    link: fn(&mut Linker<Guest>) -> Result<()>,
}

/// Each capability of the contract. WASI stands beside them, closed.
pub const ALL: &[Capability] = &[
    Capability { name: "http", link: http::link },
    Capability { name: "tcp", link: tcp::link },
    Capability { name: "kv", link: kv::link },
    Capability { name: "log", link: log::link },
    Capability { name: "files", link: files::link },
    Capability { name: "crypto", link: crypto::link },
];

/// Links WASI 0.2, whole but closed, and every capability.
///
/// # Errors
/// A name linked twice: a bug.
pub fn link_all(linker: &mut Linker<Guest>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    ALL.iter().try_for_each(|capability| (capability.link)(linker))
}

/// On whose behalf a call is made: one plugin instance.
#[derive(Clone)]
pub struct Identity {
    /// The instance's name, for the log.
    pub name: Arc<str>,
    /// What it may do.
    pub grants: Arc<Grants>,
    /// What it may take.
    pub limits: Arc<Limits>,
    /// What it has used.
    pub meter: Arc<Meter>,
    /// Its HTTP clients.
    pub pool: Arc<http::Pool>,
    /// What must not be shown.
    pub secrets: Arc<[Secret]>,
    /// What it keeps.
    pub values: Arc<kv::Values>,
    /// The last key that was derived for it.
    pub derived: Arc<crypto::Derived>,
    /// What is there in place of the outside, in an author's tests.
    pub script: Option<Arc<Script>>,
    /// Threads that it may block at once.
    pub blocking: Arc<Semaphore>,
}

/// How many random bytes are given at once.
const RANDOM_BYTES: u64 = 64 << 10;

/// How many threads an instance may block at once: what hangs in a name server or a file system takes no more.
const BLOCKED_THREADS: usize = 2;

impl Default for Identity {
    fn default() -> Self {
        Self {
            name: "".into(),
            grants: Arc::default(),
            limits: Arc::default(),
            meter: Arc::default(),
            pool: Arc::default(),
            secrets: Arc::default(),
            values: Arc::default(),
            derived: Arc::default(),
            script: None,
            blocking: Arc::new(Semaphore::new(BLOCKED_THREADS)),
        }
    }
}

impl Identity {
    /// What the plugin said, for the log: without its secrets, cut and escaped.
    fn shown(&self, text: &str, most_bytes: usize) -> String {
        let hidden = self.secrets.iter().fold(Cow::Borrowed(text), |text, secret| secret.hidden_in(&text).into());
        printable(&hidden, most_bytes)
    }

    /// Runs `work` on a thread that may block, on this instance's account also when the call has long given up. `None` if
    /// it panicked.
    async fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let place = Arc::clone(&self.blocking).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.ok()
    }
}

/// One call's side of the host: what its capabilities know, and how much memory it has taken. Made anew for each call.
pub struct Guest {
    identity: Identity,
    open: tcp::Open,
    patience: connect::Patience,
    kv: kv::Kv,
    log: log::Log,
    iterations: crypto::Iterations,
    memory: Memory,
    stderr: stderr::Stderr,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    /// The host's side of one call.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let (limits, stderr) = (&identity.limits, stderr::Stderr::default());
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            open: tcp::Open::new(limits.connections),
            patience: connect::Patience::of_call(limits.time),
            kv: kv::Kv::new(Arc::clone(&identity.values), limits.kv_bytes),
            log: log::Log::new(&identity),
            iterations: crypto::Iterations::new(limits.pbkdf2_iterations),
            memory: Memory {
                left_bytes: limits.memory_bytes,
                left_table_elements: limits.table_elements,
                refused: None,
                meter: Arc::clone(&identity.meter),
                limit_bytes: limits.memory_bytes,
            },
            // Nothing is opened: no files, no sockets, no names, no environment, no arguments, no standard streams but one.
            // And no more random bytes at once than somebody may need, since the host makes them.
            wasi: WasiCtx::builder().stderr(stderr.clone()).max_random_size(RANDOM_BYTES).build(),
            stderr,
            table,
            identity,
        }
    }

    /// What the call has changed of what the instance keeps; counts if the call has ended well.
    #[must_use]
    pub fn changed_values(&self) -> Option<Arc<kv::Values>> {
        self.kv.changed()
    }

    /// What the call wrote last to its standard error: why it crashed, if it did.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        self.stderr.end()
    }

    /// What the plugin said of an error, as it may be shown.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        self.identity.shown(text, 1_024)
    }

    /// What bounds this call's memory; for [`wasmtime::Store::limiter`].
    pub fn memory(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// The limit of memory that the call ran into, if it did; it has then usually ended in a crash of its own.
    #[must_use]
    pub fn memory_refused(&self) -> Option<&'static str> {
        self.memory.refused
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The memory that one call may still take, over all its memories and all its tables together.
struct Memory {
    limit_bytes: usize,
    left_bytes: usize,
    left_table_elements: usize,
    /// The limit that was run into.
    refused: Option<&'static str>,
    meter: Arc<Meter>,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let granted = take(&mut self.left_bytes, current, desired);
        if !granted {
            self.refused = Some("memory_mib");
        }
        self.meter.memory(self.limit_bytes.saturating_sub(self.left_bytes));
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let granted = take(&mut self.left_table_elements, current, desired);
        if !granted {
            self.refused = Some("table_elements");
        }
        Ok(granted)
    }
}

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    let fits = desired.checked_sub(current).and_then(|growth| left.checked_sub(growth));
    if let Some(rest) = fits {
        *left = rest;
    }
    fits.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_has_one_word_in_contract_host_and_sdk() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        for Capability { name, .. } in ALL {
            for place in ["wit/{}.wit", "agent/sandbox/src/capabilities/{}.rs", "plugin-sdk/rust/src/{}.rs"] {
                let file = format!("{root}/{}", place.replace("{}", name));
                assert!(std::path::Path::new(&file).is_file(), "{file} is missing");
            }
        }
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut memory =
            Memory { limit_bytes: 100, left_bytes: 100, left_table_elements: 10, refused: None, meter: Arc::default() };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap(), "a second memory has only 40 left");
        assert_eq!(memory.refused, Some("memory_mib"));
        assert!(memory.memory_growing(60, 100, None).unwrap());
        assert_eq!(memory.meter.memory_bytes.load(std::sync::atomic::Ordering::Relaxed), 100);
        assert!(!memory.table_growing(0, 11, None).unwrap());
        assert_eq!(memory.refused, Some("table_elements"));
    }
}
