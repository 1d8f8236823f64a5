//! `wasaba plugin new`, `build` and `dev`: an untouched new plugin of each language builds, passes its tests, and posts its values. A program
//! of its own, which runs after the others: the compilers would take their time from what those measure.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mackerel_standin::{Memory, Standin};
use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::{SOON, hostile, wasaba};

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

/// How long the agent may compile a component, at the lowest priority, while other tests use every core. `make bench` measures it.
const LONG: Duration = Duration::from_secs(900);

/// Drops the component into the plugins folder of a running agent, which has no limit raised and nothing compiled, and waits for its values.
async fn posts_its_values(component: &Path) {
    let page = r#"{"jobs":{"waiting":3,"done":100},"workers":[{"name":"a","busy":1}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", page.len());
    let server = hostile::answering(head, page.into());
    let standin = Standin::start("key").await.unwrap();
    let home = Home::without_compiled();
    home.configure(&format!("apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url()));
    let _agent = home.start(&[]);
    let has = |name: &'static str, value: f64| {
        move |memory: &Memory| memory.points().iter().any(|point| point.name == name && point.value == value)
    };
    standin.wait_until(SOON, "the host's values", |memory| !memory.points().is_empty()).await.unwrap();
    home.drop_in("my-queue.toml", format!("settings = {{ url = {:?} }}\n", server.url()).as_bytes());
    home.drop_in("my-queue.wasm", &std::fs::read(component).unwrap());
    standin.wait_until(LONG, "waiting jobs", has("custom.my-queue.jobs.waiting", 3.0)).await.unwrap();
    standin.wait_until(SOON, "busy workers", has("custom.my-queue.workers.a.busy", 1.0)).await.unwrap();
}

/// Makes a plugin in this language, builds it, runs its native tests and its cases, and gives it to an agent.
fn is_built_passes_and_posts(language: &str) -> tempfile::TempDir {
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
    let component = folder.join("my-queue.wasm");
    tokio::runtime::Runtime::new().unwrap().block_on(posts_its_values(&component));
    temp
}

#[test]
fn a_new_plugin_in_rust_builds_passes_its_tests_and_posts_its_values() {
    let temp = is_built_passes_and_posts("rust");
    let again = author(temp.path(), &["new", "my-queue"]);
    assert!(!again.status.success() && stderr(&again).contains("already exists"));
    let unknown = author(temp.path(), &["new", "--lang", "cobol", "other"]);
    assert!(stderr(&unknown).contains("plugins are written in rust, python"), "{}", stderr(&unknown));
}

#[test]
fn a_new_plugin_in_python_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("python");
}

#[test]
fn a_new_plugin_in_javascript_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("javascript");
}

#[test]
fn a_new_plugin_in_typescript_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("typescript");
}

#[test]
fn a_new_plugin_in_go_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("go");
}

#[test]
fn a_new_plugin_in_c_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("c");
}

#[test]
fn a_new_plugin_in_cpp_builds_passes_its_tests_and_posts_its_values() {
    is_built_passes_and_posts("cpp");
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
    let until = |end: &str| {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.ends_with("^C ends")) {
            seen.push(lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("no `{end}` in {seen:?}")));
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
