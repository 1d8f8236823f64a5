//! What a plugin may do. One file a capability, with the same word in the contract (`wit/http.wit`), here, in the SDK and in
//! the log; each owns its grant check, its host side and its refusal tests.
//!
//! Everything is linked for every plugin, since some languages' runtimes import what they never use; a capability is a
//! grant looked at when it is used, never the presence of an import.

pub mod address;
pub mod grants;
pub mod http;
pub mod limits;
pub mod log;

use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use grants::Grants;
use limits::Limits;

/// What `bindgen!` makes of the contract, host side.
#[expect(missing_docs, reason = "generated from wit/, where each item is documented")]
#[allow(clippy::all, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
#[allow(unused_qualifications, unreachable_pub, reason = "generated")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "metrics-plugin",
        imports: { default: async },
        exports: { default: async },
        require_store_data_send: true,
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
pub const ALL: &[Capability] =
    &[Capability { name: "http", link: http::link }, Capability { name: "log", link: log::link }];

/// Links WASI 0.2, whole but closed, and every capability.
///
/// # Errors
/// A name linked twice: a bug.
pub fn link_all(linker: &mut Linker<Guest>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    ALL.iter().try_for_each(|capability| (capability.link)(linker))
}

/// One call's side of the host: what its capabilities know, and how much memory it has taken. Made anew for each call.
pub struct Guest {
    http: http::Http,
    log: log::Log,
    memory: Memory,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    /// The host's side of one call by the instance `name`, with these grants.
    #[must_use]
    pub fn new(name: &Arc<str>, grants: &Arc<Grants>, pool: &Arc<http::Pool>, limits: &Limits) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            http: http::Http::new(Arc::clone(grants), Arc::clone(pool), limits.body_bytes),
            log: log::Log::new(Arc::clone(name), limits),
            memory: Memory {
                left_bytes: limits.memory_bytes,
                left_table_elements: limits.table_elements,
                refused: false,
            },
            // Nothing is opened: no files, no sockets, no names, no environment, no arguments, no standard streams.
            wasi: WasiCtx::builder().build(),
            table,
        }
    }

    /// What bounds this call's memory; for [`wasmtime::Store::limiter`].
    pub fn memory(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// Whether the call wanted more memory than it may have; it has then usually ended in a crash of its own.
    #[must_use]
    pub fn memory_refused(&self) -> bool {
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
    left_bytes: usize,
    left_table_elements: usize,
    refused: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let granted = take(&mut self.left_bytes, current, desired);
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(take(&mut self.left_table_elements, current, desired))
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
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for Capability { name, .. } in ALL {
            for place in ["wit/{}.wit", "agent/src/capabilities/{}.rs", "plugin-sdk/rust/src/{}.rs"] {
                let file = format!("{root}/{}", place.replace("{}", name));
                assert!(std::path::Path::new(&file).is_file(), "{file} is missing");
            }
        }
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut memory = Memory { left_bytes: 100, left_table_elements: 10, refused: false };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap(), "a second memory has only 40 left");
        assert!(memory.refused);
        assert!(memory.memory_growing(60, 100, None).unwrap());
        assert!(!memory.table_growing(0, 11, None).unwrap());
    }
}
