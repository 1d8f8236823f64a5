//! The SDKs: the plugin `everything` of each language describes itself in the same way and passes the same cases; of one that misbehaves the
//! limits, the crashes and the mistakes are reported, with the author's file and line where the language can. A program of its own: building
//! and compiling these plugins takes a minute.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use serde_json::Value;
use wasaba_e2e::agent::{Home, assert_golden, stdout};
use wasaba_e2e::suite::{components, folder};
use wasaba_e2e::{compiled, component};

/// Runs a command around plugins where the components of the tests are compiled once: its output.
fn plugin(command: &str, arguments: &[&Path]) -> std::process::Output {
    let compiled = compiled();
    let arguments = arguments.iter().map(|path| path.to_str().unwrap());
    let arguments = ["-root", &compiled].into_iter().chain(arguments).collect::<Vec<_>>();
    let home = Home::without_compiled();
    home.configure("");
    home.command(&["plugin", command], &arguments)
}

/// Whether `wasaba plugin inspect --json` says of the component what it says of each language's, but for its file and digest.
fn describes_itself_like_all_others(everything: &Path) {
    let about = stdout(&plugin("inspect", &[Path::new("--json"), everything]));
    let mut about = serde_json::from_str::<Value>(&about).unwrap();
    assert_eq!(about["file"].take(), everything.to_str().unwrap());
    assert!(about["digest"].take().as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    assert_golden("../../sdk/inspect.json", &(serde_json::to_string_pretty(&about).unwrap() + "\n"));
}

/// Whether the component passes every case of the file.
fn passes(component: &Path, cases: &Path) {
    let written = std::fs::read_to_string(cases).unwrap().matches("[[case]]").count();
    let output = plugin("test", &[component, cases]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(written > 0 && said.ends_with(&format!("{written} passed, 0 failed\n")), "{}: {said}", cases.display());
}

/// The cases of each `everything`, with a body of 4 MiB that is written first.
fn passes_the_cases(everything: &Path) {
    passes(everything, &folder().join("cases.toml"));
    let temp = tempfile::tempdir().unwrap();
    let written = std::process::Command::new("sh").arg(folder().join("body.sh")).arg(temp.path()).status().unwrap();
    assert!(written.success());
    passes(everything, &temp.path().join("body.toml"));
}

/// Whether `wasaba plugin run` shows what the component prints if it is asked to, and nothing else.
fn prints_for_its_author(naughty: &Path) {
    for (flag, expected) in [("-v", 2), ("-v=false", 0)] {
        let output = plugin("run", &[Path::new(flag), naughty, Path::new("-do=print")]);
        assert!(stdout(&output).starts_with("naughty.good\t1.000000\t"));
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().filter(|line| line.starts_with("naughty printed: on standard "));
        assert_eq!(lines.count(), expected, "{flag}: {said}");
    }
}

/// Whether the SDK's own tests pass, in its language, without an agent.
fn passes_its_native_tests(language: &str) {
    let mut tests = std::process::Command::new("sh");
    tests.arg(folder().join("native.sh")).arg(language).arg(components(language)).env_remove("RUSTC_BOOTSTRAP");
    let output = tests.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{language}: {}", said.concat());
}

/// All that has to hold of a language.
fn keeps_the_contract(language: &str) {
    let built = components(language);
    let (everything, naughty) = (built.join("everything.wasm"), built.join("naughty.wasm"));
    describes_itself_like_all_others(&everything);
    passes_the_cases(&everything);
    passes_its_native_tests(language);
    passes(&naughty, &folder().join("naughty.toml"));
    passes(&naughty, &folder().join(language).join("naughty.toml"));
    if language != "javascript" {
        // QuickJS hands over whole numbers as doubles, and has no standard output: its `console` is the log.
        passes(&naughty, &folder().join("large.toml"));
        prints_for_its_author(&naughty);
    }
}

/// Whether well-known libraries work unchanged in a plugin of this language.
fn runs_libraries(language: &str) {
    passes(&components(language).join("libraries.wasm"), &folder().join(language).join("libraries/tests.toml"));
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn plugins_in_c_keep_the_contract_and_their_mistakes_are_reported_with_file_and_line_and_so_do_plugins_in_cpp() {
    keeps_the_contract("c");
    let in_cpp = components("c").join("everything-cpp.wasm");
    describes_itself_like_all_others(&in_cpp);
    passes_the_cases(&in_cpp);
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn plugins_in_go_keep_the_contract_and_their_mistakes_are_reported_with_file_and_line() {
    keeps_the_contract("go");
    runs_libraries("go");
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn plugins_in_javascript_keep_the_contract_and_their_mistakes_are_reported_with_file_and_line() {
    keeps_the_contract("javascript");
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn plugins_in_python_keep_the_contract_and_their_mistakes_are_reported_with_file_and_line() {
    keeps_the_contract("python");
    runs_libraries("python");
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn plugins_in_rust_keep_the_contract() {
    let everything = component("everything");
    describes_itself_like_all_others(&everything);
    passes_the_cases(&everything);
}

/// Whether everything of `before` is in `now`, which may have more.
fn has_all_of(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            before.iter().all(|(key, before)| now.get(key).is_some_and(|now| has_all_of(now, before)))
        }
        (Value::Array(now), Value::Array(before)) => {
            now.len() == before.len() && now.iter().zip(before).all(|(now, before)| has_all_of(now, before))
        }
        _ => now == before,
    }
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn what_each_language_made_for_each_release_of_the_contract_still_describes_itself_and_passes_the_cases_of_then() {
    let releases = folder().join("../contract/fossils").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let releases = releases.collect::<Vec<_>>();
    assert!(!releases.is_empty());
    for release in &releases {
        let before = std::fs::read_to_string(release.join("inspect.json")).unwrap();
        let mut before = serde_json::from_str::<Value>(&before).unwrap();
        before.as_object_mut().unwrap().retain(|key, _| !["file", "digest"].contains(&key.as_str()));
        for language in ["rust", "python", "javascript", "go", "c", "cpp"] {
            let temp = tempfile::tempdir().unwrap();
            let component = temp.path().join(format!("{language}.wasm"));
            let packed = release.join(format!("{language}.wasm.xz"));
            let unpacked = std::process::Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed).output();
            std::fs::write(&component, unpacked.unwrap().stdout).unwrap();
            let now = stdout(&plugin("inspect", &[Path::new("--json"), &component]));
            let now = serde_json::from_str::<Value>(&now).unwrap();
            assert!(has_all_of(&now, &before), "{}: {now:#}", packed.display());
            passes(&component, &release.join("cases.toml"));
        }
    }
}

#[test]
#[ignore = "takes a minute: `make sdk`"]
fn a_plugin_in_rust_is_built_and_passes_with_the_packages_as_the_registry_would_have_them() {
    let script = folder().join("rust/package.sh");
    let mut build = std::process::Command::new("sh");
    build.arg(script).arg(wasaba_e2e::built().join("sdk/rust")).env_remove("RUSTC_BOOTSTRAP");
    let output = build.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stdout(&output).contains("built and passes with wasaba-plugin-"), "{said}");
}
