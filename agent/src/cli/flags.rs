//! The command line: the official agent's flags, with one dash or two, `=` or a space.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use config::Config;
use config::document::{Level, Problem};
use config::environment::Environment;
use tracing::level_filters::LevelFilter;
use wasaba_core::secret::Secret;
use wasaba_core::text::printable;

use super::completion;
use crate::process::log;
use crate::process::log::Destination;

/// A host agent for Mackerel: host metrics and sandboxed plugins.
///
/// Without a command it runs in the foreground: it collects every minute and posts to Mackerel, or, without an API key,
/// shows the values here and keeps them for 24 hours.
#[derive(Debug, Parser)]
#[command(name = "wasaba", disable_version_flag = true, disable_help_subcommand = true, args_override_self = true)]
pub struct Line {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The agent's flags.
    #[command(flatten)]
    pub agent: AgentFlags,
}

/// The commands; each has its own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the configuration and say what is wrong with it
    Configtest(AgentFlags),
    /// Write the API key into the configuration, if there is none yet
    Init {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
        conf: PathBuf,
        /// The API key
        #[arg(long, value_name = "KEY")]
        apikey: Option<String>,
        /// Where Mackerel's API is
        #[arg(long, value_name = "URL")]
        apibase: Option<String>,
    },
    /// Collect once and print the host and its metrics as JSON; nothing is posted or stored
    Once(AgentFlags),
    /// Tell Mackerel that this host is no more
    Retire {
        /// The agent's flags: which host
        #[command(flatten)]
        agent: AgentFlags,
        /// Do not ask
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
              default_value = "false", hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
        force: bool,
    },
    /// Run in the foreground, as without a command
    Run(AgentFlags),
    /// Run the agent as a child process, and again when it dies
    Supervise(AgentFlags),
    /// Run as the first process of a container, with what the variables of the official image say
    Container(AgentFlags),
    /// Say whether the running agent does its work; exit code 1 if not
    Health(AgentFlags),
    /// Run and inspect plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print a script that completes command lines, for bash, zsh or fish
    Completion {
        /// The shell
        shell: completion::Shell,
    },
    /// Print the version
    Version,
}

/// What can be done with a plugin.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Collect once and print `name<TAB>value<TAB>epoch` lines, like the official plugins
    Run {
        /// The agent's flags: where plugins are looked for
        #[command(flatten)]
        agent: AgentFlags,
        /// Say on standard error what it was granted, wished for, was refused and used
        #[arg(long)]
        explain: bool,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
        /// The plugin's settings as flags: -host=web -port 8080
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "-SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Show what a plugin is, its settings, what it wishes for and what it would be granted
    Inspect {
        /// The agent's flags: where plugins are looked for
        #[command(flatten)]
        agent: AgentFlags,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
    },
    /// Compile plugins ahead of time into the agent's root, for images and packages
    Compile {
        /// The agent's flags: where plugins are looked for, and which root
        #[command(flatten)]
        agent: AgentFlags,
        /// What shall run them: pulley or native
        #[arg(long, default_value = "pulley")]
        engine: String,
        /// The plugins' names, or paths of .wasm files
        #[arg(required = true, value_name = "PLUGIN")]
        plugins: Vec<String>,
    },
    /// Show how the plugins of the running agent are doing: calls, failures, time, memory, refusals
    List {
        /// The agent's flags: which agent
        #[command(flatten)]
        agent: AgentFlags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure what one call of a plugin costs here: call it many times and print the median
    Time {
        /// The agent's flags: where plugins are looked for
        #[command(flatten)]
        agent: AgentFlags,
        /// What runs it: pulley or native
        #[arg(long, default_value = "pulley")]
        engine: String,
        /// How many times it is called
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        calls: u32,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
        /// The plugin's settings as flags: -host=web -port 8080
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "-SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Make a folder with a new plugin in Rust that builds and passes its tests
    New {
        /// The plugin's name, which its metrics begin with: lower-case letters, digits and -
        name: String,
    },
    /// Run a plugin's test cases, with canned answers in place of the network
    Test {
        /// The agent's flags: where plugins are looked for
        #[command(flatten)]
        agent: AgentFlags,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
        /// The file with the cases
        #[arg(default_value = "tests.toml")]
        cases: PathBuf,
    },
    /// Compile the component on standard input to standard output (the agent's own child process)
    #[command(hide = true)]
    Compiler {
        /// What shall run it
        #[arg(long)]
        engine: String,
        /// CPU time that it may take
        #[arg(long)]
        cpu_seconds: u64,
        /// Address space that it may take
        #[arg(long)]
        memory_bytes: u64,
    },
}

/// The official agent's flags. One that is given wins over the configuration file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFlags {
    /// The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// The folder of the agent's own files
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// Where Mackerel's API is
    #[arg(long, value_name = "URL")]
    pub apibase: Option<String>,
    /// The API key; visible to every user of this machine, so better put it into the configuration file
    #[arg(long, value_name = "KEY")]
    pub apikey: Option<String>,
    /// The file for the process id
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// What the host is there for, Service:role; several times or separated by commas
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    pub role: Vec<String>,
    /// Post what the agent itself takes, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub diagnostic: Option<bool>,
    /// Log more
    #[arg(long, short = 'v', alias = "v", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = boolean)]
    pub verbose: Option<bool>,
    /// End when the program's file is replaced or deleted
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub private_autoshutdown: bool,
    /// Run below `supervise`, which has the pid file
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub child: bool,
}

/// What Go's flags take for `true` and `false`.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Parses `arguments`, of which the first is the program's name.
///
/// # Errors
/// clap's error, which is also how help is asked for.
pub fn parse(arguments: Vec<OsString>) -> Result<Line, clap::Error> {
    let first = arguments.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if !first.is_empty() && !first.starts_with('-') && !is_command(&first) {
        return Err(unknown_command(&first));
    }
    let line = Line::try_parse_from(with_two_dashes(arguments))?;
    if line.command.is_some() && line.agent != AgentFlags::default() {
        // Ignored, they would make a command read another configuration than the user meant.
        let text = "flags stand behind the command: `wasaba once -conf FILE`\n";
        return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, text));
    }
    Ok(line)
}

fn is_command(word: &str) -> bool {
    Line::command().get_subcommands().any(|command| command.get_name() == word)
}

/// Names the commands that there are, as the official agent does.
fn unknown_command(word: &str) -> clap::Error {
    let line = Line::command();
    let names = line.get_subcommands().map(clap::Command::get_name);
    let meant = names.map(|name| (strsim::levenshtein(name, word), name)).min().filter(|(distance, _)| *distance < 3);
    let meant = meant.map(|(_, name)| format!(", did you mean `{name}`?")).unwrap_or_default();
    let mut text = format!("unknown command `{}`{meant}\n\nCommands:\n", printable(word, 40));
    for command in line.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:<11} {about}\n", command.get_name()));
    }
    clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, text)
}

/// Whether the line of this command ends with the first word that is no flag, as with Go: of one that has the agent's flags, and
/// without a command.
fn has_flags_only(name: &str) -> bool {
    let has_them = |command: &clap::Command| command.get_arguments().any(|flag| flag.get_long() == Some("conf"));
    name.is_empty() || Line::command().get_subcommands().any(|command| command.get_name() == name && has_them(command))
}

/// The flags that take no value, or only behind a `=`.
const WITHOUT_VALUE: &[&str] =
    &["v", "verbose", "h", "help", "explain", "json", "diagnostic", "force", "child", "private-autoshutdown"];

/// Gives the flags of Go's form, `-conf`, the second dash that clap wants. What follows the name of a plugin to run or
/// time is the plugin's and stays as it is; what follows the flags of another command, nobody reads.
fn with_two_dashes(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut words_of_plugin = 0;
    let mut takes_value = false;
    let mut command = None;
    let mut normalized = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.into_iter().enumerate() {
        let text = argument.to_string_lossy().into_owned();
        let is_flag = text.starts_with('-') && text.len() > 1 && text != "--" && !takes_value;
        if index > 0 && !takes_value {
            let known = command.get_or_insert_with(|| if is_flag { String::new() } else { text.clone() });
            // A command behind flags is a mistake that is told.
            let is_late = known.is_empty() && is_command(&text);
            if index > 1 && !is_flag && !is_late && has_flags_only(known) {
                break;
            }
        }
        if words_of_plugin < 3 && is_flag && !text.starts_with("--") && text.len() > 2 {
            normalized.push(OsString::from(format!("-{text}")));
        } else {
            normalized.push(argument);
        }
        let is_value = takes_value;
        takes_value = is_flag && !text.contains('=') && !WITHOUT_VALUE.contains(&text.trim_start_matches('-'));
        if !is_flag && !is_value {
            words_of_plugin = match (words_of_plugin, text.as_str()) {
                (0, "plugin") => 1,
                (1, "run" | "time") => 2,
                (2, _) => 3,
                (words, _) => words,
            };
        }
    }
    normalized
}

impl AgentFlags {
    /// The configuration file that these name.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.conf.clone().unwrap_or_else(|| config::DEFAULT_FILE.into())
    }

    /// The configuration: the file's, with these flags on top. The problems are for the log.
    ///
    /// # Errors
    /// All problems of a configuration that cannot be used.
    pub fn config(&self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let environment = Environment::of_this_process();
        if let Some(why) = environment.wrong_opts() {
            return Err(vec![Problem::of_flag(Level::Error, why)]);
        }
        let flags = self.with_opts(&environment.opts).map_err(|why| vec![Problem::of_flag(Level::Error, why)])?;
        let file = flags.file();
        // A first look at the agent needs no configuration.
        let file = (flags.conf.is_some() || file.exists()).then_some(file);
        let (mut config, mut problems) = config::load_with(file.as_deref(), environment.include.as_deref())?;
        environment.over(&mut config, &mut problems);
        let config = flags.over(config, &mut problems);
        if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((config, problems)) }
    }

    /// As [`AgentFlags::config`], for a command that then logs: the log is started, and the problems are in it.
    ///
    /// # Errors
    /// Text for the user, a problem a paragraph.
    pub fn config_for_command(&self) -> Result<Config, String> {
        let (config, problems) = self.config().map_err(|problems| texts(&problems))?;
        log::start(config.log_level, Destination::Stderr);
        log::tell(&problems);
        Ok(config)
    }

    /// These flags with those in a container's variable `opts`; what is given here wins.
    fn with_opts(&self, opts: &[String]) -> Result<Self, String> {
        if opts.is_empty() {
            return Ok(self.clone());
        }
        let arguments = std::iter::once("wasaba").chain(opts.iter().map(String::as_str)).map(OsString::from);
        let said = |error: clap::Error| {
            let text = error.to_string();
            format!("the variable `opts`: {}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        };
        let Self { conf, root, apibase, apikey, pidfile, role, diagnostic, verbose, .. } =
            parse(arguments.collect()).map_err(said)?.agent;
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
        }
        if let Some(base) = &self.apibase {
            match config::api_base(base) {
                Ok(base) => config.api_base = base,
                Err(why) => problems.push(Problem::of_flag(Level::Error, format!("-apibase {why}"))),
            }
        }
        if let Some(key) = self.apikey.as_deref().filter(|key| !key.is_empty()) {
            config.api_key = Some(Secret::new(key));
        }
        if let Some(pidfile) = &self.pidfile {
            config.pidfile.clone_from(pidfile);
        }
        if !self.role.is_empty() {
            let (good, bad) = self.role.iter().cloned().partition::<Vec<_>, _>(|role| config::is_role(role));
            for role in bad {
                let why =
                    format!("-role {role:?} is left out: it must look like Service:role, letters, digits, - and _");
                problems.push(Problem::of_flag(Level::Warning, why));
            }
            config.roles = good;
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

/// Problems as a user reads them, a paragraph each.
#[must_use]
pub fn texts(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Line {
        parse(line.split(' ').map(OsString::from).collect()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn flags_take_one_dash_or_two_and_an_equals_sign_or_a_space() {
        for line in ["wasaba -conf a.conf -root=/r", "wasaba --conf=a.conf --root /r", "wasaba -conf=a.conf --root=/r"]
        {
            let agent = parsed(line).agent;
            assert_eq!((agent.conf, agent.root), (Some("a.conf".into()), Some("/r".into())), "{line}");
        }
        assert!(
            matches!(parsed("wasaba once -conf a.conf").command, Some(Command::Once(agent)) if agent.conf.is_some())
        );
    }

    #[test]
    fn flags_before_a_command_are_refused_rather_than_ignored() {
        let line = ["wasaba", "-conf", "a.conf", "once"].map(OsString::from).to_vec();
        assert!(parse(line).unwrap_err().to_string().contains("behind the command"));
    }

    #[test]
    fn of_a_flag_that_is_repeated_the_last_counts_but_roles_add_up() {
        assert_eq!(parsed("wasaba -conf a -conf=b").agent.conf, Some("b".into()));
        assert_eq!(parsed("wasaba -v -verbose -v=false").agent.verbose, Some(false));
        let Some(Command::Retire { agent, force }) =
            parsed("wasaba retire -force -role A:a -force=false -role B:b").command
        else {
            panic!("another command")
        };
        assert_eq!((force, agent.role.len()), (false, 2));
        let agent = parsed("wasaba -child=true -private-autoshutdown=false").agent;
        assert_eq!((agent.child, agent.private_autoshutdown), (true, false));
        let agent = parsed("wasaba -child -private-autoshutdown").agent;
        assert!(agent.child && agent.private_autoshutdown);
    }

    #[test]
    fn what_follows_the_first_word_that_is_no_flag_is_passed_over_as_with_go() {
        for line in ["wasaba -conf a b -nonsense", "wasaba -conf a -- -nonsense", "wasaba -conf a -"] {
            assert_eq!(parsed(line).agent.conf, Some("a".into()), "{line}");
        }
        let line = "wasaba configtest -conf a b -conf c";
        assert!(matches!(parsed(line).command, Some(Command::Configtest(agent)) if agent.conf == Some("a".into())));
        for command in ["configtest", "init", "once", "retire", "run", "supervise"] {
            assert!(parsed(&format!("wasaba {command} -conf a b")).command.is_some(), "{command}");
        }
        let Some(Command::Completion { .. }) = parsed("wasaba completion bash").command else { panic!("none") };
        let line = ["wasaba", "once", "-nonsense"].map(OsString::from).to_vec();
        assert!(parse(line).is_err(), "an unknown flag is none to pass over");
    }

    #[test]
    fn run_is_the_name_of_what_is_done_without_a_command() {
        assert!(matches!(parsed("wasaba run -root /r").command, Some(Command::Run(agent)) if agent.root.is_some()));
    }

    #[test]
    fn an_unknown_command_is_told_with_those_that_there_are() {
        let told = |word: &str| parse(["wasaba", word].map(OsString::from).to_vec()).unwrap_err();
        let error = told("rutire");
        assert!(error.use_stderr());
        let text = error.to_string();
        assert!(text.contains("unknown command `rutire`, did you mean `retire`?"), "{text}");
        assert!(text.contains("\n  supervise   Run the agent as a child process, and again when it dies\n"), "{text}");
        assert!(told("nonsense").to_string().contains("unknown command `nonsense`\n"));
    }

    #[test]
    fn a_value_may_begin_with_a_dash_only_after_an_equals_sign() {
        assert_eq!(parsed("wasaba -apikey=-key").agent.apikey.as_deref(), Some("-key"));
    }

    #[test]
    fn roles_are_repeated_or_separated_by_commas() {
        assert_eq!(parsed("wasaba -role A:a,B:b -role C:c").agent.role, ["A:a", "B:b", "C:c"]);
    }

    #[test]
    fn what_follows_a_plugins_name_is_the_plugins() {
        let Some(Command::Plugin(PluginCommand::Run { agent, plugin, settings, .. })) =
            parsed("wasaba plugin run -root /r nginx -host=web -port 80 --path=/s").command
        else {
            panic!("another command")
        };
        assert_eq!((agent.root, plugin.as_str()), (Some("/r".into()), "nginx"));
        assert_eq!(settings, ["-host=web", "-port", "80", "--path=/s"]);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_a_wrong_one_is_named() {
        let file = Config { root: "/file".into(), ..Config::default() };
        let over = |line: &str| {
            let mut problems = Vec::new();
            (parsed(line).agent.over(file.clone(), &mut problems), texts(&problems))
        };
        assert_eq!(over("wasaba -root /flag").0.root, PathBuf::from("/flag"));
        assert_eq!(over("wasaba -v").0.root, PathBuf::from("/file"));
        let (config, problems) = over("wasaba -role role,A:a");
        assert!(config.roles == ["A:a"] && problems.contains("-role"), "{problems}");
        assert!(over("wasaba -apibase nonsense").1.contains("-apibase"));
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
            let config = parsed(line).agent.over(verbose.clone(), &mut Vec::new());
            assert_eq!((config.log_level, config.diagnostic), (level, diagnostic), "{line}");
        }
    }

    #[test]
    fn retire_takes_the_flags_of_the_agent() {
        let line =
            "wasaba retire -force -conf c -root r -role A:b -v -diagnostic -pidfile p -apibase http://x -apikey k";
        let Some(Command::Retire { agent, force }) = parsed(line).command else { panic!("another command") };
        assert!(force && agent.root == Some("r".into()) && agent.apikey.as_deref() == Some("k"));
    }
}
