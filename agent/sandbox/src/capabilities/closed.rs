//! Interfaces that exist only so that languages' runtimes link: `wasi:http`, which JavaScript's imports by default. A call that
//! uses it is stopped; plugins use the capability `http` instead.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Engine, Result, bail};
use wasmtime_wasi::p2::bindings::io::error::Error as IoError;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};

/// Defines each interface of `wasi:http` that the component imports.
///
/// # Errors
/// A name defined twice: a bug.
pub(crate) fn link<T: Send + 'static>(linker: &mut Linker<T>, component: &Component) -> Result<()> {
    let engine: &Engine = component.engine();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if !name.starts_with("wasi:http/") {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (member, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let text = format!("`{name}` is not available; use `wasaba:plugin/http`");
                    instance.func_new(member, move |_, _, _, _| bail!("{text}"))?;
                }
                ComponentItem::Resource(_) => instance.resource(member, resource(member), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// A resource that WASI's interfaces share must have the same type in all of them.
fn resource(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<DynInputStream>(),
        "output-stream" => ResourceType::host::<DynOutputStream>(),
        "pollable" => ResourceType::host::<DynPollable>(),
        "io-error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<()>(),
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::limits::Engine;

    use super::*;
    use crate::capabilities::{Guest, link_wasi};
    use crate::engine;

    /// Imports what JavaScript's runtime does: a resource of `wasi:http`, one that it shares with `wasi:io`, a function.
    const IMPORTS: &str = r#"(component
        (import "wasi:io/streams@0.2.10" (instance $streams (export "input-stream" (type (sub resource)))))
        (alias export $streams "input-stream" (type $stream))
        (import "wasi:http/types@0.2.10" (instance $types
            (alias outer 1 $stream (type $outer))
            (export "input-stream" (type $shared (eq $outer)))
            (export "fields" (type $fields (sub resource)))
            (export "[constructor]fields" (func (result (own $fields))))
            (export "consume" (func (param "stream" (borrow $shared))))))
        (import "wasi:http/outgoing-handler@0.2.10" (instance (export "handle" (func)))))"#;

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
    fn a_component_that_imports_wasi_http_links_only_with_it() {
        assert!(links(true));
        assert!(!links(false), "it links without, so the test proves nothing");
    }
}
