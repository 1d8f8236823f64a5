//! A real Redis on loopback and on a unix socket, in a temporary folder.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server; stopped when dropped.
pub struct Redis {
    child: Child,
    folder: TempDir,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Arguments with which redis-cli logs in.
    login: Vec<String>,
}

impl Redis {
    /// Starts Redis with these lines in its configuration, in addition to a port, a unix socket and a folder. `login` are the
    /// arguments with which redis-cli logs in.
    ///
    /// # Panics
    /// Redis is not installed, or does not answer in time.
    #[must_use]
    pub fn start(config: &str, login: &[&str]) -> Self {
        let port = crate::free_port();
        Self::start_at(port, &format!("port {port}\n{config}"), login)
    }

    /// Like [`Redis::start`], with TLS on its port and no plaintext port.
    #[must_use]
    pub fn start_with_tls(authority: &crate::certificates::Authority, config: &str, login: &[&str]) -> Self {
        let (port, issued) = (crate::free_port(), authority.issue("localhost", &[]));
        let file = authority.file().display().to_string();
        let config = format!(
            "port 0\ntls-port {port}\ntls-auth-clients optional\ntls-ca-cert-file {file}\ntls-cert-file {}\ntls-key-file {}\n{config}",
            issued.certificate.display(),
            issued.key.display(),
        );
        Self::start_at(port, &config, &[&["--tls", "--cacert", &file], login].concat())
    }

    fn start_at(port: u16, config: &str, login: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display();
        let all = format!(
            "bind 127.0.0.1\nunixsocket {home}/redis.sock\ndir {home}\nsave \"\"\nlogfile {home}/log\n{config}\n"
        );
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, all).unwrap();
        let mut command = Command::new("redis-server");
        let child = command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("Redis, from tests/setup.sh servers");
        let login = login.iter().map(|word| (*word).to_owned()).collect();
        let server = Self { child, folder, port, login };
        let begin = Instant::now();
        while server.cli(&["PING"]) != "PONG" {
            let log = || std::fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < crate::SOON, "Redis answers {:?}:\n{}", server.cli(&["PING"]), log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        server
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The output of redis-cli for a command.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command
            .args(["-h", "localhost", "-p", &self.port.to_string(), "--no-auth-warning"])
            .args(&self.login)
            .args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The value of `key` in INFO or CLUSTER INFO, as redis-cli shows it.
    ///
    /// # Panics
    /// The key is missing.
    #[must_use]
    pub fn info(&self, key: &str) -> String {
        let whole = self.cli(&["INFO", "everything"]) + "\n" + &self.cli(&["CLUSTER", "INFO"]);
        let line = whole.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {whole}")).trim().to_owned()
    }

    /// The number of `key` in INFO.
    ///
    /// # Panics
    /// The value is not a number.
    #[must_use]
    pub fn number(&self, key: &str) -> f64 {
        self.info(key).parse().unwrap()
    }

    /// Waits until `key` has this value.
    ///
    /// # Panics
    /// It does not in time.
    pub fn wait_until(&self, key: &str, value: &str) {
        let begin = Instant::now();
        while self.info(key) != value {
            assert!(begin.elapsed() < crate::SOON, "{key} is {}, not {value}", self.info(key));
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
