//! A plugin that never says what it is: its `describe` is an endless loop.

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
