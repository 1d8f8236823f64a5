//! The corpus, and a fixed number of changes of it: the same in every run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::Target;
use crate::mutate::{Random, mutated};

/// What the changes are made from. Another number, in the variable `FUZZ_SEED`, is another set of changes.
const SEED: u64 = 14;

/// The folder with a folder of inputs for each target.
#[must_use]
pub fn corpus_folder() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/corpus").into()
}

/// The inputs of a target, by name.
///
/// # Panics
/// There is none.
#[must_use]
pub fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus_folder().join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let input =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    let mut inputs = paths.map(input).collect::<Vec<_>>();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty: a target needs a corpus", folder.display());
    inputs
}

/// Runs the target with its corpus, and with as many changes of it as the target says.
///
/// # Panics
/// An input breaks the target. It is written to a file, which the message names.
pub fn replay(target: &Target) {
    let corpus = corpus(target.name);
    for (name, input) in &corpus {
        attempt(target, &format!("corpus/{}/{name}", target.name), input);
    }
    let seed = std::env::var("FUZZ_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let inputs = corpus.into_iter().map(|(_, input)| input).collect::<Vec<_>>();
    for round in 0..target.rounds {
        let input = mutated(&inputs, &mut Random::new((seed << 32) | u64::from(round)));
        attempt(target, &format!("round {round} of seed {seed}"), &input);
    }
}

fn attempt(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let file = std::env::temp_dir().join(format!("wasaba-fuzz-{}-{}", target.name, std::process::id()));
        std::fs::write(&file, input).unwrap();
        panic!(
            "{what} breaks the target `{name}`: mend it, and keep the input {} in tests/fuzz/corpus/{name}/",
            file.display(),
            name = target.name,
        );
    }
}
