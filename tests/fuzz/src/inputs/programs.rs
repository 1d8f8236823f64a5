//! What programs print.

use official::programs::lines::{MOST_VALUES, values};
use wasaba_core::graph::in_official_form;
use wasaba_core::posting::Posting;

use super::{assert_short, text};

/// Lines of metrics.
pub fn lines(data: &[u8]) {
    let text = text(data);
    for own_timestamps in [false, true] {
        let values = values(&text, 1_800_000_000, &Posting::default(), own_timestamps);
        assert!(values.samples.len() + values.dated.len() <= MOST_VALUES);
        let samples = values.dated.iter().map(|(_, sample)| sample).chain(&values.samples);
        for sample in samples {
            assert!(sample.name().as_str().starts_with("custom.") && sample.value().is_finite(), "{sample:?}");
        }
        values.warnings.iter().for_each(|warning| assert_short(warning, 1_024));
    }
}

/// Graph definitions.
pub fn meta(data: &[u8]) {
    match official::programs::meta::read(&text(data)) {
        Ok(Some(meta)) => {
            meta.warnings.iter().for_each(|warning| assert_short(warning, 1_024));
            let written = in_official_form(&meta.graphs);
            let again = official::programs::meta::read(&written).unwrap().unwrap();
            assert_eq!((in_official_form(&again.graphs), again.warnings), (written, Vec::new()));
        }
        Ok(None) => {}
        Err(why) => assert_short(&why, 1_024),
    }
}
