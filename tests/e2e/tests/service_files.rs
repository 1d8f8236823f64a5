//! The files for systemd: the commands and variables of the unit, and its verification by systemd.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use wasaba_e2e::{wasaba, write_program};

const UNIT: &str = include_str!("../../../agent/packaging/systemd/wasaba.service");
const DEFAULTS: &str = include_str!("../../../agent/packaging/systemd/mackerel-agent.default");

fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// A word of a unit's command after systemd's expansion: `$$` is a dollar, and `${NAME}` the value of the variable, or nothing.
fn expanded(word: &str, variables: &[(&str, &str)]) -> String {
    let (mut output, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(after) = after.strip_prefix('$') {
            output.push('$');
            after
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|name| name.split_once('}')) {
            output.extend(variables.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value));
            after
        } else {
            output.push('$');
            after
        };
    }
    output + rest
}

/// The arguments with which `ExecStopPost` runs wasaba with these variables, one per line; empty if it does not.
fn arguments_at_stop(variables: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("wasaba");
    write_program(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let [command] = values(UNIT, "ExecStopPost")[..] else { panic!("not exactly one command") };
    let line = command.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
    let line = expanded(line, variables).replace("/usr/bin/wasaba", &program.display().to_string());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).env_clear().env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_stop_retires_the_host_only_with_auto_retirement() {
    let usual = [("ROOT", "/var/lib/mackerel-agent"), ("OTHER_OPTS", "-role=A:b -v")];
    assert_eq!(arguments_at_stop(&usual), "", "AUTO_RETIREMENT is not set");
    for (value, retires) in [("", false), ("0", false), ("1", true), ("true", true)] {
        let variables = [&usual[..], &[("AUTO_RETIREMENT", value)]].concat();
        let expected = if retires { "retire\n-force\n-root=/var/lib/mackerel-agent\n-role=A:b\n-v\n" } else { "" };
        assert_eq!(arguments_at_stop(&variables), expected, "AUTO_RETIREMENT={value}");
    }
    assert_eq!(
        arguments_at_stop(&[("ROOT", "/r"), ("AUTO_RETIREMENT", "1")]),
        "retire\n-force\n-root=/r\n",
        "without OTHER_OPTS"
    );
}

#[test]
fn the_unit_reads_the_variables_of_the_official_packages() {
    let files = ["-/etc/default/mackerel-agent", "-/etc/sysconfig/mackerel-agent"];
    assert_eq!(values(UNIT, "EnvironmentFile"), files, "optional files");
    assert_eq!(values(UNIT, "Environment"), ["ROOT=/var/lib/mackerel-agent", "WASABA_RESTARTS=1"]);
    assert_eq!(
        values(UNIT, "ExecStart"),
        ["/usr/bin/wasaba -root=${ROOT} -pidfile=/run/wasaba/wasaba.pid $OTHER_OPTS"]
    );
    assert_eq!(values(UNIT, "ExecReload"), ["/bin/sh -c 'kill -HUP $MAINPID'"]);
    // The shipped defaults change nothing.
    let set = DEFAULTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>();
    assert_eq!(set, ["OTHER_OPTS=\"\""]);
    for name in ["#AUTO_RETIREMENT=1\n", "#HTTP_PROXY=", "#HTTPS_PROXY="] {
        assert!(DEFAULTS.contains(name), "{name}");
    }
}

/// The drop-ins, by their names.
fn drop_ins() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agent/packaging/systemd/drop-ins");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |file: PathBuf| {
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())
    };
    files.map(named).collect()
}

#[test]
fn the_drop_ins_for_programs_make_their_work_folder() {
    let drop_ins = drop_ins();
    for name in ["programs", "root"] {
        let text = &drop_ins[name];
        assert_eq!(values(text, "Environment"), ["MACKEREL_PLUGIN_WORKDIR=/var/tmp/mackerel-agent"]);
        let [made] = values(text, "ExecStartPre")[..] else { panic!("not exactly one command") };
        assert_eq!(
            expanded(made, &[("MACKEREL_PLUGIN_WORKDIR", "/somewhere/else")]),
            "/bin/mkdir -m 777 -p /somewhere/else"
        );
    }
}

/// How exposed systemd reckons the unit to be with these drop-ins, in tenths.
fn exposure(names: &[&str]) -> u32 {
    let root = TempDir::new().unwrap();
    let units = root.path().join("etc/systemd/system");
    let enabled = units.join("wasaba.service.d");
    std::fs::create_dir_all(&enabled).unwrap();
    std::fs::write(units.join("wasaba.service"), UNIT).unwrap();
    for name in names {
        std::fs::write(enabled.join(name).with_extension("conf"), &drop_ins()[*name]).unwrap();
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--root"]).arg(root.path()).arg("wasaba.service");
    let output =
        analyze.output().unwrap_or_else(|error| panic!("systemd-analyze, from tests/setup.sh servers: {error}"));
    let said = String::from_utf8(output.stdout).unwrap();
    let level = said.split("Overall exposure level for wasaba.service: ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let (whole, tenths) = level.split_whitespace().next().unwrap().split_once('.').unwrap();
    whole.parse::<u32>().unwrap() * 10 + tenths.parse::<u32>().unwrap()
}

#[test]
fn systemd_reckons_the_unit_at_most_at_17_tenths_and_a_drop_in_opens_only_what_it_is_for() {
    assert!(exposure(&[]) <= 17, "{}", exposure(&[]));
    for name in ["docker", "logs", "native"] {
        assert!(exposure(&[name]) <= 18, "{name}: {}", exposure(&[name]));
    }
    assert!(exposure(&["programs"]) <= 49, "{}", exposure(&["programs"]));
    assert!(exposure(&["root"]) > 90, "it is for what the official agent may");
}

/// The problems that systemd reports in the unit with this program.
fn problems(program: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let unit = folder.path().join("wasaba.service");
    std::fs::write(&unit, UNIT.replace("/usr/bin/wasaba", program)).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze, from tests/setup.sh servers: {error}"));
    // It may also report problems of this machine's own units.
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    lines.lines().filter(|line| line.contains("wasaba.service")).map(str::to_owned).collect()
}

#[test]
fn systemd_reports_no_problem_in_the_unit() {
    assert_eq!(problems(&wasaba().display().to_string()), [] as [&str; 0]);
    assert_ne!(problems("/nowhere/wasaba"), [] as [&str; 0], "a missing program is a problem");
}
