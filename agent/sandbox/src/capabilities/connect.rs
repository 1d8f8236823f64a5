//! Connecting to a granted place: a name is resolved once, each of its addresses checked, and only a checked one connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Host;
use wasaba_core::names::{self, Found, Unresolved};
use wasaba_core::paths::named;
use wasaba_core::text::duration;

use super::address;
use super::blocking::Blocking;
use super::gate::Gate;
use super::grants::Grants;
use super::http::failure_of;
use super::memory::Budget;
use crate::failure::{Cause, Failure, Kind};

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The failure of a stream. With TLS 1.3 a client learns only when it reads that its certificate was refused.
pub(super) fn broken(error: &io::Error) -> Failure {
    // The system's message, without the number that Rust adds.
    let text = error.to_string();
    let failure = failure_of(error, Kind::Unreachable, text.split(" (os error").next().unwrap_or_default());
    Failure { cause: Some(Cause::Connection(error.kind())), ..failure }
}

/// The connections of one call, HTTP's included: how many may be open, and how long the call may wait for them.
pub(super) struct OfCall {
    free: Arc<Semaphore>,
    limit: usize,
    /// What the call may hold of requests and answers.
    pub(super) budget: Budget,
    /// Until when the call may wait.
    pub(super) patience: Patience,
}

/// One open connection's share of the limits, released when it is dropped.
pub(super) struct Slot {
    _of_call: OwnedSemaphorePermit,
    _of_agent: OwnedSemaphorePermit,
}

impl OfCall {
    /// The connections of a call that begins now and may take this long.
    pub(super) fn new(limit: usize, time: Duration, budget: Budget) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), limit, budget, patience: Patience::of_call(time) }
    }

    /// A slot for one more connection.
    ///
    /// # Errors
    /// This call, or all plugins together, have too many open.
    pub(super) fn slot(&self) -> Result<Slot, Failure> {
        let full = |why: String| Failure::new(Kind::TooCostly, why);
        let of_call = Arc::clone(&self.free).try_acquire_owned();
        let of_call =
            of_call.map_err(|_| full(format!("more than {} connections at once (limit `connections`)", self.limit)))?;
        let of_agent =
            descriptor().ok_or_else(|| full("the agent's plugins have too many connections open".to_owned()))?;
        Ok(Slot { _of_call: of_call, _of_agent: of_agent })
    }
}

/// How long a call may still wait for the outside. It ends shortly before the call's own time limit, so that the plugin can
/// still report what it waited for: a target that never answers is then the target's failure, not the plugin's.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    ends: Instant,
    call: Duration,
}

impl Patience {
    /// Of a call that begins now and may take this long.
    fn of_call(call: Duration) -> Self {
        const TO_REPORT: Duration = Duration::from_millis(500);
        Self { ends: Instant::now() + call.saturating_sub(TO_REPORT.min(call / 4)), call }
    }

    /// Waits for `io`, no longer than `timeout` and no longer than the call may.
    ///
    /// # Errors
    /// It timed out.
    pub(super) async fn wait<T>(self, timeout: Option<Duration>, io: impl Future<Output = T>) -> Result<T, Failure> {
        // A timeout beyond what the clock can hold is none.
        let own = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        let own = own.filter(|(ends, _)| *ends < self.ends);
        tokio::time::timeout_at(own.map_or(self.ends, |(ends, _)| ends), io).await.map_err(|_| {
            let why = match own {
                Some((_, timeout)) => format!("timed out: no answer within {}", duration(timeout)),
                None => {
                    format!("timed out: no answer within the call's {} (limit `timeout_seconds`)", duration(self.call))
                }
            };
            Failure::new(Kind::Timeout, why)
        })
    }
}

/// Connects to `port` of a granted host.
///
/// # Errors
/// The name is refused, or no address answers.
pub(super) async fn tcp(host: &Host, port: u16, gate: &Gate, blocking: &Blocking) -> Result<TcpStream, Failure> {
    let addresses = match host {
        // Granted literally, which is the one way to reach an address that no name may resolve to.
        Host::Ipv4(address) => vec![SocketAddr::new(IpAddr::V4(*address), port)],
        Host::Ipv6(address) => vec![SocketAddr::new(IpAddr::V6(*address), port)],
        Host::Domain(name) => match names::with_zone(name.trim_matches(['[', ']']), port) {
            Some(address) => vec![address.map_err(|error| broken(&error))?],
            None => {
                let (found, admission) = resolve(name, gate, blocking).await?;
                // Those that are known later are judged as the others were.
                let admitted = |later: Vec<IpAddr>| match admission.of(name, &later, gate) {
                    Ok(()) => later,
                    Err(_) => Vec::new(),
                };
                return found.connect(port, admitted).await.map_err(|error| broken(&error));
            }
        },
    };
    names::connect(&addresses).await.map_err(|error| broken(&error))
}

/// Connects to an address that was granted, or is one of a granted name and was admitted.
///
/// # Errors
/// It does not answer.
pub(super) async fn to_address(address: SocketAddr) -> Result<TcpStream, Failure> {
    names::connect(&[address]).await.map_err(|error| broken(&error))
}

/// Connects to a granted unix socket, unless the agent itself listens there: its own socket is for the operator.
///
/// # Errors
/// It is the agent's own, or it does not answer.
pub(super) async fn unix(path: &str, gate: &Gate, blocking: &Blocking) -> Result<UnixStream, Failure> {
    let owned = PathBuf::from(path);
    let found = blocking.run(move || named::socket(&owned)).await;
    let found = found.unwrap_or_else(|| Err(io::Error::other("the agent crashed; this is a bug in wasaba")));
    let stream = found.map_err(|error| broken(&error))?.connect().await.map_err(|error| broken(&error))?;
    if stream.peer_cred().map_err(|error| broken(&error))?.pid() == i32::try_from(std::process::id()).ok() {
        let refusal = format!("the unix socket {path:?} is the agent's own");
        return gate.check(|_| Err(refusal));
    }
    Ok(stream)
}

/// What decides whether the addresses of a name may be connected to.
pub(super) struct Admission {
    /// The addresses of this machine.
    own: Vec<IpAddr>,
    /// Whether the machine itself calls the name its own. Its word counts.
    is_own: bool,
}

impl Admission {
    /// # Errors
    /// One of them is refused, which is counted.
    fn of(&self, name: &str, found: &[IpAddr], gate: &Gate) -> Result<(), Failure> {
        let here = found.iter().find(|address| address::is_this_machine(**address, &self.own)).copied();
        gate.check(|grants| check(name, found, here.filter(|_| !self.is_own), grants))
    }
}

/// The addresses of `name`, all of which may be connected to, and what decides over those that are known later.
///
/// # Errors
/// One of them is refused, which is counted, or there is none.
pub(super) async fn resolve(name: &str, gate: &Gate, blocking: &Blocking) -> Result<(Found, Admission), Failure> {
    let owned = name.to_owned();
    let read = blocking.run(move || Ok::<_, Unresolved>((names::read(&owned)?, address::own()))).await;
    let unresolved = |error: Unresolved| Failure { cause: Some(Cause::Name), ..unreachable(&error.to_string()) };
    let read = read.ok_or_else(|| unreachable("the agent crashed; this is a bug in wasaba"))?;
    let (known, own) = read.map_err(unresolved)?;
    let admission = Admission { own, is_own: known.is_own() || is_host_name(name, &host_name(), known.domains()) };
    let found = known.addresses().await.map_err(unresolved)?;
    admission.of(name, &found.addresses, gate)?;
    Ok((found, admission))
}

fn unreachable(why: &str) -> Failure {
    Failure::new(Kind::Unreachable, why)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether `name` is the host's `own` name, with or without its domain, or with one that the resolver appends.
fn is_host_name(name: &str, own: &str, domains: &[String]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let short = own.split('.').next().unwrap_or_default();
    let with = |domain: &String| name.eq_ignore_ascii_case(&format!("{short}.{domain}"));
    name.eq_ignore_ascii_case(own) || name.eq_ignore_ascii_case(short) || domains.iter().any(with)
}

/// One refused address among several refuses the name: its owner is then not who it seems to be. A name that DNS resolves to an
/// address of this machine is refused as well, since it would reach this machine's own services at the will of a stranger: `here`,
/// unless the machine itself calls the name its own.
fn check(name: &str, found: &[IpAddr], here: Option<IpAddr>, grants: &Grants) -> Result<(), String> {
    let refused = found.iter().find_map(|address| Some((*address, address::refusal(*address)?)));
    match refused.or(here.map(|address| (address, "which is this machine itself"))) {
        Some((address, why)) => Err(grants.refuse_address(name, address, why)),
        None => Ok(()),
    }
}

/// A share of the file descriptors that all plugins together may have open: half of what the process may. `None` if all are
/// taken.
pub(super) fn descriptor() -> Option<OwnedSemaphorePermit> {
    static FREE: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let free = FREE.get_or_init(|| {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
        Arc::new(Semaphore::new(usize::try_from(most / 2).unwrap_or(1 << 15).min(1 << 15)))
    });
    Arc::clone(free).try_acquire_owned().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants() -> Grants {
        Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() }
    }

    fn checked(addresses: &[&str], here: Option<&str>) -> Result<(), String> {
        let parsed = |address: &&str| address.parse().unwrap();
        let addresses = addresses.iter().map(parsed).collect::<Vec<_>>();
        check("web", &addresses, here.as_ref().map(parsed), &grants())
    }

    #[test]
    fn a_name_that_resolves_to_a_refused_address_is_denied_even_beside_a_good_one() {
        assert_eq!(checked(&["10.0.0.1"], None), Ok(()));
        let refused = checked(&["10.0.0.1", "169.254.169.254"], None).unwrap_err();
        assert!(refused.contains("169.254.169.254") && refused.contains("[plugin.metrics.web]"), "{refused}");
    }

    #[test]
    fn a_name_that_resolves_to_this_machine_is_denied_even_beside_another_address() {
        let refused = checked(&["10.0.0.1", "10.99.0.1"], Some("10.99.0.1")).unwrap_err();
        assert!(refused.contains("10.99.0.1, which is this machine itself"), "{refused}");
    }

    #[test]
    fn the_hosts_name_is_its_own_with_the_domains_of_the_resolver_and_no_others() {
        let domains = ["corp.example", "lab.example"].map(str::to_owned);
        for own in ["box", "BOX", "box.", "box.corp.example", "box.lab.example."] {
            assert!(is_host_name(own, "box", &domains), "{own}");
        }
        for own in ["box", "box.corp.example"] {
            assert!(is_host_name(own, "box.corp.example", &[]), "{own}");
        }
        for other in ["box.old.example", "box.evil.example", "corp.example", "mybox", ""] {
            assert!(!is_host_name(other, "box", &domains), "{other}");
        }
    }

    #[tokio::test]
    async fn waiting_ends_with_the_plugins_own_timeout_or_shortly_before_the_calls() {
        let (call, short) = (Duration::from_millis(80), Duration::from_millis(1));
        for (timeout, expected) in
            [(None, "`timeout_seconds`"), (Some(short), "within 1 ms"), (Some(Duration::MAX), "`timeout_seconds`")]
        {
            let waited = Patience::of_call(call).wait(timeout, std::future::pending::<()>()).await;
            let late = waited.unwrap_err();
            assert!(late.kind == Kind::Timeout && late.text.contains(expected), "{late:?}");
            assert_eq!(Patience::of_call(call).wait(timeout, std::future::ready(5)).await, Ok(5));
        }
    }

    #[tokio::test]
    async fn localhost_is_never_asked_of_dns() {
        for spelling in ["localhost", "LOCALHOST", "localhost."] {
            let (found, _) = resolve(spelling, &Gate::default(), &Blocking::default()).await.unwrap();
            let addresses = found.addresses;
            assert!(addresses.len() == 2 && addresses.iter().all(IpAddr::is_loopback), "{spelling}: {addresses:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_not_reached_through_a_link_of_others() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let (socket, others) = (temp.path().join("root.sock"), temp.path().join("others"));
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        std::fs::create_dir(&others).unwrap();
        std::fs::set_permissions(&others, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink(&socket, others.join("db.sock")).unwrap();
        let path = others.join("db.sock");
        let refused = unix(path.to_str().unwrap(), &Gate::default(), &Blocking::default()).await.unwrap_err();
        assert!(refused.text.contains("is a symbolic link that is not followed"), "{refused:?}");
    }

    #[tokio::test]
    async fn the_agents_own_socket_is_refused_under_every_name() {
        let temp = tempfile::tempdir().unwrap();
        let (socket, link) = (temp.path().join("own.sock"), temp.path().join("link.sock"));
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [socket, link] {
            let refused = unix(path.to_str().unwrap(), &Gate::default(), &Blocking::default()).await.unwrap_err();
            assert!(refused.kind == Kind::Denied && refused.text.contains("agent's own"), "{refused:?}");
        }
    }
}
