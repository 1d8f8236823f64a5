//! WASI's own doors to the outside, for libraries that know nothing of the agent: `wasi:http` to servers, and `wasi:sockets` for TCP with
//! its look-up of names. They lead through what `http` and `tcp` lead through: the same grants, limits, meter and script.
//!
//! Nothing is served: what of these interfaces binds, listens or answers requests is refused.

mod fields;
mod http;
mod later;
mod lookup;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{HasData, Linker, ResourceTable};

pub(crate) use self::bindings::wasi as contract;
pub(super) use self::lookup::Names;
use super::script::Script;
use super::{connect, log, tcp};
use crate::failure::{Failure, Kind};

/// The host's side of the interfaces.
#[allow(clippy::all, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
#[allow(missing_docs, unused_qualifications, unreachable_pub, reason = "generated")]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "wasi",
        world: "wasaba:doors/doors",
        imports: { default: trappable },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network": wasmtime_wasi::p2::bindings::sockets::network,
            "wasi:sockets/tcp.tcp-socket": crate::capabilities::wasi::sockets::Socket,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::capabilities::wasi::lookup::Lookup,
            "wasi:http/types.fields": crate::capabilities::wasi::fields::Fields,
            "wasi:http/types.incoming-request": crate::capabilities::wasi::http::Served,
            "wasi:http/types.response-outparam": crate::capabilities::wasi::http::Served,
            "wasi:http/types.outgoing-response": crate::capabilities::wasi::http::Served,
            "wasi:http/types.outgoing-request": crate::capabilities::wasi::http::OutgoingRequest,
            "wasi:http/types.outgoing-body": crate::capabilities::wasi::http::OutgoingBody,
            "wasi:http/types.request-options": crate::capabilities::wasi::http::RequestOptions,
            "wasi:http/types.future-incoming-response": crate::capabilities::wasi::http::FutureResponse,
            "wasi:http/types.incoming-response": crate::capabilities::wasi::http::IncomingResponse,
            "wasi:http/types.incoming-body": crate::capabilities::wasi::http::IncomingBody,
            "wasi:http/types.future-trailers": crate::capabilities::wasi::http::FutureTrailers,
        },
        require_store_data_send: true,
    });
}

/// All that these doors see of a call.
pub(super) struct View<'a> {
    pub(super) http: &'a Arc<super::http::OfInstance>,
    pub(super) tcp: &'a Arc<tcp::OfInstance>,
    pub(super) connections: &'a Arc<connect::OfCall>,
    pub(super) names: &'a Arc<Names>,
    pub(super) log: &'a mut log::OfCall,
    /// The call's requests, sockets and streams are in it.
    pub(super) table: &'a mut ResourceTable,
    pub(super) script: Option<&'a Arc<Script>>,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

impl View<'_> {
    /// Logs a failure of which the plugin gets only a code.
    fn explain(&mut self, failure: &Failure) {
        let word = if failure.kind == Kind::Denied { "denied: " } else { "" };
        self.log.explain(&format!("{word}{}", failure.text));
    }
}

/// Links these doors in place of those that wasmtime keeps closed.
pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    linker.allow_shadowing(true);
    contract::sockets::tcp::add_to_linker::<_, HasView>(linker, view)?;
    contract::sockets::tcp_create_socket::add_to_linker::<_, HasView>(linker, view)?;
    contract::sockets::ip_name_lookup::add_to_linker::<_, HasView>(linker, view)?;
    linker.allow_shadowing(false);
    contract::http::types::add_to_linker::<_, HasView>(linker, view)?;
    contract::http::outgoing_handler::add_to_linker::<_, HasView>(linker, view)
}
