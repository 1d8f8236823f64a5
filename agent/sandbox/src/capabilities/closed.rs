//! What of `wasi:http` is not for clients, which exists only so that components link that import it beside the rest. A call that uses it is
//! stopped: a plugin serves no requests.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Result, bail};

/// The interfaces that are open, whatever their version.
const OPEN: &[&str] = &["types", "outgoing-handler"];

/// Defines each function of `wasi:http` that the component imports and that is not open.
///
/// # Errors
/// A name defined twice: a bug.
pub(crate) fn link<T: Send + 'static>(linker: &mut Linker<T>, component: &Component) -> Result<()> {
    let engine: &Engine = component.engine();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        let word = name.strip_prefix("wasi:http/").and_then(|name| name.split('@').next());
        if word.is_none_or(|word| OPEN.contains(&word)) {
            continue;
        }
        let mut instance = linker.instance(name)?;
        // Its resources are those of `types`, which is linked.
        for (member, item) in interface.exports(engine) {
            if let ComponentItem::ComponentFunc(_) = item.ty {
                let text = format!("`{name}` is not available: a plugin serves no requests");
                instance.func_new(member, move |_, _, _, _| bail!("{text}"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasaba_core::limits::Engine;

    use super::*;
    use crate::capabilities::{Guest, link_wasi};
    use crate::engine;

    /// Imports what a client does, of an older version, with a resource that is WASI's own; and what only a server calls.
    const IMPORTS: &str = r#"(component
        (import "wasi:io/streams@0.2.1" (instance $streams (export "input-stream" (type (sub resource)))))
        (alias export $streams "input-stream" (type $stream))
        (import "wasi:http/types@0.2.1" (instance $types
            (alias outer 1 $stream (type $outer))
            (export "input-stream" (type $shared (eq $outer)))
            (export "incoming-body" (type $body (sub resource)))
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))
            (export "[method]incoming-body.stream"
                (func (param "self" (borrow $body)) (result (result (own $shared)))))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (import "wasi:http/incoming-handler@0.2.1" (instance
            (alias outer 1 $request (type $outer-request))
            (alias outer 1 $out (type $outer-out))
            (export "incoming-request" (type $shared-request (eq $outer-request)))
            (export "response-outparam" (type $shared-out (eq $outer-out)))
            (export "handle" (func (param "request" (own $shared-request)) (param "response-out" (own $shared-out)))))))"#;

    fn links(with_closed: bool) -> bool {
        let engine = engine::for_compiling(Engine::Pulley).unwrap();
        let component = Component::new(&engine, wat::parse_str(IMPORTS).unwrap()).unwrap();
        let mut linker = Linker::<Guest>::new(&engine);
        link_wasi(&mut linker).unwrap();
        if with_closed {
            link(&mut linker, &component).unwrap();
        }
        linker.instantiate_pre(&component).map_err(|error| println!("{error:#}")).is_ok()
    }

    #[test]
    fn a_component_that_imports_what_serves_requests_links_only_with_it() {
        assert!(links(true));
        assert!(!links(false), "it links without, so the test proves nothing");
    }
}
