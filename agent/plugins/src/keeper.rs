//! The keeper: keeps the plugins of the configuration and of the drop-in folders running, as files appear and disappear,
//! official programs are installed or removed, and the configuration is reloaded.
//!
//! It owns every metrics plugin, whether it is a component, a program or a Docker engine instead of the official plugin, and the
//! components of checks and metadata.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use config::Config;
use config::check::Runner;
use config::document::{Level, Problem};
use config::metrics::{Metrics, StandIn};
use config::table::PluginTable;
use official::command::Search;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use wasaba_core::clock;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::registry::{Graphs, Registered, Registry};
use wasaba_core::collect::source::Source;
use wasaba_core::lines::ABOUT_PLUGINS;
use wasaba_core::paths::patient::{self, LOOK};
use wasaba_core::text::{duration, printable};

use crate::folder::Folders;
use crate::instance::Instance;
use crate::key::{Key, Kind};
use crate::loader::Loader;
use crate::register::Register;
use crate::roster::{Candidate, Loaded, Look, Roster, Step, look};
use crate::unloaded::Unloaded;
use crate::watch::{Files, Watch, attach};

/// How often the keeper checks whether an official plugin's program was installed or removed.
const INSTALLED_EVERY: Duration = Duration::from_secs(15);

/// After this time the log says that a plugin is being loaded.
const MOMENT: Duration = Duration::from_secs(3);

/// At most so many times until all are.
const MOST_SAID: u32 = 3;

/// When a component that other plugins held up is loaded again.
const LOADED_AGAIN_AFTER: Duration = Duration::from_mins(5);

/// The folders of the configuration's plugins.
#[must_use]
pub fn folders(config: &Config) -> Folders {
    let executable = std::env::current_exe().ok();
    Folders::new(&config.root, config.plugins.as_deref(), executable.as_deref())
}

/// The loader of the configuration's plugins.
///
/// # Errors
/// The thread that runs them cannot be started.
pub fn loader(config: &Config) -> Result<Loader, String> {
    Loader::new(&config.root, folders(config))
}

/// Everything that should run now, by the configuration and the drop-in folders; logs the problems of the rest. Reads files, so
/// it may block.
pub fn candidates(config: &Config) -> impl Iterator<Item = (Key, Candidate)> {
    look(config, &folders(config), &Files::default()).usable()
}

/// The problems of the components, those of the configuration and those in the drop-in folders: loads each with its settings, as the
/// keeper does; without those in the root, if that cannot be used. Compiled ones are cached in the root. An official command line is loaded only where its program is not installed.
pub async fn problems(config: &Config, has_root: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tables = Vec::new();
    let mut engines = config.docker.iter().map(|docker| ("docker", "[docker]".to_owned(), docker)).collect::<Vec<_>>();
    let mut add = |level, text: &str| problems.push(Problem::of_flag(level, text.to_owned()));
    for plugin in &config.metrics {
        match &plugin.runs {
            Metrics::Component(table) => tables.push((Kind::Metrics, (**table).clone(), None)),
            Metrics::Official(line) if line.search.is_installed() => {}
            Metrics::Official(line) => match (&line.stand_in, &line.unset) {
                (StandIn::Component(table), unset) => {
                    tables.push((Kind::Metrics, (**table).clone(), Some(unset.clone())));
                }
                (StandIn::Docker(Err(why)), _) => add(Level::Invalid, why),
                (StandIn::Docker(Ok(docker)), unset) => {
                    engines.push(("", format!("[plugin.metrics.{}]", plugin.name), docker));
                    unset.iter().for_each(|unset| add(Level::Warning, unset));
                }
            },
            Metrics::Program(_) => {}
        }
    }
    for (key, table, docker) in engines {
        let found = docker.endpoint.check(&docker.trust).err().unwrap_or_default();
        let found =
            found.iter().map(|why| config.places.problem(key, Level::Invalid, format!("{table}: `tls`: {why}")));
        problems.extend(found);
    }
    let mut add = |level, text: &str| problems.push(Problem::of_flag(level, text.to_owned()));
    let checks = config.checks.iter().map(|check| (Kind::Check, &check.runner));
    let runners = checks.chain(config.metadata.iter().map(|metadata| (Kind::Metadata, &metadata.runner)));
    tables.extend(runners.filter_map(|(kind, runner)| match runner {
        Runner::Component(table) => Some((kind, (**table).clone(), None)),
        Runner::Program(_) => None,
    }));
    let folders = folders(config);
    let folders = if has_root { folders } else { folders.without_root() };
    let look = look(config, &folders, &Files::default());
    look.refused.iter().for_each(|why| add(Level::Invalid, why));
    if let Some(folder) = &config.plugins
        && patient::ask(folder, LOOK, |folder| !folder.exists()).unwrap_or_default()
    {
        let why = "does not exist; what is dropped there will run once it does";
        add(Level::Note, &format!("`plugins`: the folder `{}` {why}", folder.display()));
    }
    let mut dropped_in = Vec::new();
    for wanted in look.wanted.into_iter().skip(look.configured) {
        wanted.warnings.iter().for_each(|warning| add(Level::Warning, warning));
        match wanted.what {
            Ok(Candidate::Component(table, file)) => dropped_in.push((*table, file)),
            Ok(_) => {}
            Err(found) => found.iter().for_each(|why| add(Level::Invalid, why)),
        }
    }
    if tables.is_empty() && dropped_in.is_empty() {
        return problems;
    }
    let loader = match loader(config) {
        Ok(loader) => loader,
        Err(why) => {
            add(Level::Error, &format!("cannot check the components: {why}; run configtest as the agent's user"));
            return problems;
        }
    };
    for (kind, table, official) in tables {
        let found: Vec<(Level, String)> = match loader.folders.find(&table.wasm) {
            Ok(file) => match loader.instance(kind, &table, &file).await {
                Ok(_) => Vec::new(),
                // Where it is installed, the official program exits for it: a line like those of its sample file, which was never used.
                Err(unloaded) if official.is_some() && loader.lacks_only_settings(&table, &file).await => {
                    let until =
                        format!("; skipped until it is there, as mackerel-plugin-{} exits without it", table.wasm);
                    unloaded.problems.into_iter().map(|text| (Level::Note, text + &until)).collect()
                }
                Err(unloaded) => unloaded.problems.into_iter().map(|text| (Level::Invalid, text)).collect(),
            },
            Err(problem) => vec![(Level::Invalid, table.raw.problem(&problem))],
        };
        let unset = official.flatten().filter(|_| found.is_empty());
        problems.extend(found.into_iter().map(|(level, text)| Problem::of_flag(level, text)));
        problems.extend(unset.map(|unset| Problem::of_flag(Level::Warning, unset)));
    }
    for (table, file) in dropped_in {
        let found = loader.instance(Kind::Metrics, &table, &file).await.err().unwrap_or_default();
        problems.extend(found.problems.into_iter().map(|why| Problem::of_flag(Level::Invalid, why)));
    }
    problems
}

/// What a keeper works with.
pub struct Context {
    /// Where the sources of metrics plugins are added.
    pub registry: Registry,
    /// Where the state of each component is recorded.
    pub register: Register,
    /// The values that plugins store, and their counters' readings from before a restart.
    pub memory: Arc<dyn Memory>,
    /// Sees all that should run, each time before it does.
    pub witness: Witness,
}

/// Sees what should run by a configuration. Returns whether it may; else the agent is about to end.
pub type Witness = Arc<dyn Fn(&Config, &Look) -> bool + Send + Sync>;

/// Keeps the plugins of the newest configuration running. `ready` is sent when loading was tried for all that existed at the
/// start.
pub async fn keep(mut configs: watch::Receiver<Arc<Config>>, context: Context, ready: oneshot::Sender<()>) {
    let first = configs.borrow().clone();
    let Ok(loader) = tokio::task::spawn_blocking(move || loader(&first)).await else { return };
    let loader = match loader {
        Ok(loader) => Arc::new(loader),
        Err(why) => {
            context.register.fail(why.clone());
            return tracing::error!("cannot load any plugin: {why}");
        }
    };
    let (roster, loading, aborts, running) = (Roster::default(), JoinSet::new(), HashMap::new(), HashMap::new());
    let (held_up, said_loading) = (HeldUp::default(), Arc::default());
    let mut keeper = Keeper { loader, roster, loading, said_loading, aborts, running, held_up, context };
    let mut watch = Watch::new();
    let mut ready = Some(ready);
    loop {
        let config = configs.borrow_and_update().clone();
        let (again, installed) = keeper.look(&config, &mut watch).await;
        let mut installation = pin!(installation(&config, installed));
        loop {
            keeper.roster.tell_rest();
            if !again
                && !keeper.roster.is_loading()
                && let Some(ready) = ready.take()
            {
                keeper.forget(&config).await;
                // It fails if the collecting loop no longer waits.
                ready.send(()).ok();
            }
            tokio::select! {
                () = watch.changed() => break,
                () = &mut installation => break,
                keys = keeper.held_up.due() => {
                    keeper.roster.again(&keys);
                    break;
                }
                Ok(()) = configs.changed() => {
                    keeper.retry();
                    break;
                }
                Some(loaded) = keeper.loading.join_next() => {
                    if let Ok(loaded) = loaded {
                        keeper.take(loaded).await;
                    }
                }
            }
        }
    }
}

/// Returns when an official plugin's program was installed or removed, compared with `installed`.
async fn installation(config: &Config, installed: Vec<bool>) {
    let searches = config.metrics.iter().filter_map(|plugin| match &plugin.runs {
        Metrics::Official(line) => Some(line.search.clone()),
        _ => None,
    });
    let searches = searches.collect::<Arc<[Search]>>();
    while !searches.is_empty() {
        tokio::time::sleep(INSTALLED_EVERY).await;
        let searches = Arc::clone(&searches);
        let now = tokio::task::spawn_blocking(move || searches.iter().map(Search::is_installed).collect::<Vec<_>>());
        if now.await.is_ok_and(|now| now != installed) {
            return;
        }
    }
    std::future::pending().await
}

/// A component instance as a source.
#[must_use]
pub fn source_of(instance: Arc<Instance>) -> Source {
    let name = Key::metrics(instance.name()).to_string().into();
    // The sandbox stops a call at its limit; the frame's own deadline is later, for what hangs in the agent.
    let deadline = instance.limits().time + Duration::from_secs(2);
    let every_minutes = instance.every_minutes();
    let mut source = Source::new(name, deadline, move |_| {
        let instance = Arc::clone(&instance);
        Box::pin(async move { Ok(instance.collect().await?) })
    });
    source.every_minutes = every_minutes;
    source.is_component = true;
    source
}

/// The result of an attempt to load.
struct Attempt {
    key: Key,
    attempt: u64,
    table: PluginTable,
    result: Result<Instance, Unloaded>,
}

/// What runs under a key, as long as this is held.
enum Running {
    /// A component; the source is that of metrics.
    Component(Option<Registered>),
    /// A program.
    Program(#[expect(dead_code, reason = "dropping it stops the program")] official::programs::metrics::Running),
    /// A Docker engine.
    Engine(#[expect(dead_code, reason = "dropping it removes the source")] Registered),
}

struct Keeper {
    loader: Arc<Loader>,
    roster: Roster,
    loading: JoinSet<Attempt>,
    /// How often the log says that one is being loaded.
    said_loading: Arc<AtomicU32>,
    /// What cancels the last attempt for a key.
    aborts: HashMap<Key, AbortHandle>,
    running: HashMap<Key, Running>,
    held_up: HeldUp,
    context: Context,
}

/// The components that other plugins held up while they were loaded, and when the first of them is loaded again.
#[derive(Default)]
struct HeldUp(Option<(Instant, BTreeSet<Key>)>);

impl HeldUp {
    /// Adds a component; it is loaded again with those that wait already.
    fn add(&mut self, key: Key) {
        self.0.get_or_insert_with(|| (Instant::now() + LOADED_AGAIN_AFTER, BTreeSet::new())).1.insert(key);
    }

    /// Adds the component of this key, if others held it up. Returns its problems, which say when it is loaded again.
    fn noted(&mut self, key: &Key, unloaded: Unloaded) -> Vec<String> {
        if !unloaded.is_of_others {
            return unloaded.problems;
        }
        self.add(key.clone());
        let again = format!("; it is loaded again within {}", duration(LOADED_AGAIN_AFTER));
        unloaded.in_words(|problem| problem + &again).problems
    }

    /// Waits until there are some to be loaded again, and returns them; dropping the future loses nothing.
    async fn due(&mut self) -> BTreeSet<Key> {
        let Some((due, _)) = &self.0 else { return std::future::pending().await };
        tokio::time::sleep_until(*due).await;
        self.0.take().map(|(_, keys)| keys).unwrap_or_default()
    }
}

impl Keeper {
    /// Finds what should run and starts loading what is new. Returns whether to look again soon, and which official programs are
    /// installed.
    async fn look(&mut self, config: &Arc<Config>, watch: &mut Watch) -> (bool, Vec<bool>) {
        let (config, descriptor, files) = (Arc::clone(config), watch.descriptor(), watch.files(clock::wall()));
        let witness = Arc::clone(&self.context.witness);
        let looking = tokio::task::spawn_blocking(move || {
            let folders = folders(&config);
            // Before the look, so that no later change is missed.
            let watched = attach(&descriptor, folders.answering().0.drop_in());
            let found = look(&config, &folders, &files);
            let may_run = witness(&config, &found);
            (watched, may_run.then_some(found))
        });
        let Ok((watched, Some(mut found))) = looking.await else { return (false, Vec::new()) };
        let (again, installed) = (found.again, std::mem::take(&mut found.installed));
        watch.looked(watched, again);
        self.follow(found).await;
        (again, installed)
    }

    async fn follow(&mut self, found: Look) {
        if self.loading.is_empty() {
            self.said_loading.store(0, Ordering::Relaxed);
        }
        for step in self.roster.compare(found) {
            match step {
                Step::Load { key, attempt, table, file } => {
                    let (loader, loaded) = (Arc::clone(&self.loader), key.clone());
                    let said = Arc::clone(&self.said_loading);
                    let abort = self.loading.spawn(async move {
                        let result = {
                            let mut instance = pin!(loader.instance(key.kind, &table, &file));
                            match tokio::time::timeout(MOMENT, &mut instance).await {
                                Ok(result) => result,
                                Err(_) => {
                                    if said.fetch_add(1, Ordering::Relaxed) < MOST_SAID {
                                        let key = printable(&key.to_string(), 200);
                                        let how = "a new component is compiled first, at the lowest priority";
                                        tracing::info!(target: ABOUT_PLUGINS, "{key} is being loaded: {how}");
                                    }
                                    instance.await
                                }
                            }
                        };
                        Attempt { key, attempt, table: *table, result }
                    });
                    if let Some(superseded) = self.aborts.insert(loaded, abort) {
                        superseded.abort();
                    }
                }
                Step::Start(key, candidate) => self.start(key, candidate).await,
                Step::Skip { key, table, problems, keeps } => {
                    self.cancel(&key);
                    self.skip(key, table.map(|table| *table), problems, keeps);
                }
                Step::Remove(key) => {
                    self.cancel(&key);
                    self.context.register.remove(&key);
                    self.running.remove(&key);
                }
            }
        }
    }

    /// Cancels an attempt that a newer step has superseded.
    fn cancel(&mut self, key: &Key) {
        if let Some(abort) = self.aborts.remove(key) {
            abort.abort();
        }
    }

    /// Starts a program or an engine, and stops what ran under its key.
    async fn start(&mut self, key: Key, candidate: Candidate) {
        self.cancel(&key);
        self.context.register.remove(&key);
        let is_switched = self.running.remove(&key).is_some_and(|before| !matches!(before, Running::Program(_)));
        let registry = &self.context.registry;
        let running = match candidate {
            Candidate::Program(program) => {
                if is_switched {
                    tracing::info!(target: ABOUT_PLUGINS, "{key}: switched to the program of its `command`");
                }
                Running::Program(official::programs::metrics::start(program, registry))
            }
            Candidate::Engine(docker) => {
                let (registry, memory) = (registry.clone(), Arc::clone(&self.context.memory));
                let started = tokio::task::spawn_blocking(move || containers::start(*docker, &registry, &*memory));
                let Ok(registered) = started.await else { return };
                Running::Engine(registered)
            }
            // Components are loaded first.
            Candidate::Component(..) => return,
        };
        self.running.insert(key, running);
    }

    async fn take(&mut self, loaded: Attempt) {
        let Attempt { key, attempt, table, result } = loaded;
        let result = result.map_err(|unloaded| self.held_up.noted(&key, unloaded));
        let outcome = self.roster.loaded(&key, attempt, result.as_ref().map(drop).map_err(Clone::clone));
        match (outcome, result) {
            (Loaded::Run, Ok(instance)) => {
                let instance = Arc::new(instance);
                self.remember(&key, &instance).await;
                self.run(key, table, instance);
            }
            (Loaded::KeepsRunning, Err(problems)) => self.skip(key, Some(table), problems, true),
            (Loaded::Skipped, Err(problems)) => self.skip(key, Some(table), problems, false),
            // Whatever a superseded attempt found says nothing about the present table.
            _ => {}
        }
    }

    /// Records why a plugin could not be loaded, and stops what runs under its key unless it `keeps` running.
    fn skip(&mut self, key: Key, table: Option<PluginTable>, problems: Vec<String>, keeps: bool) {
        if !keeps {
            self.running.remove(&key);
            self.context.register.remove(&key);
        }
        self.context.register.skip(key, table, problems);
    }

    /// Restores an instance's readings and stored values, from its predecessor or from before this process started.
    async fn remember(&self, key: &Key, instance: &Arc<Instance>) {
        if let Some(predecessor) = self.context.register.instance(key) {
            return instance.inherit(&predecessor);
        }
        let (memory, source) = (Arc::clone(&self.context.memory), key.to_string());
        let known = tokio::task::spawn_blocking(move || (memory.readings(&source), memory.values(&source))).await;
        let (readings, values) = known.unwrap_or_default();
        instance.remember(readings);
        instance.restore(values);
    }

    /// Runs a loaded instance, and stops what ran under its key.
    fn run(&mut self, key: Key, table: PluginTable, instance: Arc<Instance>) {
        self.context.register.run(key.clone(), table, Arc::clone(&instance));
        let before = self.running.remove(&key);
        if matches!(before, Some(Running::Program(_))) {
            tracing::info!(target: ABOUT_PLUGINS, "{key}: switched from the program of its `command` to the component");
        }
        let registered = (key.kind == Kind::Metrics).then(|| {
            let owner = key.to_string().into();
            let (host, definitions) = (instance.host().cloned(), instance.graphs.clone());
            let graphs = Graphs { owner, host, definitions, is_of_agent: false };
            let source = source_of(instance);
            let registered = match before {
                Some(Running::Component(Some(registered))) => {
                    registered.replace(source);
                    registered
                }
                _ => self.context.registry.add(source),
            };
            registered.define(graphs);
            registered
        });
        self.running.insert(key, Running::Component(registered));
    }

    /// Drops the stored values of instances that are no longer in the configuration.
    async fn forget(&self, config: &Config) {
        let metrics = config.metrics.iter().map(|plugin| Key::metrics(&plugin.name));
        let checks = config.checks.iter().map(|check| Key::check(&check.name));
        let metadata = config.metadata.iter().map(|metadata| Key::metadata(&metadata.name));
        let loaded = self.context.register.all().into_iter().map(|(key, _)| key);
        let known = metrics.chain(checks).chain(metadata).chain(loaded).map(|key| key.to_string().into());
        let (memory, known) = (Arc::clone(&self.context.memory), known.collect::<Vec<Arc<str>>>());
        tokio::task::spawn_blocking(move || memory.forget_values(&known)).await.ok();
    }

    /// Loads again, at the next look, what could not be loaded and what is failing.
    fn retry(&mut self) {
        let running = self.context.register.running().into_iter();
        let failing = running.filter(|(_, instance)| instance.status().failure.is_some()).map(|(key, _)| key);
        self.roster.retry(&failing.collect::<BTreeSet<_>>());
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::collect::memory::Forgetful;
    use wasaba_core::collect::rounds::Rounds;

    use super::*;
    use crate::register::Entry;

    #[tokio::test]
    async fn a_keeper_is_ready_when_loading_was_tried_for_all_and_forgets_a_removed_file() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("plugins")).unwrap();
        std::fs::write(temp.path().join("plugins/broken.wasm"), "not a component").unwrap();
        let config = Arc::new(Config { root: temp.path().into(), ..Config::default() });
        let configs = watch::Sender::new(config);
        let (rounds, _defined) = Rounds::new();
        let register = Register::default();
        let context = Context {
            registry: rounds.registry(),
            register: register.clone(),
            memory: Arc::new(Forgetful),
            witness: Arc::new(|_, _| true),
        };
        let (ready, is_ready) = oneshot::channel();
        let keeper = tokio::spawn(keep(configs.subscribe(), context, ready));
        tokio::time::timeout(Duration::from_secs(60), is_ready).await.expect("ready in time").unwrap();
        let [(key, Entry::Skipped(why))] = &register.all()[..] else { panic!("one that was skipped") };
        assert!(*key == Key::metrics("broken") && why[0].contains("WebAssembly"), "{why:?}");
        std::fs::remove_file(temp.path().join("plugins/broken.wasm")).unwrap();
        let gone = async {
            while !register.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the entry is gone");
        keeper.abort();
    }

    #[tokio::test]
    async fn a_component_that_others_held_up_is_loaded_again_within_minutes_and_its_problem_says_so() {
        let (mut held_up, began) = (HeldUp::default(), Instant::now());
        let mut noted = |name: &str, is_of_others| {
            let unloaded = Unloaded { problems: vec!["timed out".to_owned()], is_of_others };
            held_up.noted(&Key::metrics(name), unloaded).concat()
        };
        assert_eq!(noted("broken", false), "timed out");
        assert_eq!(noted("a", true), "timed out; it is loaded again within 300 s");
        noted("b", true);
        let (due, keys) = held_up.0.as_ref().unwrap();
        assert!(*due <= began + LOADED_AGAIN_AFTER * 2 && keys.iter().eq([&Key::metrics("a"), &Key::metrics("b")]));
        held_up.0.as_mut().unwrap().0 = began;
        assert_eq!(held_up.due().await.len(), 2);
        assert!(held_up.0.is_none());
    }

    #[tokio::test]
    async fn a_root_that_cannot_be_used_has_no_plugins_to_report() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Config { root: file.path().into(), ..Config::default() };
        assert_eq!((problems(&config, true).await.len(), problems(&config, false).await.len()), (1, 0));
    }

    #[tokio::test]
    async fn files_for_tls_of_an_engine_that_are_missing_or_no_certificates_are_reported_before_it_is_asked() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("ca.pem");
        for content in [None, Some("not a certificate")] {
            content.iter().for_each(|content| std::fs::write(&file, content).unwrap());
            let text = format!("[docker]\nhost = \"tcp://engine:2376\"\ntls = {{ authority = {file:?} }}\n");
            let (config, none) = config::parse("agent.conf".as_ref(), &text).unwrap();
            let config = Config { root: temp.path().into(), ..config };
            let found = problems(&config, true).await;
            assert!(none.is_empty() && found.len() == 1 && found[0].level() == Level::Invalid, "{found:?}");
            let said = found[0].to_string();
            assert!(said.starts_with("agent.conf:3: error: [docker]: `tls`: ") && said.contains("ca.pem"), "{said}");
        }
    }
}
