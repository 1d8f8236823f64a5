//! A real Docker engine in its own network namespace, with images made of this machine's programs.
//!
//! The network of the engine, its bridges and its containers is isolated from this machine's; [`Engine::listener`] opens a
//! listener in it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// A running engine; stopped with its containers when dropped.
pub struct Engine {
    child: Mutex<Child>,
    folder: TempDir,
    more: Vec<String>,
}

impl Engine {
    /// The engine that the tests of this process share.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let engine = Arc::new(Self::start(&[]));
            *shared = Arc::downgrade(&engine);
            engine
        })
    }

    /// Starts an engine, with `more` flags.
    ///
    /// # Panics
    /// dockerd is not installed, the tests do not run as root, or the engine does not answer in time.
    #[must_use]
    pub fn start(more: &[&str]) -> Self {
        let uid = rustix::process::geteuid();
        assert!(
            uid.is_root(),
            "starting a Docker engine requires root: run these tests as root, or skip them with --skip docker"
        );
        let folder = tempfile::tempdir().unwrap();
        let more = more.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        outweigh(&group(folder.path()));
        let child = spawn(folder.path(), &more);
        let engine = Self { child: Mutex::new(child), folder, more };
        engine.wait_until_it_answers();
        engine
    }

    fn wait_until_it_answers(&self) {
        let begin = Instant::now();
        while !self.command(&["version"]).status.success() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < crate::SOON, "the engine does not answer:\n{}", log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The group id of its socket.
    ///
    /// # Panics
    /// The socket is missing.
    #[must_use]
    pub fn socket_group(&self) -> u32 {
        std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(self.socket()).unwrap())
    }

    /// A path in the engine's folder, for files that a test mounts.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the client, which may fail.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Output {
        Command::new("docker").args(words).env("DOCKER_HOST", self.host()).stdin(Stdio::null()).output().unwrap()
    }

    /// The value of `DOCKER_HOST` for this engine.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Runs the client, which must succeed, and returns its output.
    ///
    /// # Panics
    /// It fails.
    pub fn docker(&self, words: &[&str]) -> String {
        let output = self.command(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {}: {errors}", words.join(" "));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Creates the image `name` from a root file system and `changes`, lines of a Dockerfile, unless it exists.
    ///
    /// # Panics
    /// It cannot be created.
    pub fn image(&self, name: &str, changes: &[&str], root: impl FnOnce(&Root)) {
        static MAKING: Mutex<()> = Mutex::new(());
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.command(&["image", "inspect", name]).status.success() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        root(&Root { folder: folder.path().to_owned() });
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder.path()).args(["--owner=0", "--group=0", "-c", "."]).stdout(Stdio::piped());
        let mut tar = tar.spawn().unwrap();
        let mut import = Command::new("docker");
        import
            .arg("import")
            .args(changes.iter().flat_map(|change| ["--change", change]))
            .args(["-", name])
            .env("DOCKER_HOST", self.host())
            .stdin(tar.stdout.take().unwrap());
        let imported = import.output().unwrap();
        assert!(tar.wait().unwrap().success() && imported.status.success(), "{imported:?}");
    }

    /// Creates the image of the shipped program, `wasaba`, like `make image`.
    ///
    /// # Panics
    /// It cannot be created.
    pub fn wasaba(&self) {
        static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(&self.socket()) {
            return;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent/packaging/image/build.sh");
        let mut build = Command::new(script);
        build.arg(crate::built()).arg("wasaba").env("DOCKER_HOST", self.host()).stdin(Stdio::null());
        let built = build.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        made.push(self.socket());
    }

    /// Creates the image `busybox`, with a shell.
    pub fn busybox(&self) {
        self.image("busybox", &[], Root::busybox);
    }

    /// A listener in the engine's network on this port, or on a free one if it is 0. Containers reach it through their gateway.
    ///
    /// # Panics
    /// The engine's network cannot be entered.
    #[must_use]
    pub fn listener(&self, port: u16) -> TcpListener {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        // A socket stays in the network namespace in which it was created.
        let listening = std::thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        });
        listening.join().unwrap()
    }

    /// A program of this machine in the engine's network.
    #[must_use]
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(program).stdin(Stdio::null());
        command
    }

    /// Sends a signal to the engine: `STOP` makes it hang.
    ///
    /// # Panics
    /// It has exited.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops the engine with its containers, and starts it again.
    pub fn restart(&self) {
        self.stop();
        *self.lock() = spawn(self.folder.path(), &self.more);
        self.wait_until_it_answers();
    }

    /// Stops the engine with its containers.
    pub fn stop(&self) {
        let mut child = self.lock();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::CONT).ok();
        kill_process(pid, Signal::TERM).ok();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(30) {
                child.kill().ok();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> u32 {
        self.lock().id()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The control group of an engine's containers, named after the engine's folder.
fn group(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap().to_string_lossy();
    PathBuf::from(format!("wasaba-tests{name}"))
}

/// Gives a control group the highest CPU weight, so that a container that is limited to half a core really gets it on a busy
/// machine. Where the weight cannot be set, tests of CPU usage depend on the load.
fn outweigh(group: &Path) {
    let root = Path::new(CONTROL_GROUPS);
    for (folder, file, most) in [(root.join("cpu"), "cpu.shares", "262144"), (root.to_owned(), "cpu.weight", "10000")] {
        if folder.join("cgroup.procs").is_file() {
            std::fs::create_dir(folder.join(group)).ok();
            std::fs::write(folder.join(group).join(file), most).ok();
        }
    }
}

fn spawn(folder: &Path, more: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("unshare");
    // It is stopped when the test process exits.
    command.args([
        "--net",
        "setpriv",
        "--pdeathsig",
        "TERM",
        "sh",
        "-c",
        "ip link set lo up && exec dockerd \"$@\"",
        "dockerd",
    ]);
    command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
    command.args(["--host", &format!("unix://{}", at("docker.sock")), "--bridge=none", "--iptables=false"]);
    command.args(["--log-level=error", "--exec-opt", "native.cgroupdriver=cgroupfs"]).args(more);
    command.arg("--cgroup-parent").arg(Path::new("/").join(group(folder)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // PDEATHSIG is sent when the thread that started the child exits, so this thread must stay.
    let (started, child) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        started.send(command.spawn().expect("unshare, from tests/setup.sh servers")).unwrap();
        loop {
            std::thread::park();
        }
    });
    child.recv().unwrap()
}

impl Drop for Engine {
    fn drop(&mut self) {
        let containers = self.command(&["ps", "-aq"]);
        let containers = String::from_utf8_lossy(&containers.stdout).into_owned();
        let ids = containers.split_whitespace().collect::<Vec<_>>();
        if !ids.is_empty() {
            drop(self.command(&[&["rm", "-f", "-v"][..], &ids].concat()));
        }
        self.stop();
        for controller in std::fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten() {
            std::fs::remove_dir(controller.path().join(group(self.folder.path()))).ok();
        }
        std::fs::remove_dir(Path::new(CONTROL_GROUPS).join(group(self.folder.path()))).ok();
    }
}

/// The root file system of an image, made of this machine's programs.
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// Writes an executable file, and creates its parent folders.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.at(path);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Creates a folder that every user may write to.
    pub fn folder(&self, path: &str) {
        let folder = self.folder.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
    }

    /// Adds a shell with its commands and users.
    ///
    /// # Panics
    /// busybox is not installed.
    pub fn busybox(&self) {
        std::fs::copy("/bin/busybox", self.at("/bin/busybox")).expect("busybox, from tests/setup.sh servers");
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", self.at(&format!("/bin/{applet}"))).unwrap();
        }
        self.folder("/tmp");
        self.write("/etc/passwd", "root:x:0:0::/:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n");
        self.write("/etc/group", "root:x:0:\npostgres:x:70:\n");
    }

    /// Copies a program of this machine and its libraries to the same paths.
    ///
    /// # Panics
    /// It is not installed.
    pub fn program(&self, path: &str) {
        self.copy(path);
        let needed = Command::new("ldd").arg(path).output().unwrap();
        let needed = String::from_utf8(needed.stdout).unwrap();
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, and the loader, a path alone.
        let paths = needed.split_whitespace().filter(|word| word.starts_with('/')).collect::<BTreeSet<_>>();
        paths.into_iter().for_each(|library| self.copy(library));
    }

    /// Copies a folder of this machine to the same path.
    ///
    /// # Panics
    /// It does not exist.
    pub fn tree(&self, path: &str) {
        let to = self.at(path);
        let copied = Command::new("cp").args(["-a", path]).arg(&to).status().unwrap();
        assert!(copied.success(), "{path}");
    }

    fn copy(&self, path: &str) {
        let to = self.at(path);
        if !to.exists() {
            std::fs::copy(path, to).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }

    /// A path below the root; its parent folder is created.
    fn at(&self, path: &str) -> PathBuf {
        let at = self.folder.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        at
    }
}
