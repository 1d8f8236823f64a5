//! Write plugins for the wasaba agent: two structs, two functions and one macro line.
//!
//! ```
//! use serde::Deserialize;
//! use wasaba_plugin::prelude::*;
//!
//! wasaba_plugin::export!(describe, collect);
//!
//! fn describe() -> Plugin {
//!     plugin!("jobs waiting in the queue").reaches([Reach::Http]).settings::<Config>().graph(Jobs::graph())
//! }
//!
//! #[derive(Settings)]
//! struct Config {
//!     /// page with the queue's state as JSON
//!     #[url(default = "http://localhost:7070/stats")]
//!     url: String,
//!     /// sent as the header x-token
//!     token: Option<Secret>,
//! }
//!
//! #[derive(Deserialize, Graph)]
//! #[graph("queue.jobs", "Queue: jobs", integer)]
//! struct Jobs {
//!     #[gauge]
//!     waiting: u64,
//!     // A counter: its current reading, of which the agent makes the rate.
//!     #[per_minute]
//!     done: u64,
//! }
//!
//! fn collect(config: &Config) -> Result<Readings, Error> {
//!     let jobs: Jobs = http::get(&config.url).header_if("x-token", &config.token).json()?;
//!     Ok(jobs.samples())
//! }
//! # let host = wasaba_plugin::testing::Host::new(describe).set("token", "s3cret");
//! # let host = host.answers("http://localhost:7070/stats", r#"{"waiting": 3, "done": 17}"#);
//! # assert_eq!(host.collect(collect).unwrap().samples, [Sample::new("queue.jobs.waiting", 3), Sample::new("queue.jobs.done", 17)]);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2` and drop the `.wasm` file into the agent's plugins folder. The contract, the
//! folder `wit/`, documents what each kind of setting means and grants, and how readings become values.
//!
//! [`FromSettings`] and [`AsGraph`] say what the derives read. What depends on the settings is built: [`Setting`], [`Graph`](struct@Graph), [`Metric`];
//! [`Parts`] is the frame for a plugin with many optional metrics. [`testing`] runs a plugin natively.

// The derives name it so.
extern crate self as wasaba_plugin;

pub mod call;
pub mod crypto;
pub mod files;
pub mod http;
pub mod kv;
pub mod log;
pub mod tcp;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

mod as_graph;
mod description;
mod error;
mod from_settings;
mod parts;
mod report;
mod sample;
mod secret;
mod settings;
mod up;

pub use as_graph::AsGraph;
#[doc(hidden)]
pub use as_graph::named;
pub use description::{Graph, Metric, Plugin, Prefix, Reach, Setting, Unit, segment};
pub use error::{Error, OrFailed, about};
pub use from_settings::{Endpoint, FromSetting, FromSettings};
pub use parts::{Part, Parts, Values};
pub use report::{Documents, Report, Reports};
pub use sample::{Reading, Readings, Sample, Value};
pub use secret::Secret;
pub use settings::Settings;
pub use up::{up, up_graph};
/// Makes a struct a graph: see [`AsGraph`].
pub use wasaba_plugin_derive::Graph;
/// Makes a struct what settings are read into: see [`FromSettings`].
pub use wasaba_plugin_derive::Settings;

/// What most plugins use, for `use wasaba_plugin::prelude::*`.
pub mod prelude {
    pub use crate::{
        AsGraph, Documents, Endpoint, Error, FromSettings, Graph, Metric, OrFailed, Plugin, Reach, Reading, Readings,
        Report, Sample, Secret, Setting, Settings, Unit, failed, http, kv, log, misconfigured, plugin, segment, up,
        up_graph,
    };
}

/// The agent's half of the capabilities: what is generated from the contract, and natively the host of the tests.
#[cfg(target_family = "wasm")]
pub(crate) use bindings::wasaba::plugin as agent;
#[cfg(not(target_family = "wasm"))]
pub(crate) use testing::agent;

/// What `wit-bindgen` generates from the contract. [`export!`] needs it, plugin authors do not.
#[doc(hidden)]
#[allow(missing_docs, reason = "generated from wit/, where each item is documented")]
#[allow(clippy::all, unreachable_pub, unused_qualifications, unsafe_code, reason = "generated")]
#[allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::todo, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "capabilities",
    });

    // One module for each export, so that a plugin has only those that it passes to `export!`.
    pub mod about {
        wit_bindgen::generate!({
            path: "wit",
            world: "export-about",
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::about",
        });
    }

    pub mod metrics {
        wit_bindgen::generate!({
            path: "wit",
            world: "export-metrics",
            with: { "wasaba:plugin/types@0.2.0": crate::bindings::wasaba::plugin::types },
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::metrics",
        });
    }

    pub mod checks {
        wit_bindgen::generate!({
            path: "wit",
            world: "export-checks",
            with: { "wasaba:plugin/types@0.2.0": crate::bindings::wasaba::plugin::types },
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::checks",
        });
    }

    pub mod metadata {
        wit_bindgen::generate!({
            path: "wit",
            world: "export-metadata",
            with: { "wasaba:plugin/types@0.2.0": crate::bindings::wasaba::plugin::types },
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::metadata",
        });
    }
}

/// Calls a function of the plugin with the settings as it takes them.
///
/// # Errors
/// A setting is missing or invalid; and the function's own.
#[doc(hidden)]
pub fn called<S: FromSettings, T>(
    settings: Settings,
    function: impl FnOnce(&S) -> Result<T, Error>,
) -> Result<T, Error> {
    function(&S::from_settings(settings)?)
}

/// What the agent passes to each export.
#[doc(hidden)]
pub type WireSettings = bindings::wasaba::plugin::types::Settings;

/// The result of an export, as the contract has it.
#[doc(hidden)]
pub type WireResult<T> = Result<T, bindings::wasaba::plugin::types::Error>;

/// The result of a plugin's `collect` function.
#[doc(hidden)]
pub fn collected(
    result: Result<impl Into<Readings>, Error>,
) -> WireResult<bindings::metrics::exports::wasaba::plugin::metrics::Readings> {
    Ok(result?.into().into())
}

/// The result of a plugin's `check` function.
#[doc(hidden)]
pub fn checked(
    result: Result<impl Into<Reports>, Error>,
) -> WireResult<bindings::checks::exports::wasaba::plugin::checks::CheckResults> {
    Ok(result?.into().into())
}

/// The result of a plugin's function for metadata.
#[doc(hidden)]
pub fn gathered(
    result: Result<impl Into<Documents>, Error>,
) -> WireResult<bindings::metadata::exports::wasaba::plugin::metadata::MetadataResults> {
    Ok(result?.into().into())
}

/// Exports a plugin's functions as a component. Use it once in a crate.
///
/// The first argument is a `fn() -> Plugin`, the others are what the plugin does: `export!(describe, collect)` for metrics alone,
/// which is short for `export!(describe, metrics: collect)`, with a `fn(&Settings) -> Result<Readings, Error>`, or `Vec<Sample>`; `checks: check` with a `fn(&Settings) -> Result<Report, Error>`, or a `Vec<Report>` for several checks;
/// `metadata: about` with a `fn(&Settings) -> Result<String, Error>` that returns JSON, or [`Documents`]. Several come in this order. In place of
/// `&Settings` they take a reference to a struct with `#[derive(Settings)]`.
#[macro_export]
macro_rules! export {
    ($describe:path, $collect:path) => {
        $crate::export!($describe, metrics: $collect);
    };
    ($describe:path $(, metrics: $collect:path)? $(, checks: $check:path)? $(, metadata: $metadata:path)?) => {
        /// The plugin natively, for tests in other crates: there is no agent to export it to.
        #[cfg(not(target_family = "wasm"))]
        pub const PLUGIN: $crate::testing::Exported = $crate::testing::Exported::new($describe)
            $(.with_metrics(|settings| $crate::called(settings.clone(), $collect).map(::std::convert::Into::into)))?
            $(.with_checks(|settings| $crate::called(settings.clone(), $check).map(::std::convert::Into::into)))?
            $(.with_metadata(|settings| $crate::called(settings.clone(), $metadata).map(::std::convert::Into::into)))?;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::bindings::about::exports::wasaba::plugin::about::Guest for Component {
                fn describe() -> $crate::bindings::about::exports::wasaba::plugin::about::Description {
                    $describe().into_description()
                }
            }
            $crate::bindings::about::export_interface!(Component with_types_in $crate::bindings::about);

            $(
                impl $crate::bindings::metrics::exports::wasaba::plugin::metrics::Guest for Component {
                    fn graphs(
                        settings: $crate::WireSettings,
                    ) -> Vec<$crate::bindings::metrics::exports::wasaba::plugin::metrics::Graph> {
                        $describe().into_graphs(&$crate::Settings::from(settings).of($describe))
                    }

                    fn collect(
                        settings: $crate::WireSettings,
                    ) -> $crate::WireResult<$crate::bindings::metrics::exports::wasaba::plugin::metrics::Readings> {
                        $crate::collected($crate::called($crate::Settings::from(settings).of($describe), $collect))
                    }
                }
                $crate::bindings::metrics::export_interface!(Component with_types_in $crate::bindings::metrics);
            )?

            $(
                impl $crate::bindings::checks::exports::wasaba::plugin::checks::Guest for Component {
                    fn check(
                        settings: $crate::WireSettings,
                    ) -> $crate::WireResult<$crate::bindings::checks::exports::wasaba::plugin::checks::CheckResults> {
                        $crate::checked($crate::called($crate::Settings::from(settings).of($describe), $check))
                    }
                }
                $crate::bindings::checks::export_interface!(Component with_types_in $crate::bindings::checks);
            )?

            $(
                impl $crate::bindings::metadata::exports::wasaba::plugin::metadata::Guest for Component {
                    fn gather(
                        settings: $crate::WireSettings,
                    ) -> $crate::WireResult<$crate::bindings::metadata::exports::wasaba::plugin::metadata::MetadataResults>
                    {
                        $crate::gathered($crate::called($crate::Settings::from(settings).of($describe), $metadata))
                    }
                }
                $crate::bindings::metadata::export_interface!(Component with_types_in $crate::bindings::metadata);
            )?
        };
    };
}
