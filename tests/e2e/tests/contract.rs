//! The contract of plugins: one that uses everything in it, built now and built against each release.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use mackerel_standin::{Memory, Standin};
use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{SOON, component, echo, official};

/// A home whose table `all` runs the plugin in `file` with all its settings, which grant everything that it uses.
fn home(file: &Path, nginx: &Nginx) -> Home {
    let home = Home::default();
    let (socket, content, port) = (home.path("echo.sock"), home.path("content"), echo::tcp());
    echo::unix(&socket);
    std::fs::write(&content, "12345678").unwrap();
    home.configure(&format!(
        "[plugin.metrics.all]\nwasm = {file:?}\nsettings = {{ url = \"http://127.0.0.1:{}/nginx_status\", \
         host = \"127.0.0.1\", port = {port}, socket = {socket:?}, file = {content:?}, text = [\"a\", \"b\"], \
         token = \"X-A: 1234\", endpoint = [\"127.0.0.1:1\", \"127.0.0.1:{port}\"] }}\n",
        nginx.port
    ));
    home
}

fn does_everything(file: &Path) {
    let nginx = Nginx::start();
    let home = home(file, &nginx);
    let output = home.command(&["plugin", "run"], &["all"]);
    let (printed, log) = (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    let lines = printed.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "everything.done.http 200.000000",
            // With the secret, and a byte before and after it.
            "everything.done.tcp 21.000000",
            "everything.done.unix 21.000000",
            "everything.done.file 8.000000",
            "everything.done.calls 1.000000",
            "everything.done.then 1.000000",
            "OK the page is there",
            "else UNKNOWN",
            "{\"texts\":2}",
            "all-more []",
        ],
        "{}",
        file.display()
    );
    assert!(
        log.contains("127.0.0.1:1: unreachable: 127.0.0.1:1: Connection refused"),
        "the target without values: {log}"
    );
}

#[test]
fn a_plugin_can_use_everything_in_the_contract() {
    does_everything(&component("everything"));
}

#[test]
fn missing_required_settings_are_reported_all_at_once() {
    let file = component("everything").display().to_string();
    let error = stderr(&Home::with("").command(&["plugin", "run"], &[&file]));
    for setting in ["url", "socket", "file"] {
        assert!(error.contains(&format!("missing flag -{setting}: ")), "{error}");
    }
}

#[test]
fn explain_prints_imports_grants_refusals_and_usage() {
    let nginx = Nginx::start();
    let output = home(&component("everything"), &nginx).command(&["plugin", "run", "-explain"], &["all"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let imports = text.lines().find_map(|line| line.strip_prefix("imports:   ")).unwrap();
    let mut imports = imports.split(", ").collect::<Vec<_>>();
    imports.sort_unstable();
    assert_eq!(imports, ["call", "crypto", "files", "http", "kv", "log", "tcp"]);
    for expected in
        ["\n  http       http://127.0.0.1:", "\n  http, tcp  127.0.0.1:", "\n  tcp        unix:/", "\n  files      /"]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(text.contains("refused:\n  none\n") && text.contains("bytes sent"), "{text}");
}

#[tokio::test]
async fn one_plugin_has_several_checks_and_documents_under_the_name_of_its_table_and_none_of_another() {
    let (standin, nginx) = (Standin::start("key").await.unwrap(), Nginx::start());
    let home = home(&component("everything"), &nginx);
    let written = std::fs::read_to_string(home.config()).unwrap();
    let table = written.split_once("[plugin.").map(|(_, table)| format!("[plugin.{table}")).unwrap();
    let check = table.replace("[plugin.metrics.all]", "[plugin.checks.all]");
    let metadata = table.replace("[plugin.metrics.all]", "[plugin.metadata.all]");
    // The plugin's document `all-more` is another table's.
    let other = "[plugin.metadata.all-more]\ncommand = \"echo 1\"\n";
    let base = format!("apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url());
    home.configure(&format!("{base}{check}{metadata}{other}"));
    let agent = home.start(&[]);
    agent.line_with("check all-else: UNKNOWN: nothing is known of it", SOON);
    let reported = |memory: &Memory| {
        let named = |name: &str, status: &str| {
            memory.reports().iter().any(|report| report.name == name && report.status == status)
        };
        named("all", "OK") && named("all-else", "UNKNOWN")
    };
    standin.wait_until(SOON, "both reports", reported).await.unwrap();
    agent.line_with("dropped the document `all-more`: another table has this name", SOON);
    let posted = |memory: &Memory| memory.metadata().len() == 2;
    standin.wait_until(SOON, "both tables' documents", posted).await.unwrap();
}

#[test]
fn a_plugin_gets_no_secret_unless_its_table_says_so_and_then_it_is_still_not_shown() {
    let wasm = component("naughty");
    let run = |reveal: &str| {
        let settings = "settings = { do = \"reveal\", token = \"hunter2\" }";
        let home = Home::with(&format!("[plugin.metrics.spy]\nwasm = {wasm:?}\n{settings}\n{reveal}\n"));
        stderr(&home.command(&["plugin", "run"], &["spy"]))
    };
    let denied = run("");
    assert!(
        denied.contains("denied: no grant for the text of a secret") && denied.contains("`reveal = true`"),
        "{denied}"
    );
    let revealed = run("reveal = true");
    assert!(revealed.contains("failed: [redacted]"), "{revealed}");
    assert!(!denied.contains("hunter2") && !revealed.contains("hunter2"));
}

#[test]
fn a_plugin_that_was_only_dropped_in_reaches_no_server_but_an_official_line_reaches_its_programs_own() {
    let home = Home::with("");
    home.drop_in("redis.wasm", &std::fs::read(official("redis")).unwrap());
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let cure = "no grant for localhost:6379; to grant it, write `allow = [\"localhost:6379\"]` into `";
    assert!(log.contains(cure) && log.contains("plugins/redis.toml`"), "{log}");

    // It is the operator's explicit choice, whether or not there is a server.
    home.configure("[plugin.metrics.own]\ncommand = \"mackerel-plugin-redis\"\n");
    std::fs::remove_file(home.root().join("plugins/redis.wasm")).unwrap();
    let output = home.command(&["once"], &[]);
    assert!(output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!log.contains("denied"), "{log}");
}
