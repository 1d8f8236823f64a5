//! The command line: once, version, help, local mode, and invalid configurations.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use wasaba_e2e::agent::{Home, assert_golden, stderr, stdout};
use wasaba_e2e::{SOON, wasaba};

fn plain(arguments: &[&str]) -> std::process::Output {
    Command::new(wasaba()).args(arguments).output().unwrap()
}

#[test]
fn once_prints_the_host_and_its_metrics_in_the_official_format_and_writes_no_id() {
    let home = Home::with("display_name = \"web-1\"\nroles = [\"Shop:web\"]\n");
    let json = serde_json::from_str::<Value>(&stdout(&home.command(&["once"], &[]))).unwrap();
    assert_eq!(json["host"]["displayName"], "web-1");
    assert_eq!(json["host"]["roleFullnames"][0], "Shop:web");
    let batch = &json["metrics"]["Values"][0];
    assert!(batch["CustomIdentifier"].is_null() && json["metrics"]["Created"].is_string());
    for name in ["loadavg1", "memory.total", "cpu.user.percentage"] {
        assert!(batch["Values"][name]["Value"].is_number() && batch["Values"][name]["Time"].is_null(), "{name}");
    }
    assert!(!home.root().join("id").exists() && !home.root().join("wasaba.db").exists());
}

#[test]
fn a_frozen_machine_gives_the_golden_output() {
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/machine");
    let home = Home::with(&format!(
        "[machine]\nproc = \"{machine}/proc\"\nsys = \"{machine}/sys\"\netc = \"{machine}/etc\"\n"
    ));
    let mut json = serde_json::from_str::<Value>(&stdout(&home.command(&["once"], &[]))).unwrap();
    json["metrics"]["Created"] = "<NOW>".into();
    // Not frozen: values from system calls, about the kernel, the network and the space in file systems.
    let host = &mut json["host"];
    host["name"] = "<NAME>".into();
    host["interfaces"] = "<INTERFACES>".into();
    host["meta"]["filesystem"] = "<STATVFS>".into();
    for key in ["agent-name", "agent-revision"] {
        host["meta"][key] = "<REVISION>".into();
    }
    for key in ["name", "release", "version", "machine"] {
        host["meta"]["kernel"][key] = "<UNAME>".into();
    }
    let values = json["metrics"]["Values"][0]["Values"].as_object_mut().unwrap();
    values.retain(|name, _| !name.starts_with("filesystem."));
    assert_golden("once-frozen-machine.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
}

#[test]
fn version_and_help_go_to_standard_output_and_a_usage_error_exits_with_2() {
    assert!(stdout(&plain(&["version"])).starts_with(concat!("wasaba ", env!("CARGO_PKG_VERSION"), " (rev ")));
    let help = stdout(&plain(&["-help"]));
    assert_golden("help.txt", &help);
    for wrong in [&["-no-such-flag"][..], &["no-such-command"], &["plugin"]] {
        assert_eq!(plain(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn all_errors_in_a_configuration_are_reported_at_once_with_exit_code_1() {
    let home = Home::with("");
    std::fs::write(home.config(), "apikey = 5\nroot = [\n").unwrap();
    let output = home.command(&[], &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("agent.conf:") && error.contains("invalid TOML"), "{error}");

    std::fs::write(home.config(), "apikey = \"hunter2\"\nverbose = 1\nroles = \"x\"\n").unwrap();
    let error = stderr(&home.command(&[], &[]));
    assert!(
        error.contains("agent.conf:2:11: error: `verbose`") && error.contains("agent.conf:3:9: error: `roles`"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");

    let missing = plain(&["-conf", "/no/such/file.conf"]);
    assert!(stderr(&missing).contains("there is no `/no/such/file.conf`; name another file with -conf"));
}

#[test]
fn without_a_key_values_are_printed_at_once_and_stored() {
    let home = Home::with("");
    let mut agent = home.start(&[]);
    let line = agent.line_with("memory.total\t", SOON);
    let [_, value, epoch, source] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
    assert!(value.parse::<f64>().is_ok_and(|bytes| bytes > 1e6) && epoch.parse::<i64>().is_ok(), "{line:?}");
    assert_eq!(source, "memory");
    agent.line_with("no API key: the values stay on this machine", SOON);
    agent.signal(Signal::INT);
    assert!(agent.ended(SOON).success());
    let end = agent.line_with("stopped", SOON);
    assert!(!end.contains(" 0 collected") && end.contains(" 0 delivered"), "{end}");
    let mode = std::fs::metadata(home.root().join("wasaba.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the owner may read the values");
}

#[test]
fn a_second_agent_with_the_same_root_is_refused() {
    let home = Home::with("");
    let agent = home.start(&[]);
    agent.line_with("memory.total\t", SOON);
    let error = stderr(&home.command(&[], &[]));
    assert!(error.contains("wasaba.db"), "{error}");
}
