//! The command line of a plugin: settings as flags, and what the official plugins take from their environment.
//!
//! A configuration of the official agent has `command = "mackerel-plugin-nginx -host=web"`. Where no such program is installed,
//! the component of that name runs; its settings have the names of the program's flags. `wasaba plugin run` takes the same flags.

use std::path::PathBuf;
use std::time::Duration;

use wasaba_core::setting::{Setting, SettingKind};
use wasaba_core::text::printable;
use wasaba_core::tls::Trust;

use crate::command::{OfficialCommand, Search};
use crate::flags::Flags;
use crate::shell::{SimpleCommand, UNKNOWABLE, simple_command};
use crate::table;

/// A command line for a plugin that is not loaded yet. It has no `Debug`: there may be secrets in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `-host=web`, `-port`, `80`.
    pub flags: Vec<String>,
    /// What the program would find in its environment, as far as it reads it; the last of a name wins.
    pub environment: Vec<(String, String)>,
    /// What a component does not support.
    pub unsupported: Option<String>,
    /// How long `timeout` in front of its program lets that run.
    pub timeout: Option<Duration>,
    /// The variables in it that are not set, for which a shell puts nothing.
    pub unset: Vec<String>,
    /// The official plugin that it is a command line of.
    official: Option<&'static Official>,
    /// Whether it was typed for this run, so that it wins over the table.
    typed: bool,
}

/// What is given to a plugin: its settings, and how its connections use TLS.
#[derive(Clone, Default)]
pub struct Given {
    /// Key and value; a list is a key several times.
    pub settings: Vec<(String, String)>,
    /// The authorities that its connections accept, and their own certificate.
    pub trust: Trust,
}

/// A command line that has no equivalent. It has no `Debug`: there may be secrets in it.
pub struct Refused {
    /// Why, for a `command` with the table to write instead.
    pub why: String,
    /// What is known all the same, to be checked with it.
    pub rest: Given,
    /// The settings of which nothing is known, or is said already.
    pub unknown: Vec<String>,
}

/// What an official plugin reads from its environment.
#[derive(PartialEq, Eq)]
struct Official {
    name: &'static str,
    /// Variables that are read where the flag is not given.
    variables: &'static [(&'static str, &'static str)],
    /// Variables that it obeys and a component does not support.
    unsupported: &'static [&'static str],
}

const OFFICIAL: &[Official] = &[
    Official {
        name: "nginx",
        variables: &[],
        unsupported: &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"],
    },
    Official {
        name: "postgres",
        variables: &[("PGPASSWORD", "password"), ("PGDATABASE", "database")],
        unsupported: &[
            "PGOPTIONS",
            "PGPASSFILE",
            "PGSERVICE",
            "PGSERVICEFILE",
            "PGSSLNEGOTIATION",
            "PGTARGETSESSIONATTRS",
        ],
    },
    Official { name: "redis", variables: &[("REDIS_PASSWORD", "password")], unsupported: &[] },
];

/// The variables of PostgreSQL's clients for the files that a table names under `tls`.
const TLS_FILES: [&str; 3] = ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

/// The setting of `plugins/postgres` that allows each way to log in, over any connection.
const INSECURE_LOGIN: &str = "insecure-login";

impl Official {
    fn named(name: &str) -> Option<&'static Self> {
        OFFICIAL.iter().find(|official| official.name == name)
    }

    fn reads(&self, variable: &str) -> bool {
        self.variables.iter().any(|(name, _)| *name == variable)
            || (self.name == "postgres" && TLS_FILES.contains(&variable))
    }
}

impl CommandLine {
    /// The component's name, its command line and where its program would be, for a `command` of a configuration whose table has
    /// this `env`; `None` if no component can stand in for it. `variable` is the agent's own environment.
    pub fn of_command(
        command: SimpleCommand,
        env: &[(String, String)],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<(&'static str, Self, Search)> {
        let path =
            env.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| value.clone()).or_else(|| variable("PATH"));
        let found = OfficialCommand::find(&command, &path.unwrap_or_default());
        let OfficialCommand { name, arguments: flags, assignments, unsupported, search, timeout, unset } = found?;
        let official = Official::named(&name)?;
        let written = env.iter().chain(&assignments);
        let foreign = official.unsupported.iter().filter(|name| written.clone().any(|(other, _)| other == *name));
        let foreign = unsupported_variables("`command` has", foreign);
        let unsupported = unsupported.map(|what| format!("`command` has {what}"));
        let inherited = Self::typed(official.name, Vec::new(), variable);
        let unsupported = joined([unsupported, foreign, inherited.unsupported]);
        let mut line = Self { flags, unsupported, timeout, unset, typed: false, ..inherited };
        line.environment.extend(written.filter(|(name, _)| official.reads(name)).cloned());
        Some((official.name, line, search))
    }

    /// Flags typed for the plugin `wanted`; the name of an official one includes the variables that it reads.
    pub fn typed(wanted: &str, flags: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let official = Official::named(wanted);
        let names = official.into_iter().flat_map(|official| {
            let files = TLS_FILES.iter().filter(|file| official.reads(file));
            official.variables.iter().map(|(name, _)| name).chain(files)
        });
        let environment = names.filter_map(|name| Some(((*name).to_owned(), variable(name)?))).collect();
        // A proxy in the environment is mostly meant for the agent itself.
        let foreign =
            official.into_iter().flat_map(|official| official.unsupported).filter(|name| name.starts_with("PG"));
        let foreign = foreign.filter(|name| variable(name).is_some_and(|value| !value.is_empty()));
        let unsupported = unsupported_variables("the environment has", foreign).map(|why| why + "; unset it");
        Self { flags, environment, unsupported, official, typed: true, ..Self::default() }
    }

    /// The settings that its flags are.
    #[must_use]
    pub fn keys(&self, declared: &[Setting]) -> Vec<String> {
        Flags::parse(declared, &self.flags).settings.into_iter().map(|(key, _)| key).collect()
    }

    /// `table`, the plugin's own, merged with this command line: a typed line wins over the table, the table over a `command`, and
    /// both over the environment.
    ///
    /// # Errors
    /// An invalid flag, or something that a component does not support. `is_valid` decides which values of flags the table to write
    /// has.
    pub fn merged_with(
        &self,
        table: Given,
        plugin: &str,
        declared: &[Setting],
        is_valid: impl Fn(&Setting, &str) -> bool,
    ) -> Result<Given, Box<Refused>> {
        let parsed = Flags::parse(declared, &self.flags);
        // What a shell runs may set them before.
        let unset = if self.unsupported.is_some() { &[] } else { &*self.unset };
        let error = with_unset(parsed.error(), unset);
        let mut unknown = parsed.unknown.clone();
        let Flags { settings: mut flags, has_unknowable, .. } = parsed;
        let socket = self.socket_of_folder(&mut flags);
        if let Some(mut why) = joined([self.unsupported.clone(), error, socket.err()]) {
            if !self.typed {
                why = self.with_cure(why, plugin, declared, is_valid, flags.clone(), has_unknowable);
            }
            let rest = self.merged(table, flags, declared);
            // What a shell makes of it is not known.
            let unknowable = rest.settings.iter().filter(|(_, value)| value.contains(UNKNOWABLE));
            unknown.extend(unknowable.map(|(key, _)| key.clone()));
            return Err(Box::new(Refused { why, rest, unknown }));
        }
        Ok(self.merged(table, flags, declared))
    }

    fn merged(&self, table: Given, flags: Vec<(String, String)>, declared: &[Setting]) -> Given {
        let mut merged = table;
        let (mut wins, loses) =
            if self.typed { (flags, merged.settings) } else { (std::mem::take(&mut merged.settings), flags) };
        let new = loses.into_iter().filter(|(key, _)| wins.iter().all(|(given, _)| given != key)).collect::<Vec<_>>();
        wins.extend(new);
        self.add_environment(&mut wins);
        self.add_defaults(&mut wins, declared);
        merged.settings = wins;
        let [authority, certificate, key] = TLS_FILES.map(|name| self.variable(name).map(PathBuf::from));
        let trust = &mut merged.trust;
        trust.authority = trust.authority.take().or(authority);
        trust.identity = trust.identity.take().or(certificate.zip(key));
        merged
    }

    /// `why`, and the table to write instead of the command.
    fn with_cure(
        &self,
        why: String,
        plugin: &str,
        declared: &[Setting],
        is_valid: impl Fn(&Setting, &str) -> bool,
        flags: Vec<(String, String)>,
        has_unknowable: bool,
    ) -> String {
        let mut settings = flags;
        self.add_environment(&mut settings);
        let wasm = Some(format!("`wasm = {plugin:?}`"));
        let inline =
            (!settings.is_empty()).then(|| format!("`settings = {}`", table::inline(declared, &settings, is_valid)));
        let tls = self.tls_in_table().map(|tls| format!("`tls = {tls}`"));
        let table = [wasm, inline, tls].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let dots = if table.contains(table::DOTS) { ", with the value of each `...`" } else { "" };
        let more = if has_unknowable { ", and add the flags that only the shell can expand" } else { "" };
        format!("{why}; write {table} instead of the command{dots}{more}")
    }

    /// Where the counters' readings are kept, if a flag says so.
    #[must_use]
    pub fn state_file(&self, declared: &[Setting]) -> Option<PathBuf> {
        Flags::parse(declared, &self.flags).state
    }

    /// The `tls` table that the variables amount to.
    fn tls_in_table(&self) -> Option<String> {
        let keys = ["authority", "certificate", "key"].into_iter().zip(TLS_FILES);
        let pairs = keys
            .filter_map(|(key, name)| Some(format!("{key} = {}", table::text(self.variable(name)?))))
            .collect::<Vec<_>>();
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

    /// Where the official program connects to if no flag says so, which is the operator's explicit choice in its command line, and how it logs in:
    /// as the server asks.
    fn add_defaults(&self, settings: &mut Vec<(String, String)>, declared: &[Setting]) {
        if self.official.is_none() {
            return;
        }
        let is_set = |settings: &[(String, String)], key: &str| settings.iter().any(|(given, _)| given == key);
        let is_place = |setting: &&Setting| matches!(setting.kind, SettingKind::Host | SettingKind::Port);
        for setting in declared.iter().filter(is_place) {
            if let Some(default) = setting.default.clone().filter(|_| !is_set(settings, &setting.key)) {
                settings.push((setting.key.clone(), default));
            }
        }
        let insecure = declared.iter().find(|setting| setting.key == INSECURE_LOGIN);
        if let Some(setting) = insecure.filter(|setting| !self.typed && !is_set(settings, &setting.key)) {
            settings.push((setting.key.clone(), "true".to_owned()));
        }
    }

    /// PostgreSQL's clients accept the folder of a unix socket as a host.
    fn socket_of_folder(&self, settings: &mut Vec<(String, String)>) -> Result<(), String> {
        if self.official.is_none_or(|official| official.name != "postgres") {
            return Ok(());
        }
        let host = settings.iter().position(|(key, value)| key == "hostname" && value.starts_with(['/', '@']));
        let Some((_, folder)) = host.map(|index| settings.remove(index)) else { return Ok(()) };
        if folder.starts_with('@') {
            return Err("-hostname is an abstract unix socket, which a component cannot connect to".to_owned());
        }
        let port = settings.iter().find(|(key, _)| key == "port").map_or("5432", |(_, port)| port);
        // It is refused where it is checked.
        if port.parse::<u16>().is_err() && !port.contains(UNKNOWABLE) {
            return Ok(());
        }
        let socket = format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/'));
        settings.push(("socket".to_owned(), socket));
        Ok(())
    }
}

/// All of `errors` in one text.
fn joined(errors: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let errors = errors.into_iter().flatten().collect::<Vec<_>>();
    (!errors.is_empty()).then(|| errors.join("; "))
}

fn unsupported_variables<'a>(has: &str, names: impl Iterator<Item = &'a &'static str>) -> Option<String> {
    let names = names.copied().collect::<Vec<_>>();
    let variables = if names.len() == 1 { "the variable" } else { "the variables" };
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    Some(format!("{has} {variables} {names}, which the component does not support"))
}

/// What to say about variables in a command line that are not set, if there are any. Names in capitals are those of variables; another
/// one may be the end of a password with a `$` in it.
#[must_use]
pub fn unset(names: &[String]) -> Option<String> {
    let is_name = |name: &&String| !name.bytes().any(|byte| byte.is_ascii_lowercase());
    let shown = names.iter().filter(is_name).map(|name| format!("`${}`", printable(name, 80))).collect::<Vec<_>>();
    let (are, them) = if shown.len() == 1 { ("is", "it") } else { ("are", "them") };
    let cure = format!("write {them} into `env` of the table, or set {them} where the agent is started");
    let capitals =
        (!shown.is_empty()).then(|| format!("{} {are} not set in this environment: {cure}", shown.join(", ")));
    let quotes = "if its `$` stands for itself, put the word in single quotes";
    let others = (shown.len() < names.len())
        .then(|| format!("a variable in small letters is not set in this environment: {quotes}"));
    let all = capitals.into_iter().chain(others).collect::<Vec<_>>().join("; ");
    (!all.is_empty()).then_some(all)
}

/// `error`, after what to say about variables that are not set, if it is one.
#[must_use]
pub fn with_unset(error: Option<String>, names: &[String]) -> Option<String> {
    error.map(|why| match unset(names) {
        Some(unset) => format!("{unset}; without it: {why}"),
        None => why,
    })
}

/// What to say about variables in a list of words, which no shell expands, if there are any.
#[must_use]
pub fn unexpanded(words: &[String]) -> Option<String> {
    let names = words.iter().flat_map(|word| simple_command(word, |_| None).unset);
    let names = names.filter(|name| !name.bytes().any(|byte| byte.is_ascii_lowercase()));
    let shown = names.map(|name| format!("`${}`", printable(&name, 80))).collect::<Vec<_>>().join(", ");
    let cure = "write the command as one text in quotes";
    (!shown.is_empty()).then(|| format!("{shown} stays as it is, since a list of words is not run by a shell: {cure}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Any value is valid.
    fn any(_: &Setting, _: &str) -> bool {
        true
    }

    fn setting(key: &str, kind: SettingKind) -> Setting {
        Setting { repeatable: key == "header", ..Setting::new(key, kind) }
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

    fn agent_environment(name: &str) -> Option<String> {
        (name == "REDIS_PASSWORD").then(|| "inherited".to_owned())
    }

    fn line(command: &str, env: &[(&str, &str)]) -> Option<(&'static str, CommandLine)> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let (plugin, line, search) =
            CommandLine::of_command(simple_command(command, |_| None), &env, agent_environment)?;
        (!search.is_installed()).then_some((plugin, line))
    }

    fn settings(command: &str) -> Result<Vec<String>, String> {
        let (plugin, line) = line(command, &[]).unwrap();
        let merged = line.merged_with(Given::default(), plugin, &declared(), any).map_err(|refused| refused.why)?;
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
    fn where_an_official_command_line_connects_by_default_is_the_operators_word() {
        let with = |setting: Setting, default: &str| Setting { default: Some(default.into()), ..setting };
        let declared = [
            with(setting("hostname", SettingKind::Host), "localhost"),
            with(setting("port", SettingKind::Port), "5432"),
            with(setting("database", SettingKind::Text), "x"),
            with(setting(INSECURE_LOGIN, SettingKind::Boolean), "false"),
        ];
        let merged = |line: &CommandLine| {
            let settings = line.merged_with(Given::default(), "postgres", &declared, any).ok().unwrap().settings;
            settings.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let (_, line) = line("mackerel-plugin-postgres -port 1", &[]).unwrap();
        assert_eq!(merged(&line), ["port=1", "hostname=localhost", "insecure-login=true"]);
        let typed = CommandLine::typed("postgres", Vec::new(), |_| None);
        assert_eq!(merged(&typed), ["hostname=localhost", "port=5432"]);
        let own = CommandLine::typed("own", Vec::new(), |_| None);
        assert_eq!(merged(&own), Vec::<String>::new(), "a plugin that is not official grants itself nothing");
    }

    #[test]
    fn a_plugin_without_a_component_is_left_alone() {
        for command in ["mackerel-plugin-mysql", "mackerel-plugin mysql", "/bin/echo mackerel-plugin-nginx"] {
            assert!(line(command, &[]).is_none(), "{command}");
        }
    }

    #[test]
    fn a_program_is_looked_for_in_the_path_of_its_command_its_table_or_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("mackerel-plugin-nginx");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let folder = folder.path().to_str().unwrap();
        let installed = |text: &str, env: &[(&str, &str)]| line(text, env).is_none();
        assert!(installed("mackerel-plugin-nginx", &[("PATH", folder)]));
        assert!(!installed("mackerel-plugin-redis", &[("PATH", folder)]));
        assert!(!installed("PATH=/nowhere mackerel-plugin-nginx", &[("PATH", folder)]), "the command's own PATH wins");
        let agent = |name: &str| (name == "PATH").then(|| folder.to_owned());
        let found = CommandLine::of_command(simple_command("mackerel-plugin-nginx", |_| None), &[], agent);
        assert!(found.is_some_and(|(_, _, search)| search.is_installed()));
    }

    #[test]
    fn a_wrapper_around_an_official_plugin_is_refused_with_the_table_to_write() {
        for (command, why) in [
            ("sudo -u me mackerel-plugin-nginx -port 81", "a wrapper around the plugin"),
            ("env -i mackerel-plugin-nginx -port 81", "a wrapper around the plugin"),
            ("env -u FOO /usr/bin/mackerel-plugin nginx -port 81", "a wrapper around the plugin"),
            ("cd / && mackerel-plugin-nginx -port 81", "a `&`"),
            ("timeout -x 10 nice -n 5 mackerel-plugin-nginx -port 81", "a wrapper around the plugin"),
            ("sh -c 'mackerel-plugin-nginx -port 81'", "a wrapper around the plugin"),
            ("su -c 'cd /; exec mackerel-plugin-nginx -port=81' nobody", "a wrapper around the plugin"),
            ("[ -e /x ] && /usr/bin/mackerel-plugin-nginx -port 81 || true", "a `&`"),
            ("mackerel-plugin-nginx -port 81 || mackerel-plugin-redis", "a `||`"),
            ("sleep 1\nmackerel-plugin-nginx -port 81", "a second command"),
        ] {
            let error = settings(command).unwrap_err();
            let table = "write `wasm = \"nginx\"` and `settings = { port = 81 }` instead of the command";
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
        for prefix in ["exec", "timeout 10 nice -n 5", "nohup ionice -c 3"] {
            assert_eq!(settings(&format!("{prefix} mackerel-plugin-nginx -port 81")).unwrap(), ["port=81"], "{prefix}");
        }
        let (_, limited) = line("timeout 10 mackerel-plugin-nginx", &[]).unwrap();
        assert_eq!(limited.timeout, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_where_the_line_is_invalid_without_it() {
        for (command, said) in [
            ("mackerel-plugin-postgres -password $PG_PASSWORD", "`$PG_PASSWORD` is not set"),
            ("mackerel-plugin-postgres -hostname $PGHOST -port ${PGPORT} -x", "`$PGHOST`, `$PGPORT` are not set"),
        ] {
            let error = settings(command).unwrap_err();
            assert!(error.starts_with(said) && error.contains("into `env` of the table"), "{command}: {error}");
        }
        let line_of = |command: &str| line(command, &[]).unwrap();
        let (_, line) = line_of("mackerel-plugin-postgres -password=$PG_PASSWORD -port 1");
        assert_eq!(unset(&line.unset).unwrap().split(' ').next(), Some("`$PG_PASSWORD`"), "and where it is valid");
        assert_eq!(unset(&[]), None);
        // prometheus/snmp_exporter#1499: a `$` in a password. What follows it is not shown.
        let (_, line) = line_of("mackerel-plugin-postgres -password=abcd$hunter==1");
        let said = unset(&line.unset).unwrap();
        assert!(said.contains("put the word in single quotes") && !said.contains("hunter"), "{said}");
        let piped = settings("A=1; mackerel-plugin-postgres -password $A -x | cat").unwrap_err();
        assert!(!piped.contains("not set"), "{piped}");
    }

    #[test]
    fn the_table_to_write_has_every_flag_that_is_valid() {
        for (command, table) in [
            ("mackerel-plugin-nginx -bogus -host web -port 81", "host = \"web\", port = 81 }` instead of the command"),
            ("mackerel-plugin-nginx -bogus x -host web", "{ host = \"web\" }"),
            ("mackerel-plugin-nginx -bogus=x web -host", "write `wasm = \"nginx\"` instead of the command"),
            (
                "mackerel-plugin-postgres -hostname=${X:-y} -port $(p) -password=$RP -database d",
                "{ hostname = \"...\", port = \"...\", password = { file = \"/path/to/the/secret\" }, database = \"d\" }` instead \
                 of the command, with the value of each `...`",
            ),
            ("mackerel-plugin-nginx $(flags) -port 81", "{ port = 81 }` instead of the command, and add the flags"),
            (
                "PGSSLROOTCERT=/ca PGSSLCERT=/c PGSSLKEY=/k mackerel-plugin-postgres -port 1 | cat",
                "{ port = 1 }` and `tls = { authority = \"/ca\", certificate = \"/c\", key = \"/k\" }`",
            ),
            (
                "PGPASSWORD=$(cat /p) PGDATABASE=`d` mackerel-plugin-postgres",
                "/to/the/secret\" }, database = \"...\" }",
            ),
        ] {
            let error = settings(command).unwrap_err();
            assert!(error.contains(table), "{command}: {error}");
        }
    }

    #[test]
    fn the_table_to_write_shows_no_secret_of_an_address() {
        for (address, shown) in [
            ("http://me:hunter2@h/x?token=hunter2", "http://h/x?..."),
            ("'http://me:hunter2 hunter3@h/'", "http://h/"),
            ("http://me:hunter2 hunter3@h/", "..."),
            ("http://me:12 hunter2@h/", "..."),
            ("http://me:hunter2", "..."),
            ("http:/me:hunter2@h", "..."),
        ] {
            let error = settings(&format!("mackerel-plugin-nginx -bogus=x -uri {address}")).unwrap_err();
            assert!(error.contains(&format!("{{ uri = \"{shown}\" }}")), "{address}: {error}");
            assert!(!error.contains("hunter"), "{address}: {error}");
        }
    }

    #[test]
    fn the_table_to_write_has_no_value_that_is_invalid_or_a_flag() {
        let is_valid = |setting: &Setting, value: &str| setting.kind != SettingKind::Port || value == "1";
        for (command, table) in [
            ("mackerel-plugin-nginx -bogus=x -port 99999 -host web", "{ port = \"...\", host = \"web\" }`"),
            ("mackerel-plugin-postgres -database $D -password $P -hostname $H", "write `wasm = \"postgres\"` instead"),
            ("mackerel-plugin-postgres -bogus=x -hostname /run/pg -port hunter2", "{ port = \"...\" }`"),
        ] {
            let (plugin, line) = line(command, &[]).unwrap();
            let refused = line.merged_with(Given::default(), plugin, &declared(), is_valid).err().unwrap();
            assert!(refused.why.contains(table) && !refused.why.contains("hunter2"), "{command}: {}", refused.why);
        }
    }

    #[test]
    fn a_variable_that_a_component_does_not_support_is_refused() {
        let variable = |name: &str| matches!(name, "PGOPTIONS" | "HTTPS_PROXY").then(|| "x".to_owned());
        let merged = |wanted: &str| {
            let line = CommandLine::typed(wanted, Vec::new(), variable);
            line.merged_with(Given::default(), wanted, &declared(), any).err().map(|refused| refused.why)
        };
        assert!(merged("postgres").unwrap().contains("the environment has the variable PGOPTIONS"));
        assert_eq!((merged("nginx"), merged("redis")), (None, None));
        let (plugin, line, _) =
            CommandLine::of_command(simple_command("mackerel-plugin-postgres", |_| None), &[], variable).unwrap();
        let error = line.merged_with(Given::default(), plugin, &declared(), any).err().unwrap().why;
        assert!(error.contains("PGOPTIONS") && error.contains("`wasm = \"postgres\"`"), "{error}");
    }

    #[test]
    fn what_a_component_does_not_support_is_refused_with_the_table_to_write_without_the_secret() {
        for (command, why) in [
            ("PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname h -port 1 | grep x", "a pipe"),
            ("PGPASSWORD=hunter2 PGOPTIONS=-c mackerel-plugin-postgres -hostname h -port 1", "PGOPTIONS"),
            (
                "PGSERVICE=s PGOPTIONS=-c PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname h -prot 2 -port 1 | cat",
                "`command` has a pipe; `command` has the variables PGOPTIONS, PGSERVICE, which the component does not \
                 support; unknown flag -prot, did you mean -port?; write ",
            ),
        ] {
            let table = "`wasm = \"postgres\"` and `settings = { hostname = \"h\", port = 1, password = { file = ";
            let error = settings(command).unwrap_err();
            assert!(error.contains(why) && error.contains(table) && !error.contains("hunter2"), "{error}");
        }
        let error = settings("mackerel-plugin-nginx -hots x").unwrap_err();
        assert!(
            error.contains("unknown flag -hots, did you mean -host?") && error.contains("`wasm = \"nginx\"`"),
            "{error}"
        );
        let error = settings("mackerel-plugin-nginx -host http://me:hunter2@web/ -hots x").unwrap_err();
        assert!(error.contains("http://web/") && !error.contains("hunter2"), "{error}");
        assert!(settings("mackerel-plugin-postgres -hostname @pg").unwrap_err().contains("abstract"));
        let error = settings("mackerel-plugin-postgres -password hunter tail9").unwrap_err();
        assert!(error.contains("unexpected argument: word 3") && !error.contains("tail9"), "{error}");
        assert!(settings("mackerel-plugin-nginx -host").unwrap_err().contains("needs a value"));
    }

    #[test]
    fn a_setting_in_the_table_wins_over_the_command_and_the_tables_variables_are_read() {
        let (plugin, line) = line("mackerel-plugin-postgres -hostname a -port 1", &[("PGPASSWORD", "t")]).unwrap();
        let table = Given { settings: vec![("port".into(), "2".into())], ..Given::default() };
        let merged = line.merged_with(table, plugin, &declared(), any).ok().unwrap().settings;
        let expected = [("port", "2"), ("hostname", "a"), ("password", "t")];
        assert_eq!(merged, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn typed_flags_win_over_the_table_and_the_table_over_the_environment() {
        let typed = |flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let settings = vec![("port".into(), "2".into()), ("password".into(), "t".into())];
            let table = Given { settings, ..Given::default() };
            CommandLine::typed("redis", flags, agent_environment).merged_with(table, "redis", &declared(), any)
        };
        let merged = typed(&["-port", "1"]).ok().unwrap().settings;
        assert_eq!(merged, [("port", "1"), ("password", "t")].map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(!typed(&["-x"]).err().unwrap().why.contains("instead of"), "there is no command to replace");
    }

    #[test]
    fn the_tls_files_come_from_the_variables_of_postgresql() {
        let (plugin, line) =
            line("PGSSLROOTCERT=/ca PGSSLCERT=/crt PGSSLKEY=/key mackerel-plugin-postgres", &[]).unwrap();
        let trust = line.merged_with(Given::default(), plugin, &declared(), any).ok().unwrap().trust;
        assert_eq!((trust.authority, trust.identity), (Some("/ca".into()), Some(("/crt".into(), "/key".into()))));
    }

    #[test]
    fn a_plugin_that_is_not_official_reads_no_variables() {
        let flags = |wanted| CommandLine::typed(wanted, Vec::new(), agent_environment).environment.len();
        assert_eq!((flags("redis"), flags("./redis.wasm"), flags("own")), (1, 0, 0));
        let state = CommandLine { flags: vec!["-tempfile".into(), "/t".into()], ..CommandLine::default() };
        assert_eq!(state.state_file(&declared()), Some("/t".into()));
    }
}
