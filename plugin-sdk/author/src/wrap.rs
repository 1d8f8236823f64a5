//! From a core module, which compilers for C and Go make, to a component: its imports and exports are given the types of the contract, and
//! an adapter turns WASI's first version into the second one.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, embed_component_metadata, metadata};
use wit_parser::{Resolve, SourceMap, WorldId, WorldItem};

use crate::language;

/// A component.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) bytes: Vec<u8>,
    /// The interfaces of the contract that it imports and exports, without package and version.
    imports: Vec<String>,
    exports: Vec<String>,
}

/// The package of the contract.
const CONTRACT: &str = "wasaba:plugin/";

impl Component {
    /// What it does with what, as an end of a sentence.
    pub(crate) fn uses(&self) -> String {
        let does = self.exports.iter().filter(|name| *name != "about").cloned().collect::<Vec<_>>();
        let uses = self.imports.iter().filter(|name| *name != "types").cloned().collect::<Vec<_>>();
        let uses = if uses.is_empty() { "nothing of the agent".to_owned() } else { uses.join(", ") };
        format!("has {}, and uses {uses}", does.join(", "))
    }
}

/// Makes a core module a component with the capabilities that it imports, and those interfaces of the contract that it exports.
///
/// # Errors
/// It is not a core module, or one that was not built against the contract.
pub(crate) fn component(bytes: &[u8]) -> Result<Component, String> {
    match kind(bytes) {
        Some(Kind::Component) => {
            Err("it is a component already: write `component` instead of `module` in plugin.toml".to_owned())
        }
        Some(Kind::Module) => described(encoded(bytes).map_err(|error| format!("{error:#}"))?),
        None => Err(NOT_WASM.to_owned()),
    }
}

fn encoded(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let exports = exports(bytes)?;
    // A module may have its contract in a section, as `wit-bindgen` for C writes it; without it, it is today's.
    let (mut module, (mut resolve, world)) = match metadata::decode(bytes)? {
        (Some(without), bindgen) => (without, (bindgen.resolve, bindgen.world)),
        (None, _) => (bytes.to_vec(), contract()?),
    };
    keep_what_is_there(&mut resolve, world, &exports)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    // Never with `realloc_via_memory_grow`: the adapter would take memory that Go's allocator holds for its own.
    let encoder = ComponentEncoder::default().validate(true).module(&module)?;
    encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?.encode()
}

/// The contract as it came with this program, and its world with everything.
fn contract() -> anyhow::Result<(Resolve, WorldId)> {
    let mut sources = SourceMap::new();
    for (path, content) in language::contract() {
        sources.push_str(path, std::str::from_utf8(content)?);
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_group(sources.parse().map_err(|(_, error)| anyhow::anyhow!("{error}"))?)?;
    let world = resolve.select_world(&[package], Some("full-plugin"))?;
    Ok((resolve, world))
}

/// Removes from the world the exports that the module does not have. The encoder does so with imports.
#[expect(clippy::indexing_slicing, reason = "the ids are those of `resolve`")]
fn keep_what_is_there(resolve: &mut Resolve, world: WorldId, exports: &[String]) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for (key, item) in &resolve.worlds[world].exports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let name = resolve.name_world_key(key);
        let functions = resolve.interfaces[*id].functions.keys().map(|function| format!("{name}#{function}"));
        let (has, lacks) = functions.partition::<Vec<_>, _>(|function| exports.contains(function));
        match (has.first(), lacks.first()) {
            (_, None) => {}
            (None, _) => missing.push(key.clone()),
            (Some(has), Some(lacks)) => anyhow::bail!("it exports `{has}`, but not `{lacks}`"),
        }
    }
    for key in missing {
        resolve.worlds[world].exports.shift_remove(&key);
    }
    anyhow::ensure!(
        !resolve.worlds[world].exports.is_empty(),
        "it exports nothing of the contract: is the SDK linked?"
    );
    Ok(())
}

/// The names of the functions that a module exports.
fn exports(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                let export = export?;
                if export.kind == ExternalKind::Func {
                    names.push(export.name.to_owned());
                }
            }
        }
    }
    Ok(names)
}

/// What the bytes of a component are.
///
/// # Errors
/// They are none, or none of the contract.
pub(crate) fn checked(bytes: Vec<u8>) -> Result<Component, String> {
    match kind(&bytes) {
        Some(Kind::Component) => described(bytes),
        Some(Kind::Module) => {
            Err("it is a core module: write `module` instead of `component` in plugin.toml".to_owned())
        }
        None => Err(NOT_WASM.to_owned()),
    }
}

const NOT_WASM: &str = "it is not WebAssembly";

enum Kind {
    Module,
    Component,
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    match bytes.strip_prefix(b"\0asm")? {
        [1, 0, 0, 0, ..] => Some(Kind::Module),
        [_, _, 1, 0, ..] => Some(Kind::Component),
        _ => None,
    }
}

fn described(bytes: Vec<u8>) -> Result<Component, String> {
    let decoded = wit_component::decode(&bytes).map_err(|error| format!("{error:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("it is a package of WIT".to_owned());
    };
    let world = resolve.worlds.get(world).ok_or("it has no world")?;
    let names = |items: Vec<String>| {
        let own = items.iter().filter_map(|name| name.strip_prefix(CONTRACT));
        own.map(|name| name.split('@').next().unwrap_or(name).to_owned()).collect::<Vec<_>>()
    };
    let imports = names(world.imports.keys().map(|key| resolve.name_world_key(key)).collect());
    let exports = names(world.exports.keys().map(|key| resolve.name_world_key(key)).collect());
    if !exports.iter().any(|name| name == "about") || exports.len() < 2 {
        return Err(
            "it does not export `about` and one of `metrics`, `checks` and `metadata`: it was not built with an SDK"
                .to_owned(),
        );
    }
    Ok(Component { bytes, imports, exports })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_that_came_with_this_program_is_valid_and_a_module_without_it_is_refused() {
        let (resolve, world) = contract().unwrap();
        assert_eq!(resolve.worlds[world].exports.len(), 4);
        let why = component(b"\0asm\x01\0\0\0").unwrap_err();
        assert_eq!(why, "it exports nothing of the contract: is the SDK linked?");
    }

    #[test]
    fn a_component_is_not_taken_for_a_module_nor_the_other_way_round() {
        assert!(component(b"\0asm\x0d\0\x01\0").unwrap_err().contains("write `component` instead"));
        assert!(checked(b"\0asm\x01\0\0\0".to_vec()).unwrap_err().contains("write `module` instead"));
        let why = checked(b"\0asm\x0d\0\x01\0".to_vec()).unwrap_err();
        assert!(why.starts_with("it does not export `about`"), "{why}");
    }
}
