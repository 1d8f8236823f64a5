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
