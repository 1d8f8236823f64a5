//! The configuration: `mackerel-agent.conf`, as the official agent reads it, with our keys beside the official ones.
//!
//! [`document`] reads what was written, with its line and column; this module says what is meant. Every problem in the file is
//! told at once, and none of them shows a value, which may be the API key.

pub mod cases;
pub mod document;
pub mod plugin;

use std::path::{Path, PathBuf};

use url::Url;

use crate::plugins::table::PluginTable;
use crate::roots::Roots;
use crate::secret::Secret;
use document::{Problem, Reader, Section};

/// Where the official agent has its configuration, and so have we.
pub const DEFAULT_FILE: &str = "/etc/mackerel-agent/mackerel-agent.conf";

/// Every key with its default and its meaning: template, reference, and tested against the code.
pub const DEFAULT_TEXT: &str = include_str!("default.conf");

/// Keys of the official agent that this version does not know yet: said, but no mistake of the user's.
const NOT_YET: &[&str] = &[
    "checks",
    "cloud_platform",
    "conffile",
    "diagnostic",
    "disable_http_keep_alive",
    "disks",
    "filesystems",
    "http_proxy",
    "https_proxy",
    "include",
    "interfaces",
];

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
    /// The plugins that were configured.
    pub plugin_tables: Vec<PluginTable>,
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
            plugin_tables: Vec::new(),
        }
    }
}

/// Reads `file`. The warnings are for the log; with an error among the problems there is no configuration.
///
/// # Errors
/// All problems, warnings included, in the file's order.
pub fn load(file: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let text = document::read_file(file).map_err(|error| vec![Problem::of_file(file, &error)])?;
    parse(file, &text)
}

/// The configuration in `text`; `file` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader::new(file, text);
    let Some(mut top) = reader.document() else { return Err(reader.into_problems()) };
    let config = read(&mut reader, &mut top);
    reader.finish(top, NOT_YET);
    let problems = reader.into_problems();
    if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok((config, problems)) }
}

fn read(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Config {
    let defaults = Config::default();
    let (status_on_start, status_on_stop) = host_status(reader, top);
    let path =
        |text: Option<String>, default: PathBuf| text.filter(|text| !text.is_empty()).map_or(default, PathBuf::from);
    Config {
        api_key: reader.secret(top, "apikey"),
        api_base: reader.parsed(top, "apibase", api_base).unwrap_or(defaults.api_base),
        root: path(reader.text(top, "root"), defaults.root),
        pidfile: path(reader.text(top, "pidfile"), defaults.pidfile),
        roles: roles(reader, top),
        display_name: reader.text(top, "display_name").filter(|name| !name.is_empty()),
        status_on_start,
        status_on_stop,
        log_level: log_level(reader, top),
        plugins: reader.text(top, "plugins").map(PathBuf::from),
        self_metrics: reader.boolean(top, "self_metrics").unwrap_or(defaults.self_metrics),
        machine: machine(reader, top),
        plugin_tables: plugin::tables(reader, top),
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

/// `verbose` wins over `silent`, as with the official agent.
fn log_level(reader: &mut Reader<'_>, top: &mut Section<'_>) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter;
    let (verbose, silent) = (reader.boolean(top, "verbose"), reader.boolean(top, "silent"));
    match (verbose.unwrap_or(false), silent.unwrap_or(false)) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::ERROR,
        (false, false) => LevelFilter::INFO,
    }
}

/// A role that Mackerel would refuse is left out, as with the official agent, which does not stop for it either.
fn roles(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Vec<String> {
    let mut roles = Vec::new();
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
    roles
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
fn host_status(reader: &mut Reader<'_>, top: &mut Section<'_>) -> (Option<String>, Option<String>) {
    const VALID: &[&str] = &["working", "standby", "maintenance", "poweroff"];
    let Some(mut section) = reader.section(top, "host_status") else { return (None, None) };
    let mut status = |reader: &mut Reader<'_>, key| {
        reader.parsed(&mut section, key, |text| match text {
            "" => Ok(None),
            text if VALID.contains(&text) => Ok(Some(text.to_owned())),
            _ => Err(format!("must be one of {}", VALID.join(", "))),
        })
    };
    let found = (status(reader, "on_start").flatten(), status(reader, "on_stop").flatten());
    reader.finish(section, &[]);
    found
}

fn machine(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Roots {
    let mut roots = Roots::default();
    let Some(mut section) = reader.section(top, "machine") else { return roots };
    for (key, root) in [("proc", &mut roots.proc), ("sys", &mut roots.sys), ("etc", &mut roots.etc)] {
        if let Some(path) = reader.text(&mut section, key) {
            *root = path.into();
        }
    }
    reader.finish(section, &[]);
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

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
            plugin_tables: config.plugin_tables.clone(),
            ..Config::default()
        };
        assert_eq!(format!("{config:?}"), format!("{examples:?}"), "all other keys stand there with their default");
        let [table] = &config.plugin_tables[..] else { panic!("{:?}", config.plugin_tables) };
        assert_eq!(*table.limits, crate::capabilities::limits::Limits::default());
        let text = switched_on();
        for key in crate::capabilities::limits::KEYS {
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
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/golden/every_problem.txt");
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
    fn a_file_that_is_no_regular_one_is_refused_instead_of_waited_for() {
        let problems = shown(&load(Path::new("/dev/zero")).unwrap_err());
        assert_eq!(problems, "cannot read `/dev/zero`: it is no regular file\n");
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
        assert_eq!(config.plugin_tables[0].limits.time, std::time::Duration::from_secs(50));
        assert!(
            shown(&problems).contains(":1:") && shown(&problems).contains("`timeout_seconds`"),
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
        let written = &config.plugin_tables[0].written;
        assert_eq!(written.settings, [("password".to_owned(), "hunter2".to_owned())]);
        assert_eq!(written.references, ["password"]);
        for wrong in ["{ fiel = \"/x\" }", "{ file = \"/no/such\" }", "{ env = \"WASABA_NO_SUCH\" }", "{}"] {
            let problems = parsed(&table(wrong)).unwrap_err();
            assert!(shown(&problems).contains(":3:"), "{wrong}: {}", shown(&problems));
        }
    }
}
