//! Version 0.2 of the contract, from `wit/`.

use std::time::Duration;

use wasaba_core::collect::rate::Count;
use wasaba_core::report::Status;
use wasaba_core::setting::{Description, Reach, Setting, SettingKind, SettingValue};
use wasaba_core::text::printable;
use wasmtime::Result;
use wasmtime::component::InstancePre;

use self::bindings::exports::wasaba::plugin::{about, checks, metadata, metrics};
use self::bindings::wasaba::plugin::types;
use super::{Answering, Exports, Gathered, Version};
use crate::answer::{Graph, Interpretation, Metric, Problem, Readings, Report, Sample, Unit};
use crate::call::{Call, not_exported};
use crate::capabilities::{self, Guest};
use crate::component::Settings;
use crate::failure::{Failure, Kind};
use crate::load;

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
        with: {
            "wasaba:plugin/types.secret": crate::capabilities::types::Handle,
            "wasaba:plugin/http.request": crate::capabilities::http::Request,
            "wasaba:plugin/http.response": crate::capabilities::http::Response,
            "wasaba:plugin/tcp.connection": crate::capabilities::tcp::Connection,
            "wasaba:plugin/tcp.tls-options": crate::capabilities::tcp::TlsOptions,
            "wasaba:plugin/files.file": crate::capabilities::files::OpenFile,
        },
        require_store_data_send: true,
    });
}

/// This version.
pub(crate) const VERSION: Version = Version {
    name: "0.2.0",
    prefix: "0.2.",
    link: capabilities::link_all,
    exports: |ready, interfaces| Ok(Box::new(Own::new(ready, interfaces)?)),
};

/// The exports of a component.
struct Own {
    about: about::GuestIndices,
    metrics: Option<metrics::GuestIndices>,
    checks: Option<checks::GuestIndices>,
    metadata: Option<metadata::GuestIndices>,
}

impl Own {
    fn new(ready: &InstancePre<Guest>, interfaces: &[&str]) -> Result<Self> {
        let has = |interface| interfaces.contains(&interface);
        Ok(Self {
            about: about::GuestIndices::new(ready)?,
            metrics: has("metrics").then(|| metrics::GuestIndices::new(ready)).transpose()?,
            checks: has("checks").then(|| checks::GuestIndices::new(ready)).transpose()?,
            metadata: has("metadata").then(|| metadata::GuestIndices::new(ready)).transpose()?,
        })
    }
}

impl Exports for Own {
    fn describe<'a>(&'a self, call: &'a mut Call) -> Answering<'a, std::result::Result<Description, load::Problem>> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            // Loads each, since an export of another shape than the contract's is found only now.
            let loaded = (|| {
                let Self { about, metrics, checks, metadata } = self;
                metrics.as_ref().map(|export| export.load(&mut call.store, &instance)).transpose()?;
                checks.as_ref().map(|export| export.load(&mut call.store, &instance)).transpose()?;
                metadata.as_ref().map(|export| export.load(&mut call.store, &instance)).transpose()?;
                about.load(&mut call.store, &instance)
            })();
            let guest = match loaded {
                Ok(guest) => guest,
                Err(error) => return Ok(Err(load::foreign(error))),
            };
            let described = guest.call_describe(&mut call.store).await;
            described.map(description).map_err(|error| call.failure(&error))
        })
    }

    fn graphs<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Vec<Graph>> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let export = self.metrics.as_ref().ok_or_else(|| not_exported("metrics"))?;
            let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let settings = lowered(call, settings)?;
            let graphs = guest.call_graphs(&mut call.store, &settings).await.map_err(|error| call.failure(&error))?;
            graphs.into_iter().map(graph).collect()
        })
    }

    fn collect<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Readings> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let export = self.metrics.as_ref().ok_or_else(|| not_exported("metrics"))?;
            let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let settings = lowered(call, settings)?;
            let answer = guest.call_collect(&mut call.store, &settings).await;
            let metrics::Readings { samples, problems, attributes: _ } =
                answer.map_err(|error| call.failure(&error))?.map_err(|error| call.returned(error.into()))?;
            let samples = samples.into_iter().map(Sample::from).collect();
            Ok(Readings { samples, problems: problems.into_iter().map(Problem::from).collect() })
        })
    }

    fn check<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Vec<Report>> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let export = self.checks.as_ref().ok_or_else(|| not_exported("checks"))?;
            let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let settings = lowered(call, settings)?;
            let answer = guest.call_check(&mut call.store, &settings).await;
            let checks::CheckResults { reports, attributes: _ } =
                answer.map_err(|error| call.failure(&error))?.map_err(|error| call.returned(error.into()))?;
            Ok(reports.into_iter().map(Report::from).collect())
        })
    }

    fn gather<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Gathered> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let export = self.metadata.as_ref().ok_or_else(|| not_exported("metadata"))?;
            let guest = export.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let settings = lowered(call, settings)?;
            let answer = guest.call_gather(&mut call.store, &settings).await;
            let metadata::MetadataResults { documents, problems, attributes: _ } =
                answer.map_err(|error| call.failure(&error))?.map_err(|error| call.returned(error.into()))?;
            let document =
                |metadata::Document { namespace, json, attributes: _ }: metadata::Document| (namespace, json);
            let documents = documents.into_iter().map(document).collect();
            Ok(Gathered { documents, problems: problems.into_iter().map(Problem::from).collect() })
        })
    }
}

/// The settings as the call gets them, each secret as a handle.
fn lowered(call: &mut Call, settings: &Settings) -> std::result::Result<Vec<(String, types::SettingValue)>, Failure> {
    let mut values = Vec::with_capacity(settings.len());
    for (key, value) in settings.iter() {
        let value = match value {
            SettingValue::Text(text) => types::SettingValue::Text(text.clone()),
            SettingValue::Secret(secret) => types::SettingValue::Secret(call.handle(secret)?),
        };
        values.push((key.clone(), value));
    }
    Ok(values)
}

fn description(described: about::Description) -> std::result::Result<Description, load::Problem> {
    let about::Description { name, version, summary, settings, reach: words, attributes } = described;
    let settings = settings.into_iter().map(setting).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut reach = Reach::default();
    for word in words {
        if !reach.add(&word) {
            let what = format!("says that it reaches {:?}", printable(&word, 80));
            return Err(load::Problem::Description(newer(&what)));
        }
    }
    Ok(Description { name, version, summary, settings, reach, attributes })
}

/// The refusal of a word that this agent does not know.
fn newer(what: &str) -> String {
    format!("{what}, which this agent does not know: the plugin needs a newer agent, or the word is misspelt")
}

fn setting(declared: about::Setting) -> std::result::Result<Setting, load::Problem> {
    let about::Setting { key, kind: word, default, required, repeatable, port_of, help, attributes } = declared;
    let Some(kind) = SettingKind::of_word(&word) else {
        let what = format!("declares the setting {:?} of the kind {:?}", printable(&key, 80), printable(&word, 80));
        return Err(load::Problem::Description(newer(&what)));
    };
    let aliases = attributes.into_iter().filter(|(key, _)| key == "aliases" && kind == SettingKind::TlsMode);
    let aliases = aliases.flat_map(|(_, words)| {
        let pairs = words.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(word, meaning)| (word.to_owned(), meaning.to_owned())).collect::<Vec<_>>()
    });
    Ok(Setting { key, kind, default, required, repeatable, port_of, aliases: aliases.collect(), help })
}

impl From<types::Error> for Failure {
    fn from(error: types::Error) -> Self {
        let types::Error { kind, message, retry_after_ms, attributes: _ } = error;
        let retry_after = retry_after_ms.map(Duration::from_millis);
        Self { retry_after, ..Self::new(Kind::returned(&kind), message) }
    }
}

impl From<Failure> for types::Error {
    fn from(Failure { kind, text, retry_after, tls, .. }: Failure) -> Self {
        let retry_after_ms = retry_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let attributes = tls.map(|fault| ("tls".to_owned(), fault.word().to_owned())).into_iter().collect();
        Self { kind: kind.name().to_owned(), message: text, retry_after_ms, attributes }
    }
}

impl From<types::Problem> for Problem {
    fn from(types::Problem { target, error, attributes: _ }: types::Problem) -> Self {
        Self { target, failure: error.into() }
    }
}

impl From<metrics::Sample> for Sample {
    fn from(metrics::Sample { name, value, unix_seconds, host, attributes }: metrics::Sample) -> Self {
        let value = match value {
            metrics::Value::Float(number) => Count::Float(number),
            metrics::Value::Unsigned(number) => Count::Whole(number),
        };
        Self { name, value, unix_seconds, host, labels: attributes }
    }
}

fn graph(graph: metrics::Graph) -> std::result::Result<Graph, Failure> {
    let metrics::Graph { name, label, unit, metrics, attributes: _ } = graph;
    let unit = word(Unit::WORDS, &unit, || format!("the graph {:?} has the unit", printable(&name, 255)))?;
    let metrics = metrics.into_iter().map(|metric| self::metric(&name, metric));
    let metrics = metrics.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Graph { name, label, unit, metrics })
}

fn metric(graph: &str, metric: metrics::Metric) -> std::result::Result<Metric, Failure> {
    let metrics::Metric { name, label, stacked, reading, scale, attributes: _ } = metric;
    let full = || format!("{:?}", printable(&format!("{graph}.{name}"), 255));
    let interpretation = word(Interpretation::WORDS, &reading, || format!("the metric {} has the reading", full()))?;
    let scale = scale.unwrap_or(1.0);
    if scale == 0.0 || !scale.is_finite() {
        let cure = "omit it to leave values unchanged";
        return Err(Failure::new(Kind::Invalid, format!("the metric {} has the scale {scale}: {cure}", full())));
    }
    Ok(Metric { name, label, stacked, interpretation, scale })
}

/// What a word of a registry stands for.
fn word<T: Copy>(words: &[(&str, T)], word: &str, what: impl Fn() -> String) -> std::result::Result<T, Failure> {
    if let Some((_, meaning)) = words.iter().find(|(known, _)| *known == word) {
        return Ok(*meaning);
    }
    let valid = words.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
    Err(if word.is_empty() {
        Failure::new(Kind::Invalid, format!("{} \"\": it must be one of {valid}", what()))
    } else {
        Failure::new(Kind::Unsupported, newer(&format!("{} {:?}", what(), printable(word, 80))))
    })
}

impl From<checks::Report> for Report {
    fn from(report: checks::Report) -> Self {
        let checks::Report { name, status, message, attributes: _ } = report;
        let status = match status {
            checks::Status::Ok => Status::Ok,
            checks::Status::Warning => Status::Warning,
            checks::Status::Critical => Status::Critical,
            checks::Status::Unknown => Status::Unknown,
        };
        Self { name, status, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric_with(reading: &str, scale: Option<f64>) -> metrics::Metric {
        let (name, label) = ("hits".to_owned(), String::new());
        metrics::Metric { name, label, stacked: false, reading: reading.into(), scale, attributes: Vec::new() }
    }

    fn why<T: std::fmt::Debug>(result: std::result::Result<T, Failure>) -> (Kind, String) {
        let failure = result.unwrap_err();
        (failure.kind, failure.text)
    }

    #[test]
    fn an_unknown_word_needs_a_newer_agent_and_an_empty_one_is_a_mistake() {
        let (kind, text) = why(metric("web", metric_with("per-hour", None)));
        assert!(kind == Kind::Unsupported && text.contains("\"per-hour\"") && text.contains("newer agent"), "{text}");
        let (kind, text) = why(metric("web", metric_with("", None)));
        assert!(kind == Kind::Invalid && text.contains("\"web.hits\"") && text.contains("per-minute-32"), "{text}");
        let graph_with = |unit: &str| metrics::Graph {
            name: "web".into(),
            label: String::new(),
            unit: unit.into(),
            metrics: Vec::new(),
            attributes: Vec::new(),
        };
        assert!(why(graph(graph_with("parsec"))).1.contains("the graph \"web\" has the unit \"parsec\""));
        assert_eq!(graph(graph_with("iops")).unwrap().unit, Unit::Iops);
    }

    #[test]
    fn a_scale_that_makes_every_value_the_same_is_refused() {
        for scale in [0.0, -0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(why(metric("web", metric_with("gauge", Some(scale)))).0, Kind::Invalid, "{scale}");
        }
        assert_eq!(metric("web", metric_with("gauge", None)).unwrap().scale, 1.0);
        assert_eq!(metric("web", metric_with("delta", Some(8.0))).unwrap().scale, 8.0);
    }

    #[test]
    fn a_description_with_an_unknown_kind_or_reach_is_refused_by_its_word() {
        let described = |kind: &str, reach: &str| about::Description {
            name: "web".into(),
            version: "1".into(),
            summary: String::new(),
            settings: vec![about::Setting {
                key: "a".into(),
                kind: kind.into(),
                default: None,
                required: false,
                repeatable: false,
                port_of: None,
                help: String::new(),
                attributes: vec![("aliases".into(), "require=encrypt verify-full=full".into())],
            }],
            reach: vec![reach.into()],
            attributes: Vec::new(),
        };
        for (kind, reach, expected) in [("folder", "http", "\"folder\""), ("text", "udp", "\"udp\"")] {
            let problem = description(described(kind, reach)).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains("newer agent"), "{problem}");
        }
        let good = description(described("tls-mode", "tcp")).unwrap();
        assert_eq!(good.reach, Reach { tcp: true, ..Reach::default() });
        assert_eq!(good.settings[0].aliases[0], ("require".to_owned(), "encrypt".to_owned()));
    }
}
