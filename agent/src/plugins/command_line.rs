//! The command line of a plugin: settings as flags, and what the official plugins take from their environment.
//!
//! A configuration of the official agent has `command = "mackerel-plugin-nginx -host=web"`. Where no such program is installed,
//! the component of that name runs, its settings being named like the program's flags. `wasaba plugin run` takes the same flags.

use std::path::{Path, PathBuf};

use super::settings::Written;
use crate::capabilities::bindings::exports::wasaba::plugin::plugin::{Setting, SettingKind};
use crate::shell::SimpleCommand;

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
    /// Whether a shell would find the program.
    is_there: bool,
}

impl OfficialCommand {
    /// The official plugin that `command` runs, if it is one. `path` is where a shell looks for programs.
    fn find(command: &SimpleCommand, path: &str) -> Option<Self> {
        let program = command.words.first()?;
        let mut arguments = command.words.iter().skip(1).cloned().collect::<Vec<_>>();
        let name = match Path::new(program).file_name()?.to_str()? {
            "mackerel-plugin" if !arguments.is_empty() => arguments.remove(0),
            file => file.strip_prefix("mackerel-plugin-")?.to_owned(),
        };
        Some(Self { name, arguments, beyond: command.beyond, is_there: is_there(program, path) })
    }

    /// The command as that of the official plugin of this name, if it is that and its program is not there.
    pub fn of(command: &SimpleCommand, name: &str, path: &str) -> Option<Self> {
        Self::find(&without_env(command.clone()), path).filter(|found| found.name == name && !found.is_there)
    }
}

/// `env A=b program`, as `A=b program`.
fn without_env(mut command: SimpleCommand) -> SimpleCommand {
    if command.words.first().is_some_and(|first| matches!(first.as_str(), "env" | "/usr/bin/env")) {
        let is_assignment = |word: &&String| word.contains('=') && !word.starts_with('-');
        let assignments = command.words.iter().skip(1).take_while(is_assignment).cloned().collect::<Vec<_>>();
        command.words.drain(..=assignments.len());
        let pairs = assignments.iter().filter_map(|word| word.split_once('='));
        command.assignments.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    command
}

impl CommandLine {
    /// The component's name and its command line for a `command` of a configuration, whose table has this `env`; `None` if it is
    /// no official plugin that a component stands in for, or its program is there. `variable` is the agent's own environment.
    pub fn of_command(
        command: SimpleCommand,
        env: &[(String, String)],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<(&'static str, Self)> {
        let command = without_env(command);
        let found = OfficialCommand::find(&command, &variable("PATH").unwrap_or_default());
        let OfficialCommand { name, arguments: flags, .. } = found.filter(|found| !found.is_there)?;
        let official = Official::named(&name)?;
        let written = env.iter().chain(&command.assignments);
        let foreign = written.clone().find(|(name, _)| official.foreign.contains(&name.as_str()));
        let beyond = match (command.beyond, foreign) {
            (Some(beyond), _) => Some(beyond.to_owned()),
            (None, Some((name, _))) => Some(format!("the variable {name}, which the component does not obey")),
            (None, None) => None,
        };
        let mut line = Self { flags, beyond, typed: false, ..Self::typed(official.name, Vec::new(), variable) };
        line.environment.extend(written.filter(|(name, _)| official.reads(name)).cloned());
        Some((official.name, line))
    }

    /// The flags of the plugin that somebody asks for as `wanted`: an official one's name brings its environment along.
    pub fn typed(wanted: &str, flags: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let official = Official::named(wanted);
        let names = official.into_iter().flat_map(|official| {
            let files = TLS_FILES.iter().filter(|file| official.reads(file));
            official.variables.iter().map(|(name, _)| name).chain(files)
        });
        let environment = names.filter_map(|name| Some(((*name).to_owned(), variable(name)?)));
        Self { flags, environment: environment.collect(), beyond: None, official, typed: true }
    }

    /// What was `written` in the plugin's table together with this command line: what is typed wins over the table, the table over
    /// a `command`, and both over the environment.
    ///
    /// # Errors
    /// A flag that is wrong, or something that a component cannot do; for a `command` with the table to write instead.
    pub fn together_with(&self, written: Written, plugin: &str, declared: &[Setting]) -> Result<Written, String> {
        let Flags { settings: mut flags, wrong, .. } = Flags::parse(declared, &self.flags);
        let wrong = self.beyond.as_ref().map(|beyond| format!("`command` has {beyond}")).or(wrong);
        let folder = self.socket_of_folder(&mut flags);
        if let Some(why) = wrong.or(folder.err()) {
            let mut settings = flags;
            self.add_environment(&mut settings);
            let table = in_table(plugin, declared, &settings);
            return Err(if self.typed { why } else { format!("{why}; write {table} in place of the command") });
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
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    std::env::split_paths(path).any(|folder| folder.join(program).is_file())
}

/// Flags in Go's form: `-x v`, `-x=v`, `--x v`, `--x=v`; booleans only `-b` or `-b=v`. And `-tempfile`, which every official plugin
/// has.
#[derive(Default)]
pub struct Flags {
    /// What they set.
    pub settings: Vec<(String, String)>,
    state: Option<PathBuf>,
    /// What is wrong with a flag; the settings are then those of the flags before it.
    pub wrong: Option<String>,
}

impl Flags {
    /// Reads the flags of a plugin with these settings.
    #[must_use]
    pub fn parse(declared: &[Setting], flags: &[String]) -> Self {
        let mut parsed = Self::default();
        parsed.wrong = parsed.read(declared, flags).err();
        // With Go's flags the last one counts; only a repeatable setting keeps all.
        let repeatable = |key: &str| declared.iter().any(|setting| setting.key == key && setting.repeatable);
        let last = |(index, (key, _)): &(usize, &(String, String))| {
            repeatable(key) || parsed.settings.iter().skip(index.saturating_add(1)).all(|(later, _)| later != key)
        };
        parsed.settings = parsed.settings.iter().enumerate().filter(last).map(|(_, setting)| setting.clone()).collect();
        parsed
    }

    fn read(&mut self, declared: &[Setting], flags: &[String]) -> Result<(), String> {
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let name = flag.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                return Err(format!("{flag:?} is no flag; write -{}", valid(declared)));
            };
            let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            // The official plugins write some with an underscore.
            let name = name.replace('_', "-");
            let kind = declared.iter().find(|setting| setting.key == name).map(|setting| setting.kind);
            if kind.is_none() && name != "tempfile" {
                return Err(format!("the plugin has no flag -{name}; it has -{}, -tempfile", valid(declared)));
            }
            let is_boolean = matches!(kind, Some(SettingKind::Boolean | SettingKind::TlsSkipVerify));
            let value = match value {
                Some(value) => value.to_owned(),
                None if is_boolean => "true".to_owned(),
                None => flags.next().cloned().ok_or_else(|| format!("the flag -{name} needs a value"))?,
            };
            match kind {
                None => self.state = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from),
                // An empty address or path is none, as with the official plugins' own defaults.
                Some(SettingKind::Url | SettingKind::UnixSocket | SettingKind::File) if value.is_empty() => {}
                Some(kind) => self.settings.push((name, as_setting(kind, value))),
            }
        }
        Ok(())
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

/// The keys of a table that do the same, in one line. A secret is not in it.
fn in_table(plugin: &str, declared: &[Setting], settings: &[(String, String)]) -> String {
    let kind = |key: &str| declared.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    let mut pairs = Vec::new();
    for (key, value) in settings {
        if pairs.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let all =
            settings.iter().filter(|(other, _)| other == key).map(|(_, value)| format!("{:?}", without_user(value)));
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
    format!("`wasm = {plugin:?}` and `settings = {{ {pairs} }}`")
}

/// A URL may have a password in it.
fn without_user(value: &str) -> String {
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => value.to_owned(),
    }
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
        ]
    }

    fn agents_environment(name: &str) -> Option<String> {
        (name == "REDIS_PASSWORD").then(|| "inherited".to_owned())
    }

    fn line(command: &str, env: &[(&str, &str)]) -> Option<(&'static str, CommandLine)> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        CommandLine::of_command(simple_command(command, |_| None), &env, agents_environment)
    }

    fn settings(command: &str) -> Result<Vec<String>, String> {
        let (plugin, line) = line(command, &[]).unwrap();
        let merged = line.together_with(Written::default(), plugin, &declared())?;
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
        for command in ["mackerel-plugin-mysql", "mackerel-plugin mysql", "/bin/echo", "", "sudo mackerel-plugin-nginx"]
        {
            assert!(line(command, &[]).is_none(), "{command}");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mackerel-plugin-nginx"), "").unwrap();
        let path = |name: &str| (name == "PATH").then(|| format!("/nowhere:{}", folder.path().display()));
        let installed = |text: &str| CommandLine::of_command(simple_command(text, |_| None), &[], path).is_none();
        assert!(installed("mackerel-plugin-nginx -host web") && !installed("mackerel-plugin-redis"));
        assert!(installed(&format!("{}/mackerel-plugin-nginx", folder.path().display())));
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
        let table = Written { settings: vec![("port".into(), "2".into())], ..Written::default() };
        let merged = line.together_with(table, plugin, &declared()).ok().unwrap().settings;
        let expected = [("port", "2"), ("hostname", "a"), ("password", "t")];
        assert_eq!(merged, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_typed_wins_over_the_table_and_the_table_over_the_environment() {
        let typed = |flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let settings = vec![("port".into(), "2".into()), ("password".into(), "t".into())];
            let table = Written { settings, ..Written::default() };
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
        let trust = line.together_with(Written::default(), plugin, &declared()).ok().unwrap().trust;
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
