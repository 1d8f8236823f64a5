//! A version of the contract that exists only here: it shows that two can be spoken side by side. Its samples have a field more, and
//! its log a parameter less.

use wasaba_core::collect::rate::Count;
use wasaba_core::setting::{Description, SettingValue};
use wasmtime::Result;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use self::bindings::exports::wasaba::plugin::{about, metrics};
use self::bindings::wasaba::plugin::log;
use super::{Answering, Exports, Gathered, Version};
use crate::answer::{Graph, Interpretation, Metric, Readings, Report, Sample, Unit};
use crate::call::{Call, not_exported};
use crate::capabilities::Guest;
use crate::component::Settings;
use crate::load;

#[allow(clippy::all, clippy::allow_attributes_without_reason, clippy::unwrap_used, reason = "generated")]
#[allow(missing_docs, unused_qualifications, unreachable_pub, reason = "generated")]
mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package wasaba:plugin@0.3.0;

            interface log {
                write: func(line: string);
            }

            interface about {
                record description { name: string, version: string }
                describe: func() -> description;
            }

            interface metrics {
                record sample { name: string, value: f64, quality: string }
                graphs: func(settings: list<tuple<string, string>>) -> list<string>;
                collect: func(settings: list<tuple<string, string>>) -> list<sample>;
            }

            world metrics-plugin {
                import log;
                export about;
                export metrics;
            }
        ",
        imports: { default: trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(super) const VERSION: Version =
    Version { name: "0.3.0", prefix: "0.3.", link, exports: |ready, _| Ok(Box::new(Own::new(ready)?)) };

fn link(linker: &mut Linker<Guest>) -> Result<()> {
    log::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
}

impl log::Host for Guest {
    fn write(&mut self, _: String) -> Result<()> {
        Ok(())
    }
}

struct Own {
    about: about::GuestIndices,
    metrics: metrics::GuestIndices,
}

impl Own {
    fn new(ready: &InstancePre<Guest>) -> Result<Self> {
        Ok(Self { about: about::GuestIndices::new(ready)?, metrics: metrics::GuestIndices::new(ready)? })
    }
}

fn texts(settings: &Settings) -> Vec<(String, String)> {
    let text = |(key, value): &(String, SettingValue)| match value {
        SettingValue::Text(text) => Some((key.clone(), text.clone())),
        SettingValue::Secret(_) => None,
    };
    settings.iter().filter_map(text).collect()
}

impl Exports for Own {
    fn describe<'a>(&'a self, call: &'a mut Call) -> Answering<'a, std::result::Result<Description, load::Problem>> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let guest = self.about.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let described = guest.call_describe(&mut call.store).await.map_err(|error| call.failure(&error))?;
            let about::Description { name, version } = described;
            Ok(Ok(Description { name, version, ..Description::default() }))
        })
    }

    fn graphs<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Vec<Graph>> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let guest = self.metrics.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let names = guest.call_graphs(&mut call.store, &texts(settings)).await;
            let graph = |name| {
                let (label, interpretation) = (String::new(), Interpretation::Gauge);
                let metric = Metric { name: "*".into(), label, stacked: false, interpretation, scale: 1.0 };
                Graph { name, label: String::new(), unit: Unit::Float, metrics: vec![metric] }
            };
            Ok(names.map_err(|error| call.failure(&error))?.into_iter().map(graph).collect())
        })
    }

    fn collect<'a>(&'a self, call: &'a mut Call, settings: &'a Settings) -> Answering<'a, Readings> {
        Box::pin(async move {
            let instance = call.instantiate().await?;
            let guest = self.metrics.load(&mut call.store, &instance).map_err(|error| call.failure(&error))?;
            let samples = guest.call_collect(&mut call.store, &texts(settings)).await;
            let sample = |metrics::Sample { name, value, quality }| Sample {
                name,
                value: Count::Float(value),
                unix_seconds: None,
                host: None,
                labels: vec![("quality".to_owned(), quality)],
            };
            let samples = samples.map_err(|error| call.failure(&error))?.into_iter().map(sample).collect();
            Ok(Readings { samples, problems: Vec::new() })
        })
    }

    fn check<'a>(&'a self, _: &'a mut Call, _: &'a Settings) -> Answering<'a, Vec<Report>> {
        Box::pin(async { Err(not_exported("checks")) })
    }

    fn gather<'a>(&'a self, _: &'a mut Call, _: &'a Settings) -> Answering<'a, Gathered> {
        Box::pin(async { Err(not_exported("metadata")) })
    }
}
