//! The endpoint: where an engine listens, and one exchange with it: a connection, a request, an answer.

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
use hyper::client::conn::http1;
use hyper::header::{DATE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use wasaba_core::tls;
use wasaba_core::tls::Trust;

/// Where the first of these is, an engine listens: Docker's, and Podman's.
const USUAL_SOCKETS: [&str; 3] = ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock"];

/// More is not read of an answer, in bytes; the list of 10,000 containers has some 15 MB.
const LARGEST_ANSWER: u64 = 32 << 20;

/// More is not read of one container's statistics, in bytes, which have some kilobytes.
const LARGEST_STATS: u64 = 1 << 20;

/// How long who finds the queue in front of a unix socket full waits before the next try. Whoever asks ends it.
const KNOCK_AGAIN: Duration = Duration::from_millis(5);

/// Where an engine listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// What `DOCKER_HOST` says, or the usual sockets.
    #[default]
    Usual,
    /// A unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp {
        /// The name or address, an IPv6 address in brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether it speaks TLS.
        tls: bool,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => formatter.write_str("the usual socket"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                write!(formatter, "{}://{host}:{port}", if *tls { "https" } else { "tcp" })
            }
        }
    }
}

impl Endpoint {
    /// Reads what `DOCKER_HOST`, `host` in `[docker]` and `-host` of the official plugin may say: `unix:///path`, `/path`,
    /// `tcp://host:port`, `http://...`, `https://...`, or `host:port`.
    ///
    /// # Errors
    /// Why it is none, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write \"unix:///var/run/docker.sock\", \"tcp://host:2375\" or \"https://host:2376\"";
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with("unix:") {
            return Err(format!("names no absolute path; {FORMS}"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "http" => false,
            "https" => true,
            _ => return Err(format!("begins with `{scheme}://`, which is not spoken here; {FORMS}")),
        };
        let rest = rest.trim_end_matches('/');
        if let Some((_, path)) = rest.split_once('/') {
            return Err(format!("has a path, `/{path}`, which is not spoken here; {FORMS}"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("has no port behind its `:`; {FORMS}"))?)
            }
            _ => (rest, if tls { 2_376 } else { 2_375 }),
        };
        let is_host = !host.is_empty() && url::Host::parse(host).is_ok();
        if is_host {
            Ok(Self::Tcp { host: host.to_owned(), port, tls })
        } else {
            Err(format!("names no host; {FORMS}"))
        }
    }

    /// The place that is really asked, and whom it has to be: `variable` reads the environment, `exists` the file system.
    ///
    /// # Errors
    /// `DOCKER_HOST` is none, or there is no engine at any usual place.
    fn resolve(
        &self,
        trust: &Trust,
        variable: impl Fn(&str) -> Option<String>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<(Self, Trust), String> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let mut trust = trust.clone();
        let place = match self {
            Self::Usual => match variable("DOCKER_HOST") {
                Some(host) => {
                    let place = Self::parse(&host).map_err(|why| format!("the variable DOCKER_HOST {why}"))?;
                    let is_secure = variable("DOCKER_TLS_VERIFY").is_some();
                    if let Some(folder) = variable("DOCKER_CERT_PATH").filter(|_| is_secure).map(PathBuf::from) {
                        trust.authority = trust.authority.or_else(|| Some(folder.join("ca.pem")));
                        let own = (folder.join("cert.pem"), folder.join("key.pem"));
                        trust.identity = trust.identity.or_else(|| exists(&own.0).then_some(own));
                    }
                    match place {
                        Self::Tcp { host, port, tls } => Self::Tcp { host, port, tls: tls || is_secure },
                        place => place,
                    }
                }
                None => {
                    let own = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                    let own = own
                        .iter()
                        .flat_map(|folder| ["docker.sock", "podman/podman.sock"].map(|name| folder.join(name)));
                    let found = USUAL_SOCKETS.map(PathBuf::from).into_iter().chain(own).find(|path| exists(path));
                    Self::Unix(found.ok_or_else(|| {
                        format!(
                            "there is no engine's socket, neither {}; mount it, or say where it is with \
                             `host = \"unix:///path\"` in [docker] or with DOCKER_HOST",
                            USUAL_SOCKETS.map(|path| format!("`{path}`")).join(" nor ")
                        )
                    })?)
                }
            },
            // A table `tls` says that it is spoken.
            Self::Tcp { host, port, tls } => {
                Self::Tcp { host: host.clone(), port: *port, tls: *tls || trust != Trust::default() }
            }
            place => place.clone(),
        };
        Ok((place, trust))
    }

    /// The way to the engine here. Nobody is asked yet.
    ///
    /// # Errors
    /// Nothing listens at a usual place, or a certificate cannot be read.
    pub fn way(&self, trust: &Trust) -> Result<Way, String> {
        let (place, trust) = self.resolve(trust, |name| std::env::var(name).ok(), Path::exists)?;
        let tls = match &place {
            Self::Tcp { tls: true, .. } => Some(TlsConnector::from(Arc::new(tls::client(&trust)?))),
            _ => None,
        };
        Ok(Way(Arc::new((place, tls))))
    }
}

/// A way to an engine.
#[derive(Clone)]
pub struct Way(Arc<(Endpoint, Option<TlsConnector>)>);

impl Way {
    /// Where it leads.
    #[must_use]
    pub fn place(&self) -> &Endpoint {
        &self.0.0
    }

    /// The library's client on it.
    ///
    /// # Errors
    /// None that is known.
    pub fn client(&self, patience: Duration) -> Result<Client, String> {
        let way = self.clone();
        let transport = move |request: BollardRequest| {
            let way = way.clone();
            async move { exchange(&way.0.0, way.0.1.as_ref(), request).await }
        };
        // The version is not used: the library sends paths without one, which an engine of any age answers in its own version.
        let version = ClientVersion { major_version: 1, minor_version: 41 };
        let client = Client::connect_with_custom_transport(
            transport,
            Some("http://engine"),
            patience.as_secs().max(1),
            &version,
        );
        client.map_err(|error| error.to_string())
    }

    /// What the engine answers to a question, as it is: for answers of which the library knows too little, or too much.
    ///
    /// # Errors
    /// The engine does not answer, or something else than 200.
    pub async fn get(&self, path: &str) -> Result<Told, Error> {
        let request = hyper::Request::get(path).body(bollard::body_full(Bytes::new()))?;
        let answer = exchange(&self.0.0, self.0.1.as_ref(), request).await?;
        let status_code = answer.status().as_u16();
        let at = answer
            .headers()
            .get(DATE)
            .and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date.to_str().ok()?).ok());
        let body = answer.into_body().collect().await?.to_bytes();
        if status_code == 200 {
            return Ok(Told { at, body });
        }
        let told = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let told = told.and_then(|told| Some(told.get("message")?.as_str()?.to_owned()));
        let message = told.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        Err(Error::DockerResponseServerError { status_code, message })
    }
}

/// An engine's answer.
pub struct Told {
    /// When it was written, by the engine's own clock, in whole seconds.
    pub at: Option<Timestamp>,
    /// What it says.
    pub body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Sends one request over a connection of its own, which an engine is used to: nothing stays open between two minutes.
async fn exchange(
    place: &Endpoint,
    tls: Option<&TlsConnector>,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, Error> {
    let (stream, host) = connect(place, tls).await?;
    let path = request.uri().path().to_owned();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse().map_err(|error| io::Error::other(format!("{target:?} is no path: {error}")))?;
    let host = HeaderValue::from_str(&host).map_err(|error| io::Error::other(error.to_string()))?;
    request.headers_mut().insert(HOST, host);
    // What is longer ends as if the engine had hung up.
    let most = if path.ends_with("/stats") { LARGEST_STATS } else { LARGEST_ANSWER };
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(read.take(most), write);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body; what is wrong with it is told there.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn connect(place: &Endpoint, tls: Option<&TlsConnector>) -> io::Result<(Box<dyn Stream>, String)> {
    match place {
        Endpoint::Usual => Err(io::Error::other("the usual place was not looked for")),
        Endpoint::Unix(path) => loop {
            match UnixStream::connect(path).await {
                // More have knocked than the engine lets wait; on older systems that is 128.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(KNOCK_AGAIN).await,
                stream => return Ok((Box::new(stream?), "engine".to_owned())),
            }
        },
        Endpoint::Tcp { host, port, .. } => {
            let stream = TcpStream::connect(format!("{host}:{port}")).await?;
            stream.set_nodelay(true)?;
            let shown = format!("{host}:{port}");
            let Some(tls) = tls else { return Ok((Box::new(stream), shown)) };
            let name = host.trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            Ok((Box::new(tls.connect(name, stream).await?), shown))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn an_endpoint_is_written_as_for_docker_or_for_the_official_plugin() {
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
        ] {
            assert_eq!(Endpoint::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_forms_that_are() {
        for (text, why) in [
            ("", "names no host"),
            ("unix://docker.sock", "no absolute path"),
            ("unix:/run/docker.sock", "no absolute path"),
            ("tcp://engine:2375/v1.41", "`/v1.41`"),
            ("ssh://root@engine", "`ssh://`"),
            ("tcp://engine:port", "no port"),
            ("tcp://:2375", "names no host"),
            ("npipe:////./pipe/docker_engine", "`npipe://`"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(why) && error.contains("unix:///var/run/docker.sock"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn many_at_once_get_through_a_short_queue_in_front_of_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let place = Endpoint::Unix(path);
        let asking = (0..20).map(|_| connect(&place, None)).collect::<Vec<_>>();
        let listener = std::os::unix::net::UnixListener::from(socket);
        // Polled first, all of them knock before the first is let in.
        let taking = async {
            tokio::task::spawn_blocking(move || (0..20).for_each(|_| drop(listener.accept().unwrap()))).await.unwrap();
        };
        let (asked, ()) = tokio::join!(biased; futures_util::future::join_all(asking), taking);
        assert!(asked.iter().all(Result::is_ok));
    }

    fn usual(environment: &[(&str, &str)], files: &[&str]) -> Result<(Endpoint, Trust), String> {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Endpoint::Usual.resolve(&Trust::default(), variable, |path| files.iter().any(|file| Path::new(file) == path))
    }

    #[test]
    fn without_a_host_the_environment_counts_and_then_the_first_usual_socket() {
        let socket = |path: &str| Endpoint::Unix(path.into());
        let both = ["/run/podman/podman.sock", "/var/run/docker.sock"];
        assert_eq!(usual(&[("DOCKER_HOST", "")], &both).unwrap().0, socket("/var/run/docker.sock"));
        assert_eq!(usual(&[], &both[..1]).unwrap().0, socket("/run/podman/podman.sock"));
        let own = [("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(usual(&own, &["/run/user/7/docker.sock"]).unwrap().0, socket("/run/user/7/docker.sock"));
        assert_eq!(usual(&[("DOCKER_HOST", "tcp://engine:1")], &both).unwrap().0, tcp("engine", 1, false));
        let error = usual(&[], &[]).unwrap_err();
        assert!(error.contains("/var/run/docker.sock") && error.contains("DOCKER_HOST"), "{error}");
        assert!(usual(&[("DOCKER_HOST", "ssh://x")], &both).unwrap_err().contains("DOCKER_HOST begins with `ssh://`"));
    }

    #[test]
    fn docker_tls_verify_means_tls_with_the_files_of_docker_cert_path() {
        let all = [("DOCKER_HOST", "tcp://engine:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let (place, trust) = usual(&all, &["/certs/cert.pem"]).unwrap();
        assert_eq!(place, tcp("engine", 2_376, true));
        assert_eq!(trust.authority, Some("/certs/ca.pem".into()));
        assert_eq!(trust.identity, Some(("/certs/cert.pem".into(), "/certs/key.pem".into())));
        assert_eq!(usual(&all, &[]).unwrap().1.identity, None, "there is no certificate of our own");
        assert_eq!(usual(&all[..1], &[]).unwrap(), (tcp("engine", 2_376, false), Trust::default()));
    }
}
