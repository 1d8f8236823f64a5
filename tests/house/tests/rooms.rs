//! The tree against ARCHITECTURE.md and CONTRIBUTING.md: the rooms, their arrows, and the paths that are named.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking, with the reason")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MOST_ROOMS: usize = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn folders(path: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Every Rust file below `path`, with its text; there is at least one.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut sources) = (vec![root().join(path)], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    assert!(!sources.is_empty(), "no Rust file below {path}");
    sources
}

/// Clippy lets the rooms' tests open files, and with that nothing of `agent/clippy.toml` holds in them.
#[test]
fn no_test_of_a_room_blocks_its_thread_for_a_time_or_reads_the_wall_clock() {
    // The clock itself, the thread that gives computing plugins their turns, a start that waits for the end of the agent before it, and
    // the simulation that gives the kernel time to pass a request on before its own clock moves.
    let allowed = ["core/src/clock.rs", "sandbox/src/thread.rs", "spool/log.rs", "mackerel/simulation.rs"];
    let is_allowed = |path: &Path| allowed.iter().any(|end| path.ends_with(end));
    for (path, text) in sources("agent").iter().filter(|(path, _)| !is_allowed(path)) {
        for call in ["thread::sleep(", "park_timeout(", "SystemTime::now("] {
            assert!(!text.contains(call), "{} calls {call}", path.display());
        }
    }
}

/// The arrows that ARCHITECTURE.md draws: each room with those that it may use.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("ARCHITECTURE.md");
    let lines = text.lines().filter_map(|line| line.split_once(" ->").filter(|(room, _)| !room.trim().contains(' ')));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    lines.map(|(room, uses)| (room.trim().to_owned(), words(uses))).collect()
}

/// The manifest of a room.
fn manifest(room: &str) -> toml::Table {
    let path = if room == "src" { "agent/Cargo.toml".to_owned() } else { format!("agent/{room}/Cargo.toml") };
    read(&path).parse().unwrap()
}

/// The names of the packages that the manifest of a room depends on, outside of tests: also to build it, for one target only, or
/// under another name.
fn dependencies(room: &str) -> BTreeSet<String> {
    let manifest = manifest(room);
    let workspace = read("Cargo.toml").parse::<toml::Table>().unwrap();
    let of_workspace = &workspace["workspace"]["dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(|table| table.values());
    let all = toml::Value::Table(manifest.clone());
    let kinds = ["dependencies", "build-dependencies"];
    let tables = std::iter::once(&all).chain(targets).flat_map(|table| kinds.iter().filter_map(|kind| table.get(kind)));
    let mut names = BTreeSet::new();
    for table in tables {
        for (key, value) in table.as_table().unwrap() {
            let package = |value: Option<&toml::Value>| value?.get("package")?.as_str().map(str::to_owned);
            let inherited = value.get("workspace").and_then(|_| of_workspace.get(key));
            names.insert(package(Some(value)).or_else(|| package(inherited)).unwrap_or_else(|| key.clone()));
        }
    }
    names
}

/// The packages in Cargo.lock with what each depends on, tests included.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let lock = read("Cargo.lock").parse::<toml::Table>().unwrap();
    let mut packages = BTreeMap::<String, BTreeSet<String>>::new();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().to_owned();
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        let names = dependencies.map(|name| name.as_str().unwrap().split(' ').next().unwrap().to_owned());
        packages.entry(name).or_default().extend(names);
    }
    packages
}

/// Everything that `room` is built from, its tests included.
fn built_from(room: &str) -> BTreeSet<String> {
    let (locked, mut found) = (locked(), BTreeSet::new());
    let mut next = vec![format!("wasaba-{room}")];
    while let Some(name) = next.pop() {
        if found.insert(name.clone()) {
            next.extend(locked.get(&name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock")).iter().cloned());
        }
    }
    found
}

#[test]
fn there_are_at_most_twelve_rooms_and_architecture_md_describes_each() {
    let rooms = folders("agent");
    assert!(rooms.len() <= MOST_ROOMS, "{} rooms in agent/: {rooms:?}", rooms.len());
    let text = read("ARCHITECTURE.md");
    for room in &rooms {
        assert!(text.contains(&format!("\n| `{room}` | ")), "ARCHITECTURE.md has no row for agent/{room}");
    }
    let drawn = drawn().into_keys().chain(["packaging".to_owned()]).collect::<BTreeSet<_>>();
    assert_eq!(drawn, rooms, "the arrows in ARCHITECTURE.md are those of all rooms");
}

#[test]
fn nothing_is_loose_beside_the_program_and_its_assembly() {
    let files = std::fs::read_dir(root().join("agent/src")).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name().into_string().unwrap());
    let expected = ["lib.rs", "main.rs", "run.rs"].map(str::to_owned);
    assert_eq!(files.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    let loose = std::fs::read_dir(root().join("agent")).unwrap().map(|entry| entry.unwrap());
    let loose = loose.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name().into_string().unwrap());
    let expected = ["Cargo.toml", "build.rs", "clippy.toml"].map(str::to_owned);
    assert_eq!(loose.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
}

#[test]
fn each_room_uses_just_the_rooms_that_architecture_md_draws() {
    let drawn = drawn();
    for (room, uses) in &drawn {
        let own = |name: &String| name.strip_prefix("wasaba-").map(str::to_owned);
        let used = dependencies(room);
        let found = used.iter().filter_map(own).filter(|name| drawn.contains_key(name)).collect::<BTreeSet<_>>();
        assert_eq!(found, *uses, "agent/{room}: its manifest on the left, ARCHITECTURE.md on the right");
    }
}

#[test]
fn only_the_sandbox_names_wasmtime() {
    for room in drawn().into_keys() {
        let named = dependencies(&room);
        let names = |start: &str| named.iter().any(|name| name.starts_with(start));
        assert_eq!(names("wasmtime"), room == "sandbox", "wasmtime in agent/{room}");
    }
}

#[test]
fn the_machine_is_built_without_the_sandbox_the_queue_and_an_http_client_and_delivery_without_the_sandbox() {
    let machine = built_from("machine");
    for heavy in ["wasmtime", "wasmtime-wasi", "cranelift-codegen", "reqwest"] {
        assert!(!machine.contains(heavy), "wasaba-machine is built from {heavy}");
    }
    for room in ["delivery", "config", "official", "containers", "core"] {
        assert!(!built_from(room).contains("wasmtime"), "wasaba-{room} is built from wasmtime");
    }
    assert!(built_from("sandbox").contains("wasmtime"), "the search itself");
}

#[test]
fn only_delivery_knows_the_paths_of_mackerels_api() {
    for room in drawn().into_keys().filter(|room| room != "delivery") {
        for (path, text) in sources(&format!("agent/{room}")) {
            assert!(!text.contains("api/v0"), "{} knows a path of the API", path.display());
        }
    }
}

#[test]
fn every_path_that_contributing_md_and_architecture_md_name_exists() {
    let mut count = 0;
    for page in ["CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let text = read(page);
        for word in text.split('`').skip(1).step_by(2) {
            // What begins with a slash is a path of a machine.
            let is_path = word.contains('/') && !word.starts_with('/') && !word.contains(char::is_whitespace);
            if is_path && !word.contains(['<', '*']) {
                assert!(root().join(word).exists(), "{page} names `{word}`, which does not exist");
                count += 1;
            }
        }
    }
    assert!(count >= 40, "{count}");
}

/// Packages for npm and pip hold no links, so these SDKs have copies.
#[test]
fn the_sdks_have_the_contract_as_it_is() {
    for copy in ["plugin-sdk/python/wasaba_plugin/wit", "plugin-sdk/javascript/wit"] {
        let names = |path: &str| {
            let entries = std::fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap().file_name());
            entries.map(|name| name.into_string().unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(copy), names("wit"), "{copy}");
        for name in names("wit") {
            assert!(read(&format!("{copy}/{name}")) == read(&format!("wit/{name}")), "{copy}/{name}: run generate.sh");
        }
    }
}

#[test]
fn each_promise_of_security_md_names_tests_that_exist() {
    let all = ["agent", "tests/e2e/tests"].into_iter().flat_map(sources).map(|(_, text)| text).collect::<String>();
    let text = read("docs/security.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    let mut count = 0;
    for row in rows {
        let tests = row.rsplit(" | ").next().unwrap();
        let names = tests.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        assert!(!names.is_empty(), "no test in {row}");
        for name in names {
            assert!(
                all.contains(&format!("fn {name}()")),
                "docs/security.md names the test {name}, which does not exist"
            );
            count += 1;
        }
    }
    assert!(count > 20, "only {count} tests");
}

#[test]
fn a_newcomers_ten_questions_are_answered_in_contributing_md() {
    let text = read("CONTRIBUTING.md");
    for question in [
        "a host metric",
        "a capability",
        "a graph of Docker",
        "a flag or a command",
        "a configuration key",
        "a message",
        "something that Mackerel refuses",
        "an output",
        "an official plugin",
        "a limit of plugins",
    ] {
        let answer = text.split_once(&format!("- **{question}**: ")).unwrap_or_else(|| panic!("{question}?")).1;
        let answer = answer.split("\n- ").next().unwrap();
        assert!(
            answer.contains("`agent/") || answer.contains("`tests/") || answer.contains("`plugins/"),
            "{question}: {answer}"
        );
    }
}

#[test]
fn each_file_of_a_room_opens_with_what_it_owns() {
    for (path, text) in sources("agent") {
        assert!(text.starts_with("//! "), "{} does not open with `//! ` and what it owns", path.display());
    }
}
