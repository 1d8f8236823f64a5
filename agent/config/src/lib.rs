//! The configuration: `mackerel-agent.conf`, as the official agent reads it, with our keys beside the official ones.
//!
//! [`document`] reads what was written, with its line and column; this module says what is meant. Every problem in the file is
//! told at once, and none of them shows a value, which may be the API key.

pub mod check;
mod docker;
pub mod document;
#[cfg(test)]
mod documented;
pub mod environment;
pub mod metrics;
pub mod plugin;
pub mod raw;
mod shown;
pub mod table;

use std::path::{Path, PathBuf};

use containers::Docker;
use document::{Kind, Problem, Reader, Section};
use machine::host::cloud::CloudPlatform;
use machine::metrics::selection::Selection;
use machine::roots::Roots;
use programs::MetricsProgram;
use url::Url;
use wasaba_core::secret::Secret;

use crate::check::{Check, Metadata};
use crate::metrics::{Metrics, MetricsPlugin, StandIn};
use crate::table::PluginTable;

/// Where the official agent has its configuration, and so have we.
pub const DEFAULT_FILE: &str = "/etc/mackerel-agent/mackerel-agent.conf";

/// Every key with its default and its meaning: template, reference, and tested against the code.
pub const DEFAULT_TEXT: &str = include_str!("default.conf");

/// What the agent is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key for Mackerel's API; without one the agent stays local.
    pub api_key: Option<Secret>,
    /// Where the API is. Only scheme, user, host and port count.
    pub api_base: Url,
    /// The folder of the agent's own files: host id, queue, compiled plugins.
    pub root: PathBuf,
    /// The file for the process id.
    pub pidfile: PathBuf,
    /// `Service:role`, each checked.
    pub roles: Vec<String>,
    /// The host's name on Mackerel, if not its own.
    pub display_name: Option<String>,
    /// The host's status on Mackerel from the start on, if it shall be set: `working`, `standby`, `maintenance`, `poweroff`.
    pub status_on_start: Option<String>,
    /// The host's status on Mackerel when the agent has stopped, if it shall be set.
    pub status_on_stop: Option<String>,
    /// How much is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// A folder of plugins beside `<root>/plugins`.
    pub plugins: Option<PathBuf>,
    /// Whether what plugins cost is posted too.
    pub self_metrics: bool,
    /// Where the machine is read from.
    pub machine: Roots,
    /// Which file systems, disks and interfaces have metrics, and under which names.
    pub selection: Selection,
    /// Whether what the agent itself takes is posted too.
    pub diagnostic: bool,
    /// How Mackerel is reached.
    pub network: Network,
    /// Which cloud's metadata is asked who this machine is.
    pub cloud_platform: CloudPlatform,
    /// The metrics plugins, each name once.
    pub metrics: Vec<MetricsPlugin>,
    /// The engine of `[docker]`, whose containers are measured.
    pub docker: Option<Docker>,
    /// The checks.
    pub checks: Vec<Check>,
    /// The metadata plugins.
    pub metadata: Vec<Metadata>,
}

/// How Mackerel is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The proxy for `http://`, if it is not the environment's.
    pub http_proxy: Option<Secret>,
    /// The proxy for `https://`, if it is not the environment's.
    pub https_proxy: Option<Secret>,
    /// Whether each request has a connection of its own.
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
            network: Network::default(),
            cloud_platform: CloudPlatform::default(),
            metrics: Vec::new(),
            docker: None,
            checks: Vec::new(),
            metadata: Vec::new(),
        }
    }
}

impl Config {
    /// The metrics plugins that are components, those that stand in for an official program included.
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

    /// The metrics plugins that are programs, whatever the machine has installed; without official command lines.
    pub fn programs(&self) -> impl Iterator<Item = &MetricsProgram> {
        self.metrics.iter().filter_map(|plugin| match &plugin.runs {
            Metrics::Program(program) => Some(&**program),
            Metrics::Component(_) | Metrics::Official(_) => None,
        })
    }

    /// The engines that may be asked: that of `[docker]`, and those that stand in for the official plugin.
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

    /// Whether this configuration reaches Mackerel in the same way, as the same host, as another one.
    #[must_use]
    pub fn reaches_mackerel_like(&self, other: &Self) -> bool {
        let way = |config: &Self| {
            let Self { api_key, api_base, network, cloud_platform, status_on_start, status_on_stop, .. } = config;
            let status = (status_on_start.clone(), status_on_stop.clone());
            (api_key.clone(), api_base.clone(), network.clone(), *cloud_platform, status)
        };
        way(self) == way(other)
    }
}

/// Reads `file`, and what it includes. The warnings are for the log; with an error among the problems there is no configuration.
///
/// # Errors
/// All problems, warnings included, in the files' order.
pub fn load(file: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    load_with(Some(file), None)
}

/// As [`load`], for who may have no file, and an `include` that stands elsewhere.
///
/// # Errors
/// As [`load`].
pub fn load_with(file: Option<&Path>, include: Option<&str>) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut draft = Draft::default();
    let mut problems = Vec::new();
    if let Some(file) = file {
        let text = document::read_file(file).map_err(|error| vec![Problem::of_file(file, &error)])?;
        problems = draft.read(file, &text, false);
    }
    match include.map(official::glob::files) {
        Some(Ok(files)) => draft.included.extend(files),
        Some(Err(why)) => {
            problems.push(Problem::of_flag(document::Level::Error, format!("the variable `include` {why}")))
        }
        None => {}
    }
    draft.read_included(problems)
}

/// The configuration in `text`, and in what it includes; `file` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut draft = Draft::default();
    let problems = draft.read(file, text, false);
    draft.read_included(problems)
}

/// A configuration as far as it was read. What comes later is put over what is there.
#[derive(Default)]
struct Draft {
    config: Config,
    verbose: bool,
    silent: bool,
    http_proxy: String,
    https_proxy: String,
    included: Vec<PathBuf>,
}

/// Puts a value that is there in place of the one that was.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl Draft {
    /// Reads the files that are to be included, and says what came of it all; `problems` are those until now.
    fn read_included(mut self, mut problems: Vec<Problem>) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        for file in std::mem::take(&mut self.included) {
            match document::read_file(&file) {
                Ok(text) => problems.extend(self.read(&file, &text, true)),
                Err(error) => problems.push(Problem::of_file(&file, &error)),
            }
        }
        problems.extend(docker::same_graphs(&self.config));
        if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((self.finish(), problems)) }
    }

    fn read(&mut self, file: &Path, text: &str, is_included: bool) -> Vec<Problem> {
        let mut reader = Reader::new(file, text);
        if let Some(mut top) = reader.document() {
            self.take(&mut reader, &mut top, is_included);
            // The official agent reads it and puts the flag's value in its place.
            reader.pass_over(&mut top, &[("conffile", Kind::Text)]);
            reader.finish(top);
        }
        reader.into_problems()
    }

    fn take(&mut self, reader: &mut Reader<'_>, top: &mut Section<'_>, is_included: bool) {
        let config = &mut self.config;
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(key) = reader.secret(top, "apikey") {
            config.api_key = Some(key);
        }
        put(&mut config.api_base, reader.parsed(top, "apibase", api_base));
        put(&mut config.root, non_empty(reader.text(top, "root")).map(PathBuf::from));
        put(&mut config.pidfile, non_empty(reader.text(top, "pidfile")).map(PathBuf::from));
        put(&mut config.roles, roles(reader, top));
        put(&mut config.display_name, reader.text(top, "display_name").map(|name| non_empty(Some(name))));
        host_status(reader, top, config);
        put(&mut self.verbose, reader.boolean(top, "verbose"));
        put(&mut self.silent, reader.boolean(top, "silent"));
        plugins_folder(reader, top, config);
        put(&mut config.self_metrics, reader.boolean(top, "self_metrics"));
        put(&mut config.diagnostic, reader.boolean(top, "diagnostic"));
        put(&mut config.network.no_keep_alive, reader.boolean(top, "disable_http_keep_alive"));
        put(&mut self.http_proxy, reader.parsed(top, "http_proxy", proxy));
        put(&mut self.https_proxy, reader.parsed(top, "https_proxy", proxy));
        put(&mut config.cloud_platform, reader.parsed(top, "cloud_platform", CloudPlatform::named));
        if let Some(root) = non_empty(reader.text(top, "host_root")) {
            config.machine = Roots { metadata: config.machine.metadata.take(), ..Roots::of_host(Path::new(&root)) };
        }
        machine(reader, top, &mut config.machine);
        selection(reader, top, &mut config.selection);
        // Within an included file it is passed over.
        let included =
            reader.parsed(
                top,
                "include",
                |pattern| if is_included { Ok(Vec::new()) } else { official::glob::files(pattern) },
            );
        self.included.extend(included.unwrap_or_default());
        docker::take(reader, top, config);
        plugin::take(reader, top, config);
    }

    fn finish(self) -> Config {
        use tracing::level_filters::LevelFilter;
        let Self { mut config, verbose, silent, http_proxy, https_proxy, .. } = self;
        // `verbose` wins over `silent`, as with the official agent.
        config.log_level = match (verbose, silent) {
            (true, _) => LevelFilter::DEBUG,
            (false, true) => LevelFilter::ERROR,
            (false, false) => LevelFilter::INFO,
        };
        let usable = |proxy: &str| (!proxy.is_empty() && proxy != "direct").then(|| Secret::new(proxy));
        config.network.http_proxy = usable(&http_proxy);
        config.network.https_proxy = if https_proxy.is_empty() { usable(&http_proxy) } else { usable(&https_proxy) };
        let Network { http_proxy, https_proxy, .. } = &config.network;
        let proxies = [("HTTP_PROXY", http_proxy), ("HTTPS_PROXY", https_proxy)].into_iter();
        let proxies = proxies.filter_map(|(name, proxy)| Some((name.to_owned(), proxy.as_ref()?.reveal().to_owned())));
        let proxies = proxies.collect::<Vec<_>>();
        for program in plugin::programs(&mut config) {
            // In front: what the table says of them wins.
            program.environment.splice(0..0, proxies.iter().cloned());
        }
        config
    }
}

/// A table of this name is a typo, which the official agent passes over.
fn plugins_folder(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    if !reader.is_table(top, "plugins") {
        put(&mut config.plugins, reader.text(top, "plugins").map(|folder| Some(folder.into())));
    } else if let Some(place) = reader.skip(top, "plugins") {
        reader.warn(place, "unknown table `plugins`, did you mean `plugin`?".to_owned());
    }
}

/// The address of a proxy, or `direct`. It may hold a password, so it is not in the error.
fn proxy(text: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&url) {
        _ if text.is_empty() || text == "direct" => Ok(text.to_owned()),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        _ => Err("must be the address of an HTTP proxy, like \"http://proxy:8080\", or \"direct\"".to_owned()),
    }
}

/// An API base, for the file and for `-apibase`.
///
/// # Errors
/// Why it is none.
pub fn api_base(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("is no URL ({error}); write it like https://api.mackerelio.com"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("must begin with https:// or http://".into()) }
}

/// A role that Mackerel would refuse is left out, as with the official agent, which does not stop for it either.
fn roles(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Option<Vec<String>> {
    let mut roles = Vec::new();
    if !top.has("roles") {
        return None;
    }
    for (role, place) in reader.texts(top, "roles") {
        if is_role(&role) {
            roles.push(role);
        } else {
            reader.warn(
                place,
                "this role is left out: it must look like `Service:role`, letters, digits, - and _".into(),
            );
        }
    }
    Some(roles)
}

/// Whether `text` is a service's name, a colon and a role's name.
#[must_use]
pub fn is_role(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.split_once(':').is_some_and(|(service, role)| is_name(service) && is_name(role.trim_start()))
}

/// The official agent passes any word on; Mackerel would refuse it, and the agent would not start.
fn host_status(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    const VALID: &[&str] = &["working", "standby", "maintenance", "poweroff"];
    let Some(mut section) = reader.section(top, "host_status") else { return };
    for (key, status) in [("on_start", &mut config.status_on_start), ("on_stop", &mut config.status_on_stop)] {
        let read = reader.parsed(&mut section, key, |text| match text {
            "" => Ok(None),
            text if VALID.contains(&text) => Ok(Some(text.to_owned())),
            _ => Err(format!("must be one of {}", VALID.join(", "))),
        });
        put(status, read);
    }
    reader.finish(section);
}

fn machine(reader: &mut Reader<'_>, top: &mut Section<'_>, roots: &mut Roots) {
    let Some(mut section) = reader.section(top, "machine") else { return };
    for (key, root) in [("proc", &mut roots.proc), ("sys", &mut roots.sys), ("etc", &mut roots.etc)] {
        put(root, reader.text(&mut section, key).map(PathBuf::from));
    }
    let base = |text: &str| api_base(text).map(|_| Some(text.trim_end_matches('/').to_owned()));
    put(&mut roots.metadata, reader.parsed(&mut section, "metadata", base));
    reader.finish(section);
}

fn selection(reader: &mut Reader<'_>, top: &mut Section<'_>, selection: &mut Selection) {
    let Selection { filesystems, disks, interfaces, use_mountpoint } = selection;
    for (family, ignore, passed_over) in [
        ("filesystems", filesystems, &[] as &[(&str, Kind)]),
        ("disks", disks, &[]),
        // A matter of Windows.
        ("interfaces", interfaces, &[("use_adapter", Kind::Boolean)]),
    ] {
        let Some(mut section) = reader.section(top, family) else { continue };
        put(ignore, reader.parsed(&mut section, "ignore", plugin::pattern));
        if family == "filesystems" {
            put(use_mountpoint, reader.boolean(&mut section, "use_mountpoint"));
        }
        reader.pass_over(&mut section, passed_over);
        reader.finish(section);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Runner;

    fn parsed(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        parse(Path::new("agent.conf"), text)
    }

    fn shown(problems: &[Problem]) -> String {
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    /// The text with each commented key switched on.
    fn switched_on() -> String {
        let lines = DEFAULT_TEXT.lines();
        lines
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_default_file_says_what_the_defaults_are() {
        let (config, problems) = parsed(&switched_on()).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        assert_eq!(shown(&problems), "");
        let examples = Config {
            api_key: config.api_key.clone(),
            roles: config.roles.clone(),
            display_name: config.display_name.clone(),
            status_on_start: config.status_on_start.clone(),
            status_on_stop: config.status_on_stop.clone(),
            plugins: config.plugins.clone(),
            metrics: config.metrics.clone(),
            docker: config.docker.clone(),
            checks: config.checks.clone(),
            metadata: config.metadata.clone(),
            selection: config.selection.clone(),
            network: config.network.clone(),
            machine: Roots { host: config.machine.host.clone(), ..Roots::default() },
            ..Config::default()
        };
        assert_eq!(format!("{config:?}"), format!("{examples:?}"), "all other keys stand there with their default");
        let [table] = &config.components().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
        assert_eq!(*table.limits, wasaba_core::limits::Limits::default());
        let text = switched_on();
        for key in wasaba_core::limits::KEYS {
            assert!(text.contains(&format!("\n{} = ", key.name)), "the limit {} is missing", key.name);
        }
        let (empty, problems) = parsed(DEFAULT_TEXT).unwrap();
        assert_eq!((format!("{empty:?}"), problems.len()), (format!("{:?}", Config::default()), 0));
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_place_and_no_secret() {
        let text = "apikye = \"hunter2\"\nverbose = \"yes\"\nroles = [\"a b\", 5]\n[filesystems]\nignore = \"x\"\n\
                    [plugin.metrics.web]\nwsam = \"nginx\"\n";
        let problems = shown(&parsed(text).unwrap_err());
        assert_golden(&problems);
        assert!(!problems.contains("hunter2"));
    }

    /// The whole text, as a user sees it.
    fn assert_golden(problems: &str) {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden/every_problem.txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(golden, problems).unwrap();
        }
        assert_eq!(problems, std::fs::read_to_string(golden).unwrap(), "record it anew with UPDATE=1");
    }

    #[test]
    fn a_broken_line_shows_its_place_and_no_secret() {
        for broken in [
            "apikey = \"hunter2\n",
            "apikey \"hunter2\"\n",
            "apikey: \"hunter2\"\n",
            "apikey = \"\"\"\nhunter2\\q\"\"\"\n",
            "hunter2\n",
            "roles = [\n5, \"hunter2\"]\n",
        ] {
            let problems = shown(&parsed(&format!("root = \"/x\"\n{broken}")).unwrap_err());
            assert!(problems.starts_with("agent.conf:"), "{problems}");
            assert!(!problems.contains("hunter2"), "{broken}: {problems}");
        }
    }

    #[test]
    fn no_slip_of_the_keyboard_shows_a_part_of_a_secret() {
        let text = "apikey = \"qzqzqzqzqzqz\" # qzqzqz\nhttp_proxy = 'http://me:qzqz@proxy'\nroles = [\n  \"qz\", # qz\n  5,\n]\n\
                    [plugin.metrics.\"a b\"]\ncommand = \"PASSWORD=qzqz x -p \\\"qzqz\\\"\"\nuser = 5\n\
                    env = { A = \"qzqzqz\", \"B\" = 'qz', C = { env = \"NONE\" } }\n[plugin.metrics.m]\nwasm = \"nginx\"\n\
                    settings = { password = \"qz=qz\", key = \"\"\"\nqzqz\n  qz = qz\n\"\"\", pin = 1234321 }\n\
                    [plugin.checks.c]\ncommand = [\"x\", \"qzqzqz\", 5]\nmemo = '''qz\nqz=1'''\nmax_check_attempts = 11\n";
        let mut seen = 0;
        let mut look_at = |text: &str| {
            let problems = match parsed(text) {
                Ok((_, problems)) | Err(problems) => shown(&problems),
            };
            // The pin is hidden wherever it still is a value.
            assert!(!problems.contains("qz") && !problems.contains("1234321"), "{text}\n{problems}");
            seen += problems.matches('^').count();
        };
        look_at(text);
        for (at, char) in text.char_indices() {
            look_at(&format!("{}{}", &text[..at], &text[at + char.len_utf8()..]));
            for slip in ["\"", "'", "=", "[", "]", "{", "}", "#", "\n", "\\", ",", " ", "x"] {
                look_at(&format!("{}{slip}{}", &text[..at], &text[at..]));
            }
        }
        assert!(seen > 10_000, "{seen}");
    }

    #[test]
    fn a_file_that_is_no_regular_one_is_refused_instead_of_waited_for() {
        let problems = shown(&load(Path::new("/dev/zero")).unwrap_err());
        assert_eq!(problems, "cannot read `/dev/zero`: not a regular file\n");
    }

    #[test]
    fn a_file_in_another_encoding_is_told_with_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"# good\ndisplay_name = \"\xe9t\xe9\"\n").unwrap();
        let problems = shown(&load(file.path()).unwrap_err());
        assert!(problems.ends_with("line 2 is no text in UTF-8; save the file in that encoding\n"), "{problems}");
    }

    #[test]
    fn keys_match_in_any_case_as_with_the_official_agent() {
        let (config, problems) = parsed("ApiKey = \"x\"\nDisplay_Name = \"web\"\n").unwrap();
        assert_eq!((config.display_name.as_deref(), problems.len()), (Some("web"), 0));
        assert_eq!(config.api_key, Some(Secret::new("x")));
    }

    #[test]
    fn the_key_may_lie_in_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("key");
        std::fs::write(&file, "hunter2\n").unwrap();
        let (config, _) = parsed(&format!("apikey = {{ file = {file:?} }}")).unwrap();
        assert_eq!(config.api_key, Some(Secret::new("hunter2")));
        let problems = shown(&parsed("apikey = { file = \"/no/such/file\" }").unwrap_err());
        assert!(problems.contains("/no/such/file"), "{problems}");
        let problems = shown(&parsed("apikey = { env = \"WASABA_TEST_IS_NOT_SET\" }").unwrap_err());
        assert!(problems.contains("WASABA_TEST_IS_NOT_SET"), "{problems}");
    }

    #[test]
    fn a_role_needs_a_service() {
        for (role, good) in [("Svc:role", true), ("Svc: spaced", true), ("role", false), (":x", false), ("a:", false)] {
            assert_eq!(is_role(role), good, "{role}");
        }
    }

    #[test]
    fn a_longer_timeout_than_a_minute_allows_is_cut_and_told() {
        let (config, problems) = parsed("[plugin.metrics.web]\nwasm = \"nginx\"\ntimeout_seconds = 120\n").unwrap();
        assert_eq!(config.components().next().unwrap().limits.time, std::time::Duration::from_secs(50));
        assert!(
            shown(&problems).contains(":3:19:") && shown(&problems).contains("`timeout_seconds`"),
            "{}",
            shown(&problems)
        );
    }

    #[test]
    fn a_reference_to_a_secret_is_followed_and_a_wrong_one_told_without_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let table = |reference: &str| {
            format!("[plugin.metrics.db]\nwasm = \"postgres\"\nsettings = {{ password = {reference} }}\n")
        };
        let (config, _) = parsed(&table(&format!("{{ file = {:?} }}", file.path()))).unwrap();
        let written = &config.components().next().unwrap().raw;
        assert_eq!(written.settings, [("password".to_owned(), "hunter2".to_owned())]);
        assert_eq!(written.references, ["password"]);
        for wrong in ["{ fiel = \"/x\" }", "{ file = \"/no/such\" }", "{ env = \"WASABA_NO_SUCH\" }", "{}"] {
            let problems = parsed(&table(wrong)).unwrap_err();
            assert!(shown(&problems).contains(":3:"), "{wrong}: {}", shown(&problems));
        }
    }

    /// `golden/broken.txt` holds configurations and what is said of each: a configuration, a line of dashes, what is said, an
    /// empty line. UPDATE=1 writes it anew.
    #[test]
    fn each_broken_configuration_has_its_message() {
        const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden/broken.txt");
        let golden = std::fs::read_to_string(GOLDEN).unwrap();
        let mut now = String::new();
        let mut count = 0;
        for piece in golden.split_inclusive("----\n").filter_map(|piece| piece.strip_suffix("----\n")) {
            // Before the configuration stands what was said of the one before, up to an empty line.
            let text = piece.rsplit_once("\n\n").map_or(piece, |(_, text)| text);
            let said = match parsed(text) {
                Ok((_, problems)) => problems,
                Err(problems) => problems,
            };
            assert!(!said.is_empty(), "nothing is said of\n{text}");
            let said = shown(&said);
            assert!(!said.contains("hunter2"), "{said}");
            now.push_str(&format!("{text}----\n{said}\n"));
            count += 1;
        }
        assert!(count >= 60, "{count}");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(GOLDEN, &now).unwrap();
        }
        let golden = std::fs::read_to_string(GOLDEN).unwrap();
        for (now, golden) in now.split("\n\n").zip(golden.split("\n\n")) {
            assert_eq!(now, golden, "record it anew with UPDATE=1 and look at the difference");
        }
        assert_eq!(now.len(), golden.len());
    }

    /// The keys of a line, with where they stand in it: those in front of a `=`, within `{}` too, or those of a table's header that
    /// have a meaning. What stands within `env` and `settings` is the user's.
    fn keys_in(line: &str) -> Vec<std::ops::Range<usize>> {
        let whole = |key: &str| {
            let start = key.as_ptr() as usize - line.as_ptr() as usize;
            start..start + key.len()
        };
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // The third is the plugin's own name.
            let parts = header.split('.').enumerate().filter(|(index, _)| *index != 2);
            return parts.map(|(_, part)| whole(part)).collect();
        }
        let code = line.split(" # ").next().unwrap_or_default();
        let is_free = ["env = {", "settings = {"].iter().any(|table| code.starts_with(table));
        let fronts = code.match_indices(" = ").map(|(at, _)| &code[..at]).take(if is_free { 1 } else { usize::MAX });
        let fronts = fronts.filter(|front| front.matches('"').count() % 2 == 0);
        fronts.filter_map(|front| front.rsplit([' ', '{', ',']).next()).map(whole).collect()
    }

    fn typos(key: &str) -> Vec<String> {
        let characters = key.chars().collect::<Vec<_>>();
        let mut typos = Vec::new();
        let mut with = |change: &dyn Fn(&mut Vec<char>)| {
            let mut changed = characters.clone();
            change(&mut changed);
            typos.push(changed.into_iter().collect::<String>());
        };
        for other in ['x', '_', '1', 's'] {
            with(&|text| text.push(other));
        }
        for at in 0..characters.len() {
            with(&|text| {
                text.remove(at);
            });
            for other in ['x', '_', '1'] {
                with(&|text| text.insert(at, other));
                with(&|text| text[at] = other);
            }
            if at + 1 < characters.len() {
                with(&|text| text.swap(at, at + 1));
            }
        }
        typos.retain(|typo| typo != key && !typo.is_empty());
        typos
    }

    /// The table around a line, with the lines of its own and those of the top, so that little is read for each typing error.
    fn around(lines: &[&str], number: usize) -> std::ops::Range<usize> {
        let is_header = |line: &&str| line.starts_with('[');
        let start = lines[..=number].iter().rposition(is_header).unwrap_or(0);
        let end = lines[number + 1..].iter().position(is_header).map_or(lines.len(), |more| number + 1 + more);
        start..end
    }

    #[test]
    fn every_typo_in_a_key_of_the_sample_is_reported_at_its_place() {
        let text = switched_on();
        let lines = text.lines().collect::<Vec<_>>();
        let (mut count, mut inline) = (0, 0);
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let around = around(&lines, number);
            for (index, range) in keys_in(line).into_iter().enumerate() {
                inline += usize::from(index > 0 && !line.starts_with('['));
                // `plugin` is a key, too: that there are two is told where the second is.
                for typo in typos(&line[range.clone()]).into_iter().filter(|typo| typo != "plugin") {
                    let mut broken = (*line).to_owned();
                    broken.replace_range(range.clone(), &typo);
                    let lines = around.clone().map(|at| if at == number { broken.as_str() } else { lines[at] });
                    let whole = lines.map(|line| format!("{line}\n")).collect::<String>();
                    let problems = match parsed(&whole) {
                        Ok((_, problems)) | Err(problems) => shown(&problems),
                    };
                    let place = format!("agent.conf:{}:{}: ", number - around.start + 1, range.start + 1);
                    assert!(problems.contains(&place), "`{broken}` is not told at {place}\n{problems}");
                    count += 1;
                }
            }
        }
        assert!(count > 4_000 && inline >= 4, "{count} {inline}");
    }

    #[test]
    fn what_is_included_wins_and_a_plugins_table_replaces_the_whole_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file(
            "b.conf",
            "roles = [\"B:b\"]\ninclude = \"/nowhere/[\"\n[filesystems]\nignore = \"loop\"\n[plugin.metrics.two]\ncommand = \"new\"\n",
        );
        file("a.conf", "display_name = \"a\"\nroles = [\"A:a\"]\n");
        file("c.other", "no TOML");
        let text = format!(
            "include = \"{}/*.conf\"\nroles = [\"Main:main\"]\ndisplay_name = \"main\"\n[filesystems]\nuse_mountpoint = true\n\
             [plugin.metrics.one]\ncommand = \"one\"\n[plugin.metrics.two]\ncommand = \"old\"\nenv = {{ A = \"b\" }}\n",
            folder.path().display()
        );
        let (config, problems) = parsed(&text).unwrap();
        assert_eq!(shown(&problems), "");
        assert_eq!((&config.roles, config.display_name.as_deref()), (&vec!["B:b".to_owned()], Some("a")));
        assert!(config.selection.use_mountpoint && config.selection.filesystems.is_some());
        let programs = config.programs().map(|program| (&*program.name, program.program.environment.len()));
        assert_eq!(programs.collect::<Vec<_>>(), [("one", 0), ("two", 0)]);
        file("d.conf", "verbose = 1\n");
        let problems = shown(&parsed(&text).unwrap_err());
        assert!(problems.contains("d.conf:1:11: error: `verbose`"), "{problems}");
    }

    #[test]
    fn a_component_takes_the_place_of_a_program_of_its_name_and_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "include = \"{}/*\"\n[plugin.metrics.a]\ncommand = \"x\"\n[plugin.metrics.b]\nwasm = \"x\"\n",
            folder.path().display()
        );
        std::fs::write(
            folder.path().join("i"),
            "[plugin.metrics.a]\nwasm = \"x\"\n[plugin.metrics.b]\ncommand = \"x\"\n",
        )
        .unwrap();
        let (config, _) = parsed(&text).unwrap();
        assert_eq!(config.programs().map(|program| &*program.name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(config.components().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn proxies_are_taken_over_as_by_the_official_agent() {
        for (http, https, expected) in [
            ("", "", (None, None)),
            ("http://h:1", "", (Some("http://h:1"), Some("http://h:1"))),
            ("http://h:1", "direct", (Some("http://h:1"), None)),
            ("http://h:1", "https://s:2", (Some("http://h:1"), Some("https://s:2"))),
            ("direct", "", (None, None)),
            ("direct", "s:2", (None, Some("s:2"))),
            ("", "http://s:2", (None, Some("http://s:2"))),
        ] {
            let (config, _) = parsed(&format!("http_proxy = {http:?}\nhttps_proxy = {https:?}\n")).unwrap();
            let shown = |proxy: &Option<Secret>| proxy.as_ref().map(|proxy| proxy.reveal().to_owned());
            let found = (shown(&config.network.http_proxy), shown(&config.network.https_proxy));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{http} {https}");
        }
        let problems = shown(&parsed("http_proxy = \"ftp://me:hunter2@h\"\n").unwrap_err());
        assert!(!problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn checks_have_the_official_agents_defaults_and_bounds() {
        for (keys, minutes, interval, attempts) in [
            ("", 1, None, None),
            ("check_interval = 0", 1, None, None),
            ("check_interval = \"2h\"", 60, None, None),
            ("notification_interval = 1", 1, Some(10), None),
            ("notification_interval = \"1h10m\"", 1, Some(70), None),
            ("max_check_attempts = -1", 1, None, None),
            ("max_check_attempts = 0", 1, None, None),
            ("max_check_attempts = 10", 1, None, Some(10)),
            ("max_check_attempts = 11", 1, None, Some(10)),
            ("max_check_attempts = 3\nprevent_alert_auto_close = true", 1, None, Some(1)),
        ] {
            let (config, _) = parsed(&format!("[plugin.checks.c]\ncommand = \"x\"\n{keys}\n")).unwrap();
            let check = &config.checks[0];
            assert_eq!(check.every.as_secs(), minutes * 60, "{keys}");
            assert_eq!((check.notification_interval_minutes, check.max_check_attempts), (interval, attempts), "{keys}");
        }
        let memo = "あ".repeat(251);
        let (config, problems) = parsed(&format!("[plugin.checks.c]\ncommand = \"x\"\nmemo = {memo:?}\n")).unwrap();
        assert_eq!(config.checks[0].memo.as_ref().unwrap().chars().count(), 250);
        assert!(problems.iter().all(|problem| problem.level() == document::Level::Note) && problems.len() == 1);
    }

    #[test]
    fn what_the_official_agent_passes_over_is_passed_over() {
        let text = "conffile = \"x\"\n[interfaces]\nuse_adapter = true\n[plugin.metrics.m]\ncommand = \"x\"\n\
                    check_interval = 1\nmemo = \"x\"\n[plugin.metadata.d]\ncommand = \"x\"\ncustom_identifier = \"x\"\n";
        let (config, problems) = parsed(text).unwrap();
        assert_eq!(shown(&problems), "");
        assert_eq!((config.programs().count(), config.metadata[0].every.as_secs()), (1, 600));
    }

    /// In the manner of the official documentation: each of these is on one of its pages, in other words.
    #[test]
    fn configurations_as_the_documentation_has_them_load_without_a_word_and_mean_what_they_say() {
        let text = r#"
pidfile = "/var/run/mackerel-agent.pid"
root = "/var/lib/mackerel-agent"
verbose = false
apikey = "k"
# Which services and roles
roles = [ "Blog:web", "Blog: db" ]
display_name = "blog-1"
http_proxy = "http://localhost:8080"
https_proxy = "http://localhost:8080"
cloud_platform = "auto"
diagnostic = true

[host_status]
on_start = "working"
on_stop  = "poweroff"

[filesystems]
ignore = "/dev/(ram|loop).*"
use_mountpoint = true

[disks]
ignore = "^(ram|loop)[0-9]+$"

[interfaces]
ignore = "^(docker|br-).*"

[plugin.metrics.vmstat]
command = "ruby /etc/sensu/plugins/system/vmstat-metrics.rb"
user = "SOME_USER_NAME"
env = { LANG = "ja_JP.UTF-8", "PORT" = "80" }

[plugin.metrics.curl]
command = ["ruby", "/etc/sensu/plugins/http/metrics-curl.rb"]
custom_identifier = "app1.example.com"
timeout_seconds = 45
include_pattern = '^curl\.total'
exclude_pattern = '.*redirect.*'

[plugin.checks.load]
command = "ruby /etc/sensu/plugins/system/check-load.rb"
notification_interval = 60
max_check_attempts = 3
check_interval = "5m"
timeout_seconds = 45
prevent_alert_auto_close = false
env = { HTTP_PROXY = "http://proxy.example.com:8080" }
action = { command = "bash -c '[ \"$MACKEREL_STATUS\" != \"OK\" ]' && ruby /etc/notify.rb", user = "someone" }
memo = "Loadが高い"

[plugin.checks.ssh]
command = ["check-procs", "--pattern", "/usr/sbin/sshd"]
custom_identifier = "app1.example.com"

[plugin.metadata.hostinfo]
command = "ruby /etc/plugins/hostinfo.rb"
execution_interval = "1h"
"#;
        let (config, problems) = parsed(text).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        assert_eq!(shown(&problems), "");
        assert_eq!(config.roles, ["Blog:web", "Blog: db"]);
        let [vmstat, curl] = &config.programs().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
        let ruby = "ruby /etc/sensu/plugins/system/vmstat-metrics.rb";
        assert!(vmstat.program.command == programs::Command::Shell(ruby.to_owned()));
        assert_eq!((vmstat.program.user.as_deref(), vmstat.program.timeout.as_secs()), (Some("SOME_USER_NAME"), 30));
        assert!(vmstat.program.environment.contains(&("LANG".to_owned(), "ja_JP.UTF-8".to_owned())));
        assert!(matches!(&curl.program.command, programs::Command::Words(words) if words.len() == 2));
        assert_eq!(
            (curl.posting.custom_identifier.as_deref(), curl.program.timeout.as_secs()),
            (Some("app1.example.com"), 45)
        );
        let wanted = ["curl.total", "curl.redirect", "curl.total.redirect"].map(|name| curl.posting.wants(name));
        assert_eq!(wanted, [true, false, false]);
        let [load, ssh] = &config.checks[..] else { panic!("{:?}", config.checks) };
        assert_eq!(
            (load.every.as_secs(), load.notification_interval_minutes, load.max_check_attempts),
            (300, Some(60), Some(3))
        );
        assert_eq!(
            (load.memo.as_deref(), load.action.as_ref().unwrap().user.as_deref()),
            (Some("Loadが高い"), Some("someone"))
        );
        // What its own table says of the proxy wins.
        let Runner::Program(program) = &load.runner else { panic!("{load:?}") };
        let proxy = program.environment.iter().rfind(|(name, _)| name == "HTTP_PROXY").unwrap();
        assert_eq!(proxy.1, "http://proxy.example.com:8080");
        assert_eq!((ssh.every.as_secs(), ssh.custom_identifier.as_deref()), (60, Some("app1.example.com")));
        assert_eq!((&*config.metadata[0].name, config.metadata[0].every.as_secs()), ("hostinfo", 3_600));
        let Selection { filesystems, disks, interfaces, use_mountpoint } = &config.selection;
        let wants = |ignore: &Option<regex_lite::Regex>, name| Selection::wants(ignore.as_ref(), name);
        assert!(*use_mountpoint && wants(filesystems, "/dev/sda1") && !wants(filesystems, "/dev/loop0"));
        assert!(
            wants(disks, "sda") && !wants(disks, "ram1") && wants(interfaces, "eth0") && !wants(interfaces, "br-1a")
        );
    }
}
