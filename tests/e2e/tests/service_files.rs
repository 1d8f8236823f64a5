//! The files for systemd: what the unit does at a stop, and that systemd can read it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Stdio};

use tempfile::TempDir;
use wasaba_e2e::{wasaba, write_program};

const UNIT: &str = include_str!("../../../agent/packaging/systemd/wasaba.service");
const DEFAULTS: &str = include_str!("../../../agent/packaging/systemd/mackerel-agent.default");

fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// A word of a unit's command as systemd hands it on: `$$` is a dollar, and `${NAME}` the variable of exactly that name, or nothing.
fn as_of_systemd(word: &str, variables: &[(&str, &str)]) -> String {
    let (mut handed, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        handed.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        rest = if let Some(behind) = behind.strip_prefix('$') {
            handed.push('$');
            behind
        } else if let Some((name, behind)) = behind.strip_prefix('{').and_then(|name| name.split_once('}')) {
            handed.extend(variables.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value));
            behind
        } else {
            handed.push('$');
            behind
        };
    }
    handed + rest
}

/// What the unit's last command starts with these variables, a word a line; nothing if it starts nothing.
fn at_the_stop(variables: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("wasaba");
    write_program(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let [command] = values(UNIT, "ExecStopPost")[..] else { panic!("there is one command") };
    let line = command.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
    let line = as_of_systemd(line, variables).replace("/usr/bin/wasaba", &program.display().to_string());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).env_clear().env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_stop_retires_the_host_only_with_auto_retirement() {
    let usual = [("ROOT", "/var/lib/mackerel-agent"), ("OTHER_OPTS", "-role=A:b -v")];
    assert_eq!(at_the_stop(&usual), "", "it is not set");
    for (value, retires) in [("", false), ("0", false), ("1", true), ("true", true)] {
        let variables = [&usual[..], &[("AUTO_RETIREMENT", value)]].concat();
        let expected = if retires { "retire\n-force\n-root=/var/lib/mackerel-agent\n-role=A:b\n-v\n" } else { "" };
        assert_eq!(at_the_stop(&variables), expected, "AUTO_RETIREMENT={value}");
    }
    assert_eq!(
        at_the_stop(&[("ROOT", "/r"), ("AUTO_RETIREMENT", "1")]),
        "retire\n-force\n-root=/r\n",
        "without OTHER_OPTS"
    );
}

#[test]
fn the_unit_reads_the_variables_of_the_official_packages() {
    let files = ["-/etc/default/mackerel-agent", "-/etc/sysconfig/mackerel-agent"];
    assert_eq!(values(UNIT, "EnvironmentFile"), files, "which need not be there");
    let own = ["MACKEREL_PLUGIN_WORKDIR=/var/tmp/mackerel-agent", "ROOT=/var/lib/mackerel-agent"];
    assert_eq!(values(UNIT, "Environment"), own);
    let folder = [("MACKEREL_PLUGIN_WORKDIR", "/somewhere/else")];
    let [made] = values(UNIT, "ExecStartPre")[..] else { panic!("there is one command") };
    assert_eq!(as_of_systemd(made, &folder), "/bin/mkdir -m 777 -p /somewhere/else");
    assert_eq!(values(UNIT, "ExecStart"), ["/usr/bin/wasaba -root=${ROOT} $OTHER_OPTS"]);
    assert_eq!(values(UNIT, "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    // What is there as it is changes nothing.
    let set = DEFAULTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>();
    assert_eq!(set, ["OTHER_OPTS=\"\""]);
    for name in ["#AUTO_RETIREMENT=1\n", "#HTTP_PROXY=", "#HTTPS_PROXY="] {
        assert!(DEFAULTS.contains(name), "{name}");
    }
}

#[test]
fn systemd_reports_no_problem_in_the_unit() {
    let folder = TempDir::new().unwrap();
    let unit = folder.path().join("wasaba.service");
    std::fs::write(&unit, UNIT.replace("/usr/bin/wasaba", &wasaba().display().to_string())).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let output = output.expect("systemd-analyze, from tests/setup.sh servers");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Of the units of this machine's own it may say what it wants.
    let own = said.lines().filter(|line| line.contains("wasaba.service")).collect::<Vec<_>>();
    assert!(own.is_empty(), "{said}");
}
