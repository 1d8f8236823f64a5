//! A plugin whose `describe` is an endless loop.

use wasaba_plugin::{Error, Plugin, Sample, Settings};

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    loop {
        std::hint::black_box(());
    }
}

fn collect(_: &Settings) -> Result<Vec<Sample>, Error> {
    Ok(Vec::new())
}
