//! Write plugins for the wasaba agent: a parser, two functions and one macro line.
//!
//! ```
//! use wasaba_plugin::{Error, Graph, Metric, Plugin, Reach, Sample, Setting, Settings, Unit, http};
//!
//! fn describe() -> Plugin {
//!     Plugin::new("queue", "1.0.0", "jobs waiting in the queue")
//!         .reaches([Reach::Http])
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

pub mod call;
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
mod sample;
mod secret;
mod settings;
mod up;

pub use description::{Graph, Metric, Plugin, Prefix, Reach, Setting, Unit, segment};
pub use error::Error;
pub use parts::{Part, Parts, Values};
pub use report::{Documents, Report, Reports};
pub use sample::{Readings, Sample, Value};
pub use secret::Secret;
pub use settings::Settings;
pub use up::up;

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
/// which is short for `export!(describe, metrics: collect)`, with a `fn(&Settings) -> Result<Vec<Sample>, Error>`, or [`Readings`] for
/// several targets; `checks: check` with a `fn(&Settings) -> Result<Report, Error>`, or a `Vec<Report>` for several checks;
/// `metadata: about` with a `fn(&Settings) -> Result<String, Error>` that returns JSON, or [`Documents`]. Several come in this order.
#[macro_export]
macro_rules! export {
    ($describe:path, $collect:path) => {
        $crate::export!($describe, metrics: $collect);
    };
    ($describe:path $(, metrics: $collect:path)? $(, checks: $check:path)? $(, metadata: $metadata:path)?) => {
        // Natively, in the plugin's own unit tests, there is no host to export to; the functions are still type-checked.
        const _: fn() -> $crate::Plugin = $describe;
        $(const _: fn(&$crate::Settings) = |settings| drop($crate::collected($collect(settings)));)?
        $(const _: fn(&$crate::Settings) = |settings| drop($crate::checked($check(settings)));)?
        $(const _: fn(&$crate::Settings) = |settings| drop($crate::gathered($metadata(settings)));)?

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
                        $describe().into_graphs(&$crate::Settings::from(settings))
                    }

                    fn collect(
                        settings: $crate::WireSettings,
                    ) -> $crate::WireResult<$crate::bindings::metrics::exports::wasaba::plugin::metrics::Readings> {
                        $crate::collected($collect(&$crate::Settings::from(settings)))
                    }
                }
                $crate::bindings::metrics::export_interface!(Component with_types_in $crate::bindings::metrics);
            )?

            $(
                impl $crate::bindings::checks::exports::wasaba::plugin::checks::Guest for Component {
                    fn check(
                        settings: $crate::WireSettings,
                    ) -> $crate::WireResult<$crate::bindings::checks::exports::wasaba::plugin::checks::CheckResults> {
                        $crate::checked($check(&$crate::Settings::from(settings)))
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
                        $crate::gathered($metadata(&$crate::Settings::from(settings)))
                    }
                }
                $crate::bindings::metadata::export_interface!(Component with_types_in $crate::bindings::metadata);
            )?
        };
    };
}
