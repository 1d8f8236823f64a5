//! What a component takes as soon as it is instantiated, counted before it is compiled: a file of 500 kB can ask for a thousand
//! core instances with a hundred thousand globals each.

use std::ops::{Add, Mul};

use wasaba_core::limits::Limits;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, DataKind,
    ElementItems, ElementKind, Instance, Parser, Payload,
};

/// What the engine keeps for each global, import, function and type of an instance: at most this many bytes each.
const ITEM_BYTES: u64 = 64;

/// What an instance keeps of an element of a segment that it may copy later, in bytes.
const HELD_ELEMENT_BYTES: u64 = 16;

/// The most bytes of one name of an import or export, and of all of them: the compiled code keeps them in memory.
const MOST_NAME_BYTES: usize = 16 << 10;
const MOST_NAMES_BYTES: usize = 4 << 20;

/// What copying an element into a table costs, in bytes that are copied into a memory in that time.
const ELEMENT_BYTES: u64 = 64;

/// What one instantiation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Core instances, those of nested components included.
    pub instances: u64,
    /// The initial sizes of memories, and what the engine keeps for the instances, in bytes.
    pub memory_bytes: u64,
    /// The initial sizes of tables, in elements.
    pub table_elements: u64,
    /// What is copied into memories and tables, in bytes. Segments may lie over each other, so that it can be any number of times what
    /// there is room for, and nothing stops a call before it is done.
    pub copied_bytes: u64,
}

/// A limit that a component needs more than, as the rest of a sentence that begins with its file's name.
pub type Excess = String;

impl Needs {
    /// The needs as bytes, for a pipe.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, number) in bytes.chunks_exact_mut(8).zip(self.numbers()) {
            chunk.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The needs that [`Needs::to_bytes`] wrote, and what follows them.
    #[must_use]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (needs, rest) = bytes.split_first_chunk::<32>()?;
        let mut numbers = needs.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        Some((Self::of(&mut numbers)?, rest))
    }

    /// All of them, in the order of [`Needs::of`].
    pub(crate) fn numbers(self) -> [u64; 4] {
        let Self { instances, memory_bytes, table_elements, copied_bytes } = self;
        [instances, memory_bytes, table_elements, copied_bytes]
    }

    /// The needs of these numbers; `None` if there are not enough.
    pub(crate) fn of(numbers: &mut impl Iterator<Item = u64>) -> Option<Self> {
        let mut next = || numbers.next();
        Some(Self { instances: next()?, memory_bytes: next()?, table_elements: next()?, copied_bytes: next()? })
    }

    /// Whether a call within `limits` can have this.
    ///
    /// # Errors
    /// The limit that must be raised.
    pub fn check(self, limits: &Limits) -> Result<(), Excess> {
        let Self { instances, memory_bytes, table_elements, copied_bytes } = self;
        if instances > limits.instances as u64 {
            let most = limits.instances;
            return Err(format!("has {} core instances, more than {most} (limit `instances`)", shown(instances)));
        }
        if memory_bytes > limits.memory_bytes as u64 {
            let (needed, most) = (memory_bytes.div_ceil(1 << 20), limits.memory_bytes >> 20);
            return Err(format!("needs {needed} MiB of memory to start, more than {most} (limit `memory_mib`)"));
        }
        if table_elements > limits.table_elements as u64 {
            let most = limits.table_elements;
            return Err(format!(
                "needs {} table elements to start, more than {most} (limit `table_elements`)",
                shown(table_elements)
            ));
        }
        if copied_bytes > limits.memory_bytes as u64 {
            let (copied, most) = (copied_bytes.div_ceil(1 << 20), limits.memory_bytes >> 20);
            return Err(format!("copies {copied} MiB of data to start, more than {most} (limit `memory_mib`)"));
        }
        Ok(())
    }

    fn memory(bytes: u64) -> Self {
        Self { memory_bytes: bytes, ..Self::default() }
    }

    fn copied(bytes: u64) -> Self {
        Self { copied_bytes: bytes, ..Self::default() }
    }
}

/// A count; one that is too large to be counted is not.
fn shown(count: u64) -> String {
    if count == u64::MAX { "countless".to_owned() } else { count.to_string() }
}

impl Add for Needs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            table_elements: self.table_elements.saturating_add(other.table_elements),
            copied_bytes: self.copied_bytes.saturating_add(other.copied_bytes),
        }
    }
}

impl Mul<u64> for Needs {
    type Output = Self;

    fn mul(self, count: u64) -> Self {
        Self {
            instances: self.instances.saturating_mul(count),
            memory_bytes: self.memory_bytes.saturating_mul(count),
            table_elements: self.table_elements.saturating_mul(count),
            copied_bytes: self.copied_bytes.saturating_mul(count),
        }
    }
}

/// A module or component while its sections are read.
#[derive(Default)]
struct Frame {
    is_component: bool,
    needs: Needs,
    /// What an instance of each module takes, by the module's index; `None` if it comes from outside of the file's view.
    modules: Vec<Option<Needs>>,
    /// The same of the components.
    components: Vec<Option<Needs>>,
}

/// Why the needs of a component are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// It is not valid WebAssembly.
    Invalid(String),
    /// It instantiates what it is given when it is instantiated itself, which no language's tools make.
    Given,
}

impl From<BinaryReaderError> for Uncounted {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Counts what an instance of the component in `wasm` takes.
///
/// # Errors
/// It cannot be counted.
pub fn count(wasm: &[u8]) -> Result<Needs, Uncounted> {
    let mut frames = Vec::<Frame>::new();
    let (mut needs, mut names) = (Needs::default(), 0_usize);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        names = names.saturating_add(name_bytes(&payload)?);
        if names > MOST_NAMES_BYTES {
            return Err(Uncounted::Invalid(format!("more than {} MiB of names", MOST_NAMES_BYTES >> 20)));
        }
        match payload {
            Payload::Version { encoding, .. } => {
                let is_component = encoding == wasmparser::Encoding::Component;
                frames.push(Frame { is_component, ..Frame::default() });
            }
            Payload::End(_) => {
                let Some(ended) = frames.pop() else { continue };
                match frames.last_mut() {
                    Some(outer) if ended.is_component => outer.components.push(Some(ended.needs)),
                    Some(outer) => outer.modules.push(Some(ended.needs + Needs { instances: 1, ..Needs::default() })),
                    None => needs = ended.needs,
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    follow(alias?, &mut frames);
                }
            }
            section => {
                if let Some(frame) = frames.last_mut() {
                    frame.take(section)?;
                }
            }
        }
    }
    Ok(needs)
}

/// How many bytes the names of a section's imports or exports have.
fn name_bytes(section: &Payload<'_>) -> Result<usize, Uncounted> {
    let mut sum = 0_usize;
    let mut add = |name: &str| {
        sum = sum.saturating_add(name.len());
        match name.len() {
            0..=MOST_NAME_BYTES => Ok(()),
            long => Err(Uncounted::Invalid(format!("a name of {long} bytes, more than {MOST_NAME_BYTES}"))),
        }
    };
    match section {
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                let import = import?;
                add(import.module)?;
                add(import.name)?;
            }
        }
        Payload::ExportSection(section) => section.clone().into_iter().try_for_each(|export| add(export?.name))?,
        Payload::ComponentImportSection(section) => {
            section.clone().into_iter().try_for_each(|import| add(import?.name.name))?;
        }
        Payload::ComponentExportSection(section) => {
            section.clone().into_iter().try_for_each(|export| add(export?.name.name))?;
        }
        _ => {}
    }
    Ok(sum)
}

/// Adds what an alias names to the innermost frame.
fn follow(alias: ComponentAlias<'_>, frames: &mut [Frame]) {
    let outer = |count: u32| frames.len().checked_sub(1)?.checked_sub(count as usize).and_then(|at| frames.get(at));
    let (module, component) = match alias {
        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
            (Some(outer(count).and_then(|frame| frame.modules.get(index as usize).copied().flatten())), None)
        }
        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
            (None, Some(outer(count).and_then(|frame| frame.components.get(index as usize).copied().flatten())))
        }
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => (Some(None), None),
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => (None, Some(None)),
        _ => return,
    };
    if let Some(frame) = frames.last_mut() {
        frame.modules.extend(module);
        frame.components.extend(component);
    }
}

impl Frame {
    fn take(&mut self, section: Payload<'_>) -> Result<(), Uncounted> {
        let items = |count: u32| Needs::memory(u64::from(count).saturating_mul(ITEM_BYTES));
        let added = match section {
            Payload::TypeSection(section) => items(section.count()),
            Payload::FunctionSection(section) => items(section.count()),
            Payload::GlobalSection(section) => items(section.count()),
            Payload::TagSection(section) => items(section.count()),
            Payload::ElementSection(section) => {
                let mut needs = items(section.count());
                for segment in section {
                    let segment = segment?;
                    let count = match &segment.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    needs = needs + Needs::memory(u64::from(count).saturating_mul(HELD_ELEMENT_BYTES));
                    if matches!(segment.kind, ElementKind::Active { .. }) {
                        needs = needs + Needs::copied(u64::from(count).saturating_mul(ELEMENT_BYTES));
                    }
                }
                needs
            }
            Payload::DataSection(section) => {
                let mut needs = items(section.count());
                for segment in section {
                    let segment = segment?;
                    if matches!(segment.kind, DataKind::Active { .. }) {
                        needs = needs + Needs::copied(segment.data.len() as u64);
                    }
                }
                needs
            }
            Payload::ComponentCanonicalSection(section) => items(section.count()),
            Payload::ImportSection(section) => {
                let mut count = 0;
                for import in section.into_imports() {
                    import?;
                    count += 1;
                }
                items(count)
            }
            Payload::MemorySection(section) => {
                let mut needs = items(section.count());
                for memory in section {
                    let memory = memory?;
                    let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
                    needs = needs + Needs::memory(memory.initial.saturating_mul(page));
                }
                needs
            }
            Payload::TableSection(section) => {
                let mut needs = items(section.count());
                for table in section {
                    needs = needs + Needs { table_elements: table?.ty.initial, ..Needs::default() };
                }
                needs
            }
            Payload::InstanceSection(section) => {
                let mut needs = Needs::default();
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        needs = needs + known(&self.modules, module_index)?;
                    }
                }
                needs
            }
            Payload::ComponentInstanceSection(section) => {
                let mut needs = Needs::default();
                for instance in section {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        needs = needs + items(4) + known(&self.components, component_index)?;
                    }
                }
                needs
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.note(import?.ty.kind(), None);
                }
                Needs::default()
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.note(export.kind, Some(export.index));
                }
                Needs::default()
            }
            _ => return Ok(()),
        };
        self.needs = self.needs + added;
        Ok(())
    }

    /// Notes an import, or the export of the item at `index`, which gives it another index.
    fn note(&mut self, kind: ComponentExternalKind, index: Option<u32>) {
        let list = match kind {
            ComponentExternalKind::Module => &mut self.modules,
            ComponentExternalKind::Component => &mut self.components,
            _ => return,
        };
        let needs = index.and_then(|index| list.get(index as usize).copied().flatten());
        list.push(needs);
    }
}

fn known(list: &[Option<Needs>], index: u32) -> Result<Needs, Uncounted> {
    list.get(index as usize).copied().flatten().ok_or(Uncounted::Given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Result<Needs, Uncounted> {
        count(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn the_instances_of_nested_components_multiply() {
        let inner =
            "(component $inner (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))";
        let outer =
            format!("(component $outer {inner} (instance (instantiate $inner)) (instance (instantiate $inner)))");
        let text = format!("(component {outer} {})", "(instance (instantiate $outer))".repeat(3));
        assert_eq!(counted(&text).unwrap().instances, 12);
    }

    #[test]
    fn an_alias_of_an_outer_module_and_the_export_of_a_module_are_counted_as_that_module() {
        let text = r#"(component $root
            (core module $m (memory 3))
            (component $inner
                (alias outer $root $m (core module $mine))
                (core instance (instantiate $mine)))
            (instance (instantiate $inner))
            (export $again "m" (core module $m))
            (core instance (instantiate $again)))"#;
        let needs = counted(text).unwrap();
        assert_eq!(needs.instances, 2);
        assert!(needs.memory_bytes >= 6 << 16 && needs.memory_bytes < 7 << 16, "{needs:?}");
    }

    #[test]
    fn memories_tables_and_globals_of_all_instances_are_summed_up() {
        let globals = "(global i32 (i32.const 0))".repeat(1_000);
        let instances = "(core instance (instantiate $m))".repeat(100);
        let text = format!("(component (core module $m (memory 1) (table 7 funcref) {globals}) {instances})");
        let needs = counted(&text).unwrap();
        assert_eq!((needs.instances, needs.table_elements), (100, 700));
        assert!(needs.memory_bytes > 100 * ((1 << 16) + 1_000 * 16), "{needs:?}");
    }

    #[test]
    fn segments_that_lie_over_each_other_are_counted_each_in_all_instances_and_passive_ones_are_not() {
        let data = format!(r#"(data (i32.const 0) "{}")"#, "x".repeat(1_000)).repeat(10);
        let elements = format!("(elem (i32.const 0) func {})", "$f ".repeat(100)).repeat(10);
        let passive = format!(r#"(data "{}") (elem func {})"#, "x".repeat(1_000), "$f ".repeat(100));
        let instances = "(core instance (instantiate $m))".repeat(3);
        let text = format!(
            "(component (core module $m (memory 1) (table 100 funcref) (func $f) {data} {elements} {passive}) {instances})"
        );
        let needs = counted(&text).unwrap();
        assert_eq!(needs.copied_bytes, 3 * (10 * 1_000 + 10 * 100 * ELEMENT_BYTES));
    }

    #[test]
    fn the_elements_of_a_passive_segment_are_memory_of_each_instance() {
        let passive = format!("(elem funcref {})", "(ref.null func) ".repeat(10_000)).repeat(4);
        let instances = "(core instance (instantiate $m))".repeat(160);
        let needs = counted(&format!("(component (core module $m {passive}) {instances})")).unwrap();
        assert!(needs.memory_bytes >= 160 * 4 * 10_000 * HELD_ELEMENT_BYTES, "{needs:?}");
        assert!(needs.check(&Limits::default()).unwrap_err().contains("(limit `memory_mib`)"));
    }

    #[test]
    fn a_name_of_kilobytes_and_megabytes_of_names_are_refused_wherever_they_are() {
        let refused = |text: String| match counted(&text) {
            Err(Uncounted::Invalid(why)) => why,
            other => panic!("{other:?}"),
        };
        let long = "x".repeat(MOST_NAME_BYTES + 1);
        for text in [
            format!(r#"(component (core module $m (func (export "{long}"))))"#),
            format!(r#"(component (core module $m (import "{long}" "f" (func))))"#),
            format!(r#"(component (core module $m) (export "{long}" (core module $m)))"#),
            format!(r#"(component (import "{long}" (core module $m)))"#),
        ] {
            assert!(refused(text).starts_with("a name of 16385 bytes"));
        }
        let exports = (0..300).map(|n| format!(r#"(export "a{n}-{}" (core module $m))"#, "b".repeat(16_000)));
        let many = refused(format!("(component (core module $m) {})", exports.collect::<String>()));
        assert_eq!(many, "more than 4 MiB of names");
    }

    #[test]
    fn a_doubling_of_a_doubling_is_counted_without_being_expanded() {
        let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
        for depth in 1..80 {
            let below = depth - 1;
            text = format!("(component $c{depth} {text} {})", format!("(instance (instantiate $c{below}))").repeat(2));
        }
        assert_eq!(counted(&text).unwrap().instances, u64::MAX);
    }

    #[test]
    fn what_is_given_from_outside_is_not_counted_but_refused() {
        let text = r#"(component (import "m" (core module $m)) (core instance (instantiate $m)))"#;
        assert_eq!(counted(text), Err(Uncounted::Given));
        assert!(matches!(count(b"\0asm\x0d\0\x01\0\xff"), Err(Uncounted::Invalid(_))));
    }

    #[test]
    fn each_excess_names_its_limit() {
        let limits = Limits::default();
        let (instances, memory_bytes, table_elements) =
            (limits.instances as u64, limits.memory_bytes as u64, limits.table_elements as u64);
        let most = Needs { instances, memory_bytes, table_elements, copied_bytes: memory_bytes };
        assert_eq!(most.check(&limits), Ok(()));
        for (needs, name) in [
            (Needs { instances: instances + 1, ..most }, "instances"),
            (Needs { memory_bytes: memory_bytes + 1, ..most }, "memory_mib"),
            (Needs { table_elements: u64::MAX, ..most }, "table_elements"),
            (Needs { copied_bytes: memory_bytes + 1, ..most }, "memory_mib"),
        ] {
            let why = needs.check(&limits).unwrap_err();
            assert!(why.ends_with(&format!("(limit `{name}`)")), "{why}");
        }
        assert_eq!(Needs::split(&most.to_bytes()), Some((most, &[][..])));
    }
}
