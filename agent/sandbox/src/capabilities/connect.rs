//! Connecting to a granted place: a name is resolved once, each of its addresses checked, and only a checked one connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Host;
use wasaba_core::paths::named;
use wasaba_core::text::duration;

use super::address;
use super::blocking::Blocking;
use super::gate::Gate;
use super::grants::Grants;
use super::http::failure_of;
use crate::failure::{Failure, Kind};

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The failure of a stream. With TLS 1.3 a client learns only when it reads that its certificate was refused.
pub(super) fn broken(error: &io::Error) -> Failure {
    // The system's message, without the number that Rust adds.
    let text = error.to_string();
    failure_of(error, Kind::Unreachable, text.split(" (os error").next().unwrap_or_default())
}

/// The connections of one call, HTTP's included: how many may be open, and how long the call may wait for them.
pub(super) struct OfCall {
    free: Arc<Semaphore>,
    limit: usize,
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
    pub(super) fn new(limit: usize, time: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), limit, patience: Patience::of_call(time) }
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

/// How long an address may take to answer before the name's next one is tried.
const NEXT_ADDRESS: Duration = Duration::from_secs(3);

/// Connects to `port` of a granted host.
///
/// # Errors
/// The name is refused, or no address answers.
pub(super) async fn tcp(host: &Host, port: u16, gate: &Gate, blocking: &Blocking) -> Result<TcpStream, Failure> {
    let addresses = match host {
        // Granted literally, which is the one way to reach an address that no name may resolve to.
        Host::Ipv4(address) => vec![IpAddr::V4(*address)],
        Host::Ipv6(address) => vec![IpAddr::V6(*address)],
        Host::Domain(name) => resolve(name, gate, blocking).await?,
    };
    let (last, others) = addresses.split_last().ok_or_else(|| unreachable("no address found"))?;
    for address in others {
        if let Ok(Ok(stream)) = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect((*address, port))).await {
            return Ok(stream);
        }
    }
    TcpStream::connect((*last, port)).await.map_err(|error| broken(&error))
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

/// The addresses of `name`, all of which may be connected to.
///
/// # Errors
/// One of them is refused, which is counted, or there is none.
pub(super) async fn resolve(name: &str, gate: &Gate, blocking: &Blocking) -> Result<Vec<IpAddr>, Failure> {
    // Never asked of DNS (RFC 6761), and what most plugins connect to.
    if is_localhost(name) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let owned = name.to_owned();
    let looked_up = blocking.run(move || {
        let found = (owned.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect::<Vec<_>>();
        let own = address::own();
        let here = found.iter().find(|address| address::is_this_machine(**address, &own)).copied();
        // The machine's own word counts, and is asked for only where it matters.
        let here = here.filter(|_| !names_this_machine(&owned));
        Ok::<_, io::Error>((found, here))
    });
    let Some(Ok((found, here))) = looked_up.await else {
        return Err(unreachable(&format!("cannot resolve `{name}`: no address found")));
    };
    gate.check(|grants| check(name, &found, here, grants))?;
    Ok(found)
}

fn unreachable(why: &str) -> Failure {
    Failure::new(Kind::Unreachable, why)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

/// Lists of servers that block advertisements have some megabytes.
const LONGEST_HOSTS_BYTES: u64 = 16 << 20;

/// Whether the machine itself, not DNS, calls `name` its own.
fn names_this_machine(name: &str) -> bool {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let read = |file: &str| {
        let bytes = named::read(file.as_ref(), LONGEST_HOSTS_BYTES).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    is_host_name(name, &own, &read("/etc/resolv.conf")) || is_listed(&read("/etc/hosts"), name)
}

/// Whether `name` is the host's `own` name, with or without its domain, or with one that the resolver appends.
fn is_host_name(name: &str, own: &str, resolver: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let short = own.split('.').next().unwrap_or_default();
    if name.eq_ignore_ascii_case(own) || name.eq_ignore_ascii_case(short) {
        return true;
    }
    let lines = resolver.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default().split_whitespace());
    let mut domains =
        lines.filter_map(|mut words| matches!(words.next(), Some("search" | "domain")).then_some(words)).flatten();
    domains.any(|domain| name.eq_ignore_ascii_case(&format!("{short}.{}", domain.trim_end_matches('.'))))
}

fn is_listed(hosts: &str, name: &str) -> bool {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut names = lines.flat_map(|line| line.split_whitespace().skip(1));
    names.any(|known| known.eq_ignore_ascii_case(name))
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
fn descriptor() -> Option<OwnedSemaphorePermit> {
    static FREE: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let free = FREE.get_or_init(|| {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
        Arc::new(Semaphore::new(usize::try_from(most / 2).unwrap_or(1 << 15).min(1 << 15)))
    });
    Arc::clone(free).try_acquire_owned().ok()
}

/// The addresses as the HTTP client takes them, which adds the port.
pub(super) fn without_port(addresses: Vec<IpAddr>) -> impl Iterator<Item = SocketAddr> + Send {
    addresses.into_iter().map(|address| SocketAddr::new(address, 0))
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
        let resolver = "nameserver 10.0.0.2\nsearch corp.example. lab.example # old.example\n; domain no.example\n";
        for own in ["box", "BOX", "box.", "box.corp.example", "box.lab.example."] {
            assert!(is_host_name(own, "box", resolver), "{own}");
        }
        assert!(
            is_host_name("box", "box.corp.example", "") && is_host_name("box.corp.example", "box.corp.example", "")
        );
        for other in ["box.old.example", "box.no.example", "box.evil.example", "corp.example", "mybox", ""] {
            assert!(!is_host_name(other, "box", resolver), "{other}");
        }
    }

    #[test]
    fn a_name_is_the_machines_own_if_the_hosts_file_lists_it() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tbox.example Box # old-box\n";
        assert!(is_listed(hosts, "box") && is_listed(hosts, "box.example"));
        assert!(!is_listed(hosts, "old-box") && !is_listed(hosts, "127.0.1.1") && !is_listed(hosts, "evil.example"));
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
            let addresses = resolve(spelling, &Gate::default(), &Blocking::default()).await.unwrap();
            assert_eq!(addresses, [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)], "{spelling}");
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
