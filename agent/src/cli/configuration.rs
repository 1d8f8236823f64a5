//! The configuration that a command runs with: the file's, with the container's variables and the command line's flags on top.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use config::document::{Level, Problem};
use config::environment::Environment;
use config::{Config, Loaded};
use delivery::mackerel::Client;
use tracing::level_filters::LevelFilter;
use wasaba_core::secret::Secret;

use super::flags::AgentFlags;
use super::parse::parse;
use crate::process::log::Destination;
use crate::process::{log, look, owner};
use crate::run;

/// If reading the configuration takes longer, it is said what is awaited.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where an agent is.
pub struct Whereabouts {
    /// Its folder.
    pub root: PathBuf,
    /// Its pid file.
    pub pidfile: PathBuf,
    /// What is wrong with the configuration, to be said beside what the agent says.
    pub wrong: Option<String>,
}

impl AgentFlags {
    /// The configuration file that these flags name.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.conf.clone().unwrap_or_else(|| config::DEFAULT_FILE.into())
    }

    /// The file's configuration, with these flags on top. The problems are for the log.
    ///
    /// # Errors
    /// All problems of a configuration that cannot be used.
    pub fn config(&self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        self.loaded().usable()
    }

    /// The same, whatever is wrong with it.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        let file = self.file();
        let late = format!(
            "reading the configuration takes longer than {} s: the file system of `{}`, or of a file that it names, does not \
             answer; waiting for it",
            PATIENCE.as_secs(),
            file.display()
        );
        look::at(format_args!("`{}`, or of a file that it names,", file.display()));
        let loaded = unless_late(PATIENCE, move || log::warn(&late), || self.load());
        look::away();
        loaded
    }

    fn load(&self) -> Loaded {
        let environment = Environment::of_this_process();
        let mut problems = Vec::new();
        let flags = match environment.wrong_opts() {
            Some(why) => Err(why),
            None => self.with_opts(&environment.opts),
        };
        let flags = flags.unwrap_or_else(|why| {
            problems.push(Problem::of_flag(Level::Error, why));
            self.clone()
        });
        let file = flags.file();
        // Without -conf the file may be missing: a first look at the agent needs no configuration.
        let file = (flags.conf.is_some() || file.exists()).then_some(file);
        let mut loaded = config::load_with(file.as_deref(), environment.include.as_deref());
        problems.append(&mut loaded.problems);
        environment.over(&mut loaded.config, &mut problems);
        loaded.knows_root |= flags.root.is_some();
        loaded.config = flags.over(loaded.config, &mut problems);
        if loaded.config.api_key.is_none() && !loaded.knows_key && !problems.iter().any(Problem::is_error) {
            let why = "there is no `apikey` in the files that could be read, and a file that was skipped may have it: the agent would post \
                       nothing; correct that file, or write the key into the main one";
            problems.push(Problem::of_flag(Level::Error, why.to_owned()));
        }
        loaded.problems = problems;
        loaded
    }

    /// Where the agent is, for a command that only looks: that needs no configuration without errors, and a running agent keeps the one that
    /// it has read before.
    ///
    /// # Errors
    /// It is not known, since the file that was named, or the root in it, cannot be read.
    pub fn whereabouts(&self) -> Result<Whereabouts, String> {
        let Loaded { config, problems, knows_root, .. } = self.loaded();
        let wrong = problems.iter().any(Problem::is_error).then(|| texts(&problems));
        let Config { root, pidfile, .. } = config;
        match wrong {
            Some(wrong) if !knows_root => Err(format!(
                "{wrong}\nso the root of the agent is not known, and no agent was asked: name the root with -root"
            )),
            wrong => {
                let wrong = wrong.map(|wrong| {
                    format!(
                        "{wrong}\nthe configuration is invalid: an agent that runs keeps the one before it, but cannot be started \
                         again; asking the one with the root `{}`",
                        root.display()
                    )
                });
                Ok(Whereabouts { root, pidfile, wrong })
            }
        }
    }

    /// Becomes the user that the agent runs as, if this is root and the agent's root is another user's. What the configuration says then counts as
    /// that user reads it. Before anything is logged. Returns whether it did.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn become_agent(&self) -> Result<bool, String> {
        // An unknown root is reported by whoever reads the configuration next.
        self.whereabouts().map_or(Ok(false), |Whereabouts { root, .. }| owner::become_owner(&root))
    }

    /// As [`AgentFlags::config`], for a command that logs: starts the log and writes the problems to it.
    ///
    /// # Errors
    /// Text for the user, a paragraph for each problem.
    pub fn config_for_command(&self) -> Result<Config, String> {
        let (config, problems) = self.config().map_err(|problems| texts(&problems))?;
        log::start(config.log_level, Destination::Stderr, config.machine.host.as_deref())?;
        log::problems(&problems);
        Ok(config)
    }

    /// These flags, and where one was not given, the one in a container's variable `opts`.
    fn with_opts(&self, opts: &[String]) -> Result<Self, String> {
        if opts.is_empty() {
            return Ok(self.clone());
        }
        let arguments = std::iter::once("wasaba").chain(opts.iter().map(String::as_str)).map(OsString::from);
        let invalid = |error: clap::Error| {
            let text = error.to_string();
            format!("the variable `opts`: {}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        };
        let Self { conf, root, apibase, apikey, pidfile, role, diagnostic, verbose, .. } =
            parse(arguments.collect()).map_err(invalid)?.agent;
        let mut all = self.clone();
        all.conf = all.conf.or(conf);
        all.root = all.root.or(root);
        all.apibase = all.apibase.or(apibase);
        all.apikey = all.apikey.or(apikey);
        all.pidfile = all.pidfile.or(pidfile);
        all.role = if all.role.is_empty() { role } else { all.role };
        all.diagnostic = all.diagnostic.or(diagnostic);
        all.verbose = all.verbose.or(verbose);
        Ok(all)
    }

    fn over(&self, mut config: Config, problems: &mut Vec<Problem>) -> Config {
        if let Some(root) = &self.root {
            config.root.clone_from(root);
            config.places.forget("root");
        }
        if let Some(base) = &self.apibase {
            match config::api_base(base) {
                Ok(base) => config.api_base = base,
                Err(why) => problems.push(Problem::of_flag(Level::Error, format!("-apibase {why}"))),
            }
        }
        if let Some(key) = self.apikey.as_deref().filter(|key| !key.is_empty()) {
            match config::api_key(key) {
                Ok(key) => config.api_key = Some(key),
                Err(why) => problems.push(Problem::of_flag(Level::Error, format!("-apikey {why}"))),
            }
        }
        if let Some(pidfile) = &self.pidfile {
            config.pidfile.clone_from(pidfile);
            config.places.forget("pidfile");
        }
        if !self.role.is_empty() {
            let (valid, invalid) = self.role.iter().cloned().partition::<Vec<_>, _>(|role| config::is_role(role));
            for role in invalid {
                let why = format!("-role: {}", config::invalid_role(Some(&role)));
                problems.push(Problem::of_flag(Level::Warning, why));
            }
            config.roles = valid;
        }
        match self.verbose {
            Some(true) => config.log_level = LevelFilter::DEBUG,
            Some(false) if config.log_level == LevelFilter::DEBUG => config.log_level = LevelFilter::INFO,
            _ => {}
        }
        config.diagnostic = self.diagnostic.unwrap_or(config.diagnostic);
        config
    }
}

/// What `read` reads, and meanwhile `say`, on a thread of its own, if that takes longer than `patience`.
fn unless_late<T>(patience: Duration, say: impl FnOnce() + Send + 'static, read: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    let wait = move || {
        if is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            say();
        }
    };
    let thread = thread::Builder::new().name("patience".to_owned()).stack_size(wasaba_core::WORKER_STACK_BYTES);
    // Without the thread it is only not said.
    thread.spawn(wait).ok();
    let read = read();
    drop(done);
    read
}

/// What is wrong with the key or with the way to Mackerel, also in the environment, as far as it can be seen without taking it.
#[must_use]
pub fn way_to_mackerel(config: &Config) -> Option<Problem> {
    let key = config.api_key.clone().unwrap_or_else(|| Secret::new("none"));
    let client = Client::new(config.api_base.as_str(), key, &run::agent(), &run::route(&config.network));
    client.err().map(|error| Problem::of_flag(Level::Error, error.to_string()))
}

/// The problems as text for the user, a paragraph each.
#[must_use]
pub fn texts(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(line: &str, file: &Config) -> (Config, String) {
        let line =
            parse(line.split(' ').map(OsString::from).collect()).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut problems = Vec::new();
        (line.agent.over(file.clone(), &mut problems), texts(&problems))
    }

    #[test]
    fn a_flag_wins_over_the_file_and_an_invalid_one_is_reported() {
        let file = Config { root: "/file".into(), ..Config::default() };
        assert_eq!(over("wasaba -root /flag", &file).0.root, PathBuf::from("/flag"));
        assert_eq!(over("wasaba -v", &file).0.root, PathBuf::from("/file"));
        let (config, problems) = over("wasaba -role role,A:a", &file);
        assert!(
            config.roles == ["A:a"]
                && problems.contains("-role: invalid role \"role\", skipped: write `Service:role`, "),
            "{problems}"
        );
        assert!(over("wasaba -apibase nonsense", &file).1.contains("-apibase"));
        let (config, problems) = over("wasaba -apikey hunter2\n3", &file);
        assert!(config.api_key.is_none() && problems.starts_with("-apikey contains a line break"), "{problems}");
    }

    #[test]
    fn where_the_root_cannot_be_read_from_the_file_no_other_agent_is_asked_unless_the_root_is_given() {
        let temp = tempfile::tempdir().unwrap();
        let conf = temp.path().join("a.conf");
        let flags = AgentFlags { conf: Some(conf.clone()), ..AgentFlags::default() };
        let given = AgentFlags { root: Some("/r".into()), ..flags.clone() };
        for text in [&b"root = \"/b\n"[..], b"root = 5\n", b"root = \"/b\"\n# \xff\n"] {
            std::fs::write(&conf, text).unwrap();
            let error = flags.whereabouts().err().unwrap();
            assert!(error.contains("a.conf") && error.ends_with("name the root with -root"), "{error}");
            assert_eq!(given.whereabouts().ok().unwrap().root, PathBuf::from("/r"));
        }
        std::fs::write(&conf, "root = \"/b\"\napikey = \"k\n").unwrap();
        assert_eq!(flags.whereabouts().ok().unwrap().root, PathBuf::from("/b"));
    }

    #[test]
    fn what_takes_long_is_said_while_it_does_and_what_does_not_is_not() {
        let (said, is_said) = channel();
        let say = move || said.send("late").unwrap();
        assert_eq!(unless_late(Duration::ZERO, say, || is_said.recv()), Ok("late"));
        let (said, is_said) = channel();
        assert_eq!(unless_late(PATIENCE, move || said.send("late").unwrap(), || 1), 1);
        assert!(is_said.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn a_switch_may_be_turned_off_as_with_go() {
        let verbose = Config { log_level: LevelFilter::DEBUG, diagnostic: true, ..Config::default() };
        for (line, level, diagnostic) in [
            ("wasaba", LevelFilter::DEBUG, true),
            ("wasaba -v=false -diagnostic=0", LevelFilter::INFO, false),
            ("wasaba --verbose=F -diagnostic -root /r", LevelFilter::INFO, true),
            ("wasaba -v -root /r", LevelFilter::DEBUG, true),
        ] {
            let (config, _) = over(line, &verbose);
            assert_eq!((config.log_level, config.diagnostic), (level, diagnostic), "{line}");
        }
    }
}
