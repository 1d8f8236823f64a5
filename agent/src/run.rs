//! The assembly of the running agent: it opens the rooms, connects them, and waits until the agent stops.

mod delivery_metrics;
mod sink;
mod sources;
mod work_metrics;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Config, Network};
use containers::Engines;
use delivery::local;
use delivery::mackerel::{self, Queued};
use delivery::spool::Spool;
use machine::host;
use machine::host::cloud::{self, Cloud, CloudPlatform};
use machine::host::ids::{Ids, ids};
use machine::roots::Roots;
use plugins::components::Components;
use plugins::keeper::{self, Context, Witness};
use plugins::register::Register;
use schedules::routines::{self, Outbox};
use schedules::statuses::Statuses;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use wasaba_core::clock::Moment;
use wasaba_core::collect::memory::Memory;
use wasaba_core::collect::rounds::Rounds;
use wasaba_core::graph::Defined;
use wasaba_core::paths::own::Folder;
use wasaba_core::paths::{passing, patient};
use wasaba_core::text::lasting;
use wasaba_core::{clock, container};

use self::sink::Kept;
pub use self::sources::host_sources;
use self::sources::{HostSources, Reloading, self_metrics_of};
use crate::process::books::Books;
use crate::process::feed::Here;
use crate::process::footprint::Footprint;
use crate::process::metadata_service::MetadataService;
use crate::process::service::{self, Progress};
use crate::process::state::{self, Pulse, Tables, Whereabouts};
use crate::process::{confinement, control, ending, log};
use show::state::{MOST_SECONDS_UNCOLLECTED, ServerReport};
use show::top::terminal::Manner;
use show::top::view::Options;
use show::top::{self, Ended, Tail};

/// How many check reports, and documents, are queued until the host is registered and the output takes them over.
const MOST_WAITING: usize = 1_000;

/// How long the queue may take at the end to say what it could not write.
const COUNTED_WITHIN: Duration = Duration::from_millis(100);

/// The signals from outside to a running agent.
#[derive(Clone)]
pub struct Signals {
    /// Becomes `true` when the agent must stop.
    pub stop: watch::Receiver<bool>,
    /// Asks for the host's description to be posted now.
    pub refresh: Arc<Notify>,
    /// The configuration, which may be reloaded. What cannot be reloaded is the same in all of them.
    pub configs: watch::Receiver<Arc<Config>>,
    /// Notified when only a restart opens what is needed.
    pub restart: Arc<Notify>,
}

/// The terminal, where the agent itself shows what it does: in local mode.
pub struct View {
    /// The last lines of the log, which are shown below.
    pub tail: Tail,
    /// What the terminal can show.
    pub manner: Manner,
}

/// Runs the agent until `signals` stop it. With `view`, and without an API key, it shows what `wasaba top` shows, with the log's tail below.
///
/// # Errors
/// Why it cannot start, as text with the cure. A running agent does not fail.
pub async fn run(signals: Signals, view: Option<View>) -> Result<(), String> {
    let config = signals.configs.borrow().clone();
    for missing in config.machine.missing(config.display_name.is_some()) {
        tracing::warn!("host_root: {missing}");
    }
    if let Some(warning) = container_warning(&config) {
        tracing::warn!("{warning}");
    }
    let root = config.root.clone();
    make(&root)?;
    let spool = Arc::new(Spool::open(&root, clock::unix_seconds()).map_err(|error| error.to_string())?);
    let memory: Arc<dyn Memory> = Arc::<Spool>::clone(&spool);
    let board = Arc::new(local::Board::default());
    let queued = Queued::default();
    let (reports, reported) = mpsc::channel(MOST_WAITING);
    let (documents, documented) = mpsc::channel(MOST_WAITING);
    let inbox = mackerel::Inbox::new(reported, documented);

    let (rounds, defined) = Rounds::new();
    let (registry, register, pulse) = (rounds.registry(), Register::default(), Pulse::since(clock::instant()));
    let engines = Engines::default();
    let tables = Tables {
        register: register.clone(),
        outcomes: rounds.outcomes(),
        pulse: pulse.clone(),
        lanes: inbox.lanes(),
        books: Books::of(Arc::clone(&spool)),
        spool: Arc::clone(&spool),
        engine: engines.current(),
        defined: defined.clone(),
        statuses: Statuses::default(),
        whereabouts: Whereabouts::default(),
    };
    let mut machine = HostSources::start(&config, &registry);
    if config.self_metrics {
        machine.sources.extend(self_metrics_of(&tables, &registry)?);
    }
    let mut reloading = Reloading { machine, engines, registry: registry.clone(), memory };
    reloading.apply(&config).await;
    let components = Components::new(register.clone(), Arc::clone(&reloading.memory));
    let context = Context {
        registry,
        register: register.clone(),
        memory: Arc::clone(&reloading.memory),
        witness: witness(&signals.restart),
    };
    let (ready, is_ready) = oneshot::channel();
    let (begun, has_begun) = oneshot::channel();
    let background = [
        tokio::spawn(keeper::keep(signals.configs.clone(), context, ready)),
        tokio::spawn(control::serve(root, tables.clone())),
        tokio::spawn(service::supervise(has_begun, signals.stop.clone(), {
            let tables = tables.clone();
            move || progress(&tables, clock::instant())
        })),
        tokio::spawn(routines::keep(
            signals.configs.clone(),
            components,
            Arc::clone(&spool),
            Outbox { reports, documents },
            tables.statuses.clone(),
        )),
        tokio::spawn(reloading.keep(signals.configs.clone())),
    ];

    let mut kept = Kept {
        spool: Arc::clone(&spool),
        board: (config.api_key.is_none() && view.is_none()).then(|| Arc::clone(&board)),
        is_local: config.api_key.is_none(),
        queued: queued.clone(),
        pulse,
        begun: Some(begun),
        minutes: 0,
        newest: 0,
        footprint: Footprint::default(),
        restart: Arc::clone(&signals.restart),
    };
    let tried = async {
        // It fails if the keeper cannot start; then there is nothing to wait for.
        is_ready.await.ok();
    };
    let mut collecting = std::pin::pin!(rounds.run(tried, signals.stop.clone(), &mut kept));
    let shared = Output { spool: Arc::clone(&spool), board, view, tables, defined, queued, inbox };
    let output = output(&config, shared, signals);
    let mut output = std::pin::pin!(output);
    let result = tokio::select! {
        // Collecting ends only when the agent stops; then the output delivers the rest.
        () = &mut collecting => output.await,
        result = &mut output => result,
    };
    for task in background {
        task.abort();
    }
    let (closing, patience) = (Arc::clone(&spool), ending::patience(Duration::from_secs(60)));
    let closed = tokio::task::spawn_blocking(move || closing.close(patience.saturating_sub(COUNTED_WITHIN)));
    match timeout(patience, closed).await {
        Ok(ledger) => tracing::info!("stopped; points since this queue was created: {}", ledger.unwrap_or_default()),
        Err(_) => tracing::warn!(
            "stopped before the disk of the queue answered; points since this queue was created: {}",
            spool.ledger()
        ),
    }
    result
}

/// Asks for a restart once the plugins need what the agent has given up.
fn witness(restart: &Arc<Notify>) -> Witness {
    let restart = Arc::clone(restart);
    Arc::new(move |config, found| {
        let is_outgrown = confinement::is_outgrown(config, found.candidates());
        if is_outgrown {
            restart.notify_one();
        }
        !is_outgrown
    })
}

/// The warning of an agent in a container that cannot see its host.
fn container_warning(config: &Config) -> Option<String> {
    (container::is_ours() && config.machine == Roots::default()).then(|| {
        "this is a container: reporting its own name, interfaces and file systems, not the host's; to report the host's, mount \
         its / (-v /:/host:ro,rslave) and write `host_root = \"/host\"`"
            .to_owned()
    })
}

/// Whether the agent makes progress, for systemd.
fn progress(tables: &Tables, now: Instant) -> Progress {
    let patience = Duration::from_secs(MOST_SECONDS_UNCOLLECTED);
    let age = tables.pulse.age(now);
    let stuck = if age > patience {
        Some(format!("nothing was collected for {}", lasting(age)))
    } else if !tables.lanes.is_delivery_alive(now, patience) {
        Some("the delivery of values hangs".to_owned())
    } else {
        None
    };
    let lanes = tables.lanes.facts(now);
    let fault = lanes.iter().find_map(|lane| Some((lane.kind.name(), lane.fault.as_ref()?)));
    let delivered = lanes.iter().find(|lane| lane.kind == mackerel::Kind::Values).and_then(|lane| lane.succeeded_ago);
    let text = match (fault, delivered) {
        (Some((lane, fault)), _) => format!("{lane} fail for {}: {}", lasting(fault.lasts), fault.error),
        (None, Some(ago)) => format!("collected {} ago, delivered {} ago", lasting(age), lasting(ago)),
        (None, None) => format!("collected {} ago, nothing delivered yet", lasting(age)),
    };
    Progress { text, stuck }
}

/// Makes the agent's own folder. What passes by itself keeps no agent from starting, which works in memory until the disk is back.
///
/// # Errors
/// The folder is a mistake in the configuration.
fn make(root: &Path) -> Result<(), String> {
    let made = patient::ask(root, patient::LOOK, |root| Folder::create(root, 0o750).map(|_| Folder::warning(root)));
    match made.flatten() {
        Ok(None) => {}
        Ok(Some(why)) => tracing::warn!("other users can replace the agent's own files: {why}"),
        Err(error) => tracing::error!("{}", unmade(root, &error)?),
    }
    // For those who drop plugins in; it works without.
    patient::ask(root, patient::LOOK, |root| Folder::create(&root.join("plugins"), 0o755)).ok();
    Ok(())
}

/// What to log about a folder that cannot be made now.
///
/// # Errors
/// It can never be made, with the cure.
fn unmade(root: &Path, error: &io::Error) -> Result<String, String> {
    let cannot = format!("cannot create the folder `{}`: {error}", root.display());
    match passing::cure(error) {
        Some(cure) => Ok(format!("{cannot}; the agent works in memory until that succeeds: {cure}")),
        None => Err(format!("{cannot}; name another with -root")),
    }
}

/// What the output shares with the collecting half of the agent.
struct Output {
    spool: Arc<Spool>,
    board: Arc<local::Board>,
    view: Option<View>,
    tables: Tables,
    defined: watch::Receiver<Arc<Vec<Defined>>>,
    queued: Queued,
    inbox: mackerel::Inbox,
}

async fn output(config: &Config, shared: Output, signals: Signals) -> Result<(), String> {
    let Output { spool, board, view, tables, defined, queued, mut inbox } = shared;
    if config.api_key.is_none() {
        tracing::info!("no API key: the values stay on this machine, for 24 h");
        let shown = match view {
            Some(view) => look(view, tables, signals.stop).await,
            None => local::run(board, signals.stop).await,
        };
        return shown.map_err(|error| format!("cannot show the values: {error}"));
    }
    let whereabouts = tables.whereabouts;
    let cloud = Arc::new(cloud::Found::default());
    let configs = signals.configs.clone();
    let named = whereabouts.clone();
    let description: mackerel::Description = Arc::new(move || {
        let (config, cloud, named) = (configs.borrow().clone(), Arc::clone(&cloud), named.clone());
        Box::pin(async move {
            let found = cloud.detect(config.cloud_platform, &config.machine, &MetadataService).await;
            let describe = describe(&config, found);
            let description = tokio::task::spawn_blocking(describe).await.unwrap_or_default();
            let name = ["displayName", "name"].iter().find_map(|key| description.get(key)?.as_str());
            named.name(name.map(str::to_owned));
            description
        })
    });
    let mut configs = signals.configs;
    loop {
        let config = configs.borrow_and_update().clone();
        let Some(settings) = settings(&config) else { return Ok(()) };
        let (base, port) =
            (&config.api_base, config.api_base.port().map(|port| format!(":{port}")).unwrap_or_default());
        let (apibase, proxy) = settings.shown_way();
        whereabouts.server(ServerReport { apibase, proxy });
        tracing::info!("wasaba {} posts to {}{port}", crate::VERSION, base.host_str().unwrap_or_default());
        let signals = mackerel::Signals {
            queued: queued.clone(),
            refresh: Arc::clone(&signals.refresh),
            definitions: defined.clone(),
            shutdown: signals.stop.clone(),
        };
        let posting = mackerel::run(settings, Arc::clone(&spool), Arc::clone(&description), signals, &mut inbox);
        tokio::select! {
            result = posting => return result.map_err(|error| error.to_string()),
            // What is not delivered yet is in the spool.
            () = another_connection(&mut configs, &config) => tracing::info!("reconnecting to Mackerel with the reloaded configuration"),
        }
    }
}

/// Shows this agent on its terminal until it stops. A key that ends the view stops the agent, and so does the end of the terminal.
async fn look(view: View, tables: Tables, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let View { tail, manner } = view;
    let state = state::now(&tables, Moment::now()).await;
    let options = Options { glyphs: manner.glyphs, east: log::east_of_utc(state.now), is_local: true };
    let mut stopped = stop.clone();
    let asked = async {
        // Without a sender there is nothing that could stop it.
        stopped.wait_for(|stop| *stop).await.ok();
    };
    let ended = top::run(Arc::new(Here(tables)), state, options, manner.has_colours, Some(tail), asked).await?;
    if ended != Ended::Stopped {
        // As Ctrl-C, which the view has read as a key.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT)?;
        stop.wait_for(|stop| *stop).await.ok();
    }
    Ok(())
}

/// Returns when the configuration connects to Mackerel differently from `before`.
async fn another_connection(configs: &mut watch::Receiver<Arc<Config>>, before: &Config) {
    let is_another = |config: &Arc<Config>| !config.reaches_mackerel_like(before);
    if configs.wait_for(is_another).await.is_err() {
        // There will be no other configuration.
        std::future::pending::<()>().await;
    }
}

/// The settings of the output to Mackerel; `None` without an API key.
fn settings(config: &Config) -> Option<mackerel::Settings> {
    let Ids { machine, hardware, boot } = ids(&config.machine);
    Some(mackerel::Settings {
        apibase: config.api_base.to_string(),
        apikey: config.api_key.clone()?,
        root: config.root.clone(),
        agent: agent(),
        status_on_start: config.status_on_start.clone(),
        status_on_stop: config.status_on_stop.clone(),
        asks_cloud: config.cloud_platform != CloudPlatform::None,
        route: route(&config.network),
        machine: mackerel::MachineIds { machine, hardware, boot },
    })
}

/// The agent's version, for Mackerel.
#[must_use]
pub fn agent() -> mackerel::Agent {
    mackerel::Agent { version: crate::VERSION.to_owned(), revision: crate::REVISION.to_owned() }
}

/// The network settings for Mackerel.
#[must_use]
pub fn route(network: &Network) -> mackerel::Route {
    let Network { http_proxy, https_proxy, no_keep_alive } = network.clone();
    mackerel::Route { http_proxy, https_proxy, no_keep_alive }
}

/// The description of the host for Mackerel, with its cloud's metadata; reads files and asks the system, so it may block.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_on_a_full_or_read_only_disk_does_not_end_the_start_and_a_file_in_its_place_does() {
        for passing in [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::TimedOut] {
            let said = unmade(Path::new("/r"), &passing.into()).unwrap();
            assert!(said.starts_with("cannot create the folder `/r`: ") && said.contains("in memory until"), "{said}");
        }
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = make(&file).unwrap_err();
        assert!(error.contains(&*file.to_string_lossy()) && error.ends_with("name another with -root"), "{error}");
        assert_eq!(make(&temp.path().join("a/b")), Ok(()));
    }
}
