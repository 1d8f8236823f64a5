//! The keeper: sees to it that the plugins that run are those that are wanted, as files come and go and the configuration is
//! read again.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use config::Config;
use config::check::Runner;
use config::document::Level;
use config::table::PluginTable;
use sandbox::thread::Sandbox;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::folder::Folders;
use crate::instance::Instance;
use crate::loader::Loader;
use crate::register::{Entry, Register};
use crate::roster::{Look, Roster, Step, left_out, look};
use crate::watch::{Files, Watch, attach};

/// What becomes of the plugins while the agent runs.
pub enum Change {
    /// This one is to be asked from now on, in place of the one of its name.
    Runs(Arc<Instance>, Arc<Sandbox>),
    /// The one of this name is not wanted any more.
    Gone(String),
    /// All that were there at the start have been tried.
    Settled,
    /// The keeper wishes to know which plugins are in trouble.
    Troubled(oneshot::Sender<BTreeSet<String>>),
}

/// The folders of this configuration's plugins.
#[must_use]
pub fn folders(config: &Config) -> Folders {
    let executable = std::env::current_exe().ok();
    Folders::new(&config.root, config.plugins.as_deref(), executable.as_deref())
}

/// What loads this configuration's plugins.
///
/// # Errors
/// There is no place to keep compiled plugins.
pub fn loader(config: &Config) -> Result<Loader, String> {
    Loader::new(&config.root, folders(config))
}

/// Every plugin of the configuration that can be loaded; what is wrong with the others is logged.
pub async fn instances(config: &Config, loader: &Loader) -> Vec<Instance> {
    let mut instances = Vec::new();
    let found = look(&config.plugin_tables, &names(config), &loader.folders, beside, &Files::default());
    for (table, file) in found.usable() {
        match loader.instance(&table, &file).await {
            Ok(instance) => instances.push(instance),
            Err(problems) => left_out(&table.name, &problems),
        }
    }
    instances
}

/// The names that programs have taken.
fn names(config: &Config) -> Vec<Arc<str>> {
    config.programs.iter().map(|program| Arc::clone(&program.name)).collect()
}

/// What is wrong with the components of this configuration: each is loaded, with its settings. Compiled ones are kept in its root.
/// What is said of a `command` for a program is a note: it was right when the program was there, which would tell it itself.
pub async fn problems(config: &Config) -> Vec<(Level, String)> {
    let checks = config.checks.iter().map(|check| &check.runner).chain(config.metadata.iter().map(|told| &told.runner));
    let others = checks.filter_map(|runner| match runner {
        Runner::Component(table) => Some(&**table),
        Runner::Program(_) => None,
    });
    let tables = config.plugin_tables.iter().chain(others).cloned().collect::<Vec<_>>();
    if tables.is_empty() {
        return Vec::new();
    }
    let loader = match loader(config) {
        Ok(loader) => loader,
        Err(why) => {
            let why = format!("the components were not looked at: {why}; configtest needs the rights of the agent");
            return vec![(Level::Error, why)];
        }
    };
    let mut problems = Vec::new();
    for table in tables {
        let found = match loader.folders.find(&table.wasm) {
            Ok(file) => loader.instance(&table, &file).await.err().unwrap_or_default(),
            Err(problem) => vec![table.raw.problem(&problem)],
        };
        let level = if table.raw.command_line.is_some() { Level::Note } else { Level::Error };
        problems.extend(found.into_iter().map(|problem| (level, problem)));
    }
    problems
}

fn beside(file: &Path) -> (Option<PluginTable>, Vec<String>) {
    let texts = |problems: Vec<config::document::Problem>| problems.iter().map(ToString::to_string).collect();
    match config::plugin::beside(file) {
        Ok((table, warnings)) => (Some(table), texts(warnings)),
        Err(problems) => (None, texts(problems)),
    }
}

/// Keeps the plugins of the newest configuration running, and tells of each one that is to be asked, or not any more.
/// What became of each is noted in the `register`.
pub async fn keep(
    mut configs: watch::Receiver<Arc<Config>>,
    register: Register,
    changes: mpsc::UnboundedSender<Change>,
) {
    let first = configs.borrow().clone();
    let Ok(loader) = tokio::task::spawn_blocking(move || loader(&first)).await else { return };
    let loader = match loader {
        Ok(loader) => Arc::new(loader),
        Err(why) => return tracing::error!("no plugins: {why}"),
    };
    let (roster, loading, aborts) = (Roster::default(), JoinSet::new(), HashMap::new());
    let mut keeper = Keeper { loader, roster, loading, aborts, register, changes };
    let mut watch = Watch::new();
    let mut settled = false;
    loop {
        let config = configs.borrow_and_update().clone();
        let again = keeper.look(&config, &mut watch).await;
        loop {
            if !settled && !again && !keeper.roster.is_loading() {
                settled = true;
                keeper.tell(Change::Settled);
            }
            tokio::select! {
                () = watch.changed() => break,
                Ok(()) = configs.changed() => {
                    keeper.try_again().await;
                    break;
                }
                Some(loaded) = keeper.loading.join_next() => {
                    if let Ok(loaded) = loaded {
                        keeper.take(loaded);
                    }
                }
            }
        }
    }
}

/// How an attempt to load ended.
struct Attempt {
    name: String,
    attempt: u64,
    result: Result<Instance, Vec<String>>,
}

struct Keeper {
    loader: Arc<Loader>,
    roster: Roster,
    loading: JoinSet<Attempt>,
    /// What ends the last attempt for a name.
    aborts: HashMap<String, AbortHandle>,
    register: Register,
    changes: mpsc::UnboundedSender<Change>,
}

impl Keeper {
    /// Looks at what is wanted and begins to load what is new in it. Returns whether there is more to see soon.
    async fn look(&mut self, config: &Arc<Config>, watch: &mut Watch) -> bool {
        let (config, ear, files) = (Arc::clone(config), watch.ear(), watch.files(SystemTime::now()));
        let looking = tokio::task::spawn_blocking(move || {
            let folders = folders(&config);
            // Before the look: what changes after it is heard of.
            let watched = attach(&ear, folders.drop_in());
            (watched, look(&config.plugin_tables, &names(&config), &folders, beside, &files))
        });
        let Ok((watched, found)) = looking.await else { return false };
        let again = found.again;
        watch.looked(watched, again);
        self.follow(found);
        again
    }

    fn follow(&mut self, found: Look) {
        for wanted in &found.wanted {
            if let Err(problems) = &wanted.what {
                self.register.leave_out(wanted.name.as_str().into(), problems.clone());
            }
        }
        for step in self.roster.compare(found) {
            match step {
                Step::Load { attempt, table, file } => {
                    let (name, loader) = (table.name.clone(), Arc::clone(&self.loader));
                    let abort = self.loading.spawn(async move {
                        let result = loader.instance(&table, &file).await;
                        Attempt { name: table.name, attempt, result }
                    });
                    if let Some(overtaken) = self.aborts.insert(name, abort) {
                        overtaken.abort();
                    }
                }
                Step::Remove(name) => {
                    if let Some(abort) = self.aborts.remove(&name) {
                        abort.abort();
                    }
                    self.register.remove(&name);
                    self.tell(Change::Gone(name));
                }
            }
        }
    }

    fn take(&mut self, loaded: Attempt) {
        let Attempt { name, attempt, result } = loaded;
        let (instance, result) = match result {
            Ok(instance) => (Some(instance), Ok(())),
            Err(problems) => {
                self.register.leave_out(name.as_str().into(), problems.clone());
                (None, Err(problems))
            }
        };
        if self.roster.loaded(&name, attempt, result)
            && let Some(instance) = instance
        {
            let instance = Arc::new(instance);
            self.register.put(Arc::clone(instance.name()), Entry::Running(Arc::clone(&instance)));
            self.tell(Change::Runs(instance, Arc::clone(&self.loader.sandbox)));
        }
    }

    /// Has what failed or is in trouble tried again.
    async fn try_again(&mut self) {
        let (tell, told) = oneshot::channel();
        self.tell(Change::Troubled(tell));
        self.roster.try_again(&told.await.unwrap_or_default());
    }

    fn tell(&self, change: Change) {
        if self.changes.send(change).is_err() {
            tracing::debug!("nobody asks plugins any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The next word of the keeper.
    async fn next(changes: &mut mpsc::UnboundedReceiver<Change>) -> Change {
        let change = tokio::time::timeout(Duration::from_secs(20), changes.recv()).await;
        change.expect("the keeper says nothing").expect("the keeper has ended")
    }

    #[tokio::test]
    async fn a_keeper_says_when_all_were_tried_and_asks_who_is_in_trouble_when_the_configuration_is_read_again() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("plugins")).unwrap();
        std::fs::write(temp.path().join("plugins/broken.wasm"), "no component").unwrap();
        let config = Arc::new(Config { root: temp.path().into(), ..Config::default() });
        let (configs, config) = (watch::Sender::new(Arc::clone(&config)), config);
        let (changed, mut changes) = mpsc::unbounded_channel();
        let keeper = tokio::spawn(keep(configs.subscribe(), Register::default(), changed));
        assert!(matches!(next(&mut changes).await, Change::Settled));
        configs.send_replace(config);
        let Change::Troubled(tell) = next(&mut changes).await else { panic!("it did not ask") };
        tell.send(BTreeSet::new()).unwrap();
        std::fs::remove_file(temp.path().join("plugins/broken.wasm")).unwrap();
        let Change::Gone(name) = next(&mut changes).await else { panic!("it did not see the file go") };
        assert_eq!(name, "broken");
        keeper.abort();
    }
}
