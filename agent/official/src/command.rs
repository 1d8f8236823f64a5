//! The command of an official plugin inside a shell line: `mackerel-plugin-NAME ...`, also behind `sudo`, `env` or `cd / &&`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::shell::{SimpleCommand, UNKNOWABLE, simple_command};

/// A command that runs an official plugin: `mackerel-plugin-NAME ...` or `mackerel-plugin NAME ...`.
pub struct OfficialCommand {
    /// The plugin's name, without `mackerel-plugin-`.
    pub(crate) name: String,
    /// Its flags.
    pub arguments: Vec<String>,
    /// The first thing around it that only a shell or another program could do.
    pub unsupported: Option<&'static str>,
    /// The variables that it gets.
    pub assignments: Vec<(String, String)>,
    /// Where its program would be.
    pub search: Search,
    /// How long `timeout` in front of it lets it run.
    pub timeout: Option<Duration>,
    /// The variables in the line that are not set.
    pub unset: Vec<String>,
}

/// Where a shell would look for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    program: String,
    path: String,
}

impl Search {
    /// Whether the program is installed now. Asks file systems, so it may block.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        is_installed(&self.program, &self.path)
    }
}

/// Commands that run another command on this machine.
const WRAPPERS: &[&str] = &[
    "!",
    "builtin",
    "cd",
    "chronic",
    "chrt",
    "command",
    "dash",
    "do",
    "doas",
    "else",
    "env",
    "exec",
    "export",
    "flock",
    "gosu",
    "if",
    "ionice",
    "nice",
    "nohup",
    "runuser",
    "set",
    "setpriv",
    "setsid",
    "setuidgid",
    "sh",
    "bash",
    "ash",
    "zsh",
    "ksh",
    "stdbuf",
    "su",
    "su-exec",
    "sudo",
    "taskset",
    "then",
    "time",
    "timeout",
    "trap",
    "ulimit",
    "umask",
    "until",
    "while",
    "xargs",
    "{",
];

/// Commands that run another command elsewhere, where the program may well be installed.
const ELSEWHERE: &[&str] = &[
    "chroot",
    "crictl",
    "docker",
    "incus",
    "ip",
    "kubectl",
    "lxc",
    "lxc-attach",
    "machinectl",
    "nerdctl",
    "nsenter",
    "podman",
    "ssh",
    "systemd-run",
    "unshare",
];

/// Where `sudo` and a login shell look for programs as well.
const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/mackerel-agent/plugins/bin";

impl OfficialCommand {
    /// `command` as that of the official plugin `name`, if it runs that plugin. `path` is where a shell looks for programs.
    pub fn of(command: &SimpleCommand, name: &str, path: &str) -> Option<Self> {
        Self::find(command, path).filter(|found| found.name == name)
    }

    /// The official plugin that `command` runs, whether or not it is installed.
    pub(crate) fn find(command: &SimpleCommand, path: &str) -> Option<Self> {
        let (first, timeout) = without_prefixes(command.clone());
        let path = first.variable("PATH").unwrap_or(path);
        let unset = command.unset.clone();
        if let Some(found) = Self::run_by(&first.words, path) {
            let unsupported = command.needs_shell;
            return Some(Self { unsupported, assignments: first.assignments, timeout, unset, ..found });
        }
        let path = format!("{path}:{DEFAULT_PATH}");
        let unsupported = command.needs_shell.unwrap_or("a wrapper around the plugin");
        Some(Self { unsupported: Some(unsupported), unset, ..Self::inside(command, &path)? })
    }

    /// The same for words of which the first is the program.
    fn run_by(words: &[String], path: &str) -> Option<Self> {
        let (program, mut arguments) =
            words.split_first().filter(|(program, _)| !program.contains(char::is_whitespace))?;
        let name = match file_name(program) {
            "mackerel-plugin" => {
                let (name, rest) = arguments.split_first()?;
                arguments = rest;
                name
            }
            file => file.strip_prefix("mackerel-plugin-")?,
        };
        let search = Search { program: program.clone(), path: path.to_owned() };
        Some(Self {
            name: name.to_owned(),
            arguments: arguments.to_vec(),
            unsupported: None,
            assignments: Vec::new(),
            search,
            timeout: None,
            unset: Vec::new(),
        })
    }

    /// The first one behind a wrapper: `sudo -u me mackerel-plugin-NAME ...`, `cd /; mackerel-plugin-NAME ...`, `sh -c '...'`.
    fn inside(command: &SimpleCommand, path: &str) -> Option<Self> {
        let mut assignments = Vec::new();
        for command in std::iter::once(command).chain(&command.following) {
            assignments.extend(command.assignments.iter().cloned());
            if let Some(found) = Self::run_by(&command.words, path) {
                return Some(Self { assignments, ..found });
            }
            if !command.words.first().is_some_and(|first| WRAPPERS.contains(&file_name(first))) {
                continue;
            }
            let mut words = command.words.as_slice();
            while let Some((word, rest)) = words.split_first().filter(|(word, _)| !ELSEWHERE.contains(&file_name(word)))
            {
                let quoted =
                    word.contains(char::is_whitespace).then(|| simple_command(word, |_| Some(UNKNOWABLE.into())));
                if let Some(found) = Self::run_by(words, path).or_else(|| Self::inside(&quoted?, path)) {
                    assignments.extend(found.assignments.iter().cloned());
                    return Some(Self { assignments, ..found });
                }
                assignments.extend(word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
                words = rest;
            }
        }
        None
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or_default()
}

/// `exec env A=b timeout 30 nice program` as `A=b program` that may run for 30 s. Priorities are the program's own affair: a component has
/// its limits.
fn without_prefixes(mut command: SimpleCommand) -> (SimpleCommand, Option<Duration>) {
    let (mut begin, mut assigned, mut timeout) = (0_usize, Vec::new(), None::<Duration>);
    while let Some((first, rest)) = command.words.get(begin..).and_then(<[_]>::split_first) {
        let length = match file_name(first) {
            "env" => {
                let pairs =
                    rest.iter().map_while(|word| word.split_once('=').filter(|(name, _)| !name.starts_with('-')));
                let before = assigned.len();
                assigned.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                assigned.len().saturating_sub(before)
            }
            "exec" | "nohup" => 0,
            "nice" => options(rest, &["n"], "0123456789", &["adjustment"]),
            "ionice" => options(rest, &["c", "n"], "t", &["class", "classdata", "ignore"]),
            "timeout" => {
                let length = options(rest, &["k", "s"], "fpv", TIMEOUT_FLAGS);
                let Some(limit) = rest.get(length).and_then(|word| limit(word)) else { break };
                // 0 stands for none.
                timeout = timeout.into_iter().chain((!limit.is_zero()).then_some(limit)).min();
                length.saturating_add(1)
            }
            _ => break,
        };
        // What is not understood here belongs to the prefix.
        if rest.get(length).is_none_or(|word| word.starts_with('-')) {
            break;
        }
        begin = begin.saturating_add(length).saturating_add(1);
    }
    command.words.drain(..begin);
    command.assignments.extend(assigned);
    (command, timeout)
}

/// The long options of `timeout`.
const TIMEOUT_FLAGS: &[&str] = &["kill-after", "signal", "foreground", "preserve-status", "verbose"];

/// How many of `words` are options: short ones `with_value` (`-n 5`, `-n5`) or made of the letters in `plain` (`-5`, `-v`), and long ones
/// (`--signal=KILL`).
fn options(words: &[String], with_value: &[&str], plain: &str, long: &[&str]) -> usize {
    let mut count = 0_usize;
    while let Some(option) = words.get(count).and_then(|word| word.strip_prefix('-')) {
        let is_long = option
            .strip_prefix('-')
            .is_some_and(|name| long.contains(&name.split_once('=').map_or(name, |(name, _)| name)));
        let is_plain = !option.is_empty() && option.chars().all(|letter| plain.contains(letter));
        count = match with_value.iter().find_map(|letter| option.strip_prefix(letter)) {
            Some("") => count.saturating_add(2),
            Some(_) => count.saturating_add(1),
            None if is_long || is_plain => count.saturating_add(1),
            None => break,
        };
    }
    count
}

/// The time in `30`, `30s`, `0.5m`, `1h` or `1d`.
fn limit(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) if text.ends_with('m') => (number, 60.0),
        Some(number) if text.ends_with('h') => (number, 3_600.0),
        Some(number) if text.ends_with('d') => (number, 86_400.0),
        number => (number.unwrap_or(text), 1.0),
    };
    let number = Some(number).filter(|number| number.starts_with(|first: char| first.is_ascii_digit()))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Whether a shell would find `program`.
fn is_installed(program: &str, path: &str) -> bool {
    let is_program =
        |file: &Path| file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    std::env::split_paths(path).any(|folder| is_program(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, path: &str) -> Option<OfficialCommand> {
        OfficialCommand::find(&simple_command(text, |_| None), path)
    }

    #[test]
    fn other_programs_and_commands_that_run_elsewhere_are_ignored() {
        for command in [
            "/bin/echo mackerel-plugin-nginx",
            "",
            "ssh web mackerel-plugin-nginx",
            "sudo -u me docker exec web mackerel-plugin-nginx",
            "sh -c 'ssh web mackerel-plugin-nginx'",
        ] {
            assert!(find(command, "").is_none(), "{command}");
        }
    }

    #[test]
    fn an_official_plugin_is_found_by_either_name_and_behind_a_wrapper() {
        for (command, name, arguments, unsupported) in [
            ("mackerel-plugin-nginx -port 81", "nginx", &["-port", "81"] as &[&str], None),
            ("/usr/bin/mackerel-plugin mysql -x", "mysql", &["-x"], None),
            ("exec mackerel-plugin-nginx", "nginx", &[], None),
            ("sudo -u me mackerel-plugin-nginx -p", "nginx", &["-p"], Some("a wrapper around the plugin")),
            ("cd / && mackerel-plugin-nginx", "nginx", &[], Some("a `&`")),
        ] {
            let found = find(command, "").unwrap();
            assert_eq!(
                (found.name.as_str(), &found.arguments[..], found.unsupported),
                (name, &arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..], unsupported),
                "{command}"
            );
        }
    }

    #[test]
    fn any_number_of_env_and_exec_may_stand_before_the_program() {
        let found = find(&("exec env A=b ".repeat(20_000) + "mackerel-plugin-nginx -x"), "").unwrap();
        assert_eq!((found.name.as_str(), found.assignments.len(), found.unsupported), ("nginx", 20_000, None));
        let flagged = find("env A=b env -i mackerel-plugin-nginx", "").unwrap();
        assert_eq!(flagged.unsupported, Some("a wrapper around the plugin"));
    }

    #[test]
    fn a_time_limit_and_a_priority_in_front_of_the_program_are_understood_and_the_shortest_limit_counts() {
        for (command, expected) in [
            ("timeout 30 mackerel-plugin-docker 2>/dev/null", Some(30)),
            ("/usr/bin/timeout 1m mackerel-plugin-docker || true", Some(60)),
            ("timeout -k 5 -s KILL 2.0 mackerel-plugin-docker", Some(2)),
            ("timeout --kill-after=5 --foreground -v 1h mackerel-plugin-docker", Some(3_600)),
            ("timeout 30 env A=b timeout 10 mackerel-plugin-docker", Some(10)),
            ("timeout 0 mackerel-plugin-docker", None),
            ("nice -n 19 ionice -c3 mackerel-plugin-docker", None),
            ("nohup nice -10 timeout -s9 30s mackerel-plugin-docker", Some(30)),
        ] {
            let found = find(command, "").unwrap();
            assert_eq!((found.name.as_str(), found.unsupported), ("docker", None), "{command}");
            assert_eq!(found.timeout, expected.map(Duration::from_secs), "{command}");
        }
        for command in [
            "timeout -x 30 mackerel-plugin-docker",
            "timeout soon mackerel-plugin-docker",
            "timeout -t 30 mackerel-plugin-docker",
            "timeout 30 sudo mackerel-plugin-docker",
            "nice -n 19 chroot mackerel-plugin-docker",
            "ionice -p 1 mackerel-plugin-docker",
        ] {
            let found = find(command, "");
            assert!(found.is_none_or(|found| found.unsupported.is_some()), "{command}");
        }
    }

    fn folder_with_nginx(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("mackerel-plugin-nginx");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn a_program_is_looked_up_in_the_path_that_the_command_has_and_must_be_executable() {
        let (folder, data) = (folder_with_nginx(0o755), folder_with_nginx(0o644));
        let (folder, data) = (folder.path().to_str().unwrap(), data.path().to_str().unwrap());
        let path = format!("/nowhere:{folder}");
        for (command, path, expected) in [
            ("mackerel-plugin-nginx -host web", path.as_str(), true),
            ("mackerel-plugin-redis", &path, false),
            ("sudo mackerel-plugin-nginx -host web", &path, true),
            ("cd / && mackerel-plugin-nginx", &path, true),
            (&format!("{folder}/mackerel-plugin-nginx"), "", true),
            (&format!("PATH={folder}:/x mackerel-plugin-nginx"), "", true),
            (&format!("env PATH={folder} mackerel-plugin-nginx"), "", true),
            (&format!("PATH={folder} mackerel-plugin-redis"), "", false),
            ("PATH=/nowhere mackerel-plugin-nginx", folder, false),
            ("mackerel-plugin-nginx", data, false),
        ] {
            assert_eq!(find(command, path).unwrap().search.is_installed(), expected, "{command} in {path}");
        }
    }

    #[test]
    fn only_the_named_plugin_that_is_not_installed_is_taken() {
        let of = |text: &str, name: &str| OfficialCommand::of(&simple_command(text, |_| None), name, "");
        let docker = of("sudo mackerel-plugin-docker -name-format name", "docker").unwrap();
        assert_eq!(docker.unsupported, Some("a wrapper around the plugin"));
        assert!(of("mackerel-plugin-nginx", "docker").is_none());
    }
}
