//! The endpoint: where an engine listens, and one exchange with it: a connection, a request, a response.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bollard::errors::Error;
use bollard::{BollardRequest, ClientVersion, Docker as Client};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::header::{DATE, HOST, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use wasaba_core::names;
use wasaba_core::paths::{named, patient};
use wasaba_core::secret::without_login;
use wasaba_core::tls;
use wasaba_core::tls::Trust;

use super::connections::{Connection, Connections};

/// The default sockets of Docker and Podman; the first that exists is used.
const DEFAULT_SOCKETS: [&str; 3] = ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock"];

/// The most that is read of the list of containers, in bytes; that of 10,000 has some 15 MB.
const LARGEST_RESPONSE: u64 = 32 << 20;

/// The most that is read of an answer about one container, in bytes; it has some kilobytes.
const LARGEST_OF_CONTAINER: u64 = 1 << 20;

/// The most that is read of a window of events, in bytes: some thousand kills.
const LARGEST_EVENTS: u64 = 4 << 20;

/// What the pieces in which a body is sent may have in all besides their bytes.
const FRAMING: u64 = 1 << 20;

/// What is read of any response without a place for a large one, in bytes: hundreds are read at once.
const SMALL: usize = 32 << 10;

/// How many responses that are not small may be in memory at once; the others wait.
const LARGE_AT_ONCE: usize = 16;

/// The pause before the next try where the queue of a unix socket is full. The caller limits the tries by its timeout.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Where an engine listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// `DOCKER_HOST`, or the first default socket that exists.
    #[default]
    Default,
    /// A unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp {
        /// The name or address, an IPv6 address in brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is used.
        tls: bool,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("the default socket"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                write!(formatter, "{}://{host}:{port}", if *tls { "https" } else { "tcp" })
            }
        }
    }
}

impl Endpoint {
    /// Reads a value of `DOCKER_HOST`, of `host` in `[docker]` or of the official plugin's `-host`: `unix:///path`, `/path`,
    /// `tcp://host:port`, `http://...`, `https://...`, or `host:port`.
    ///
    /// # Errors
    /// Why it is invalid, as the predicate of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write \"unix:///var/run/docker.sock\", \"tcp://host:2375\" or \"https://host:2376\"";
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with("unix:") {
            return Err(format!("has no absolute path; {FORMS}"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "http" => false,
            "https" => true,
            // It may have a password in it.
            _ if scheme.contains([':', '@']) => return Err(format!("has an unsupported scheme; {FORMS}")),
            _ => return Err(format!("has the unsupported scheme `{scheme}://`; {FORMS}")),
        };
        let rest = rest.trim_end_matches('/');
        if let Some((_, path)) = rest.split_once('/') {
            let shown = without_login(text).map_or_else(|| "a path".to_owned(), |_| format!("the path `/{path}`"));
            return Err(format!("has {shown}, which is not supported; {FORMS}"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("has no valid port after `:`; {FORMS}"))?)
            }
            _ => (rest, if tls { 2_376 } else { 2_375 }),
        };
        let is_host = !host.is_empty() && (url::Host::parse(host).is_ok() || names::ends_in_number(host));
        if is_host {
            Ok(Self::Tcp { host: host.to_owned(), port, tls })
        } else {
            Err(format!("has no valid host; {FORMS}"))
        }
    }

    /// The address to connect to, and the files for TLS: `variable` reads the environment, `exists` the file system.
    ///
    /// # Errors
    /// An invalid `DOCKER_HOST`, or no default socket exists.
    fn resolve(
        &self,
        trust: &Trust,
        variable: impl Fn(&str) -> Option<String>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<(Self, Trust), String> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let mut trust = trust.clone();
        let address = match self {
            Self::Default => match variable("DOCKER_HOST") {
                Some(host) => {
                    let address = Self::parse(&host).map_err(|why| format!("the variable DOCKER_HOST {why}"))?;
                    let is_secure = variable("DOCKER_TLS_VERIFY").is_some();
                    if let Some(folder) = variable("DOCKER_CERT_PATH").filter(|_| is_secure).map(PathBuf::from) {
                        trust.authority = trust.authority.or_else(|| Some(folder.join("ca.pem")));
                        let own = (folder.join("cert.pem"), folder.join("key.pem"));
                        trust.identity = trust.identity.or_else(|| exists(&own.0).then_some(own));
                    }
                    match address {
                        Self::Tcp { host, port, tls } => Self::Tcp { host, port, tls: tls || is_secure },
                        address => address,
                    }
                }
                None => {
                    let own = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                    let own = own
                        .iter()
                        .flat_map(|folder| ["docker.sock", "podman/podman.sock"].map(|name| folder.join(name)));
                    let found = DEFAULT_SOCKETS.map(PathBuf::from).into_iter().chain(own).find(|path| exists(path));
                    Self::Unix(found.ok_or_else(|| {
                        format!(
                            "no engine socket found at {}; mount one there, or set `host = \"unix:///path\"` in [docker] or \
                             DOCKER_HOST",
                            DEFAULT_SOCKETS.map(|path| format!("`{path}`")).join(", ")
                        )
                    })?)
                }
            },
            // A table `tls` implies that it is used.
            Self::Tcp { host, port, tls } => {
                Self::Tcp { host: host.clone(), port: *port, tls: *tls || trust != Trust::default() }
            }
            address => address.clone(),
        };
        Ok((address, trust))
    }

    /// Reads the files for TLS once. Blocks. That there is no engine is no mistake: one may be started later.
    ///
    /// # Errors
    /// Each file that cannot be read or has other content; the text names it.
    pub fn check(&self, trust: &Trust) -> Result<(), Vec<String>> {
        let resolved = self.resolve(trust, |name| std::env::var(name).ok(), exists);
        let trust = resolved.map_or_else(|_| trust.clone(), |(_, trust)| trust);
        tls::check(&trust)
    }

    /// Finds the address, and reads the files for TLS unless `secure` has them. Nothing is connected yet.
    ///
    /// # Errors
    /// No default socket exists, or a certificate cannot be read.
    pub async fn transport(&self, trust: &Trust, secure: &mut tls::Client) -> Result<Transport, String> {
        let (endpoint, given) = (self.clone(), trust.clone());
        let resolve = move || endpoint.resolve(&given, |name| std::env::var(name).ok(), exists);
        let resolved = tokio::task::spawn_blocking(resolve).await;
        let (address, trust) = resolved.map_err(|_| "the agent crashed; this is a bug in wasaba".to_owned())??;
        if trust != *secure.trust() {
            *secure = tls::Client::new(trust.clone());
        }
        let way = match address.clone() {
            Self::Default => return Err("the default socket was not resolved".to_owned()),
            Self::Unix(path) => Way::Unix(path),
            Self::Tcp { host, port, tls } => {
                let tls = if tls { Some(TlsConnector::from(secure.config().await?)) } else { None };
                Way::Tcp(Connections::new(&host, port, tls))
            }
        };
        let large = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        Ok(Transport(Arc::new(Inner { address, trust, way, large })))
    }
}

/// The way to an engine during one collection.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    address: Endpoint,
    trust: Trust,
    way: Way,
    /// The places for responses that are not small.
    large: Arc<Semaphore>,
}

enum Way {
    Unix(PathBuf),
    Tcp(Connections),
}

impl Transport {
    /// The address of the engine.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.0.address
    }

    /// Which certificates are trusted.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// The library's client over this transport.
    ///
    /// # Errors
    /// None is known.
    pub fn client(&self, timeout: Duration) -> Result<Client, String> {
        let transport = self.clone();
        let transport = move |request: BollardRequest| {
            let transport = transport.clone();
            async move { transport.exchange(request).await }
        };
        // The version is not used: the library sends paths without one, to which an engine of any age responds in its own version.
        let version = ClientVersion { major_version: 1, minor_version: 41 };
        let client =
            Client::connect_with_custom_transport(transport, Some("http://engine"), timeout.as_secs().max(1), &version);
        client.map_err(|error| error.to_string())
    }

    /// The raw response to a GET: for responses that the library's models do not fit.
    ///
    /// # Errors
    /// No response, or another status than 200.
    pub async fn get(&self, path: &str) -> Result<EngineResponse, Error> {
        let request = hyper::Request::get(path).body(bollard::body_full(Bytes::new()))?;
        let most = largest(request.uri().path());
        let response = self.exchange(request).await?;
        let status_code = response.status().as_u16();
        let date = response
            .headers()
            .get(DATE)
            .and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date.to_str().ok()?).ok());
        let (body, place) = self.read(response.into_body(), most).await?;
        if status_code == 200 {
            return Ok(EngineResponse { date, body, _place: place });
        }
        let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = message.and_then(|error| Some(error.get("message")?.as_str()?.to_owned()));
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        Err(Error::DockerResponseServerError { status_code, message })
    }
}

/// A response of the engine.
pub struct EngineResponse {
    /// Its date, by the engine's own clock, in whole seconds.
    pub date: Option<Timestamp>,
    /// Its body.
    pub body: Vec<u8>,
    /// Its place among the large ones.
    _place: Option<OwnedSemaphorePermit>,
}

/// How many bytes of a response to a request of this path are read.
fn largest(path: &str) -> u64 {
    match path {
        "/containers/json" => LARGEST_RESPONSE,
        "/events" => LARGEST_EVENTS,
        _ => LARGEST_OF_CONTAINER,
    }
}

impl Transport {
    /// All of a body. What is not small waits for a place, and what is larger than `most` bytes is an error.
    async fn read(&self, mut body: Incoming, most: u64) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Error> {
        let (mut bytes, mut place) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 > most {
                return Err(io::Error::other(format!("its response is longer than {} MiB", most >> 20)).into());
            }
            if place.is_none() && bytes.len() > SMALL {
                place = Some(Arc::clone(&self.0.large).acquire_owned().await.map_err(io::Error::other)?);
            }
        }
        Ok((bytes, place))
    }

    /// Sends one request. A connection of its own is made to a socket of this machine; those over TCP are kept for the collection.
    async fn exchange(&self, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let host = match &self.0.way {
            Way::Unix(_) => "engine".to_owned(),
            Way::Tcp(connections) => connections.shown(),
        };
        let path = request.uri().path().to_owned();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() =
            target.parse().map_err(|error| io::Error::other(format!("invalid path {target:?}: {error}")))?;
        let host = HeaderValue::from_str(&host).map_err(|error| io::Error::other(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
        // A longer response ends as if the engine had closed the connection.
        let most = largest(&path) + FRAMING;
        let request = request.map(BodyExt::boxed_unsync);
        match &self.0.way {
            Way::Unix(path) => {
                let response = Connection::over(unix(path).await?).await?.send(request, most).await;
                Ok(response.map_err(TrySendError::into_error)?)
            }
            Way::Tcp(connections) => connections.exchange(request, most).await,
        }
    }
}

/// Whether there is something at a path, whose file system may never answer.
fn exists(path: &Path) -> bool {
    patient::ask(path, patient::LOOK, Path::exists).unwrap_or(false)
}

/// A connection to the socket at `path`.
async fn unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        let owned = path.to_owned();
        let found = tokio::task::spawn_blocking(move || patient::ask(&owned, patient::LOOK, named::socket)).await;
        match found.map_err(io::Error::other)???.connect().await {
            // The queue of the socket is full; on older systems it has 128 places.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY_PAUSE).await,
            stream => return stream,
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port, tls }
    }

    #[tokio::test]
    async fn a_socket_and_files_for_tls_whose_file_system_does_not_answer_hold_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), "").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(path("engine.sock")).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hang = move |_: &Path| released.recv().is_ok();
        patient::ask(&path("any"), Duration::from_millis(1), hang).unwrap_err();
        let trust = Trust { authority: Some(path("ca.pem")), ..Trust::default() };
        let problems = tcp("engine", 1, true).check(&trust).unwrap_err();
        assert!(problems[0].contains("ca.pem") && problems[0].contains("does not answer"), "{problems:?}");
        assert!(!exists(&path("engine.sock")));
        assert_eq!(unix(&path("engine.sock")).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        release.send(()).unwrap();
    }

    #[test]
    fn an_endpoint_has_the_forms_of_docker_and_of_the_official_plugin() {
        for (text, expected) in [
            ("unix:///var/run/docker.sock", Endpoint::Unix("/var/run/docker.sock".into())),
            ("/run/podman/podman.sock", Endpoint::Unix("/run/podman/podman.sock".into())),
            ("tcp://engine:4243", tcp("engine", 4_243, false)),
            ("http://10.0.0.5:2375/", tcp("10.0.0.5", 2_375, false)),
            ("127.0.0.1:2375", tcp("127.0.0.1", 2_375, false)),
            ("tcp://engine", tcp("engine", 2_375, false)),
            ("TCP://engine", tcp("engine", 2_375, false)),
            ("https://engine", tcp("engine", 2_376, true)),
            ("tcp://[::1]:2375", tcp("[::1]", 2_375, false)),
            ("tcp://[::1]", tcp("[::1]", 2_375, false)),
            ("tcp://engine.1:2375", tcp("engine.1", 2_375, false)),
        ] {
            assert_eq!(Endpoint::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_endpoint_is_refused_with_the_valid_forms() {
        for (text, why) in [
            ("", "no valid host"),
            ("unix://docker.sock", "no absolute path"),
            ("unix:/run/docker.sock", "no absolute path"),
            ("tcp://engine:2375/v1.41", "`/v1.41`"),
            ("ssh://root@engine", "`ssh://`"),
            ("tcp://engine:port", "no valid port"),
            ("tcp://:2375", "no valid host"),
            ("npipe:////./pipe/docker_engine", "`npipe://`"),
            ("tcp://me:12/hunter2@engine", "a path"),
            ("me:hunter2@engine://x", "an unsupported scheme"),
            ("tcp://me:hunter2@engine:2375", "no valid host"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
            assert!(error.contains(why) && error.contains("unix:///var/run/docker.sock"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn many_connections_at_once_get_through_a_short_queue_of_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let connecting = (0..20).map(|_| unix(&path)).collect::<Vec<_>>();
        let listener = std::os::unix::net::UnixListener::from(socket);
        // Polled first, all of them try before the first is accepted.
        let accepting = async {
            tokio::task::spawn_blocking(move || (0..20).for_each(|_| drop(listener.accept().unwrap()))).await.unwrap();
        };
        let (connected, ()) = tokio::join!(biased; futures_util::future::join_all(connecting), accepting);
        assert!(connected.iter().all(Result::is_ok));
    }

    fn resolved(environment: &[(&str, &str)], files: &[&str]) -> Result<(Endpoint, Trust), String> {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Endpoint::Default.resolve(&Trust::default(), variable, |path| files.iter().any(|file| Path::new(file) == path))
    }

    #[test]
    fn without_a_host_docker_host_is_used_and_then_the_first_default_socket() {
        let socket = |path: &str| Endpoint::Unix(path.into());
        let both = ["/run/podman/podman.sock", "/var/run/docker.sock"];
        assert_eq!(resolved(&[("DOCKER_HOST", "")], &both).unwrap().0, socket("/var/run/docker.sock"));
        assert_eq!(resolved(&[], &both[..1]).unwrap().0, socket("/run/podman/podman.sock"));
        let own = [("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(resolved(&own, &["/run/user/7/docker.sock"]).unwrap().0, socket("/run/user/7/docker.sock"));
        assert_eq!(resolved(&[("DOCKER_HOST", "tcp://engine:1")], &both).unwrap().0, tcp("engine", 1, false));
        let error = resolved(&[], &[]).unwrap_err();
        assert!(error.contains("/var/run/docker.sock") && error.contains("DOCKER_HOST"), "{error}");
        assert!(
            resolved(&[("DOCKER_HOST", "ssh://x")], &both)
                .unwrap_err()
                .contains("DOCKER_HOST has the unsupported scheme `ssh://`")
        );
    }

    #[test]
    fn docker_tls_verify_means_tls_with_the_files_of_docker_cert_path() {
        let all = [("DOCKER_HOST", "tcp://engine:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let (address, trust) = resolved(&all, &["/certs/cert.pem"]).unwrap();
        assert_eq!(address, tcp("engine", 2_376, true));
        assert_eq!(trust.authority, Some("/certs/ca.pem".into()));
        assert_eq!(trust.identity, Some(("/certs/cert.pem".into(), "/certs/key.pem".into())));
        assert_eq!(
            resolved(&all, &[]).unwrap().1.identity,
            None,
            "without the file there is no certificate of our own"
        );
        assert_eq!(resolved(&all[..1], &[]).unwrap(), (tcp("engine", 2_376, false), Trust::default()));
    }
}
