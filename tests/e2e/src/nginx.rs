//! A real nginx on loopback, with its status page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running nginx; stopped when dropped.
pub struct Nginx {
    child: Child,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// There is no nginx, or it does not answer within 10 s.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, home) = (crate::free_port(), folder.path().display());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {home}/tmp;\n")).concat();
        let config = format!(
            "pid {home}/pid;\nerror_log {home}/error.log;\ndaemon off;\nmaster_process off;\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}server {{\nlisten 127.0.0.1:{port};\nlocation = /nginx_status {{ stub_status; }}\n\
             location = /elsewhere {{ return 301 http://127.0.0.1:1/; }}\nlocation / {{ return 200 \"hello\\n\"; }}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("nginx");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", &path).arg("-e").arg(folder.path().join("error.log")).arg("-c").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let nginx = Self { child: child.expect("nginx, from tests/setup.sh nginx"), port, _folder: folder };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "nginx does not listen on {port}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        nginx
    }

    /// Sends one request and reads the answer's body.
    ///
    /// # Panics
    /// nginx does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
    }

    /// What nginx itself says: accepts, handled, requests, as its status page shows them.
    #[must_use]
    pub fn counters(&self) -> [u64; 3] {
        let page = self.get("/nginx_status");
        let line = page.lines().nth(2).expect("a status page");
        let numbers = line.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<_>>();
        [numbers[0], numbers[1], numbers[2]]
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
