//! The roster: which plugins are wanted, by the configuration and by the files dropped into a folder, and what is to be done
//! so that these run and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::table::PluginTable;
use wasaba_core::text::printable;

use crate::folder::{Folders, Stamp};
use crate::watch::{Files, Wholeness};

/// A line of the log about a plugin is cut here.
const LONGEST_LINE_BYTES: usize = 4_096;

/// Reads the settings beside a component: the table, if it can be used, and what is to be said of it.
pub type Beside = fn(&Path) -> (Option<PluginTable>, Vec<String>);

/// A plugin as it is wanted. The same again means that nothing has changed.
#[derive(Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its table and its component, or what keeps it from being tried.
    pub what: Result<(PluginTable, PathBuf), Vec<String>>,
    /// What the operator should know all the same.
    pub warnings: Vec<String>,
    /// The component's stamp, and that of the settings beside it.
    stamps: (Option<Stamp>, Option<Stamp>),
}

/// What a look at the configuration and the folders found.
#[derive(Default)]
pub struct Look {
    /// What is wanted.
    pub wanted: Vec<Wanted>,
    /// Names whose files are being written: these stay as they are.
    unfinished: BTreeSet<String>,
    /// Files that cannot be wanted, and why.
    refused: BTreeSet<String>,
    /// Files are too young to be read, and nobody will tell when they are not.
    pub again: bool,
}

/// Looks at the configured `tables` and the files in the `folders`, leaving out what is not whole yet, and files whose names are
/// `taken`. Reads files, so it
/// may block.
#[must_use]
pub fn look(tables: &[PluginTable], taken: &[Arc<str>], folders: &Folders, beside: Beside, files: &Files) -> Look {
    let mut look = Look::default();
    let mut names = taken.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let mut configured = BTreeSet::new();
    for table in tables {
        names.insert(table.name.clone());
        let file = folders.find(&table.wasm).map_err(|problem| vec![table.raw.problem(&problem)]);
        if let Ok(file) = &file {
            configured.insert(file.clone());
            if !look.is_whole(&table.name, &[file], files) {
                continue;
            }
        }
        let stamps = (file.as_ref().ok().and_then(|file| Stamp::of(file)), None);
        let what = file.map(|file| (table.clone(), file));
        look.wanted.push(Wanted { name: table.name.clone(), what, warnings: Vec::new(), stamps });
    }
    for file in folders.dropped_in().into_iter().filter(|file| !configured.contains(file)) {
        let Some(name) = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { continue };
        if shown(&name) != name {
            look.refused.insert(format!("`{}` is left out: rename it to plain letters", file.display()));
            continue;
        }
        if !names.insert(name.clone()) {
            let refused = format!("`{}` is left out: there is a plugin of this name already", file.display());
            look.refused.insert(refused);
            continue;
        }
        let settings = file.with_extension("toml");
        if !look.is_whole(&name, &[&file, &settings], files) {
            continue;
        }
        // Before they are read: what changes meanwhile looks changed the next time.
        let stamps = (Stamp::of(&file), Stamp::of(&settings));
        look.wanted.push(match beside(&file) {
            (Some(table), warnings) => Wanted { name, what: Ok((table, file)), warnings, stamps },
            (None, problems) => Wanted { name, what: Err(problems), warnings: Vec::new(), stamps },
        });
    }
    look
}

impl Look {
    fn is_whole(&mut self, name: &str, paths: &[&Path], files: &Files) -> bool {
        let mut whole = true;
        for path in paths {
            let wholeness = files.wholeness(path);
            whole &= wholeness == Wholeness::Whole;
            self.again |= wholeness == Wholeness::Young;
        }
        if !whole {
            self.unfinished.insert(name.to_owned());
        }
        whole
    }

    /// Logs what is wrong with what was found, and gives the rest: for a command that looks once.
    pub fn usable(self) -> impl Iterator<Item = (PluginTable, PathBuf)> {
        for refused in &self.refused {
            tracing::error!("{}", shown(refused));
        }
        self.wanted.into_iter().filter_map(|wanted| {
            for warning in &wanted.warnings {
                tracing::warn!("{}", shown(warning));
            }
            wanted.what.map_err(|problems| left_out(&wanted.name, &problems)).ok()
        })
    }
}

/// Logs why a plugin does not run.
pub fn left_out(name: &str, problems: &[String]) {
    for problem in problems {
        tracing::error!("plugin {} is left out: {}", shown(name), shown(problem));
    }
}

fn shown(text: &str) -> String {
    printable(text, LONGEST_LINE_BYTES)
}

/// The plugins that run or are being loaded.
#[derive(Default)]
pub struct Roster {
    entries: BTreeMap<String, Entry>,
    refused: BTreeSet<String>,
    attempts: u64,
}

struct Entry {
    /// What was tried last; `None` has it tried again.
    tried: Option<Wanted>,
    attempt: u64,
    /// How the last attempt ended; `None` while it is under way.
    ended: Option<bool>,
    /// One runs, of this attempt or an earlier one.
    runs: bool,
}

/// What is to be done.
#[derive(Debug)]
pub enum Step {
    /// Load this, and tell [`Roster::loaded`] how it went.
    Load {
        /// Tells this attempt from others for the same name.
        attempt: u64,
        /// What is to be loaded.
        table: Box<PluginTable>,
        /// Of which component.
        file: PathBuf,
    },
    /// Stop the one of this name, or stop loading it.
    Remove(String),
}

impl Roster {
    /// What is to be done so that what was found runs. Says what is wrong with it, once for each state of the files.
    pub fn compare(&mut self, look: Look) -> Vec<Step> {
        for refused in look.refused.difference(&self.refused) {
            tracing::error!("{}", shown(refused));
        }
        self.refused = look.refused;
        let mut steps = Vec::new();
        let mut names = look.unfinished;
        for wanted in look.wanted {
            names.insert(wanted.name.clone());
            steps.extend(self.want(wanted));
        }
        let gone = self.entries.keys().filter(|name| !names.contains(*name)).cloned().collect::<Vec<_>>();
        for name in gone {
            if self.entries.remove(&name).is_some_and(|entry| entry.runs) {
                tracing::info!("plugin {} was removed", shown(&name));
            }
            steps.push(Step::Remove(name));
        }
        steps
    }

    fn want(&mut self, wanted: Wanted) -> Option<Step> {
        let runs = match self.entries.get(&wanted.name) {
            Some(entry) if entry.tried.as_ref() == Some(&wanted) => return None,
            Some(entry) => entry.runs,
            None => false,
        };
        for warning in &wanted.warnings {
            tracing::warn!("{}", shown(warning));
        }
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = self.attempts;
        let (name, what) = (wanted.name.clone(), wanted.what.clone());
        self.entries.insert(name.clone(), Entry { tried: Some(wanted), attempt, ended: None, runs });
        match what {
            Ok((table, file)) => Some(Step::Load { attempt, table: Box::new(table), file }),
            Err(problems) => {
                self.loaded(&name, attempt, Err(problems));
                None
            }
        }
    }

    /// Takes note of how loading went. Returns whether what was loaded is to run; it is not if something else is wanted by now.
    pub fn loaded(&mut self, name: &str, attempt: u64, result: Result<(), Vec<String>>) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.attempt == attempt) else { return false };
        entry.ended = Some(result.is_ok());
        match result {
            Ok(()) => {
                let change = if entry.runs { "was replaced" } else { "runs" };
                tracing::info!("plugin {} {change}", shown(name));
                entry.runs = true;
            }
            Err(problems) if entry.runs => {
                for problem in problems {
                    tracing::error!("plugin {} goes on as it was: {}", shown(name), shown(&problem));
                }
                return false;
            }
            Err(problems) => {
                left_out(name, &problems);
                return false;
            }
        }
        true
    }

    /// Has everything tried again that failed, and what is `troubled`, when it is next compared.
    pub fn try_again(&mut self, troubled: &BTreeSet<String>) {
        for (name, entry) in &mut self.entries {
            if entry.ended == Some(false) || troubled.contains(name) {
                entry.tried = None;
            }
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
    use std::time::SystemTime;

    use config::raw::RawSettings;

    use super::*;

    fn table(name: &str, wasm: &str) -> PluginTable {
        let raw = RawSettings { place: format!("[plugin.metrics.{name}]"), ..RawSettings::default() };
        PluginTable { name: name.into(), wasm: wasm.into(), raw, ..PluginTable::default() }
    }

    /// Settings that hold `bad` cannot be used.
    fn beside(file: &Path) -> (Option<PluginTable>, Vec<String>) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let is_bad = fs::read_to_string(file.with_extension("toml")).is_ok_and(|text| text == "bad");
        if is_bad {
            (None, vec!["bad settings".into()])
        } else {
            (Some(table(name, file.to_str().unwrap())), Vec::new())
        }
    }

    struct Home {
        temp: tempfile::TempDir,
        roster: Roster,
        tables: Vec<PluginTable>,
        taken: Vec<Arc<str>>,
    }

    impl Home {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            fs::create_dir(temp.path().join("plugins")).unwrap();
            Self { temp, roster: Roster::default(), tables: Vec::new(), taken: Vec::new() }
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.temp.path().join("plugins").join(name), text).unwrap();
        }

        fn remove(&self, name: &str) {
            fs::remove_file(self.temp.path().join("plugins").join(name)).unwrap();
        }

        fn look(&self, files: &Files) -> Look {
            look(&self.tables, &self.taken, &Folders::new(self.temp.path(), None, None), beside, files)
        }

        /// What is to be done, in words, and the last attempt's number.
        fn steps(&mut self) -> (Vec<String>, u64) {
            let (look, mut last) = (self.look(&Files::default()), 0);
            let words = self.roster.compare(look).into_iter().map(|step| match step {
                Step::Load { attempt, table, .. } => {
                    last = attempt;
                    format!("load {}", table.name)
                }
                Step::Remove(name) => format!("remove {name}"),
            });
            (words.collect(), last)
        }
    }

    #[test]
    fn what_has_not_changed_is_left_alone_and_what_has_is_loaded() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (steps, attempt) = home.steps();
        assert_eq!(steps, ["load a"]);
        assert!(home.steps().0.is_empty(), "it is being loaded");
        assert!(home.roster.is_loading() && home.roster.loaded("a", attempt, Ok(())) && !home.roster.is_loading());
        assert!(home.steps().0.is_empty());
        home.put("a.wasm", "changed");
        assert_eq!(home.steps().0, ["load a"]);
        home.put("a.toml", "settings");
        assert_eq!(home.steps().0, ["load a"]);
        home.remove("a.wasm");
        assert_eq!(home.steps().0, ["remove a"]);
    }

    #[test]
    fn what_failed_is_not_tried_again_until_it_changes_or_the_configuration_is_read_again() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("b.wasm", "");
        let (_, last) = home.steps();
        assert!(home.roster.loaded("a", last - 1, Ok(())));
        assert!(!home.roster.loaded("b", last, Err(vec!["no".into()])));
        assert!(home.steps().0.is_empty());
        home.roster.try_again(&BTreeSet::new());
        assert_eq!(home.steps().0, ["load b"]);
        home.roster.try_again(&["a".to_owned()].into());
        assert_eq!(home.steps().0, ["load a"]);
    }

    #[test]
    fn an_attempt_that_was_overtaken_has_no_say() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (_, first) = home.steps();
        home.put("a.wasm", "changed");
        let (_, second) = home.steps();
        assert!(!home.roster.loaded("a", first, Ok(())));
        assert!(home.roster.loaded("a", second, Ok(())));
    }

    #[test]
    fn settings_that_cannot_be_used_keep_what_runs_running() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let (_, attempt) = home.steps();
        home.roster.loaded("a", attempt, Ok(()));
        home.put("a.toml", "bad");
        assert!(home.steps().0.is_empty());
        assert!(home.roster.entries.get("a").unwrap().runs);
        home.put("a.toml", "good");
        assert_eq!(home.steps().0, ["load a"]);
    }

    #[test]
    fn a_file_of_a_configured_plugin_does_not_run_a_second_time_and_a_taken_name_is_refused() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        home.put("web.wasm", "");
        home.tables = vec![table("web", "a")];
        assert_eq!(home.steps().0, ["load web"]);
        assert_eq!(home.roster.refused.len(), 1);
        home.tables = vec![table("web", "a"), table("none", "none")];
        assert!(home.steps().0.is_empty(), "there is no such file, which is said");
        home.tables.clear();
        assert_eq!(home.steps().0, ["load a", "load web", "remove none"]);
    }

    #[test]
    fn a_file_with_the_name_of_a_program_is_refused() {
        let mut home = Home::new();
        home.put("dice.wasm", "");
        home.taken = vec!["dice".into()];
        assert!(home.steps().0.is_empty() && home.roster.refused.len() == 1);
    }

    #[test]
    fn a_name_that_could_steer_a_terminal_is_refused() {
        let mut home = Home::new();
        home.put("a\tb\u{1b}[2J.wasm", "");
        assert!(home.steps().0.is_empty());
        assert_eq!(home.roster.refused.len(), 1);
    }

    #[test]
    fn a_file_that_is_not_whole_neither_runs_nor_stops_what_runs() {
        let mut home = Home::new();
        home.put("a.wasm", "");
        let young = Files::at(SystemTime::now());
        let look = home.look(&young);
        assert!(look.again && look.wanted.is_empty());
        home.steps();
        let look = home.look(&young);
        assert!(home.roster.compare(look).is_empty());
    }
}
