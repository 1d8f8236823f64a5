//! The agent as a whole: the one place that knows every room. It opens them, asks the sources when they are due, keeps the
//! values, and lets one output hand them on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::{Config, Network};
use containers::Engines;
use delivery::local::Tail;
use delivery::spool::{Minute, Spool};
use delivery::{local, mackerel};
use machine::diagnostic::Diagnostic;
use machine::host::cloud;
use machine::host::cloud::{Cloud, CloudPlatform};
use machine::metrics::selection::Current;
use machine::roots::Roots;
use machine::{diagnostic, host, metrics};
use plugins::instance::Instance;
use plugins::keeper::Change;
use plugins::register::Register;
use plugins::self_metrics::SelfMetrics;
use plugins::{keeper, self_metrics};
use programs::metrics as metrics_program;
use programs::metrics::{Drawing, Programs, Step};
use sandbox::thread::Sandbox;
use schedules::routines;
use schedules::routines::Outbox;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout_at;
use wasaba_core::collect::Moment;
use wasaba_core::collect::graphs::Graphs;
use wasaba_core::collect::minute::{Parts, Source, Sources};
use wasaba_core::collect::readers::Readers;
use wasaba_core::container;
use wasaba_core::graph::GraphDefinition;

use crate::process::control::Pulse;
use crate::process::{control, footprint};

/// How long the first collection waits for plugins, which usually lie compiled in the cache and are there within it. One that
/// is not is asked when it is there.
const FIRST_PLUGINS: Duration = Duration::from_millis(800);

/// How many plugins are taken over in one go.
const CHANGES_AT_ONCE: usize = 64;

/// How many check reports, and documents, wait for the output, which takes them over once the host is registered.
const MOST_WAITING: usize = 1_000;

/// What the outside world says to a running agent.
#[derive(Clone)]
pub struct Signals {
    /// Becomes `true` when the agent shall end.
    pub stop: watch::Receiver<bool>,
    /// Asks for the host's description to be sent now.
    pub refresh: Arc<Notify>,
    /// The configuration, which may be read again. What cannot follow it is the same in all of them.
    pub configs: watch::Receiver<Arc<Config>>,
}

/// Runs the agent until it is told to stop. With `table`, and without an API key, the values are shown as a table on the
/// terminal, with the log's tail below.
///
/// # Errors
/// What keeps it from starting, as text with its cure. A running agent has none.
pub async fn run(signals: Signals, table: Option<Tail>) -> Result<(), String> {
    let config = signals.configs.borrow().clone();
    for missing in config.machine.missing() {
        tracing::warn!("host_root: {missing}");
    }
    if let Some(why) = the_containers_own(&config) {
        tracing::warn!("{why}");
    }
    let root = config.root.clone();
    std::fs::create_dir_all(&root)
        .map_err(|error| format!("cannot make the folder `{}`: {error}; name another with -root", root.display()))?;
    let spool = Arc::new(Spool::open(&root, unix_seconds()).map_err(|error| error.to_string())?);
    let board = Arc::new(local::Board::default());
    let wake = Arc::new(Notify::new());
    let (definitions, defined) = watch::channel(Arc::new(Vec::new()));
    let (reports, reported) = mpsc::channel(MOST_WAITING);
    let (documents, told) = mpsc::channel(MOST_WAITING);
    let outbox = Outbox { reports, documents };
    let inbox = mackerel::Inbox::new(reported, told);

    let (changed, changes) = mpsc::unbounded_channel();
    let register = Register::default();
    let plugins = tokio::spawn(keeper::keep(signals.configs.clone(), register.clone(), changed));
    let pulse = Pulse::since(unix_seconds());
    let control = tokio::spawn(tell(root, register.clone(), pulse.clone()));
    let routines = tokio::spawn(routines::keep(signals.configs.clone(), Arc::clone(&spool), outbox));
    let selection = Current::default();
    selection.set(config.selection.clone());
    let (drawn, drawings) = mpsc::unbounded_channel();
    let collecting = Collecting {
        sources: host_sources(&config, &selection),
        selection,
        programs: Programs::new(drawn),
        engines: Engines::default(),
        drawings,
        configs: signals.configs.clone(),
        changes,
        graphs: Graphs::default(),
        register: register.clone(),
        definitions,
        spool: Arc::clone(&spool),
        board: config.api_key.is_none().then(|| Arc::clone(&board)),
        wake: Arc::clone(&wake),
        pulse,
    };
    let collecting = if config.self_metrics { collecting.with_self_metrics()? } else { collecting };
    let mut collecting = std::pin::pin!(collecting.every_minute(signals.stop.clone()));
    let output = output(&config, Output { spool: Arc::clone(&spool), board, table, defined, wake, inbox }, signals);
    let mut output = std::pin::pin!(output);
    let result = tokio::select! {
        // Collecting ends only when it is told to; the output then has its last moments.
        () = &mut collecting => output.await,
        result = &mut output => result,
    };
    plugins.abort();
    control.abort();
    routines.abort();
    let ledger = tokio::task::spawn_blocking(move || spool.ledger()).await.unwrap_or_default();
    tracing::info!("stopped; points since the beginning: {ledger}");
    result
}

/// What is not the host's if the agent is in a container that does not show its host.
fn the_containers_own(config: &Config) -> Option<String> {
    (container::is_ours() && config.machine == Roots::default()).then(|| {
        "this is a container: its name, interfaces and file systems are told, not the host's; for the host's mount its / \
         (-v /:/host:ro,rslave) and write `host_root = \"/host\"`"
            .to_owned()
    })
}

/// Tells whoever asks how the plugins are doing.
async fn tell(root: PathBuf, register: Register, pulse: Pulse) {
    if let Err(error) = control::serve(&root, register, pulse).await {
        let path = control::path(&root);
        tracing::warn!("`wasaba plugin list` will find no agent: cannot listen at `{}`: {error}", path.display());
    }
}

/// What the output half of the agent shares with the collecting half.
struct Output {
    spool: Arc<Spool>,
    board: Arc<local::Board>,
    table: Option<Tail>,
    defined: watch::Receiver<Arc<Vec<GraphDefinition>>>,
    wake: Arc<Notify>,
    inbox: mackerel::Inbox,
}

async fn output(config: &Config, shared: Output, signals: Signals) -> Result<(), String> {
    let Output { spool, board, table, defined, wake, mut inbox } = shared;
    if config.api_key.is_none() {
        tracing::info!("no API key: the values stay on this machine, for 24 hours");
        local::run(board, table, signals.stop).await;
        return Ok(());
    }
    let cloud = Arc::new(cloud::Found::default());
    let configs = signals.configs.clone();
    let description: mackerel::Description = Arc::new(move || {
        let (config, cloud) = (configs.borrow().clone(), Arc::clone(&cloud));
        Box::pin(async move {
            let found = cloud.detect(config.cloud_platform, &config.machine).await;
            let describe = describe(&config, found);
            tokio::task::spawn_blocking(describe).await.unwrap_or_default()
        })
    });
    let mut configs = signals.configs;
    loop {
        let config = configs.borrow_and_update().clone();
        let Some(settings) = settings(&config) else { return Ok(()) };
        tracing::info!("wasaba {} posts to {}", crate::VERSION, config.api_base.host_str().unwrap_or_default());
        let signals = mackerel::Signals {
            wake: Arc::clone(&wake),
            refresh: Arc::clone(&signals.refresh),
            definitions: defined.clone(),
            shutdown: signals.stop.clone(),
        };
        let posting = mackerel::run(settings, Arc::clone(&spool), Arc::clone(&description), signals, &mut inbox);
        tokio::select! {
            result = posting => return result.map_err(|error| error.to_string()),
            // What is not delivered yet is in the spool.
            () = another_way(&mut configs, &config) => tracing::info!("Mackerel is reached anew, as the configuration says"),
        }
    }
}

/// Returns when the configuration tells another way to Mackerel than `before`.
async fn another_way(configs: &mut watch::Receiver<Arc<Config>>, before: &Config) {
    let is_another = |config: &Arc<Config>| !config.reaches_mackerel_like(before);
    if configs.wait_for(is_another).await.is_err() {
        // Nobody is left who could change it.
        std::future::pending::<()>().await;
    }
}

/// What the Mackerel output needs to know; none without an API key.
fn settings(config: &Config) -> Option<mackerel::Settings> {
    Some(mackerel::Settings {
        apibase: config.api_base.to_string(),
        apikey: config.api_key.clone()?,
        root: config.root.clone(),
        agent: agent(),
        status_on_start: config.status_on_start.clone(),
        status_on_stop: config.status_on_stop.clone(),
        asks_cloud: config.cloud_platform != CloudPlatform::None,
        route: route(&config.network),
    })
}

/// How the agent names itself to Mackerel.
#[must_use]
pub fn agent() -> mackerel::Agent {
    mackerel::Agent { version: crate::VERSION.to_owned(), revision: crate::REVISION.to_owned() }
}

/// The way to Mackerel.
#[must_use]
pub fn route(network: &Network) -> mackerel::Route {
    let Network { http_proxy, https_proxy, no_keep_alive } = network.clone();
    mackerel::Route { http_proxy, https_proxy, no_keep_alive }
}

/// The host's own collectors.
#[must_use]
pub fn host_sources(config: &Config, selection: &Current) -> Sources {
    let (mut sources, readers) = (Sources::default(), Readers::default());
    for family in metrics::ALL {
        sources.add(Source::of_collector(family.name, (family.open)(&config.machine, selection), &readers));
    }
    sources
}

/// What the host is, for Mackerel, together with what its cloud says; reads files and asks the system, so it may block.
pub fn describe(config: &Config, cloud: Option<Cloud>) -> impl FnOnce() -> serde_json::Value + Send + 'static {
    let roots = config.machine.clone();
    let own = config.checks.iter().filter(|check| check.custom_identifier.is_none());
    let checks = own.map(|check| host::Check { name: check.name.to_string(), memo: check.memo.clone() });
    let identity = host::Identity {
        agent_name: crate::user_agent(),
        agent_version: crate::VERSION.to_owned(),
        agent_revision: crate::REVISION.to_owned(),
        display_name: config.display_name.clone(),
        roles: config.roles.clone(),
        checks: checks.collect(),
        cloud,
    };
    move || serde_json::to_value(host::describe(&roots, &identity)).unwrap_or_default()
}

/// A plugin instance as something to ask once a minute.
#[must_use]
pub fn source_of(instance: Arc<Instance>, sandbox: Arc<Sandbox>) -> Source {
    let name = format!("plugin {}", instance.name()).into();
    // The sandbox ends a call at its limit; the frame's own deadline is behind it, for what hangs in the agent.
    let deadline = instance.limits().time + Duration::from_secs(2);
    let every_minutes = instance.every_minutes();
    let mut source = Source::new(name, deadline, move |_| {
        let (instance, sandbox) = (Arc::clone(&instance), Arc::clone(&sandbox));
        Box::pin(async move { Ok(instance.collect(&sandbox).await?) })
    });
    source.every_minutes = every_minutes;
    source
}

/// The collecting half of the agent.
struct Collecting {
    sources: Sources,
    selection: Current,
    programs: Programs,
    engines: Engines,
    drawings: mpsc::UnboundedReceiver<Drawing>,
    configs: watch::Receiver<Arc<Config>>,
    changes: mpsc::UnboundedReceiver<Change>,
    graphs: Graphs,
    register: Register,
    definitions: watch::Sender<Arc<Vec<GraphDefinition>>>,
    spool: Arc<Spool>,
    board: Option<Arc<local::Board>>,
    wake: Arc<Notify>,
    pulse: Pulse,
}

impl Collecting {
    /// The same, with what plugins cost as one more source.
    fn with_self_metrics(mut self) -> Result<Self, String> {
        let collector = Box::new(SelfMetrics::new(self.register.clone()));
        self.sources.add(Source::of_collector("self", collector, &Readers::default()));
        self.graphs.put(&"wasaba itself".into(), None, &self_metrics::graphs()?);
        Ok(self)
    }

    /// Adds or removes what the agent itself takes, as one more source.
    fn diagnose(&mut self, is_wanted: bool, moment: Option<Moment>) {
        const NAME: &str = "diagnostic";
        let is_there = self.sources.health().any(|(name, _)| **name == *NAME);
        if is_there == is_wanted {
            return;
        }
        if !is_wanted {
            self.sources.remove(NAME);
            self.graphs.remove(NAME);
            return;
        }
        let source = Source::of_collector(NAME, Box::new(Diagnostic), &Readers::default());
        match moment {
            Some(moment) => self.sources.start(source, moment),
            None => self.sources.add(source),
        }
        self.graphs.put(&NAME.into(), None, &diagnostic::graphs().unwrap_or_default());
    }

    /// Follows the newest configuration in what is read from the machine and which programs are run.
    async fn follow(&mut self, moment: Option<Moment>) {
        let config = self.configs.borrow_and_update().clone();
        self.selection.set(config.selection.clone());
        self.diagnose(config.diagnostic, moment);
        for step in self.programs.follow(&config.programs) {
            match (step, moment) {
                (Step::Run(program), Some(moment)) => self.sources.start(metrics_program::source_of(program), moment),
                (Step::Run(program), None) => self.sources.add(metrics_program::source_of(program)),
                (Step::Remove(name), _) => {
                    self.sources.remove(&format!("plugin {name}"));
                    self.graphs.remove(&name);
                }
            }
        }
        self.follow_engines(moment).await;
    }

    /// Follows the newest configuration in which engines are asked.
    async fn follow_engines(&mut self, moment: Option<Moment>) {
        let wanted = self.configs.borrow().dockers.clone();
        let (asked, gone) = self.engines.follow(wanted);
        for name in gone {
            self.sources.remove(&name);
            self.graphs.remove(&containers::owner_of_graphs(&name));
        }
        for docker in asked {
            match docker.graphs() {
                Ok(graphs) => {
                    let host = docker.posting.custom_identifier.as_ref();
                    if let Some(warning) = self.graphs.put(&containers::owner_of_graphs(&docker.name), host, &graphs) {
                        tracing::warn!("{warning}");
                    }
                }
                Err(why) => tracing::warn!("{}: cannot tell its graphs: {why}", docker.name),
            }
            let spool = Arc::clone(&self.spool);
            let readings = tokio::task::spawn_blocking(move || spool.readings()).await.unwrap_or_default();
            let own = containers::own_readings(&docker.name, &readings);
            let source = containers::source_of(docker, own);
            match moment {
                Some(moment) => self.sources.start(source, moment),
                None => self.sources.add(source),
            }
        }
    }

    async fn every_minute(mut self, mut stop: watch::Receiver<bool>) {
        self.follow(None).await;
        tokio::select! {
            () = self.first_plugins(Instant::now() + FIRST_PLUGINS) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut moment = now();
        self.sources.ask_all(moment);
        let mut minutes = 1_u64;
        let (mut release, mut more) = (false, true);
        loop {
            let boundary = (moment.unix_seconds.div_euclid(60) + 1) * 60;
            let full = tokio::time::sleep(until(boundary));
            let mut full = std::pin::pin!(full);
            let mut changes = Vec::new();
            loop {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => {
                        let rest = self.sources.rest();
                        return self.keep(rest).await;
                    }
                    () = &mut full => break,
                    count = self.changes.recv_many(&mut changes, CHANGES_AT_ONCE), if more => {
                        more = count > 0;
                        // First the programs: one that goes must not take the component along that comes in its place.
                        if self.configs.has_changed().unwrap_or(false) {
                            self.follow(Some(now())).await;
                        }
                        self.change(changes.drain(..), Some(now())).await;
                    }
                    Ok(()) = self.configs.changed() => self.follow(Some(now())).await,
                    Some((program, graphs)) = self.drawings.recv() => {
                        let warning = self.graphs.put(&program.name, program.posting.custom_identifier.as_ref(), &graphs);
                        if let Some(warning) = warning {
                            tracing::warn!("{warning}");
                        }
                        self.define();
                    }
                    parts = self.sources.next(now) => {
                        self.keep(parts).await;
                        if std::mem::take(&mut release) {
                            footprint::release();
                        }
                    }
                }
            }
            moment = on_boundary(now(), boundary);
            self.sources.ask_due(moment);
            minutes = minutes.wrapping_add(1);
            // After the second, everything that a minute needs has run once; the host's description comes every hour.
            release = minutes % 60 == 2;
        }
    }

    /// Takes in plugins until all have come, but not longer than until `end`.
    async fn first_plugins(&mut self, end: Instant) {
        while let Ok(Some(change)) = timeout_at(end.into(), self.changes.recv()).await {
            let settled = matches!(change, Change::Settled);
            self.change(std::iter::once(change), None).await;
            if settled {
                return;
            }
        }
    }

    /// Takes over `changes`. What runs is asked for `moment`; without one it waits for the first question to all.
    async fn change(&mut self, changes: impl Iterator<Item = Change>, moment: Option<Moment>) {
        let mut readings = None;
        for change in changes {
            match change {
                Change::Runs(instance, sandbox) => {
                    if readings.is_none() {
                        let spool = Arc::clone(&self.spool);
                        readings = tokio::task::spawn_blocking(move || spool.readings()).await.ok();
                    }
                    let prefix = format!("plugin {}\t", instance.name());
                    let known = readings.iter().flat_map(|known| known.range(prefix.clone()..));
                    let own = known.map_while(|(key, reading)| Some((key.strip_prefix(&prefix)?.to_owned(), *reading)));
                    instance.remember(own);
                    let (spool, source) = (Arc::clone(&self.spool), format!("plugin {}", instance.name()));
                    let values = tokio::task::spawn_blocking(move || spool.values(&source)).await;
                    instance.keep(Arc::new(values.unwrap_or_default()));
                    if let Some(warning) = self.graphs.put(instance.name(), instance.host(), &instance.graphs) {
                        tracing::warn!("{warning}");
                    }
                    let source = source_of(instance, sandbox);
                    match moment {
                        Some(moment) => self.sources.start(source, moment),
                        None => self.sources.add(source),
                    }
                }
                // A program has taken the place of the component of its name, and is there already.
                Change::Gone(name) if self.programs.has(&name) => {}
                Change::Gone(name) => {
                    self.sources.remove(&format!("plugin {name}"));
                    self.graphs.remove(&name);
                }
                Change::Settled => {
                    let (spool, known) = (Arc::clone(&self.spool), self.register.all().into_iter());
                    let known = known.map(|(name, _)| format!("plugin {name}").into());
                    let config = self.configs.borrow().clone();
                    let checks = config.checks.iter().map(|check| format!("[plugin.checks.{}]", check.name).into());
                    let told = config.metadata.iter().map(|told| format!("[plugin.metadata.{}]", told.name).into());
                    let known = known.chain(checks).chain(told).collect::<Vec<_>>();
                    tokio::task::spawn_blocking(move || spool.forget_values(&known, unix_seconds())).await.ok();
                }
                Change::Troubled(tell) => {
                    let troubled = self.sources.health().filter(|(_, health)| health.trouble.is_some());
                    let plugins = troubled.filter_map(|(name, _)| Some(name.strip_prefix("plugin ")?.to_owned()));
                    // If the keeper has gone, nobody wants to know.
                    tell.send(plugins.collect()).ok();
                }
            }
        }
    }

    fn define(&mut self) {
        if let Some(definitions) = self.graphs.changed() {
            self.definitions.send_replace(Arc::new(definitions));
        }
    }

    async fn keep(&mut self, parts: Parts) {
        self.define();
        for (time, part) in parts {
            if let Some(board) = &self.board {
                board.take(time, &part);
            }
            if part.is_empty() {
                continue;
            }
            let spool = Arc::clone(&self.spool);
            let samples = part.samples.into_iter().flat_map(|(_, samples)| samples).collect::<Vec<_>>();
            let (count, readings) = (samples.len(), part.readings);
            let (minute, values) = (Minute { time, samples }, part.kept);
            let kept = tokio::task::spawn_blocking(move || {
                let now = unix_seconds();
                values.into_iter().for_each(|(source, values)| spool.keep_values(&source, values, now));
                spool.keep(minute, &readings, now)
            });
            let kept = kept.await;
            // Where not, the spool has said why.
            if kept.is_ok_and(|on_disk| on_disk) {
                tracing::debug!("kept {count} values of {time}");
            }
            self.wake.notify_one();
            self.pulse.beat(unix_seconds());
        }
        if let Some(board) = &self.board {
            board.judge(self.sources.health());
        }
    }
}

fn now() -> Moment {
    Moment { unix_seconds: unix_seconds(), instant: Instant::now() }
}

/// A timer may fire a moment before the wall clock shows the full minute. If the clock shows anything else, it was set
/// meanwhile, and the minute is the one that it shows.
fn on_boundary(moment: Moment, boundary: i64) -> Moment {
    let early = moment.unix_seconds == boundary - 1;
    Moment { unix_seconds: if early { boundary } else { moment.unix_seconds }, ..moment }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

/// How long it is until the wall clock shows `unix_seconds`.
fn until(unix_seconds: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default());
    then.duration_since(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_fires_early_is_of_the_full_minute_and_a_clock_that_was_set_counts() {
        let at = |unix_seconds| on_boundary(Moment { unix_seconds, instant: Instant::now() }, 120).unix_seconds;
        assert_eq!([at(119), at(120), at(121)], [120, 120, 121]);
        assert_eq!([at(60), at(3_600)], [60, 3_600]);
    }
}
