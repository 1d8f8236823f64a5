//! A look at the containers, for those who ask how they are: what the list and a container's own description say, and no statistics.
//!
//! The engine is queried when someone looks, and at most every few seconds; without anyone it is not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use wasaba_core::clock;
use wasaba_core::text::printable;
use wasaba_core::tls;

use super::Docker;
use super::answers::{Inspected, Summary};
use super::collection::Engine;
use super::naming::Identity;
use super::warnings::Warnings;

/// The most containers that are described; further ones are counted.
pub const MOST_SHOWN: usize = 500;

/// How long a look is shown to others who ask.
const FRESH: Duration = Duration::from_secs(3);

/// How many are queried at once.
const CONCURRENT: usize = 16;

/// One container, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its name, without a slash.
    pub name: String,
    /// The image that it was started with.
    pub image: String,
    /// `running`, `exited` and so on, as the engine calls it.
    pub state: String,
    /// `healthy`, `unhealthy` or `starting`, if it has a health check.
    pub health: Option<&'static str>,
    /// When it was started, in seconds since 1970, if it runs.
    pub started: Option<i64>,
    /// How often its restart policy restarted it.
    pub restarts: Option<u64>,
    /// The most memory that it may use, if it has a limit.
    pub memory_limit_bytes: Option<u64>,
    /// The part of its metrics' names that is its own: `custom.docker.cpu.SEGMENT.user`. Empty if it is not measured.
    pub segment: String,
}

/// The engine of the newest configuration, for those who look. Clones are the same.
#[derive(Clone, Default)]
pub struct Current(Arc<Mutex<Option<Docker>>>, Arc<tokio::sync::Mutex<Option<Seen>>>);

/// What was seen, and when.
struct Seen {
    at: std::time::Instant,
    docker: Docker,
    looks: Result<Vec<Look>, String>,
}

impl Current {
    pub(super) fn set(&self, docker: Option<&Docker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = docker.cloned();
    }

    /// All containers, by name; none without an engine.
    ///
    /// # Errors
    /// The engine cannot be queried.
    pub async fn look(&self) -> Result<Vec<Look>, String> {
        let docker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(docker) = docker else { return Ok(Vec::new()) };
        // Whoever else asks meanwhile waits for this look.
        let mut seen = self.1.lock().await;
        let fresh = seen.as_ref().filter(|seen| clock::since(seen.at) < FRESH && seen.docker == docker);
        if let Some(seen) = fresh {
            return seen.looks.clone();
        }
        let looks = look(&docker).await;
        *seen = Some(Seen { at: clock::instant(), docker, looks: looks.clone() });
        looks
    }
}

async fn look(docker: &Docker) -> Result<Vec<Look>, String> {
    let engine = Engine::of(docker, &mut tls::Client::default()).await?;
    let (_, mut summaries) = engine.list(true, &mut Warnings::default()).await?;
    // Those that run are shown first, where not all can be.
    summaries.sort_by_key(|summary| !summary.is_in("running"));
    summaries.truncate(MOST_SHOWN);
    let looks = stream::iter(summaries).map(|summary| of(&engine, docker, summary)).buffer_unordered(CONCURRENT);
    let mut looks = looks.filter_map(|look| async { look }).collect::<Vec<_>>().await;
    looks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(looks)
}

/// None if it is not one that the configuration selects.
async fn of(engine: &Engine<'_>, docker: &Docker, summary: Summary) -> Option<Look> {
    let (state, health) = (summary.state.clone().unwrap_or_default(), summary.health());
    let identity = Identity::of(summary);
    if !docker.wants(&identity) {
        return None;
    }
    // What cannot be read of one is missing of it alone.
    let about = engine.inspect(&identity.id).await.unwrap_or_default();
    let Inspected { restart_count, state: now, host_config } = about;
    let started = now.and_then(|now| now.started_at).and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let runs = matches!(state.as_str(), "running" | "paused" | "restarting");
    Some(Look {
        segment: docker.naming.of(&identity).unwrap_or_default(),
        name: printable(&identity.name, 200),
        image: printable(&identity.image, 200),
        state: printable(&state, 40),
        health,
        started: started.map(jiff::Timestamp::as_second).filter(|at| runs && *at > 0),
        restarts: restart_count.and_then(|count| u64::try_from(count).ok()),
        memory_limit_bytes: host_config.and_then(|config| config.memory).filter(|bytes| *bytes > 0),
    })
}
