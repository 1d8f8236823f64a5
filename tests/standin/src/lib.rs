//! A strict stand-in for Mackerel's API: it refuses what Mackerel would refuse, remembers everything, and misbehaves when told.
//!
//! It serves what a host agent needs (hosts, points, graph definitions, check reports, metadata) on loopback, without TLS. Where Mackerel's documents are silent, the stricter reading is taken and marked as our own choice.
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
mod room;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

pub use checks::reports::Report;
pub use memory::{Host, Memory, Point, Request};
pub use misbehaviour::{Misbehaviour, Spell};

use misbehaviour::Spells;
use room::Room;

/// How many of the last requests a failed wait tells.
const TOLD_REQUESTS: usize = 20;

/// A running stand-in. Dropping it closes its listener and all its connections before `drop` returns.
///
/// It runs on a thread of its own, so that it answers even while the test's own thread is blocked.
#[derive(Debug)]
pub struct Standin {
    address: SocketAddr,
    room: Arc<Room>,
    /// Dropped to end the server.
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Standin {
    /// Starts on a free port of 127.0.0.1; requests must carry `api_key`.
    ///
    /// # Errors
    /// What the system says about the socket or the thread.
    pub async fn start(api_key: &str) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), api_key).await
    }

    /// As [`Self::start`], on a given address.
    ///
    /// # Errors
    /// As for [`Self::start`]; also when the port is taken.
    pub async fn start_at(address: SocketAddr, api_key: &str) -> io::Result<Self> {
        Self::start_again(address, api_key, Memory::default()).await
    }

    /// As [`Self::start_at`], with the memory of one that was stopped: its hosts still exist.
    ///
    /// # Errors
    /// As for [`Self::start_at`].
    pub async fn start_again(address: SocketAddr, api_key: &str, memory: Memory) -> io::Result<Self> {
        Self::start_with(std::net::TcpListener::bind(address)?, api_key, memory).await
    }

    /// As [`Self::start_again`], on a socket that listens already, in another network perhaps.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with(listener: std::net::TcpListener, api_key: &str, memory: Memory) -> io::Result<Self> {
        let memory = watch::Sender::new(memory);
        let room = Arc::new(Room { api_key: api_key.to_owned(), memory, spells: Spells::default() });
        let (ready, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&room);
        let thread = thread::Builder::new().name("mackerel-standin".to_owned());
        let server = thread.spawn(move || serve(listener, shared, ready, stopped))?;
        let address = listening.await.map_err(io::Error::other)??;
        Ok(Self { address, room, stop: Some(stop), server: Some(server) })
    }

    /// Where it listens: `http://127.0.0.1:12345`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of what it knows now.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.room.memory.borrow().clone()
    }

    /// Misbehaves from the next request on. Several are played one after the other, the first told first; a plain
    /// [`Misbehaviour`] has no end, and hides those told later.
    pub fn misbehave(&self, spell: impl Into<Spell>) {
        self.room.spells.add(spell.into());
    }

    /// Forgets every misbehaviour. Requests that are kept waiting stay so.
    pub fn behave(&self) {
        self.room.spells.clear();
    }

    /// Waits until `condition` holds; it is asked now and after each request, and must look at nothing but the memory
    /// it is given.
    ///
    /// # Errors
    /// After `deadline`: a text that says `what` was waited for, and the last requests.
    pub async fn wait_until(
        &self,
        deadline: Duration,
        what: &str,
        condition: impl Fn(&Memory) -> bool,
    ) -> Result<(), String> {
        let mut memory = self.room.memory.subscribe();
        let waited = tokio::time::timeout(deadline, memory.wait_for(condition)).await.is_ok();
        if waited { Ok(()) } else { Err(self.disappointment(deadline, what)) }
    }

    /// Stops as if dropped; what it knew is left.
    #[must_use]
    pub fn stop(self) -> Memory {
        let room = Arc::clone(&self.room);
        drop(self);
        room.memory.borrow().clone()
    }

    fn disappointment(&self, deadline: Duration, what: &str) -> String {
        let memory = self.room.memory.borrow();
        let requests = memory.requests();
        let told = requests.iter().skip(requests.len().saturating_sub(TOLD_REQUESTS));
        let lines: String = told.map(|request| format!("\n  {request}")).collect();
        format!("waited {deadline:?} in vain for {what}; of {} requests, the last are:{lines}", requests.len())
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it panicked, that was printed; a second panic here could abort the tests.
        drop(self.server.take().map(JoinHandle::join));
    }
}

/// The server's thread: says through `ready` where it listens. The runtime ends with it, and with the runtime every socket.
fn serve(
    listener: std::net::TcpListener,
    room: Arc<Room>,
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
            // If nobody hears it, `stopped` is over too.
            drop(ready.send(Ok(address)));
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = axum::serve(listener, room::router(room)) => {}
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
