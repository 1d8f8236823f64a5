//! `wasaba support`: one archive for a ticket, with what this agent and this machine are, and no value of the configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config::Loaded;
use jiff::Timestamp;
use official::glob;
use serde::Serialize;
use show::feed::Request;
use toml::{Table, Value};
use wasaba_core::paths::{own, patient, system, trusted};
use wasaba_core::text::{printable, safe_lines};
use wasaba_core::{clock, container};

use super::configuration::{Whereabouts, texts};
use super::flags::AgentFlags;
use crate::process::control;
use crate::run;

/// The largest file of a configuration that is read.
const MOST_CONFIG_BYTES: u64 = 1024 * 1024;

/// What the archive begins with.
const ABOUT: &str = "\
What `wasaba support` has found. Read it before you send it.

versions.txt       this program, this system, its limits
host.json          how this machine is described to Mackerel: names, addresses, devices
status.txt         the state of the running agent, as `wasaba status` shows it
status.json        the same, for programs
configuration.txt  every key of the configuration, without values, and what `wasaba configtest` says of the files
log.txt            the last lines of the running agent's log

No value of the configuration is in it but the names of plugins, checks and hosts, the address of the API and the proxy, without passwords.
Messages of checks and lines of the log are as they were posted and logged.
";

/// Writes the archive, and prints where it is.
///
/// # Errors
/// It cannot be written. What cannot be found out is said in the archive.
pub fn run(flags: &AgentFlags, output: Option<&Path>) -> Result<(), String> {
    let now = Timestamp::from_second(clock::unix_seconds()).map_err(|error| error.to_string())?;
    let day = now.strftime("%Y%m%d-%H%M%S").to_string();
    let name = format!("wasaba-support-{day}");
    let path = output.map_or_else(|| PathBuf::from(format!("{name}.tar")), Path::to_owned);
    let (text, json, log) = of_agent(flags);
    let files = [
        ("README.txt", ABOUT.to_owned()),
        ("versions.txt", versions(&now)),
        ("host.json", host(flags)),
        ("status.txt", text),
        ("status.json", json),
        ("configuration.txt", configuration(flags)),
        ("log.txt", log),
    ];
    let archive =
        archive(&name, &files, now.as_second()).map_err(|error| format!("cannot make the archive: {error}"))?;
    let written = own::write_new(&path, &archive, 0o600);
    written.map_err(|error| format!("cannot write `{}`: {error}; name another file with --output", path.display()))?;
    super::print(&format!(
        "wrote `{}`: read it before you send it; it has no value of the configuration\n",
        path.display()
    ))
}

/// The archive, in the form of POSIX tar, with the files in a folder.
fn archive(folder: &str, files: &[(&str, String)], seconds: i64) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(seconds).unwrap_or_default());
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, Path::new(folder).join(name), text.as_bytes())?;
    }
    archive.into_inner()
}

fn versions(now: &Timestamp) -> String {
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| printable(&text.to_string_lossy(), 200);
    let mut text = super::version();
    let zone = std::env::var("TZ").map_or_else(|_| "the machine's time zone".to_owned(), |zone| printable(&zone, 60));
    writeln!(text, "time      {now} ({zone})").ok();
    writeln!(text, "kernel    {} {} {}", word(system.sysname()), word(system.release()), word(system.machine())).ok();
    writeln!(text, "container {}", if container::is_ours() { "wasaba's own" } else { "not wasaba's own" }).ok();
    writeln!(text, "user      {}", rustix::process::geteuid().as_raw()).ok();
    let cpus = std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |cpus| cpus.to_string());
    writeln!(text, "cpus      {cpus}").ok();
    for file in ["/etc/os-release", "/proc/self/limits", "/proc/self/cgroup", "/proc/meminfo"] {
        let read = patient::ask(file.as_ref(), patient::LOOK, text_of).flatten();
        writeln!(
            text,
            "\n{file}\n{}",
            read.map_or_else(|error| error.to_string(), |read| safe_lines(&read).into_owned())
        )
        .ok();
    }
    text
}

fn text_of(path: &Path) -> std::io::Result<String> {
    let bytes = system::read(path, 64 * 1024)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn host(flags: &AgentFlags) -> String {
    let Loaded { config, .. } = flags.loaded();
    let described = run::describe(&config, None)();
    json(&described)
}

/// The state in two forms, and the log's last lines.
fn of_agent(flags: &AgentFlags) -> (String, String, String) {
    let Whereabouts { root, pidfile, wrong } = match flags.whereabouts() {
        Ok(found) => found,
        Err(why) => return (why.clone(), json(&why), why),
    };
    let wrong = wrong.map(|wrong| format!("{wrong}\n")).unwrap_or_default();
    let (text, document) = match control::ask(&root, &pidfile) {
        Ok(state) => super::status::shown(&state),
        Err(why) => (why.clone(), json(&why)),
    };
    let log = control::ask_for(&Request::Log, &root, &pidfile);
    let lines = log.and_then(|lines| serde_json::from_slice::<Vec<String>>(&lines).map_err(|error| error.to_string()));
    (wrong + &text, document, lines.map_or_else(|why| why, |lines| lines.concat()))
}

/// The keys of every file, without values.
fn configuration(flags: &AgentFlags) -> String {
    let file = flags.file();
    let Loaded { problems, .. } = flags.loaded();
    let mut text = format!("{}\n", texts(&problems));
    let mut included = Vec::new();
    writeln!(text, "`{}`\n{}", file.display(), keys_of(&file, &mut included)).ok();
    for file in included {
        writeln!(text, "`{}`\n{}", file.display(), keys_of(&file, &mut Vec::new())).ok();
    }
    text
}

/// The keys of one file, and the files that it includes.
fn keys_of(file: &Path, included: &mut Vec<PathBuf>) -> String {
    let read = patient::ask(file, patient::LOOK, |file| trusted::read(file, MOST_CONFIG_BYTES));
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(why)) => return format!("cannot be read: {why}\n"),
        Err(why) => return format!("cannot be read: {why}\n"),
    };
    // The error of the parser shows a part of the text.
    let Ok(table) = String::from_utf8_lossy(&bytes).parse::<Table>() else { return "is not valid TOML\n".to_owned() };
    if let Some(pattern) = table.get("include").and_then(Value::as_str) {
        included.extend(glob::files(pattern).unwrap_or_default());
    }
    let mut text = String::new();
    keys_in(&table, "", &mut text);
    text
}

fn keys_in(table: &Table, above: &str, text: &mut String) {
    for (key, value) in table {
        let key = printable(key, 100);
        let path = if above.is_empty() { key } else { format!("{above}.{key}") };
        let kind = match value {
            Value::Table(table) => {
                keys_in(table, &path, text);
                continue;
            }
            Value::Array(values) => {
                for (place, value) in values.iter().enumerate() {
                    if let Value::Table(table) = value {
                        keys_in(table, &format!("{path}[{place}]"), text);
                    }
                }
                "a list"
            }
            Value::String(_) => "a text",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(true) => "true",
            Value::Boolean(false) => "false",
            Value::Datetime(_) => "a time",
        };
        writeln!(text, "{path} = {kind}").ok();
    }
}

fn json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_configuration_the_keys_are_shown_and_no_value() {
        let text = "apikey = \"SECRET\" # SECRET\nroles = [\"SECRET\"]\npin = 4711\n[plugin.metrics.db]\nwasm = \"SECRET\"\npassword = { file = \"SECRET\" }\n\
                    env = { PASSWORD = \"SECRET\" }\n[[x]]\ny = 4711\nz = true\n";
        let mut shown = String::new();
        keys_in(&text.parse().unwrap(), "", &mut shown);
        assert!(!shown.contains("SECRET") && !shown.contains("4711"), "{shown}");
        let expected = "apikey = a text\npin = a number\nplugin.metrics.db.env.PASSWORD = a text\nplugin.metrics.db.password.file = a text\n\
                        plugin.metrics.db.wasm = a text\nroles = a list\nx[0].y = a number\nx[0].z = true\nx = a list\n";
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&shown), sorted(expected));
    }

    #[test]
    fn the_archive_has_its_files_in_a_folder_that_only_their_owner_reads() {
        let bytes = archive("wasaba-support-1", &[("a.txt", "text".to_owned())], 60).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("wasaba-support-1/a.txt"));
        assert_eq!((entry.header().mode().unwrap(), entry.size()), (0o600, 4));
    }
}
