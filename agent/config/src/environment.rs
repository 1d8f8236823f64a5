//! The variables of a container: what the official image takes from its environment, and a few more, over the configuration.
//!
//! They count only in our image, which says so with [`MARK`]: elsewhere a variable of such a name is somebody else's.

use std::path::{Path, PathBuf};

use containers::Docker;
use machine::roots::Roots;
use official::shell::simple_command;
use wasaba_core::container::MARK;
use wasaba_core::secret::Secret;

use super::document::{Level, Problem};
use super::{Config, is_role};

/// What the environment of a container says. It has no `Debug`: there is a secret in it.
#[derive(Clone, Default)]
pub struct Environment {
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    /// More flags of the agent's.
    pub opts: Vec<String>,
    /// What in them only a shell could do.
    beyond: Option<&'static str>,
    /// A pattern of files to include.
    pub include: Option<String>,
    docker: bool,
    roles: Option<Vec<String>>,
    display_name: Option<String>,
    host_root: Option<PathBuf>,
    /// Whether the host is retired when the container is told to stop.
    pub auto_retirement: bool,
}

impl Environment {
    /// What `variable` says in our image; elsewhere nothing.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable(MARK).is_none() {
            return Self::default();
        }
        // As the official image has it: everything but nothing and 0.
        let is_on = |name: &str| variable(name).is_some_and(|value| value != "0");
        let opts = variable("opts").map(|opts| simple_command(&opts, |_| None)).unwrap_or_default();
        let has_assignment = !opts.assignments.is_empty();
        // There is nobody who could put a value in its place.
        let has_variable = variable("opts").is_some_and(|opts| opts.contains('$'));
        let roles = variable("roles").map(|roles| roles.split(',').map(|role| role.trim().to_owned()).collect());
        Self {
            api_key: variable("apikey").map(Secret::new),
            api_key_file: variable("apikey_file").map(PathBuf::from),
            beyond: opts
                .needs_shell
                .or(has_variable.then_some("a `$`"))
                .or(has_assignment.then_some("a variable in front")),
            opts: opts.words,
            include: variable("include"),
            docker: is_on("enable_docker_plugin"),
            roles,
            display_name: variable("display_name"),
            host_root: variable("host_root").map(PathBuf::from),
            auto_retirement: is_on("auto_retirement"),
        }
    }

    /// The environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Why `opts` are no flags, if they are not. It shows none of them: there may be a key among them.
    #[must_use]
    pub fn wrong_opts(&self) -> Option<String> {
        let beyond = self.beyond.map(|beyond| format!("has {beyond}, which only a shell could carry out"));
        let stray = self.opts.first().filter(|first| !first.starts_with('-'));
        let why = beyond.or_else(|| stray.map(|_| "begins with what is no flag".to_owned()))?;
        Some(format!("the variable `opts` {why}: write flags of the agent, like -v -role=Service:role"))
    }

    /// Puts what it says over `config`. A key that stands in the configuration stays, as with the official image; all else wins.
    pub fn over(&self, config: &mut Config, problems: &mut Vec<Problem>) {
        if config.api_key.is_none() {
            config.api_key = match &self.api_key_file {
                Some(file) => key_in(file).map_err(|why| problems.push(Problem::of_flag(Level::Error, why))).ok(),
                None => self.api_key.clone(),
            };
        }
        if let Some(roles) = &self.roles {
            config.roles = roles.iter().filter(|role| is_role(role)).cloned().collect();
            for role in roles.iter().filter(|role| !is_role(role)) {
                let why = format!("{role:?} of the variable `roles` is left out: it must look like Service:role");
                problems.push(Problem::of_flag(Level::Warning, why));
            }
        }
        if let Some(name) = &self.display_name {
            config.display_name = Some(name.clone());
        }
        if let Some(root) = &self.host_root {
            config.machine = Roots { metadata: config.machine.metadata.take(), ..Roots::of_host(root) };
        }
        let has_table =
            config.engines().next().is_some() || config.metrics.iter().any(|plugin| &*plugin.name == "docker");
        if self.docker && !has_table {
            config.docker = Some(Docker { name: "plugin docker".into(), ..Docker::default() });
        }
    }
}

fn key_in(file: &Path) -> Result<Secret, String> {
    let read =
        wasaba_core::regular_file::read(file, 4_096).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    match read {
        Ok(key) if key.is_empty() => {
            Err(format!("there is no key in `{}`, which the variable `apikey_file` names", file.display()))
        }
        Ok(key) => Ok(Secret::new(key)),
        Err(error) => Err(format!("cannot read `{}`, which the variable `apikey_file` names: {error}", file.display())),
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
    fn outside_of_the_image_no_variable_counts() {
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
    fn flags_that_only_a_shell_could_make_are_told() {
        for (opts, beyond) in [
            ("-v; reboot", "has "),
            ("-v | cat", "a pipe"),
            ("A=b -v", "a variable in front"),
            ("-apibase=$URL", "a `$`"),
            ("'-v", "quote"),
            ("hunter2", "no flag"),
        ] {
            let said = environment(&[("opts", opts)]).wrong_opts().unwrap_or_default();
            assert!(said.contains(beyond) && !said.contains("hunter2"), "{opts}: {said}");
        }
        assert_eq!(environment(&[("opts", "-v -role='Svc: a'")]).wrong_opts(), None);
    }

    #[test]
    fn a_key_and_an_engine_that_stand_in_the_configuration_stay() {
        let written = Config {
            api_key: Some(Secret::new("written")),
            docker: Some(Docker { naming: Naming::Id, ..Docker::default() }),
            ..Config::default()
        };
        let (config, _) = over(written, &[("apikey", "hunter2"), ("enable_docker_plugin", "1")]);
        assert_eq!(config.api_key, Some(Secret::new("written")));
        assert_eq!(config.docker.map(|docker| docker.naming), Some(Naming::Id));
    }

    #[test]
    fn a_secret_may_be_a_file_and_one_that_cannot_be_read_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("key").display().to_string();
        let key = |file: &str| over(Config::default(), &[("apikey_file", file)]);
        std::fs::write(&file, "hunter2\n").unwrap();
        assert_eq!(key(&file).0.api_key, Some(Secret::new("hunter2")));
        std::fs::write(&file, "\n").unwrap();
        for wrong in [&file, "/nowhere/key"] {
            let (config, problems) = key(wrong);
            assert!(config.api_key.is_none() && problems[0].is_error());
            assert!(problems[0].to_string().contains("apikey_file"), "{}", problems[0]);
        }
    }

    #[test]
    fn roles_name_and_host_come_by_variables_too() {
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
