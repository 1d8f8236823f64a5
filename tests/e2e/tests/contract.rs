//! The contract of plugins: one that uses everything in it, built now and built against each release.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{component, echo};

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
    assert!(log.contains("127.0.0.1:1: unreachable: Connection refused"), "the target without values: {log}");
}

#[test]
fn a_plugin_can_use_everything_in_the_contract_also_one_built_against_an_older_release() {
    does_everything(&component("everything"));
    let fossils = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/fossils");
    for fossil in std::fs::read_dir(fossils).into_iter().flatten() {
        does_everything(&fossil.unwrap().path());
    }
}

#[test]
fn missing_required_settings_are_reported_all_at_once() {
    let file = component("everything").display().to_string();
    let error = stderr(&Home::with("").command(&["plugin", "run"], &[&file]));
    for setting in ["url", "socket", "file"] {
        assert!(error.contains(&format!("the setting `{setting}` is required")), "{error}");
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
