//! A plugin author's test cases: the file that `wasaba plugin test` reads.
//!
//! A case is written like an operator's table, with the answers of the outside world and the expected result beside it.

use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use config::document::{Problem, Reader, Section};
use config::table::PluginTable;
use sandbox::capabilities::script::{Conversation, HttpAnswer, Response, Script, Turn};
use sandbox::capabilities::words;
use sandbox::failure::Kind;
use wasaba_core::paths::named;

/// More than any answer that a plugin may get.
const LONGEST_CONTENT_BYTES: u64 = 64 << 20;

/// One test case.
pub struct Case {
    /// Its name, a sentence about the plugin.
    pub name: String,
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// The table that an operator would write.
    pub table: PluginTable,
    /// The capabilities that the component imports, no more and no fewer.
    pub imports: Option<Vec<String>>,
    /// How long each call may compute.
    pub max_compute: Option<Duration>,
    /// Its calls, one after the other; none if only the imports are expected.
    pub minutes: Vec<Minute>,
}

/// One call of the plugin.
pub struct Minute {
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// The time since the previous call.
    pub after: Duration,
    /// The answers of the outside world.
    pub script: Arc<Script>,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a call. At least one of `samples`, `error`, `check` and `metadata` is present.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    /// Exactly these values, named without `custom.`, as they would be posted.
    pub samples: Option<Vec<(String, f64)>>,
    /// This kind of failure: one of [`Kind::ALL`].
    pub error: Option<&'static str>,
    /// This status of a check: `ok`, `warning`, `critical`, `unknown`.
    pub check: Option<String>,
    /// This metadata.
    pub metadata: Option<serde_json::Value>,
    /// This text in the failure or the check's message.
    pub says: Option<String>,
    /// The export that must fail: `metrics`, `checks` or `metadata`; the first that the plugin has, if `None`.
    pub call: Option<String>,
    /// So many lines in the log, each with its text in it, such as `warning: the queue is long`.
    pub log: Option<Vec<String>>,
}

impl Expected {
    /// Whether no call has to be made for it.
    fn is_nothing(&self) -> bool {
        let Self { samples, error, check, metadata, .. } = self;
        samples.is_none() && error.is_none() && check.is_none() && metadata.is_none()
    }
}

/// The cases in `text`, which was read from `file`.
///
/// # Errors
/// All problems. Unknown keys are among them: a misspelt expectation would never fail.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Case>, Vec<Problem>> {
    let mut reader = Reader::strict(file, text);
    let Some(mut top) = reader.document() else { return Err(reader.into_problems()) };
    let folder = file.parent().unwrap_or(Path::new(""));
    let whole = top.place;
    let sections = reader.sections(&mut top, "case");
    if sections.is_empty() {
        reader.fail(
            whole,
            "there is no case: write `[[case]]`, and below it the settings, answers and expected values".into(),
        );
    }
    let cases = sections.into_iter().map(|section| case(&mut reader, section, folder)).collect();
    reader.finish(top);
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn case(reader: &mut Reader<'_>, mut section: Section<'_>, folder: &Path) -> Case {
    let line = reader.line(section.place);
    let name = reader.text(&mut section, "name").unwrap_or_default();
    if name.is_empty() {
        reader.fail(section.place, "a case needs a name: write `name = \"a sentence about the plugin\"`".into());
    }
    let mut table = config::plugin::settings(reader, &mut section, "test");
    table.raw.place = "the case".into();
    let imports = imports(reader, &mut section);
    let max_compute = reader.positive(&mut section, "max_compute_ms", LONGEST_COMPUTE_MS).map(Duration::from_millis);
    let minutes = reader.sections(&mut section, "minute");
    let minutes = if minutes.is_empty() {
        let is_called = max_compute.is_some() || OF_A_CALL.iter().any(|key| section.has(key));
        let only = minute(reader, &mut section, folder, imports.is_some() && !is_called);
        Some(only).filter(|minute| !minute.expected.is_nothing()).into_iter().collect()
    } else {
        let mut read = Vec::new();
        for mut section in minutes {
            read.push(minute(reader, &mut section, folder, false));
            reader.finish(section);
        }
        read
    };
    reader.finish(section);
    Case { name, line, table, imports, max_compute, minutes }
}

/// A limit `compute_ms` can be no longer.
const LONGEST_COMPUTE_MS: u64 = 60 * 60 * 1_000;

/// Keys that say something about a call.
const OF_A_CALL: [&str; 7] = ["after_seconds", "http", "tcp", "files", "says", "call", "log"];

fn imports(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Vec<String>> {
    if !section.has("imports") {
        return None;
    }
    let mut imports = Vec::new();
    for (word, span) in reader.texts(section, "imports") {
        if !words().any(|known| known == word) {
            let valid = words().collect::<Vec<_>>().join(", ");
            reader.fail(span, format!("`imports` has {word:?}; its items must be among {valid}"));
        }
        imports.push(word);
    }
    Some(imports)
}

/// `is_optional` says that there need not be a call.
fn minute(reader: &mut Reader<'_>, section: &mut Section<'_>, folder: &Path, is_optional: bool) -> Minute {
    let line = reader.line(section.place);
    let after = reader.positive(section, "after_seconds", 24 * 60 * 60).unwrap_or(60);
    let mut script = Script::default();
    for mut answer in reader.sections(section, "http") {
        script.http.extend(http(reader, &mut answer, folder));
        reader.finish(answer);
    }
    for mut conversation in reader.sections(section, "tcp") {
        script.tcp.extend(tcp(reader, &mut conversation, folder));
        reader.finish(conversation);
    }
    if let Some(mut files) = reader.section(section, "files") {
        for path in files.keys() {
            let file = file(reader, &mut files, &path, folder);
            script.files.insert(path, file);
        }
    }
    Minute {
        line,
        after: Duration::from_secs(after),
        script: Arc::new(script),
        expected: expected(reader, section, is_optional),
    }
}

fn http(reader: &mut Reader<'_>, answer: &mut Section<'_>, folder: &Path) -> Option<HttpAnswer> {
    let url = required(reader, answer, "url");
    let method = reader.text(answer, "method").unwrap_or_else(|| "GET".to_owned());
    let status = reader.positive(answer, "status", 599).and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    if status < 100 {
        reader.fail(answer.place, format!("invalid HTTP status {status}: the lowest is 100"));
    }
    let request_headers = reader.pairs(answer, "request_headers");
    let request_body = content(reader, answer, "request_body", folder);
    let headers = reader.pairs(answer, "headers");
    // As a real server's are passed on.
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let body = content(reader, answer, "body", folder).unwrap_or_default();
    let unreachable = reader.text(answer, "unreachable");
    let response = unreachable.map_or_else(|| Ok(Response { status, headers, body }), Err);
    Some(HttpAnswer { method, url: url?, request_headers, request_body, response })
}

fn tcp(reader: &mut Reader<'_>, conversation: &mut Section<'_>, folder: &Path) -> Option<Conversation> {
    let with = required(reader, conversation, "with");
    let mut turns = Vec::new();
    for mut turn in reader.sections(conversation, "talk") {
        let (expect, send) = (content(reader, &mut turn, "expect", folder), content(reader, &mut turn, "send", folder));
        match (expect, send) {
            (Some(bytes), None) => turns.push(Turn::Expect(bytes)),
            (None, Some(bytes)) => turns.push(Turn::Send(bytes)),
            _ => reader.fail(turn.place, "a turn is `{ expect = ... }` or `{ send = ... }`".into()),
        }
        reader.finish(turn);
    }
    let unreachable = reader.text(conversation, "unreachable");
    Some(Conversation { with: with?, turns: unreachable.map_or(Ok(turns), Err) })
}

fn required(reader: &mut Reader<'_>, section: &mut Section<'_>, key: &str) -> Option<String> {
    let text = reader.text(section, key);
    if text.is_none() {
        reader.fail(section.place, format!("{} needs `{key}`", section.name));
    }
    text
}

/// The content of a file, or why it cannot be read: `{ unreadable = "No such file or directory" }`.
fn file(reader: &mut Reader<'_>, files: &mut Section<'_>, path: &str, folder: &Path) -> Result<Vec<u8>, String> {
    let is_unreadable = files.keys_within(path).iter().any(|(key, _)| key == "unreadable");
    if !is_unreadable {
        return Ok(content(reader, files, path, folder).unwrap_or_default());
    }
    let Some(mut inner) = reader.section(files, path) else { return Ok(Vec::new()) };
    let why = reader.text(&mut inner, "unreadable").unwrap_or_default();
    reader.finish(inner);
    Err(why)
}

/// Bytes: text, `{ file = "beside the cases" }` or `{ hex = "0d 0a" }`.
fn content(reader: &mut Reader<'_>, section: &mut Section<'_>, key: &str, folder: &Path) -> Option<Vec<u8>> {
    if !reader.is_table(section, key) {
        return reader.text(section, key).map(String::into_bytes);
    }
    let mut inner = reader.section(section, key)?;
    let place = inner.place;
    let file = reader.parsed(&mut inner, "file", |name| {
        let is_below =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_below {
            return Err(format!("names `{name}`, which is outside of the folder of the cases: copy the file there"));
        }
        let path = folder.join(name);
        let real = |path: &Path| path.canonicalize().ok();
        let beside = real(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        if real(&path).zip(beside).is_some_and(|(path, beside)| !path.starts_with(beside)) {
            return Err(format!("names `{name}`, a link out of the folder of the cases: copy the file there"));
        }
        named::read(&path, LONGEST_CONTENT_BYTES)
            .map_err(|error| format!("names `{}`, which cannot be read: {error}", path.display()))
    });
    let hex = reader.parsed(&mut inner, "hex", |digits| {
        bytes(digits).ok_or_else(|| "must be pairs of hexadecimal digits: \"0d 0a\"".to_owned())
    });
    reader.finish(inner);
    let bytes = file.or(hex);
    if bytes.is_none() {
        let cure = format!("`{key}` must be text, {{ file = \"NAME\" }} or {{ hex = \"0d 0a\" }}");
        reader.fail(place, cure);
    }
    bytes
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.chars().filter(|char| !char.is_whitespace()).collect::<String>();
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok();
    digits.as_bytes().chunks(2).map(pair).collect()
}

fn expected(reader: &mut Reader<'_>, section: &mut Section<'_>, is_optional: bool) -> Expected {
    let place = section.place;
    let samples = samples(reader, section);
    let error = reader.parsed(section, "error", |text| {
        let names = || Kind::ALL.iter().map(|kind| kind.name());
        names()
            .find(|name| *name == text)
            .ok_or_else(|| format!("must be one of {}", names().collect::<Vec<_>>().join(", ")))
    });
    let check = reader.parsed(section, "check", |text| {
        let valid = ["ok", "warning", "critical", "unknown"];
        if valid.contains(&text) { Ok(text.to_owned()) } else { Err(format!("must be one of {}", valid.join(", "))) }
    });
    let metadata = reader.json(section, "metadata");
    let says = reader.text(section, "says");
    let call = reader.parsed(section, "call", |text| {
        let valid = ["metrics", "checks", "metadata"];
        if valid.contains(&text) { Ok(text.to_owned()) } else { Err(format!("must be one of {}", valid.join(", "))) }
    });
    let log = section.has("log").then(|| reader.texts(section, "log").into_iter().map(|(line, _)| line).collect());
    let expected = Expected { samples, error, check, metadata, says, call, log };
    let Expected { samples, error, check, metadata, says, call, .. } = &expected;
    let answers = samples.is_some() || check.is_some() || metadata.is_some();
    let problem = match (answers, error.is_some()) {
        (false, false) if is_optional => None,
        (false, false) => Some("nothing is expected: write `samples`, `error`, `check` or `metadata`"),
        (true, true) => Some("an `error` comes in place of samples, a check or metadata: remove one"),
        _ if says.is_some() && error.is_none() && check.is_none() => Some("`says` goes with `error` or `check`"),
        (true, false) if call.is_some() => Some("`call` goes with `error`: it names the export that must fail"),
        _ => None,
    };
    if let Some(problem) = problem {
        reader.fail(place, problem.to_owned());
    }
    expected
}

fn samples(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Vec<(String, f64)>> {
    let mut inner = reader.section(section, "samples")?;
    let mut samples = Vec::new();
    for name in inner.keys() {
        if reader.is_table(&mut inner, &name) {
            reader.fail(inner.place, format!("`{name}` must be a number; write a name with dots in quotes"));
        } else if let Some(value) = reader.number(&mut inner, &name) {
            samples.push((name, value));
        }
    }
    Some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let problems = parse(Path::new("tests.toml"), text).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_case_has_settings_answers_and_an_expected_result() {
        let text = r#"
            [[case]]
            name = "all of it"
            settings = { host = "db" }
            allow = ["db:1"]
            timeout_seconds = 3
            http = [{ url = "http://a/", status = 503, headers = { x = "y" }, body = "text", request_body = { hex = "0d 0a" } }]
            tcp = [{ with = "db:1", talk = [{ expect = "PING" }, { send = "PONG" }] }]
            files = { "/var/log/a" = "line", "/var/log/b" = { unreadable = "No such file or directory" } }
            log = ["warning: long"]
            imports = ["http", "tcp", "files", "log"]
            max_compute_ms = 250
            samples = { "a.b" = 1, "a.c" = 2.5 }

            [[case]]
            name = "two minutes"
            [[case.minute]]
            error = "unreachable"
            says = "refused"
            [[case.minute]]
            after_seconds = 30
            metadata = { a = [1, "x", true] }

            [[case]]
            name = "empty lists"
            settings = { hosts = [] }
            allow = []
            http = []
            tcp = []
            files = {}
            log = []
            imports = []
            samples = {}

            [[case]]
            name = "no call"
            imports = ["kv"]
        "#;
        let cases = parse(Path::new("tests.toml"), text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let [all, two, empty, no_call] = cases.as_slice() else { panic!("{} cases", cases.len()) };
        assert_eq!(
            (all.name.as_str(), all.line, all.table.raw.allow.as_slice()),
            ("all of it", 2, &["db:1".into()][..])
        );
        assert_eq!(all.table.limits.time, Duration::from_secs(3));
        let Script { http, tcp, files, .. } = &*all.minutes[0].script;
        let response = http[0].response.as_ref().unwrap();
        assert_eq!((http[0].method.as_str(), response.status), ("GET", 503));
        assert_eq!((response.body.as_slice(), http[0].request_body.as_deref()), (&b"text"[..], Some(&b"\r\n"[..])));
        assert_eq!(tcp[0].turns.as_deref().unwrap(), [Turn::Expect(b"PING".to_vec()), Turn::Send(b"PONG".to_vec())]);
        assert_eq!(files["/var/log/a"].as_deref(), Ok(&b"line"[..]));
        assert_eq!(files["/var/log/b"], Err("No such file or directory".to_owned()));
        assert_eq!(all.imports.as_ref().map(Vec::len), Some(4));
        assert_eq!(all.max_compute, Some(Duration::from_millis(250)));
        assert_eq!(all.minutes[0].expected.log.as_deref(), Some(&["warning: long".to_owned()][..]));
        assert_eq!((empty.imports.as_deref(), empty.minutes.len()), (Some(&[][..]), 1));
        assert_eq!(
            (empty.minutes[0].expected.log.as_deref(), &empty.minutes[0].expected.samples),
            (Some(&[][..]), &Some(Vec::new()))
        );
        assert_eq!((no_call.imports.as_deref(), no_call.minutes.len()), (Some(&["kv".to_owned()][..]), 0));
        let expected = Some(vec![("a.b".to_owned(), 1.0), ("a.c".to_owned(), 2.5)]);
        assert_eq!(all.minutes[0].expected.samples, expected);
        let [first, second] = two.minutes.as_slice() else { panic!("{} minutes", two.minutes.len()) };
        assert_eq!(
            (first.expected.error, first.after.as_secs(), second.after.as_secs()),
            (Some("unreachable"), 60, 30)
        );
        assert_eq!(second.expected.metadata, Some(serde_json::json!({ "a": [1, "x", true] })));
    }

    #[test]
    fn a_file_that_a_link_leads_to_outside_of_the_folder_of_the_cases_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (cases, secret) = (temp.path().join("cases"), temp.path().join("secret"));
        std::fs::create_dir(&cases).unwrap();
        std::fs::write(&secret, "hunter2").unwrap();
        std::os::unix::fs::symlink(&secret, cases.join("link")).unwrap();
        std::os::unix::fs::symlink(temp.path(), cases.join("out")).unwrap();
        for file in ["link", "out/secret"] {
            let text = format!("[[case]]\nname = \"a\"\nsamples = {{}}\nfiles = {{ x = {{ file = \"{file}\" }} }}\n");
            let Err(problems) = parse(&cases.join("tests.toml"), &text) else { panic!("{file} is read") };
            let said = problems.iter().map(ToString::to_string).collect::<String>();
            assert!(said.contains("a link out of the folder of the cases"), "{said}");
        }
    }

    #[test]
    fn an_invalid_case_or_one_that_would_test_nothing_is_refused() {
        for (case, expected) in [
            ("", "there is no case"),
            ("[[case]]\nsamples = {}", "tests.toml:1:1: error: a case needs a name"),
            ("[[case]]\nname = \"a\"", "nothing is expected"),
            ("[[case]]\nname = \"a\"\nsampels = {}", "did you mean `samples`"),
            ("[[case]]\nname = \"a\"\nerror = \"gone\"", "must be one of misconfigured, unauthorized, unreachable"),
            ("[[case]]\nname = \"a\"\nerror = \"late\"\nsamples = {}", "comes in place of"),
            ("[[case]]\nname = \"a\"\nsays = \"x\"\nsamples = {}", "`says` goes with"),
            ("[[case]]\nname = \"a\"\nsamples = { a.b = 1 }", "write a name with dots in quotes"),
            ("[[case]]\nname = \"a\"\nsamples = {}\nhttp = [{ body = \"x\" }]", "needs `url`"),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nhttp = [{ url = \"x\", body = { file = \"none\" } }]",
                "names `none`",
            ),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nfiles = { x = { file = \"../../etc/passwd\" } }",
                "outside of the folder of the cases",
            ),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nfiles = { x = { file = \"/etc/passwd\" } }",
                "outside of the folder of the cases",
            ),
            ("[[case]]\nname = \"a\"\nsamples = {}\nfiles = { x = { hex = \"1\" } }", "pairs of hexadecimal digits"),
            ("[[case]]\nname = \"a\"\nsamples = {}\ntcp = [{ with = \"x\", talk = [{}] }]", "a turn is"),
            ("[[case]]\nname = \"a\"\nlog = [\"x\"]", "nothing is expected"),
            ("[[case]]\nname = \"a\"\nsamples = {}\nlog = \"x\"", "`log` must be a list of strings"),
            (
                "[[case]]\nname = \"a\"\nimports = [\"htpp\"]",
                "`imports` has \"htpp\"; its items must be among http, tcp, kv",
            ),
            ("[[case]]\nname = \"a\"\nimports = []\nhttp = [{ url = \"x\" }]", "nothing is expected"),
            ("[[case]]\nname = \"a\"\nimports = []\nmax_compute_ms = 5", "nothing is expected"),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nmax_compute_ms = 0",
                "`max_compute_ms` must be a whole number from 1",
            ),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nfiles = { x = { unreadable = 2 } }",
                "`unreadable` must be a string",
            ),
            (
                "[[case]]\nname = \"a\"\nsamples = {}\nfiles = { x = { unreadable = \"x\", hex = \"00\" } }",
                "unknown key `hex`",
            ),
        ] {
            let problems = problems(case);
            assert!(problems.contains(expected), "{case}: {problems}");
        }
    }
}
