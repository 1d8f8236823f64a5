//! Reaching a granted place: a name is resolved once, each of its addresses checked, and only a checked one connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Host;

use super::grants::Grants;
use super::{Identity, address};

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a place was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// Its name leads where it must not.
    Denied(String),
    /// It does not answer.
    Unreachable(String),
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        // The system's own word, without the number that Rust adds.
        let text = error.to_string();
        Self::Unreachable(text.split(" (os error").next().unwrap_or_default().to_owned())
    }
}

/// How long a call may still wait for the outside. It ends shortly before the call itself, so that the plugin can still say what
/// it waited for; and a target that never answers is then the target's fault, not the plugin's.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    ends: Instant,
    call: Duration,
}

impl Patience {
    /// Of a call that begins now and may take this long.
    pub(super) fn of_call(call: Duration) -> Self {
        const ANSWER: Duration = Duration::from_millis(500);
        Self { ends: Instant::now() + call.saturating_sub(ANSWER.min(call / 4)), call }
    }

    /// Waits for `io`, no longer than `timeout` and no longer than the call may.
    ///
    /// # Errors
    /// It took longer.
    pub(super) async fn wait<T>(self, timeout: Option<Duration>, io: impl Future<Output = T>) -> Result<T, Unreached> {
        // One too long for the clock is none.
        let own = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        let (ends, why) = match own.filter(|(ends, _)| *ends < self.ends) {
            Some((ends, timeout)) => (ends, format!("no answer within {timeout:?}")),
            None => (self.ends, format!("no answer in the {:?} that the call may take (`timeout_seconds`)", self.call)),
        };
        tokio::time::timeout_at(ends, io).await.map_err(|_| Unreached::Unreachable(why))
    }
}

/// An address that does not answer gives way to the name's next one after this.
const NEXT_ADDRESS: Duration = Duration::from_secs(3);

/// Connects to `port` of a granted host.
///
/// # Errors
/// The name is refused, or nobody answers.
pub async fn tcp(host: &Host, port: u16, identity: &Identity) -> Result<TcpStream, Unreached> {
    let addresses = match host {
        // Granted literally, which is the one way to reach an address that no name may lead to.
        Host::Ipv4(address) => vec![IpAddr::V4(*address)],
        Host::Ipv6(address) => vec![IpAddr::V6(*address)],
        Host::Domain(name) => resolve(name, identity).await?,
    };
    let (last, others) = addresses.split_last().ok_or_else(|| Unreached::Unreachable("it has no address".into()))?;
    for address in others {
        if let Ok(Ok(stream)) = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect((*address, port))).await {
            return Ok(stream);
        }
    }
    Ok(TcpStream::connect((*last, port)).await?)
}

/// Connects to a granted unix socket, unless the agent itself listens there: who speaks to the agent is the operator.
///
/// # Errors
/// It is the agent's own, or nobody answers.
pub async fn unix(path: &str, identity: &Identity) -> Result<UnixStream, Unreached> {
    let stream = UnixStream::connect(path).await?;
    if stream.peer_cred()?.pid() == i32::try_from(std::process::id()).ok() {
        return Err(Unreached::Denied(identity.meter.refuse(format!("the unix socket {path:?} is the agent's own"))));
    }
    Ok(stream)
}

/// The addresses of `name`, all of which may be connected to. A refusal is counted.
///
/// # Errors
/// One of them is refused, or there is none.
pub async fn resolve(name: &str, identity: &Identity) -> Result<Vec<IpAddr>, Unreached> {
    // Never asked of DNS (RFC 6761), and what most plugins want.
    if is_localhost(name) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let wanted = name.to_owned();
    let looked_up = identity.block(move || {
        let found = (wanted.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect::<Vec<_>>();
        let own = found.iter().any(|address| address::is_loopback(*address)) && names_this_machine(&wanted);
        Ok::<_, io::Error>((found, own))
    });
    let Some(Ok((found, own))) = looked_up.await else {
        return Err(Unreached::Unreachable(format!("`{name}` has no address")));
    };
    check(name, &found, own, &identity.grants).map_err(|why| Unreached::Denied(identity.meter.refuse(why)))?;
    Ok(found)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

/// Whether the machine itself, not DNS, says that `name` is its own.
fn names_this_machine(name: &str) -> bool {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.eq_ignore_ascii_case(&own) || stands_in(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), name)
}

fn stands_in(hosts: &str, name: &str) -> bool {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut names = lines.flat_map(|line| line.split_whitespace().skip(1));
    names.any(|known| known.eq_ignore_ascii_case(name))
}

/// One refused address among several refuses the name: it is then not under the control of who it seems. A name that DNS
/// turns into a loopback address is refused as well (it would reach this machine's own services by somebody else's word),
/// unless it is the machine's `own`.
fn check(name: &str, found: &[IpAddr], own: bool, grants: &Grants) -> Result<(), String> {
    for address in found {
        let why = address::refusal(*address);
        let why = why.or_else(|| (!own && address::is_loopback(*address)).then_some("which is this machine itself"));
        if let Some(why) = why {
            return Err(grants.refuse_address(name, *address, why));
        }
    }
    Ok(())
}

/// A place among the file descriptors that plugins may have open, all of them together: half of what the process may.
/// `None` if all are taken.
#[must_use]
pub fn descriptor() -> Option<OwnedSemaphorePermit> {
    static FREE: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let free = FREE.get_or_init(|| {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
        Arc::new(Semaphore::new(usize::try_from(most / 2).unwrap_or(1 << 15).min(1 << 15)))
    });
    Arc::clone(free).try_acquire_owned().ok()
}

/// Those of `addresses` with a port, for who wants them so.
pub(super) fn without_port(addresses: Vec<IpAddr>) -> impl Iterator<Item = SocketAddr> + Send {
    addresses.into_iter().map(|address| SocketAddr::new(address, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants() -> Grants {
        Grants { place: "[plugin.metrics.web]".into(), ..Grants::default() }
    }

    fn checked(addresses: &[&str], own: bool) -> Result<(), String> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>();
        check("web", &addresses, own, &grants())
    }

    #[test]
    fn a_name_that_leads_to_a_refused_address_is_denied_even_beside_a_good_one() {
        assert_eq!(checked(&["10.0.0.1"], false), Ok(()));
        let refused = checked(&["10.0.0.1", "169.254.169.254"], true).unwrap_err();
        assert!(refused.contains("169.254.169.254") && refused.contains("[plugin.metrics.web]"), "{refused}");
    }

    #[test]
    fn only_the_machines_own_names_lead_to_loopback() {
        for spelling in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(checked(&[spelling], false).is_err_and(|text| text.contains("this machine itself")), "{spelling}");
            assert_eq!(checked(&[spelling], true), Ok(()), "{spelling}");
        }
    }

    #[test]
    fn a_name_is_the_machines_own_if_it_stands_in_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tbox.example Box # old-box\n";
        assert!(stands_in(hosts, "box") && stands_in(hosts, "box.example"));
        assert!(!stands_in(hosts, "old-box") && !stands_in(hosts, "127.0.1.1") && !stands_in(hosts, "evil.example"));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_plugins_own_patience_or_shortly_before_the_call() {
        let (call, short) = (Duration::from_millis(80), Duration::from_millis(1));
        for (timeout, expected) in
            [(None, "`timeout_seconds`"), (Some(short), "within 1ms"), (Some(Duration::MAX), "`timeout_seconds`")]
        {
            let waited = Patience::of_call(call).wait(timeout, std::future::pending::<()>()).await;
            assert!(matches!(&waited, Err(Unreached::Unreachable(why)) if why.contains(expected)), "{waited:?}");
            assert_eq!(Patience::of_call(call).wait(timeout, std::future::ready(5)).await, Ok(5));
        }
    }

    #[tokio::test]
    async fn localhost_is_never_asked_of_anybody() {
        for spelling in ["localhost", "LOCALHOST", "localhost."] {
            let addresses = resolve(spelling, &Identity::default()).await.unwrap();
            assert_eq!(addresses, [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)], "{spelling}");
        }
    }

    #[tokio::test]
    async fn the_agents_own_socket_is_refused_under_every_name() {
        let temp = tempfile::tempdir().unwrap();
        let (socket, link) = (temp.path().join("own.sock"), temp.path().join("link.sock"));
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [socket, link] {
            let refused = unix(path.to_str().unwrap(), &Identity::default()).await.err();
            assert!(matches!(&refused, Some(Unreached::Denied(text)) if text.contains("agent's own")), "{refused:?}");
        }
    }
}
