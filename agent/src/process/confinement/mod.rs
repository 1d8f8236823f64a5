//! The agent's confinement: at its start it gives up, for good, what its configuration does not need.
//!
//! What a later configuration or a plugin that is dropped in needs beyond that takes a restart. Where something restarts the agent
//! (`wasaba supervise`, `wasaba container`, the systemd unit), it ends for one by itself; else the log and `wasaba status` ask for it.
//!
//! A program that the configuration names may need anything, and inherits what the agent has given up. So an agent that runs programs stays
//! unconfined, and says which table is why.

mod calls;
mod drop_ins;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use config::Config;
use config::check::Runner;
use config::document::Problem;
use config::metrics::Metrics;
use config::table::PluginTable;
use containers::Docker;
use containers::endpoint::Endpoint;
use plugins::keeper;
use plugins::key::Key;
use plugins::roster::Candidate;
use show::state::ConfinementReport;
use url::Url;
use wasaba_core::confinement;
use wasaba_core::confinement::files::{Allowed, Enforced, is_closed, is_closed_for_writing};
use wasaba_core::limits::Engine;
use wasaba_core::paths::own::Folder;
use wasaba_core::paths::{self, patient};
use wasaba_core::tls::{Trust, authorities};

use crate::run;

/// Where every machine has what it measures and how it is configured. Names and authorities may be elsewhere: links are followed.
const OF_MACHINE: [&str; 6] = ["/proc", "/sys", "/etc", "/usr", "/run/secrets", "/run/credentials"];

/// Where /etc/resolv.conf may lead at any time: a resolver that is started later makes it a link.
const OF_RESOLVERS: [&str; 3] = ["/run/systemd", "/run/resolvconf", "/run/NetworkManager"];

/// Devices that have nothing of anybody.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Files that other programs write, and where links lead to them from.
const LINKED: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/localtime", "/etc/machine-id"];

/// The ports of name servers, of the clouds' metadata services, of HTTP.
const USUAL_PORTS: [u16; 2] = [53, 80];

/// The variable that says that whatever has started the agent starts it again once it exits with [`RESTART`].
const RESTARTS: &str = "WASABA_RESTARTS";

/// The exit status by which the agent asks for a restart.
pub const RESTART: u8 = 75;

/// What a configuration and the plugins that were dropped in need of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The first table that runs a program.
    programs: Option<String>,
    /// The first table that runs one as another user.
    users: Option<String>,
    /// The engine's unix socket, if it is one.
    engine_socket: Option<String>,
    /// The first plugin whose code is made executable.
    native: Option<String>,
    /// The first plugin: only the sandbox knows which addresses it may reach.
    plugins: Option<String>,
    /// The TCP ports besides those of plugins.
    ports: BTreeSet<u16>,
    /// The folders that are read, besides this machine's own. Of a file that is a link, also the folder of the file that it leads to.
    reads: BTreeSet<PathBuf>,
}

impl Needs {
    /// What `config` needs, and each of `candidates`, which run by it. Where nothing restarts the agent, also what a command line of the
    /// official plugins needs once its program is installed.
    pub fn of<'a>(
        config: &Config,
        candidates: impl Iterator<Item = (&'a Key, &'a Candidate)>,
        is_restarted: bool,
    ) -> Self {
        let mut needs = Self::default();
        needs.ports.extend(USUAL_PORTS);
        let (server, proxy) = run::route(&config.network).shown(config.api_base.as_str());
        let urls = [Some(server), proxy].into_iter().flatten();
        needs.ports.extend(urls.filter_map(|url| Url::parse(&url).ok()?.port_or_known_default()));
        let folders = keeper::folders(config);
        needs.reads.extend(folders.drop_in().iter().cloned());
        needs.reads.extend(folders.installed());
        if let Some(docker) = &config.docker {
            needs.engine(docker);
        }
        for plugin in &config.metrics {
            if let Metrics::Official(_) = plugin.runs
                && !is_restarted
            {
                needs.program(format!("[plugin.metrics.{}], if its program is installed", plugin.name), false);
            }
        }
        let checks = config.checks.iter().map(|check| ("checks", &*check.name, &check.runner));
        let metadata = config.metadata.iter().map(|metadata| ("metadata", &*metadata.name, &metadata.runner));
        for (kind, name, runner) in checks.chain(metadata) {
            let table = format!("[plugin.{kind}.{name}]");
            match runner {
                Runner::Program(program) => needs.program(table, program.user.is_some()),
                Runner::Component(component) => needs.component(component, &table),
            }
        }
        for (key, candidate) in candidates {
            match candidate {
                Candidate::Program(metrics) => {
                    needs.program(format!("[plugin.metrics.{}]", key.name), metrics.program.user.is_some());
                }
                Candidate::Component(table, file) => {
                    needs.component(table, &format!("plugin `{}`", key.name));
                    needs.reads.extend(file.parent().map(Path::to_owned));
                }
                Candidate::Engine(docker) => needs.engine(docker),
            }
        }
        needs
    }

    fn program(&mut self, table: String, has_user: bool) {
        if has_user {
            self.users.get_or_insert_with(|| table.clone());
        }
        self.programs.get_or_insert(table);
    }

    fn component(&mut self, table: &PluginTable, name: &str) {
        self.plugins.get_or_insert_with(|| name.to_owned());
        if table.engine == Engine::Native {
            self.native.get_or_insert_with(|| name.to_owned());
        }
        let settings = table.raw.settings.iter().map(|(_, value)| value);
        settings.chain(&table.raw.allow).filter_map(|text| file_in(text)).for_each(|file| self.file(file));
        self.trust(&table.raw.trust);
    }

    fn engine(&mut self, docker: &Docker) {
        match &docker.endpoint {
            Endpoint::Tcp { port, .. } => {
                self.ports.insert(*port);
            }
            socket => {
                self.engine_socket.get_or_insert_with(|| socket.to_string());
            }
        }
        self.trust(&docker.trust);
    }

    fn trust(&mut self, trust: &Trust) {
        trust.paths().for_each(|file| self.file(file));
    }

    fn file(&mut self, file: &Path) {
        let above = |file: &Path| file.parent().filter(|folder| folder.parent().is_some()).map(Path::to_owned);
        self.reads.extend(above(file));
        self.reads.extend(leads_to(file).and_then(|file| above(&file)));
    }

    /// What `newer` needs beyond what was kept for this, a phrase each: `connects`, if not any port may be connected to, and what is not
    /// `is_closed`.
    fn lack(&self, newer: &Self, closes_ports: bool, is_closed: impl Fn(&Path) -> bool) -> Vec<String> {
        let gained = |ours: &Option<String>, newer: &Option<String>, what: &str| match (ours, newer) {
            (None, Some(why)) => Some(format!("{what}: {why}")),
            _ => None,
        };
        if self.programs.is_some() {
            // Nothing was given up.
            return Vec::new();
        }
        let words = [
            gained(&self.programs, &newer.programs, "a program"),
            gained(&self.native, &newer.native, "executable memory, for the engine `native`"),
            gained(&self.plugins, &newer.plugins, "connections to any port").filter(|_| closes_ports),
        ];
        let ports = newer.ports.difference(&self.ports).filter(|_| closes_ports);
        let ports = ports.map(|port| format!("connections to port {port}"));
        let reads = newer.reads.iter().filter(|folder| is_closed(folder));
        let reads = reads.map(|folder| format!("reading `{}`", folder.display()));
        words.into_iter().flatten().chain(ports).chain(reads).collect()
    }
}

/// The problems of running by this configuration under the systemd unit. Reads the folders of plugins, so it may block.
#[must_use]
pub fn of_unit(config: &Config) -> Vec<Problem> {
    let candidates = keeper::candidates(config).collect::<Vec<_>>();
    drop_ins::missing(&Needs::of(config, candidates.iter().map(|(key, candidate)| (key, candidate)), true))
}

/// The folder, or the nearest above it that exists, since one that is made later cannot be added. Never the uppermost.
fn existing(folder: &Path) -> PathBuf {
    let mut above = folder.ancestors().filter(|above| above.parent().is_some());
    above.find(|above| paths::exists_in_time(above)).unwrap_or(folder).to_owned()
}

/// The file that a setting or a grant names, if it does.
fn file_in(text: &str) -> Option<&Path> {
    Some(Path::new(text.strip_prefix("file:").unwrap_or(text))).filter(|file| file.is_absolute())
}

/// The file without links, if there is one.
fn leads_to(file: &Path) -> Option<PathBuf> {
    patient::ask(file, patient::LOOK, |file| file.canonicalize()).flatten().ok()
}

/// The confinement of this process.
struct Applied {
    needs: Needs,
    report: ConfinementReport,
    closes_ports: bool,
    /// What is read in any case: of these, what is replaced later is closed.
    reads: BTreeSet<PathBuf>,
    root: PathBuf,
    /// What could not be kept open, however often the agent is started: for want of permissions, for instance.
    hopeless: BTreeSet<PathBuf>,
    is_restarted: bool,
}

impl Applied {
    /// Whether what is there is closed, and a restart would open it.
    fn is_closed(&self, path: &Path) -> bool {
        paths::exists_in_time(path) && !self.hopeless.contains(path) && is_closed(path)
    }

    /// What is needed in any case, exists, and is closed, since it was replaced after the start or is elsewhere now.
    fn replaced(&self) -> impl Iterator<Item = PathBuf> {
        let links = LINKED.iter().map(PathBuf::from).chain(authorities()).filter_map(|link| leads_to(&link));
        links.chain(self.reads.iter().cloned()).filter(|path| self.is_closed(path))
    }
}

static APPLIED: OnceLock<Applied> = OnceLock::new();

/// What is closed of what was needed since, and of what was replaced since.
static LACKING: Mutex<[Vec<String>; 2]> = Mutex::new([Vec::new(), Vec::new()]);

/// The place of each in [`LACKING`].
const NEEDED: usize = 0;
const REPLACED: usize = 1;

/// Gives up what `config` does not need. To be called before any thread is started. `is_child` says that a supervisor waits for this process.
/// Never fails: what a kernel does not have is in the report.
pub fn apply(config: &Config, is_child: bool) {
    let is_restarted = is_child || std::env::var_os(RESTARTS).is_some();
    let candidates = keeper::candidates(config).collect::<Vec<_>>();
    let needs = Needs::of(config, candidates.iter().map(|(key, candidate)| (key, candidate)), is_restarted);
    let any_port = match &needs.plugins {
        _ if !is_restarted => Some("a plugin may come at any time, and nothing restarts this agent".to_owned()),
        Some(plugin) => Some(format!("the sandbox decides where a plugin connects: {plugin}")),
        None => None,
    };
    let mut allowed = allowed(config, &needs, any_port.is_none());
    // At the end, by whom it was made.
    allowed.removes.extend(config.pidfile.parent().filter(|_| !is_child).map(Path::to_owned));
    let mut report = ConfinementReport::default();
    let enforced = confine(config, &needs, &allowed, any_port.as_deref(), &mut report);
    let closes_ports = enforced.is_some_and(|enforced| enforced.ports);
    let is_hopeless = |path: &&PathBuf| paths::exists_in_time(path) && is_closed(path);
    let hopeless = allowed.reads.iter().chain(&needs.reads).filter(is_hopeless).cloned().collect();
    // The kernel's are asked for by what is in them.
    let reads =
        allowed.reads.into_iter().filter(|path| !OF_MACHINE.iter().any(|folder| path == Path::new(folder))).collect();
    let root = config.root.clone();
    APPLIED.set(Applied { needs, report, closes_ports, reads, root, hopeless, is_restarted }).ok();
}

/// What is enforced of the files and ports, if anything is; the `report` has the rest, too.
fn confine(
    config: &Config,
    needs: &Needs,
    allowed: &Allowed,
    any_port: Option<&str>,
    report: &mut ConfinementReport,
) -> Option<Enforced> {
    if !config.confinement {
        report.open.push("`confinement = false`".to_owned());
        return None;
    }
    if let Some(table) = &needs.programs {
        report.open.push(format!("a program may need anything: {table}"));
        return None;
    }
    let mut note = |closed: String, open: &str, done: Result<(), String>| match done {
        Ok(()) => report.closed.push(closed),
        Err(why) => report.open.push(format!("{open}: {why}")),
    };
    let root = patient::ask(&config.root, patient::LOOK, |root| Folder::create(root, 0o750).map(drop)).flatten();
    let files = match root {
        // Once confined, it could not be made.
        Err(error) => Err(format!("the folder `{}` cannot be made: {error}", config.root.display())),
        Ok(()) => allowed.only(),
    };
    let enforced = files.as_ref().ok().copied();
    match (files, any_port) {
        (Ok(enforced), any_port) => {
            note(format!("files and programs (Landlock {})", enforced.version), "", Ok(()));
            let closed = any_port.map_or_else(
                || if enforced.ports { Ok(()) } else { Err("this kernel does not close them".to_owned()) },
                |why| Err(why.to_owned()),
            );
            let ports = needs.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            note(format!("ports but {ports}"), "ports", closed);
        }
        (Err(why), _) => note(String::new(), "files, programs and ports", Err(why)),
    }
    let in_words = |done: std::io::Result<()>| done.map_err(|error| error.to_string());
    note("new privileges".to_owned(), "new privileges", in_words(confinement::no_new_privileges()));
    let no_code = match &needs.native {
        Some(plugin) => Err(format!("the engine `native` makes some: {plugin}")),
        None => in_words(confinement::no_new_code()),
    };
    note("new code".to_owned(), "new code", no_code);
    let calls = calls::of_the_agent(needs.native.is_some()).only();
    note("other system calls (seccomp)".to_owned(), "system calls", calls);
    enforced
}

/// What the agent may still do with files, and where it may connect to.
fn allowed(config: &Config, needs: &Needs, closes_ports: bool) -> Allowed {
    let reads = OF_MACHINE.iter().chain(&OF_RESOLVERS).chain(&DEVICES).map(PathBuf::from);
    let links = LINKED.iter().map(PathBuf::from).chain(authorities());
    let linked = links.filter_map(|link| {
        let leads_to = patient::ask(&link, patient::LOOK, |link| link.canonicalize()).flatten().ok()?;
        leads_to.parent().map(Path::to_owned)
    });
    let roots = &config.machine;
    let host = roots
        .host
        .iter()
        .flat_map(|host| OF_MACHINE.iter().map(move |folder| host.join(folder.trim_start_matches('/'))));
    let machine = [&roots.proc, &roots.sys, &roots.etc].into_iter().cloned();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let program = std::env::current_exe().ok();
    let reads = reads
        .chain(linked)
        .chain(host)
        .chain(machine)
        .chain(credentials)
        .chain(needs.reads.iter().map(|folder| existing(folder)))
        .chain(paths::read_so_far());
    Allowed {
        reads: reads.filter(|path| path.parent().is_some()).collect(),
        writes: [config.root.clone(), "/dev/null".into()].into(),
        removes: BTreeSet::new(),
        executes: program.into_iter().collect(),
        connects: closes_ports.then(|| needs.ports.clone()),
    }
}

/// What was given up, and what of it is needed now; `None` before [`apply`].
#[must_use]
pub fn report() -> Option<ConfinementReport> {
    let lacking = LACKING.lock().unwrap_or_else(PoisonError::into_inner).concat();
    Some(ConfinementReport { lacking, ..APPLIED.get()?.report.clone() })
}

/// Logs what was given up.
pub fn log() {
    if let Some(report) = report() {
        tracing::info!("{report}");
    }
}

/// Compares what is needed now with what was given up. What lacks is logged once, and in the report; returns whether the agent has to end
/// so that it is restarted.
pub fn is_outgrown<'a>(config: &Config, candidates: impl Iterator<Item = (&'a Key, &'a Candidate)>) -> bool {
    let Some(applied) = APPLIED.get() else { return false };
    if applied.report.closed.is_empty() {
        return false;
    }
    let needs = Needs::of(config, candidates, applied.is_restarted);
    let mut lacking = applied.needs.lack(&needs, applied.closes_ports, |path| applied.is_closed(path));
    if !config.confinement {
        lacking.push("everything: `confinement = false`".to_owned());
    }
    applied.asks_for(lacking, NEEDED)
}

/// Looks whether what is read in any case was replaced, which the kernel does not open again, as [`is_outgrown`] does for what is new.
/// To be called now and then; may block.
pub fn is_outdated() -> bool {
    let Some(applied) = APPLIED.get() else { return false };
    if applied.report.closed.is_empty() {
        return false;
    }
    if is_closed_for_writing(&applied.root) {
        let root = applied.root.display();
        static LOGGED: Once = Once::new();
        LOGGED.call_once(|| {
            tracing::error!(
                "the folder `{root}` was deleted or replaced, and the agent, which has dropped the right to write elsewhere at its start, cannot \
                 write there: its values stay in memory; keep this host by its id: stop the agent, write the id that `wasaba status` shows to \
                 `{root}/id`, and start it again"
            );
        });
        return false;
    }
    let replaced = applied.replaced().map(|path| format!("reading `{}`", path.display()));
    applied.asks_for(replaced.collect(), REPLACED)
}

impl Applied {
    /// Notes what is lacking of what was needed or replaced, and logs what is new of it. Returns whether the agent has to end so that it
    /// is restarted.
    fn asks_for(&self, lacking: Vec<String>, place: usize) -> bool {
        let mut known = LACKING.lock().unwrap_or_else(PoisonError::into_inner);
        let news = lacking.iter().filter(|lack| !known.iter().flatten().any(|known| known == *lack)).cloned();
        let news = news.collect::<Vec<_>>().join(", ");
        if let Some(known) = known.get_mut(place) {
            *known = lacking;
        }
        drop(known);
        match (news.is_empty(), self.is_restarted) {
            (true, _) => false,
            (false, true) => {
                tracing::info!("restarting to allow what was dropped at the start: {news}");
                true
            }
            (false, false) => {
                tracing::warn!("restart the agent to allow what it dropped at its start: {news}");
                false
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests try what the agent does not")]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

    use super::*;

    /// The folder that the child of the test below gets.
    const FOLDER: &str = "WASABA_TEST_FOLDER";

    fn config_in(folder: &Path, text: &str) -> Config {
        let (mut config, problems) = config::parse(Path::new("agent.conf"), text).unwrap();
        assert_eq!(problems, [], "{text}");
        config.root = folder.join("root");
        config.pidfile = folder.join("run/agent.pid");
        config
    }

    /// Executable memory, by any of the ways to get some.
    fn gets_executable_memory() -> bool {
        let (length, private) = (4_096, MapFlags::PRIVATE);
        #[expect(unsafe_code, reason = "what is tried; see SAFETY")]
        // SAFETY: new anonymous memory, which nothing else knows of, and which is neither read, written nor executed.
        unsafe {
            let mapped =
                rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::EXEC, private);
            let written =
                rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, private)
                    .unwrap();
            mapped.is_ok() || rustix::mm::mprotect(written, length, MprotectFlags::READ | MprotectFlags::EXEC).is_ok()
        }
    }

    /// Runs only as the child of the test below: the test program confines itself as the agent does, and tries what it must not.
    #[test]
    #[ignore = "confines the process that it runs in"]
    fn confined() {
        let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (other, open) = (listener.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let text = format!("apikey = \"key\"\napibase = \"http://{}\"\n", open.local_addr().unwrap());
        apply(&config_in(&folder, &text), true);
        let report = report().unwrap();
        assert_eq!((report.open, report.lacking), (vec![], vec![]));
        let refused = |what: &str, done: std::io::Result<()>| {
            let kind = done.map_err(|error| error.kind());
            assert_eq!(kind, Err(std::io::ErrorKind::PermissionDenied), "{what}");
        };
        let write = |path: PathBuf| fs::write(path, "x");
        refused("reading a file that was not granted", fs::read(folder.join("secret")).map(drop));
        refused("listing a folder that was not granted", fs::read_dir(&folder).map(drop));
        refused("a new file outside of the root", write(folder.join("new")));
        refused("another file outside of the root", write(folder.join("secret")));
        refused("removing one", fs::remove_file(folder.join("secret")));
        refused("making a folder", fs::create_dir(folder.join("made")));
        refused(
            "moving a file out of the root",
            fs::rename(folder.join("root/own"), folder.join("moved")).map_err(|error| match error.kind() {
                // What Landlock says of a move between folders.
                std::io::ErrorKind::CrossesDevices => std::io::ErrorKind::PermissionDenied.into(),
                _ => error,
            }),
        );
        refused("a new file beside the pid file", write(folder.join("run/other")));
        refused("the pid file, which is the supervisor's", fs::remove_file(folder.join("run/agent.pid")));
        refused("the machine's configuration", write("/etc/wasaba-test".into()));
        refused("shared memory", write("/dev/shm/wasaba-test".into()));
        let program = |path: &Path| Command::new(path).status().map(drop);
        refused("a program", program("/bin/true".as_ref()));
        fs::write(folder.join("root/program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("root/program"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        refused("a program that it wrote", program(&folder.join("root/program")));
        assert!(!gets_executable_memory());
        refused("another port", TcpStream::connect(other).map(drop));
        refused("a listener", TcpListener::bind("127.0.0.1:0").map(drop));
        let parent = rustix::process::getppid().unwrap();
        assert!(rustix::process::kill_process(parent, rustix::process::Signal::USR1).is_err(), "a signal");
        let pipe = (rustix::fs::FileType::Fifo, rustix::fs::Mode::empty());
        for (what, done) in [
            ("another root", rustix::process::chroot("/")),
            ("another name", rustix::system::sethostname(b"other")),
            (
                "a pipe, in its own folder",
                rustix::fs::mknodat(rustix::fs::CWD, folder.join("root/pipe"), pipe.0, pipe.1, 0),
            ),
        ] {
            assert_eq!(done, Err(rustix::io::Errno::PERM), "{what}");
        }

        TcpStream::connect(open.local_addr().unwrap()).unwrap();
        fs::write(folder.join("root/new"), "x").unwrap();
        fs::read("/proc/self/status").unwrap();
        fs::read("/etc/passwd").unwrap();
        assert!(std::thread::spawn(|| ()).join().is_ok(), "a thread");
        let inherits = std::thread::spawn(move || fs::read(folder.join("secret")).is_err());
        assert!(inherits.join().unwrap(), "a thread has what its parent has");
    }

    #[test]
    fn a_confined_agent_reads_writes_runs_and_reaches_only_what_its_configuration_needs() {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["root", "run"] {
            fs::create_dir(temp.path().join(folder)).unwrap();
        }
        for file in ["secret", "root/own", "run/agent.pid"] {
            fs::write(temp.path().join(file), "x").unwrap();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["process::confinement::tests::confined", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, temp.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
    }

    fn needs(text: &str) -> Needs {
        let config = config_in(Path::new("/nowhere"), text);
        let candidates = keeper::candidates(&config).collect::<Vec<_>>();
        Needs::of(&config, candidates.iter().map(|(key, candidate)| (key, candidate)), true)
    }

    #[test]
    fn what_a_new_configuration_needs_beyond_the_old_one_is_named() {
        let old = needs("");
        let kept = allowed(&config_in(Path::new("/nowhere"), ""), &old, true);
        let is_closed = |folder: &Path| !kept.reads.iter().chain(&kept.writes).any(|open| folder.starts_with(open));
        let lack = |text: &str| old.lack(&needs(text), true, is_closed);
        assert_eq!(lack(""), [""; 0]);
        assert_eq!(lack("roles = [\"a:b\"]\n[docker]\n"), [""; 0]);
        assert_eq!(lack("[plugin.checks.x]\ncommand = \"true\"\n"), ["a program: [plugin.checks.x]"]);
        assert_eq!(lack("apibase = \"http://localhost:8080\"\n"), ["connections to port 8080"]);
        assert_eq!(
            lack("http_proxy = \"http://localhost:3128\"\napibase = \"http://a\"\n"),
            ["connections to port 3128"]
        );
        assert_eq!(lack("[docker]\nhost = \"tcp://localhost:2375\"\n"), ["connections to port 2375"]);
        let check = "[plugin.checks.c]\nwasm = \"c\"\nengine = \"native\"\nallow = [\"file:/tmp/x.log\", \"file:/etc/hosts\"]\n";
        let why = "[plugin.checks.c]";
        assert_eq!(
            lack(check),
            [
                format!("executable memory, for the engine `native`: {why}"),
                format!("connections to any port: {why}"),
                "reading `/tmp`".to_owned()
            ]
        );
        assert_eq!(old.lack(&needs(check), false, is_closed).len(), 2, "each port is open already");
        let unconfined = needs("[plugin.checks.x]\ncommand = \"true\"\n");
        assert_eq!(unconfined.lack(&needs(check), true, is_closed), [""; 0], "nothing was given up");
    }

    #[test]
    fn the_folder_of_a_granted_file_may_be_read_or_the_nearest_above_it_that_exists_but_never_the_uppermost() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().display().to_string();
        for (text, expected) in [
            (format!("{folder}/a.log"), Some(folder.as_str())),
            (format!("file:{folder}/b.log"), Some(&folder)),
            (format!("{folder}/no/such/folder/a.log"), Some(&folder)),
            ("/status".to_owned(), None),
            ("http://localhost/status".to_owned(), None),
            ("relative/path".to_owned(), None),
            (String::new(), None),
        ] {
            let mut needs = Needs::default();
            file_in(&text).into_iter().for_each(|file| needs.file(file));
            let folders = needs.reads.iter().map(|folder| existing(folder)).collect::<Vec<_>>();
            assert_eq!(folders.first().map(PathBuf::as_path), expected.map(Path::new), "{text}");
        }
    }
}
