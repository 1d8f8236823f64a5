//! The configuration: `mackerel-agent.conf`, as the official agent reads it, with our keys beside the official ones.
//!
//! [`document`] reads the TOML, with lines and columns; the other modules interpret it. All problems are reported at once, and none
//! of them shows a value, which may be the API key.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod check;
mod docker;
pub mod document;
#[cfg(test)]
mod documented;
mod draft;
pub mod environment;
#[cfg(test)]
mod golden;
pub mod metrics;
pub mod plugin;
pub mod raw;
#[cfg(test)]
mod reported;
#[cfg(test)]
mod secrecy;
pub mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod typos;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use containers::Docker;
use document::{Level, Problem};
use draft::{Draft, NO_FILES, Skipped};
use machine::host::cloud::CloudPlatform;
use machine::metrics::selection::Selection;
use machine::roots::Roots;
use official::programs::MetricsProgram;
use url::Url;
use wasaba_core::secret::Secret;

use crate::check::{Check, Metadata};
use crate::metrics::{Metrics, MetricsPlugin, StandIn};
use crate::table::PluginTable;

pub use crate::draft::{api_base, api_key, invalid_role, is_role};

/// The configuration file of the official agent and of this one.
pub const DEFAULT_FILE: &str = "/etc/mackerel-agent/mackerel-agent.conf";

/// Every key with its default and its meaning: a template and a reference, tested against the code.
pub const DEFAULT_TEXT: &str = include_str!("default.conf");

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key for Mackerel's API; without it, values stay on this machine.
    pub api_key: Option<Secret>,
    /// The address of the API. Only its scheme, user, host and port are used.
    pub api_base: Url,
    /// The folder of the agent's own files: host id, queue, compiled plugins.
    pub root: PathBuf,
    /// The file for the process id.
    pub pidfile: PathBuf,
    /// Valid roles: `Service:role`.
    pub roles: Vec<String>,
    /// The host's name on Mackerel, if it is not the machine's.
    pub display_name: Option<String>,
    /// The status to set on Mackerel at the start: `working`, `standby`, `maintenance` or `poweroff`.
    pub status_on_start: Option<String>,
    /// The status to set on Mackerel at the stop.
    pub status_on_stop: Option<String>,
    /// The least severe level that is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// A folder of plugins in addition to `<root>/plugins`.
    pub plugins: Option<PathBuf>,
    /// Whether the plugins' resource usage is posted.
    pub self_metrics: bool,
    /// The folders that the machine's metrics are read from.
    pub machine: Roots,
    /// The file systems, disks and interfaces that have metrics, and how file systems are named.
    pub selection: Selection,
    /// Whether the agent's own resource usage is posted.
    pub diagnostic: bool,
    /// Whether the agent gives up what this configuration does not need.
    pub confinement: bool,
    /// The connections to Mackerel.
    pub network: Network,
    /// The cloud whose metadata service identifies this machine.
    pub cloud_platform: CloudPlatform,
    /// The metrics plugins; their names are unique.
    pub metrics: Vec<MetricsPlugin>,
    /// The engine of `[docker]`, whose containers have metrics.
    pub docker: Option<Docker>,
    /// The checks.
    pub checks: Vec<Check>,
    /// The metadata plugins.
    pub metadata: Vec<Metadata>,
    /// Where keys are written whose values are looked at later.
    pub places: Places,
}

/// The file and line of `root`, `pidfile`, `host_root` and `[docker]`, as far as a file has them.
#[derive(Clone, Debug, Default)]
pub struct Places(pub(crate) BTreeMap<&'static str, String>);

impl Places {
    /// A problem with the value of `key`, where that is written.
    #[must_use]
    pub fn problem(&self, key: &str, level: Level, text: String) -> Problem {
        Problem::at(self.0.get(key).cloned().unwrap_or_default(), level, text)
    }

    /// The value of `key` is another one than that in a file.
    pub fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// The connections to Mackerel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The proxy for `http://`; without it, that of the environment.
    pub http_proxy: Option<Secret>,
    /// The proxy for `https://`; without it, that of the environment.
    pub https_proxy: Option<Secret>,
    /// Whether each request opens a new connection.
    pub no_keep_alive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: None,
            #[expect(clippy::expect_used, reason = "a constant, which the test of the defaults parses")]
            api_base: Url::parse("https://api.mackerelio.com").expect("a URL"),
            root: "/var/lib/mackerel-agent".into(),
            pidfile: "/var/run/mackerel-agent.pid".into(),
            roles: Vec::new(),
            display_name: None,
            status_on_start: None,
            status_on_stop: None,
            log_level: tracing::level_filters::LevelFilter::INFO,
            plugins: None,
            self_metrics: false,
            machine: Roots::default(),
            selection: Selection::default(),
            diagnostic: false,
            confinement: true,
            network: Network::default(),
            cloud_platform: CloudPlatform::default(),
            metrics: Vec::new(),
            docker: None,
            checks: Vec::new(),
            metadata: Vec::new(),
            places: Places::default(),
        }
    }
}

impl Config {
    /// The metrics plugins that are components, including those that stand in for an official program.
    pub fn components(&self) -> impl Iterator<Item = &PluginTable> {
        self.metrics.iter().filter_map(|plugin| match &plugin.runs {
            Metrics::Component(table) => Some(&**table),
            Metrics::Official(line) => match &line.stand_in {
                StandIn::Component(table) => Some(&**table),
                StandIn::Docker(_) => None,
            },
            Metrics::Program(_) => None,
        })
    }

    /// The metrics plugins that are programs, except official command lines, which a component or `[docker]` can replace.
    pub fn programs(&self) -> impl Iterator<Item = &MetricsProgram> {
        self.metrics.iter().filter_map(|plugin| match &plugin.runs {
            Metrics::Program(program) => Some(&**program),
            Metrics::Component(_) | Metrics::Official(_) => None,
        })
    }

    /// The engines that may be queried: that of `[docker]`, and those of official command lines.
    pub fn engines(&self) -> impl Iterator<Item = &Docker> {
        let stand_ins = self.metrics.iter().filter_map(|plugin| match &plugin.runs {
            Metrics::Official(line) => match &line.stand_in {
                StandIn::Docker(docker) => docker.as_deref().ok(),
                StandIn::Component(_) => None,
            },
            Metrics::Component(_) | Metrics::Program(_) => None,
        });
        self.docker.iter().chain(stand_ins)
    }

    /// Whether the connection to Mackerel and the host's identity and status are the same as those of `other`.
    #[must_use]
    pub fn reaches_mackerel_like(&self, other: &Self) -> bool {
        let connection = |config: &Self| {
            let Self { api_key, api_base, network, cloud_platform, status_on_start, status_on_stop, .. } = config;
            let status = (status_on_start.clone(), status_on_stop.clone());
            (api_key.clone(), api_base.clone(), network.clone(), *cloud_platform, status)
        };
        connection(self) == connection(other)
    }
}

/// What was read of the files, whatever is wrong with it.
pub struct Loaded {
    /// The configuration, also with what is invalid as far as it could be read.
    pub config: Config,
    /// What is wrong with it, in the order of the files.
    pub problems: Vec<Problem>,
    /// Whether each file could be read, and has a valid `apikey` or none; if not, a missing key may not be missing.
    pub knows_key: bool,
    /// Whether the file that was named could be read, valid or not, and in each file the root, where it is set; if not, the root may be
    /// another than the configuration's.
    pub knows_root: bool,
    skipped: Skipped,
}

impl Loaded {
    /// The configuration without the tables that are invalid, and the problems, for the log.
    ///
    /// # Errors
    /// All problems, including warnings, if at least one is an error outside of the tables of plugins.
    pub fn usable(self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let Self { mut config, problems, skipped, .. } = self;
        if problems.iter().any(Problem::is_error) {
            return Err(problems);
        }
        skipped.remove_from(&mut config);
        Ok((config, problems))
    }
}

/// Reads `file` and the files that it includes. With the configuration come the problems, for the log.
///
/// # Errors
/// As [`Loaded::usable`].
pub fn load(file: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    load_with(Some(file), None).usable()
}

/// Reads `file` and the files that it includes, with an optional file, and with another pattern of files to include, that of the
/// variable `include`.
#[must_use]
pub fn load_with(file: Option<&Path>, include: Option<&str>) -> Loaded {
    let mut draft = Draft::default();
    let mut problems = Vec::new();
    match file.map(|file| (file, document::read_file(file))) {
        Some((file, Ok(text))) => problems = draft.read(file, &text, false),
        Some((file, Err(error))) => {
            (draft.knows_key, draft.knows_root) = (false, false);
            problems.push(match error.kind() {
                std::io::ErrorKind::NotFound => Problem::of_missing_file(file),
                _ => Problem::of_file(file, &error),
            });
        }
        None => {}
    }
    match include.map(official::glob::files) {
        Some(Ok(files)) => {
            if files.is_empty() {
                problems.push(Problem::of_flag(Level::Note, format!("the variable {NO_FILES}")));
            }
            draft.included.extend(files);
        }
        Some(Err(why)) => problems.push(Problem::of_flag(Level::Error, format!("the variable `include` {why}"))),
        None => {}
    }
    draft.read_included(problems)
}

/// Parses `text` and reads the files that it includes; messages name `file`.
///
/// # Errors
/// As [`Loaded::usable`].
pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut draft = Draft::default();
    let problems = draft.read(file, text, false);
    draft.read_included(problems).usable()
}
