//! The command line of a plugin: settings as flags, and what the official plugins take from their environment.
//!
//! A configuration of the official agent has `command = "mackerel-plugin-nginx -host=web"`. Where no such program is installed,
//! the component of that name runs, its settings being named like the program's flags. `wasaba plugin run` takes the same flags.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use wasaba_core::setting::{Setting, SettingKind};
use wasaba_core::tls::Trust;

use crate::shell::{SimpleCommand, UNKNOWABLE, simple_command};

/// A command line, for a plugin to be known later. It has no `Debug`: there may be secrets in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `-host=web`, `-port`, `80`.
    pub flags: Vec<String>,
    /// What the program would find in its environment, as far as it looks at it; the last of a name counts.
    pub environment: Vec<(String, String)>,
    /// What cannot be carried over to a component, if there is such a thing.
    pub beyond: Option<String>,
    /// The official plugin in whose place it runs.
    official: Option<&'static Official>,
    /// Whether somebody types it now, so that it wins over the table.
    typed: bool,
}

/// What is given to a plugin: its settings, key and value, and whom its connections believe.
#[derive(Clone, Default)]
pub struct Given {
    /// Key and value; a list is a key several times.
    pub settings: Vec<(String, String)>,
    /// Whom its connections believe, and who they say they are.
    pub trust: Trust,
}

/// What is special about an official plugin's command line.
#[derive(PartialEq, Eq)]
struct Official {
    name: &'static str,
    /// Variables that stand in for a flag that is not given.
    variables: &'static [(&'static str, &'static str)],
    /// Variables that it obeys and a component cannot.
    foreign: &'static [&'static str],
}

const OFFICIAL: &[Official] = &[
    Official { name: "nginx", variables: &[], foreign: &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] },
    Official {
        name: "postgres",
        variables: &[("PGPASSWORD", "password"), ("PGDATABASE", "database")],
        foreign: &["PGOPTIONS", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLNEGOTIATION", "PGTARGETSESSIONATTRS"],
    },
    Official { name: "redis", variables: &[("REDIS_PASSWORD", "password")], foreign: &[] },
];

/// The variables of PostgreSQL's clients for the files that a table names under `tls`.
const TLS_FILES: [&str; 3] = ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

impl Official {
    fn named(name: &str) -> Option<&'static Self> {
        OFFICIAL.iter().find(|official| official.name == name)
    }

    fn reads(&self, variable: &str) -> bool {
        self.variables.iter().any(|(name, _)| *name == variable)
            || (self.name == "postgres" && TLS_FILES.contains(&variable))
    }
}

/// A command that runs an official plugin: `mackerel-plugin-NAME ...` or `mackerel-plugin NAME ...`.
pub struct OfficialCommand {
    /// Which one.
    name: String,
    /// Its flags.
    pub arguments: Vec<String>,
    /// What cannot be carried over, if there is such a thing.
    pub beyond: Option<&'static str>,
    /// The variables that it gets.
    pub assignments: Vec<(String, String)>,
    /// Where its program would be.
    pub search: Search,
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
        is_there(&self.program, &self.path)
    }
}

/// Commands that do something to a command that they run here.
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

/// Commands that run it elsewhere, where the program may well be.
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

/// Where `sudo` and a log-in shell look for programs besides.
const USUAL_FOLDERS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/mackerel-agent/plugins/bin";

impl OfficialCommand {
    /// The official plugin that `command` runs, if it is one. `path` is where a shell looks for programs.
    fn find(command: &SimpleCommand, path: &str) -> Option<Self> {
        let first = without_env(command.clone());
        let path = first.variable("PATH").unwrap_or(path);
        if let Some(found) = Self::run_by(&first.words, path) {
            return Some(Self { beyond: command.beyond, assignments: first.assignments, ..found });
        }
        let usual = format!("{path}:{USUAL_FOLDERS}");
        let around = command.beyond.unwrap_or("another command around it");
        Some(Self { beyond: Some(around), ..Self::inside(command, &usual)? })
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
            beyond: None,
            assignments: Vec::new(),
            search,
        })
    }

    /// The first in what wraps it: `sudo -u me mackerel-plugin-NAME ...`, `cd /; mackerel-plugin-NAME ...`, `sh -c '...'`.
    fn inside(command: &SimpleCommand, path: &str) -> Option<Self> {
        let mut assignments = Vec::new();
        for command in std::iter::once(command).chain(&command.behind) {
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

    /// The command as that of the official plugin of this name, if it is that.
    pub fn of(command: &SimpleCommand, name: &str, path: &str) -> Option<Self> {
        Self::find(command, path).filter(|found| found.name == name)
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or_default()
}

/// `exec env A=b program`, as `A=b program`.
fn without_env(mut command: SimpleCommand) -> SimpleCommand {
    let Some(first) = command.words.first() else { return command };
    let pairs =
        command.words.iter().skip(1).map_while(|word| word.split_once('=').filter(|(name, _)| !name.starts_with('-')));
    let pairs = match file_name(first) {
        "env" => pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>(),
        "exec" => Vec::new(),
        _ => return command,
    };
    let rest = command.words.get(pairs.len().saturating_add(1)..).unwrap_or_default();
    // A flag is for itself.
    if rest.first().is_none_or(|word| word.starts_with('-')) {
        return command;
    }
    command.words = rest.to_vec();
    command.assignments.extend(pairs);
    without_env(command)
}

impl CommandLine {
    /// The component's name, its command line and where its program would be, for a `command` of a configuration whose table has
    /// this `env`; `None` if it is not an official plugin that a component can stand in for. `variable` is the agent's own
    /// environment.
    pub fn of_command(
        command: SimpleCommand,
        env: &[(String, String)],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<(&'static str, Self, Search)> {
        let path =
            env.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| value.clone()).or_else(|| variable("PATH"));
        let found = OfficialCommand::find(&command, &path.unwrap_or_default());
        let OfficialCommand { name, arguments: flags, assignments, beyond, search } = found?;
        let official = Official::named(&name)?;
        let written = env.iter().chain(&assignments);
        let foreign = written.clone().find(|(name, _)| official.foreign.contains(&name.as_str()));
        let foreign =
            foreign.map(|(name, _)| format!("`command` has the variable {name}, which the component does not obey"));
        let beyond = beyond.map(|beyond| format!("`command` has {beyond}")).or(foreign);
        let inherited = Self::typed(official.name, Vec::new(), variable);
        let mut line = Self { flags, beyond: beyond.or(inherited.beyond), typed: false, ..inherited };
        line.environment.extend(written.filter(|(name, _)| official.reads(name)).cloned());
        Some((official.name, line, search))
    }

    /// The flags of the plugin that somebody asks for as `wanted`: an official one's name brings its environment along.
    pub fn typed(wanted: &str, flags: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let official = Official::named(wanted);
        let names = official.into_iter().flat_map(|official| {
            let files = TLS_FILES.iter().filter(|file| official.reads(file));
            official.variables.iter().map(|(name, _)| name).chain(files)
        });
        let environment = names.filter_map(|name| Some(((*name).to_owned(), variable(name)?))).collect();
        // A proxy is mostly the agent's own.
        let mut foreign =
            official.into_iter().flat_map(|official| official.foreign).filter(|name| name.starts_with("PG"));
        let foreign = foreign.find(|name| variable(name).is_some_and(|value| !value.is_empty()));
        let beyond =
            foreign.map(|name| format!("the environment has {name}, which the component does not obey: unset it"));
        Self { flags, environment, beyond, official, typed: true }
    }

    /// What was `written` in the plugin's table together with this command line: what is typed wins over the table, the table over
    /// a `command`, and both over the environment.
    ///
    /// # Errors
    /// A flag that is wrong, or something that a component cannot do; for a `command` with the table to write instead.
    pub fn together_with(&self, written: Given, plugin: &str, declared: &[Setting]) -> Result<Given, String> {
        let Flags { settings: mut flags, wrong, nameless, .. } = Flags::parse(declared, &self.flags);
        let wrong = self.beyond.clone().or(wrong);
        let folder = self.socket_of_folder(&mut flags);
        if let Some(why) = wrong.or(folder.err()) {
            let mut settings = flags;
            self.add_environment(&mut settings);
            let settings = in_table(declared, &settings);
            let tls = self.tls_in_table().map(|tls| format!(" and `tls = {tls}`")).unwrap_or_default();
            let table = format!("`wasm = {plugin:?}` and `settings = {settings}`{tls}")
                .replace("\\0", "...")
                .replace(UNKNOWABLE, "...");
            let dots = if table.contains("...") { ", with what `...` stands for" } else { "" };
            let more = if nameless { ", and with the flags that only the shell knows" } else { "" };
            return Err(if self.typed {
                why
            } else {
                format!("{why}; write {table} in place of the command{dots}{more}")
            });
        }
        let mut merged = written;
        let (mut wins, loses) =
            if self.typed { (flags, merged.settings) } else { (std::mem::take(&mut merged.settings), flags) };
        let new = loses.into_iter().filter(|(key, _)| wins.iter().all(|(given, _)| given != key)).collect::<Vec<_>>();
        wins.extend(new);
        self.add_environment(&mut wins);
        merged.settings = wins;
        let [authority, certificate, key] = TLS_FILES.map(|name| self.variable(name).map(PathBuf::from));
        let trust = &mut merged.trust;
        trust.authority = trust.authority.take().or(authority);
        trust.identity = trust.identity.take().or(certificate.zip(key));
        Ok(merged)
    }

    /// Where the counters' readings are to be kept, if a flag says so.
    #[must_use]
    pub fn state_file(&self, declared: &[Setting]) -> Option<PathBuf> {
        Flags::parse(declared, &self.flags).state
    }

    /// `tls` as the variables have it.
    fn tls_in_table(&self) -> Option<String> {
        let keys = ["authority", "certificate", "key"].into_iter().zip(TLS_FILES);
        let pairs =
            keys.filter_map(|(key, name)| Some(format!("{key} = {:?}", self.variable(name)?))).collect::<Vec<_>>();
        (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().rfind(|(known, _)| known == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn add_environment(&self, settings: &mut Vec<(String, String)>) {
        for (name, key) in self.official.map_or(&[] as &[_], |official| official.variables) {
            if let Some(value) = self.variable(name).filter(|_| settings.iter().all(|(given, _)| given != key)) {
                settings.push(((*key).to_owned(), value.to_owned()));
            }
        }
    }

    /// PostgreSQL's clients take the folder of a unix socket for a host.
    fn socket_of_folder(&self, settings: &mut Vec<(String, String)>) -> Result<(), String> {
        if self.official.is_none_or(|official| official.name != "postgres") {
            return Ok(());
        }
        let host = settings.iter().position(|(key, value)| key == "hostname" && value.starts_with(['/', '@']));
        let Some((_, folder)) = host.map(|index| settings.remove(index)) else { return Ok(()) };
        if folder.starts_with('@') {
            return Err("-hostname is an abstract unix socket, which a component cannot reach".to_owned());
        }
        let port = settings.iter().find(|(key, _)| key == "port").map_or("5432", |(_, port)| port);
        let socket = format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/'));
        settings.push(("socket".to_owned(), socket));
        Ok(())
    }
}

/// Whether a shell would find `program`.
fn is_there(program: &str, path: &str) -> bool {
    let is_program =
        |file: &Path| file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    std::env::split_paths(path).any(|folder| is_program(&folder.join(program)))
}

/// Flags in Go's form: `-x v`, `-x=v`, `--x v`, `--x=v`; booleans only `-b` or `-b=v`. And `-tempfile`, which every official plugin
/// has.
#[derive(Default)]
pub struct Flags {
    /// What they set.
    pub settings: Vec<(String, String)>,
    state: Option<PathBuf>,
    /// What is wrong with the first flag that is; the settings are then those of the others.
    pub wrong: Option<String>,
    /// Whether there are words of which only a shell knows what they are.
    nameless: bool,
}

impl Flags {
    /// Reads the flags of a plugin with these settings.
    #[must_use]
    pub fn parse(declared: &[Setting], flags: &[String]) -> Self {
        let mut parsed = Self::default();
        parsed.read(declared, flags);
        // With Go's flags the last one counts; only a repeatable setting keeps all.
        let repeatable = |key: &str| declared.iter().any(|setting| setting.key == key && setting.repeatable);
        let last = |(index, (key, _)): &(usize, &(String, String))| {
            repeatable(key) || parsed.settings.iter().skip(index.saturating_add(1)).all(|(later, _)| later != key)
        };
        parsed.settings = parsed.settings.iter().enumerate().filter(last).map(|(_, setting)| setting.clone()).collect();
        parsed
    }

    fn read(&mut self, declared: &[Setting], flags: &[String]) {
        let mut flags = flags.iter().peekable();
        while let Some(flag) = flags.next() {
            let name = flag.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
            let (name, value) = match name.unwrap_or_default().split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name.unwrap_or_default(), None),
            };
            if name.is_empty() || name.contains(UNKNOWABLE) {
                if flag.contains(UNKNOWABLE) {
                    self.nameless = true;
                } else {
                    self.wrong.get_or_insert_with(|| format!("{flag:?} is no flag; write -{}", valid(declared)));
                }
                continue;
            }
            // The official plugins write some with an underscore.
            let name = name.replace('_', "-");
            let kind = declared.iter().find(|setting| setting.key == name).map(|setting| setting.kind);
            if kind.is_none() && name != "tempfile" {
                self.wrong.get_or_insert_with(|| {
                    format!("the plugin has no flag -{name}; it has -{}, -tempfile", valid(declared))
                });
                // What follows is its value, most likely.
                if value.is_none() {
                    flags.next_if(|next| !next.starts_with('-'));
                }
                continue;
            }
            let is_boolean = matches!(kind, Some(SettingKind::Boolean | SettingKind::TlsSkipVerify));
            let value = value.or_else(|| if is_boolean { Some("true".to_owned()) } else { flags.next().cloned() });
            let Some(value) = value else {
                self.wrong.get_or_insert_with(|| format!("the flag -{name} needs a value"));
                return;
            };
            match kind {
                None => self.state = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from),
                // An empty address or path is none, as with the official plugins' own defaults.
                Some(SettingKind::Url | SettingKind::UnixSocket | SettingKind::File) if value.is_empty() => {}
                Some(kind) => self.settings.push((name, as_setting(kind, value))),
            }
        }
    }
}

/// A flag's value as it would be written for a setting: the official plugins count time in seconds and take Go's booleans.
fn as_setting(kind: SettingKind, value: String) -> String {
    match kind {
        SettingKind::Duration if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{value}s")
        }
        SettingKind::Boolean | SettingKind::TlsSkipVerify => match value.as_str() {
            "1" | "t" | "T" | "TRUE" | "True" => "true".to_owned(),
            "0" | "f" | "F" | "FALSE" | "False" => "false".to_owned(),
            _ => value,
        },
        _ => value,
    }
}

fn valid(declared: &[Setting]) -> String {
    declared.iter().map(|setting| setting.key.as_str()).collect::<Vec<_>>().join(", -")
}

/// The settings in a table that do the same, in one line. A secret is not in it.
fn in_table(declared: &[Setting], settings: &[(String, String)]) -> String {
    let kind = |key: &str| declared.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    let mut pairs = Vec::new();
    for (key, value) in settings {
        if pairs.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let all =
            settings.iter().filter(|(other, _)| other == key).map(|(_, value)| format!("{:?}", without_secrets(value)));
        let all = all.collect::<Vec<_>>();
        let value = match kind(key) {
            Some(SettingKind::Secret) => "{ file = \"/path/of/a/file/with/it\" }".to_owned(),
            Some(SettingKind::Port | SettingKind::Integer | SettingKind::Boolean | SettingKind::TlsSkipVerify) => {
                value.clone()
            }
            _ if all.len() > 1 => format!("[{}]", all.join(", ")),
            _ => all.concat(),
        };
        pairs.push((key, value));
    }
    let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ");
    format!("{{ {pairs} }}")
}

/// A URL may have a password in it, and a token in its query, which a path may have, too.
fn without_secrets(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    if scheme.is_empty() && !value.starts_with('/') {
        return value.to_owned();
    }
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path =
        path.find(['?', '#']).and_then(|end| path.get(..=end)).map_or(path.to_owned(), |path| format!("{path}..."));
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::simple_command;

    fn setting(key: &str, kind: SettingKind) -> Setting {
        let (default, help) = (None, String::new());
        Setting { key: key.into(), kind, default, required: false, repeatable: key == "header", help }
    }

    fn declared() -> Vec<Setting> {
        vec![
            setting("hostname", SettingKind::Host),
            setting("host", SettingKind::Host),
            setting("port", SettingKind::Port),
            setting("password", SettingKind::Secret),
            setting("database", SettingKind::Text),
            setting("header", SettingKind::Text),
            setting("connect-timeout", SettingKind::Duration),
            setting("tls-skip-verify", SettingKind::TlsSkipVerify),
            setting("socket", SettingKind::UnixSocket),
            setting("uri", SettingKind::Url),
        ]
    }

    fn agents_environment(name: &str) -> Option<String> {
        (name == "REDIS_PASSWORD").then(|| "inherited".to_owned())
    }

    fn line(command: &str, env: &[(&str, &str)]) -> Option<(&'static str, CommandLine)> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let (plugin, line, search) =
            CommandLine::of_command(simple_command(command, |_| None), &env, agents_environment)?;
        (!search.is_installed()).then_some((plugin, line))
    }

    fn settings(command: &str) -> Result<Vec<String>, String> {
        let (plugin, line) = line(command, &[]).unwrap();
        let merged = line.together_with(Given::default(), plugin, &declared())?;
        Ok(merged.settings.iter().map(|(key, value)| format!("{key}={value}")).collect())
    }

    #[test]
    fn an_official_command_line_becomes_settings() {
        for (command, expected) in [
            ("mackerel-plugin-nginx -host=web --port 80", &["host=web", "port=80"] as &[&str]),
            ("/usr/local/bin/mackerel-plugin-nginx -header a:1 -header 'b: 2'", &["header=a:1", "header=b: 2"]),
            ("mackerel-plugin nginx -host a -host b -tempfile /t", &["host=b"]),
            ("mackerel-plugin-nginx -tls-skip-verify -host x", &["tls-skip-verify=true", "host=x"]),
            ("mackerel-plugin-nginx -tls-skip-verify=F", &["tls-skip-verify=false"]),
            ("mackerel-plugin-postgres -connect_timeout 3", &["connect-timeout=3s"]),
            ("PGPASSWORD='a b' PGDATABASE=d mackerel-plugin-postgres", &["password=a b", "database=d"]),
            ("env PGPASSWORD=x LANG=C mackerel-plugin-postgres -hostname h", &["hostname=h", "password=x"]),
            ("PGPASSWORD=x mackerel-plugin-postgres -password=y", &["password=y"]),
            ("mackerel-plugin-postgres -hostname /run/pg/ -port 5433", &["port=5433", "socket=/run/pg/.s.PGSQL.5433"]),
            ("mackerel-plugin-redis", &["password=inherited"]),
            ("mackerel-plugin-redis -socket='' -port 1", &["port=1", "password=inherited"]),
            ("REDIS_PASSWORD=own mackerel-plugin-redis", &["password=own"]),
        ] {
            assert_eq!(settings(command).unwrap(), expected, "{command}");
        }
    }

    #[test]
    fn what_is_no_official_plugin_of_ours_or_is_installed_is_left_to_others() {
        for command in [
            "mackerel-plugin-mysql",
            "mackerel-plugin mysql",
            "/bin/echo mackerel-plugin-nginx",
            "",
            "ssh web mackerel-plugin-nginx",
            "sudo -u me docker exec web mackerel-plugin-nginx",
            "sh -c 'ssh web mackerel-plugin-nginx'",
        ] {
            assert!(line(command, &[]).is_none(), "{command}");
        }
        let folder = folder_with_nginx(0o755);
        let path = |name: &str| (name == "PATH").then(|| format!("/nowhere:{}", folder.path().display()));
        let installed = |text: &str| {
            let (_, _, search) = CommandLine::of_command(simple_command(text, |_| None), &[], path).unwrap();
            search.is_installed()
        };
        assert!(installed("mackerel-plugin-nginx -host web") && !installed("mackerel-plugin-redis"));
        assert!(installed("sudo mackerel-plugin-nginx -host web") && installed("cd / && mackerel-plugin-nginx"));
        assert!(installed(&format!("{}/mackerel-plugin-nginx", folder.path().display())));
    }

    fn folder_with_nginx(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("mackerel-plugin-nginx");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn a_program_is_looked_for_where_its_own_path_says_and_must_be_executable() {
        let (folder, data) = (folder_with_nginx(0o755), folder_with_nginx(0o644));
        let (folder, data) = (folder.path().to_str().unwrap(), data.path().to_str().unwrap());
        let found = |text: &str, env: &[(&str, &str)]| line(text, env).is_none();
        assert!(found(&format!("PATH={folder}:/x mackerel-plugin-nginx"), &[]));
        assert!(found(&format!("env PATH={folder} mackerel-plugin-nginx"), &[]));
        assert!(found("mackerel-plugin-nginx", &[("PATH", folder)]));
        assert!(!found(&format!("PATH={folder} mackerel-plugin-redis"), &[]));
        assert!(!found("PATH=/nowhere mackerel-plugin-nginx", &[("PATH", folder)]), "the command's own counts");
        assert!(!found("mackerel-plugin-nginx", &[("PATH", data)]), "it is no program");
    }

    #[test]
    fn a_command_around_an_official_plugin_is_told_with_the_table_to_write() {
        for (command, why) in [
            ("sudo -u me mackerel-plugin-nginx -port 81", "another command around it"),
            ("env -i mackerel-plugin-nginx -port 81", "another command around it"),
            ("env -u FOO /usr/bin/mackerel-plugin nginx -port 81", "another command around it"),
            ("cd / && mackerel-plugin-nginx -port 81", "a `&`"),
            ("timeout 10 nice -n 5 mackerel-plugin-nginx -port 81", "another command around it"),
            ("sh -c 'mackerel-plugin-nginx -port 81'", "another command around it"),
            ("su -c 'cd /; exec mackerel-plugin-nginx -port=81' nobody", "another command around it"),
            ("[ -e /x ] && /usr/bin/mackerel-plugin-nginx -port 81 || true", "a `&`"),
            ("sleep 1\nmackerel-plugin-nginx -port 81", "a second command"),
        ] {
            let error = settings(command).unwrap_err();
            let table = "write `wasm = \"nginx\"` and `settings = { port = 81 }` in place of the command";
            assert!(error.contains(why) && error.contains(table), "{command}: {error}");
        }
        for command in [
            "PGPASSWORD=hunter2; mackerel-plugin-postgres",
            "export PGPASSWORD=hunter2\nmackerel-plugin-postgres",
            "sudo PGPASSWORD=hunter2 mackerel-plugin-postgres",
            "sh -c \"PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname $H\"",
        ] {
            let error = settings(command).unwrap_err();
            assert!(error.contains("password = { file = ") && !error.contains("hunter2"), "{command}: {error}");
        }
        assert_eq!(settings("exec mackerel-plugin-nginx -port 81").unwrap(), ["port=81"]);
        let docker =
            |text| OfficialCommand::of(&simple_command(text, |_| None), "docker", "").and_then(|found| found.beyond);
        assert_eq!(docker("sudo mackerel-plugin-docker -name-format name"), Some("another command around it"));
    }

    #[test]
    fn the_table_to_write_has_every_flag_that_can_be_read() {
        for (command, table) in [
            ("mackerel-plugin-nginx -bogus -host web -port 81", "host = \"web\", port = 81 }` in place of the command"),
            ("mackerel-plugin-nginx -bogus x -host web", "{ host = \"web\" }"),
            ("mackerel-plugin-nginx -bogus=x web -host", "{  }"),
            (
                "mackerel-plugin-postgres -hostname=${X:-y} -port $(p) -password=$RP -database d",
                "{ hostname = \"...\", port = ..., password = { file = \"/path/of/a/file/with/it\" }, database = \"d\" }` in place \
                 of the command, with what `...` stands for",
            ),
            ("mackerel-plugin-nginx $(flags) -port 81", "{ port = 81 }` in place of the command, and with the flags"),
            (
                "PGSSLROOTCERT=/ca PGSSLCERT=/c PGSSLKEY=/k mackerel-plugin-postgres -port 1 | cat",
                "{ port = 1 }` and `tls = { authority = \"/ca\", certificate = \"/c\", key = \"/k\" }`",
            ),
            (
                "PGPASSWORD=$(cat /p) PGDATABASE=`d` mackerel-plugin-postgres",
                "a/file/with/it\" }, database = \"...\" }",
            ),
        ] {
            let error = settings(command).unwrap_err();
            assert!(error.contains(table), "{command}: {error}");
        }
    }

    #[test]
    fn the_table_to_write_has_no_secret_that_stands_in_an_address() {
        let error = settings("mackerel-plugin-nginx -uri http://me:hunter2@h/x?token=hunter2 | cat").unwrap_err();
        assert!(error.contains("\"http://h/x?...\"") && !error.contains("hunter2"), "{error}");
        for (value, expected) in [
            ("http://h/a@b#c", "http://h/a@b#..."),
            ("/s?token=x", "/s?..."),
            ("http://a:b@c", "http://c"),
            ("web?", "web?"),
            ("/s", "/s"),
        ] {
            assert_eq!(without_secrets(value), expected);
        }
    }

    #[test]
    fn a_variable_of_the_environment_that_a_component_cannot_obey_is_told() {
        let variable = |name: &str| matches!(name, "PGOPTIONS" | "HTTPS_PROXY").then(|| "x".to_owned());
        let merged = |wanted: &str| {
            CommandLine::typed(wanted, Vec::new(), variable).together_with(Given::default(), wanted, &declared()).err()
        };
        assert!(merged("postgres").unwrap().contains("the environment has PGOPTIONS"));
        assert_eq!((merged("nginx"), merged("redis")), (None, None));
        let (plugin, line, _) =
            CommandLine::of_command(simple_command("mackerel-plugin-postgres", |_| None), &[], variable).unwrap();
        let error = line.together_with(Given::default(), plugin, &declared()).err().unwrap();
        assert!(error.contains("PGOPTIONS") && error.contains("`wasm = \"postgres\"`"), "{error}");
    }

    #[test]
    fn what_cannot_be_carried_over_shows_the_table_to_write_without_the_secret() {
        for (command, why) in [
            ("PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname h -port 1 | grep x", "a pipe"),
            ("PGPASSWORD=hunter2 PGOPTIONS=-c mackerel-plugin-postgres -hostname h -port 1", "PGOPTIONS"),
        ] {
            let table = "`wasm = \"postgres\"` and `settings = { hostname = \"h\", port = 1, password = { file = ";
            let error = settings(command).unwrap_err();
            assert!(error.contains(why) && error.contains(table) && !error.contains("hunter2"), "{error}");
        }
        let error = settings("mackerel-plugin-nginx -hots x").unwrap_err();
        assert!(
            error.contains("no flag -hots; it has -hostname, -host") && error.contains("`wasm = \"nginx\"`"),
            "{error}"
        );
        let error = settings("mackerel-plugin-nginx -host http://me:hunter2@web/ -hots x").unwrap_err();
        assert!(error.contains("http://web/") && !error.contains("hunter2"), "{error}");
        assert!(settings("mackerel-plugin-postgres -hostname @pg").unwrap_err().contains("abstract"));
        assert!(settings("mackerel-plugin-nginx web").unwrap_err().contains("is no flag"));
        assert!(settings("mackerel-plugin-nginx -host").unwrap_err().contains("needs a value"));
    }

    #[test]
    fn a_setting_in_the_table_wins_over_the_command_and_variables_of_the_table_count() {
        let (plugin, line) = line("mackerel-plugin-postgres -hostname a -port 1", &[("PGPASSWORD", "t")]).unwrap();
        let table = Given { settings: vec![("port".into(), "2".into())], ..Given::default() };
        let merged = line.together_with(table, plugin, &declared()).ok().unwrap().settings;
        let expected = [("port", "2"), ("hostname", "a"), ("password", "t")];
        assert_eq!(merged, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_typed_wins_over_the_table_and_the_table_over_the_environment() {
        let typed = |flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let settings = vec![("port".into(), "2".into()), ("password".into(), "t".into())];
            let table = Given { settings, ..Given::default() };
            CommandLine::typed("redis", flags, agents_environment).together_with(table, "redis", &declared())
        };
        let merged = typed(&["-port", "1"]).ok().unwrap().settings;
        assert_eq!(merged, [("port", "1"), ("password", "t")].map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(!typed(&["-x"]).err().unwrap().contains("in place of"), "there is no command to replace");
    }

    #[test]
    fn the_files_of_tls_come_from_the_variables_of_postgresql() {
        let (plugin, line) =
            line("PGSSLROOTCERT=/ca PGSSLCERT=/crt PGSSLKEY=/key mackerel-plugin-postgres", &[]).unwrap();
        let trust = line.together_with(Given::default(), plugin, &declared()).ok().unwrap().trust;
        assert_eq!((trust.authority, trust.identity), (Some("/ca".into()), Some(("/crt".into(), "/key".into()))));
    }

    #[test]
    fn flags_of_a_plugin_that_is_not_official_bring_no_environment() {
        let flags = |wanted| CommandLine::typed(wanted, Vec::new(), agents_environment).environment.len();
        assert_eq!((flags("redis"), flags("./redis.wasm"), flags("own")), (1, 0, 0));
        let state = CommandLine { flags: vec!["-tempfile".into(), "/t".into()], ..CommandLine::default() };
        assert_eq!(state.state_file(&declared()), Some("/t".into()));
    }
}
