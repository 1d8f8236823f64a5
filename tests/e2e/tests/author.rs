//! The tools for plugin authors: `wasaba plugin new` and `wasaba plugin test`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::{component, wasaba};

/// The target folder of the new plugin, kept between test runs.
const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/author");

/// Runs `wasaba plugin ARGUMENTS` in the folder, as an author does.
fn author(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(wasaba());
    command.arg("plugin").args(arguments).current_dir(folder).stdin(Stdio::null());
    // The plugin's dependencies are those of this workspace, so they are already downloaded.
    command.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", TARGET).env_remove("RUSTC_BOOTSTRAP");
    command.output().unwrap()
}

/// The same where it has to succeed: its output.
fn authored(folder: &Path, arguments: &[&str]) -> String {
    let output = author(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// Makes a plugin in this language, builds it, and runs its native tests and its cases.
fn is_built_and_passes(language: &str) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let said = authored(temp.path(), &["new", "--lang", language, "my-queue"]);
    assert!(said.contains("\n  cd my-queue\n  wasaba plugin build\n  wasaba plugin test\n"), "{said}");
    let (folder, root) = (temp.path().join("my-queue"), temp.path().join("root").display().to_string());
    let early = author(&folder, &["test", "-root", &root]);
    assert!(
        !early.status.success() && stderr(&early).contains("run `wasaba plugin build` first"),
        "{}",
        stderr(&early)
    );
    let built = authored(&folder, &["build"]);
    assert!(built.contains("/my-queue.wasm: ") && built.ends_with(" KB; it has metrics, and uses http\n"), "{built}");
    let manifest = std::fs::read_to_string(folder.join("plugin.toml")).unwrap().parse::<toml::Table>().unwrap();
    let mut native = Command::new("sh");
    native.args(["-ec", manifest.get("test").and_then(toml::Value::as_str).unwrap()]).current_dir(&folder);
    native.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", TARGET).env_remove("RUSTC_BOOTSTRAP");
    let native = native.stdin(Stdio::null()).output().unwrap();
    assert!(native.status.success(), "{}{}", stdout(&native), stderr(&native));
    let said = authored(&folder, &["test", "-root", &root]);
    assert!(said.ends_with(" passed, 0 failed\n") && said.lines().count() > 3, "{said}");
    let about = authored(&folder, &["inspect", "-root", &root, "my-queue.wasm"]);
    assert!(about.contains("my-queue 0.1.0") && about.contains("http://localhost:70"), "{about}");
    temp
}

/// Runs `wasaba plugin test` with these cases: whether they passed, and the output.
fn test(home: &Home, wasm: &Path, cases: &str) -> (bool, String) {
    std::fs::write(home.path("cases.toml"), cases).unwrap();
    let (wasm, file) = (wasm.to_str().unwrap(), home.path("cases.toml"));
    let output = home.command(&["plugin", "test"], &[wasm, file.to_str().unwrap()]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text.replace(file.to_str().unwrap(), "cases.toml").replace(wasm, "PLUGIN"))
}

#[test]
fn a_new_plugin_in_rust_builds_and_passes_its_tests() {
    let temp = is_built_and_passes("rust");
    let again = author(temp.path(), &["new", "my-queue"]);
    assert!(!again.status.success() && stderr(&again).contains("already exists"));
    let unknown = author(temp.path(), &["new", "--lang", "cobol", "other"]);
    assert!(stderr(&unknown).contains("plugins are written in rust, python"), "{}", stderr(&unknown));
}

#[test]
fn a_new_plugin_in_python_builds_and_passes_its_tests() {
    is_built_and_passes("python");
}

#[test]
fn a_new_plugin_in_javascript_builds_and_passes_its_tests() {
    is_built_and_passes("javascript");
}

#[test]
fn a_new_plugin_in_typescript_builds_and_passes_its_tests() {
    is_built_and_passes("typescript");
}

#[test]
fn a_new_plugin_in_go_builds_and_passes_its_tests() {
    is_built_and_passes("go");
}

#[test]
fn a_new_plugin_in_c_builds_and_passes_its_tests() {
    is_built_and_passes("c");
}

#[test]
fn a_new_plugin_in_cpp_builds_and_passes_its_tests() {
    is_built_and_passes("cpp");
}

#[test]
fn whatever_changes_in_a_plugins_folder_is_built_and_tested_at_once() {
    let temp = tempfile::tempdir().unwrap();
    authored(temp.path(), &["new", "--lang", "c", "queue"]);
    let folder = temp.path().join("queue");
    let mut command = Command::new(wasaba());
    command.args(["plugin", "dev"]).current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("XDG_CACHE_HOME", temp.path()).env("MACKEREL_PLUGIN_WORKDIR", temp.path());
    let mut dev = command.stderr(Stdio::null()).spawn().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let output = std::io::BufReader::new(dev.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut until = |end: &str| {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.ends_with("^C ends")) {
            seen.push(lines.recv_timeout(wasaba_e2e::SOON).unwrap_or_else(|_| panic!("no `{end}` in {seen:?}")));
        }
        assert!(seen.last().unwrap().contains(end), "{seen:?}");
    };
    // No one serves the page.
    until("it posts nothing");
    let cases = folder.join("tests.toml");
    let text = std::fs::read_to_string(&cases).unwrap();
    std::fs::write(&cases, text.replace("unreachable\"\n", "denied\"\n")).unwrap();
    until("test cases failed");
    std::fs::write(folder.join("plugin.c"), "no C").unwrap();
    until("the build failed");
    dev.kill().unwrap();
    dev.wait().unwrap();
    drop(lines);
    reader.join().unwrap().ok();
}

const NGINX: &str = r#"
[[case]]
name = "two minutes of a busy nginx"
settings = { host = "web", port = 81 }
[[case.minute]]
http = [{ url = "http://web:81/nginx_status", body = """
Active connections: 123
server accepts handled requests
 1693613501 1693613501 7996986318
Reading: 66 Writing: 16 Waiting: 41
""" }]
samples = { "nginx.connections.connections" = 123, "nginx.queue.reading" = 66, "nginx.queue.writing" = 16, "nginx.queue.waiting" = 41 }
[[case.minute]]
after_seconds = 120
http = [{ url = "http://web:81/nginx_status", body = """
Active connections: 1
server accepts handled requests
 1693613503 1693613501 7996986328
Reading: 0 Writing: 1 Waiting: 0
""" }]
[case.minute.samples]
"nginx.connections.connections" = 1
"nginx.requests.accepts" = 1
"nginx.requests.handled" = 0
"nginx.requests.requests" = 5
"nginx.queue.reading" = 0
"nginx.queue.writing" = 1
"nginx.queue.waiting" = 0
"#;

#[test]
fn test_cases_get_canned_responses_and_do_not_wait_for_their_minutes() {
    let nginx = wasaba_e2e::official("nginx");
    let (passed, said) = test(&Home::with(""), &nginx, NGINX);
    assert!(passed, "{said}");
    assert_eq!(said, "ok      two minutes of a busy nginx\n1 passed, 0 failed\n");
    let wrong = NGINX.replace("\"nginx.requests.requests\" = 5", "\"nginx.requests.requests\" = 10");
    let (passed, said) = test(&Home::with(""), &nginx, &wrong);
    assert!(
        !passed && said.contains("cases.toml:13: nginx.requests.requests is 5, not 10\n0 passed, 1 failed"),
        "{said}"
    );
}

#[test]
fn each_difference_is_reported_with_file_and_line() {
    let home = Home::with("");
    let cases = r#"
[[case]]
name = "a request without a grant"
settings = { do = "fetch", url = "http://elsewhere.example/" }
http = [{ url = "http://elsewhere.example/" }]
samples = { "naughty.good" = 200 }

[[case]]
name = "the same, granted, with another status"
settings = { do = "fetch", url = "http://elsewhere.example/" }
allow = ["http://elsewhere.example"]
http = [{ url = "http://elsewhere.example/", status = 404 }]
samples = { "naughty.good" = 200 }

[[case]]
name = "an unused conversation"
settings = { do = "nothing" }
tcp = [{ with = "db:1", talk = [{ expect = "PING" }] }]
samples = { "naughty.good" = 1 }

[[case]]
name = "a limit of the case"
settings = { do = "loop" }
limits = { compute_ms = 100 }
error = "limit"
says = "compute_ms"

[[case]]
name = "an expected error that does not occur"
settings = { do = "nothing" }
error = "failed"

[[case]]
name = "a response larger than the limit"
settings = { do = "fetch-body", url = "http://elsewhere.example/" }
allow = ["http://elsewhere.example"]
limits = { body_kib = 1 }
http = [{ url = "http://elsewhere.example/", body = { file = "long.txt" } }]
samples = { "naughty.good" = 2000 }

[[case]]
name = "a response that is not read"
settings = { do = "connect", url = "db:1" }
allow = ["db:1"]
tcp = [{ with = "db:1", talk = [{ send = "hello" }] }]
samples = { "naughty.good" = 1.0000000001 }
"#;
    std::fs::write(home.path("long.txt"), "x".repeat(2000)).unwrap();
    let (passed, said) = test(&home, &component("naughty"), cases);
    assert!(!passed);
    let said = said.lines().map(|line| line.split("; to grant it").next().unwrap()).collect::<Vec<_>>().join("\n");
    let expected = "\
FAILED  a request without a grant
        cases.toml:2: failed (denied): no grant for http://elsewhere.example:80
        cases.toml:2: the response to GET http://elsewhere.example/ was not used
FAILED  the same, granted, with another status
        cases.toml:8: naughty.good is 404, not 200
FAILED  an unused conversation
        cases.toml:15: the conversation with db:1 was not used: the plugin did not connect
ok      a limit of the case
FAILED  an expected error that does not occur
        cases.toml:28: expected a failure, got: naughty.good = 1
FAILED  a response larger than the limit
        cases.toml:33: failed (too-large): the response is larger than 1024 bytes (limit `body_kib`)
FAILED  a response that is not read
        cases.toml:41: naughty.good is 1, not 1.0000000001
        cases.toml:41: the conversation with db:1 ended before the plugin read \"hello\"
1 passed, 6 failed
`PLUGIN` failed test cases in `cases.toml`";
    assert_eq!(said, expected);
    let missing = "[[case]]\nname = \"a missing export\"\nerror = \"crashed\"\ncall = \"checks\"\n";
    let (passed, said) = test(&home, &wasaba_e2e::official("nginx"), missing);
    assert!(
        !passed && said.contains("cases.toml:1: expected checks to fail, but the plugin does not export it"),
        "{said}"
    );
}

#[test]
fn invalid_cases_are_reported_with_their_position_and_none_runs() {
    let home = Home::with("");
    let (passed, said) = test(&home, &component("naughty"), "[[case]]\nname = \"a\"\nsampels = { a = 1 }\n");
    assert!(
        !passed && said.contains("cases.toml:3:1: error: unknown key `sampels`, did you mean `samples`?"),
        "{said}"
    );
    let none = home.command(&["plugin", "test"], &[component("naughty").to_str().unwrap(), "none.toml"]);
    assert!(stderr(&none).contains("cannot read the test cases in `none.toml`"), "{}", stderr(&none));
}
