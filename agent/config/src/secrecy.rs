//! No message shows a part of a secret.

use crate::tests::{parsed, shown};

#[test]
fn invalid_toml_is_reported_without_the_secret() {
    for broken in [
        "apikey = \"hunter2\n",
        "apikey \"hunter2\"\n",
        "apikey: \"hunter2\"\n",
        "apikey = \"\"\"\nhunter2\\q\"\"\"\n",
        "hunter2\n",
        "roles = [\n5, \"hunter2\"]\n",
    ] {
        let problems = shown(&parsed(&format!("root = \"/x\"\n{broken}")).unwrap_err());
        assert!(problems.starts_with("agent.conf:"), "{problems}");
        assert!(!problems.contains("hunter2"), "{broken}: {problems}");
    }
}

#[test]
fn no_typo_shows_a_part_of_a_secret() {
    let text = "apikey = \"qzqzqzqzqzqz\" # qzqzqz\nhttp_proxy = 'http://me:qzqz@proxy'\nroles = [\n  \"qz\", # qz\n  5,\n]\n\
                [plugin.metrics.\"a b\"]\ncommand = \"PASSWORD=qzqz x -p \\\"qzqz\\\"\"\nuser = 5\n\
                env = { A = \"qzqzqz\", \"B\" = 'qz', C = { env = \"NONE\" } }\n[plugin.metrics.m]\nwasm = \"nginx\"\n\
                settings = { password = \"qz=qz\", key = \"\"\"\nqzqz\n  qz = qz\n\"\"\", pin = 1234321 }\n\
                [plugin.checks.c]\ncommand = [\"x\", \"qzqzqz\", 5]\nmemo = '''qz\nqz=1'''\nmax_check_attempts = 11\n";
    let mut marked = 0;
    let mut check = |text: &str| {
        let (Ok((_, problems)) | Err(problems)) = parsed(text);
        let problems = shown(&problems);
        // The pin is hidden as long as it is a value.
        assert!(!problems.contains("qz") && !problems.contains("1234321"), "{text}\n{problems}");
        marked += problems.matches('^').count();
    };
    check(text);
    for (at, char) in text.char_indices() {
        check(&format!("{}{}", &text[..at], &text[at + char.len_utf8()..]));
        for typo in ["\"", "'", "=", "[", "]", "{", "}", "#", "\n", "\\", ",", " ", "x"] {
            check(&format!("{}{typo}{}", &text[..at], &text[at..]));
        }
    }
    assert!(marked > 10_000, "{marked}");
}

#[test]
fn a_reference_to_a_secret_is_resolved_and_an_invalid_one_is_reported() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let table = |reference: &str| {
        format!("[plugin.metrics.db]\nwasm = \"postgres\"\nsettings = {{ password = {reference} }}\n")
    };
    let (config, _) = parsed(&table(&format!("{{ file = {:?} }}", file.path()))).unwrap();
    let raw = &config.components().next().unwrap().raw;
    assert_eq!(raw.settings, [("password".to_owned(), "hunter2".to_owned())]);
    assert_eq!(raw.references, ["password"]);
    for invalid in ["{ fiel = \"/x\" }", "{ file = \"/no/such\" }", "{ env = \"WASABA_NO_SUCH\" }", "{}"] {
        let (config, problems) = parsed(&table(invalid)).unwrap();
        assert_eq!(config.components().count(), 0, "it does not run without its password");
        assert!(shown(&problems).contains(":3:"), "{invalid}: {}", shown(&problems));
    }
}
