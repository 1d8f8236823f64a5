//! Names: the only code that finds the addresses of a name, and connects to one. Clippy's `disallowed-methods` refuse the C library's
//! resolver everywhere: that of the shipped program is musl's, which differs from glibc's in what people rely on.
//!
//! What `getent ahosts` finds with glibc's `files` and `dns` is found here: in `/etc/hosts` or by the name servers of
//! `/etc/resolv.conf`. Both files are read for each name, so that a change counts at once, and nothing is kept but what came too late, for
//! a minute. The two families are asked for side by side, each through all servers, and what one of them finds is used whatever happens to
//! the other. Addresses that can be reached come first ([`connect`] tries both families).
//!
//! Where glibc gives up or waits long, this does not: each family asks the next server for itself, and does so beside one that is silent
//! for two seconds; one that has found addresses waits for the other a second only, or longer where none of them accepts a connection; and a
//! server that was silent is asked last for ten minutes.

mod exchange;
mod files;
mod message;
mod order;
#[cfg(test)]
mod tests;
mod zone;

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, Shared, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::files::Config;
use self::message::{Answer, Family, Name};
use crate::clock;
use crate::paths::patient;
use crate::text::duration;

pub use self::order::connect;
pub use self::zone::{ends_in_number, with_zone, zoned};

/// How long a name may take in all.
const LONGEST: Duration = Duration::from_secs(25);

/// How long the family that has found addresses waits for the other.
const GRACE: Duration = Duration::from_secs(1);

/// After this time without an answer, a server was silent.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a server that was silent is asked last.
const AVOIDANCE: Duration = Duration::from_secs(600);

/// How long a server may be silent before the next one is asked beside it. A plugin has five seconds for all.
const HEAD_START: Duration = Duration::from_secs(2);

/// Why a name has no addresses.
#[derive(Clone, Debug)]
pub struct Unresolved {
    name: String,
    why: Why,
}

#[derive(Clone, Debug)]
enum Why {
    /// It cannot be a name.
    Invalid,
    /// It exists neither in DNS nor in `hosts`.
    Missing,
    /// It exists, without an address.
    NoAddress,
    /// No server could say.
    Failed(Fault),
    /// The time for all servers is over.
    Late,
    /// A file cannot be read.
    File(String),
}

impl Unresolved {
    fn new(name: &str, why: Why) -> Self {
        Self { name: name.to_owned(), why }
    }

    fn file(name: &str, path: &Path, error: &Error) -> Self {
        Self::new(name, Why::File(format!("cannot read `{}`: {error}", path.display())))
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot resolve `{}`: ", self.name)?;
        match &self.why {
            Why::Invalid => formatter.write_str("it is not a valid name of a host"),
            Why::Missing => formatter.write_str("no address found: neither /etc/hosts nor DNS has this name"),
            Why::NoAddress => formatter.write_str("no address found: DNS has this name, but without an address"),
            Why::Failed(fault) => write!(formatter, "{fault}; check `nameserver` in /etc/resolv.conf"),
            Why::Late => {
                let limit = duration(LONGEST);
                write!(formatter, "no answer within {limit}; check `nameserver` in /etc/resolv.conf")
            }
            Why::File(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Why a server has not answered.
#[derive(Clone, Debug)]
struct Fault {
    server: SocketAddr,
    kind: FaultKind,
}

#[derive(Clone, Debug)]
enum FaultKind {
    Silent(Duration),
    Code(u8),
    Referral,
    Malformed,
    System(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the name server {} ", self.server.ip())?;
        match &self.kind {
            FaultKind::Silent(timeout) => write!(formatter, "did not answer within {}", duration(*timeout)),
            FaultKind::Code(code) => write!(formatter, "answered {}", message::name_of_code(*code)),
            FaultKind::Referral => formatter.write_str("does not ask other servers"),
            FaultKind::Malformed => formatter.write_str("sent an invalid answer"),
            FaultKind::System(why) => write!(formatter, "cannot be reached: {why}"),
        }
    }
}

/// Where names are looked up.
#[derive(Clone, Debug)]
struct Places {
    hosts: PathBuf,
    config: PathBuf,
    /// Of name servers.
    port: u16,
}

impl Places {
    fn of_machine() -> Self {
        Self { hosts: "/etc/hosts".into(), config: "/etc/resolv.conf".into(), port: 53 }
    }

    /// Reads the files, which may be on a file system that does not answer.
    fn ask(&self, name: &str) -> Result<Known, Unresolved> {
        if name.parse::<IpAddr>().is_ok() {
            return self.read(name);
        }
        let (places, owned) = (self.clone(), name.to_owned());
        patient::ask(&self.config, patient::LOOK, move |_| places.read(&owned))
            .unwrap_or_else(|error| Err(Unresolved::file(name, &self.config, &error)))
    }

    fn read(&self, name: &str) -> Result<Known, Unresolved> {
        let known = |addresses| Ok(Known { name: name.to_owned(), addresses, config: None });
        if let Ok(address) = name.parse() {
            return known(vec![address]);
        }
        let bare = name.strip_suffix('.').unwrap_or(name);
        // Never asked of DNS (RFC 6761).
        let is_within_localhost = bare.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
        let loopback = || vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if bare.eq_ignore_ascii_case("localhost") {
            return known(loopback());
        }
        let mut addresses = files::hosts(&self.hosts, name)?;
        order::sort(&mut addresses);
        if addresses.is_empty() && is_within_localhost {
            addresses = loopback();
        }
        let config = files::config(&self.config, self.port, name)?;
        Ok(Known { name: name.to_owned(), addresses, config: Some(config) })
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let before = of_last_lookup(name).and_then(|later| later.peek().cloned()).unwrap_or_default();
        let Found { mut addresses, later } = self.find(name).await?;
        addresses.extend(before.into_iter().filter(|address| !addresses.contains(address)).collect::<Vec<_>>());
        let mut unawaited = unawaited();
        unawaited.retain(|(known, since, _)| known != name && clock::since(*since) < REMEMBERED);
        if let Some(later) = later {
            let more = (unawaited.len() + 1).saturating_sub(MOST_UNAWAITED);
            unawaited.drain(..more);
            unawaited.push((name.to_owned(), clock::instant(), later));
        }
        Ok(addresses)
    }

    async fn find(&self, name: &str) -> Result<Found, Unresolved> {
        let (places, owned) = (self.clone(), name.to_owned());
        let read = tokio::task::spawn_blocking(move || places.ask(&owned)).await;
        let bug = |_| Err(Unresolved::new(name, Why::File("the agent crashed; this is a bug in wasaba".to_owned())));
        read.unwrap_or_else(bug)?.addresses().await
    }
}

/// What this machine knows of a name.
#[derive(Clone, Debug)]
pub struct Known {
    name: String,
    addresses: Vec<IpAddr>,
    /// `None` if the name needs no server.
    config: Option<Config>,
}

/// Reads what this machine's files say of a name. Blocks.
///
/// # Errors
/// A file cannot be read.
pub fn read(name: &str) -> Result<Known, Unresolved> {
    Places::of_machine().ask(name)
}

/// The addresses of a name, the best first; there is at least one.
///
/// # Errors
/// It has none, or no name server says.
pub async fn lookup(name: &str) -> Result<Vec<IpAddr>, Unresolved> {
    Places::of_machine().lookup(name).await
}

/// For a library that takes addresses alone, after it could not connect to any of them: whether the next [`lookup`] of this name has more.
/// Waits for the family that the last one has not waited for.
pub async fn has_more(name: &str) -> bool {
    match of_last_lookup(name) {
        Some(later) => !later.await.is_empty(),
        None => false,
    }
}

/// The addresses that the last look-up of a name has not waited for.
fn of_last_lookup(name: &str) -> Option<Later> {
    let unawaited = unawaited();
    let of_name = unawaited.iter().find(|(known, since, _)| known == name && clock::since(*since) < REMEMBERED);
    of_name.map(|(.., later)| later.clone())
}

/// How long the addresses are remembered that a look-up has not waited for.
const REMEMBERED: Duration = Duration::from_secs(60);

/// For how many names.
const MOST_UNAWAITED: usize = 16;

/// The names whose last look-up has not waited for a family, when that was, and what comes of it.
static UNAWAITED: Mutex<Vec<(String, std::time::Instant, Later)>> = Mutex::new(Vec::new());

fn unawaited() -> MutexGuard<'static, Vec<(String, std::time::Instant, Later)>> {
    UNAWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lookup`], with those that may be known later.
///
/// # Errors
/// As [`lookup`].
pub async fn find(name: &str) -> Result<Found, Unresolved> {
    Places::of_machine().find(name).await
}

/// The addresses of a name.
#[derive(Clone, Debug)]
pub struct Found {
    /// Those that are known, the best first; there is at least one.
    pub addresses: Vec<IpAddr>,
    /// Those of the family that was not waited for.
    later: Option<Later>,
}

/// Addresses that are not known yet.
type Later = Shared<BoxFuture<'static, Vec<IpAddr>>>;

impl Found {
    fn known(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, later: None }
    }

    /// Connects to a port of the first address that accepts. If the known ones do not, the others are waited for, of which only those are
    /// tried that `admitted` leaves. The caller limits the time.
    ///
    /// # Errors
    /// That of the first address, if none accepts.
    pub async fn connect(
        self,
        port: u16,
        admitted: impl FnOnce(Vec<IpAddr>) -> Vec<IpAddr>,
    ) -> std::io::Result<TcpStream> {
        let with_port = |addresses: Vec<IpAddr>| {
            addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect::<Vec<_>>()
        };
        let later = self.later.map(|later| async move { with_port(admitted(later.await)) });
        order::connect_with(&with_port(self.addresses), later).await
    }
}

/// Connects to a port of a host: a name, or an address without brackets. The caller limits the time.
///
/// # Errors
/// The name has no address, or none accepts.
pub async fn connect_to(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let found = find(host).await.map_err(|error| Error::new(ErrorKind::NotFound, error))?;
    found.connect(port, |later| later).await
}

impl Known {
    /// Whether it is this machine that has the addresses, so that no server is asked for them.
    #[must_use]
    pub fn is_own(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// The domains that are appended to names.
    #[must_use]
    pub fn domains(&self) -> &[String] {
        self.config.as_ref().map_or(&[], |config| &config.domains)
    }

    /// The addresses, the best first; there is at least one.
    ///
    /// # Errors
    /// The name has none, or no name server says.
    pub async fn addresses(self) -> Result<Found, Unresolved> {
        match self.config {
            Some(config) if self.addresses.is_empty() => {
                let found = tokio::time::timeout(LONGEST, config.search(&self.name)).await;
                let found = found.unwrap_or(Err(Why::Late)).map_err(|why| Unresolved::new(&self.name, why))?;
                let (mut addresses, other) = found;
                order::sort(&mut addresses);
                let later = other.map(|other| later(other).boxed().shared());
                Ok(Found { addresses, later })
            }
            _ => Ok(Found::known(self.addresses)),
        }
    }
}

/// The addresses of the other family, if it has any.
async fn later(other: Other) -> Vec<IpAddr> {
    match tokio::time::timeout(LONGEST, other).await {
        Ok(Said::Addresses(mut addresses)) => {
            order::sort(&mut addresses);
            addresses
        }
        _ => Vec::new(),
    }
}

/// What the other family will say.
type Other = BoxFuture<'static, Said>;

/// What the servers say of a complete name.
enum Said {
    Addresses(Vec<IpAddr>),
    /// It is the alias of a name without an address.
    LeadsNowhere,
    NoAddress,
    Missing,
    Failed(Fault),
}

impl Said {
    /// What both families say together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Addresses(mut one), Self::Addresses(other)) => {
                one.extend(other);
                Self::Addresses(one)
            }
            (found @ Self::Addresses(_), _) | (_, found @ Self::Addresses(_)) => found,
            (Self::LeadsNowhere, _) | (_, Self::LeadsNowhere) => Self::LeadsNowhere,
            (Self::NoAddress, _) | (_, Self::NoAddress) => Self::NoAddress,
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (failed, Self::Failed(_)) => failed,
        }
    }
}

/// A question to a server, by its round and its place therein.
type Number = (u32, usize);

impl Said {
    /// This, unless one of the `earlier` questions has another answer before its time is over.
    async fn unless(
        self,
        mut asked: impl Stream<Item = (Number, Result<Self, FaultKind>)> + Unpin,
        earlier: impl Iterator<Item = (Number, Instant)>,
    ) -> Self {
        let mut earlier = earlier.collect::<Vec<_>>();
        while let Some(ends) = earlier.iter().map(|(_, ends)| *ends).max() {
            let Ok(Some((of, said))) = tokio::time::timeout_at(ends, asked.next()).await else { break };
            match said {
                Ok(said) if earlier.iter().any(|(other, _)| *other == of) => return said,
                _ => earlier.retain(|(other, _)| *other != of),
            }
        }
        self
    }
}

impl Config {
    /// Asks for a name as it is written and with each domain, in glibc's order.
    async fn search(&self, name: &str) -> Result<(Vec<IpAddr>, Option<Other>), Why> {
        let (mut failed, mut has_no_address) = (None, false);
        // Whether no server answered for a domain: they would be asked again for each further one. The name itself says nothing of that, for
        // glibc either: its servers may be silent about names that they do not know.
        let mut are_silent = false;
        for (candidate, has_domain) in self.candidates(name).ok_or(Why::Invalid)? {
            if has_domain && are_silent {
                continue;
            }
            let (said, other) = self.ask(&candidate).await;
            match said {
                Said::Addresses(addresses) => return Ok((addresses, other)),
                Said::LeadsNowhere => return Err(Why::NoAddress),
                Said::NoAddress => has_no_address = true,
                Said::Missing => {}
                Said::Failed(fault) => {
                    are_silent |= has_domain && !matches!(fault.kind, FaultKind::Code(_));
                    failed.get_or_insert(fault);
                }
            }
        }
        Err(match failed {
            Some(fault) => Why::Failed(fault),
            None if has_no_address => Why::NoAddress,
            None => Why::Missing,
        })
    }

    /// The complete names that `name` may stand for, and whether they have a domain of ours.
    fn candidates(&self, name: &str) -> Option<Vec<(Name, bool)>> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        let mut candidates = vec![(Name::parse(bare)?, false)];
        if bare.len() == name.len() {
            // One with the root, an empty domain, is as it is written.
            let domains = self.domains.iter().filter_map(|domain| Name::parse(&format!("{bare}.{domain}")));
            candidates.extend(domains.map(|name| (name, true)));
            if bare.matches('.').count() < self.ndots {
                candidates.rotate_left(1);
            }
        }
        Some(candidates)
    }

    /// Asks for both families of a complete name, of which the second one may still have to say something.
    async fn ask(&self, name: &Name) -> (Said, Option<Other>) {
        let v4 = self.clone().family_of(name.clone(), Family::V4);
        if self.only_v4 {
            return (v4.await, None);
        }
        let v6 = self.clone().family_of(name.clone(), Family::V6);
        let (said, mut other) = match select(v4.boxed(), v6.boxed()).await {
            Either::Left(first) | Either::Right(first) => first,
        };
        match in_grace(&said, &mut other).await {
            Some(second) => (second.and(said), None),
            None => (said, Some(other)),
        }
    }

    async fn family_of(self, name: Name, family: Family) -> Said {
        self.family(&name, family).await
    }

    /// Asks the servers in turn, until one knows. The next one is asked beside one that is silent, whose answer is as good as any, whenever
    /// it comes; only that there is no address is not believed before those that were asked earlier had their time.
    async fn family(&self, name: &Name, family: Family) -> Said {
        let mut last = None;
        let (mut asked, mut open) = (FuturesUnordered::new(), Vec::new());
        for turn in 0..self.attempts {
            let servers = self.in_turn();
            for (place, server) in servers.iter().copied().enumerate() {
                let this = (turn, place);
                let now = Instant::now();
                open.push((this, now + self.timeout));
                asked.push(async move {
                    let mut wait = Wait { server, since: clock::instant(), is_over: false };
                    let answer = exchange::ask(server, name, family, self.only_tcp).await;
                    wait.is_over = true;
                    (this, answer.and_then(Answer::said))
                });
                let is_last = place + 1 == servers.len();
                let ends = now + if is_last { self.timeout } else { self.timeout.min(HEAD_START) };
                let kind = loop {
                    let Ok(Some((of, said))) = tokio::time::timeout_at(ends, asked.next()).await else {
                        break FaultKind::Silent(self.timeout);
                    };
                    open.retain(|(other, _)| *other != of);
                    match said {
                        Ok(Said::Addresses(found)) => return Said::Addresses(found),
                        Ok(said) => return said.unless(asked, open.into_iter().filter(|(other, _)| *other < of)).await,
                        Err(kind) if of == this => break kind,
                        Err(_) => {}
                    }
                };
                last = Some(Fault { server, kind });
            }
        }
        let failed = last.map_or(Said::Missing, Said::Failed);
        failed.unless(asked, open.into_iter()).await
    }

    /// The servers in the order in which they are asked.
    fn in_turn(&self) -> Vec<SocketAddr> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let mut servers = self.servers.clone();
        if self.rotates {
            let turn = TURN.fetch_add(1, Ordering::Relaxed).checked_rem(servers.len()).unwrap_or(0);
            servers.rotate_left(turn);
        }
        if servers.len() > 1 {
            let avoided = avoided();
            servers.sort_by_key(|server| {
                avoided.iter().any(|(other, since)| other == server && clock::since(*since) < AVOIDANCE)
            });
        }
        servers
    }
}

/// What the other family says, for which one that has usable addresses does not wait long.
async fn in_grace(one: &Said, other: impl Future<Output = Said>) -> Option<Said> {
    match one {
        Said::Addresses(addresses) if addresses.iter().any(|address| order::is_reachable(*address)) => {
            tokio::time::timeout(GRACE, other).await.ok()
        }
        _ => Some(other.await),
    }
}

impl Answer {
    /// What it says, or why the next server is asked.
    fn said(self) -> Result<Said, FaultKind> {
        match self.code {
            0 if !self.addresses.is_empty() => Ok(Said::Addresses(self.addresses)),
            0 if self.has_records => Ok(Said::LeadsNowhere),
            0 if self.is_referral => Err(FaultKind::Referral),
            0 => Ok(Said::NoAddress),
            message::NO_SUCH_NAME => Ok(Said::Missing),
            code => Err(FaultKind::Code(code)),
        }
    }
}

/// The servers that were silent, and when.
static AVOIDED: Mutex<Vec<(SocketAddr, std::time::Instant)>> = Mutex::new(Vec::new());

fn avoided() -> MutexGuard<'static, Vec<(SocketAddr, std::time::Instant)>> {
    AVOIDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wait for a server. If it ends without an answer, also since the caller has no more time, the server is asked last from then on.
struct Wait {
    server: SocketAddr,
    since: std::time::Instant,
    is_over: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let is_silent = !self.is_over && clock::since(self.since) >= SILENCE;
        if self.is_over || is_silent {
            avoided().retain(|(server, since)| *server != self.server && clock::since(*since) < AVOIDANCE);
        }
        if is_silent {
            avoided().push((self.server, clock::instant()));
        }
    }
}

/// For the fuzz targets: what must hold for every message of a name server.
///
/// # Panics
/// It does not hold.
pub fn check_message(message: &[u8]) {
    message::check(message);
}

/// For the fuzz targets: what must hold for every `hosts` and `resolv.conf`.
///
/// # Panics
/// It does not hold.
pub fn check_files(text: &str) {
    files::check(text);
}
