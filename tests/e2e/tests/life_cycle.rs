//! The life cycle of plugins in a running agent: files that are added, changed and removed, and reloads of the configuration.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::{SOON, component};

/// The time until the next full minute, with slack for a busy machine.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(240);

/// Long enough for the agent to do what it must not do.
const PAUSE: Duration = Duration::from_millis(1_500);

fn naughty() -> Vec<u8> {
    std::fs::read(component("naughty")).unwrap()
}

/// The same component with other bytes: with a custom section, named x, at the end.
fn naughty_of_another_release() -> Vec<u8> {
    [naughty(), vec![0, 2, 1, b'x']].concat()
}

/// An agent that has compiled the component, and collected once.
fn started(home: &Home) -> Agent {
    home.drop_in("first.wasm", &naughty());
    let agent = home.start(&[]);
    agent.line_with("\tplugin first", SOON);
    agent
}

/// Puts a complete file into the plugins folder by renaming it, like packages do.
fn move_in(home: &Home, name: &str, bytes: &[u8]) {
    let hidden = format!(".{name}.new");
    home.drop_in(&hidden, bytes);
    let folder = home.root().join("plugins");
    std::fs::rename(folder.join(hidden), folder.join(name)).unwrap();
}

fn count(agent: &Agent, text: &str) -> usize {
    agent.lines().iter().filter(|line| line.contains(text)).count()
}

/// The delay is measured by `make bench`. The next minute, in which the plugin would be called anyway, is at least 25 s away.
#[tokio::test]
async fn a_file_that_is_dropped_in_runs_before_the_next_minute_even_if_the_folder_is_new() {
    let home = Home::with("");
    // Compiles it.
    let _text = stdout(&home.command(&["plugin", "inspect"], &[component("naughty").to_str().unwrap()]));
    wasaba_e2e::not_at_the_end_of_a_minute().await;
    let agent = home.start(&[]);
    agent.line_with("loadavg1\t", SOON);
    std::thread::park_timeout(PAUSE);
    // The agent has made it.
    std::fs::remove_dir(home.root().join("plugins")).unwrap();
    std::fs::create_dir(home.root().join("plugins")).unwrap();
    home.drop_in("late.wasm", &naughty());
    agent.line_with("custom.naughty.good\t1\t", Duration::from_secs(20));
    assert_eq!(count(&agent, "plugin late runs"), 1);
}

#[test]
fn a_file_that_is_written_slowly_is_not_loaded_before_it_is_complete() {
    let home = Home::with("");
    let agent = started(&home);
    let (bytes, path) = (naughty(), home.root().join("plugins/slow.wasm"));
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut file = File::create(path).unwrap();
    file.write_all(first).unwrap();
    // Another file makes the agent scan the folder in the meantime.
    home.drop_in("second.wasm", &bytes);
    agent.line_with("plugin second runs", SOON);
    std::thread::park_timeout(PAUSE);
    assert_eq!(count(&agent, "plugin slow"), 0, "{:#?}", agent.lines());
    file.write_all(second).unwrap();
    drop(file);
    agent.line_with("plugin slow runs", SOON);
    assert_eq!(count(&agent, "skipped"), 0, "{:#?}", agent.lines());
}

#[test]
fn a_replaced_file_is_reloaded_a_broken_one_is_not_and_a_removed_one_stops() {
    let home = Home::with("");
    let agent = started(&home);
    move_in(&home, "first.wasm", &naughty_of_another_release());
    agent.line_with("plugin first was replaced", SOON);

    move_in(&home, "first.wasm", b"no component");
    let line = agent.line_with("plugin first keeps running unchanged", SOON);
    assert!(line.contains("is not a WebAssembly file"), "{line}");
    // A failure of a file is logged only once, whatever else changes in the folder.
    home.drop_in("second.wasm", &naughty());
    agent.line_with("plugin second runs", SOON);
    assert_eq!((count(&agent, "keeps running unchanged"), count(&agent, "plugin first was removed")), (1, 0));
    let warning = agent.line_with("post to the same graph", SOON);
    assert!(warning.contains("plugin first and plugin second") && warning.contains("key_prefix"), "{warning}");
    agent.line_with(
        "plugin second: dropped 1 value under names of others, such as `custom.naughty.good` of plugin first",
        SOON,
    );

    home.drop_in("second.toml", b"key_prefix = \"second\"\n");
    agent.line_with("\tplugin second", SOON);
    let values = |name: &str| count(&agent, &format!("\tplugin {name}"));
    std::fs::remove_file(home.root().join("plugins/second.wasm")).unwrap();
    agent.line_with("plugin second was removed", SOON);
    let before = (values("first"), values("second"));
    let begin = Instant::now();
    while values("first") == before.0 {
        assert!(begin.elapsed() < A_MINUTE_AND_MORE, "the old one stopped: {:#?}", agent.lines());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    std::thread::park_timeout(PAUSE);
    assert_eq!(values("second"), before.1, "{:#?}", agent.lines());
}

#[test]
fn sighup_adds_a_new_table_and_a_broken_file_changes_nothing() {
    let home = Home::with("confinement = false\n");
    let agent = started(&home);
    let table = format!("[plugin.metrics.web]\nwasm = {:?}\nkey_prefix = \"web\"\n", component("naughty"));
    home.configure(&format!("confinement = false\nself_metrics = true\n{table}"));
    agent.signal(Signal::HUP);
    agent.line_with("\tplugin web", SOON);
    agent.line_with("`self_metrics` takes effect after a restart", SOON);
    assert_eq!(count(&agent, "takes effect after a restart"), 1);

    home.configure("roles = [\n");
    agent.signal(Signal::HUP);
    agent.line_with("cannot reload the configuration, keeping the previous one", SOON);
    agent.line_with("agent.conf:3", SOON);
    std::thread::park_timeout(PAUSE);
    assert_eq!(count(&agent, "was removed"), 0, "{:#?}", agent.lines());

    home.configure("confinement = false\n");
    agent.signal(Signal::HUP);
    agent.line_with("plugin web was removed", SOON);
    assert_eq!(count(&agent, "plugin first was"), 0, "an unchanged plugin was affected");
}

#[test]
fn a_plugin_that_hangs_in_a_call_is_replaced_and_its_successor_runs_after_the_timeout() {
    let (home, server) = (Home::default(), wasaba_e2e::hostile::silent());
    let url = server.url();
    let table = format!("settings = {{ do = \"fetch\", url = {url:?} }}\nallow = [{url:?}]\ntimeout_seconds = 3\n");
    home.drop_in("first.toml", table.as_bytes());
    home.drop_in("first.wasm", &naughty());
    home.configure("");
    let agent = home.start(&[]);
    assert!(server.is_visited_within(SOON), "{:?}", agent.lines());
    move_in(&home, "first.toml", b"");
    move_in(&home, "first.wasm", &naughty_of_another_release());
    agent.line_with("plugin first was replaced", SOON);
    agent.line_with("naughty.good\t1\t", SOON);
}
