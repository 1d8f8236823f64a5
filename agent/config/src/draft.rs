//! Merging files into one configuration: the top-level keys and the small tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use machine::host::cloud::CloudPlatform;
use machine::metrics::selection::Selection;
use machine::roots::Roots;
use official::proxy::ProxyAddress;
use tracing::level_filters::LevelFilter;
use url::Url;
use wasaba_core::paths::trusted::Unopened;
use wasaba_core::secret::Secret;
use wasaba_core::text::printable;

use crate::document::{Places, Problem, Reader, Section, ValueKind, read_trusted};
use crate::{Config, Loaded, Network, docker, plugin};

/// The keys that are not in a table, and so belong above all of them.
pub(crate) const KEYS_ABOVE: &[&str] = &[
    "apikey",
    "apibase",
    "root",
    "pidfile",
    "roles",
    "display_name",
    "verbose",
    "silent",
    "plugins",
    "self_metrics",
    "diagnostic",
    "confinement",
    "disable_http_keep_alive",
    "http_proxy",
    "https_proxy",
    "cloud_platform",
    "host_root",
    "include",
];

/// The tables.
const TABLES: &[&str] = &["host_status", "machine", "filesystems", "disks", "interfaces", "docker", "plugin"];

/// The tables that are skipped, by their names: those whose last version in the files is invalid.
#[derive(Default)]
pub(crate) struct Skipped(BTreeSet<String>);

impl Skipped {
    /// A table was read.
    pub(crate) fn note(&mut self, table: String, is_valid: bool) {
        if is_valid {
            self.0.remove(&table);
        } else {
            self.0.insert(table);
        }
    }

    /// Removes what they configure.
    pub(crate) fn remove_from(&self, config: &mut Config) {
        let is_valid = |kind: &str, name: &str| !self.0.contains(&format!("[plugin.{kind}.{name}]"));
        config.metrics.retain(|plugin| is_valid("metrics", &plugin.name));
        config.checks.retain(|check| is_valid("checks", &check.name));
        config.metadata.retain(|metadata| is_valid("metadata", &metadata.name));
        config.docker = config.docker.take().filter(|_| !self.0.contains(docker::TABLE));
    }
}

/// The configuration in the files that were read so far. Each further file overwrites the keys that it has.
pub(crate) struct Draft {
    config: Config,
    skipped: Skipped,
    /// Whether each file could be read, and has a valid `apikey` or none.
    pub(crate) knows_key: bool,
    /// Whether the file that was named could be read, and in each file the root, where it is set.
    pub(crate) knows_root: bool,
    verbose: bool,
    silent: bool,
    http_proxy: String,
    https_proxy: String,
    /// The files to include, which are still to read.
    pub(crate) included: Vec<PathBuf>,
}

impl Default for Draft {
    fn default() -> Self {
        let (config, skipped, verbose, silent, http_proxy, https_proxy, included) = Default::default();
        let (knows_key, knows_root) = (true, true);
        Self { config, skipped, knows_key, knows_root, verbose, silent, http_proxy, https_proxy, included }
    }
}

/// Overwrites `target` if there is a value.
fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

impl Draft {
    /// Reads the files to include and returns the configuration; `problems` are those of the main file.
    pub(crate) fn read_included(mut self, mut problems: Vec<Problem>) -> Loaded {
        for file in std::mem::take(&mut self.included) {
            match read_trusted(&file) {
                Ok(text) => problems.extend(self.read(&file, &text, true)),
                Err(error) => {
                    self.knows_key = false;
                    problems.push(match error {
                        Unopened::Untrusted(why) => Problem::of_untrusted(&file, &why),
                        error => Problem::of_file(&file, &error),
                    });
                }
            }
        }
        problems.extend(docker::same_graphs(&self.config));
        let knows_root = self.knows_root;
        let (config, skipped, knows_key) = self.finish();
        Loaded { config, problems, knows_key, knows_root, skipped }
    }

    /// Merges the configuration in `text`; `file` is for messages.
    pub(crate) fn read(&mut self, file: &Path, text: &str, is_included: bool) -> Vec<Problem> {
        let mut reader = Reader::new(file, text).with_keys_above(KEYS_ABOVE, TABLES);
        match reader.document() {
            Some(mut top) => {
                self.merge(&mut reader, &mut top, is_included);
                // The official agent reads this key and overwrites it with the flag's value.
                reader.ignore(&mut top, &[("conffile", ValueKind::Text)]);
                reader.finish(top);
            }
            None => {
                self.knows_key = false;
                let Places { root, pidfile, hides_root } = Places::of_broken(text);
                self.knows_root &= !hides_root;
                set(&mut self.config.root, root);
                set(&mut self.config.pidfile, pidfile);
            }
        }
        reader.into_problems()
    }

    fn merge(&mut self, reader: &mut Reader<'_>, top: &mut Section<'_>, is_included: bool) {
        let config = &mut self.config;
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let span = top.span_of("apikey");
        match reader.secret(top, "apikey").map(|key| api_key(key.reveal())) {
            Some(Ok(key)) => config.api_key = Some(key),
            Some(Err(why)) => reader.fail(span, format!("`apikey` {why}")),
            None => {}
        }
        self.knows_key &= reader.failures() == 0;
        set(&mut config.api_base, reader.parsed(top, "apibase", api_base));
        let path = |config: &mut Config, reader: &mut Reader<'_>, top: &mut Section<'_>, key| {
            let place = reader.file_and_line(top.span_of(key));
            let path = non_empty(reader.text(top, key))?;
            config.places.0.insert(key, place);
            Some(PathBuf::from(path))
        };
        let before = reader.failures();
        let root = path(config, reader, top, "root");
        self.knows_root &= reader.failures() == before;
        let pidfile = path(config, reader, top, "pidfile");
        set(&mut config.root, root);
        set(&mut config.pidfile, pidfile);
        set(&mut config.roles, roles(reader, top));
        set(&mut config.display_name, reader.text(top, "display_name").map(|name| non_empty(Some(name))));
        host_status(reader, top, config);
        set(&mut self.verbose, reader.boolean(top, "verbose"));
        set(&mut self.silent, reader.boolean(top, "silent"));
        plugins_folder(reader, top, config);
        set(&mut config.self_metrics, reader.boolean(top, "self_metrics"));
        set(&mut config.diagnostic, reader.boolean(top, "diagnostic"));
        set(&mut config.confinement, reader.boolean(top, "confinement"));
        set(&mut config.network.no_keep_alive, reader.boolean(top, "disable_http_keep_alive"));
        set(&mut self.http_proxy, reader.parsed(top, "http_proxy", proxy));
        set(&mut self.https_proxy, reader.parsed(top, "https_proxy", proxy));
        set(&mut config.cloud_platform, reader.parsed(top, "cloud_platform", CloudPlatform::named));
        if let Some(root) = path(config, reader, top, "host_root") {
            config.machine = Roots { metadata: config.machine.metadata.take(), ..Roots::of_host(&root) };
        }
        machine(reader, top, &mut config.machine);
        selection(reader, top, &mut config.selection);
        let find = |pattern: &str| match pattern {
            _ if is_included => Ok(None),
            "" => Ok(None),
            _ => official::glob::files(pattern).map(Some),
        };
        let span = top.span_of("include");
        if is_included && top.has("include") {
            // As in the official agent.
            reader.note(span, "`include` has no effect in an included file; write it in the main one".to_owned());
        }
        if let Some(files) = reader.parsed(top, "include", find).flatten() {
            if files.is_empty() {
                reader.note(span, NO_FILES.to_owned());
            }
            self.included.extend(files);
        }
        docker::merge(reader, top, config, &mut self.skipped);
        plugin::merge(reader, top, config, &mut self.skipped);
    }

    fn finish(self) -> (Config, Skipped, bool) {
        let Self { mut config, skipped, knows_key, verbose, silent, http_proxy, https_proxy, .. } = self;
        // `verbose` overrides `silent`, as in the official agent.
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
            // In front, so that the plugin's own `env` overrides them.
            program.environment.splice(0..0, proxies.iter().cloned());
        }
        (config, skipped, knows_key)
    }
}

/// The text `plugins`. A table of this name is a typo, which the official agent ignores.
fn plugins_folder(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    if !reader.is_table(top, "plugins") {
        set(&mut config.plugins, reader.text(top, "plugins").map(|folder| Some(folder.into())));
    } else if let Some(span) = reader.skip(top, "plugins") {
        reader.warn(span, "unknown table `plugins`, did you mean `plugin`?".to_owned());
    }
}

/// The address of a proxy, or `direct`. It may contain a password, so the error does not show it.
fn proxy(text: &str) -> Result<String, String> {
    match text.trim() {
        "" | "direct" => Ok(text.trim().to_owned()),
        address => Ok(ProxyAddress::parse(address)?.escaped.reveal().to_owned()),
    }
}

/// Parses the API key, wherever it was written. A header carries it, which has only printable ASCII characters.
///
/// # Errors
/// The problem and its cure, to follow the name of the key, flag or variable. They do not show the key.
pub fn api_key(text: &str) -> Result<Secret, String> {
    let what = match text.chars().find(|char| !(' '..='~').contains(char)) {
        None => return Ok(Secret::new(text)),
        Some('\n' | '\r') => "a line break",
        Some(char) if char.is_control() => "a control character",
        Some(_) => "a character that is not ASCII",
    };
    Err(format!("contains {what}, which is invalid in an API key; write only the key, as Mackerel shows it"))
}

/// Parses the value of `apibase` or `-apibase`.
///
/// # Errors
/// The problem and its cure, to follow the name of the key or flag.
pub fn api_base(text: &str) -> Result<Url, String> {
    const CURE: &str = "write it like https://api.mackerelio.com";
    let url = Url::parse(text).map_err(|error| format!("is not a valid URL ({error}); {CURE}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(format!("must begin with https:// or http://; {CURE}")),
    }
}

/// The address that replaces the metadata services of the clouds, which have no TLS.
fn metadata_base(text: &str) -> Result<Option<String>, String> {
    const CURE: &str = "write it like http://127.0.0.1:8080";
    let url = Url::parse(text).map_err(|error| format!("is not a valid URL ({error}); {CURE}"))?;
    match url.scheme() {
        "http" => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err(format!("must begin with http://; {CURE}")),
    }
}

/// The roles. Those that Mackerel would refuse are skipped, as in the official agent.
fn roles(reader: &mut Reader<'_>, top: &mut Section<'_>) -> Option<Vec<String>> {
    let mut roles = Vec::new();
    if !top.has("roles") {
        return None;
    }
    for (role, span) in reader.texts(top, "roles") {
        if is_role(&role) {
            roles.push(role);
        } else {
            // Without its text, as every value of the file: it may be a secret in the wrong place.
            reader.warn(span, invalid_role(None));
        }
    }
    Some(roles)
}

/// The warning about a role that is not one.
#[must_use]
pub fn invalid_role(role: Option<&str>) -> String {
    let role = role.map(|role| format!(" {:?}", printable(role, 80))).unwrap_or_default();
    format!("invalid role{role}, skipped: write `Service:role`, with only letters, digits, - and _ in both names")
}

/// Whether `text` is the name of a service, a colon and the name of a role.
#[must_use]
pub fn is_role(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.split_once(':').is_some_and(|(service, role)| is_name(service) && is_name(role.trim_start()))
}

/// About a pattern of files to include, which the official agent accepts, too.
pub(crate) const NO_FILES: &str = "`include` matches no file now; check the pattern if it should";

/// The table `[host_status]`. The official agent accepts any word, and fails at the start when Mackerel refuses it.
fn host_status(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config) {
    const VALID: &[&str] = &["working", "standby", "maintenance", "poweroff"];
    let Some(mut section) = reader.section(top, "host_status") else { return };
    for (key, status) in [("on_start", &mut config.status_on_start), ("on_stop", &mut config.status_on_stop)] {
        let read = reader.parsed(&mut section, key, |text| match text {
            "" => Ok(None),
            text if VALID.contains(&text) => Ok(Some(text.to_owned())),
            _ => Err(format!("must be one of {}", VALID.join(", "))),
        });
        set(status, read);
    }
    reader.finish(section);
}

fn machine(reader: &mut Reader<'_>, top: &mut Section<'_>, roots: &mut Roots) {
    let Some(mut section) = reader.section(top, "machine") else { return };
    for (key, root) in [("proc", &mut roots.proc), ("sys", &mut roots.sys), ("etc", &mut roots.etc)] {
        set(root, reader.text(&mut section, key).map(PathBuf::from));
    }
    set(&mut roots.metadata, reader.parsed(&mut section, "metadata", metadata_base));
    reader.finish(section);
}

fn selection(reader: &mut Reader<'_>, top: &mut Section<'_>, selection: &mut Selection) {
    let Selection { filesystems, disks, interfaces, use_mountpoint } = selection;
    for (family, ignore, ignored_keys) in [
        ("filesystems", filesystems, &[] as &[(&str, ValueKind)]),
        ("disks", disks, &[]),
        // Only Windows has it.
        ("interfaces", interfaces, &[("use_adapter", ValueKind::Boolean)]),
    ] {
        let Some(mut section) = reader.section(top, family) else { continue };
        set(ignore, reader.parsed(&mut section, "ignore", plugin::pattern));
        if family == "filesystems" {
            set(use_mountpoint, reader.boolean(&mut section, "use_mountpoint"));
        }
        reader.ignore(&mut section, ignored_keys);
        reader.finish(section);
    }
}
