//! The contract of plugins: one that uses everything in it, built now and built against each release.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

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
         host = \"127.0.0.1\", port = {port}, socket = {socket:?}, file = {content:?}, text = [\"a\", \"b\"] }}\n",
        nginx.port
    ));
    home
}

fn does_everything(file: &Path) {
    let nginx = Nginx::start();
    let home = home(file, &nginx);
    let printed = stdout(&home.command(&["plugin", "run"], &["all"]));
    let lines = printed.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "everything.done.http 200.000000",
            "everything.done.tcp 10.000000",
            "everything.done.unix 10.000000",
            "everything.done.file 8.000000",
            "everything.done.calls 1.000000",
            "OK the page is there",
            "{\"texts\":2}",
        ],
        "{}",
        file.display()
    );
}

#[test]
fn a_plugin_can_use_everything_in_the_contract() {
    does_everything(&component("everything"));
}

#[test]
fn a_component_built_against_any_release_still_does_everything() {
    let fossils = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/fossils");
    let fossils = std::fs::read_dir(fossils).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>();
    assert!(!fossils.is_empty());
    for fossil in fossils {
        does_everything(&fossil);
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
    assert_eq!(imports, ["crypto", "files", "http", "kv", "log", "tcp"]);
    for expected in
        ["\n  http       http://127.0.0.1:", "\n  http, tcp  127.0.0.1:", "\n  tcp        unix:/", "\n  files      /"]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(text.contains("refused:\n  none\n") && text.contains("bytes sent"), "{text}");
}
