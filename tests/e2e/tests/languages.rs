//! Plugins in languages other than Rust load, run and have limits like any other.

use std::process::Output;

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{compiled, component};

const LANGUAGES: [&str; 2] = ["python", "javascript"];

/// Runs the plugin in this language with these settings and `more` in its table.
fn run(language: &str, settings: &str, more: &str) -> Output {
    let wasm = component(language);
    let table = format!("[plugin.metrics.{language}]\nwasm = {wasm:?}\nsettings = {{ {settings} }}\n{more}");
    Home::with(&table).command(&["plugin", "run"], &["-root", &compiled(), language])
}

#[test]
fn a_plugin_in_each_language_describes_its_settings_and_returns_its_value() {
    for language in LANGUAGES {
        let file = component(language).display().to_string();
        let about = stdout(&Home::with("").command(&["plugin", "inspect"], &["-root", &compiled(), &file]));
        assert!(about.contains("what to do wrong") && about.contains(&format!("custom.{language}")), "{about}");
        let values = stdout(&run(language, "", ""));
        assert!(values.starts_with(&format!("{language}.bytes\t1.000000\t")), "{values}");
    }
}

#[test]
fn each_language_reaches_what_was_granted_and_nothing_else() {
    let nginx = Nginx::start();
    for language in LANGUAGES {
        let granted = format!("do = \"fetch\", host = \"127.0.0.1\", port = {}", nginx.port);
        let before = nginx.counters();
        // The page at / is "hello\n".
        assert!(stdout(&run(language, &granted, "")).contains("bytes\t6.000000"), "{language}");
        let elsewhere = granted.replace("fetch", "fetch-elsewhere");
        let error = stderr(&run(language, &elsewhere, ""));
        assert!(error.contains("denied: no grant for http://127.0.0.1:1; to grant it, write"), "{language}: {error}");
        assert_eq!(nginx.counters()[2], before[2] + 2, "one page, and this reading");
    }
}

#[test]
fn each_language_is_limited_like_any_other() {
    for language in LANGUAGES {
        for (what, expected) in
            [("loop", "limit `compute_ms`"), ("memory", "limit `memory_mib`"), ("raise", "crashed (")]
        {
            // The others keep the default, for a busy machine.
            let limits = if what == "loop" { "limits = { compute_ms = 500 }\n" } else { "" };
            let error = stderr(&run(language, &format!("do = {what:?}"), limits));
            assert!(error.contains(expected), "{language} {what}: {error}");
        }
        let flood = String::from_utf8(run(language, "do = \"flood\"", "").stderr).unwrap();
        assert!(flood.contains("984 more log lines"), "{language}: {flood}");
    }
}

#[test]
fn pythons_own_sockets_and_files_are_denied() {
    let nginx = Nginx::start();
    let settings = |what| format!("do = {what:?}, host = \"127.0.0.1\", port = {}", nginx.port);
    for (what, why) in [("socket", "Error"), ("file", "No such file or directory")] {
        let error = stderr(&run("python", &settings(what), ""));
        assert!(error.contains("crashed (") && error.contains(why), "{what}: {error}");
    }
}

#[test]
fn a_crash_is_reported_in_the_languages_own_words() {
    let error = stderr(&run("python", "do = \"raise\"", ""));
    assert!(error.contains("RuntimeError: on purpose"), "{error}");
}
