//! What is there only so that languages' runtimes link: `wasi:http`, which JavaScript's imports by default. A call that uses it
//! ends. A plugin has the capability `http` in its place.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Engine, Result, bail};
use wasmtime_wasi::p2::bindings::io::error::Error as IoError;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};

use super::Guest;

/// Defines each interface of `wasi:http` that the component imports.
///
/// # Errors
/// A name defined twice: a bug.
pub fn link(linker: &mut Linker<Guest>, component: &Component) -> Result<()> {
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
                    let what = format!("`{name}` is closed; use `wasaba:plugin/http`");
                    instance.func_new(member, move |_, _, _, _| bail!("{what}"))?;
                }
                ComponentItem::Resource(_) => instance.resource(member, resource(member), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// What WASI's interfaces share must be the very type that the others have.
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
    use crate::capabilities::link_all;
    use crate::engine;

    /// Imports what JavaScript's runtime does: a resource of its own, one that it shares with `wasi:io`, a function.
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
        let mut linker = Linker::new(&engine);
        link_all(&mut linker).unwrap();
        if with_closed {
            link(&mut linker, &component).unwrap();
        }
        linker.instantiate_pre(&component).map_err(|error| println!("{error:#}")).is_ok()
    }

    #[test]
    fn a_component_that_imports_wasi_http_links_by_it_alone() {
        assert!(links(true));
        assert!(!links(false), "the test tests nothing: it links without");
    }
}
