//! A strict stand-in for Mackerel's API: it refuses what Mackerel would refuse, records everything, and misbehaves on request.
//!
//! It serves the endpoints that a host agent needs (hosts, points, graph definitions, check reports, metadata) on loopback,
//! without TLS. Where Mackerel's documents are silent, it is the stricter of two readings, marked as our own choice.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use mackerel_standin::{Misbehaviour, Standin};
//!
//! let standin = Standin::start("key").await?;
//! standin.misbehave(Misbehaviour::HangUp.at("/api/v0/tsdb").times(2));
//! // ... start an agent with `apibase = standin.url()` ...
//! standin.wait_until(Duration::from_secs(30), "a point", |memory| !memory.points().is_empty()).await?;
//! assert_eq!(standin.memory().refusals(), []);
//! # Ok(())
//! # }
//! ```

mod api;
mod call;
mod checks;
mod memory;
mod misbehaviour;
mod service;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

pub use checks::reports::Report;
pub use checks::tsdb::Point;
pub use memory::{Host, Memory, Request};
pub use misbehaviour::{Misbehaviour, Rule};

use misbehaviour::Misbehaviours;
use service::Service;

/// How many of the last requests a failed wait lists.
const LISTED_REQUESTS: usize = 20;

/// A running stand-in. Dropping it closes its listener and all its connections before `drop` returns.
///
/// It runs on its own thread, so that it answers even while the test's thread is blocked.
#[derive(Debug)]
pub struct Standin {
    address: SocketAddr,
    service: Arc<Service>,
    /// Dropped to stop the server.
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Standin {
    /// Starts on a free port of 127.0.0.1; requests must have `api_key`.
    ///
    /// # Errors
    /// The system's error about the socket or the thread.
    pub async fn start(api_key: &str) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), api_key).await
    }

    /// Like [`Self::start`], on the given address.
    ///
    /// # Errors
    /// As for [`Self::start`]; also if the port is in use.
    pub async fn start_at(address: SocketAddr, api_key: &str) -> io::Result<Self> {
        Self::start_again(address, api_key, Memory::default()).await
    }

    /// Like [`Self::start_at`], with the memory of a stopped stand-in, so that its hosts still exist.
    ///
    /// # Errors
    /// As for [`Self::start_at`].
    pub async fn start_again(address: SocketAddr, api_key: &str, memory: Memory) -> io::Result<Self> {
        Self::start_with(std::net::TcpListener::bind(address)?, api_key, memory).await
    }

    /// Like [`Self::start_again`], on a socket that listens already, perhaps in another network.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with(listener: std::net::TcpListener, api_key: &str, memory: Memory) -> io::Result<Self> {
        let memory = watch::Sender::new(memory);
        let misbehaviours = Misbehaviours::default();
        let service = Arc::new(Service { api_key: api_key.to_owned(), memory, misbehaviours });
        let (ready, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&service);
        let thread = thread::Builder::new().name("mackerel-standin".to_owned());
        let server = thread.spawn(move || serve(listener, shared, ready, stopped))?;
        let address = listening.await.map_err(io::Error::other)??;
        Ok(Self { address, service, stop: Some(stop), server: Some(server) })
    }

    /// The URL, for instance `http://127.0.0.1:12345`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of its memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.service.memory.borrow().clone()
    }

    /// Misbehaves from the next request on. Several misbehaviours follow one another, the first added first; a plain
    /// [`Misbehaviour`] never ends, and hides those added later.
    pub fn misbehave(&self, rule: impl Into<Rule>) {
        self.service.misbehaviours.add(rule.into());
    }

    /// Ends all misbehaviours. Requests that are never answered stay unanswered.
    pub fn behave(&self) {
        self.service.misbehaviours.clear();
    }

    /// Waits until `condition` holds, which is checked now and after each request; it may depend on nothing but the memory.
    ///
    /// # Errors
    /// After `deadline`: a text with `what` it waited for, and the last requests.
    pub async fn wait_until(
        &self,
        deadline: Duration,
        what: &str,
        condition: impl Fn(&Memory) -> bool,
    ) -> Result<(), String> {
        let mut memory = self.service.memory.subscribe();
        let is_met = tokio::time::timeout(deadline, memory.wait_for(condition)).await.is_ok();
        if is_met { Ok(()) } else { Err(self.timed_out(deadline, what)) }
    }

    /// Stops like [`drop`], and returns the memory.
    #[must_use]
    pub fn stop(self) -> Memory {
        let service = Arc::clone(&self.service);
        drop(self);
        service.memory.borrow().clone()
    }

    fn timed_out(&self, deadline: Duration, what: &str) -> String {
        let memory = self.service.memory.borrow();
        let requests = memory.requests();
        let last = requests.iter().skip(requests.len().saturating_sub(LISTED_REQUESTS));
        let lines: String = last.map(|request| format!("\n  {request}")).collect();
        format!("timed out after {deadline:?} waiting for {what}; the last of {} requests:{lines}", requests.len())
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic of the thread has been printed already; another one here could abort the tests.
        drop(self.server.take().map(JoinHandle::join));
    }
}

/// The server's thread: sends its address through `ready`. The runtime ends with it, and with the runtime every socket.
fn serve(
    listener: std::net::TcpListener,
    service: Arc<Service>,
    ready: oneshot::Sender<io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let listening = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        listener.set_nonblocking(true)?;
        let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
        Ok((runtime, listener.local_addr()?, listener))
    });
    match listening {
        Ok((runtime, address, listener)) => {
            // If the receiver is gone, so is the sender of `stopped`.
            drop(ready.send(Ok(address)));
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = axum::serve(listener, service::router(service)) => {}
                }
            });
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// Whole seconds since 1970, as Mackerel counts time.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
