//! The contract, in each version that this agent speaks: the bindings that are generated from `wit/`, and the conversions between
//! their types and those that the rest of the agent uses. Nothing outside this folder and the capabilities names a generated type.
//!
//! Which version a component speaks is decided by what it exports. A second version is a file beside `v0_2` and a line in
//! [`SUPPORTED`]; the capabilities implement its traits, too, on the same views.

pub(crate) mod v0_2;
#[cfg(test)]
mod v0_3;

use std::pin::Pin;

use wasaba_core::setting::Description;
use wasmtime::Result;
use wasmtime::component::{InstancePre, Linker};

use crate::answer::{Graph, Readings, Report};
use crate::call::Call;
use crate::capabilities::Guest;
use crate::component::Settings;
use crate::failure::Failure;
use crate::load::Problem;

pub(crate) use v0_2::bindings::wasaba::plugin as wire;

/// The contract's package, as components name it.
pub(crate) const NAME: &str = "wasaba:plugin";

/// The interfaces that a component may export.
pub(crate) const EXPORTS: [&str; 4] = ["about", "metrics", "checks", "metadata"];

/// Looks up the interfaces of these names in a component.
type LookUp = fn(&InstancePre<Guest>, &[&'static str]) -> Result<Box<dyn Exports>>;

/// A version of the contract.
pub(crate) struct Version {
    /// The version itself, `0.2.0`.
    pub(crate) name: &'static str,
    /// What the versions of components that are understood begin with: `0.2.`.
    prefix: &'static str,
    /// Links everything that a component of this version may import.
    pub(crate) link: fn(&mut Linker<Guest>) -> Result<()>,
    /// Looks up those [`EXPORTS`] that the component has.
    pub(crate) exports: LookUp,
}

/// The versions that this agent speaks, the newest that is released first.
pub(crate) const SUPPORTED: &[Version] = &[
    v0_2::VERSION,
    #[cfg(test)]
    v0_3::VERSION,
];

/// The version that new plugins are built for.
pub(crate) const CURRENT: &Version = &v0_2::VERSION;

/// The version that a component speaks which names this one, if it is understood.
pub(crate) fn supported(version: &str) -> Option<&'static Version> {
    SUPPORTED.iter().find(|supported| version.starts_with(supported.prefix))
}

/// An answer of a plugin, or how the call failed.
pub(crate) type Answering<'a, T> = Pin<Box<dyn Future<Output = std::result::Result<T, Failure>> + Send + 'a>>;

/// The exports of a component, whichever version of the contract it speaks. Each function makes one call, in a fresh instance; the
/// texts in its answer are the plugin's own, and neither safe to show nor without secrets.
pub(crate) trait Exports: Send + Sync {
    /// What the plugin says of itself. The inner error is what is wrong with it.
    fn describe<'a>(&'a self, call: &'a mut Call) -> Answering<'a, std::result::Result<Description, Problem>>;

    /// The graphs of an instance with these settings.
    fn graphs<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Vec<Graph>>;

    /// Reads everything once.
    fn collect<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Readings>;

    /// Runs the checks once.
    fn check<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Vec<Report>>;

    /// Reads the metadata once.
    fn gather<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Gathered>;
}

/// The metadata of one call, not parsed yet: namespaces with JSON, and the targets without.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) documents: Vec<(String, String)>,
    pub(crate) problems: Vec<crate::answer::Problem>,
}
