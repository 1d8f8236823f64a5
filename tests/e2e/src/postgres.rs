//! A real PostgreSQL on loopback and on a unix socket, in a temporary folder.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::certificates::Authority;

/// The superuser, which logs in over the unix socket without a password.
const ADMIN: &str = "admin";

/// A running server; stopped when dropped.
pub struct Postgres {
    child: Child,
    folder: TempDir,
    /// The folder with its copy of the TLS key.
    tls: Option<TempDir>,
    /// The port on 127.0.0.1.
    pub port: u16,
}

impl Postgres {
    /// Starts PostgreSQL with these lines in postgresql.conf and in pg_hba.conf, after those for the superuser.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not answer within 60 s.
    #[must_use]
    pub fn start(config: &str, host_based_access: &str) -> Self {
        let folder = new_folder();
        let data = folder.path().join("data");
        let options = ["-U", ADMIN, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", "-D"];
        succeed(server_command("initdb").args(options).arg(&data));
        let access = format!("local all {ADMIN} trust\nlocal replication {ADMIN} trust\n{host_based_access}\n");
        write(&data.join("pg_hba.conf"), &access);
        Self::serve(folder, config)
    }

    /// Starts PostgreSQL with TLS, with a certificate of `authority` for `localhost` only.
    #[must_use]
    pub fn start_with_tls(authority: &Authority, config: &str, host_based_access: &str) -> Self {
        let issued = authority.issue("localhost", &[]);
        // PostgreSQL requires that it owns its key.
        let folder = new_folder();
        let key = folder.path().join("server.key");
        write(&key, &fs::read_to_string(&issued.key).unwrap());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let (certificate, authority) = (issued.certificate.display(), authority.file());
        let tls = format!(
            "ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n{config}",
            key.display(),
            authority.display()
        );
        let mut server = Self::start(&tls, host_based_access);
        server.tls = Some(folder);
        server
    }

    /// Starts a standby of this server, with a new replication slot `slot`.
    #[must_use]
    pub fn replica(&self, slot: &str) -> Self {
        let folder = new_folder();
        let data = folder.path().join("data");
        let mut backup = server_command("pg_basebackup");
        backup.args(["-U", ADMIN, "-R", "-C", "-S", slot, "-X", "stream", "-c", "fast", "--no-sync"]);
        succeed(backup.arg("-h").arg(self.socket_folder()).arg("-p").arg(self.port.to_string()).arg("-D").arg(&data));
        Self::serve(folder, "")
    }

    fn serve(folder: TempDir, config: &str) -> Self {
        let port = crate::free_port();
        let (data, home) = (folder.path().join("data"), folder.path().display().to_string());
        let all = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{home}'\nfsync = off\n\
             shared_buffers = 16MB\nautovacuum = off\n{config}\n"
        );
        let mut whole = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        whole.push_str(&all);
        write(&data.join("postgresql.conf"), &whole);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = server_command("postgres");
        command.arg("-D").arg(&data).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = Self { child: command.spawn().unwrap(), folder, tls: None, port };
        let begin = Instant::now();
        while !server.psql("SELECT 1").status.success() {
            let log = || fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer:\n{}", log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        server
    }

    /// The folder of its unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_folder().join(format!(".s.PGSQL.{}", self.port))
    }

    fn psql(&self, sql: &str) -> Output {
        self.client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"]).output().unwrap()
    }

    /// One of PostgreSQL's clients, as the superuser.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command.arg("-h").arg(self.socket_folder()).arg("-p").arg(self.port.to_string()).args(["-U", ADMIN]);
        command.stdin(Stdio::null());
        command
    }

    /// The output of psql for `sql`: rows of values joined by `|`.
    ///
    /// # Panics
    /// The server refuses it.
    #[must_use]
    pub fn ask(&self, sql: &str) -> String {
        crate::agent::stdout(&self.psql(sql)).trim_end().to_owned()
    }

    /// The single number that `sql` returns.
    ///
    /// # Panics
    /// The result is not a number.
    #[must_use]
    pub fn number(&self, sql: &str) -> f64 {
        let text = self.ask(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    /// Executes `sql`.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn run(&self, sql: &str) {
        let output = self.psql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A session that has executed `lines`, is executing `at_last`, which may take arbitrarily long, and stays open.
    ///
    /// # Panics
    /// It ends before that.
    #[must_use]
    pub fn session(&self, lines: &[&str], at_last: &str) -> Session {
        let mut command = self.client("psql");
        command.args(["-XAtq", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}\n\\echo ready\n{at_last}", lines.join("\n")).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(output.lines().map_while(Result::ok).any(|line| line == "ready"), "the session ended early");
        Session { child, _input: input }
    }
}

/// An open session; closed when dropped.
pub struct Session {
    child: Child,
    _input: ChildStdin,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Immediate shutdown", which also stops its children.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::QUIT).ok();
        }
        self.child.wait().ok();
    }
}

/// The folder with the programs of the newest PostgreSQL.
///
/// # Panics
/// PostgreSQL is not installed.
#[must_use]
pub fn programs() -> PathBuf {
    let mut folders = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect::<Vec<_>>())
        .unwrap_or_default();
    folders.retain(|folder| folder.join("postgres").is_file());
    folders.sort_by_key(|folder| folder.to_string_lossy().split('/').find_map(|part| part.parse::<u32>().ok()));
    folders.pop().expect("PostgreSQL, from tests/setup.sh servers")
}

/// One of the server's programs, run as [`server_user`], since they refuse to run as root.
fn server_command(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C");
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

/// The user and group of the server if the tests run as root: those of Debian's package.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line =
        users.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres, of Debian's package");
    let fields = line.split(':').collect::<Vec<_>>();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A temporary folder that the server's user owns and all users may read.
fn new_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    own(folder.path());
    crate::readable_by_all(folder.path());
    folder
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    own(file);
}

fn own(path: &Path) {
    if let Some((user, group)) = server_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
