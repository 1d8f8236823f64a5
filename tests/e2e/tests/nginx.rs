//! The nginx plugin against a real nginx, and against servers that are not nginx.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::certificates::Authority;
use wasaba_e2e::hostile;
use wasaba_e2e::nginx::Nginx;

/// What no message may contain: bob's password, plain and encoded.
const SECRETS: [&str; 2] = ["hunter2", "Ym9iOmh1bnRlcjI"];

/// The counters, in the order of the page.
const COUNTERS: [&str; 3] = ["requests.accepts", "requests.handled", "requests.requests"];

fn without_secrets(output: Output) -> Output {
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    for secret in SECRETS {
        assert!(!said.contains(secret), "{secret} is in: {said}");
    }
    output
}

fn run(home: &Home, flags: &[&str]) -> Output {
    without_secrets(home.command(&["plugin", "run"], &[&["nginx"], flags].concat()))
}

/// `plugin run nginx` on this server.
fn run_on(home: &Home, nginx: &Nginx, more: &[&str]) -> Output {
    run(home, &[&["-host=127.0.0.1", "-port", &nginx.port.to_string()], more].concat())
}

/// The printed values by name, without `nginx.`.
fn values(output: &Output) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let [name, value, _] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        (name.strip_prefix("nginx.").unwrap().to_owned(), value.parse().unwrap())
    };
    stdout(output).lines().map(line).collect()
}

/// Whether the values of the status page were printed.
fn has_values(output: &Output) -> bool {
    values(output).contains_key("queue.waiting")
}

/// The stored counters with their times, from which rates are computed.
fn readings(state: &Path) -> BTreeMap<String, (f64, f64)> {
    let text = std::fs::read_to_string(state).unwrap();
    let readings = serde_json::from_str::<Vec<(String, serde_json::Value)>>(&text).unwrap();
    let number = |reading: &serde_json::Value, key: &str| reading[key].as_f64().unwrap();
    let reading = |(name, reading): (String, serde_json::Value)| {
        let name = name.strip_prefix("nginx.").unwrap().to_owned();
        (name, (number(&reading, "value"), number(&reading, "unix_millis")))
    };
    readings.into_iter().map(reading).collect()
}

/// The values of `once` by name, and its log.
fn once(home: &Home) -> (BTreeMap<String, f64>, String) {
    let output = without_secrets(home.command(&["once"], &[]));
    let json = serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap();
    let values = json.pointer("/metrics/Values/0/Values").unwrap().as_object().unwrap();
    let values = values.iter().map(|(name, sample)| (name.clone(), sample["Value"].as_f64().unwrap()));
    (values.collect(), String::from_utf8(output.stderr).unwrap())
}

fn table(name: &str, settings: &str, rest: &str) -> String {
    let prefix = format!("key_prefix = {name:?}");
    format!("[plugin.metrics.{name}]\nwasm = \"nginx\"\nsettings = {{ {settings} }}\n{prefix}\n{rest}\n")
}

#[test]
fn each_value_equals_the_one_on_the_status_page() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let waiting = [nginx.waiting(), nginx.waiting(), nginx.waiting()];
    let half_asked = [nginx.half_asked(), nginx.half_asked()];
    nginx.wait_until(|[_, _, _, _, reading, _, waiting]| (reading, waiting) == (2, 3));
    let state = home.path("state");
    let page = nginx.status();
    let found = values(&run_on(&home, &nginx, &["-tempfile", state.to_str().unwrap()]));
    let counted = readings(&state);
    // The page was requested like the plugin does: on a new connection, which is then closed.
    let gauges = ["connections.connections", "queue.reading", "queue.writing", "queue.waiting"];
    assert_eq!(gauges.map(|name| found[name]), [page[0], page[4], page[5], page[6]].map(|number| number as f64));
    assert_eq!(gauges.map(|name| found[name]), [6.0, 2.0, 1.0, 3.0]);
    let expected = [page[1], page[2], page[3]].map(|number| (number + 1) as f64);
    assert_eq!(COUNTERS.map(|name| counted[name].0), expected, "one request after that page");
    drop((waiting, half_asked));
}

#[test]
fn the_rates_are_the_counted_requests_over_the_time_between_the_readings() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let state = home.path("state");
    let flags = ["-extra=dropped", "-tempfile", state.to_str().unwrap()];
    let first = values(&run_on(&home, &nginx, &flags));
    assert_eq!(first.len(), 4, "no rate in the first run: {first:?}");
    let before = readings(&state);
    for _ in 0..7 {
        drop(nginx.waiting());
    }
    // A connection with three requests.
    let mut connection = nginx.waiting();
    for _ in 0..2 {
        write!(connection, "GET /empty HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
    }
    std::thread::park_timeout(Duration::from_millis(1_100));
    let second = values(&run_on(&home, &nginx, &flags));
    let after = readings(&state);
    for (name, grown) in COUNTERS.into_iter().zip([9.0, 9.0, 11.0]).chain([("dropped.dropped", 0.0)]) {
        let ((old, begin), (new, end)) = (before[name], after[name]);
        assert_eq!(new - old, grown, "{name}: the requests of this test and of the plugin");
        let rate = grown * 60_000.0 / (end - begin);
        assert!((second[name] - rate).abs() < 1e-6, "{name}: {} is not {rate}", second[name]);
    }
}

#[test]
fn connections_for_which_nginx_has_no_room_are_counted_as_dropped() {
    // Of the ten, one is the listening socket, and one the plugin's connection.
    let (home, nginx) = (Home::with(""), Nginx::start_with_room_for(10));
    let state = home.path("state");
    let flags = ["-extra=dropped", "-tempfile", state.to_str().unwrap()];
    assert!(has_values(&run_on(&home, &nginx, &flags)));
    let dropped = readings(&state)["dropped.dropped"].0;
    // nginx sends nothing on those that it keeps, and closes the newest at once if there is no room for it.
    let (mut kept, mut closed) = (Vec::new(), 0);
    while closed < 3 {
        let mut connection = nginx.half_asked();
        connection.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let timed_out = |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if connection.read(&mut [0]).is_err_and(|error| timed_out(&error)) {
            kept.push(connection);
        } else {
            closed += 1;
        }
    }
    drop(kept);
    nginx.wait_until(|[connections, accepts, handled, ..]| connections == 1 && accepts > handled);
    std::thread::park_timeout(Duration::from_millis(1_100));
    let found = values(&run_on(&home, &nginx, &flags));
    let [accepts, handled, _] = nginx.counters();
    let now = readings(&state)["dropped.dropped"].0;
    assert_eq!(now, (accepts - handled) as f64);
    assert!(now > dropped && found["dropped.dropped"] > 0.0, "{dropped} {now} {found:?}");
}

#[test]
fn each_flag_of_the_official_plugin_works() {
    let authority = Authority::default();
    let (home, nginx) = (Home::with(""), Nginx::start_with_tls(&authority));
    let (port, tls) = (nginx.port.to_string(), nginx.tls_port.to_string());
    let uri = format!("http://127.0.0.1:{port}/nginx_status");
    let host = "-host=127.0.0.1";
    for flags in [
        &["-uri", &uri, "-port=1", "-path=/missing"][..],
        &["-scheme", "http", host, "-port", &port, "-path", "nginx_status"],
        &["--host", "localhost", "--port", &port],
        &[host, "-port", &port, "-path=/own_agent"],
        &[host, "-port", &port, "-path=/two_headers", "-header=X-A: 1", "-header", "x-b:2:3", "-header=User-Agent: me"],
        &[host, "-port", &port, "-path=/virtual_status", "-header", "Host: virtual.example"],
        &[host, "-port", &port, "-path=/moved"],
        &["-scheme=https", host, "-port", &tls, "-tls-skip-verify"],
        &["-scheme=https", host, "-port", &tls, "-tls-skip-verify=true", "-path=/nginx_status"],
    ] {
        assert!(has_values(&run(&home, flags)), "{flags:?}");
    }
    let error = stderr(&run(&home, &["-prot", "1"]));
    assert!(error.contains("unknown flag -prot, did you mean -port?"), "{error}");
}

#[test]
fn a_virtual_host_is_reached_only_with_its_host_header() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let error = stderr(&run_on(&home, &nginx, &["-path=/virtual_status"]));
    assert!(error.contains("begins with \"hello\""), "{error}");
    let config = "path = \"/virtual_status\", header = \"Host: virtual.example\"";
    home.configure(&table("web", &format!("host = \"127.0.0.1\", port = {}, {config}", nginx.port), ""));
    let (values, log) = once(&home);
    assert!(values.contains_key("custom.web.requests.requests"), "{log}");
}

#[test]
fn a_certificate_is_trusted_only_with_the_authority_in_the_table() {
    let (authority, stranger) = (Authority::default(), Authority::default());
    let nginx = Nginx::start_with_tls(&authority);
    let (port, tls) = (nginx.port, nginx.tls_port);
    let trusting = |name: &str, settings: &str, authority: &Authority| {
        table(name, settings, &format!("tls = {{ authority = {:?} }}", authority.file()))
    };
    let localhost = format!("scheme = \"https\", host = \"localhost\", port = {tls}");
    let address = format!("uri = \"https://127.0.0.1:{tls}/nginx_status\"");
    let plain = format!("uri = \"https://localhost:{port}/nginx_status\"");
    let encrypted = format!("host = \"localhost\", port = {tls}");
    let home = Home::with(
        &[
            trusting("right", &localhost, &authority),
            trusting("wrong", &localhost, &stranger),
            table("none", &localhost, ""),
            trusting("other-name", &address, &authority),
            trusting("plain", &plain, &authority),
            table("encrypted", &encrypted, ""),
        ]
        .concat(),
    );
    let (values, log) = once(&home);
    let names = values.keys().filter(|name| name.ends_with(".requests.requests")).collect::<Vec<_>>();
    assert_eq!(names, ["custom.right.requests.requests"], "{log}");
    let line = |name: &str| {
        log.lines()
            .find(|line| line.contains(&format!("plugin {name}: ")))
            .unwrap_or_else(|| panic!("no {name} in {log}"))
    };
    for (name, expected) in [
        ("wrong", "name its authority under `tls`"),
        ("none", "name its authority under `tls`"),
        ("other-name", "not valid for name"),
        ("plain", "does it speak TLS? check `uri`"),
        ("encrypted", "answers 400: the server speaks TLS, set `scheme` to https"),
    ] {
        assert!(line(name).contains(expected) && line(name).contains(": misconfigured: "), "{}", line(name));
    }
}

#[test]
fn a_protected_page_opens_with_a_header_a_file_of_headers_or_a_user_in_the_address() {
    let nginx = Nginx::start();
    let at = format!("host = \"127.0.0.1\", port = {}, path = \"/locked\"", nginx.port);
    let user = |user: &str| format!("uri = \"http://{user}@127.0.0.1:{}/locked\"", nginx.port);
    let home = Home::with("");
    let file = home.path("headers");
    std::fs::write(&file, "Host: test\nAuthorization: Basic Ym9iOmh1bnRlcjI=\n").unwrap();
    home.configure(
        &[
            table("header", &format!("{at}, header = \"Authorization: Basic Ym9iOmh1bnRlcjI=\""), ""),
            table("file", &format!("{at}, header = {{ file = {file:?} }}"), ""),
            table("user", &user("bob:hunter2"), ""),
            table("escaped", &user("b%6Fb:hunter%32"), ""),
            table("nobody", &at, ""),
            table("stranger", &user("bob:hunter22"), ""),
            table("malformed", &user("bob:hunter2%"), ""),
        ]
        .concat(),
    );
    let (values, log) = once(&home);
    let names = values.keys().filter(|name| name.ends_with(".requests.requests")).collect::<Vec<_>>();
    let expected = ["escaped", "file", "header", "user"].map(|name| format!("custom.{name}.requests.requests"));
    assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{log}");
    for expected in [
        "plugin nobody: misconfigured: http://127.0.0.1:",
        "/locked answers 401: user name and password required",
        "/locked answers 401: the server refused the user name and password",
        "[plugin.metrics.malformed]: the setting `uri` has an invalid % escape in its user name or password",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in {log}");
    }
    // A page that echoes the credentials.
    let echo = format!("http://bob:hunter2@127.0.0.1:{}/echo", nginx.port);
    assert!(stderr(&run(&home, &["-uri", &echo])).contains("\"you sent Basic [redacted]\""));
}

#[test]
fn a_wrong_page_is_reported_with_the_setting_to_check() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    for (path, expected) in [
        ("/", "failed: http://127.0.0.1:PORT/ is not a stub_status page, it begins with \"hello\": set `path`"),
        ("/html", "failed: http://127.0.0.1:PORT/html is HTML that begins with \"<!DOCTYPE html>\": set `path`"),
        ("/empty", "failed: http://127.0.0.1:PORT/empty is empty: set `path`"),
        ("/missing", "misconfigured: http://127.0.0.1:PORT/missing answers 404: set `path`"),
        ("/forbidden", "misconfigured: http://127.0.0.1:PORT/forbidden answers 403: add an `allow` line"),
        ("/failing", "failed: http://127.0.0.1:PORT/failing answers 503"),
        ("/circle", "failed: http://127.0.0.1:PORT/circle: more than 10 redirects"),
        (
            "/elsewhere",
            "denied: no grant for http://127.0.0.1:1; to grant it, write `allow = [\"http://127.0.0.1:1\"]`",
        ),
    ] {
        let error = stderr(&run_on(&home, &nginx, &["-path", path]));
        assert!(error.contains(&expected.replace("PORT", &nginx.port.to_string())), "{path}: {error}");
    }
}

#[test]
fn a_redirect_to_another_server_is_followed_only_with_a_grant() {
    let (nginx, home) = (Nginx::start(), Home::with(""));
    let status = format!("http://127.0.0.1:{}", nginx.port);
    let redirecting = hostile::redirecting(&format!("{status}/nginx_status"));
    let settings = format!("uri = {:?}", redirecting.url());
    home.configure(
        &[table("allowed", &settings, &format!("allow = [{status:?}]")), table("refused", &settings, "")].concat(),
    );
    let (values, log) = once(&home);
    assert!(values.contains_key("custom.allowed.requests.requests"), "{log}");
    let cure = format!("write `allow = [{status:?}]` into [plugin.metrics.refused]");
    assert!(log.contains("plugin refused: denied: ") && log.contains(&cure), "{log}");
    assert!(!values.contains_key("custom.refused.queue.waiting"));
}

#[test]
fn a_faulty_server_is_named_and_affects_no_other_instance() {
    let nginx = Nginx::start();
    let (silent, endless) = (hostile::silent(), hostile::endless());
    let huge = hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".into(), vec![b'x'; 100 << 20]);
    let page = b"Active connections: 291 \nserver accepts handled requests\n 16630948 ".to_vec();
    let truncated =
        hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 120\r\nconnection: close\r\n\r\n".into(), page.clone());
    let cut = hostile::answering("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".into(), page);
    let down = format!("http://127.0.0.1:{}/", wasaba_e2e::free_port());
    let bad = [
        ("down", down.clone(), "unreachable", "Connection refused: check `uri`"),
        ("silent", silent.url(), "timeout", "no answer within the call's 1 s (limit `timeout_seconds`)"),
        ("endless", endless.url(), "too-large", "larger than 4194304 bytes (limit `body_kib`)"),
        ("huge", huge.url(), "too-large", "larger than 4194304 bytes (limit `body_kib`)"),
        ("truncated", truncated.url(), "failed", "end of file before message length reached: check `uri`"),
        ("cut", cut.url(), "failed", "a truncated or garbled stub_status page"),
    ];
    let good = table("good", &format!("host = \"127.0.0.1\", port = {}", nginx.port), "");
    let config = bad.iter().map(|(name, url, ..)| table(name, &format!("uri = {url:?}"), "timeout_seconds = 1"));
    let home = Home::with(&(good + &config.collect::<String>()));
    let (values, log) = once(&home);
    for (name, url, kind, why) in &bad {
        let begin = format!("plugin {name}: {kind}: {url}");
        let line = log.lines().find(|line| line.contains(&begin)).unwrap_or_else(|| panic!("no {begin:?} in {log}"));
        assert!(line.contains(why), "{line}");
        assert!(values.keys().all(|value| !value.starts_with(&format!("custom.{name}."))), "{name}: {values:?}");
    }
    assert_eq!(values.keys().filter(|name| name.starts_with("custom.good.")).count(), 7, "{log}");
}

#[test]
fn extra_up_shows_whether_nginx_answers() {
    let nginx = Nginx::start();
    let down = wasaba_e2e::free_port();
    let with_up =
        |name: &str, port: u16| table(name, &format!("host = \"127.0.0.1\", port = {port}, extra = \"up\""), "");
    let home = Home::with(&[with_up("there", nginx.port), with_up("away", down)].concat());
    let (values, log) = once(&home);
    assert_eq!((values["custom.there.up.up"], values["custom.away.up.up"]), (1.0, 0.0));
    assert_eq!(values.keys().filter(|name| name.starts_with("custom.away.")).count(), 1, "{values:?}");
    assert!(log.contains("plugin away: the target is down: http://127.0.0.1:"), "{log}");
    let wrong = stderr(&run_on(&home, &nginx, &["-extra=latency"]));
    assert!(wrong.contains("unknown value \"latency\" in `extra`; valid: up, dropped"), "{wrong}");
}
