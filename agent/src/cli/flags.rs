//! The definition of the command line: the commands, and the official agent's flags. [`super::parse`] reads command lines.

use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use super::completion;

/// A host agent for Mackerel: host metrics and sandboxed plugins.
///
/// Without a command it runs in the foreground, collects every minute and posts to Mackerel. Without an API key, it shows the
/// values in this terminal and keeps them for 24 hours.
#[derive(Debug, Parser)]
#[command(name = "wasaba", disable_version_flag = true, disable_help_subcommand = true, args_override_self = true)]
pub struct Line {
    /// The command; none runs the agent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The agent's flags.
    #[command(flatten)]
    pub agent: AgentFlags,
}

/// The commands, each with a file of its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and report every problem in it
    Configtest(AgentFlags),
    /// Write the API key into the configuration, unless it has one
    Init {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
        conf: PathBuf,
        /// The API key
        #[arg(long, value_name = "KEY")]
        apikey: Option<String>,
        /// The base URL of Mackerel's API
        #[arg(long, value_name = "URL")]
        apibase: Option<String>,
    },
    /// Collect once and print the host and its metrics as JSON; nothing is posted or stored
    Once(AgentFlags),
    /// Retire this host in Mackerel
    Retire {
        /// The agent's flags, which name the host
        #[command(flatten)]
        agent: AgentFlags,
        /// Retire without asking for confirmation
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
              default_value = "false", hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
        force: bool,
    },
    /// Run in the foreground, the same as without a command
    Run(AgentFlags),
    /// Run the agent as a child process and restart it when it dies
    Supervise(AgentFlags),
    /// Run as the first process of a container, configured by the official image's variables
    Container(AgentFlags),
    /// Check whether the running agent is working; exit code 1 if not
    Health(AgentFlags),
    /// Show the state of the running agent: delivery, queue, losses, plugins, checks
    Status {
        /// The agent's flags, which name the agent by its root
        #[command(flatten)]
        agent: AgentFlags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write one archive for a ticket: the state, the log's last lines, versions, the configuration without values
    Support {
        /// The agent's flags, which name the configuration
        #[command(flatten)]
        agent: AgentFlags,
        /// The file to write, which must not exist [default: wasaba-support-TIME.tar]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Watch the running agent in this terminal: host, containers, plugins, checks, delivery, and every metric over 24 hours
    Top {
        /// The agent's flags, which name the agent by its root
        #[command(flatten)]
        agent: AgentFlags,
        /// Print everything once as text; without a terminal it is printed every minute
        #[arg(long)]
        once: bool,
    },
    /// Show what the queue's file holds, also while the agent runs
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Run and inspect plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print a completion script for bash, zsh or fish
    Completion {
        /// The shell: bash, zsh or fish
        #[arg(hide_possible_values = true)]
        shell: completion::Shell,
    },
    /// Print the version
    Version,
}

/// The commands around the queue. They change nothing.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List the queued minutes with their numbers of points, and what became of all others
    Show(AgentFlags),
    /// Check that the file is whole and every point is accounted for; exit code 1 if not
    Verify(AgentFlags),
    /// Print every queued point as a line of JSON: time, host, name, value
    Export(AgentFlags),
}

/// The commands around plugins, each with a file of its name.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Collect once and print `name<TAB>value<TAB>epoch` lines, like the official plugins; with -v also what the plugin prints
    Run {
        /// The agent's flags, which name the plugin folders
        #[command(flatten)]
        agent: AgentFlags,
        /// Print to standard error what the plugin imports, was granted and refused, and used
        #[arg(long)]
        explain: bool,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
        /// The plugin's settings as flags: -host=web -port 8080
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "-SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Show a plugin's settings, graphs, imports and grants
    Inspect {
        /// The agent's flags, which name the plugin folders
        #[command(flatten)]
        agent: AgentFlags,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
    },
    /// Compile plugins ahead of time into the agent's root, for images and packages
    Compile {
        /// The agent's flags, which name the root and the plugin folders
        #[command(flatten)]
        agent: AgentFlags,
        /// The engine that will run them: pulley or native
        #[arg(long, default_value = "pulley")]
        engine: String,
        /// The plugins' names, or paths of .wasm files
        #[arg(required = true, value_name = "PLUGIN")]
        plugins: Vec<String>,
    },
    /// Show the state of the running agent's plugins: calls, failures, time, memory, refusals
    List {
        /// The agent's flags, which name the agent by its root
        #[command(flatten)]
        agent: AgentFlags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure what one call of a plugin costs: call it many times and print the median
    Time {
        /// The agent's flags, which name the plugin folders
        #[command(flatten)]
        agent: AgentFlags,
        /// The engine that runs it: pulley or native
        #[arg(long, default_value = "pulley")]
        engine: String,
        /// The number of calls
        #[arg(long, default_value_t = 1_000, value_parser = calls)]
        calls: u32,
        /// Measure the whole way as in the agent: from the question to the values
        #[arg(long)]
        whole: bool,
        /// The plugin's name, or the path of a .wasm file
        plugin: String,
        /// The plugin's settings as flags: -host=web -port 8080
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "-SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Create a folder with a new plugin that builds and passes its tests
    New {
        /// The language: rust, python, javascript, typescript, go, c or cpp
        #[arg(long, default_value = "rust", value_name = "LANGUAGE")]
        lang: String,
        /// The plugin's name, the first part of its metric names: lower-case letters, digits and -
        name: String,
    },
    /// Build the plugin in a folder: run its compiler, and make what it compiled a component
    Build {
        /// The folder with the file plugin.toml
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Build, test and run the plugin in a folder now and whenever a file changes, and show what it would post
    Dev {
        /// The folder with the file plugin.toml
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// The plugin's settings as flags, after `--`: -- -host=web -port 8080
        #[arg(last = true, allow_hyphen_values = true, value_name = "-SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Run a plugin's test cases, with canned responses instead of the network
    Test {
        /// The agent's flags, which name the plugin folders
        #[command(flatten)]
        agent: AgentFlags,
        /// The plugin's name, or the path of a .wasm file [default: the only one in this folder]
        plugin: Option<String>,
        /// The file with the test cases
        #[arg(default_value = "tests.toml")]
        cases: PathBuf,
    },
    /// Compile the component on standard input to standard output (the agent's own child process)
    #[command(hide = true)]
    Compiler {
        /// The engine that will run it
        #[arg(long)]
        engine: String,
        /// The limit of CPU time
        #[arg(long)]
        cpu_seconds: u64,
        /// The limit of address space
        #[arg(long)]
        memory_bytes: u64,
        /// The limit of its core instances
        #[arg(long)]
        instances: usize,
        /// The limit of the memory that they start with
        #[arg(long)]
        start_bytes: usize,
        /// The limit of the table elements that they start with
        #[arg(long)]
        table_elements: usize,
        /// Keep the priority, since someone waits for it
        #[arg(long)]
        awaited: bool,
    },
}

/// The official agent's flags. They win over the configuration file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFlags {
    /// The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// The folder of the agent's state
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// The base URL of Mackerel's API
    #[arg(long, value_name = "URL")]
    pub apibase: Option<String>,
    /// The API key; visible to every user of this machine, so prefer the configuration file
    #[arg(long, value_name = "KEY")]
    pub apikey: Option<String>,
    /// The pid file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// The host's roles, as Service:role; repeatable, or separated by commas
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    pub role: Vec<String>,
    /// Also post the agent's own resource usage
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub diagnostic: Option<bool>,
    /// Also log at debug level
    #[arg(long, short = 'v', alias = "v", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = boolean)]
    pub verbose: Option<bool>,
    /// Stop when the program's file is replaced or deleted
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub private_autoshutdown: bool,
    /// Run below `supervise`, which holds the pid file
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub child: bool,
    /// Run as the child of a command that only looks
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub look: bool,
}

/// How often a plugin is called.
fn calls(text: &str) -> Result<u32, String> {
    let calls = text.parse().ok().filter(|calls| *calls > 0);
    calls.ok_or_else(|| format!("must be a whole number from 1 to {}", u32::MAX))
}

impl Line {
    /// The flags of `wasaba plugin COMMAND`.
    #[must_use]
    pub fn flags_of_plugin_command(command: &str) -> Vec<String> {
        let line = Self::command();
        let command = line.find_subcommand("plugin").and_then(|plugin| plugin.find_subcommand(command));
        let flags = command.into_iter().flat_map(clap::Command::get_arguments);
        flags.filter_map(|flag| flag.get_long().map(str::to_owned)).collect()
    }
}

/// The values that Go's flags take for `true` and `false`.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Line::command().debug_assert();
    }
}
