//! The capabilities: what a plugin may do. One file a capability, with the same word in the contract (`wit/http.wit`), here, in
//! the SDK and in the log; each owns its state, its host side and its refusal tests.
//!
//! Every capability is linked for every plugin, since some languages' runtimes import what they never use. A capability is
//! permitted by a grant, which is checked at each use, never by the presence of an import.
//!
//! A capability sees its own state only: it is linked with a `View`, a few references out of `Guest`, and the contract's
//! `Host` trait is implemented on that view. So no capability names the guest, and each is tested without one.
//!
//! To add one, follow the list in `CONTRIBUTING.md`. What it shares with others comes as a narrow handle: `gate::Gate` asks the grants
//! and counts refusals, `blocking::Blocking` lends threads that may block, `types::Handle` is a secret, `connect::OfCall` counts
//! connections and bounds waiting.

mod address;
mod blocking;
mod call;
pub(crate) mod closed;
mod connect;
mod crypto;
mod exchange;
pub(crate) mod files;
mod gate;
pub mod grants;
mod guest;
pub(crate) mod http;
mod instance;
pub mod kv;
mod log;
mod memory;
pub mod meter;
pub mod script;
mod stderr;
pub(crate) mod tcp;
pub(crate) mod types;
pub(crate) mod wasi;

use wasmtime::Result;
use wasmtime::component::Linker;

pub(crate) use self::guest::Guest;
pub use self::http::header;
pub use self::instance::Instance;

/// A capability of the contract, as it is linked.
pub(crate) struct Capability {
    /// Its word.
    pub(crate) name: &'static str,
    link: fn(&mut Linker<Guest>) -> Result<()>,
}

/// Each capability of the contract. WASI is linked beside them, closed.
pub(crate) const ALL: &[Capability] = &[
    Capability { name: "http", link: |linker| http::link(linker, Guest::http) },
    Capability { name: "tcp", link: |linker| tcp::link(linker, Guest::tcp) },
    Capability { name: "kv", link: |linker| kv::link(linker, Guest::kv) },
    Capability { name: "log", link: |linker| log::link(linker, Guest::log) },
    Capability { name: "files", link: |linker| files::link(linker, Guest::files) },
    Capability { name: "crypto", link: |linker| crypto::link(linker, Guest::crypto) },
    Capability { name: "call", link: |linker| call::link(linker, Guest::call) },
];

/// The word of each capability.
pub fn words() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|capability| capability.name)
}

/// Links the whole of WASI 0.2, closed but for the doors of `wasi`.
///
/// # Errors
/// A name linked twice: a bug.
pub(crate) fn link_wasi(linker: &mut Linker<Guest>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasi::link(linker, Guest::wasi)
}

/// Links the secrets and every capability.
///
/// # Errors
/// A name linked twice: a bug.
pub(crate) fn link_all(linker: &mut Linker<Guest>) -> Result<()> {
    types::link(linker, Guest::secrets)?;
    ALL.iter().try_for_each(|capability| (capability.link)(linker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_has_one_word_in_contract_host_and_sdk() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        for Capability { name, .. } in ALL {
            for path in ["wit/{}.wit", "agent/sandbox/src/capabilities/{}.rs", "plugin-sdk/rust/src/{}.rs"] {
                let file = format!("{root}/{}", path.replace("{}", name));
                assert!(std::path::Path::new(&file).is_file(), "{file} is missing");
            }
        }
    }
}
