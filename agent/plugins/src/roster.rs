//! The roster: which plugins should run, by the configuration and the drop-in folders, and the steps until exactly these run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Config;
use config::check::Runner;
use config::document::Problem;
use config::metrics::{Metrics, OfficialLine, StandIn};
use config::table::PluginTable;
use containers::Docker;
use official::programs::MetricsProgram;
use wasaba_core::clock;
use wasaba_core::lines::{ABOUT_PLUGINS, LinesAnHour};
use wasaba_core::text::{first_of, printable};

use crate::folder::{Folders, Stamp};
use crate::key::{Key, Kind};
use crate::watch::{Files, Progress};

/// A longer line of the log about a plugin is cut.
const LONGEST_LINE_BYTES: usize = 4_096;

/// As many problems of one plugin are logged, and as many plugins that started or ended together one by one.
const MOST_LINES: usize = 10;

/// As many lines about one plugin that starts, is replaced or cannot be are logged in an hour: its file may change all the time.
const MOST_LINES_AN_HOUR: u32 = 20;

/// As many plugins are named in a line about several.
const MOST_NAMES: usize = 5;

/// Something that can run under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Candidate {
    /// A component: its table and its file.
    Component(Box<PluginTable>, PathBuf),
    /// A program.
    Program(Arc<MetricsProgram>),
    /// A Docker engine, instead of the official plugin.
    Engine(Box<Docker>),
}

/// A plugin that should run. If a later look finds an equal one, it is unchanged.
#[derive(Clone, PartialEq)]
pub struct Wanted {
    /// Which plugin.
    pub key: Key,
    /// What runs, or the problems because of which it cannot be tried.
    pub what: Result<Candidate, Vec<String>>,
    /// Warnings about its table.
    pub warnings: Vec<String>,
    /// The table of a component, if it could be read.
    pub table: Option<PluginTable>,
    /// The component's stamp, and that of the settings beside it.
    stamps: (Option<Stamp>, Option<Stamp>),
}

impl Wanted {
    fn new(key: Key, what: Result<Candidate, Vec<String>>) -> Self {
        Self { key, what, warnings: Vec::new(), table: None, stamps: (None, None) }
    }

    fn component(key: Key, table: &PluginTable, file: Result<PathBuf, Vec<String>>) -> Self {
        let stamps = (file.as_ref().ok().and_then(|file| Stamp::of(file)), None);
        let what = file.map(|file| Candidate::Component(Box::new(table.clone()), file));
        Self { table: Some(table.clone()), stamps, ..Self::new(key, what) }
    }
}

/// The result of a look at the configuration and the folders.
#[derive(Default)]
pub struct Look {
    /// The plugins that should run: those of the configuration, and then those that were dropped into a folder.
    pub wanted: Vec<Wanted>,
    /// How many of them the configuration names.
    pub configured: usize,
    /// Keys whose files are being written: these stay unchanged.
    unfinished: BTreeSet<Key>,
    /// The files that are refused, and why.
    pub refused: BTreeSet<String>,
    /// Some files are too young to be read; look again soon, since no inotify event will follow.
    pub again: bool,
    /// Whether the program of each official command line is installed, in the order of the configuration.
    pub installed: Vec<bool>,
}

/// Looks at the configuration and at the files in the `folders`; files that are still being written are skipped. Reads files,
/// so it may block.
#[must_use]
pub fn look(config: &Config, folders: &Folders, files: &Files) -> Look {
    let (folders, hanging) = folders.answering();
    let folders = &folders;
    let mut look = Look { refused: hanging.into_iter().collect(), ..Look::default() };
    let mut configured = BTreeSet::new();
    for plugin in &config.metrics {
        let key = Key::metrics(&plugin.name);
        match &plugin.runs {
            Metrics::Component(table) => configured.extend(look.component(key, table, folders, files)),
            Metrics::Program(program) => {
                look.wanted.push(Wanted::new(key, Ok(Candidate::Program(Arc::new((**program).clone())))));
            }
            Metrics::Official(line) => configured.extend(look.official(key, line, folders, files)),
        }
    }
    let checks = config.checks.iter().map(|check| (Key::check(&check.name), &check.runner));
    let metadata = config.metadata.iter().map(|metadata| (Key::metadata(&metadata.name), &metadata.runner));
    for (key, runner) in checks.chain(metadata) {
        if let Runner::Component(table) = runner {
            look.component(key, table, folders, files);
        }
    }
    let mut names = config.metrics.iter().map(|plugin| plugin.name.to_string()).collect::<BTreeSet<_>>();
    look.configured = look.wanted.len();
    let (dropped_in, skipped) = folders.dropped_in();
    look.refused.extend(skipped);
    for file in dropped_in.into_iter().filter(|file| !configured.contains(file)) {
        look.dropped_in(file, &mut names, files);
    }
    look
}

impl Look {
    /// Adds a component of the configuration; returns its file, if it exists.
    fn component(&mut self, key: Key, table: &PluginTable, folders: &Folders, files: &Files) -> Option<PathBuf> {
        let file = folders.find(&table.wasm).map_err(|problem| vec![table.raw.problem(&problem)]);
        let found = file.as_ref().ok().cloned();
        if found.as_ref().is_none_or(|file| self.is_complete(&key, &[file], files)) {
            self.wanted.push(Wanted::component(key, table, file));
        }
        found
    }

    /// Adds an official command line: its program if it is installed, else what stands in for it. Returns the component's file.
    fn official(&mut self, key: Key, line: &OfficialLine, folders: &Folders, files: &Files) -> Option<PathBuf> {
        let is_installed = line.search.is_installed();
        self.installed.push(is_installed);
        let (what, stand_in) = match &line.stand_in {
            StandIn::Component(table) if !is_installed => {
                let file = self.component(key.clone(), table, folders, files);
                self.warn(&key, line.unset.as_ref());
                return file;
            }
            // While the program is installed, its file must not run as a dropped one.
            StandIn::Component(table) => (Ok(()), folders.find(&table.wasm).ok()),
            StandIn::Docker(_) if is_installed => (Ok(()), None),
            StandIn::Docker(Ok(docker)) => {
                self.wanted.push(Wanted::new(key.clone(), Ok(Candidate::Engine(docker.clone()))));
                self.warn(&key, line.unset.as_ref());
                return None;
            }
            StandIn::Docker(Err(problem)) => (Err(vec![problem.clone()]), None),
        };
        let what = what.map(|()| Candidate::Program(Arc::new(line.program.clone())));
        self.wanted.push(Wanted::new(key, what));
        stand_in
    }

    /// Adds a warning to a plugin that was just added, unless its file is incomplete.
    fn warn(&mut self, key: &Key, warning: Option<&String>) {
        if let Some(wanted) = self.wanted.last_mut().filter(|wanted| wanted.key == *key) {
            wanted.warnings.extend(warning.cloned());
        }
    }

    fn dropped_in(&mut self, file: PathBuf, names: &mut BTreeSet<String>, files: &Files) {
        let Some(name) = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { return };
        if shown(&name) != name {
            self.refused.insert(format!("skipped `{}`: its name has control characters; rename it", file.display()));
            return;
        }
        if !names.insert(name.clone()) {
            let why = "there is already a plugin with this name; rename it";
            self.refused.insert(format!("skipped `{}`: {why}", file.display()));
            return;
        }
        let (key, settings) = (Key::metrics(&name), file.with_extension("toml"));
        if !self.is_complete(&key, &[&file, &settings], files) {
            return;
        }
        // Before they are read, so that a change meanwhile is noticed at the next look.
        let stamps = (Stamp::of(&file), Stamp::of(&settings));
        let texts = |problems: Vec<Problem>| {
            let mut lines = first_of(problems.iter().map(|one| shown(&one.without_level())).collect(), MOST_LINES);
            if let Some(rest) = lines.get_mut(MOST_LINES) {
                *rest = format!("{}: {rest}", settings.display());
            }
            lines
        };
        let wanted = match config::plugin::beside(&file) {
            Ok((table, warnings)) => Wanted { warnings: texts(warnings), ..Wanted::component(key, &table, Ok(file)) },
            Err(problems) => Wanted::new(key, Err(texts(problems))),
        };
        self.wanted.push(Wanted { stamps, ..wanted });
    }

    fn is_complete(&mut self, key: &Key, paths: &[&Path], files: &Files) -> bool {
        let mut is_complete = true;
        for path in paths {
            let progress = files.progress(path);
            is_complete &= progress == Progress::Complete;
            self.again |= progress == Progress::Young;
        }
        if !is_complete {
            self.unfinished.insert(key.clone());
        }
        is_complete
    }

    /// What can run.
    pub fn candidates(&self) -> impl Iterator<Item = (&Key, &Candidate)> {
        self.wanted.iter().filter_map(|wanted| Some((&wanted.key, wanted.what.as_ref().ok()?)))
    }

    /// Logs the problems, and returns what can run: for a command that looks once.
    pub fn usable(self) -> impl Iterator<Item = (Key, Candidate)> {
        for refused in &self.refused {
            tracing::error!(target: ABOUT_PLUGINS, "{}", shown(refused));
        }
        self.wanted.into_iter().filter_map(|wanted| {
            for warning in &wanted.warnings {
                tracing::warn!(target: ABOUT_PLUGINS, "{}", shown(warning));
            }
            let candidate = wanted.what.map_err(|problems| skipped(&wanted.key, &problems)).ok()?;
            Some((wanted.key, candidate))
        })
    }
}

/// Logs why a plugin does not run.
pub fn skipped(key: &Key, problems: &[String]) {
    for line in problem_lines(key, "skipped", problems) {
        tracing::error!(target: ABOUT_PLUGINS, "{line}");
    }
}

/// The first of these problems because of which a plugin is what `state` says, a line each.
fn problem_lines(key: &Key, state: &str, problems: &[String]) -> Vec<String> {
    let name = shown(&key.to_string());
    let line = |problem: String| format!("{name} {state}: {}", shown(&problem));
    first_of(problems.to_vec(), MOST_LINES).into_iter().map(line).collect()
}

fn shown(text: &str) -> String {
    printable(text, LONGEST_LINE_BYTES)
}

/// The plugins that run or are being loaded.
#[derive(Default)]
pub struct Roster {
    entries: BTreeMap<Key, Entry>,
    refused: BTreeSet<String>,
    attempts: u64,
    news: News,
}

/// What has happened to plugins since nothing was being loaded, for the log: the first of them one by one, the rest together, since
/// there may be a thousand.
#[derive(Default)]
struct News {
    lines: usize,
    more: BTreeMap<Event, BTreeSet<String>>,
}

/// What happens to a plugin, in the words of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Runs,
    Replaced,
    Removed,
    /// Loading it was tried again because the configuration was reloaded, with the problems that the log has already.
    StillSkipped,
    /// The same, while an earlier version of it runs.
    StillUnchanged,
}

impl Event {
    /// What is logged of one plugin, or of several.
    fn words(self, several: bool) -> &'static str {
        match self {
            Self::Runs if several => "run",
            Self::Runs => "runs",
            Self::Replaced if several => "were replaced",
            Self::Replaced => "was replaced",
            Self::Removed if several => "were removed",
            Self::Removed => "was removed",
            Self::StillSkipped if several => {
                "are still skipped, for the same reasons as before (`wasaba plugin list` shows them)"
            }
            Self::StillUnchanged if several => {
                "keep running unchanged, for the same reasons as before (`wasaba plugin list` shows them)"
            }
            Self::StillUnchanged => {
                "keeps running unchanged, for the same reason as before (`wasaba plugin list` shows it)"
            }
            Self::StillSkipped => "is still skipped, for the same reason as before (`wasaba plugin list` shows it)",
        }
    }
}

impl News {
    /// The line about this event, unless it is kept for the end.
    fn line(&mut self, key: &Key, event: Event) -> Option<String> {
        let name = shown(&key.to_string());
        if self.lines < MOST_LINES {
            self.lines += 1;
            return Some(format!("{name} {}", event.words(false)));
        }
        self.more.entry(event).or_default().insert(name);
        None
    }

    /// The lines about the rest, a line for each event.
    fn rest(&mut self) -> Vec<String> {
        let Self { more, .. } = std::mem::take(self);
        let line = |(event, names): (Event, BTreeSet<String>)| {
            let named = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
            let unnamed = names.len().saturating_sub(MOST_NAMES);
            let and = if unnamed > 0 { format!(" and {unnamed} more") } else { String::new() };
            format!("{named}{and} {}", event.words(names.len() > 1))
        };
        more.into_iter().map(line).collect()
    }
}

struct Entry {
    /// What was tried last; `None` makes it be tried again.
    tried: Option<Wanted>,
    /// What the log has of why it is skipped.
    problems: Vec<String>,
    /// Whether the last attempt is of the same files and table as the one before.
    is_retry: bool,
    /// Those that the log has about it.
    lines: LinesAnHour,
    attempt: u64,
    /// Whether the last attempt succeeded; `None` while it is under way.
    ended: Option<bool>,
    /// What runs, from this attempt or an earlier one.
    runs: Runs,
}

/// A step for the keeper.
#[derive(Debug)]
pub enum Step {
    /// Load this component, and pass the result to [`Roster::loaded`].
    Load {
        /// Which plugin.
        key: Key,
        /// Distinguishes this attempt from others for the same key.
        attempt: u64,
        /// Its table.
        table: Box<PluginTable>,
        /// Its file.
        file: PathBuf,
    },
    /// Start this, and stop what ran under the key.
    Start(Key, Candidate),
    /// Record that it cannot be tried.
    Skip {
        /// Which plugin.
        key: Key,
        /// Its table, if it could be read.
        table: Option<Box<PluginTable>>,
        /// The problems, a line each.
        problems: Vec<String>,
        /// Whether what runs under the key keeps running.
        keeps: bool,
    },
    /// Stop what runs under this key, or stop loading it.
    Remove(Key),
}

/// What runs under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// Nothing.
    Nothing,
    /// A component.
    Component,
    /// A program or an engine.
    Other,
}

/// What follows from the result of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The loaded plugin should run.
    Run,
    /// It failed; the one that runs keeps running.
    KeepsRunning,
    /// It failed; nothing should run under the key.
    Skipped,
    /// A newer attempt has begun, so the result is dropped.
    Superseded,
}

impl Roster {
    /// The steps until what was found runs. Logs its problems, once for each state of the files.
    pub fn compare(&mut self, look: Look) -> Vec<Step> {
        for refused in look.refused.difference(&self.refused) {
            tracing::error!(target: ABOUT_PLUGINS, "{}", shown(refused));
        }
        self.refused = look.refused;
        let mut steps = Vec::new();
        let mut keys = look.unfinished;
        for wanted in look.wanted {
            keys.insert(wanted.key.clone());
            steps.extend(self.want(wanted));
        }
        let gone = self.entries.keys().filter(|key| !keys.contains(*key)).cloned().collect::<Vec<_>>();
        for key in gone {
            if self.entries.remove(&key).is_some_and(|entry| entry.runs != Runs::Nothing) {
                self.tell(&key, Event::Removed);
            }
            steps.push(Step::Remove(key));
        }
        steps
    }

    fn want(&mut self, wanted: Wanted) -> Option<Step> {
        let new = || LinesAnHour::new(MOST_LINES_AN_HOUR, clock::instant());
        let (runs, problems, is_retry, mut lines) = match self.entries.get_mut(&wanted.key) {
            Some(entry) if entry.tried.as_ref() == Some(&wanted) => return None,
            Some(entry) => (entry.runs, std::mem::take(&mut entry.problems), entry.tried.is_none(), entry.lines),
            None => (Runs::Nothing, Vec::new(), false, new()),
        };
        for warning in wanted.warnings.iter().filter(|_| !is_retry) {
            if let Some(line) = lines.admitted(shown(warning), clock::instant()) {
                tracing::warn!(target: ABOUT_PLUGINS, "{line}");
            }
        }
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = self.attempts;
        let Wanted { key, what, table, .. } = wanted.clone();
        let entry = Entry { tried: Some(wanted), problems, is_retry, lines, attempt, ended: None, runs };
        self.entries.insert(key.clone(), entry);
        match what {
            Ok(Candidate::Component(table, file)) => Some(Step::Load { key, attempt, table, file }),
            Ok(candidate) => {
                self.end(&key, attempt, Some(Runs::Other));
                Some(Step::Start(key, candidate))
            }
            Err(problems) => {
                let keeps = self.loaded(&key, attempt, Err(problems.clone())) == Loaded::KeepsRunning;
                Some(Step::Skip { key, table: table.map(Box::new), problems, keeps })
            }
        }
    }

    /// Records the result of loading. A metrics plugin that cannot be replaced keeps running; a check or metadata plugin does not,
    /// since its report would be that of another table, and neither does a program in place of which a component is configured.
    pub fn loaded(&mut self, key: &Key, attempt: u64, result: Result<(), Vec<String>>) -> Loaded {
        let Some(ran) = self.end(key, attempt, result.is_ok().then_some(Runs::Component)) else {
            return Loaded::Superseded;
        };
        match result {
            Ok(()) => {
                self.tell(key, if ran == Runs::Component { Event::Replaced } else { Event::Runs });
                Loaded::Run
            }
            Err(problems) if ran == Runs::Component && key.kind == Kind::Metrics => {
                self.fail(key, "keeps running unchanged", &problems, Event::StillUnchanged);
                Loaded::KeepsRunning
            }
            Err(problems) => {
                self.fail(key, "skipped", &problems, Event::StillSkipped);
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.runs = Runs::Nothing;
                }
                Loaded::Skipped
            }
        }
    }

    /// Whether the log has these problems already, from an attempt with the same files and table.
    fn is_known(&mut self, key: &Key, problems: &[String]) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let known = std::mem::replace(&mut entry.problems, problems.to_vec());
        entry.is_retry && known == problems
    }

    /// Logs why this plugin is what `state` says; what the log has already, together as `known`.
    fn fail(&mut self, key: &Key, state: &str, problems: &[String], known: Event) {
        if self.is_known(key, problems) {
            return self.tell(key, known);
        }
        for line in problem_lines(key, state, problems) {
            if let Some(line) = self.admitted(key, line) {
                tracing::error!(target: ABOUT_PLUGINS, "{line}");
            }
        }
    }

    fn tell(&mut self, key: &Key, event: Event) {
        if let Some(line) = self.news.line(key, event).and_then(|line| self.admitted(key, line)) {
            tracing::info!(target: ABOUT_PLUGINS, "{line}");
        }
    }

    /// A line about this plugin as it is logged, unless the log has had enough of them.
    fn admitted(&mut self, key: &Key, line: String) -> Option<String> {
        match self.entries.get_mut(key) {
            Some(entry) => entry.lines.admitted(line, clock::instant()),
            None => Some(line),
        }
    }

    /// Logs the rest of what has happened, once nothing is being loaded any more.
    pub fn tell_rest(&mut self) {
        if !self.is_loading() {
            self.news.rest().into_iter().for_each(|line| tracing::info!(target: ABOUT_PLUGINS, "{line}"));
        }
    }

    /// Ends an attempt, after which `runs` runs if it succeeded; returns what ran before, or `None` if a newer attempt has begun.
    fn end(&mut self, key: &Key, attempt: u64, runs: Option<Runs>) -> Option<Runs> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.attempt == attempt)?;
        entry.ended = Some(runs.is_some());
        let ran = entry.runs;
        entry.runs = runs.unwrap_or(ran);
        Some(ran)
    }

    /// Makes the next comparison try again what could not be loaded, and what is `failing`.
    pub fn retry(&mut self, failing: &BTreeSet<Key>) {
        for (key, entry) in &mut self.entries {
            if entry.ended == Some(false) || failing.contains(key) {
                entry.tried = None;
            }
        }
    }

    /// Makes the next comparison try these again that could not be loaded.
    pub fn again(&mut self, keys: &BTreeSet<Key>) {
        for (_, entry) in
            self.entries.iter_mut().filter(|(key, entry)| entry.ended == Some(false) && keys.contains(key))
        {
            entry.tried = None;
        }
    }

    /// Whether something is still being loaded.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.entries.values().any(|entry| entry.ended.is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use config::metrics::MetricsPlugin;
    use wasaba_core::clock;

    use super::*;

    fn component(name: &str, wasm: &str) -> MetricsPlugin {
        let table = PluginTable { name: name.into(), wasm: wasm.into(), ..PluginTable::default() };
        MetricsPlugin { name: name.into(), runs: Metrics::Component(Box::new(table)) }
    }

    fn parsed(text: &str) -> Config {
        config::parse(Path::new("agent.conf"), text).unwrap_or_else(|problems| panic!("{problems:?}")).0
    }

    struct Home {
        temp: tempfile::TempDir,
        roster: Roster,
        config: Config,
    }

    impl Home {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            fs::create_dir(temp.path().join("plugins")).unwrap();
            Self { temp, roster: Roster::default(), config: Config::default() }
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.temp.path().join("plugins").join(name), text).unwrap();
        }

        fn remove(&self, name: &str) {
            fs::remove_file(self.temp.path().join("plugins").join(name)).unwrap();
        }

        fn look(&self, files: &Files) -> Look {
            look(&self.config, &Folders::new(self.temp.path(), None, None), files)
        }

        /// The steps in words, and the number of the last attempt.
        fn steps(&mut self) -> (Vec<String>, u64) {
            let (look, mut last) = (self.look(&Files::default()), 0);
            let words = self.roster.compare(look).into_iter().map(|step| match step {
                Step::Load { attempt, key, .. } => {
                    last = attempt;
                    format!("load {key}")
                }
                Step::Start(key, _) => format!("start {key}"),
                Step::Skip { key, .. } => format!("skip {key}"),
                Step::Remove(key) => format!("remove {key}"),
            });
            (words.collect(), last)
        }
    }

    #[test]
    fn unchanged_plugins_keep_running_and_changed_ones_are_loaded() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (steps, attempt) = home.steps();
        assert_eq!(steps, ["load plugin a"]);
        assert!(home.steps().0.is_empty(), "it is being loaded");
        assert!(
            home.roster.is_loading()
                && home.roster.loaded(&Key::metrics("a"), attempt, Ok(())) == Loaded::Run
                && !home.roster.is_loading()
        );
        assert!(home.steps().0.is_empty());
        home.put("a.wasm", "changed");
        assert_eq!(home.steps().0, ["load plugin a"]);
        home.put("a.toml", "engine = \"native\"");
        assert_eq!(home.steps().0, ["load plugin a"]);
        home.remove("a.wasm");
        assert_eq!(home.steps().0, ["remove plugin a"]);
    }

    #[test]
    fn what_others_can_write_to_does_not_run_until_they_cannot() {
        use std::os::unix::fs::PermissionsExt;
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("a.toml", "");
        let folder = home.temp.path().join("plugins");
        let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let problems = |home: &Home| {
            let look = home.look(&Files::default());
            let wanted = look.wanted.into_iter().filter_map(|wanted| wanted.what.err()).flatten();
            wanted.chain(look.refused).collect::<Vec<_>>().join("\n")
        };
        mode(&folder, 0o777);
        let said = problems(&home);
        let expected =
            format!("skipped the plugins in `{0}`: other users can write to `{0}`: chmod go-w {0}", folder.display());
        assert_eq!(said, expected);
        assert!(home.steps().0.is_empty());
        mode(&folder, 0o755);
        mode(&folder.join("a.toml"), 0o666);
        let said = problems(&home);
        assert!(said.contains(&format!("chmod go-w {}", folder.join("a.toml").display())), "{said}");
        assert_eq!(home.steps().0, ["skip plugin a"]);
        mode(&folder.join("a.toml"), 0o644);
        assert_eq!(home.steps().0, ["load plugin a"]);
        // The component itself is checked when it is loaded, and again when its mode has changed.
        mode(&folder.join("a.wasm"), 0o666);
        assert_eq!(home.steps().0, ["load plugin a"]);
    }

    #[test]
    fn a_plugin_that_cannot_be_loaded_is_retried_when_it_changes_or_the_configuration_is_reloaded() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("b.wasm", "");
        let (_, last) = home.steps();
        assert_eq!(home.roster.loaded(&Key::metrics("a"), last - 1, Ok(())), Loaded::Run);
        assert_eq!(home.roster.loaded(&Key::metrics("b"), last, Err(vec!["no".into()])), Loaded::Skipped);
        assert!(home.steps().0.is_empty());
        home.roster.retry(&BTreeSet::new());
        assert_eq!(home.steps().0, ["load plugin b"]);
        home.roster.retry(&[Key::metrics("a")].into());
        assert_eq!(home.steps().0, ["load plugin a"]);
    }

    #[test]
    fn a_thousand_plugins_that_start_together_have_eleven_lines_and_a_later_one_has_its_own() {
        let mut news = News::default();
        let mut start = |number: usize| news.line(&Key::metrics(&format!("p{number:03}")), Event::Runs);
        let lines = (0..1_000).filter_map(&mut start).collect::<Vec<_>>();
        assert_eq!((lines.len(), lines[0].as_str()), (10, "plugin p000 runs"));
        assert_eq!(news.line(&Key::metrics("q"), Event::Removed), None);
        let named = "plugin p010, plugin p011, plugin p012, plugin p013, plugin p014";
        assert_eq!(news.rest(), [format!("{named} and 985 more run"), "plugin q was removed".to_owned()]);
        assert_eq!(news.rest(), Vec::<String>::new());
        assert!(news.line(&Key::metrics("r"), Event::Runs).is_some());
    }

    #[test]
    fn a_reload_does_not_repeat_the_problems_that_the_log_has_but_a_changed_file_does() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let fails = |home: &mut Home, why: &str| {
            let (_, attempt) = home.steps();
            let (key, problems) = (Key::metrics("a"), vec![why.to_owned()]);
            home.roster.news = News { lines: MOST_LINES, ..News::default() };
            assert_eq!(home.roster.loaded(&key, attempt, Err(problems)), Loaded::Skipped);
            home.roster.news.more.contains_key(&Event::StillSkipped)
        };
        assert!(!fails(&mut home, "no"));
        home.roster.retry(&BTreeSet::new());
        assert!(fails(&mut home, "no"));
        home.roster.retry(&BTreeSet::new());
        assert!(!fails(&mut home, "another reason"));
        home.put("a.wasm", "changed");
        assert!(!fails(&mut home, "another reason"));
    }

    #[test]
    fn a_plugin_that_is_replaced_or_fails_all_the_time_has_twenty_lines_an_hour() {
        for fails in [false, true] {
            let mut home = Home::new();
            let key = Key::metrics("a");
            let mut logged = 0;
            for number in 0..100 {
                home.put("a.wasm", &"x".repeat(number));
                let (_, attempt) = home.steps();
                let entry = home.roster.entries.get_mut(&key).unwrap();
                let mut before = entry.lines;
                let result = if fails && number > 0 { Err(vec![format!("reason {number}")]) } else { Ok(()) };
                home.roster.loaded(&key, attempt, result);
                home.roster.tell_rest();
                logged += usize::from(before.admitted("x".into(), clock::instant()).is_some());
            }
            assert_eq!(logged, 20, "{fails}");
        }
    }

    #[test]
    fn a_plugin_that_others_held_up_is_loaded_again_and_one_that_is_broken_is_not() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("b.wasm", "");
        let (_, last) = home.steps();
        for (name, attempt) in [("a", last - 1), ("b", last)] {
            home.roster.loaded(&Key::metrics(name), attempt, Err(vec!["no".into()]));
        }
        home.roster.again(&[Key::metrics("a")].into());
        assert_eq!(home.steps().0, ["load plugin a"]);
        home.roster.again(&[Key::metrics("a")].into());
        assert!(home.steps().0.is_empty(), "it is being loaded");
    }

    #[test]
    fn a_reload_does_not_repeat_why_a_plugin_keeps_running_unchanged() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let key = Key::metrics("a");
        let (_, attempt) = home.steps();
        home.roster.loaded(&key, attempt, Ok(()));
        home.put("a.wasm", "changed");
        for is_known in [false, true, true] {
            let (_, attempt) = home.steps();
            home.roster.news = News { lines: MOST_LINES, ..News::default() };
            assert_eq!(home.roster.loaded(&key, attempt, Err(vec!["no".into()])), Loaded::KeepsRunning);
            assert_eq!(home.roster.news.more.contains_key(&Event::StillUnchanged), is_known);
            home.roster.retry(&BTreeSet::new());
        }
    }

    #[test]
    fn the_result_of_a_superseded_attempt_is_ignored() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (_, first) = home.steps();
        home.put("a.wasm", "changed");
        let (_, second) = home.steps();
        assert_eq!(home.roster.loaded(&Key::metrics("a"), first, Ok(())), Loaded::Superseded);
        assert_eq!(home.roster.loaded(&Key::metrics("a"), second, Ok(())), Loaded::Run);
    }

    #[test]
    fn with_invalid_settings_the_plugin_keeps_running_unchanged() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (_, attempt) = home.steps();
        home.roster.loaded(&Key::metrics("a"), attempt, Ok(()));
        home.put("a.toml", "bad");
        assert_eq!(home.steps().0, ["skip plugin a"]);
        assert_eq!(home.roster.entries.get(&Key::metrics("a")).unwrap().runs, Runs::Component);
        home.put("a.toml", "engine = \"native\"");
        assert_eq!(home.steps().0, ["load plugin a"]);
    }

    #[test]
    fn the_file_of_a_configured_plugin_does_not_run_twice_and_a_taken_name_is_refused() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("web.wasm", "");
        home.config.metrics = vec![component("web", "a")];
        assert_eq!(home.steps().0, ["load plugin web"]);
        assert_eq!(home.roster.refused.len(), 1);
        home.config.metrics = vec![component("web", "a"), component("none", "none")];
        assert_eq!(home.steps().0, ["skip plugin none"], "there is no such file");
        home.config.metrics.clear();
        assert_eq!(home.steps().0, ["load plugin a", "load plugin web", "remove plugin none"]);
    }

    #[test]
    fn a_file_with_the_name_of_a_program_is_refused() {
        let mut home = Home::new();
        home.put("dice.wasm", "");
        home.config = parsed("[plugin.metrics.dice]\ncommand = \"dice\"\n");
        assert_eq!(home.steps().0, ["start plugin dice"]);
        assert_eq!(home.roster.refused.len(), 1);
    }

    #[test]
    fn a_name_that_could_control_a_terminal_is_refused() {
        let mut home = Home::new();
        home.put("a\tb\u{1b}[2J.wasm", "");
        assert!(home.steps().0.is_empty());
        assert_eq!(home.roster.refused.len(), 1);
    }

    #[test]
    fn an_incomplete_file_neither_runs_nor_stops_what_runs() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let young = Files::at(clock::wall());
        let look = home.look(&young);
        assert!(look.again && look.wanted.is_empty());
        home.steps();
        let look = home.look(&young);
        assert!(home.roster.compare(look).is_empty());
    }

    #[test]
    fn a_check_and_a_metrics_plugin_of_one_name_are_two_and_each_is_loaded() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.config = parsed("[plugin.metrics.a]\nwasm = \"a\"\n[plugin.checks.a]\nwasm = \"a\"\n");
        assert_eq!(home.steps().0, ["load plugin a", "load check a"]);
        home.config = parsed("[plugin.checks.a]\nwasm = \"a\"\n[plugin.metadata.a]\nwasm = \"a\"\n");
        assert_eq!(home.steps().0, ["load metadata a", "load plugin a"], "the file runs without a table now");
    }

    #[test]
    fn an_official_command_line_follows_the_installation_and_removal_of_its_program() {
        use std::os::unix::fs::PermissionsExt;
        let mut home = Home::new();
        home.put("nginx.wasm", "");
        let program = home.temp.path().join("mackerel-plugin-nginx");
        home.config = parsed(&format!("[plugin.metrics.web]\ncommand = \"{} -port 1\"\n", program.display()));
        let (steps, attempt) = home.steps();
        assert_eq!(steps, ["load plugin web"]);
        home.roster.loaded(&Key::metrics("web"), attempt, Ok(()));
        assert!(home.steps().0.is_empty());
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(home.steps().0.is_empty(), "a file that cannot be executed does not count as installed");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(home.steps().0, ["start plugin web"]);
        fs::remove_file(&program).unwrap();
        assert_eq!(home.steps().0, ["load plugin web"]);
    }

    #[test]
    fn a_variable_that_is_not_set_is_warned_about_where_no_program_of_the_line_is_installed() {
        let mut home = Home::new();
        home.put("nginx.wasm", "");
        for (command, expected) in [
            ("mackerel-plugin-nginx -host=$WASABA_NO_SUCH", true),
            ("DOCKER_HOST=$WASABA_NO_SUCH mackerel-plugin-docker", true),
            ("mackerel-plugin-nginx -host='$WASABA_NO_SUCH'", false),
            ("mackerel-plugin-mysql -host=$WASABA_NO_SUCH", false),
        ] {
            home.config = parsed(&format!("\n[plugin.metrics.web]\ncommand = {command:?}\n"));
            let look = home.look(&Files::default());
            let wanted = look.wanted.iter().find(|wanted| wanted.key == Key::metrics("web")).unwrap();
            let said = wanted.warnings.concat();
            let begin = "agent.conf:2: `command` of [plugin.metrics.web]: `$WASABA_NO_SUCH` is not set";
            assert_eq!(said.starts_with(begin), expected, "{command}: {said}");
        }
    }

    #[test]
    fn a_metrics_plugin_that_cannot_be_replaced_keeps_running_and_a_check_does_not() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let table = |settings: &str| {
            let settings = format!("wasm = \"a\"\nsettings = {{ {settings} }}\n");
            parsed(&format!("[plugin.metrics.a]\n{settings}[plugin.checks.a]\n{settings}"))
        };
        home.config = table("url = \"old\"");
        let (_, last) = home.steps();
        let (metrics, check) = (Key::metrics("a"), Key::check(&"a".into()));
        assert_eq!(home.roster.loaded(&metrics, last - 1, Ok(())), Loaded::Run);
        assert_eq!(home.roster.loaded(&check, last, Ok(())), Loaded::Run);
        home.config = table("url = \"new\"");
        let (_, last) = home.steps();
        let failed = || Err(vec!["no".to_owned()]);
        assert_eq!(home.roster.loaded(&metrics, last - 1, failed()), Loaded::KeepsRunning);
        assert_eq!(home.roster.loaded(&check, last, failed()), Loaded::Skipped);
    }

    #[test]
    fn a_program_stops_when_what_is_configured_in_its_place_cannot_run() {
        let mut home = Home::new();
        home.config = parsed("[plugin.metrics.a]\ncommand = \"true\"\n");
        assert_eq!(home.steps().0, ["start plugin a"]);
        home.config = parsed("[plugin.metrics.a]\nwasm = \"absent\"\n");
        let look = home.look(&Files::default());
        let [Step::Skip { keeps: false, .. }] = &home.roster.compare(look)[..] else { panic!("it stops") };
    }
}
