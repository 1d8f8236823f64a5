//! The contract, version 0.1: the bindings that are generated from `wit/`, and the conversions between their types and those
//! that the rest of the agent uses. Nothing outside this crate names a generated type.

use wasaba_core::report::Status;
use wasaba_core::setting::{Description, Setting, SettingKind};

use self::bindings::exports::wasaba::plugin::{checks, metrics, plugin};
use self::bindings::wasaba::plugin::http;
use crate::answer::{Graph, Interpretation, Metric, Report, Sample, Unit};
use crate::capabilities::script;
use crate::failure::Kind;

/// The contract's package, as components name it.
pub(crate) const NAME: &str = "wasaba:plugin";

/// The version that this agent speaks.
pub(crate) const VERSION: &str = "0.1.0";

/// Whether a component that names this version is understood.
pub(crate) fn is_spoken(version: &str) -> bool {
    version.starts_with("0.1.")
}

/// The host's side of the contract.
#[allow(clippy::all, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::let_underscore_must_use, reason = "generated")]
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    reason = "generated from wit/, where each item is documented"
)]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "full-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "wasaba:plugin/tcp.connection": crate::capabilities::tcp::Connection },
        require_store_data_send: true,
        additional_derives: [PartialEq],
    });
}

/// Who has to act on an error that the plugin returned, and what the plugin says of it.
pub(crate) fn blamed(error: &metrics::Error) -> (Kind, &str) {
    match error {
        metrics::Error::Misconfigured(text) => (Kind::Misconfigured, text),
        metrics::Error::Unreachable(text) => (Kind::Unreachable, text),
        metrics::Error::Denied(text) => (Kind::Denied, text),
        metrics::Error::Failed(text) => (Kind::Failed, text),
    }
}

impl From<plugin::Description> for Description {
    fn from(described: plugin::Description) -> Self {
        let plugin::Description { name, version, summary, settings, attributes: _ } = described;
        Self { name, version, summary, settings: settings.into_iter().map(Setting::from).collect() }
    }
}

impl From<plugin::Setting> for Setting {
    fn from(declared: plugin::Setting) -> Self {
        let plugin::Setting { key, kind, default, required, repeatable, help } = declared;
        Self { key, kind: kind.into(), default, required, repeatable, help }
    }
}

impl From<plugin::SettingKind> for SettingKind {
    fn from(kind: plugin::SettingKind) -> Self {
        match kind {
            plugin::SettingKind::Text => Self::Text,
            plugin::SettingKind::Secret => Self::Secret,
            plugin::SettingKind::Integer => Self::Integer,
            plugin::SettingKind::Number => Self::Number,
            plugin::SettingKind::Boolean => Self::Boolean,
            plugin::SettingKind::Duration => Self::Duration,
            plugin::SettingKind::Url => Self::Url,
            plugin::SettingKind::Host => Self::Host,
            plugin::SettingKind::Port => Self::Port,
            plugin::SettingKind::UnixSocket => Self::UnixSocket,
            plugin::SettingKind::File => Self::File,
            plugin::SettingKind::TlsSkipVerify => Self::TlsSkipVerify,
            plugin::SettingKind::TlsMode => Self::TlsMode,
        }
    }
}

impl From<metrics::Sample> for Sample {
    fn from(metrics::Sample { name, value }: metrics::Sample) -> Self {
        Self { name, value }
    }
}

impl From<metrics::Graph> for Graph {
    fn from(graph: metrics::Graph) -> Self {
        let metrics::Graph { name, label, unit, metrics, attributes: _ } = graph;
        Self { name, label, unit: unit.into(), metrics: metrics.into_iter().map(Metric::from).collect() }
    }
}

impl From<metrics::Metric> for Metric {
    fn from(metric: metrics::Metric) -> Self {
        let metrics::Metric { name, label, stacked, reading, scale } = metric;
        Self { name, label, stacked, interpretation: reading.into(), scale }
    }
}

impl From<metrics::Reading> for Interpretation {
    fn from(reading: metrics::Reading) -> Self {
        match reading {
            metrics::Reading::Gauge => Self::Gauge,
            metrics::Reading::PerMinute => Self::PerMinute,
            metrics::Reading::PerSecond => Self::PerSecond,
        }
    }
}

impl From<metrics::Unit> for Unit {
    fn from(unit: metrics::Unit) -> Self {
        match unit {
            metrics::Unit::Float => Self::Float,
            metrics::Unit::Integer => Self::Integer,
            metrics::Unit::Percentage => Self::Percentage,
            metrics::Unit::Seconds => Self::Seconds,
            metrics::Unit::Milliseconds => Self::Milliseconds,
            metrics::Unit::Bytes => Self::Bytes,
            metrics::Unit::BytesPerSecond => Self::BytesPerSecond,
            metrics::Unit::BitsPerSecond => Self::BitsPerSecond,
            metrics::Unit::Iops => Self::Iops,
        }
    }
}

impl From<checks::Report> for Report {
    fn from(report: checks::Report) -> Self {
        let checks::Report { status, message, attributes: _ } = report;
        let status = match status {
            checks::Status::Ok => Status::Ok,
            checks::Status::Warning => Status::Warning,
            checks::Status::Critical => Status::Critical,
            checks::Status::Unknown => Status::Unknown,
        };
        Self { status, message }
    }
}

impl From<script::Response> for http::Response {
    fn from(response: script::Response) -> Self {
        let script::Response { status, headers, body } = response;
        Self { status, headers, body }
    }
}
