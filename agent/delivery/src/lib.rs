//! Delivery: the queue on disk and its two outputs. No other crate knows Mackerel's API.
//!
//! Exactly one output runs: Mackerel with an API key, the terminal without one.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod local;
#[expect(clippy::disallowed_methods, reason = "its back-off and its retirement still ask the system itself")]
pub mod mackerel;
pub mod spool;

/// How many cases one of `parts` runners of a test draws: together `cases`, or as many as `PROPTEST_CASES` says. With the same seed they
/// are the same each time, and with more cases these and further ones.
#[cfg(test)]
fn drawn(cases: u32, parts: u32, seed: u64) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().unwrap());
    Config {
        cases: cases.div_ceil(parts).max(1),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    }
}
