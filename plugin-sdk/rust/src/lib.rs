//! Write plugins for the wasaba agent: a parser, two functions and one macro line.
//!
//! ```
//! use wasaba_plugin::{Error, Graph, Metric, Plugin, Sample, Setting, Settings, Unit, http};
//!
//! fn describe() -> Plugin {
//!     Plugin::new("queue", "1.0.0", "jobs waiting in the queue")
//!         .setting(Setting::url("uri").default("http://localhost:7000/count").help("page with the number of jobs"))
//!         .graph(Graph::new("queue.jobs", "Jobs", Unit::Integer).metric(Metric::gauge("waiting", "Waiting")))
//! }
//!
//! fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
//!     let page = http::get(settings.text("uri")?).send()?;
//!     let waiting = parse(&page.text()?).ok_or_else(|| Error::Failed("the page is not a number".into()))?;
//!     Ok(vec![Sample::new("queue.jobs.waiting", waiting)])
//! }
//!
//! fn parse(page: &str) -> Option<f64> {
//!     page.trim().parse().ok()
//! }
//!
//! wasaba_plugin::export!(describe, collect);
//! # assert_eq!(parse("12\n"), Some(12.0));
//! # assert_eq!(describe().name(), "queue");
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2` and drop the `.wasm` file into the agent's plugins folder. The contract, the
//! folder `wit/`, documents what each kind of setting means and grants, and how readings become values. [`Parts`] is the
//! frame for a plugin with optional metrics.

pub mod crypto;
pub mod files;
pub mod http;
pub mod kv;
pub mod log;
pub mod tcp;

mod description;
mod error;
mod parts;
mod report;
mod settings;
mod up;

pub use description::{Graph, Metric, Plugin, Prefix, Setting, segment};
pub use parts::{Part, Parts, Values};
pub use report::Report;
pub use settings::Settings;
pub use up::up;

pub use bindings::metrics::exports::wasaba::plugin::metrics::{Sample, Unit};
pub use bindings::metrics::wasaba::plugin::types::Error;

/// What `wit-bindgen` generates from the contract. [`export!`] needs it, plugin authors do not.
#[doc(hidden)]
#[allow(missing_docs, reason = "generated from wit/, where each item is documented")]
#[allow(clippy::all, unreachable_pub, unused_qualifications, unsafe_code, reason = "generated")]
#[allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::todo, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "capabilities",
        additional_derives: [PartialEq],
    });

    // One module for each export, so that a plugin has only those that it passes to `export!`.
    pub mod plugin {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "export-plugin",
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::plugin",
            additional_derives: [PartialEq],
        });
    }

    pub mod metrics {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "export-metrics",
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::metrics",
            additional_derives: [PartialEq],
        });
    }

    pub mod checks {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "export-checks",
            with: { "wasaba:plugin/types@0.1.0": crate::bindings::metrics::wasaba::plugin::types },
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::checks",
            additional_derives: [PartialEq],
        });
    }

    pub mod metadata {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "export-metadata",
            with: { "wasaba:plugin/types@0.1.0": crate::bindings::metrics::wasaba::plugin::types },
            pub_export_macro: true,
            export_macro_name: "export_interface",
            default_bindings_module: "wasaba_plugin::bindings::metadata",
            additional_derives: [PartialEq],
        });
    }
}

impl Sample {
    /// The reading `value` of the metric with this full name: the graph's name, a dot, the metric's name.
    pub fn new(name: impl Into<String>, value: impl Into<f64>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Exports a plugin's functions as a component. Use it once in a crate.
///
/// The first argument is a `fn() -> Plugin`, the others are what the plugin does: `export!(describe, collect)` for metrics alone,
/// which is short for `export!(describe, metrics: collect)`; `checks: check` with a `fn(&Settings) -> Report`; `metadata: about`
/// with a `fn(&Settings) -> Result<String, Error>` that returns JSON. Several come in this order.
#[macro_export]
macro_rules! export {
    ($describe:path, $collect:path) => {
        $crate::export!($describe, metrics: $collect);
    };
    ($describe:path $(, metrics: $collect:path)? $(, checks: $check:path)? $(, metadata: $metadata:path)?) => {
        // Natively, in the plugin's own unit tests, there is no host to export to; the functions are still type-checked.
        const _: fn() -> $crate::Plugin = $describe;
        $(const _: $crate::Collect = $collect;)?
        $(const _: $crate::Check = $check;)?
        $(const _: $crate::Metadata = $metadata;)?

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::bindings::plugin::exports::wasaba::plugin::plugin::Guest for Component {
                fn describe() -> $crate::bindings::plugin::exports::wasaba::plugin::plugin::Description {
                    $describe().into_description()
                }
            }
            $crate::bindings::plugin::export_interface!(Component with_types_in $crate::bindings::plugin);

            $(
                impl $crate::bindings::metrics::exports::wasaba::plugin::metrics::Guest for Component {
                    fn graphs(
                        settings: $crate::bindings::metrics::wasaba::plugin::types::Settings,
                    ) -> Vec<$crate::bindings::metrics::exports::wasaba::plugin::metrics::Graph> {
                        $describe().into_graphs(&$crate::Settings::from(settings))
                    }

                    fn collect(
                        settings: $crate::bindings::metrics::wasaba::plugin::types::Settings,
                    ) -> Result<Vec<$crate::Sample>, $crate::Error> {
                        $collect(&$crate::Settings::from(settings))
                    }
                }
                $crate::bindings::metrics::export_interface!(Component with_types_in $crate::bindings::metrics);
            )?

            $(
                impl $crate::bindings::checks::exports::wasaba::plugin::checks::Guest for Component {
                    fn check(
                        settings: $crate::bindings::metrics::wasaba::plugin::types::Settings,
                    ) -> $crate::bindings::checks::exports::wasaba::plugin::checks::Report {
                        $check(&$crate::Settings::from(settings)).into()
                    }
                }
                $crate::bindings::checks::export_interface!(Component with_types_in $crate::bindings::checks);
            )?

            $(
                impl $crate::bindings::metadata::exports::wasaba::plugin::metadata::Guest for Component {
                    fn collect(
                        settings: $crate::bindings::metrics::wasaba::plugin::types::Settings,
                    ) -> Result<String, $crate::Error> {
                        $metadata(&$crate::Settings::from(settings))
                    }
                }
                $crate::bindings::metadata::export_interface!(Component with_types_in $crate::bindings::metadata);
            )?
        };
    };
}

/// The shape of a plugin's `collect` function.
#[doc(hidden)]
pub type Collect = fn(&Settings) -> Result<Vec<Sample>, Error>;

/// The shape of a plugin's `check` function.
#[doc(hidden)]
pub type Check = fn(&Settings) -> Report;

/// The shape of a plugin's function for metadata.
#[doc(hidden)]
pub type Metadata = fn(&Settings) -> Result<String, Error>;
