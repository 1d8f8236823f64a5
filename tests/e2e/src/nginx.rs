//! A real nginx on loopback, with its status page behind the usual obstacles: passwords, redirects, virtual hosts, TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Authority;

/// A running nginx; stopped when dropped.
pub struct Nginx {
    child: Child,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The TLS port on 127.0.0.1, or 0.
    pub tls_port: u16,
    _folder: TempDir,
}

/// The status page at `/nginx_status`, and locations with everything else that can be found in its place. `/locked` is open to
/// `bob` with the password `hunter2`.
const LOCATIONS: &str = r#"
location = /nginx_status { stub_status; }
location = /locked { auth_basic "status"; auth_basic_user_file users; stub_status; }
location = /forbidden { deny all; stub_status; }
location = /missing { return 404; }
location = /failing { return 503; }
location = /html { default_type text/html; return 200 "<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n"; }
location = /empty { return 204; }
location = /moved { return 301 /nginx_status; }
location = /elsewhere { return 301 http://127.0.0.1:1/; }
location = /circle { return 302 /circle; }
location = /echo { return 200 "you sent $http_authorization\n"; }
location = /own_agent { if ($http_user_agent != "mackerel-plugin-nginx") { return 418; } stub_status; }
location = /two_headers {
    if ($http_x_a != "1") { return 418; }
    if ($http_x_b != "2:3") { return 418; }
    if ($http_user_agent != "me") { return 418; }
    stub_status;
}
location / { return 200 "hello\n"; }
"#;

/// A virtual host on the same port, with a page that the first one does not have.
const VIRTUAL: &str = r#"server_name virtual.example; location = /virtual_status { stub_status; }"#;

impl Nginx {
    /// Starts nginx on a free port.
    ///
    /// # Panics
    /// nginx is not installed, or does not listen in time.
    #[must_use]
    pub fn start() -> Self {
        Self::launch("", 0, "")
    }

    /// Starts nginx with TLS on another port, with a certificate of `authority` for `localhost` only.
    #[must_use]
    pub fn start_with_tls(authority: &Authority) -> Self {
        let (port, issued) = (crate::free_port(), authority.issue("localhost", &[]));
        let (certificate, key) = (issued.certificate.display(), issued.key.display());
        let lines = format!(
            "listen 127.0.0.1:{port} ssl;\nssl_certificate {certificate};\nssl_certificate_key {key};\nssl_session_tickets off;\n"
        );
        Self::launch("", port, &lines)
    }

    /// Starts nginx with room for `connections` at most, including its listening sockets.
    #[must_use]
    pub fn start_with_room_for(connections: u32) -> Self {
        Self::launch(&format!("worker_connections {connections};"), 0, "")
    }

    fn launch(events: &str, tls_port: u16, listen: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, home) = (crate::free_port(), folder.path().display());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {home}/tmp;\n")).concat();
        let config = format!(
            "pid {home}/pid;\nerror_log {home}/error.log;\ndaemon off;\nmaster_process off;\nevents {{ {events} }}\nhttp {{\n\
             access_log off;\n{temporary}server {{\nlisten 127.0.0.1:{port};\n{listen}{LOCATIONS}}}\n\
             server {{\nlisten 127.0.0.1:{port};\n{VIRTUAL}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        std::fs::write(folder.path().join("users"), "bob:{PLAIN}hunter2\n").unwrap();
        // Its workers run as another user.
        crate::readable_by_all(folder.path());
        let mut command = Command::new("nginx");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", &path).arg("-e").arg(folder.path().join("error.log")).arg("-c").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let nginx = Self { child: child.expect("nginx, from tests/setup.sh nginx"), port, tls_port, _folder: folder };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < crate::SOON, "nginx does not listen on {port}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        nginx
    }

    /// Sends one request and returns the body of the response.
    ///
    /// # Panics
    /// nginx does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        self.try_get(path).unwrap()
    }

    /// Like [`Nginx::get`], with an error if nginx has no room for the connection.
    fn try_get(&self, path: &str) -> std::io::Result<String> {
        let mut connection = self.connect();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
        Ok(body.to_owned())
    }

    /// The counters on its status page: accepts, handled, requests.
    #[must_use]
    pub fn counters(&self) -> [u64; 3] {
        let [_, accepts, handled, requests, ..] = self.status();
        [accepts, handled, requests]
    }

    /// The numbers on its status page, in their order: connections; accepts, handled, requests; reading, writing, waiting.
    ///
    /// # Panics
    /// nginx does not answer.
    #[must_use]
    pub fn status(&self) -> [u64; 7] {
        Self::numbers(&self.get("/nginx_status"))
    }

    fn numbers(page: &str) -> [u64; 7] {
        let numbers = page.split(|char: char| !char.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let numbers = numbers.map(|digits| digits.parse().unwrap()).collect::<Vec<_>>();
        numbers.try_into().unwrap_or_else(|numbers| panic!("{numbers:?} in {page}"))
    }

    /// Waits until its status page fulfils a condition. Retries if nginx has no room for the connection.
    ///
    /// # Panics
    /// It does not in time.
    pub fn wait_until(&self, condition: impl Fn([u64; 7]) -> bool) {
        let begin = Instant::now();
        loop {
            let page = self.try_get("/nginx_status");
            if page.as_deref().is_ok_and(|page| condition(Self::numbers(page))) {
                return;
            }
            assert!(begin.elapsed() < crate::SOON, "the status page stays at {page:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// An idle keep-alive connection, which nginx counts as waiting.
    ///
    /// # Panics
    /// nginx does not answer.
    #[must_use]
    pub fn waiting(&self) -> TcpStream {
        let mut connection = self.connect();
        write!(connection, "GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        connection
    }

    /// A connection with an incomplete request, which nginx counts as reading.
    ///
    /// # Panics
    /// nginx accepts no connection.
    #[must_use]
    pub fn half_asked(&self) -> TcpStream {
        let mut connection = self.connect();
        // nginx may already have closed it.
        write!(connection, "GET / HTTP/1.1\r\nHost: ").ok();
        connection
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
