//! The target that the variable `FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wasaba_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names = || wasaba_fuzz::ALL.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    *wasaba_fuzz::target(&name).unwrap_or_else(|| panic!("unknown FUZZ_TARGET {name:?}; valid: {}", names()))
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
