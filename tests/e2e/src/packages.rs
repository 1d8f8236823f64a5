//! The packages, and a machine to install them on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::agent::Agent;

/// The folder of what packages and the image are made of.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent/packaging")).to_owned()
}

/// The Debian package of the tested program with this version. Each is made once.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn deb(version: &'static str) -> PathBuf {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let made = MADE.get_or_init(|| tempfile::tempdir().unwrap());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let architecture = String::from_utf8(Command::new("dpkg").arg("--print-architecture").output().unwrap().stdout);
    let architecture = architecture.unwrap().trim().to_owned();
    let file = made.path().join(format!("wasaba_{version}-1_{architecture}.deb"));
    if file.exists() {
        return file;
    }
    let mut build = Command::new(folder().join("deb/build.sh"));
    build.arg(crate::built()).arg(architecture).arg(made.path()).env("VERSION", version);
    // What `make test` has compiled before, and no time for a smaller file.
    build.env("COMPILED", crate::compiled()).env("COMPRESSION", "none").env("SOURCE_DATE_EPOCH", "1700000000");
    let output = build.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
    file
}

/// A package `mackerel-agent` that installs what the official one does, with a program that does nothing.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn official(folder: &Path) -> PathBuf {
    let tree = folder.join("mackerel-agent");
    let write = |path: &str, text: &str, mode: &str| {
        let file = tree.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        assert!(Command::new("chmod").arg(mode).arg(&file).status().unwrap().success());
    };
    let control = "Package: mackerel-agent\nVersion: 0.87.0-1\nArchitecture: all\nMaintainer: tests <tests@example.com>\n\
                   Description: stands in for the official package\n";
    write("DEBIAN/control", control, "644");
    write("DEBIAN/conffiles", "/etc/mackerel-agent/mackerel-agent.conf.example\n/etc/default/mackerel-agent\n", "644");
    // As its maintainer's scripts, and what debhelper adds to them.
    let postinst = "#!/bin/sh\nset -e\ncd /etc/mackerel-agent\n[ -e mackerel-agent.conf ] || cp mackerel-agent.conf.example mackerel-agent.conf\n\
                    deb-systemd-helper enable mackerel-agent.service >/dev/null\n";
    write("DEBIAN/postinst", postinst, "755");
    let postrm = "#!/bin/sh\nset -e\nif [ \"$1\" = purge ]; then\nrm -f /etc/mackerel-agent/mackerel-agent.conf /var/lib/mackerel-agent/id\n\
                  deb-systemd-helper purge mackerel-agent.service >/dev/null\nfi\n";
    write("DEBIAN/postrm", postrm, "755");
    write("etc/mackerel-agent/mackerel-agent.conf.example", "# apikey = \"\"\n", "644");
    write("etc/default/mackerel-agent", "# OTHER_OPTS=-v\n", "644");
    write("usr/bin/mackerel-agent", "#!/bin/sh\n", "755");
    let unit = "[Service]\nExecStart=/usr/bin/mackerel-agent\n[Install]\nWantedBy=multi-user.target\n";
    write("lib/systemd/system/mackerel-agent.service", unit, "644");
    std::fs::create_dir_all(tree.join("var/lib/mackerel-agent")).unwrap();
    let file = folder.join("mackerel-agent.deb");
    let mut build = Command::new("dpkg-deb");
    let output = build.args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

/// This machine's file system, with changes that only its own programs see and that are gone with it. It has no running systemd.
pub struct Machine {
    /// Keeps the mounts: they are gone when it ends.
    holder: Child,
    folder: TempDir,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine on which neither wasaba nor the official agent was ever installed.
    ///
    /// # Panics
    /// It cannot be made: this needs root, as the tests of Docker do.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "set -e\ncd \"$0\"\nmount -t tmpfs tmpfs .\ncd \"$0\"\nmkdir upper work root\n\
                      mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root\n\
                      mount -t proc proc root/proc\nmount --rbind /dev root/dev\nmount -t tmpfs tmpfs root/run\n\
                      mount -t tmpfs -o mode=1777 tmpfs root/tmp\n\
                      rm -rf root/var/lib/mackerel-agent root/etc/mackerel-agent root/etc/systemd/system/*/mackerel-agent.service\n\
                      rm -f root/var/lib/man-db/auto-update\n\
                      touch ready\nexec sleep infinity";
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(folder.path());
        let holder = holder.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut machine = Self { holder, folder };
        let begin = std::time::Instant::now();
        while !machine.outside(&["test", "-e", &machine.path("ready")]).status().unwrap().success() {
            let ended = machine.holder.try_wait().unwrap();
            assert!(
                ended.is_none() && begin.elapsed() < crate::SOON,
                "a machine is not made ({ended:?}): is this root?"
            );
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        machine.run("dpkg --purge wasaba mackerel-agent");
        machine
    }

    /// A command of this machine's, among the mounts of the other.
    fn outside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).args(words).stdin(Stdio::null());
        command
    }

    /// A path of the other machine's, among its mounts.
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A command in the machine.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.outside(&[&["chroot", &self.path("root")][..], words].concat());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }

    /// Runs a line of the shell in the machine.
    ///
    /// # Panics
    /// There is no shell.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Output {
        self.command(&["sh", "-c", line]).output().unwrap()
    }

    /// Runs a line of the shell in the machine, and returns what it prints.
    ///
    /// # Panics
    /// It fails.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(&format!("exec 2>&1\n{line}"));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}: {printed}");
        printed
    }

    /// Installs a package, and returns what is printed.
    ///
    /// # Panics
    /// It is not installed.
    pub fn install(&self, package: &Path) -> String {
        let copy = self.outside(&["cp", &package.display().to_string(), &self.path("root/root/package.deb")]).status();
        assert!(copy.unwrap().success(), "{}", package.display());
        self.run("dpkg --force-unsafe-io --install /root/package.deb")
    }

    /// Starts the agent as the unit does: as its user, with its root.
    #[must_use]
    pub fn start(&self) -> Agent {
        // The unit has a folder of its own for the pid file.
        self.run("install -d -o wasaba -g wasaba /run/wasaba");
        let user = ["setpriv", "--reuid=wasaba", "--regid=wasaba", "--init-groups", "--no-new-privs"];
        let agent = ["/usr/bin/wasaba", "-v", "-root=/var/lib/mackerel-agent", "-pidfile=/run/wasaba/pid"];
        Agent::spawn(self.command(&[&user[..], &agent].concat()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}
