//! The environment variables of the container image: those of the official image, and a few more. They override the configuration.
//!
//! They have an effect only in our image, which sets [`MARK`]: elsewhere, a variable of such a name has another purpose.

use std::path::{Path, PathBuf};

use containers::Docker;
use machine::roots::Roots;
use official::shell::simple_command;
use wasaba_core::container::MARK;
use wasaba_core::paths::{named, patient};
use wasaba_core::secret::Secret;

use super::document::{Level, Problem};
use super::{Config, api_key, invalid_role, is_role};

/// The variables of the image. Without `Debug`, since they contain a secret.
#[derive(Clone, Default)]
pub struct Environment {
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    /// Further flags of the agent.
    pub opts: Vec<String>,
    /// The first thing in `opts` that needs a shell, with its article.
    needs_shell: Option<&'static str>,
    /// The pattern of files to include.
    pub include: Option<String>,
    docker: bool,
    roles: Option<Vec<String>>,
    display_name: Option<String>,
    /// Where the host's `/` is mounted.
    pub host_root: Option<PathBuf>,
    /// Whether the host is retired when the container stops.
    pub auto_retirement: bool,
}

impl Environment {
    /// Reads the variables in our image; elsewhere all are missing.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            let value = variable(name)?;
            // In `opts`, quotes belong to the flags.
            let value = if name == "opts" { value.trim() } else { unquoted(&value) };
            Some(value.to_owned()).filter(|value| !value.is_empty())
        };
        if variable(MARK).is_none() {
            return Self::default();
        }
        // As in the official image: any value except an empty one and 0.
        let is_on = |name: &str| variable(name).is_some_and(|value| value != "0");
        let opts = variable("opts").map(|opts| simple_command(&opts, |_| None)).unwrap_or_default();
        let has_assignment = !opts.assignments.is_empty();
        // Nothing expands it.
        let has_variable = variable("opts").is_some_and(|opts| opts.contains('$'));
        let roles = variable("roles").map(|roles| roles.split(',').map(|role| role.trim().to_owned()).collect());
        Self {
            api_key: variable("apikey").map(Secret::new),
            api_key_file: variable("apikey_file").map(PathBuf::from),
            needs_shell: opts
                .needs_shell
                .or(has_variable.then_some("a `$`"))
                .or(has_assignment.then_some("an assignment of a variable")),
            opts: opts.words,
            include: variable("include"),
            docker: is_on("enable_docker_plugin"),
            roles,
            display_name: variable("display_name"),
            host_root: variable("host_root").map(PathBuf::from),
            auto_retirement: is_on("auto_retirement"),
        }
    }

    /// Reads the environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// A message if `opts` is not a list of flags. It does not show them, since they may contain the API key.
    #[must_use]
    pub fn wrong_opts(&self) -> Option<String> {
        let needs_shell = self.needs_shell.map(|what| format!("contains {what}, which needs a shell"));
        let is_stray = self.opts.first().is_some_and(|first| !first.starts_with('-'));
        let why = needs_shell.or_else(|| is_stray.then(|| "does not begin with a flag".to_owned()))?;
        Some(format!("the variable `opts` {why}: write flags of the agent, like -v -role=Service:role"))
    }

    /// Overrides `config`, except its API key and its engine, as in the official image.
    pub fn over(&self, config: &mut Config, problems: &mut Vec<Problem>) {
        if config.api_key.is_none() {
            let key = match (&self.api_key_file, &self.api_key) {
                (Some(file), _) => Some(key_in(file)),
                (None, Some(key)) => Some(api_key(key.reveal()).map_err(|why| format!("the variable `apikey` {why}"))),
                (None, None) => None,
            };
            let key = key.transpose().map_err(|why| problems.push(Problem::of_flag(Level::Error, why)));
            config.api_key = key.unwrap_or_default();
        }
        if let Some(roles) = &self.roles {
            config.roles = roles.iter().filter(|role| is_role(role)).cloned().collect();
            for role in roles.iter().filter(|role| !is_role(role)) {
                let why = format!("the variable `roles`: {}", invalid_role(Some(role)));
                problems.push(Problem::of_flag(Level::Warning, why));
            }
        }
        if let Some(name) = &self.display_name {
            config.display_name = Some(name.clone());
        }
        if let Some(root) = &self.host_root {
            config.machine = Roots { metadata: config.machine.metadata.take(), ..Roots::of_host(root) };
            config.places.forget("host_root");
        }
        let has_table =
            config.engines().next().is_some() || config.metrics.iter().any(|plugin| &*plugin.name == "docker");
        if self.docker && !has_table {
            config.docker = Some(Docker { name: "plugin docker".into(), ..Docker::default() });
        }
    }
}

/// A value without the quotes around it, which Docker's `--env-file` passes on, and without the end of a line that Windows wrote.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let inner = |quote: char| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).map_or(value, str::trim)
}

fn key_in(file: &Path) -> Result<Secret, String> {
    let read = patient::ask(file, patient::READ, |file| named::read(file, 4_096)).flatten();
    let read = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let read = read.map(|key| key.trim_start_matches('\u{feff}').trim().to_owned());
    match read {
        Ok(key) if key.is_empty() => Err(format!(
            "the file `{}` of the variable `apikey_file` is empty: write the API key into it",
            file.display()
        )),
        Ok(key) => {
            api_key(&key).map_err(|why| format!("the file `{}` of the variable `apikey_file` {why}", file.display()))
        }
        Err(error) => {
            let cure = "check the path, and that the agent may read the file";
            Err(format!("cannot read `{}` of the variable `apikey_file`: {error}; {cure}", file.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use containers::naming::Naming;

    use super::*;

    fn over(config: Config, variables: &[(&str, &str)]) -> (Config, Vec<Problem>) {
        let (mut config, mut problems) = (config, Vec::new());
        environment(variables).over(&mut config, &mut problems);
        (config, problems)
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = [variables, &[(MARK, "1")]].concat();
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn outside_of_the_image_no_variable_has_an_effect() {
        let all = |name: &str| (name != MARK).then(|| "1".to_owned());
        let mut config = Config::default();
        Environment::read(all).over(&mut config, &mut Vec::new());
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn the_official_variables_do_what_they_do_in_the_official_image() {
        let (config, problems) = over(Config::default(), &[("apikey", "hunter2"), ("enable_docker_plugin", "1")]);
        assert_eq!((config.api_key, problems), (Some(Secret::new("hunter2")), Vec::new()));
        let docker = config.docker.expect("one engine");
        assert_eq!((&*docker.name, &docker.naming), ("plugin docker", &Naming::Name));
        let (config, _) = over(Config::default(), &[("enable_docker_plugin", "0"), ("apikey", "")]);
        assert_eq!((config.api_key, config.docker), (None, None));
        let environment =
            environment(&[("opts", "-v -role='Svc: a'"), ("auto_retirement", "true"), ("include", "/c/*.conf")]);
        assert_eq!((environment.opts, environment.auto_retirement), (vec!["-v".into(), "-role=Svc: a".into()], true));
        assert_eq!(environment.include.as_deref(), Some("/c/*.conf"));
    }

    #[test]
    fn quotes_and_line_ends_that_an_env_file_leaves_around_a_value_are_not_part_of_it() {
        for (variables, expected) in [
            // moby/moby#46773, docker/for-linux#1208, docker/cli#4665: quotes stay in the value.
            ([("apikey", "\"hunter2\""), ("roles", "'Svc:web'"), ("display_name", "\"web 1\"")], "web 1"),
            // microsoft/WSL#12502: lines end with CR LF.
            ([("apikey", "hunter2\r"), ("roles", "Svc:web\r"), ("display_name", "web-1\r")], "web-1"),
            ([("apikey", " hunter2 "), ("roles", "\"Svc:web\"\r"), ("display_name", "it's \"1\"")], "it's \"1\""),
        ] {
            let (config, problems) = over(Config::default(), &variables);
            assert_eq!((config.api_key, config.roles), (Some(Secret::new("hunter2")), vec!["Svc:web".to_owned()]));
            assert_eq!((config.display_name.as_deref(), problems.len()), (Some(expected), 0));
        }
        let quoted =
            [("include", "\"/etc/*.conf\""), ("opts", "-v -role='Svc: a'\r"), ("enable_docker_plugin", "\"0\"")];
        let read = environment(&quoted);
        assert_eq!((read.include.as_deref(), read.docker), (Some("/etc/*.conf"), false));
        assert_eq!(read.opts, ["-v", "-role=Svc: a"]);
    }

    #[test]
    fn opts_that_need_a_shell_are_refused() {
        for (opts, why) in [
            ("-v; reboot", "contains "),
            ("-v | cat", "a pipe"),
            ("A=b -v", "an assignment of a variable"),
            ("-apibase=$URL", "a `$`"),
            ("'-v", "quote"),
            ("hunter2", "does not begin with a flag"),
        ] {
            let message = environment(&[("opts", opts)]).wrong_opts().unwrap_or_default();
            assert!(message.contains(why) && !message.contains("hunter2"), "{opts}: {message}");
        }
        assert_eq!(environment(&[("opts", "-v -role='Svc: a'")]).wrong_opts(), None);
    }

    #[test]
    fn the_key_and_the_engine_of_the_configuration_are_kept() {
        let configured = Config {
            api_key: Some(Secret::new("configured")),
            docker: Some(Docker { naming: Naming::Id, ..Docker::default() }),
            ..Config::default()
        };
        let (config, _) = over(configured, &[("apikey", "hunter2"), ("enable_docker_plugin", "1")]);
        assert_eq!(config.api_key, Some(Secret::new("configured")));
        assert_eq!(config.docker.map(|docker| docker.naming), Some(Naming::Id));
    }

    #[test]
    fn the_key_is_read_from_a_file_and_an_unreadable_file_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("key").display().to_string();
        let key = |file: &str| over(Config::default(), &[("apikey_file", file)]);
        std::fs::write(&file, "hunter2\n").unwrap();
        assert_eq!(key(&file).0.api_key, Some(Secret::new("hunter2")));
        for (unusable, content) in [(&*file, "\n"), (&file, "hunter2\nhunter3\n"), ("/nowhere/key", "")] {
            std::fs::write(&file, content).unwrap();
            let (config, problems) = key(unusable);
            assert!(config.api_key.is_none() && problems[0].is_error());
            let problem = problems[0].to_string();
            assert!(problem.contains("apikey_file") && !problem.contains("hunter"), "{problem}");
        }
        let (config, problems) = over(Config::default(), &[("apikey", "hunter2\nhunter3")]);
        assert_eq!((config.api_key, problems.len()), (None, 1));
        assert!(problems[0].to_string().starts_with("the variable `apikey` contains a line break"), "{}", problems[0]);
    }

    #[test]
    fn roles_name_and_host_root_are_read_from_variables() {
        let variables = [("roles", "Svc:web, Svc:db,bad"), ("display_name", "web-1"), ("host_root", "/host")];
        let (config, problems) = over(Config { roles: vec!["Old:role".into()], ..Config::default() }, &variables);
        assert_eq!(
            (config.roles, config.display_name.as_deref()),
            (vec!["Svc:web".into(), "Svc:db".into()], Some("web-1"))
        );
        assert_eq!(config.machine, Roots::of_host(Path::new("/host")));
        assert!(problems.len() == 1 && problems[0].to_string().contains("\"bad\""));
    }
}
