//! Requirements of all official plugins: their cases pass, they are small, and their pages document every setting and graph.

use std::path::PathBuf;
use std::process::Command;

use wasaba_e2e::agent::{Home, assert_golden, stdout};
use wasaba_e2e::{official, wasaba};

const PLUGINS: [&str; 3] = ["nginx", "postgres", "redis"];

fn source(plugin: &str, file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../plugins", plugin, file].iter().collect()
}

#[test]
fn every_plugin_of_the_folder_is_tested_here() {
    let folder = std::fs::read_dir(source("", "")).unwrap();
    let mut there = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    there.sort();
    assert_eq!(there, PLUGINS);
}

#[test]
fn the_cases_of_each_plugin_pass() {
    for plugin in PLUGINS {
        let mut command = Command::new(wasaba());
        let output = command.args(["plugin", "test", plugin]).arg(source(plugin, "tests.toml")).output().unwrap();
        assert!(stdout(&output).contains(" passed, 0 failed"), "{plugin}");
    }
}

#[test]
fn each_component_has_at_most_300_kilobytes() {
    for plugin in PLUGINS {
        let size = std::fs::metadata(official(plugin)).unwrap().len();
        assert!(size <= 300_000, "{plugin} has {size} bytes");
    }
}

#[test]
fn the_page_of_each_plugin_names_every_setting_and_every_graph() {
    for plugin in PLUGINS {
        let page = std::fs::read_to_string(source(plugin, "README.md")).unwrap();
        let inspected = stdout(&Home::with("").command(&["plugin", "inspect"], &[plugin]));
        let (_, rest) = inspected.split_once("\nsettings:\n").unwrap();
        let (settings, rest) = rest.split_once("\n\n").unwrap();
        let keys = settings.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next());
        let keys = keys.map(str::trim).filter(|key| !key.is_empty() && !key.contains(' ')).collect::<Vec<_>>();
        let names = rest.lines().filter_map(|line| line.trim_start().strip_prefix("custom.")?.split("  ").next());
        let names = names.collect::<Vec<_>>();
        assert!(!keys.is_empty() && !names.is_empty(), "{plugin}: no settings or no graphs in:\n{inspected}");
        for key in keys {
            assert!(page.contains(&format!("`{key}`")), "{plugin}: the setting `{key}` is missing");
        }
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "{plugin}: the graph `{name}` is missing");
        }
    }
}

#[test]
fn make_compare_builds_each_plugin_whatever_folder_the_official_programs_are_in() {
    let make = |folder: &str| {
        let mut make = Command::new("make");
        make.args(["-n", "compare", folder]).current_dir(source("", "..")).env_remove("MAKEFLAGS");
        stdout(&make.output().unwrap())
    };
    let commands = make("OFFICIAL=/x");
    for plugin in PLUGINS {
        assert!(
            commands.contains(&format!("-p plugin-{plugin}")) && commands.contains(&format!("/{plugin}.wasm")),
            "{commands}"
        );
    }
    assert!(commands.contains("--bin compare -- \"/x\""), "{commands}");
    assert!(make("OFFICIAL=").contains("OFFICIAL is missing: set it to a folder"));
}

#[test]
fn the_graph_definitions_of_each_plugin_have_the_official_format() {
    let home = Home::with("");
    let definitions = |plugin: &str, flags: &[&str]| {
        let mut command = Command::new(wasaba());
        command.env("MACKEREL_AGENT_PLUGIN_META", "1").args(["plugin", "run", "-conf"]).arg(home.config());
        let text = stdout(&command.arg(plugin).args(flags).output().unwrap());
        let (head, json) = text.split_once('\n').unwrap();
        assert_eq!(head, "# mackerel-agent-plugin");
        format!("{:#}\n", serde_json::from_str::<serde_json::Value>(json).unwrap())
    };
    for (plugin, flags, extra) in [
        ("nginx", &[] as &[&str], "up dropped"),
        (
            "postgres",
            &["-user=x"],
            "up max-connections replication slots transactions locks cache checkpoints databases xid-age",
        ),
        ("redis", &[], "up commands latency hit-ratio memory databases persistence network replica"),
    ] {
        assert_golden(&format!("graphs-{plugin}.json"), &definitions(plugin, flags));
        let mut all = flags.to_vec();
        all.extend(extra.split(' ').flat_map(|name| ["-extra", name]));
        if plugin != "nginx" {
            all.push("-metric-key-prefix=my-server_1");
        }
        assert_golden(&format!("graphs-{plugin}-extra.json"), &definitions(plugin, &all));
    }
}
