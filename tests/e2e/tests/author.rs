//! The tool for plugin authors: `wasaba plugin test`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use wasaba_e2e::agent::{Home, stderr};
use wasaba_e2e::component;

/// Runs `wasaba plugin test` with these cases: whether they passed, and the output.
fn test(home: &Home, wasm: &Path, cases: &str) -> (bool, String) {
    std::fs::write(home.path("cases.toml"), cases).unwrap();
    let (wasm, file) = (wasm.to_str().unwrap(), home.path("cases.toml"));
    let output = home.command(&["plugin", "test"], &[wasm, file.to_str().unwrap()]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text.replace(file.to_str().unwrap(), "cases.toml").replace(wasm, "PLUGIN"))
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
        cases.toml:33: failed (too-large): http://elsewhere.example/: the response is larger than 1024 bytes (limit `body_kib`)
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
fn what_a_plugin_drops_logs_imports_and_computes_is_held_against_its_cases() {
    let home = Home::with("");
    let cases = r#"
[[case]]
name = "samples that fit no graph"
settings = { do = "bad-samples" }
samples = { "naughty.good" = 1 }

[[case]]
name = "the expected line of the log"
settings = { do = "flood" }
limits = { log_lines = 1 }
log = ["info: line 0"]
samples = { "naughty.good" = 1 }

[[case]]
name = "no line of the log"
settings = { do = "flood" }
limits = { log_lines = 2 }
log = []
samples = { "naughty.good" = 1 }

[[case]]
name = "a file that cannot be read"
settings = { do = "read-file", url = "/var/log/a" }
allow = ["file:/var/log/a"]
files = { "/var/log/a" = { unreadable = "Permission denied" } }
error = "failed"
says = "cannot read `/var/log/a`: Permission denied"

[[case]]
name = "a component that imports more"
imports = ["http"]

[[case]]
name = "a budget that is exceeded"
settings = { do = "loop" }
limits = { compute_ms = 100 }
error = "limit"
max_compute_ms = 50

[[case]]
name = "a server that is down is named"
settings = { do = "connect", url = "db:5432" }
allow = ["db:5432"]
tcp = [{ with = "db:5432", unreachable = "connection refused" }]
error = "unreachable"
says = "unreachable: db:5432: connection refused"
"#;
    let (passed, said) = test(&home, &component("naughty"), cases);
    assert!(!passed);
    let lines = said.lines().collect::<Vec<_>>();
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    for expected in [
        "FAILED  samples that fit no graph",
        "cases.toml:2: dropped 1 sample that fits no metric of the plugin's graphs: `custom.memory`",
        "ok      the expected line of the log",
        "FAILED  no line of the log",
        "cases.toml:14: unexpected in the log: \"info: line 0\"",
        "cases.toml:14: unexpected in the log: \"info: line 1\"",
        "ok      a file that cannot be read",
        "FAILED  a component that imports more",
        "cases.toml:29: the component imports ",
        "FAILED  a budget that is exceeded",
        " ms, more than 50 ms (`max_compute_ms`)",
        "ok      a server that is down is named",
        "3 passed, 4 failed",
    ] {
        assert_eq!(with(expected), 1, "{expected} in {said}");
    }
    let file = component("naughty");
    let run = home.command(&["plugin", "run"], &[file.to_str().unwrap(), "-do=bad-samples"]);
    let log = String::from_utf8(run.stderr).unwrap();
    assert!(log.contains("fits no metric of the plugin's graphs: `custom.memory`"), "{log}");
}

#[test]
fn a_component_that_takes_long_to_compile_is_announced_once() {
    let home = Home::without_compiled();
    home.configure("");
    // Enough functions to take the compiler longer than a moment.
    let body = "(i32.store (i32.load (local.get 0)) (i32.load offset=8 (local.get 0)))".repeat(300);
    let functions = format!("(func (param i32) {body})").repeat(200);
    let module = format!("(component (core module (memory 1) {functions}))");
    let file = home.path("long.wasm");
    std::fs::write(&file, wat::parse_str(module).unwrap()).unwrap();
    let said = stderr(&home.command(&["plugin", "inspect"], &[file.to_str().unwrap()]));
    assert_eq!(said.matches("compiling long, once; this may take some seconds").count(), 1, "{said}");
    assert!(said.contains("is not a wasaba plugin"), "{said}");
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
